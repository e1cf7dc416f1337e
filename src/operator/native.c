/*-------------------------------------------------------------------------
 *
 * native.c
 *	  The common aggregates over the common types, without PostgreSQL's
 *	  function manager: each is a few words in the fixed part of an entry.
 *
 * Results are those of PostgreSQL's own aggregates, value and type: sum and avg
 * of bigint count in 128 bits and end as numeric, sums of floats overflow where
 * float8pl() does, NaN is the greatest float.  Errors are thrown before
 * anything is changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "common/int128.h"
#include "nodes/nodeFuncs.h"
#include "operator/operator.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

typedef enum Kernel
{
	KERNEL_COUNT,				/* of rows, or of values that are not null */
	KERNEL_SUM_INT2,			/* to bigint */
	KERNEL_SUM_INT4,
	KERNEL_SUM_INT8,			/* to numeric */
	KERNEL_AVG_INT2,			/* to numeric */
	KERNEL_AVG_INT4,
	KERNEL_AVG_INT8,
	KERNEL_SUM_FLOAT4,
	KERNEL_SUM_FLOAT8,
	KERNEL_AVG_FLOAT4,
	KERNEL_AVG_FLOAT8,
	KERNEL_MIN_INT2,
	KERNEL_MIN_INT4,
	KERNEL_MIN_INT8,
	KERNEL_MIN_FLOAT4,
	KERNEL_MIN_FLOAT8,
	KERNEL_MAX_INT2,
	KERNEL_MAX_INT4,
	KERNEL_MAX_INT8,
	KERNEL_MAX_FLOAT4,
	KERNEL_MAX_FLOAT8
} Kernel;

/* Each begins with the number of values, 0: no value yet. */
typedef struct SumInt
{
	int64		n;
	int64		sum;
} SumInt;

typedef struct SumWide
{
	int64		n;
	uint64		low;
	int64		high;
} SumWide;

typedef struct SumFloat
{
	int64		n;
	float8		sum;
} SumFloat;

typedef struct Extreme
{
	int64		n;				/* 0 or 1 */
	Datum		value;
} Extreme;

/* dates are int4, times and timestamps int8 */
static const struct
{
	Oid			function;
	Kernel		kernel;
	uint32		size;
}			kernels[] =
{
	{F_COUNT_, KERNEL_COUNT, sizeof(int64)},
	{F_COUNT_ANY, KERNEL_COUNT, sizeof(int64)},
	{F_SUM_INT2, KERNEL_SUM_INT2, sizeof(SumInt)},
	{F_SUM_INT4, KERNEL_SUM_INT4, sizeof(SumInt)},
	{F_SUM_INT8, KERNEL_SUM_INT8, sizeof(SumWide)},
	{F_AVG_INT2, KERNEL_AVG_INT2, sizeof(SumInt)},
	{F_AVG_INT4, KERNEL_AVG_INT4, sizeof(SumInt)},
	{F_AVG_INT8, KERNEL_AVG_INT8, sizeof(SumWide)},
	{F_SUM_FLOAT4, KERNEL_SUM_FLOAT4, sizeof(SumFloat)},
	{F_SUM_FLOAT8, KERNEL_SUM_FLOAT8, sizeof(SumFloat)},
	{F_AVG_FLOAT4, KERNEL_AVG_FLOAT4, sizeof(SumFloat)},
	{F_AVG_FLOAT8, KERNEL_AVG_FLOAT8, sizeof(SumFloat)},
	{F_MIN_INT2, KERNEL_MIN_INT2, sizeof(Extreme)},
	{F_MIN_INT4, KERNEL_MIN_INT4, sizeof(Extreme)},
	{F_MIN_INT8, KERNEL_MIN_INT8, sizeof(Extreme)},
	{F_MIN_FLOAT4, KERNEL_MIN_FLOAT4, sizeof(Extreme)},
	{F_MIN_FLOAT8, KERNEL_MIN_FLOAT8, sizeof(Extreme)},
	{F_MIN_DATE, KERNEL_MIN_INT4, sizeof(Extreme)},
	{F_MIN_TIME, KERNEL_MIN_INT8, sizeof(Extreme)},
	{F_MIN_TIMESTAMP, KERNEL_MIN_INT8, sizeof(Extreme)},
	{F_MIN_TIMESTAMPTZ, KERNEL_MIN_INT8, sizeof(Extreme)},
	{F_MAX_INT2, KERNEL_MAX_INT2, sizeof(Extreme)},
	{F_MAX_INT4, KERNEL_MAX_INT4, sizeof(Extreme)},
	{F_MAX_INT8, KERNEL_MAX_INT8, sizeof(Extreme)},
	{F_MAX_FLOAT4, KERNEL_MAX_FLOAT4, sizeof(Extreme)},
	{F_MAX_FLOAT8, KERNEL_MAX_FLOAT8, sizeof(Extreme)},
	{F_MAX_DATE, KERNEL_MAX_INT4, sizeof(Extreme)},
	{F_MAX_TIME, KERNEL_MAX_INT8, sizeof(Extreme)},
	{F_MAX_TIMESTAMP, KERNEL_MAX_INT8, sizeof(Extreme)},
	{F_MAX_TIMESTAMPTZ, KERNEL_MAX_INT8, sizeof(Extreme)},
};

/* Can the values that have been seen be kept as keys? */
static bool
choose_distinct(AggregateSpec *agg, Kernel kernel)
{
	Aggref	   *aggref = agg->aggref;
	Node	   *arg;

	if (list_length(aggref->args) != 1 || list_length(aggref->aggdistinct) != 1)
		return false;
	arg = (Node *) linitial_node(TargetEntry, aggref->args)->expr;
	if (state_key_column(&agg->distinct_key, exprType(arg), exprTypmod(arg), exprCollation(arg),
						 linitial_node(SortGroupClause, aggref->aggdistinct)->eqop) != NULL)
		return false;
	/* sums of floats depend on the order; others than count need the value again */
	if (kernel != KERNEL_COUNT && (!agg->distinct_key.exact || kernel >= KERNEL_SUM_FLOAT4))
		return false;
	agg->distinct = true;
	return true;
}

/* DISTINCT changes nothing for min and max; ORDER BY nothing for any of them. */
bool
native_choose(AggregateSpec *agg)
{
	int			i;

	for (i = 0; i < (int) lengthof(kernels); i++)
	{
		if (kernels[i].function != agg->aggref->aggfnoid)
			continue;
		if (agg->aggref->aggdistinct != NIL && kernels[i].kernel < KERNEL_MIN_INT2 &&
			!choose_distinct(agg, kernels[i].kernel))
			return false;
		agg->kind = AGGREGATE_NATIVE;
		agg->kernel = kernels[i].kernel;
		agg->size = kernels[i].size;
		return true;
	}
	return false;
}

/* ---- update ---- */

static inline void
add_int(SumInt *s, int64 value)
{
	int64		sum;

	if (unlikely(pg_add_s64_overflow(s->sum, value, &sum)))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("bigint out of range")));
	s->sum = sum;
	s->n++;
}

static inline void
add_wide(SumWide *s, int64 value)
{
	uint64		low = s->low + (uint64) value;

	s->high += (value < 0 ? -1 : 0) + (low < (uint64) value);
	s->low = low;
	s->n++;
}

/* float8pl() and float8_accum() throw where finite values have no finite sum */
static inline void
add_float(SumFloat *s, float8 value)
{
	float8		sum = s->n == 0 ? value : s->sum + value;

	if (unlikely(isinf(sum)) && !isinf(s->sum) && !isinf(value))
		float_overflow_error();
	s->sum = sum;
	s->n++;
}

/* the sum of float4 is rounded at each step */
static inline void
add_float4(SumFloat *s, float4 value)
{
	float4		was = (float4) s->sum;
	float4		sum = s->n == 0 ? value : was + value;

	if (unlikely(isinf(sum)) && !isinf(was) && !isinf(value))
		float_overflow_error();
	s->sum = sum;
	s->n++;
}

#define TAKE_EXTREME(wins) \
	do { \
		Extreme    *e = (Extreme *) state; \
		if (e->n == 0 || (wins)) \
			e->value = value; \
		e->n = 1; \
	} while (0)

void
native_update(const AggregateSpec *agg, char *state, Datum value)
{
	switch ((Kernel) agg->kernel)
	{
		case KERNEL_COUNT:
			(*(int64 *) state)++;
			break;
		case KERNEL_SUM_INT2:
		case KERNEL_AVG_INT2:
			add_int((SumInt *) state, DatumGetInt16(value));
			break;
		case KERNEL_SUM_INT4:
		case KERNEL_AVG_INT4:
			add_int((SumInt *) state, DatumGetInt32(value));
			break;
		case KERNEL_SUM_INT8:
		case KERNEL_AVG_INT8:
			add_wide((SumWide *) state, DatumGetInt64(value));
			break;
		case KERNEL_SUM_FLOAT4:
			add_float4((SumFloat *) state, DatumGetFloat4(value));
			break;
		case KERNEL_SUM_FLOAT8:
		case KERNEL_AVG_FLOAT8:
			add_float((SumFloat *) state, DatumGetFloat8(value));
			break;
		case KERNEL_AVG_FLOAT4:
			add_float((SumFloat *) state, (float8) DatumGetFloat4(value));
			break;
		case KERNEL_MIN_INT2:
			TAKE_EXTREME(DatumGetInt16(value) < DatumGetInt16(e->value));
			break;
		case KERNEL_MIN_INT4:
			TAKE_EXTREME(DatumGetInt32(value) < DatumGetInt32(e->value));
			break;
		case KERNEL_MIN_INT8:
			TAKE_EXTREME(DatumGetInt64(value) < DatumGetInt64(e->value));
			break;
		case KERNEL_MIN_FLOAT4:
			TAKE_EXTREME(float4_lt(DatumGetFloat4(value), DatumGetFloat4(e->value)));
			break;
		case KERNEL_MIN_FLOAT8:
			TAKE_EXTREME(float8_lt(DatumGetFloat8(value), DatumGetFloat8(e->value)));
			break;
		case KERNEL_MAX_INT2:
			TAKE_EXTREME(DatumGetInt16(value) > DatumGetInt16(e->value));
			break;
		case KERNEL_MAX_INT4:
			TAKE_EXTREME(DatumGetInt32(value) > DatumGetInt32(e->value));
			break;
		case KERNEL_MAX_INT8:
			TAKE_EXTREME(DatumGetInt64(value) > DatumGetInt64(e->value));
			break;
		case KERNEL_MAX_FLOAT4:
			TAKE_EXTREME(float4_gt(DatumGetFloat4(value), DatumGetFloat4(e->value)));
			break;
		case KERNEL_MAX_FLOAT8:
			TAKE_EXTREME(float8_gt(DatumGetFloat8(value), DatumGetFloat8(e->value)));
			break;
	}
}

/* ---- taking out ---- */

bool
native_takes_out(const AggregateSpec *agg)
{
	/* sums of floats would keep what was rounded away */
	return agg->kernel < KERNEL_SUM_FLOAT4 || agg->kernel > KERNEL_AVG_FLOAT8;
}

/* A value that is in the state leaves it; false: the state must be made anew from those that stay. */
bool
native_take_out(const AggregateSpec *agg, char *state, Datum value)
{
	switch ((Kernel) agg->kernel)
	{
		case KERNEL_COUNT:
			(*(int64 *) state)--;
			return true;
		case KERNEL_SUM_INT2:
		case KERNEL_AVG_INT2:
			((SumInt *) state)->sum -= DatumGetInt16(value);
			((SumInt *) state)->n--;
			return true;
		case KERNEL_SUM_INT4:
		case KERNEL_AVG_INT4:
			((SumInt *) state)->sum -= DatumGetInt32(value);
			((SumInt *) state)->n--;
			return true;
		case KERNEL_SUM_INT8:
		case KERNEL_AVG_INT8:
			{
				SumWide    *s = (SumWide *) state;
				int64		v = DatumGetInt64(value);
				uint64		low = s->low - (uint64) v;

				s->high -= (v < 0 ? -1 : 0) + (s->low < (uint64) v);
				s->low = low;
				s->n--;
				return true;
			}
		case KERNEL_MIN_INT2:
		case KERNEL_MAX_INT2:
			return DatumGetInt16(value) != DatumGetInt16(((Extreme *) state)->value);
		case KERNEL_MIN_INT4:
		case KERNEL_MAX_INT4:
			return DatumGetInt32(value) != DatumGetInt32(((Extreme *) state)->value);
		case KERNEL_MIN_INT8:
		case KERNEL_MAX_INT8:
			return DatumGetInt64(value) != DatumGetInt64(((Extreme *) state)->value);
		case KERNEL_MIN_FLOAT4:
		case KERNEL_MAX_FLOAT4:
			return !float4_eq(DatumGetFloat4(value), DatumGetFloat4(((Extreme *) state)->value));
		case KERNEL_MIN_FLOAT8:
		case KERNEL_MAX_FLOAT8:
			return !float8_eq(DatumGetFloat8(value), DatumGetFloat8(((Extreme *) state)->value));
		default:
			return false;
	}
}

/* ---- combine ---- */

void
native_combine(const AggregateSpec *agg, char *state, const char *other)
{
	int64		n = *(const int64 *) other;

	if (n == 0)
		return;
	switch ((Kernel) agg->kernel)
	{
		case KERNEL_COUNT:
			*(int64 *) state += n;
			break;
		case KERNEL_SUM_INT2:
		case KERNEL_SUM_INT4:
		case KERNEL_AVG_INT2:
		case KERNEL_AVG_INT4:
			add_int((SumInt *) state, ((const SumInt *) other)->sum);
			((SumInt *) state)->n += n - 1;
			break;
		case KERNEL_SUM_INT8:
		case KERNEL_AVG_INT8:
			{
				SumWide    *s = (SumWide *) state;
				const SumWide *o = (const SumWide *) other;

				s->low += o->low;
				s->high += o->high + (s->low < o->low);
				s->n += n;
				break;
			}
		case KERNEL_SUM_FLOAT4:
			add_float4((SumFloat *) state, (float4) ((const SumFloat *) other)->sum);
			((SumFloat *) state)->n += n - 1;
			break;
		case KERNEL_SUM_FLOAT8:
		case KERNEL_AVG_FLOAT4:
		case KERNEL_AVG_FLOAT8:
			add_float((SumFloat *) state, ((const SumFloat *) other)->sum);
			((SumFloat *) state)->n += n - 1;
			break;
		default:
			native_update(agg, state, ((const Extreme *) other)->value);
			break;
	}
}

/* ---- final ---- */

static inline bool
is_narrow(const SumWide *s)
{
	return (s->high == 0 && (int64) s->low >= 0) || (s->high == -1 && (int64) s->low < 0);
}

static Numeric
wide_to_numeric(const SumWide *s)
{
	Numeric		high;
	Numeric		low;

	if (is_narrow(s))
		return int64_to_numeric((int64) s->low);
	/* high * 2^64 + low, low without a sign: in halves of 32 bits */
	high = int64_to_numeric(s->high);
	low = numeric_add_opt_error(numeric_mul_opt_error(int64_to_numeric((int64) (s->low >> 32)),
													  int64_to_numeric(INT64CONST(1) << 32), NULL),
								int64_to_numeric((int64) (s->low & 0xffffffff)), NULL);
	high = numeric_mul_opt_error(numeric_mul_opt_error(high, int64_to_numeric(INT64CONST(1) << 32), NULL),
								 int64_to_numeric(INT64CONST(1) << 32), NULL);
	return numeric_add_opt_error(high, low, NULL);
}

Datum
native_final(const AggregateSpec *agg, const char *state, bool *isnull)
{
	int64		n = *(const int64 *) state;

	*isnull = n == 0 && agg->kernel != KERNEL_COUNT;
	if (*isnull)
		return (Datum) 0;
	switch ((Kernel) agg->kernel)
	{
		case KERNEL_COUNT:
			return Int64GetDatum(n);
		case KERNEL_SUM_INT2:
		case KERNEL_SUM_INT4:
			return Int64GetDatum(((const SumInt *) state)->sum);
		case KERNEL_AVG_INT2:
		case KERNEL_AVG_INT4:
			return numeric_average(((const SumInt *) state)->sum, n);
		case KERNEL_SUM_INT8:
			return NumericGetDatum(wide_to_numeric((const SumWide *) state));
		case KERNEL_AVG_INT8:
			if (is_narrow((const SumWide *) state))
				return numeric_average((int64) ((const SumWide *) state)->low, n);
			return DirectFunctionCall2(numeric_div, NumericGetDatum(wide_to_numeric((const SumWide *) state)),
									   NumericGetDatum(int64_to_numeric(n)));
		case KERNEL_SUM_FLOAT4:
			return Float4GetDatum((float4) ((const SumFloat *) state)->sum);
		case KERNEL_SUM_FLOAT8:
			return Float8GetDatum(((const SumFloat *) state)->sum);
		case KERNEL_AVG_FLOAT4:
		case KERNEL_AVG_FLOAT8:
			return Float8GetDatum(((const SumFloat *) state)->sum / (float8) n);
		default:
			return ((const Extreme *) state)->value;
	}
}

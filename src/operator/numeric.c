/*-------------------------------------------------------------------------
 *
 * numeric.c
 *	  Numbers as PostgreSQL's numeric gives them, bit by bit, in a fraction of the time:
 *	  averages of integers, and what conditions compare with them ("amount > 10 *
 *	  mean"), which window functions ask for with each row.
 *
 * Small numbers only.  All others, and whatever is not a plain finite one, go to
 * PostgreSQL's own functions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/numeric_format.h"
#include "executor/execExpr.h"
#include "fmgr.h"
#include "operator/operator.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* digits to the base 10000 of a factor; a product has at most twice as many */
#define FACTOR_DIGITS	8

/* ---- how they are made ---- */

/* Of digits[0..n), the first and the last of them not 0, or of none. */
static Numeric
make_short(bool negative, int dscale, int weight, const int16 *digits, int n)
{
	Size		size = VARHDRSZ + sizeof(uint16) + sizeof(int16) * n;
	char	   *result = palloc(size);
	uint16		header = numeric_short_header(negative, dscale, weight);

	SET_VARSIZE(result, size);
	memcpy(result + VARHDRSZ, &header, sizeof(header));
	memcpy(result + VARHDRSZ + sizeof(header), digits, sizeof(int16) * n);
	return (Numeric) result;
}

/* ---- averages ---- */

/* Weight and value of the first digit to the base 10000. */
static inline int
first_digit(uint64 value, uint64 *digit)
{
	int			weight = 0;

	for (; value >= NUM_BASE; value /= NUM_BASE)
		weight++;
	*digit = value;
	return weight;
}

/*
 * sum / n bit by bit as numeric_div() gives it, in a fraction of its time: window
 * functions ask for one with each row.  The scale is chosen as select_div_scale() of
 * PostgreSQL does; where it is 16 at most (averages from 1 on) all fits into integers.
 * NULL: it does not.
 */
static Numeric
quick_average(int64 sum, int64 n)
{
	static const uint64 powers[] = {1, UINT64CONST(10000), UINT64CONST(100000000), UINT64CONST(1000000000000), UINT64CONST(10000000000000000)};
	uint64		a = sum < 0 ? -(uint64) sum : (uint64) sum;
	uint64		b = (uint64) n;
	uint64		first_a;
	uint64		first_b;
	int			quotient_weight = first_digit(a, &first_a) - first_digit(b, &first_b);
	int			groups;
	uint64		whole;
	uint64		fraction;
	uint64		rest;
	uint128		scaled;
	int16		digits[10];		/* 4 behind the point, at most 5 before it and 1 for a carry */
	int			from = lengthof(digits);
	int			to = lengthof(digits);
	int			weight = -1;
	int			i;

	if (first_a <= first_b)
		quotient_weight--;
	if (a == 0 || quotient_weight < 0)
		return NULL;
	groups = Max((int) lengthof(powers) - 1 - quotient_weight, 0);
	whole = a / b;
	scaled = (uint128) (a % b) * powers[groups];
	fraction = (uint64) (scaled / b);
	rest = (uint64) (scaled % b);
	/* half away from zero */
	if (rest >= b - rest)
		fraction++;
	if (fraction == powers[groups])
	{
		fraction = 0;
		whole++;
	}
	for (i = 0; i < groups; i++, fraction /= NUM_BASE)
		digits[--from] = (int16) (fraction % NUM_BASE);
	for (; whole > 0; whole /= NUM_BASE, weight++)
		digits[--from] = (int16) (whole % NUM_BASE);
	while (to > from && digits[to - 1] == 0)
		to--;
	return make_short(sum < 0, groups * NUM_BASE_DIGITS, weight, digits + from, to - from);
}

Datum
numeric_average(int64 sum, int64 n)
{
	Numeric		quick = quick_average(sum, n);

	if (quick != NULL)
		return NumericGetDatum(quick);
	return DirectFunctionCall2(numeric_div, NumericGetDatum(int64_to_numeric(sum)), NumericGetDatum(int64_to_numeric(n)));
}

/* ---- in conditions ---- */

/* int8_numeric() */
static Datum
quick_from_int8(PG_FUNCTION_ARGS)
{
	int64		value = PG_GETARG_INT64(0);
	uint64		rest = value < 0 ? -(uint64) value : (uint64) value;
	int16		digits[5];
	int			from = lengthof(digits);
	int			to = lengthof(digits);
	int			weight = -1;

	for (; rest > 0; rest /= NUM_BASE, weight++)
		digits[--from] = (int16) (rest % NUM_BASE);
	while (to > from && digits[to - 1] == 0)
		to--;
	return NumericGetDatum(make_short(value < 0, 0, Max(weight, 0), digits + from, to - from));
}

/* A finite one with a short header and few digits, but not 0. */
typedef struct Factor
{
	bool		negative;
	int			dscale;
	int			weight;
	int			n;
	int16		digits[FACTOR_DIGITS];
} Factor;

static inline bool
take_factor(Datum datum, Factor *factor)
{
	const char *p = DatumGetPointer(datum);
	uint16		header;
	Size		size;

	if (!VARATT_IS_4B_U(p))
		return false;
	size = VARSIZE_4B(p) - VARHDRSZ;
	if (size <= sizeof(header) || size > sizeof(header) + sizeof(factor->digits))
		return false;
	memcpy(&header, p + VARHDRSZ, sizeof(header));
	if ((header & NUM_NAN) != NUM_SHORT)
		return false;
	factor->negative = (header & NUM_SHORT_NEGATIVE) != 0;
	factor->dscale = (header >> NUM_SHORT_DSCALE_SHIFT) & NUM_SHORT_DSCALE_MAX;
	factor->weight = (int) (header & NUM_SHORT_WEIGHT_MASK) - (header & NUM_SHORT_WEIGHT_SIGN ? NUM_SHORT_WEIGHT_MAX + 1 : 0);
	factor->n = (int) ((size - sizeof(header)) / sizeof(int16));
	memcpy(factor->digits, p + VARHDRSZ + sizeof(header), size - sizeof(header));
	return true;
}

/* numeric_mul(): a product is exact, and has the digits behind the point of both factors. */
static Datum
quick_mul(PG_FUNCTION_ARGS)
{
	Factor		a;
	Factor		b;
	uint64		sums[2 * FACTOR_DIGITS] = {0};
	int16		digits[2 * FACTOR_DIGITS];
	uint64		carry = 0;
	int			n;
	int			from = 0;
	int			weight;
	int			i;
	int			k;

	if (!take_factor(PG_GETARG_DATUM(0), &a) || !take_factor(PG_GETARG_DATUM(1), &b))
		return numeric_mul(fcinfo);
	weight = a.weight + b.weight + 1;
	if (a.dscale + b.dscale > NUM_SHORT_DSCALE_MAX || weight > NUM_SHORT_WEIGHT_MAX || weight - 1 < NUM_SHORT_WEIGHT_MIN)
		return numeric_mul(fcinfo);
	for (i = 0; i < a.n; i++)
		for (k = 0; k < b.n; k++)
			sums[i + k + 1] += (uint64) a.digits[i] * (uint64) b.digits[k];
	n = a.n + b.n;
	for (i = n - 1; i >= 0; i--)
	{
		carry += sums[i];
		digits[i] = (int16) (carry % NUM_BASE);
		carry /= NUM_BASE;
	}
	while (n > 0 && digits[n - 1] == 0)
		n--;
	if (from < n && digits[from] == 0)
	{
		from++;
		weight--;
	}
	return NumericGetDatum(make_short(a.negative != b.negative, a.dscale + b.dscale, weight, digits + from, n - from));
}

void
numeric_hasten(ExprState *condition)
{
	int			i;

	for (i = 0; i < condition->steps_len; i++)
	{
		ExprEvalStep *step = &condition->steps[i];

		switch (ExecEvalStepOp(condition, step))
		{
			case EEOP_FUNCEXPR:
			case EEOP_FUNCEXPR_STRICT:
				/* who counts calls of functions has steps of its own */
				if (step->d.func.finfo->fn_oid == F_NUMERIC_INT8)
					step->d.func.fn_addr = quick_from_int8;
				else if (step->d.func.finfo->fn_oid == F_NUMERIC_MUL)
					step->d.func.fn_addr = quick_mul;
				break;
			default:
				break;
		}
	}
}

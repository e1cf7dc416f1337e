/*-------------------------------------------------------------------------
 *
 * key.c
 *	  Group keys as bytes that are equal exactly where PostgreSQL says the
 *	  values are.
 *
 * Types whose btree operator class is "equalimage" (equal values have equal
 * bytes: integers, text, uuid, timestamps, enums ...) are taken as they are.
 * For some others equal values are made to have equal bytes: -0 becomes 0, NaN
 * is one NaN, a numeric loses its trailing zeros, an interval becomes the
 * number that intervals are compared by, character(n) loses its blanks.  The
 * value itself cannot be made from these again, so the operator keeps the
 * first one that it saw, as PostgreSQL's own aggregation shows it.
 * Everything else is refused.
 *
 * Layout: where a column is null (STATE_KEY_NULLS), a bitmap of null columns;
 * then the columns that are not null in order, fixed lengths as they are,
 * others behind a uint16 length.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/nbtree.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "state/state.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

/* Do equal values of the type have equal bytes? */
static bool
is_equalimage(TypeCacheEntry *cache, Oid collation)
{
	Oid			proc = get_opfamily_proc(cache->btree_opf, cache->btree_opintype, cache->btree_opintype, BTEQUALIMAGE_PROC);

	return OidIsValid(proc) &&
		DatumGetBool(OidFunctionCall1Coll(proc, collation, ObjectIdGetDatum(cache->btree_opintype)));
}

const char *
state_key_column(StateKeyColumn *column, Oid type, int32 typmod, Oid collation, Oid eqop)
{
	Oid			base = getBaseType(type);
	TypeCacheEntry *cache = lookup_type_cache(base, TYPECACHE_EQ_OPR | TYPECACHE_BTREE_OPFAMILY);

	memset(column, 0, sizeof(*column));
	column->type = type;
	column->typmod = typmod;
	column->collation = collation;
	get_typlenbyvalalign(base, &column->len, &column->byval, &column->align);

	if (!OidIsValid(cache->btree_opf) || (OidIsValid(eqop) && get_op_opfamily_strategy(eqop, cache->btree_opf) != BTEqualStrategyNumber))
		return psprintf("type %s has no default equality that keys can be told apart by", format_type_be(type));
	switch (base)
	{
		case FLOAT4OID:
			column->kind = STATE_KEY_FLOAT4;
			return NULL;
		case FLOAT8OID:
			column->kind = STATE_KEY_FLOAT8;
			return NULL;
		case NUMERICOID:
			column->kind = STATE_KEY_NUMERIC;
			return NULL;
		case INTERVALOID:
			column->kind = STATE_KEY_INTERVAL;
			return NULL;
		case BPCHAROID:
			if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
				return psprintf("collation \"%s\" is not deterministic", get_collation_name(collation));
			column->kind = STATE_KEY_BPCHAR;
			return NULL;
		default:
			break;
	}
	if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
		return psprintf("collation \"%s\" is not deterministic", get_collation_name(collation));
	if (!is_equalimage(cache, collation) || column->len == -2)
		return psprintf("values of type %s that are equal can look different", format_type_be(type));
	column->kind = column->len == -1 ? STATE_KEY_VARLENA : STATE_KEY_FIXED;
	column->exact = true;
	return NULL;
}

/* ---- encode ---- */

static void
put_bytes(StringInfo into, const char *bytes, Size len)
{
	uint16		n = (uint16) len;

	if (len > STATE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value to group by is too long"),
				 errdetail("It has %zu bytes; %d are allowed.", len, STATE_KEY_MAX),
				 errhint("Group by md5(value).")));
	appendBinaryStringInfo(into, (const char *) &n, sizeof(n));
	appendBinaryStringInfo(into, bytes, (int) len);
}

static inline void
store_by_value(char *to, Datum value, int len)
{
	switch (len)
	{
		case 8:
			memcpy(to, &value, 8);
			break;
		case 4:
			{
				int32		v = DatumGetInt32(value);

				memcpy(to, &v, 4);
				break;
			}
		case 2:
			{
				int16		v = DatumGetInt16(value);

				memcpy(to, &v, 2);
				break;
			}
		default:
			*to = DatumGetChar(value);
			break;
	}
}

static void
put_fixed(StringInfo into, Datum value, int len, bool byval)
{
	if (!byval)
		appendBinaryStringInfo(into, DatumGetPointer(value), len);
	else
	{
		char		bytes[sizeof(Datum)];

		store_by_value(bytes, value, len);
		appendBinaryStringInfo(into, bytes, len);
	}
}

/* as interval_cmp_value() of PostgreSQL */
static void
put_interval(StringInfo into, const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	int128		span = (int128) interval->time + (int128) days * USECS_PER_DAY;

	appendBinaryStringInfo(into, (const char *) &span, sizeof(span));
}

static void
put_column(const StateKeyColumn *column, Datum value, StringInfo into)
{
	switch (column->kind)
	{
		case STATE_KEY_FIXED:
			put_fixed(into, value, column->len, column->byval);
			break;
		case STATE_KEY_VARLENA:
			{
				struct varlena *v = PG_DETOAST_DATUM_PACKED(value);

				put_bytes(into, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
				break;
			}
		case STATE_KEY_FLOAT4:
			{
				float4		f = DatumGetFloat4(value);

				f = isnan(f) ? get_float4_nan() : f == 0 ? 0 : f;
				appendBinaryStringInfo(into, (const char *) &f, sizeof(f));
				break;
			}
		case STATE_KEY_FLOAT8:
			{
				float8		f = DatumGetFloat8(value);

				f = isnan(f) ? get_float8_nan() : f == 0 ? 0 : f;
				appendBinaryStringInfo(into, (const char *) &f, sizeof(f));
				break;
			}
		case STATE_KEY_NUMERIC:
			{
				/* without trailing zeros a number has one form */
				struct varlena *v = (struct varlena *) DatumGetPointer(DirectFunctionCall1(numeric_trim_scale, value));

				put_bytes(into, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
				break;
			}
		case STATE_KEY_INTERVAL:
			put_interval(into, DatumGetIntervalP(value));
			break;
		case STATE_KEY_BPCHAR:
			{
				struct varlena *v = PG_DETOAST_DATUM_PACKED(value);
				const char *bytes = VARDATA_ANY(v);

				put_bytes(into, bytes, bpchartruelen(unconstify(char *, bytes), VARSIZE_ANY_EXHDR(v)));
				break;
			}
	}
}

uint16
state_key_encode(const StateKeyColumn *columns, int n, const Datum *values, const bool *isnull, StringInfo into)
{
	int			begin = into->len;
	int			nulls = 0;
	int			i;
	uint16		meta = 0;

	for (i = 0; i < n; i++)
		nulls += isnull[i];
	if (unlikely(nulls > 0))
	{
		int			bytes = (n + 7) / 8;

		meta = STATE_KEY_NULLS;
		enlargeStringInfo(into, bytes);
		memset(into->data + into->len, 0, bytes);
		for (i = 0; i < n; i++)
			if (isnull[i])
				into->data[into->len + i / 8] |= 1 << (i % 8);
		into->len += bytes;
	}
	for (i = 0; i < n; i++)
		if (!isnull[i])
			put_column(&columns[i], values[i], into);
	if (into->len - begin > STATE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the values to group by are too long"),
				 errdetail("They have %d bytes; %d are allowed.", into->len - begin, STATE_KEY_MAX),
				 errhint("Group by md5(value).")));
	return meta | (uint16) (into->len - begin);
}

/* ---- decode ---- */

static inline const char *
get_fixed(const char *p, Datum *value, int len, bool byval)
{
	if (!byval)
	{
		char	   *copy = palloc(len);

		memcpy(copy, p, len);
		*value = PointerGetDatum(copy);
	}
	else
	{
		int64		v8;
		int32		v4;
		int16		v2;

		switch (len)
		{
			case 8:
				memcpy(&v8, p, 8);
				*value = Int64GetDatum(v8);
				break;
			case 4:
				memcpy(&v4, p, 4);
				*value = Int32GetDatum(v4);
				break;
			case 2:
				memcpy(&v2, p, 2);
				*value = Int16GetDatum(v2);
				break;
			default:
				*value = CharGetDatum(*p);
				break;
		}
	}
	return p + len;
}

void
state_key_decode(const StateKeyColumn *columns, int n, const char *key, uint16 meta, Datum *values, bool *isnull)
{
	const char *nulls = NULL;
	const char *p = key;
	uint16		len;
	int			i;

	if (meta & STATE_KEY_NULLS)
	{
		nulls = key;
		p += (n + 7) / 8;
	}
	for (i = 0; i < n; i++)
	{
		const StateKeyColumn *column = &columns[i];

		isnull[i] = nulls != NULL && (nulls[i / 8] & (1 << (i % 8))) != 0;
		values[i] = (Datum) 0;
		if (isnull[i])
			continue;
		switch (column->kind)
		{
			case STATE_KEY_FIXED:
				p = get_fixed(p, &values[i], column->len, column->byval);
				break;
			case STATE_KEY_FLOAT4:
				p += sizeof(float4);
				break;
			case STATE_KEY_FLOAT8:
				p += sizeof(float8);
				break;
			case STATE_KEY_INTERVAL:
				p += sizeof(int128);
				break;
			case STATE_KEY_VARLENA:
			case STATE_KEY_NUMERIC:
			case STATE_KEY_BPCHAR:
				memcpy(&len, p, sizeof(len));
				p += sizeof(len);
				if (column->kind == STATE_KEY_VARLENA)
				{
					struct varlena *v = palloc(VARHDRSZ + len);

					SET_VARSIZE(v, VARHDRSZ + len);
					memcpy(VARDATA(v), p, len);
					values[i] = PointerGetDatum(v);
				}
				p += len;
				break;
		}
	}
}

bool
state_key_fits(const StateKeyColumn *columns, int n, const char *key, uint16 meta)
{
	const char *nulls = NULL;
	Size		left = STATE_KEY_LEN(meta);
	const char *p = key;
	int			i;

	if (meta & STATE_KEY_NULLS)
	{
		nulls = key;
		if (left < (n + 7) / 8)
			return false;
		left -= (n + 7) / 8;
		p += (n + 7) / 8;
	}
	for (i = 0; i < n; i++)
	{
		Size		len = 0;
		uint16		counted;

		if (nulls != NULL && (nulls[i / 8] & (1 << (i % 8))) != 0)
			continue;
		switch (columns[i].kind)
		{
			case STATE_KEY_FIXED:
				len = columns[i].len;
				break;
			case STATE_KEY_FLOAT4:
				len = sizeof(float4);
				break;
			case STATE_KEY_FLOAT8:
				len = sizeof(float8);
				break;
			case STATE_KEY_INTERVAL:
				len = sizeof(int128);
				break;
			case STATE_KEY_VARLENA:
			case STATE_KEY_NUMERIC:
			case STATE_KEY_BPCHAR:
				if (left < sizeof(counted))
					return false;
				memcpy(&counted, p, sizeof(counted));
				len = sizeof(counted) + counted;
				break;
		}
		if (left < len)
			return false;
		left -= len;
		p += len;
	}
	return left == 0;
}

/* ---- datums as bytes ---- */

/* one byte: null or not; then fixed lengths as they are, others behind a uint32 length */
void
state_datum_write(StringInfo into, Datum value, bool isnull, int16 len, bool byval)
{
	if (byval && !isnull)
	{
		char	   *to;

		if (unlikely(into->maxlen - into->len <= (int) sizeof(Datum) + 1))
			enlargeStringInfo(into, sizeof(Datum) + 1);
		to = into->data + into->len;
		*to = 0;
		store_by_value(to + 1, value, len);
		into->len += 1 + len;
		return;
	}
	appendStringInfoCharMacro(into, isnull ? 1 : 0);
	if (isnull)
		return;
	if (len > 0)
		put_fixed(into, value, len, byval);
	else
	{
		const char *bytes;
		uint32		n;

		if (len == -1)
		{
			struct varlena *v = PG_DETOAST_DATUM(value);

			bytes = VARDATA(v);
			n = VARSIZE(v) - VARHDRSZ;
		}
		else
		{
			bytes = DatumGetCString(value);
			n = strlen(bytes) + 1;
		}
		appendBinaryStringInfo(into, (const char *) &n, sizeof(n));
		appendBinaryStringInfo(into, bytes, (int) n);
	}
}

const char *
state_datum_skip(const char *from, const char *end, int16 len)
{
	Size		left = end - from;
	uint32		n = len;

	if (left == 0 || (*from != 0 && *from != 1))
		return NULL;
	left--;
	if (*from++ != 0)
		return from;
	if (len < 0)
	{
		if (left < sizeof(n))
			return NULL;
		memcpy(&n, from, sizeof(n));
		from += sizeof(n);
		left -= sizeof(n);
	}
	if (n > left || (len == -2 && (n == 0 || from[n - 1] != '\0')))
		return NULL;
	return from + n;
}

const char *
state_datum_read(const char *from, Datum *value, bool *isnull, int16 len, bool byval, char align)
{
	*value = (Datum) 0;
	*isnull = *from++ != 0;
	if (*isnull)
		return from;
	if (len > 0)
		return get_fixed(from, value, len, byval);
	else
	{
		uint32		n;

		memcpy(&n, from, sizeof(n));
		from += sizeof(n);
		if (len == -1)
		{
			struct varlena *v = palloc(VARHDRSZ + n);

			SET_VARSIZE(v, VARHDRSZ + n);
			memcpy(VARDATA(v), from, n);
			*value = PointerGetDatum(v);
		}
		else
		{
			char	   *s = palloc(n);

			memcpy(s, from, n);
			*value = CStringGetDatum(s);
		}
		return from + n;
	}
}

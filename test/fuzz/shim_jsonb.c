/*-------------------------------------------------------------------------
 *
 * shim_jsonb.c
 *	  jsonb and numeric: built and read in the place of PostgreSQL.
 *
 * A jsonb is made as PostgreSQL makes it, from a tree of JsonbValues whose
 * strings and numbers stay where they are until the whole is written; what is
 * written is its text, the keys of an object in order and without duplicates.
 * A numeric is read by its storage format, and each rule of that format is
 * checked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "shim.h"

/* ---- numeric ---- */

#define NUM_SIGN_MASK		0xC000
#define NUM_SHORT			0x8000
#define NUM_SPECIAL			0xC000

typedef struct NumericParts
{
	uint16		special;		/* 0: a number */
	bool		negative;
	int			dscale;
	int			weight;
	int			ndigits;
	const char *digits;			/* not aligned */
} NumericParts;

static int
digit_at(const NumericParts *parts, int i)
{
	int16		digit;

	memcpy(&digit, parts->digits + i * sizeof(digit), sizeof(digit));
	return digit;
}

/* Line of the rule that is broken; 0: none. */
static int
read_numeric(const char *numeric, NumericParts *parts)
{
	Size		size = VARSIZE_4B(numeric);
	uint16		header;
	Size		used = VARHDRSZ + sizeof(header);
	int			i;

	memset(parts, 0, sizeof(*parts));
	if (size < used)
		return __LINE__;
	memcpy(&header, numeric + VARHDRSZ, sizeof(header));
	if ((header & NUM_SIGN_MASK) == NUM_SPECIAL)
	{
		if (size != used || (header != 0xC000 && header != 0xD000 && header != 0xF000))
			return __LINE__;
		parts->special = header;
		return 0;
	}
	if ((header & NUM_SIGN_MASK) == NUM_SHORT)
	{
		parts->negative = (header & 0x2000) != 0;
		parts->dscale = (header >> 7) & 0x3f;
		parts->weight = (header & 0x40) != 0 ? (int) (header & 0x3f) - 64 : (int) (header & 0x3f);
	}
	else
	{
		int16		weight;

		used += sizeof(weight);
		if (size < used)
			return __LINE__;
		memcpy(&weight, numeric + VARHDRSZ + sizeof(header), sizeof(weight));
		parts->negative = (header & NUM_SIGN_MASK) == 0x4000;
		parts->dscale = header & 0x3fff;
		parts->weight = weight;
		/* the long form only where the short one has no room */
		if (parts->dscale <= 63 && weight >= -64 && weight <= 63)
			return __LINE__;
	}
	if ((size - used) % sizeof(int16) != 0)
		return __LINE__;
	parts->ndigits = (int) ((size - used) / sizeof(int16));
	parts->digits = numeric + used;
	for (i = 0; i < parts->ndigits; i++)
	{
		if (digit_at(parts, i) < 0 || digit_at(parts, i) > 9999)
			return __LINE__;
	}
	if (parts->ndigits == 0)
		return parts->negative || parts->weight != 0 ? __LINE__ : 0;
	/* no zeros at either end, no digits behind the scale */
	if (digit_at(parts, 0) == 0 || digit_at(parts, parts->ndigits - 1) == 0)
		return __LINE__;
	if ((parts->ndigits - 1 - parts->weight) * 4 - parts->dscale >= 4)
		return __LINE__;
	i = (parts->ndigits - 1 - parts->weight) * 4 - parts->dscale;
	if (i > 0)
	{
		static const int powers[] = {1, 10, 100, 1000};

		if (digit_at(parts, parts->ndigits - 1) % powers[i] != 0)
			return __LINE__;
	}
	return 0;
}

int
shim_check_numeric(const char *numeric)
{
	NumericParts parts;

	return read_numeric(numeric, &parts);
}

char *
shim_numeric_out(const char *numeric)
{
	NumericParts parts;
	char	   *result;
	char	   *out;
	int			i;
	int			k;

	if (read_numeric(numeric, &parts) != 0)
		abort();
	if (parts.special != 0)
		return pstrdup(parts.special == 0xC000 ? "NaN" : parts.special == 0xD000 ? "Infinity" : "-Infinity");
	out = result = palloc(Max(parts.weight + 1, 1) * 4 + parts.dscale + 16);
	if (parts.negative)
		*out++ = '-';
	if (parts.weight < 0)
		*out++ = '0';
	for (i = 0; i <= parts.weight; i++)
		out += pg_snprintf(out, 5, i == 0 ? "%d" : "%04d", i < parts.ndigits ? digit_at(&parts, i) : 0);
	if (parts.dscale > 0)
	{
		*out++ = '.';
		for (k = 0; k < parts.dscale; k += 4)
		{
			int			at = parts.weight + 1 + k / 4;
			char		group[5];

			pg_snprintf(group, sizeof(group), "%04d", at >= 0 && at < parts.ndigits ? digit_at(&parts, at) : 0);
			memcpy(out, group, Min(4, parts.dscale - k));
			out += Min(4, parts.dscale - k);
		}
	}
	*out = '\0';
	return result;
}

/* ---- jsonb ---- */

/* An array that moves when its length gets to a power of two: room for "n" + 1. */
static void *
grow(void *array, int n, Size size)
{
	void	   *grown;

	if ((n & (n - 1)) != 0)
		return array;
	grown = palloc0(Max(2 * n, 1) * size);
	if (n > 0)
	{
		memcpy(grown, array, n * size);
		pfree(array);
	}
	return grown;
}

static void
append_element(JsonbValue *array, const JsonbValue *value)
{
	int			n = array->val.array.nElems;

	array->val.array.elems = grow(array->val.array.elems, n, sizeof(JsonbValue));
	array->val.array.elems[n] = *value;
	array->val.array.nElems = n + 1;
}

static void
append_key(JsonbValue *object, const JsonbValue *key)
{
	int			n = object->val.object.nPairs;

	if (n >= SHIM_MAX_JSONB_PAIRS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("number of jsonb object pairs exceeds the maximum allowed")));
	object->val.object.pairs = grow(object->val.object.pairs, n, sizeof(JsonbPair));
	object->val.object.pairs[n].key = *key;
	object->val.object.pairs[n].order = n;
	object->val.object.nPairs = n + 1;
}

static void
append_value(JsonbValue *container, const JsonbValue *value)
{
	if (container->type == jbvArray)
		append_element(container, value);
	else
		container->val.object.pairs[container->val.object.nPairs - 1].value = *value;
}

JsonbValue *
pushJsonbValue(JsonbParseState **pstate, JsonbIteratorToken seq, JsonbValue *jbval)
{
	JsonbParseState *state = *pstate;
	JsonbParseState *added;

	switch (seq)
	{
		case WJB_BEGIN_ARRAY:
		case WJB_BEGIN_OBJECT:
			added = palloc0(sizeof(JsonbParseState));
			added->contVal.type = seq == WJB_BEGIN_ARRAY ? jbvArray : jbvObject;
			added->next = state;
			*pstate = added;
			return NULL;
		case WJB_KEY:
			if (state->contVal.type != jbvObject || jbval->type != jbvString)
				abort();
			append_key(&state->contVal, jbval);
			return NULL;
		case WJB_VALUE:
			if (state->contVal.type != jbvObject)
				abort();
			append_value(&state->contVal, jbval);
			return NULL;
		case WJB_ELEM:
			if (state->contVal.type != jbvArray)
				abort();
			append_value(&state->contVal, jbval);
			return NULL;
		case WJB_END_ARRAY:
		case WJB_END_OBJECT:
			if (state->contVal.type != (seq == WJB_END_ARRAY ? jbvArray : jbvObject))
				abort();
			*pstate = state->next;
			if (state->next != NULL)
				append_value(&state->next->contVal, &state->contVal);
			return &state->contVal;
		default:
			abort();
	}
}

/* keys of the same name: the last one first */
static int
compare_pairs(const void *a, const void *b)
{
	const JsonbPair *pa = a;
	const JsonbPair *pb = b;
	int			result;

	if (pa->key.val.string.len != pb->key.val.string.len)
		return pa->key.val.string.len < pb->key.val.string.len ? -1 : 1;
	result = memcmp(pa->key.val.string.val, pb->key.val.string.val, pa->key.val.string.len);
	if (result != 0)
		return result;
	return pa->order > pb->order ? -1 : 1;
}

static void
write_string(const char *s, int len, StringInfo out)
{
	char		hex[8];
	int			i;

	appendStringInfoChar(out, '"');
	for (i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		if (c == 0)
			abort();
		if (c == '"' || c == '\\')
			appendStringInfoChar(out, '\\');
		if (c < ' ')
		{
			pg_snprintf(hex, sizeof(hex), "\\u%04x", c);
			appendStringInfoString(out, hex);
		}
		else
			appendStringInfoChar(out, c);
	}
	appendStringInfoChar(out, '"');
}

static void
write_value(JsonbValue *value, StringInfo out)
{
	int			i;

	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvString:
			write_string(value->val.string.val, value->val.string.len, out);
			break;
		case jbvNumeric:
			{
				char	   *s = shim_numeric_out((const char *) value->val.numeric);

				appendStringInfoString(out, s);
				pfree(s);
				break;
			}
		case jbvArray:
			appendStringInfoChar(out, '[');
			for (i = 0; i < value->val.array.nElems; i++)
			{
				if (i > 0)
					appendStringInfoChar(out, ',');
				write_value(&value->val.array.elems[i], out);
			}
			appendStringInfoChar(out, ']');
			break;
		case jbvObject:
			{
				JsonbPair  *pairs = value->val.object.pairs;
				bool		first = true;

				if (value->val.object.nPairs > 1)
					(qsort) (pairs, value->val.object.nPairs, sizeof(JsonbPair), compare_pairs);
				appendStringInfoChar(out, '{');
				for (i = 0; i < value->val.object.nPairs; i++)
				{
					if (i > 0 && pairs[i].key.val.string.len == pairs[i - 1].key.val.string.len &&
						memcmp(pairs[i].key.val.string.val, pairs[i - 1].key.val.string.val, pairs[i].key.val.string.len) == 0)
						continue;
					if (!first)
						appendStringInfoChar(out, ',');
					first = false;
					write_string(pairs[i].key.val.string.val, pairs[i].key.val.string.len, out);
					appendStringInfoChar(out, ':');
					write_value(&pairs[i].value, out);
				}
				appendStringInfoChar(out, '}');
				break;
			}
		default:
			abort();
	}
}

Jsonb *
JsonbValueToJsonb(JsonbValue *val)
{
	StringInfoData out;
	char	   *result;

	initStringInfo(&out);
	write_value(val, &out);
	if (out.len > SHIM_MAX_JSONB)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb object elements exceeds the maximum")));
	result = palloc(VARHDRSZ + out.len);
	SET_VARSIZE(result, VARHDRSZ + out.len);
	memcpy(VARDATA(result), out.data, out.len);
	pfree(out.data);
	return (Jsonb *) result;
}

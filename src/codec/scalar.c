/*-------------------------------------------------------------------------
 *
 * scalar.c
 *	  The text of one value to a Datum, for all formats.
 *
 * Nothing throws but the input functions of types that have no own decoder
 * (and running out of memory).  Values by reference stand in the arena.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "codec/codec_private.h"

#define EPOCH_SHIFT_US \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

struct varlena *
make_varlena(Arena *arena, const char *data, Size len)
{
	struct varlena *result = arena_alloc(arena, VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), data, len);
	return result;
}

static bool
syntax(CodecDecoder *decoder, int column, const char *text, Size len, CodecError *err)
{
	return codec_fail_value(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
							"invalid input", text, len);
}

static bool
number_failed(CodecDecoder *decoder, int column, NumberResult result,
			  const char *text, Size len, CodecError *err)
{
	switch (result)
	{
		case NUMBER_RANGE:
			return codec_fail_value(decoder, err, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, column,
									"value out of range", text, len);
		case NUMBER_FIELD:
			return codec_fail_value(decoder, err, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, column,
									"numeric field overflow", text, len);
		case NUMBER_FRACTION:
			return codec_fail_value(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
									"number is not an integer", text, len);
		default:
			return syntax(decoder, column, text, len, err);
	}
}

/* ---- text ---- */

static bool
decode_text(CodecDecoder *decoder, int column, const char *text, Size len,
			Arena *arena, Datum *value, CodecError *err)
{
	Column	   *col = &decoder->columns[column];
	int			limit = col->limit;

	if (!codec_to_server(decoder, column, &text, &len, err))
		return false;
	if (limit >= 0)
	{
		int			chars = -1;

		/* no more bytes than characters allowed: no need to count */
		if (len > limit)
		{
			Size		keep = pg_mbcharcliplen(text, len, limit);
			Size		i;

			for (i = keep; i < len; i++)
			{
				if (text[i] != ' ')
					return codec_fail_value(decoder, err, ERRCODE_STRING_DATA_RIGHT_TRUNCATION, column,
											"value too long", text, len);
			}
			if (keep < len)
				chars = limit;
			len = keep;
		}
		if (col->kind == KIND_BPCHAR)
		{
			Size		pad;
			char	   *result;

			if (chars < 0)
				chars = pg_mbstrlen_with_len(text, len);
			pad = limit - chars;
			result = arena_alloc(arena, VARHDRSZ + len + pad);
			SET_VARSIZE(result, VARHDRSZ + len + pad);
			memcpy(VARDATA(result), text, len);
			memset(VARDATA(result) + len, ' ', pad);
			*value = PointerGetDatum(result);
			return true;
		}
	}
	*value = PointerGetDatum(make_varlena(arena, text, len));
	return true;
}

/* ---- uuid ---- */

/* value of a hex digit + 1; 0: no hex digit */
static const uint8 hex_values[256] = {
	['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
	['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
	['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16
};

static inline bool
hex_byte(const char *p, int *bad, unsigned char *result)
{
	int			high = (int) hex_values[(unsigned char) p[0]] - 1;
	int			low = (int) hex_values[(unsigned char) p[1]] - 1;

	*bad |= high | low;			/* negative from the first bad digit on */
	*result = ((unsigned int) high << 4) | (low & 15);
	return *bad >= 0;
}

#ifdef __SSE2__
/* Sixteen hex digits to eight bytes; false: something else is among them. */
static inline bool
hex_16(__m128i text, unsigned char *result)
{
	__m128i		digit = _mm_sub_epi8(text, _mm_set1_epi8('0'));
	__m128i		letter = _mm_sub_epi8(_mm_or_si128(text, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
	__m128i		is_digit = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
	__m128i		is_letter = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8(5)), letter);
	__m128i		nibbles = _mm_or_si128(_mm_and_si128(digit, is_digit),
									   _mm_and_si128(_mm_add_epi8(letter, _mm_set1_epi8(10)), is_letter));
	__m128i		bytes;

	if (_mm_movemask_epi8(_mm_or_si128(is_digit, is_letter)) != 0xffff)
		return false;
	/* in each pair the first digit is the high half */
	bytes = _mm_or_si128(_mm_slli_epi16(nibbles, 4), _mm_srli_epi16(nibbles, 8));
	bytes = _mm_and_si128(bytes, _mm_set1_epi16(0xff));
	_mm_storel_epi64((__m128i *) result, _mm_packus_epi16(bytes, bytes));
	return true;
}
#endif

static bool
decode_uuid(const char *text, Size len, unsigned char *result)
{
	const char *p = text;
	const char *end = text + len;
	bool		braces = false;
	int			bad = 0;
	int			i;

	/* xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
	if (likely(len == 36 && p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-'))
	{
#ifdef __SSE2__
		uint64		first,
					last;
		uint32		second,
					third,
					fourth,
					fifth;

		memcpy(&first, p, 8);
		memcpy(&second, p + 9, 4);
		memcpy(&third, p + 14, 4);
		memcpy(&fourth, p + 19, 4);
		memcpy(&fifth, p + 24, 4);
		memcpy(&last, p + 28, 8);
		if (likely(hex_16(_mm_set_epi64x((int64) ((uint64) third << 32 | second), (int64) first), result) &&
				   hex_16(_mm_set_epi64x((int64) last, (int64) ((uint64) fifth << 32 | fourth)), result + 8)))
			return true;
#else
		static const uint8 at[UUID_LEN] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

		for (i = 0; i < UUID_LEN; i++)
			hex_byte(p + at[i], &bad, &result[i]);
		if (likely(bad >= 0))
			return true;
#endif
		bad = 0;
	}
	/* PostgreSQL's: braces, and a hyphen or none after each group of four digits */
	if (p < end && *p == '{')
	{
		braces = true;
		p++;
	}
	for (i = 0; i < UUID_LEN; i++)
	{
		if (end - p < 2 || !hex_byte(p, &bad, &result[i]))
			return false;
		p += 2;
		if (i % 2 == 1 && i < UUID_LEN - 1 && p < end && *p == '-')
			p++;
	}
	if (braces)
	{
		if (p >= end || *p != '}')
			return false;
		p++;
	}
	return p == end;
}

/* ---- bytea: hex or escape form ---- */

static bool
decode_bytea(const char *text, Size len, Arena *arena, Datum *value)
{
	char	   *result = arena_alloc(arena, VARHDRSZ + len);
	unsigned char *out = (unsigned char *) VARDATA(result);
	const char *p = text;
	const char *end = text + len;

	if (len >= 2 && p[0] == '\\' && p[1] == 'x')
	{
		p += 2;
		while (p < end)
		{
			int			bad = 0;

			if (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
			{
				p++;
				continue;
			}
			if (end - p < 2 || !hex_byte(p, &bad, out))
				return false;
			out++;
			p += 2;
		}
	}
	else
	{
		while (p < end)
		{
			if (*p != '\\')
				*out++ = *p++;
			else if (end - p >= 2 && p[1] == '\\')
			{
				*out++ = '\\';
				p += 2;
			}
			else if (end - p >= 4 && p[1] >= '0' && p[1] <= '3' &&
					 p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7')
			{
				*out++ = ((p[1] - '0') << 6) | ((p[2] - '0') << 3) | (p[3] - '0');
				p += 4;
			}
			else
				return false;
		}
	}
	SET_VARSIZE(result, (char *) out - result);
	*value = PointerGetDatum(result);
	return true;
}

/* ---- times ---- */

static bool
decode_timestamp(CodecDecoder *decoder, int column, const char *text, Size len, ValueOrigin origin,
				 Datum *value, CodecError *err)
{
	Column	   *col = &decoder->columns[column];
	Timestamp	result;

	if (origin == FROM_NUMBER)
	{
		Decimal		decimal;

		/* epoch milliseconds */
		if (!decimal_parse(text, len, &decimal))
			return syntax(decoder, column, text, len, err);
		if (decimal_to_int64(&decimal, 3, true, &result) != NUMBER_OK ||
			pg_sub_s64_overflow(result, EPOCH_SHIFT_US, &result) ||
			!IS_VALID_TIMESTAMP(result))
			return codec_fail_value(decoder, err, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, column,
									"value out of range", text, len);
	}
	else
	{
		switch (parse_timestamp(decoder, text, len, col->kind == KIND_TIMESTAMPTZ, &result))
		{
			case TIME_OK:
				break;
			case TIME_RANGE:
				return codec_fail_value(decoder, err, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, column,
										"value out of range", text, len);
			case TIME_RELATIVE:
				return codec_fail_value(decoder, err, ERRCODE_INVALID_DATETIME_FORMAT, column,
										"relative times are not accepted", text, len);
			case TIME_SYNTAX:
				return codec_fail_value(decoder, err, ERRCODE_INVALID_DATETIME_FORMAT, column,
										"invalid input", text, len);
		}
	}
	if (col->def.typmod >= 0 && col->def.typmod < MAX_TIMESTAMP_PRECISION)
	{
		bool		failed = false;

		AdjustTimestampForTypmodError(&result, col->def.typmod, &failed);
	}
	*value = TimestampGetDatum(result);
	return true;
}

static bool
decode_date(CodecDecoder *decoder, int column, const char *text, Size len, ValueOrigin origin,
			Datum *value, CodecError *err)
{
	int32		result;

	switch (origin == FROM_NUMBER ? TIME_SYNTAX : parse_date(decoder, text, len, &result))
	{
		case TIME_OK:
			break;
		case TIME_RANGE:
			return codec_fail_value(decoder, err, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE, column,
									"value out of range", text, len);
		case TIME_RELATIVE:
			return codec_fail_value(decoder, err, ERRCODE_INVALID_DATETIME_FORMAT, column,
									"relative dates are not accepted", text, len);
		default:
			return codec_fail_value(decoder, err, ERRCODE_INVALID_DATETIME_FORMAT, column,
									"invalid input", text, len);
	}
	*value = DateADTGetDatum(result);
	return true;
}

/* ---- json, jsonb from a text that has not been parsed yet (csv, raw) ---- */

static bool
decode_json(CodecDecoder *decoder, int column, const char *text, Size len,
			Arena *arena, Datum *value, CodecError *err)
{
	JsonDoc    *doc = &decoder->doc;
	uint32		token = 0;

	if (!json_doc_load(decoder, doc, text, len, column, err))
		return false;
	if (!json_check_value(doc, &token, 0) || token != doc->n)
		return json_wrong(decoder, doc, token, column, err);
	if (decoder->columns[column].kind == KIND_JSONB)
		return json_build_jsonb(decoder, column, doc, 0, arena, value, err);
	if (!codec_to_server(decoder, column, &text, &len, err))
		return false;
	*value = PointerGetDatum(make_varlena(arena, text, len));
	return true;
}

/* ---- all other types ---- */

/* A domain has a say about NULL too: throws where it does not want it. */
void
scalar_check_null(CodecDecoder *decoder, int column)
{
	Column	   *col = &decoder->columns[column];
	MemoryContext old = MemoryContextSwitchTo(decoder->tmp);

	decoder->current = column;
	(void) InputFunctionCall(&col->input, NULL, col->input_param, col->def.typmod);
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoder->tmp);
	decoder->current = -1;
}

bool
scalar_other(CodecDecoder *decoder, int column, const char *text, Size len,
			 Arena *arena, Datum *value, CodecError *err)
{
	Column	   *col = &decoder->columns[column];
	MemoryContext old;
	char	   *s;
	Datum		result;

	if (!codec_to_server(decoder, column, &text, &len, err))
		return false;
	s = scratch_reserve(decoder, &decoder->cstring, len + 1);
	memcpy(s, text, len);
	s[len] = '\0';

	decoder->current = column;
	old = MemoryContextSwitchTo(decoder->tmp);
	result = InputFunctionCall(&col->input, s, col->input_param, col->def.typmod);
	if (!col->typbyval)
	{
		Size		size;
		char	   *copy;

		if (col->typlen == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(result)))
		{
			ExpandedObjectHeader *header = DatumGetEOHP(result);

			size = EOH_get_flat_size(header);
			copy = arena_alloc(arena, size);
			EOH_flatten_into(header, copy, size);
		}
		else
		{
			size = datumGetSize(result, col->typbyval, col->typlen);
			copy = arena_alloc(arena, size);
			memcpy(copy, DatumGetPointer(result), size);
		}
		result = PointerGetDatum(copy);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoder->tmp);
	decoder->current = -1;
	*value = result;
	return true;
}

bool
scalar_decode(CodecDecoder *decoder, int column, const char *text, Size len,
			  ValueOrigin origin, Arena *arena, Datum *value, CodecError *err)
{
	Column	   *col = &decoder->columns[column];
	NumberResult number = NUMBER_SYNTAX;

	/* numbers and booleans: white space around them, as PostgreSQL allows */
	if (col->kind <= KIND_BOOL && origin == FROM_STRING)
	{
		while (len > 0 && is_space(*text))
		{
			text++;
			len--;
		}
		while (len > 0 && is_space(text[len - 1]))
			len--;
	}

	switch (col->kind)
	{
		case KIND_INT2:
		case KIND_INT4:
		case KIND_INT8:
			{
				int64		v;

				number = parse_int64(text, len, &v);
				if (unlikely(number != NUMBER_OK))
					break;
				if (col->kind == KIND_INT8)
					*value = Int64GetDatum(v);
				else if (col->kind == KIND_INT4 && v == (int32) v)
					*value = Int32GetDatum((int32) v);
				else if (col->kind == KIND_INT2 && v == (int16) v)
					*value = Int16GetDatum((int16) v);
				else
				{
					number = NUMBER_RANGE;
					break;
				}
				return true;
			}
		case KIND_FLOAT4:
			{
				float4		v;

				number = parse_float4(decoder, text, len, &v);
				if (unlikely(number != NUMBER_OK))
					break;
				*value = Float4GetDatum(v);
				return true;
			}
		case KIND_FLOAT8:
			{
				float8		v;

				number = parse_float8(decoder, text, len, &v);
				if (unlikely(number != NUMBER_OK))
					break;
				*value = Float8GetDatum(v);
				return true;
			}
		case KIND_NUMERIC:
			number = parse_numeric(decoder, text, len, col->def.typmod, arena, value);
			if (unlikely(number != NUMBER_OK))
				break;
			return true;
		case KIND_BOOL:
			{
				bool		v;

				/* it looks at the first byte whatever the length is */
				if (len == 0 || !parse_bool_with_len(text, len, &v))
					return syntax(decoder, column, text, len, err);
				*value = BoolGetDatum(v);
				return true;
			}
		case KIND_TEXT:
		case KIND_VARCHAR:
		case KIND_BPCHAR:
			return decode_text(decoder, column, text, len, arena, value, err);
		case KIND_TIMESTAMPTZ:
		case KIND_TIMESTAMP:
			return decode_timestamp(decoder, column, text, len, origin, value, err);
		case KIND_DATE:
			return decode_date(decoder, column, text, len, origin, value, err);
		case KIND_UUID:
			{
				pg_uuid_t  *uuid = arena_alloc(arena, sizeof(pg_uuid_t));

				if (!decode_uuid(text, len, uuid->data))
					return syntax(decoder, column, text, len, err);
				*value = UUIDPGetDatum(uuid);
				return true;
			}
		case KIND_BYTEA:
			if (!decode_bytea(text, len, arena, value))
				return syntax(decoder, column, text, len, err);
			return true;
		case KIND_JSON:
		case KIND_JSONB:
			return decode_json(decoder, column, text, len, arena, value, err);
		case KIND_OTHER:
			return scalar_other(decoder, column, text, len, arena, value, err);
	}
	return number_failed(decoder, column, number, text, len, err);
}

/*-------------------------------------------------------------------------
 *
 * codec_private.h
 *	  What the files of codec/ share.
 *
 * Nothing here is thread safe: a decoder belongs to one process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_CODEC_PRIVATE_H
#define STREAMPROC_CODEC_PRIVATE_H

#include "postgres.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "fmgr.h"
#include "pgtime.h"
#include "utils/timestamp.h"

#include "codec/codec.h"
#include "codec/json_index.h"

#define CODEC_MAX_MESSAGE	((Size) 512 * 1024 * 1024)
#define JSON_MAX_DEPTH		1000

/* How a column's values are made.  OTHER: by the type's input function. */
typedef enum CodecKind
{
	KIND_INT2,
	KIND_INT4,
	KIND_INT8,
	KIND_FLOAT4,
	KIND_FLOAT8,
	KIND_NUMERIC,
	KIND_BOOL,
	KIND_TEXT,
	KIND_VARCHAR,
	KIND_BPCHAR,
	KIND_TIMESTAMPTZ,
	KIND_TIMESTAMP,
	KIND_DATE,
	KIND_UUID,
	KIND_JSON,
	KIND_JSONB,
	KIND_BYTEA,
	KIND_OTHER
} CodecKind;

/* What the text of a value was, where that matters (times, json). */
typedef enum ValueOrigin
{
	FROM_STRING,				/* a JSON string, a csv field */
	FROM_NUMBER,				/* a JSON number */
	FROM_TEXT					/* true, false, the text of an object or array */
} ValueOrigin;

/* ---- type shapes, for values that become the text of an array or composite (json_value.c) ---- */

typedef enum TypeShape
{
	SHAPE_SCALAR,
	SHAPE_JSON,					/* json, jsonb: the JSON text itself */
	SHAPE_ARRAY,
	SHAPE_COMPOSITE
} TypeShape;

typedef struct TypeInfo
{
	TypeShape	shape;
	char		delimiter;		/* array */
	struct TypeInfo *element;	/* array */
	int			natts;			/* composite: live and dropped attributes */
	char	  **names;			/* UTF-8; NULL: dropped */
	struct TypeInfo **attributes;
} TypeInfo;

typedef struct Column
{
	CodecColumn def;			/* strings are the decoder's copies */
	CodecKind	kind;
	char	   *type_name;
	int32		limit;			/* varchar, bpchar: characters, or -1 */
	/* KIND_OTHER */
	int16		typlen;
	bool		typbyval;
	bool		domain;
	FmgrInfo	input;
	Oid			input_param;
	TypeInfo   *info;
	/* json: where its value is found */
	struct JsonField *field;
} Column;

/* A buffer that is kept and grows. */
typedef struct Scratch
{
	char	   *data;
	Size		size;
} Scratch;

/* ---- a JSON document, indexed (json_doc.c) ---- */

typedef struct JsonDoc
{
	uint8	   *buf;			/* copy of the document, padded with zeros */
	Size		bufsize;
	uint32		len;
	const uint32 *pos;			/* where the tokens begin; two sentinels */
	uint32		n;
	bool		escapes;		/* a backslash somewhere */
	JsonIndexer *indexer;
} JsonDoc;

typedef struct JsonDecoder JsonDecoder;

struct CodecDecoder
{
	CodecOptions options;
	MemoryContext cxt;
	MemoryContext tmp;			/* of one value; empty between values */
	int			ncolumns;
	Column	   *columns;
	int			nneeded;
	int		   *needed;			/* indexes into columns */
	int			current;		/* column in work, -1 */
	int64		nmessages;
	Scratch		unescaped;
	Scratch		converted;
	Scratch		cstring;
	Scratch		digits;
	Oid			to_server;		/* conversion from UTF-8, InvalidOid: none */
	pg_tz	   *utc;
	char		date[10];		/* the last one of a timestamp, YYYY-MM-DD: mostly the next one's, too */
	int32		date_days;
	JsonDoc		doc;
	JsonDecoder *json;
	MemoryContextCallback on_reset; /* frees the indexer */
};

/* ---- codec.c ---- */
extern bool codec_fail(CodecDecoder *decoder, CodecError *err, int sqlstate, int column,
					   const char *fmt,...) pg_attribute_printf(5, 6);
/* the same with a short excerpt of a value at the end */
extern bool codec_fail_value(CodecDecoder *decoder, CodecError *err, int sqlstate, int column,
							 const char *what, const char *value, Size len);
extern char *scratch_reserve(CodecDecoder *decoder, Scratch *scratch, Size size);
extern Size utf8_clip(const char *s, Size len, Size limit);
/* the column is NULL in this message; false where it must not be */
extern bool codec_null(CodecDecoder *decoder, int column, Datum *values, bool *isnull, CodecError *err);
/* UTF-8 to the server's encoding; does nothing in a UTF-8 database */
extern bool codec_to_server(CodecDecoder *decoder, int column, const char **s, Size *len, CodecError *err);
extern CodecKind codec_kind(Oid type);

static inline bool
is_json_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* isspace() of the C locale */
static inline bool
is_space(unsigned char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool
is_digit(unsigned char c)
{
	return (unsigned char) (c - '0') < 10;
}

static inline bool
equal_ignore_case(const char *a, const char *b, Size len)
{
	Size		i;

	for (i = 0; i < len; i++)
	{
		unsigned char x = a[i];
		unsigned char y = b[i];

		if (x != y)
		{
			if (x >= 'A' && x <= 'Z')
				x += 'a' - 'A';
			if (y >= 'A' && y <= 'Z')
				y += 'a' - 'A';
			if (x != y)
				return false;
		}
	}
	return true;
}

/* ---- scalar.c ---- */
/* "text" is valid UTF-8, not terminated */
extern bool scalar_decode(CodecDecoder *decoder, int column, const char *text, Size len,
						  ValueOrigin origin, Arena *arena, Datum *value, CodecError *err);
extern struct varlena *make_varlena(Arena *arena, const char *data, Size len);
extern void scalar_check_null(CodecDecoder *decoder, int column);
/* by the type's input function */
extern bool scalar_other(CodecDecoder *decoder, int column, const char *text, Size len,
						 Arena *arena, Datum *value, CodecError *err);

/* ---- decimal.c ---- */

/* A number as it is written: no value is computed until it is known as what. */
typedef struct Decimal
{
	bool		negative;
	const char *mantissa;		/* digits, perhaps with a point */
	Size		len;
	Size		nint;			/* digits before the point */
	Size		nfrac;
	int32		exponent;		/* clamped to +-2^30 */
} Decimal;

typedef enum NumberResult
{
	NUMBER_OK,
	NUMBER_SYNTAX,
	NUMBER_RANGE,
	NUMBER_FRACTION,			/* not an integer */
	NUMBER_FIELD				/* numeric: beyond precision and scale */
} NumberResult;

/*
 * The text of a numeric as numeric_out gives it, without a zero behind; its
 * length.  0: not a common one, numeric_out has to be asked.
 */
#define NUMERIC_TEXT_MOST	64
extern int	numeric_text(Datum value, char *text);
extern bool decimal_parse(const char *text, Size len, Decimal *decimal);
/* value * 10^shift; "round": half away from zero, otherwise a fraction is an error */
extern NumberResult decimal_to_int64(const Decimal *decimal, int shift, bool round, int64 *result);
extern NumberResult parse_int64(const char *text, Size len, int64 *result);
extern NumberResult parse_float8(CodecDecoder *decoder, const char *text, Size len, float8 *result);
extern NumberResult parse_float4(CodecDecoder *decoder, const char *text, Size len, float4 *result);
extern NumberResult parse_numeric(CodecDecoder *decoder, const char *text, Size len, int32 typmod,
								  Arena *arena, Datum *result);

/* ---- datetime.c ---- */
typedef enum TimeResult
{
	TIME_OK,
	TIME_SYNTAX,
	TIME_RANGE,
	TIME_RELATIVE				/* 'now', 'today': another value at a replay */
} TimeResult;

/* zone: UTC where the text names none; with_zone false: a zone is ignored, as PostgreSQL does */
extern TimeResult parse_timestamp(CodecDecoder *decoder, const char *text, Size len, bool with_zone,
								  Timestamp *result);
extern TimeResult parse_date(CodecDecoder *decoder, const char *text, Size len, int32 *result);

/* ---- json_doc.c ---- */
extern void json_doc_free(JsonDoc *doc);
extern void json_doc_copy(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len);
extern bool json_doc_index(CodecDecoder *decoder, JsonDoc *doc, int column, CodecError *err);
/* copies and indexes; messages as of a value of "column", or of the message where -1 */
extern bool json_doc_load(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len,
						  int column, CodecError *err);
/* checks the value at token *i and moves *i behind it; false: *i is the wrong token */
extern bool json_check_value(const JsonDoc *doc, uint32 *i, int depth);
extern bool json_check_escapes(const JsonDoc *doc, uint32 start, uint32 end);
extern bool json_wrong(CodecDecoder *decoder, const JsonDoc *doc, uint32 token, int column, CodecError *err);
extern bool json_too_deep(const JsonDoc *doc, uint32 token);
/* behind a value that has been checked */
extern uint32 json_value_end(const JsonDoc *doc, uint32 i);
/* a string's content; 0 or the sqlstate of what is wrong with it; dst: room for len bytes */
extern int	json_unescape(const char *src, Size len, char *dst, Size *dstlen);

/* The end of a number, by JSON's grammar; NULL: it is none.  16 bytes behind its first are readable. */
static inline const uint8 *
json_number_end(const uint8 *p)
{
#ifdef __SSE2__
	/* a short one without a loop, whose end would be guessed wrong for most */
	const uint8 *q = p + (*p == '-');
	__m128i		v = _mm_add_epi8(_mm_loadu_si128((const __m128i *) q), _mm_set1_epi8((char) (0x80 - '0')));
	uint32		others = ~(uint32) _mm_movemask_epi8(_mm_cmplt_epi8(v, _mm_set1_epi8((char) (0x80 + 10))));
	int			n = __builtin_ctz(others);

	if (likely(n > 0 && n < 16 && (n == 1 || *q != '0')))
	{
		if (q[n] == '.')
		{
			int			point = n;

			others &= others - 1;
			n = __builtin_ctz(others);
			if (unlikely(n == point + 1 && n < 16))
				return NULL;
		}
		if (likely(n < 16 && (q[n] | 0x20) != 'e'))
			return q + n;
	}
#endif
	if (*p == '-')
		p++;
	if (*p == '0')
		p++;
	else if (is_digit(*p))
	{
		while (is_digit(*++p))
			;
	}
	else
		return NULL;
	if (*p == '.')
	{
		if (!is_digit(*++p))
			return NULL;
		while (is_digit(*++p))
			;
	}
	if (*p == 'e' || *p == 'E')
	{
		p++;
		if (*p == '-' || *p == '+')
			p++;
		if (!is_digit(*p))
			return NULL;
		while (is_digit(*++p))
			;
	}
	return p;
}

/* byte behind the value whose tokens are [i, next) */
static inline uint32
json_text_end(const JsonDoc *doc, uint32 next)
{
	uint32		end = doc->pos[next];

	while (is_json_space(doc->buf[end - 1]))
		end--;
	return end;
}

/* ---- json_value.c ---- */
extern bool json_build_jsonb(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
							 Arena *arena, Datum *value, CodecError *err);
/* text of an array or composite as its input function wants it, in decoder->tmp */
extern bool json_build_literal(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
							   StringInfo out, CodecError *err);
extern TypeInfo *type_info_load(Oid type);
extern bool json_string(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
						const char **s, Size *len, CodecError *err);

/* ---- json_decode.c ---- */
extern void json_decoder_create(CodecDecoder *decoder);
extern bool json_decode(CodecDecoder *decoder, const char *data, Size len,
						Datum *values, bool *isnull, Arena *arena, CodecError *err);
extern int	json_unseen(CodecDecoder *decoder, const char **columns, const char **nearest, int max);

/* ---- csv.c ---- */
extern bool csv_decode(CodecDecoder *decoder, const char *data, Size len,
					   Datum *values, bool *isnull, Arena *arena, CodecError *err);
extern bool raw_decode(CodecDecoder *decoder, const char *data, Size len,
					   Datum *values, bool *isnull, Arena *arena, CodecError *err);

#endif							/* STREAMPROC_CODEC_PRIVATE_H */

/*-------------------------------------------------------------------------
 *
 * encode.c
 *	  Rows to bytes, in all formats.
 *
 * JSON is what row_to_json() prints, compact; the common types are written
 * here, all others by to_json() itself.  What is written can be read again by
 * the same columns: a path makes nested objects, and times are ISO 8601 in
 * csv too, whatever DateStyle is.  Messages are UTF-8.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "codec/codec_private.h"

typedef struct EncodeColumn
{
	CodecColumn def;
	CodecKind	kind;
	FmgrInfo	output;
	FmgrInfo	to_json;		/* KIND_OTHER in json */
} EncodeColumn;

/* A member of the object that is written: a column, or an object of such. */
typedef struct EncodeNode
{
	char	   *name;			/* in the server's encoding */
	StringInfoData label;		/* ,"name": escaped */
	EncodeColumn *column;
	struct EncodeNode *child;
	struct EncodeNode *next;
} EncodeNode;

struct CodecEncoder
{
	CodecOptions options;
	int			ncolumns;
	EncodeColumn *columns;
	EncodeNode *nodes;			/* json */
	MemoryContext tmp;			/* of one row */
};

static EncodeNode *
add_node(EncodeNode **list, const char *name, Size len)
{
	EncodeNode *node;

	for (; *list != NULL; list = &(*list)->next)
	{
		if (strlen((*list)->name) == len && memcmp((*list)->name, name, len) == 0)
			return *list;
	}
	node = palloc0(sizeof(EncodeNode));
	node->name = pnstrdup(name, len);
	initStringInfo(&node->label);
	appendStringInfoChar(&node->label, ',');
	escape_json(&node->label, node->name);
	appendStringInfoChar(&node->label, ':');
	*list = node;
	return node;
}

static void
add_column(CodecEncoder *encoder, EncodeColumn *column)
{
	EncodeNode **list = &encoder->nodes;
	EncodeNode *node;
	const char *p = column->def.path;

	if (p == NULL)
		node = add_node(list, column->def.name, strlen(column->def.name));
	else
	{
		for (;;)
		{
			Size		len = strcspn(p, ".");

			node = add_node(list, p, len);
			if (p[len] == '\0')
				break;
			if (node->column != NULL)
				break;
			list = &node->child;
			p += len + 1;
		}
	}
	if (node->column != NULL || node->child != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("column \"%s\" cannot be written: its JSON field is another column's, or within it or around it",
						column->def.name),
				 errhint("Such a table can only be read.")));
	node->column = column;
}

CodecEncoder *
codec_encoder_create(const CodecOptions *options, const CodecColumn *columns, int ncolumns,
					 MemoryContext cxt)
{
	CodecEncoder *encoder;
	MemoryContext old;
	int			i;

	codec_check_columns(options, columns, ncolumns);

	old = MemoryContextSwitchTo(cxt);
	encoder = palloc0(sizeof(CodecEncoder));
	encoder->options = *options;
	if (encoder->options.delimiter == '\0')
		encoder->options.delimiter = ',';
	encoder->ncolumns = ncolumns;
	encoder->columns = palloc0(sizeof(EncodeColumn) * Max(ncolumns, 1));
	encoder->tmp = AllocSetContextCreate(cxt, "streamproc encoder", ALLOCSET_DEFAULT_SIZES);
	for (i = 0; i < ncolumns; i++)
	{
		EncodeColumn *column = &encoder->columns[i];
		Oid			function;
		bool		varlena;

		column->def = columns[i];
		column->def.name = pstrdup(columns[i].name);
		if (columns[i].path != NULL)
			column->def.path = pstrdup(columns[i].path);
		column->kind = codec_kind(columns[i].type);
		getTypeOutputInfo(columns[i].type, &function, &varlena);
		fmgr_info_cxt(function, &column->output, cxt);
		if (options->format == CODEC_JSON)
		{
			if (column->kind == KIND_OTHER)
			{
				/* to_json() asks the call's expression for the type of its argument */
				Node	   *arg = (Node *) makeNullConst(columns[i].type, columns[i].typmod, columns[i].collation);

				fmgr_info_cxt(F_TO_JSON, &column->to_json, cxt);
				fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSON, JSONOID, list_make1(arg), InvalidOid,
														 InvalidOid, COERCE_EXPLICIT_CALL),
								   &column->to_json);
			}
			add_column(encoder, column);
		}
	}
	MemoryContextSwitchTo(old);
	return encoder;
}

/* ---- append ---- */

/*
 * As appendBinaryStringInfo(), in line and without the zero behind: rows are
 * written in many small pieces.  codec_encode() puts the zero.
 */
static inline void
put(StringInfo out, const char *data, int len)
{
	if (unlikely(out->len + len >= out->maxlen))
		enlargeStringInfo(out, len);
	memcpy(out->data + out->len, data, len);
	out->len += len;
}

static inline void
put_char(StringInfo out, char c)
{
	if (unlikely(out->len + 1 >= out->maxlen))
		enlargeStringInfo(out, 1);
	out->data[out->len++] = c;
}

static inline void
put_string(StringInfo out, const char *s)
{
	put(out, s, (int) strlen(s));
}

/* ---- json ---- */

static const char hex_digits[] = "0123456789abcdef";

/* What escape_json() gives, but run by run instead of byte by byte: most text has nothing to escape. */
static void
write_text(StringInfo out, const char *text, int len)
{
	const char *end = text + len;

	put_char(out, '"');
	while (text < end)
	{
		const char *run = text;
		unsigned char c;

		while (text < end && (c = (unsigned char) *text) >= ' ' && c != '"' && c != '\\')
			text++;
		put(out, run, text - run);
		if (text == end)
			break;
		c = (unsigned char) *text++;
		switch (c)
		{
			case '\b':
				put_string(out, "\\b");
				break;
			case '\f':
				put_string(out, "\\f");
				break;
			case '\n':
				put_string(out, "\\n");
				break;
			case '\r':
				put_string(out, "\\r");
				break;
			case '\t':
				put_string(out, "\\t");
				break;
			case '"':
				put_string(out, "\\\"");
				break;
			case '\\':
				put_string(out, "\\\\");
				break;
			default:
				put_string(out, "\\u00");
				put_char(out, hex_digits[c >> 4]);
				put_char(out, hex_digits[c & 15]);
				break;
		}
	}
	put_char(out, '"');
}

static char *
two_digits(char *at, int n)
{
	*at++ = '0' + n / 10;
	*at++ = '0' + n % 10;
	return at;
}

/* Zones are never freed, so the pointer says which one it is. */
static bool
is_session_utc(void)
{
	static const pg_tz *asked = NULL;
	static bool utc = false;

	if (unlikely(session_timezone != asked))
	{
		const char *zone = pg_get_timezone_name(session_timezone);

		utc = strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0;
		asked = session_timezone;
	}
	return utc;
}

/*
 * In UTC a moment is written without asking for the rules of a time zone, and
 * neighbours share their date.  False: not such a one, the long way has to be gone.
 */
static bool
write_utc(StringInfo out, TimestampTz value)
{
	static int64 cached_day = PG_INT64_MIN;
	static char cached[12];		/* "2026-01-01T */
	int64		day;
	int64		time;
	char		buf[48];
	char	   *at = buf;
	int			fraction;

	if (TIMESTAMP_NOT_FINITE(value) || !is_session_utc())
		return false;
	day = value / USECS_PER_DAY;
	time = value % USECS_PER_DAY;
	if (time < 0)
	{
		time += USECS_PER_DAY;
		day--;
	}
	if (day != cached_day)
	{
		int			year,
					month,
					mday;

		j2date((int) (day + POSTGRES_EPOCH_JDATE), &year, &month, &mday);
		if (year < 1 || year > 9999)
			return false;
		cached[0] = '"';
		(void) two_digits(two_digits(cached + 1, year / 100), year % 100);
		cached[5] = cached[8] = '-';
		(void) two_digits(cached + 6, month);
		(void) two_digits(cached + 9, mday);
		cached[11] = 'T';
		cached_day = day;
	}
	memcpy(at, cached, 12);
	at = two_digits(at + 12, (int) (time / USECS_PER_HOUR));
	*at++ = ':';
	at = two_digits(at, (int) (time / USECS_PER_MINUTE % 60));
	*at++ = ':';
	at = two_digits(at, (int) (time / USECS_PER_SEC % 60));
	fraction = (int) (time % USECS_PER_SEC);
	if (fraction != 0)
	{
		int			i;

		*at = '.';
		for (i = 6; i > 0; i--, fraction /= 10)
			at[i] = '0' + fraction % 10;
		for (at += 7; at[-1] == '0'; at--)
			;
	}
	memcpy(at, "+00:00\"", 7);
	put(out, buf, at + 7 - buf);
	return true;
}

static void
write_uuid(StringInfo out, const pg_uuid_t *uuid)
{
	char		buf[38];
	char	   *at = buf;
	int			i;

	*at++ = '"';
	for (i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = hex_digits[uuid->data[i] >> 4];
		*at++ = hex_digits[uuid->data[i] & 15];
	}
	*at++ = '"';
	put(out, buf, sizeof(buf));
}

static void
write_value(EncodeColumn *column, Datum value, StringInfo out)
{
	char		buf[MAXDATELEN + 1];
	char	   *s;

	switch (column->kind)
	{
		case KIND_BOOL:
			put_string(out, DatumGetBool(value) ? "true" : "false");
			break;
		case KIND_INT2:
			pg_itoa(DatumGetInt16(value), buf);
			put_string(out, buf);
			break;
		case KIND_INT4:
			pg_ltoa(DatumGetInt32(value), buf);
			put_string(out, buf);
			break;
		case KIND_INT8:
			pg_lltoa(DatumGetInt64(value), buf);
			put_string(out, buf);
			break;
		case KIND_NUMERIC:
			{
				char		text[NUMERIC_TEXT_MOST];
				int			len = numeric_text(value, text);

				if (likely(len > 0))
				{
					put(out, text, len);
					break;
				}
			}
			/* FALLTHROUGH */
		case KIND_FLOAT4:
		case KIND_FLOAT8:
			s = OutputFunctionCall(&column->output, value);
			/* NaN and the infinities are no JSON numbers */
			if (is_digit(s[0]) || (s[0] == '-' && is_digit(s[1])))
				put_string(out, s);
			else
				escape_json(out, s);
			break;
		case KIND_TEXT:
			{
				text	   *s = DatumGetTextPP(value);

				write_text(out, VARDATA_ANY(s), VARSIZE_ANY_EXHDR(s));
				break;
			}
		case KIND_UUID:
			write_uuid(out, DatumGetUUIDP(value));
			break;
		case KIND_TIMESTAMPTZ:
			if (write_utc(out, DatumGetTimestampTz(value)))
				break;
			/* FALLTHROUGH */
		case KIND_DATE:
		case KIND_TIMESTAMP:
			JsonEncodeDateTime(buf, value, column->def.type, NULL);
			put_char(out, '"');
			put_string(out, buf);
			put_char(out, '"');
			break;
		case KIND_JSON:
		case KIND_JSONB:
			put_string(out, OutputFunctionCall(&column->output, value));
			break;
		case KIND_OTHER:
			{
				text	   *json = DatumGetTextPP(FunctionCall1(&column->to_json, value));

				put(out, VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json));
				break;
			}
		default:
			escape_json(out, OutputFunctionCall(&column->output, value));
			break;
	}
}

static void
write_object(EncodeNode *nodes, const Datum *values, const bool *isnull, StringInfo out)
{
	EncodeNode *node;

	put_char(out, '{');
	for (node = nodes; node != NULL; node = node->next)
	{
		/* the first one without its comma */
		put(out, node->label.data + (node == nodes), node->label.len - (node == nodes));
		if (node->child != NULL)
			write_object(node->child, values, isnull, out);
		else if (isnull[node->column->def.target])
			put_string(out, "null");
		else
			write_value(node->column, values[node->column->def.target], out);
	}
	put_char(out, '}');
}

/* ---- csv ---- */

static void
csv_field(char delimiter, const char *s, StringInfo out)
{
	const char *p;
	bool		quote = *s == '\0';

	for (p = s; *p != '\0' && !quote; p++)
		quote = *p == delimiter || *p == '"' || *p == '\n' || *p == '\r';
	if (!quote)
	{
		put_string(out, s);
		return;
	}
	put_char(out, '"');
	for (p = s; *p != '\0'; p++)
	{
		if (*p == '"')
			put_char(out, '"');
		put_char(out, *p);
	}
	put_char(out, '"');
}

static void
csv_row(CodecEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out)
{
	int			i;

	for (i = 0; i < encoder->ncolumns; i++)
	{
		EncodeColumn *column = &encoder->columns[i];
		int			target = column->def.target;
		char		buf[MAXDATELEN + 1];
		const char *s;

		if (i > 0)
			put_char(out, encoder->options.delimiter);
		if (isnull[target])
			continue;
		switch (column->kind)
		{
			case KIND_DATE:
			case KIND_TIMESTAMP:
			case KIND_TIMESTAMPTZ:
				s = JsonEncodeDateTime(buf, values[target], column->def.type, NULL);
				break;
			default:
				s = OutputFunctionCall(&column->output, values[target]);
				break;
		}
		csv_field(encoder->options.delimiter, s, out);
	}
}

/* ---- raw ---- */

/* A NULL is an empty value; the caller that wants a tombstone looks at isnull. */
static void
raw_value(CodecEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out)
{
	EncodeColumn *column = &encoder->columns[0];
	int			target = column->def.target;

	if (isnull[target])
		return;
	if (column->kind == KIND_JSONB)
		put_string(out, OutputFunctionCall(&column->output, values[target]));
	else
	{
		struct varlena *v = PG_DETOAST_DATUM_PACKED(values[target]);

		put(out, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
	}
}

void
codec_encode(CodecEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out)
{
	MemoryContext old;
	int			start = out->len;

	old = MemoryContextSwitchTo(encoder->tmp);
	switch (encoder->options.format)
	{
		case CODEC_JSON:
			write_object(encoder->nodes, values, isnull, out);
			break;
		case CODEC_CSV:
			csv_row(encoder, values, isnull, out);
			break;
		case CODEC_RAW:
			raw_value(encoder, values, isnull, out);
			break;
	}
	if (GetDatabaseEncoding() != PG_UTF8 &&
		!(encoder->options.format == CODEC_RAW && encoder->columns[0].kind == KIND_BYTEA))
	{
		char	   *converted = pg_server_to_any(out->data + start, out->len - start, PG_UTF8);

		if (converted != out->data + start)
		{
			out->len = start;
			put_string(out, converted);
		}
	}
	out->data[out->len] = '\0';
	MemoryContextSwitchTo(old);
	MemoryContextReset(encoder->tmp);
}

/*-------------------------------------------------------------------------
 *
 * codec.c
 *	  Entry of the codec room: formats by name, decoders, errors.
 *
 * A new format is a line in the table below, a value of CodecFormat, a decode
 * function and a case in encode.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "codec/codec_private.h"

/* bytes of a wrong value that a message shows */
#define EXCERPT_LEN		40

typedef bool (*DecodeFunction) (CodecDecoder *decoder, const char *data, Size len,
								Datum *values, bool *isnull, Arena *arena, CodecError *err);

static const struct
{
	const char *name;
	CodecFormat format;
	DecodeFunction decode;
}			formats[] =
{
	{"json", CODEC_JSON, json_decode},
	{"csv", CODEC_CSV, csv_decode},
	{"raw", CODEC_RAW, raw_decode}
};

bool
codec_format_by_name(const char *name, CodecFormat *format)
{
	int			i;

	for (i = 0; i < lengthof(formats); i++)
	{
		if (strcmp(formats[i].name, name) == 0)
		{
			*format = formats[i].format;
			return true;
		}
	}
	return false;
}

int
codec_format_names(const char **names, int max)
{
	int			i;

	for (i = 0; i < lengthof(formats) && i < max; i++)
		names[i] = formats[i].name;
	return i;
}

static void
check_path(const CodecColumn *column)
{
	const char *p;

	for (p = column->path;; p++)
	{
		if ((*p == '.' || *p == '\0') && (p == column->path || p[-1] == '.'))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_STRING_FORMAT),
					 errmsg("invalid JSON path \"%s\" of column \"%s\"", column->path, column->name),
					 errhint("Write the names of the fields with a dot between them, such as 'customer.address.city'.")));
		if (*p == '\0')
			break;
	}
}

void
codec_check_columns(const CodecOptions *options, const CodecColumn *columns, int ncolumns)
{
	int			i;

	for (i = 0; i < ncolumns; i++)
	{
		if (columns[i].path == NULL)
			continue;
		if (options->format != CODEC_JSON)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("column \"%s\" has a JSON path, but the format is not json", columns[i].name),
					 errhint("Remove the column's option \"json\", or set the table's option \"format\" to 'json'.")));
		check_path(&columns[i]);
	}

	switch (options->format)
	{
		case CODEC_JSON:
			break;
		case CODEC_CSV:
			if (options->delimiter != '\0' &&
				(options->delimiter == '"' || options->delimiter == '\n' || options->delimiter == '\r' ||
				 IS_HIGHBIT_SET(options->delimiter)))
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_STRING_FORMAT),
						 errmsg("invalid csv delimiter"),
						 errhint("The delimiter is one ASCII character that is neither a quote nor a line end.")));
			break;
		case CODEC_RAW:
			if (ncolumns != 1)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_COLUMN_NUMBER),
						 errmsg("format raw wants exactly one column for the value, not %d", ncolumns),
						 errhint("Declare one column of type text, varchar, bytea, json or jsonb; give other columns the option \"kafka\".")));
			switch (codec_kind(columns[0].type))
			{
				case KIND_TEXT:
				case KIND_VARCHAR:
				case KIND_BYTEA:
				case KIND_JSON:
				case KIND_JSONB:
					break;
				default:
					ereport(ERROR,
							(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
							 errmsg("column \"%s\" of type %s cannot hold the value of a message in format raw",
									columns[0].name, format_type_be(columns[0].type)),
							 errhint("Use type text, varchar, bytea, json or jsonb.")));
			}
			break;
	}
}

CodecKind
codec_kind(Oid type)
{
	switch (type)
	{
		case INT2OID:
			return KIND_INT2;
		case INT4OID:
			return KIND_INT4;
		case INT8OID:
			return KIND_INT8;
		case FLOAT4OID:
			return KIND_FLOAT4;
		case FLOAT8OID:
			return KIND_FLOAT8;
		case NUMERICOID:
			return KIND_NUMERIC;
		case BOOLOID:
			return KIND_BOOL;
		case TEXTOID:
			return KIND_TEXT;
		case VARCHAROID:
			return KIND_VARCHAR;
		case BPCHAROID:
			return KIND_BPCHAR;
		case TIMESTAMPTZOID:
			return KIND_TIMESTAMPTZ;
		case TIMESTAMPOID:
			return KIND_TIMESTAMP;
		case DATEOID:
			return KIND_DATE;
		case UUIDOID:
			return KIND_UUID;
		case JSONOID:
			return KIND_JSON;
		case JSONBOID:
			return KIND_JSONB;
		case BYTEAOID:
			return KIND_BYTEA;
		default:
			return KIND_OTHER;
	}
}

static void
decoder_release(void *arg)
{
	CodecDecoder *decoder = arg;

	json_doc_free(&decoder->doc);
}

CodecDecoder *
codec_decoder_create(const CodecOptions *options, const CodecColumn *columns, int ncolumns,
					 MemoryContext cxt)
{
	CodecDecoder *decoder;
	MemoryContext own;
	MemoryContext old;
	int			i;

	codec_check_columns(options, columns, ncolumns);

	own = AllocSetContextCreate(cxt, "streamproc decoder", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(own);
	decoder = palloc0(sizeof(CodecDecoder));
	decoder->options = *options;
	if (decoder->options.delimiter == '\0')
		decoder->options.delimiter = ',';
	decoder->cxt = own;
	memcpy(decoder->date, "2000-01-01", sizeof(decoder->date));	/* day 0 */
	decoder->tmp = AllocSetContextCreate(own, "streamproc decoder value", ALLOCSET_DEFAULT_SIZES);
	decoder->ncolumns = ncolumns;
	decoder->columns = palloc0(sizeof(Column) * Max(ncolumns, 1));
	decoder->needed = palloc0(sizeof(int) * Max(ncolumns, 1));
	decoder->current = -1;
	decoder->utc = pg_tzset("GMT");
	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII)
	{
		decoder->to_server = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
		if (!OidIsValid(decoder->to_server))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("no conversion from UTF8 to the database's encoding %s",
							GetDatabaseEncodingName())));
	}
	decoder->on_reset.func = decoder_release;
	decoder->on_reset.arg = decoder;
	MemoryContextRegisterResetCallback(own, &decoder->on_reset);

	for (i = 0; i < ncolumns; i++)
	{
		Column	   *col = &decoder->columns[i];

		col->def = columns[i];
		col->def.name = pstrdup(columns[i].name);
		if (columns[i].path != NULL)
			col->def.path = pstrdup(columns[i].path);
		col->kind = codec_kind(columns[i].type);
		col->type_name = format_type_with_typemod(columns[i].type, columns[i].typmod);
		col->limit = -1;
		if ((col->kind == KIND_VARCHAR || col->kind == KIND_BPCHAR) && columns[i].typmod >= (int32) VARHDRSZ)
			col->limit = columns[i].typmod - VARHDRSZ;
		if (!columns[i].needed)
			continue;
		decoder->needed[decoder->nneeded++] = i;
		if (col->kind == KIND_OTHER)
		{
			Oid			function;

			getTypeInputInfo(columns[i].type, &function, &col->input_param);
			fmgr_info_cxt(function, &col->input, own);
			get_typlenbyval(columns[i].type, &col->typlen, &col->typbyval);
			col->domain = get_typtype(columns[i].type) == TYPTYPE_DOMAIN;
			col->info = type_info_load(columns[i].type);
		}
	}
	if (options->format == CODEC_JSON)
		json_decoder_create(decoder);
	MemoryContextSwitchTo(old);
	return decoder;
}

void
codec_decoder_destroy(CodecDecoder *decoder)
{
	MemoryContextDelete(decoder->cxt);
}

bool
codec_decode(CodecDecoder *decoder, const char *data, Size len,
			 Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	/* the last message threw in the middle of a value: what that left goes now */
	if (unlikely(decoder->current >= 0))
		MemoryContextReset(decoder->tmp);
	decoder->current = -1;
	if (unlikely(data == NULL))
	{
		int			i;

		for (i = 0; i < decoder->nneeded; i++)
		{
			if (!codec_null(decoder, decoder->needed[i], values, isnull, err))
				return false;
		}
		return true;
	}
	if (unlikely(len > CODEC_MAX_MESSAGE))
		return codec_fail(decoder, err, ERRCODE_PROGRAM_LIMIT_EXCEEDED, -1, "message is too large");
	return formats[decoder->options.format].decode(decoder, data, len, values, isnull, arena, err);
}

int
codec_decoder_current_column(CodecDecoder *decoder)
{
	return decoder->current;
}

int
codec_decoder_unseen(CodecDecoder *decoder, bool *checked,
					 const char **columns, const char **nearest, int max)
{
	*checked = decoder->nmessages >= 1000;
	if (!*checked || decoder->json == NULL)
		return 0;
	return json_unseen(decoder, columns, nearest, max);
}

/* ---- for the other files ---- */

/* A buffer of at least "size" bytes; its old content is lost. */
char *
scratch_reserve(CodecDecoder *decoder, Scratch *scratch, Size size)
{
	if (unlikely(size > scratch->size))
	{
		Size		wanted = Max(scratch->size * 2, Max(size, (Size) 1024));

		if (scratch->data != NULL)
		{
			pfree(scratch->data);
			scratch->data = NULL;
			scratch->size = 0;
		}
		scratch->data = MemoryContextAllocHuge(decoder->cxt, wanted);
		scratch->size = wanted;
	}
	return scratch->data;
}

/* At most "limit" bytes of valid UTF-8, ending with a whole character. */
Size
utf8_clip(const char *s, Size len, Size limit)
{
	if (len <= limit)
		return len;
	while (limit > 0 && ((unsigned char) s[limit] & 0xC0) == 0x80)
		limit--;
	return limit;
}

bool
codec_fail(CodecDecoder *decoder, CodecError *err, int sqlstate, int column, const char *fmt,...)
{
	va_list		args;
	int			used = 0;

	err->sqlstate = sqlstate;
	err->column = column;
	err->detail[0] = '\0';
	if (column >= 0)
		used = snprintf(err->message, sizeof(err->message), "column \"%s\": ", decoder->columns[column].def.name);
	va_start(args, fmt);
	vsnprintf(err->message + used, sizeof(err->message) - used, fmt, args);
	va_end(args);
	return false;
}

bool
codec_fail_value(CodecDecoder *decoder, CodecError *err, int sqlstate, int column,
				 const char *what, const char *value, Size len)
{
	char		excerpt[EXCERPT_LEN + 4];
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	Size		n = utf8 ? utf8_clip(value, len, EXCERPT_LEN) : Min(len, EXCERPT_LEN);
	Size		i;

	memcpy(excerpt, value, n);
	for (i = 0; i < n; i++)
	{
		unsigned char c = excerpt[i];

		/* no control characters, nothing that the server's encoding may not know */
		if (c < 0x20 || c == 0x7f || (!utf8 && IS_HIGHBIT_SET(c)))
			excerpt[i] = '?';
	}
	strlcpy(excerpt + n, n < len ? "..." : "", sizeof(excerpt) - n);
	if (column < 0)
		return codec_fail(decoder, err, sqlstate, column, "%s: \"%s\"", what, excerpt);
	return codec_fail(decoder, err, sqlstate, column, "%s for type %s: \"%s\"", what,
					  decoder->columns[column].type_name, excerpt);
}

bool
codec_null(CodecDecoder *decoder, int column, Datum *values, bool *isnull, CodecError *err)
{
	Column	   *col = &decoder->columns[column];

	values[col->def.target] = (Datum) 0;
	isnull[col->def.target] = true;
	if (unlikely(col->def.not_null))
	{
		err->sqlstate = ERRCODE_NOT_NULL_VIOLATION;
		err->column = column;
		snprintf(err->message, sizeof(err->message),
				 "null value in column \"%s\" violates not-null constraint", col->def.name);
		err->detail[0] = '\0';
		return false;
	}
	if (unlikely(col->domain))
		scalar_check_null(decoder, column);
	return true;
}

bool
codec_to_server(CodecDecoder *decoder, int column, const char **s, Size *len, CodecError *err)
{
	char	   *dest;
	int			done;

	if (likely(!OidIsValid(decoder->to_server)))
		return true;
	if (*len == 0)
		return true;
	if (*len > MaxAllocSize / MAX_CONVERSION_GROWTH)
		return codec_fail(decoder, err, ERRCODE_PROGRAM_LIMIT_EXCEEDED, column, "value is too long");
	dest = scratch_reserve(decoder, &decoder->converted, *len * MAX_CONVERSION_GROWTH + 1);
	done = pg_do_encoding_conversion_buf(decoder->to_server, PG_UTF8, GetDatabaseEncoding(),
										 (unsigned char *) unconstify(char *, *s), *len,
										 (unsigned char *) dest, *len * MAX_CONVERSION_GROWTH + 1, true);
	if (done < *len)
		return codec_fail(decoder, err, ERRCODE_UNTRANSLATABLE_CHARACTER, column,
						  "character has no equivalent in encoding %s", GetDatabaseEncodingName());
	*s = dest;
	*len = strlen(dest);
	return true;
}

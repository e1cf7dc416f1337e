/*-------------------------------------------------------------------------
 *
 * json_value.c
 *	  Whole JSON values to Datums: strings, jsonb, and the literals of arrays
 *	  and composites.
 *
 * The document has been checked before: only what PostgreSQL cannot hold is
 * an error here (NUL, lone surrogates, numbers beyond numeric).  The recursion
 * is bounded by JSON_MAX_DEPTH and by the depth of the type.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "codec/codec_private.h"

/* ---- strings ---- */

/*
 * The content of the string at the token, as UTF-8.  Stands in the document,
 * or in a buffer until the next call.
 */
bool
json_string(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
			const char **s, Size *len, CodecError *err)
{
	const char *raw = (const char *) doc->buf + doc->pos[token] + 1;
	int			sqlstate;
	char	   *plain;

	*s = raw;
	*len = json_text_end(doc, token + 1) - doc->pos[token] - 2;
	if (likely(!doc->escapes) || memchr(raw, '\\', *len) == NULL)
		return true;

	plain = scratch_reserve(decoder, &decoder->unescaped, *len);
	sqlstate = json_unescape(raw, *len, plain, len);
	if (sqlstate == ERRCODE_UNTRANSLATABLE_CHARACTER)
		return codec_fail(decoder, err, sqlstate, column, "\\u0000 cannot be converted to text");
	if (sqlstate != 0)
		return codec_fail(decoder, err, sqlstate, column,
						  "invalid JSON string: unicode surrogate without its other half");
	*s = plain;
	return true;
}

/* ---- jsonb ---- */

typedef struct JsonbBuild
{
	CodecDecoder *decoder;
	int			column;
	const JsonDoc *doc;
	JsonbParseState *state;
	Arena	   *arena;
	CodecError *err;
} JsonbBuild;

/* A string that lives until the jsonb is made (in decoder->tmp). */
static bool
jsonb_string(JsonbBuild *build, uint32 token, JsonbValue *value)
{
	const char *s;
	Size		len;

	if (!json_string(build->decoder, build->column, build->doc, token, &s, &len, build->err) ||
		!codec_to_server(build->decoder, build->column, &s, &len, build->err))
		return false;
	if (len > JENTRY_OFFLENMASK)
		return codec_fail(build->decoder, build->err, ERRCODE_PROGRAM_LIMIT_EXCEEDED, build->column,
						  "string is too long for jsonb");
	value->type = jbvString;
	value->val.string.len = len;
	if (s == (const char *) build->doc->buf + build->doc->pos[token] + 1)
		value->val.string.val = unconstify(char *, s);
	else
	{
		value->val.string.val = palloc(Max(len, 1));
		memcpy(value->val.string.val, s, len);
	}
	return true;
}

static bool
jsonb_scalar(JsonbBuild *build, uint32 token, JsonbValue *value)
{
	const JsonDoc *doc = build->doc;
	const char *text = (const char *) doc->buf + doc->pos[token];
	Size		len;
	Datum		number;
	NumberResult result;

	switch (*text)
	{
		case '"':
			return jsonb_string(build, token, value);
		case 't':
		case 'f':
			value->type = jbvBool;
			value->val.boolean = *text == 't';
			return true;
		case 'n':
			value->type = jbvNull;
			return true;
		default:
			break;
	}
	len = json_text_end(doc, token + 1) - doc->pos[token];
	result = parse_numeric(build->decoder, text, len, -1, build->arena, &number);
	if (result != NUMBER_OK)
		return codec_fail_value(build->decoder, build->err, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
								build->column, "number out of range", text, len);
	value->type = jbvNumeric;
	value->val.numeric = DatumGetNumeric(number);
	return true;
}

static bool
jsonb_container(JsonbBuild *build, uint32 *i, JsonbValue **result)
{
	const JsonDoc *doc = build->doc;
	bool		is_object = doc->buf[doc->pos[*i]] == '{';
	uint32		t = *i + 1;
	JsonbValue	value;

	check_stack_depth();
	pushJsonbValue(&build->state, is_object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY, NULL);
	while (doc->buf[doc->pos[t]] != '}' && doc->buf[doc->pos[t]] != ']')
	{
		unsigned char c;

		if (is_object)
		{
			if (!jsonb_string(build, t, &value))
				return false;
			pushJsonbValue(&build->state, WJB_KEY, &value);
			t += 2;
		}
		c = doc->buf[doc->pos[t]];
		if (c == '{' || c == '[')
		{
			if (!jsonb_container(build, &t, NULL))
				return false;
		}
		else
		{
			if (!jsonb_scalar(build, t, &value))
				return false;
			pushJsonbValue(&build->state, is_object ? WJB_VALUE : WJB_ELEM, &value);
			t++;
		}
		if (doc->buf[doc->pos[t]] == ',')
			t++;
	}
	*i = t + 1;
	{
		JsonbValue *v = pushJsonbValue(&build->state, is_object ? WJB_END_OBJECT : WJB_END_ARRAY, NULL);

		if (result != NULL)
			*result = v;
	}
	return true;
}

bool
json_build_jsonb(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
				 Arena *arena, Datum *value, CodecError *err)
{
	JsonbBuild	build = {decoder, column, doc, NULL, arena, err};
	MemoryContext old = MemoryContextSwitchTo(decoder->tmp);
	unsigned char c = doc->buf[doc->pos[token]];
	JsonbValue	scalar;
	JsonbValue *top = &scalar;
	bool		ok;

	/* may throw: jsonb has limits on the number of members and on the size of an object */
	decoder->current = column;
	if (c == '{' || c == '[')
		ok = jsonb_container(&build, &token, &top);
	else
		ok = jsonb_scalar(&build, token, &scalar);
	if (ok)
	{
		Jsonb	   *jsonb = JsonbValueToJsonb(top);

		*value = PointerGetDatum(arena_alloc(arena, VARSIZE(jsonb)));
		memcpy(DatumGetPointer(*value), jsonb, VARSIZE(jsonb));
	}
	decoder->current = -1;
	MemoryContextSwitchTo(old);
	MemoryContextReset(decoder->tmp);
	return ok;
}

/* ---- arrays and composites: the text that their input functions read ---- */

TypeInfo *
type_info_load(Oid type)
{
	TypeInfo   *info = palloc0(sizeof(TypeInfo));
	Oid			base = getBaseType(type);
	Oid			element = get_element_type(base);

	check_stack_depth();
	info->shape = base == JSONOID || base == JSONBOID ? SHAPE_JSON : SHAPE_SCALAR;
	if (OidIsValid(element))
	{
		int16		len;
		bool		byval;
		char		align;
		Oid			param;
		Oid			function;

		info->shape = SHAPE_ARRAY;
		get_type_io_data(element, IOFunc_input, &len, &byval, &align, &info->delimiter, &param, &function);
		info->element = type_info_load(element);
	}
	else if (get_typtype(base) == TYPTYPE_COMPOSITE)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc_copy(base, -1);
		int			i;

		info->shape = SHAPE_COMPOSITE;
		info->natts = desc->natts;
		info->names = palloc0(sizeof(char *) * desc->natts);
		info->attributes = palloc0(sizeof(TypeInfo *) * desc->natts);
		for (i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);
			char	   *name = NameStr(att->attname);

			if (att->attisdropped)
				continue;
			info->names[i] = pstrdup(pg_server_to_any(name, strlen(name), PG_UTF8));
			info->attributes[i] = type_info_load(att->atttypid);
		}
	}
	return info;
}

typedef struct LiteralBuild
{
	CodecDecoder *decoder;
	int			column;
	const JsonDoc *doc;
	CodecError *err;
} LiteralBuild;

static bool literal_value(LiteralBuild *build, const TypeInfo *info, uint32 token, StringInfo out);

/* Value, quoted as array_in and record_in both understand. */
static bool
literal_quoted(LiteralBuild *build, const TypeInfo *info, uint32 token, StringInfo out)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	if (!literal_value(build, info, token, &text))
		return false;
	appendStringInfoChar(out, '"');
	for (i = 0; i < text.len; i++)
	{
		if (text.data[i] == '"' || text.data[i] == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, text.data[i]);
	}
	appendStringInfoChar(out, '"');
	pfree(text.data);
	return true;
}

static bool
literal_array(LiteralBuild *build, const TypeInfo *info, uint32 token, StringInfo out)
{
	const JsonDoc *doc = build->doc;
	uint32		t = token + 1;

	check_stack_depth();
	appendStringInfoChar(out, '{');
	while (doc->buf[doc->pos[t]] != ']')
	{
		unsigned char c = doc->buf[doc->pos[t]];

		if (t > token + 1)
			appendStringInfoChar(out, info->delimiter);
		if (c == 'n')
			appendStringInfoString(out, "NULL");
		else if (c == '[' && info->element->shape != SHAPE_JSON)
		{
			/* a further dimension; there are no arrays of arrays */
			if (!literal_array(build, info, t, out))
				return false;
		}
		else if (!literal_quoted(build, info->element, t, out))
			return false;
		t = json_value_end(doc, t);
		if (doc->buf[doc->pos[t]] == ',')
			t++;
	}
	appendStringInfoChar(out, '}');
	return true;
}

static bool
literal_composite(LiteralBuild *build, const TypeInfo *info, uint32 token, StringInfo out)
{
	const JsonDoc *doc = build->doc;
	uint32	   *found = palloc0(sizeof(uint32) * Max(info->natts, 1));
	bool	   *exact = palloc0(sizeof(bool) * Max(info->natts, 1));
	uint32		t = token + 1;
	bool		first = true;
	int			i;

	check_stack_depth();
	while (doc->buf[doc->pos[t]] != '}')
	{
		const char *key;
		Size		len;
		int			match = -1;
		bool		match_exact = false;

		if (!json_string(build->decoder, build->column, doc, t, &key, &len, build->err))
			return false;
		for (i = 0; i < info->natts; i++)
		{
			if (info->names[i] == NULL || strlen(info->names[i]) != len)
				continue;
			if (memcmp(info->names[i], key, len) == 0)
			{
				match = i;
				match_exact = true;
				break;
			}
			if (match < 0 && equal_ignore_case(info->names[i], key, len))
				match = i;
		}
		t += 2;
		if (match >= 0 && match_exact >= exact[match])
		{
			found[match] = t;
			exact[match] = match_exact;
		}
		t = json_value_end(doc, t);
		if (doc->buf[doc->pos[t]] == ',')
			t++;
	}

	appendStringInfoChar(out, '(');
	for (i = 0; i < info->natts; i++)
	{
		if (info->names[i] == NULL)
			continue;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		if (found[i] != 0 && doc->buf[doc->pos[found[i]]] != 'n' &&
			!literal_quoted(build, info->attributes[i], found[i], out))
			return false;
	}
	appendStringInfoChar(out, ')');
	return true;
}

static bool
literal_value(LiteralBuild *build, const TypeInfo *info, uint32 token, StringInfo out)
{
	const JsonDoc *doc = build->doc;
	unsigned char c = doc->buf[doc->pos[token]];
	const char *s;
	Size		len;

	if (c == '[' && info->shape == SHAPE_ARRAY)
		return literal_array(build, info, token, out);
	if (c == '{' && info->shape == SHAPE_COMPOSITE)
		return literal_composite(build, info, token, out);
	if (c == '"' && info->shape != SHAPE_JSON)
	{
		if (!json_string(build->decoder, build->column, doc, token, &s, &len, build->err))
			return false;
	}
	else
	{
		s = (const char *) doc->buf + doc->pos[token];
		len = json_text_end(doc, json_value_end(doc, token)) - doc->pos[token];
	}
	appendBinaryStringInfo(out, s, len);
	return true;
}

bool
json_build_literal(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
				   StringInfo out, CodecError *err)
{
	LiteralBuild build = {decoder, column, doc, err};

	return literal_value(&build, decoder->columns[column].info, token, out);
}

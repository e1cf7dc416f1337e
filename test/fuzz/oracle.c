/*-------------------------------------------------------------------------
 *
 * oracle.c
 *	  What must come out of a message: where its values are say the plain
 *	  readers of reference.c, and each value is decoded by itself from a copy
 *	  that is exactly as long, so nothing can be read behind it unnoticed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "fuzz.h"

static void
reject(Outcome *outcome, int sqlstate, int column, const char *message)
{
	outcome->status = OUTCOME_REJECTED;
	outcome->sqlstate = sqlstate;
	outcome->column = column;
	strlcpy(outcome->message, message, sizeof(outcome->message));
}

/* One value; "text" is a chunk of its own. */
static bool
predict_value(const FuzzSet *set, CodecDecoder *decoder, int column, const char *text, Size len,
			  ValueOrigin origin, Arena *arena, Outcome *outcome)
{
	CodecError	err;
	Datum		value = 0;

	if (!scalar_decode(decoder, column, text, len, origin, arena, &value, &err))
	{
		reject(outcome, err.sqlstate, err.column, err.message);
		return false;
	}
	if (decoder->columns[column].kind == KIND_JSONB && set->encoding == PG_UTF8)
		oracle_check_value(decoder, column, text, len, value, arena);
	outcome_append_value(set, column, value, outcome);
	return true;
}

static bool
predict_null(const FuzzSet *set, CodecDecoder *decoder, int column, Outcome *outcome)
{
	Datum		values[1024];
	bool		isnull[1024];
	CodecError	err;
	int			minus = -1;

	if (!codec_null(decoder, column, values, isnull, &err))
	{
		reject(outcome, err.sqlstate, err.column, err.message);
		return false;
	}
	outcome_append(outcome, &minus, sizeof(minus));
	return true;
}

/* An array or object for a column whose type takes one. */
static bool
predict_literal(const FuzzSet *set, CodecDecoder *decoder, int column, const char *text, Size len,
				Arena *arena, Outcome *outcome)
{
	MemoryContext old;
	StringInfoData literal;
	CodecError	err;
	Datum		value = 0;
	bool		ok;

	if (!json_doc_load(decoder, &decoder->doc, text, len, column, &err))
		fuzz_finding("column %d: a part of a good document is not one: %s", column, err.message);
	decoder->current = column;
	old = MemoryContextSwitchTo(decoder->tmp);
	initStringInfo(&literal);
	ok = json_build_literal(decoder, column, &decoder->doc, 0, &literal, &err);
	MemoryContextSwitchTo(old);
	if (ok)
		ok = scalar_other(decoder, column, literal.data, literal.len, arena, &value, &err);
	MemoryContextReset(decoder->tmp);
	if (!ok)
	{
		reject(outcome, err.sqlstate, err.column, err.message);
		return false;
	}
	if (set->encoding == PG_UTF8)
		oracle_check_value(decoder, column, text, len, value, arena);
	outcome_append_value(set, column, value, outcome);
	return true;
}

static bool
predict_json_value(const FuzzSet *set, CodecDecoder *decoder, int column, const char *value, Size len,
				   Arena *arena, Outcome *outcome)
{
	const Column *col = &decoder->columns[column];
	ValueOrigin origin;
	char	   *text;
	Size		text_len = len;
	bool		ok;

	if (*value == 'n')
		return predict_null(set, decoder, column, outcome);
	if (*value == '"' && col->kind != KIND_JSON && col->kind != KIND_JSONB)
	{
		char	   *plain = palloc(len);
		int			sqlstate = ref_unescape(value + 1, len - 2, plain, &text_len);

		if (sqlstate != 0)
		{
			pfree(plain);
			reject(outcome, sqlstate, column, "");
			return false;
		}
		text = palloc(text_len);
		memcpy(text, plain, text_len);
		pfree(plain);
		origin = FROM_STRING;
	}
	else
	{
		text = palloc(len);
		memcpy(text, value, len);
		origin = strchr("{[tf", *value) != NULL ? FROM_TEXT : FROM_NUMBER;
	}
	if (col->kind == KIND_OTHER && col->info->shape >= SHAPE_ARRAY && (*value == '{' || *value == '['))
		ok = predict_literal(set, decoder, column, text, text_len, arena, outcome);
	else
		ok = predict_value(set, decoder, column, text, text_len, origin, arena, outcome);
	pfree(text);
	return ok;
}

static void
predict_json(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Arena *arena, Outcome *outcome)
{
	int			i;

	if (!ref_json_valid(data, len) || *ref_space(data, data + len) != '{')
	{
		/* which of its faults is told is simdjson's choice */
		reject(outcome, 0, -1, "");
		return;
	}
	for (i = 0; i < set->ncolumns; i++)
	{
		const char *value;
		Size		value_len;

		if (!set->columns[i].needed)
			continue;
		if (!ref_json_find(set, i, data, len, &value, &value_len))
		{
			if (!predict_null(set, decoder, i, outcome))
				return;
		}
		else if (!predict_json_value(set, decoder, i, value, value_len, arena, outcome))
			return;
	}
}

static void
predict_csv(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Arena *arena, Outcome *outcome)
{
	RefField   *fields;
	int			n;
	int			i;

	if (!ref_utf8_valid(data, len) || memchr(data, '\0', len) != NULL)
	{
		reject(outcome, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, -1, "");
		return;
	}
	if (set->ncolumns == 0)
		return;
	if (!ref_csv_parse(data, len, set->delimiter, &fields, &n))
		reject(outcome, ERRCODE_BAD_COPY_FILE_FORMAT, n < set->ncolumns ? n : -1, "");
	else if (n != set->ncolumns)
		reject(outcome, ERRCODE_BAD_COPY_FILE_FORMAT, -1, "");
	else
	{
		for (i = 0; i < n; i++)
		{
			CodecKind	kind = decoder->columns[i].kind;
			ValueOrigin origin = FROM_STRING;
			Decimal		decimal;

			if (!set->columns[i].needed)
				continue;
			if (fields[i].len == 0 && !fields[i].quoted)
			{
				if (!predict_null(set, decoder, i, outcome))
					break;
				continue;
			}
			if (!fields[i].quoted && (kind == KIND_TIMESTAMPTZ || kind == KIND_TIMESTAMP) &&
				decimal_parse(fields[i].text, fields[i].len, &decimal))
				origin = FROM_NUMBER;
			if (!predict_value(set, decoder, i, fields[i].text, fields[i].len, origin, arena, outcome))
				break;
		}
	}
	ref_csv_free(fields, n);
}

static void
predict_raw(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Arena *arena, Outcome *outcome)
{
	char	   *copy;

	if (!set->columns[0].needed)
		return;
	if (decoder->columns[0].kind == KIND_BYTEA)
	{
		outcome_append_value(set, 0, PointerGetDatum(make_varlena(arena, data, len)), outcome);
		return;
	}
	if (!ref_utf8_valid(data, len) || memchr(data, '\0', len) != NULL)
	{
		reject(outcome, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, -1, "");
		return;
	}
	copy = palloc(len);
	memcpy(copy, data, len);
	(void) predict_value(set, decoder, 0, copy, len, FROM_STRING, arena, outcome);
	pfree(copy);
}

/* May throw, as decoding may.  The decoder is used up: its document is another one afterwards. */
void
oracle_predict(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Outcome *outcome)
{
	Arena		arena;
	int			i;

	exact_arena_init(&arena, CurrentMemoryContext);
	outcome->status = OUTCOME_ACCEPTED;
	outcome->sqlstate = 0;
	outcome->column = -1;
	outcome->message[0] = '\0';
	if (data == NULL)
	{
		for (i = 0; i < set->ncolumns; i++)
		{
			if (set->columns[i].needed && !predict_null(set, decoder, i, outcome))
				return;
		}
		return;
	}
	switch (set->format)
	{
		case CODEC_JSON:
			predict_json(set, decoder, data, len, &arena, outcome);
			break;
		case CODEC_CSV:
			predict_csv(set, decoder, data, len, &arena, outcome);
			break;
		case CODEC_RAW:
			predict_raw(set, decoder, data, len, &arena, outcome);
			break;
	}
}

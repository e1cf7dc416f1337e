/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  One message to one row: metadata columns here, the value by the codec.
 *
 * This is the hot path of every pipeline.  What is known when the reader is
 * made (which columns, in which order, what they are) is laid out in
 * arrays of exactly the needed columns; a message costs one turn over the
 * needed metadata columns and one call of the codec.
 *
 * Text on the wire is UTF-8, as everywhere in Kafka; in a database with
 * another encoding it is converted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "stream/stream_int.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* milliseconds of Kafka (since 1970) that a timestamptz (since 2000) can hold */
#define FIRST_MS		(MIN_TIMESTAMP / 1000 + KAFKA_EPOCH_MS)
#define END_MS			(END_TIMESTAMP / 1000 + KAFKA_EPOCH_MS)

typedef struct MetaColumn
{
	StreamColumnKind kind;
	int			target;			/* attnum - 1 */
	Oid			type;
	bool		not_null;
} MetaColumn;

struct StreamReader
{
	CodecDecoder *decoder;		/* NULL: no payload column is needed */
	AttrNumber *payload_attnums;	/* by index into the decoder's columns */
	int			nmeta;
	MetaColumn *meta;
	AttrNumber	current;		/* metadata column in work, 0: the codec's turn */

	Datum		topic;
	bool		utf8;			/* text needs no conversion */
	const char **names;			/* by attnum - 1 */
	MemoryContext scratch;		/* headers; reset after each use, NULL: not needed */
};

static Datum
text_of_topic(const char *topic, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Datum		datum = CStringGetTextDatum(topic);

	MemoryContextSwitchTo(old);
	return datum;
}

StreamReader *
stream_reader_create(StreamSource *source, const Bitmapset *needed, bool add_event_time, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StreamReader *reader = palloc0(sizeof(StreamReader));
	Bitmapset  *all = bms_copy(needed);
	CodecColumn *columns;
	bool		any_payload = false;
	int			n;

	if (add_event_time && source->event_time > 0)
		all = bms_add_member(all, source->event_time);

	reader->utf8 = GetDatabaseEncoding() == PG_UTF8;
	reader->names = palloc0(sizeof(char *) * Max(source->natts, 1));
	reader->meta = palloc(sizeof(MetaColumn) * Max(source->natts, 1));
	for (int i = 0; i < source->natts; i++)
	{
		const StreamColumn *column = &source->columns[i];
		MetaColumn *meta;

		if (column->kind == STREAM_COL_DROPPED || !bms_is_member(column->attnum, all))
			continue;
		reader->names[i] = pstrdup(column->name);
		if (column->kind == STREAM_COL_PAYLOAD)
		{
			any_payload = true;
			continue;
		}
		meta = &reader->meta[reader->nmeta++];
		meta->kind = column->kind;
		meta->target = i;
		meta->type = column->type;
		meta->not_null = column->not_null;
		if (column->kind == STREAM_COL_TOPIC)
			reader->topic = text_of_topic(source->topic, cxt);
		else if (column->kind == STREAM_COL_HEADERS)
			reader->scratch = AllocSetContextCreate(cxt, "streamproc headers", ALLOCSET_DEFAULT_SIZES);
	}

	if (any_payload)
	{
		n = stream_codec_columns(source, all, &columns);
		reader->payload_attnums = palloc(sizeof(AttrNumber) * n);
		for (int i = 0; i < n; i++)
		{
			columns[i].name = pstrdup(columns[i].name);
			if (columns[i].path)
				columns[i].path = pstrdup(columns[i].path);
			reader->payload_attnums[i] = columns[i].target + 1;
		}
		reader->decoder = codec_decoder_create(&source->codec, columns, n, cxt);
	}
	MemoryContextSwitchTo(old);
	return reader;
}

CodecDecoder *
stream_reader_decoder(StreamReader *reader)
{
	return reader->decoder;
}

void
stream_reader_destroy(StreamReader *reader)
{
	if (reader->decoder)
		codec_decoder_destroy(reader->decoder);
	reader->decoder = NULL;
	if (reader->scratch)
		MemoryContextDelete(reader->scratch);
	reader->scratch = NULL;
}

AttrNumber
stream_reader_current_attnum(StreamReader *reader)
{
	int			column;

	if (reader->current != 0 || reader->decoder == NULL)
		return reader->current;
	column = codec_decoder_current_column(reader->decoder);
	return column < 0 ? 0 : reader->payload_attnums[column];
}

static bool
fail(CodecError *err, const MetaColumn *meta, int sqlstate, const char *message, const char *detail)
{
	err->sqlstate = sqlstate;
	err->column = meta->target + 1;
	strlcpy(err->message, message, sizeof(err->message));
	strlcpy(err->detail, detail, sizeof(err->detail));
	return false;
}

static Datum
copy_bytes(const char *bytes, Size len, Arena *arena)
{
	struct varlena *result = arena_alloc(arena, VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), bytes, len);
	return PointerGetDatum(result);
}

static bool
decode_timestamp(const MetaColumn *meta, const KafkaMessage *message, Datum *value, bool *isnull, CodecError *err)
{
	int64		ms = kafka_message_timestamp(message);

	/* -1 is Kafka's "no timestamp" */
	if (ms == -1)
	{
		*isnull = true;
		return true;
	}
	if (unlikely(ms < FIRST_MS || ms >= END_MS))
		return fail(err, meta, ERRCODE_DATETIME_VALUE_OUT_OF_RANGE,
					"timestamp of the message out of range", "");
	*value = TimestampTzGetDatum((ms - KAFKA_EPOCH_MS) * 1000);
	*isnull = false;
	return true;
}

static bool
decode_key(StreamReader *reader, const MetaColumn *meta, const KafkaMessage *message,
		   Datum *value, bool *isnull, Arena *arena, CodecError *err)
{
	const char *key = message->key;
	Size		len = message->key_len;

	if (key == NULL)
	{
		*isnull = true;
		return true;
	}
	*isnull = false;
	if (meta->type != BYTEAOID)
	{
		if (unlikely(!pg_verify_mbstr(PG_UTF8, key, len, true)))
			return fail(err, meta, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
						"key of the message is not valid UTF-8 text",
						"A column of type bytea can hold any key.");
		if (unlikely(!reader->utf8))
		{
			char	   *converted = pg_any_to_server(key, len, PG_UTF8);

			if (converted != key)
			{
				*value = copy_bytes(converted, strlen(converted), arena);
				pfree(converted);
				return true;
			}
		}
	}
	*value = copy_bytes(key, len, arena);
	return true;
}

static void
decode_headers(StreamReader *reader, const MetaColumn *meta, const KafkaMessage *message,
			   Datum *value, bool *isnull, Arena *arena)
{
	MemoryContext old;
	StringInfoData text;

	/* what an error in the middle left behind */
	MemoryContextReset(reader->scratch);
	old = MemoryContextSwitchTo(reader->scratch);
	initStringInfo(&text);
	*isnull = !kafka_message_headers(message, &text);
	if (!*isnull)
	{
		if (meta->type == JSONBOID)
		{
			Jsonb	   *jsonb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));

			*value = copy_bytes(VARDATA(jsonb), VARSIZE(jsonb) - VARHDRSZ, arena);
		}
		else
			*value = copy_bytes(text.data, text.len, arena);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->scratch);
}

static bool
decode_meta(StreamReader *reader, const KafkaMessage *message, int32 partition,
			Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	for (int i = 0; i < reader->nmeta; i++)
	{
		const MetaColumn *meta = &reader->meta[i];
		Datum	   *value = &values[meta->target];
		bool	   *null = &isnull[meta->target];

		switch (meta->kind)
		{
			case STREAM_COL_PARTITION:
				*value = Int32GetDatum(partition);
				*null = false;
				break;
			case STREAM_COL_OFFSET:
				*value = Int64GetDatum(message->offset);
				*null = false;
				break;
			case STREAM_COL_TOPIC:
				*value = reader->topic;
				*null = false;
				break;
			case STREAM_COL_TIMESTAMP:
				if (!decode_timestamp(meta, message, value, null, err))
					return false;
				break;
			case STREAM_COL_KEY:
				reader->current = meta->target + 1;
				if (!decode_key(reader, meta, message, value, null, arena, err))
					return false;
				break;
			case STREAM_COL_HEADERS:
				reader->current = meta->target + 1;
				decode_headers(reader, meta, message, value, null, arena);
				break;
			default:
				elog(ERROR, "unexpected kind of metadata column: %d", (int) meta->kind);
		}
		if (unlikely(meta->not_null && *null))
		{
			char		text[320];

			snprintf(text, sizeof(text), "null value in column \"%s\" violates not-null constraint",
					 reader->names[meta->target]);
			return fail(err, meta, ERRCODE_NOT_NULL_VIOLATION, text, "");
		}
	}
	return true;
}

bool
stream_reader_decode(StreamReader *reader, const KafkaMessage *message, int32 partition,
					 Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	if (reader->nmeta > 0)
	{
		bool		done = decode_meta(reader, message, partition, values, isnull, arena, err);

		reader->current = 0;
		if (unlikely(!done))
			return false;
	}
	if (reader->decoder &&
		unlikely(!codec_decode(reader->decoder, message->value, message->value_len, values, isnull, arena, err)))
	{
		err->column = err->column < 0 ? 0 : reader->payload_attnums[err->column];
		return false;
	}
	return true;
}

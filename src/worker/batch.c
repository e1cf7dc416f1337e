/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Messages from the consumer to rows that the plan's scans return.
 *
 * A batch is at most max_rows messages and about BATCH_BYTES bytes, in the
 * order of arrival; per partition that is the order of offsets.  Messages are
 * taken in chunks, decoded at once and given back to librdkafka, so that few
 * of its objects are alive and all of them are in the processor's cache.
 *
 * Rows of each source (foreign table) stand in an array of their own.
 * row_ends says, for each message, how many rows each source has up to it, so
 * any run of messages is a run of rows: a failed batch is run again in halves
 * without decoding it again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

#define ARENA_FIRST (1024 * 1024)
#define PREFETCH_AHEAD 4

/*
 * Messages of a full batch: fewer where the foreign tables are wide, as a row
 * has room for all of its table's columns.
 */
static int
rows_that_fit(Program *program)
{
	int			natts = 1;
	int			s;

	for (s = 0; s < program->nsources; s++)
		natts += stream_source_load(program->sources[s].relid)->natts;
	return Max(Min(program->max_rows, BATCH_VALUES_BYTES / (natts * (int) (sizeof(Datum) + sizeof(bool)))),
			   BATCH_CHUNK);
}

Batch *
batch_create(Program *program, PositionRow *position, int pipeline_slot, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Batch	   *batch = palloc0(sizeof(Batch));
	int			i,
				s;

	batch->cxt = AllocSetContextCreate(cxt, "streamproc batch", ALLOCSET_DEFAULT_SIZES);
	arena_init(&batch->arena, cxt, ARENA_FIRST);

	batch->max_rows = rows_that_fit(program);
	batch->messages = palloc(sizeof(BatchMessage) * batch->max_rows);
	batch->nsources = program->nsources;
	batch->sources = palloc0(sizeof(BatchSource) * Max(batch->nsources, 1));
	batch->feeds = palloc0(sizeof(StreamFeed) * Max(batch->nsources, 1));
	batch->row_ends = palloc0(sizeof(int) * batch->max_rows * Max(batch->nsources, 1));
	for (s = 0; s < batch->nsources; s++)
	{
		BatchSource *bs = &batch->sources[s];
		StreamFeed *feed = &batch->feeds[s];

		bs->source = stream_source_load(program->sources[s].relid);
		bs->reader = stream_reader_create(bs->source, program->sources[s].needed, true, cxt);
		bs->values = palloc0(sizeof(Datum) * batch->max_rows * bs->source->natts);
		bs->isnull = palloc(sizeof(bool) * batch->max_rows * bs->source->natts);
		memset(bs->isnull, true, sizeof(bool) * batch->max_rows * bs->source->natts);
		feed->relid = bs->source->relid;
		feed->natts = bs->source->natts;
		feed->values = bs->values;
		feed->isnull = bs->isnull;
		/* a copy: the program may be replaced by one with other plans */
		feed->needed = bms_copy(program->sources[s].needed);
	}

	batch->nparts = position->nparts;
	batch->parts = palloc0(sizeof(TaskPartition) * Max(batch->nparts, 1));
	batch->kafka = palloc0(sizeof(KafkaPartition) * Max(batch->nparts, 1));
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *part = &batch->parts[i];

		part->position = &position->parts[i];
		part->committed = part->taken = part->position->next_offset;
		part->watermark.value = part->position->watermark;
		part->record = part->position->record;
		part->committed_watermark = part->watermark.value;
		part->committed_record = part->record;
		part->slot = partition_slot_claim(pipeline_slot, position->task,
										  part->position->topic, part->position->partition);
		part->sources = palloc(sizeof(int) * Max(batch->nsources, 1));
		for (s = 0; s < batch->nsources; s++)
			if (strcmp(batch->sources[s].source->topic, part->position->topic) == 0)
				part->sources[part->nsources++] = s;
		batch->kafka[i].topic = part->position->topic;
		batch->kafka[i].partition = part->position->partition;
		batch->kafka[i].next_offset = part->committed;
	}
	MemoryContextSwitchTo(old);
	return batch;
}

/* Gives the messages of the present chunk back, decoded or not. */
void
batch_release(Batch *batch)
{
	int			n = batch->npending;

	batch->npending = batch->pending_next = 0;
	if (n > 0)
		kafka_messages_free(batch->pending, n);
}

void
batch_reset(Batch *batch)
{
	int			s;

	Assert(batch->npending == 0);
	batch->nmessages = 0;
	batch->bytes = 0;
	batch->full = false;
	batch->bad = false;
	batch->bad_threw = false;
	for (s = 0; s < batch->nsources; s++)
		batch->sources[s].nrows = 0;
	arena_reset(&batch->arena);
	MemoryContextReset(batch->cxt);
}

/* The batch ends before this message. */
static void
set_bad(Batch *batch, int part, int64 offset, int source, AttrNumber attnum,
		int sqlstate, const char *message, const char *detail)
{
	TaskPartition *tp = &batch->parts[part];
	StreamSource *src = batch->sources[source].source;
	char		text[SHMEM_MESSAGE_LEN];

	/* the codec names the column itself in most of its messages */
	if (attnum > 0 && attnum <= src->natts && strncmp(message, "column \"", 8) != 0)
		snprintf(text, sizeof(text), "column \"%s\" of foreign table \"%s\": %s",
				 src->columns[attnum - 1].name, src->name, message);
	else
		snprintf(text, sizeof(text), "foreign table \"%s\": %s", src->name, message);
	reason_set(&batch->bad_reason, unpack_sql_state(sqlstate), text, detail, NULL);
	strlcpy(batch->bad_reason.topic, tp->position->topic, SHMEM_TOPIC_LEN);
	batch->bad_reason.partition = tp->position->partition;
	batch->bad_reason.offset = offset;
	batch->bad = true;
	batch->bad_part = part;
	batch->bad_offset = offset;
}

/* Decodes one message for each of its sources; false: it is bad. */
static bool
decode_message(Batch *batch, const KafkaMessage *message, TimestampTz now)
{
	TaskPartition *tp = &batch->parts[message->part];
	BatchMessage *bm = &batch->messages[batch->nmessages];
	int			i;

	bm->part = message->part;
	bm->offset = message->offset;
	bm->event_time = WATERMARK_NONE;
	for (i = 0; i < tp->nsources; i++)
	{
		int			s = tp->sources[i];
		BatchSource *bs = &batch->sources[s];
		Datum	   *values = bs->values + (Size) bs->nrows * bs->source->natts;
		bool	   *isnull = bs->isnull + (Size) bs->nrows * bs->source->natts;
		CodecError	err;

		if (!stream_reader_decode(bs->reader, message, tp->position->partition,
								  values, isnull, &batch->arena, &err))
		{
			set_bad(batch, message->part, message->offset, s, err.column,
					err.sqlstate, err.message, err.detail);
			return false;
		}
		if (bs->source->event_time != 0)
		{
			int			att = bs->source->event_time - 1;

			if (!isnull[att])
			{
				TimestampTz event_time = DatumGetTimestampTz(values[att]);

				if (event_time_too_far(event_time, now, bs->source->max_ahead))
				{
					char		detail[SHMEM_MESSAGE_LEN];

					snprintf(detail, sizeof(detail), "It lies more than max_ahead of the foreign table (" INT64_FORMAT " s) after the present time.",
							 (int64) (bs->source->max_ahead / USECS_PER_SEC));
					set_bad(batch, message->part, message->offset, s, bs->source->event_time,
							ERRCODE_DATETIME_FIELD_OVERFLOW, "event time is in the future", detail);
					return false;
				}
				if (event_time > bm->event_time)
					bm->event_time = event_time;
			}
		}
	}
	/* only now: a bad message leaves nothing in any source */
	for (i = 0; i < tp->nsources; i++)
		batch->sources[tp->sources[i]].nrows++;
	for (i = 0; i < batch->nsources; i++)
		batch->row_ends[batch->nmessages * batch->nsources + i] = batch->sources[i].nrows;
	batch->nmessages++;
	batch->bytes += message->value_len + message->key_len;
	return true;
}

/*
 * The bytes were written by librdkafka's thread on another core: asked for
 * some messages ahead they are here when their turn comes.
 */
static inline void
prefetch_message(const Batch *batch, int i)
{
	if (i < batch->npending)
	{
		const char *p = batch->pending[i].value;

		__builtin_prefetch(p);
		__builtin_prefetch(p + 64);
		__builtin_prefetch(p + 128);
		__builtin_prefetch(p + 192);
	}
}

/*
 * Decodes the pending messages and gives them back.  "careful": an error
 * thrown by an input function becomes the message's.
 */
static void
decode_pending(Batch *batch, bool careful)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	for (i = 0; i < batch->nparts; i++)
		batch->parts[i].last_pending = -1;
	for (; batch->pending_next < batch->npending && !batch->bad; batch->pending_next++)
	{
		KafkaMessage *message = &batch->pending[batch->pending_next];
		TaskPartition *tp = &batch->parts[message->part];

		prefetch_message(batch, batch->pending_next + PREFETCH_AHEAD);
		if (tp->position->stop_offset >= 0 && message->offset >= tp->position->stop_offset)
		{
			tp->finished = true;
			continue;
		}
		if (!careful)
			(void) decode_message(batch, message, now);
		else
		{
			MemoryContext old = CurrentMemoryContext;

			PG_TRY();
			{
				(void) decode_message(batch, message, now);
			}
			PG_CATCH();
			{
				ErrorData  *edata;
				AttrNumber	attnum = 0;
				int			source = tp->nsources > 0 ? tp->sources[0] : 0;

				MemoryContextSwitchTo(old);
				edata = CopyErrorData();
				FlushErrorState();
				if (tp->nsources > 0)
					attnum = stream_reader_current_attnum(batch->sources[source].reader);
				if (worker_error_passes(edata->sqlerrcode) || edata->elevel > ERROR)
					ReThrowError(edata);
				set_bad(batch, message->part, message->offset, source, attnum,
						edata->sqlerrcode, edata->message, edata->detail);
				batch->bad_threw = true;
			}
			PG_END_TRY();
		}
		if (batch->bad)
			break;
		tp->taken = message->offset + 1;
		tp->last_pending = batch->pending_next;
	}
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];

		if (tp->last_pending >= 0)
			tp->record = worker_record_mark(&batch->pending[tp->last_pending]);
	}
	/* all at once: the allocator's lock is then not passed to and fro for each */
	batch_release(batch);

	/* the consumer may have passed over control records and reached the end */
	if (!batch->bad)
		for (i = 0; i < batch->nparts; i++)
		{
			TaskPartition *tp = &batch->parts[i];
			int64		next = batch->kafka[i].next_offset;

			if (tp->position->stop_offset >= 0 && next >= tp->position->stop_offset)
			{
				tp->finished = true;
				next = tp->position->stop_offset;
			}
			tp->taken = Max(tp->taken, next);
		}
}

bool
batch_take(Batch *batch, KafkaConsumer *consumer)
{
	int			n;

	batch_reset(batch);
	n = kafka_consumer_poll(consumer, batch->pending, BATCH_CHUNK, BATCH_BYTES);
	batch->npending = n;
	batch->pending_next = 0;
	batch->full = n == BATCH_CHUNK;
	if (n == 0)
		decode_pending(batch, false);	/* moves over what has no rows */
	return n > 0;
}

void
batch_fill(Batch *batch, KafkaConsumer *consumer, bool careful, int limit)
{
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);
	int			want = Min(limit, batch->max_rows);

	decode_pending(batch, careful);
	/* full: the last poll gave what it was asked for, so more is waiting */
	while (batch->full && !batch->bad && batch->nmessages < want && batch->bytes < BATCH_BYTES)
	{
		int			max = Min(BATCH_CHUNK, want - batch->nmessages);

		CHECK_FOR_INTERRUPTS();
		batch->npending = kafka_consumer_poll(consumer, batch->pending, max, BATCH_BYTES - batch->bytes);
		batch->pending_next = 0;
		if (batch->npending == 0)
			batch->full = false;
		decode_pending(batch, careful);
	}
	MemoryContextSwitchTo(old);
}

void
batch_select(Batch *batch, int from, int to)
{
	int			s;

	for (s = 0; s < batch->nsources; s++)
	{
		batch->feeds[s].first = from == 0 ? 0 : batch->row_ends[(from - 1) * batch->nsources + s];
		batch->feeds[s].last = to == 0 ? 0 : batch->row_ends[(to - 1) * batch->nsources + s];
	}
}

void
batch_advance(Batch *batch, int from, int to)
{
	int			i;

	for (i = 0; i < batch->nparts; i++)
	{
		batch->parts[i].advanced = -1;
		batch->parts[i].max_event_time = WATERMARK_NONE;
	}
	for (i = from; i < to; i++)
	{
		BatchMessage *message = &batch->messages[i];
		TaskPartition *tp = &batch->parts[message->part];

		tp->advanced = message->offset + 1;
		if (message->event_time > tp->max_event_time)
			tp->max_event_time = message->event_time;
	}
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];

		if (tp->advanced >= 0)
			tp->position->next_offset = tp->advanced;
		if (tp->max_event_time != WATERMARK_NONE)
			watermark_advance(&tp->watermark, tp->max_event_time,
							  batch->sources[tp->sources[0]].source->watermark_delay);
		if (to == batch->nmessages && !batch->bad)
			tp->position->next_offset = tp->taken;
		tp->position->watermark = tp->watermark.value;
		/* a piece of a batch may end before that record; the one before the batch will do */
		if (to == batch->nmessages)
			tp->position->record = tp->record;
	}
}

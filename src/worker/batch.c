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
 * any run of messages is a run of rows: a failed batch is run again in pieces
 * without decoding it again.
 *
 * BAD MESSAGES
 *	  One that cannot be decoded stays in its place among the messages, without
 *	  rows and with its raw form as a letter (on_error => 'dead_letter'); or the
 *	  batch ends before it (on_error => 'fail').  While the task runs carefully
 *	  all messages are kept in raw form, because any of them may turn out to be
 *	  bad.  An input function that throws has spoilt the transaction: decoding
 *	  goes on in a new one, as nothing has been written yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

#define ARENA_FIRST (1024 * 1024)
/* messages of a batch that are kept as they came */
#define CAREFUL_ROWS PROGRAM_ROWS
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
batch_create(Program *program, PipelineRow *row, PositionRow *position, int pipeline_slot, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Batch	   *batch = palloc0(sizeof(Batch));
	int			i,
				s;

	batch->cxt = AllocSetContextCreate(cxt, "streamproc batch", ALLOCSET_DEFAULT_SIZES);
	arena_init(&batch->arena, cxt, ARENA_FIRST);

	batch->keep_bad = row->dead_letters;
	batch->max_bad_run = row->max_consecutive_errors;
	batch->limit_part = -1;
	batch->max_rows = rows_that_fit(program);
	for (i = 0; i < program->nkeyed; i++)
		if (program->keyed[i].spec->window != OPERATOR_NO_WINDOW || program->keyed[i].spec->ttl > 0)
			batch->needs_event_time = true;
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
	batch->nletters = 0;
	batch->retried = NULL;
	for (s = 0; s < batch->nsources; s++)
	{
		batch->sources[s].nrows = 0;
		batch->feeds[s].skip = NULL;
	}
	arena_reset(&batch->arena);
	MemoryContextReset(batch->cxt);
}

/* ---- bad messages ---- */

static const char *
keep_bytes(Batch *batch, const char *bytes, Size len)
{
	char	   *copy;

	if (bytes == NULL)
		return NULL;
	copy = arena_alloc(&batch->arena, len + 1);
	memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

static const char *
keep_text(Batch *batch, const char *text)
{
	return text == NULL || text[0] == '\0' ? NULL : keep_bytes(batch, text, strlen(text));
}

/* A message as it came, in the batch's arena. */
static void
keep_raw(Batch *batch, const KafkaMessage *message, DeadLetter *letter)
{
	TaskPartition *tp = &batch->parts[message->part];
	StringInfoData headers;

	memset(letter, 0, sizeof(DeadLetter));
	letter->topic = tp->position->topic;
	letter->partition = tp->position->partition;
	letter->offset = message->offset;
	letter->timestamp_ms = kafka_message_timestamp(message);
	letter->key = keep_bytes(batch, message->key, message->key_len);
	letter->key_len = message->key_len;
	letter->value = keep_bytes(batch, message->value, message->value_len);
	letter->value_len = message->value_len;
	initStringInfo(&headers);
	if (kafka_message_headers(message, &headers))
		letter->headers = keep_bytes(batch, headers.data, headers.len);
	pfree(headers.data);
}

static DeadLetter *
new_letter(Batch *batch, int i)
{
	if (batch->nletters == batch->max_letters)
	{
		batch->max_letters = Max(64, batch->max_letters * 2);
		if (batch->letters == NULL)
			batch->letters = MemoryContextAlloc(GetMemoryChunkContext(batch), sizeof(DeadLetter) * batch->max_letters);
		else
			batch->letters = repalloc(batch->letters, sizeof(DeadLetter) * batch->max_letters);
	}
	batch->messages[i].letter = batch->nletters;
	return &batch->letters[batch->nletters++];
}

static void
set_letter_error(Batch *batch, DeadLetter *letter, int sqlstate, const char *message, const char *detail, int statement)
{
	letter->sqlstate = sqlstate;
	letter->message = keep_bytes(batch, message, strlen(message));
	letter->detail = keep_text(batch, detail);
	letter->statement = statement;
	letter->attempts++;
}

void
batch_add_letter(Batch *batch, int i, const ErrorData *edata, int statement)
{
	DeadLetter *letter = new_letter(batch, i);
	int			s;

	*letter = batch->retried != NULL ? *batch->retried[i] : batch->raw[i];
	set_letter_error(batch, letter, edata->sqlerrcode, edata->message, edata->detail, statement);

	/* its rows are not given out any more */
	for (s = 0; s < batch->nsources; s++)
	{
		BatchSource *bs = &batch->sources[s];
		int			first = i == 0 ? 0 : batch->row_ends[(i - 1) * batch->nsources + s];
		int			last = batch->row_ends[i * batch->nsources + s];

		if (bs->skip == NULL)
			bs->skip = MemoryContextAlloc(GetMemoryChunkContext(batch), batch->max_rows);
		if (batch->feeds[s].skip == NULL)
			memset(bs->skip, false, bs->nrows);
		batch->feeds[s].skip = bs->skip;
		memset(bs->skip + first, true, last - first);
	}
}

/* No rows: up to this message each source has as many as before it. */
static void
add_message(Batch *batch, int part, int64 offset, TimestampTz event_time)
{
	BatchMessage *bm = &batch->messages[batch->nmessages];
	int			s;

	bm->part = part;
	bm->letter = -1;
	bm->offset = offset;
	bm->event_time = event_time;
	for (s = 0; s < batch->nsources; s++)
		batch->row_ends[batch->nmessages * batch->nsources + s] = batch->sources[s].nrows;
	batch->nmessages++;
}

/* What is wrong with a message, as the row of dead_letter or the reason of a failed pipeline. */
typedef struct BadMessage
{
	int			source;
	AttrNumber	attnum;
	int			sqlstate;
	const char *message;
	const char *detail;
	bool		of_row;			/* the message's own fault */
} BadMessage;

static void
describe_bad(Batch *batch, const BadMessage *bad, char *text, Size size)
{
	StreamSource *src = batch->sources[bad->source].source;

	/* the codec names the column itself in most of its messages */
	if (bad->attnum > 0 && bad->attnum <= src->natts && strncmp(bad->message, "column \"", 8) != 0)
		snprintf(text, size, "column \"%s\" of foreign table \"%s\": %s",
				 src->columns[bad->attnum - 1].name, src->name, bad->message);
	else
		snprintf(text, size, "foreign table \"%s\": %s", src->name, bad->message);
}

/* Keeps the message, or ends the batch before it. */
static void
take_bad(Batch *batch, const KafkaMessage *message, const BadMessage *bad)
{
	char		text[SHMEM_MESSAGE_LEN];

	describe_bad(batch, bad, text, sizeof(text));
	if (batch->retried != NULL || (bad->of_row && batch->keep_bad))
	{
		int			i = batch->nmessages;
		DeadLetter *letter;

		add_message(batch, message->part, message->offset, WATERMARK_NONE);
		letter = new_letter(batch, i);
		if (batch->retried != NULL)
			*letter = *batch->retried[i];
		else
			keep_raw(batch, message, letter);
		set_letter_error(batch, letter, bad->sqlstate, text, bad->detail, 0);
		batch->bytes += message->value_len + message->key_len;
		return;
	}
	reason_set(&batch->bad_reason, unpack_sql_state(bad->sqlstate), text, bad->detail, NULL);
	strlcpy(batch->bad_reason.topic, batch->parts[message->part].position->topic, SHMEM_TOPIC_LEN);
	batch->bad_reason.partition = batch->parts[message->part].position->partition;
	batch->bad_reason.offset = message->offset;
	batch->bad_of_row = bad->of_row;
	batch->bad = true;
}

int
batch_limit(Batch *batch, int from, int to)
{
	int			i;

	if (batch->nletters == 0 || batch->retried != NULL)
		return to;
	for (i = 0; i < batch->nparts; i++)
		batch->parts[i].limit_run = batch->parts[i].bad_run;
	for (i = from; i < to; i++)
	{
		BatchMessage *message = &batch->messages[i];
		TaskPartition *tp = &batch->parts[message->part];

		tp->limit_run = message->letter >= 0 ? tp->limit_run + 1 : 0;
		if (tp->limit_run >= batch->max_bad_run)
			return i + 1;
	}
	return to;
}

int
batch_message_of_place(Batch *batch, const StreamPlace *place)
{
	int			s = (int) (place->feed - batch->feeds);
	int			low = 0;
	int			high = batch->nmessages;

	if (place->feed == NULL || s < 0 || s >= batch->nsources)
		return -1;
	/* the first message up to which the source has more rows than this one's number: mostly each message has one */
	if (place->row < high && batch->row_ends[place->row * batch->nsources + s] == place->row + 1 &&
		(place->row == 0 || batch->row_ends[(place->row - 1) * batch->nsources + s] == place->row))
		return place->row;
	while (low < high)
	{
		int			mid = low + (high - low) / 2;

		if (batch->row_ends[mid * batch->nsources + s] > place->row)
			high = mid;
		else
			low = mid + 1;
	}
	return low < batch->nmessages ? low : -1;
}

/* ---- decoding ---- */

/*
 * Decodes one message for the sources of its topic; false: it is bad.
 * "sources" are indexes into the batch's.
 */
static bool
decode_message(Batch *batch, const KafkaMessage *message, int partition, const int *sources, int nsources,
			   TimestampTz now, BadMessage *bad, CodecError *err, char *detail)
{
	TimestampTz latest = WATERMARK_NONE;
	int			i;

	for (i = 0; i < nsources; i++)
	{
		int			s = sources[i];
		BatchSource *bs = &batch->sources[s];
		Datum	   *values = bs->values + (Size) bs->nrows * bs->source->natts;
		bool	   *isnull = bs->isnull + (Size) bs->nrows * bs->source->natts;

		if (!stream_reader_decode(bs->reader, message, partition, values, isnull, &batch->arena, err))
		{
			*bad = (BadMessage) {s, err->column, err->sqlstate, err->message, err->detail, true};
			return false;
		}
		if (bs->source->event_time != 0)
		{
			int			att = bs->source->event_time - 1;

			if (unlikely(isnull[att] && batch->needs_event_time))
			{
				*bad = (BadMessage) {s, bs->source->event_time, ERRCODE_NULL_VALUE_NOT_ALLOWED,
					"event time is null", "The query groups by a window of it.", true};
				return false;
			}
			if (!isnull[att])
			{
				TimestampTz event_time = DatumGetTimestampTz(values[att]);

				if (event_time_too_far(event_time, now, bs->source->max_ahead))
				{
					snprintf(detail, SHMEM_MESSAGE_LEN, "It lies more than max_ahead of the foreign table (" INT64_FORMAT " s) after the present time.",
							 (int64) (bs->source->max_ahead / USECS_PER_SEC));
					*bad = (BadMessage) {s, bs->source->event_time, ERRCODE_DATETIME_FIELD_OVERFLOW,
						"event time is in the future", detail, true};
					return false;
				}
				if (event_time > latest)
					latest = event_time;
			}
		}
	}
	/* only now: a bad message leaves nothing in any source */
	for (i = 0; i < nsources; i++)
		batch->sources[sources[i]].nrows++;
	add_message(batch, message->part, message->offset, latest);
	batch->bytes += message->value_len + message->key_len;
	return true;
}

/*
 * The same while the task runs carefully: an error thrown by an input function
 * becomes the message's.  The transaction that it has spoilt is given up for
 * another.
 */
static void
decode_carefully(Batch *batch, const KafkaMessage *message, int partition, const int *sources, int nsources, TimestampTz now)
{
	MemoryContext old = CurrentMemoryContext;
	ErrorData  *volatile edata = NULL;
	volatile bool good = false;
	BadMessage	bad;
	CodecError	err;
	char		detail[SHMEM_MESSAGE_LEN];

	PG_TRY();
	{
		good = decode_message(batch, message, partition, sources, nsources, now, &bad, &err, detail);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		edata = CopyErrorData();
		if (worker_error_passes(edata->sqlerrcode) || edata->elevel > ERROR)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	if (edata != NULL)
	{
		int			source = nsources > 0 ? sources[0] : 0;
		int			i;

		/* the source whose reader was at work is the one that names a column */
		for (i = 0; i < nsources; i++)
			if (stream_reader_current_attnum(batch->sources[sources[i]].reader) != 0)
				source = sources[i];
		bad = (BadMessage) {source, stream_reader_current_attnum(batch->sources[source].reader), edata->sqlerrcode,
			edata->message, edata->detail, worker_error_of_row(edata)};
		checkpoint_abort();
		checkpoint_begin();
		MemoryContextSwitchTo(old);
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	if (!good)
		take_bad(batch, message, &bad);
}

/*
 * The bytes were written by librdkafka's thread on another core: asked for
 * some messages ahead they are here when their turn comes.
 */
static pg_attribute_always_inline void
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

/* Decodes the pending messages and gives them back. */
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
		{
			BadMessage	bad;
			CodecError	err;
			char		detail[SHMEM_MESSAGE_LEN];

			if (unlikely(!decode_message(batch, message, tp->position->partition, tp->sources, tp->nsources,
										 now, &bad, &err, detail)))
				take_bad(batch, message, &bad);
		}
		else
		{
			keep_raw(batch, message, &batch->raw[batch->nmessages]);
			decode_carefully(batch, message, tp->position->partition, tp->sources, tp->nsources, now);
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

	if (careful)
	{
		want = Min(want, CAREFUL_ROWS);
		if (batch->raw == NULL)
			batch->raw = MemoryContextAlloc(GetMemoryChunkContext(batch), sizeof(DeadLetter) * CAREFUL_ROWS);
	}
	/* input functions of domains may run queries */
	PushActiveSnapshot(GetTransactionSnapshot());
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
	PopActiveSnapshot();
	MemoryContextSwitchTo(old);
}

void
batch_retry(Batch *batch, List *letters)
{
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *lc;

	Assert(batch->nmessages == 0 && list_length(letters) <= batch->max_rows);
	batch->retried = palloc(sizeof(DeadLetter *) * Max(list_length(letters), 1));
	foreach(lc, letters)
		batch->retried[foreach_current_index(lc)] = lfirst(lc);
	PushActiveSnapshot(GetTransactionSnapshot());
	foreach(lc, letters)
	{
		DeadLetter *letter = lfirst(lc);
		KafkaKept	kept = {letter->timestamp_ms, letter->headers};
		KafkaMessage message = {0};
		int		   *sources = palloc(sizeof(int) * Max(batch->nsources, 1));
		int			nsources = 0;
		int			s;

		CHECK_FOR_INTERRUPTS();
		message.value = unconstify(char *, letter->value);
		message.value_len = letter->value_len;
		message.key = unconstify(char *, letter->key);
		message.key_len = letter->key_len;
		message.offset = letter->offset;
		message.part = -1;
		message.kept = &kept;
		for (s = 0; s < batch->nsources; s++)
			if (strcmp(batch->sources[s].source->topic, letter->topic) == 0)
				sources[nsources++] = s;
		if (nsources > 0)
			decode_carefully(batch, &message, letter->partition, sources, nsources, now);
		else
		{
			/* without a source it would give no rows, and be gone */
			BadMessage	bad = {0, 0, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			"the pipeline does not read this topic any more", NULL, true};

			take_bad(batch, &message, &bad);
		}
	}
	PopActiveSnapshot();
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

	/* dead letters stand beside the order of the partitions */
	if (batch->retried != NULL)
		return;
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
		if (likely(message->letter < 0))
			tp->bad_run = 0;
		else if (++tp->bad_run >= batch->max_bad_run)
			batch->limit_part = message->part;
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

/*-------------------------------------------------------------------------
 *
 * peek.c
 *	  SELECT on a topic: read it once, from its start (or where conditions
 *	  allow to start) to its end as of the first row asked for.
 *
 * States of a peek: closed (no consumer; after begin, restart and the end of the
 * scan) and open.  Opening evaluates the conditions, asks the cluster where
 * partitions begin and end, and assigns what is not empty.  The ends are asked
 * for once; a restarted scan returns the same range again.
 *
 * What may narrow the range: bounds of partition and offset directly; a lower
 * bound of the timestamp by the broker's index, since no record before the
 * offset that it answers is as young.  An upper bound of the timestamp cannot, as
 * timestamps need not rise; it stays a filter.
 *
 * Memory: everything lives in one context below the executor's; handles of
 * kafka/ close themselves with it, so also when the statement fails, a cursor
 * is dropped, or a subtransaction rolls back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "stream/stream_int.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define BATCH_MESSAGES	1024
#define BATCH_BYTES		(1024 * 1024)
#define ARENA_SIZE		(64 * 1024)
#define MAX_PARTITIONS	100000

/* What the conditions leave of a topic. */
typedef struct PeekRange
{
	bool		nothing;		/* no row can satisfy them */
	bool		all_partitions;
	List	   *partitions;		/* IntList, unless all */
	int64		first_offset;
	int64		end_offset;		/* exclusive */
	int64		first_ms;		/* lowest timestamp; 0: none */
} PeekRange;

struct StreamPeek
{
	StreamSource *source;
	Oid			userid;
	MemoryContext cxt;			/* as long as the scan */
	MemoryContext open_cxt;		/* from opening to closing */
	ExprContext *econtext;
	List	   *exprs;			/* ExprState of fdw_exprs */
	List	   *columns;		/* IntLists beside them */
	List	   *strategies;
	Bitmapset  *needed;
	bool		may_throw;		/* some needed column is read by an input function */

	/* the ends, asked for once */
	int			npartitions;	/* -1: not asked yet */
	int64	   *begins;
	int64	   *ends;

	/* open */
	bool		open;
	bool		finished;
	KafkaConsumer *consumer;	/* NULL: nothing to read */
	KafkaPartition *parts;
	int64	   *part_ends;
	bool	   *part_done;
	int			nparts;
	int			nleft;			/* parts that are not done */
	StreamReader *reader;
	Arena		arena;
	KafkaMessage *messages;
	int			nmessages;
	int			next;

	/* for error messages, and what ANALYZE shows */
	const KafkaMessage *current;
	AttrNumber	current_attnum;
	int64		nread;
	int64		nskipped;
	char	   *first_skipped;
};

/* ---- begin, end ---- */

/* Types that the codec decodes itself, returning errors instead of throwing. */
static bool
type_never_throws(Oid type)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case BOOLOID:
		case TEXTOID:
		case VARCHAROID:
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
		case UUIDOID:
		case BYTEAOID:
			return true;
		default:
			return false;
	}
}

static void
peek_closed(StreamPeek *peek)
{
	peek->open = false;
	peek->finished = false;
	peek->consumer = NULL;
	peek->reader = NULL;
	peek->messages = NULL;
	peek->nmessages = 0;
	peek->next = 0;
	peek->current = NULL;
}

StreamPeek *
stream_peek_begin(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	EState	   *estate = node->ss.ps.state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	RangeTblEntry *rte = exec_rt_fetch(plan->scan.scanrelid, estate);
	MemoryContext cxt = AllocSetContextCreate(estate->es_query_cxt, "streamproc peek", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StreamPeek *peek = palloc0(sizeof(StreamPeek));
	ListCell   *lc;

	peek->cxt = cxt;
	peek->open_cxt = AllocSetContextCreate(cxt, "streamproc peek connection", ALLOCSET_DEFAULT_SIZES);
	peek->source = stream_source_load(stream_scan_relid(plan));
	peek->userid = OidIsValid(rte->checkAsUser) ? rte->checkAsUser : GetUserId();
	peek->econtext = node->ss.ps.ps_ExprContext;
	peek->columns = list_nth(plan->fdw_private, STREAM_PLAN_COND_COLUMNS);
	peek->strategies = list_nth(plan->fdw_private, STREAM_PLAN_COND_STRATEGIES);
	peek->npartitions = -1;
	foreach(lc, stream_scan_needed(plan))
	{
		StreamColumn *column = &peek->source->columns[lfirst_int(lc) - 1];

		peek->needed = bms_add_member(peek->needed, column->attnum);
		/* conversion to another encoding than UTF-8 throws, too */
		if (column->kind == STREAM_COL_HEADERS ||
			(column->kind == STREAM_COL_KEY && GetDatabaseEncoding() != PG_UTF8) ||
			(column->kind == STREAM_COL_PAYLOAD && !type_never_throws(column->type)))
			peek->may_throw = true;
	}
	peek_closed(peek);
	MemoryContextSwitchTo(old);
	peek->exprs = ExecInitExprList(plan->fdw_exprs, &node->ss.ps);

	memset(slot->tts_values, 0, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return peek;
}

static void
peek_close(StreamPeek *peek)
{
	peek_closed(peek);
	MemoryContextReset(peek->open_cxt);
}

void
stream_peek_restart(StreamPeek *peek)
{
	peek_close(peek);
}

void
stream_peek_end(StreamPeek *peek)
{
	if (peek->nskipped > 0)
		ereport(NOTICE,
				(errmsg_plural("skipped " INT64_FORMAT " record of topic \"%s\" that cannot be decoded",
							   "skipped " INT64_FORMAT " records of topic \"%s\" that cannot be decoded",
							   (unsigned long) peek->nskipped, peek->nskipped, peek->source->topic),
				 errdetail_internal("%s", peek->first_skipped)));
	peek_close(peek);
	MemoryContextDelete(peek->cxt);
}

void
stream_peek_explain(StreamPeek *peek, ExplainState *es)
{
	ExplainPropertyInteger("Records Read", NULL, peek->nread, es);
	if (peek->source->skip_bad_rows)
		ExplainPropertyInteger("Records Skipped", NULL, peek->nskipped, es);
}

/* ---- conditions ---- */

static void
narrow_offsets(PeekRange *range, int strategy, int64 value)
{
	switch (strategy)
	{
		case BTLessStrategyNumber:
			range->end_offset = Min(range->end_offset, value);
			break;
		case BTLessEqualStrategyNumber:
			if (value < PG_INT64_MAX)
				range->end_offset = Min(range->end_offset, value + 1);
			break;
		case BTEqualStrategyNumber:
			range->first_offset = Max(range->first_offset, value);
			if (value < PG_INT64_MAX)
				range->end_offset = Min(range->end_offset, value + 1);
			break;
		case BTGreaterEqualStrategyNumber:
			range->first_offset = Max(range->first_offset, value);
			break;
		case BTGreaterStrategyNumber:
			if (value == PG_INT64_MAX)
				range->nothing = true;
			else
				range->first_offset = Max(range->first_offset, value + 1);
			break;
	}
}

/*
 * A lower bound (=, >= or >), rounded to the first millisecond that can
 * satisfy it: messages have whole ones.
 */
static void
narrow_timestamps(PeekRange *range, int strategy, TimestampTz value)
{
	int64		us;
	int64		ms;

	if (TIMESTAMP_IS_NOBEGIN(value))
		return;
	if (TIMESTAMP_IS_NOEND(value))
	{
		range->nothing = true;	/* no message is from then */
		return;
	}
	us = value + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	if (us <= 0)
		return;
	ms = us / 1000;
	if (us % 1000 != 0 || strategy == BTGreaterStrategyNumber)
		ms++;
	range->first_ms = Max(range->first_ms, ms);
}

static void
narrow_partitions(PeekRange *range, List *partitions)
{
	range->partitions = range->all_partitions ? partitions :
		list_intersection_int(range->partitions, partitions);
	range->all_partitions = false;
}

/* The partition numbers that satisfy a comparison, out of 0 .. n - 1. */
static List *
matching_partitions(int strategy, int64 value, int n)
{
	List	   *result = NIL;

	for (int i = 0; i < n; i++)
	{
		bool		match;

		switch (strategy)
		{
			case BTLessStrategyNumber:
				match = i < value;
				break;
			case BTLessEqualStrategyNumber:
				match = i <= value;
				break;
			case BTEqualStrategyNumber:
				match = i == value;
				break;
			case BTGreaterEqualStrategyNumber:
				match = i >= value;
				break;
			default:
				match = i > value;
				break;
		}
		if (match)
			result = lappend_int(result, i);
	}
	return result;
}

static List *
array_partitions(Datum array, int n)
{
	List	   *result = NIL;
	Datum	   *elements;
	bool	   *nulls;
	int			nelements;

	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &elements, &nulls, &nelements);
	for (int i = 0; i < nelements; i++)
	{
		int64		value = DatumGetInt64(elements[i]);

		if (!nulls[i] && value >= 0 && value < n)
			result = list_append_unique_int(result, (int) value);
	}
	return result;
}

/* In the context of the connection, as lists are made. */
static void
evaluate_conditions(StreamPeek *peek, PeekRange *range)
{
	ListCell   *expr;
	ListCell   *column;
	ListCell   *strategy;

	range->nothing = false;
	range->all_partitions = true;
	range->partitions = NIL;
	range->first_offset = 0;
	range->end_offset = PG_INT64_MAX;
	range->first_ms = 0;

	forthree(expr, peek->exprs, column, peek->columns, strategy, peek->strategies)
	{
		bool		isnull;
		Datum		value = ExecEvalExprSwitchContext(lfirst(expr), peek->econtext, &isnull);

		/* all of these operators are strict */
		if (isnull)
		{
			range->nothing = true;
			continue;
		}
		if (lfirst_int(column) == STREAM_COL_OFFSET)
			narrow_offsets(range, lfirst_int(strategy), DatumGetInt64(value));
		else if (lfirst_int(column) == STREAM_COL_TIMESTAMP)
			narrow_timestamps(range, lfirst_int(strategy), DatumGetTimestampTz(value));
		else if (lfirst_int(strategy) == STREAM_STRATEGY_ANY)
			narrow_partitions(range, array_partitions(value, peek->npartitions));
		else
			narrow_partitions(range, matching_partitions(lfirst_int(strategy), DatumGetInt64(value),
														 peek->npartitions));
	}
}

/* ---- open ---- */

static int
remaining_ms(int64 deadline_us)
{
	int64		left = (deadline_us - monotonic_us()) / 1000;

	return left < 1 ? 1 : (int) left;
}

static void
ask_offsets(StreamPeek *peek, KafkaClient *client, const int32 *partitions, int n,
			KafkaSeek seek, int64 ms, int64 *offsets, int64 deadline_us)
{
	StreamSource *source = peek->source;
	KafkaError	err;

	if (!kafka_client_offsets(client, source->topic, partitions, n, seek, ms,
							  offsets, remaining_ms(deadline_us), &err))
		stream_report_failure(source->topic, source->serverid, peek->userid, err.failure, err.message);
}

/* How many partitions there are, and where each begins and ends now. */
static void
ask_ends(StreamPeek *peek, KafkaClient *client, int64 deadline_us)
{
	StreamSource *source = peek->source;
	KafkaError	err;
	int			n = kafka_client_partitions(client, source->topic, remaining_ms(deadline_us), &err);

	if (n < 0)
		stream_report_failure(source->topic, source->serverid, peek->userid, err.failure, err.message);
	if (n > MAX_PARTITIONS)
		elog(ERROR, "topic \"%s\" has %d partitions", source->topic, n);
	peek->begins = MemoryContextAllocZero(peek->cxt, sizeof(int64) * Max(n, 1));
	peek->ends = MemoryContextAllocZero(peek->cxt, sizeof(int64) * Max(n, 1));
	ask_offsets(peek, client, NULL, n, KAFKA_SEEK_LATEST, 0, peek->ends, deadline_us);
	ask_offsets(peek, client, NULL, n, KAFKA_SEEK_EARLIEST, 0, peek->begins, deadline_us);
	peek->npartitions = n;
}

/* One more partition to read, where there is something in the range. */
static void
add_partition(StreamPeek *peek, int partition, int64 first, int64 end)
{
	KafkaPartition *part;

	if (first >= end)
		return;
	part = &peek->parts[peek->nparts];
	part->topic = peek->source->topic;
	part->partition = partition;
	part->next_offset = first;
	peek->part_ends[peek->nparts] = end;
	peek->nparts++;
}

static void
peek_open(StreamPeek *peek)
{
	MemoryContext old = MemoryContextSwitchTo(peek->open_cxt);
	StreamSource *source = peek->source;
	KafkaConf  *conf = stream_server_conf(source->serverid, peek->userid);
	int64		deadline_us = monotonic_us() + (int64) streamproc_connect_timeout * 1000;
	ErrorContextCallback callback;
	KafkaClient *client;
	PeekRange	range;
	int32	   *partitions;
	int64	   *firsts;
	int			n = 0;

	callback.callback = stream_connection_context;
	callback.arg = stream_connection_hint(source->serverid, peek->userid);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	client = kafka_client_open(conf);
	if (peek->npartitions < 0)
		ask_ends(peek, client, deadline_us);
	evaluate_conditions(peek, &range);

	peek->parts = palloc0(sizeof(KafkaPartition) * Max(peek->npartitions, 1));
	peek->part_ends = palloc0(sizeof(int64) * Max(peek->npartitions, 1));
	peek->nparts = 0;
	partitions = palloc(sizeof(int32) * Max(peek->npartitions, 1));
	firsts = palloc0(sizeof(int64) * Max(peek->npartitions, 1));
	for (int i = 0; i < peek->npartitions && !range.nothing; i++)
		if (range.all_partitions || list_member_int(range.partitions, i))
			partitions[n++] = i;
	if (n > 0 && range.first_ms > 0)
		ask_offsets(peek, client, partitions, n, KAFKA_SEEK_TIMESTAMP, range.first_ms, firsts, deadline_us);
	for (int i = 0; i < n; i++)
	{
		int			p = partitions[i];

		add_partition(peek, p, Max(Max(peek->begins[p], range.first_offset), firsts[i]),
					  Min(peek->ends[p], range.end_offset));
	}
	kafka_client_close(client);

	peek->nleft = peek->nparts;
	peek->part_done = palloc0(sizeof(bool) * Max(peek->nparts, 1));
	if (peek->nparts > 0)
	{
		peek->reader = stream_reader_create(source, peek->needed, false, peek->open_cxt);
		arena_init(&peek->arena, peek->open_cxt, ARENA_SIZE);
		peek->messages = palloc(sizeof(KafkaMessage) * BATCH_MESSAGES);
		peek->consumer = kafka_consumer_open(conf, peek->parts, peek->nparts, streamproc_queue_size);
	}
	error_context_stack = callback.previous;
	peek->open = true;
	MemoryContextSwitchTo(old);
}

/* ---- read ---- */

static void
check_partition(StreamPeek *peek, KafkaPartition *part)
{
	if (part->error == KAFKA_PART_OK)
		return;
	ereport(ERROR,
			(errcode(part->error == KAFKA_PART_OUT_OF_RANGE ? ERRCODE_DATA_EXCEPTION : ERRCODE_FDW_ERROR),
			 errmsg("could not read partition %d of topic \"%s\" from offset " INT64_FORMAT,
					part->partition, peek->source->topic, part->next_offset),
			 errdetail_internal("%s", part->error_message),
			 part->error == KAFKA_PART_OUT_OF_RANGE ?
			 errhint("Records were deleted while they were being read. Run the statement again.") : 0));
}

/* Marks the partitions that have reached their end. */
static void
check_ends(StreamPeek *peek)
{
	for (int i = 0; i < peek->nparts; i++)
	{
		KafkaPartition *part = &peek->parts[i];

		if (peek->part_done[i])
			continue;
		check_partition(peek, part);
		if (part->at_end || part->next_offset >= peek->part_ends[i])
		{
			peek->part_done[i] = true;
			peek->nleft--;
			kafka_consumer_hold(peek->consumer, i, true);
		}
	}
}

static void
wait_for_messages(StreamPeek *peek, int64 waiting_since_us)
{
	int			sleep_ms = kafka_consumer_sleep_ms(peek->consumer);
	KafkaError	err;

	if (kafka_consumer_topic_missing(peek->consumer))
		stream_report_failure(peek->source->topic, peek->source->serverid, peek->userid, KAFKA_NO_TOPIC, "");
	if (monotonic_us() - waiting_since_us > (int64) streamproc_connect_timeout * 1000 &&
		!kafka_consumer_connected(peek->consumer, &err))
		stream_report_failure(peek->source->topic, peek->source->serverid, peek->userid,
							  err.failure, err.message);
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 kafka_consumer_fd(peek->consumer),
							 Min(sleep_ms, 200), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The next message inside the range, or NULL at the end of all partitions. */
static const KafkaMessage *
next_message(StreamPeek *peek)
{
	int64		waiting_since_us = 0;

	for (;;)
	{
		while (peek->next < peek->nmessages)
		{
			const KafkaMessage *message = &peek->messages[peek->next++];

			/* behind the end as of the start of the scan */
			if (message->offset < peek->part_ends[message->part])
				return message;
		}
		if (peek->nmessages > 0)
		{
			kafka_messages_free(peek->messages, peek->nmessages);
			peek->nmessages = 0;
			peek->next = 0;
		}
		CHECK_FOR_INTERRUPTS();

		/* the messages of this round are checked against ends when taken */
		check_ends(peek);
		if (peek->nleft == 0)
			return NULL;
		peek->nmessages = kafka_consumer_poll(peek->consumer, peek->messages, BATCH_MESSAGES, BATCH_BYTES);
		if (peek->nmessages > 0)
		{
			waiting_since_us = 0;
			continue;
		}
		check_ends(peek);
		if (peek->nleft == 0)
			return NULL;
		if (waiting_since_us == 0)
			waiting_since_us = monotonic_us();
		wait_for_messages(peek, waiting_since_us);
	}
}

/* ---- decode ---- */

static void
add_position(const StreamPeek *peek, const KafkaMessage *message, AttrNumber attnum)
{
	int32		partition = peek->parts[message->part].partition;

	if (attnum > 0)
		errcontext("topic \"%s\", partition %d, offset " INT64_FORMAT ", column \"%s\"",
				   peek->source->topic, partition, message->offset,
				   peek->source->columns[attnum - 1].name);
	else
		errcontext("topic \"%s\", partition %d, offset " INT64_FORMAT,
				   peek->source->topic, partition, message->offset);
}

static void
decode_context(void *arg)
{
	StreamPeek *peek = arg;

	add_position(peek, peek->current, stream_reader_current_attnum(peek->reader));
}

static void
bad_record_context(void *arg)
{
	StreamPeek *peek = arg;

	add_position(peek, peek->current, peek->current_attnum);
}

static void
report_bad_record(StreamPeek *peek, const KafkaMessage *message, const CodecError *err)
{
	ErrorContextCallback callback;

	peek->current = message;
	peek->current_attnum = err->column;
	callback.callback = bad_record_context;
	callback.arg = peek;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	ereport(ERROR,
			(errcode(err->sqlstate),
			 errmsg_internal("%s", err->message),
			 err->detail[0] ? errdetail_internal("%s", err->detail) : 0,
			 errhint("ALTER FOREIGN TABLE ... OPTIONS (ADD bad_rows 'skip') makes SELECT pass over records that cannot be decoded.")));
}

static void
count_skipped(StreamPeek *peek, const KafkaMessage *message, const char *text)
{
	if (peek->nskipped++ == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(peek->cxt);

		peek->first_skipped = psprintf("The first one is at offset " INT64_FORMAT " of partition %d: %s.",
									   message->offset, peek->parts[message->part].partition, text);
		MemoryContextSwitchTo(old);
	}
}

/* Errors that say something about the record and not about the server. */
static bool
is_error_of_record(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION ||
		category == ERRCODE_PLPGSQL_ERROR;
}

static bool
decode(StreamPeek *peek, const KafkaMessage *message, TupleTableSlot *slot, CodecError *err)
{
	ErrorContextCallback callback;
	bool		done;

	peek->current = message;
	callback.callback = decode_context;
	callback.arg = peek;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	done = stream_reader_decode(peek->reader, message, peek->parts[message->part].partition,
								slot->tts_values, slot->tts_isnull, &peek->arena, err);
	error_context_stack = callback.previous;
	return done;
}

/*
 * Decodes where an input function may throw and the record shall then be
 * passed over: that takes a subtransaction, as such functions may do anything.
 */
static bool
decode_in_subtransaction(StreamPeek *peek, const KafkaMessage *message, TupleTableSlot *slot, CodecError *err)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		done = decode(peek, message, slot, err);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		/* first: who catches it aborts his own transaction, and would be left in ours */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		if (!is_error_of_record(error->sqlerrcode))
			ReThrowError(error);
		err->sqlstate = error->sqlerrcode;
		err->column = 0;
		strlcpy(err->message, error->message, sizeof(err->message));
		err->detail[0] = '\0';
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return done;
}

TupleTableSlot *
stream_peek_next(StreamPeek *peek, ForeignScanState *node)
{
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (peek->finished)
		return slot;
	if (!peek->open)
		peek_open(peek);

	while (peek->consumer != NULL)
	{
		const KafkaMessage *message = next_message(peek);
		CodecError	err;
		bool		done;

		if (message == NULL)
			break;
		peek->nread++;
		arena_reset(&peek->arena);
		if (peek->source->skip_bad_rows && peek->may_throw)
			done = decode_in_subtransaction(peek, message, slot, &err);
		else
			done = decode(peek, message, slot, &err);
		if (likely(done))
			return ExecStoreVirtualTuple(slot);
		if (!peek->source->skip_bad_rows)
			report_bad_record(peek, message, &err);
		count_skipped(peek, message, err.message);
	}

	/* the connection is not needed any more, a restart opens another one */
	peek_close(peek);
	peek->open = true;
	peek->finished = true;
	return slot;
}

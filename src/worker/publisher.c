/*-------------------------------------------------------------------------
 *
 * publisher.c
 *	  Sends the messages of a pipeline's outbox to Kafka.
 *
 * What stands in the outbox is committed, and nobody sees it in Kafka before it
 * is durable.  A Kafka transaction holds the messages of whole segments, and the
 * position reached: how many messages were ever sent, and the last segment of
 * each stream.  Segments are deleted afterwards, now and then, with the same
 * position in publisher_position: PostgreSQL may be behind Kafka, never ahead.
 *
 * A START, and every failure, goes this way:
 *
 *	  init		ends the transaction of whoever sent before us
 *	  look		asks Kafka for the position, which is final now
 *	  compare	it with publisher_position and the outbox (publisher_position.c)
 *	  sign		a new id of ours is stored in PostgreSQL, durably, then in Kafka:
 *				who finds another one knows that it is not alone, or was set back
 *	  go		from the position on
 *
 * Messages are numbered when they are sent, from the position on, so the number
 * of a message is the same whoever sends it in the end.
 *
 * No transaction of PostgreSQL is open while Kafka is waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "worker/publisher.h"

/* of the outbox, at the first look of a transaction, all streams together; half of it after a time-out, twice as much after a success */
#define READ_BYTES			PUBLISHER_READ_BYTES
#define READ_LEAST			((Size) 32 * 1024)
#define KAFKA_TIMEOUT_MS	15000
#define ASK_TIMEOUT_MS		5000
/* what was sent is deleted so often, or when it is much */
#define DELETE_US			(20 * 1000)
#define DELETE_BYTES		((int64) 8 * 1024 * 1024)
/* stored positions expire in Kafka after 7 days without a commit */
#define RENEW_US			(INT64CONST(3600) * 1000000)
#define PAUSE_MOST_MS		5000
/* see wait_for_more() */
#define FEW_MESSAGES		16
#define FEW_BYTES			READ_LEAST
#define FEW_RUN				2
#define FEW_PERIOD_US		(10 * 1000)
#define FEW_ANNOUNCE_US		(2 * 1000)

Publisher  *my_publisher;

/* ---- what it waits for ---- */

static void
show_waiting(const char *sqlstate, const char *message, const char *hint)
{
	Reason		reason;

	reason_set(&reason, sqlstate, message, NULL, hint);
	if (my_publisher->failures == 1)
		ereport(LOG,
				(errmsg("publisher of pipeline \"%s\" cannot send: %s", my_publisher->row->name, message),
				 errhint("%s", hint)));
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_publisher->pipeline->last_error = reason;
	LWLockRelease(shmem->lock);
	worker_set_waiting(&reason);
}

void
publisher_close_kafka(void)
{
	if (my_publisher->kafka != NULL)
		kafka_publisher_close(my_publisher->kafka);
	my_publisher->kafka = NULL;
}

/* The handle is of no use any more: another one is opened after a pause. */
static void
give_up_handle(const KafkaError *err)
{
	char		message[SHMEM_MESSAGE_LEN];
	char		hint[SHMEM_MESSAGE_LEN];

	my_publisher->failures++;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (err->failure == KAFKA_FENCED)
		my_publisher->pipeline->publish_fencings++;
	my_publisher->pipeline->publish_retries++;
	LWLockRelease(shmem->lock);
	counter_add(&my_publisher->slot->retries, 1);
	switch (err->failure)
	{
		case KAFKA_NO_TOPIC:
			snprintf(message, sizeof(message), "topic \"%s\" does not exist", err->message);
			show_waiting("42704", message, "Create the topic; the publisher goes on by itself.");
			break;
		case KAFKA_FENCED:
			snprintf(message, sizeof(message), "Kafka has ended the producer: %s", err->message);
			show_waiting("40001", message, "The publisher goes on by itself, unless another server sends the same messages.");
			break;
		case KAFKA_FORBIDDEN:
			snprintf(message, sizeof(message), "Kafka does not allow it: %s", err->message);
			snprintf(hint, sizeof(hint),
					 "Allow the user of the server's user mapping to write to the topics and to create \"" PUBLISHER_TOPIC "\", and to use \"%s\" as group and transactional id, and \"%s-2\" as transactional id; the publisher goes on by itself.",
					 my_publisher->group, my_publisher->group);
			show_waiting("42501", message, hint);
			break;
		case KAFKA_UNREACHABLE:
		case KAFKA_LOGIN_FAILED:
		case KAFKA_NOT_ALLOWED:
			worker_describe_failure(message, sizeof(message), err);
			show_waiting(err->failure == KAFKA_LOGIN_FAILED ? "28000" : err->failure == KAFKA_NOT_ALLOWED ? "42501" : "08001", message,
						 err->failure == KAFKA_NOT_ALLOWED ? KAFKA_NOT_ALLOWED_HINT :
						 "Check the broker and the options of the server and user mapping; the publisher goes on by itself.");
			break;
		default:
			snprintf(message, sizeof(message), "Kafka refuses: %s", err->message);
			show_waiting("08000", message, "The publisher goes on by itself.");
			break;
	}
	publisher_close_kafka();
}

static void
pause_after_failure(void)
{
	int64		until = monotonic_us() + Min(worker_backoff_us(my_publisher->failures), (int64) PAUSE_MOST_MS * 1000);

	for (int64 left = until - monotonic_us(); left > 0 && !worker_stop_requested(); left = until - monotonic_us())
		worker_wait(Max(left / 1000, 1));
}

/* ---- durability ---- */

/*
 * All that the snapshot of the last transaction saw is on disk afterwards, and
 * on the synchronous standby where there is one: who commits without waiting
 * for it is seen by others before it is.
 */
static void
make_durable(void)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();

	FAULT_POINT("publisher-before-durable");
	/* at the beginning of a page it stands behind a header that nobody has written yet */
	if (XLogSegmentOffset(lsn, wal_segment_size) == SizeOfXLogLongPHD)
		lsn -= SizeOfXLogLongPHD;
	else if (lsn % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		lsn -= SizeOfXLogShortPHD;
	XLogFlush(lsn);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(lsn, true);
	RESUME_INTERRUPTS();
	CHECK_FOR_INTERRUPTS();
}

/*
 * What is in a Kafka transaction nobody sees before its commit: the disk is waited
 * for while the messages are on their way.  Not for a standby, which may take long,
 * and would hold the transaction open.
 */
static bool
is_flushed_late(void)
{
	return !my_publisher->row->at_least_once && !worker_waits_for_standby();
}

/* ---- start ---- */

static void
load(void)
{
	MemoryContext old;
	Program    *program;

	checkpoint_begin();
	my_publisher->row = worker_load_pipeline(my_publisher->cxt);
	worker_works_by(my_publisher->row->version);
	worker_apply_settings(my_publisher->row);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_load(my_publisher->row->procedure, my_publisher->row->trust_owners, my_publisher->row->arrival, my_publisher->row->state_ttl);
	program_check_rights(program);
	PopActiveSnapshot();
	my_publisher->server = program->sink_server;
	my_publisher->is_keyed = program->is_keyed;
	program_free(program);
	old = MemoryContextSwitchTo(my_publisher->cxt);
	snprintf(my_publisher->group, sizeof(my_publisher->group), "streamproc-%s",
			 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&my_publisher->row->id))));
	MemoryContextSwitchTo(old);
	checkpoint_commit();
	/* nothing is sent that a failover could take back, whatever the role has set */
	SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
}

static KafkaConf *
load_conf(void)
{
	KafkaConf  *conf;
	MemoryContext old;

	MemoryContextReset(my_publisher->handle_cxt);
	checkpoint_begin();
	(void) worker_load_pipeline(CurrentMemoryContext);
	old = MemoryContextSwitchTo(my_publisher->handle_cxt);
	conf = stream_server_conf(my_publisher->server, GetUserId());
	MemoryContextSwitchTo(old);
	checkpoint_commit();
	return conf;
}

static bool
deliver(int64 number, const char *metadata, void (*meanwhile) (void), KafkaError *err)
{
	return kafka_publisher_deliver(my_publisher->kafka, PUBLISHER_TOPIC, my_publisher->group, number, metadata, KAFKA_TIMEOUT_MS, meanwhile, err);
}

/* A transaction of nothing but the position. */
static bool
store_position(KafkaError *err)
{
	return kafka_publisher_begin(my_publisher->kafka, err) &&
		deliver(my_publisher->published, publisher_metadata(), NULL, err) &&
		kafka_publisher_end_commit(my_publisher->kafka, err);
}

/*
 * By each producer, which has then seen both coordinators: one that is told later
 * that there is none asks again only when some connection changes (2.0.2).
 */
static bool
sign_position(KafkaError *err)
{
	int			i;

	for (i = 0; i < kafka_publisher_producers(my_publisher->kafka); i++)
		if (!store_position(err))
			return false;
	return true;
}

/* From a failure to the next message; false: not now. */
static bool
connect_kafka(void)
{
	MemoryContext old = CurrentMemoryContext;
	bool		exactly_once = !my_publisher->row->at_least_once;
	KafkaConf  *conf = load_conf();
	ErrorData  *volatile edata = NULL;
	int64		offset = -1;
	char	   *metadata = NULL;
	KafkaError	err;

	MemoryContextSwitchTo(my_publisher->handle_cxt);
	PG_TRY();
	{
		my_publisher->kafka_alone = publisher_is_alone();
		my_publisher->kafka = kafka_publisher_open(conf, exactly_once ? my_publisher->group : NULL,
												   my_publisher->kafka_alone, my_publisher->batch_bytes, STREAM_HEADER,
												   psprintf("%s/", my_publisher->group + strlen("streamproc-")));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(my_publisher->handle_cxt);
		edata = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	if (edata != NULL)
	{
		/* options that contradict each other: they get corrected */
		err.failure = KAFKA_FAILED;
		snprintf(err.message, sizeof(err.message), "%s%s%s", edata->message, edata->detail ? ": " : "", edata->detail ? edata->detail : "");
		my_publisher->kafka = NULL;
		give_up_handle(&err);
		return false;
	}
	if (exactly_once)
	{
		FAULT_POINT("publisher-before-init");
		if (!kafka_publisher_init(my_publisher->kafka, KAFKA_TIMEOUT_MS, &err) ||
			!kafka_publisher_make_topic(my_publisher->kafka, PUBLISHER_TOPIC, ASK_TIMEOUT_MS, &err) ||
			!kafka_publisher_position(my_publisher->kafka, PUBLISHER_TOPIC, my_publisher->group, KAFKA_TIMEOUT_MS, &offset, &metadata, &err))
		{
			give_up_handle(&err);
			return false;
		}
	}
	FAULT_POINT("publisher-before-compare");
	publisher_compare(exactly_once, offset, metadata);
	FAULT_POINT("publisher-signed");
	if (exactly_once && !sign_position(&err))
	{
		give_up_handle(&err);
		return false;
	}
	my_publisher->last_commit_us = monotonic_us();
	publisher_forget_flights();
	/* only now: before, another attempt would not know of it */
	if (my_publisher->decided)
		publisher_delete();
	return true;
}

/* ---- send ---- */

int
publisher_read_outbox(List **streams)
{
	MemoryContext old;
	/* one that sends each message alone is slow, and may have to begin again often */
	Size		bytes = Max(my_publisher->read_bytes / Max(my_publisher->nstreams, 1), READ_LEAST);
	int			n = 0;
	int			s;

	MemoryContextReset(my_publisher->send_cxt);
	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	old = MemoryContextSwitchTo(my_publisher->send_cxt);
	for (s = 0; s < my_publisher->nstreams; s++)
	{
		streams[s] = catalog_outbox_read(my_publisher->row->name, s, my_publisher->handed[s],
										 my_publisher->kafka_alone ? READ_LEAST : bytes, bytes * 16);
		n += list_length(streams[s]);
	}
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	checkpoint_commit();
	if (n > 0)
		pg_atomic_write_u32(&my_publisher->pipeline->publisher_looks, 0);
	return n;
}

/* number: of the last message; taken: how many were not withdrawn */
static bool
send_segment(const OutboxSegment *segment, int64 *number, int64 *taken, const char **topic, KafkaError *err)
{
	StreamOutboxReader reader;
	StreamMessage message;
	int			known = -1;
	const char *known_topic = NULL;

	stream_outbox_read(&reader, segment);
	while (stream_outbox_next(&reader, &message))
	{
		++*number;
		if (message.withdrawn)
			continue;
		++*taken;
		/* topics of a segment are few, and the same string each time */
		if (message.topic != known_topic)
		{
			/* until then what fails is of the one before */
			known = kafka_publisher_topic(my_publisher->kafka, message.topic, ASK_TIMEOUT_MS, err);
			if (known < 0)
				return false;
			*topic = known_topic = message.topic;
		}
		if (!kafka_publisher_send(my_publisher->kafka, known, *number, message.partition, message.key, message.key_len,
								  message.value, message.value_len, message.timestamp_ms, message.headers, message.nheaders, err))
			return false;
	}
	return true;
}

static void
show_sent(int64 messages, int64 bytes, TimestampTz oldest)
{
	PipelineSlot *slot = my_publisher->pipeline;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->published_total = my_publisher->published;
	slot->outbox_oldest = DT_NOEND;
	slot->publish_transactions++;
	slot->publish_latency_us[slot->publish_latency_count++ % SHMEM_LATENCIES] = (int32) Min(Max(now - oldest, 0), PG_INT32_MAX);
	LWLockRelease(shmem->lock);
	counter_add(&my_publisher->slot->rows_out, messages);
	counter_add(&my_publisher->slot->commits, 1);
	worker_set_state(WORKER_RUNNING, NULL);
	my_publisher->undeleted_bytes += bytes;
}

TimestampTz
publisher_oldest(List **streams)
{
	TimestampTz oldest = DT_NOEND;
	int			s;

	for (s = 0; s < my_publisher->nstreams; s++)
		if (streams[s] != NIL)
			oldest = Min(oldest, ((OutboxSegment *) linitial(streams[s]))->written);
	return oldest;
}

void
publisher_show_oldest(TimestampTz oldest)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_publisher->pipeline->outbox_oldest = oldest;
	LWLockRelease(shmem->lock);
}

bool
publisher_send_segments(List **streams, Flight *flight, KafkaError *err)
{
	MemoryContext old = MemoryContextSwitchTo(my_publisher->send_cxt);
	const char *topic = "";
	int64		taken = 0;
	bool		good = true;
	int			s;

	/* the setting may change between two calls */
	flight->durable = !is_flushed_late();
	if (flight->durable)
		make_durable();
	flight->number = my_publisher->handed_over;
	memcpy(flight->segments, my_publisher->handed, sizeof(int64) * my_publisher->nstreams);
	for (s = 0; s < my_publisher->nstreams && good; s++)
	{
		ListCell   *lc;

		foreach(lc, streams[s])
		{
			OutboxSegment *segment = lfirst(lc);

			good = send_segment(segment, &flight->number, &taken, &topic, err);
			if (!good)
				break;
			flight->segments[s] = segment->number;
			flight->bytes += segment->len;
		}
	}
	good = good && kafka_publisher_push(my_publisher->kafka, err);
	flight->taken |= taken > 0;
	if (topic[0] != '\0')
		strlcpy(my_publisher->last_topic, topic, sizeof(my_publisher->last_topic));
	if (good)
	{
		counter_add(&my_publisher->slot->batches, 1);
		counter_add(&my_publisher->slot->rows_in, flight->number - my_publisher->handed_over);
	}
	MemoryContextSwitchTo(old);
	return good;
}

void
publisher_send_failed(List **streams, const char *topic, KafkaError *err)
{
	if (err->failure == KAFKA_REFUSED)
	{
		publisher_refused(streams, topic, err);
		return;
	}
	/* perhaps it was too much for the time that Kafka gives */
	my_publisher->read_bytes = Max(my_publisher->read_bytes / 2, READ_LEAST);
	/* all is well with Kafka: the next attempt need not wait until it ends the transaction */
	if (err->failure == KAFKA_NO_TOPIC)
		kafka_publisher_abort(my_publisher->kafka, PUBLISHER_ABORT_MS);
	give_up_handle(err);
}

void
publisher_sent(const Flight *flight, int64 period_us)
{
	FAULT_POINT("publisher-committed");
	my_publisher->published = flight->number;
	memcpy(my_publisher->sent, flight->segments, sizeof(int64) * my_publisher->nstreams);
	my_publisher->last_commit_us = monotonic_us();
	my_publisher->failures = 0;
	if (flight->taken)
		my_publisher->refused_run = 0;
	my_publisher->read_bytes = Min(my_publisher->read_bytes * 2, READ_BYTES);
	show_sent(flight->messages, flight->bytes, flight->oldest);
	/* tasks commit by it where no look is announced */
	pg_atomic_write_u64(&my_publisher->pipeline->publish_period_us, period_us);
}

/* Waits for the end of the commit under way, if there is one; false: it failed. */
static bool
end_commit(void)
{
	List	   *none[SHMEM_MAX_TASKS] = {NIL};
	KafkaError	err;

	if (my_publisher->nflights == 0)
		return true;
	if (kafka_publisher_end_commit(my_publisher->kafka, &err))
	{
		publisher_arrive(Max(publisher_oldest_flight()->begun_us, my_publisher->last_commit_us));
		return true;
	}
	/* all was delivered: no message is to blame */
	if (err.failure == KAFKA_REFUSED)
		err.failure = KAFKA_FAILED;
	publisher_send_failed(none, "", &err);
	return false;
}

/*
 * Partitions were being registered with the transaction, and the one before it
 * was committed: what has come to the outbox since may still go with it.  Not
 * where that could hold the transaction open, and its readers up.
 */
static bool
send_rest(List **streams, Flight *flight, KafkaError *err)
{
	if (my_publisher->row->at_least_once || my_publisher->kafka_alone || flight->bytes > my_publisher->read_bytes / 2 ||
		worker_waits_for_standby())
		return true;
	my_publisher->handed_over = flight->number;
	memcpy(my_publisher->handed, flight->segments, sizeof(int64) * my_publisher->nstreams);
	return publisher_read_outbox(streams) == 0 || publisher_send_segments(streams, flight, err);
}

static bool
deliver_flight(const Flight *flight, KafkaError *err)
{
	MemoryContext old = MemoryContextSwitchTo(my_publisher->send_cxt);
	bool		good = deliver(flight->number, publisher_metadata_of(flight->segments), flight->durable ? NULL : make_durable, err);

	MemoryContextSwitchTo(old);
	return good;
}

/*
 * All was delivered, and the next transaction begins: what tasks commit now goes
 * with it, even if the first look is too early for it (send_rest()).
 */
static void
announce_look(void)
{
	/* a launcher commits when an epoch ends */
	if (my_publisher->row->at_least_once || my_publisher->kafka_alone || my_publisher->is_keyed)
		return;
	pg_atomic_fetch_add_u32(&my_publisher->pipeline->publisher_turns, 1);
	LWLockAcquire(shmem->lock, LW_SHARED);
	pipeline_wake_tasks_locked(my_publisher->slot->pipeline);
	LWLockRelease(shmem->lock);
}

static void
wait_until(int64 until_us)
{
	int64		left;

	while ((left = until_us - monotonic_us()) > 0 && !worker_stop_requested())
		worker_wait((long) (left + 999) / 1000);
}

/*
 * A Kafka transaction costs broker and publisher some milliseconds of their processors,
 * whatever is in it, and who writes tables on the same ones waits for them.  So after
 * a few messages the next ones share a transaction, if they come within some milliseconds:
 * those that tasks have kept until now, too.  Not after a single one: where messages come
 * all the time, a look just behind a full transaction finds few, and those that come
 * next would wait for nothing.
 */
static void
wait_for_more(void)
{
	int64		until_us = my_publisher->last_begin_us + FEW_PERIOD_US;

	my_publisher->rests = false;
	/* nobody need wake us */
	pg_atomic_write_u32(&my_publisher->pipeline->publisher_looks, 0);
	if (!end_commit())
		return;
	wait_until(until_us - FEW_ANNOUNCE_US);
	announce_look();
	wait_until(until_us);
}

/*
 * One Kafka transaction, or what is waited for like one, up to its commit, which
 * ends while the next one is sent.  False: nothing to send, or it could not be sent.
 */
static bool
send_some(void)
{
	List	   *streams[SHMEM_MAX_TASKS];
	Flight		flight = {0};
	int64		first = my_publisher->handed_over;
	KafkaError	err;
	bool		good;

	flight.begun_us = monotonic_us();
	if (publisher_read_outbox(streams) == 0)
		return my_publisher->nflights > 0 && end_commit();
	flight.oldest = publisher_oldest(streams);
	publisher_show_oldest(my_publisher->nflights > 0 ? publisher_oldest_flight()->oldest : flight.oldest);
	FAULT_POINT("publisher-before-begin");
	good = kafka_publisher_begin(my_publisher->kafka, &err);
	FAULT_POINT("publisher-begun");
	good = good && publisher_send_segments(streams, &flight, &err);
	/* whatever has failed: where the one before it ended decides what is sent again */
	if (!end_commit())
		return false;
	publisher_show_oldest(flight.oldest);
	good = good && send_rest(streams, &flight, &err);
	FAULT_POINT("publisher-before-commit");
	good = good && deliver_flight(&flight, &err);
	if (!good)
	{
		publisher_send_failed(streams, my_publisher->last_topic, &err);
		return false;
	}
	flight.messages = flight.number - first;
	publisher_depart(&flight);
	my_publisher->last_begin_us = flight.begun_us;
	if (flight.messages < FEW_MESSAGES && flight.bytes < (int64) FEW_BYTES && !my_publisher->row->at_least_once && !my_publisher->kafka_alone)
		my_publisher->few_run = Min(my_publisher->few_run + 1, FEW_RUN);
	else
		my_publisher->few_run = 0;
	my_publisher->rests = my_publisher->few_run >= FEW_RUN;
	if (!my_publisher->rests)
		announce_look();
	/* what is sent alone is slow, and another handle comes behind it */
	return my_publisher->row->at_least_once || my_publisher->kafka_alone ? end_commit() : true;
}

/* ---- the loop ---- */

static bool
anything_undeleted(void)
{
	return my_publisher->published > my_publisher->deleted;
}

static void
delete_some(bool now)
{
	if (!anything_undeleted() ||
		(!now && my_publisher->undeleted_bytes < DELETE_BYTES && monotonic_us() - my_publisher->last_delete_us < DELETE_US))
		return;
	FAULT_POINT("publisher-before-delete");
	publisher_delete();
	my_publisher->last_delete_us = monotonic_us();
	my_publisher->undeleted_bytes = 0;
}

static bool
renew(void)
{
	KafkaError	err;

	if (my_publisher->row->at_least_once || monotonic_us() - my_publisher->last_commit_us < RENEW_US)
		return true;
	if (store_position(&err))
	{
		my_publisher->last_commit_us = monotonic_us();
		return true;
	}
	give_up_handle(&err);
	return false;
}

/* The tasks may start: what they write comes behind what was compared. */
static void
tell_ready(void)
{
	PipelineSlot *slot = my_publisher->pipeline;

	if (slot->publisher_ready)
		return;
	/* other streams than before: what the old ones wrote goes first, or rows of a key would change places */
	if (my_publisher->streams_change)
	{
		if (anything_undeleted())
			return;
		publisher_set_streams();
		my_publisher->streams_change = false;
	}
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->publisher_ready = true;
	pipeline_wake_launcher_locked(my_publisher->slot->pipeline);
	LWLockRelease(shmem->lock);
}

static void
publisher_loop(void)
{
	for (;;)
	{
		bool		stop;

		worker_check();
		/* whatever is committed after this look sets it again, see pipeline_wake_publisher() */
		ResetLatch(MyLatch);
		pg_atomic_write_u32(&my_publisher->pipeline->publisher_looks, 1);
		pg_memory_barrier();
		stop = worker_stop_requested();
		if (my_publisher->kafka == NULL)
		{
			if (stop)
				return;
			if (my_publisher->failures > 0)
				pause_after_failure();
			if (worker_stop_requested() || !connect_kafka())
				continue;
		}
		else if (my_publisher->kafka_alone && !publisher_is_alone() && !stop)
		{
			publisher_end_alone();
			continue;
		}
		if (my_publisher->rests && !stop)
		{
			wait_for_more();
			continue;
		}
		if (my_publisher->row->at_least_once && !my_publisher->kafka_alone ? publisher_send_ahead() : send_some())
		{
			delete_some(false);
			continue;
		}
		if (my_publisher->kafka == NULL)
			continue;
		/* connected, and nothing waits; where something does, only its way to Kafka shows that all is well again */
		my_publisher->failures = 0;
		worker_set_state(WORKER_RUNNING, NULL);
		if (stop)
		{
			delete_some(true);
			return;
		}
		delete_some(false);
		tell_ready();
		if (!renew())
			continue;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 anything_undeleted() ? DELETE_US / 1000 : my_publisher->pipeline->publisher_ready ? 1000 : 20, PG_WAIT_EXTENSION);
	}
}

/* What passes is for the launcher, which starts us again; anything else stops the pipeline. */
static void
end_by_error(void)
{
	ErrorData  *edata;
	Reason		reason;

	MemoryContextSwitchTo(my_publisher->cxt);
	edata = CopyErrorData();
	worker_reason_from_error(&reason, edata);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_publisher->pipeline->last_error = reason;
	LWLockRelease(shmem->lock);
	/* an internal error may be a moment's: it is tried again, and shown; damaged data stay so */
	if (worker_error_passes(edata->sqlerrcode) || edata->sqlerrcode == ERRCODE_INTERNAL_ERROR)
	{
		EmitErrorReport();
		proc_exit(1);
	}
	FlushErrorState();
	if (IsTransactionState())
		checkpoint_abort();
	worker_fail_pipeline(&reason);
}

void
streamproc_publisher_main(Datum arg)
{
	worker_begin(arg, WORKER_PUBLISHER);
	kafka_keep_memory();
	/* a wait for a synchronous standby must not be ended by pg_cancel_backend(): what follows would be sent too early */
	pqsignal(SIGINT, SIG_IGN);

	my_publisher = MemoryContextAllocZero(TopMemoryContext, sizeof(Publisher));
	my_publisher->cxt = AllocSetContextCreate(TopMemoryContext, "streamproc publisher", ALLOCSET_DEFAULT_SIZES);
	my_publisher->handle_cxt = AllocSetContextCreate(my_publisher->cxt, "streamproc publisher handle", ALLOCSET_DEFAULT_SIZES);
	/* what is read for a transaction stays within its first block, which a reset keeps: malloc() is busy enough with librdkafka */
	my_publisher->send_cxt = AllocSetContextCreate(my_publisher->cxt, "streamproc publisher messages",
												   READ_BYTES, ALLOCSET_DEFAULT_INITSIZE, ALLOCSET_DEFAULT_MAXSIZE);
	my_publisher->freed.cxt = my_publisher->freeing.cxt = my_publisher->cxt;
	my_publisher->slot = &shmem->workers[my_worker_slot];
	my_publisher->pipeline = worker_pipeline();
	MemoryContextSwitchTo(my_publisher->cxt);
	my_publisher->read_bytes = READ_BYTES;
	PG_TRY();
	{
		FAULT_POINT("publisher-start");
		load();
		publisher_loop();
	}
	PG_CATCH();
	{
		end_by_error();
	}
	PG_END_TRY();
	FAULT_POINT("publisher-leave");
	proc_exit(0);
}

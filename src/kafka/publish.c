/*-------------------------------------------------------------------------
 *
 * publish.c
 *	  The producer of a publisher: messages in Kafka transactions that carry
 *	  the position reached, or without transactions.
 *
 * Every failure is final for the handle: the caller closes it, opens a new one,
 * asks for the position and goes on from there.  So no state of the library
 * after an error has to be understood, and a commit of which nobody knows
 * whether it happened is found out by looking.
 *
 * With transactions, what is one after the other and what is side by side:
 *
 *	  begin		the other producer's turn
 *	  send		messages are handed over; they go as soon as their partition is
 *				registered with the transaction
 *	  deliver	until all of them were acknowledged; the caller may do something of
 *				his own beside it, which is done before the commit
 *	  commit	the position is sent with the messages; what that and the commit then
 *				take is not waited for: the next transaction may begin and send, but
 *				not deliver.  So its position is sent after the commit before it, and
 *				its messages after those before them.
 *
 * Threads: messages are handed over on the PostgreSQL thread; what blocks runs
 * on a helper thread (publish_call.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "base/base.h"
#include "kafka/publish.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

/* no message was acknowledged for so long: are the topics there? */
#define LOOK_MS			1000
/* see wait_for_deliveries(): so often at first, and then */
#define FLUSH_US		1000
#define FLUSH_LATER_US	10000
#define FLUSH_SOON_US	10000
/* of a message that was refused it is known within; so long it takes until all has failed where one thing has */
#define SETTLE_MS		1000
/* of Kafka; a broker of transaction.max.timeout.ms has more */
#define TRANSACTION_TIMEOUT_MS	60000

/* ---- open, close ---- */

/*
 * Of a handle that sends each message alone it is the message.  Of another one it
 * is some message of the batch, or what the handle knows of options and
 * partitions is old.
 */
void
kafka_note_refusal(KafkaHandle *handle, int64 number, rd_kafka_resp_err_t err)
{
	if (handle->alone && handle->nrefusals < KAFKA_REFUSALS)
		handle->refusals[handle->nrefusals++] = (KafkaRefusal) {number, rd_kafka_err2str(err)};
}

static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	KafkaHandle *handle = opaque;
	bool		dropped;

	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (handle->counts)
			handle->flying[PUBLISH_FLIGHT(message->_private)]--;
		return;
	}
	if (kafka_failure_of(message->err) == KAFKA_REFUSED)
		kafka_note_refusal(handle, PUBLISH_NUMBER(message->_private), message->err);
	/* the first one, but what the library drops in consequence may be reported before the cause */
	dropped = message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || message->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
		message->err == RD_KAFKA_RESP_ERR__FATAL;
	if (handle->undelivered++ > 0 && (dropped || !handle->delivery_dropped))
		return;
	handle->delivery_dropped = dropped;
	snprintf(handle->delivery_error, sizeof(handle->delivery_error), "%s", rd_kafka_err2str(message->err));
	switch (message->err)
	{
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
			handle->delivery_failure = KAFKA_NO_TOPIC;
			snprintf(handle->delivery_error, sizeof(handle->delivery_error), "%s", rd_kafka_topic_name(message->rkt));
			break;
		default:
			handle->delivery_failure = dropped ? KAFKA_FAILED : kafka_failure_of(message->err);
			break;
	}
}

static void
leave_commit(KafkaPublisher *publisher)
{
	if (publisher->commit == NULL)
		return;
	kafka_publish_decide(publisher->commit, PUBLISH_GIVEN_UP);
	kafka_call_leave(&publisher->commit->call);
	publisher->commit = NULL;
}

static void
publisher_release(void *arg)
{
	KafkaPublisher *publisher = arg;
	int			i;

	leave_commit(publisher);
	if (publisher->reader != NULL)
		kafka_handle_release(publisher->reader);
	publisher->reader = NULL;
	while (publisher->nproducers > 0)
	{
		PublishProducer *producer = &publisher->producers[--publisher->nproducers];

		for (i = 0; i < producer->ntopics; i++)
			rd_kafka_topic_destroy(producer->topics[i]);
		kafka_handle_release(producer->handle);
	}
}

/*
 * A producer can be asked for the position of a group, too, but where the
 * coordinator has moved the library tells the consumer group of the handle, which a
 * producer has not, and the process crashes (2.0.2).  So it is a consumer that
 * asks; it never consumes.
 */
static KafkaHandle *
open_reader(KafkaConf *conf, const char *group)
{
	static const KafkaSetting defaults[] = {
		{"socket.timeout.ms", "10000"},
		{NULL, NULL}
	};
	KafkaSetting fixed[] = {
		{"group.id", group},
		{"isolation.level", "read_committed"},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"allow.auto.create.topics", "false"},
		{NULL, NULL}
	};

	return kafka_handle_open_polled(RD_KAFKA_CONSUMER, conf, kafka_conf_build(conf, defaults, fixed));
}

static KafkaHandle *
open_producer(KafkaPublisher *publisher, KafkaConf *conf, const char *transactional_id, bool alone, int batch_bytes)
{
	const KafkaSetting defaults[] = {
		/* messages come many at a time; in a transaction they wait for its partitions anyway */
		{"queue.buffering.max.ms", transactional_id != NULL ? "1" : "0"},
		{"queue.buffering.max.messages", "1000000"},
		{"queue.buffering.max.kbytes", "65536"},
		{"socket.timeout.ms", "10000"},
		{"reconnect.backoff.max.ms", "500"},
		{NULL, NULL}
	};
	KafkaSetting fixed[16] = {
		{"acks", "all"},
		{"enable.idempotence", "true"},
		{"allow.auto.create.topics", "false"},
		{"retry.backoff.ms", "2"},	/* with the default a transaction takes 105 ms */
		{"message.timeout.ms", "30000"},
	};
	const KafkaHeader longest = {publisher->header, NULL, publisher->prefix_len + PUBLISH_DIGITS};
	bool		counts = transactional_id == NULL && !alone;
	int			n = 5;
	char		bytes[32];
	rd_kafka_conf_t *rdconf;
	KafkaHandle *handle;

	if (transactional_id != NULL)
	{
		fixed[n++] = (KafkaSetting) {"transactional.id", transactional_id};
		fixed[n++] = (KafkaSetting) {"transaction.timeout.ms", CppAsString2(TRANSACTION_TIMEOUT_MS)};
	}
	if (alone)
		fixed[n++] = (KafkaSetting) {"delivery.report.only.error", "true"};
	if (alone)
		fixed[n++] = (KafkaSetting) {"batch.num.messages", "1"};
	if (batch_bytes > 0)
	{
		snprintf(bytes, sizeof(bytes), "%d", batch_bytes);
		fixed[n++] = (KafkaSetting) {"batch.size", bytes};
	}
	fixed[n] = (KafkaSetting) {NULL, NULL};
	rdconf = kafka_conf_build(conf, defaults, fixed);
	rd_kafka_conf_set_dr_msg_cb(rdconf, delivery_report);
	publisher->gather_bytes = kafka_publish_conf(rdconf, &longest);
	handle = kafka_handle_open_polled(RD_KAFKA_PRODUCER, conf, rdconf);
	handle->alone = alone;
	handle->counts = counts;
	return handle;
}

KafkaPublisher *
kafka_publisher_open(KafkaConf *conf, const char *transactional_id, bool alone, int batch_bytes,
					 const char *header, const char *prefix)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "Kafka publisher", ALLOCSET_DEFAULT_SIZES);
	KafkaPublisher *publisher = MemoryContextAllocZero(cxt, sizeof(KafkaPublisher));
	MemoryContextCallback *callback = MemoryContextAlloc(cxt, sizeof(MemoryContextCallback));
	int			wanted = transactional_id != NULL ? PUBLISH_PRODUCERS : 1;

	publisher->cxt = cxt;
	publisher->transactional = transactional_id != NULL;
	publisher->header = MemoryContextStrdup(cxt, header);
	publisher->header_len = strlen(header);
	publisher->prefix = MemoryContextStrdup(cxt, prefix);
	publisher->prefix_len = strlen(prefix);
	if (publisher->prefix_len > PUBLISH_PREFIX)
		elog(ERROR, "value of header \"%s\" is too long", header);
	/*
	 * The first to begin is the first that was initialized: whoever took over from us, or from whom we
	 * have, did that in the same order, so who signs by the first one knows that nobody has taken it since.
	 */
	publisher->producer = &publisher->producers[wanted - 1];
	callback->func = publisher_release;
	callback->arg = publisher;
	MemoryContextRegisterResetCallback(cxt, callback);

	while (publisher->nproducers < wanted)
	{
		char	   *id = NULL;

		if (transactional_id != NULL)
			id = publisher->nproducers == 0 ? pstrdup(transactional_id) : psprintf("%s-%d", transactional_id, publisher->nproducers + 1);
		publisher->producers[publisher->nproducers].handle = open_producer(publisher, conf, id, alone, batch_bytes);
		publisher->nproducers++;
	}
	if (transactional_id != NULL)
		publisher->reader = open_reader(conf, transactional_id);
	return publisher;
}

void
kafka_publisher_close(KafkaPublisher *publisher)
{
	MemoryContextDelete(publisher->cxt);
}

bool
kafka_publisher_init(KafkaPublisher *publisher, int timeout_ms, KafkaError *err)
{
	int			i;

	for (i = 0; i < publisher->nproducers; i++)
		if (!kafka_publish_make(kafka_publish_call(publisher->producers[i].handle, PUBLISH_INIT, NULL, NULL, NULL, timeout_ms), err))
			return false;
	return true;
}

/* ---- bookkeeping ---- */

bool
kafka_publisher_make_topic(KafkaPublisher *publisher, const char *topic, int timeout_ms, KafkaError *err)
{
	return kafka_make_topic(publisher->producer->handle, topic, timeout_ms, err);
}

bool
kafka_publisher_position(KafkaPublisher *publisher, const char *topic, const char *group, int timeout_ms,
						 int64 *offset, char **metadata, KafkaError *err)
{
	PublishCall *p = kafka_publish_call(publisher->reader, PUBLISH_POSITION, topic, group, NULL, timeout_ms);
	bool		result = kafka_call_make(&p->call, err);

	if (result)
	{
		*offset = p->offset;
		*metadata = pstrdup(p->metadata ? p->metadata : "");
	}
	kafka_call_leave(&p->call);
	kafka_handle_release(publisher->reader);
	publisher->reader = NULL;
	return result;
}

/* ---- messages ---- */

int
kafka_publisher_producers(const KafkaPublisher *publisher)
{
	return publisher->nproducers;
}

/*
 * The first request of a transaction is refused as long as the markers of the
 * producer's last one are being written (CONCURRENT_TRANSACTIONS), and the library
 * repeats the one that registers partitions after 20 ms, whatever is configured
 * (2.0.2).  So there are two producers, each with an id of its own, which take
 * turns: while one's markers are written the other one has its transaction.
 */
bool
kafka_publisher_begin(KafkaPublisher *publisher, KafkaError *err)
{
	PublishProducer *next = publisher->producer + 1;
	rd_kafka_error_t *error;

	publisher->begun_us = monotonic_us();
	if (!publisher->transactional)
		return true;
	publisher->producer = next == publisher->producers + publisher->nproducers ? publisher->producers : next;
	error = rd_kafka_begin_transaction(publisher->producer->handle->rk);
	if (error == NULL)
		return true;
	err->failure = kafka_failure_of(rd_kafka_error_code(error));
	snprintf(err->message, sizeof(err->message), "%s", rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return false;
}

int
kafka_publisher_topic(KafkaPublisher *publisher, const char *topic, int timeout_ms, KafkaError *err)
{
	PublishProducer *producer = publisher->producer;
	rd_kafka_topic_t *rkt;
	int			i;

	for (i = 0; i < producer->ntopics; i++)
		if (strcmp(producer->names[i], topic) == 0)
			return i == publisher->gathered_topic || kafka_publisher_push(publisher, err) ? i : -1;
	if (!kafka_publisher_push(publisher, err))
		return -1;
	/* without this question the first message would wait for a second */
	if (kafka_ask_partitions(producer->handle, topic, timeout_ms, err) <= 0)
	{
		if (err->failure == KAFKA_NO_TOPIC)
			strlcpy(err->message, topic, sizeof(err->message));
		return -1;
	}
	rkt = i < PUBLISH_TOPICS ? rd_kafka_topic_new(producer->handle->rk, topic, NULL) : NULL;
	if (rkt == NULL)
	{
		err->failure = KAFKA_FAILED;
		snprintf(err->message, sizeof(err->message), "could not open the topic");
		return -1;
	}
	producer->names[i] = MemoryContextStrdup(publisher->cxt, topic);
	producer->topics[i] = rkt;
	producer->ntopics++;
	return i;
}

void
kafka_publisher_depart(KafkaPublisher *publisher)
{
	KafkaHandle *handle = publisher->producer->handle;

	handle->flight = (handle->flight + 1) % KAFKA_FLIGHTS;
	Assert(handle->counts && handle->flight != handle->first_flight);
}

int
kafka_publisher_arrived(KafkaPublisher *publisher, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	int			n = 0;

	kafka_handle_drain(handle);
	while (rd_kafka_poll(handle->rk, 0) > 0)
		CHECK_FOR_INTERRUPTS();
	kafka_handle_log(handle);
	for (; handle->first_flight != handle->flight && handle->flying[handle->first_flight] == 0; n++)
		handle->first_flight = (handle->first_flight + 1) % KAFKA_FLIGHTS;
	if (n > 0 || handle->undelivered == 0)
		return n;
	err->failure = handle->delivery_failure;
	strlcpy(err->message, handle->delivery_error, sizeof(err->message));
	return -1;
}

void
kafka_publisher_wait(KafkaPublisher *publisher, long timeout_ms)
{
	(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 publisher->producer->handle->read_fd, timeout_ms, PG_WAIT_EXTENSION);
}

/* ---- the end of a transaction ---- */

/* A commit that has no verdict yet ends only when it fails. */
static bool
has_commit_failed(const KafkaPublisher *publisher)
{
	return publisher->commit != NULL && kafka_call_done(&publisher->commit->call);
}

/*
 * What failed, where the messages did not all arrive.  The transactional API
 * takes one call at a time, so only without one it can be asked for more.
 */
static void
delivery_failure(KafkaPublisher *publisher, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;

	err->failure = handle->delivery_failure;
	strlcpy(err->message, handle->delivery_error, sizeof(err->message));
	if (handle->delivery_dropped && publisher->transactional && (publisher->commit == NULL || has_commit_failed(publisher)))
		(void) kafka_transaction_failure(handle->rk, &err->failure, err->message, sizeof(err->message));
	if (err->failure == KAFKA_UNREACHABLE)
	{
		char		message[sizeof(err->message)];

		strlcpy(message, err->message, sizeof(message));
		kafka_handle_explain(handle, message, err);
	}
}

/* The library goes on trying for half a minute. */
static bool
is_topic_missing(KafkaPublisher *publisher, KafkaError *err)
{
	return !kafka_publish_make(kafka_publish_call(publisher->producer->handle, PUBLISH_LOOK, NULL, NULL, NULL, LOOK_MS), err) &&
		err->failure == KAFKA_NO_TOPIC;
}

/*
 * Something has failed.  True: err is what it comes to.  The first failure is
 * not always the cause: one of a message says more than one of the transaction,
 * which may be its consequence.
 */
static bool
is_settled(KafkaPublisher *publisher, bool in_time, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	bool		ended = publisher->commit == NULL || has_commit_failed(publisher);

	if (handle->undelivered > 0)
	{
		/* it ends then, perhaps without having failed */
		if (publisher->commit != NULL)
			kafka_publish_decide(publisher->commit, PUBLISH_GIVEN_UP);
		if (in_time && !ended)
			return false;
		delivery_failure(publisher, err);
		return true;
	}
	(void) kafka_call_result(&publisher->commit->call, err);
	return !in_time || rd_kafka_outq_len(handle->rk) == 0 || (err->failure != KAFKA_FAILED && err->failure != KAFKA_REFUSED);
}

/*
 * Until all messages were acknowledged.  A flush without waiting wakes the
 * library's broker threads: one that found a partition not yet registered with
 * the transaction sleeps, and nobody tells it when it is, for up to a second
 * (2.0.2).  Registering takes a millisecond or two; threads that deliver a large
 * transaction for longer need not be woken every millisecond.
 */
static bool
wait_for_deliveries(KafkaPublisher *publisher, int timeout_ms, int64 last_deadline_us, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	int64		begun_us = monotonic_us();
	int64		now = begun_us;
	int64		deadline_us = now + (int64) timeout_ms * 1000;
	int64		next_flush_us = now;
	int64		next_look_us = 0;
	int64		settled_us = 0;
	int			left = INT_MAX;

	for (;;)
	{
		int			n;

		kafka_handle_drain(handle);
		now = monotonic_us();
		if (now >= next_flush_us)
		{
			(void) rd_kafka_flush(handle->rk, 0);
			next_flush_us = now + (now < begun_us + FLUSH_SOON_US ? FLUSH_US : FLUSH_LATER_US);
		}
		while (rd_kafka_poll(handle->rk, 0) > 0)
			CHECK_FOR_INTERRUPTS();
		kafka_handle_log(handle);
		n = rd_kafka_outq_len(handle->rk);
		if (handle->undelivered > 0 || has_commit_failed(publisher))
		{
			if (settled_us == 0)
				settled_us = now + SETTLE_MS * 1000;
			if (is_settled(publisher, now < settled_us, err))
				return false;
		}
		else if (n == 0)
			return true;

		/* slow is not dead */
		if (n < left)
		{
			left = n;
			next_look_us = now + LOOK_MS * 1000;
			deadline_us = Max(deadline_us, Min(now + (int64) timeout_ms * 1000, last_deadline_us));
		}
		if (now >= deadline_us)
		{
			kafka_handle_explain(handle, "messages were not acknowledged in time", err);
			return false;
		}
		if (now >= next_look_us)
		{
			if (is_topic_missing(publisher, err))
				return false;
			next_look_us = monotonic_us() + LOOK_MS * 1000;
		}
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 handle->read_fd, (long) (Max(next_flush_us - now, 0) + 999) / 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
kafka_publisher_deliver(KafkaPublisher *publisher, const char *topic, const char *group, int64 offset,
						const char *metadata, int timeout_ms, void (*meanwhile) (void), KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	int64		now = monotonic_us();
	int64		last_deadline_us = Max(now + (int64) timeout_ms * 1000,
									   publisher->begun_us + (int64) (TRANSACTION_TIMEOUT_MS / 2) * 1000);
	int			position_ms = timeout_ms;

	Assert(publisher->commit == NULL && publisher->ngathered == 0);
	if (publisher->transactional)
	{
		/* it may have to wait behind the messages */
		if (rd_kafka_outq_len(handle->rk) > 0)
			position_ms = (int) ((last_deadline_us - now) / 1000);
		publisher->commit = kafka_publish_call(handle, PUBLISH_COMMIT, topic, group, metadata, position_ms);
		publisher->commit->offset = offset;
		publisher->commit->commit_ms = timeout_ms;
		if (!kafka_call_start(&publisher->commit->call, err))
			return false;
	}
	if (meanwhile != NULL)
	{
		/* they need not wait for it: see wait_for_deliveries() */
		(void) rd_kafka_flush(handle->rk, 0);
		meanwhile();
	}
	if (!wait_for_deliveries(publisher, timeout_ms, last_deadline_us, err))
	{
		leave_commit(publisher);
		return false;
	}
	if (publisher->commit != NULL)
	{
		/* for who waits for it; the helper has its own */
		publisher->commit->call.deadline_us = monotonic_us() + (int64) timeout_ms * 1000;
		kafka_publish_decide(publisher->commit, PUBLISH_DELIVERED);
	}
	return true;
}

bool
kafka_publisher_end_commit(KafkaPublisher *publisher, KafkaError *err)
{
	bool		result;

	if (publisher->commit == NULL)
		return true;
	result = kafka_call_finish(&publisher->commit->call, err);
	if (kafka_call_done(&publisher->commit->call))
		kafka_handle_log(publisher->commit->call.handle);
	else
		snprintf(err->message, sizeof(err->message), "the transaction coordinator did not answer in time");
	leave_commit(publisher);
	return result;
}

/* ---- after a refusal ---- */

int
kafka_publisher_refused(KafkaPublisher *publisher, const KafkaRefusal **refused)
{
	KafkaHandle *handle = publisher->producer->handle;
	int64		until = monotonic_us() + SETTLE_MS * 1000;

	/* messages that the library drops are reported first, the refused one behind them; what is under way then may take its time */
	while (handle->alone && rd_kafka_outq_len(handle->rk) > 0 && monotonic_us() < until)
	{
		kafka_handle_drain(handle);
		if (rd_kafka_poll(handle->rk, 0) > 0)
			continue;
		if (handle->nrefusals > 0)
			break;
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 handle->read_fd, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	*refused = handle->refusals;
	return handle->nrefusals;
}

void
kafka_publisher_abort(KafkaPublisher *publisher, int timeout_ms)
{
	KafkaError	err;

	if (publisher->transactional)
		(void) kafka_publish_make(kafka_publish_call(publisher->producer->handle, PUBLISH_ABORT, NULL, NULL, NULL, timeout_ms), &err);
}

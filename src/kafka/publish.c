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
 * Threads: messages are handed over on the PostgreSQL thread; what blocks runs
 * on a helper thread that serves callbacks itself (call.c).  They take turns,
 * so what callbacks write into the handle has one user at a time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <stdlib.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define MAX_TOPICS		255
/* with transactions; see kafka_publisher_begin() */
#define PRODUCERS		2
/* no message was acknowledged for so long: are the topics there? */
#define LOOK_MS			1000
/* of a message that was refused it is known within */
#define SETTLE_MS		1000
/* of Kafka; a broker of transaction.max.timeout.ms has more */
#define TRANSACTION_TIMEOUT_MS	60000

typedef struct Producer
{
	KafkaHandle *handle;
	int			ntopics;
	char	   *names[MAX_TOPICS];
	rd_kafka_topic_t *topics[MAX_TOPICS];
} Producer;

struct KafkaPublisher
{
	MemoryContext cxt;
	Producer	producers[PRODUCERS];
	int			nproducers;
	Producer   *producer;		/* whose turn it is */
	KafkaHandle *reader;		/* asks for the position; NULL: it was read, or there is none */
	bool		transactional;
	uint64		sent;
	int64		begun_us;		/* the transaction */
};

/* ---- calls ---- */

typedef enum PublishKind
{
	PUBLISH_INIT,
	PUBLISH_COMMIT,				/* wait for deliveries; with transactions: position, commit */
	PUBLISH_POSITION,
	PUBLISH_ABORT
} PublishKind;

typedef struct PublishCall
{
	KafkaCall	call;
	PublishKind kind;
	bool		transactional;
	char	   *topic;			/* of the bookkeeping */
	char	   *group;
	int64		offset;
	char	   *metadata;
	int64		last_deadline_us;	/* not beyond the time-outs of message and transaction */
} PublishCall;

static void
publish_free(KafkaCall *call)
{
	PublishCall *p = (PublishCall *) call;

	free(p->topic);
	free(p->group);
	free(p->metadata);
}

KafkaFailure
kafka_failure_of(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
			return KAFKA_FENCED;
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
			return KAFKA_UNREACHABLE;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return KAFKA_FORBIDDEN;
			/* the message, or its batch: it would be refused again */
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
			return KAFKA_REFUSED;
		default:
			return KAFKA_FAILED;
	}
}

/*
 * Why the library gave the transaction up, where all it says of the messages is
 * that it dropped them.  It refuses to begin another one with that reason, and
 * does nothing else.  False: it knows none.
 */
static bool
transaction_failure(rd_kafka_t *rk, KafkaFailure *failure, char *text, Size size)
{
	rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
	bool		known = error != NULL && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__STATE;

	if (known)
	{
		*failure = kafka_failure_of(rd_kafka_error_code(error));
		snprintf(text, size, "%s", rd_kafka_error_string(error));
	}
	if (error != NULL)
		rd_kafka_error_destroy(error);
	return known;
}

/*
 * An error of the transactional API; true: the same call should be made again.
 * Takes the error over.
 */
static bool
again(KafkaCall *call, rd_kafka_error_t *error)
{
	const char *text = rd_kafka_error_string(error);
	bool		retriable = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error) &&
		!rd_kafka_error_txn_requires_abort(error);

	if (retriable && kafka_call_remaining_ms(call) > 0)
	{
		rd_kafka_error_destroy(error);
		kafka_call_pause();
		return true;
	}
	/* the library's words are for who calls it again */
	if (rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT && strstr(text, "retry call") != NULL)
		text = "the transaction coordinator did not answer in time";
	kafka_call_fail(call, kafka_failure_of(rd_kafka_error_code(error)), text);
	rd_kafka_error_destroy(error);
	return false;
}

static void
run_init(PublishCall *p)
{
	rd_kafka_error_t *error;

	while ((error = rd_kafka_init_transactions(p->call.handle->rk, kafka_call_remaining_ms(&p->call))) != NULL)
		if (!again(&p->call, error))
			return;
}

/* Is one of the topics that messages were given for gone?  The library goes on trying for half a minute. */
static bool
find_missing_topic(PublishCall *p)
{
	const struct rd_kafka_metadata *metadata;
	bool		found = false;
	int			i;

	/* of all topics that the handle knows */
	if (rd_kafka_metadata(p->call.handle->rk, 0, NULL, &metadata, LOOK_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	for (i = 0; i < metadata->topic_cnt && !found; i++)
	{
		found = metadata->topics[i].err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		if (found)
			kafka_call_fail(&p->call, KAFKA_NO_TOPIC, metadata->topics[i].topic);
	}
	rd_kafka_metadata_destroy(metadata);
	return found;
}

/*
 * rd_kafka_flush() takes 10 ms where this takes one.  Without waiting it only
 * wakes the library's broker threads: one that found a partition not yet
 * registered with the transaction sleeps, and nobody tells it when it is, for up to
 * a second (2.0.2).
 */
static bool
wait_for_deliveries(PublishCall *p)
{
	KafkaHandle *handle = p->call.handle;
	int			left = INT_MAX;
	int			now;
	int64		timeout = p->call.deadline_us - monotonic_us();
	int64		next_look_us = monotonic_us() + LOOK_MS * 1000;

	while (handle->undelivered == 0 && (now = rd_kafka_outq_len(handle->rk)) > 0)
	{
		/* slow is not dead */
		if (now < left)
		{
			left = now;
			next_look_us = monotonic_us() + LOOK_MS * 1000;
			p->call.deadline_us = Max(p->call.deadline_us, Min(monotonic_us() + timeout, p->last_deadline_us));
		}
		if (kafka_call_remaining_ms(&p->call) == 0)
		{
			kafka_call_fail(&p->call, KAFKA_UNREACHABLE, "messages were not acknowledged in time");
			return false;
		}
		(void) rd_kafka_flush(handle->rk, 0);
		rd_kafka_poll(handle->rk, 1);
		if (monotonic_us() >= next_look_us)
		{
			if (find_missing_topic(p))
				return false;
			next_look_us = monotonic_us() + LOOK_MS * 1000;
		}
	}
	if (handle->undelivered > 0)
	{
		kafka_call_fail(&p->call, handle->delivery_failure, handle->delivery_error);
		if (handle->delivery_dropped && p->transactional)
			(void) transaction_failure(handle->rk, &p->call.failure, p->call.message, sizeof(p->call.message));
		return false;
	}
	return true;
}

static bool
send_position(PublishCall *p)
{
	rd_kafka_t *rk = p->call.handle->rk;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_t *position = rd_kafka_topic_partition_list_add(list, p->topic, 0);
	rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(p->group);
	rd_kafka_error_t *error;

	position->offset = p->offset;
	position->metadata = strdup(p->metadata);
	position->metadata_size = strlen(p->metadata);
	while ((error = rd_kafka_send_offsets_to_transaction(rk, list, group, kafka_call_remaining_ms(&p->call))) != NULL)
		if (!again(&p->call, error))
			break;
	rd_kafka_consumer_group_metadata_destroy(group);
	rd_kafka_topic_partition_list_destroy(list);
	return error == NULL;
}

static void
run_commit(PublishCall *p)
{
	rd_kafka_error_t *error;

	if (!wait_for_deliveries(p) || !p->transactional || !send_position(p))
		return;
	while ((error = rd_kafka_commit_transaction(p->call.handle->rk, kafka_call_remaining_ms(&p->call))) != NULL)
		if (!again(&p->call, error))
			return;
}

/* The result of one request for the position; false: ask again. */
static bool
take_position(PublishCall *p, rd_kafka_event_t *event)
{
	const rd_kafka_ListConsumerGroupOffsets_result_t *result;
	const rd_kafka_group_result_t **groups;
	const rd_kafka_topic_partition_list_t *list;
	const rd_kafka_error_t *error;
	size_t		n = 0;
	rd_kafka_resp_err_t err = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(event);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		result = rd_kafka_event_ListConsumerGroupOffsets_result(event);
		groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &n);
		if (n != 1)
			err = RD_KAFKA_RESP_ERR__BAD_MSG;
		else if ((error = rd_kafka_group_result_error(groups[0])) != NULL)
			err = rd_kafka_error_code(error);
		else if ((list = rd_kafka_group_result_partitions(groups[0])) == NULL || list->cnt != 1)
			err = RD_KAFKA_RESP_ERR__BAD_MSG;
		else if (list->elems[0].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			err = list->elems[0].err;
		else
		{
			p->offset = list->elems[0].offset < 0 ? -1 : list->elems[0].offset;
			p->metadata = calloc(1, list->elems[0].metadata_size + 1);
			if (p->metadata != NULL && list->elems[0].metadata != NULL)
				memcpy(p->metadata, list->elems[0].metadata, list->elems[0].metadata_size);
			return true;
		}
	}
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
			/* who waits gives up at the deadline, and should hear why */
			if (kafka_call_remaining_ms(&p->call) > 100)
				return false;
			break;
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
			kafka_call_fail(&p->call, KAFKA_UNREACHABLE, "the position was not answered in time");
			return true;
		default:
			break;
	}
	kafka_call_fail(&p->call, kafka_failure_of(err), rd_kafka_err2str(err));
	return true;
}

static void
run_position(PublishCall *p)
{
	rd_kafka_t *rk = p->call.handle->rk;

	for (;;)
	{
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
		rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
		rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
		rd_kafka_ListConsumerGroupOffsets_t *request;
		rd_kafka_error_t *error;
		rd_kafka_event_t *event;
		char		errstr[128];
		bool		done;

		rd_kafka_topic_partition_list_add(list, p->topic, 0);
		request = rd_kafka_ListConsumerGroupOffsets_new(p->group, list);
		rd_kafka_AdminOptions_set_request_timeout(options, Max(kafka_call_remaining_ms(&p->call), 1), errstr, sizeof(errstr));
		error = rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
		if (error != NULL)
			rd_kafka_error_destroy(error);
		rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, options, queue);
		event = rd_kafka_queue_poll(queue, kafka_call_remaining_ms(&p->call) + 500);
		done = take_position(p, event);
		if (event != NULL)
			rd_kafka_event_destroy(event);
		rd_kafka_ListConsumerGroupOffsets_destroy(request);
		rd_kafka_AdminOptions_destroy(options);
		rd_kafka_queue_destroy(queue);
		rd_kafka_topic_partition_list_destroy(list);
		if (done)
			return;
		kafka_call_pause();
	}
}

/* What comes of it does not matter: who takes over ends the transaction, too. */
static void
run_abort(PublishCall *p)
{
	rd_kafka_error_t *error = rd_kafka_abort_transaction(p->call.handle->rk, kafka_call_remaining_ms(&p->call));

	if (error != NULL)
		rd_kafka_error_destroy(error);
}

static void
publish_run(KafkaCall *call)
{
	PublishCall *p = (PublishCall *) call;

	switch (p->kind)
	{
		case PUBLISH_INIT:
			run_init(p);
			break;
		case PUBLISH_COMMIT:
			run_commit(p);
			break;
		case PUBLISH_POSITION:
			run_position(p);
			break;
		case PUBLISH_ABORT:
			run_abort(p);
			break;
	}
}

static PublishCall *
publish_call(KafkaPublisher *publisher, KafkaHandle *handle, PublishKind kind, const char *topic, const char *group, const char *metadata, int timeout_ms)
{
	PublishCall *p = (PublishCall *) kafka_call_create(sizeof(PublishCall), handle, publish_run, publish_free, timeout_ms);

	/* delivery reports come to the producer only */
	p->call.serves = handle != publisher->reader;
	p->kind = kind;
	p->transactional = publisher->transactional;
	p->topic = topic ? strdup(topic) : NULL;
	p->group = group ? strdup(group) : NULL;
	p->metadata = metadata ? strdup(metadata) : NULL;
	if ((topic && !p->topic) || (group && !p->group) || (metadata && !p->metadata))
	{
		kafka_call_leave(&p->call);
		kafka_out_of_memory();
	}
	return p;
}

static bool
publish_make(PublishCall *p, KafkaError *err)
{
	bool		result = kafka_call_make(&p->call, err);

	kafka_call_leave(&p->call);
	return result;
}

/* ---- open, close ---- */

/*
 * Of a handle that sends each message alone it is the message.  Of another one it
 * is some message of the batch, or what the handle knows of options and
 * partitions is old.
 */
static void
note_refusal(KafkaHandle *handle, int64 number, rd_kafka_resp_err_t err)
{
	if (handle->alone && handle->nrefusals < KAFKA_REFUSALS)
		handle->refusals[handle->nrefusals++] = (KafkaRefusal) {number, rd_kafka_err2str(err)};
}

static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	KafkaHandle *handle = opaque;

	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (handle->counts)
			handle->flying[(intptr_t) message->_private]--;
		return;
	}
	if (kafka_failure_of(message->err) == KAFKA_REFUSED)
		note_refusal(handle, (int64) (intptr_t) message->_private, message->err);
	if (handle->undelivered++ > 0)
		return;
	snprintf(handle->delivery_error, sizeof(handle->delivery_error), "%s", rd_kafka_err2str(message->err));
	switch (message->err)
	{
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
			handle->delivery_failure = KAFKA_NO_TOPIC;
			snprintf(handle->delivery_error, sizeof(handle->delivery_error), "%s", rd_kafka_topic_name(message->rkt));
			break;
		case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
		case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
		case RD_KAFKA_RESP_ERR__FATAL:
			handle->delivery_failure = KAFKA_FAILED;
			handle->delivery_dropped = true;
			break;
		default:
			handle->delivery_failure = kafka_failure_of(message->err);
			break;
	}
}

static void
publisher_release(void *arg)
{
	KafkaPublisher *publisher = arg;
	int			i;

	if (publisher->reader != NULL)
		kafka_handle_release(publisher->reader);
	publisher->reader = NULL;
	while (publisher->nproducers > 0)
	{
		Producer   *producer = &publisher->producers[--publisher->nproducers];

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
open_producer(KafkaConf *conf, const char *transactional_id, bool alone, int batch_bytes)
{
	static const KafkaSetting defaults[] = {
		{"queue.buffering.max.ms", "1"},
		{"queue.buffering.max.messages", "1000000"},
		{"queue.buffering.max.kbytes", "65536"},
		{"socket.timeout.ms", "10000"},
		{"reconnect.backoff.max.ms", "500"},
		{NULL, NULL}
	};
	KafkaSetting fixed[16] = {
		{"acks", "all"},
		{"enable.idempotence", "true"},
		{"partitioner", "murmur2_random"},	/* as Java clients do */
		{"allow.auto.create.topics", "false"},
		{"retry.backoff.ms", "2"},	/* with the default a transaction takes 105 ms */
		{"message.timeout.ms", "30000"},
	};
	bool		counts = transactional_id == NULL && !alone;
	int			n = 6;
	char		bytes[32];
	rd_kafka_conf_t *rdconf;
	KafkaHandle *handle;

	if (transactional_id != NULL)
	{
		fixed[n++] = (KafkaSetting) {"transactional.id", transactional_id};
		fixed[n++] = (KafkaSetting) {"transaction.timeout.ms", CppAsString2(TRANSACTION_TIMEOUT_MS)};
	}
	if (!counts)
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
	handle = kafka_handle_open_polled(RD_KAFKA_PRODUCER, conf, rdconf);
	handle->alone = alone;
	handle->counts = counts;
	return handle;
}

KafkaPublisher *
kafka_publisher_open(KafkaConf *conf, const char *transactional_id, bool alone, int batch_bytes)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "Kafka publisher", ALLOCSET_DEFAULT_SIZES);
	KafkaPublisher *publisher = MemoryContextAllocZero(cxt, sizeof(KafkaPublisher));
	MemoryContextCallback *callback = MemoryContextAlloc(cxt, sizeof(MemoryContextCallback));
	int			wanted = transactional_id != NULL ? PRODUCERS : 1;

	publisher->cxt = cxt;
	publisher->transactional = transactional_id != NULL;
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
		publisher->producers[publisher->nproducers].handle = open_producer(conf, id, alone, batch_bytes);
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
		if (!publish_make(publish_call(publisher, publisher->producers[i].handle, PUBLISH_INIT, NULL, NULL, NULL, timeout_ms), err))
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
	PublishCall *p = publish_call(publisher, publisher->reader, PUBLISH_POSITION, topic, group, NULL, timeout_ms);
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
 * turns: while one's markers are written the other one has its transaction.  One
 * begins when the commit of the other was acknowledged, not before.
 */
bool
kafka_publisher_begin(KafkaPublisher *publisher, KafkaError *err)
{
	Producer   *next = publisher->producer + 1;
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
	Producer   *producer = publisher->producer;
	rd_kafka_topic_t *rkt;
	int			i;

	for (i = 0; i < producer->ntopics; i++)
		if (strcmp(producer->names[i], topic) == 0)
			return i;
	/* without this question the first message would wait for a second */
	if (kafka_ask_partitions(producer->handle, topic, timeout_ms, err) <= 0)
	{
		if (err->failure == KAFKA_NO_TOPIC)
			strlcpy(err->message, topic, sizeof(err->message));
		return -1;
	}
	rkt = i < MAX_TOPICS ? rd_kafka_topic_new(producer->handle->rk, topic, NULL) : NULL;
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

bool
kafka_publisher_send(KafkaPublisher *publisher, int topic, int64 number, int32 partition,
					 const char *key, Size key_len, const char *value, Size value_len,
					 int64 timestamp_ms, const KafkaHeader *headers, int nheaders, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	void	   *opaque = (void *) (intptr_t) (handle->counts ? handle->flight : number);

	for (;;)
	{
		rd_kafka_resp_err_t code = kafka_produce(handle, publisher->producer->topics[topic], opaque, partition, key, key_len,
												 value, value_len, timestamp_ms, headers, nheaders);

		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL || handle->undelivered > 0)
		{
			if (handle->undelivered > 0)
				err->failure = handle->delivery_failure;
			else if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
			{
				err->failure = KAFKA_REFUSED;
				note_refusal(handle, number, code);
			}
			else
				err->failure = kafka_failure_of(code);
			snprintf(err->message, sizeof(err->message), "%s",
					 handle->undelivered > 0 ? handle->delivery_error : rd_kafka_err2str(code));
			if (publisher->transactional &&
				(handle->undelivered > 0 ? handle->delivery_dropped : code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__STATE))
				(void) transaction_failure(handle->rk, &err->failure, err->message, sizeof(err->message));
			return false;
		}
		kafka_handle_drain(handle);
		if (rd_kafka_poll(handle->rk, 0) == 0)
		{
			(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
									 handle->read_fd, 100, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
		CHECK_FOR_INTERRUPTS();
	}
	handle->flying[handle->flight]++;
	/* reports are served now and then, so that they do not pile up */
	if (++publisher->sent % 1024 == 0)
		(void) rd_kafka_poll(handle->rk, 0);
	return true;
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

bool
kafka_publisher_commit(KafkaPublisher *publisher, const char *topic, const char *group, int64 offset,
					   const char *metadata, int timeout_ms, KafkaError *err)
{
	PublishCall *p = publish_call(publisher, publisher->producer->handle, PUBLISH_COMMIT, topic, group, metadata, timeout_ms);
	bool		result;

	p->offset = offset;
	p->last_deadline_us = Max(p->call.deadline_us, publisher->begun_us + (int64) (TRANSACTION_TIMEOUT_MS / 2) * 1000);
	result = publish_make(p, err);
	kafka_handle_log(publisher->producer->handle);
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
		(void) publish_make(publish_call(publisher, publisher->producer->handle, PUBLISH_ABORT, NULL, NULL, NULL, timeout_ms), &err);
}

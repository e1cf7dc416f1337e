/*-------------------------------------------------------------------------
 *
 * publish_send.c
 *	  A publisher hands messages over to the library.
 *
 * Plain messages are gathered and given to the library by partition: with one call for each message (rd_kafka_produceva()) it takes a
 * dozen locks and reads two clocks for every one of them, half of what sending
 * costs.  rd_kafka_produce_batch() knows no headers, so that with the message's
 * number is added by an interceptor, which the library calls for each message
 * while it makes it.
 *
 * Which partition is the library's to say, as the number of partitions may
 * change: the first of the messages gathered is left to its partitioner, which
 * tells over how many it chose, and the others are put by the same rule.
 *
 * Threads: the PostgreSQL thread hands over.  Partitioner and interceptor run on
 * it, too, within the library; the partitioner runs on a thread of the library,
 * where a topic was not known yet.  What they tell and are told is therefore a
 * thread's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "kafka/publish.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"

/* of key and value: larger ones do not gain by being gathered */
#define GATHER_BYTES	((Size) 64 * 1024)

/* over how many partitions the partitioner chose last on this thread */
static __thread int32 chosen_over;
/* of the messages that this thread is giving to the library; NULL: they have their headers */
static __thread const KafkaPublisher *numbering;

/* As Java clients do. */
static int32
choose_partition(const rd_kafka_topic_t *topic, const void *key, size_t key_len, int32 npartitions,
				 void *topic_opaque, void *opaque)
{
	chosen_over = npartitions;
	return rd_kafka_msg_partitioner_murmur2_random(topic, key, key_len, npartitions, topic_opaque, opaque);
}

/* the value of the header; returns its length */
static Size
write_number(char *value, const KafkaPublisher *publisher, int64 number)
{
	memcpy(value, publisher->prefix, publisher->prefix_len);
	return publisher->prefix_len + pg_lltoa(number, value + publisher->prefix_len);
}

static rd_kafka_resp_err_t
add_number(rd_kafka_t *rk, rd_kafka_message_t *message, void *opaque)
{
	char		value[PUBLISH_PREFIX + PUBLISH_DIGITS];
	rd_kafka_headers_t *headers;
	Size		len;

	if (numbering == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	len = write_number(value, numbering, PUBLISH_NUMBER(message->_private));
	headers = rd_kafka_headers_new(1);
	(void) rd_kafka_header_add(headers, numbering->header, numbering->header_len, value, len);
	rd_kafka_message_set_headers(message, headers);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
add_interceptor(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *errstr, size_t size)
{
	return rd_kafka_interceptor_add_on_send(rk, "streamproc", add_number, NULL);
}

Size
kafka_publish_conf(rd_kafka_conf_t *rdconf, const KafkaHeader *header)
{
	char		text[32] = "0";
	size_t		size = sizeof(text);
	Size		most;
	Size		with;

	rd_kafka_topic_conf_set_partitioner_cb(rd_kafka_conf_get_default_topic_conf(rdconf), choose_partition);
	(void) rd_kafka_conf_interceptor_add_on_new(rdconf, "streamproc", add_interceptor, NULL);

	/*
	 * The library asks whether a message is too large before the header is added,
	 * and aborts the process when it finds a larger one in its queue (2.0.2).  So
	 * one that might be too large with it is sent with its header.
	 */
	(void) rd_kafka_conf_get(rdconf, "message.max.bytes", text, &size);
	most = (Size) strtoul(text, NULL, 10);
	with = kafka_message_size(0, 0, header, 1);
	return most <= with ? 0 : Min(most - with, GATHER_BYTES);
}

/* Of the library's queue, which is full. */
static void
wait_for_room(KafkaHandle *handle)
{
	kafka_handle_drain(handle);
	if (rd_kafka_poll(handle->rk, 0) == 0)
	{
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 handle->read_fd, 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

static void
note_sent(KafkaPublisher *publisher, int n)
{
	/* reports are served now and then, so that they do not pile up */
	publisher->sent += n;
	if (publisher->sent % 1024 < (uint64) n)
		(void) rd_kafka_poll(publisher->producer->handle->rk, 0);
}

static void
explain_failure(KafkaPublisher *publisher, int64 number, rd_kafka_resp_err_t code, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;

	if (handle->undelivered > 0)
		err->failure = handle->delivery_failure;
	else if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
	{
		err->failure = KAFKA_REFUSED;
		kafka_note_refusal(handle, number, code);
	}
	else
		err->failure = kafka_failure_of(code);
	snprintf(err->message, sizeof(err->message), "%s",
			 handle->undelivered > 0 ? handle->delivery_error : rd_kafka_err2str(code));
	if (publisher->transactional &&
		(handle->undelivered > 0 ? handle->delivery_dropped : code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__STATE))
		(void) kafka_transaction_failure(handle->rk, &err->failure, err->message, sizeof(err->message));
}

static bool
send_one(KafkaPublisher *publisher, int topic, int64 number, int32 partition,
		 const char *key, Size key_len, const char *value, Size value_len,
		 int64 timestamp_ms, const KafkaHeader *headers, int nheaders, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	void	   *opaque = PUBLISH_OPAQUE(number, handle->flight);
	char		numbered[PUBLISH_PREFIX + PUBLISH_DIGITS];
	KafkaHeader one;
	KafkaHeader *all = &one;

	if (nheaders > 0)
	{
		all = palloc(sizeof(KafkaHeader) * (nheaders + 1));
		memcpy(all + 1, headers, sizeof(KafkaHeader) * nheaders);
	}
	all[0].name = publisher->header;
	all[0].value = numbered;
	all[0].value_len = write_number(numbered, publisher, number);

	for (;;)
	{
		rd_kafka_resp_err_t code = kafka_produce(handle, publisher->producer->topics[topic], opaque, partition, key, key_len,
												 value, value_len, timestamp_ms, all, nheaders + 1);

		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL || handle->undelivered > 0)
		{
			explain_failure(publisher, number, code, err);
			return false;
		}
		wait_for_room(handle);
	}
	if (nheaders > 0)
		pfree(all);
	handle->flying[handle->flight]++;
	note_sent(publisher, 1);
	return true;
}

static bool
send_gathered_one(KafkaPublisher *publisher, const rd_kafka_message_t *message, KafkaError *err)
{
	return send_one(publisher, publisher->gathered_topic, PUBLISH_NUMBER(message->_private), -1,
					message->key, message->key_len, message->payload, message->len, 0, NULL, 0, err);
}

/*
 * Messages for one partition, or all for that which the library chooses.  Where
 * its queue is full it takes the first ones.  What else is wrong with one is found
 * out by sending it by itself; it is then the same for that, or for all.
 */
static bool
send_batch(KafkaPublisher *publisher, int32 partition, rd_kafka_message_t *messages, int n, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	int			i = 0;

	while (i < n)
	{
		int			first = i;

		numbering = publisher;
		(void) rd_kafka_produce_batch(publisher->producer->topics[publisher->gathered_topic], partition, RD_KAFKA_MSG_F_COPY,
									  messages + i, n - i);
		numbering = NULL;
		for (; i < n; i++)
		{
			if (messages[i].err == RD_KAFKA_RESP_ERR_NO_ERROR)
			{
				handle->flying[handle->flight]++;
				continue;
			}
			if (messages[i].err == RD_KAFKA_RESP_ERR__QUEUE_FULL && handle->undelivered == 0)
				break;
			if (!send_gathered_one(publisher, &messages[i], err))
				return false;
		}
		if (i > first)
			note_sent(publisher, i - first);
		if (i < n)
			wait_for_room(handle);
	}
	return true;
}

bool
kafka_publisher_push(KafkaPublisher *publisher, KafkaError *err)
{
	rd_kafka_message_t batch[PUBLISH_GATHERED];
	rd_kafka_message_t *messages = publisher->gathered;
	int			n = publisher->ngathered;
	int			first;
	int			i;

	if (n == 0)
		return true;
	publisher->ngathered = 0;

	chosen_over = 0;
	if (!send_gathered_one(publisher, &messages[0], err))
		return false;
	/* 0: the topic is not known now, or the first one has no key */
	for (i = 1; i < n; i++)
		messages[i].partition = chosen_over == 0 || messages[i].key == NULL ? RD_KAFKA_PARTITION_UA :
			rd_kafka_msg_partitioner_murmur2_random(NULL, messages[i].key, messages[i].key_len, chosen_over, NULL, NULL);

	/* partitions are few; those sent have no number any more */
	for (first = 1; first < n; first++)
	{
		int32		partition = messages[first].partition;
		int			m = 0;

		if (messages[first]._private == NULL)
			continue;
		for (i = first; i < n; i++)
		{
			if (messages[i].partition != partition || messages[i]._private == NULL)
				continue;
			batch[m++] = messages[i];
			messages[i]._private = NULL;
		}
		if (!send_batch(publisher, partition, batch, m, err))
			return false;
	}
	return true;
}

bool
kafka_publisher_send(KafkaPublisher *publisher, int topic, int64 number, int32 partition,
					 const char *key, Size key_len, const char *value, Size value_len,
					 int64 timestamp_ms, const KafkaHeader *headers, int nheaders, KafkaError *err)
{
	KafkaHandle *handle = publisher->producer->handle;
	bool		plain = !handle->alone && partition < 0 && timestamp_ms == 0 && nheaders == 0 &&
		key_len + value_len < publisher->gather_bytes;
	rd_kafka_message_t *message;

	Assert(publisher->ngathered == 0 || topic == publisher->gathered_topic);
	if ((!plain || publisher->ngathered == PUBLISH_GATHERED) &&
		!kafka_publisher_push(publisher, err))
		return false;
	if (!plain)
		return send_one(publisher, topic, number, partition, key, key_len, value, value_len, timestamp_ms, headers, nheaders, err);

	message = &publisher->gathered[publisher->ngathered++];
	publisher->gathered_topic = topic;
	memset(message, 0, sizeof(*message));
	message->key = unconstify(char *, key);
	message->key_len = key ? key_len : 0;
	message->payload = unconstify(char *, value);
	message->len = value ? value_len : 0;
	message->_private = PUBLISH_OPAQUE(number, handle->flight);
	return true;
}

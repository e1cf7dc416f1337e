/*-------------------------------------------------------------------------
 *
 * producer.c
 *	  INSERT into a topic: an idempotent producer of one statement.
 *
 * Threads: everything here runs on the PostgreSQL thread, delivery reports
 * too (they are served by rd_kafka_poll).  The library writes into the handle's pipe
 * when its event queue becomes non-empty; waits are on that pipe and the latch.
 *
 * A failed delivery is an ERROR at the next send or at the flush.  Messages
 * delivered before it stay in the topic: Kafka has no rollback here, as with
 * any INSERT of a foreign server without transactions.
 *
 * The handle is closed by the reset callback of its memory context, so also
 * when the statement fails; messages not yet sent are then dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "kafka/kafka_int.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define WAIT_SLICE_MS		100

struct KafkaProducer
{
	MemoryContext cxt;
	KafkaHandle *handle;
	rd_kafka_topic_t *topic;
	char	   *topic_name;

	/* counted by the delivery reports, but "sent" */
	uint64		sent;
	uint64		delivered;
	uint64		failed;
	char		error[384];		/* text of the first failure */
};

static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	KafkaProducer *producer = message->_private;

	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		producer->delivered++;
	else if (producer->failed++ == 0)
		strlcpy(producer->error, rd_kafka_err2str(message->err), sizeof(producer->error));
}

static void
producer_release(void *arg)
{
	KafkaProducer *producer = arg;

	if (producer->handle == NULL)
		return;
	if (producer->topic)
		rd_kafka_topic_destroy(producer->topic);
	kafka_handle_release(producer->handle);
	producer->handle = NULL;
}

static void
producer_check(KafkaProducer *producer)
{
	KafkaError	err;

	if (producer->failed == 0)
		return;
	kafka_handle_explain(producer->handle, "", &err);
	ereport(ERROR,
			(errcode(err.failure == KAFKA_NOT_ALLOWED ? ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_FDW_ERROR),
			 errmsg("could not deliver messages to Kafka topic \"%s\": %s",
					producer->topic_name, producer->error),
			 errdetail("Of " UINT64_FORMAT " messages " UINT64_FORMAT " were delivered and " UINT64_FORMAT " failed.%s%s",
					   producer->sent, producer->delivered, producer->failed,
					   err.message[0] ? " The last connection error was: " : "", err.message),
			 err.failure == KAFKA_NOT_ALLOWED ? errhint(KAFKA_NOT_ALLOWED_HINT) : 0));
}

/* Serves events, delivery reports among them. */
static void
producer_serve(KafkaProducer *producer)
{
	kafka_handle_drain(producer->handle);
	while (rd_kafka_poll(producer->handle->rk, 0) > 0)
		;
	kafka_handle_log(producer->handle);
}

/*
 * Waits for an event.  The library tells of reports through the pipe; room in
 * its queue is made by them too.
 */
static void
producer_wait(KafkaProducer *producer)
{
	(void) WaitLatchOrSocket(MyLatch,
							 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 producer->handle->read_fd, WAIT_SLICE_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

KafkaProducer *
kafka_producer_open(KafkaConf *conf, const char *topic, int timeout_ms)
{
	char		timeout[32];
	const KafkaSetting defaults[] = {
		{"queue.buffering.max.ms", "5"},
		{NULL, NULL}
	};
	const KafkaSetting fixed[] = {
		{"acks", "all"},
		{"enable.idempotence", "true"},
		{"partitioner", "murmur2_random"},	/* as Java clients do */
		{"message.timeout.ms", timeout},
		{"queue.buffering.max.messages", "100000"},
		{"queue.buffering.max.kbytes", "32768"},
		{"allow.auto.create.topics", "false"},
		{NULL, NULL}
	};
	MemoryContext cxt;
	MemoryContextCallback *callback;
	KafkaProducer *producer;
	rd_kafka_conf_t *rdconf;
	KafkaError	err;

	snprintf(timeout, sizeof(timeout), "%d", Max(timeout_ms, 1000));

	cxt = AllocSetContextCreate(CurrentMemoryContext, "Kafka producer", ALLOCSET_SMALL_SIZES);
	producer = MemoryContextAllocZero(cxt, sizeof(KafkaProducer));
	callback = MemoryContextAlloc(cxt, sizeof(MemoryContextCallback));
	producer->cxt = cxt;
	producer->topic_name = MemoryContextStrdup(cxt, topic);
	callback->func = producer_release;
	callback->arg = producer;
	MemoryContextRegisterResetCallback(cxt, callback);

	rdconf = kafka_conf_build(conf, defaults, fixed);
	rd_kafka_conf_set_dr_msg_cb(rdconf, delivery_report);
	producer->handle = kafka_handle_open_polled(RD_KAFKA_PRODUCER, conf, rdconf);

	/* without this question the first message would wait for a second */
	producer->topic = rd_kafka_topic_new(producer->handle->rk, topic, NULL);
	if (producer->topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not open Kafka topic \"%s\": %s", topic,
						rd_kafka_err2str(rd_kafka_last_error()))));
	if (kafka_ask_partitions(producer->handle, topic, timeout_ms, &err) < 0)
	{
		if (err.failure == KAFKA_NO_TOPIC)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
					 errmsg("Kafka topic \"%s\" does not exist", topic)));
		if (err.failure == KAFKA_NOT_ALLOWED)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg_internal("%s", err.message),
					 errhint(KAFKA_NOT_ALLOWED_HINT)));
		if (err.failure == KAFKA_UNREACHABLE || err.failure == KAFKA_LOGIN_FAILED)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
					 errmsg("could not connect to Kafka: %s", err.message)));
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not open Kafka topic \"%s\": %s", topic, err.message)));
	}
	return producer;
}

rd_kafka_resp_err_t
kafka_produce(KafkaHandle *handle, rd_kafka_topic_t *topic, void *opaque, int32 partition,
			  const char *key, Size key_len, const char *value, Size value_len,
			  int64 timestamp_ms, const KafkaHeader *headers, int nheaders)
{
	rd_kafka_vu_t vus[8];
	int			n = 0;
	rd_kafka_headers_t *list = NULL;
	rd_kafka_error_t *error;
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	vus[n].vtype = RD_KAFKA_VTYPE_RKT;
	vus[n++].u.rkt = topic;
	vus[n].vtype = RD_KAFKA_VTYPE_PARTITION;
	vus[n++].u.i32 = partition < 0 ? RD_KAFKA_PARTITION_UA : partition;
	vus[n].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	vus[n++].u.i = RD_KAFKA_MSG_F_COPY;
	vus[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
	vus[n++].u.ptr = opaque;
	vus[n].vtype = RD_KAFKA_VTYPE_KEY;
	vus[n].u.mem.ptr = unconstify(char *, key);
	vus[n++].u.mem.size = key ? key_len : 0;
	vus[n].vtype = RD_KAFKA_VTYPE_VALUE;
	vus[n].u.mem.ptr = unconstify(char *, value);
	vus[n++].u.mem.size = value ? value_len : 0;
	if (timestamp_ms != 0)
	{
		vus[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
		vus[n++].u.i64 = timestamp_ms;
	}
	if (nheaders > 0)
	{
		list = rd_kafka_headers_new(nheaders);
		for (int i = 0; i < nheaders && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
			err = rd_kafka_header_add(list, headers[i].name, -1,
									  headers[i].value, headers[i].value ? headers[i].value_len : 0);
		vus[n].vtype = RD_KAFKA_VTYPE_HEADERS;
		vus[n++].u.headers = list;
	}
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		error = rd_kafka_produceva(handle->rk, vus, n);
		if (error == NULL)
			return RD_KAFKA_RESP_ERR_NO_ERROR;
		err = rd_kafka_error_code(error);
		rd_kafka_error_destroy(error);
	}
	/* they become the library's only when it takes the message */
	if (list != NULL)
		rd_kafka_headers_destroy(list);
	return err;
}

/* bytes of a length as the protocol writes it, a zigzag varint */
static Size
length_size(Size length)
{
	Size		n = 1;

	for (length *= 2; length >= 0x80; length >>= 7)
		n++;
	return n;
}

Size
kafka_message_size(Size key_len, Size value_len, const KafkaHeader *headers, int nheaders)
{
	/* RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD: lengths, attributes, timestamp, offset, number of headers at their largest */
	Size		size = 36 + key_len + value_len;

	for (int i = 0; i < nheaders; i++)
	{
		Size		name_len = strlen(headers[i].name);

		size += length_size(name_len) + name_len + length_size(headers[i].value_len) + headers[i].value_len;
	}
	return size;
}

void
kafka_producer_send(KafkaProducer *producer, int32 partition,
					const char *key, Size key_len,
					const char *value, Size value_len,
					int64 timestamp_ms,
					const KafkaHeader *headers, int nheaders)
{
	for (;;)
	{
		rd_kafka_resp_err_t err;

		producer_check(producer);
		err = kafka_produce(producer->handle, producer->topic, producer, partition, key, key_len,
							value, value_len, timestamp_ms, headers, nheaders);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_ERROR),
					 errmsg("could not send message to Kafka topic \"%s\": %s",
							producer->topic_name, rd_kafka_err2str(err))));
		producer_serve(producer);
		if (producer->sent > producer->delivered + producer->failed)
			producer_wait(producer);
		CHECK_FOR_INTERRUPTS();
	}

	/* reports are served now and then, so that they do not pile up */
	if (++producer->sent % 1024 == 0)
		producer_serve(producer);
}

void
kafka_producer_flush(KafkaProducer *producer)
{
	for (;;)
	{
		producer_serve(producer);
		if (producer->delivered + producer->failed == producer->sent)
			break;
		producer_wait(producer);
	}
	producer_check(producer);
}

void
kafka_producer_close(KafkaProducer *producer)
{
	MemoryContextDelete(producer->cxt);
}

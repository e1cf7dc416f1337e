/*-------------------------------------------------------------------------
 *
 * metadata.c
 *	  Questions to the cluster: partitions, offsets, the cluster's id.
 *
 * librdkafka's calls for these block until their time-out, so they are made on
 * a helper thread (call.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>
#include <time.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "utils/memutils.h"

/* special "timestamps" of Kafka's ListOffsets request */
#define LIST_LATEST			RD_KAFKA_OFFSET_END
#define LIST_EARLIEST		RD_KAFKA_OFFSET_BEGINNING

typedef enum QuestionKind
{
	ASK_PARTITIONS,
	ASK_CLUSTER_ID,
	ASK_OFFSETS
} QuestionKind;

typedef struct Question
{
	KafkaCall	call;
	QuestionKind kind;
	char	   *topic;
	int			n;				/* partitions asked for, 0: all of 0 .. n - 1 known */
	int32	   *partitions;
	int64		time;			/* milliseconds or LIST_LATEST, LIST_EARLIEST */

	/* the answer, unless the call has failed */
	int			npartitions;
	char	   *cluster_id;
	int64	   *offsets;
} Question;

struct KafkaClient
{
	MemoryContext cxt;
	KafkaHandle *handle;
};

/* ---- helper thread ---- */

/* A failure of a whole request: no answer, or a refusal? */
static void
question_fail_error(Question *question, rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
			kafka_call_fail(&question->call, KAFKA_UNREACHABLE, rd_kafka_err2str(err));
			break;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
			kafka_call_fail(&question->call, KAFKA_NO_TOPIC, rd_kafka_err2str(err));
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			kafka_call_fail(&question->call, KAFKA_FORBIDDEN, rd_kafka_err2str(err));
			break;
		default:
			kafka_call_fail(&question->call, KAFKA_FAILED, rd_kafka_err2str(err));
			break;
	}
}

static bool
is_transient(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
			return true;
		default:
			return false;
	}
}

/*
 * Is the topic there, and how many partitions has it?  Sets npartitions or a
 * failure.  Who asks for the cluster's id is content with any answer.
 */
static void
answer_partitions(Question *question)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(question->call.handle->rk, question->topic, NULL);

	if (topic == NULL)
	{
		question_fail_error(question, rd_kafka_last_error());
		return;
	}
	for (;;)
	{
		const struct rd_kafka_metadata *metadata = NULL;
		rd_kafka_resp_err_t err;
		bool		answered;
		int			remaining = kafka_call_remaining_ms(&question->call);

		err = rd_kafka_metadata(question->call.handle->rk, 0, topic, &metadata, remaining);
		answered = err == RD_KAFKA_RESP_ERR_NO_ERROR;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR && metadata->topic_cnt != 1)
			err = RD_KAFKA_RESP_ERR__BAD_MSG;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = metadata->topics[0].err;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			question->npartitions = metadata->topics[0].partition_cnt;
		if (metadata)
			rd_kafka_metadata_destroy(metadata);

		if (err == RD_KAFKA_RESP_ERR_NO_ERROR && question->npartitions > 0)
			break;
		if (answered && question->kind == ASK_CLUSTER_ID)
			break;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;	/* being made or deleted */
		if (!is_transient(err) || kafka_call_remaining_ms(&question->call) == 0)
		{
			question_fail_error(question, err);
			break;
		}
		kafka_call_pause();
	}
	rd_kafka_topic_destroy(topic);
}

/*
 * The library asks for no metadata when it is asked for the id, but waits for an
 * answer to the question that it put when it connected.  One that names no broker,
 * as that of a broker which has just come back, it throws away, and asks again
 * after minutes (2.0.2).  The answer to a question for a topic counts, whether there is
 * such a topic or not.
 */
static void
answer_cluster_id(Question *question)
{
	answer_partitions(question);
	if (question->call.failure != KAFKA_OK)
		return;
	question->cluster_id = rd_kafka_clusterid(question->call.handle->rk, kafka_call_remaining_ms(&question->call));
	if (question->cluster_id == NULL)
		kafka_call_fail(&question->call, KAFKA_UNREACHABLE, rd_kafka_err2str(RD_KAFKA_RESP_ERR__TIMED_OUT));
}

/*
 * One round of ListOffsets over the partitions of "list"; the results replace
 * its offsets.  Repeated while leaders are moving.
 */
static bool
list_offsets(Question *question, rd_kafka_topic_partition_list_t *list, const int64 *times)
{
	for (;;)
	{
		rd_kafka_resp_err_t err;

		for (int i = 0; i < list->cnt; i++)
		{
			list->elems[i].offset = times[i];
			list->elems[i].err = RD_KAFKA_RESP_ERR_NO_ERROR;
		}
		err = rd_kafka_offsets_for_times(question->call.handle->rk, list, kafka_call_remaining_ms(&question->call));
		for (int i = 0; i < list->cnt && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
			err = list->elems[i].err;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return true;
		if (!is_transient(err) || kafka_call_remaining_ms(&question->call) == 0)
		{
			question_fail_error(question, err);
			return false;
		}
		kafka_call_pause();
	}
}

static void
answer_offsets(Question *question)
{
	rd_kafka_topic_partition_list_t *list;
	int64	   *times = calloc(question->n, sizeof(int64));
	bool		no_record = false;

	question->offsets = calloc(question->n, sizeof(int64));
	if (times == NULL || question->offsets == NULL)
	{
		free(times);
		kafka_call_fail(&question->call, KAFKA_FAILED, "out of memory");
		return;
	}

	/* a missing topic would be asked for again and again until the time-out */
	answer_partitions(question);
	for (int i = 0; i < question->n && question->call.failure == KAFKA_OK; i++)
		if (question->partitions[i] < 0 || question->partitions[i] >= question->npartitions)
		{
			kafka_call_fail(&question->call, KAFKA_NO_TOPIC, "");
			snprintf(question->call.message, sizeof(question->call.message),
					 "partition %d does not exist, the topic has %d", (int) question->partitions[i], question->npartitions);
		}
	if (question->call.failure != KAFKA_OK)
	{
		free(times);
		return;
	}

	list = rd_kafka_topic_partition_list_new(question->n);
	for (int i = 0; i < question->n; i++)
	{
		rd_kafka_topic_partition_list_add(list, question->topic, question->partitions[i]);
		times[i] = question->time;
	}
	if (list_offsets(question, list, times))
	{
		for (int i = 0; i < question->n; i++)
		{
			question->offsets[i] = list->elems[i].offset;
			no_record |= (list->elems[i].offset < 0);
		}
		/* no record at or after the time: the end */
		if (no_record)
		{
			for (int i = 0; i < question->n; i++)
				times[i] = LIST_LATEST;
			if (list_offsets(question, list, times))
				for (int i = 0; i < question->n; i++)
					if (question->offsets[i] < 0)
						question->offsets[i] = list->elems[i].offset;
		}
	}
	rd_kafka_topic_partition_list_destroy(list);
	free(times);
}

static void
question_free(KafkaCall *call)
{
	Question   *question = (Question *) call;

	free(question->topic);
	free(question->partitions);
	free(question->offsets);
	if (question->cluster_id)
		rd_kafka_mem_free(NULL, question->cluster_id);
}

static void
question_leave(Question *question)
{
	kafka_call_leave(&question->call);
}

static void
question_run(KafkaCall *call)
{
	Question   *question = (Question *) call;

	switch (question->kind)
	{
		case ASK_PARTITIONS:
			answer_partitions(question);
			break;
		case ASK_OFFSETS:
			answer_offsets(question);
			break;
		case ASK_CLUSTER_ID:
			answer_cluster_id(question);
			break;
	}
}

/* ---- the asking side ---- */

static Question *
question_create(KafkaHandle *handle, QuestionKind kind, const char *topic,
				const int32 *partitions, int n, int64 time, int timeout_ms)
{
	Question   *question = (Question *) kafka_call_create(sizeof(Question), handle, question_run, question_free, timeout_ms);

	question->kind = kind;
	question->time = time;
	question->n = n;
	if (topic)
		question->topic = strdup(topic);
	if (n > 0)
		question->partitions = calloc(n, sizeof(int32));
	if ((topic != NULL && question->topic == NULL) || (n > 0 && question->partitions == NULL))
	{
		question_leave(question);
		kafka_out_of_memory();
	}
	for (int i = 0; i < n; i++)
		question->partitions[i] = partitions ? partitions[i] : i;
	return question;
}

/*
 * Asks; true with the answer in the question.  The question is the caller's to
 * leave in either case.
 */
static bool
question_ask(Question *question, KafkaError *err)
{
	return kafka_call_make(&question->call, err);
}

int
kafka_ask_partitions(KafkaHandle *handle, const char *topic, int timeout_ms, KafkaError *err)
{
	Question   *question = question_create(handle, ASK_PARTITIONS, topic, NULL, 0, 0, timeout_ms);
	int			result = -1;

	if (question_ask(question, err))
		result = question->npartitions;
	question_leave(question);
	return result;
}

static void
client_release(void *arg)
{
	KafkaClient *client = arg;

	if (client->handle)
		kafka_handle_release(client->handle);
	client->handle = NULL;
}

KafkaClient *
kafka_client_open(KafkaConf *conf)
{
	static const KafkaSetting defaults[] = {
		{"socket.timeout.ms", "10000"},
		{NULL, NULL}
	};
	static const KafkaSetting fixed[] = {
		{"isolation.level", "read_committed"},	/* LATEST is the last stable offset */
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"allow.auto.create.topics", "false"},
		{NULL, NULL}
	};
	MemoryContext cxt;
	MemoryContextCallback *callback;
	KafkaClient *client;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "Kafka client", ALLOCSET_SMALL_SIZES);
	client = MemoryContextAllocZero(cxt, sizeof(KafkaClient));
	callback = MemoryContextAlloc(cxt, sizeof(MemoryContextCallback));
	client->cxt = cxt;
	callback->func = client_release;
	callback->arg = client;
	MemoryContextRegisterResetCallback(cxt, callback);

	client->handle = kafka_handle_open_polled(RD_KAFKA_CONSUMER, conf, kafka_conf_build(conf, defaults, fixed));
	return client;
}

void
kafka_client_close(KafkaClient *client)
{
	MemoryContextDelete(client->cxt);
}

int
kafka_client_partitions(KafkaClient *client, const char *topic, int timeout_ms, KafkaError *err)
{
	return kafka_ask_partitions(client->handle, topic, timeout_ms, err);
}

char *
kafka_client_cluster_id(KafkaClient *client, const char *topic, int timeout_ms, KafkaError *err)
{
	Question   *question = question_create(client->handle, ASK_CLUSTER_ID, topic, NULL, 0, 0, timeout_ms);
	char	   *result = NULL;

	if (question_ask(question, err))
		result = MemoryContextAllocExtended(CurrentMemoryContext, strlen(question->cluster_id) + 1, MCXT_ALLOC_NO_OOM);
	if (result)
		memcpy(result, question->cluster_id, strlen(question->cluster_id) + 1);
	question_leave(question);
	return result;
}

bool
kafka_client_offsets(KafkaClient *client, const char *topic,
					 const int32 *partitions, int n,
					 KafkaSeek seek, int64 timestamp_ms,
					 int64 *offsets, int timeout_ms, KafkaError *err)
{
	Question   *question;
	int64		time;
	bool		answered;

	if (n < 1)
	{
		err->failure = KAFKA_OK;
		err->message[0] = '\0';
		return true;
	}
	if (seek == KAFKA_SEEK_EARLIEST)
		time = LIST_EARLIEST;
	else if (seek == KAFKA_SEEK_LATEST)
		time = LIST_LATEST;
	else
		time = Max(timestamp_ms, 0);	/* negative ones mean other things to Kafka */
	question = question_create(client->handle, ASK_OFFSETS, topic, partitions, n, time, timeout_ms);
	answered = question_ask(question, err);
	if (answered)
		memcpy(offsets, question->offsets, sizeof(int64) * n);
	question_leave(question);
	return answered;
}

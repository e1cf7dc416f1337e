/*-------------------------------------------------------------------------
 *
 * make_topic.c
 *	  Makes a topic of one partition where it is not there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"

/* between two looks whether it is there */
#define LOOK_AGAIN_MS	20

typedef struct MakeCall
{
	KafkaCall	call;
	char	   *topic;
} MakeCall;

static void
make_free(KafkaCall *call)
{
	free(((MakeCall *) call)->topic);
}

/* On the helper thread. */
static void
make_run(KafkaCall *call)
{
	rd_kafka_t *rk = call->handle->rk;
	char		errstr[256];
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(((MakeCall *) call)->topic, 1, -1, errstr, sizeof(errstr));
	rd_kafka_queue_t *queue;
	rd_kafka_AdminOptions_t *options;
	rd_kafka_event_t *event;
	rd_kafka_resp_err_t err;
	int			timeout_ms;

	if (topic == NULL)
	{
		kafka_call_fail(call, KAFKA_FAILED, errstr);
		return;
	}
	queue = rd_kafka_queue_new(rk);
	options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	timeout_ms = kafka_call_remaining_ms(call);
	rd_kafka_AdminOptions_set_request_timeout(options, Max(timeout_ms, 1), errstr, sizeof(errstr));
	rd_kafka_CreateTopics(rk, &topic, 1, options, queue);
	event = rd_kafka_queue_poll(queue, kafka_call_remaining_ms(call) + 500);
	if (event == NULL)
		err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	else if ((err = rd_kafka_event_error(event)) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		size_t		n;
		const rd_kafka_topic_result_t **results =
			rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);

		err = n == 1 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__BAD_MSG;
	}
	/* somebody else may have been faster */
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		kafka_call_fail(call, kafka_failure_of(err), rd_kafka_err2str(err));
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy(topic);
}

static bool
create_topic(KafkaHandle *handle, const char *topic, int timeout_ms, KafkaError *err)
{
	KafkaCall  *call = kafka_call_create(sizeof(MakeCall), handle, make_run, make_free, timeout_ms);
	bool		result;

	call->serves = true;
	((MakeCall *) call)->topic = strdup(topic);
	if (((MakeCall *) call)->topic == NULL)
	{
		kafka_call_leave(call);
		kafka_out_of_memory();
	}
	result = kafka_call_make(call, err);
	kafka_call_leave(call);
	return result;
}

bool
kafka_make_topic(KafkaHandle *handle, const char *topic, int timeout_ms, KafkaError *err)
{
	int64		deadline = monotonic_us() + (int64) timeout_ms * 1000;

	for (;;)
	{
		if (kafka_ask_partitions(handle, topic, timeout_ms, err) > 0)
			return true;
		if (err->failure == KAFKA_NO_TOPIC)
			strlcpy(err->message, topic, sizeof(err->message));
		if (err->failure != KAFKA_NO_TOPIC || monotonic_us() > deadline)
			return false;
		if (!create_topic(handle, topic, timeout_ms, err))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_AGAIN_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*-------------------------------------------------------------------------
 *
 * publish_call.c
 *	  What a publisher asks of the library and has to wait for: calls that run on
 *	  a helper thread (call.c).
 *
 * In those of the transactional API the library runs callbacks: they serve the
 * handle's events themselves, and it is nobody else's until they are done.  But
 * while a commit sends the position, and then waits for the verdict on the
 * messages, it is the PostgreSQL thread that serves, and hears of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdlib.h>

#include "base/base.h"
#include "kafka/publish.h"

static void
publish_free(KafkaCall *call)
{
	PublishCall *p = (PublishCall *) call;

	free(p->topic);
	free(p->group);
	free(p->metadata);
	pthread_cond_destroy(&p->decided);
	pthread_mutex_destroy(&p->lock);
}

static int
remaining_ms(const PublishCall *p)
{
	int64		left = p->deadline_us - monotonic_us();

	return left <= 0 ? 0 : (int) (left / 1000) + 1;
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
bool
kafka_transaction_failure(rd_kafka_t *rk, KafkaFailure *failure, char *text, Size size)
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

static bool
is_given_up(PublishCall *p)
{
	bool		result;

	pthread_mutex_lock(&p->lock);
	result = p->verdict == PUBLISH_GIVEN_UP;
	pthread_mutex_unlock(&p->lock);
	return result;
}

/*
 * An error of the transactional API; true: the same call should be made again.
 * Takes the error over.
 */
static bool
again(PublishCall *p, rd_kafka_error_t *error)
{
	const char *text = rd_kafka_error_string(error);
	bool		retriable = rd_kafka_error_is_retriable(error) && !rd_kafka_error_is_fatal(error) &&
		!rd_kafka_error_txn_requires_abort(error);

	if (retriable && remaining_ms(p) > 0 && !is_given_up(p))
	{
		rd_kafka_error_destroy(error);
		kafka_call_pause();
		return true;
	}
	/* the library's words are for who calls it again */
	if (rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT && strstr(text, "retry call") != NULL)
		text = "the transaction coordinator did not answer in time";
	kafka_call_fail(&p->call, kafka_failure_of(rd_kafka_error_code(error)), text);
	rd_kafka_error_destroy(error);
	return false;
}

static void
run_init(PublishCall *p)
{
	rd_kafka_error_t *error;

	while ((error = rd_kafka_init_transactions(p->call.handle->rk, remaining_ms(p))) != NULL)
		if (!again(p, error))
			return;
}

/* Is one of the topics that the handle knows gone?  The library goes on trying for half a minute. */
static void
run_look(PublishCall *p)
{
	const struct rd_kafka_metadata *metadata;
	int			i;

	if (rd_kafka_metadata(p->call.handle->rk, 0, NULL, &metadata, remaining_ms(p)) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	for (i = 0; i < metadata->topic_cnt && p->call.failure == KAFKA_OK; i++)
		if (metadata->topics[i].err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			kafka_call_fail(&p->call, KAFKA_NO_TOPIC, metadata->topics[i].topic);
	rd_kafka_metadata_destroy(metadata);
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
	while ((error = rd_kafka_send_offsets_to_transaction(rk, list, group, remaining_ms(p))) != NULL)
		if (!again(p, error))
			break;
	rd_kafka_consumer_group_metadata_destroy(group);
	rd_kafka_topic_partition_list_destroy(list);
	return error == NULL;
}

static bool
wait_for_verdict(PublishCall *p)
{
	PublishVerdict verdict;

	pthread_mutex_lock(&p->lock);
	while (p->verdict == PUBLISH_UNDECIDED)
		pthread_cond_wait(&p->decided, &p->lock);
	verdict = p->verdict;
	pthread_mutex_unlock(&p->lock);
	return verdict == PUBLISH_DELIVERED;
}

static void
run_commit(PublishCall *p)
{
	rd_kafka_error_t *error;

	if (!send_position(p) || !wait_for_verdict(p))
		return;
	p->deadline_us = monotonic_us() + (int64) p->commit_ms * 1000;
	while ((error = rd_kafka_commit_transaction(p->call.handle->rk, remaining_ms(p))) != NULL)
		if (!again(p, error))
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
			if (remaining_ms(p) > 100)
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
		int			timeout_ms = remaining_ms(p);
		bool		done;

		rd_kafka_topic_partition_list_add(list, p->topic, 0);
		request = rd_kafka_ListConsumerGroupOffsets_new(p->group, list);
		rd_kafka_AdminOptions_set_request_timeout(options, Max(timeout_ms, 1), errstr, sizeof(errstr));
		error = rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
		if (error != NULL)
			rd_kafka_error_destroy(error);
		rd_kafka_ListConsumerGroupOffsets(rk, &request, 1, options, queue);
		event = rd_kafka_queue_poll(queue, remaining_ms(p) + 500);
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

/*
 * A position that is still being sent is in its way for a moment.  What comes of
 * it does not matter: who takes over ends the transaction, too.
 */
static void
run_abort(PublishCall *p)
{
	rd_kafka_error_t *error;

	while ((error = rd_kafka_abort_transaction(p->call.handle->rk, remaining_ms(p))) != NULL)
		if (!again(p, error))
			return;
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
		case PUBLISH_LOOK:
			run_look(p);
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

PublishCall *
kafka_publish_call(KafkaHandle *handle, PublishKind kind, const char *topic, const char *group, const char *metadata, int timeout_ms)
{
	PublishCall *p = (PublishCall *) kafka_call_create(sizeof(PublishCall), handle, publish_run, publish_free, timeout_ms);

	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->decided, NULL);
	p->call.serves = kind == PUBLISH_INIT || kind == PUBLISH_COMMIT || kind == PUBLISH_ABORT;
	p->kind = kind;
	p->deadline_us = p->call.deadline_us;
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

void
kafka_publish_decide(PublishCall *p, PublishVerdict verdict)
{
	pthread_mutex_lock(&p->lock);
	if (p->verdict == PUBLISH_UNDECIDED)
		p->verdict = verdict;
	pthread_cond_signal(&p->decided);
	pthread_mutex_unlock(&p->lock);
}

bool
kafka_publish_make(PublishCall *p, KafkaError *err)
{
	bool		result = kafka_call_make(&p->call, err);

	kafka_call_leave(&p->call);
	return result;
}

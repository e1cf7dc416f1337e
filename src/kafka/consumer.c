/*-------------------------------------------------------------------------
 *
 * consumer.c
 *	  Reads partitions at exact offsets: assign(), one library queue for each
 *	  partition, no group, no rebalance, no commit to Kafka.
 *
 * Threads: everything here runs on the PostgreSQL thread; the library's own
 * threads only fill its queues and write into the pipe.
 *
 * Wake-ups.  The library writes one byte when a queue that was served last
 * time becomes non-empty, so the order is: empty the pipe, then look at the
 * queues until they are empty, then sleep on the pipe.
 *
 * The stall.  librdkafka 2.0.2 stops fetching a partition whose queue is full
 * and looks again only up to a second later.  Small queues halve its CPU cost,
 * so they are full all the time.  A partition is taken for stalled when its
 * queue stayed empty for STALL_US after a run of messages that had filled it (only
 * then can the library have stopped); an asynchronous seek to the next offset
 * wakes the fetcher.  What the library had fetched meanwhile is thrown away by
 * it, as outdated, and read again from that offset.  Nobody wakes us during a
 * stall: kafka_consumer_sleep_ms() says how long the caller may sleep.
 *
 * The long poll.  The library has one fetch request under way per broker.  A
 * partition whose queue is full when it is sent is not in it, and when all that
 * are in it stand at their end, the broker answers only after
 * fetch.wait.max.ms: so long the others starve, and no seek helps.  Hence 10 ms
 * (with 100 a backlog on some partitions beside idle ones takes up to five times as
 * long); it costs an idle consumer 0.5 % of a core.
 *
 * Memory.  Everything lives in a context of its own below the caller's; its
 * reset callback closes the handle, so an ERROR anywhere frees all, messages
 * that were given out included (an undestroyed message would make
 * rd_kafka_destroy hang for ever: each message given out has a slot that knows it).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#define CHUNK				512		/* messages taken from one queue at a time */
#define STALL_US			8000	/* queue empty for so long after it was full */
#define DOWN_GRACE_US		500000	/* a failed first address is not an outage */
#define MUTE_US				1000000 /* no answer to any request */
#define SLOT_BLOCK			1024

typedef struct SlotBlock
{
	struct SlotBlock *next;
	KafkaSlot slots[SLOT_BLOCK];
} SlotBlock;

/* The side of a partition that is not shown to others. */
typedef struct PartitionState
{
	rd_kafka_queue_t *queue;
	rd_kafka_topic_t *topic;	/* shared by the partitions of a topic */
	bool		held;
	bool		kicked;			/* nothing came since the last kick */
	int64		stable_end;		/* last stable offset by statistics, -1 unknown */
	int64		stable_high;	/* high watermark of the same statistics */
	int64		run_bytes;		/* taken since the queue was last seen empty */
	int64		run_messages;
	int64		empty_since_us; /* the queue ran empty after a full run; 0: no */
} PartitionState;

struct KafkaConsumer
{
	MemoryContext cxt;
	KafkaHandle *handle;
	rd_kafka_queue_t *common;	/* errors, log, statistics */
	KafkaPartition *parts;		/* the caller's */
	PartitionState *states;
	int			nparts;
	int			next_part;		/* where the next round starts */
	int			nsuspects;		/* partitions with empty_since_us != 0 */
	int64		full_bytes;		/* a run of this size had filled the queue */
	int64		full_messages;

	int64		responses;		/* received up to the last statistics */
	int64		responses_us;	/* when they last grew, or none was awaited */
	int64		mute_us;		/* requests unanswered for so long: mute */

	KafkaSlot  *free_slots;
	int			nfree;
	SlotBlock  *blocks;
	rd_kafka_message_t *batch[CHUNK];
};

static void consumer_release(void *arg);
static void consumer_stats(void *arg, const char *json, size_t len);

KafkaConsumer *
kafka_consumer_open(KafkaConf *conf, KafkaPartition *parts, int nparts, int queue_kb)
{
	char		kbytes[32];
	char		fetch_bytes[32];
	char		min_messages[32];
	char		stats_ms[32];
	int			limit_kb = Max(64, queue_kb / Max(nparts, 1));
	int			limit_messages;
	const KafkaSetting defaults[] = {
		{"fetch.wait.max.ms", "10"},	/* see "The long poll" above */
		{"fetch.min.bytes", "1"},
		{"fetch.message.max.bytes", fetch_bytes},
		{"socket.timeout.ms", "10000"},
		{NULL, NULL}
	};
	const KafkaSetting fixed[] = {
		{"group.id", "streamproc"}, /* assign() wants one; it is never joined */
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"auto.offset.reset", "error"},
		{"isolation.level", "read_committed"},
		{"enable.partition.eof", "true"},
		{"allow.auto.create.topics", "false"},
		{"topic.metadata.refresh.interval.ms", "5000"},
		{"topic.metadata.propagation.max.ms", "1000"},
		{"queued.max.messages.kbytes", kbytes},
		{"queued.min.messages", min_messages},
		{"statistics.interval.ms", stats_ms},
		{NULL, NULL}
	};
	MemoryContext cxt;
	MemoryContextCallback *callback;
	KafkaConsumer *consumer;
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t err;

	if (nparts < 1)
		elog(ERROR, "a Kafka consumer needs at least one partition");

	/* the library counts values only, so short messages are bounded by number */
	limit_messages = Max(1000, (int) Min((int64) limit_kb * 1024 / 32, 1000000));
	snprintf(kbytes, sizeof(kbytes), "%d", Min(limit_kb, 2097151));
	snprintf(fetch_bytes, sizeof(fetch_bytes), "%d", (int) Min((int64) limit_kb * 1024, 500000));
	snprintf(min_messages, sizeof(min_messages), "%d", limit_messages);
	/* the text grows with the partitions: keep its cost per second flat */
	snprintf(stats_ms, sizeof(stats_ms), "%d", Max(400, nparts * 10));

	cxt = AllocSetContextCreate(CurrentMemoryContext, "Kafka consumer", ALLOCSET_DEFAULT_SIZES);
	consumer = MemoryContextAllocZero(cxt, sizeof(KafkaConsumer));
	callback = MemoryContextAlloc(cxt, sizeof(MemoryContextCallback));
	consumer->cxt = cxt;
	consumer->parts = parts;
	consumer->nparts = nparts;
	consumer->states = MemoryContextAllocZero(cxt, sizeof(PartitionState) * nparts);
	/* a little less than the limit, as the message that crosses it may be any */
	consumer->full_bytes = (int64) limit_kb * 1024 * 7 / 8;
	consumer->full_messages = (int64) limit_messages * 7 / 8;
	consumer->responses_us = monotonic_us();
	consumer->mute_us = MUTE_US;
	for (int i = 0; i < conf->nprops; i++)
		if (strcmp(conf->names[i], "fetch.wait.max.ms") == 0)
			consumer->mute_us += (int64) atoi(conf->values[i]) * 1000;
	callback->func = consumer_release;
	callback->arg = consumer;
	MemoryContextRegisterResetCallback(cxt, callback);

	consumer->handle = kafka_handle_open(RD_KAFKA_CONSUMER, conf, kafka_conf_build(conf, defaults, fixed));
	consumer->handle->stats = consumer_stats;
	consumer->handle->stats_arg = consumer;

	/*
	 * From here to the end of the function nothing throws before the list is
	 * freed.  Queues must be taken out of the common one before assign(), or
	 * the first messages stay there.
	 */
	rd_kafka_poll_set_consumer(consumer->handle->rk);
	rd_kafka_set_log_queue(consumer->handle->rk, NULL);
	consumer->common = rd_kafka_queue_get_consumer(consumer->handle->rk);
	rd_kafka_queue_io_event_enable(consumer->common, consumer->handle->write_fd, "c", 1);

	list = rd_kafka_topic_partition_list_new(nparts);
	for (int i = 0; i < nparts; i++)
	{
		KafkaPartition *part = &parts[i];
		PartitionState *state = &consumer->states[i];

		part->at_end = false;
		part->end_offset = KAFKA_OFFSET_UNKNOWN;
		part->last_data_us = monotonic_us();
		part->error = KAFKA_PART_OK;
		part->error_message[0] = '\0';
		state->stable_end = KAFKA_OFFSET_UNKNOWN;
		state->stable_high = KAFKA_OFFSET_UNKNOWN;

		for (int j = 0; j < i && state->topic == NULL; j++)
			if (strcmp(parts[j].topic, part->topic) == 0)
				state->topic = consumer->states[j].topic;
		if (state->topic == NULL)
			state->topic = rd_kafka_topic_new(consumer->handle->rk, part->topic, NULL);

		state->queue = rd_kafka_queue_get_partition(consumer->handle->rk, part->topic, part->partition);
		if (state->queue)
		{
			rd_kafka_queue_forward(state->queue, NULL);
			rd_kafka_queue_io_event_enable(state->queue, consumer->handle->write_fd, "p", 1);
		}
		rd_kafka_topic_partition_list_add(list, part->topic, part->partition)->offset = part->next_offset;
	}
	err = rd_kafka_assign(consumer->handle->rk, list);
	rd_kafka_topic_partition_list_destroy(list);

	for (int i = 0; i < nparts && err == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		if (consumer->states[i].topic == NULL || consumer->states[i].queue == NULL)
			err = RD_KAFKA_RESP_ERR__INVALID_ARG;
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		MemoryContextDelete(cxt);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("could not assign Kafka partitions: %s", rd_kafka_err2str(err))));
	}
	return consumer;
}

/*
 * Reset callback of the consumer's context.  May run inside an abort, so it
 * must not throw.
 */
static void
consumer_release(void *arg)
{
	KafkaConsumer *consumer = arg;
	KafkaHandle *handle = consumer->handle;

	if (handle == NULL || proc_exit_inprogress)
		return;
	consumer->handle = NULL;
	handle->stats = NULL;

	for (SlotBlock *block = consumer->blocks; block != NULL; block = block->next)
		for (int i = 0; i < SLOT_BLOCK; i++)
			if (block->slots[i].message)
				rd_kafka_message_destroy(block->slots[i].message);

	for (int i = 0; i < consumer->nparts; i++)
	{
		PartitionState *state = &consumer->states[i];
		bool		shared = false;

		if (state->queue)
		{
			rd_kafka_queue_io_event_enable(state->queue, -1, NULL, 0);
			rd_kafka_queue_destroy(state->queue);
		}
		for (int j = 0; j < i && !shared; j++)
			shared = (consumer->states[j].topic == state->topic);
		if (state->topic && !shared)
			rd_kafka_topic_destroy(state->topic);
	}
	if (consumer->common)
	{
		rd_kafka_queue_io_event_enable(consumer->common, -1, NULL, 0);
		rd_kafka_queue_destroy(consumer->common);
	}
	kafka_handle_release(handle);
}

void
kafka_consumer_close(KafkaConsumer *consumer)
{
	MemoryContextDelete(consumer->cxt);
}

int
kafka_consumer_fd(KafkaConsumer *consumer)
{
	return consumer->handle->read_fd;
}

void
kafka_consumer_hold(KafkaConsumer *consumer, int part, bool held)
{
	consumer->states[part].held = held;
}

/* More slots; the only place of a poll that may throw, before it takes messages. */
static void
add_slots(KafkaConsumer *consumer)
{
	SlotBlock  *block = MemoryContextAllocZero(consumer->cxt, sizeof(SlotBlock));

	for (int i = SLOT_BLOCK - 1; i >= 0; i--)
	{
		block->slots[i].consumer = consumer;
		block->slots[i].next_free = consumer->free_slots;
		consumer->free_slots = &block->slots[i];
	}
	block->next = consumer->blocks;
	consumer->blocks = block;
	consumer->nfree += SLOT_BLOCK;
}

static void
clear_suspicion(KafkaConsumer *consumer, PartitionState *state)
{
	if (state->empty_since_us != 0)
	{
		state->empty_since_us = 0;
		consumer->nsuspects--;
	}
	state->run_bytes = 0;
	state->run_messages = 0;
}

static void
part_error(KafkaPartition *part, int error, const char *message)
{
	part->error = error;
	strlcpy(part->error_message, message, sizeof(part->error_message));
}

/*
 * An event of a partition: end of partition, or an error.  Errors that the
 * library retries at the same offset are only remembered as the reason shown;
 * errors after which it would go on behind the offset stop the partition.
 */
static void
part_event(KafkaConsumer *consumer, int i, const rd_kafka_message_t *event)
{
	KafkaPartition *part = &consumer->parts[i];
	KafkaHandle *handle = consumer->handle;
	const char *text = rd_kafka_message_errstr(event);

	switch (event->err)
	{
		case RD_KAFKA_RESP_ERR__PARTITION_EOF:
			handle->down_since_us = 0;
			if (event->offset < part->next_offset)
				break;
			part->next_offset = event->offset;
			part->end_offset = event->offset;
			part->at_end = true;
			consumer->states[i].kicked = false;
			clear_suspicion(consumer, &consumer->states[i]);
			break;
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
			part_error(part, KAFKA_PART_OUT_OF_RANGE, text);
			break;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
			handle->topic_missing = true;
			break;
		case RD_KAFKA_RESP_ERR__BAD_MSG:
		case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
		case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			part_error(part, KAFKA_PART_OTHER, text);
			break;
		default:
			if (event->err < RD_KAFKA_RESP_ERR_UNKNOWN &&
				event->err != RD_KAFKA_RESP_ERR__TRANSPORT &&
				event->err != RD_KAFKA_RESP_ERR__TIMED_OUT)
				part_error(part, KAFKA_PART_OTHER, text);	/* the library's own: not known to be repeated */
			else
				kafka_handle_set_reason(handle, text);
			break;
	}
}

/*
 * The common queue: callbacks run in here.  With the partitions' queues taken
 * out of it no message can come; one that does is not lost silently.
 */
static void
serve_common(KafkaConsumer *consumer)
{
	while (rd_kafka_queue_length(consumer->common) > 0)
	{
		ssize_t		n = rd_kafka_consume_batch_queue(consumer->common, 0, consumer->batch, CHUNK);

		for (ssize_t k = 0; k < n; k++)
		{
			rd_kafka_message_t *event = consumer->batch[k];
			int			i = consumer->nparts;

			if (event->rkt)
				for (i = 0; i < consumer->nparts; i++)
					if (consumer->parts[i].partition == event->partition &&
						strcmp(consumer->parts[i].topic, rd_kafka_topic_name(event->rkt)) == 0)
						break;
			if (event->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			{
				if (i < consumer->nparts)
					part_error(&consumer->parts[i], KAFKA_PART_OTHER,
							   "a message came outside of the queue of its partition");
			}
			else if (i < consumer->nparts)
				part_event(consumer, i, event);
			else if (event->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
					 event->err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
					 event->err == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)
				consumer->handle->topic_missing = true;
			else
				kafka_handle_set_reason(consumer->handle, rd_kafka_message_errstr(event));
			rd_kafka_message_destroy(event);
		}
		if (n <= 0)
			break;
	}
}

/*
 * The queue of a partition is empty: is it stalled?  Returns the time, which
 * is read at most once per poll.
 */
static int64
check_stall(KafkaConsumer *consumer, int i, int64 now)
{
	PartitionState *state = &consumer->states[i];
	KafkaPartition *part = &consumer->parts[i];

	if (part->at_end ||
		(state->run_bytes < consumer->full_bytes && state->run_messages < consumer->full_messages))
	{
		clear_suspicion(consumer, state);
		return now;
	}
	if (now == 0)
		now = monotonic_us();
	if (state->empty_since_us == 0)
	{
		state->empty_since_us = now;
		consumer->nsuspects++;
	}
	else if (now - state->empty_since_us >= STALL_US)
	{
		/* a failed kick costs the second that it would have saved, no more */
		(void) rd_kafka_seek(state->topic, part->partition, part->next_offset, 0);
		state->kicked = true;
		clear_suspicion(consumer, state);
	}
	return now;
}

int
kafka_consumer_poll(KafkaConsumer *consumer, KafkaMessage *out, int max, Size max_bytes)
{
	KafkaHandle *handle = consumer->handle;
	int64		now = 0;
	Size		bytes = 0;
	int			n = 0;
	int			idle = 0;		/* partitions in a row that gave nothing */
	int			i = consumer->next_part;

	kafka_handle_drain(handle);
	if (unlikely(rd_kafka_queue_length(consumer->common) > 0))
	{
		serve_common(consumer);
		kafka_handle_log(handle);
	}

	while (n < max && bytes < max_bytes && idle < consumer->nparts)
	{
		PartitionState *state = &consumer->states[i];
		KafkaPartition *part = &consumer->parts[i];
		int			index = i;
		size_t		waiting;
		int			length;
		ssize_t		got;
		int64		next_offset;
		int			first = n;
		Size		part_bytes = 0;

		if (++i == consumer->nparts)
			i = 0;
		if (unlikely(state->held || part->error != KAFKA_PART_OK))
		{
			idle++;
			continue;
		}

		/*
		 * Asking for more than there is costs a system call (a wait that is
		 * over at once).  After a kick the call is made nevertheless, as it
		 * is what allows the library to write the next wake-up.
		 */
		/* asked once: it grows meanwhile, and Min() evaluates twice */
		waiting = rd_kafka_queue_length(state->queue);
		length = (int) Min(waiting, CHUNK);
		if (length == 0)
		{
			now = check_stall(consumer, index, now);
			if (likely(!state->kicked))
			{
				idle++;
				continue;
			}
			length = 1;
		}
		length = Min(length, max - n);
		while (unlikely(consumer->nfree < length))
			add_slots(consumer);
		Assert(length > 0 && length <= CHUNK);
		got = rd_kafka_consume_batch_queue(state->queue, 0, consumer->batch, length);
		if (got <= 0)
		{
			idle++;
			continue;
		}
		idle = 0;

		next_offset = part->next_offset;
		for (ssize_t k = 0; k < got; k++)
		{
			rd_kafka_message_t *message = consumer->batch[k];
			KafkaSlot *slot;

			if (unlikely(message->err != RD_KAFKA_RESP_ERR_NO_ERROR || part->error != KAFKA_PART_OK))
			{
				if (part->error == KAFKA_PART_OK)
				{
					part->next_offset = next_offset;
					part_event(consumer, index, message);
					next_offset = part->next_offset;
				}
				rd_kafka_message_destroy(message);
				continue;
			}
			if (unlikely(message->offset < next_offset))
			{
				/* directly after our own seek the library may repeat */
				if (!state->kicked)
				{
					char		text[128];

					snprintf(text, sizeof(text), "offset " INT64_FORMAT " came where " INT64_FORMAT " was expected",
							 (int64) message->offset, next_offset);
					part_error(part, KAFKA_PART_BACKWARDS, text);
				}
				rd_kafka_message_destroy(message);
				continue;
			}
			state->kicked = false;
			part->at_end = false;
			next_offset = message->offset + 1;

			slot = consumer->free_slots;
			consumer->free_slots = slot->next_free;
			slot->message = message;

			out[n].value = message->payload;
			out[n].key = message->key;
			out[n].value_len = message->len;
			out[n].key_len = message->key_len;
			out[n].offset = message->offset;
			out[n].part = index;
			out[n].handle = slot;
			part_bytes += message->len + message->key_len;
			n++;
		}
		part->next_offset = next_offset;
		if (n > first)
		{
			if (now == 0)
				now = monotonic_us();
			if (state->empty_since_us != 0)
				clear_suspicion(consumer, state);
			state->run_bytes += part_bytes;
			state->run_messages += n - first;
			consumer->nfree -= n - first;
			bytes += part_bytes;
			part->last_data_us = now;
			handle->down_since_us = 0;
		}
	}
	consumer->next_part = i;
	return n;
}

/*
 * How long the caller may sleep on the fd: shorter while a stall is suspected,
 * or while an outage is about to be one.
 */
int
kafka_consumer_sleep_ms(KafkaConsumer *consumer)
{
	if (consumer->nsuspects > 0)
		return 5;
	if (consumer->handle->down_since_us != 0)
	{
		int64		left = consumer->handle->down_since_us + DOWN_GRACE_US - monotonic_us();

		if (left > 0)
			return (int) Min(left / 1000 + 1, 1000);
	}
	return 1000;
}

void
kafka_messages_free(KafkaMessage *messages, int n)
{
	for (int i = 0; i < n; i++)
	{
		KafkaSlot *slot = messages[i].handle;
		KafkaConsumer *consumer = slot->consumer;

		rd_kafka_message_destroy(slot->message);
		slot->message = NULL;
		slot->next_free = consumer->free_slots;
		consumer->free_slots = slot;
		consumer->nfree++;
	}
}

/*
 * The last stable offset is in the statistics only, up to a second old; the
 * high watermark of the last fetch is fresh.  They differ while a transaction
 * is open, and only then the older figure is the better one.
 */
void
kafka_consumer_update_ends(KafkaConsumer *consumer)
{
	if (rd_kafka_queue_length(consumer->common) > 0)
		serve_common(consumer);

	for (int i = 0; i < consumer->nparts; i++)
	{
		KafkaPartition *part = &consumer->parts[i];
		PartitionState *state = &consumer->states[i];
		int64_t		low;
		int64_t		high;

		/* of one that is held, the end that we came to may be passed by now */
		if (part->at_end && !state->held)
		{
			part->end_offset = part->next_offset;
			continue;
		}
		if (rd_kafka_get_watermark_offsets(consumer->handle->rk, part->topic, part->partition,
										   &low, &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
			high < 0)
			continue;
		if (state->stable_end >= 0 && state->stable_end < state->stable_high)
			high = Min(high, state->stable_end);
		part->end_offset = Max(high, part->next_offset);
	}
}

static const char *
find(const char *from, const char *end, const char *what)
{
	return from ? memmem(from, end - from, what, strlen(what)) : NULL;
}

/*
 * The integer behind a label inside [from, end).  The text of the statistics
 * is not NUL-terminated for us, but a number in it is followed by , or }.
 */
static bool
find_integer(const char *from, const char *end, const char *label, int64 *value)
{
	const char *p = find(from, end, label);

	if (p == NULL || p + strlen(label) >= end)
		return false;
	*value = strtoll(p + strlen(label), NULL, 10);
	return true;
}

static int64
sum_integers(const char *from, const char *end, const char *label)
{
	int64		sum = 0;
	int64		value;

	while (find_integer(from, end, label, &value))
	{
		sum += value;
		from = find(from, end, label) + strlen(label);
	}
	return sum;
}

/*
 * The library's statistics, the only place that tells whether a broker is up
 * and where the last stable offset is.  Labels are searched rather than the
 * text parsed: the order is the library's own, and topic names cannot
 * contain quotes.
 */
static void
consumer_stats(void *arg, const char *json, size_t len)
{
	KafkaConsumer *consumer = arg;
	KafkaHandle *handle = consumer->handle;
	const char *end = json + len;
	const char *brokers = find(json, end, "\"brokers\":");
	const char *topics = find(brokers, end, "\"topics\":");
	const char *p;
	int64		responses;
	int64		now;

	if (topics == NULL)
		return;
	now = monotonic_us();
	responses = sum_integers(brokers, topics, "\"rx\":");
	if (responses != consumer->responses || sum_integers(brokers, topics, "\"waitresp_cnt\":") == 0)
	{
		consumer->responses = responses;
		consumer->responses_us = now;
	}

	if (find(brokers, topics, "\"state\":\"UP\"") == NULL)
	{
		if (handle->down_since_us == 0)
			handle->down_since_us = now;
	}
	else if (now - consumer->responses_us >= consumer->mute_us)
	{
		/* connected, but requests stay without an answer */
		if (handle->down_since_us == 0)
		{
			handle->down_since_us = now - DOWN_GRACE_US;
			kafka_handle_set_reason(handle, "the broker does not answer");
		}
	}
	else
		handle->down_since_us = 0;

	for (p = find(topics, end, "\"topic\":\""); p != NULL;)
	{
		const char *name = p + strlen("\"topic\":\"");
		const char *name_end = find(name, end, "\"");
		const char *next = find(name, end, "\"topic\":\"");
		const char *topic_end = next ? next : end;
		const char *q;

		if (name_end == NULL)
			break;
		for (q = find(name_end, topic_end, "\"partition\":"); q != NULL;)
		{
			const char *q_next = find(q + 1, topic_end, "\"partition\":");
			const char *q_end = q_next ? q_next : topic_end;
			int64		partition;
			int64		high;
			int64		stable;

			if (find_integer(q, q_end, "\"partition\":", &partition) &&
				find_integer(q, q_end, "\"hi_offset\":", &high) &&
				find_integer(q, q_end, "\"ls_offset\":", &stable))
			{
				for (int i = 0; i < consumer->nparts; i++)
				{
					KafkaPartition *part = &consumer->parts[i];

					if (part->partition == partition &&
						strlen(part->topic) == name_end - name &&
						memcmp(part->topic, name, name_end - name) == 0)
					{
						consumer->states[i].stable_high = high;
						consumer->states[i].stable_end = stable;
						break;
					}
				}
			}
			q = q_next;
		}
		p = next;
	}
}

int64
kafka_consumer_heard_us(KafkaConsumer *consumer)
{
	return consumer->handle->down_since_us == 0 ? consumer->responses_us : 0;
}

bool
kafka_consumer_connected(KafkaConsumer *consumer, KafkaError *err)
{
	KafkaHandle *handle = consumer->handle;

	/* while the one that the cluster sends us to is refused, the one that we asked may be up */
	if (!kafka_handle_refused(handle) &&
		(handle->down_since_us == 0 || monotonic_us() - handle->down_since_us < DOWN_GRACE_US))
		return true;
	kafka_handle_explain(handle, "no broker answers", err);
	return false;
}

bool
kafka_consumer_topic_missing(KafkaConsumer *consumer)
{
	bool		missing = consumer->handle->topic_missing;

	consumer->handle->topic_missing = false;
	return missing;
}

/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Is a topic still the one that the saved positions were taken from?
 *
 * A topic that was deleted and made anew has the same name, cluster and
 * partitions.  Where it has fewer records than the position says, the broker
 * refuses the offset; where it has more, reading would silently go on in the
 * middle of other data.  So the record right before the position is looked at:
 * it must bear the message timestamp that was saved with the position.
 *
 * While the pipeline runs its positions go on in whatever topic there is, so
 * then those of the look before are compared.
 *
 * What is not there (deleted by retention, compacted, a control record) cannot
 * be compared, and a cluster that does not answer in time is asked again next
 * time: only a record that contradicts fails the pipeline.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/launcher.h"

#define LOOK_MESSAGES	64
#define LOOK_BYTES		(1024 * 1024)

/* what the look before has read, in a context of its own */
static List *previous = NIL;
static MemoryContext previous_cxt = NULL;

typedef struct Look
{
	PartitionPosition *position;
	bool		done;
} Look;

static void
fail_other_topic(const PartitionPosition *position, TimestampTz found)
{
	Reason		reason;
	char		detail[SHMEM_MESSAGE_LEN];
	char		was[64];

	strlcpy(was, timestamptz_to_str(position->record_time), sizeof(was));
	snprintf(detail, sizeof(detail), "The record before the position was of %s, the topic has one of %s there.",
			 was, timestamptz_to_str(found));
	reason_set(&reason, "58030", "the topic is not the one that was read: it was made anew", detail,
			   "Drop the pipeline and create it anew, with start => where to begin in the new topic.");
	strlcpy(reason.topic, position->topic, SHMEM_TOPIC_LEN);
	reason.partition = position->partition;
	reason.offset = position->next_offset;
	worker_fail_pipeline(&reason);
}

/*
 * Takes some of what is there; returns how many partitions are still to be
 * seen.  *more: there may be more at once (and then nothing wakes us).
 */
static int
look(KafkaConsumer *consumer, KafkaPartition *parts, Look *looks, int n, bool *more)
{
	KafkaMessage messages[LOOK_MESSAGES];
	int			got = kafka_consumer_poll(consumer, messages, LOOK_MESSAGES, LOOK_BYTES);
	PartitionPosition *wrong = NULL;
	TimestampTz wrong_time = 0;
	int			left = 0;
	int			i;

	*more = got > 0;
	for (i = 0; i < got; i++)
	{
		Look	   *l = &looks[messages[i].part];
		int64		ms = kafka_message_timestamp(&messages[i]);

		if (!l->done && messages[i].offset == l->position->next_offset - 1 && ms >= 0)
		{
			TimestampTz found = worker_kafka_time(ms);

			if (found != l->position->record_time)
			{
				wrong = l->position;
				wrong_time = found;
			}
		}
		l->done = true;
	}
	if (got > 0)
		kafka_messages_free(messages, got);
	if (wrong != NULL)
	{
		kafka_consumer_close(consumer);
		fail_other_topic(wrong, wrong_time);
	}
	for (i = 0; i < n; i++)
	{
		if (parts[i].at_end || parts[i].error != KAFKA_PART_OK)
			looks[i].done = true;
		if (looks[i].done)
			kafka_consumer_hold(consumer, i, true);
		else
			left++;
	}
	return left;
}

/* Is the partition one of those that the pipeline reads now? */
static bool
is_read(List *topics, const PartitionPosition *position)
{
	ListCell   *lc;

	foreach(lc, topics)
	{
		LauncherTopic *topic = lfirst(lc);

		if (strcmp(topic->name, position->topic) == 0)
			return position->partition < topic->npartitions;
	}
	return false;
}

/*
 * Compares the records before the saved positions with what is saved of them;
 * takes at most timeout_ms.  No transaction is open.
 */
void
launcher_check_records(PipelineRow *row, List *topics, KafkaConf *conf, int timeout_ms)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc identity", ALLOCSET_DEFAULT_SIZES);
	MemoryContext now_cxt = AllocSetContextCreate(TopMemoryContext, "streamproc positions", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	List	   *positions;
	List	   *now;
	int64		deadline = monotonic_us() + (int64) timeout_ms * 1000;
	KafkaConsumer *consumer;
	KafkaPartition *parts;
	Look	   *looks;
	ListCell   *lc;
	int			max = 0;
	int			n = 0;
	bool		more;

	checkpoint_begin();
	MemoryContextSwitchTo(now_cxt);
	now = catalog_positions(row->name);
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
	positions = previous ? previous : now;

	foreach(lc, positions)
		max += ((PositionRow *) lfirst(lc))->nparts;
	parts = palloc0(sizeof(KafkaPartition) * Max(max, 1));
	looks = palloc0(sizeof(Look) * Max(max, 1));
	foreach(lc, positions)
	{
		PositionRow *r = lfirst(lc);
		int			i;

		for (i = 0; i < r->nparts; i++)
		{
			PartitionPosition *p = &r->parts[i];

			if (p->next_offset <= 0 || TIMESTAMP_NOT_FINITE(p->record_time) || !is_read(topics, p))
				continue;
			looks[n].position = p;
			parts[n].topic = p->topic;
			parts[n].partition = p->partition;
			parts[n].next_offset = p->next_offset - 1;
			n++;
		}
	}
	if (n > 0)
	{
		consumer = kafka_consumer_open(conf, parts, n, 0);
		while (look(consumer, parts, looks, n, &more) > 0)
		{
			long		left = (long) ((deadline - monotonic_us()) / 1000);

			if (left <= 0)
				break;
			if (!more)
			{
				(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
										 kafka_consumer_fd(consumer), Min(left, kafka_consumer_sleep_ms(consumer)),
										 PG_WAIT_EXTENSION);
				ResetLatch(MyLatch);
			}
			worker_check();
		}
		kafka_consumer_close(consumer);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	if (previous_cxt != NULL)
		MemoryContextDelete(previous_cxt);
	previous = now;
	previous_cxt = now_cxt;
}

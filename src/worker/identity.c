/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Is a topic still the one that the saved positions were taken from?
 *
 * A topic that was deleted and made anew has the same name, cluster and
 * partitions.  Where it has fewer records than the position says, the broker
 * refuses the offset; where it has more, reading would silently go on in the
 * middle of other data.  So with each position the last record that was read
 * is remembered: its offset, message timestamp and a checksum of key and
 * value.  A record of that offset must still be that record.
 *
 * While a pipeline runs, its positions move on in whatever topic there is, so
 * they prove nothing.  What is compared then are marks: records that were
 * before the positions at the last look.  If they are still there, the topic
 * is the same from before that look until now, and so the positions read
 * before the comparison are its own: their records are the next marks.  They
 * are kept in a table: a launcher that begins in the middle must know them.
 *
 * What is not there (deleted by retention, compacted) cannot be compared, and
 * a cluster that does not answer in time is asked again next time: only a
 * record that contradicts counts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/launcher.h"

#define LOOK_MESSAGES	64
#define LOOK_BYTES		(1024 * 1024)

static int	nmarks = -1;		/* partitions that have one, -1: not known */

RecordMark
worker_record_mark(const KafkaMessage *message)
{
	RecordMark	mark;
	/* no key and no value are something else than empty ones */
	XXH64_hash_t seed = (message->key == NULL ? 1 : 0) + (message->value == NULL ? 2 : 0);

	if (message->key != NULL)
		seed += XXH3_64bits(message->key, message->key_len);
	mark.offset = message->offset;
	mark.time = worker_kafka_time(kafka_message_timestamp(message));
	mark.sum = (int64) XXH3_64bits_withSeed(message->value, message->value_len, seed);
	if (mark.sum == 0)
		mark.sum = 1;
	return mark;
}

/* Is there anything to compare? */
bool
record_mark_known(const RecordMark *mark)
{
	return mark->offset >= 0 && (!TIMESTAMP_NOT_FINITE(mark->time) || mark->sum != 0);
}

static bool
marks_contradict(const RecordMark *a, const RecordMark *b)
{
	if (!TIMESTAMP_NOT_FINITE(a->time) && !TIMESTAMP_NOT_FINITE(b->time) && a->time != b->time)
		return true;
	return a->sum != 0 && b->sum != 0 && a->sum != b->sum;
}

/*
 * Takes some of what is there; returns how many partitions are still to be
 * seen.  *more: there may be more at once (and then nothing wakes us).
 */
static int
look(KafkaConsumer *consumer, KafkaPartition *parts, RecordLook *looks, int n, bool *more)
{
	KafkaMessage messages[LOOK_MESSAGES];
	int			got = kafka_consumer_poll(consumer, messages, LOOK_MESSAGES, LOOK_BYTES);
	int			left = 0;
	int			i;

	*more = got > 0;
	for (i = 0; i < got; i++)
	{
		RecordLook *l = &looks[messages[i].part];

		if (!l->seen && messages[i].offset == l->record.offset)
		{
			l->found = worker_record_mark(&messages[i]);
			l->result = marks_contradict(&l->record, &l->found) ? RECORD_OTHER : RECORD_SAME;
		}
		l->seen = true;
	}
	if (got > 0)
		kafka_messages_free(messages, got);
	for (i = 0; i < n; i++)
	{
		if (parts[i].at_end || parts[i].error != KAFKA_PART_OK)
			looks[i].seen = true;
		if (looks[i].seen)
			kafka_consumer_hold(consumer, i, true);
		else
			left++;
	}
	return left;
}

/*
 * Looks at records, each of another partition; takes at most timeout_ms.  No
 * transaction is open.
 */
void
launcher_look_at_records(KafkaConf *conf, RecordLook *looks, int n, int timeout_ms)
{
	int64		deadline = monotonic_us() + (int64) timeout_ms * 1000;
	KafkaPartition *parts;
	KafkaConsumer *consumer;
	bool		more;
	int			i;

	for (i = 0; i < n; i++)
	{
		looks[i].result = RECORD_UNKNOWN;
		looks[i].seen = false;
	}
	if (n == 0)
		return;
	parts = palloc0(sizeof(KafkaPartition) * n);
	for (i = 0; i < n; i++)
	{
		parts[i].topic = looks[i].topic;
		parts[i].partition = looks[i].partition;
		parts[i].next_offset = looks[i].record.offset;
	}
	consumer = kafka_consumer_open(conf, parts, n, 0);
	while (look(consumer, parts, looks, n, &more) > 0)
	{
		long		left = (long) ((deadline - monotonic_us()) / 1000);

		if (left <= 0)
			break;
		if (!more)
		{
			int			sleep_ms = kafka_consumer_sleep_ms(consumer);

			(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
									 kafka_consumer_fd(consumer), Min(left, sleep_ms),
									 PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
		worker_check();
	}
	kafka_consumer_close(consumer);
	pfree(parts);
}

/* ---- marks of a running pipeline ---- */

TopicMark *
topic_mark_find(List *marks, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, marks)
	{
		TopicMark  *mark = lfirst(lc);

		if (mark->partition == partition && strcmp(mark->topic, topic) == 0)
			return mark;
	}
	return NULL;
}

static void
read_saved(const char *pipeline, MemoryContext cxt, List **positions, List **marks)
{
	checkpoint_begin();
	MemoryContextSwitchTo(cxt);
	*positions = catalog_positions(pipeline);
	*marks = catalog_topic_marks(pipeline);
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
}

/*
 * Stores marks, unless somebody is changing the pipeline or has taken it over:
 * another launcher may have gone on in another topic, whose marks these are
 * not.
 */
static void
store_marks(PipelineRow *row, MemoryContext cxt, List *marks)
{
	checkpoint_begin();
	MemoryContextSwitchTo(cxt);
	if (catalog_pipeline_try_lock(row->name))
	{
		PipelineRow *now = catalog_pipeline_get(row->name, true);

		worker_check();
		if (now != NULL && now->version == row->version)
		{
			catalog_topic_marks_set(row->name, marks);
			nmarks = list_length(marks);
		}
	}
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
}

/*
 * The marks that follow: of each position its last record, where it has one
 * and the look has not been in vain; else the one before.  Without looks
 * (n < 0) partitions that have a mark keep it.
 */
static List *
next_marks(List *positions, List *marks, RecordLook *looks, int n)
{
	List	   *next = NIL;
	ListCell   *lc;

	foreach(lc, positions)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
		{
			PartitionPosition *p = &row->parts[i];
			TopicMark  *mark = topic_mark_find(marks, p->topic, p->partition);
			bool		replace = mark == NULL;
			int			k;

			for (k = 0; k < n; k++)
				if (looks[k].partition == p->partition && strcmp(looks[k].topic, p->topic) == 0)
					replace = looks[k].seen;
			if (replace && record_mark_known(&p->record))
			{
				mark = palloc(sizeof(TopicMark));
				mark->topic = p->topic;
				mark->partition = p->partition;
				mark->record = p->record;
			}
			if (mark != NULL)
				next = lappend(next, mark);
		}
	}
	return next;
}

/*
 * Regularly while a pipeline runs: are its topics the ones of the last look?
 * False: one was made anew; the next launcher will find that, too.
 */
bool
launcher_look(PipelineRow *row, KafkaConf *conf, int timeout_ms)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(old, "streamproc identity", ALLOCSET_DEFAULT_SIZES);
	List	   *positions;
	List	   *marks;
	RecordLook *looks;
	ListCell   *lc;
	int			n = 0;
	bool		same = true;
	int			i;

	read_saved(row->name, cxt, &positions, &marks);
	looks = palloc(sizeof(RecordLook) * Max(list_length(marks), 1));
	foreach(lc, marks)
	{
		TopicMark  *mark = lfirst(lc);

		looks[n].topic = mark->topic;
		looks[n].partition = mark->partition;
		looks[n++].record = mark->record;
	}
	launcher_look_at_records(conf, looks, n, timeout_ms);
	for (i = 0; i < n && same; i++)
	{
		if (looks[i].result != RECORD_OTHER)
			continue;
		same = false;
		ereport(LOG,
				(errmsg("pipeline \"%s\" starts anew: topic \"%s\" has another record at offset " INT64_FORMAT " of partition %d than before",
						row->name, looks[i].topic, looks[i].record.offset, looks[i].partition)));
	}
	if (same)
		store_marks(row, cxt, next_marks(positions, marks, looks, n));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return same;
}

/*
 * Often while a pipeline runs: partitions that have no mark yet get one soon
 * after their first record, so that a topic made anew before the first look is
 * found.
 */
void
launcher_first_marks(PipelineRow *row, int pipeline)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt;
	List	   *positions;
	List	   *marks;
	int			with_records = 0;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	for (i = 0; i < shmem->npartitions; i++)
	{
		PartitionSlot *p = &shmem->partitions[i];

		if (p->in_use && p->pipeline == pipeline &&
			(TimestampTz) pg_atomic_read_u64(&p->last_record) != DT_NOBEGIN)
			with_records++;
	}
	LWLockRelease(shmem->lock);
	if (with_records <= nmarks || with_records == 0)
		return;

	cxt = AllocSetContextCreate(old, "streamproc identity", ALLOCSET_DEFAULT_SIZES);
	read_saved(row->name, cxt, &positions, &marks);
	store_marks(row, cxt, next_marks(positions, marks, NULL, -1));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

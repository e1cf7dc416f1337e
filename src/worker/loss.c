/*-------------------------------------------------------------------------
 *
 * loss.c
 *	  Do the saved positions still fit what the cluster has?
 *
 * This is the one place that decides.  At each start, before any task reads,
 * the launcher compares every saved position with the cluster: its id, the
 * topics that the statements read, their partitions, the first and last
 * offsets, and the records before the positions (identity.c).  A task that
 * is refused an offset, and a look at the running pipeline that finds another
 * record, only make the pipeline start anew, which leads here.
 *
 * Whatever does not fit is a loss: the pipeline fails with the command that
 * accepts it, or (accepted, or on_data_loss => 'earliest') goes on at what is
 * left, with a row in data_loss that settle.c writes together with the new
 * positions.
 *
 * WHAT WAS MADE ANEW
 *	  A record that contradicts, fewer partitions, or an end before the position
 *	  say that a topic was made anew: then all its partitions are, and are read
 *	  from their beginning.  But a partition whose record is still there was not:
 *	  it goes on, and so does the rest of its topic, which may have lost the end
 *	  of a partition by an unclean election of a leader.
 *
 *	  A broker may know less for a moment after it was started; what rests on that
 *	  alone is looked at again for some time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/launcher.h"

#define LOOK_TIMEOUT	2000	/* ms, for a look at the records before the positions */
#define SHORT_GRACE		5000	/* ms, for an end before the position to move, at most */

/* A saved position and what was found of it. */
typedef struct Found
{
	PartitionPosition *saved;
	TopicMark  *mark;			/* NULL: none */
	bool		missing;		/* there is no such partition */
	int64		first;
	int64		end;
	bool		same;			/* its record is still there */
	RecordLook *other;			/* one that contradicts, NULL: none */
} Found;

static bool
is_accepted(PipelineRow *row)
{
	return row->lose_data || row->accept_data_loss;
}

/* ---- for people ---- */

static char *
offsets_text(int64 first, int64 end)
{
	if (first >= end)
		return psprintf("is empty now");
	return psprintf("now has offsets " INT64_FORMAT " to " INT64_FORMAT, first, end - 1);
}

static LauncherLoss *
loss_make(const PartitionPosition *saved, int64 to_offset, const char *reason)
{
	LauncherLoss *loss = palloc0(sizeof(LauncherLoss));

	loss->row.topic = saved->topic;
	loss->row.partition = saved->partition;
	loss->row.from_offset = saved->next_offset;
	loss->row.to_offset = to_offset;
	loss->row.reason = reason;
	loss->sqlstate = "58030";
	loss->records = -1;
	loss->message = loss->detail = "";
	return loss;
}

/* What proves something comes first: it is what people are told. */
static int
compare_losses(const ListCell *a, const ListCell *b)
{
	const LauncherLoss *x = lfirst(a);
	const LauncherLoss *y = lfirst(b);
	int			topics = strcmp(x->row.topic, y->row.topic);

	if (x->proof != y->proof)
		return x->proof ? -1 : 1;
	return topics != 0 ? topics : x->row.partition - y->row.partition;
}

static void
fail_for_loss(PipelineRow *row, List *losses)
{
	LauncherLoss *loss;
	Reason		reason;
	char		detail[SHMEM_MESSAGE_LEN];
	char		hint[sizeof(reason.hint)];
	char		others[128] = "";
	int64		records = 0;
	ListCell   *lc;

	list_sort(losses, compare_losses);
	loss = linitial(losses);
	foreach(lc, losses)
		records += Max(((LauncherLoss *) lfirst(lc))->records, 0);
	if (list_length(losses) > 1)
	{
		int			n = snprintf(others, sizeof(others), " %d other partition%s concerned", list_length(losses) - 1,
								 list_length(losses) == 2 ? " is" : "s are");

		if (records > 0)
			n += snprintf(others + n, sizeof(others) - n, ", " INT64_FORMAT " records at most in all", records);
		snprintf(others + n, sizeof(others) - n, ".");
	}
	snprintf(detail, sizeof(detail), "%s%s With on_data_loss => 'earliest' the pipeline goes on by itself.",
			 loss->detail, others);
	snprintf(hint, sizeof(hint), "To go on at what is left: SELECT streamproc.start_pipeline(%s, accept_data_loss => true)",
			 quote_literal_cstr(row->name));
	reason_set(&reason, loss->sqlstate, loss->message, detail, hint);
	strlcpy(reason.topic, loss->row.topic, SHMEM_TOPIC_LEN);
	reason.partition = loss->row.partition;
	reason.offset = loss->row.from_offset;
	worker_fail_pipeline(&reason);
}

/* ---- another cluster ---- */

static List *
read_positions(PipelineRow *row, List **marks)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *old;

	checkpoint_begin();
	MemoryContextSwitchTo(cxt);
	old = catalog_positions(row->name);
	if (marks != NULL)
		*marks = catalog_topic_marks(row->name);
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
	return old;
}

/* The id of another cluster that positions belong to, NULL: all are of this one. */
static const char *
other_cluster(List *old, const char *cluster_id)
{
	ListCell   *lc;

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);

		if (row->nparts > 0 && row->cluster_id[0] != '\0' && strcmp(row->cluster_id, cluster_id) != 0)
			return row->cluster_id;
	}
	return NULL;
}

static LauncherTopic *
topic_of(List *topics, const char *name)
{
	ListCell   *lc;

	foreach(lc, topics)
		if (strcmp(((LauncherTopic *) lfirst(lc))->name, name) == 0)
			return lfirst(lc);
	return NULL;
}

/* "first": offsets by partition for the topics in their order, NULL: they are not asked for yet */
static List *
cluster_losses(List *old, List *topics, const char *other, const char *cluster_id)
{
	List	   *losses = NIL;
	ListCell   *lc;

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
		{
			PartitionPosition *p = &row->parts[i];
			LauncherTopic *topic = topic_of(topics, p->topic);
			int64		to = -1;
			LauncherLoss *loss;

			if (topic != NULL && p->partition < topic->npartitions)
				launcher_offsets(p->topic, &p->partition, 1, KAFKA_SEEK_EARLIEST, 0, &to);
			loss = loss_make(p, to, "other cluster");
			loss->anew = true;
			loss->sqlstate = "55000";
			loss->message = "the brokers belong to another Kafka cluster";
			loss->detail = psprintf("The saved positions belong to cluster %s, the brokers answer as cluster %s. If that is not wanted, correct the option brokers of the server.",
									other, cluster_id);
			losses = lappend(losses, loss);
		}
	}
	return losses;
}

List *
launcher_check_cluster(PipelineRow *row, const char *cluster_id)
{
	List	   *old = read_positions(row, NULL);
	const char *other = other_cluster(old, cluster_id);

	if (other != NULL && !is_accepted(row))
		fail_for_loss(row, cluster_losses(old, NIL, other, cluster_id));
	return old;
}

/* ---- a topic ---- */

/*
 * A broker may know less than was known before, for a moment after it was
 * started.  True: it has been waited, ask again; after some time it is taken
 * for what it says: a topic that was made anew.
 */
bool
launcher_wait_for_partitions(List *topics, List *old, const char *cluster_id, int64 *since_us)
{
	ListCell   *lt;

	foreach(lt, topics)
	{
		LauncherTopic *topic = lfirst(lt);
		int			most = 0;
		ListCell   *lc;
		char		message[SHMEM_MESSAGE_LEN];

		foreach(lc, old)
		{
			PositionRow *row = lfirst(lc);
			int			i;

			for (i = 0; i < row->nparts; i++)
				if (strcmp(row->parts[i].topic, topic->name) == 0 && strcmp(row->cluster_id, cluster_id) == 0)
					most = Max(most, row->parts[i].partition + 1);
		}
		if (most <= topic->npartitions)
			continue;
		if (*since_us == 0)
			*since_us = monotonic_us();
		if (monotonic_us() - *since_us > (int64) streamproc_metadata_interval * 1000)
			return false;
		snprintf(message, sizeof(message), "topic \"%s\" has %d partitions, the saved positions have %d",
				 topic->name, topic->npartitions, most);
		launcher_wait_for("58030", message, "It is looked at again, as a broker that was just started may know less for a moment.");
		return true;
	}
	return false;
}

/* Looks at the marks, then at the records of positions that say something else than their mark. */
static void
look_at_topic(Found *found, int n, KafkaConf *conf)
{
	int			round;

	for (round = 0; round < 2; round++)
	{
		RecordLook *looks = palloc0(sizeof(RecordLook) * Max(n, 1));
		Found	  **of = palloc(sizeof(Found *) * Max(n, 1));
		int			nlooks = 0;
		int			i;

		for (i = 0; i < n; i++)
		{
			Found	   *f = &found[i];
			const RecordMark *record = &f->saved->record;

			if (round == 0)
			{
				if (f->mark == NULL)
					continue;
				record = &f->mark->record;
			}
			else if (f->mark != NULL && f->mark->record.offset == record->offset)
				continue;
			if (f->missing || !record_mark_known(record) || record->offset < f->first || record->offset >= f->end)
				continue;
			looks[nlooks].topic = f->saved->topic;
			looks[nlooks].partition = f->saved->partition;
			looks[nlooks].record = *record;
			of[nlooks++] = f;
		}
		launcher_look_at_records(conf, looks, nlooks, LOOK_TIMEOUT);
		for (i = 0; i < nlooks; i++)
		{
			/* where there is a mark, it is what proves */
			if (looks[i].result == RECORD_SAME && (round == 0 || of[i]->mark == NULL))
				of[i]->same = true;
			else if (looks[i].result == RECORD_OTHER && of[i]->other == NULL)
				of[i]->other = &looks[i];
		}
	}
}

/* Asks for the partitions' offsets; true: some end before the position and nothing else says why. */
static bool
ask_topic(LauncherTopic *topic, Found *found, int n, KafkaConf *conf)
{
	int64	   *first = palloc(sizeof(int64) * topic->npartitions);
	int64	   *end = palloc(sizeof(int64) * topic->npartitions);
	bool		is_short = false;
	bool		proved = false;
	int			i;

	launcher_offsets(topic->name, NULL, topic->npartitions, KAFKA_SEEK_EARLIEST, 0, first);
	launcher_offsets(topic->name, NULL, topic->npartitions, KAFKA_SEEK_LATEST, 0, end);
	for (i = 0; i < n; i++)
	{
		Found	   *f = &found[i];

		f->same = false;
		f->other = NULL;
		f->missing = f->saved->partition >= topic->npartitions;
		if (f->missing)
			continue;
		f->first = first[f->saved->partition];
		f->end = end[f->saved->partition];
		if (f->end < f->saved->next_offset)
			is_short = true;
	}
	look_at_topic(found, n, conf);
	for (i = 0; i < n; i++)
		if (found[i].missing || found[i].other != NULL)
			proved = true;
	pfree(first);
	pfree(end);
	return is_short && !proved;
}

static void
wait_for_end(const Found *found, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		const Found *f = &found[i];
		char		message[SHMEM_MESSAGE_LEN];

		if (f->missing || f->end >= f->saved->next_offset)
			continue;
		snprintf(message, sizeof(message), "topic \"%s\" partition %d ends before offset " INT64_FORMAT ", the saved position is " INT64_FORMAT,
				 f->saved->topic, f->saved->partition, f->end, f->saved->next_offset);
		launcher_wait_for("58030", message, "It is looked at again, as a broker that was just started may know less for a moment.");
		return;
	}
}

/* A partition of a topic that was made anew. */
static LauncherLoss *
loss_anew(const Found *f)
{
	const PartitionPosition *saved = f->saved;
	LauncherLoss *loss = loss_make(saved, f->missing ? -1 : f->first, "topic made anew");

	loss->anew = true;
	loss->moved_only = !f->missing && f->other == NULL && f->first == saved->next_offset;
	if (f->missing)
	{
		loss->message = psprintf("topic \"%s\" was made anew: it has no partition %d any more, the saved position there is " INT64_FORMAT,
								 saved->topic, saved->partition, saved->next_offset);
		loss->detail = "Partitions of a topic can only become more.";
	}
	else if (f->end < saved->next_offset && f->other == NULL)
	{
		loss->message = psprintf("topic \"%s\" was made anew, or has lost its end: partition %d %s, the saved position is " INT64_FORMAT ", a gap of " INT64_FORMAT,
								 saved->topic, saved->partition, offsets_text(f->first, f->end), saved->next_offset,
								 saved->next_offset - f->end);
		loss->detail = "It would be read from its beginning.";
	}
	else
	{
		loss->message = psprintf("topic \"%s\" was made anew: partition %d %s, the saved position is " INT64_FORMAT,
								 saved->topic, saved->partition, offsets_text(f->first, f->end), saved->next_offset);
		if (f->other != NULL && f->other->record.time != f->other->found.time)
		{
			char		was[64];

			strlcpy(was, timestamptz_to_str(f->other->record.time), sizeof(was));
			loss->detail = psprintf("The record at offset " INT64_FORMAT " was of %s, there is one of %s now. The topic would be read from its beginning.",
									f->other->record.offset, was, timestamptz_to_str(f->other->found.time));
		}
		else if (f->other != NULL)
			loss->detail = psprintf("The record at offset " INT64_FORMAT " has another key or value than the one that was read. The topic would be read from its beginning.",
									f->other->record.offset);
		else
			loss->detail = "It would be read from its beginning.";
	}
	return loss;
}

/* A partition of the topic that was read. */
static LauncherLoss *
loss_same_topic(const Found *f)
{
	const PartitionPosition *saved = f->saved;
	LauncherLoss *loss;

	if (f->missing)
	{
		loss = loss_make(saved, -1, "partition missing");
		loss->message = psprintf("topic \"%s\" has no partition %d any more, the saved position there is " INT64_FORMAT,
								 saved->topic, saved->partition, saved->next_offset);
		loss->detail = "Other partitions still hold the records that were read.";
		return loss;
	}
	if (f->end < saved->next_offset)
	{
		/*
		 * What was read is in the results, and nobody knows from where on the
		 * records are others: only what is written from now on can follow.
		 */
		loss = loss_make(saved, f->end, "end of partition lost");
		loss->anew = true;
		loss->records = saved->next_offset - f->end;
		loss->message = psprintf("the end of topic \"%s\" partition %d is lost: it ends before offset " INT64_FORMAT ", the saved position is " INT64_FORMAT ", a gap of " INT64_FORMAT,
								 saved->topic, saved->partition, f->end, saved->next_offset, loss->records);
		loss->detail = "Other partitions still hold the records that were read. It would go on at its end as that is then.";
		return loss;
	}
	if (saved->next_offset >= f->first)
		return NULL;
	loss = loss_make(saved, f->first, "records deleted");
	loss->records = f->first - saved->next_offset;
	if (loss->records == 1)
		loss->message = psprintf("offset " INT64_FORMAT " of topic \"%s\" partition %d is gone: 1 record at most",
								 saved->next_offset, saved->topic, saved->partition);
	else
		loss->message = psprintf("offsets " INT64_FORMAT " to " INT64_FORMAT " of topic \"%s\" partition %d are gone: " INT64_FORMAT " records at most",
								 saved->next_offset, f->first - 1, saved->topic, saved->partition, loss->records);
	loss->detail = "They were deleted before they were read, by retention or DeleteRecords.";
	return loss;
}

static List *
topic_losses(LauncherTopic *topic, List *old, List *marks, KafkaConf *conf)
{
	Found	   *found;
	List	   *losses = NIL;
	ListCell   *lc;
	int64		deadline = monotonic_us() + (int64) Min(streamproc_metadata_interval, SHORT_GRACE) * 1000;
	int			max = 0;
	int			n = 0;
	bool		same = false;
	bool		anew = false;
	int			i;

	foreach(lc, old)
		max += ((PositionRow *) lfirst(lc))->nparts;
	found = palloc0(sizeof(Found) * Max(max, 1));
	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);

		for (i = 0; i < row->nparts; i++)
		{
			if (strcmp(row->parts[i].topic, topic->name) != 0)
				continue;
			found[n].saved = &row->parts[i];
			found[n].mark = topic_mark_find(marks, topic->name, row->parts[i].partition);
			n++;
		}
	}
	if (n == 0)
		return NIL;
	while (ask_topic(topic, found, n, conf) && monotonic_us() < deadline)
		wait_for_end(found, n);

	for (i = 0; i < n; i++)
	{
		const Found *f = &found[i];

		if (f->missing || f->other != NULL || f->end < f->saved->next_offset)
			anew = true;
		if (f->same && f->other == NULL)
			same = true;
	}
	for (i = 0; i < n; i++)
	{
		const Found *f = &found[i];
		LauncherLoss *loss;

		if (f->other != NULL || (anew && !same))
			loss = loss_anew(f);
		else
			loss = loss_same_topic(f);
		if (loss == NULL)
			continue;
		loss->proof = f->other != NULL || f->missing || f->end < f->saved->next_offset;
		losses = lappend(losses, loss);
	}
	return losses;
}

/* Positions of topics that the statements do not read: alter_pipeline() would have dropped them. */
static List *
other_topics(List *old, List *topics)
{
	List	   *losses = NIL;
	ListCell   *lc;

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
		{
			PartitionPosition *p = &row->parts[i];
			LauncherLoss *loss;

			if (topic_of(topics, p->topic) != NULL)
				continue;
			loss = loss_make(p, -1, "topic changed");
			loss->other_topic = true;
			loss->sqlstate = "55000";
			loss->message = psprintf("topic \"%s\" is not read any more: the option topic of its foreign table was changed", p->topic);
			loss->detail = psprintf("It was read up to offset " INT64_FORMAT " of partition %d. To go on in it, set the option back and start the pipeline.",
									p->next_offset, p->partition);
			losses = lappend(losses, loss);
		}
	}
	return losses;
}

/* ---- all of it ---- */

LauncherLoss *
launcher_loss_of(List *losses, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, losses)
	{
		LauncherLoss *loss = lfirst(lc);

		if (loss->row.partition == partition && strcmp(loss->row.topic, topic) == 0)
			return loss;
	}
	return NULL;
}

List *
launcher_find_losses(PipelineRow *row, List *topics, const char *cluster_id, KafkaConf *conf, List **old)
{
	List	   *marks;
	List	   *losses = NIL;
	List	   *counted = NIL;
	const char *other;
	ListCell   *lc;

	*old = read_positions(row, &marks);
	other = other_cluster(*old, cluster_id);
	if (other != NULL)
		losses = cluster_losses(*old, topics, other, cluster_id);
	else
	{
		losses = other_topics(*old, topics);
		foreach(lc, topics)
			losses = list_concat(losses, topic_losses(lfirst(lc), *old, marks, conf));
	}
	list_sort(losses, compare_losses);
	foreach(lc, losses)
		if (!((LauncherLoss *) lfirst(lc))->moved_only)
			counted = lappend(counted, lfirst(lc));
	if (counted != NIL && !is_accepted(row))
		fail_for_loss(row, counted);
	return losses;
}

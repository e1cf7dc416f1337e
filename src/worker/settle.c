/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Where each partition of a run begins and ends, and which task reads it.
 *
 * Saved positions stay.  A partition without one begins where the option
 * "start" says if its topic is new to the pipeline, else (the topic grew) at
 * its beginning.  A run with an end (stop => 'latest', or a drain) gets the
 * stop offsets once: a restart in the middle goes on to the same ends.
 *
 * All of it is committed before the first row is read, in rows that carry the
 * generation of this launcher: whoever still has an older row in his hands
 * cannot commit any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker/launcher.h"
#include "worker/start.h"

static PartitionPosition *
find_position(List *old, const char *topic, int32 partition, bool *topic_known)
{
	ListCell   *lc;
	PartitionPosition *found = NULL;

	*topic_known = false;
	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
		{
			if (strcmp(row->parts[i].topic, topic) != 0)
				continue;
			*topic_known = true;
			if (row->parts[i].partition == partition)
				found = &row->parts[i];
		}
	}
	return found;
}

static void
fail_start(const char *detail) pg_attribute_noreturn();

static void
fail_start(const char *detail)
{
	Reason		reason;

	reason_set(&reason, "22023", "the option start names an offset that the topic does not have", detail,
			   "Drop the pipeline and create it with another start.");
	worker_fail_pipeline(&reason);
	pg_unreachable();
}

/* A partition that no topic has would be forgotten without a word. */
static void
check_start_partitions(PipelineRow *row, List *topics)
{
	StartOption start;
	int			most = 0;
	ListCell   *lc;
	int			i;

	start_option_parse(row->start, &start);
	foreach(lc, topics)
		most = Max(most, ((LauncherTopic *) lfirst(lc))->npartitions);
	for (i = 0; i < start.n; i++)
		if (start.partitions[i] >= most)
			fail_start(psprintf("There is no partition %d.", start.partitions[i]));
}

/* Where partitions without a position begin. */
static void
resolve_start(PipelineRow *row, const char *topic, PartitionPosition *parts, int n, bool topic_known)
{
	StartOption start;
	int64	   *offsets = palloc(sizeof(int64) * n);
	int32	   *numbers = palloc(sizeof(int32) * n);
	int64	   *ends = NULL;
	int			i;

	start_option_parse(row->start, &start);
	if (topic_known)
		start.kind = START_EARLIEST;
	for (i = 0; i < n; i++)
		numbers[i] = parts[i].partition;
	switch (start.kind)
	{
		case START_EARLIEST:
		case START_OFFSETS:
			launcher_offsets(topic, numbers, n, KAFKA_SEEK_EARLIEST, 0, offsets);
			break;
		case START_LATEST:
			launcher_offsets(topic, numbers, n, KAFKA_SEEK_LATEST, 0, offsets);
			break;
		case START_TIMESTAMP:
			launcher_offsets(topic, numbers, n, KAFKA_SEEK_TIMESTAMP, start.timestamp_ms, offsets);
			break;
	}
	for (i = 0; i < n; i++)
	{
		parts[i].next_offset = offsets[i];
		if (start.kind == START_OFFSETS)
		{
			int64		offset = start_option_offset(&start, numbers[i]);

			if (offset < 0)
				continue;
			/* beyond the end, rows to come would be passed over; before the beginning, they are gone */
			if (ends == NULL)
			{
				ends = palloc(sizeof(int64) * n);
				launcher_offsets(topic, numbers, n, KAFKA_SEEK_LATEST, 0, ends);
			}
			if (offset < offsets[i] || offset > ends[i])
				fail_start(psprintf("Partition %d of topic \"%s\" begins at offset " INT64_FORMAT " and ends before offset " INT64_FORMAT ", start says " INT64_FORMAT ".",
									numbers[i], topic, offsets[i], ends[i], offset));
			parts[i].next_offset = offset;
		}
	}
}

/* Ends of the run for partitions that have none yet. */
static void
resolve_stop(const char *topic, PartitionPosition *parts, int n)
{
	int64	   *offsets = palloc(sizeof(int64) * n);
	bool		missing = false;
	int			i;

	for (i = 0; i < n; i++)
		if (parts[i].stop_offset < 0)
			missing = true;
	if (!missing)
		return;
	launcher_offsets(topic, NULL, n, KAFKA_SEEK_LATEST, 0, offsets);
	for (i = 0; i < n; i++)
		if (parts[i].stop_offset < 0)
			parts[i].stop_offset = offsets[i];
}

/*
 * A broker may know less than was known before (its metadata is old), or the
 * topic was made anew with fewer partitions.  The positions of the others
 * must not be lost: read from their beginning later, their rows would come
 * twice.  So this launcher leaves, and the next one asks again.
 */
static void
wait_for_partitions(List *old, LauncherTopic *topic)
{
	int			most = 0;
	ListCell   *lc;
	Reason		reason;
	char		message[SHMEM_MESSAGE_LEN];

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
			if (strcmp(row->parts[i].topic, topic->name) == 0)
				most = Max(most, row->parts[i].partition + 1);
	}
	if (most <= topic->npartitions)
		return;
	snprintf(message, sizeof(message), "topic \"%s\" has %d partitions, the saved positions have %d",
			 topic->name, topic->npartitions, most);
	reason_set(&reason, "58030", message, NULL,
			   "If the topic was made anew, drop the pipeline and create it again; else it goes on by itself.");
	worker_set_state(WORKER_WAITING, message);
	pipeline_set_state(shmem->workers[my_worker_slot].pipeline, PIPELINE_WAITING, &reason);
	worker_wait(500);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	worker_pipeline()->expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* All partitions of a topic, in order. */
static PartitionPosition *
topic_positions(PipelineRow *row, List *old, LauncherTopic *topic)
{
	int			n = topic->npartitions;
	PartitionPosition *parts = palloc0(sizeof(PartitionPosition) * n);
	PartitionPosition *fresh = palloc0(sizeof(PartitionPosition) * n);
	int			nfresh = 0;
	bool		topic_known = false;
	bool		ends = row->drain || strcmp(row->stop, "latest") == 0;
	int			i,
				k;

	wait_for_partitions(old, topic);
	for (i = 0; i < n; i++)
	{
		PartitionPosition *saved = find_position(old, topic->name, i, &topic_known);

		if (saved != NULL)
			parts[i] = *saved;
		else
		{
			parts[i].topic = topic->name;
			parts[i].partition = i;
			parts[i].next_offset = -1;
			parts[i].stop_offset = -1;
			parts[i].watermark = WATERMARK_NONE;
			parts[i].record_time = DT_NOBEGIN;
			fresh[nfresh++] = parts[i];
		}
	}
	if (nfresh > 0)
		resolve_start(row, topic->name, fresh, nfresh, topic_known);
	for (i = 0, k = 0; i < n && k < nfresh; i++)
		if (parts[i].partition == fresh[k].partition)
			parts[i].next_offset = fresh[k++].next_offset;
	if (ends)
		resolve_stop(topic->name, parts, n);
	else
		for (i = 0; i < n; i++)
			parts[i].stop_offset = -1;
	return parts;
}

static bool
same_cluster(List *old, const char *cluster_id, char **other)
{
	ListCell   *lc;

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);

		if (row->cluster_id[0] != '\0' && strcmp(row->cluster_id, cluster_id) != 0)
		{
			*other = row->cluster_id;
			return false;
		}
	}
	return true;
}

/* Are the rows that were deleted those that the new ones were made from? */
static bool
same_positions(List *old, List *deleted)
{
	ListCell   *lo,
			   *ld;

	if (list_length(old) != list_length(deleted))
		return false;
	foreach(lo, old)
	{
		PositionRow *o = lfirst(lo);
		bool		found = false;

		foreach(ld, deleted)
		{
			PositionRow *d = lfirst(ld);
			int			i;

			if (d->task != o->task || d->generation != o->generation || d->nparts != o->nparts)
				continue;
			found = true;
			for (i = 0; i < o->nparts; i++)
				if (d->parts[i].next_offset != o->parts[i].next_offset)
					found = false;
		}
		if (!found)
			return false;
	}
	return true;
}

/*
 * Begins the transaction that writes; the pipeline cannot be changed or
 * dropped until it ends.  Leaves where that has happened already.
 */
static void
begin_settle(PipelineRow *row, MemoryContext cxt)
{
	PipelineRow *now;

	checkpoint_begin();
	catalog_pipeline_lock(row->name);
	now = worker_load_pipeline(cxt);
	if (now->version == row->version)
		return;
	checkpoint_commit();
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	worker_pipeline()->expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* The saved positions; fails the pipeline where they are another cluster's. */
List *
launcher_check_cluster(PipelineRow *row, const char *cluster_id)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *old;
	char	   *other;

	checkpoint_begin();
	MemoryContextSwitchTo(cxt);
	old = catalog_positions(row->name);
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);

	if (!same_cluster(old, cluster_id, &other))
	{
		Reason		reason;
		char		detail[SHMEM_MESSAGE_LEN];

		snprintf(detail, sizeof(detail), "The saved positions belong to cluster %s, the brokers answer as cluster %s.",
				 other, cluster_id);
		reason_set(&reason, "55000", "the brokers belong to another Kafka cluster", detail,
				   "Correct the option brokers of the server, then start the pipeline; or drop it and create it anew.");
		worker_fail_pipeline(&reason);
	}
	return old;
}

int
launcher_settle(PipelineRow *row, List *topics, const char *cluster_id, bool one_task)
{
	MemoryContext cxt = CurrentMemoryContext;
	PipelineSlot *slot = worker_pipeline();
	List	   *old;
	List	   *all = NIL;
	ListCell   *lc;
	int			total = 0;
	int			ntasks;
	int64		epoch = 0;
	int64		generation = 0;
	PositionRow *rows;
	int			next = 0;

	old = launcher_check_cluster(row, cluster_id);
	if (old == NIL)
		check_start_partitions(row, topics);

	/* questions to the cluster are asked outside of any transaction */
	foreach(lc, topics)
	{
		LauncherTopic *topic = lfirst(lc);

		all = lappend(all, topic_positions(row, old, topic));
		total += topic->npartitions;
	}
	foreach(lc, old)
	{
		PositionRow *o = lfirst(lc);

		epoch = Max(epoch, o->epoch);
		generation = Max(generation, o->generation);
	}

	ntasks = row->parallelism > 0 ? row->parallelism : streamproc_default_parallelism;
	ntasks = Min(Min(ntasks, total), SHMEM_MAX_TASKS);
	if (one_task)
		ntasks = 1;

	rows = palloc0(sizeof(PositionRow) * ntasks);
	foreach(lc, all)
	{
		PartitionPosition *parts = lfirst(lc);
		LauncherTopic *topic = list_nth(topics, foreach_current_index(lc));
		int			i;

		for (i = 0; i < topic->npartitions; i++)
		{
			PositionRow *r = &rows[next++ % ntasks];

			if (r->parts == NULL)
				r->parts = palloc(sizeof(PartitionPosition) * (total / ntasks + 1));
			r->parts[r->nparts++] = parts[i];
		}
	}

	begin_settle(row, cxt);
	/*
	 * The tasks are gone and this is the only launcher, so nobody else writes
	 * these rows; but where that were wrong, results would come twice.
	 */
	if (!same_positions(old, catalog_positions_delete(row->name)))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("positions of pipeline \"%s\" were changed by somebody else", row->name)));
	for (next = 0; next < ntasks; next++)
	{
		PositionRow *r = &rows[next];

		strlcpy(r->pipeline, slot->name, NAMEDATALEN);
		r->task = next;
		r->generation = generation + 1;
		r->epoch = epoch;
		r->cluster_id = pstrdup(cluster_id);
		catalog_position_insert(r);
	}
	FAULT_POINT("launcher-in-settle");
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
	return ntasks;
}

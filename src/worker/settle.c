/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Where each partition of a run begins and ends, and which task reads it.
 *
 * Saved positions stay, but where data was lost (loss.c): then they move to
 * what is left, together with the row that says so.  A partition without one begins where the option
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
resolve_start(PipelineRow *row, const char *topic, PartitionPosition *parts, int n, bool topic_known, List *losses)
{
	StartOption start;
	int64	   *offsets = palloc(sizeof(int64) * n);
	int32	   *numbers = palloc(sizeof(int32) * n);
	int64	   *ends = NULL;
	ListCell   *lc;
	int			i;

	start_option_parse(row->start, &start);
	if (topic_known)
		start.kind = START_EARLIEST;
	/* offsets were those of another topic */
	if (start.kind == START_OFFSETS)
		foreach(lc, losses)
			if (((LauncherLoss *) lfirst(lc))->other_topic)
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

static const RecordMark no_record = {-1, DT_NOBEGIN, 0};

/* All partitions of a topic, in order. */
static PartitionPosition *
topic_positions(PipelineRow *row, List *old, LauncherTopic *topic, List *losses)
{
	int			n = topic->npartitions;
	PartitionPosition *parts = palloc0(sizeof(PartitionPosition) * n);
	PartitionPosition *fresh = palloc0(sizeof(PartitionPosition) * n);
	int			nfresh = 0;
	bool		topic_known = false;
	bool		ends = row->drain || strcmp(row->stop, "latest") == 0;
	int			i,
				k;

	for (i = 0; i < n; i++)
	{
		PartitionPosition *saved = find_position(old, topic->name, i, &topic_known);
		LauncherLoss *loss = launcher_loss_of(losses, topic->name, i);

		if (saved != NULL)
			parts[i] = *saved;
		if (saved != NULL && loss != NULL)
		{
			parts[i].next_offset = loss->row.to_offset;
			if (loss->anew)
			{
				parts[i].stop_offset = -1;
				parts[i].watermark = WATERMARK_NONE;
				parts[i].record = no_record;
			}
		}
		if (saved == NULL)
		{
			parts[i].topic = topic->name;
			parts[i].partition = i;
			parts[i].next_offset = -1;
			parts[i].stop_offset = -1;
			parts[i].watermark = WATERMARK_NONE;
			parts[i].record = no_record;
			fresh[nfresh++] = parts[i];
		}
	}
	if (nfresh > 0)
		resolve_start(row, topic->name, fresh, nfresh, topic_known, losses);
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
static PipelineRow *
begin_settle(PipelineRow *row, MemoryContext cxt)
{
	PipelineRow *now;

	checkpoint_begin();
	catalog_pipeline_lock(row->name);
	now = worker_load_pipeline(cxt);
	if (now->version == row->version)
		return now;
	checkpoint_commit();
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	worker_pipeline()->expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Losses that settle goes over, for people. */
static void
log_losses(PipelineRow *row, List *losses)
{
	LauncherLoss *first = NULL;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, losses)
	{
		LauncherLoss *loss = lfirst(lc);

		if (loss->moved_only)
			continue;
		if (n++ == 0)
			first = loss;
	}
	if (first != NULL)
		ereport(LOG,
				(errmsg("pipeline \"%s\" goes on at what is left: %s", row->name, first->message),
				 errdetail_plural("The view streamproc.data_loss has %d row more.",
								  "The view streamproc.data_loss has %d rows more.", n, n)));
}

/*
 * Marks of partitions that this run goes on in.  One that has none yet gets
 * the record that was compared just now: a topic that is made anew before the
 * first look would be read in.
 */
static List *
marks_of_run(List *marks, List *old, List *losses)
{
	List	   *next = NIL;
	ListCell   *lc;

	foreach(lc, old)
	{
		PositionRow *row = lfirst(lc);
		int			i;

		for (i = 0; i < row->nparts; i++)
		{
			PartitionPosition *p = &row->parts[i];
			LauncherLoss *loss = launcher_loss_of(losses, p->topic, p->partition);
			TopicMark  *mark = topic_mark_find(marks, p->topic, p->partition);

			if (loss != NULL && (loss->anew || loss->row.to_offset < 0))
				continue;
			if (mark == NULL && record_mark_known(&p->record))
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

int
launcher_settle(PipelineRow *row, List *topics, const char *cluster_id, bool one_task, bool one_row,
				List *old, List *losses)
{
	MemoryContext cxt = CurrentMemoryContext;
	PipelineSlot *slot = worker_pipeline();
	PipelineRow *now;
	List	   *all = NIL;
	ListCell   *lc;
	int			total = 0;
	int			ntasks;
	int			nrows;
	int64		epoch = 0;
	int64		generation = 0;
	TimestampTz watermark = DT_NOBEGIN;
	TimestampTz closed_until[SHMEM_MAX_OPERATORS];
	TimestampTz answered_until[SHMEM_MAX_OPERATORS];
	TimestampTz freed_until[SHMEM_MAX_OPERATORS];
	int64		emitted_epoch = 0;
	int32		segments = 0;
	PositionRow *rows;
	int			next = 0;

	if (old == NIL)
		check_start_partitions(row, topics);

	/* questions to the cluster are asked outside of any transaction */
	foreach(lc, topics)
	{
		LauncherTopic *topic = lfirst(lc);

		all = lappend(all, topic_positions(row, old, topic, losses));
		total += topic->npartitions;
	}
	for (next = 0; next < SHMEM_MAX_OPERATORS; next++)
		closed_until[next] = answered_until[next] = freed_until[next] = DT_NOBEGIN;
	foreach(lc, old)
	{
		PositionRow *o = lfirst(lc);

		epoch = Max(epoch, o->epoch);
		generation = Max(generation, o->generation);
		watermark = Max(watermark, o->stream_watermark);
		for (next = 0; next < SHMEM_MAX_OPERATORS; next++)
		{
			closed_until[next] = Max(closed_until[next], o->closed_until[next]);
			answered_until[next] = Max(answered_until[next], o->answered_until[next]);
			freed_until[next] = Max(freed_until[next], o->freed_until[next]);
		}
		emitted_epoch = Max(emitted_epoch, o->emitted_epoch);
		segments += o->segments;
	}

	ntasks = row->parallelism > 0 ? row->parallelism : streamproc_default_parallelism;
	ntasks = Min(Min(ntasks, total), SHMEM_MAX_TASKS);
	if (one_task)
		ntasks = 1;

	/* what tasks of a keyed pipeline have read is committed together */
	nrows = one_row ? 1 : ntasks;
	rows = palloc0(sizeof(PositionRow) * nrows);
	next = 0;
	foreach(lc, all)
	{
		PartitionPosition *parts = lfirst(lc);
		LauncherTopic *topic = list_nth(topics, foreach_current_index(lc));
		int			i;

		for (i = 0; i < topic->npartitions; i++)
		{
			PositionRow *r = &rows[next++ % nrows];

			if (r->parts == NULL)
				r->parts = palloc(sizeof(PartitionPosition) * (total / nrows + 1));
			r->parts[r->nparts++] = parts[i];
		}
	}

	now = begin_settle(row, cxt);
	/*
	 * The tasks are gone and this is the only launcher, so nobody else writes
	 * these rows; but where that were wrong, results would come twice.
	 */
	if (!same_positions(old, catalog_positions_delete(row->name)))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("positions of pipeline \"%s\" were changed by somebody else", row->name)));
	for (next = 0; next < nrows; next++)
	{
		PositionRow *r = &rows[next];

		strlcpy(r->pipeline, slot->name, NAMEDATALEN);
		r->task = next;
		r->generation = generation + 1;
		r->epoch = epoch;
		r->cluster_id = pstrdup(cluster_id);
		r->stream_watermark = one_row ? watermark : DT_NOBEGIN;
		memcpy(r->closed_until, closed_until, sizeof(closed_until));
		memcpy(r->answered_until, answered_until, sizeof(answered_until));
		memcpy(r->freed_until, freed_until, sizeof(freed_until));
		r->emitted_epoch = one_row ? emitted_epoch : 0;
		r->segments = next == 0 ? segments : 0;
		catalog_position_insert(r);
	}
	foreach(lc, losses)
	{
		LauncherLoss *loss = lfirst(lc);

		if (!loss->moved_only)
			catalog_data_loss_insert(row->name, &loss->row, cluster_id);
	}
	catalog_topic_marks_set(row->name, marks_of_run(catalog_topic_marks(row->name), old, losses));
	if (now->accept_data_loss)
	{
		/* it was for this start */
		now->accept_data_loss = false;
		catalog_pipeline_update(now);
	}
	FAULT_POINT("launcher-in-settle");
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
	log_losses(row, losses);
	return ntasks;
}

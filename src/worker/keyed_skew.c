/*-------------------------------------------------------------------------
 *
 * keyed_skew.c
 *	  A task of a keyed pipeline: which partitions it reads, and how.
 *
 * Not one that is too far ahead of the others (max_skew), nor, in a backlog
 * whose rows wait for the watermark, one that is a little ahead of them; and with care
 * those messages at which an aggregate has failed in the run before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/keyed.h"

#define my_keyed		(my_task->keyed)

/* a partition may be ahead of others by this part of what an epoch passes, */
#define ALIGN_PART		8
/* or by so many batches of each task, or polls of each partition, or tasks would wait for each other */
#define ALIGN_BATCHES	2
/* the slowest one has stood for so long: its broker may be down, and others are not held for it */
#define ALIGN_US		1000000

static int64
largest_window(void)
{
	static const int64 unit_us[] = {[WINDOW_USEC] = 1, [WINDOW_DAY] = USECS_PER_DAY, [WINDOW_MONTH] = 31 * USECS_PER_DAY};
	int64		largest = 0;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
	{
		OperatorSpec *spec = my_task->program->keyed[i].spec;

		if (spec->window != OPERATOR_NO_WINDOW)
			largest = Max(largest, spec->scale.step * spec->scale.slices * unit_us[spec->scale.unit]);
		if (spec->join != NULL)
			largest = Max(largest, join_span(spec));
		if (spec->window == OPERATOR_SESSION)
			largest = Max(largest, spec->gap);
		if (spec->held)
			largest = Max(largest, spec->held_scale.step * unit_us[spec->held_scale.unit]);
	}
	return largest;
}

void
keyed_task_take_care(void)
{
	Batch	   *batch = my_task->batch;
	int			i;

	my_keyed->held = palloc0(sizeof(bool) * Max(batch->nparts, 1));
	for (i = 0; i < my_task->program->nkeyed; i++)
		my_keyed->aligned |= my_task->program->keyed[i].spec->waits;
	my_keyed->max_skew = largest_window();
	if (my_keyed->max_skew > 0)
		my_keyed->max_skew = my_task->row->max_skew > 0 ? my_task->row->max_skew :
			Max(30 * USECS_PER_SEC, 2 * my_keyed->max_skew);
	for (i = 0; i < batch->nparts; i++)
	{
		int			n = my_keyed->part[i];

		/* rows of window functions and joins are not applied one message at a time */
		if (my_task->program->has_over || n >= SHMEM_CAREFUL_PARTITIONS || batch->parts[i].committed >= my_task->pipeline->careful_until[n])
			continue;
		batch->parts[i].careful_until = my_task->pipeline->careful_until[n];
		my_task->careful = my_keyed->careful = true;
	}
}

static void
hold_partition(int i, bool hold, bool show)
{
	TaskPartition *tp = &my_task->batch->parts[i];

	my_keyed->held[i] = hold;
	if (tp->slot >= 0 && (shmem->partitions[tp->slot].held_us != 0) != show)
		shmem->partitions[tp->slot].held_us = show ? monotonic_us() : 0;
}

/* The consumer was opened again: it reads every partition. */
void
keyed_task_held_forget(void)
{
	int			i;

	for (i = 0; i < my_task->batch->nparts; i++)
		hold_partition(i, false, false);
}

/* By how much a partition may be ahead of the slowest that is behind, us of event time; 0: as far as it likes. */
static int64
allowed_lead(const Barrier *barrier, TimestampTz slowest)
{
	int64		now = monotonic_us();
	double		rows;

	if (!my_keyed->aligned || slowest == DT_NOEND || slowest == WATERMARK_NONE)
		return 0;
	if (slowest != my_keyed->slowest)
	{
		my_keyed->slowest = slowest;
		my_keyed->slowest_us = now;
	}
	if (now - my_keyed->slowest_us > ALIGN_US || barrier->pace <= 0 || barrier->pace_rows <= 0)
		return 0;
	rows = (double) ALIGN_BATCHES * Max(barrier->ntasks * my_task->batch->max_rows, barrier->nparts * BATCH_CHUNK);
	return (int64) Min(Max(barrier->pace / ALIGN_PART, barrier->pace * (rows / barrier->pace_rows)), (double) END_TIMESTAMP);
}

/*
 * A partition that is read far ahead of the others (a backlog, a slow broker)
 * would fill the state with windows that cannot close.  Its messages stay in
 * librdkafka's queue, which is bounded.
 *
 * Where rows wait for the watermark, those of partitions that are ahead wait for the
 * slowest one, and what waits at the end of an epoch is written into segments, to be
 * thrown away by the next one.  So as long as there is a backlog partitions are kept closer
 * together.  Only among those that have one: what has just come in is never held for it; and
 * not for one that does not move.
 */
void
keyed_task_hold(void)
{
	Barrier    *barrier = my_keyed->barrier;
	Batch	   *batch = my_task->batch;
	int64		lead;
	TimestampTz low = DT_NOEND;
	TimestampTz behind = DT_NOEND;
	int			i;

	if (my_keyed->max_skew == 0 && !my_keyed->aligned)
		return;
	for (i = 0; i < barrier->nparts; i++)
	{
		BarrierPartition *part = &barrier->part[i];

		if (part->finished || part->idle)
			continue;
		low = Min(low, part->watermark);
		if (part->behind)
			behind = Min(behind, part->watermark);
	}
	lead = allowed_lead(barrier, behind);
	my_keyed->any_held = my_keyed->aligning = false;
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		TimestampTz watermark = tp->committed_watermark;
		bool		may = !tp->finished && watermark != WATERMARK_NONE && low != WATERMARK_NONE;
		bool		far = may && my_keyed->max_skew > 0 && low != DT_NOEND && watermark - my_keyed->max_skew > low;
		bool		ahead = may && lead > 0 && watermark > behind && watermark - behind > lead && barrier->part[my_keyed->part[i]].behind;
		bool		hold = far || ahead;

		my_keyed->any_held |= hold;
		my_keyed->aligning |= ahead;
		if (hold == my_keyed->held[i] && !hold)
			continue;
		hold_partition(i, hold, far);
		if (!tp->finished)
			kafka_consumer_hold(my_task->consumer, i, hold);
	}
	/* they have a backlog, whatever the last poll brought */
	if (my_keyed->aligning)
		my_keyed->mine->behind = true;
}

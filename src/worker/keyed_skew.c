/*-------------------------------------------------------------------------
 *
 * keyed_skew.c
 *	  A task of a keyed pipeline: which partitions it reads, and how.
 *
 * Not one that is too far ahead of the others (max_skew); and with care those
 * messages at which an aggregate has failed in the run before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/keyed.h"

#define my_keyed		(my_task->keyed)

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
hold_partition(int i, bool hold)
{
	TaskPartition *tp = &my_task->batch->parts[i];

	my_keyed->held[i] = hold;
	if (tp->slot >= 0)
		shmem->partitions[tp->slot].held_us = hold ? monotonic_us() : 0;
}

/* The consumer was opened again: it reads every partition. */
void
keyed_task_held_forget(void)
{
	int			i;

	for (i = 0; i < my_task->batch->nparts; i++)
		hold_partition(i, false);
}

/*
 * A partition that is read far ahead of the others (a backlog, a slow broker)
 * would fill the state with windows that cannot close.  Its messages stay in
 * librdkafka's queue, which is bounded.
 */
void
keyed_task_hold(void)
{
	Barrier    *barrier = my_keyed->barrier;
	Batch	   *batch = my_task->batch;
	TimestampTz low = DT_NOEND;
	int			i;

	if (my_keyed->max_skew == 0)
		return;
	for (i = 0; i < barrier->nparts; i++)
	{
		BarrierPartition *part = &barrier->part[i];

		if (!part->finished && !part->idle)
			low = Min(low, part->watermark);
	}
	my_keyed->any_held = false;
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		bool		hold = low != DT_NOEND && low != WATERMARK_NONE && !tp->finished &&
			tp->committed_watermark != WATERMARK_NONE && tp->committed_watermark - my_keyed->max_skew > low;

		my_keyed->any_held |= hold;
		if (hold == my_keyed->held[i])
			continue;
		hold_partition(i, hold);
		if (!tp->finished)
			kafka_consumer_hold(my_task->consumer, i, hold);
	}
}

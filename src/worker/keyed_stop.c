/*-------------------------------------------------------------------------
 *
 * keyed_stop.c
 *	  The launcher's side of a stop: asking the tasks, waiting for them, and
 *	  taking over what they give away.  The protocol: checkpoint/barrier.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "worker/keyed.h"

/* what has changed is copied before the stop for checkpoint_interval at most, within these limits */
#define EARLY_LEAST_US	(100 * 1000)
#define EARLY_MOST_US	(1000 * 1000)

#define my_keyed		(my_launcher->keyed)

void
keyed_wake_tasks(void)
{
	ConditionVariableBroadcast(&my_keyed->barrier->changed);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	pipeline_wake_tasks_locked(my_launcher->pipeline);
	LWLockRelease(shmem->lock);
}

/* How far the task has come with the cut of the epoch. */
static BarrierPhase
task_stage(const BarrierTask *task, int64 epoch)
{
	if (task->copied >= epoch)
		return BARRIER_CUT;
	if (task->arrived >= epoch)
		return BARRIER_STOP;
	return task->early >= epoch ? BARRIER_EARLY : BARRIER_RUN;
}

/*
 * Waits until all tasks have come so far.  false: the run cannot go on, or, where
 * "until" is not 0, it has taken too long.
 */
bool
keyed_wait_for_tasks(BarrierPhase stage, int64 epoch, int64 until_us)
{
	Barrier    *barrier = my_keyed->barrier;
	bool		all = false;

	ConditionVariablePrepareToSleep(&barrier->changed);
	for (;;)
	{
		int			i;

		LWLockAcquire(&barrier->lock, LW_SHARED);
		for (i = 0; i < barrier->ntasks; i++)
			if (task_stage(&barrier->task[i], epoch) < stage)
				break;
		all = i == barrier->ntasks;
		LWLockRelease(&barrier->lock);
		if (all || state_abandoned(my_keyed->area))
			break;
		if (until_us != 0 && monotonic_us() > until_us)
			break;
		/* a task wakes us by our latch, and by that it dies */
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, KEYED_QUIET_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (all || launcher_task_ended())
			break;
		/* a cut that is begun is ended: it cannot be begun again */
		if (!launcher_tick() && stage != BARRIER_CUT && (until_us == 0 || stage == BARRIER_EARLY))
			break;
	}
	ConditionVariableCancelSleep();
	return all && !state_abandoned(my_keyed->area);
}

void
keyed_set_phase(BarrierPhase phase)
{
	Barrier    *barrier = my_keyed->barrier;

	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	barrier->phase = phase;
	LWLockRelease(&barrier->lock);
	keyed_wake_tasks();
}

/* What the cut would copy and look at now, in entries; a guess, as tasks run. */
static int64
work_of_cut(void)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		work = 0;
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		int			n;
		StatePane **panes = state_panes(my_keyed->area, op, &n);
		int			i,
					g;

		for (i = 0; i < n; i++)
			for (g = 0; g < STATE_GROUPS && !panes[i]->passing; g++)
			{
				work += panes[i]->chunk[g].ndirty;
				if (barrier_rewrites(barrier, g))
					work += panes[i]->chunk[g].nslots / BARRIER_LOOK;
			}
		pfree(panes);
	}
	return work;
}

/*
 * Where there is much to copy it is copied before the tasks stand.  What of it is
 * not done in time is done then.
 */
void
keyed_copy_early(int64 epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		rows = 0;
	int			i;

	if (barrier->phase != BARRIER_RUN)
		return;
	/* what is written anew must not look changed where changes are looked for */
	barrier->rewrite_groups = 0;
	my_keyed->rewriting_planned = (my_keyed->emit == EMIT_FINAL || my_keyed->emit == EMIT_DEFAULT) &&
		my_launcher->row->late != LATE_UPDATE;
	if (my_keyed->rewriting_planned)
		saved_plan_rewriting(my_keyed->saved, my_keyed->area, barrier);
	for (i = 0; i < barrier->ntasks; i++)
		rows += barrier->task[i].rows_in;
	keyed_mark_passing(keyed_present_watermark());
	if ((rows < streamproc_early_copy && barrier->rewrite_groups == 0) || work_of_cut() < streamproc_early_copy)
		return;
	keyed_set_phase(BARRIER_EARLY);
	(void) keyed_wait_for_tasks(BARRIER_EARLY, epoch, monotonic_us() +
								Min(Max(my_launcher->row->checkpoint_interval, EARLY_LEAST_US), EARLY_MOST_US));
}

/* Entries of a closed pane are in no segment any more. */
static void
pane_gone(Epoch *epoch, int op, StatePane *pane)
{
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
	{
		StateCursor cursor;
		StateEntry *entry;
		uint32		at = 0;

		state_cursor_open(&cursor, my_keyed->area, op, &pane->chunk[g]);
		while ((entry = state_entry_next(&cursor, &at)) != NULL)
		{
			/* copied early */
			if (entry->written == (uint32) epoch->number)
				epoch->superseded++;
			else
				saved_entries_gone(my_keyed->saved, entry->written, 1);
		}
	}
}

/* What the tasks give away is ours now; counts of older segments follow what was cut and closed. */
void
keyed_take_over(Epoch *epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	int			op;
	int			t;
	int			i;

	epoch->cuts = palloc(sizeof(BarrierLog) * barrier->ntasks);
	epoch->logs = palloc(sizeof(BarrierLog) * barrier->ntasks);
	epoch->outputs = palloc(sizeof(BarrierLog) * barrier->ntasks);
	for (t = 0; t < barrier->ntasks; t++)
	{
		BarrierTask *task = &barrier->task[t];
		BarrierReplaced *replaced = task->nreplaced > 0 ? dsa_get_address(my_keyed->area->dsa, task->replaced) : NULL;

		for (i = 0; i < task->nreplaced; i++)
			saved_entries_gone(my_keyed->saved, replaced[i].epoch, replaced[i].count);
		if (task->nreplaced > 0)
			state_free(my_keyed->area, task->replaced, sizeof(BarrierReplaced) * task->nreplaced);
		task->nreplaced = 0;
		epoch->superseded += task->again;
		epoch->copied_again |= task->again > 0;
		task->again = 0;
		epoch->rows_in += task->rows_in;
		epoch->bytes_in += task->bytes_in;
		epoch->bad_rows += task->bad_rows;
		for (op = 0; op < my_launcher->program->nkeyed; op++)
		{
			epoch->late_rows[op] += task->late_rows[op];
			epoch->op_rows[op] += task->op_rows[op];
			task->late_rows[op] = task->op_rows[op] = 0;
		}
		task->rows_in = task->bytes_in = task->bad_rows = 0;
		epoch->cuts[t] = task->cut;
		epoch->logs[t] = task->log;
		memset(&task->cut, 0, sizeof(BarrierLog));
		memset(&task->log, 0, sizeof(BarrierLog));
		epoch->outputs[t] = task->output;
		memset(&task->output, 0, sizeof(BarrierLog));
	}
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		int			n;
		StatePane **panes = state_panes(my_keyed->area, op, &n);

		for (i = 0; i < n; i++)
			if (panes[i]->closed)
				pane_gone(epoch, op, panes[i]);
		pfree(panes);
	}
	for (i = 0; i < my_keyed->position->nparts; i++)
	{
		BarrierPartition *part = &barrier->part[i];
		PartitionPosition *p = &my_keyed->position->parts[i];

		p->next_offset = part->next_offset;
		p->watermark = part->watermark;
		p->record = part->record;
	}
}

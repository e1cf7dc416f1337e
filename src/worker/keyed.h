/*-------------------------------------------------------------------------
 *
 * keyed.h
 *	  Keyed pipelines: what task and launcher do differently.
 *
 * A task reads, decodes and runs the row query as in a row-wise pipeline, careful
 * running included; but its transaction only reads, and what comes after it
 * is no commit: rows are applied to the shared state, letters and late rows are
 * shipped.  The commit is the launcher's, for all tasks, see checkpoint/barrier.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_WORKER_KEYED_H
#define STREAMPROC_WORKER_KEYED_H

#include "postgres.h"

#include "checkpoint/barrier.h"
#include "worker/launcher.h"
#include "worker/task.h"

/* ---- keyed_task.c ---- */

typedef struct KeyedTask
{
	StateArea  *area;
	Barrier    *barrier;
	BarrierTask *mine;
	int		   *part;			/* numbers of the task's partitions in Barrier.part */
	StringInfoData shipped;		/* of the open transaction */
	bool		leaving;		/* in order */
	bool		waiting_shown;
} KeyedTask;

/* finds the area; the task's share of the pipeline's position */
extern PositionRow *keyed_task_attach(PositionRow *whole);
/* the lateness that rules, a transaction that only reads; after each checkpoint_begin() of a batch */
extern void keyed_task_begin(void);
extern void keyed_task_commit(CheckpointReason reason);
extern void keyed_task_abort(void);
/* takes part in a barrier that is asked for; also waits where the launcher has fallen behind */
extern void keyed_task_meet(void);
/* all partitions have reached their stop offsets: tells it */
extern void keyed_task_finished(void);
/* leaves in order: the run is not abandoned */
extern void keyed_task_leave(void);

/* ---- keyed_launcher.c ---- */

/* reads the saved state and makes the area; before the tasks start */
extern void keyed_launcher_prepare(int ntasks);
/* a checkpoint where it is time for one; ms until it should be called again */
extern long keyed_launcher_step(void);
/* the last checkpoint before a stop, where there is something to commit */
extern void keyed_launcher_stop(void);
/* has everything been read and given out? */
extern bool keyed_launcher_finished(void);

#endif							/* STREAMPROC_WORKER_KEYED_H */

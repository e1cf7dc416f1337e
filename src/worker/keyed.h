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

#include "checkpoint/checkpoint.h"
#include "worker/launcher.h"
#include "worker/task.h"

/* ---- keyed_task.c ---- */

/* a partition is behind that has so many messages before its end */
#define KEYED_BEHIND	4096

typedef struct KeyedTask
{
	StateArea  *area;
	Barrier    *barrier;
	BarrierTask *mine;
	BarrierCut *cut;
	int		   *part;			/* numbers of the task's partitions in Barrier.part */
	StringInfoData shipped;		/* of the open transaction */
	bool		leaving;		/* in order */
	bool		shipped_early;	/* a part of it stands in the log already */
	bool		waiting_shown;
	bool		careful;		/* messages are applied one at a time */
	int64		max_skew;		/* us; 0: there are no windows */
	bool		aligned;		/* rows wait for the watermark: see keyed_skew.c */
	bool		aligning;		/* for that a partition is held */
	TimestampTz slowest;		/* watermark of the slowest partition that is behind, */
	int64		slowest_us;		/* and since when */
	bool	   *held;			/* by the task's partition */
	bool		any_held;
} KeyedTask;

/* finds the area; the task's share of the pipeline's position */
extern PositionRow *keyed_task_attach(PositionRow *whole);
extern void keyed_task_check_layout(KeyedTask *keyed, Program *program);
/* the lateness that rules, a transaction that only reads; after each checkpoint_begin() of a batch */
extern void keyed_task_begin(void);
/* of the run, into the operators: also where no batch has begun yet */
extern void keyed_task_settings(void);
extern void keyed_task_commit(CheckpointReason reason);
extern void keyed_task_abort(void);
/* takes part in a barrier that is asked for; also waits where the launcher has fallen behind */
extern void keyed_task_meet(void);
static inline bool
keyed_task_holds(const KeyedTask *keyed, int part)
{
	return keyed->held != NULL && keyed->held[part];
}

/* what the barrier and the launcher see of the task's partitions */
extern void keyed_task_publish(void);
/* waits until what was applied is committed; before the pipeline fails at what comes next */
extern void keyed_task_settle(void);
/* leaves in order: the run is not abandoned */
extern void keyed_task_leave(void);

/* functions of aggregates run in a transaction that only reads */
extern const OperatorTransaction keyed_task_for_functions;
/* an output row into the task's log */
extern void keyed_task_ship(const char *bytes, Size len);
/* in PG_CATCH, when the state may be half changed; "by_row": one of the rows that were applied may be to blame */
extern void keyed_task_apply_failed(bool by_row) pg_attribute_noreturn();

/* ---- keyed_release.c ---- */

/*
 * Its share of what the watermark has passed, of the operators of which that is done
 * while all stand, or of the others, before the task arrives at the barrier.
 */
extern void keyed_task_release(bool standing);
/*
 * Window functions that are given out are answered while all stand, when the
 * watermark of all that was read is known: so no row waits for the next epoch,
 * and is saved, that need not.  Joins free what partners may still need, and what is passed
 * on goes into key groups of other tasks: these are released before.
 */
static inline bool
keyed_released_standing(const KeyedNode *node)
{
	return node->spec->waits && node->spec->over != NULL && node->consumer < 0;
}
/* its rows that come must know how far others have been answered */
extern void keyed_task_waiting(int op);
/* before an operator is at work: takes what it answers; NULL: it goes into the task's log */
extern const OperatorConsumer *keyed_task_consumer(int op);
/* in PG_CATCH: is it rows that were passed on that have half changed the state? */
extern bool keyed_task_applies_passed(void);
/* while all stand, before the cut: its share of the sessions that go on or have ended */
extern void keyed_task_pass_sessions(void);

/* ---- keyed_skew.c ---- */

/* after the batch is made: which messages a task has to apply with care */
extern void keyed_task_take_care(void);
/* partitions that are too far ahead of the stream are not read until the others follow */
extern void keyed_task_hold(void);
extern void keyed_task_held_forget(void);

/* ---- keyed_launcher.c ---- */

/* Freeing of an operator's keys that are forgotten: where the hand stands. */
typedef struct KeyedExpiry
{
	bool		begun;
	int			next;			/* key group */
	double		due;			/* key groups that it has to pass */
} KeyedExpiry;

typedef struct KeyedLauncher
{
	MemoryContext cxt;
	MemoryContext epoch_cxt;	/* of the epoch that is given out */
	StateArea  *area;
	Barrier    *barrier;
	Saved	   *saved;
	PositionRow *position;
	int64	   *was;
	int		   *slots;			/* PartitionSlot by partition, -1: none */
	int64		last_cost_us;	/* stop and commit of the last epoch */
	int64		last_commit_us; /* when it was done */
	int64		all_idle_us;	/* since when all partitions are silent, 0: they are not */
	TimestampTz idle_watermark; /* where the watermark stood then */
	bool		finished;
	TimestampTz finite_watermark;	/* the last one before the end of a run */
	int64		next_show_us;
	int64		fired_windows[STATE_MAX_OPERATORS];
	int64		rows_out[STATE_MAX_OPERATORS];
	int64		failures;		/* of the commit, in a row */
	EmitKind	emit;
	int64		emit_us;		/* EMIT_EVERY */
	int64		next_emit_us;
	bool		unemitted;		/* rows have come since */
	TimestampTz closed_now[STATE_MAX_OPERATORS];	/* windows that close until then are given out, as of the last epoch */
	TimestampTz passed_watermark[STATE_MAX_OPERATORS];	/* of rows that an operator takes from another one, as of the last stop */
	bool		give_all;		/* the next epoch gives out all that are alive */
	bool		rewriting_planned;	/* before the stop */
	bool		new_total;		/* the group of a query without GROUP BY was made, and not given out yet */
	bool		outbox_full;	/* and the views say so */
	int64		shown_epoch;
	KeyedExpiry expiry[STATE_MAX_OPERATORS];
	uint32		last_emit;		/* the epoch that gave out what had changed, 0: none of this run */
} KeyedLauncher;

/* What an epoch gives out. */
typedef struct Epoch
{
	int64		number;
	TimestampTz watermark;		/* W of its end */
	TimestampTz saved_watermark;	/* at the end of a run not "infinity", but what has been given out */
	FireSet    *sets;			/* by operator */
	BarrierLog *cuts;			/* by task */
	BarrierLog *logs;
	BarrierLog *outputs;
	CheckpointReason reason;
	bool		emit_due;		/* EMIT_EVERY: it is time */
	bool		give_all;		/* whatever the options say */
	bool		merging;		/* some windows are to be put together when tasks run again */
	TimestampTz closed_until[STATE_MAX_OPERATORS];	/* windows that close until then are given out for good */
	TimestampTz answered_until[STATE_MAX_OPERATORS];	/* what waited until then is given out */
	TimestampTz freed_until[STATE_MAX_OPERATORS];	/* what rows before then need goes */
	int64		begun_us;
	int64		early_us;
	int64		align_us;
	int64		cut_us;
	int64		merge_us;
	int64		output_us;
	int64		write_us;
	int64		rows_in;
	int64		bytes_in;
	int64		late_rows[STATE_MAX_OPERATORS];
	int64		op_rows[STATE_MAX_OPERATORS];
	int64		bad_rows;
	int64		superseded;		/* records of the cuts that are not alive */
	bool		copied_again;	/* because other records of the cuts are of the same entries */
	uint64		rows_out;
	List	   *bad_groups;		/* of BadGroup: see keyed_output.c */
} Epoch;

/* reads the saved state and makes the area; before the tasks start */
extern void keyed_launcher_prepare(int ntasks);
/* a checkpoint where it is time for one; ms until it should be called again */
extern long keyed_launcher_step(void);
/* the last checkpoint before a stop, where there is something to commit */
extern void keyed_launcher_stop(void);
/* has everything been read and given out? */
extern bool keyed_launcher_finished(void);

/* waits after an error that passes; leaves where the pipeline is not wanted any more */
extern void keyed_commit_pause(Reason *reason);
/* the operators of a program, by number, with their options */
extern OperatorSpec **keyed_specs(Program *program);

/* ---- keyed_stop.c: between the launcher's files ---- */

/* sleep of a launcher while nothing happens: windows may be closed by the wall clock */
#define KEYED_QUIET_MS	100

extern void keyed_wake_tasks(void);
extern void keyed_set_phase(BarrierPhase phase);
/* until all tasks have come so far; false: the run cannot go on, or, where "until" is not 0, it has taken too long */
extern bool keyed_wait_for_tasks(BarrierPhase stage, int64 epoch, int64 until_us);
/* where much has changed, before the stop */
extern void keyed_copy_early(int64 epoch);
/* all stand and have copied */
extern void keyed_take_over(Epoch *epoch);

/* ---- keyed_output.c: between the launcher's files ---- */

/* begins a transaction in which the statements can run on epoch->sets */
extern void keyed_output_begin(Epoch *epoch);
/* finds the next group that the statement (0: one of them) cannot write, and leaves it out; false: it is no group's fault */
extern bool keyed_output_blame(Epoch *epoch, int statement);
/* groups that were left out, as dead letters */
extern void keyed_output_letters(Epoch *epoch);
/* they are committed: tells the views and the log */
extern void keyed_output_show(Epoch *epoch);

/* ---- keyed_fire.c: between the launcher's files ---- */

/* what the partitions say now; DT_NOEND: all have reached their ends */
extern TimestampTz keyed_present_watermark(void);
/* a watermark up to this one whose windows can be put together in the memory that there is */
extern TimestampTz keyed_cap_watermark(TimestampTz watermark);
/* would this watermark give something out? */
extern bool keyed_closes_something(TimestampTz watermark);
/* all tasks stand: what the epoch gives out, and which panes are closed */
extern void keyed_choose_output(Epoch *epoch);
/* tasks run again: what keyed_choose_output() left for then */
extern void keyed_merge_slices(Epoch *epoch);
/* the same of groups without windows, from what was copied; and rows that window functions have answered */
extern void keyed_add_changes(Epoch *epoch);
/* after the state was loaded */
extern void keyed_close_loaded(void);
/* rows that wait and will be answered at the next stop: no early copy of them */
extern void keyed_mark_passing(TimestampTz watermark);
/* rows that wait: how far they are answered, before the tasks stop or while they stand */
extern void keyed_set_horizons(TimestampTz watermark, bool standing);
/* are there any left? */
extern bool keyed_rows_wait(void);
/* no row that window functions, or groups, are still to see in this order is older; DT_NOBEGIN: unknown */
extern TimestampTz keyed_no_row_before(const OperatorSpec *spec, TimestampTz watermark, TimestampTz horizon);

/* ---- keyed_ttl.c: between the launcher's files ---- */

/* all tasks stand: which keys go with this cut because they are forgotten */
extern void keyed_plan_expiry(const Epoch *epoch);
/* they have gone */
extern void keyed_free_expired(void);

#endif							/* STREAMPROC_WORKER_KEYED_H */

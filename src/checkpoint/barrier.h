/*-------------------------------------------------------------------------
 *
 * barrier.h
 *	  Epochs of a keyed pipeline: tasks stop together, the state is cut, they
 *	  go on; what the cut gave is committed by the launcher.
 *
 * THE PROTOCOL, for epoch n
 *	  run		tasks take batches and apply them.  W(n-1) rules lateness
 *	  early		where much has changed: between its batches each task copies
 *				the changed entries of its share of the key groups (group % ntasks)
 *				into blocks, a slice at a time, owning the group meanwhile
 *	  stop		the launcher asks.  Each task ends its batch, publishes its
 *				positions and watermarks, and waits
 *	  cut		all stand.  The launcher sets W(n), marks the panes that it
 *				closes; sessions of those panes go on in later ones (operator/session.c);
 *				each task copies what is changed in its share
 *				since it was copied, or all that is
 *	  run		all have copied: epoch n + 1 is open, while the launcher gives
 *				out the closed panes and commits
 *
 *	  So the stop is short however much an epoch has changed.  An entry that is
 *	  changed after it was copied is copied once more: the later record counts, and
 *	  says so (STATE_RECORD_AGAIN).
 *
 *	  Rows that window functions answer in the order of event time wait in the
 *	  state.  The horizon up to which they are answered is set when all stand; in the phase
 *	  of the cut each task answers those of its share of the key groups, then copies that.
 *	  For joins, and where answers go into another operator, it is set when the launcher
 *	  asks for the stop, and each task answers before it arrives.
 *
 *	  Nobody goes on before all have copied, or a later copy would hold rows of the
 *	  next epoch.  A task that does not arrive, because it has failed or died, leaves
 *	  the cut undone: the run is abandoned, and everybody reads the state from the
 *	  last commit.
 *
 * LOCKING
 *	  Barrier.lock guards phase, epoch, watermark and the fields of the tasks.  A task
 *	  writes its own partitions without it while it runs; the launcher reads them
 *	  while all stand, or as a hint.  Blocks belong to the task until it has arrived, then to the launcher.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_BARRIER_H
#define STREAMPROC_BARRIER_H

#include "postgres.h"

#include "catalog/catalog.h"
#include "operator/operator.h"
#include "state/state.h"

typedef enum BarrierPhase
{
	BARRIER_RUN,
	BARRIER_EARLY,
	BARRIER_STOP,
	BARRIER_CUT
} BarrierPhase;

/* Bytes that a task has written, linked; grows by blocks. */
typedef struct BarrierBlock
{
	dsa_pointer next;
	uint32		size;			/* of bytes[] */
	uint32		used;
	char		bytes[FLEXIBLE_ARRAY_MEMBER];
} BarrierBlock;

typedef struct BarrierLog
{
	dsa_pointer first;
	dsa_pointer last;
	uint64		bytes;
} BarrierLog;

typedef struct BarrierPartition
{
	int64		next_offset;
	TimestampTz watermark;
	bool		idle;
	bool		finished;
	bool		behind;			/* much stands in the topic that was not read yet */
	RecordMark	record;
} BarrierPartition;

/* how many entries of which epoch's segments were written anew */
typedef struct BarrierReplaced
{
	uint32		epoch;
	uint32		count;
} BarrierReplaced;

/* Which keys of an operator are forgotten: those that expire until then, in these key groups. */
typedef struct BarrierExpiry
{
	TimestampTz until;
	int			from;
	int			groups;			/* 0: none */
} BarrierExpiry;

typedef struct BarrierTask
{
	bool		attached;
	int64		early;			/* epoch whose changes it has copied early */
	int64		arrived;		/* epoch at whose end it stands or stood last */
	int64		copied;
	int64		begun_us;		/* monotonic: first row or movement of the epoch, 0: none */
	bool		behind;			/* its last batch was full */
	bool		wants_stop;		/* cannot go on: see worker/keyed_task.c */
	int64		rows_in;		/* of the epoch */
	int64		bytes_in;
	int64		late_rows[STATE_MAX_OPERATORS];
	int64		op_rows[STATE_MAX_OPERATORS];	/* that came to the operator */
	int64		bad_rows;
	BarrierLog	cut;
	BarrierLog	log;
	BarrierLog	output;			/* rows that window functions have answered: OverRecords */
	dsa_pointer replaced;
	int			nreplaced;
	int64		again;			/* records of entries that the cut holds an older one of */
} BarrierTask;

typedef struct Barrier
{
	LWLock		lock;
	ConditionVariable changed;
	int			ntasks;
	int			nparts;
	BarrierPhase phase;
	int64		epoch;			/* open, or at its end */
	TimestampTz watermark;		/* rules lateness in this epoch */
	TimestampTz closed_until[STATE_MAX_OPERATORS];	/* of the run's begin, by operator */
	TimestampTz freed_until[STATE_MAX_OPERATORS];
	TimestampTz horizon[STATE_MAX_OPERATORS];	/* rows that wait are answered up to here: see operator/over_wait.c */
	int64		pace;			/* us: how far the watermark went in the last epoch */
	int64		pace_rows;		/* that came in it */
	uint64		signature;		/* of the operators: who has others must not touch the state */
	/* rewriting of old entries in the next cut */
	uint32		rewrite_before; /* epoch; only where rewrite_groups > 0 */
	int			rewrite_from;	/* group */
	int			rewrite_groups;
	/* keys that are forgotten after the next cut: see operator/ttl.c */
	BarrierExpiry expiry[STATE_MAX_OPERATORS];
	bool		keep_unemitted; /* entries that were changed after this epoch stay */
	uint32		emitted;
	bool		committing;		/* the launcher is at the commit of the epoch before */
	bool		merging;		/* and reads slices: rows that are late for some of their windows have to wait */
	BarrierTask task[SHMEM_MAX_TASKS];
	BarrierPartition part[FLEXIBLE_ARRAY_MEMBER];
} Barrier;

/* Does the next cut look for old entries in the group? */
static inline bool
barrier_rewrites(const Barrier *barrier, int group)
{
	return barrier->rewrite_groups > 0 &&
		(group - barrier->rewrite_from + STATE_GROUPS) % STATE_GROUPS < barrier->rewrite_groups;
}

static inline bool
barrier_expires(const BarrierExpiry *expiry, int group)
{
	return expiry->groups > 0 && (group - expiry->from + STATE_GROUPS) % STATE_GROUPS < expiry->groups;
}

/* looking at so many costs as much as copying one */
#define BARRIER_LOOK	8

/* ---- barrier.c ---- */

extern Barrier *barrier_create(StateArea *area, int ntasks, int nparts, int64 epoch, TimestampTz watermark);
extern Barrier *barrier_attach(StateArea *area);
extern void barrier_log_append(StateArea *area, BarrierLog *log, const char *bytes, Size len);
/* contiguous room in the log, for a run of the cut */
extern char *barrier_log_reserve(StateArea *area, BarrierLog *log, Size len);
extern void barrier_log_free(StateArea *area, BarrierLog *log);

/* a task's share of the cut of an epoch, while it is made */
typedef struct BarrierCut BarrierCut;

/* in the current memory context */
extern BarrierCut *barrier_cut_create(StateArea *area, Barrier *barrier, int task);
/* a slice of it while others run; true: that was the last one */
extern bool barrier_cut_early(BarrierCut *cut);
/* the rest, while all stand */
extern void barrier_cut_end(BarrierCut *cut);

/* ---- what tasks ship besides the state (shipped.c) ---- */

typedef enum ShippedKind
{
	SHIPPED_LETTER,
	SHIPPED_LETTER_DONE,		/* it has run again */
	SHIPPED_LATE_ROW
} ShippedKind;

extern void shipped_letter(StringInfo into, const DeadLetter *letter);
extern void shipped_letter_done(StringInfo into, int64 id);
extern void shipped_late_row(StringInfo into, const LateRow *row, const char *json);
/* writes all of a log into the catalog; in the launcher's transaction */
extern void shipped_write(StateArea *area, const char *pipeline, const BarrierLog *log);

/* ---- saved.c: segments in the catalog ---- */

/* The segments of an epoch, or of several that were merged, that are stored. */
typedef struct SavedEpoch
{
	int64		epoch;			/* the last one */
	int64		first_epoch;
	int			level;			/* merges behind it; SAVED_LARGE: too large to be merged */
	int			nsegments;
	int64		bytes;
	int64		live;			/* entries that no later segment holds */
} SavedEpoch;

typedef struct Saved
{
	MemoryContext cxt;
	int			n;
	int			size;
	SavedEpoch *epochs;			/* ascending */
	int64		bytes;			/* of all */
	int64		last_epoch;		/* that was written */
	int64		last_bytes;		/* of it */
	int			nsegments;		/* with those that the open transaction writes */
	int			hand;			/* the group where rewriting goes on */
	/* what the open transaction merges: epochs from..from+count-1 into one */
	int			merge_from;
	int			merge_count;	/* 0: nothing */
	SavedEpoch	merged;
	/* pages of deleted segments */
	CatalogPages freeing;		/* by the open transaction */
	CatalogPages freed;			/* not yet used again */
	uint64		signature;
	StateShape	shapes[STATE_MAX_OPERATORS];
	int			nshapes;
} Saved;

#define SAVED_LARGE		99
/* segments that are written with one call */
#define SAVED_AT_ONCE	32
/* so many epochs of one level become one */
#define SAVED_MERGE		32
/* or fewer, where they are so many bytes: a commit that merges must not be one that is waited for */
#define SAVED_MERGE_BYTES	(512 * 1024)
/* epochs with more bytes, merged or not, are left alone */
#define SAVED_SMALL		(256 * 1024)

/* of the text that operator_signature() makes */
extern uint64 saved_signature_of(const char *text, Size len);
extern Saved *saved_create(MemoryContext cxt);
/*
 * Reads all segments into the area.  Throws XX001 where one cannot be used, or
 * where there are not as many as the position says.
 */
extern void saved_load(Saved *saved, StateArea *area, const PositionRow *position, OperatorSpec **specs);
/*
 * In the checkpoint's transaction: writes the cut of all tasks as segments of
 * "epoch", deletes segments that hold nothing alive.  "superseded": records of the
 * cut that are not alive.  Nothing in memory changes before saved_committed().
 */
extern void saved_write(Saved *saved, StateArea *area, const BarrierLog *cuts, int n, int64 superseded, const char *pipeline, int64 epoch);
extern void saved_committed(Saved *saved);
/* in saved_merge.c, called by saved_write(): many small segments become one */
extern void saved_merge(Saved *saved, const char *pipeline);

/* records as segments of an epoch */
typedef struct SavedWriter
{
	Saved	   *saved;
	SavedEpoch *epoch;
	const char *pipeline;
	SegmentRow	rows[SAVED_AT_ONCE];
	char	   *buffers;		/* SEGMENT_BYTES for each of them */
	int			n;				/* full ones */
	Size		bytes;			/* of the one that is being filled */
	StateRun   *run;			/* the last one in it */
} SavedWriter;

extern void saved_writer_begin(SavedWriter *writer, Saved *saved, SavedEpoch *epoch, const char *pipeline);
extern void saved_writer_put(SavedWriter *writer, const StateRun *run, const StateRecord *record);
extern void saved_writer_end(SavedWriter *writer);

/* so many entries of that epoch's segments are gone with their pane, or written anew */
extern void saved_entries_gone(Saved *saved, uint32 epoch, uint32 count);
/* what the next cut has to write anew, so that old segments can go */
extern void saved_plan_rewriting(Saved *saved, StateArea *area, Barrier *barrier);
extern int64 saved_entries_bytes(StateArea *area);

#endif							/* STREAMPROC_BARRIER_H */

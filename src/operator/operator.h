/*-------------------------------------------------------------------------
 *
 * operator.h
 *	  The stateful operators: grouped aggregation.
 *
 *	  task:		rows of the row query --> OperatorRows --> operator_apply() --> state
 *	  launcher:	state --> FireSet --> rows for the output plan
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_OPERATOR_H
#define STREAMPROC_OPERATOR_H

#include "postgres.h"

#include "base/base.h"
#include "executor/execdesc.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/execnodes.h"
#include "nodes/primnodes.h"
#include "state/state.h"
#include "time/time.h"

/* columns of a row of the row query */
#define OPERATOR_MAX_COLUMNS	64

typedef enum AggregateKind
{
	AGGREGATE_NATIVE,			/* our own code */
	AGGREGATE_TRANSITION,		/* PostgreSQL's transition function, its state kept as bytes */
	AGGREGATE_BUFFERED			/* arguments are kept and aggregated when the group is given out */
} AggregateKind;

struct Transition;

typedef struct AggregateSpec
{
	Aggref	   *aggref;
	char	   *name;
	AggregateKind kind;
	int			kernel;			/* native.c */
	bool		distinct;		/* native, of each value once: see distinct.c */
	StateKeyColumn distinct_key;	/* its argument */
	int			nargs;			/* columns of the row: aggregated arguments, then direct ones */
	int			ndirect;
	int		   *args;
	int			filter;			/* column, -1: none */
	uint32		at;				/* its state in the fixed part */
	uint32		size;
	struct Transition *transition;
} AggregateSpec;

/* What a column of the operator's output is. */
typedef enum OutputKind
{
	OUTPUT_KEY,
	OUTPUT_WINDOW_START,
	OUTPUT_WINDOW_END,
	OUTPUT_AGGREGATE,
	OUTPUT_GROUPING				/* GROUPING(...) of grouping sets */
} OutputKind;

typedef struct OutputColumn
{
	OutputKind	kind;
	int			number;			/* of the key or aggregate */
} OutputColumn;

typedef enum OperatorWindow
{
	OPERATOR_NO_WINDOW,
	OPERATOR_TUMBLE,
	OPERATOR_HOP,
	OPERATOR_CUMULATE
} OperatorWindow;

typedef struct OperatorSpec
{
	MemoryContext cxt;
	int			number;			/* in the pipeline */
	int			statement;
	OperatorWindow window;
	WindowScale scale;
	/* a window is given out with all others that lie in the same window of this scale */
	bool		held;
	bool		held_on_end;	/* by where it ends, else by where it begins */
	WindowScale held_scale;

	int			ncolumns;		/* of the row query: keys, event time, place, arguments */
	int			nkeys;
	int			at_column;		/* -1: none */
	int			place_column;
	StateKeyColumn *keys;
	int16	   *column_len;
	bool	   *column_byval;
	char	   *column_align;

	/* grouping sets: each row goes into a group of each; the number of the set ends the key */
	int			nsets;			/* 0: one group for each row */
	uint64	   *sets;			/* bits of the keys that are in it */
	List	   *groupings;		/* IntList each: keys of GROUPING(), -1: a border of the window */

	int			noutput;
	OutputColumn *output;
	int			naggs;
	AggregateSpec *aggs;
	int			first_kept;		/* column from which on values are kept: keys stand encoded, if nothing else wants them */
	bool		exact_keys;		/* no originals are kept */
	uint32		originals_at;	/* blob in the fixed part */
	uint32		fixed_size;
	int			nblobs;
	uint16		blob[STATE_MAX_BLOBS];
	bool		user_code;		/* some aggregate runs functions */
	bool		has_distinct;	/* some native one is DISTINCT */
	bool		notes_given;	/* entries say whether their group was given out: see given.c */

	ExprContext *group_context; /* what aggregate functions take for the aggregate's memory; reset for each group */
	ExprContext *temp_context;	/* of one call */
	int64		allowed_lateness;	/* us */
	TimestampTz closed_until;	/* what closes until then was given out before this run */
} OperatorSpec;

/* ---- spec.c ---- */

/* What the plan says; see plan/keyed.c. */
typedef struct OperatorPlan
{
	int			number;
	int			statement;
	OperatorWindow window;
	WindowScale scale;
	List	   *key_exprs;		/* expressions of the key columns, in the row's order */
	List	   *key_eqops;		/* OIDs */
	List	   *columns;		/* expressions of all columns of the row */
	int			at_column;
	int			place_column;
	List	   *output;			/* IntList: OutputKind, number, ... */
	List	   *aggrefs;
	List	   *agg_args;		/* IntList each: columns of arguments, then direct ones */
	List	   *agg_filters;	/* IntList: column or -1 */
	List	   *sets;			/* IntList each: keys of a grouping set */
	List	   *groupings;		/* IntList each: arguments of GROUPING() as keys */
} OperatorPlan;

extern OperatorSpec *operator_spec_make(const OperatorPlan *plan, MemoryContext cxt);
/* an error text where the type of a key cannot be one, else NULL */
extern const char *operator_kind_name(const AggregateSpec *agg);
/* describes keys, types, aggregates and window: the same for states that fit each other */
extern void operator_signature(const OperatorSpec *spec, StringInfo into);

/* ---- native.c ---- */

extern bool native_choose(AggregateSpec *agg);
extern void native_update(const AggregateSpec *agg, char *state, Datum value);
extern void native_combine(const AggregateSpec *agg, char *state, const char *other);
extern Datum native_final(const AggregateSpec *agg, const char *state, bool *isnull);

/* ---- distinct.c ---- */

/* the key of a value in the set of a group's aggregate */
extern uint16 distinct_key(const AggregateSpec *agg, int number, const char *key, uint16 meta, Datum value, StringInfo into);
/* notes the value; *is_new: it was not there.  Returns the group's entry, which may have moved */
extern StateEntry *distinct_add(const AggregateSpec *agg, int number, StateCursor *cursor, StateEntry *entry, uint32 hash,
								Datum value, bool *is_new);
/* of a member's key: which aggregate, which group, which value (exact types only) */
extern int	distinct_number(const char *key);
extern const char *distinct_group(const char *key, uint16 *meta);
extern Datum distinct_value(const AggregateSpec *agg, const char *key, uint16 meta);

/* ---- transition.c ---- */

extern void transition_init(OperatorSpec *spec, AggregateSpec *agg);
/* can states of two slices be put together? */
extern bool transition_combines(const AggregateSpec *agg);
extern void transition_begin(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base);
extern void transition_step(OperatorSpec *spec, AggregateSpec *agg, const Datum *values, const bool *isnull);
extern StateEntry *transition_store(OperatorSpec *spec, AggregateSpec *agg, StateCursor *cursor, StateEntry *entry);
extern StateEntry *transition_combine(OperatorSpec *spec, AggregateSpec *agg, StateCursor *cursor, StateEntry *entry,
									  const char *fixed, const char *base);
extern Datum transition_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull);

/* ---- buffered.c ---- */

extern void buffered_init(OperatorSpec *spec, AggregateSpec *agg);
extern void buffered_write(const OperatorSpec *spec, const AggregateSpec *agg, const Datum *values, const bool *isnull, StringInfo into);
extern Datum buffered_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull);

/* ---- rows.c ---- */

typedef struct OperatorRow
{
	struct OperatorRow *next;	/* of the same key group */
	uint32		hash;
	uint16		key_meta;
	bool		late;			/* for all of its windows */
	uint8		set;			/* grouping set */
	int64		slice;
	uint64		place;			/* tid as a number: row of the feed, source */
	uint64		nulls;
	const char *key;
	Datum		values[FLEXIBLE_ARRAY_MEMBER];
} OperatorRow;

/* Rows of the row query that wait for being applied. */
typedef struct OperatorRows
{
	DestReceiver pub;
	OperatorSpec *spec;
	Arena		arena;
	StringInfoData key;
	OperatorRow *first[STATE_GROUPS];
	OperatorRow **last[STATE_GROUPS];
	OperatorRow *late_first;	/* rows that some window is too late for, linked by "next" */
	OperatorRow **late_last;
	int64		nrows;
	int64		nlate;
	Size		bytes;
	TimestampTz watermark;		/* rules lateness; WATERMARK_NONE: nothing is late */

	/* the slice that the last row lay in, and its borders */
	int64		last_slice;
	TimestampTz slice_begin;
	TimestampTz slice_end;
	bool		slice_late;		/* for all windows */
	bool		slice_partly;	/* for some */

	/* what stood here at the last rows_mark() */
	OperatorRow **marked_last[STATE_GROUPS];
	OperatorRow **marked_late_last;
	int64		marked_rows;
	int64		marked_late;
} OperatorRows;

extern OperatorRows *rows_create(OperatorSpec *spec, MemoryContext cxt);
extern void rows_reset(OperatorRows *rows);
/* what came since the last mark is forgotten; resetting sets a mark */
extern void rows_mark(OperatorRows *rows);
extern void rows_forget(OperatorRows *rows);
/* before a batch: the watermark that rules */
extern void rows_watermark(OperatorRows *rows, TimestampTz watermark);
/*
 * Windows that a slice is part of, by the slice that they end before: from
 * slice + 1 to the last one.  Where they begin: operator_window_begin().
 */
extern int64 operator_last_end(const OperatorSpec *spec, int64 slice);
extern int64 operator_window_begin(const OperatorSpec *spec, int64 end);
/* the instant that closes the window that ends before this slice, allowed_lateness aside */
extern TimestampTz operator_closing(const OperatorSpec *spec, int64 end);
/* is it too late for a window that closes then? */
extern bool operator_is_late(const OperatorSpec *spec, TimestampTz closing, TimestampTz watermark);

/*
 * Functions of aggregates run in a transaction.  None is open while a process
 * waits for a key group: who owns it may wait for a lock of ours.
 */
typedef struct OperatorTransaction
{
	void		(*open) (void);
	void		(*close) (bool failed);
} OperatorTransaction;

/* into the state; throws where a function does, or memory is used up: then the run must be abandoned */
extern void operator_apply(OperatorRows *rows, StateArea *area, const OperatorTransaction *transaction);
extern void operator_apply_row(OperatorSpec *spec, StateArea *area, OperatorRow *row);

/* ---- careful.c ---- */

typedef struct CarefulRow
{
	OperatorSpec *spec;
	OperatorRow *row;
	int			message;
} CarefulRow;

/* rows of one message: all of them or none.  NULL: all, else the error; *failed: of which operator */
extern ErrorData *operator_apply_carefully(CarefulRow *rows, int n, StateArea *area, const OperatorTransaction *transaction,
										   MemoryContext cxt, int *failed);
/* panes may be gone: forget what is remembered of them */
extern void operator_epoch_ended(void);

/* ---- fire.c ---- */

typedef struct FireUnit
{
	TimestampTz window_start;
	TimestampTz window_end;
	StatePane  *pane;			/* all of its entries, or */
	StateChunk *merged;			/* STATE_GROUPS chunks of our own, or */
	StatePane **slices;			/* that are to be merged, or */
	int			nslices;
	bool		from_cut;		/* what the cut copied of one pane: */
	int64		cut_pane;
	List	   *blocks;			/* of FireBlock: records of a cut */
	struct HTAB *again;			/* keys with several records in the blocks; the last one counts.  NULL: none */
} FireUnit;

typedef struct FireBlock
{
	const char *runs;
	Size		bytes;
} FireBlock;

/* What an operator gives out at the end of an epoch. */
typedef struct FireSet
{
	OperatorSpec *spec;
	StateArea  *area;
	List	   *units;			/* of FireUnit */
	int64		rows;			/* given out by the last scan */
	int64		tombstones;		/* written by it */
	/* groups have numbers, in the order in which they are given out */
	int64		from;			/* the first one */
	int64		to;				/* before this one; 0: all */
	int64	   *skip;			/* ascending: left out */
	int			nskip;
	bool		keys_only;		/* aggregates as NULL: their functions throw */
} FireSet;

typedef struct FireScan
{
	FireSet    *set;
	int64		number;			/* of the next group */
	int			skipped;
	int			unit;			/* present */
	int			group;
	uint32		at;
	bool		open;
	StateCursor cursor;
	const char *p;				/* in a block */
	const char *end;
	const StateRun *run;
	uint32		left;			/* records of the run */
	int			block;
	StateRecord *record;		/* of the present group; NULL: it is no record */
	bool		was_given;		/* the present group, by an epoch before */
} FireScan;

/* by operator number, while the launcher runs the output plan; NULL: nobody does */
extern FireSet *operator_fire_sets;

extern void fire_scan_begin(FireScan *scan, FireSet *set);
/* the next group as values of the output columns, in group_cxt; false: no more */
extern int64 fire_count(FireSet *set);
/* the unit's blocks are complete: which keys are in them more than once? */
extern void fire_find_again(FireSet *set, FireUnit *unit);
extern bool fire_scan_next(FireScan *scan, Datum *values, bool *isnull);
/*
 * One window from its slices.  "changed": only keys that some slice has changed
 * since the epoch "since", or in this one.
 */
extern StateChunk *fire_merge(OperatorSpec *spec, StateArea *area, StatePane **slices, int n, bool changed, uint32 since);
extern void fire_merged_free(StateArea *area, StateChunk *merged);

/* ---- given.c ---- */

/*
 * All tasks stand: what of a pane is to be given out becomes part of the epoch's cut.
 * "all": whatever it is, else what has changed since the epoch "since".
 */
extern void given_mark(const OperatorSpec *spec, StateArea *area, StatePane *pane, bool all, uint32 since, uint32 epoch);
/* the present group is given out by this epoch, or is not */
extern void given_note(FireScan *scan, bool given);
/* the epoch is committed: the entries learn what it has given out */
extern void given_committed(FireSet *set);

#endif							/* STREAMPROC_OPERATOR_H */

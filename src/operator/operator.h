/*-------------------------------------------------------------------------
 *
 * operator.h
 *	  The stateful operators: grouped aggregation, window functions, joins of
 *	  topics.
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
#include "storage/itemptr.h"
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
struct TransitionState;
typedef struct OperatorRow OperatorRow;

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
	OUTPUT_SESSION,				/* the range of a session */
	OUTPUT_AGGREGATE,
	OUTPUT_GROUPING,			/* GROUPING(...) of grouping sets */
	OUTPUT_COLUMN,				/* OVER, join: a column of the row as it came */
	OUTPUT_OVER,				/* the result of a window function */
	OUTPUT_NUMBER,				/* top: the row's number */
	OUTPUT_NOTHING				/* top, join: null, nobody looks at it */
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
	OPERATOR_CUMULATE,
	OPERATOR_SESSION
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
	int64		gap;			/* us, of sessions */
	int64		max_span;		/* us, 0: none */
	uint32		bounds_at;		/* SessionBounds in the fixed part */
	uint32		carried_at;		/* max_span: SessionCarried */
	uint32		rows_at;		/* max_span: blob of the rows of the slice */

	int			ncolumns;		/* of the row query: keys, event time, place, arguments */
	int			nkeys;
	int			at_column;		/* -1: none */
	int			place_column;
	/* rows of one instant are told apart by where they come from: see place.c */
	int			row_places;		/* of a row that comes; 0: as 1 */
	int			given_places;	/* of a row that is given to another operator; 0: nobody asks there */
	int			place_output;	/* the output column that says which of them it is, -1: none */
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

	struct OverSpec *over;		/* window functions instead of groups; NULL: none */
	struct JoinSpec *join;		/* a join of topics instead of groups; NULL: none */
	struct AsofSpec *asof;		/* an as-of join of topics instead of groups; NULL: none */
	bool		waits;			/* rows wait for the watermark to pass them */
	int			nrefs;			/* columns by reference that such rows have */
	int		   *refs;
	ExprState  *filter;			/* over, join: rows that it does not pass are not given out; NULL: all are */
	TupleTableSlot *slot;		/* for the filter: an output row */
	ExprContext *filter_context;
	struct TopSpec *top;		/* groups of their first n rows; NULL: of aggregates */

	ExprContext *group_context; /* what aggregate functions take for the aggregate's memory; reset for each group */
	ExprContext *temp_context;	/* of one call */
	int64		ttl;			/* us: a key is forgotten so long after its last row, see ttl.c; 0: never */
	uint32		last_at;		/* groups with ttl: where an entry says when that was */
	TimestampTz watermark;		/* that rules this epoch; groups with ttl */
	int64		allowed_lateness;	/* us */
	TimestampTz closed_until;	/* what closes until then was given out before this run */
	TimestampTz answered_until;	/* it gives rows: those that waited until then were given out before this run */
	TimestampTz freed_until;	/* it gives rows: what it remembered for rows before then had gone before this run */
} OperatorSpec;

/* ---- spec.c ---- */

/* What the plan says; see plan/keyed.c. */
typedef struct OperatorPlan
{
	int			number;
	int			statement;
	OperatorWindow window;
	WindowScale scale;
	int64		gap;			/* us, of sessions */
	int64		max_span;		/* 0: none */
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
	int64		ttl;			/* us; 0: none */
	struct OverPlan *over;		/* NULL: it groups */
	struct JoinPlan *join;
	struct AsofPlan *asof;
	struct TopPlan *top;		/* NULL: it aggregates */
} OperatorPlan;

/* rows are given out one by one, as the tasks make them, and no groups */
static inline bool
operator_gives_rows(const OperatorSpec *spec)
{
	return spec->over != NULL || spec->join != NULL || spec->asof != NULL;
}

extern OperatorSpec *operator_spec_make(const OperatorPlan *plan, MemoryContext cxt);
/* an error text where the type of a key cannot be one, else NULL */
extern const char *operator_kind_name(const AggregateSpec *agg);
/* describes keys, types, aggregates and window: the same for states that fit each other */
extern void operator_signature(const OperatorSpec *spec, StringInfo into);

/* ---- ttl.c ---- */

/* does the operator keep something of each key for ever, where no ttl is given? */
extern bool operator_keeps_keys(const OperatorSpec *spec);
/* what the state has to know of the operator, besides its layout */
extern void operator_state_init(const OperatorSpec *spec, StateArea *area);
/* of an entry, by the meta of its key; bytes */
extern uint32 operator_fixed_size(const OperatorSpec *spec, uint16 meta);
/* a row comes to its group: one that is forgotten begins anew */
extern void ttl_row_comes(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor, StateEntry *entry, bool fresh);
/* would it, after rows until "last"?  If not, the instant of the last one is "*last" then */
extern bool ttl_begins_anew(const OperatorSpec *spec, const OperatorRow *row, TimestampTz *last);
/* has a key whose last row came then been forgotten when it is that late? */
static inline bool
ttl_is_over(const OperatorSpec *spec, TimestampTz last, TimestampTz at, TimestampTz watermark)
{
	if (spec->ttl == 0)
		return false;
	/* the end of a run is not the end of time */
	if (watermark != DT_NOEND)
		at = Max(at, watermark);
	return at >= state_expires(last, spec->ttl);
}

/* ---- native.c ---- */

extern bool native_choose(AggregateSpec *agg);
extern void native_update(const AggregateSpec *agg, char *state, Datum value);
extern bool native_takes_out(const AggregateSpec *agg);
extern bool native_take_out(const AggregateSpec *agg, char *state, Datum value);
extern void native_combine(const AggregateSpec *agg, char *state, const char *other);
extern Datum native_final(const AggregateSpec *agg, const char *state, bool *isnull);

/* ---- numeric.c ---- */

/* of n integers, as avg() gives it */
extern Datum numeric_average(int64 sum, int64 n);
/* of a condition that is ready: functions of numeric are replaced by quicker ones that give the same */
extern void numeric_hasten(ExprState *condition);

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
/* the value at work as it is kept, its bytes (NULL: it is in the state) in the memory of a call */
extern const char *transition_bytes(OperatorSpec *spec, AggregateSpec *agg, struct TransitionState *state, Size *len);
extern StateEntry *transition_combine(OperatorSpec *spec, AggregateSpec *agg, StateCursor *cursor, StateEntry *entry,
									  const char *fixed, const char *base);
extern Datum transition_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull);

/* ---- buffered.c ---- */

extern void buffered_init(OperatorSpec *spec, AggregateSpec *agg);
extern void buffered_write(const OperatorSpec *spec, const AggregateSpec *agg, const Datum *values, const bool *isnull, StringInfo into);
extern Datum buffered_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull);

/* ---- rows.c ---- */

struct OperatorRow
{
	struct OperatorRow *next;	/* of the same key group */
	uint32		hash;
	uint16		key_meta;
	bool		late;			/* for all of its windows */
	uint8		set;			/* grouping set */
	int32		part;			/* where the message came from; of a pair, that of the left row, see place.c */
	int64		offset;
	int64		slice;
	uint64		place;			/* tid as a number: row of the feed, source */
	uint64		nulls;
	const char *key;
	Datum		values[FLEXIBLE_ARRAY_MEMBER];
};

/* ---- place.c ---- */

/* Where a row comes from: partition and offset of its message. */
typedef struct RowPlace
{
	int64		offset;
	int32		part;
	int32		unused;
} RowPlace;

/* of a pair: the side that has no row comes last */
#define PLACE_NOWHERE	((RowPlace) {PG_INT64_MAX, PG_INT32_MAX, 0})

/* values of a row: its columns, and behind them what is known of a second place */
static inline int
operator_row_values(const OperatorSpec *spec)
{
	return spec->ncolumns + (spec->row_places > 1 ? 2 : 0);
}

/* a row with these values, or a row that takes it, has the place besides "part" and "offset" */
extern void place_put_second(const OperatorSpec *spec, Datum *values, const RowPlace *place);
extern RowPlace place_second(const OperatorSpec *spec, const Datum *values);
extern int	place_compare(const RowPlace *x, const RowPlace *y);
extern int	place_compare_second(const OperatorSpec *spec, const Datum *x, const Datum *y);
/* in front of an output row: as many as the operator gives */
extern void place_write(const OperatorSpec *spec, int32 part, int64 offset, const Datum *values, StringInfo into);
/* an operator, whose plan and neighbours are known: "below" is what it reads, NULL: topics; "above" takes its rows */
extern void place_plan(OperatorSpec *spec, const OperatorSpec *below, const OperatorSpec *above);
/* rows of the row query over these records (so many) learn where they come from */
struct OperatorRows;
extern void place_find(struct OperatorRows *rows, const OperatorSpec *below, const char *records, int64 n);

/* Panes of rows that wait, as of the begin of a batch: none of them is closed before its end. */
typedef struct WaitingPanes
{
	StatePane **panes;			/* NULL: not looked for yet */
	int			n;
} WaitingPanes;

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
	OperatorRow *overtaken;		/* window functions: found late when they were applied */
	const TimestampTz *horizon; /* rows before it have been answered; read by who owns the key group */
	const int64 *pace;			/* us: how far the watermark went in the last epoch */
	WaitingPanes waiting;		/* while they are applied */
	uint32		waiting_units[STATE_GROUPS];	/* that a pane has of the group, see over_wait.c */
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

/*
 * Takes what an operator answers; NULL: nobody does, or only the log.  Between key groups
 * (of a join also between rows) it is asked whether it has enough; then it works, without a
 * transaction and without a group that is owned.
 */
typedef struct OperatorConsumer
{
	bool		(*full) (void);
	void		(*work) (void);
} OperatorConsumer;

/* into the state; throws where a function does, or memory is used up: then the run must be abandoned */
extern void operator_apply(OperatorRows *rows, StateArea *area, const OperatorTransaction *transaction, const OperatorConsumer *consumer);
extern void operator_apply_row(OperatorSpec *spec, StateArea *area, OperatorRow *row);
/* by hash, then by the bytes of the key */
extern int	operator_compare_keys(const OperatorRow *x, const OperatorRow *y);
/* rows of one key to the aggregates of its entry, which may move */
extern StateEntry *operator_apply_rows(OperatorSpec *spec, OperatorRow **rows, int n, StateCursor *cursor, StateEntry *entry);

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

/* ---- top.c ---- */

/* rows that may be asked for */
#define TOP_MOST	1000

/* What numbers the rows of a list; with ranks rows that are equal in their order come in, or stay out, together. */
typedef enum TopRanking
{
	TOP_ROW_NUMBER,
	TOP_RANK,
	TOP_DENSE_RANK
} TopRanking;

typedef struct TopSpec
{
	int			n;				/* so many rows, or ranks, of each key */
	TopRanking	ranking;
	int			nsort;
	struct TopSort *sort;
	int			nkept;			/* columns of a row that are kept, those to sort by first */
	int			nsort_kept;
	int		   *kept;
	int		   *kept_at;		/* by column: its number there, -1: it is not */
	uint32		at;				/* blob in the fixed part */
} TopSpec;

typedef struct TopPlan
{
	int			n;
	TopRanking	ranking;
	List	   *sort_columns;	/* IntList */
	List	   *sort_ops;		/* OidList */
	List	   *nulls_first;	/* IntList */
} TopPlan;

extern void top_spec_make(OperatorSpec *spec, const TopPlan *plan, const List *columns, uint32 at);
extern void top_signature(const OperatorSpec *spec, StringInfo into);
/* rows of one key; the entry is marked as changed where its list is */
extern StateEntry *top_apply(OperatorSpec *spec, OperatorRow **rows, int n, StateCursor *cursor, StateEntry *entry);
extern StateEntry *top_merge(OperatorSpec *spec, StateCursor *to, StateEntry *entry, const char *fixed, const char *base);
/* the rows of an entry: how many, the first one, the one behind one; its kept columns */
extern uint32 top_rows(const OperatorSpec *spec, const char *fixed, const char *base, const char **first);
extern const char *top_row_behind(const char *row);
/* are the two equal in their order? */
extern bool top_rows_equal(const OperatorSpec *spec, const char *row, const char *other);
extern void top_row_read(const OperatorSpec *spec, const char *row, Datum *values, bool *isnull);

/* ---- over_spec.c: window functions ---- */

typedef enum OverKind
{
	OVER_ROW_NUMBER,
	OVER_RANK,
	OVER_DENSE_RANK,
	OVER_LAG,
	OVER_FIRST_VALUE,
	OVER_LAST_VALUE,
	OVER_NTH_VALUE,
	OVER_AGGREGATE
} OverKind;

/* Rows that a function sees; all frames end with the current row. */
typedef struct OverFrame
{
	bool		rows;			/* ROWS, else RANGE: peers are in it, too */
	bool		unbounded;		/* from the first row on */
	int64		nrows;			/* ROWS: so many before the current one */
	Interval	preceding;		/* RANGE */
	int64		us;				/* the same, -1: it has days or months */
	bool		kept;			/* RANGE: some function needs its rows */
	int			tail;			/* kept: number of its tail */
} OverFrame;

typedef struct OverFunction
{
	OverKind	kind;
	char	   *name;
	int			frame;
	int			value;			/* column of the argument */
	int			otherwise;		/* lag: column of the default, -1: null */
	int64		n;				/* lag, nth_value: constant */
	AggregateSpec agg;
	bool		running;		/* its state goes from row to row, else it is made anew from the rows of the frame */
	int16		len;			/* of the result */
	bool		byval;
	char		align;
} OverFunction;

typedef struct OverSpec
{
	bool		arrival;		/* rows are answered as they come, else in the order of event time */
	bool		first_only;		/* DISTINCT ON: of a key nothing is kept but that there was a row */
	int			nframes;
	OverFrame  *frames;
	int			nfunctions;
	OverFunction *functions;
	int			nkept;			/* columns of rows that are remembered */
	int		   *kept;
	int		   *kept_at;		/* by column: its number there, -1: it is not */
	int64		ring;			/* so many of the last rows are kept, by number */
	int64		first;			/* and so many of the first ones */
	int64		span;			/* us: so long are others kept; 0: not at all */
	WindowScale history;		/* slices of those */
	uint32		fixed_size;		/* states of running aggregates */
	/* what is kept of a key: see OverHead */
	bool		rare;			/* an OverRare is */
	int			ntails;
	uint32		tails_at;
	uint32		fixed_at;
	uint32		rows_at;
	bool		transitions;	/* running states of changing length are */
	bool		made_anew;		/* some aggregate is, by functions */
	int			row_most;		/* bytes of a row in the history; 0: unknown */
	struct OverKey *work;		/* this process at work, NULL: it was not yet */
	/* first_only: of the keys of the last rows that came, how many were looked for, how many had been answered; see over_wait.c */
	uint32		asked;
	uint32		answered;
	uint32		turn;
	bool		filter_immutable;	/* the condition is */
	struct OperatorSpec *scratch;	/* contexts for aggregates made anew */
} OverSpec;

typedef struct OverPlan
{
	bool		arrival;
	bool		first_only;
	List	   *frames;			/* IntList each: WindowClause.frameOptions, and */
	List	   *offsets;		/* Const, or NULL: its startOffset */
	List	   *functions;		/* WindowFunc */
	List	   *function_frames;	/* IntList */
	List	   *args;			/* IntList each: columns */
	List	   *filters;		/* IntList: column or -1 */
} OverPlan;

extern void over_spec_make(OperatorSpec *spec, const OverPlan *plan);
extern void over_signature(const OperatorSpec *spec, StringInfo into);
/* for the views: the functions and how their frames are kept */
extern char *over_describe(const OperatorSpec *spec);
/* what of a key is kept */
extern char *over_kept(const OperatorSpec *spec);
/* "qual": conditions on output rows, whose columns are those of "tlist" (INDEX_VAR) */
extern void over_set_filter(OperatorSpec *spec, List *qual, List *tlist);
/* while a filter is asked: what is thrown then comes from it */
extern bool over_filtering;
/* does the present row of the slot fulfil them? */
extern bool over_filter_passes(OperatorSpec *spec, ExprState *condition);

/*
 * Panes of such an operator: one for ever, with an entry for each key; slices of
 * the history; slices of rows that wait for the watermark.
 */
#define OVER_WAITING		(INT64CONST(1) << 61)
/* us: rows wait for the end of such a slice, */
#define OVER_WAITING_SLICE	(INT64CONST(100) * 1000)
/* or, in a backlog, of one that is 10 times as long, and so on */
#define OVER_WAITING_LEVELS	7
#define OVER_IS_WAITING(pane)	((pane) >= OVER_WAITING / 2)

/* the instant at which nobody needs the pane any more; DT_NOEND: never.  The first one knows joins, too */
extern TimestampTz operator_pane_end(const OperatorSpec *spec, int64 pane);
extern TimestampTz over_pane_end(const OperatorSpec *spec, int64 pane);
/* of rows that wait */
extern TimestampTz over_waiting_begin(int64 pane);

/* ---- over.c, over_wait.c ---- */

/* takes output rows: the log of a task */
typedef void (*OverEmit) (const char *bytes, Size len);
extern OverEmit over_emit;
/*
 * Takes a row, as it would have been given out, for which a condition threw; throws again
 * what no row is to blame for.  The transaction that was open is another one afterwards.
 */
typedef void (*OverRefuse) (const char *bytes, ErrorData *edata);
extern OverRefuse over_refuse;

/* the rows of one key group, owned by the caller, that a batch brought */
extern void over_apply_group(OperatorRows *rows, StateArea *area, int group);
/*
 * Rows that wait stand in panes: those that end until the result have been passed
 * by this watermark, and everything before them too.  DT_NOBEGIN: none have.
 */
extern TimestampTz over_horizon(StateArea *area, const OperatorSpec *spec, TimestampTz watermark);
/*
 * Rows of the key groups group % ntasks == task that wait in panes that end until
 * the horizon: they are answered, in order.  Owns and releases groups.
 */
/* "standing": all tasks stand, nobody brings rows meanwhile */
extern void over_release(OperatorSpec *spec, StateArea *area, TimestampTz horizon, int task, int ntasks, const OperatorTransaction *transaction,
						 const OperatorConsumer *consumer, bool standing);

/* ---- join_spec.c, join.c: joins of two topics ---- */

/*
 * A bound of the time between two partners: "shift(left) <= right" or
 * "shift(right) >= left" for the lower one, the upper one accordingly.
 */
typedef struct JoinBound
{
	int			shifted;		/* 0: of the left side, 1: of the right one */
	Interval	by;
	bool		strict;			/* < instead of <= */
} JoinBound;

typedef struct JoinPlan
{
	bool		outer[2];		/* rows of the side that find no partner are given out */
	int			side_column;
	int			ncolumns[2];	/* of the sides, behind each other in the output */
	JoinBound	low;
	JoinBound	high;
} JoinPlan;

extern void join_spec_make(OperatorSpec *spec, const JoinPlan *plan);
extern void join_signature(const OperatorSpec *spec, StringInfo into);
/* for the views: which join, and how long rows are kept */
extern char *join_describe(const OperatorSpec *spec);
/* us: so much time is at most between two partners */
extern int64 join_span(const OperatorSpec *spec);
/* us: so far a row that is given out may lie behind the one with which it comes, by the event time of a side (2: of either) */
extern int64 join_behind(const OperatorSpec *spec, int side);
/* conditions that two rows have to fulfil besides keys and time, as those of over_set_filter() */
extern void join_set_condition(OperatorSpec *spec, List *qual, List *tlist);
extern TimestampTz join_pane_end(const OperatorSpec *spec, int64 pane);
extern const char *join_row_read(const OperatorSpec *spec, const char *from, Datum *values, bool *isnull);
/* the rows of one key group, owned by the caller, that a batch brought */
extern void join_apply_group(OperatorRows *rows, StateArea *area, int group, const OperatorConsumer *consumer);
/* rows of one key group for which no partner can come any more: they waited in these panes */
extern void join_release_group(OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group);

/* ---- asof.c: as-of joins of two topics ---- */

typedef struct AsofPlan
{
	bool		outer;			/* rows of the left side that find no version are given out */
	bool		strict;			/* a version of the same instant is not found */
	int			side_column;
	int			ncolumns[2];	/* of the sides, behind each other in the output */
	List	   *sort_columns;	/* IntList: which of several versions of one instant comes first */
	List	   *sort_ops;		/* OidList */
	List	   *nulls_first;	/* IntList */
} AsofPlan;

/* "columns": expressions of those of the row */
extern void asof_spec_make(OperatorSpec *spec, const AsofPlan *plan, const List *columns);
extern void asof_signature(const OperatorSpec *spec, StringInfo into);
/* for the views: which join, and what it keeps */
extern char *asof_describe(const OperatorSpec *spec);
/* the rows of one key group, owned by the caller, that a batch brought */
extern void asof_apply_group(OperatorRows *rows, StateArea *area, int group);

/* ---- over_scan.c ---- */

/* values of an output row as over.c wrote it */
extern const char *over_row_read(const OperatorSpec *spec, const char *from, Datum *values, bool *isnull);

/* a row in a task's log of output rows; RowPlaces, where it has some, and its values follow */
typedef struct OverRecord
{
	uint32		size;			/* with this header; a multiple of 8 */
	uint32		op;
} OverRecord;

/* the values of a record of an operator that gives out rows; the rows of a batch have numbers, -1: nobody asks for it */
extern void output_row_read(const OperatorSpec *spec, const char *record, int64 number, ItemPointer place, Datum *values, bool *isnull);

/* ---- session.c ---- */

/* In the fixed part of an entry: the first and the last of the rows that it holds. */
typedef struct SessionBounds
{
	TimestampTz first;			/* SESSION_MOVED: the entry went into another one, */
	TimestampTz last;			/* whose number session_pass() knows */
} SessionBounds;

#define SESSION_MOVED		DT_NOEND

/* max_span: the session that came from earlier slices; its aggregates stand in the entry */
typedef struct SessionCarried
{
	TimestampTz first;
	TimestampTz last;
	int64		has;			/* 0: there is none */
} SessionCarried;

static inline SessionBounds *
session_bounds(const OperatorSpec *spec, const StateEntry *entry)
{
	return (SessionBounds *) (STATE_ENTRY_FIXED(entry) + spec->bounds_at);
}

/* slices of the sessions with this gap */
extern void session_scale_init(WindowScale *scale, int64 gap);
/*
 * All tasks stand: entries of closed panes whose sessions go on in a later one are
 * put to the entries there.  What is left are sessions that have ended.  Of the
 * key groups group % ntasks == task.
 */
extern void session_pass(OperatorSpec *spec, StateArea *area, int task, int ntasks, const OperatorTransaction *transaction);

/* ---- session_span.c ---- */

/* keeps a row until its slice is closed; returns the entry, which may have moved */
extern StateEntry *session_keep(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor, StateEntry *entry);
/* the rows of an entry join their sessions; those that are cut become entries of their own.  Resets "cxt" */
extern StateEntry *session_cut(OperatorSpec *spec, StateCursor *cursor, StateEntry *entry, MemoryContext cxt);

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
	bool		output;			/* the blocks hold OverRecords, */
	bool		numbered;		/* whose place column says the number of the row */
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

/* A group on its way out. */
typedef struct FireGroup
{
	FireUnit   *unit;
	const char *fixed;
	const char *key;
	const char *base;
	uint16		meta;
} FireGroup;

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
	/* top: the rows of the present group */
	FireGroup	group_found;
	uint32		top_left;		/* behind the present one */
	int64		top_place;		/* of the present one, from 1 on */
	int64		top_number;		/* its number or rank */
	const char *top_row;
	ItemPointerData place;		/* of the present row, where they are numbered */
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
/* what another slice has of the group is put to the entry; "fresh": it has no originals yet */
extern StateEntry *fire_merge_entry(OperatorSpec *spec, StateCursor *to, StateEntry *entry, bool fresh, const char *fixed, const char *base);
/* a value that another slice has seen; "changed": only of groups that are there */
extern void fire_merge_member(OperatorSpec *spec, StateCursor *to, const char *key, uint16 meta, uint32 hash, bool changed);

/* ---- record.c ---- */

/* what is wrong with a record of the operator that was read from a segment; NULL: nothing */
extern const char *operator_record_wrong(const OperatorSpec *spec, const StateRun *run, const StateRecord *record);

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

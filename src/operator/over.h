/*-------------------------------------------------------------------------
 *
 * over.h
 *	  Window functions: between the files over*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_OVER_H
#define STREAMPROC_OVER_H

#include "postgres.h"

#include "operator/aggregate.h"

/* all entries of the operator have one blob, and nothing else */
#define OVER_BLOB	0
/* DISTINCT ON with state_ttl: the entry of a key has none; here stands when its row was given out */
#define OVER_FIRST_AT	0

/*
 * What is known of a key: the blob of its entry in the eternal pane.  Behind it an
 * OverRare where the functions need it, an OverTail for each frame by time, the
 * states of running aggregates, the first and the last rows (OverBytes each), and
 * states of changing length.  It is written by each checkpoint in whose epoch the key
 * had a row: so nothing stands here that the statement does not need.
 */
typedef struct OverHead
{
	TimestampTz last_at;		/* the largest event time */
	int64		rows;			/* so far */
	int64		pane;			/* history: where the last row stands */
	uint32		chunk;
	uint16		nring;
	uint16		recent;			/* bit n: the slice n before that one has rows of the key */
} OverHead;

#define OVER_RECENT		16		/* slices that it tells of */

typedef struct OverRare
{
	int64		rank;
	int64		dense_rank;
	TimestampTz disorder;		/* arrival: up to here rows stand out of order */
	int64		nfirst;
} OverRare;

/* The first row of a frame in the history. */
typedef struct OverTail
{
	int64		pane;
	TimestampTz at;				/* running: no row from here on is older */
	uint32		chunk;
	uint32		offset:31,
				running:1;		/* states hold the rows from here to the last one */
} OverTail;

/* A row in the history or among the first and last ones: event time, columns that are kept. */
typedef struct OverBytes
{
	TimestampTz at;
	uint32		len;			/* of the columns */
	/* they follow */
} OverBytes;

#define OVER_BYTES_SIZE		(offsetof(OverBytes, len) + sizeof(uint32))

/* A row that is to be answered. */
typedef struct OverRow
{
	uint32		hash;
	uint32		chunk_hash;		/* history_hash() of its key, 0: not known */
	uint16		key_meta;
	const char *key;
	TimestampTz at;
	uint64		nulls;
	const Datum *values;		/* by column; NULL: first_only, it will not be given out */
	int32		part;			/* where it comes from, see OperatorRow; only of rows that waited */
	int64		offset;
} OverRow;

/* A slice of the history, as of one key group. */
typedef struct HistoryPane
{
	int64		id;
	StatePane  *pane;
	bool		open;			/* the cursor is */
	StateCursor cursor;
} HistoryPane;

/* The operator at work in a process: one key group, and in it one key after another. */
typedef struct OverKey
{
	OperatorSpec *spec;
	OverSpec   *over;
	StateArea  *area;
	int			group;
	/* of the key: as in an OperatorRow */
	uint32		hash;
	uint16		key_meta;
	const char *key;

	StateCursor keys;			/* of the group's entries in the eternal pane */
	StringInfoData copy;		/* of the entry's blob, for states of changing length */
	/* what stands in front in the blob, and pointers into it */
	char	   *work;
	OverHead   *head;
	OverRare   *rare;
	OverTail   *tails;
	char	   *fixed;			/* states of running aggregates */
	OverRare	no_rare;		/* where it is not kept */
	StringInfoData rows;		/* OverBytes of the last rows, those that just came among them */
	int		   *ring;			/* where they begin */
	int			nring;
	int			ring_size;
	StringInfoData first;		/* the first rows of all */
	int		   *first_at;
	StringInfoData bytes;		/* for encoding */

	/* panes of the history that are open, ascending; those of the group's owner do not change behind his back */
	HistoryPane *panes;
	int			npanes;
	int			panes_size;
	uint32		panes_changed;	/* as of that, */
	uint32		panes_epochs;	/* and of so many epochs */
	int			last_pane;		/* that was asked for */
	/* the slice of the last row that came */
	int64		slice;
	TimestampTz slice_begin;
	TimestampTz slice_end;
	/* of the key: that of its first chunk, the key of a chunk, and the chunk that was looked at last */
	uint32		first_hash;
	char	   *chunk_key;
	bool		chunk_known;
	uint16		chunk_meta;
	uint32		chunk_number;
	uint32		chunk_hash;
	StateEntry *seen;			/* NULL: none */
	int			seen_pane;
	uint32		seen_number;

	TimestampTz watermark;		/* arrival: what is older than frames and allowed_lateness before it is not kept; event: DT_NOBEGIN */
	MemoryContext cxt;
	MemoryContext row_cxt;		/* reset after each row */
	MemoryContext walk_cxt;		/* after each row that is looked at for it */
	TimestampTz *low;			/* by frame: where it begins for the present instant */
	bool	   *ordered;		/* are its rows in order there? */
	/* rows of this instant that the history does not remember: numbers among the last rows */
	int			apart;
	int			apart_end;
	Datum	   *values;			/* of a row's columns that are kept */
	bool	   *isnull;
	Datum	   *results;		/* of the functions */
	bool	   *result_null;
	StringInfoData out;
} OverKey;

/* ---- over.c ---- */

/* rows whose memory is asked for before the first of them is looked at */
#define OVER_AHEAD		8

/* "far": a row that comes OVER_AHEAD behind this one */
static pg_attribute_always_inline void
over_prefetch(const OverKey *key, uint32 hash, bool far)
{
	if (far)
		state_prefetch_slot(&key->keys, hash);
	else if (!key->over->first_only)
		state_prefetch_blob(&key->keys, hash);
}

/* a key group is owned: what is needed to answer rows of its keys; stays for the next one */
extern OverKey *over_begin(OperatorSpec *spec, StateArea *area, int group, TimestampTz watermark);
/* rows of one key in their order; in the order of event time, peers next to each other */
extern void over_answer(OverKey *key, const OverRow *rows, int n);

/* ---- over_first.c: DISTINCT ON ---- */

/* would the row be given out, were it the first one of its key?  So much is known when it comes */
extern bool first_passes(OperatorSpec *spec, const OperatorRow *row);
/* the condition on the row, whose functions gave these results */
extern bool over_row_passes(OperatorSpec *spec, const Datum *values, uint64 nulls, const Datum *results, const bool *result_null);

/*
 * Rows in the order of key and something else, mostly told by one number: the bits of
 * the hash that differ within a key group, then the other.
 */
#define OVER_ORDER_BITS		39
#define OVER_ORDER_MOST		((UINT64CONST(1) << OVER_ORDER_BITS) - 1)

static inline uint64
over_order(uint32 hash, uint64 other)
{
	return ((uint64) hash << OVER_ORDER_BITS) | Min(other, OVER_ORDER_MOST);
}

/* ---- over_wait.c ---- */

/* is the pane one of rows that wait, for an instant in the range of timestamps? */
extern bool waiting_pane_exists(int64 pane);
extern TimestampTz over_waiting_end(int64 pane);
extern void waiting_find(WaitingPanes *found, StateArea *area, const OperatorSpec *spec);
extern StatePane *waiting_pane_for(WaitingPanes *found, StateArea *area, const OperatorSpec *spec, TimestampTz at, int64 pace);
/* of a spec whose columns and first_kept are known: what rows that wait look like */
extern void waiting_spec_make(OperatorSpec *spec);
/* keeps the rows of the group until the watermark has passed them */
extern void over_wait(OperatorRows *rows, StateArea *area, int group);

/* part of the signature: another one where WaitingRow, OverHead, OverTail or chunks of the history change */
#define OVER_LAYOUT			2

/*
 * A row that waits, in the blob of an entry that has some of one pane (WaitingBlock).
 * Behind the columns stands the key, then those by reference, all MAXALIGNed.  Of a bare
 * row the key stands in place of "nulls": such rows are most of what DISTINCT ON saves.
 */
typedef struct WaitingRow
{
	uint32		size;			/* bytes, multiple of 8 */
	uint32		hash;
	uint16		key_meta;
	uint16		number:15,		/* of the rows of one message */
				bare:1;			/* it will not be given out */
	int32		part;			/* where its message came from */
	int64		offset;
	TimestampTz at;
	uint64		nulls;
	Datum		values[FLEXIBLE_ARRAY_MEMBER];	/* by reference: how far behind the row's begin */
} WaitingRow;

#define WAITING_NUMBERS		0x7fff

static inline char *
waiting_key(const OperatorSpec *spec, WaitingRow *row)
{
	return row->bare ? (char *) &row->nulls : (char *) (row->values + operator_row_values(spec));
}

/* rows begin behind a border of 8: 4 bytes stand before the blob's bytes */
typedef struct WaitingBlock
{
	uint32		nrows;
	char		rows[FLEXIBLE_ARRAY_MEMBER];
} WaitingBlock;

/* ---- asof.c ---- */

typedef struct AsofSpec
{
	bool		outer;			/* rows of the left side that find no version are given out */
	bool		strict;			/* a version of the same instant is not found */
	int			side_column;	/* of the row: 0 or 1 */
	int			first[2];		/* columns of the side */
	int			n[2];
	StringInfoData nulls;		/* those of the versions, all of them null, as they are given out */
	int			nsort;			/* ORDER BY behind the event time */
	int		   *sort_column;
	Oid		   *sortop;
	struct SortSupportData *sort;
} AsofSpec;

typedef struct AsofWork AsofWork;

/* a key group is owned: what is needed to answer rows of its keys */
extern AsofWork *asof_begin(OperatorSpec *spec, StateArea *area, int group);
/* rows of one key that the watermark has passed, in the order of event time */
extern void asof_answer(AsofWork *work, const OverRow *rows, int n);
extern void asof_end(AsofWork *work);

/* the first instant of a frame by time, as of a row at "at" */
extern TimestampTz over_frame_begin(const OverFrame *frame, TimestampTz at);

/* ---- over_history.c ---- */

/* of another key group; the panes are read where they have changed */
extern void history_open(OverKey *key);
/* a barrier: panes were closed */
extern void history_epoch_ended(void);
/* of another key; the hash of its first chunk */
extern void history_begin(OverKey *key, uint32 chunk_hash);
extern uint32 history_hash(OverKey *key, const char *bytes, uint16 key_meta);
/* the key was loaded from a segment: do its tails lead to rows?  Who goes there later does not ask; throws */
extern void history_check_tails(OverKey *key);
/* a row that will be answered soon: chunks that it will look at, "near": not for the first time */
extern void history_prefetch(OverKey *key, uint32 hash, uint32 chunk_hash, TimestampTz at, bool near);
/* of a key that has no row yet: what is left of its life before goes out of open panes */
extern void history_forget(OverKey *key);
/* appends a row (OverBytes with its columns) behind the last one; false: it comes so late that it is not remembered */
extern bool history_append(OverKey *key, TimestampTz at, const char *bytes, uint32 len);
/* the row at the position, which moves behind it; false: there is no more */
extern bool history_next(OverKey *key, OverTail *at, OverBytes *row, const char **columns);
/*
 * Is the position behind the last row of a slice, and do those behind it begin at "low" or later?  Then it
 * moves there, and nothing has to be looked at.
 */
extern bool history_skip(OverKey *key, OverTail *at, TimestampTz low);
/* is what stood there gone? */
extern bool history_lost(OverKey *key, const OverTail *at);

#endif							/* STREAMPROC_OVER_H */

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
 * OverTail for each frame, the states of running aggregates, the first and the
 * last rows (OverBytes each), and states of changing length.
 */
typedef struct OverHead
{
	int64		rows;			/* so far */
	int64		rank;
	int64		dense_rank;
	TimestampTz last_at;		/* the largest event time */
	TimestampTz disorder;		/* arrival: up to here rows stand out of order */
	int64		pane;			/* history: where the last row stands */
	uint32		chunk;
	uint32		nfirst;
	uint32		nring;
	uint32		unused;
} OverHead;

/* The first row of a frame in the history. */
typedef struct OverTail
{
	int64		pane;
	uint32		chunk;
	uint32		offset;
	uint64		running;		/* states hold the rows from here to the last one */
} OverTail;

/* A row in the history or among the first and last ones: event time, columns that are kept. */
typedef struct OverBytes
{
	TimestampTz at;
	uint32		len;			/* of the columns */
	/* they follow */
} OverBytes;

#define OVER_BYTES_SIZE		(offsetof(OverBytes, len) + sizeof(uint32))

/* One key at work. */
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

	StatePane  *eternal;
	StateCursor firsts;			/* first_only: of the group's keys there */
	StringInfoData copy;		/* of the entry's blob */
	OverHead	head;
	OverTail   *tails;
	char	   *fixed;			/* states of running aggregates */
	StringInfoData rows;		/* OverBytes of the last rows, those that just came among them */
	int		   *ring;			/* where they begin */
	int			nring;
	int			ring_size;
	StringInfoData first;		/* the first rows of all */
	int		   *first_at;
	StringInfoData bytes;		/* for encoding */

	/* panes of the history that are open, ascending; those of the group's owner do not change behind his back */
	StatePane **panes;
	int			npanes;
	StateCursor cursor;			/* of the chunk that was looked at last */
	StatePane  *cursor_pane;
	bool		cursor_open;

	TimestampTz watermark;		/* arrival: what is older than frames before it is not kept; event: DT_NOBEGIN */
	MemoryContext row_cxt;		/* reset after each row */
	MemoryContext walk_cxt;		/* after each row that is looked at for it */
	TimestampTz *low;			/* by frame: where it begins for the present instant */
	bool	   *ordered;		/* are its rows in order there? */
	Datum	   *values;			/* of a row's columns that are kept */
	bool	   *isnull;
	Datum	   *results;		/* of the functions */
	bool	   *result_null;
	StringInfoData out;
} OverKey;

/* ---- over.c ---- */

/* rows whose memory is asked for before the first of them is looked at */
#define OVER_AHEAD		8

static inline void
over_prefetch(const OverKey *key, const OperatorRow *row)
{
	if (key->over->first_only)
		state_prefetch_slot(&key->firsts, row->hash);
}

/* a key group is owned: what is needed to answer rows of its keys */
extern OverKey *over_begin(OperatorSpec *spec, StateArea *area, int group, TimestampTz watermark);
/* rows of one key in their order; in the order of event time, peers next to each other */
extern void over_answer(OverKey *key, OperatorRow **rows, int n);
extern void over_end(OverKey *key);

/* ---- over_wait.c ---- */

/* Panes of rows that wait, as of the begin of a batch: none of them is closed before its end. */
typedef struct WaitingPanes
{
	StatePane **panes;
	int			n;
} WaitingPanes;

extern TimestampTz over_waiting_end(int64 pane);
extern void waiting_find(WaitingPanes *found, StateArea *area, const OperatorSpec *spec);
extern StatePane *waiting_pane_for(WaitingPanes *found, StateArea *area, const OperatorSpec *spec, TimestampTz at, int64 pace);
/* keeps a row until the watermark has passed it */
extern void over_wait(OperatorRows *rows, StateArea *area, int group);

/* ---- asof.c ---- */

typedef struct AsofWork AsofWork;

/* a key group is owned: what is needed to answer rows of its keys */
extern AsofWork *asof_begin(OperatorSpec *spec, StateArea *area, int group);
/* rows of one key that the watermark has passed, in the order of event time */
extern void asof_answer(AsofWork *work, OperatorRow **rows, int n);
extern void asof_end(AsofWork *work);

/* ---- over_history.c ---- */

extern void history_open(OverKey *key);
/* appends a row behind the last one */
extern void history_append(OverKey *key, TimestampTz at, const char *bytes, uint32 len);
/* the row at the position, which moves behind it; false: there is no more */
extern bool history_next(OverKey *key, OverTail *at, OverBytes *row, const char **columns);
/* is what stood there gone? */
extern bool history_lost(const OverKey *key, const OverTail *at);

#endif							/* STREAMPROC_OVER_H */

/*-------------------------------------------------------------------------
 *
 * join.h
 *	  Joins of topics: between the files join*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_JOIN_H
#define STREAMPROC_JOIN_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "operator/over.h"

typedef struct JoinSpec
{
	bool		outer[2];		/* rows of the side that find no partner are given out */
	int			side_column;	/* of the row: 0 or 1 */
	int			first[2];		/* columns of the side */
	int			n[2];
	StringInfoData nulls[2];	/* the same, all of them null, as they are given out */
	int			place_size;		/* bytes of a RowPlace in front of them; 0: there is none */
	JoinBound	low;
	JoinBound	high;
	/* right's time less left's, inclusive; "calendar": at least and at most, the bounds say exactly */
	int64		low_us;
	int64		high_us;
	bool		calendar;
	int64		after[2];		/* us: so long after a row of the side its partners may come */
	int64		step;			/* us: slices in which rows are kept */
	ExprState  *condition;		/* on a pair; NULL: none */
} JoinSpec;

/* rows are kept with their places where these are given on */
extern void join_keep_places(OperatorSpec *spec);

/* Rows of one side stand in slices of event time, in panes of their own. */
#define JOIN_PANE(slice, side)	((slice) * 2 + (side))
#define JOIN_PANE_SIDE(pane)	((int) ((pane) & 1))
#define JOIN_PANE_SLICE(pane)	((pane) >> 1)

/* A row as it is kept; its place, where that is given on (join_keep_places()), and its columns follow. */
typedef struct JoinRow
{
	TimestampTz at;
	uint32		len;			/* of the columns | JOIN_MATCHED */
} JoinRow;

#define JOIN_ROW_SIZE	(offsetof(JoinRow, len) + sizeof(uint32))
#define JOIN_MATCHED	0x80000000u
#define JOIN_LEN(row)	((row).len & ~JOIN_MATCHED)

/* Where a row stands that waits. */
typedef struct JoinNote
{
	int64		pane;
	uint32		chunk;
	uint32		offset;
} JoinNote;

#endif							/* STREAMPROC_JOIN_H */

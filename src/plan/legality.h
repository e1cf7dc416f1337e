/*-------------------------------------------------------------------------
 *
 * legality.h
 *	  Where topics stand in a Query: between legality.c and keyed.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_LEGALITY_H
#define STREAMPROC_LEGALITY_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* does the FROM item read a topic?  "outer" are the queries around, innermost first */
extern bool legality_rte_reads_topic(RangeTblEntry *rte, Query *query, List *outer);
/* the WITH query that an RTE_CTE names, with the query that it stands in */
extern CommonTableExpr *legality_find_cte(RangeTblEntry *rte, Query *query, List *outer, Query **home, List **home_outer);
/* does the query put rows into groups? */
extern bool legality_is_grouped(Query *query);

/* the call of tumble(), hop() or cumulate() whose column is grouped by, NULL: it is no window */
extern FuncExpr *legality_window_of_group(Node *node, Query *query);


/*
 * A query that groups what another grouped: groups of a topic's windows.  Where it
 * groups by the windows themselves, all it needs comes in one epoch.  Where it
 * groups by tumble() over a border of them, the windows below are given out when the one above ends.
 */
extern bool legality_is_over_groups(Query *query, List *outer);
/* that tumble(), NULL: by the windows themselves; *on_end: over window_end */
extern FuncExpr *legality_window_over(Query *query, List *outer, bool *by_windows, bool *on_end);

/* ---- conflict.c ---- */

/* What a column is made of. */
typedef struct Origin
{
	bool		constant;
	Query	   *grouped;		/* the query that groups, NULL: it is something else */
	TargetEntry *tle;			/* its column */
} Origin;

extern Origin legality_origin(Node *node, Query *query, List *outer);

extern const char *conflict_finds_group(Query *insert);

#endif							/* STREAMPROC_LEGALITY_H */

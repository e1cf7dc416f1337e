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

/* ---- conflict.c ---- */

extern const char *conflict_finds_group(Query *insert);

#endif							/* STREAMPROC_LEGALITY_H */

/*-------------------------------------------------------------------------
 *
 * legality.h
 *	  Where topics and groups stand in a Query: between legality*.c, conflict.c
 *	  and keyed*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_LEGALITY_H
#define STREAMPROC_LEGALITY_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "plan/plan.h"

/* What a check has found so far; its errors show their place. */
typedef struct CheckContext
{
	const char *text;			/* NULL: positions are not ours to show */
	Oid			view;			/* whose text is walked: locations are places in it, not in ours */
	StatementInfo *info;
	List	   *sinks;			/* of all statements; known when reads are checked */
} CheckContext;

/* the queries around one that stands in "query"; lcons() alone would change "outer", which others hold */
static inline List *
legality_around(Query *query, List *outer)
{
	return lcons(query, list_copy(outer));
}

/* throws feature_not_supported; location: in the text of the pipeline, -1: none */
extern void legality_refuse(CheckContext *cxt, int location, const char *hint, const char *fmt,...) pg_attribute_printf(4, 5) pg_attribute_noreturn();
extern bool legality_is_topic(Oid relid);
extern bool legality_first_aggregate(Node *node, int *location);
extern int	legality_clause_location(Query *query, List *clauses);
/* is this entry of the range table in FROM? */
extern bool legality_in_from(Query *query, int varno);
/* does the FROM item read a topic?  "outer" are the queries around, innermost first */
extern bool legality_rte_reads_topic(RangeTblEntry *rte, Query *query, List *outer);
/* the WITH query that an RTE_CTE names, with the query that it stands in */
extern CommonTableExpr *legality_find_cte(RangeTblEntry *rte, Query *query, List *outer, Query **home, List **home_outer);
/* the query that a FROM item stands for, and those around it; NULL: it is none */
extern Query *legality_query_below(RangeTblEntry *rte, Query *query, List *outer, List **around);
/* is it a query that puts rows of a topic into groups, or one over such groups? */
extern bool legality_has_groups(RangeTblEntry *rte, Query *query, List *outer);
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
/* does it filter them by what they have come to, as HAVING does? */
extern bool legality_filters_groups(Query *query, List *outer);
/* that tumble(), NULL: by the windows themselves; *on_end: over window_end */
extern FuncExpr *legality_window_over(Query *query, List *outer, bool *by_windows, bool *on_end);


/* ---- legality_group.c ---- */

/* a query that puts rows of the topic into groups */
extern void legality_check_groups(Query *query, CheckContext *cxt, List *outer);

/* is it the event time of the query's topic, unmodified? */
extern bool legality_is_event_time(Node *node, Query *query, List *outer);

/* ---- legality_over.c ---- */

/* a query with window functions over the topic */
extern void legality_check_over(Query *query, CheckContext *cxt, List *outer, int location);
/* SELECT DISTINCT ON (keys) ... ORDER BY keys, event time: the first row of each key */
extern void legality_check_distinct_on(Query *query, CheckContext *cxt, List *outer);

/* no groups below, and nothing of the queries around */
extern void legality_check_below(Query *query, CheckContext *cxt, List *outer, int location);
/* ascending, by event time */
extern void legality_check_order(SortGroupClause *order, Query *query, CheckContext *cxt, List *outer, int location);

/* ---- legality_session.c ---- */

/* session() in the query's select list, NULL: none */
extern WindowFunc *legality_session(Query *query);
/* at, gap, max_span */
extern List *legality_session_arguments(WindowFunc *session);
extern TargetEntry *legality_session_column(Query *query);
/* is a query with session() in FROM? */
extern bool legality_groups_sessions(Query *query, List *outer);
extern void legality_check_session(Query *query, CheckContext *cxt, List *outer);
/* a FROM item of the query: if it has sessions, they must be what the query groups by */
extern void legality_check_session_use(RangeTblEntry *rte, Query *query, CheckContext *cxt, List *outer);

/* ---- legality_sink.c ---- */

/* "named" is the relation that the text names: the same, or the partitioned table above it */
extern void legality_check_sink(Oid relid, Oid named, CheckContext *cxt);
/* a message that makes another one of the same topic makes messages without end; infos: of StatementInfo */
extern void legality_check_loops(List *infos, CheckContext *cxt);

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

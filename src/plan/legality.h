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

/* The queries around those in "query"; "outer" stays as it is, which lcons() would change. */
static inline List *
legality_around(Query *query, List *outer)
{
	return list_concat(list_make1(query), outer);
}

/* throws feature_not_supported; location: in the text of the pipeline, -1: none */
extern void legality_refuse(CheckContext *cxt, int location, const char *hint, const char *fmt,...) pg_attribute_printf(4, 5) pg_attribute_noreturn();
extern bool legality_is_topic(Oid relid);
extern bool legality_first_aggregate(Node *node, int *location);
extern int	legality_clause_location(Query *query, List *clauses);
/* where the query stands, as near as the tree tells */
extern int	legality_query_location(Query *query);
/* is this entry of the range table in FROM? */
extern bool legality_in_from(Query *query, int varno);
/* does the FROM item read a topic?  "outer" are the queries around, innermost first */
extern bool legality_rte_reads_topic(RangeTblEntry *rte, Query *query, List *outer);
/* the WITH query that an RTE_CTE names, with the query that it stands in */
extern CommonTableExpr *legality_find_cte(RangeTblEntry *rte, Query *query, List *outer, Query **home, List **home_outer);
/* the query that a FROM item stands for, and those around it; NULL: it is none */
extern Query *legality_query_below(RangeTblEntry *rte, Query *query, List *outer, List **around);
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
/* do its rows come from window functions, DISTINCT ON or a join of topics, of its own or below? */
extern bool legality_answers(Query *query, List *outer);
/* a query over rows that window functions, DISTINCT ON or a join of topics (in its own FROM too) have answered */
extern bool legality_is_over_answers(Query *query, List *outer);
/* such a query: they must come from one operator */
extern void legality_check_union(Query *query, CheckContext *cxt, List *outer, int location);
/* ... and are put into groups */
extern void legality_check_chain(Query *query, CheckContext *cxt, List *outer, int location);
/* what a query groups by; or, of the first rows, their keys */
extern List *legality_group_clauses(Query *grouped);
extern bool legality_in_clauses(const TargetEntry *tle, List *clauses);
/* does it filter them by what they have come to, as HAVING does? */
extern bool legality_filters_groups(Query *query, List *outer);
/* do the clauses (of PARTITION BY, DISTINCT ON) hold a border of these windows? */
extern bool legality_within_windows(Query *query, List *outer, List *clauses);
/* that tumble(), NULL: by the windows themselves; *on_end: over window_end */
extern FuncExpr *legality_window_over(Query *query, List *outer, bool *by_windows, bool *on_end);


/* ---- legality_group.c ---- */

/* a query that puts rows of the topic into groups */
extern void legality_check_groups(Query *query, CheckContext *cxt, List *outer);

/* does the FROM item stand for groups? */
extern bool legality_rte_has_groups(RangeTblEntry *rte, Query *query, List *outer);
/* ... or for rows of window functions, DISTINCT ON, session() or a join of topics too? */
extern bool legality_rte_has_operator(RangeTblEntry *rte, Query *query, List *outer);
/* is it a border of a window over event time?  NULL: of none */
extern FuncExpr *legality_check_window(Node *expr, Query *query, CheckContext *cxt, List *outer, int location);

/* is it the event time of the query's topic, unmodified? */
extern bool legality_is_event_time(Node *node, Query *query, List *outer);
/* ... and there in all rows, also of an outer join of topics? */
extern bool legality_is_known_time(Node *node, Query *query, List *outer);

/* ---- legality_over.c ---- */

/* a query with window functions over the topic */
extern void legality_check_over(Query *query, CheckContext *cxt, List *outer, int location);
/* SELECT DISTINCT ON (keys) ... ORDER BY keys, event time: the first row of each key */
extern void legality_check_distinct_on(Query *query, CheckContext *cxt, List *outer);

/* one operator below at most, and nothing of the queries around */
extern void legality_check_below(Query *query, CheckContext *cxt, List *outer, int location);
extern void legality_check_correlated(Query *query, CheckContext *cxt, int location);
/* ascending, by event time */
extern void legality_check_order(SortGroupClause *order, Query *query, CheckContext *cxt, List *outer, int location);

/* ---- legality_join.c ---- */

/* whose columns an expression uses: of side 0 or 1, or */
#define JOIN_SIDE_NONE	(-1)
#define JOIN_SIDE_BOTH	2
#define JOIN_SIDE_OTHER 3			/* of what is joined besides, too */

/* A join of two topics in FROM, by an interval of time or as of it; RIGHT JOIN has its sides changed. */
typedef struct StreamJoin
{
	JoinType	type;			/* JOIN_INNER, JOIN_LEFT, JOIN_FULL */
	JoinExpr   *expr;			/* NULL: two items of FROM */
	int			location;
	Node	   *item[2];		/* of the join tree */
	Relids		rels[2];		/* without joins */
	Relids		all_rels[2];	/* with them */
	List	   *keys[2];		/* expressions of one type each */
	Var		   *at[2];			/* event times */
	JoinBound	low;
	JoinBound	high;
	List	   *own[2];			/* conditions on rows of one side alone */
	List	   *pairs;			/* on two rows; as-of: ORDER BY behind the event time, columns of side 1 */
	List	   *above;			/* what stays of WHERE */
	bool		asof;			/* each row with the last version of the other side, see legality_asof.c */
	bool		strict;			/* as-of: not with one of the same instant */
	List	   *sort_ops;		/* as-of: OidList, of ORDER BY */
	List	   *nulls_first;	/* IntList */
} StreamJoin;

extern bool legality_joins_topics(Query *query, List *outer);
/* the side of the query's outer join of topics without whose row the FROM item is null: 1 or 2; 0: it never is */
extern int	legality_missing_side(Query *query, List *outer, int varno);
/* NULL: there is none; throws where it cannot be computed */
extern StreamJoin *legality_topic_join(Query *query, List *outer, CheckContext *cxt);
extern void legality_check_join(Query *query, CheckContext *cxt, List *outer);
/* the first join of two topics, not looked at yet; NULL: there is none */
extern StreamJoin *legality_find_join(Query *query, List *outer, bool *several);
extern void legality_join_rels(StreamJoin *join);
/* no operator below a side, no LATERAL from one to the other */
extern void legality_check_sides(StreamJoin *join, Query *query, List *outer, CheckContext *cxt);
/* JOIN_SIDE_*, 0 or 1 */
extern int	legality_join_side(const StreamJoin *join, Node *node);
/* an equality of the sides becomes one of the keys; false: it is none */
extern bool legality_take_key(StreamJoin *join, Node *node, CheckContext *cxt);
/* conditions of the query, one by one, in terms of what is joined */
extern List *legality_conjuncts(Query *query, Node *quals);

/* ---- legality_asof.c ---- */

/* is one of two topics in FROM a LATERAL subquery with LIMIT? */
extern bool legality_is_asof(Query *query, List *outer);
/* is the FROM item such a subquery? */
extern bool legality_is_versions(RangeTblEntry *rte, Query *query, List *outer);
/* such a subquery, itself checked, without the order that makes it one: for all other checks */
extern Query *legality_versions_alone(RangeTblEntry *rte, Query *query, CheckContext *cxt, List *outer);
/* throws where it cannot be computed; the subquery in the query is exchanged for one of the versions alone */
extern StreamJoin *legality_asof_join(Query *query, List *outer, CheckContext *cxt);
extern void legality_check_asof(Query *query, CheckContext *cxt, List *outer);

/* ---- legality_top.c ---- */

/* a query for the first rows of each key, in another order than that of event time: they are groups by these keys */
extern bool legality_is_top(Query *query, List *outer);
/* of SortGroupClause */
extern List *legality_top_keys(Query *query);
extern List *legality_top_order(Query *query);
/* how many of each key; -1: all */
extern int64 legality_top_limit(Query *query, List *outer);
/* TOP_ROW_NUMBER and so on; -1: it is another function */
extern int	legality_ranking(const WindowFunc *function);
/* is it the number of the row? */
extern bool legality_is_number(Query *query, TargetEntry *tle);
extern void legality_check_top(Query *query, CheckContext *cxt, List *outer, int location);

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
	List	   *outer;			/* the queries around that one */
	TargetEntry *tle;			/* its column */
	/* where it is neither: what it is made of, in which query */
	Node	   *expr;
	Query	   *home;
	List	   *home_outer;
} Origin;

extern Origin legality_origin(Node *node, Query *query, List *outer);

extern const char *conflict_finds_group(Query *insert);

#endif							/* STREAMPROC_LEGALITY_H */

/*-------------------------------------------------------------------------
 *
 * legality_group.c
 *	  Which groups of a topic's rows a pipeline can keep, judged on the Query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "plan/parse.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"

static bool column_is_event_time(Query *query, AttrNumber column, List *outer);

/* The same of a join of topics that was exchanged for the union of its sides: one of them has the column, the other one nulls. */
static bool
prepared_is_event_time(Query *sides, Var *var)
{
	bool		found = false;
	ListCell   *lc;

	foreach(lc, sides->rtable)
	{
		Query	   *side = lfirst_node(RangeTblEntry, lc)->subquery;

		if (IsA(list_nth_node(TargetEntry, side->targetList, var->varattno - 1)->expr, Const))
			continue;
		if (!column_is_event_time(side, var->varattno, NIL))
			return false;
		found = true;
	}
	return found;
}

/* Is this column of the query's result the event time of its topic, unmodified? */
static bool
column_is_event_time(Query *query, AttrNumber column, List *outer)
{
	TargetEntry *tle = get_tle_by_resno(query->targetList, column);
	ListCell   *lc;

	check_stack_depth();
	if (join_is_prepared(query))
		return tle != NULL && prepared_is_event_time(linitial_node(RangeTblEntry, query->rtable)->subquery, (Var *) tle->expr);
	if (query->setOperations == NULL)
		return tle != NULL && legality_is_known_time((Node *) tle->expr, query, outer);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && !column_is_event_time(rte->subquery, column, legality_around(query, outer)))
			return false;
	}
	return true;
}

bool
legality_is_event_time(Node *node, Query *query, List *outer)
{
	Var		   *var = (Var *) node;
	RangeTblEntry *rte;
	Query	   *home;
	List	   *home_outer;
	CommonTableExpr *cte;

	if (!IsA(node, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return false;
	rte = rt_fetch(var->varno, query->rtable);
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			if (rte->relkind == RELKIND_VIEW)
				return column_is_event_time(view_query(rte->relid), var->varattno, NIL);
			return legality_is_topic(rte->relid) && stream_source_load(rte->relid)->event_time == var->varattno;
		case RTE_SUBQUERY:
			/* a version is of another time than the row that it is found for */
			return !legality_is_versions(rte, query, outer) && column_is_event_time(rte->subquery, var->varattno, legality_around(query, outer));
		case RTE_JOIN:
			return legality_is_event_time(list_nth(rte->joinaliasvars, var->varattno - 1), query, outer);
		case RTE_CTE:
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			return cte != NULL && column_is_event_time(castNode(Query, cte->ctequery), var->varattno, legality_around(home, home_outer));
		default:
			return false;
	}
}

/* Sides of the query's join of topics where one of which has no row the event time is null, as bits; -1: it is none. */
static int
missing_with(Node *node, Query *query, List *outer)
{
	Var		   *var = (Var *) node;

	if (!legality_is_event_time(node, query, outer))
		return -1;
	while (rt_fetch(var->varno, query->rtable)->rtekind == RTE_JOIN)
		var = list_nth(rt_fetch(var->varno, query->rtable)->joinaliasvars, var->varattno - 1);
	return legality_missing_side(query, outer, var->varno);
}

/*
 * Is it event time, and there in all rows?  Of an outer join of topics it is not, where the
 * other side's row is alone; but coalesce() of both sides' is.
 */
bool
legality_is_known_time(Node *node, Query *query, List *outer)
{
	int			missing = -1;
	ListCell   *lc;

	while (IsA(node, Var) && ((Var *) node)->varlevelsup == 0 && rt_fetch(((Var *) node)->varno, query->rtable)->rtekind == RTE_JOIN &&
		   ((Var *) node)->varattno > 0)
		node = list_nth(rt_fetch(((Var *) node)->varno, query->rtable)->joinaliasvars, ((Var *) node)->varattno - 1);
	if (!IsA(node, CoalesceExpr))
		return missing_with(node, query, outer) == 0;
	foreach(lc, ((CoalesceExpr *) node)->args)
	{
		int			one = missing_with(lfirst(lc), query, outer);

		if (one < 0)
			return false;
		/* null only if all are; no row of a join has neither side */
		missing = missing < 0 ? one : missing | one;
		if (one == 0)
			return true;
	}
	return missing == 3;
}

static FuncExpr *
find_window(Node *node, Query *query, List *outer, Query **home, List **home_outer)
{
	RangeTblEntry *rte;
	FuncExpr   *call = (FuncExpr *) node;

	*home = query;
	*home_outer = outer;
	if (IsA(node, FuncExpr) && window_function(call->funcid) >= FUNCTION_TUMBLE_START)
		return call;
	if (!IsA(node, Var) || ((Var *) node)->varlevelsup != 0)
		return NULL;
	rte = rt_fetch(((Var *) node)->varno, query->rtable);
	/* given up by a subquery, which the planner pulls up */
	if (rte->rtekind == RTE_SUBQUERY && rte->subquery->setOperations == NULL && !legality_is_grouped(rte->subquery))
	{
		TargetEntry *tle = get_tle_by_resno(rte->subquery->targetList, ((Var *) node)->varattno);

		return tle != NULL ? find_window((Node *) tle->expr, rte->subquery, legality_around(query, outer), home, home_outer) : NULL;
	}
	if (rte->rtekind != RTE_FUNCTION || list_length(rte->functions) != 1 || rte->funcordinality)
		return NULL;
	call = (FuncExpr *) ((RangeTblFunction *) linitial(rte->functions))->funcexpr;
	return IsA(call, FuncExpr) && window_function(call->funcid) != WINDOW_FUNCTION_NONE ? call : NULL;
}

FuncExpr *
legality_window_of_group(Node *node, Query *query)
{
	Query	   *home;
	List	   *home_outer;

	return find_window(node, query, NIL, &home, &home_outer);
}

/* The range table of an expanded view also has the view itself, read by nobody. */
bool
legality_in_from(Query *query, int varno)
{
	if (query->setOperations != NULL)
		return rt_fetch(varno, query->rtable)->rtekind == RTE_SUBQUERY;
	return bms_is_member(varno, get_relids_in_jointree((Node *) query->jointree, false));
}

Query *
legality_query_below(RangeTblEntry *rte, Query *query, List *outer, List **around)
{
	Query	   *home;
	List	   *home_outer;
	CommonTableExpr *cte;

	switch (rte->rtekind)
	{
		case RTE_RELATION:
			*around = NIL;
			return rte->relkind == RELKIND_VIEW ? view_query(rte->relid) : NULL;
		case RTE_SUBQUERY:
			*around = legality_around(query, outer);
			return rte->subquery;
		case RTE_CTE:
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			if (cte == NULL)
				return NULL;
			*around = legality_around(home, home_outer);
			return castNode(Query, cte->ctequery);
		default:
			return NULL;
	}
}

/* Is there a query below, in FROM, that puts rows of a topic into groups? */
bool
legality_rte_has_groups(RangeTblEntry *rte, Query *query, List *outer)
{
	List	   *around;
	Query	   *sub = legality_rte_reads_topic(rte, query, outer) ? legality_query_below(rte, query, outer, &around) : NULL;

	return sub != NULL && (legality_is_grouped(sub) || legality_is_top(sub, around) || legality_is_over_groups(sub, around));
}

bool
legality_answers(Query *query, List *outer)
{
	if (legality_is_grouped(query) || legality_is_over_groups(query, outer) || legality_is_top(query, outer))
		return false;
	/* sessions are windows of the groups above */
	return (query->hasWindowFuncs && legality_session(query) == NULL) || query->hasDistinctOn || join_is_prepared(query) ||
		legality_is_over_answers(query, outer);
}

bool
legality_is_over_answers(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	if (legality_joins_topics(query, outer))
		return true;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		List	   *around;
		Query	   *sub;

		if (!legality_in_from(query, foreach_current_index(lc) + 1) || !legality_rte_reads_topic(rte, query, outer))
			continue;
		sub = legality_query_below(rte, query, outer, &around);
		if (sub != NULL && legality_answers(sub, around))
			return true;
	}
	return false;
}

bool
legality_rte_has_operator(RangeTblEntry *rte, Query *query, List *outer)
{
	List	   *around;
	Query	   *sub = legality_rte_reads_topic(rte, query, outer) ? legality_query_below(rte, query, outer, &around) : NULL;

	return sub != NULL && (legality_rte_has_groups(rte, query, outer) || legality_answers(sub, around) || legality_session(sub) != NULL ||
						   legality_groups_sessions(sub, around));
}

/* Is there a UNION ALL between the query and the window functions, or joins of topics, below it? */
static bool
answers_in_union(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	if (!legality_is_over_answers(query, outer))
		return false;
	if (query->setOperations != NULL)
		return true;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		List	   *around;
		Query	   *sub;

		if (!legality_in_from(query, foreach_current_index(lc) + 1) || !legality_rte_reads_topic(rte, query, outer))
			continue;
		sub = legality_query_below(rte, query, outer, &around);
		if (sub != NULL && answers_in_union(sub, around))
			return true;
	}
	return false;
}

void
legality_check_union(Query *query, CheckContext *cxt, List *outer, int location)
{
	if (answers_in_union(query, outer))
		legality_refuse(cxt, location, "Write one statement for each branch.",
						"%s over a UNION ALL of window functions, DISTINCT ON or joins of topics is not supported",
						legality_is_grouped(query) ? "GROUP BY" : legality_session(query) != NULL ? "session()" :
						legality_is_top(query, outer) ? "row_number() or DISTINCT ON" : "window functions or DISTINCT ON");
}

void
legality_check_chain(Query *query, CheckContext *cxt, List *outer, int location)
{
	legality_check_union(query, cxt, outer, location);
	cxt->info->chained = true;
}

bool
legality_is_over_groups(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
		if (legality_in_from(query, foreach_current_index(lc) + 1) && legality_rte_has_groups(lfirst(lc), query, outer))
			return true;
	return false;
}

/* Does the expression use what the groups below have come to, not only what they are grouped by? */
static bool
uses_results(Node *node, Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, pull_vars_of_level(node, 0))
	{
		Var		   *var = lfirst(lc);
		RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);
		Query	   *sub;
		List	   *around;
		TargetEntry *tle;

		if (rte->rtekind == RTE_JOIN && var->varattno > 0)
		{
			if (uses_results(list_nth(rte->joinaliasvars, var->varattno - 1), query, outer))
				return true;
			continue;
		}
		if (!legality_rte_has_groups(rte, query, outer))
			continue;
		sub = legality_query_below(rte, query, outer, &around);
		tle = var->varattno > 0 ? get_tle_by_resno(sub->targetList, var->varattno) : NULL;
		if (tle == NULL)
			return true;
		/* its place among the first rows is always taken by some row */
		if (legality_is_top(sub, around))
		{
			if (!legality_is_number(sub, tle) && !legality_in_clauses(tle, legality_top_keys(sub)))
				return true;
			continue;
		}
		if (legality_is_grouped(sub) ? contain_aggs_of_level((Node *) tle->expr, 0) : uses_results((Node *) tle->expr, sub, around))
			return true;
	}
	return false;
}

static bool
filter_uses_results(Node *node, Query *query, List *outer)
{
	ListCell   *lc;

	if (node == NULL || IsA(node, RangeTblRef))
		return false;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		/* an outer join that finds nothing keeps the row */
		return filter_uses_results(join->larg, query, outer) || filter_uses_results(join->rarg, query, outer) ||
			(join->jointype == JOIN_INNER && uses_results(join->quals, query, outer));
	}
	foreach(lc, castNode(FromExpr, node)->fromlist)
		if (filter_uses_results(lfirst(lc), query, outer))
			return true;
	return uses_results(((FromExpr *) node)->quals, query, outer);
}

bool
legality_filters_groups(Query *query, List *outer)
{
	return legality_is_over_groups(query, outer) && filter_uses_results((Node *) query->jointree, query, outer);
}

List *
legality_group_clauses(Query *grouped)
{
	return legality_is_grouped(grouped) ? grouped->groupClause : legality_top_keys(grouped);
}

bool
legality_in_clauses(const TargetEntry *tle, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
		if (tle->ressortgroupref != 0 && lfirst_node(SortGroupClause, lc)->tleSortGroupRef == tle->ressortgroupref)
			return true;
	return false;
}

/* Does what the query groups by tell its windows apart: one of their borders? */
static bool
is_border(Node *expr, Query *grouped, bool *on_end)
{
	FuncExpr   *call = legality_window_of_group(expr, grouped);
	WindowFunction function;

	if (call == NULL)
		return false;
	function = window_function(call->funcid);
	*on_end = IsA(expr, Var) ? ((Var *) expr)->varattno == 2 : function == FUNCTION_TUMBLE_END;
	/* windows of cumulate() that begin together end at different times */
	return *on_end || (function != FUNCTION_CUMULATE && function != FUNCTION_CUMULATE_START);
}

/* Is it a border of the windows that the query below groups by? */
static bool
is_border_below(Node *node, Query *query, List *outer, bool *on_end)
{
	Origin		origin = legality_origin(node, query, outer);

	return origin.grouped != NULL && legality_in_clauses(origin.tle, legality_group_clauses(origin.grouped)) && is_border((Node *) origin.tle->expr, origin.grouped, on_end);
}

bool
legality_within_windows(Query *query, List *outer, List *clauses)
{
	ListCell   *lc,
			   *lg;

	foreach(lc, clauses)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);
		bool		end;

		if (is_border_below(expr, query, outer, &end))
			return true;
		foreach(lg, query->groupClause)
			if (equal(get_sortgroupclause_expr(lfirst(lg), query->targetList), expr) && is_border(expr, query, &end))
				return true;
	}
	return false;
}

FuncExpr *
legality_window_over(Query *query, List *outer, bool *by_windows, bool *on_end)
{
	FuncExpr   *over = NULL;
	ListCell   *lc;

	*by_windows = false;
	if (query->groupingSets != NIL)
		return NULL;
	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);
		FuncExpr   *call = legality_window_of_group(expr, query);
		bool		end;

		if (is_border_below(expr, query, outer, &end))
			*by_windows = true;
		if (call == NULL || !is_border_below(linitial(window_arguments(call)), query, outer, &end))
			continue;
		if (window_function(call->funcid) != FUNCTION_TUMBLE)
			return NULL;
		over = call;
		*on_end = end;
	}
	return *by_windows ? NULL : over;
}

/* Size, zone and origin are part of the operator. */
static void
check_window_constants(FuncExpr *call, CheckContext *cxt, int location)
{
	List	   *args = window_arguments(call);
	ListCell   *lc;

	for_each_from(lc, args, 1)
	{
		Node	   *value = eval_const_expressions(NULL, copyObject(lfirst(lc)));

		if (!IsA(value, Const))
			legality_refuse(cxt, exprLocation(lfirst(lc)) >= 0 ? exprLocation(lfirst(lc)) : location,
							"Write it as a literal, such as '1 min'.",
							"an argument of %s() that is not a constant is not supported in a pipeline", get_func_name(call->funcid));
	}
}

FuncExpr *
legality_check_window(Node *expr, Query *query, CheckContext *cxt, List *outer, int location)
{
	Query	   *home;
	List	   *home_outer;
	FuncExpr   *call = find_window(expr, query, outer, &home, &home_outer);
	Node	   *at;

	if (call == NULL)
		return NULL;
	check_window_constants(call, cxt, location);
	at = linitial(window_arguments(call));
	if (!legality_is_known_time(at, home, home_outer))
		legality_refuse(cxt, exprLocation(at) >= 0 ? exprLocation(at) : location,
			   legality_is_over_answers(home, home_outer) ?
			   "Give it the column of the foreign table that option event_time names, as it is; of an outer join of topics that of the side whose rows are all given out, or coalesce() of both." :
			   "Give it the column of the foreign table that option event_time names, as it is.",
			   "%s() over something else than the event time of the topic is not supported", get_func_name(call->funcid));
	return call;
}

/* A query that puts rows of the topic into groups. */
void
legality_check_groups(Query *query, CheckContext *cxt, List *outer)
{
	FuncExpr   *window = NULL;
	bool		sessions = legality_groups_sessions(query, outer);
	ListCell   *lc;
	int			location = legality_clause_location(query, query->groupClause);

	if (query->hasAggs && query->groupClause == NIL)
		(void) query_tree_walker(query, legality_first_aggregate, &location,
								 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	/* what hangs on a primary key may change while the group is kept */
	if (query->constraintDeps != NIL)
		legality_refuse(cxt, location, "Write all columns of the select list into GROUP BY.",
						"a column that is neither aggregated nor grouped by is not supported, also where a primary key determines it");
	if (contain_vars_of_level((Node *) query, 1))
		legality_refuse(cxt, location, "Join the topic with the table in FROM, below the GROUP BY.",
						"groups of a topic that depend on the query around them are not supported");
	if (legality_is_over_groups(query, outer))
	{
		bool		by_windows;
		bool		on_end;

		if (legality_window_over(query, outer, &by_windows, &on_end) == NULL && !by_windows)
			legality_refuse(cxt, location,
				   "Group by window_start and window_end of the query below, or by tumble() over one of them; or write the groups into a table and aggregate there.",
				   "aggregation over groups of a topic is only supported over their windows");
		cxt->info->grouped = cxt->info->nested = true;
		return;
	}
	if (legality_is_over_answers(query, outer))
		legality_check_chain(query, cxt, outer, location);
	foreach(lc, query->groupClause)
	{
		FuncExpr   *call = legality_check_window(get_sortgroupclause_expr(lfirst(lc), query->targetList), query, cxt, outer, location);

		if (call != NULL)
			window = call;
	}
	if (window == NULL && !sessions && query->groupingSets != NIL)
		legality_refuse(cxt, location, "Group by a window in each set, or write one statement for each grouping set.",
			   "GROUPING SETS, ROLLUP and CUBE without a window are not supported over a topic");
	if (window == NULL && !sessions)
		cxt->info->unwindowed = true;
	cxt->info->grouped = true;
	if (query->havingQual != NULL)
		cxt->info->having = true;
}

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

/* Is this column of the query's result the event time of its topic, unmodified? */
static bool
column_is_event_time(Query *query, AttrNumber column, List *outer)
{
	TargetEntry *tle = get_tle_by_resno(query->targetList, column);
	ListCell   *lc;

	check_stack_depth();
	if (query->setOperations == NULL)
		return tle != NULL && legality_is_event_time((Node *) tle->expr, query, outer);
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
			return column_is_event_time(rte->subquery, var->varattno, legality_around(query, outer));
		case RTE_JOIN:
			return legality_is_event_time(list_nth(rte->joinaliasvars, var->varattno - 1), query, outer);
		case RTE_CTE:
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			return cte != NULL && column_is_event_time(castNode(Query, cte->ctequery), var->varattno, legality_around(home, home_outer));
		default:
			return false;
	}
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

bool
legality_has_groups(RangeTblEntry *rte, Query *query, List *outer)
{
	List	   *around;
	Query	   *sub = legality_rte_reads_topic(rte, query, outer) ? legality_query_below(rte, query, outer, &around) : NULL;

	/* sessions are windows of the groups above */
	return sub != NULL && (legality_is_grouped(sub) || (sub->hasWindowFuncs && legality_session(sub) == NULL) || sub->hasDistinctOn || legality_is_over_groups(sub, around));
}

bool
legality_is_over_groups(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
		if (legality_in_from(query, foreach_current_index(lc) + 1) && legality_has_groups(lfirst(lc), query, outer))
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
		if (!legality_has_groups(rte, query, outer))
			continue;
		sub = legality_query_below(rte, query, outer, &around);
		tle = var->varattno > 0 ? get_tle_by_resno(sub->targetList, var->varattno) : NULL;
		if (tle == NULL)
			return true;
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

/* Is it a border of the windows that the query below groups by? */
static bool
is_border_below(Node *node, Query *query, List *outer, bool *on_end)
{
	Origin		origin = legality_origin(node, query, outer);
	FuncExpr   *call;
	WindowFunction function;

	if (origin.grouped == NULL || origin.tle->ressortgroupref == 0)
		return false;
	call = legality_window_of_group((Node *) origin.tle->expr, origin.grouped);
	if (call == NULL)
		return false;
	function = window_function(call->funcid);
	*on_end = IsA(origin.tle->expr, Var) ? ((Var *) origin.tle->expr)->varattno == 2 : function == FUNCTION_TUMBLE_END;
	/* windows of cumulate() that begin together end at different times */
	return *on_end || (function != FUNCTION_CUMULATE && function != FUNCTION_CUMULATE_START);
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
				   "aggregation over groups of a topic is only supported over their windows, and not over window functions or DISTINCT ON");
		cxt->info->grouped = cxt->info->nested = true;
		return;
	}
	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);
		Query	   *home;
		List	   *home_outer;
		FuncExpr   *call = find_window(expr, query, outer, &home, &home_outer);
		Node	   *at;

		if (call == NULL)
			continue;
		window = call;
		check_window_constants(call, cxt, location);
		at = linitial(window_arguments(call));
		if (!legality_is_event_time(at, home, home_outer))
			legality_refuse(cxt, exprLocation(at) >= 0 ? exprLocation(at) : location,
				   "Give it the column of the foreign table that option event_time names, as it is.",
				   "%s() over something else than the event time of the topic is not supported", get_func_name(call->funcid));
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

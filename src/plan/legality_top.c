/*-------------------------------------------------------------------------
 *
 * legality_top.c
 *	  The first n rows of each key in another order than that of event time:
 *
 *		SELECT ... FROM (SELECT ..., row_number() OVER (PARTITION BY keys ORDER BY ...) AS rn
 *						 FROM topic) q WHERE rn <= n
 *		SELECT DISTINCT ON (keys) ... FROM topic ORDER BY keys, ...
 *
 * They are groups: of windows where a border of one is among the keys, else running
 * ones, whose rows take the places of others (key and number) as better ones come.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

int
legality_ranking(const WindowFunc *function)
{
	switch (function->winfnoid)
	{
		case F_ROW_NUMBER:
			return TOP_ROW_NUMBER;
		case F_RANK_:
			return TOP_RANK;
		case F_DENSE_RANK_:
			return TOP_DENSE_RANK;
		default:
			return -1;
	}
}

static bool
is_row_number(const Node *node)
{
	return IsA(node, WindowFunc) && legality_ranking((const WindowFunc *) node) == TOP_ROW_NUMBER;
}

/* Finds the function that numbers the rows; true: there is another one besides. */
static bool
other_function_walker(Node *node, WindowFunc **found)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		if (legality_ranking((WindowFunc *) node) < 0 || (*found != NULL && (*found)->winfnoid != ((WindowFunc *) node)->winfnoid))
			return true;
		*found = (WindowFunc *) node;
		return false;
	}
	return expression_tree_walker(node, other_function_walker, found);
}

/* NULL: there are others, or none. */
static WindowFunc *
numbering(Query *query)
{
	WindowFunc *found = NULL;

	return other_function_walker((Node *) query->targetList, &found) ? NULL : found;
}

/* Is it the order of window functions: that of event time? */
static bool
is_event_order(Query *query, List *outer, List *order)
{
	SortGroupClause *clause;
	Node	   *at;
	ListCell   *lc;

	if (list_length(order) != 1)
		return false;
	clause = linitial_node(SortGroupClause, order);
	if (clause->sortop != lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_LT_OPR)->lt_opr)
		return false;
	at = get_sortgroupclause_expr(clause, query->targetList);
	if (!IsA(at, CoalesceExpr))
		return legality_is_event_time(at, query, outer);
	foreach(lc, ((CoalesceExpr *) at)->args)
		if (!legality_is_event_time(lfirst(lc), query, outer))
			return false;
	return true;
}

static bool
has_window(Query *query)
{
	ListCell   *lc;

	foreach(lc, legality_top_keys(query))
		if (legality_window_of_group(get_sortgroupclause_expr(lfirst(lc), query->targetList), query) != NULL)
			return true;
	return false;
}

/* In the order of event time window functions answer row by row; of a window the list is kept, so that it goes with it. */
bool
legality_is_top(Query *query, List *outer)
{
	WindowFunc *number;
	int64		limit;

	if (legality_is_grouped(query) || legality_is_over_groups(query, outer))
		return false;
	if (query->hasDistinctOn)
		return !query->hasWindowFuncs && list_length(query->sortClause) > list_length(query->distinctClause) &&
			(has_window(query) || !is_event_order(query, outer, legality_top_order(query)));
	if (!query->hasWindowFuncs || list_length(query->windowClause) != 1)
		return false;
	limit = legality_top_limit(query, outer);
	if (is_event_order(query, outer, legality_top_order(query)) && (limit < 1 || limit > TOP_MOST || !has_window(query)))
		return false;
	number = numbering(query);
	/* without a limit ranks are no lists, and no window functions either: their order is another one */
	return number != NULL && (legality_ranking(number) == TOP_ROW_NUMBER || limit >= 0);
}

List *
legality_top_keys(Query *query)
{
	return query->hasDistinctOn ? query->distinctClause : linitial_node(WindowClause, query->windowClause)->partitionClause;
}

List *
legality_top_order(Query *query)
{
	return query->hasDistinctOn ? list_copy_tail(query->sortClause, list_length(query->distinctClause)) :
		linitial_node(WindowClause, query->windowClause)->orderClause;
}

/* ... or its rank? */
static bool
is_numbering(Query *query, TargetEntry *tle)
{
	return !query->hasDistinctOn && IsA(tle->expr, WindowFunc) && legality_ranking((WindowFunc *) tle->expr) >= 0;
}

bool
legality_is_number(Query *query, TargetEntry *tle)
{
	return !query->hasDistinctOn && is_row_number((Node *) tle->expr);
}

/* The query's place in FROM of the one around it; 0: it stands elsewhere. */
static int
place_in(Query *query, Query *around)
{
	ListCell   *lc;

	foreach(lc, around->rtable)
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_SUBQUERY && lfirst_node(RangeTblEntry, lc)->subquery == query)
			return foreach_current_index(lc) + 1;
	return 0;
}

static bool
const_value(Node *node, int64 *value)
{
	Const	   *c = (Const *) eval_const_expressions(NULL, copyObject(node));

	if (!IsA(c, Const) || c->constisnull)
		return false;
	switch (c->consttype)
	{
		case INT2OID:
			*value = DatumGetInt16(c->constvalue);
			return true;
		case INT4OID:
			*value = DatumGetInt32(c->constvalue);
			return true;
		case INT8OID:
			*value = DatumGetInt64(c->constvalue);
			return true;
		default:
			return false;
	}
}

/* The largest number that the condition lets through, where it is one on a column of numbers. */
static bool
limit_of(Node *node, Query *query, int varno, int64 *limit)
{
	OpExpr	   *op = (OpExpr *) node;
	Var		   *var;
	int			strategy;
	int64		value;
	bool		turned = false;

	if (!IsA(node, OpExpr) || list_length(op->args) != 2)
		return false;
	strategy = get_op_opfamily_strategy(op->opno, INTEGER_BTREE_FAM_OID);
	var = linitial(op->args);
	if (!IsA(var, Var))
	{
		var = lsecond(op->args);
		turned = true;
	}
	if (strategy == 0 || !IsA(var, Var) || var->varno != varno || var->varlevelsup != 0 || var->varattno <= 0 ||
		!is_numbering(query, get_tle_by_resno(query->targetList, var->varattno)) ||
		!const_value(turned ? linitial(op->args) : lsecond(op->args), &value))
		return false;
	if (turned)
		strategy = BTMaxStrategyNumber + 1 - strategy;
	switch (strategy)
	{
		case BTLessStrategyNumber:
			*limit = value - (value > PG_INT64_MIN);
			return true;
		case BTLessEqualStrategyNumber:
		case BTEqualStrategyNumber:
			*limit = value;
			return true;
		default:
			return false;
	}
}

int64
legality_top_limit(Query *query, List *outer)
{
	Query	   *around = outer != NIL ? linitial(outer) : NULL;
	int64		least = -1;
	int			varno;
	ListCell   *lc;

	if (query->hasDistinctOn)
		return 1;
	varno = around != NULL && around->setOperations == NULL ? place_in(query, around) : 0;
	if (varno == 0)
		return -1;
	foreach(lc, make_ands_implicit((Expr *) around->jointree->quals))
	{
		int64		limit;

		if (limit_of(lfirst(lc), query, varno, &limit))
			least = least < 0 ? Max(limit, 0) : Min(least, Max(limit, 0));
	}
	return least;
}

void
legality_check_top(Query *query, CheckContext *cxt, List *outer, int location)
{
	int64		limit = legality_top_limit(query, outer);
	bool		window = false;
	ListCell   *lc;

	if (legality_is_over_answers(query, outer))
		legality_check_chain(query, cxt, outer, location);
	if (contain_vars_of_level((Node *) query, 1))
		legality_refuse(cxt, location, "Join the topic with the table in FROM, below.",
						"row_number() or DISTINCT ON over a topic that depends on the query around it is not supported");
	if (query->hasTargetSRFs)
		legality_refuse(cxt, location, "Call it in a SELECT around this one.",
						"row_number() or DISTINCT ON over a set-returning function of a topic is not supported");
	if (limit < 0)
		legality_refuse(cxt, location,
						"Ask for the first rows in the SELECT around it: SELECT ... FROM (SELECT ..., row_number() OVER (...) AS rn FROM topic) q WHERE rn <= 10; or order by the column that option event_time of the foreign table names.",
						"row_number() over a topic in another order than that of its event time is only supported where the first rows are asked for");
	if (limit == 0 || limit > TOP_MOST)
		legality_refuse(cxt, location, "Ask for 1 to 1000 rows of each key.",
						"the first " INT64_FORMAT " rows of each key of a topic are not supported", limit);
	foreach(lc, legality_top_keys(query))
		window |= legality_check_window(get_sortgroupclause_expr(lfirst(lc), query->targetList), query, cxt, outer, location) != NULL;
	if (!query->hasDistinctOn && legality_ranking(numbering(query)) != TOP_ROW_NUMBER)
	{
		if (!window)
			legality_refuse(cxt, location, "Use row_number(): its number tells each row apart, so a better one can take its place; or add window_start of a window to PARTITION BY.",
							"the first ranks of each key of a topic without a window are not supported");
		cxt->info->ranked = true;
	}
	cxt->info->grouped = cxt->info->top = true;
	if (!window)
		cxt->info->unwindowed = true;
}

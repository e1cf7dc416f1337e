/*-------------------------------------------------------------------------
 *
 * legality_over.c
 *	  Which window functions over a topic a pipeline can compute, judged on the
 *	  Query.
 *
 * A row is answered from what came before it: frames end with the current row,
 * and the order is that of event time.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define FRAME_HINT "Use RANGE BETWEEN '1 hour' PRECEDING AND CURRENT ROW, ROWS BETWEEN 5 PRECEDING AND CURRENT ROW, or UNBOUNDED PRECEDING in their place."

#define MAX_FRAME_DAYS	36500

typedef struct FunctionContext
{
	CheckContext *cxt;
	Query	   *query;
} FunctionContext;

static void
check_frame(WindowClause *window, CheckContext *cxt, int location)
{
	int			options = window->frameOptions;
	Node	   *offset;

	if (options & FRAMEOPTION_GROUPS)
		legality_refuse(cxt, location, FRAME_HINT, "a frame of GROUPS over a topic is not supported");
	if (options & FRAMEOPTION_EXCLUSION)
		legality_refuse(cxt, location, "Leave EXCLUDE out.", "EXCLUDE in a frame over a topic is not supported");
	if (!(options & FRAMEOPTION_END_CURRENT_ROW))
		legality_refuse(cxt, location, FRAME_HINT, "a frame over a topic that does not end with the current row is not supported");
	if (options & FRAMEOPTION_START_OFFSET_FOLLOWING)
		legality_refuse(cxt, location, FRAME_HINT, "a frame over a topic that begins behind the current row is not supported");
	if (window->startOffset == NULL)
		return;
	offset = eval_const_expressions(NULL, copyObject(window->startOffset));
	if (!IsA(offset, Const))
		legality_refuse(cxt, location, "Write it as a literal, such as '1 hour'.",
						"a frame over a topic whose length is not a constant is not supported");
	if ((options & FRAMEOPTION_RANGE) && window->startInRangeFunc != F_IN_RANGE_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL_BOOL_BOOL)
		legality_refuse(cxt, location, FRAME_HINT, "a RANGE over a topic that is not an interval of event time is not supported");
	if ((options & FRAMEOPTION_RANGE) && !((Const *) offset)->constisnull)
	{
		Interval   *length = DatumGetIntervalP(((Const *) offset)->constvalue);

		/* event time and a few of them must not overflow */
		if ((double) length->time + ((double) length->day + 31.0 * length->month) * USECS_PER_DAY > (double) MAX_FRAME_DAYS * USECS_PER_DAY)
			legality_refuse(cxt, location, "Use UNBOUNDED PRECEDING.", "a frame over a topic that is longer than %d days is not supported", MAX_FRAME_DAYS);
	}
}

void
legality_check_order(SortGroupClause *order, Query *query, CheckContext *cxt, List *outer, int location)
{
	Node	   *at = get_sortgroupclause_expr(order, query->targetList);
	TypeCacheEntry *type = lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_LT_OPR);

	if (exprLocation(at) >= 0)
		location = exprLocation(at);
	if (!legality_is_known_time(at, query, outer))
		legality_refuse(cxt, location, "Give it the column of the foreign table that option event_time names, as it is.",
						"rows of a topic in another order than that of event time are not supported");
	if (order->sortop != type->lt_opr)
		legality_refuse(cxt, location, "Rows come in ascending order.", "rows of a topic in descending order are not supported");
}

static void
check_window(WindowClause *window, Query *query, CheckContext *cxt, List *outer, int location)
{
	if (list_length(window->orderClause) != 1)
		legality_refuse(cxt, location, "Write OVER (PARTITION BY ... ORDER BY the column that option event_time of the foreign table names).",
						"a window function over a topic in another order than that of its event time alone is not supported");
	legality_check_order(linitial(window->orderClause), query, cxt, outer, location);
	check_frame(window, cxt, location);
}

static bool
function_walker(Node *node, FunctionContext *context)
{
	WindowFunc *function = (WindowFunc *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, WindowFunc))
		return expression_tree_walker(node, function_walker, context);
	if (!function->winagg)
	{
		int			n = 0;

		switch (function->winfnoid)
		{
			case F_ROW_NUMBER:
			case F_RANK_:
			case F_DENSE_RANK_:
			case F_LAG_ANYELEMENT:
			case F_FIRST_VALUE:
			case F_LAST_VALUE:
				break;
			case F_LAG_ANYELEMENT_INT4:
			case F_LAG_ANYCOMPATIBLE_INT4_ANYCOMPATIBLE:
			case F_NTH_VALUE:
				n = 1;
				break;
			case F_LEAD_ANYELEMENT:
			case F_LEAD_ANYELEMENT_INT4:
			case F_LEAD_ANYCOMPATIBLE_INT4_ANYCOMPATIBLE:
				legality_refuse(context->cxt, function->location, "Use lag(): a row is answered from what came before it.",
								"lead() over a topic is not supported");
				break;
			default:
				legality_refuse(context->cxt, function->location,
								"Use row_number, rank, dense_rank, lag, first_value, last_value, nth_value, or an aggregate.",
								"window function %s() over a topic is not supported", get_func_name(function->winfnoid));
		}
		if (n > 0 && !IsA(eval_const_expressions(NULL, copyObject(list_nth(function->args, n))), Const))
			legality_refuse(context->cxt, function->location, "Write it as a literal.",
							"a number of rows in %s() over a topic that is not a constant is not supported", get_func_name(function->winfnoid));
	}
	return false;
}

/*
 * All groups of a window are given out together, and final: PostgreSQL's own
 * window functions, or DISTINCT ON, can look at them where they do not look
 * beyond the window.
 */
static bool
is_over_groups(Query *query, CheckContext *cxt, List *outer, List *clauses, int location)
{
	if (!legality_is_grouped(query) && !legality_is_over_groups(query, outer))
		return false;
	if (!legality_within_windows(query, outer, clauses))
		legality_refuse(cxt, location, "Put window_start and window_end of the groups into PARTITION BY, or into DISTINCT ON; or write the groups into a table or topic, and use it there.",
						"window functions or DISTINCT ON over groups of a topic are only supported within the windows of the groups");
	cxt->info->grouped = cxt->info->nested = true;
	return true;
}

void
legality_check_below(Query *query, CheckContext *cxt, List *outer, int location)
{
	if (legality_is_over_answers(query, outer))
	{
		legality_check_union(query, cxt, outer, location);
		cxt->info->stacked = true;
	}
	legality_check_correlated(query, cxt, location);
}

void
legality_check_correlated(Query *query, CheckContext *cxt, int location)
{
	if (contain_vars_of_level((Node *) query, 1))
		legality_refuse(cxt, location, "Join the topic with the table in FROM, below.",
						"window functions or DISTINCT ON over a topic that depend on the query around them are not supported");
}

void
legality_check_distinct_on(Query *query, CheckContext *cxt, List *outer)
{
	int			location = legality_clause_location(query, query->distinctClause);

	if (is_over_groups(query, cxt, outer, query->distinctClause, location))
		return;
	if (legality_is_top(query, outer))
	{
		legality_check_top(query, cxt, outer, location);
		return;
	}
	legality_check_below(query, cxt, outer, location);
	if (query->hasWindowFuncs)
		legality_refuse(cxt, location, "Use a subquery for one of them in another pipeline.",
						"DISTINCT ON over window functions of a topic is not supported");
	if (query->hasTargetSRFs)
		legality_refuse(cxt, location, "Call it in a SELECT around this one.",
						"DISTINCT ON over a set-returning function of a topic is not supported");
	if (list_length(query->sortClause) != list_length(query->distinctClause) + 1)
		legality_refuse(cxt, location, "Write SELECT DISTINCT ON (columns) ... ORDER BY columns, event time.",
						"DISTINCT ON over a topic without an order by event time is not supported");
	legality_check_order(llast(query->sortClause), query, cxt, outer, location);
	cxt->info->grouped = cxt->info->over = true;
}

/* A query whose window functions look at rows of the topic. */
void
legality_check_over(Query *query, CheckContext *cxt, List *outer, int location)
{
	FunctionContext context = {cxt, query};
	WindowClause *first = linitial(query->windowClause);
	ListCell   *lc;

	if (legality_session(query) != NULL)
	{
		legality_check_session(query, cxt, outer);
		return;
	}
	if (legality_is_grouped(query) || legality_is_over_groups(query, outer))
	{
		foreach(lc, query->windowClause)
			(void) is_over_groups(query, cxt, outer, lfirst_node(WindowClause, lc)->partitionClause, location);
		return;
	}
	if (legality_is_top(query, outer))
	{
		legality_check_top(query, cxt, outer, location);
		return;
	}
	legality_check_below(query, cxt, outer, location);
	foreach(lc, query->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, lc);

		if (!equal(window->partitionClause, first->partitionClause))
			legality_refuse(cxt, location, "Write two statements, one for each PARTITION BY.",
							"windows over a topic with different PARTITION BY in one SELECT are not supported");
		check_window(window, query, cxt, outer, location);
	}
	(void) function_walker((Node *) query->targetList, &context);
	cxt->info->grouped = cxt->info->over = true;
}

/*-------------------------------------------------------------------------
 *
 * legality_session.c
 *	  Which sessions of a topic's rows a pipeline can keep, judged on the Query.
 *
 * session() stands as a column of a SELECT over the topic, and the SELECT around
 * groups by the columns of its PARTITION BY and by it.  Both together are what the
 * operator does.  Sessions are those of all rows of the SELECT with session(): a
 * condition above it, of a WHERE or a join, may leave out all rows of a key, and
 * not some of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "plan/parse.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define GROUP_HINT "Select it as a column of a subquery, and GROUP BY the columns of its PARTITION BY and this column in the SELECT around it."
/* as of allowed_lateness */
#define LONGEST_GAP_DAYS	INT64CONST(36500)
#define FILTER_HINT "Put the condition into the subquery with session(), where it says which rows make the sessions; or use FILTER and HAVING in the SELECT that groups."

static bool
is_session(Node *node)
{
	return IsA(node, WindowFunc) && window_function(((WindowFunc *) node)->winfnoid) == FUNCTION_SESSION;
}

static bool
find_session(Node *node, WindowFunc **found)
{
	if (node == NULL)
		return false;
	if (is_session(node))
	{
		*found = (WindowFunc *) node;
		return true;
	}
	return expression_tree_walker(node, find_session, found);
}

WindowFunc *
legality_session(Query *query)
{
	WindowFunc *found = NULL;

	if (query->hasWindowFuncs)
		(void) find_session((Node *) query->targetList, &found);
	return found;
}

/* All arguments in their order, named ones and defaults too. */
List *
legality_session_arguments(WindowFunc *session)
{
	FuncExpr	call = {.xpr.type = T_FuncExpr, .funcid = session->winfnoid, .funcresulttype = session->wintype, .args = session->args};

	return window_arguments(&call);
}

TargetEntry *
legality_session_column(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
		if (is_session((Node *) lfirst_node(TargetEntry, lc)->expr))
			return lfirst(lc);
	elog(ERROR, "a query with session() has no such column");
}

static WindowClause *
window_of(Query *query, WindowFunc *session)
{
	return list_nth_node(WindowClause, query->windowClause, session->winref - 1);
}

/* ---- the query with session() ---- */

static bool
count_functions(Node *node, int *n)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
		(*n)++;
	return expression_tree_walker(node, count_functions, n);
}

static int
location_of(Node *node, int otherwise)
{
	int			location = exprLocation(node);

	return location >= 0 ? location : otherwise;
}

static void
check_length(Node *arg, const char *what, bool optional, CheckContext *cxt, int location)
{
	Node	   *value = eval_const_expressions(NULL, copyObject(arg));
	int64		length;

	if (!IsA(value, Const))
		legality_refuse(cxt, location_of(arg, location), "Write it as a literal, such as '30 min'.",
						"%s of session() that is not a constant is not supported in a pipeline", what);
	if (((Const *) value)->constisnull)
	{
		if (!optional)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s of a session must not be null", what)));
		return;
	}
	length = session_length(DatumGetIntervalP(((Const *) value)->constvalue), what);
	/* no sum of it and a time is out of range */
	if (!optional && length > LONGEST_GAP_DAYS * USECS_PER_DAY)
		legality_refuse(cxt, location_of(arg, location), "Use a shorter one.", "a gap of session() of more than %d days is not supported in a pipeline", (int) LONGEST_GAP_DAYS);
}

void
legality_check_session(Query *query, CheckContext *cxt, List *outer)
{
	WindowFunc *session = legality_session(query);
	WindowClause *window = window_of(query, session);
	List	   *args = legality_session_arguments(session);
	Node	   *at = linitial(args);
	int			location = session->location;
	int			functions = 0;
	ListCell   *lc;
	bool		column = false;

	if (legality_is_grouped(query) || legality_is_over_groups(query, outer))
		legality_refuse(cxt, location, "Write the groups into a table or topic, and use it there.",
						"session() over groups of a topic is not supported");
	legality_check_correlated(query, cxt, location);
	if (legality_is_over_answers(query, outer))
		legality_check_chain(query, cxt, outer, location);
	(void) count_functions((Node *) query->targetList, &functions);
	if (functions > 1)
		legality_refuse(cxt, location, "Make two pipelines of it, or two statements.",
						"session() over a topic together with other window functions in one SELECT is not supported");
	foreach(lc, query->targetList)
		column |= is_session((Node *) lfirst_node(TargetEntry, lc)->expr) && !lfirst_node(TargetEntry, lc)->resjunk;
	if (!column)
		legality_refuse(cxt, location, "Make it a column of its own, and use lower() and upper() of it in the SELECT around.",
						"session() over a topic inside of an expression is not supported");
	if (query->hasTargetSRFs)
		legality_refuse(cxt, location, "Call it in a SELECT below this one.",
						"session() over a topic together with a set-returning function is not supported");
	if (list_length(window->orderClause) != 1)
		legality_refuse(cxt, location, "Write session(at, gap) OVER (PARTITION BY ... ORDER BY at), at being the column that option event_time of the foreign table names.",
						"session() over a topic in another order than that of its event time alone is not supported");
	legality_check_order(linitial(window->orderClause), query, cxt, outer, location);
	if (!equal(at, get_sortgroupclause_expr(linitial(window->orderClause), query->targetList)))
		legality_refuse(cxt, location_of(at, location), "Give it the column that it is ordered by.",
						"session() over something else than the event time of the topic is not supported");
	check_length(lsecond(args), "gap", false, cxt, location);
	check_length(lthird(args), "max_span", true, cxt, location);
	cxt->info->grouped = cxt->info->session = true;
}

/* ---- the query around it ---- */

typedef struct UseContext
{
	CheckContext *cxt;
	Query	   *query;
	Query	   *sub;
	int			varno;			/* of the query with session() */
	AttrNumber	column;			/* of session() in it */
	int			location;
} UseContext;

/* Is this column of the query with session() one of its PARTITION BY? */
static bool
is_key(const UseContext *use, AttrNumber attno, bool exact)
{
	TargetEntry *tle = attno > 0 ? get_tle_by_resno(use->sub->targetList, attno) : NULL;
	ListCell   *lc;

	if (tle == NULL)
		return false;
	foreach(lc, window_of(use->sub, legality_session(use->sub))->partitionClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Node	   *key = get_sortgroupclause_expr(clause, use->sub->targetList);
		StateKeyColumn kind;

		if (!equal(key, tle->expr))
			continue;
		/* values that are equal, and not the same, may make a difference above */
		return !exact || (state_key_column(&kind, exprType(key), exprTypmod(key), exprCollation(key), clause->eqop) == NULL && kind.exact);
	}
	return false;
}

/* Does all that the expression has of the query with session() come from its keys? */
static bool
of_keys(const UseContext *use, Node *node, int level)
{
	ListCell   *lc;

	foreach(lc, pull_vars_of_level(node, level))
	{
		Var		   *var = lfirst(lc);

		if (var->varno == use->varno && !is_key(use, var->varattno, true))
			return false;
	}
	return !contain_volatile_functions(node);
}

static Node *
flat(const UseContext *use, Node *node)
{
	return flatten_join_alias_vars(use->query, copyObject(node));
}

static bool
is_column(const UseContext *use, Node *node, AttrNumber column)
{
	return IsA(node, Var) && ((Var *) node)->varno == use->varno && ((Var *) node)->varlevelsup == 0 && ((Var *) node)->varattno == column;
}

static void
check_group_by(const UseContext *use)
{
	WindowClause *window = window_of(use->sub, legality_session(use->sub));
	bool		by_session = false;
	ListCell   *lc,
			   *lg;

	foreach(lc, use->query->groupClause)
	{
		Node	   *expr = flat(use, get_sortgroupclause_expr(lfirst(lc), use->query->targetList));

		if (is_column(use, expr, use->column))
			by_session = true;
		else if (!(IsA(expr, Var) && ((Var *) expr)->varno == use->varno && is_key(use, ((Var *) expr)->varattno, false)) &&
				 !of_keys(use, expr, 0))
			legality_refuse(use->cxt, location_of(expr, use->location),
							"Group by the columns of the PARTITION BY of session() and by it; add the column there, or aggregate it.",
							"grouping sessions of a topic by something that is not made of their keys is not supported");
	}
	if (!by_session)
		legality_refuse(use->cxt, use->location, GROUP_HINT, "sessions of a topic that are not grouped by are not supported");
	foreach(lc, window->partitionClause)
	{
		Node	   *key = get_sortgroupclause_expr(lfirst(lc), use->sub->targetList);
		bool		found = false;

		foreach(lg, use->query->groupClause)
		{
			Node	   *expr = flat(use, get_sortgroupclause_expr(lfirst(lg), use->query->targetList));

			if (IsA(expr, Var) && ((Var *) expr)->varno == use->varno && ((Var *) expr)->varattno > 0)
				found |= equal(get_tle_by_resno(use->sub->targetList, ((Var *) expr)->varattno)->expr, key);
		}
		if (!found)
			legality_refuse(use->cxt, use->location, GROUP_HINT,
							"sessions of a topic that are not grouped by all columns of their PARTITION BY are not supported");
	}
}

static void
check_conditions(const UseContext *use, Node *node)
{
	ListCell   *lc;
	Node	   *quals;

	if (node == NULL || IsA(node, RangeTblRef))
		return;
	if (IsA(node, JoinExpr))
	{
		check_conditions(use, ((JoinExpr *) node)->larg);
		check_conditions(use, ((JoinExpr *) node)->rarg);
		quals = ((JoinExpr *) node)->quals;
	}
	else
	{
		foreach(lc, castNode(FromExpr, node)->fromlist)
			check_conditions(use, lfirst(lc));
		quals = ((FromExpr *) node)->quals;
	}
	if (quals != NULL && !of_keys(use, flat(use, quals), 0))
		legality_refuse(use->cxt, location_of(quals, use->location), FILTER_HINT,
						"a condition over sessions of a topic on something else than their keys is not supported");
}

/* What stands beside it in FROM. */
static void
check_beside(const UseContext *use)
{
	ListCell   *lc;

	foreach(lc, use->query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Node	   *node = NULL;
		int			level = 0;

		if (foreach_current_index(lc) + 1 == use->varno)
			continue;
		switch (rte->rtekind)
		{
			case RTE_SUBQUERY:
				node = (Node *) rte->subquery;
				level = 1;
				break;
			case RTE_FUNCTION:
				node = (Node *) rte->functions;
				break;
			case RTE_TABLEFUNC:
				node = (Node *) rte->tablefunc;
				break;
			case RTE_VALUES:
				node = (Node *) rte->values_lists;
				break;
			default:
				break;
		}
		if (node != NULL && !of_keys(use, level == 0 ? flat(use, node) : node, level))
			legality_refuse(use->cxt, location_of(node, use->location), FILTER_HINT,
							"joining sessions of a topic with rows that are not made of their keys is not supported");
	}
}

static bool
uses_session(const UseContext *use, Node *node)
{
	ListCell   *lc;
	int			level = IsA(node, Query) ? 1 : 0;

	foreach(lc, pull_vars_of_level(node, level))
	{
		Var		   *var = lfirst(lc);

		if (var->varno == use->varno && (var->varattno == use->column || var->varattno == 0))
			return true;
	}
	return false;
}

/* The session itself may be given out and compared in HAVING, and nothing else. */
static bool
output_walker(Node *node, UseContext *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varno == use->varno && ((Var *) node)->varlevelsup == 0 && ((Var *) node)->varattno == 0)
		legality_refuse(use->cxt, location_of(node, use->location), "Name its columns.",
						"a whole row with a session of a topic is not supported");
	if (IsA(node, Aggref) && uses_session(use, node))
		legality_refuse(use->cxt, location_of(node, use->location), "Use it in the select list and in HAVING, outside of aggregates.",
						"a session of a topic as argument of an aggregate is not supported");
	if (IsA(node, SubLink) && uses_session(use, ((SubLink *) node)->subselect))
		legality_refuse(use->cxt, location_of(node, use->location), "Join with it when you read the table.",
						"a session of a topic in a subquery of an expression is not supported");
	return expression_tree_walker(node, output_walker, use);
}

void
legality_check_session_use(RangeTblEntry *rte, Query *query, CheckContext *cxt, List *outer)
{
	List	   *around;
	Query	   *sub = legality_query_below(rte, query, outer, &around);
	UseContext	use = {cxt, query, sub};
	ListCell   *lc;
	Query	   *home;
	List	   *home_outer;
	CommonTableExpr *cte;

	if (sub == NULL || legality_session(sub) == NULL)
		return;
	use.location = rte->rtekind == RTE_RELATION ? text_relation_location(cxt->text, rte->relid, true) : legality_session(sub)->location;
	foreach(lc, query->rtable)
		if (lfirst(lc) == rte)
			use.varno = foreach_current_index(lc) + 1;
	if (query->commandType != CMD_SELECT || query->setOperations != NULL || !legality_is_grouped(query))
		legality_refuse(cxt, use.location, GROUP_HINT, "sessions of a topic that are not grouped by are not supported");
	/* its form is judged with the query itself, which may come later */
	legality_check_session(sub, cxt, around);
	use.column = legality_session_column(sub)->resno;
	cte = rte->rtekind == RTE_CTE ? legality_find_cte(rte, query, outer, &home, &home_outer) : NULL;
	if (cte != NULL && cte->cterefcount > 1 && contain_volatile_functions((Node *) sub))
		legality_refuse(cxt, use.location, "Write it twice.", "a WITH query with session() over a topic and a volatile function that is used twice is not supported");
	if (query->groupingSets != NIL)
		legality_refuse(cxt, use.location, "Write one statement for each grouping set.",
						"GROUPING SETS, ROLLUP and CUBE over sessions of a topic are not supported");
	check_group_by(&use);
	check_conditions(&use, (Node *) query->jointree);
	check_beside(&use);
	(void) output_walker(flat(&use, (Node *) query->targetList), &use);
	(void) output_walker(flat(&use, query->havingQual), &use);
}

bool
legality_groups_sessions(Query *query, List *outer)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		List	   *around;
		Query	   *sub;

		if (!legality_in_from(query, foreach_current_index(lc) + 1))
			continue;
		sub = legality_query_below(lfirst(lc), query, outer, &around);
		if (sub != NULL && legality_session(sub) != NULL)
			return true;
	}
	return false;
}

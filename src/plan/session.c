/*-------------------------------------------------------------------------
 *
 * session.c
 *	  A query that groups sessions of a topic is prepared for the planner.
 *
 *		SELECT card, win, count(*) FROM
 *			(SELECT card, session(at, '30 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s
 *		GROUP BY card, win
 *
 * becomes
 *
 *		SELECT card, session_slice(win, '30 min', NULL), count(*) FROM
 *			(SELECT card, at AS win FROM tx) s
 *		GROUP BY card, session_slice(win, '30 min', NULL)
 *
 * so that no window function is left, and the hook of keyed.c finds a window to group
 * by, as with hop().  legality_session.c has seen to it that this means the same.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"

typedef struct ExchangeContext
{
	int			varno;			/* of the query with session() */
	AttrNumber	column;
	FuncExpr   *slice;
} ExchangeContext;

/* Other queries do not use it: neither in FROM nor in expressions. */
static Node *
exchange_mutator(Node *node, ExchangeContext *cxt)
{
	Var		   *var = (Var *) node;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && var->varno == cxt->varno && var->varattno == cxt->column && var->varlevelsup == 0)
		return (Node *) copyObject(cxt->slice);
	if (IsA(node, Query))
		return (Node *) copyObject((Query *) node);
	return expression_tree_mutator(node, exchange_mutator, cxt);
}

static void
exchange(Query *query, int varno)
{
	Query	   *sub = rt_fetch(varno, query->rtable)->subquery;
	TargetEntry *tle = legality_session_column(sub);
	List	   *args = legality_session_arguments((WindowFunc *) tle->expr);
	ExchangeContext cxt = {varno, tle->resno};
	List	   *tlist = NIL;
	ListCell   *lc;

	cxt.slice = makeFuncExpr(keyed_session_slice(), TSTZRANGEOID,
							 list_make3(makeVar(varno, tle->resno, TIMESTAMPTZOID, -1, InvalidOid, 0), lsecond(args), lthird(args)),
							 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	tle->expr = linitial(args);
	sub->windowClause = NIL;
	sub->hasWindowFuncs = false;
	/* what only the window was sorted by */
	foreach(lc, sub->targetList)
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			tlist = lappend(tlist, lfirst(lc));
	sub->targetList = tlist;
	(void) query_tree_mutator(query, exchange_mutator, &cxt, QTW_DONT_COPY_QUERY | QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
}

void
session_prepare(Query *query)
{
	int			varno;

	for (varno = 1; varno <= list_length(query->rtable); varno++)
	{
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);

		if (rte->rtekind == RTE_SUBQUERY && legality_in_from(query, varno) && legality_session(rte->subquery) != NULL)
			exchange(query, varno);
	}
}

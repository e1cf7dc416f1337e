/*-------------------------------------------------------------------------
 *
 * legality_asof.c
 *	  Which as-of joins of two topics a pipeline can compute, judged on the Query,
 *	  and what they are made of.
 *
 *		FROM a [LEFT] JOIN LATERAL (SELECT ... FROM b WHERE b.k = a.k AND b.at <= a.at
 *									ORDER BY b.at DESC LIMIT 1) v ON true
 *
 * The subquery is made one of the versions alone: ORDER BY and LIMIT go, and so do
 * the conditions that look at the other side, which are told by its columns then.
 * What is left has the form of a join of two sides (StreamJoin): equalities are
 * the keys, the bound of event time is the operator's own business.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "plan/legality.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define ASOF_HINT "Write FROM a LEFT JOIN LATERAL (SELECT * FROM b WHERE b.id = a.id AND b.at <= a.at ORDER BY b.at DESC LIMIT 1) v ON true, where at is the event time of both."
#define VERSIONS_HINT "Compute it in the SELECT around the join, or in a subquery that reads the topic of the versions."

/* ---- where it is ---- */

static bool
is_versions(RangeTblEntry *rte, Query *query, List *outer)
{
	return rte->rtekind == RTE_SUBQUERY && rte->lateral && rte->subquery->limitCount != NULL && legality_rte_reads_topic(rte, query, outer);
}

/* The number of the FROM item that is a subquery of versions, 0: there is none. */
static int
find_versions(Query *query, List *outer)
{
	ListCell   *lc;

	if (query->setOperations != NULL)
		return 0;
	foreach(lc, query->rtable)
		if (is_versions(lfirst(lc), query, outer) && legality_in_from(query, foreach_current_index(lc) + 1))
			return foreach_current_index(lc) + 1;
	return 0;
}

bool
legality_is_asof(Query *query, List *outer)
{
	return find_versions(query, outer) != 0 && legality_joins_topics(query, outer);
}

bool
legality_is_versions(RangeTblEntry *rte, Query *query, List *outer)
{
	return is_versions(rte, query, outer) && legality_is_asof(query, outer);
}

static void
remove_order(Query *versions)
{
	ListCell   *lc;

	foreach(lc, versions->targetList)
		lfirst_node(TargetEntry, lc)->ressortgroupref = 0;
	versions->sortClause = NIL;
	versions->limitCount = versions->limitOffset = NULL;
	versions->limitOption = LIMIT_OPTION_COUNT;
}

/* ---- the subquery ---- */

typedef struct AsofContext
{
	CheckContext *cxt;
	Query	   *query;
	List	   *outer;
	StreamJoin *join;
	int			varno;			/* of the versions */
	Query	   *versions;
	List	   *around;			/* the queries around them */
	bool		has_bound;
} AsofContext;

/* What it is may have no place of its own. */
static int
location_of(AsofContext *ac, Node *node)
{
	int			location = node != NULL ? exprLocation(node) : -1;

	return location >= 0 ? location : legality_query_location(ac->versions);
}

static bool
is_constant(Node *node, int64 value)
{
	Node	   *constant = eval_const_expressions(NULL, copyObject(node));

	return IsA(constant, Const) && !((Const *) constant)->constisnull && DatumGetInt64(((Const *) constant)->constvalue) == value;
}

static void
check_versions(AsofContext *ac)
{
	Query	   *versions = ac->versions;
	ListCell   *lc;

	if (versions->setOperations != NULL)
		legality_refuse(ac->cxt, legality_query_location(versions), "Put the UNION ALL into a subquery, and order that.",
						"UNION ALL in the subquery of an as-of join is not supported");
	if (legality_is_grouped(versions) || versions->hasWindowFuncs || versions->distinctClause != NIL || versions->hasTargetSRFs)
		legality_refuse(ac->cxt, legality_query_location(versions), "The versions are rows of the topic as they are.",
						"GROUP BY, window functions, DISTINCT and set-returning functions in the subquery of an as-of join are not supported");
	if (versions->cteList != NIL)
		legality_refuse(ac->cxt, legality_query_location(versions), "Write it as a subquery in FROM.",
						"WITH in the subquery of an as-of join is not supported");
	foreach(lc, versions->rtable)
		if (legality_in_from(versions, foreach_current_index(lc) + 1) && legality_rte_has_operator(lfirst(lc), versions, ac->around))
			legality_refuse(ac->cxt, legality_query_location(versions), "Write the results below into a topic, and join that.",
							"a join of topics over groups, window functions, DISTINCT ON or another join of topics is not supported");
	if (legality_joins_topics(versions, ac->around))
		legality_refuse(ac->cxt, legality_query_location(versions), "Write the rows of one join into a topic, and join that with the third one.",
						"joining more than two topics in one SELECT is not supported");
	if (versions->limitOption == LIMIT_OPTION_WITH_TIES || !is_constant(versions->limitCount, 1))
		legality_refuse(ac->cxt, location_of(ac, versions->limitCount), "Write LIMIT 1.",
						"an as-of join of more than one version is not supported");
	if (versions->limitOffset != NULL && !is_constant(versions->limitOffset, 0))
		legality_refuse(ac->cxt, location_of(ac, versions->limitOffset), "Leave it out: the last version is the only one that is kept.",
						"OFFSET in the subquery of an as-of join is not supported");
	if (contain_volatile_functions((Node *) versions))
		legality_refuse(ac->cxt, legality_query_location(versions), "Call it in the SELECT around the join.",
						"a volatile function in the subquery of an as-of join is not supported");
}

Query *
legality_versions_alone(RangeTblEntry *rte, Query *query, CheckContext *cxt, List *outer)
{
	AsofContext ac = {cxt, query, outer};

	ac.versions = copyObject(rte->subquery);
	ac.around = legality_around(query, outer);
	check_versions(&ac);
	remove_order(ac.versions);
	return ac.versions;
}

static Var *
column_var(AsofContext *ac, const TargetEntry *tle, int location)
{
	Var		   *var = makeVar(ac->varno, tle->resno, exprType((Node *) tle->expr), exprTypmod((Node *) tle->expr), exprCollation((Node *) tle->expr), 0);

	var->location = location;
	return var;
}

/* The column of the versions that holds this, added where there is none. */
static Var *
column_for(AsofContext *ac, Expr *expr)
{
	Query	   *versions = ac->versions;
	TargetEntry *tle;
	ListCell   *lc;

	foreach(lc, versions->targetList)
		if (equal(lfirst_node(TargetEntry, lc)->expr, expr))
			return column_var(ac, lfirst(lc), exprLocation((Node *) expr));
	tle = makeTargetEntry(copyObject(expr), list_length(versions->targetList) + 1, psprintf("compared %d", list_length(versions->targetList) + 1), false);
	versions->targetList = lappend(versions->targetList, tle);
	return column_var(ac, tle, exprLocation((Node *) expr));
}

/* ORDER BY event time DESC, and what chooses among versions of one instant. */
static void
take_order(AsofContext *ac)
{
	Query	   *versions = ac->versions;
	StreamJoin *join = ac->join;
	ListCell   *lc;

	/* what is only sorted by becomes a column like others; their expressions are compared as they stand below */
	foreach(lc, versions->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		tle->expr = (Expr *) flatten_join_alias_vars(versions, (Node *) tle->expr);
		tle->resjunk = false;
		if (tle->resname == NULL)
			tle->resname = pstrdup("?column?");
	}
	if (versions->sortClause == NIL)
		legality_refuse(ac->cxt, location_of(ac, versions->limitCount), ASOF_HINT,
						"an as-of join without ORDER BY is not supported");
	foreach(lc, versions->sortClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *tle = get_sortgroupclause_tle(clause, versions->targetList);
		Var		   *var = column_var(ac, tle, exprLocation((Node *) tle->expr));

		if (foreach_current_index(lc) > 0)
		{
			if (contain_vars_of_level((Node *) tle->expr, 1))
				legality_refuse(ac->cxt, location_of(ac, (Node *) tle->expr), "Order the versions by columns of their own.",
								"an as-of join ordered by a column of the other side is not supported");
			join->pairs = lappend(join->pairs, var);
			join->sort_ops = lappend_oid(join->sort_ops, clause->sortop);
			join->nulls_first = lappend_int(join->nulls_first, clause->nulls_first);
			continue;
		}
		if (!legality_is_event_time((Node *) tle->expr, versions, ac->around))
			legality_refuse(ac->cxt, location_of(ac, (Node *) tle->expr), "Order them by the column that option event_time of the foreign table names, as it is, DESC; others may follow.",
							"an as-of join ordered by something else than the event time of the versions is not supported");
		if (get_op_opfamily_strategy(clause->sortop, lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf) != BTGreaterStrategyNumber)
			legality_refuse(ac->cxt, location_of(ac, (Node *) tle->expr), "Write DESC.",
							"an as-of join with the first version, not the last, is not supported");
		join->at[1] = var;
	}
	remove_order(versions);
}

/* ---- conditions of both sides ---- */

/* An expression of the subquery in terms of the query around it. */
static Node *
lift_mutator(Node *node, AsofContext *ac)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = copyObject((Var *) node);

		if (var->varlevelsup == 0)
			return (Node *) column_for(ac, (Expr *) node);
		var->varlevelsup--;
		return (Node *) var;
	}
	return expression_tree_mutator(node, lift_mutator, ac);
}

/* version's time <= the row's time, or < */
static bool
take_bound(AsofContext *ac, Node *node)
{
	StreamJoin *join = ac->join;
	OpExpr	   *op = (OpExpr *) node;
	Node	   *version;
	Node	   *row;
	int			strategy;

	if (!IsA(node, OpExpr) || list_length(op->args) != 2)
		return false;
	strategy = get_op_opfamily_strategy(op->opno, lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy == BTLessStrategyNumber || strategy == BTLessEqualStrategyNumber)
	{
		version = linitial(op->args);
		row = lsecond(op->args);
	}
	else if (strategy == BTGreaterStrategyNumber || strategy == BTGreaterEqualStrategyNumber)
	{
		version = lsecond(op->args);
		row = linitial(op->args);
	}
	else
		return false;
	if (!IsA(version, Var) || ((Var *) version)->varno != ac->varno || ((Var *) version)->varattno != join->at[1]->varattno ||
		legality_join_side(join, row) != 0)
		return false;
	if (!legality_is_event_time(row, ac->query, ac->outer))
		legality_refuse(ac->cxt, location_of(ac, row), "Compare with the column of the foreign table that option event_time names, as it is.",
						"an as-of join at another time than the event time of the row is not supported");
	if (ac->has_bound)
		return false;
	ac->has_bound = true;
	join->at[0] = copyObject((Var *) row);
	join->strict = strategy == BTLessStrategyNumber || strategy == BTGreaterStrategyNumber;
	return true;
}

/* Conditions of the subquery that look at the other side go, the others stay. */
static void
take_conditions(AsofContext *ac)
{
	Query	   *versions = ac->versions;
	List	   *own = NIL;
	ListCell   *lc;

	foreach(lc, legality_conjuncts(versions, versions->jointree->quals))
	{
		Node	   *node = lfirst(lc);
		Node	   *lifted;

		if (!contain_vars_of_level(node, 1))
		{
			own = lappend(own, node);
			continue;
		}
		lifted = contain_subplans(node) ? node : flatten_join_alias_vars(ac->query, lift_mutator(node, ac));
		if (!contain_subplans(node) && (take_bound(ac, lifted) || legality_take_key(ac->join, lifted, ac->cxt)))
			continue;
		legality_refuse(ac->cxt, location_of(ac, node), "Conditions on the versions alone may stand there; put those on a row and its version into the SELECT around.",
						"a condition in the subquery of an as-of join that looks at both sides, and is neither an equality nor the bound of event time, is not supported");
	}
	versions->jointree->quals = own != NIL ? (Node *) make_ands_explicit(own) : NULL;
	if (contain_vars_of_level((Node *) versions, 1))
		legality_refuse(ac->cxt, locate_var_of_level((Node *) versions, 1) >= 0 ? locate_var_of_level((Node *) versions, 1) : location_of(ac, NULL), VERSIONS_HINT,
						"a column of the other side in the subquery of an as-of join is only supported in its WHERE");
}

/* ---- the query around ---- */

static void
take_on(AsofContext *ac)
{
	StreamJoin *join = ac->join;
	ListCell   *lc;

	if (join->expr == NULL)
		return;
	foreach(lc, legality_conjuncts(ac->query, join->expr->quals))
	{
		Node	   *node = eval_const_expressions(NULL, lfirst(lc));

		if (IsA(node, Const) && !((Const *) node)->constisnull && DatumGetBool(((Const *) node)->constvalue))
			continue;
		/* of an inner join it is the same as WHERE */
		if (join->type != JOIN_INNER)
			legality_refuse(ac->cxt, exprLocation(lfirst(lc)) >= 0 ? exprLocation(lfirst(lc)) : join->location,
							"Write ON true; conditions on the versions into the subquery, others into WHERE, or CASE in the select list.",
							"a condition in ON of an as-of LEFT JOIN is not supported");
		join->above = lappend(join->above, lfirst(lc));
	}
}

static void
take_where(AsofContext *ac)
{
	StreamJoin *join = ac->join;
	ListCell   *lc;

	foreach(lc, legality_conjuncts(ac->query, ac->query->jointree->quals))
	{
		Node	   *node = lfirst(lc);

		/* which version it is must be known before others are asked */
		if (legality_join_side(join, node) == 0 && !contain_volatile_functions(node) && !contain_subplans(node))
			join->own[0] = lappend(join->own[0], node);
		else
			join->above = lappend(join->above, node);
	}
}

/* The versions are a side like others: no part of them looks at the other one. */
static void
exchange_versions(AsofContext *ac, RangeTblEntry *rte)
{
	ListCell   *lc;

	rte->subquery = ac->versions;
	rte->lateral = false;
	for_each_from(lc, ac->versions->targetList, list_length(rte->eref->colnames))
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(lfirst_node(TargetEntry, lc)->resname)));
}

StreamJoin *
legality_asof_join(Query *query, List *outer, CheckContext *cxt)
{
	bool		several;
	StreamJoin *join = legality_find_join(query, outer, &several);
	AsofContext ac = {cxt, query, outer, join};
	RangeTblEntry *rte;

	ac.varno = find_versions(query, outer);
	rte = rt_fetch(ac.varno, query->rtable);
	ac.versions = copyObject(rte->subquery);
	ac.around = legality_around(query, outer);
	join->asof = true;
	join->location = legality_query_location(ac.versions);
	if (several)
		legality_refuse(cxt, join->location, "Write the rows of one join into a topic, and join that with the third one.",
						"joining more than two topics in one SELECT is not supported");
	if (!IsA(join->item[1], RangeTblRef) || ((RangeTblRef *) join->item[1])->rtindex != ac.varno)
		legality_refuse(cxt, join->location, ASOF_HINT,
						"an as-of join whose subquery does not stand right behind the topic is not supported");
	if (contain_vars_of_level((Node *) query, 1))
		legality_refuse(cxt, join->location, "Join with the table in FROM, above.",
						"a join of topics that depends on the query around it is not supported");
	check_versions(&ac);
	take_order(&ac);
	legality_join_rels(join);
	take_conditions(&ac);
	exchange_versions(&ac, rte);
	legality_check_sides(join, query, outer, cxt);
	if (join->keys[0] == NIL)
		legality_refuse(cxt, join->location, ASOF_HINT, "an as-of join without an equality is not supported");
	if (!ac.has_bound)
		legality_refuse(cxt, join->location, ASOF_HINT, "an as-of join without a bound of event time is not supported");
	take_on(&ac);
	take_where(&ac);
	return join;
}

/* A query with an as-of join of two topics. */
void
legality_check_asof(Query *query, CheckContext *cxt, List *outer)
{
	(void) legality_asof_join(copyObject(query), outer, cxt);
	cxt->info->grouped = true;
	/* groups of the rows are judged by legality_check_groups() */
	if (!legality_is_grouped(query))
		cxt->info->over = true;
}

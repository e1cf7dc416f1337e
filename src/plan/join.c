/*-------------------------------------------------------------------------
 *
 * join.c
 *	  A join of two topics as a node of PostgreSQL's plans.
 *
 * Before planning, join_prepare() exchanges the join in FROM for a subquery
 *
 *		SELECT columns of both sides FROM
 *			(SELECT 0, keys, event time, place, columns of the left side, nulls FROM left side
 *			 UNION ALL
 *			 SELECT 1, keys, event time, place, nulls, columns of the right side FROM right side)
 *		OFFSET 0
 *
 * so the planner finds a query of rows of both sides, which is the row query of
 * the operator, and everything that stands above the join is planned around it.
 * OFFSET 0 keeps the subquery together; a junk column, named JOIN_MARKER and the
 * number of the operator, tells the hook (join_paths) to put the node on its top, which
 * gives out pairs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/prep.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

static const CustomPathMethods join_path_methods = {
	.CustomName = "Streamproc Join",
	.PlanCustomPath = keyed_plan_path,
};

/* columns of the union before the keys, and behind them */
#define UNION_SIDE		1
#define UNION_KEYS		2
#define UNION_AT(join)		(UNION_KEYS + list_length((join)->keys[0]))
#define UNION_PLACE(join)	(UNION_AT(join) + 1)
#define UNION_COLUMNS(join)	(UNION_AT(join) + 2)

/* levels of queries that come between the sides and the query that they stood in */
#define LEVELS			3

/* ---- the query's parts ---- */

static Node *
flatten_mutator(Node *node, Query *query)
{
	return flatten_join_alias_vars(query, node);
}

typedef struct ExchangeContext
{
	StreamJoin *join;
	List	   *columns;		/* Vars of both sides, as the query knew them */
	int			varno;			/* what they come from now */
	int			first;			/* and the number of the first one there */
	int			depth;
} ExchangeContext;

/* Columns of the sides become columns of the subquery. */
static Node *
exchange_mutator(Node *node, ExchangeContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		Var		   *own;
		int			number = 0;
		ListCell   *lc;

		if (var->varlevelsup != cxt->depth || (!bms_is_member(var->varno, cxt->join->rels[0]) && !bms_is_member(var->varno, cxt->join->rels[1])))
			return copyObject(node);
		own = makeVar(var->varno, var->varattno, var->vartype, var->vartypmod, var->varcollid, 0);
		if (var->vartype == RECORDOID)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a whole row of a subquery in a join of topics is not supported"),
					 errhint("Name its columns.")));
		foreach(lc, cxt->columns)
			if (equal(lfirst(lc), own))
				number = foreach_current_index(lc) + 1;
		if (number == 0)
		{
			cxt->columns = lappend(cxt->columns, own);
			number = list_length(cxt->columns);
		}
		return (Node *) makeVar(cxt->varno, (AttrNumber) (cxt->first + number - 1), var->vartype, var->vartypmod, var->varcollid, var->varlevelsup);
	}
	if (IsA(node, Query))
	{
		Query	   *result;

		cxt->depth++;
		result = query_tree_mutator((Query *) node, exchange_mutator, cxt, 0);
		cxt->depth--;
		return (Node *) result;
	}
	return expression_tree_mutator(node, exchange_mutator, cxt);
}

/* References to WITH queries of the query around count more levels now. */
static bool
raise_ctes(Node *node, int *depth)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && rte->ctelevelsup >= *depth)
			rte->ctelevelsup += LEVELS;
		return false;
	}
	if (IsA(node, Query))
	{
		(*depth)++;
		(void) query_tree_walker((Query *) node, raise_ctes, depth, QTW_EXAMINE_RTES_BEFORE);
		(*depth)--;
		return false;
	}
	return expression_tree_walker(node, raise_ctes, depth);
}

static RangeTblEntry *
nothing_entry(void)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RESULT;
	rte->eref = makeAlias("*JOINED*", NIL);
	return rte;
}

static RangeTblEntry *
subquery_entry(Query *subquery, const char *name)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ListCell   *lc;

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->eref = makeAlias(name, NIL);
	rte->inFromCl = true;
	foreach(lc, subquery->targetList)
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(lfirst_node(TargetEntry, lc)->resname)));
	return rte;
}

static Query *
make_query(List *rtable, FromExpr *from)
{
	Query	   *query = makeNode(Query);

	query->commandType = CMD_SELECT;
	query->querySource = QSRC_ORIGINAL;
	query->canSetTag = true;
	query->rtable = rtable;
	query->jointree = from;
	return query;
}

static RangeTblRef *
reference(int varno)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = varno;
	return ref;
}

static void
add_column(Query *query, Expr *expr, const char *name, bool junk)
{
	query->targetList = lappend(query->targetList, makeTargetEntry(expr, list_length(query->targetList) + 1, pstrdup(name), junk));
}

/* A query of the rows of one side; its select list is to come. */
static Query *
side_query(Query *query, StreamJoin *join, int side)
{
	List	   *rtable = NIL;
	Query	   *sub;
	ListCell   *lc;
	int			depth = 0;

	foreach(lc, query->rtable)
		rtable = lappend(rtable, bms_is_member(foreach_current_index(lc) + 1, join->all_rels[side]) ?
						 copyObject(lfirst(lc)) : nothing_entry());
	sub = make_query(rtable, makeFromExpr(list_make1(copyObject(join->item[side])), (Node *) make_ands_explicit(copyObject(join->own[side]))));
	if (join->own[side] == NIL)
		sub->jointree->quals = NULL;
	sub->hasSubLinks = query->hasSubLinks;
	sub->hasRowSecurity = query->hasRowSecurity;
	(void) query_tree_walker(sub, raise_ctes, &depth, QTW_EXAMINE_RTES_BEFORE);
	return sub;
}

/* Columns of joins around are named by nobody: they would count as used. */
static void
forget_aliases(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_JOIN)
			continue;
		rte->joinaliasvars = rte->joinleftcols = rte->joinrightcols = NIL;
		rte->joinmergedcols = 0;
	}
}

/* ---- names ---- */

/* What of the rows is kept and compared, as text: see describe_groups(). */
static char *
describe_join(Query *sides[2], StreamJoin *join)
{
	static const char *const names[] = {[JOIN_INNER] = "INNER", [JOIN_LEFT] = "LEFT", [JOIN_FULL] = "FULL"};
	StringInfoData text;
	int			s;

	initStringInfo(&text);
	for (s = 0; s < 2; s++)
	{
		Query	   *bare = copyObject(sides[s]);
		List	   *tlist = NIL;
		ListCell   *lc;

		foreach(lc, bare->targetList)
		{
			TargetEntry *tle = lfirst(lc);

			if (IsA(tle->expr, Const) || tle->resno == UNION_PLACE(join))
				continue;
			tle->resno = list_length(tlist) + 1;
			tle->resname = NULL;
			tlist = lappend(tlist, tle);
		}
		bare->targetList = tlist;
		bare->jointree->quals = NULL;
		appendStringInfo(&text, "%s%s", s == 0 ? "" : psprintf(" %s%s JOIN ", join->asof ? "AS-OF " : "", names[join->type]), keyed_select_list(bare));
	}
	return text.data;
}

/* ---- preparing ---- */

static Node *
replace_item(Node *node, Node *from, Node *to)
{
	ListCell   *lc;

	if (node == from)
		return to;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *expr = (JoinExpr *) node;

		expr->larg = replace_item(expr->larg, from, to);
		expr->rarg = replace_item(expr->rarg, from, to);
	}
	else if (IsA(node, FromExpr))
		foreach(lc, ((FromExpr *) node)->fromlist)
			lfirst(lc) = replace_item(lfirst(lc), from, to);
	return node;
}

/* The names of the columns: groups above are told from others by them, see describe_groups(). */
static List *
column_names(const StreamJoin *join, List *columns, List *rtable)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		Var		   *var = lfirst_node(Var, lc);

		names = lappend(names, psprintf("%s.%s", bms_is_member(var->varno, join->rels[0]) ? "left" : "right",
										get_rte_attribute_name(rt_fetch(var->varno, rtable), var->varattno)));
	}
	return names;
}

/* The union of both sides; columns: as they stand in the query. */
static Query *
union_query(Query *sides[2], StreamJoin *join, List *columns, List *names, Query *wrapper, Query *query, List *outer)
{
	Query	   *both = make_query(NIL, makeFromExpr(NIL, NULL));
	List	   *around = legality_around(both, legality_around(wrapper, legality_around(query, outer)));
	SetOperationStmt *op = makeNode(SetOperationStmt);
	ListCell   *lc;
	int			s;

	for (s = 0; s < 2; s++)
	{
		keyed_put_ctes_in(sides[s], around);
		add_column(sides[s], (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(s), false, true), "side", false);
		foreach(lc, join->keys[s])
			add_column(sides[s], copyObject(lfirst(lc)), psprintf("key%d", foreach_current_index(lc) + 1), false);
		add_column(sides[s], (Expr *) copyObject(join->at[s]), "at", false);
		add_column(sides[s], (Expr *) keyed_expose_place(sides[s], around), KEYED_PLACE_NAME, false);
		foreach(lc, columns)
		{
			Var		   *var = lfirst_node(Var, lc);

			add_column(sides[s], bms_is_member(var->varno, join->rels[s]) ? (Expr *) copyObject(var) :
					   (Expr *) makeNullConst(var->vartype, var->vartypmod, var->varcollid),
					   list_nth(names, foreach_current_index(lc)), false);
		}
		both->rtable = lappend(both->rtable, subquery_entry(sides[s], s == 0 ? "left" : "right"));
	}
	op->op = SETOP_UNION;
	op->all = true;
	op->larg = (Node *) reference(1);
	op->rarg = (Node *) reference(2);
	foreach(lc, sides[0]->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		Node	   *other = (Node *) list_nth_node(TargetEntry, sides[1]->targetList, foreach_current_index(lc))->expr;
		int32		typmod = exprTypmod((Node *) tle->expr) == exprTypmod(other) ? exprTypmod(other) : -1;

		op->colTypes = lappend_oid(op->colTypes, exprType(other));
		op->colTypmods = lappend_int(op->colTypmods, typmod);
		op->colCollations = lappend_oid(op->colCollations, exprCollation((Node *) tle->expr));
		add_column(both, (Expr *) makeVar(1, tle->resno, exprType(other), typmod, exprCollation((Node *) tle->expr), 0), tle->resname, false);
	}
	both->setOperations = (Node *) op;
	return both;
}

static void
add_union_column(Query *wrapper, Query *both, int number, const char *name, bool junk)
{
	Node	   *expr = (Node *) list_nth_node(TargetEntry, both->targetList, number - 1)->expr;

	add_column(wrapper, (Expr *) makeVar(1, number, exprType(expr), exprTypmod(expr), exprCollation(expr), 0), name, junk);
}

static void
remember(KeyedNode *node, StreamJoin *join, List *columns, List *pairs)
{
	JoinNode   *kept = palloc0(sizeof(JoinNode));
	ListCell   *lc;
	int			i;

	kept->plan.outer[0] = join->type != JOIN_INNER;
	kept->plan.outer[1] = join->type == JOIN_FULL;
	kept->plan.low = join->low;
	kept->plan.high = join->high;
	kept->nkeys = list_length(join->keys[0]);
	for (i = 0; i < list_length(columns); i++)
		kept->sides = lappend_int(kept->sides, bms_is_member(list_nth_node(Var, columns, i)->varno, join->rels[1]));
	/* the planner does not see them before they are part of a plan */
	foreach(lc, pairs)
		kept->condition = list_concat(kept->condition, make_ands_implicit((Expr *) eval_const_expressions(NULL, copyObject(lfirst(lc)))));
	kept->asof = asof_plan(join);
	node->join = kept;
}

void
join_prepare(Query *query, List *outer, Program *program)
{
	int			number = program->nkeyed;
	MemoryContext old;
	CheckContext check = {0};
	StreamJoin *join;
	ExchangeContext exchange = {0};
	Query	   *sides[2];
	Query	   *wrapper;
	Query	   *both;
	List	   *pairs;
	List	   *names;
	List	   *rtable;
	int			nabove;
	int			varno;
	int			s;
	int			i;

	/* no column may be named by a join that goes */
	*query = *query_tree_mutator(query, flatten_mutator, query, 0);
	join = legality_is_asof(query, outer) ? legality_asof_join(query, outer, &check) : legality_topic_join(query, outer, &check);
	for (s = 0; s < 2; s++)
		sides[s] = side_query(query, join, s);

	rtable = list_copy(query->rtable);

	/* the subquery's place in the query */
	varno = list_length(query->rtable) + 1;
	if (join->expr != NULL)
		(void) replace_item((Node *) query->jointree, (Node *) join->expr, (Node *) reference(varno));
	else
	{
		(void) replace_item((Node *) query->jointree, join->item[0], (Node *) reference(varno));
		query->jointree->fromlist = list_delete_ptr(query->jointree->fromlist, join->item[1]);
	}
	query->jointree->quals = join->above != NIL ? (Node *) make_ands_explicit(join->above) : NULL;
	for (i = 1; i < varno; i++)
		if (bms_is_member(i, join->all_rels[0]) || bms_is_member(i, join->all_rels[1]) || (join->expr != NULL && i == join->expr->rtindex))
			lfirst(list_nth_cell(query->rtable, i - 1)) = nothing_entry();
	forget_aliases(query);

	/* what stands above takes its columns from there; conditions of pairs those of the union */
	exchange.join = join;
	exchange.varno = varno;
	exchange.first = 1;
	*query = *query_tree_mutator(query, exchange_mutator, &exchange, 0);
	nabove = list_length(exchange.columns);
	exchange.varno = 1;
	exchange.first = UNION_COLUMNS(join);
	pairs = (List *) exchange_mutator((Node *) join->pairs, &exchange);

	names = column_names(join, exchange.columns, rtable);
	wrapper = make_query(NIL, makeFromExpr(list_make1(reference(1)), NULL));
	both = union_query(sides, join, exchange.columns, names, wrapper, query, outer);
	wrapper->rtable = list_make1(subquery_entry(both, "sides"));
	for (i = 0; i < nabove; i++)
		add_union_column(wrapper, both, UNION_COLUMNS(join) + i, list_nth(names, i), false);
	add_union_column(wrapper, both, UNION_PLACE(join), KEYED_PLACE_NAME, false);
	for (i = nabove; i < list_length(exchange.columns); i++)
		add_union_column(wrapper, both, UNION_COLUMNS(join) + i, list_nth(names, i), true);
	for (i = 1; i < UNION_PLACE(join); i++)
		add_union_column(wrapper, both, i, "joined by", true);
	add_union_column(wrapper, both, UNION_PLACE(join), psprintf(JOIN_MARKER "%d", number), true);
	wrapper->limitOffset = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, FLOAT8PASSBYVAL);
	query->rtable = lappend(query->rtable, subquery_entry(wrapper, "joined topics"));

	old = MemoryContextSwitchTo(program->cxt);
	program->keyed[number].text = pstrdup(describe_join(sides, join));
	remember(&program->keyed[number], join, exchange.columns, pairs);
	MemoryContextSwitchTo(old);
	program->nkeyed++;
}

bool
join_is_prepared(const Query *query)
{
	const TargetEntry *last = query->targetList != NIL ? llast(query->targetList) : NULL;

	return last != NULL && last->resjunk && last->resname != NULL && strncmp(last->resname, JOIN_MARKER, strlen(JOIN_MARKER)) == 0;
}

static bool
find_prepared(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return join_is_prepared((Query *) node) || query_tree_walker((Query *) node, find_prepared, context, 0);
	return expression_tree_walker(node, find_prepared, context);
}

/* What PostgreSQL writes a query's text from must be as the parser makes it, also in what is not written. */
void
join_leave_out(Query *query)
{
	bool		own = false;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Query	   *stub;
		ListCell   *lt;

		if (rte->rtekind != RTE_SUBQUERY || !find_prepared((Node *) rte->subquery, NULL))
			continue;
		own |= join_is_prepared(rte->subquery);
		stub = make_query(NIL, makeFromExpr(NIL, NULL));
		foreach(lt, rte->subquery->targetList)
		{
			TargetEntry *tle = lfirst_node(TargetEntry, lt);

			if (!tle->resjunk)
				add_column(stub, (Expr *) makeNullConst(exprType((Node *) tle->expr), -1, exprCollation((Node *) tle->expr)), tle->resname, false);
		}
		rte->subquery = stub;
	}
	/* where joins stand above it nobody names their columns: see join_prepare() */
	foreach(lc, query->rtable)
		if (own && lfirst_node(RangeTblEntry, lc)->rtekind == RTE_JOIN)
			lfirst(lc) = nothing_entry();
	if (own)
		query->jointree = makeFromExpr(NIL, NULL);
}

int
join_side_of(Node *node, Query *query, Program *program)
{
	Var		   *var = (Var *) node;
	RangeTblEntry *rte;
	TargetEntry *tle;
	JoinNode   *join;

	check_stack_depth();
	if (!IsA(node, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return 2;
	rte = rt_fetch(var->varno, query->rtable);
	if (rte->rtekind == RTE_JOIN)
		return join_side_of(list_nth(rte->joinaliasvars, var->varattno - 1), query, program);
	tle = rte->rtekind == RTE_SUBQUERY ? get_tle_by_resno(rte->subquery->targetList, var->varattno) : NULL;
	if (tle == NULL)
		return 2;
	if (!join_is_prepared(rte->subquery))
		return join_side_of((Node *) tle->expr, rte->subquery, program);
	join = program->keyed[atoi(llast_node(TargetEntry, rte->subquery->targetList)->resname + strlen(JOIN_MARKER))].join;
	return list_nth_int(join->sides, castNode(Var, tle->expr)->varattno - (UNION_KEYS + join->nkeys + 2));
}

/* ---- planning ---- */

static Const *
interval_const(const Interval *interval)
{
	Interval   *copy = palloc(sizeof(Interval));

	*copy = *interval;
	return makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval), IntervalPGetDatum(copy), false, false);
}

void
join_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output)
{
	TargetEntry *marker = keyed_find_marker(root, JOIN_MARKER);
	PathTarget *result = root->upper_targets[UPPERREL_FINAL];
	PathTarget *target;
	List	   *vars;
	List	   *eqops = NIL;
	List	   *out = NIL;
	List	   *tlist = NIL;
	List	   *private;
	List	   *item;
	JoinNode   *node;
	CustomPath *path;
	int			number;
	int			ncolumns[2] = {0, 0};
	int			first;
	int			side;
	ListCell   *lc;

	if (marker == NULL)
		return;
	number = atoi(marker->resname + strlen(JOIN_MARKER));
	node = keyed_planning->keyed[number].join;
	/* the columns that are still wanted: the planner may have left some out */
	vars = pull_var_clause((Node *) result->exprs, 0);
	first = UNION_KEYS + node->nkeys + 2;

	target = create_empty_pathtarget();
	for (side = 0; side < node->nkeys; side++)
		eqops = lappend_oid(eqops, InvalidOid);
	/* keys, event time, place, side */
	for (int attno = UNION_KEYS; attno < first; attno++)
		foreach(lc, vars)
			if (lfirst_node(Var, lc)->varattno == attno)
			{
				(void) keyed_target_column(target, lfirst(lc));
				break;
			}
	foreach(lc, vars)
		if (lfirst_node(Var, lc)->varattno == UNION_SIDE)
			(void) keyed_target_column(target, lfirst(lc));
	if (list_length(target->exprs) != node->nkeys + 3)
		elog(ERROR, "a join of topics has lost its keys");
	for (side = 0; side < 2; side++)
		foreach(lc, vars)
		{
			Var		   *var = lfirst_node(Var, lc);
			int			before = list_length(target->exprs);
			int			column;

			if (var->varattno < first || list_nth_int(node->sides, var->varattno - first) != side)
				continue;
			column = keyed_target_column(target, (Expr *) var);
			if (column < before)
				continue;
			out = lappend_int(lappend_int(out, OUTPUT_COLUMN), column);
			tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(var), list_length(tlist) + 1, NULL, false));
			ncolumns[side]++;
		}
	/* what the node's junk columns are made of */
	foreach(lc, target->exprs)
	{
		if (foreach_current_index(lc) >= node->nkeys + 3)
			break;
		out = lappend_int(lappend_int(out, OUTPUT_NOTHING), foreach_current_index(lc));
		tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(lfirst(lc)), list_length(tlist) + 1, NULL, false));
	}

	/* as keyed.c reads it: see KeyedItem there */
	private = list_make5(makeInteger(number), NULL, list_make3_int(node->nkeys, node->nkeys, node->nkeys + 1), eqops, out);
	private = list_concat(private, list_make5(NIL, NIL, NIL, NIL, NIL));
	item = list_make3(list_make4_int(node->plan.outer[0], node->plan.outer[1], ncolumns[0], ncolumns[1]),
					  list_make4_int(node->plan.low.shifted, node->plan.low.strict, node->plan.high.shifted, node->plan.high.strict),
					  list_make2(interval_const(&node->plan.low.by), interval_const(&node->plan.high.by)));
	private = lappend(private, asof_write(node->asof, item));
	private = lappend(private, NIL);

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = result;
	path->path.rows = input->cheapest_total_path->rows;
	path->path.startup_cost = path->path.total_cost = input->cheapest_total_path->total_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_paths = list_make1(create_projection_path(root, input, input->cheapest_total_path, target));
	path->custom_private = list_make1(list_make2(private, list_make3(tlist, NIL, copyObject(node->condition))));
	path->methods = &join_path_methods;
	output->pathlist = list_make1(path);
	output->partial_pathlist = NIL;
}

/* ---- what the plan says ---- */

JoinPlan *
join_read(List *private, int side_column)
{
	JoinPlan   *plan = palloc0(sizeof(JoinPlan));
	List	   *sides = linitial(private);
	List	   *bounds = lsecond(private);
	List	   *intervals = lthird(private);

	plan->side_column = side_column;
	plan->outer[0] = linitial_int(sides) != 0;
	plan->outer[1] = lsecond_int(sides) != 0;
	plan->ncolumns[0] = lthird_int(sides);
	plan->ncolumns[1] = lfourth_int(sides);
	plan->low.shifted = linitial_int(bounds);
	plan->low.strict = lsecond_int(bounds) != 0;
	plan->low.by = *DatumGetIntervalP(linitial_node(Const, intervals)->constvalue);
	plan->high.shifted = lthird_int(bounds);
	plan->high.strict = lfourth_int(bounds) != 0;
	plan->high.by = *DatumGetIntervalP(lsecond_node(Const, intervals)->constvalue);
	return plan;
}

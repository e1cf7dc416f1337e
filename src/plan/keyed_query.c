/*-------------------------------------------------------------------------
 *
 * keyed_query.c
 *	  A statement is prepared for the planner: what the operator will need is
 *	  made part of the Query, so that the planner carries it through whatever
 *	  joins and subqueries there are.
 *
 * Each SELECT that groups the rows of a topic gets one more condition in
 * HAVING: the aggregate streamproc.place(number, ctid of the topic's row, event
 * time).  It names the operator, and its argument is what errors and late rows are traced
 * back to their message by.  The hook (keyed.c) takes it out again.
 *
 * hop() and cumulate() give several rows for each message.  Where their
 * windows are grouped by, they are exchanged for functions that give one, the
 * slice; the operator makes windows of slices.  For session() see session.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/sysattr.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#define PLACE_NAME "streamproc_place"

static Oid
extension_function(const char *name, int nargs, const Oid *types)
{
	oidvector  *args = buildoidvector(types, nargs);
	Oid			schema = get_namespace_oid("streamproc", false);
	Oid			function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
										   PointerGetDatum(args), ObjectIdGetDatum(schema));

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function streamproc.%s does not exist", name),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return function;
}

Oid
keyed_place_aggregate(void)
{
	return extension_function("place", 3, (Oid[]) {INT4OID, TIDOID, TIMESTAMPTZOID});
}

Oid
keyed_session_slice(void)
{
	return extension_function("session_slice", 3, (Oid[]) {TIMESTAMPTZOID, INTERVALOID, INTERVALOID});
}

WindowFunction
window_function(Oid function)
{
	static const struct
	{
		const char *name;
		WindowFunction function;
	}			names[] =
	{
		{"tumble", FUNCTION_TUMBLE},
		{"hop", FUNCTION_HOP},
		{"cumulate", FUNCTION_CUMULATE},
		{"tumble_start", FUNCTION_TUMBLE_START},
		{"tumble_end", FUNCTION_TUMBLE_END},
		{"hop_slice_start", FUNCTION_HOP_START},
		{"hop_slice_end", FUNCTION_HOP_END},
		{"cumulate_slice_start", FUNCTION_CUMULATE_START},
		{"cumulate_slice_end", FUNCTION_CUMULATE_END},
		{"session", FUNCTION_SESSION},
		{"session_slice", FUNCTION_SESSION_SLICE},
	};
	char	   *name;
	int			i;

	/* functions of PostgreSQL itself are most of those that are asked for */
	if (function < FirstNormalObjectId || get_func_namespace(function) != get_namespace_oid("streamproc", true))
		return WINDOW_FUNCTION_NONE;
	name = get_func_name(function);
	for (i = 0; i < (int) lengthof(names); i++)
		if (strcmp(name, names[i].name) == 0)
			return names[i].function;
	return WINDOW_FUNCTION_NONE;
}

/* All arguments in their order, named ones and defaults too. */
List *
window_arguments(FuncExpr *call)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	List	   *args;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	args = expand_function_arguments(call->args, false, call->funcresulttype, tuple);
	ReleaseSysCache(tuple);
	return args;
}

/* ---- the place of the message ---- */

static Var *expose_place(Query *query, List *outer);

/* One more column of the query's result; its number. */
static AttrNumber
add_column(Query *query, Var *var)
{
	AttrNumber	resno = list_length(query->targetList) + 1;

	query->targetList = lappend(query->targetList, makeTargetEntry((Expr *) var, resno, pstrdup(PLACE_NAME), false));
	return resno;
}

static AttrNumber
place_column_of(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resname != NULL && strcmp(tle->resname, PLACE_NAME) == 0)
			return tle->resno;
	}
	return InvalidAttrNumber;
}

static void
add_setop_column(Node *node)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (!IsA(node, SetOperationStmt))
		return;
	op->colTypes = lappend_oid(op->colTypes, TIDOID);
	op->colTypmods = lappend_int(op->colTypmods, -1);
	op->colCollations = lappend_oid(op->colCollations, InvalidOid);
	add_setop_column(op->larg);
	add_setop_column(op->rarg);
}

/* The query gives out the place of the message too; the column. */
static AttrNumber
place_as_column(Query *query, List *outer)
{
	AttrNumber	column = place_column_of(query);
	ListCell   *lc;
	int			first = 0;

	check_stack_depth();
	if (column != InvalidAttrNumber)
		return column;
	if (query->setOperations == NULL)
		return add_column(query, expose_place(query, outer));
	/* UNION ALL: each branch reads a topic; its branches are its whole range table */
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_SUBQUERY || !legality_rte_reads_topic(rte, query, outer))
			continue;
		column = place_as_column(rte->subquery, legality_around(query, outer));
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(PLACE_NAME)));
		if (first == 0)
			first = foreach_current_index(lc) + 1;
	}
	add_setop_column(query->setOperations);
	return add_column(query, makeVar(first, column, TIDOID, -1, InvalidOid, 0));
}

/* The place as an expression of the query itself. */
static Var *
expose_place(Query *query, List *outer)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Index		varno = foreach_current_index(lc) + 1;
		AttrNumber	column;

		if (!legality_in_from(query, varno) || !legality_rte_reads_topic(rte, query, outer))
			continue;
		if (rte->rtekind == RTE_RELATION)
			return makeVar(varno, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0);
		if (rte->rtekind == RTE_SUBQUERY)
		{
			column = place_as_column(rte->subquery, legality_around(query, outer));
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(PLACE_NAME)));
			return makeVar(varno, column, TIDOID, -1, InvalidOid, 0);
		}
		if (rte->rtekind == RTE_CTE)
		{
			Query	   *home;
			List	   *home_outer;
			CommonTableExpr *cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			Query	   *sub = castNode(Query, cte->ctequery);
			bool		fresh = place_column_of(sub) == InvalidAttrNumber;

			column = place_as_column(sub, legality_around(home, home_outer));
			if (fresh)
			{
				cte->ctecolnames = lappend(cte->ctecolnames, makeString(pstrdup(PLACE_NAME)));
				cte->ctecoltypes = lappend_oid(cte->ctecoltypes, TIDOID);
				cte->ctecoltypmods = lappend_int(cte->ctecoltypmods, -1);
				cte->ctecolcollations = lappend_oid(cte->ctecolcollations, InvalidOid);
			}
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(PLACE_NAME)));
			rte->coltypes = lappend_oid(rte->coltypes, TIDOID);
			rte->coltypmods = lappend_int(rte->coltypmods, -1);
			rte->colcollations = lappend_oid(rte->colcollations, InvalidOid);
			return makeVar(varno, column, TIDOID, -1, InvalidOid, 0);
		}
	}
	elog(ERROR, "a query that groups a topic does not read one");
}

/*
 * What the window is made of, where that is to be had in this query; under
 * grouping sets the planner would carry only the window itself.
 */
static Expr *
event_time_of_window(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);
		FuncExpr   *call = legality_window_of_group(expr, query);
		Node	   *at;

		if (call == NULL || (IsA(expr, Var) && rt_fetch(((Var *) expr)->varno, query->rtable)->rtekind != RTE_FUNCTION))
			continue;
		at = linitial(window_arguments(call));
		if (IsA(at, Var) && ((Var *) at)->varlevelsup == 0)
			return copyObject((Expr *) at);
		/* LATERAL: the function's arguments are of this query, seen from below */
		if (IsA(at, Var) && ((Var *) at)->varlevelsup == 1)
		{
			Var		   *var = copyObject((Var *) at);

			var->varlevelsup = 0;
			return (Expr *) var;
		}
	}
	return (Expr *) makeNullConst(TIMESTAMPTZOID, -1, InvalidOid);
}

static void
add_marker(Query *query, List *outer, int number, Expr *at)
{
	Aggref	   *marker = makeNode(Aggref);
	Const	   *op = makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(number), false, true);

	marker->aggfnoid = keyed_place_aggregate();
	marker->aggtype = BOOLOID;
	marker->aggargtypes = list_make3_oid(INT4OID, TIDOID, TIMESTAMPTZOID);
	marker->args = list_make3(makeTargetEntry((Expr *) op, 1, NULL, false),
							  makeTargetEntry((Expr *) expose_place(query, outer), 2, NULL, false),
							  makeTargetEntry(at, 3, NULL, false));
	marker->aggkind = AGGKIND_NORMAL;
	marker->aggsplit = AGGSPLIT_SIMPLE;
	marker->aggno = marker->aggtransno = -1;
	marker->location = -1;
	query->havingQual = make_and_qual(query->havingQual, (Node *) marker);
	query->hasAggs = true;
}

/* ---- window functions ---- */

/* The functions and their windows as text, as describe_groups() does. */
static char *
describe_over(Query *query)
{
	Query	   *bare = copyObject(query);
	OverrideSearchPath path = {NIL, true, false};
	List	   *tlist = NIL;
	ListCell   *lc;
	char	   *text;
	char	   *from;

	/* written out with each function */
	foreach(lc, bare->windowClause)
		lfirst_node(WindowClause, lc)->name = NULL;
	foreach(lc, bare->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!contain_window_function((Node *) tle->expr) && tle->ressortgroupref == 0)
			continue;
		tle->resno = list_length(tlist) + 1;
		tle->resjunk = false;
		tle->resname = NULL;
		tlist = lappend(tlist, tle);
	}
	bare->targetList = tlist;
	bare->sortClause = NIL;
	bare->cteList = NIL;
	PushOverrideSearchPath(&path);
	text = pg_get_querydef(bare, true);
	PopOverrideSearchPath();
	for (from = text; (from = strchr(from, '\n')) != NULL; from++)
		if (strncmp(from + 1 + strspn(from + 1, " "), "FROM ", 5) == 0)
		{
			*from = '\0';
			break;
		}
	return text;
}

static void
add_over_marker(Query *query, List *outer, int number, bool first)
{
	query->targetList = lappend(query->targetList,
								makeTargetEntry((Expr *) expose_place(query, outer), list_length(query->targetList) + 1,
												psprintf(OVER_MARKER "%d%s", number, first ? OVER_MARKER_FIRST : ""), true));
}

/*
 * SELECT DISTINCT ON (keys) ... ORDER BY keys, event time: the rows whose
 * row_number() OVER (PARTITION BY keys ORDER BY event time) is 1.  The condition goes
 * where the planner puts such ones.
 */
static void
first_rows(Query *query)
{
	WindowClause *window = makeNode(WindowClause);
	WindowFunc *number = makeNode(WindowFunc);

	window->partitionClause = query->distinctClause;
	window->orderClause = list_make1(llast(query->sortClause));
	window->frameOptions = FRAMEOPTION_DEFAULTS;
	window->winref = 1;
	number->winfnoid = F_ROW_NUMBER;
	number->wintype = INT8OID;
	number->winref = 1;
	number->location = -1;
	window->runCondition = list_make1(make_opclause(lookup_type_cache(INT8OID, TYPECACHE_EQ_OPR)->eq_opr, BOOLOID, false, (Expr *) copyObject(number),
													(Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(1), false, FLOAT8PASSBYVAL),
													InvalidOid, InvalidOid));
	set_opfuncid(linitial(window->runCondition));
	query->windowClause = list_make1(window);
	query->hasWindowFuncs = true;
	query->targetList = lappend(query->targetList,
								makeTargetEntry((Expr *) number, list_length(query->targetList) + 1, pstrdup("row_number"), true));
	query->distinctClause = NIL;
	query->hasDistinctOn = false;
	query->sortClause = NIL;
}

/* ---- slices ---- */

typedef struct WindowUse
{
	int			varno;
	bool		in_aggregate;
	bool		elsewhere;
} WindowUse;

static bool
window_use_walker(Node *node, WindowUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varno == use->varno && var->varlevelsup == 0)
			use->elsewhere = true;
		return false;
	}
	return expression_tree_walker(node, window_use_walker, use);
}

static bool
aggregate_use_walker(Node *node, WindowUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		WindowUse	inner = {use->varno};

		(void) expression_tree_walker(node, window_use_walker, &inner);
		use->in_aggregate |= inner.elsewhere;
		return false;
	}
	return expression_tree_walker(node, aggregate_use_walker, use);
}

/* Is column "attno" of the FROM item grouped by? */
static bool
grouped_by(Query *query, int varno, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (IsA(expr, Var) && ((Var *) expr)->varno == varno && ((Var *) expr)->varattno == attno &&
			((Var *) expr)->varlevelsup == 0)
			return true;
	}
	return false;
}

static void
exchange_slices(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		int			varno = foreach_current_index(lc) + 1;
		WindowUse	use = {varno};
		FuncExpr   *call;
		WindowFunction function;
		const char *name;

		if (rte->rtekind != RTE_FUNCTION || list_length(rte->functions) != 1 || rte->funcordinality)
			continue;
		call = (FuncExpr *) ((RangeTblFunction *) linitial(rte->functions))->funcexpr;
		function = IsA(call, FuncExpr) ? window_function(call->funcid) : WINDOW_FUNCTION_NONE;
		if (function != FUNCTION_HOP && function != FUNCTION_CUMULATE)
			continue;
		/* only filtered or counted, a window is a row like any other */
		if (!grouped_by(query, varno, 1) && !grouped_by(query, varno, 2))
			continue;
		name = function == FUNCTION_HOP ? "hop" : "cumulate";
		if (function == FUNCTION_CUMULATE && !grouped_by(query, varno, 2))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("windows of cumulate() that are grouped only by window_start are not supported in a pipeline"),
					 errhint("GROUP BY window_start, window_end.")));
		(void) window_use_walker((Node *) query->jointree, &use);
		(void) aggregate_use_walker((Node *) query->targetList, &use);
		(void) aggregate_use_walker(query->havingQual, &use);
		if (use.elsewhere || use.in_aggregate)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("window_start and window_end of %s() in WHERE, JOIN or in an aggregate are not supported in a pipeline", name),
					 errhint("Use them in GROUP BY and the select list.")));
		call->args = window_arguments(call);
		call->funcid = extension_function(function == FUNCTION_HOP ? "hop_slice" : "cumulate_slice", 5,
										  (Oid[]) {TIMESTAMPTZOID, INTERVALOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID});
	}
}

/* ---- what it groups by ---- */

static bool
collect_aggregates(Node *node, List **aggs)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		*aggs = list_append_unique(*aggs, node);
		return false;
	}
	return expression_tree_walker(node, collect_aggregates, aggs);
}

/*
 * The select list of the query, reduced to what it groups by and its
 * aggregates, as text: two queries that differ there do not share state.  What
 * it reads, filters or makes of the results may change.
 */
static char *
describe_groups(Query *query)
{
	Query	   *bare = copyObject(query);
	OverrideSearchPath path = {NIL, true, false};
	List	   *aggs = NIL;
	List	   *tlist = NIL;
	char	   *text;
	char	   *from;
	ListCell   *lc;

	(void) collect_aggregates((Node *) bare->targetList, &aggs);
	(void) collect_aggregates(bare->havingQual, &aggs);
	foreach(lc, bare->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->ressortgroupref == 0)
			continue;
		tle->resno = list_length(tlist) + 1;
		tle->resjunk = false;
		tle->resname = NULL;
		tlist = lappend(tlist, tle);
	}
	foreach(lc, aggs)
		tlist = lappend(tlist, makeTargetEntry(lfirst(lc), list_length(tlist) + 1, NULL, false));
	bare->targetList = tlist;
	bare->havingQual = NULL;
	bare->sortClause = NIL;
	bare->cteList = NIL;
	/* the same wherever it is asked for */
	PushOverrideSearchPath(&path);
	text = pg_get_querydef(bare, true);
	PopOverrideSearchPath();
	/* a line of its own: what it reads does not matter */
	for (from = text; (from = strchr(from, '\n')) != NULL; from++)
		if (strncmp(from + 1 + strspn(from + 1, " "), "FROM ", 5) == 0)
		{
			*from = '\0';
			break;
		}
	return text;
}

/* ---- the order of the rows ---- */

/* The index whose order rows are best written in: the primary key, or any over plain columns. */
static Oid
index_to_follow(Relation sink)
{
	Oid			found = RelationGetPrimaryKeyIndex(sink);
	ListCell   *lc;

	if (OidIsValid(found))
		return found;
	foreach(lc, RelationGetIndexList(sink))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		bool		plain = index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid;
		int			i;

		for (i = 0; i < index->rd_index->indnkeyatts; i++)
			plain &= index->rd_index->indkey.values[i] > 0;
		if (plain && !OidIsValid(found))
			found = lfirst_oid(lc);
		index_close(index, NoLock);
	}
	return found;
}

/*
 * Groups are given out in the order of their hashes: each row would go to
 * another page of the sink's index.  Sorted, neighbours find their page in the processor's cache,
 * and 5 us become 1 or 2.
 */
void
keyed_sort_for_sink(Query *insert, Relation sink)
{
	Oid			index_oid = index_to_follow(sink);
	Relation	index;
	int			i;

	if (!OidIsValid(index_oid) || insert->sortClause != NIL || insert->onConflict != NULL)
		return;
	index = index_open(index_oid, AccessShareLock);
	for (i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		ListCell   *lc;

		foreach(lc, insert->targetList)
		{
			TargetEntry *tle = lfirst(lc);
			SortGroupClause *clause;
			Oid			sortop;
			Oid			eqop;
			bool		hashable;

			if (tle->resno != index->rd_index->indkey.values[i] || IsA(tle->expr, Const))
				continue;
			get_sort_group_operators(exprType((Node *) tle->expr), false, false, false, &sortop, &eqop, NULL, &hashable);
			if (!OidIsValid(sortop) || !OidIsValid(eqop))
				continue;
			clause = makeNode(SortGroupClause);
			clause->tleSortGroupRef = assignSortGroupRef(tle, insert->targetList);
			clause->sortop = sortop;
			clause->eqop = eqop;
			clause->hashable = hashable;
			insert->sortClause = lappend(insert->sortClause, clause);
		}
	}
	index_close(index, NoLock);
}

/* ---- WITH ---- */

/*
 * A WITH query over a topic that holds no groups becomes a subquery, also where it
 * is MATERIALIZED: kept apart it would be started with the output, too, where there is
 * nothing to read.
 */
static void
inline_rows(Query *query, List *outer)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Query	   *home;
		List	   *home_outer;
		CommonTableExpr *cte;
		Query	   *sub;

		if (rte->rtekind != RTE_CTE || !legality_rte_reads_topic(rte, query, outer) || legality_has_groups(rte, query, outer))
			continue;
		cte = legality_find_cte(rte, query, outer, &home, &home_outer);
		sub = castNode(Query, cte->ctequery);
		if (sub->commandType != CMD_SELECT || (cte->cterefcount > 1 && contain_volatile_functions((Node *) sub)))
			continue;
		sub = copyObject(sub);
		IncrementVarSublevelsUp((Node *) sub, (int) rte->ctelevelsup, 1);
		cte->cterefcount--;
		rte->rtekind = RTE_SUBQUERY;
		rte->subquery = sub;
		rte->security_barrier = false;
		rte->ctename = NULL;
		rte->ctelevelsup = 0;
		rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
	}
}

/* ---- the walk ---- */

/*
 * The query aggregates the groups of others.  PostgreSQL does that, on what an
 * epoch gives out; the operators below only have to give out together what
 * belongs together.
 */
static void
prepare_over_groups(FuncExpr *over, bool on_end, Program *program, int first)
{
	int			i;

	if (over == NULL)
		return;
	for (i = first; i < program->nkeyed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(program->cxt);

		program->keyed[i].held_for = copyObject(over);
		program->keyed[i].held_for->args = window_arguments(program->keyed[i].held_for);
		program->keyed[i].held_on_end = on_end;
		MemoryContextSwitchTo(old);
	}
}

void
keyed_prepare(Query *query, List *outer, Program *program)
{
	ListCell   *lc;
	List	   *around = legality_around(query, outer);
	bool		reads_topic = false;
	bool		over_groups = legality_is_over_groups(query, outer);
	int			first = program->nkeyed;
	bool		by_windows;
	bool		on_end = false;
	FuncExpr   *over = NULL;
	Expr	   *at;

	check_stack_depth();
	inline_rows(query, outer);
	/* before the windows below become slices */
	if (over_groups)
		over = copyObject(legality_window_over(query, outer, &by_windows, &on_end));
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		keyed_prepare(castNode(Query, cte->ctequery), around, program);
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY)
			keyed_prepare(rte->subquery, around, program);
		if (legality_in_from(query, foreach_current_index(lc) + 1) && legality_rte_reads_topic(rte, query, outer))
			reads_topic = true;
	}
	if (!reads_topic || (!legality_is_grouped(query) && !query->hasWindowFuncs && !query->hasDistinctOn))
		return;
	/* exchanged with the query around it */
	if (legality_session(query) != NULL)
		return;
	if (over_groups)
	{
		prepare_over_groups(over, on_end, program, first);
		return;
	}
	if (program->nkeyed == STATE_MAX_OPERATORS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a pipeline has at most %d aggregations", STATE_MAX_OPERATORS),
				 errhint("Make several pipelines of it.")));
	if (query->hasWindowFuncs || query->hasDistinctOn)
	{
		bool		first = query->hasDistinctOn;

		if (first)
			first_rows(query);
		program->keyed[program->nkeyed].text = MemoryContextStrdup(program->cxt, describe_over(query));
		add_over_marker(query, outer, program->nkeyed++, first);
		return;
	}
	session_prepare(query);
	/* before its windows become slices */
	at = event_time_of_window(query);
	program->keyed[program->nkeyed].text = MemoryContextStrdup(program->cxt, describe_groups(query));
	exchange_slices(query);
	add_marker(query, outer, program->nkeyed++, at);
}

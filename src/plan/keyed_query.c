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

/* a column that subqueries give up, as KEYED_PLACE_NAME: the event time */
#define EVENT_TIME_NAME "streamproc_event_time"

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

/* ---- WITH ---- */

/* WITH queries that this one reads have one reader more: it was copied. */
static void
reference_again(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Query	   *home;
		List	   *home_outer;
		CommonTableExpr *cte = rte->rtekind == RTE_CTE ? legality_find_cte(rte, query, outer, &home, &home_outer) : NULL;

		if (cte != NULL)
			cte->cterefcount++;
		else if (rte->rtekind == RTE_SUBQUERY)
			reference_again(rte->subquery, legality_around(query, outer));
	}
}

/*
 * WITH queries over a topic that are read below an operator become part of what
 * reads them: on their own, kept for several readers, the output plan would start them, too.
 */
void
keyed_put_ctes_in(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Query	   *home;
		List	   *home_outer;
		CommonTableExpr *cte;

		if (rte->rtekind == RTE_CTE && legality_rte_reads_topic(rte, query, outer))
		{
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			if (castNode(Query, cte->ctequery)->commandType != CMD_SELECT)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("rows that an INSERT in WITH returns, \"%s\", cannot be read below groups, window functions or a join of topics", cte->ctename),
						 errhint("Make two statements of it, in two pipelines.")));
			if (cte->cterefcount > 1 && contain_volatile_functions(cte->ctequery))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("WITH query \"%s\" with volatile functions is read several times below groups, window functions or a join of topics", cte->ctename),
						 errhint("Call the functions above.")));
			if (cte->cterefcount > 1 && legality_answers(castNode(Query, cte->ctequery), legality_around(home, home_outer)))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("WITH query \"%s\" with window functions, DISTINCT ON or a join of topics is read several times, once below groups", cte->ctename),
						 errhint("Write it as a subquery in FROM where it is grouped.")));
			cte->cterefcount--;
			rte->rtekind = RTE_SUBQUERY;
			rte->subquery = copyObject(castNode(Query, cte->ctequery));
			IncrementVarSublevelsUp((Node *) rte->subquery, (int) rte->ctelevelsup, 1);
			rte->ctename = NULL;
			rte->ctelevelsup = 0;
			rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
			/* what the copy reads is read by the original, too, as long as that is read */
			if (cte->cterefcount > 0)
				reference_again(rte->subquery, legality_around(query, outer));
		}
		if (rte->rtekind == RTE_SUBQUERY)
			keyed_put_ctes_in(rte->subquery, legality_around(query, outer));
	}
}

/* ---- the place of the message ---- */

static Var *expose(Query *query, List *outer, const char *name);

/* One more column of the query's result; its number. */
static AttrNumber
add_column(Query *query, Var *var, const char *name)
{
	AttrNumber	resno = list_length(query->targetList) + 1;

	query->targetList = lappend(query->targetList, makeTargetEntry((Expr *) var, resno, pstrdup(name), false));
	return resno;
}

static AttrNumber
column_named(Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resname != NULL && strcmp(tle->resname, name) == 0)
			return tle->resno;
	}
	return InvalidAttrNumber;
}

static void
add_setop_column(Node *node, Oid type)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (!IsA(node, SetOperationStmt))
		return;
	op->colTypes = lappend_oid(op->colTypes, type);
	op->colTypmods = lappend_int(op->colTypmods, -1);
	op->colCollations = lappend_oid(op->colCollations, InvalidOid);
	add_setop_column(op->larg, type);
	add_setop_column(op->rarg, type);
}

static Oid
exposed_type(const char *name)
{
	return strcmp(name, KEYED_PLACE_NAME) == 0 ? TIDOID : TIMESTAMPTZOID;
}

/* The query gives out the place or time of the message too; the column. */
static AttrNumber
expose_as_column(Query *query, List *outer, const char *name)
{
	AttrNumber	column = column_named(query, name);
	ListCell   *lc;
	int			first = 0;

	check_stack_depth();
	if (column != InvalidAttrNumber)
		return column;
	if (query->setOperations == NULL)
		return add_column(query, expose(query, outer, name), name);
	/* UNION ALL: each branch reads a topic; its branches are its whole range table */
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_SUBQUERY || !legality_rte_reads_topic(rte, query, outer))
			continue;
		column = expose_as_column(rte->subquery, legality_around(query, outer), name);
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(name)));
		if (first == 0)
			first = foreach_current_index(lc) + 1;
	}
	add_setop_column(query->setOperations, exposed_type(name));
	return add_column(query, makeVar(first, column, exposed_type(name), -1, InvalidOid, 0), name);
}

/* The column of the topic that its option event_time names. */
static Var *
event_time_of(RangeTblEntry *rte, Index varno)
{
	StreamSource *source = stream_source_load(rte->relid);

	if (source->event_time == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"state_ttl\" needs the event time of topic \"%s\"", source->topic),
				 errhint("Give foreign table \"%s\" the option event_time.", source->name)));
	rte->selectedCols = bms_add_member(rte->selectedCols, source->event_time - FirstLowInvalidHeapAttributeNumber);
	return makeVar(varno, source->event_time, TIMESTAMPTZOID, -1, InvalidOid, 0);
}

/* The place or time as an expression of the query itself. */
static Var *
expose(Query *query, List *outer, const char *name)
{
	Oid			type = exposed_type(name);
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Index		varno = foreach_current_index(lc) + 1;
		AttrNumber	column;

		if (!legality_in_from(query, varno) || !legality_rte_reads_topic(rte, query, outer))
			continue;
		if (rte->rtekind == RTE_RELATION)
			return type == TIDOID ? makeVar(varno, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0) : event_time_of(rte, varno);
		if (rte->rtekind == RTE_SUBQUERY)
		{
			column = expose_as_column(rte->subquery, legality_around(query, outer), name);
			/* also of junk columns before it */
			while (list_length(rte->eref->colnames) < column)
				rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(name)));
			return makeVar(varno, column, type, -1, InvalidOid, 0);
		}
		if (rte->rtekind == RTE_CTE)
		{
			Query	   *home;
			List	   *home_outer;
			CommonTableExpr *cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			Query	   *sub = castNode(Query, cte->ctequery);
			bool		fresh = column_named(sub, name) == InvalidAttrNumber;

			column = expose_as_column(sub, legality_around(home, home_outer), name);
			if (fresh)
			{
				cte->ctecolnames = lappend(cte->ctecolnames, makeString(pstrdup(name)));
				cte->ctecoltypes = lappend_oid(cte->ctecoltypes, type);
				cte->ctecoltypmods = lappend_int(cte->ctecoltypmods, -1);
				cte->ctecolcollations = lappend_oid(cte->ctecolcollations, InvalidOid);
			}
			rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(name)));
			rte->coltypes = lappend_oid(rte->coltypes, type);
			rte->coltypmods = lappend_int(rte->coltypmods, -1);
			rte->colcollations = lappend_oid(rte->colcollations, InvalidOid);
			return makeVar(varno, column, type, -1, InvalidOid, 0);
		}
	}
	elog(ERROR, "a query that groups a topic does not read one");
}

/*
 * What the window is made of, where that is to be had in this query; under
 * grouping sets the planner would carry only the window itself.
 */
static Expr *
event_time_of_window(Query *query, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);
		FuncExpr   *call = legality_window_of_group(expr, query);
		Node	   *at;

		if (call == NULL || (IsA(expr, Var) && rt_fetch(((Var *) expr)->varno, query->rtable)->rtekind != RTE_FUNCTION))
			continue;
		at = linitial(window_arguments(call));
		/* coalesce() of the times of both sides of a join */
		if ((IsA(at, Var) && ((Var *) at)->varlevelsup == 0) || IsA(at, CoalesceExpr))
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

static bool
has_window(Query *query, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
		if (legality_window_of_group(get_sortgroupclause_expr(lfirst(lc), query->targetList), query) != NULL)
			return true;
	return false;
}

Var *
keyed_expose_place(Query *query, List *outer)
{
	return expose(query, outer, KEYED_PLACE_NAME);
}

/* Of what is put into groups; what window functions or a join have answered belongs to no message any more. */
static Expr *
place_of_rows(Query *query, List *outer)
{
	return legality_is_over_answers(query, outer) ? (Expr *) makeNullConst(TIDOID, -1, InvalidOid) : (Expr *) expose(query, outer, KEYED_PLACE_NAME);
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
							  makeTargetEntry(place_of_rows(query, outer), 2, NULL, false),
							  makeTargetEntry(at, 3, NULL, false));
	marker->aggkind = AGGKIND_NORMAL;
	marker->aggsplit = AGGSPLIT_SIMPLE;
	marker->aggno = marker->aggtransno = -1;
	marker->location = -1;
	query->havingQual = make_and_qual(query->havingQual, (Node *) marker);
	query->hasAggs = true;
}

/* The same wherever it is asked for; what it reads does not matter. */
char *
keyed_select_list(Query *query)
{
	OverrideSearchPath path = {NIL, true, false};
	char	   *text;
	char	   *from;

	join_leave_out(query);
	PushOverrideSearchPath(&path);
	text = pg_get_querydef(query, true);
	PopOverrideSearchPath();
	for (from = text; (from = strchr(from, '\n')) != NULL; from++)
		if (strncmp(from + 1 + strspn(from + 1, " "), "FROM ", 5) == 0)
		{
			*from = '\0';
			break;
		}
	return text;
}

/* ---- window functions ---- */

/* The functions and their windows as text, as describe_groups() does. */
static char *
describe_over(Query *query)
{
	Query	   *bare = copyObject(query);
	List	   *tlist = NIL;
	ListCell   *lc;

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
	return keyed_select_list(bare);
}

static void
add_over_marker(Query *query, List *outer, int number, const char *what)
{
	query->targetList = lappend(query->targetList,
								makeTargetEntry((Expr *) expose(query, outer, KEYED_PLACE_NAME), list_length(query->targetList) + 1,
												psprintf(OVER_MARKER "%d%s", number, what), true));
}

/* Groups without a window over what has been answered cannot know when a key is forgotten. */
static void
check_ttl_of_chain(Query *query, List *outer, List *clauses, Program *program)
{
	if (program->state_ttl > 0 && clauses != NIL && !has_window(query, clauses) && legality_is_over_answers(query, outer))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"state_ttl\" for groups without a window over window functions, DISTINCT ON or a join of topics is not supported"),
				 errhint("Group by a window, or make two pipelines of it.")));
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
	window->orderClause = legality_top_order(query);
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
grouped_by(Query *query, List *clauses, int varno, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (IsA(expr, Var) && ((Var *) expr)->varno == varno && ((Var *) expr)->varattno == attno &&
			((Var *) expr)->varlevelsup == 0)
			return true;
	}
	return false;
}

static void
exchange_slices(Query *query, List *clauses)
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
		if (!grouped_by(query, clauses, varno, 1) && !grouped_by(query, clauses, varno, 2))
			continue;
		name = function == FUNCTION_HOP ? "hop" : "cumulate";
		if (function == FUNCTION_CUMULATE && !grouped_by(query, clauses, varno, 2))
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
	List	   *aggs = NIL;
	List	   *tlist = NIL;
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
	/* what is made of the groups is not theirs */
	bare->hasWindowFuncs = bare->hasDistinctOn = false;
	bare->windowClause = bare->distinctClause = NIL;
	bare->sortClause = NIL;
	bare->cteList = NIL;
	return keyed_select_list(bare);
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
		MemoryContext old;

		if (program->keyed[i].over || program->keyed[i].join != NULL)
			continue;
		old = MemoryContextSwitchTo(program->cxt);
		program->keyed[i].held_for = copyObject(over);
		program->keyed[i].held_for->args = window_arguments(program->keyed[i].held_for);
		program->keyed[i].held_on_end = on_end;
		MemoryContextSwitchTo(old);
	}
}

static void
check_number(Program *program)
{
	if (program->nkeyed == STATE_MAX_OPERATORS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a pipeline has at most %d aggregations", STATE_MAX_OPERATORS),
				 errhint("Make several pipelines of it.")));
}

/* The first rows of each key: groups whose place in the plan is that of a window function. */
static void
prepare_top(Query *query, List *outer, Program *program)
{
	int64		limit = legality_top_limit(query, outer);
	List	   *keys = legality_top_keys(query);
	Expr	   *at;

	if (limit < 1 || limit > TOP_MOST)
		elog(ERROR, "the first " INT64_FORMAT " rows are wanted", limit);
	check_ttl_of_chain(query, outer, keys, program);
	/* before its windows become slices */
	at = event_time_of_window(query, keys);
	program->keyed[program->nkeyed].time_side = join_side_of((Node *) at, query, program);
	if (program->state_ttl > 0 && keys != NIL && !has_window(query, keys))
		at = (Expr *) expose(query, outer, EVENT_TIME_NAME);
	if (query->hasDistinctOn)
		first_rows(query);
	program->keyed[program->nkeyed].text = MemoryContextStrdup(program->cxt, describe_over(query));
	exchange_slices(query, keys);
	if (!IsA(at, Const))
		query->targetList = lappend(query->targetList,
									makeTargetEntry(at, list_length(query->targetList) + 1, pstrdup(OVER_EVENT_TIME), true));
	add_over_marker(query, outer, program->nkeyed++, psprintf(OVER_MARKER_TOP INT64_FORMAT, limit));
}

/* By what window functions order rows, or DISTINCT ON those of a key. */
static Node *
event_time_of_order(Query *query)
{
	return get_sortgroupclause_expr(query->hasDistinctOn ? llast(query->sortClause) : linitial(linitial_node(WindowClause, query->windowClause)->orderClause),
									query->targetList);
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
	if (reads_topic && legality_joins_topics(query, outer))
	{
		check_number(program);
		join_prepare(query, outer, program);
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
	check_number(program);
	keyed_put_ctes_in(query, outer);
	if (!legality_is_grouped(query))
	{
		bool		first = query->hasDistinctOn;

		if (legality_is_top(query, outer))
		{
			prepare_top(query, outer, program);
			return;
		}
		program->keyed[program->nkeyed].time_side = join_side_of((Node *) event_time_of_order(query), query, program);
		if (first)
			first_rows(query);
		program->keyed[program->nkeyed].over = true;
		program->keyed[program->nkeyed].text = MemoryContextStrdup(program->cxt, describe_over(query));
		add_over_marker(query, outer, program->nkeyed++, first ? OVER_MARKER_FIRST : "");
		return;
	}
	session_prepare(query);
	/* before its windows become slices */
	at = event_time_of_window(query, query->groupClause);
	check_ttl_of_chain(query, outer, query->groupClause, program);
	if (program->state_ttl > 0 && query->groupClause != NIL && !has_window(query, query->groupClause))
		at = (Expr *) expose(query, outer, EVENT_TIME_NAME);
	program->keyed[program->nkeyed].time_side = join_side_of((Node *) at, query, program);
	program->keyed[program->nkeyed].text = MemoryContextStrdup(program->cxt, describe_groups(query));
	exchange_slices(query, query->groupClause);
	add_marker(query, outer, program->nkeyed++, at);
}

/*-------------------------------------------------------------------------
 *
 * legality.c
 *	  Which statements a pipeline can run, judged on the Query.
 *
 * A statement runs on one micro-batch after another, so it must be
 * row-wise: its result over two batches together is the union of its results
 * over each.  That is so when the topic stands once in each FROM, on the
 * preserved side of each join, and nothing above it looks at more than one
 * row: no aggregate, DISTINCT, window function, LIMIT, set operation but
 * UNION ALL, FOR UPDATE; and when the sink is not read.
 *
 * The walk goes down from the INSERT; a node that holds no topic may be any
 * SQL.  Views are opened.  Everything that is refused is refused here, at
 * creation, with its place in the text and what to write instead.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "plan/parse.h"
#include "plan/plan.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"


static bool contains_stream_query(Query *query, List *outer);
static bool contains_stream_rte(RangeTblEntry *rte, Query *query, List *outer);
static void check_query(Query *query, CheckContext *cxt, List *outer, bool top);

/* ---- errors ---- */

/* for use inside ereport() */
static int
set_position(CheckContext *cxt, int location)
{
	int			position;

	if (OidIsValid(cxt->view))
		location = text_relation_location(cxt->text, cxt->view, true);
	position = text_position(cxt->text, location);
	if (position == 0)
		return 0;
	internalerrposition(position);
	return internalerrquery(cxt->text);
}

void
legality_refuse(CheckContext *cxt, int location, const char *hint, const char *fmt,...)
{
	char		message[512];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg_internal("%s", message),
			 hint ? errhint("%s", hint) : 0,
			 set_position(cxt, location)));
}

/* ---- where are topics? ---- */

bool
legality_is_topic(Oid relid)
{
	return get_rel_relkind(relid) == RELKIND_FOREIGN_TABLE && stream_is_source(relid);
}

/* A table one of whose children is a topic reads it too. */
static bool
inherits_stream(RangeTblEntry *rte)
{
	List	   *children;
	ListCell   *lc;

	if (!rte->inh || !has_subclass(rte->relid))
		return false;
	children = find_all_inheritors(rte->relid, AccessShareLock, NULL);
	foreach(lc, children)
		if (lfirst_oid(lc) != rte->relid && legality_is_topic(lfirst_oid(lc)))
			return true;
	return false;
}

CommonTableExpr *
legality_find_cte(RangeTblEntry *rte, Query *query, List *outer, Query **home, List **home_outer)
{
	Query	   *q = query;
	List	   *rest = outer;
	Index		up;
	ListCell   *lc;

	for (up = 0; up < rte->ctelevelsup; up++)
	{
		if (rest == NIL)
			return NULL;
		q = linitial(rest);
		rest = list_copy_tail(rest, 1);
	}
	foreach(lc, q->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (strcmp(cte->ctename, rte->ctename) == 0)
		{
			*home = q;
			*home_outer = rest;
			return cte;
		}
	}
	return NULL;
}

typedef struct SublinkContext
{
	Query	   *query;
	List	   *outer;
	int			location;		/* of the first sublink that holds a topic */
} SublinkContext;

static bool
sublink_stream_walker(Node *node, SublinkContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		SubLink    *link = (SubLink *) node;

		if (contains_stream_query(castNode(Query, link->subselect), legality_around(cxt->query, cxt->outer)))
		{
			cxt->location = link->location;
			return true;
		}
		return sublink_stream_walker(link->testexpr, cxt);
	}
	if (IsA(node, Query))
		return false;			/* reached through its range table entry */
	return expression_tree_walker(node, sublink_stream_walker, cxt);
}

/* The location of a sublink over a topic in this query's own expressions; -2: none. */
static int
sublink_with_stream(Query *query, List *outer)
{
	SublinkContext cxt = {query, outer, -1};

	if (query_tree_walker(query, sublink_stream_walker, &cxt,
						  QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES))
		return cxt.location;
	return -2;
}

static bool
contains_stream_rte(RangeTblEntry *rte, Query *query, List *outer)
{
	Query	   *home;
	List	   *home_outer;
	CommonTableExpr *cte;

	switch (rte->rtekind)
	{
		case RTE_RELATION:
			if (rte->relkind == RELKIND_VIEW)
				return contains_stream_query(view_query(rte->relid), NIL);
			return legality_is_topic(rte->relid) || inherits_stream(rte);
		case RTE_SUBQUERY:
			return contains_stream_query(rte->subquery, legality_around(query, outer));
		case RTE_CTE:
			if (rte->self_reference)
				return false;
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			return cte != NULL &&
				contains_stream_query(castNode(Query, cte->ctequery), legality_around(home, home_outer));
		default:
			return false;
	}
}

bool
legality_rte_reads_topic(RangeTblEntry *rte, Query *query, List *outer)
{
	return contains_stream_rte(rte, query, outer);
}

bool
legality_is_grouped(Query *query)
{
	return query->hasAggs || query->groupClause != NIL || query->groupingSets != NIL || query->havingQual != NULL;
}

/* Does the query read a topic anywhere?  "outer" are the queries around it, innermost first. */
static bool
contains_stream_query(Query *query, List *outer)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		/* the target of an INSERT is not read */
		if (foreach_current_index(lc) + 1 == query->resultRelation)
			continue;
		/* CTEs are judged where they are made, below */
		if (rte->rtekind != RTE_CTE && contains_stream_rte(rte, query, outer))
			return true;
		if (rte->rtekind == RTE_CTE && rte->ctelevelsup > 0 &&
			contains_stream_rte(rte, query, outer))
			return true;
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (contains_stream_query(castNode(Query, cte->ctequery), legality_around(query, outer)))
			return true;
	}
	return sublink_with_stream(query, outer) != -2;
}

/* ---- the walk ---- */

static const char *
rte_name(RangeTblEntry *rte)
{
	return rte->eref ? rte->eref->aliasname : "subquery";
}

bool
legality_first_aggregate(Node *node, int *location)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		*location = ((Aggref *) node)->location;
		return true;
	}
	if (IsA(node, GroupingFunc))
	{
		*location = ((GroupingFunc *) node)->location;
		return true;
	}
	return expression_tree_walker(node, legality_first_aggregate, location);
}

static bool
first_window_location(Node *node, int *location)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		*location = ((WindowFunc *) node)->location;
		return true;
	}
	return expression_tree_walker(node, first_window_location, location);
}

int
legality_query_location(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		int			location = exprLocation((Node *) ((TargetEntry *) lfirst(lc))->expr);

		if (location >= 0)
			return location;
	}
	return -1;
}

int
legality_clause_location(Query *query, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		SortGroupClause *clause = lfirst(lc);
		ListCell   *lt;

		foreach(lt, query->targetList)
		{
			TargetEntry *tle = lfirst(lt);

			if (tle->ressortgroupref == clause->tleSortGroupRef)
			{
				int			location = exprLocation((Node *) tle->expr);

				if (location >= 0)
					return location;
			}
		}
	}
	return legality_query_location(query);
}

/* Goes into a FROM item that holds the topic. */
static void
check_stream_rte(RangeTblEntry *rte, Query *query, CheckContext *cxt, List *outer)
{
	legality_check_session_use(rte, query, cxt, outer);
	switch (rte->rtekind)
	{
		case RTE_RELATION:
			if (rte->relkind == RELKIND_VIEW)
			{
				CheckContext inner = *cxt;

				if (!OidIsValid(inner.view))
					inner.view = rte->relid;
				check_query(view_query(rte->relid), &inner, NIL, false);
			}
			else if (inherits_stream(rte))
				legality_refuse(cxt, text_relation_location(cxt->text, rte->relid, true),
					   "Name the foreign table of the topic itself.",
					   "table \"%s\" has a topic among its children", rte_name(rte));
			else
				cxt->info->sources = list_append_unique_oid(cxt->info->sources, rte->relid);
			if (rte->tablesample)
				legality_refuse(cxt, text_relation_location(cxt->text, rte->relid, true),
					   "Filter by a hash of a column instead.",
					   "TABLESAMPLE of a topic is not supported");
			break;
		case RTE_SUBQUERY:
			check_query(legality_is_versions(rte, query, outer) ? legality_versions_alone(rte, query, cxt, outer) : rte->subquery, cxt,
						legality_around(query, outer), false);
			break;
		case RTE_CTE:
			break;				/* its query is checked with the WITH */
		default:
			break;
	}
}

/*
 * Checks a join tree item; returns whether it holds the topic.
 */
static bool
check_jointree(Node *node, Query *query, CheckContext *cxt, List *outer)
{
	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		if (!contains_stream_rte(rte, query, outer))
			return false;
		check_stream_rte(rte, query, cxt, outer);
		return true;
	}
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		bool		found = false;
		ListCell   *lc;

		foreach(lc, from->fromlist)
		{
			if (check_jointree(lfirst(lc), query, cxt, outer))
				found = true;
		}
		return found;
	}
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		bool		left = check_jointree(join->larg, query, cxt, outer);
		bool		right = check_jointree(join->rarg, query, cxt, outer);
		int			location = exprLocation(join->quals);

		if (location < 0)
			location = legality_query_location(query);
		/* legality_join.c and legality_asof.c judge that */
		if (left && right)
			return true;
		if (join->jointype == JOIN_FULL && (left || right))
			legality_refuse(cxt, location,
				   "Use LEFT JOIN with the topic on the left side.",
				   "FULL JOIN with a topic is not supported");
		if (right && join->jointype == JOIN_LEFT)
			legality_refuse(cxt, location,
				   "Put the topic on the left side: FROM topic LEFT JOIN table.",
				   "a topic on the nullable side of LEFT JOIN is not supported");
		if (left && join->jointype == JOIN_RIGHT)
			legality_refuse(cxt, location,
				   "Put the table on the left side: FROM table RIGHT JOIN topic, or use LEFT JOIN.",
				   "a topic on the nullable side of RIGHT JOIN is not supported");
		return left || right;
	}
	return false;
}

/* UNION ALL is the only set operation, and each branch must read the topic. */
static void
check_setop(Node *node, Query *query, CheckContext *cxt, List *outer)
{
	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		if (!contains_stream_rte(rte, query, outer))
			legality_refuse(cxt, rte->subquery ? legality_query_location(rte->subquery) : -1,
				   "Insert the rows of the table once, outside the pipeline.",
				   "a branch of UNION ALL does not read a topic");
		check_stream_rte(rte, query, cxt, outer);
		return;
	}
	else
	{
		SetOperationStmt *op = castNode(SetOperationStmt, node);

		if (op->op != SETOP_UNION || !op->all)
			legality_refuse(cxt, legality_query_location(query), "Use UNION ALL.",
				   "%s over a topic is not supported",
				   op->op == SETOP_UNION ? "UNION" : op->op == SETOP_INTERSECT ? "INTERSECT" : "EXCEPT");
		check_setop(op->larg, query, cxt, outer);
		check_setop(op->rarg, query, cxt, outer);
	}
}

/* Of the branches all are groups, or rows of window functions or joins of topics, or none is. */
static void
check_branches(Query *query, CheckContext *cxt, List *outer)
{
	Query	   *with = NULL;
	Query	   *without = NULL;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		if (legality_rte_has_operator(rte, query, outer))
			with = rte->subquery;
		else
			without = rte->subquery;
	}
	if (with != NULL && without != NULL)
		legality_refuse(cxt, legality_query_location(without), "Make two pipelines of it.",
			   "a branch of UNION ALL without groups beside one with groups, window functions or a join of topics is not supported");
}

/* One INSERT: of the top, or in a WITH. */
static void
check_insert(Query *query, CheckContext *cxt, bool top)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);

	legality_check_sink(rte->relid, rte->relid, cxt);
	cxt->info->sinks = list_append_unique_oid(cxt->info->sinks, rte->relid);
	if (top)
		cxt->info->sink = rte->relid;
	if (query->onConflict != NULL)
	{
		cxt->info->has_on_conflict = true;
		if (!top)
			cxt->info->nested_on_conflict = true;
	}
}

static const char *
command_name(Query *query)
{
	switch (query->commandType)
	{
		case CMD_SELECT:
			return "SELECT";
		case CMD_INSERT:
			return "INSERT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_DELETE:
			return "DELETE";
		case CMD_MERGE:
			return "MERGE";
		case CMD_UTILITY:
			return "a utility command";
		default:
			return "this command";
	}
}

/*
 * A query that holds the topic.  "outer": queries around it.
 */
static void
check_query(Query *query, CheckContext *cxt, List *outer, bool top)
{
	ListCell   *lc;
	int			location = -1;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();

	if (query->commandType == CMD_INSERT)
		check_insert(query, cxt, top);
	else if (query->commandType != CMD_SELECT)
		legality_refuse(cxt, legality_query_location(query),
			   "Write INSERT INTO ... SELECT ..., with ON CONFLICT DO UPDATE to change rows.",
			   "%s that reads a topic is not supported", command_name(query));

	/* WITH: each may read the topic, row-wise */
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);
		Query	   *sub = castNode(Query, cte->ctequery);
		List	   *around = legality_around(query, outer);

		if (!contains_stream_query(sub, around))
		{
			if (sub->commandType != CMD_SELECT)
				legality_refuse(cxt, cte->location,
					   "A statement of a pipeline runs once per batch; what does not depend on the topic belongs outside.",
					   "%s in WITH that does not read the topic is not supported", command_name(sub));
			continue;
		}
		if (cte->cterecursive)
			legality_refuse(cxt, cte->location,
				   "A recursion over a table may be joined with the topic.",
				   "WITH RECURSIVE over a topic is not supported");
		check_query(sub, cxt, around, false);
	}

	if (legality_is_grouped(query))
		legality_check_groups(query, cxt, outer);
	else if (legality_filters_groups(query, outer))
		cxt->info->having = true;
	if (query->hasDistinctOn)
		legality_check_distinct_on(query, cxt, outer);
	else if (query->distinctClause != NIL)
		legality_refuse(cxt, legality_clause_location(query, query->distinctClause),
			   "Use SELECT DISTINCT ON (columns) ... ORDER BY columns, event time; or a unique index on the target and ON CONFLICT DO NOTHING.",
			   "DISTINCT over a topic is not supported");
	if (query->hasWindowFuncs)
	{
		(void) query_tree_walker(query, first_window_location, &location,
								 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
		legality_check_over(query, cxt, outer, location >= 0 ? location : legality_query_location(query));
	}
	if (query->limitCount != NULL || query->limitOffset != NULL)
		legality_refuse(cxt, exprLocation(query->limitCount ? query->limitCount : query->limitOffset),
			   "A pipeline has no end: filter with WHERE, or set start and stop.",
			   "LIMIT and OFFSET over a topic are not supported");
	if (query->rowMarks != NIL)
		legality_refuse(cxt, legality_query_location(query), "Remove FOR UPDATE or FOR SHARE.",
			   "row locks in a query over a topic are not supported");
	if (query->sortClause != NIL && !query->hasDistinctOn)
		legality_refuse(cxt, legality_clause_location(query, query->sortClause),
			   "Sort when you read the target.",
			   "ORDER BY over a topic is not supported");
	/* a set-returning function makes several rows of one: still row-wise */

	location = sublink_with_stream(query, outer);
	if (location != -2)
		legality_refuse(cxt, location, "Read the topic in FROM.",
			   "a subquery over a topic in an expression (IN, EXISTS, scalar subquery) is not supported");

	if (query->setOperations != NULL)
	{
		check_setop(query->setOperations, query, cxt, outer);
		check_branches(query, cxt, outer);
	}
	else
		(void) check_jointree((Node *) query->jointree, query, cxt, outer);
	if (legality_is_asof(query, outer))
		legality_check_asof(query, cxt, outer);
	else if (legality_joins_topics(query, outer))
		legality_check_join(query, cxt, outer);
}

/* ---- what else is used ---- */

static bool
function_walker(Oid funcid, void *context)
{
	CheckContext *cxt = context;
	StatementInfo *info = cxt->info;
	char		volatility = func_volatile(funcid);

	if (window_function(funcid) >= FUNCTION_HOP_START || funcid == keyed_place_aggregate())
		legality_refuse(cxt, -1, "Use streamproc.hop() or streamproc.cumulate() in FROM, or streamproc.session() OVER.",
						"function %s() is for the planner of pipelines", get_func_name(funcid));
	if (isAnyTempNamespace(get_func_namespace(funcid)))
		legality_refuse(cxt, -1, "Make the function in another schema: workers do not see a session's temporary objects.",
			   "temporary function %s() cannot be used in a pipeline", get_func_name(funcid));

	if (volatility == PROVOLATILE_VOLATILE)
	{
		info->deterministic = false;
		info->volatile_functions = lappend(info->volatile_functions, get_func_name(funcid));
	}
	else if (volatility == PROVOLATILE_STABLE)
		info->stable_only = true;
	return false;
}

static Oid
type_namespace(Oid type)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			schema = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		schema = ((Form_pg_type) GETSTRUCT(tuple))->typnamespace;
		ReleaseSysCache(tuple);
	}
	return schema;
}

/* Is this relation, or one that reading it reads too, written by the pipeline? */
static bool
reads_sink(RangeTblEntry *rte, CheckContext *cxt)
{
	ListCell   *lc;

	foreach(lc, cxt->sinks)
	{
		Oid			sink = lfirst_oid(lc);

		if (sink == rte->relid)
			return true;
		/* rows go into the partitions of a sink, and are seen through its parents */
		if (get_rel_relkind(sink) == RELKIND_PARTITIONED_TABLE &&
			list_member_oid(find_all_inheritors(sink, AccessShareLock, NULL), rte->relid))
			return true;
		if (rte->inh && has_subclass(rte->relid) &&
			list_member_oid(find_all_inheritors(rte->relid, AccessShareLock, NULL), sink))
			return true;
	}
	return false;
}

/* Rows of a topic have no transaction and no place in a table. */
static void
check_system_columns(RangeTblEntry *rte, CheckContext *cxt)
{
	AttrNumber	attnum;

	for (attnum = FirstLowInvalidHeapAttributeNumber + 1; attnum < 0; attnum++)
		if (attnum != TableOidAttributeNumber &&
			bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, rte->selectedCols))
			legality_refuse(cxt, text_relation_location(cxt->text, rte->relid, true),
				   "Use columns of the foreign table with the options kafka 'partition' and kafka 'offset'.",
				   "system column \"%s\" of topic \"%s\" cannot be used",
				   NameStr(SystemAttributeDefinition(attnum)->attname), rte_name(rte));
}

static bool
use_walker(Node *node, CheckContext *cxt)
{
	if (node == NULL)
		return false;
	check_functions_in_node(node, function_walker, cxt);
	if (IsA(node, RowExpr) && isAnyTempNamespace(type_namespace(((RowExpr *) node)->row_typeid)))
		legality_refuse(cxt, ((RowExpr *) node)->location,
			   "Make the type in another schema: workers do not see a session's temporary objects.",
			   "temporary type %s cannot be used in a pipeline", format_type_be(((RowExpr *) node)->row_typeid));
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);
			bool		target = foreach_current_index(lc) + 1 == query->resultRelation;

			if (rte->rtekind != RTE_RELATION)
				continue;
			if (get_rel_persistence(rte->relid) == RELPERSISTENCE_TEMP)
				legality_refuse(cxt, text_relation_location(cxt->text, rte->relid, true),
					   "Use an ordinary table: workers do not see a session's temporary tables.",
					   "temporary table \"%s\" cannot be used in a pipeline", get_rel_name(rte->relid));
			if (!target && !(query->onConflict && foreach_current_index(lc) + 1 == query->onConflict->exclRelIndex))
			{
				if (reads_sink(rte, cxt))
					legality_refuse(cxt, text_relation_location(cxt->text, rte->relid, true),
						   "Use ON CONFLICT DO UPDATE to combine new rows with stored ones.",
						   "table \"%s\" is both read and written by the pipeline", get_rel_name(rte->relid));
				if (rte->relkind != RELKIND_VIEW && !legality_is_topic(rte->relid))
					cxt->info->lookups = cxt->info->stable_only = true;
				if (legality_is_topic(rte->relid))
					check_system_columns(rte, cxt);
			}
			if (rte->relkind == RELKIND_VIEW && !target)
			{
				CheckContext inner = *cxt;

				if (!OidIsValid(inner.view))
					inner.view = rte->relid;
				(void) use_walker((Node *) view_query(rte->relid), &inner);
			}
		}
		return query_tree_walker(query, use_walker, cxt, 0);
	}
	return expression_tree_walker(node, use_walker, cxt);
}

/* ---- entry points ---- */

static StatementInfo *
check_statement(Query *query, const char *text)
{
	CheckContext cxt = {0};

	cxt.text = text;
	cxt.info = palloc0(sizeof(StatementInfo));
	cxt.info->deterministic = true;

	if (query->commandType != CMD_INSERT)
		legality_refuse(&cxt, query->stmt_location,
			   query->commandType == CMD_SELECT ?
			   "Write INSERT INTO table SELECT ...: a pipeline writes its results somewhere." :
			   "Write INSERT INTO ... SELECT ..., with ON CONFLICT DO UPDATE to change rows.",
			   "a pipeline is made of INSERT statements, not of %s", command_name(query));
	if (query->returningList != NIL)
		legality_refuse(&cxt, exprLocation((Node *) linitial_node(TargetEntry, query->returningList)->expr),
			   "Use WITH x AS (INSERT ... RETURNING ...) INSERT ... to use the rows.",
			   "RETURNING at the top of a pipeline's statement has no reader");
	if (!contains_stream_query(query, NIL))
		legality_refuse(&cxt, query->stmt_location,
			   "Read a foreign table of a server of the wrapper streamproc_kafka.",
			   "the statement reads no topic");
	check_query(query, &cxt, NIL, true);

	/* an INSERT that reads the topic only in WITH would run its top once per batch */
	if (query->setOperations == NULL)
	{
		ListCell   *lc;
		bool		from_stream = false;

		foreach(lc, query->rtable)
			if (foreach_current_index(lc) + 1 != query->resultRelation &&
				contains_stream_rte(lfirst(lc), query, NIL))
				from_stream = true;
		if (!from_stream)
			legality_refuse(&cxt, query->stmt_location,
				   "The INSERT at the top must select from the topic, or from a WITH query over it.",
				   "the statement reads the topic only in WITH");
	}
	/* what window functions answer goes no further than into groups */
	if (cxt.info->chained)
		cxt.info->over = false;
	cxt.info->windowed = cxt.info->grouped && !cxt.info->unwindowed;
	if (cxt.info->grouped)
		cxt.info->conflict_misses = conflict_finds_group(query);
	return cxt.info;
}

/* Groups and single rows are committed by different processes. */
static void
check_kinds(List *queries, List *infos, CheckContext *cxt)
{
	StatementInfo *first = linitial(infos);
	ListCell   *lc,
			   *lq;

	forboth(lc, infos, lq, queries)
	{
		StatementInfo *info = lfirst(lc);

		if (info->grouped != first->grouped)
			legality_refuse(cxt, lfirst_node(Query, lq)->stmt_location, "Make two pipelines of it.",
				   "a pipeline of statements with and without GROUP BY is not supported");
	}
}

List *
plan_check(List *queries, const char *text, Oid *server)
{
	List	   *infos = NIL;
	Oid			sink_server = InvalidOid;
	CheckContext cxt = {0};
	ListCell   *lc,
			   *li;

	cxt.text = text;
	*server = InvalidOid;
	if (queries == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("the query of a pipeline is empty"),
				 errhint("Write INSERT INTO table SELECT ... FROM topic.")));
	foreach(lc, queries)
	{
		StatementInfo *info = check_statement(lfirst_node(Query, lc), text);
		ListCell   *ls;

		foreach(ls, info->sources)
		{
			StreamSource *source = stream_source_load(lfirst_oid(ls));

			if (OidIsValid(*server) && *server != source->serverid)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a pipeline that reads topics of two servers is not supported"),
						 errdetail("Foreign table \"%s\" belongs to server \"%s\", another one to server \"%s\".",
								   source->name, stream_server_name(source->serverid),
								   stream_server_name(*server)),
						 errhint("Make one pipeline for each server."),
						 set_position(&cxt, text_relation_location(text, source->relid, true))));
			*server = source->serverid;
		}
		if (OidIsValid(info->sink_server) && OidIsValid(sink_server) && info->sink_server != sink_server)
			legality_refuse(&cxt, text_relation_location(text, info->sink, false), "Make one pipeline for each server.",
				   "writing into topics of two servers, \"%s\" and \"%s\", is not supported",
				   stream_server_name(sink_server), stream_server_name(info->sink_server));
		if (OidIsValid(info->sink_server))
			sink_server = info->sink_server;
		infos = lappend(infos, info);
		cxt.sinks = list_concat_unique_oid(cxt.sinks, info->sinks);
	}
	check_kinds(queries, infos, &cxt);
	legality_check_loops(infos, &cxt);
	/* what the statements read besides: none may read what one of them writes */
	forboth(lc, queries, li, infos)
	{
		cxt.info = lfirst(li);
		(void) use_walker((Node *) lfirst_node(Query, lc), &cxt);
	}
	return infos;
}

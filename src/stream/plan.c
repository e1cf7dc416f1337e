/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Planning of scans: feed scans for the statements of pipelines, peek scans
 *	  for everybody else, and which conditions a peek can use to read less.
 *
 * A condition is used when it compares a partition, offset or timestamp column
 * with something that is known before the scan starts.  Its other side is
 * converted to bigint or timestamptz, evaluated by the scan, and only narrows
 * what is read: every condition stays a filter of the scan as well, so
 * narrowing must be right only in one direction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "parser/parse_coerce.h"
#include "stream/stream_int.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* Nobody knows how long a topic is before asking the cluster. */
#define PEEK_ROWS			1000000
/* connections, questions to the cluster */
#define PEEK_STARTUP_COST	1000
#define PEEK_ROW_COST		0.05
#define FEED_ROW_COST		0.001

int			stream_plan_feed_rows = 0;

/* ---- what a plan node says ---- */

bool
stream_scan_is_ours(const ForeignScan *scan)
{
	Node	   *first;

	if (list_length(scan->fdw_private) <= STREAM_PLAN_NEEDED)
		return false;
	first = linitial(scan->fdw_private);
	return IsA(first, Integer) && intVal(first) == STREAM_PLAN_MAGIC;
}

StreamScanKind
stream_scan_kind(const ForeignScan *scan)
{
	return (StreamScanKind) intVal(list_nth(scan->fdw_private, STREAM_PLAN_KIND));
}

Oid
stream_scan_relid(const ForeignScan *scan)
{
	return linitial_oid((List *) list_nth(scan->fdw_private, STREAM_PLAN_RELID));
}

List *
stream_scan_needed(const ForeignScan *scan)
{
	return (List *) list_nth(scan->fdw_private, STREAM_PLAN_NEEDED);
}

bool
stream_scan_is_feed(ForeignScan *scan, Oid *relid, Bitmapset **needed)
{
	if (!stream_scan_is_ours(scan) || stream_scan_kind(scan) != STREAM_SCAN_FEED)
		return false;
	if (relid)
		*relid = stream_scan_relid(scan);
	if (needed)
	{
		ListCell   *lc;

		*needed = NULL;
		foreach(lc, stream_scan_needed(scan))
			*needed = bms_add_member(*needed, lfirst_int(lc));
	}
	return true;
}

/* ---- size and paths ---- */

void
stream_get_rel_size(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	baserel->fdw_private = stream_source_load(relid);
	baserel->tuples = stream_plan_feed_rows > 0 ? stream_plan_feed_rows : PEEK_ROWS;
	set_baserel_size_estimates(root, baserel);
}

void
stream_get_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid)
{
	bool		feed = stream_plan_feed_rows > 0;
	Cost		startup = baserel->baserestrictcost.startup;
	Cost		total;

	if (!feed)
		startup += PEEK_STARTUP_COST;
	total = startup + baserel->tuples *
		((feed ? FEED_ROW_COST : PEEK_ROW_COST) + baserel->baserestrictcost.per_tuple);

	add_path(baserel, (Path *) create_foreignscan_path(root, baserel, NULL, baserel->rows,
													   startup, total, NIL,
													   baserel->lateral_relids, NULL, NIL));
}

/* Every column that the scan's output or its filters mention, in order. */
static List *
needed_columns(RelOptInfo *baserel, List *clauses, const StreamSource *source)
{
	Bitmapset  *attrs = NULL;
	List	   *needed = NIL;
	bool		whole_row;

	pull_varattnos((Node *) baserel->reltarget->exprs, baserel->relid, &attrs);
	pull_varattnos((Node *) clauses, baserel->relid, &attrs);
	whole_row = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, attrs);
	for (int i = 0; i < source->natts; i++)
	{
		AttrNumber	attnum = i + 1;

		if (source->columns[i].kind == STREAM_COL_DROPPED)
			continue;
		if (whole_row || bms_is_member(attnum - FirstLowInvalidHeapAttributeNumber, attrs))
			needed = lappend_int(needed, attnum);
	}
	return needed;
}

/* ---- conditions ---- */

typedef struct ConditionList
{
	Index		varno;
	const StreamSource *source;
	List	   *exprs;
	List	   *columns;		/* IntList of StreamColumnKind */
	List	   *strategies;		/* IntList */
} ConditionList;

/* The kind of metadata column that an expression is, or PAYLOAD. */
static StreamColumnKind
metadata_column(const ConditionList *conditions, Node *node)
{
	Var		   *var = (Var *) node;

	if (!IsA(node, Var) || var->varno != conditions->varno || var->varlevelsup != 0 ||
		var->varattno < 1 || var->varattno > conditions->source->natts)
		return STREAM_COL_PAYLOAD;
	return conditions->source->columns[var->varattno - 1].kind;
}

/* Is its value known before the scan starts, and the same all the time? */
static bool
known_before_scan(Node *node)
{
	return !contain_var_clause(node) && !contain_volatile_functions(node) &&
		!contain_subplans(node) && !contain_agg_clause(node);
}

static bool
add_condition(ConditionList *conditions, StreamColumnKind kind, int strategy, Node *value, Oid type)
{
	Node	   *expr;

	if (!can_coerce_type(1, (Oid[]) {exprType(value)}, (Oid[]) {type}, COERCION_IMPLICIT))
		return false;
	expr = coerce_to_target_type(NULL, copyObject(value), exprType(value), type, -1,
								 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
		return false;
	conditions->exprs = lappend(conditions->exprs, expr);
	conditions->columns = lappend_int(conditions->columns, kind);
	conditions->strategies = lappend_int(conditions->strategies, strategy);
	return true;
}

static void
consider_comparison(ConditionList *conditions, OpExpr *clause)
{
	Node	   *left;
	Node	   *right;
	Oid			operator = clause->opno;
	StreamColumnKind kind;
	Oid			type;
	int			strategy;

	if (list_length(clause->args) != 2)
		return;
	left = linitial(clause->args);
	right = lsecond(clause->args);
	kind = metadata_column(conditions, left);
	if (kind == STREAM_COL_PAYLOAD)
	{
		Node	   *swap = left;

		left = right;
		right = swap;
		operator = get_commutator(operator);
		kind = metadata_column(conditions, left);
	}
	if (!OidIsValid(operator) || !known_before_scan(right))
		return;
	if (kind != STREAM_COL_PARTITION && kind != STREAM_COL_OFFSET && kind != STREAM_COL_TIMESTAMP)
		return;

	/* the family of an operator tells its meaning for any pair of types */
	type = kind == STREAM_COL_TIMESTAMP ? TIMESTAMPTZOID : INT8OID;
	strategy = get_op_opfamily_strategy(operator, lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy == 0)
		return;
	/* younger records may be followed by older ones: only a lower bound helps */
	if (kind == STREAM_COL_TIMESTAMP &&
		(strategy == BTLessStrategyNumber || strategy == BTLessEqualStrategyNumber))
		return;
	add_condition(conditions, kind, strategy, right, type);
}

/* partition IN (...), partition = ANY (array) */
static void
consider_array(ConditionList *conditions, ScalarArrayOpExpr *clause)
{
	Node	   *left = linitial(clause->args);
	Node	   *right = lsecond(clause->args);

	if (!clause->useOr || metadata_column(conditions, left) != STREAM_COL_PARTITION ||
		!known_before_scan(right) ||
		get_op_opfamily_strategy(clause->opno, INTEGER_BTREE_FAM_OID) != BTEqualStrategyNumber)
		return;
	add_condition(conditions, STREAM_COL_PARTITION, STREAM_STRATEGY_ANY, right, INT8ARRAYOID);
}

ForeignScan *
stream_get_plan(PlannerInfo *root, RelOptInfo *baserel, Oid relid, ForeignPath *best_path,
				List *tlist, List *scan_clauses, Plan *outer_plan)
{
	StreamSource *source = baserel->fdw_private;
	bool		feed = stream_plan_feed_rows > 0;
	List	   *clauses = extract_actual_clauses(scan_clauses, false);
	ConditionList conditions = {0};
	List	   *fdw_private;

	fdw_private = list_make4(makeInteger(STREAM_PLAN_MAGIC),
							 makeInteger(feed ? STREAM_SCAN_FEED : STREAM_SCAN_PEEK),
							 list_make1_oid(relid),
							 needed_columns(baserel, clauses, source));
	if (!feed)
	{
		ListCell   *lc;

		conditions.varno = baserel->relid;
		conditions.source = source;
		foreach(lc, clauses)
		{
			Node	   *clause = lfirst(lc);

			if (IsA(clause, OpExpr))
				consider_comparison(&conditions, (OpExpr *) clause);
			else if (IsA(clause, ScalarArrayOpExpr))
				consider_array(&conditions, (ScalarArrayOpExpr *) clause);
		}
		fdw_private = lappend(fdw_private, conditions.columns);
		fdw_private = lappend(fdw_private, conditions.strategies);
	}
	return make_foreignscan(tlist, clauses, baserel->relid, conditions.exprs, fdw_private,
							NIL, NIL, outer_plan);
}

/*-------------------------------------------------------------------------
 *
 * keyed.c
 *	  The grouped aggregation of a topic as a node of PostgreSQL's plans.
 *
 * The planner plans the whole statement.  At the place of Agg a hook puts a
 * CustomScan whose child is the input of the aggregation, projected to
 *
 *		keys, event time, place of the message, arguments and filters
 *
 * The child is the row query that each task runs for each batch.  What stands above
 * is the output plan, which the launcher runs at the end of an epoch; there
 * the node gives out the groups of operator_fire_sets, and has no child.
 *
 * custom_private holds what both sides need: see enum KeyedItem.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

Program    *keyed_planning = NULL;

static create_upper_paths_hook_type prev_upper_paths_hook = NULL;

typedef enum KeyedItem
{
	KEYED_NUMBER,				/* Integer */
	KEYED_WINDOW,				/* FuncExpr of a window function, or NULL */
	KEYED_COLUMNS,				/* IntList: number of keys, event time, place */
	KEYED_EQOPS,				/* OidList, by key */
	KEYED_OUTPUT,				/* IntList: kind, number, ... */
	KEYED_ARGS,					/* List of IntList, by aggregate */
	KEYED_FILTERS,				/* IntList, by aggregate */
	KEYED_SETS,					/* List of IntList: keys of each grouping set */
	KEYED_GROUPINGS,			/* List of IntList: keys of each GROUPING() */
	KEYED_OVER,					/* of window functions: see over.c; NIL: it has none */
	KEYED_JOIN,					/* of joins: see join.c; NIL: it is none */
	KEYED_TOP,					/* of the first rows: see top.c; NIL: it does something else */
	KEYED_TOMBSTONE				/* key of the topic's messages, Integer: OID of the topic; may be missing */
} KeyedItem;

static Node *keyed_create_state(CustomScan *scan);
static void keyed_begin(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *keyed_exec(CustomScanState *node);
static void keyed_end(CustomScanState *node);
static void keyed_rescan(CustomScanState *node);
static void keyed_explain(CustomScanState *node, List *ancestors, ExplainState *es);

static const CustomPathMethods keyed_path_methods = {
	.CustomName = "Streamproc Aggregate",
	.PlanCustomPath = keyed_plan_path,
};

static const CustomScanMethods keyed_scan_methods = {
	.CustomName = "Streamproc Aggregate",
	.CreateCustomScanState = keyed_create_state,
};

static const CustomScanMethods over_scan_methods = {
	.CustomName = "Streamproc Over",
	.CreateCustomScanState = keyed_create_state,
};

static const CustomScanMethods join_scan_methods = {
	.CustomName = "Streamproc Join",
	.CreateCustomScanState = keyed_create_state,
};

static const CustomScanMethods top_scan_methods = {
	.CustomName = "Streamproc Top",
	.CreateCustomScanState = keyed_create_state,
};

static const CustomExecMethods keyed_exec_methods = {
	.CustomName = "Streamproc Aggregate",
	.BeginCustomScan = keyed_begin,
	.ExecCustomScan = keyed_exec,
	.EndCustomScan = keyed_end,
	.ReScanCustomScan = keyed_rescan,
	.ExplainCustomScan = keyed_explain,
};

bool
keyed_is_node(const Plan *plan)
{
	return IsA(plan, CustomScan) && ((const CustomScan *) plan)->methods == &keyed_scan_methods;
}

bool
keyed_is_operator(const Plan *plan)
{
	return keyed_is_node(plan) || (IsA(plan, CustomScan) && (((const CustomScan *) plan)->methods == &over_scan_methods ||
															 ((const CustomScan *) plan)->methods == &join_scan_methods ||
															 ((const CustomScan *) plan)->methods == &top_scan_methods));
}

typedef struct KeyedState
{
	CustomScanState css;
	FireScan	scan;
	bool		firing;
	/* where it is noted which groups are given out HAVING is judged here, not by ExecScan() */
	bool		notes_given;
	ExprState  *having;			/* NULL: all groups fulfil it */
	ExprState  *key;			/* NULL: there are no tombstones */
	StreamTombstones *tombstones;
} KeyedState;

/* ---- planning ---- */

static bool
is_marker(Node *node, Oid place)
{
	return IsA(node, Aggref) && ((Aggref *) node)->aggfnoid == place;
}

/* The marker of keyed_prepare() in HAVING; *rest: the other conditions. */
static Aggref *
take_marker(PlannerInfo *root, List **rest)
{
	List	   *quals = (List *) root->parse->havingQual;
	Oid			place;
	Aggref	   *marker = NULL;
	ListCell   *lc;

	*rest = NIL;
	if (quals == NIL)
		return NULL;
	place = keyed_place_aggregate();
	foreach(lc, quals)
	{
		if (is_marker(lfirst(lc), place) && IsA(((TargetEntry *) linitial(((Aggref *) lfirst(lc))->args))->expr, Const))
			marker = lfirst(lc);
		else
			*rest = lappend(*rest, lfirst(lc));
	}
	return marker;
}

typedef struct OutputUse
{
	List	   *keys;			/* expressions that are grouped by */
	List	   *aggs;			/* distinct Aggrefs */
	List	   *others;			/* what depends on keys by a primary key */
	List	   *groupings;		/* distinct GroupingFuncs */
} OutputUse;

static bool
output_walker(Node *node, OutputUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		use->aggs = list_append_unique(use->aggs, node);
		return false;
	}
	if (IsA(node, GroupingFunc))
	{
		use->groupings = list_append_unique(use->groupings, node);
		return false;
	}
	if (list_member(use->keys, node))
		return false;
	if (IsA(node, Var) || IsA(node, PlaceHolderVar))
	{
		use->others = list_append_unique(use->others, node);
		return false;
	}
	return expression_tree_walker(node, output_walker, use);
}

/* Under grouping sets the planner wraps what is no plain column. */
static Expr *
strip_place_holder(Expr *expr)
{
	while (IsA(expr, PlaceHolderVar))
		expr = ((PlaceHolderVar *) expr)->phexpr;
	return expr;
}

bool
keyed_is_border(Node *node, bool *is_end)
{
	WindowFunction function = IsA(node, FuncExpr) ? window_function(((FuncExpr *) node)->funcid) : WINDOW_FUNCTION_NONE;

	*is_end = function == FUNCTION_TUMBLE_END || function == FUNCTION_HOP_END || function == FUNCTION_CUMULATE_END;
	return function >= FUNCTION_TUMBLE_START;
}

/* An argument must not be computed, and so not fail, for a row that FILTER keeps out. */
Expr *
keyed_filtered(Expr *arg, Expr *filter)
{
	CaseExpr   *choice;
	CaseWhen   *when;

	if (filter == NULL || IsA(arg, Var) || IsA(arg, Const) || contain_volatile_functions((Node *) filter))
		return arg;
	when = makeNode(CaseWhen);
	when->expr = copyObject(filter);
	when->result = copyObject(arg);
	when->location = -1;
	choice = makeNode(CaseExpr);
	choice->casetype = exprType((Node *) arg);
	choice->casecollid = exprCollation((Node *) arg);
	choice->args = list_make1(when);
	choice->defresult = (Expr *) makeNullConst(choice->casetype, exprTypmod((Node *) arg), choice->casecollid);
	choice->location = -1;
	return (Expr *) choice;
}

/* Number of the column that the expression is, added where it is new. */
int
keyed_target_column(PathTarget *target, Expr *expr)
{
	ListCell   *lc;

	foreach(lc, target->exprs)
		if (equal(lfirst(lc), expr) && !contain_volatile_functions((Node *) expr))
			return foreach_current_index(lc);
	add_column_to_pathtarget(target, expr, 0);
	if (list_length(target->exprs) > OPERATOR_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("too many keys and arguments in one SELECT of a pipeline"),
				 errdetail("At most %d are possible.", OPERATOR_MAX_COLUMNS)));
	return list_length(target->exprs) - 1;
}

/* Numbers of the keys that the references name; borders of the window as -1 or not at all. */
static List *
keys_of_refs(List *wanted, List *refs, bool with_window)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, wanted)
	{
		ListCell   *lr;
		int			key = -1;

		foreach(lr, refs)
			if (lfirst_int(lr) == lfirst_int(lc))
				key = foreach_current_index(lr);
		if (key >= 0 || with_window)
			keys = lappend_int(keys, key);
	}
	/* an empty set is one, too: a list of nothing would be NULL in a list of lists */
	return keys != NIL ? keys : list_make1_int(-1);
}

static List *
grouping_sets(Query *parse, List *refs, List *window_refs)
{
	List	   *sets = NIL;
	ListCell   *lc;

	/* expanded by the planner */
	foreach(lc, parse->groupingSets)
	{
		List	   *set = lfirst(lc);
		ListCell   *lw;

		foreach(lw, window_refs)
			if (!list_member_int(set, lfirst_int(lw)))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("a grouping set without the window is not supported in a pipeline"),
						 errhint("Put window_start and window_end into each set: GROUP BY window_start, window_end, GROUPING SETS (...).")));
		sets = lappend(sets, keys_of_refs(set, refs, false));
	}
	return sets;
}

static void
upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input, RelOptInfo *output, void *extra)
{
	Query	   *parse = root->parse;
	List	   *having;
	Aggref	   *marker;
	Expr	   *at;
	OutputUse	use = {0};
	FuncExpr   *window = NULL;
	PathTarget *target;
	List	   *eqops = NIL;
	List	   *out = NIL;
	List	   *tlist = NIL;
	List	   *args = NIL;
	List	   *filters = NIL;
	List	   *sets = NIL;
	List	   *groupings = NIL;
	List	   *refs = NIL;		/* IntList: tleSortGroupRef by key */
	List	   *window_refs = NIL;
	List	   *private;
	int			nkeys = 0;
	int			at_column = -1;
	int			place_column;
	CustomPath *path;
	ListCell   *lc;

	if (prev_upper_paths_hook)
		prev_upper_paths_hook(root, stage, input, output, extra);
	if (keyed_planning != NULL && stage == UPPERREL_WINDOW)
		over_paths(root, input, output);
	if (keyed_planning != NULL && stage == UPPERREL_FINAL)
		join_paths(root, input, output);
	if (keyed_planning == NULL || stage != UPPERREL_GROUP_AGG)
		return;
	marker = take_marker(root, &having);
	if (marker == NULL)
		return;

	target = create_empty_pathtarget();
	foreach(lc, parse->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		Expr	   *expr = (Expr *) get_sortgroupclause_expr(clause, root->processed_tlist);
		bool		is_end;

		use.keys = lappend(use.keys, expr);
		if (keyed_is_border((Node *) strip_place_holder(expr), &is_end))
		{
			FuncExpr   *call = (FuncExpr *) strip_place_holder(expr);

			if (window != NULL && !equal(window->args, call->args))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("grouping by two different windows is not supported in a pipeline"),
						 errhint("Write two statements, one for each window.")));
			window = call;
			window_refs = lappend_int(window_refs, clause->tleSortGroupRef);
			out = lappend_int(lappend_int(out, window_function(call->funcid) == FUNCTION_SESSION_SLICE ? OUTPUT_SESSION :
										  is_end ? OUTPUT_WINDOW_END : OUTPUT_WINDOW_START), 0);
		}
		else
		{
			add_column_to_pathtarget(target, expr, clause->tleSortGroupRef);
			refs = lappend_int(refs, clause->tleSortGroupRef);
			eqops = lappend_oid(eqops, clause->eqop);
			out = lappend_int(lappend_int(out, OUTPUT_KEY), nkeys++);
		}
		tlist = lappend(tlist, makeTargetEntry(copyObject(expr), list_length(tlist) + 1, NULL, false));
	}
	(void) output_walker((Node *) root->processed_tlist, &use);
	(void) output_walker((Node *) having, &use);
	/* columns that hang on a primary key: part of the key, so that they are there */
	foreach(lc, use.others)
	{
		Expr	   *expr = lfirst(lc);

		add_column_to_pathtarget(target, expr, 0);
		eqops = lappend_oid(eqops, InvalidOid);
		out = lappend_int(lappend_int(out, OUTPUT_KEY), nkeys++);
		tlist = lappend(tlist, makeTargetEntry(copyObject(expr), list_length(tlist) + 1, NULL, false));
	}
	if (nkeys >= OPERATOR_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("too many columns to group by in a pipeline")));
	at = ((TargetEntry *) lthird(marker->args))->expr;
	if (window != NULL || !IsA(at, Const))
		at_column = keyed_target_column(target, IsA(at, Const) ? (Expr *) linitial(window->args) : at);
	place_column = keyed_target_column(target, ((TargetEntry *) lsecond(marker->args))->expr);
	foreach(lc, use.aggs)
	{
		Aggref	   *aggref = lfirst_node(Aggref, lc);
		List	   *columns = NIL;
		ListCell   *la;

		foreach(la, aggref->args)
			columns = lappend_int(columns, keyed_target_column(target, keyed_filtered(((TargetEntry *) lfirst(la))->expr, aggref->aggfilter)));
		foreach(la, aggref->aggdirectargs)
			columns = lappend_int(columns, keyed_target_column(target, lfirst(la)));
		/* a list of nothing has no type of its own */
		args = lappend(args, columns != NIL ? (Node *) columns : (Node *) list_make1_int(-1));
		filters = lappend_int(filters, aggref->aggfilter != NULL ? keyed_target_column(target, aggref->aggfilter) : -1);
		out = lappend_int(lappend_int(out, OUTPUT_AGGREGATE), foreach_current_index(lc));
		tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(aggref), list_length(tlist) + 1, NULL, false));
	}

	if (parse->groupingSets != NIL)
		sets = grouping_sets(parse, refs, window_refs);
	foreach(lc, use.groupings)
	{
		GroupingFunc *grouping = lfirst_node(GroupingFunc, lc);

		groupings = lappend(groupings, keys_of_refs(grouping->refs, refs, true));
		out = lappend_int(lappend_int(out, OUTPUT_GROUPING), foreach_current_index(lc));
		tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(grouping), list_length(tlist) + 1, NULL, false));
	}

	private = list_make5(makeInteger(DatumGetInt32(((Const *) ((TargetEntry *) linitial(marker->args))->expr)->constvalue)),
						 copyObject(window),
						 list_make3_int(nkeys, at_column, place_column),
						 eqops != NIL ? (Node *) eqops : (Node *) list_make1_oid(InvalidOid),
						 out != NIL ? (Node *) out : (Node *) list_make1_int(-1));
	private = list_concat(list_concat(private, list_make5(args, filters, sets, groupings, NIL)), list_make2(NIL, NIL));

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = output->reltarget;
	path->path.rows = Max(input->cheapest_total_path->rows / 10, 1);
	path->path.startup_cost = path->path.total_cost = input->cheapest_total_path->total_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_paths = list_make1(create_projection_path(root, input, input->cheapest_total_path, target));
	path->custom_private = list_make1(list_make2(private, list_make2(tlist, having)));
	path->methods = &keyed_path_methods;
	output->pathlist = list_make1(path);
	output->partial_pathlist = NIL;
}

Plan *
keyed_plan_path(PlannerInfo *root, RelOptInfo *rel, struct CustomPath *best_path,
				List *tlist, List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	List	   *private = linitial(best_path->custom_private);
	List	   *others = lsecond(private);

	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = lsecond(others);
	scan->custom_plans = custom_plans;
	scan->custom_scan_tlist = linitial(others);
	scan->custom_private = linitial(private);
	scan->flags = best_path->flags;
	if (list_length(others) > 2)
		scan->custom_exprs = lthird(others);
	scan->methods = list_nth(scan->custom_private, KEYED_JOIN) != NIL ? &join_scan_methods :
		list_nth(scan->custom_private, KEYED_OVER) != NIL ? &over_scan_methods :
		list_nth(scan->custom_private, KEYED_TOP) != NIL ? &top_scan_methods : &keyed_scan_methods;
	return (Plan *) scan;
}

/* ---- execution ---- */

static Node *
keyed_create_state(CustomScan *scan)
{
	KeyedState *state = (KeyedState *) newNode(sizeof(KeyedState), T_CustomScanState);

	state->css.methods = &keyed_exec_methods;
	return (Node *) state;
}

int
keyed_number(CustomScan *scan)
{
	return intVal(list_nth(scan->custom_private, KEYED_NUMBER));
}

static void
keyed_begin(CustomScanState *node, EState *estate, int eflags)
{
	KeyedState *state = (KeyedState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
	{
		node->custom_ps = list_make1(ExecInitNode(linitial(scan->custom_plans), estate, eflags));
		return;
	}
	if (operator_fire_sets == NULL)
		elog(ERROR, "an aggregation of a pipeline was run outside of its launcher");
	state->firing = true;
	fire_scan_begin(&state->scan, &operator_fire_sets[keyed_number(scan)]);
	state->notes_given = state->scan.set->spec->notes_given;
	if (!state->notes_given)
		return;
	state->having = node->ss.ps.qual;
	node->ss.ps.qual = NULL;
	if (list_length(scan->custom_private) > KEYED_TOMBSTONE)
	{
		List	   *item = list_nth(scan->custom_private, KEYED_TOMBSTONE);

		state->key = ExecInitExpr(linitial(item), &node->ss.ps);
		state->tombstones = stream_tombstones_begin((Oid) intVal(lsecond(item)));
	}
}

/* It was given out, and does not fulfil HAVING any more. */
static void
take_back(KeyedState *state, ExprContext *econtext)
{
	MemoryContext old;
	Datum		key;
	bool		isnull;

	if (state->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a group that was given out does not fulfil HAVING any more, and its row cannot be taken back"),
				 errhint("Give the pipeline its former query back.")));
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	key = ExecEvalExpr(state->key, econtext, &isnull);
	stream_tombstones_put(state->tombstones, key, isnull);
	MemoryContextSwitchTo(old);
	state->scan.set->tombstones++;
}

/* Is the group in the slot given out? */
static bool
judge(KeyedState *state, TupleTableSlot *slot)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	bool		given;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = slot;
	given = ExecQual(state->having, econtext);
	if (!given && state->scan.was_given)
		take_back(state, econtext);
	given_note(&state->scan, given);
	return given;
}

static TupleTableSlot *
keyed_next(ScanState *node)
{
	KeyedState *state = (KeyedState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	do
	{
		CHECK_FOR_INTERRUPTS();
		ExecClearTuple(slot);
		if (!fire_scan_next(&state->scan, slot->tts_values, slot->tts_isnull))
			break;
		ExecStoreVirtualTuple(slot);
	}
	while (state->notes_given && !judge(state, slot));
	return slot;
}

static bool
keyed_recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
keyed_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, keyed_next, keyed_recheck);
}

static void
keyed_end(CustomScanState *node)
{
	if (node->custom_ps != NIL)
		ExecEndNode(linitial(node->custom_ps));
}

static void
keyed_rescan(CustomScanState *node)
{
	KeyedState *state = (KeyedState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	if (state->firing)
		fire_scan_begin(&state->scan, &operator_fire_sets[keyed_number(scan)]);
	ExecScanReScan(&node->ss);
}

/* ---- what the plan says ---- */

static Const *
window_argument(FuncExpr *call, int n, const char *name)
{
	Node	   *arg = list_nth(call->args, n);

	if (!IsA(arg, Const))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("argument \"%s\" of a window in a pipeline must be a constant", name),
				 errhint("Write it as a literal, such as '1 min'.")));
	return (Const *) arg;
}

static void
read_session(FuncExpr *call, OperatorPlan *plan)
{
	plan->window = OPERATOR_SESSION;
	plan->gap = session_length(DatumGetIntervalP(window_argument(call, 1, "gap")->constvalue), "gap");
	if (!window_argument(call, 2, "max_span")->constisnull)
		plan->max_span = session_length(DatumGetIntervalP(window_argument(call, 2, "max_span")->constvalue), "max_span");
	session_scale_init(&plan->scale, plan->gap);
}

void
keyed_read_window(FuncExpr *call, OperatorWindow *window, WindowScale *scale)
{
	WindowFunction function = window_function(call->funcid);
	bool		tumble = function == FUNCTION_TUMBLE || function == FUNCTION_TUMBLE_START || function == FUNCTION_TUMBLE_END;
	bool		hop = function == FUNCTION_HOP_START || function == FUNCTION_HOP_END;
	int			n = 1;
	Const	   *step = window_argument(call, n, tumble ? "size" : hop ? "slide" : "step");
	Const	   *size = tumble ? step : window_argument(call, ++n, "size");
	Const	   *zone = window_argument(call, ++n, "zone");
	Const	   *origin = window_argument(call, ++n, "origin");
	TimestampTz origin_value = 0;

	if (step->constisnull || size->constisnull || zone->constisnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("size and zone of a window in a pipeline must not be null")));
	if (!origin->constisnull)
		origin_value = DatumGetTimestampTz(origin->constvalue);
	*window = tumble ? OPERATOR_TUMBLE : hop ? OPERATOR_HOP : OPERATOR_CUMULATE;
	window_scale_init(scale, tumble ? WINDOW_TUMBLE : hop ? WINDOW_HOP : WINDOW_CUMULATE,
					  DatumGetIntervalP(step->constvalue), DatumGetIntervalP(size->constvalue),
					  TextDatumGetCString(zone->constvalue), origin->constisnull ? NULL : &origin_value);
}

OperatorSpec *
keyed_read_spec(CustomScan *scan, int statement, bool arrival, int64 ttl, MemoryContext cxt)
{
	OperatorPlan plan = {0};
	List	   *columns = list_nth(scan->custom_private, KEYED_COLUMNS);
	FuncExpr   *window = list_nth(scan->custom_private, KEYED_WINDOW);
	List	   *child_tlist = ((Plan *) linitial(scan->custom_plans))->targetlist;
	int			nkeys = linitial_int(columns);
	ListCell   *lc;

	plan.number = keyed_number(scan);
	plan.statement = statement;
	plan.ttl = ttl;
	plan.at_column = lsecond_int(columns);
	plan.place_column = lthird_int(columns);
	plan.output = list_nth(scan->custom_private, KEYED_OUTPUT);
	if (linitial_int(plan.output) < 0)
		plan.output = NIL;
	plan.agg_args = NIL;
	foreach(lc, (List *) list_nth(scan->custom_private, KEYED_ARGS))
	{
		List	   *args = lfirst(lc);

		plan.agg_args = lappend(plan.agg_args, linitial_int(args) < 0 ? NIL : args);
	}
	plan.agg_filters = list_nth(scan->custom_private, KEYED_FILTERS);
	foreach(lc, (List *) list_nth(scan->custom_private, KEYED_SETS))
	{
		List	   *set = lfirst(lc);

		plan.sets = lappend(plan.sets, linitial_int(set) < 0 ? NIL : set);
	}
	plan.groupings = list_nth(scan->custom_private, KEYED_GROUPINGS);
	foreach(lc, child_tlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;

		plan.columns = lappend(plan.columns, expr);
		if (foreach_current_index(lc) < nkeys)
		{
			plan.key_exprs = lappend(plan.key_exprs, expr);
			plan.key_eqops = lappend_oid(plan.key_eqops, list_nth_oid(list_nth(scan->custom_private, KEYED_EQOPS), foreach_current_index(lc)));
		}
	}
	foreach(lc, scan->custom_scan_tlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;

		if (IsA(expr, Aggref))
			plan.aggrefs = lappend(plan.aggrefs, expr);
	}
	if (window != NULL && window_function(window->funcid) == FUNCTION_SESSION_SLICE)
		read_session(window, &plan);
	else if (window != NULL)
		keyed_read_window(window, &plan.window, &plan.scale);
	if (list_nth(scan->custom_private, KEYED_OVER) != NIL)
		plan.over = over_read(scan, list_nth(scan->custom_private, KEYED_OVER), plan.agg_args, plan.agg_filters, arrival);
	if (list_nth(scan->custom_private, KEYED_JOIN) != NIL)
	{
		plan.asof = asof_read(list_nth(scan->custom_private, KEYED_JOIN), scan, plan.output, plan.place_column + 1);
		if (plan.asof == NULL)
			plan.join = join_read(list_nth(scan->custom_private, KEYED_JOIN), plan.place_column + 1);
	}
	if (list_nth(scan->custom_private, KEYED_TOP) != NIL)
		plan.top = top_read(list_nth(scan->custom_private, KEYED_TOP));
	return operator_spec_make(&plan, cxt);
}

/* ---- tombstones ---- */

/* Windows of slices have no entries to note it in. */
bool
keyed_notes_given(const CustomScan *scan)
{
	FuncExpr   *window = list_nth(scan->custom_private, KEYED_WINDOW);
	WindowFunction function = window != NULL ? window_function(window->funcid) : WINDOW_FUNCTION_NONE;

	return keyed_is_node(&scan->scan.plan) && (function == WINDOW_FUNCTION_NONE || function == FUNCTION_TUMBLE || function == FUNCTION_TUMBLE_START ||
											   function == FUNCTION_TUMBLE_END);
}

void
keyed_set_tombstone(CustomScan *scan, Expr *key, Oid topic)
{
	Assert(list_length(scan->custom_private) == KEYED_TOMBSTONE);
	scan->custom_private = lappend(scan->custom_private, list_make2(key, makeInteger((int) topic)));
}

/* ---- EXPLAIN ---- */

static char *
us_text(int64 us)
{
	Interval	interval = {.time = us};

	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&interval)));
}

static void
keyed_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	OperatorSpec *spec = keyed_read_spec(scan, 0, false, 0, CurrentMemoryContext);
	static const char *const windows[] = {"none", "tumble", "hop", "cumulate", "session"};
	int			i;

	ExplainPropertyInteger("Operator", NULL, spec->number, es);
	if (spec->over != NULL)
	{
		ExplainPropertyText("Functions", over_describe(spec), es);
		ExplainPropertyText("Kept", over_kept(spec), es);
		return;
	}
	if (spec->join != NULL || spec->asof != NULL)
	{
		ExplainPropertyText("Join", spec->asof != NULL ? asof_describe(spec) : join_describe(spec), es);
		return;
	}
	ExplainPropertyText("Windows", windows[spec->window], es);
	if (spec->window == OPERATOR_SESSION)
	{
		ExplainPropertyText("Gap", us_text(spec->gap), es);
		if (spec->max_span > 0)
			ExplainPropertyText("Longest", us_text(spec->max_span), es);
		ExplainPropertyText("Kept", psprintf("%sof each open session an entry in each slice of %s", spec->max_span > 0 ? "rows until their slice is over, and " : "", us_text(spec->scale.step)), es);
	}
	if (spec->window == OPERATOR_HOP || spec->window == OPERATOR_CUMULATE)
		ExplainPropertyInteger("Slices of a Window", NULL, spec->scale.slices, es);
	if (spec->window != OPERATOR_SESSION)
		ExplainPropertyText("Kept", spec->window == OPERATOR_NO_WINDOW ? "one entry per key" : spec->window == OPERATOR_TUMBLE ?
							"one entry per key and window" : "one entry per key and slice", es);
	if (spec->top != NULL)
		ExplainPropertyInteger(spec->top->ranking == TOP_ROW_NUMBER ? "First Rows" : "First Ranks", NULL, spec->top->n, es);
	for (i = 0; i < spec->naggs; i++)
		ExplainPropertyText(spec->aggs[i].name, operator_kind_name(&spec->aggs[i]), es);
}

void
keyed_init(void)
{
	RegisterCustomScanMethods(&keyed_scan_methods);
	RegisterCustomScanMethods(&over_scan_methods);
	RegisterCustomScanMethods(&join_scan_methods);
	RegisterCustomScanMethods(&top_scan_methods);
	prev_upper_paths_hook = create_upper_paths_hook;
	create_upper_paths_hook = upper_paths;
}

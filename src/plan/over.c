/*-------------------------------------------------------------------------
 *
 * over.c
 *	  Window functions over a topic as a node of PostgreSQL's plans.
 *
 * As keyed.c does with Agg, all WindowAggs of a SELECT are exchanged for one
 * CustomScan, whose child is their input projected to
 *
 *		keys (PARTITION BY), event time, place of the message, columns that
 *		are needed above, arguments and filters
 *
 * keyed_prepare() has marked the SELECT by a junk column with the place of the
 * message, named OVER_MARKER and the number of the operator.
 *
 * The planner moves "row_number() OVER ... <= n" of a SELECT around this one into
 * WindowClause.runCondition and forgets it: the node has to ask for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/tlist.h"
#include "plan/keyed.h"
#include "utils/lsyscache.h"

static const CustomPathMethods over_path_methods = {
	.CustomName = "Streamproc Over",
	.PlanCustomPath = keyed_plan_path,
};

/* ---- planning ---- */

TargetEntry *
keyed_find_marker(PlannerInfo *root, const char *name)
{
	ListCell   *lc;

	foreach(lc, root->processed_tlist)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk && tle->resname != NULL && strncmp(tle->resname, name, strlen(name)) == 0)
			return tle;
	}
	return NULL;
}

typedef struct OutputUse
{
	List	   *input;			/* what the child of WindowAgg gives */
	List	   *columns;		/* what of it is needed above */
	List	   *functions;		/* distinct WindowFuncs */
} OutputUse;

static bool
output_walker(Node *node, OutputUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		use->functions = list_append_unique(use->functions, node);
		return false;
	}
	if (list_member(use->input, node) || IsA(node, Var) || IsA(node, PlaceHolderVar))
	{
		if (!IsA(node, Const))
			use->columns = list_append_unique(use->columns, node);
		return false;
	}
	return expression_tree_walker(node, output_walker, use);
}

/* Number of the window's frame; the same frame of two windows is one. */
static int
frame_number(WindowClause *window, List **options, List **offsets)
{
	ListCell   *lc,
			   *lo;
	int			what = window->frameOptions & ~(FRAMEOPTION_NONDEFAULT | FRAMEOPTION_BETWEEN);

	forboth(lc, *options, lo, *offsets)
		if (lfirst_int(lc) == what && equal(lfirst(lo), window->startOffset))
			return foreach_current_index(lc);
	*options = lappend_int(*options, what);
	*offsets = lappend(*offsets, copyObject(window->startOffset));
	return list_length(*options) - 1;
}

static WindowClause *
window_of(PlannerInfo *root, WindowFunc *function)
{
	ListCell   *lc;

	foreach(lc, root->parse->windowClause)
		if (lfirst_node(WindowClause, lc)->winref == function->winref)
			return lfirst(lc);
	elog(ERROR, "a window function has no window");
}

void
over_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output)
{
	TargetEntry *marker = keyed_find_marker(root, OVER_MARKER);
	PathTarget *result = root->upper_targets[UPPERREL_WINDOW];
	OutputUse	use = {0};
	PathTarget *target;
	WindowClause *window;
	List	   *qual = NIL;
	List	   *eqops = NIL;
	List	   *out = NIL;
	List	   *tlist = NIL;
	List	   *args = NIL;
	List	   *filters = NIL;
	List	   *frames = NIL;
	List	   *offsets = NIL;
	List	   *function_frames = NIL;
	List	   *private;
	CustomPath *path;
	int			nkeys = 0;
	int			at_column;
	int			place_column;
	ListCell   *lc;

	if (marker == NULL)
		return;
	if (strstr(marker->resname, OVER_MARKER_TOP) != NULL)
	{
		top_paths(root, input, output, marker, atoi(strstr(marker->resname, OVER_MARKER_TOP) + strlen(OVER_MARKER_TOP)));
		return;
	}
	use.input = input->cheapest_total_path->pathtarget->exprs;
	foreach(lc, result->exprs)
		(void) output_walker(lfirst(lc), &use);
	foreach(lc, root->parse->windowClause)
		qual = list_concat(qual, copyObject(lfirst_node(WindowClause, lc)->runCondition));
	(void) output_walker((Node *) qual, &use);
	if (use.functions == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("no window function of the query is used"),
				 errhint("Leave them out.")));

	window = window_of(root, linitial(use.functions));
	target = create_empty_pathtarget();
	foreach(lc, window->partitionClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);

		add_column_to_pathtarget(target, (Expr *) get_sortgroupclause_expr(clause, root->processed_tlist), 0);
		eqops = lappend_oid(eqops, clause->eqop);
		nkeys++;
	}
	if (nkeys >= OPERATOR_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("too many columns in PARTITION BY in a pipeline")));
	at_column = keyed_target_column(target, (Expr *) get_sortgroupclause_expr(linitial_node(SortGroupClause, window->orderClause), root->processed_tlist));
	place_column = keyed_target_column(target, marker->expr);
	foreach(lc, use.columns)
	{
		Expr	   *expr = lfirst(lc);

		out = lappend_int(lappend_int(out, OUTPUT_COLUMN), keyed_target_column(target, expr));
		tlist = lappend(tlist, makeTargetEntry(copyObject(expr), list_length(tlist) + 1, NULL, false));
	}
	foreach(lc, use.functions)
	{
		WindowFunc *function = lfirst_node(WindowFunc, lc);
		List	   *columns = NIL;
		ListCell   *la;

		foreach(la, function->args)
			columns = lappend_int(columns, keyed_target_column(target, keyed_filtered(lfirst(la), function->aggfilter)));
		args = lappend(args, columns != NIL ? (Node *) columns : (Node *) list_make1_int(-1));
		filters = lappend_int(filters, function->aggfilter != NULL ? keyed_target_column(target, function->aggfilter) : -1);
		function_frames = lappend_int(function_frames, frame_number(window_of(root, function), &frames, &offsets));
		out = lappend_int(lappend_int(out, OUTPUT_OVER), foreach_current_index(lc));
		tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(function), list_length(tlist) + 1, NULL, false));
	}

	/* as keyed.c reads it: see KeyedItem there */
	private = list_make5(makeInteger(atoi(marker->resname + strlen(OVER_MARKER))),
						 NULL,
						 list_make3_int(nkeys, at_column, place_column),
						 eqops != NIL ? (Node *) eqops : (Node *) list_make1_oid(InvalidOid),
						 out);
	private = list_concat(private, list_make5(args, filters, NIL, NIL, list_make4(frames, offsets, function_frames, list_make1_int(strstr(marker->resname, OVER_MARKER_FIRST) != NULL))));
	private = list_concat(private, list_make2(NIL, NIL));

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = result;
	path->path.rows = input->cheapest_total_path->rows;
	path->path.startup_cost = path->path.total_cost = input->cheapest_total_path->total_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_paths = list_make1(create_projection_path(root, input, input->cheapest_total_path, target));
	path->custom_private = list_make1(list_make2(private, list_make2(tlist, qual)));
	path->methods = &over_path_methods;
	output->pathlist = list_make1(path);
	output->partial_pathlist = NIL;
}

/* ---- what the plan says ---- */

OverPlan *
over_read(CustomScan *scan, List *private, List *args, List *filters, bool arrival)
{
	OverPlan   *plan = palloc0(sizeof(OverPlan));
	ListCell   *lc;

	plan->arrival = arrival;
	plan->frames = linitial(private);
	plan->offsets = lsecond(private);
	plan->function_frames = lthird(private);
	plan->first_only = linitial_int(lfourth(private)) != 0;
	plan->args = args;
	plan->filters = filters;
	foreach(lc, scan->custom_scan_tlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;

		if (IsA(expr, WindowFunc))
			plan->functions = lappend(plan->functions, expr);
	}
	return plan;
}

/* ---- the filter ---- */

typedef struct LowerContext
{
	Index		scanrelid;		/* of the SubqueryScan */
	List	   *tlist;			/* of the node below it */
} LowerContext;

/* A column of the SubqueryScan as what the node below makes it of. */
static Node *
lower_mutator(Node *node, LowerContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == (int) cxt->scanrelid)
		return copyObject((Node *) list_nth_node(TargetEntry, cxt->tlist, ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, lower_mutator, cxt);
}

static bool
needs_executor(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) || IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return true;
	return expression_tree_walker(node, needs_executor, context);
}

void
over_push_filter(OperatorSpec *spec, CustomScan *scan, Plan *parent)
{
	List	   *quals = list_copy(scan->scan.plan.qual);
	List	   *pushed = NIL;
	ListCell   *lc;

	if (parent != NULL && IsA(parent, SubqueryScan))
	{
		LowerContext cxt = {((SubqueryScan *) parent)->scan.scanrelid, scan->scan.plan.targetlist};

		quals = list_concat(quals, (List *) lower_mutator((Node *) parent->qual, &cxt));
	}
	foreach(lc, quals)
		if (!needs_executor(lfirst(lc), NULL) && !contain_volatile_functions(lfirst(lc)))
			pushed = lappend(pushed, copyObject(lfirst(lc)));
	if (pushed != NIL)
		over_set_filter(spec, pushed, scan->custom_scan_tlist);
}

/*-------------------------------------------------------------------------
 *
 * top.c
 *	  The first n rows of each key as a node of PostgreSQL's plans.
 *
 * As over.c does with window functions: WindowAgg is exchanged for a CustomScan whose
 * child is its input projected to
 *
 *		keys (PARTITION BY, but borders of a window), event time, place of the
 *		message, columns to sort by, columns that are needed above
 *
 * keyed_prepare() has marked the SELECT by the junk column OVER_MARKER, whose name
 * says how many rows are wanted, and given it the event time as another one where that is
 * needed.  The node is a group to everybody else, of windows or running, that gives out
 * several rows.
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
#include "plan/legality.h"

static const CustomPathMethods top_path_methods = {
	.CustomName = "Streamproc Top",
	.PlanCustomPath = keyed_plan_path,
};

typedef struct TopUse
{
	List	   *input;			/* what the child of WindowAgg gives */
	FuncExpr   *window;			/* whose borders are among the keys; NULL: none */
	List	   *columns;		/* what of it is needed above, keys and numbers too */
} TopUse;

static bool
is_border_of(Node *node, FuncExpr *window, bool *is_end)
{
	return window != NULL && keyed_is_border(node, is_end) && equal(window->args, ((FuncExpr *) node)->args);
}

static bool
use_walker(Node *node, TopUse *use)
{
	bool		is_end;

	if (node == NULL)
		return false;
	if (is_border_of(node, use->window, &is_end) || IsA(node, WindowFunc) || IsA(node, Var) || IsA(node, PlaceHolderVar) || (list_member(use->input, node) && !IsA(node, Const)))
	{
		use->columns = list_append_unique(use->columns, node);
		return false;
	}
	return expression_tree_walker(node, use_walker, use);
}

static Expr *
junk_column(PlannerInfo *root, const char *name)
{
	ListCell   *lc;

	foreach(lc, root->processed_tlist)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk && tle->resname != NULL && strcmp(tle->resname, name) == 0)
			return tle->expr;
	}
	return NULL;
}

void
top_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, TargetEntry *marker, int n)
{
	PathTarget *result = root->upper_targets[UPPERREL_WINDOW];
	WindowClause *clause = linitial_node(WindowClause, root->parse->windowClause);
	PathTarget *target = create_empty_pathtarget();
	TopUse		use = {input->cheapest_total_path->pathtarget->exprs};
	TopUse		all;
	FuncExpr   *window = NULL;
	TopRanking	ranking = TOP_ROW_NUMBER;
	List	   *keys = NIL;
	List	   *eqops = NIL;
	List	   *sort_columns = NIL;
	List	   *sort_ops = NIL;
	List	   *nulls_first = NIL;
	List	   *out = NIL;
	List	   *tlist = NIL;
	List	   *qual = copyObject(clause->runCondition);
	Expr	   *at = junk_column(root, OVER_EVENT_TIME);
	List	   *private;
	CustomPath *path;
	int			at_column = -1;
	int			place_column;
	bool		is_end;
	ListCell   *lc;

	foreach(lc, clause->partitionClause)
	{
		SortGroupClause *key = lfirst_node(SortGroupClause, lc);
		Expr	   *expr = (Expr *) get_sortgroupclause_expr(key, root->processed_tlist);

		if (keyed_is_border((Node *) expr, &is_end))
		{
			if (window != NULL && !equal(window->args, ((FuncExpr *) expr)->args))
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("PARTITION BY two different windows is not supported in a pipeline"),
						 errhint("Write two statements, one for each window.")));
			window = (FuncExpr *) expr;
			continue;
		}
		if (list_member(keys, expr))
			continue;
		keys = lappend(keys, expr);
		add_column_to_pathtarget(target, expr, 0);
		eqops = lappend_oid(eqops, key->eqop);
	}
	if (list_length(keys) >= OPERATOR_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_COLUMNS),
				 errmsg("too many columns in PARTITION BY in a pipeline")));
	if (window != NULL || at != NULL)
		at_column = keyed_target_column(target, at != NULL ? at : (Expr *) linitial(window->args));
	place_column = keyed_target_column(target, marker->expr);
	foreach(lc, clause->orderClause)
	{
		SortGroupClause *order = lfirst_node(SortGroupClause, lc);
		int			column = keyed_target_column(target, (Expr *) get_sortgroupclause_expr(order, root->processed_tlist));

		sort_columns = lappend_int(sort_columns, column);
		sort_ops = lappend_oid(sort_ops, order->sortop);
		nulls_first = lappend_int(nulls_first, order->nulls_first);
	}

	use.window = window;
	all = use;
	/* junk columns stand in the result, too, but nobody reads them */
	foreach(lc, root->processed_tlist)
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			(void) use_walker((Node *) lfirst_node(TargetEntry, lc)->expr, &use);
	(void) use_walker((Node *) qual, &use);
	foreach(lc, result->exprs)
		(void) use_walker(lfirst(lc), &all);
	foreach(lc, list_concat_unique(list_copy(use.columns), all.columns))
	{
		Node	   *expr = lfirst(lc);
		int			number = 0;
		OutputKind	kind = OUTPUT_COLUMN;
		ListCell   *lk;

		if (IsA(expr, WindowFunc))
		{
			kind = OUTPUT_NUMBER;
			ranking = (TopRanking) legality_ranking((WindowFunc *) expr);
		}
		else if (is_border_of(expr, window, &is_end))
			kind = is_end ? OUTPUT_WINDOW_END : OUTPUT_WINDOW_START;
		foreach(lk, keys)
			if (equal(lfirst(lk), expr))
			{
				kind = OUTPUT_KEY;
				number = foreach_current_index(lk);
			}
		if (kind == OUTPUT_COLUMN && !list_member(use.columns, expr))
			kind = OUTPUT_NOTHING;
		if (kind == OUTPUT_COLUMN)
			number = keyed_target_column(target, (Expr *) expr);
		out = lappend_int(lappend_int(out, kind), number);
		tlist = lappend(tlist, makeTargetEntry((Expr *) copyObject(expr), list_length(tlist) + 1, NULL, false));
	}

	/* as keyed.c reads it: see KeyedItem there */
	private = list_make5(makeInteger(atoi(marker->resname + strlen(OVER_MARKER))),
						 copyObject(window),
						 list_make3_int(list_length(keys), at_column, place_column),
						 eqops != NIL ? (Node *) eqops : (Node *) list_make1_oid(InvalidOid),
						 out);
	private = list_concat(private, list_make5(NIL, NIL, NIL, NIL, NIL));
	private = lappend(private, NIL);
	private = lappend(private, list_make5(makeInteger(n), sort_columns, sort_ops, nulls_first, makeInteger(ranking)));

	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = result;
	path->path.rows = Max(input->cheapest_total_path->rows / 10, 1);
	path->path.startup_cost = path->path.total_cost = input->cheapest_total_path->total_cost;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->custom_paths = list_make1(create_projection_path(root, input, input->cheapest_total_path, target));
	path->custom_private = list_make1(list_make2(private, list_make2(tlist, qual)));
	path->methods = &top_path_methods;
	output->pathlist = list_make1(path);
	output->partial_pathlist = NIL;
}

TopPlan *
top_read(List *private)
{
	TopPlan    *plan = palloc0(sizeof(TopPlan));

	plan->n = intVal(linitial(private));
	plan->sort_columns = lsecond(private);
	plan->sort_ops = lthird(private);
	plan->nulls_first = lfourth(private);
	plan->ranking = (TopRanking) intVal(list_nth(private, 4));
	return plan;
}

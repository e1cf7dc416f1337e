/*-------------------------------------------------------------------------
 *
 * keyed_collect.c
 *	  A planned statement taken apart: its operators, the row query of each, and
 *	  which of them reads what another one answers.
 *
 * What stands below an operator's node is its row query, which tasks run; what
 * stands above is the output plan, which the launcher runs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "plan/keyed.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

typedef struct CollectContext
{
	Program    *program;
	Statement  *statement;
	PlannedStmt *plan;
	int			size;
	List	   *init_plans;		/* of the nodes above */
	List	   *output_subplans;	/* IntList: indexes of those that hold an operator or ModifyTable */
	int			subplan;		/* index of the one that is walked, -1: the main plan */
	Plan	   *parent;			/* of the node that is walked; NULL: it is the top */
	int			above;			/* the operator whose input is walked, -1: none */
	bool		below;			/* an operator */
} CollectContext;

static PlannedStmt *
row_query(CollectContext *cxt, CustomScan *scan)
{
	PlannedStmt *whole = cxt->plan;
	PlannedStmt *rows = makeNode(PlannedStmt);
	Plan	   *child = copyObject((Plan *) linitial(scan->custom_plans));
	ListCell   *lc;

	*rows = *whole;
	/* init plans of the operator and above must hang where they are used; a copy for this plan */
	child->initPlan = list_concat(copyObject(cxt->init_plans), child->initPlan);
	rows->planTree = child;
	rows->commandType = CMD_SELECT;
	rows->hasReturning = false;
	rows->hasModifyingCTE = false;
	rows->resultRelations = NIL;
	rows->rowMarks = NIL;
	rows->canSetTag = true;
	/* rights on the sink are not asked for a query that only reads: it runs in a read-only transaction */
	rows->rtable = copyObject(whole->rtable);
	foreach(lc, rows->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->requiredPerms & ~ACL_SELECT)
			rte->requiredPerms = 0;
	}
	return rows;
}

/* Slices are no windows: a condition on their borders would mean something else. */
static bool
slice_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && window_function(((FuncExpr *) node)->funcid) >= FUNCTION_HOP_START)
		return true;
	return expression_tree_walker(node, slice_walker, context);
}

static bool
collect_walker(PlanState *state, CollectContext *cxt)
{
	int			init_plans = list_length(cxt->init_plans);
	Plan	   *parent = cxt->parent;
	int			above = cxt->above;
	bool		below = cxt->below;
	Oid			relid;
	Bitmapset  *needed;

	if (state == NULL)
		return false;
	/* tasks run what stands below operators, and nothing else */
	if (!below && IsA(state->plan, ForeignScan) && stream_scan_is_feed((ForeignScan *) state->plan, &relid, &needed))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("statement %d reads topic \"%s\" beside groups, window functions or a join of topics", cxt->statement->number, get_rel_name(relid)),
				 errhint("Make two statements of it, in two pipelines.")));
	if (slice_walker((Node *) state->plan->qual, NULL) &&
		!keyed_is_operator(state->plan))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("conditions on the borders of windows of hop() or cumulate() are not supported in a pipeline"),
				 errhint("Filter when you read the table.")));
	cxt->init_plans = list_concat(cxt->init_plans, state->plan->initPlan);
	if (cxt->subplan >= 0 && (IsA(state->plan, ModifyTable) ||
							  keyed_is_operator(state->plan)))
		cxt->output_subplans = list_append_unique_int(cxt->output_subplans, cxt->subplan);
	if (keyed_is_operator(state->plan))
	{
		CustomScan *scan = (CustomScan *) state->plan;
		MemoryContext old = MemoryContextSwitchTo(cxt->program->cxt);
		int			number = keyed_number(scan);
		KeyedNode  *node = &cxt->program->keyed[number];

		if (number < 0 || number >= cxt->program->nkeyed)
			elog(ERROR, "there is no operator %d", number);
		if (node->spec == NULL)
		{
			node->spec = keyed_read_spec(scan, cxt->statement->number, cxt->program->arrival, cxt->program->state_ttl, cxt->program->cxt);
			if (node->held_for != NULL)
			{
				OperatorWindow window;

				keyed_read_window(node->held_for, &window, &node->spec->held_scale);
				node->spec->held = true;
				node->spec->held_on_end = node->held_on_end;
			}
			node->spec->notes_given = OidIsValid(cxt->statement->info->sink_server) && !cxt->statement->info->nested &&
				keyed_notes_given(scan);
			node->rows = rows_create(node->spec, cxt->program->cxt);
			node->upstream = -1;
			node->consumer = above;
			if (above >= 0)
				cxt->program->keyed[above].upstream = number;
			/* for those of its rows that become dead letters */
			if (above >= 0 || node->spec->join != NULL)
				node->answer = chain_describe(scan, cxt->plan->rtable);
			if (node->spec->join != NULL && scan->custom_exprs != NIL)
				join_set_condition(node->spec, copyObject(scan->custom_exprs), scan->custom_scan_tlist);
			if (operator_gives_rows(node->spec))
				over_push_filter(node->spec, scan, cxt->parent);
		}
		node->query[cxt->size] = row_query(cxt, scan);
		MemoryContextSwitchTo(old);
		cxt->above = number;
	}
	cxt->parent = state->plan;
	cxt->below |= keyed_is_operator(state->plan);
	(void) planstate_tree_walker(state, collect_walker, cxt);
	cxt->below = below;
	cxt->parent = parent;
	cxt->above = above;
	cxt->init_plans = list_truncate(cxt->init_plans, init_plans);
	return false;
}

void
keyed_collect(Program *program, Statement *statement, PlannedStmt *plan, int size)
{
	CollectContext cxt = {program, statement, plan, size, NIL, NIL, -1, NULL, -1, false};
	QueryDesc  *desc;
	ListCell   *lc;
	int			i;

	desc = CreateQueryDesc(plan, "", GetActiveSnapshot(), InvalidSnapshot, None_Receiver, NULL, NULL, 0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	(void) collect_walker(desc->planstate, &cxt);
	foreach(lc, desc->estate->es_subplanstates)
	{
		cxt.subplan = foreach_current_index(lc);
		cxt.parent = NULL;
		(void) collect_walker(lfirst(lc), &cxt);
	}
	ExecutorEnd(desc);
	FreeQueryDesc(desc);

	/* operators below have smaller numbers */
	for (i = 0; i < program->nkeyed; i++)
	{
		KeyedNode  *node = &program->keyed[i];

		if (node->spec != NULL && node->spec->statement == statement->number)
			place_plan(node->spec, node->upstream >= 0 ? program->keyed[node->upstream].spec : NULL, node->consumer >= 0 ? program->keyed[node->consumer].spec : NULL);
	}

	/* a row query must not start what belongs to the output */
	for (i = 0; i < program->nkeyed; i++)
	{
		KeyedNode  *node = &program->keyed[i];
		ListCell   *ls;

		if (node->spec == NULL || node->spec->statement != statement->number || node->query[size] == NULL)
			continue;
		/* the judge of the Query saw one, the planner has not brought it here */
		if (statement->info->windowed && !operator_gives_rows(node->spec) && node->spec->window == OPERATOR_NO_WINDOW)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the window of statement %d does not reach its GROUP BY", statement->number),
					 errhint("Call tumble(), hop() or cumulate() in the FROM of the SELECT that groups by it.")));
		node->query[size]->subplans = list_copy(node->query[size]->subplans);
		foreach(ls, cxt.output_subplans)
			lfirst(list_nth_cell(node->query[size]->subplans, lfirst_int(ls))) = NULL;
	}
}

/*-------------------------------------------------------------------------
 *
 * output.c
 *	  The output plan of a keyed statement, without what belongs to row queries.
 *
 * The executor starts all subplans of a plan, also those that only the input of an
 * operator reads: a WITH query over the topic that is not inlined.  The launcher
 * has no batch for them.  They are taken out of the plan that it runs, with the init plans
 * by which they hang on nodes above the operator.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "plan/keyed.h"
#include "utils/snapmgr.h"

typedef struct SubplanUse
{
	Bitmapset  *inputs;			/* subplans that give rows of the topic, before any operator */
	bool		reads;			/* so does this one */
	bool		gives;			/* holds an operator, or writes */
} SubplanUse;

static bool
use_walker(PlanState *state, SubplanUse *use)
{
	Oid			relid;
	Bitmapset  *needed;

	if (state == NULL)
		return false;
	if (keyed_is_operator(state->plan) || IsA(state->plan, ModifyTable))
		use->gives = true;
	if (IsA(state->plan, CteScan) && bms_is_member(((CteScan *) state->plan)->ctePlanId, use->inputs))
		use->reads = true;
	if (IsA(state->plan, ForeignScan) && stream_scan_is_feed((ForeignScan *) state->plan, &relid, &needed))
		use->reads = true;
	return planstate_tree_walker(state, use_walker, use);
}

static bool
strip_walker(PlanState *state, Bitmapset *inputs)
{
	List	   *kept = NIL;
	ListCell   *lc;

	if (state == NULL)
		return false;
	foreach(lc, state->plan->initPlan)
		if (!bms_is_member(lfirst_node(SubPlan, lc)->plan_id, inputs))
			kept = lappend(kept, lfirst(lc));
	state->plan->initPlan = kept;
	/* the launcher does not start the child of an operator */
	if (keyed_is_operator(state->plan))
		return false;
	return planstate_tree_walker(state, strip_walker, inputs);
}

void
output_strip(PlannedStmt *plan)
{
	QueryDesc  *desc = CreateQueryDesc(plan, "", GetActiveSnapshot(), InvalidSnapshot, None_Receiver, NULL, NULL, 0);
	List	   *subplans = NIL;
	SubplanUse	use = {0};
	ListCell   *lc;

	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	/* a WITH query stands behind those that it reads */
	foreach(lc, desc->estate->es_subplanstates)
	{
		use.reads = use.gives = false;
		(void) use_walker(lfirst(lc), &use);
		if (use.reads && !use.gives)
			use.inputs = bms_add_member(use.inputs, foreach_current_index(lc) + 1);
	}
	(void) strip_walker(desc->planstate, use.inputs);
	foreach(lc, desc->estate->es_subplanstates)
		if (!bms_is_member(foreach_current_index(lc) + 1, use.inputs))
			(void) strip_walker(lfirst(lc), use.inputs);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);

	foreach(lc, plan->subplans)
		subplans = lappend(subplans, bms_is_member(foreach_current_index(lc) + 1, use.inputs) ? NULL : lfirst(lc));
	plan->subplans = subplans;
}

/*-------------------------------------------------------------------------
 *
 * tombstone.c
 *	  The key of a group's row in a topic, for when the group has to leave it.
 *
 * A group that does not fulfil HAVING any more gets a message with the key of
 * its row and no value.  The row itself must not be computed for it: HAVING may
 * be what keeps the select list from failing.  So the expression of the key
 * column alone is traced from the top of the plan down to our node, and computed
 * there, from what the group is.
 *
 * That needs a plan in which each group that passes the node becomes one row of the
 * topic: nothing but projections between the two.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

typedef struct TraceContext
{
	Plan	   *child;
	int			varno;			/* of its columns */
	bool		lost;
} TraceContext;

static Node *trace(Plan *plan, AttrNumber column);

static Node *
trace_mutator(Node *node, TraceContext *cxt)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Node	   *below = ((Var *) node)->varno == cxt->varno ? trace(cxt->child, ((Var *) node)->varattno) : NULL;

		if (below == NULL)
			cxt->lost = true;
		return below;
	}
	return expression_tree_mutator(node, trace_mutator, cxt);
}

/* Where each row of the plan is one of its child, as it is or projected: that, else NULL. */
static Plan *
projected(Plan *plan, int *varno)
{
	if (plan->qual != NIL)
		return NULL;
	if (IsA(plan, SubqueryScan))
	{
		*varno = ((SubqueryScan *) plan)->scan.scanrelid;
		return ((SubqueryScan *) plan)->subplan;
	}
	if (IsA(plan, Result) && ((Result *) plan)->resconstantqual == NULL)
	{
		*varno = OUTER_VAR;
		return outerPlan(plan);
	}
	return NULL;
}

/* A column of the plan in terms of our node's columns; NULL: something stands between. */
static Node *
trace(Plan *plan, AttrNumber column)
{
	TargetEntry *tle = get_tle_by_resno(plan->targetlist, column);
	TraceContext cxt = {NULL};
	Node	   *expr;

	if (tle == NULL || keyed_is_node(plan))
		return tle != NULL ? copyObject((Node *) tle->expr) : NULL;
	cxt.child = projected(plan, &cxt.varno);
	if (cxt.child == NULL)
		return NULL;
	expr = trace_mutator((Node *) tle->expr, &cxt);
	return cxt.lost ? NULL : expr;
}

static CustomScan *
node_below(Plan *plan)
{
	int			varno;

	while (plan != NULL && !keyed_is_node(plan))
		plan = projected(plan, &varno);
	return (CustomScan *) plan;
}

static bool
has_row_trigger(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		result = rel->trigdesc != NULL && rel->trigdesc->trig_insert_before_row;

	table_close(rel, NoLock);
	return result;
}

/* Is the column always NULL? */
static bool
column_is_null(Plan *plan, AttrNumber column)
{
	Node	   *expr = trace(plan, column);

	return expr != NULL && IsA(expr, Const) && ((Const *) expr)->constisnull;
}

static const char *
prepare(PlannedStmt *plan, Oid sink)
{
	Plan	   *top = outerPlan(plan->planTree);
	CustomScan *scan = node_below(top);
	StreamSource *source = stream_source_load(sink);
	Node	   *key;
	int			i;

	if (plan->hasModifyingCTE || scan == NULL)
		return "its groups are joined, filtered or multiplied before they are inserted";
	if (!keyed_notes_given(scan))
		return "windows of hop() and cumulate() are put together from slices, which do not tell whether they were given out";
	if (has_row_trigger(sink))
		return "the foreign table has a BEFORE INSERT row trigger, which may change the key";
	for (i = 0; i < source->natts; i++)
		if (source->columns[i].kind == STREAM_COL_PARTITION && !column_is_null(top, i + 1))
			return "it names the partition of its messages";
	key = trace(top, stream_source_key(source));
	if (key == NULL)
		return "the key of its messages cannot be told from what is grouped by";
	keyed_set_tombstone(scan, (Expr *) key, sink);
	return NULL;
}

const char *
tombstone_prepare(const StatementInfo *info, PlannedStmt *plan)
{
	if (get_rel_relkind(info->sink) != RELKIND_FOREIGN_TABLE)
		return "its rows go into a table";
	if (info->nested || info->conflict_misses != NULL)
		return "the key of its messages does not find the row of a group";
	return prepare(plan, info->sink);
}

/*-------------------------------------------------------------------------
 *
 * asof.c
 *	  What plans say of an as-of join.  Its node, and how the query is prepared for
 *	  it, are those of joins (join.c): legality_asof.c makes one of it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "plan/keyed.h"
#include "plan/legality.h"

/* a join's part of a plan has one item more (see join_paths()) where it is an as-of join */
#define ASOF_ITEM	3

AsofPlan *
asof_plan(const StreamJoin *join)
{
	AsofPlan   *plan;

	if (!join->asof)
		return NULL;
	plan = palloc0(sizeof(AsofPlan));
	plan->strict = join->strict;
	plan->sort_ops = list_copy(join->sort_ops);
	plan->nulls_first = list_copy(join->nulls_first);
	return plan;
}

List *
asof_write(const AsofPlan *plan, List *private)
{
	if (plan == NULL)
		return private;
	return lappend(private, list_make3(makeInteger(plan->strict), list_copy(plan->sort_ops), list_copy(plan->nulls_first)));
}

AsofPlan *
asof_read(List *private, const CustomScan *scan, const List *output, int side_column)
{
	AsofPlan   *plan;
	List	   *sides = linitial(private);
	List	   *item;
	ListCell   *lc;

	if (list_length(private) <= ASOF_ITEM)
		return NULL;
	item = list_nth(private, ASOF_ITEM);
	plan = palloc0(sizeof(AsofPlan));
	plan->side_column = side_column;
	plan->outer = linitial_int(sides) != 0;
	plan->ncolumns[0] = lthird_int(sides);
	plan->ncolumns[1] = lfourth_int(sides);
	plan->strict = intVal(linitial(item)) != 0;
	plan->sort_ops = lsecond(item);
	plan->nulls_first = lthird(item);
	/* columns of the node's output: of the row query they are */
	foreach(lc, scan->custom_exprs)
		plan->sort_columns = lappend_int(plan->sort_columns, list_nth_int(output, 2 * (lfirst_node(Var, lc)->varattno - 1) + 1));
	return plan;
}

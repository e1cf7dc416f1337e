/*-------------------------------------------------------------------------
 *
 * conflict.c
 *	  Does ON CONFLICT, or the key of a message, find exactly the row of a group?
 *
 * A group that is given out more than once has to replace its row.  So the
 * columns of the conflict target must be filled by the columns that are grouped by, all of
 * them and nothing else (constants but), and a NULL among them must find its
 * row too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "plan/legality.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

Origin
legality_origin(Node *node, Query *query, List *outer)
{
	Origin		origin = {false, NULL, NULL};
	Var		   *var;
	RangeTblEntry *rte;
	Query	   *sub;
	Query	   *home;
	List	   *home_outer;
	CommonTableExpr *cte;
	TargetEntry *tle;

	check_stack_depth();
	node = strip_implicit_coercions(node);
	if (IsA(node, Const))
	{
		origin.constant = !((Const *) node)->constisnull;
		return origin;
	}
	var = (Var *) node;
	if (!IsA(node, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return origin;
	rte = rt_fetch(var->varno, query->rtable);
	switch (rte->rtekind)
	{
		case RTE_SUBQUERY:
			sub = rte->subquery;
			outer = legality_around(query, outer);
			break;
		case RTE_CTE:
			cte = legality_find_cte(rte, query, outer, &home, &home_outer);
			if (cte == NULL)
				return origin;
			sub = castNode(Query, cte->ctequery);
			outer = legality_around(home, home_outer);
			break;
		case RTE_JOIN:
			return legality_origin(list_nth(rte->joinaliasvars, var->varattno - 1), query, outer);
		default:
			return origin;
	}
	if (sub->setOperations != NULL || sub->commandType != CMD_SELECT)
		return origin;
	tle = get_tle_by_resno(sub->targetList, var->varattno);
	if (tle == NULL)
		return origin;
	if (legality_is_grouped(sub))
	{
		origin.grouped = sub;
		origin.tle = tle;
		origin.constant = IsA(tle->expr, Const) && !((Const *) tle->expr)->constisnull;
		return origin;
	}
	return legality_origin((Node *) tle->expr, sub, outer);
}

/* Columns of the conflict target; NULL: not only columns. */
static Bitmapset *
conflict_columns(OnConflictExpr *conflict)
{
	Bitmapset  *columns = NULL;
	ListCell   *lc;

	if (OidIsValid(conflict->constraint))
	{
		Relation	index = index_open(get_constraint_index(conflict->constraint), AccessShareLock);
		int			i;

		for (i = 0; i < index->rd_index->indnkeyatts; i++)
			columns = bms_add_member(columns, index->rd_index->indkey.values[i]);
		index_close(index, NoLock);
		return bms_is_member(0, columns) ? NULL : columns;
	}
	if (conflict->arbiterWhere != NULL)
		return NULL;
	foreach(lc, conflict->arbiterElems)
	{
		InferenceElem *elem = lfirst_node(InferenceElem, lc);

		if (!IsA(elem->expr, Var))
			return NULL;
		columns = bms_add_member(columns, ((Var *) elem->expr)->varattno);
	}
	return columns;
}

/* Are two rows with NULL in one of the columns in conflict? */
static bool
nulls_conflict(Oid relid, Bitmapset *columns)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		nullable = false;
	bool		result = false;
	int			attno = -1;
	ListCell   *lc;

	while ((attno = bms_next_member(columns, attno)) >= 0)
		nullable |= !TupleDescAttr(RelationGetDescr(rel), attno - 1)->attnotnull;
	foreach(lc, nullable ? RelationGetIndexList(rel) : NIL)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;
		Bitmapset  *keys = NULL;
		int			i;

		for (i = 0; i < form->indnkeyatts; i++)
			keys = bms_add_member(keys, form->indkey.values[i]);
		if (form->indisunique && form->indnullsnotdistinct && bms_equal(keys, columns))
			result = true;
		index_close(index, NoLock);
	}
	table_close(rel, NoLock);
	return result || !nullable;
}

/* The group's columns that the conflict target must hold, by tleSortGroupRef; borders of the window only one of. */
static bool
covers_group(Query *grouped, Bitmapset *refs)
{
	bool		window = false;
	bool		window_found = false;
	ListCell   *lc;

	foreach(lc, grouped->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		bool		found = bms_is_member(clause->tleSortGroupRef, refs);
		Node	   *expr = get_sortgroupclause_expr(clause, grouped->targetList);

		if (IsA(expr, Const))
			continue;
		if (legality_window_of_group(expr, grouped) != NULL)
		{
			window = true;
			window_found |= found;
		}
		else if (!found)
			return false;
	}
	return !window || window_found;
}

/* What the key of messages is made of, in the query that groups. */
typedef struct KeyUse
{
	Query	   *grouped;
	Bitmapset  *refs;			/* tleSortGroupRefs */
	bool		other;			/* something that is not grouped by */
} KeyUse;

static bool
key_walker(Node *node, KeyUse *use)
{
	ListCell   *lc;

	if (node == NULL)
		return false;
	foreach(lc, use->grouped->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);

		if (equal(get_sortgroupclause_expr(clause, use->grouped->targetList), node))
		{
			use->refs = bms_add_member(use->refs, clause->tleSortGroupRef);
			return false;
		}
	}
	if (IsA(node, Var) || IsA(node, Aggref) || IsA(node, GroupingFunc) || IsA(node, WindowFunc) || IsA(node, SubLink))
	{
		use->other = true;
		return true;
	}
	return expression_tree_walker(node, key_walker, use);
}

/*
 * A topic has one row, the last one, for each key of its messages.  The key may be
 * put together from what is grouped by: that two groups never get the same one is
 * the user's business.
 */
static const char *
key_finds_group(Query *insert, Oid topic)
{
	AttrNumber	key = stream_source_key(stream_source_load(topic));
	KeyUse		use = {NULL, NULL, false};
	ListCell   *lc,
			   *lv;

	if (key == 0)
		return "the foreign table has no column for the key of its messages";
	foreach(lc, insert->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resno != key)
			continue;
		foreach(lv, pull_var_clause((Node *) tle->expr, PVC_RECURSE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS | PVC_RECURSE_PLACEHOLDERS))
		{
			Origin		origin = legality_origin(lfirst(lv), insert, NIL);

			if (origin.constant)
				continue;
			if (origin.grouped == NULL || (use.grouped != NULL && use.grouped != origin.grouped))
				use.other = true;
			else
			{
				use.grouped = origin.grouped;
				(void) key_walker((Node *) origin.tle->expr, &use);
			}
			if (use.other)
				return "the key of its messages is made of something that is not grouped by";
		}
	}
	if (use.grouped == NULL)
		return "the key of its messages is not made of what is grouped by";
	if (use.grouped->groupingSets != NIL)
		return "groups of several grouping sets may have the same columns";
	if (!covers_group(use.grouped, use.refs))
		return "the key of its messages is not made of all columns that are grouped by";
	return NULL;
}

/*
 * An INSERT at the top of a statement whose SELECT groups a topic.  NULL: its ON
 * CONFLICT, or the key of its messages, finds the row of a group, else why not.
 */
const char *
conflict_finds_group(Query *insert)
{
	RangeTblEntry *target = rt_fetch(insert->resultRelation, insert->rtable);
	OnConflictExpr *conflict = insert->onConflict;
	Bitmapset  *columns;
	Bitmapset  *refs = NULL;
	Query	   *grouped = NULL;
	int			attno = -1;

	if (legality_is_topic(target->relid))
		return key_finds_group(insert, target->relid);
	if (conflict == NULL || conflict->action != ONCONFLICT_UPDATE)
		return "it has no ON CONFLICT DO UPDATE";
	columns = conflict_columns(conflict);
	if (columns == NULL)
		return "its conflict target does not consist of columns";
	while ((attno = bms_next_member(columns, attno)) >= 0)
	{
		ListCell   *lc;
		Origin		origin = {false, NULL, NULL};

		foreach(lc, insert->targetList)
		{
			TargetEntry *tle = lfirst(lc);

			if (tle->resno == attno)
				origin = legality_origin((Node *) tle->expr, insert, NIL);
		}
		if (origin.constant)
			continue;
		if (origin.grouped == NULL || origin.tle->ressortgroupref == 0 || (grouped != NULL && grouped != origin.grouped))
			return "its conflict target has a column that is not grouped by";
		grouped = origin.grouped;
		refs = bms_add_member(refs, origin.tle->ressortgroupref);
	}
	/* a total, in a row whose key is a constant */
	if (grouped == NULL)
	{
		ListCell   *lc;

		foreach(lc, insert->targetList)
			if (grouped == NULL)
				grouped = legality_origin((Node *) ((TargetEntry *) lfirst(lc))->expr, insert, NIL).grouped;
	}
	if (grouped != NULL && grouped->groupingSets != NIL)
		return "groups of several grouping sets may have the same columns";
	if (grouped == NULL || !covers_group(grouped, refs))
		return "its conflict target does not hold all columns that are grouped by";
	if (!nulls_conflict(target->relid, columns))
		return "a column of its conflict target may be NULL, and NULLs are distinct";
	return NULL;
}

/*-------------------------------------------------------------------------
 *
 * buffered.c
 *	  Aggregates whose rows are kept until the group is given out: those with
 *	  ORDER BY or DISTINCT, ordered-set aggregates, and those whose state has
 *	  no form as bytes.
 *
 * In an entry stands one blob: for each row a byte (does it count, or did
 * FILTER refuse it), then the arguments as state_datum_write() makes them.  A
 * row that does not count is kept only as the first one, for the direct
 * arguments.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/aggregate.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"

typedef struct BufferedSort
{
	int			column;			/* of the arguments */
	SortSupportData support;
	FmgrInfo	equal;
	Oid			collation;
} BufferedSort;

void
buffered_init(OperatorSpec *spec, AggregateSpec *agg)
{
	Aggref	   *aggref = agg->aggref;
	Transition *t = agg->transition;
	List	   *clauses = aggref->aggdistinct != NIL ? aggref->aggdistinct : aggref->aggorder;
	ListCell   *lc;

	t->nsort = list_length(clauses);
	t->ndistinct = list_length(aggref->aggdistinct);
	t->sort = palloc0(sizeof(BufferedSort) * Max(t->nsort, 1));
	foreach(lc, clauses)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, lc);
		TargetEntry *tle = get_sortgroupclause_tle(clause, aggref->args);
		BufferedSort *sort = &t->sort[foreach_current_index(lc)];

		sort->column = tle->resno - 1;
		sort->collation = exprCollation((Node *) tle->expr);
		sort->support.ssup_cxt = CurrentMemoryContext;
		sort->support.ssup_collation = sort->collation;
		sort->support.ssup_nulls_first = clause->nulls_first;
		PrepareSortSupportFromOrderingOp(clause->sortop, &sort->support);
		if (t->ndistinct > 0)
			fmgr_info(get_opcode(clause->eqop), &sort->equal);
	}
}

void
buffered_write(const OperatorSpec *spec, const AggregateSpec *agg, const Datum *values, const bool *isnull, StringInfo into)
{
	int			i;

	for (i = 0; i < agg->nargs; i++)
	{
		int			column = agg->args[i];

		state_datum_write(into, values[column], isnull[column], spec->column_len[column], spec->column_byval[column]);
	}
}

/* ---- giving out ---- */

typedef struct BufferedRow
{
	Datum	   *values;
	bool	   *isnull;
} BufferedRow;

static int
compare_rows(const void *a, const void *b, void *arg)
{
	const BufferedRow *x = a;
	const BufferedRow *y = b;
	Transition *t = arg;
	int			i;

	CHECK_FOR_INTERRUPTS();
	for (i = 0; i < t->nsort; i++)
	{
		BufferedSort *sort = &t->sort[i];
		int			result = ApplySortComparator(x->values[sort->column], x->isnull[sort->column],
												 y->values[sort->column], y->isnull[sort->column], &sort->support);

		if (result != 0)
			return result;
	}
	return 0;
}

static bool
same_row(Transition *t, const BufferedRow *x, const BufferedRow *y)
{
	int			i;

	for (i = 0; i < t->ndistinct; i++)
	{
		BufferedSort *sort = &t->sort[i];
		int			c = sort->column;

		if (x->isnull[c] != y->isnull[c])
			return false;
		if (!x->isnull[c] && !DatumGetBool(FunctionCall2Coll(&sort->equal, sort->collation, x->values[c], y->values[c])))
			return false;
	}
	return true;
}

Datum
buffered_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull)
{
	Transition *t = agg->transition;
	const StateBlob *blob = (const StateBlob *) (fixed + agg->at);
	const char *p = blob->offset != 0 ? state_blob_bytes(base, blob) : NULL;
	const char *end = p != NULL ? p + blob->len : NULL;
	MemoryContext old = MemoryContextSwitchTo(spec->group_context->ecxt_per_tuple_memory);
	int			naggregated = agg->nargs - agg->ndirect;
	int			nrows = 0;
	int			size = 64;
	BufferedRow *rows = palloc(sizeof(BufferedRow) * size);
	Datum	   *direct = NULL;
	bool	   *direct_null = NULL;
	int			i;

	while (p < end)
	{
		bool		counts = *p++ != 0;
		BufferedRow row;
		bool		skip = !counts;

		CHECK_FOR_INTERRUPTS();
		row.values = palloc(sizeof(Datum) * Max(agg->nargs, 1));
		row.isnull = palloc(sizeof(bool) * Max(agg->nargs, 1));
		for (i = 0; i < agg->nargs; i++)
		{
			int			column = agg->args[i];

			p = state_datum_read(p, &row.values[i], &row.isnull[i], spec->column_len[column],
								 spec->column_byval[column], spec->column_align[column]);
			if (i < t->ninputs && row.isnull[i] && t->trans.fn_strict)
				skip = true;
		}
		if (direct == NULL)
		{
			direct = row.values + naggregated;
			direct_null = row.isnull + naggregated;
		}
		if (skip)
			continue;
		if (nrows == size)
		{
			size *= 2;
			rows = repalloc_huge(rows, sizeof(BufferedRow) * size);
		}
		rows[nrows++] = row;
	}
	if (t->nsort > 0 && nrows > 1)
		qsort_arg(rows, nrows, sizeof(BufferedRow), compare_rows, t);
	MemoryContextSwitchTo(old);

	transition_fresh(spec, agg);
	for (i = 0; i < nrows; i++)
		if (i == 0 || t->ndistinct == 0 || !same_row(t, &rows[i - 1], &rows[i]))
			transition_step(spec, agg, rows[i].values, rows[i].isnull);
	return transition_result(spec, agg, direct, direct_null, isnull);
}

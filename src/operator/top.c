/*-------------------------------------------------------------------------
 *
 * top.c
 *	  The first n rows of each key in some order.
 *
 * An entry has one blob: TopHead, then the rows in their order, each a TopRow and the
 * columns that are needed, those to sort by first.  Equal rows are ordered by
 * where their messages came from (place.c), so any number of tasks makes the same list.
 *
 * With rank() or dense_rank() the list has all rows of the first n ranks: it ends with
 * all that are equal to its last row, so it may be as long as these are many.
 *
 * Most rows do not make the list: they are compared with the last one of it, and
 * nothing is changed.  Windows of slices are put together from the lists of their
 * slices.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/aggregate.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"

typedef struct TopSort
{
	int			column;			/* of the row */
	Oid			sortop;
	SortSupportData support;
} TopSort;

/* A TopRow at work. */
typedef struct TopItem
{
	TopRow		row;
	RowPlace	second;			/* of a pair */
	const char *columns;		/* NULL: it stands in "fresh" */
	const OperatorRow *fresh;
	Datum	   *values;			/* to sort by */
	bool	   *isnull;
} TopItem;

typedef struct TopList
{
	const OperatorSpec *spec;
	TopItem    *items;
	int			room;
	int			n;
	int			groups;			/* of equal rows; TOP_DENSE_RANK */
	bool		read;			/* all of them, else the last one alone */
	bool		changed;
	const char *blob;
} TopList;

/* ---- what the plan says ---- */

void
top_spec_make(OperatorSpec *spec, const TopPlan *plan, const List *columns, uint32 at)
{
	TopSpec    *top = palloc0(sizeof(TopSpec));
	ListCell   *lc,
			   *lo,
			   *ln;
	int			i;

	spec->top = top;
	top->n = plan->n;
	top->ranking = plan->ranking;
	top->at = at;
	top->nsort = list_length(plan->sort_columns);
	top->sort = palloc0(sizeof(TopSort) * Max(top->nsort, 1));
	top->kept = palloc(sizeof(int) * spec->ncolumns);
	top->kept_at = palloc(sizeof(int) * spec->ncolumns);
	for (i = 0; i < spec->ncolumns; i++)
		top->kept_at[i] = -1;
	forthree(lc, plan->sort_columns, lo, plan->sort_ops, ln, plan->nulls_first)
	{
		TopSort    *sort = &top->sort[foreach_current_index(lc)];

		sort->column = lfirst_int(lc);
		sort->sortop = lfirst_oid(lo);
		sort->support.ssup_cxt = CurrentMemoryContext;
		sort->support.ssup_collation = exprCollation(list_nth(columns, sort->column));
		sort->support.ssup_nulls_first = lfirst_int(ln) != 0;
		PrepareSortSupportFromOrderingOp(sort->sortop, &sort->support);
		/* the same column twice says nothing new */
		spec->first_kept = Min(spec->first_kept, sort->column);
		if (top->kept_at[sort->column] < 0)
		{
			top->kept_at[sort->column] = top->nkept;
			top->kept[top->nkept++] = sort->column;
		}
	}
	top->nsort_kept = top->nkept;
	for (i = 0; i < spec->noutput; i++)
		if (spec->output[i].kind == OUTPUT_COLUMN && top->kept_at[spec->output[i].number] < 0)
		{
			top->kept_at[spec->output[i].number] = top->nkept;
			top->kept[top->nkept++] = spec->output[i].number;
		}
	/* comparing may run anybody's functions */
	spec->user_code = true;
}

void
top_signature(const OperatorSpec *spec, StringInfo into)
{
	const TopSpec *top = spec->top;
	int			i;

	appendStringInfo(into, " first %d%s by", top->n, top->ranking == TOP_RANK ? " ranks" : top->ranking == TOP_DENSE_RANK ? " dense ranks" : "");
	for (i = 0; i < top->nsort; i++)
		appendStringInfo(into, "%s %s of column %d%s", i > 0 ? "," : "", get_opname(top->sort[i].sortop), top->sort[i].column,
						 top->sort[i].support.ssup_nulls_first ? " nulls first" : "");
	for (i = 0; i < top->nkept; i++)
		appendStringInfo(into, "%s%d", i == 0 ? "; columns of length " : ",", spec->column_len[top->kept[i]]);
}

/* ---- lists ---- */

/* By what they are sorted by. */
static int
compare_values(const TopSpec *top, const TopItem *x, const TopItem *y)
{
	int			i;

	for (i = 0; i < top->nsort; i++)
	{
		TopSort    *sort = &top->sort[i];
		int			column = top->kept_at[sort->column];
		int			c = ApplySortComparator(x->values[column], x->isnull[column], y->values[column], y->isnull[column], &sort->support);

		if (c != 0)
			return c;
	}
	return 0;
}

static int
compare_items(const TopSpec *top, const TopItem *x, const TopItem *y)
{
	int			c = compare_values(top, x, y);

	if (c != 0)
		return c;
	if (x->row.part != y->row.part)
		return x->row.part < y->row.part ? -1 : 1;
	if (x->row.offset != y->row.offset)
		return x->row.offset < y->row.offset ? -1 : 1;
	return place_compare(&x->second, &y->second);
}

static const char *
read_columns(const OperatorSpec *spec, const char *from, int n, Datum *values, bool *isnull)
{
	const TopSpec *top = spec->top;
	int			i;

	for (i = 0; i < n; i++)
	{
		int			column = top->kept[i];

		from = state_datum_read(from, &values[i], &isnull[i], spec->column_len[column], spec->column_byval[column], spec->column_align[column]);
	}
	return from;
}

static void
read_item(const OperatorSpec *spec, const char *from, TopItem *item)
{
	int			n = spec->top->nsort_kept;

	memcpy(&item->row, from, sizeof(TopRow));
	memset(&item->second, 0, sizeof(RowPlace));
	memcpy(&item->second, from + sizeof(TopRow), top_second_size(spec));
	item->columns = from + sizeof(TopRow) + top_second_size(spec);
	item->fresh = NULL;
	item->values = palloc(sizeof(Datum) * Max(n, 1));
	item->isnull = palloc(sizeof(bool) * Max(n, 1));
	(void) read_columns(spec, item->columns, n, item->values, item->isnull);
}

static void
read_all(TopList *list)
{
	const char *p = list->blob + sizeof(TopHead);
	int			i;

	for (i = 0; i < list->n && !list->read; i++)
	{
		read_item(list->spec, p, &list->items[i]);
		p += list->items[i].row.size;
		if (list->spec->top->ranking == TOP_DENSE_RANK && (i == 0 || compare_values(list->spec->top, &list->items[i - 1], &list->items[i]) != 0))
			list->groups++;
	}
	list->read = true;
}

/* What stands in the entry; of a full list only the last row is looked at, until it is clear that another one comes in. */
static void
list_begin(TopList *list, const OperatorSpec *spec, const char *blob, uint32 len)
{
	TopHead		head = {0, 0};

	if (len > 0)
		memcpy(&head, blob, sizeof(head));
	list->spec = spec;
	list->room = Max(spec->top->n, (int) head.rows) + 1;
	list->items = palloc_extended(sizeof(TopItem) * list->room, MCXT_ALLOC_HUGE);
	list->n = (int) head.rows;
	list->groups = 0;
	list->read = head.rows == 0;
	list->changed = false;
	list->blob = blob;
	if (list->n > 0)
		read_item(spec, blob + head.last, &list->items[list->n - 1]);
	/* how many ranks there are is not kept */
	if (spec->top->ranking == TOP_DENSE_RANK)
		read_all(list);
}

/* Is the item no better than the last one of a list that is full? */
static bool
stays_out(const TopList *list, const TopItem *item)
{
	const TopSpec *top = list->spec->top;
	const TopItem *last = &list->items[list->n - 1];

	switch (top->ranking)
	{
		case TOP_ROW_NUMBER:
			return list->n == top->n && compare_items(top, item, last) >= 0;
		case TOP_RANK:
			return list->n >= top->n && compare_values(top, item, last) > 0;
		case TOP_DENSE_RANK:
			return list->groups == top->n && compare_values(top, item, last) > 0;
	}
	return false;
}

/* One has come in, here: what is beyond the last number or rank goes. */
static void
list_cut(TopList *list, int at)
{
	const TopSpec *top = list->spec->top;
	const TopItem *items = list->items;
	int			first = list->n - 1;	/* of those that are equal to the last one */

	if (top->ranking == TOP_ROW_NUMBER)
	{
		list->n = Min(list->n, top->n);
		return;
	}
	while (first > 0 && compare_values(top, &items[first - 1], &items[list->n - 1]) == 0)
		first--;
	if (top->ranking == TOP_RANK)
	{
		if (first >= top->n)
			list->n = first;
		return;
	}
	if ((at == 0 || compare_values(top, &items[at - 1], &items[at]) != 0) && (at == list->n - 1 || compare_values(top, &items[at + 1], &items[at]) != 0))
		list->groups++;
	if (list->groups > top->n)
	{
		list->n = first;
		list->groups--;
	}
}

static void
list_insert(TopList *list, const TopItem *item)
{
	const TopSpec *top = list->spec->top;
	int			low = 0;
	int			high = list->n;

	if (stays_out(list, item))
		return;
	read_all(list);
	if (list->n == list->room)
		list->items = repalloc_huge(list->items, sizeof(TopItem) * (list->room *= 2));
	while (low < high)
	{
		int			mid = (low + high) / 2;

		/* behind those that are equal: rows of one message stay in their order */
		if (compare_items(top, item, &list->items[mid]) < 0)
			high = mid;
		else
			low = mid + 1;
	}
	memmove(&list->items[low + 1], &list->items[low], sizeof(TopItem) * (list->n - low));
	list->items[low] = *item;
	list->n++;
	list_cut(list, low);
	list->changed = true;
}

static StateEntry *
list_end(TopList *list, StateCursor *cursor, StateEntry *entry)
{
	const OperatorSpec *spec = list->spec;
	const TopSpec *top = spec->top;
	TopHead		head = {(uint32) list->n, 0};
	StringInfoData to;
	int			i,
				c;

	if (!list->changed)
		return entry;
	initStringInfo(&to);
	appendBinaryStringInfo(&to, (const char *) &head, sizeof(head));
	for (i = 0; i < list->n; i++)
	{
		TopItem    *item = &list->items[i];

		head.last = (uint32) to.len;
		appendBinaryStringInfo(&to, (const char *) &item->row, sizeof(TopRow));
		appendBinaryStringInfo(&to, (const char *) &item->second, (int) top_second_size(spec));
		if (item->fresh == NULL)
			appendBinaryStringInfo(&to, item->columns, (int) (item->row.size - sizeof(TopRow) - top_second_size(spec)));
		for (c = 0; c < top->nkept && item->fresh != NULL; c++)
		{
			int			column = top->kept[c];

			state_datum_write(&to, item->fresh->values[column], (item->fresh->nulls & (UINT64CONST(1) << column)) != 0,
							  spec->column_len[column], spec->column_byval[column]);
		}
		item->row.size = (uint32) to.len - head.last;
		memcpy(to.data + head.last, &item->row, sizeof(TopRow));
	}
	memcpy(to.data, &head, sizeof(head));
	state_entry_mark(cursor, entry);
	return state_blob_set(cursor, entry, top->at, to.data, to.len);
}

/* ---- applying ---- */

static void
begin_list_of(TopList *list, const OperatorSpec *spec, StateCursor *cursor, StateEntry *entry)
{
	const StateBlob *blob = (const StateBlob *) (STATE_ENTRY_FIXED(entry) + spec->top->at);

	list_begin(list, spec, blob->len > 0 ? state_blob_bytes(cursor->data, blob) : NULL, blob->len);
}

StateEntry *
top_apply(OperatorSpec *spec, OperatorRow **rows, int n, StateCursor *cursor, StateEntry *entry)
{
	const TopSpec *top = spec->top;
	MemoryContext old = MemoryContextSwitchTo(spec->group_context->ecxt_per_tuple_memory);
	TopList		list;
	int			i,
				c;

	begin_list_of(&list, spec, cursor, entry);
	for (i = 0; i < n; i++)
	{
		const OperatorRow *row = rows[i];
		TopItem		item = {{0, row->part, row->offset}, {0}, NULL, row};
		Datum		values[OPERATOR_MAX_COLUMNS];
		bool		isnull[OPERATOR_MAX_COLUMNS];

		CHECK_FOR_INTERRUPTS();
		if (top_second_size(spec) > 0)
			item.second = place_second(spec, row->values);
		for (c = 0; c < top->nsort_kept; c++)
		{
			values[c] = row->values[top->kept[c]];
			isnull[c] = (row->nulls & (UINT64CONST(1) << top->kept[c])) != 0;
		}
		item.values = values;
		item.isnull = isnull;
		if (stays_out(&list, &item))
			continue;
		item.values = palloc(sizeof(Datum) * Max(top->nsort_kept, 1));
		item.isnull = palloc(sizeof(bool) * Max(top->nsort_kept, 1));
		memcpy(item.values, values, sizeof(Datum) * top->nsort_kept);
		memcpy(item.isnull, isnull, sizeof(bool) * top->nsort_kept);
		list_insert(&list, &item);
	}
	entry = list_end(&list, cursor, entry);
	MemoryContextSwitchTo(old);
	ReScanExprContext(spec->group_context);
	return entry;
}

StateEntry *
top_merge(OperatorSpec *spec, StateCursor *to, StateEntry *entry, const char *fixed, const char *base)
{
	const StateBlob *blob = (const StateBlob *) (fixed + spec->top->at);
	MemoryContext old = MemoryContextSwitchTo(spec->group_context->ecxt_per_tuple_memory);
	TopList		list;
	TopHead		head;
	const char *p;
	uint32		i;

	if (blob->len > 0)
	{
		begin_list_of(&list, spec, to, entry);
		p = state_blob_bytes(base, blob);
		memcpy(&head, p, sizeof(head));
		p += sizeof(head);
		for (i = 0; i < head.rows; i++)
		{
			TopItem		item;

			CHECK_FOR_INTERRUPTS();
			read_item(spec, p, &item);
			list_insert(&list, &item);
			p += item.row.size;
		}
		entry = list_end(&list, to, entry);
	}
	MemoryContextSwitchTo(old);
	ReScanExprContext(spec->group_context);
	return entry;
}

/* ---- giving out ---- */

uint32
top_rows(const OperatorSpec *spec, const char *fixed, const char *base, const char **first)
{
	const StateBlob *blob = (const StateBlob *) (fixed + spec->top->at);
	TopHead		head;

	if (blob->len == 0)
		return 0;
	memcpy(&head, state_blob_bytes(base, blob), sizeof(head));
	*first = state_blob_bytes(base, blob) + sizeof(head);
	return head.rows;
}

const char *
top_row_behind(const char *row)
{
	TopRow		head;

	memcpy(&head, row, sizeof(head));
	return row + head.size;
}

bool
top_rows_equal(const OperatorSpec *spec, const char *row, const char *other)
{
	MemoryContext old = MemoryContextSwitchTo(spec->temp_context->ecxt_per_tuple_memory);
	TopItem		x;
	TopItem		y;
	bool		equal;

	read_item(spec, row, &x);
	read_item(spec, other, &y);
	equal = compare_values(spec->top, &x, &y) == 0;
	MemoryContextSwitchTo(old);
	ResetExprContext(spec->temp_context);
	return equal;
}

void
top_row_read(const OperatorSpec *spec, const char *row, Datum *values, bool *isnull)
{
	(void) read_columns(spec, row + sizeof(TopRow) + top_second_size(spec), spec->top->nkept, values, isnull);
}

/*-------------------------------------------------------------------------
 *
 * careful.c
 *	  The rows of one message into the state, or none of them.
 *
 * After an error of a transition function has cost a run its state, the messages
 * around it are applied one at a time: what an entry was before is kept, and put
 * back when a function throws.  All key groups of the message are owned until
 * it is done, in ascending order, so that two tasks cannot wait for each other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/operator.h"
#include "utils/memutils.h"

/* An entry of a row: its group, or a value that DISTINCT notes. */
typedef struct Undo
{
	CarefulRow *row;
	const char *key;
	uint16		meta;
	StateRecord *was;			/* NULL: it was not there */
} Undo;

static StateEntry *
find_entry(StateArea *area, const Undo *undo, StateCursor *cursor)
{
	const CarefulRow *row = undo->row;
	StatePane  *pane = state_pane(area, row->spec->number, row->row->slice, false);

	if (pane == NULL)
		return NULL;
	state_cursor_open(cursor, area, row->spec->number, &pane->chunk[state_group_of(row->row->hash)]);
	return state_entry_find(cursor, state_hash(undo->key, undo->meta), undo->key, undo->meta);
}

static void
remember(StateArea *area, List **undos, CarefulRow *row, const char *key, uint16 meta)
{
	Undo	   *undo = palloc(sizeof(Undo));
	StateCursor cursor;
	StateEntry *entry;
	Size		size;

	undo->row = row;
	undo->key = key;
	undo->meta = meta;
	undo->was = NULL;
	entry = find_entry(area, undo, &cursor);
	if (entry != NULL)
	{
		size = state_record_size(cursor.op, entry, cursor.data);
		undo->was = palloc(size);
		state_record_write(cursor.op, entry, cursor.data, (char *) undo->was, size);
	}
	*undos = lcons(undo, *undos);
}

/* All entries that the row will change or make. */
static void
remember_row(StateArea *area, List **undos, CarefulRow *row)
{
	OperatorRow *r = row->row;
	int			i;

	remember(area, undos, row, r->key, r->key_meta);
	for (i = 0; i < row->spec->naggs && row->spec->has_distinct; i++)
	{
		const AggregateSpec *agg = &row->spec->aggs[i];
		StringInfoData key;
		uint16		meta;

		if (!agg->distinct || (r->nulls & (UINT64CONST(1) << agg->args[0])) != 0)
			continue;
		initStringInfo(&key);
		meta = distinct_key(agg, i, r->key, r->key_meta, r->values[agg->args[0]], &key);
		remember(area, undos, row, key.data, meta);
	}
}

static void
put_back(StateArea *area, const Undo *undo)
{
	StateCursor cursor;
	StateEntry *entry = find_entry(area, undo, &cursor);

	if (entry == NULL)
		return;					/* it never came to be */
	if (undo->was == NULL)
		state_entry_remove(&cursor, entry);
	else
		(void) state_entry_restore(&cursor, entry, undo->was);
}

static int
compare_groups(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

ErrorData *
operator_apply_carefully(CarefulRow *rows, int n, StateArea *area, const OperatorTransaction *transaction,
						 MemoryContext cxt, int *failed)
{
	int		   *groups = palloc(sizeof(int) * n);
	List	   *undos = NIL;	/* the last first */
	ListCell   *lc;
	volatile int nowned = 0;
	int			ngroups = 0;
	int			i;
	ErrorData  *volatile edata = NULL;

	for (i = 0; i < n; i++)
		groups[i] = rows[i].spec->number * STATE_GROUPS + state_group_of(rows[i].row->hash);
	qsort(groups, n, sizeof(int), compare_groups);
	for (i = 0; i < n; i++)
		if (i == 0 || groups[i] != groups[i - 1])
			groups[ngroups++] = groups[i];

	PG_TRY();
	{
		for (i = 0; i < ngroups; i++)
		{
			state_group_own(area, groups[i] / STATE_GROUPS, groups[i] % STATE_GROUPS);
			nowned = i + 1;
		}
		transaction->open();
		for (i = 0; i < n; i++)
		{
			remember_row(area, &undos, &rows[i]);
			*failed = rows[i].spec->statement;
			FAULT_POINT("operator-apply-carefully");
			operator_apply_row(rows[i].spec, area, rows[i].row);
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	transaction->close(edata != NULL);
	if (edata != NULL)
	{
		for (i = 0; i < n; i++)
		{
			ReScanExprContext(rows[i].spec->group_context);
			ReScanExprContext(rows[i].spec->temp_context);
		}
		foreach(lc, undos)
			put_back(area, lfirst(lc));
	}
	for (i = 0; i < nowned; i++)
		state_group_release(area, groups[i] / STATE_GROUPS, groups[i] % STATE_GROUPS);
	return edata;
}

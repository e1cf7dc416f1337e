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

typedef struct Undo
{
	CarefulRow *row;
	StateRecord *was;			/* NULL: it was not there */
} Undo;

static StateEntry *
find_entry(StateArea *area, const CarefulRow *row, StateCursor *cursor)
{
	StatePane  *pane = state_pane(area, row->spec->number, row->row->slice, false);

	if (pane == NULL)
		return NULL;
	state_cursor_open(cursor, area, row->spec->number, &pane->chunk[state_group_of(row->row->hash)]);
	return state_entry_find(cursor, row->row->hash, row->row->key, row->row->key_meta);
}

static StateRecord *
remember(StateArea *area, const CarefulRow *row)
{
	StateCursor cursor;
	StateEntry *entry = find_entry(area, row, &cursor);
	StateRecord *record;
	Size		size;

	if (entry == NULL)
		return NULL;
	size = state_record_size(cursor.op, entry, cursor.data);
	record = palloc(size);
	state_record_write(cursor.op, entry, cursor.data, (char *) record, size);
	return record;
}

static void
put_back(StateArea *area, const Undo *undo)
{
	StateCursor cursor;
	StateEntry *entry = find_entry(area, undo->row, &cursor);

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
	Undo	   *undo = palloc(sizeof(Undo) * n);
	volatile int nundo = 0;
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
			undo[i].row = &rows[i];
			undo[i].was = remember(area, &rows[i]);
			*failed = rows[i].spec->statement;
			nundo = i + 1;
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
		for (i = nundo - 1; i >= 0; i--)
			put_back(area, &undo[i]);
	}
	for (i = 0; i < nowned; i++)
		state_group_release(area, groups[i] / STATE_GROUPS, groups[i] % STATE_GROUPS);
	return edata;
}

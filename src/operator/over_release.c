/*-------------------------------------------------------------------------
 *
 * over_release.c
 *	  Rows that waited (over_wait.c) are answered: the watermark has passed them.
 *
 * All that waited in the passed panes of a key group is sorted by key, event time and
 * place of the message, and answered key by key.  Rows are worked on where they stand;
 * sorting moves a number and a pointer for each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/over.h"
#include "utils/memutils.h"

typedef struct ReleasedRow
{
	uint64		order;			/* over_order() with the event time, from the begin of the first pane on */
	WaitingRow *row;
} ReleasedRow;

static inline const char *
key_of(const OperatorSpec *spec, const WaitingRow *row)
{
	return waiting_key(spec, unconstify(WaitingRow *, row));
}

static int
compare_keys_of(const OperatorSpec *spec, const WaitingRow *x, const WaitingRow *y)
{
	OperatorRow a = {.hash = x->hash,.key_meta = x->key_meta,.key = key_of(spec, x)};
	OperatorRow b = {.hash = y->hash,.key_meta = y->key_meta,.key = key_of(spec, y)};

	return operator_compare_keys(&a, &b);
}

/* Rows of one order: by key, event time, partition, offset; pairs by those of the left row, then of the right one. */
static int
compare_same_order(const WaitingRow *x, const WaitingRow *y, const OperatorSpec *spec)
{
	int			c = compare_keys_of(spec, x, y);

	if (c != 0)
		return c;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	if (spec->row_places > 1 && (c = place_compare_second(spec, x->values, y->values)) != 0)
		return c;
	return x->number < y->number ? -1 : x->number > y->number;
}

#define ST_SORT sort_released
#define ST_ELEMENT_TYPE ReleasedRow
#define ST_COMPARE_ARG_TYPE const OperatorSpec
#define ST_COMPARE(a, b, spec) \
	((a)->order != (b)->order ? ((a)->order < (b)->order ? -1 : 1) : compare_same_order((a)->row, (b)->row, spec))
#define ST_CHECK_FOR_INTERRUPTS
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* The rows of a key group in the panes that have been passed, sorted. */
static ReleasedRow *
collect(const OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group, int64 *n)
{
	TimestampTz begin = DT_NOEND;
	ReleasedRow *rows;
	int64		size = 0;
	int			pass;
	int			p;

	for (p = 0; p < npanes; p++)
		begin = Min(begin, over_waiting_begin(panes[p]->id));
	rows = NULL;
	*n = 0;
	/* they are counted first */
	for (pass = 0; pass < 2; pass++)
	{
		if (pass == 1)
			rows = palloc_extended(sizeof(ReleasedRow) * size, MCXT_ALLOC_HUGE);
		for (p = 0; p < npanes; p++)
		{
			StateCursor cursor;
			StateEntry *entry;
			uint32		at = 0;

			state_cursor_open(&cursor, area, spec->number, &panes[p]->chunk[group]);
			while ((entry = state_entry_next(&cursor, &at)) != NULL)
			{
				StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB);
				WaitingBlock *block = (WaitingBlock *) unconstify(char *, state_blob_bytes(cursor.data, blob));
				char	   *row = block->rows;
				uint32		i;

				CHECK_FOR_INTERRUPTS();
				size += pass == 0 ? block->nrows : 0;
				for (i = 0; i < block->nrows && pass == 1; i++)
				{
					WaitingRow *waiting = (WaitingRow *) row;

					/* of a damaged one the time may be anything */
					rows[*n].order = over_order(waiting->hash, (uint64) waiting->at - (uint64) begin);
					rows[(*n)++].row = waiting;
					row += waiting->size;
				}
			}
		}
	}
	sort_released(rows, *n, spec);
	return rows;
}

/* As it is answered; nobody else looks at a pane that has been passed. */
static OverRow
as_over_row(const OperatorSpec *spec, WaitingRow *row, uint32 chunk_hash)
{
	int			i;

	for (i = 0; i < spec->nrefs && !row->bare; i++)
	{
		Datum	   *value = &row->values[spec->refs[i]];

		*value = PointerGetDatum((char *) row + *value);
	}
	return (OverRow) {row->hash, chunk_hash, row->key_meta, key_of(spec, row), row->at, row->bare ? 0 : row->nulls, row->bare ? NULL : row->values,
		row->part, row->offset};
}

static void
release_group(OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group)
{
	int64		n;
	ReleasedRow *rows = collect(spec, area, panes, npanes, group, &n);
	OverKey    *key = spec->over != NULL ? over_begin(spec, area, group, DT_NOBEGIN) : NULL;
	AsofWork   *versions = spec->asof != NULL ? asof_begin(spec, area, group) : NULL;
	OverRow    *run;
	uint32	   *hashes = NULL;
	int64		size = 64;
	int64		i;
	int64		k;

	run = palloc(sizeof(OverRow) * size);
	if (key != NULL && spec->over->span > 0)
	{
		hashes = palloc_extended(sizeof(uint32) * n, MCXT_ALLOC_HUGE);
		for (i = 0; i < n; i++)
			hashes[i] = i > 0 && rows[i].order >> OVER_ORDER_BITS == rows[i - 1].order >> OVER_ORDER_BITS &&
				compare_keys_of(spec, rows[i].row, rows[i - 1].row) == 0 ? hashes[i - 1] :
				history_hash(key, key_of(spec, rows[i].row), rows[i].row->key_meta);
	}
	for (i = 0; i < n; i += k)
	{
		for (k = 0; i + k < n; k++)
		{
			WaitingRow *row = rows[i + k].row;

			if (k > 0 && (rows[i + k].order >> OVER_ORDER_BITS != rows[i].order >> OVER_ORDER_BITS ||
						  compare_keys_of(spec, row, rows[i].row) != 0))
				break;
			if (key != NULL && i + k + 2 * OVER_AHEAD < n)
				over_prefetch(key, rows[i + k + 2 * OVER_AHEAD].row->hash, true);
			if (key != NULL && i + k + OVER_AHEAD < n)
				over_prefetch(key, rows[i + k + OVER_AHEAD].row->hash, false);
			if (hashes != NULL && i + k + OVER_AHEAD / 2 < n)
				history_prefetch(key, rows[i + k + OVER_AHEAD / 2].row->hash, hashes[i + k + OVER_AHEAD / 2], rows[i + k + OVER_AHEAD / 2].row->at, false);
			if (hashes != NULL && i + k + OVER_AHEAD / 4 < n)
				history_prefetch(key, rows[i + k + OVER_AHEAD / 4].row->hash, hashes[i + k + OVER_AHEAD / 4], rows[i + k + OVER_AHEAD / 4].row->at, true);
			if (k == size)
				run = repalloc_huge(run, sizeof(OverRow) * (size *= 2));
			run[k] = as_over_row(spec, row, hashes != NULL ? hashes[i + k] : 0);
		}
		if (versions != NULL)
			asof_answer(versions, run, (int) k);
		else
			over_answer(key, run, (int) k);
	}
	if (versions != NULL)
		asof_end(versions);
}

/* The group is ours; it is given back whatever happens. */
static void
release_owned(OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group)
{
	PG_TRY();
	{
		FAULT_POINT("over-release");
		if (spec->join != NULL)
			join_release_group(spec, area, panes, npanes, group);
		else
			release_group(spec, area, panes, npanes, group);
	}
	PG_CATCH();
	{
		/* as in apply_owned(): nobody goes on with what is half done */
		state_abandon(area);
		state_group_release(area, spec->number, group);
		PG_RE_THROW();
	}
	PG_END_TRY();
	state_group_release(area, spec->number, group);
}

/* The panes that have been passed. */
static StatePane **
passed_panes(const OperatorSpec *spec, StateArea *area, TimestampTz horizon, int *npanes)
{
	int			n;
	/* while all stand the launcher has closed them already */
	StatePane **panes = state_panes(area, spec->number, &n);
	int			i;

	*npanes = 0;
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && over_waiting_end(panes[i]->id) <= horizon)
			panes[(*npanes)++] = panes[i];
	return panes;
}

/* Those of them that hold rows of the group. */
static StatePane **
panes_of_group(StatePane **panes, int n, int group, int *npanes)
{
	StatePane **of_group = palloc(sizeof(StatePane *) * Max(n, 1));
	int			i;

	*npanes = 0;
	for (i = 0; i < n; i++)
		if (panes[i]->chunk[group].nentries > 0)
			of_group[(*npanes)++] = panes[i];
	return of_group;
}

void
over_release(OperatorSpec *spec, StateArea *area, TimestampTz horizon, int task, int ntasks, const OperatorTransaction *transaction,
			 const OperatorConsumer *consumer, bool standing)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc rows that waited", ALLOCSET_DEFAULT_SIZES);
	MemoryContext work = AllocSetContextCreate(cxt, "streamproc rows of a key group that waited", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StatePane **panes = NULL;
	int			npanes = 0;
	int			group;
	bool		open = false;

	for (group = task; group < STATE_GROUPS; group += ntasks)
	{
		StatePane **of_group;
		int			n;

		if (!state_group_try_own(area, spec->number, group))
		{
			/* its owner may wait for a lock of ours */
			if (open)
				transaction->close(false);
			open = false;
			state_group_own(area, spec->number, group);
		}
		/* somebody who owned it before, and had not seen the horizon, may just have made one */
		if (panes == NULL || !standing)
		{
			MemoryContextSwitchTo(cxt);
			if (panes != NULL)
				pfree(panes);
			panes = passed_panes(spec, area, horizon, &npanes);
		}
		MemoryContextSwitchTo(work);
		of_group = panes_of_group(panes, npanes, group, &n);
		if (n == 0)
		{
			state_group_release(area, spec->number, group);
			MemoryContextReset(work);
			continue;
		}
		if (!open)
			transaction->open();
		open = true;
		MemoryContextSwitchTo(work);
		release_owned(spec, area, of_group, n, group);
		MemoryContextReset(work);
		if (consumer != NULL && consumer->full())
		{
			transaction->close(false);
			open = false;
			MemoryContextSwitchTo(cxt);
			consumer->work();
		}
	}
	if (open)
		transaction->close(false);
	MemoryContextSwitchTo(cxt);
	if (consumer != NULL)
		consumer->work();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

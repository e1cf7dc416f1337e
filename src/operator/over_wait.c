/*-------------------------------------------------------------------------
 *
 * over_wait.c
 *	  ordering => 'event': rows wait until the watermark has passed them.  So do
 *	  rows of outer joins that may still find a partner (join.c): what stands
 *	  in the panes is theirs, the panes are the same.
 *
 * They stand in panes of 100 ms of event time.  Where a backlog of few rows would
 * make too many of those, in longer ones, which may overlap shorter ones: so what may
 * be answered is not said by the watermark alone.  The launcher sets the horizon
 * (over_horizon) when it asks the tasks to stop; each task answers what ends until
 * there, of its share of the key groups, before it arrives; when all have, these
 * panes are closed.  So rows that are passed in the epoch in which they came are never
 * written into segments.
 *
 * A row that was in time when its batch began may be behind the horizon when it
 * is applied: only who owns its key group can say.  Then it is late.
 *
 * A row's entry: as key where its message came from; in the blob its hash and key,
 * and all of its columns.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/over.h"
#include "time/time.h"
#include "utils/memutils.h"

/* so many panes of one length */
#define WAITING_MANY	128
/* where event time goes on so fast that an epoch is longer than so many slices, they are longer */
#define PACE_SLICES		4
#define LEVEL_SHIFT		56

typedef struct WaitingKey
{
	int32		part;
	uint32		number;			/* of the rows of one message */
	int64		offset;
} WaitingKey;

/* ---- panes ---- */

static const int64 lengths[OVER_WAITING_LEVELS] = {
	OVER_WAITING_SLICE, 10 * OVER_WAITING_SLICE, 100 * OVER_WAITING_SLICE, 1000 * OVER_WAITING_SLICE,
	10000 * OVER_WAITING_SLICE, 100000 * OVER_WAITING_SLICE, 1000000 * OVER_WAITING_SLICE
};

/* numbers of slices lie around the middle of what a level has */
#define LEVEL_MIDDLE	(INT64CONST(1) << (LEVEL_SHIFT - 1))

static int64
waiting_pane(int level, TimestampTz at)
{
	int64		slice = at / lengths[level] - (at % lengths[level] < 0 ? 1 : 0);

	return OVER_WAITING + ((int64) level << LEVEL_SHIFT) + LEVEL_MIDDLE + slice;
}

static int
waiting_level(int64 pane)
{
	return (int) ((pane - OVER_WAITING) >> LEVEL_SHIFT);
}

TimestampTz
over_waiting_begin(int64 pane)
{
	int			level = waiting_level(pane);

	return (pane - OVER_WAITING - ((int64) level << LEVEL_SHIFT) - LEVEL_MIDDLE) * lengths[level];
}

TimestampTz
over_waiting_end(int64 pane)
{
	return over_waiting_begin(pane) + lengths[waiting_level(pane)];
}

void
waiting_find(WaitingPanes *found, StateArea *area, const OperatorSpec *spec)
{
	int			n;
	int			i;

	found->panes = state_panes_open(area, spec->number, &n);
	found->n = 0;
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(found->panes[i]->id))
			found->panes[found->n++] = found->panes[i];
}

/*
 * The pane for the instant: the longest that is there, or one as the pace of
 * event time asks for, and longer where there are many already.  Another task may make
 * one that overlaps it at the same time.
 */
StatePane *
waiting_pane_for(WaitingPanes *found, StateArea *area, const OperatorSpec *spec, TimestampTz at, int64 pace)
{
	StatePane  *pane;
	int			level;
	int			i;

	/* longer ones have higher numbers */
	for (i = found->n - 1; i >= 0; i--)
		if (at >= over_waiting_begin(found->panes[i]->id) && at < over_waiting_end(found->panes[i]->id))
			return found->panes[i];
	for (level = 0; level < OVER_WAITING_LEVELS - 1 && (lengths[level + 1] <= pace / PACE_SLICES || found->n >= (level + 1) * WAITING_MANY); level++)
		;
	pane = state_pane(area, spec->number, waiting_pane(level, at), true);
	pfree(found->panes);
	waiting_find(found, area, spec);
	return pane;
}

TimestampTz
over_horizon(StateArea *area, const OperatorSpec *spec, TimestampTz watermark)
{
	int			n;
	StatePane **panes = state_panes_open(area, spec->number, &n);
	TimestampTz passed = DT_NOBEGIN;
	TimestampTz horizon = DT_NOEND;
	int			i;

	/* nothing beyond the begin of a pane that must still wait */
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && !operator_is_late(spec, over_waiting_end(panes[i]->id), watermark))
			horizon = Min(horizon, over_waiting_begin(panes[i]->id));
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && over_waiting_end(panes[i]->id) <= horizon)
			passed = Max(passed, over_waiting_end(panes[i]->id));
	pfree(panes);
	return passed;
}

/* ---- keeping ---- */

void
over_wait(OperatorRows *rows, StateArea *area, int group)
{
	OperatorSpec *spec = rows->spec;
	OperatorRow *row;
	OperatorRow *next;
	StateCursor cursor;
	StatePane  *eternal = NULL;
	StateCursor keys;
	StringInfoData bytes;
	TimestampTz horizon = *rows->horizon;
	TimestampTz begin = DT_NOEND;
	TimestampTz end = DT_NOBEGIN;
	WaitingKey	key;
	WaitingPanes panes;
	OperatorRow *ahead = NULL;
	int			i;

	memset(&key, 0, sizeof(key));
	key.part = -2;				/* none has it */
	initStringInfo(&bytes);
	waiting_find(&panes, area, spec);
	if (spec->over != NULL && spec->over->first_only)
		eternal = state_pane(area, spec->number, STATE_PANE_ETERNAL, false);
	if (eternal != NULL)
	{
		state_cursor_open(&keys, area, spec->number, &eternal->chunk[group]);
		ahead = rows->first[group];
		for (i = 0; i < OVER_AHEAD && ahead != NULL; i++, ahead = ahead->next)
			state_prefetch_slot(&keys, ahead->hash);
	}
	for (row = rows->first[group]; row != NULL; row = next)
	{
		TimestampTz at = DatumGetTimestampTz(row->values[spec->at_column]);
		StateEntry *entry;
		uint32		hash;
		bool		found;

		next = row->next;
		if (ahead != NULL)
		{
			state_prefetch_slot(&keys, ahead->hash);
			ahead = ahead->next;
		}
		/* it was not late when its batch began; but what comes behind it may be answered already */
		if (window_instant(&spec->scale, window_slice(&spec->scale, at) + 1) <= horizon)
		{
			row->next = rows->overtaken;
			rows->overtaken = row;
			rows->nlate++;
			continue;
		}

		/* its key has been answered, and that is all */
		entry = eternal != NULL ? state_entry_find(&keys, row->hash, row->key, row->key_meta) : NULL;
		if (entry != NULL && (spec->ttl == 0 || at < state_entry_expires(keys.op, entry, keys.data)))
			continue;
		if (at < begin || at >= end)
		{
			StatePane  *pane = waiting_pane_for(&panes, area, spec, at, *rows->pace);

			begin = over_waiting_begin(pane->id);
			end = over_waiting_end(pane->id);
			state_cursor_open(&cursor, area, spec->number, &pane->chunk[group]);
		}
		resetStringInfo(&bytes);
		appendBinaryStringInfo(&bytes, (const char *) &row->hash, sizeof(row->hash));
		appendBinaryStringInfo(&bytes, (const char *) &row->key_meta, sizeof(row->key_meta));
		appendBinaryStringInfo(&bytes, row->key, STATE_KEY_LEN(row->key_meta));
		for (i = spec->first_kept; i < spec->ncolumns; i++)
			if (i != spec->place_column)
				state_datum_write(&bytes, row->values[i], (row->nulls & (UINT64CONST(1) << i)) != 0, spec->column_len[i], spec->column_byval[i]);
		/* rows of one message that go to one key group come one after another; a retried one may have been here before */
		if (key.part != row->part || key.offset != row->offset)
			key.number = 0;
		else
			key.number++;
		key.part = row->part;
		key.offset = row->offset;
		for (;; key.number++)
		{
			hash = state_hash((const char *) &key, sizeof(key) | STATE_KEY_MEMBER);
			entry = state_entry_make(&cursor, hash, (const char *) &key, sizeof(key) | STATE_KEY_MEMBER, &found);
			if (!found)
				break;
		}
		(void) state_blob_set(&cursor, entry, OVER_BLOB, bytes.data, bytes.len);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(panes.panes);
	pfree(bytes.data);
}

/* ---- releasing ---- */

typedef struct WaitingRow
{
	OperatorRow *row;
	uint32		hash;			/* the row's: sorting looks at it here */
	TimestampTz at;
	WaitingKey	from;
} WaitingRow;

static int
compare_keys(const OperatorRow *x, const OperatorRow *y)
{
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->key_meta != y->key_meta)
		return x->key_meta < y->key_meta ? -1 : 1;
	return memcmp(x->key, y->key, STATE_KEY_LEN(x->key_meta));
}

/* By key, event time, partition, offset. */
static int
compare_waiting(const void *a, const void *b)
{
	const WaitingRow *x = a;
	const WaitingRow *y = b;
	int			c;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	c = compare_keys(x->row, y->row);
	if (c != 0)
		return c;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (x->from.part != y->from.part)
		return x->from.part < y->from.part ? -1 : 1;
	if (x->from.offset != y->from.offset)
		return x->from.offset < y->from.offset ? -1 : 1;
	return x->from.number < y->from.number ? -1 : x->from.number > y->from.number;
}

/* The key stays where it is: nobody changes a pane that has been passed. */
static void
read_waiting(const OperatorSpec *spec, const char *p, OperatorRow *row)
{
	int			i;

	row->next = NULL;
	row->nulls = 0;
	memcpy(&row->hash, p, sizeof(row->hash));
	p += sizeof(row->hash);
	memcpy(&row->key_meta, p, sizeof(row->key_meta));
	p += sizeof(row->key_meta);
	row->key = p;
	p += STATE_KEY_LEN(row->key_meta);
	for (i = spec->first_kept; i < spec->ncolumns; i++)
	{
		bool		isnull;

		row->values[i] = (Datum) 0;
		if (i == spec->place_column)
			continue;
		p = state_datum_read(p, &row->values[i], &isnull, spec->column_len[i], spec->column_byval[i], spec->column_align[i]);
		if (isnull)
			row->nulls |= UINT64CONST(1) << i;
	}
}

/* The rows of a key group in the panes that have been passed, sorted. */
static WaitingRow *
collect(const OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group, int *n)
{
	StateOperator *op = &area->root->op[spec->number];
	Size		row_size = MAXALIGN(offsetof(OperatorRow, values) + sizeof(Datum) * spec->ncolumns);
	WaitingRow *rows;
	char	   *memory;
	int64		size = 0;
	int			p;

	*n = 0;
	for (p = 0; p < npanes; p++)
		size += panes[p]->chunk[group].nentries;
	if (size == 0)
		return NULL;
	rows = palloc_extended(sizeof(WaitingRow) * size, MCXT_ALLOC_HUGE);
	memory = palloc_extended(row_size * size, MCXT_ALLOC_HUGE);
	for (p = 0; p < npanes; p++)
	{
		StateCursor cursor;
		StateEntry *entry;
		uint32		at = 0;

		state_cursor_open(&cursor, area, spec->number, &panes[p]->chunk[group]);
		while ((entry = state_entry_next(&cursor, &at)) != NULL)
		{
			WaitingRow *row = &rows[*n];

			CHECK_FOR_INTERRUPTS();
			memcpy(&row->from, state_entry_key(op, entry), sizeof(WaitingKey));
			row->row = (OperatorRow *) (memory + row_size * (*n)++);
			read_waiting(spec, state_blob_bytes(cursor.data, (StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB)), row->row);
			row->at = DatumGetTimestampTz(row->row->values[spec->at_column]);
			row->hash = row->row->hash;
		}
	}
	qsort(rows, *n, sizeof(WaitingRow), compare_waiting);
	return rows;
}

static void
release_group(OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group)
{
	int			n;
	WaitingRow *rows = collect(spec, area, panes, npanes, group, &n);
	OperatorRow **list;
	OverKey    *key = NULL;
	AsofWork   *versions = NULL;
	int			i,
				k;

	if (n == 0)
		return;
	list = palloc_extended(sizeof(OperatorRow *) * n, MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
		list[i] = rows[i].row;
	if (spec->asof != NULL)
		versions = asof_begin(spec, area, group);
	else
		key = over_begin(spec, area, group, DT_NOBEGIN);
	for (i = 0; i < n; i = k)
	{
		if (key != NULL && i + OVER_AHEAD < n)
			over_prefetch(key, list[i + OVER_AHEAD]);
		for (k = i + 1; k < n && compare_keys(list[i], list[k]) == 0; k++)
			;
		if (versions != NULL)
			asof_answer(versions, list + i, k - i);
		else
			over_answer(key, list + i, k - i);
	}
	if (versions != NULL)
		asof_end(versions);
	else
		over_end(key);
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

/*
 * Panes that have been passed and hold rows of the group, which is owned: somebody who
 * owned it before, and had not seen the horizon, may just have made one.
 */
static StatePane **
passed_panes(const OperatorSpec *spec, StateArea *area, TimestampTz horizon, int group, int *npanes)
{
	int			n;
	StatePane **panes = state_panes_open(area, spec->number, &n);
	int			i;

	*npanes = 0;
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && over_waiting_end(panes[i]->id) <= horizon && panes[i]->chunk[group].nentries > 0)
			panes[(*npanes)++] = panes[i];
	return panes;
}

void
over_release(OperatorSpec *spec, StateArea *area, TimestampTz horizon, int task, int ntasks, const OperatorTransaction *transaction,
			 const OverConsumer *consumer)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc rows that waited", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	int			group;
	bool		open = false;

	for (group = task; group < STATE_GROUPS; group += ntasks)
	{
		StatePane **panes;
		int			npanes;

		if (!state_group_try_own(area, spec->number, group))
		{
			/* its owner may wait for a lock of ours */
			if (open)
				transaction->close(false);
			open = false;
			state_group_own(area, spec->number, group);
		}
		MemoryContextSwitchTo(cxt);
		panes = passed_panes(spec, area, horizon, group, &npanes);
		if (npanes == 0)
		{
			state_group_release(area, spec->number, group);
			continue;
		}
		if (!open)
			transaction->open();
		open = true;
		MemoryContextSwitchTo(cxt);
		release_owned(spec, area, panes, npanes, group);
		MemoryContextReset(cxt);
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

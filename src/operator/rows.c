/*-------------------------------------------------------------------------
 *
 * rows.c
 *	  Rows of the row query on their way into the state.
 *
 * The row query runs in a transaction; its rows are kept here, keys encoded
 * and hashed, in one list per key group.  When the transaction is over they
 * are applied: each key group is owned once for all of its rows.  Groups that
 * another task owns just now are left for the end, so tasks hardly wait for
 * each other.
 *
 * Lateness is judged when a row comes: the watermark that rules it does not
 * change before the barrier.  A row that is too late for all of its windows is
 * not applied; one that is too late for some goes into its slice, as those
 * windows are not given out again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/over.h"
#include "storage/itemptr.h"
#include "time/time.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#define ROWS_ARENA		(1024 * 1024)
/* panes of the present batch whose addresses are remembered */
#define PANES_REMEMBERED 16
/* rows whose memory is asked for before the first of them is applied */
#define APPLY_AHEAD		16

/* ---- slices and windows ---- */

static inline int64
floor_div(int64 a, int64 b)
{
	int64		q = a / b;

	return q - (a % b != 0 && (a < 0) != (b < 0));
}

int64
operator_last_end(const OperatorSpec *spec, int64 slice)
{
	switch (spec->window)
	{
		case OPERATOR_HOP:
			return slice + spec->scale.slices;
		case OPERATOR_CUMULATE:
			return (floor_div(slice, spec->scale.slices) + 1) * spec->scale.slices;
		default:
			return slice + 1;
	}
}

int64
operator_window_begin(const OperatorSpec *spec, int64 end)
{
	switch (spec->window)
	{
		case OPERATOR_HOP:
			return end - spec->scale.slices;
		case OPERATOR_CUMULATE:
			return floor_div(end - 1, spec->scale.slices) * spec->scale.slices;
		default:
			return end - 1;
	}
}

TimestampTz
operator_closing(const OperatorSpec *spec, int64 end)
{
	TimestampTz border = window_instant(&spec->scale, spec->held && !spec->held_on_end ? operator_window_begin(spec, end) : end);
	TimestampTz held;
	int64		last;

	/* until then a row may come that a session of the slice goes on with */
	if (spec->window == OPERATOR_SESSION)
		return border + spec->gap;
	if (!spec->held)
		return border;
	held = window_instant(&spec->held_scale, window_slice(&spec->held_scale, border) + 1);
	if (spec->held_on_end)
		return held;
	/* the last window that begins in it may end behind it */
	last = window_slice(&spec->scale, held - 1);
	return Max(held, window_instant(&spec->scale, last + spec->scale.slices));
}

bool
operator_is_late(const OperatorSpec *spec, TimestampTz closing, TimestampTz watermark)
{
	if (watermark == DT_NOEND || closing <= spec->closed_until)
		return true;
	if (watermark == WATERMARK_NONE)
		return false;
	return closing <= watermark - spec->allowed_lateness;
}

TimestampTz
operator_pane_end(const OperatorSpec *spec, int64 pane)
{
	return spec->join != NULL ? join_pane_end(spec, pane) : over_pane_end(spec, pane);
}

/* Remembers the slice of "at" and what is true of all its rows. */
static void
find_slice(OperatorRows *rows, TimestampTz at)
{
	const OperatorSpec *spec = rows->spec;
	int64		slice = window_slice(&spec->scale, at);
	int64		last = operator_last_end(spec, slice);

	rows->last_slice = slice;
	rows->slice_begin = window_instant(&spec->scale, slice);
	rows->slice_end = window_instant(&spec->scale, slice + 1);
	rows->slice_late = operator_is_late(spec, operator_closing(spec, last), rows->watermark);
	rows->slice_partly = operator_is_late(spec, operator_closing(spec, slice + 1), rows->watermark);
	/* who answers at once is never too late */
	if (spec->over != NULL && spec->over->arrival)
		rows->slice_late = rows->slice_partly = false;
}

/* ---- receiving ---- */

static Datum
keep_datum(OperatorRows *rows, Datum value, int16 len)
{
	Size		size;
	char	   *copy;

	if (len == -1)
	{
		/* flat, inline, not compressed: it is used outside of any transaction */
		struct varlena *v = PG_DETOAST_DATUM(value);

		size = VARSIZE(v);
		copy = arena_alloc(&rows->arena, size);
		memcpy(copy, v, size);
		if ((Pointer) v != DatumGetPointer(value))
			pfree(v);
	}
	else
	{
		size = datumGetSize(value, false, len);
		copy = arena_alloc(&rows->arena, size);
		memcpy(copy, DatumGetPointer(value), size);
	}
	rows->bytes += size;
	return PointerGetDatum(copy);
}

static uint64
place_of(Datum value)
{
	ItemPointer tid = (ItemPointer) DatumGetPointer(value);

	return ((uint64) ItemPointerGetBlockNumberNoCheck(tid) << 16) | ItemPointerGetOffsetNumberNoCheck(tid);
}

static void
add_to_group(OperatorRows *rows, OperatorRow *row)
{
	int			group = state_group_of(row->hash);

	*rows->last[group] = row;
	rows->last[group] = &row->next;
}

/* The key of the row in its grouping set, into the arena. */
static void
encode_key(OperatorRows *rows, OperatorRow *row, const Datum *values, const bool *isnull)
{
	OperatorSpec *spec = rows->spec;
	char	   *key;

	resetStringInfo(&rows->key);
	if (spec->nsets == 0)
	{
		row->key_meta = state_key_encode(spec->keys, spec->nkeys, values, isnull, &rows->key);
		/* sessions that are cut get a number */
		if (spec->max_span > 0 && STATE_KEY_LEN(row->key_meta) > STATE_KEY_MAX - sizeof(int32))
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the values to group by are too long")));
	}
	else
	{
		bool		masked[OPERATOR_MAX_COLUMNS];
		int			i;

		for (i = 0; i < spec->nkeys; i++)
			masked[i] = isnull[i] || (spec->sets[row->set] & (UINT64CONST(1) << i)) == 0;
		row->key_meta = state_key_encode(spec->keys, spec->nkeys, values, masked, &rows->key);
		if (STATE_KEY_LEN(row->key_meta) == STATE_KEY_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the values to group by are too long")));
		appendStringInfoChar(&rows->key, (char) row->set);
		row->key_meta++;
	}
	key = arena_alloc(&rows->arena, rows->key.len);
	memcpy(key, rows->key.data, rows->key.len);
	row->key = key;
	row->hash = state_hash(key, row->key_meta);
	rows->bytes += rows->key.len;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	OperatorRows *rows = (OperatorRows *) self;
	OperatorSpec *spec = rows->spec;
	Size		size = offsetof(OperatorRow, values) + sizeof(Datum) * operator_row_values(spec);
	OperatorRow *row;
	int			i;

	slot_getallattrs(slot);
	row = arena_alloc(&rows->arena, size);
	row->next = NULL;
	row->nulls = 0;
	row->late = false;
	row->set = 0;
	row->slice = STATE_PANE_ETERNAL;
	row->place = slot->tts_isnull[spec->place_column] ? 0 : place_of(slot->tts_values[spec->place_column]);
	if (spec->at_column >= 0)
	{
		TimestampTz at;

		if (slot->tts_isnull[spec->at_column])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("event time is null")));
		at = DatumGetTimestampTz(slot->tts_values[spec->at_column]);
		if (spec->scale.step != 0)
		{
			if (at < rows->slice_begin || at >= rows->slice_end)
				find_slice(rows, at);
			row->slice = rows->last_slice;
			row->late = rows->slice_late;
		}
	}
	encode_key(rows, row, slot->tts_values, slot->tts_isnull);
	for (i = spec->first_kept; i < spec->ncolumns; i++)
	{
		row->values[i] = slot->tts_values[i];
		if (slot->tts_isnull[i])
			row->nulls |= UINT64CONST(1) << i;
		else if (!spec->column_byval[i] && i != spec->place_column)
			row->values[i] = keep_datum(rows, slot->tts_values[i], spec->column_len[i]);
	}
	rows->bytes += size;
	rows->nrows++;

	if (unlikely(row->late || (spec->at_column >= 0 && rows->slice_partly)))
	{
		OperatorRow *noted = row;

		if (!row->late)
		{
			/* it is also applied */
			noted = arena_alloc(&rows->arena, size);
			memcpy(noted, row, size);
		}
		*rows->late_last = noted;
		rows->late_last = &noted->next;
		rows->nlate++;
		if (row->late)
			return true;
	}
	add_to_group(rows, row);
	for (i = 1; i < spec->nsets; i++)
	{
		OperatorRow *other = arena_alloc(&rows->arena, size);

		memcpy(other, row, size);
		other->next = NULL;
		other->set = (uint8) i;
		encode_key(rows, other, slot->tts_values, slot->tts_isnull);
		add_to_group(rows, other);
		rows->bytes += size;
		rows->nrows++;
	}
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
shutdown(DestReceiver *self)
{
}

OperatorRows *
rows_create(OperatorSpec *spec, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OperatorRows *rows = palloc0(sizeof(OperatorRows));

	rows->pub.receiveSlot = receive;
	rows->pub.rStartup = startup;
	rows->pub.rShutdown = shutdown;
	rows->pub.rDestroy = shutdown;
	rows->pub.mydest = DestNone;
	rows->spec = spec;
	rows->watermark = WATERMARK_NONE;
	arena_init(&rows->arena, cxt, ROWS_ARENA);
	initStringInfo(&rows->key);
	MemoryContextSwitchTo(old);
	rows_reset(rows);
	return rows;
}

void
rows_watermark(OperatorRows *rows, TimestampTz watermark)
{
	rows->watermark = rows->spec->watermark = watermark;
	/* an empty slice: the first row finds its own */
	rows->slice_begin = DT_NOEND;
	rows->slice_end = DT_NOBEGIN;
}

void
rows_reset(OperatorRows *rows)
{
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
	{
		rows->first[g] = NULL;
		rows->last[g] = &rows->first[g];
	}
	rows->late_first = NULL;
	rows->late_last = &rows->late_first;
	rows->overtaken = NULL;
	rows->nrows = 0;
	rows->nlate = 0;
	rows->bytes = 0;
	arena_reset(&rows->arena);
	rows_watermark(rows, rows->watermark);
	rows_mark(rows);
}

void
rows_mark(OperatorRows *rows)
{
	memcpy(rows->marked_last, rows->last, sizeof(rows->last));
	rows->marked_late_last = rows->late_last;
	rows->marked_rows = rows->nrows;
	rows->marked_late = rows->nlate;
}

void
rows_forget(OperatorRows *rows)
{
	int			g;

	memcpy(rows->last, rows->marked_last, sizeof(rows->last));
	for (g = 0; g < STATE_GROUPS; g++)
		*rows->last[g] = NULL;
	rows->late_last = rows->marked_late_last;
	*rows->late_last = NULL;
	rows->nrows = rows->marked_rows;
	rows->nlate = rows->marked_late;
}

/* ---- applying ---- */

static struct
{
	int			op;
	int64		id;
	StatePane  *pane;
}			remembered[PANES_REMEMBERED];

void
operator_epoch_ended(void)
{
	memset(remembered, 0, sizeof(remembered));
	history_epoch_ended();
}

static StatePane *
find_pane(StateArea *area, int op, int64 id)
{
	int			i = (int) ((uint64) id % PANES_REMEMBERED);

	if (remembered[i].pane == NULL || remembered[i].op != op || remembered[i].id != id)
	{
		remembered[i].pane = state_pane(area, op, id, true);
		remembered[i].op = op;
		remembered[i].id = id;
	}
	return remembered[i].pane;
}

static StateEntry *
keep_originals(OperatorSpec *spec, OperatorRow *row, StateCursor *cursor, StateEntry *entry)
{
	StringInfoData bytes;
	int			i;

	initStringInfo(&bytes);
	for (i = 0; i < spec->nkeys; i++)
		state_datum_write(&bytes, row->values[i],
						  (row->nulls & (UINT64CONST(1) << i)) != 0 ||
						  (spec->nsets > 0 && (spec->sets[row->set] & (UINT64CONST(1) << i)) == 0),
						  spec->column_len[i], spec->column_byval[i]);
	entry = state_blob_set(cursor, entry, spec->originals_at, bytes.data, bytes.len);
	pfree(bytes.data);
	return entry;
}

/* Does FILTER let the row through? */
static inline bool
passes(const AggregateSpec *agg, const OperatorRow *row)
{
	return agg->filter < 0 ||
		((row->nulls & (UINT64CONST(1) << agg->filter)) == 0 && DatumGetBool(row->values[agg->filter]));
}

/* The row joins the session of its key in its slice. */
static inline void
note_bounds(const OperatorSpec *spec, const OperatorRow *row, StateEntry *entry, bool found)
{
	SessionBounds *bounds = session_bounds(spec, entry);
	TimestampTz at = DatumGetTimestampTz(row->values[spec->at_column]);

	if (!found || at < bounds->first)
		bounds->first = at;
	if (!found || at > bounds->last)
		bounds->last = at;
}

static inline StateEntry *
apply_native(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor, StateEntry *entry)
{
	int			i;

	for (i = 0; i < spec->naggs; i++)
	{
		const AggregateSpec *agg = &spec->aggs[i];
		Datum		value = (Datum) 0;

		if (agg->kind != AGGREGATE_NATIVE || !passes(agg, row))
			continue;
		if (agg->nargs > 0)
		{
			if (row->nulls & (UINT64CONST(1) << agg->args[0]))
				continue;
			value = row->values[agg->args[0]];
		}
		if (agg->distinct)
		{
			bool		is_new;

			entry = distinct_add(agg, i, cursor, entry, row->hash, value, &is_new);
			if (!is_new)
				continue;
		}
		native_update(agg, STATE_ENTRY_FIXED(entry) + agg->at, value);
	}
	return entry;
}

/* The rows first..first+n-1 of one key. */
static StateEntry *
apply_functions(OperatorSpec *spec, OperatorRow **first, int n, StateCursor *cursor, StateEntry *entry)
{
	Datum		values[OPERATOR_MAX_COLUMNS];
	bool		isnull[OPERATOR_MAX_COLUMNS];
	int			i,
				r,
				k;

	for (i = 0; i < spec->naggs; i++)
	{
		AggregateSpec *agg = &spec->aggs[i];

		if (agg->kind == AGGREGATE_NATIVE)
			continue;
		if (agg->kind == AGGREGATE_TRANSITION)
		{
			transition_begin(spec, agg, STATE_ENTRY_FIXED(entry), cursor->data);
			for (r = 0; r < n; r++)
			{
				OperatorRow *row = first[r];

				CHECK_FOR_INTERRUPTS();
				if (!passes(agg, row))
					continue;
				for (k = 0; k < agg->nargs; k++)
				{
					values[k] = row->values[agg->args[k]];
					isnull[k] = (row->nulls & (UINT64CONST(1) << agg->args[k])) != 0;
				}
				transition_step(spec, agg, values, isnull);
			}
			entry = transition_store(spec, agg, cursor, entry);
		}
		else
		{
			StringInfoData bytes;
			const StateBlob *blob;

			initStringInfo(&bytes);
			for (r = 0; r < n; r++)
			{
				OperatorRow *row = first[r];
				bool		counts = passes(agg, row);

				blob = (const StateBlob *) (STATE_ENTRY_FIXED(entry) + agg->at);
				if (!counts && (blob->len > 0 || bytes.len > 0))
					continue;
				for (k = 0; k < spec->ncolumns; k++)
					isnull[k] = (row->nulls & (UINT64CONST(1) << k)) != 0;
				appendStringInfoCharMacro(&bytes, counts ? 1 : 0);
				buffered_write(spec, agg, row->values, isnull, &bytes);
			}
			if (bytes.len > 0)
				entry = state_blob_append(cursor, entry, agg->at, bytes.data, bytes.len);
			pfree(bytes.data);
		}
		ReScanExprContext(spec->group_context);
	}
	return entry;
}

StateEntry *
operator_apply_rows(OperatorSpec *spec, OperatorRow **rows, int n, StateCursor *cursor, StateEntry *entry)
{
	int			i;

	for (i = 0; i < n; i++)
		entry = apply_native(spec, rows[i], cursor, entry);
	return spec->user_code ? apply_functions(spec, rows, n, cursor, entry) : entry;
}

static void
open_chunk(OperatorSpec *spec, StateArea *area, int group, int64 slice, StateCursor *cursor)
{
	StatePane  *pane = find_pane(area, spec->number, slice);

	if (unlikely(pane->closed))
		elog(ERROR, "a row came into a closed pane of operator %d", spec->number);
	state_cursor_open(cursor, area, spec->number, &pane->chunk[group]);
}

int
operator_compare_keys(const OperatorRow *x, const OperatorRow *y)
{
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->key_meta != y->key_meta)
		return x->key_meta < y->key_meta ? -1 : 1;
	return memcmp(x->key, y->key, STATE_KEY_LEN(x->key_meta));
}

/* Rows in the order of (slice, key), within a key as they came. */
static int
compare_rows(const void *a, const void *b)
{
	const OperatorRow *x = *(OperatorRow *const *) a;
	const OperatorRow *y = *(OperatorRow *const *) b;
	int			c;

	if (x->slice != y->slice)
		return x->slice < y->slice ? -1 : 1;
	c = operator_compare_keys(x, y);
	if (c != 0)
		return c;
	/* within a key in the order of arrival */
	return x->place != y->place ? (x->place < y->place ? -1 : 1) : 0;
}

/* The rows of a key from i on, up to one at which it is forgotten. */
static int
apply_until(const OperatorSpec *spec, OperatorRow **sorted, int i, int k, StateCursor *cursor, StateEntry *entry, bool fresh)
{
	TimestampTz *last = (TimestampTz *) (STATE_ENTRY_FIXED(entry) + spec->last_at);

	if (spec->ttl == 0)
		return k;
	ttl_row_comes(spec, sorted[i], cursor, entry, fresh);
	for (i++; i < k && !ttl_begins_anew(spec, sorted[i], last); i++)
		;
	return i;
}

static void
apply_group_by_key(OperatorRows *rows, StateArea *area, int group)
{
	OperatorSpec *spec = rows->spec;
	OperatorRow **sorted;
	OperatorRow *row;
	StateCursor cursor;
	int64		slice = 0;
	int			n = 0;
	int			i,
				k;

	for (row = rows->first[group]; row != NULL; row = row->next)
		n++;
	sorted = palloc(sizeof(OperatorRow *) * n);
	n = 0;
	for (row = rows->first[group]; row != NULL; row = row->next)
		sorted[n++] = row;
	qsort(sorted, n, sizeof(OperatorRow *), compare_rows);

	for (i = 0; i < n;)
	{
		StateEntry *entry;
		bool		found;

		row = sorted[i];
		if (i == 0 || row->slice != slice)
			open_chunk(spec, area, group, row->slice, &cursor);
		slice = row->slice;
		for (k = i + 1; k < n; k++)
			if (sorted[k]->slice != row->slice || operator_compare_keys(sorted[k], row) != 0)
				break;
		entry = state_entry_make(&cursor, row->hash, row->key, row->key_meta, &found);
		if (spec->top == NULL || spec->ttl > 0)
			state_entry_mark(&cursor, entry);
		if (!found && !spec->exact_keys)
			entry = keep_originals(spec, row, &cursor, entry);
		while (i < k)
		{
			int			end = apply_until(spec, sorted, i, k, &cursor, entry, !found);

			if (spec->top != NULL)
				entry = top_apply(spec, sorted + i, end - i, &cursor, entry);
			for (int r = i; r < end && spec->naggs > 0; r++)
			{
				if (spec->window == OPERATOR_SESSION)
					note_bounds(spec, sorted[r], entry, found || r > i);
				entry = spec->max_span > 0 ? session_keep(spec, sorted[r], &cursor, entry) : apply_native(spec, sorted[r], &cursor, entry);
			}
			if (spec->naggs > 0 && spec->max_span == 0)
				entry = apply_functions(spec, sorted + i, end - i, &cursor, entry);
			found = true;
			i = end;
		}
	}
	pfree(sorted);
}

/* One row alone; the caller owns its group. */
void
operator_apply_row(OperatorSpec *spec, StateArea *area, OperatorRow *row)
{
	StateCursor cursor;
	StateEntry *entry;
	bool		found;

	open_chunk(spec, area, state_group_of(row->hash), row->slice, &cursor);
	entry = state_entry_make(&cursor, row->hash, row->key, row->key_meta, &found);
	state_entry_mark(&cursor, entry);
	if (spec->window == OPERATOR_SESSION)
		note_bounds(spec, row, entry, found);
	if (!found && !spec->exact_keys)
		entry = keep_originals(spec, row, &cursor, entry);
	if (spec->ttl > 0)
		ttl_row_comes(spec, row, &cursor, entry, !found);
	if (spec->top != NULL)
		(void) top_apply(spec, &row, 1, &cursor, entry);
	else if (spec->max_span > 0)
		(void) session_keep(spec, row, &cursor, entry);
	else
		(void) operator_apply_rows(spec, &row, 1, &cursor, entry);
}

/*
 * Native aggregates alone.  Rows are taken some at a time, so that the memory
 * that each will touch is on its way while the others are worked on.
 */
static void
apply_group(OperatorRows *rows, StateArea *area, int group)
{
	OperatorSpec *spec = rows->spec;
	OperatorRow *row = rows->first[group];
	OperatorRow *some[APPLY_AHEAD];
	StateCursor cursor;

	while (row != NULL)
	{
		int64		slice = row->slice;
		int			n = 0;
		int			i;

		open_chunk(spec, area, group, slice, &cursor);
		for (; row != NULL && row->slice == slice && n < APPLY_AHEAD; row = row->next)
		{
			state_prefetch_slot(&cursor, row->hash);
			some[n++] = row;
		}
		for (i = 0; i < n; i++)
			state_prefetch_entry(&cursor, some[i]->hash);
		for (i = 0; i < n; i++)
		{
			StateEntry *entry;
			bool		found;

			entry = state_entry_make(&cursor, some[i]->hash, some[i]->key, some[i]->key_meta, &found);
			state_entry_mark(&cursor, entry);
			if (spec->window == OPERATOR_SESSION)
				note_bounds(spec, some[i], entry, found);
			if (unlikely(!found && !spec->exact_keys))
				entry = keep_originals(spec, some[i], &cursor, entry);
			if (spec->ttl > 0)
				ttl_row_comes(spec, some[i], &cursor, entry, !found);
			if (unlikely(spec->max_span > 0))
				(void) session_keep(spec, some[i], &cursor, entry);
			else
				(void) apply_native(spec, some[i], &cursor, entry);
		}
	}
}

/* The group is ours; it is given back whatever happens. */
static void
apply_owned(OperatorRows *rows, StateArea *area, int group, const OperatorTransaction *transaction, const OperatorConsumer *consumer,
			bool *open)
{
	OperatorSpec *spec = rows->spec;

	PG_TRY();
	{
		if (spec->user_code && !*open)
		{
			transaction->open();
			*open = true;
		}
		FAULT_POINT("operator-apply");
		if (spec->asof != NULL)
			asof_apply_group(rows, area, group);
		else if (spec->over != NULL)
			over_apply_group(rows, area, group);
		else if (spec->join != NULL)
			join_apply_group(rows, area, group, consumer);
		else if (spec->user_code)
			apply_group_by_key(rows, area, group);
		else
			apply_group(rows, area, group);
	}
	PG_CATCH();
	{
		/* what is changed stays so: before anybody else sees it the run is given up */
		state_abandon(area);
		state_group_release(area, spec->number, group);
		PG_RE_THROW();
	}
	PG_END_TRY();
	state_group_release(area, spec->number, group);
}

/* What the operator has answered goes to its consumer, where that is enough; no group is owned. */
static void
hand_over(const OperatorConsumer *consumer, const OperatorTransaction *transaction, bool *open)
{
	MemoryContext old = CurrentMemoryContext;

	if (consumer == NULL || !consumer->full())
		return;
	if (*open)
		transaction->close(false);
	*open = false;
	consumer->work();
	MemoryContextSwitchTo(old);
}

void
operator_apply(OperatorRows *rows, StateArea *area, const OperatorTransaction *transaction, const OperatorConsumer *consumer)
{
	OperatorSpec *spec = rows->spec;
	int			waiting[STATE_GROUPS];
	int			nwaiting = 0;
	int			begin = MyProcPid % STATE_GROUPS;	/* tasks begin at different places */
	bool		open = false;
	int			n;

	rows->waiting.panes = NULL;
	for (n = 0; n < STATE_GROUPS; n++)
	{
		int			g = (begin + n) % STATE_GROUPS;

		if (rows->first[g] == NULL)
			continue;
		if (!state_group_try_own(area, spec->number, g))
		{
			waiting[nwaiting++] = g;
			continue;
		}
		apply_owned(rows, area, g, transaction, consumer, &open);
		hand_over(consumer, transaction, &open);
		/* a join stops between two rows where its consumer has enough */
		if (spec->join != NULL && rows->first[g] != NULL)
			waiting[nwaiting++] = g;
	}
	for (n = 0; n < nwaiting; n++)
		do
		{
			if (!state_group_try_own(area, spec->number, waiting[n]))
			{
				if (open)
					transaction->close(false);
				open = false;
				state_group_own(area, spec->number, waiting[n]);
			}
			apply_owned(rows, area, waiting[n], transaction, consumer, &open);
			hand_over(consumer, transaction, &open);
		} while (spec->join != NULL && rows->first[waiting[n]] != NULL);
	if (open)
		transaction->close(false);
}

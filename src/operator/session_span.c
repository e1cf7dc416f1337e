/*-------------------------------------------------------------------------
 *
 * session_span.c
 *	  Sessions that are cut: max_span.
 *
 * A row that comes max_span or more after the first one of its session begins
 * another.  Which rows those are is known only when all rows before them are: so an
 * entry keeps its rows, as bytes, until its slice is closed.  Then they are taken in
 * the order of event time: each joins the session that came from earlier slices
 * (SessionCarried), whose aggregates stand in the entry, or the one that the last cut
 * began.  A session that is cut becomes an entry of its own in the closed pane, by the
 * key and a number; the last one stays where it was, and goes on or has ended like any other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/aggregate.h"

StateEntry *
session_keep(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor, StateEntry *entry)
{
	StringInfoData bytes;
	int			i;

	initStringInfo(&bytes);
	for (i = spec->first_kept; i < spec->ncolumns; i++)
		if (i != spec->place_column)
			state_datum_write(&bytes, row->values[i], (row->nulls & (UINT64CONST(1) << i)) != 0, spec->column_len[i], spec->column_byval[i]);
	entry = state_blob_append(cursor, entry, spec->rows_at, bytes.data, bytes.len);
	pfree(bytes.data);
	return entry;
}

static int
compare_times(const void *a, const void *b, void *arg)
{
	const OperatorSpec *spec = arg;
	TimestampTz x = DatumGetTimestampTz((*(OperatorRow *const *) a)->values[spec->at_column]);
	TimestampTz y = DatumGetTimestampTz((*(OperatorRow *const *) b)->values[spec->at_column]);

	return x < y ? -1 : x > y;
}

/* The rows that an entry keeps, in the order of event time; they point into "bytes". */
static OperatorRow **
read_rows(OperatorSpec *spec, const char *bytes, Size len, int *n)
{
	const char *p = bytes;
	int			size = 64;
	OperatorRow **rows = palloc(sizeof(OperatorRow *) * size);

	*n = 0;
	while (p < bytes + len)
	{
		OperatorRow *row = palloc0(offsetof(OperatorRow, values) + sizeof(Datum) * spec->ncolumns);
		int			i;

		CHECK_FOR_INTERRUPTS();
		for (i = spec->first_kept; i < spec->ncolumns; i++)
		{
			bool		isnull = false;

			if (i == spec->place_column)
				continue;
			p = state_datum_read(p, &row->values[i], &isnull, spec->column_len[i], spec->column_byval[i], spec->column_align[i]);
			if (isnull)
				row->nulls |= UINT64CONST(1) << i;
		}
		if (*n == size)
			rows = repalloc_huge(rows, sizeof(OperatorRow *) * (size *= 2));
		rows[(*n)++] = row;
	}
	qsort_arg(rows, *n, sizeof(OperatorRow *), compare_times, spec);
	return rows;
}

/* The session in the entry is over: it becomes an entry of its own, and the entry is empty. */
static StateEntry *
set_apart(OperatorSpec *spec, StateCursor *cursor, StateEntry *entry, SessionBounds bounds, int32 number)
{
	Size		size = state_record_size(cursor->op, entry, cursor->data);
	StateRecord *record = palloc(size);
	uint16		meta = entry->key_meta;
	Size		len = STATE_KEY_LEN(meta);
	char	   *key = palloc(len + sizeof(number));
	StateEntry *apart;
	bool		found;
	int			i;

	state_record_write(cursor->op, entry, cursor->data, (char *) record, size);
	memcpy(key, state_entry_key(cursor->op, entry), len);
	memcpy(key + len, &number, sizeof(number));
	apart = state_entry_make(cursor, state_hash(key, meta + sizeof(number)), key, meta + sizeof(number), &found);
	*session_bounds(spec, apart) = bounds;
	(void) fire_merge_entry(spec, cursor, apart, true, STATE_RECORD_FIXED(record), (const char *) record);
	entry = state_entry_find(cursor, state_hash(key, meta), key, meta);
	/* what blobs there were is given up: the pane will go soon */
	for (i = 0; i < spec->naggs; i++)
		memset(STATE_ENTRY_FIXED(entry) + spec->aggs[i].at, 0, spec->aggs[i].kind == AGGREGATE_NATIVE ? spec->aggs[i].size :
			   spec->aggs[i].kind == AGGREGATE_BUFFERED ? sizeof(StateBlob) : sizeof(TransitionState));
	pfree(record);
	pfree(key);
	return entry;
}

StateEntry *
session_cut(OperatorSpec *spec, StateCursor *cursor, StateEntry *entry, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + spec->rows_at);
	SessionCarried *carried = (SessionCarried *) (STATE_ENTRY_FIXED(entry) + spec->carried_at);
	SessionBounds bounds = {carried->first, 0};
	bool		begun = carried->has != 0;
	Size		len = blob->len;
	char	   *bytes = palloc_extended(Max(len, 1), MCXT_ALLOC_HUGE);
	OperatorRow **rows;
	int32		number = 0;
	int			n;
	int			i,
				k;

	memcpy(bytes, state_blob_bytes(cursor->data, blob), len);
	/* it is read once, and would be copied with each session that is set apart */
	blob->len = 0;
	rows = read_rows(spec, bytes, len, &n);
	for (i = 0; i < n; i = k)
	{
		TimestampTz at = DatumGetTimestampTz(rows[i]->values[spec->at_column]);

		CHECK_FOR_INTERRUPTS();
		/* between two rows of a slice there is no gap, nor between what was carried and them */
		if (begun && (uint64) at - (uint64) bounds.first >= (uint64) spec->max_span)
		{
			entry = set_apart(spec, cursor, entry, bounds, number++);
			begun = false;
		}
		if (!begun)
			bounds.first = at;
		begun = true;
		bounds.last = at;
		for (k = i + 1; k < n; k++)
		{
			at = DatumGetTimestampTz(rows[k]->values[spec->at_column]);
			if ((uint64) at - (uint64) bounds.first >= (uint64) spec->max_span)
				break;
			bounds.last = at;
		}
		entry = operator_apply_rows(spec, rows + i, k - i, cursor, entry);
	}
	*session_bounds(spec, entry) = bounds;
	MemoryContextSwitchTo(old);
	MemoryContextReset(cxt);
	return entry;
}

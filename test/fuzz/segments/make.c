/*-------------------------------------------------------------------------
 *
 * make.c
 *	  Segments of state, written by those who write them in a server: rows come to
 *	  operators, and the area is saved.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "segments.h"

#define MOST_ROWS	4
/* rows of a segment lie in this time */
#define SOME_TIME	(20 * USECS_PER_SEC)

static const TimestampTz never = DT_NOBEGIN;
static const int64 no_pace = 0;

/* ---- rows ---- */

static Datum
random_varlena(Random *random)
{
	int			n = random_below(random, random_below(random, 8) == 0 ? 600 : 12);
	struct varlena *v = palloc(VARHDRSZ + n);

	SET_VARSIZE(v, VARHDRSZ + n);
	memset(VARDATA(v), 'a' + random_below(random, 3), n);
	return PointerGetDatum(v);
}

static Datum
random_datum(Random *random, const OperatorSpec *spec, int column)
{
	switch (spec->column_len[column])
	{
		case -1:
			return random_varlena(random);
		case -2:
			return CStringGetDatum(pstrdup(random_below(random, 2) == 0 ? "" : "some text"));
		case 1:
			return BoolGetDatum(random_below(random, 2));
		case 4:
			return Int32GetDatum(random_below(random, 2));
		case 8:
			return Int64GetDatum(random_below(random, 1000));
		default:
			return PointerGetDatum(memset(palloc(spec->column_len[column]), random_below(random, 256), spec->column_len[column]));
	}
}

/* A row of the operator whose key is one of few, so that some come together. */
static OperatorRow *
random_row(Random *random, const OperatorSpec *spec, TimestampTz at, const OperatorRow *same_key)
{
	OperatorRow *row = palloc0(offsetof(OperatorRow, values) + sizeof(Datum) * MOST_COLUMNS);
	bool		isnull[MOST_COLUMNS] = {0};
	StringInfoData key;
	int			i;

	for (i = 0; i < spec->ncolumns; i++)
	{
		row->values[i] = random_datum(random, spec, i);
		isnull[i] = i != spec->at_column && i != 7 && random_below(random, 6) == 0;
	}
	row->values[spec->at_column] = TimestampTzGetDatum(at);
	if (same_key != NULL)
		for (i = 0; i < spec->nkeys; i++)
		{
			row->values[i] = same_key->values[i];
			isnull[i] = (same_key->nulls & (UINT64CONST(1) << i)) != 0;
		}
	/* a join keeps no key with nulls */
	else if (spec->join != NULL || spec->asof != NULL)
		isnull[0] = isnull[1] = false;
	for (i = 0; i < spec->ncolumns; i++)
		if (isnull[i])
			row->nulls |= UINT64CONST(1) << i;
	initStringInfo(&key);
	row->key_meta = state_key_encode(spec->keys, spec->nkeys, row->values, isnull, &key);
	if (spec->nsets > 0)
	{
		row->set = (uint8) random_below(random, spec->nsets);
		appendStringInfoChar(&key, (char) row->set);
		row->key_meta++;
	}
	row->key = key.data;
	row->hash = state_hash(row->key, row->key_meta);
	row->part = random_below(random, 4);
	row->offset = random_below(random, 100);
	row->slice = spec->window == OPERATOR_NO_WINDOW ? STATE_PANE_ETERNAL : window_slice(&spec->scale, at);
	row->place = row->offset;
	return row;
}

/* ---- operators ---- */

static StateEntry *
entry_for(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor)
{
	StatePane  *pane = state_pane(fuzz_area, spec->number, row->slice, true);
	bool		found;

	state_cursor_open(cursor, fuzz_area, spec->number, &pane->chunk[state_group_of(row->hash)]);
	return state_entry_make(cursor, row->hash, row->key, row->key_meta, &found);
}

static void
write_functions(Random *random, OperatorSpec *spec, OperatorRow **rows, int n)
{
	StateCursor cursor;
	StateEntry *entry = entry_for(spec, rows[0], &cursor);
	StringInfoData bytes;
	bool		isnull[MOST_COLUMNS];
	int			i,
				r;

	initStringInfo(&bytes);
	for (i = 0; i < spec->nkeys; i++)
		state_datum_write(&bytes, rows[0]->values[i], (rows[0]->nulls & (UINT64CONST(1) << i)) != 0, spec->column_len[i], spec->column_byval[i]);
	entry = state_blob_set(&cursor, entry, spec->originals_at, bytes.data, bytes.len);
	for (i = 0; i < spec->naggs; i++)
	{
		AggregateSpec *agg = &spec->aggs[i];
		Transition *t = agg->transition;

		if (agg->kind == AGGREGATE_BUFFERED)
		{
			resetStringInfo(&bytes);
			for (r = 0; r < n; r++)
			{
				for (int c = 0; c < spec->ncolumns; c++)
					isnull[c] = (rows[r]->nulls & (UINT64CONST(1) << c)) != 0;
				appendStringInfoChar(&bytes, (char) random_below(random, 2));
				buffered_write(spec, agg, rows[r]->values, isnull, &bytes);
			}
			entry = state_blob_append(&cursor, entry, agg->at, bytes.data, bytes.len);
			continue;
		}
		t->isnull = t->none = random_below(random, 4) == 0;
		t->value = t->internal || t->len == -1 ? random_varlena(random) : t->byval ? Int64GetDatum(n) : rows[0]->values[3];
		entry = transition_store(spec, agg, &cursor, entry);
	}
	memcpy(STATE_ENTRY_FIXED(entry) + spec->last_at, &rows[0]->values[spec->at_column], sizeof(TimestampTz));
}

static void
write_groups(Random *random, OperatorSpec *spec, OperatorRow **rows, int n)
{
	StateCursor cursor;
	StateEntry *entry;
	bool		is_new;
	int			i;

	if (spec->number == OP_FUNCTIONS)
	{
		write_functions(random, spec, rows, n);
		return;
	}
	entry = entry_for(spec, rows[0], &cursor);
	if (spec->top != NULL)
		entry = top_apply(spec, rows, n, &cursor, entry);
	for (i = 0; i < n && spec->max_span > 0; i++)
	{
		*session_bounds(spec, entry) = (SessionBounds) {0, i};
		entry = session_keep(spec, rows[i], &cursor, entry);
	}
	for (i = 0; i < n && spec->has_distinct; i++)
		entry = distinct_add(&spec->aggs[i % 2], i % 2, &cursor, entry, rows[0]->hash, rows[i]->values[spec->aggs[i % 2].args[0]], &is_new);
}

static void
write_waiting(Random *random, OperatorSpec *spec, OperatorRow **rows, int n)
{
	WaitingPanes panes;

	waiting_find(&panes, fuzz_area, spec);
	part_wait(spec, waiting_pane_for(&panes, fuzz_area, spec, DatumGetTimestampTz(rows[0]->values[spec->at_column]),
									 random_below(random, 4) == 0 ? USECS_PER_HOUR : 0),
			  state_group_of(rows[0]->hash), rows, n, spec->number == OP_FIRST && random_below(random, 2) == 0);
}

static void
write_join(Random *random, OperatorSpec *spec, OperatorRow **rows, int n)
{
	OperatorRows *all = palloc0(sizeof(OperatorRows));
	int			group = state_group_of(rows[0]->hash);
	int			i;

	all->spec = spec;
	all->horizon = &never;
	all->pace = &no_pace;
	all->watermark = WATERMARK_NONE;
	for (i = 0; i < n; i++)
		rows[i]->next = i + 1 < n ? rows[i + 1] : NULL;
	all->first[group] = rows[0];
	join_apply_group(all, fuzz_area, group, NULL);
}

static void
write_rows(Random *random, OperatorSpec *spec, OperatorRow **rows, int n)
{
	OverRow		over[MOST_ROWS];
	int			i;

	if (!operator_gives_rows(spec))
		write_groups(random, spec, rows, n);
	else if (spec->join != NULL)
		write_join(random, spec, rows, n);
	else if (spec->waits && random_below(random, 2) == 0)
		write_waiting(random, spec, rows, n);
	else if (spec->number == OP_FIRST)
	{
		StateCursor cursor;
		OperatorRow eternal = *rows[0];

		eternal.slice = STATE_PANE_ETERNAL;
		memcpy(STATE_ENTRY_FIXED(entry_for(spec, &eternal, &cursor)) + OVER_FIRST_AT, &rows[0]->values[spec->at_column], sizeof(TimestampTz));
	}
	else
	{
		for (i = 0; i < n; i++)
			over[i] = (OverRow) {rows[i]->hash, spec->number, rows[i]->key_meta, rows[i]->key, DatumGetTimestampTz(rows[i]->values[spec->at_column]), rows[i]->nulls, rows[i]->values};
		if (spec->over != NULL)
			part_over_write(state_group_of(rows[0]->hash), over, n);
		else
		{
			AsofWork   *work = asof_begin(spec, fuzz_area, state_group_of(rows[0]->hash));

			asof_answer(work, over, n);
			asof_end(work);
		}
	}
}

static void
no_emit(const char *bytes, Size len)
{
}

void
state_make(Random *random, FuzzBuffer *out)
{
	int			times = 1 + random_below(random, random_below(random, 4) == 0 ? 12 : 3);
	int			first = random_below(random, OPERATORS);

	area_empty();
	over_emit = no_emit;
	while (times-- > 0)
	{
		/* mostly of one operator */
		OperatorSpec *spec = &fuzz_specs[random_below(random, 4) == 0 ? random_below(random, OPERATORS) : first];
		TimestampTz at = random_below(random, SOME_TIME);
		OperatorRow *rows[MOST_ROWS];
		int			n = 1 + random_below(random, MOST_ROWS);
		int			i;

		for (i = 0; i < n; i++)
			rows[i] = random_row(random, spec, at += random_below(random, USECS_PER_SEC), i > 0 ? rows[0] : NULL);
		write_rows(random, spec, rows, n);
	}
	state_write(out);
}

/* ---- a changed segment, so that it looks whole ---- */

/* The key group of a run is that of its first record's key, whatever that is the key of. */
static void
set_group(Random *random, StateRun *run, StateRecord *record, Size size)
{
	const StateShape *shape = &fuzz_shapes[run->op];
	bool		member = (record->key_meta & STATE_KEY_MEMBER) != 0;
	Size		fixed_size = state_shape_size(shape, record->key_meta);
	const char *key = STATE_RECORD_FIXED(record) + fixed_size;
	uint16		meta = record->key_meta;
	Size		left = size - sizeof(StateRecord);

	if (left < fixed_size || left - fixed_size < STATE_KEY_LEN(meta))
		return;
	/* chunks and blocks of rows have numbers behind their keys; those that DISTINCT has seen stand before them */
	if (member && operator_gives_rows(&fuzz_specs[run->op]) && STATE_KEY_LEN(meta) >= sizeof(uint32))
	{
		if (OVER_IS_WAITING(run->pane) && fuzz_specs[run->op].join == NULL)
		{
			WaitingRow *row = (WaitingRow *) ((char *) record + sizeof(StateRecord) + fixed_size + 8 + 8);

			left -= fixed_size;
			if (left < 16 + sizeof(WaitingRow) || row->size > left - 16 || operator_row_values(&fuzz_specs[run->op]) * sizeof(Datum) + sizeof(WaitingRow) + STATE_KEY_LEN(row->key_meta) > row->size)
				return;
			row->hash = state_hash(waiting_key(&fuzz_specs[run->op], row), row->key_meta);
			run->group = state_group_of(row->hash);
			return;
		}
		if (OVER_IS_WAITING(run->pane))
			meta &= ~STATE_KEY_MEMBER;
		else
			meta = (meta & STATE_KEY_NULLS) | (STATE_KEY_LEN(meta) - sizeof(uint32));
	}
	else if (member && STATE_KEY_LEN(meta) > 3)
	{
		key = distinct_group(key, &meta);
		if (STATE_KEY_LEN(meta) > STATE_KEY_LEN(record->key_meta) - 3)
			return;
	}
	run->group = state_group_of(state_hash(key, meta));
}

/* Lengths of runs, key groups and checksum follow what was changed. */
void
state_whole(Random *random, FuzzBuffer *segment)
{
	char	   *p = segment->data + sizeof(StateSegmentHeader);
	char	   *end = segment->data + segment->len;
	bool		lengths = random_below(random, 4) != 0;

	if (segment->len < sizeof(StateSegmentHeader))
		return;
	while (lengths && (Size) (end - p) >= sizeof(StateRun))
	{
		StateRun	run;
		char	   *begin = p;
		uint32		n;

		memcpy(&run, p, sizeof(run));
		p += sizeof(run);
		run.op %= OPERATORS;
		run.group %= STATE_GROUPS;
		for (n = 0; n < run.nrecords && (Size) (end - p) >= sizeof(StateRecord); n++)
		{
			StateRecord *record = (StateRecord *) p;

			record->size = Min(Max(record->size & ~7, sizeof(StateRecord)), end - p);
			if (n == 0 && random_below(random, 8) != 0)
				set_group(random, &run, record, record->size);
			p += record->size;
		}
		run.nrecords = n;
		run.bytes = p - begin - sizeof(run);
		memcpy(begin, &run, sizeof(run));
	}
	state_segment_finish(segment->data, segment->len, FUZZ_SIGNATURE, FUZZ_EPOCH);
}

/*-------------------------------------------------------------------------
 *
 * state.c
 *	  A segment of state into an area, as recovery does it, and what is then done
 *	  with it by those who wrote it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "segments.h"

/* where a loaded entry stands: keys are copied, readers may move entries */
typedef struct Place
{
	int			op;
	StatePane  *pane;
	int			group;
	uint16		meta;
	char	   *key;
} Place;

static volatile uint64 touched;

void
touch(const void *bytes, Size len)
{
	const unsigned char *p = bytes;
	Size		i;

	for (i = 0; i < len; i++)
		touched += p[i];
}

void
touch_datum(Datum value, bool isnull, int16 len, bool byval)
{
	if (isnull || byval)
		return;
	if (len > 0)
		touch(DatumGetPointer(value), len);
	else if (len == -1)
		touch(DatumGetPointer(value), VARSIZE_ANY(DatumGetPointer(value)));
	else
		touched += strlen(DatumGetCString(value));
}

/* ---- loading ---- */

/* FUZZ_UNCHECKED in the environment: what is this for? */
static const char *
check(const StateRun *run, const StateRecord *record, void *arg)
{
	static int	unchecked = -1;

	if (unchecked < 0)
		unchecked = getenv("FUZZ_UNCHECKED") != NULL;
	if (unchecked)
		return NULL;
	return operator_record_wrong(&fuzz_specs[run->op], run, record);
}

static void
load(const StateRun *run, const StateRecord *record, void *arg)
{
	uint32		replaced;

	state_record_load(fuzz_area, run, record, FUZZ_EPOCH, &replaced);
	if (replaced != 0 && replaced != FUZZ_EPOCH)
		fuzz_finding("an entry was written by epoch %u", replaced);
}

/* ---- reading ---- */

static Place *
find_places(int *n)
{
	int			size = 64;
	Place	   *places = palloc(sizeof(Place) * size);
	int			o,
				p,
				g;

	*n = 0;
	for (o = 0; o < OPERATORS; o++)
	{
		int			npanes;
		StatePane **panes = state_panes(fuzz_area, o, &npanes);

		for (p = 0; p < npanes; p++)
			for (g = 0; g < STATE_GROUPS; g++)
			{
				StateCursor cursor;
				StateEntry *entry;
				uint32		at = 0;

				if (panes[p]->chunk[g].nentries == 0)
					continue;
				state_cursor_open(&cursor, fuzz_area, o, &panes[p]->chunk[g]);
				while ((entry = state_entry_next(&cursor, &at)) != NULL)
				{
					Size		len = STATE_KEY_LEN(entry->key_meta);

					if (*n == size)
						places = repalloc(places, sizeof(Place) * (size *= 2));
					places[*n] = (Place) {o, panes[p], g, entry->key_meta, palloc(len)};
					memcpy(places[(*n)++].key, state_entry_key(cursor.op, entry), len);
				}
			}
	}
	return places;
}

static StateEntry *
entry_of(const Place *place, StateCursor *cursor)
{
	StateEntry *entry;

	state_cursor_open(cursor, fuzz_area, place->op, &place->pane->chunk[place->group]);
	entry = state_entry_find(cursor, state_hash(place->key, place->meta), place->key, place->meta);
	if (entry == NULL)
		fuzz_finding("an entry of operator %d is not found by its key", place->op);
	return entry;
}

static void
read_member(const OperatorSpec *spec, StateCursor *cursor, const Place *place)
{
	const AggregateSpec *agg = &spec->aggs[distinct_number(place->key)];
	uint16		meta;
	const char *group = distinct_group(place->key, &meta);

	touch(group, STATE_KEY_LEN(meta));
	(void) state_entry_find(cursor, state_hash(group, meta), group, meta);
	touch_datum(distinct_value(agg, place->key, place->meta), false, agg->distinct_key.len, agg->distinct_key.byval);
}

static void
read_group(OperatorSpec *spec, StateCursor *cursor, const Place *place, const StateEntry *entry)
{
	const char *fixed = STATE_ENTRY_FIXED(entry);
	Datum		values[MOST_COLUMNS];
	bool		isnull[MOST_COLUMNS];
	const char *p;
	int			i;

	if (spec->exact_keys)
	{
		state_key_decode(spec->keys, spec->nkeys, place->key, place->meta, values, isnull);
		for (i = 0; i < spec->nkeys; i++)
			touch_datum(values[i], isnull[i], spec->column_len[i], spec->column_byval[i]);
	}
	else
	{
		p = state_blob_bytes(cursor->data, (const StateBlob *) (fixed + spec->originals_at));
		for (i = 0; i < spec->nkeys; i++)
			p = state_datum_read(p, &values[i], &isnull[i], spec->column_len[i], spec->column_byval[i], spec->column_align[i]);
	}
	for (i = 0; i < spec->naggs; i++)
	{
		AggregateSpec *agg = &spec->aggs[i];

		if (agg->kind == AGGREGATE_TRANSITION)
			part_transition(spec, agg, fixed, cursor->data);
		else if (agg->kind == AGGREGATE_BUFFERED)
			(void) buffered_final(spec, agg, fixed, cursor->data, &isnull[0]);
		ReScanExprContext(spec->group_context);
	}
	if (spec->top != NULL)
	{
		uint32		n = top_rows(spec, fixed, cursor->data, &p);

		for (; n > 0; n--, p = top_row_behind(p))
			top_row_read(spec, p, values, isnull);
	}
	if (spec->max_span > 0)
	{
		const StateBlob *blob = (const StateBlob *) (fixed + spec->rows_at);

		part_session(spec, state_blob_bytes(cursor->data, blob), blob->len);
	}
}

/* A row of each side comes to the key: it looks for partners among all that is there. */
static void
find_partners(OperatorSpec *spec, const Place *place)
{
	static const TimestampTz never = DT_NOBEGIN;
	static const int64 pace = 0;
	OperatorRows *rows = palloc0(sizeof(OperatorRows));
	int			side;

	rows->spec = spec;
	rows->horizon = &never;
	rows->pace = &pace;
	rows->watermark = WATERMARK_NONE;
	for (side = 0; side < 2; side++)
	{
		OperatorRow *row = palloc0(offsetof(OperatorRow, values) + sizeof(Datum) * spec->ncolumns);
		int64		other = JOIN_PANE_SLICE(place->pane->id) * spec->join->step;

		row->hash = state_hash(place->key, place->meta);
		row->key = place->key;
		row->key_meta = place->meta;
		row->nulls = ~UINT64CONST(0);
		row->values[spec->at_column] = TimestampTzGetDatum(IS_VALID_TIMESTAMP(other) ? other : 0);
		row->values[spec->join->side_column] = Int32GetDatum(side);
		rows->first[place->group] = row;
		join_apply_group(rows, fuzz_area, place->group, NULL);
	}
}

static void
read_place(const Place *place, const Place *before)
{
	OperatorSpec *spec = &fuzz_specs[place->op];
	bool		member = (place->meta & STATE_KEY_MEMBER) != 0;
	StatePane  *pane = place->pane;
	StateCursor cursor;
	StateEntry *entry = entry_of(place, &cursor);

	if (!operator_gives_rows(spec))
	{
		if (member)
			read_member(spec, &cursor, place);
		else
			read_group(spec, &cursor, place, entry);
	}
	if (spec->ttl > 0 && place->pane->id == STATE_PANE_ETERNAL && !member)
		(void) state_entry_expires(cursor.op, entry, cursor.data);
	if (!operator_gives_rows(spec))
		return;
	if (OVER_IS_WAITING(place->pane->id))
	{
		if (over_waiting_end(place->pane->id) <= over_waiting_begin(place->pane->id))
			fuzz_finding("a pane of rows that wait has no length");
		/* a key group is released once, and the pane is closed then */
		if (before != NULL && before->pane == place->pane && before->group == place->group)
			return;
		pane->closed = true;
		if (spec->join == NULL)
			part_release(spec, place->pane, place->group);
		else
			join_release_group(spec, fuzz_area, &pane, 1, place->group);
	}
	else if (spec->over != NULL && !member && !spec->over->first_only)
		part_over_read(place->group, place->key, place->meta);
	else if (spec->join != NULL && !member && !(place->meta & STATE_KEY_NULLS))
		find_partners(spec, place);
}

/* rows that are given out must be rows */
static void
emit(const char *bytes, Size len)
{
	const OverRecord *record = (const OverRecord *) bytes;
	const OperatorSpec *spec = &fuzz_specs[record->op];
	Datum		values[MOST_COLUMNS];
	bool		isnull[MOST_COLUMNS];
	const char *end = (spec->join != NULL ? join_row_read : over_row_read) (spec, bytes + sizeof(OverRecord), values, isnull);

	if (record->size != len || end > bytes + len)
		fuzz_finding("a row is given out as %u bytes of %zu", record->size, len);
}

/* ---- writing ---- */

/* All entries of the area, as a checkpoint would. */
void
state_write(FuzzBuffer *out)
{
	StateSegmentHeader room = {0};
	int			o,
				p,
				g;

	buffer_append(out, (char *) &room, sizeof(room));
	for (o = 0; o < OPERATORS; o++)
	{
		int			npanes;
		StatePane **panes = state_panes_open(fuzz_area, o, &npanes);

		for (p = 0; p < npanes; p++)
			for (g = 0; g < STATE_GROUPS; g++)
			{
				StateRun	run = {o, g, 0, panes[p]->id, 0};
				StateCursor cursor;
				StateEntry *entry;
				uint32		at = 0;
				Size		begin = out->len;

				if (panes[p]->chunk[g].nentries == 0)
					continue;
				buffer_append(out, (char *) &run, sizeof(run));
				state_cursor_open(&cursor, fuzz_area, o, &panes[p]->chunk[g]);
				while ((entry = state_entry_next(&cursor, &at)) != NULL)
				{
					Size		size = state_record_size(cursor.op, entry, cursor.data);
					char	   *record = palloc0(size);

					state_record_write(cursor.op, entry, cursor.data, record, size);
					buffer_append(out, record, size);
					run.nrecords++;
					run.bytes += size;
				}
				memcpy(out->data + begin, &run, sizeof(run));
			}
	}
	state_segment_finish(out->data, out->len, FUZZ_SIGNATURE, FUZZ_EPOCH);
}

/* ---- one input ---- */

static const char *
read_segment(const char *segment, Size len, bool loads)
{
	return state_segment_read(segment, len, FUZZ_SIGNATURE, FUZZ_EPOCH, fuzz_shapes, OPERATORS, check, loads ? load : NULL, NULL);
}

static void
after_loading(void)
{
	static FuzzBuffer out;
	int			n;
	Place	   *places = find_places(&n);
	const char *wrong;
	int			i;

	for (i = 0; i < n; i++)
		read_place(&places[i], i > 0 ? &places[i - 1] : NULL);
	/* what was read, and changed by that, is written as what it is */
	out.len = 0;
	state_write(&out);
	wrong = read_segment(out.data, out.len, false);
	if (wrong != NULL)
		fuzz_finding("what was loaded is written as something else: %s", wrong);
	for (i = 0; i < n; i++)
	{
		StateCursor cursor;
		StateEntry *entry = entry_of(&places[i], &cursor);

		state_entry_remove(&cursor, entry);
	}
}

bool
state_input(const char *data, Size len)
{
	area_empty();
	over_emit = emit;
	fuzz_wrong = read_segment(data, len, true);
	if (fuzz_wrong != NULL)
		return false;
	after_loading();
	return true;
}

/*-------------------------------------------------------------------------
 *
 * join.c
 *	  Joins of two topics, whose partners are less than an interval of event time
 *	  apart.
 *
 * A row that comes looks for its partners among the rows of the other side that are
 * there, is given out with each of them, and is kept for those that come
 * later.  So of two partners the later one finds the other, whatever the order
 * and whichever task takes them: the key group is owned meanwhile.
 *
 * Rows of a side stand in slices of event time, a quarter of the interval long
 * (panes), those of a key in chunks of some rows: the first one is the entry of the key,
 * the others follow by number.  Who looks for partners looks into the slices of
 * his interval, and no others.  A slice goes as a whole when the watermark has passed
 * all that could be a partner of its rows.
 *
 * OUTER JOINS
 *	  A row knows whether it has found a partner (JOIN_MATCHED).  One that has found none
 *	  when it comes leaves a note in a pane of waiting rows (over_wait.c), under the
 *	  last instant at which a partner may come.  When the watermark has passed that
 *	  the task that answers the pane looks at the row again, and gives it out if it is
 *	  still alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "operator/join.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a checkpoint copies a chunk whole */
#define CHUNK_BYTES		256
/* where there are more panes of a side, slices are 64 or 4096 times as long, named by their last one */
#define PANES_MANY		64
#define LONG_SLICE		63
#define LONGEST_SLICE	4095

/* Panes of one side that are open, ascending, and the chunk of the group in each. */
typedef struct JoinSide
{
	StatePane **panes;
	StateCursor *cursors;
	bool	   *opened;
	int			n;
} JoinSide;

/* One key group at work. */
typedef struct JoinWork
{
	OperatorSpec *spec;
	JoinSpec   *join;
	StateArea  *area;
	int			group;
	JoinSide	side[2];
	WaitingPanes waiting;
	StringInfoData key;			/* of a chunk */
	StringInfoData row;			/* the present row as it is kept */
	StringInfoData out;
	MemoryContext row_cxt;		/* of conditions; reset after each pair */
} JoinWork;

/* ---- the group at work ---- */

static void
open_sides(JoinWork *work)
{
	int			n;
	StatePane **panes = state_panes_open(work->area, work->spec->number, &n);
	int			i;
	int			s;

	for (s = 0; s < 2; s++)
	{
		JoinSide   *side = &work->side[s];

		side->n = 0;
		side->panes = palloc(sizeof(StatePane *) * Max(n, 1));
		side->cursors = palloc(sizeof(StateCursor) * Max(n, 1));
		side->opened = palloc0(sizeof(bool) * Max(n, 1));
		for (i = 0; i < n; i++)
			if (!OVER_IS_WAITING(panes[i]->id) && JOIN_PANE_SIDE(panes[i]->id) == s)
				side->panes[side->n++] = panes[i];
	}
	pfree(panes);
}

static void
close_sides(JoinWork *work)
{
	int			s;

	for (s = 0; s < 2; s++)
	{
		pfree(work->side[s].panes);
		pfree(work->side[s].cursors);
		pfree(work->side[s].opened);
	}
}

static JoinWork *
join_begin(OperatorSpec *spec, StateArea *area, int group)
{
	JoinWork   *work = palloc0(sizeof(JoinWork));

	work->spec = spec;
	work->join = spec->join;
	work->area = area;
	work->group = group;
	initStringInfo(&work->key);
	initStringInfo(&work->row);
	initStringInfo(&work->out);
	if (spec->filter != NULL || spec->join->condition != NULL)
		work->row_cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc pair", ALLOCSET_SMALL_SIZES);
	open_sides(work);
	return work;
}

static void
join_end(JoinWork *work)
{
	close_sides(work);
	if (work->waiting.panes != NULL)
		pfree(work->waiting.panes);
	if (work->row_cxt != NULL)
		MemoryContextDelete(work->row_cxt);
	pfree(work->key.data);
	pfree(work->row.data);
	pfree(work->out.data);
	pfree(work);
}

/* The first pane of the side from this slice on. */
static int
pane_from(const JoinSide *side, int64 slice)
{
	int			low = 0;
	int			high = side->n;

	while (low < high)
	{
		int			mid = low + (high - low) / 2;

		if (JOIN_PANE_SLICE(side->panes[mid]->id) < slice)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static inline StateCursor *
cursor_of(JoinWork *work, JoinSide *side, int i)
{
	if (!side->opened[i])
	{
		state_cursor_open(&side->cursors[i], work->area, work->spec->number, &side->panes[i]->chunk[work->group]);
		side->opened[i] = true;
	}
	return &side->cursors[i];
}

static inline int64
slice_of(const JoinSpec *join, TimestampTz at)
{
	return at / join->step - (at % join->step < 0 ? 1 : 0);
}

/* The first slice that a pane of this name may hold. */
static inline int64
first_slice(int64 slice)
{
	if ((slice & LONGEST_SLICE) == LONGEST_SLICE)
		return slice & ~(int64) LONGEST_SLICE;
	return (slice & LONG_SLICE) == LONG_SLICE ? slice & ~(int64) LONG_SLICE : slice;
}

static inline TimestampTz
later(TimestampTz at, int64 us)
{
	TimestampTz result;

	if (pg_add_s64_overflow(at, us, &result))
		return us > 0 ? PG_INT64_MAX : PG_INT64_MIN;
	return result;
}

/* ---- chunks of a key ---- */

static inline StateBlob *
chunk_blob(StateEntry *entry)
{
	return (StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB);
}

/* in the entry of the key: the number of its last chunk */
static inline uint32 *
last_chunk(StateEntry *entry)
{
	return (uint32 *) (STATE_ENTRY_FIXED(entry) + sizeof(StateBlob));
}

/* The key of a chunk, not of the first one, which has that of the rows. */
static uint16
chunk_key(JoinWork *work, const char *key, uint16 key_meta, uint32 number, uint32 *hash)
{
	uint16		meta;

	resetStringInfo(&work->key);
	appendBinaryStringInfo(&work->key, key, STATE_KEY_LEN(key_meta));
	appendBinaryStringInfo(&work->key, (const char *) &number, sizeof(number));
	meta = (uint16) (work->key.len | STATE_KEY_MEMBER);
	*hash = state_hash(work->key.data, meta);
	return meta;
}

static void
rows_missing(const JoinWork *work)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("state of operator %d of the pipeline is damaged", work->spec->number),
			 errdetail("Rows of a key are not where they should be."),
			 errhint("Restore table streamproc.state_segment, or create the pipeline anew.")));
}

static StateEntry *
find_chunk(JoinWork *work, StateCursor *cursor, uint32 hash, const char *key, uint16 key_meta, uint32 number)
{
	StateEntry *entry;
	uint16		meta = key_meta;

	if (number > 0)
	{
		meta = chunk_key(work, key, key_meta, number, &hash);
		key = work->key.data;
	}
	entry = state_entry_find(cursor, hash, key, meta);
	if (entry == NULL)
		rows_missing(work);
	return entry;
}

/* ---- giving out ---- */

/* Columns of a side as they are kept; NULL: nulls. */
static void
decode_side(JoinWork *work, int side, const char *columns)
{
	OperatorSpec *spec = work->spec;
	JoinSpec   *join = work->join;
	int			to = side == 0 ? 0 : join->n[0];
	int			i;

	if (columns == NULL)
		columns = join->nulls[side].data;
	columns += join->place_size;
	for (i = join->first[side]; i < join->first[side] + join->n[side]; i++, to++)
		columns = state_datum_read(columns, &spec->slot->tts_values[to], &spec->slot->tts_isnull[to],
								   spec->column_len[i], spec->column_byval[i], spec->column_align[i]);
}

/* The pair into the slot, for conditions; the memory is row_cxt. */
static void
fill_slot(JoinWork *work, const char *left, const char *right)
{
	OperatorSpec *spec = work->spec;
	int			i;

	ExecClearTuple(spec->slot);
	decode_side(work, 0, left);
	decode_side(work, 1, right);
	for (i = work->join->n[0] + work->join->n[1]; i < spec->noutput; i++)
	{
		spec->slot->tts_values[i] = (Datum) 0;
		spec->slot->tts_isnull[i] = true;
	}
	ExecStoreVirtualTuple(spec->slot);
}

/* The pair into work->out. */
static void
write_pair(JoinWork *work, const char *left, uint32 left_len, const char *right, uint32 right_len)
{
	OverRecord	record = {0, (uint32) work->spec->number};
	StringInfo	out = &work->out;
	int			place = work->join->place_size;

	resetStringInfo(out);
	appendBinaryStringInfo(out, (const char *) &record, sizeof(record));
	/* both places in front */
	appendBinaryStringInfo(out, left, place);
	appendBinaryStringInfo(out, right, place);
	appendBinaryStringInfo(out, left + place, (int) left_len - place);
	appendBinaryStringInfo(out, right + place, (int) right_len - place);
	appendStringInfoSpaces(out, (8 - out->len % 8) % 8);
	record.size = (uint32) out->len;
	memcpy(out->data, &record, sizeof(record));
}

static void
give_out(JoinWork *work, const char *left, uint32 left_len, const char *right, uint32 right_len)
{
	write_pair(work, left, left_len, right, right_len);
	over_emit(work->out.data, work->out.len);
}

/* A row that has no partner. */
static void
give_out_alone(JoinWork *work, int side, const char *columns, uint32 len)
{
	OperatorSpec *spec = work->spec;
	StringInfo	nulls = &work->join->nulls[1 - side];

	if (spec->filter != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(work->row_cxt);
		bool		passes;

		fill_slot(work, side == 0 ? columns : NULL, side == 1 ? columns : NULL);
		passes = over_filter_passes(spec, spec->filter);
		MemoryContextSwitchTo(old);
		MemoryContextReset(work->row_cxt);
		if (!passes)
			return;
	}
	if (side == 0)
		give_out(work, columns, len, nulls->data, (uint32) nulls->len);
	else
		give_out(work, nulls->data, (uint32) nulls->len, columns, len);
}

/*
 * Does the pair in the slot fulfil the join's condition?  Where that throws the two are no
 * partners, and the pair becomes a dead letter.  State has not changed, but for what was given
 * out before: nothing has to be put back.
 */
static bool
fulfils_condition(JoinWork *work, const char *left, uint32 left_len, const char *right, uint32 right_len)
{
	OperatorSpec *spec = work->spec;
	MemoryContext old = CurrentMemoryContext;
	volatile bool result = false;
	ErrorData  *volatile edata = NULL;

	PG_TRY();
	{
		result = over_filter_passes(spec, work->join->condition);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		edata = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (edata == NULL)
		return result;
	ReScanExprContext(spec->filter_context);
	write_pair(work, left, left_len, right, right_len);
	over_refuse(work->out.data, edata);
	MemoryContextSwitchTo(old);
	return false;
}

/* Two rows that keys and time let be partners; false: they are none. */
static bool
give_out_pair(JoinWork *work, const char *left, uint32 left_len, const char *right, uint32 right_len)
{
	OperatorSpec *spec = work->spec;
	bool		partners = true;
	bool		passes = true;

	if (work->row_cxt != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(work->row_cxt);

		fill_slot(work, left, right);
		partners = work->join->condition == NULL || fulfils_condition(work, left, left_len, right, right_len);
		passes = partners && (spec->filter == NULL || over_filter_passes(spec, spec->filter));
		MemoryContextSwitchTo(old);
		MemoryContextReset(work->row_cxt);
	}
	if (passes)
		give_out(work, left, left_len, right, right_len);
	return partners;
}

const char *
join_row_read(const OperatorSpec *spec, const char *from, Datum *values, bool *isnull)
{
	const JoinSpec *join = spec->join;
	int			i;

	for (i = 0; i < spec->noutput; i++)
	{
		int			column = join->first[0] + i;

		values[i] = (Datum) 0;
		isnull[i] = true;
		if (spec->output[i].kind == OUTPUT_COLUMN)
			from = state_datum_read(from, &values[i], &isnull[i], spec->column_len[column], spec->column_byval[column], spec->column_align[column]);
	}
	return from;
}

/* ---- partners ---- */

static int
compare_shifted(const JoinBound *bound, TimestampTz left, TimestampTz right)
{
	TimestampTz from = bound->shifted == 0 ? left : right;
	TimestampTz shifted = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(from),
																  IntervalPGetDatum(unconstify(Interval *, &bound->by))));
	TimestampTz a = bound->shifted == 0 ? right : shifted;
	TimestampTz b = bound->shifted == 0 ? shifted : left;

	return a < b ? -1 : a > b;
}

/* Days are as long as the calendar of the time zone says. */
static bool
calendar_allows(const JoinSpec *join, TimestampTz left, TimestampTz right)
{
	int			low = compare_shifted(&join->low, left, right);
	int			high = compare_shifted(&join->high, left, right);

	return (join->low.strict ? low > 0 : low >= 0) && (join->high.strict ? high < 0 : high <= 0);
}

typedef struct Partners
{
	int			side;			/* of the row that looks for them */
	TimestampTz at;
	const char *columns;
	uint32		len;
	TimestampTz from;			/* theirs */
	TimestampTz to;
	bool		found;
} Partners;

static void
look_through(JoinWork *work, StateCursor *cursor, StateEntry *entry, Partners *partners)
{
	JoinSpec   *join = work->join;
	char	   *p = unconstify(char *, state_blob_bytes(cursor->data, chunk_blob(entry)));
	char	   *end = p + chunk_blob(entry)->len;

	CHECK_FOR_INTERRUPTS();
	while (p < end)
	{
		char	   *columns = p + JOIN_ROW_SIZE;
		JoinRow		row;
		bool		found;

		memcpy(&row, p, JOIN_ROW_SIZE);
		if (row.at >= partners->from && row.at <= partners->to &&
			(!join->calendar || calendar_allows(join, partners->side == 0 ? partners->at : row.at, partners->side == 0 ? row.at : partners->at)))
		{
			if (partners->side == 0)
				found = give_out_pair(work, partners->columns, partners->len, columns, JOIN_LEN(row));
			else
				found = give_out_pair(work, columns, JOIN_LEN(row), partners->columns, partners->len);
			partners->found |= found;
			if (found && join->outer[1 - partners->side] && (row.len & JOIN_MATCHED) == 0)
			{
				row.len |= JOIN_MATCHED;
				memcpy(p, &row, JOIN_ROW_SIZE);
				state_entry_mark(cursor, entry);
			}
		}
		p = columns + JOIN_LEN(row);
	}
}

static void
find_partners(JoinWork *work, const OperatorRow *row, Partners *partners)
{
	JoinSpec   *join = work->join;
	JoinSide   *other = &work->side[1 - partners->side];
	int64		last;
	int			i;

	partners->from = partners->side == 0 ? later(partners->at, join->low_us) : later(partners->at, -join->high_us);
	partners->to = partners->side == 0 ? later(partners->at, join->high_us) : later(partners->at, -join->low_us);
	if (partners->from > partners->to)
		return;
	last = slice_of(join, partners->to);
	for (i = pane_from(other, slice_of(join, partners->from)); i < other->n; i++)
	{
		int64		slice = JOIN_PANE_SLICE(other->panes[i]->id);
		StateCursor *cursor;
		StateEntry *entry;
		uint32		n;
		uint32		k;

		if (slice > (last | LONGEST_SLICE))
			break;
		if (first_slice(slice) > last)
			continue;
		cursor = cursor_of(work, other, i);
		entry = state_entry_find(cursor, row->hash, row->key, row->key_meta);
		if (entry == NULL)
			continue;
		n = *last_chunk(entry);
		look_through(work, cursor, entry, partners);
		for (k = 1; k <= n; k++)
			look_through(work, cursor, find_chunk(work, cursor, row->hash, row->key, row->key_meta, k), partners);
	}
}

/* ---- keeping ---- */

/* The number of the side's pane for the instant; the first row of a slice makes it. */
static int
pane_for_row(JoinWork *work, int s, TimestampTz at)
{
	JoinSide   *side = &work->side[s];
	int64		slice = slice_of(work->join, at);
	int			i = pane_from(side, slice);

	/* one that is there already, of whatever length */
	if (i < side->n && first_slice(JOIN_PANE_SLICE(side->panes[i]->id)) <= slice &&
		(JOIN_PANE_SLICE(side->panes[i]->id) == slice || side->n >= PANES_MANY))
		return i;
	/* a backlog of few rows would make a pane for each: then they are kept longer */
	if (side->n >= PANES_MANY)
		slice |= side->n >= 2 * PANES_MANY ? LONGEST_SLICE : LONG_SLICE;
	(void) state_pane(work->area, work->spec->number, JOIN_PANE(slice, s), true);
	close_sides(work);
	open_sides(work);
	return pane_from(side, slice);
}

static JoinNote
keep_row(JoinWork *work, const OperatorRow *row, int s, TimestampTz at)
{
	int			i = pane_for_row(work, s, at);
	StateCursor *cursor = cursor_of(work, &work->side[s], i);
	StateEntry *entry;
	bool		found;
	JoinNote	note;

	note.pane = work->side[s].panes[i]->id;
	entry = state_entry_make(cursor, row->hash, row->key, row->key_meta, &found);
	note.chunk = *last_chunk(entry);
	if (note.chunk > 0)
		entry = find_chunk(work, cursor, row->hash, row->key, row->key_meta, note.chunk);
	/* the longest keys have no room for a number: all of their rows stand together */
	if (chunk_blob(entry)->len > 0 && chunk_blob(entry)->len + work->row.len > CHUNK_BYTES &&
		STATE_KEY_LEN(row->key_meta) + sizeof(uint32) <= STATE_KEY_MAX)
	{
		uint32		hash;
		uint16		meta;

		/* the entry of the key says so */
		entry = find_chunk(work, cursor, row->hash, row->key, row->key_meta, 0);
		*last_chunk(entry) = ++note.chunk;
		state_entry_mark(cursor, entry);
		meta = chunk_key(work, row->key, row->key_meta, note.chunk, &hash);
		entry = state_entry_make(cursor, hash, work->key.data, meta, &found);
	}
	note.offset = chunk_blob(entry)->len;
	state_entry_mark(cursor, entry);
	(void) state_blob_append(cursor, entry, OVER_BLOB, work->row.data, work->row.len);
	return note;
}

/* The row may still find a partner, until then. */
static void
leave_note(JoinWork *work, const OperatorRow *row, int side, const JoinNote *note, TimestampTz until, int64 pace)
{
	/* of the two sides of a key */
	uint16		meta = row->key_meta | (side == 1 ? STATE_KEY_MEMBER : 0);
	uint32		hash = side == 1 ? state_hash(row->key, meta) : row->hash;
	StateCursor cursor;
	StateEntry *entry;
	bool		found;

	if (work->waiting.panes == NULL)
		waiting_find(&work->waiting, work->area, work->spec);
	state_cursor_open(&cursor, work->area, work->spec->number,
					  &waiting_pane_for(&work->waiting, work->area, work->spec, until, pace)->chunk[work->group]);
	entry = state_entry_make(&cursor, hash, row->key, meta, &found);
	state_entry_mark(&cursor, entry);
	(void) state_blob_append(&cursor, entry, OVER_BLOB, (const char *) note, sizeof(*note));
}

/* ---- applying ---- */

static void
encode_row(JoinWork *work, const OperatorRow *row, int side, TimestampTz at)
{
	OperatorSpec *spec = work->spec;
	JoinSpec   *join = work->join;
	JoinRow		head = {at, 0};
	RowPlace	place = {row->offset, row->part, 0};
	int			i;

	resetStringInfo(&work->row);
	appendBinaryStringInfo(&work->row, (const char *) &head, JOIN_ROW_SIZE);
	appendBinaryStringInfo(&work->row, (const char *) &place, join->place_size);
	for (i = join->first[side]; i < join->first[side] + join->n[side]; i++)
		state_datum_write(&work->row, row->values[i], (row->nulls & (UINT64CONST(1) << i)) != 0, spec->column_len[i], spec->column_byval[i]);
	head.len = (uint32) (work->row.len - JOIN_ROW_SIZE);
	memcpy(work->row.data, &head, JOIN_ROW_SIZE);
}

/* Has the watermark passed all that may come until then? */
static bool
has_passed(const OperatorSpec *spec, TimestampTz until, TimestampTz horizon, TimestampTz watermark)
{
	TimestampTz end = window_instant(&spec->scale, window_slice(&spec->scale, until) + 1);

	return end <= horizon || operator_is_late(spec, end, watermark);
}

static void
apply_row(JoinWork *work, const OperatorRow *row, TimestampTz horizon, TimestampTz watermark, int64 pace)
{
	OperatorSpec *spec = work->spec;
	JoinSpec   *join = work->join;
	Partners	partners = {0};
	JoinNote	note;
	TimestampTz until;

	partners.side = DatumGetInt32(row->values[join->side_column]);
	partners.at = DatumGetTimestampTz(row->values[spec->at_column]);
	encode_row(work, row, partners.side, partners.at);
	partners.columns = work->row.data + JOIN_ROW_SIZE;
	partners.len = (uint32) (work->row.len - JOIN_ROW_SIZE);
	/* null is equal to nothing */
	if (row->key_meta & STATE_KEY_NULLS)
	{
		if (join->outer[partners.side])
			give_out_alone(work, partners.side, partners.columns, partners.len);
		return;
	}
	find_partners(work, row, &partners);
	if (partners.found)
	{
		uint32		len = partners.len | JOIN_MATCHED;

		memcpy(work->row.data + offsetof(JoinRow, len), &len, sizeof(len));
	}
	note = keep_row(work, row, partners.side, partners.at);
	if (partners.found || !join->outer[partners.side])
		return;
	until = partners.side == 0 ? later(partners.at, join->high_us) : later(partners.at, -join->low_us);
	if (has_passed(spec, until, horizon, watermark) || join->low_us > join->high_us)
		give_out_alone(work, partners.side, partners.columns, partners.len);
	else
		leave_note(work, row, partners.side, &note, until, pace);
}

/* rows->first has what is left where the consumer has enough: NULL, nothing is. */
void
join_apply_group(OperatorRows *rows, StateArea *area, int group, const OperatorConsumer *consumer)
{
	OperatorSpec *spec = rows->spec;
	JoinWork   *work = join_begin(spec, area, group);
	TimestampTz horizon = spec->waits ? *rows->horizon : DT_NOBEGIN;
	int64		pace = spec->waits ? *rows->pace : 0;
	OperatorRow *row;
	OperatorRow *next;

	for (row = rows->first[group]; row != NULL; row = next)
	{
		next = row->next;
		CHECK_FOR_INTERRUPTS();
		/* the pairs of one key may be many: the group is given back in between */
		if (row != rows->first[group] && consumer != NULL && consumer->full())
			break;
		/* in time when its batch began; but rows that waited for it may have been given out since */
		if (spec->waits && window_instant(&spec->scale, row->slice + 1) <= horizon)
		{
			row->next = rows->overtaken;
			rows->overtaken = row;
			rows->nlate++;
			continue;
		}
		apply_row(work, row, horizon, rows->watermark, pace);
	}
	rows->first[group] = row;
	join_end(work);
}

/* ---- releasing ---- */

/* The row that the note is about, if it has not found anybody. */
static void
release_row(JoinWork *work, int s, uint32 hash, const char *key, uint16 meta, const JoinNote *note)
{
	JoinSide   *side = &work->side[s];
	int			i = pane_from(side, JOIN_PANE_SLICE(note->pane));
	StateCursor *cursor;
	StateEntry *entry;
	const char *p;
	JoinRow		row;
	Size		at;

	if (i == side->n || side->panes[i]->id != note->pane)
		rows_missing(work);
	cursor = cursor_of(work, side, i);
	entry = find_chunk(work, cursor, hash, key, meta, note->chunk);
	/* a chunk has a few rows: is it one of them? */
	for (at = 0; at < note->offset && at < chunk_blob(entry)->len; at += JOIN_ROW_SIZE + JOIN_LEN(row))
		memcpy(&row, state_blob_bytes(cursor->data, chunk_blob(entry)) + at, JOIN_ROW_SIZE);
	if (at != note->offset || at >= chunk_blob(entry)->len)
		rows_missing(work);
	p = state_blob_bytes(cursor->data, chunk_blob(entry)) + note->offset;
	memcpy(&row, p, JOIN_ROW_SIZE);
	if ((row.len & JOIN_MATCHED) == 0)
		give_out_alone(work, s, p + JOIN_ROW_SIZE, JOIN_LEN(row));
}

void
join_release_group(OperatorSpec *spec, StateArea *area, StatePane **panes, int npanes, int group)
{
	JoinWork   *work = join_begin(spec, area, group);
	StateOperator *op = &area->root->op[spec->number];
	int			i;

	for (i = 0; i < npanes; i++)
	{
		StateCursor cursor;
		StateEntry *entry;
		uint32		at = 0;

		state_cursor_open(&cursor, area, spec->number, &panes[i]->chunk[group]);
		while ((entry = state_entry_next(&cursor, &at)) != NULL)
		{
			int			side = entry->key_meta & STATE_KEY_MEMBER ? 1 : 0;
			uint16		meta = entry->key_meta & ~STATE_KEY_MEMBER;
			const char *key = state_entry_key(op, entry);
			uint32		hash = side == 1 ? state_hash(key, meta) : cursor.slots[at - 1].hash;
			const char *p = state_blob_bytes(cursor.data, chunk_blob(entry));
			const char *end = p + chunk_blob(entry)->len;

			for (; p < end; p += sizeof(JoinNote))
			{
				JoinNote	note;

				CHECK_FOR_INTERRUPTS();
				memcpy(&note, p, sizeof(note));
				release_row(work, side, hash, key, meta, &note);
			}
		}
	}
	join_end(work);
}

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
 * DISTINCT ON: a row whose key has been answered needs not wait.  Whether it has is a question to
 * memory all over the place, while those who release rows ask in the order of the keys.
 * So it is asked only where enough of the rows are found, which some are always asked to learn.
 *
 * What a task brings into a pane of a key group with one batch becomes one entry, or some
 * of a few kB: its blob has the rows one behind another (WaitingRow), as they are
 * released, with pointers as distances.  Nothing is ever added to an entry, so each row is
 * written by one checkpoint at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/over.h"
#include "time/time.h"
#include "utils/datum.h"

/* so many panes of one length */
#define WAITING_MANY	128
/* where event time goes on so fast that an epoch is longer than so many slices, they are longer */
#define PACE_SLICES		4
#define LEVEL_SHIFT		56

/* bytes of an entry's rows, where one alone has not more */
#define BLOCK_BYTES		4096
/* keys are looked for if this part of them has been answered, or else one time in so many */
#define ANSWERED_PART	4
#define ASK_TURNS		17			/* odd: key groups take turns, too */
/* rows that it is known by */
#define ASKED_MOST		16384

/* the region of a pane grows by this part of it: it goes soon; a small one is doubled */
#define WAITING_GROWTH	2
#define WAITING_SMALL	(64 * 1024 / 8)
/* a new one is as large as those before it; they are forgotten by this part with each batch */
#define EXPECTED_PART	16

/* A row on its way into a pane. */
typedef struct ComingRow
{
	const OperatorRow *row;
	TimestampTz at;
	uint32		size;			/* as a WaitingRow */
	uint16		number;			/* of the rows of its message */
	bool		bare;
} ComingRow;

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

static int64
waiting_slice(int64 pane)
{
	return pane - OVER_WAITING - ((int64) waiting_level(pane) << LEVEL_SHIFT) - LEVEL_MIDDLE;
}

bool
waiting_pane_exists(int64 pane)
{
	return pane >= OVER_WAITING && waiting_level(pane) < OVER_WAITING_LEVELS &&
		waiting_slice(pane) >= MIN_TIMESTAMP / lengths[waiting_level(pane)] - 1 &&
		waiting_slice(pane) <= END_TIMESTAMP / lengths[waiting_level(pane)];
}

TimestampTz
over_waiting_begin(int64 pane)
{
	return waiting_slice(pane) * lengths[waiting_level(pane)];
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
waiting_spec_make(OperatorSpec *spec)
{
	int			i;

	spec->refs = palloc(sizeof(int) * spec->ncolumns);
	for (i = spec->first_kept; i < spec->ncolumns; i++)
		if (!spec->column_byval[i] && i != spec->place_column)
			spec->refs[spec->nrefs++] = i;
}

static inline Size
ref_size(const OperatorSpec *spec, const OperatorRow *row, int column)
{
	return MAXALIGN(datumGetSize(row->values[column], false, spec->column_len[column]));
}

static uint32
waiting_size(const OperatorSpec *spec, const OperatorRow *row, bool bare)
{
	Size		size = MAXALIGN(STATE_KEY_LEN(row->key_meta));
	int			i;

	if (bare)
		return (uint32) (offsetof(WaitingRow, nulls) + size);
	size += offsetof(WaitingRow, values) + sizeof(Datum) * operator_row_values(spec);
	for (i = 0; i < spec->nrefs; i++)
		if (!(row->nulls & (UINT64CONST(1) << spec->refs[i])))
			size += ref_size(spec, row, spec->refs[i]);
	return (uint32) size;
}

static void
write_waiting(const OperatorSpec *spec, const ComingRow *coming, WaitingRow *to)
{
	const OperatorRow *row = coming->row;
	char	   *behind;
	Size		len = STATE_KEY_LEN(row->key_meta);
	int			i;

	to->size = coming->size;
	to->hash = row->hash;
	to->key_meta = row->key_meta;
	to->number = coming->number;
	to->bare = coming->bare;
	to->part = row->part;
	to->offset = row->offset;
	to->at = coming->at;
	if (!coming->bare)
	{
		to->nulls = row->nulls;
		memcpy(to->values, row->values, sizeof(Datum) * operator_row_values(spec));
		memset(to->values, 0, sizeof(Datum) * spec->first_kept);
	}
	behind = waiting_key(spec, to);
	/* the bytes that fill it up are saved, too */
	if (len > 0)
		memset(behind + MAXALIGN(len) - MAXIMUM_ALIGNOF, 0, MAXIMUM_ALIGNOF);
	memcpy(behind, row->key, len);
	behind += MAXALIGN(len);
	if (coming->bare)
		return;
	if (spec->place_column >= 0)
		to->values[spec->place_column] = (Datum) 0;
	for (i = 0; i < spec->nrefs; i++)
	{
		int			column = spec->refs[i];
		Size		size;

		to->values[column] = (Datum) 0;
		if (row->nulls & (UINT64CONST(1) << column))
			continue;
		len = datumGetSize(row->values[column], false, spec->column_len[column]);
		size = MAXALIGN(len);
		if (size > len)
			memset(behind + size - MAXIMUM_ALIGNOF, 0, MAXIMUM_ALIGNOF);
		memcpy(behind, DatumGetPointer(row->values[column]), len);
		to->values[column] = (Datum) (behind - (char *) to);
		behind += size;
	}
}

/* Rows of one pane, one behind another. */
static void
write_block(const OperatorSpec *spec, StateCursor *cursor, const ComingRow *rows, int64 n, Size bytes)
{
	uint32		number = cursor->chunk->nentries;
	uint16		meta = sizeof(number) | STATE_KEY_MEMBER;
	StateEntry *entry;
	WaitingBlock *block;
	char	   *to;
	bool		found;
	int64		i;

	/* numbers ascend, as nothing is taken out */
	do
		entry = state_entry_make(cursor, state_hash((const char *) &number, meta), (const char *) &number, meta, &found);
	while (found && ++number);
	block = (WaitingBlock *) state_blob_place(cursor, &entry, OVER_BLOB, bytes);
	block->nrows = (uint32) n;
	to = block->rows;
	for (i = 0; i < n; i++)
	{
		write_waiting(spec, &rows[i], (WaitingRow *) to);
		to += rows[i].size;
	}
}

/* The rows of the first one's pane, which go to the front; how many. */
static int64
keep_in_pane(OperatorRows *rows, StateArea *area, int group, ComingRow *coming, int64 n)
{
	OperatorSpec *spec = rows->spec;
	StatePane  *pane = waiting_pane_for(&rows->waiting, area, spec, coming[0].at, *rows->pace);
	TimestampTz begin = over_waiting_begin(pane->id);
	TimestampTz end = over_waiting_end(pane->id);
	ComingRow  *others = NULL;
	uint32	   *expected = &rows->waiting_units[group];
	StateCursor cursor;
	int64		mine = 1;
	int64		nothers = 0;
	int64		i;
	int64		k;

	/* both in the order in which they came */
	for (i = 1; i < n; i++)
	{
		if (coming[i].at >= begin && coming[i].at < end)
			coming[mine++] = coming[i];
		else
		{
			if (others == NULL)
				others = palloc_extended(sizeof(ComingRow) * (n - i), MCXT_ALLOC_HUGE);
			others[nothers++] = coming[i];
		}
	}
	if (others != NULL)
	{
		memcpy(coming + mine, others, sizeof(ComingRow) * nothers);
		pfree(others);
	}
	state_cursor_open(&cursor, area, spec->number, &pane->chunk[group]);
	cursor.growth = cursor.chunk->size < WAITING_SMALL ? 1 : WAITING_GROWTH;
	cursor.expected = *expected;
	for (i = 0; i < mine; i = k)
	{
		Size		bytes = offsetof(WaitingBlock, rows) + coming[i].size;

		CHECK_FOR_INTERRUPTS();
		for (k = i + 1; k < mine && bytes + coming[k].size <= BLOCK_BYTES; k++)
			bytes += coming[k].size;
		write_block(spec, &cursor, coming + i, k - i, bytes);
	}
	/* slow to forget, as panes fill side by side */
	*expected = Min(Max(cursor.chunk->used, *expected - *expected / EXPECTED_PART), STATE_EXPECTED_MOST);
	return mine;
}

/* Shall the keys of the rows of a key group be looked for? */
static bool
worth_asking(OverSpec *over)
{
	if (over->asked > ASKED_MOST)
	{
		over->asked /= 2;
		over->answered /= 2;
	}
	return over->answered >= over->asked / ANSWERED_PART || ++over->turn % ASK_TURNS == 0;
}

void
over_wait(OperatorRows *rows, StateArea *area, int group)
{
	OperatorSpec *spec = rows->spec;
	OperatorRow *row;
	OperatorRow *next;
	OperatorRow *before = NULL;
	OperatorRow *ahead = NULL;
	ComingRow  *coming;
	StatePane  *eternal = NULL;
	StateCursor keys;
	TimestampTz horizon = *rows->horizon;
	int64		size = 0;
	int64		n = 0;
	int64		i;

	for (row = rows->first[group]; row != NULL; row = row->next)
		size++;
	coming = palloc_extended(sizeof(ComingRow) * size, MCXT_ALLOC_HUGE);
	if (rows->waiting.panes == NULL)
		waiting_find(&rows->waiting, area, spec);
	if (spec->over != NULL && spec->over->first_only && worth_asking(spec->over))
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
		ComingRow  *to = &coming[n];
		StateEntry *entry;

		CHECK_FOR_INTERRUPTS();
		next = row->next;
		if (ahead != NULL)
		{
			state_prefetch_slot(&keys, ahead->hash);
			ahead = ahead->next;
		}
		to->row = row;
		to->at = DatumGetTimestampTz(row->values[spec->at_column]);
		/* it was not late when its batch began; but what comes behind it may be answered already */
		if (to->at < horizon && window_instant(&spec->scale, window_slice(&spec->scale, to->at) + 1) <= horizon)
		{
			row->next = rows->overtaken;
			rows->overtaken = row;
			rows->nlate++;
			continue;
		}
		/* its key has been answered, and that is all */
		if (eternal != NULL)
		{
			entry = state_entry_find(&keys, row->hash, row->key, row->key_meta);
			spec->over->asked++;
			if (entry != NULL && (spec->ttl == 0 || to->at < state_entry_expires(keys.op, entry, keys.data)))
			{
				spec->over->answered++;
				continue;
			}
		}
		/* of a pair the second place stands among its values */
		to->bare = spec->over != NULL && spec->over->first_only && spec->row_places <= 1 && !first_passes(spec, row);
		to->size = waiting_size(spec, row, to->bare);
		/* rows of one message that go to one key group come one after another */
		to->number = before != NULL && before->part == row->part && before->offset == row->offset ? (coming[n - 1].number + 1) & WAITING_NUMBERS : 0;
		before = row;
		n++;
	}
	for (i = 0; i < n;)
		i += keep_in_pane(rows, area, group, coming + i, n - i);
	pfree(coming);
}

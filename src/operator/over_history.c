/*-------------------------------------------------------------------------
 *
 * over_history.c
 *	  Rows that frames by time need again: when they leave.
 *
 * They stand in slices of event time (panes), in chunks of some rows of a key:
 * entries whose key is the key of the partition and a number. So a checkpoint
 * writes the chunks that rows were added to and no others, and a slice that has
 * left all frames goes as a whole.  A row that comes behind a later one stands
 * with that: it is kept longer, never shorter.
 *
 * Most keys have a row now and then, so what costs is finding places, not rows: the
 * entry of the key knows which of the last slices have rows of it (OverHead.recent),
 * chunks of keys with many rows get all of their room at once, and the
 * cursors of a key group's panes stay open while its keys are worked on.
 *
 * Who walks owns the key group; panes that are closed he does not see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/over.h"
#include "utils/memutils.h"

/* a checkpoint copies a chunk whole */
#define CHUNK_BYTES		256
#define PANES_MANY		64
/* then so many slices less one go together */
#define LONGER			63
#define LONGEST			4095
/* the region of a slice grows by this part of it: it goes as a whole */
#define HISTORY_GROWTH	4

static uint32 epochs_ended = 0;

void
history_epoch_ended(void)
{
	epochs_ended++;
}

static void
read_panes(OverKey *key)
{
	const StateOperator *op = &key->area->root->op[key->spec->number];
	StatePane **panes;
	int			n;
	int			i;

	/* what comes meanwhile is read once more */
	key->panes_changed = op->panes_changed;
	key->panes_epochs = epochs_ended;
	panes = state_panes_open(key->area, key->spec->number, &n);
	if (n > key->panes_size)
	{
		if (key->panes != NULL)
			pfree(key->panes);
		key->panes_size = n * 2;
		key->panes = MemoryContextAlloc(key->cxt, sizeof(HistoryPane) * key->panes_size);
	}
	key->npanes = 0;
	for (i = 0; i < n; i++)
		if (panes[i]->id != STATE_PANE_ETERNAL && !OVER_IS_WAITING(panes[i]->id))
		{
			key->panes[key->npanes].id = panes[i]->id;
			key->panes[key->npanes++].pane = panes[i];
		}
	pfree(panes);
	key->last_pane = 0;
	key->seen = NULL;
}

void
history_open(OverKey *key)
{
	int			i;

	if (key->panes == NULL || key->panes_epochs != epochs_ended ||
		key->panes_changed != key->area->root->op[key->spec->number].panes_changed)
		read_panes(key);
	for (i = 0; i < key->npanes; i++)
		key->panes[i].open = false;
	key->seen = NULL;
}

void
history_begin(OverKey *key, uint32 chunk_hash)
{
	key->first_hash = chunk_hash;
	key->chunk_known = false;
	key->seen = NULL;
}

/* The number of the first open pane from this one on, npanes: there is none. */
static int
pane_from(OverKey *key, int64 id)
{
	int			low = 0;
	int			high = key->npanes;

	/* mostly the last one, or the one that is walked through */
	if (key->last_pane < key->npanes && key->panes[key->last_pane].id == id)
		return key->last_pane;
	if (high > 0 && key->panes[high - 1].id <= id)
		return key->panes[high - 1].id == id ? high - 1 : high;
	while (low < high)
	{
		int			mid = low + (high - low) / 2;

		if (key->panes[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	key->last_pane = low;
	return low;
}

static inline StateCursor *
cursor_of(OverKey *key, int i)
{
	HistoryPane *pane = &key->panes[i];

	if (!pane->open)
	{
		state_cursor_open(&pane->cursor, key->area, key->spec->number, &pane->pane->chunk[key->group]);
		pane->cursor.growth = HISTORY_GROWTH;
		if (i > 0)
			pane->cursor.expected = Min(key->panes[i - 1].pane->chunk[key->group].used, STATE_EXPECTED_MOST);
		pane->open = true;
	}
	return &pane->cursor;
}

/* The key of a chunk. */
static inline void
chunk_key(OverKey *key, uint32 number)
{
	Size		len = STATE_KEY_LEN(key->key_meta);

	if (key->chunk_known && key->chunk_number == number)
		return;
	if (!key->chunk_known)
	{
		if (len + sizeof(number) > STATE_KEY_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the values of PARTITION BY are too long")));
		memcpy(key->chunk_key, key->key, len);
	}
	memcpy(key->chunk_key + len, &number, sizeof(number));
	key->chunk_known = true;
	key->chunk_number = number;
	key->chunk_meta = (uint16) ((len + sizeof(number)) | (key->key_meta & STATE_KEY_NULLS) | STATE_KEY_MEMBER);
	key->chunk_hash = number == 0 && key->first_hash != 0 ? key->first_hash : state_hash(key->chunk_key, key->chunk_meta);
}

static inline void
see(OverKey *key, int i, uint32 number, StateEntry *entry)
{
	key->seen = entry;
	key->seen_pane = i;
	key->seen_number = number;
}

static inline StateBlob *
blob_of(StateEntry *entry)
{
	return (StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB);
}

uint32
history_hash(OverKey *key, const char *bytes, uint16 key_meta)
{
	Size		len = STATE_KEY_LEN(key_meta);

	if (len + sizeof(uint32) > STATE_KEY_MAX)
		return 0;
	key->chunk_known = false;
	memcpy(key->chunk_key, bytes, len);
	memset(key->chunk_key + len, 0, sizeof(uint32));
	return state_hash(key->chunk_key, (uint16) ((len + sizeof(uint32)) | (key_meta & STATE_KEY_NULLS) | STATE_KEY_MEMBER));
}

static const StateBlob *
find_chunk(OverKey *key, int i, uint32 number)
{
	StateEntry *entry;

	if (key->seen != NULL && key->seen_pane == i && key->seen_number == number)
		return blob_of(key->seen);
	chunk_key(key, number);
	entry = state_entry_find(cursor_of(key, i), key->chunk_hash, key->chunk_key, key->chunk_meta);
	if (entry == NULL)
		return NULL;
	see(key, i, number, entry);
	return blob_of(entry);
}

/* The first row of a slice makes it. */
static int
make_pane(OverKey *key, int64 id)
{
	int			i = pane_from(key, id);

	if (i < key->npanes && key->panes[i].id == id)
		return i;
	(void) state_pane(key->area, key->spec->number, id, true);
	/* others may have come, too */
	read_panes(key);
	for (i = 0; i < key->npanes; i++)
		key->panes[i].open = false;
	i = pane_from(key, id);
	if (i == key->npanes || key->panes[i].id != id)
		elog(ERROR, "a row came for a closed pane of operator %d", key->spec->number);
	return i;
}

/* Rows of one batch mostly lie in one slice. */
static int64
slice_of(OverKey *key, TimestampTz at)
{
	if (at < key->slice_begin || at >= key->slice_end)
	{
		key->slice = window_slice(&key->over->history, at);
		key->slice_begin = window_instant(&key->over->history, key->slice);
		key->slice_end = window_instant(&key->over->history, key->slice + 1);
	}
	return key->slice;
}

/* From here on panes are open: the launcher closes those before (history_bound() and keyed_close_loaded() in worker/keyed_fire.c). */
static TimestampTz
open_from(const OverKey *key)
{
	if (key->watermark == DT_NOBEGIN || key->watermark == DT_NOEND)
		return key->watermark;
	return Max(key->watermark - key->spec->allowed_lateness - OVER_WAITING_SLICE, key->spec->freed_until);
}

/*
 * A key begins anew: in panes that are open rows of its life before may stand.  In the order of event
 * time they are out of every frame, as a ttl is longer than frames are; where the watermark forgets, too,
 * a row within allowed_lateness would find them.
 */
void
history_forget(OverKey *key)
{
	int			i;
	uint32		number;

	for (i = 0; i < key->npanes; i++)
	{
		for (number = 0; find_chunk(key, i, number) != NULL; number++)
		{
			StateCursor *cursor = cursor_of(key, i);

			if (blob_of(key->seen)->len == 0)
				continue;
			CHECK_FOR_INTERRUPTS();
			state_entry_mark(cursor, key->seen);
			see(key, i, number, state_blob_set(cursor, key->seen, OVER_BLOB, "", 0));
		}
	}
}

bool
history_append(OverKey *key, TimestampTz at, const char *bytes, uint32 len)
{
	OverHead   *head = key->head;
	int64		id = slice_of(key, at);
	StateCursor *cursor;
	StateEntry *entry;
	bool		many = false;	/* are its rows frequent? */
	/* may there be rows of the key from before it was forgotten? see history_forget() */
	bool		before = head->rows == 0 && key->spec->ttl > 0 && !key->over->arrival;
	bool		found;
	int			i;

	/* a backlog of few rows would make a pane for each: then they are kept somewhat longer */
	if (key->npanes >= PANES_MANY)
		id |= key->npanes >= 2 * PANES_MANY ? LONGEST : LONGER;
	if (head->rows > 0 && id < head->pane)
		id = head->pane;
	/* they may stand in a longer pane */
	for (i = key->npanes - 1; before && i >= 0 && key->panes[i].id > id; i--)
		if (find_chunk(key, i, 0) != NULL)
			id = key->panes[i].id;
	/* its slice may be closed: who comes so late is not remembered, and running states that count it are made anew for the next one */
	if (over_pane_end(key->spec, id) <= open_from(key))
	{
		for (i = 0; i < key->over->ntails; i++)
			key->tails[i].running = 0;
		/* none of its rows stands before */
		if (head->rows == 0)
		{
			head->pane = id;
			head->chunk = 0;
			head->recent = 1;
		}
		return false;
	}
	if (head->rows == 0 || id > head->pane)
	{
		many = head->rows > 0 && head->chunk > 0;
		head->recent = head->rows > 0 && id - head->pane < OVER_RECENT ? (uint16) (head->recent << (id - head->pane)) | 1 : 1;
		head->pane = id;
		head->chunk = 0;
	}
	i = make_pane(key, head->pane);
	/* or in this one */
	while (before && find_chunk(key, i, head->chunk + 1) != NULL)
		head->chunk++;
	cursor = cursor_of(key, i);
	if (key->seen != NULL && key->seen_pane == i && key->seen_number == head->chunk)
	{
		entry = key->seen;
		found = true;
	}
	else
	{
		chunk_key(key, head->chunk);
		entry = state_entry_make(cursor, key->chunk_hash, key->chunk_key, key->chunk_meta, &found);
	}
	if (found && blob_of(entry)->len + len > CHUNK_BYTES)
	{
		head->chunk++;
		many = true;
		chunk_key(key, head->chunk);
		entry = state_entry_make(cursor, key->chunk_hash, key->chunk_key, key->chunk_meta, &found);
	}
	state_entry_mark(cursor, entry);
	if (!found && many)
		entry = state_blob_reserve(cursor, entry, OVER_BLOB, CHUNK_BYTES);
	entry = state_blob_append(cursor, entry, OVER_BLOB, bytes, len);
	see(key, i, head->chunk, entry);
	return true;
}

bool
history_lost(OverKey *key, const OverTail *at)
{
	int			i = pane_from(key, at->pane);

	return i == key->npanes || key->panes[i].id != at->pane;
}

void
history_check_tails(OverKey *key)
{
	int			t;

	for (t = 0; t < key->over->ntails; t++)
	{
		const OverTail *tail = &key->tails[t];
		int			i = pane_from(key, tail->pane);
		const StateBlob *blob;
		OverBytes	row;
		Size		at;

		/* what has gone is passed over */
		if (tail->offset == 0 || i == key->npanes || key->panes[i].id != tail->pane ||
			(blob = find_chunk(key, i, tail->chunk)) == NULL || tail->offset >= blob->len)
			continue;
		for (at = 0; at < tail->offset; at += OVER_BYTES_SIZE + row.len)
			memcpy(&row, state_blob_bytes(key->panes[i].cursor.data, blob) + at, OVER_BYTES_SIZE);
		if (at != tail->offset)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("state of operator %d of the pipeline is damaged", key->spec->number),
					 errdetail("A frame of a window function begins within a row."),
					 errhint("Restore table streamproc.state_segment, or create the pipeline anew.")));
	}
}

/* The slice behind this one in which the key may have rows; it has some in that of head. */
static int64
slice_behind(const OverHead *head, int64 pane)
{
	int64		before = head->pane - pane;

	if (before > OVER_RECENT)
		return pane + 1;
	do
		before--;
	while (before > 0 && (head->recent & (1 << before)) == 0);
	return head->pane - before;
}

/* No row in the slice, or behind it, is older, but for those that came out of order. */
static TimestampTz
slice_begin(const OverKey *key, int64 pane)
{
	/* perhaps a longer one, see history_append() */
	if ((pane & LONGEST) == LONGEST)
		pane &= ~(int64) LONGEST;
	else if ((pane & LONGER) == LONGER)
		pane &= ~(int64) LONGER;
	/* it may be before the first instant that there is */
	return pane * key->over->history.step;
}

/*
 * Only to a slice that is known to hold rows: those behind it are not older.  Of one that holds none
 * nothing follows, as rows of slices before it may stand in a longer one behind it.
 */
bool
history_skip(OverKey *key, OverTail *at, TimestampTz low)
{
	const StateBlob *blob;
	int64		behind;
	TimestampTz begin;
	int			i;

	if (key->seen == NULL || at->pane >= key->head->pane || key->head->pane - at->pane > OVER_RECENT || key->over->row_most == 0 ||
		key->panes[key->seen_pane].id != at->pane || key->seen_number != at->chunk)
		return false;
	blob = blob_of(key->seen);
	if (at->offset < blob->len || blob->len + key->over->row_most > CHUNK_BYTES)
		return false;
	behind = slice_behind(key->head, at->pane);
	i = pane_from(key, behind);
	if (i == key->npanes || key->panes[i].id != behind || (begin = slice_begin(key, behind)) < low)
		return false;
	at->pane = behind;
	at->chunk = at->offset = 0;
	at->at = begin;
	return true;
}

static void
prefetch_chunk(OverKey *key, int64 pane, TimestampTz before, uint32 chunk_hash, bool near)
{
	int			i = pane_from(key, pane);
	const StateCursor *cursor;
	const StateEntry *entry;

	if (i == key->npanes || key->panes[i].id != pane || slice_begin(key, pane) >= before)
		return;
	cursor = cursor_of(key, i);
	if (!near)
		state_prefetch_slot(cursor, chunk_hash);
	else if ((entry = state_peek_entry(cursor, chunk_hash)) != NULL)
	{
		__builtin_prefetch(entry);
		__builtin_prefetch((const char *) entry + 64);
	}
}

/*
 * Keys with many rows have them together, and the next row of the key finds them near; it is
 * those with few rows whose chunks lie anywhere.  What is not as it is mostly is left to itself.
 */
void
history_prefetch(OverKey *key, uint32 hash, uint32 chunk_hash, TimestampTz at, bool near)
{
	const OverSpec *over = key->over;
	const StateEntry *entry = state_peek_entry(&key->keys, hash);
	const StateBlob *blob;
	const char *bytes;
	OverHead	head;
	int			f;

	if (!near && key->npanes > 0)
		state_prefetch_slot(cursor_of(key, key->npanes - 1), chunk_hash);
	if (entry == NULL)
		return;
	blob = (const StateBlob *) ((const char *) entry + sizeof(StateEntry) + OVER_BLOB);
	if (blob->len < over->rows_at)
		return;
	bytes = state_blob_bytes(key->keys.data, blob);
	memcpy(&head, bytes, sizeof(head));
	for (f = 0; f < over->nframes; f++)
	{
		OverTail	tail;
		TimestampTz low = at - over->frames[f].us;

		if (!over->frames[f].kept || over->frames[f].us < 0)
			continue;
		memcpy(&tail, bytes + over->tails_at + sizeof(OverTail) * over->frames[f].tail, sizeof(tail));
		if (!tail.running || tail.at >= low || tail.chunk > 0 || tail.pane > head.pane)
			continue;
		/* the row that leaves, and the next one where it may leave, too */
		prefetch_chunk(key, tail.pane, DT_NOEND, chunk_hash, near);
		if (tail.pane < head.pane)
			prefetch_chunk(key, slice_behind(&head, tail.pane), low, chunk_hash, near);
	}
}

bool
history_next(OverKey *key, OverTail *at, OverBytes *row, const char **columns)
{
	for (;;)
	{
		int			i = pane_from(key, at->pane);
		const StateBlob *blob;
		const char *bytes;
		bool		last;

		CHECK_FOR_INTERRUPTS();
		if (i == key->npanes || key->panes[i].id > key->head->pane)
			return false;
		if (key->panes[i].id != at->pane)
		{
			at->pane = key->panes[i].id;
			at->chunk = at->offset = 0;
		}
		key->last_pane = i;
		/* the last slice and chunk that there are: the next row may still come there */
		last = at->pane == key->head->pane;
		blob = find_chunk(key, i, at->chunk);
		if (blob == NULL || (at->offset >= blob->len && !last && key->over->row_most > 0 &&
							 blob->len + key->over->row_most <= CHUNK_BYTES))
		{
			/* behind the last chunk of the slice */
			if (last)
				return false;
			at->pane = slice_behind(key->head, at->pane);
			at->chunk = at->offset = 0;
			continue;
		}
		if (at->offset >= blob->len)
		{
			/* the next one may still be made */
			if (last && at->chunk == key->head->chunk)
				return false;
			at->chunk++;
			at->offset = 0;
			continue;
		}
		bytes = state_blob_bytes(key->panes[i].cursor.data, blob) + at->offset;
		memcpy(row, bytes, OVER_BYTES_SIZE);
		*columns = bytes + OVER_BYTES_SIZE;
		at->offset += OVER_BYTES_SIZE + row->len;
		return true;
	}
}

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
 * Who walks owns the key group; panes that are closed he does not see.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/over.h"

/* a checkpoint copies a chunk whole */
#define CHUNK_BYTES		256
#define PANES_MANY		64

void
history_open(OverKey *key)
{
	int			n;
	StatePane **panes = state_panes_open(key->area, key->spec->number, &n);
	int			i;

	key->panes = panes;
	key->npanes = 0;
	for (i = 0; i < n; i++)
		if (panes[i]->id != STATE_PANE_ETERNAL && !OVER_IS_WAITING(panes[i]->id))
			panes[key->npanes++] = panes[i];
	key->cursor_open = false;
}

/* The first open pane from this one on, NULL: there is none. */
static StatePane *
pane_from(const OverKey *key, int64 id)
{
	int			low = 0;
	int			high = key->npanes;

	/* mostly the last one, or the one that is walked through */
	if (key->cursor_open && key->cursor_pane->id == id)
		return key->cursor_pane;
	while (low < high)
	{
		int			mid = low + (high - low) / 2;

		if (key->panes[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < key->npanes ? key->panes[low] : NULL;
}

static void
look_at(OverKey *key, StatePane *pane)
{
	if (key->cursor_open && key->cursor_pane == pane)
		return;
	state_cursor_open(&key->cursor, key->area, key->spec->number, &pane->chunk[key->group]);
	key->cursor_pane = pane;
	key->cursor_open = true;
}

/* The key of a chunk, its hash. */
static uint16
chunk_key(OverKey *key, uint32 number, uint32 *hash)
{
	uint16		meta;

	resetStringInfo(&key->bytes);
	appendBinaryStringInfo(&key->bytes, key->key, STATE_KEY_LEN(key->key_meta));
	appendBinaryStringInfo(&key->bytes, (const char *) &number, sizeof(number));
	if (key->bytes.len > STATE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the values of PARTITION BY are too long")));
	meta = (uint16) (key->bytes.len | (key->key_meta & STATE_KEY_NULLS) | STATE_KEY_MEMBER);
	*hash = state_hash(key->bytes.data, meta);
	return meta;
}

static const StateBlob *
find_chunk(OverKey *key, StatePane *pane, uint32 number)
{
	uint32		hash;
	uint16		meta = chunk_key(key, number, &hash);
	StateEntry *entry;

	look_at(key, pane);
	entry = state_entry_find(&key->cursor, hash, key->bytes.data, meta);
	return entry != NULL ? (const StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB) : NULL;
}

/* The first row of a slice makes it. */
static StatePane *
make_pane(OverKey *key, int64 id)
{
	StatePane  *pane = pane_from(key, id);

	if (pane != NULL && pane->id == id)
		return pane;
	pane = state_pane(key->area, key->spec->number, id, true);
	history_open(key);
	return pane;
}

void
history_append(OverKey *key, TimestampTz at, const char *bytes, uint32 len)
{
	OverHead   *head = &key->head;
	int64		id = window_slice(&key->over->history, at);
	OverBytes	row = {at, len};
	StatePane  *pane;
	StateEntry *entry;
	uint32		hash;
	uint16		meta;
	bool		found;
	int			i;

	/* a backlog of few rows would make a pane for each: then they are kept somewhat longer */
	if (key->npanes >= PANES_MANY)
		id |= key->npanes >= 2 * PANES_MANY ? 4095 : 63;
	if (head->rows > 0 && id < head->pane)
		id = head->pane;
	/* rows of the key from before it was forgotten may stand in a longer pane */
	for (i = key->npanes - 1; head->rows == 0 && key->spec->ttl > 0 && i >= 0 && key->panes[i]->id > id; i--)
		if (find_chunk(key, key->panes[i], 0) != NULL)
			id = key->panes[i]->id;
	/* its slice may be closed: who comes so late is not remembered */
	if (over_pane_end(key->spec, id) <= key->watermark)
		return;
	if (head->rows == 0 || id > head->pane)
	{
		head->pane = id;
		head->chunk = 0;
	}
	pane = make_pane(key, head->pane);
	/* or in this one */
	while (head->rows == 0 && key->spec->ttl > 0 && find_chunk(key, pane, head->chunk + 1) != NULL)
		head->chunk++;
	look_at(key, pane);
	meta = chunk_key(key, head->chunk, &hash);
	entry = state_entry_make(&key->cursor, hash, key->bytes.data, meta, &found);
	if (found && ((StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB))->len + OVER_BYTES_SIZE + len > CHUNK_BYTES)
	{
		head->chunk++;
		meta = chunk_key(key, head->chunk, &hash);
		entry = state_entry_make(&key->cursor, hash, key->bytes.data, meta, &found);
	}
	state_entry_mark(&key->cursor, entry);
	resetStringInfo(&key->bytes);
	appendBinaryStringInfo(&key->bytes, (const char *) &row, OVER_BYTES_SIZE);
	appendBinaryStringInfo(&key->bytes, bytes, (int) len);
	(void) state_blob_append(&key->cursor, entry, OVER_BLOB, key->bytes.data, key->bytes.len);
}

bool
history_lost(const OverKey *key, const OverTail *at)
{
	StatePane  *pane = pane_from(key, at->pane);

	return pane == NULL || pane->id != at->pane;
}

bool
history_next(OverKey *key, OverTail *at, OverBytes *row, const char **columns)
{
	for (;;)
	{
		StatePane  *pane = pane_from(key, at->pane);
		const StateBlob *blob;
		const char *bytes;

		CHECK_FOR_INTERRUPTS();
		if (pane == NULL || pane->id > key->head.pane)
			return false;
		if (pane->id != at->pane)
		{
			at->pane = pane->id;
			at->chunk = at->offset = 0;
		}
		blob = find_chunk(key, pane, at->chunk);
		if (blob == NULL)
		{
			/* behind the last chunk of the slice */
			if (pane->id == key->head.pane)
				return false;
			at->pane++;
			at->chunk = at->offset = 0;
			continue;
		}
		if (at->offset >= blob->len)
		{
			/* the next one may still be made */
			if (pane->id == key->head.pane && at->chunk == key->head.chunk)
				return false;
			at->chunk++;
			at->offset = 0;
			continue;
		}
		bytes = state_blob_bytes(key->cursor.data, blob) + at->offset;
		memcpy(row, bytes, OVER_BYTES_SIZE);
		*columns = bytes + OVER_BYTES_SIZE;
		at->offset += OVER_BYTES_SIZE + row->len;
		return true;
	}
}

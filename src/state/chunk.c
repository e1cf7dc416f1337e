/*-------------------------------------------------------------------------
 *
 * chunk.c
 *	  One chunk: a table of slots (hash, offset) over a region of bytes.
 *
 *	  region:	8 bytes that nobody uses (offset 0 is "none"), then entries
 *				and the blobs of entries, in the order in which they were made
 *	  entry:	StateEntry, fixed part, key, filled up to 8 bytes
 *	  blob:		uint32 capacity, then so many bytes, filled up to 8
 *
 * To walk over the entries, blobs must be told from them: each thing in the
 * region is reached from a slot, so a walk goes over the slots.
 *
 * The region grows by an eighth, with at least 256 bytes: at a million keys what is
 * allocated but not used is seen in the memory per key, and copying an entry
 * eight times in its life is cheap; where it is freed soon, by more (StateCursor.growth).  Blobs that were given up are thrown out
 * when the region grows.  Entries go alone only where they are put back
 * (operator/careful.c) or too old (state_ttl): then the chunk is trimmed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "state/state.h"
#include "utils/memutils.h"

#define FIRST_SLOTS		8
/* full to three quarters */
#define SLOTS_FULL(n)	((n) / 4 * 3)
/* from so many on they grow by a quarter: of many keys each byte counts, and slots keep their order when they grow */
#define SLOTS_MANY		1024
#define SLOTS_MORE(n)	((n) == 0 ? FIRST_SLOTS : (n) < SLOTS_MANY ? (n) * 2 : ((n) + (n) / 4) & ~(uint32) 3)
/*
 * Who makes entries in the order of another table's slots finds them all at the front of this one, as
 * long as it has fewer slots than it will have.  An entry so far behind its place says so (by chance it
 * is a few dozen, at three quarters); a table is not made emptier than this for it.
 */
#define CROWDED_SLOTS	128
#define CROWDED_LEAST(n)	((n) / 16)
#define REGION_STEP		32		/* units */
#define REGION_GROWTH	8		/* this part of it */
#define REGION_MAX		PG_UINT32_MAX

uint32
state_hash(const char *key, uint16 meta)
{
	uint64		h = XXH3_64bits_withSeed(key, STATE_KEY_LEN(meta), meta & ~STATE_KEY_MAX);

	return (uint32) (h ^ (h >> 32));
}

void
state_cursor_open(StateCursor *cursor, StateArea *area, int op, StateChunk *chunk)
{
	cursor->area = area;
	cursor->growth = REGION_GROWTH;
	cursor->expected = 0;
	cursor->op = &area->root->op[op];
	cursor->chunk = chunk;
	cursor->slots = chunk->nslots > 0 ? dsa_get_address(area->dsa, chunk->slots) : NULL;
	cursor->data = chunk->size > 0 ? dsa_get_address(area->dsa, chunk->data) : NULL;
	cursor->dirty = chunk->dirty_size > 0 ? dsa_get_address(area->dsa, chunk->dirty) : NULL;
}

static inline uint32
slot_behind(uint32 at, uint32 nslots)
{
	return at + 1 == nslots ? 0 : at + 1;
}

static inline StateEntry *
entry_at(const char *data, uint32 offset)
{
	return (StateEntry *) (data + (Size) offset * 8);
}

static inline uint32
entry_units(const StateOperator *op, uint16 meta)
{
	return (sizeof(StateEntry) + state_fixed_size(op, meta) + STATE_KEY_LEN(meta) + 7) / 8;
}

/* ---- the region ---- */

/* Capacity of a blob's place in units, its header included. */
static inline uint32
blob_units(const char *data, uint32 offset)
{
	return (uint32) ((sizeof(uint32) + *(uint32 *) (data + (Size) offset * 8) + 7) / 8);
}

/* Copies what is alive into a new region; offsets in slots, entries and the list of changes follow. */
static void
compact_into(StateCursor *cursor, char *to)
{
	StateChunk *chunk = cursor->chunk;
	uint32		used = 1;
	uint32		i;
	uint32		d = 0;
	int			b;

	for (i = 0; i < chunk->nslots; i++)
	{
		StateEntry *from;
		StateEntry *entry;
		uint32		units;

		if (cursor->slots[i].offset == 0)
			continue;
		from = entry_at(cursor->data, cursor->slots[i].offset);
		units = entry_units(cursor->op, from->key_meta);
		entry = entry_at(to, used);
		memcpy(entry, from, (Size) units * 8);
		cursor->slots[i].offset = used;
		/* the list is made anew, in another order */
		if (entry->dirty)
			cursor->dirty[d++] = used;
		used += units;
		for (b = 0; b < (int) state_nblobs(cursor->op, entry->key_meta); b++)
		{
			StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + cursor->op->blob[b]);

			if (blob->offset == 0)
				continue;
			units = blob_units(cursor->data, blob->offset);
			memcpy(to + (Size) used * 8, cursor->data + (Size) blob->offset * 8, (Size) units * 8);
			blob->offset = used;
			used += units;
		}
	}
	Assert(d == chunk->ndirty);
	chunk->used = used;
	chunk->garbage = 0;
}

/* For what is worth having, and no reason to fail. */
static bool
has_room(const StateCursor *cursor, uint64 size)
{
	return pg_atomic_read_u64(&cursor->area->root->bytes) + size <= cursor->area->root->limit;
}

/* Room for so many units more; entries may move. */
static void
make_room(StateCursor *cursor, uint32 units)
{
	StateChunk *chunk = cursor->chunk;
	uint64		live;
	uint64		size;
	dsa_pointer fresh;
	char	   *to;
	bool		compact;

	if (chunk->size > 0 && units <= chunk->size - chunk->used)
		return;
	/* what is freed soon is not worth being sorted out */
	compact = chunk->garbage > (cursor->growth < REGION_GROWTH ? chunk->used / 4 : 0);
	live = chunk->size > 0 ? chunk->used - (compact ? chunk->garbage : 0) : 1;
	size = live + units;
	size += Max(size / cursor->growth, REGION_STEP);
	if (chunk->size == 0 && size < cursor->expected && has_room(cursor, (uint64) cursor->expected * 8))
		size = cursor->expected;
	if (size > REGION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("state of a key group is too large")));
	fresh = state_alloc(cursor->area, size * 8);
	to = dsa_get_address(cursor->area->dsa, fresh);
	if (chunk->size == 0)
		chunk->used = 1;
	else if (!compact)
		memcpy(to, cursor->data, (Size) chunk->used * 8);
	else
		compact_into(cursor, to);
	state_free(cursor->area, chunk->data, (Size) chunk->size * 8);
	chunk->data = fresh;
	chunk->size = (uint32) size;
	cursor->data = to;
}

/*
 * Slots stand in the order of their hashes, each at its place or as near behind it as
 * there is room.  So who looks for a key that is not there learns it half way, and
 * tables grow in one pass from front to back.  The last ones may have gone round to the
 * front: they come before those whose place is there.
 */

/* Does the slot at "at" come behind one of this hash, whose place is "home"? */
static inline bool
stands_behind(const StateSlot *slots, uint32 n, uint32 at, uint32 hash, uint32 home)
{
	if (at < home)
		return state_slot_order(slots[at].hash) > state_slot_order(hash) || state_slot_of(slots[at].hash, n) <= at;
	return state_slot_order(slots[at].hash) > state_slot_order(hash) && state_slot_of(slots[at].hash, n) <= at;
}

/* One more, at "at": those from there on move up to the next free one. */
static void
insert_slot(StateSlot *slots, uint32 n, uint32 at, StateSlot slot)
{
	while (slots[at].offset != 0)
	{
		StateSlot	other = slots[at];

		slots[at] = slot;
		slot = other;
		at = slot_behind(at, n);
	}
	slots[at] = slot;
}

/* So many slots. */
static void
resize_slots(StateCursor *cursor, uint32 n)
{
	StateChunk *chunk = cursor->chunk;
	const StateSlot *from = cursor->slots;
	dsa_pointer fresh = state_alloc0(cursor->area, sizeof(StateSlot) * n);
	StateSlot  *to = dsa_get_address(cursor->area->dsa, fresh);
	uint32		round = 0;
	uint32		next = 0;
	uint32		i;
	uint32		k;

	while (round < chunk->nslots && from[round].offset != 0 && state_slot_of(from[round].hash, chunk->nslots) > round)
		round++;
	for (k = 0, i = round; k < chunk->nslots; k++, i = slot_behind(i, chunk->nslots))
	{
		StateSlot	slot = from[i];
		uint32		home = state_slot_of(slot.hash, n);
		uint32		at = Max(home, next);

		if (likely(at < n))
		{
			/* a free one changes nothing there: that is quicker than to guess which are free */
			slot.hash = slot.offset != 0 ? slot.hash : 0;
			to[at] = slot;
			next = slot.offset != 0 ? at + 1 : next;
		}
		else if (slot.offset != 0)
		{
			/* round to the front */
			for (at = 0; to[at].offset != 0 && !stands_behind(to, n, at, slot.hash, home); at++)
				;
			insert_slot(to, n, at, slot);
		}
	}
	state_free(cursor->area, chunk->slots, sizeof(StateSlot) * chunk->nslots);
	chunk->slots = fresh;
	chunk->nslots = n;
	cursor->slots = to;
}

/* ---- entries ---- */

static inline bool
same_key(const StateOperator *op, const StateEntry *entry, const char *key, uint16 meta)
{
	return entry->key_meta == meta && memcmp(state_entry_key(op, entry), key, STATE_KEY_LEN(meta)) == 0;
}

/* The entry of the key, NULL: there is none, and its slot belongs at *at. */
static inline StateEntry *
look_for(const StateCursor *cursor, uint32 hash, const char *key, uint16 meta, uint32 *at)
{
	const StateSlot *slots = cursor->slots;
	uint32		n = cursor->chunk->nslots;
	uint32		home = state_slot_of(hash, n);
	uint32		i;

	*at = home;
	if (n == 0)
		return NULL;
	for (i = home; slots[i].offset != 0; i = slot_behind(i, n))
	{
		StateEntry *entry;

		if (slots[i].hash != hash)
		{
			if (stands_behind(slots, n, i, hash, home))
				break;
			continue;
		}
		entry = entry_at(cursor->data, slots[i].offset);
		if (likely(same_key(cursor->op, entry, key, meta)))
			return entry;
	}
	*at = i;
	return NULL;
}

StateEntry *
state_entry_find(StateCursor *cursor, uint32 hash, const char *key, uint16 meta)
{
	uint32		at;

	return look_for(cursor, hash, key, meta, &at);
}

/* Is it because the table has too few slots that an entry with this hash would stand at "at"? */
static inline bool
is_crowded(const StateCursor *cursor, uint32 hash, uint32 at)
{
	const StateChunk *chunk = cursor->chunk;
	uint32		home = state_slot_of(hash, chunk->nslots);

	return (at >= home ? at - home : at + chunk->nslots - home) > CROWDED_SLOTS &&
		chunk->nentries > CROWDED_LEAST(chunk->nslots) && has_room(cursor, sizeof(StateSlot) * (uint64) SLOTS_MORE(chunk->nslots));
}

StateEntry *
state_entry_make(StateCursor *cursor, uint32 hash, const char *key, uint16 meta, bool *found)
{
	StateChunk *chunk = cursor->chunk;
	uint32		at;
	StateEntry *entry = look_for(cursor, hash, key, meta, &at);
	uint32		units;

	*found = entry != NULL;
	if (entry != NULL)
		return entry;

	while (chunk->nentries >= SLOTS_FULL(chunk->nslots) || unlikely(is_crowded(cursor, hash, at)))
	{
		resize_slots(cursor, SLOTS_MORE(chunk->nslots));
		(void) look_for(cursor, hash, key, meta, &at);
	}
	units = entry_units(cursor->op, meta);
	make_room(cursor, units);
	entry = entry_at(cursor->data, chunk->used);
	memset(entry, 0, sizeof(StateEntry) + state_fixed_size(cursor->op, meta));
	entry->key_meta = meta;
	memcpy(state_entry_key(cursor->op, entry), key, STATE_KEY_LEN(meta));
	insert_slot(cursor->slots, chunk->nslots, at, (StateSlot) {hash, chunk->used});
	chunk->used += units;
	chunk->nentries++;
	state_entry_mark_slow(cursor, entry);
	return entry;
}

void
state_entry_mark_slow(StateCursor *cursor, StateEntry *entry)
{
	StateChunk *chunk = cursor->chunk;

	if (chunk->ndirty == chunk->dirty_size)
	{
		uint32		size = Max(8, chunk->dirty_size + chunk->dirty_size / 2);
		dsa_pointer fresh = state_alloc(cursor->area, sizeof(uint32) * size);
		uint32	   *to = dsa_get_address(cursor->area->dsa, fresh);

		if (chunk->ndirty > 0)
			memcpy(to, cursor->dirty, sizeof(uint32) * chunk->ndirty);
		state_free(cursor->area, chunk->dirty, sizeof(uint32) * chunk->dirty_size);
		chunk->dirty = fresh;
		chunk->dirty_size = size;
		cursor->dirty = to;
	}
	entry->dirty = STATE_DIRTY_CHANGED;
	cursor->dirty[chunk->ndirty++] = (uint32) (((char *) entry - cursor->data) / 8);
}

/*
 * The slots behind the freed one move up where their way leads over it.  The
 * entry's bytes are garbage that compacting throws out, its blobs too.
 */
void
state_entry_remove(StateCursor *cursor, StateEntry *entry)
{
	StateChunk *chunk = cursor->chunk;
	uint32		n = chunk->nslots;
	uint32		offset = (uint32) (((char *) entry - cursor->data) / 8);
	uint32		hole = state_slot_of(state_hash(state_entry_key(cursor->op, entry), entry->key_meta), n);
	uint32		at;
	uint32		b;
	uint32		i;

	while (cursor->slots[hole].offset != offset)
		hole = slot_behind(hole, n);
	for (at = slot_behind(hole, n); cursor->slots[at].offset != 0; at = slot_behind(at, n))
	{
		uint32		home = state_slot_of(cursor->slots[at].hash, n);

		if ((at >= home ? at - home : at + n - home) < (at >= hole ? at - hole : at + n - hole))
			continue;			/* its way begins behind the hole */
		cursor->slots[hole] = cursor->slots[at];
		hole = at;
	}
	cursor->slots[hole].offset = 0;
	chunk->nentries--;
	chunk->garbage += entry_units(cursor->op, entry->key_meta);
	for (b = 0; b < state_nblobs(cursor->op, entry->key_meta); b++)
	{
		StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + cursor->op->blob[b]);

		if (blob->offset != 0)
			chunk->garbage += blob_units(cursor->data, blob->offset);
	}
	for (i = 0; entry->dirty && i < chunk->ndirty; i++)
		if (cursor->dirty[i] == offset)
		{
			cursor->dirty[i] = cursor->dirty[--chunk->ndirty];
			break;
		}
}

/*
 * After entries were taken out: nothing is kept for none, and not much more than
 * is needed for some.
 */
void
state_chunk_trim(StateCursor *cursor)
{
	StateChunk *chunk = cursor->chunk;
	uint64		size;
	uint32		nslots;
	dsa_pointer fresh;
	char	   *to;

	Assert(chunk->ndirty == 0);
	if (chunk->nentries == 0)
	{
		state_free(cursor->area, chunk->slots, sizeof(StateSlot) * chunk->nslots);
		state_free(cursor->area, chunk->data, (Size) chunk->size * 8);
		state_free(cursor->area, chunk->dirty, sizeof(uint32) * chunk->dirty_size);
		memset(chunk, 0, sizeof(*chunk));
		return;
	}
	for (nslots = chunk->nslots; nslots > FIRST_SLOTS && chunk->nentries < SLOTS_FULL(nslots / 2) / 2; nslots = (nslots / 2) & ~(uint32) 3)
		;
	if (nslots < chunk->nslots && has_room(cursor, sizeof(StateSlot) * nslots))
		resize_slots(cursor, nslots);
	size = (uint64) chunk->used - chunk->garbage;
	size += Max(size / REGION_GROWTH, REGION_STEP);
	if (chunk->garbage <= chunk->used / 4 || size >= chunk->size || !has_room(cursor, size * 8))
		return;
	fresh = state_alloc(cursor->area, size * 8);
	to = dsa_get_address(cursor->area->dsa, fresh);
	compact_into(cursor, to);
	state_free(cursor->area, chunk->data, (Size) chunk->size * 8);
	chunk->data = fresh;
	chunk->size = (uint32) size;
	cursor->data = to;
	state_free(cursor->area, chunk->dirty, sizeof(uint32) * chunk->dirty_size);
	chunk->dirty = InvalidDsaPointer;
	chunk->dirty_size = 0;
	cursor->dirty = NULL;
}

StateEntry *
state_entry_next(StateCursor *cursor, uint32 *at)
{
	while (*at < cursor->chunk->nslots)
	{
		StateSlot  *slot = &cursor->slots[(*at)++];

		if (slot->offset != 0)
			return entry_at(cursor->data, slot->offset);
	}
	return NULL;
}

/* ---- blobs ---- */

/* A place of this capacity for the blob at "at" of the entry; its old bytes are kept where "keep". */
static StateEntry *
move_blob(StateCursor *cursor, StateEntry *entry, uint32 at, Size capacity, bool keep)
{
	StateChunk *chunk = cursor->chunk;
	uint32		units;
	StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + at);
	char	   *to;

	if (capacity > MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("state of a key is too large")));
	units = (uint32) ((sizeof(uint32) + capacity + 7) / 8);
	if (chunk->size == 0 || units > chunk->size - chunk->used)
	{
		/* where the entry is after the move is known by its key: its offset changes when garbage is thrown out */
		uint16		meta = entry->key_meta;
		uint32		hash = state_hash(state_entry_key(cursor->op, entry), meta);
		uint32		offset = (uint32) (((char *) entry - cursor->data) / 8);
		uint32		slot = state_slot_of(hash, chunk->nslots);

		while (cursor->slots[slot].offset != offset)
			slot = slot_behind(slot, chunk->nslots);
		make_room(cursor, units);
		entry = entry_at(cursor->data, cursor->slots[slot].offset);
		blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + at);
	}
	to = cursor->data + (Size) chunk->used * 8;
	*(uint32 *) to = (uint32) (units * 8 - sizeof(uint32));
	if (blob->offset != 0)
	{
		if (keep)
			memcpy(to + sizeof(uint32), state_blob_bytes(cursor->data, blob), blob->len);
		chunk->garbage += blob_units(cursor->data, blob->offset);
	}
	blob->offset = chunk->used;
	chunk->used += units;
	return entry;
}

static inline Size
blob_capacity(StateCursor *cursor, const StateBlob *blob)
{
	return blob->offset == 0 ? 0 : *(uint32 *) (cursor->data + (Size) blob->offset * 8);
}

char *
state_blob_place(StateCursor *cursor, StateEntry **entry, uint32 at, Size len)
{
	StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(*entry) + at);

	if (blob->offset == 0 || len > blob_capacity(cursor, blob))
	{
		/* one that has grown once will grow again */
		*entry = move_blob(cursor, *entry, at, blob->offset == 0 ? len : len + len / 8, false);
		blob = (StateBlob *) (STATE_ENTRY_FIXED(*entry) + at);
	}
	blob->len = (uint32) len;
	return unconstify(char *, state_blob_bytes(cursor->data, blob));
}

StateEntry *
state_blob_set(StateCursor *cursor, StateEntry *entry, uint32 at, const char *bytes, Size len)
{
	memcpy(state_blob_place(cursor, &entry, at, len), bytes, len);
	return entry;
}

StateEntry *
state_blob_reserve(StateCursor *cursor, StateEntry *entry, uint32 at, Size capacity)
{
	if (capacity > blob_capacity(cursor, (StateBlob *) (STATE_ENTRY_FIXED(entry) + at)))
		entry = move_blob(cursor, entry, at, capacity, true);
	return entry;
}

StateEntry *
state_blob_append(StateCursor *cursor, StateEntry *entry, uint32 at, const char *bytes, Size len)
{
	StateBlob  *blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + at);
	Size		need = (Size) blob->len + len;

	if (blob->offset == 0 || need > blob_capacity(cursor, blob))
	{
		entry = move_blob(cursor, entry, at, blob->offset == 0 ? need : need + need / 2, true);
		blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + at);
	}
	memcpy(unconstify(char *, state_blob_bytes(cursor->data, blob)) + blob->len, bytes, len);
	blob->len = (uint32) need;
	return entry;
}

/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Records back into chunks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "state/state.h"

StateEntry *
state_entry_restore(StateCursor *cursor, StateEntry *entry, const StateRecord *record)
{
	StateOperator *op = cursor->op;
	const char *fixed = STATE_RECORD_FIXED(record);
	uint32		nblobs = state_nblobs(op, record->key_meta);
	StateBlob	old[STATE_MAX_BLOBS];
	uint32		b;

	for (b = 0; b < nblobs; b++)
		old[b] = *(StateBlob *) (STATE_ENTRY_FIXED(entry) + op->blob[b]);
	entry->given = op->leads || (record->flags & STATE_RECORD_GIVEN) != 0;
	memcpy(STATE_ENTRY_FIXED(entry), fixed, state_fixed_size(op, record->key_meta));
	/* places of blobs are the chunk's own */
	for (b = 0; b < nblobs; b++)
		*(StateBlob *) (STATE_ENTRY_FIXED(entry) + op->blob[b]) = (StateBlob) {old[b].offset, 0};
	for (b = 0; b < nblobs; b++)
	{
		const StateBlob *blob = (const StateBlob *) (fixed + op->blob[b]);

		if (blob->offset != 0)
			entry = state_blob_set(cursor, entry, op->blob[b], state_blob_bytes((const char *) record, blob), blob->len);
	}
	return entry;
}

/*
 * Segments are loaded in the order of their epochs, so a record takes the place of an
 * older one.  *replaced: the epoch of that, 0: there was none.
 */
void
state_record_load(StateArea *area, const StateRun *run, const StateRecord *record, uint32 epoch, uint32 *replaced)
{
	StatePane  *pane = state_pane(area, run->op, run->pane, true);
	StateOperator *op = &area->root->op[run->op];
	StateChunk *chunk = &pane->chunk[run->group];
	const char *fixed = STATE_RECORD_FIXED(record);
	const char *key = fixed + state_fixed_size(op, record->key_meta);
	uint32		hash = state_hash(key, record->key_meta);
	StateCursor cursor;
	StateEntry *entry;
	bool		found;

	state_cursor_open(&cursor, area, run->op, chunk);
	entry = state_entry_make(&cursor, hash, key, record->key_meta, &found);
	*replaced = found ? entry->written : 0;
	entry = state_entry_restore(&cursor, entry, record);
	entry->written = epoch;
	/* saved already: not a change */
	if (entry->dirty)
	{
		Assert(!found);
		entry->dirty = 0;
		chunk->ndirty--;
	}
}

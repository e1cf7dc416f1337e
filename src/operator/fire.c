/*-------------------------------------------------------------------------
 *
 * fire.c
 *	  Groups given out at the end of an epoch, as rows of the output plan.
 *
 * Nobody changes what is read here: panes whose windows are all closed by the
 * watermark, windows put together from slices in chunks of our own, or the
 * records that the cut of the epoch copied.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/aggregate.h"
#include "utils/hsearch.h"

FireSet    *operator_fire_sets = NULL;

/* ---- windows from slices ---- */

StateEntry *
fire_merge_entry(OperatorSpec *spec, StateCursor *to, StateEntry *entry, bool fresh, const char *fixed, const char *base)
{
	int			i;

	if (fresh && !spec->exact_keys)
	{
		const StateBlob *blob = (const StateBlob *) (fixed + spec->originals_at);

		entry = state_blob_set(to, entry, spec->originals_at, state_blob_bytes(base, blob), blob->len);
	}
	if (spec->top != NULL)
		return top_merge(spec, to, entry, fixed, base);
	for (i = 0; i < spec->naggs; i++)
	{
		AggregateSpec *agg = &spec->aggs[i];

		switch (agg->kind)
		{
			case AGGREGATE_NATIVE:
				/* of each value once: its members bring it */
				if (!agg->distinct)
					native_combine(agg, STATE_ENTRY_FIXED(entry) + agg->at, fixed + agg->at);
				break;
			case AGGREGATE_TRANSITION:
				entry = transition_combine(spec, agg, to, entry, fixed, base);
				ReScanExprContext(spec->group_context);
				break;
			case AGGREGATE_BUFFERED:
				{
					const StateBlob *blob = (const StateBlob *) (fixed + agg->at);

					if (blob->offset != 0)
						entry = state_blob_append(to, entry, agg->at, state_blob_bytes(base, blob), blob->len);
					break;
				}
		}
	}
	return entry;
}

/* A value that a slice has seen; the group counts it if it is the first. */
void
fire_merge_member(OperatorSpec *spec, StateCursor *to, const char *key, uint16 meta, uint32 hash, bool changed)
{
	AggregateSpec *agg = &spec->aggs[distinct_number(key)];
	uint16		group_meta;
	const char *group = distinct_group(key, &group_meta);
	uint32		group_hash = state_hash(group, group_meta);
	StateEntry *entry;
	bool		found;

	if (changed && state_entry_find(to, group_hash, group, group_meta) == NULL)
		return;
	(void) state_entry_make(to, hash, key, meta, &found);
	if (found)
		return;
	/* may come before its group */
	entry = state_entry_make(to, group_hash, group, group_meta, &found);
	native_update(agg, STATE_ENTRY_FIXED(entry) + agg->at, distinct_value(agg, key, meta));
}

/* Makes the keys that some slice has changed; the states come later. */
static void
make_changed_keys(StateCursor *to, StateCursor *from, uint32 since)
{
	StateEntry *source;
	uint32		at = 0;
	bool		found;

	while ((source = state_entry_next(from, &at)) != NULL)
		if ((source->key_meta & STATE_KEY_MEMBER) == 0 && (source->dirty || (source->written != 0 && (int32) (source->written - since) > 0)))
			(void) state_entry_make(to, from->slots[at - 1].hash, state_entry_key(from->op, source), source->key_meta, &found);
}

StateChunk *
fire_merge(OperatorSpec *spec, StateArea *area, StatePane **slices, int n, bool changed, uint32 since)
{
	StateChunk *merged = palloc0(sizeof(StateChunk) * STATE_GROUPS);
	StateOperator *op = &area->root->op[spec->number];
	int			g,
				i;

	for (g = 0; g < STATE_GROUPS; g++)
	{
		StateCursor to;
		StateCursor from;

		state_cursor_open(&to, area, spec->number, &merged[g]);
		for (i = 0; changed && i < n; i++)
		{
			state_cursor_open(&from, area, spec->number, &slices[i]->chunk[g]);
			make_changed_keys(&to, &from, since);
		}
		for (i = 0; i < n; i++)
		{
			StateEntry *source;
			uint32		at = 0;

			CHECK_FOR_INTERRUPTS();
			state_cursor_open(&from, area, spec->number, &slices[i]->chunk[g]);
			while ((source = state_entry_next(&from, &at)) != NULL)
			{
				const char *key = state_entry_key(op, source);
				uint32		hash = from.slots[at - 1].hash;
				StateEntry *entry;
				bool		found;

				if (source->key_meta & STATE_KEY_MEMBER)
				{
					fire_merge_member(spec, &to, key, source->key_meta, hash, changed);
					continue;
				}
				if (changed)
				{
					entry = state_entry_find(&to, hash, key, source->key_meta);
					if (entry == NULL)
						continue;
					/* "written" is free in a copy: has it got its originals? */
					found = entry->written != 0;
				}
				else
				{
					entry = state_entry_make(&to, hash, key, source->key_meta, &found);
					found = entry->written != 0;
				}
				entry->written = 1;
				/* of one pane alone: slices do not say */
				entry->given = source->given;
				(void) fire_merge_entry(spec, &to, entry, !found, STATE_ENTRY_FIXED(source), from.data);
			}
		}
	}
	return merged;
}

void
fire_merged_free(StateArea *area, StateChunk *merged)
{
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
	{
		state_free(area, merged[g].slots, sizeof(StateSlot) * merged[g].nslots);
		state_free(area, merged[g].data, (Size) merged[g].size * 8);
		state_free(area, merged[g].dirty, sizeof(uint32) * merged[g].dirty_size);
	}
	pfree(merged);
}

/* ---- scan ---- */

void
fire_scan_begin(FireScan *scan, FireSet *set)
{
	memset(scan, 0, sizeof(*scan));
	scan->set = set;
	set->rows = 0;
	set->tombstones = 0;
}

/* GROUPING(): a bit for each argument, 1 where it is not part of the group's set. */
static int32
grouping_value(const OperatorSpec *spec, int number, int set)
{
	int32		value = 0;
	ListCell   *lc;

	foreach(lc, (List *) list_nth(spec->groupings, number))
	{
		int			key = lfirst_int(lc);

		value = (value << 1) | (key >= 0 && (spec->sets[set] & (UINT64CONST(1) << key)) == 0);
	}
	return value;
}

static void
output_row(FireScan *scan, const FireGroup *group, Datum *values, bool *isnull)
{
	FireSet    *set = scan->set;
	OperatorSpec *spec = set->spec;
	const char *fixed = group->fixed;
	const char *base = group->base;
	Datum		keys[OPERATOR_MAX_COLUMNS];
	bool		key_nulls[OPERATOR_MAX_COLUMNS];
	Datum		columns[OPERATOR_MAX_COLUMNS];
	bool		column_nulls[OPERATOR_MAX_COLUMNS];
	MemoryContext old;
	int			i;

	ReScanExprContext(spec->group_context);
	old = MemoryContextSwitchTo(spec->group_context->ecxt_per_tuple_memory);
	if (operator_gives_rows(spec))
	{
		output_row_read(spec, base, group->unit->numbered ? scan->number - 1 : -1, &scan->place, values, isnull);
		MemoryContextSwitchTo(old);
		return;
	}
	if (spec->exact_keys)
		state_key_decode(spec->keys, spec->nkeys, group->key, group->meta, keys, key_nulls);
	else
	{
		const char *p = state_blob_bytes(base, (const StateBlob *) (fixed + spec->originals_at));

		for (i = 0; i < spec->nkeys; i++)
			p = state_datum_read(p, &keys[i], &key_nulls[i], spec->column_len[i], spec->column_byval[i], spec->column_align[i]);
	}
	if (spec->top != NULL)
		top_row_read(spec, scan->top_row, columns, column_nulls);
	for (i = 0; i < spec->noutput; i++)
	{
		OutputColumn *column = &spec->output[i];
		AggregateSpec *agg;

		isnull[i] = false;
		switch (column->kind)
		{
			case OUTPUT_COLUMN:
				values[i] = columns[spec->top->kept_at[column->number]];
				isnull[i] = column_nulls[spec->top->kept_at[column->number]];
				break;
			case OUTPUT_NUMBER:
				values[i] = Int64GetDatum(scan->top_number);
				break;
			case OUTPUT_OVER:
			case OUTPUT_NOTHING:
				values[i] = (Datum) 0;
				isnull[i] = true;
				break;
			case OUTPUT_KEY:
				values[i] = keys[column->number];
				isnull[i] = key_nulls[column->number];
				break;
			case OUTPUT_WINDOW_START:
				values[i] = TimestampTzGetDatum(group->unit->window_start);
				break;
			case OUTPUT_WINDOW_END:
				values[i] = TimestampTzGetDatum(group->unit->window_end);
				break;
			case OUTPUT_SESSION:
				{
					const SessionBounds *bounds = (const SessionBounds *) (fixed + spec->bounds_at);

					values[i] = session_range(bounds->first, bounds->last, spec->gap);
					break;
				}
			case OUTPUT_GROUPING:
				values[i] = Int32GetDatum(grouping_value(spec, column->number,
														 spec->nsets > 0 ? (uint8) group->key[STATE_KEY_LEN(group->meta) - 1] : 0));
				break;
			case OUTPUT_AGGREGATE:
				agg = &spec->aggs[column->number];
				if (set->keys_only)
				{
					values[i] = (Datum) 0;
					isnull[i] = true;
					break;
				}
				switch (agg->kind)
				{
					case AGGREGATE_NATIVE:
						values[i] = native_final(agg, fixed + agg->at, &isnull[i]);
						break;
					case AGGREGATE_TRANSITION:
						values[i] = transition_final(spec, agg, fixed, base, &isnull[i]);
						break;
					case AGGREGATE_BUFFERED:
						values[i] = buffered_final(spec, agg, fixed, base, &isnull[i]);
						break;
				}
				break;
		}
	}
	MemoryContextSwitchTo(old);
}

/* A key that the cut copied more than once, told by 128 bits of its hash. */
typedef struct CopiedAgain
{
	XXH128_hash_t key;
	const StateRecord *last;
} CopiedAgain;

static XXH128_hash_t
record_key(const StateRecord *record, uint32 group_size)
{
	return XXH3_128bits_withSeed(STATE_RECORD_FIXED(record) + group_size, STATE_KEY_LEN(record->key_meta), record->key_meta);
}

/* The next record of the blocks that belongs to the operator, whether it counts or not. */
static const StateRecord *
any_record(FireScan *scan, const FireUnit *unit)
{
	const StateRecord *record;

	for (;;)
	{
		if (scan->left > 0)
		{
			record = (const StateRecord *) scan->p;
			scan->p += record->size;
			scan->left--;
			return record;
		}
		if (scan->p == scan->end)
		{
			FireBlock  *block;

			if (scan->block == list_length(unit->blocks))
				return NULL;
			block = list_nth(unit->blocks, scan->block++);
			scan->p = block->runs;
			scan->end = block->runs + block->bytes;
			continue;
		}
		scan->run = (const StateRun *) scan->p;
		scan->p += sizeof(StateRun);
		if (scan->run->op == scan->set->spec->number)
			scan->left = scan->run->nrecords;
		else
			scan->p += scan->run->bytes;
	}
}

/* The next one that is what a group is now. */
static const StateRecord *
next_record(FireScan *scan, const FireUnit *unit, uint32 group_size)
{
	const StateRecord *record;

	while ((record = any_record(scan, unit)) != NULL)
	{
		if ((record->key_meta & STATE_KEY_MEMBER) || (record->flags & STATE_RECORD_OLD))
			continue;
		if (unit->again != NULL)
		{
			XXH128_hash_t key = record_key(record, group_size);
			CopiedAgain *again = hash_search(unit->again, &key, HASH_FIND, NULL);

			if (again != NULL && again->last != record)
				continue;
		}
		return record;
	}
	return NULL;
}

void
fire_find_again(FireSet *set, FireUnit *unit)
{
	HASHCTL		ctl = {.keysize = sizeof(XXH128_hash_t), .entrysize = sizeof(CopiedAgain), .hcxt = CurrentMemoryContext};
	uint32		group_size = set->area->root->op[set->spec->number].group_size;
	FireScan	scan;
	const StateRecord *record;

	fire_scan_begin(&scan, set);
	while ((record = any_record(&scan, unit)) != NULL)
	{
		XXH128_hash_t key;

		if ((record->flags & STATE_RECORD_AGAIN) == 0 || (record->key_meta & STATE_KEY_MEMBER))
			continue;
		if (unit->again == NULL)
			unit->again = hash_create("streamproc entries copied again", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		key = record_key(record, group_size);
		((CopiedAgain *) hash_search(unit->again, &key, HASH_ENTER, NULL))->last = record;
	}
}

/* The next row that window functions have answered. */
static const OverRecord *
next_output(FireScan *scan, const FireUnit *unit)
{
	for (;;)
	{
		const OverRecord *record;

		if (scan->p == scan->end)
		{
			FireBlock  *block;

			if (scan->block == list_length(unit->blocks))
				return NULL;
			block = list_nth(unit->blocks, scan->block++);
			scan->p = block->runs;
			scan->end = block->runs + block->bytes;
			continue;
		}
		record = (const OverRecord *) scan->p;
		scan->p += record->size;
		if (record->op == (uint32) scan->set->spec->number)
			return record;
	}
}

/* Not a value that DISTINCT has seen, nor a session that went on in another pane. */
static inline bool
is_group(const OperatorSpec *spec, const StateEntry *entry)
{
	return (entry->key_meta & STATE_KEY_MEMBER) == 0 &&
		(spec->window != OPERATOR_SESSION || session_bounds(spec, entry)->first != SESSION_MOVED);
}

/* The next group, whether it is to be given out or not. */
static bool
next_group(FireScan *scan, FireGroup *found)
{
	FireSet    *set = scan->set;
	StateOperator *op = &set->area->root->op[set->spec->number];

	for (; scan->unit < list_length(set->units); scan->unit++)
	{
		FireUnit   *unit = list_nth(set->units, scan->unit);

		found->unit = unit;
		if (unit->output)
		{
			const OverRecord *record = next_output(scan, unit);

			if (record != NULL)
			{
				found->fixed = found->key = NULL;
				found->meta = 0;
				found->base = (const char *) record;
				return true;
			}
			scan->p = scan->end = NULL;
			scan->block = 0;
			continue;
		}
		if (unit->blocks != NIL || unit->from_cut)
		{
			const StateRecord *record = next_record(scan, unit, op->group_size);

			if (record != NULL)
			{
				/* the blocks are the launcher's, which scans them */
				scan->record = unconstify(StateRecord *, record);
				scan->was_given = (record->flags & STATE_RECORD_WAS_GIVEN) != 0;
				found->fixed = STATE_RECORD_FIXED(record);
				found->key = found->fixed + op->group_size;
				found->meta = record->key_meta;
				found->base = (const char *) record;
				return true;
			}
			scan->p = scan->end = NULL;
			scan->block = 0;
			continue;
		}
		for (; scan->group < STATE_GROUPS; scan->group++)
		{
			StateEntry *entry;

			if (!scan->open)
			{
				state_cursor_open(&scan->cursor, set->area, set->spec->number,
								  unit->pane != NULL ? &unit->pane->chunk[scan->group] : &unit->merged[scan->group]);
				scan->open = true;
				scan->at = 0;
			}
			do
				entry = state_entry_next(&scan->cursor, &scan->at);
			while (entry != NULL && !is_group(set->spec, entry));
			if (entry != NULL)
			{
				found->fixed = STATE_ENTRY_FIXED(entry);
				found->key = state_entry_key(op, entry);
				found->meta = entry->key_meta;
				found->base = scan->cursor.data;
				scan->record = NULL;
				scan->was_given = entry->given;
				return true;
			}
			scan->open = false;
		}
		scan->group = 0;
	}
	return false;
}

/* What is given out as one row: a group, or a row of its list. */
static bool
next_row(FireScan *scan)
{
	const OperatorSpec *spec = scan->set->spec;

	if (scan->top_left > 0)
	{
		const char *before = scan->top_row;

		scan->top_left--;
		scan->top_place++;
		scan->top_row = top_row_behind(before);
		if (spec->top->ranking == TOP_ROW_NUMBER || !top_rows_equal(spec, before, scan->top_row))
			scan->top_number = spec->top->ranking == TOP_DENSE_RANK ? scan->top_number + 1 : scan->top_place;
		return true;
	}
	do
	{
		if (!next_group(scan, &scan->group_found))
			return false;
		if (spec->top == NULL)
			return true;
		scan->top_left = top_rows(spec, scan->group_found.fixed, scan->group_found.base, &scan->top_row);
	} while (scan->top_left == 0);
	scan->top_left--;
	scan->top_place = scan->top_number = 1;
	return true;
}

int64
fire_count(FireSet *set)
{
	FireScan	scan;
	int64		n = 0;

	fire_scan_begin(&scan, set);
	while (next_row(&scan))
		n++;
	return n;
}

bool
fire_scan_next(FireScan *scan, Datum *values, bool *isnull)
{
	FireSet    *set = scan->set;

	while (next_row(scan))
	{
		int64		number = scan->number++;

		/* until somebody says something else it is as it was */
		if (set->spec->notes_given)
			given_note(scan, scan->was_given);
		if (unlikely(set->to > 0 && number >= set->to))
			return false;
		if (unlikely(number < set->from))
			continue;
		if (unlikely(scan->skipped < set->nskip))
		{
			while (scan->skipped < set->nskip && set->skip[scan->skipped] < number)
				scan->skipped++;
			if (scan->skipped < set->nskip && set->skip[scan->skipped] == number)
				continue;
		}
		output_row(scan, &scan->group_found, values, isnull);
		set->rows++;
		return true;
	}
	return false;
}

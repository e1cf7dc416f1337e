/*-------------------------------------------------------------------------
 *
 * given.c
 *	  Which groups have been given out.
 *
 * A topic has the last row of each group.  One that does not fulfil HAVING any
 * more needs a tombstone there; one that never was in the topic needs none.  So
 * an entry says whether its group was given out (StateEntry.given), as of the
 * last commit, and the record that the cut makes of it says it, too.
 *
 * What an epoch gives out is known only when its statements run, on the records
 * of the cut, while tasks change the entries already.  So it is noted in the
 * record: STATE_RECORD_GIVEN is what goes to disk, in the transaction that
 * writes the row or the tombstone; STATE_RECORD_WAS_GIVEN stays what the entry
 * said, for a commit that is repeated.  After the commit, and before anything is
 * cut again, the entries learn it.
 *
 * For that each group that is given out must be in the cut of the epoch: groups
 * that have changed earlier, or not at all, are marked as if they had.  A
 * window that closes is not: nothing will be asked of its entries again.
 *
 * Windows of hop() and cumulate() have no entry of their own to note it in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operator/operator.h"

void
given_mark(const OperatorSpec *spec, StateArea *area, StatePane *pane, bool all, uint32 since, uint32 epoch)
{
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
	{
		StateCursor cursor;
		StateEntry *entry;
		uint32		at = 0;

		state_cursor_open(&cursor, area, spec->number, &pane->chunk[g]);
		while ((entry = state_entry_next(&cursor, &at)) != NULL)
		{
			/* what is copied already is in this cut */
			if ((entry->key_meta & STATE_KEY_MEMBER) || entry->written == epoch)
				continue;
			if (all || (entry->written != 0 && (int32) (entry->written - since) > 0))
				state_entry_mark(&cursor, entry);
		}
	}
}

void
given_note(FireScan *scan, bool given)
{
	if (scan->record == NULL)
		return;
	if (given)
		scan->record->flags |= STATE_RECORD_GIVEN;
	else
		scan->record->flags &= ~STATE_RECORD_GIVEN;
}

static bool
is_news(const StateRecord *record)
{
	return ((record->flags & STATE_RECORD_GIVEN) != 0) != ((record->flags & STATE_RECORD_WAS_GIVEN) != 0);
}

/* Its records are of one key group; tasks may be at work on it. */
static void
run_committed(FireSet *set, const StateRun *run)
{
	uint32		group_size = set->area->root->op[set->spec->number].group_size;
	const StateRecord *record = (const StateRecord *) (run + 1);
	StateCursor cursor;
	bool		own = false;
	uint32		i;

	for (i = 0; i < run->nrecords; i++, record = (const StateRecord *) ((const char *) record + record->size))
	{
		const char *key = STATE_RECORD_FIXED(record) + group_size;
		StateEntry *entry;

		if ((record->key_meta & STATE_KEY_MEMBER) || !is_news(record))
			continue;
		if (!own)
		{
			StatePane  *pane = state_pane(set->area, run->op, run->pane, false);

			/* all of its keys were forgotten */
			if (pane == NULL)
				return;
			state_group_own(set->area, run->op, run->group);
			own = true;
			state_cursor_open(&cursor, set->area, run->op, &pane->chunk[run->group]);
		}
		entry = state_entry_find(&cursor, state_hash(key, record->key_meta), key, record->key_meta);
		if (entry == NULL && set->spec->ttl > 0)
			continue;
		if (entry == NULL)
			elog(ERROR, "an entry of operator %d that was saved is not there", set->spec->number);
		entry->given = (record->flags & STATE_RECORD_GIVEN) != 0;
	}
	if (own)
		state_group_release(set->area, run->op, run->group);
}

void
given_committed(FireSet *set)
{
	ListCell   *lc,
			   *lb;

	if (!set->spec->notes_given)
		return;
	foreach(lc, set->units)
		foreach(lb, ((FireUnit *) lfirst(lc))->blocks)
	{
		FireBlock  *block = lfirst(lb);
		const char *p = block->runs;

		while (p < block->runs + block->bytes)
		{
			const StateRun *run = (const StateRun *) p;

			if (run->op == set->spec->number)
				run_committed(set, run);
			p += sizeof(StateRun) + run->bytes;
		}
	}
}

/*-------------------------------------------------------------------------
 *
 * keyed_ttl.c
 *	  Freeing keys that are forgotten (state_ttl): when, and how many at a time.
 *
 * What "forgotten" means: operator/ttl.c.  Behind each cut the tasks look at the key
 * groups that the hand of an operator passes, and take out what no row can find
 * any more.  The hand goes as event time does: EXPIRY_ROUNDS times around in a
 * ttl, so a key stays at most that part of a ttl longer, and is looked at
 * that often in its life, however many checkpoints there are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "worker/keyed.h"

#define EXPIRY_ROUNDS	8

#define my_keyed		(my_launcher->keyed)

/* All tasks stand, and what the epoch gives out is chosen. */
void
keyed_plan_expiry(const Epoch *epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	int			op;

	/* changes that are not given out yet are found by their entries */
	barrier->keep_unemitted = my_keyed->emit == EMIT_EVERY;
	barrier->emitted = my_keyed->last_emit;
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		const OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		BarrierExpiry *expiry = &barrier->expiry[op];
		KeyedExpiry *hand = &my_keyed->expiry[op];
		TimestampTz until;

		expiry->groups = 0;
		if (spec->ttl == 0 || state_pane(my_keyed->area, op, STATE_PANE_ETERNAL, false) == NULL)
			continue;
		until = keyed_no_row_before(spec, epoch->watermark, barrier->horizon[op]);
		if (until == DT_NOBEGIN || (hand->begun && until <= expiry->until))
			continue;
		/* a run looks at all once when it begins */
		hand->due = hand->begun ? hand->due + (double) STATE_GROUPS * EXPIRY_ROUNDS * ((double) (until - expiry->until) / spec->ttl) : STATE_GROUPS;
		hand->begun = true;
		expiry->until = until;
		expiry->groups = (int) Min(hand->due, STATE_GROUPS);
		expiry->from = hand->next;
		hand->next = (hand->next + expiry->groups) % STATE_GROUPS;
		hand->due = hand->due >= STATE_GROUPS ? 0 : hand->due - expiry->groups;
	}
}

/* All have copied and still stand: who has forgotten all keys has no pane. */
void
keyed_free_expired(void)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		StatePane  *pane;
		int			g;

		if (my_keyed->barrier->expiry[op].groups == 0)
			continue;
		pane = state_pane(my_keyed->area, op, STATE_PANE_ETERNAL, false);
		for (g = 0; pane != NULL && g < STATE_GROUPS; g++)
			if (pane->chunk[g].nentries > 0)
				break;
		if (pane != NULL && g == STATE_GROUPS)
			state_pane_free(my_keyed->area, op, pane);
	}
}

/*-------------------------------------------------------------------------
 *
 * keyed_fire.c
 *	  The watermark at the end of an epoch, and what the epoch gives out.
 *
 * A window is alive until the watermark has passed its end + allowed_lateness;
 * a pane (a window of tumble(), a slice of the others) as long as one of its
 * windows.  At the end of each epoch every window that was alive is looked at:
 *
 *	  emit final		it is given out once, when it ends to be alive
 *	  late update		it is given out when the watermark passes its end, and
 *						what has changed of it at the end of each epoch after that
 *	  emit changes		what has changed of it, at the end of each epoch
 *	  emit every n		what has changed of it since the last time, each n and
 *						when it ends to be alive
 *
 * A group without windows is alive for ever, and gives out changes.  What of a window
 * the tasks can still reach is copied while they stand.  A window of slices that has
 * ended is put together when they run again: rows that come into its slices are late
 * for it, and tasks keep them back until then (Barrier.merging).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "worker/keyed.h"

/* of state_memory, for windows that end in one epoch */
#define CAP_SHARE		8

#define my_keyed		(my_launcher->keyed)

/* ---- the watermark ---- */

/*
 * us: rows that the operator below answers may lie so far behind those with which they come.
 * It may have a join below itself, and give out its rows in the order of another side.
 */
static int64
behind(int op)
{
	const KeyedNode *keyed = my_launcher->program->keyed;
	int			below = keyed[op].upstream;

	if (below >= 0 && keyed[below].spec->join == NULL && keyed[below].time_side == keyed[op].time_side && keyed[op].time_side != 2)
		return 0;
	while (below >= 0 && keyed[below].spec->join == NULL)
		below = keyed[below].upstream;
	return below >= 0 ? join_behind(keyed[below].spec, keyed[op].time_side) : 0;
}

/*
 * The watermark of what an operator reads: that of the topics, or, where it takes what
 * another one answers, held back by the rows that still wait there, and by how far rows
 * of a join lie behind their partners.
 */
static TimestampTz
watermark_of(int op, TimestampTz watermark)
{
	int			upstream = my_launcher->program->keyed[op].upstream;
	TimestampTz lateness = my_launcher->row->allowed_lateness;
	TimestampTz horizon;
	TimestampTz bound = DT_NOEND;
	StatePane **panes;
	int			n;
	int			i;

	if (upstream < 0 || watermark == WATERMARK_NONE)
		return watermark;
	watermark = watermark_of(upstream, watermark);
	horizon = my_keyed->barrier->horizon[upstream];
	panes = state_panes_open(my_keyed->area, upstream, &n);
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && operator_pane_end(my_launcher->program->keyed[upstream].spec, panes[i]->id) > horizon)
			bound = Min(bound, over_waiting_begin(panes[i]->id));
	pfree(panes);
	/* rows may still come into a slice that the watermark has not passed to its end */
	if (watermark != DT_NOEND)
		bound = Min(bound, watermark - lateness - OVER_WAITING_SLICE);
	return bound == DT_NOEND ? DT_NOEND : bound - behind(op) + lateness;
}

/* So far the watermark of the topics must be ahead of what closes a window of the operator. */
static TimestampTz
chain_delay(int op)
{
	int			upstream = my_launcher->program->keyed[op].upstream;

	return upstream >= 0 ? OVER_WAITING_SLICE + behind(op) + chain_delay(upstream) : 0;
}

/* By which rows of the operator are answered that wait, when the watermark of the topics is this one. */
static TimestampTz
answering_watermark(int op, TimestampTz watermark)
{
	const KeyedNode *node = &my_launcher->program->keyed[op];

	/* before the stop those that the operator below answers are still on their way: what is known is as of the stop before */
	return node->upstream >= 0 && node->consumer >= 0 ? my_keyed->passed_watermark[op] : watermark_of(op, watermark);
}

/* The last instant at which something is still to be given out; DT_NOBEGIN: nothing is. */
static TimestampTz
last_deadline(void)
{
	TimestampTz last = DT_NOBEGIN;
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		StatePane **panes;
		int			n;
		int			i;

		if (spec->window == OPERATOR_NO_WINDOW && !operator_gives_rows(spec))
			continue;
		panes = state_panes(my_keyed->area, op, &n);
		if (operator_gives_rows(spec))
		{
			/* also the end of what is remembered: silence frees it */
			for (i = 0; i < n; i++)
				if (panes[i]->id != STATE_PANE_ETERNAL)
					last = Max(last, operator_pane_end(spec, panes[i]->id) + spec->allowed_lateness + OVER_WAITING_SLICE + chain_delay(op));
		}
		else if (n > 0)
			last = Max(last, operator_closing(spec, operator_last_end(spec, panes[n - 1]->id)) + spec->allowed_lateness + chain_delay(op));
		pfree(panes);
	}
	return last;
}

TimestampTz
keyed_present_watermark(void)
{
	Barrier    *barrier = my_keyed->barrier;
	TimestampTz low = DT_NOEND;
	TimestampTz high = WATERMARK_NONE;
	bool		any_active = false;
	bool		any_idle = false;
	int			i;

	for (i = 0; i < barrier->nparts; i++)
	{
		BarrierPartition *part = &barrier->part[i];

		high = Max(high, part->watermark);
		if (part->finished)
			continue;
		if (part->idle)
		{
			any_idle = true;
			continue;
		}
		any_active = true;
		low = Min(low, part->watermark);
	}
	if (any_active || !any_idle)
	{
		my_keyed->all_idle_us = 0;
		return Max(any_active ? low : DT_NOEND, barrier->watermark);
	}
	/* all are silent: time goes on by the clock, as far as something waits for it */
	if (high == WATERMARK_NONE)
		return barrier->watermark;
	if (my_keyed->all_idle_us == 0)
	{
		my_keyed->all_idle_us = monotonic_us();
		my_keyed->idle_watermark = Max(high, barrier->watermark);
	}
	{
		TimestampTz now = my_keyed->idle_watermark + (monotonic_us() - my_keyed->all_idle_us);
		TimestampTz last = last_deadline();

		now = Min(now, last);
		return Max(barrier->watermark, now);
	}
}

/*
 * The windows (by the slice that they end before) that panes are part of and
 * that are not given out for good, up to those that this watermark closes
 * (WATERMARK_NONE: all), ascending.
 */
static int64 *
living_windows(const OperatorSpec *spec, StatePane **panes, int n, TimestampTz watermark, int *nends)
{
	int			size = 64;
	int64	   *ends = palloc(sizeof(int64) * size);
	int64		next = PG_INT64_MIN;
	int			i;

	*nends = 0;
	for (i = 0; i < n; i++)
	{
		int64		last = operator_last_end(spec, panes[i]->id);
		int64		end;

		CHECK_FOR_INTERRUPTS();
		/* panes ascend, and so do their last windows */
		for (end = Max(panes[i]->id + 1, next); end <= last; end++)
		{
			TimestampTz closing = operator_closing(spec, end);

			if (closing <= my_keyed->closed_now[spec->number])
				continue;
			if (watermark != WATERMARK_NONE && !operator_is_late(spec, closing, watermark))
				return ends;
			if (*nends == size)
			{
				size *= 2;
				ends = repalloc_huge(ends, sizeof(int64) * size);
			}
			ends[(*nends)++] = end;
		}
		next = Max(next, last + 1);
	}
	return ends;
}

/*
 * Windows of slices are put together before any of them is written.  After a
 * long silence or in a backlog many end at once: then they come in several
 * epochs, so that they take no more than a part of the memory allowed.
 */
TimestampTz
keyed_cap_watermark(TimestampTz watermark)
{
	TimestampTz cap = watermark;
	int64		allowed = (int64) (my_keyed->area->root->limit / CAP_SHARE);
	int			op;

	if (watermark == WATERMARK_NONE)
		return watermark;
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		StatePane **panes;
		int64	   *ends;
		int64	   *pane_bytes;
		int64		bytes = 0;
		int			n;
		int			nends;
		int			first = 0;
		int			i,
					k,
					g;

		if (spec->window != OPERATOR_HOP && spec->window != OPERATOR_CUMULATE)
			continue;
		panes = state_panes(my_keyed->area, op, &n);
		pane_bytes = palloc0(sizeof(int64) * Max(n, 1));
		for (k = 0; k < n; k++)
			for (g = 0; g < STATE_GROUPS; g++)
				pane_bytes[k] += state_chunk_bytes(&panes[k]->chunk[g]);
		ends = living_windows(spec, panes, n, watermark_of(op, cap), &nends);
		for (i = 0; i < nends; i++)
		{
			CHECK_FOR_INTERRUPTS();
			while (first < n && panes[first]->id < operator_window_begin(spec, ends[i]))
				first++;
			for (k = first; k < n && panes[k]->id < ends[i]; k++)
				bytes += pane_bytes[k];
			/* one at least */
			if (bytes > allowed && i > 0)
			{
				cap = operator_closing(spec, ends[i - 1]) + spec->allowed_lateness + chain_delay(op);
				break;
			}
		}
		pfree(ends);
		pfree(pane_bytes);
		pfree(panes);
	}
	return Max(cap, my_keyed->barrier->watermark);
}

/* Rows from here on are still to be answered, when the watermark has come so far: what frames need before them is kept. */
static TimestampTz
history_bound(const OperatorSpec *spec, StatePane **panes, int n, TimestampTz watermark, TimestampTz horizon)
{
	TimestampTz bound;
	int			i;

	/* the end of a run is not the end of time: what comes in the next one needs its frames */
	if (watermark == DT_NOEND)
		watermark = my_keyed->finite_watermark;
	watermark = watermark_of(spec->number, watermark);
	if (watermark == WATERMARK_NONE)
		return DT_NOBEGIN;
	/* a row is late where the slice is over that it would wait in */
	bound = watermark - spec->allowed_lateness - OVER_WAITING_SLICE;
	for (i = 0; i < n; i++)
		if (OVER_IS_WAITING(panes[i]->id) && operator_pane_end(spec, panes[i]->id) > horizon)
			bound = Min(bound, over_waiting_begin(panes[i]->id));
	return bound;
}

TimestampTz
keyed_no_row_before(const OperatorSpec *spec, TimestampTz watermark, TimestampTz horizon)
{
	StatePane **panes;
	TimestampTz bound;
	int			n;

	/* in the order in which rows come it is the watermark itself that forgets */
	if (!spec->waits)
		return watermark != DT_NOEND ? watermark : my_keyed->finite_watermark;
	panes = state_panes(my_keyed->area, spec->number, &n);
	bound = history_bound(spec, panes, n, watermark, horizon);
	pfree(panes);
	return bound;
}

static bool
history_over(const OperatorSpec *spec, int64 pane, TimestampTz bound)
{
	return pane != STATE_PANE_ETERNAL && !OVER_IS_WAITING(pane) && operator_pane_end(spec, pane) <= bound;
}

/* Is there history that nobody needs any more? */
static bool
over_closes(const OperatorSpec *spec, TimestampTz watermark)
{
	int			n;
	StatePane **panes = state_panes(my_keyed->area, spec->number, &n);
	TimestampTz bound = history_bound(spec, panes, n, watermark, DT_NOBEGIN);
	bool		closes = false;
	int			i;

	for (i = 0; i < n && !closes; i++)
		closes = history_over(spec, panes[i]->id, bound);
	pfree(panes);
	return closes;
}

/* All stand: rows that waited until the horizon have been answered, or will be before the cut, and history that is over goes. */
static void
close_over(const OperatorSpec *spec, Epoch *epoch)
{
	TimestampTz horizon = my_keyed->barrier->horizon[spec->number];
	int			n;
	StatePane **panes = state_panes(my_keyed->area, spec->number, &n);
	/* those that will be answered now still need theirs: it goes with the next epoch */
	bool		standing = keyed_released_standing(&my_launcher->program->keyed[spec->number]);
	TimestampTz bound = history_bound(spec, panes, n, epoch->watermark, standing ? DT_NOBEGIN : horizon);
	TimestampTz until;
	int			i;

	for (i = 0; i < n; i++)
		panes[i]->closed = OVER_IS_WAITING(panes[i]->id) ? operator_pane_end(spec, panes[i]->id) <= horizon :
			panes[i]->closed || history_over(spec, panes[i]->id, bound);
	epoch->answered_until[spec->number] = horizon;
	epoch->freed_until[spec->number] = bound;
	/*
	 * A row that is late now is so in a later run with a longer allowed_lateness, too: what it
	 * needs may be freed, and partners of its time have been given out alone.  After the end of a run more
	 * of the same time may come: it is late as far as rows were answered.
	 */
	until = watermark_of(spec->number, my_keyed->finite_watermark);
	if (until != WATERMARK_NONE)
		until -= spec->allowed_lateness;
	epoch->closed_until[spec->number] = Max(horizon, until);
	pfree(panes);
}

/*
 * History that was over when it was saved last: parts of it may stand in segments that
 * hold other things, too.  A frame would begin in a pane that has not all of its
 * rows any more, and would not know.  That allowed_lateness is longer now brings nothing back.
 */
void
keyed_close_loaded(void)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		StatePane **panes;
		int			n;
		int			i;

		if (!operator_gives_rows(spec))
			continue;
		panes = state_panes(my_keyed->area, op, &n);
		for (i = 0; i < n; i++)
			panes[i]->closed = history_over(spec, panes[i]->id, my_keyed->barrier->freed_until[op]);
		pfree(panes);
	}
}

void
keyed_mark_passing(TimestampTz watermark)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		TimestampTz horizon;
		StatePane **panes;
		int			n;
		int			i;

		if (!spec->waits)
			continue;
		horizon = over_horizon(my_keyed->area, spec, answering_watermark(op, watermark));
		panes = state_panes_open(my_keyed->area, op, &n);
		for (i = 0; i < n; i++)
			if (OVER_IS_WAITING(panes[i]->id) && operator_pane_end(spec, panes[i]->id) <= horizon)
				panes[i]->passing = true;
		pfree(panes);
	}
}

void
keyed_set_horizons(TimestampTz watermark, bool standing)
{
	Barrier    *barrier = my_keyed->barrier;
	int			op;

	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;

		/* it never goes back: what stands before it has been answered */
		if (spec->waits && keyed_released_standing(&my_launcher->program->keyed[op]) == standing)
		{
			TimestampTz horizon = over_horizon(my_keyed->area, spec, answering_watermark(op, watermark));

			barrier->horizon[op] = Max(barrier->horizon[op], horizon);
		}
		/* all stand: everything that was answered has been passed on */
		if (standing)
			my_keyed->passed_watermark[op] = watermark_of(op, watermark);
	}
	LWLockRelease(&barrier->lock);
}

bool
keyed_rows_wait(void)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		StatePane **panes;
		int			n;
		bool		wait;

		if (!operator_gives_rows(spec))
			continue;
		panes = state_panes_open(my_keyed->area, op, &n);
		wait = n > 0 && OVER_IS_WAITING(panes[n - 1]->id);
		pfree(panes);
		if (wait)
			return true;
	}
	return false;
}

bool
keyed_closes_something(TimestampTz watermark)
{
	int			op;
	bool		closes = false;

	if (watermark == WATERMARK_NONE)
		return false;
	for (op = 0; op < my_launcher->program->nkeyed && !closes; op++)
	{
		OperatorSpec *spec = my_launcher->program->keyed[op].spec;
		StatePane **panes;
		int			n;
		int			i;

		if (operator_gives_rows(spec))
		{
			/* something to answer, or history to free */
			closes = over_horizon(my_keyed->area, spec, watermark_of(op, watermark)) != DT_NOBEGIN ||
				over_horizon(my_keyed->area, spec, answering_watermark(op, watermark)) != DT_NOBEGIN || over_closes(spec, watermark);
			continue;
		}
		if (spec->window == OPERATOR_NO_WINDOW)
			continue;
		panes = state_panes(my_keyed->area, op, &n);
		for (i = 0; i < n && !closes; i++)
		{
			int64		end = panes[i]->id + 1;
			int64		last = operator_last_end(spec, panes[i]->id);

			/* the first of its windows that is not given out yet */
			while (end <= last && operator_closing(spec, end) <= my_keyed->closed_now[op])
				end++;
			if (end > last)
				continue;
			closes = operator_is_late(spec, operator_closing(spec, end), watermark_of(op, watermark));
			/* later panes close later */
			break;
		}
		pfree(panes);
	}
	return closes;
}

/* ---- what is given out ---- */

static FireUnit *
add_unit(FireSet *set, int64 end)
{
	OperatorSpec *spec = set->spec;
	FireUnit   *unit = palloc0(sizeof(FireUnit));

	if (spec->window != OPERATOR_NO_WINDOW)
	{
		unit->window_start = window_instant(&spec->scale, operator_window_begin(spec, end));
		unit->window_end = window_instant(&spec->scale, end);
	}
	set->units = lappend(set->units, unit);
	return unit;
}

typedef enum Giving
{
	GIVE_NOTHING,
	GIVE_CHANGES,				/* of this epoch */
	GIVE_SINCE,					/* changes since the last time */
	GIVE_ALL
} Giving;

/* What of the window that ends there?  It was alive until now. */
static Giving
giving(const OperatorSpec *spec, TimestampTz closing, TimestampTz watermark, const Epoch *epoch)
{
	bool		ends = operator_is_late(spec, closing, watermark);

	if (epoch->give_all && (my_keyed->emit != EMIT_FINAL && my_keyed->emit != EMIT_DEFAULT))
		return GIVE_ALL;
	if (epoch->give_all && my_launcher->row->late == LATE_UPDATE && closing <= watermark)
		return GIVE_ALL;
	switch (my_keyed->emit)
	{
		case EMIT_CHANGES:
			return GIVE_CHANGES;
		case EMIT_EVERY:
			return ends || epoch->emit_due ? GIVE_SINCE : GIVE_NOTHING;
		default:
			break;
	}
	if (my_launcher->row->late != LATE_UPDATE)
		return ends ? GIVE_ALL : GIVE_NOTHING;
	if (my_keyed->barrier->watermark != WATERMARK_NONE && closing <= my_keyed->barrier->watermark)
		return GIVE_CHANGES;
	return closing <= watermark ? GIVE_ALL : GIVE_NOTHING;
}

/* The cut of the epoch will hold what the unit gives out. */
static void
from_cut(OperatorSpec *spec, FireUnit *unit, StatePane *pane, Giving give, const Epoch *epoch)
{
	unit->from_cut = true;
	unit->cut_pane = pane->id;
	if (give != GIVE_CHANGES)
		given_mark(spec, my_keyed->area, pane, give == GIVE_ALL, my_keyed->last_emit, (uint32) epoch->number);
}

static void
give_out(FireSet *set, Epoch *epoch, TimestampTz watermark, StatePane **panes, int n)
{
	OperatorSpec *spec = set->spec;
	StatePane **slices = palloc(sizeof(StatePane *) * Max(n, 1));
	int			nends;
	/* others are given out only when they end */
	bool		all = (my_keyed->emit != EMIT_FINAL && my_keyed->emit != EMIT_DEFAULT) || my_launcher->row->late == LATE_UPDATE;
	int64	   *ends = living_windows(spec, panes, n, all ? WATERMARK_NONE : watermark, &nends);
	int			first = 0;
	int			i,
				k;

	for (i = 0; i < nends; i++)
	{
		int64		begin = operator_window_begin(spec, ends[i]);
		Giving		give = giving(spec, operator_closing(spec, ends[i]), watermark, epoch);
		FireUnit   *unit;
		int			nslices = 0;

		if (give == GIVE_NOTHING)
			continue;
		/* panes ascend, and so do the begins of windows */
		while (first < n && panes[first]->id < begin)
			first++;
		for (k = first; k < n && panes[k]->id < ends[i]; k++)
			slices[nslices++] = panes[k];
		if (nslices == 0)
			continue;
		unit = add_unit(set, ends[i]);
		/* only rows that are late for it can still come into its slices, and they wait */
		if (give == GIVE_ALL && operator_is_late(spec, operator_closing(spec, ends[i]), watermark))
		{
			if (spec->window == OPERATOR_TUMBLE || spec->window == OPERATOR_SESSION)
			{
				unit->pane = slices[0];
				continue;
			}
			unit->nslices = nslices;
			unit->slices = palloc(sizeof(StatePane *) * nslices);
			memcpy(unit->slices, slices, sizeof(StatePane *) * nslices);
			epoch->merging = true;
		}
		else if (spec->notes_given && !operator_is_late(spec, operator_closing(spec, ends[i]), watermark))
			from_cut(spec, unit, slices[0], give, epoch);
		else
			unit->merged = fire_merge(spec, my_keyed->area, slices, nslices, give != GIVE_ALL,
									  give == GIVE_SINCE ? my_keyed->last_emit : (uint32) epoch->number - 1);
	}
	pfree(ends);
	pfree(slices);
}

/*
 * In a later run, with another allowed_lateness too, what an operator takes must not be
 * late for the one that takes its answers.  Panes that still wait lie behind: the
 * second's watermark does not pass them.
 */
static void
keep_chains_closed(Epoch *epoch)
{
	int			op;

	/* of a consumer before what it takes */
	for (op = my_launcher->program->nkeyed - 1; op >= 0; op--)
	{
		int			consumer = my_launcher->program->keyed[op].consumer;
		TimestampTz until;
		int64		rest;

		if (consumer < 0 || TIMESTAMP_NOT_FINITE(epoch->closed_until[consumer]))
			continue;
		/* up to the end of a slice, as rows are judged by that */
		until = epoch->closed_until[consumer] + behind(consumer) - 1;
		rest = until % OVER_WAITING_SLICE;
		until += OVER_WAITING_SLICE - (rest >= 0 ? rest : rest + OVER_WAITING_SLICE);
		epoch->closed_until[op] = Max(epoch->closed_until[op], until);
	}
}

void
keyed_choose_output(Epoch *epoch)
{
	Program    *program = my_launcher->program;
	int			op;

	epoch->give_all = my_keyed->give_all;
	my_keyed->give_all = false;
	for (op = 0; op < STATE_MAX_OPERATORS; op++)
		epoch->closed_until[op] = epoch->answered_until[op] = epoch->freed_until[op] = DT_NOBEGIN;
	epoch->emit_due = my_keyed->emit == EMIT_EVERY &&
		(monotonic_us() >= my_keyed->next_emit_us || epoch->watermark == DT_NOEND);
	epoch->sets = palloc0(sizeof(FireSet) * Max(program->nkeyed, 1));
	for (op = 0; op < program->nkeyed; op++)
	{
		FireSet    *set = &epoch->sets[op];
		OperatorSpec *spec = program->keyed[op].spec;
		TimestampTz watermark;
		StatePane **panes;
		int			n;
		int			i;

		set->spec = spec;
		set->area = my_keyed->area;
		watermark = watermark_of(op, epoch->watermark);
		if (watermark != DT_NOEND && watermark != WATERMARK_NONE)
			epoch->closed_until[op] = watermark - my_launcher->row->allowed_lateness;
		if (operator_gives_rows(spec))
		{
			close_over(spec, epoch);
			continue;
		}
		panes = state_panes(my_keyed->area, op, &n);
		if (spec->window != OPERATOR_NO_WINDOW)
			give_out(set, epoch, watermark, panes, n);
		else if (spec->notes_given && n > 0 && (epoch->give_all || epoch->emit_due || my_keyed->emit != EMIT_EVERY))
			from_cut(spec, add_unit(set, 0), panes[0], epoch->give_all ? GIVE_ALL : epoch->emit_due ? GIVE_SINCE : GIVE_CHANGES, epoch);
		else if (epoch->give_all && n > 0)
			add_unit(set, 0)->merged = fire_merge(spec, my_keyed->area, panes, n, false, 0);
		else if (epoch->emit_due && n > 0)
			add_unit(set, 0)->merged = fire_merge(spec, my_keyed->area, panes, n, true, my_keyed->last_emit);
		for (i = 0; i < n && spec->window != OPERATOR_NO_WINDOW; i++)
		{
			TimestampTz end = operator_closing(spec, operator_last_end(spec, panes[i]->id));

			if (!operator_is_late(spec, end, watermark))
				break;
			panes[i]->closed = true;
			/* a run that ends has closed what it has given out, not time itself */
			if (watermark == DT_NOEND)
				epoch->closed_until[op] = Max(epoch->closed_until[op], end);
		}
		pfree(panes);
	}
	keep_chains_closed(epoch);
	if (epoch->emit_due)
	{
		my_keyed->last_emit = (uint32) epoch->number;
		my_keyed->next_emit_us = monotonic_us() + my_keyed->emit_us;
	}
}

/* Windows of slices that have ended, while tasks run. */
void
keyed_merge_slices(Epoch *epoch)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		FireSet    *set = &epoch->sets[op];
		ListCell   *lc;

		foreach(lc, set->units)
		{
			FireUnit   *unit = lfirst(lc);

			if (unit->slices != NULL)
				unit->merged = fire_merge(set->spec, my_keyed->area, unit->slices, unit->nslices, false, 0);
			unit->slices = NULL;
		}
	}
}

static void
add_block(FireUnit *unit, const char *runs, Size bytes)
{
	FireBlock  *block = palloc(sizeof(FireBlock));

	block->runs = runs;
	block->bytes = bytes;
	unit->blocks = lappend(unit->blocks, block);
}

/* Rows that window functions have answered in the epoch. */
static void
add_output(Epoch *epoch, FireSet *set)
{
	FireUnit   *unit = NULL;
	int			t;

	for (t = 0; t < my_keyed->barrier->ntasks; t++)
	{
		dsa_pointer p;

		for (p = epoch->outputs[t].first; DsaPointerIsValid(p);)
		{
			BarrierBlock *block = dsa_get_address(my_keyed->area->dsa, p);

			if (unit == NULL)
			{
				unit = palloc0(sizeof(FireUnit));
				unit->output = true;
				set->units = lappend(set->units, unit);
			}
			add_block(unit, block->bytes, block->used);
			p = block->next;
		}
	}
}

/* Units ascend by their panes. */
static FireUnit *
unit_of_pane(FireSet *set, int64 pane)
{
	int			low = 0;
	int			high = list_length(set->units);

	while (low < high)
	{
		int			mid = low + (high - low) / 2;
		FireUnit   *unit = list_nth(set->units, mid);

		if (!unit->from_cut || unit->cut_pane < pane)
			low = mid + 1;
		else if (unit->cut_pane == pane)
			return unit;
		else
			high = mid;
	}
	return NULL;
}

/* The runs of the blocks are shared out among the units. */
static void
add_runs(FireSet *set, const BarrierBlock *block)
{
	const char *p = block->bytes;

	while (p < block->bytes + block->used)
	{
		const StateRun *run = (const StateRun *) p;
		FireUnit   *unit = run->op == set->spec->number ? unit_of_pane(set, run->pane) : NULL;

		if (unit != NULL)
			add_block(unit, p, sizeof(StateRun) + run->bytes);
		p += sizeof(StateRun) + run->bytes;
	}
}

/*
 * What was copied is what has changed: of groups without windows, and of windows
 * that are not closed where it is noted what was given out.  Tasks run already.
 */
void
keyed_add_changes(Epoch *epoch)
{
	int			op;
	int			t;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		FireSet    *set = &epoch->sets[op];
		FireUnit   *unit = NULL;
		ListCell   *lc;

		if (operator_gives_rows(set->spec))
		{
			add_output(epoch, set);
			continue;
		}
		/* the others are given out with all others, or when it is time */
		if (!set->spec->notes_given &&
			(set->spec->window != OPERATOR_NO_WINDOW || my_keyed->emit == EMIT_EVERY || epoch->give_all))
			continue;
		for (t = 0; t < my_keyed->barrier->ntasks; t++)
		{
			dsa_pointer p;

			for (p = epoch->cuts[t].first; DsaPointerIsValid(p);)
			{
				BarrierBlock *block = dsa_get_address(my_keyed->area->dsa, p);

				p = block->next;
				if (set->spec->notes_given)
				{
					add_runs(set, block);
					continue;
				}
				if (unit == NULL)
					unit = add_unit(set, 0);
				add_block(unit, block->bytes, block->used);
			}
		}
		foreach(lc, set->units)
			if (((FireUnit *) lfirst(lc))->blocks != NIL && epoch->copied_again)
				fire_find_again(set, lfirst(lc));
	}
}

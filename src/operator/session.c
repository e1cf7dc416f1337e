/*-------------------------------------------------------------------------
 *
 * session.c
 *	  Sessions: rows of a key each of which comes at most "gap" after another.
 *
 * Event time is divided into slices that are no longer than the gap.  Two rows of
 * a key in one slice are therefore always in one session, and each row goes
 * into the entry of (slice, key), as with hop(); the entry also says when its
 * first and its last row were (SessionBounds).
 *
 * A slice is closed when the watermark has passed its end by the gap: rows that
 * its sessions go on with have come, if any do.  Then each of its entries is put to
 * the next entry of its key, where that begins at most the gap behind it; both together
 * are an entry as if all of its rows had come there.  Other entries are sessions that
 * have ended, and are given out with the pane.  Where several slices are closed at
 * once they go in the order of time.  So a row that bridges two sessions is nothing
 * special, and neither is a late one, as long as its slice is open.
 *
 * All of this is done by the tasks while all stand, between the choice of the panes
 * that are closed and the cut: what went on in a later pane is in the cut of the
 * epoch that closes the earlier one.
 *
 * Rows that the watermark promised not to come, and that come while their slice is open, make
 * sessions with what is there: one that was given out stays as it is.
 *
 * An entry that went on stays in its pane, marked (SESSION_MOVED): the pane will be
 * freed as a whole, and the counts of entries in segments do not change.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/aggregate.h"
#include "utils/memutils.h"

/*
 * Slices of a gap: a session is given out at most a part of the gap later than it could
 * be, and an open one has an entry in each of so many slices at most.
 */
#define SESSION_SLICES		4
/* us: a pane has a price */
#define SESSION_SLICE_MIN	(INT64CONST(100) * 1000)

void
session_scale_init(WindowScale *scale, int64 gap)
{
	memset(scale, 0, sizeof(*scale));
	scale->unit = WINDOW_USEC;
	scale->step = Max((gap + SESSION_SLICES - 1) / SESSION_SLICES, Min(gap, SESSION_SLICE_MIN));
	scale->slices = 1;
}

/* slots whose keys are looked for in the next slice before their turn */
#define PASS_AHEAD			8

/* The panes of the operator, as one key group sees them. */
typedef struct SessionPass
{
	OperatorSpec *spec;
	StateOperator *op;
	StatePane **panes;
	TimestampTz *begin;			/* of the slices */
	int			n;
	int			nclosed;		/* the first ones */
	StateCursor *cursors;
} SessionPass;

/* The entry of the key that the session goes on in, NULL: it has ended; *number: of its pane. */
static StateEntry *
find_next(SessionPass *pass, int from, StateEntry *entry, uint32 hash, int *number)
{
	OperatorSpec *spec = pass->spec;
	TimestampTz last = session_bounds(spec, entry)->last;
	const char *key = state_entry_key(pass->op, entry);
	StateEntry *next;
	TimestampTz at;
	int			i;

	for (i = from + 1; i < pass->n && session_goes_on(last, pass->begin[i], spec->gap); i++)
	{
		next = state_entry_find(&pass->cursors[i], hash, key, entry->key_meta);
		if (next == NULL)
			continue;
		*number = i;
		at = session_bounds(spec, next)->first;
		if (spec->max_span > 0 && (uint64) at - (uint64) session_bounds(spec, entry)->first >= (uint64) spec->max_span)
			return NULL;
		return session_goes_on(last, at, spec->gap) ? next : NULL;
	}
	return NULL;
}

/* Does the session of the entry go on in a later one? */
static bool
pass_entry(SessionPass *pass, int from, StateEntry *entry, uint32 hash)
{
	OperatorSpec *spec = pass->spec;
	SessionBounds *bounds = session_bounds(spec, entry);
	StateEntry *next;
	int			number;

	next = find_next(pass, from, entry, hash, &number);
	if (next == NULL)
		return false;
	state_entry_mark(&pass->cursors[number], next);
	if (spec->max_span > 0)
		*(SessionCarried *) (STATE_ENTRY_FIXED(next) + spec->carried_at) = (SessionCarried) {bounds->first, bounds->last, 1};
	else
		session_bounds(spec, next)->first = bounds->first;
	(void) fire_merge_entry(spec, &pass->cursors[number], next, false, STATE_ENTRY_FIXED(entry), pass->cursors[from].data);
	bounds->first = SESSION_MOVED;
	bounds->last = number;
	return true;
}

/* Returns whether some went on. */
static bool
pass_entries(SessionPass *pass, int from)
{
	StateCursor *cursor = &pass->cursors[from];
	StateEntry *entry;
	uint32		at = 0;
	bool		moved = false;

	while ((entry = state_entry_next(cursor, &at)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		/* most go on in the next slice */
		if (from + 1 < pass->n && at + PASS_AHEAD < cursor->chunk->nslots)
			state_prefetch_slot(&pass->cursors[from + 1], cursor->slots[at + PASS_AHEAD].hash);
		if ((entry->key_meta & STATE_KEY_MEMBER) == 0)
			moved |= pass_entry(pass, from, entry, cursor->slots[at - 1].hash);
	}
	return moved;
}

typedef struct SessionKey
{
	uint32		hash;
	uint16		meta;
	char	   *key;
} SessionKey;

/* The same with max_span: entries are made in the pane, and move. */
static void
pass_cut_entries(SessionPass *pass, int from, MemoryContext cxt)
{
	StateCursor *cursor = &pass->cursors[from];
	SessionKey *keys = palloc_extended(sizeof(SessionKey) * Max(cursor->chunk->nentries, 1), MCXT_ALLOC_HUGE);
	StateEntry *entry;
	uint32		at = 0;
	uint32		n = 0;
	uint32		i;

	while ((entry = state_entry_next(cursor, &at)) != NULL)
	{
		SessionKey *key = &keys[n++];

		key->hash = cursor->slots[at - 1].hash;
		key->meta = entry->key_meta;
		key->key = palloc(Max(STATE_KEY_LEN(key->meta), 1));
		memcpy(key->key, state_entry_key(pass->op, entry), STATE_KEY_LEN(key->meta));
	}
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		entry = session_cut(pass->spec, cursor, state_entry_find(cursor, keys[i].hash, keys[i].key, keys[i].meta), cxt);
		(void) pass_entry(pass, from, entry, keys[i].hash);
		pfree(keys[i].key);
	}
	pfree(keys);
}

/* Values that DISTINCT has seen go where their groups went. */
static void
pass_members(SessionPass *pass, int from)
{
	StateCursor *cursor = &pass->cursors[from];
	StateEntry *entry;
	uint32		at = 0;

	while ((entry = state_entry_next(cursor, &at)) != NULL)
	{
		const char *key = state_entry_key(pass->op, entry);
		StateEntry *of;
		const SessionBounds *bounds;
		const char *group;
		uint16		meta;

		CHECK_FOR_INTERRUPTS();
		if ((entry->key_meta & STATE_KEY_MEMBER) == 0)
			continue;
		group = distinct_group(key, &meta);
		of = state_entry_find(cursor, state_hash(group, meta), group, meta);
		if (of == NULL)
			elog(ERROR, "a value of operator %d belongs to no group", pass->spec->number);
		bounds = session_bounds(pass->spec, of);
		if (bounds->first == SESSION_MOVED)
			fire_merge_member(pass->spec, &pass->cursors[bounds->last], key, entry->key_meta, cursor->slots[at - 1].hash, false);
	}
}

void
session_pass(OperatorSpec *spec, StateArea *area, int task, int ntasks, const OperatorTransaction *transaction)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc sessions", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	MemoryContext entry_cxt = AllocSetContextCreate(cxt, "streamproc session", ALLOCSET_DEFAULT_SIZES);
	SessionPass pass = {spec, &area->root->op[spec->number]};
	int			group;
	int			i;

	pass.panes = state_panes(area, spec->number, &pass.n);
	while (pass.nclosed < pass.n && pass.panes[pass.nclosed]->closed)
		pass.nclosed++;
	if (pass.nclosed > 0)
	{
		pass.cursors = palloc(sizeof(StateCursor) * pass.n);
		pass.begin = palloc(sizeof(TimestampTz) * pass.n);
		for (i = 0; i < pass.n; i++)
			pass.begin[i] = window_instant(&spec->scale, pass.panes[i]->id);
		/* no session of a closed pane goes on in later ones */
		while (pass.n > pass.nclosed &&
			   !session_goes_on(window_instant(&spec->scale, pass.panes[pass.nclosed - 1]->id + 1), pass.begin[pass.n - 1], spec->gap))
			pass.n--;
		if (spec->user_code)
			transaction->open();
		MemoryContextSwitchTo(cxt);
		for (group = task; group < STATE_GROUPS; group += ntasks)
		{
			FAULT_POINT("session-pass");
			for (i = 0; i < pass.n; i++)
				state_cursor_open(&pass.cursors[i], area, spec->number, &pass.panes[i]->chunk[group]);
			for (i = 0; i < pass.nclosed; i++)
				if (spec->max_span > 0)
					pass_cut_entries(&pass, i, entry_cxt);
				else if (pass_entries(&pass, i) && spec->has_distinct)
					pass_members(&pass, i);
		}
		if (spec->user_code)
			transaction->close(false);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

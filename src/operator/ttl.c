/*-------------------------------------------------------------------------
 *
 * ttl.c
 *	  Keys that are forgotten: option state_ttl.
 *
 * What is kept of a key for ever (a group without a window; the entry of window
 * functions and of DISTINCT ON) is forgotten when it has had no row for so long,
 * by event time.  Whether a row finds its key forgotten is asked when the row is applied,
 * so it does not depend on when the memory is freed:
 *
 *	  in the order of event time	the row comes ttl or more after the last one
 *	  as rows come					the row, or the watermark that rules the epoch,
 *									is ttl or more behind the last one
 *
 * Memory is freed behind that, after a cut: a hand goes round over the key groups of
 * an operator, EXPIRY_ROUNDS times while event time goes on by a ttl
 * (worker/keyed_ttl.c), and takes out the keys whose time is over.  None of them can be found by
 * a row any more.  So a key costs that it is looked at some times, and an event
 * nothing; and when recovery reads a segment that holds keys which had been taken
 * out, they are forgotten all the same.
 *
 * DISTINCT ON remembers a key from the row that was given out on; others
 * do not prolong it.  A version of an as-of join is forgotten by its own age:
 * a row finds none that is ttl or more older than the row (asof.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operator/over.h"

bool
operator_keeps_keys(const OperatorSpec *spec)
{
	return spec->over != NULL || spec->asof != NULL || (spec->window == OPERATOR_NO_WINDOW && spec->nkeys > 0);
}

/* Entries that have less than the operator's fixed part, and no blobs. */
static bool
is_bare(const OperatorSpec *spec, uint16 meta)
{
	/* of a value that DISTINCT has seen nothing is known but that; the states are its group's */
	if (meta & STATE_KEY_MEMBER)
		return spec->has_distinct;
	/* DISTINCT ON: of a key, that it was there, and when */
	return spec->over != NULL && spec->over->first_only;
}

uint32
operator_fixed_size(const OperatorSpec *spec, uint16 meta)
{
	if (!is_bare(spec, meta))
		return spec->fixed_size;
	return (meta & STATE_KEY_MEMBER) || spec->ttl == 0 ? 0 : sizeof(TimestampTz);
}

void
operator_state_init(const OperatorSpec *spec, StateArea *area)
{
	StateExpiry *expiry = &area->root->op[spec->number].expiry;

	state_operator_init(area, spec->number, spec->fixed_size, spec->blob, spec->nblobs);
	area->root->op[spec->number].leads = spec->over != NULL && spec->over->ntails > 0;
	expiry->ttl = spec->ttl;
	expiry->in_blob = spec->asof != NULL || (spec->over != NULL && !spec->over->first_only);
	/* the blob of a version begins with its event time */
	expiry->at = spec->asof != NULL ? 0 : expiry->in_blob ? offsetof(OverHead, last_at) : spec->over != NULL ? OVER_FIRST_AT : spec->last_at;
	if (is_bare(spec, 0))
		state_operator_bare_groups(area, spec->number, operator_fixed_size(spec, 0));
	if (is_bare(spec, STATE_KEY_MEMBER))
		state_operator_bare_members(area, spec->number);
}

/* When the row comes, as far as forgetting goes. */
static inline TimestampTz
time_of(const OperatorSpec *spec, const OperatorRow *row)
{
	TimestampTz at = DatumGetTimestampTz(row->values[spec->at_column]);

	return spec->watermark != DT_NOEND ? Max(at, spec->watermark) : at;
}

bool
ttl_begins_anew(const OperatorSpec *spec, const OperatorRow *row, TimestampTz *last)
{
	TimestampTz at = time_of(spec, row);

	if (at >= state_expires(*last, spec->ttl))
		return true;
	*last = Max(*last, at);
	return false;
}

/* As if it had just been made; its original keys stay, and so do the places of its blobs. */
static void
clear_states(const OperatorSpec *spec, StateCursor *cursor, StateEntry *entry)
{
	char	   *fixed = STATE_ENTRY_FIXED(entry);
	StateBlob	blobs[STATE_MAX_BLOBS];
	int			i;

	for (i = 0; i < spec->nblobs; i++)
	{
		memcpy(&blobs[i], fixed + spec->blob[i], sizeof(StateBlob));
		if (spec->exact_keys || spec->blob[i] != spec->originals_at)
			blobs[i].len = 0;
	}
	memset(fixed, 0, spec->fixed_size);
	for (i = 0; i < spec->nblobs; i++)
		memcpy(fixed + spec->blob[i], &blobs[i], sizeof(StateBlob));
}

void
ttl_row_comes(const OperatorSpec *spec, const OperatorRow *row, StateCursor *cursor, StateEntry *entry, bool fresh)
{
	TimestampTz *last = (TimestampTz *) (STATE_ENTRY_FIXED(entry) + spec->last_at);

	if (!fresh)
	{
		if (!ttl_begins_anew(spec, row, last))
			return;
		clear_states(spec, cursor, entry);
	}
	*last = time_of(spec, row);
}

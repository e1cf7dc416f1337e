/*-------------------------------------------------------------------------
 *
 * record.c
 *	  Is a record of a segment what its operator writes?
 *
 * The state room knows lengths of records and places of blobs; what stands in
 * the fixed part and in the blobs is read by the files of this room, without a
 * look at where it ends, as often as a row comes.  So recovery looks once.  The
 * checksum keeps what a disk did to a segment away from here; what is left are
 * segments that somebody has made, or a library that writes others than it
 * says: they are an error, and no crash later on.
 *
 * Looked at is whatever leads to another place: lengths, numbers of rows,
 * places of values, hashes.  Bytes of a value are those of its type, as in a
 * row of a table.  Where a record leads to another one (JoinNote, OverTail)
 * who goes there looks.
 *
 * Everything is compared with what the operator is, so that nothing has to be
 * asked of a catalog.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operator/join.h"

/* what is left to be looked at; "from" is NULL where something was wrong already */
typedef struct Bytes
{
	const char *from;
	const char *end;
} Bytes;

static inline bool
is_at_end(const Bytes *bytes)
{
	return bytes->from == bytes->end;
}

static inline const char *
take(Bytes *bytes, Size len)
{
	const char *at = bytes->from;

	if (at == NULL || (Size) (bytes->end - at) < len)
		return bytes->from = NULL;
	bytes->from += len;
	return at;
}

static inline void
take_column(Bytes *bytes, const OperatorSpec *spec, int column)
{
	if (bytes->from != NULL)
		bytes->from = state_datum_skip(bytes->from, bytes->end, spec->column_len[column]);
}

static void
take_columns(Bytes *bytes, const OperatorSpec *spec, const int *columns, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		take_column(bytes, spec, columns[i]);
}

/* The blob at "at" of the fixed part; empty where there is none. */
static Bytes
blob_of(const StateRecord *record, uint32 at)
{
	const StateBlob *blob = (const StateBlob *) (STATE_RECORD_FIXED(record) + at);
	const char *from = blob->offset != 0 ? state_blob_bytes((const char *) record, blob) : (const char *) (blob + 1);

	return (Bytes) {from, from + (blob->offset != 0 ? blob->len : 0)};
}

static const char *
key_of(const OperatorSpec *spec, const StateRecord *record)
{
	return STATE_RECORD_FIXED(record) + operator_fixed_size(spec, record->key_meta);
}

static bool
key_belongs(const StateRun *run, const char *key, uint16 meta)
{
	return state_group_of(state_hash(key, meta)) == run->group;
}

/* ---- groups ---- */

/* Does a pane of this number lie in the range of timestamps, roughly? */
static bool
slice_exists(const WindowScale *scale, int64 slice)
{
	uint64		most = scale->unit == WINDOW_USEC ? PG_INT64_MAX : scale->unit == WINDOW_DAY ? 110000000 : 3600000;

	/* slices may be named by the last of many */
	return (slice < 0 ? -(uint64) slice : (uint64) slice) <= most / scale->step + 4096;
}

static bool
transition_right(const TransitionState *state, const Transition *t)
{
	if ((state->flags & ~(uint64) (TRANSITION_HAS | TRANSITION_NULL | TRANSITION_NONE)) != 0)
		return false;
	if ((state->flags & (TRANSITION_HAS | TRANSITION_NULL)) != TRANSITION_HAS || (t->byval && !t->internal))
		return true;
	return state->u.blob.offset != 0 && (t->internal || t->len < 0 || state->u.blob.len == t->len) &&
		(t->internal || t->len != -2 || state->u.blob.len > 0);
}

/* Rows of an aggregate that keeps them: see buffered.c. */
static bool
buffered_right(const OperatorSpec *spec, const AggregateSpec *agg, Bytes bytes)
{
	while (bytes.from != NULL && !is_at_end(&bytes))
	{
		(void) take(&bytes, 1);
		take_columns(&bytes, spec, agg->args, agg->nargs);
	}
	return bytes.from != NULL;
}

/* A list of the first rows: see top.c. */
static bool
top_right(const OperatorSpec *spec, Bytes bytes)
{
	const TopSpec *top = spec->top;
	const char *begin = bytes.from;
	TopHead		head;
	uint32		last = 0;
	uint32		i;

	if (is_at_end(&bytes))
		return true;
	if (take(&bytes, sizeof(head)) == NULL)
		return false;
	memcpy(&head, begin, sizeof(head));
	/* of ranks there may be any number of rows */
	if (top->ranking == TOP_ROW_NUMBER && head.rows > (uint32) top->n)
		return false;
	for (i = 0; i < head.rows; i++)
	{
		Bytes		columns;
		TopRow		row;
		const char *at = take(&bytes, sizeof(row));

		if (at == NULL)
			return false;
		last = (uint32) (at - begin);
		memcpy(&row, at, sizeof(row));
		columns.from = bytes.from;
		if (row.size < sizeof(row) || take(&bytes, row.size - sizeof(row)) == NULL)
			return false;
		columns.end = bytes.from;
		(void) take(&columns, top_second_size(spec));
		take_columns(&columns, spec, top->kept, top->nkept);
		if (!is_at_end(&columns))
			return false;
	}
	return head.last == last && is_at_end(&bytes);
}

/* Rows of a session that may be cut: see session_span.c. */
static bool
session_rows_right(const OperatorSpec *spec, Bytes bytes)
{
	int			i;

	while (bytes.from != NULL && !is_at_end(&bytes))
	{
		const char *begin = bytes.from;

		for (i = spec->first_kept; i < spec->ncolumns; i++)
			if (i != spec->place_column)
				take_column(&bytes, spec, i);
		/* it has a time at least */
		if (bytes.from == begin)
			return false;
	}
	return bytes.from != NULL;
}

/* A value that DISTINCT has seen: see distinct.c. */
static const char *
check_member(const OperatorSpec *spec, const StateRun *run, const char *key, uint16 meta)
{
	Size		len = STATE_KEY_LEN(meta);
	const AggregateSpec *agg;
	const char *group;
	uint16		group_meta;

	if (!spec->has_distinct || len < 1 + sizeof(group_meta) || distinct_number(key) >= spec->naggs)
		return "a value of no group";
	agg = &spec->aggs[distinct_number(key)];
	group = distinct_group(key, &group_meta);
	len -= 1 + sizeof(group_meta);
	if (agg->kind != AGGREGATE_NATIVE || !agg->distinct || (group_meta & STATE_KEY_MEMBER) || STATE_KEY_LEN(group_meta) > len ||
		!key_belongs(run, group, group_meta))
		return "a value of no group";
	len -= STATE_KEY_LEN(group_meta);
	if (!state_key_fits(&agg->distinct_key, 1, group + STATE_KEY_LEN(group_meta), (uint16) len))
		return "a value that was seen, of another type";
	return NULL;
}

static const char *
check_group(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	const char *key = key_of(spec, record);
	const char *fixed = STATE_RECORD_FIXED(record);
	uint16		meta = record->key_meta;
	int			i;

	if (spec->window == OPERATOR_NO_WINDOW ? run->pane != STATE_PANE_ETERNAL : !slice_exists(&spec->scale, run->pane))
		return "a pane that the operator does not have";
	if (meta & STATE_KEY_MEMBER)
		return check_member(spec, run, key, meta);
	if (!key_belongs(run, key, meta))
		return "a key of another key group";
	if (spec->nsets > 0)
	{
		Size		len = STATE_KEY_LEN(meta);

		if (len == 0 || (uint8) key[len - 1] >= spec->nsets)
			return "a key of no grouping set";
		meta--;
	}
	if (!state_key_fits(spec->keys, spec->nkeys, key, meta))
		return "a key of other columns";
	if (!spec->exact_keys)
	{
		Bytes		originals = blob_of(record, spec->originals_at);

		for (i = 0; i < spec->nkeys; i++)
			take_column(&originals, spec, i);
		if (!is_at_end(&originals))
			return "a key whose values are damaged";
	}
	for (i = 0; i < spec->naggs; i++)
	{
		const AggregateSpec *agg = &spec->aggs[i];

		if ((agg->kind == AGGREGATE_TRANSITION && !transition_right((const TransitionState *) (fixed + agg->at), agg->transition)) ||
			(agg->kind == AGGREGATE_BUFFERED && !buffered_right(spec, agg, blob_of(record, agg->at))))
			return "an aggregate that is damaged";
	}
	if (spec->top != NULL && !top_right(spec, blob_of(record, spec->top->at)))
		return "a list of rows that is damaged";
	if (spec->max_span > 0 && !session_rows_right(spec, blob_of(record, spec->rows_at)))
		return "rows of a session that are damaged";
	/* what went into a later pane is not saved any more */
	if (spec->window == OPERATOR_SESSION && ((const SessionBounds *) (fixed + spec->bounds_at))->first == SESSION_MOVED)
		return "a session that has gone elsewhere";
	return NULL;
}

/* ---- rows that wait ---- */

/* A value by reference, in its row. */
static bool
ref_right(const WaitingRow *row, Size from, Datum at, int16 len)
{
	const char *p;
	Size		left;

	if (at < from || at >= row->size || at % MAXIMUM_ALIGNOF != 0)
		return false;
	p = (const char *) row + at;
	left = row->size - at;
	if (len > 0)
		return len <= left;
	if (len == -2)
		return memchr(p, '\0', left) != NULL;
	/* the header of a short one is a byte, that of a compressed one has its length, too */
	if (VARATT_IS_EXTERNAL(p) || (VARATT_IS_COMPRESSED(p) && (left < VARHDRSZ_COMPRESSED || VARSIZE(p) < VARHDRSZ_COMPRESSED)))
		return false;
	return VARATT_IS_SHORT(p) ? VARSIZE_SHORT(p) <= left : left >= VARHDRSZ && VARSIZE(p) >= VARHDRSZ && VARSIZE(p) <= left;
}

static bool
waiting_row_right(const OperatorSpec *spec, const StateRun *run, const WaitingRow *row, Size left)
{
	Size		at;
	int			i;

	if (left < offsetof(WaitingRow, nulls) || row->size > left || row->size % 8 != 0)
		return false;
	if (row->bare && (spec->over == NULL || !spec->over->first_only))
		return false;
	at = row->bare ? offsetof(WaitingRow, nulls) : offsetof(WaitingRow, values) + sizeof(Datum) * operator_row_values(spec);
	if (at + STATE_KEY_LEN(row->key_meta) > row->size || (row->key_meta & STATE_KEY_MEMBER))
		return false;
	/* whoever makes an entry for it goes by the hash */
	if (state_hash((const char *) row + at, row->key_meta) != row->hash || state_group_of(row->hash) != run->group)
		return false;
	at += MAXALIGN(STATE_KEY_LEN(row->key_meta));
	for (i = 0; i < spec->nrefs && !row->bare; i++)
	{
		Datum		value = row->values[spec->refs[i]];

		if ((row->nulls & (UINT64CONST(1) << spec->refs[i])) != 0 ? value != 0 : !ref_right(row, at, value, spec->column_len[spec->refs[i]]))
			return false;
	}
	return true;
}

static const char *
check_waiting(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	Bytes		bytes = blob_of(record, OVER_BLOB);
	const char *at;
	uint32		n;

	if (record->key_meta != (STATE_KEY_MEMBER | sizeof(uint32)))
		return "a block of rows without a number";
	at = take(&bytes, sizeof(n));
	if (at == NULL)
		return "a block of rows that is damaged";
	memcpy(&n, at, sizeof(n));
	for (; n > 0; n--)
	{
		const WaitingRow *row = (const WaitingRow *) bytes.from;

		if (!waiting_row_right(spec, run, row, bytes.end - bytes.from))
			return "a row that waits and is damaged";
		(void) take(&bytes, row->size);
	}
	return is_at_end(&bytes) ? NULL : "a block of rows that is damaged";
}

/* ---- window functions ---- */

static bool
take_row(const OperatorSpec *spec, Bytes *bytes)
{
	const OverSpec *over = spec->over;
	const char *at = take(bytes, OVER_BYTES_SIZE);
	OverBytes	row;
	Bytes		columns;

	if (at == NULL)
		return false;
	memcpy(&row, at, OVER_BYTES_SIZE);
	columns.from = bytes->from;
	if (take(bytes, row.len) == NULL)
		return false;
	columns.end = bytes->from;
	take_columns(&columns, spec, over->kept, over->nkept);
	return is_at_end(&columns);
}

/* What is known of a key: see OverHead. */
static bool
over_key_right(const OperatorSpec *spec, Bytes bytes)
{
	const OverSpec *over = spec->over;
	const char *begin = bytes.from;
	Size		len = bytes.end - begin;
	OverHead	head;
	OverRare	rare = {0};
	int64		i;

	if (take(&bytes, over->rows_at) == NULL)
		return false;
	memcpy(&head, begin, sizeof(head));
	if (over->rare)
		memcpy(&rare, begin + sizeof(head), sizeof(rare));
	/* its next row may go there */
	if (head.rows > 0 && over->span > 0 && (OVER_IS_WAITING(head.pane) || !slice_exists(&over->history, head.pane)))
		return false;
	if (rare.nfirst < 0 || rare.nfirst > over->first || head.nring > over->ring)
		return false;
	for (i = 0; i < rare.nfirst + head.nring; i++)
		if (!take_row(spec, &bytes))
			return false;
	if (!over->transitions)
		return is_at_end(&bytes);
	for (i = 0; i < over->nfunctions; i++)
	{
		const OverFunction *function = &over->functions[i];
		const Transition *t = function->agg.transition;
		TransitionState state;
		Size		at;

		if (function->kind != OVER_AGGREGATE || !function->running || function->agg.kind != AGGREGATE_TRANSITION)
			continue;
		memcpy(&state, begin + over->fixed_at + function->agg.at, sizeof(state));
		if (!transition_right(&state, t))
			return false;
		if ((state.flags & (TRANSITION_HAS | TRANSITION_NULL)) != TRANSITION_HAS || (t->byval && !t->internal))
			continue;
		at = (Size) state.u.blob.offset * 8 + sizeof(uint32);
		if (at > len || state.u.blob.len > len - at)
			return false;
	}
	return true;
}

static const char *
check_over(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	const OverSpec *over = spec->over;
	uint16		meta = record->key_meta;

	if (run->pane == STATE_PANE_ETERNAL)
	{
		if ((meta & STATE_KEY_MEMBER) || !key_belongs(run, key_of(spec, record), meta))
			return "a key of another key group";
		if (!over->first_only && !over_key_right(spec, blob_of(record, OVER_BLOB)))
			return "a key whose rows are damaged";
	}
	else
	{
		Bytes		bytes = blob_of(record, OVER_BLOB);
		const char *key = key_of(spec, record);

		if (over->span == 0 || !slice_exists(&over->history, run->pane))
			return "a pane that the operator does not have";
		if (!(meta & STATE_KEY_MEMBER) || STATE_KEY_LEN(meta) < sizeof(uint32) ||
			!key_belongs(run, key, (meta & STATE_KEY_NULLS) | (STATE_KEY_LEN(meta) - sizeof(uint32))))
			return "rows of no key";
		while (!is_at_end(&bytes))
			if (!take_row(spec, &bytes))
				return "rows of a key that are damaged";
	}
	return NULL;
}

/* ---- joins ---- */

static const char *
check_version(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	const AsofSpec *asof = spec->asof;
	Bytes		bytes = blob_of(record, OVER_BLOB);
	int			i;

	if (run->pane != STATE_PANE_ETERNAL)
		return "a pane that the operator does not have";
	if ((record->key_meta & STATE_KEY_MEMBER) || !key_belongs(run, key_of(spec, record), record->key_meta))
		return "a key of another key group";
	(void) take(&bytes, sizeof(TimestampTz));
	for (i = asof->first[1]; i < asof->first[1] + asof->n[1]; i++)
		take_column(&bytes, spec, i);
	return is_at_end(&bytes) ? NULL : "a version that is damaged";
}

static const char *
check_notes(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	uint16		meta = record->key_meta & ~STATE_KEY_MEMBER;
	Bytes		bytes = blob_of(record, OVER_BLOB);
	int			side = record->key_meta & STATE_KEY_MEMBER ? 1 : 0;
	const char *at;

	if (!key_belongs(run, key_of(spec, record), meta))
		return "a key of another key group";
	while (!is_at_end(&bytes))
	{
		JoinNote	note;

		if ((at = take(&bytes, sizeof(note))) == NULL)
			return "a note of a row that is damaged";
		memcpy(&note, at, sizeof(note));
		if (OVER_IS_WAITING(note.pane) || JOIN_PANE_SIDE(note.pane) != side)
			return "a note of a row of the other side";
	}
	return NULL;
}

static const char *
check_join(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	const JoinSpec *join = spec->join;
	const char *key = key_of(spec, record);
	uint16		meta = record->key_meta;
	Bytes		bytes = blob_of(record, OVER_BLOB);
	WindowScale slices = {WINDOW_USEC, join->step};
	int			side = JOIN_PANE_SIDE(run->pane);
	uint32		last;
	int			i;

	if (!slice_exists(&slices, JOIN_PANE_SLICE(run->pane)))
		return "a pane that the operator does not have";
	memcpy(&last, STATE_RECORD_FIXED(record) + sizeof(StateBlob), sizeof(last));
	if (last > 0 && ((meta & STATE_KEY_MEMBER) || STATE_KEY_LEN(meta) + sizeof(last) > STATE_KEY_MAX))
		return "rows of no key";
	if (meta & STATE_KEY_MEMBER)
	{
		if (STATE_KEY_LEN(meta) < sizeof(last))
			return "rows of no key";
		/* of the others no key with nulls is kept */
		meta = STATE_KEY_LEN(meta) - sizeof(last);
	}
	if (!key_belongs(run, key, meta))
		return "a key of another key group";
	while (!is_at_end(&bytes))
	{
		const char *at = take(&bytes, JOIN_ROW_SIZE);
		Bytes		columns;
		JoinRow		row;

		if (at == NULL)
			return "rows of a key that are damaged";
		memcpy(&row, at, JOIN_ROW_SIZE);
		columns.from = bytes.from;
		if (take(&bytes, JOIN_LEN(row)) == NULL)
			return "rows of a key that are damaged";
		columns.end = bytes.from;
		(void) take(&columns, join->place_size);
		for (i = join->first[side]; i < join->first[side] + join->n[side]; i++)
			take_column(&columns, spec, i);
		if (!is_at_end(&columns))
			return "rows of a key that are damaged";
	}
	return NULL;
}

/* ---- all of them ---- */

const char *
operator_record_wrong(const OperatorSpec *spec, const StateRun *run, const StateRecord *record)
{
	if (!operator_gives_rows(spec))
		return check_group(spec, run, record);
	if (OVER_IS_WAITING(run->pane))
	{
		if (!spec->waits || !waiting_pane_exists(run->pane))
			return "a pane that the operator does not have";
		return spec->join != NULL ? check_notes(spec, run, record) : check_waiting(spec, run, record);
	}
	return spec->over != NULL ? check_over(spec, run, record) : spec->join != NULL ? check_join(spec, run, record) : check_version(spec, run, record);
}

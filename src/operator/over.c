/*-------------------------------------------------------------------------
 *
 * over.c
 *	  Window functions over the rows of a key, one row after another.
 *
 * What is known of a key stands in its entry (OverHead): counters, the first
 * and the last rows, states of running aggregates.  It is taken out, the rows of the
 * batch are answered, and it is put back.  Rows of frames by time stand in
 * the history (over_history.c).
 *
 * Rows come in the order of event time, those of one instant (peers) together:
 * a RANGE frame ends with the last of them.  With ordering => 'arrival' each row
 * comes alone, and may come behind a later one: frames by time are then looked
 * through for it, and running states are made anew when the order is
 * restored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "operator/over.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

OverEmit	over_emit = NULL;
OverRefuse	over_refuse = NULL;
bool		over_filtering = false;

/* ---- the key at work ---- */

OverKey *
over_begin(OperatorSpec *spec, StateArea *area, int group, TimestampTz watermark)
{
	OverSpec   *over = spec->over;
	OverKey    *key = over->work;

	if (key == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(spec->cxt);

		key = palloc0(sizeof(OverKey));
		key->spec = spec;
		key->over = over;
		key->area = area;
		key->cxt = spec->cxt;
		key->work = palloc0(over->rows_at);
		key->head = (OverHead *) key->work;
		key->rare = over->rare ? (OverRare *) (key->work + sizeof(OverHead)) : &key->no_rare;
		key->tails = (OverTail *) (key->work + over->tails_at);
		key->fixed = key->work + over->fixed_at;
		key->ring_size = 64;
		key->ring = palloc(sizeof(int) * key->ring_size);
		key->first_at = palloc(sizeof(int) * Max(over->first, 1));
		key->values = palloc(sizeof(Datum) * Max(over->nkept, 1));
		key->isnull = palloc(sizeof(bool) * Max(over->nkept, 1));
		key->results = palloc(sizeof(Datum) * Max(over->nfunctions, 1));
		key->result_null = palloc(sizeof(bool) * Max(over->nfunctions, 1));
		key->low = palloc(sizeof(TimestampTz) * Max(over->nframes, 1));
		key->ordered = palloc(sizeof(bool) * Max(over->nframes, 1));
		key->chunk_key = palloc(STATE_KEY_MAX);
		initStringInfo(&key->rows);
		initStringInfo(&key->first);
		initStringInfo(&key->bytes);
		initStringInfo(&key->out);
		initStringInfo(&key->copy);
		key->row_cxt = AllocSetContextCreate(spec->cxt, "streamproc row", ALLOCSET_SMALL_SIZES);
		key->walk_cxt = AllocSetContextCreate(spec->cxt, "streamproc row of a frame", ALLOCSET_SMALL_SIZES);
		key->slice_begin = DT_NOEND;
		key->slice_end = DT_NOBEGIN;
		over->work = key;
		MemoryContextSwitchTo(old);
	}
	key->group = group;
	key->watermark = watermark;
	state_cursor_open(&key->keys, area, spec->number, &state_pane(area, spec->number, STATE_PANE_ETERNAL, true)->chunk[group]);
	if (over->span > 0)
		history_open(key);
	return key;
}

static inline void
remember_place(OverKey *key)
{
	if (key->nring == key->ring_size)
		key->ring = repalloc_huge(key->ring, sizeof(int) * (key->ring_size *= 2));
	key->ring[key->nring++] = key->rows.len;
}

/* Where the n rows begin; returns behind them. */
static const char *
take_rows(StringInfo into, int *at, int n, const char *p)
{
	const char *end = p;
	int			i;

	for (i = 0; i < n; i++)
	{
		OverBytes	row;

		memcpy(&row, end, OVER_BYTES_SIZE);
		at[i] = (int) (end - p);
		end += OVER_BYTES_SIZE + row.len;
	}
	if (n > 0)
		appendBinaryStringInfo(into, p, (int) (end - p));
	return end;
}

static void
forget_rows(OverKey *key)
{
	resetStringInfo(&key->rows);
	resetStringInfo(&key->first);
	key->nring = 0;
}

/* Nothing is known of the key. */
static void
begin_anew(OverKey *key)
{
	int			i;

	memset(key->work, 0, key->over->rows_at);
	memset(key->rare, 0, sizeof(OverRare));
	key->head->last_at = key->rare->disorder = DT_NOBEGIN;
	for (i = 0; i < key->over->ntails; i++)
		key->tails[i].pane = PG_INT64_MIN + 1;
}

/* "from": the blob that the running states stand in. */
static void
begin_transitions(OverKey *key, const char *from)
{
	OverSpec   *over = key->over;
	int			i;

	for (i = 0; i < over->nfunctions; i++)
		if (over->functions[i].running && over->functions[i].agg.kind == AGGREGATE_TRANSITION && over->functions[i].kind == OVER_AGGREGATE)
			transition_begin(key->spec, &over->functions[i].agg, key->fixed, from);
}

/* The entry of the key, its blob into the memory where the key is worked on. */
static StateEntry *
take_out(OverKey *key)
{
	OverSpec   *over = key->over;
	StateEntry *entry;
	StateBlob  *blob;
	bool		found;

	forget_rows(key);
	resetStringInfo(&key->copy);
	entry = state_entry_make(&key->keys, key->hash, key->key, key->key_meta, &found);
	state_entry_mark(&key->keys, entry);
	blob = (StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB);
	if (!found || blob->len == 0)
		begin_anew(key);
	else
	{
		const char *p = state_blob_bytes(key->keys.data, blob);

		if (over->transitions)
			appendBinaryStringInfo(&key->copy, p, (int) blob->len);
		memcpy(key->work, p, over->rows_at);
		if (!over->rare)
			key->no_rare.disorder = DT_NOBEGIN;
		p = take_rows(&key->first, key->first_at, (int) key->rare->nfirst, p + over->rows_at);
		while (key->ring_size < key->head->nring)
			key->ring = repalloc_huge(key->ring, sizeof(int) * (key->ring_size *= 2));
		(void) take_rows(&key->rows, key->ring, key->head->nring, p);
		key->nring = key->head->nring;
		if (unlikely(entry->given))
		{
			entry->given = false;
			history_check_tails(key);
		}
	}
	if (over->transitions)
		begin_transitions(key, key->copy.data);
	return entry;
}

/* Running states of changing length go behind what stands in the buffer; where they are is said in front. */
static void
write_transitions(OverKey *key, StringInfo to)
{
	OperatorSpec *spec = key->spec;
	OverSpec   *over = key->over;
	int			i;

	for (i = 0; i < over->nfunctions; i++)
	{
		OverFunction *function = &over->functions[i];
		TransitionState *state = (TransitionState *) (key->fixed + function->agg.at);
		const char *bytes;
		Size		len;

		if (function->kind != OVER_AGGREGATE || !function->running || function->agg.kind != AGGREGATE_TRANSITION)
			continue;
		bytes = transition_bytes(spec, &function->agg, state, &len);
		if (bytes == NULL)
			continue;
		/* as blobs stand in a record */
		appendStringInfoSpaces(to, (8 - to->len % 8) % 8);
		state->u.blob.offset = (uint32) to->len / 8;
		state->u.blob.len = (uint32) len;
		appendBinaryStringInfo(to, (const char *) &state->u.blob.len, sizeof(uint32));
		appendBinaryStringInfo(to, bytes, (int) len);
		ResetExprContext(spec->temp_context);
	}
	memcpy(to->data + over->fixed_at, key->fixed, over->fixed_size);
}

static void
put_back(OverKey *key, StateEntry *entry)
{
	OverSpec   *over = key->over;
	StringInfo	to = &key->bytes;
	int			kept = (int) Min(key->nring, over->ring);
	int			from = kept > 0 ? key->ring[key->nring - kept] : key->rows.len;

	key->head->nring = (uint16) kept;
	if (!over->transitions)
	{
		char	   *place = state_blob_place(&key->keys, &entry, OVER_BLOB, (Size) over->rows_at + key->first.len + (key->rows.len - from));

		memcpy(place, key->work, over->rows_at);
		memcpy(place + over->rows_at, key->first.data, key->first.len);
		memcpy(place + over->rows_at + key->first.len, key->rows.data + from, key->rows.len - from);
		return;
	}
	resetStringInfo(to);
	appendBinaryStringInfo(to, key->work, (int) over->rows_at);
	appendBinaryStringInfo(to, key->first.data, key->first.len);
	appendBinaryStringInfo(to, key->rows.data + from, key->rows.len - from);
	write_transitions(key, to);
	(void) state_blob_set(&key->keys, entry, OVER_BLOB, to->data, to->len);
	ReScanExprContext(key->spec->group_context);
}

/* ---- rows ---- */

/* The columns that are kept, as bytes, behind the last rows. */
static void
remember_row(OverKey *key, const OverRow *row)
{
	OverSpec   *over = key->over;
	OverBytes	head = {row->at, 0};
	int			at = key->rows.len;
	int			i;

	remember_place(key);
	appendBinaryStringInfo(&key->rows, (const char *) &head, OVER_BYTES_SIZE);
	for (i = 0; i < over->nkept; i++)
	{
		int			column = over->kept[i];

		state_datum_write(&key->rows, row->values[column], (row->nulls & (UINT64CONST(1) << column)) != 0,
						  key->spec->column_len[column], key->spec->column_byval[column]);
	}
	head.len = (uint32) (key->rows.len - at - OVER_BYTES_SIZE);
	memcpy(key->rows.data + at, &head, OVER_BYTES_SIZE);
	if (key->rare->nfirst < over->first)
	{
		key->first_at[key->rare->nfirst++] = key->first.len;
		appendBinaryStringInfo(&key->first, key->rows.data + at, key->rows.len - at);
	}
}

/* Those of a row that comes, into values[]: they stay where they are. */
static inline void
take_columns(OverKey *key, const OverRow *row)
{
	OverSpec   *over = key->over;
	int			i;

	for (i = 0; i < over->nkept; i++)
	{
		key->values[i] = row->values[over->kept[i]];
		key->isnull[i] = (row->nulls & (UINT64CONST(1) << over->kept[i])) != 0;
	}
}

/* Columns of a row that was kept, into values[]; what is by reference goes into this memory. */
static void
decode(OverKey *key, const char *columns, MemoryContext cxt)
{
	OverSpec   *over = key->over;
	MemoryContext old = MemoryContextSwitchTo(cxt);
	int			i;

	for (i = 0; i < over->nkept; i++)
	{
		int			column = over->kept[i];

		columns = state_datum_read(columns, &key->values[i], &key->isnull[i], key->spec->column_len[column],
								   key->spec->column_byval[column], key->spec->column_align[column]);
	}
	MemoryContextSwitchTo(old);
}

static inline const char *
ring_columns(const OverKey *key, int number)
{
	return key->rows.data + key->ring[number] + OVER_BYTES_SIZE;
}

/* One column of a kept row as the result of a function. */
static void
column_result(OverKey *key, int f, const char *columns, int column)
{
	decode(key, columns, key->row_cxt);
	key->results[f] = key->values[key->over->kept_at[column]];
	key->result_null[f] = key->isnull[key->over->kept_at[column]];
}

/* ---- aggregates ---- */

/* The row in values[] joins the state; "fixed": of native ones. */
static void
add_row(OverKey *key, OverFunction *function, OperatorSpec *contexts, char *state)
{
	const AggregateSpec *agg = &function->agg;
	const int  *at = key->over->kept_at;
	Datum		values[FUNC_MAX_ARGS];
	bool		isnull[FUNC_MAX_ARGS];
	int			i;

	if (agg->filter >= 0 && (key->isnull[at[agg->filter]] || !DatumGetBool(key->values[at[agg->filter]])))
		return;
	if (agg->kind == AGGREGATE_NATIVE)
	{
		if (agg->nargs == 0)
			native_update(agg, state, (Datum) 0);
		else if (!key->isnull[at[agg->args[0]]])
			native_update(agg, state, key->values[at[agg->args[0]]]);
		return;
	}
	for (i = 0; i < agg->nargs; i++)
	{
		values[i] = key->values[at[agg->args[i]]];
		isnull[i] = key->isnull[at[agg->args[i]]];
	}
	transition_step(contexts, &function->agg, values, isnull);
}

/* The row in values[] leaves the state; false: it must be made anew. */
static bool
take_row(OverKey *key, OverFunction *function)
{
	const AggregateSpec *agg = &function->agg;
	const int  *at = key->over->kept_at;

	if (agg->filter >= 0 && (key->isnull[at[agg->filter]] || !DatumGetBool(key->values[at[agg->filter]])))
		return true;
	if (agg->nargs == 0)
		return native_take_out(agg, key->fixed + agg->at, (Datum) 0);
	return key->isnull[at[agg->args[0]]] || native_take_out(agg, key->fixed + agg->at, key->values[at[agg->args[0]]]);
}

static inline bool
is_running_of(const OverFunction *function, int frame)
{
	return function->kind == OVER_AGGREGATE && function->running && function->frame == frame;
}

/* Rows of a frame, one after another, from where the walk stands. */
typedef struct Walk
{
	OverTail	at;				/* RANGE: place in the history */
	TimestampTz low;			/* rows before are not in the frame, */
	TimestampTz high;			/* nor are those behind */
	int			ring;			/* ROWS: number among the last rows; RANGE: of those that are not in the history */
	int			ring_end;
} Walk;

static const char *
walk(OverKey *key, const OverFrame *frame, Walk *walk)
{
	OverBytes	row;
	const char *columns;

	while (!frame->rows && history_next(key, &walk->at, &row, &columns))
		if (row.at >= walk->low && row.at <= walk->high)
			return columns;
	return walk->ring < walk->ring_end ? ring_columns(key, walk->ring++) : NULL;
}

/* ---- frames by time ---- */

static inline OverTail *
tail_of(const OverKey *key, int f)
{
	return &key->tails[key->over->frames[f].tail];
}

/* Where the row begins that history_next() has passed. */
static OverTail
place_of_row(const OverTail *behind, const OverBytes *row)
{
	OverTail	at = *behind;

	at.offset -= OVER_BYTES_SIZE + row->len;
	at.at = row->at;
	return at;
}

/* Running states of the frame from the rows at its tail on; the next one that comes is of "now". */
static void
make_anew(OverKey *key, int f, TimestampTz now)
{
	OverSpec   *over = key->over;
	OverTail   *tail = tail_of(key, f);
	OverTail	at = *tail;
	OverBytes	row;
	const char *columns;
	bool		first = true;
	int			i;

	for (i = 0; i < over->nfunctions; i++)
		if (is_running_of(&over->functions[i], f))
			memset(key->fixed + over->functions[i].agg.at, 0, over->functions[i].agg.size);
	tail->at = now;
	while (history_next(key, &at, &row, &columns))
	{
		CHECK_FOR_INTERRUPTS();
		if (first)
			*tail = place_of_row(&at, &row);
		first = false;
		decode(key, columns, key->walk_cxt);
		for (i = 0; i < over->nfunctions; i++)
			if (is_running_of(&over->functions[i], f))
				add_row(key, &over->functions[i], key->spec, key->fixed + over->functions[i].agg.at);
		MemoryContextReset(key->walk_cxt);
	}
	tail->running = 1;
}

/* The frame goes on to "low": rows before it leave.  Only where they stand in the order of event time. */
static void
advance(OverKey *key, int f, TimestampTz low, TimestampTz now)
{
	OverSpec   *over = key->over;
	OverTail   *tail = tail_of(key, f);
	OverTail	next = *tail;
	OverBytes	row;
	const char *columns;
	int			i;

	/* mostly nobody leaves, and nothing has to be looked at */
	if (tail->running && tail->at >= low)
		return;
	if (history_lost(key, tail))
		tail->running = 0;
	while (history_next(key, &next, &row, &columns))
	{
		bool		running = tail->running != 0;

		CHECK_FOR_INTERRUPTS();
		if (row.at >= low)
		{
			*tail = place_of_row(&next, &row);
			tail->running = running;
			return;
		}
		if (running)
		{
			decode(key, columns, key->walk_cxt);
			for (i = 0; i < over->nfunctions; i++)
				if (is_running_of(&over->functions[i], f) && !take_row(key, &over->functions[i]))
					running = false;
			MemoryContextReset(key->walk_cxt);
		}
		*tail = next;
		tail->running = running;
		if (history_skip(key, tail, low))
			return;
		next = *tail;
	}
	tail->at = now;
}

/* ---- answering ---- */

/* What is made on the way goes with the row. */
static void
native_result(OverKey *key, int f, const char *state)
{
	MemoryContext old = MemoryContextSwitchTo(key->row_cxt);

	key->results[f] = native_final(&key->over->functions[f].agg, state, &key->result_null[f]);
	MemoryContextSwitchTo(old);
}

static inline void
running_result(OverKey *key, int f)
{
	AggregateSpec *agg = &key->over->functions[f].agg;

	if (agg->kind == AGGREGATE_NATIVE)
		native_result(key, f, key->fixed + agg->at);
	else
		key->results[f] = transition_result(key->spec, agg, NULL, NULL, &key->result_null[f]);
}

/* Of the rows from there on. */
static void
walked_result(OverKey *key, int f, Walk at)
{
	OverSpec   *over = key->over;
	OverFunction *function = &over->functions[f];
	AggregateSpec *agg = &function->agg;
	int64		words[8];
	char	   *state = (char *) words;
	const char *columns;

	Assert(agg->kind != AGGREGATE_NATIVE || agg->size <= sizeof(words));
	memset(words, 0, sizeof(words));
	if (agg->kind == AGGREGATE_TRANSITION)
		transition_fresh(over->scratch, agg);
	while ((columns = walk(key, &over->frames[function->frame], &at)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		decode(key, columns, key->walk_cxt);
		add_row(key, function, over->scratch, state);
		MemoryContextReset(key->walk_cxt);
	}
	if (agg->kind == AGGREGATE_NATIVE)
		native_result(key, f, state);
	else
		key->results[f] = transition_result(over->scratch, agg, NULL, NULL, &key->result_null[f]);
}

/* The n-th row of the frame, NULL: it has not so many. */
static const char *
nth_row(OverKey *key, const OverFunction *function, Walk at, int64 rows)
{
	const OverFrame *frame = &key->over->frames[function->frame];
	int64		n = function->kind == OVER_NTH_VALUE ? function->n : 1;
	const char *columns = NULL;

	if (frame->unbounded)
		return n <= rows && n <= key->rare->nfirst ? key->first.data + key->first_at[n - 1] + OVER_BYTES_SIZE : NULL;
	while (n-- > 0 && (columns = walk(key, frame, &at)) != NULL)
		;
	return columns;
}

/* Where the frame of a row begins: its number among the last rows, its time. */
static Walk
frame_from(const OverKey *key, int f, int here, TimestampTz at)
{
	const OverFrame *frame = &key->over->frames[f];
	Walk		from = {0};

	if (frame->rows)
	{
		from.ring = (int) Max(here - frame->nrows, 0);
		from.ring_end = here + 1;
	}
	else if (frame->kept)
	{
		/* out of order it may begin before the tail, with rows that have left since; no row stands before its slice */
		from.at = key->ordered[f] ? *tail_of(key, f) : (OverTail) {window_slice(&key->over->history, key->low[f])};
		from.low = key->low[f];
		from.high = at;
		from.ring = key->apart;
		from.ring_end = key->apart_end;
	}
	return from;
}

/* The row with the results of the functions, where the condition lets it through. */
static void
emit(OverKey *key, const OverRow *row)
{
	OperatorSpec *spec = key->spec;
	OverSpec   *over = key->over;
	OverRecord	record = {0, (uint32) spec->number};
	int			i;

	if (spec->filter != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(key->row_cxt);
		bool		passes = over_row_passes(spec, row->values, row->nulls, key->results, key->result_null);

		MemoryContextSwitchTo(old);
		if (!passes)
			return;
	}
	resetStringInfo(&key->out);
	appendBinaryStringInfo(&key->out, (const char *) &record, sizeof(record));
	place_write(spec, row->part, row->offset, row->values, &key->out);
	for (i = 0; i < spec->noutput; i++)
	{
		int			n = spec->output[i].number;

		/* the place of the message ends here */
		if (spec->output[i].kind == OUTPUT_COLUMN)
			state_datum_write(&key->out, row->values[n], n == spec->place_column || (row->nulls & (UINT64CONST(1) << n)) != 0,
							  spec->column_len[n], spec->column_byval[n]);
		else
			state_datum_write(&key->out, key->results[n], key->result_null[n], over->functions[n].len, over->functions[n].byval);
	}
	appendStringInfoSpaces(&key->out, (8 - key->out.len % 8) % 8);
	record.size = (uint32) key->out.len;
	memcpy(key->out.data, &record, sizeof(record));
	over_emit(key->out.data, key->out.len);
}

/* Rows of one instant: the next ones of the key. */
static void
answer_peers(OverKey *key, const OverRow *peers, int n)
{
	OverSpec   *over = key->over;
	OverHead   *head = key->head;
	OverRare   *rare = key->rare;
	TimestampTz at = peers[0].at;
	bool		in_order;
	bool		new_instant;
	int			before;			/* number of the first peer among the last rows */
	TimestampTz *low = key->low;
	bool	   *ordered = key->ordered;
	int			f,
				i,
				p;

	if (head->rows > 0 && ttl_is_over(key->spec, head->last_at, at, key->watermark))
	{
		forget_rows(key);
		begin_anew(key);
		begin_transitions(key, NULL);
	}
	if (head->rows == 0 && over->arrival && over->span > 0 && key->spec->ttl > 0)
		history_forget(key);
	in_order = head->rows == 0 || at >= head->last_at;
	new_instant = head->rows == 0 || at != head->last_at;
	before = key->nring;

	if (!in_order)
		rare->disorder = Max(rare->disorder, head->last_at);
	/* frames by time: who leaves, who comes */
	for (f = 0; f < over->nframes; f++)
	{
		ordered[f] = false;
		if (!over->frames[f].kept)
			continue;
		low[f] = over_frame_begin(&over->frames[f], at);
		ordered[f] = in_order && (rare->disorder == DT_NOBEGIN || low[f] > rare->disorder);
		if (!ordered[f])
			tail_of(key, f)->running = 0;
		else
		{
			advance(key, f, low[f], at);
			if (!tail_of(key, f)->running)
				make_anew(key, f, at);
		}
	}
	key->apart = key->apart_end = before;
	for (p = 0; p < n; p++)
	{
		remember_row(key, &peers[p]);
		/* peers have the same slice: all of them, or none */
		if (over->span > 0 &&
			!history_append(key, at, key->rows.data + key->ring[before + p], (uint32) (key->rows.len - key->ring[before + p])))
			key->apart_end++;
		take_columns(key, &peers[p]);
		for (i = 0; i < over->nfunctions; i++)
		{
			OverFunction *function = &over->functions[i];
			OverFrame  *frame = &over->frames[function->frame];

			/* RANGE: all peers, before any of them is answered */
			if (function->kind == OVER_AGGREGATE && function->running && !frame->rows && (frame->unbounded || ordered[function->frame]))
				add_row(key, function, key->spec, key->fixed + function->agg.at);
		}
		head->rows++;
	}
	if (in_order)
		head->last_at = at;
	if (new_instant)
	{
		rare->dense_rank++;
		rare->rank = head->rows - n + 1;
	}

	for (p = 0; p < n; p++)
	{
		int			here = before + p;	/* number among the last rows */
		int64		number = head->rows - n + p + 1;

		for (i = 0; i < over->nfunctions; i++)
		{
			OverFunction *function = &over->functions[i];
			OverFrame  *frame = &over->frames[function->frame];
			const char *columns;

			key->result_null[i] = false;
			switch (function->kind)
			{
				case OVER_ROW_NUMBER:
					key->results[i] = Int64GetDatum(number);
					break;
				case OVER_RANK:
					key->results[i] = Int64GetDatum(rare->rank);
					break;
				case OVER_DENSE_RANK:
					key->results[i] = Int64GetDatum(rare->dense_rank);
					break;
				case OVER_LAG:
					if (function->n < number && function->n <= here)
						column_result(key, i, ring_columns(key, here - (int) function->n), function->value);
					else if (function->otherwise >= 0)
						column_result(key, i, ring_columns(key, here), function->otherwise);
					else
					{
						key->results[i] = (Datum) 0;
						key->result_null[i] = true;
					}
					break;
				case OVER_LAST_VALUE:
					column_result(key, i, ring_columns(key, frame->rows ? here : before + n - 1), function->value);
					break;
				case OVER_FIRST_VALUE:
				case OVER_NTH_VALUE:
					columns = nth_row(key, function, frame_from(key, function->frame, here, at), frame->rows ? number : head->rows);
					if (columns != NULL)
						column_result(key, i, columns, function->value);
					else
					{
						key->results[i] = (Datum) 0;
						key->result_null[i] = true;
					}
					break;
				case OVER_AGGREGATE:
					if (function->running && frame->rows)
					{
						take_columns(key, &peers[p]);
						add_row(key, function, key->spec, key->fixed + function->agg.at);
						if (!frame->unbounded && here > frame->nrows && number > frame->nrows + 1)
						{
							decode(key, ring_columns(key, here - (int) frame->nrows - 1), key->walk_cxt);
							if (!take_row(key, function))
							{
								int			r;

								memset(key->fixed + function->agg.at, 0, function->agg.size);
								for (r = here - (int) frame->nrows; r <= here; r++)
								{
									decode(key, ring_columns(key, r), key->walk_cxt);
									add_row(key, function, key->spec, key->fixed + function->agg.at);
								}
							}
						}
					}
					if (function->running && (frame->rows || frame->unbounded || ordered[function->frame]))
						running_result(key, i);
					else
						walked_result(key, i, frame_from(key, function->frame, here, at));
					break;
			}
		}
		emit(key, &peers[p]);
		MemoryContextReset(key->walk_cxt);
		MemoryContextReset(key->row_cxt);
		if (over->made_anew)
			ReScanExprContext(over->scratch->group_context);
	}
}

/* The first row of a key is given out, and no other. */
static void
answer_first(OverKey *key, const OverRow *row)
{
	StateEntry *entry;
	TimestampTz *given_at;
	bool		found;

	entry = state_entry_make(&key->keys, key->hash, key->key, key->key_meta, &found);
	given_at = (TimestampTz *) (STATE_ENTRY_FIXED(entry) + OVER_FIRST_AT);
	if (found && !ttl_is_over(key->spec, key->spec->ttl > 0 ? *given_at : 0, row->at, key->watermark))
		return;
	if (key->spec->ttl > 0)
	{
		*given_at = row->at;
		if (key->over->arrival && key->watermark != DT_NOEND)
			*given_at = Max(*given_at, key->watermark);
		state_entry_mark(&key->keys, entry);
	}
	if (row->values == NULL)
		return;
	key->results[0] = Int64GetDatum(1);
	key->result_null[0] = false;
	emit(key, row);
	MemoryContextReset(key->row_cxt);
}

void
over_answer(OverKey *key, const OverRow *rows, int n)
{
	StateEntry *entry;
	int			i,
				k;

	key->hash = rows[0].hash;
	key->key_meta = rows[0].key_meta;
	key->key = rows[0].key;
	if (key->over->first_only)
	{
		/* others may follow only where the key is forgotten between them */
		for (i = 0; i < (key->spec->ttl > 0 ? n : 1); i++)
			answer_first(key, &rows[i]);
		return;
	}
	history_begin(key, rows[0].chunk_hash);
	entry = take_out(key);
	for (i = 0; i < n; i = k)
	{
		CHECK_FOR_INTERRUPTS();
		for (k = i + 1; k < n && !key->over->arrival && rows[k].at == rows[i].at; k++)
			;
		answer_peers(key, rows + i, k - i);
	}
	put_back(key, entry);
}

/* ---- as rows come ---- */

typedef struct ArrivedRow
{
	uint64		order;			/* by key, within a key as they came */
	const OperatorRow *row;
} ArrivedRow;

/* rows of a key group whose slots are asked for before they are sorted */
#define ARRIVED_AHEAD	64

#define ST_SORT sort_arrived
#define ST_ELEMENT_TYPE ArrivedRow
#define ST_COMPARE(a, b) ((a)->order < (b)->order ? -1 : (a)->order > (b)->order)
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

void
over_apply_group(OperatorRows *rows, StateArea *area, int group)
{
	OperatorSpec *spec = rows->spec;
	ArrivedRow *sorted;
	OverRow    *run;
	OperatorRow *row;
	OverKey    *key;
	int64		n = 0;
	int64		i;
	int			k;

	if (!spec->over->arrival)
	{
		over_wait(rows, area, group);
		return;
	}
	for (row = rows->first[group]; row != NULL; row = row->next)
		n++;
	sorted = palloc_extended(sizeof(ArrivedRow) * n, MCXT_ALLOC_HUGE);
	run = palloc_extended(sizeof(OverRow) * n, MCXT_ALLOC_HUGE);
	key = over_begin(spec, area, group, rows->watermark);
	n = 0;
	for (row = rows->first[group]; row != NULL; row = row->next, n++)
	{
		/* those of a usual batch come while they are sorted: of few rows each is in a page of its own */
		if (n < ARRIVED_AHEAD)
			over_prefetch(key, row->hash, true);
		sorted[n].order = over_order(row->hash, n);
		sorted[n].row = row;
	}
	sort_arrived(sorted, n);
	for (i = 0; i < n; i += k)
	{
		for (k = 0; i + k < n && (k == 0 || operator_compare_keys(sorted[i].row, sorted[i + k].row) == 0); k++)
		{
			row = unconstify(OperatorRow *, sorted[i + k].row);
			if (i + k + 2 * OVER_AHEAD < n)
				over_prefetch(key, sorted[i + k + 2 * OVER_AHEAD].row->hash, true);
			if (i + k + OVER_AHEAD < n)
				over_prefetch(key, sorted[i + k + OVER_AHEAD].row->hash, false);
			run[k] = (OverRow) {row->hash, 0, row->key_meta, row->key, DatumGetTimestampTz(row->values[spec->at_column]), row->nulls, row->values};
		}
		over_answer(key, run, k);
	}
	pfree(sorted);
	pfree(run);
}

/*-------------------------------------------------------------------------
 *
 * part_over.c
 *	  operator/over.c, and its private ways to take a key out and to put it back.
 *
 *-------------------------------------------------------------------------
 */
#include "../../../src/operator/over.c"

#include "segments.h"

/* Rows of one key are remembered, as if they had been answered. */
void
part_over_write(int group, const OverRow *rows, int n)
{
	OperatorSpec *spec = &fuzz_specs[rows[0].values == NULL ? OP_FIRST : rows[0].chunk_hash];
	OverKey    *key = over_begin(spec, fuzz_area, group, DT_NOBEGIN);
	OverSpec   *over = spec->over;
	StateEntry *entry;
	int			i,
				f;

	key->hash = rows[0].hash;
	key->key_meta = rows[0].key_meta;
	key->key = rows[0].key;
	history_begin(key, 0);
	entry = take_out(key);
	for (i = 0; i < n; i++)
	{
		remember_row(key, &rows[i]);
		if (over->span > 0)
			history_append(key, rows[i].at, key->rows.data + key->ring[key->nring - 1], (uint32) (key->rows.len - key->ring[key->nring - 1]));
		key->head->rows++;
		key->head->last_at = rows[i].at;
		for (f = 0; f < over->nfunctions; f++)
		{
			Transition *t = over->functions[f].agg.transition;

			t->value = rows[i].values[f == 0 ? 1 : 3];
			t->isnull = (rows[i].nulls & (UINT64CONST(1) << (f == 0 ? 1 : 3))) != 0;
		}
	}
	/* the first row of the frames: that which came last */
	for (f = 0; f < over->ntails; f++)
		key->tails[f] = (OverTail) {key->head->pane, rows[0].at, key->head->chunk, 0, 1};
	put_back(key, entry);
}

/* The key is taken out, each of its rows looked at, and those in the history behind its tails. */
void
part_over_read(int group, const char *bytes, uint16 meta)
{
	for (int number = OP_OVER; number <= OP_ARRIVAL; number++)
	{
		OperatorSpec *spec = &fuzz_specs[number];
		StatePane  *pane = state_pane(fuzz_area, number, STATE_PANE_ETERNAL, false);
		StateCursor cursor;
		OverKey    *key;
		StateEntry *entry;
		int			i;

		if (pane == NULL)
			continue;
		state_cursor_open(&cursor, fuzz_area, number, &pane->chunk[group]);
		if (state_entry_find(&cursor, state_hash(bytes, meta), bytes, meta) == NULL)
			continue;
		key = over_begin(spec, fuzz_area, group, DT_NOBEGIN);
		key->hash = state_hash(bytes, meta);
		key->key_meta = meta;
		key->key = bytes;
		history_begin(key, 0);
		entry = take_out(key);
		for (i = 0; i < key->nring; i++)
			decode(key, ring_columns(key, i), CurrentMemoryContext);
		for (i = 0; i < (int) key->rare->nfirst; i++)
			decode(key, key->first.data + key->first_at[i] + OVER_BYTES_SIZE, CurrentMemoryContext);
		for (i = 0; i < spec->over->nfunctions; i++)
		{
			const Transition *t = spec->over->functions[i].agg.transition;

			touch_datum(t->value, t->isnull, t->len, t->byval);
		}
		for (i = 0; i < spec->over->ntails; i++)
		{
			OverTail	tail = key->tails[i];
			OverBytes	row;
			const char *columns;

			while (tail.running && !history_lost(key, &tail) && history_next(key, &tail, &row, &columns))
				decode(key, columns, CurrentMemoryContext);
		}
		put_back(key, entry);
	}
}

/*-------------------------------------------------------------------------
 *
 * part_release.c
 *	  operator/over_release.c, and its private way to read rows that waited.
 *
 *-------------------------------------------------------------------------
 */
#include "../../../src/operator/over_release.c"

#include "segments.h"

/* All that waited in the key group of the pane, and what its rows lead to. */
void
part_release(OperatorSpec *spec, StatePane *pane, int group)
{
	int64		n;
	ReleasedRow *rows = collect(spec, fuzz_area, &pane, 1, group, &n);
	int64		i;
	int			c;

	for (i = 0; i < n; i++)
	{
		OverRow		row = as_over_row(spec, rows[i].row, 0);

		touch(row.key, STATE_KEY_LEN(row.key_meta));
		for (c = spec->first_kept; c < spec->ncolumns && row.values != NULL; c++)
			if (c != spec->place_column)
				touch_datum(row.values[c], (row.nulls & (UINT64CONST(1) << c)) != 0, spec->column_len[c], spec->column_byval[c]);
		if (spec->asof != NULL)
		{
			AsofWork   *work = asof_begin(spec, fuzz_area, group);

			asof_answer(work, &row, 1);
			asof_end(work);
		}
	}
}

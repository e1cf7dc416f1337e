/*-------------------------------------------------------------------------
 *
 * part_wait.c
 *	  operator/over_wait.c, and its private way to write rows that wait.
 *
 *-------------------------------------------------------------------------
 */
#include "../../../src/operator/over_wait.c"

#include "segments.h"

/* Rows of one key group into one block. */
void
part_wait(OperatorSpec *spec, StatePane *pane, int group, OperatorRow **rows, int n, bool bare)
{
	ComingRow	coming[8];
	Size		bytes = offsetof(WaitingBlock, rows);
	StateCursor cursor;
	int			i;

	for (i = 0; i < n && i < lengthof(coming); i++)
	{
		coming[i] = (ComingRow) {rows[i], DatumGetTimestampTz(rows[i]->values[spec->at_column]), waiting_size(spec, rows[i], bare), i, bare};
		bytes += coming[i].size;
	}
	state_cursor_open(&cursor, fuzz_area, spec->number, &pane->chunk[group]);
	write_block(spec, &cursor, coming, i, bytes);
}

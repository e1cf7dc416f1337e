/*-------------------------------------------------------------------------
 *
 * part_session.c
 *	  operator/session_span.c, and its private way to read the rows of a session.
 *
 *-------------------------------------------------------------------------
 */
#include "../../../src/operator/session_span.c"

#include "segments.h"

void
part_session(OperatorSpec *spec, const char *bytes, Size len)
{
	int			n;
	OperatorRow **rows = read_rows(spec, bytes, len, &n);
	int			i,
				c;

	for (i = 0; i < n; i++)
		for (c = spec->first_kept; c < spec->ncolumns; c++)
			if (c != spec->place_column)
				touch_datum(rows[i]->values[c], (rows[i]->nulls & (UINT64CONST(1) << c)) != 0, spec->column_len[c], spec->column_byval[c]);
}

/*-------------------------------------------------------------------------
 *
 * over_first.c
 *	  What conditions let through, and when it is known.
 *
 * Of DISTINCT ON the result is that there is a first row: a condition on it looks at
 * nothing but columns, so it is known when a row comes whether it would be given out.
 * One that would not has to wait all the same, as it may be the first one of its key,
 * but of it nothing has to be kept but the key (WaitingRow.bare).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "operator/over.h"

bool
over_row_passes(OperatorSpec *spec, const Datum *values, uint64 nulls, const Datum *results, const bool *result_null)
{
	TupleTableSlot *slot = spec->slot;
	int			i;

	if (spec->filter == NULL)
		return true;
	ExecClearTuple(slot);
	for (i = 0; i < spec->noutput; i++)
	{
		int			n = spec->output[i].number;

		if (spec->output[i].kind == OUTPUT_COLUMN)
		{
			slot->tts_values[i] = values[n];
			slot->tts_isnull[i] = n == spec->place_column || (nulls & (UINT64CONST(1) << n)) != 0;
		}
		else
		{
			slot->tts_values[i] = results[n];
			slot->tts_isnull[i] = result_null[n];
		}
	}
	ExecStoreVirtualTuple(slot);
	return over_filter_passes(spec, spec->filter);
}

bool
first_passes(OperatorSpec *spec, const OperatorRow *row)
{
	Datum		number = Int64GetDatum(1);
	bool		isnull = false;

	/* what changes with time is asked when the row is given out */
	return spec->filter == NULL || !spec->over->filter_immutable ||
		over_row_passes(spec, row->values, row->nulls, &number, &isnull);
}

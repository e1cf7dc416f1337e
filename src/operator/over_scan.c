/*-------------------------------------------------------------------------
 *
 * over_scan.c
 *	  Rows that over.c has answered, on their way into the output plan.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operator/over.h"

const char *
over_row_read(const OperatorSpec *spec, const char *from, Datum *values, bool *isnull)
{
	int			i;

	for (i = 0; i < spec->noutput; i++)
	{
		int			n = spec->output[i].number;

		if (spec->output[i].kind == OUTPUT_COLUMN)
			from = state_datum_read(from, &values[i], &isnull[i], spec->column_len[n], spec->column_byval[n], spec->column_align[n]);
		else if (spec->output[i].kind == OUTPUT_NOTHING)
		{
			values[i] = (Datum) 0;
			isnull[i] = true;
		}
		else
		{
			const OverFunction *function = &spec->over->functions[n];

			from = state_datum_read(from, &values[i], &isnull[i], function->len, function->byval, function->align);
		}
	}
	return from;
}

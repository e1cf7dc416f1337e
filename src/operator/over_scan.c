/*-------------------------------------------------------------------------
 *
 * over_scan.c
 *	  Rows that over.c and others have answered, on their way into the output plan, or into
 *	  the row query of another operator.
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

void
output_row_read(const OperatorSpec *spec, const char *record, int64 number, ItemPointer place, Datum *values, bool *isnull)
{
	const char *columns = record + sizeof(OverRecord) + sizeof(RowPlace) * spec->given_places;

	(void) (spec->join != NULL ? join_row_read : over_row_read) (spec, columns, values, isnull);
	if (number < 0 || spec->place_output < 0)
		return;
	ItemPointerSet(place, (BlockNumber) number, FirstOffsetNumber);
	values[spec->place_output] = PointerGetDatum(place);
	isnull[spec->place_output] = false;
}

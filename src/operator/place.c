/*-------------------------------------------------------------------------
 *
 * place.c
 *	  Where rows come from: by that rows of one instant are told apart.
 *
 * A row of a topic has the place of its message.  What an operator gives to another
 * one whose rows have an order (window functions, first rows) has the places of what it
 * was made of: a row that was answered that of itself, a pair of a join those of both of its
 * rows, the left one first.  They stand in front of the row (OverRecord), and do not go
 * through the row query of the other operator: that carries the number of the record,
 * where it carries the ctid of a message else (place_column), and place_find() looks them up.
 *
 * A row has its first place in OperatorRow (part, offset), a second one behind its
 * columns (operator_row_values()).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/join.h"
#include "operator/operator.h"

void
place_put_second(const OperatorSpec *spec, Datum *values, const RowPlace *place)
{
	values[spec->ncolumns] = Int32GetDatum(place->part);
	values[spec->ncolumns + 1] = Int64GetDatum(place->offset);
}

RowPlace
place_second(const OperatorSpec *spec, const Datum *values)
{
	return (RowPlace) {DatumGetInt64(values[spec->ncolumns + 1]), DatumGetInt32(values[spec->ncolumns]), 0};
}

int
place_compare(const RowPlace *x, const RowPlace *y)
{
	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

int
place_compare_second(const OperatorSpec *spec, const Datum *x, const Datum *y)
{
	RowPlace	a = place_second(spec, x);
	RowPlace	b = place_second(spec, y);

	return place_compare(&a, &b);
}

void
place_write(const OperatorSpec *spec, int32 part, int64 offset, const Datum *values, StringInfo into)
{
	RowPlace	place = {offset, part, 0};

	if (spec->given_places == 0)
		return;
	appendBinaryStringInfo(into, (const char *) &place, sizeof(place));
	if (spec->given_places == 1)
		return;
	place = place_second(spec, values);
	appendBinaryStringInfo(into, (const char *) &place, sizeof(place));
}

void
place_plan(OperatorSpec *spec, const OperatorSpec *below, const OperatorSpec *above)
{
	spec->row_places = below != NULL ? below->given_places : 1;
	spec->given_places = above == NULL || (above->over == NULL && above->top == NULL) ? 0 : spec->join != NULL ? 2 : Max(spec->row_places, 1);
	if (spec->join != NULL)
		join_keep_places(spec);
}

void
place_find(OperatorRows *rows, const OperatorSpec *below, const char *records, int64 n)
{
	OperatorSpec *spec = rows->spec;
	const char **record;
	OperatorRow *row;
	int64		i;
	int			g;

	if (below->given_places == 0)
		return;
	record = palloc_extended(sizeof(char *) * n, MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
	{
		record[i] = records;
		records += ((const OverRecord *) records)->size;
	}
	for (g = 0; g < STATE_GROUPS; g++)
		for (row = rows->first[g]; row != NULL; row = row->next)
		{
			const RowPlace *places;

			/* the number of the record, as output_row_read() has written it */
			i = (int64) (row->place >> 16);
			if (row->place == 0 || i >= n)
				elog(ERROR, "a row of operator %d does not come from what was passed on to it", spec->number);
			places = (const RowPlace *) (record[i] + sizeof(OverRecord));
			row->part = places[0].part;
			row->offset = places[0].offset;
			if (spec->row_places > 1)
				place_put_second(spec, row->values, &places[1]);
		}
	pfree(record);
}

/*-------------------------------------------------------------------------
 *
 * late_row.c
 *	  Rows of streamproc.stored_late_row: what came after its window was
 *	  closed.
 *
 * A row is stored in the transaction whose position passes it, once for each
 * window that did not count it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

enum LateColumn
{
	COL_PIPELINE = 1,
	COL_ID,
	COL_OPERATOR,
	COL_TOPIC,
	COL_PARTITION,
	COL_OFFSET,
	COL_EVENT_TIME,
	COL_WATERMARK,
	COL_WINDOW_START,
	COL_WINDOW_END,
	COL_ROW,
	COL_AT
};
#define LATE_NATTS COL_AT

static void
put_time(Datum *values, bool *isnull, int col, TimestampTz time)
{
	values[col - 1] = TimestampTzGetDatum(time);
	isnull[col - 1] = TIMESTAMP_IS_NOBEGIN(time);
}

void
catalog_late_row_insert(const char *pipeline, const LateRow *row)
{
	Relation	rel = catalog_open("stored_late_row", LATE_NATTS, RowExclusiveLock);
	Datum		values[LATE_NATTS] = {0};
	bool		isnull[LATE_NATTS] = {0};
	NameData	name;

	namestrcpy(&name, pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_ID - 1] = Int64GetDatum(nextval_internal(catalog_relation("stored_id"), false));
	values[COL_OPERATOR - 1] = Int32GetDatum(row->operator);
	if (row->topic != NULL && row->topic[0] != '\0')
	{
		values[COL_TOPIC - 1] = CStringGetTextDatum(row->topic);
		values[COL_PARTITION - 1] = Int32GetDatum(row->partition);
		values[COL_OFFSET - 1] = Int64GetDatum(row->offset);
	}
	else
		isnull[COL_TOPIC - 1] = isnull[COL_PARTITION - 1] = isnull[COL_OFFSET - 1] = true;
	put_time(values, isnull, COL_EVENT_TIME, row->event_time);
	put_time(values, isnull, COL_WATERMARK, row->watermark);
	put_time(values, isnull, COL_WINDOW_START, row->window_start);
	put_time(values, isnull, COL_WINDOW_END, row->window_end);
	values[COL_ROW - 1] = row->row;
	isnull[COL_ROW - 1] = row->row == (Datum) 0;
	values[COL_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, isnull));
	table_close(rel, NoLock);
}

int64
catalog_late_rows_delete(const char *pipeline, TimestampTz before)
{
	CatalogScan scan;
	HeapTuple	tuple;
	int64		n = 0;

	catalog_scan_begin(&scan, "stored_late_row", LATE_NATTS, pipeline, 1, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		bool		isnull;
		TimestampTz at = DatumGetTimestampTz(heap_getattr(tuple, COL_AT, RelationGetDescr(scan.rel), &isnull));
		TM_FailureData tmfd;

		if (at >= before)
			continue;
		/* somebody else who deletes them may have been faster */
		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) == TM_Ok)
			n++;
	}
	catalog_scan_end(&scan);
	CommandCounterIncrement();
	return n;
}

/*-------------------------------------------------------------------------
 *
 * segment.c
 *	  Rows of streamproc.state_segment: the saved state of pipelines.
 *
 * A segment is written, and those that it makes needless are deleted, in the
 * transaction that moves the position of the pipeline: state, position and
 * results are of one moment.  Its bytes are as they are given: the column is
 * STORAGE EXTERNAL, compression would cost more than all the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

enum SegmentColumn
{
	COL_PIPELINE = 1,
	COL_EPOCH,
	COL_NUMBER,
	COL_FIRST_EPOCH,
	COL_HORIZON,
	COL_DATA
};
#define SEGMENT_NATTS COL_DATA

/* the columns before "data", with its length word */
#define SEGMENT_FIXED	(MAXALIGN(SizeofHeapTupleHeader) + NAMEDATALEN + 8 + 8 + 8 + 8 + VARHDRSZ)
/* left of a page: line pointers of rows that were there before stay until VACUUM */
#define SEGMENT_SPARE	64

StaticAssertDecl(SEGMENT_FIXED + SEGMENT_BYTES + SEGMENT_SPARE <= MaxHeapTupleSize,
				 "a segment does not fit a page");

static HeapTuple
segment_to_tuple(Relation rel, const char *pipeline, const SegmentRow *segment)
{
	Datum		values[SEGMENT_NATTS];
	bool		isnull[SEGMENT_NATTS] = {0};
	NameData	name;
	HeapTuple	tuple;

	namestrcpy(&name, pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_EPOCH - 1] = Int64GetDatum(segment->epoch);
	values[COL_NUMBER - 1] = Int32GetDatum(segment->number);
	values[COL_FIRST_EPOCH - 1] = Int64GetDatum(segment->first_epoch);
	values[COL_HORIZON - 1] = TimestampTzGetDatum(segment->horizon);
	values[COL_DATA - 1] = catalog_bytea(segment->data, segment->len);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);
	/* it may be large */
	pfree(DatumGetPointer(values[COL_DATA - 1]));
	return tuple;
}

void
catalog_segments_insert(const char *pipeline, const SegmentRow *segments, int n)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc segments", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = catalog_open("state_segment", SEGMENT_NATTS, RowExclusiveLock);
	HeapTuple  *tuples = palloc(sizeof(HeapTuple) * n);
	int			i;

	for (i = 0; i < n; i++)
		tuples[i] = segment_to_tuple(rel, pipeline, &segments[i]);
	catalog_insert_many(rel, tuples, n);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* A walk over the segments of a pipeline in their order: all, or those of one epoch. */
static void
scan_begin(CatalogScan *scan, const char *pipeline, const int64 *epoch, LOCKMODE lockmode)
{
	if (epoch != NULL)
		ScanKeyInit(&scan->keys[1], COL_EPOCH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(*epoch));
	catalog_scan_begin(scan, "state_segment", SEGMENT_NATTS, pipeline, epoch != NULL ? 2 : 1, lockmode);
}

static void
segment_from_tuple(SegmentRow *segment, Relation rel, HeapTuple tuple, bool with_data)
{
	Datum		values[SEGMENT_NATTS];
	bool		isnull[SEGMENT_NATTS];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	segment->epoch = DatumGetInt64(values[COL_EPOCH - 1]);
	segment->number = DatumGetInt32(values[COL_NUMBER - 1]);
	segment->first_epoch = DatumGetInt64(values[COL_FIRST_EPOCH - 1]);
	segment->horizon = DatumGetTimestampTz(values[COL_HORIZON - 1]);
	segment->len = toast_raw_datum_size(values[COL_DATA - 1]) - VARHDRSZ;
	segment->data = NULL;
	if (with_data)
	{
		/* a copy, moved to the beginning of its memory, so that it is MAXALIGNed */
		char	   *data = (char *) DatumGetByteaPCopy(values[COL_DATA - 1]);

		segment->data = memmove(data, VARDATA(data), segment->len);
	}
}

static int
read_segments(const char *pipeline, const int64 *epoch, bool with_data,
			  void (*each) (const SegmentRow *segment, void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "streamproc segment", ALLOCSET_DEFAULT_SIZES);
	CatalogScan scan;
	HeapTuple	tuple;
	int			n = 0;

	scan_begin(&scan, pipeline, epoch, AccessShareLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		SegmentRow	segment;

		MemoryContextSwitchTo(cxt);
		segment_from_tuple(&segment, scan.rel, tuple, with_data);
		MemoryContextSwitchTo(caller);
		each(&segment, arg);
		MemoryContextReset(cxt);
		n++;
	}
	catalog_scan_end(&scan);
	MemoryContextDelete(cxt);
	return n;
}

void
catalog_segments_read(const char *pipeline, bool with_data,
					  void (*each) (const SegmentRow *segment, void *arg), void *arg)
{
	(void) read_segments(pipeline, NULL, with_data, each, arg);
}

bool
catalog_segments_exist(const char *pipeline)
{
	CatalogScan scan;
	bool		result;

	scan_begin(&scan, pipeline, NULL, AccessShareLock);
	result = HeapTupleIsValid(catalog_scan_next(&scan));
	catalog_scan_end(&scan);
	return result;
}

static void
missing_segments(const char *pipeline, int64 epoch, int found, int expected)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("epoch " INT64_FORMAT " of the state of pipeline \"%s\" has %d segments where %d were written",
					epoch, pipeline, found, expected)));
}

void
catalog_epoch_read(const char *pipeline, int64 epoch, int nsegments,
				   void (*each) (const SegmentRow *segment, void *arg), void *arg)
{
	int			n = read_segments(pipeline, &epoch, true, each, arg);

	if (n != nsegments)
		missing_segments(pipeline, epoch, n, nsegments);
}

void
catalog_epoch_delete(const char *pipeline, int64 epoch, int nsegments, CatalogPages *pages)
{
	CatalogScan scan;
	HeapTuple	tuple;
	TM_FailureData tmfd;
	int			n = 0;

	scan_begin(&scan, pipeline, &epoch, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		uint32		block = ItemPointerGetBlockNumber(&tuple->t_self);

		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) != TM_Ok)
			continue;
		n++;
		catalog_pages_add(pages, &block, 1);
	}
	catalog_scan_end(&scan);
	if (n != nsegments)
		missing_segments(pipeline, epoch, n, nsegments);
}

int64
catalog_segments_delete(const char *pipeline)
{
	CatalogScan scan;
	HeapTuple	tuple;
	int64		n = 0;

	scan_begin(&scan, pipeline, NULL, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		TM_FailureData tmfd;

		/* a checkpoint that was committed while we waited for it may have been faster */
		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) == TM_Ok)
			n++;
	}
	catalog_scan_end(&scan);
	CommandCounterIncrement();
	return n;
}

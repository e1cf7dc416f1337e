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
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
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

static Relation
segment_open(LOCKMODE lockmode)
{
	Oid			relid = get_relname_relid("state_segment", get_namespace_oid(CATALOG_SCHEMA, false));
	Relation	rel = OidIsValid(relid) ? table_open(relid, lockmode) : NULL;

	if (rel == NULL || RelationGetNumberOfAttributes(rel) != SEGMENT_NATTS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and SQL objects of streamproc are of different versions"),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return rel;
}

void
catalog_segment_insert(const char *pipeline, const SegmentRow *segment)
{
	Relation	rel = segment_open(RowExclusiveLock);
	Datum		values[SEGMENT_NATTS];
	bool		isnull[SEGMENT_NATTS] = {0};
	NameData	name;
	HeapTuple	tuple;
	bytea	   *data;

	if (segment->len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a segment of state of pipeline \"%s\" has %zu bytes", pipeline, segment->len)));
	data = palloc(VARHDRSZ + segment->len);
	SET_VARSIZE(data, VARHDRSZ + segment->len);
	memcpy(VARDATA(data), segment->data, segment->len);
	namestrcpy(&name, pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_EPOCH - 1] = Int64GetDatum(segment->epoch);
	values[COL_NUMBER - 1] = Int32GetDatum(segment->number);
	values[COL_FIRST_EPOCH - 1] = Int64GetDatum(segment->first_epoch);
	values[COL_HORIZON - 1] = TimestampTzGetDatum(segment->horizon);
	values[COL_DATA - 1] = PointerGetDatum(data);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);
	/* megabytes, and a checkpoint has many of them */
	pfree(data);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

/* A walk over the segments of a pipeline in their order. */
typedef struct SegmentScan
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	SysScanDesc scan;
	NameData	name;
	ScanKeyData keys[3];
} SegmentScan;

/* all, or the one of "only" */
static void
scan_begin(SegmentScan *scan, const char *pipeline, const SegmentRow *only, LOCKMODE lockmode)
{
	scan->rel = segment_open(lockmode);
	scan->index = index_open(RelationGetPrimaryKeyIndex(scan->rel), AccessShareLock);
	scan->snapshot = RegisterSnapshot(GetLatestSnapshot());
	namestrcpy(&scan->name, pipeline);
	ScanKeyInit(&scan->keys[0], COL_PIPELINE, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&scan->name));
	if (only != NULL)
	{
		ScanKeyInit(&scan->keys[1], COL_EPOCH, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(only->epoch));
		ScanKeyInit(&scan->keys[2], COL_NUMBER, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(only->number));
	}
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, scan->snapshot, only ? 3 : 1, scan->keys);
}

static HeapTuple
scan_next(SegmentScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	return systable_getnext_ordered(scan->scan, ForwardScanDirection);
}

static void
scan_end(SegmentScan *scan)
{
	systable_endscan_ordered(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, NoLock);
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

void
catalog_segments_read(const char *pipeline, bool with_data,
					  void (*each) (const SegmentRow *segment, void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "streamproc segment", ALLOCSET_DEFAULT_SIZES);
	SegmentScan scan;
	HeapTuple	tuple;

	scan_begin(&scan, pipeline, NULL, AccessShareLock);
	while (HeapTupleIsValid(tuple = scan_next(&scan)))
	{
		SegmentRow	segment;

		MemoryContextSwitchTo(cxt);
		segment_from_tuple(&segment, scan.rel, tuple, with_data);
		MemoryContextSwitchTo(caller);
		each(&segment, arg);
		MemoryContextReset(cxt);
	}
	scan_end(&scan);
	MemoryContextDelete(cxt);
}

bool
catalog_segments_exist(const char *pipeline)
{
	SegmentScan scan;
	bool		result;

	scan_begin(&scan, pipeline, NULL, AccessShareLock);
	result = HeapTupleIsValid(scan_next(&scan));
	scan_end(&scan);
	return result;
}

void
catalog_segment_read(const char *pipeline, int64 epoch, int32 number,
					 void (*each) (const SegmentRow *segment, void *arg), void *arg)
{
	SegmentRow	segment = {.epoch = epoch, .number = number};
	SegmentScan scan;
	HeapTuple	tuple;

	scan_begin(&scan, pipeline, &segment, AccessShareLock);
	tuple = scan_next(&scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("segment " INT64_FORMAT ".%d of the state of pipeline \"%s\" is not there any more",
						epoch, number, pipeline)));
	segment_from_tuple(&segment, scan.rel, tuple, true);
	each(&segment, arg);
	pfree(unconstify(char *, segment.data));
	scan_end(&scan);
}

void
catalog_segment_delete(const char *pipeline, int64 epoch, int32 number)
{
	SegmentRow	only = {.epoch = epoch, .number = number};
	SegmentScan scan;
	HeapTuple	tuple;
	TM_FailureData tmfd;

	scan_begin(&scan, pipeline, &only, RowExclusiveLock);
	tuple = scan_next(&scan);
	if (!HeapTupleIsValid(tuple) ||
		heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("segment " INT64_FORMAT ".%d of the state of pipeline \"%s\" is not there any more",
						epoch, number, pipeline)));
	scan_end(&scan);
}

int64
catalog_segments_delete(const char *pipeline)
{
	SegmentScan scan;
	HeapTuple	tuple;
	int64		n = 0;

	scan_begin(&scan, pipeline, NULL, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = scan_next(&scan)))
	{
		TM_FailureData tmfd;

		/* a checkpoint that was committed while we waited for it may have been faster */
		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) == TM_Ok)
			n++;
	}
	scan_end(&scan);
	CommandCounterIncrement();
	return n;
}

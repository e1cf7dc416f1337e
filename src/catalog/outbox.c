/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Rows of streamproc.outbox, messages that are to be sent, and of
 *	  streamproc.publisher_position, how far they are.
 *
 * Segments are written in the transaction that moves the position of the
 * input, by the process that moves it: one stream of segments for each row of
 * task_position, numbered without a gap.  They are deleted by the publisher,
 * in the transaction that says that they were sent.
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
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum OutboxColumn
{
	COL_PIPELINE = 1,
	COL_SEGMENT,
	COL_STREAM,
	COL_MESSAGES,
	COL_WRITTEN,
	COL_ENDS_COMMIT,
	COL_DATA
};
#define OUTBOX_NATTS COL_DATA

enum PublisherColumn
{
	PUB_PIPELINE = 1,
	PUB_PUBLISHED,
	PUB_SEGMENTS,
	PUB_STREAMS,
	PUB_WRITER,
	PUB_PREVIOUS_WRITER,
	PUB_RECONCILE
};
#define PUBLISHER_NATTS PUB_RECONCILE

/* ---- segments ---- */

static HeapTuple
segment_to_tuple(Relation rel, const char *pipeline, const OutboxSegment *segment)
{
	Datum		values[OUTBOX_NATTS];
	bool		isnull[OUTBOX_NATTS] = {0};
	NameData	name;

	namestrcpy(&name, pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_SEGMENT - 1] = Int64GetDatum(segment->number);
	values[COL_STREAM - 1] = Int32GetDatum(segment->stream);
	values[COL_MESSAGES - 1] = Int32GetDatum(segment->nmessages);
	values[COL_WRITTEN - 1] = TimestampTzGetDatum(segment->written);
	values[COL_ENDS_COMMIT - 1] = BoolGetDatum(segment->ends_commit);
	values[COL_DATA - 1] = PointerGetDatum(segment->data - VARHDRSZ);
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}

void
catalog_outbox_insert(const char *pipeline, const OutboxSegment *segments, int n)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc outbox", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Relation	rel = catalog_open("outbox", OUTBOX_NATTS, RowExclusiveLock);
	HeapTuple  *tuples = palloc(sizeof(HeapTuple) * n);
	int			i;

	for (i = 0; i < n; i++)
		tuples[i] = segment_to_tuple(rel, pipeline, &segments[i]);
	catalog_insert_many(rel, tuples, n);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static void
segment_from_tuple(OutboxSegment *segment, Relation rel, HeapTuple tuple, bool with_data)
{
	Datum		values[OUTBOX_NATTS];
	bool		isnull[OUTBOX_NATTS];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	segment->stream = DatumGetInt32(values[COL_STREAM - 1]);
	segment->number = DatumGetInt64(values[COL_SEGMENT - 1]);
	segment->nmessages = DatumGetInt32(values[COL_MESSAGES - 1]);
	segment->written = DatumGetTimestampTz(values[COL_WRITTEN - 1]);
	segment->ends_commit = DatumGetBool(values[COL_ENDS_COMMIT - 1]);
	segment->len = toast_raw_datum_size(values[COL_DATA - 1]) - VARHDRSZ;
	segment->data = NULL;
	if (with_data)
		segment->data = VARDATA(DatumGetByteaPCopy(values[COL_DATA - 1]));
}

/* A walk over the segments of a stream behind one of them, or of all streams (-1). */
static void
scan_begin(CatalogScan *scan, const char *pipeline, int stream, int64 after, LOCKMODE lockmode)
{
	ScanKeyInit(&scan->keys[1], COL_STREAM, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(stream));
	ScanKeyInit(&scan->keys[2], COL_SEGMENT, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	catalog_scan_begin(scan, "outbox", OUTBOX_NATTS, pipeline, stream < 0 ? 1 : 3, lockmode);
}

List *
catalog_outbox_read(const char *pipeline, int stream, int64 after, Size most, Size whole_most)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	List	   *segments = NIL;
	Size		bytes = 0;
	bool		whole = true;

	scan_begin(&scan, pipeline, stream, after, AccessShareLock);
	/* transactions that are large are not cut, but for those that are far too large */
	while ((bytes < most || (!whole && bytes < whole_most)) && HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		OutboxSegment *segment = palloc(sizeof(OutboxSegment));

		segment_from_tuple(segment, scan.rel, tuple, true);
		if (segment->number != after + 1)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("segment " INT64_FORMAT " of stream %d of the outbox of pipeline \"%s\" is missing",
							after + 1, stream, pipeline)));
		after = segment->number;
		bytes += segment->len;
		whole = segment->ends_commit;
		segments = lappend(segments, segment);
	}
	catalog_scan_end(&scan);
	return segments;
}

void
catalog_outbox_look(const char *pipeline, OutboxTotals *totals)
{
	CatalogScan	scan;
	HeapTuple	tuple;

	memset(totals, 0, sizeof(*totals));
	totals->oldest = DT_NOEND;
	scan_begin(&scan, pipeline, -1, 0, AccessShareLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		OutboxSegment segment;

		segment_from_tuple(&segment, scan.rel, tuple, false);
		if (segment.stream < 0 || segment.stream >= SHMEM_MAX_TASKS)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the outbox of pipeline \"%s\" has a stream %d", pipeline, segment.stream)));
		totals->last[segment.stream] = segment.number;
		totals->messages += segment.nmessages;
		totals->bytes += segment.len;
		totals->oldest = Min(totals->oldest, segment.written);
	}
	catalog_scan_end(&scan);
}

int64
catalog_outbox_messages(const char *pipeline, int stream, int64 after, int64 until)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	int64		messages = 0;

	scan_begin(&scan, pipeline, stream, after, AccessShareLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		OutboxSegment segment;

		segment_from_tuple(&segment, scan.rel, tuple, false);
		if (segment.number > until)
			break;
		messages += segment.nmessages;
	}
	catalog_scan_end(&scan);
	return messages;
}

void
catalog_outbox_rewrite(const char *pipeline, const OutboxSegment *segment)
{
	CatalogScan scan;
	HeapTuple	tuple;
	Datum		values[OUTBOX_NATTS] = {0};
	bool		isnull[OUTBOX_NATTS] = {0};
	bool		replace[OUTBOX_NATTS] = {0};

	scan_begin(&scan, pipeline, segment->stream, segment->number - 1, RowExclusiveLock);
	tuple = catalog_scan_next(&scan);
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("segment " INT64_FORMAT " of stream %d of the outbox of pipeline \"%s\" is missing",
						segment->number, segment->stream, pipeline)));
	replace[COL_DATA - 1] = true;
	values[COL_DATA - 1] = PointerGetDatum(segment->data - VARHDRSZ);
	tuple = heap_modify_tuple(tuple, RelationGetDescr(scan.rel), values, isnull, replace);
	CatalogTupleUpdate(scan.rel, &tuple->t_self, tuple);
	catalog_scan_end(&scan);
	CommandCounterIncrement();
}

void
catalog_outbox_delete(const char *pipeline, int stream, int64 after, int64 until, int64 *messages, int64 *bytes,
					  CatalogPages *pages)
{
	CatalogScan	scan;
	HeapTuple	tuple;

	scan_begin(&scan, pipeline, stream, after, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		OutboxSegment segment;
		uint32		block = ItemPointerGetBlockNumber(&tuple->t_self);
		TM_FailureData tmfd;

		segment_from_tuple(&segment, scan.rel, tuple, false);
		if (segment.number > until)
			break;
		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) != TM_Ok)
			continue;
		*messages += segment.nmessages;
		*bytes += segment.len;
		/* mostly neighbours */
		if (pages->n == 0 || pages->blocks[pages->n - 1] != block)
			catalog_pages_add(pages, &block, 1);
	}
	catalog_scan_end(&scan);
}

/* ---- the publisher's position ---- */

static void
put_uuid(Datum *values, bool *isnull, int col, const pg_uuid_t *uuid)
{
	static const pg_uuid_t none;

	isnull[col - 1] = memcmp(uuid, &none, sizeof(none)) == 0;
	values[col - 1] = UUIDPGetDatum(uuid);
}

static HeapTuple
publisher_to_tuple(Relation rel, const PublisherRow *row)
{
	Datum		values[PUBLISHER_NATTS];
	bool		isnull[PUBLISHER_NATTS] = {0};
	Datum		segments[SHMEM_MAX_TASKS];
	NameData	name;
	int			i;

	namestrcpy(&name, row->pipeline);
	values[PUB_PIPELINE - 1] = NameGetDatum(&name);
	values[PUB_PUBLISHED - 1] = Int64GetDatum(row->published);
	for (i = 0; i < row->nsegments; i++)
		segments[i] = Int64GetDatum(row->segments[i]);
	values[PUB_SEGMENTS - 1] = PointerGetDatum(construct_array(segments, row->nsegments, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[PUB_STREAMS - 1] = Int32GetDatum(row->streams);
	put_uuid(values, isnull, PUB_WRITER, &row->writer);
	put_uuid(values, isnull, PUB_PREVIOUS_WRITER, &row->previous_writer);
	isnull[PUB_RECONCILE - 1] = row->reconcile == NULL;
	values[PUB_RECONCILE - 1] = row->reconcile ? CStringGetTextDatum(row->reconcile) : (Datum) 0;
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}

static PublisherRow *
publisher_from_tuple(Relation rel, HeapTuple tuple)
{
	PublisherRow *row = palloc0(sizeof(PublisherRow));
	Datum		values[PUBLISHER_NATTS];
	bool		isnull[PUBLISHER_NATTS];
	Datum	   *segments;
	int			i;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	strlcpy(row->pipeline, NameStr(*DatumGetName(values[PUB_PIPELINE - 1])), NAMEDATALEN);
	row->published = DatumGetInt64(values[PUB_PUBLISHED - 1]);
	deconstruct_array(DatumGetArrayTypeP(values[PUB_SEGMENTS - 1]), INT8OID, 8, true, TYPALIGN_DOUBLE,
					  &segments, NULL, &row->nsegments);
	row->nsegments = Min(row->nsegments, SHMEM_MAX_TASKS);
	for (i = 0; i < row->nsegments; i++)
		row->segments[i] = DatumGetInt64(segments[i]);
	row->streams = DatumGetInt32(values[PUB_STREAMS - 1]);
	if (!isnull[PUB_WRITER - 1])
		row->writer = *DatumGetUUIDP(values[PUB_WRITER - 1]);
	if (!isnull[PUB_PREVIOUS_WRITER - 1])
		row->previous_writer = *DatumGetUUIDP(values[PUB_PREVIOUS_WRITER - 1]);
	if (!isnull[PUB_RECONCILE - 1])
		row->reconcile = TextDatumGetCString(values[PUB_RECONCILE - 1]);
	row->tid = tuple->t_self;
	return row;
}

PublisherRow *
catalog_publisher_get(const char *pipeline)
{
	Relation	rel = catalog_open("publisher_position", PUBLISHER_NATTS, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;
	PublisherRow *result = NULL;

	/* few rows and no index: it would collect an entry for each update while somebody holds an old snapshot */
	while (result == NULL && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		PublisherRow *row = publisher_from_tuple(rel, tuple);

		CHECK_FOR_INTERRUPTS();
		if (strcmp(row->pipeline, pipeline) == 0)
			result = row;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return result;
}

void
catalog_publisher_insert(const PublisherRow *row)
{
	Relation	rel = catalog_open("publisher_position", PUBLISHER_NATTS, RowExclusiveLock);

	simple_heap_insert(rel, publisher_to_tuple(rel, row));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/*
 * Locks the row as it is now; NULL: it was deleted.  The lock is held to the
 * end of the transaction.
 */
PublisherRow *
catalog_publisher_lock(const char *pipeline)
{
	for (;;)
	{
		PublisherRow *row = catalog_publisher_get(pipeline);
		Relation	rel;
		TupleTableSlot *slot;
		Snapshot	snapshot;
		TM_FailureData tmfd;
		TM_Result	result;
		PublisherRow *latest = NULL;

		if (row == NULL)
			return NULL;
		rel = catalog_open("publisher_position", PUBLISHER_NATTS, RowExclusiveLock);
		slot = table_slot_create(rel, NULL);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		result = table_tuple_lock(rel, &row->tid, snapshot, slot, GetCurrentCommandId(true),
								  LockTupleExclusive, LockWaitBlock, TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &tmfd);
		if (result == TM_Ok)
		{
			bool		should_free;
			HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);

			latest = publisher_from_tuple(rel, tuple);
			latest->tid = slot->tts_tid;
			if (should_free)
				heap_freetuple(tuple);
		}
		UnregisterSnapshot(snapshot);
		ExecDropSingleTupleTableSlot(slot);
		table_close(rel, NoLock);
		if (latest != NULL)
			return latest;
		CHECK_FOR_INTERRUPTS();
	}
}

void
catalog_publisher_update(PublisherRow *row)
{
	Relation	rel = catalog_open("publisher_position", PUBLISHER_NATTS, RowExclusiveLock);

	simple_heap_update(rel, &row->tid, publisher_to_tuple(rel, row));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
catalog_outbox_drop(const char *pipeline)
{
	PublisherRow *row = catalog_publisher_lock(pipeline);
	CatalogScan	scan;
	HeapTuple	tuple;

	if (row != NULL)
	{
		Relation	rel = catalog_open("publisher_position", PUBLISHER_NATTS, RowExclusiveLock);

		simple_heap_delete(rel, &row->tid);
		table_close(rel, NoLock);
	}
	scan_begin(&scan, pipeline, -1, 0, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		TM_FailureData tmfd;

		/* somebody who is sent away may have been faster */
		(void) heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false);
	}
	catalog_scan_end(&scan);
	CommandCounterIncrement();
}

int64
catalog_outbox_last(const char *pipeline, int stream)
{
	PublisherRow *row = catalog_publisher_get(pipeline);
	int64		last = row != NULL && stream < row->nsegments ? row->segments[stream] : 0;
	CatalogScan	scan;
	HeapTuple	tuple;

	scan_begin(&scan, pipeline, stream, last, AccessShareLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		OutboxSegment segment;

		segment_from_tuple(&segment, scan.rel, tuple, false);
		last = segment.number;
	}
	catalog_scan_end(&scan);
	/* what was deleted between the two looks, and so was not seen, stands in the row now */
	row = catalog_publisher_get(pipeline);
	if (row != NULL && stream < row->nsegments)
		last = Max(last, row->segments[stream]);
	return last;
}

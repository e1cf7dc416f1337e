/*-------------------------------------------------------------------------
 *
 * position.c
 *	  Rows of streamproc.task_position: how far each task has come.
 *
 * A task's row is changed in the transaction that stores its results: that
 * is the whole secret of exactly-once.  The table has no index, because an
 * index collects an entry per commit for as long as somebody holds an old
 * snapshot; the row is found by a scan once and then by its remembered place
 * (tid and file, as VACUUM FULL moves rows).  Before each update the page is
 * pruned if it can be, so that the table stays at a few pages.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum PositionColumn
{
	COL_PIPELINE = 1,
	COL_TASK,
	COL_GENERATION,
	COL_EPOCH,
	COL_CLUSTER_ID,
	COL_TOPICS,
	COL_PARTITIONS,
	COL_NEXT_OFFSETS,
	COL_STOP_OFFSETS,
	COL_WATERMARKS,
	COL_RECORD_TIMES,
	COL_UPDATED,
	COL_RECORD_OFFSETS,
	COL_RECORD_SUMS,
	COL_STREAM_WATERMARK,
	COL_CLOSED_UNTIL,
	COL_ANSWERED_UNTIL,
	COL_FREED_UNTIL,
	COL_EMITTED_EPOCH,
	COL_SEGMENTS
};
#define POSITION_NATTS COL_SEGMENTS

static Datum *
array_elements(Datum array, Oid type, int16 len, bool byval, char align, int *n)
{
	Datum	   *elems;

	deconstruct_array(DatumGetArrayTypeP(array), type, len, byval, align, &elems, NULL, n);
	return elems;
}

static void
get_by_operator(TimestampTz *until, Datum value, bool isnull)
{
	int			n = 0;
	Datum	   *elems = isnull ? NULL : array_elements(value, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE, &n);
	int			i;

	for (i = 0; i < SHMEM_MAX_OPERATORS; i++)
		until[i] = i < n ? DatumGetTimestampTz(elems[i]) : DT_NOBEGIN;
}

static Datum
put_by_operator(const TimestampTz *until, bool *isnull)
{
	Datum		elems[SHMEM_MAX_OPERATORS];
	int			last = 0;
	int			i;

	for (i = 0; i < SHMEM_MAX_OPERATORS; i++)
	{
		elems[i] = TimestampTzGetDatum(until[i]);
		if (!TIMESTAMP_IS_NOBEGIN(until[i]))
			last = i + 1;
	}
	*isnull = last == 0;
	return PointerGetDatum(construct_array(elems, last, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
}

static PositionRow *
position_from_tuple(Relation rel, HeapTuple tuple)
{
	PositionRow *row = palloc0(sizeof(PositionRow));
	Datum		values[POSITION_NATTS];
	bool		isnull[POSITION_NATTS];
	Datum	   *topics,
			   *partitions,
			   *next,
			   *stop,
			   *watermarks,
			   *times,
			   *records,
			   *sums;
	int			n[8];
	int			i;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	strlcpy(row->pipeline, NameStr(*DatumGetName(values[COL_PIPELINE - 1])), NAMEDATALEN);
	row->task = DatumGetInt32(values[COL_TASK - 1]);
	row->generation = DatumGetInt64(values[COL_GENERATION - 1]);
	row->epoch = DatumGetInt64(values[COL_EPOCH - 1]);
	row->cluster_id = TextDatumGetCString(values[COL_CLUSTER_ID - 1]);
	get_by_operator(row->closed_until, values[COL_CLOSED_UNTIL - 1], isnull[COL_CLOSED_UNTIL - 1]);
	get_by_operator(row->answered_until, values[COL_ANSWERED_UNTIL - 1], isnull[COL_ANSWERED_UNTIL - 1]);
	get_by_operator(row->freed_until, values[COL_FREED_UNTIL - 1], isnull[COL_FREED_UNTIL - 1]);
	row->emitted_epoch = isnull[COL_EMITTED_EPOCH - 1] ? 0 : DatumGetInt64(values[COL_EMITTED_EPOCH - 1]);
	row->segments = DatumGetInt32(values[COL_SEGMENTS - 1]);
	row->stream_watermark = isnull[COL_STREAM_WATERMARK - 1] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[COL_STREAM_WATERMARK - 1]);
	topics = array_elements(values[COL_TOPICS - 1], TEXTOID, -1, false, TYPALIGN_INT, &n[0]);
	partitions = array_elements(values[COL_PARTITIONS - 1], INT4OID, 4, true, TYPALIGN_INT, &n[1]);
	next = array_elements(values[COL_NEXT_OFFSETS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[2]);
	stop = array_elements(values[COL_STOP_OFFSETS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[3]);
	watermarks = array_elements(values[COL_WATERMARKS - 1], TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE, &n[4]);
	times = array_elements(values[COL_RECORD_TIMES - 1], TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE, &n[5]);
	records = array_elements(values[COL_RECORD_OFFSETS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[6]);
	sums = array_elements(values[COL_RECORD_SUMS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[7]);
	for (i = 1; i < 8; i++)
		if (n[i] != n[0])
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("position of task %d of pipeline \"%s\" is damaged", row->task, row->pipeline),
					 errdetail("Its arrays have different lengths.")));
	row->nparts = n[0];
	row->parts = palloc(sizeof(PartitionPosition) * Max(n[0], 1));
	for (i = 0; i < n[0]; i++)
	{
		PartitionPosition *p = &row->parts[i];

		p->topic = TextDatumGetCString(topics[i]);
		p->partition = DatumGetInt32(partitions[i]);
		p->next_offset = DatumGetInt64(next[i]);
		p->stop_offset = DatumGetInt64(stop[i]);
		p->watermark = DatumGetTimestampTz(watermarks[i]);
		p->record.offset = DatumGetInt64(records[i]);
		p->record.time = DatumGetTimestampTz(times[i]);
		p->record.sum = DatumGetInt64(sums[i]);
	}
	row->tid = tuple->t_self;
	row->relfilenode = rel->rd_node.relNode;
	return row;
}

static HeapTuple
position_to_tuple(Relation rel, const PositionRow *row)
{
	Datum		values[POSITION_NATTS];
	bool		isnull[POSITION_NATTS] = {0};
	NameData	name;
	int			n = row->nparts;
	Datum	   *elems = palloc(sizeof(Datum) * Max(n, 1));
	int			i;

	namestrcpy(&name, row->pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_TASK - 1] = Int32GetDatum(row->task);
	values[COL_GENERATION - 1] = Int64GetDatum(row->generation);
	values[COL_EPOCH - 1] = Int64GetDatum(row->epoch);
	values[COL_CLUSTER_ID - 1] = CStringGetTextDatum(row->cluster_id);
	for (i = 0; i < n; i++)
		elems[i] = CStringGetTextDatum(row->parts[i].topic);
	values[COL_TOPICS - 1] = PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
	for (i = 0; i < n; i++)
		elems[i] = Int32GetDatum(row->parts[i].partition);
	values[COL_PARTITIONS - 1] = PointerGetDatum(construct_array(elems, n, INT4OID, 4, true, TYPALIGN_INT));
	for (i = 0; i < n; i++)
		elems[i] = Int64GetDatum(row->parts[i].next_offset);
	values[COL_NEXT_OFFSETS - 1] = PointerGetDatum(construct_array(elems, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	for (i = 0; i < n; i++)
		elems[i] = Int64GetDatum(row->parts[i].stop_offset);
	values[COL_STOP_OFFSETS - 1] = PointerGetDatum(construct_array(elems, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	for (i = 0; i < n; i++)
		elems[i] = TimestampTzGetDatum(row->parts[i].watermark);
	values[COL_WATERMARKS - 1] = PointerGetDatum(construct_array(elems, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	for (i = 0; i < n; i++)
		elems[i] = TimestampTzGetDatum(row->parts[i].record.time);
	values[COL_RECORD_TIMES - 1] = PointerGetDatum(construct_array(elems, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	values[COL_UPDATED - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	for (i = 0; i < n; i++)
		elems[i] = Int64GetDatum(row->parts[i].record.offset);
	values[COL_RECORD_OFFSETS - 1] = PointerGetDatum(construct_array(elems, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	for (i = 0; i < n; i++)
		elems[i] = Int64GetDatum(row->parts[i].record.sum);
	values[COL_RECORD_SUMS - 1] = PointerGetDatum(construct_array(elems, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[COL_CLOSED_UNTIL - 1] = put_by_operator(row->closed_until, &isnull[COL_CLOSED_UNTIL - 1]);
	values[COL_ANSWERED_UNTIL - 1] = put_by_operator(row->answered_until, &isnull[COL_ANSWERED_UNTIL - 1]);
	values[COL_FREED_UNTIL - 1] = put_by_operator(row->freed_until, &isnull[COL_FREED_UNTIL - 1]);
	values[COL_EMITTED_EPOCH - 1] = Int64GetDatum(row->emitted_epoch);
	isnull[COL_EMITTED_EPOCH - 1] = row->emitted_epoch == 0;
	values[COL_SEGMENTS - 1] = Int32GetDatum(row->segments);
	values[COL_STREAM_WATERMARK - 1] = TimestampTzGetDatum(row->stream_watermark);
	isnull[COL_STREAM_WATERMARK - 1] = TIMESTAMP_IS_NOBEGIN(row->stream_watermark);
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}

List *
catalog_positions(const char *pipeline)
{
	Relation	rel = catalog_open("task_position", POSITION_NATTS, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;
	List	   *rows = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		PositionRow *row;

		CHECK_FOR_INTERRUPTS();
		row = position_from_tuple(rel, tuple);
		if (strcmp(row->pipeline, pipeline) == 0)
			rows = lappend(rows, row);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return rows;
}

void
catalog_position_insert(PositionRow *row)
{
	Relation	rel = catalog_open("task_position", POSITION_NATTS, RowExclusiveLock);
	HeapTuple	tuple = position_to_tuple(rel, row);

	simple_heap_insert(rel, tuple);
	table_close(rel, NoLock);
}

/*
 * Locks a row that somebody may be changing now and returns it as it is then;
 * NULL: it was deleted.  Row locks are held to the end of the transaction.
 */
static PositionRow *
lock_latest(Relation rel, PositionRow *row)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PositionRow *latest = NULL;
	TM_FailureData tmfd;
	TM_Result	result;

	result = table_tuple_lock(rel, &row->tid, snapshot, slot, GetCurrentCommandId(true),
							  LockTupleExclusive, LockWaitBlock,
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &tmfd);
	if (result == TM_Ok)
	{
		bool		should_free;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);

		latest = position_from_tuple(rel, tuple);
		latest->tid = slot->tts_tid;
		if (should_free)
			heap_freetuple(tuple);
	}
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return latest;
}

List *
catalog_positions_delete(const char *pipeline)
{
	Relation	rel = catalog_open("task_position", POSITION_NATTS, RowExclusiveLock);
	List	   *rows = catalog_positions(pipeline);
	List	   *deleted = NIL;
	ListCell   *lc;

	foreach(lc, rows)
	{
		PositionRow *latest = lock_latest(rel, lfirst(lc));

		if (latest == NULL)
			continue;
		simple_heap_delete(rel, &latest->tid);
		deleted = lappend(deleted, latest);
	}
	table_close(rel, NoLock);
	return deleted;
}

static bool
contains_name(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* "topics": those that a new text reads */
static void
new_run(const char *pipeline, bool new_text, List *topics)
{
	Relation	rel = catalog_open("task_position", POSITION_NATTS, RowExclusiveLock);
	List	   *rows = catalog_positions(pipeline);
	ListCell   *lc;

	foreach(lc, rows)
	{
		PositionRow *latest = lock_latest(rel, lfirst(lc));
		bool		change = new_text;
		int			n = 0;
		int			i;

		if (latest == NULL)
			continue;
		for (i = 0; i < latest->nparts; i++)
		{
			if (latest->parts[i].stop_offset >= 0)
				change = true;
			latest->parts[i].stop_offset = -1;
			if (!new_text || contains_name(topics, latest->parts[i].topic))
				latest->parts[n++] = latest->parts[i];
			else
			{
				DataLoss	loss = {latest->parts[i].topic, latest->parts[i].partition,
				latest->parts[i].next_offset, -1, "query changed"};

				catalog_data_loss_insert(pipeline, &loss, latest->cluster_id);
			}
		}
		if (!change)
			continue;
		/* a row without partitions stays: it carries epoch and generation on */
		latest->nparts = n;
		latest->generation++;
		simple_heap_update(rel, &latest->tid, position_to_tuple(rel, latest));
	}
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

void
catalog_positions_new_run(const char *pipeline)
{
	new_run(pipeline, false, NIL);
}

void
catalog_positions_new_text(const char *pipeline, List *topics)
{
	new_run(pipeline, true, topics);
}

static void
position_conflict(const PositionRow *row, const char *detail)
{
	ereport(FATAL,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("position of task %d of pipeline \"%s\" was changed by somebody else",
					row->task, row->pipeline),
			 errdetail_internal("%s", detail)));
}

/* Is this tuple the row that "row" was read from, with these offsets? */
static void
check_same(Relation rel, HeapTuple tuple, const PositionRow *row, const int64 *was)
{
	PositionRow *now = position_from_tuple(rel, tuple);
	int			i;

	if (strcmp(now->pipeline, row->pipeline) != 0 || now->task != row->task)
		position_conflict(row, "Another row stands in its place.");
	if (now->generation != row->generation)
		position_conflict(row, "Another launcher has taken over, or the pipeline was altered.");
	if (now->nparts != row->nparts)
		position_conflict(row, "It has other partitions.");
	for (i = 0; i < row->nparts; i++)
	{
		if (now->parts[i].next_offset != was[i] ||
			now->parts[i].partition != row->parts[i].partition ||
			strcmp(now->parts[i].topic, row->parts[i].topic) != 0)
			position_conflict(row, "It has other offsets.");
	}
}

void
catalog_position_update(const PositionRow *row, const int64 *was,
						ItemPointerData *tid, Oid *relfilenode)
{
	Relation	rel = catalog_open("task_position", POSITION_NATTS, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData at = row->tid;
	TM_FailureData tmfd;
	TM_Result	result;
	HeapTuple	old;
	HeapTuple	new;
	bool		should_free;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = false;

	if (rel->rd_node.relNode == row->relfilenode &&
		ItemPointerGetBlockNumber(&at) < RelationGetNumberOfBlocks(rel))
	{
		Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&at));

		heap_page_prune_opt(rel, buffer);
		ReleaseBuffer(buffer);
		found = table_tuple_fetch_row_version(rel, &at, snapshot, slot);
	}
	if (!found)
	{
		/* moved by VACUUM FULL, or gone */
		List	   *rows = catalog_positions(row->pipeline);
		ListCell   *lc;

		foreach(lc, rows)
		{
			PositionRow *other = lfirst(lc);

			if (other->task == row->task)
			{
				at = other->tid;
				found = true;
			}
		}
		if (!found)
			position_conflict(row, "The row is gone.");
	}

	result = table_tuple_lock(rel, &at, snapshot, slot, GetCurrentCommandId(true),
							  LockTupleNoKeyExclusive, LockWaitBlock, 0, &tmfd);
	if (result != TM_Ok)
		position_conflict(row, "The row was replaced.");
	old = ExecFetchSlotHeapTuple(slot, false, &should_free);
	check_same(rel, old, row, was);

	new = position_to_tuple(rel, row);
	simple_heap_update(rel, &at, new);
	*tid = new->t_self;
	*relfilenode = rel->rd_node.relNode;

	if (should_free)
		heap_freetuple(old);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

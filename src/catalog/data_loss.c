/*-------------------------------------------------------------------------
 *
 * data_loss.c
 *	  Rows of streamproc.stored_data_loss: what pipelines went on without;
 *	  and of streamproc.topic_mark: by which records topics are known again.
 *
 * A row of a loss is written in the transaction that moves the position over
 * it, so that nothing is skipped without one.
 *
 * Marks are changed by the launcher only (and go with their pipeline), every
 * streamproc.metadata_interval at most; the table has no index, like the one
 * of the positions, and is as small.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum LossColumn
{
	LOSS_PIPELINE = 1,
	LOSS_ID,
	LOSS_TOPIC,
	LOSS_PARTITION,
	LOSS_FROM_OFFSET,
	LOSS_TO_OFFSET,
	LOSS_REASON,
	LOSS_CLUSTER_ID,
	LOSS_AT
};
#define LOSS_NATTS LOSS_AT

enum MarkColumn
{
	MARK_PIPELINE = 1,
	MARK_TOPICS,
	MARK_PARTITIONS,
	MARK_RECORD_OFFSETS,
	MARK_RECORD_TIMES,
	MARK_RECORD_SUMS
};
#define MARK_NATTS MARK_RECORD_SUMS

/* ---- losses ---- */

void
catalog_data_loss_insert(const char *pipeline, const DataLoss *loss, const char *cluster_id)
{
	Relation	rel = table_open(catalog_relation("stored_data_loss"), RowExclusiveLock);
	Datum		values[LOSS_NATTS];
	bool		isnull[LOSS_NATTS] = {0};
	NameData	name;

	namestrcpy(&name, pipeline);
	values[LOSS_PIPELINE - 1] = NameGetDatum(&name);
	values[LOSS_ID - 1] = Int64GetDatum(nextval_internal(catalog_relation("stored_id"), false));
	values[LOSS_TOPIC - 1] = CStringGetTextDatum(loss->topic);
	values[LOSS_PARTITION - 1] = Int32GetDatum(loss->partition);
	values[LOSS_FROM_OFFSET - 1] = Int64GetDatum(loss->from_offset);
	values[LOSS_TO_OFFSET - 1] = Int64GetDatum(loss->to_offset);
	isnull[LOSS_TO_OFFSET - 1] = loss->to_offset < 0;
	values[LOSS_REASON - 1] = CStringGetTextDatum(loss->reason);
	values[LOSS_CLUSTER_ID - 1] = CStringGetTextDatum(cluster_id);
	values[LOSS_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, isnull));
	table_close(rel, NoLock);
}

/* Deletes the rows of a pipeline in a table whose first column is its name. */
static void
delete_rows(const char *table, const char *pipeline)
{
	Relation	rel = table_open(catalog_relation(table), RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		name = heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull);

		if (!isnull && strcmp(NameStr(*DatumGetName(name)), pipeline) == 0)
			simple_heap_delete(rel, &tuple->t_self);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

void
catalog_data_losses_delete(const char *pipeline)
{
	delete_rows("stored_data_loss", pipeline);
}

/* ---- marks ---- */

static Datum *
elements(Datum array, Oid type, int16 len, bool byval, char align, int *n)
{
	Datum	   *elems;

	deconstruct_array(DatumGetArrayTypeP(array), type, len, byval, align, &elems, NULL, n);
	return elems;
}

static List *
marks_from_tuple(Relation rel, HeapTuple tuple)
{
	Datum		values[MARK_NATTS];
	bool		isnull[MARK_NATTS];
	Datum	   *topics,
			   *partitions,
			   *offsets,
			   *times,
			   *sums;
	int			n[5];
	List	   *marks = NIL;
	int			i;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	topics = elements(values[MARK_TOPICS - 1], TEXTOID, -1, false, TYPALIGN_INT, &n[0]);
	partitions = elements(values[MARK_PARTITIONS - 1], INT4OID, 4, true, TYPALIGN_INT, &n[1]);
	offsets = elements(values[MARK_RECORD_OFFSETS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[2]);
	times = elements(values[MARK_RECORD_TIMES - 1], TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE, &n[3]);
	sums = elements(values[MARK_RECORD_SUMS - 1], INT8OID, 8, true, TYPALIGN_DOUBLE, &n[4]);
	for (i = 1; i < 5; i++)
		if (n[i] != n[0])
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("a row of %s.topic_mark is damaged", CATALOG_SCHEMA),
					 errdetail("Its arrays have different lengths.")));
	for (i = 0; i < n[0]; i++)
	{
		TopicMark  *mark = palloc(sizeof(TopicMark));

		mark->topic = TextDatumGetCString(topics[i]);
		mark->partition = DatumGetInt32(partitions[i]);
		mark->record.offset = DatumGetInt64(offsets[i]);
		mark->record.time = DatumGetTimestampTz(times[i]);
		mark->record.sum = DatumGetInt64(sums[i]);
		marks = lappend(marks, mark);
	}
	return marks;
}

static HeapTuple
marks_to_tuple(Relation rel, const char *pipeline, List *marks)
{
	Datum		values[MARK_NATTS];
	bool		isnull[MARK_NATTS] = {0};
	NameData	name;
	int			n = list_length(marks);
	Datum	   *topics = palloc(sizeof(Datum) * Max(n, 1));
	Datum	   *partitions = palloc(sizeof(Datum) * Max(n, 1));
	Datum	   *offsets = palloc(sizeof(Datum) * Max(n, 1));
	Datum	   *times = palloc(sizeof(Datum) * Max(n, 1));
	Datum	   *sums = palloc(sizeof(Datum) * Max(n, 1));
	int			i;

	for (i = 0; i < n; i++)
	{
		TopicMark  *mark = list_nth(marks, i);

		topics[i] = CStringGetTextDatum(mark->topic);
		partitions[i] = Int32GetDatum(mark->partition);
		offsets[i] = Int64GetDatum(mark->record.offset);
		times[i] = TimestampTzGetDatum(mark->record.time);
		sums[i] = Int64GetDatum(mark->record.sum);
	}
	namestrcpy(&name, pipeline);
	values[MARK_PIPELINE - 1] = NameGetDatum(&name);
	values[MARK_TOPICS - 1] = PointerGetDatum(construct_array(topics, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[MARK_PARTITIONS - 1] = PointerGetDatum(construct_array(partitions, n, INT4OID, 4, true, TYPALIGN_INT));
	values[MARK_RECORD_OFFSETS - 1] = PointerGetDatum(construct_array(offsets, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[MARK_RECORD_TIMES - 1] = PointerGetDatum(construct_array(times, n, TIMESTAMPTZOID, 8, true, TYPALIGN_DOUBLE));
	values[MARK_RECORD_SUMS - 1] = PointerGetDatum(construct_array(sums, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}

List *
catalog_topic_marks(const char *pipeline)
{
	Relation	rel = table_open(catalog_relation("topic_mark"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;
	List	   *marks = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		name = heap_getattr(tuple, MARK_PIPELINE, RelationGetDescr(rel), &isnull);

		if (strcmp(NameStr(*DatumGetName(name)), pipeline) == 0)
			marks = list_concat(marks, marks_from_tuple(rel, tuple));
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return marks;
}

static bool
same_marks(List *a, List *b)
{
	ListCell   *la,
			   *lb;

	if (list_length(a) != list_length(b))
		return false;
	forboth(la, a, lb, b)
	{
		TopicMark  *x = lfirst(la);
		TopicMark  *y = lfirst(lb);

		if (strcmp(x->topic, y->topic) != 0 || x->partition != y->partition || x->record.offset != y->record.offset ||
			x->record.time != y->record.time || x->record.sum != y->record.sum)
			return false;
	}
	return true;
}

void
catalog_topic_marks_set(const char *pipeline, List *marks)
{
	Relation	rel;

	if (same_marks(marks, catalog_topic_marks(pipeline)))
		return;
	delete_rows("topic_mark", pipeline);
	if (marks == NIL)
		return;
	rel = table_open(catalog_relation("topic_mark"), RowExclusiveLock);
	simple_heap_insert(rel, marks_to_tuple(rel, pipeline, marks));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

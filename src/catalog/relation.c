/*-------------------------------------------------------------------------
 *
 * relation.c
 *	  The tables and sequences of the extension, by name; inserting many rows,
 *	  walking over those of a pipeline.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

Oid
catalog_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, get_namespace_oid(CATALOG_SCHEMA, false));

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation %s.%s does not exist", CATALOG_SCHEMA, name),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return relid;
}

/* Of another version than the library: it is not touched. */
Relation
catalog_open(const char *name, int natts, LOCKMODE lockmode)
{
	Relation	rel = table_open(catalog_relation(name), lockmode);

	if (RelationGetNumberOfAttributes(rel) != natts)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and SQL objects of streamproc are of different versions"),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return rel;
}

void
catalog_insert_many(Relation rel, HeapTuple *tuples, int n)
{
	CatalogIndexState indexes = CatalogOpenIndexes(rel);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);
	int			nslots = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		/* the insert of many loses the place of a row that goes into the toast table: its index entry would point nowhere */
		if (tuples[i]->t_len > RelationGetToastTupleTarget(rel, TOAST_TUPLE_TARGET))
		{
			CatalogTupleInsertWithInfo(rel, tuples[i], indexes);
			heap_freetuple(tuples[i]);
			continue;
		}
		slots[nslots] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
		ExecStoreHeapTuple(tuples[i], slots[nslots++], true);
	}
	if (nslots > 0)
		CatalogTuplesMultiInsertWithInfo(rel, slots, nslots, indexes);
	for (i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	CatalogCloseIndexes(indexes);
	pfree(slots);
}

Datum
catalog_bytea(const char *bytes, Size len)
{
	bytea	   *datum;

	if (len > MaxAllocSize - VARHDRSZ)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot store a value of %zu bytes", len)));
	datum = palloc(VARHDRSZ + len);
	SET_VARSIZE(datum, VARHDRSZ + len);
	memcpy(VARDATA(datum), bytes, len);
	return PointerGetDatum(datum);
}

void
catalog_scan_begin(CatalogScan *scan, const char *table, int natts, const char *pipeline, int nkeys, LOCKMODE lockmode)
{
	scan->rel = catalog_open(table, natts, lockmode);
	scan->index = index_open(RelationGetPrimaryKeyIndex(scan->rel), AccessShareLock);
	scan->snapshot = RegisterSnapshot(GetLatestSnapshot());
	namestrcpy(&scan->name, pipeline);
	ScanKeyInit(&scan->keys[0], 1, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&scan->name));
	scan->scan = systable_beginscan_ordered(scan->rel, scan->index, scan->snapshot, nkeys, scan->keys);
}

HeapTuple
catalog_scan_next(CatalogScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	return systable_getnext_ordered(scan->scan, ForwardScanDirection);
}

void
catalog_scan_end(CatalogScan *scan)
{
	systable_endscan_ordered(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, NoLock);
}

/*-------------------------------------------------------------------------
 *
 * relation.c
 *	  The tables and sequences of the extension, by name; inserting many rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

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

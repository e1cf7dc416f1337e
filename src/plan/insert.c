/*-------------------------------------------------------------------------
 *
 * insert.c
 *	  Rows of a plain INSERT into one table, by table_multi_insert.
 *
 * ModifyTable inserts one tuple at a time: a WAL record, a buffer lock and a
 * visit of the free space map each.  Where nothing wants to see single rows
 * (row triggers, RETURNING, ON CONFLICT, row-level security, partition
 * routing) the plan below ModifyTable is run instead, into this receiver,
 * which fills pages as COPY does.  Constraints, generated columns and indexes
 * are kept.
 *
 * Values are copied once: from the plan's slot, whose by-reference values die
 * with the next row, into an arena; tuples are formed by the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MULTI_INSERT_BYTES	(256 * 1024)

int			multi_insert_rows = MULTI_INSERT_ROWS;

typedef struct MultiInsert
{
	DestReceiver pub;
	Relation	rel;
	ResultRelInfo *result_rel;
	EState	   *estate;			/* of the running plan */
	CommandId	cid;
	int			nrows;
	Size		bytes;
	uint64		total;
	TupleDesc	desc;
	TupleTableSlot **slots;		/* virtual slots, made as needed */
	StreamPlace *places;		/* the row of the feed that each came from */
	Arena		arena;			/* values of the waiting rows */
	MemoryContext flush_cxt;	/* tuples while they are inserted */
	BulkInsertState bistate;
} MultiInsert;

/* Only what table_multi_insert and ExecInsertIndexTuples do themselves. */
bool
multi_insert_possible(Relation sink)
{
	TriggerDesc *triggers = sink->trigdesc;

	if (sink->rd_rel->relkind != RELKIND_RELATION)
		return false;
	if (sink->rd_rel->relrowsecurity)
		return false;
	if (triggers != NULL &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
		 triggers->trig_insert_instead_row || triggers->trig_insert_before_statement ||
		 triggers->trig_insert_after_statement || triggers->trig_insert_new_table))
		return false;
	return true;
}

static void
flush(MultiInsert *insert)
{
	MemoryContext old;
	int			n = insert->nrows;
	int			i;

	if (n == 0)
		return;
	FAULT_POINT("insert-before-flush");
	old = MemoryContextSwitchTo(insert->flush_cxt);
	table_multi_insert(insert->rel, insert->slots, n, insert->cid, 0, insert->bistate);
	MemoryContextSwitchTo(old);
	FAULT_POINT("insert-before-indexes");

	if (insert->result_rel->ri_NumIndices > 0)
	{
		for (i = 0; i < n; i++)
		{
			insert->slots[i]->tts_tableOid = RelationGetRelid(insert->rel);
			/* an index refuses this row, not the one that the scan has come to */
			stream_place = insert->places[i];
			(void) ExecInsertIndexTuples(insert->result_rel, insert->slots[i], insert->estate,
										 false, false, NULL, NIL);
			ResetPerTupleExprContext(insert->estate);
		}
	}
	for (i = 0; i < n; i++)
		ExecClearTuple(insert->slots[i]);
	MemoryContextReset(insert->flush_cxt);
	arena_reset(&insert->arena);
	insert->total += n;
	insert->nrows = 0;
	insert->bytes = 0;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	MultiInsert *insert = (MultiInsert *) self;
	TupleDesc	desc = insert->desc;
	TupleTableSlot *mine = insert->slots[insert->nrows];
	int			natts = desc->natts;
	int			i;

	slot_getallattrs(slot);
	ExecClearTuple(mine);
	for (i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Datum		value = slot->tts_values[i];
		bool		isnull = slot->tts_isnull[i];

		mine->tts_isnull[i] = isnull;
		if (isnull)
			mine->tts_values[i] = (Datum) 0;
		else if (att->attbyval)
			mine->tts_values[i] = value;
		else
		{
			Size		len;
			char	   *copy;

			if (att->attlen == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
			{
				ExpandedObjectHeader *eoh = DatumGetEOHP(value);

				len = EOH_get_flat_size(eoh);
				copy = arena_alloc(&insert->arena, len);
				EOH_flatten_into(eoh, copy, len);
			}
			else
			{
				len = datumGetSize(value, false, att->attlen);
				copy = arena_alloc(&insert->arena, len);
				memcpy(copy, DatumGetPointer(value), len);
			}
			mine->tts_values[i] = PointerGetDatum(copy);
			insert->bytes += len;
		}
	}
	ExecStoreVirtualTuple(mine);
	mine->tts_tableOid = RelationGetRelid(insert->rel);

	if (desc->constr != NULL)
	{
		if (desc->constr->has_generated_stored)
		{
			/* its values must live as long as the row */
			MemoryContext old = MemoryContextSwitchTo(insert->flush_cxt);

			ExecComputeStoredGenerated(insert->result_rel, insert->estate, mine, CMD_INSERT);
			MemoryContextSwitchTo(old);
		}
		ExecConstraints(insert->result_rel, mine, insert->estate);
	}
	if (insert->rel->rd_rel->relispartition)
		ExecPartitionCheck(insert->result_rel, mine, insert->estate, true);
	ResetPerTupleExprContext(insert->estate);

	insert->places[insert->nrows] = stream_place;
	insert->nrows++;
	if (insert->nrows >= multi_insert_rows || insert->bytes >= MULTI_INSERT_BYTES)
		flush(insert);
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
shutdown(DestReceiver *self)
{
}

/* The receiver lives as long as the program: slots are made once. */
DestReceiver *
multi_insert_receiver(Statement *statement, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	MultiInsert *insert = palloc0(sizeof(MultiInsert));
	Relation	rel = table_open(statement->info->sink, NoLock);
	int			i;

	insert->pub.receiveSlot = receive;
	insert->pub.rStartup = startup;
	insert->pub.rShutdown = shutdown;
	insert->pub.rDestroy = shutdown;
	insert->pub.mydest = DestNone;
	/* a copy: slots outlive the transaction, a relcache entry's descriptor need not */
	insert->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	insert->slots = palloc(sizeof(TupleTableSlot *) * MULTI_INSERT_ROWS);
	insert->places = palloc(sizeof(StreamPlace) * MULTI_INSERT_ROWS);
	for (i = 0; i < MULTI_INSERT_ROWS; i++)
		insert->slots[i] = MakeSingleTupleTableSlot(insert->desc, &TTSOpsVirtual);
	arena_init(&insert->arena, cxt, MULTI_INSERT_BYTES + 64 * 1024);
	insert->flush_cxt = AllocSetContextCreate(cxt, "streamproc multi-insert", ALLOCSET_DEFAULT_MINSIZE,
											  256 * 1024, 1024 * 1024);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	return &insert->pub;
}

uint64
multi_insert_run(Statement *statement, PlannedStmt *child)
{
	MultiInsert *insert = statement->insert;
	QueryDesc  *desc;
	int			i;

	/* an error may have left rows of a rolled back batch */
	for (i = 0; i < insert->nrows; i++)
		ExecClearTuple(insert->slots[i]);
	arena_reset(&insert->arena);
	MemoryContextReset(insert->flush_cxt);
	insert->nrows = 0;
	insert->bytes = 0;
	insert->total = 0;

	desc = CreateQueryDesc(child, "", GetActiveSnapshot(), InvalidSnapshot, &insert->pub, NULL, NULL, 0);
	ExecutorStart(desc, 0);

	insert->estate = desc->estate;
	insert->cid = GetCurrentCommandId(true);
	insert->rel = table_open(statement->info->sink, NoLock);
	insert->result_rel = makeNode(ResultRelInfo);
	InitResultRelInfo(insert->result_rel, insert->rel,
					  linitial_int(statement->plan[0]->resultRelations), NULL, 0);
	ExecOpenIndices(insert->result_rel, false);
	insert->bistate = GetBulkInsertState();

	ExecutorRun(desc, ForwardScanDirection, 0, true);
	flush(insert);

	FreeBulkInsertState(insert->bistate);
	table_finish_bulk_insert(insert->rel, 0);
	ExecCloseIndices(insert->result_rel);
	table_close(insert->rel, NoLock);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return insert->total;
}

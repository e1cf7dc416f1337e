/*-------------------------------------------------------------------------
 *
 * fire_json.c
 *	  The row that a group gives, as JSON, for a dead letter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "plan/plan.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

typedef struct JsonReceiver
{
	DestReceiver pub;
	Relation	sink;
	MemoryContext cxt;			/* of the result: that of the executor is gone before it is read */
	char	   *json;			/* of the first row */
} JsonReceiver;

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	JsonReceiver *receiver = (JsonReceiver *) self;
	TupleDesc	desc = RelationGetDescr(receiver->sink);
	HeapTuple	tuple;
	Datum		json;

	if (receiver->json != NULL || slot->tts_tupleDescriptor->natts < desc->natts)
		return true;
	slot_getallattrs(slot);
	tuple = heap_form_tuple(desc, slot->tts_values, slot->tts_isnull);
	json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc));
	receiver->json = MemoryContextStrdup(receiver->cxt, TextDatumGetCString(json));
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
shutdown(DestReceiver *self)
{
}

/* In the present memory context; operator_fire_sets give out one group. */
char *
program_fire_json(Program *program, int number)
{
	Statement  *statement = list_nth(program->statements, number - 1);
	JsonReceiver receiver = {{receive, startup, shutdown, shutdown, DestNone}, NULL, CurrentMemoryContext, NULL};

	receiver.sink = table_open(statement->info->sink, AccessShareLock);
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) plan_execute(plan_below_modify_table(statement->plan[PROGRAM_OUTPUT]), &receiver.pub);
	PopActiveSnapshot();
	table_close(receiver.sink, NoLock);
	return receiver.json;
}

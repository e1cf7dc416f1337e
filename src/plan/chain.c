/*-------------------------------------------------------------------------
 *
 * chain.c
 *	  One operator over another: the row query of the second reads what the
 *	  first has answered.
 *
 * The plan of the second holds the node of the first, which gives out
 * operator_fire_sets as in the output plan; here these are the answers that a task has
 * just made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "plan/keyed.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

TupleDesc
chain_describe(CustomScan *scan, List *rtable)
{
	TupleDesc	desc = CreateTemplateTupleDesc(list_length(scan->custom_scan_tlist));
	ListCell   *lc;

	foreach(lc, scan->custom_scan_tlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;
		const char *name = "?column?";

		if (IsA(expr, Var) && ((Var *) expr)->varno > 0 && ((Var *) expr)->varno <= list_length(rtable) && ((Var *) expr)->varattno > 0)
			name = get_rte_attribute_name(rt_fetch(((Var *) expr)->varno, rtable), ((Var *) expr)->varattno);
		else if (IsA(expr, WindowFunc))
			name = get_func_name(((WindowFunc *) expr)->winfnoid);
		TupleDescInitEntry(desc, (AttrNumber) (foreach_current_index(lc) + 1), name, exprType((Node *) expr), exprTypmod((Node *) expr), 0);
	}
	return desc;
}

char *
program_passed_json(Program *program, int number, const char *record)
{
	KeyedNode  *node = &program->keyed[number];
	TupleDesc	desc = BlessTupleDesc(CreateTupleDescCopy(node->answer));
	Datum	   *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(desc->natts, 1));

	output_row_read(node->spec, record, -1, NULL, values, isnull);
	return TextDatumGetCString(DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(heap_form_tuple(desc, values, isnull), desc)));
}

void
program_run_passed(Program *program, int number, StateArea *area, const char *records, Size bytes, int64 rows)
{
	KeyedNode  *node = &program->keyed[number];
	FireBlock	block = {records, bytes};
	FireUnit	unit = {0};
	FireSet		sets[STATE_MAX_OPERATORS] = {0};

	unit.output = unit.numbered = true;
	unit.blocks = list_make1(&block);
	sets[node->upstream].spec = program->keyed[node->upstream].spec;
	sets[node->upstream].area = area;
	sets[node->upstream].units = list_make1(&unit);
	program->running = node->spec->statement;
	stream_place.feed = NULL;
	operator_fire_sets = sets;
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) plan_execute(node->query[program_plan_size(rows)], &node->rows->pub);
		place_find(node->rows, sets[node->upstream].spec, records, rows);
		PopActiveSnapshot();
	}
	PG_FINALLY();
	{
		operator_fire_sets = NULL;
	}
	PG_END_TRY();
	program->running = 0;
}

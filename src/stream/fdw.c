/*-------------------------------------------------------------------------
 *
 * fdw.c
 *	  The handler of the foreign data wrapper streamproc_kafka: a table of the
 *	  routines that plan.c, scan.c and produce.c have.
 *
 * UPDATE, DELETE and TRUNCATE are absent, and PostgreSQL says so.  Scans are
 * never parallel: a topic is read by one connection.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "stream/stream_int.h"

PG_FUNCTION_INFO_V1(streamproc_kafka_handler);

Datum
streamproc_kafka_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = stream_get_rel_size;
	routine->GetForeignPaths = stream_get_paths;
	routine->GetForeignPlan = stream_get_plan;
	routine->BeginForeignScan = stream_begin_scan;
	routine->IterateForeignScan = stream_iterate_scan;
	routine->ReScanForeignScan = stream_rescan;
	routine->EndForeignScan = stream_end_scan;
	routine->ExplainForeignScan = stream_explain_scan;

	routine->PlanForeignModify = stream_plan_modify;
	routine->BeginForeignModify = stream_begin_modify;
	routine->ExecForeignInsert = stream_exec_insert;
	routine->EndForeignModify = stream_end_modify;
	routine->BeginForeignInsert = stream_begin_insert;
	routine->EndForeignInsert = stream_end_modify;
	routine->ExplainForeignModify = stream_explain_modify;

	PG_RETURN_POINTER(routine);
}

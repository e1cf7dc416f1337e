/*-------------------------------------------------------------------------
 *
 * scanner.c
 *	  Copies what the catalog of one database wishes into the slots.
 *
 * Runs once and leaves.  It is the only code that makes or drops slots of
 * pipelines, so a server start, a COMMIT of an API call, a restore and a
 * promotion take one way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "worker/worker.h"

/* The slot of a pipeline follows its row. */
static void
follow_row(PipelineRow *row)
{
	bool		should_run = row->active && OidIsValid(row->procedure) && catalog_pipeline_is_local(row);
	int			i;
	PipelineSlot *slot;

	i = pipeline_slot_find_locked(MyDatabaseId, row->name);
	if (i < 0)
	{
		if (!should_run)
			return;
		i = pipeline_slot_claim_locked(MyDatabaseId, row->name);
		if (i < 0)
			return;				/* shown by the view: no free slot */
		pipeline_set_state_locked(&shmem->pipelines[i], PIPELINE_STARTING, NULL);
	}
	slot = &shmem->pipelines[i];
	if (slot->version != row->version || slot->owner != row->owner || slot->dropped)
	{
		if (should_run && slot->launcher_pid == 0)
		{
			/* somebody wants it now: forget the back-off */
			slot->failures = 0;
			slot->next_start_us = 0;
			pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
		}
	}
	slot->dropped = false;
	slot->wanted = should_run;
	slot->drain = row->drain;
	slot->owner = row->owner;
	slot->version = row->version;
	if (slot->retry_until < row->retry_until)
	{
		slot->retry_until = row->retry_until;
		pipeline_wake_tasks_locked(i);
	}
	pipeline_wake_launcher_locked(i);
	ConditionVariableBroadcast(&slot->changed);
}

static bool done;

/* A scanner that failed or was terminated has to come again. */
static void
tell_failure(int code, Datum arg)
{
	if (done)
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->scan_failed = MyDatabaseId;
	LWLockRelease(shmem->lock);
}

void
streamproc_scanner_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	List	   *rows = NIL;
	ListCell   *lc;
	int			i;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("streamproc scanner");
	before_shmem_exit(tell_failure, (Datum) 0);

	checkpoint_begin();
	FAULT_POINT("scanner-scan");
	if (catalog_installed())
		rows = catalog_pipelines();

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	foreach(lc, rows)
		follow_row(lfirst(lc));
	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];
		bool		exists = false;

		if (!slot->in_use || slot->database != MyDatabaseId)
			continue;
		foreach(lc, rows)
			if (strcmp(((PipelineRow *) lfirst(lc))->name, slot->name) == 0)
				exists = true;
		if (!exists)
		{
			slot->wanted = false;
			slot->dropped = true;
			pipeline_wake_launcher_locked(i);
		}
	}
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
	checkpoint_commit();
	done = true;
	proc_exit(0);
}

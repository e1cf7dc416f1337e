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
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
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
		{
			/* shown by the view; the supervisor frees one when it can, and has us look again */
			shmem->slots_missing = true;
			return;
		}
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
			slot->over_unfiltered = false;
			slot->pass_carefully = false;
			pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
		}
		/* the launcher of the run that failed is still on its way out, and the next one leaves this state as it is */
		else if (should_run && slot->state == PIPELINE_FAILED)
			pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
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

/*
 * The pipelines of the database.  None where the extension is of another
 * version than the library: its tables and functions are others.  Said once
 * per scan, and a scan there is only when something changed.
 */
static List *
wishes(void)
{
	char	   *version;

	if (!catalog_installed())
		return NIL;
	version = catalog_version();
	if (strcmp(version, CATALOG_VERSION) == 0)
		return catalog_pipelines();
	ereport(LOG,
			(errmsg("pipelines of database \"%s\" do not run: its extension \"streamproc\" is of version %s, the library of version %s",
					get_database_name(MyDatabaseId), version, CATALOG_VERSION),
			 errhint("%s", catalog_version_hint(version))));
	return NIL;
}

void
streamproc_scanner_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	List	   *rows = NIL;
	ListCell   *lc;
	int			i;

	guc_worker_signals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	pgstat_report_appname("streamproc scanner");
	guc_reload();

	checkpoint_begin();
	FAULT_POINT("scanner-scan");
	rows = wishes();

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
	/* until then we have failed, also where we could not connect: the supervisor sends another one */
	shmem->scan_failed = InvalidOid;
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
	checkpoint_commit();
	proc_exit(0);
}

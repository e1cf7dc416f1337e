/*-------------------------------------------------------------------------
 *
 * supervisor.c
 *	  Keeps the launchers of all wanted pipelines running, nothing else.
 *
 * One per cluster, connected to no database (so it is in nobody's way), and
 * so small that one bad pipeline can neither stop nor delay it: it reads
 * slots, starts workers, and waits.
 *
 * It learns of pipelines from scanners: one for each database when it starts,
 * and one for a database in which a transaction changed a pipeline.  One
 * scanner runs at a time; a launcher that dies comes back after 100 ms,
 * doubled with each failure in a row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

typedef struct Launched
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	int			slot;			/* worker slot */
	uint64		generation;		/* of the worker slot */
	int64		blocked_us;		/* since when a launcher that is not ours is in the way, 0: none */
	int64		orphans_us;		/* since when tasks are left of a pipeline that is to stop, 0: none */
} Launched;

typedef enum DatabaseState
{
	DATABASE_OPEN,
	DATABASE_CLOSED,			/* ALLOW_CONNECTIONS false, or what a broken DROP DATABASE left */
	DATABASE_GONE
} DatabaseState;

#define STARVED_RETRY_US	INT64CONST(1000000)

static List *databases = NIL;	/* OIDs still to be scanned */
static BackgroundWorkerHandle *scanner = NULL;
static int64 scanner_retry_us = 0;
static Launched *launched;		/* by pipeline slot */

void
supervisor_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "streamproc", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "streamproc_supervisor_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "streamproc supervisor", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "streamproc supervisor", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

static void
detach(int code, Datum arg)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->supervisor_latch = NULL;
	LWLockRelease(shmem->lock);
}

/*
 * All databases that can be connected to are put on the list.  "wanted": the
 * state of that one instead.
 */
static DatabaseState
look_at_databases(Oid wanted)
{
	MemoryContext cxt = CurrentMemoryContext;
	DatabaseState state = DATABASE_GONE;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	checkpoint_begin();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		bool		open = form->datallowconn && form->datconnlimit != DATCONNLIMIT_INVALID_DB;
		MemoryContext old;

		if (OidIsValid(wanted))
		{
			if (form->oid == wanted)
				state = open ? DATABASE_OPEN : DATABASE_CLOSED;
			continue;
		}
		if (!open)
			continue;
		old = MemoryContextSwitchTo(cxt);
		databases = list_append_unique_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	checkpoint_commit();
	MemoryContextSwitchTo(cxt);
	return state;
}

static bool
start_worker(const char *function, const char *name, const char *type, Datum arg,
			 BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "streamproc", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	worker.bgw_main_arg = arg;
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* The next one to be scanned; not while a command needs it without workers. */
static Oid
next_database(void)
{
	Oid			result = InvalidOid;
	ListCell   *lc;

	LWLockAcquire(shmem->lock, LW_SHARED);
	foreach(lc, databases)
	{
		if (database_held_locked(lfirst_oid(lc)))
			continue;
		result = lfirst_oid(lc);
		break;
	}
	LWLockRelease(shmem->lock);
	return result;
}

/* Databases that an API call marked, and those of the start. */
static void
run_scanners(int64 now)
{
	Oid			changed[SHMEM_CHANGED_DATABASES];
	int			nchanged;
	bool		all;
	Oid			database;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	nchanged = shmem->nchanged;
	memcpy(changed, shmem->changed, sizeof(Oid) * nchanged);
	shmem->nchanged = 0;
	all = shmem->scan_all;
	shmem->scan_all = false;
	LWLockRelease(shmem->lock);

	for (i = 0; i < nchanged; i++)
		databases = list_append_unique_oid(databases, changed[i]);
	if (all)
		(void) look_at_databases(InvalidOid);

	if (scanner != NULL)
	{
		pid_t		pid;
		Oid			failed;

		if (GetBackgroundWorkerPid(scanner, &pid) != BGWH_STOPPED)
			return;
		pfree(scanner);
		scanner = NULL;
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		failed = shmem->scan_failed;
		shmem->scan_failed = InvalidOid;
		LWLockRelease(shmem->lock);
		if (OidIsValid(failed))
		{
			databases = list_append_unique_oid(databases, failed);
			scanner_retry_us = now + 1000000;
		}
	}
	if (now < scanner_retry_us)
		return;
	while ((database = next_database()) != InvalidOid)
	{
		DatabaseState state = look_at_databases(database);

		databases = list_delete_oid(databases, database);
		if (state == DATABASE_GONE)
			database_dropped(database);
		if (state != DATABASE_OPEN)
			continue;			/* who lets connections in again tells us */
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		shmem->scan_failed = database;	/* until the scanner says otherwise */
		LWLockRelease(shmem->lock);
		if (start_worker("streamproc_scanner_main", "streamproc scanner", "streamproc scanner",
						 ObjectIdGetDatum(database), &scanner))
			return;
		scanner = NULL;
		databases = lappend_oid(databases, database);
		scanner_retry_us = now + 1000000;	/* no free slot of max_worker_processes */
		return;
	}
}

/* A launcher that we started has ended. */
static void
launcher_ended(int i, int64 now)
{
	PipelineSlot *slot = &shmem->pipelines[i];
	Launched   *l = &launched[i];

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	/* it died before it attached, so it could not free its slot */
	if (shmem->workers[l->slot].in_use && shmem->workers[l->slot].generation == l->generation)
		worker_slot_free_locked(l->slot);
	if (slot->in_use)
	{
		if (!slot->expected_exit)
			slot->starved = false;
		if (slot->expected_exit)
		{
			slot->failures = 0;
			slot->next_start_us = slot->starved ? now + STARVED_RETRY_US : 0;
		}
		else if (slot->wanted)
		{
			slot->failures++;
			slot->restarts++;
			slot->next_start_us = now + worker_backoff_us(slot->failures);
			/* once may be chance; who was not let in has said why */
			if (slot->failures > 1 && slot->state != PIPELINE_FAILED && !slot->not_let_in)
			{
				Reason		reason;

				reason_set(&reason, "57P01", "the launcher ended unexpectedly and is started again", NULL,
						   "The server's log says why.");
				pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
			}
		}
		slot->expected_exit = false;
		slot->not_let_in = false;
		if (!slot->wanted && slot->state != PIPELINE_FAILED)
			pipeline_set_state_locked(slot, PIPELINE_STOPPED, NULL);
		ConditionVariableBroadcast(&slot->changed);
	}
	LWLockRelease(shmem->lock);
	pfree(l->handle);
	l->handle = NULL;
}

/*
 * After a supervisor that was terminated, or that crashed, its launchers are
 * on their way out.  Never two at once: the new one would settle while the old
 * one still believes in its tasks.
 */
static bool
launcher_of_another_is_gone(int i)
{
	Launched   *l = &launched[i];
	int64		now = monotonic_us();
	bool		late;
	int			left = 0;
	int			j;

	if (l->blocked_us == 0)
		l->blocked_us = now;
	late = now - l->blocked_us > (int64) streamproc_stop_timeout * 1000;
	for (j = 0; j < shmem->nworkers; j++)
	{
		WorkerSlot *w = &shmem->workers[j];

		if (!w->in_use || w->pipeline != i || w->role != WORKER_LAUNCHER)
			continue;
		left++;
		if (w->latch != NULL)
			SetLatch(w->latch);
		if (late && w->pid != 0)
			kill(w->pid, SIGTERM);
	}
	if (left == 0)
		l->blocked_us = 0;
	else if (late)
	{
		Reason		reason;

		reason_set(&reason, "55006", "the launcher of an earlier run to leave", NULL, "The pipeline goes on by itself.");
		pipeline_set_state_locked(&shmem->pipelines[i], PIPELINE_WAITING, &reason);
	}
	return left == 0;
}

/* Returns false where it cannot be now; the slot says why. */
static bool
start_launcher(int i)
{
	PipelineSlot *slot = &shmem->pipelines[i];
	Launched   *l = &launched[i];
	char		name[BGW_MAXLEN];
	DatabaseState state = look_at_databases(slot->database);
	int			w;

	if (state == DATABASE_GONE)
	{
		database_dropped(slot->database);
		return false;
	}
	if (state == DATABASE_CLOSED)
	{
		Reason		reason;

		reason_set(&reason, "55000", "the database does not accept connections", NULL,
				   "ALTER DATABASE ... ALLOW_CONNECTIONS true; the pipeline goes on by itself.");
		pipeline_set_state(i, PIPELINE_WAITING, &reason);
		return false;
	}
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (!slot->in_use || !slot->wanted || database_held_locked(slot->database))
	{
		LWLockRelease(shmem->lock);
		return false;
	}
	if (!launcher_of_another_is_gone(i))
	{
		LWLockRelease(shmem->lock);
		return false;
	}
	/* workers of this generation are the new launcher's and its tasks */
	slot->generation = ++shmem->next_generation;
	w = worker_slot_claim_locked(i, WORKER_LAUNCHER, -1);
	if (w >= 0)
		l->generation = shmem->workers[w].generation;
	snprintf(name, sizeof(name), "streamproc launcher of %s", slot->name);
	LWLockRelease(shmem->lock);
	l->slot = w;
	if (w >= 0 &&
		start_worker("streamproc_launcher_main", name, "streamproc launcher", worker_slot_arg(w), &l->handle))
		return true;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (w >= 0)
		worker_slot_free_locked(w);
	{
		Reason		reason;

		reason_set(&reason, "53400",
				   w >= 0 ? "no free background worker for the launcher" : "no free worker slot of streamproc for the launcher",
				   NULL,
				   w >= 0 ? "Raise max_worker_processes and restart the server." : "Raise streamproc.max_workers and restart the server.");
		pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
		slot->starved = true;
	}
	LWLockRelease(shmem->lock);
	l->handle = NULL;
	return false;
}

/*
 * Of the pipelines that found no free workers one tries at a time, the one
 * that waits for longest first: else their launchers could take from each
 * other what one of them needs for its tasks.  -1: none, or not now.
 */
static int
next_starved(int64 now)
{
	int			next = -1;
	int			i;

	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (!slot->in_use || !slot->starved)
			continue;
		if (launched[i].handle != NULL)
			return -1;
		if (slot->wanted && slot->next_start_us <= now &&
			(next < 0 || slot->next_start_us < shmem->pipelines[next].next_start_us))
			next = i;
	}
	return next;
}

/*
 * A pipeline found all slots taken: those of pipelines that do not run are
 * given up (the catalog knows their state), and all databases looked at again.
 */
static void
free_idle_slots(void)
{
	bool		freed = false;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (slot->in_use && !slot->wanted && launched[i].handle == NULL && !database_held_locked(slot->database) &&
			pipeline_workers_locked(i, WORKER_LAUNCHER, -1) == 0 && pipeline_workers_locked(i, WORKER_TASK, -1) == 0)
		{
			pipeline_slot_free_locked(i);
			freed = true;
		}
	}
	if (freed)
	{
		shmem->slots_missing = false;
		shmem->scan_all = true;
		SetLatch(MyLatch);
	}
	LWLockRelease(shmem->lock);
}

/*
 * A launcher ended before it had stopped its tasks, and no other one will come.
 * They leave when they see it; those that wait for a lock see nothing.  Returns
 * whether some are left.
 */
static bool
end_orphans(int i, int64 now)
{
	Launched   *l = &launched[i];
	bool		late;
	int			left;
	int			j;

	late = l->orphans_us != 0 && now - l->orphans_us > (int64) streamproc_stop_timeout * 1000;
	LWLockAcquire(shmem->lock, LW_SHARED);
	left = pipeline_workers_locked(i, WORKER_TASK, -1);
	LWLockRelease(shmem->lock);
	if (left == 0)
	{
		l->orphans_us = 0;
		return false;
	}
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (j = 0; j < shmem->nworkers; j++)
	{
		WorkerSlot *w = &shmem->workers[j];

		if (!w->in_use || w->pipeline != i || w->role == WORKER_LAUNCHER)
			continue;
		w->stop = true;
		if (w->latch != NULL)
			SetLatch(w->latch);
		if (late && w->pid != 0)
			kill(w->pid, SIGTERM);
	}
	LWLockRelease(shmem->lock);
	if (l->orphans_us == 0)
		l->orphans_us = now;
	return true;
}

/* Returns the time until something is due, in ms. */
static long
run_launchers(int64 now)
{
	int64		due = now + 60 * 1000000;
	int			starved;
	int			i;

	for (i = 0; i < shmem->npipelines; i++)
	{
		pid_t		pid;

		if (launched[i].handle != NULL && GetBackgroundWorkerPid(launched[i].handle, &pid) == BGWH_STOPPED)
			launcher_ended(i, now);
	}
	if (shmem->slots_missing)
		free_idle_slots();
	starved = next_starved(now);

	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (!slot->in_use || launched[i].handle != NULL)
			continue;
		if ((slot->dropped || !slot->wanted) && end_orphans(i, now))
			due = Min(due, now + 100000);
		if (slot->dropped)
		{
			LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
			if (slot->dropped && pipeline_workers_locked(i, WORKER_TASK, -1) == 0)
				pipeline_slot_free_locked(i);
			LWLockRelease(shmem->lock);
			continue;
		}
		if (!slot->wanted)
			continue;
		if (slot->next_start_us > now)
		{
			due = Min(due, slot->next_start_us);
			continue;
		}
		if (slot->starved && i != starved)
		{
			due = Min(due, now + STARVED_RETRY_US / 4);
			continue;
		}
		if (!start_launcher(i))
		{
			int64		retry = now + (launched[i].blocked_us != 0 ? 50000 : 1000000);

			LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
			slot->next_start_us = retry;
			LWLockRelease(shmem->lock);
			due = Min(due, retry);
		}
	}
	/* its end is told by a signal; were that ever missed, a stop would not be seen */
	if (scanner != NULL)
		due = Min(due, now + 1000000);
	if (scanner == NULL && OidIsValid(next_database()))
		due = Min(due, Max(scanner_retry_us, now));
	return (long) ((due - now) / 1000) + 1;
}

void
streamproc_supervisor_main(Datum arg)
{
	MemoryContext cxt;

	guc_worker_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("streamproc supervisor");
	guc_reload();

	cxt = AllocSetContextCreate(TopMemoryContext, "streamproc supervisor", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	launched = palloc0(sizeof(Launched) * shmem->npipelines);

	before_shmem_exit(detach, (Datum) 0);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->supervisor_latch = MyLatch;
	/*
	 * After a supervisor that was terminated: its launchers have no watcher.
	 * They leave, and are started again.
	 */
	{
		int			i;

		for (i = 0; i < shmem->npipelines; i++)
			if (shmem->pipelines[i].in_use)
				shmem->pipelines[i].generation = ++shmem->next_generation;
		for (i = 0; i < shmem->nworkers; i++)
		{
			WorkerSlot *w = &shmem->workers[i];

			if (!w->in_use)
				continue;
			if (w->latch != NULL)
				SetLatch(w->latch);
			else if (w->role == WORKER_LAUNCHER)
				worker_slot_free_locked(i); /* not attached: it finds its slot taken away */
		}
	}
	LWLockRelease(shmem->lock);
	(void) look_at_databases(InvalidOid);

	for (;;)
	{
		int64		now = monotonic_us();
		long		timeout;

		CHECK_FOR_INTERRUPTS();
		guc_reload();
		run_scanners(now);
		timeout = run_launchers(now);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

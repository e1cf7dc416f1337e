/*-------------------------------------------------------------------------
 *
 * wait_api.c
 *	  wait_until_caught_up() and wait_until_stopped().
 *
 * Both wait on the condition variable of the pipeline's slot, which workers
 * signal at each change of state and each commit; the catalog is looked at
 * again only when something changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/api.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(streamproc_wait_until_caught_up);
PG_FUNCTION_INFO_V1(streamproc_wait_until_stopped);

typedef struct Wait
{
	const char *name;
	int64		deadline;		/* monotonic us */
	int64		timeout;		/* us, for the message */
	bool		own_snapshot;	/* nobody reads with the statement's snapshot */
	MemoryContext cxt;			/* reset in each turn */
} Wait;

/*
 * While a statement runs, its snapshot keeps the whole database from removing
 * dead row versions: somebody who waits for an hour makes each upsert on a
 * hot key walk over an hour's versions of its row (a twentieth of the speed
 * within seconds).  Is the statement nothing but calls of these two functions,
 * so that no row is ever read with that snapshot?  Then it need not be kept.
 * In a transaction block a cursor might have the same one.
 */
static bool
is_only_waiting(FunctionCallInfo fcinfo)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	PlannedStmt *plan;
	ListCell   *lc;

	if (IsTransactionBlock() || IsolationUsesXactSnapshot() ||
		ActivePortal == NULL || ActivePortal->name[0] != '\0' ||
		ActivePortal->strategy != PORTAL_ONE_SELECT || ActivePortal->queryDesc == NULL ||
		!ThereAreNoReadyPortals())
		return false;
	plan = ActivePortal->queryDesc->plannedstmt;
	if (!IsA(plan->planTree, Result) || outerPlan(plan->planTree) != NULL || plan->subplans != NIL)
		return false;
	foreach(lc, plan->planTree->targetlist)
	{
		Expr	   *expr = lfirst_node(TargetEntry, lc)->expr;
		const char *name;
		ListCell   *la;

		if (!IsA(expr, FuncExpr) || get_func_namespace(((FuncExpr *) expr)->funcid) != schema)
			return false;
		name = get_func_name(((FuncExpr *) expr)->funcid);
		if (strcmp(name, "wait_until_caught_up") != 0 && strcmp(name, "wait_until_stopped") != 0)
			return false;
		foreach(la, ((FuncExpr *) expr)->args)
			if (!IsA(lfirst(la), Const) && !IsA(lfirst(la), Param))
				return false;
	}
	return true;
}

static void
begin_wait(FunctionCallInfo fcinfo, Wait *wait)
{
	Interval   *interval;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("arguments \"name\" and \"timeout\" must not be null")));
	wait->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	interval = PG_GETARG_INTERVAL_P(1);
	wait->timeout = interval->time + interval->day * USECS_PER_DAY + interval->month * (int64) 30 * USECS_PER_DAY;
	if (wait->timeout < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	wait->deadline = monotonic_us() + wait->timeout;
	wait->own_snapshot = is_only_waiting(fcinfo);
	wait->cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc wait", ALLOCSET_DEFAULT_SIZES);
	if (shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamproc must be loaded by shared_preload_libraries")));
	/* workers act at COMMIT: waiting before it would never end */
	if (catalog_changed_in_transaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for a pipeline in a transaction that has changed one"),
				 errdetail("Workers act when the transaction is committed."),
				 errhint("COMMIT first.")));
}

/* The row as of now; the caller may only look at pipelines he may see. */
static PipelineRow *
look(Wait *wait)
{
	MemoryContext old;
	PipelineRow *row;

	MemoryContextReset(wait->cxt);
	old = MemoryContextSwitchTo(wait->cxt);
	row = catalog_pipeline_get(wait->name, false);
	MemoryContextSwitchTo(old);
	rights_check_waiter(row);
	return row;
}

static void
report_failure(PipelineRow *row)
{
	Reason	   *error = &row->error;
	int			sqlstate = ERRCODE_RAISE_EXCEPTION;

	rights_mask_reason(row->owner, error);
	if (strlen(error->sqlstate) == 5)
		sqlstate = MAKE_SQLSTATE(error->sqlstate[0], error->sqlstate[1], error->sqlstate[2],
								 error->sqlstate[3], error->sqlstate[4]);
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("pipeline \"%s\" failed: %s", row->name, error->message),
			 error->topic[0] ?
			 errdetail("At topic \"%s\" partition %d offset " INT64_FORMAT ".%s%s",
					   error->topic, error->partition, error->offset,
					   error->detail[0] ? " " : "", error->detail) :
			 error->detail[0] ? errdetail_internal("%s", error->detail) : 0,
			 error->hint[0] ? errhint("%s", error->hint) : 0));
}

static void
report_timeout(Wait *wait, const char *what, const char *state)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("pipeline \"%s\" is not %s after " INT64_FORMAT " ms", wait->name, what, wait->timeout / 1000),
			 state[0] ? errdetail("%s", state) : 0,
			 errhint("See streamproc.stat_pipeline and streamproc.stat_partition.")));
}

/* Sleeps until the slot changed or some time went by. */
static void
sleep_on(Wait *wait, int slot)
{
	if (wait->own_snapshot)
	{
		/* the next look at the catalog takes a snapshot of its own, and sets it again */
		InvalidateCatalogSnapshot();
		MyProc->xmin = InvalidTransactionId;
	}
	if (slot >= 0)
		(void) ConditionVariableTimedSleep(&shmem->pipelines[slot].changed, 100, PG_WAIT_EXTENSION);
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

static void
describe(int slot, char *into, Size size)
{
	into[0] = '\0';
	if (slot < 0)
		return;
	LWLockAcquire(shmem->lock, LW_SHARED);
	if (shmem->pipelines[slot].state == PIPELINE_WAITING)
		snprintf(into, size, "It waits: %s.", shmem->pipelines[slot].reason.message);
	else if (shmem->pipelines[slot].ends_error[0] != '\0')
		snprintf(into, size, "The ends of its topics are not known: %s.", shmem->pipelines[slot].ends_error);
	LWLockRelease(shmem->lock);
}

/*
 * Was this request answered, with all ends, and did each partition reach the
 * target of it, or of a later one that was answered with it?
 */
static bool
reached(int slot, int64 serial)
{
	PipelineSlot *p = &shmem->pipelines[slot];
	bool		all;
	bool		any = false;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	/* an answer with an error knows only some of the partitions */
	all = p->ends_done >= serial && p->ends_error[0] == '\0';
	for (i = 0; i < shmem->npartitions && all; i++)
	{
		PartitionSlot *partition = &shmem->partitions[i];

		if (!partition->in_use || partition->pipeline != slot)
			continue;
		any = true;
		if (partition->target_serial < serial || (int64) pg_atomic_read_u64(&partition->committed) < partition->target)
			all = false;
	}
	LWLockRelease(shmem->lock);
	return any && all;
}

Datum
streamproc_wait_until_caught_up(PG_FUNCTION_ARGS)
{
	Wait		wait;
	int64		serial = 0;
	uint64		generation = 0;
	bool		known = false;
	uint64		written[SHMEM_MAX_TASKS];

	begin_wait(fcinfo, &wait);
	for (;;)
	{
		PipelineRow *row = look(&wait);
		char		state[SHMEM_MESSAGE_LEN + 32];
		int			slot;
		bool		caught_up;

		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		slot = pipeline_slot_find_locked(MyDatabaseId, wait.name);
		if (slot >= 0)
		{
			PipelineSlot *p = &shmem->pipelines[slot];

			/* a new launcher, or one that could not ask: ask (again) */
			if (p->version == row->version && p->wanted && p->launcher_pid != 0 &&
				p->state != PIPELINE_STARTING &&
				(serial == 0 || generation != p->generation ||
				 (p->ends_done >= serial && p->ends_error[0] != '\0')))
			{
				serial = ++p->ends_wanted;
				generation = p->generation;
				pipeline_wake_launcher_locked(slot);
			}
		}
		LWLockRelease(shmem->lock);

		caught_up = serial != 0 && slot >= 0 && reached(slot, serial) &&
			shmem->pipelines[slot].retry_done >= row->retry_until;
		/* what it had written by then has to be sent, too */
		if (caught_up && !known)
			for (int s = 0; s < SHMEM_MAX_TASKS; s++)
				written[s] = pg_atomic_read_u64(&shmem->pipelines[slot].outbox_written[s]);
		known = caught_up;
		if (known && pipeline_all_sent(slot, written))
			break;
		if (!row->active)
		{
			ConditionVariableCancelSleep();
			if (row->state != NULL && strcmp(row->state, "failed") == 0)
				report_failure(row);
			if (row->state != NULL && strcmp(row->state, "stopped") != 0)
				break;			/* it ran to its end and stopped */
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("pipeline \"%s\" is stopped", wait.name),
					 errhint("SELECT streamproc.start_pipeline(%s).", quote_literal_cstr(wait.name))));
		}
		if (monotonic_us() >= wait.deadline)
		{
			ConditionVariableCancelSleep();
			describe(slot, state, sizeof(state));
			report_timeout(&wait, "caught up", state);
		}
		sleep_on(&wait, slot);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}

Datum
streamproc_wait_until_stopped(PG_FUNCTION_ARGS)
{
	Wait		wait;

	begin_wait(fcinfo, &wait);
	for (;;)
	{
		PipelineRow *row = look(&wait);
		char		state[SHMEM_MESSAGE_LEN + 32];
		bool		gone = true;
		int			slot;

		LWLockAcquire(shmem->lock, LW_SHARED);
		slot = pipeline_slot_find_locked(MyDatabaseId, wait.name);
		if (slot >= 0)
			gone = !shmem->pipelines[slot].wanted && shmem->pipelines[slot].launcher_slot < 0 &&
				pipeline_workers_locked(slot, WORKER_TASK, -1) == 0 &&
				pipeline_workers_locked(slot, WORKER_LAUNCHER, -1) == 0;
		LWLockRelease(shmem->lock);

		if (!row->active && gone)
		{
			ConditionVariableCancelSleep();
			if (row->state != NULL && strcmp(row->state, "failed") == 0)
				report_failure(row);
			PG_RETURN_VOID();
		}
		if (monotonic_us() >= wait.deadline)
		{
			ConditionVariableCancelSleep();
			describe(slot, state, sizeof(state));
			report_timeout(&wait, "stopped", state);
		}
		sleep_on(&wait, slot);
	}
}

/*-------------------------------------------------------------------------
 *
 * common.c
 *	  What launchers and tasks share: beginning, settings, errors, end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "worker/worker.h"

static int	my_pipeline = -1;
static int64 my_version = 0;	/* of the catalog row that this process works by */
static uint64 my_pipeline_generation;

/*
 * Settings of every worker, whatever ALTER ROLE or ALTER DATABASE say.  Those
 * that change results are pinned with the pipeline, see worker_apply_settings.
 */
static const char *const fixed_settings[][2] = {
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"lock_timeout", "0"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"jit", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"session_replication_role", "origin"},
	{"row_security", "on"},
	{"client_min_messages", "error"},
};

/* ---- a worker that is not let in ---- */

/*
 * A role that may not log in, a database without CONNECT for it, a connection
 * limit: connecting ends the process by FATAL, which nothing catches.  So the
 * message is picked up on its way to the log, and told to the views when the
 * process leaves.
 */
static bool connecting = false;
static Reason connect_error;
static emit_log_hook_type prev_emit_log_hook = NULL;

static void
pick_up_fatal(ErrorData *edata)
{
	if (connecting && edata->elevel == FATAL && ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_OPERATOR_INTERVENTION)
		reason_set(&connect_error, unpack_sql_state(edata->sqlerrcode), edata->message,
				   edata->detail, "A pipeline's workers connect as its owner: ALTER ROLE ... LOGIN, GRANT CONNECT ON DATABASE, or another owner. It goes on by itself.");
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
tell_connect_error(int code, Datum arg)
{
	PipelineSlot *slot = &shmem->pipelines[my_pipeline];

	if (!connecting || connect_error.message[0] == '\0')
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (slot->generation == my_pipeline_generation)
	{
		slot->last_error = connect_error;
		/* of a task, its launcher tells it */
		if (DatumGetInt32(arg) == WORKER_LAUNCHER && slot->state != PIPELINE_FAILED)
		{
			slot->not_let_in = true;
			pipeline_set_state_locked(slot, PIPELINE_WAITING, &connect_error);
		}
	}
	LWLockRelease(shmem->lock);
}

static void
connect_as(Oid database, Oid owner, WorkerRole role)
{
	before_shmem_exit(tell_connect_error, Int32GetDatum(role));
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = pick_up_fatal;
	connecting = true;
	BackgroundWorkerInitializeConnectionByOid(database, owner, 0);
	connecting = false;
	emit_log_hook = prev_emit_log_hook;
}

/* ---- begin ---- */

void
worker_begin(Datum arg, WorkerRole role)
{
	PipelineSlot *pipeline;
	Oid			database;
	Oid			owner;
	char		name[NAMEDATALEN];
	char		title[NAMEDATALEN + 64];
	int			task;

	guc_worker_signals();
	/* what a trigger sends at once would be sent again after a failure */
	stream_outbox_only = true;

	/* not ours: the pipeline has gone on without us */
	if (worker_slot_attach(arg, role) < 0)
		proc_exit(0);

	LWLockAcquire(shmem->lock, LW_SHARED);
	my_pipeline = shmem->workers[my_worker_slot].pipeline;
	my_pipeline_generation = shmem->workers[my_worker_slot].pipeline_generation;
	task = shmem->workers[my_worker_slot].task;
	pipeline = &shmem->pipelines[my_pipeline];
	database = pipeline->database;
	owner = pipeline->owner;
	strlcpy(name, pipeline->name, NAMEDATALEN);
	LWLockRelease(shmem->lock);

	connect_as(database, owner, role);
	if (role == WORKER_LAUNCHER)
		snprintf(title, sizeof(title), "streamproc launcher of %s", name);
	else if (role == WORKER_PUBLISHER)
		snprintf(title, sizeof(title), "streamproc publisher of %s", name);
	else
		snprintf(title, sizeof(title), "streamproc task %d of %s", task, name);
	SetConfigOption("application_name", title, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_appname(title);
	pgstat_report_activity(STATE_IDLE, NULL);
	guc_reload();
}

PipelineSlot *
worker_pipeline(void)
{
	return &shmem->pipelines[my_pipeline];
}

void
worker_apply_settings(PipelineRow *row)
{
	int			i;
	ListCell   *lc;

	for (i = 0; i < (int) lengthof(fixed_settings); i++)
	{
		const char *now = GetConfigOption(fixed_settings[i][0], true, false);

		if (now == NULL || strcmp(now, fixed_settings[i][1]) != 0)
			SetConfigOption(fixed_settings[i][0], fixed_settings[i][1], PGC_SUSET, PGC_S_SESSION);
	}
	for (lc = list_head(row->settings); lc != NULL; lc = lnext(row->settings, lc))
	{
		char	   *name = lfirst(lc);
		char	   *value;
		const char *now;

		lc = lnext(row->settings, lc);
		if (lc == NULL)
			break;
		value = lfirst(lc);
		now = GetConfigOption(name, true, false);
		if (now == NULL || strcmp(now, value) != 0)
			SetConfigOption(name, value, PGC_USERSET, PGC_S_SESSION);
	}
	/* true: what the server, database or role say */
	if (!row->synchronous_commit)
		SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);
}

PipelineRow *
worker_find_pipeline(MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	PipelineRow *row = NULL;
	PipelineSlot *slot = worker_pipeline();

	if (catalog_installed())
		row = catalog_pipeline_get(slot->name, true);
	MemoryContextSwitchTo(old);
	/* dropped, stopped or given to somebody else meanwhile: the scanner knows or will know */
	if (row == NULL || !row->active || !OidIsValid(row->procedure) || row->owner != GetUserId() ||
		!catalog_pipeline_is_local(row))
	{
		catalog_mark_changed();
		return NULL;
	}
	return row;
}

PipelineRow *
worker_load_pipeline(MemoryContext cxt)
{
	PipelineRow *row = worker_find_pipeline(cxt);

	if (row == NULL)
	{
		if (IsTransactionState())
			checkpoint_commit();
		proc_exit(0);
	}
	return row;
}

void
worker_check(void)
{
	CHECK_FOR_INTERRUPTS();
	guc_reload();
	if (worker_pipeline()->generation != my_pipeline_generation)
		proc_exit(0);			/* another launcher has taken over */

	/*
	 * A task without a launcher has nobody who watches over it.  What is
	 * committed is committed.
	 */
	if (shmem->workers[my_worker_slot].role != WORKER_LAUNCHER &&
		worker_pipeline()->launcher_pid == 0)
		proc_exit(0);
}

bool
worker_stop_requested(void)
{
	WorkerSlot *w = &shmem->workers[my_worker_slot];

	return w->stop;
}

/*
 * Errors that come from outside and pass: the same rows will do later.
 * 08 connection, 40 conflict, 53 resources, 55 object not ready, 57 operator,
 * 58 system.
 */
bool
worker_error_passes(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return false;
	}
}

/*
 * 25 (state of the transaction) and XX (internal) are no row's, nor are missing
 * objects and rights: 28, 3D, 3F and 42.  A row that row-level security refuses
 * is one's, though its SQLSTATE is that of missing rights.
 */
bool
worker_error_of_row(const ErrorData *edata)
{
	if (worker_error_passes(edata->sqlerrcode) || edata->elevel > ERROR)
		return false;
	switch (ERRCODE_TO_CATEGORY(edata->sqlerrcode))
	{
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_INTERNAL_ERROR:
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
		case ERRCODE_INVALID_CATALOG_NAME:
		case ERRCODE_INVALID_SCHEMA_NAME:
			return false;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			return edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE &&
				edata->funcname != NULL && strcmp(edata->funcname, "ExecWithCheckOptions") == 0;
		default:
			return true;
	}
}

void
worker_reason_from_error(Reason *reason, const ErrorData *edata)
{
	reason_set(reason, unpack_sql_state(edata->sqlerrcode), edata->message,
			   edata->detail, edata->hint);
}

/* Of pipelines with state it is the launcher that waits, of others each task. */
void
worker_reason_outbox_full(Reason *reason)
{
	reason_set(reason, "53400", "as many messages as streamproc.outbox_size allows wait to be sent", NULL,
			   "See what the publisher waits for in streamproc.stat_worker; the pipeline goes on by itself.");
}

/* What views say about a cluster that cannot be used now. */
void
worker_describe_failure(char *into, Size size, const KafkaError *err)
{
	switch (err->failure)
	{
		case KAFKA_UNREACHABLE:
			snprintf(into, size, "broker unreachable: %s", err->message);
			break;
		case KAFKA_LOGIN_FAILED:
			snprintf(into, size, "login to the broker failed: %s", err->message);
			break;
		case KAFKA_NOT_ALLOWED:
			strlcpy(into, err->message, size);
			break;
		default:
			snprintf(into, size, "cluster does not answer: %s", err->message);
			break;
	}
}

void
worker_hint_restart(char *into, Size size, const char *name)
{
	char	   *quoted = quote_literal_cstr(name);

	snprintf(into, size, "Mend the cause, then: SELECT streamproc.start_pipeline(%s)", quoted);
	pfree(quoted);
}

void
worker_works_by(int64 version)
{
	my_version = version;
}

/*
 * Writes the end of a run into the catalog, in a transaction of its own.
 * False: the pipeline was changed meanwhile, this run is not what counts.
 */
static bool
record_end(const char *state, const Reason *reason)
{
	PipelineSlot *slot = worker_pipeline();
	PipelineRow *row;
	bool		recorded = false;

	checkpoint_begin();
	catalog_pipeline_lock(slot->name);
	row = catalog_pipeline_get(slot->name, true);
	/* somebody may have changed it meanwhile: then his wish counts */
	if (row != NULL && row->active && row->version == my_version)
	{
		recorded = true;
		row->active = false;
		row->drain = false;
		row->version++;
		row->state = pstrdup(state);
		row->state_since = GetCurrentTimestamp();
		if (reason != NULL)
			row->error = *reason;
		catalog_pipeline_update(row);
	}
	else
		catalog_mark_changed(); /* the scanner looks again at what is wished */
	FAULT_POINT("end-before-commit");
	checkpoint_commit();
	return recorded;
}

void
worker_fail_pipeline(Reason *reason)
{
	PipelineSlot *slot = worker_pipeline();
	bool		recorded;

	if (reason->hint[0] == '\0')
		worker_hint_restart(reason->hint, sizeof(reason->hint), slot->name);
	if (reason->topic[0] != '\0')
		ereport(LOG,
				(errmsg("pipeline \"%s\" failed at topic \"%s\" partition %d offset " INT64_FORMAT ": %s",
						slot->name, reason->topic, reason->partition, reason->offset, reason->message),
				 /* the detail of a row's error often holds the row: for the owner's eyes only */
				 errdetail("The view streamproc.stat_pipeline shows the detail."),
				 errhint("%s", reason->hint)));
	else
		ereport(LOG,
				(errmsg("pipeline \"%s\" failed: %s", slot->name, reason->message),
				 reason->detail[0] ? errdetail_internal("%s", reason->detail) : 0,
				 errhint("%s", reason->hint)));

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->last_error = *reason;
	shmem->workers[my_worker_slot].failed = true;
	LWLockRelease(shmem->lock);

	FAULT_POINT("fail-before-record");
	recorded = record_end("failed", reason);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	/* unless somebody has started it again already */
	if (recorded && slot->version <= my_version + 1)
	{
		pipeline_set_state_locked(slot, PIPELINE_FAILED, reason);
		slot->wanted = false;
	}
	slot->expected_exit = true;
	pipeline_wake_launcher_locked(my_pipeline);
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

void
worker_finish_pipeline(const char *how)
{
	PipelineSlot *slot = worker_pipeline();

	bool		recorded = record_end(how, NULL);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (recorded && slot->version <= my_version + 1)
		slot->wanted = false;
	slot->expected_exit = true;
	LWLockRelease(shmem->lock);
}

/* 100 ms, doubled with each failure in a row, up to streamproc.restart_backoff_max */
int64
worker_backoff_us(int failures)
{
	int64		ms = 100;

	while (failures-- > 1 && ms < streamproc_restart_backoff_max)
		ms *= 2;
	return Min(ms, (int64) streamproc_restart_backoff_max) * 1000;
}

TimestampTz
worker_kafka_time(int64 ms)
{
	if (ms < 0 || ms >= END_TIMESTAMP / 1000)
		return DT_NOBEGIN;
	return (ms - KAFKA_EPOCH_MS) * 1000;
}

/*
 * Was the clock of the machine set back?  Our own waits are by the monotonic
 * clock, but threads of librdkafka wait until a time of the wall clock: one
 * that had a second left to its next attempt to connect sleeps an hour more.
 * With new clients in new processes nobody does.
 */
bool
worker_clock_set_back(void)
{
	static int64 clock_us = 0;
	int64		before = monotonic_us();
	int64		offset = GetCurrentTimestamp() - before;

	if (monotonic_us() - before > 100000)
		return false;			/* we were not running: cannot tell */
	if (clock_us == 0 || offset >= clock_us)
	{
		clock_us = offset;
		return false;
	}
	if (clock_us - offset < 2 * USECS_PER_SEC)
		return false;
	ereport(LOG,
			(errmsg("pipeline \"%s\" starts anew: the clock was set back by " INT64_FORMAT " s",
					worker_pipeline()->name, (clock_us - offset) / USECS_PER_SEC)));
	return true;
}

bool
worker_waits_for_standby(void)
{
	return max_wal_senders > 0 && SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0';
}

void
worker_wait(long timeout_ms)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;

	if (timeout_ms >= 0)
		events |= WL_TIMEOUT;
	(void) WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	worker_check();
}

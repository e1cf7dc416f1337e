/*-------------------------------------------------------------------------
 *
 * event_api.c
 *	  Event triggers and the utility hook: DDL that concerns pipelines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "stream/stream.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(streamproc_on_sql_drop);
PG_FUNCTION_INFO_V1(streamproc_on_ddl);

static ProcessUtility_hook_type prev_utility_hook = NULL;

/*
 * A dropped procedure takes its pipeline along: DROP ... CASCADE of a table
 * that it uses, DROP OWNED.
 */
Datum
streamproc_on_sql_drop(PG_FUNCTION_ARGS)
{
	uint64		i;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as an event trigger")));
	/* DROP EXTENSION drops the tables too */
	if (!catalog_installed())
		PG_RETURN_NULL();

	SPI_connect();
	SPI_execute("SELECT address_names[2] FROM pg_catalog.pg_event_trigger_dropped_objects() "
				"WHERE object_type = 'procedure' AND schema_name = '" CATALOG_PIPELINE_SCHEMA "'", true, 0);
	for (i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (name != NULL)
			(void) catalog_pipeline_delete(name);
	}
	SPI_finish();
	PG_RETURN_NULL();
}

Datum
streamproc_on_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *trigger = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as an event trigger")));
	stream_utility_check(trigger->parsetree);
	PG_RETURN_NULL();
}

/*
 * CALL of a pipeline would run its whole topic into the sink.  EXECUTE is
 * revoked, but a superuser needs none, and the owner can give it back.
 */
static void
refuse_call(Node *statement)
{
	CallStmt   *call = (CallStmt *) statement;
	Oid			schema;

	if (!IsA(statement, CallStmt) || call->funcexpr == NULL)
		return;
	schema = get_namespace_oid(CATALOG_PIPELINE_SCHEMA, true);
	if (!OidIsValid(schema) || get_func_namespace(call->funcexpr->funcid) != schema)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a pipeline cannot be called"),
			 errdetail("It would run all of its topics into the target at once."),
			 errhint("SELECT streamproc.start_pipeline(%s).",
					 quote_literal_cstr(get_func_name(call->funcexpr->funcid)))));
}

/* ---- DDL that workers stand in the way of ---- */

/*
 * Stops the pipelines of a database for a command that needs it without
 * workers.  They start again when the supervisor is told that the database
 * changed: after the command, if it still exists.
 */
static void
stop_workers(Oid database)
{
	int64		deadline = monotonic_us() + (int64) streamproc_stop_timeout * 1000;

	for (;;)
	{
		int			left = 0;
		int			i;

		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		for (i = 0; i < shmem->npipelines; i++)
		{
			PipelineSlot *slot = &shmem->pipelines[i];

			if (!slot->in_use || slot->database != database)
				continue;
			slot->wanted = false;
			pipeline_wake_launcher_locked(i);
			left += pipeline_workers_locked(i, WORKER_LAUNCHER, -1) + pipeline_workers_locked(i, WORKER_TASK, -1);
		}
		LWLockRelease(shmem->lock);
		if (left == 0 || monotonic_us() > deadline)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Which database does the command want without workers?  InvalidOid: none. */
static Oid
database_to_clear(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return get_database_oid(((DropdbStmt *) statement)->dbname, true);
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return get_database_oid(((RenameStmt *) statement)->subname, true);
			return InvalidOid;
		case T_DropStmt:
			{
				DropStmt   *drop = (DropStmt *) statement;
				ListCell   *lc;

				if (drop->removeType != OBJECT_EXTENSION)
					return InvalidOid;
				foreach(lc, drop->objects)
					if (strcmp(strVal(lfirst(lc)), "streamproc") == 0 &&
						OidIsValid(get_extension_oid("streamproc", true)))
						return MyDatabaseId;
				return InvalidOid;
			}
		default:
			return InvalidOid;
	}
}

/* May the user do it?  Else his command must not stop anybody's pipelines. */
static bool
may_clear(Oid database)
{
	return superuser() || pg_database_ownercheck(database, GetUserId());
}

/*
 * While a statement with secrets runs: an error of it would put its text into
 * the server's log, as STATEMENT, or as CONTEXT where a function runs it.
 */
static void
hide_statement(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

static void
utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	volatile Oid database = InvalidOid;
	ErrorContextCallback hide;

	hide.callback = hide_statement;
	hide.arg = NULL;
	hide.previous = error_context_stack;
	if (IsTransactionState() && stream_statement_is_secret(pstmt->utilityStmt))
		error_context_stack = &hide;
	if (IsTransactionState())
		refuse_call(pstmt->utilityStmt);
	if (shmem != NULL && IsTransactionState() && !RecoveryInProgress())
		database = database_to_clear(pstmt->utilityStmt);
	if (OidIsValid(database) && !may_clear(database))
		database = InvalidOid;
	if (OidIsValid(database))
		stop_workers(database);

	PG_TRY();
	{
		if (prev_utility_hook)
			prev_utility_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_CATCH();
	{
		if (OidIsValid(database))
			database_changed(database);
		PG_RE_THROW();
	}
	PG_END_TRY();
	error_context_stack = hide.previous;
	if (OidIsValid(database))
	{
		if (IsA(pstmt->utilityStmt, DropdbStmt))
			database_dropped(database);
		else if (IsA(pstmt->utilityStmt, DropStmt))
			catalog_mark_changed();
		else
			database_changed(database);
	}
}

void
api_install_hooks(void)
{
	prev_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}

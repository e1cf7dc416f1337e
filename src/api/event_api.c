/*-------------------------------------------------------------------------
 *
 * event_api.c
 *	  Event triggers and the utility hook: DDL that concerns pipelines.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "stream/stream.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(streamproc_on_sql_drop);
PG_FUNCTION_INFO_V1(streamproc_on_ddl);
PG_FUNCTION_INFO_V1(streamproc_on_restore);

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
				"WHERE object_type OPERATOR(pg_catalog.=) 'procedure' "
				"AND schema_name OPERATOR(pg_catalog.=) '" CATALOG_PIPELINE_SCHEMA "'", true, 0);
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
 * CALL of a pipeline would run its whole topic into the sink.  A superuser
 * needs no EXECUTE, and who was granted it may start and stop, not this.
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

/* ---- rows that come by restore ---- */

/*
 * Trigger on streamproc.pipeline.  Our own rows are not made by the executor,
 * so this is a COPY or INSERT of a dump: also where it comes back to the very
 * database that it was taken from, nothing may run before all of it is there
 * and somebody says so.
 */
Datum
streamproc_on_restore(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Datum		nowhere = Int64GetDatum(0);
	bool		isnull = false;
	int			column;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called as a trigger before an insert")));
	column = SPI_fnumber(RelationGetDescr(trigger->tg_relation), "system_identifier");
	if (column <= 0)
		return PointerGetDatum(trigger->tg_trigtuple);
	return PointerGetDatum(heap_modify_tuple_by_cols(trigger->tg_trigtuple, RelationGetDescr(trigger->tg_relation),
													 1, &column, &nowhere, &isnull));
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
	/* by then launchers have terminated tasks that do not listen */
	int64		deadline = monotonic_us() + (int64) streamproc_stop_timeout * 1000 + 2 * USECS_PER_SEC;

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

static bool
has_createdb(void)
{
	HeapTuple	tuple;
	bool		result = false;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

static DefElem *
find_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
		if (strcmp(((DefElem *) lfirst(lc))->defname, name) == 0)
			return lfirst(lc);
	return NULL;
}

/*
 * Which database does the command want without workers?  InvalidOid: none, or
 * the user may not do it: then his command must not stop anybody's pipelines.
 */
static Oid
database_to_clear(Node *statement)
{
	Oid			database = InvalidOid;
	bool		copy = false;

	switch (nodeTag(statement))
	{
		case T_CreatedbStmt:
			{
				DefElem    *template = find_option(((CreatedbStmt *) statement)->options, "template");

				database = get_database_oid(template && template->arg ? defGetString(template) : "template1", true);
				copy = true;
				break;
			}
		case T_DropdbStmt:
			database = get_database_oid(((DropdbStmt *) statement)->dbname, true);
			break;
		case T_AlterDatabaseStmt:
			if (find_option(((AlterDatabaseStmt *) statement)->options, "tablespace"))
				database = get_database_oid(((AlterDatabaseStmt *) statement)->dbname, true);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				database = get_database_oid(((RenameStmt *) statement)->subname, true);
			break;
		case T_DropStmt:
			{
				DropStmt   *drop = (DropStmt *) statement;
				ListCell   *lc;

				if (drop->removeType != OBJECT_EXTENSION)
					break;
				foreach(lc, drop->objects)
					if (strcmp(strVal(lfirst(lc)), "streamproc") == 0 &&
						OidIsValid(get_extension_oid("streamproc", true)))
						database = MyDatabaseId;
				break;
			}
		default:
			break;
	}
	if (!OidIsValid(database))
		return InvalidOid;
	if (copy)
		return has_createdb() && (is_template(database) || pg_database_ownercheck(database, GetUserId())) ?
			database : InvalidOid;
	return superuser() || pg_database_ownercheck(database, GetUserId()) ? database : InvalidOid;
}

/* What the supervisor has to hear of when it is committed. */
static void
tell_supervisor(Node *statement)
{
	if (IsA(statement, AlterExtensionStmt) && strcmp(((AlterExtensionStmt *) statement)->extname, "streamproc") == 0)
		catalog_mark_changed();
	if (IsA(statement, AlterDatabaseStmt) &&
		find_option(((AlterDatabaseStmt *) statement)->options, "allow_connections"))
		catalog_mark_database(get_database_oid(((AlterDatabaseStmt *) statement)->dbname, true));
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
	/* of ours: the statement's may be gone afterwards */
	bool		is_drop_database = IsA(pstmt->utilityStmt, DropdbStmt);
	bool		is_drop_extension = IsA(pstmt->utilityStmt, DropStmt);
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
	if (OidIsValid(database))
		database_hold(database);

	PG_TRY();
	{
		if (OidIsValid(database))
			stop_workers(database);
		if (prev_utility_hook)
			prev_utility_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
		if (shmem != NULL && IsTransactionState() && !RecoveryInProgress())
			tell_supervisor(pstmt->utilityStmt);
	}
	PG_CATCH();
	{
		if (OidIsValid(database))
		{
			database_release(database);
			database_changed(database);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	error_context_stack = hide.previous;
	if (OidIsValid(database))
	{
		database_release(database);
		if (is_drop_database)
			database_dropped(database);
		else if (is_drop_extension)
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

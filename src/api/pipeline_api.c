/*-------------------------------------------------------------------------
 *
 * pipeline_api.c
 *	  create, alter, start, stop, drop, check: all transactional.
 *
 * They check, and change the catalog; workers act at COMMIT, when the
 * supervisor is told that this database has changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "plan/plan.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "catalog/pg_type.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(streamproc_require_preload);
PG_FUNCTION_INFO_V1(streamproc_create_pipeline);
PG_FUNCTION_INFO_V1(streamproc_alter_pipeline);
PG_FUNCTION_INFO_V1(streamproc_start_pipeline);
PG_FUNCTION_INFO_V1(streamproc_stop_pipeline);
PG_FUNCTION_INFO_V1(streamproc_drop_pipeline);
PG_FUNCTION_INFO_V1(streamproc_reconcile_publisher);
PG_FUNCTION_INFO_V1(streamproc_check_pipeline);

/* Settings that change what a query gives: pinned with the pipeline. */
static const char *const pinned_settings[] = {
	"search_path", "TimeZone", "DateStyle", "IntervalStyle", "extra_float_digits", "bytea_output",
	"lc_numeric", "lc_monetary", "lc_time", "xmlbinary", "xmloption", "default_text_search_config",
	"array_nulls", "backslash_quote", "standard_conforming_strings", "transform_null_equals"
};

static void
require_shmem(void)
{
	if (shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamproc must be loaded by shared_preload_libraries"),
				 errhint("Put these two lines into postgresql.conf and restart the server:\n"
						 "shared_preload_libraries = 'streamproc'\n"
						 "max_worker_processes = 64")));
}

/* Before any argument is read: functions of other versions have others. */
static void
require_ready(void)
{
	require_shmem();
	catalog_require_version();
}

/* The catalog is changed below the executor, which would refuse this otherwise. */
static void
require_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
}

Datum
streamproc_require_preload(PG_FUNCTION_ARGS)
{
	require_shmem();
	PG_RETURN_VOID();
}

/* ---- arguments ---- */

Datum
api_arg_datum(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return PG_GETARG_DATUM(n);
}

static char *
arg_text(FunctionCallInfo fcinfo, int n, const char *name)
{
	return TextDatumGetCString(api_arg_datum(fcinfo, n, name));
}

char *
api_arg_name(FunctionCallInfo fcinfo)
{
	char	   *name = arg_text(fcinfo, 0, "name");

	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a pipeline: \"%s\"", name),
				 errdetail("A name has 1 to %d bytes.", NAMEDATALEN - 1)));
	return name;
}

static int64
check_interval(Interval *interval)
{
	int64		us = interval->time + interval->day * USECS_PER_DAY;

	if (interval->month != 0 || us < 0 || us > 10 * USECS_PER_MINUTE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("checkpoint_interval must be between 0 and 10 minutes")));
	return us;
}

/* One of two words; true: the first. */
static bool
check_choice(const char *argument, const char *value, const char *first, const char *second)
{
	if (strcmp(value, first) != 0 && strcmp(value, second) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"%s\": \"%s\"", argument, value),
				 errhint("Use %s or %s.", first, second)));
	return strcmp(value, first) == 0;
}

/* NULL for what stands for no value: alter_pipeline() takes a value back by it */
static char *
arg_or_default(FunctionCallInfo fcinfo, int n, const char *name)
{
	char	   *value = arg_text(fcinfo, n, name);

	return strcmp(value, "default") == 0 ? NULL : value;
}

/* Options of pipelines with state, from argument "first" on; NULL leaves as it is. */
static void
state_options(FunctionCallInfo fcinfo, int first, PipelineRow *row)
{
	int64		period;

	if (!PG_ARGISNULL(first))
	{
		row->emit = arg_or_default(fcinfo, first, "emit");
		(void) catalog_parse_emit(row->emit, &period);
	}
	if (!PG_ARGISNULL(first + 1))
		row->late = catalog_parse_late(arg_text(fcinfo, first + 1, "late"));
	if (!PG_ARGISNULL(first + 2))
		row->allowed_lateness = catalog_check_interval("allowed_lateness", PG_GETARG_INTERVAL_P(first + 2), 0);
	if (!PG_ARGISNULL(first + 3))
	{
		char	   *size = arg_or_default(fcinfo, first + 3, "state_memory");

		row->state_memory = size == NULL ? 0 : catalog_parse_state_memory(size);
	}
	if (!PG_ARGISNULL(first + 4))
		row->max_skew = catalog_check_interval("max_skew", PG_GETARG_INTERVAL_P(first + 4), 0);
}

static int
check_max_errors(int max)
{
	if (max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_consecutive_errors must be at least 1")));
	return max;
}

static int
check_parallelism(int parallelism)
{
	if (parallelism < 1 || parallelism > SHMEM_MAX_TASKS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parallelism must be between 1 and %d", SHMEM_MAX_TASKS)));
	return parallelism;
}

/* ---- what a query compiles to ---- */

/*
 * Saved state stays with the pipeline: a new query must be able to go on with
 * it.  Types and aggregates are compared with what saved it, expressions with
 * those of the present query, as columns may have been renamed since.
 */
static void
check_state(const PipelineRow *row, Program *program)
{
	Program    *present;
	char	   *was;
	char	   *now;

	if (row->state_signature == NULL || !OidIsValid(row->procedure) || !catalog_segments_exist(row->name))
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	present = program_load(row->procedure, row->trust_owners, row->arrival, row->state_ttl);
	PopActiveSnapshot();
	was = psprintf("%s%s", program_groups(present), row->state_signature);
	now = psprintf("%s%s", program_groups(program), program_signature(program));
	program_free(present);
	if (strcmp(was, now) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("the state of pipeline \"%s\" does not fit the new query", row->name),
			 errdetail("It was made by:\n%sThe new query would make:\n%s", was, program->is_keyed ? now : "no state\n"),
			 errhint("Keep what is grouped by, the windows and the aggregates, or drop the pipeline and create it anew.")));
}

/* Rows that wait for the watermark are not kept where none wait. */
static void
set_ordering(PipelineRow *row, bool arrival)
{
	if (row->arrival != arrival && catalog_segments_exist(row->name))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"ordering\" of pipeline \"%s\" cannot be changed: it has saved state", row->name),
				 errhint("Drop the pipeline and create it anew.")));
	row->arrival = arrival;
}

/* Entries without the time of their last row cannot be forgotten by it. */
static void
set_ttl(PipelineRow *row, int64 ttl)
{
	if ((row->state_ttl > 0) != (ttl > 0) && catalog_segments_exist(row->name))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("option \"state_ttl\" of pipeline \"%s\" cannot be %s: it has saved state", row->name, ttl > 0 ? "given" : "taken back"),
				 errhint("%s", ttl > 0 ? "Drop the pipeline and create it anew." : "Give it a long interval, such as '36500 days'.")));
	row->state_ttl = ttl;
}

/*
 * All checks of a query as the caller: legality, plans, rights on tables,
 * user mapping.  NOTICE where the topic cannot be seen now.  "topics", where
 * not NULL, gets the names of the topics that it reads.
 */
static List *
check_query_text(const char *text, const PipelineRow *row, bool ask_cluster, List **topics, Oid *sink_server)
{
	int			parallelism = row->parallelism;
	bool		trust_owners = row->trust_owners;
	int64		period;
	List	   *queries = plan_parse(text);
	Oid			server;
	Program    *program;
	KafkaConf  *conf;
	int			i;

	(void) plan_check(queries, text, &server);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_make(queries, trust_owners, row->arrival, row->state_ttl);
	program_check_rights(program);
	PopActiveSnapshot();
	plan_check_emit(program, catalog_parse_emit(row->emit, &period), row->late);
	plan_check_ttl(program);
	check_state(row, program);
	if (program->needs_one_task && parallelism > 1)
	{
		program_free(program);
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("parallelism of %d is not supported for this ON CONFLICT", parallelism),
				 errdetail("Rows are applied one by one: the arbiter is not one btree index over plain columns, the target has a BEFORE INSERT row trigger, or ON CONFLICT stands in a WITH."),
				 errhint("Leave parallelism out, or set it to 1.")));
	}
	if (sink_server != NULL)
		*sink_server = program->sink_server;
	for (i = 0; topics != NULL && i < program->nsources; i++)
		*topics = lappend(*topics, stream_source_load(program->sources[i].relid)->topic);
	conf = stream_server_conf(server, GetUserId());
	if (ask_cluster)
	{
		KafkaClient *client = kafka_client_open(conf);

		for (i = 0; i < program->nsources; i++)
		{
			StreamSource *source = stream_source_load(program->sources[i].relid);
			KafkaError	err;

			if (kafka_client_partitions(client, source->topic, Min(streamproc_connect_timeout, 2000), &err) > 0)
				continue;
			if (err.failure == KAFKA_NO_TOPIC)
				ereport(NOTICE,
						(errmsg("topic \"%s\" does not exist yet", source->topic),
						 errdetail("The pipeline waits for it.")));
			else
				ereport(NOTICE,
						(errmsg("the broker cannot be reached now: %s", err.message),
						 errdetail("The pipeline waits for it.")));
			break;
		}
		kafka_client_close(client);
	}
	program_free(program);
	return queries;
}

/* Where the present query of a pipeline sends messages; InvalidOid: nowhere. */
static Oid
present_sink_server(const PipelineRow *row)
{
	Program    *program;
	Oid			server;

	if (catalog_publisher_get(row->name) == NULL)
		return InvalidOid;
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_load(row->procedure, row->trust_owners, row->arrival, row->state_ttl);
	server = program->sink_server;
	program_free(program);
	PopActiveSnapshot();
	return server;
}

/* Messages do not know their server: what waits must not be sent to another one, or to none. */
static void
check_all_sent(const char *name, Oid server)
{
	OutboxTotals waiting;

	catalog_outbox_look(name, &waiting);
	if (waiting.messages > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg(INT64_FORMAT " messages of pipeline \"%s\" wait to be sent to server \"%s\", and the new query does not write there",
						waiting.messages, name, stream_server_name(server)),
				 errhint("Stop the pipeline and wait until they are sent, or give them up first: SELECT streamproc.reconcile_publisher(%s, 'discard').",
						 quote_literal_cstr(name))));
}

static List *
current_settings(void)
{
	List	   *settings = NIL;
	int			i;

	for (i = 0; i < (int) lengthof(pinned_settings); i++)
	{
		const char *value = GetConfigOption(pinned_settings[i], true, false);

		if (value == NULL)
			continue;
		settings = lappend(settings, pstrdup(pinned_settings[i]));
		settings = lappend(settings, pstrdup(value));
	}
	return settings;
}

/* Reads the row under its lock, checks the caller. */
PipelineRow *
api_get_for_update(const char *name, const char *function, void (*check) (const PipelineRow *row))
{
	PipelineRow *row;

	require_writable(function);
	require_ready();
	catalog_pipeline_lock(name);
	row = catalog_pipeline_get(name, false);
	check(row);
	if (!OidIsValid(row->procedure))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("pipeline \"%s\" has lost its procedure", name),
				 errhint("Drop it: SELECT streamproc.drop_pipeline(%s).", quote_literal_cstr(name))));
	return row;
}

/* Versions never repeat, also when a pipeline is dropped and made again. */
static int64
next_version(int64 version)
{
	TimestampTz now = GetCurrentTimestamp();

	return Max(version + 1, now);
}

static void
set_state(PipelineRow *row, const char *state)
{
	row->state = state ? pstrdup(state) : NULL;
	row->state_since = GetCurrentTimestamp();
	memset(&row->error, 0, sizeof(Reason));
}

/*
 * What the stored statements compile to; throws where they cannot do what the
 * options ask for.  Planning evaluates functions of the
 * owner, so it happens as him: the caller may be a superuser.
 */
static bool
needs_one_task(const PipelineRow *row)
{
	Program    *program;
	Oid			save_user;
	int			save_context;
	bool		result;
	int64		period;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(row->owner, save_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_load(row->procedure, row->trust_owners, row->arrival, row->state_ttl);
	plan_check_emit(program, catalog_parse_emit(row->emit, &period), row->late);
	plan_check_ttl(program);
	result = program->needs_one_task;
	program_free(program);
	PopActiveSnapshot();
	SetUserIdAndSecContext(save_user, save_context);
	return result;
}

/* The row is to run from COMMIT on. */
static void
start(PipelineRow *row)
{
	rights_check_worker_login(row->owner);
	row->active = true;
	row->drain = false;
	set_state(row, NULL);
	row->version = next_version(row->version);
	/* a new run has new ends */
	catalog_positions_new_run(row->name);
	catalog_pipeline_update(row);
}

/* ---- the functions ---- */

Datum
streamproc_create_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	char	   *query = arg_text(fcinfo, 1, "query");
	PipelineRow row;
	StartOption start;
	List	   *queries;

	require_writable("create_pipeline()");
	require_ready();
	memset(&row, 0, sizeof(row));
	strlcpy(row.name, name, NAMEDATALEN);
	row.start = arg_text(fcinfo, 2, "start");
	start_option_parse(row.start, &start);
	if (start.kind == START_TIMESTAMP)
	{
		/* as read now, whatever the time zone of the worker */
		TimestampTz at = (start.timestamp_ms - KAFKA_EPOCH_MS) * 1000;

		row.start = pstrdup(timestamptz_to_str(at));
	}
	row.stop = arg_text(fcinfo, 3, "stop");
	(void) check_choice("stop", row.stop, "never", "latest");
	row.parallelism = PG_ARGISNULL(4) ? 0 : check_parallelism(PG_GETARG_INT32(4));
	row.checkpoint_interval = check_interval(DatumGetIntervalP(api_arg_datum(fcinfo, 5, "checkpoint_interval")));
	row.dead_letters = check_choice("on_error", arg_text(fcinfo, 6, "on_error"), "dead_letter", "fail");
	row.max_consecutive_errors = check_max_errors(DatumGetInt32(api_arg_datum(fcinfo, 7, "max_consecutive_errors")));
	row.lose_data = check_choice("on_data_loss", arg_text(fcinfo, 8, "on_data_loss"), "earliest", "fail");
	row.synchronous_commit = DatumGetBool(api_arg_datum(fcinfo, 9, "synchronous_commit"));
	row.trust_owners = DatumGetBool(api_arg_datum(fcinfo, 10, "trust_owners"));
	rights_check_trust(row.trust_owners);
	row.active = DatumGetBool(api_arg_datum(fcinfo, 11, "active"));
	(void) api_arg_datum(fcinfo, 13, "late");
	(void) api_arg_datum(fcinfo, 14, "allowed_lateness");
	state_options(fcinfo, 12, &row);
	row.at_least_once = check_choice("delivery", arg_text(fcinfo, 17, "delivery"), "at_least_once", "exactly_once");
	row.arrival = check_choice("ordering", arg_text(fcinfo, 18, "ordering"), "arrival", "event");
	if (!PG_ARGISNULL(19))
		row.state_ttl = catalog_check_interval("state_ttl", PG_GETARG_INTERVAL_P(19), 1);

	rights_check_worker_login(GetUserId());
	catalog_pipeline_lock(name);
	if (catalog_pipeline_get(name, true) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("pipeline \"%s\" already exists", name)));
	queries = check_query_text(query, &row, row.active, NULL, NULL);
	(void) define_procedure(name, queries, false);

	if (!pg_strong_random(row.id.data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	row.id.data[6] = (row.id.data[6] & 0x0f) | 0x40;
	row.id.data[8] = (row.id.data[8] & 0x3f) | 0x80;
	row.version = next_version(0);
	row.settings = current_settings();
	row.system_identifier = (int64) GetSystemIdentifier();
	row.database = MyDatabaseId;
	row.created = row.state_since = GetCurrentTimestamp();
	if (!row.active)
		row.state = "stopped";
	catalog_pipeline_insert(&row);
	PG_RETURN_VOID();
}

Datum
streamproc_alter_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	PipelineRow *row = api_get_for_update(name, "alter_pipeline()", rights_check_owner);
	List	   *topics = NIL;
	Oid			was_server = InvalidOid;
	Oid			sink_server = InvalidOid;

	if (!PG_ARGISNULL(2))
	{
		row->stop = arg_text(fcinfo, 2, "stop");
		(void) check_choice("stop", row->stop, "never", "latest");
	}
	if (!PG_ARGISNULL(3))
		row->parallelism = check_parallelism(PG_GETARG_INT32(3));
	if (!PG_ARGISNULL(4))
		row->checkpoint_interval = check_interval(PG_GETARG_INTERVAL_P(4));
	if (!PG_ARGISNULL(5))
		row->dead_letters = check_choice("on_error", arg_text(fcinfo, 5, "on_error"), "dead_letter", "fail");
	if (!PG_ARGISNULL(6))
		row->max_consecutive_errors = check_max_errors(PG_GETARG_INT32(6));
	if (!PG_ARGISNULL(7))
		row->lose_data = check_choice("on_data_loss", arg_text(fcinfo, 7, "on_data_loss"), "earliest", "fail");
	if (!PG_ARGISNULL(8))
		row->synchronous_commit = PG_GETARG_BOOL(8);
	if (!PG_ARGISNULL(9))
	{
		row->trust_owners = PG_GETARG_BOOL(9);
		rights_check_trust(row->trust_owners);
	}
	state_options(fcinfo, 10, row);
	if (!PG_ARGISNULL(15))
		row->at_least_once = check_choice("delivery", arg_text(fcinfo, 15, "delivery"), "at_least_once", "exactly_once");
	if (!PG_ARGISNULL(16))
		set_ordering(row, check_choice("ordering", arg_text(fcinfo, 16, "ordering"), "arrival", "event"));
	if (!PG_ARGISNULL(17))
		set_ttl(row, catalog_check_interval("state_ttl", PG_GETARG_INTERVAL_P(17), 0));
	/* what a run before has held back may never change again */
	if (!PG_ARGISNULL(10) || !PG_ARGISNULL(11) || !PG_ARGISNULL(12))
		row->give_all = true;
	if (!PG_ARGISNULL(1))
	{
		List	   *queries;

		/* the statements will run as the owner, so they are checked as him */
		if (GetUserId() != row->owner)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only the owner of pipeline \"%s\" can replace its query", name),
					 errhint("SET ROLE to the owner first.")));
		was_server = present_sink_server(row);
		queries = check_query_text(arg_text(fcinfo, 1, "query"), row, row->active, &topics, &sink_server);
		(void) define_procedure(name, queries, true);
		row->settings = current_settings();
	}
	else if ((row->parallelism > 1 || !PG_ARGISNULL(10) || !PG_ARGISNULL(11) || !PG_ARGISNULL(17)) && needs_one_task(row) && row->parallelism > 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("parallelism of %d is not supported for the ON CONFLICT of pipeline \"%s\"",
						row->parallelism, name)));

	/*
	 * Another end: forget the offsets that were resolved for the old one.
	 * Another query: the tasks that still run the old one cannot commit after us,
	 * and positions of topics that it does not read go, by the user's will; if
	 * the launcher finds such, an option "topic" was changed.
	 */
	if (!PG_ARGISNULL(1))
	{
		catalog_positions_new_text(name, topics);
		if (OidIsValid(was_server) && was_server != sink_server)
			check_all_sent(name, was_server);
	}
	else if (!PG_ARGISNULL(2))
		catalog_positions_new_run(name);
	row->version = next_version(row->version);
	catalog_pipeline_update(row);
	PG_RETURN_VOID();
}

Datum
streamproc_start_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	PipelineRow *row = api_get_for_update(name, "start_pipeline()", rights_check_operator);
	bool		adopt = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	bool		accept_data_loss = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);

	/* these decide about data */
	if (adopt || accept_data_loss)
		rights_check_owner(row);
	if (!catalog_pipeline_is_local(row))
	{
		if (!adopt)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("pipeline \"%s\" belongs to another database and was restored or copied here", name),
					 errdetail("Where the original still runs, both would process the same topic."),
					 errhint("To go on here: SELECT streamproc.start_pipeline(%s, adopt => true).",
							 quote_literal_cstr(name))));
		row->system_identifier = (int64) GetSystemIdentifier();
		row->database = MyDatabaseId;
		row->active = false;
	}
	if (row->active && !row->drain)
	{
		ereport(NOTICE, (errmsg("pipeline \"%s\" is already started", name)));
		PG_RETURN_VOID();
	}
	row->accept_data_loss = accept_data_loss;
	start(row);
	PG_RETURN_VOID();
}

Datum
streamproc_reconcile_publisher(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	PipelineRow *row = api_get_for_update(name, "reconcile_publisher()", rights_check_owner);
	char	   *action = arg_text(fcinfo, 1, "action");
	PublisherRow *publisher;

	(void) check_choice("action", action, "resend", "discard");
	publisher = catalog_publisher_lock(name);
	if (publisher == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" has never had a publisher", name),
				 errdetail("It writes into no topic, or was never started.")));
	if (row->active)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" is running", name),
				 errdetail("Its publisher goes on by itself."),
				 errhint("Decide for one that has failed because of its publisher, or stop it first: SELECT streamproc.stop_pipeline(%s).",
						 quote_literal_cstr(name))));
	if (!catalog_pipeline_is_local(row))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pipeline \"%s\" belongs to another database and was restored or copied here", name),
				 errhint("First: SELECT streamproc.start_pipeline(%s, adopt => true).", quote_literal_cstr(name))));
	publisher->reconcile = action;
	catalog_publisher_update(publisher);
	row->accept_data_loss = false;
	start(row);
	PG_RETURN_VOID();
}

Datum
streamproc_stop_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	bool		drain = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	PipelineRow *row = api_get_for_update(name, "stop_pipeline()", rights_check_operator);

	if (!row->active)
	{
		ereport(NOTICE, (errmsg("pipeline \"%s\" is already stopped", name)));
		PG_RETURN_VOID();
	}
	if (drain)
		row->drain = true;
	else
	{
		row->active = false;
		row->drain = false;
		set_state(row, "stopped");
	}
	row->version = next_version(row->version);
	catalog_pipeline_update(row);
	PG_RETURN_VOID();
}

Datum
streamproc_drop_pipeline(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	PipelineRow *row;

	require_writable("drop_pipeline()");
	require_ready();
	catalog_pipeline_lock(name);
	row = catalog_pipeline_get(name, false);
	rights_check_owner(row);
	if (OidIsValid(row->procedure))
		drop_procedure(row->procedure);
	catalog_pipeline_delete(name);
	PG_RETURN_VOID();
}

static Datum
text_array(List *texts)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(texts) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, texts)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static char *
relation_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

Datum
streamproc_check_pipeline(PG_FUNCTION_ARGS)
{
	PipelineRow defaults = {0};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *query = arg_text(fcinfo, 0, "query");
	List	   *queries;
	Program    *program;
	ListCell   *lc;

	catalog_require_version();
	InitMaterializedSRF(fcinfo, 0);
	queries = check_query_text(query, &defaults, false, NULL, NULL);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_make(queries, false, false, 0);
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);
		StatementInfo *info = statement->info;
		Datum		values[8];
		bool		isnull[8] = {0};
		List	   *sources = NIL;
		List	   *notes = NIL;
		ListCell   *ls;

		foreach(ls, info->sources)
			sources = lappend(sources, relation_name(lfirst_oid(ls)));
		foreach(ls, info->volatile_functions)
			notes = lappend(notes, psprintf("volatile function %s(): a replay gives other values", (char *) lfirst(ls)));
		if (info->stable_only)
			notes = lappend(notes, "reads other tables or the time: a replay sees them as they are then");
		if (statement->mode == STATEMENT_ROW_BY_ROW)
			notes = lappend(notes, "rows are applied one by one by one task: the arbiter of ON CONFLICT is not one btree index over plain columns, the target has a BEFORE INSERT row trigger, or ON CONFLICT stands in a WITH");
		values[0] = Int32GetDatum(statement->number);
		values[1] = CStringGetTextDatum(relation_name(info->sink));
		values[2] = text_array(sources);
		values[3] = CStringGetTextDatum(statement_mode_name(statement->mode));
		values[4] = CStringGetTextDatum(statement_result_name(statement));
		values[5] = BoolGetDatum(info->deterministic);
		values[6] = text_array(notes);
		values[7] = CStringGetTextDatum(program_explain(statement));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	PopActiveSnapshot();
	program_free(program);
	return (Datum) 0;
}

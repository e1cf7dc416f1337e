/*-------------------------------------------------------------------------
 *
 * pipeline.c
 *	  Rows of streamproc.pipeline, and the message to the supervisor at
 *	  COMMIT that they changed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

enum PipelineColumn
{
	COL_NAME = 1,
	COL_ID,
	COL_VERSION,
	COL_ACTIVE,
	COL_DRAIN,
	COL_START,
	COL_STOP,
	COL_PARALLELISM,
	COL_CHECKPOINT_INTERVAL,
	COL_SYNCHRONOUS_COMMIT,
	COL_SETTINGS,
	COL_SYSTEM_IDENTIFIER,
	COL_DATABASE,
	COL_CREATED,
	COL_STATE,
	COL_STATE_SINCE,
	COL_ERROR_SQLSTATE,
	COL_ERROR_MESSAGE,
	COL_ERROR_DETAIL,
	COL_ERROR_HINT,
	COL_ERROR_TOPIC,
	COL_ERROR_PARTITION,
	COL_ERROR_OFFSET,
	COL_ON_ERROR,
	COL_MAX_CONSECUTIVE_ERRORS,
	COL_ON_DATA_LOSS,
	COL_ACCEPT_DATA_LOSS,
	COL_TRUST_OWNERS,
	COL_RETRY_UNTIL,
	COL_EMIT,
	COL_LATE,
	COL_ALLOWED_LATENESS,
	COL_STATE_MEMORY,
	COL_MAX_SKEW,
	COL_STATE_SIGNATURE,
	COL_GIVE_ALL,
	COL_DELIVERY,
	COL_ORDERING,
	COL_STATE_TTL
};
#define PIPELINE_NATTS COL_STATE_TTL

static bool changed_in_transaction = false;
static Oid	other_changed = InvalidOid; /* see catalog_mark_database() */

/* Has the current database the extension, completely made? */
bool
catalog_installed(void)
{
	Oid			schema;

	if (!OidIsValid(get_extension_oid("streamproc", true)))
		return false;
	schema = get_namespace_oid(CATALOG_SCHEMA, true);
	return OidIsValid(schema) && OidIsValid(get_relname_relid("pipeline", schema));
}

char *
catalog_version(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("streamproc"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);

		version = isnull ? pstrdup("?") : TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* What mends a version that is not the library's. */
const char *
catalog_version_hint(const char *version)
{
	int			major = 0,
				minor = 0,
				our_major = 0,
				our_minor = 0;

	(void) sscanf(version, "%d.%d", &major, &minor);
	(void) sscanf(CATALOG_VERSION, "%d.%d", &our_major, &our_minor);
	if (major > our_major || (major == our_major && minor > our_minor))
		return psprintf("Install the library of version %s and restart the server.", version);
	return "Run in this database: ALTER EXTENSION streamproc UPDATE.";
}

void
catalog_require_version(void)
{
	char	   *version = catalog_version();

	if (version != NULL && strcmp(version, CATALOG_VERSION) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"streamproc\" of this database is of version %s, the library of version %s",
						version, CATALOG_VERSION),
				 errhint("%s", catalog_version_hint(version))));
	if (version != NULL)
		pfree(version);
}

static Relation
pipeline_open(LOCKMODE lockmode)
{
	Oid			schema = get_namespace_oid(CATALOG_SCHEMA, false);
	Oid			relid = get_relname_relid("pipeline", schema);
	Relation	rel;

	catalog_require_version();
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %s.pipeline does not exist", CATALOG_SCHEMA),
				 errhint("Create the extension again: CREATE EXTENSION streamproc.")));
	rel = table_open(relid, lockmode);
	/* somebody has meddled with it: do not read what is not there */
	if (RelationGetNumberOfAttributes(rel) != PIPELINE_NATTS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s.pipeline has not the columns of version %s", CATALOG_SCHEMA, CATALOG_VERSION),
				 errhint("Create the extension again: DROP EXTENSION streamproc, CREATE EXTENSION streamproc.")));
	return rel;
}

/*
 * One user at a time changes a pipeline.  The name is the identity, and it
 * may not exist yet, so the lock is on its hash; two names that share one
 * only wait for each other.
 */
void
catalog_pipeline_lock(const char *name)
{
	Oid			schema = get_namespace_oid(CATALOG_SCHEMA, false);
	Oid			relid = get_relname_relid("pipeline", schema);

	LockDatabaseObject(relid, hash_bytes((const unsigned char *) name, strlen(name)), 0,
					   ExclusiveLock);
}

/* The same without waiting; false: somebody else has it. */
bool
catalog_pipeline_try_lock(const char *name)
{
	Oid			schema = get_namespace_oid(CATALOG_SCHEMA, false);
	Oid			relid = get_relname_relid("pipeline", schema);
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, relid, hash_bytes((const unsigned char *) name, strlen(name)), 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* The procedure of a pipeline and its owner, InvalidOid where there is none. */
Oid
catalog_procedure(const char *name, Oid *owner)
{
	Oid			schema = get_namespace_oid(CATALOG_PIPELINE_SCHEMA, true);
	oidvector  *noargs;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	*owner = InvalidOid;
	if (!OidIsValid(schema))
		return InvalidOid;
	noargs = buildoidvector(NULL, 0);
	tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name), PointerGetDatum(noargs),
							ObjectIdGetDatum(schema));
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

		result = proc->oid;
		*owner = proc->proowner;
		ReleaseSysCache(tuple);
	}
	pfree(noargs);
	return result;
}

/* Was it made in this very database, or did it come here by restore or copy? */
bool
catalog_pipeline_is_local(const PipelineRow *row)
{
	return row->system_identifier == (int64) GetSystemIdentifier() &&
		row->database == MyDatabaseId;
}

static char *
text_or_null(Datum *values, bool *isnull, int col)
{
	return isnull[col - 1] ? NULL : TextDatumGetCString(values[col - 1]);
}

static void
text_into(Datum *values, bool *isnull, int col, char *into, Size size)
{
	char	   *text = text_or_null(values, isnull, col);

	strlcpy(into, text ? text : "", size);
}

static PipelineRow *
pipeline_from_tuple(Relation rel, HeapTuple tuple)
{
	PipelineRow *row = palloc0(sizeof(PipelineRow));
	Datum		values[PIPELINE_NATTS];
	bool		isnull[PIPELINE_NATTS];
	Datum	   *elems;
	int			nelems;
	int			i;

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	strlcpy(row->name, NameStr(*DatumGetName(values[COL_NAME - 1])), NAMEDATALEN);
	memcpy(&row->id, DatumGetUUIDP(values[COL_ID - 1]), sizeof(pg_uuid_t));
	row->version = DatumGetInt64(values[COL_VERSION - 1]);
	row->active = DatumGetBool(values[COL_ACTIVE - 1]);
	row->drain = DatumGetBool(values[COL_DRAIN - 1]);
	row->start = text_or_null(values, isnull, COL_START);
	row->stop = text_or_null(values, isnull, COL_STOP);
	row->parallelism = isnull[COL_PARALLELISM - 1] ? 0 : DatumGetInt32(values[COL_PARALLELISM - 1]);
	row->checkpoint_interval = DatumGetIntervalP(values[COL_CHECKPOINT_INTERVAL - 1])->time;
	row->synchronous_commit = DatumGetBool(values[COL_SYNCHRONOUS_COMMIT - 1]);
	deconstruct_array(DatumGetArrayTypeP(values[COL_SETTINGS - 1]), TEXTOID, -1, false,
					  TYPALIGN_INT, &elems, NULL, &nelems);
	for (i = 0; i < nelems; i++)
		row->settings = lappend(row->settings, TextDatumGetCString(elems[i]));
	row->system_identifier = DatumGetInt64(values[COL_SYSTEM_IDENTIFIER - 1]);
	row->database = (Oid) DatumGetInt64(values[COL_DATABASE - 1]);
	row->created = DatumGetTimestampTz(values[COL_CREATED - 1]);
	row->state = text_or_null(values, isnull, COL_STATE);
	row->state_since = DatumGetTimestampTz(values[COL_STATE_SINCE - 1]);

	text_into(values, isnull, COL_ERROR_SQLSTATE, row->error.sqlstate, sizeof(row->error.sqlstate));
	text_into(values, isnull, COL_ERROR_MESSAGE, row->error.message, sizeof(row->error.message));
	text_into(values, isnull, COL_ERROR_DETAIL, row->error.detail, sizeof(row->error.detail));
	text_into(values, isnull, COL_ERROR_HINT, row->error.hint, sizeof(row->error.hint));
	text_into(values, isnull, COL_ERROR_TOPIC, row->error.topic, sizeof(row->error.topic));
	row->error.partition = isnull[COL_ERROR_PARTITION - 1] ? -1 : DatumGetInt32(values[COL_ERROR_PARTITION - 1]);
	row->error.offset = isnull[COL_ERROR_OFFSET - 1] ? -1 : DatumGetInt64(values[COL_ERROR_OFFSET - 1]);
	row->error.at = row->state_since;
	row->dead_letters = strcmp(text_or_null(values, isnull, COL_ON_ERROR), "dead_letter") == 0;
	row->max_consecutive_errors = DatumGetInt32(values[COL_MAX_CONSECUTIVE_ERRORS - 1]);
	row->lose_data = strcmp(text_or_null(values, isnull, COL_ON_DATA_LOSS), "earliest") == 0;
	row->accept_data_loss = DatumGetBool(values[COL_ACCEPT_DATA_LOSS - 1]);
	row->trust_owners = DatumGetBool(values[COL_TRUST_OWNERS - 1]);
	row->retry_until = DatumGetInt64(values[COL_RETRY_UNTIL - 1]);
	row->emit = text_or_null(values, isnull, COL_EMIT);
	row->late = catalog_parse_late(text_or_null(values, isnull, COL_LATE));
	row->allowed_lateness = DatumGetIntervalP(values[COL_ALLOWED_LATENESS - 1])->time;
	row->state_memory = isnull[COL_STATE_MEMORY - 1] ? 0 : DatumGetInt64(values[COL_STATE_MEMORY - 1]);
	row->max_skew = isnull[COL_MAX_SKEW - 1] ? 0 : DatumGetIntervalP(values[COL_MAX_SKEW - 1])->time;
	row->give_all = DatumGetBool(values[COL_GIVE_ALL - 1]);
	row->state_signature = text_or_null(values, isnull, COL_STATE_SIGNATURE);
	row->arrival = strcmp(text_or_null(values, isnull, COL_ORDERING), "arrival") == 0;
	row->state_ttl = isnull[COL_STATE_TTL - 1] ? 0 : DatumGetIntervalP(values[COL_STATE_TTL - 1])->time;
	row->at_least_once = strcmp(text_or_null(values, isnull, COL_DELIVERY), "at_least_once") == 0;

	row->tid = tuple->t_self;
	row->procedure = catalog_procedure(row->name, &row->owner);
	return row;
}

static void
put_text(Datum *values, bool *isnull, int col, const char *text)
{
	isnull[col - 1] = text == NULL || text[0] == '\0';
	if (!isnull[col - 1])
		values[col - 1] = CStringGetTextDatum(text);
}

static void
put_interval(Datum *values, int col, int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	values[col - 1] = IntervalPGetDatum(interval);
}

static HeapTuple
pipeline_to_tuple(Relation rel, const PipelineRow *row)
{
	Datum		values[PIPELINE_NATTS] = {0};
	bool		isnull[PIPELINE_NATTS] = {0};
	NameData	name;
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(row->settings) + 1));
	int			n = 0;
	ListCell   *lc;

	namestrcpy(&name, row->name);
	values[COL_NAME - 1] = NameGetDatum(&name);
	values[COL_ID - 1] = UUIDPGetDatum(&row->id);
	values[COL_VERSION - 1] = Int64GetDatum(row->version);
	values[COL_ACTIVE - 1] = BoolGetDatum(row->active);
	values[COL_DRAIN - 1] = BoolGetDatum(row->drain);
	values[COL_START - 1] = CStringGetTextDatum(row->start);
	values[COL_STOP - 1] = CStringGetTextDatum(row->stop);
	isnull[COL_PARALLELISM - 1] = row->parallelism == 0;
	values[COL_PARALLELISM - 1] = Int32GetDatum(row->parallelism);
	put_interval(values, COL_CHECKPOINT_INTERVAL, row->checkpoint_interval);
	values[COL_SYNCHRONOUS_COMMIT - 1] = BoolGetDatum(row->synchronous_commit);
	foreach(lc, row->settings)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	values[COL_SETTINGS - 1] = PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[COL_SYSTEM_IDENTIFIER - 1] = Int64GetDatum(row->system_identifier);
	values[COL_DATABASE - 1] = Int64GetDatum((int64) row->database);
	values[COL_CREATED - 1] = TimestampTzGetDatum(row->created);
	put_text(values, isnull, COL_STATE, row->state);
	values[COL_STATE_SINCE - 1] = TimestampTzGetDatum(row->state_since);
	put_text(values, isnull, COL_ERROR_SQLSTATE, row->error.sqlstate);
	put_text(values, isnull, COL_ERROR_MESSAGE, row->error.message);
	put_text(values, isnull, COL_ERROR_DETAIL, row->error.detail);
	put_text(values, isnull, COL_ERROR_HINT, row->error.hint);
	put_text(values, isnull, COL_ERROR_TOPIC, row->error.topic);
	isnull[COL_ERROR_PARTITION - 1] = isnull[COL_ERROR_OFFSET - 1] = row->error.topic[0] == '\0';
	values[COL_ERROR_PARTITION - 1] = Int32GetDatum(row->error.partition);
	values[COL_ERROR_OFFSET - 1] = Int64GetDatum(row->error.offset);
	put_text(values, isnull, COL_ON_ERROR, row->dead_letters ? "dead_letter" : "fail");
	values[COL_MAX_CONSECUTIVE_ERRORS - 1] = Int32GetDatum(row->max_consecutive_errors);
	put_text(values, isnull, COL_ON_DATA_LOSS, row->lose_data ? "earliest" : "fail");
	values[COL_ACCEPT_DATA_LOSS - 1] = BoolGetDatum(row->accept_data_loss);
	values[COL_TRUST_OWNERS - 1] = BoolGetDatum(row->trust_owners);
	values[COL_RETRY_UNTIL - 1] = Int64GetDatum(row->retry_until);
	put_text(values, isnull, COL_EMIT, row->emit);
	put_text(values, isnull, COL_LATE, catalog_late_name(row->late));
	put_interval(values, COL_ALLOWED_LATENESS, row->allowed_lateness);
	isnull[COL_STATE_MEMORY - 1] = row->state_memory == 0;
	values[COL_STATE_MEMORY - 1] = Int64GetDatum(row->state_memory);
	isnull[COL_MAX_SKEW - 1] = row->max_skew == 0;
	put_interval(values, COL_MAX_SKEW, row->max_skew);
	put_text(values, isnull, COL_STATE_SIGNATURE, row->state_signature);
	values[COL_GIVE_ALL - 1] = BoolGetDatum(row->give_all);
	put_text(values, isnull, COL_ORDERING, row->arrival ? "arrival" : "event");
	isnull[COL_STATE_TTL - 1] = row->state_ttl == 0;
	put_interval(values, COL_STATE_TTL, row->state_ttl);
	put_text(values, isnull, COL_DELIVERY, row->at_least_once ? "at_least_once" : "exactly_once");
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}

/* Rows whose name is "name", or all. */
static List *
pipeline_scan(const char *name)
{
	Relation	rel = pipeline_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	/* few rows: no index needed */
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		PipelineRow *row;

		CHECK_FOR_INTERRUPTS();
		row = pipeline_from_tuple(rel, tuple);
		if (name == NULL || strcmp(row->name, name) == 0)
			rows = lappend(rows, row);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return rows;
}

PipelineRow *
catalog_pipeline_get(const char *name, bool missing_ok)
{
	List	   *rows = pipeline_scan(name);

	if (rows == NIL)
	{
		List	   *all;
		ListCell   *lc;
		const char **names;
		const char *near;
		int			n = 0;

		if (missing_ok)
			return NULL;
		all = pipeline_scan(NULL);
		names = palloc(sizeof(char *) * (list_length(all) + 1));
		foreach(lc, all)
			names[n++] = ((PipelineRow *) lfirst(lc))->name;
		near = closest_match(name, names, n);
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("pipeline \"%s\" does not exist", name),
				 near ? errhint("Perhaps you meant \"%s\".", near) : 0));
	}
	return linitial(rows);
}

List *
catalog_pipelines(void)
{
	return pipeline_scan(NULL);
}

void
catalog_pipeline_insert(PipelineRow *row)
{
	Relation	rel = pipeline_open(RowExclusiveLock);

	CatalogTupleInsert(rel, pipeline_to_tuple(rel, row));
	table_close(rel, NoLock);
	CommandCounterIncrement();
	catalog_mark_changed();
}

/* The caller holds catalog_pipeline_lock() and read the row after taking it. */
void
catalog_pipeline_update(PipelineRow *row)
{
	Relation	rel = pipeline_open(RowExclusiveLock);
	HeapTuple	tuple = pipeline_to_tuple(rel, row);

	CatalogTupleUpdate(rel, &row->tid, tuple);
	row->tid = tuple->t_self;
	table_close(rel, NoLock);
	CommandCounterIncrement();
	catalog_mark_changed();
}

/* Deletes the row and its positions; false: there was none. */
bool
catalog_pipeline_delete(const char *name)
{
	PipelineRow *row;
	Relation	rel;
	int64		letters;
	int64		late_rows;
	OutboxTotals waiting;

	catalog_pipeline_lock(name);
	row = catalog_pipeline_get(name, true);
	if (row == NULL)
		return false;
	rel = pipeline_open(RowExclusiveLock);
	CatalogTupleDelete(rel, &row->tid);
	table_close(rel, NoLock);

	/*
	 * Twice: a checkpoint that is being committed has deleted old segments and
	 * goes for the position next.  It is waited for here, before we hold the
	 * position; those that it wrote are seen when no other can be committed.
	 */
	(void) catalog_segments_delete(name);
	(void) catalog_positions_delete(name);
	(void) catalog_segments_delete(name);
	catalog_outbox_look(name, &waiting);
	if (waiting.messages > 0)
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" is dropped with " INT64_FORMAT " messages that were not sent yet", name, waiting.messages)));
	catalog_outbox_drop(name);
	letters = catalog_dead_letters_delete(name, DT_NOEND);
	if (letters > 0)
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" is dropped with " INT64_FORMAT " dead letters", name, letters)));
	late_rows = catalog_late_rows_delete(name, DT_NOEND);
	if (late_rows > 0)
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" is dropped with " INT64_FORMAT " late rows", name, late_rows)));
	catalog_topic_marks_set(name, NIL);
	catalog_data_losses_delete(name);
	CommandCounterIncrement();
	catalog_mark_changed();
	return true;
}

/* ---- the message at COMMIT ---- */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (changed_in_transaction)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has changed a pipeline")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			/* a DROP EXTENSION that is rolled back has stopped workers already */
			if (changed_in_transaction)
				database_changed(MyDatabaseId);
			changed_in_transaction = false;
			if (OidIsValid(other_changed))
				database_changed(other_changed);
			other_changed = InvalidOid;
			break;
		default:
			break;
	}
}

/* One per transaction is enough for who alters databases; of several each but the last is told at once. */
void
catalog_mark_database(Oid database)
{
	if (OidIsValid(other_changed) && other_changed != database)
		database_changed(other_changed);
	other_changed = database;
}

void
catalog_mark_changed(void)
{
	changed_in_transaction = true;
}

bool
catalog_changed_in_transaction(void)
{
	return changed_in_transaction;
}

void
catalog_install_callbacks(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

/*-------------------------------------------------------------------------
 *
 * source.c
 *	  A foreign table of ours as a StreamSource, and its server as a
 *	  configuration for librdkafka.
 *
 * Checks that need options and columns together are made whenever a source is
 * loaded, since columns can be renamed or altered behind the options' back;
 * stream_utility_check() makes them at CREATE and ALTER, too, where the user
 * is still looking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "stream/stream_int.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define DEFAULT_IDLE_TIMEOUT	(10 * USECS_PER_SEC)
#define DEFAULT_MAX_AHEAD		(10 * USECS_PER_MINUTE)

/*
 * The wrapper is known by its handler, which only a superuser can give to a
 * wrapper; its name may be changed.
 */
static bool
is_our_handler(Oid handler)
{
	HeapTuple	tuple;
	Form_pg_proc proc;
	Datum		src;
	bool		isnull;
	bool		result = false;

	if (!OidIsValid(handler))
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	if (!HeapTupleIsValid(tuple))
		return false;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prolang == ClanguageId)
	{
		src = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);
		if (!isnull)
		{
			char	   *symbol = TextDatumGetCString(src);

			result = strcmp(symbol, STREAM_FDW_NAME "_handler") == 0;
			pfree(symbol);
		}
	}
	ReleaseSysCache(tuple);
	return result;
}

bool
stream_is_source(Oid relid)
{
	ForeignServer *server;

	if (get_rel_relkind(relid) != RELKIND_FOREIGN_TABLE)
		return false;
	server = GetForeignServer(GetForeignServerIdByRelId(relid));
	return is_our_handler(GetForeignDataWrapper(server->fdwid)->fdwhandler);
}

char *
stream_server_name(Oid serverid)
{
	return GetForeignServer(serverid)->servername;
}

/* ---- columns ---- */

static void
check_column_type(const StreamSource *source, const StreamColumn *column)
{
	const char *wanted;

	switch (column->kind)
	{
		case STREAM_COL_PARTITION:
			if (column->type == INT4OID)
				return;
			wanted = "integer";
			break;
		case STREAM_COL_OFFSET:
			if (column->type == INT8OID)
				return;
			wanted = "bigint";
			break;
		case STREAM_COL_TIMESTAMP:
			/* a precision would round, and comparisons are pushed down */
			if (column->type == TIMESTAMPTZOID && column->typmod < 0)
				return;
			wanted = "timestamp with time zone";
			break;
		case STREAM_COL_KEY:
			if (column->type == TEXTOID || column->type == BYTEAOID)
				return;
			wanted = "text or bytea";
			break;
		case STREAM_COL_HEADERS:
			if (column->type == JSONBOID || column->type == JSONOID || column->type == TEXTOID)
				return;
			wanted = "jsonb, json or text";
			break;
		case STREAM_COL_TOPIC:
			if (column->type == TEXTOID)
				return;
			wanted = "text";
			break;
		default:
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
			 errmsg("column \"%s\" of foreign table \"%s\" must be of type %s", column->name, source->name, wanted),
			 errdetail("It has option kafka '%s' and type %s.",
					   stream_column_kind_name(column->kind), format_type_with_typemod(column->type, column->typmod)),
			 errhint("Use ALTER FOREIGN TABLE ... ALTER COLUMN %s TYPE.", quote_identifier(column->name))));
}

static void
load_column(StreamSource *source, Form_pg_attribute att)
{
	StreamColumn *column = &source->columns[att->attnum - 1];
	ListCell   *lc;

	column->attnum = att->attnum;
	if (att->attisdropped)
	{
		column->kind = STREAM_COL_DROPPED;
		return;
	}
	column->kind = STREAM_COL_PAYLOAD;
	column->name = pstrdup(NameStr(att->attname));
	column->type = att->atttypid;
	column->typmod = att->atttypmod;
	column->collation = att->attcollation;
	column->not_null = att->attnotnull;

	foreach(lc, GetForeignColumnOptions(source->relid, att->attnum))
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "kafka") == 0)
			column->kind = stream_option_column_kind(defGetString(def));
		else if (strcmp(def->defname, "json") == 0)
			column->json_path = pstrdup(defGetString(def));
	}
	check_column_type(source, column);
	if (column->json_path && source->codec.format != CODEC_JSON)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"json\" of column \"%s\" of foreign table \"%s\" needs format \"json\"",
						column->name, source->name)));
}

/* The column that an option names; throws where there is none. */
static StreamColumn *
find_named_column(StreamSource *source, const char *option, const char *name)
{
	const char **names = palloc(sizeof(char *) * Max(source->natts, 1));
	const char *closest;
	int			n = 0;

	for (int i = 0; i < source->natts; i++)
	{
		if (source->columns[i].kind == STREAM_COL_DROPPED)
			continue;
		if (strcmp(source->columns[i].name, name) == 0)
		{
			pfree(names);
			return &source->columns[i];
		}
		names[n++] = source->columns[i].name;
	}
	closest = closest_match(name, names, n);
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_COLUMN_NAME),
			 errmsg("option \"%s\" of foreign table \"%s\" names column \"%s\", which does not exist",
					option, source->name, name),
			 closest ? errhint("Perhaps you meant column \"%s\".", closest) :
			 errhint("Use ALTER FOREIGN TABLE ... OPTIONS (SET %s 'column').", option)));
	return NULL;				/* not reached */
}

static void
check_event_time(const StreamSource *source, const StreamColumn *column)
{
	if (column->type == TIMESTAMPTZOID)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_DATA_TYPE),
			 errmsg("event time column \"%s\" of foreign table \"%s\" must be of type timestamp with time zone",
					column->name, source->name),
			 errdetail("It is of type %s.", format_type_be(column->type)),
			 column->type == TIMESTAMPOID || column->type == DATEOID || column->type == INT8OID ?
			 errhint("Declare it as timestamptz: text without a zone is read as UTC, numbers are milliseconds since 1970.") : 0));
}

/*
 * A key that is taken from the value by option "key" would be a second one
 * beside a column with kafka 'key'.
 */
static void
check_write_key(StreamSource *source, const StreamColumn *column)
{
	if (column->kind == STREAM_COL_KEY)
	{
		source->write_key = 0;	/* says the same twice */
		return;
	}
	if (column->kind != STREAM_COL_PAYLOAD)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_COLUMN_NAME),
				 errmsg("option \"key\" of foreign table \"%s\" names column \"%s\", which is not part of the message's value",
						source->name, column->name),
				 errdetail("The column has option kafka '%s'.", stream_column_kind_name(column->kind))));
	for (int i = 0; i < source->natts; i++)
		if (source->columns[i].kind == STREAM_COL_KEY)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("foreign table \"%s\" defines the message key twice", source->name),
					 errdetail("Option \"key\" names column \"%s\", and column \"%s\" has option kafka 'key'.",
							   column->name, source->columns[i].name),
					 errhint("Drop one of them.")));
	source->write_key = column->attnum;
}

static void
check_columns(StreamSource *source)
{
	CodecColumn *columns;
	int			n;

	for (int i = 0; i < source->natts; i++)
	{
		StreamColumn *a = &source->columns[i];

		if (a->kind == STREAM_COL_PAYLOAD || a->kind == STREAM_COL_DROPPED)
			continue;
		for (int j = 0; j < i; j++)
			if (source->columns[j].kind == a->kind)
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						 errmsg("columns \"%s\" and \"%s\" of foreign table \"%s\" both have option kafka '%s'",
								source->columns[j].name, a->name, source->name, stream_column_kind_name(a->kind))));
	}

	/* a table of nothing but metadata is legal: it never looks at values */
	n = stream_codec_columns(source, NULL, &columns);
	if (n > 0)
		codec_check_columns(&source->codec, columns, n);
	pfree(columns);
}

int
stream_codec_columns(const StreamSource *source, const Bitmapset *needed, CodecColumn **columns)
{
	CodecColumn *result = palloc0(sizeof(CodecColumn) * Max(source->natts, 1));
	int			n = 0;

	for (int i = 0; i < source->natts; i++)
	{
		const StreamColumn *column = &source->columns[i];

		if (column->kind != STREAM_COL_PAYLOAD)
			continue;
		result[n].name = column->name;
		result[n].path = column->json_path;
		result[n].target = i;
		result[n].type = column->type;
		result[n].typmod = column->typmod;
		result[n].collation = column->collation;
		result[n].not_null = column->not_null;
		result[n].needed = needed == NULL || bms_is_member(column->attnum, needed);
		n++;
	}
	*columns = result;
	return n;
}

/* ---- table ---- */

StreamSource *
stream_source_load(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StreamSource *source = palloc0(sizeof(StreamSource));
	ForeignTable *table;
	const char *event_time = NULL;
	const char *key = NULL;
	ListCell   *lc;

	if (!stream_is_source(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a foreign table of streamproc", RelationGetRelationName(rel))));

	table = GetForeignTable(relid);
	source->relid = relid;
	source->serverid = table->serverid;
	source->schema = get_namespace_name(RelationGetNamespace(rel));
	source->name = pstrdup(RelationGetRelationName(rel));
	source->codec.format = CODEC_JSON;
	source->codec.delimiter = ',';
	source->idle_timeout = DEFAULT_IDLE_TIMEOUT;
	source->max_ahead = DEFAULT_MAX_AHEAD;

	foreach(lc, table->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		char	   *value = defGetString(def);

		if (strcmp(def->defname, "topic") == 0)
			source->topic = pstrdup(value);
		else if (strcmp(def->defname, "format") == 0)
		{
			if (!codec_format_by_name(value, &source->codec.format))
				ereport(ERROR,
						(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						 errmsg("foreign table \"%s\" has the unknown format \"%s\"", source->name, value)));
		}
		else if (strcmp(def->defname, "delimiter") == 0)
			source->codec.delimiter = value[0];
		else if (strcmp(def->defname, "event_time") == 0)
			event_time = value;
		else if (strcmp(def->defname, "key") == 0)
			key = value;
		else if (strcmp(def->defname, "watermark_delay") == 0)
			source->watermark_delay = stream_option_interval(def->defname, value);
		else if (strcmp(def->defname, "idle_timeout") == 0)
			source->idle_timeout = stream_option_interval(def->defname, value);
		else if (strcmp(def->defname, "max_ahead") == 0)
			source->max_ahead = stream_option_interval(def->defname, value);
		else if (strcmp(def->defname, "bad_rows") == 0)
			source->skip_bad_rows = strcmp(value, "skip") == 0;
	}
	if (source->topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("foreign table \"%s\" has no option \"topic\"", source->name)));

	source->natts = desc->natts;
	source->columns = palloc0(sizeof(StreamColumn) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
		load_column(source, TupleDescAttr(desc, i));
	check_columns(source);

	if (event_time)
	{
		StreamColumn *column = find_named_column(source, "event_time", event_time);

		check_event_time(source, column);
		source->event_time = column->attnum;
	}
	if (key)
		check_write_key(source, find_named_column(source, "key", key));

	/* the lock stays until the end of the transaction, as the columns must */
	table_close(rel, NoLock);
	return source;
}

/* ---- server ---- */

static void
add_options(KafkaConf *conf, List *options, int where)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const char *property = kafka_option_property(def->defname, where, NULL);

		/* made by another version of the extension: better refused than ignored */
		if (property == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", def->defname)));
		kafka_conf_set(conf, property, defGetString(def));
	}
}

/* The options of a user's mapping, else those of PUBLIC's, else none. */
static List *
user_mapping_options(Oid serverid, Oid userid)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;
	List	   *options = NIL;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(userid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		options = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return options;
}

KafkaConf *
stream_server_conf(Oid serverid, Oid userid)
{
	KafkaConf  *conf = kafka_conf_create();

	add_options(conf, GetForeignServer(serverid)->options, KAFKA_PROP_SERVER);
	add_options(conf, user_mapping_options(serverid, userid), KAFKA_PROP_USER);
	return conf;
}

Size
stream_server_message_bytes(Oid serverid)
{
	ListCell   *lc;

	foreach(lc, GetForeignServer(serverid)->options)
	{
		DefElem    *def = lfirst(lc);

		/* checked when it was set */
		if (strcmp(def->defname, "message_max_bytes") == 0)
			return (Size) strtoul(defGetString(def), NULL, 10);
	}
	return KAFKA_MESSAGE_BYTES;
}

char *
stream_connection_hint(Oid serverid, Oid userid)
{
	return psprintf("Check that the brokers run, the options of server \"%s\", and the user mapping of \"%s\" for it.",
					stream_server_name(serverid), GetUserNameFromId(userid, false));
}

/*
 * Error context callback for calls of kafka/ that throw: what the user can do
 * about it is known here and not there.  "arg" is a stream_connection_hint().
 */
void
stream_connection_context(void *arg)
{
	switch (geterrcode())
	{
		case ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION:
		case ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION:
			errhint("%s", (const char *) arg);
			break;
		case ERRCODE_FDW_TABLE_NOT_FOUND:
			errhint("%s", STREAM_NO_TOPIC_HINT);
			break;
		default:
			break;
	}
}

void
stream_report_failure(const char *topic, Oid serverid, Oid userid,
					  KafkaFailure failure, const char *message)
{
	char	   *server = stream_server_name(serverid);

	switch (failure)
	{
		case KAFKA_NOT_ALLOWED:
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg_internal("%s", message),
					 errhint(KAFKA_NOT_ALLOWED_HINT)));
			break;
		case KAFKA_UNREACHABLE:
		case KAFKA_LOGIN_FAILED:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION),
					 errmsg("could not connect to Kafka server \"%s\"", server),
					 message[0] ? errdetail_internal("%s", message) : 0,
					 errhint("%s", stream_connection_hint(serverid, userid))));
			break;
		case KAFKA_NO_TOPIC:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
					 errmsg("topic \"%s\" does not exist on Kafka server \"%s\"", topic, server),
					 errhint("%s", STREAM_NO_TOPIC_HINT)));
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_ERROR),
					 errmsg("could not read topic \"%s\" of Kafka server \"%s\"", topic, server),
					 message[0] ? errdetail_internal("%s", message) : 0));
			break;
	}
	pg_unreachable();
}

AttrNumber
stream_source_key(const StreamSource *source)
{
	int			i;

	if (source->write_key > 0)
		return source->write_key;
	for (i = 0; i < source->natts; i++)
		if (source->columns[i].kind == STREAM_COL_KEY)
			return (AttrNumber) (i + 1);
	return 0;
}

/* A task goes on with what it has while a change of the table does not concern it. */
bool
stream_source_same(const StreamSource *a, const StreamSource *b)
{
	int			i;

	if (a->relid != b->relid || a->serverid != b->serverid || strcmp(a->topic, b->topic) != 0 ||
		strcmp(a->name, b->name) != 0 ||
		a->codec.format != b->codec.format || a->codec.delimiter != b->codec.delimiter ||
		a->natts != b->natts || a->event_time != b->event_time ||
		a->watermark_delay != b->watermark_delay || a->idle_timeout != b->idle_timeout ||
		a->max_ahead != b->max_ahead)
		return false;
	for (i = 0; i < a->natts; i++)
	{
		const StreamColumn *ca = &a->columns[i];
		const StreamColumn *cb = &b->columns[i];

		if (ca->kind != cb->kind || ca->attnum != cb->attnum || ca->type != cb->type ||
			ca->typmod != cb->typmod || ca->collation != cb->collation || ca->not_null != cb->not_null)
			return false;
		if (ca->kind == STREAM_COL_DROPPED)
			continue;
		if (strcmp(ca->name, cb->name) != 0 ||
			(ca->json_path == NULL) != (cb->json_path == NULL) ||
			(ca->json_path != NULL && strcmp(ca->json_path, cb->json_path) != 0))
			return false;
	}
	return true;
}

/* ---- DDL ---- */

void
stream_check_foreign_table(Oid relid)
{
	StreamSource *source;
	MemoryContext cxt;
	MemoryContext old;

	if (!OidIsValid(relid) || !stream_is_source(relid))
		return;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc table check", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	source = stream_source_load(relid);
	Assert(source->topic != NULL);
	(void) source;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static bool
all_public(Oid catalog, List *options)
{
	ListCell   *lc;

	foreach(lc, options)
		if (!stream_option_is_public(catalog, lfirst_node(DefElem, lc)->defname))
			return false;
	return true;
}

/* A server that does not exist may be a misspelt one of ours. */
static bool
is_our_server(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	return server == NULL || is_our_handler(GetForeignDataWrapper(server->fdwid)->fdwhandler);
}

/*
 * A user mapping always does; a server or table where somebody put an option
 * that does not belong there, so that it might be a password.
 */
bool
stream_statement_is_secret(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreateUserMappingStmt:
			return is_our_server(((CreateUserMappingStmt *) statement)->servername);
		case T_AlterUserMappingStmt:
			return is_our_server(((AlterUserMappingStmt *) statement)->servername);
		case T_CreateForeignServerStmt:
			{
				CreateForeignServerStmt *create = (CreateForeignServerStmt *) statement;
				ForeignDataWrapper *fdw = GetForeignDataWrapperByName(create->fdwname, true);

				return !all_public(ForeignServerRelationId, create->options) &&
					(fdw == NULL || is_our_handler(fdw->fdwhandler));
			}
		case T_AlterForeignServerStmt:
			{
				AlterForeignServerStmt *alter = (AlterForeignServerStmt *) statement;

				return !all_public(ForeignServerRelationId, alter->options) && is_our_server(alter->servername);
			}
		case T_CreateForeignTableStmt:
			{
				CreateForeignTableStmt *create = (CreateForeignTableStmt *) statement;

				return !all_public(ForeignTableRelationId, create->options) && is_our_server(create->servername);
			}
		case T_AlterTableStmt:
			{
				AlterTableStmt *alter = (AlterTableStmt *) statement;
				Oid			relid;
				ListCell   *lc;

				if (alter->objtype != OBJECT_FOREIGN_TABLE && alter->objtype != OBJECT_TABLE)
					return false;
				foreach(lc, alter->cmds)
				{
					AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

					if (cmd->subtype != AT_GenericOptions || all_public(ForeignTableRelationId, (List *) cmd->def))
						continue;
					relid = RangeVarGetRelid(alter->relation, NoLock, true);
					return OidIsValid(relid) && stream_is_source(relid);
				}
				return false;
			}
		default:
			return false;
	}
}

/*
 * A rename is not checked: it would have to come together with the option
 * that names the column, and one of the two has to be first.
 */
void
stream_utility_check(Node *statement)
{
	if (IsA(statement, CreateForeignTableStmt))
	{
		RangeVar   *relation = ((CreateForeignTableStmt *) statement)->base.relation;
		Oid			namespace = RangeVarGetCreationNamespace(relation);

		stream_check_foreign_table(get_relname_relid(relation->relname, namespace));
	}
	else if (IsA(statement, AlterTableStmt))
	{
		AlterTableStmt *alter = (AlterTableStmt *) statement;

		if (alter->objtype == OBJECT_FOREIGN_TABLE || alter->objtype == OBJECT_TABLE)
			stream_check_foreign_table(RangeVarGetRelid(alter->relation, NoLock, true));
	}
}

/*-------------------------------------------------------------------------
 *
 * option.c
 *	  The options of servers, user mappings, foreign tables and their columns:
 *	  the validator, and the meaning of single values.
 *
 * The validator sees one object's options at a time.  What needs the columns
 * of the table as well is checked in source.c, after CREATE and ALTER and on
 * each use.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "stream/stream_int.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_NAMES		128
#define TOPIC_MAX_LEN	249		/* Kafka's own limit */

static const char *const table_options[] = {
	"topic", "format", "event_time", "watermark_delay", "idle_timeout",
	"max_ahead", "key", "delimiter", "bad_rows"
};

static const char *const column_options[] = {
	"kafka", "json"
};

static const struct
{
	const char *name;
	StreamColumnKind kind;
}			column_kinds[] =
{
	{"partition", STREAM_COL_PARTITION},
	{"offset", STREAM_COL_OFFSET},
	{"timestamp", STREAM_COL_TIMESTAMP},
	{"key", STREAM_COL_KEY},
	{"headers", STREAM_COL_HEADERS},
	{"topic", STREAM_COL_TOPIC}
};

PG_FUNCTION_INFO_V1(streamproc_kafka_validator);

/* "Valid values are: a, b, c." */
static char *
list_names(const char *const *names, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "", names[i]);
	return buf.data;
}

/*
 * The hint names the option that was probably meant, or all where they are
 * few enough to be read.
 */
static void
report_unknown_option(const char *name, const char *where, const char *const *names, int n)
{
	const char *closest = closest_match(name, names, n);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\" for %s", name, where),
			 closest ? errhint("Perhaps you meant the option \"%s\".", closest) :
			 n == 0 ? errhint("There are no valid options in this context.") :
			 n <= 12 ? errhint("Valid options are: %s.", list_names(names, n)) : 0));
}

static void
report_bad_value(const char *option, const char *value, const char *const *names, int n)
{
	const char *closest = closest_match(value, names, n);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", option, value),
			 closest ? errhint("Perhaps you meant \"%s\".", closest) :
			 errhint("Valid values are: %s.", list_names(names, n))));
}

static void
interval_context(void *arg)
{
	errcontext("option \"%s\"", (const char *) arg);
}

int64
stream_option_interval(const char *option, const char *value)
{
	ErrorContextCallback callback;
	Interval   *interval;
	int64		us;

	callback.callback = interval_context;
	callback.arg = unconstify(char *, option);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
													 CStringGetDatum(value),
													 ObjectIdGetDatum(InvalidOid),
													 Int32GetDatum(-1)));
	error_context_stack = callback.previous;

	/* a month has no fixed length */
	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not contain months or years", option),
				 errhint("Use days or smaller units.")));
	if (pg_mul_s64_overflow((int64) interval->day, USECS_PER_DAY, &us) ||
		pg_add_s64_overflow(us, interval->time, &us) ||
		us > PG_INT64_MAX / 4)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" is too large", option)));
	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"%s\" must not be negative", option)));
	return us;
}

StreamColumnKind
stream_option_column_kind(const char *value)
{
	const char *names[lengthof(column_kinds)];

	for (int i = 0; i < lengthof(column_kinds); i++)
	{
		if (strcmp(column_kinds[i].name, value) == 0)
			return column_kinds[i].kind;
		names[i] = column_kinds[i].name;
	}
	report_bad_value("kafka", value, names, lengthof(names));
	return STREAM_COL_PAYLOAD;	/* not reached */
}

const char *
stream_column_kind_name(StreamColumnKind kind)
{
	for (int i = 0; i < lengthof(column_kinds); i++)
		if (column_kinds[i].kind == kind)
			return column_kinds[i].name;
	return NULL;
}

/* ---- one kind of object each ---- */

static void
check_kafka_option(const char *name, const char *value, int where, const char *where_text)
{
	bool		needs_file_read = false;
	const char *property = kafka_option_property(name, where, &needs_file_read);
	char	   *error;

	if (property == NULL)
	{
		const char *names[MAX_NAMES];
		const char *closest;
		int			other = where == KAFKA_PROP_SERVER ? KAFKA_PROP_USER : KAFKA_PROP_SERVER;
		int			n;

		/* right option, wrong place: say so */
		if (where == KAFKA_PROP_SERVER && kafka_option_property(name, KAFKA_PROP_USER, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" must not be set for a server", name),
					 errdetail("Everybody can read the options of a server."),
					 errhint("Set it with CREATE USER MAPPING or ALTER USER MAPPING.")));
		if (where == KAFKA_PROP_USER && kafka_option_property(name, KAFKA_PROP_SERVER, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" must not be set for a user mapping", name),
					 errhint("Set it with CREATE SERVER or ALTER SERVER.")));
		n = kafka_option_names(other, names, MAX_NAMES);
		closest = closest_match(name, names, n);
		n = kafka_option_names(where, names, MAX_NAMES);
		if (closest && closest_match(name, names, n) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\" for %s", name, where_text),
					 errhint("Perhaps you meant the option \"%s\" of a %s.", closest,
							 other == KAFKA_PROP_USER ? "user mapping" : "server")));
		report_unknown_option(name, where_text, names, n);
	}
	if (needs_file_read && !has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\"", name),
				 errdetail("Its value names a file of the server, which needs the privileges of role \"pg_read_server_files\"."),
				 strcmp(name, "ssl_keystore_location") == 0 || strcmp(name, "ssl_crl_location") == 0 ? 0 :
				 errhint("Give the contents with the option that ends in \"_pem\" instead.")));

	error = kafka_option_check(property, value);
	if (error)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\": %s", name, error)));

	/* the owner of a server must not lay open what others send through it */
	if (kafka_option_weakens(property, value) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set option \"%s\" to \"%s\"", name, value),
				 errdetail("It may weaken the protection of the connection by TLS."),
				 errhint("Only a superuser can set it.")));
}

static void
check_topic_name(const char *value)
{
	Size		len = strlen(value);
	bool		valid = len > 0 && len <= TOPIC_MAX_LEN &&
		strcmp(value, ".") != 0 && strcmp(value, "..") != 0 &&
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;

	if (!valid)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid topic name \"%s\"", value),
				 errdetail("A topic name has 1 to %d characters: ASCII letters, digits, \".\", \"_\" and \"-\".", TOPIC_MAX_LEN)));
}

static void
check_table_option(const char *name, const char *value)
{
	static const char *const bad_rows[] = {"fail", "skip"};

	if (strcmp(name, "topic") == 0)
		check_topic_name(value);
	else if (strcmp(name, "format") == 0)
	{
		CodecFormat format;

		if (!codec_format_by_name(value, &format))
		{
			const char *names[MAX_NAMES];
			int			n = codec_format_names(names, MAX_NAMES);

			report_bad_value(name, value, names, n);
		}
	}
	else if (strcmp(name, "watermark_delay") == 0 ||
			 strcmp(name, "idle_timeout") == 0 ||
			 strcmp(name, "max_ahead") == 0)
		(void) stream_option_interval(name, value);
	else if (strcmp(name, "event_time") == 0 || strcmp(name, "key") == 0)
	{
		if (value[0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("option \"%s\" must name a column", name)));
	}
	else if (strcmp(name, "delimiter") == 0)
	{
		if (strlen(value) != 1 || strchr("\"\r\n", value[0]) || IS_HIGHBIT_SET(value[0]))
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("option \"delimiter\" must be a single one-byte character"),
					 errdetail("It cannot be a quote, a newline or a carriage return.")));
	}
	else if (strcmp(name, "bad_rows") == 0)
	{
		if (strcmp(value, "fail") != 0 && strcmp(value, "skip") != 0)
			report_bad_value(name, value, bad_rows, lengthof(bad_rows));
	}
	else
		report_unknown_option(name, "a foreign table of streamproc", table_options, lengthof(table_options));
}

static void
check_json_path(const char *value)
{
	Size		len = strlen(value);

	if (len == 0 || value[0] == '.' || value[len - 1] == '.' || strstr(value, ".."))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"json\": \"%s\"", value),
				 errhint("Write the names of the fields from the outside in, separated by dots: a.b.c")));
}

/* Is this an option that may stand there and holds no secret? */
bool
stream_option_is_public(Oid catalog, const char *name)
{
	if (catalog == ForeignServerRelationId)
		return kafka_option_property(name, KAFKA_PROP_SERVER, NULL) != NULL;
	for (int i = 0; i < lengthof(table_options); i++)
		if (strcmp(table_options[i], name) == 0)
			return true;
	return false;
}

Datum
streamproc_kafka_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	bool		has_brokers = false;
	bool		has_topic = false;
	bool		has_delimiter = false;
	bool		has_kafka = false;
	bool		has_json = false;
	const char *format = NULL;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		char	   *name = def->defname;
		char	   *value = defGetString(def);

		switch (catalog)
		{
			case ForeignServerRelationId:
				check_kafka_option(name, value, KAFKA_PROP_SERVER, "a server of streamproc");
				has_brokers |= strcmp(name, "brokers") == 0;
				break;
			case UserMappingRelationId:
				check_kafka_option(name, value, KAFKA_PROP_USER, "a user mapping of streamproc");
				break;
			case ForeignTableRelationId:
				check_table_option(name, value);
				has_topic |= strcmp(name, "topic") == 0;
				has_delimiter |= strcmp(name, "delimiter") == 0;
				if (strcmp(name, "format") == 0)
					format = value;
				break;
			case AttributeRelationId:
				if (strcmp(name, "kafka") == 0)
				{
					(void) stream_option_column_kind(value);
					has_kafka = true;
				}
				else if (strcmp(name, "json") == 0)
				{
					check_json_path(value);
					has_json = true;
				}
				else
					report_unknown_option(name, "a column of streamproc", column_options, lengthof(column_options));
				break;
			default:
				report_unknown_option(name, "the foreign data wrapper", NULL, 0);
				break;
		}
	}

	if (catalog == ForeignServerRelationId && !has_brokers)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"brokers\" is required for a server of streamproc"),
				 errhint("Add OPTIONS (brokers 'host:port').")));
	if (catalog == ForeignTableRelationId && !has_topic)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("option \"topic\" is required for a foreign table of streamproc"),
				 errhint("Add OPTIONS (topic 'name').")));
	if (has_delimiter && (format == NULL || strcmp(format, "csv") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"delimiter\" needs format \"csv\"")));
	if (has_kafka && has_json)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("options \"kafka\" and \"json\" exclude each other"),
				 errdetail("A column is either a field of the message's value or a property of the message.")));

	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * conf.c
 *	  Which properties of librdkafka a user may set, and where.
 *
 * An allow-list: what is not in the table does not exist.  Left out on
 * purpose are properties that load code (plugin.library.paths, ssl.engine.*,
 * ssl.providers), run a shell (sasl.kerberos.*, mechanism GSSAPI), write files
 * (offset.store.*), touch the process (internal.termination.signal, debug,
 * log_level, test.mock.*), and everything that decides about correctness
 * (isolation.level, auto.offset.reset, group.id, acks, enable.idempotence,
 * ...): those are set by us, see consumer.c, metadata.c and producer.c.
 *
 * librdkafka repeats a bad value in its error text, so the text of a secret
 * property is replaced.
 *
 * What costs memory has bounds of ours: whoever may create a server must not
 * be able to take the machine's memory with one fetch.
 *
 * The list of brokers is taken apart here and given to the library in one
 * canonical form, so that it cannot read an address in another way than the
 * check against streamproc.allowed_brokers did.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <errno.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "utils/memutils.h"

#define PROP_FILE		0x100	/* the value names a file of the server */
#define PROP_SECRET		0x200	/* the value must not appear in messages */
#define PROP_CRYPTO		0x400	/* decides how strong TLS is: superusers only */

#define DEFAULT_PORT	9092

typedef struct KafkaProperty
{
	const char *option;			/* SQL spelling */
	const char *name;			/* librdkafka's spelling */
	int			flags;
	int			min;			/* our bounds; max 0: those of the library */
	int			max;
} KafkaProperty;

#define SERVER KAFKA_PROP_SERVER
#define USER_MAPPING KAFKA_PROP_USER

/* sorted by option */
static const KafkaProperty properties[] = {
	{"batch_num_messages", "batch.num.messages", SERVER, 1, 100000},
	{"batch_size", "batch.size", SERVER, 1, 64 * 1024 * 1024},
	{"broker_address_family", "broker.address.family", SERVER},
	{"brokers", "bootstrap.servers", SERVER},
	{"check_crcs", "check.crcs", SERVER},
	{"client_id", "client.id", SERVER},
	{"client_rack", "client.rack", SERVER},
	{"compression_level", "compression.level", SERVER},
	{"compression_type", "compression.codec", SERVER},
	{"connections_max_idle_ms", "connections.max.idle.ms", SERVER},
	{"enable_ssl_certificate_verification", "enable.ssl.certificate.verification", SERVER},
	{"fetch_max_bytes", "fetch.max.bytes", SERVER, 1000, 256 * 1024 * 1024 - 512},
	{"fetch_message_max_bytes", "fetch.message.max.bytes", SERVER, 1, 128 * 1024 * 1024},
	{"fetch_min_bytes", "fetch.min.bytes", SERVER, 1, 16 * 1024 * 1024},
	{"fetch_wait_max_ms", "fetch.wait.max.ms", SERVER},
	{"linger_ms", "queue.buffering.max.ms", SERVER},
	{"message_max_bytes", "message.max.bytes", SERVER, 1000, 128 * 1024 * 1024},
	{"receive_message_max_bytes", "receive.message.max.bytes", SERVER, 1000, 256 * 1024 * 1024},
	{"reconnect_backoff_max_ms", "reconnect.backoff.max.ms", SERVER},
	{"reconnect_backoff_ms", "reconnect.backoff.ms", SERVER},
	{"request_timeout_ms", "request.timeout.ms", SERVER},
	{"sasl_mechanism", "sasl.mechanisms", SERVER},
	{"sasl_mechanisms", "sasl.mechanisms", SERVER},
	{"sasl_password", "sasl.password", USER_MAPPING | PROP_SECRET},
	{"sasl_username", "sasl.username", USER_MAPPING},
	{"security_protocol", "security.protocol", SERVER},
	{"socket_connection_setup_timeout_ms", "socket.connection.setup.timeout.ms", SERVER},
	{"socket_nagle_disable", "socket.nagle.disable", SERVER},
	{"socket_receive_buffer_bytes", "socket.receive.buffer.bytes", SERVER, 0, 16 * 1024 * 1024},
	{"socket_send_buffer_bytes", "socket.send.buffer.bytes", SERVER, 0, 16 * 1024 * 1024},
	{"socket_timeout_ms", "socket.timeout.ms", SERVER},
	{"ssl_ca_location", "ssl.ca.location", SERVER | PROP_FILE},
	{"ssl_ca_pem", "ssl.ca.pem", SERVER | PROP_SECRET},
	{"ssl_certificate_location", "ssl.certificate.location", SERVER | USER_MAPPING | PROP_FILE},
	{"ssl_certificate_pem", "ssl.certificate.pem", USER_MAPPING | PROP_SECRET},
	{"ssl_cipher_suites", "ssl.cipher.suites", SERVER | PROP_CRYPTO},
	{"ssl_crl_location", "ssl.crl.location", SERVER | PROP_FILE},
	{"ssl_curves_list", "ssl.curves.list", SERVER | PROP_CRYPTO},
	{"ssl_endpoint_identification_algorithm", "ssl.endpoint.identification.algorithm", SERVER},
	{"ssl_key_location", "ssl.key.location", SERVER | USER_MAPPING | PROP_FILE},
	{"ssl_key_password", "ssl.key.password", USER_MAPPING | PROP_SECRET},
	{"ssl_key_pem", "ssl.key.pem", USER_MAPPING | PROP_SECRET},
	{"ssl_keystore_location", "ssl.keystore.location", SERVER | USER_MAPPING | PROP_FILE},
	{"ssl_keystore_password", "ssl.keystore.password", USER_MAPPING | PROP_SECRET},
	{"ssl_sigalgs_list", "ssl.sigalgs.list", SERVER | PROP_CRYPTO},
};

static const KafkaProperty *
find_option(const char *option)
{
	for (int i = 0; i < lengthof(properties); i++)
		if (strcmp(properties[i].option, option) == 0)
			return &properties[i];
	return NULL;
}

static const KafkaProperty *
find_property(const char *name)
{
	for (int i = 0; i < lengthof(properties); i++)
		if (strcmp(properties[i].name, name) == 0)
			return &properties[i];
	return NULL;
}

const char *
kafka_option_property(const char *option, int where, bool *needs_file_read)
{
	const KafkaProperty *prop = find_option(option);

	if (prop == NULL || (prop->flags & where) == 0)
		return NULL;
	if (needs_file_read)
		*needs_file_read = (prop->flags & PROP_FILE) != 0;
	return prop->name;
}

int
kafka_option_names(int where, const char **names, int max)
{
	int			n = 0;

	for (int i = 0; i < lengthof(properties) && n < max; i++)
		if (properties[i].flags & where)
			names[n++] = properties[i].option;
	return n;
}

/*
 * The option "brokers": host, host:port, address or [address]:port, separated
 * by commas, in canonical form; the library takes more (URLs, ports of any
 * kind) and another part of it may read that in another way.  NULL with an
 * error text, or, with a list of allowed brokers, with the one that is not in it.
 */
static char *
canonical_brokers(const char *value, const HostList *allowed, char **error, char **refused)
{
	StringInfoData buf;
	char	   *copy = pstrdup(value);
	char	   *save = NULL;

	initStringInfo(&buf);
	for (char *item = strtok_r(copy, ",", &save); item != NULL; item = strtok_r(NULL, ",", &save))
	{
		char		host[HOST_NAME_MAX_LEN + 1];
		int			port;
		const char *problem;
		char	   *address;

		while (isspace((unsigned char) *item))
			item++;
		for (char *end = item + strlen(item); end > item && isspace((unsigned char) end[-1]);)
			*--end = '\0';
		if (*item == '\0')
			continue;
		problem = strstr(item, "://") ? "the protocol is said by option security_protocol" :
			host_split(item, host, &port);
		if (problem != NULL)
		{
			*error = psprintf("bad broker \"%s\": %s", item, problem);
			return NULL;
		}
		if (port == 0)
			port = DEFAULT_PORT;
		address = psprintf(host_needs_brackets(host) ? "[%s]:%d" : "%s:%d", host, port);

		/* a name may be allowed by what it resolves to: that is seen when it is */
		if (allowed != NULL && !host_list_allows_host(allowed, host, port) &&
			(host_is_address(host) || !host_list_has_networks(allowed)))
		{
			*refused = address;
			return NULL;
		}
		appendStringInfo(&buf, "%s%s", buf.len > 0 ? "," : "", address);
	}
	/* the library takes an empty list and then waits for brokers for ever */
	if (buf.len == 0)
	{
		*error = pstrdup("the list of brokers is empty");
		return NULL;
	}
	return buf.data;
}

/* NULL or an error text */
static char *
check_bounds(const KafkaProperty *prop, const char *value)
{
	char	   *end;
	long		number;

	if (prop->max == 0)
		return NULL;
	errno = 0;
	number = strtol(value, &end, 10);
	if (errno == 0 && end != value && *end == '\0' && number >= prop->min && number <= prop->max)
		return NULL;
	return psprintf("it must be a number from %d to %d", prop->min, prop->max);
}

/*
 * Sets one property; NULL or an error text (palloc'd).  Values that the
 * library would take but that we do not offer are refused here too.
 */
static char *
conf_set_one(rd_kafka_conf_t *rdconf, const char *name, const char *value)
{
	const KafkaProperty *prop = find_property(name);
	char		errstr[512];
	char	   *error = NULL;
	char	   *refused;

	if (strcmp(name, "sasl.mechanisms") == 0 &&
		strcmp(value, "PLAIN") != 0 &&
		strcmp(value, "SCRAM-SHA-256") != 0 &&
		strcmp(value, "SCRAM-SHA-512") != 0)
		return pstrdup("the SASL mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512");
	if (strcmp(name, "bootstrap.servers") == 0 &&
		(value = canonical_brokers(value, NULL, &error, &refused)) == NULL)
		return error;
	if (prop != NULL && (error = check_bounds(prop, value)) != NULL)
		return error;

	errstr[0] = '\0';
	if (rd_kafka_conf_set(rdconf, name, value, errstr, sizeof(errstr)) == RD_KAFKA_CONF_OK)
		return NULL;
	if (prop == NULL || (prop->flags & PROP_SECRET))
		return psprintf("invalid value for configuration property \"%s\"", name);
	for (int len = strlen(errstr); len > 0 && isspace((unsigned char) errstr[len - 1]);)
		errstr[--len] = '\0';
	if (errstr[0] == '\0')
		return psprintf("could not set configuration property \"%s\"", name);
	return pstrdup(errstr);
}

char *
kafka_option_check(const char *property, const char *value)
{
	rd_kafka_conf_t *scratch;
	char	   *result;

	if (find_property(property) == NULL)
		return psprintf("no such configuration property: \"%s\"", property);

	/* conf_set_one may only throw when memory is exhausted; scratch leaks then */
	scratch = rd_kafka_conf_new();
	result = conf_set_one(scratch, property, value);
	rd_kafka_conf_destroy(scratch);
	return result;
}

/*
 * The value is given as the library understands it, which knows several words
 * for "false".
 */
bool
kafka_option_weakens(const char *property, const char *value)
{
	const KafkaProperty *prop = find_property(property);
	bool		verification = strcmp(property, "enable.ssl.certificate.verification") == 0;
	bool		identification = strcmp(property, "ssl.endpoint.identification.algorithm") == 0;
	rd_kafka_conf_t *scratch;
	char		understood[64] = "";
	size_t		len = sizeof(understood);
	char		errstr[256];
	bool		set;

	if (prop != NULL && (prop->flags & PROP_CRYPTO))
		return true;
	if (!verification && !identification)
		return false;
	scratch = rd_kafka_conf_new();
	set = rd_kafka_conf_set(scratch, property, value, errstr, sizeof(errstr)) == RD_KAFKA_CONF_OK &&
		rd_kafka_conf_get(scratch, property, understood, &len) == RD_KAFKA_CONF_OK;
	rd_kafka_conf_destroy(scratch);
	return !set || strcmp(understood, verification ? "true" : "https") != 0;
}

KafkaConf *
kafka_conf_create(void)
{
	KafkaConf  *conf = palloc0(sizeof(KafkaConf));

	conf->allowed_brokers = pstrdup(streamproc_allowed_brokers);

	conf->maxprops = 8;
	conf->names = palloc(sizeof(char *) * conf->maxprops);
	conf->values = palloc(sizeof(char *) * conf->maxprops);
	return conf;
}

/*
 * The last value of a property wins, so a user mapping is added after its
 * server.
 */
void
kafka_conf_set(KafkaConf *conf, const char *property, const char *value)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(conf));
	int			i;

	for (i = 0; i < conf->nprops; i++)
		if (strcmp(conf->names[i], property) == 0)
			break;
	if (i == conf->nprops)
	{
		if (conf->nprops == conf->maxprops)
		{
			conf->maxprops *= 2;
			conf->names = repalloc(conf->names, sizeof(char *) * conf->maxprops);
			conf->values = repalloc(conf->values, sizeof(char *) * conf->maxprops);
		}
		conf->names[i] = pstrdup(property);
		conf->nprops++;
	}
	conf->values[i] = pstrdup(value);
	MemoryContextSwitchTo(old);
}

/* The same properties with the same values, in whatever order? */
bool
kafka_conf_equal(const KafkaConf *a, const KafkaConf *b)
{
	int			i,
				j;

	if (a->nprops != b->nprops || strcmp(a->allowed_brokers, b->allowed_brokers) != 0)
		return false;
	for (i = 0; i < a->nprops; i++)
	{
		for (j = 0; j < b->nprops; j++)
			if (strcmp(a->names[i], b->names[j]) == 0)
				break;
		if (j == b->nprops || strcmp(a->values[i], b->values[j]) != 0)
			return false;
	}
	return true;
}

/* Throws where one of the brokers is not allowed. */
static void
check_allowed(const KafkaConf *conf, const char *brokers)
{
	char		text[512];
	HostList   *allowed = host_list_parse(conf->allowed_brokers, text, sizeof(text));
	char	   *error;
	char	   *refused = NULL;

	if (allowed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"streamproc.allowed_brokers\""),
				 errdetail("%s.", text)));
	(void) canonical_brokers(brokers, allowed, &error, &refused);
	host_list_free(allowed);
	if (refused == NULL)
		return;
	kafka_refusal_text(text, sizeof(text), refused);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg_internal("%s", text),
			 errhint(KAFKA_NOT_ALLOWED_HINT)));
}

/* One of our own settings: it can only fail with a library we do not know. */
static char *
conf_set_own(rd_kafka_conf_t *rdconf, const KafkaSetting *settings)
{
	char		errstr[256];

	for (; settings->name != NULL; settings++)
		if (rd_kafka_conf_set(rdconf, settings->name, settings->value,
							  errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
			return pstrdup(errstr);
	return NULL;
}

rd_kafka_conf_t *
kafka_conf_build(const KafkaConf *conf, const KafkaSetting *defaults, const KafkaSetting *fixed)
{
	static const KafkaSetting room_defaults[] = {
		{"client.id", "streamproc"},
		{"reconnect.backoff.ms", "50"},
		{"reconnect.backoff.max.ms", "500"},
		{NULL, NULL}
	};
	static const KafkaSetting room_fixed[] = {
		{"log.queue", "true"},
		{"log_level", "4"},
		{"log.connection.close", "false"},
		{"socket.keepalive.enable", "true"},
		{"sasl.kerberos.kinit.cmd", ""},
		{NULL, NULL}
	};
	rd_kafka_conf_t *rdconf = rd_kafka_conf_new();
	const char *volatile error = NULL;
	const char *volatile brokers = NULL;

	PG_TRY();
	{
		const char *protocol = "plaintext";
		const char *mechanism = NULL;

		error = conf_set_own(rdconf, room_defaults);
		if (error == NULL)
			error = conf_set_own(rdconf, defaults);
		for (int i = 0; i < conf->nprops && error == NULL; i++)
		{
			error = conf_set_one(rdconf, conf->names[i], conf->values[i]);
			if (strcmp(conf->names[i], "bootstrap.servers") == 0)
				brokers = conf->values[i];
			if (strcmp(conf->names[i], "security.protocol") == 0)
				protocol = conf->values[i];
			if (strcmp(conf->names[i], "sasl.mechanisms") == 0)
				mechanism = conf->values[i];
		}
		if (error == NULL)
			error = conf_set_own(rdconf, room_fixed);
		if (error == NULL)
			error = conf_set_own(rdconf, fixed);
		if (error == NULL && brokers == NULL)
			error = "option \"brokers\" is missing";
		if (error == NULL)
			check_allowed(conf, brokers);

		/* the library's default would be GSSAPI, which runs kinit */
		if (error == NULL && pg_strncasecmp(protocol, "sasl", 4) == 0 && mechanism == NULL)
			error = "option \"sasl_mechanism\" is missing";
	}
	PG_CATCH();
	{
		rd_kafka_conf_destroy(rdconf);
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (error != NULL)
	{
		rd_kafka_conf_destroy(rdconf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid Kafka configuration: %s", error)));
	}
	return rdconf;
}

const char *
kafka_library_version(void)
{
	return rd_kafka_version_str();
}

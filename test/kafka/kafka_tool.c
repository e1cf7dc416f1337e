/*-------------------------------------------------------------------------
 *
 * kafka_tool.c
 *	  Administration, small produce and consume for tests, in milliseconds
 *	  instead of the second that a Java tool needs to start.
 *
 * Text form of a message (produce reads it, consume writes it), one a line,
 * fields separated by a tab:
 *
 *		produce:  partition timestamp_ms key value [header ...]
 *		consume:  partition offset timestamp_ms key value [header ...]
 *
 * A field \N is NULL (a value \N is a tombstone); inside a field stand
 * \t \n \r \\ and \xHH; a header is name=value, or name alone for a NULL
 * value.  Partition -1: by murmur2 of the key; timestamp 0: now.
 *
 * One thread; callbacks run inside rd_kafka_poll() on it.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kafka_tool.h"

#define MAX_HEADERS			1000

static const char *usage_text =
"kafka_tool: administration, produce and consume for tests\n"
"\n"
"  kafka_tool wait BROKERS TIMEOUT_MS                     until the cluster answers; exit 1 if it does not\n"
"  kafka_tool create BROKERS TOPIC PARTITIONS [CONFIG=VALUE ...]\n"
"  kafka_tool delete BROKERS TOPIC\n"
"  kafka_tool delete-group BROKERS GROUP\n"
"  kafka_tool add-partitions BROKERS TOPIC TOTAL\n"
"  kafka_tool delete-records BROKERS TOPIC PARTITION BEFORE_OFFSET   (-1: all there is)\n"
"  kafka_tool topics BROKERS                              name and number of partitions, a line each\n"
"  kafka_tool offsets BROKERS TOPIC [--committed]         partition, first offset, end; --committed: last stable end\n"
"  kafka_tool produce BROKERS TOPIC [--transaction ID] [--report] [-X PROPERTY=VALUE ...]\n"
"        reads messages from standard input, and the lines !flush, and with a transaction !begin, !commit, !abort,\n"
"        each answered by a line when done; --report prints input line, partition and offset of each message\n"
"  kafka_tool consume BROKERS TOPIC [--partition N] [--from OFFSET] [--count N] [--uncommitted] [--follow] [-X PROPERTY=VALUE ...]\n"
"        writes what is there up to the end, then ends; --follow: and what comes, until it is killed or its parent has ended, whatever the broker does\n"
"\n"
"Text form of a message: tab-separated, \\N is NULL, escapes \\t \\n \\r \\\\ \\xHH.\n"
"  produce:  partition timestamp_ms key value [name=value ...]     (partition -1: by key; timestamp 0: now)\n"
"  consume:  partition offset timestamp_ms key value [name=value ...]\n";

void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fputs("kafka_tool: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void *
must(void *pointer)
{
	if (pointer == NULL)
		die("out of memory");
	return pointer;
}

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

long long
number(const char *text, const char *what)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
		die("%s is not a number: %s", what, text);
	return value;
}

/* ---- handle ---- */

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		err[512];

	if (rd_kafka_conf_set(conf, name, value, err, sizeof(err)) != RD_KAFKA_CONF_OK)
		die("%s", err);
}

void
settings_add(Settings *settings, const char *text)
{
	char	   *copy = must(strdup(text));
	char	   *eq = strchr(copy, '=');

	if (eq == NULL || settings->n == MAX_SETTINGS)
		die("not NAME=VALUE, or too many of them: %s", text);
	*eq = '\0';
	settings->name[settings->n] = copy;
	settings->value[settings->n++] = eq + 1;
}

rd_kafka_conf_t *
base_conf(const char *brokers, const Settings *settings)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set(conf, "bootstrap.servers", brokers);
	set(conf, "log_level", "0");
	set(conf, "reconnect.backoff.ms", "20");
	set(conf, "reconnect.backoff.max.ms", "100");
	for (int i = 0; settings != NULL && i < settings->n; i++)
		set(conf, settings->name[i], settings->value[i]);
	return conf;
}

rd_kafka_t *
open_handle(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char		err[512];
	rd_kafka_t *rk = rd_kafka_new(type, conf, err, sizeof(err));

	if (rk == NULL)
		die("%s", err);
	return rk;
}

/*
 * Number of partitions of a topic, -1: there is none, -2: not all of them have
 * a leader yet, -3: no answer.
 */
int
topic_partitions(rd_kafka_t *rk, const char *topic)
{
	const struct rd_kafka_metadata *md;
	int			result = -1;

	if (rd_kafka_metadata(rk, 1, NULL, &md, 2000) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return -3;
	for (int t = 0; t < md->topic_cnt; t++)
	{
		if (strcmp(md->topics[t].topic, topic) != 0)
			continue;
		if (md->topics[t].err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			break;
		result = md->topics[t].err == RD_KAFKA_RESP_ERR_NO_ERROR ? md->topics[t].partition_cnt : -2;
		for (int p = 0; p < md->topics[t].partition_cnt; p++)
			if (md->topics[t].partitions[p].leader < 0)
				result = -2;
		break;
	}
	rd_kafka_metadata_destroy(md);
	return result;
}

/* A new partition is in the metadata a moment before its leader knows of it. */
static rd_kafka_resp_err_t
ask_offsets(rd_kafka_t *rk, const char *topic, int partition, int64_t *low, int64_t *high)
{
	int64_t		until = now_ms() + ADMIN_TIMEOUT_MS;
	rd_kafka_resp_err_t err;

	while ((err = rd_kafka_query_watermark_offsets(rk, topic, partition, low, high, ADMIN_TIMEOUT_MS)) ==
		   RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION && now_ms() < until)
		rd_kafka_poll(rk, 5);
	return err;
}

static int
cmd_topics(const char *brokers, int argc, char **argv)
{
	rd_kafka_t *rk;
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err;

	if (argc != 0)
		return 2;
	rk = open_handle(RD_KAFKA_PRODUCER, base_conf(brokers, NULL));
	err = rd_kafka_metadata(rk, 1, NULL, &md, ADMIN_TIMEOUT_MS);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("%s", rd_kafka_err2str(err));
	for (int t = 0; t < md->topic_cnt; t++)
		printf("%s\t%d\n", md->topics[t].topic, md->topics[t].partition_cnt);
	rd_kafka_metadata_destroy(md);
	rd_kafka_destroy(rk);
	return 0;
}

static int
cmd_offsets(const char *brokers, int argc, char **argv)
{
	rd_kafka_conf_t *conf = base_conf(brokers, NULL);
	rd_kafka_t *rk;
	bool		committed = argc == 2 && strcmp(argv[1], "--committed") == 0;
	int			n;

	if (argc < 1 || (argc > 1 && !committed))
		return 2;
	set(conf, "isolation.level", committed ? "read_committed" : "read_uncommitted");
	rk = open_handle(RD_KAFKA_CONSUMER, conf);
	n = topic_partitions(rk, argv[0]);
	if (n < 0)
		die(n == -1 ? "there is no topic %s" : "topic %s does not answer", argv[0]);
	for (int p = 0; p < n; p++)
	{
		int64_t		low, high;
		rd_kafka_resp_err_t err = ask_offsets(rk, argv[0], p, &low, &high);

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("%s[%d]: %s", argv[0], p, rd_kafka_err2str(err));
		printf("%d\t%lld\t%lld\n", p, (long long) low, (long long) high);
	}
	rd_kafka_destroy(rk);
	return 0;
}

/* ---- text form ---- */

/* undoes the escapes in place; returns NULL for \N, else sets *len */
static char *
unescape(char *field, size_t *len, long line)
{
	char	   *in = field,
			   *out = field;

	if (strcmp(field, "\\N") == 0)
	{
		*len = 0;
		return NULL;
	}
	for (; *in != '\0'; in++)
	{
		char		hex[3];

		if (*in != '\\')
		{
			*out++ = *in;
			continue;
		}
		switch (*++in)
		{
			case 't':
				*out++ = '\t';
				break;
			case 'n':
				*out++ = '\n';
				break;
			case 'r':
				*out++ = '\r';
				break;
			case '\\':
				*out++ = '\\';
				break;
			case 'x':
				if (in[1] == '\0' || in[2] == '\0')
					die("line %ld: \\x wants two hex digits", line);
				hex[0] = in[1];
				hex[1] = in[2];
				hex[2] = '\0';
				*out++ = (char) strtol(hex, NULL, 16);
				in += 2;
				break;
			default:
				die("line %ld: unknown escape", line);
		}
	}
	*len = out - field;
	return field;
}

static void
put_escaped(const char *data, size_t len, bool is_name)
{
	if (data == NULL)
	{
		fputs("\\N", stdout);
		return;
	}
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) data[i];

		if (c == '\\')
			fputs("\\\\", stdout);
		else if (c == '\t')
			fputs("\\t", stdout);
		else if (c == '\n')
			fputs("\\n", stdout);
		else if (c == '\r')
			fputs("\\r", stdout);
		else if (c < 0x20 || c == 0x7f || (is_name && c == '='))
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

/* ---- produce ---- */

static long delivered;
static bool report;

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	/* what an abort purges is no failure: the answer line tells */
	if (msg->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || msg->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		return;
	if (msg->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("input line %ld was not delivered: %s", (long) (intptr_t) msg->_private, rd_kafka_err2str(msg->err));
	delivered++;
	if (report)
		printf("%ld\t%d\t%lld\n", (long) (intptr_t) msg->_private, msg->partition, (long long) msg->offset);
}

static void
wait_delivered(rd_kafka_t *rk)
{
	int64_t		until = now_ms() + ADMIN_TIMEOUT_MS;

	while (rd_kafka_outq_len(rk) > 0)
	{
		rd_kafka_poll(rk, 1);
		if (now_ms() > until)
			die("%d messages were not delivered within %d ms", rd_kafka_outq_len(rk), ADMIN_TIMEOUT_MS);
	}
}

static void
check(rd_kafka_error_t *error, const char *what)
{
	if (error != NULL)
		die("%s: %s", what, rd_kafka_error_string(error));
}

static void
control_line(rd_kafka_t *rk, const char *line, bool transactional)
{
	if (strcmp(line, "!flush") == 0)
	{
		wait_delivered(rk);
		printf("flushed %ld\n", delivered);
	}
	else if (!transactional)
		die("%s needs --transaction", line);
	else if (strcmp(line, "!begin") == 0)
	{
		check(rd_kafka_begin_transaction(rk), line);
		puts("begun");
	}
	else if (strcmp(line, "!commit") == 0)
	{
		wait_delivered(rk);
		check(rd_kafka_commit_transaction(rk, ADMIN_TIMEOUT_MS), line);
		puts("committed");
	}
	else if (strcmp(line, "!abort") == 0)
	{
		check(rd_kafka_abort_transaction(rk, ADMIN_TIMEOUT_MS), line);
		puts("aborted");
	}
	else
		die("unknown line %s", line);
	fflush(stdout);
}

static void
produce_line(rd_kafka_t *rk, rd_kafka_topic_t *rkt, char *line, long line_no)
{
	char	   *fields[4 + MAX_HEADERS];
	int			n = 0;
	rd_kafka_vu_t args[8];
	size_t		nargs = 0;
	size_t		key_len,
				value_len;
	char	   *key,
			   *value;
	rd_kafka_error_t *error;

	while (line != NULL && n < 4 + MAX_HEADERS)
		fields[n++] = strsep(&line, "\t");
	if (n < 4 || line != NULL)
		die("line %ld: expected partition, timestamp, key, value and at most %d headers", line_no, MAX_HEADERS);
	key = unescape(fields[2], &key_len, line_no);
	value = unescape(fields[3], &value_len, line_no);

	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_RKT,.u.rkt = rkt
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_PARTITION,.u.i32 = (int32_t) number(fields[0], "the partition")
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_TIMESTAMP,.u.i64 = number(fields[1], "the timestamp")
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_KEY,.u.mem.ptr = key,.u.mem.size = key_len
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_VALUE,.u.mem.ptr = value,.u.mem.size = value_len
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_MSGFLAGS,.u.i = RD_KAFKA_MSG_F_COPY
	};
	args[nargs++] = (rd_kafka_vu_t)
	{
		.vtype = RD_KAFKA_VTYPE_OPAQUE,.u.ptr = (void *) (intptr_t) line_no
	};
	if (n > 4)
	{
		rd_kafka_headers_t *headers = rd_kafka_headers_new(n - 4);

		for (int i = 4; i < n; i++)
		{
			char	   *eq = strchr(fields[i], '=');
			char	   *header = NULL;
			size_t		name_len,
						header_len = 0;

			if (eq != NULL)
			{
				*eq = '\0';
				header = unescape(eq + 1, &header_len, line_no);
			}
			if (unescape(fields[i], &name_len, line_no) == NULL)
				die("line %ld: a header needs a name", line_no);
			rd_kafka_header_add(headers, fields[i], (ssize_t) name_len, header, (ssize_t) header_len);
		}
		args[nargs++] = (rd_kafka_vu_t)
		{
			.vtype = RD_KAFKA_VTYPE_HEADERS,.u.headers = headers
		};
	}
	while ((error = rd_kafka_produceva(rk, args, nargs)) != NULL)
	{
		if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die("line %ld: %s", line_no, rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		rd_kafka_poll(rk, 10);
	}
	rd_kafka_poll(rk, 0);
}

static int
cmd_produce(const char *brokers, int argc, char **argv)
{
	Settings	settings = {0};
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_topic_t *rkt;
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err;
	const char *transaction = NULL;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;
	long		line_no = 0;

	if (argc < 1)
		return 2;
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--transaction") == 0 && i + 1 < argc)
			transaction = argv[++i];
		else if (strcmp(argv[i], "--report") == 0)
			report = true;
		else if (strcmp(argv[i], "-X") == 0 && i + 1 < argc)
			settings_add(&settings, argv[++i]);
		else
			return 2;
	}
	conf = base_conf(brokers, NULL);
	set(conf, "message.max.bytes", "10485760");
	set(conf, "partitioner", "murmur2_random");
	set(conf, "retry.backoff.ms", "5");
	set(conf, "linger.ms", "1");
	if (transaction != NULL)
		set(conf, "transactional.id", transaction);
	for (int i = 0; i < settings.n; i++)
		set(conf, settings.name[i], settings.value[i]);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rk = open_handle(RD_KAFKA_PRODUCER, conf);
	if (transaction != NULL)
		check(rd_kafka_init_transactions(rk, ADMIN_TIMEOUT_MS), "init_transactions");

	/* asking first saves a second at the first message, and finds a missing topic at once */
	rkt = rd_kafka_topic_new(rk, argv[0], NULL);
	err = rd_kafka_metadata(rk, 0, rkt, &md, ADMIN_TIMEOUT_MS);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (md->topic_cnt == 1)
			err = md->topics[0].err;
		rd_kafka_metadata_destroy(md);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("topic %s: %s", argv[0], rd_kafka_err2str(err));

	while ((len = getline(&line, &size, stdin)) >= 0)
	{
		line_no++;
		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		if (memchr(line, '\0', len) != NULL)
			die("line %ld: write a zero byte as \\x00", line_no);
		if (len == 0)
			continue;
		if (line[0] == '!')
			control_line(rk, line, transaction != NULL);
		else
			produce_line(rk, rkt, line, line_no);
	}
	wait_delivered(rk);
	printf("flushed %ld\n", delivered);
	free(line);
	rd_kafka_topic_destroy(rkt);
	rd_kafka_destroy(rk);
	return 0;
}

/* ---- consume ---- */

static void
print_message(const rd_kafka_message_t *msg)
{
	rd_kafka_headers_t *headers;
	rd_kafka_timestamp_type_t type;

	printf("%d\t%lld\t%lld\t", msg->partition, (long long) msg->offset,
		   (long long) rd_kafka_message_timestamp(msg, &type));
	put_escaped(msg->key, msg->key_len, false);
	putchar('\t');
	put_escaped(msg->payload, msg->len, false);
	if (rd_kafka_message_headers(msg, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		const char *name;
		const void *value;
		size_t		len;

		for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		{
			putchar('\t');
			put_escaped(name, strlen(name), true);
			if (value == NULL)
				continue;
			putchar('=');
			put_escaped(value, len, false);
		}
	}
	putchar('\n');
}

/* A broker that was just started may not know its topics, or not lead their partitions, for a moment. */
static bool
passes(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
			return true;
		default:
			return false;
	}
}

static int
cmd_consume(const char *brokers, int argc, char **argv)
{
	Settings	settings = {0};
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_topic_partition_list_t *list;
	long long	partition = -1,
				from = RD_KAFKA_OFFSET_BEGINNING,
				left = INT64_MAX;
	bool		uncommitted = false;
	bool		follow = false;
	int			partitions,
				open_partitions = 0;
	int64_t		until = now_ms() + ADMIN_TIMEOUT_MS;
	pid_t		parent = getppid();

	if (argc < 1)
		return 2;
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--partition") == 0 && i + 1 < argc)
			partition = number(argv[++i], "the partition");
		else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
			from = number(argv[++i], "the offset");
		else if (strcmp(argv[i], "--count") == 0 && i + 1 < argc)
			left = number(argv[++i], "the count");
		else if (strcmp(argv[i], "--uncommitted") == 0)
			uncommitted = true;
		else if (strcmp(argv[i], "--follow") == 0)
			follow = true;
		else if (strcmp(argv[i], "-X") == 0 && i + 1 < argc)
			settings_add(&settings, argv[++i]);
		else
			return 2;
	}
	conf = base_conf(brokers, &settings);
	set(conf, "group.id", "kafka_tool");
	set(conf, "enable.auto.commit", "false");
	set(conf, "enable.partition.eof", "true");
	set(conf, "auto.offset.reset", "error");
	set(conf, "fetch.wait.max.ms", "10");
	/* what is missing is asked for again */
	set(conf, "topic.metadata.refresh.interval.ms", "1000");
	set(conf, "isolation.level", uncommitted ? "read_uncommitted" : "read_committed");
	rk = open_handle(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(rk);
	partitions = topic_partitions(rk, argv[0]);
	if (partitions < 0)
		die(partitions == -1 ? "there is no topic %s" : "topic %s does not answer", argv[0]);
	list = rd_kafka_topic_partition_list_new(partitions);
	for (int p = 0; p < partitions; p++)
	{
		if (partition >= 0 && p != partition)
			continue;
		rd_kafka_topic_partition_list_add(list, argv[0], p)->offset = from;
		open_partitions++;
	}
	rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	while (open_partitions > 0 && left > 0)
	{
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, 100);

		if (msg == NULL)
		{
			if (follow)
			{
				fflush(stdout);
				/* a test that was killed */
				if (getppid() != parent)
					break;
			}
			else if (now_ms() > until)
				die("nothing came for %d ms", ADMIN_TIMEOUT_MS);
			continue;
		}
		until = now_ms() + ADMIN_TIMEOUT_MS;
		if (msg->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			open_partitions -= follow ? 0 : 1;
		else if (msg->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			if (!follow || !passes(msg->err))
				die("%s: %s", rd_kafka_err2name(msg->err), rd_kafka_message_errstr(msg));
			fprintf(stderr, "kafka_tool: goes on: %s: %s\n", rd_kafka_err2name(msg->err), rd_kafka_message_errstr(msg));
		}
		else
		{
			print_message(msg);
			left--;
		}
		rd_kafka_message_destroy(msg);
	}
	fflush(stdout);
	rd_kafka_destroy(rk);
	return ferror(stdout) ? 1 : 0;
}

static const struct
{
	const char *name;
	int			(*run) (const char *brokers, int argc, char **argv);
}			commands[] =
{
	{"wait", cmd_wait},
	{"create", cmd_create},
	{"delete", cmd_delete},
	{"delete-group", cmd_delete_group},
	{"add-partitions", cmd_add_partitions},
	{"delete-records", cmd_delete_records},
	{"topics", cmd_topics},
	{"offsets", cmd_offsets},
	{"produce", cmd_produce},
	{"consume", cmd_consume},
};

int
main(int argc, char **argv)
{
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0))
	{
		fputs(usage_text, stdout);
		return 0;
	}
	for (size_t i = 0; argc >= 3 && i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		int			rc;

		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		rc = commands[i].run(argv[2], argc - 3, argv + 3);
		if (rc != 2)
			return rc;
	}
	fputs(usage_text, stderr);
	return 2;
}

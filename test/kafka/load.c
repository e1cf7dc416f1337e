/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Load generator for demo, tests and benchmarks.
 *
 * What event number i is depends on the seed and the options alone: the tool
 * draws the same four random numbers for each event, chooses the partition
 * itself and produces idempotently, so two runs give the same bytes in the
 * same order in each partition, whatever the broker does meanwhile.  Only
 * --at-now breaks that, for the event time.
 *
 * One thread of ours; librdkafka sends on its own.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define NQUANTILES			65536
#define MAX_MESSAGE			(8 * 1024 * 1024)
#define MAX_HEADERS			100
#define DELIVERY_TIMEOUT_MS	"600000"
/* a broker may be starting */
#define METADATA_TIMEOUT_MS	120000

static const char *usage_text =
"load: seeded events into a Kafka topic\n"
"\n"
"  load --brokers HOST:PORT --topic NAME [options]\n"
"\n"
"  --count N           events, 0: until SIGINT or SIGTERM (default 100000)\n"
"  --skip N            begin with event N of the sequence (default 0)\n"
"  --rate N            events a second, evenly in steps of a millisecond; 0: full speed (default 0)\n"
"  --seed N            another seed is another sequence (default 1)\n"
"  --partitions N      partitions of the topic (default: ask the broker)\n"
"  --spread key|even|batch  partition by the key's number, one after the other, or each for 16 kB, as\n"
"                      Java's producer does with messages without a key (default key)\n"
"  --payload tx|bid    card transactions or auction bids (default tx)\n"
"  --keys N            cards or auctions (default 10000)\n"
"  --skew S            key number k with weight 1/(k+1)^S, 0: all alike (default 0)\n"
"  --hot N             half of the events on the first N keys, alike, the others on the rest, alike\n"
"  --cycle             the keys one after the other\n"
"  --bytes N           message size, about; shorter ones get a field \"pad\" (default 200)\n"
"  --headers N         headers of each message (default 0)\n"
"  --no-key            messages without a key\n"
"  --start-time T      event time of event 0: 2026-01-01T00:00:00Z (default), or epoch milliseconds\n"
"  --event-rate N      events to a second of event time (default: --rate, or 10000 at full speed)\n"
"  --event-speed X     event time runs X times as fast (default 1)\n"
"  --disorder MS       event times are up to MS behind, at random (default 0)\n"
"  --at-now            event time is the wall clock when the event is made\n"
"  --compression C     none, gzip, snappy, lz4, zstd (default none)\n"
"  --linger MS         (default 5 at full speed, 0 with --rate)\n"
"  --no-idempotence    any number of requests under way: takes no more of the processor where the broker is slow, but\n"
"                      messages may come twice or in another order if it fails\n"
"  --print             write the messages to standard output instead: partition, timestamp, key, value\n"
"\n"
"tx:  {\"tx_id\": uuid, \"card\": \"card-000042\", \"amount\": 12.34, \"city\": \"Berlin\", \"at\": \"2026-01-01T00:00:00.123Z\"}\n"
"     amounts are log-normal: half of them below 40, one of a hundred above 1000\n"
"bid: {\"auction\": 42, \"bidder\": 4711, \"price\": 1234, \"channel\": \"apple\", \"url\": \"...\", \"at\": \"...\"}\n"
"The message timestamp is the event time. Prints one line at the end.\n";

static const char *const cities[] = {
	"Amsterdam", "Athens", "Barcelona", "Berlin", "Brussels", "Budapest", "Copenhagen", "Dublin",
	"Hamburg", "Helsinki", "Lisbon", "London", "Lyon", "Madrid", "Milan", "Munich",
	"Oslo", "Paris", "Porto", "Prague", "Riga", "Rome", "Rotterdam", "Sofia",
	"Stockholm", "Tallinn", "Turin", "Valencia", "Vienna", "Vilnius", "Warsaw", "Zurich"
};
static const char *const spreads[] = {"key", "even", "batch", NULL};
static const char *const payloads[] = {"tx", "bid", NULL};
static const char *const channels[] = {"apple", "baidu", "facebook", "google"};

/* the places of "spreads" */
enum
{
	SPREAD_KEY, SPREAD_EVEN, SPREAD_BATCH
};
/* batch.size of Java's producer */
#define BATCH_BYTES		16384

typedef struct Options
{
	const char *brokers;
	const char *topic;
	const char *compression;
	const char *linger;
	int64_t		count;
	int64_t		skip;
	double		rate;
	uint64_t	seed;
	int			partitions;
	int			spread;
	bool		bid;
	int64_t		keys;
	double		skew;
	int64_t		hot;
	bool		cycle;
	int			bytes;
	int			headers;
	bool		no_key;
	bool		no_idempotence;
	int64_t		start_ms;
	double		event_rate;
	double		event_speed;
	int64_t		disorder_ms;
	bool		at_now;
	bool		print;
} Options;

static Options opt = {
	.count = 100000,.seed = 1,.keys = 10000,.bytes = 200,.start_ms = 1767225600000,.event_speed = 1,
	.compression = "none"
};

static volatile sig_atomic_t stop_asked;
static int64_t failed;
static char failure[256];

static void
die(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fputs("load: ", stderr);
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

static int64_t
clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- random numbers: xoshiro256**, seeded by splitmix64 ---- */

static uint64_t rng[4];

static void
rng_seed(uint64_t seed)
{
	for (int i = 0; i < 4; i++)
	{
		uint64_t	z = (seed += 0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		rng[i] = z ^ (z >> 31);
	}
}

static inline uint64_t
rotate(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static inline uint64_t
rng_next(void)
{
	uint64_t	result = rotate(rng[1] * 5, 7) * 9;
	uint64_t	t = rng[1] << 17;

	rng[2] ^= rng[0];
	rng[3] ^= rng[1];
	rng[1] ^= rng[2];
	rng[0] ^= rng[3];
	rng[2] ^= t;
	rng[3] = rotate(rng[3], 45);
	return result;
}

/* 0 .. n-1 from 32 random bits */
static inline uint32_t
below(uint32_t bits, uint32_t n)
{
	return (uint32_t) (((uint64_t) bits * n) >> 32);
}

/* ---- distributions, from tables made once ---- */

static uint32_t *alias_other;	/* Walker's alias method for the skewed keys; NULL: all alike */
static uint32_t *alias_limit;
static uint32_t amount_cents[NQUANTILES];

static void
make_key_table(void)
{
	int64_t		n = opt.keys;
	double	   *weight;
	double		sum = 0;
	uint32_t   *small,
			   *large;
	int64_t		nsmall = 0,
				nlarge = 0;

	if (opt.skew == 0)
		return;
	weight = must(malloc(n * sizeof(double)));
	small = must(malloc(n * sizeof(uint32_t)));
	large = must(malloc(n * sizeof(uint32_t)));
	alias_other = must(malloc(n * sizeof(uint32_t)));
	alias_limit = must(malloc(n * sizeof(uint32_t)));
	for (int64_t k = 0; k < n; k++)
		sum += weight[k] = pow(k + 1, -opt.skew);
	for (int64_t k = 0; k < n; k++)
	{
		weight[k] *= n / sum;
		alias_other[k] = k;
		alias_limit[k] = UINT32_MAX;
		if (weight[k] < 1)
			small[nsmall++] = k;
		else
			large[nlarge++] = k;
	}
	while (nsmall > 0 && nlarge > 0)
	{
		uint32_t	s = small[--nsmall],
					l = large[nlarge - 1];

		alias_limit[s] = (uint32_t) (weight[s] * UINT32_MAX);
		alias_other[s] = l;
		weight[l] -= 1 - weight[s];
		if (weight[l] < 1)
		{
			nlarge--;
			small[nsmall++] = l;
		}
	}
	free(weight);
	free(small);
	free(large);
}

/* quantiles of the log-normal distribution with median 40 and 1 % above 1000 */
static void
make_amount_table(void)
{
	const double mu = log(40),
				sigma = (log(1000) - mu) / 2.3263478740408408;
	double		z = -6;

	for (int i = 0; i < NQUANTILES; i++)
	{
		double		want = (i + 0.5) / NQUANTILES;

		while (0.5 * erfc(-z / M_SQRT2) < want)
			z += 0.0001;
		amount_cents[i] = (uint32_t) (exp(mu + sigma * z) * 100) + 1;
	}
}

/* ---- one event ---- */

typedef struct Event
{
	int64_t		timestamp_ms;
	int			partition;
	int			key_len;
	int			len;
	char		key[24];
	char	   *value;
} Event;

static char *
put(char *out, const char *text)
{
	size_t		len = strlen(text);

	memcpy(out, text, len);
	return out + len;
}

static char *
put_number(char *out, uint64_t value, int min_digits)
{
	char		digits[20];
	int			n = 0;

	while (value > 0 || n < min_digits || n == 0)
	{
		digits[n++] = '0' + value % 10;
		value /= 10;
	}
	while (n > 0)
		*out++ = digits[--n];
	return out;
}

static char *
put_time(char *out, int64_t ms)
{
	static int64_t cached_second = INT64_MIN;
	static char cached[32];
	int64_t		second = ms / 1000;

	if (ms % 1000 < 0)
		second--;
	if (second != cached_second)
	{
		time_t		t = second;
		struct tm	tm;

		gmtime_r(&t, &tm);
		strftime(cached, sizeof(cached), "%Y-%m-%dT%H:%M:%S.", &tm);
		cached_second = second;
	}
	out = put(out, cached);
	out = put_number(out, ms - second * 1000, 3);
	*out++ = 'Z';
	return out;
}

static char *
put_uuid(char *out, uint64_t a, uint64_t b)
{
	static const char hex[] = "0123456789abcdef";

	a = (a & ~(uint64_t) 0xf000) | 0x4000;
	b = (b & ~((uint64_t) 3 << 62)) | ((uint64_t) 2 << 62);
	for (int i = 0; i < 32; i++)
	{
		uint64_t	half = i < 16 ? a : b;

		if (i == 8 || i == 12 || i == 16 || i == 20)
			*out++ = '-';
		*out++ = hex[(half >> (60 - 4 * (i % 16))) & 15];
	}
	return out;
}

static void
make_event(int64_t i, Event *event)
{
	uint64_t	a = rng_next(),
				b = rng_next(),
				c = rng_next(),
				d = rng_next();
	uint32_t	key = below(c >> 32, opt.keys);
	int64_t		ms;
	char	   *out = event->value;

	if (opt.cycle)
		key = i % opt.keys;
	else if (opt.hot > 0)
		key = (c >> 63) != 0 ? below((uint32_t) (c >> 31), opt.hot) : opt.hot + below((uint32_t) (c >> 31), opt.keys - opt.hot);
	else if (alias_other != NULL && (uint32_t) c > alias_limit[key])
		key = alias_other[key];
	event->partition = (opt.spread == SPREAD_KEY ? key : opt.spread == SPREAD_EVEN ? i : i * opt.bytes / BATCH_BYTES) % opt.partitions;

	if (opt.at_now)
		ms = clock_ns(CLOCK_REALTIME) / 1000000;
	else
		ms = opt.start_ms + (int64_t) (i * (1000.0 * opt.event_speed / opt.event_rate));
	if (opt.disorder_ms > 0)
		ms -= below(d >> 32, opt.disorder_ms + 1);
	event->timestamp_ms = ms;

	if (opt.bid)
	{
		char	   *number;

		out = put(out, "{\"auction\": ");
		number = out;
		out = put_number(out, key, 1);
		event->key_len = out - number;
		memcpy(event->key, number, event->key_len);
		out = put(out, ", \"bidder\": ");
		out = put_number(out, below(a >> 32, 100000), 1);
		out = put(out, ", \"price\": ");
		out = put_number(out, amount_cents[d & (NQUANTILES - 1)], 1);
		out = put(out, ", \"channel\": \"");
		out = put(out, channels[(d >> 16) & 3]);
		out = put(out, "\", \"url\": \"https://auction.example/item/");
		out = put_number(out, (uint32_t) b, 1);
		out = put(out, "\", \"at\": \"");
		out = put_time(out, ms);
	}
	else
	{
		uint32_t	cents = amount_cents[d & (NQUANTILES - 1)];

		char	   *card;

		out = put(out, "{\"tx_id\": \"");
		out = put_uuid(out, a, b);
		out = put(out, "\", \"card\": \"");
		card = out;
		out = put(out, "card-");
		out = put_number(out, key, 6);
		event->key_len = out - card;
		memcpy(event->key, card, event->key_len);
		out = put(out, "\", \"amount\": ");
		out = put_number(out, cents / 100, 1);
		*out++ = '.';
		out = put_number(out, cents % 100, 2);
		out = put(out, ", \"city\": \"");
		out = put(out, cities[(d >> 16) & 31]);
		out = put(out, "\", \"at\": \"");
		out = put_time(out, ms);
	}
	*out++ = '"';
	/* 12: the rest of the field and the brace */
	if (out - event->value + 12 < opt.bytes)
	{
		int			pad = opt.bytes - 12 - (int) (out - event->value);

		out = put(out, ", \"pad\": \"");
		memset(out, 'x', pad);
		out += pad;
		*out++ = '"';
	}
	*out++ = '}';
	event->len = out - event->value;
}

/* ---- producing ---- */

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	if (failed++ == 0)
		snprintf(failure, sizeof(failure), "partition %d: %s", msg->partition, rd_kafka_err2str(msg->err));
}

static void
on_signal(int signal)
{
	stop_asked = 1;
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		err[512];

	if (rd_kafka_conf_set(conf, name, value, err, sizeof(err)) != RD_KAFKA_CONF_OK)
		die("%s", err);
}

static rd_kafka_t *
open_producer(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char		err[512];

	set(conf, "bootstrap.servers", opt.brokers);
	set(conf, "log_level", "0");
	/* in order and once each, also while the broker is killed and restarted */
	set(conf, "enable.idempotence", opt.no_idempotence ? "false" : "true");
	/* the library need not hold messages back: while it does, its thread goes in a circle (2.0.2) */
	if (opt.no_idempotence)
		set(conf, "queue.buffering.backpressure.threshold", "100000");
	set(conf, "message.timeout.ms", DELIVERY_TIMEOUT_MS);
	set(conf, "retry.backoff.ms", "20");
	set(conf, "reconnect.backoff.max.ms", "200");
	set(conf, "delivery.report.only.error", "true");
	set(conf, "linger.ms", opt.linger != NULL ? opt.linger : opt.rate > 0 ? "0" : "5");
	set(conf, "batch.num.messages", "20000");
	set(conf, "message.max.bytes", "10485760");
	set(conf, "queue.buffering.max.messages", "200000");
	set(conf, "queue.buffering.max.kbytes", "262144");
	set(conf, "compression.codec", opt.compression);
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err, sizeof(err));
	if (rk == NULL)
		die("%s", err);
	return rk;
}

/* asking first also saves a second at the first message */
static rd_kafka_topic_t *
open_topic(rd_kafka_t *rk)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, opt.topic, NULL);
	const struct rd_kafka_metadata *md;
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, rkt, &md, METADATA_TIMEOUT_MS);
	int			n = 0;

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (md->topic_cnt == 1)
		{
			err = md->topics[0].err;
			n = md->topics[0].partition_cnt;
		}
		rd_kafka_metadata_destroy(md);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("topic %s: %s", opt.topic, rd_kafka_err2str(err));
	if (opt.partitions == 0)
		opt.partitions = n;
	if (opt.partitions > n)
		die("topic %s has only %d partitions", opt.topic, n);
	return rkt;
}

static void
send_event(rd_kafka_t *rk, rd_kafka_topic_t *rkt, const Event *event)
{
	rd_kafka_headers_t *headers = NULL;

	if (opt.headers > 0)
	{
		headers = rd_kafka_headers_new(opt.headers);
		for (int h = 0; h < opt.headers; h++)
		{
			char		name[16],
						value[16];
			int			name_len = snprintf(name, sizeof(name), "h%d", h);
			int			value_len = snprintf(value, sizeof(value), "value-%d", h);

			rd_kafka_header_add(headers, name, name_len, value, value_len);
		}
	}
	for (;;)
	{
		rd_kafka_vu_t args[] = {
			{.vtype = RD_KAFKA_VTYPE_RKT,.u.rkt = rkt},
			{.vtype = RD_KAFKA_VTYPE_PARTITION,.u.i32 = event->partition},
			{.vtype = RD_KAFKA_VTYPE_MSGFLAGS,.u.i = RD_KAFKA_MSG_F_COPY},
			{.vtype = RD_KAFKA_VTYPE_TIMESTAMP,.u.i64 = event->timestamp_ms},
			{.vtype = RD_KAFKA_VTYPE_VALUE,.u.mem = {event->value, event->len}},
			{.vtype = RD_KAFKA_VTYPE_KEY,.u.mem = {opt.no_key ? NULL : (void *) event->key, opt.no_key ? 0 : event->key_len}},
			{.vtype = RD_KAFKA_VTYPE_HEADERS,.u.headers = headers},
		};
		rd_kafka_error_t *error = rd_kafka_produceva(rk, args, headers != NULL ? 7 : 6);

		if (error == NULL)
			return;
		if (rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die("%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		rd_kafka_poll(rk, 5);
		if (stop_asked > 1 || failed > 0)
			die("cannot deliver: %s", failure);
	}
}

static void
print_event(const Event *event)
{
	printf("%d\t%lld\t", event->partition, (long long) event->timestamp_ms);
	fwrite(event->key, 1, event->key_len, stdout);
	putchar('\t');
	fwrite(event->value, 1, event->len, stdout);
	putchar('\n');
}

static void
sleep_until(int64_t ns)
{
	struct timespec ts = {.tv_sec = ns / 1000000000,.tv_nsec = ns % 1000000000};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static int
run(void)
{
	rd_kafka_t *rk = NULL;
	rd_kafka_topic_t *rkt = NULL;
	Event		event;
	int64_t		begin,
				sent = 0,
				bytes = 0,
				first_ms = 0,
				last_ms = 0;
	double		seconds;

	event.value = must(malloc(opt.bytes + 1024));
	if (!opt.print)
	{
		rk = open_producer();
		rkt = open_topic(rk);
	}
	else if (opt.partitions == 0)
		opt.partitions = 1;
	make_key_table();
	make_amount_table();
	rng_seed(opt.seed);
	for (int64_t i = 0; i < opt.skip * 4; i++)
		rng_next();

	begin = clock_ns(CLOCK_MONOTONIC);
	while (!stop_asked && failed == 0 && (opt.count == 0 || sent < opt.count))
	{
		int64_t		due = INT64_MAX;

		if (opt.rate > 0)
		{
			int64_t		now = clock_ns(CLOCK_MONOTONIC);

			due = (int64_t) ((now - begin) / 1e9 * opt.rate) + 1;
			if (sent >= due)
			{
				int64_t		next = begin + (int64_t) (sent / opt.rate * 1e9);

				/* next full millisecond or next event, whichever is later */
				sleep_until(next > now + 1000000 ? next : now + 1000000 - (now - begin) % 1000000);
				rd_kafka_poll(rk, 0);
				continue;
			}
		}
		/* in portions, so that callbacks and signals are served at full speed too */
		for (int n = 0; n < 1000 && sent < due && (opt.count == 0 || sent < opt.count); n++)
		{
			make_event(opt.skip + sent, &event);
			if (opt.print)
				print_event(&event);
			else
				send_event(rk, rkt, &event);
			if (sent == 0)
				first_ms = event.timestamp_ms;
			last_ms = event.timestamp_ms;
			bytes += event.len;
			sent++;
		}
		if (rk != NULL)
			rd_kafka_poll(rk, 0);
	}
	if (rk != NULL)
	{
		while (rd_kafka_outq_len(rk) > 0 && failed == 0 && stop_asked < 2)
			rd_kafka_poll(rk, 5);
		failed += rd_kafka_outq_len(rk);
	}
	seconds = (clock_ns(CLOCK_MONOTONIC) - begin) / 1e9;
	if (rk != NULL)
	{
		char		from[40],
					to[40];

		*put_time(from, first_ms) = '\0';
		*put_time(to, last_ms) = '\0';
		printf("load: %lld events, %lld bytes to %s (%d partitions, seed %llu) in %.2f s, %.0f/s, event time %s to %s, %lld failed\n",
			   (long long) sent, (long long) bytes, opt.topic, opt.partitions, (unsigned long long) opt.seed, seconds,
			   sent / seconds, from, to, (long long) failed);
		rd_kafka_topic_destroy(rkt);
		rd_kafka_destroy(rk);
	}
	free(event.value);
	if (failed > 0)
		fprintf(stderr, "load: not delivered: %s\n", failure[0] != '\0' ? failure : "interrupted");
	return failed > 0 || fflush(stdout) != 0;
}

/* ---- options ---- */

static double
number(const char *name, const char *text, double min, double max)
{
	char	   *end;
	double		value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= min && value <= max))
		die("--%s: expected a number from %g to %g, not \"%s\"", name, min, max, text);
	return value;
}

static int64_t
start_time(const char *text)
{
	struct tm	tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (rest != NULL && (*rest == '\0' || strcmp(rest, "Z") == 0))
		return (int64_t) timegm(&tm) * 1000;
	return (int64_t) number("start-time", text, -1e14, 1e14);
}

/* which of the words, which end with NULL */
static int
one_of(const char *name, const char *text, const char *const *words)
{
	int			i = 0;

	while (words[i] != NULL && strcmp(text, words[i]) != 0)
		i++;
	if (words[i] == NULL)
		die("--%s: not \"%s\"", name, text);
	return i;
}

int
main(int argc, char **argv)
{
	enum
	{
		HELP = 'h', BROKERS = 256, TOPIC, COUNT, SKIP, RATE, SEED, PARTITIONS, SPREAD, PAYLOAD, KEYS, SKEW, HOT, CYCLE, BYTES, HEADERS,
		NO_KEY, START_TIME, EVENT_RATE, EVENT_SPEED, DISORDER, AT_NOW, COMPRESSION, LINGER, NO_IDEMPOTENCE, PRINT
	};
	static const struct option options[] = {
		{"help", no_argument, NULL, HELP},
		{"brokers", required_argument, NULL, BROKERS},
		{"topic", required_argument, NULL, TOPIC},
		{"count", required_argument, NULL, COUNT},
		{"skip", required_argument, NULL, SKIP},
		{"rate", required_argument, NULL, RATE},
		{"seed", required_argument, NULL, SEED},
		{"partitions", required_argument, NULL, PARTITIONS},
		{"spread", required_argument, NULL, SPREAD},
		{"payload", required_argument, NULL, PAYLOAD},
		{"keys", required_argument, NULL, KEYS},
		{"skew", required_argument, NULL, SKEW},
		{"hot", required_argument, NULL, HOT},
		{"cycle", no_argument, NULL, CYCLE},
		{"bytes", required_argument, NULL, BYTES},
		{"headers", required_argument, NULL, HEADERS},
		{"no-key", no_argument, NULL, NO_KEY},
		{"start-time", required_argument, NULL, START_TIME},
		{"event-rate", required_argument, NULL, EVENT_RATE},
		{"event-speed", required_argument, NULL, EVENT_SPEED},
		{"disorder", required_argument, NULL, DISORDER},
		{"at-now", no_argument, NULL, AT_NOW},
		{"compression", required_argument, NULL, COMPRESSION},
		{"linger", required_argument, NULL, LINGER},
		{"no-idempotence", no_argument, NULL, NO_IDEMPOTENCE},
		{"print", no_argument, NULL, PRINT},
		{0}
	};
	int			c,
				at;

	while ((c = getopt_long(argc, argv, "h", options, &at)) != -1)
	{
		switch (c)
		{
			case HELP:
				fputs(usage_text, stdout);
				return 0;
			case BROKERS:
				opt.brokers = optarg;
				break;
			case TOPIC:
				opt.topic = optarg;
				break;
			case COUNT:
				opt.count = (int64_t) number("count", optarg, 0, 1e12);
				break;
			case SKIP:
				opt.skip = (int64_t) number("skip", optarg, 0, 1e12);
				break;
			case RATE:
				opt.rate = number("rate", optarg, 0, 1e8);
				break;
			case SEED:
				opt.seed = (uint64_t) number("seed", optarg, 0, 1e15);
				break;
			case PARTITIONS:
				opt.partitions = (int) number("partitions", optarg, 1, 10000);
				break;
			case SPREAD:
				opt.spread = one_of("spread", optarg, spreads);
				break;
			case PAYLOAD:
				opt.bid = one_of("payload", optarg, payloads) == 1;
				break;
			case KEYS:
				opt.keys = (int64_t) number("keys", optarg, 1, 1e8);
				break;
			case SKEW:
				opt.skew = number("skew", optarg, 0, 10);
				break;
			case HOT:
				opt.hot = (int64_t) number("hot", optarg, 1, 1e8);
				break;
			case CYCLE:
				opt.cycle = true;
				break;
			case BYTES:
				opt.bytes = (int) number("bytes", optarg, 1, MAX_MESSAGE);
				break;
			case HEADERS:
				opt.headers = (int) number("headers", optarg, 0, MAX_HEADERS);
				break;
			case NO_KEY:
				opt.no_key = true;
				break;
			case START_TIME:
				opt.start_ms = start_time(optarg);
				break;
			case EVENT_RATE:
				opt.event_rate = number("event-rate", optarg, 1e-6, 1e9);
				break;
			case EVENT_SPEED:
				opt.event_speed = number("event-speed", optarg, 0, 1e9);
				break;
			case DISORDER:
				opt.disorder_ms = (int64_t) number("disorder", optarg, 0, 4e9);
				break;
			case AT_NOW:
				opt.at_now = true;
				break;
			case COMPRESSION:
				opt.compression = optarg;
				break;
			case LINGER:
				opt.linger = optarg;
				break;
			case NO_IDEMPOTENCE:
				opt.no_idempotence = true;
				break;
			case PRINT:
				opt.print = true;
				break;
			default:
				fputs("load --help tells the options\n", stderr);
				return 2;
		}
	}
	if (optind < argc || (!opt.print && (opt.brokers == NULL || opt.topic == NULL)))
	{
		fputs("load: --brokers and --topic are needed; load --help tells the options\n", stderr);
		return 2;
	}
	if (opt.hot >= opt.keys)
		die("--hot: less than --keys");
	if (opt.event_rate == 0)
		opt.event_rate = opt.rate > 0 ? opt.rate : 10000;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	return run();
}

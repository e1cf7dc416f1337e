/*-------------------------------------------------------------------------
 *
 * nexmark.c
 *	  Events of the Nexmark benchmark, as lines for "kafka_tool produce".
 *
 * The proportions, ids, hot keys and sizes are those of the generator of
 * Nexmark for Flink.  Two things differ.  Event n depends on the seed and on n
 * alone, so the same options give the same bytes, and bids, auctions and
 * persons of one sequence can be made by three calls, for three topics: flat
 * JSON instead of one topic with three nested objects, of which two are null.
 * And "at" is the event time, so the rate of event time is an option: how many
 * keys a window holds hangs on it.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "tool.h"

#define FIRST_ID		1000
#define START_MS		INT64_C(1767225600000)	/* 2026-01-01 */
/* of 50 events */
#define PERSONS			1
#define AUCTIONS		3
#define EVENTS			50
/* who may bid, sell, and be bid on besides the hot ones */
#define ACTIVE_PERSONS	1000
#define ACTIVE_AUCTIONS	100
#define AHEAD			10
#define HOT_EVERY		100
#define CHANNELS		10000
/* events until 100 more auctions are there */
#define HORIZON			(100 * EVENTS / AUCTIONS)

static const char *const first_names[] = {"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"};
static const char *const last_names[] = {"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"};
static const char *const cities[] = {"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"};
static const char *const states[] = {"AZ", "CA", "ID", "OR", "WA", "WY"};
static const char *const hot_channels[] = {"Google", "Facebook", "Baidu", "Apple"};

/* ---- random numbers of one event: splitmix64 ---- */

static uint64_t state;

static uint64_t
next(void)
{
	uint64_t	z = (state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static int64_t
below(int64_t n)
{
	return (int64_t) (((unsigned __int128) next() * (uint64_t) n) >> 64);
}

static int64_t
price(void)
{
	return llround(100 * pow(10, 6 * ((next() >> 11) * 0x1p-53)));
}

/* ---- text ---- */

/* 3 to max - 1 letters, with spaces within */
static void
put_text(int max)
{
	int			len = 3 + below(max - 3);

	for (int i = 0; i < len; i++)
		putchar(i > 0 && i < len - 1 && below(13) == 0 ? ' ' : 'a' + (int) below(26));
}

/* letters up to a mean size of the event, give or take a fifth */
static void
put_extra(int have, int mean)
{
	if (have < mean)
	{
		int			want = mean - have,
					delta = want / 5;

		want += below(2 * delta + 1) - delta;
		for (int i = 0; i < want; i++)
			putchar('a' + (int) below(26));
	}
}

static void
put_time(int64_t ms)
{
	time_t		seconds = ms / 1000;
	struct tm	tm;
	char		text[32];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	printf("%s.%03dZ", text, (int) (ms % 1000));
}

/* ---- ids ---- */

static int64_t
last_person(int64_t n)
{
	return n / EVENTS;
}

static int64_t
last_auction(int64_t n)
{
	int64_t		epoch = n / EVENTS,
				offset = n % EVENTS;

	if (offset < PERSONS)
		return epoch == 0 ? 0 : epoch * AUCTIONS - 1;
	if (offset >= PERSONS + AUCTIONS)
		return epoch * AUCTIONS + AUCTIONS - 1;
	return epoch * AUCTIONS + offset - PERSONS;
}

/* one of the last, or one that is not there yet */
static int64_t
some_person(int64_t n)
{
	int64_t		persons = last_person(n) + 1,
				active = persons < ACTIVE_PERSONS ? persons : ACTIVE_PERSONS;

	return persons - active + below(active + AHEAD);
}

static int64_t
some_auction(int64_t n)
{
	int64_t		last = last_auction(n),
				first = last > ACTIVE_AUCTIONS ? last - ACTIVE_AUCTIONS : 0;

	return first + below(last - first + 1 + AHEAD);
}

/* ---- events; the first columns are those of a line of kafka_tool ---- */

static void
begin(int64_t index, int partitions, int64_t ms, int64_t key)
{
	printf("%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t", index % partitions, ms, key);
}

static void
person(int64_t n, int64_t index, int partitions, int64_t ms)
{
	int64_t		id = last_person(n) + FIRST_ID;

	begin(index, partitions, ms, id);
	printf("{\"id\":%" PRId64 ",\"name\":\"%s %s\",\"email\":\"", id, first_names[below(11)], last_names[below(9)]);
	for (int i = 0; i < 7; i++)
		putchar('a' + (int) below(26));
	putchar('@');
	for (int i = 0; i < 5; i++)
		putchar('a' + (int) below(26));
	printf(".com\",\"card\":\"%04d %04d %04d %04d\",\"city\":\"%s\",\"state\":\"%s\",\"at\":\"", (int) below(10000), (int) below(10000),
		   (int) below(10000), (int) below(10000), cities[below(10)], states[below(6)]);
	put_time(ms);
	printf("\",\"extra\":\"");
	put_extra(80, 200);
	printf("\"}\n");
}

static void
auction(int64_t n, int64_t index, int partitions, int64_t ms, double rate)
{
	int64_t		id = last_auction(n) + FIRST_ID,
				initial = price(),
				seller = below(4) > 0 ? last_person(n) / HOT_EVERY * HOT_EVERY : some_person(n);

	begin(index, partitions, ms, id);
	printf("{\"id\":%" PRId64 ",\"itemName\":\"", id);
	put_text(20);
	printf("\",\"description\":\"");
	put_text(100);
	printf("\",\"initialBid\":%" PRId64 ",\"reserve\":%" PRId64 ",\"at\":\"", initial, initial + price());
	put_time(ms);
	printf("\",\"expires\":\"");
	put_time(ms + 1 + below((int64_t) (2 * HORIZON * 1000 / rate) + 1));
	printf("\",\"seller\":%" PRId64 ",\"category\":%d,\"extra\":\"", seller + FIRST_ID, 10 + (int) below(5));
	put_extra(120, 500);
	printf("\"}\n");
}

static void
bid(int64_t n, int64_t index, int partitions, int64_t ms)
{
	int64_t		on = below(2) > 0 ? last_auction(n) / HOT_EVERY * HOT_EVERY : some_auction(n),
				by = below(4) > 0 ? last_person(n) / HOT_EVERY * HOT_EVERY + 1 : some_person(n);

	begin(index, partitions, ms, on + FIRST_ID);
	printf("{\"auction\":%" PRId64 ",\"bidder\":%" PRId64 ",\"price\":%" PRId64 ",\"channel\":\"", on + FIRST_ID, by + FIRST_ID, price());
	if (below(2) > 0)
	{
		int			channel = below(4);

		printf("%s\",\"url\":\"https://www.nexmark.com/%s/item.htm?query=1", hot_channels[channel], hot_channels[channel]);
	}
	else
	{
		int			channel = below(CHANNELS);

		printf("channel-%d\",\"url\":\"https://www.nexmark.com/item.htm?query=1", channel);
		/* nine of ten channels have one */
		if (channel % 10 > 0)
			printf("&channel_id=%u", (unsigned) channel * 2654435761u >> 1);
	}
	printf("\",\"at\":\"");
	put_time(ms);
	printf("\",\"extra\":\"");
	put_extra(32, 100);
	printf("\"}\n");
}

int
main(int argc, char **argv)
{
	const char *what;
	int64_t		count,
				index = 0;
	int			partitions;
	double		rate;
	uint64_t	seed;

	if (argc != 6)
		die("arguments: bid|auction|person EVENTS-OF-ALL-KINDS PARTITIONS EVENTS-A-SECOND-OF-EVENT-TIME SEED");
	what = argv[1];
	count = strtoll(argv[2], NULL, 10);
	partitions = atoi(argv[3]);
	rate = strtod(argv[4], NULL);
	seed = strtoull(argv[5], NULL, 10);
	if (count <= 0 || partitions <= 0 || !(rate > 0))
		die("number of events, number of partitions and rate are positive");

	for (int64_t n = 0; n < count; n++)
	{
		int			offset = n % EVENTS;
		const char *kind = offset < PERSONS ? "person" : offset < PERSONS + AUCTIONS ? "auction" : "bid";
		int64_t		ms = START_MS + (int64_t) (n * 1000.0 / rate);

		if (strcmp(kind, what) != 0)
			continue;
		state = seed * 0x9e3779b97f4a7c15 ^ (uint64_t) n * 0xd1342543de82ef95;
		if (offset < PERSONS)
			person(n, index++, partitions, ms);
		else if (offset < PERSONS + AUCTIONS)
			auction(n, index++, partitions, ms, rate);
		else
			bid(n, index++, partitions, ms);
	}
	if (index == 0)
		die("no events of the kind \"%s\"", what);
	return fflush(stdout) != 0;
}

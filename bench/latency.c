/*-------------------------------------------------------------------------
 *
 * latency.c
 *	  When do rows of a running pipeline become visible?
 *
 * The sink has the columns p, o, ts (partition, offset, timestamp of the
 * message) and no index, and is only appended to.  This client polls it with
 *
 *		SELECT p, max(o), max(ctid) FROM sink WHERE ctid >= $1 GROUP BY p
 *
 * about every POLL_US, from the place of the newest row of that partition
 * that stands first: a partition's rows are written by one task, in order, so
 * nothing new of any partition can stand before that place.  Rows that are the results of some
 * events only are written by one process, epoch by epoch: a newer offset comes in a later
 * epoch than all that are older than what was read by then.  The executor
 * reads a handful of pages (a TID range scan), takes no lock that a writer
 * minds, and the answer has one row per partition.  What was the newest offset
 * of each partition at which time is written down here; when all rows are
 * there, each is looked up: visible at the time that the first answer which
 * covers its offset had ARRIVED here, so the round trip counts against us.
 * Timestamps are milliseconds, cut, not rounded: up to 1 ms against us too.
 *
 * The clocks are the same one, that of this machine.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#include "tool.h"

#define POLL_US			500
#define STALL_US		200000
#define MAX_PARTITIONS	64

/* the newest offset that was visible at "at" (us) */
typedef struct Seen
{
	int64_t		offset;
	int64_t		at;
} Seen;

typedef struct Partition
{
	Seen	   *seen;
	int			nseen;
	int			maxseen;
	uint32_t	block;
	uint32_t	item;			/* place of its newest row */
	bool		any;
} Partition;

static Partition parts[MAX_PARTITIONS];

static PGresult *
must(PGconn *conn, PGresult *result, ExecStatusType status)
{
	if (PQresultStatus(result) != status)
		die("%s", PQerrorMessage(conn));
	return result;
}

static void
note(Partition *part, int64_t offset, int64_t at)
{
	if (part->nseen > 0 && part->seen[part->nseen - 1].offset >= offset)
		return;
	if (part->nseen == part->maxseen)
	{
		part->maxseen = part->maxseen > 0 ? part->maxseen * 2 : 4096;
		part->seen = realloc(part->seen, part->maxseen * sizeof(Seen));
		if (part->seen == NULL)
			die("out of memory");
	}
	part->seen[part->nseen++] = (Seen) {offset, at};
}

static int64_t
visible_at(const Partition *part, int64_t offset)
{
	int			low = 0;
	int			high = part->nseen;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (part->seen[mid].offset >= offset)
			high = mid;
		else
			low = mid + 1;
	}
	if (low == part->nseen)
		die("a row was never seen");
	return part->seen[low].at;
}

int
main(int argc, char **argv)
{
	PGconn	   *conn;
	PGresult   *result;
	char		sql[512];
	int			npartitions;
	int64_t		expected,
				warmup_us,
				limit,
				last_news = 0,
				seen_count = 0,
				first_ts = INT64_MAX,
				count = 0,
				polls = 0,
				poll_us = 0;
	int64_t    *latency;

	if (argc != 7)
		die("usage: latency CONNINFO SINK PARTITIONS ROWS WARMUP_S TIMEOUT_S; ROWS 0: some, until the time is over");
	npartitions = atoi(argv[3]);
	expected = atoll(argv[4]);
	warmup_us = (int64_t) (atof(argv[5]) * 1e6);
	limit = clock_us(CLOCK_MONOTONIC) + (int64_t) (atof(argv[6]) * 1e6);
	if (npartitions < 1 || npartitions > MAX_PARTITIONS || expected < 0)
		die("wrong arguments");

	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	PQclear(must(conn, PQexec(conn, "SET plan_cache_mode = force_generic_plan; SET jit = off; "
							  "SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off"), PGRES_COMMAND_OK));
	snprintf(sql, sizeof(sql), "SELECT p, max(o), max(ctid) FROM %s WHERE ctid >= $1::tid GROUP BY p", argv[2]);
	PQclear(must(conn, PQprepare(conn, "poll", sql, 0, NULL), PGRES_COMMAND_OK));

	for (;;)
	{
		char		from[32] = "(0,0)";
		const char *values[1] = {from};
		struct timespec pause = {0, POLL_US * 1000};
		int64_t		begin,
					now;
		bool		all = true;
		int			first = 0;

		for (int i = 0; i < npartitions; i++)
		{
			if (!parts[i].any)
				all = false;
			else if (parts[i].block < parts[first].block ||
					 (parts[i].block == parts[first].block && parts[i].item < parts[first].item))
				first = i;
		}
		/* two tasks that make the table longer at the same time may use pages in another order */
		if (all && clock_us(CLOCK_MONOTONIC) - last_news < STALL_US)
			snprintf(from, sizeof(from), "(%u,%u)", parts[first].block, parts[first].item);

		begin = clock_us(CLOCK_MONOTONIC);
		result = must(conn, PQexecPrepared(conn, "poll", 1, values, NULL, NULL, 0), PGRES_TUPLES_OK);
		now = clock_us(CLOCK_REALTIME);
		polls++;
		poll_us += clock_us(CLOCK_MONOTONIC) - begin;
		for (int i = 0; i < PQntuples(result); i++)
		{
			int			p = atoi(PQgetvalue(result, i, 0));
			unsigned	block,
						item;

			if (p < 0 || p >= npartitions || sscanf(PQgetvalue(result, i, 2), "(%u,%u)", &block, &item) != 2)
				die("unexpected row");
			note(&parts[p], atoll(PQgetvalue(result, i, 1)), now);
			parts[p].block = block;
			parts[p].item = item;
			parts[p].any = true;
		}
		PQclear(result);

		/* where all events are rows offsets begin at 0 and have no gaps: nothing else writes to the topic */
		count = 0;
		for (int i = 0; i < npartitions; i++)
			if (parts[i].any)
				count += parts[i].seen[parts[i].nseen - 1].offset + 1;
		if (expected > 0 ? count >= expected : clock_us(CLOCK_MONOTONIC) > limit)
			break;
		if (count > seen_count || clock_us(CLOCK_MONOTONIC) - last_news >= STALL_US)
			last_news = clock_us(CLOCK_MONOTONIC);
		seen_count = count;
		if (expected > 0 && clock_us(CLOCK_MONOTONIC) > limit)
			die("%" PRId64 " of %" PRId64 " rows came in time", count, expected);
		nanosleep(&pause, NULL);
	}

	snprintf(sql, sizeof(sql), "SELECT p, o, (extract(epoch FROM ts) * 1000000)::bigint FROM %s", argv[2]);
	result = must(conn, PQexec(conn, sql), PGRES_TUPLES_OK);
	if (expected == 0)
		expected = PQntuples(result);
	if (PQntuples(result) != expected)
		die("%d rows in the sink, %" PRId64 " expected", PQntuples(result), expected);
	latency = malloc((expected > 0 ? expected : 1) * sizeof(int64_t));
	if (latency == NULL)
		die("out of memory");
	for (int64_t i = 0; i < expected; i++)
	{
		int64_t		ts = atoll(PQgetvalue(result, i, 2));

		if (ts < first_ts)
			first_ts = ts;
	}
	count = 0;
	for (int64_t i = 0; i < expected; i++)
	{
		int			p = atoi(PQgetvalue(result, i, 0));
		int64_t		ts = atoll(PQgetvalue(result, i, 2));

		if (p < 0 || p >= npartitions)
			die("unexpected row");
		if (ts >= first_ts + warmup_us)
			latency[count++] = visible_at(&parts[p], atoll(PQgetvalue(result, i, 1))) - ts;
	}
	if (count == 0)
		die("nothing came after the warm-up");
	qsort(latency, count, sizeof(int64_t), compare);
	printf("rows %" PRId64 " p50_ms %.2f p99_ms %.2f p999_ms %.2f max_ms %.2f polls %" PRId64 " poll_ms %.3f\n",
		   count, latency[count / 2] / 1e3, latency[(int64_t) (count * 0.99)] / 1e3,
		   latency[(int64_t) (count * 0.999)] / 1e3, latency[count - 1] / 1e3, polls, poll_us / 1e3 / polls);
	return 0;
}

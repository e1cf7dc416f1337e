/*-------------------------------------------------------------------------
 *
 * drain.c
 *	  The limit of the benchmark: reads a topic from its beginning to its
 *	  present end with librdkafka and throws the messages away.
 *
 * What librdkafka itself costs is what no pipeline can save.  Two variants:
 *
 *		one			all messages through the consumer's queue, 2048 kB
 *		partitions	a queue of its own for each partition, 512 kB each
 *
 * both with fetches of 500000 bytes and batch consume without blocking; sleeps
 * are poll() on a pipe that librdkafka writes to.  2.0.2 stops fetching for up
 * to a second when a queue was full, so a partition that gives nothing for
 * STALL_MS after it gave at least a queue full, although its end is not
 * reached, gets an asynchronous seek to its next offset, which wakes the
 * fetcher.  Any other silence is an answer that is still on its way, which a
 * seek would throw away: there it comes after SLOW_MS.  A message that comes
 * twice because of a seek is counted once.
 *
 * One thread of ours.  CPU is that of the whole process, librdkafka's threads
 * included.  Prints one line: variant, events, wall s, CPU s, us of CPU an event.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "tool.h"

#define BATCH			4096
#define STALL_MS		8
#define SLOW_MS			200
#define QUEUE_KB		2048		/* of all partitions */
#define TIMEOUT_MS		20000		/* for questions to the broker, and for silence */
#define MAX_PARTITIONS	1024

typedef struct Partition
{
	rd_kafka_queue_t *queue;	/* variant "partitions" only */
	int64_t		next;			/* offset of the next message */
	int64_t		end;			/* where to stop */
	double		empty_since;	/* when it gave nothing for the first time, 0: it gave something */
	int64_t		run;			/* bytes since it was last empty */
	bool		counted;		/* gave something since the last look */
} Partition;

static Partition parts[MAX_PARTITIONS];
static int	nparts;
static rd_kafka_topic_t *topic_handle;
static int64_t events;
static int64_t repeated;
static int64_t kicks;
static int64_t bytes;
static int	open_parts;			/* partitions that are not at their end */

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		err[256];

	if (rd_kafka_conf_set(conf, name, value, err, sizeof(err)) != RD_KAFKA_CONF_OK)
		die("%s", err);
}

static void
account(const rd_kafka_message_t *message)
{
	Partition  *part;

	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		return;
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		/* a lost connection is repaired by the library, silence ends by our own time-out */
		if (message->err == RD_KAFKA_RESP_ERR__TRANSPORT || message->err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
			return;
		die("%s", rd_kafka_message_errstr(message));
	}
	if (message->partition < 0 || message->partition >= nparts)
		die("message of unknown partition %d", (int) message->partition);
	part = &parts[message->partition];
	if (message->offset < part->next)
	{
		repeated++;
		return;
	}
	if (part->next >= part->end)
		return;					/* written after we began */
	if (message->offset != part->next)
		die("partition %d: offset %lld where %lld was expected", (int) message->partition,
			(long long) message->offset, (long long) part->next);
	part->next = message->offset + 1;
	part->counted = true;
	part->run += message->len;
	events++;
	bytes += message->len;
	if (part->next == part->end)
		open_parts--;
}

/* Takes what is in a queue, without blocking. */
static ssize_t
take(rd_kafka_queue_t *queue)
{
	static rd_kafka_message_t *batch[BATCH];
	ssize_t		n;

	/* the length is known without a system call, an empty read is not */
	if (rd_kafka_queue_length(queue) == 0)
		return 0;
	n = rd_kafka_consume_batch_queue(queue, 0, batch, BATCH);
	for (ssize_t i = 0; i < n; i++)
	{
		account(batch[i]);
		rd_kafka_message_destroy(batch[i]);
	}
	return n;
}

/* The queue of a partition is empty now. */
static void
kick_if_stalled(int i, double now, int64_t full)
{
	Partition  *part = &parts[i];

	if (part->next >= part->end)
		return;
	if (part->counted)
	{
		part->counted = false;
		part->empty_since = now;
	}
	else if (now - part->empty_since > (part->run >= full ? STALL_MS : SLOW_MS) / 1000.0)
	{
		(void) rd_kafka_seek(topic_handle, i, part->next, 0);
		kicks++;
		part->empty_since = now;
		part->run = 0;
	}
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;
	rd_kafka_queue_t *common;
	rd_kafka_topic_partition_list_t *list;
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t rc;
	struct rusage usage;
	char		err[512];
	int			fds[2];
	bool		one;
	double		begin,
				now,
				last,
				cpu;
	int64_t		full;

	if (argc != 4 || (strcmp(argv[3], "one") != 0 && strcmp(argv[3], "partitions") != 0))
		die("usage: drain BROKERS TOPIC one|partitions");
	one = strcmp(argv[3], "one") == 0;

	begin = seconds();
	conf = rd_kafka_conf_new();
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "group.id", "streamproc-bench-drain");	/* assign() wants one, nothing is committed */
	set(conf, "enable.auto.commit", "false");
	set(conf, "enable.auto.offset.store", "false");
	set(conf, "auto.offset.reset", "error");
	set(conf, "isolation.level", "read_committed");
	set(conf, "fetch.wait.max.ms", "10");	/* a partition at its end holds up the others of its broker */
	set(conf, "fetch.min.bytes", "1");
	set(conf, "queued.min.messages", "1000000");	/* the limit in bytes rules */
	set(conf, "queued.max.messages.kbytes", one ? "2048" : "512");
	set(conf, "fetch.message.max.bytes", "500000");
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, err, sizeof(err));
	if (rk == NULL)
		die("%s", err);

	topic_handle = rd_kafka_topic_new(rk, argv[2], NULL);
	rc = rd_kafka_metadata(rk, 0, topic_handle, &metadata, TIMEOUT_MS);
	if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("%s", rd_kafka_err2str(rc));
	if (metadata->topic_cnt != 1 || metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("no topic \"%s\"", argv[2]);
	nparts = metadata->topics[0].partition_cnt;
	if (nparts > MAX_PARTITIONS)
		die("too many partitions");
	rd_kafka_metadata_destroy(metadata);

	rd_kafka_poll_set_consumer(rk);
	common = rd_kafka_queue_get_consumer(rk);
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
		die("pipe: %s", strerror(errno));
	rd_kafka_queue_io_event_enable(common, fds[1], "x", 1);

	list = rd_kafka_topic_partition_list_new(nparts);
	for (int i = 0; i < nparts; i++)
	{
		Partition  *part = &parts[i];

		rc = rd_kafka_query_watermark_offsets(rk, argv[2], i, &part->next, &part->end, TIMEOUT_MS);
		if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("%s", rd_kafka_err2str(rc));
		if (part->next < part->end)
			open_parts++;
		rd_kafka_topic_partition_list_add(list, argv[2], i)->offset = part->next;
		if (!one)
		{
			part->queue = rd_kafka_queue_get_partition(rk, argv[2], i);
			rd_kafka_queue_forward(part->queue, NULL);	/* before assign(), else messages stay in the common queue */
			rd_kafka_queue_io_event_enable(part->queue, fds[1], "x", 1);
		}
	}
	rc = rd_kafka_assign(rk, list);
	if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("%s", rd_kafka_err2str(rc));
	rd_kafka_topic_partition_list_destroy(list);

	/* what fills a queue, less the message that did not fit any more */
	full = (one ? QUEUE_KB : QUEUE_KB / 4) * 1024 / (one ? nparts : 1) * 3 / 4;
	last = seconds();
	for (int i = 0; i < nparts; i++)
		parts[i].empty_since = last;
	while (open_parts > 0)
	{
		char		buffer[64];
		ssize_t		n;

		/* empty the pipe, then the queues, then sleep on the pipe */
		while (read(fds[0], buffer, sizeof(buffer)) == sizeof(buffer))
			;
		n = take(common);
		now = 0;
		for (int i = 0; i < nparts; i++)
		{
			ssize_t		got = one ? n : take(parts[i].queue);

			if (got == 0)
			{
				if (now == 0)
					now = seconds();
				kick_if_stalled(i, now, full);
			}
			else if (!one)
				n += got;
		}
		if (n > 0)
			last = 0;
		else
		{
			struct pollfd pfd = {.fd = fds[0],.events = POLLIN};

			if (last == 0)
				last = now;
			if (now - last > TIMEOUT_MS / 1000.0)
				die("nothing came for %d s", TIMEOUT_MS / 1000);
			poll(&pfd, 1, STALL_MS / 2);
		}
	}

	getrusage(RUSAGE_SELF, &usage);
	cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	now = seconds();
	printf("%s events %lld wall_s %.3f cpu_s %.3f us_per_event %.4f bytes_per_event %.1f kicks %lld repeated %lld\n",
		   argv[3], (long long) events, now - begin, cpu, events > 0 ? cpu * 1e6 / events : 0,
		   events > 0 ? (double) bytes / events : 0, (long long) kicks, (long long) repeated);
	return 0;					/* the handle is left to exit: everything was read, nothing is to be committed */
}

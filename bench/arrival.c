/*-------------------------------------------------------------------------
 *
 * arrival.c
 *	  When do messages arrive at a consumer that does nothing else?
 *
 * What producer, broker and librdkafka take of the latency is what no pipeline
 * can save, and tells a slow machine from a slow pipeline.  Reads all
 * partitions of a topic from their present ends, with the settings of a task's
 * consumer, for a number of seconds, after SKIP_SECONDS that do not count.
 * Prints one line: messages, and the time from their timestamps (cut to
 * milliseconds) to now.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#include "tool.h"

#define MAX_MESSAGES	10000000
#define SKIP_SECONDS	5

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		err[256];

	if (rd_kafka_conf_set(conf, name, value, err, sizeof(err)) != RD_KAFKA_CONF_OK)
		die("%s", err);
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	rd_kafka_topic_partition_list_t *list;
	const struct rd_kafka_metadata *metadata;
	int64_t    *latency = malloc(MAX_MESSAGES * sizeof(int64_t));
	int64_t		count = 0,
				until,
				from;
	char		err[512];

	if (argc != 4)
		die("usage: arrival BROKERS TOPIC SECONDS");
	if (latency == NULL)
		die("out of memory");
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "group.id", "streamproc-bench-arrival");	/* assign() wants one, nothing is committed */
	set(conf, "enable.auto.commit", "false");
	set(conf, "isolation.level", "read_committed");
	set(conf, "fetch.wait.max.ms", "10");
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, err, sizeof(err));
	if (rk == NULL)
		die("%s", err);
	if (rd_kafka_metadata(rk, 0, rd_kafka_topic_new(rk, argv[2], NULL), &metadata, 20000) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		metadata->topic_cnt != 1 || metadata->topics[0].partition_cnt == 0)
		die("no topic \"%s\"", argv[2]);
	list = rd_kafka_topic_partition_list_new(metadata->topics[0].partition_cnt);
	for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, argv[2], i)->offset = RD_KAFKA_OFFSET_END;
	rd_kafka_poll_set_consumer(rk);
	if (rd_kafka_assign(rk, list) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("assign failed");

	from = clock_us(CLOCK_MONOTONIC) + SKIP_SECONDS * INT64_C(1000000);
	until = from + (int64_t) (atof(argv[3]) * 1e6);
	while (clock_us(CLOCK_MONOTONIC) < until && count < MAX_MESSAGES)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, 100);

		if (message == NULL)
			continue;
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && clock_us(CLOCK_MONOTONIC) >= from)
			latency[count++] = clock_us(CLOCK_REALTIME) - rd_kafka_message_timestamp(message, NULL) * 1000;
		rd_kafka_message_destroy(message);
	}
	if (count == 0)
		die("nothing came");
	qsort(latency, count, sizeof(int64_t), compare);
	printf("messages %lld p50_ms %.2f p99_ms %.2f max_ms %.2f\n", (long long) count, latency[count / 2] / 1e3,
		   latency[(int64_t) (count * 0.99)] / 1e3, latency[count - 1] / 1e3);
	return 0;					/* the handle is left to exit: nothing is to be committed */
}

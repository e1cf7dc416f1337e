/*-------------------------------------------------------------------------
 *
 * kafka_admin.c
 *	  Commands of kafka_tool that change the cluster: topics, records, groups.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kafka_tool.h"

static void
wait_partitions(rd_kafka_t *rk, const char *topic, int wanted)
{
	int64_t		until = now_ms() + ADMIN_TIMEOUT_MS;
	int			got;

	while ((got = topic_partitions(rk, topic)) != wanted)
	{
		if (now_ms() > until)
			die("topic %s: asked for %d partitions, the broker shows %d", topic, wanted, got);
		rd_kafka_poll(rk, 5);
	}
}

static void
check_topic_results(const rd_kafka_topic_result_t **results, const size_t *n)
{
	for (size_t i = 0; i < *n; i++)
		if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("topic %s: %s", rd_kafka_topic_result_name(results[i]),
				rd_kafka_topic_result_error_string(results[i]) != NULL ?
				rd_kafka_topic_result_error_string(results[i]) :
				rd_kafka_err2str(rd_kafka_topic_result_error(results[i])));
}

/* One request to the cluster: begin, ask on "queue", take the answer, end. */
typedef struct Admin
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	rd_kafka_event_t *event;
} Admin;

static void
admin_begin(Admin *admin, const char *brokers)
{
	admin->rk = open_handle(RD_KAFKA_PRODUCER, base_conf(brokers, NULL));
	admin->queue = rd_kafka_queue_new(admin->rk);
}

static rd_kafka_event_t *
admin_answer(Admin *admin)
{
	admin->event = rd_kafka_queue_poll(admin->queue, ADMIN_TIMEOUT_MS);
	if (admin->event == NULL)
		die("no answer within %d ms", ADMIN_TIMEOUT_MS);
	if (rd_kafka_event_error(admin->event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		die("%s", rd_kafka_event_error_string(admin->event));
	return admin->event;
}

/* topic: NULL, or it is waited for until it has so many partitions (-1: is gone) */
static void
admin_end(Admin *admin, const char *topic, int partitions)
{
	rd_kafka_event_destroy(admin->event);
	if (topic != NULL)
		wait_partitions(admin->rk, topic, partitions);
	rd_kafka_queue_destroy(admin->queue);
	rd_kafka_destroy(admin->rk);
}

int
cmd_wait(const char *brokers, int argc, char **argv)
{
	rd_kafka_t *rk;
	int64_t		until;

	if (argc != 1)
		return 2;
	until = now_ms() + number(argv[0], "the timeout");
	rk = open_handle(RD_KAFKA_PRODUCER, base_conf(brokers, NULL));
	do
	{
		const struct rd_kafka_metadata *md;

		if (rd_kafka_metadata(rk, 0, NULL, &md, 200) == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			int			n = md->broker_cnt;

			rd_kafka_metadata_destroy(md);
			if (n > 0)
			{
				rd_kafka_destroy(rk);
				return 0;
			}
		}
		rd_kafka_poll(rk, 10);
	} while (now_ms() < until);
	rd_kafka_destroy(rk);
	fprintf(stderr, "kafka_tool: no answer from %s\n", brokers);
	return 1;
}

int
cmd_create(const char *brokers, int argc, char **argv)
{
	Admin		admin;
	rd_kafka_NewTopic_t *topic;
	Settings	config = {0};
	size_t		n;
	char		err[512];
	int			partitions;

	if (argc < 2)
		return 2;
	partitions = (int) number(argv[1], "the number of partitions");
	topic = rd_kafka_NewTopic_new(argv[0], partitions, 1, err, sizeof(err));
	if (topic == NULL)
		die("%s", err);
	for (int i = 2; i < argc; i++)
		settings_add(&config, argv[i]);
	for (int i = 0; i < config.n; i++)
		if (rd_kafka_NewTopic_set_config(topic, config.name[i], config.value[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("bad topic setting %s", config.name[i]);
	admin_begin(&admin, brokers);
	rd_kafka_CreateTopics(admin.rk, &topic, 1, NULL, admin.queue);
	check_topic_results(rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(admin_answer(&admin)), &n), &n);
	admin_end(&admin, argv[0], partitions);
	rd_kafka_NewTopic_destroy(topic);
	return 0;
}

int
cmd_delete(const char *brokers, int argc, char **argv)
{
	Admin		admin;
	rd_kafka_DeleteTopic_t *topic;
	size_t		n;

	if (argc != 1)
		return 2;
	admin_begin(&admin, brokers);
	topic = rd_kafka_DeleteTopic_new(argv[0]);
	rd_kafka_DeleteTopics(admin.rk, &topic, 1, NULL, admin.queue);
	check_topic_results(rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(admin_answer(&admin)), &n), &n);
	admin_end(&admin, argv[0], -1);
	rd_kafka_DeleteTopic_destroy(topic);
	return 0;
}

int
cmd_delete_group(const char *brokers, int argc, char **argv)
{
	Admin		admin;
	rd_kafka_DeleteGroup_t *group;
	const rd_kafka_group_result_t **results;
	size_t		n;

	if (argc != 1)
		return 2;
	admin_begin(&admin, brokers);
	group = rd_kafka_DeleteGroup_new(argv[0]);
	rd_kafka_DeleteGroups(admin.rk, &group, 1, NULL, admin.queue);
	results = rd_kafka_DeleteGroups_result_groups(rd_kafka_event_DeleteGroups_result(admin_answer(&admin)), &n);
	if (n != 1 || rd_kafka_group_result_error(results[0]) != NULL)
		die("%s", n == 1 ? rd_kafka_error_string(rd_kafka_group_result_error(results[0])) : "no result");
	admin_end(&admin, NULL, 0);
	rd_kafka_DeleteGroup_destroy(group);
	return 0;
}

int
cmd_add_partitions(const char *brokers, int argc, char **argv)
{
	Admin		admin;
	rd_kafka_NewPartitions_t *parts;
	size_t		n;
	char		err[512];
	int			total;

	if (argc != 2)
		return 2;
	total = (int) number(argv[1], "the number of partitions");
	parts = rd_kafka_NewPartitions_new(argv[0], total, err, sizeof(err));
	if (parts == NULL)
		die("%s", err);
	admin_begin(&admin, brokers);
	rd_kafka_CreatePartitions(admin.rk, &parts, 1, NULL, admin.queue);
	check_topic_results(rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(admin_answer(&admin)), &n), &n);
	admin_end(&admin, argv[0], total);
	rd_kafka_NewPartitions_destroy(parts);
	return 0;
}

int
cmd_delete_records(const char *brokers, int argc, char **argv)
{
	Admin		admin;
	rd_kafka_DeleteRecords_t *records;
	rd_kafka_topic_partition_list_t *list;
	const rd_kafka_topic_partition_list_t *got;

	if (argc != 3)
		return 2;
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, argv[0], (int32_t) number(argv[1], "the partition"))->offset =
		number(argv[2], "the offset");
	records = rd_kafka_DeleteRecords_new(list);
	admin_begin(&admin, brokers);
	rd_kafka_DeleteRecords(admin.rk, &records, 1, NULL, admin.queue);
	got = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(admin_answer(&admin)));
	for (int i = 0; i < got->cnt; i++)
	{
		if (got->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			die("%s: %s", argv[0], rd_kafka_err2str(got->elems[i].err));
		printf("%lld\n", (long long) got->elems[i].offset);
	}
	admin_end(&admin, NULL, 0);
	rd_kafka_DeleteRecords_destroy(records);
	rd_kafka_topic_partition_list_destroy(list);
	return 0;
}

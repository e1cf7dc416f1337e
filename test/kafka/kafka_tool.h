/*-------------------------------------------------------------------------
 *
 * kafka_tool.h
 *	  Between kafka_tool.c and kafka_admin.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef KAFKA_TOOL_H
#define KAFKA_TOOL_H

#include <stdint.h>

#include <librdkafka/rdkafka.h>

#define MAX_SETTINGS		64
#define ADMIN_TIMEOUT_MS	20000

typedef struct Settings
{
	int			n;
	char	   *name[MAX_SETTINGS];
	const char *value[MAX_SETTINGS];
} Settings;

extern void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern int64_t now_ms(void);
extern long long number(const char *text, const char *what);
extern void settings_add(Settings *settings, const char *text);
extern rd_kafka_conf_t *base_conf(const char *brokers, const Settings *settings);
extern rd_kafka_t *open_handle(rd_kafka_type_t type, rd_kafka_conf_t *conf);
extern int	topic_partitions(rd_kafka_t *rk, const char *topic);

extern int	cmd_wait(const char *brokers, int argc, char **argv);
extern int	cmd_create(const char *brokers, int argc, char **argv);
extern int	cmd_delete(const char *brokers, int argc, char **argv);
extern int	cmd_delete_group(const char *brokers, int argc, char **argv);
extern int	cmd_add_partitions(const char *brokers, int argc, char **argv);
extern int	cmd_delete_records(const char *brokers, int argc, char **argv);

#endif							/* KAFKA_TOOL_H */

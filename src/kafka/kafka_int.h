/*-------------------------------------------------------------------------
 *
 * kafka_int.h
 *	  What the files of the Kafka room share.  Nobody else includes this: it
 *	  brings rdkafka.h in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_KAFKA_INT_H
#define STREAMPROC_KAFKA_INT_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include "base/hostlist.h"
#include "kafka/kafka.h"
#include "port/atomics.h"

/* A setting of ours, in librdkafka's spelling. */
typedef struct KafkaSetting
{
	const char *name;
	const char *value;
} KafkaSetting;

/*
 * A librdkafka handle with its wake-up pipe and what its callbacks last said.
 *
 * It is malloc'd, as helper threads may outlive the statement that made it.
 * The last holder destroys it (see kafka_handle_release): library handle
 * first, then the pipe, so that the library can never write into a reused file
 * descriptor.
 *
 * Threads: "refs" is atomic; "rk", the pipe and the list of allowed brokers do
 * not change; "refused" and "refused_us" are under their lock, which is held for a copy
 * only.  All else belongs to the PostgreSQL thread, which is the only one that
 * serves the queues and so the only one in which callbacks run, but those that
 * resolve and connect, and the partitioner (publish_send.c), which knows no handle.
 */
typedef struct KafkaHandle
{
	pg_atomic_uint32 refs;
	rd_kafka_t *rk;
	int			read_fd;		/* one pipe for all queues and for helper threads */
	int			write_fd;
	rd_kafka_queue_t *main_queue;	/* client, producer: has the pipe; consumer: NULL */

	HostList   *allowed;		/* NULL: every broker */
	pthread_mutex_t refused_lock;
	char		refused[HOST_NAME_MAX_LEN + 16];	/* the last broker that was not allowed, host:port */
	int64		refused_us;		/* when; 0: never */
	int64		retry_us;		/* longest time between two attempts to connect */

	int64		down_since_us;	/* every broker is down since; 0: not known to be down */
	bool		topic_missing;
	KafkaFailure reason_kind;	/* KAFKA_UNREACHABLE or KAFKA_LOGIN_FAILED */
	char		reason[384];	/* last error that names a cause */
	bool		log_new;
	char		log_line[384];	/* last line of the library's log */

	/* of a publisher: messages that were not delivered, and why the first one was not */
	uint64		undelivered;
	bool		delivery_dropped;	/* by the library: its transaction had failed before */
	KafkaFailure delivery_failure;
	char		delivery_error[256];
	bool		counts;			/* what was delivered, by flights */
	uint8		flight;			/* that messages join now */
	uint8		first_flight;	/* that has not arrived */
	uint32		flying[KAFKA_FLIGHTS];	/* its messages under way */
	bool		alone;			/* each message goes in a batch of its own: what is refused is the message */
	int			nrefusals;
	KafkaRefusal refusals[KAFKA_REFUSALS];

	/* called for each statistics event; NULL: none */
	void		(*stats) (void *arg, const char *json, size_t len);
	void	   *stats_arg;
} KafkaHandle;

/* A message that was given out: what KafkaMessage.handle points to. */
typedef struct KafkaSlot
{
	rd_kafka_message_t *message;	/* NULL: free */
	KafkaConsumer *consumer;
	struct KafkaSlot *next_free;
} KafkaSlot;

/* in conf.c */

/*
 * A librdkafka configuration from "defaults", then what the user set, then
 * "fixed" (both end with a NULL name).  Throws; never returns NULL.
 */
extern rd_kafka_conf_t *kafka_conf_build(const KafkaConf *conf,
										 const KafkaSetting *defaults,
										 const KafkaSetting *fixed);

/* in connect.c */

/*
 * The handle's copy of the list of allowed brokers, and the callbacks that
 * enforce it, where it does not allow all.  False: out of memory.
 */
extern bool kafka_handle_guard(KafkaHandle *handle, const KafkaConf *conf, rd_kafka_conf_t *rdconf);

/* Was a broker refused as not allowed, so lately that the library still tries it? */
extern bool kafka_handle_refused(KafkaHandle *handle);

/* Why it does not work now: a broker that is not allowed, else the last error, else "otherwise". */
extern void kafka_handle_explain(KafkaHandle *handle, const char *otherwise, KafkaError *err);

/* "broker ... is not allowed by streamproc.allowed_brokers"; host: with its port */
extern void kafka_refusal_text(char *into, Size size, const char *host);

/* in handle.c */

/*
 * Takes rdconf over, which was built from conf.  Throws where the
 * configuration is contradictory.
 */
extern KafkaHandle *kafka_handle_open(rd_kafka_type_t type, const KafkaConf *conf, rd_kafka_conf_t *rdconf);
/* of which rd_kafka_poll() serves everything: no consumer; the pipe tells that there is something */
extern KafkaHandle *kafka_handle_open_polled(rd_kafka_type_t type, const KafkaConf *conf, rd_kafka_conf_t *rdconf);
extern void kafka_handle_retain(KafkaHandle *handle);

/*
 * Gives up one reference; the last one destroys, on a thread of its own that
 * is waited for at most 100 ms (name resolution can hold it up).  Never
 * throws, so it may be called from memory context callbacks.
 */
extern void kafka_handle_release(KafkaHandle *handle);

/* The same from a helper thread: no PostgreSQL, destroys in place. */
extern void kafka_handle_release_thread(KafkaHandle *handle);

/* Another reason than an error that came through the callback. */
extern void kafka_handle_set_reason(KafkaHandle *handle, const char *text);

/* Empties the pipe. */
extern void kafka_handle_drain(KafkaHandle *handle);

/* Writes the last log line of the library to the server's log (DEBUG1). */
extern void kafka_handle_log(KafkaHandle *handle);

/* Starts a detached thread with all signals blocked; false: errno. */
extern bool kafka_thread_start(void *(*main) (void *), void *arg);

/* ---- call.c: a call of the library that blocks ---- */

/* Begins a struct of its arguments and results, which are malloc'd. */
typedef struct KafkaCall
{
	pg_atomic_uint32 owners;
	pg_atomic_uint32 done;
	KafkaHandle *handle;		/* a reference */
	void		(*run) (struct KafkaCall *call);	/* on the helper thread: no PostgreSQL */
	void		(*free) (struct KafkaCall *call);	/* what hangs on the struct; on either thread */
	int64		deadline_us;	/* monotonic */
	bool		serves;			/* it serves the handle's events itself */

	KafkaFailure failure;
	char		message[512];
} KafkaCall;

extern KafkaCall *kafka_call_create(size_t size, KafkaHandle *handle, void (*run) (KafkaCall *call),
									void (*release) (KafkaCall *call), int timeout_ms);
extern bool kafka_call_make(KafkaCall *call, KafkaError *err);
/* the same in steps, for who has something to do meanwhile */
extern bool kafka_call_start(KafkaCall *call, KafkaError *err);
extern bool kafka_call_done(KafkaCall *call);
extern bool kafka_call_result(KafkaCall *call, KafkaError *err);
extern bool kafka_call_finish(KafkaCall *call, KafkaError *err);
extern void kafka_call_leave(KafkaCall *call);
extern void kafka_out_of_memory(void) pg_attribute_noreturn();

/* on the helper thread */
extern int	kafka_call_remaining_ms(KafkaCall *call);
extern void kafka_call_fail(KafkaCall *call, KafkaFailure failure, const char *text);
extern void kafka_call_pause(void);

/* in producer.c */

/* Hands a message to the library, which keeps a copy; "opaque" comes with the delivery report. */
extern rd_kafka_resp_err_t kafka_produce(KafkaHandle *handle, rd_kafka_topic_t *topic, void *opaque, int32 partition,
										 const char *key, Size key_len, const char *value, Size value_len,
										 int64 timestamp_ms, const KafkaHeader *headers, int nheaders);

/* in metadata.c */

/* Asks for the partitions of a topic on any handle; -1: see err. */
extern int	kafka_ask_partitions(KafkaHandle *handle, const char *topic,
								 int timeout_ms, KafkaError *err);

/* in make_topic.c: as kafka_publisher_make_topic(), of a producer */
extern bool kafka_make_topic(KafkaHandle *handle, const char *topic, int timeout_ms, KafkaError *err);

/* in publish_call.c: what it comes to for who has sent, or asked */
extern KafkaFailure kafka_failure_of(rd_kafka_resp_err_t err);

#endif							/* STREAMPROC_KAFKA_INT_H */

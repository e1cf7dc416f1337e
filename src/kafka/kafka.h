/*-------------------------------------------------------------------------
 *
 * kafka.h
 *	  Kafka as the other rooms see it.  Only this room includes rdkafka.h.
 *
 * Rules that hold for everything here (../../../shared facts, README.md):
 * no call blocks for more than 100 ms without checking interrupts, no
 * callback of librdkafka touches PostgreSQL, no error longjmps through
 * librdkafka, every handle is closed also when the statement fails.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_KAFKA_H
#define STREAMPROC_KAFKA_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#define KAFKA_OFFSET_UNKNOWN	(-1)

/* ---- configuration (conf.c) ---- */

/* Where an option of a server or user mapping may stand, see conf.c's table */
#define KAFKA_PROP_SERVER	0x01
#define KAFKA_PROP_USER		0x02

/*
 * A resolved configuration: property names and values in librdkafka's
 * spelling, palloc'd in one context.
 */
typedef struct KafkaConf
{
	int			nprops;
	int			maxprops;
	char	  **names;
	char	  **values;
	char	   *allowed_brokers;	/* the setting as it was then */
} KafkaConf;

/*
 * Is "option" (SQL spelling: sasl_mechanism, ssl_ca_pem, security_protocol;
 * underscores for dots) an option that may stand at "where"?  Returns
 * librdkafka's property name, or NULL.  "needs_file_read" is set where the
 * value names a file, which needs pg_read_server_files.
 */
extern const char *kafka_option_property(const char *option, int where, bool *needs_file_read);
/* all option names allowed at "where", for hints; returns their number */
extern int	kafka_option_names(int where, const char **names, int max);
/* checks a value as librdkafka would; returns NULL or an error text */
extern char *kafka_option_check(const char *property, const char *value);
/* would the value weaken TLS?  Only a superuser may set it then */
extern bool kafka_option_weakens(const char *property, const char *value);

extern KafkaConf *kafka_conf_create(void);
extern void kafka_conf_set(KafkaConf *conf, const char *property, const char *value);
extern bool kafka_conf_equal(const KafkaConf *a, const KafkaConf *b);

/* ---- metadata (metadata.c) ---- */

/*
 * A handle for questions to the cluster; never the consuming handle, whose
 * connection is busy with long polls.  Questions are asked on a helper thread
 * of ours, so the caller waits on his latch and may be interrupted.
 * "timeout_ms" bounds the whole call.
 *
 * Every function returns NULL/false on failure and fills "err" (static buffer
 * of the client, no secrets), "unreachable" telling whether it is the broker
 * or the topic that is missing.
 */
typedef struct KafkaClient KafkaClient;

typedef enum KafkaFailure
{
	KAFKA_OK,
	KAFKA_UNREACHABLE,			/* no broker answered in time */
	KAFKA_LOGIN_FAILED,			/* a broker refused our credentials or we its certificate */
	KAFKA_NOT_ALLOWED,			/* streamproc.allowed_brokers forbids a broker */
	KAFKA_FORBIDDEN,			/* the cluster's access control forbids it to our user */
	KAFKA_NO_TOPIC,				/* the cluster has no such topic */
	KAFKA_FENCED,				/* another producer of the same id has taken over, or the time of a transaction was over */
	KAFKA_REFUSED,				/* the message itself: it would be refused again */
	KAFKA_FAILED				/* anything else, see the message */
} KafkaFailure;

typedef struct KafkaError
{
	KafkaFailure failure;
	char		message[512];
} KafkaError;

extern KafkaClient *kafka_client_open(KafkaConf *conf);
extern void kafka_client_close(KafkaClient *client);
/* number of partitions, or -1 */
extern int	kafka_client_partitions(KafkaClient *client, const char *topic, int timeout_ms, KafkaError *err);
/* the cluster's id, palloc'd, or NULL; topic: some topic, which need not exist, to be asked for */
extern char *kafka_client_cluster_id(KafkaClient *client, const char *topic, int timeout_ms, KafkaError *err);

typedef enum KafkaSeek
{
	KAFKA_SEEK_EARLIEST,		/* first offset that the broker still has */
	KAFKA_SEEK_LATEST,			/* last stable offset (end for read_committed) */
	KAFKA_SEEK_TIMESTAMP		/* first record at or after .timestamp_ms; the end where there is none */
} KafkaSeek;

/*
 * Fills offsets[i] for the partitions 0..n-1 (or those listed in
 * "partitions" when not NULL) of a topic.
 */
extern bool kafka_client_offsets(KafkaClient *client, const char *topic,
								 const int32 *partitions, int n,
								 KafkaSeek seek, int64 timestamp_ms,
								 int64 *offsets, int timeout_ms, KafkaError *err);

/* ---- consumer (consumer.c) ---- */

typedef struct KafkaConsumer KafkaConsumer;

/* What the library would be asked for, of a message that somebody has kept. */
typedef struct KafkaKept
{
	int64		timestamp_ms;	/* -1: none */
	const char *headers;		/* as kafka_message_headers() gave them, NULL: none */
} KafkaKept;

/*
 * One message, valid until kafka_messages_free().  One that did not come from
 * a consumer has "kept" and no handle.
 */
typedef struct KafkaMessage
{
	char	   *value;			/* NULL: tombstone */
	char	   *key;			/* NULL: no key */
	Size		value_len;
	Size		key_len;
	int64		offset;
	int32		part;			/* index into the consumer's partitions */
	void	   *handle;			/* the room's own */
	const KafkaKept *kept;
} KafkaMessage;

/* A partition that a consumer reads; the caller fills the first three. */
typedef struct KafkaPartition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;	/* in: where to start; then: offset after the last record given out or passed over (EOF) */

	bool		at_end;			/* an EOF event came at next_offset and nothing after it */
	int64		end_offset;		/* last stable end seen by EOF, or the cached high watermark; -1 unknown */
	int64		last_data_us;	/* monotonic_us() of the last message or at open */
	int			error;			/* see KafkaPartitionError */
	char		error_message[256];
} KafkaPartition;

typedef enum KafkaPartitionError
{
	KAFKA_PART_OK = 0,
	KAFKA_PART_OUT_OF_RANGE,	/* the offset is not in the log: deleted or topic recreated */
	KAFKA_PART_BACKWARDS,		/* an offset came that is below next_offset */
	KAFKA_PART_OTHER
} KafkaPartitionError;

/*
 * For a process that lives by consuming or producing: memory of messages that
 * was freed is kept for the next ones.  Process-wide and for good; not for a
 * user's backend.
 */
extern void kafka_keep_memory(void);

/*
 * Opens a consumer that assign()s the partitions at their next_offset with
 * one librdkafka queue each (forwarded to NULL before assign), one
 * non-blocking pipe for all.  queue_kb is shared out over the partitions
 * (queued.max.messages.kbytes = max(64, queue_kb / n)).  Throws only on
 * configuration errors.  The array "parts" stays the caller's and is updated
 * by poll.
 */
extern KafkaConsumer *kafka_consumer_open(KafkaConf *conf, KafkaPartition *parts, int nparts, int queue_kb);
extern int	kafka_consumer_fd(KafkaConsumer *consumer);
/*
 * Takes what is there, without blocking: up to max messages and about
 * max_bytes of payload, going round the partitions (a partition's messages in
 * order).  Serves events (EOF, errors, statistics, log) on the way.  Empties
 * the pipe before looking at the queues, so after a return of 0 the caller
 * may sleep on the fd.  A partition with error != OK gives no more messages.
 * Also kicks stalled partitions (queue empty, lag known, nothing for some ms).
 */
extern int	kafka_consumer_poll(KafkaConsumer *consumer, KafkaMessage *out, int max, Size max_bytes);
/* longest time that the caller may sleep on the fd: short while a stall is suspected */
extern int	kafka_consumer_sleep_ms(KafkaConsumer *consumer);
/* holds back a partition: poll passes over it (max_skew, stop offsets) */
extern void kafka_consumer_hold(KafkaConsumer *consumer, int part, bool held);
/* refreshes parts[].end_offset from the library's cache, never blocks */
extern void kafka_consumer_update_ends(KafkaConsumer *consumer);
extern void kafka_messages_free(KafkaMessage *messages, int n);
/* CreateTime or LogAppendTime in ms, -1 where there is none */
extern int64 kafka_message_timestamp(const KafkaMessage *message);
/* headers as a JSON object text {"name": "value" | null, ...}, bytes that are no text as "\\x..."; false: none */
extern bool kafka_message_headers(const KafkaMessage *message, StringInfo out);
/*
 * State of the connection: true while some broker is up, or not known to be
 * down for half a second, and none had to be refused.  When false, err tells why
 * ("connection refused", "authentication failed ...").
 */
/* monotonic: up to when it is known that brokers answer, to within statistics' interval; 0: none is up */
extern int64 kafka_consumer_heard_us(KafkaConsumer *consumer);
extern bool kafka_consumer_connected(KafkaConsumer *consumer, KafkaError *err);
/* a missing topic reported by the library since the last call */
extern bool kafka_consumer_topic_missing(KafkaConsumer *consumer);
/*
 * Frees messages that are still out, too.  The consumer belongs to the memory
 * context it was opened in: where that goes first (an ERROR), so does it.
 */
extern void kafka_consumer_close(KafkaConsumer *consumer);

/* ---- producer (producer.c): INSERT into a foreign table ---- */

typedef struct KafkaProducer KafkaProducer;

typedef struct KafkaHeader
{
	const char *name;
	const char *value;			/* NULL: null value */
	Size		value_len;
} KafkaHeader;

/*
 * timeout_ms bounds the opening and the delivery of each message.  Throws
 * where the broker or the topic is missing.  Belongs to the current memory
 * context, as the client and the consumer do.
 */
extern KafkaProducer *kafka_producer_open(KafkaConf *conf, const char *topic, int timeout_ms);
/*
 * partition -1: by murmur2 of the key as Java clients do (partitioner
 * "murmur2_random").  timestamp_ms 0: now.  Waits (interruptible) while the
 * library's queue is full; throws when a delivery already failed.
 */
extern void kafka_producer_send(KafkaProducer *producer, int32 partition,
								const char *key, Size key_len,
								const char *value, Size value_len,
								int64 timestamp_ms,
								const KafkaHeader *headers, int nheaders);
/* waits for every delivery report; throws if any failed */
extern void kafka_producer_flush(KafkaProducer *producer);
extern void kafka_producer_close(KafkaProducer *producer);

/* as kafka_message_headers() would give them; NULL: none */
extern char *kafka_headers_json(const KafkaHeader *headers, int n);
/* message.max.bytes of a server whose options do not say otherwise */
#define KAFKA_MESSAGE_BYTES	1000000
/* what the library counts against it: at most so much is sent of a message, uncompressed */
extern Size kafka_message_size(Size key_len, Size value_len, const KafkaHeader *headers, int nheaders);

/* ---- publisher (publish.c): messages and the position reached, in one Kafka transaction ---- */

typedef struct KafkaPublisher KafkaPublisher;

/* A message that will be refused whenever it is sent. */
typedef struct KafkaRefusal
{
	int64		number;			/* as it was given to kafka_publisher_send() */
	const char *reason;			/* static */
} KafkaRefusal;

/* known of one handle at most */
#define KAFKA_REFUSALS	64

/*
 * transactional_id NULL: without transactions, an idempotent producer.  Else
 * two producers take turns, of this id and of the same with "-2" behind it.  Belongs
 * to the current memory context.  "alone": each message in a batch of its own,
 * which is slow, and tells which one is refused.  batch_bytes 0: as configured.
 * Each message has a header, with prefix and its number as the value.
 *
 * After any failure of one of the following the
 * only thing left to do is to close it: nobody knows what has become of the
 * open transaction until the next one has asked for the position.  With
 * KAFKA_NO_TOPIC the message is the name of the topic.
 */
extern KafkaPublisher *kafka_publisher_open(KafkaConf *conf, const char *transactional_id, bool alone, int batch_bytes,
											const char *header, const char *prefix);
extern void kafka_publisher_close(KafkaPublisher *publisher);
/*
 * After KAFKA_REFUSED: the messages that are known to be the cause.  None: one
 * of a batch was it, or the batch, which is larger than the topic allows.
 */
extern int	kafka_publisher_refused(KafkaPublisher *publisher, const KafkaRefusal **refused);
/* Tells Kafka that the transaction is given up, where it can be told: the next producer of the id need not wait for it. */
extern void kafka_publisher_abort(KafkaPublisher *publisher, int timeout_ms);
/* Ends the transactions of all others of these ids; before anything else where there are transactions. */
extern bool kafka_publisher_init(KafkaPublisher *publisher, int timeout_ms, KafkaError *err);
/* makes a topic of one partition, unless it is there */
extern bool kafka_publisher_make_topic(KafkaPublisher *publisher, const char *topic, int timeout_ms, KafkaError *err);
/* what was committed last: *offset -1 where nothing is known; *metadata is palloc'd */
extern bool kafka_publisher_position(KafkaPublisher *publisher, const char *topic, const char *group, int timeout_ms,
									 int64 *offset, char **metadata, KafkaError *err);
/* number of a topic for kafka_publisher_send(), -1: it cannot be used now, or what was handed over for another one cannot be sent */
extern int	kafka_publisher_topic(KafkaPublisher *publisher, const char *topic, int timeout_ms, KafkaError *err);
/* how many take turns */
extern int	kafka_publisher_producers(const KafkaPublisher *publisher);
/* with transactions: begins one */
extern bool kafka_publisher_begin(KafkaPublisher *publisher, KafkaError *err);
/*
 * As kafka_producer_send(); "number", above 0, is for the header and for
 * kafka_publisher_refused().  Key and value must stay until
 * kafka_publisher_push(), which is to come behind the last one; headers not.
 */
extern bool kafka_publisher_send(KafkaPublisher *publisher, int topic, int64 number, int32 partition,
								 const char *key, Size key_len, const char *value, Size value_len,
								 int64 timestamp_ms, const KafkaHeader *headers, int nheaders, KafkaError *err);
extern bool kafka_publisher_push(KafkaPublisher *publisher, KafkaError *err);

/*
 * Without transactions, and not "alone", nobody need wait: what was sent since the
 * last call is a flight, of which KAFKA_FLIGHTS - 1 may be under way.
 */
#define KAFKA_FLIGHTS	64
extern void kafka_publisher_depart(KafkaPublisher *publisher);
/* how many flights, the oldest ones, have arrived since the last call; -1: none, and something was not delivered */
extern int	kafka_publisher_arrived(KafkaPublisher *publisher, KafkaError *err);
/* until a report comes, or the latch is set, which it stays */
extern void kafka_publisher_wait(KafkaPublisher *publisher, long timeout_ms);

/*
 * Waits until all that was sent is acknowledged.  With transactions this
 * position (NULL and 0 without) becomes part of it, and the commit is under way
 * then: until its end was waited for the next transaction may begin and be
 * sent, but not be delivered.  "meanwhile" (NULL: nothing) is called while all that
 * is on its way, before the commit may begin; it may throw, after which the handle is
 * to be closed.
 */
extern bool kafka_publisher_deliver(KafkaPublisher *publisher, const char *topic, const char *group, int64 offset,
									const char *metadata, int timeout_ms, void (*meanwhile) (void), KafkaError *err);
/* nothing to wait for is true */
extern bool kafka_publisher_end_commit(KafkaPublisher *publisher, KafkaError *err);

/* what to do about KAFKA_NOT_ALLOWED */
#define KAFKA_NOT_ALLOWED_HINT "A superuser can add it to the setting streamproc.allowed_brokers and reload the configuration."

/* major.minor.patch of the linked librdkafka */
extern const char *kafka_library_version(void);

#endif							/* STREAMPROC_KAFKA_H */

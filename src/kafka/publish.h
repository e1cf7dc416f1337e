/*-------------------------------------------------------------------------
 *
 * publish.h
 *	  A publisher's inside: between publish.c, publish_send.c and
 *	  publish_call.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_KAFKA_PUBLISH_H
#define STREAMPROC_KAFKA_PUBLISH_H

#include "kafka/kafka_int.h"

#define PUBLISH_TOPICS		255
/* with transactions; see kafka_publisher_begin() */
#define PUBLISH_PRODUCERS	2
/* of the header with the number: what stands before it, and its digits, at most */
#define PUBLISH_PREFIX		64
#define PUBLISH_DIGITS		24
/* messages that are given to the library at once */
#define PUBLISH_GATHERED	256

/* what the library keeps of a message for us: its number, above 0, and its flight */
#define PUBLISH_OPAQUE(number, flight)	((void *) (intptr_t) ((number) * KAFKA_FLIGHTS + (flight)))
#define PUBLISH_NUMBER(opaque)			((int64) (intptr_t) (opaque) / KAFKA_FLIGHTS)
#define PUBLISH_FLIGHT(opaque)			((int) ((intptr_t) (opaque) % KAFKA_FLIGHTS))

typedef enum PublishKind
{
	PUBLISH_INIT,
	PUBLISH_LOOK,				/* for a topic that is gone: KAFKA_NO_TOPIC */
	PUBLISH_COMMIT,				/* sends the position, waits for a verdict, commits */
	PUBLISH_POSITION,
	PUBLISH_ABORT
} PublishKind;

/* What becomes of a transaction whose position is being sent. */
typedef enum PublishVerdict
{
	PUBLISH_UNDECIDED,
	PUBLISH_DELIVERED,			/* to be committed: the handle belongs to the call from now on */
	PUBLISH_GIVEN_UP
} PublishVerdict;

typedef struct PublishCall
{
	KafkaCall	call;
	PublishKind kind;
	int64		deadline_us;	/* of what it does now: the helper's own */
	int			commit_ms;		/* time for the commit alone */
	pthread_mutex_t lock;		/* of the verdict */
	pthread_cond_t decided;
	PublishVerdict verdict;
	char	   *topic;			/* of the bookkeeping */
	char	   *group;
	int64		offset;
	char	   *metadata;
} PublishCall;

typedef struct PublishProducer
{
	KafkaHandle *handle;
	int			ntopics;
	char	   *names[PUBLISH_TOPICS];
	rd_kafka_topic_t *topics[PUBLISH_TOPICS];
} PublishProducer;

struct KafkaPublisher
{
	MemoryContext cxt;
	PublishProducer producers[PUBLISH_PRODUCERS];
	int			nproducers;
	PublishProducer *producer;		/* whose turn it is */
	KafkaHandle *reader;		/* asks for the position; NULL: it was read, or there is none */
	bool		transactional;
	char	   *header;			/* name of the one with the number */
	Size		header_len;
	char	   *prefix;			/* its value up to the number */
	Size		prefix_len;
	Size		gather_bytes;	/* smaller messages are gathered */
	/* handed over and not yet given to the library: of one topic, their keys and values are the caller's */
	rd_kafka_message_t gathered[PUBLISH_GATHERED];
	int			ngathered;
	int			gathered_topic;
	uint64		sent;
	int64		begun_us;		/* the transaction */
	PublishCall *commit;		/* under way, of it or of the one before it; NULL: none */
};

/* Strings are copied; the call is the caller's to leave. */
extern PublishCall *kafka_publish_call(KafkaHandle *handle, PublishKind kind, const char *topic, const char *group,
									   const char *metadata, int timeout_ms);
/* Of a commit: a later one changes nothing. */
extern void kafka_publish_decide(PublishCall *p, PublishVerdict verdict);
/* makes it and leaves it */
extern bool kafka_publish_make(PublishCall *p, KafkaError *err);

/* of a message that can never be sent; of a handle that sends each alone it is known which one it is */
extern void kafka_note_refusal(KafkaHandle *handle, int64 number, rd_kafka_resp_err_t err);
/*
 * What sending needs of a handle: partitioner, interceptor (publish_send.c).
 * Messages of fewer bytes than it returns are small enough with that header.
 */
extern Size kafka_publish_conf(rd_kafka_conf_t *rdconf, const KafkaHeader *header);

/* why the library gave the transaction up; false: it does not know */
extern bool kafka_transaction_failure(rd_kafka_t *rk, KafkaFailure *failure, char *text, Size size);

#endif							/* STREAMPROC_KAFKA_PUBLISH_H */

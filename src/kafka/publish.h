/*-------------------------------------------------------------------------
 *
 * publish.h
 *	  What a publisher asks of the library: between publish.c and
 *	  publish_call.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_KAFKA_PUBLISH_H
#define STREAMPROC_KAFKA_PUBLISH_H

#include "kafka/kafka_int.h"

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

/* Strings are copied; the call is the caller's to leave. */
extern PublishCall *kafka_publish_call(KafkaHandle *handle, PublishKind kind, const char *topic, const char *group,
									   const char *metadata, int timeout_ms);
/* Of a commit: a later one changes nothing. */
extern void kafka_publish_decide(PublishCall *p, PublishVerdict verdict);
/* makes it and leaves it */
extern bool kafka_publish_make(PublishCall *p, KafkaError *err);

/* why the library gave the transaction up; false: it does not know */
extern bool kafka_transaction_failure(rd_kafka_t *rk, KafkaFailure *failure, char *text, Size size);

#endif							/* STREAMPROC_KAFKA_PUBLISH_H */

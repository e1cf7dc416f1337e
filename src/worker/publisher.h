/*-------------------------------------------------------------------------
 *
 * publisher.h
 *	  A publisher: between publisher.c and publisher_position.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_PUBLISHER_H
#define STREAMPROC_PUBLISHER_H

#include "postgres.h"

#include "kafka/kafka.h"
#include "worker/worker.h"

/* where Kafka keeps the position: partition 0 of it, in a group of the pipeline's own */
#define PUBLISHER_TOPIC		"streamproc.positions"
/* of each message: id of the pipeline / number of the message */
#define PUBLISHER_HEADER	"streamproc"

typedef struct Publisher
{
	MemoryContext cxt;
	MemoryContext handle_cxt;	/* configuration and handle; reset for each */
	MemoryContext send_cxt;		/* of one transaction */
	PipelineRow *row;
	Oid			server;			/* of the topics */
	WorkerSlot *slot;
	PipelineSlot *pipeline;
	KafkaPublisher *kafka;		/* NULL: none, or of no use any more */
	char		group[64];		/* group and transactional id */
	pg_uuid_t	writer;			/* our id; all zero: not given yet */

	int			nstreams;		/* streams that may have segments */
	int64		published;		/* messages that Kafka has */
	int64		sent[SHMEM_MAX_TASKS];	/* last segment of each stream that Kafka has */
	int64		deleted;		/* the same as PostgreSQL knows it */
	int64		deleted_until[SHMEM_MAX_TASKS];
	int64		undeleted_bytes;
	CatalogPages freed;			/* of deleted segments, oldest first */
	CatalogPages freeing;		/* of those that are being deleted */
	bool		streams_change; /* the tasks to be write other streams than those of the last run */

	bool		decided;		/* somebody's decision is in force, and stands in publisher_position until Kafka has it */
	Size		read_bytes;		/* of the outbox, for the next transaction */
	int			failures;		/* in a row */
	int64		last_commit_us; /* in Kafka */
	int64		last_delete_us;
} Publisher;

extern Publisher *my_publisher;

/* ---- publisher_position.c ---- */

/* the position as text; of other segments */
extern char *publisher_metadata(void);
extern char *publisher_metadata_of(const int64 *segments);
/*
 * Compares what Kafka says (offset -1: nothing) with the outbox, sets where to
 * go on, and signs.  Fails the pipeline where a person has to decide.
 */
extern void publisher_compare(bool exactly_once, int64 offset, const char *metadata);
/* deletes what Kafka has */
extern void publisher_delete(void);
/* the tasks write as many streams as they are now */
extern void publisher_set_streams(void);

#endif							/* STREAMPROC_PUBLISHER_H */

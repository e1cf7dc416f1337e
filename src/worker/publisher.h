/*-------------------------------------------------------------------------
 *
 * publisher.h
 *	  A publisher: between publisher.c, publisher_position.c and
 *	  publisher_refused.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_PUBLISHER_H
#define STREAMPROC_PUBLISHER_H

#include "postgres.h"

#include "kafka/kafka.h"
#include "stream/stream.h"
#include "worker/worker.h"

/* where Kafka keeps the position: partition 0 of it, in a group of the pipeline's own */
#define PUBLISHER_TOPIC		"streamproc.positions"

/* of a transaction that is given up: who cannot be told in that time finds out by itself */
#define PUBLISHER_ABORT_MS	2000

/* of the outbox, read at once */
#define PUBLISHER_READ_BYTES	((Size) 4 * 1024 * 1024)

/* so many flights are under way at most: less than KAFKA_FLIGHTS */
#define PUBLISHER_FLIGHTS	32

/* Messages on their way, or in a transaction that is being committed; the position behind them. */
typedef struct Flight
{
	int64		number;			/* of the last message */
	int64		segments[SHMEM_MAX_TASKS];
	int64		messages;
	int64		bytes;
	int64		begun_us;
	TimestampTz oldest;
	bool		taken;			/* not all of them were withdrawn */
	bool		durable;		/* all that was handed over so far */
} Flight;

typedef struct Publisher
{
	MemoryContext cxt;
	MemoryContext handle_cxt;	/* configuration and handle; reset for each */
	MemoryContext send_cxt;		/* of one look at the outbox */
	PipelineRow *row;
	Oid			server;			/* of the topics */
	bool		is_keyed;		/* the launcher writes the outbox */
	WorkerSlot *slot;
	PipelineSlot *pipeline;
	KafkaPublisher *kafka;		/* NULL: none, or of no use any more */
	char		group[64];		/* group and transactional id */
	pg_uuid_t	writer;			/* our id; all zero: not given yet */

	int			nstreams;		/* streams that may have segments */
	int64		published;		/* messages that Kafka has */
	int64		sent[SHMEM_MAX_TASKS];	/* last segment of each stream that Kafka has */
	/* the same with what is on its way; equal where each message is sent alone */
	int64		handed_over;
	int64		handed[SHMEM_MAX_TASKS];
	Flight		flights[PUBLISHER_FLIGHTS];	/* a ring */
	int			first_flight;
	int			nflights;
	int64		flight_bytes;
	char		last_topic[256];	/* of the last message that was handed over */
	int64		deleted;		/* the same as PostgreSQL knows it */
	int64		deleted_until[SHMEM_MAX_TASKS];
	int64		undeleted_bytes;
	CatalogPages freed;			/* of deleted segments, oldest first */
	CatalogPages freeing;		/* of those that are being deleted */
	bool		streams_change; /* the tasks to be write other streams than those of the last run */

	bool		decided;		/* somebody's decision is in force, and stands in publisher_position until Kafka has it */
	Size		read_bytes;		/* of the outbox, for the next transaction */
	bool		kafka_alone;	/* the handle sends each message alone */
	int64		alone_until;	/* number of the last message that is to be sent so */
	bool		alone_found;	/* of these one was refused */
	int			batch_bytes;	/* of a topic that takes no larger ones; 0: as configured */
	int			refused_run;	/* messages that were refused since one was taken */
	int			failures;		/* in a row */
	int64		last_begin_us;	/* of a transaction, */
	int			few_run;		/* so many in a row, up to it, had few messages */
	bool		rests;			/* the next one is to be waited for */
	int64		last_commit_us; /* in Kafka */
	int64		last_delete_us;
} Publisher;

extern Publisher *my_publisher;

/* ---- publisher.c ---- */

extern void publisher_close_kafka(void);

/* A transaction, or a flight, failed: whatever it was, what comes next begins with a new handle. */
extern void publisher_send_failed(List **streams, const char *topic, KafkaError *err);
/* the next segments of all streams, into the memory of what is to be sent; their number */
extern int	publisher_read_outbox(List **streams);
/* when the first of them was written; for the views: that of what waits */
extern TimestampTz publisher_oldest(List **streams);
extern void publisher_show_oldest(TimestampTz oldest);
/* what a look has found, from what was handed over on; it joins the flight, which is there afterwards, and says whether all of it is durable */
extern bool publisher_send_segments(List **streams, Flight *flight, KafkaError *err);
/* what of it is in Kafka */
extern void publisher_sent(const Flight *flight, int64 period_us);

/* ---- publisher_flight.c: what is on its way; at least once, without waiting for each ---- */

/* behind those that are */
extern void publisher_depart(const Flight *flight);
extern Flight *publisher_oldest_flight(void);
/* the oldest one is in Kafka; since_us: what it took counts from then on */
extern void publisher_arrive(int64 since_us);
/* nothing is on its way: with a new handle */
extern void publisher_forget_flights(void);
/* false: nothing is to be sent or on its way, or it could not be sent */
extern bool publisher_send_ahead(void);

/* ---- publisher_position.c ---- */

/* the position as text; of other segments */
extern char *publisher_metadata(void);
extern char *publisher_metadata_of(const int64 *segments);
/*
 * Compares what Kafka says (offset -1: nothing) with the outbox, sets where to
 * go on, and signs.  Fails the pipeline where a person has to decide.
 */
extern void publisher_compare(bool exactly_once, int64 offset, const char *metadata);
/* The row of ours, locked; ends the process where another one works for the pipeline, or nobody. */
extern PublisherRow *publisher_lock(void);
extern void publisher_new_writer(pg_uuid_t *writer);
/* deletes what Kafka has */
extern void publisher_delete(void);
/* the tasks write as many streams as they are now */
extern void publisher_set_streams(void);

/* ---- publisher_refused.c ---- */

/* is each message to be sent alone now? */
extern bool publisher_is_alone(void);
extern void publisher_refused(List **streams, const char *topic, const KafkaError *err);
extern void publisher_end_alone(void);

#endif							/* STREAMPROC_PUBLISHER_H */

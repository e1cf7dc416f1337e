/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  Topics as foreign tables: options, the scan that a pipeline's task feeds
 *	  with batches, the bounded peek of a SELECT, and produce by INSERT.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_STREAM_H
#define STREAMPROC_STREAM_H

#include "postgres.h"

#include "foreign/fdwapi.h"
#include "nodes/bitmapset.h"
#include "nodes/nodes.h"

#include "base/base.h"
#include "catalog/catalog.h"
#include "codec/codec.h"
#include "kafka/kafka.h"

#define STREAM_FDW_NAME "streamproc_kafka"

typedef enum StreamColumnKind
{
	STREAM_COL_PAYLOAD,
	STREAM_COL_PARTITION,
	STREAM_COL_OFFSET,
	STREAM_COL_TIMESTAMP,
	STREAM_COL_KEY,
	STREAM_COL_HEADERS,
	STREAM_COL_TOPIC,
	STREAM_COL_DROPPED
} StreamColumnKind;

typedef struct StreamColumn
{
	StreamColumnKind kind;
	AttrNumber	attnum;
	char	   *name;
	char	   *json_path;		/* option json, or NULL */
	Oid			type;
	int32		typmod;
	Oid			collation;
	bool		not_null;
} StreamColumn;

/* A foreign table of ours, its options resolved. */
typedef struct StreamSource
{
	Oid			relid;
	Oid			serverid;
	char	   *schema;
	char	   *name;
	char	   *topic;
	CodecOptions codec;
	int			natts;			/* length of columns, by attnum - 1 */
	StreamColumn *columns;
	AttrNumber	event_time;		/* 0: none */
	AttrNumber	write_key;		/* option key, 0: none */
	int64		watermark_delay;	/* us */
	int64		idle_timeout;	/* us */
	int64		max_ahead;		/* us */
	bool		skip_bad_rows;	/* peek only */
} StreamSource;

/* in source.c */
extern StreamSource *stream_source_load(Oid relid);	/* palloc'd in the current context; throws if not ours */
/* attnum of the column that is the key of messages when writing, 0: none */
extern AttrNumber stream_source_key(const StreamSource *source);
/* do two loads of a source describe the same topic, options and columns? */
extern bool stream_source_same(const StreamSource *a, const StreamSource *b);
extern bool stream_is_source(Oid relid);	/* foreign table of our wrapper? cheap */
/* server and user mapping options to properties; userid's mapping, or PUBLIC's, or none */
extern KafkaConf *stream_server_conf(Oid serverid, Oid userid);
extern char *stream_server_name(Oid serverid);
/* what a message that is sent may have at most, as kafka_message_size() counts */
extern Size stream_server_message_bytes(Oid serverid);
/* checks options against columns as stream_source_load() does; nothing for tables of others */
extern void stream_check_foreign_table(Oid relid);
/*
 * The same for what a CREATE FOREIGN TABLE or ALTER TABLE has just made; to be
 * called with PlannedStmt.utilityStmt by a ProcessUtility hook, after the statement ran.
 */
extern void stream_utility_check(Node *statement);
/* may the text of the statement hold secrets, so that it must not be logged when it fails? */
extern bool stream_statement_is_secret(Node *statement);

/* ---- reader: one message to one row (reader.c) ---- */

typedef struct StreamReader StreamReader;

/* "needed" holds attnums (1-based); the event time column is added where add_event_time */
extern StreamReader *stream_reader_create(StreamSource *source, const Bitmapset *needed,
										  bool add_event_time, MemoryContext cxt);
/*
 * Decodes a message into values/isnull (natts wide; columns that are not
 * needed are not touched).  "partition" is Kafka's partition number.  False:
 * err filled, err->column is an attnum, or 0 for the message as a whole.
 * Input functions of other types may throw; stream_reader_current_attnum().
 */
extern bool stream_reader_decode(StreamReader *reader, const KafkaMessage *message, int32 partition,
								 Datum *values, bool *isnull, Arena *arena, CodecError *err);
extern AttrNumber stream_reader_current_attnum(StreamReader *reader);
/* NULL where no payload column is needed */
extern CodecDecoder *stream_reader_decoder(StreamReader *reader);
extern void stream_reader_destroy(StreamReader *reader);

/* ---- feed: what a task's scan returns (scan.c) ---- */

/*
 * The rows of the present batch of one source.  Row i stands at
 * values + i * natts.  A scan that was planned under stream_plan_feed finds
 * its feed by relid and returns rows first..last-1 of it, at each (re)start
 * from "first".
 */
typedef struct StreamFeed
{
	Oid			relid;
	int			natts;
	int			first;
	int			last;
	Datum	   *values;
	bool	   *isnull;
	const bool *skip;			/* by row: not given out; NULL: all are */
	Bitmapset  *needed;			/* attnums that the rows hold */
} StreamFeed;

/* the feeds of this process while a task runs a statement, else NULL */
extern StreamFeed *stream_feeds;
extern int	stream_nfeeds;

/*
 * The row that a feed scan gave out last.  Where a plan handles row after row,
 * an error is most likely that row's: a hint, no more.
 */
typedef struct StreamPlace
{
	const StreamFeed *feed;		/* NULL: not known */
	int			row;
} StreamPlace;

extern StreamPlace stream_place;
/*
 * Set around pg_plan_query by plan/: scans of our tables become feed scans
 * that claim this many rows; 0: peek scans.
 */
extern int	stream_plan_feed_rows;
/* is this ForeignScan plan node a feed scan?  which attnums does it need? */
extern bool stream_scan_is_feed(struct ForeignScan *scan, Oid *relid, Bitmapset **needed);

/* ---- messages that wait for a commit (outbox.c) ---- */

/* Each message that a pipeline sends has this header: id of the pipeline / number of the message. */
#define STREAM_HEADER			"streamproc"
#define STREAM_HEADER_BYTES		(36 + 1 + 19)

/* What an INSERT into a topic sends. */
typedef struct StreamMessage
{
	const char *topic;
	int32		partition;		/* -1: by the key */
	const char *key;			/* NULL: none */
	Size		key_len;
	const char *value;			/* NULL: a tombstone */
	Size		value_len;
	int64		timestamp_ms;	/* 0: when it is sent */
	const KafkaHeader *headers;
	int			nheaders;
	bool		withdrawn;		/* it has its number, and is not sent */
} StreamMessage;

typedef struct StreamOutbox StreamOutbox;

typedef struct StreamOutboxMark
{
	Size		len;
	int64		nmessages;
} StreamOutboxMark;

/* Where INSERTs of this process put their messages; NULL: they are sent. */
extern StreamOutbox *stream_outbox;
/* in a worker: nothing is sent, without an outbox an INSERT is refused */
extern bool stream_outbox_only;

/* Messages of a key without a value, into stream_outbox (produce.c); in the current memory context. */
typedef struct StreamTombstones StreamTombstones;

extern StreamTombstones *stream_tombstones_begin(Oid relid);
extern void stream_tombstones_put(StreamTombstones *tombstones, Datum key, bool isnull);

extern StreamOutbox *stream_outbox_create(MemoryContext cxt);
extern void stream_outbox_put(StreamOutbox *outbox, const StreamMessage *message);
extern Size stream_outbox_bytes(const StreamOutbox *outbox);
/* what was put since the mark is forgotten; nothing was packed meanwhile */
extern StreamOutboxMark stream_outbox_mark(const StreamOutbox *outbox);
extern void stream_outbox_cut(StreamOutbox *outbox, StreamOutboxMark mark);
/*
 * Takes messages out, as segments of about segment_bytes (a larger message
 * makes a larger one).  Not all: what does not fill a segment stays, and at
 * least one message.  "last": nothing is left.
 */
extern void stream_outbox_pack(StreamOutbox *outbox, Size segment_bytes, bool all,
							   void (*each) (const char *data, Size len, int nmessages, bool last, void *arg), void *arg);

/* The messages of a segment, whose bytes they point into. */
typedef struct StreamOutboxReader
{
	int			stream;			/* whose segment it is */
	int64		number;
	int			left;			/* messages */
	const char *at;
	const char *end;
	const char *flags;			/* of the message that was read last */
	int			ntopics;
	char	   *topics[255];
} StreamOutboxReader;

/* throw where the bytes are no segment */
extern void stream_outbox_read(StreamOutboxReader *reader, const OutboxSegment *segment);
extern bool stream_outbox_next(StreamOutboxReader *reader, StreamMessage *message);
/* marks the message that was read last, in the bytes, which were the caller's all along */
extern void stream_outbox_withdraw(StreamOutboxReader *reader);

#endif							/* STREAMPROC_STREAM_H */

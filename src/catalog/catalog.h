/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The extension's own tables, read and written by table access methods.
 *
 * LOCKING
 *	  catalog_pipeline_lock() takes a heavyweight lock on one pipeline's name
 *	  until the end of the transaction; every writer of a row of "pipeline"
 *	  holds it, and every writer of rows of task_position but the tasks.  A
 *	  task changes its own row only; who changes or deletes it as well locks
 *	  the tuple first, and raises the generation where the task must not
 *	  commit any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_CATALOG_H
#define STREAMPROC_CATALOG_H

#include "postgres.h"

#include "access/genam.h"
#include "access/htup.h"
#include "nodes/pg_list.h"
#include "shmem/shmem.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#define CATALOG_SCHEMA			"streamproc"
#define CATALOG_PIPELINE_SCHEMA "streamproc_pipeline"
/* of the SQL objects that this library works with: default_version in streamproc.control */
#define CATALOG_VERSION			"1.2"

/* When an operator with state gives out results. */
typedef enum EmitKind
{
	EMIT_DEFAULT,				/* by the query: final for windows, else changes */
	EMIT_FINAL,
	EMIT_CHANGES,
	EMIT_EVERY
} EmitKind;

/* What becomes of a row that comes after its window was closed. */
typedef enum LateKind
{
	LATE_DIVERT,				/* a row of late_row */
	LATE_DROP,					/* counted */
	LATE_UPDATE					/* until allowed_lateness the window is given out again */
} LateKind;

/* A row of streamproc.pipeline with what pg_proc says of its procedure. */
typedef struct PipelineRow
{
	char		name[NAMEDATALEN];
	pg_uuid_t	id;
	int64		version;
	bool		active;
	bool		drain;
	char	   *start;
	char	   *stop;
	int			parallelism;	/* 0: NULL */
	int64		checkpoint_interval;	/* us */
	bool		synchronous_commit;
	List	   *settings;		/* of char *: name, value, name, value ... */
	int64		system_identifier;
	Oid			database;
	TimestampTz created;
	char	   *state;			/* NULL, "stopped", "finished", "failed" */
	TimestampTz state_since;
	Reason		error;			/* message empty: none */
	bool		dead_letters;	/* on_error: else it fails at a bad row */
	int			max_consecutive_errors;
	bool		lose_data;		/* on_data_loss: go on at what is left */
	bool		accept_data_loss;	/* the same once, at the next start */
	bool		trust_owners;
	int64		retry_until;	/* dead letters up to this id are to run again */
	char	   *emit;			/* for catalog_parse_emit(); NULL: by the query */
	LateKind	late;
	int64		allowed_lateness;	/* us */
	int64		state_memory;	/* bytes; 0: NULL, streamproc.state_memory */
	int64		max_skew;		/* us; 0: NULL, the default */
	bool		give_all;		/* the next epoch gives out all groups that are alive */
	char	   *state_signature;	/* what the saved state was made by; NULL: none */
	bool		at_least_once;	/* delivery: messages are sent without Kafka's transactions */
	bool		arrival;		/* ordering: window functions answer rows as they come */
	int64		state_ttl;		/* us: keys are forgotten so long after their last row; 0: NULL, never */

	ItemPointerData tid;
	Oid			procedure;		/* InvalidOid: has none (being dropped, or damaged) */
	Oid			owner;
} PipelineRow;

/* in relation.c: of the extension; throw 55000 where it is not there, or has other columns */
extern Oid	catalog_relation(const char *name);
extern Relation catalog_open(const char *name, int natts, LOCKMODE lockmode);
/* with their index entries; each tuple is freed */
extern void catalog_insert_many(Relation rel, HeapTuple *tuples, int n);
/* bytes as they are, in the current memory context */
extern Datum catalog_bytea(const char *bytes, Size len);

/*
 * A walk over the rows of a pipeline in the order of the primary key, whose first
 * column is the first of the table: the pipeline's name.
 */
typedef struct CatalogScan
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	SysScanDesc scan;
	NameData	name;
	ScanKeyData keys[3];		/* [0]: the name; the others the caller's, set before */
} CatalogScan;

extern void catalog_scan_begin(CatalogScan *scan, const char *table, int natts, const char *pipeline, int nkeys, LOCKMODE lockmode);
/* NULL: no more */
extern HeapTuple catalog_scan_next(CatalogScan *scan);
/* the lock stays to the end of the transaction */
extern void catalog_scan_end(CatalogScan *scan);

/* ---- pages of deleted rows (pages.c) ---- */

/* pages of a table, in memory of their own */
typedef struct CatalogPages
{
	MemoryContext cxt;
	uint32	   *blocks;
	int			n;
	int			size;
} CatalogPages;

/* more are left to VACUUM */
#define CATALOG_PAGES_MOST	(1024 * 1024)

extern void catalog_pages_add(CatalogPages *pages, const uint32 *blocks, int n);

/*
 * Makes pages of rows whose deletion is committed ready for other rows, in their
 * order, up to the first that somebody may still see, at most so many; how many.
 */
extern int	catalog_pages_reuse(const char *table, const CatalogPages *pages, int most);

/* in pipeline.c */
extern bool catalog_installed(void);
/* of the extension in this database, NULL: there is none */
extern char *catalog_version(void);
extern const char *catalog_version_hint(const char *version);
/* throws 55000 unless it is CATALOG_VERSION */
extern void catalog_require_version(void);
extern void catalog_pipeline_lock(const char *name);
extern bool catalog_pipeline_try_lock(const char *name);
extern PipelineRow *catalog_pipeline_get(const char *name, bool missing_ok);
extern List *catalog_pipelines(void);
extern void catalog_pipeline_insert(PipelineRow *row);
extern void catalog_pipeline_update(PipelineRow *row);
extern bool catalog_pipeline_delete(const char *name);
extern Oid	catalog_procedure(const char *name, Oid *owner);
extern bool catalog_pipeline_is_local(const PipelineRow *row);
extern void catalog_mark_changed(void); /* the supervisor is told at COMMIT */
extern void catalog_mark_database(Oid database);	/* of another database, also at COMMIT */
extern bool catalog_changed_in_transaction(void);
extern void catalog_install_callbacks(void);

/* in option.c: throw 22023 where the value is none */
/* NULL: EMIT_DEFAULT; *period_us is set with EMIT_EVERY, else 0 */
extern EmitKind catalog_parse_emit(const char *text, int64 *period_us);
extern LateKind catalog_parse_late(const char *text);
extern const char *catalog_late_name(LateKind late);
/* bytes, as pg_size_bytes() reads them; at least 1 MB */
extern int64 catalog_parse_state_memory(const char *text);
/* an interval without months, from "min_us" on; "argument" is named in the error */
extern int64 catalog_check_interval(const char *argument, const Interval *interval, int64 min_us);

/* ---- positions (position.c) ---- */

/* A record by which a topic is known again. */
typedef struct RecordMark
{
	int64		offset;			/* -1: none */
	TimestampTz time;			/* of the message; DT_NOBEGIN: none */
	int64		sum;			/* of key and value; 0: not known */
} RecordMark;

typedef struct PartitionPosition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;
	int64		stop_offset;	/* -1: none */
	TimestampTz watermark;		/* DT_NOBEGIN: none */
	RecordMark	record;			/* the last one that was read, below next_offset */
} PartitionPosition;

typedef struct PositionRow
{
	char		pipeline[NAMEDATALEN];
	int			task;
	int64		generation;
	int64		epoch;
	char	   *cluster_id;
	TimestampTz stream_watermark;	/* of pipelines with state; DT_NOBEGIN: none */
	TimestampTz closed_until[SHMEM_MAX_OPERATORS];	/* by operator: what closes until then is given out for good; DT_NOBEGIN: nothing */
	TimestampTz answered_until[SHMEM_MAX_OPERATORS];	/* what waited until then is given out */
	TimestampTz freed_until[SHMEM_MAX_OPERATORS];	/* what rows before then need is gone */
	int64		emitted_epoch;	/* emit every: what changed later is not given out yet; 0: none */
	int32		segments;		/* rows of state_segment that belong to the position */
	int			nparts;
	PartitionPosition *parts;

	/* where the row stood at the last look; belongs to this process */
	ItemPointerData tid;
	Oid			relfilenode;
} PositionRow;

/* all rows of a pipeline, in the current memory context */
extern List *catalog_positions(const char *pipeline);
extern void catalog_position_insert(PositionRow *row);
/* deletes them; what was deleted, as it stood last */
extern List *catalog_positions_delete(const char *pipeline);
/* A new run has new ends: forgets stop offsets. */
extern void catalog_positions_new_run(const char *pipeline);
/*
 * The same for a new text that reads "topics" (of char *): positions of others
 * become rows of losses, and nothing of the present tasks can be committed after this
 * transaction.
 */
extern void catalog_positions_new_text(const char *pipeline, List *topics);
/*
 * Writes "row" over the stored row.  Ends the process unless the stored row is of
 * the same pipeline, task and generation and holds the offsets "was".  On
 * success *tid, *relfilenode tell where the new row stands: the caller stores
 * them in the row only after COMMIT.
 */
extern void catalog_position_update(const PositionRow *row, const int64 *was,
									ItemPointerData *tid, Oid *relfilenode);

/* ---- dead letters (dead_letter.c) ---- */

/*
 * A message that could not be processed, as it came, and why; or a row of
 * results that the sink did not take (kind 'output'), which may come from
 * many messages: it is never run again.  Or a message that was to be sent and
 * that its topic did not take (kind 'unsent'): topic, partition (-1: by the key),
 * key, value and headers are those it was to have.
 */
typedef struct DeadLetter
{
	int64		id;				/* given when it is stored */
	int			statement;		/* 1-based, 0: none in particular */
	const char *output_row;		/* JSON text; NULL: kind 'input' or 'unsent' */
	bool		unsent;
	const char *topic;			/* kind 'output': NULL or empty where the row has no place */
	int32		partition;
	int64		offset;
	int64		timestamp_ms;	/* Kafka's, -1: none */
	const char *key;			/* NULL: none */
	Size		key_len;
	const char *value;			/* NULL: a tombstone */
	Size		value_len;
	const char *headers;		/* JSON text, NULL: none */
	int			attempts;
	int			sqlstate;
	const char *message;
	const char *detail;			/* NULL: none */
} DeadLetter;

/* stores it under a new id */
extern void catalog_dead_letter_insert(const char *pipeline, DeadLetter *letter);
/*
 * The next ones of kind 'input' with an id after "after" and up to "until", at most "max" and about max_bytes
 * of messages, in the current memory context.
 */
extern List *catalog_dead_letters(const char *pipeline, int64 after, int64 until, int max, Size max_bytes);
/* Throws 40001 where somebody else was faster. */
extern void catalog_dead_letter_delete(const char *pipeline, int64 id);
/* deletes those stored before this time (DT_NOEND: all); their number */
extern int64 catalog_dead_letters_delete(const char *pipeline, TimestampTz before);
/* number of those of kind 'input', and their largest id */
extern int64 catalog_dead_letters_count(const char *pipeline, int64 *last_id);

/* ---- late rows (late_row.c) ---- */

/* A row that came after its window was closed. */
typedef struct LateRow
{
	int			operator;		/* its number in the pipeline */
	const char *topic;			/* NULL: has no place */
	int32		partition;
	int64		offset;
	TimestampTz event_time;		/* all four: DT_NOBEGIN is stored as NULL */
	TimestampTz watermark;		/* that closed the window */
	TimestampTz window_start;
	TimestampTz window_end;
	Datum		row;			/* jsonb; 0: none */
} LateRow;

extern void catalog_late_row_insert(const char *pipeline, const LateRow *row);
/* deletes those stored before this time (DT_NOEND: all); their number */
extern int64 catalog_late_rows_delete(const char *pipeline, TimestampTz before);

/* ---- saved state (segment.c) ---- */

/* A piece of the state of a pipeline; what is in it is the business of others. */
typedef struct SegmentRow
{
	int64		epoch;			/* that wrote it */
	int32		number;			/* within the epoch */
	int64		first_epoch;
	TimestampTz horizon;
	const char *data;			/* NULL where it was not asked for */
	Size		len;			/* of data, also where it was not asked for */
} SegmentRow;

/* of data: with so many bytes a row fills a page */
#define SEGMENT_BYTES	7968

extern void catalog_segments_insert(const char *pipeline, const SegmentRow *segments, int n);
/*
 * In the order of (epoch, number), one at a time, in the memory context of the
 * caller; row and data (MAXALIGNed) are gone when "each" returns.
 */
extern void catalog_segments_read(const char *pipeline, bool with_data,
								  void (*each) (const SegmentRow *segment, void *arg), void *arg);
extern bool catalog_segments_exist(const char *pipeline);
/* those of an epoch; throw 40001 where there are not so many */
extern void catalog_epoch_read(const char *pipeline, int64 epoch, int nsegments,
							   void (*each) (const SegmentRow *segment, void *arg), void *arg);
/* pages: of the deleted rows, appended */
extern void catalog_epoch_delete(const char *pipeline, int64 epoch, int nsegments, CatalogPages *pages);
/* all; their number */
extern int64 catalog_segments_delete(const char *pipeline);

/* ---- messages that are to be sent (outbox.c) ---- */

/* Messages of a stream of the outbox; what is in it is the business of others. */
typedef struct OutboxSegment
{
	int32		stream;
	int64		number;			/* within the stream, from 1 on, without a gap */
	int32		nmessages;
	TimestampTz written;
	bool		ends_commit;	/* the last one of its transaction */
	const char *data;			/* within a bytea, behind its header; NULL where it was not asked for */
	Size		len;
} OutboxSegment;

/* What waits in an outbox. */
typedef struct OutboxTotals
{
	int64		messages;
	int64		bytes;
	TimestampTz oldest;			/* DT_NOEND: nothing */
	int64		last[SHMEM_MAX_TASKS];	/* by stream; 0: nothing */
} OutboxTotals;

extern void catalog_outbox_insert(const char *pipeline, const OutboxSegment *segments, int n);
/*
 * List of OutboxSegment behind "after", in the current memory context: whole
 * transactions, until they have "most" bytes, or a piece of one that has
 * "whole_most".  Throws XX001 where one is missing.
 */
extern List *catalog_outbox_read(const char *pipeline, int stream, int64 after, Size most, Size whole_most);
extern void catalog_outbox_look(const char *pipeline, OutboxTotals *totals);
/* number of messages in segments after+1..until */
extern int64 catalog_outbox_messages(const char *pipeline, int stream, int64 after, int64 until);
/* other bytes of the same length, of a segment that was read in this transaction or before and is not deleted */
extern void catalog_outbox_rewrite(const char *pipeline, const OutboxSegment *segment);
/* deletes segments after+1..until; adds up what they were, and their pages */
extern void catalog_outbox_delete(const char *pipeline, int stream, int64 after, int64 until, int64 *messages, int64 *bytes, CatalogPages *pages);
/* the last segment that was ever written, sent or not; 0: none */
extern int64 catalog_outbox_last(const char *pipeline, int stream);
/* everything of a pipeline */
extern void catalog_outbox_drop(const char *pipeline);

/*
 * What PostgreSQL knows of what was sent: Kafka may know more.  Changed by the
 * publisher, whose id is "writer", and by whoever decides for it; both lock it first.
 */
typedef struct PublisherRow
{
	char		pipeline[NAMEDATALEN];
	int64		published;		/* messages */
	int			nsegments;
	int64		segments[SHMEM_MAX_TASKS];	/* by stream, the last one sent */
	int			streams;		/* that the tasks of the last run write */
	pg_uuid_t	writer;			/* of the publisher; all zero: there was none */
	pg_uuid_t	previous_writer;
	char	   *reconcile;		/* what somebody has decided for the next start; NULL: nothing */
	ItemPointerData tid;
} PublisherRow;

/* NULL: there is none */
extern PublisherRow *catalog_publisher_get(const char *pipeline);
extern PublisherRow *catalog_publisher_lock(const char *pipeline);
extern void catalog_publisher_insert(const PublisherRow *row);
/* of a row that is locked */
extern void catalog_publisher_update(PublisherRow *row);

/* ---- losses of data (data_loss.c) ---- */

/* What a pipeline goes on without. */
typedef struct DataLoss
{
	const char *topic;
	int32		partition;
	int64		from_offset;	/* the record that was to be read next */
	int64		to_offset;		/* where it goes on; -1: the partition is not read any more */
	const char *reason;			/* as the table shows it */
} DataLoss;

/* writes a row under a new id */
extern void catalog_data_loss_insert(const char *pipeline, const DataLoss *loss, const char *cluster_id);
extern void catalog_data_losses_delete(const char *pipeline);

/* A record that a partition held at the last look. */
typedef struct TopicMark
{
	char	   *topic;
	int32		partition;
	RecordMark	record;
} TopicMark;

/* of TopicMark, in the current memory context */
extern List *catalog_topic_marks(const char *pipeline);
/* replaces them, where they are others; the caller holds catalog_pipeline_lock() */
extern void catalog_topic_marks_set(const char *pipeline, List *marks);

#endif							/* STREAMPROC_CATALOG_H */

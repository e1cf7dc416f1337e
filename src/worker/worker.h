/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The processes: supervisor, scanner, launcher, task.
 *
 *	  supervisor	one per cluster, no database: starts scanners and launchers
 *	  scanner		short-lived, one database: copies the catalog's wishes into
 *					the slots of shared memory; the only code that makes slots
 *	  launcher		one per running pipeline, as its owner: resolves positions,
 *					starts and restarts tasks, watches the topics
 *	  task			reads partitions, runs the statements, commits
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_WORKER_H
#define STREAMPROC_WORKER_H

#include "postgres.h"

#include "catalog/catalog.h"
#include "kafka/kafka.h"
#include "plan/plan.h"
#include "shmem/shmem.h"
#include "time/time.h"
#include "worker/start.h"

/* in supervisor.c */
extern void supervisor_register(void);
extern PGDLLEXPORT void streamproc_supervisor_main(Datum arg);

/* in scanner.c */
extern PGDLLEXPORT void streamproc_scanner_main(Datum arg);

/* in launcher.c */
extern PGDLLEXPORT void streamproc_launcher_main(Datum arg);

/* in task.c */
extern PGDLLEXPORT void streamproc_task_main(Datum arg);

/* ---- publisher.c ---- */

extern PGDLLEXPORT void streamproc_publisher_main(Datum arg);

/* ---- common.c ---- */

/*
 * First thing of a launcher or task: signals, slot, database connection as
 * the pipeline's owner.  Leaves the process when the slot is not ours.
 */
extern void worker_begin(Datum arg, WorkerRole role);
extern PipelineSlot *worker_pipeline(void);
/* catalog row as of now, in cxt; NULL: the pipeline was stopped, dropped or given to somebody else */
extern PipelineRow *worker_find_pipeline(MemoryContext cxt);
/* in that case the process ends */
extern PipelineRow *worker_load_pipeline(MemoryContext cxt);
/* the version of the row that this process works by: only of that one can it say failed or finished */
extern void worker_works_by(int64 version);
/* pins the settings that change results; again after each transaction */
extern void worker_apply_settings(PipelineRow *row);
/* interrupts, reload of the configuration, and: is there still a launcher? */
extern void worker_check(void);
extern bool worker_stop_requested(void);
/* passes by itself: conflict, resources, connection, cancel, system */
extern bool worker_error_passes(int sqlstate);
/*
 * Can the error be one row's fault?  Only if it comes again when the row runs
 * alone, and an empty batch runs without one; see task_careful.c.
 */
extern bool worker_error_of_row(const ErrorData *edata);
extern void worker_reason_from_error(Reason *reason, const ErrorData *edata);
extern void worker_reason_outbox_full(Reason *reason);
extern void worker_describe_failure(char *into, Size size, const KafkaError *err);
/*
 * The pipeline has failed: recorded in the catalog (it stays so over a
 * restart of the server) and in its slot; then the process leaves.
 */
extern void worker_fail_pipeline(Reason *reason) pg_attribute_noreturn();
/* ends as stopped, reason "finished" or "drained" */
extern void worker_finish_pipeline(const char *how);
extern int64 worker_backoff_us(int failures);
/* of a message's timestamp; DT_NOBEGIN: it has none, or one that PostgreSQL does not know */
extern TimestampTz worker_kafka_time(int64 ms);
extern void worker_wait(long timeout_ms);
/* is there a synchronous one?  To be durable may take then as long as somebody needs to bring it back. */
extern bool worker_waits_for_standby(void);
/* in identity.c: by what a record is known again */
extern RecordMark worker_record_mark(const KafkaMessage *message);
/* by two seconds or more, since the first call; says so in the log */
extern bool worker_clock_set_back(void);
extern void worker_hint_restart(char *into, Size size, const char *name);

/* ---- batch.c ---- */

#define BATCH_BYTES		(8 * 1024 * 1024)
#define BATCH_CHUNK		512
/* room for the rows of a batch, all sources together */
#define BATCH_VALUES_BYTES	(12 * 1024 * 1024)

/* A partition as its task sees it. */
typedef struct TaskPartition
{
	PartitionPosition *position;	/* in the task's PositionRow: as of the last commit, then as of the batch */
	int64		committed;		/* next offset of the last commit */
	TimestampTz committed_watermark;	/* as of the last commit */
	RecordMark	committed_record;
	int64		taken;			/* next offset after what the batch holds */
	Watermark	watermark;
	int64		advanced;		/* of batch_advance() */
	int			limit_run;		/* of batch_limit() */
	TimestampTz max_event_time;
	RecordMark	record;			/* of the last message taken, or of one before it */
	int			last_pending;	/* of the present chunk, -1: none */
	int64		careful_until;	/* run carefully below this offset */
	bool		finished;
	int			bad_run;		/* messages in a row that were bad, up to what the batch has advanced to */
	int			committed_bad_run;
	int			slot;			/* PartitionSlot, -1: none */
	int			nsources;		/* sources of this topic, as indexes into the batch's */
	int		   *sources;
} TaskPartition;

typedef struct BatchMessage
{
	int			part;			/* -1: a dead letter that runs again */
	int			letter;			/* index into the batch's letters: bad, has no rows; -1: good */
	int64		offset;
	TimestampTz event_time;		/* WATERMARK_NONE: none */
} BatchMessage;

/* The rows of one topic's foreign table. */
typedef struct BatchSource
{
	StreamSource *source;
	StreamReader *reader;
	int			nrows;
	Datum	   *values;			/* max_rows * natts */
	bool	   *isnull;
	bool	   *skip;			/* rows of messages that have turned out to be bad; NULL: never used yet */
} BatchSource;

typedef struct Batch
{
	int			nmessages;
	Size		bytes;
	bool		full;			/* more is waiting */
	int			max_rows;
	BatchMessage *messages;		/* max_rows */
	int			nsources;
	BatchSource *sources;
	StreamFeed *feeds;
	int		   *row_ends;		/* nmessages * nsources: rows of a source after a message */
	int			nparts;
	TaskPartition *parts;
	KafkaPartition *kafka;		/* the consumer's view, same order */
	Arena		arena;
	MemoryContext cxt;			/* values of input functions */

	/* the message that cannot be decoded and is not to be kept: the batch ends before it */
	bool		bad;
	Reason		bad_reason;
	bool		bad_of_row;		/* it was the message's own fault */

	/* messages that are bad and kept, with what they were */
	bool		keep_bad;
	bool		needs_event_time;	/* a message without one is bad */
	int			nletters;
	int			max_letters;
	DeadLetter *letters;
	/* careful running: every message as it came; NULL until then */
	DeadLetter *raw;
	/* dead letters that run again, instead of messages: one for each */
	DeadLetter **retried;
	/* the partition in which max_consecutive_errors was reached, -1: none */
	int			max_bad_run;
	int			limit_part;

	/* messages not decoded yet */
	KafkaMessage pending[BATCH_CHUNK];
	int			npending;
	int			pending_next;
} Batch;

extern Batch *batch_create(Program *program, PipelineRow *row, PositionRow *position, int pipeline_slot, MemoryContext cxt);
extern void batch_reset(Batch *batch);
/* takes a first chunk without a transaction; false: nothing there */
extern bool batch_take(Batch *batch, KafkaConsumer *consumer);
/* decodes and takes more until full or empty; in a transaction */
extern void batch_fill(Batch *batch, KafkaConsumer *consumer, bool careful, int limit);
extern void batch_release(Batch *batch);
/* the feeds give out messages from..to-1 */
extern void batch_select(Batch *batch, int from, int to);
/* positions, watermarks move over messages from..to-1; "all": to what was taken */
extern void batch_advance(Batch *batch, int from, int to);
/* fills the batch with dead letters (List of DeadLetter, in batch->cxt) and decodes them; in a transaction */
extern void batch_retry(Batch *batch, List *letters);
/* message i turns out to be bad: its raw form and the error become a letter */
extern void batch_add_letter(Batch *batch, int i, const ErrorData *edata, int statement);
/* the first message that max_consecutive_errors lets no other follow, + 1; "to" where there is none */
extern int	batch_limit(Batch *batch, int from, int to);
/* the message that the place of a scan belongs to, -1: unknown */
extern int	batch_message_of_place(Batch *batch, const StreamPlace *place);

#endif							/* STREAMPROC_WORKER_H */

/*-------------------------------------------------------------------------
 *
 * task.h
 *	  A task: between the files task*.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_TASK_H
#define STREAMPROC_TASK_H

#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "worker/worker.h"

typedef struct Task
{
	MemoryContext cxt;			/* of this run of the task */
	MemoryContext transaction_cxt;	/* lists, names; reset after each transaction */
	PipelineRow *row;
	Program    *program;
	PositionRow *position;
	KafkaConf  *conf;
	KafkaConsumer *consumer;
	Batch	   *batch;
	int64	   *was;			/* next offsets of the stored row */
	WorkerSlot *slot;
	PipelineSlot *pipeline;
	int			pipeline_number;

	/* the open transaction */
	bool		in_transaction;
	int64		begun_us;		/* first message taken */
	int64		rows_in;
	int64		bytes;

	int			bad_rows;		/* letters in it */
	DeadLetter	last_letter;

	uint32		publisher_turn; /* the publisher's look that we have committed for */
	int64		last_commit_us;
	int			batch_limit;	/* messages; less than the batch holds where keys are hot */
	bool		careful;
	int64		clean_messages; /* run carefully since the last error */
	double		error_rate;		/* per message, see task_careful.c */
	double		row_us;			/* time of a row's statements */
	double		failure_share;	/* of the rows of a piece, what its failure costs */
	int			check_misses;	/* wrong guesses of the message that a constraint check failed for, in a row */
	int64		retry_done;		/* dead letters up to this id have run again */
	int64		letters_logged_us;
	int			failures;		/* in a row, of the kind that passes */
	int64		last_ends_us;
	int64		answering_since_us; /* brokers were mute before, 0: they are now */
	struct KeyedTask *keyed;	/* of a keyed pipeline, else NULL */
	Outbox		outbox;			/* where there are topics as sinks */
} Task;

extern Task *my_task;

/*
 * Rows of one key in one transaction of upserts: each walks over the versions
 * that those before it made.
 */
#define TASK_UPSERT_KEY_ROWS	500

/* in task.c */
/* What is not committed was never taken, so nobody saves a position behind it. */
extern void task_forget_batch(void);

/* in task_transaction.c */
/* Leaves; the launcher starts all tasks anew. */
extern void task_ask_for_reload(void) pg_attribute_noreturn();
extern void task_begin(void);
extern void task_execute(int from, int to);
extern void task_passed(int from, int to);
extern void task_commit(CheckpointReason reason);
extern void task_abort(void);
/* bad rows are kept: the views say so, the log once in a while */
extern void task_show_letters(void);

/* in task_failure.c */
extern ErrorData *task_take_error(MemoryContext cxt);
extern void task_pause_for_error(ErrorData *edata);
extern void task_retry_or_fail(ErrorData *edata);
extern void task_fail_at(int i, const ErrorData *edata) pg_attribute_noreturn();
extern void task_fail_at_bad_message(void) pg_attribute_noreturn();
extern void task_fail_at_limit(void) pg_attribute_noreturn();
extern void task_check_partitions(void);

/* in task_careful.c */
extern bool task_run_carefully(void);

/* in task_show.c */
extern void task_show_partitions(Task *task, bool committed);
extern void task_show_checkpoint(Task *task, CheckpointReason reason, int64 commit_begun, int64 rows_out);
/* false: a topic does not exist any more */
extern bool task_show_connection(Task *task);

#endif							/* STREAMPROC_TASK_H */

/*-------------------------------------------------------------------------
 *
 * task.h
 *	  Between task.c and task_show.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_TASK_H
#define STREAMPROC_TASK_H

#include "postgres.h"

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

	int64		last_commit_us;
	int			batch_limit;	/* messages; less than the batch holds where keys are hot */
	bool		careful;
	int			failures;		/* in a row, of the kind that passes */
	int64		last_ends_us;
} Task;

/* in task_show.c */
extern void task_show_partitions(Task *task, bool committed);
extern void task_show_checkpoint(Task *task, CheckpointReason reason, int64 commit_begun, int64 rows_out);
/* false: a topic does not exist any more */
extern bool task_show_connection(Task *task);

#endif							/* STREAMPROC_TASK_H */

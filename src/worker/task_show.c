/*-------------------------------------------------------------------------
 *
 * task_show.c
 *	  What a task tells the views, through its slots in shared memory.
 *
 * The numbers of partitions and counters have this one writer and take no
 * lock; the rings take the lock once per commit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "worker/keyed.h"
#include "worker/task.h"

/* Brokers that have not answered for so long are mute. */
#define ANSWERED_US	(3 * 1000000)

/* "committed": also what the last commit has saved */
void
task_show_partitions(Task *task, bool committed)
{
	Batch	   *batch = task->batch;
	/* silence is what brokers that answer say; a mute one says nothing */
	int64		heard = kafka_consumer_heard_us(task->consumer);
	bool		answered = monotonic_us() - heard < ANSWERED_US;
	int			i;

	/* nor was the time before silence in which they were mute */
	if (!answered)
		task->answering_since_us = 0;
	else if (task->answering_since_us == 0)
		task->answering_since_us = heard;

	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		KafkaPartition *kp = &batch->kafka[i];
		PartitionSlot *slot;
		int64		timeout = tp->nsources > 0 ? batch->sources[tp->sources[0]].source->idle_timeout : 0;

		/* one that max_skew holds may have anything behind the end that we came to */
		watermark_update_idle(&tp->watermark,
							  kp->at_end && answered && !(task->keyed != NULL && keyed_task_holds(task->keyed, i)),
							  Max(kp->last_data_us, task->answering_since_us), heard, timeout);
		if (tp->slot < 0)
			continue;
		slot = &shmem->partitions[tp->slot];
		pg_atomic_write_u64(&slot->next_offset, tp->taken);
		if (kp->end_offset >= 0)
			pg_atomic_write_u64(&slot->end_offset, Max(kp->end_offset, tp->taken));
		slot->at_end = kp->at_end;
		slot->idle = tp->watermark.idle;
		slot->finished = tp->finished;
		if (committed)
		{
			pg_atomic_write_u64(&slot->watermark, (uint64) tp->position->watermark);
			pg_atomic_write_u64(&slot->last_record, (uint64) tp->position->record.time);
			pg_atomic_write_u64(&slot->committed, tp->committed);
		}
	}
}

/* After a commit: counters, the rings of checkpoints and latencies. */
void
task_show_checkpoint(Task *task, CheckpointReason reason, int64 commit_begun, int64 rows_out)
{
	PipelineSlot *p = task->pipeline;
	int64		now = monotonic_us();
	CheckpointStat *stat;

	counter_add(&task->slot->rows_in, task->rows_in);
	counter_add(&task->slot->rows_out, rows_out);
	counter_add(&task->slot->commits, 1);
	pg_atomic_fetch_add_u64(&p->rows_in, task->rows_in);
	pg_atomic_fetch_add_u64(&p->rows_out, rows_out);
	pg_atomic_fetch_add_u64(&p->bytes_in, task->bytes);
	pg_atomic_fetch_add_u64(&p->checkpoints, 1);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	stat = &p->checkpoint[p->checkpoint_count++ % SHMEM_CHECKPOINTS];
	memset(stat, 0, sizeof(*stat));
	stat->epoch = task->position->epoch;
	stat->task = task->slot->task;
	stat->reason = reason;
	stat->at = GetCurrentTimestamp();
	stat->duration_us = now - task->begun_us;
	stat->commit_us = now - commit_begun;
	stat->rows_in = task->rows_in;
	stat->rows_out = rows_out;
	stat->bytes = task->bytes;
	if (task->rows_in > 0)
		p->latency_us[p->latency_count++ % SHMEM_LATENCIES] = (int32) Min(stat->duration_us, PG_INT32_MAX);
	LWLockRelease(shmem->lock);
}

/* Broker or topic gone: the task waits. */
bool
task_show_connection(Task *task)
{
	KafkaError	err;
	char		waits[SHMEM_MESSAGE_LEN];
	Reason		reason;

	if (!kafka_consumer_connected(task->consumer, &err))
	{
		worker_describe_failure(waits, sizeof(waits), &err);
		reason_set(&reason, err.failure == KAFKA_LOGIN_FAILED ? "28000" : err.failure == KAFKA_NOT_ALLOWED ? "42501" : "08001", waits, NULL,
				   "Check the broker and the options of the server and user mapping; the pipeline goes on by itself.");
		worker_set_waiting(&reason);
	}
	else if (kafka_consumer_topic_missing(task->consumer))
	{
		snprintf(waits, sizeof(waits), "topic \"%s\" does not exist",
				 task->batch->nparts > 0 ? task->batch->parts[0].position->topic : "");
		reason_set(&reason, "42704", waits, NULL, "Create the topic; the pipeline goes on by itself.");
		worker_set_waiting(&reason);
		return false;
	}
	else
		worker_set_state(WORKER_RUNNING, NULL);
	return true;
}

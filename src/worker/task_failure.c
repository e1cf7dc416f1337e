/*-------------------------------------------------------------------------
 *
 * task_failure.c
 *	  What a task does about an error: wait and try again, or stop the pipeline
 *	  and say where.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker/keyed.h"
#include "worker/task.h"

/* Takes an error out of the error state; for use in PG_CATCH. */
ErrorData *
task_take_error(MemoryContext cxt)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(cxt);
	edata = CopyErrorData();
	FlushErrorState();
	return edata;
}

static void
remember_error(const Reason *reason)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_task->pipeline->last_error = *reason;
	LWLockRelease(shmem->lock);
}

/* The first position that is not committed, for messages about the transaction as a whole. */
static void
reason_at_position(Reason *reason)
{
	if (my_task->batch->nparts > 0)
	{
		TaskPartition *tp = &my_task->batch->parts[my_task->batch->nmessages > 0 ? my_task->batch->messages[0].part : 0];

		strlcpy(reason->topic, tp->position->topic, SHMEM_TOPIC_LEN);
		reason->partition = tp->position->partition;
		reason->offset = tp->committed;
	}
}

/* Something that passes, or may: say so, wait, and let the caller try again. */
void
task_pause_for_error(ErrorData *edata)
{
	Reason		reason;
	char		waits[SHMEM_MESSAGE_LEN];
	int64		until;

	worker_reason_from_error(&reason, edata);
	reason_at_position(&reason);
	my_task->failures++;
	counter_add(&my_task->slot->retries, 1);
	remember_error(&reason);
	if (my_task->failures == 1)
		ereport(LOG,
				(errmsg("task %d of pipeline \"%s\" at topic \"%s\" partition %d offset " INT64_FORMAT " tries again after: %s",
						my_task->slot->task, my_task->pipeline->name, reason.topic, reason.partition, reason.offset,
						edata->message),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0));
	/* the first time may be chance; from the second on the views say so */
	if (my_task->failures > 1)
	{
		snprintf(waits, sizeof(waits), "another try after: %s", reason.message);
		strlcpy(reason.message, waits, sizeof(reason.message));
		strlcpy(reason.hint, "The pipeline goes on by itself.", sizeof(reason.hint));
		worker_set_waiting(&reason);
	}
	until = monotonic_us() + worker_backoff_us(my_task->failures) / (my_task->failures == 1 ? 10 : 1);
	while (monotonic_us() < until && !worker_stop_requested())
		worker_wait((until - monotonic_us()) / 1000 + 1);
}

/* An error that no row is asked about: it passes, or the pipeline stops. */
void
task_retry_or_fail(ErrorData *edata)
{
	Reason		reason;

	if (!worker_error_passes(edata->sqlerrcode))
	{
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	task_pause_for_error(edata);
	FreeErrorData(edata);
}

static void
count_bad_row(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_task->pipeline->bad_rows++;
	LWLockRelease(shmem->lock);
}

/* What stands before the message is committed: of a keyed pipeline by the launcher. */
static void
settle(void)
{
	if (my_task->keyed != NULL)
		keyed_task_settle();
}

/* The pipeline stops before this message: it is to blame, or nobody is, but it strikes there. */
void
task_fail_at(int i, const ErrorData *edata)
{
	BatchMessage *message = &my_task->batch->messages[i];
	Reason		reason;

	worker_reason_from_error(&reason, edata);
	if (message->part >= 0)
	{
		TaskPartition *tp = &my_task->batch->parts[message->part];

		strlcpy(reason.topic, tp->position->topic, SHMEM_TOPIC_LEN);
		reason.partition = tp->position->partition;
		reason.offset = message->offset;
	}
	reason.hint[0] = '\0';		/* the command that goes on says more than the error's */
	if (worker_error_of_row(edata))
		count_bad_row();
	settle();
	worker_fail_pipeline(&reason);
}

void
task_fail_at_bad_message(void)
{
	if (my_task->batch->bad_of_row)
		count_bad_row();
	settle();
	worker_fail_pipeline(&my_task->batch->bad_reason);
}

/* max_consecutive_errors: all of them are stored and passed. */
void
task_fail_at_limit(void)
{
	TaskPartition *tp = &my_task->batch->parts[my_task->batch->limit_part];
	DeadLetter *letter = &my_task->last_letter;
	Reason		reason;
	char		message[SHMEM_MESSAGE_LEN];

	snprintf(message, sizeof(message), "%d rows in a row were bad, the last one: %s",
			 tp->bad_run, letter->message);
	reason_set(&reason, unpack_sql_state(letter->sqlstate), message, letter->detail, NULL);
	snprintf(reason.hint, sizeof(reason.hint), "They are in streamproc.dead_letter. Mend the cause, then: SELECT streamproc.retry_dead_letters(%s), streamproc.start_pipeline(%s)",
			 quote_literal_cstr(my_task->row->name), quote_literal_cstr(my_task->row->name));
	strlcpy(reason.topic, letter->topic, SHMEM_TOPIC_LEN);
	reason.partition = letter->partition;
	reason.offset = letter->offset;
	settle();
	worker_fail_pipeline(&reason);
}

/*
 * The topic has not what this task wants to read.  The launcher decides what
 * that means: it looks when all tasks have left.  Returns where it has looked
 * twice already and found nothing wrong.
 */
static void
ask_for_look(const Reason *reason)
{
	bool		again;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	/* one for all tasks of a run */
	if (!my_task->pipeline->reload)
		my_task->pipeline->looks++;
	again = my_task->pipeline->looks <= 2;
	if (!again)
		my_task->pipeline->looks = 0;
	my_task->pipeline->last_error = *reason;
	LWLockRelease(shmem->lock);
	if (!again)
		return;
	batch_release(my_task->batch);
	task_ask_for_reload();
}

/* A partition that Kafka cannot give us. */
void
task_check_partitions(void)
{
	int			i;

	for (i = 0; i < my_task->batch->nparts; i++)
	{
		KafkaPartition *kp = &my_task->batch->kafka[i];
		Reason		reason;
		char		message[SHMEM_MESSAGE_LEN];

		if (kp->error == KAFKA_PART_OK)
			continue;
		switch (kp->error)
		{
			case KAFKA_PART_OUT_OF_RANGE:
				snprintf(message, sizeof(message), "offset " INT64_FORMAT " is not in the topic: deleted by retention, or the topic was made anew",
						 kp->next_offset);
				break;
			case KAFKA_PART_BACKWARDS:
				snprintf(message, sizeof(message), "the topic's offsets went back");
				break;
			default:
				snprintf(message, sizeof(message), "the partition cannot be read");
				break;
		}
		reason_set(&reason, "58030", message, kp->error_message, NULL);
		strlcpy(reason.topic, kp->topic, SHMEM_TOPIC_LEN);
		reason.partition = kp->partition;
		reason.offset = kp->next_offset;
		if (kp->error != KAFKA_PART_OTHER)
			ask_for_look(&reason);
		worker_fail_pipeline(&reason);
	}
}

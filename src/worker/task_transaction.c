/*-------------------------------------------------------------------------
 *
 * task_transaction.c
 *	  A transaction of a task: begin, statements, dead letters, commit with the
 *	  position, abort.
 *
 * Memory follows the commit: positions in memory move with the batch
 * (task_passed), "committed" moves when the commit is done, and an abort sets
 * everything back to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/keyed.h"
#include "worker/task.h"

/* Bad rows are logged again when there were none for so long. */
#define LETTERS_LOG_US		(60 * 1000000)

/* Leaves; the launcher starts all tasks anew.  It may look when our slot is free: the wish stands in the pipeline's. */
void
task_ask_for_reload(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_task->pipeline->reload = true;
	pipeline_wake_launcher_locked(my_task->pipeline_number);
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Begins; the plans are made again where something changed. */
void
task_begin(void)
{
	int			tries = 0;

	checkpoint_begin();
	my_task->in_transaction = true;
	FAULT_POINT("task-begin");
	while (!program_lock(my_task->program))
	{
		/*
		 * The foreign table or server may have changed too, and with it what
		 * this task reads and how: then it starts anew.  A change of a sink or
		 * lookup table only wants other plans.
		 */
		PipelineRow *row;
		Program    *fresh;
		int			i;
		bool		same;

		if (++tries > 10)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the objects of pipeline \"%s\" keep changing", my_task->pipeline->name)));
		row = worker_load_pipeline(my_task->transaction_cxt);
		PushActiveSnapshot(GetTransactionSnapshot());
		fresh = program_load(row->procedure, row->trust_owners, row->arrival, row->state_ttl);
		program_check_rights(fresh);
		PopActiveSnapshot();
		same = row->version == my_task->row->version && fresh->nsources == my_task->program->nsources;
		for (i = 0; same && i < fresh->nsources; i++)
			same = fresh->sources[i].relid == my_task->program->sources[i].relid &&
				bms_equal(fresh->sources[i].needed, my_task->program->sources[i].needed) &&
				stream_source_same(stream_source_load(fresh->sources[i].relid), my_task->batch->sources[i].source);
		if (!same || fresh->server != my_task->program->server ||
			fresh->sink_server != my_task->program->sink_server ||
			!kafka_conf_equal(stream_server_conf(fresh->server, GetUserId()), my_task->conf))
		{
			ereport(LOG,
					(errmsg("task %d of pipeline \"%s\" starts anew: a foreign table, server or user mapping has changed",
							my_task->slot->task, my_task->pipeline->name)));
			checkpoint_abort();
			batch_release(my_task->batch);
			task_ask_for_reload();
		}
		if (my_task->keyed != NULL)
			keyed_task_check_layout(my_task->keyed, fresh);
		fresh->rows_only = my_task->program->rows_only;
		program_free(my_task->program);
		my_task->program = fresh;
		my_task->check_misses = 0;
		my_task->in_transaction = true;
	}
	/* the messages of a keyed pipeline are what the launcher gives out */
	stream_outbox = my_task->keyed == NULL ? my_task->program->outbox : NULL;
	if (my_task->keyed != NULL)
		keyed_task_begin();
}

/* Runs the statements on messages from..to-1 of the batch; those that are bad give no rows. */
void
task_execute(int from, int to)
{
	Batch	   *batch = my_task->batch;
	int			good = to - from;
	int			i;

	for (i = from; i < to && batch->nletters > 0; i++)
		if (batch->messages[i].letter >= 0)
			good--;

	if (from < to)
	{
		batch_select(batch, from, to);
		stream_feeds = batch->feeds;
		stream_nfeeds = batch->nsources;
		FAULT_POINT("task-before-run");
		program_run(my_task->program, good);
		FAULT_POINT("task-after-run");
		stream_feeds = NULL;
		stream_nfeeds = 0;
	}
	counter_add(&my_task->slot->batches, 1);
}

/*
 * The rows of messages from..to-1 stand in the open transaction: so do those
 * that are bad, as dead letters, and the positions move behind them.
 */
void
task_passed(int from, int to)
{
	Batch	   *batch = my_task->batch;
	int			i;

	for (i = from; i < to && (batch->nletters > 0 || batch->retried != NULL); i++)
	{
		int			letter = batch->messages[i].letter;

		if (batch->retried != NULL && my_task->keyed != NULL)
			shipped_letter_done(&my_task->keyed->shipped, batch->retried[i]->id);
		else if (batch->retried != NULL)
			catalog_dead_letter_delete(my_task->row->name, batch->retried[i]->id);
		if (letter < 0)
			continue;
		FAULT_POINT("task-before-letter");
		if (my_task->keyed != NULL)
			shipped_letter(&my_task->keyed->shipped, &batch->letters[letter]);
		else
			catalog_dead_letter_insert(my_task->row->name, &batch->letters[letter]);
		FAULT_POINT("task-after-letter");
		my_task->bad_rows++;
		my_task->last_letter = batch->letters[letter];
	}
	batch_advance(batch, from, to);
	if (batch->retried == NULL)
		my_task->rows_in += to - from;
}

/* Bad rows were committed: the views say so, the log once in a while. */
void
task_show_letters(void)
{
	DeadLetter *letter = &my_task->last_letter;
	Reason		reason;

	reason_set(&reason, unpack_sql_state(letter->sqlstate), letter->message, letter->detail, NULL);
	strlcpy(reason.topic, letter->topic, SHMEM_TOPIC_LEN);
	reason.partition = letter->partition;
	reason.offset = letter->offset;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	/* of a keyed pipeline the launcher counts what is committed */
	if (my_task->keyed == NULL)
		my_task->pipeline->bad_rows += my_task->bad_rows;
	my_task->pipeline->last_error = reason;
	LWLockRelease(shmem->lock);

	/* the message may quote the row: it is for the owner's eyes */
	if (my_task->letters_logged_us == 0 || monotonic_us() - my_task->letters_logged_us > LETTERS_LOG_US)
		ereport(LOG,
				(errmsg("pipeline \"%s\" keeps bad rows in streamproc.dead_letter, now that of topic \"%s\" partition %d offset " INT64_FORMAT " with SQLSTATE %s",
						my_task->row->name, letter->topic, letter->partition, letter->offset, reason.sqlstate)));
	my_task->letters_logged_us = monotonic_us();
}

void
task_commit(CheckpointReason reason)
{
	Batch	   *batch = my_task->batch;
	int64		begun;
	int64		rows_out;
	int			i;

	if (my_task->keyed != NULL)
	{
		keyed_task_commit(reason);
		return;
	}
	FAULT_POINT("task-before-finish");
	program_finish(my_task->program);
	/* a hot key makes a transaction quadratic: take less, or again more */
	if (my_task->program->upsert_most > TASK_UPSERT_KEY_ROWS)
		my_task->batch_limit = Max((int64) 64, (int64) my_task->batch_limit * TASK_UPSERT_KEY_ROWS / my_task->program->upsert_most);
	else if (my_task->program->upsert_most < TASK_UPSERT_KEY_ROWS / 2)
		my_task->batch_limit = Min(batch->max_rows, my_task->batch_limit * 2);
	rows_out = my_task->program->rows_out;
	begun = monotonic_us();
	if (my_task->program->outbox != NULL)
		outbox_finish(&my_task->outbox, my_task->program->outbox);

	/*
	 * Messages nobody sees before the publisher has flushed them (make_durable() there), so nobody waits for the
	 * disk twice.  Until then a crash takes them and the position together.
	 */
	if (my_task->program->only_topics && my_task->outbox.rows > 0 && my_task->bad_rows == 0 && batch->retried == NULL)
		checkpoint_need_not_wait();
	my_task->position->epoch++;
	PG_TRY();
	{
		checkpoint_commit_position(my_task->position, my_task->was);
	}
	PG_CATCH();
	{
		my_task->position->epoch--;
		PG_RE_THROW();
	}
	PG_END_TRY();
	my_task->in_transaction = false;
	outbox_committed(&my_task->outbox);
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];

		tp->committed = tp->position->next_offset;
		tp->committed_watermark = tp->position->watermark;
		tp->committed_record = tp->position->record;
		tp->committed_bad_run = tp->bad_run;
		my_task->was[i] = tp->committed;
	}
	PG_TRY();
	{
		program_reset(my_task->program);
		task_show_partitions(my_task, true);
		task_show_checkpoint(my_task, reason, begun, rows_out);
		if (my_task->bad_rows > 0)
			task_show_letters();
		pipeline_changed(my_task->pipeline_number);
		worker_apply_settings(my_task->row);
		MemoryContextReset(my_task->transaction_cxt);
		worker_set_state(WORKER_RUNNING, NULL);
	}
	PG_CATCH();
	{
		/* the rows are committed: whoever caught this would run them again */
		EmitErrorReport();
		FlushErrorState();
		proc_exit(1);
	}
	PG_END_TRY();
	my_task->rows_in = 0;
	my_task->bytes = 0;
	my_task->bad_rows = 0;
	my_task->last_commit_us = monotonic_us();
	my_task->failures = 0;
}

/* Rolls back; positions are as committed, messages are read again. */
void
task_abort(void)
{
	int			i;

	stream_feeds = NULL;
	stream_nfeeds = 0;
	checkpoint_abort();
	MemoryContextSwitchTo(my_task->cxt);
	my_task->in_transaction = false;
	program_reset(my_task->program);
	outbox_aborted(&my_task->outbox);
	if (my_task->keyed != NULL)
		keyed_task_abort();
	for (i = 0; i < my_task->batch->nparts; i++)
	{
		TaskPartition *tp = &my_task->batch->parts[i];

		tp->position->next_offset = tp->committed;
		tp->position->watermark = tp->watermark.value = tp->committed_watermark;
		tp->position->record = tp->committed_record;
		tp->bad_run = tp->committed_bad_run;
	}
	my_task->batch->limit_part = -1;
	my_task->rows_in = 0;
	my_task->bytes = 0;
	my_task->bad_rows = 0;
	MemoryContextReset(my_task->transaction_cxt);
	worker_apply_settings(my_task->row);
}

/*-------------------------------------------------------------------------
 *
 * task.c
 *	  Reads its partitions, runs the statements on micro-batches, commits
 *	  results and positions together.
 *
 * THE LOOP
 *	  No transaction is open while the task waits for Kafka.  When messages are
 *	  there: begin, decode, run the statements; while the queue gives full
 *	  batches, more of them in the same transaction, up to checkpoint_interval;
 *	  commit with the position.  So at low rates a row is visible one commit
 *	  after it arrived, and under load a commit is shared by many rows.
 *
 * ERRORS
 *	  Whatever is thrown between begin and commit rolls everything back.  What
 *	  passes by itself (a deadlock, a full disk, a lost connection) is run
 *	  again after a pause.  Anything else may be one row's fault: the task
 *	  goes back to the committed positions and runs *carefully* until it has
 *	  passed the place, and for a while longer: see task_careful.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/keyed.h"
#include "worker/task.h"

/* A transaction ends at this much input, and at this many bytes of rows held for the commit. */
#define TRANSACTION_BYTES	(64 * 1024 * 1024)
#define HELD_BYTES			(16 * 1024 * 1024)

/* Dead letters that run again, at a time. */
#define RETRY_LETTERS		512

/* Positions without rows are saved at least this far apart. */
#define POSITION_ONLY_US	(100 * 1000)

/*
 * Messages without an error after which the task runs normally again.  Careful
 * running costs a commit for each batch; going back to it costs a transaction
 * that is run for nothing, and a new connection.
 */
#define CAREFUL_MESSAGES	(256 * 1024)

/* between two commits of messages: percent of publish_period_us, where no look is announced; and at most */
#define PUBLISH_SHARE		30
#define PUBLISH_MOST_US		(10 * 1000)

Task	   *my_task;

/* ---- set-up ---- */

static PositionRow *
my_position(int task)
{
	List	   *rows = catalog_positions(my_task->pipeline->name);
	ListCell   *lc;

	foreach(lc, rows)
	{
		PositionRow *row = lfirst(lc);

		if (row->task == task)
			return row;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("task %d of pipeline \"%s\" has no position", task, my_task->pipeline->name)));
}

static void
open_consumer(void)
{
	Batch	   *batch = my_task->batch;
	int			i;

	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		KafkaPartition *kp = &batch->kafka[i];

		tp->position->next_offset = tp->taken = tp->committed;
		tp->record = tp->committed_record;
		tp->finished = tp->position->stop_offset >= 0 && tp->committed >= tp->position->stop_offset;
		kp->next_offset = tp->committed;
		kp->at_end = false;
		kp->error = KAFKA_PART_OK;
		kp->end_offset = KAFKA_OFFSET_UNKNOWN;
	}
	my_task->consumer = kafka_consumer_open(my_task->conf, batch->kafka, batch->nparts, streamproc_queue_size);
	for (i = 0; i < batch->nparts; i++)
		if (batch->parts[i].finished)
			kafka_consumer_hold(my_task->consumer, i, true);
}

/* Forgets everything that was taken and not committed. */
static void
rewind_consumer(void)
{
	batch_release(my_task->batch);
	FAULT_POINT("task-rewind");
	if (my_task->consumer != NULL)
		kafka_consumer_close(my_task->consumer);
	my_task->consumer = NULL;
	open_consumer();
	if (my_task->keyed != NULL)
		keyed_task_held_forget();
	batch_reset(my_task->batch);
}

static void
load(void)
{
	MemoryContext old;
	int			i;

	checkpoint_begin();
	my_task->row = worker_load_pipeline(my_task->cxt);
	worker_works_by(my_task->row->version);
	if (my_task->row->version != my_task->pipeline->version)
	{
		/* changed a moment ago: the launcher will start us again */
		checkpoint_commit();
		proc_exit(0);
	}
	worker_apply_settings(my_task->row);
	PushActiveSnapshot(GetTransactionSnapshot());
	my_task->program = program_load(my_task->row->procedure, my_task->row->trust_owners, my_task->row->arrival, my_task->row->state_ttl);
	program_check_rights(my_task->program);
	PopActiveSnapshot();

	old = MemoryContextSwitchTo(my_task->cxt);
	my_task->position = my_task->program->is_keyed ? keyed_task_attach(my_position(0)) : my_position(my_task->slot->task);
	my_task->conf = stream_server_conf(my_task->program->server, GetUserId());
	my_task->was = palloc(sizeof(int64) * Max(my_task->position->nparts, 1));
	for (i = 0; i < my_task->position->nparts; i++)
		my_task->was[i] = my_task->position->parts[i].next_offset;
	my_task->batch = batch_create(my_task->program, my_task->row, my_task->position, my_task->pipeline_number, my_task->cxt);
	/* how hot the keys are is not known yet */
	my_task->batch_limit = my_task->program->has_upsert ? TASK_UPSERT_KEY_ROWS * 2 : my_task->batch->max_rows;
	if (my_task->keyed != NULL)
		keyed_task_take_care();
	else if (my_task->program->outbox != NULL)
		outbox_open(&my_task->outbox, my_task->row->name, my_task->slot->task, my_task->pipeline_number);
	MemoryContextSwitchTo(old);
	checkpoint_commit();
}

/* What passes is for the launcher, which starts us again; anything else stops the pipeline. */
static void
load_or_fail(void)
{
	ErrorData  *edata;
	Reason		reason;
	int			i;

	PG_TRY();
	{
		load();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(my_task->cxt);
		edata = CopyErrorData();
		if (worker_error_passes(edata->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		checkpoint_abort();
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	PG_END_TRY();

	/* an option "topic" was changed since the launcher looked: its positions are not ours */
	for (i = 0; i < my_task->batch->nparts; i++)
		if (my_task->batch->parts[i].nsources == 0)
			task_ask_for_reload();
}

/* What is not committed was never taken, so nobody saves a position behind it. */
void
task_forget_batch(void)
{
	int			i;

	for (i = 0; i < my_task->batch->nparts; i++)
	{
		my_task->batch->parts[i].taken = my_task->batch->parts[i].committed;
		my_task->batch->parts[i].record = my_task->batch->parts[i].committed_record;
	}
	batch_reset(my_task->batch);
}

/* Have all partitions passed the place of the error, and has there been none for a while? */
static bool
still_careful(void)
{
	int			i;

	if (my_task->clean_messages < CAREFUL_MESSAGES)
		return true;
	for (i = 0; i < my_task->batch->nparts; i++)
		if (my_task->batch->parts[i].committed < my_task->batch->parts[i].careful_until)
			return true;
	return false;
}

/* ---- the loop ---- */

/* Whether the transaction should end after this batch. */
static bool
should_commit(CheckpointReason *reason)
{
	Batch	   *batch = my_task->batch;

	if (worker_stop_requested())
		*reason = CHECKPOINT_STOP;
	else if (my_task->keyed != NULL)
		*reason = CHECKPOINT_INTERVAL;	/* each batch is applied at once; when it is committed is not ours to say */
	else if (batch->bad || !batch->full)
		*reason = CHECKPOINT_CAUGHT_UP;
	else if (my_task->bytes >= TRANSACTION_BYTES || program_held_bytes(my_task->program) >= HELD_BYTES ||
			 my_task->batch_limit < batch->max_rows)
		*reason = CHECKPOINT_FULL;
	else if (monotonic_us() - my_task->begun_us >= my_task->row->checkpoint_interval)
		*reason = CHECKPOINT_INTERVAL;
	else
		return false;
	return true;
}

/* Normal running: several batches in one transaction. */
static void
run_transaction(void)
{
	Batch	   *batch = my_task->batch;
	CheckpointReason reason;

	task_begin();
	multi_insert_rows = MULTI_INSERT_ROWS;
	for (;;)
	{
		int			to;

		batch_fill(batch, my_task->consumer, false, my_task->batch_limit);
		my_task->bytes += batch->bytes;
		to = batch_limit(batch, 0, batch->nmessages);
		task_execute(0, to);
		task_passed(0, to);
		if (my_task->program->outbox != NULL)
			outbox_spill(&my_task->outbox, my_task->program->outbox);
		if (batch->limit_part >= 0)
		{
			reason = CHECKPOINT_STOP;
			break;
		}
		if (should_commit(&reason))
			break;
		FAULT_POINT("task-between-batches");
		CHECK_FOR_INTERRUPTS();
		if (!batch_take(batch, my_task->consumer))
		{
			reason = CHECKPOINT_CAUGHT_UP;
			batch_advance(batch, 0, 0);
			break;
		}
	}
	task_commit(reason);
	if (batch->limit_part >= 0)
		task_fail_at_limit();
}

/* Positions moved over control records: saved now and then, at the end at once. */
static void
save_position_only(bool now)
{
	Batch	   *batch = my_task->batch;
	bool		moved = false;
	int			i;

	batch_reset(batch);
	for (i = 0; i < batch->nparts; i++)
		if (batch->parts[i].taken > batch->parts[i].committed)
			moved = true;
	if (!moved || (!now && monotonic_us() - my_task->last_commit_us < POSITION_ONLY_US))
		return;
	my_task->begun_us = monotonic_us();
	task_run_carefully();
}

/* ---- dead letters that run again ---- */

/* Task 0 runs those that retry_dead_letters() asked for, while nothing of its partitions is taken. */
static void
retry_letters(void)
{
	Batch	   *batch = my_task->batch;
	int64		until = Max(my_task->pipeline->retry_until, my_task->row->retry_until);

	if (my_task->slot->task != 0 || my_task->retry_done >= until)
		return;
	for (;;)
	{
		List	   *letters;
		MemoryContext old;
		ErrorData  *volatile edata = NULL;

		if (worker_stop_requested())
			return;
		worker_check();
		batch_reset(batch);
		PG_TRY();
		{
			task_begin();
			old = MemoryContextSwitchTo(batch->cxt);
			letters = catalog_dead_letters(my_task->row->name, my_task->retry_done, until, RETRY_LETTERS, BATCH_BYTES);
			MemoryContextSwitchTo(old);
			batch_retry(batch, letters);
		}
		PG_CATCH();
		{
			edata = task_take_error(my_task->cxt);
		}
		PG_END_TRY();
		task_abort();
		MemoryContextSwitchTo(my_task->cxt);
		if (edata != NULL)
		{
			task_retry_or_fail(edata);
			continue;
		}
		if (batch->nmessages == 0)
			break;
		my_task->begun_us = monotonic_us();
		if (!task_run_carefully())
			continue;			/* from the same place again: what is done is not there any more */
		my_task->retry_done = batch->retried[batch->nmessages - 1]->id;
	}
	batch_reset(batch);
	my_task->retry_done = until;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_task->pipeline->retry_done = Max(my_task->pipeline->retry_done, until);
	ConditionVariableBroadcast(&my_task->pipeline->changed);
	LWLockRelease(shmem->lock);
}

static bool
all_finished(void)
{
	Batch	   *batch = my_task->batch;
	bool		finished = true;
	int			i;

	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];

		if (tp->position->stop_offset < 0)
			return false;
		if (tp->finished && tp->committed < tp->position->stop_offset && tp->taken < tp->position->stop_offset)
			tp->taken = tp->position->stop_offset;	/* the records up to there do not exist */
		if (tp->finished)
			kafka_consumer_hold(my_task->consumer, i, true);
		if (tp->committed < tp->position->stop_offset)
			finished = false;
	}
	return finished;
}

/* Nothing to read: tell the views, and sleep until something comes. */
static void
idle(void)
{
	int			events = WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int			sleep_ms = kafka_consumer_sleep_ms(my_task->consumer);
	long		timeout = Min(sleep_ms, 500);
	int64		now = monotonic_us();

	/* nobody tells a task that holds a partition that the others have followed */
	if (my_task->keyed != NULL && my_task->keyed->any_held)
		timeout = Min(timeout, 5);
	save_position_only(false);
	if (now - my_task->last_ends_us > 100000)
	{
		kafka_consumer_update_ends(my_task->consumer);
		/* if the topic comes back it may be another one: nothing of that is to be read */
		if (!task_show_connection(my_task))
			task_ask_for_reload();
		my_task->last_ends_us = now;
	}
	task_show_partitions(my_task, false);
	/* silence is something that the launcher waits for */
	if (my_task->keyed != NULL)
		keyed_task_publish();
	(void) WaitLatchOrSocket(MyLatch, events, kafka_consumer_fd(my_task->consumer), timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* So much waits to be sent that no more is taken: nothing is open, no lock is held. */
static void
wait_for_publisher(void)
{
	Reason		reason;

	if (my_task->program->outbox == NULL || my_task->keyed != NULL || !outbox_full(my_task->pipeline_number))
		return;
	worker_reason_outbox_full(&reason);
	while (outbox_full(my_task->pipeline_number) && !worker_stop_requested())
	{
		worker_set_waiting(&reason);
		task_show_partitions(my_task, false);
		worker_wait(20);
	}
	worker_set_state(WORKER_RUNNING, NULL);
}

/* Does the publisher look once more at the outbox when it has announced it?  See send_rest(). */
static bool
does_publisher_announce(void)
{
	return !my_task->row->at_least_once && !worker_waits_for_standby();
}

/*
 * After a commit: not again before min_commit_interval is over.  What is to be
 * sent by a publisher that has its hands full is committed when it is about to
 * look again: earlier it would wait in the outbox instead of the queue, later it
 * would miss the transaction.
 */
static void
space_commits(void)
{
	PipelineSlot *slot = my_task->pipeline;
	int64		interval = (int64) streamproc_min_commit_interval * 1000;
	bool		publishes = my_task->program->outbox != NULL && my_task->keyed == NULL;
	bool		turns = publishes && does_publisher_announce();

	if (publishes && !turns)
	{
		int64		share_us = (int64) pg_atomic_read_u64(&slot->publish_period_us) * PUBLISH_SHARE / 100;

		share_us = Min(share_us, PUBLISH_MOST_US);
		interval = Max(interval, share_us);
	}
	for (;;)
	{
		int64		now = monotonic_us();
		int64		left = my_task->last_commit_us + interval - now;

		/* it has not announced another look since we committed for one */
		if (left <= 0 && turns && pg_atomic_read_u32(&slot->publisher_looks) == 0 &&
			pg_atomic_read_u32(&slot->publisher_turns) == my_task->publisher_turn)
			left = my_task->last_commit_us + PUBLISH_MOST_US - now;
		if (left <= 0 || worker_stop_requested())
			break;
		worker_wait((long) ((left + 999) / 1000));
	}
	my_task->publisher_turn = pg_atomic_read_u32(&slot->publisher_turns);
}

/* Where a partition ends comes with its first messages; how much is before it decides how it is read. */
static bool
is_end_unknown(void)
{
	Batch	   *batch = my_task->batch;
	int			i;

	for (i = 0; i < batch->nparts; i++)
		if (batch->kafka[i].end_offset < 0)
			return true;
	return false;
}

static void
task_loop(void)
{
	MemoryContext cxt = my_task->cxt;

	for (;;)
	{
		ErrorData  *volatile edata = NULL;
		int			i;

		worker_check();
		if (worker_stop_requested())
		{
			if (my_task->keyed == NULL)
				save_position_only(true);
			return;
		}
		if (my_task->keyed != NULL)
		{
			keyed_task_meet();
			keyed_task_hold();
		}
		retry_letters();
		if (all_finished())
		{
			if (my_task->keyed == NULL)
			{
				worker_set_state(WORKER_FINISHED, NULL);
				return;
			}
			/* the barriers of the others need it */
			save_position_only(true);
			/* nothing comes, but the pipe that wakes us is emptied */
			if (batch_take(my_task->batch, my_task->consumer))
				batch_release(my_task->batch);
			batch_reset(my_task->batch);
			idle();
			continue;
		}
		task_check_partitions();
		wait_for_publisher();
		if (!my_task->batch->full && my_task->keyed == NULL)
			space_commits();
		MemoryContextSwitchTo(my_task->transaction_cxt);
		if (!batch_take(my_task->batch, my_task->consumer))
		{
			my_task->batch->full = false;
			idle();
			continue;
		}
		my_task->begun_us = monotonic_us();
		if (my_task->begun_us - my_task->last_ends_us > 100000 || is_end_unknown())
		{
			kafka_consumer_update_ends(my_task->consumer);
			my_task->last_ends_us = my_task->begun_us;
		}

		PG_TRY();
		{
			FAULT_POINT("task-taken");
			if (!my_task->careful)
				run_transaction();
			else
			{
				/* decoded in a transaction of its own: nothing is written before it is known what can be read */
				task_begin();
				batch_fill(my_task->batch, my_task->consumer, true, my_task->batch->max_rows);
				task_abort();
			}
		}
		PG_CATCH();
		{
			edata = task_take_error(cxt);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(cxt);

		if (edata != NULL)
		{
			batch_release(my_task->batch);
			/* what was taken until now has to be passed with care */
			for (i = 0; i < my_task->batch->nparts; i++)
			{
				TaskPartition *tp = &my_task->batch->parts[i];

				tp->careful_until = Max(tp->careful_until, my_task->batch->kafka[i].next_offset);
			}
			task_abort();
			my_task->clean_messages = 0;
			if (my_task->careful || worker_error_passes(edata->sqlerrcode))
				task_retry_or_fail(edata);
			else
			{
				my_task->careful = true;
				my_task->check_misses = 0;
				FreeErrorData(edata);
			}
			rewind_consumer();
			continue;
		}
		if (my_task->careful)
		{
			my_task->bytes = my_task->batch->bytes;
			if (my_task->batch->nmessages > 0)
				(void) task_run_carefully();
			my_task->careful = still_careful();
			if (my_task->keyed != NULL)
				my_task->keyed->careful &= my_task->careful;
		}
		if (my_task->batch->bad)
			task_fail_at_bad_message();
	}
}

void
streamproc_task_main(Datum arg)
{
	worker_begin(arg, WORKER_TASK);
	kafka_keep_memory();

	my_task = MemoryContextAllocZero(TopMemoryContext, sizeof(Task));
	my_task->cxt = AllocSetContextCreate(TopMemoryContext, "streamproc task", ALLOCSET_DEFAULT_SIZES);
	my_task->transaction_cxt = AllocSetContextCreate(my_task->cxt, "streamproc task transaction", ALLOCSET_DEFAULT_SIZES);
	my_task->slot = &shmem->workers[my_worker_slot];
	my_task->pipeline_number = my_task->slot->pipeline;
	my_task->pipeline = worker_pipeline();
	MemoryContextSwitchTo(my_task->cxt);

	checks_watch();
	FAULT_POINT("task-start");
	load_or_fail();
	FAULT_POINT("task-loaded");
	open_consumer();
	task_show_partitions(my_task, true);
	worker_set_state(WORKER_RUNNING, NULL);
	task_loop();
	FAULT_POINT("task-leave");

	if (my_task->keyed != NULL)
		keyed_task_leave();
	/* all messages are given back: the handle can be closed */
	batch_release(my_task->batch);
	kafka_consumer_close(my_task->consumer);
	proc_exit(0);
}

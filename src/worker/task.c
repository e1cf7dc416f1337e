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
 *	  passed the place: one batch per transaction, and a batch that fails is
 *	  run again in halves, from the front, until one message fails alone.
 *	  What stands before it is committed; the pipeline stops at it.
 *
 *	  Messages that cannot be decoded need no search: the batch ends before
 *	  them, is committed, and the pipeline stops.
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
#include "worker/task.h"

/* A transaction ends at this much input, and at this many bytes of rows held for the commit. */
#define TRANSACTION_BYTES	(64 * 1024 * 1024)
#define HELD_BYTES			(16 * 1024 * 1024)

/*
 * Rows of one key in one transaction of upserts: each walks over the versions
 * that those before it made.
 */
#define UPSERT_KEY_ROWS		500

/* Positions without rows are saved at least this far apart. */
#define POSITION_ONLY_US	(100 * 1000)

static Task *me;

static void ask_for_reload(void) pg_attribute_noreturn();

/* ---- set-up ---- */

static PositionRow *
my_position(int task)
{
	List	   *rows = catalog_positions(me->pipeline->name);
	ListCell   *lc;

	foreach(lc, rows)
	{
		PositionRow *row = lfirst(lc);

		if (row->task == task)
			return row;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("task %d of pipeline \"%s\" has no position", task, me->pipeline->name)));
}

static void
open_consumer(void)
{
	Batch	   *batch = me->batch;
	int			i;

	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		KafkaPartition *kp = &batch->kafka[i];

		tp->position->next_offset = tp->taken = tp->committed;
		tp->record_time = tp->committed_record_time;
		tp->finished = tp->position->stop_offset >= 0 && tp->committed >= tp->position->stop_offset;
		kp->next_offset = tp->committed;
		kp->at_end = false;
		kp->error = KAFKA_PART_OK;
		kp->end_offset = KAFKA_OFFSET_UNKNOWN;
	}
	me->consumer = kafka_consumer_open(me->conf, batch->kafka, batch->nparts, streamproc_queue_size);
	for (i = 0; i < batch->nparts; i++)
		if (batch->parts[i].finished)
			kafka_consumer_hold(me->consumer, i, true);
}

/* Forgets everything that was taken and not committed. */
static void
rewind_consumer(void)
{
	batch_release(me->batch);
	FAULT_POINT("task-rewind");
	if (me->consumer != NULL)
		kafka_consumer_close(me->consumer);
	me->consumer = NULL;
	open_consumer();
	batch_reset(me->batch);
}

static void
load(void)
{
	MemoryContext old;
	int			i;

	checkpoint_begin();
	me->row = worker_load_pipeline(me->cxt);
	worker_works_by(me->row->version);
	if (me->row->version != me->pipeline->version)
	{
		/* changed a moment ago: the launcher will start us again */
		checkpoint_commit();
		proc_exit(0);
	}
	worker_apply_settings(me->row);
	PushActiveSnapshot(GetTransactionSnapshot());
	me->program = program_load(me->row->procedure, me->row->trust_owners);
	program_check_rights(me->program);
	PopActiveSnapshot();

	old = MemoryContextSwitchTo(me->cxt);
	me->position = my_position(me->slot->task);
	me->conf = stream_server_conf(me->program->server, GetUserId());
	me->was = palloc(sizeof(int64) * Max(me->position->nparts, 1));
	for (i = 0; i < me->position->nparts; i++)
		me->was[i] = me->position->parts[i].next_offset;
	me->batch = batch_create(me->program, me->position, me->pipeline_number, me->cxt);
	/* how hot the keys are is not known yet */
	me->batch_limit = me->program->has_upsert ? UPSERT_KEY_ROWS * 2 : me->batch->max_rows;
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
		MemoryContextSwitchTo(me->cxt);
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
	for (i = 0; i < me->batch->nparts; i++)
		if (me->batch->parts[i].nsources == 0)
			ask_for_reload();
}

/* ---- transactions ---- */

/* Leaves; the launcher starts all tasks anew.  It may look when our slot is free: the wish stands in the pipeline's. */
static void
ask_for_reload(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	me->pipeline->reload = true;
	pipeline_wake_launcher_locked(me->pipeline_number);
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Begins; the plans are made again where something changed. */
static void
begin_transaction(void)
{
	int			tries = 0;

	checkpoint_begin();
	me->in_transaction = true;
	FAULT_POINT("task-begin");
	while (!program_lock(me->program))
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
					 errmsg("the objects of pipeline \"%s\" keep changing", me->pipeline->name)));
		row = worker_load_pipeline(me->transaction_cxt);
		PushActiveSnapshot(GetTransactionSnapshot());
		fresh = program_load(row->procedure, row->trust_owners);
		program_check_rights(fresh);
		PopActiveSnapshot();
		same = row->version == me->row->version && fresh->nsources == me->program->nsources;
		for (i = 0; same && i < fresh->nsources; i++)
			same = fresh->sources[i].relid == me->program->sources[i].relid &&
				bms_equal(fresh->sources[i].needed, me->program->sources[i].needed) &&
				stream_source_same(stream_source_load(fresh->sources[i].relid), me->batch->sources[i].source);
		if (!same || fresh->server != me->program->server ||
			!kafka_conf_equal(stream_server_conf(fresh->server, GetUserId()), me->conf))
		{
			ereport(LOG,
					(errmsg("task %d of pipeline \"%s\" starts anew: a foreign table, server or user mapping has changed",
							me->slot->task, me->pipeline->name)));
			checkpoint_abort();
			batch_release(me->batch);
			ask_for_reload();
		}
		program_free(me->program);
		me->program = fresh;
		me->in_transaction = true;
	}
}

/* Runs the statements on messages from..to-1 of the batch. */
static void
run_messages(int from, int to)
{
	Batch	   *batch = me->batch;

	if (from < to)
	{
		batch_select(batch, from, to);
		stream_feeds = batch->feeds;
		stream_nfeeds = batch->nsources;
		FAULT_POINT("task-before-run");
		program_run(me->program, to - from);
		FAULT_POINT("task-after-run");
		stream_feeds = NULL;
		stream_nfeeds = 0;
	}
	batch_advance(batch, from, to);
	me->rows_in += to - from;
	counter_add(&me->slot->batches, 1);
}

static void
commit_transaction(CheckpointReason reason)
{
	Batch	   *batch = me->batch;
	int64		begun;
	int64		rows_out;
	int			i;

	FAULT_POINT("task-before-finish");
	program_finish(me->program);
	/* a hot key makes a transaction quadratic: take less, or again more */
	if (me->program->upsert_most > UPSERT_KEY_ROWS)
		me->batch_limit = Max((int64) 64, (int64) me->batch_limit * UPSERT_KEY_ROWS / me->program->upsert_most);
	else if (me->program->upsert_most < UPSERT_KEY_ROWS / 2)
		me->batch_limit = Min(batch->max_rows, me->batch_limit * 2);
	rows_out = me->program->rows_out;
	begun = monotonic_us();
	me->position->epoch++;
	PG_TRY();
	{
		checkpoint_commit_position(me->position, me->was);
	}
	PG_CATCH();
	{
		me->position->epoch--;
		PG_RE_THROW();
	}
	PG_END_TRY();
	me->in_transaction = false;
	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];

		tp->committed = tp->position->next_offset;
		tp->committed_watermark = tp->position->watermark;
		tp->committed_record_time = tp->position->record_time;
		me->was[i] = tp->committed;
	}
	PG_TRY();
	{
		program_reset(me->program);
		task_show_partitions(me, true);
		task_show_checkpoint(me, reason, begun, rows_out);
		pipeline_changed(me->pipeline_number);
		worker_apply_settings(me->row);
		MemoryContextReset(me->transaction_cxt);
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
	me->rows_in = 0;
	me->bytes = 0;
	me->last_commit_us = monotonic_us();
	me->failures = 0;
}

/* Rolls back; positions are as committed, messages are read again. */
static void
abort_transaction(void)
{
	int			i;

	stream_feeds = NULL;
	stream_nfeeds = 0;
	checkpoint_abort();
	MemoryContextSwitchTo(me->cxt);
	me->in_transaction = false;
	program_reset(me->program);
	for (i = 0; i < me->batch->nparts; i++)
	{
		TaskPartition *tp = &me->batch->parts[i];

		tp->position->next_offset = tp->committed;
		tp->position->watermark = tp->watermark.value = tp->committed_watermark;
		tp->position->record_time = tp->committed_record_time;
		/* that of a batch that is kept and run in pieces is not known any more */
		tp->record_time = DT_NOBEGIN;
	}
	me->rows_in = 0;
	me->bytes = 0;
	MemoryContextReset(me->transaction_cxt);
	worker_apply_settings(me->row);
}

/* ---- failures ---- */

/* Takes an error out of the error state; for use in PG_CATCH. */
static ErrorData *
take_error(MemoryContext cxt)
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
	me->pipeline->last_error = *reason;
	LWLockRelease(shmem->lock);
}

/* The first position that is not committed, for messages about the transaction as a whole. */
static void
reason_at_position(Reason *reason)
{
	if (me->batch->nparts > 0)
	{
		TaskPartition *tp = &me->batch->parts[me->batch->nmessages > 0 ? me->batch->messages[0].part : 0];

		strlcpy(reason->topic, tp->position->topic, SHMEM_TOPIC_LEN);
		reason->partition = tp->position->partition;
		reason->offset = tp->committed;
	}
}

/* Something that passes: say so, wait, and let the caller try again. */
static void
pause_for_error(ErrorData *edata)
{
	Reason		reason;
	char		waits[SHMEM_MESSAGE_LEN];
	int64		until;

	worker_reason_from_error(&reason, edata);
	reason_at_position(&reason);
	me->failures++;
	counter_add(&me->slot->retries, 1);
	remember_error(&reason);
	if (me->failures == 1)
		ereport(LOG,
				(errmsg("task %d of pipeline \"%s\" at topic \"%s\" partition %d offset " INT64_FORMAT " tries again after: %s",
						me->slot->task, me->pipeline->name, reason.topic, reason.partition, reason.offset,
						edata->message),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0));
	snprintf(waits, sizeof(waits), "another try after: %s", reason.message);
	/* the first time may be chance; from the second on the views say so */
	if (me->failures > 1)
		worker_set_state(WORKER_WAITING, waits);
	until = monotonic_us() + worker_backoff_us(me->failures) / (me->failures == 1 ? 10 : 1);
	while (monotonic_us() < until && !worker_stop_requested())
		worker_wait((until - monotonic_us()) / 1000 + 1);
}

/* One message is to blame: the pipeline stops before it. */
static void
fail_at_message(int i, ErrorData *edata)
{
	BatchMessage *message = &me->batch->messages[i];
	TaskPartition *tp = &me->batch->parts[message->part];
	Reason		reason;

	worker_reason_from_error(&reason, edata);
	strlcpy(reason.topic, tp->position->topic, SHMEM_TOPIC_LEN);
	reason.partition = tp->position->partition;
	reason.offset = message->offset;
	reason.hint[0] = '\0';		/* the command that goes on says more than the error's */
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	me->pipeline->bad_rows++;
	LWLockRelease(shmem->lock);
	worker_fail_pipeline(&reason);
}

static void
fail_at_bad_message(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	me->pipeline->bad_rows++;
	LWLockRelease(shmem->lock);
	worker_fail_pipeline(&me->batch->bad_reason);
}

/* A partition that Kafka cannot give us. */
static void
check_partition_errors(void)
{
	int			i;

	for (i = 0; i < me->batch->nparts; i++)
	{
		KafkaPartition *kp = &me->batch->kafka[i];
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
		/* another start would not find it either */
		if (kp->error == KAFKA_PART_OUT_OF_RANGE)
			snprintf(reason.hint, sizeof(reason.hint), "To go on without what is gone: note streamproc.position, drop_pipeline(), and create_pipeline() with start => '{\"%d\": first offset left, ...}'.",
					 kp->partition);
		strlcpy(reason.topic, kp->topic, SHMEM_TOPIC_LEN);
		reason.partition = kp->partition;
		reason.offset = kp->next_offset;
		worker_fail_pipeline(&reason);
	}
}

/* ---- careful running ---- */

/* What is not committed was never taken, so nobody saves a position behind it. */
static void
forget_batch(void)
{
	int			i;

	for (i = 0; i < me->batch->nparts; i++)
	{
		me->batch->parts[i].taken = me->batch->parts[i].committed;
		me->batch->parts[i].record_time = me->batch->parts[i].committed_record_time;
	}
	batch_reset(me->batch);
}

/*
 * The batch in memory, one transaction for each piece; a piece that fails is
 * halved.  A message is to blame only if the error comes again when it runs
 * alone a second time.  Returns when all of the batch is committed, or the task
 * should stop.
 */
static void
run_carefully(void)
{
	Batch	   *batch = me->batch;
	volatile int from = 0;
	volatile int to = batch->nmessages;
	volatile bool failed_alone = false;
	MemoryContext cxt = me->cxt;	/* outlives the transaction, and with it the error */

	while (from < batch->nmessages || to == 0)
	{
		ErrorData  *volatile edata = NULL;

		PG_TRY();
		{
			if (!me->in_transaction)
				begin_transaction();
			FAULT_POINT("task-careful");
			if (from == 0 && batch->nmessages > 0)
				me->bytes = batch->bytes;
			run_messages(from, to);
			commit_transaction(CHECKPOINT_CAREFUL);
		}
		PG_CATCH();
		{
			edata = take_error(cxt);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(cxt);
		if (edata == NULL)
		{
			if (to == 0)
				return;
			from = to;
			to = batch->nmessages;
			failed_alone = false;
			me->begun_us = monotonic_us();
			continue;
		}
		abort_transaction();
		MemoryContextSwitchTo(cxt);
		if (worker_error_passes(edata->sqlerrcode))
		{
			pause_for_error(edata);
			if (worker_stop_requested())
			{
				forget_batch();
				return;
			}
			continue;
		}
		if (to - from <= 1 && !failed_alone)
			failed_alone = true;
		else if (to - from <= 1)
		{
			if (to > from)
				fail_at_message(from, edata);
			else
			{
				Reason		reason;

				worker_reason_from_error(&reason, edata);
				worker_fail_pipeline(&reason);
			}
		}
		else
			to = from + (to - from) / 2;
		FreeErrorData(edata);
	}
}

/* Have all partitions passed the place of the error? */
static bool
still_careful(void)
{
	int			i;

	for (i = 0; i < me->batch->nparts; i++)
		if (me->batch->parts[i].committed < me->batch->parts[i].careful_until)
			return true;
	return false;
}

/* ---- the loop ---- */

/* Whether the transaction should end after this batch. */
static bool
should_commit(CheckpointReason *reason)
{
	Batch	   *batch = me->batch;

	if (worker_stop_requested())
		*reason = CHECKPOINT_STOP;
	else if (batch->bad || !batch->full)
		*reason = CHECKPOINT_CAUGHT_UP;
	else if (me->bytes >= TRANSACTION_BYTES || program_held_bytes(me->program) >= HELD_BYTES ||
			 me->batch_limit < batch->max_rows)
		*reason = CHECKPOINT_FULL;
	else if (monotonic_us() - me->begun_us >= me->row->checkpoint_interval)
		*reason = CHECKPOINT_INTERVAL;
	else
		return false;
	return true;
}

/* Normal running: several batches in one transaction. */
static void
run_transaction(void)
{
	Batch	   *batch = me->batch;
	CheckpointReason reason;

	begin_transaction();
	for (;;)
	{
		batch_fill(batch, me->consumer, false, me->batch_limit);
		me->bytes += batch->bytes;
		run_messages(0, batch->nmessages);
		if (should_commit(&reason))
			break;
		FAULT_POINT("task-between-batches");
		CHECK_FOR_INTERRUPTS();
		if (!batch_take(batch, me->consumer))
		{
			reason = CHECKPOINT_CAUGHT_UP;
			batch_advance(batch, 0, 0);
			break;
		}
	}
	commit_transaction(reason);
}

/* Positions moved over control records: saved now and then, at the end at once. */
static void
save_position_only(bool now)
{
	Batch	   *batch = me->batch;
	bool		moved = false;
	int			i;

	batch_reset(batch);
	for (i = 0; i < batch->nparts; i++)
		if (batch->parts[i].taken > batch->parts[i].committed)
			moved = true;
	if (!moved || (!now && monotonic_us() - me->last_commit_us < POSITION_ONLY_US))
		return;
	me->begun_us = monotonic_us();
	run_carefully();
}

static bool
all_finished(void)
{
	Batch	   *batch = me->batch;
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
			kafka_consumer_hold(me->consumer, i, true);
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
	long		timeout = Min(kafka_consumer_sleep_ms(me->consumer), 500);
	int64		now = monotonic_us();

	save_position_only(false);
	if (now - me->last_ends_us > 100000)
	{
		kafka_consumer_update_ends(me->consumer);
		task_show_connection(me);
		me->last_ends_us = now;
	}
	task_show_partitions(me, false);
	(void) WaitLatchOrSocket(MyLatch, events, kafka_consumer_fd(me->consumer), timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* After a commit: not again before min_commit_interval is over. */
static void
space_commits(void)
{
	for (;;)
	{
		int64		left = me->last_commit_us + (int64) streamproc_min_commit_interval * 1000 - monotonic_us();

		if (left <= 0 || worker_stop_requested())
			return;
		worker_wait((long) ((left + 999) / 1000));
	}
}

static void
task_loop(void)
{
	MemoryContext cxt = me->cxt;

	for (;;)
	{
		ErrorData  *volatile edata = NULL;
		int			i;

		worker_check();
		if (worker_stop_requested())
		{
			save_position_only(true);
			return;
		}
		if (all_finished())
		{
			worker_set_state(WORKER_FINISHED, NULL);
			return;
		}
		check_partition_errors();
		if (!me->batch->full)
			space_commits();
		MemoryContextSwitchTo(me->transaction_cxt);
		if (!batch_take(me->batch, me->consumer))
		{
			me->batch->full = false;
			idle();
			continue;
		}
		me->begun_us = monotonic_us();
		if (me->begun_us - me->last_ends_us > 100000)
		{
			kafka_consumer_update_ends(me->consumer);
			me->last_ends_us = me->begun_us;
		}

		PG_TRY();
		{
			FAULT_POINT("task-taken");
			if (!me->careful)
				run_transaction();
			else
			{
				begin_transaction();
				batch_fill(me->batch, me->consumer, true, me->batch->max_rows);
			}
		}
		PG_CATCH();
		{
			edata = take_error(cxt);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(cxt);

		if (edata != NULL)
		{
			batch_release(me->batch);
			/* what was taken until now has to be passed with care */
			for (i = 0; i < me->batch->nparts; i++)
			{
				TaskPartition *tp = &me->batch->parts[i];

				tp->careful_until = Max(tp->careful_until, me->batch->kafka[i].next_offset);
			}
			abort_transaction();
			if (worker_error_passes(edata->sqlerrcode))
				pause_for_error(edata);
			else if (!me->careful)
				me->careful = true;
			else
			{
				/* before any row: rights, objects, options */
				Reason		reason;

				worker_reason_from_error(&reason, edata);
				worker_fail_pipeline(&reason);
			}
			FreeErrorData(edata);
			rewind_consumer();
			continue;
		}
		if (me->careful)
		{
			if (me->batch->bad_threw)
				abort_transaction();
			if (me->batch->nmessages > 0)
				run_carefully();
			else if (me->in_transaction)
				abort_transaction();
			me->careful = still_careful();
		}
		if (me->batch->bad)
			fail_at_bad_message();
	}
}

void
streamproc_task_main(Datum arg)
{
	worker_begin(arg, WORKER_TASK);

	me = MemoryContextAllocZero(TopMemoryContext, sizeof(Task));
	me->cxt = AllocSetContextCreate(TopMemoryContext, "streamproc task", ALLOCSET_DEFAULT_SIZES);
	me->transaction_cxt = AllocSetContextCreate(me->cxt, "streamproc task transaction", ALLOCSET_DEFAULT_SIZES);
	me->slot = &shmem->workers[my_worker_slot];
	me->pipeline_number = me->slot->pipeline;
	me->pipeline = worker_pipeline();
	MemoryContextSwitchTo(me->cxt);

	FAULT_POINT("task-start");
	load_or_fail();
	FAULT_POINT("task-loaded");
	open_consumer();
	task_show_partitions(me, true);
	worker_set_state(WORKER_RUNNING, NULL);
	task_loop();
	FAULT_POINT("task-leave");

	/* all messages are given back: the handle can be closed */
	batch_release(me->batch);
	kafka_consumer_close(me->consumer);
	proc_exit(0);
}

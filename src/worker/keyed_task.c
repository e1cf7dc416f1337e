/*-------------------------------------------------------------------------
 *
 * keyed_task.c
 *	  A task of a keyed pipeline: batches into the shared state, barriers.
 *
 * A batch is all or nothing: its row query runs to the end in a transaction
 * that only reads, and only then its rows are applied.  An error while they are applied
 * (a transition function, memory) has changed part of the state: the run is
 * abandoned, all tasks leave, and the next launcher reads the state of the last
 * commit.
 *
 * No transaction is open, and no lock held, while the task waits at a barrier.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "worker/keyed.h"

/* Input that a task may take while the launcher is still at the commit before. */
#define AHEAD_BYTES		(64 * 1024 * 1024)
/* Late rows that are kept back until their batch is applied. */
#define SHIP_BYTES		(4 * 1024 * 1024)

#define my_keyed		(my_task->keyed)

static void meet(void);
static void wait_for_change(void);

static void
wake_launcher(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	pipeline_wake_launcher_locked(my_task->pipeline_number);
	LWLockRelease(shmem->lock);
}

/* Before the slot is given up: whatever ends a task but a completed stop ends the run. */
static void
on_exit_abandon(int code, Datum arg)
{
	if (my_keyed == NULL || my_keyed->leaving)
		return;
	state_abandon(my_keyed->area);
	ConditionVariableBroadcast(&my_keyed->barrier->changed);
	wake_launcher();
}

/*
 * The state is laid out by the operators that the launcher saw.  An aggregate
 * that was replaced since makes another layout: nothing of it must be touched.
 */
void
keyed_task_check_layout(KeyedTask *keyed, Program *program)
{
	char	   *signature = program_signature(program);

	if (program->is_keyed && saved_signature_of(signature, strlen(signature)) == keyed->barrier->signature)
		return;
	state_abandon(keyed->area);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the aggregates of pipeline \"%s\" have changed since its launcher started", my_task->pipeline->name)));
}

/* Partitions of the whole are dealt out in turn. */
PositionRow *
keyed_task_attach(PositionRow *whole)
{
	PipelineSlot *slot = my_task->pipeline;
	KeyedTask  *keyed = MemoryContextAllocZero(my_task->cxt, sizeof(KeyedTask));
	MemoryContext old = MemoryContextSwitchTo(my_task->cxt);
	PositionRow *mine = palloc(sizeof(PositionRow));
	uint32		handle;
	uint64		root;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	handle = slot->state_handle;
	root = slot->state_root;
	LWLockRelease(shmem->lock);
	if (handle == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("pipeline \"%s\" has no state to work on", slot->name)));
	my_task->program->rows_only = true;
	keyed->area = state_area_attach(handle, root);
	keyed->barrier = barrier_attach(keyed->area);
	keyed->mine = &keyed->barrier->task[my_task->slot->task];
	keyed->cut = barrier_cut_create(keyed->area, keyed->barrier, my_task->slot->task);
	initStringInfo(&keyed->shipped);
	keyed_task_check_layout(keyed, my_task->program);
	if (whole->nparts != keyed->barrier->nparts)
		elog(ERROR, "position of pipeline \"%s\" has %d partitions, its state %d", slot->name, whole->nparts, keyed->barrier->nparts);

	*mine = *whole;
	mine->task = my_task->slot->task;
	mine->nparts = 0;
	mine->parts = palloc(sizeof(PartitionPosition) * Max(whole->nparts, 1));
	keyed->part = palloc(sizeof(int) * Max(whole->nparts, 1));
	for (i = my_task->slot->task; i < whole->nparts; i += keyed->barrier->ntasks)
	{
		keyed->part[mine->nparts] = i;
		mine->parts[mine->nparts++] = whole->parts[i];
	}
	MemoryContextSwitchTo(old);
	my_keyed = keyed;
	before_shmem_exit(on_exit_abandon, (Datum) 0);
	LWLockAcquire(&keyed->barrier->lock, LW_EXCLUSIVE);
	keyed->mine->attached = true;
	LWLockRelease(&keyed->barrier->lock);
	return mine;
}

void
keyed_task_settings(void)
{
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
	{
		OperatorSpec *spec = my_task->program->keyed[i].spec;

		spec->allowed_lateness = my_task->row->allowed_lateness;
		spec->closed_until = my_keyed->barrier->closed_until[i];
		spec->freed_until = my_keyed->barrier->freed_until[i];
		if (operator_gives_rows(spec) && my_task->pipeline->over_unfiltered)
			spec->filter = NULL;
	}
}

void
keyed_task_begin(void)
{
	TimestampTz watermark;
	int			i;

	LWLockAcquire(&my_keyed->barrier->lock, LW_SHARED);
	watermark = my_keyed->barrier->watermark;
	LWLockRelease(&my_keyed->barrier->lock);
	/* row queries must not write: what they wrote would be no part of the epoch */
	XactReadOnly = true;
	keyed_task_settings();
	for (i = 0; i < my_task->program->nkeyed; i++)
		rows_watermark(my_task->program->keyed[i].rows, watermark);
	resetStringInfo(&my_keyed->shipped);
}

void
keyed_task_abort(void)
{
	/* what the log has got already would come twice */
	if (my_keyed->shipped_early)
	{
		state_abandon(my_keyed->area);
		proc_exit(1);
	}
	resetStringInfo(&my_keyed->shipped);
}

/* ---- late rows ---- */

/* The row of the topic as JSON: the columns that the statement reads. */
static char *
feed_row_json(const StreamFeed *feed, int row)
{
	Relation	rel = table_open(feed->relid, AccessShareLock);
	TupleDesc	desc = CreateTemplateTupleDesc(bms_num_members(feed->needed));
	Datum	   *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *isnull = palloc(sizeof(bool) * Max(desc->natts, 1));
	HeapTuple	tuple;
	char	   *json;
	int			attno = -1;
	int			n = 0;

	while ((attno = bms_next_member(feed->needed, attno)) >= 0)
	{
		Size		at = (Size) row * feed->natts + attno - 1;

		TupleDescCopyEntry(desc, n + 1, RelationGetDescr(rel), attno);
		values[n] = feed->values[at];
		isnull[n++] = feed->isnull[at];
	}
	desc = BlessTupleDesc(desc);
	tuple = heap_form_tuple(desc, values, isnull);
	json = TextDatumGetCString(DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc)));
	table_close(rel, NoLock);
	return json;
}

/* One late_row for each window that the row came too late for; for window functions and sessions one alone. */
static void
ship_late(const OperatorSpec *spec, const OperatorRow *row, TimestampTz watermark)
{
	Batch	   *batch = my_task->batch;
	StreamPlace place = {NULL, (int) (row->place >> 16)};
	int			source = (int) (row->place & 0xffff) - 1;
	int64		last = operator_last_end(spec, row->slice);
	LateRow		late = {0};
	char	   *json;
	int64		end;
	int			i;

	place.feed = &batch->feeds[source];
	i = batch_message_of_place(batch, &place);
	if (i < 0)
		elog(ERROR, "a late row belongs to no message");
	late.operator = spec->number;
	if (batch->retried != NULL)
	{
		late.topic = batch->retried[i]->topic;
		late.partition = batch->retried[i]->partition;
	}
	else
	{
		late.topic = batch->parts[batch->messages[i].part].position->topic;
		late.partition = batch->parts[batch->messages[i].part].position->partition;
	}
	late.offset = batch->messages[i].offset;
	late.event_time = DatumGetTimestampTz(row->values[spec->at_column]);
	late.watermark = watermark;
	json = feed_row_json(place.feed, place.row);
	if (operator_gives_rows(spec) || spec->window == OPERATOR_SESSION)
	{
		late.window_start = late.window_end = DT_NOBEGIN;
		shipped_late_row(&my_keyed->shipped, &late, json);
		return;
	}
	for (end = row->slice + 1; end <= last; end++)
	{
		if (!operator_is_late(spec, operator_closing(spec, end), watermark))
			break;
		late.window_end = window_instant(&spec->scale, end);
		late.window_start = window_instant(&spec->scale, operator_window_begin(spec, end));
		shipped_late_row(&my_keyed->shipped, &late, json);
		CHECK_FOR_INTERRUPTS();
		/* they go before the batch is applied: if that fails, nothing of the epoch counts */
		if (my_keyed->shipped.len > SHIP_BYTES)
		{
			barrier_log_append(my_keyed->area, &my_keyed->mine->log, my_keyed->shipped.data, my_keyed->shipped.len);
			resetStringInfo(&my_keyed->shipped);
			my_keyed->shipped_early = true;
		}
	}
}

static void
ship_late_rows(void)
{
	MemoryContext old = MemoryContextSwitchTo(my_task->transaction_cxt);
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
	{
		KeyedNode  *node = &my_task->program->keyed[i];
		OperatorRow *row;

		if (my_task->row->late == LATE_DROP)
			continue;
		for (row = node->rows->late_first; row != NULL; row = row->next)
		{
			CHECK_FOR_INTERRUPTS();
			ship_late(node->spec, row, node->rows->watermark);
		}
	}
	MemoryContextSwitchTo(old);
}

/* ---- applying ---- */

static void
open_for_functions(void)
{
	MemoryContext old = CurrentMemoryContext;

	checkpoint_begin();
	XactReadOnly = true;
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(old);
}

static void
close_after_functions(bool failed)
{
	MemoryContext old = CurrentMemoryContext;

	if (failed)
		checkpoint_abort();
	else
	{
		PopActiveSnapshot();
		checkpoint_commit();
	}
	MemoryContextSwitchTo(old);
}

const OperatorTransaction keyed_task_for_functions = {open_for_functions, close_after_functions};

/* What the barrier and the launcher see of the task's partitions. */
void
keyed_task_publish(void)
{
	Batch	   *batch = my_task->batch;
	int			i;

	for (i = 0; i < batch->nparts; i++)
	{
		TaskPartition *tp = &batch->parts[i];
		BarrierPartition *part = &my_keyed->barrier->part[my_keyed->part[i]];

		part->next_offset = tp->committed;
		part->watermark = tp->committed_watermark;
		part->record = tp->committed_record;
		part->idle = tp->watermark.idle;
		part->behind = batch->kafka[i].end_offset - tp->committed >= KEYED_BEHIND;
		part->finished = tp->finished && tp->position->stop_offset >= 0 && tp->committed >= tp->position->stop_offset;
	}
}

/*
 * A function has thrown while a batch was applied.  Some message of it is to
 * blame: the next run applies what was taken until now one at a time.
 */
static void
proc_exit_with_care(const ErrorData *edata)
{
	Batch	   *batch = my_task->batch;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < batch->nparts; i++)
		if (my_keyed->part[i] < SHMEM_CAREFUL_PARTITIONS)
		{
			int64	   *until = &my_task->pipeline->careful_until[my_keyed->part[i]];

			*until = Max(*until, Max(batch->kafka[i].next_offset, batch->parts[i].taken));
		}
	LWLockRelease(shmem->lock);
	ereport(LOG,
			(errmsg("task %d of pipeline \"%s\" gives up the epoch, an aggregate failed with SQLSTATE %s; the messages around it are applied one at a time",
					my_task->slot->task, my_task->pipeline->name, unpack_sql_state(edata->sqlerrcode))));
	proc_exit(1);
}

/* The state is half changed: nobody may go on with it. */
void
keyed_task_apply_failed(bool by_row)
{
	ErrorData  *edata;
	Reason		reason;

	MemoryContextSwitchTo(my_task->cxt);
	state_abandon(my_keyed->area);
	edata = CopyErrorData();
	FlushErrorState();
	LWLockReleaseAll();
	checkpoint_abort();
	MemoryContextSwitchTo(my_task->cxt);
	if (edata->elevel > ERROR || worker_error_passes(edata->sqlerrcode))
	{
		/* memory that state_memory does not allow will not be there later either */
		if (edata->sqlerrcode != ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
		{
			worker_reason_from_error(&reason, edata);
			LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
			my_task->pipeline->last_error = reason;
			LWLockRelease(shmem->lock);
			ereport(LOG,
					(errmsg("task %d of pipeline \"%s\" gives up the epoch: %s",
							my_task->slot->task, my_task->pipeline->name, edata->message)));
			proc_exit(1);
		}
	}
	/* the same conditions stand in the output plan, where the row becomes a dead letter; several tasks may find that out at once */
	if (worker_error_of_row(edata) && over_filtering)
	{
		my_task->pipeline->over_unfiltered = true;
		ereport(LOG,
				(errmsg("task %d of pipeline \"%s\" gives up the epoch, a condition over window functions failed with SQLSTATE %s; rows are filtered when they are written from now on",
						my_task->slot->task, my_task->pipeline->name, unpack_sql_state(edata->sqlerrcode))));
		proc_exit(1);
	}
	/* rows that were passed on belong to no message: the next run finds the one that is to blame */
	if (worker_error_of_row(edata) && keyed_task_applies_passed())
	{
		my_task->pipeline->pass_carefully = true;
		ereport(LOG,
				(errmsg("task %d of pipeline \"%s\" gives up the epoch, an aggregate over window functions, DISTINCT ON or a join failed with SQLSTATE %s; their rows are applied with care from now on",
						my_task->slot->task, my_task->pipeline->name, unpack_sql_state(edata->sqlerrcode))));
		proc_exit(1);
	}
	/* rows that window functions answer hang on each other: none is left out */
	if (by_row && worker_error_of_row(edata) && !my_keyed->careful && !my_task->program->has_over)
		proc_exit_with_care(edata);
	worker_reason_from_error(&reason, edata);
	worker_fail_pipeline(&reason);
}

/* ---- window functions ---- */

/* Rows that were found late only when they were applied: those behind them have been answered since their batch began. */
static void
ship_overtaken_rows(void)
{
	bool		open = false;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
	{
		KeyedNode  *node = &my_task->program->keyed[i];
		OperatorRow *row;

		if (my_task->row->late == LATE_DROP)
			continue;
		for (row = node->rows->overtaken; row != NULL; row = row->next)
		{
			if (!open)
				open_for_functions();
			open = true;
			CHECK_FOR_INTERRUPTS();
			ship_late(node->spec, row, node->rows->watermark);
		}
	}
	if (open)
		close_after_functions(false);
}

void
keyed_task_ship(const char *bytes, Size len)
{
	barrier_log_append(my_keyed->area, &my_keyed->mine->output, bytes, len);
}

/* Rows of one instant are told apart by where their messages stand. */
static void
find_origins(OperatorRows *rows)
{
	Batch	   *batch = my_task->batch;
	OperatorRow *row;
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
		for (row = rows->first[g]; row != NULL; row = row->next)
		{
			StreamPlace place = {&batch->feeds[(row->place & 0xffff) - 1], (int) (row->place >> 16)};
			int			i = batch_message_of_place(batch, &place);

			if (i < 0)
				elog(ERROR, "a row belongs to no message");
			row->part = batch->retried != NULL ? -1 : my_keyed->part[batch->messages[i].part];
			row->offset = batch->messages[i].offset;
		}
}

/* Does the order of rows that come from the topic matter, or where they come from to another operator? */
static bool
needs_origins(const KeyedNode *node)
{
	const OperatorSpec *spec = node->spec;

	return node->upstream < 0 && (spec->top != NULL || (spec->waits && spec->join == NULL) || spec->given_places > 0);
}

/* ---- one message at a time ---- */

static int
compare_messages(const void *a, const void *b)
{
	const CarefulRow *x = a;
	const CarefulRow *y = b;

	if (x->message != y->message)
		return x->message < y->message ? -1 : 1;
	return x->spec->number - y->spec->number;
}

/* All rows that wait, in the order of their messages. */
static CarefulRow *
rows_by_message(int *n)
{
	Program    *program = my_task->program;
	CarefulRow *rows;
	int64		total = 0;
	int			i,
				g;

	for (i = 0; i < program->nkeyed; i++)
		total += program->keyed[i].rows->nrows;
	rows = palloc_extended(sizeof(CarefulRow) * Max(total, 1), MCXT_ALLOC_HUGE);
	*n = 0;
	for (i = 0; i < program->nkeyed; i++)
		for (g = 0; g < STATE_GROUPS; g++)
		{
			OperatorRow *row;

			for (row = program->keyed[i].rows->first[g]; row != NULL; row = row->next)
			{
				StreamPlace place = {&my_task->batch->feeds[(row->place & 0xffff) - 1], (int) (row->place >> 16)};

				rows[*n].spec = program->keyed[i].spec;
				rows[*n].row = row;
				rows[(*n)++].message = batch_message_of_place(my_task->batch, &place);
			}
		}
	qsort(rows, *n, sizeof(CarefulRow), compare_messages);
	return rows;
}

static void
apply_carefully(void)
{
	Batch	   *batch = my_task->batch;
	int			n;
	CarefulRow *rows = rows_by_message(&n);
	int			i,
				k;

	for (i = 0; i < n; i = k)
	{
		int			message = rows[i].message;
		int			statement = 0;
		ErrorData  *edata;
		DeadLetter	letter;

		for (k = i + 1; k < n && rows[k].message == message; k++)
			;
		CHECK_FOR_INTERRUPTS();
		edata = operator_apply_carefully(rows + i, k - i, my_keyed->area, &keyed_task_for_functions, my_task->transaction_cxt, &statement);
		if (edata == NULL)
			continue;
		if (message < 0 || !worker_error_of_row(edata))
			ReThrowError(edata);
		if (batch->retried == NULL && !my_task->row->dead_letters)
		{
			state_abandon(my_keyed->area);
			task_fail_at(message, edata);
		}
		letter = batch->retried != NULL ? *batch->retried[message] : batch->raw[message];
		letter.sqlstate = edata->sqlerrcode;
		letter.message = edata->message;
		letter.detail = edata->detail;
		letter.statement = statement;
		letter.attempts++;
		shipped_letter(&my_keyed->shipped, &letter);
		my_task->bad_rows++;
		my_task->last_letter = letter;
		my_task->clean_messages = 0;
	}
	pfree(rows);
}

/* Rows that are late for some of their windows: what those are made of is being read. */
static void
wait_for_merge(void)
{
	Barrier    *barrier = my_keyed->barrier;
	Reason		reason;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
		if (my_task->program->keyed[i].rows->nlate > 0)
			break;
	if (i == my_task->program->nkeyed)
		return;
	reason_set(&reason, "55000", "windows to be put together", NULL, "The pipeline goes on by itself.");
	worker_set_waiting(&reason);
	ConditionVariablePrepareToSleep(&barrier->changed);
	while (barrier->merging)
		wait_for_change();
	ConditionVariableCancelSleep();
	worker_set_state(WORKER_RUNNING, NULL);
}

/* In place of a commit; see task_commit(). */
void
keyed_task_commit(CheckpointReason reason)
{
	Batch	   *batch = my_task->batch;
	bool		first;
	int			i;

	program_finish(my_task->program);
	ship_late_rows();
	FAULT_POINT("keyed-before-read-commit");
	checkpoint_commit();
	my_task->in_transaction = false;
	MemoryContextSwitchTo(my_task->transaction_cxt);

	if (my_keyed->barrier->merging)
		wait_for_merge();
	PG_TRY();
	{
		FAULT_POINT("keyed-before-apply");
		for (i = 0; i < my_task->program->nkeyed; i++)
			if (needs_origins(&my_task->program->keyed[i]))
				find_origins(my_task->program->keyed[i].rows);
		if (my_keyed->careful)
			apply_carefully();
		for (i = 0; i < my_task->program->nkeyed; i++)
			keyed_task_waiting(i);
		for (i = 0; i < my_task->program->nkeyed && !my_keyed->careful; i++)
			operator_apply(my_task->program->keyed[i].rows, my_keyed->area, &keyed_task_for_functions, keyed_task_consumer(i));
		ship_overtaken_rows();
		if (my_keyed->shipped.len > 0)
			barrier_log_append(my_keyed->area, &my_keyed->mine->log, my_keyed->shipped.data, my_keyed->shipped.len);
		FAULT_POINT("keyed-after-apply");
		for (i = 0; i < batch->nparts; i++)
		{
			TaskPartition *tp = &batch->parts[i];

			tp->committed = tp->position->next_offset;
			tp->committed_watermark = tp->position->watermark;
			tp->committed_record = tp->position->record;
			tp->committed_bad_run = tp->bad_run;
			my_task->was[i] = tp->committed;
		}
		for (i = 0; i < my_task->program->nkeyed; i++)
		{
			my_keyed->mine->late_rows[i] += my_task->program->keyed[i].rows->nlate;
			my_keyed->mine->op_rows[i] += my_task->program->keyed[i].rows->nrows;
		}
		program_reset(my_task->program);
		my_keyed->shipped_early = false;
		keyed_task_abort();
		keyed_task_publish();
		first = my_keyed->mine->begun_us == 0;
		my_keyed->mine->behind = batch->full || my_keyed->aligning;
		my_keyed->mine->rows_in += my_task->rows_in;
		my_keyed->mine->bytes_in += my_task->bytes;
		my_keyed->mine->bad_rows += my_task->bad_rows;
		if (first)
		{
			my_keyed->mine->begun_us = my_task->begun_us;
			wake_launcher();
		}
		counter_add(&my_task->slot->rows_in, my_task->rows_in);
		task_show_partitions(my_task, false);
		if (my_task->bad_rows > 0)
			task_show_letters();
		worker_apply_settings(my_task->row);
		MemoryContextReset(my_task->transaction_cxt);
		worker_set_state(WORKER_RUNNING, NULL);
	}
	PG_CATCH();
	{
		keyed_task_apply_failed(true);
	}
	PG_END_TRY();
	my_task->rows_in = 0;
	my_task->bytes = 0;
	my_task->bad_rows = 0;
	my_task->last_commit_us = monotonic_us();
	my_task->failures = 0;
}

/* ---- before the pipeline fails ---- */

/*
 * What this task has applied is right, and stands before the message at which
 * the pipeline is to fail: it is committed with what the others have.
 */
void
keyed_task_settle(void)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		until = monotonic_us() + (int64) streamproc_stop_timeout * 1000;
	int64		epoch = barrier->epoch;

	if (my_task->in_transaction)
		task_abort();
	batch_release(my_task->batch);
	if (my_keyed->mine->begun_us == 0)
		my_keyed->mine->begun_us = monotonic_us();
	wake_launcher();
	while (!state_abandoned(my_keyed->area) && !worker_stop_requested() && monotonic_us() < until &&
		   (barrier->epoch == epoch || barrier->committing))
	{
		if (barrier->phase >= BARRIER_STOP && my_keyed->mine->arrived < barrier->epoch)
			meet();
		else
			worker_wait(5);
	}
}

/* ---- barriers ---- */

/* Sleeps until the barrier changes; leaves where the run is over. */
static void
wait_for_change(void)
{
	worker_check();
	if (state_abandoned(my_keyed->area) || worker_stop_requested())
	{
		ConditionVariableCancelSleep();
		proc_exit(0);
	}
	(void) ConditionVariableTimedSleep(&my_keyed->barrier->changed, 100, PG_WAIT_EXTENSION);
}

static void
meet(void)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		epoch = barrier->epoch;
	bool		cut = false;

	keyed_task_release(false);
	FAULT_POINT("barrier-arrive");
	/* silence is part of what the watermark is made of */
	task_show_partitions(my_task, false);
	keyed_task_publish();
	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	my_keyed->mine->arrived = epoch;
	LWLockRelease(&barrier->lock);
	wake_launcher();

	ConditionVariablePrepareToSleep(&barrier->changed);
	while (barrier->epoch == epoch)
	{
		if (barrier->phase == BARRIER_CUT && !cut)
		{
			ConditionVariableCancelSleep();
			keyed_task_release(true);
			keyed_task_pass_sessions();
			PG_TRY();
			{
				FAULT_POINT("barrier-cut");
				barrier_cut_end(my_keyed->cut);
			}
			PG_CATCH();
			{
				keyed_task_apply_failed(true);
			}
			PG_END_TRY();
			cut = true;
			LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
			my_keyed->mine->copied = epoch;
			my_keyed->mine->begun_us = 0;
			LWLockRelease(&barrier->lock);
			wake_launcher();
			FAULT_POINT("barrier-copied");
			ConditionVariablePrepareToSleep(&barrier->changed);
			continue;
		}
		wait_for_change();
	}
	ConditionVariableCancelSleep();
	operator_epoch_ended();
}

/* A slice of the copy before the stop; the next one follows the next batch, or comes at once where there is none. */
static void
copy_early(void)
{
	Barrier    *barrier = my_keyed->barrier;
	bool		done = false;

	PG_TRY();
	{
		FAULT_POINT("barrier-early");
		done = barrier_cut_early(my_keyed->cut);
	}
	PG_CATCH();
	{
		keyed_task_apply_failed(true);
	}
	PG_END_TRY();
	if (!done)
	{
		SetLatch(MyLatch);
		return;
	}
	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	my_keyed->mine->early = barrier->epoch;
	LWLockRelease(&barrier->lock);
	wake_launcher();
}

/* Does a commit not come to its end, or is none begun because too much waits to be sent? */
static bool
commit_is_late(Reason *reason)
{
	if (my_keyed->barrier->committing)
	{
		reason_set(reason, "55000", "the commit of the epoch before", NULL,
				   "See what the launcher waits for in streamproc.stat_worker; the pipeline goes on by itself.");
		return true;
	}
	if (my_task->program->outbox == NULL || !outbox_full(my_task->pipeline_number))
		return false;
	worker_reason_outbox_full(reason);
	return true;
}

void
keyed_task_meet(void)
{
	Barrier    *barrier = my_keyed->barrier;
	Reason		reason;

	for (;;)
	{
		if (state_abandoned(my_keyed->area))
			proc_exit(0);
		if (barrier->phase == BARRIER_EARLY && my_keyed->mine->early < barrier->epoch)
			copy_early();
		if (barrier->phase >= BARRIER_STOP && my_keyed->mine->arrived < barrier->epoch)
			meet();
		if (my_keyed->mine->bytes_in < AHEAD_BYTES || !commit_is_late(&reason))
			break;
		/* backpressure: what is taken now waits for a commit that does not come */
		worker_set_waiting(&reason);
		my_keyed->waiting_shown = true;
		ConditionVariablePrepareToSleep(&barrier->changed);
		if (barrier->phase == BARRIER_RUN && commit_is_late(&reason))
			wait_for_change();
		ConditionVariableCancelSleep();
	}
	if (my_keyed->waiting_shown)
		worker_set_state(WORKER_RUNNING, NULL);
	my_keyed->waiting_shown = false;
}

void
keyed_task_leave(void)
{
	my_keyed->leaving = true;
}

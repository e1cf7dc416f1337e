/*-------------------------------------------------------------------------
 *
 * keyed_release.c
 *	  A task before the stop, and while all stand: rows that waited are answered, and
 *	  what another operator takes of them is passed on.
 *
 * Answers of window functions that are grouped again (a chain) do not leave the
 * task: they are collected, and when there are enough of them the row query of
 * the consumer runs over them, in a transaction that only reads, and its rows are applied.
 * All of it is part of the epoch that ends: state of both operators, and what they
 * give out, are committed together.
 *
 * Key groups: a group of the first operator is given back before any of the
 * second is owned.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "worker/keyed.h"

/* Rows that an operator has answered for another one, before that one takes them. */
#define PASS_BYTES		(1024 * 1024)

#define my_keyed		(my_task->keyed)

/* ---- what one operator answers, on its way into another ---- */

/* A group whose answers are more than one of these is passed on in several. */
typedef struct Passed
{
	StringInfoData bytes;		/* OverRecords */
	int64		rows;
} Passed;

static List *passed = NIL;		/* of Passed; the last one is filled */
static int	passed_from;		/* the operator that answers */
static MemoryContext passed_cxt = NULL;

static void
pass_on(const char *bytes, Size len)
{
	Passed	   *last = passed != NIL ? llast(passed) : NULL;

	if (last == NULL || last->bytes.len > PASS_BYTES)
	{
		MemoryContext old = MemoryContextSwitchTo(passed_cxt);

		last = palloc0(sizeof(Passed));
		initStringInfo(&last->bytes);
		passed = lappend(passed, last);
		MemoryContextSwitchTo(old);
	}
	appendBinaryStringInfo(&last->bytes, bytes, (int) len);
	last->rows++;
}

static bool
passed_enough(void)
{
	return list_length(passed) > 1;
}

/* The row query of the consumer; false: a row of these makes it fail, and nothing has happened. */
static bool
run_passed(int to, const char *bytes, Size len, int64 rows, ErrorData **edata)
{
	MemoryContext old = CurrentMemoryContext;
	volatile bool ran = true;

	PG_TRY();
	{
		checkpoint_begin();
		XactReadOnly = true;
		if (!program_lock(my_task->program))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("something that pipeline \"%s\" depends on has changed", my_task->pipeline->name)));
		program_run_passed(my_task->program, to, my_keyed->area, bytes, len, rows);
		checkpoint_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		*edata = CopyErrorData();
		if (!worker_error_of_row(*edata))
			PG_RE_THROW();
		FlushErrorState();
		checkpoint_abort();
		rows_reset(my_task->program->keyed[to].rows);
		ran = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return ran;
}

/* A row that the consumer's row query cannot take: it belongs to no single message. */
static void
ship_passed_letter(int to, const char *record, const ErrorData *edata)
{
	DeadLetter	letter = {0};

	if (!my_task->row->dead_letters)
	{
		Reason		reason;

		state_abandon(my_keyed->area);
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	letter.statement = my_task->program->keyed[to].spec->statement;
	letter.partition = -1;
	letter.offset = -1;
	letter.timestamp_ms = -1;
	letter.sqlstate = edata->sqlerrcode;
	letter.message = edata->message;
	letter.detail = edata->detail;
	letter.attempts = 1;
	keyed_task_for_functions.open();
	letter.output_row = program_passed_json(my_task->program, passed_from, record);
	shipped_letter(&my_keyed->shipped, &letter);
	keyed_task_for_functions.close(false);
	barrier_log_append(my_keyed->area, &my_keyed->mine->log, my_keyed->shipped.data, my_keyed->shipped.len);
	resetStringInfo(&my_keyed->shipped);
	my_keyed->mine->bad_rows++;
}

/* So many rows into the consumer; where one of them makes it fail each half alone. */
static void
pass_rows(int to, const char *bytes, Size len, int64 rows)
{
	KeyedNode  *node = &my_task->program->keyed[to];
	ErrorData  *edata;
	Size		half = 0;
	int64		n;

	check_stack_depth();
	if (run_passed(to, bytes, len, rows, &edata))
	{
		if (node->rows->nlate > 0)
			elog(ERROR, "operator %d answered a row behind its horizon", passed_from);
		operator_apply(node->rows, my_keyed->area, &keyed_task_for_functions);
		my_keyed->mine->op_rows[to] += node->rows->nrows;
		rows_reset(node->rows);
		return;
	}
	if (rows == 1)
	{
		ship_passed_letter(to, bytes, edata);
		return;
	}
	for (n = 0; n < rows / 2; n++)
		half += ((const OverRecord *) (bytes + half))->size;
	FreeErrorData(edata);
	pass_rows(to, bytes, half, rows / 2);
	pass_rows(to, bytes + half, len - half, rows - rows / 2);
}

static void
pass_all(void)
{
	int			to = my_task->program->keyed[passed_from].consumer;
	ListCell   *lc;

	FAULT_POINT("over-pass");
	foreach(lc, passed)
	{
		Passed	   *some = lfirst(lc);

		pass_rows(to, some->bytes.data, (Size) some->bytes.len, some->rows);
	}
	passed = NIL;
	MemoryContextReset(passed_cxt);
}

static const OverConsumer consumer = {passed_enough, pass_all};

/* Where answers are passed on plans will run: they are made anew now, not when half of the work is done. */
static void
renew_plans(void)
{
	bool		chained = false;
	bool		valid;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
		chained |= my_task->program->keyed[i].consumer >= 0;
	if (!chained)
		return;
	checkpoint_begin();
	valid = program_lock(my_task->program);
	checkpoint_abort();
	if (valid)
		return;
	task_begin();
	task_abort();
}

/* Rows that the watermark has passed are answered, our share of the key groups. */
void
keyed_task_release(bool standing)
{
	Barrier    *barrier = my_keyed->barrier;
	TimestampTz horizon[STATE_MAX_OPERATORS];
	bool		any = false;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
		any |= my_task->program->keyed[i].spec->waits && keyed_released_standing(&my_task->program->keyed[i]) == standing;
	if (!any)
		return;
	if (!standing)
		renew_plans();
	keyed_task_settings();
	LWLockAcquire(&barrier->lock, LW_SHARED);
	memcpy(horizon, barrier->horizon, sizeof(horizon));
	LWLockRelease(&barrier->lock);
	PG_TRY();
	{
		for (i = 0; i < my_task->program->nkeyed; i++)
		{
			OperatorSpec *spec = my_task->program->keyed[i].spec;
			int			to = my_task->program->keyed[i].consumer;

			if (!spec->waits || horizon[i] == DT_NOBEGIN || keyed_released_standing(&my_task->program->keyed[i]) != standing)
				continue;
			if (to >= 0)
			{
				if (passed_cxt == NULL)
					passed_cxt = AllocSetContextCreate(my_task->cxt, "streamproc rows passed on", ALLOCSET_DEFAULT_SIZES);
				passed_from = i;
				rows_watermark(my_task->program->keyed[to].rows, WATERMARK_NONE);
			}
			over_emit = to >= 0 ? pass_on : keyed_task_ship;
			over_release(spec, my_keyed->area, horizon[i], my_task->slot->task, barrier->ntasks, &keyed_task_for_functions,
						 to >= 0 ? &consumer : NULL, standing);
		}
		FAULT_POINT("over-released");
	}
	PG_CATCH();
	{
		keyed_task_apply_failed(true);
	}
	PG_END_TRY();
}

/*
 * Sessions go on in later panes, or have ended, our share of the key groups.  What
 * throws there comes again: two states that cannot be put together.
 */
void
keyed_task_pass_sessions(void)
{
	int			i;

	PG_TRY();
	{
		for (i = 0; i < my_task->program->nkeyed; i++)
		{
			OperatorSpec *spec = my_task->program->keyed[i].spec;

			if (spec->window == OPERATOR_SESSION)
				session_pass(spec, my_keyed->area, my_task->slot->task, my_keyed->barrier->ntasks, &keyed_task_for_functions);
		}
		FAULT_POINT("session-passed");
	}
	PG_CATCH();
	{
		keyed_task_apply_failed(false);
	}
	PG_END_TRY();
}

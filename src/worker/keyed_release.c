/*-------------------------------------------------------------------------
 *
 * keyed_release.c
 *	  A task before the stop, and while all stand: rows that waited are answered.  And
 *	  what one operator answers is passed on to another one that takes it.
 *
 * Answers of window functions, and rows of joins, that another operator takes (a chain) do not leave
 * the task: they are collected, and when there are enough of them, or the task is to
 * stop, the row query of the consumer runs over them, in a transaction that only
 * reads, and its rows are applied.  All of it is part of the epoch that ends:
 * state of both operators, and what they give out, are committed together.
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
/* So much of it may come before anybody can be asked to take it, also where state_memory is less. */
#define PASS_ALWAYS		(8 * PASS_BYTES)
/* Rows that are passed on together where an aggregate of the consumer may throw. */
#define CAREFUL_ROWS	64

#define my_keyed		(my_task->keyed)

/* ---- what one operator answers, on its way into another ---- */

/* Answers of a key group that are more than one of these are passed on in several. */
typedef struct Passed
{
	StringInfoData bytes;		/* OverRecords */
	int64		rows;
} Passed;

/* What an operator has answered and its consumer has not taken. */
typedef struct Passing
{
	MemoryContext cxt;			/* of what follows */
	List	   *passed;			/* of Passed; the last one is filled */
	Size		bytes;
} Passing;

static Passing passing[STATE_MAX_OPERATORS];
static int	passed_from;		/* the operator that is asked for more */
static bool applying_passed = false;	/* they change the state of the consumer */

static void
pass_on(const char *bytes, Size len)
{
	Passing    *from = &passing[((const OverRecord *) bytes)->op];
	Passed	   *last = from->passed != NIL ? llast(from->passed) : NULL;

	/* one key may have more than anybody could hold */
	if (from->bytes + len > Max(my_keyed->area->root->limit, PASS_ALWAYS))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("rows that one key of operator %u gives another operator do not fit into state_memory", ((const OverRecord *) bytes)->op),
				 errhint("Give it more: SELECT streamproc.alter_pipeline(name, state_memory => ...), then start it. Nothing is lost.")));
	if (last == NULL || last->bytes.len > PASS_BYTES)
	{
		MemoryContext old = MemoryContextSwitchTo(from->cxt);

		last = palloc0(sizeof(Passed));
		initStringInfo(&last->bytes);
		from->passed = lappend(from->passed, last);
		MemoryContextSwitchTo(old);
	}
	appendBinaryStringInfo(&last->bytes, bytes, (int) len);
	from->bytes += len;
	last->rows++;
}

static bool
passed_enough(void)
{
	return passing[passed_from].bytes > PASS_BYTES;
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
		/* nothing that is passed on is late, see watermark_of() in keyed_fire.c */
		rows_watermark(my_task->program->keyed[to].rows, WATERMARK_NONE);
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

/* A row of an operator that nobody can take: it belongs to no single message. */
static void
ship_letter(const char *record, const ErrorData *edata)
{
	int			from = ((const OverRecord *) record)->op;
	DeadLetter	letter = {0};

	if (!my_task->row->dead_letters)
	{
		Reason		reason;

		state_abandon(my_keyed->area);
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	letter.statement = my_task->program->keyed[from].spec->statement;
	letter.partition = -1;
	letter.offset = -1;
	letter.timestamp_ms = -1;
	letter.sqlstate = edata->sqlerrcode;
	letter.message = edata->message;
	letter.detail = edata->detail;
	letter.attempts = 1;
	keyed_task_for_functions.open();
	letter.output_row = program_passed_json(my_task->program, from, record);
	shipped_letter(&my_keyed->shipped, &letter);
	keyed_task_for_functions.close(false);
	barrier_log_append(my_keyed->area, &my_keyed->mine->log, my_keyed->shipped.data, my_keyed->shipped.len);
	resetStringInfo(&my_keyed->shipped);
	my_keyed->mine->bad_rows++;
}

/* In over_refuse: a pair for which the condition of a join throws. */
static void
refuse_pair(const char *record, ErrorData *edata)
{
	if (!worker_error_of_row(edata))
		ReThrowError(edata);
	keyed_task_for_functions.close(true);
	ship_letter(record, edata);
	keyed_task_for_functions.open();
}

/* The rows of the row query into the state, all of them or none; NULL: all, else the error. */
static ErrorData *
apply_carefully(OperatorRows *rows)
{
	CarefulRow *list = palloc(sizeof(CarefulRow) * Max(rows->nrows, 1));
	OperatorRow *row;
	int			failed;
	int			n = 0;
	int			g;

	for (g = 0; g < STATE_GROUPS; g++)
		for (row = rows->first[g]; row != NULL; row = row->next)
			list[n++] = (CarefulRow) {rows->spec, row, 0};
	return operator_apply_carefully(list, n, my_keyed->area, &keyed_task_for_functions, CurrentMemoryContext, &failed);
}

/* NULL: they are in the state, else why one of them, and so none, can be */
static ErrorData *
apply_passed(int to)
{
	OperatorRows *rows = my_task->program->keyed[to].rows;
	ErrorData  *edata = NULL;

	keyed_task_waiting(to);
	if (my_task->pipeline->pass_carefully && rows->spec->over == NULL)
		edata = apply_carefully(rows);
	else
	{
		/* what only waits has no functions that could fail, but its filter */
		applying_passed = rows->spec->over == NULL;
		operator_apply(rows, my_keyed->area, &keyed_task_for_functions, NULL);
		applying_passed = false;
	}
	/* when it came, or, where it waits, when it was put into its pane */
	if (rows->nlate > 0)
		elog(ERROR, "operator %d answered a row behind its horizon", passed_from);
	if (edata != NULL && !worker_error_of_row(edata))
		ReThrowError(edata);
	if (edata == NULL)
		my_keyed->mine->op_rows[to] += rows->nrows;
	rows_reset(rows);
	return edata;
}

/* So many rows into the consumer; where one of them makes it fail each half alone. */
static void
pass_rows(int to, const char *bytes, Size len, int64 rows)
{
	ErrorData  *edata = NULL;
	Size		half = 0;
	int64		n;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	/* what is to be put back is remembered row by row */
	if ((!my_task->pipeline->pass_carefully || rows <= CAREFUL_ROWS) && run_passed(to, bytes, len, rows, &edata))
	{
		edata = apply_passed(to);
		if (edata == NULL)
			return;
	}
	if (rows == 1)
	{
		ship_letter(bytes, edata);
		return;
	}
	for (n = 0; n < rows / 2; n++)
		half += ((const OverRecord *) (bytes + half))->size;
	if (edata != NULL)
		FreeErrorData(edata);
	pass_rows(to, bytes, half, rows / 2);
	pass_rows(to, bytes + half, len - half, rows - rows / 2);
}

static void
pass_all(void)
{
	int			to = my_task->program->keyed[passed_from].consumer;
	Passing    *from = &passing[passed_from];
	ListCell   *lc;

	if (from->passed == NIL)
		return;
	FAULT_POINT("over-pass");
	foreach(lc, from->passed)
	{
		Passed	   *some = lfirst(lc);

		pass_rows(to, some->bytes.data, (Size) some->bytes.len, some->rows);
	}
	from->passed = NIL;
	from->bytes = 0;
	MemoryContextReset(from->cxt);
}

void
keyed_task_waiting(int op)
{
	OperatorRows *rows = my_task->program->keyed[op].rows;

	rows->horizon = &my_keyed->barrier->horizon[op];
	rows->pace = &my_keyed->barrier->pace;
}

bool
keyed_task_applies_passed(void)
{
	return applying_passed;
}

const OperatorConsumer *
keyed_task_consumer(int op)
{
	static const OperatorConsumer consumer = {passed_enough, pass_all};

	over_refuse = refuse_pair;
	if (my_task->program->keyed[op].consumer < 0)
	{
		over_emit = keyed_task_ship;
		return NULL;
	}
	if (passing[op].cxt == NULL)
		passing[op].cxt = AllocSetContextCreate(my_task->cxt, "streamproc rows passed on", ALLOCSET_DEFAULT_SIZES);
	passed_from = op;
	over_emit = pass_on;
	return &consumer;
}

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
	MemoryContext cxt;
	MemoryContext old;
	int			i;

	for (i = 0; i < my_task->program->nkeyed; i++)
		any |= (my_task->program->keyed[i].spec->waits || my_task->program->keyed[i].consumer >= 0) && keyed_released_standing(&my_task->program->keyed[i]) == standing;
	if (!any)
		return;
	if (!standing)
		renew_plans();
	keyed_task_settings();
	cxt = AllocSetContextCreate(my_task->cxt, "streamproc release", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	LWLockAcquire(&barrier->lock, LW_SHARED);
	memcpy(horizon, barrier->horizon, sizeof(horizon));
	LWLockRelease(&barrier->lock);
	PG_TRY();
	{
		for (i = 0; i < my_task->program->nkeyed; i++)
		{
			OperatorSpec *spec = my_task->program->keyed[i].spec;
			const OperatorConsumer *consumer;

			if (keyed_released_standing(&my_task->program->keyed[i]) != standing)
				continue;
			consumer = keyed_task_consumer(i);
			if (spec->waits && horizon[i] != DT_NOBEGIN)
				over_release(spec, my_keyed->area, horizon[i], my_task->slot->task, barrier->ntasks, &keyed_task_for_functions, consumer,
							 standing);
			/* of a join also what came with the batches of the epoch */
			if (consumer != NULL)
				consumer->work();
		}
		FAULT_POINT("over-released");
	}
	PG_CATCH();
	{
		keyed_task_apply_failed(true);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
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

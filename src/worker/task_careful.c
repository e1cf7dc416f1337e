/*-------------------------------------------------------------------------
 *
 * task_careful.c
 *	  Running a batch of which some message is bad: find it, keep the rest.
 *
 * WHOSE ERROR IS IT?
 *	  A message is to blame only if its error comes again when the message runs
 *	  alone, if the statements run without error on no rows at all, and if the
 *	  error is of a kind that a row can cause (worker_error_of_row).  Then it
 *	  becomes a dead letter, or the pipeline stops before it.  What passes by
 *	  itself is tried again; anything else stops the pipeline at that place.
 *
 * PIECES
 *	  The batch is cut into pieces, in its order.  Each runs in a subtransaction,
 *	  so that only the rows of a piece that fails run twice, and many pieces
 *	  share a commit: up to CHECKPOINT_MAX_SUBS subtransactions a transaction.
 *	  Deferred constraints are checked at the end of each piece.  Where that would
 *	  change when other constraints are checked (SET CONSTRAINTS cannot be taken
 *	  back), and where the commit itself fails, a piece is a transaction of its own.
 *
 *	  After a failure the message that the scan had come to, or for which a foreign
 *	  key was being checked, is most likely the culprit: the piece is cut before and
 *	  behind it.  If the guess was wrong (rows were sorted, or written later), what
 *	  fails is halved until one message is left.  Either way a message runs alone
 *	  only when all those before it have passed: its foreign key may point at a row
 *	  of theirs.
 *
 *	  How large?  A piece costs PIECE_US however small it is, a failure costs a
 *	  share of a piece.  The sum is least at
 *	  sqrt(PIECE_US / (share * time of a row * frequency of errors)).
 *
 * The stack of pieces covers what is not committed yet.  A transaction that
 * fails as a whole sets it back to what it was at its begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "worker/task.h"

#define PIECE_LEAST		16
/* subtransaction, start and end of the statements, share of a commit, in us; measured: 20 and 150 are both worse */
#define PIECE_US		60.0
/* errors per message when the first one comes, and over how many messages they are counted */
#define FIRST_RATE		0.001
#define RATE_MESSAGES	2000.0
/*
 * What the failure of a piece costs, in runs of it: the scan stops half-way, foreign keys are checked when all rows are
 * written, and halving runs it again and again
 */
#define SHARE_SCAN		0.5
#define SHARE_CHECK		1.0
#define SHARE_HALVING	3.0
/* so many wrong guesses, and failed checks do not tell the message */
#define CHECK_MISSES	3
/* deep enough for the halvings of a batch, two pieces each */
#define MAX_PIECES		64

typedef struct Piece
{
	int			from;			/* messages from..to-1 */
	int			to;
	bool		fresh;			/* may be cut to the usual size */
	bool		no_guess;		/* the guess was wrong here: halve */
	bool		failed;			/* one message: has failed before, or is guessed to have */
	bool		guessed;		/* the latter */
	bool		by_check;		/* by program_checked_message() */
} Piece;

typedef struct Pieces
{
	int			n;
	Piece		stack[MAX_PIECES];	/* the first one on top, at n - 1 */
} Pieces;

static Pieces pieces;
static bool share_commit;		/* many pieces a transaction, each in a subtransaction */
static bool empty_is_fine;		/* the statements ran without error on no rows, in this call */
static int	fail_at;			/* the message at which the pipeline fails, -1: none; pieces end before it */
static ErrorData *blame;		/* why */
static bool failed_alone;		/* a commit of positions alone, once, in this call */

static void
push(int from, int to, bool fresh, bool no_guess)
{
	if (from >= to)
		return;
	if (pieces.n == MAX_PIECES)
		elog(ERROR, "too many pieces of a batch");
	pieces.stack[pieces.n++] = (Piece) {from, to, fresh, no_guess, false, false, false};
}

static int
piece_size(void)
{
	double		size = sqrt(PIECE_US / (my_task->failure_share * Max(my_task->row_us, 0.01) * Max(my_task->error_rate, 1e-7)));

	return (int) Max(Min(size, my_task->batch->max_rows), PIECE_LEAST);
}

/* The piece on top, no larger than pieces are now, and no further than max_consecutive_errors allows. */
static Piece
next_piece(void)
{
	Piece		top = pieces.stack[pieces.n - 1];
	int			to = top.to;

	if (top.fresh)
		to = Min(to, top.from + piece_size());
	to = batch_limit(my_task->batch, top.from, to);
	if (to < top.to)
	{
		pieces.n--;
		push(to, top.to, top.fresh, top.no_guess);
		push(top.from, to, top.fresh, top.no_guess);
	}
	return pieces.stack[pieces.n - 1];
}

/* One message, known to be bad: there is nothing to run. */
static bool
is_letter(const Piece *piece)
{
	return piece->to - piece->from == 1 && my_task->batch->messages[piece->from].letter >= 0;
}

static void
run_piece(const Piece *piece)
{
	int64		begun = cpu_us();
	int			n = piece->to - piece->from;

	if (is_letter(piece))
		return;
	FAULT_POINT("task-careful");
	program_defer(my_task->program);
	multi_insert_rows = MULTI_INSERT_CAREFUL;
	task_execute(piece->from, piece->to);
	program_finish(my_task->program);
	if (n > 1)
		my_task->row_us += ((double) (cpu_us() - begun) / n - my_task->row_us) * Min(n / RATE_MESSAGES, 0.1);
}

/* The rows of the piece on top stand in the open transaction. */
static void
piece_passed(Piece piece)
{
	int			n = piece.to - piece.from;

	pieces.n--;
	task_passed(piece.from, piece.to);
	if (is_letter(&piece))
		return;
	if (piece.guessed)
	{
		/* wrongly: what failed is behind it */
		if (piece.by_check)
			my_task->check_misses++;
		if (pieces.n > 0)
			pieces.stack[pieces.n - 1].no_guess = true;
	}
	my_task->clean_messages += n;
	my_task->error_rate -= my_task->error_rate * Min(n / RATE_MESSAGES, 0.5);
}

/* The pipeline is to fail at this message: what stands before it still has to pass. */
static void
end_before(int i, const ErrorData *edata)
{
	MemoryContext old = MemoryContextSwitchTo(my_task->cxt);
	ErrorData  *copy = palloc(sizeof(ErrorData));
	Piece		top;

	*copy = *edata;
	copy->message = pstrdup(edata->message);
	copy->detail = edata->detail ? pstrdup(edata->detail) : NULL;
	copy->hint = NULL;
	MemoryContextSwitchTo(old);
	blame = copy;
	fail_at = i;
	top = pieces.stack[pieces.n - 1];
	pieces.n = 0;
	push(top.from, i, top.fresh, top.no_guess);
}

/* A message is to blame: it is a dead letter now, or the pipeline fails at it.  The piece on top holds it. */
static void
blame_message(int i, const ErrorData *edata, int statement)
{
	my_task->clean_messages = 0;
	my_task->error_rate += 1 / RATE_MESSAGES;
	if (!worker_error_of_row(edata) || (!my_task->row->dead_letters && my_task->batch->retried == NULL))
		end_before(i, edata);
	else
		batch_add_letter(my_task->batch, i, edata, statement);
}

/* Which message is most likely to blame for the failure of the piece? -1: unknown */
static int
guess_message(const Piece *piece, const StreamPlace *place, bool *by_check)
{
	int			nth = my_task->check_misses < CHECK_MISSES ? program_checked_message(my_task->program) : -1;
	int			i;

	*by_check = nth >= 0;
	if (nth < 0)
		return batch_message_of_place(my_task->batch, place);
	for (i = piece->from; i < piece->to; i++)
		if (my_task->batch->messages[i].letter < 0 && nth-- == 0)
			return i;
	return -1;
}

/* Something before a guessed message has failed, so that one has not, as far as is known. */
static void
take_back_guess(Piece *piece)
{
	if (!piece->guessed)
		return;
	if (piece->by_check)
		my_task->check_misses++;
	piece->failed = piece->guessed = piece->by_check = false;
}

/* The piece on top has failed. */
static void
piece_failed(const ErrorData *edata, const StreamPlace *place, int statement)
{
	Piece		piece = pieces.stack[pieces.n - 1];
	int			from = piece.from;
	int			to = piece.to;
	bool		by_check = false;
	int			guess = piece.no_guess ? -1 : guess_message(&piece, place, &by_check);

	if (pieces.n > 1)
		take_back_guess(&pieces.stack[pieces.n - 2]);
	if (to - from == 1)
	{
		if (!piece.failed)
		{
			pieces.stack[pieces.n - 1].failed = true;	/* once more */
			return;
		}
		if (piece.guessed)
			my_task->failure_share = piece.by_check ? SHARE_CHECK : SHARE_SCAN;
		if (piece.by_check)
			my_task->check_misses = 0;
		blame_message(from, edata, statement);
	}
	else if (guess >= from && guess < to)
	{
		pieces.n--;
		/* what is behind it goes with the messages that have not run yet, which come next */
		if (pieces.n > 0 && pieces.stack[pieces.n - 1].fresh)
			pieces.stack[pieces.n - 1].from = guess + 1;
		else
			push(guess + 1, to, piece.fresh, false);
		push(guess, guess + 1, false, false);
		pieces.stack[pieces.n - 1].failed = true;
		pieces.stack[pieces.n - 1].guessed = true;
		pieces.stack[pieces.n - 1].by_check = by_check;
		push(from, guess, false, true);
	}
	else
	{
		int			middle = from + (to - from) / 2;

		my_task->failure_share = SHARE_HALVING;
		pieces.n--;
		push(middle, to, false, piece.no_guess);
		push(from, middle, false, piece.no_guess);
	}
}

/*
 * One piece in a subtransaction; the error, or NULL.  What passes by itself,
 * and what is more than an ERROR, is thrown on: the whole transaction has to go.
 */
static ErrorData *
try_piece(const Piece *piece, StreamPlace *place, int *statement)
{
	ProgramMark mark = program_mark(my_task->program);
	ErrorData  *volatile edata = NULL;
	CheckpointSub sub;

	checkpoint_sub_begin(&sub);
	PG_TRY();
	{
		run_piece(piece);
		checkpoint_sub_commit(&sub);
	}
	PG_CATCH();
	{
		*place = stream_place;
		*statement = my_task->program->running;
		MemoryContextSwitchTo(my_task->cxt);
		edata = CopyErrorData();
		if (worker_error_passes(edata->sqlerrcode) || edata->elevel > ERROR)
			PG_RE_THROW();
		FlushErrorState();
		stream_feeds = NULL;
		stream_nfeeds = 0;
		checkpoint_sub_abort(&sub);
	}
	PG_END_TRY();
	if (edata != NULL)
		program_forget(my_task->program, mark);
	return edata;
}

/*
 * Pieces in the open transaction, and its commit.  True: before a message is
 * blamed, it must be known that the statements run on no rows.
 */
static bool
run_pieces(void)
{
	bool		ask_empty = false;

	while (pieces.n > 0 && !ask_empty && my_task->batch->limit_part < 0)
	{
		Piece		piece = next_piece();
		ErrorData  *edata = NULL;
		StreamPlace place;
		int			statement;

		CHECK_FOR_INTERRUPTS();
		if (is_letter(&piece) || !share_commit)
			run_piece(&piece);
		else if (checkpoint_subs() < CHECKPOINT_MAX_SUBS)
			edata = try_piece(&piece, &place, &statement);
		else
			break;
		if (edata == NULL)
		{
			piece_passed(piece);
			if (!share_commit)
				break;
			continue;
		}
		ask_empty = piece.to - piece.from == 1 && !empty_is_fine;
		if (!ask_empty)
			piece_failed(edata, &place, statement);
		FreeErrorData(edata);
	}
	task_commit(CHECKPOINT_CAREFUL);
	return ask_empty;
}

/*
 * Do the statements run on no rows?  If not, no row is to blame, and the
 * pipeline stops or waits.  In a transaction that is given up.
 */
static void
check_empty_batch(void)
{
	ErrorData  *volatile edata = NULL;
	MemoryContext cxt = my_task->cxt;

	PG_TRY();
	{
		task_begin();
		batch_select(my_task->batch, 0, 0);
		stream_feeds = my_task->batch->feeds;
		stream_nfeeds = my_task->batch->nsources;
		program_run_empty(my_task->program);
		program_finish(my_task->program);
	}
	PG_CATCH();
	{
		edata = task_take_error(cxt);
	}
	PG_END_TRY();
	task_abort();
	MemoryContextSwitchTo(cxt);
	if (edata != NULL)
		task_retry_or_fail(edata);
	else
		empty_is_fine = true;
}

/*
 * The batch in memory.  True: all of it is committed.  False: the task is to
 * stop, or, with dead letters that run again, they are to be read anew.
 */
bool
task_run_carefully(void)
{
	Batch	   *batch = my_task->batch;
	MemoryContext cxt = my_task->cxt;	/* outlives the transaction, and with it the error */
	bool		again;

	if (my_task->row_us == 0)
	{
		my_task->row_us = 1;
		my_task->error_rate = FIRST_RATE;
		my_task->failure_share = SHARE_SCAN;
	}
	pieces.n = 0;
	push(0, batch->nmessages, true, false);
	empty_is_fine = false;
	failed_alone = false;
	share_commit = true;
	fail_at = -1;

	do
	{
		ErrorData  *volatile edata = NULL;
		volatile bool ask_empty = false;
		Pieces		before = pieces;
		int			fail_at_before = fail_at;
		StreamPlace place = {NULL, 0};
		int			statement = 0;

		again = false;
		PG_TRY();
		{
			task_begin();
			/* another program, if something has changed */
			if (!program_may_defer(my_task->program))
				share_commit = false;
			if (batch->nmessages == 0)
				batch_advance(batch, 0, 0);
			if (share_commit)
				program_begin_pieces(my_task->program);
			ask_empty = run_pieces();
		}
		PG_CATCH();
		{
			place = stream_place;
			statement = my_task->program->running;
			edata = task_take_error(cxt);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(cxt);

		if (edata != NULL)
		{
			task_abort();
			MemoryContextSwitchTo(cxt);
			pieces = before;
			fail_at = fail_at_before;
			if (pieces.n == 0 && !failed_alone && !worker_error_passes(edata->sqlerrcode))
			{
				/* no message is to blame, and the pipeline stops only if it comes again */
				failed_alone = again = true;
				task_pause_for_error(edata);
				FreeErrorData(edata);
			}
			else if (worker_error_passes(edata->sqlerrcode) || pieces.n == 0)
			{
				task_retry_or_fail(edata);
				again = pieces.n == 0;
				if (worker_stop_requested() || batch->retried != NULL)
				{
					task_forget_batch();
					return false;
				}
			}
			else if (share_commit)
			{
				/* thrown by none of the pieces: by the commit, say.  Find out which with a commit for each */
				share_commit = false;
				FreeErrorData(edata);
			}
			else
			{
				Piece		piece = next_piece();

				if (piece.to - piece.from == 1 && !empty_is_fine)
					ask_empty = true;
				else
					piece_failed(edata, &place, statement);
				FreeErrorData(edata);
			}
		}
		if (batch->limit_part >= 0)
			task_fail_at_limit();
		if (ask_empty)
			check_empty_batch();
		my_task->begun_us = monotonic_us();
	} while (pieces.n > 0 || again);
	if (fail_at >= 0)
		task_fail_at(fail_at, blame);
	return true;
}

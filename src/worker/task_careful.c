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
 *	  Where constraints are deferred a piece is a transaction of its own: they
 *	  have to be checked at its end, and SET CONSTRAINTS cannot be taken back.
 *
 *	  A piece that fails is cut at the message that the scan had come to, most
 *	  likely the culprit: what is before it, the message, what is behind it.
 *	  Where that was wrong (rows were sorted, or written later) pieces are
 *	  halved.  The size of pieces follows the frequency of errors: a quarter
 *	  after each, and a quarter more after each success.
 *
 * The stack of pieces covers what is not committed yet.  A transaction that
 * fails as a whole sets it back to what it was at its begin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "worker/task.h"

#define PIECE_LEAST		32
#define PIECE_FIRST		256
/* deep enough for halvings of a batch, two pieces each, and the three of a guess */
#define MAX_PIECES		64

typedef struct Piece
{
	int			from;			/* messages from..to-1 */
	int			to;
	bool		fresh;			/* not run yet, may be cut to the usual size */
	bool		no_guess;		/* the guess was wrong here: halve */
	int			alone;			/* failures of one message alone, or where it was the guess */
} Piece;

typedef struct Pieces
{
	int			n;
	Piece		stack[MAX_PIECES];	/* the first one on top, at n - 1 */
} Pieces;

static Pieces pieces;
static bool share_commit;		/* many pieces a transaction, each in a subtransaction */
static bool empty_is_fine;		/* the statements ran without error on no rows, in this call */
static ErrorData *blame;		/* why the pipeline is to fail */

static void
push(int from, int to, bool fresh, bool no_guess, int alone)
{
	if (from >= to)
		return;
	if (pieces.n == MAX_PIECES)
		elog(ERROR, "too many pieces of a batch");
	pieces.stack[pieces.n++] = (Piece) {from, to, fresh, no_guess, alone};
}

/* The piece on top, no larger than pieces are now, and no further than max_consecutive_errors allows. */
static Piece
next_piece(void)
{
	Piece		top = pieces.stack[pieces.n - 1];
	int			to = batch_limit(my_task->batch, top.from, top.to);

	if (top.fresh)
		to = Min(to, top.from + my_task->piece_size);
	if (to < top.to)
	{
		pieces.n--;
		push(to, top.to, top.fresh, top.no_guess, 0);
		push(top.from, to, top.fresh, top.no_guess, top.alone);
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
	if (is_letter(piece))
		return;
	FAULT_POINT("task-careful");
	task_execute(piece->from, piece->to);
	program_finish(my_task->program);
}

static void
piece_passed(Piece piece)
{
	pieces.n--;
	task_passed(piece.from, piece.to);
	if (is_letter(&piece))
		return;
	my_task->clean_messages += piece.to - piece.from;
	if (piece.fresh)
		my_task->piece_size = Min(my_task->piece_size + my_task->piece_size / 4 + 1, my_task->batch->max_rows);
}

/*
 * The piece on top has failed: cuts it, or, where one message is left, says
 * what becomes of it.  -1: go on; else the message at which the pipeline fails.
 */
static int
piece_failed(const ErrorData *edata, const StreamPlace *place, int statement)
{
	Piece		piece = pieces.stack[pieces.n - 1];
	int			guess = piece.no_guess ? -1 : batch_message_of_place(my_task->batch, place);

	my_task->clean_messages = 0;
	if (piece.fresh)
		my_task->piece_size = Max(PIECE_LEAST, my_task->piece_size / 4);
	if (piece.to - piece.from == 1)
	{
		pieces.stack[pieces.n - 1].alone++;
		if (piece.alone == 0)
			return -1;			/* once more */
		if (!worker_error_of_row(edata) || (!my_task->row->dead_letters && my_task->batch->retried == NULL))
			return piece.from;
		batch_add_letter(my_task->batch, piece.from, edata, statement);
		return -1;
	}
	pieces.n--;
	if (guess >= piece.from && guess < piece.to)
	{
		push(guess + 1, piece.to, piece.fresh, false, 0);
		push(guess, guess + 1, false, false, 1);
		push(piece.from, guess, false, true, 0);
	}
	else
	{
		int			middle = piece.from + (piece.to - piece.from) / 2;

		push(middle, piece.to, false, piece.no_guess, 0);
		push(piece.from, middle, false, piece.no_guess, 0);
	}
	return -1;
}

/*
 * One piece in a subtransaction; the error, or NULL.  What passes by itself,
 * and what is more than an ERROR, is thrown on: the whole transaction has to go.
 */
static ErrorData *
try_piece(const Piece *piece, StreamPlace *place, int *statement)
{
	uint64		rows_out = my_task->program->rows_out;
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
		program_forget(my_task->program, rows_out);
	}
	PG_END_TRY();
	return edata;
}

/*
 * Pieces in the open transaction, and its commit.  Returns the message at which
 * the pipeline fails after it, else -1.  *ask_empty: before a message is
 * blamed, it must be known that the statements run on no rows.
 */
static int
run_pieces(bool *ask_empty)
{
	int			fail_at = -1;

	while (pieces.n > 0 && fail_at < 0 && my_task->batch->limit_part < 0)
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
		*ask_empty = piece.to - piece.from == 1 && !empty_is_fine;
		if (!*ask_empty)
			fail_at = piece_failed(edata, &place, statement);
		if (fail_at >= 0)
			blame = edata;
		else
			FreeErrorData(edata);
		if (*ask_empty)
			break;
	}
	task_commit(CHECKPOINT_CAREFUL);
	return fail_at;
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
	Batch	   *batch;
	MemoryContext cxt;

	batch = my_task->batch;
	cxt = my_task->cxt;				/* outlives the transaction, and with it the error */
	if (my_task->piece_size == 0)
		my_task->piece_size = PIECE_FIRST;
	pieces.n = 0;
	push(0, batch->nmessages, true, false, 0);
	empty_is_fine = false;
	share_commit = !my_task->program->has_deferred;

	do
	{
		ErrorData  *volatile edata = NULL;
		volatile int fail_at = -1;
		volatile bool ask_empty = false;
		Pieces		before = pieces;
		StreamPlace place = {NULL, 0};
		int			statement = 0;

		PG_TRY();
		{
			bool		ask = false;

			task_begin();
			/* another program, if something has changed */
			if (my_task->program->has_deferred)
				share_commit = false;
			if (batch->nmessages == 0)
				batch_advance(batch, 0, 0);
			fail_at = run_pieces(&ask);
			ask_empty = ask;
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
			if (worker_error_passes(edata->sqlerrcode) || pieces.n == 0)
			{
				task_retry_or_fail(edata);
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
					fail_at = piece_failed(edata, &place, statement);
				if (fail_at >= 0)
					blame = edata;
				else
					FreeErrorData(edata);
			}
		}
		if (batch->limit_part >= 0)
			task_fail_at_limit();
		if (fail_at >= 0)
			task_fail_at(fail_at, blame);
		if (ask_empty)
			check_empty_batch();
		my_task->begun_us = monotonic_us();
	} while (pieces.n > 0);
	return true;
}

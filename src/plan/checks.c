/*-------------------------------------------------------------------------
 *
 * checks.c
 *	  To which message do the constraint checks of a batch belong that fail?
 *
 * Foreign keys are checked after the statement, deferred ones before the
 * commit, for one row after the other, in the order in which they were
 * written; by then the scan is long at its end, and an error does not say
 * which row it was about.  Each check runs a query of its own: so they are
 * counted, and the number of the failing one, divided by the checks that a
 * message had in the last run that passed, is the number of the message.
 *
 * A guess: messages have different numbers of rows, NULL keys run no query,
 * triggers run others, and deferred keys of several statements come statement
 * by statement.  Whoever uses it must see that message fail alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "plan/plan.h"

/* a run of fewer messages says little of the others */
#define LEAST_MESSAGES	16

static int	checks = -1;		/* queries begun by the checks that run or failed, -1: none did */
static ExecutorStart_hook_type prev_start;

static void
count_start(QueryDesc *desc, int eflags)
{
	if (checks >= 0)
		checks++;
	if (prev_start != NULL)
		prev_start(desc, eflags);
	else
		standard_ExecutorStart(desc, eflags);
}

/* Once, in a process that asks checks_message(). */
void
checks_watch(void)
{
	prev_start = ExecutorStart_hook;
	ExecutorStart_hook = count_start;
}

/* The checks begin now. */
void
checks_begin(void)
{
	checks = 0;
}

/* All checks of so many messages, those that are bad not counted, have passed. */
void
checks_end(double *per_message, int64 messages)
{
	if (checks >= 0 && messages >= LEAST_MESSAGES)
		*per_message = (double) checks / messages;
	checks = -1;
}

/* What fails from now on is not a check. */
void
checks_forget(void)
{
	checks = -1;
}

/* After an error: the number of the message, from 0, that was being checked; -1: no check failed. */
int
checks_message(double per_message)
{
	if (checks <= 0)
		return -1;
	return (int) Min((checks - 1) / (per_message > 0 ? per_message : 1.0), (double) PG_INT32_MAX);
}

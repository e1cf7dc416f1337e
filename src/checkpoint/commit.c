/*-------------------------------------------------------------------------
 *
 * commit.c
 *	  The only place where workers begin and end transactions.
 *
 * Exactly-once rests on one sentence: the rows of the sinks and the offsets
 * they came from are committed by the same CommitTransactionCommand() below.
 * The position row is locked and compared with what this task began with as
 * the last step before it, so of two processes that believe to own a
 * partition at most one commits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

static int	subs = 0;

void
checkpoint_begin(void)
{
	subs = 0;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, NULL);
}

static void
report_committed(void)
{
	/* without it autovacuum would never learn of our rows */
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
checkpoint_commit(void)
{
	CommitTransactionCommand();
	report_committed();
}

/* The commit of this transaction does not wait for the disk. */
void
checkpoint_need_not_wait(void)
{
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void
checkpoint_abort(void)
{
	/* also what is within a subtransaction: an error that passes is thrown on from there */
	AbortOutOfAnyTransaction();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
checkpoint_sub_begin(CheckpointSub *sub)
{
	if (subs >= CHECKPOINT_MAX_SUBS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d subtransactions in one transaction", CHECKPOINT_MAX_SUBS)));
	subs++;
	sub->cxt = CurrentMemoryContext;
	sub->owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	/* what the statements leave behind belongs to the transaction, as without a subtransaction */
	MemoryContextSwitchTo(sub->cxt);
}

void
checkpoint_sub_commit(CheckpointSub *sub)
{
	ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(sub->cxt);
	CurrentResourceOwner = sub->owner;
}

void
checkpoint_sub_abort(CheckpointSub *sub)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(sub->cxt);
	CurrentResourceOwner = sub->owner;
}

int
checkpoint_subs(void)
{
	return subs;
}

void
checkpoint_commit_position(PositionRow *row, const int64 *was)
{
	ItemPointerData tid;
	Oid			relfilenode;

	FAULT_POINT("commit-before-position");
	catalog_position_update(row, was, &tid, &relfilenode);
	FAULT_POINT("commit-after-position");
	CommitTransactionCommand();
	row->tid = tid;
	row->relfilenode = relfilenode;

	/*
	 * From here on the caller's memory is behind what is stored, until we
	 * return.  He would take an error for one of the transaction, and run the
	 * same rows again: so it ends the process instead.
	 */
	PG_TRY();
	{
		FAULT_POINT("commit-done");
		report_committed();
	}
	PG_CATCH();
	{
		EmitErrorReport();
		FlushErrorState();
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("error after the commit of a task of pipeline \"%s\"", row->pipeline)));
	}
	PG_END_TRY();
}

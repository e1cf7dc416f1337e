/*-------------------------------------------------------------------------
 *
 * checkpoint.h
 *	  Transactions of the workers.  Nobody else commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_CHECKPOINT_H
#define STREAMPROC_CHECKPOINT_H

#include "postgres.h"

#include "catalog/catalog.h"
#include "checkpoint/barrier.h"

/* in commit.c */
extern void checkpoint_begin(void);
extern void checkpoint_commit(void);
extern void checkpoint_abort(void);

/*
 * A subtransaction of the open transaction, for a piece of a batch that may
 * fail.  "sub" keeps what is to be set back.  begin throws 54000 beyond
 * CHECKPOINT_MAX_SUBS in one transaction: more of them, and every snapshot that
 * anybody takes on the server has to look them up on disk.
 */
#define CHECKPOINT_MAX_SUBS	20

typedef struct CheckpointSub
{
	MemoryContext cxt;
	struct ResourceOwnerData *owner;
} CheckpointSub;

extern void checkpoint_sub_begin(CheckpointSub *sub);
extern void checkpoint_sub_commit(CheckpointSub *sub);
extern void checkpoint_sub_abort(CheckpointSub *sub);
/* how many have been begun in the open transaction */
extern int	checkpoint_subs(void);
/*
 * Writes the position into the open transaction and commits.  "was" are the
 * next offsets that the stored row must hold.  On return the row knows its new
 * place; if it throws, nothing of the transaction happened and the row is as
 * it was.
 */
extern void checkpoint_commit_position(PositionRow *row, const int64 *was);

#endif							/* STREAMPROC_CHECKPOINT_H */

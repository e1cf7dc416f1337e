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
#include "stream/stream.h"

/* in commit.c */
extern void checkpoint_begin(void);
extern void checkpoint_commit(void);
extern void checkpoint_need_not_wait(void);
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

/* ---- outbox.c ---- */

/* A stream of segments of the outbox, as the process that writes it sees it. */
typedef struct Outbox
{
	char		pipeline[NAMEDATALEN];
	int			stream;
	int			slot;			/* of the pipeline */
	int64		last;			/* number of the last segment written */
	int64		committed;		/* ... as of the last commit */
	int64		rows;			/* of the open transaction */
	int64		bytes;
} Outbox;

extern void outbox_open(Outbox *outbox, const char *pipeline, int stream, int slot);
/* between batches: writes, where much has been collected */
extern void outbox_spill(Outbox *outbox, StreamOutbox *messages);
/* before the commit: writes all */
extern void outbox_finish(Outbox *outbox, StreamOutbox *messages);
/* after it: the publisher is told; cannot throw */
extern void outbox_committed(Outbox *outbox);
extern void outbox_aborted(Outbox *outbox);
/* does so much wait to be sent that no more may be written? */
extern bool outbox_full(int slot);

#endif							/* STREAMPROC_CHECKPOINT_H */

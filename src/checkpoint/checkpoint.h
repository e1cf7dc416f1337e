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

/* in commit.c */
extern void checkpoint_begin(void);
extern void checkpoint_commit(void);
extern void checkpoint_abort(void);
/*
 * Writes the position into the open transaction and commits.  "was" are the
 * next offsets that the stored row must hold.  On return the row knows its new
 * place; if it throws, nothing of the transaction happened and the row is as
 * it was.
 */
extern void checkpoint_commit_position(PositionRow *row, const int64 *was);

#endif							/* STREAMPROC_CHECKPOINT_H */

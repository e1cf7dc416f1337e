/*-------------------------------------------------------------------------
 *
 * barrier.c
 *	  The shared struct of the barrier, logs of bytes in the area, and a
 *	  task's share of the cut.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/barrier.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define BLOCK_BYTES		(64 * 1024)
#define BLOCK_ROOM		(BLOCK_BYTES - offsetof(BarrierBlock, bytes))
/*
 * Blocks that are kept, as part of the memory allowed: an area gives empty
 * segments back to the system, and getting them anew costs tens of
 * milliseconds, while all tasks stand.
 */
#define SPARE_SHARE		8
/* entries whose memory is asked for before they are copied */
#define CUT_AHEAD		8

Barrier *
barrier_create(StateArea *area, int ntasks, int nparts, int64 epoch, TimestampTz watermark)
{
	Barrier    *barrier;
	int			i;

	area->root->user = state_alloc0(area, offsetof(Barrier, part) + sizeof(BarrierPartition) * nparts);
	barrier = barrier_attach(area);
	LWLockInitialize(&barrier->lock, shmem->lock->tranche);
	ConditionVariableInit(&barrier->changed);
	barrier->ntasks = ntasks;
	barrier->nparts = nparts;
	barrier->phase = BARRIER_RUN;
	barrier->epoch = epoch;
	barrier->watermark = watermark;
	for (i = 0; i < ntasks; i++)
		barrier->task[i].arrived = barrier->task[i].copied = epoch - 1;
	return barrier;
}

Barrier *
barrier_attach(StateArea *area)
{
	return dsa_get_address(area->dsa, area->root->user);
}

/* ---- logs ---- */

static dsa_pointer
take_spare(StateArea *area)
{
	StateRoot  *root = area->root;
	dsa_pointer p;

	LWLockAcquire(&root->lock, LW_EXCLUSIVE);
	p = root->spare;
	if (DsaPointerIsValid(p))
	{
		root->spare = ((BarrierBlock *) dsa_get_address(area->dsa, p))->next;
		root->nspare--;
	}
	LWLockRelease(&root->lock);
	return p;
}

static bool
keep_spare(StateArea *area, dsa_pointer p, BarrierBlock *block)
{
	StateRoot  *root = area->root;
	bool		kept;

	LWLockAcquire(&root->lock, LW_EXCLUSIVE);
	kept = (uint64) root->nspare * BLOCK_BYTES < root->limit / SPARE_SHARE;
	if (kept)
	{
		block->next = root->spare;
		root->spare = p;
		root->nspare++;
	}
	LWLockRelease(&root->lock);
	return kept;
}

char *
barrier_log_reserve(StateArea *area, BarrierLog *log, Size len)
{
	BarrierBlock *block = DsaPointerIsValid(log->last) ? dsa_get_address(area->dsa, log->last) : NULL;
	char	   *at;

	if (block == NULL || len > block->size - block->used)
	{
		Size		size = Max(len, BLOCK_ROOM);
		dsa_pointer fresh = InvalidDsaPointer;

		if (len > MaxAllocHugeSize / 2 || size > PG_UINT32_MAX / 2)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("what a key group holds is too large for one segment")));
		if (size == BLOCK_ROOM)
			fresh = take_spare(area);
		if (!DsaPointerIsValid(fresh))
			fresh = state_alloc(area, offsetof(BarrierBlock, bytes) + size);
		if (block != NULL)
			block->next = fresh;
		else
			log->first = fresh;
		log->last = fresh;
		block = dsa_get_address(area->dsa, fresh);
		block->next = InvalidDsaPointer;
		block->size = (uint32) size;
		block->used = 0;
	}
	at = block->bytes + block->used;
	block->used += (uint32) len;
	log->bytes += len;
	return at;
}

void
barrier_log_append(StateArea *area, BarrierLog *log, const char *bytes, Size len)
{
	memcpy(barrier_log_reserve(area, log, len), bytes, len);
}

void
barrier_log_free(StateArea *area, BarrierLog *log)
{
	dsa_pointer p = log->first;

	while (DsaPointerIsValid(p))
	{
		BarrierBlock *block = dsa_get_address(area->dsa, p);
		dsa_pointer next = block->next;

		if (block->size != BLOCK_ROOM || !keep_spare(area, p, block))
			state_free(area, p, offsetof(BarrierBlock, bytes) + block->size);
		p = next;
	}
	memset(log, 0, sizeof(*log));
}

/* ---- the cut ---- */

typedef struct Cut
{
	StateArea  *area;
	BarrierTask *task;
	uint32		epoch;
	HTAB	   *replaced;		/* of BarrierReplaced */
	BarrierReplaced *last;		/* the one of the last entry */
} Cut;

static void
note_replaced(Cut *cut, uint32 epoch)
{
	bool		found;

	if (epoch == 0)
		return;
	if (cut->last == NULL || cut->last->epoch != epoch)
	{
		cut->last = hash_search(cut->replaced, &epoch, HASH_ENTER, &found);
		if (!found)
			cut->last->count = 0;
	}
	cut->last->count++;
}

/* The entries whose offsets are given become a run, in pieces that fit a segment. */
static void
cut_entries(Cut *cut, int op, StatePane *pane, int group, const uint32 *offsets, uint32 n)
{
	StateChunk *chunk = &pane->chunk[group];
	StateOperator *o = &cut->area->root->op[op];
	StateCursor cursor;
	uint32		first = 0;

	state_cursor_open(&cursor, cut->area, op, chunk);
	while (first < n)
	{
		Size		bytes = 0;
		uint32		last;
		uint32		i;
		char	   *to;
		StateRun   *run;

		for (last = first; last < n; last++)
		{
			StateEntry *entry = (StateEntry *) (cursor.data + (Size) offsets[last] * 8);
			Size		size;

			/* they stand where they were made, not in the order of the changes */
			if (last + CUT_AHEAD < n)
			{
				__builtin_prefetch(cursor.data + (Size) offsets[last + CUT_AHEAD] * 8);
				__builtin_prefetch(cursor.data + (Size) offsets[last + CUT_AHEAD] * 8 + 64);
			}
			size = state_record_size(o, entry, cursor.data);
			if (last > first && sizeof(StateRun) + bytes + size > BLOCK_ROOM)
				break;
			bytes += size;
		}
		CHECK_FOR_INTERRUPTS();
		to = barrier_log_reserve(cut->area, &cut->task->cut, sizeof(StateRun) + bytes);
		run = (StateRun *) to;
		run->op = (uint16) op;
		run->group = (uint16) group;
		run->nrecords = last - first;
		run->pane = pane->id;
		run->bytes = bytes;
		to += sizeof(StateRun);
		for (i = first; i < last; i++)
		{
			StateEntry *entry = (StateEntry *) (cursor.data + (Size) offsets[i] * 8);
			Size		size = state_record_size(o, entry, cursor.data);

			state_record_write(o, entry, cursor.data, to, size);
			to += size;
			note_replaced(cut, entry->written);
			entry->written = cut->epoch;
			entry->dirty = 0;
		}
		first = last;
	}
}

/* Entries that stand in segments from before rewrite_before join the list of changes. */
static void
mark_old(Cut *cut, const Barrier *barrier, int op, StatePane *pane, int group)
{
	StateCursor cursor;
	StateEntry *entry;
	uint32		at = 0;

	state_cursor_open(&cursor, cut->area, op, &pane->chunk[group]);
	while ((entry = state_entry_next(&cursor, &at)) != NULL)
		if (entry->written != 0 && (int32) (entry->written - barrier->rewrite_before) < 0)
			state_entry_mark(&cursor, entry);
}

void
barrier_cut(StateArea *area, Barrier *barrier, int task)
{
	Cut			cut = {area, &barrier->task[task], (uint32) barrier->epoch};
	HASHCTL		ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(BarrierReplaced), .hcxt = CurrentMemoryContext};
	HASH_SEQ_STATUS seq;
	BarrierReplaced *replaced;
	BarrierReplaced *to;
	int			op;
	int			n;

	cut.replaced = hash_create("streamproc replaced entries", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (op = 0; op < area->root->noperators; op++)
	{
		int			npanes;
		StatePane **panes = state_panes(area, op, &npanes);
		int			p;
		int			g;

		for (p = 0; p < npanes; p++)
		{
			if (panes[p]->closed)
				continue;
			for (g = task; g < STATE_GROUPS; g += barrier->ntasks)
			{
				StateChunk *chunk = &panes[p]->chunk[g];

				if (barrier->rewrite_groups > 0 &&
					(g - barrier->rewrite_from + STATE_GROUPS) % STATE_GROUPS < barrier->rewrite_groups)
					mark_old(&cut, barrier, op, panes[p], g);
				if (chunk->ndirty == 0)
					continue;
				cut_entries(&cut, op, panes[p], g, dsa_get_address(area->dsa, chunk->dirty), chunk->ndirty);
				chunk->ndirty = 0;
			}
		}
		pfree(panes);
	}

	n = (int) hash_get_num_entries(cut.replaced);
	if (n > 0)
	{
		cut.task->replaced = state_alloc(area, sizeof(BarrierReplaced) * n);
		to = dsa_get_address(area->dsa, cut.task->replaced);
		hash_seq_init(&seq, cut.replaced);
		while ((replaced = hash_seq_search(&seq)) != NULL)
			*to++ = *replaced;
	}
	cut.task->nreplaced = n;
	hash_destroy(cut.replaced);
}

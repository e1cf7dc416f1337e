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
/* epochs whose entries are counted without a look at the hash table */
#define RECENT_EPOCHS	64
/* entries that are copied between two batches */
#define EARLY_SLICE		4096

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
		barrier->task[i].early = barrier->task[i].arrived = barrier->task[i].copied = epoch - 1;
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

struct BarrierCut
{
	StateArea  *area;
	Barrier    *barrier;
	int			task;
	int64		epoch;			/* whose cut is begun; 0: none */
	int			op;				/* where the early copy goes on */
	int			group;
	int64		again;
	bool		looked[STATE_MAX_OPERATORS][STATE_GROUPS];	/* for old entries */
	HTAB	   *replaced;		/* of BarrierReplaced */
	BarrierReplaced recent[RECENT_EPOCHS];
};

BarrierCut *
barrier_cut_create(StateArea *area, Barrier *barrier, int task)
{
	HASHCTL		ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(BarrierReplaced), .hcxt = CurrentMemoryContext};
	BarrierCut *cut = palloc0(sizeof(BarrierCut));

	cut->area = area;
	cut->barrier = barrier;
	cut->task = task;
	cut->replaced = hash_create("streamproc replaced entries", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return cut;
}

static void
begin_cut(BarrierCut *cut)
{
	if (cut->epoch == cut->barrier->epoch)
		return;
	cut->epoch = cut->barrier->epoch;
	cut->op = 0;
	cut->group = cut->task;
	cut->again = 0;
	memset(cut->looked, 0, sizeof(cut->looked));
}

static void
flush_recent(BarrierCut *cut, BarrierReplaced *recent)
{
	BarrierReplaced *replaced;
	bool		found;

	if (recent->count == 0)
		return;
	replaced = hash_search(cut->replaced, &recent->epoch, HASH_ENTER, &found);
	replaced->count = (found ? replaced->count : 0) + recent->count;
	recent->count = 0;
}

static inline void
note_replaced(BarrierCut *cut, uint32 epoch)
{
	BarrierReplaced *recent = &cut->recent[epoch % RECENT_EPOCHS];

	if (recent->epoch != epoch)
	{
		flush_recent(cut, recent);
		recent->epoch = epoch;
	}
	recent->count++;
}

/* The entries whose offsets are given become a run, in pieces that fit a segment. */
static void
cut_entries(BarrierCut *cut, int op, StatePane *pane, int group, const uint32 *offsets, uint32 n)
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
		to = barrier_log_reserve(cut->area, &cut->barrier->task[cut->task].cut, sizeof(StateRun) + bytes);
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
			if (entry->written == (uint32) cut->epoch)
			{
				((StateRecord *) to)->flags |= STATE_RECORD_AGAIN;
				cut->again++;
			}
			else if (entry->written != 0)
				note_replaced(cut, entry->written);
			if (entry->dirty == STATE_DIRTY_OLD)
				((StateRecord *) to)->flags |= STATE_RECORD_OLD;
			to += size;
			entry->written = (uint32) cut->epoch;
			entry->dirty = 0;
		}
		first = last;
	}
}

/* Entries that stand in segments from before rewrite_before join the list of changes. */
static void
mark_old(const Barrier *barrier, StateCursor *cursor)
{
	StateChunk *chunk = cursor->chunk;
	uint32		i;

	for (i = 0; i < chunk->nslots; i++)
	{
		StateEntry *entry;

		if (i + CUT_AHEAD < chunk->nslots)
			__builtin_prefetch(cursor->data + (Size) cursor->slots[i + CUT_AHEAD].offset * 8);
		if (cursor->slots[i].offset == 0)
			continue;
		entry = (StateEntry *) (cursor->data + (Size) cursor->slots[i].offset * 8);
		if (entry->dirty || entry->written == 0 || (int32) (entry->written - barrier->rewrite_before) >= 0)
			continue;
		state_entry_mark_slow(cursor, entry);
		entry->dirty = STATE_DIRTY_OLD;
	}
}

/* What of a chunk is changed, or is to be rewritten; how much work that was, in entries. */
static uint32
cut_chunk(BarrierCut *cut, int op, StatePane *pane, int group, bool rewrite)
{
	StateChunk *chunk = &pane->chunk[group];
	uint32		work = 0;

	if (rewrite && chunk->nentries > 0)
	{
		StateCursor cursor;

		state_cursor_open(&cursor, cut->area, op, chunk);
		mark_old(cut->barrier, &cursor);
		work += chunk->nslots / BARRIER_LOOK;
	}
	if (chunk->ndirty == 0)
		return work;
	work += chunk->ndirty;
	cut_entries(cut, op, pane, group, dsa_get_address(cut->area->dsa, chunk->dirty), chunk->ndirty);
	chunk->ndirty = 0;
	return work;
}

/*
 * Everything of the chunk is copied.  Keys whose time is over go: their segments
 * hold one less that is alive.
 */
static void
expire_chunk(BarrierCut *cut, int op, StateChunk *chunk, TimestampTz until)
{
	const Barrier *barrier = cut->barrier;
	StateCursor cursor;
	bool		removed = false;
	uint32		i = 0;

	state_cursor_open(&cursor, cut->area, op, chunk);
	while (i < chunk->nslots)
	{
		StateEntry *entry;

		if (i + CUT_AHEAD < chunk->nslots)
			__builtin_prefetch(cursor.data + (Size) cursor.slots[i + CUT_AHEAD].offset * 8);
		entry = (StateEntry *) (cursor.data + (Size) cursor.slots[i].offset * 8);
		if (cursor.slots[i].offset == 0 || state_entry_expires(cursor.op, entry, cursor.data) > until ||
			(barrier->keep_unemitted && (int32) (entry->written - barrier->emitted) > 0))
		{
			i++;
			continue;
		}
		if (entry->written == (uint32) cut->epoch)
			cut->again++;
		else
			note_replaced(cut, entry->written);
		/* another one may stand in its slot now */
		state_entry_remove(&cursor, entry);
		removed = true;
	}
	if (removed)
		state_chunk_trim(&cursor);
}

bool
barrier_cut_early(BarrierCut *cut)
{
	StateArea  *area = cut->area;
	uint32		work = 0;

	begin_cut(cut);
	for (; cut->op < area->root->noperators; cut->op++, cut->group = cut->task)
	{
		int			npanes;
		StatePane **panes;

		if (work >= EARLY_SLICE)
			return false;
		/* what is changed again is copied twice: not where there is no memory for that */
		if (pg_atomic_read_u64(&area->root->bytes) > area->root->limit / 4 * 3)
			return true;
		panes = state_panes(area, cut->op, &npanes);
		for (; cut->group < STATE_GROUPS && work < EARLY_SLICE; cut->group += cut->barrier->ntasks)
		{
			bool		rewrite;
			int			p;

			/* it is being changed: left to the end of the cut */
			if (!state_group_try_own(area, cut->op, cut->group))
				continue;
			rewrite = barrier_rewrites(cut->barrier, cut->group);
			for (p = 0; p < npanes; p++)
				if (!panes[p]->closed && !panes[p]->passing)
					work += cut_chunk(cut, cut->op, panes[p], cut->group, rewrite);
			cut->looked[cut->op][cut->group] = rewrite;
			state_group_release(area, cut->op, cut->group);
		}
		pfree(panes);
		if (cut->group < STATE_GROUPS)
			return false;
	}
	return true;
}

void
barrier_cut_end(BarrierCut *cut)
{
	StateArea  *area = cut->area;
	BarrierTask *task = &cut->barrier->task[cut->task];
	HASH_SEQ_STATUS seq;
	BarrierReplaced *replaced;
	BarrierReplaced *to;
	int			op;
	int			i;
	int			n;

	begin_cut(cut);
	for (op = 0; op < area->root->noperators; op++)
	{
		int			npanes;
		StatePane **panes = state_panes(area, op, &npanes);
		int			group;
		int			p;

		for (p = 0; p < npanes; p++)
			for (group = cut->task; group < STATE_GROUPS && !panes[p]->closed; group += cut->barrier->ntasks)
			{
				(void) cut_chunk(cut, op, panes[p], group, barrier_rewrites(cut->barrier, group) && !cut->looked[op][group]);
				if (panes[p]->id == STATE_PANE_ETERNAL && barrier_expires(&cut->barrier->expiry[op], group))
					expire_chunk(cut, op, &panes[p]->chunk[group], cut->barrier->expiry[op].until);
			}
		pfree(panes);
	}

	for (i = 0; i < RECENT_EPOCHS; i++)
		flush_recent(cut, &cut->recent[i]);
	n = (int) hash_get_num_entries(cut->replaced);
	if (n > 0)
	{
		task->replaced = state_alloc(area, sizeof(BarrierReplaced) * n);
		to = dsa_get_address(area->dsa, task->replaced);
		hash_seq_init(&seq, cut->replaced);
		while ((replaced = hash_seq_search(&seq)) != NULL)
		{
			*to++ = *replaced;
			(void) hash_search(cut->replaced, &replaced->epoch, HASH_REMOVE, NULL);
		}
	}
	task->nreplaced = n;
	task->again = cut->again;
}

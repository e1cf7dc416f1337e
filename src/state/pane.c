/*-------------------------------------------------------------------------
 *
 * pane.c
 *	  The panes of an operator: an ascending array of pointers.
 *
 * Few are open at a time (a window or its slices, and a little disorder), so
 * a binary search in an array is enough; callers remember what they found
 * until the epoch ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "state/state.h"

/* Where the pane is, or belongs. */
static int
find_place(const dsa_pointer *panes, int n, StateArea *area, int64 id, StatePane **found)
{
	int			low = 0;
	int			high = n;

	*found = NULL;
	while (low < high)
	{
		int			mid = low + (high - low) / 2;
		StatePane  *pane = dsa_get_address(area->dsa, panes[mid]);

		if (pane->id == id)
		{
			*found = pane;
			return mid;
		}
		if (pane->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static StatePane *
insert_pane(StateArea *area, StateOperator *op, int64 id)
{
	dsa_pointer *panes = DsaPointerIsValid(op->panes) ? dsa_get_address(area->dsa, op->panes) : NULL;
	StatePane  *pane;
	dsa_pointer fresh;
	int			at = find_place(panes, op->npanes, area, id, &pane);

	if (pane != NULL)
		return pane;			/* somebody was faster */
	fresh = state_alloc0(area, sizeof(StatePane));
	pane = dsa_get_address(area->dsa, fresh);
	pane->id = id;
	if (op->npanes == op->panes_size)
	{
		int			size = Max(16, op->panes_size * 2);
		dsa_pointer bigger = state_alloc(area, sizeof(dsa_pointer) * size);
		dsa_pointer *to = dsa_get_address(area->dsa, bigger);

		if (op->npanes > 0)
			memcpy(to, panes, sizeof(dsa_pointer) * op->npanes);
		state_free(area, op->panes, sizeof(dsa_pointer) * op->panes_size);
		op->panes = bigger;
		op->panes_size = size;
		panes = to;
	}
	memmove(panes + at + 1, panes + at, sizeof(dsa_pointer) * (op->npanes - at));
	panes[at] = fresh;
	op->npanes++;
	op->panes_changed++;
	return pane;
}

StatePane *
state_pane(StateArea *area, int op, int64 id, bool make)
{
	StateOperator *o = &area->root->op[op];
	StatePane  *pane = NULL;

	LWLockAcquire(&area->root->lock, LW_SHARED);
	if (o->npanes > 0)
		(void) find_place(dsa_get_address(area->dsa, o->panes), o->npanes, area, id, &pane);
	LWLockRelease(&area->root->lock);
	if (pane != NULL || !make)
		return pane;

	/* an error for want of memory releases the lock on its way out */
	LWLockAcquire(&area->root->lock, LW_EXCLUSIVE);
	pane = insert_pane(area, o, id);
	LWLockRelease(&area->root->lock);
	return pane;
}

static StatePane **
list_panes(StateArea *area, int op, bool open_only, int *n)
{
	StateOperator *o = &area->root->op[op];
	StatePane **panes;
	int			size;
	int			npanes;
	int			i;

	/* not allocated under the lock */
	for (size = 64;; size *= 2)
	{
		panes = palloc(sizeof(StatePane *) * size);
		LWLockAcquire(&area->root->lock, LW_SHARED);
		npanes = o->npanes;
		if (npanes <= size)
			break;
		LWLockRelease(&area->root->lock);
		pfree(panes);
	}
	*n = 0;
	for (i = 0; i < npanes; i++)
	{
		StatePane  *pane = dsa_get_address(area->dsa, ((dsa_pointer *) dsa_get_address(area->dsa, o->panes))[i]);

		/* it is taken out of the directory before it is freed */
		if (!open_only || !pane->closed)
			panes[(*n)++] = pane;
	}
	LWLockRelease(&area->root->lock);
	return panes;
}

StatePane **
state_panes(StateArea *area, int op, int *n)
{
	return list_panes(area, op, false, n);
}

StatePane **
state_panes_open(StateArea *area, int op, int *n)
{
	return list_panes(area, op, true, n);
}

Size
state_chunk_bytes(const StateChunk *chunk)
{
	return sizeof(StateSlot) * chunk->nslots + (Size) chunk->size * 8 + sizeof(uint32) * chunk->dirty_size;
}

void
state_pane_free(StateArea *area, int op, StatePane *pane)
{
	StateOperator *o = &area->root->op[op];
	dsa_pointer *panes;
	dsa_pointer freed = InvalidDsaPointer;
	StatePane  *found;
	int			at;
	int			g;

	LWLockAcquire(&area->root->lock, LW_EXCLUSIVE);
	panes = dsa_get_address(area->dsa, o->panes);
	at = find_place(panes, o->npanes, area, pane->id, &found);
	if (found == pane)
	{
		freed = panes[at];
		memmove(panes + at, panes + at + 1, sizeof(dsa_pointer) * (o->npanes - at - 1));
		o->npanes--;
		o->panes_changed++;
	}
	LWLockRelease(&area->root->lock);
	if (found != pane)
		elog(ERROR, "a pane of operator %d is not in its directory", op);

	for (g = 0; g < STATE_GROUPS; g++)
	{
		StateChunk *chunk = &pane->chunk[g];

		state_free(area, chunk->slots, sizeof(StateSlot) * chunk->nslots);
		state_free(area, chunk->data, (Size) chunk->size * 8);
		state_free(area, chunk->dirty, sizeof(uint32) * chunk->dirty_size);
	}
	state_free(area, freed, sizeof(StatePane));
}

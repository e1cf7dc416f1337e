/*-------------------------------------------------------------------------
 *
 * area.c
 *	  The shared memory of a run's state: allocation within the budget, and
 *	  the ownership of key groups.
 *
 * The launcher makes the area, its tasks attach.  It is not pinned: it lives
 * as long as one of them does, and nothing has to clean up behind a crash.
 *
 * Ownership is a word that is set by compare-and-set and a condition variable
 * for those who wait.  It is not an LWLock, because user code (transition
 * functions) runs under it, which may wait and throw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "shmem/shmem.h"
#include "state/state.h"
#include "storage/proclist.h"
#include "utils/memutils.h"

/* so often is looked before a process sleeps: a group is held for microseconds */
#define OWN_SPINS	200

StateArea *
state_area_create(uint64 limit)
{
	StateArea  *area = MemoryContextAllocZero(TopMemoryContext, sizeof(StateArea));
	int			tranche = shmem->lock->tranche;

	area->dsa = dsa_create(tranche);
	dsa_pin_mapping(area->dsa);
	area->root_pointer = dsa_allocate_extended(area->dsa, sizeof(StateRoot), DSA_ALLOC_ZERO);
	area->root = dsa_get_address(area->dsa, area->root_pointer);
	LWLockInitialize(&area->root->lock, tranche);
	pg_atomic_init_u64(&area->root->bytes, sizeof(StateRoot));
	pg_atomic_init_u32(&area->root->abandoned, 0);
	area->root->limit = limit;
	return area;
}

StateArea *
state_area_attach(dsa_handle handle, dsa_pointer root)
{
	StateArea  *area = MemoryContextAllocZero(TopMemoryContext, sizeof(StateArea));
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	area->dsa = dsa_attach(handle);
	dsa_pin_mapping(area->dsa);
	MemoryContextSwitchTo(old);
	area->root_pointer = root;
	area->root = dsa_get_address(area->dsa, root);
	return area;
}

dsa_handle
state_area_handle(StateArea *area)
{
	return dsa_get_handle(area->dsa);
}

static void
memory_used_up(StateArea *area, Size size)
{
	/* a class that stops the pipeline: what does not fit now will not fit later */
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("state of the pipeline does not fit into state_memory"),
			 errdetail(UINT64_FORMAT " kB are used, " UINT64_FORMAT " kB more are needed, " UINT64_FORMAT " kB are allowed.",
					   pg_atomic_read_u64(&area->root->bytes) / 1024, (uint64) (size + 1023) / 1024, area->root->limit / 1024),
			 errhint("Give it more: SELECT streamproc.alter_pipeline(name, state_memory => ...), then start it. Nothing is lost.")));
}

static dsa_pointer
allocate(StateArea *area, Size size, int flags)
{
	dsa_pointer p;

	if (pg_atomic_fetch_add_u64(&area->root->bytes, size) + size > area->root->limit)
	{
		pg_atomic_fetch_sub_u64(&area->root->bytes, size);
		memory_used_up(area, size);
	}
	p = dsa_allocate_extended(area->dsa, size, flags | DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(p))
	{
		pg_atomic_fetch_sub_u64(&area->root->bytes, size);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("no shared memory for the state of the pipeline"),
				 errdetail("Failed on request of size %zu.", size),
				 errhint("Raise the limit of /dev/shm, or min_dynamic_shared_memory.")));
	}
	return p;
}

dsa_pointer
state_alloc(StateArea *area, Size size)
{
	return allocate(area, size, 0);
}

dsa_pointer
state_alloc0(StateArea *area, Size size)
{
	return allocate(area, size, DSA_ALLOC_ZERO);
}

void
state_free(StateArea *area, dsa_pointer p, Size size)
{
	if (!DsaPointerIsValid(p))
		return;
	dsa_free(area->dsa, p);
	pg_atomic_fetch_sub_u64(&area->root->bytes, size);
}

void
state_operator_init(StateArea *area, int op, uint32 fixed_size, const uint16 *blobs, int nblobs)
{
	StateOperator *o = &area->root->op[op];
	int			i;

	Assert(op < STATE_MAX_OPERATORS && nblobs <= STATE_MAX_BLOBS && fixed_size % 8 == 0);
	o->member_size = o->group_size = fixed_size;
	o->member_blobs = o->group_blobs = nblobs;
	if (nblobs > 0)
		memcpy(o->blob, blobs, sizeof(uint16) * nblobs);
	for (i = 0; i < STATE_GROUPS; i++)
	{
		pg_atomic_init_u32(&o->group[i].owner, 0);
		ConditionVariableInit(&o->group[i].freed);
	}
	area->root->noperators = Max(area->root->noperators, op + 1);
}

void
state_operator_bare_groups(StateArea *area, int op, uint32 size)
{
	area->root->op[op].group_size = size;
	area->root->op[op].group_blobs = 0;
}

void
state_operator_bare_members(StateArea *area, int op)
{
	area->root->op[op].member_size = 0;
	area->root->op[op].member_blobs = 0;
}

/* ---- ownership ---- */

bool
state_group_try_own(StateArea *area, int op, int group)
{
	uint32		nobody = 0;

	return pg_atomic_compare_exchange_u32(&area->root->op[op].group[group].owner, &nobody, (uint32) MyProcPid);
}

/* Throws, owning nothing, where the run is abandoned. */
void
state_group_own(StateArea *area, int op, int group)
{
	StateGroupLock *lock = &area->root->op[op].group[group];
	int			i;

	for (i = 0; i < OWN_SPINS; i++)
	{
		if (state_group_try_own(area, op, group))
			return;
		pg_spin_delay();
	}
	ConditionVariablePrepareToSleep(&lock->freed);
	while (!state_group_try_own(area, op, group))
	{
		if (state_abandoned(area))
		{
			ConditionVariableCancelSleep();
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the run of the pipeline was given up")));
		}
		ConditionVariableSleep(&lock->freed, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

void
state_group_release(StateArea *area, int op, int group)
{
	StateGroupLock *lock = &area->root->op[op].group[group];

	Assert(pg_atomic_read_u32(&lock->owner) == (uint32) MyProcPid);
	pg_memory_barrier();
	pg_atomic_write_u32(&lock->owner, 0);
	pg_memory_barrier();
	/* who begins to sleep now looks at the owner once more first */
	if (!proclist_is_empty(&lock->freed.wakeup))
		ConditionVariableSignal(&lock->freed);
}

void
state_abandon(StateArea *area)
{
	int			op,
				g;

	pg_atomic_write_u32(&area->root->abandoned, 1);
	pg_memory_barrier();
	for (op = 0; op < area->root->noperators; op++)
		for (g = 0; g < STATE_GROUPS; g++)
			ConditionVariableBroadcast(&area->root->op[op].group[g].freed);
}

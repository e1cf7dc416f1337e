/*-------------------------------------------------------------------------
 *
 * shim_state.c
 *	  What the state and the operators need of a server, beside shim_memory.c:
 *	  shared memory whose chunks are mallocs of their own, locks that nobody
 *	  else holds, datums without a catalog.
 *
 * Functions that no reader and no writer of state calls are not there at all:
 * the linker is told not to mind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "storage/lwlock.h"
#include "utils/datum.h"
#include "utils/dsa.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

#include "segments.h"

volatile sig_atomic_t InterruptPending = false;
bool		fault_points_active = false;
int			MyProcPid = 1;
int64		shim_shared_chunks;

/* ---- shared memory ---- */

typedef struct Shared
{
	struct Shared *next;
	struct Shared *prev;
} Shared;

static Shared shared = {&shared, &shared};

dsa_pointer
dsa_allocate_extended(dsa_area *area, size_t size, int flags)
{
	Shared	   *chunk = (flags & DSA_ALLOC_ZERO) ? calloc(1, sizeof(Shared) + size) : malloc(sizeof(Shared) + size);

	if (chunk == NULL)
		abort();
	chunk->next = shared.next;
	chunk->prev = &shared;
	shared.next->prev = chunk;
	shared.next = chunk;
	shim_shared_chunks++;
	return (dsa_pointer) (uintptr_t) (chunk + 1);
}

void
dsa_free(dsa_area *area, dsa_pointer p)
{
	Shared	   *chunk = (Shared *) (uintptr_t) p - 1;

	chunk->next->prev = chunk->prev;
	chunk->prev->next = chunk->next;
	shim_shared_chunks--;
	free(chunk);
}

void *
dsa_get_address(dsa_area *area, dsa_pointer p)
{
	return (void *) (uintptr_t) p;
}

void
shim_shared_free(void)
{
	while (shared.next != &shared)
		dsa_free(NULL, (dsa_pointer) (uintptr_t) (shared.next + 1));
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	return true;
}

void
LWLockRelease(LWLock *lock)
{
}

void
ConditionVariableInit(ConditionVariable *cv)
{
}

/* ---- memory and buffers ---- */

void *
repalloc_huge(void *pointer, Size size)
{
	return repalloc(pointer, size);
}

void *
palloc_extended(Size size, int flags)
{
	return (flags & MCXT_ALLOC_ZERO) ? palloc0(size) : palloc(size);
}

char *
MemoryContextStrdup(MemoryContext context, const char *string)
{
	char	   *copy = MemoryContextAlloc(context, strlen(string) + 1);

	return strcpy(copy, string);
}

void
resetStringInfo(StringInfo str)
{
	str->len = 0;
	str->cursor = 0;
	str->data[0] = '\0';
}

void
appendStringInfoSpaces(StringInfo str, int count)
{
	while (count-- > 0)
		appendStringInfoChar(str, ' ');
}

/* ---- datums ---- */

Size
datumGetSize(Datum value, bool typByVal, int typLen)
{
	if (typLen > 0)
		return typLen;
	return typLen == -1 ? VARSIZE_ANY(DatumGetPointer(value)) : strlen(DatumGetCString(value)) + 1;
}

Datum
datumCopy(Datum value, bool typByVal, int typLen)
{
	Size		len;

	if (typByVal)
		return value;
	len = datumGetSize(value, typByVal, typLen);
	return PointerGetDatum(memcpy(palloc(len), DatumGetPointer(value), len));
}

/* Compressed values are read as they are: what is in values is nothing to those who keep them. */
struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	struct varlena *copy;
	Size		len;

	if (!VARATT_IS_SHORT(datum))
		return datum;
	len = VARSIZE_SHORT(datum) - VARHDRSZ_SHORT;
	copy = palloc(len + VARHDRSZ);
	SET_VARSIZE(copy, len + VARHDRSZ);
	memcpy(VARDATA(copy), VARDATA_SHORT(datum), len);
	return copy;
}

Datum
MakeExpandedObjectReadOnlyInternal(Datum d)
{
	return d;
}

void
ReScanExprContext(ExprContext *econtext)
{
	MemoryContextReset(econtext->ecxt_per_tuple_memory);
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

/* ---- transactions: there are none ---- */

void
RegisterSubXactCallback(SubXactCallback callback, void *arg)
{
}

void
RegisterXactCallback(XactCallback callback, void *arg)
{
}

/* ---- the C library's ---- */

#undef qsort

void
pg_qsort(void *base, size_t n, size_t size, int (*compare) (const void *, const void *))
{
	qsort(base, n, size, compare);
}

void
qsort_arg(void *base, size_t n, size_t size, qsort_arg_comparator compare, void *arg)
{
	qsort_r(base, n, size, compare, arg);
}

/*-------------------------------------------------------------------------
 *
 * sees.c
 *	  A module that reads behind a chunk of a memory context as soon as it is
 *	  loaded: whoever is not told of it has no sanitizer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/memutils.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

#define CHUNK	200

void
_PG_init(void)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "sees", ALLOCSET_DEFAULT_SIZES);
	volatile char *chunk = MemoryContextAlloc(cxt, CHUNK);
	volatile int behind = MAXALIGN(CHUNK);

	elog(LOG, "nobody has seen it: %d", chunk[behind]);
}

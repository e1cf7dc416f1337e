/*-------------------------------------------------------------------------
 *
 * arena.c
 *	  Bump allocator for the values of one batch.
 *
 * A batch's text, numeric and uuid values are many, small and die together.
 * palloc would cost more than decoding them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/base.h"
#include "utils/memutils.h"

typedef struct ArenaBlock
{
	struct ArenaBlock *next;
	char		data[FLEXIBLE_ARRAY_MEMBER];
} ArenaBlock;

#define ARENA_BLOCK_SIZE	(256 * 1024)

void
arena_init(Arena *arena, MemoryContext cxt, Size first_size)
{
	arena->cxt = cxt;
	arena->first_size = MAXALIGN(first_size);
	arena->first = MemoryContextAlloc(cxt, arena->first_size);
	arena->next = arena->first;
	arena->end = arena->first + arena->first_size;
	arena->blocks = NULL;
}

void
arena_reset(Arena *arena)
{
	while (arena->blocks != NULL)
	{
		ArenaBlock *block = arena->blocks;

		arena->blocks = block->next;
		pfree(block);
	}
	arena->next = arena->first;
	arena->end = arena->first + arena->first_size;
}

/*
 * The present block is full.  What is left of it is given up: values are
 * small against a block.
 */
void *
arena_alloc_slow(Arena *arena, Size size)
{
	Size		want = Max(size, (Size) ARENA_BLOCK_SIZE);
	ArenaBlock *block;

	block = MemoryContextAllocHuge(arena->cxt, MAXALIGN(offsetof(ArenaBlock, data)) + want);
	block->next = arena->blocks;
	arena->blocks = block;

	arena->next = (char *) block + MAXALIGN(offsetof(ArenaBlock, data)) + size;
	arena->end = (char *) block + MAXALIGN(offsetof(ArenaBlock, data)) + want;
	return (char *) block + MAXALIGN(offsetof(ArenaBlock, data));
}

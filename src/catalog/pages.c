/*-------------------------------------------------------------------------
 *
 * pages.c
 *	  Pages of deleted rows are used again before VACUUM comes by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/freespace.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* with less space than this heap_page_prune_opt() tries */
#define PAGE_FULL	(BLCKSZ / 10)

void
catalog_pages_add(CatalogPages *pages, const uint32 *blocks, int n)
{
	n = Min(n, CATALOG_PAGES_MOST - pages->n);
	if (pages->n + n > pages->size)
	{
		pages->size = Max(256, (pages->n + n) * 2);
		pages->blocks = pages->blocks == NULL ?
			MemoryContextAlloc(pages->cxt, sizeof(uint32) * pages->size) :
			repalloc_huge(pages->blocks, sizeof(uint32) * pages->size);
	}
	if (n > 0)
		memcpy(pages->blocks + pages->n, blocks, sizeof(uint32) * n);
	pages->n += n;
}

/*
 * A log that is written at megabytes a second would grow until autovacuum comes
 * by, once a minute; making a table longer is also most of what writing costs.
 * So pages are pruned and offered to the next rows as soon as nobody can see what
 * was on them.  Line pointers of the old rows stay until VACUUM, a few to a page.
 */
int
catalog_pages_reuse(const char *table, const CatalogPages *pages, int most)
{
	Relation	rel = table_open(catalog_relation(table), RowExclusiveLock);
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	BlockNumber low = InvalidBlockNumber;
	BlockNumber high = 0;
	int			i;

	for (i = 0; i < Min(pages->n, most); i++)
	{
		Buffer		buffer;
		Page		page;
		Size		space;
		bool		seen;

		/* gone by a VACUUM (FULL) */
		if (pages->blocks[i] >= nblocks)
			continue;
		CHECK_FOR_INTERRUPTS();
		buffer = ReadBuffer(rel, pages->blocks[i]);
		heap_page_prune_opt(rel, buffer);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		space = PageGetHeapFreeSpace(page);
		/* full pages are pruned if they can be */
		seen = space < PAGE_FULL && TransactionIdIsValid(((PageHeader) page)->pd_prune_xid);
		UnlockReleaseBuffer(buffer);
		if (seen)
			break;
		RecordPageWithFreeSpace(rel, pages->blocks[i], space);
		low = Min(low, pages->blocks[i]);
		high = Max(high, pages->blocks[i]);
	}
	if (low != InvalidBlockNumber)
		FreeSpaceMapVacuumRange(rel, low, high + 1);
	table_close(rel, NoLock);
	return i;
}

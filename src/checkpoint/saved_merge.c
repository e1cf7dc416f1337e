/*-------------------------------------------------------------------------
 *
 * saved_merge.c
 *	  Many small segments become one.
 *
 * At low rates an epoch has a few entries, and there are hundreds of epochs a
 * second: their segments would be counted in millions before the bytes are
 * worth rewriting.  So each SAVED_MERGE epochs in a row become one, of those again
 * SAVED_MERGE, and so on.  It happens in a checkpoint, whose rows wait for it: so
 * fewer are merged where they are SAVED_MERGE_BYTES already, and what is larger
 * than half of that is merged no more.  Only rows of the catalog are read; of a key
 * that several hold the last record stays.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "checkpoint/barrier.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* What a record's key is unique in. */
typedef struct MergedPlace
{
	int64		pane;
	uint16		op;
	uint16		group;
	uint32		meta;			/* of the key, without its length */
} MergedPlace;

StaticAssertDecl(sizeof(MergedPlace) == 16, "no bytes that fill it up are hashed");

/* Keys are told apart by 128 bits of their hash. */
typedef struct MergedRecord
{
	XXH128_hash_t key;
	uint16		op;
	uint16		group;
	int64		pane;
	StateRecord *record;
} MergedRecord;

typedef struct MergeContext
{
	Saved	   *saved;
	const char *pipeline;
	MemoryContext cxt;
	HTAB	   *records;
} MergeContext;

static void
merge_record(const StateRun *run, const StateRecord *record, void *arg)
{
	MergeContext *merge = arg;
	const StateShape *shape = &merge->saved->shapes[run->op];
	/* with the key group: blocks of rows that wait are numbered in each (over_wait.c) */
	MergedPlace place = {run->pane, run->op, run->group, record->key_meta & ~STATE_KEY_MAX};
	XXH128_hash_t key;
	MergedRecord *merged;
	bool		found;

	key = XXH3_128bits_withSeed(STATE_RECORD_FIXED(record) + state_shape_size(shape, record->key_meta), STATE_KEY_LEN(record->key_meta),
								XXH3_64bits(&place, sizeof(place)));
	merged = hash_search(merge->records, &key, HASH_ENTER, &found);
	if (found)
		pfree(merged->record);
	merged->op = run->op;
	merged->group = run->group;
	merged->pane = run->pane;
	merged->record = MemoryContextAlloc(merge->cxt, record->size);
	memcpy(merged->record, record, record->size);
}

static void
merge_segment(const SegmentRow *segment, void *arg)
{
	MergeContext *merge = arg;
	const char *wrong = state_segment_read(segment->data, segment->len, merge->saved->signature, segment->epoch,
										   merge->saved->shapes, merge->saved->nshapes, NULL, merge_record, merge);

	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("saved state of pipeline \"%s\" cannot be used", merge->pipeline),
				 errdetail("Segment %d of epoch " INT64_FORMAT ": %s.", segment->number, segment->epoch, wrong)));
}

static int
compare_records(const void *a, const void *b)
{
	const MergedRecord *x = *(MergedRecord *const *) a;
	const MergedRecord *y = *(MergedRecord *const *) b;

	if (x->op != y->op)
		return x->op < y->op ? -1 : 1;
	if (x->pane != y->pane)
		return x->pane < y->pane ? -1 : 1;
	return (int) x->group - (int) y->group;
}

/* The records, sorted, as runs in segments. */
static void
write_merged(Saved *saved, const char *pipeline, MergedRecord **records, int n)
{
	SavedWriter writer;
	int			i;

	saved_writer_begin(&writer, saved, &saved->merged, pipeline);
	for (i = 0; i < n; i++)
	{
		StateRun	run = {.op = records[i]->op,.group = records[i]->group,.pane = records[i]->pane};

		saved_writer_put(&writer, &run, records[i]->record);
	}
	saved_writer_end(&writer);
}

/* The epochs at the end that are of one level, from the lowest, if they are enough; how many. */
static int
find_mergeable(Saved *saved, int *from)
{
	int			end = saved->n;

	while (end > 0 && saved->epochs[end - 1].level != SAVED_LARGE)
	{
		int			level = saved->epochs[end - 1].level;
		int			first = end;
		int64		bytes = 0;

		while (first > 0 && saved->epochs[first - 1].level == level)
			bytes += saved->epochs[--first].bytes;
		if (end - first >= SAVED_MERGE || (end - first > 1 && bytes >= SAVED_MERGE_BYTES))
		{
			*from = first;
			return end - first;
		}
		end = first;
	}
	return 0;
}

void
saved_merge(Saved *saved, const char *pipeline)
{
	HASHCTL		ctl = {.keysize = sizeof(XXH128_hash_t), .entrysize = sizeof(MergedRecord)};
	MergeContext merge = {saved, pipeline};
	MergedRecord **records;
	MergedRecord *record;
	HASH_SEQ_STATUS seq;
	MemoryContext old;
	int			level;
	int			n = 0;
	int			i;

	saved->merge_count = find_mergeable(saved, &saved->merge_from);
	if (saved->merge_count == 0)
		return;
	merge.cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc merge", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(merge.cxt);
	ctl.hcxt = merge.cxt;
	merge.records = hash_create("streamproc merged records", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	saved->merged = (SavedEpoch) {0};
	level = saved->epochs[saved->merge_from].level;
	for (i = saved->merge_from; i < saved->merge_from + saved->merge_count; i++)
	{
		SavedEpoch *e = &saved->epochs[i];

		if (saved->merged.first_epoch == 0)
			saved->merged.first_epoch = e->first_epoch;
		saved->merged.epoch = e->epoch;
		/* without anything alive they are deleted already */
		if (e->live <= 0)
			continue;
		saved->merged.live += e->live;
		catalog_epoch_read(pipeline, e->epoch, e->nsegments, merge_segment, &merge);
		catalog_epoch_delete(pipeline, e->epoch, e->nsegments, &saved->freeing);
	}
	FAULT_POINT("merge-segments");
	records = palloc(sizeof(MergedRecord *) * Max(hash_get_num_entries(merge.records), 1));
	hash_seq_init(&seq, merge.records);
	while ((record = hash_seq_search(&seq)) != NULL)
		records[n++] = record;
	qsort(records, n, sizeof(MergedRecord *), compare_records);
	write_merged(saved, pipeline, records, n);
	saved->merged.level = saved->merged.bytes > SAVED_SMALL ? SAVED_LARGE : level + 1;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(merge.cxt);
}

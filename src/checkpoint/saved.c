/*-------------------------------------------------------------------------
 *
 * saved.c
 *	  The state in the catalog: segments, by epoch.
 *
 * Segments are a log.  Each checkpoint appends the entries that changed; an
 * entry is what the last segment that holds it says.  So an old segment is needed
 * as long as some entry stands in no later one.  How many such entries each
 * epoch's segments hold is counted: an entry that is written anew, or whose
 * pane is closed, is one less (StateEntry.written says of which epoch).  At
 * zero the segments are deleted, in the transaction that made it zero.
 *
 * So that this happens in the end, entries of the oldest segments are written anew
 * before they have changed.  A hand goes round over the key groups and takes
 * those from before a certain epoch along, the epoch from which on there are
 * REWRITE_KEEP bytes for each byte of state.  It moves on in proportion to what changes, so the log stays
 * below about twice the state, recovery reads no more than that, and what is written
 * beyond the changes is least where much changes, since then few old entries are left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "checkpoint/barrier.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

/* bytes of log per byte of state */
#define REWRITE_KEEP	2.0
/* bytes looked at per byte written: a sixteenth of the state changes while the hand goes round */
#define HAND_SPEED		16
/* pages of deleted segments that a checkpoint makes ready, besides in proportion to what is stored */
#define REUSE_LEAST		256
/* below this nobody minds */
#define REWRITE_LEAST	(1024 * 1024)

uint64
saved_signature_of(const char *text, Size len)
{
	return XXH3_64bits(text, len);
}

Saved *
saved_create(MemoryContext cxt)
{
	Saved	   *saved = MemoryContextAllocZero(cxt, sizeof(Saved));

	saved->cxt = saved->freeing.cxt = saved->freed.cxt = cxt;
	return saved;
}

static SavedEpoch *
find_epoch(Saved *saved, uint32 epoch)
{
	int			low = 0;
	int			high = saved->n;

	while (low < high)
	{
		int			mid = low + (high - low) / 2;

		if ((int32) ((uint32) saved->epochs[mid].epoch - epoch) < 0)
			low = mid + 1;
		else if ((int32) (epoch - (uint32) saved->epochs[mid].first_epoch) >= 0)
			return &saved->epochs[mid];
		else
			high = mid;
	}
	return NULL;
}

static SavedEpoch *
add_epoch(Saved *saved, int64 epoch)
{
	if (saved->n > 0 && saved->epochs[saved->n - 1].epoch == epoch)
		return &saved->epochs[saved->n - 1];
	if (saved->n == saved->size)
	{
		saved->size = Max(64, saved->size * 2);
		saved->epochs = saved->epochs == NULL ?
			MemoryContextAlloc(saved->cxt, sizeof(SavedEpoch) * saved->size) :
			repalloc_huge(saved->epochs, sizeof(SavedEpoch) * saved->size);
	}
	saved->epochs[saved->n] = (SavedEpoch) {epoch, epoch, 0, 0, 0, 0};
	return &saved->epochs[saved->n++];
}

void
saved_entries_gone(Saved *saved, uint32 epoch, uint32 count)
{
	SavedEpoch *e = epoch != 0 ? find_epoch(saved, epoch) : NULL;

	if (e != NULL)
		e->live -= count;
}

/* ---- recovery ---- */

typedef struct LoadContext
{
	Saved	   *saved;
	StateArea  *area;
	OperatorSpec **specs;
	const char *pipeline;
	SavedEpoch *epoch;
	int			op;				/* of the last record, with its pane: is it needed? */
	int64		pane;
	bool		needed;
} LoadContext;

/* Are some windows of the pane not given out yet? */
static bool
pane_needed(LoadContext *cxt, const StateRun *run)
{
	const OperatorSpec *spec = cxt->specs[run->op];

	/* rows that have waited were answered; history that is over is closed again when all is loaded (keyed_close_loaded()), so that its counts go on */
	if (operator_gives_rows(spec))
		return !OVER_IS_WAITING(run->pane) || operator_pane_end(spec, run->pane) > spec->answered_until;
	if (spec->window == OPERATOR_NO_WINDOW)
		return true;
	return operator_closing(spec, operator_last_end(spec, run->pane)) > spec->closed_until;
}

static void
load_record(const StateRun *run, const StateRecord *record, void *arg)
{
	LoadContext *cxt = arg;
	uint32		replaced;

	if (cxt->op != run->op || cxt->pane != run->pane)
	{
		CHECK_FOR_INTERRUPTS();
		cxt->op = run->op;
		cxt->pane = run->pane;
		cxt->needed = pane_needed(cxt, run);
	}
	if (!cxt->needed)
		return;
	state_record_load(cxt->area, run, record, (uint32) cxt->epoch->epoch, &replaced);
	cxt->epoch->live++;
	saved_entries_gone(cxt->saved, replaced, 1);
}

static const char *
check_record(const StateRun *run, const StateRecord *record, void *arg)
{
	LoadContext *cxt = arg;

	return operator_record_wrong(cxt->specs[run->op], run, record);
}

static void
load_segment(const SegmentRow *segment, void *arg)
{
	LoadContext *cxt = arg;
	Saved	   *saved = cxt->saved;
	const char *wrong;

	FAULT_POINT("recover-segment");
	cxt->epoch = add_epoch(saved, segment->epoch);
	cxt->epoch->first_epoch = segment->first_epoch;
	saved->nsegments++;
	cxt->epoch->nsegments = Max(cxt->epoch->nsegments, segment->number + 1);
	cxt->epoch->bytes += segment->len;
	saved->bytes += segment->len;
	cxt->op = -1;
	wrong = state_segment_read(segment->data, segment->len, saved->signature, segment->epoch,
							   saved->shapes, saved->nshapes, check_record, load_record, cxt);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("saved state of pipeline \"%s\" cannot be used", cxt->pipeline),
				 errdetail("Segment %d of epoch " INT64_FORMAT ": %s.", segment->number, segment->epoch, wrong),
				 errhint("Restore table streamproc.state_segment, or create the pipeline anew.")));
}

/* How often each was merged is seen by how many epochs it holds. */
static void
find_levels(Saved *saved)
{
	int			highest = 0;
	int			i;

	for (i = saved->n - 1; i >= 0; i--)
	{
		SavedEpoch *e = &saved->epochs[i];
		int64		span;

		for (span = e->epoch - e->first_epoch + 1; span >= SAVED_MERGE; span /= SAVED_MERGE)
			e->level++;
		/* epochs in which nothing changed are no part of it, but levels fall towards the end */
		e->level = highest = Max(highest, e->level);
		if (e->bytes > SAVED_SMALL)
			e->level = SAVED_LARGE;
	}
}

void
saved_load(Saved *saved, StateArea *area, const PositionRow *position, OperatorSpec **specs)
{
	LoadContext cxt = {saved, area, specs, position->pipeline, NULL, -1, 0, false};
	StringInfoData signature;
	int			i;

	initStringInfo(&signature);
	saved->nshapes = area->root->noperators;
	for (i = 0; i < saved->nshapes; i++)
	{
		const StateOperator *op = &area->root->op[i];

		operator_signature(specs[i], &signature);
		/* the specs are gone when the program is loaded anew; the area stays as long as we do */
		saved->shapes[i] = state_shape_of(op);
	}
	saved->signature = saved_signature_of(signature.data, signature.len);
	pfree(signature.data);
	catalog_segments_read(position->pipeline, true, load_segment, &cxt);
	if (saved->nsegments != position->segments)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("saved state of pipeline \"%s\" cannot be used", position->pipeline),
				 errdetail("There are %d segments of it where its position says %d.", saved->nsegments, position->segments),
				 errhint("Restore table streamproc.state_segment, or create the pipeline anew.")));
	find_levels(saved);
}

/* ---- writing ---- */

void
saved_writer_begin(SavedWriter *writer, Saved *saved, SavedEpoch *epoch, const char *pipeline)
{
	memset(writer, 0, sizeof(*writer));
	writer->saved = saved;
	writer->epoch = epoch;
	writer->pipeline = pipeline;
	writer->buffers = palloc((Size) SEGMENT_BYTES * SAVED_AT_ONCE);
	writer->bytes = sizeof(StateSegmentHeader);
}

static void
finish_segment(SavedWriter *writer, SegmentRow *row, char *segment, Size bytes)
{
	SavedEpoch *epoch = writer->epoch;

	state_segment_finish(segment, bytes, writer->saved->signature, epoch->epoch);
	row->epoch = epoch->epoch;
	row->number = epoch->nsegments++;
	row->first_epoch = epoch->first_epoch;
	row->horizon = DT_NOEND;
	row->data = segment;
	row->len = bytes;
	epoch->bytes += bytes;
}

static void
flush_segments(SavedWriter *writer)
{
	if (writer->n == 0)
		return;
	FAULT_POINT("save-segment");
	CHECK_FOR_INTERRUPTS();
	catalog_segments_insert(writer->pipeline, writer->rows, writer->n);
	writer->n = 0;
}

static void
end_segment(SavedWriter *writer)
{
	if (writer->bytes == sizeof(StateSegmentHeader))
		return;
	finish_segment(writer, &writer->rows[writer->n], writer->buffers + (Size) SEGMENT_BYTES * writer->n, writer->bytes);
	writer->bytes = sizeof(StateSegmentHeader);
	writer->run = NULL;
	if (++writer->n == SAVED_AT_ONCE)
		flush_segments(writer);
}

/* A record of its own segment, however long that is. */
static void
put_alone(SavedWriter *writer, const StateRun *run, const StateRecord *record)
{
	Size		bytes = sizeof(StateSegmentHeader) + sizeof(StateRun) + record->size;
	char	   *segment = palloc_extended(bytes, MCXT_ALLOC_HUGE);
	StateRun   *own = (StateRun *) (segment + sizeof(StateSegmentHeader));
	SegmentRow	row;

	end_segment(writer);
	flush_segments(writer);
	*own = *run;
	own->nrecords = 1;
	own->bytes = record->size;
	memcpy(own + 1, record, record->size);
	finish_segment(writer, &row, segment, bytes);
	catalog_segments_insert(writer->pipeline, &row, 1);
	pfree(segment);
}

/* Of "run" it matters whose records they are, not how many or how long. */
void
saved_writer_put(SavedWriter *writer, const StateRun *run, const StateRecord *record)
{
	char	   *segment = writer->buffers + (Size) SEGMENT_BYTES * writer->n;
	StateRun   *own = writer->run;

	if (record->size > SEGMENT_BYTES - sizeof(StateSegmentHeader) - sizeof(StateRun))
	{
		put_alone(writer, run, record);
		return;
	}
	if (own != NULL && (own->op != run->op || own->group != run->group || own->pane != run->pane))
		own = NULL;
	if (writer->bytes + record->size + (own == NULL ? sizeof(StateRun) : 0) > SEGMENT_BYTES)
	{
		end_segment(writer);
		segment = writer->buffers + (Size) SEGMENT_BYTES * writer->n;
		own = NULL;
	}
	if (own == NULL)
	{
		own = writer->run = (StateRun *) (segment + writer->bytes);
		*own = *run;
		own->nrecords = 0;
		own->bytes = 0;
		writer->bytes += sizeof(StateRun);
	}
	memcpy(segment + writer->bytes, record, record->size);
	writer->bytes += record->size;
	own->nrecords++;
	own->bytes += record->size;
}

void
saved_writer_end(SavedWriter *writer)
{
	end_segment(writer);
	flush_segments(writer);
	pfree(writer->buffers);
}

/* What a task has cut. */
static void
write_cut(SavedWriter *writer, StateArea *area, const BarrierLog *cut)
{
	dsa_pointer p;

	for (p = cut->first; DsaPointerIsValid(p);)
	{
		BarrierBlock *block = dsa_get_address(area->dsa, p);
		const char *at = block->bytes;

		while (at < block->bytes + block->used)
		{
			const StateRun *run = (const StateRun *) at;
			uint32		i;

			at += sizeof(StateRun);
			for (i = 0; i < run->nrecords; i++)
			{
				const StateRecord *record = (const StateRecord *) at;

				saved_writer_put(writer, run, record);
				at += record->size;
			}
			writer->epoch->live += run->nrecords;
		}
		p = block->next;
	}
}

static void
reuse_pages(Saved *saved)
{
	int			n;

	if (saved->freed.n == 0)
		return;
	/* twice as many as are freed, on average */
	n = catalog_pages_reuse("state_segment", &saved->freed, REUSE_LEAST + 2 * saved->nsegments);
	if (n == 0)
		return;
	saved->freed.n -= n;
	memmove(saved->freed.blocks, saved->freed.blocks + n, sizeof(uint32) * saved->freed.n);
}

/* May run again for the same epoch after its transaction was rolled back. */
void
saved_write(Saved *saved, StateArea *area, const BarrierLog *cuts, int n, int64 superseded, const char *pipeline, int64 epoch)
{
	SavedEpoch	fresh = {epoch, epoch, 0, 0, 0, 0};
	SavedWriter writer;
	SavedEpoch *e;
	int			t;
	int			i;

	/* of a try that was rolled back */
	if (saved->n > 0 && saved->epochs[saved->n - 1].epoch == epoch)
		saved->n--;
	saved->freeing.n = 0;
	reuse_pages(saved);
	saved_writer_begin(&writer, saved, &fresh, pipeline);
	for (t = 0; t < n; t++)
		write_cut(&writer, area, &cuts[t]);
	saved_writer_end(&writer);
	fresh.live -= superseded;

	/* counts of older epochs were brought up to date when the cut was taken over */
	for (i = 0; i < saved->n; i++)
		if (saved->epochs[i].live <= 0)
			catalog_epoch_delete(pipeline, saved->epochs[i].epoch, saved->epochs[i].nsegments, &saved->freeing);
	saved_merge(saved, pipeline);
	if (fresh.nsegments > 0)
	{
		fresh.level = fresh.bytes > SAVED_SMALL ? SAVED_LARGE : 0;
		e = add_epoch(saved, epoch);
		*e = fresh;
	}
	saved->last_bytes = fresh.bytes;
	saved->last_epoch = epoch;

	saved->nsegments = fresh.nsegments + (saved->merge_count > 0 ? saved->merged.nsegments : 0);
	for (i = 0; i < saved->n; i++)
		if (saved->epochs[i].live > 0 && saved->epochs[i].epoch != epoch &&
			(i < saved->merge_from || i >= saved->merge_from + saved->merge_count))
			saved->nsegments += saved->epochs[i].nsegments;
}

/* The transaction is committed: what it deleted is gone. */
void
saved_committed(Saved *saved)
{
	int			n = 0;
	int			i;

	for (i = 0; i < saved->merge_count; i++)
		saved->epochs[saved->merge_from + i].live = 0;
	if (saved->merge_count > 0)
		saved->epochs[saved->merge_from + saved->merge_count - 1] = saved->merged;
	saved->merge_count = 0;
	catalog_pages_add(&saved->freed, saved->freeing.blocks, saved->freeing.n);
	saved->freeing.n = 0;
	saved->bytes = 0;
	for (i = 0; i < saved->n; i++)
		/* the one just written is there even if nothing of it is alive: the next one deletes it */
		if (saved->epochs[i].live > 0 || saved->epochs[i].epoch == saved->last_epoch)
		{
			saved->bytes += saved->epochs[i].bytes;
			saved->epochs[n++] = saved->epochs[i];
		}
	saved->n = n;
}

/* ---- rewriting ---- */

int64
saved_entries_bytes(StateArea *area)
{
	int64		bytes = 0;
	int			op;

	for (op = 0; op < area->root->noperators; op++)
	{
		int			n;
		StatePane **panes = state_panes(area, op, &n);
		int			p,
					g;

		for (p = 0; p < n; p++)
			for (g = 0; g < STATE_GROUPS && !panes[p]->closed; g++)
				bytes += ((int64) panes[p]->chunk[g].used - panes[p]->chunk[g].garbage) * 8;
		pfree(panes);
	}
	return bytes;
}

/* While tasks run, the size of the state is a guess. */
void
saved_plan_rewriting(Saved *saved, StateArea *area, Barrier *barrier)
{
	int64		state;
	double		kept = 0;
	int			i;

	barrier->rewrite_groups = 0;
	if (saved->bytes < REWRITE_LEAST || saved->n < 2)
		return;
	state = Max(saved_entries_bytes(area), 1);
	if (saved->bytes <= REWRITE_KEEP * state)
		return;
	for (i = saved->n; i > 1 && kept + saved->epochs[i - 1].bytes <= REWRITE_KEEP * state; i--)
		kept += saved->epochs[i - 1].bytes;
	barrier->rewrite_before = (uint32) saved->epochs[Min(i, saved->n - 1)].first_epoch;
	barrier->rewrite_from = saved->hand;
	barrier->rewrite_groups = (int) Min((double) STATE_GROUPS, 1 + STATE_GROUPS * HAND_SPEED * ((double) saved->last_bytes / state));
	saved->hand = (saved->hand + barrier->rewrite_groups) % STATE_GROUPS;
}

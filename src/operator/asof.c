/*-------------------------------------------------------------------------
 *
 * asof.c
 *	  As-of joins of two topics: each row of the left side with the version of its
 *	  key that was the last one at its event time.
 *
 * Rows of both sides are rows of one operator and wait until the watermark has
 * passed them, as those of window functions do (over_wait.c).  Then those of a key
 * come in the order of event time: a version takes the place of the one before
 * it, a row of the left side is given out with the version that stands there.
 * So versions that the watermark has not passed are among the rows that wait,
 * and of those that it has passed one is kept for each key, in the entry of
 * the eternal pane.
 *
 * Versions of one instant are one after another for nobody: rows of the left side
 * find that which comes first in ORDER BY behind the event time, and among equal
 * ones the last by partition and offset.
 *
 * With state_ttl a version is forgotten that is so much older than the row that looks for
 * it, or than the watermark (ttl.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/over.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/sortsupport.h"

/* One key group at work. */
struct AsofWork
{
	OperatorSpec *spec;
	AsofSpec   *asof;
	StateArea  *area;
	int			group;
	StatePane  *eternal;		/* NULL: nobody has kept a version yet */
	StateCursor versions;		/* of the group there */
	StringInfoData version;		/* of the present key: its event time, then its columns; empty: there is none */
	StringInfoData out;
	MemoryContext row_cxt;		/* of conditions and comparisons */
};

/* ---- what the plan says ---- */

void
asof_spec_make(OperatorSpec *spec, const AsofPlan *plan, const List *columns)
{
	AsofSpec   *asof = palloc0(sizeof(AsofSpec));
	ListCell   *lc,
			   *lo,
			   *ln;
	int			i;

	spec->asof = asof;
	asof->outer = plan->outer;
	asof->strict = plan->strict;
	asof->side_column = plan->side_column;
	asof->first[0] = plan->side_column + 1;
	asof->first[1] = asof->first[0] + plan->ncolumns[0];
	asof->n[0] = plan->ncolumns[0];
	asof->n[1] = plan->ncolumns[1];
	initStringInfo(&asof->nulls);
	for (i = asof->first[1]; i < asof->first[1] + asof->n[1]; i++)
		state_datum_write(&asof->nulls, (Datum) 0, true, spec->column_len[i], spec->column_byval[i]);

	asof->sort_column = palloc(sizeof(int) * Max(list_length(plan->sort_columns), 1));
	asof->sortop = palloc(sizeof(Oid) * Max(list_length(plan->sort_columns), 1));
	asof->sort = palloc0(sizeof(SortSupportData) * Max(list_length(plan->sort_columns), 1));
	forthree(lc, plan->sort_columns, lo, plan->sort_ops, ln, plan->nulls_first)
	{
		SortSupport sort = &asof->sort[asof->nsort];

		asof->sort_column[asof->nsort] = lfirst_int(lc);
		asof->sortop[asof->nsort] = lfirst_oid(lo);
		sort->ssup_cxt = CurrentMemoryContext;
		sort->ssup_collation = exprCollation(list_nth(columns, lfirst_int(lc)));
		sort->ssup_nulls_first = lfirst_int(ln) != 0;
		PrepareSortSupportFromOrderingOp(lfirst_oid(lo), sort);
		asof->nsort++;
	}

	/* rows wait in slices as if these were windows */
	spec->waits = true;
	spec->window = OPERATOR_TUMBLE;
	spec->scale.unit = WINDOW_USEC;
	spec->scale.step = OVER_WAITING_SLICE;
	spec->scale.slices = 1;
	spec->fixed_size = sizeof(StateBlob);
	spec->nblobs = 1;
	spec->blob[0] = OVER_BLOB;
	spec->first_kept = spec->nkeys;
	waiting_spec_make(spec);
}

void
asof_signature(const OperatorSpec *spec, StringInfo into)
{
	const AsofSpec *asof = spec->asof;
	int			i;

	appendStringInfo(into, " as-of %s join%s", asof->outer ? "left" : "inner", asof->strict ? " strict" : "");
	for (i = 0; i < asof->nsort; i++)
		appendStringInfo(into, "%s %s of column %d%s", i > 0 ? "," : " by", get_opname(asof->sortop[i]), asof->sort_column[i],
						 asof->sort[i].ssup_nulls_first ? " nulls first" : "");
	/* what rows that wait and versions that are kept look like */
	for (i = asof->first[0]; i < spec->ncolumns; i++)
		appendStringInfo(into, "%s%d", i == asof->first[1] ? "; and " : i == asof->first[0] ? "; columns " : ",", spec->column_len[i]);
}

char *
asof_describe(const OperatorSpec *spec)
{
	return psprintf("as-of %s join, rows kept until the watermark has passed them, of versions then the last one of each key",
					spec->asof->outer ? "left" : "inner");
}

/* ---- applying ---- */

void
asof_apply_group(OperatorRows *rows, StateArea *area, int group)
{
	const AsofSpec *asof = rows->spec->asof;
	OperatorRow **link = &rows->first[group];

	/* a version that nobody can find: null is equal to nothing */
	while (*link != NULL)
	{
		OperatorRow *row = *link;

		if ((row->key_meta & STATE_KEY_NULLS) && DatumGetInt32(row->values[asof->side_column]) == 1)
			*link = row->next;
		else
			link = &row->next;
	}
	over_wait(rows, area, group);
}

/* ---- rows that the watermark has passed ---- */

AsofWork *
asof_begin(OperatorSpec *spec, StateArea *area, int group)
{
	AsofWork   *work = palloc0(sizeof(AsofWork));

	work->spec = spec;
	work->asof = spec->asof;
	work->area = area;
	work->group = group;
	work->eternal = state_pane(area, spec->number, STATE_PANE_ETERNAL, false);
	if (work->eternal != NULL)
		state_cursor_open(&work->versions, area, spec->number, &work->eternal->chunk[group]);
	initStringInfo(&work->version);
	initStringInfo(&work->out);
	work->row_cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc row with its version", ALLOCSET_SMALL_SIZES);
	return work;
}

void
asof_end(AsofWork *work)
{
	MemoryContextDelete(work->row_cxt);
	pfree(work->version.data);
	pfree(work->out.data);
	pfree(work);
}

static inline bool
is_version(const AsofWork *work, const OverRow *row)
{
	return DatumGetInt32(row->values[work->asof->side_column]) == 1;
}

static void
append_columns(const AsofWork *work, const OverRow *row, int side, StringInfo into)
{
	const OperatorSpec *spec = work->spec;
	int			first = work->asof->first[side];
	int			i;

	for (i = first; i < first + work->asof->n[side]; i++)
		state_datum_write(into, row->values[i], (row->nulls & (UINT64CONST(1) << i)) != 0, spec->column_len[i], spec->column_byval[i]);
}

/* The version of the key that is kept. */
static void
find_version(AsofWork *work, const OverRow *row)
{
	StateEntry *entry = NULL;
	const StateBlob *blob;

	resetStringInfo(&work->version);
	if (work->eternal != NULL && (row->key_meta & STATE_KEY_NULLS) == 0)
		entry = state_entry_find(&work->versions, row->hash, row->key, row->key_meta);
	if (entry == NULL)
		return;
	blob = (const StateBlob *) (STATE_ENTRY_FIXED(entry) + OVER_BLOB);
	appendBinaryStringInfo(&work->version, state_blob_bytes(work->versions.data, blob), (int) blob->len);
}

/* It takes the place of what was kept. */
static void
keep_version(AsofWork *work, const OverRow *row)
{
	StateEntry *entry;
	bool		found;

	if (work->eternal == NULL)
	{
		work->eternal = state_pane(work->area, work->spec->number, STATE_PANE_ETERNAL, true);
		state_cursor_open(&work->versions, work->area, work->spec->number, &work->eternal->chunk[work->group]);
	}
	entry = state_entry_make(&work->versions, row->hash, row->key, row->key_meta, &found);
	state_entry_mark(&work->versions, entry);
	(void) state_blob_set(&work->versions, entry, OVER_BLOB, work->version.data, work->version.len);
}

/* Does ORDER BY put the first row before the other one, or beside it? */
static bool
comes_first(AsofWork *work, const OverRow *row, const OverRow *other)
{
	AsofSpec   *asof = work->asof;
	MemoryContext old = MemoryContextSwitchTo(work->row_cxt);
	int			c = 0;
	int			i;

	for (i = 0; i < asof->nsort && c == 0; i++)
	{
		int			column = asof->sort_column[i];
		uint64		bit = UINT64CONST(1) << column;

		c = ApplySortComparator(row->values[column], (row->nulls & bit) != 0, other->values[column], (other->nulls & bit) != 0, &asof->sort[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(work->row_cxt);
	return c <= 0;
}

/* Of rows of one instant the version that is to be found from now on; false: there is none among them. */
static bool
take_version(AsofWork *work, const OverRow *rows, int n)
{
	const OverRow *best = NULL;
	TimestampTz at = rows[0].at;
	int			i;

	/* by partition and offset */
	for (i = 0; i < n; i++)
		if (is_version(work, &rows[i]) && (best == NULL || comes_first(work, &rows[i], best)))
			best = &rows[i];
	if (best == NULL)
		return false;
	resetStringInfo(&work->version);
	appendBinaryStringInfo(&work->version, (const char *) &at, sizeof(at));
	append_columns(work, best, 1, &work->version);
	return true;
}

/* Is there a version that is not forgotten at this instant? */
static bool
has_version(const AsofWork *work, TimestampTz at)
{
	TimestampTz version_at;

	if (work->version.len == 0)
		return false;
	if (work->spec->ttl == 0)
		return true;
	memcpy(&version_at, work->version.data, sizeof(version_at));
	return at < state_expires(version_at, work->spec->ttl);
}

/* Do the conditions above let it through? */
static bool
passes_filter(AsofWork *work)
{
	OperatorSpec *spec = work->spec;
	MemoryContext old;
	bool		passes;

	if (spec->filter == NULL)
		return true;
	old = MemoryContextSwitchTo(work->row_cxt);
	ExecClearTuple(spec->slot);
	output_row_read(spec, work->out.data, -1, NULL, spec->slot->tts_values, spec->slot->tts_isnull);
	ExecStoreVirtualTuple(spec->slot);
	passes = over_filter_passes(spec, spec->filter);
	MemoryContextSwitchTo(old);
	MemoryContextReset(work->row_cxt);
	return passes;
}

static void
answer_row(AsofWork *work, const OverRow *row)
{
	OverRecord	record = {0, (uint32) work->spec->number};
	StringInfo	out = &work->out;
	bool		found = has_version(work, row->at);

	if (!found && !work->asof->outer)
		return;
	resetStringInfo(out);
	appendBinaryStringInfo(out, (const char *) &record, sizeof(record));
	place_write(work->spec, row->part, row->offset, row->values, out);
	append_columns(work, row, 0, out);
	if (found)
		appendBinaryStringInfo(out, work->version.data + sizeof(TimestampTz), work->version.len - (int) sizeof(TimestampTz));
	else
		appendBinaryStringInfo(out, work->asof->nulls.data, work->asof->nulls.len);
	if (!passes_filter(work))
		return;
	appendStringInfoSpaces(out, (8 - out->len % 8) % 8);
	record.size = (uint32) out->len;
	memcpy(out->data, &record, sizeof(record));
	over_emit(out->data, out->len);
}

void
asof_answer(AsofWork *work, const OverRow *rows, int n)
{
	bool		strict = work->asof->strict;
	bool		changed = false;
	int			i,
				k;

	find_version(work, &rows[0]);
	for (i = 0; i < n; i = k)
	{
		TimestampTz at = rows[i].at;
		int			r;

		for (k = i + 1; k < n && rows[k].at == at; k++)
			;
		if (!strict)
			changed |= take_version(work, rows + i, k - i);
		for (r = i; r < k; r++)
		{
			CHECK_FOR_INTERRUPTS();
			if (!is_version(work, &rows[r]))
				answer_row(work, &rows[r]);
		}
		if (strict)
			changed |= take_version(work, rows + i, k - i);
	}
	if (changed)
		keep_version(work, &rows[0]);
}

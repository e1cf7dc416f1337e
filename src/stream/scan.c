/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Execution of scans: the feed scan that a task fills with batches, and the
 *	  way into the peek scan of peek.c.
 *
 * A feed scan is begun and ended for every batch, and hands out each row for a
 * few nanoseconds: it copies the needed columns of a row that the
 * task has decoded already.  Values stay where they are (the batch's arena),
 * which outlives the statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "stream/stream_int.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

StreamFeed *stream_feeds = NULL;
int			stream_nfeeds = 0;
StreamPlace stream_place;

typedef struct FeedScan
{
	const StreamFeed *feed;
	int			next;
	int			nneeded;
	int			needed[FLEXIBLE_ARRAY_MEMBER];	/* attnum - 1 */
} FeedScan;

typedef struct StreamScan
{
	StreamScanKind kind;
	FeedScan   *feed;
	StreamPeek *peek;
} StreamScan;

/* ---- feed ---- */

static FeedScan *
feed_begin(ForeignScanState *node)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;
	List	   *needed = stream_scan_needed(plan);
	Oid			relid = stream_scan_relid(plan);
	FeedScan   *scan = palloc(offsetof(FeedScan, needed) + sizeof(int) * list_length(needed));
	ListCell   *lc;

	scan->feed = NULL;
	for (int i = 0; i < stream_nfeeds && stream_feeds != NULL; i++)
		if (stream_feeds[i].relid == relid)
			scan->feed = &stream_feeds[i];
	if (scan->feed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("statement of a pipeline cannot run outside of the pipeline"),
				 errdetail("No batch of foreign table \"%s\" is there to be read.", get_rel_name(relid))));
	if (scan->feed->natts != slot->tts_tupleDescriptor->natts)
		elog(ERROR, "batch of relation %u has %d columns, its plan %d",
			 relid, scan->feed->natts, slot->tts_tupleDescriptor->natts);

	scan->next = scan->feed->first;
	scan->nneeded = 0;
	foreach(lc, needed)
	{
		if (!bms_is_member(lfirst_int(lc), scan->feed->needed))
			elog(ERROR, "batch of relation %u has no column %d", relid, lfirst_int(lc));
		scan->needed[scan->nneeded++] = lfirst_int(lc) - 1;
	}

	/* columns that are not needed are null in every row */
	memset(slot->tts_values, 0, sizeof(Datum) * slot->tts_tupleDescriptor->natts);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	return scan;
}

static TupleTableSlot *
feed_next(FeedScan *scan, TupleTableSlot *slot)
{
	const StreamFeed *feed = scan->feed;
	const Datum *values;
	const bool *isnull;
	Size		row;

	ExecClearTuple(slot);
	if (unlikely(feed->skip != NULL))
		while (scan->next < feed->last && feed->skip[scan->next])
			scan->next++;
	if (scan->next >= feed->last)
		return slot;

	stream_place.feed = feed;
	stream_place.row = scan->next;
	/* the place of the message, for operators: see plan/keyed_query.c */
	ItemPointerSet(&slot->tts_tid, scan->next, (OffsetNumber) (feed - stream_feeds + 1));
	row = (Size) scan->next++ * feed->natts;
	values = feed->values + row;
	isnull = feed->isnull + row;
	for (int i = 0; i < scan->nneeded; i++)
	{
		int			column = scan->needed[i];

		slot->tts_values[column] = values[column];
		slot->tts_isnull[column] = isnull[column];
	}
	return ExecStoreVirtualTuple(slot);
}

/* ---- the wrapper's routines ---- */

void
stream_begin_scan(ForeignScanState *node, int eflags)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	StreamScan  *state;

	if (!stream_scan_is_ours(plan))
		elog(ERROR, "scan was not planned by streamproc");
	state = palloc0(sizeof(StreamScan));
	state->kind = stream_scan_kind(plan);
	node->fdw_state = state;
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	if (state->kind == STREAM_SCAN_FEED)
		state->feed = feed_begin(node);
	else
		state->peek = stream_peek_begin(node);
}

TupleTableSlot *
stream_iterate_scan(ForeignScanState *node)
{
	StreamScan  *state = node->fdw_state;

	if (likely(state->kind == STREAM_SCAN_FEED))
		return feed_next(state->feed, node->ss.ss_ScanTupleSlot);
	return stream_peek_next(state->peek, node);
}

void
stream_rescan(ForeignScanState *node)
{
	StreamScan  *state = node->fdw_state;

	if (state->kind == STREAM_SCAN_FEED)
		state->feed->next = state->feed->feed->first;
	else
		stream_peek_restart(state->peek);
}

void
stream_end_scan(ForeignScanState *node)
{
	StreamScan  *state = node->fdw_state;

	if (state && state->peek)
		stream_peek_end(state->peek);
}

/* ---- EXPLAIN ---- */

static void
explain_conditions(ForeignScan *plan, StreamColumnKind kind, const char *label, ExplainState *es)
{
	/* of the plan node, or a parameter of a subquery could not be named */
	List	   *context = set_deparse_context_plan(es->deparse_cxt, (Plan *) plan, NIL);
	static const char *const operators[] = {"= ANY (", "< ", "<= ", "= ", ">= ", "> "};
	List	   *columns = list_nth(plan->fdw_private, STREAM_PLAN_COND_COLUMNS);
	List	   *strategies = list_nth(plan->fdw_private, STREAM_PLAN_COND_STRATEGIES);
	StringInfoData text;
	ListCell   *expr;
	ListCell   *column;
	ListCell   *strategy;

	initStringInfo(&text);
	forthree(expr, plan->fdw_exprs, column, columns, strategy, strategies)
	{
		if (lfirst_int(column) != kind)
			continue;
		appendStringInfo(&text, "%s%s%s%s", text.len > 0 ? ", " : "",
						 operators[lfirst_int(strategy)],
						 deparse_expression(lfirst(expr), context, false, false),
						 lfirst_int(strategy) == STREAM_STRATEGY_ANY ? ")" : "");
	}
	if (text.len > 0)
		ExplainPropertyText(label, text.data, es);
}

const char *
stream_format_name(CodecFormat format)
{
	const char *names[16];
	int			n = codec_format_names(names, lengthof(names));
	CodecFormat found;

	for (int i = 0; i < n; i++)
		if (codec_format_by_name(names[i], &found) && found == format)
			return names[i];
	return "?";
}

void
stream_explain_scan(ForeignScanState *node, ExplainState *es)
{
	ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
	StreamScan  *state = node->fdw_state;
	StreamSource *source = stream_source_load(stream_scan_relid(plan));
	List	   *decoded = NIL;
	ListCell   *lc;

	if (state->kind == STREAM_SCAN_FEED)
		ExplainPropertyText("Feed", "batch of the pipeline", es);
	ExplainPropertyText("Topic", source->topic, es);
	ExplainPropertyText("Format", stream_format_name(source->codec.format), es);
	foreach(lc, stream_scan_needed(plan))
		decoded = lappend(decoded, unconstify(char *, quote_identifier(source->columns[lfirst_int(lc) - 1].name)));
	if (decoded != NIL)
		ExplainPropertyList("Columns", decoded, es);
	if (state->kind == STREAM_SCAN_PEEK)
	{
		explain_conditions(plan, STREAM_COL_PARTITION, "Partitions", es);
		explain_conditions(plan, STREAM_COL_OFFSET, "Offsets", es);
		explain_conditions(plan, STREAM_COL_TIMESTAMP, "Timestamps", es);
		if (state->peek && es->analyze)
			stream_peek_explain(state->peek, es);
	}
}

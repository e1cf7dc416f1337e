/*-------------------------------------------------------------------------
 *
 * over_spec.c
 *	  What a plan says about window functions, made ready to run.
 *
 * An aggregate is running where its state can go from row to row: frames that
 * only grow, and those from which leaving rows can be taken out again.  The state
 * of others is made anew for each row, from the rows of its frame.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "operator/over.h"
#include "optimizer/optimizer.h"
#include "parser/parse_agg.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* so many slices of history are as long as the longest frame */
#define HISTORY_SLICES	8
#define HISTORY_LEAST	1000	/* us */
/* rows that frames by number, lag() and nth_value() may look back */
#define ROWS_MOST		10000

static const struct
{
	Oid			function;
	OverKind	kind;
}			kinds[] =
{
	{F_ROW_NUMBER, OVER_ROW_NUMBER},
	{F_RANK_, OVER_RANK},
	{F_DENSE_RANK_, OVER_DENSE_RANK},
	{F_LAG_ANYELEMENT, OVER_LAG},
	{F_LAG_ANYELEMENT_INT4, OVER_LAG},
	{F_LAG_ANYCOMPATIBLE_INT4_ANYCOMPATIBLE, OVER_LAG},
	{F_FIRST_VALUE, OVER_FIRST_VALUE},
	{F_LAST_VALUE, OVER_LAST_VALUE},
	{F_NTH_VALUE, OVER_NTH_VALUE},
};

static void
make_frame(OverFrame *frame, int options, Const *offset)
{
	frame->rows = (options & FRAMEOPTION_ROWS) != 0;
	frame->unbounded = (options & FRAMEOPTION_START_UNBOUNDED_PRECEDING) != 0;
	if (options & FRAMEOPTION_START_CURRENT_ROW)
	{
		frame->us = 0;			/* RANGE: the peers */
		return;
	}
	if (frame->unbounded)
		return;
	if (offset->constisnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("frame starting offset must not be null")));
	if (frame->rows)
	{
		frame->nrows = DatumGetInt64(offset->constvalue);
		if (frame->nrows < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PRECEDING_OR_FOLLOWING_SIZE),
					 errmsg("frame starting offset must not be negative")));
		if (frame->nrows > ROWS_MOST)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a frame of more than %d rows is not supported in a pipeline", ROWS_MOST),
					 errhint("Use RANGE BETWEEN an interval PRECEDING AND CURRENT ROW.")));
		return;
	}
	frame->preceding = *DatumGetIntervalP(offset->constvalue);
	frame->us = frame->preceding.month == 0 && frame->preceding.day == 0 ? frame->preceding.time : -1;
	if (frame->preceding.month < 0 || frame->preceding.day < 0 || frame->preceding.time < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PRECEDING_OR_FOLLOWING_SIZE),
				 errmsg("invalid preceding or following size in window function")));
}

/* at most */
static int64
frame_us(const OverFrame *frame)
{
	if (frame->us >= 0)
		return frame->us;
	/* months have at most 31 days, and a day 25 hours or a little more where a zone changes */
	return frame->preceding.time + ((int64) frame->preceding.month * 31 + frame->preceding.day + 1) * USECS_PER_DAY;
}

static Aggref *
as_aggref(WindowFunc *call)
{
	Aggref	   *aggref = makeNode(Aggref);
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(call->winfnoid));
	Oid			types[FUNC_MAX_ARGS];
	int			ntypes = 0;
	ListCell   *lc;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", call->winfnoid);
	aggref->aggfnoid = call->winfnoid;
	aggref->aggtype = call->wintype;
	aggref->aggcollid = call->wincollid;
	aggref->inputcollid = call->inputcollid;
	foreach(lc, call->args)
	{
		types[ntypes++] = exprType(lfirst(lc));
		aggref->aggargtypes = lappend_oid(aggref->aggargtypes, exprType(lfirst(lc)));
		aggref->args = lappend(aggref->args, makeTargetEntry(copyObject(lfirst(lc)), ntypes, NULL, false));
	}
	aggref->aggtranstype = resolve_aggregate_transtype(call->winfnoid, ((Form_pg_aggregate) GETSTRUCT(tuple))->aggtranstype, types, ntypes);
	ReleaseSysCache(tuple);
	aggref->aggfilter = copyObject(call->aggfilter);
	aggref->aggstar = call->winstar;
	aggref->aggkind = AGGKIND_NORMAL;
	aggref->aggsplit = AGGSPLIT_SIMPLE;
	aggref->aggno = aggref->aggtransno = -1;
	aggref->location = call->location;
	return aggref;
}

static int64
constant_argument(WindowFunc *call, int n)
{
	Node	   *arg = list_nth(call->args, n);

	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("argument %d of %s() in a pipeline must be a constant", n + 1, get_func_name(call->winfnoid)),
				 errhint("Write it as a literal.")));
	return DatumGetInt32(((Const *) arg)->constvalue);
}

static void
check_reach(const OverFunction *function)
{
	if (function->n < (function->kind == OVER_NTH_VALUE ? 1 : 0) || function->n > ROWS_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s() with a number of " INT64_FORMAT " rows is not supported in a pipeline", function->name, function->n),
				 errhint("Use a number between %d and %d.", function->kind == OVER_NTH_VALUE ? 1 : 0, ROWS_MOST)));
}

static void
make_aggregate(OperatorSpec *spec, OverFunction *function, WindowFunc *call, List *args, int filter)
{
	OverSpec   *over = spec->over;
	OverFrame  *frame = &over->frames[function->frame];
	AggregateSpec *agg = &function->agg;
	AclResult	result = pg_proc_aclcheck(call->winfnoid, GetUserId(), ACL_EXECUTE);
	ListCell   *lc;

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_AGGREGATE, function->name);
	agg->aggref = as_aggref(call);
	agg->name = function->name;
	agg->nargs = list_length(args);
	agg->args = palloc(sizeof(int) * Max(agg->nargs, 1));
	foreach(lc, args)
		agg->args[foreach_current_index(lc)] = lfirst_int(lc);
	agg->filter = filter;
	if (native_choose(agg))
	{
		function->running = frame->unbounded || native_takes_out(agg);
		agg->at = over->fixed_size;
		if (function->running)
			over->fixed_size += MAXALIGN(agg->size);
		return;
	}
	function->running = frame->unbounded;
	transition_init(function->running ? spec : over->scratch, agg);
	agg->kind = AGGREGATE_TRANSITION;
	if (!function->running)
		return;
	if (!transition_keeps(agg))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s() over all rows before is not supported in a pipeline", function->name),
				 errdetail("All of them would have to be kept."),
				 errhint("Use RANGE BETWEEN an interval PRECEDING AND CURRENT ROW.")));
	agg->at = over->fixed_size;
	over->fixed_size += MAXALIGN(sizeof(TransitionState));
}

static void
keep_column(OverSpec *over, int column)
{
	if (column < 0 || over->kept_at[column] >= 0)
		return;
	over->kept_at[column] = over->nkept;
	over->kept[over->nkept++] = column;
}

/* What of the rows must be remembered for the function. */
static void
remember(OverSpec *over, OverFunction *function)
{
	OverFrame  *frame = &over->frames[function->frame];
	int			i;

	/* rows of the present instant are looked at where they are remembered, too */
	keep_column(over, function->value);
	keep_column(over, function->otherwise);
	for (i = 0; i < function->agg.nargs; i++)
		keep_column(over, function->agg.args[i]);
	if (function->kind == OVER_AGGREGATE)
		keep_column(over, function->agg.filter);
	switch (function->kind)
	{
		case OVER_ROW_NUMBER:
		case OVER_RANK:
		case OVER_DENSE_RANK:
		case OVER_LAST_VALUE:
			break;
		case OVER_LAG:
			over->ring = Max(over->ring, function->n);
			break;
		case OVER_FIRST_VALUE:
		case OVER_NTH_VALUE:
			if (frame->unbounded)
				over->first = Max(over->first, function->kind == OVER_NTH_VALUE ? function->n : 1);
			/* FALLTHROUGH */
		case OVER_AGGREGATE:
			if (frame->unbounded)
				break;
			if (frame->rows)
				over->ring = Max(over->ring, frame->nrows + 1);
			else
			{
				frame->kept = true;
				over->span = Max(over->span, Max(frame_us(frame), 1));
			}
			break;
	}
}

void
over_spec_make(OperatorSpec *spec, const OverPlan *plan)
{
	OverSpec   *over = palloc0(sizeof(OverSpec));
	ListCell   *lc,
			   *lo,
			   *la,
			   *lf,
			   *lr;
	int			i;

	spec->over = over;
	over->arrival = plan->arrival;
	spec->waits = !plan->arrival;
	over->first_only = plan->first_only;
	over->scratch = palloc0(sizeof(OperatorSpec));
	over->scratch->group_context = CreateStandaloneExprContext();
	over->scratch->temp_context = CreateStandaloneExprContext();
	over->nframes = list_length(plan->frames);
	over->frames = palloc0(sizeof(OverFrame) * Max(over->nframes, 1));
	forboth(lc, plan->frames, lo, plan->offsets)
		make_frame(&over->frames[foreach_current_index(lc)], lfirst_int(lc), lfirst(lo));

	over->kept = palloc(sizeof(int) * spec->ncolumns);
	over->kept_at = palloc(sizeof(int) * spec->ncolumns);
	for (i = 0; i < spec->ncolumns; i++)
		over->kept_at[i] = -1;
	over->nfunctions = list_length(plan->functions);
	over->functions = palloc0(sizeof(OverFunction) * Max(over->nfunctions, 1));
	i = 0;
	forfour(lc, plan->functions, la, plan->args, lf, plan->filters, lr, plan->function_frames)
	{
		WindowFunc *call = lfirst_node(WindowFunc, lc);
		OverFunction *function = &over->functions[i++];
		List	   *args = lfirst(la);
		int			k;

		function->name = get_func_name(call->winfnoid);
		function->frame = lfirst_int(lr);
		function->value = function->otherwise = -1;
		function->kind = OVER_AGGREGATE;
		function->n = 1;
		get_typlenbyvalalign(call->wintype, &function->len, &function->byval, &function->align);
		if (call->winagg)
			make_aggregate(spec, function, call, args, lfirst_int(lf));
		else
		{
			for (k = 0; k < (int) lengthof(kinds); k++)
				if (kinds[k].function == call->winfnoid)
					function->kind = kinds[k].kind;
			if (function->kind == OVER_AGGREGATE)
				elog(ERROR, "window function %u is not known", call->winfnoid);
			if (list_length(args) > 0)
				function->value = linitial_int(args);
			if (list_length(args) > 1)
				function->n = constant_argument(call, 1);
			if (list_length(args) > 2)
				function->otherwise = lthird_int(args);
			if (list_length(args) > 1)
				check_reach(function);
		}
		remember(over, function);
	}

	/* what is kept of a key, see OverHead */
	for (i = 0; i < over->nframes; i++)
		if (over->frames[i].kept)
			over->frames[i].tail = over->ntails++;
	over->rare = over->arrival || over->first > 0;
	for (i = 0; i < over->nfunctions; i++)
	{
		const OverFunction *function = &over->functions[i];

		over->rare |= function->kind == OVER_RANK || function->kind == OVER_DENSE_RANK;
		over->transitions |= function->kind == OVER_AGGREGATE && function->running && function->agg.kind == AGGREGATE_TRANSITION;
		over->made_anew |= function->kind == OVER_AGGREGATE && !function->running && function->agg.kind == AGGREGATE_TRANSITION;
	}
	over->tails_at = sizeof(OverHead) + (over->rare ? sizeof(OverRare) : 0);
	over->fixed_at = over->tails_at + (uint32) sizeof(OverTail) * over->ntails;
	over->rows_at = over->fixed_at + over->fixed_size;
	over->row_most = OVER_BYTES_SIZE;
	for (i = 0; i < over->nkept && over->row_most > 0; i++)
		over->row_most = spec->column_len[over->kept[i]] > 0 ? over->row_most + 1 + spec->column_len[over->kept[i]] : 0;

	over->history.unit = WINDOW_USEC;
	over->history.step = Max(over->span / HISTORY_SLICES, HISTORY_LEAST);
	over->history.slices = 1;
	/* rows wait in slices as if these were windows */
	spec->window = over->arrival ? OPERATOR_NO_WINDOW : OPERATOR_TUMBLE;
	spec->scale.unit = WINDOW_USEC;
	spec->scale.step = OVER_WAITING_SLICE;
	spec->scale.slices = 1;
	spec->fixed_size = sizeof(StateBlob);
	spec->nblobs = 1;
	spec->blob[0] = OVER_BLOB;
	spec->first_kept = 0;
	waiting_spec_make(spec);
	/* window functions are anybody's, and so are conditions on what they give */
	spec->user_code = true;
}

TimestampTz
over_pane_end(const OperatorSpec *spec, int64 pane)
{
	const OverSpec *over = spec->over;

	if (pane == STATE_PANE_ETERNAL)
		return DT_NOEND;
	if (OVER_IS_WAITING(pane))
		return over_waiting_end(pane);
	/* one slice more: keys whose rows come often take out all that leaves */
	return (pane + 2) * over->history.step + over->span;
}

TimestampTz
over_frame_begin(const OverFrame *frame, TimestampTz at)
{
	if (frame->us >= 0)
		return at - frame->us;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(at),
												   IntervalPGetDatum(unconstify(Interval *, &frame->preceding))));
}

/* ---- what it says of itself ---- */

static void
describe_frame(const OverFrame *frame, StringInfo into)
{
	appendStringInfoString(into, frame->rows ? "rows" : "range");
	if (frame->unbounded)
		appendStringInfoString(into, " unbounded");
	else if (frame->rows)
		appendStringInfo(into, " " INT64_FORMAT, frame->nrows);
	else
		appendStringInfo(into, " %d mons %d days " INT64_FORMAT " us", frame->preceding.month, frame->preceding.day, frame->preceding.time);
}

void
over_signature(const OperatorSpec *spec, StringInfo into)
{
	const OverSpec *over = spec->over;
	int			i;

	appendStringInfo(into, " over, layout %d, %s%s, " INT64_FORMAT " last, " INT64_FORMAT " first", OVER_LAYOUT, over->arrival ? "arrival" : "event", over->first_only ? ", first only" : "", over->ring, over->first);
	for (i = 0; i < over->nframes; i++)
	{
		appendStringInfo(into, "; frame %d ", i);
		describe_frame(&over->frames[i], into);
	}
	for (i = 0; i < over->nfunctions; i++)
	{
		const OverFunction *function = &over->functions[i];

		appendStringInfo(into, "; %s" INT64_FORMAT " %s of frame %d", function->kind == OVER_AGGREGATE && function->running ? "running " : "",
						 function->n, function->name, function->frame);
		if (function->kind == OVER_AGGREGATE)
			appendStringInfo(into, " %s %s at %u", operator_kind_name(&function->agg), format_procedure_qualified(function->agg.aggref->aggfnoid), function->agg.at);
	}
	/* what rows that wait and those that are kept look like */
	for (i = 0; i < spec->ncolumns; i++)
		appendStringInfo(into, "%s%d%s", i == 0 ? "; columns " : ",", spec->column_len[i], over->kept_at[i] >= 0 ? "k" : "");
}

char *
over_describe(const OperatorSpec *spec)
{
	const OverSpec *over = spec->over;
	StringInfoData into;
	int			i;

	initStringInfo(&into);
	if (over->first_only)
		appendStringInfoString(&into, "first row");
	for (i = 0; i < over->nfunctions && !over->first_only; i++)
	{
		const OverFunction *function = &over->functions[i];

		appendStringInfo(&into, "%s%s", i > 0 ? ", " : "", function->name);
		if (function->kind == OVER_AGGREGATE)
			appendStringInfo(&into, " %s%s", operator_kind_name(&function->agg), function->running ? "" : " (made anew for each row)");
	}
	return into.data;
}

char *
over_kept(const OperatorSpec *spec)
{
	const OverSpec *over = spec->over;
	StringInfoData into;

	initStringInfo(&into);
	if (over->first_only)
	{
		appendStringInfoString(&into, "the key");
		return into.data;
	}
	appendStringInfoString(&into, "one entry per key");
	if (over->ring > 0)
		appendStringInfo(&into, ", its last " INT64_FORMAT " rows", over->ring);
	if (over->first > 0)
		appendStringInfo(&into, ", its first " INT64_FORMAT " rows", over->first);
	if (over->span > 0)
		appendStringInfo(&into, ", rows of " INT64_FORMAT " s", (over->span + USECS_PER_SEC - 1) / USECS_PER_SEC);
	return into.data;
}

/* ---- the filter ---- */

void
over_set_filter(OperatorSpec *spec, List *qual, List *tlist)
{
	MemoryContext old = MemoryContextSwitchTo(spec->cxt);

	if (spec->slot == NULL)
	{
		spec->slot = MakeSingleTupleTableSlot(ExecTypeFromTL(tlist), &TTSOpsVirtual);
		spec->filter_context = CreateStandaloneExprContext();
		spec->filter_context->ecxt_scantuple = spec->slot;
	}
	spec->filter = ExecInitQual(qual, NULL);
	if (spec->filter != NULL)
		numeric_hasten(spec->filter);
	if (spec->over != NULL)
		spec->over->filter_immutable = !contain_mutable_functions((Node *) qual);
	spec->user_code = true;
	MemoryContextSwitchTo(old);
}

bool
over_filter_passes(OperatorSpec *spec, ExprState *condition)
{
	bool		passes;

	/* the filter stands in the output plan, too */
	over_filtering = condition == spec->filter;
	passes = ExecQual(condition, spec->filter_context);
	over_filtering = false;
	ResetExprContext(spec->filter_context);
	return passes;
}

/*-------------------------------------------------------------------------
 *
 * join_spec.c
 *	  What a plan says about a join of topics, made ready to run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "operator/join.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* the interval is as long as so many slices: who looks for partners looks into one more */
#define INTERVAL_SLICES	4

/* us; of an interval with days at least or at most */
static int64
shift_us(const Interval *by, bool most)
{
	int64		slack = by->day != 0 ? USECS_PER_DAY : 0;

	return by->time + by->day * USECS_PER_DAY + (most ? slack : -slack);
}

/* The least, or most, that the bound lets right's time be behind left's. */
static int64
bound_us(const JoinBound *bound, bool low)
{
	/* shift(left) <= right, or shift(right) >= left: then it is the other way round */
	int64		us = bound->shifted == 0 ? shift_us(&bound->by, !low) : -shift_us(&bound->by, low);

	if (bound->strict && bound->by.day == 0)
		us += low ? 1 : -1;
	return us;
}

/* What stands for a side that has no row. */
static void
write_nulls(OperatorSpec *spec)
{
	JoinSpec   *join = spec->join;
	RowPlace	nowhere = PLACE_NOWHERE;
	int			side;
	int			i;

	for (side = 0; side < 2; side++)
	{
		resetStringInfo(&join->nulls[side]);
		appendBinaryStringInfo(&join->nulls[side], (const char *) &nowhere, join->place_size);
		for (i = join->first[side]; i < join->first[side] + join->n[side]; i++)
			state_datum_write(&join->nulls[side], (Datum) 0, true, spec->column_len[i], spec->column_byval[i]);
	}
}

void
join_keep_places(OperatorSpec *spec)
{
	spec->join->place_size = spec->given_places > 0 ? (int) sizeof(RowPlace) : 0;
	write_nulls(spec);
}

void
join_spec_make(OperatorSpec *spec, const JoinPlan *plan)
{
	JoinSpec   *join = palloc0(sizeof(JoinSpec));
	int			side;

	spec->join = join;
	join->side_column = plan->side_column;
	join->low = plan->low;
	join->high = plan->high;
	join->calendar = plan->low.by.day != 0 || plan->high.by.day != 0;
	join->low_us = bound_us(&plan->low, true);
	join->high_us = bound_us(&plan->high, false);
	join->after[0] = Max(join->high_us, 0);
	join->after[1] = Max(-join->low_us, 0);
	join->step = Max((join->high_us - join->low_us) / INTERVAL_SLICES, OVER_WAITING_SLICE);
	join->first[0] = plan->side_column + 1;
	join->first[1] = join->first[0] + plan->ncolumns[0];
	for (side = 0; side < 2; side++)
	{
		join->outer[side] = plan->outer[side];
		join->n[side] = plan->ncolumns[side];
		initStringInfo(&join->nulls[side]);
	}
	write_nulls(spec);
	/* the other ones are given out when they come, or never */
	spec->waits = join->outer[0] || join->outer[1];

	/* what comes too late is told as if these were windows */
	spec->window = OPERATOR_TUMBLE;
	spec->scale.unit = WINDOW_USEC;
	spec->scale.step = OVER_WAITING_SLICE;
	spec->scale.slices = 1;
	/* behind the blob: number of the last chunk of the key */
	spec->fixed_size = sizeof(StateBlob) + sizeof(uint64);
	spec->nblobs = 1;
	spec->blob[0] = OVER_BLOB;
	spec->first_kept = spec->nkeys;
}

int64
join_span(const OperatorSpec *spec)
{
	const JoinSpec *join = spec->join;

	return Max(join->high_us - join->low_us, Max(join->after[0], join->after[1]));
}

/*
 * A row that comes has partners that came before it: they are older than it by the
 * interval at most.  The same is true of a row without partner and the instant until which it waits.
 */
int64
join_behind(const OperatorSpec *spec, int side)
{
	const JoinSpec *join = spec->join;

	return side == 0 || side == 1 ? join->after[side] : Max(join->after[0], join->after[1]);
}

TimestampTz
join_pane_end(const OperatorSpec *spec, int64 pane)
{
	const JoinSpec *join = spec->join;

	if (OVER_IS_WAITING(pane))
		return over_waiting_end(pane);
	return (JOIN_PANE_SLICE(pane) + 1) * join->step + join->after[JOIN_PANE_SIDE(pane)];
}

void
join_set_condition(OperatorSpec *spec, List *qual, List *tlist)
{
	ExprState  *filter = spec->filter;

	over_set_filter(spec, qual, tlist);
	spec->join->condition = spec->filter;
	spec->filter = filter;
}

/* ---- what it says of itself ---- */

static const char *
join_name(const JoinSpec *join)
{
	return join->outer[0] && join->outer[1] ? "full join" : join->outer[0] ? "left join" : "inner join";
}

static void
append_bound(StringInfo into, const char *name, const JoinBound *bound)
{
	appendStringInfo(into, " %s %s%s %d days " INT64_FORMAT " us", name, bound->shifted == 0 ? "left" : "right", bound->strict ? " strict" : "",
					 bound->by.day, bound->by.time);
}

void
join_signature(const OperatorSpec *spec, StringInfo into)
{
	const JoinSpec *join = spec->join;
	int			i;

	appendStringInfo(into, " %s", join_name(join));
	append_bound(into, "from", &join->low);
	append_bound(into, "to", &join->high);
	/* what rows that are kept look like */
	for (i = join->first[0]; i < spec->ncolumns; i++)
		appendStringInfo(into, "%s%d", i == join->first[0] ? "; columns " : i == join->first[1] ? "; and " : ",", spec->column_len[i]);
}

static void
append_kept(StringInfo into, const char *side, int64 us)
{
	Interval	kept = {us};
	int			style = IntervalStyle;

	/* the same for everybody */
	IntervalStyle = INTSTYLE_POSTGRES;
	appendStringInfo(into, ", %s rows kept for %s", side, DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&kept))));
	IntervalStyle = style;
}

char *
join_describe(const OperatorSpec *spec)
{
	const JoinSpec *join = spec->join;
	StringInfoData into;

	initStringInfo(&into);
	appendStringInfoString(&into, join_name(join));
	append_kept(&into, "left", join->after[0] + join->step);
	append_kept(&into, "right", join->after[1] + join->step);
	return into.data;
}

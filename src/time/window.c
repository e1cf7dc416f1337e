/*-------------------------------------------------------------------------
 *
 * window.c
 *	  Windows of event time: tumble(), hop() and cumulate().
 *
 * A WindowScale divides the time line into slices that are numbered from an
 * origin; windows are runs of slices.  A slice is
 *
 *		a fixed time (hours and less), the same wherever clocks are set, or
 *		a number of days, or of months, of the calendar of a time zone.
 *
 * Slices of the calendar begin where the zone's clocks show the time of day of
 * the origin, so a day has 23 or 25 hours when clocks are set.  The truth is
 * in the instants: slice n is [window_instant(n), window_instant(n + 1)), and
 * its number is found by comparing instants, so that each instant lies in one
 * slice also where a local time does not exist or comes twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "time/window.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* windows that one row can be in */
#define MAX_WINDOWS		100000

PG_FUNCTION_INFO_V1(streamproc_tumble_start);
PG_FUNCTION_INFO_V1(streamproc_tumble_end);
PG_FUNCTION_INFO_V1(streamproc_hop);
PG_FUNCTION_INFO_V1(streamproc_cumulate);
PG_FUNCTION_INFO_V1(streamproc_tumble_support);
PG_FUNCTION_INFO_V1(streamproc_hop_support);
PG_FUNCTION_INFO_V1(streamproc_cumulate_support);

/* ---- the scale ---- */

static void
out_of_range(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("timestamp out of range of the windows")));
}

/* What the zone's clocks show, as if it were UTC. */
static Timestamp
local_time(const WindowScale *scale, TimestampTz at)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	Timestamp	local;

	if (timestamp2tm(at, &offset, &tm, &fsec, NULL, scale->zone) != 0 ||
		tm2timestamp(&tm, fsec, NULL, &local) != 0)
		out_of_range();
	return local;
}

/* When they show it; what they never show is moved behind the gap, of what they show twice one is taken. */
static TimestampTz
instant_of_local(const WindowScale *scale, Timestamp local)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;
	TimestampTz at;

	if (timestamp2tm(local, NULL, &tm, &fsec, NULL, NULL) != 0)
		out_of_range();
	offset = DetermineTimeZoneOffset(&tm, scale->zone);
	if (tm2timestamp(&tm, fsec, &offset, &at) != 0)
		out_of_range();
	return at;
}

/* The length of an interval of one kind of unit; throws where it has several, or is not positive. */
static int64
interval_length(const Interval *interval, const char *what, WindowUnit *unit)
{
	int64		length;

	if (interval->month != 0 && interval->day == 0 && interval->time == 0)
	{
		*unit = WINDOW_MONTH;
		length = interval->month;
	}
	else if (interval->month == 0 && interval->day != 0 && interval->time == 0)
	{
		*unit = WINDOW_DAY;
		length = interval->day;
	}
	else
	{
		*unit = WINDOW_USEC;
		length = interval->month == 0 && interval->day == 0 ? interval->time : 0;
	}
	if (length <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a window must not be \"%s\"", what,
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)))),
				 errhint("It is a positive interval of months, of days, or of hours and less, and not a mixture of these.")));
	return length;
}

void
window_scale_init(WindowScale *scale, WindowKind kind, const Interval *step, const Interval *size,
				  const char *zone, const TimestampTz *origin)
{
	static const char *const step_names[] = {"size", "slide", "step"};
	WindowUnit	unit;
	int64		length = interval_length(size, "size", &unit);
	Timestamp	first;

	scale->step = interval_length(step, step_names[kind], &scale->unit);
	if (unit != scale->unit || length % scale->step != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("size \"%s\" of a window is not a multiple of its %s \"%s\"",
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(size))), step_names[kind],
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(step)))),
				 errhint("Both are months, both days (as \"1 day\"), or both hours and less (as \"24 hours\").")));
	scale->slices = length / scale->step;
	if (scale->slices > MAX_WINDOWS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a row would be in " INT64_FORMAT " windows", scale->slices),
				 errdetail("The size of a window is at most %d times its %s.", MAX_WINDOWS, step_names[kind])));
	scale->zone = pg_tzset(zone);
	if (scale->zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", zone)));
	if (origin != NULL && TIMESTAMP_NOT_FINITE(*origin))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("origin of windows must not be infinite")));

	/* midnight of 1970-01-01, and for days the Monday after it: weeks begin on Mondays */
	first = (Timestamp) ((UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) + (scale->unit == WINDOW_DAY ? 4 : 0)) * USECS_PER_DAY;
	scale->local_origin = 0;
	scale->origin = origin != NULL ? *origin : instant_of_local(scale, first);
	if (scale->unit != WINDOW_USEC)
		scale->local_origin = origin != NULL ? local_time(scale, *origin) : first;
}

TimestampTz
window_instant(const WindowScale *scale, int64 slice)
{
	int64		length;
	int64		result;

	if (pg_mul_s64_overflow(slice, scale->step, &length))
		out_of_range();
	switch (scale->unit)
	{
		case WINDOW_USEC:
			if (pg_add_s64_overflow(scale->origin, length, &result) || !IS_VALID_TIMESTAMP(result))
				out_of_range();
			return result;
		case WINDOW_DAY:
			if (pg_mul_s64_overflow(length, USECS_PER_DAY, &result) ||
				pg_add_s64_overflow(scale->local_origin, result, &result) || !IS_VALID_TIMESTAMP(result))
				out_of_range();
			return instant_of_local(scale, result);
		case WINDOW_MONTH:
			{
				Interval	months = {0, 0, 0};

				if (length < PG_INT32_MIN || length > PG_INT32_MAX)
					out_of_range();
				months.month = (int32) length;
				return instant_of_local(scale, DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
																					 TimestampGetDatum(scale->local_origin),
																					 IntervalPGetDatum(&months))));
			}
	}
	pg_unreachable();
}

static int64
floor_div(int64 a, int64 b)
{
	return a / b - (a % b < 0 ? 1 : 0);
}

int64
window_slice(const WindowScale *scale, TimestampTz at)
{
	int64		distance;
	int64		slice;

	if (scale->unit == WINDOW_USEC)
	{
		if (pg_sub_s64_overflow(at, scale->origin, &distance))
			out_of_range();
		return floor_div(distance, scale->step);
	}
	if (scale->unit == WINDOW_DAY)
	{
		if (pg_sub_s64_overflow(local_time(scale, at), scale->local_origin, &distance))
			out_of_range();
		slice = floor_div(distance / USECS_PER_DAY - (distance % USECS_PER_DAY < 0 ? 1 : 0), scale->step);
	}
	else
	{
		struct pg_tm tm,
					first;
		fsec_t		fsec;
		int			offset;

		if (timestamp2tm(at, &offset, &tm, &fsec, NULL, scale->zone) != 0 ||
			timestamp2tm(scale->local_origin, NULL, &first, &fsec, NULL, NULL) != 0)
			out_of_range();
		slice = floor_div(((int64) tm.tm_year - first.tm_year) * MONTHS_PER_YEAR + tm.tm_mon - first.tm_mon, scale->step);
	}
	/* at most a slice away, by the day of the month or by the setting of clocks */
	while (window_instant(scale, slice) > at)
		slice--;
	while (window_instant(scale, slice + 1) <= at)
		slice++;
	return slice;
}

/* ---- tumble ---- */

/*
 * Scale and last window of a call's place in a query, where the arguments but
 * the first are the same in each row.
 */
typedef struct TumbleCache
{
	WindowScale scale;
	TimestampTz start;
	TimestampTz end;			/* start = end: none yet */
} TumbleCache;

static void
scale_of_arguments(WindowScale *scale, WindowKind kind, FunctionCallInfo fcinfo)
{
	int			size = kind == WINDOW_TUMBLE ? 1 : 2;
	TimestampTz origin = 0;
	bool		has_origin = !PG_ARGISNULL(size + 2);

	if (has_origin)
		origin = PG_GETARG_TIMESTAMPTZ(size + 2);
	window_scale_init(scale, kind, PG_GETARG_INTERVAL_P(1), PG_GETARG_INTERVAL_P(size),
					  text_to_cstring(PG_GETARG_TEXT_PP(size + 1)), has_origin ? &origin : NULL);
}

/* The window of the row; false: the result is NULL. */
static bool
tumble(FunctionCallInfo fcinfo, TimestampTz *start, TimestampTz *end)
{
	TumbleCache *cache = fcinfo->flinfo->fn_extra;
	TimestampTz at;
	WindowScale scale;
	int64		slice;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		return false;
	at = PG_GETARG_TIMESTAMPTZ(0);
	if (cache == NULL && get_fn_expr_arg_stable(fcinfo->flinfo, 1) && get_fn_expr_arg_stable(fcinfo->flinfo, 2) &&
		get_fn_expr_arg_stable(fcinfo->flinfo, 3))
	{
		scale_of_arguments(&scale, WINDOW_TUMBLE, fcinfo);
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(TumbleCache));
		cache->scale = scale;
		fcinfo->flinfo->fn_extra = cache;
	}
	if (cache == NULL)
		scale_of_arguments(&scale, WINDOW_TUMBLE, fcinfo);
	if (TIMESTAMP_NOT_FINITE(at))
	{
		*start = *end = at;
		return true;
	}
	if (cache != NULL && at >= cache->start && at < cache->end)
	{
		*start = cache->start;
		*end = cache->end;
		return true;
	}
	slice = window_slice(cache != NULL ? &cache->scale : &scale, at);
	*start = window_instant(cache != NULL ? &cache->scale : &scale, slice);
	*end = window_instant(cache != NULL ? &cache->scale : &scale, slice + 1);
	if (cache != NULL)
	{
		cache->start = *start;
		cache->end = *end;
	}
	return true;
}

Datum
streamproc_tumble_start(PG_FUNCTION_ARGS)
{
	TimestampTz start,
				end;

	if (!tumble(fcinfo, &start, &end))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(start);
}

Datum
streamproc_tumble_end(PG_FUNCTION_ARGS)
{
	TimestampTz start,
				end;

	if (!tumble(fcinfo, &start, &end))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(end);
}

/* ---- hop and cumulate: several windows a row ---- */

typedef struct Windows
{
	WindowScale scale;
	bool		infinite;
	TimestampTz at;				/* infinite: the one window */
	int64		start;			/* slice in which the next window begins */
	int64		end;			/* slice before which it ends */
} Windows;

static Datum
next_window(FuncCallContext *context)
{
	Windows    *windows = context->user_fctx;
	bool		nulls[2] = {false, false};
	Datum		values[2];

	if (windows->infinite)
		values[0] = values[1] = TimestampTzGetDatum(windows->at);
	else
	{
		values[0] = TimestampTzGetDatum(window_instant(&windows->scale, windows->start));
		values[1] = TimestampTzGetDatum(window_instant(&windows->scale, windows->end));
	}
	return HeapTupleGetDatum(heap_form_tuple(context->tuple_desc, values, nulls));
}

static Datum
several(FunctionCallInfo fcinfo, WindowKind kind)
{
	FuncCallContext *context;
	Windows    *windows;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;
		bool		null = PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3);

		context = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &context->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		BlessTupleDesc(context->tuple_desc);
		context->user_fctx = windows = palloc0(sizeof(Windows));
		if (!null)
		{
			scale_of_arguments(&windows->scale, kind, fcinfo);
			windows->at = PG_GETARG_TIMESTAMPTZ(0);
			windows->infinite = TIMESTAMP_NOT_FINITE(windows->at);
			context->max_calls = 1;
			if (!windows->infinite)
			{
				int64		slice = window_slice(&windows->scale, windows->at);
				int64		slices = windows->scale.slices;

				if (kind == WINDOW_HOP)
				{
					/* from the first window that holds the slice to the last */
					windows->start = slice - slices + 1;
					windows->end = windows->start + slices;
					context->max_calls = slices;
				}
				else
				{
					/* all begin where a window of the full size does */
					windows->start = floor_div(slice, slices) * slices;
					windows->end = slice + 1;
					context->max_calls = windows->start + slices - slice;
				}
			}
		}
		MemoryContextSwitchTo(old);
	}
	context = SRF_PERCALL_SETUP();
	windows = context->user_fctx;
	if (context->call_cntr < context->max_calls)
	{
		Datum		result = next_window(context);

		if (kind == WINDOW_HOP)
			windows->start++;
		windows->end++;
		SRF_RETURN_NEXT(context, result);
	}
	SRF_RETURN_DONE(context);
}

Datum
streamproc_hop(PG_FUNCTION_ARGS)
{
	return several(fcinfo, WINDOW_HOP);
}

Datum
streamproc_cumulate(PG_FUNCTION_ARGS)
{
	return several(fcinfo, WINDOW_CUMULATE);
}

/* ---- what the planner asks ---- */

/*
 * Arguments that are constants are judged when the query is planned, so a
 * pipeline with an impossible window is refused when it is created.  False:
 * they are not all known.
 */
static bool
constant_scale(Node *call, WindowKind kind, WindowScale *scale)
{
	int			size = kind == WINDOW_TUMBLE ? 1 : 2;
	Const	   *args[5];
	TimestampTz origin = 0;
	int			i;

	if (call == NULL || !IsA(call, FuncExpr) || list_length(((FuncExpr *) call)->args) != size + 3)
		return false;
	for (i = 1; i < size + 3; i++)
	{
		args[i] = list_nth(((FuncExpr *) call)->args, i);
		if (!IsA(args[i], Const))
			return false;
	}
	if (args[1]->constisnull || args[size]->constisnull || args[size + 1]->constisnull)
		return false;
	if (!args[size + 2]->constisnull)
		origin = DatumGetTimestampTz(args[size + 2]->constvalue);
	window_scale_init(scale, kind, DatumGetIntervalP(args[1]->constvalue), DatumGetIntervalP(args[size]->constvalue),
					  TextDatumGetCString(args[size + 1]->constvalue), args[size + 2]->constisnull ? NULL : &origin);
	return true;
}

static Datum
support(Node *request, WindowKind kind)
{
	WindowScale scale;

	if (IsA(request, SupportRequestSimplify))
		(void) constant_scale((Node *) ((SupportRequestSimplify *) request)->fcall, kind, &scale);
	else if (IsA(request, SupportRequestRows) &&
			 constant_scale(((SupportRequestRows *) request)->node, kind, &scale))
	{
		((SupportRequestRows *) request)->rows = kind == WINDOW_HOP ? scale.slices : (scale.slices + 1) / 2;
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}

Datum
streamproc_tumble_support(PG_FUNCTION_ARGS)
{
	return support((Node *) PG_GETARG_POINTER(0), WINDOW_TUMBLE);
}

Datum
streamproc_hop_support(PG_FUNCTION_ARGS)
{
	return support((Node *) PG_GETARG_POINTER(0), WINDOW_HOP);
}

Datum
streamproc_cumulate_support(PG_FUNCTION_ARGS)
{
	return support((Node *) PG_GETARG_POINTER(0), WINDOW_CUMULATE);
}

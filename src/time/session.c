/*-------------------------------------------------------------------------
 *
 * session.c
 *	  The window function session().
 *
 * A session is a run of rows each of which comes at most "gap" after the one
 * before it; two rows exactly "gap" apart belong to one session, as in Flink.
 * Its range is [first, last + gap).  With max_span a row that comes max_span or
 * more after the first one begins another.
 *
 * Rows come in the order of their times, so the rows of a session are next to
 * each other.  At its first row the function looks ahead to its last one; for the
 * rows between it knows the result.  Each row is read once.
 *
 * Over a topic the planner of pipelines puts an operator in its place, see
 * plan/session.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "time/session.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "windowapi.h"

PG_FUNCTION_INFO_V1(streamproc_session);

int64
session_length(const Interval *interval, const char *what)
{
	int64		days;
	int64		length = 0;

	if (interval->month != 0 || pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) ||
		pg_add_s64_overflow(days, interval->time, &length) || length <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a session must not be \"%s\"", what,
						DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)))),
				 errhint("It is a positive interval without months; a day of it is 24 hours.")));
	return length;
}

Datum
session_range(TimestampTz first, TimestampTz last, int64 gap)
{
	TypeCacheEntry *type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
	RangeBound	lower = {0};
	RangeBound	upper = {0};
	int64		end;

	if (pg_add_s64_overflow(last, gap, &end) || !IS_VALID_TIMESTAMP(end))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range of the sessions")));
	lower.val = TimestampTzGetDatum(first);
	lower.inclusive = lower.lower = true;
	upper.val = TimestampTzGetDatum(end);
	return RangeTypePGetDatum(make_range(type, &lower, &upper, false));
}

/* ---- the window function ---- */

/* What is known of the rows around the present one; of a partition. */
typedef struct SessionMemory
{
	bool		begun;			/* some row has been looked at */
	bool		null;			/* the run of rows has no session */
	int64		end;			/* number of the row behind the run */
	TimestampTz first;
	TimestampTz last;
	int64		gap;
	int64		max_span;		/* 0: none */
} SessionMemory;

static int64
constant_length(WindowObject window, FmgrInfo *function, int argument, const char *what, bool optional)
{
	bool		isnull;
	Datum		value;

	if (!get_fn_expr_arg_stable(function, argument))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a session must be the same for all rows", what)));
	value = WinGetFuncArgCurrent(window, argument, &isnull);
	if (isnull && optional)
		return 0;
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s of a session must not be null", what)));
	return session_length(DatumGetIntervalP(value), what);
}

/* The time of a row that comes so many after the present one; false: it has none, or there is no such row. */
static bool
time_of_row(WindowObject window, int64 ahead, bool mark, TimestampTz *at)
{
	bool		isnull;
	bool		isout;
	Datum		value = WinGetFuncArgInPartition(window, 0, (int) ahead, WINDOW_SEEK_CURRENT, mark, &isnull, &isout);

	if (isout || isnull)
		return false;
	*at = DatumGetTimestampTz(value);
	return !TIMESTAMP_NOT_FINITE(*at);
}

static void
check_order(const SessionMemory *memory, TimestampTz at)
{
	if (at < memory->last)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rows of session() are not in the order of its time"),
				 errhint("Write session(at, gap) OVER (PARTITION BY ... ORDER BY at).")));
}

/* The rows that belong together with this one, the first of them. */
static void
find_run(WindowObject window, SessionMemory *memory, int64 row)
{
	TimestampTz at;

	memory->end = row + 1;
	memory->null = !time_of_row(window, 0, true, &at);
	if (memory->null)
		return;
	if (memory->begun)
		check_order(memory, at);
	memory->begun = true;
	memory->first = memory->last = at;
	for (; time_of_row(window, memory->end - row, false, &at); memory->end++)
	{
		CHECK_FOR_INTERRUPTS();
		check_order(memory, at);
		if (!session_goes_on(memory->last, at, memory->gap) ||
			(memory->max_span > 0 && (uint64) at - (uint64) memory->first >= (uint64) memory->max_span))
			break;
		memory->last = at;
	}
}

Datum
streamproc_session(PG_FUNCTION_ARGS)
{
	WindowObject window = PG_WINDOW_OBJECT();
	SessionMemory *memory = WinGetPartitionLocalMemory(window, sizeof(SessionMemory));
	int64		row = WinGetCurrentPosition(window);

	if (memory->gap == 0)
	{
		memory->gap = constant_length(window, fcinfo->flinfo, 1, "gap", false);
		memory->max_span = constant_length(window, fcinfo->flinfo, 2, "max_span", true);
	}
	if (row >= memory->end)
		find_run(window, memory, row);
	if (memory->null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(session_range(memory->first, memory->last, memory->gap));
}

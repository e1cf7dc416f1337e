/*-------------------------------------------------------------------------
 *
 * marker.c
 *	  Functions that only stand in plans: the planner of pipelines puts
 *	  something else in their place.
 *
 * The borders of a slice can be computed all the same: where the planner
 * computes an expression early, the operator makes the window of its result.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "time/time.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(streamproc_place_step);
PG_FUNCTION_INFO_V1(streamproc_session_slice);
PG_FUNCTION_INFO_V1(streamproc_hop_slice_start);
PG_FUNCTION_INFO_V1(streamproc_hop_slice_end);
PG_FUNCTION_INFO_V1(streamproc_cumulate_slice_start);
PG_FUNCTION_INFO_V1(streamproc_cumulate_slice_end);

Datum
streamproc_place_step(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("function %s() can only be used by the planner of pipelines", get_func_name(fcinfo->flinfo->fn_oid))));
	return (Datum) 0;			/* keep compiler quiet */
}

/* What session a row belongs to is not known before others have come. */
Datum
streamproc_session_slice(PG_FUNCTION_ARGS)
{
	PG_RETURN_NULL();
}

/* (at, step, size, zone, origin): a border of the slice that "at" lies in. */
static Datum
slice_border(FunctionCallInfo fcinfo, WindowKind kind, int64 further)
{
	WindowScale scale;
	TimestampTz origin;
	TimestampTz at;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	at = PG_GETARG_TIMESTAMPTZ(0);
	if (TIMESTAMP_NOT_FINITE(at))
		PG_RETURN_TIMESTAMPTZ(at);
	origin = PG_ARGISNULL(4) ? 0 : PG_GETARG_TIMESTAMPTZ(4);
	window_scale_init(&scale, kind, PG_GETARG_INTERVAL_P(1), PG_GETARG_INTERVAL_P(2),
					  text_to_cstring(PG_GETARG_TEXT_PP(3)), PG_ARGISNULL(4) ? NULL : &origin);
	PG_RETURN_TIMESTAMPTZ(window_instant(&scale, window_slice(&scale, at) + further));
}

Datum
streamproc_hop_slice_start(PG_FUNCTION_ARGS)
{
	return slice_border(fcinfo, WINDOW_HOP, 0);
}

Datum
streamproc_hop_slice_end(PG_FUNCTION_ARGS)
{
	return slice_border(fcinfo, WINDOW_HOP, 1);
}

Datum
streamproc_cumulate_slice_start(PG_FUNCTION_ARGS)
{
	return slice_border(fcinfo, WINDOW_CUMULATE, 0);
}

Datum
streamproc_cumulate_slice_end(PG_FUNCTION_ARGS)
{
	return slice_border(fcinfo, WINDOW_CUMULATE, 1);
}

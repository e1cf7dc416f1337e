/*-------------------------------------------------------------------------
 *
 * marker.c
 *	  Functions that only stand in plans: the planner of pipelines puts
 *	  something else in their place.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(streamproc_place_step);
PG_FUNCTION_INFO_V1(streamproc_hop_slice_start);
PG_FUNCTION_INFO_V1(streamproc_hop_slice_end);
PG_FUNCTION_INFO_V1(streamproc_cumulate_slice_start);
PG_FUNCTION_INFO_V1(streamproc_cumulate_slice_end);

static Datum
only_planner(FunctionCallInfo fcinfo)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("function %s() can only be used by the planner of pipelines", get_func_name(fcinfo->flinfo->fn_oid))));
	return (Datum) 0;			/* keep compiler quiet */
}

Datum
streamproc_place_step(PG_FUNCTION_ARGS)
{
	return only_planner(fcinfo);
}

Datum
streamproc_hop_slice_start(PG_FUNCTION_ARGS)
{
	return only_planner(fcinfo);
}

Datum
streamproc_hop_slice_end(PG_FUNCTION_ARGS)
{
	return only_planner(fcinfo);
}

Datum
streamproc_cumulate_slice_start(PG_FUNCTION_ARGS)
{
	return only_planner(fcinfo);
}

Datum
streamproc_cumulate_slice_end(PG_FUNCTION_ARGS)
{
	return only_planner(fcinfo);
}

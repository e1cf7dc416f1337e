/*-------------------------------------------------------------------------
 *
 * letter_api.c
 *	  retry_dead_letters(), delete_dead_letters() and delete_late_rows().
 *
 * Retrying is a wish in the catalog: a range of ids.  The pipeline's first task
 * does it, as the pipeline's owner, with its settings, each message in the
 * transaction that deletes its dead letter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/api.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(streamproc_retry_dead_letters);
PG_FUNCTION_INFO_V1(streamproc_delete_dead_letters);
PG_FUNCTION_INFO_V1(streamproc_delete_late_rows);

Datum
streamproc_retry_dead_letters(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	PipelineRow *row = api_get_for_update(name, "retry_dead_letters()", rights_check_owner);
	int64		last;
	int64		n = catalog_dead_letters_count(name, &last);

	if (n == 0)
		PG_RETURN_INT64(0);
	row->retry_until = last;
	catalog_pipeline_update(row);
	if (!row->active)
		ereport(NOTICE,
				(errmsg("pipeline \"%s\" is not running", name),
				 errdetail("Its dead letters run again when it is started."),
				 errhint("SELECT streamproc.start_pipeline(%s).", quote_literal_cstr(name))));
	PG_RETURN_INT64(n);
}

Datum
streamproc_delete_dead_letters(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	TimestampTz before = DatumGetTimestampTz(api_arg_datum(fcinfo, 1, "before"));

	(void) api_get_for_update(name, "delete_dead_letters()", rights_check_owner);
	PG_RETURN_INT64(catalog_dead_letters_delete(name, before));
}

Datum
streamproc_delete_late_rows(PG_FUNCTION_ARGS)
{
	char	   *name = api_arg_name(fcinfo);
	TimestampTz before = DatumGetTimestampTz(api_arg_datum(fcinfo, 1, "before"));

	(void) api_get_for_update(name, "delete_late_rows()", rights_check_owner);
	PG_RETURN_INT64(catalog_late_rows_delete(name, before));
}

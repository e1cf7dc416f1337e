/*-------------------------------------------------------------------------
 *
 * ttl.c
 *	  Can the statements forget keys as option state_ttl asks for?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "plan/plan.h"
#include "utils/lsyscache.h"

void
plan_check_ttl(Program *program)
{
	bool		keeps = false;
	ListCell   *lc;
	int			i;

	if (program->state_ttl == 0)
		return;
	for (i = 0; i < program->nkeyed; i++)
	{
		const OperatorSpec *spec = program->keyed[i].spec;

		keeps |= operator_keeps_keys(spec);
		if (spec->over != NULL && spec->ttl <= spec->over->span)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("option \"state_ttl\" must be longer than the longest RANGE frame of statement %d", spec->statement),
					 errhint("A frame frees its rows by itself; give state_ttl a longer interval.")));
		if (spec->ttl > 0 && spec->over == NULL && spec->has_distinct)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("DISTINCT in an aggregate of statement %d is not supported with option \"state_ttl\"", spec->statement),
					 errhint("Group by a window, or leave state_ttl out.")));
	}
	if (!keeps)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"state_ttl\" needs a query that keeps something of each key for ever"),
				 errdetail("Such are GROUP BY without a window, window functions, DISTINCT ON, and as-of joins."),
				 errhint("Leave it out: windows free their groups when they are closed.")));
	foreach(lc, program->statements)
	{
		const Statement *statement = lfirst(lc);

		if (statement->info->having && !statement->info->windowed && !statement->info->over)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("HAVING is not supported with option \"state_ttl\" in statement %d", statement->number),
					 errdetail("Nobody would know any more which groups were given out."),
					 errhint("Filter when you read the topic, or leave state_ttl out.")));
	}
}

/*-------------------------------------------------------------------------
 *
 * emit.c
 *	  Can the statements give out their groups as the options emit and late
 *	  ask for?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "plan/plan.h"
#include "utils/lsyscache.h"

#define ON_CONFLICT_HINT "Write ON CONFLICT (columns that are grouped by) DO UPDATE SET ...; the columns NOT NULL, or the index UNIQUE NULLS NOT DISTINCT."
#define TOP_CONFLICT_HINT "Write ON CONFLICT (columns of PARTITION BY and the row's number, or those of DISTINCT ON) DO UPDATE SET ...; the columns NOT NULL, or the index UNIQUE NULLS NOT DISTINCT."
#define TOP_TOPIC_HINT "Make the key of its messages of the columns of PARTITION BY and the row's number, or of those of DISTINCT ON."
#define TOPIC_HINT "Make the key of its messages of the columns that are grouped by."

static void
require_conflict(const Statement *statement, const char *why, bool always)
{
	const StatementInfo *info = statement->info;
	bool		topic = get_rel_relkind(info->sink) == RELKIND_FOREIGN_TABLE;

	if (info->conflict_misses != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s gives out a group again when it has changed: statement %d must replace its row", why, statement->number),
				 errdetail("But %s.", info->conflict_misses),
				 errhint("%s%s", info->top ? (topic ? TOP_TOPIC_HINT : TOP_CONFLICT_HINT) : topic ? TOPIC_HINT : ON_CONFLICT_HINT,
						 !always ? "" : info->top ? " Or add window_start of a window to the keys." : " Or group by a window.")));
	if (info->having && statement->tombstones_miss != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("HAVING, or a condition on what groups have come to, is not supported in statement %d: %s gives out groups again", statement->number, why),
				 topic ? errdetail("A group that does not fulfil it any more needs a tombstone, and none can be written: %s.", statement->tombstones_miss) :
				 errdetail("A group that does not fulfil it any more would stay in the table."),
				 errhint("%s", topic ? "Insert the groups as they are, filter with HAVING alone, and let the key choose the partition; or group by a window with emit => 'final'." :
						 "Filter when you read the table, write into a topic with a key, or group by a window with emit => 'final'.")));
}

static bool
has_asof(const Program *program, const Statement *statement)
{
	int			i;

	for (i = 0; i < program->nkeyed; i++)
		if (program->keyed[i].spec->statement == statement->number && program->keyed[i].spec->asof != NULL)
			return true;
	return false;
}

static bool
has_join(const Program *program, const Statement *statement)
{
	int			i;

	for (i = 0; i < program->nkeyed; i++)
		if (program->keyed[i].spec->statement == statement->number && program->keyed[i].join != NULL)
			return true;
	return false;
}

static bool
has_over(const Program *program, const Statement *statement)
{
	int			i;

	for (i = 0; i < program->nkeyed; i++)
		if (program->keyed[i].spec->statement == statement->number && program->keyed[i].over)
			return true;
	return false;
}

void
plan_check_emit(Program *program, EmitKind emit, LateKind late)
{
	ListCell   *lc;

	if (!program->is_keyed)
	{
		if (emit != EMIT_DEFAULT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"emit\" needs a query with GROUP BY"),
					 errhint("Leave it out: rows are written as they come.")));
		if (late == LATE_UPDATE)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("late => 'update' needs a query with GROUP BY a window")));
		return;
	}
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		if (program->arrival && has_asof(program, statement))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("an as-of join needs the rows of both topics in the order of event time: ordering => 'arrival' is not supported in statement %d", statement->number),
					 errdetail("Which version a row finds would depend on how fast each topic is read."),
					 errhint("Leave option \"ordering\" out.")));
		/* below and above in the same order */
		if (statement->info->stacked && program->arrival)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("window functions or DISTINCT ON over other window functions, DISTINCT ON or a join of topics need the rows in the order of event time: ordering => 'arrival' is not supported"),
					 errhint("Leave option \"ordering\" out.")));
		if (statement->info->over)
		{
			if (emit == EMIT_CHANGES || emit == EMIT_EVERY || late == LATE_UPDATE)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("rows of %s are given out once: emit => 'changes' or 'every ...' and late => 'update' are not supported", has_join(program, statement) ? "a join of topics" : "window functions")));
			continue;
		}
		if (statement->info->chained && program->arrival && has_over(program, statement))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("GROUP BY over window functions needs their rows in the order of event time: ordering => 'arrival' is not supported"),
					 errhint("Leave option \"ordering\" out.")));
		if (statement->info->chained && late == LATE_UPDATE)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("GROUP BY over %s gets no late rows: late => 'update' is not supported", has_join(program, statement) ? "a join of topics" : "window functions"),
					 errhint("Use allowed_lateness with late => 'divert': windows wait so much longer.")));
		if (statement->info->session && (emit == EMIT_CHANGES || emit == EMIT_EVERY || late == LATE_UPDATE))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a session is given out once, when it has ended: emit => 'changes' or 'every ...' and late => 'update' are not supported"),
					 errdetail("Until then its bounds change, and two sessions may become one."),
					 errhint("Leave the option out; allowed_lateness keeps sessions open for late rows.")));
		if (statement->info->ranked && (emit == EMIT_CHANGES || emit == EMIT_EVERY || late == LATE_UPDATE))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("first ranks of a window are given out once, when it is closed: emit => 'changes' or 'every ...' and late => 'update' are not supported"),
					 errdetail("Rows leave a rank, and no other one takes their place."),
					 errhint("Use row_number(), or leave the option out.")));
		if (statement->info->nested && (emit == EMIT_CHANGES || emit == EMIT_EVERY || late == LATE_UPDATE))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("aggregation over windows needs them final: emit => 'changes' or 'every ...' and late => 'update' are not supported")));
		if (!statement->info->windowed)
		{
			if (emit == EMIT_FINAL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("emit => 'final' needs a window: a group without one is never final"),
						 errhint("Group by a window, or use emit => 'changes' or 'every ...'.")));
			require_conflict(statement, statement->info->top ? "row_number() or DISTINCT ON without a window" : "GROUP BY without a window", true);
		}
		else if (emit == EMIT_CHANGES || emit == EMIT_EVERY)
			require_conflict(statement, emit == EMIT_CHANGES ? "emit => 'changes'" : "emit => 'every ...'", false);
		else if (late == LATE_UPDATE)
			require_conflict(statement, "late => 'update'", false);
	}
}

/*-------------------------------------------------------------------------
 *
 * describe.c
 *	  Programs for people and for comparison: plans, modes, what keeps state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/explain.h"
#include "executor/executor.h"
#include "plan/plan.h"
#include "utils/snapmgr.h"

char *
program_signature(Program *program)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < program->nkeyed; i++)
		operator_signature(program->keyed[i].spec, &text);
	return text.data;
}

char *
program_groups(Program *program)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < program->nkeyed; i++)
		appendStringInfo(&text, "%s\n", program->keyed[i].text);
	return text.data;
}

/* ---- for check_pipeline ---- */

const char *
statement_mode_name(StatementMode mode)
{
	switch (mode)
	{
		case STATEMENT_WHOLE:
			return "batches through the executor";
		case STATEMENT_MULTI_INSERT:
			return "batches by multi-insert";
		case STATEMENT_UPSERT:
			return "upserts sorted by key at each commit";
		case STATEMENT_ROW_BY_ROW:
			return "one message at a time, one task";
	}
	return "";
}

const char *
statement_result_name(const Statement *statement)
{
	const StatementInfo *info = statement->info;
	bool		given_again = info->grouped && !info->windowed && !info->over && info->conflict_misses == NULL;

	if (given_again && info->having && statement->tombstones_miss == NULL)
		return "upsert with tombstones";
	return info->has_on_conflict || given_again ? "upsert" : "append";
}

char *
program_explain(Statement *statement)
{
	ExplainState *es = NewExplainState();

	es->costs = false;
	es->verbose = false;
	ExplainBeginOutput(es);
	PushActiveSnapshot(GetTransactionSnapshot());
	{
		QueryDesc  *desc = CreateQueryDesc(statement->plan[PROGRAM_PLANS - 1], "", GetActiveSnapshot(), InvalidSnapshot,
										   None_Receiver, NULL, NULL, 0);

		ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
		ExplainPrintPlan(es, desc);
		ExecutorEnd(desc);
		FreeQueryDesc(desc);
	}
	PopActiveSnapshot();
	ExplainEndOutput(es);
	if (es->str->len > 0 && es->str->data[es->str->len - 1] == '\n')
		es->str->data[--es->str->len] = '\0';
	return es->str->data;
}

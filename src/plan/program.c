/*-------------------------------------------------------------------------
 *
 * program.c
 *	  The stored statements of a pipeline as plans, and their execution on a
 *	  batch.
 *
 * The plans are made once and run until something they depend on changes.
 * They are kept by us and not by the plan cache, whose entries need a raw
 * parse tree; so we do what the plan cache does: remember the relations and
 * functions, listen to invalidations, lock all relations at the start of each
 * transaction, and only then believe that the plan is still good.
 *
 * Each statement has three plans, for a few rows, some thousand, and a full
 * batch: with few rows a lookup table is best read by its index, with many it
 * is cheaper to hash it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "plan/keyed.h"
#include "plan/plan.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Rows that the plans of a statement claim, and where the next one begins. */
static const int plan_rows[PROGRAM_PLANS - 1] = {16, 2048};	/* the last: a full batch */

/* From so many rows of one key in a transaction on, tasks take turns. */
#define HOT_KEY_ROWS 16

/*
 * A lookup table's pages are in memory after the first batches, so reading
 * them in random order costs what reading them in order does.  With the
 * default of 4 the planner hashes a table of 100,000 rows for each batch,
 * four times the price of index lookups; with 1.1 it takes a hash for 10,000
 * rows and the index for 100,000, which is right.
 */
#define LOOKUP_RANDOM_PAGE_COST 1.1

static Program *current_program = NULL; /* of this process, for invalidations */
static bool callbacks_registered = false;

/* ---- invalidation ---- */

static void
relcache_callback(Datum arg, Oid relid)
{
	if (current_program != NULL && current_program->valid &&
		(relid == InvalidOid || list_member_oid(current_program->relations, relid)))
		current_program->valid = false;
}

static void
syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	Program    *program = current_program;
	ListCell   *lc;

	if (program == NULL || !program->valid)
		return;
	if (cacheid == PROCOID && (hashvalue == 0 || list_member_int(program->functions, (int) hashvalue)))
		program->valid = false;
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);
		int			i;

		for (i = 0; i < PROGRAM_PLANS; i++)
		{
			ListCell   *li;

			foreach(li, statement->plan[i]->invalItems)
			{
				PlanInvalItem *item = lfirst(li);

				if (item->cacheId == cacheid &&
					(hashvalue == 0 || item->hashValue == hashvalue))
					program->valid = false;
			}
		}
	}
}

/* Operators, servers, roles and memberships change seldom: any change makes a new plan, and the rights are checked. */
static void
any_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	if (current_program != NULL)
		current_program->valid = false;
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, syscache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, syscache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, any_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, any_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, any_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, any_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, any_callback, (Datum) 0);
	callbacks_registered = true;
}

/* ---- planning ---- */

static PlannedStmt *
plan_one(Program *program, Query *query, int rows)
{
	double		save_random_page_cost = random_page_cost;
	int			save_feed_rows = stream_plan_feed_rows;
	PlannedStmt *plan = NULL;

	stream_plan_feed_rows = rows;
	keyed_planning = program;
	random_page_cost = Min(random_page_cost, LOOKUP_RANDOM_PAGE_COST);
	PG_TRY();
	{
		plan = pg_plan_query(copyObject(query), "", 0, NULL);
	}
	PG_FINALLY();
	{
		random_page_cost = save_random_page_cost;
		stream_plan_feed_rows = save_feed_rows;
		keyed_planning = NULL;
	}
	PG_END_TRY();
	return plan;
}

/* The query after rules and views; a pipeline's INSERT stays one query. */
static Query *
rewrite_one(Query *query)
{
	List	   *rewritten;

	query = copyObject(query);
	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1 || linitial_node(Query, rewritten)->commandType != CMD_INSERT)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the target of a pipeline must not have rules")));
	return linitial_node(Query, rewritten);
}

PlannedStmt *
plan_below_modify_table(PlannedStmt *whole)
{
	PlannedStmt *below = makeNode(PlannedStmt);
	ModifyTable *top = castNode(ModifyTable, whole->planTree);
	Plan	   *child = copyObject(outerPlan(top));

	*below = *whole;
	/* the init plans of the top must hang where they are used */
	child->initPlan = list_concat(list_copy(child->initPlan), copyObject(top->plan.initPlan));
	below->planTree = child;
	below->commandType = CMD_SELECT;
	below->hasReturning = false;
	below->resultRelations = NIL;
	below->canSetTag = true;
	return below;
}

uint64
plan_execute(PlannedStmt *plan, DestReceiver *dest)
{
	QueryDesc  *desc;
	uint64		processed;

	desc = CreateQueryDesc(plan, "", GetActiveSnapshot(), InvalidSnapshot, dest, NULL, NULL, 0);
	ExecutorStart(desc, 0);
	ExecutorRun(desc, ForwardScanDirection, 0, true);
	checks_begin();
	ExecutorFinish(desc);
	processed = desc->estate->es_processed;
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	return processed;
}

/* ---- which topics and columns do the plans read? ---- */

static void
add_source(Program *program, Oid relid, Bitmapset *needed)
{
	int			i;

	for (i = 0; i < program->nsources; i++)
	{
		if (program->sources[i].relid == relid)
		{
			program->sources[i].needed = bms_add_members(program->sources[i].needed, needed);
			return;
		}
	}
	if (program->nsources == 0)
		program->sources = palloc(sizeof(ProgramSource));
	else
		program->sources = repalloc(program->sources, sizeof(ProgramSource) * (program->nsources + 1));
	program->sources[program->nsources].relid = relid;
	program->sources[program->nsources].needed = bms_copy(needed);
	program->nsources++;
}

static bool
feed_walker(PlanState *state, Program *program)
{
	if (state == NULL)
		return false;
	if (IsA(state->plan, ForeignScan))
	{
		Oid			relid;
		Bitmapset  *needed;

		if (stream_scan_is_feed((ForeignScan *) state->plan, &relid, &needed))
		{
			MemoryContext old = MemoryContextSwitchTo(program->cxt);

			add_source(program, relid, needed);
			MemoryContextSwitchTo(old);
		}
	}
	return planstate_tree_walker(state, feed_walker, program);
}

static void
find_feeds(Program *program, PlannedStmt *plan)
{
	QueryDesc  *desc;
	ListCell   *lc;

	desc = CreateQueryDesc(plan, "", GetActiveSnapshot(), InvalidSnapshot, None_Receiver, NULL, NULL, 0);
	ExecutorStart(desc, EXEC_FLAG_EXPLAIN_ONLY);
	feed_walker(desc->planstate, program);
	/* WITH queries that nobody references from above stand only here */
	foreach(lc, desc->estate->es_subplanstates)
		feed_walker(lfirst(lc), program);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

/* Do the table, or its partitions, have triggers, and of which kinds? */
static void
scan_triggers(Program *program, Oid relid, bool *before_row)
{
	List	   *oids = find_all_inheritors(relid, AccessShareLock, NULL);
	ListCell   *lc;

	foreach(lc, oids)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);
		TriggerDesc *triggers = rel->trigdesc;
		int			i;

		/* they may write whatever they like */
		program->only_topics &= triggers == NULL;
		for (i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		{
			if (triggers->triggers[i].tgdeferrable)
				program->has_deferred = true;
			if (TRIGGER_FOR_BEFORE(triggers->triggers[i].tgtype) &&
				TRIGGER_FOR_ROW(triggers->triggers[i].tgtype) &&
				TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype))
				*before_row = true;
		}
		table_close(rel, NoLock);
	}
}

static void
make_statement(Program *program, Query *query, StatementInfo *info, int number)
{
	Statement  *statement = palloc0(sizeof(Statement));
	Query	   *rewritten = rewrite_one(query);
	bool		before_row = false;
	int			first_keyed = program->nkeyed;
	Relation	sink;
	ModifyTable *top;
	ListCell   *lc;
	int			i;

	/* before any of it is evaluated */
	if (!program->trust_owners)
		trust_check(rewritten, info, &program->relations, &program->functions);
	statement->info = info;
	statement->number = number;
	if (info->grouped)
	{
		keyed_prepare(rewritten, NIL, program);
		sink = table_open(info->sink, AccessShareLock);
		keyed_sort_for_sink(rewritten, sink);
		table_close(sink, NoLock);
	}
	for (i = 0; i < PROGRAM_PLANS; i++)
		statement->plan[i] = plan_one(program, rewritten, i < PROGRAM_PLANS - 1 ? plan_rows[i] : program->max_rows);
	top = castNode(ModifyTable, statement->plan[0]->planTree);

	foreach(lc, info->sinks)
		scan_triggers(program, lfirst_oid(lc), &before_row);

	sink = table_open(info->sink, AccessShareLock);
	if (!info->has_on_conflict)
	{
		bool		simple = top->withCheckOptionLists == NIL && top->returningLists == NIL &&
			!statement->plan[0]->hasModifyingCTE && multi_insert_possible(sink);

		statement->mode = simple ? STATEMENT_MULTI_INSERT : STATEMENT_WHOLE;
	}
	else
	{
		statement->arbiter = info->nested_on_conflict || before_row || statement->plan[0]->hasModifyingCTE ?
			InvalidOid : upsert_arbiter(top, sink);
		statement->mode = OidIsValid(statement->arbiter) ? STATEMENT_UPSERT : STATEMENT_ROW_BY_ROW;
	}
	table_close(sink, NoLock);

	switch (statement->mode)
	{
		case STATEMENT_WHOLE:
			break;
		case STATEMENT_MULTI_INSERT:
			for (i = 0; i < PROGRAM_PLANS; i++)
				statement->child[i] = plan_below_modify_table(statement->plan[i]);
			statement->insert = (struct MultiInsert *) multi_insert_receiver(statement, program->cxt);
			break;
		case STATEMENT_UPSERT:
			for (i = 0; i < PROGRAM_PLANS; i++)
				statement->child[i] = plan_below_modify_table(statement->plan[i]);
			program->has_upsert = true;
			statement->apply = upsert_apply_plan(statement->plan[0]);
			statement->upsert = upsert_create(statement, program->cxt);
			break;
		case STATEMENT_ROW_BY_ROW:
			/* the launcher alone writes what groups give: all of an epoch in one command */
			if (info->grouped)
				statement->mode = STATEMENT_WHOLE;
			else
				program->needs_one_task = true;
			break;
	}
	program->statements = lappend(program->statements, statement);

	for (i = 0; i < PROGRAM_PLANS; i++)
	{
		PlannedStmt *plan = statement->plan[i];

		find_feeds(program, plan);
		if (info->grouped)
		{
			const char *miss = tombstone_prepare(info, plan);

			if (miss != NULL)
				statement->tombstones_miss = miss;
			keyed_collect(program, statement, plan, i);
		}
		program->relations = list_concat_unique_oid(program->relations, plan->relationOids);
		foreach(lc, plan->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);

			if (rte->rtekind != RTE_RELATION)
				continue;
			program->lock_relids = lappend_oid(program->lock_relids, rte->relid);
			program->lock_modes = lappend_int(program->lock_modes, rte->rellockmode);
		}
	}
	if (info->grouped && program->nkeyed == first_keyed)
		elog(ERROR, "statement %d has no operator", number);
	/* the planner drops what nobody needs; then the statement means something else */
	for (i = first_keyed; i < program->nkeyed; i++)
		if (program->keyed[i].spec == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("statement %d computes window functions or groups that nothing uses", number),
					 errhint("Leave them out.")));
}

/* Needs a transaction with an active snapshot. */
Program *
program_make(List *queries, bool trust_owners, bool arrival, int64 state_ttl)
{
	/* the caller's context, where an error after us would forget it; see program_load() */
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc program", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Program    *program = palloc0(sizeof(Program));
	int			number = 0;
	List	   *infos;
	ListCell   *lq,
			   *li,
			   *ls;

	program->cxt = cxt;
	program->valid = true;
	program->trust_owners = trust_owners;
	program->arrival = arrival;
	program->state_ttl = state_ttl;
	PG_TRY();
	{
		queries = copyObject(queries);
		infos = plan_check(queries, NULL, &program->server);
		program->max_rows = PROGRAM_ROWS;
		program->only_topics = true;
		foreach(li, infos)
		{
			StatementInfo *info = lfirst(li);

			if (info->lookups)
				program->max_rows = PROGRAM_ROWS_LOOKUP;
			/* a function that writes is volatile */
			program->only_topics &= info->volatile_functions == NIL;
			foreach(ls, info->sinks)
				program->only_topics &= get_rel_relkind(lfirst_oid(ls)) == RELKIND_FOREIGN_TABLE;
			if (info->grouped)
				program->is_keyed = true;
			program->has_over |= info->over || info->chained;
			if (OidIsValid(info->sink_server))
				program->sink_server = info->sink_server;
		}
		if (OidIsValid(program->sink_server))
			program->outbox = stream_outbox_create(cxt);
		forboth(lq, queries, li, infos)
			make_statement(program, lfirst_node(Query, lq), lfirst(li), ++number);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return program;
}

Program *
program_load(Oid procedure, bool trust_owners, bool arrival, int64 state_ttl)
{
	HeapTuple	tuple;
	Datum		body;
	bool		isnull;
	List	   *stored;
	Program    *program;

	register_callbacks();
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(procedure));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("the procedure of the pipeline does not exist")));
	body = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("the procedure of the pipeline has no stored statements"),
				 errhint("Give the pipeline a query: SELECT streamproc.alter_pipeline(name, query => ...).")));
	stored = stringToNode(TextDatumGetCString(body));
	ReleaseSysCache(tuple);
	/* BEGIN ATOMIC stores a list of one list */
	if (IsA(linitial(stored), List))
		stored = linitial_node(List, stored);
	program = program_make(stored, trust_owners, arrival, state_ttl);
	/* lives over transactions */
	MemoryContextSetParent(program->cxt, TopMemoryContext);
	program->procedure = procedure;
	current_program = program;
	return program;
}

void
program_free(Program *program)
{
	if (program == NULL)
		return;
	if (current_program == program)
		current_program = NULL;
	MemoryContextDelete(program->cxt);
}

/*
 * SELECT on a foreign table is enough to read it once.  A pipeline uses
 * the server on and on, as one who makes foreign tables there.
 */
static void
check_server_rights(Oid server)
{
	if (pg_foreign_server_aclcheck(server, GetUserId(), ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", stream_server_name(server)),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s.",
						 quote_identifier(stream_server_name(server)),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

/* May the current user do what the statements do?  Throws 42501 if not. */
void
program_check_rights(Program *program)
{
	ListCell   *lc;

	foreach(lc, program->statements)
		(void) ExecCheckRTPerms(((Statement *) lfirst(lc))->plan[0]->rtable, true);
	check_server_rights(program->server);
	if (OidIsValid(program->sink_server))
		check_server_rights(program->sink_server);
}

bool
program_lock(Program *program)
{
	ListCell   *lr,
			   *lm;

	AcceptInvalidationMessages();
	if (!program->valid)
		return false;
	forboth(lr, program->lock_relids, lm, program->lock_modes)
		if (!program->rows_only || lfirst_int(lm) < RowExclusiveLock)
			LockRelationOid(lfirst_oid(lr), lfirst_int(lm));
	return program->valid;
}

/* ---- execution ---- */

static void
run_row_by_row(Program *program, Statement *statement)
{
	int			nfeeds = stream_nfeeds;
	int		   *first = palloc(sizeof(int) * nfeeds);
	int		   *last = palloc(sizeof(int) * nfeeds);
	int			i;

	for (i = 0; i < nfeeds; i++)
	{
		first[i] = stream_feeds[i].first;
		last[i] = stream_feeds[i].last;
		stream_feeds[i].last = first[i];	/* empty until its turn */
	}
	for (i = 0; i < nfeeds; i++)
	{
		int			row;

		for (row = first[i]; row < last[i]; row++)
		{
			CHECK_FOR_INTERRUPTS();
			stream_feeds[i].first = row;
			stream_feeds[i].last = row + 1;
			PushActiveSnapshot(GetTransactionSnapshot());
			program->rows_out += plan_execute(statement->plan[0], None_Receiver);
			PopActiveSnapshot();
			CommandCounterIncrement();
		}
		stream_feeds[i].first = stream_feeds[i].last = last[i];
	}
	for (i = 0; i < nfeeds; i++)
	{
		stream_feeds[i].first = first[i];
		stream_feeds[i].last = last[i];
	}
	pfree(first);
	pfree(last);
}

static void
run_statement(Program *program, Statement *statement, int size)
{
	if (statement->mode == STATEMENT_ROW_BY_ROW)
	{
		/* a snapshot for each row */
		run_row_by_row(program, statement);
		return;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	switch (statement->mode)
	{
		case STATEMENT_WHOLE:
			program->rows_out += plan_execute(statement->plan[size], None_Receiver);
			break;
		case STATEMENT_MULTI_INSERT:
			program->rows_out += multi_insert_run(statement, statement->child[size]);
			break;
		case STATEMENT_UPSERT:
			upsert_collect(statement, statement->child[size]);
			break;
		case STATEMENT_ROW_BY_ROW:
			break;
	}
	PopActiveSnapshot();
	CommandCounterIncrement();
}

/* The row queries of a keyed program: into KeyedNode.rows. */
static void
run_row_queries(Program *program, int size)
{
	int			i;

	for (i = 0; i < program->nkeyed; i++)
	{
		KeyedNode  *node = &program->keyed[i];

		if (node->upstream >= 0)
			continue;
		program->running = node->spec->statement;
		stream_place.feed = NULL;
		checks_forget();
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) plan_execute(node->query[size], &node->rows->pub);
		PopActiveSnapshot();
	}
}

void
program_fire(Program *program)
{
	ListCell   *lc;

	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		program->running = statement->number;
		stream_place.feed = NULL;
		checks_forget();
		run_statement(program, statement, PROGRAM_OUTPUT);
	}
}

void
program_fire_statement(Program *program, int number)
{
	program->running = number;
	stream_place.feed = NULL;
	checks_forget();
	run_statement(program, list_nth(program->statements, number - 1), PROGRAM_OUTPUT);
}

void
program_run(Program *program, int nrows)
{
	int			size = program_plan_size(nrows);
	ListCell   *lc;

	if (program->is_keyed)
	{
		run_row_queries(program, size);
		return;
	}
	program->unchecked += nrows;
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		program->running = statement->number;
		stream_place.feed = NULL;
		checks_forget();
		run_statement(program, statement, size);
		if (statement->mode == STATEMENT_WHOLE)
			checks_end(&statement->checks_per_message, nrows);
	}
}

static void
set_constraints(bool deferred)
{
	ConstraintsSetStmt *set = makeNode(ConstraintsSetStmt);

	set->constraints = NIL;
	set->deferred = deferred;
	PushActiveSnapshot(GetTransactionSnapshot());
	AfterTriggerSetState(set);
	PopActiveSnapshot();
}

void
program_defer(Program *program)
{
	if (program->has_deferred)
		set_constraints(true);
}

/*
 * SET CONSTRAINTS ALL DEFERRED defers those too that are initially immediate,
 * also of tables that only triggers write.
 */
bool
program_may_defer(Program *program)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		may = true;

	if (!program->has_deferred)
		return true;
	rel = table_open(ConstraintRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (may && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_constraint constraint = (Form_pg_constraint) GETSTRUCT(tuple);

		if (constraint->condeferrable && !constraint->condeferred)
			may = false;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return may;
}

void
program_run_empty(Program *program)
{
	ListCell   *lc;

	if (program->is_keyed)
	{
		run_row_queries(program, 0);
		return;
	}
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		program->running = statement->number;
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) plan_execute(statement->plan[0], None_Receiver);
		PopActiveSnapshot();
		CommandCounterIncrement();
	}
}

void
program_finish(Program *program)
{
	ListCell   *lc;
	int			i;

	/* in a task nothing is written yet; in the launcher these rows are none */
	for (i = 0; i < program->nkeyed; i++)
		rows_mark(program->keyed[i].rows);
	if (program->is_keyed && operator_fire_sets == NULL)
	{
		program->running = 0;
		return;
	}
	program->upsert_most = 0;
	/* an error from here on says nothing about the place of the scan */
	program->running = 0;
	stream_place.feed = NULL;
	checks_forget();
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		if (statement->mode == STATEMENT_UPSERT)
		{
			int64		rows = upsert_prepare(statement);

			program->upsert_most = Max(program->upsert_most, rows);
		}
	}
	if (program->upsert_most > 0)
		upsert_wait_for_turn(program, program->upsert_most >= HOT_KEY_ROWS);
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		if (statement->mode == STATEMENT_UPSERT)
		{
			program->running = statement->number;
			program->rows_out += upsert_flush(statement);
		}
	}
	program->running = 0;
	if (program->has_deferred)
	{
		FAULT_POINT("finish-before-constraints");
		checks_begin();
		set_constraints(false);
		checks_end(&program->checks_per_message, program->unchecked);
	}
	program->unchecked = 0;
}

int
program_checked_message(Program *program)
{
	ListCell   *lc;

	if (program->running == 0)
		return checks_message(program->checks_per_message);
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		/* the other modes write rows in another order, or know the message */
		if (statement->number == program->running && statement->mode == STATEMENT_WHOLE)
			return checks_message(statement->checks_per_message);
	}
	return -1;
}

Size
program_held_bytes(Program *program)
{
	Size		bytes = 0;
	ListCell   *lc;
	int			i;

	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		if (statement->upsert != NULL)
			bytes += upsert_bytes(statement->upsert);
	}
	for (i = 0; i < program->nkeyed; i++)
		bytes += program->keyed[i].rows->bytes;
	return bytes;
}

void
program_reset(Program *program)
{
	int			i;

	program_forget(program, (ProgramMark) {0});
	for (i = 0; i < program->nkeyed; i++)
		rows_reset(program->keyed[i].rows);
}

ProgramMark
program_mark(const Program *program)
{
	ProgramMark mark = {program->rows_out};

	if (program->outbox != NULL)
		mark.outbox = stream_outbox_mark(program->outbox);
	return mark;
}

void
program_forget(Program *program, ProgramMark mark)
{
	ListCell   *lc;
	int			i;

	for (i = 0; i < program->nkeyed; i++)
		rows_forget(program->keyed[i].rows);
	program->rows_out = mark.rows_out;
	if (program->outbox != NULL)
		stream_outbox_cut(program->outbox, mark.outbox);
	program->unchecked = 0;
	foreach(lc, program->statements)
	{
		Statement  *statement = lfirst(lc);

		if (statement->upsert != NULL)
			upsert_reset(statement->upsert);
	}
}

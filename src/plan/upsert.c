/*-------------------------------------------------------------------------
 *
 * upsert.c
 *	  INSERT ... ON CONFLICT over batches, with parallel tasks on hot keys.
 *
 * Run as it is, the statement would fail when a batch holds a key twice
 * (21000), and two tasks that meet the same keys in another order would
 * deadlock.  So the rows of the SELECT are collected during the transaction.
 * Before the commit they are sorted by the arbiter index's columns, arrival
 * order within a key, and applied in rounds: the k-th row of each key in
 * round k, each round one run of the statement's own ModifyTable over the
 * collected rows.  A key's rows thus apply in order, as if one by one; and
 * every task takes row locks in the same order, once per transaction, right
 * before its commit.
 *
 * The cost of n rows of one key in one transaction grows with the square of
 * n (each update walks over the versions that the transaction made), so the
 * task keeps its transactions to about UPSERT_KEY_ROWS rows of a key; see
 * Program.upsert_most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_proc.h"
#include "commands/explain.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/sortsupport.h"

typedef struct UpsertRow
{
	MinimalTuple tuple;
	Datum		key;			/* first arbiter column, for the common comparison */
	bool		key_null;
	int64		seq;			/* arrival */
	int64		round;
} UpsertRow;

typedef struct Upsert
{
	DestReceiver pub;
	MemoryContext cxt;			/* rows of the transaction */
	TupleDesc	desc;			/* of the rows: the target's columns */
	UpsertRow  *rows;
	int64		nrows;
	int64		maxrows;
	int64		rounds;			/* of the sorted rows */
	Size		bytes;
	int			nkeys;
	AttrNumber *attnums;		/* of the arbiter's columns */
	SortSupport sort;			/* one per column, made per flush */
	bool		nulls_distinct;
} Upsert;

/* The rows that the custom scan returns, in this process. */
static struct
{
	UpsertRow **rows;
	int64		nrows;
	int64		next;
}			round_rows;

static Node *rows_create_state(CustomScan *scan);
static void rows_begin(CustomScanState *node, EState *estate, int eflags);
static TupleTableSlot *rows_exec(CustomScanState *node);
static void rows_end(CustomScanState *node);
static void rows_rescan(CustomScanState *node);

static const CustomScanMethods rows_scan_methods = {
	.CustomName = "Streamproc Collected Rows",
	.CreateCustomScanState = rows_create_state,
};

static const CustomExecMethods rows_exec_methods = {
	.CustomName = "Streamproc Collected Rows",
	.BeginCustomScan = rows_begin,
	.ExecCustomScan = rows_exec,
	.EndCustomScan = rows_end,
	.ReScanCustomScan = rows_rescan,
};

void
upsert_init(void)
{
	RegisterCustomScanMethods(&rows_scan_methods);
}

/* ---- planning ---- */

/*
 * The arbiter, where rounds are possible: one btree index over plain columns.
 * InvalidOid: row by row.
 */
Oid
upsert_arbiter(ModifyTable *node, Relation sink)
{
	Oid			index_oid;
	Relation	index;
	bool		usable;
	int			i;

	if (list_length(node->arbiterIndexes) != 1)
	{
		/* DO NOTHING without a target: every unique index decides */
		List	   *indexes = RelationGetIndexList(sink);
		ListCell   *lc;

		index_oid = InvalidOid;
		if (node->arbiterIndexes != NIL)
			return InvalidOid;
		foreach(lc, indexes)
		{
			Relation	candidate = index_open(lfirst_oid(lc), AccessShareLock);
			bool		decides = candidate->rd_index->indisunique || candidate->rd_index->indisexclusion;

			index_close(candidate, NoLock);
			if (!decides)
				continue;
			if (OidIsValid(index_oid))
				return InvalidOid;
			index_oid = lfirst_oid(lc);
		}
		if (!OidIsValid(index_oid))
			return InvalidOid;
	}
	else
		index_oid = linitial_oid(node->arbiterIndexes);

	index = index_open(index_oid, AccessShareLock);
	usable = index->rd_rel->relam == BTREE_AM_OID &&
		RelationGetIndexExpressions(index) == NIL &&
		RelationGetIndexPredicate(index) == NIL;
	for (i = 0; usable && i < index->rd_index->indnkeyatts; i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];

		if (attnum <= 0 ||
			TupleDescAttr(RelationGetDescr(sink), attnum - 1)->attgenerated != '\0')
			usable = false;
	}
	index_close(index, NoLock);
	return usable ? index_oid : InvalidOid;
}

/*
 * Does the plan read the batch, itself or through a WITH query of "readers"
 * (numbers of subplans)?
 */
static bool
reads_feed(Plan *plan, Bitmapset *readers)
{
	List	   *children = NIL;
	ListCell   *lc;

	if (plan == NULL)
		return false;
	switch (nodeTag(plan))
	{
		case T_ForeignScan:
			{
				Oid			relid;
				Bitmapset  *needed;

				if (stream_scan_is_feed((ForeignScan *) plan, &relid, &needed))
					return true;
				break;
			}
		case T_CteScan:
			return bms_is_member(((CteScan *) plan)->ctePlanId, readers);
		case T_Append:
			children = ((Append *) plan)->appendplans;
			break;
		case T_MergeAppend:
			children = ((MergeAppend *) plan)->mergeplans;
			break;
		case T_SubqueryScan:
			return reads_feed(((SubqueryScan *) plan)->subplan, readers);
		default:
			break;
	}
	foreach(lc, children)
		if (reads_feed(lfirst(lc), readers))
			return true;
	return reads_feed(outerPlan(plan), readers) || reads_feed(innerPlan(plan), readers);
}

/*
 * WITH queries over the topic belong to the part that collects; started
 * again for each round, they would find no batch.  ON CONFLICT cannot read
 * them: that is refused.
 */
static void
forget_feed_subplans(PlannedStmt *plan)
{
	Bitmapset  *readers = NULL;
	List	   *init = NIL;
	bool		more = true;
	ListCell   *lc;

	while (more)
	{
		more = false;
		foreach(lc, plan->subplans)
		{
			int			number = foreach_current_index(lc) + 1;

			if (bms_is_member(number, readers) || !reads_feed(lfirst(lc), readers))
				continue;
			readers = bms_add_member(readers, number);
			more = true;
		}
	}
	foreach(lc, plan->subplans)
		if (bms_is_member(foreach_current_index(lc) + 1, readers))
			lfirst(lc) = NULL;
	foreach(lc, plan->planTree->initPlan)
		if (!bms_is_member(lfirst_node(SubPlan, lc)->plan_id, readers))
			init = lappend(init, lfirst(lc));
	plan->planTree->initPlan = init;
}

/* The statement's ModifyTable, over the collected rows. */
PlannedStmt *
upsert_apply_plan(PlannedStmt *whole)
{
	PlannedStmt *apply = copyObject(whole);
	ModifyTable *top = castNode(ModifyTable, apply->planTree);
	Plan	   *child = outerPlan(top);
	CustomScan *scan = makeNode(CustomScan);
	ListCell   *lc;

	foreach(lc, child->targetlist)
	{
		TargetEntry *tle = lfirst(lc);
		Var		   *var;

		/*
		 * The tuple's descriptor is taken from the types of these; they are
		 * never evaluated.
		 */
		scan->custom_scan_tlist = lappend(scan->custom_scan_tlist,
										  makeTargetEntry((Expr *) makeNullConst(exprType((Node *) tle->expr),
																				 exprTypmod((Node *) tle->expr),
																				 exprCollation((Node *) tle->expr)),
														  tle->resno, tle->resname, false));
		var = makeVar(INDEX_VAR, tle->resno, exprType((Node *) tle->expr),
					  exprTypmod((Node *) tle->expr), exprCollation((Node *) tle->expr), 0);
		/* ModifyTable wants to see NULL itself for dropped and generated columns */
		scan->scan.plan.targetlist = lappend(scan->scan.plan.targetlist,
											 makeTargetEntry(IsA(tle->expr, Const) ? copyObject(tle->expr) : (Expr *) var,
															 tle->resno, tle->resname, tle->resjunk));
	}
	scan->scan.scanrelid = 0;
	scan->methods = &rows_scan_methods;
	scan->scan.plan.plan_rows = child->plan_rows;
	scan->scan.plan.plan_width = child->plan_width;
	outerPlan(top) = &scan->scan.plan;
	forget_feed_subplans(apply);
	return apply;
}

/* ---- the scan over collected rows ---- */

static Node *
rows_create_state(CustomScan *scan)
{
	CustomScanState *state = makeNode(CustomScanState);

	state->methods = &rows_exec_methods;
	return (Node *) state;
}

static void
rows_begin(CustomScanState *node, EState *estate, int eflags)
{
}

static TupleTableSlot *
rows_next(ScanState *node)
{
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (round_rows.next >= round_rows.nrows)
		return ExecClearTuple(slot);
	ExecForceStoreMinimalTuple(round_rows.rows[round_rows.next++]->tuple, slot, false);
	return slot;
}

static bool
rows_recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
rows_exec(CustomScanState *node)
{
	return ExecScan(&node->ss, (ExecScanAccessMtd) rows_next, (ExecScanRecheckMtd) rows_recheck);
}

static void
rows_end(CustomScanState *node)
{
}

static void
rows_rescan(CustomScanState *node)
{
	round_rows.next = 0;
}

/* ---- collecting ---- */

/*
 * A row that outlives the snapshot it was read with: values that are stored
 * out of line, in the TOAST table of a lookup table, are fetched now.
 */
static MinimalTuple
copy_row(TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Datum	   *values = NULL;
	MinimalTuple tuple;
	int			i;

	slot_getallattrs(slot);
	for (i = 0; i < desc->natts; i++)
	{
		if (slot->tts_isnull[i] || TupleDescAttr(desc, i)->attlen != -1 ||
			!VARATT_IS_EXTERNAL(DatumGetPointer(slot->tts_values[i])))
			continue;
		if (values == NULL)
		{
			values = palloc(sizeof(Datum) * desc->natts);
			memcpy(values, slot->tts_values, sizeof(Datum) * desc->natts);
		}
		values[i] = PointerGetDatum(detoast_external_attr((struct varlena *) DatumGetPointer(values[i])));
	}
	if (values == NULL)
		return ExecCopySlotMinimalTuple(slot);
	tuple = heap_form_minimal_tuple(desc, values, slot->tts_isnull);
	for (i = 0; i < desc->natts; i++)
		if (values[i] != slot->tts_values[i])
			pfree(DatumGetPointer(values[i]));
	pfree(values);
	return tuple;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Upsert	   *upsert = (Upsert *) self;
	MemoryContext old = MemoryContextSwitchTo(upsert->cxt);
	UpsertRow  *row;

	if (upsert->nrows == upsert->maxrows)
	{
		int64		max = Max(upsert->maxrows * 2, 1024);

		if (upsert->rows == NULL)
			upsert->rows = palloc(sizeof(UpsertRow) * max);
		else
			upsert->rows = repalloc_huge(upsert->rows, sizeof(UpsertRow) * max);
		upsert->maxrows = max;
	}
	row = &upsert->rows[upsert->nrows];
	row->tuple = copy_row(slot);
	row->seq = upsert->nrows++;
	upsert->bytes += row->tuple->t_len + sizeof(UpsertRow);
	MemoryContextSwitchTo(old);
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc typeinfo)
{
}

static void
shutdown(DestReceiver *self)
{
}

struct Upsert *
upsert_create(Statement *statement, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Upsert	   *upsert = palloc0(sizeof(Upsert));
	Relation	sink = table_open(statement->info->sink, NoLock);
	Relation	index = index_open(statement->arbiter, AccessShareLock);
	int			i;

	upsert->pub.receiveSlot = receive;
	upsert->pub.rStartup = startup;
	upsert->pub.rShutdown = shutdown;
	upsert->pub.rDestroy = shutdown;
	upsert->pub.mydest = DestNone;
	upsert->cxt = AllocSetContextCreate(cxt, "streamproc upsert rows", ALLOCSET_DEFAULT_SIZES);
	upsert->desc = CreateTupleDescCopy(RelationGetDescr(sink));
	upsert->nkeys = index->rd_index->indnkeyatts;
	upsert->attnums = palloc(sizeof(AttrNumber) * upsert->nkeys);
	for (i = 0; i < upsert->nkeys; i++)
		upsert->attnums[i] = index->rd_index->indkey.values[i];
	upsert->nulls_distinct = !index->rd_index->indnullsnotdistinct;
	index_close(index, NoLock);
	table_close(sink, NoLock);
	MemoryContextSwitchTo(old);
	return upsert;
}

void
upsert_collect(Statement *statement, PlannedStmt *child)
{
	(void) plan_execute(child, &statement->upsert->pub);
}

void
upsert_reset(Upsert *upsert)
{
	if (upsert->nrows == 0 && upsert->rows == NULL)
		return;
	MemoryContextReset(upsert->cxt);
	upsert->rows = NULL;
	upsert->nrows = upsert->maxrows = 0;
	upsert->bytes = 0;
}

Size
upsert_bytes(Upsert *upsert)
{
	return upsert->bytes;
}

/* ---- applying ---- */

static Datum
row_key(Upsert *upsert, const UpsertRow *row, int key, bool *isnull)
{
	HeapTupleData tuple;

	if (key == 0)
	{
		*isnull = row->key_null;
		return row->key;
	}
	tuple.t_len = row->tuple->t_len + MINIMAL_TUPLE_OFFSET;
	tuple.t_data = (HeapTupleHeader) ((char *) row->tuple - MINIMAL_TUPLE_OFFSET);
	return heap_getattr(&tuple, upsert->attnums[key], upsert->desc, isnull);
}

static int
compare_keys(const UpsertRow *a, const UpsertRow *b, Upsert *upsert)
{
	int			i;

	for (i = 0; i < upsert->nkeys; i++)
	{
		bool		anull,
					bnull;
		Datum		akey = row_key(upsert, a, i, &anull);
		Datum		bkey = row_key(upsert, b, i, &bnull);
		int			cmp = ApplySortComparator(akey, anull, bkey, bnull, &upsert->sort[i]);

		if (cmp != 0)
			return cmp;
	}
	return 0;
}

static int
compare_rows(const void *a, const void *b, void *arg)
{
	const UpsertRow *ra = a;
	const UpsertRow *rb = b;
	int			cmp = compare_keys(ra, rb, arg);

	if (cmp != 0)
		return cmp;
	return ra->seq < rb->seq ? -1 : ra->seq > rb->seq ? 1 : 0;
}

static bool
has_null_key(Upsert *upsert, const UpsertRow *row)
{
	int			i;

	for (i = 0; i < upsert->nkeys; i++)
	{
		bool		isnull;

		(void) row_key(upsert, row, i, &isnull);
		if (isnull)
			return true;
	}
	return false;
}

/* Sorts the rows and numbers the rounds; returns how many there are. */
static int64
make_rounds(Statement *statement)
{
	Upsert	   *upsert = statement->upsert;
	Relation	index = index_open(statement->arbiter, AccessShareLock);
	int64		rounds = 1;
	int64		i;
	int			k;

	upsert->sort = palloc0(sizeof(SortSupportData) * upsert->nkeys);
	for (k = 0; k < upsert->nkeys; k++)
	{
		SortSupport sort = &upsert->sort[k];

		sort->ssup_cxt = CurrentMemoryContext;
		sort->ssup_collation = index->rd_indcollation[k];
		sort->ssup_attno = k + 1;
		PrepareSortSupportFromIndexRel(index, BTLessStrategyNumber, sort);
	}
	for (i = 0; i < upsert->nrows; i++)
	{
		UpsertRow  *row = &upsert->rows[i];
		HeapTupleData tuple;

		tuple.t_len = row->tuple->t_len + MINIMAL_TUPLE_OFFSET;
		tuple.t_data = (HeapTupleHeader) ((char *) row->tuple - MINIMAL_TUPLE_OFFSET);
		row->key = heap_getattr(&tuple, upsert->attnums[0], upsert->desc, &row->key_null);
	}
	qsort_arg(upsert->rows, upsert->nrows, sizeof(UpsertRow), compare_rows, upsert);
	for (i = 0; i < upsert->nrows; i++)
	{
		UpsertRow  *row = &upsert->rows[i];

		row->round = 0;
		if (i > 0 && compare_keys(row - 1, row, upsert) == 0 &&
			!(upsert->nulls_distinct && has_null_key(upsert, row)))
			row->round = row[-1].round + 1;
		rounds = Max(rounds, row->round + 1);
	}
	index_close(index, NoLock);
	return rounds;
}

/* Sorts the collected rows; returns the rows of the most frequent key. */
int64
upsert_prepare(Statement *statement)
{
	Upsert	   *upsert = statement->upsert;
	MemoryContext cxt;
	MemoryContext old;

	if (upsert->nrows == 0)
		return 0;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc upsert keys", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	upsert->rounds = make_rounds(statement);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return upsert->rounds;
}

/* Applies the collected rows, after upsert_prepare(). */
uint64
upsert_flush(Statement *statement)
{
	Upsert	   *upsert = statement->upsert;
	uint64		processed = 0;
	int64		rounds = upsert->rounds;
	MemoryContext cxt;
	MemoryContext old;
	int64	   *starts;
	UpsertRow **order;
	int64		i;

	if (upsert->nrows == 0)
		return 0;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc upsert", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);

	/* rows by round, within a round by key: a counting sort keeps the order */
	starts = MemoryContextAllocExtended(cxt, sizeof(int64) * (rounds + 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	order = MemoryContextAllocExtended(cxt, sizeof(UpsertRow *) * upsert->nrows, MCXT_ALLOC_HUGE);
	for (i = 0; i < upsert->nrows; i++)
		starts[upsert->rows[i].round + 1]++;
	for (i = 1; i <= rounds; i++)
		starts[i] += starts[i - 1];
	for (i = 0; i < upsert->nrows; i++)
		order[starts[upsert->rows[i].round]++] = &upsert->rows[i];

	/* starts[r] has become the end of round r */
	for (i = 0; i < rounds; i++)
	{
		int64		from = i == 0 ? 0 : starts[i - 1];

		CHECK_FOR_INTERRUPTS();
		FAULT_POINT("upsert-before-round");
		round_rows.rows = order + from;
		round_rows.nrows = starts[i] - from;
		round_rows.next = 0;
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		processed += plan_execute(statement->apply, None_Receiver);
		PopActiveSnapshot();
	}
	CommandCounterIncrement();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	upsert_reset(upsert);
	return processed;
}

/*
 * Tasks with the same hot keys have to go one after the other anyway.  Would
 * they meet at the rows, each would wait with a snapshot, and the versions
 * that the others make could not be pruned: the one at work walks over all of
 * them, at four tasks five times as slow.  So they line up here, without a
 * snapshot.  A lock of PostgreSQL's, so that deadlocks are seen; on a
 * sub-object of the procedure that nobody else locks.
 *
 * Who writes in several parts does not take keys in order, so he goes alone,
 * too; others, which do, may go beside each other.
 */
void
upsert_wait_for_turn(Program *program, bool alone)
{
	if (!OidIsValid(program->procedure))
		return;
	InvalidateCatalogSnapshot();
	LockDatabaseObject(ProcedureRelationId, program->procedure, 1, alone ? ExclusiveLock : ShareLock);
}

void
program_begin_pieces(Program *program)
{
	ListCell   *lc;

	foreach(lc, program->statements)
	{
		if (((Statement *) lfirst(lc))->mode == STATEMENT_UPSERT)
		{
			upsert_wait_for_turn(program, true);
			break;
		}
	}
}

/*-------------------------------------------------------------------------
 *
 * keyed_launcher.c
 *	  The launcher of a keyed pipeline: when an epoch ends, what it gives out,
 *	  and its commit.
 *
 * WHEN
 *	  No task is behind (its last batch was not full): with the first row of the
 *	  epoch, but not sooner than streamproc.min_commit_interval after the end of the
 *	  last one.  Else after four times what the last stop and commit took, at least
 *	  that interval, at most checkpoint_interval.  Also where silence lets the
 *	  watermark close a window, and before a stop.
 *
 *	  Where much has changed, the tasks are asked to copy it before they are stopped.
 *
 * THE COMMIT
 *	  One transaction: the statements on the groups that the epoch gives out,
 *	  dead letters and late rows, segments of the state, the position of all
 *	  partitions.  If it fails for a reason that passes it is run again from the
 *	  same cut; the tasks go on meanwhile.  No lock is held while the launcher
 *	  waits for tasks: stop and cut are over before the transaction begins.
 *
 * What is read while tasks work on the next epoch they cannot reach: closed
 * panes, and copies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/keyed.h"

#define SHOW_US			(1000 * 1000)
/* so few panes are counted at each commit */
#define SHOW_PANES		16

#define my_keyed		(my_launcher->keyed)

static PipelineSlot *
my_slot(void)
{
	return &shmem->pipelines[my_launcher->pipeline];
}

static void
on_exit_abandon(int code, Datum arg)
{
	if (my_keyed == NULL || my_keyed->barrier == NULL)
		return;
	state_abandon(my_keyed->area);
	ConditionVariableBroadcast(&my_keyed->barrier->changed);
}

/* ---- preparing ---- */

OperatorSpec **
keyed_specs(Program *program)
{
	OperatorSpec **specs = palloc(sizeof(OperatorSpec *) * Max(program->nkeyed, 1));
	int			i;

	for (i = 0; i < program->nkeyed; i++)
	{
		specs[i] = program->keyed[i].spec;
		specs[i]->allowed_lateness = my_launcher->row->allowed_lateness;
		specs[i]->closed_until = my_keyed->barrier != NULL ? my_keyed->barrier->closed_until[i] : my_keyed->closed_now[i];
		specs[i]->answered_until = my_keyed->position->answered_until[i];
	}
	return specs;
}

/* The row says what the state was made by; written once. */
static void
check_signature(void)
{
	char	   *signature = program_signature(my_launcher->program);
	PipelineRow *row;

	catalog_pipeline_lock(my_launcher->row->name);
	row = worker_load_pipeline(CurrentMemoryContext);
	if (row->state_signature != NULL && strcmp(row->state_signature, signature) != 0 &&
		catalog_segments_exist(row->name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("saved state of pipeline \"%s\" was made by another query", row->name),
				 errdetail("It was made by:\n%sThe query now is:\n%s", row->state_signature, signature),
				 errhint("Give it the old query back, or drop the pipeline and create it anew.")));
	if (row->state_signature == NULL || strcmp(row->state_signature, signature) != 0)
	{
		row->state_signature = signature;
		catalog_pipeline_update(row);
	}
}

/* Without GROUP BY there is one group, also of no rows. */
static void
make_total(OperatorSpec *spec)
{
	StatePane  *pane;
	StateCursor cursor;
	uint32		hash = state_hash("", 0);
	bool		found;

	if (spec->nkeys > 0 || spec->window != OPERATOR_NO_WINDOW || spec->over != NULL || spec->top != NULL)
		return;
	pane = state_pane(my_keyed->area, spec->number, STATE_PANE_ETERNAL, true);
	state_cursor_open(&cursor, my_keyed->area, spec->number, &pane->chunk[state_group_of(hash)]);
	(void) state_entry_make(&cursor, hash, "", 0, &found);
	my_keyed->new_total |= !found;
}

static void
prepare(int ntasks)
{
	KeyedLauncher *keyed = my_keyed;
	Program    *program = my_launcher->program;
	List	   *rows;
	uint64		limit;
	int			i;

	memset(my_slot()->op, 0, sizeof(my_slot()->op));
	keyed->emit = catalog_parse_emit(my_launcher->row->emit, &keyed->emit_us);
	limit = my_launcher->row->state_memory > 0 ? (uint64) my_launcher->row->state_memory : (uint64) streamproc_state_memory * 1024;
	keyed->area = state_area_create(limit);
	for (i = 0; i < program->nkeyed; i++)
		operator_state_init(program->keyed[i].spec, keyed->area);
	keyed->saved = saved_create(keyed->cxt);

	checkpoint_begin();
	check_signature();
	MemoryContextSwitchTo(keyed->cxt);
	rows = catalog_positions(my_launcher->row->name);
	if (list_length(rows) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("pipeline \"%s\" has %d positions where one is expected", my_launcher->row->name, list_length(rows))));
	keyed->position = linitial(rows);
	memcpy(keyed->closed_now, keyed->position->closed_until, sizeof(keyed->closed_now));
	keyed->last_emit = (uint32) keyed->position->emitted_epoch;
	keyed->give_all = my_launcher->row->give_all;
	FAULT_POINT("keyed-before-recovery");
	saved_load(keyed->saved, keyed->area, keyed->position, keyed_specs(program));
	checkpoint_commit();
	MemoryContextSwitchTo(keyed->cxt);
	for (i = 0; i < program->nkeyed; i++)
		make_total(program->keyed[i].spec);
	FAULT_POINT("keyed-recovered");

	keyed->was = palloc(sizeof(int64) * Max(keyed->position->nparts, 1));
	keyed->slots = palloc(sizeof(int) * Max(keyed->position->nparts, 1));
	keyed->barrier = barrier_create(keyed->area, ntasks, keyed->position->nparts, keyed->position->epoch + 1,
									keyed->position->stream_watermark);
	for (i = 0; i < keyed->position->nparts; i++)
	{
		BarrierPartition *part = &keyed->barrier->part[i];
		PartitionPosition *p = &keyed->position->parts[i];

		keyed->was[i] = p->next_offset;
		keyed->slots[i] = -1;
		part->next_offset = p->next_offset;
		part->watermark = p->watermark;
		part->record = p->record;
		part->finished = p->stop_offset >= 0 && p->next_offset >= p->stop_offset;
	}
	memcpy(keyed->barrier->closed_until, keyed->closed_now, sizeof(keyed->closed_now));
	memcpy(keyed->barrier->freed_until, keyed->position->freed_until, sizeof(keyed->barrier->freed_until));
	for (i = 0; i < STATE_MAX_OPERATORS; i++)
		keyed->barrier->horizon[i] = keyed->position->answered_until[i];
	keyed->barrier->signature = keyed->saved->signature;
	keyed->finite_watermark = keyed->position->stream_watermark;
	for (i = 0; i < STATE_MAX_OPERATORS; i++)
		keyed->passed_watermark[i] = WATERMARK_NONE;
	keyed_close_loaded();
	/* what a run before has not given out */
	keyed->unemitted = saved_entries_bytes(keyed->area) > 0;
	before_shmem_exit(on_exit_abandon, (Datum) 0);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot()->state_handle = state_area_handle(keyed->area);
	my_slot()->state_root = keyed->area->root_pointer;
	my_slot()->stream_watermark = keyed->position->stream_watermark;
	LWLockRelease(shmem->lock);
	keyed->last_commit_us = monotonic_us();
}

/* Errors that pass end the launcher, and the next one tries again; others fail the pipeline. */
void
keyed_launcher_prepare(int ntasks)
{
	MemoryContext old;
	ErrorData  *edata;
	Reason		reason;

	my_keyed = MemoryContextAllocZero(my_launcher->cxt, sizeof(KeyedLauncher));
	my_keyed->cxt = AllocSetContextCreate(my_launcher->cxt, "streamproc keyed launcher", ALLOCSET_DEFAULT_SIZES);
	my_keyed->epoch_cxt = AllocSetContextCreate(my_keyed->cxt, "streamproc epoch", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(my_keyed->cxt);
	PG_TRY();
	{
		prepare(ntasks);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(my_launcher->cxt);
		edata = CopyErrorData();
		if (worker_error_passes(edata->sqlerrcode) && edata->sqlerrcode != ERRCODE_CONFIGURATION_LIMIT_EXCEEDED &&
			edata->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
			PG_RE_THROW();
		FlushErrorState();
		LWLockReleaseAll();
		checkpoint_abort();
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

/* ---- the commit ---- */

/* The options' change is answered: the pipeline's row says so no more. */
static void
all_given(void)
{
	PipelineRow *row;

	catalog_pipeline_lock(my_launcher->row->name);
	row = catalog_pipeline_get(my_launcher->row->name, true);
	if (row == NULL || row->version != my_launcher->version || !row->give_all)
		return;
	row->give_all = false;
	catalog_pipeline_update(row);
}

static void
write_epoch(Epoch *epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	const char *name = my_launcher->row->name;
	int64		begun;
	int			t;

	keyed_output_begin(epoch);
	FAULT_POINT("keyed-before-output");
	begun = monotonic_us();
	multi_insert_rows = MULTI_INSERT_ROWS;
	operator_fire_sets = epoch->sets;
	my_launcher->program->rows_out = 0;
	program_fire(my_launcher->program);
	program_finish(my_launcher->program);
	operator_fire_sets = NULL;
	if (my_launcher->program->outbox != NULL)
		outbox_finish(&my_launcher->outbox, my_launcher->program->outbox);
	keyed_output_letters(epoch);
	epoch->rows_out = my_launcher->program->rows_out;
	for (t = 0; t < my_launcher->program->nkeyed; t++)
		epoch->rows_out += epoch->sets[t].tombstones;
	epoch->output_us = monotonic_us() - begun;

	FAULT_POINT("keyed-before-write");
	begun = monotonic_us();
	for (t = 0; t < barrier->ntasks; t++)
		shipped_write(my_keyed->area, name, &epoch->logs[t]);
	saved_write(my_keyed->saved, my_keyed->area, epoch->cuts, barrier->ntasks, epoch->superseded, name, epoch->number);
	epoch->write_us = monotonic_us() - begun;
	FAULT_POINT("keyed-before-commit");
	my_keyed->position->epoch = epoch->number;
	my_keyed->position->segments = my_keyed->saved->nsegments;
	my_keyed->position->stream_watermark = epoch->saved_watermark;
	for (t = 0; t < my_launcher->program->nkeyed; t++)
	{
		my_keyed->position->closed_until[t] = Max(my_keyed->position->closed_until[t], epoch->closed_until[t]);
		my_keyed->position->answered_until[t] = Max(my_keyed->position->answered_until[t], epoch->answered_until[t]);
		my_keyed->position->freed_until[t] = Max(my_keyed->position->freed_until[t], epoch->freed_until[t]);
	}
	if (my_keyed->emit == EMIT_EVERY)
		my_keyed->position->emitted_epoch = epoch->emit_due ? epoch->number : my_keyed->position->emitted_epoch;
	if (epoch->give_all)
		all_given();
	checkpoint_commit_position(my_keyed->position, my_keyed->was);
	outbox_committed(&my_launcher->outbox);
}

static void
show_operators(void)
{
	PipelineSlot *slot = my_slot();
	Program    *program = my_launcher->program;
	OperatorStat stats[SHMEM_MAX_OPERATORS];
	int			op;

	memset(stats, 0, sizeof(stats));
	for (op = 0; op < program->nkeyed; op++)
	{
		OperatorStat *stat = &stats[op];
		OperatorSpec *spec = program->keyed[op].spec;
		int			n;
		StatePane **panes = state_panes(my_keyed->area, op, &n);
		int64		group[STATE_GROUPS] = {0};
		StringInfoData kinds;
		int			i,
					g;

		stat->in_use = true;
		stat->statement = spec->statement;
		stat->number = op;
		strlcpy(stat->kind, spec->join != NULL ? "join" : spec->asof != NULL ? "asof" : spec->over != NULL ? "over" : spec->top != NULL ? "top" : spec->window == OPERATOR_SESSION ? "session" : "aggregate", sizeof(stat->kind));
		initStringInfo(&kinds);
		if (spec->over != NULL)
			appendStringInfoString(&kinds, over_describe(spec));
		if (spec->join != NULL)
			appendStringInfoString(&kinds, join_describe(spec));
		if (spec->asof != NULL)
			appendStringInfoString(&kinds, asof_describe(spec));
		if (spec->top != NULL)
			appendStringInfo(&kinds, "first %d %s", spec->top->n, spec->top->ranking == TOP_ROW_NUMBER ? "rows" : "ranks");
		for (i = 0; i < spec->naggs; i++)
			appendStringInfo(&kinds, "%s%s %s", i > 0 ? ", " : "", spec->aggs[i].name,
							 operator_kind_name(&spec->aggs[i]));
		strlcpy(stat->aggregates, kinds.data, sizeof(stat->aggregates));
		pfree(kinds.data);
		stat->panes = n;
		for (i = 0; i < n; i++)
		{
			stat->bytes += sizeof(StatePane);
			for (g = 0; g < STATE_GROUPS; g++)
			{
				stat->keys += panes[i]->chunk[g].nentries;
				stat->bytes += state_chunk_bytes(&panes[i]->chunk[g]);
				group[g] += panes[i]->chunk[g].nentries;
			}
		}
		for (g = 0; g < STATE_GROUPS; g++)
			stat->largest_group = Max(stat->largest_group, group[g]);
		stat->mean_group = stat->keys / STATE_GROUPS;
		stat->fired_windows = my_keyed->fired_windows[op];
		stat->rows_out = my_keyed->rows_out[op];
		pfree(panes);
	}
	my_keyed->shown_epoch = my_keyed->barrier->epoch;
	my_keyed->next_show_us = monotonic_us() + SHOW_US;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (op = 0; op < program->nkeyed; op++)
	{
		stats[op].late_rows = slot->op[op].late_rows;
		stats[op].rows_in = slot->op[op].rows_in;
	}
	memcpy(slot->op, stats, sizeof(stats));
	slot->state_bytes = (int64) pg_atomic_read_u64(&my_keyed->area->root->bytes);
	slot->segment_bytes = my_keyed->saved->bytes;
	LWLockRelease(shmem->lock);
}

static int
count_panes(void)
{
	int			panes = 0;
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
		panes += my_keyed->area->root->op[op].npanes;
	return panes;
}

static void
show_epoch(Epoch *epoch, int64 commit_us)
{
	PipelineSlot *slot = my_slot();
	int64		now = monotonic_us();
	CheckpointStat *stat;
	int			i,
				k;

	pg_atomic_fetch_add_u64(&slot->rows_in, epoch->rows_in);
	pg_atomic_fetch_add_u64(&slot->rows_out, epoch->rows_out);
	pg_atomic_fetch_add_u64(&slot->bytes_in, epoch->bytes_in);
	pg_atomic_fetch_add_u64(&slot->checkpoints, 1);
	counter_add(&shmem->workers[my_worker_slot].rows_out, epoch->rows_out);
	counter_add(&shmem->workers[my_worker_slot].commits, 1);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	stat = &slot->checkpoint[slot->checkpoint_count++ % SHMEM_CHECKPOINTS];
	memset(stat, 0, sizeof(*stat));
	stat->epoch = epoch->number;
	stat->task = -1;
	stat->reason = epoch->reason;
	stat->at = GetCurrentTimestamp();
	stat->duration_us = now - epoch->begun_us;
	stat->commit_us = commit_us;
	stat->rows_in = epoch->rows_in;
	stat->rows_out = epoch->rows_out;
	stat->bytes = epoch->bytes_in;
	stat->early_us = epoch->early_us;
	stat->align_us = epoch->align_us;
	stat->cut_us = epoch->cut_us;
	stat->output_us = epoch->merge_us + epoch->output_us;
	stat->write_us = epoch->write_us;
	stat->state_bytes = my_keyed->saved->last_bytes;
	if (epoch->rows_in > 0)
		slot->latency_us[slot->latency_count++ % SHMEM_LATENCIES] = (int32) Min(stat->duration_us, PG_INT32_MAX);
	slot->bad_rows += epoch->bad_rows + list_length(epoch->bad_groups);
	slot->stream_watermark = my_keyed->position->stream_watermark;
	for (i = 0; i < my_launcher->program->nkeyed; i++)
	{
		slot->late_rows += epoch->late_rows[i];
		slot->op[i].late_rows += epoch->late_rows[i];
		slot->op[i].rows_in += epoch->op_rows[i];
	}
	for (i = 0; i < my_keyed->position->nparts; i++)
	{
		PartitionPosition *p = &my_keyed->position->parts[i];
		PartitionSlot *ps;

		/* claimed by the task when it started */
		for (k = 0; my_keyed->slots[i] < 0 && k < shmem->npartitions; k++)
		{
			ps = &shmem->partitions[k];
			if (ps->in_use && ps->pipeline == my_launcher->pipeline && ps->partition == p->partition && strcmp(ps->topic, p->topic) == 0)
				my_keyed->slots[i] = k;
		}
		if (my_keyed->slots[i] < 0)
			continue;
		ps = &shmem->partitions[my_keyed->slots[i]];
		pg_atomic_write_u64(&ps->watermark, (uint64) p->watermark);
		pg_atomic_write_u64(&ps->last_record, (uint64) p->record.time);
		pg_atomic_write_u64(&ps->committed, p->next_offset);
	}
	ConditionVariableBroadcast(&slot->changed);
	LWLockRelease(shmem->lock);
}

/*
 * Rolls back.  What passes is tried again after a pause; a group whose row the
 * sink refuses is looked for, and left out; anything else fails the pipeline.
 */
static void
commit_failed(Epoch *epoch)
{
	ErrorData  *edata;
	Reason		reason;
	int			statement = operator_fire_sets != NULL ? my_launcher->program->running : -1;

	MemoryContextSwitchTo(my_keyed->epoch_cxt);
	edata = CopyErrorData();
	FlushErrorState();
	operator_fire_sets = NULL;
	checkpoint_abort();
	MemoryContextSwitchTo(my_keyed->epoch_cxt);
	program_reset(my_launcher->program);
	worker_apply_settings(my_launcher->row);
	worker_reason_from_error(&reason, edata);
	if (!worker_error_passes(edata->sqlerrcode) || edata->elevel > ERROR)
	{
		if (statement < 0 || !worker_error_of_row(edata) || !my_launcher->row->dead_letters ||
			!keyed_output_blame(epoch, statement))
			worker_fail_pipeline(&reason);
		return;
	}
	keyed_commit_pause(&reason);
}

/* What has failed may pass: waits; leaves where the pipeline is not wanted any more. */
void
keyed_commit_pause(Reason *why)
{
	Reason		reason = *why;

	my_keyed->failures++;
	if (my_keyed->failures == 1)
		ereport(LOG,
				(errmsg("pipeline \"%s\" repeats the commit of an epoch: %s", my_launcher->row->name, reason.message)));
	if (reason.hint[0] == '\0')
		strlcpy(reason.hint, "The pipeline goes on by itself.", sizeof(reason.hint));
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_slot()->last_error = reason;
	LWLockRelease(shmem->lock);
	worker_set_waiting(&reason);
	counter_add(&shmem->workers[my_worker_slot].retries, 1);
	FAULT_POINT("keyed-commit-failed");
	if (!launcher_tick())
	{
		launcher_stop_tasks(true);
		launcher_stop_publisher();
		launcher_leave();
	}
	worker_wait((long) Min(worker_backoff_us((int) Min(my_keyed->failures, 10)) / 1000, 1000));
}

static void
commit_epoch(Epoch *epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		begun = monotonic_us();
	volatile bool done = false;
	int			op;
	int			t;

	while (!done)
	{
		PG_TRY();
		{
			begun = monotonic_us();
			write_epoch(epoch);
			done = true;
		}
		PG_CATCH();
		{
			commit_failed(epoch);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(my_keyed->epoch_cxt);
	}
	FAULT_POINT("keyed-committed");
	if (my_keyed->failures > 0)
		worker_set_state(WORKER_RUNNING, NULL);
	my_keyed->failures = 0;
	for (t = 0; t < my_keyed->position->nparts; t++)
		my_keyed->was[t] = my_keyed->position->parts[t].next_offset;
	saved_committed(my_keyed->saved);
	program_reset(my_launcher->program);
	worker_apply_settings(my_launcher->row);

	/* what is committed is no state any more */
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		FireSet    *set = &epoch->sets[op];
		StatePane **panes;
		ListCell   *lc;
		int			n;
		int			i;

		my_keyed->rows_out[op] += set->rows;
		/* each is a window of its own */
		if (set->spec->window == OPERATOR_SESSION)
			my_keyed->fired_windows[op] += set->rows;
		given_committed(set);
		foreach(lc, set->units)
		{
			FireUnit   *unit = lfirst(lc);

			if (set->spec->window != OPERATOR_SESSION && (unit->from_cut ? set->spec->window != OPERATOR_NO_WINDOW : unit->blocks == NIL))
				my_keyed->fired_windows[op]++;
			if (unit->merged != NULL)
				fire_merged_free(my_keyed->area, unit->merged);
		}
		panes = state_panes(my_keyed->area, op, &n);
		for (i = 0; i < n; i++)
			if (panes[i]->closed)
				state_pane_free(my_keyed->area, op, panes[i]);
		pfree(panes);
	}
	for (t = 0; t < barrier->ntasks; t++)
	{
		barrier_log_free(my_keyed->area, &epoch->cuts[t]);
		barrier_log_free(my_keyed->area, &epoch->logs[t]);
		barrier_log_free(my_keyed->area, &epoch->outputs[t]);
	}
	/* where it costs little, before anybody is told that the epoch is committed */
	if (count_panes() <= SHOW_PANES || monotonic_us() >= my_keyed->next_show_us || epoch->watermark == DT_NOEND)
		show_operators();
	show_epoch(epoch, monotonic_us() - begun);
	keyed_output_show(epoch);
	my_keyed->last_commit_us = monotonic_us();
	my_keyed->last_cost_us = epoch->align_us + epoch->cut_us + (my_keyed->last_commit_us - begun);
}

/*
 * Windows are put together from slices by functions of the aggregates.  What
 * they throw comes again: no group of its own can be blamed before it is there.
 */
static void
with_functions(void (*what) (Epoch *epoch), Epoch *epoch)
{
	ErrorData  *edata;
	Reason		reason;

	PG_TRY();
	{
		checkpoint_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(my_keyed->epoch_cxt);
		what(epoch);
		PopActiveSnapshot();
		checkpoint_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(my_keyed->epoch_cxt);
		edata = CopyErrorData();
		if (worker_error_passes(edata->sqlerrcode) && edata->sqlerrcode != ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		checkpoint_abort();
		state_abandon(my_keyed->area);
		worker_reason_from_error(&reason, edata);
		worker_fail_pipeline(&reason);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(my_keyed->epoch_cxt);
}

/* The tasks run; those that have rows for the slices wait. */
static void
merge_slices(Epoch *epoch)
{
	Barrier    *barrier = my_keyed->barrier;
	int64		begun = monotonic_us();

	FAULT_POINT("keyed-before-merge");
	with_functions(keyed_merge_slices, epoch);
	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	barrier->merging = false;
	LWLockRelease(&barrier->lock);
	ConditionVariableBroadcast(&barrier->changed);
	epoch->merge_us = monotonic_us() - begun;
}

/* One epoch from its end to its commit; false: the run is over. */
static bool
checkpoint(CheckpointReason reason, bool last, int64 until_us)
{
	Barrier    *barrier = my_keyed->barrier;
	MemoryContext old = MemoryContextSwitchTo(my_keyed->epoch_cxt);
	Epoch		epoch = {0};
	int64		begun = monotonic_us();
	int			i;

	MemoryContextReset(my_keyed->epoch_cxt);
	epoch.number = barrier->epoch;
	epoch.reason = reason;
	epoch.begun_us = begun;
	for (i = 0; i < barrier->ntasks; i++)
		if (barrier->task[i].begun_us != 0)
			epoch.begun_us = Min(epoch.begun_us, barrier->task[i].begun_us);

	if (!last)
		keyed_copy_early(epoch.number);
	epoch.early_us = monotonic_us() - begun;
	begun = monotonic_us();
	FAULT_POINT("keyed-before-stop");
	/*
	 * Once in an epoch: tasks that have been asked to stop by an attempt that was given up (the
	 * pipeline was changed meanwhile) have answered what waited until there, and nothing beyond.
	 */
	if (barrier->phase < BARRIER_STOP)
		keyed_set_horizons(keyed_present_watermark(), false);
	keyed_set_phase(BARRIER_STOP);
	if (!keyed_wait_for_tasks(BARRIER_STOP, epoch.number, until_us))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	epoch.align_us = monotonic_us() - begun;

	begun = monotonic_us();
	epoch.watermark = keyed_cap_watermark(keyed_present_watermark());
	if (epoch.watermark != DT_NOEND)
		my_keyed->finite_watermark = epoch.watermark;
	epoch.saved_watermark = my_keyed->finite_watermark;
	keyed_set_horizons(epoch.watermark, true);
	with_functions(keyed_choose_output, &epoch);
	if (!my_keyed->rewriting_planned)
		saved_plan_rewriting(my_keyed->saved, my_keyed->area, barrier);
	my_keyed->rewriting_planned = false;
	keyed_plan_expiry(&epoch);
	FAULT_POINT("keyed-before-cut");
	keyed_set_phase(BARRIER_CUT);
	if (!keyed_wait_for_tasks(BARRIER_CUT, epoch.number, until_us))
	{
		state_abandon(my_keyed->area);
		MemoryContextSwitchTo(old);
		return false;
	}
	keyed_take_over(&epoch);
	keyed_free_expired();
	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	for (i = 0; i < my_launcher->program->nkeyed; i++)
		my_keyed->closed_now[i] = Max(my_keyed->closed_now[i], epoch.closed_until[i]);
	barrier->pace = barrier->watermark == WATERMARK_NONE || epoch.watermark == DT_NOEND ? 0 : epoch.watermark - barrier->watermark;
	barrier->pace_rows = epoch.rows_in;
	barrier->watermark = epoch.watermark;
	barrier->committing = true;
	barrier->merging = epoch.merging;
	barrier->phase = BARRIER_RUN;
	barrier->epoch++;
	LWLockRelease(&barrier->lock);
	keyed_wake_tasks();
	epoch.cut_us = monotonic_us() - begun;
	keyed_add_changes(&epoch);

	my_keyed->new_total = false;
	my_keyed->unemitted = epoch.emit_due ? false : my_keyed->unemitted || epoch.rows_in > 0;
	/* answers that were grouped again may be of rows that came before */
	for (i = 0; i < my_launcher->program->nkeyed; i++)
		if (!epoch.emit_due && my_launcher->program->keyed[i].upstream >= 0 && epoch.op_rows[i] > 0)
			my_keyed->unemitted = true;
	if (epoch.merging)
		merge_slices(&epoch);
	commit_epoch(&epoch);
	LWLockAcquire(&barrier->lock, LW_EXCLUSIVE);
	barrier->committing = false;
	LWLockRelease(&barrier->lock);
	ConditionVariableBroadcast(&barrier->changed);
	/* where the end was not known when the tasks were stopped, some rows wait for one more epoch */
	if (epoch.watermark == DT_NOEND && !keyed_rows_wait())
		my_keyed->finished = true;
	if (last)
		show_operators();
	MemoryContextSwitchTo(old);
	return true;
}

/* ---- when ---- */

static bool
all_attached(void)
{
	int			i;

	for (i = 0; i < my_keyed->barrier->ntasks; i++)
		if (!my_keyed->barrier->task[i].attached)
			return false;
	return true;
}

/* Is there something to commit?  Since when, and is a task behind? */
static bool
has_begun(int64 *since_us, bool *behind)
{
	Barrier    *barrier = my_keyed->barrier;
	bool		begun = false;
	int			i;

	*behind = false;
	*since_us = PG_INT64_MAX;
	for (i = 0; i < barrier->ntasks; i++)
	{
		BarrierTask *task = &barrier->task[i];

		if (task->begun_us == 0)
			continue;
		begun = true;
		*since_us = Min(*since_us, task->begun_us);
		*behind |= task->behind;
	}
	return begun;
}

/* A run with an end is over when its partitions are, and what was read is committed. */
bool
keyed_launcher_finished(void)
{
	return my_keyed->finished;
}

static bool
all_read(void)
{
	int			i;

	for (i = 0; i < my_keyed->barrier->nparts; i++)
		if (!my_keyed->barrier->part[i].finished)
			return false;
	return true;
}

/* So much waits to be sent that nothing more is committed: tasks take some more input, then they wait, too. */
static bool
wait_for_publisher(void)
{
	bool		full = my_launcher->program->outbox != NULL && outbox_full(my_launcher->pipeline);
	Reason		reason;

	if (full)
	{
		worker_reason_outbox_full(&reason);
		worker_set_waiting(&reason);
	}
	else if (my_keyed->outbox_full)
		worker_set_state(WORKER_RUNNING, NULL);
	my_keyed->outbox_full = full;
	return full;
}

long
keyed_launcher_step(void)
{
	int64		now = monotonic_us();
	int64		min_us = (int64) streamproc_min_commit_interval * 1000;
	int64		since;
	int64		due;
	bool		behind;
	TimestampTz watermark;

	if (state_abandoned(my_keyed->area) || my_keyed->finished || !all_attached())
		return KEYED_QUIET_MS;
	if (wait_for_publisher())
		return KEYED_QUIET_MS;
	if (!has_begun(&since, &behind))
	{
		bool		end = all_read();
		bool		due = my_keyed->emit == EMIT_EVERY && my_keyed->unemitted && now >= my_keyed->next_emit_us;

		watermark = end ? DT_NOEND : keyed_present_watermark();
		if (!end && !due && !my_keyed->give_all && !my_keyed->new_total && !keyed_closes_something(watermark))
		{
			/* the last numbers stay until others come */
			if (my_keyed->shown_epoch != my_keyed->barrier->epoch && now >= my_keyed->next_show_us)
				show_operators();
			return KEYED_QUIET_MS;
		}
		return checkpoint(end ? CHECKPOINT_STOP : CHECKPOINT_CAUGHT_UP, end, 0) ? -1 : KEYED_QUIET_MS;
	}
	if (behind)
		due = since + Min(Max(min_us, 4 * my_keyed->last_cost_us), my_launcher->row->checkpoint_interval);
	else
		due = my_keyed->last_commit_us - my_keyed->last_cost_us + min_us;
	/* a latch waits for a millisecond at least, which is much of what a row takes in all: half of one more or less */
	if (now + 500 < due)
		return (long) Max((due - now) / 1000, 1);
	return checkpoint(behind ? CHECKPOINT_INTERVAL : CHECKPOINT_CAUGHT_UP, false, 0) ? -1 : KEYED_QUIET_MS;
}

void
keyed_launcher_stop(void)
{
	int64		since;
	bool		behind;

	if (state_abandoned(my_keyed->area) || !all_attached() || !has_begun(&since, &behind))
		return;
	(void) checkpoint(CHECKPOINT_STOP, true, monotonic_us() + (int64) streamproc_stop_timeout * 1000);
}

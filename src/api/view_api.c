/*-------------------------------------------------------------------------
 *
 * view_api.c
 *	  Rows of the views stat_pipeline, stat_worker, stat_partition,
 *	  stat_checkpoint and stat_operator.
 *
 * Shared memory is copied under the lock, rows are made without it: reading a
 * view never makes a worker wait for more than a memcpy.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/api.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "time/time.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(streamproc_stat_pipeline);
PG_FUNCTION_INFO_V1(streamproc_stat_worker);
PG_FUNCTION_INFO_V1(streamproc_stat_partition);
PG_FUNCTION_INFO_V1(streamproc_stat_checkpoint);
PG_FUNCTION_INFO_V1(streamproc_stat_operator);
PG_FUNCTION_INFO_V1(streamproc_visible_to_me);
PG_FUNCTION_INFO_V1(streamproc_my_pipelines);

static const char *const pipeline_states[] = {"starting", "running", "waiting", "stopped", "failed"};
static const char *const worker_states[] = {"starting", "running", "waiting", "stopping", "finished"};
static const char *const worker_roles[] = {"launcher", "task", "publisher"};
static const char *const checkpoint_reasons[] = {"caught up", "interval", "full", "stop", "careful"};

/* of the widest view, and more */
#define ROW_COLUMNS 64

typedef struct Row
{
	ReturnSetInfo *rsinfo;
	Datum		values[ROW_COLUMNS];
	bool		isnull[ROW_COLUMNS];
	int			n;
} Row;

static void
row_begin(Row *row, FunctionCallInfo fcinfo)
{
	catalog_require_version();
	InitMaterializedSRF(fcinfo, 0);
	row->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	row->n = 0;
}

static void
put(Row *row, Datum value)
{
	Assert(row->n < ROW_COLUMNS);
	row->values[row->n] = value;
	row->isnull[row->n++] = false;
}

static void
put_null(Row *row)
{
	row->values[row->n] = (Datum) 0;
	row->isnull[row->n++] = true;
}

/* empty: NULL */
static void
put_text(Row *row, const char *text)
{
	if (text == NULL || text[0] == '\0')
		put_null(row);
	else
		put(row, CStringGetTextDatum(text));
}

static void
put_name(Row *row, const char *text)
{
	Name		name = palloc0(NAMEDATALEN);

	namestrcpy(name, text);
	put(row, NameGetDatum(name));
}

/* -infinity and 0 stand for none */
static void
put_time(Row *row, TimestampTz at)
{
	if (at == 0 || TIMESTAMP_NOT_FINITE(at))
		put_null(row);
	else
		put(row, TimestampTzGetDatum(at));
}

static void
put_interval_us(Row *row, int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	put(row, IntervalPGetDatum(interval));
}

static void
put_ms(Row *row, int64 us)
{
	put(row, Float8GetDatum(us / 1000.0));
}

static void
row_done(Row *row)
{
	tuplestore_putvalues(row->rsinfo->setResult, row->rsinfo->setDesc, row->values, row->isnull);
	row->n = 0;
}

/* ---- stat_pipeline ---- */

typedef struct Lag
{
	int64		rows;			/* -1: not known */
	int64		us;				/* age of the oldest unread record's predecessor, -1: not known */
	TimestampTz watermark;
} Lag;

static Lag
pipeline_lag(int slot, TimestampTz now)
{
	Lag			lag = {0, 0, WATERMARK_NONE};
	bool		any = false;
	bool		all_have_watermark = true;
	bool		all_idle = true;
	TimestampTz idle_watermark = WATERMARK_NONE;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	for (i = 0; i < shmem->npartitions; i++)
	{
		PartitionSlot *p = &shmem->partitions[i];
		uint64		end = pg_atomic_read_u64(&p->end_offset);
		int64		committed = (int64) pg_atomic_read_u64(&p->committed);
		TimestampTz watermark = (TimestampTz) pg_atomic_read_u64(&p->watermark);
		TimestampTz last = (TimestampTz) pg_atomic_read_u64(&p->last_record);

		if (!p->in_use || p->pipeline != slot)
			continue;
		any = true;
		if (end == PG_UINT64_MAX)
			lag.rows = lag.us = -1;
		else if (lag.rows >= 0)
		{
			int64		behind = Max((int64) end - committed, 0);

			lag.rows += behind;
			if (behind > 0 && !TIMESTAMP_NOT_FINITE(last))
				lag.us = Max(lag.us, now - last);
		}
		if (p->idle)
		{
			/* where all are, the last one that was known */
			if (watermark != WATERMARK_NONE && (idle_watermark == WATERMARK_NONE || watermark > idle_watermark))
				idle_watermark = watermark;
			continue;
		}
		all_idle = false;
		if (watermark == WATERMARK_NONE)
			all_have_watermark = false;
		else if (lag.watermark == WATERMARK_NONE || watermark < lag.watermark)
			lag.watermark = watermark;
	}
	LWLockRelease(shmem->lock);
	if (!any)
		lag.rows = lag.us = -1;
	if (all_idle)
		lag.watermark = idle_watermark;
	else if (!all_have_watermark)
		lag.watermark = WATERMARK_NONE;
	return lag;
}

/* Of the stream where the pipeline has state, and so one for all; infinity: all windows are closed. */
static TimestampTz
pipeline_watermark(const PipelineSlot *slot, const Lag *lag)
{
	return TIMESTAMP_IS_NOBEGIN(slot->stream_watermark) ? lag->watermark : slot->stream_watermark;
}

static int
compare_int32(const void *a, const void *b)
{
	int32		x = *(const int32 *) a;
	int32		y = *(const int32 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

static void
put_latency(Row *row, int64 count, const int32 *latency_us)
{
	int			n = (int) Min(count, SHMEM_LATENCIES);
	int32		sorted[SHMEM_LATENCIES];

	if (n == 0)
	{
		put_null(row);
		put_null(row);
		return;
	}
	memcpy(sorted, latency_us, sizeof(int32) * n);
	qsort(sorted, n, sizeof(int32), compare_int32);
	put_interval_us(row, sorted[n / 2]);
	put_interval_us(row, sorted[Min(n - 1, n * 99 / 100)]);
}

/* Messages to topics: of a pipeline that has never had a publisher nulls. */
#define OUTBOX_COLUMNS 9

static void
put_nulls(Row *row, int n)
{
	while (n-- > 0)
		put_null(row);
}

/* The same where nobody counts in shared memory: failed, stopped or restored before the server was started. */
static void
put_stored_outbox(Row *row, const char *pipeline, TimestampTz now)
{
	PublisherRow *pub = catalog_publisher_get(pipeline);
	OutboxTotals totals;

	if (pub == NULL)
	{
		put_nulls(row, OUTBOX_COLUMNS);
		return;
	}
	catalog_outbox_look(pipeline, &totals);
	put(row, Int64GetDatum(totals.messages));
	put(row, Int64GetDatum(totals.bytes));
	if (totals.oldest == DT_NOEND)
		put_null(row);
	else
		put_interval_us(row, Max(now - totals.oldest, 0));
	put(row, Int64GetDatum(pub->published));
	put_nulls(row, OUTBOX_COLUMNS - 4);
}

static void
put_outbox(Row *row, PipelineSlot *slot, TimestampTz now)
{
	int64		rows = (int64) (pg_atomic_read_u64(&slot->outbox_rows) - pg_atomic_read_u64(&slot->published_rows));
	int64		bytes = (int64) (pg_atomic_read_u64(&slot->outbox_bytes) - pg_atomic_read_u64(&slot->published_bytes));
	bool		all = true;
	int			i;

	for (i = 0; i < SHMEM_MAX_TASKS; i++)
		all &= pg_atomic_read_u64(&slot->outbox_sent[i]) >= pg_atomic_read_u64(&slot->outbox_written[i]);
	/* the publisher may be ahead of a task that has just committed */
	put(row, Int64GetDatum(all ? 0 : Max(rows, 0)));
	put(row, Int64GetDatum(all ? 0 : Max(bytes, 0)));
	if (slot->outbox_oldest == DT_NOEND)
		put_null(row);
	else
		put_interval_us(row, Max(now - slot->outbox_oldest, 0));
	put(row, Int64GetDatum(slot->published_total));
	put_latency(row, slot->publish_latency_count, slot->publish_latency_us);
	put(row, Int64GetDatum(slot->publish_transactions));
	put(row, Int64GetDatum(slot->publish_retries));
	put(row, Int64GetDatum(slot->publish_fencings));
}

static void
put_reason(Row *row, const char *state, const Reason *reason, TimestampTz since)
{
	put_text(row, state);
	put_text(row, reason->message);
	put_text(row, reason->detail);
	put_text(row, reason->hint);
	put_text(row, reason->sqlstate);
	put_text(row, reason->topic);
	if (reason->topic[0] != '\0')
	{
		put(row, Int32GetDatum(reason->partition));
		put(row, Int64GetDatum(reason->offset));
	}
	else
	{
		put_null(row);
		put_null(row);
	}
	put_time(row, since);
}

static bool
no_slot_free(void)
{
	bool		none = true;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	for (i = 0; i < shmem->npipelines && none; i++)
		none = shmem->pipelines[i].in_use;
	LWLockRelease(shmem->lock);
	return none;
}

/* The state as people should read it: of the slot while it runs, else of the catalog. */
static void
put_state(Row *row, const PipelineRow *p, const PipelineSlot *slot)
{
	Reason		reason;
	char		command[NAMEDATALEN * 2 + 64];
	char	   *quoted = quote_literal_cstr(p->name);

	if (!catalog_pipeline_is_local(p))
	{
		reason_set(&reason, NULL, "the database was restored or copied", NULL, NULL);
		snprintf(reason.hint, sizeof(reason.hint), "SELECT streamproc.start_pipeline(%s, adopt => true)", quoted);
		put_reason(row, "restored", &reason, p->state_since);
		return;
	}
	snprintf(command, sizeof(command), "SELECT streamproc.start_pipeline(%s)", quoted);
	if (!p->active)
	{
		if (p->state != NULL && strcmp(p->state, "failed") == 0)
		{
			reason = p->error;
			rights_mask_reason(p->owner, &reason);
			put_reason(row, "failed", &reason, p->state_since);
		}
		else
		{
			bool		running = slot != NULL && slot->launcher_slot >= 0;

			reason_set(&reason, NULL,
					   p->state == NULL || strcmp(p->state, "stopped") == 0 ? "stopped by a user" : p->state,
					   NULL, command);
			put_reason(row, running ? "running" : "stopped", &reason, p->state_since);
		}
		return;
	}
	if (RecoveryInProgress())
	{
		reason_set(&reason, "25006", "the server is a standby", NULL, "It goes on by itself when the server is promoted.");
		put_reason(row, "waiting", &reason, p->state_since);
		return;
	}
	if (slot == NULL && no_slot_free())
	{
		reason_set(&reason, "53400", "no free slot for the pipeline", NULL,
				   "Raise streamproc.max_pipelines and restart the server, or stop pipelines that are not needed.");
		put_reason(row, "waiting", &reason, p->state_since);
		return;
	}
	if (slot == NULL)
	{
		reason_set(&reason, NULL, "the supervisor has not started it yet", NULL,
				   "If this lasts: is max_worker_processes large enough, and is the process \"streamproc supervisor\" there?");
		put_reason(row, "starting", &reason, p->state_since);
		return;
	}
	/* started again a moment ago: the slot still shows the end of the run before */
	if (slot->version < p->version && (slot->state == PIPELINE_FAILED || slot->state == PIPELINE_STOPPED))
	{
		memset(&reason, 0, sizeof(reason));
		put_reason(row, "starting", &reason, p->state_since);
		return;
	}
	reason = slot->reason;
	rights_mask_reason(p->owner, &reason);
	put_reason(row, pipeline_states[slot->state], &reason, slot->since);
}

Datum
streamproc_stat_pipeline(PG_FUNCTION_ARGS)
{
	Row			row;
	TimestampTz now = GetCurrentTimestamp();
	PipelineSlot *copy = palloc(sizeof(PipelineSlot));
	List	   *pipelines;
	ListCell   *lc;

	row_begin(&row, fcinfo);
	if (shmem == NULL)
		return (Datum) 0;
	pipelines = catalog_pipelines();
	foreach(lc, pipelines)
	{
		PipelineRow *p = lfirst(lc);
		PipelineSlot *slot = NULL;
		int			i;

		if (!rights_visible(p->procedure, p->owner))
			continue;
		LWLockAcquire(shmem->lock, LW_SHARED);
		i = pipeline_slot_find_locked(MyDatabaseId, p->name);
		if (i >= 0)
		{
			memcpy(copy, &shmem->pipelines[i], sizeof(PipelineSlot));
			slot = copy;
		}
		LWLockRelease(shmem->lock);
		if (slot != NULL)
			rights_mask_reason(p->owner, &slot->last_error);

		put_name(&row, p->name);
		if (OidIsValid(p->owner))
			put_name(&row, GetUserNameFromId(p->owner, false));
		else
			put_null(&row);
		put_state(&row, p, slot);
		if (slot != NULL)
		{
			Lag			lag = pipeline_lag(i, now);
			TimestampTz watermark = pipeline_watermark(slot, &lag);

			put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&slot->rows_in)));
			put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&slot->rows_out)));
			put(&row, Int64GetDatum(slot->bad_rows));
			put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&slot->bytes_in)));
			if (lag.rows >= 0)
			{
				put(&row, Int64GetDatum(lag.rows));
				put_interval_us(&row, lag.us);
			}
			else
			{
				put_null(&row);
				put_null(&row);
			}
			if (TIMESTAMP_IS_NOBEGIN(watermark))
				put_null(&row);
			else
				put(&row, TimestampTzGetDatum(watermark));
			put(&row, Int64GetDatum(slot->checkpoint_count > 0 ?
									slot->checkpoint[(slot->checkpoint_count - 1) % SHMEM_CHECKPOINTS].epoch : 0));
			put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&slot->checkpoints)));
			put_latency(&row, slot->latency_count, slot->latency_us);
			put(&row, Int32GetDatum(slot->launcher_slot >= 0 ? slot->ntasks : 0));
			put(&row, Int64GetDatum(slot->restarts));
			put_text(&row, slot->last_error.message);
			put_text(&row, slot->last_error.sqlstate);
			put_text(&row, slot->last_error.topic);
			if (slot->last_error.topic[0] != '\0')
			{
				put(&row, Int32GetDatum(slot->last_error.partition));
				put(&row, Int64GetDatum(slot->last_error.offset));
			}
			else
			{
				put_null(&row);
				put_null(&row);
			}
			put_time(&row, slot->last_error.at);
			if (TIMESTAMP_NOT_FINITE(watermark))
				put_null(&row);
			else
				put_interval_us(&row, now - watermark);
			put(&row, Int64GetDatum(slot->late_rows));
			put(&row, Int64GetDatum(slot->state_bytes));
			put(&row, Int64GetDatum(slot->segment_bytes));
			if (slot->publishes)
				put_outbox(&row, slot, now);
			else
				put_stored_outbox(&row, p->name, now);
		}
		else
		{
			Reason	   *error = &p->error;

			rights_mask_reason(p->owner, error);
			put_nulls(&row, 13);
			put_text(&row, error->message);
			put_text(&row, error->sqlstate);
			put_text(&row, error->topic);
			if (error->topic[0] != '\0')
			{
				put(&row, Int32GetDatum(error->partition));
				put(&row, Int64GetDatum(error->offset));
				put_time(&row, error->at);
			}
			else
			{
				put_null(&row);
				put_null(&row);
				put_null(&row);
			}
			put_nulls(&row, 4);
			put_stored_outbox(&row, p->name, now);
		}
		row_done(&row);
	}
	return (Datum) 0;
}

/* ---- the others ---- */

/* Slots of this database's pipelines that the caller may see. */
static List *
visible_slots(void)
{
	List	   *slots = NIL;
	int			i;

	if (shmem == NULL)
		return NIL;
	for (i = 0; i < shmem->npipelines; i++)
	{
		char		name[NAMEDATALEN];
		bool		here;
		Oid			procedure;
		Oid			owner;

		LWLockAcquire(shmem->lock, LW_SHARED);
		here = shmem->pipelines[i].in_use && shmem->pipelines[i].database == MyDatabaseId;
		strlcpy(name, shmem->pipelines[i].name, NAMEDATALEN);
		LWLockRelease(shmem->lock);
		if (!here)
			continue;
		procedure = catalog_procedure(name, &owner);
		if (rights_visible(procedure, owner))
			slots = lappend_int(slots, i);
	}
	return slots;
}

/* What a worker waits for: what it says itself, or a lock of another session. */
static const char *
worker_waits(const WorkerSlot *w)
{
	PGPROC	   *proc;
	uint32		wait;
	const char *type;

	if (w->waits[0] != '\0' || w->pid == 0)
		return w->waits;
	proc = BackendPidGetProc(w->pid);
	if (proc == NULL)
		return w->waits;
	wait = *(volatile uint32 *) &proc->wait_event_info;
	type = pgstat_get_wait_event_type(wait);
	if (type == NULL || strcmp(type, "Lock") != 0)
		return w->waits;
	return psprintf("lock: %s", pgstat_get_wait_event(wait));
}

Datum
streamproc_stat_worker(PG_FUNCTION_ARGS)
{
	Row			row;
	List	   *slots = visible_slots();
	int			i;

	row_begin(&row, fcinfo);
	for (i = 0; shmem != NULL && i < shmem->nworkers; i++)
	{
		WorkerSlot	w;
		char		name[NAMEDATALEN];

		LWLockAcquire(shmem->lock, LW_SHARED);
		memcpy(&w, &shmem->workers[i], sizeof(WorkerSlot));
		if (w.in_use)
			strlcpy(name, shmem->pipelines[w.pipeline].name, NAMEDATALEN);
		LWLockRelease(shmem->lock);
		if (!w.in_use || !list_member_int(slots, w.pipeline))
			continue;
		put_name(&row, name);
		put_text(&row, worker_roles[w.role]);
		if (w.role == WORKER_TASK)
			put(&row, Int32GetDatum(w.task));
		else
			put_null(&row);
		if (w.pid != 0)
			put(&row, Int32GetDatum(w.pid));
		else
			put_null(&row);
		put_text(&row, worker_states[w.state]);
		put_text(&row, worker_waits(&w));
		put_time(&row, w.since);
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&w.rows_in)));
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&w.rows_out)));
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&w.batches)));
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&w.commits)));
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&w.retries)));
		row_done(&row);
	}
	return (Datum) 0;
}

Datum
streamproc_stat_partition(PG_FUNCTION_ARGS)
{
	Row			row;
	List	   *slots = visible_slots();
	int			i;

	row_begin(&row, fcinfo);
	for (i = 0; shmem != NULL && i < shmem->npartitions; i++)
	{
		PartitionSlot p;
		char		name[NAMEDATALEN];
		uint64		end;
		int64		committed;

		LWLockAcquire(shmem->lock, LW_SHARED);
		memcpy(&p, &shmem->partitions[i], sizeof(PartitionSlot));
		if (p.in_use)
			strlcpy(name, shmem->pipelines[p.pipeline].name, NAMEDATALEN);
		LWLockRelease(shmem->lock);
		if (!p.in_use || !list_member_int(slots, p.pipeline))
			continue;
		end = pg_atomic_read_u64(&p.end_offset);
		committed = (int64) pg_atomic_read_u64(&p.committed);
		put_name(&row, name);
		put_text(&row, p.topic);
		put(&row, Int32GetDatum(p.partition));
		put(&row, Int32GetDatum(p.task));
		put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&p.next_offset)));
		put(&row, Int64GetDatum(committed));
		if (end != PG_UINT64_MAX)
		{
			put(&row, Int64GetDatum((int64) end));
			put(&row, Int64GetDatum(Max((int64) end - committed, 0)));
		}
		else
		{
			put_null(&row);
			put_null(&row);
		}
		put_time(&row, (TimestampTz) pg_atomic_read_u64(&p.watermark));
		put_time(&row, (TimestampTz) pg_atomic_read_u64(&p.last_record));
		put(&row, BoolGetDatum(p.at_end));
		put(&row, BoolGetDatum(p.idle));
		put(&row, BoolGetDatum(p.finished));
		if (p.held_us != 0)
			put_interval_us(&row, monotonic_us() - p.held_us);
		else
			put_null(&row);
		row_done(&row);
	}
	return (Datum) 0;
}

static void
copy_slot(PipelineSlot *to, int number)
{
	LWLockAcquire(shmem->lock, LW_SHARED);
	memcpy(to, &shmem->pipelines[number], sizeof(PipelineSlot));
	LWLockRelease(shmem->lock);
}

Datum
streamproc_stat_checkpoint(PG_FUNCTION_ARGS)
{
	Row			row;
	PipelineSlot *copy = palloc(sizeof(PipelineSlot));
	ListCell   *lc;

	row_begin(&row, fcinfo);
	foreach(lc, visible_slots())
	{
		int64		k;

		copy_slot(copy, lfirst_int(lc));
		for (k = Max(copy->checkpoint_count - SHMEM_CHECKPOINTS, 0); k < copy->checkpoint_count; k++)
		{
			CheckpointStat *c = &copy->checkpoint[k % SHMEM_CHECKPOINTS];

			put_name(&row, copy->name);
			if (c->task >= 0)
				put(&row, Int32GetDatum(c->task));
			else
				put_null(&row);	/* of all tasks together */
			put(&row, Int64GetDatum(c->epoch));
			put_text(&row, checkpoint_reasons[c->reason]);
			put_time(&row, c->at);
			put_interval_us(&row, c->duration_us);
			put_interval_us(&row, c->commit_us);
			put(&row, Int64GetDatum(c->rows_in));
			put(&row, Int64GetDatum(c->rows_out));
			put(&row, Int64GetDatum(c->bytes));
			put_ms(&row, c->early_us);
			put_ms(&row, c->align_us);
			put_ms(&row, c->cut_us);
			put_ms(&row, c->output_us);
			put_ms(&row, c->write_us);
			put(&row, Int64GetDatum(c->state_bytes));
			row_done(&row);
		}
	}
	return (Datum) 0;
}

Datum
streamproc_stat_operator(PG_FUNCTION_ARGS)
{
	Row			row;
	PipelineSlot *copy = palloc(sizeof(PipelineSlot));
	ListCell   *lc;

	row_begin(&row, fcinfo);
	foreach(lc, visible_slots())
	{
		int			i;

		copy_slot(copy, lfirst_int(lc));
		for (i = 0; i < SHMEM_MAX_OPERATORS; i++)
		{
			OperatorStat *o = &copy->op[i];

			if (!o->in_use)
				continue;
			put_name(&row, copy->name);
			put(&row, Int32GetDatum(o->statement));
			put(&row, Int32GetDatum(o->number));
			put_text(&row, o->kind);
			put_text(&row, o->aggregates);
			put(&row, Int64GetDatum(o->keys));
			put(&row, Int64GetDatum(o->panes));
			put(&row, Int64GetDatum(o->bytes));
			put(&row, Int64GetDatum(o->rows_in));
			put(&row, Int64GetDatum(o->rows_out));
			put(&row, Int64GetDatum(o->late_rows));
			put(&row, Int64GetDatum(o->fired_windows));
			put(&row, Int64GetDatum(o->largest_group));
			put(&row, Int64GetDatum(o->mean_group));
			if (o->mean_group > 0)
				put(&row, Float8GetDatum((double) o->largest_group / o->mean_group));
			else
				put_null(&row);
			row_done(&row);
		}
	}
	return (Datum) 0;
}

Datum
streamproc_visible_to_me(PG_FUNCTION_ARGS)
{
	Oid			owner;
	Oid			procedure = catalog_procedure(NameStr(*PG_GETARG_NAME(0)), &owner);

	catalog_require_version();
	PG_RETURN_BOOL(rights_visible(procedure, owner));
}

/* Those whose messages the caller may see: more than a role that may see all states. */
Datum
streamproc_my_pipelines(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(lc, catalog_pipelines())
	{
		PipelineRow *row = lfirst(lc);
		Datum		value = CStringGetDatum(row->name);
		bool		isnull = false;

		if (OidIsValid(row->owner) && has_privs_of_role(GetUserId(), row->owner))
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}

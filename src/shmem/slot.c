/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  Claiming, attaching and freeing of slots.  The protocol stands in
 *	  shmem.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "shmem/shmem.h"
#include "storage/ipc.h"

int			my_worker_slot = -1;

/* bits of bgw_main_arg that hold the generation; the rest is the slot number */
#define GENERATION_BITS 40
#define GENERATION_MASK ((UINT64CONST(1) << GENERATION_BITS) - 1)

/* ---- pipelines ---- */

int
pipeline_slot_find_locked(Oid database, const char *name)
{
	int			i;

	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (slot->in_use && slot->database == database && strcmp(slot->name, name) == 0)
			return i;
	}
	return -1;
}

/* A fresh slot, or -1 where all are taken. */
int
pipeline_slot_claim_locked(Oid database, const char *name)
{
	int			i;

	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (slot->in_use)
			continue;
		slot->in_use = true;
		slot->wanted = false;
		slot->drain = false;
		slot->dropped = false;
		slot->reload = false;
		slot->expected_exit = false;
		slot->retry_until = slot->retry_done = 0;
		slot->looks = 0;
		slot->not_let_in = false;
		slot->bad_rows = 0;
		slot->database = database;
		slot->owner = InvalidOid;
		strlcpy(slot->name, name, NAMEDATALEN);
		slot->generation = ++shmem->next_generation;
		slot->version = 0;
		slot->state = PIPELINE_STOPPED;
		slot->since = GetCurrentTimestamp();
		memset(&slot->reason, 0, sizeof(Reason));
		memset(&slot->last_error, 0, sizeof(Reason));
		slot->launcher_pid = 0;
		slot->launcher_slot = -1;
		slot->ntasks = 0;
		slot->restarts = 0;
		slot->failures = 0;
		slot->next_start_us = 0;
		slot->starved = false;
		memset(slot->careful_until, 0, sizeof(slot->careful_until));
		slot->over_unfiltered = false;
		slot->pass_carefully = false;
		memset(slot->op, 0, sizeof(slot->op));
		slot->late_rows = slot->state_bytes = slot->segment_bytes = 0;
		slot->stream_watermark = DT_NOBEGIN;
		slot->ends_wanted = slot->ends_done = 0;
		slot->ends_error[0] = '\0';
		slot->checkpoint_count = 0;
		memset(slot->checkpoint, 0, sizeof(slot->checkpoint));
		slot->latency_count = 0;
		slot->publisher_slot = -1;
		slot->publisher_ready = slot->publishes = slot->outbox_counted = false;
		for (int s = 0; s < SHMEM_MAX_TASKS; s++)
		{
			pg_atomic_write_u64(&slot->outbox_written[s], 0);
			pg_atomic_write_u64(&slot->outbox_sent[s], 0);
		}
		pg_atomic_write_u64(&slot->outbox_rows, 0);
		pg_atomic_write_u64(&slot->publish_period_us, 0);
		pg_atomic_write_u64(&slot->outbox_bytes, 0);
		pg_atomic_write_u64(&slot->published_rows, 0);
		pg_atomic_write_u64(&slot->published_bytes, 0);
		slot->published_total = 0;
		slot->outbox_oldest = DT_NOEND;
		slot->publish_transactions = slot->publish_retries = slot->publish_fencings = 0;
		slot->publish_latency_count = 0;
		pg_atomic_write_u64(&slot->rows_in, 0);
		pg_atomic_write_u64(&slot->rows_out, 0);
		pg_atomic_write_u64(&slot->bytes_in, 0);
		pg_atomic_write_u64(&slot->checkpoints, 0);
		return i;
	}
	return -1;
}

void
pipeline_slot_free_locked(int slot)
{
	PipelineSlot *p = &shmem->pipelines[slot];
	int			i;

	for (i = 0; i < shmem->npartitions; i++)
		if (shmem->partitions[i].in_use && shmem->partitions[i].pipeline == slot)
			shmem->partitions[i].in_use = false;
	p->in_use = false;
	p->wanted = false;
	p->generation = ++shmem->next_generation;
	ConditionVariableBroadcast(&p->changed);
}

/* What does not fit is cut off between two characters: the text is stored in the catalog. */
static void
copy_text(char *into, const char *text, Size size)
{
	int			len = text ? (int) strlen(text) : 0;

	len = pg_mbcliplen(text ? text : "", len, (int) size - 1);
	memcpy(into, text ? text : "", len);
	into[len] = '\0';
}

/* The same to whom reads it; when it came does not count. */
bool
reason_same(const Reason *a, const Reason *b)
{
	return strcmp(a->message, b->message) == 0 && strcmp(a->sqlstate, b->sqlstate) == 0 &&
		strcmp(a->topic, b->topic) == 0 &&
		(a->topic[0] == '\0' || (a->partition == b->partition && a->offset == b->offset));
}

void
reason_set(Reason *reason, const char *sqlstate, const char *message,
		   const char *detail, const char *hint)
{
	memset(reason, 0, sizeof(Reason));
	copy_text(reason->sqlstate, sqlstate, sizeof(reason->sqlstate));
	copy_text(reason->message, message, sizeof(reason->message));
	copy_text(reason->detail, detail, sizeof(reason->detail));
	copy_text(reason->hint, hint, sizeof(reason->hint));
	reason->partition = -1;
	reason->offset = -1;
	reason->at = GetCurrentTimestamp();
}

/* "since" is the time of the change: the same state for another reason keeps it only if the reason is the same. */
void
pipeline_set_state_locked(PipelineSlot *slot, PipelineState state, const Reason *reason)
{
	if (slot->state != state ||
		(reason != NULL && strcmp(reason->message, slot->reason.message) != 0))
		slot->since = GetCurrentTimestamp();
	slot->state = state;
	if (reason != NULL)
		slot->reason = *reason;
	else
		memset(&slot->reason, 0, sizeof(Reason));
	ConditionVariableBroadcast(&slot->changed);
}

void
pipeline_set_state(int slot, PipelineState state, const Reason *reason)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	pipeline_set_state_locked(&shmem->pipelines[slot], state, reason);
	LWLockRelease(shmem->lock);
}

void
pipeline_changed(int slot)
{
	ConditionVariableBroadcast(&shmem->pipelines[slot].changed);
}

/* ---- workers ---- */

int
worker_slot_claim_locked(int pipeline, WorkerRole role, int task)
{
	int			i;

	for (i = 0; i < shmem->nworkers; i++)
	{
		WorkerSlot *slot = &shmem->workers[i];

		if (slot->in_use)
			continue;
		slot->in_use = true;
		slot->stop = slot->failed = false;
		slot->generation = ++shmem->next_generation;
		slot->pipeline_generation = shmem->pipelines[pipeline].generation;
		slot->pipeline = pipeline;
		slot->role = role;
		slot->task = task;
		slot->pid = 0;
		slot->latch = NULL;
		slot->state = WORKER_STARTING;
		slot->since = GetCurrentTimestamp();
		slot->waits[0] = '\0';
		pg_atomic_write_u64(&slot->rows_in, 0);
		pg_atomic_write_u64(&slot->rows_out, 0);
		pg_atomic_write_u64(&slot->batches, 0);
		pg_atomic_write_u64(&slot->commits, 0);
		pg_atomic_write_u64(&slot->retries, 0);
		return i;
	}
	return -1;
}

void
worker_slot_free_locked(int slot)
{
	WorkerSlot *w = &shmem->workers[slot];
	PipelineSlot *p = &shmem->pipelines[w->pipeline];

	if (w->role == WORKER_LAUNCHER && p->launcher_slot == slot)
	{
		p->launcher_slot = -1;
		p->launcher_pid = 0;
	}
	if (w->role == WORKER_PUBLISHER && p->publisher_slot == slot)
	{
		p->publisher_slot = -1;
		p->publisher_ready = false;
	}
	w->in_use = false;
	w->latch = NULL;
	w->pid = 0;
	w->generation = ++shmem->next_generation;
	ConditionVariableBroadcast(&p->changed);
}

Datum
worker_slot_arg(int slot)
{
	return UInt64GetDatum(((uint64) slot << GENERATION_BITS) |
						  (shmem->workers[slot].generation & GENERATION_MASK));
}

/*
 * At the end of a worker, however it ends: frees the slot and wakes whoever
 * waits for it.  For a launcher that leaves, its tasks are woken: they find
 * it gone and leave too.
 */
static void
worker_slot_detach(int code, Datum arg)
{
	int			slot = DatumGetInt32(arg);
	WorkerSlot *w = &shmem->workers[slot];
	int			pipeline = w->pipeline;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->nworkers; i++)
	{
		WorkerSlot *other = &shmem->workers[i];

		if (i != slot && other->in_use && other->pipeline == pipeline && other->latch != NULL)
			SetLatch(other->latch);
	}
	worker_slot_free_locked(slot);
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
	my_worker_slot = -1;
}

/*
 * Takes the slot that the starter prepared.  -1: it is not ours any more, the
 * worker should leave.
 */
int
worker_slot_attach(Datum main_arg, WorkerRole role)
{
	uint64		arg = DatumGetUInt64(main_arg);
	int			slot = (int) (arg >> GENERATION_BITS);
	WorkerSlot *w;
	PipelineSlot *p;
	bool		mine;

	if (slot < 0 || slot >= shmem->nworkers)
		return -1;
	w = &shmem->workers[slot];

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	mine = w->in_use && w->role == role && w->pid == 0 &&
		(w->generation & GENERATION_MASK) == (arg & GENERATION_MASK);
	if (mine && w->pipeline_generation != shmem->pipelines[w->pipeline].generation)
	{
		/* started late, for a launcher (or by a supervisor) that is gone */
		worker_slot_free_locked(slot);
		mine = false;
	}
	if (mine)
	{
		p = &shmem->pipelines[w->pipeline];
		w->pid = MyProcPid;
		w->latch = MyLatch;
		if (role == WORKER_LAUNCHER)
		{
			p->launcher_pid = MyProcPid;
			p->launcher_slot = slot;
		}
		ConditionVariableBroadcast(&p->changed);
	}
	LWLockRelease(shmem->lock);
	if (!mine)
		return -1;

	my_worker_slot = slot;
	before_shmem_exit(worker_slot_detach, Int32GetDatum(slot));
	return slot;
}

/* State of this process for stat_worker; "waits" NULL: nothing. */
void
worker_set_state(WorkerState state, const char *waits)
{
	WorkerSlot *w = &shmem->workers[my_worker_slot];
	const char *text = waits ? waits : "";

	/* only this process writes these fields */
	if (w->state == state && strncmp(w->waits, text, sizeof(w->waits) - 1) == 0)
		return;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	w->state = state;
	w->since = GetCurrentTimestamp();
	strlcpy(w->waits, text, sizeof(w->waits));
	ConditionVariableBroadcast(&shmem->pipelines[w->pipeline].changed);
	/* the launcher makes the pipeline's state of its tasks' states */
	if (w->role != WORKER_LAUNCHER)
		pipeline_wake_launcher_locked(w->pipeline);
	LWLockRelease(shmem->lock);
}

void
worker_set_waiting(const Reason *reason)
{
	WorkerSlot *w = &shmem->workers[my_worker_slot];

	if (w->state != WORKER_WAITING || !reason_same(&w->reason, reason))
	{
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		w->reason = *reason;
		LWLockRelease(shmem->lock);
	}
	worker_set_state(WORKER_WAITING, reason->message);
}

void
pipeline_wake_launcher_locked(int pipeline)
{
	int			launcher = shmem->pipelines[pipeline].launcher_slot;

	if (launcher >= 0 && shmem->workers[launcher].latch != NULL)
		SetLatch(shmem->workers[launcher].latch);
}

void
pipeline_wake_tasks_locked(int pipeline)
{
	int			i;

	for (i = 0; i < shmem->nworkers; i++)
	{
		WorkerSlot *w = &shmem->workers[i];

		if (w->in_use && w->pipeline == pipeline && w->role == WORKER_TASK && w->latch != NULL)
			SetLatch(w->latch);
	}
}

/*
 * Something was committed that is to be sent.  A publisher that has its hands
 * full looks again by itself.
 */
void
pipeline_wake_publisher(int pipeline)
{
	int			publisher;

	/* our commit is seen by its next look, or we see that it has begun */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&shmem->pipelines[pipeline].publisher_looks) == 0)
		return;
	LWLockAcquire(shmem->lock, LW_SHARED);
	publisher = shmem->pipelines[pipeline].publisher_slot;
	if (publisher >= 0 && shmem->workers[publisher].latch != NULL)
		SetLatch(shmem->workers[publisher].latch);
	LWLockRelease(shmem->lock);
}

/* NULL: what is written by now */
bool
pipeline_all_sent(int pipeline, const uint64 *written)
{
	PipelineSlot *p = &shmem->pipelines[pipeline];
	int			s;

	for (s = 0; s < SHMEM_MAX_TASKS; s++)
		if (pg_atomic_read_u64(&p->outbox_sent[s]) < (written ? written[s] : pg_atomic_read_u64(&p->outbox_written[s])))
			return false;
	return true;
}

/*
 * Workers of a pipeline that hold a slot, but for the slot "except":
 * WORKER_LAUNCHER, or WORKER_TASK for all that a launcher starts.
 */
int
pipeline_workers_locked(int pipeline, WorkerRole role, int except)
{
	int			n = 0;
	int			i;

	for (i = 0; i < shmem->nworkers; i++)
		if (i != except && shmem->workers[i].in_use && shmem->workers[i].pipeline == pipeline &&
			(shmem->workers[i].role == WORKER_LAUNCHER) == (role == WORKER_LAUNCHER))
			n++;
	return n;
}

void
worker_slot_wake(int slot)
{
	LWLockAcquire(shmem->lock, LW_SHARED);
	if (shmem->workers[slot].in_use && shmem->workers[slot].latch != NULL)
		SetLatch(shmem->workers[slot].latch);
	LWLockRelease(shmem->lock);
}

/* ---- partitions ---- */

/*
 * The slot of a partition, made where there is none; -1 where all are taken
 * (the pipeline runs, the views do not show the partition).
 */
int
partition_slot_claim(int pipeline, int task, const char *topic, int32 partition)
{
	int			free_slot = -1;
	int			found = -1;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->npartitions; i++)
	{
		PartitionSlot *slot = &shmem->partitions[i];

		if (!slot->in_use)
		{
			if (free_slot < 0)
				free_slot = i;
			continue;
		}
		if (slot->pipeline == pipeline && slot->partition == partition &&
			strcmp(slot->topic, topic) == 0)
		{
			found = i;
			break;
		}
	}
	if (found < 0 && free_slot >= 0)
	{
		PartitionSlot *slot = &shmem->partitions[free_slot];

		found = free_slot;
		slot->in_use = true;
		slot->pipeline = pipeline;
		slot->partition = partition;
		strlcpy(slot->topic, topic, SHMEM_TOPIC_LEN);
		slot->target = -1;
		slot->target_serial = 0;
		/* nothing of the slot's last use: wait_until_caught_up() would believe it */
		pg_atomic_write_u64(&slot->next_offset, 0);
		pg_atomic_write_u64(&slot->committed, 0);
		pg_atomic_write_u64(&slot->end_offset, PG_UINT64_MAX);
		pg_atomic_write_u64(&slot->watermark, (uint64) PG_INT64_MIN);
		pg_atomic_write_u64(&slot->last_record, (uint64) PG_INT64_MIN);
	}
	if (found >= 0)
	{
		PartitionSlot *slot = &shmem->partitions[found];

		slot->task = task;
		slot->idle = slot->at_end = slot->finished = false;
		slot->held_us = 0;
	}
	LWLockRelease(shmem->lock);
	return found;
}

void
partition_slots_free(int pipeline)
{
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->npartitions; i++)
		if (shmem->partitions[i].in_use && shmem->partitions[i].pipeline == pipeline)
			shmem->partitions[i].in_use = false;
	LWLockRelease(shmem->lock);
}

/* ---- changed databases ---- */

/*
 * Tells the supervisor that a database's pipelines changed.  Runs in a COMMIT
 * callback: must not throw.
 */
void
database_changed(Oid database)
{
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->nchanged; i++)
		if (shmem->changed[i] == database)
			break;
	if (i == shmem->nchanged)
	{
		if (shmem->nchanged < SHMEM_CHANGED_DATABASES)
			shmem->changed[shmem->nchanged++] = database;
		else
			shmem->scan_all = true;
	}
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
}

/* Its pipelines are gone with it. */
void
database_dropped(Oid database)
{
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < shmem->npipelines; i++)
	{
		PipelineSlot *slot = &shmem->pipelines[i];

		if (slot->in_use && slot->database == database)
		{
			slot->wanted = false;
			slot->dropped = true;
		}
	}
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
}

/* ---- databases that a command needs without workers ---- */

static void
release_held(int code, Datum arg)
{
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < SHMEM_HELD_DATABASES; i++)
		if (shmem->held[i].pid == MyProcPid && OidIsValid(shmem->held[i].database))
		{
			shmem->held[i].database = InvalidOid;
			shmem->scan_all = true;
		}
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
}

/*
 * Are all places taken, the command has to do without: it is refused where a
 * worker comes back too early.
 */
void
database_hold(Oid database)
{
	static bool registered = false;
	int			i;

	/* a session that is terminated while it waits must not leave it behind */
	if (!registered)
		before_shmem_exit(release_held, (Datum) 0);
	registered = true;
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < SHMEM_HELD_DATABASES; i++)
		if (!OidIsValid(shmem->held[i].database))
		{
			shmem->held[i].database = database;
			shmem->held[i].pid = MyProcPid;
			break;
		}
	LWLockRelease(shmem->lock);
}

void
database_release(Oid database)
{
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < SHMEM_HELD_DATABASES; i++)
		if (shmem->held[i].database == database && shmem->held[i].pid == MyProcPid)
		{
			shmem->held[i].database = InvalidOid;
			break;
		}
	if (shmem->supervisor_latch != NULL)
		SetLatch(shmem->supervisor_latch);
	LWLockRelease(shmem->lock);
}

bool
database_held_locked(Oid database)
{
	int			i;

	for (i = 0; i < SHMEM_HELD_DATABASES; i++)
		if (shmem->held[i].database == database)
			return true;
	return false;
}

/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Starts a pipeline's tasks and keeps them running.
 *
 * A launcher goes through these steps; whatever goes wrong in one of them and
 * passes by itself (no broker, no topic, a lock, no worker slot) shows as
 * state "waiting" and is tried again:
 *
 *	  load		the catalog row; the statements are checked as at creation
 *	  ask		the cluster for its id, partitions, and offsets where a
 *				partition has no saved position
 *	  clear		workers that a predecessor left behind are woken, told to
 *				leave, and waited for
 *	  compare	saved positions with what the cluster has (loss.c)
 *	  settle	positions of all partitions are written, one row per task, with
 *				this launcher's generation: from here on nobody of an older
 *				generation can commit.  Nothing has been read yet
 *	  start		all tasks, or none
 *	  watch		restart tasks with back-off, find new partitions, answer
 *				wait_until_caught_up(), stop
 *
 * A change of the pipeline, of its partitions or foreign tables makes the
 * launcher stop its tasks (each commits what it has) and leave; the
 * supervisor starts a new one at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/launcher.h"

#define QUESTION_TIMEOUT 10000	/* ms, for one question to the cluster */
#define FIRST_TIMEOUT 1500		/* ms, for the first one */
#define RETRY_MS 500
/* While tasks are watched, questions must not hide an outage, or a stop, for long. */
#define WATCH_TIMEOUT 800		/* ms, for what is asked regularly */
#define ENDS_TIMEOUT 2000		/* ms, for the ends that somebody waits for */

typedef struct TaskHandle
{
	BackgroundWorkerHandle *handle; /* NULL: not running */
	int			slot;
	uint64		generation;
	int			failures;
	int64		next_start_us;
	int64		started_us;
	bool		finished;
} TaskHandle;

typedef struct Launcher
{
	MemoryContext cxt;
	int			pipeline;		/* slot number */
	PipelineRow *row;
	int64		version;
	List	   *topics;			/* of LauncherTopic */
	List	   *sources;		/* OIDs of their foreign tables */
	Oid			server;
	bool		needs_one_task;
	KafkaConf  *conf;
	KafkaClient *client;
	char	   *cluster_id;
	int			ntasks;
	TaskHandle	tasks[SHMEM_MAX_TASKS];
	int64		next_metadata_us;
	int64		next_objects_us;	/* see objects_changed() */
} Launcher;

static Launcher *me;

/* ---- waiting for something that passes ---- */

/*
 * Does the server, the user mapping or a foreign table say something else
 * now?  A task looks at the begin of a transaction; but where brokers cannot
 * be reached there are none, and just then the options get corrected.
 * REASSIGN OWNED and the like tell nobody either: loading the row leaves
 * where the pipeline belongs to somebody else, so that the next launcher runs
 * as him.
 */
static bool
objects_changed(void)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext cxt;
	ListCell   *lc;
	bool		changed;

	if (me->conf == NULL || monotonic_us() < me->next_objects_us)
		return false;
	me->next_objects_us = monotonic_us() + RETRY_MS * 1000;

	checkpoint_begin();
	cxt = AllocSetContextCreate(me->cxt, "streamproc launcher objects", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(cxt);
	(void) worker_load_pipeline(cxt);
	changed = !kafka_conf_equal(stream_server_conf(me->server, GetUserId()), me->conf);
	foreach(lc, me->sources)
	{
		const char *name;
		ListCell   *lt;
		bool		known = false;

		/* who changes it now will be seen later; a wait for him would not see a stop */
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			continue;
		name = stream_source_load(lfirst_oid(lc))->topic;
		foreach(lt, me->topics)
			if (strcmp(((LauncherTopic *) lfirst(lt))->name, name) == 0)
				known = true;
		if (!known)
			changed = true;
	}
	checkpoint_commit();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	if (changed)
		ereport(LOG,
				(errmsg("pipeline \"%s\" starts anew: a foreign table, server or user mapping has changed",
						me->row->name)));
	return changed;
}

/* Leaves; the supervisor starts another launcher at once. */
static void
start_anew(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[me->pipeline].expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Leaves when the pipeline was stopped, dropped or changed, or what it reads. */
static void
check_wanted(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];

	worker_check();
	if (!slot->wanted || slot->dropped || slot->version != me->version || worker_clock_set_back() || objects_changed())
		start_anew();
}

static void
wait_for_reason(const Reason *reason)
{
	worker_set_state(WORKER_WAITING, reason->message);
	pipeline_set_state(me->pipeline, PIPELINE_WAITING, reason);
	/* who waits for something else is in nobody's way */
	shmem->pipelines[me->pipeline].starved = false;
	worker_wait(RETRY_MS);
	check_wanted();
}

void
launcher_wait_for(const char *sqlstate, const char *message, const char *hint)
{
	Reason		reason;

	reason_set(&reason, sqlstate, message, NULL, hint);
	wait_for_reason(&reason);
}

static void
wait_for_cluster(const char *topic, const KafkaError *err)
{
	char		message[SHMEM_MESSAGE_LEN];

	switch (err->failure)
	{
		case KAFKA_NO_TOPIC:
			snprintf(message, sizeof(message), "topic \"%s\" does not exist", topic);
			launcher_wait_for("42704", message, "Create the topic; the pipeline goes on by itself.");
			break;
		case KAFKA_UNREACHABLE:
			worker_describe_failure(message, sizeof(message), err);
			launcher_wait_for("08001", message, "Check the broker and the options of the server and user mapping; the pipeline goes on by itself.");
			break;
		case KAFKA_LOGIN_FAILED:
			worker_describe_failure(message, sizeof(message), err);
			launcher_wait_for("28000", message, "Correct the options of the server and user mapping; the pipeline goes on by itself.");
			break;
		case KAFKA_NOT_ALLOWED:
			worker_describe_failure(message, sizeof(message), err);
			launcher_wait_for("42501", message, KAFKA_NOT_ALLOWED_HINT);
			break;
		default:
			worker_describe_failure(message, sizeof(message), err);
			launcher_wait_for("08000", message, "The pipeline goes on by itself.");
			break;
	}
}

/* ---- load ---- */

static void
load(void)
{
	MemoryContext old;
	Program    *program;
	ListCell   *lc;
	int			i;

	checkpoint_begin();
	me->row = worker_load_pipeline(me->cxt);
	worker_works_by(me->row->version);
	me->version = me->row->version;
	worker_apply_settings(me->row);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_load(me->row->procedure, me->row->trust_owners);
	program_check_rights(program);
	PopActiveSnapshot();

	old = MemoryContextSwitchTo(me->cxt);
	me->server = program->server;
	me->needs_one_task = program->needs_one_task;
	me->topics = NIL;
	me->sources = NIL;
	for (i = 0; i < program->nsources; i++)
	{
		StreamSource *source = stream_source_load(program->sources[i].relid);
		LauncherTopic *topic = NULL;

		me->sources = lappend_oid(me->sources, program->sources[i].relid);
		foreach(lc, me->topics)
			if (strcmp(((LauncherTopic *) lfirst(lc))->name, source->topic) == 0)
				topic = lfirst(lc);
		if (topic == NULL)
		{
			topic = palloc0(sizeof(LauncherTopic));
			topic->name = source->topic;
			me->topics = lappend(me->topics, topic);
		}
	}
	me->conf = stream_server_conf(me->server, GetUserId());
	MemoryContextSwitchTo(old);
	program_free(program);
	checkpoint_commit();
}

/* Loads; errors that pass are tried again, others fail the pipeline. */
static void
load_or_fail(void)
{
	for (;;)
	{
		MemoryContext old = CurrentMemoryContext;
		ErrorData  *volatile edata = NULL;
		Reason		reason;

		PG_TRY();
		{
			load();
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(old);
			edata = CopyErrorData();
			FlushErrorState();
		}
		PG_END_TRY();
		if (edata == NULL)
			return;
		checkpoint_abort();
		MemoryContextSwitchTo(old);
		worker_reason_from_error(&reason, edata);
		if (!worker_error_passes(edata->sqlerrcode))
			worker_fail_pipeline(&reason);
		me->version = shmem->pipelines[me->pipeline].version;
		launcher_wait_for(reason.sqlstate, reason.message, reason.hint);
	}
}

/* ---- ask ---- */

/*
 * Options that contradict each other, a key that does not fit its certificate, a
 * broker that is not allowed: the options get corrected, then objects_changed()
 * ends this.
 */
static void
open_client(void)
{
	MemoryContext old = CurrentMemoryContext;

	while (me->client == NULL)
	{
		MemoryContext cxt = AllocSetContextCreate(me->cxt, "streamproc launcher client", ALLOCSET_SMALL_SIZES);
		ErrorData  *volatile edata = NULL;
		Reason		reason;

		MemoryContextSwitchTo(cxt);
		PG_TRY();
		{
			me->client = kafka_client_open(me->conf);
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(cxt);
			edata = CopyErrorData();
			FlushErrorState();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(old);
		if (edata == NULL)
			return;
		worker_reason_from_error(&reason, edata);
		if (reason.hint[0] == '\0')
			strlcpy(reason.hint, "Correct the options of the server and user mapping; the pipeline goes on by itself.", sizeof(reason.hint));
		MemoryContextDelete(cxt);
		wait_for_reason(&reason);
	}
}

/* Opens the client and learns cluster id and partitions; waits until it has them. */
static void
ask_cluster(void)
{
	int			timeout = FIRST_TIMEOUT;
	bool		checked = false;
	int64		fewer_since_us = 0;
	List	   *old = NIL;

	/* a mute broker shows as such within two seconds; then it gets more time */
	for (;; timeout = QUESTION_TIMEOUT)
	{
		KafkaError	err;
		ListCell   *lc;
		bool		complete = true;
		MemoryContext old_cxt;

		check_wanted();
		open_client();
		old_cxt = MemoryContextSwitchTo(me->cxt);
		me->cluster_id = kafka_client_cluster_id(me->client, timeout, &err);
		MemoryContextSwitchTo(old_cxt);
		if (me->cluster_id == NULL)
		{
			wait_for_cluster("", &err);
			continue;
		}
		/* before its topics are missed; once, as it leaves its lists behind */
		if (!checked)
			old = launcher_check_cluster(me->row, me->cluster_id);
		checked = true;
		foreach(lc, me->topics)
		{
			LauncherTopic *topic = lfirst(lc);

			topic->npartitions = kafka_client_partitions(me->client, topic->name, timeout, &err);
			if (topic->npartitions <= 0)
			{
				wait_for_cluster(topic->name, &err);
				complete = false;
				break;
			}
		}
		if (complete && !launcher_wait_for_partitions(me->topics, old, me->cluster_id, &fewer_since_us))
			return;
	}
}

/* Offsets of a topic's partitions, waiting for the cluster as long as it takes. */
void
launcher_offsets(const char *topic, const int32 *partitions, int n, KafkaSeek seek,
				 int64 timestamp_ms, int64 *offsets)
{
	KafkaError	err;

	while (!kafka_client_offsets(me->client, topic, partitions, n, seek, timestamp_ms,
								 offsets, QUESTION_TIMEOUT, &err))
	{
		wait_for_cluster(topic, &err);
		/* gone since its partitions were asked for */
		if (err.failure == KAFKA_NO_TOPIC)
			start_anew();
	}
}

/* ---- clear ---- */

/* Waits until no task but ours is left. */
static void
clear_old_workers(void)
{
	int64		begun = monotonic_us();
	bool		terminated = false;

	for (;;)
	{
		int			left = 0;
		int			i;
		bool		late = monotonic_us() - begun > (int64) streamproc_stop_timeout * 1000;

		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		for (i = 0; i < shmem->nworkers; i++)
		{
			WorkerSlot *w = &shmem->workers[i];

			if (!w->in_use || w->pipeline != me->pipeline || w->role != WORKER_TASK)
				continue;
			left++;
			w->stop = true;
			if (w->latch != NULL)
				SetLatch(w->latch);
			else if (late)
				worker_slot_free_locked(i); /* never attached: it finds its slot taken away */
			if (late && !terminated && w->pid != 0)
				kill(w->pid, SIGTERM);
		}
		LWLockRelease(shmem->lock);
		if (left == 0)
			return;
		if (late)
			terminated = true;
		worker_set_state(WORKER_STARTING, "workers of an earlier run to leave");
		worker_wait(50);
	}
}

/* ---- start ---- */

static bool
start_task(int task)
{
	TaskHandle *t = &me->tasks[task];
	BackgroundWorker worker;
	int			w;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	w = worker_slot_claim_locked(me->pipeline, WORKER_TASK, task);
	if (w >= 0)
		t->generation = shmem->workers[w].generation;
	LWLockRelease(shmem->lock);
	if (w < 0)
		return false;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "streamproc", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "streamproc_task_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "streamproc task %d of %s", task, me->row->name);
	strlcpy(worker.bgw_type, "streamproc task", BGW_MAXLEN);
	worker.bgw_main_arg = worker_slot_arg(w);
	worker.bgw_notify_pid = MyProcPid;
	t->slot = w;
	t->started_us = monotonic_us();
	if (RegisterDynamicBackgroundWorker(&worker, &t->handle))
		return true;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	worker_slot_free_locked(w);
	LWLockRelease(shmem->lock);
	t->handle = NULL;
	return false;
}

/* Tells the tasks to commit and leave, and waits; late ones are terminated. */
static void
stop_tasks(bool restart)
{
	int64		begun = monotonic_us();
	bool		terminated = false;

	for (;;)
	{
		int			left = 0;
		int			i;
		bool		late = monotonic_us() - begun > (int64) streamproc_stop_timeout * 1000;

		for (i = 0; i < me->ntasks; i++)
		{
			TaskHandle *t = &me->tasks[i];
			WorkerSlot *w;
			pid_t		pid;
			BgwHandleStatus status;

			if (t->handle == NULL)
				continue;
			status = GetBackgroundWorkerPid(t->handle, &pid);
			w = &shmem->workers[t->slot];
			LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
			if (status == BGWH_STOPPED)
			{
				if (w->in_use && w->generation == t->generation)
					worker_slot_free_locked(t->slot);
				t->handle = NULL;
			}
			else
			{
				left++;
				if (w->in_use && w->generation == t->generation)
				{
					w->stop = true;
					if (w->latch != NULL)
						SetLatch(w->latch);
				}
				if (late && !terminated && status == BGWH_STARTED)
					kill(pid, SIGTERM);
			}
			LWLockRelease(shmem->lock);
		}
		if (left == 0)
			return;
		if (late && !terminated)
		{
			terminated = true;
			ereport(LOG,
					(errmsg("pipeline \"%s\": tasks did not stop within streamproc.stop_timeout and are cancelled",
							me->row->name),
					 errdetail("What was not committed is read again at the next start.")));
		}
		worker_set_state(WORKER_STOPPING, "tasks to commit and leave");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * All tasks or none.  Are there not enough workers, the launcher leaves, too:
 * the one that it takes may be what another pipeline needs.  The supervisor
 * starts it again, one of those that found none at a time.
 */
static void
start_all_tasks(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];
	Reason		reason;
	int			i;

	for (i = 0; i < me->ntasks; i++)
	{
		FAULT_POINT("launcher-start-task");
		if (!start_task(i))
			break;
	}
	if (i == me->ntasks)
	{
		slot->starved = false;
		return;
	}
	stop_tasks(false);
	reason_set(&reason, "53400", "not enough free background workers for the tasks", NULL,
			   "Raise max_worker_processes (and streamproc.max_workers) and restart the server, or lower the pipeline's parallelism.");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
	slot->starved = true;
	slot->expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* ---- watch ---- */

/* A task has ended by itself. */
static void
task_ended(int task)
{
	TaskHandle *t = &me->tasks[task];
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];
	WorkerSlot *w = &shmem->workers[t->slot];
	int64		now = monotonic_us();

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (w->in_use && w->generation == t->generation)
		worker_slot_free_locked(t->slot);
	LWLockRelease(shmem->lock);
	pfree(t->handle);
	t->handle = NULL;

	if (t->finished)
		return;
	/* a task that ran well for a while has earned a fresh start */
	if (now - t->started_us > 10 * 1000000)
		t->failures = 0;
	t->failures++;
	t->next_start_us = now + worker_backoff_us(t->failures);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->restarts++;
	LWLockRelease(shmem->lock);
}

/* Restarts what died; returns whether all tasks have finished. */
static bool
watch_tasks(void)
{
	int64		now = monotonic_us();
	bool		all_finished = true;
	int			i;

	for (i = 0; i < me->ntasks; i++)
	{
		TaskHandle *t = &me->tasks[i];
		WorkerSlot *w = &shmem->workers[t->slot];
		pid_t		pid;

		if (t->handle != NULL)
		{
			LWLockAcquire(shmem->lock, LW_SHARED);
			if (w->in_use && w->generation == t->generation)
			{
				if (w->state == WORKER_FINISHED)
					t->finished = true;
			}
			LWLockRelease(shmem->lock);
			if (GetBackgroundWorkerPid(t->handle, &pid) == BGWH_STOPPED)
				task_ended(i);
		}
		if (!t->finished)
		{
			all_finished = false;
			if (t->handle == NULL && now >= t->next_start_us && !start_task(i))
				t->next_start_us = now + 1000000;
		}
		else if (t->handle != NULL)
			all_finished = false;	/* about to leave */
	}
	return all_finished;
}

/* The pipeline's state, made of its tasks' states. */
static void
show_state(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];
	int			running = 0;
	bool		waiting = false;
	Reason		reason;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < me->ntasks; i++)
	{
		TaskHandle *t = &me->tasks[i];
		WorkerSlot *w = &shmem->workers[t->slot];

		bool		starts = t->handle != NULL &&
			(!w->in_use || w->generation != t->generation || w->state == WORKER_STARTING);

		/* one that has failed again and again still waits for the same while it tries once more */
		if (t->handle == NULL || (starts && t->failures > 1))
		{
			if (!t->finished && !waiting)
			{
				waiting = true;
				if (slot->last_error.message[0] != '\0' && t->failures > 1)
					reason = slot->last_error;
				else
				{
					char		message[64];

					snprintf(message, sizeof(message), "task %d to be started again", i);
					reason_set(&reason, "57P01", message, NULL, "The pipeline goes on by itself.");
				}
			}
			continue;
		}
		if (!w->in_use || w->generation != t->generation)
			continue;
		if (w->state == WORKER_WAITING && !waiting)
		{
			waiting = true;
			reason_set(&reason, "", w->waits, NULL, "The pipeline goes on by itself.");
		}
		else if (w->state == WORKER_RUNNING || w->state == WORKER_FINISHED)
			running++;
	}
	if (slot->state != PIPELINE_FAILED)
	{
		if (waiting)
		{
			if (slot->state != PIPELINE_WAITING || strcmp(slot->reason.message, reason.message) != 0)
				pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
		}
		else if (running == me->ntasks && slot->state != PIPELINE_RUNNING)
		{
			pipeline_set_state_locked(slot, PIPELINE_RUNNING, NULL);
			slot->failures = 0;
		}
		else if (running < me->ntasks && slot->state == PIPELINE_WAITING)
			pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
	}
	LWLockRelease(shmem->lock);
}

/* Other partitions of the topics, another cluster?  Asked every streamproc.metadata_interval. */
static bool
partitions_changed(void)
{
	ListCell   *lc;
	KafkaError	err;
	char	   *id;

	foreach(lc, me->topics)
	{
		LauncherTopic *topic = lfirst(lc);
		int			n = kafka_client_partitions(me->client, topic->name, WATCH_TIMEOUT, &err);

		/* nothing of a topic that is made anew should be read: the next launcher waits for it, and compares */
		if (n <= 0 && err.failure == KAFKA_NO_TOPIC)
		{
			ereport(LOG,
					(errmsg("pipeline \"%s\": topic \"%s\" does not exist any more", me->row->name, topic->name)));
			return true;
		}
		if (n > 0 && n != topic->npartitions)
		{
			ereport(LOG,
					(errmsg("pipeline \"%s\": topic \"%s\" has %d partitions, it had %d",
							me->row->name, topic->name, n, topic->npartitions)));
			return true;
		}
	}
	id = kafka_client_cluster_id(me->client, WATCH_TIMEOUT, &err);
	if (id != NULL && strcmp(id, me->cluster_id) != 0)
	{
		ereport(LOG,
				(errmsg("pipeline \"%s\": the brokers belong to cluster %s, they belonged to cluster %s",
						me->row->name, id, me->cluster_id)));
		return true;
	}
	if (id != NULL)
		pfree(id);
	return false;
}

/* Has each task its partitions in the shared slots, where the answer of answer_ends() goes? */
static bool
tasks_ready(void)
{
	bool		ready = true;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	for (i = 0; i < me->ntasks; i++)
	{
		TaskHandle *t = &me->tasks[i];
		WorkerSlot *w = &shmem->workers[t->slot];

		if (!t->finished &&
			(t->handle == NULL || !w->in_use || w->generation != t->generation || w->state == WORKER_STARTING))
			ready = false;
	}
	LWLockRelease(shmem->lock);
	return ready;
}

/* wait_until_caught_up(): tells the present ends of all partitions. */
static void
answer_ends(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];
	int64		wanted = slot->ends_wanted;
	ListCell   *lc;
	char		error[SHMEM_MESSAGE_LEN] = "";

	foreach(lc, me->topics)
	{
		LauncherTopic *topic = lfirst(lc);
		int64	   *ends = palloc(sizeof(int64) * topic->npartitions);
		KafkaError	err;
		int			found = 0;
		int			i;

		if (!kafka_client_offsets(me->client, topic->name, NULL, topic->npartitions,
								  KAFKA_SEEK_LATEST, 0, ends, ENDS_TIMEOUT, &err))
		{
			snprintf(error, sizeof(error), "topic \"%s\": %s", topic->name, err.message);
			pfree(ends);
			break;
		}
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		for (i = 0; i < shmem->npartitions; i++)
		{
			PartitionSlot *p = &shmem->partitions[i];

			if (p->in_use && p->pipeline == me->pipeline && p->partition < topic->npartitions &&
				strcmp(p->topic, topic->name) == 0)
			{
				uint64		unknown = PG_UINT64_MAX;

				p->target = ends[p->partition];
				p->target_serial = wanted;
				/* its task may not have heard of it yet */
				(void) pg_atomic_compare_exchange_u64(&p->end_offset, &unknown, (uint64) ends[p->partition]);
				found++;
			}
		}
		LWLockRelease(shmem->lock);
		pfree(ends);
		if (found < topic->npartitions)
			snprintf(error, sizeof(error), "streamproc.max_partitions is too small to follow all partitions of topic \"%s\"", topic->name);
	}
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	strlcpy(slot->ends_error, error, sizeof(slot->ends_error));
	slot->ends_done = wanted;
	ConditionVariableBroadcast(&slot->changed);
	LWLockRelease(shmem->lock);
}

static void
leave(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->expected_exit = true;
	if (slot->wanted && slot->state != PIPELINE_FAILED)
		pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

static void
set_looks(int looks)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[me->pipeline].looks = looks;
	LWLockRelease(shmem->lock);
}

/* A task was refused what it wanted to read, and nothing is wrong with the topic: not at once again. */
static void
pause_after_looks(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];
	int64		until = monotonic_us() + worker_backoff_us(slot->looks);
	Reason		error;

	LWLockAcquire(shmem->lock, LW_SHARED);
	error = slot->last_error;
	LWLockRelease(shmem->lock);
	while (slot->looks > 0 && monotonic_us() < until)
		launcher_wait_for(error.sqlstate, error.message, "The pipeline goes on by itself.");
}

static void
watch(void)
{
	PipelineSlot *slot = &shmem->pipelines[me->pipeline];

	int64		started_us = monotonic_us();

	worker_set_state(WORKER_RUNNING, NULL);
	me->next_metadata_us = monotonic_us() + (int64) streamproc_metadata_interval * 1000;
	for (;;)
	{
		worker_check();
		if (!slot->wanted || slot->dropped || slot->version != me->version)
		{
			stop_tasks(false);
			leave();
		}
		if (watch_tasks())
		{
			worker_finish_pipeline(me->row->drain ? "drained" : "finished");
			leave();
		}
		if (slot->reload || worker_clock_set_back() || objects_changed())
		{
			stop_tasks(true);
			leave();
		}
		show_state();
		launcher_first_marks(me->row, me->pipeline);
		/* tasks that run well for a while have what they want to read */
		if (slot->looks > 0 && slot->state == PIPELINE_RUNNING && monotonic_us() - started_us > 10 * 1000000)
			set_looks(0);
		if (slot->ends_done != slot->ends_wanted && tasks_ready())
			answer_ends();
		if (monotonic_us() >= me->next_metadata_us)
		{
			/* nobody answers while the brokers are away */
			if (slot->state != PIPELINE_WAITING &&
				(partitions_changed() || !launcher_look(me->row, me->conf, WATCH_TIMEOUT)))
			{
				stop_tasks(true);
				leave();
			}
			me->next_metadata_us = monotonic_us() + (int64) streamproc_metadata_interval * 1000;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(streamproc_metadata_interval, 500), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
streamproc_launcher_main(Datum arg)
{
	List	   *old;
	List	   *losses;

	worker_begin(arg, WORKER_LAUNCHER);

	me = MemoryContextAllocZero(TopMemoryContext, sizeof(Launcher));
	me->cxt = AllocSetContextCreate(TopMemoryContext, "streamproc launcher", ALLOCSET_DEFAULT_SIZES);
	me->pipeline = shmem->workers[my_worker_slot].pipeline;
	MemoryContextSwitchTo(me->cxt);

	FAULT_POINT("launcher-start");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[me->pipeline].reload = false;
	if (shmem->pipelines[me->pipeline].state == PIPELINE_STOPPED)
		pipeline_set_state_locked(&shmem->pipelines[me->pipeline], PIPELINE_STARTING, NULL);
	LWLockRelease(shmem->lock);
	load_or_fail();
	ask_cluster();
	clear_old_workers();
	losses = launcher_find_losses(me->row, me->topics, me->cluster_id, me->conf, &old);
	if (losses == NIL)
		pause_after_looks();
	else
		set_looks(0);
	partition_slots_free(me->pipeline);
	FAULT_POINT("launcher-before-settle");
	me->ntasks = launcher_settle(me->row, me->topics, me->cluster_id, me->needs_one_task, old, losses);
	FAULT_POINT("launcher-settled");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[me->pipeline].ntasks = me->ntasks;
	LWLockRelease(shmem->lock);
	start_all_tasks();
	FAULT_POINT("launcher-started");
	watch();
}

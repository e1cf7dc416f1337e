/*-------------------------------------------------------------------------
 *
 * launcher_tasks.c
 *	  The launcher's tasks: workers of an earlier run are cleared away, all
 *	  tasks start or none, what ends is started again, and the pipeline's state
 *	  is made of theirs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "worker/launcher.h"

/* ---- clear ---- */

/* Waits until no task but ours is left. */
void
launcher_clear_workers(void)
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

			if (!w->in_use || w->pipeline != my_launcher->pipeline || w->role == WORKER_LAUNCHER)
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

/* Starts a task, or the publisher. */
static bool
start_worker(TaskHandle *t, WorkerRole role, int task)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	BackgroundWorker worker;
	int			w;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	w = worker_slot_claim_locked(my_launcher->pipeline, role, task);
	if (w >= 0)
		t->generation = shmem->workers[w].generation;
	if (w >= 0 && role == WORKER_PUBLISHER)
	{
		slot->publisher_slot = w;
		slot->publisher_ready = false;
	}
	LWLockRelease(shmem->lock);
	if (w < 0)
		return false;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "streamproc", BGW_MAXLEN);
	if (role == WORKER_PUBLISHER)
	{
		strlcpy(worker.bgw_function_name, "streamproc_publisher_main", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "streamproc publisher of %s", my_launcher->row->name);
		strlcpy(worker.bgw_type, "streamproc publisher", BGW_MAXLEN);
	}
	else
	{
		strlcpy(worker.bgw_function_name, "streamproc_task_main", BGW_MAXLEN);
		snprintf(worker.bgw_name, BGW_MAXLEN, "streamproc task %d of %s", task, my_launcher->row->name);
		strlcpy(worker.bgw_type, "streamproc task", BGW_MAXLEN);
	}
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

static bool
start_task(int task)
{
	return start_worker(&my_launcher->tasks[task], WORKER_TASK, task);
}

/* Not enough workers: the launcher leaves, too. */
static void
leave_starved(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	Reason		reason;

	launcher_stop_tasks(false);
	launcher_stop_publisher();
	reason_set(&reason, "53400", "not enough free background workers for the tasks", NULL,
			   "Raise max_worker_processes (and streamproc.max_workers) and restart the server, or lower the pipeline's parallelism.");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
	slot->starved = true;
	slot->expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Looks whether the worker has ended, and frees what it held; true: it runs. */
static bool
reap(TaskHandle *t, bool stop, bool terminate)
{
	WorkerSlot *w = &shmem->workers[t->slot];
	pid_t		pid;
	BgwHandleStatus status;

	if (t->handle == NULL)
		return false;
	status = GetBackgroundWorkerPid(t->handle, &pid);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (status == BGWH_STOPPED)
	{
		if (w->in_use && w->generation == t->generation)
			worker_slot_free_locked(t->slot);
		t->handle = NULL;
	}
	else
	{
		if (stop && w->in_use && w->generation == t->generation)
		{
			w->stop = true;
			if (w->latch != NULL)
				SetLatch(w->latch);
		}
		if (terminate && status == BGWH_STARTED)
			kill(pid, SIGTERM);
	}
	LWLockRelease(shmem->lock);
	return t->handle != NULL;
}

/* ---- the publisher ---- */

static void
watch_publisher(void)
{
	TaskHandle *t = &my_launcher->publisher;
	bool		ran = t->handle != NULL;
	int64		now = monotonic_us();

	if (reap(t, false, false))
		return;
	if (ran)
	{
		if (now - t->started_us > 10 * 1000000)
			t->failures = 0;
		t->failures++;
		t->next_start_us = now + worker_backoff_us(t->failures);
		LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
		shmem->pipelines[my_launcher->pipeline].restarts++;
		LWLockRelease(shmem->lock);
	}
	if (now >= t->next_start_us && !start_worker(t, WORKER_PUBLISHER, -1))
		t->next_start_us = now + 1000000;
}

void
launcher_watch_publisher(void)
{
	if (OidIsValid(my_launcher->sink_server))
		watch_publisher();
}

/*
 * Starts it and waits until it has compared what Kafka has with the outbox:
 * what tasks write would hide that commits were lost.
 */
void
launcher_start_publisher(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];

	if (!OidIsValid(my_launcher->sink_server))
		return;
	slot->outbox_counted = false;
	if (!start_worker(&my_launcher->publisher, WORKER_PUBLISHER, -1))
		leave_starved();
	while (!slot->publisher_ready)
	{
		Reason		reason;

		worker_set_state(WORKER_STARTING, "the publisher to compare what was sent with the outbox");
		LWLockAcquire(shmem->lock, LW_SHARED);
		memset(&reason, 0, sizeof(reason));
		if (slot->publisher_slot >= 0 && shmem->workers[slot->publisher_slot].state == WORKER_WAITING)
			reason = shmem->workers[slot->publisher_slot].reason;
		else if (my_launcher->publisher.failures > 1)
			reason = slot->last_error;
		LWLockRelease(shmem->lock);
		if (reason.message[0] != '\0')
			pipeline_set_state(my_launcher->pipeline, PIPELINE_WAITING, &reason);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		launcher_check_wanted();
		watch_publisher();
	}
	worker_set_state(WORKER_STARTING, NULL);
}

/* It sends what waits, as long as streamproc.stop_timeout allows. */
void
launcher_stop_publisher(void)
{
	int64		begun = monotonic_us();

	while (reap(&my_launcher->publisher, true, monotonic_us() - begun > (int64) streamproc_stop_timeout * 1000))
	{
		worker_set_state(WORKER_STOPPING, "the publisher to send what waits");
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
launcher_all_sent(void)
{
	return !OidIsValid(my_launcher->sink_server) || pipeline_all_sent(my_launcher->pipeline, NULL);
}

/* ---- stop ---- */

/* Tells the tasks to commit and leave, and waits; late ones are terminated. */
void
launcher_stop_tasks(bool restart)
{
	int64		begun = monotonic_us();
	bool		terminated = false;

	for (;;)
	{
		int			left = 0;
		int			i;
		bool		late = monotonic_us() - begun > (int64) streamproc_stop_timeout * 1000;

		for (i = 0; i < my_launcher->ntasks; i++)
		{
			if (reap(&my_launcher->tasks[i], true, late && !terminated))
				left++;
		}
		if (left == 0)
			return;
		if (late && !terminated)
		{
			terminated = true;
			ereport(LOG,
					(errmsg("pipeline \"%s\": tasks did not stop within streamproc.stop_timeout and are cancelled",
							my_launcher->row->name),
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
void
launcher_start_tasks(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	int			i;

	for (i = 0; i < my_launcher->ntasks; i++)
	{
		FAULT_POINT("launcher-start-task");
		if (!start_task(i))
			break;
	}
	if (i == my_launcher->ntasks)
	{
		slot->starved = false;
		return;
	}
	leave_starved();
}

/* ---- watch ---- */

/* A task has ended by itself. */
static void
task_ended(int task)
{
	TaskHandle *t = &my_launcher->tasks[task];
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
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

bool
launcher_task_ended(void)
{
	int			i;

	for (i = 0; i < my_launcher->ntasks; i++)
	{
		pid_t		pid;

		if (my_launcher->tasks[i].handle == NULL ||
			GetBackgroundWorkerPid(my_launcher->tasks[i].handle, &pid) == BGWH_STOPPED)
			return true;
	}
	return false;
}

/* Restarts what died; returns whether all tasks have finished. */
bool
launcher_watch_tasks(void)
{
	int64		now = monotonic_us();
	bool		all_finished = true;
	int			i;

	for (i = 0; i < my_launcher->ntasks; i++)
	{
		TaskHandle *t = &my_launcher->tasks[i];
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

/* The pipeline's state, made of its tasks' states; what the launcher itself waits for is why they wait. */
void
launcher_show_state(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	WorkerSlot *mine = &shmem->workers[my_worker_slot];
	int			running = 0;
	bool		waiting = mine->state == WORKER_WAITING;
	Reason		reason = mine->reason;
	int			i;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	for (i = 0; i < my_launcher->ntasks; i++)
	{
		TaskHandle *t = &my_launcher->tasks[i];
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
			reason = w->reason;
		}
		else if (w->state == WORKER_RUNNING || w->state == WORKER_FINISHED)
			running++;
	}
	if (slot->state != PIPELINE_FAILED)
	{
		if (waiting)
		{
			if (slot->state != PIPELINE_WAITING || !reason_same(&slot->reason, &reason))
				pipeline_set_state_locked(slot, PIPELINE_WAITING, &reason);
		}
		else if (running == my_launcher->ntasks && slot->state != PIPELINE_RUNNING)
		{
			pipeline_set_state_locked(slot, PIPELINE_RUNNING, NULL);
			slot->failures = 0;
		}
		else if (running < my_launcher->ntasks && slot->state == PIPELINE_WAITING)
			pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
	}
	LWLockRelease(shmem->lock);
}

/* Has each task its partitions in the shared slots, where the answer of answer_ends() goes? */
bool
launcher_tasks_ready(void)
{
	bool		ready = true;
	int			i;

	LWLockAcquire(shmem->lock, LW_SHARED);
	for (i = 0; i < my_launcher->ntasks; i++)
	{
		TaskHandle *t = &my_launcher->tasks[i];
		WorkerSlot *w = &shmem->workers[t->slot];

		if (!t->finished &&
			(t->handle == NULL || !w->in_use || w->generation != t->generation || w->state == WORKER_STARTING))
			ready = false;
	}
	LWLockRelease(shmem->lock);
	return ready;
}

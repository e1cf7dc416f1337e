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
 *	  publish	where there are topics as sinks: the publisher starts, and compares what
 *				was sent with the outbox
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
#include "worker/keyed.h"
#include "worker/launcher.h"
#include "worker/publisher.h"

#define QUESTION_TIMEOUT 10000	/* ms, for one question to the cluster */
#define FIRST_TIMEOUT 1500		/* ms, for the first one */
#define RETRY_MS 500
/* While tasks are watched, questions must not hide an outage, or a stop, for long. */
#define LOOK_US (100 * 1000)		/* a launcher that is busy with epochs looks at all else so often */
#define WATCH_TIMEOUT 800		/* ms, for what is asked regularly */
#define ENDS_TIMEOUT 2000		/* ms, for the ends that somebody waits for */

Launcher   *my_launcher;

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

	if (my_launcher->conf == NULL || monotonic_us() < my_launcher->next_objects_us)
		return false;
	my_launcher->next_objects_us = monotonic_us() + RETRY_MS * 1000;

	checkpoint_begin();
	cxt = AllocSetContextCreate(my_launcher->cxt, "streamproc launcher objects", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(cxt);
	/* stopped, and not told yet: whoever calls us stops the tasks before he leaves */
	if (worker_find_pipeline(cxt) == NULL)
	{
		checkpoint_commit();
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return true;
	}
	changed = !kafka_conf_equal(stream_server_conf(my_launcher->server, GetUserId()), my_launcher->conf) ||
		(my_launcher->sink_conf != NULL &&
		 !kafka_conf_equal(stream_server_conf(my_launcher->sink_server, GetUserId()), my_launcher->sink_conf));
	foreach(lc, my_launcher->sources)
	{
		const char *name;
		ListCell   *lt;
		bool		known = false;

		/* who changes it now will be seen later; a wait for him would not see a stop */
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			continue;
		name = stream_source_load(lfirst_oid(lc))->topic;
		foreach(lt, my_launcher->topics)
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
						my_launcher->row->name)));
	return changed;
}

/* Leaves; the supervisor starts another launcher at once. */
static void
start_anew(void)
{
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[my_launcher->pipeline].expected_exit = true;
	LWLockRelease(shmem->lock);
	proc_exit(0);
}

/* Leaves when the pipeline was stopped, dropped or changed, or what it reads. */
void
launcher_check_wanted(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];

	worker_check();
	if (!slot->wanted || slot->dropped || slot->version != my_launcher->version || worker_clock_set_back() || objects_changed())
	{
		launcher_stop_publisher();
		start_anew();
	}
}

static void
wait_for_reason(const Reason *reason)
{
	worker_set_state(WORKER_WAITING, reason->message);
	pipeline_set_state(my_launcher->pipeline, PIPELINE_WAITING, reason);
	/* who waits for something else is in nobody's way */
	shmem->pipelines[my_launcher->pipeline].starved = false;
	worker_wait(RETRY_MS);
	launcher_check_wanted();
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
	my_launcher->row = worker_load_pipeline(my_launcher->cxt);
	worker_works_by(my_launcher->row->version);
	my_launcher->version = my_launcher->row->version;
	worker_apply_settings(my_launcher->row);
	/* whoever waits for a table that somebody has locked does not see a stop: then we try again */
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	program = program_load(my_launcher->row->procedure, my_launcher->row->trust_owners, my_launcher->row->arrival, my_launcher->row->state_ttl);
	program_check_rights(program);
	PopActiveSnapshot();

	old = MemoryContextSwitchTo(my_launcher->cxt);
	my_launcher->server = program->server;
	my_launcher->sink_server = program->sink_server;
	my_launcher->needs_one_task = program->needs_one_task;
	my_launcher->topics = NIL;
	my_launcher->sources = NIL;
	for (i = 0; i < program->nsources; i++)
	{
		StreamSource *source = stream_source_load(program->sources[i].relid);
		LauncherTopic *topic = NULL;

		my_launcher->sources = lappend_oid(my_launcher->sources, program->sources[i].relid);
		foreach(lc, my_launcher->topics)
			if (strcmp(((LauncherTopic *) lfirst(lc))->name, source->topic) == 0)
				topic = lfirst(lc);
		if (topic == NULL)
		{
			topic = palloc0(sizeof(LauncherTopic));
			topic->name = source->topic;
			my_launcher->topics = lappend(my_launcher->topics, topic);
		}
	}
	my_launcher->conf = stream_server_conf(my_launcher->server, GetUserId());
	my_launcher->sink_conf = OidIsValid(my_launcher->sink_server) ? stream_server_conf(my_launcher->sink_server, GetUserId()) : NULL;
	MemoryContextSwitchTo(old);
	if (program->is_keyed)
	{
		int64		period;

		/* constraints and views may have changed since it was created */
		plan_check_emit(program, catalog_parse_emit(my_launcher->row->emit, &period), my_launcher->row->late);
		plan_check_ttl(program);
		my_launcher->program = program;
	}
	else
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
		my_launcher->version = shmem->pipelines[my_launcher->pipeline].version;
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

	while (my_launcher->client == NULL)
	{
		MemoryContext cxt = AllocSetContextCreate(my_launcher->cxt, "streamproc launcher client", ALLOCSET_SMALL_SIZES);
		ErrorData  *volatile edata = NULL;
		Reason		reason;

		MemoryContextSwitchTo(cxt);
		PG_TRY();
		{
			my_launcher->client = kafka_client_open(my_launcher->conf);
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

/* By a topic, which need not exist: a query that the planner has found empty reads none. */
static char *
ask_cluster_id(int timeout_ms, KafkaError *err)
{
	const char *topic = my_launcher->topics != NIL ? ((LauncherTopic *) linitial(my_launcher->topics))->name : PUBLISHER_TOPIC;

	return kafka_client_cluster_id(my_launcher->client, topic, timeout_ms, err);
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

		launcher_check_wanted();
		open_client();
		old_cxt = MemoryContextSwitchTo(my_launcher->cxt);
		my_launcher->cluster_id = ask_cluster_id(timeout, &err);
		MemoryContextSwitchTo(old_cxt);
		if (my_launcher->cluster_id == NULL)
		{
			wait_for_cluster("", &err);
			continue;
		}
		/* before its topics are missed; once, as it leaves its lists behind */
		if (!checked)
			old = launcher_check_cluster(my_launcher->row, my_launcher->cluster_id);
		checked = true;
		foreach(lc, my_launcher->topics)
		{
			LauncherTopic *topic = lfirst(lc);

			topic->npartitions = kafka_client_partitions(my_launcher->client, topic->name, timeout, &err);
			if (topic->npartitions <= 0)
			{
				wait_for_cluster(topic->name, &err);
				complete = false;
				break;
			}
		}
		if (complete && !launcher_wait_for_partitions(my_launcher->topics, old, my_launcher->cluster_id, &fewer_since_us))
			return;
	}
}

/* Offsets of a topic's partitions, waiting for the cluster as long as it takes. */
void
launcher_offsets(const char *topic, const int32 *partitions, int n, KafkaSeek seek,
				 int64 timestamp_ms, int64 *offsets)
{
	KafkaError	err;

	while (!kafka_client_offsets(my_launcher->client, topic, partitions, n, seek, timestamp_ms,
								 offsets, QUESTION_TIMEOUT, &err))
	{
		wait_for_cluster(topic, &err);
		/* gone since its partitions were asked for */
		if (err.failure == KAFKA_NO_TOPIC)
			start_anew();
	}
}

/* ---- watch ---- */

/* Other partitions of the topics, another cluster?  Asked every streamproc.metadata_interval. */
static bool
partitions_changed(void)
{
	ListCell   *lc;
	KafkaError	err;
	char	   *id;

	foreach(lc, my_launcher->topics)
	{
		LauncherTopic *topic = lfirst(lc);
		int			n = kafka_client_partitions(my_launcher->client, topic->name, WATCH_TIMEOUT, &err);

		/* nothing of a topic that is made anew should be read: the next launcher waits for it, and compares */
		if (n <= 0 && err.failure == KAFKA_NO_TOPIC)
		{
			ereport(LOG,
					(errmsg("pipeline \"%s\": topic \"%s\" does not exist any more", my_launcher->row->name, topic->name)));
			return true;
		}
		/* nobody would answer the next questions either, and epochs wait */
		if (n <= 0 && err.failure == KAFKA_UNREACHABLE)
			return false;
		if (n > 0 && n != topic->npartitions)
		{
			ereport(LOG,
					(errmsg("pipeline \"%s\": topic \"%s\" has %d partitions, it had %d",
							my_launcher->row->name, topic->name, n, topic->npartitions)));
			return true;
		}
	}
	id = ask_cluster_id(WATCH_TIMEOUT, &err);
	if (id != NULL && strcmp(id, my_launcher->cluster_id) != 0)
	{
		ereport(LOG,
				(errmsg("pipeline \"%s\": the brokers belong to cluster %s, they belonged to cluster %s",
						my_launcher->row->name, id, my_launcher->cluster_id)));
		return true;
	}
	if (id != NULL)
		pfree(id);
	return false;
}

/* wait_until_caught_up(): tells the present ends of all partitions. */
static void
answer_ends(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	int64		wanted = slot->ends_wanted;
	ListCell   *lc;
	char		error[SHMEM_MESSAGE_LEN] = "";

	foreach(lc, my_launcher->topics)
	{
		LauncherTopic *topic = lfirst(lc);
		int64	   *ends = palloc(sizeof(int64) * topic->npartitions);
		KafkaError	err;
		int			found = 0;
		int			i;

		if (!kafka_client_offsets(my_launcher->client, topic->name, NULL, topic->npartitions,
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

			if (p->in_use && p->pipeline == my_launcher->pipeline && p->partition < topic->npartitions &&
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

void
launcher_leave(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];

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
	shmem->pipelines[my_launcher->pipeline].looks = looks;
	LWLockRelease(shmem->lock);
}

/* A task was refused what it wanted to read, and nothing is wrong with the topic: not at once again. */
static void
pause_after_looks(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	int64		until = monotonic_us() + worker_backoff_us(slot->looks);
	Reason		error;

	LWLockAcquire(shmem->lock, LW_SHARED);
	error = slot->last_error;
	LWLockRelease(shmem->lock);
	while (slot->looks > 0 && monotonic_us() < until)
		launcher_wait_for(error.sqlstate, error.message, "The pipeline goes on by itself.");
}

bool
launcher_tick(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];

	worker_check();
	if (!slot->wanted || slot->dropped || slot->version != my_launcher->version || slot->reload || worker_clock_set_back())
		return false;
	launcher_show_state();
	if (slot->ends_done != slot->ends_wanted && launcher_tasks_ready())
		answer_ends();
	return true;
}

/* A run of a keyed pipeline cannot go on with one task less: all start anew, from the last commit. */
static void
give_up_run(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];

	launcher_stop_tasks(true);
	launcher_stop_publisher();
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	if (slot->wanted && slot->state != PIPELINE_FAILED)
		pipeline_set_state_locked(slot, PIPELINE_STARTING, NULL);
	LWLockRelease(shmem->lock);
	/* not expected: the supervisor waits a little, longer each time */
	proc_exit(1);
}

static void
watch(void)
{
	PipelineSlot *slot = &shmem->pipelines[my_launcher->pipeline];
	long		timeout;
	int64		started_us = monotonic_us();
	int64		looked_us = 0;

	worker_set_state(WORKER_RUNNING, NULL);
	my_launcher->next_metadata_us = monotonic_us() + (int64) streamproc_metadata_interval * 1000;
	for (;;)
	{
		worker_check();
		timeout = Min(streamproc_metadata_interval, 500);
		if (my_launcher->keyed != NULL && launcher_task_ended())
			give_up_run();
		if (!slot->wanted || slot->dropped || slot->version != my_launcher->version)
		{
			if (my_launcher->keyed != NULL)
				keyed_launcher_stop();
			launcher_stop_tasks(false);
			launcher_stop_publisher();
			launcher_leave();
		}
		if (my_launcher->keyed != NULL)
		{
			long		step = keyed_launcher_step();

			timeout = Min(timeout, step);
			/* one epoch may follow the other without end: all else is looked at now and then */
			if (timeout < 0 && monotonic_us() < looked_us + LOOK_US)
				continue;
			timeout = Max(timeout, 0);
		}
		looked_us = monotonic_us();
		launcher_watch_publisher();
		if ((my_launcher->keyed != NULL ? keyed_launcher_finished() : launcher_watch_tasks()) && launcher_all_sent())
		{
			if (my_launcher->keyed != NULL)
				launcher_stop_tasks(false);
			launcher_stop_publisher();
			worker_finish_pipeline(my_launcher->row->drain ? "drained" : "finished");
			launcher_leave();
		}
		if (slot->reload || worker_clock_set_back() || objects_changed())
		{
			if (my_launcher->keyed != NULL)
				keyed_launcher_stop();
			launcher_stop_tasks(true);
			launcher_stop_publisher();
			launcher_leave();
		}
		launcher_show_state();
		launcher_first_marks(my_launcher->row, my_launcher->pipeline);
		/* tasks that run well for a while have what they want to read */
		if (slot->looks > 0 && slot->state == PIPELINE_RUNNING && monotonic_us() - started_us > 10 * 1000000)
			set_looks(0);
		if (slot->ends_done != slot->ends_wanted && launcher_tasks_ready())
			answer_ends();
		if (monotonic_us() >= my_launcher->next_metadata_us)
		{
			/* nobody answers while the brokers are away */
			if (slot->state != PIPELINE_WAITING &&
				(partitions_changed() || !launcher_look(my_launcher->row, my_launcher->conf, WATCH_TIMEOUT)))
			{
				if (my_launcher->keyed != NULL)
					keyed_launcher_stop();
				launcher_stop_tasks(true);
				launcher_stop_publisher();
				launcher_leave();
			}
			my_launcher->next_metadata_us = monotonic_us() + (int64) streamproc_metadata_interval * 1000;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Of a keyed pipeline: its messages are written by the launcher. */
static void
open_outbox(void)
{
	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	outbox_open(&my_launcher->outbox, my_launcher->row->name, 0, my_launcher->pipeline);
	PopActiveSnapshot();
	checkpoint_commit();
}

void
streamproc_launcher_main(Datum arg)
{
	List	   *old;
	List	   *losses;

	worker_begin(arg, WORKER_LAUNCHER);
	/* rows of a checkpoint are as large as messages, and come and go as they do */
	kafka_keep_memory();

	my_launcher = MemoryContextAllocZero(TopMemoryContext, sizeof(Launcher));
	my_launcher->cxt = AllocSetContextCreate(TopMemoryContext, "streamproc launcher", ALLOCSET_DEFAULT_SIZES);
	my_launcher->pipeline = shmem->workers[my_worker_slot].pipeline;
	MemoryContextSwitchTo(my_launcher->cxt);

	FAULT_POINT("launcher-start");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[my_launcher->pipeline].reload = false;
	if (shmem->pipelines[my_launcher->pipeline].state == PIPELINE_STOPPED)
		pipeline_set_state_locked(&shmem->pipelines[my_launcher->pipeline], PIPELINE_STARTING, NULL);
	LWLockRelease(shmem->lock);
	load_or_fail();
	ask_cluster();
	launcher_clear_workers();
	losses = launcher_find_losses(my_launcher->row, my_launcher->topics, my_launcher->cluster_id, my_launcher->conf, &old);
	if (losses == NIL)
		pause_after_looks();
	else
		set_looks(0);
	partition_slots_free(my_launcher->pipeline);
	FAULT_POINT("launcher-before-settle");
	my_launcher->ntasks = launcher_settle(my_launcher->row, my_launcher->topics, my_launcher->cluster_id, my_launcher->needs_one_task,
										  my_launcher->program != NULL, old, losses);
	FAULT_POINT("launcher-settled");
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	shmem->pipelines[my_launcher->pipeline].ntasks = my_launcher->ntasks;
	LWLockRelease(shmem->lock);
	launcher_start_publisher();
	if (my_launcher->program != NULL)
	{
		keyed_launcher_prepare(my_launcher->ntasks);
		if (my_launcher->program->outbox != NULL)
			open_outbox();
	}
	launcher_start_tasks();
	FAULT_POINT("launcher-started");
	watch();
}

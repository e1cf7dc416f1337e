/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  The one shared struct: slots of pipelines, workers and partitions.
 *
 * LOCKING
 *	  ShmemState->lock (one LWLock) guards which slots are in use and every
 *	  field without another comment.  It is held for copies of a few hundred
 *	  bytes and never over anything that can throw, wait or run user code.
 *	  Counters are atomics: one writer (the worker that owns the slot), any
 *	  number of readers, no lock.
 *	  ConditionVariable "changed" of a pipeline is broadcast whenever its
 *	  state, its workers or the committed position of a partition changed.
 *
 * GENERATIONS
 *	  Each use of a slot raises its generation.  A worker is started with slot
 *	  number and generation in bgw_main_arg and leaves when they do not match:
 *	  so a worker that was started late, for a pipeline that is no longer
 *	  there, does nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_SHMEM_H
#define STREAMPROC_SHMEM_H

#include "postgres.h"

#include "base/base.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#define SHMEM_MAX_TASKS			64
#define SHMEM_TOPIC_LEN			250 /* Kafka's limit is 249 */
#define SHMEM_MESSAGE_LEN		512
#define SHMEM_CHECKPOINTS		32	/* kept per pipeline for stat_checkpoint */
#define SHMEM_LATENCIES			256 /* kept per pipeline for p50 and p99 */
#define SHMEM_CHANGED_DATABASES 64
#define SHMEM_HELD_DATABASES	16
#define SHMEM_CAREFUL_PARTITIONS 256
#define SHMEM_MAX_OPERATORS		16	/* with state, of a pipeline */

typedef enum PipelineState
{
	PIPELINE_STARTING,
	PIPELINE_RUNNING,
	PIPELINE_WAITING,			/* goes on by itself; reason says for what */
	PIPELINE_STOPPED,
	PIPELINE_FAILED				/* goes on when somebody acts; hint says how */
} PipelineState;

typedef enum WorkerRole
{
	WORKER_LAUNCHER,
	WORKER_TASK,
	WORKER_PUBLISHER
} WorkerRole;

typedef enum WorkerState
{
	WORKER_STARTING,
	WORKER_RUNNING,
	WORKER_WAITING,				/* for something outside: broker, topic, lock, retry */
	WORKER_STOPPING,
	WORKER_FINISHED				/* reached the stop offsets of all its partitions */
} WorkerState;

typedef enum CheckpointReason
{
	CHECKPOINT_CAUGHT_UP,		/* the queue was empty */
	CHECKPOINT_INTERVAL,		/* checkpoint_interval under load */
	CHECKPOINT_FULL,			/* rows or bytes held for the commit reached their bound */
	CHECKPOINT_STOP,
	CHECKPOINT_CAREFUL			/* after an error: one batch, one commit */
} CheckpointReason;

typedef struct CheckpointStat
{
	int64		epoch;
	int			task;
	CheckpointReason reason;
	TimestampTz at;
	int64		duration_us;	/* first row taken to commit done */
	int64		commit_us;		/* the commit alone */
	int64		rows_in;
	int64		rows_out;
	int64		bytes;
	/* of pipelines with state, else all 0 */
	int64		early_us;		/* changed entries were copied between batches */
	int64		align_us;		/* until the last task had arrived */
	int64		cut_us;			/* all tasks stood while changed entries were copied */
	int64		output_us;		/* windows fired, output plan run */
	int64		write_us;		/* segments written */
	int64		state_bytes;	/* of the segments written */
} CheckpointStat;

/* An operator with state, for stat_operator. */
typedef struct OperatorStat
{
	bool		in_use;
	int			statement;		/* 1-based */
	int			number;			/* of the operator, as in late_row */
	char		kind[32];
	char		aggregates[256];	/* how each is kept */
	int64		keys;
	int64		panes;
	int64		bytes;
	int64		late_rows;
	int64		fired_windows;
	int64		rows_in;
	int64		rows_out;
	int64		largest_group;	/* entries of the fullest key group */
	int64		mean_group;
} OperatorStat;

/* What stopped or delays a pipeline, for people. */
typedef struct Reason
{
	char		message[SHMEM_MESSAGE_LEN];
	char		detail[SHMEM_MESSAGE_LEN];
	char		hint[256];
	char		sqlstate[6];
	char		topic[SHMEM_TOPIC_LEN]; /* empty: no position */
	int32		partition;
	int64		offset;
	TimestampTz at;
} Reason;

typedef struct PipelineSlot
{
	bool		in_use;
	bool		wanted;			/* the catalog says that it should run */
	bool		drain;			/* run to the present ends, then stop */
	bool		dropped;		/* the catalog has it no more: freed when its workers are gone */
	bool		reload;			/* a task saw that foreign table, server or mapping changed: all start anew */
	Oid			database;
	Oid			owner;
	char		name[NAMEDATALEN];
	uint64		generation;		/* raised when claimed and by each launcher */
	int64		version;		/* of the catalog row that the slot reflects */

	PipelineState state;
	TimestampTz since;
	Reason		reason;			/* of waiting or failed */
	Reason		last_error;		/* stays after recovery */

	pid_t		launcher_pid;	/* 0: none */
	int			launcher_slot;	/* worker slot, -1: none */
	int			ntasks;
	bool		expected_exit;	/* the launcher left by itself: no back-off */
	int64		retry_until;	/* dead letters up to this id are to run again */
	int64		retry_done;		/* ... and none up to this one is left of those */
	int			looks;			/* in a row for which tasks asked and the launcher found nothing */
	bool		not_let_in;		/* the last launcher could not connect as the owner; reason says why */
	int64		bad_rows;
	int64		restarts;		/* of launcher or tasks, unexpected */
	int			failures;		/* in a row, for back-off */
	int64		next_start_us;	/* monotonic: launcher not before */
	bool		starved;		/* found no free workers: one launcher of those at a time */
	/* keyed: messages below these offsets are applied one at a time, by number of the partition in the position; 0: none */
	int64		careful_until[SHMEM_CAREFUL_PARTITIONS];
	bool		over_unfiltered;	/* a condition above window functions throws: it is left to the output plan */
	bool		pass_carefully;	/* an aggregate over them, or over a join, throws: rows that are passed on can be put back */

	/* pipelines with state */
	OperatorStat op[SHMEM_MAX_OPERATORS];
	int64		late_rows;
	int64		state_bytes;	/* in shared memory */
	int64		segment_bytes;	/* stored */
	TimestampTz stream_watermark;	/* W of the last epoch; DT_NOBEGIN: none, DT_NOEND: all is closed */

	/* wait_until_caught_up: the launcher answers requests with end offsets */
	int64		ends_wanted;	/* serial of the last request */
	int64		ends_done;		/* serial whose answer stands in PartitionSlot.target */
	char		ends_error[SHMEM_MESSAGE_LEN];

	pg_atomic_uint64 rows_in;
	pg_atomic_uint64 rows_out;
	pg_atomic_uint64 bytes_in;
	pg_atomic_uint64 checkpoints;

	/*
	 * Pipelines with topics as sinks.  Written: by commits of tasks or
	 * launcher, and by what was there at the start; sent or published: deleted from
	 * the outbox, by the publisher, which is behind Kafka for a moment.
	 */
	int			publisher_slot; /* worker slot, -1: none */
	bool		publishes;		/* it has, or had, a publisher */
	bool		outbox_counted; /* what waited when the launcher came is in the counters */
	bool		publisher_ready;	/* it has compared the broker's position with the outbox */
	/* by stream of the outbox: the last segment committed, the last one that was sent and deleted */
	pg_atomic_uint64 outbox_written[SHMEM_MAX_TASKS];
	pg_atomic_uint64 outbox_sent[SHMEM_MAX_TASKS];
	/* for people, and for the bound: what a process that died did not count is missing */
	pg_atomic_uint64 outbox_rows;
	pg_atomic_uint64 outbox_bytes;
	pg_atomic_uint64 published_rows;
	pg_atomic_uint64 published_bytes;
	int64		published_total;	/* since the pipeline was created */
	TimestampTz outbox_oldest;	/* when the oldest message that waits was written; DT_NOEND: none */
	int64		publish_transactions;
	int64		publish_retries;
	int64		publish_fencings;
	pg_atomic_uint32 publisher_looks;	/* nothing is found yet: who commits something has to wake it */
	pg_atomic_uint32 publisher_turns;	/* with transactions: looks that were announced, see announce_look() in worker/publisher.c */
	pg_atomic_uint64 publish_period_us; /* of its transactions, or how long the last flight took; 0: there was none */
	int64		publish_latency_count;
	int32		publish_latency_us[SHMEM_LATENCIES];	/* commit of the oldest message to commit in Kafka */

	/* the state of keyed operators, of this generation's launcher; 0: none */
	uint32		state_handle;	/* dsa_handle */
	uint64		state_root;		/* dsa_pointer */

	/* rings, written under the lock by the committing worker */
	int64		checkpoint_count;
	CheckpointStat checkpoint[SHMEM_CHECKPOINTS];
	int64		latency_count;
	int32		latency_us[SHMEM_LATENCIES];

	ConditionVariable changed;
} PipelineSlot;

typedef struct WorkerSlot
{
	bool		in_use;
	bool		stop;			/* leave after the last checkpoint */
	bool		failed;			/* has recorded a failure of the pipeline */
	uint64		generation;
	uint64		pipeline_generation;	/* of the launcher that started it */
	int			pipeline;		/* index of the pipeline's slot */
	WorkerRole	role;
	int			task;			/* number of the task */
	pid_t		pid;			/* 0: not attached yet */
	Latch	   *latch;			/* NULL: not attached */
	WorkerState state;
	TimestampTz since;
	char		waits[SHMEM_MESSAGE_LEN];	/* what it waits for */
	Reason		reason;			/* the same with SQLSTATE, place and hint, where a task waits */

	pg_atomic_uint64 rows_in;
	pg_atomic_uint64 rows_out;
	pg_atomic_uint64 batches;
	pg_atomic_uint64 commits;
	pg_atomic_uint64 retries;
} WorkerSlot;

typedef struct PartitionSlot
{
	bool		in_use;
	bool		idle;
	bool		at_end;
	bool		finished;		/* reached its stop offset */
	int64		held_us;		/* monotonic: since when max_skew keeps it from being read, 0: it is read */
	int			pipeline;
	int			task;
	char		topic[SHMEM_TOPIC_LEN];
	int32		partition;
	pg_atomic_uint64 next_offset;	/* taken from Kafka so far */
	pg_atomic_uint64 committed; /* next offset of the last commit */
	pg_atomic_uint64 end_offset;	/* last known end, UINT64_MAX: unknown */
	pg_atomic_uint64 watermark; /* TimestampTz, INT64_MIN: none */
	pg_atomic_uint64 last_record;	/* message timestamp of the last committed record, us since 2000; INT64_MIN: none */
	int64		target;			/* end offset for wait_until_caught_up */
	int64		target_serial;
} PartitionSlot;

typedef struct ShmemState
{
	LWLock	   *lock;
	Latch	   *supervisor_latch;	/* NULL: not running */
	bool		scan_all;		/* too many changed databases to list */
	int			nchanged;
	Oid			changed[SHMEM_CHANGED_DATABASES];
	Oid			scan_failed;	/* database whose scanner did not get through */
	bool		slots_missing;	/* a pipeline found all slots taken */
	struct
	{
		Oid			database;	/* InvalidOid: free */
		pid_t		pid;		/* whose command needs the database without workers */
	}			held[SHMEM_HELD_DATABASES];
	uint64		next_generation;
	int			npipelines;		/* length of the arrays */
	int			nworkers;
	int			npartitions;
	PipelineSlot *pipelines;
	WorkerSlot *workers;
	PartitionSlot *partitions;
} ShmemState;

extern ShmemState *shmem;

/* in shmem.c */
extern void shmem_install_hooks(void);

/* in slot.c; "locked" in a name: the caller holds shmem->lock */
extern int	pipeline_slot_find_locked(Oid database, const char *name);
extern int	pipeline_slot_claim_locked(Oid database, const char *name);
extern void pipeline_slot_free_locked(int slot);
extern void pipeline_set_state(int slot, PipelineState state, const Reason *reason);
extern void pipeline_set_state_locked(PipelineSlot *slot, PipelineState state, const Reason *reason);
extern void pipeline_changed(int slot);

extern int	worker_slot_claim_locked(int pipeline, WorkerRole role, int task);
extern void worker_slot_free_locked(int slot);
extern int	worker_slot_attach(Datum main_arg, WorkerRole role);
extern Datum worker_slot_arg(int slot);
extern void worker_set_state(WorkerState state, const char *waits);
/* a task that waits for what its pipeline then waits for */
extern void worker_set_waiting(const Reason *reason);
extern void worker_slot_wake(int slot);
extern void pipeline_wake_launcher_locked(int pipeline);
extern void pipeline_wake_tasks_locked(int pipeline);
extern void pipeline_wake_publisher(int pipeline);
/* was everything sent that was written, or up to these segments? */
extern bool pipeline_all_sent(int pipeline, const uint64 *written);
extern int	pipeline_workers_locked(int pipeline, WorkerRole role, int except);
/* this process's own slot, or -1 */
extern int	my_worker_slot;

extern int	partition_slot_claim(int pipeline, int task, const char *topic, int32 partition);
extern void partition_slots_free(int pipeline);

extern void database_changed(Oid database);
extern void database_dropped(Oid database);
/* no scanner and no launcher is started in the database until it is released, or our process ends */
extern void database_hold(Oid database);
extern void database_release(Oid database);
extern bool database_held_locked(Oid database);

extern bool reason_same(const Reason *a, const Reason *b);
extern void reason_set(Reason *reason, const char *sqlstate, const char *message,
					   const char *detail, const char *hint);

static inline void
counter_add(pg_atomic_uint64 *counter, uint64 n)
{
	/* one writer: no need of a locked instruction */
	pg_atomic_write_u64(counter, pg_atomic_read_u64(counter) + n);
}

#endif							/* STREAMPROC_SHMEM_H */

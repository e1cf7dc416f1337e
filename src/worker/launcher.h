/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  A launcher: between launcher.c, launcher_tasks.c, loss.c, identity.c and settle.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_LAUNCHER_H
#define STREAMPROC_LAUNCHER_H

#include "postgres.h"

#include "postmaster/bgworker.h"
#include "checkpoint/checkpoint.h"
#include "worker/worker.h"

/* A lock on a table is waited for in pieces, so that the launcher sees a stop. */
#define LOCK_TIMEOUT	"1s"

typedef struct LauncherTopic
{
	char	   *name;
	int			npartitions;
} LauncherTopic;

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
	struct KeyedLauncher *keyed;	/* of a keyed pipeline, else NULL */
	Program    *program;		/* of a keyed pipeline: it runs the statements */
	Oid			sink_server;	/* of topics that are written; InvalidOid: there are none */
	KafkaConf  *sink_conf;		/* NULL where there are none */
	TaskHandle	publisher;
	Outbox		outbox;			/* of a keyed pipeline */
} Launcher;

extern Launcher *my_launcher;

/* ---- launcher_tasks.c ---- */

/* waits until no task of an earlier run is left */
extern void launcher_clear_workers(void);
/* all tasks or none; leaves, as waiting, where there are not enough workers */
extern void launcher_start_tasks(void);
/* tells them to commit and leave, and waits */
extern void launcher_stop_tasks(bool restart);
/* has a task ended that was started? of keyed pipelines, where none is started again alone */
extern bool launcher_task_ended(void);
/* starts again what has ended; true: all have finished */
extern bool launcher_watch_tasks(void);
extern void launcher_show_state(void);
/* has each task its partitions in the shared slots? */
extern bool launcher_tasks_ready(void);

/* the publisher, where there are topics as sinks: starts it, and waits until tasks may start */
extern void launcher_start_publisher(void);
extern void launcher_watch_publisher(void);
extern void launcher_stop_publisher(void);
/* is all that was written sent? */
extern bool launcher_all_sent(void);

/* ---- launcher.c ---- */

/* leaves when the pipeline was stopped, dropped or changed, or what it reads */
extern void launcher_check_wanted(void);

/* something that passes: shown as "waiting" for a moment; leaves where the pipeline is not wanted any more */
extern void launcher_wait_for(const char *sqlstate, const char *message, const char *hint);
/* waits for the cluster as long as it takes; leaves, for another launcher to ask again, where topic or partition are gone */
/* what has to be done now and then, also while the launcher waits for its tasks; false: it is to stop or start anew */
extern bool launcher_tick(void);
extern void launcher_leave(void) pg_attribute_noreturn();
extern void launcher_offsets(const char *topic, const int32 *partitions, int n, KafkaSeek seek,
							 int64 timestamp_ms, int64 *offsets);

/* ---- identity.c ---- */

typedef enum RecordVerdict
{
	RECORD_UNKNOWN,				/* it is not there, or nobody answered */
	RECORD_SAME,
	RECORD_OTHER
} RecordVerdict;

/* A record that should be in a partition. */
typedef struct RecordLook
{
	char	   *topic;
	int32		partition;
	RecordMark	record;

	bool		seen;			/* the partition answered */
	RecordVerdict result;
	RecordMark	found;			/* of RECORD_OTHER */
} RecordLook;

extern bool record_mark_known(const RecordMark *mark);
extern void launcher_look_at_records(KafkaConf *conf, RecordLook *looks, int n, int timeout_ms);
extern TopicMark *topic_mark_find(List *marks, const char *topic, int32 partition);
/* while the pipeline runs; false: a topic was made anew, the next launcher decides */
extern bool launcher_look(PipelineRow *row, KafkaConf *conf, int timeout_ms);
extern void launcher_first_marks(PipelineRow *row, int pipeline);

/* ---- loss.c ---- */

/* A saved position that does not fit what the cluster has. */
typedef struct LauncherLoss
{
	DataLoss	row;			/* for the table */
	bool		moved_only;		/* nothing is skipped: no row, nobody is asked */
	bool		anew;			/* other records: their end, watermark and mark are forgotten */
	bool		proof;			/* the others of the topic follow from it */
	bool		other_topic;	/* an option "topic" says something else now */
	const char *sqlstate;
	char	   *message;		/* for people */
	char	   *detail;
	int64		records;		/* lost at most, -1: nobody knows */
} LauncherLoss;

/* the saved positions (PositionRow); fails the pipeline where they belong to another cluster and that is not accepted */
extern List *launcher_check_cluster(PipelineRow *row, const char *cluster_id);
/* true: a topic has fewer partitions than are saved, and it has been waited: ask again */
extern bool launcher_wait_for_partitions(List *topics, List *old, const char *cluster_id, int64 *since_us);
/*
 * Compares the saved positions with the cluster; no task runs.  Returns the
 * losses (LauncherLoss) to go on with; fails the pipeline where they are not
 * accepted.  *old: the positions.
 */
extern List *launcher_find_losses(PipelineRow *row, List *topics, const char *cluster_id, KafkaConf *conf, List **old);
extern LauncherLoss *launcher_loss_of(List *losses, const char *topic, int32 partition);

/* ---- settle.c ---- */

/* writes the position rows of this run; returns the number of tasks */
extern int	launcher_settle(PipelineRow *row, List *topics, const char *cluster_id, bool one_task, bool one_row,
							List *old, List *losses);

#endif							/* STREAMPROC_LAUNCHER_H */

/*-------------------------------------------------------------------------
 *
 * catalog.h
 *	  The extension's own tables, read and written by table access methods.
 *
 * LOCKING
 *	  catalog_pipeline_lock() takes a heavyweight lock on one pipeline's name
 *	  until the end of the transaction; every writer of a row of "pipeline"
 *	  holds it, and every writer of rows of task_position but the tasks.  A
 *	  task changes its own row only; who changes or deletes it as well locks
 *	  the tuple first, and raises the generation where the task must not
 *	  commit any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_CATALOG_H
#define STREAMPROC_CATALOG_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "shmem/shmem.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#define CATALOG_SCHEMA			"streamproc"
#define CATALOG_PIPELINE_SCHEMA "streamproc_pipeline"
/* of the SQL objects that this library works with: default_version in streamproc.control */
#define CATALOG_VERSION			"1.1"

/* A row of streamproc.pipeline with what pg_proc says of its procedure. */
typedef struct PipelineRow
{
	char		name[NAMEDATALEN];
	pg_uuid_t	id;
	int64		version;
	bool		active;
	bool		drain;
	char	   *start;
	char	   *stop;
	int			parallelism;	/* 0: NULL */
	int64		checkpoint_interval;	/* us */
	bool		synchronous_commit;
	List	   *settings;		/* of char *: name, value, name, value ... */
	int64		system_identifier;
	Oid			database;
	TimestampTz created;
	char	   *state;			/* NULL, "stopped", "finished", "failed" */
	TimestampTz state_since;
	Reason		error;			/* message empty: none */
	bool		dead_letters;	/* on_error: else it fails at a bad row */
	int			max_consecutive_errors;
	bool		lose_data;		/* on_data_loss: go on at what is left */
	bool		accept_data_loss;	/* the same once, at the next start */
	bool		trust_owners;

	ItemPointerData tid;
	Oid			procedure;		/* InvalidOid: has none (being dropped, or damaged) */
	Oid			owner;
} PipelineRow;

/* in pipeline.c */
extern bool catalog_installed(void);
/* of the extension in this database, NULL: there is none */
extern char *catalog_version(void);
extern const char *catalog_version_hint(const char *version);
/* throws 55000 unless it is CATALOG_VERSION */
extern void catalog_require_version(void);
extern void catalog_pipeline_lock(const char *name);
extern PipelineRow *catalog_pipeline_get(const char *name, bool missing_ok);
extern List *catalog_pipelines(void);
extern void catalog_pipeline_insert(PipelineRow *row);
extern void catalog_pipeline_update(PipelineRow *row);
extern bool catalog_pipeline_delete(const char *name);
extern Oid	catalog_procedure(const char *name, Oid *owner);
extern bool catalog_pipeline_is_local(const PipelineRow *row);
extern void catalog_mark_changed(void); /* the supervisor is told at COMMIT */
extern void catalog_mark_database(Oid database);	/* of another database, also at COMMIT */
extern bool catalog_changed_in_transaction(void);
extern void catalog_install_callbacks(void);

/* ---- positions (position.c) ---- */

typedef struct PartitionPosition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;
	int64		stop_offset;	/* -1: none */
	TimestampTz watermark;		/* DT_NOBEGIN: none */
	TimestampTz record_time;	/* DT_NOBEGIN: none */
} PartitionPosition;

typedef struct PositionRow
{
	char		pipeline[NAMEDATALEN];
	int			task;
	int64		generation;
	int64		epoch;
	char	   *cluster_id;
	int			nparts;
	PartitionPosition *parts;

	/* where the row stood at the last look; belongs to this process */
	ItemPointerData tid;
	Oid			relfilenode;
} PositionRow;

/* all rows of a pipeline, in the current memory context */
extern List *catalog_positions(const char *pipeline);
extern void catalog_position_insert(PositionRow *row);
/* deletes them; what was deleted, as it stood last */
extern List *catalog_positions_delete(const char *pipeline);
/*
 * A new run has new ends: forgets stop offsets.  "old_text": nothing of the
 * present tasks may be committed after this transaction.
 */
extern void catalog_positions_new_run(const char *pipeline, bool old_text);
/*
 * Writes "row" over the stored row.  Ends the process unless the stored row is of
 * the same pipeline, task and generation and holds the offsets "was".  On
 * success *tid, *relfilenode tell where the new row stands: the caller stores
 * them in the row only after COMMIT.
 */
extern void catalog_position_update(const PositionRow *row, const int64 *was,
									ItemPointerData *tid, Oid *relfilenode);

#endif							/* STREAMPROC_CATALOG_H */

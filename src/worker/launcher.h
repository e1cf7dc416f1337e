/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  Between launcher.c and settle.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_LAUNCHER_H
#define STREAMPROC_LAUNCHER_H

#include "postgres.h"

#include "worker/worker.h"

typedef struct LauncherTopic
{
	char	   *name;
	int			npartitions;
} LauncherTopic;

/* in launcher.c: waits for the cluster as long as it takes */
extern void launcher_offsets(const char *topic, const int32 *partitions, int n, KafkaSeek seek,
							 int64 timestamp_ms, int64 *offsets);

/* in identity.c: fails the pipeline where a topic was made anew */
extern void launcher_check_records(PipelineRow *row, List *topics, KafkaConf *conf, int timeout_ms);

/* in settle.c */
/* the saved positions (PositionRow); fails the pipeline where they belong to another cluster */
extern List *launcher_check_cluster(PipelineRow *row, const char *cluster_id);
/* writes the position rows of this run; returns the number of tasks */
extern int	launcher_settle(PipelineRow *row, List *topics, const char *cluster_id, bool one_task);

#endif							/* STREAMPROC_LAUNCHER_H */

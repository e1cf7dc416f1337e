/*-------------------------------------------------------------------------
 *
 * start.h
 *	  The option "start" of a pipeline.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_START_H
#define STREAMPROC_START_H

#include "postgres.h"

typedef enum StartKind
{
	START_EARLIEST,
	START_LATEST,
	START_TIMESTAMP,
	START_OFFSETS
} StartKind;

typedef struct StartOption
{
	StartKind	kind;
	int64		timestamp_ms;	/* Unix epoch */
	int			n;				/* offsets by partition */
	int32	   *partitions;
	int64	   *offsets;
} StartOption;

/* in start.c; throws 22023 for what is none of the forms */
extern void start_option_parse(const char *text, StartOption *start);
/* -1: the partition is not listed */
extern int64 start_option_offset(const StartOption *start, int32 partition);

#endif							/* STREAMPROC_START_H */

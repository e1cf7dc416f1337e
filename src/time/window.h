/*-------------------------------------------------------------------------
 *
 * window.h
 *	  Slices and windows of event time; see window.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_WINDOW_H
#define STREAMPROC_WINDOW_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"

typedef enum WindowUnit
{
	WINDOW_USEC,				/* fixed time */
	WINDOW_DAY,					/* days of the calendar of the zone */
	WINDOW_MONTH
} WindowUnit;

typedef struct WindowScale
{
	WindowUnit	unit;
	int64		step;			/* length of a slice, in units; > 0 */
	int64		slices;			/* slices of a window */
	pg_tz	   *zone;
	TimestampTz origin;			/* WINDOW_USEC: where slice 0 begins */
	Timestamp	local_origin;	/* the others: the same, as the zone's clocks show it */
} WindowScale;

/* what tumble(), hop() and cumulate() call their arguments, for messages */
typedef enum WindowKind
{
	WINDOW_TUMBLE,
	WINDOW_HOP,
	WINDOW_CUMULATE
} WindowKind;

/*
 * Slices of "step", windows of "size"; origin NULL: the default.  Throws 22023
 * where they are not possible.
 */
extern void window_scale_init(WindowScale *scale, WindowKind kind, const Interval *step, const Interval *size,
							  const char *zone, const TimestampTz *origin);
/* The slice that a finite time lies in; throws 22008 at the ends of the range. */
extern int64 window_slice(const WindowScale *scale, TimestampTz at);
/* Where a slice begins. */
extern TimestampTz window_instant(const WindowScale *scale, int64 slice);

#endif							/* STREAMPROC_WINDOW_H */

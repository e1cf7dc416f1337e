/*-------------------------------------------------------------------------
 *
 * time.h
 *	  Watermarks: how far event time has come, per partition.
 *
 *	  watermark = largest event time seen - watermark_delay; it never goes
 *	  back, and it is saved with the position.
 *
 *	  A partition is idle when it stands at its end and nothing came for
 *	  idle_timeout on the monotonic clock.  Silence alone is not idleness: a
 *	  stalled broker, or a pipeline that waits for a lock, is silent too.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_TIME_H
#define STREAMPROC_TIME_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "time/session.h"
#include "time/window.h"

#define WATERMARK_NONE	DT_NOBEGIN

typedef struct Watermark
{
	TimestampTz value;			/* WATERMARK_NONE: no event yet */
	bool		idle;
} Watermark;

/* in watermark.c */
extern void watermark_advance(Watermark *watermark, TimestampTz event_time, int64 delay);
extern bool watermark_update_idle(Watermark *watermark, bool at_end, int64 last_data_us,
								  int64 now_us, int64 idle_timeout);
extern bool event_time_too_far(TimestampTz event_time, TimestampTz now, int64 max_ahead);

#endif							/* STREAMPROC_TIME_H */

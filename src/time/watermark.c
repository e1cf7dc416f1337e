/*-------------------------------------------------------------------------
 *
 * watermark.c
 *	  Pure functions over watermarks; see time.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "time/time.h"

/* A row with this event time was taken.  Infinite event times say nothing. */
void
watermark_advance(Watermark *watermark, TimestampTz event_time, int64 delay)
{
	int64		value;

	if (TIMESTAMP_NOT_FINITE(event_time))
		return;
	if (pg_sub_s64_overflow(event_time, delay, &value) || value < MIN_TIMESTAMP)
		value = MIN_TIMESTAMP;
	if (watermark->value == WATERMARK_NONE || value > watermark->value)
		watermark->value = value;
}

/* Returns whether the partition is idle now. */
bool
watermark_update_idle(Watermark *watermark, bool at_end, int64 last_data_us,
					  int64 now_us, int64 idle_timeout)
{
	watermark->idle = at_end && now_us - last_data_us >= idle_timeout;
	return watermark->idle;
}

/* One event from the far future would close every window: it is an error of its row. */
bool
event_time_too_far(TimestampTz event_time, TimestampTz now, int64 max_ahead)
{
	if (TIMESTAMP_IS_NOEND(event_time))
		return true;
	return event_time > now && event_time - now > max_ahead;
}

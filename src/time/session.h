/*-------------------------------------------------------------------------
 *
 * session.h
 *	  Sessions of event time: when one ends and the next begins; see session.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_SESSION_H
#define STREAMPROC_SESSION_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* gap or max_span in us; throws 22023 where it is not positive, or has months */
extern int64 session_length(const Interval *interval, const char *what);
/* [first, last + gap) as a tstzrange; throws 22008 at the end of time */
extern Datum session_range(TimestampTz first, TimestampTz last, int64 gap);

/* Is a row that comes "gap" or less after another of the same session?  at >= last. */
static inline bool
session_goes_on(TimestampTz last, TimestampTz at, int64 gap)
{
	/* a difference of two timestamps may be more than an int64 */
	return (uint64) at - (uint64) last <= (uint64) gap;
}

#endif							/* STREAMPROC_SESSION_H */

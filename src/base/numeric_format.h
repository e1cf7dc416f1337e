/*-------------------------------------------------------------------------
 *
 * numeric_format.h
 *	  How PostgreSQL stores a numeric: a header of 16 bits (short) or 32 bits,
 *	  then digits to the base 10000, the first one's weight in the header.
 *
 * It is the format on disk, so it stays as it is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_NUMERIC_FORMAT_H
#define STREAMPROC_NUMERIC_FORMAT_H

#include "postgres.h"

#define NUM_BASE			10000
#define NUM_BASE_DIGITS		4
#define NUM_SHORT			0x8000
#define NUM_SHORT_NEGATIVE	0x2000
#define NUM_SHORT_DSCALE_SHIFT 7
#define NUM_SHORT_DSCALE_MAX 63
#define NUM_SHORT_WEIGHT_SIGN 0x0040
#define NUM_SHORT_WEIGHT_MASK 0x003F
#define NUM_SHORT_WEIGHT_MAX 63
#define NUM_SHORT_WEIGHT_MIN (-64)
#define NUM_LONG_NEGATIVE	0x4000
#define NUM_LONG_DSCALE_MAX 0x3FFF
#define NUM_NAN				0xC000
#define NUM_PINF			0xD000
#define NUM_NINF			0xF000

/* dscale and weight within the bounds of a short one */
static inline uint16
numeric_short_header(bool negative, int dscale, int weight)
{
	return (uint16) (NUM_SHORT | (negative ? NUM_SHORT_NEGATIVE : 0) | (dscale << NUM_SHORT_DSCALE_SHIFT) |
					 (weight < 0 ? NUM_SHORT_WEIGHT_SIGN : 0) | (weight & NUM_SHORT_WEIGHT_MASK));
}

#endif							/* STREAMPROC_NUMERIC_FORMAT_H */

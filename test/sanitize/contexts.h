/*-------------------------------------------------------------------------
 *
 * contexts.h
 *	  Included before all else where the module is built with AddressSanitizer
 *	  (stage sanitize): its memory contexts take small blocks.
 *
 * AddressSanitizer sees what malloc() gives, and a memory context cuts one such
 * block into chunks that it knows nothing of.  With blocks of 1 kB a chunk of
 * more than 128 bytes is a block of its own: what is read behind it, or after
 * its context was reset, is seen.  Contexts that the server makes, and smaller
 * chunks within a block, are not covered.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_TEST_CONTEXTS_H
#define STREAMPROC_TEST_CONTEXTS_H

#ifndef __cplusplus

#include "postgres.h"

#include "utils/memutils.h"

#undef ALLOCSET_DEFAULT_SIZES
#undef ALLOCSET_SMALL_SIZES
#undef ALLOCSET_START_SMALL_SIZES
#define ALLOCSET_DEFAULT_SIZES		0, 1024, 1024
#define ALLOCSET_SMALL_SIZES		0, 1024, 1024
#define ALLOCSET_START_SMALL_SIZES	0, 1024, 1024

#endif

#endif							/* STREAMPROC_TEST_CONTEXTS_H */

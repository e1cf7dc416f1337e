/*-------------------------------------------------------------------------
 *
 * segments.h
 *	  Between the files that read and write segments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_SEGMENTS_H
#define FUZZ_SEGMENTS_H

#include "postgres.h"

#include "operator/join.h"

#include "fuzz.h"
#include "shim.h"

/* ---- specs.c: operators as pipelines could have them, one of each kind; the number is that of the area ---- */

enum
{
	OP_NATIVE,					/* exact keys, windows */
	OP_FUNCTIONS,				/* originals, aggregates with states of all kinds, state_ttl */
	OP_DISTINCT,				/* grouping sets and values that were seen */
	OP_SESSION,					/* with max_span */
	OP_TOP,
	OP_OVER,					/* event time: everything that is kept of a key, history, rows that wait */
	OP_ARRIVAL,					/* the last rows alone */
	OP_FIRST,					/* DISTINCT ON with state_ttl */
	OP_JOIN,					/* full join */
	OP_ASOF,
	OPERATORS
};

#define FUZZ_SIGNATURE	UINT64CONST(0x5eed)
#define FUZZ_EPOCH		7
#define MOST_COLUMNS	13

extern OperatorSpec fuzz_specs[OPERATORS];
extern StateShape fuzz_shapes[OPERATORS];
extern StateArea *fuzz_area;

extern void specs_init(void);
/* the area is empty again */
extern void area_empty(void);

/* ---- shim_state.c ---- */

/* all that was allocated in shared memory is freed */
extern void shim_shared_free(void);
extern int64 shim_shared_chunks;

/* ---- the two kinds of segments: read one, false where it is refused; make one; change one, and let it look whole ---- */

/* state.c, make.c */
extern bool state_input(const char *data, Size len);
extern void state_make(Random *random, FuzzBuffer *out);
extern void state_whole(Random *random, FuzzBuffer *segment);
/* what stands in the area as a segment */
extern void state_write(FuzzBuffer *out);

/* why the last one was refused */
extern const char *fuzz_wrong;

/* outbox.c */
extern bool outbox_input(const char *data, Size len);
extern void outbox_make(Random *random, FuzzBuffer *out);
extern void outbox_whole(Random *random, FuzzBuffer *segment);

/* ---- part_*.c: what is private in a file of the product ---- */

extern void part_over_write(int group, const OverRow *rows, int n);
extern void part_over_read(int group, const char *key, uint16 meta);
extern void part_wait(OperatorSpec *spec, StatePane *pane, int group, OperatorRow **rows, int n, bool bare);
extern void part_release(OperatorSpec *spec, StatePane *pane, int group);
extern void part_session(OperatorSpec *spec, const char *bytes, Size len);
extern void part_transition(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base);

/* looks at each byte */
extern void touch(const void *bytes, Size len);
extern void touch_datum(Datum value, bool isnull, int16 len, bool byval);

#endif							/* FUZZ_SEGMENTS_H */

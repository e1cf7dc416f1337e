/*-------------------------------------------------------------------------
 *
 * base.h
 *	  What every room of streamproc may use: settings, arena, fault points,
 *	  error helpers and the clock.
 *
 * Every .c file includes "postgres.h" first, then the headers it needs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_BASE_H
#define STREAMPROC_BASE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* in guc.c */
extern int	streamproc_max_pipelines;
extern int	streamproc_max_workers;
extern int	streamproc_max_partitions;
extern int	streamproc_default_parallelism;
extern int	streamproc_min_commit_interval; /* ms */
extern int	streamproc_early_copy;	/* entries */
extern int	streamproc_stop_timeout;	/* ms */
extern int	streamproc_metadata_interval;	/* ms */
extern int	streamproc_connect_timeout; /* ms */
extern int	streamproc_queue_size;	/* kB, of a task, over all partitions */
extern int	streamproc_restart_backoff_max; /* ms */
extern int	streamproc_state_memory;	/* kB, of a pipeline */
extern int	streamproc_outbox_size; /* kB, of a pipeline */
extern char *streamproc_fault_points;
extern char *streamproc_allowed_brokers;	/* a list for host_list_parse() */

extern void guc_define(void);
extern void guc_define_always(void);
extern void guc_worker_signals(void);
extern void guc_reload(void);

/*
 * Arena: a bump allocator for the values of one batch.  Memory comes from one
 * memory context in blocks; arena_reset() keeps the first block, so a task in
 * its steady state allocates nothing.  Values are MAXALIGNed.
 */
typedef struct Arena
{
	char	   *next;			/* first free byte of the current block */
	char	   *end;			/* end of the current block */
	MemoryContext cxt;			/* where blocks come from */
	char	   *first;			/* first block, kept over resets */
	Size		first_size;
	struct ArenaBlock *blocks;	/* further blocks, freed by reset */
} Arena;

extern void arena_init(Arena *arena, MemoryContext cxt, Size first_size);
extern void arena_reset(Arena *arena);
extern void *arena_alloc_slow(Arena *arena, Size size);

/* "size" bytes, MAXALIGNed; throws only when memory is exhausted */
static inline void *
arena_alloc(Arena *arena, Size size)
{
	char	   *p = arena->next;

	size = MAXALIGN(size);
	if (unlikely(size > (Size) (arena->end - p)))
		return arena_alloc_slow(arena, size);
	arena->next = p + size;
	return p;
}

/* in fault.c: see src/base/README.md */
extern bool fault_points_active;
extern void fault_point_hit(const char *name);
extern bool fault_points_check_text(const char *text);
extern void fault_points_reset(void);

#define FAULT_POINT(name) \
	do { \
		if (unlikely(fault_points_active)) \
			fault_point_hit(name); \
	} while (0)

/* from the epoch of Kafka's timestamps (1970) to PostgreSQL's (2000); needs datatype/timestamp.h */
#define KAFKA_EPOCH_MS \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

/* in util.c */
extern const char *closest_match(const char *wanted, const char *const *names, int n);
extern int64 monotonic_us(void);
/* CPU time of this thread: what other processes do does not count */
extern int64 cpu_us(void);

#endif							/* STREAMPROC_BASE_H */

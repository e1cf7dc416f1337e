/*-------------------------------------------------------------------------
 *
 * shim.h
 *	  What the harness may ask of the stand-ins for PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_SHIM_H
#define FUZZ_SHIM_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "pgtime.h"

/* types that have no own decoder: OIDs of the shim's, beside PostgreSQL's own (name, int4[], ...) */
#define FUZZ_POSINT			20001	/* domain over int4, > 0 */
#define FUZZ_NONNULL		20002	/* domain over text, NOT NULL */
#define FUZZ_POINT			20003	/* (x int4, a dropped column, "Y" text) */
#define FUZZ_POINT_ARRAY	20004
#define FUZZ_EXPANDED		20005	/* the input function gives an expanded object */
#define FUZZ_FIXED16		20006	/* 16 bytes by reference */
#define FUZZ_CSTRING		20007	/* typlen -2 */
#define FUZZ_NEST			20008	/* (a int4[], p point, j jsonb, "name with ""quotes""" text) */
#define FUZZ_BOX			20009
#define FUZZ_BOX_ARRAY		20010	/* delimiter ';' */

/* jsonb and strings longer than this are refused, as PostgreSQL does from 256 MB and 1 GB on */
#define SHIM_MAX_JSONB		(64 * 1024)
#define SHIM_MAX_JSONB_PAIRS 2000
#define SHIM_MAX_STRING		(128 * 1024)

struct pg_tz
{
	char		name[16];
};

extern struct pg_tz shim_session_zone;
extern struct pg_tz shim_utc;

/* encoding of the database: PG_UTF8, PG_LATIN1 or PG_SQL_ASCII */
extern int	shim_encoding;

/* memory that is alive */
extern int64 shim_chunks;
extern int64 shim_contexts;
extern int64 shim_indexers;
extern int	shim_context_chunks(MemoryContext context);
/* the n-th allocation from now on throws, once; 0: none */
extern void shim_fail_allocation(int n);
extern bool shim_allocation_failed(void);
extern bool shim_count_allocation(void);

/* the last error that was thrown */
extern int	shim_error_state;
extern char shim_error_message[1024];

/* is the text an array or row literal of the type, as its input function wants it? */
extern bool shim_literal_ok(Oid type, const char *s);
extern char *shim_numeric_out(const char *numeric);
extern int	shim_check_numeric(const char *numeric);
extern void shim_stack_base(void *base);

#endif							/* FUZZ_SHIM_H */

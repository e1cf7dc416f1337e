/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the files of test/fuzz share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "postgres.h"

#include "codec/codec_private.h"
#include "shim.h"

/* between the messages of one input; no message holds it */
#define FUZZ_SEPARATOR	'\x1e'

/* ---- sets.c: tables whose columns the messages are decoded for ---- */

#define SET_ENCODES		1		/* rows can be written again, and read back the same */
#define SET_COSTLY		2		/* hundreds of columns */

typedef struct FuzzSet
{
	const char *name;
	CodecFormat format;
	int			encoding;
	char		delimiter;
	int			flags;
	int			ncolumns;
	CodecColumn *columns;
	CodecColumn *plain;			/* the same with names in UTF-8 */
	int			ntargets;		/* length of values and isnull */
	bool	   *wanted;			/* which of these a needed column has */
} FuzzSet;

extern FuzzSet *fuzz_sets;
extern int	fuzz_nsets;
/* sets of one format are [first, first + n) */
extern void fuzz_sets_of(CodecFormat format, int *first, int *n);
extern void fuzz_make_sets(void);

/* ---- harness.c ---- */

extern CodecFormat fuzz_format;
extern const char *const fuzz_formats;	/* for the command line */
extern const bool fuzz_binary;	/* an input is one message, in which any byte may stand */
extern int64 fuzz_accepted;
extern int64 fuzz_rejected;
extern bool fuzz_thorough;		/* all sets, all allocations fail in turn */

extern void fuzz_init(void);
/* one input: messages with separators; "set": index, or -1: chosen by the input */
extern void fuzz_input(const char *data, Size len, int set);
/* forgets what the decoders have seen */
extern void fuzz_forget(void);
/* the messages that the decoder in work has seen, and the one in work */
extern void fuzz_history(const char **data, Size *len);
/* is the document (record) well formed, whatever the columns are?  By an independent reader. */
extern bool fuzz_well_formed(const char *data, Size len);
extern void fuzz_finding(const char *fmt,...) pg_attribute_printf(1, 2) pg_attribute_noreturn();

/* ---- reference.c: plain readers of both formats, to compare with ---- */

extern bool ref_utf8_valid(const char *s, Size len);
/* a whole document, nested at most JSON_MAX_DEPTH deep */
extern bool ref_json_valid(const char *s, Size len);
/* behind the value at p, which has been checked */
extern const char *ref_json_skip(const char *p, const char *end);
extern const char *ref_space(const char *p, const char *end);
/* the value of a column in a document that is an object; false: there is none */
extern bool ref_json_find(const FuzzSet *set, int column, const char *doc, Size len,
						  const char **value, Size *value_len);
/* content of a string; 0 or the sqlstate of what PostgreSQL cannot hold; dst: room for len bytes */
extern int	ref_unescape(const char *s, Size len, char *dst, Size *dst_len);

typedef struct RefField
{
	char	   *text;			/* a chunk that is exactly as long */
	Size		len;
	bool		quoted;
} RefField;

/* fields of a record; false: it is malformed.  To be freed by ref_csv_free(). */
extern bool ref_csv_parse(const char *data, Size len, char delimiter, RefField **fields, int *n);
extern void ref_csv_free(RefField *fields, int n);

/* ---- check.c ---- */

typedef enum OutcomeStatus
{
	OUTCOME_ACCEPTED,
	OUTCOME_REJECTED,
	OUTCOME_THROWN
} OutcomeStatus;

typedef struct Outcome
{
	OutcomeStatus status;
	int			sqlstate;
	int			column;
	char		message[1024];
	char	   *row;			/* the values as bytes, malloc()ed */
	Size		row_len;
} Outcome;

/* checks the values and writes them into the outcome; "exact": they are in the exact arena */
extern void check_row(const FuzzSet *set, const Datum *values, const bool *isnull, bool exact, Outcome *outcome);
extern void check_error(const FuzzSet *set, const CodecError *err);
extern void outcome_append(Outcome *outcome, const void *data, Size len);
extern void outcome_append_value(const FuzzSet *set, int column, Datum value, Outcome *outcome);
extern void outcome_free(Outcome *outcome);
extern void outcome_same(const FuzzSet *set, const Outcome *a, const Outcome *b, const char *what);

/* An arena each of whose values is a chunk of its own. */
extern void exact_arena_init(Arena *arena, MemoryContext cxt);
extern bool exact_arena_value(const void *value, Size len);

/* ---- oracle.c: what must come out, by the plain readers and one value at a time ---- */

extern void oracle_predict(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Outcome *outcome);

/* oracle_value.c: the value of a jsonb, array or row column must be what this text makes */
extern void oracle_check_value(CodecDecoder *decoder, int column, const char *text, Size len, Datum value, Arena *arena);

/* ---- random.c ---- */

typedef struct Random
{
	uint64		state;
} Random;

typedef struct FuzzBuffer
{
	char	   *data;
	Size		len;
	Size		size;
} FuzzBuffer;

extern uint64 random_next(Random *random);
extern uint32 random_below(Random *random, uint32 n);
extern void buffer_append(FuzzBuffer *buffer, const char *data, Size len);
extern void buffer_string(FuzzBuffer *buffer, const char *s);

/* ---- mutate.c ---- */

/* a message for the columns of the set, mostly a good one */
extern void generate_message(Random *random, const FuzzSet *set, FuzzBuffer *out);
/* changes "out" at some places; "other": an input to take parts from */
extern void mutate_message(Random *random, const FuzzSet *set, FuzzBuffer *out, const char *other, Size other_len);

#endif							/* FUZZ_H */

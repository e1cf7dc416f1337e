/*-------------------------------------------------------------------------
 *
 * codec.h
 *	  Bytes of a message to Datums, and rows to bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_CODEC_H
#define STREAMPROC_CODEC_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "lib/stringinfo.h"

#include "base/base.h"

typedef enum CodecFormat
{
	CODEC_JSON,
	CODEC_CSV,
	CODEC_RAW
} CodecFormat;

/* A column that is read from (or written to) the value of a message. */
typedef struct CodecColumn
{
	const char *name;			/* column name: for messages, and for matching */
	const char *path;			/* json: 'a.b.c' of the column option, or NULL: by name */
	int			target;			/* index into values/isnull of decode and encode */
	Oid			type;
	int32		typmod;
	Oid			collation;
	bool		not_null;		/* NULL is an error of the row (23502) */
	bool		needed;			/* decode only where set */
} CodecColumn;

/* Why a message could not be decoded.  Holds no payload beyond a short excerpt of the offending value. */
typedef struct CodecError
{
	int			sqlstate;
	int			column;			/* index into the columns, or -1: the message as a whole */
	char		message[320];
	char		detail[320];	/* empty: none */
} CodecError;

typedef struct CodecOptions
{
	CodecFormat format;
	char		delimiter;		/* csv, default ',' */
} CodecOptions;

typedef struct CodecDecoder CodecDecoder;
typedef struct CodecEncoder CodecEncoder;

/* by the name of the format option; false: unknown */
extern bool codec_format_by_name(const char *name, CodecFormat *format);
extern int	codec_format_names(const char **names, int max);
/*
 * Can the columns be read and written in this format?  raw wants exactly one
 * column of type text, varchar, bytea, json or jsonb; otherwise throws
 * ERRCODE_FDW_INVALID_... with a hint.
 */
extern void codec_check_columns(const CodecOptions *options, const CodecColumn *columns, int ncolumns);

extern CodecDecoder *codec_decoder_create(const CodecOptions *options,
										  const CodecColumn *columns, int ncolumns,
										  MemoryContext cxt);
/*
 * Decodes one value (data may be NULL: a tombstone, every column NULL) into
 * values[column->target], isnull[column->target] for the needed columns.
 * By-reference values live in the arena.  Returns false and fills "err" for a
 * value that is wrong.  Types without an own decoder go through their input
 * function, which may throw; the caller then still knows which message it
 * was, and codec_decoder_current_column() says which column.
 */
extern bool codec_decode(CodecDecoder *decoder, const char *data, Size len,
						 Datum *values, bool *isnull, Arena *arena, CodecError *err);
extern int	codec_decoder_current_column(CodecDecoder *decoder);
/*
 * After the first 1000 messages: for each needed column that no message had
 * a field for, the nearest field name seen (or NULL).  Returns the number of
 * such columns; *checked tells whether 1000 messages have been seen.
 */
extern int	codec_decoder_unseen(CodecDecoder *decoder, bool *checked,
								 const char **columns, const char **nearest, int max);
extern void codec_decoder_destroy(CodecDecoder *decoder);

extern CodecEncoder *codec_encoder_create(const CodecOptions *options,
										  const CodecColumn *columns, int ncolumns,
										  MemoryContext cxt);
/* appends the encoded row to "out"; may throw (output functions) */
extern void codec_encode(CodecEncoder *encoder, const Datum *values, const bool *isnull, StringInfo out);

#endif							/* STREAMPROC_CODEC_H */

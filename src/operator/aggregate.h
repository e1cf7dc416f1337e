/*-------------------------------------------------------------------------
 *
 * aggregate.h
 *	  Aggregates by PostgreSQL's functions: between the files of the room.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_AGGREGATE_H
#define STREAMPROC_AGGREGATE_H

#include "postgres.h"

#include "operator/operator.h"

#define TRANSITION_HAS		1	/* there is a state */
#define TRANSITION_NULL		2	/* its value is null */
#define TRANSITION_NONE		4	/* ... because no value has come yet */

/* in the fixed part of an entry */
typedef struct TransitionState
{
	union
	{
		StateBlob	blob;
		Datum		value;
	}			u;
	uint64		flags;
} TransitionState;

/* The functions of an aggregate and the value at work. */
typedef struct Transition
{
	Node	   *context;		/* an AggState */
	Oid			collation;
	Oid			type;
	int16		len;
	bool		byval;
	bool		internal;
	int			ninputs;		/* aggregated arguments */
	Datum		init;
	bool		init_null;
	int16		result_len;
	bool		result_byval;
	char		result_align;
	FmgrInfo	trans;
	FmgrInfo	final;
	FmgrInfo	combine;
	FmgrInfo	serial;
	FmgrInfo	deserial;
	FunctionCallInfo call;
	FunctionCallInfo final_call;	/* NULL: the value is the result */
	int			nfinal;
	FunctionCallInfo combine_call;	/* NULL: none */
	FunctionCallInfo serial_call;	/* NULL: none */
	FunctionCallInfo deserial_call;

	Datum		value;
	bool		isnull;
	bool		none;			/* null because no value has come yet */

	/* buffered.c */
	int			nsort;			/* columns to sort by */
	int			ndistinct;		/* the first so many must differ */
	struct BufferedSort *sort;
} Transition;

/* ---- top.c: what stands in the blob of an entry ---- */

/* in front */
typedef struct TopHead
{
	uint32		rows;
	uint32		last;			/* where the last one begins */
} TopHead;

/* A row of the list; of a pair its second place (RowPlace), and its columns follow. */
typedef struct TopRow
{
	uint32		size;			/* with this header */
	int32		part;			/* where the message came from: see OperatorRow */
	int64		offset;
} TopRow;

/* bytes of the second place */
static inline Size
top_second_size(const OperatorSpec *spec)
{
	return spec->row_places > 1 ? sizeof(RowPlace) : 0;
}

/* ---- transition.c ---- */

/* can its state be kept as bytes? */
extern bool transition_keeps(const AggregateSpec *agg);
extern void transition_fresh(OperatorSpec *spec, AggregateSpec *agg);
extern Datum transition_result(OperatorSpec *spec, AggregateSpec *agg, const Datum *direct, const bool *direct_null, bool *isnull);

#endif							/* STREAMPROC_AGGREGATE_H */

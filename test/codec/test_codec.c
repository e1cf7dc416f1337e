/*-------------------------------------------------------------------------
 *
 * test_codec.c
 *	  Makes the codec room callable from SQL.
 *
 * A decoder lives as long as the calling query's function cache, so it sees
 * many messages, as in a task.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "codec/codec.h"
#include "codec/json_index.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(test_codec_decode);
PG_FUNCTION_INFO_V1(test_codec_error);
PG_FUNCTION_INFO_V1(test_codec_encode);
PG_FUNCTION_INFO_V1(test_codec_unseen);
PG_FUNCTION_INFO_V1(test_codec_bench);
PG_FUNCTION_INFO_V1(test_codec_bounds);
PG_FUNCTION_INFO_V1(test_codec_bytes);

typedef struct TestState
{
	CodecDecoder *decoder;
	CodecEncoder *encoder;
	TupleDesc	desc;
	Datum	   *values;
	bool	   *isnull;
	Arena		arena;
} TestState;

static TestState *
get_state(FunctionCallInfo fcinfo, bool encode, int paths_arg, int delimiter_arg)
{
	TestState  *state = fcinfo->flinfo->fn_extra;
	MemoryContext cxt = fcinfo->flinfo->fn_mcxt;
	MemoryContext old;
	CodecOptions options = {CODEC_JSON, ','};
	CodecColumn *columns;
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	char	   *format;
	Datum	   *paths = NULL;
	bool	   *path_nulls = NULL;
	int			npaths = 0;
	int			n = 0;
	int			i;

	if (state != NULL)
		return state;
	old = MemoryContextSwitchTo(cxt);
	format = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!codec_format_by_name(format, &options.format))
		elog(ERROR, "unknown format \"%s\"", format);
	if (paths_arg >= 0 && !PG_ARGISNULL(paths_arg))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(paths_arg), TEXTOID, -1, false, TYPALIGN_INT,
						  &paths, &path_nulls, &npaths);
	if (delimiter_arg >= 0 && !PG_ARGISNULL(delimiter_arg))
		options.delimiter = *text_to_cstring(PG_GETARG_TEXT_PP(delimiter_arg));

	state = palloc0(sizeof(TestState));
	state->desc = lookup_rowtype_tupdesc_copy(type, -1);
	columns = palloc0(sizeof(CodecColumn) * Max(state->desc->natts, 1));
	for (i = 0; i < state->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(state->desc, i);
		CodecColumn *column = &columns[n];

		if (att->attisdropped)
			continue;
		column->name = NameStr(att->attname);
		if (i < npaths && !path_nulls[i])
			column->path = TextDatumGetCString(paths[i]);
		column->target = i;
		column->type = att->atttypid;
		column->typmod = att->atttypmod;
		column->collation = att->attcollation;
		column->not_null = att->attnotnull;
		column->needed = true;
		n++;
	}
	state->values = palloc0(sizeof(Datum) * Max(state->desc->natts, 1));
	state->isnull = palloc0(sizeof(bool) * Max(state->desc->natts, 1));
	arena_init(&state->arena, cxt, 64 * 1024);
	if (encode)
		state->encoder = codec_encoder_create(&options, columns, n, cxt);
	else
		state->decoder = codec_decoder_create(&options, columns, n, cxt);
	MemoryContextSwitchTo(old);
	fcinfo->flinfo->fn_extra = state;
	return state;
}

static bool
decode(TestState *state, bytea *value, CodecError *err)
{
	int			i;

	for (i = 0; i < state->desc->natts; i++)
	{
		state->values[i] = (Datum) 0;
		state->isnull[i] = true;
	}
	arena_reset(&state->arena);
	return codec_decode(state->decoder, value == NULL ? NULL : VARDATA_ANY(value),
						value == NULL ? 0 : VARSIZE_ANY_EXHDR(value),
						state->values, state->isnull, &state->arena, err);
}

Datum
test_codec_decode(PG_FUNCTION_ARGS)
{
	TestState  *state = get_state(fcinfo, false, 3, 4);
	CodecError	err;

	if (!decode(state, PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_PP(2), &err))
		ereport(ERROR,
				(errcode(err.sqlstate),
				 errmsg("%s", err.message),
				 err.detail[0] ? errdetail("%s", err.detail) : 0));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(state->desc, state->values, state->isnull)));
}

Datum
test_codec_error(PG_FUNCTION_ARGS)
{
	TestState  *state = get_state(fcinfo, false, 3, 4);
	CodecError	err;

	memset(&err, 0x7f, sizeof(err));
	if (decode(state, PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_PP(2), &err))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s %d: %s", unpack_sql_state(err.sqlstate),
											  err.column, err.message)));
}

Datum
test_codec_encode(PG_FUNCTION_ARGS)
{
	TestState  *state = get_state(fcinfo, true, 2, 3);
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	HeapTupleData tuple;
	StringInfoData out;

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, state->desc, state->values, state->isnull);
	initStringInfo(&out);
	codec_encode(state->encoder, state->values, state->isnull, &out);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(out.data, out.len));
}

static void
get_values(Datum array, Datum **values, int *n)
{
	deconstruct_array(DatumGetArrayTypeP(array), BYTEAOID, -1, false, TYPALIGN_INT, values, NULL, n);
}

Datum
test_codec_unseen(PG_FUNCTION_ARGS)
{
	TestState  *state = get_state(fcinfo, false, 3, -1);
	CodecError	err;
	Datum	   *values;
	int			n;
	int			i;
	const char *columns[32];
	const char *nearest[32];
	Datum		result[32];
	bool		checked;

	get_values(PG_GETARG_DATUM(2), &values, &n);
	for (i = 0; i < n; i++)
	{
		if (!decode(state, DatumGetByteaPP(values[i]), &err))
			elog(ERROR, "%s", err.message);
	}
	n = codec_decoder_unseen(state->decoder, &checked, columns, nearest, 32);
	if (!checked)
		PG_RETURN_NULL();
	for (i = 0; i < n; i++)
		result[i] = CStringGetTextDatum(psprintf("%s: %s", columns[i], nearest[i] ? nearest[i] : "-"));
	PG_RETURN_ARRAYTYPE_P(construct_array(result, n, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
test_codec_bench(PG_FUNCTION_ARGS)
{
	TestState  *state = get_state(fcinfo, false, -1, -1);
	int			loops = PG_GETARG_INT32(3);
	CodecError	err;
	Datum	   *values;
	int			n;
	int			i;
	int			k;
	int64		start;

	get_values(PG_GETARG_DATUM(2), &values, &n);
	start = monotonic_us();
	for (k = 0; k < loops; k++)
	{
		CHECK_FOR_INTERRUPTS();
		arena_reset(&state->arena);
		for (i = 0; i < n; i++)
		{
			bytea	   *value = (bytea *) DatumGetPointer(values[i]);

			if (!codec_decode(state->decoder, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
							  state->values, state->isnull, &state->arena, &err))
				elog(ERROR, "%s", err.message);
		}
	}
	PG_RETURN_FLOAT8((monotonic_us() - start) * 1000.0 / ((double) loops * n));
}

/*
 * json_doc.c copies and pads, so this holds the indexer to its contract with
 * exactly the padding it asks for, and the UTF-8 check with none.
 */
Datum
test_codec_bounds(PG_FUNCTION_ARGS)
{
	Size		page = sysconf(_SC_PAGESIZE);
	Size		room = 64 * page;
	char	   *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	JsonIndexer *indexer = json_indexer_create();
	Datum	   *values;
	int			n;
	int			i;
	int			runs = 0;

	if (base == MAP_FAILED || indexer == NULL || mprotect(base + room, page, PROT_NONE) != 0)
		elog(ERROR, "could not map memory");
	get_values(PG_GETARG_DATUM(0), &values, &n);
	for (i = 0; i < n; i++)
	{
		bytea	   *value = DatumGetByteaPP(values[i]);
		Size		len;

		for (len = 1; len <= VARSIZE_ANY_EXHDR(value) && len < room - JSON_INDEX_PADDING; len++)
		{
			const uint32_t *pos;
			uint32_t	npos;
			char	   *start = base + room - JSON_INDEX_PADDING - len;

			memcpy(start, VARDATA_ANY(value), len);
			memset(start + len, 0, JSON_INDEX_PADDING);
			if (json_indexer_run(indexer, (uint8_t *) start, len, &pos, &npos) == JSON_INDEX_OK &&
				(pos[npos] != len || pos[npos + 1] != len))
				elog(ERROR, "no sentinel");
			start = base + room - len;
			memcpy(start, VARDATA_ANY(value), len);
			(void) json_utf8_valid(start, len);
			runs++;
		}
	}
	json_indexer_destroy(indexer);
	munmap(base, room + page);
	PG_RETURN_INT32(runs);
}

Datum
test_codec_bytes(PG_FUNCTION_ARGS)
{
	Datum		value = PG_GETARG_DATUM(0);
	int16		len;
	bool		byval;

	get_typlenbyval(get_fn_expr_argtype(fcinfo->flinfo, 0), &len, &byval);
	if (byval)
		PG_RETURN_BYTEA_P(cstring_to_text_with_len((char *) &value, sizeof(value)));
	if (len == -1)
	{
		struct varlena *v = PG_DETOAST_DATUM(value);

		PG_RETURN_BYTEA_P(cstring_to_text_with_len(VARDATA(v), VARSIZE(v) - VARHDRSZ));
	}
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(DatumGetPointer(value), len));
}

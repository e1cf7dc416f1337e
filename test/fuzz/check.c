/*-------------------------------------------------------------------------
 *
 * check.c
 *	  What a decoder gave: is it sound, and is it the same as before?
 *
 * Also the arena whose values are chunks of their own, and the wrappers (by
 * the linker's --wrap) that take away what a decoder's kept buffers hold
 * beyond what was asked for, so that AddressSanitizer sees exact bounds there
 * too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include <sanitizer/asan_interface.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fuzz.h"

#define UNTOUCHED		0xc5

/* ---- exact arena ---- */

static struct
{
	char	   *start;
	Size		size;
}		   *exact_values;
static int	nexact;
static int	exact_room;
static MemoryContext exact_context;

extern void *real_arena_alloc_slow(Arena *arena, Size size);

/* An arena that is always full: src/base/base.h comes here for each value. */
void
exact_arena_init(Arena *arena, MemoryContext cxt)
{
	static char nothing;

	memset(arena, 0, sizeof(*arena));
	arena->next = arena->end = &nothing;
	exact_context = cxt;
	arena->cxt = cxt;
	nexact = 0;
}

void *
arena_alloc_slow(Arena *arena, Size size)
{
	if (arena->cxt != exact_context || arena->first != NULL)
		return real_arena_alloc_slow(arena, size);
	if (nexact == exact_room)
	{
		exact_room = Max(2 * exact_room, 64);
		exact_values = realloc(exact_values, exact_room * sizeof(*exact_values));
	}
	exact_values[nexact].start = MemoryContextAllocHuge(arena->cxt, size);
	exact_values[nexact].size = size;
	memset(exact_values[nexact].start, UNTOUCHED, size);
	return exact_values[nexact++].start;
}

/* The value is one that was allocated, and nothing is written behind it. */
bool
exact_arena_value(const void *value, Size len)
{
	int			i;
	Size		k;

	for (i = nexact - 1; i >= 0; i--)
	{
		if (exact_values[i].start != value)
			continue;
		if (len > exact_values[i].size)
			return false;
		for (k = len; k < exact_values[i].size; k++)
		{
			if ((unsigned char) exact_values[i].start[k] != UNTOUCHED)
				return false;
		}
		return true;
	}
	return false;
}

/* ---- exact buffers ---- */

extern void __real_json_doc_copy(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len);
extern bool __real_json_doc_load(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len,
								 int column, CodecError *err);
extern char *__real_scratch_reserve(CodecDecoder *decoder, Scratch *scratch, Size size);

extern void __wrap_json_doc_copy(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len);
extern bool __wrap_json_doc_load(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len,
								 int column, CodecError *err);
extern char *__wrap_scratch_reserve(CodecDecoder *decoder, Scratch *scratch, Size size);

static void
open_document(JsonDoc *doc)
{
	if (doc->buf != NULL)
		ASAN_UNPOISON_MEMORY_REGION(doc->buf, doc->bufsize);
}

static void
close_document(JsonDoc *doc)
{
	Size		used = doc->len + JSON_INDEX_PADDING;

	ASAN_POISON_MEMORY_REGION(doc->buf + used, doc->bufsize - used);
}

void
__wrap_json_doc_copy(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len)
{
	open_document(doc);
	__real_json_doc_copy(decoder, doc, data, len);
	close_document(doc);
}

bool
__wrap_json_doc_load(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len, int column, CodecError *err)
{
	bool		ok;

	open_document(doc);
	ok = __real_json_doc_load(decoder, doc, data, len, column, err);
	close_document(doc);
	return ok;
}

char *
__wrap_scratch_reserve(CodecDecoder *decoder, Scratch *scratch, Size size)
{
	char	   *result;

	if (scratch->data != NULL)
		ASAN_UNPOISON_MEMORY_REGION(scratch->data, scratch->size);
	result = __real_scratch_reserve(decoder, scratch, size);
	if (result != NULL)
		ASAN_POISON_MEMORY_REGION(result + size, scratch->size - size);
	return result;
}

/* ---- simdjson: its memory is not the shim's ---- */

int64		shim_indexers;

extern JsonIndexer *__real_json_indexer_create(void);
extern void __real_json_indexer_destroy(JsonIndexer *indexer);
extern JsonIndexStatus __real_json_indexer_run(JsonIndexer *indexer, const uint8_t *data, size_t len,
											   const uint32_t **positions, uint32_t *npositions);
extern JsonIndexer *__wrap_json_indexer_create(void);
extern void __wrap_json_indexer_destroy(JsonIndexer *indexer);
extern JsonIndexStatus __wrap_json_indexer_run(JsonIndexer *indexer, const uint8_t *data, size_t len,
											   const uint32_t **positions, uint32_t *npositions);

JsonIndexer *
__wrap_json_indexer_create(void)
{
	if (!shim_count_allocation())
		return NULL;
	shim_indexers++;
	return __real_json_indexer_create();
}

void
__wrap_json_indexer_destroy(JsonIndexer *indexer)
{
	shim_indexers--;
	__real_json_indexer_destroy(indexer);
}

JsonIndexStatus
__wrap_json_indexer_run(JsonIndexer *indexer, const uint8_t *data, size_t len,
						const uint32_t **positions, uint32_t *npositions)
{
	if (!shim_count_allocation())
		return JSON_INDEX_MEMORY;
	return __real_json_indexer_run(indexer, data, len, positions, npositions);
}

/* What the codec makes of an array or object must be a literal of the type. */
extern bool __real_json_build_literal(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
									  StringInfo out, CodecError *err);
extern bool __wrap_json_build_literal(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
									  StringInfo out, CodecError *err);

bool
__wrap_json_build_literal(CodecDecoder *decoder, int column, const JsonDoc *doc, uint32 token,
						  StringInfo out, CodecError *err)
{
	const TypeInfo *info = decoder->columns[column].info;
	char		first = doc->buf[doc->pos[token]];
	bool		scalars = true;
	int			i;

	if (!__real_json_build_literal(decoder, column, doc, token, out, err))
		return false;
	if (strlen(out->data) != out->len)
		fuzz_finding("column %d: the literal holds a NUL", column);
	/* where all below are scalars, whatever the document holds makes a literal that can be read */
	if (info->shape == SHAPE_ARRAY)
		scalars = info->element->shape < SHAPE_ARRAY;
	for (i = 0; i < info->natts; i++)
	{
		if (info->attributes[i] != NULL && info->attributes[i]->shape >= SHAPE_ARRAY)
			scalars = false;
	}
	if (scalars && first == (info->shape == SHAPE_ARRAY ? '[' : '{') &&
		!shim_literal_ok(decoder->columns[column].def.type, out->data))
		fuzz_finding("column %d: not a literal of its type: %s", column, out->data);
	return true;
}

/* ---- outcomes ---- */

void
outcome_append(Outcome *outcome, const void *data, Size len)
{
	outcome->row = realloc(outcome->row, outcome->row_len + len + 1);
	memcpy(outcome->row + outcome->row_len, data, len);
	outcome->row_len += len;
}

void
outcome_free(Outcome *outcome)
{
	free(outcome->row);
	outcome->row = NULL;
	outcome->row_len = 0;
}

static Size
value_size(Oid type, Datum value)
{
	switch (type)
	{
		case UUIDOID:
		case FUZZ_FIXED16:
			return 16;
		case NAMEOID:
			return NAMEDATALEN;
		case FUZZ_CSTRING:
			return strlen(DatumGetCString(value)) + 1;
		default:
			if (!VARATT_IS_4B_U(DatumGetPointer(value)) || VARSIZE(DatumGetPointer(value)) < VARHDRSZ)
				fuzz_finding("value of type %u has the header %08x", type, *(uint32 *) DatumGetPointer(value));
			return VARSIZE(DatumGetPointer(value));
	}
}

static bool
by_value(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
		case FUZZ_POSINT:
			return true;
		default:
			return false;
	}
}

void
outcome_append_value(const FuzzSet *set, int column, Datum value, Outcome *outcome)
{
	Oid			type = set->columns[column].type;
	Size		size;

	outcome_append(outcome, &column, sizeof(column));
	/* there are many NaNs, the C library reads "nan(1)" as another one than "nan"; they are written alike */
	if ((type == FLOAT4OID && isnan(DatumGetFloat4(value))) || (type == FLOAT8OID && isnan(DatumGetFloat8(value))))
		value = 0;
	if (by_value(type))
	{
		outcome_append(outcome, &value, sizeof(value));
		return;
	}
	size = value_size(type, value);
	outcome_append(outcome, &size, sizeof(size));
	outcome_append(outcome, DatumGetPointer(value), size);
}

static void
check_text_value(const FuzzSet *set, int column, const char *s, Size len)
{
	if (memchr(s, '\0', len) != NULL)
		fuzz_finding("column %d: text holds a NUL", column);
	if (set->encoding == PG_UTF8 && !ref_utf8_valid(s, len))
		fuzz_finding("column %d: text is not UTF-8", column);
}

static void
check_value(const FuzzSet *set, int column, Datum value)
{
	const CodecColumn *col = &set->columns[column];
	const char *s = NULL;
	Size		len = 0;
	bool		same = true;

	if (!by_value(col->type) && value_size(col->type, value) >= VARHDRSZ &&
		col->type != UUIDOID && col->type != NAMEOID && col->type != FUZZ_FIXED16 && col->type != FUZZ_CSTRING)
	{
		s = VARDATA(DatumGetPointer(value));
		len = VARSIZE(DatumGetPointer(value)) - VARHDRSZ;
	}
	switch (col->type)
	{
		case BOOLOID:
			same = value == 0 || value == 1;
			break;
		case INT2OID:
			same = value == Int16GetDatum(DatumGetInt16(value));
			break;
		case INT4OID:
		case FLOAT4OID:
		case FUZZ_POSINT:
			same = value == Int32GetDatum(DatumGetInt32(value));
			break;
		case DATEOID:
			same = value == DateADTGetDatum(DatumGetDateADT(value));
			if (!DATE_NOT_FINITE(DatumGetDateADT(value)) && !IS_VALID_DATE(DatumGetDateADT(value)))
				fuzz_finding("column %d: date %d is out of range", column, DatumGetDateADT(value));
			break;
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
			/* the end itself by rounding at a precision: PostgreSQL has it too */
			if (!TIMESTAMP_NOT_FINITE(DatumGetTimestamp(value)) && !IS_VALID_TIMESTAMP(DatumGetTimestamp(value)) &&
				!(col->typmod >= 0 && DatumGetTimestamp(value) == END_TIMESTAMP))
				fuzz_finding("column %d: time %lld is out of range", column, (long long) DatumGetTimestamp(value));
			break;
		case NUMERICOID:
			if (shim_check_numeric(DatumGetPointer(value)) != 0)
				fuzz_finding("column %d: numeric breaks the rule at line %d of shim_jsonb.c", column,
							 shim_check_numeric(DatumGetPointer(value)));
			break;
		case TEXTOID:
		case JSONOID:
		case JSONBOID:
		case FUZZ_NONNULL:
		case FUZZ_EXPANDED:
			check_text_value(set, column, s, len);
			break;
		case VARCHAROID:
		case BPCHAROID:
			check_text_value(set, column, s, len);
			if (col->typmod >= 0 && pg_mbstrlen_with_len(s, len) > col->typmod - VARHDRSZ)
				fuzz_finding("column %d: more than %d characters", column, col->typmod - VARHDRSZ);
			if (col->type == BPCHAROID && col->typmod >= 0 && pg_mbstrlen_with_len(s, len) != col->typmod - VARHDRSZ)
				fuzz_finding("column %d: not %d characters", column, col->typmod - VARHDRSZ);
			break;
		default:
			break;
	}
	if (!same)
		fuzz_finding("column %d: stray bits in the value %016llx", column, (unsigned long long) value);
}

void
check_row(const FuzzSet *set, const Datum *values, const bool *isnull, bool exact, Outcome *outcome)
{
	int			i;
	int			minus = -1;

	for (i = 0; i < set->ncolumns; i++)
	{
		const CodecColumn *col = &set->columns[i];
		uint8		null;

		memcpy(&null, &isnull[col->target], 1);
		if (!col->needed)
			continue;
		if (null > 1)
			fuzz_finding("column %d: the value is not set", i);
		if (null)
		{
			if (col->not_null)
				fuzz_finding("column %d: NULL where it must not be", i);
			outcome_append(outcome, &minus, sizeof(minus));
			continue;
		}
		if (exact && !by_value(col->type) &&
			!exact_arena_value(DatumGetPointer(values[col->target]), value_size(col->type, values[col->target])))
			fuzz_finding("column %d: the value is not in the arena, or something is written behind it", i);
		check_value(set, i, values[col->target]);
		outcome_append_value(set, i, values[col->target], outcome);
	}
}

void
check_error(const FuzzSet *set, const CodecError *err)
{
	Size		len = strnlen(err->message, sizeof(err->message));

	if (err->column < -1 || err->column >= set->ncolumns)
		fuzz_finding("column %d of the error is out of range", err->column);
	if (len == 0 || len == sizeof(err->message))
		fuzz_finding("the error has no message");
	if (strnlen(err->detail, sizeof(err->detail)) == sizeof(err->detail))
		fuzz_finding("the error's detail does not end");
	if (set->encoding == PG_UTF8 && !ref_utf8_valid(err->message, len))
		fuzz_finding("the error's message is not UTF-8: %s", err->message);
	switch (err->sqlstate)
	{
		case ERRCODE_INVALID_TEXT_REPRESENTATION:
		case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
		case ERRCODE_INVALID_DATETIME_FORMAT:
		case ERRCODE_DATETIME_VALUE_OUT_OF_RANGE:
		case ERRCODE_STRING_DATA_RIGHT_TRUNCATION:
		case ERRCODE_CHARACTER_NOT_IN_REPERTOIRE:
		case ERRCODE_UNTRANSLATABLE_CHARACTER:
		case ERRCODE_BAD_COPY_FILE_FORMAT:
		case ERRCODE_NOT_NULL_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			break;
		default:
			fuzz_finding("sqlstate %08x of the error is none of the documented ones: %s", err->sqlstate, err->message);
	}
}

void
outcome_same(const FuzzSet *set, const Outcome *a, const Outcome *b, const char *what)
{
	static const char *const names[] = {"accepted", "rejected", "thrown"};

	/* an empty message: any */
	if (a->status != b->status || a->sqlstate != b->sqlstate || a->column != b->column ||
		(a->message[0] != '\0' && b->message[0] != '\0' && strcmp(a->message, b->message) != 0))
		fuzz_finding("%s: %s, column %d, \"%s\"; but %s, column %d, \"%s\"", what,
					 names[a->status], a->column, a->message, names[b->status], b->column, b->message);
	if (a->status == OUTCOME_ACCEPTED &&
		(a->row_len != b->row_len || (a->row_len > 0 && memcmp(a->row, b->row, a->row_len) != 0)))
	{
		Size		i = 0;

		while (i < a->row_len && i < b->row_len && a->row[i] == b->row[i])
			i++;
		fuzz_finding("%s: the rows differ (%zu and %zu bytes, first at %zu)", what, a->row_len, b->row_len, i);
	}
}

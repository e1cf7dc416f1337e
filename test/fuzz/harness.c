/*-------------------------------------------------------------------------
 *
 * harness.c
 *	  One input through the decoders, with all that must hold.
 *
 * An input is one message, or several with separators between them.  For a
 * table (sets.c) each message is decoded by a decoder that has seen others
 * before, twice, and by a new one; all must agree with each other and with
 * the oracle.  What is accepted is encoded and decoded again.  Some
 * allocation fails, after which the decoder must go on as if nothing was.
 *
 * LLVMFuzzerTestOneInput() is the entry for libFuzzer; driver.c has an
 * engine of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "fuzz.h"

/* a decoder is made anew after this much */
#define KEPT_MESSAGES	100
#define KEPT_BYTES		(128 * 1024)
#define MAX_TARGETS		1024
#define GUARDED_SIZE	(1024 * 1024)

typedef struct KeptState
{
	MemoryContext cxt;
	CodecDecoder *decoder;
	CodecEncoder *encoder;		/* NULL: the set cannot be encoded */
	MemoryContext encoder_cxt;
	Arena		arena;
	FuzzBuffer		history;
	int			nmessages;
} KeptState;

const char *const fuzz_formats = "json|csv|raw";
const bool	fuzz_binary = false;
CodecFormat fuzz_format = CODEC_JSON;
int64		fuzz_accepted;
int64		fuzz_rejected;
bool		fuzz_thorough;

static KeptState *kept_states;
static const FuzzSet *current_set;
static KeptState *current_state;
static const char *current_message;
static Size current_len;
static char *guarded;
static JsonIndexer *guarded_indexer;

extern int	LLVMFuzzerTestOneInput(const uint8 *data, size_t size);
extern int	LLVMFuzzerInitialize(int *argc, char ***argv);

void
fuzz_finding(const char *fmt,...)
{
	va_list		args;
	Size		i;

	fprintf(stderr, "FINDING: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	if (current_set != NULL)
		fprintf(stderr, "\n  set: %s", current_set->name);
	fprintf(stderr, "\n  message of %zu bytes: ", current_len);
	for (i = 0; i < current_len && i < 2000; i++)
	{
		unsigned char c = current_message[i];

		if (c >= 0x20 && c < 0x7f)
			fputc(c, stderr);
		else
			fprintf(stderr, "\\x%02x", c);
	}
	fprintf(stderr, "\n");
	abort();
}

void
fuzz_history(const char **data, Size *len)
{
	*data = current_state != NULL ? current_state->history.data : NULL;
	*len = current_state != NULL ? current_state->history.len : 0;
}

bool
fuzz_well_formed(const char *data, Size len)
{
	RefField   *fields;
	int			n;
	bool		ok;

	switch (fuzz_format)
	{
		case CODEC_JSON:
			return ref_json_valid(data, len) && *ref_space(data, data + len) == '{';
		case CODEC_CSV:
			ok = ref_utf8_valid(data, len) && memchr(data, '\0', len) == NULL;
			if (ok)
			{
				ok = ref_csv_parse(data, len, ',', &fields, &n);
				ref_csv_free(fields, n);
			}
			return ok;
		case CODEC_RAW:
			return ref_utf8_valid(data, len) && memchr(data, '\0', len) == NULL;
	}
	return false;
}

/* ---- decoding ---- */

static void
thrown(CodecDecoder *decoder, Outcome *outcome)
{
	outcome->status = OUTCOME_THROWN;
	outcome->sqlstate = shim_error_state;
	outcome->column = codec_decoder_current_column(decoder);
	strlcpy(outcome->message, shim_error_message, sizeof(outcome->message));
	FlushErrorState();
}

/* Decodes into values that nobody has set; the row is in the outcome. */
static void
run_decode(const FuzzSet *set, CodecDecoder *decoder, const char *data, Size len, Arena *arena, bool exact,
		   Datum *values, bool *isnull, Outcome *outcome)
{
	MemoryContext caller = AllocSetContextCreate(TopMemoryContext, "caller", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(caller);
	sigjmp_buf *stack = PG_exception_stack;
	CodecError	err;
	volatile bool ok = false;
	int			i;

	memset(outcome, 0, sizeof(*outcome));
	memset(&err, 0x7f, sizeof(err));
	memset(values, 0x5a, sizeof(Datum) * set->ntargets);
	memset(isnull, 2, set->ntargets);
	PG_TRY();
	{
		ok = codec_decode(decoder, data, len, values, isnull, arena, &err);
		if (CurrentMemoryContext != caller)
			fuzz_finding("codec_decode() left another memory context");
		if (shim_context_chunks(caller) != 0)
			fuzz_finding("codec_decode() left %d chunks in the caller's memory context", shim_context_chunks(caller));
		if (shim_context_chunks(decoder->tmp) != 0)
			fuzz_finding("codec_decode() left %d chunks in the context of one value", shim_context_chunks(decoder->tmp));
		if (codec_decoder_current_column(decoder) != -1)
			fuzz_finding("codec_decode() returns with current column %d", codec_decoder_current_column(decoder));
		outcome->status = ok ? OUTCOME_ACCEPTED : OUTCOME_REJECTED;
	}
	PG_CATCH();
	{
		thrown(decoder, outcome);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(caller);
	if (PG_exception_stack != stack || session_timezone != &shim_session_zone)
		fuzz_finding("codec_decode() left the exception stack or the time zone changed");

	/* what is not asked for is not touched */
	for (i = 0; i < set->ntargets; i++)
	{
		uint8		null;

		memcpy(&null, &isnull[i], 1);
		if (!set->wanted[i] && (null != 2 || values[i] != UINT64CONST(0x5a5a5a5a5a5a5a5a)))
			fuzz_finding("target %d was set", i);
	}
	switch (outcome->status)
	{
		case OUTCOME_ACCEPTED:
			outcome->column = -1;
			check_row(set, values, isnull, exact, outcome);
			break;
		case OUTCOME_REJECTED:
			check_error(set, &err);
			outcome->sqlstate = err.sqlstate;
			outcome->column = err.column;
			strlcpy(outcome->message, err.message, sizeof(outcome->message));
			break;
		case OUTCOME_THROWN:
			if (outcome->sqlstate == ERRCODE_OUT_OF_MEMORY && shim_allocation_failed())
				break;
			if (outcome->column < 0 || outcome->column >= set->ncolumns || !set->columns[outcome->column].needed)
				fuzz_finding("thrown, but column %d was in work: %s", outcome->column, outcome->message);
			break;
	}
}

static CodecOptions
options_of(const FuzzSet *set)
{
	CodecOptions options = {set->format, set->delimiter};

	return options;
}

static CodecDecoder *
new_decoder(const FuzzSet *set, MemoryContext cxt)
{
	CodecOptions options = options_of(set);

	return codec_decoder_create(&options, set->columns, set->ncolumns, cxt);
}

/* ---- the decoder that has seen others before ---- */

static void
forget(int set)
{
	KeptState  *state = &kept_states[set];
	const char *columns[MAX_TARGETS];
	const char *nearest[MAX_TARGETS];
	MemoryContext old;
	bool		checked;
	int			n;

	if (state->decoder == NULL)
		return;
	/* as after 1000 messages: the names that no message had */
	old = MemoryContextSwitchTo(state->cxt);
	state->decoder->nmessages += 1000;
	n = codec_decoder_unseen(state->decoder, &checked, columns, nearest, MAX_TARGETS);
	if (!checked || n < 0 || n > fuzz_sets[set].ncolumns)
		fuzz_finding("%d columns are unseen", n);
	while (n-- > 0)
	{
		if (nearest[n] != NULL && memchr(nearest[n], '\\', strlen(nearest[n])) != NULL)
			fuzz_finding("nearest name: %s", nearest[n]);
	}
	MemoryContextSwitchTo(old);
	codec_decoder_destroy(state->decoder);
	MemoryContextDelete(state->cxt);
	state->decoder = NULL;
	state->history.len = 0;
	state->nmessages = 0;
}

void
fuzz_forget(void)
{
	int			i;

	for (i = 0; i < fuzz_nsets; i++)
	{
		shim_encoding = fuzz_sets[i].encoding;
		forget(i);
	}
	current_state = NULL;
}

static KeptState *
kept_of(int set)
{
	KeptState  *state = &kept_states[set];

	if (state->nmessages >= KEPT_MESSAGES || state->history.len > KEPT_BYTES)
		forget(set);
	if (state->decoder == NULL)
	{
		state->cxt = AllocSetContextCreate(TopMemoryContext, "kept", ALLOCSET_DEFAULT_SIZES);
		state->decoder = new_decoder(&fuzz_sets[set], state->cxt);
		/* small, so that values get further blocks too */
		arena_init(&state->arena, state->cxt, 256);
	}
	return state;
}

/* Keys are remembered up to a limit, buffers are few. */
static void
check_kept_memory(const FuzzSet *set, KeptState *state)
{
	int			levels = 1;
	int			i;

	for (i = 0; i < set->ncolumns; i++)
	{
		const char *p = set->columns[i].path;

		while (p != NULL && (p = strchr(p, '.')) != NULL)
			levels++, p++;
	}
	if (shim_context_chunks(state->decoder->cxt) > 128 + 12 * set->ncolumns + 514 * levels)
		fuzz_finding("the decoder has %d chunks", shim_context_chunks(state->decoder->cxt));
}

/* ---- further ways ---- */

static void
make_encoder(const FuzzSet *set, KeptState *state)
{
	CodecOptions options = options_of(set);
	int			i;

	if (state->encoder_cxt != NULL)
		MemoryContextDelete(state->encoder_cxt);
	state->encoder_cxt = AllocSetContextCreate(TopMemoryContext, "encoder", ALLOCSET_DEFAULT_SIZES);
	state->encoder = NULL;
	for (i = 0; i < set->ncolumns; i++)
	{
		if (!set->columns[i].needed)
			return;
	}
	PG_TRY();
	{
		state->encoder = codec_encoder_create(&options, set->columns, set->ncolumns, state->encoder_cxt);
	}
	PG_CATCH();
	{
		/* columns within each other's path */
		MemoryContextSwitchTo(TopMemoryContext);
		if (shim_error_state != ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE)
			fuzz_finding("no encoder: %s", shim_error_message);
		FlushErrorState();
	}
	PG_END_TRY();
	if ((set->flags & SET_ENCODES) && state->encoder == NULL)
		fuzz_finding("the set cannot be encoded");
}

/* What was accepted is written and read again. */
static void
run_encode(const FuzzSet *set, KeptState *state, CodecDecoder *decoder, const Datum *values, const bool *isnull,
		   const Outcome *outcome)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "encode", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Datum		again_values[MAX_TARGETS];
	bool		again_isnull[MAX_TARGETS];
	Outcome		again;
	StringInfoData out;
	Arena		arena;
	volatile bool ok = false;

	initStringInfo(&out);
	PG_TRY();
	{
		codec_encode(state->encoder, values, isnull, &out);
		ok = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		if (shim_error_state != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			fuzz_finding("encoding throws: %s", shim_error_message);
		FlushErrorState();
	}
	PG_END_TRY();
	/* a statement ends by that */
	if (!ok)
		make_encoder(set, state);
	if (ok && (set->flags & SET_ENCODES))
	{
		/* exactly as long */
		char	   *copy = malloc(out.len);

		memcpy(copy, out.data, out.len);
		if (set->encoding == PG_UTF8 && set->ncolumns > 0 && set->columns[0].type != BYTEAOID && !ref_utf8_valid(copy, out.len))
			fuzz_finding("what was encoded is not UTF-8");
		exact_arena_init(&arena, cxt);
		run_decode(set, decoder, copy, out.len, &arena, true, again_values, again_isnull, &again);
		if (again.status != OUTCOME_THROWN || again.sqlstate != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		{
			if (again.status != OUTCOME_ACCEPTED)
				fprintf(stderr, "encoded: %.*s\n", out.len, out.data);
			outcome_same(set, outcome, &again, "decoded, encoded and decoded again");
		}
		outcome_free(&again);
		free(copy);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* A short message, so that the buffers are there and have to grow for the next one. */
static void
fill_buffers(const FuzzSet *set, CodecDecoder *decoder, Arena *arena, Datum *values, bool *isnull)
{
	static const char json[] = "{\"a\":\"\\n\",\"t\":\"\\n\",\"f8\":1e30,\"n\":%070d,\"nm\":\"\\n\"}";
	char		message[512];
	Outcome		outcome;
	int			len;
	int			i;

	if (set->format == CODEC_CSV)
	{
		len = snprintf(message, sizeof(message), "\"\"\"\"");
		for (i = 1; i < set->ncolumns; i++)
			message[len++] = set->delimiter;
	}
	else
		len = snprintf(message, sizeof(message), set->format == CODEC_JSON ? json : "\"\\n%0*d\"", 1, 1);
	run_decode(set, decoder, message, len, arena, false, values, isnull, &outcome);
	outcome_free(&outcome);
}

/* The n-th allocation fails; then all is as before.  False: there were no n. */
static bool
run_failing(const FuzzSet *set, const char *data, Size len, int n, bool filled, const Outcome *outcome)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "failing", ALLOCSET_DEFAULT_SIZES);
	Datum		values[MAX_TARGETS];
	bool		isnull[MAX_TARGETS];
	CodecDecoder *decoder = new_decoder(set, cxt);
	Arena		arena;
	Outcome		failed;
	bool		did;

	arena_init(&arena, cxt, 256);
	if (filled)
		fill_buffers(set, decoder, &arena, values, isnull);
	/* one for the context of the caller */
	shim_fail_allocation(n + 1);
	run_decode(set, decoder, data, len, &arena, false, values, isnull, &failed);
	did = shim_allocation_failed();
	if (did && (failed.status != OUTCOME_THROWN || failed.sqlstate != ERRCODE_OUT_OF_MEMORY))
		fuzz_finding("allocation %d failed, and nothing was thrown", n);
	shim_fail_allocation(0);
	outcome_free(&failed);
	arena_reset(&arena);
	/* a smaller one first: what it finds must be as large as it is said to be */
	if (filled)
		fill_buffers(set, decoder, &arena, values, isnull);
	run_decode(set, decoder, data, len, &arena, false, values, isnull, &failed);
	outcome_same(set, outcome, &failed, "after an allocation that failed");
	outcome_free(&failed);
	MemoryContextDelete(cxt);
	return did;
}

/* simdjson itself next to an unreadable page, with the padding that it asks for and no more. */
static void
run_guarded(const char *data, Size len)
{
	char	   *end = guarded + GUARDED_SIZE;
	const uint32_t *pos;
	uint32_t	npos;
	uint32_t	i;

	if (len + JSON_INDEX_PADDING > GUARDED_SIZE)
		return;
	memcpy(end - len, data, len);
	if (json_utf8_valid(end - len, len) != ref_utf8_valid(data, len))
		fuzz_finding("UTF-8 or not?");
	memset(end - JSON_INDEX_PADDING, 0, JSON_INDEX_PADDING);
	memmove(end - JSON_INDEX_PADDING - len, data, len);
	if (json_indexer_run(guarded_indexer, (uint8_t *) end - JSON_INDEX_PADDING - len, len, &pos, &npos) != JSON_INDEX_OK)
		return;
	if (pos[npos] != len || pos[npos + 1] != len)
		fuzz_finding("no sentinels behind %u tokens", npos);
	for (i = 0; i < npos; i++)
	{
		if (pos[i] >= (i + 1 < npos ? pos[i + 1] : len))
			fuzz_finding("token %u is at %u", i, pos[i]);
	}
}

/* ---- one message ---- */

static void
run_message(int set_index, const char *data, Size len, uint32 hash)
{
	const FuzzSet *set = &fuzz_sets[set_index];
	KeptState  *state;
	MemoryContext cxt;
	CodecDecoder *decoder;
	Datum		values[MAX_TARGETS];
	bool		isnull[MAX_TARGETS];
	Outcome		first;
	Outcome		second;
	Outcome		fresh;
	Outcome		predicted;
	Arena		arena;
	int64		chunks;
	int64		contexts;
	int64		indexers;
	int			n;

	shim_encoding = set->encoding;
	current_set = set;
	current_message = data;
	current_len = len;
	current_state = state = kept_of(set_index);
	if (data != NULL)
	{
		char		separator = FUZZ_SEPARATOR;

		if (state->nmessages > 0)
			buffer_append(&state->history, &separator, 1);
		buffer_append(&state->history, data, len);
	}
	state->nmessages++;

	arena_reset(&state->arena);
	run_decode(set, state->decoder, data, len, &state->arena, false, values, isnull, &first);
	run_decode(set, state->decoder, data, len, &state->arena, false, values, isnull, &second);
	outcome_same(set, &first, &second, "the same message twice");
	check_kept_memory(set, state);

	chunks = shim_chunks;
	contexts = shim_contexts;
	indexers = shim_indexers;
	cxt = AllocSetContextCreate(TopMemoryContext, "fresh", ALLOCSET_DEFAULT_SIZES);
	decoder = new_decoder(set, cxt);
	exact_arena_init(&arena, cxt);
	run_decode(set, decoder, data, len, &arena, true, values, isnull, &fresh);
	outcome_same(set, &first, &fresh, "a decoder with a past, and a new one");
	/* raw writes NULL as an empty value */
	if (fresh.status == OUTCOME_ACCEPTED && state->encoder != NULL && (data != NULL || set->format != CODEC_RAW))
		run_encode(set, state, decoder, values, isnull, &fresh);

	memset(&predicted, 0, sizeof(predicted));
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		PG_TRY();
		{
			oracle_predict(set, decoder, data, len, &predicted);
		}
		PG_CATCH();
		{
			thrown(decoder, &predicted);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(old);
	}
	if (predicted.status == OUTCOME_REJECTED && predicted.sqlstate == 0)
	{
		bool		utf8 = ref_utf8_valid(data, len);
		Size		i;

		/* simdjson's fallback takes an escape's byte away before it looks whether the rest is UTF-8 */
		for (i = 0; i + 1 < len; i++)
		{
			if (data[i] == '\\' && IS_HIGHBIT_SET(data[i + 1]))
				utf8 = false;
		}
		if (fresh.status != OUTCOME_REJECTED || fresh.column != -1 ||
			(fresh.sqlstate != ERRCODE_INVALID_TEXT_REPRESENTATION &&
			 (utf8 || fresh.sqlstate != ERRCODE_CHARACTER_NOT_IN_REPERTOIRE)))
			fuzz_finding("a malformed document: status %d, column %d, %s", fresh.status, fresh.column, fresh.message);
	}
	else
		outcome_same(set, &predicted, &fresh, "the plain reader, and the decoder");

	codec_decoder_destroy(decoder);
	MemoryContextDelete(cxt);
	if (shim_chunks != chunks || shim_contexts != contexts || shim_indexers != indexers)
		fuzz_finding("a decoder left %lld chunks, %lld contexts, %lld indexers", (long long) (shim_chunks - chunks),
					 (long long) (shim_contexts - contexts), (long long) (shim_indexers - indexers));

	/* replaying, each allocation in turn; else one of the first */
	if (fuzz_thorough && hash % 8 == set_index % 8 && !(set->flags & SET_COSTLY))
	{
		for (n = 1; n <= (len < 1000 ? 40 : 4) && run_failing(set, data, len, n, false, &first); n++)
			;
		for (n = 1; n <= (len < 1000 ? 40 : 4) && run_failing(set, data, len, n, true, &first); n++)
			;
	}
	else if (!fuzz_thorough && hash % 8 == 0)
		(void) run_failing(set, data, len, 1 + hash / 8 % 12, hash / 128 % 2 == 0, &first);

	if (first.status == OUTCOME_ACCEPTED)
		fuzz_accepted++;
	else
		fuzz_rejected++;
	outcome_free(&first);
	outcome_free(&second);
	outcome_free(&fresh);
	outcome_free(&predicted);
}

/*
 * Replaying: a message for the tables that it is about, by a name of a column
 * or the number of fields, and for some of the others.
 */
static bool
suits(const FuzzSet *set, const char *data, Size len, uint32 lot)
{
	Size		delimiters = 0;
	Size		i;

	if (lot % 4 == 0 && !(set->flags & SET_COSTLY))
		return true;
	if (set->format == CODEC_RAW)
		return true;
	if (set->format == CODEC_CSV)
	{
		for (i = 0; i < len; i++)
			delimiters += data[i] == set->delimiter;
		return delimiters + 1 == set->ncolumns;
	}
	if (len > 20000)
		return false;
	for (i = 0; i < set->ncolumns; i++)
	{
		const char *name = set->plain[i].path != NULL ? set->plain[i].path : set->plain[i].name;
		const char *found = memmem(data, len, name, strcspn(name, "."));

		if (found != NULL && found > data && found[-1] == '"')
			return true;
	}
	return false;
}

void
fuzz_input(const char *data, Size len, int set)
{
	const char *p = data;
	const char *end = data + len;
	uint32		hash = hash_bytes((const unsigned char *) data, (int) len);
	int			first;
	int			n;
	int			i;

	fuzz_sets_of(fuzz_format, &first, &n);
	if (set < 0)
		set = first + (hash >> 8) % n;
	for (;;)
	{
		const char *stop = p < end ? memchr(p, FUZZ_SEPARATOR, end - p) : NULL;
		Size		message_len = (stop != NULL ? stop : end) - p;
		/* nothing readable behind it */
		char	   *message = malloc(message_len);

		if (message_len > 0)
			memcpy(message, p, message_len);
		current_message = message;
		current_len = message_len;
		if (fuzz_format != CODEC_CSV)
			run_guarded(message, message_len);
		if (fuzz_thorough)
		{
			for (i = first; i < first + n; i++)
			{
				if (suits(&fuzz_sets[i], message, message_len, hash + i))
					run_message(i, message, message_len, hash);
			}
		}
		else
			run_message(set, message, message_len, hash);
		/* an empty message, and none */
		if (message_len == 0)
			run_message(set, NULL, 0, hash);
		current_message = NULL;
		current_len = 0;
		free(message);
		if (stop == NULL)
			break;
		p = stop + 1;
	}
}

/* ---- begin ---- */

/* The n-th allocation of making a decoder fails.  False: there were no n. */
static bool
try_creation(const FuzzSet *set, int n)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "creation", ALLOCSET_DEFAULT_SIZES);
	volatile bool ok = false;

	shim_fail_allocation(n);
	PG_TRY();
	{
		(void) new_decoder(set, cxt);
		ok = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		FlushErrorState();
	}
	PG_END_TRY();
	shim_fail_allocation(0);
	MemoryContextDelete(cxt);
	return !ok;
}

void
fuzz_init(void)
{
	Size		page = sysconf(_SC_PAGESIZE);
	int			i;
	int			n;

	TopMemoryContext = AllocSetContextCreateInternal(NULL, "TopMemoryContext", 0, 0, 0);
	ErrorContext = AllocSetContextCreateInternal(TopMemoryContext, "ErrorContext", 0, 0, 0);
	CurrentMemoryContext = TopMemoryContext;
	fuzz_make_sets();
	kept_states = calloc(fuzz_nsets, sizeof(KeptState));
	for (i = 0; i < fuzz_nsets; i++)
	{
		const FuzzSet *set = &fuzz_sets[i];

		if (set->ntargets > MAX_TARGETS)
			abort();
		current_set = set;
		shim_encoding = set->encoding;
		for (n = 1; !(set->flags & SET_COSTLY) && try_creation(set, n); n++)
			;
		make_encoder(set, &kept_states[i]);
	}
	guarded = mmap(NULL, GUARDED_SIZE + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guarded == MAP_FAILED || mprotect(guarded + GUARDED_SIZE, page, PROT_NONE) != 0)
		abort();
	guarded_indexer = json_indexer_create();
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *format = getenv("FUZZ_FORMAT");

	if (format != NULL && !codec_format_by_name(format, &fuzz_format))
	{
		fprintf(stderr, "FUZZ_FORMAT=%s: json, csv or raw\n", format);
		exit(2);
	}
	fuzz_init();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char		base;

	shim_stack_base(&base);
	fuzz_input((const char *) data, size, -1);
	return 0;
}

/*-------------------------------------------------------------------------
 *
 * target.c
 *	  What driver.c wants of a target, for the two kinds of segments.
 *
 * An input is a segment as it is stored.  Most changed ones are made whole again
 * (lengths, numbers, checksum), or nothing behind the checksum would ever be
 * reached; some are not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdarg.h>

#include "utils/memutils.h"

#include "segments.h"

/* driver.c calls it a format */
#define KIND_STATE	((CodecFormat) 0)
#define KIND_OUTBOX	((CodecFormat) 1)

CodecFormat fuzz_format;
int64		fuzz_accepted;
int64		fuzz_rejected;
bool		fuzz_thorough;
FuzzSet    *fuzz_sets;
int			fuzz_nsets = 1;
const bool	fuzz_binary = true;
const char *const fuzz_formats = "state|outbox";

const char *fuzz_wrong;

static FuzzSet no_set;

bool
codec_format_by_name(const char *name, CodecFormat *format)
{
	*format = strcmp(name, "outbox") == 0 ? KIND_OUTBOX : KIND_STATE;
	return strcmp(name, "state") == 0 || strcmp(name, "outbox") == 0;
}

void
fuzz_sets_of(CodecFormat format, int *first, int *n)
{
	*first = 0;
	*n = 1;
}

void
fuzz_finding(const char *fmt,...)
{
	va_list		args;

	fprintf(stderr, "FINDING: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

void
fuzz_init(void)
{
	TopMemoryContext = AllocSetContextCreateInternal(NULL, "TopMemoryContext", 0, 0, 0);
	ErrorContext = AllocSetContextCreateInternal(TopMemoryContext, "ErrorContext", 0, 0, 0);
	CurrentMemoryContext = TopMemoryContext;
	fuzz_sets = &no_set;
	specs_init();
}

void
fuzz_forget(void)
{
}

void
fuzz_history(const char **data, Size *len)
{
	*data = NULL;
	*len = 0;
}

/* May it be thrown at who reads a segment?  A segment may also hold more than there is room for. */
static bool
may_be_thrown(int sqlstate)
{
	return sqlstate == ERRCODE_DATA_CORRUPTED || sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		(fuzz_format == KIND_STATE && (sqlstate == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED || sqlstate == ERRCODE_DATETIME_VALUE_OUT_OF_RANGE));
}

static bool
run(const char *data, Size len)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "input", ALLOCSET_DEFAULT_SIZES);
	/* nothing readable behind it */
	char	   *copy = malloc(Max(len, 1));
	volatile bool accepted = false;

	if (len > 0)
		memcpy(copy, data, len);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		accepted = fuzz_format == KIND_STATE ? state_input(copy, len) : outbox_input(copy, len);
	}
	PG_CATCH();
	{
		if (!may_be_thrown(shim_error_state))
			fuzz_finding("thrown: %s", shim_error_message);
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(cxt);
	free(copy);
	return accepted;
}

/* Replaying: why it is refused is told, for who wants to know. */
bool
fuzz_well_formed(const char *data, Size len)
{
	bool		accepted;

	fuzz_wrong = NULL;
	accepted = run(data, len);
	if (getenv("FUZZ_TELL") != NULL)
		fprintf(stderr, "%s\n", accepted ? "taken" : fuzz_wrong != NULL ? fuzz_wrong : shim_error_message);
	return accepted;
}

void
fuzz_input(const char *data, Size len, int set)
{
	if (run(data, len))
		fuzz_accepted++;
	else
		fuzz_rejected++;
}

/* ---- new inputs ---- */

void
generate_message(Random *random, const FuzzSet *set, FuzzBuffer *out)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "making", ALLOCSET_DEFAULT_SIZES);

	MemoryContextSwitchTo(cxt);
	if (fuzz_format == KIND_STATE)
		state_make(random, out);
	else
		outbox_make(random, out);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(cxt);
}

static void
put_number(Random *random, char *at, Size left)
{
	static const int64 numbers[] = {
		0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 0x3ffc, 0x3fff, 0x4000, 0x4004, 0x7fff, 0x8000, 0xffff, 65536, 1 << 20,
		PG_INT32_MAX, INT64CONST(0x80000000), INT64CONST(0xfffffff8), INT64CONST(0xfffffff9), INT64CONST(0xffffffff), INT64CONST(0x100000000),
		PG_INT64_MAX, PG_INT64_MAX - 7, PG_INT64_MIN, PG_INT64_MIN + 1, -1, -2, -8, OVER_WAITING, OVER_WAITING / 2, OVER_WAITING + (INT64CONST(7) << 56), OVER_WAITING - 1
	};
	int64		number = numbers[random_below(random, lengthof(numbers))];
	Size		size = (Size) 1 << random_below(random, 4);

	if (random_below(random, 2) == 0)
	{
		/* near to what is there */
		number = 0;
		memcpy(&number, at, Min(size, left));
		number = (int64) ((uint64) number + random_below(random, 33) - 16);
	}
	memcpy(at, &number, Min(size, left));
}

void
mutate_message(Random *random, const FuzzSet *set, FuzzBuffer *out, const char *other, Size other_len)
{
	int			times = 1 + random_below(random, random_below(random, 4) == 0 ? 12 : 3);

	while (times-- > 0 && out->len > 0)
	{
		Size		at = random_below(random, out->len);
		Size		len = random_below(random, Min(out->len - at, 64)) + 1;
		static FuzzBuffer rest;

		/* most that stands in a segment stands at a border of eight */
		if (random_below(random, 3) != 0)
			at &= ~(Size) 7;
		switch (random_below(random, 8))
		{
			case 0:
				out->data[at] ^= 1 << random_below(random, 8);
				break;
			case 1:
				out->data[at] = (char) random_next(random);
				break;
			case 2:				/* cut off */
				if (random_below(random, 4) == 0)
					out->len = at;
				break;
			case 3:				/* a piece goes, */
				len = (len + 7) & ~(Size) 7;
				if (at + len <= out->len)
				{
					memmove(out->data + at, out->data + at + len, out->len - at - len);
					out->len -= len;
				}
				break;
			case 4:				/* or comes from elsewhere */
				if (other_len > 0 && out->len < 16384)
				{
					Size		from = random_below(random, other_len) & ~(Size) 7;

					len = Min((len + 7) & ~(Size) 7, other_len - from);
					rest.len = 0;
					buffer_append(&rest, out->data + at, out->len - at);
					out->len = at;
					buffer_append(out, other + from, len);
					buffer_append(out, rest.data, rest.len);
				}
				break;
			default:
				put_number(random, out->data + at, out->len - at);
				break;
		}
	}
	if (out->len > 0 && random_below(random, 8) != 0)
	{
		if (fuzz_format == KIND_STATE)
			state_whole(random, out);
		else
			outbox_whole(random, out);
	}
}

/*-------------------------------------------------------------------------
 *
 * shim_memory.c
 *	  PostgreSQL's memory contexts, errors and string buffers for a process
 *	  that is no server.
 *
 * Every chunk is a malloc() of its own, so AddressSanitizer sees its exact
 * bounds and its end of life.  Whatever is freed by a reset or with its
 * context is really freed.  Errors are thrown by siglongjmp as in a server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sanitizer/asan_interface.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "shim.h"

#define CHUNK_MAGIC		UINT64CONST(0x6368756e6b21a11e)
#define CHUNK_FREED		UINT64CONST(0xdeaddeaddeaddead)

typedef struct ShimContext ShimContext;

typedef struct Chunk
{
	struct Chunk *prev;
	struct Chunk *next;
	ShimContext *context;
	uint64		magic;
	Size		size;
	char		guard[24];		/* never to be touched: what is written in front of a chunk */
} Chunk;

struct ShimContext
{
	MemoryContextData base;		/* PostgreSQL's inline functions know it */
	Chunk		head;			/* of a ring */
	int			nchunks;
};

MemoryContext CurrentMemoryContext = NULL;
MemoryContext TopMemoryContext = NULL;
MemoryContext ErrorContext = NULL;
sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

int64		shim_chunks;
int64		shim_contexts;
int			shim_error_state;
char		shim_error_message[1024];

static int	fail_in;
static bool fail_done;
static char *stack_base;

void
shim_fail_allocation(int n)
{
	fail_in = n;
	fail_done = false;
}

bool
shim_allocation_failed(void)
{
	return fail_done;
}

/* False: this allocation is the one that fails. */
bool
shim_count_allocation(void)
{
	if (fail_in > 0 && --fail_in == 0)
	{
		fail_done = true;
		return false;
	}
	return true;
}

/* ---- chunks ---- */

static void *
allocate(MemoryContext context, Size size, Size max)
{
	ShimContext *cxt = (ShimContext *) context;
	Chunk	   *chunk;

	if (size > max)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("invalid memory alloc request size %zu", size)));
	if (!shim_count_allocation())
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	chunk = malloc(sizeof(Chunk) + size);
	if (chunk == NULL)
		abort();
	chunk->context = cxt;
	chunk->magic = CHUNK_MAGIC;
	chunk->size = size;
	chunk->prev = cxt->head.prev;
	chunk->next = &cxt->head;
	chunk->prev->next = chunk;
	cxt->head.prev = chunk;
	cxt->nchunks++;
	shim_chunks++;
	ASAN_POISON_MEMORY_REGION(chunk->guard, sizeof(chunk->guard));
	return chunk + 1;
}

static void
release(Chunk *chunk)
{
	if (chunk->magic != CHUNK_MAGIC)
	{
		fprintf(stderr, "pfree of what is no chunk\n");
		abort();
	}
	chunk->magic = CHUNK_FREED;
	chunk->prev->next = chunk->next;
	chunk->next->prev = chunk->prev;
	chunk->context->nchunks--;
	shim_chunks--;
	free(chunk);
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return allocate(context, size, MaxAllocSize);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return allocate(context, size, MaxAllocHugeSize);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	void	   *result = allocate(context, size, MaxAllocSize);

	memset(result, 0, size);
	return result;
}

void *
MemoryContextAllocZeroAligned(MemoryContext context, Size size)
{
	return MemoryContextAllocZero(context, size);
}

void *
palloc(Size size)
{
	return allocate(CurrentMemoryContext, size, MaxAllocSize);
}

void *
palloc0(Size size)
{
	return MemoryContextAllocZero(CurrentMemoryContext, size);
}

void
pfree(void *pointer)
{
	release((Chunk *) pointer - 1);
}

/* where the old one is; it always moves */
static void *
move_chunk(void *pointer, Size keep, Size size)
{
	void	   *moved = MemoryContextAllocHuge(&((Chunk *) pointer)[-1].context->base, size);

	memcpy(moved, pointer, keep);
	pfree(pointer);
	return moved;
}

void *
repalloc(void *pointer, Size size)
{
	return move_chunk(pointer, Min(((Chunk *) pointer)[-1].size, size), size);
}

char *
pnstrdup(const char *in, Size len)
{
	Size		n = strnlen(in, len);
	char	   *result = palloc(n + 1);

	memcpy(result, in, n);
	result[n] = '\0';
	return result;
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

/* ---- contexts ---- */

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size minContextSize,
							  Size initBlockSize, Size maxBlockSize)
{
	ShimContext *cxt;

	if (!shim_count_allocation())
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	cxt = calloc(1, sizeof(ShimContext));
	if (cxt == NULL)
		abort();
	cxt->base.type = T_AllocSetContext;
	cxt->base.name = name;
	cxt->base.parent = parent;
	cxt->head.prev = cxt->head.next = &cxt->head;
	if (parent != NULL)
	{
		cxt->base.nextchild = parent->firstchild;
		if (parent->firstchild != NULL)
			parent->firstchild->prevchild = &cxt->base;
		parent->firstchild = &cxt->base;
	}
	shim_contexts++;
	return &cxt->base;
}

void
MemoryContextRegisterResetCallback(MemoryContext context, MemoryContextCallback *cb)
{
	cb->next = context->reset_cbs;
	context->reset_cbs = cb;
}

static void
reset_only(MemoryContext context)
{
	ShimContext *cxt = (ShimContext *) context;
	MemoryContextCallback *cb;

	while ((cb = context->reset_cbs) != NULL)
	{
		context->reset_cbs = cb->next;
		cb->func(cb->arg);
	}
	while (cxt->head.next != &cxt->head)
		release(cxt->head.next);
}

void
MemoryContextReset(MemoryContext context)
{
	while (context->firstchild != NULL)
		MemoryContextDelete(context->firstchild);
	reset_only(context);
}

void
MemoryContextDelete(MemoryContext context)
{
	while (context->firstchild != NULL)
		MemoryContextDelete(context->firstchild);
	reset_only(context);
	if (context->prevchild != NULL)
		context->prevchild->nextchild = context->nextchild;
	else if (context->parent != NULL)
		context->parent->firstchild = context->nextchild;
	if (context->nextchild != NULL)
		context->nextchild->prevchild = context->prevchild;
	shim_contexts--;
	free(context);
}

int
shim_context_chunks(MemoryContext context)
{
	return ((ShimContext *) context)->nchunks;
}

/* ---- errors ---- */

bool
errstart(int elevel, const char *domain)
{
	shim_error_state = ERRCODE_INTERNAL_ERROR;
	shim_error_message[0] = '\0';
	return elevel >= ERROR;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	shim_error_state = sqlerrcode;
	return 0;
}

int
errmsg(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	pg_vsnprintf(shim_error_message, sizeof(shim_error_message), fmt, args);
	va_end(args);
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	pg_vsnprintf(shim_error_message, sizeof(shim_error_message), fmt, args);
	va_end(args);
	return 0;
}

/* nobody looks at details and hints, but their formats must be right */
static int
format_only(const char *fmt, va_list args)
{
	char		text[1024];

	pg_vsnprintf(text, sizeof(text), fmt, args);
	return 0;
}

int
errhint(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	(void) format_only(fmt, args);
	va_end(args);
	return 0;
}

int
errdetail(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	(void) format_only(fmt, args);
	va_end(args);
	return 0;
}

void
pg_re_throw(void)
{
	if (PG_exception_stack == NULL)
	{
		fprintf(stderr, "error that nobody catches: %s\n", shim_error_message);
		abort();
	}
	siglongjmp(*PG_exception_stack, 1);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	/* as in a server: a handler starts in ErrorContext */
	CurrentMemoryContext = ErrorContext;
	pg_re_throw();
}

ErrorData *
CopyErrorData(void)
{
	ErrorData  *result;

	if (CurrentMemoryContext == ErrorContext)
	{
		fprintf(stderr, "CopyErrorData() in ErrorContext\n");
		abort();
	}
	result = palloc0(sizeof(ErrorData));
	result->sqlerrcode = shim_error_state;
	result->message = pstrdup(shim_error_message);
	return result;
}

void
FreeErrorData(ErrorData *edata)
{
	pfree(edata->message);
	pfree(edata);
}

void
FlushErrorState(void)
{
	MemoryContextReset(ErrorContext);
}

void
shim_stack_base(void *base)
{
	stack_base = base;
}

/* As in a server with max_stack_depth = 2 MB, frames with redzones being larger. */
void
check_stack_depth(void)
{
	char		here;

	if (stack_base != NULL && stack_base - &here > 6 * 1024 * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				 errmsg("stack depth limit exceeded")));
}

/* ---- string buffers: growing always moves them ---- */

void
initStringInfo(StringInfo str)
{
	str->maxlen = 64;
	str->data = palloc(str->maxlen);
	str->data[0] = '\0';
	str->len = 0;
	str->cursor = 0;
}

void
enlargeStringInfo(StringInfo str, int datalen)
{
	if (datalen < 0 || str->len + datalen >= SHIM_MAX_STRING)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("out of memory"),
				 errhint("Cannot enlarge string buffer containing %d bytes by %d more bytes.", str->len, datalen)));
	if (str->len + datalen + 1 > str->maxlen)
	{
		int			size = Max(2 * str->maxlen, str->len + datalen + 1);

		str->data = move_chunk(str->data, str->len, size);
		str->maxlen = size;
	}
}

void
appendBinaryStringInfo(StringInfo str, const char *data, int datalen)
{
	enlargeStringInfo(str, datalen);
	memcpy(str->data + str->len, data, datalen);
	str->len += datalen;
	str->data[str->len] = '\0';
}

void
appendStringInfoString(StringInfo str, const char *s)
{
	appendBinaryStringInfo(str, s, strlen(s));
}

void
appendStringInfoChar(StringInfo str, char ch)
{
	appendBinaryStringInfo(str, &ch, 1);
}

/* ---- src/port: the C library's, whose arguments AddressSanitizer checks ---- */

#undef vsnprintf
#undef snprintf
#undef vfprintf

int
pg_vsnprintf(char *str, size_t count, const char *fmt, va_list args)
{
	return vsnprintf(str, count, fmt, args);
}

int
pg_snprintf(char *str, size_t count, const char *fmt,...)
{
	va_list		args;
	int			result;

	va_start(args, fmt);
	result = vsnprintf(str, count, fmt, args);
	va_end(args);
	return result;
}

int
pg_vfprintf(FILE *stream, const char *fmt, va_list args)
{
	return vfprintf(stream, fmt, args);
}

int
pg_fprintf(FILE *stream, const char *fmt,...)
{
	va_list		args;
	int			result;

	va_start(args, fmt);
	result = vfprintf(stream, fmt, args);
	va_end(args);
	return result;
}

int
pg_printf(const char *fmt,...)
{
	va_list		args;
	int			result;

	va_start(args, fmt);
	result = vfprintf(stdout, fmt, args);
	va_end(args);
	return result;
}

int
pg_strncasecmp(const char *s1, const char *s2, size_t n)
{
	for (; n > 0; n--, s1++, s2++)
	{
		unsigned char a = *s1;
		unsigned char b = *s2;

		if (a >= 'A' && a <= 'Z')
			a += 'a' - 'A';
		if (b >= 'A' && b <= 'Z')
			b += 'a' - 'A';
		if (a != b)
			return (int) a - (int) b;
		if (a == 0)
			break;
	}
	return 0;
}

size_t
strlcpy(char *dst, const char *src, size_t siz)
{
	size_t		len = strlen(src);

	if (siz > 0)
	{
		size_t		n = Min(len, siz - 1);

		memcpy(dst, src, n);
		dst[n] = '\0';
	}
	return len;
}

uint32
hash_bytes(const unsigned char *k, int keylen)
{
	uint32		h = 2166136261u;
	int			i;

	for (i = 0; i < keylen; i++)
		h = (h ^ k[i]) * 16777619u;
	return h;
}

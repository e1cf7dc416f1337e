/*-------------------------------------------------------------------------
 *
 * json_doc.c
 *	  A JSON document as a list of token positions, and its grammar.
 *
 * simdjson's pass over the document gives the position of each token; the
 * functions here walk that list.  Facts they rest on, true after a pass
 * without error: the document is UTF-8; each string is closed and holds no
 * raw control character; a byte that is neither white space nor within a
 * string or scalar begins a token.  So between the end of a scalar and the
 * next token there is nothing but white space, if the byte behind the scalar
 * is a token or white space; and a string ends with the last byte before the
 * next token that is not white space.
 *
 * Two sentinels follow the positions: they point at the zero behind the
 * document, which is no token, so walking needs no bounds check.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "codec/codec_private.h"

#define DOC_FIRST_SIZE	8192

void
json_doc_free(JsonDoc *doc)
{
	if (doc->indexer != NULL)
		json_indexer_destroy(doc->indexer);
	doc->indexer = NULL;
}

/* A copy with zeros behind it, so that nothing needs to look for the end. */
void
json_doc_copy(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len)
{
	Size		wanted = len + JSON_INDEX_PADDING;

	if (unlikely(wanted > doc->bufsize))
	{
		Size		size = Max(doc->bufsize * 2, Max(wanted, (Size) DOC_FIRST_SIZE));

		if (doc->buf != NULL)
		{
			pfree(doc->buf);
			doc->buf = NULL;
			doc->bufsize = 0;
		}
		doc->buf = MemoryContextAllocHuge(decoder->cxt, size);
		doc->bufsize = size;
	}
	memcpy(doc->buf, data, len);
	memset(doc->buf + len, 0, JSON_INDEX_PADDING);
	doc->len = len;
}

/* Finds the tokens of the copy. */
bool
json_doc_index(CodecDecoder *decoder, JsonDoc *doc, int column, CodecError *err)
{
	Size		len = doc->len;

	if (unlikely(doc->indexer == NULL))
	{
		doc->indexer = json_indexer_create();
		if (doc->indexer == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
	}
	switch (json_indexer_run(doc->indexer, doc->buf, len, &doc->pos, &doc->n))
	{
		case JSON_INDEX_OK:
			break;
		case JSON_INDEX_EMPTY:
			return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
							  "invalid JSON: document is empty");
		case JSON_INDEX_UTF8:
			return codec_fail(decoder, err, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, column,
							  "value is not valid UTF-8");
		case JSON_INDEX_UNCLOSED:
			return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
							  "invalid JSON: string is not closed");
		case JSON_INDEX_CONTROL:
			return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
							  "invalid JSON: control character in a string must be escaped");
		case JSON_INDEX_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
			break;
		case JSON_INDEX_OTHER:
			return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
							  "invalid JSON");
	}
	doc->escapes = memchr(doc->buf, '\\', len) != NULL;
	return true;
}

bool
json_doc_load(CodecDecoder *decoder, JsonDoc *doc, const char *data, Size len,
			  int column, CodecError *err)
{
	json_doc_copy(decoder, doc, data, len);
	return json_doc_index(decoder, doc, column, err);
}

/* The nesting at a token that json_check_value() refused. */
bool
json_too_deep(const JsonDoc *doc, uint32 token)
{
	int			depth = 0;
	uint32		i;

	for (i = 0; i <= token && i < doc->n; i++)
	{
		unsigned char c = doc->buf[doc->pos[i]];

		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
	}
	return depth > JSON_MAX_DEPTH;
}

bool
json_wrong(CodecDecoder *decoder, const JsonDoc *doc, uint32 token, int column, CodecError *err)
{
	if (token >= doc->n)
		return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
						  "invalid JSON: document ends too early");
	if (json_too_deep(doc, token))
		return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
						  "invalid JSON: nested deeper than %d levels", JSON_MAX_DEPTH);
	return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, column,
					  "invalid JSON at byte %u", doc->pos[token] + 1);
}

/* The escapes of a string's content are well formed. */
bool
json_check_escapes(const JsonDoc *doc, uint32 start, uint32 end)
{
	const uint8 *p = doc->buf + start;
	const uint8 *stop = doc->buf + end;

	while ((p = memchr(p, '\\', stop - p)) != NULL)
	{
		int			i;

		/* the closing quote is not escaped, so a byte follows */
		switch (p[1])
		{
			case '"':
			case '\\':
			case '/':
			case 'b':
			case 'f':
			case 'n':
			case 'r':
			case 't':
				p += 2;
				break;
			case 'u':
				for (i = 2; i < 6; i++)
				{
					if (p + i >= stop || !isxdigit(p[i]))
						return false;
				}
				p += 6;
				break;
			default:
				return false;
		}
	}
	return true;
}

static inline bool
check_number(const JsonDoc *doc, uint32 i)
{
	const uint8 *end = json_number_end(doc->buf + doc->pos[i]);

	return end != NULL && (end == doc->buf + doc->pos[i + 1] || is_json_space(*end));
}

static inline bool
check_word(const JsonDoc *doc, uint32 i, const char *word, int len)
{
	const uint8 *p = doc->buf + doc->pos[i];

	return memcmp(p, word, len) == 0 &&
		(p + len == doc->buf + doc->pos[i + 1] || is_json_space(p[len]));
}

static inline bool
check_scalar(const JsonDoc *doc, uint32 i)
{
	switch (doc->buf[doc->pos[i]])
	{
		case '"':
			return !doc->escapes ||
				json_check_escapes(doc, doc->pos[i] + 1, json_text_end(doc, i + 1) - 1);
		case 't':
			return check_word(doc, i, "true", 4);
		case 'f':
			return check_word(doc, i, "false", 5);
		case 'n':
			return check_word(doc, i, "null", 4);
		default:
			return check_number(doc, i);
	}
}

/*
 * Checks one value, of any kind, without recursion.  "depth": containers that
 * are open around it.
 */
bool
json_check_value(const JsonDoc *doc, uint32 *i, int depth)
{
	const uint8 *buf = doc->buf;
	const uint32 *pos = doc->pos;
	uint32		t = *i;
	bool		is_object[JSON_MAX_DEPTH];
	int			level = 0;
	unsigned char c;

	for (;;)
	{
		/* a value begins here */
		c = buf[pos[t]];
		if (c == '{' || c == '[')
		{
			if (depth + level >= JSON_MAX_DEPTH)
				goto wrong;
			is_object[level++] = c == '{';
			t++;
			if (buf[pos[t]] == (c == '{' ? '}' : ']'))
			{
				level--;
				t++;
			}
			else if (c == '[')
				continue;
			else
				goto key;
		}
		else
		{
			if (!check_scalar(doc, t))
				goto wrong;
			t++;
		}

		/* behind a value */
		for (;;)
		{
			if (level == 0)
			{
				*i = t;
				return true;
			}
			c = buf[pos[t]];
			if (c == ',')
			{
				t++;
				break;
			}
			if (c != (is_object[level - 1] ? '}' : ']'))
				goto wrong;
			level--;
			t++;
		}
		if (!is_object[level - 1])
			continue;

key:
		if (buf[pos[t]] != '"' || !check_scalar(doc, t))
			goto wrong;
		t++;
		if (buf[pos[t]] != ':')
			goto wrong;
		t++;
	}

wrong:
	*i = t;
	return false;
}

uint32
json_value_end(const JsonDoc *doc, uint32 i)
{
	int			level = 0;

	do
	{
		unsigned char c = doc->buf[doc->pos[i++]];

		if (c == '{' || c == '[')
			level++;
		else if (c == '}' || c == ']')
			level--;
	} while (level > 0);
	return i;
}

static unsigned int
hex4(const char *p)
{
	unsigned int result = 0;
	int			i;

	for (i = 0; i < 4; i++)
	{
		unsigned char c = p[i];

		result = result * 16 + (is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return result;
}

/* The escapes have been checked. */
int
json_unescape(const char *src, Size len, char *dst, Size *dstlen)
{
	const char *end = src + len;
	char	   *out = dst;

	while (src < end)
	{
		const char *next = memchr(src, '\\', end - src);
		pg_wchar	c;

		if (next == NULL)
			next = end;
		memcpy(out, src, next - src);
		out += next - src;
		src = next;
		if (src == end)
			break;

		src += 2;
		switch (src[-1])
		{
			case 'b':
				*out++ = '\b';
				break;
			case 'f':
				*out++ = '\f';
				break;
			case 'n':
				*out++ = '\n';
				break;
			case 'r':
				*out++ = '\r';
				break;
			case 't':
				*out++ = '\t';
				break;
			case 'u':
				c = hex4(src);
				src += 4;
				if (c == 0)
					return ERRCODE_UNTRANSLATABLE_CHARACTER;
				if (is_utf16_surrogate_second(c))
					return ERRCODE_INVALID_TEXT_REPRESENTATION;
				if (is_utf16_surrogate_first(c))
				{
					pg_wchar	second;

					if (end - src < 6 || src[0] != '\\' || src[1] != 'u')
						return ERRCODE_INVALID_TEXT_REPRESENTATION;
					second = hex4(src + 2);
					if (!is_utf16_surrogate_second(second))
						return ERRCODE_INVALID_TEXT_REPRESENTATION;
					c = surrogate_pair_to_codepoint(c, second);
					src += 6;
				}
				unicode_to_utf8(c, (unsigned char *) out);
				out += pg_utf_mblen((unsigned char *) out);
				break;
			default:
				*out++ = src[-1];
				break;
		}
	}
	*dstlen = out - dst;
	return 0;
}

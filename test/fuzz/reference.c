/*-------------------------------------------------------------------------
 *
 * reference.c
 *	  Plain readers of JSON and csv, written for being right and not fast, to
 *	  compare the decoders with.  Nothing of src/codec is used here but names.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "fuzz.h"

bool
ref_utf8_valid(const char *s, Size len)
{
	const unsigned char *p = (const unsigned char *) s;
	const unsigned char *end = p + len;

	while (p < end)
	{
		uint32		c = *p++;
		int			more;
		uint32		least;

		if (c < 0x80)
			continue;
		if (c >= 0xc0 && c < 0xe0)
			more = 1, least = 0x80, c &= 0x1f;
		else if (c >= 0xe0 && c < 0xf0)
			more = 2, least = 0x800, c &= 0x0f;
		else if (c >= 0xf0 && c < 0xf8)
			more = 3, least = 0x10000, c &= 0x07;
		else
			return false;
		if (end - p < more)
			return false;
		while (more-- > 0)
		{
			if ((*p & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*p++ & 0x3f);
		}
		if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
	}
	return true;
}

/* ---- JSON ---- */

const char *
ref_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

static bool
hex_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Behind a string; NULL: it is none. */
static const char *
read_string(const char *p, const char *end)
{
	int			i;

	if (p >= end || *p != '"')
		return NULL;
	for (p++; p < end; p++)
	{
		if (*p == '"')
			return p + 1;
		if ((unsigned char) *p < 0x20)
			return NULL;
		if (*p != '\\')
			continue;
		if (++p >= end)
			return NULL;
		if (*p == 'u')
		{
			for (i = 0; i < 4; i++)
			{
				if (++p >= end || !hex_digit(*p))
					return NULL;
			}
		}
		else if (*p == '\0' || strchr("\"\\/bfnrt", *p) == NULL)
			return NULL;
	}
	return NULL;
}

static bool
digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

static const char *
read_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	if (!digit(p, end))
		return NULL;
	if (*p == '0')
		p++;
	else
		while (digit(p, end))
			p++;
	if (p < end && *p == '.')
	{
		p++;
		if (!digit(p, end))
			return NULL;
		while (digit(p, end))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (!digit(p, end))
			return NULL;
		while (digit(p, end))
			p++;
	}
	return p;
}

static const char *
read_scalar(const char *p, const char *end)
{
	if (p >= end)
		return NULL;
	if (*p == '"')
		return read_string(p, end);
	if (end - p >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0))
		return p + 4;
	if (end - p >= 5 && memcmp(p, "false", 5) == 0)
		return p + 5;
	return read_number(p, end);
}

static const char *
read_key(const char *p, const char *end)
{
	p = read_string(ref_space(p, end), end);
	if (p == NULL)
		return NULL;
	p = ref_space(p, end);
	return p < end && *p == ':' ? p + 1 : NULL;
}

/* Behind the value, which begins after white space; NULL: it is malformed or too deep. */
static const char *
read_value(const char *p, const char *end)
{
	char		open[JSON_MAX_DEPTH];
	int			depth = 0;

	for (;;)
	{
		/* a value */
		p = ref_space(p, end);
		if (p < end && (*p == '{' || *p == '['))
		{
			if (depth == JSON_MAX_DEPTH)
				return NULL;
			open[depth++] = *p == '{' ? '}' : ']';
			p = ref_space(p + 1, end);
			if (p < end && *p == open[depth - 1])
				depth--, p++;
			else
			{
				if (open[depth - 1] == '}' && (p = read_key(p, end)) == NULL)
					return NULL;
				continue;
			}
		}
		else if ((p = read_scalar(p, end)) == NULL)
			return NULL;

		/* what follows it */
		for (;;)
		{
			if (depth == 0)
				return p;
			p = ref_space(p, end);
			if (p >= end)
				return NULL;
			if (*p == ',')
			{
				p++;
				if (open[depth - 1] == '}' && (p = read_key(p, end)) == NULL)
					return NULL;
				break;
			}
			if (*p != open[depth - 1])
				return NULL;
			depth--, p++;
		}
	}
}

const char *
ref_json_skip(const char *p, const char *end)
{
	return read_value(p, end);
}

bool
ref_json_valid(const char *s, Size len)
{
	const char *p;

	if (!ref_utf8_valid(s, len))
		return false;
	p = read_value(s, s + len);
	return p != NULL && ref_space(p, s + len) == s + len;
}

int
ref_unescape(const char *s, Size len, char *dst, Size *dst_len)
{
	const char *end = s + len;
	char	   *out = dst;
	uint32		high = 0;		/* a first half that waits for its second */

	while (s < end)
	{
		uint32		c;
		char		digits[5] = {0};

		if (*s != '\\' || s[1] != 'u')
		{
			static const char from[] = "\"\\/bfnrt";
			static const char to[] = "\"\\/\b\f\n\r\t";

			if (high != 0)
				return ERRCODE_INVALID_TEXT_REPRESENTATION;
			if (*s == '\\')
			{
				*out++ = to[strchr(from, s[1]) - from];
				s++;
			}
			else
				*out++ = *s;
			s++;
			continue;
		}
		memcpy(digits, s + 2, 4);
		c = strtoul(digits, NULL, 16);
		s += 6;
		if (c >= 0xdc00 && c <= 0xdfff)
		{
			if (high == 0)
				return ERRCODE_INVALID_TEXT_REPRESENTATION;
			c = 0x10000 + ((high - 0xd800) << 10) + (c - 0xdc00);
			high = 0;
		}
		else if (high != 0)
			return ERRCODE_INVALID_TEXT_REPRESENTATION;
		else if (c >= 0xd800 && c <= 0xdbff)
		{
			high = c;
			continue;
		}
		if (c == 0)
			return ERRCODE_UNTRANSLATABLE_CHARACTER;
		if (c < 0x80)
			*out++ = c;
		else if (c < 0x800)
		{
			*out++ = 0xc0 | c >> 6;
			*out++ = 0x80 | (c & 0x3f);
		}
		else
		{
			if (c < 0x10000)
				*out++ = 0xe0 | c >> 12;
			else
			{
				*out++ = 0xf0 | c >> 18;
				*out++ = 0x80 | (c >> 12 & 0x3f);
			}
			*out++ = 0x80 | (c >> 6 & 0x3f);
			*out++ = 0x80 | (c & 0x3f);
		}
	}
	if (high != 0)
		return ERRCODE_INVALID_TEXT_REPRESENTATION;
	*dst_len = out - dst;
	return 0;
}

/* ---- which key is whose ---- */

/* Name at "level" of the column's path; false: it ends before. */
static bool
name_at(const CodecColumn *column, int level, const char **name, Size *len)
{
	const char *p = column->path;

	if (p == NULL)
	{
		*name = column->name;
		*len = strlen(*name);
		return level == 0;
	}
	/* by hand: paths are long here, and strchr() under strict_string_checks looks at the whole */
	while (level-- > 0)
	{
		while (*p != '.')
		{
			if (*p++ == '\0')
				return false;
		}
		p++;
	}
	*name = p;
	for (*len = 0; p[*len] != '.' && p[*len] != '\0';)
		(*len)++;
	return true;
}

static bool
same_name(const char *a, Size alen, const char *b, Size blen, bool exactly)
{
	Size		i;

	if (alen != blen)
		return false;
	for (i = 0; i < alen; i++)
	{
		char		x = a[i];
		char		y = b[i];

		if (!exactly)
		{
			if (x >= 'A' && x <= 'Z')
				x += 'a' - 'A';
			if (y >= 'A' && y <= 'Z')
				y += 'a' - 'A';
		}
		if (x != y)
			return false;
	}
	return true;
}

/* Do both columns take the same way to this level? */
static bool
same_way(const CodecColumn *a, const CodecColumn *b, int level)
{
	const char *x;
	const char *y;
	Size		xlen;
	Size		ylen;

	while (level-- > 0)
	{
		if (!name_at(a, level, &x, &xlen) || !name_at(b, level, &y, &ylen) || !same_name(x, xlen, y, ylen, true))
			return false;
	}
	return true;
}

/* 2: the key is exactly the column's name at the level, 1: it is the column's all the same, 0: it is not. */
static int
key_rank(const FuzzSet *set, int column, int level, const char *key, Size len)
{
	const char *own;
	const char *name;
	Size		own_len;
	Size		name_len;
	int			i;

	if (!name_at(&set->plain[column], level, &own, &own_len))
		return 0;
	if (same_name(own, own_len, key, len, true))
		return 2;
	if (!same_name(own, own_len, key, len, false))
		return 0;
	/* not another one's exact name, and the first of those that it may mean */
	for (i = 0; i < set->ncolumns; i++)
	{
		if (!same_way(&set->plain[i], &set->plain[column], level) ||
			!name_at(&set->plain[i], level, &name, &name_len))
			continue;
		if (same_name(name, name_len, key, len, true))
			return 0;
	}
	for (i = 0; i < column; i++)
	{
		if (!same_way(&set->plain[i], &set->plain[column], level) ||
			!name_at(&set->plain[i], level, &name, &name_len))
			continue;
		if (same_name(name, name_len, key, len, false))
			return same_name(name, name_len, own, own_len, true) ? 1 : 0;
	}
	return 1;
}

bool
ref_json_find(const FuzzSet *set, int column, const char *doc, Size len, const char **value, Size *value_len)
{
	const char *end = doc + len;
	const char *p = ref_space(doc, end);
	int			level;

	for (level = 0;; level++)
	{
		const char *name;
		Size		name_len;
		const char *found = NULL;
		const char *found_end = NULL;
		int			best = 0;

		if (*p != '{')
			return false;
		for (p = ref_space(p + 1, end); *p != '}'; p = ref_space(p, end))
		{
			const char *key;
			const char *key_end;
			char	   *plain;
			Size		plain_len;
			int			rank = 0;

			if (*p == ',')
				p = ref_space(p + 1, end);
			key = p + 1;
			key_end = read_string(p, end) - 1;
			plain = malloc(key_end - key + 1);
			if (ref_unescape(key, key_end - key, plain, &plain_len) == 0)
				rank = key_rank(set, column, level, plain, plain_len);
			free(plain);
			p = ref_space(read_key(p, end), end);
			key = p;
			p = read_value(p, end);
			if (rank > 0 && rank >= best)
			{
				best = rank;
				found = key;
				found_end = p;
			}
		}
		if (found == NULL)
			return false;
		if (!name_at(&set->plain[column], level + 1, &name, &name_len))
		{
			*value = found;
			*value_len = found_end - found;
			return true;
		}
		p = found;
		end = found_end;
	}
}

/* ---- csv ---- */

void
ref_csv_free(RefField *fields, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		pfree(fields[i].text);
	pfree(fields);
}

/* By states, a byte at a time. */
bool
ref_csv_parse(const char *data, Size len, char delimiter, RefField **fields, int *n)
{
	enum
	{
		START, PLAIN, QUOTED, QUOTE
	}			state = START;
	char	   *text = palloc(len + 1);
	Size		text_len = 0;
	Size		most = 1;
	Size		i;
	bool		ok = true;

	for (i = 0; i < len; i++)
		most += data[i] == delimiter;
	*fields = palloc(most * sizeof(RefField));
	*n = 0;
	if (len > 0 && data[len - 1] == '\n')
		len--;
	if (len > 0 && data[len - 1] == '\r')
		len--;
	for (i = 0; i <= len && ok; i++)
	{
		/* the end is a delimiter, unless within quotes */
		if (i == len ? state != QUOTED : data[i] == delimiter && state != QUOTED)
		{
			RefField   *field;

			field = &(*fields)[(*n)++];
			field->quoted = state == QUOTE;
			field->len = text_len;
			field->text = palloc(text_len);
			memcpy(field->text, text, text_len);
			text_len = 0;
			state = START;
			continue;
		}
		if (i == len)
		{
			ok = false;
			break;
		}
		switch (state)
		{
			case START:
			case PLAIN:
				if (data[i] == '"' && state == START)
					state = QUOTED;
				else if (data[i] == '"' || data[i] == '\n' || data[i] == '\r')
					ok = false;
				else
				{
					state = PLAIN;
					text[text_len++] = data[i];
				}
				break;
			case QUOTED:
				if (data[i] == '"')
					state = QUOTE;
				else
					text[text_len++] = data[i];
				break;
			case QUOTE:
				if (data[i] != '"')
					ok = false;
				else
				{
					text[text_len++] = '"';
					state = QUOTED;
				}
				break;
		}
	}
	pfree(text);
	return ok;
}

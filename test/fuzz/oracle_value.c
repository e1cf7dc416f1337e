/*-------------------------------------------------------------------------
 *
 * oracle_value.c
 *	  What a JSON value becomes as jsonb, and as the literal of an array or
 *	  row: written once more, from the text instead of the tokens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fuzz.h"

/* The content of a string that has been accepted. */
static char *
plain_string(const char *p, const char *end, Size *len)
{
	const char *stop = ref_json_skip(p, end);
	char	   *plain = malloc(stop - p);

	if (ref_unescape(p + 1, stop - p - 2, plain, len) != 0)
		fuzz_finding("a string that is no text was accepted");
	return plain;
}

/* ---- jsonb: as shim_jsonb.c writes it ---- */

typedef struct Member
{
	char	   *key;
	Size		len;
	int			order;
	FuzzBuffer		value;
} Member;

static int
compare_members(const void *a, const void *b)
{
	const Member *x = a;
	const Member *y = b;
	int			result;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	result = memcmp(x->key, y->key, x->len);
	return result != 0 ? result : y->order - x->order;
}

static void
append_string(FuzzBuffer *out, const char *s, Size len)
{
	char		hex[8];
	Size		i;

	buffer_append(out, "\"", 1);
	for (i = 0; i < len; i++)
	{
		if ((unsigned char) s[i] < ' ')
		{
			snprintf(hex, sizeof(hex), "\\u%04x", s[i]);
			buffer_string(out, hex);
			continue;
		}
		if (s[i] == '"' || s[i] == '\\')
			buffer_append(out, "\\", 1);
		buffer_append(out, s + i, 1);
	}
	buffer_append(out, "\"", 1);
}

static const char *
write_jsonb(CodecDecoder *decoder, const char *p, const char *end, Arena *arena, FuzzBuffer *out)
{
	const char *stop;
	char	   *plain;
	Size		len;

	p = ref_space(p, end);
	if (*p == '{')
	{
		Member	   *members = NULL;
		int			n = 0;
		int			written = 0;
		int			i;

		for (p = ref_space(p + 1, end); *p != '}'; p = ref_space(p, end))
		{
			if (*p == ',')
				p = ref_space(p + 1, end);
			members = realloc(members, (n + 1) * sizeof(Member));
			memset(&members[n], 0, sizeof(Member));
			members[n].key = plain_string(p, end, &members[n].len);
			members[n].order = n;
			p = ref_space(ref_json_skip(p, end), end);
			p = write_jsonb(decoder, p + 1, end, arena, &members[n].value);
			n++;
		}
		if (n > 0)
			(qsort) (members, n, sizeof(Member), compare_members);
		buffer_append(out, "{", 1);
		for (i = 0; i < n; i++)
		{
			if (i == 0 || members[i].len != members[i - 1].len ||
				memcmp(members[i].key, members[i - 1].key, members[i].len) != 0)
			{
				if (written++ > 0)
					buffer_append(out, ",", 1);
				append_string(out, members[i].key, members[i].len);
				buffer_append(out, ":", 1);
				buffer_append(out, members[i].value.data, members[i].value.len);
			}
		}
		for (i = 0; i < n; i++)
		{
			free(members[i].key);
			free(members[i].value.data);
		}
		free(members);
		buffer_append(out, "}", 1);
		return p + 1;
	}
	if (*p == '[')
	{
		buffer_append(out, "[", 1);
		for (p = ref_space(p + 1, end); *p != ']'; p = ref_space(p, end))
		{
			if (*p == ',')
			{
				buffer_append(out, ",", 1);
				p++;
			}
			p = write_jsonb(decoder, p, end, arena, out);
		}
		buffer_append(out, "]", 1);
		return p + 1;
	}
	stop = ref_json_skip(p, end);
	if (*p == '"')
	{
		plain = plain_string(p, end, &len);
		append_string(out, plain, len);
		free(plain);
	}
	else if (*p == 't' || *p == 'f' || *p == 'n')
		buffer_append(out, p, stop - p);
	else
	{
		Datum		number;
		char	   *text;

		if (parse_numeric(decoder, p, stop - p, -1, arena, &number) != NUMBER_OK)
			fuzz_finding("a number beyond numeric was accepted");
		text = shim_numeric_out(DatumGetPointer(number));
		buffer_string(out, text);
		pfree(text);
	}
	return stop;
}

/* ---- literals ---- */

static void write_literal(const TypeInfo *info, const char *p, const char *end, FuzzBuffer *out);

static void
write_quoted(const TypeInfo *info, const char *p, const char *end, FuzzBuffer *out)
{
	FuzzBuffer		text = {0};
	Size		i;

	write_literal(info, p, end, &text);
	buffer_append(out, "\"", 1);
	for (i = 0; i < text.len; i++)
	{
		if (text.data[i] == '"' || text.data[i] == '\\')
			buffer_append(out, "\\", 1);
		buffer_append(out, text.data + i, 1);
	}
	buffer_append(out, "\"", 1);
	free(text.data);
}

static void
write_array(const TypeInfo *info, const char *p, const char *end, FuzzBuffer *out)
{
	buffer_append(out, "{", 1);
	for (p = ref_space(p + 1, end); *p != ']'; p = ref_space(p, end))
	{
		if (*p == ',')
		{
			buffer_append(out, &info->delimiter, 1);
			p = ref_space(p + 1, end);
		}
		if (*p == 'n')
			buffer_string(out, "NULL");
		else if (*p == '[' && info->element->shape != SHAPE_JSON)
			write_array(info, p, end, out);
		else
			write_quoted(info->element, p, end, out);
		p = ref_json_skip(p, end);
	}
	buffer_append(out, "}", 1);
}

static bool
same_ignoring_case(const char *a, const char *b, Size len)
{
	return pg_strncasecmp(a, b, len) == 0;
}

static void
write_row(const TypeInfo *info, const char *object, const char *end, FuzzBuffer *out)
{
	bool		first = true;
	int			i;
	int			k;

	buffer_append(out, "(", 1);
	for (i = 0; i < info->natts; i++)
	{
		const char *found = NULL;
		bool		found_exactly = false;
		const char *p;

		if (info->names[i] == NULL)
			continue;
		for (p = ref_space(object + 1, end); *p != '}'; p = ref_space(p, end))
		{
			char	   *key;
			Size		len;
			bool		exactly;
			bool		mine;

			if (*p == ',')
				p = ref_space(p + 1, end);
			key = plain_string(p, end, &len);
			p = ref_space(ref_json_skip(p, end), end);
			p = ref_space(p + 1, end);
			mine = strlen(info->names[i]) == len && same_ignoring_case(info->names[i], key, len);
			exactly = mine && memcmp(info->names[i], key, len) == 0;
			/* not where it is another one's exact name, or an earlier one's in another case */
			for (k = 0; k < info->natts && mine && !exactly; k++)
			{
				if (k != i && info->names[k] != NULL && strlen(info->names[k]) == len &&
					(memcmp(info->names[k], key, len) == 0 || (k < i && same_ignoring_case(info->names[k], key, len))))
					mine = false;
			}
			if (mine && exactly >= found_exactly)
			{
				found = p;
				found_exactly = exactly;
			}
			free(key);
			p = ref_json_skip(p, end);
		}
		if (!first)
			buffer_append(out, ",", 1);
		first = false;
		if (found != NULL && *found != 'n')
			write_quoted(info->attributes[i], found, end, out);
	}
	buffer_append(out, ")", 1);
}

static void
write_literal(const TypeInfo *info, const char *p, const char *end, FuzzBuffer *out)
{
	if (*p == '[' && info->shape == SHAPE_ARRAY)
		write_array(info, p, end, out);
	else if (*p == '{' && info->shape == SHAPE_COMPOSITE)
		write_row(info, p, end, out);
	else if (*p == '"' && info->shape != SHAPE_JSON)
	{
		Size		len;
		char	   *plain = plain_string(p, end, &len);

		buffer_append(out, plain, len);
		free(plain);
	}
	else
		buffer_append(out, p, ref_json_skip(p, end) - p);
}

/* The value that was made of the text must be this one. */
void
oracle_check_value(CodecDecoder *decoder, int column, const char *text, Size len, Datum value, Arena *arena)
{
	const Column *col = &decoder->columns[column];
	const char *end = text + len;
	FuzzBuffer		expected = {0};

	if (col->kind == KIND_JSONB)
		(void) write_jsonb(decoder, text, end, arena, &expected);
	else
		write_literal(col->info, ref_space(text, end), end, &expected);
	if (expected.len != VARSIZE(DatumGetPointer(value)) - VARHDRSZ ||
		memcmp(expected.data, VARDATA(DatumGetPointer(value)), expected.len) != 0)
		fuzz_finding("column %d: the value is %.*s, not %s", column, (int) (VARSIZE(DatumGetPointer(value)) - VARHDRSZ),
					 VARDATA(DatumGetPointer(value)), expected.data);
	free(expected.data);
}

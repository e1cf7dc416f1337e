/*-------------------------------------------------------------------------
 *
 * mutate.c
 *	  New inputs: made for a table from what its columns understand, or made
 *	  from other inputs by changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "fuzz.h"

#define MAX_MUTATED		(64 * 1024)

static bool
chance(Random *random, uint32 of)
{
	return random_below(random, of) == 0;
}

#define PICK(random, array) ((array)[random_below(random, lengthof(array))])

static void
buffer_char(FuzzBuffer *buffer, char c)
{
	buffer_append(buffer, &c, 1);
}

/* ---- values ---- */

static const char *const any_texts[] = {
	"", "a", "abc", "abcd", "   ", "abc   ", "\xc3\xa4", "\xc3\xa4\xc3\xb6\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "a\"b\\c/d",
	"\b\f\n\r\t\x01\x1f\x7f", "null", "NULL", "true", "{}", "[]", "{\"a\":1}", "0", "-1", "it's", "{a,b}", "(1,x)", "\xff", "\xc3", "\xed\xa0\x80",
	"\xf4\x90\x80\x80", "\xef\xbb\xbf", "\xef\xbf\xbf", "0123456789012345678901234567890123456789", "\xc2\x80", "\xc1\x80",
	"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
};
static const char *const any_numbers[] = {
	"0", "-0", "1", "-1", "42", "1.5", "0.5", "-0.000001", "1e2", "1E+2", "10e-1", "1.0", "32767", "32768", "-32768", "-32769", "2147483647",
	"2147483648", "-2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
	"18446744073709551616", "123456789012345678", "1234567890123456789", "0.1", "3.4028235e38", "3.4028236e38", "1e-45", "1e-46", "1e308", "1.8e308",
	"4.9e-324", "1e-324", "1e400", "-1e400", "1e-400", "1e131071", "1e131072", "1e-16383", "1e-16384", "1e1000000", "1e99999999999999999999", "-1e-99999999999999999999",
	"999.995", "999.994", "9999.995", "99999.5", "0.0049999", "9999", "10000", "99990000", "0.0001", "0.00009999", "12345678.12345678", "1704067200000",
	"-210866803200000", "-210866803200001", "9224318015999999", "9224318016000000", "1704067200123.4567", "0.00000000000000000001", "100000000000000000000",
	"99999999999999999999999999999999999999999999999999999999999999999.5", "0e0", "0e99999", "0.0e-20000"
};
static const char *const number_words[] = {
	"NaN", "nan", "Infinity", "-Infinity", "inf", "+inf", "infinit", " 1 ", "\t1\n", "+1", "1.", ".1", ".", "-", "+", "", "e1", "1e", "1e+", "0x10", "--1", "1 1", "1_000",
	"0x1p4", "nan(1)", "00012", "1\v", "1,5"
};
static const char *const bools[] = {"true", "false", "t", "f", "yes", "no", "on", "off", "1", "0", "2", "", "o", "tru", "TRUE", "truely", "fals", " t "};
static const char *const times[] = {
	"2024-02-29T12:34:56.789Z", "2024-01-01 00:00:00", "2024-01-01T00:00", "2024-01-01", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
	"2024-01-01T00:00:00+15:59", "2024-01-01T00:00:00-1559", "2024-01-01T00:00:00+16:00", "2024-01-01T00:00:00+02", "2024-01-01T00:00:00.9999999", "2024-01-01T00:00:00.123456789012345678",
	"2024-01-01T23:59:60Z", "2024-01-01T24:00:00Z", "2024-01-01T25:00:00Z", "2024-02-30", "2023-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "294276-12-31T23:59:59.999999Z", "294277-01-01T00:00:00Z",
	"294276-12-31 23:59:59.9999999+00", "4714-11-24 00:00:00 BC", "4714-11-23 23:59:59 BC", "4713-01-01 BC", "5874897-12-31", "5874898-01-01", "infinity", "-infinity", "epoch", "now", "today", " NOW ", "yesterday", "tomorrow",
	"20240102", "20240102T030405Z", "2024-01-01 00:00:00 Europe/Berlin", "2024-01-01 12:00 nowhere/land", "2024-01-01 BC", "12:34", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00ZZ", "2024-1-1", "x", "",
	"2024-01-01 00:00:00.5 +00", "99999999999-01-01", "2024-01-01 1:2:3:4:5:6:7:8:9", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26",
	"2024-01-01T00:00:", "2024-01-01T00:00:0", "2024-01-01T00:00:00.", "2024-01-01T00:00:00.1", "2024-01-01T00:00:00+", "2024-01-01T00:00:00+0", "2024-01-01T00:00+01:", "2024-01-01T00:00+01:3",
	"2024-01-01T00:00:00Z                                                                                                          ",
	"2024-01-01T00:00:00Z                                                                                                                    "
};
static const char *const uuids[] = {
	"c4ca4238-a0b9-2382-0dcc-509a6f75849b", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11",
	"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "c4ca4238-a0b9-2382-0dcc-509a6f75849", "c4ca4238-a0b9-2382-0dcc-509a6f75849g", "c4ca4238-a0b9-2382-0dcc-509a6f75849b1",
	"{c4ca4238-a0b9-2382-0dcc-509a6f75849b", "c4ca4238a0b9-2382-0dcc-509a6f75849b-", "c4ca4238-a0b9-2382-0dcc-509a6f7584/b", "c4ca4238-a0b9-2382-0dcc-509a6f7584@b", "c4ca4238-a0b9-2382-0dcc-509a6f7584`b", "{}", ""
};
static const char *const byteas[] = {"", "\\x", "\\xdead", "\\xDE ad\n01", "\\x1", "\\xzz", "abc", "a\\\\b\\001", "\\377", "\\400", "\\", "\\0", "\\00", "\\x 1 2"};
static const char *const literals[] = {
	"{}", "{1,2,3}", "{NULL,1}", "{{1,2},{3}}", "{\"a,b\",\"c\\\"d\"}", "(1,x)", "(,)", "(\"1\",\"x\\\"y\")", "{\"(1,x)\",\"(,)\"}", "{1", "(1", "}", "\\", "{\"", "1", "3", "-3", "x"
};
static const char *const whole_values[] = {
	"null", "true", "false", "[]", "{}", "[1,null,3]", "[[1,2],[3,4]]", "[\"a,b\",\"c\\\"d\\\\e\",null,\"NULL\",\"\",1.5,true,{\"a\":[]}]",
	"{\"x\":1,\"y\":\"a\\\"b,\\\\\"}", "{\"X\":1,\"x\":2,\"Y\":null,\"y\":\"z\"}", "[{\"x\":1},{\"Y\":[1]},null]", "{\"a\":[1,[2]],\"p\":{\"x\":1},\"j\":{\"k\":\"v\"},\"name with \\\"quotes\\\"\":\"\\\\\"}",
	"{\"b\":1,\"a\":2,\"b\":3, \"aa\":{\"z\":[]}}", "[[[[[[[[]]]]]]]]", "{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}", "[1e400000]", "[\"\\u0000\"]", "{\"\\ud800\":1}", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\ude00\"",
	"\"\\u00e4\\u20ac\\n\\t\\\"\\\\\\/\\b\\f\\r\"", "\"\\u0000\"", "\"\\q\"", "\"\\u12g4\"", "\"a\tb\"", "\"open", "tru", "nul", "falsee", "01", "+1", ".5", "1.", "-", "1e", "NaN", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{,}", "[", "{", "\"\\\"", "\"\\\\\"", "/**/1", "'a'",
	"{\"c\":1,\"d\":\"e\"}", "{\"b\":{\"c\":1,\"C\":2},\"d\":\"e\"}", "{\"B\":{\"C\":1},\"b\":5}", "{\"x\":{\"x\":{\"x\":{\"x\":{\"x\":7}}}}}"
};

static void
random_number(Random *random, FuzzBuffer *out)
{
	int			n = 1 + random_below(random, chance(random, 20) ? 200 : 20);
	int			point = chance(random, 2) ? random_below(random, n) : -1;
	int			i;
	char		exponent[16];

	if (chance(random, 4))
		buffer_char(out, '-');
	for (i = 0; i < n; i++)
	{
		if (i == point)
			buffer_string(out, i == 0 ? "0." : ".");
		/* many zeros and nines: they are what rounding and the groups of four are about */
		buffer_char(out, '0' + (chance(random, 2) ? 9 * random_below(random, 2) : random_below(random, 10)));
	}
	if (chance(random, 4))
	{
		snprintf(exponent, sizeof(exponent), "e%d", (int) random_below(random, chance(random, 4) ? 40000 : 40) - 20);
		buffer_string(out, exponent);
	}
}

static void
random_text(Random *random, FuzzBuffer *out)
{
	int			n = random_below(random, chance(random, 50) ? 3000 : chance(random, 5) ? 200 : 12);

	while (n-- > 0)
	{
		if (chance(random, 10))
			buffer_string(out, PICK(random, any_texts));
		else if (chance(random, 200))
			buffer_char(out, random_below(random, 256));
		else
			buffer_char(out, ' ' + random_below(random, 95));
	}
}

/* in messages that shall be accepted nearly all values are good ones */
static bool careful;

static void
good_text(Random *random, Oid type, FuzzBuffer *out)
{
	static const char *const texts[] = {"", "a", "ab ", "abc", "x\"y", "\\", "\xc3\xa4", "\xe2\x82\xac\xf0\x9f\x98\x80"};
	static const char *const json[] = {"1", "\"x\"", "[1,{\"a\":null}]", "{\"b\":[],\"a\":2}", "1.50", "true", "\"\\u00e4\\n\""};
	char		text[100];
	uint32		r = random_next(random);
	int			width = 1 + random_below(random, 18);

	switch (type)
	{
		case BOOLOID:
			buffer_string(out, r & 1 ? "true" : "false");
			break;
		case INT2OID:
			snprintf(text, sizeof(text), "%d", (int16) r);
			buffer_string(out, text);
			break;
		case INT4OID:
			snprintf(text, sizeof(text), "%d", (int32) r);
			buffer_string(out, text);
			break;
		case FUZZ_POSINT:
			snprintf(text, sizeof(text), "%u", 1 + r % 1000000);
			buffer_string(out, text);
			break;
		case INT8OID:
			snprintf(text, sizeof(text), "%lld", (long long) (random_next(random) >> (r % 64)));
			buffer_string(out, text);
			break;
		case FLOAT4OID:
		case FLOAT8OID:
			snprintf(text, sizeof(text), "%.*g", width, (double) (int32) r / (1 + r % 1000));
			buffer_string(out, text);
			break;
		case NUMERICOID:
			snprintf(text, sizeof(text), "%d.%0*d", (int32) r % 1000, width % 9 + 1, (int) (r % 10));
			buffer_string(out, chance(random, 4) ? "0" : text);
			break;
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
			snprintf(text, sizeof(text), "%04u-%02u-%02u", 1 + r % 9999, 1 + (r >> 8) % 12, 1 + (r >> 16) % 28);
			buffer_string(out, text);
			if (type == DATEOID)
				break;
			snprintf(text, sizeof(text), "%c%02u:%02u:%02u.%0*u%s", r & 1 ? 'T' : ' ', r % 24, (r >> 4) % 60, (r >> 12) % 60,
					 width % 8 + 1, r % 10, r & 2 ? "Z" : r & 4 ? "+02:30" : r & 8 ? "-11" : "");
			buffer_string(out, text);
			break;
		case UUIDOID:
			snprintf(text, sizeof(text), "%08x-%04x-%04x-%04x-%04x%08x", r, r & 0xffff, r >> 16, r >> 9 & 0xffff, r >> 5 & 0xffff, ~r);
			buffer_string(out, text);
			break;
		case BYTEAOID:
			snprintf(text, sizeof(text), "\\x%08x", r);
			buffer_string(out, text);
			break;
		case JSONOID:
		case JSONBOID:
			buffer_string(out, PICK(random, json));
			break;
		case INT4ARRAYOID:
		case TEXTARRAYOID:
		case JSONBARRAYOID:
		case FUZZ_POINT_ARRAY:
		case FUZZ_BOX_ARRAY:
			buffer_string(out, r & 1 ? "{}" : "{NULL,NULL}");
			break;
		case FUZZ_POINT:
			buffer_string(out, r & 1 ? "(1,x)" : "(,\"\")");
			break;
		case FUZZ_NEST:
			buffer_string(out, "(\"{1,2}\",,\"(1,x)\",,)");
			break;
		default:
			buffer_string(out, PICK(random, texts));
			break;
	}
}

/* The plain text of a value that suits the type, mostly. */
static void
value_text(Random *random, Oid type, FuzzBuffer *out)
{
	if (careful && !chance(random, 64))
	{
		good_text(random, type, out);
		return;
	}
	if (chance(random, 20))
		type = TEXTOID;
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			if (chance(random, 4))
				buffer_string(out, PICK(random, number_words));
			else if (chance(random, 2))
				buffer_string(out, PICK(random, any_numbers));
			else
				random_number(random, out);
			break;
		case BOOLOID:
			buffer_string(out, PICK(random, bools));
			break;
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
			buffer_string(out, PICK(random, times));
			break;
		case UUIDOID:
			buffer_string(out, PICK(random, uuids));
			break;
		case BYTEAOID:
			buffer_string(out, PICK(random, byteas));
			break;
		case JSONOID:
		case JSONBOID:
			buffer_string(out, PICK(random, whole_values));
			break;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			if (chance(random, 3))
				random_text(random, out);
			else
				buffer_string(out, PICK(random, any_texts));
			break;
		default:
			buffer_string(out, chance(random, 3) ? PICK(random, any_texts) : PICK(random, literals));
			break;
	}
}

/* ---- JSON ---- */

static void
space(Random *random, FuzzBuffer *out)
{
	static const char *const spaces[] = {" ", "  ", "\n", "\t", "\r\n", "                    "};

	if (chance(random, 12))
		buffer_string(out, PICK(random, spaces));
}

static void
json_string_of(Random *random, const char *s, Size len, FuzzBuffer *out)
{
	static const char from[] = "\"\\\b\f\n\r\t/";
	static const char to[] = "\"\\bfnrt/";
	char		escape[8];
	Size		i;

	buffer_char(out, '"');
	for (i = 0; i < len; i++)
	{
		unsigned char c = s[i];
		const char *at = c != '\0' ? strchr(from, c) : NULL;

		if (c < 0x80 && chance(random, 60))
		{
			snprintf(escape, sizeof(escape), chance(random, 2) ? "\\u%04x" : "\\u%04X", c);
			buffer_string(out, escape);
		}
		else if (at != NULL && (c != '/' || chance(random, 2)))
		{
			buffer_char(out, '\\');
			buffer_char(out, to[at - from]);
		}
		else if (c < ' ' && !chance(random, 10))
		{
			snprintf(escape, sizeof(escape), "\\u%04x", c);
			buffer_string(out, escape);
		}
		else
			buffer_char(out, c);
	}
	buffer_char(out, '"');
}

static void json_value_of(Random *random, Oid type, int depth, FuzzBuffer *out);

/* Objects and arrays of anything. */
static void
json_container(Random *random, int depth, FuzzBuffer *out)
{
	static const char *const keys[] = {"a", "b", "c", "x", "y", "Y", "X", "p", "j", "", "d", "A", "aa", "name with \"quotes\""};
	bool		object = chance(random, 2);
	int			n = random_below(random, depth > 4 ? 2 : 5);
	int			i;

	buffer_char(out, object ? '{' : '[');
	for (i = 0; i < n; i++)
	{
		if (i > 0)
			buffer_char(out, ',');
		space(random, out);
		if (object)
		{
			const char *key = PICK(random, keys);

			json_string_of(random, key, strlen(key), out);
			buffer_char(out, ':');
		}
		json_value_of(random, TEXTOID, depth + 1, out);
	}
	space(random, out);
	buffer_char(out, object ? '}' : ']');
}

static void
json_value_of(Random *random, Oid type, int depth, FuzzBuffer *out)
{
	FuzzBuffer		text = {0};
	int			n;
	int			i;

	switch (random_below(random, careful ? 160 : 16))
	{
		case 0:
			buffer_string(out, "null");
			return;
		case 1:
			buffer_string(out, PICK(random, whole_values));
			return;
		case 2:
			json_container(random, depth, out);
			return;
		case 3:
			buffer_string(out, PICK(random, any_numbers));
			return;
		case 4:
			if (!chance(random, 20))
				break;
			/* deep, mostly not closed the right number of times */
			n = chance(random, 2) ? 990 + random_below(random, 20) : random_below(random, 3000);
			for (i = 0; i < n; i++)
				buffer_string(out, chance(random, 2) ? "[" : "{\"a\":");
			buffer_string(out, "1");
			for (i = (int) out->len; i > 0 && n > 0; i--)
			{
				if (out->data[i - 1] == '[' || out->data[i - 1] == '{')
				{
					buffer_char(out, out->data[i - 1] == '[' ? ']' : '}');
					n--;
				}
			}
			return;
		default:
			break;
	}
	value_text(random, type, &text);
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
		case BOOLOID:
		case JSONOID:
		case JSONBOID:
			/* as it is: mostly a JSON value too */
			if (!chance(random, 4) && text.len > 0)
				buffer_append(out, text.data, text.len);
			else
				json_string_of(random, text.data, text.len, out);
			break;
		default:
			if (type >= 1000 && chance(random, 2))
				json_container(random, depth, out);
			else
				json_string_of(random, text.data != NULL ? text.data : "", text.len, out);
			break;
	}
	free(text.data);
}

/* A key: the name, the name in another case, or another one. */
static void
json_key_of(Random *random, const char *name, Size len, FuzzBuffer *out)
{
	static const char *const others[] = {"a", "b", "zz", "", "amout", "card ", "\\u0000", "key", "A", "abc", "aBC"};
	char		changed[256];
	Size		i;

	if (chance(random, careful ? 100 : 12))
	{
		const char *other = PICK(random, others);

		buffer_char(out, '"');
		buffer_string(out, other);
		buffer_char(out, '"');
	}
	else
	{
		memcpy(changed, name, len);
		for (i = 0; i < len && chance(random, 6); i++)
		{
			if ((changed[i] >= 'a' && changed[i] <= 'z') || (changed[i] >= 'A' && changed[i] <= 'Z'))
				changed[i] ^= 0x20;
		}
		json_string_of(random, changed, len, out);
	}
	space(random, out);
	buffer_char(out, ':');
	space(random, out);
}

/* The columns below a path, as an object. */
static void
json_object_of(Random *random, const FuzzSet *set, const char *prefix, FuzzBuffer *out)
{
	Size		prefix_len = strlen(prefix);
	bool		first = true;
	int			i;

	buffer_char(out, '{');
	space(random, out);
	for (i = 0; i < set->ncolumns; i++)
	{
		const CodecColumn *column = &set->plain[i];
		const char *path = column->path != NULL ? column->path : column->name;
		Size		len;
		int			times_left = chance(random, careful ? 100 : 15) ? 0 : chance(random, 15) ? 2 : 1;

		if (strncmp(path, prefix, prefix_len) != 0 || (column->path == NULL && prefix_len > 0))
			continue;
		path += prefix_len;
		len = column->path != NULL ? strcspn(path, ".") : strlen(path);
		while (times_left-- > 0)
		{
			if (!first)
			{
				buffer_char(out, ',');
				space(random, out);
			}
			first = false;
			json_key_of(random, path, len, out);
			if (path[len] == '.' && !chance(random, 6))
			{
				char		below[256];

				snprintf(below, sizeof(below), "%.*s", (int) (prefix_len + len + 1), path - prefix_len);
				json_object_of(random, set, below, out);
			}
			else
				json_value_of(random, column->type, 0, out);
			space(random, out);
		}
		/* others between them, at times more than a decoder remembers */
		if (chance(random, 20))
		{
			int			n = chance(random, 30) ? 300 : 1;

			while (n-- > 0)
			{
				char		key[100];

				snprintf(key, sizeof(key), "%s\"k%u%s\":%u", first ? "" : ",", random_below(random, 1000),
						 chance(random, 20) ? "_a_name_that_is_as_long_as_names_can_be_with_its_sixty-three_bytes" : "", random_below(random, 10));
				first = false;
				buffer_string(out, key);
			}
		}
	}
	buffer_char(out, '}');
}

/* ---- csv ---- */

static void
csv_record_of(Random *random, const FuzzSet *set, FuzzBuffer *out)
{
	char		delimiter = chance(random, 30) ? ',' : set->delimiter;
	int			n = set->ncolumns;
	int			i;
	Size		k;

	if (chance(random, 30))
		n += (int) random_below(random, 3) - 1;
	for (i = 0; i < n; i++)
	{
		FuzzBuffer		text = {0};
		bool		quote;

		if (i > 0)
			buffer_char(out, delimiter);
		if (chance(random, careful ? 100 : 10))
			continue;
		value_text(random, i < set->ncolumns ? set->columns[i].type : TEXTOID, &text);
		quote = chance(random, 3);
		for (k = 0; k < text.len && !quote; k++)
			quote = strchr("\"\r\n", text.data[k]) != NULL || text.data[k] == delimiter;
		if (!quote || chance(random, 50))
			buffer_append(out, text.data, text.len);
		else
		{
			buffer_char(out, '"');
			for (k = 0; k < text.len; k++)
			{
				if (text.data[k] == '"' && !chance(random, 50))
					buffer_char(out, '"');
				buffer_char(out, text.data[k]);
			}
			buffer_char(out, '"');
		}
		free(text.data);
	}
	if (chance(random, 5))
		buffer_string(out, chance(random, 2) ? "\n" : "\r\n");
}

void
generate_message(Random *random, const FuzzSet *set, FuzzBuffer *out)
{
	careful = chance(random, 2);
	switch (set->format)
	{
		case CODEC_JSON:
			space(random, out);
			json_object_of(random, set, "", out);
			space(random, out);
			break;
		case CODEC_CSV:
			csv_record_of(random, set, out);
			break;
		case CODEC_RAW:
			if (set->columns[0].type == JSONOID || set->columns[0].type == JSONBOID)
				json_container(random, 0, out);
			else
				value_text(random, set->columns[0].type, out);
			break;
	}
}

/* ---- changes ---- */

static const char *const json_tokens[] = {
	"{", "}", "[", "]", ":", ",", "\"", "\\", "\\\"", "\\\\", "\\u", "\\u0000", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\\u00e4", "\\n", "\\x", "null", "true", "false", "0", "-", "1e400", "1.5", ".", "e", "E+",
	"\"a\":", ",\"a\":1", "\"at\":", "{}", "[]", "{\"a\":{\"b\":{\"c\":", " ", "\n", "\t", "\r", "\f", "\v", "/*", "//", "\xef\xbb\xbf", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", "\x80", "\xed\xa0\x80", "\x7f", "\x01", "\x1f",
	"2024-01-01T00:00:00Z", "infinity", "NaN", "\x1e"
};
static const char *const csv_tokens[] = {
	",", ";", "|", "\t", "\"", "\"\"", "\"\"\"", "\",\"", "\n", "\r", "\r\n", "\"\n", ",,", "a", " ", "0", "-1", "1e400", "NaN", "null", "{}", "{\"\"a\"\":1}", "2024-01-01", "1704067200000", "\\x", "\\", "\xef\xbb\xbf", "\xc3\xa4", "\xff", "\x80", "\x01", "\x1e"
};

static void
replace(FuzzBuffer *out, Size at, Size gone, const char *with, Size len)
{
	FuzzBuffer		changed = {0};

	buffer_append(&changed, out->data, at);
	buffer_append(&changed, with, len);
	buffer_append(&changed, out->data + at + gone, out->len - at - gone);
	free(out->data);
	*out = changed;
}

/* A run of bytes that begins after one of "stops" and goes on to the next of them: a value, roughly. */
static void
find_part(Random *random, const FuzzBuffer *out, const char *stops, Size *at, Size *len)
{
	Size		start = random_below(random, out->len + 1);
	Size		end;

	while (start > 0 && strchr(stops, out->data[start - 1]) == NULL)
		start--;
	end = start;
	while (end < out->len && strchr(stops, out->data[end]) == NULL)
		end++;
	*at = start;
	*len = end - start;
}

void
mutate_message(Random *random, const FuzzSet *set, FuzzBuffer *out, const char *other, Size other_len)
{
	int			n = 1 + random_below(random, 4);
	const char *stops = set->format == CODEC_CSV ? ",;|\t\"\n" : ",:{}[]";

	careful = false;
	buffer_append(out, "", 0);
	while (n-- > 0)
	{
		Size		at = random_below(random, out->len + 1);
		Size		rest = out->len - at;
		Size		most = chance(random, 4) ? rest : Min(rest, 8);
		Size		len = rest == 0 ? 0 : 1 + random_below(random, most);
		FuzzBuffer		part = {0};
		int			i;

		switch (random_below(random, 15))
		{
			case 0:				/* a bit */
				if (rest > 0)
					out->data[at] ^= 1 << random_below(random, 8);
				break;
			case 1:				/* a byte */
				if (rest > 0)
					out->data[at] = random_below(random, 256);
				break;
			case 2:				/* gone */
				replace(out, at, len, "", 0);
				break;
			case 3:				/* again */
				buffer_append(&part, out->data + at, len);
				replace(out, at, 0, part.data, part.len);
				break;
			case 4:				/* many times */
				for (i = random_below(random, 100); i > 0 && part.len < MAX_MUTATED; i--)
					buffer_append(&part, out->data + at, len);
				replace(out, at, 0, part.data, part.len);
				break;
			case 5:				/* cut off */
				if (chance(random, 3))
					replace(out, at, rest, "", 0);
				break;
			case 6:				/* a part of another one */
				if (other_len > 0)
				{
					Size		from = random_below(random, other_len);
					Size		other_part = 1 + random_below(random, Min(other_len - from, 200));

					replace(out, at, chance(random, 2) ? len : 0, other + from, other_part);
				}
				break;
			case 7:				/* the other one as the next message */
				if (chance(random, 3) && out->len + other_len < MAX_MUTATED)
				{
					char		separator = FUZZ_SEPARATOR;

					buffer_append(out, &separator, 1);
					buffer_append(out, other, other_len);
				}
				break;
			case 8:
			case 9:
			case 10:			/* a token */
				{
					const char *token = set->format == CODEC_CSV ? PICK(random, csv_tokens) : PICK(random, json_tokens);

					replace(out, at, chance(random, 2) ? len : 0, token, strlen(token));
					break;
				}
			case 11:
			case 12:			/* another value */
				find_part(random, out, stops, &at, &len);
				if (set->format == CODEC_CSV)
					value_text(random, set->ncolumns > 0 ? set->columns[random_below(random, set->ncolumns)].type : TEXTOID, &part);
				else
					json_value_of(random, set->ncolumns > 0 ? set->columns[random_below(random, set->ncolumns)].type : TEXTOID, 0, &part);
				replace(out, at, len, part.data, part.len);
				break;
			case 13:			/* the case of a letter */
				if (rest > 0)
					out->data[at] ^= 0x20;
				break;
			case 14:			/* some bytes */
				for (i = 1 + random_below(random, 6); i > 0; i--)
					buffer_char(&part, random_below(random, 256));
				replace(out, at, chance(random, 2) ? len : 0, part.data, part.len);
				break;
		}
		free(part.data);
		if (out->len > MAX_MUTATED)
			replace(out, MAX_MUTATED, out->len - MAX_MUTATED, "", 0);
	}
}

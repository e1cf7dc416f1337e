/*-------------------------------------------------------------------------
 *
 * sets.c
 *	  The tables that messages are decoded for: types, needed or not, paths,
 *	  NOT NULL, names, encodings, delimiters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"

#include "fuzz.h"

#define NUMERIC_TYPMOD(p, s)	((((p) << 16) | ((s) & 0x7ff)) + (int) VARHDRSZ)
#define CHARS(n)		((n) + (int) VARHDRSZ)

/* how the columns are made from the list: all needed, every other one, none, NOT NULL */
#define ALL			'a'
#define ODD			'o'
#define NONE		'n'
#define STRICT		's'

typedef struct ColumnSpec
{
	const char *name;
	const char *path;
	Oid			type;
	int32		typmod;
} ColumnSpec;

static const ColumnSpec transaction[] = {
	{"tx_id", NULL, UUIDOID, -1}, {"card", NULL, TEXTOID, -1}, {"amount", NULL, NUMERICOID, NUMERIC_TYPMOD(12, 2)},
	{"at", NULL, TIMESTAMPTZOID, -1}, {NULL}
};
static const ColumnSpec scalars[] = {
	{"i2", NULL, INT2OID, -1}, {"i4", NULL, INT4OID, -1}, {"i8", NULL, INT8OID, -1}, {"f4", NULL, FLOAT4OID, -1},
	{"f8", NULL, FLOAT8OID, -1}, {"n", NULL, NUMERICOID, -1}, {"b", NULL, BOOLOID, -1}, {"t", NULL, TEXTOID, -1},
	{"v", NULL, VARCHAROID, CHARS(3)}, {"c", NULL, BPCHAROID, CHARS(3)}, {"tz", NULL, TIMESTAMPTZOID, -1},
	{"ts", NULL, TIMESTAMPOID, -1}, {"d", NULL, DATEOID, -1}, {"u", NULL, UUIDOID, -1}, {"y", NULL, BYTEAOID, -1}, {NULL}
};
static const ColumnSpec numbers[] = {
	{"n", NULL, NUMERICOID, NUMERIC_TYPMOD(5, 0)}, {"n5", NULL, NUMERICOID, NUMERIC_TYPMOD(3, 5)},
	{"n42", NULL, NUMERICOID, NUMERIC_TYPMOD(4, -2)}, {"n60", NULL, NUMERICOID, NUMERIC_TYPMOD(60, 30)},
	{"big", NULL, NUMERICOID, NUMERIC_TYPMOD(1000, 1000)}, {"huge", NULL, NUMERICOID, NUMERIC_TYPMOD(1000, -1000)},
	{"i4", NULL, INT4OID, -1}, {NULL}
};
static const ColumnSpec times[] = {
	{"tz", NULL, TIMESTAMPTZOID, -1}, {"tz0", NULL, TIMESTAMPTZOID, 0}, {"tz3", NULL, TIMESTAMPTZOID, 3},
	{"tz6", NULL, TIMESTAMPTZOID, 6}, {"ts1", NULL, TIMESTAMPOID, 1}, {"d", NULL, DATEOID, -1}, {NULL}
};
static const ColumnSpec texts[] = {
	{"a", NULL, TEXTOID, -1}, {"b", NULL, TEXTOID, -1}, {"c", NULL, TEXTOID, -1}, {NULL}
};
static const ColumnSpec one_text[] = {{"a", NULL, TEXTOID, -1}, {NULL}};
static const ColumnSpec documents[] = {
	{"a", NULL, JSONBOID, -1}, {"b", NULL, JSONOID, -1}, {"t", NULL, TEXTOID, -1}, {"n", NULL, NUMERICOID, -1}, {NULL}
};
static const ColumnSpec paths[] = {
	{"x", "a.b.c", INT4OID, -1}, {"y", "a.d", TEXTOID, -1}, {"z", "a.b", JSONBOID, -1}, {"w", "w", INT4OID, -1},
	{"deep", "x.x.x.x.x.x", TEXTOID, -1}, {"other", "A.b.c", TEXTOID, -1}, {NULL}
};
static const ColumnSpec tree[] = {
	{"x", "a.b.c", TEXTOID, -1}, {"y", "a.d", TEXTOID, -1}, {"z", "a.b.C", TEXTOID, -1}, {"w", "w", TEXTOID, -1},
	{"a.b", NULL, TEXTOID, -1}, {NULL}
};
static const ColumnSpec names[] = {
	{"abc", NULL, TEXTOID, -1}, {"ABC", NULL, TEXTOID, -1}, {"Abc", NULL, TEXTOID, -1}, {"a.b", NULL, TEXTOID, -1},
	{"\"q\" \\ \t", NULL, TEXTOID, -1}, {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", NULL, TEXTOID, -1},
	{"fourteen bytes", NULL, TEXTOID, -1}, {"fifteen bytes: ", NULL, TEXTOID, -1},
	{"a_name_that_is_as_long_as_names_can_be_with_its_sixty-three_byt", NULL, TEXTOID, -1},
	{"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
		"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4",
	NULL, UUIDOID, -1}, {NULL}
};
static const ColumnSpec others[] = {
	{"p", NULL, FUZZ_POSINT, -1}, {"nm", NULL, NAMEOID, -1}, {"ia", NULL, INT4ARRAYOID, -1},
	{"ta", NULL, TEXTARRAYOID, -1}, {"ja", NULL, JSONBARRAYOID, -1}, {"pt", NULL, FUZZ_POINT, -1},
	{"pa", NULL, FUZZ_POINT_ARRAY, -1}, {"e", NULL, FUZZ_EXPANDED, -1}, {"f", NULL, FUZZ_FIXED16, -1},
	{"cs", NULL, FUZZ_CSTRING, -1}, {"ne", NULL, FUZZ_NEST, -1}, {"ba", NULL, FUZZ_BOX_ARRAY, -1}, {NULL}
};
static const ColumnSpec domains[] = {
	{"p", NULL, FUZZ_POSINT, -1}, {"a", NULL, FUZZ_NONNULL, -1},
	{"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
		"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4",
	NULL, FUZZ_NEST, -1}, {NULL}
};
static const ColumnSpec latin[] = {
	{"a", NULL, TEXTOID, -1}, {"\xe4", NULL, VARCHAROID, CHARS(3)}, {"c", NULL, BPCHAROID, CHARS(20)},
	{"b", NULL, JSONBOID, -1}, {"j", NULL, JSONOID, -1}, {"nm", NULL, NAMEOID, -1}, {"ta", NULL, TEXTARRAYOID, -1},
	{"n", NULL, NUMERICOID, -1}, {NULL}
};
static const ColumnSpec latin_flat[] = {
	{"a", NULL, TEXTOID, -1}, {"\xe4", NULL, VARCHAROID, CHARS(3)}, {"nm", NULL, NAMEOID, -1}, {NULL}
};
static const ColumnSpec ascii[] = {
	{"a", NULL, TEXTOID, -1}, {"v", NULL, VARCHAROID, CHARS(3)}, {"b", NULL, JSONBOID, -1}, {NULL}
};
static const ColumnSpec nothing[] = {{NULL}};
static const ColumnSpec raw_text[] = {{"v", NULL, TEXTOID, -1}, {NULL}};
static const ColumnSpec raw_varchar[] = {{"v", NULL, VARCHAROID, CHARS(5)}, {NULL}};
static const ColumnSpec raw_bytea[] = {{"v", NULL, BYTEAOID, -1}, {NULL}};
static const ColumnSpec raw_json[] = {{"v", NULL, JSONOID, -1}, {NULL}};
static const ColumnSpec raw_jsonb[] = {{"v", NULL, JSONBOID, -1}, {NULL}};
/* filled in below: more fields than the short cut takes, a path longer than documents are deep */
static ColumnSpec wide[301];
static ColumnSpec deep[3];

static const struct
{
	const char *name;
	CodecFormat format;
	const ColumnSpec *columns;
	char		needed;
	int			flags;
	char		delimiter;
	int			encoding;
}			specs[] = {
	{"json: nothing needed", CODEC_JSON, texts, NONE, 0, 0, PG_UTF8},
	{"json: transaction", CODEC_JSON, transaction, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: transaction, NOT NULL", CODEC_JSON, transaction, STRICT, SET_ENCODES, 0, PG_UTF8},
	{"json: scalars", CODEC_JSON, scalars, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: scalars, every other one", CODEC_JSON, scalars, ODD, 0, 0, PG_UTF8},
	{"json: numerics", CODEC_JSON, numbers, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: times", CODEC_JSON, times, ALL, 0, 0, PG_UTF8},
	{"json: texts", CODEC_JSON, texts, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: one text", CODEC_JSON, one_text, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: documents", CODEC_JSON, documents, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: paths", CODEC_JSON, paths, ALL, 0, 0, PG_UTF8},
	{"json: paths, every other one", CODEC_JSON, paths, ODD, 0, 0, PG_UTF8},
	{"json: a tree", CODEC_JSON, tree, ALL, 0, 0, PG_UTF8},
	{"json: names", CODEC_JSON, names, ALL, SET_ENCODES, 0, PG_UTF8},
	{"json: names, every other one", CODEC_JSON, names, ODD, 0, 0, PG_UTF8},
	{"json: other types", CODEC_JSON, others, ALL, 0, 0, PG_UTF8},
	{"json: domains", CODEC_JSON, domains, ALL, 0, 0, PG_UTF8},
	{"json: LATIN1", CODEC_JSON, latin, ALL, SET_ENCODES, 0, PG_LATIN1},
	{"json: LATIN1, flat", CODEC_JSON, latin_flat, ALL, SET_ENCODES, 0, PG_LATIN1},
	{"json: SQL_ASCII", CODEC_JSON, ascii, ALL, 0, 0, PG_SQL_ASCII},
	{"json: wide", CODEC_JSON, wide, ODD, SET_COSTLY, 0, PG_UTF8},
	{"json: a deep path", CODEC_JSON, deep, ALL, SET_COSTLY, 0, PG_UTF8},
	{"json: no columns", CODEC_JSON, nothing, ALL, SET_ENCODES, 0, PG_UTF8},

	{"csv: transaction", CODEC_CSV, transaction, ALL, SET_ENCODES, ',', PG_UTF8},
	{"csv: transaction, NOT NULL, ;", CODEC_CSV, transaction, STRICT, SET_ENCODES, ';', PG_UTF8},
	{"csv: scalars", CODEC_CSV, scalars, ALL, SET_ENCODES, ',', PG_UTF8},
	{"csv: scalars, every other one", CODEC_CSV, scalars, ODD, 0, ',', PG_UTF8},
	{"csv: numerics, tab", CODEC_CSV, numbers, ALL, SET_ENCODES, '\t', PG_UTF8},
	{"csv: times", CODEC_CSV, times, ALL, 0, ',', PG_UTF8},
	{"csv: texts", CODEC_CSV, texts, ALL, SET_ENCODES, ',', PG_UTF8},
	{"csv: texts, delimiter a", CODEC_CSV, texts, ALL, SET_ENCODES, 'a', PG_UTF8},
	{"csv: texts, |, nothing needed", CODEC_CSV, texts, NONE, 0, '|', PG_UTF8},
	{"csv: one text", CODEC_CSV, one_text, ALL, SET_ENCODES, ',', PG_UTF8},
	{"csv: one text, NOT NULL", CODEC_CSV, one_text, STRICT, SET_ENCODES, ',', PG_UTF8},
	{"csv: documents", CODEC_CSV, documents, ALL, SET_ENCODES, ',', PG_UTF8},
	{"csv: other types", CODEC_CSV, others, ALL, 0, ',', PG_UTF8},
	{"csv: domains", CODEC_CSV, domains, ALL, 0, ',', PG_UTF8},
	{"csv: LATIN1", CODEC_CSV, latin, ALL, SET_ENCODES, ',', PG_LATIN1},
	{"csv: SQL_ASCII", CODEC_CSV, ascii, ALL, 0, ',', PG_SQL_ASCII},
	{"csv: wide", CODEC_CSV, wide, ODD, SET_COSTLY, ',', PG_UTF8},
	{"csv: no columns", CODEC_CSV, nothing, ALL, 0, ',', PG_UTF8},

	{"raw: text", CODEC_RAW, raw_text, ALL, 0, 0, PG_UTF8},
	{"raw: varchar", CODEC_RAW, raw_varchar, ALL, SET_ENCODES, 0, PG_UTF8},
	{"raw: bytea", CODEC_RAW, raw_bytea, ALL, SET_ENCODES, 0, PG_UTF8},
	{"raw: json", CODEC_RAW, raw_json, ALL, SET_ENCODES, 0, PG_UTF8},
	{"raw: jsonb", CODEC_RAW, raw_jsonb, ALL, SET_ENCODES, 0, PG_UTF8},
	{"raw: text, not needed", CODEC_RAW, raw_text, NONE, 0, 0, PG_UTF8},
	{"raw: LATIN1", CODEC_RAW, raw_text, ALL, 0, 0, PG_LATIN1},
	{"raw: LATIN1, jsonb", CODEC_RAW, raw_jsonb, ALL, 0, 0, PG_LATIN1}
};

FuzzSet    *fuzz_sets;
int			fuzz_nsets = lengthof(specs);

static void
make_wide(void)
{
	static char wide_names[300][8];
	int			i;

	for (i = 0; i < 300; i++)
	{
		snprintf(wide_names[i], sizeof(wide_names[i]), "c%d", i);
		wide[i].name = wide_names[i];
		wide[i].type = i % 3 == 0 ? TEXTOID : INT4OID;
		wide[i].typmod = -1;
	}
}

static void
make_deep(void)
{
	static char path[5 * (JSON_MAX_DEPTH + 2)];
	int			i;

	for (i = 0; i < JSON_MAX_DEPTH + 1; i++)
		memcpy(path + 5 * i, "deep.", 5);
	path[5 * i - 1] = '\0';
	deep[0].name = "x";
	deep[0].path = path;
	deep[0].type = deep[1].type = TEXTOID;
	deep[0].typmod = deep[1].typmod = -1;
	deep[1].name = "y";
	deep[1].path = "deep.deep.y";
}

/* LATIN1 to UTF-8; for ever */
static char *
utf8_name(const char *name)
{
	char	   *result = malloc(2 * strlen(name) + 1);
	char	   *out = result;

	for (; *name != '\0'; name++)
	{
		unsigned char c = *name;

		if (c >= 0x80)
		{
			*out++ = 0xc0 | (c >> 6);
			c = 0x80 | (c & 0x3f);
		}
		*out++ = c;
	}
	*out = '\0';
	return result;
}

void
fuzz_make_sets(void)
{
	int			i;

	make_wide();
	make_deep();
	fuzz_sets = calloc(fuzz_nsets, sizeof(FuzzSet));
	for (i = 0; i < fuzz_nsets; i++)
	{
		FuzzSet    *set = &fuzz_sets[i];
		int			n = 0;
		int			k;

		while (specs[i].columns[n].name != NULL)
			n++;
		set->name = specs[i].name;
		set->format = specs[i].format;
		set->encoding = specs[i].encoding;
		set->delimiter = specs[i].delimiter;
		set->flags = specs[i].flags;
		set->ncolumns = n;
		set->columns = calloc(n + 1, sizeof(CodecColumn));
		set->plain = calloc(n + 1, sizeof(CodecColumn));
		/* values in another order than the columns, with holes between them */
		set->ntargets = 2 * n + 1;
		set->wanted = calloc(set->ntargets, sizeof(bool));
		for (k = 0; k < n; k++)
		{
			CodecColumn *column = &set->columns[k];

			column->name = specs[i].columns[k].name;
			column->path = specs[i].columns[k].path;
			column->type = specs[i].columns[k].type;
			column->typmod = specs[i].columns[k].typmod;
			column->target = 2 * (n - k) - 1;
			column->not_null = specs[i].needed == STRICT;
			column->needed = specs[i].needed == ODD ? k % 2 == 1 : specs[i].needed != NONE;
			set->wanted[column->target] = column->needed;
			set->plain[k] = *column;
			if (set->encoding == PG_LATIN1)
				set->plain[k].name = utf8_name(column->name);
		}
	}
}

void
fuzz_sets_of(CodecFormat format, int *first, int *n)
{
	int			i = 0;

	while (fuzz_sets[i].format != format)
		i++;
	*first = i;
	while (i < fuzz_nsets && fuzz_sets[i].format == format)
		i++;
	*n = i - *first;
}

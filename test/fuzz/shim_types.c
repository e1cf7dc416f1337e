/*-------------------------------------------------------------------------
 *
 * shim_types.c
 *	  A small catalog of types, and their input and output functions.
 *
 * These are no PostgreSQL functions: they read all that they are given, check
 * it a little, and return a value of the right form or throw.  A value of an
 * array, row or other type is its text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "shim.h"

/* OIDs of functions: the type's, and what the function does */
#define INPUT_OF		100000
#define OUTPUT_OF		200000

typedef struct ShimType
{
	Oid			oid;
	const char *name;
	int16		len;
	bool		byval;
	char		kind;
	Oid			base;			/* of a domain */
	Oid			element;		/* of an array */
	char		delimiter;		/* of an element */
} ShimType;

static const ShimType types[] = {
	{BOOLOID, "boolean", 1, true, TYPTYPE_BASE, 0, 0, ','},
	{INT2OID, "smallint", 2, true, TYPTYPE_BASE, 0, 0, ','},
	{INT4OID, "integer", 4, true, TYPTYPE_BASE, 0, 0, ','},
	{INT8OID, "bigint", 8, true, TYPTYPE_BASE, 0, 0, ','},
	{FLOAT4OID, "real", 4, true, TYPTYPE_BASE, 0, 0, ','},
	{FLOAT8OID, "double precision", 8, true, TYPTYPE_BASE, 0, 0, ','},
	{NUMERICOID, "numeric", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{TEXTOID, "text", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{VARCHAROID, "character varying", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{BPCHAROID, "character", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{TIMESTAMPTZOID, "timestamp with time zone", 8, true, TYPTYPE_BASE, 0, 0, ','},
	{TIMESTAMPOID, "timestamp without time zone", 8, true, TYPTYPE_BASE, 0, 0, ','},
	{DATEOID, "date", 4, true, TYPTYPE_BASE, 0, 0, ','},
	{UUIDOID, "uuid", 16, false, TYPTYPE_BASE, 0, 0, ','},
	{JSONOID, "json", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{JSONBOID, "jsonb", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{BYTEAOID, "bytea", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{NAMEOID, "name", NAMEDATALEN, false, TYPTYPE_BASE, 0, 0, ','},
	{INT4ARRAYOID, "integer[]", -1, false, TYPTYPE_BASE, 0, INT4OID, ','},
	{TEXTARRAYOID, "text[]", -1, false, TYPTYPE_BASE, 0, TEXTOID, ','},
	{JSONBARRAYOID, "jsonb[]", -1, false, TYPTYPE_BASE, 0, JSONBOID, ','},
	{FUZZ_POSINT, "posint", 4, true, TYPTYPE_DOMAIN, INT4OID, 0, ','},
	{FUZZ_NONNULL, "nonnull", -1, false, TYPTYPE_DOMAIN, TEXTOID, 0, ','},
	{FUZZ_POINT, "point2", -1, false, TYPTYPE_COMPOSITE, 0, 0, ','},
	{FUZZ_POINT_ARRAY, "point2[]", -1, false, TYPTYPE_BASE, 0, FUZZ_POINT, ','},
	{FUZZ_EXPANDED, "expanded", -1, false, TYPTYPE_BASE, 0, 0, ','},
	{FUZZ_FIXED16, "fixed16", 16, false, TYPTYPE_BASE, 0, 0, ','},
	{FUZZ_CSTRING, "cstring", -2, false, TYPTYPE_BASE, 0, 0, ','},
	{FUZZ_NEST, "nest", -1, false, TYPTYPE_COMPOSITE, 0, 0, ','},
	{FUZZ_BOX, "box", 32, false, TYPTYPE_BASE, 0, 0, ';'},
	{FUZZ_BOX_ARRAY, "box[]", -1, false, TYPTYPE_BASE, 0, FUZZ_BOX, ','}
};

/* the attributes of the composite types; type 0: dropped */
static const struct
{
	Oid			type;
	const char *name;
	Oid			attribute;
}			attributes[] = {
	{FUZZ_POINT, "x", INT4OID},
	{FUZZ_POINT, "dropped", 0},
	{FUZZ_POINT, "Y", TEXTOID},
	{FUZZ_NEST, "a", INT4ARRAYOID},
	{FUZZ_NEST, "A", TEXTOID},
	{FUZZ_NEST, "p", FUZZ_POINT},
	{FUZZ_NEST, "j", JSONBOID},
	{FUZZ_NEST, "name with \"quotes\"", TEXTOID}
};

int			shim_encoding = PG_UTF8;
struct pg_tz shim_session_zone = {"America/New_York"};
struct pg_tz shim_utc = {"GMT"};
pg_tz	   *session_timezone = &shim_session_zone;

static const ShimType *
type_of(Oid oid)
{
	int			i;

	for (i = 0; i < lengthof(types); i++)
	{
		if (types[i].oid == oid)
			return &types[i];
	}
	fprintf(stderr, "type %u is not known to the shim\n", oid);
	abort();
}

/* ---- catalog ---- */

char
get_typtype(Oid typid)
{
	return type_of(typid)->kind;
}

Oid
getBaseType(Oid typid)
{
	return type_of(typid)->kind == TYPTYPE_DOMAIN ? type_of(typid)->base : typid;
}

Oid
get_element_type(Oid typid)
{
	return type_of(typid)->element;
}

void
get_typlenbyval(Oid typid, int16 *typlen, bool *typbyval)
{
	*typlen = type_of(typid)->len;
	*typbyval = type_of(typid)->byval;
}

void
getTypeInputInfo(Oid type, Oid *typInput, Oid *typIOParam)
{
	*typInput = INPUT_OF + type_of(type)->oid;
	*typIOParam = OidIsValid(type_of(type)->element) ? type_of(type)->element : type;
}

void
getTypeOutputInfo(Oid type, Oid *typOutput, bool *typIsVarlena)
{
	*typOutput = OUTPUT_OF + type_of(type)->oid;
	*typIsVarlena = type_of(type)->len == -1;
}

void
get_type_io_data(Oid typid, IOFuncSelector which_func, int16 *typlen, bool *typbyval,
				 char *typalign, char *typdelim, Oid *typioparam, Oid *func)
{
	const ShimType *type = type_of(typid);

	*typlen = type->len;
	*typbyval = type->byval;
	*typalign = TYPALIGN_INT;
	*typdelim = type->delimiter;
	getTypeInputInfo(typid, func, typioparam);
}

TupleDesc
lookup_rowtype_tupdesc_copy(Oid type_id, int32 typmod)
{
	TupleDesc	desc;
	int			n = 0;
	int			i;

	for (i = 0; i < lengthof(attributes); i++)
		n += attributes[i].type == type_id;
	desc = palloc0(offsetof(struct TupleDescData, attrs) + n * sizeof(FormData_pg_attribute));
	desc->natts = n;
	n = 0;
	for (i = 0; i < lengthof(attributes); i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, n);

		if (attributes[i].type != type_id)
			continue;
		strlcpy(NameStr(att->attname), attributes[i].name, NAMEDATALEN);
		att->atttypid = attributes[i].attribute;
		att->attisdropped = !OidIsValid(attributes[i].attribute);
		n++;
	}
	return desc;
}

char *
format_type_be(Oid type_oid)
{
	return pstrdup(type_of(type_oid)->name);
}

char *
format_type_with_typemod(Oid type_oid, int32 typemod)
{
	char		text[400];

	if (typemod < 0)
		return format_type_be(type_oid);
	pg_snprintf(text, sizeof(text), "%s(%d)", type_of(type_oid)->name, typemod);
	return pstrdup(text);
}

pg_tz *
pg_tzset(const char *tzname)
{
	if (strcmp(tzname, "GMT") != 0)
		abort();
	return &shim_utc;
}

/* ---- calls of functions ---- */

void
fmgr_info_cxt(Oid functionId, FmgrInfo *finfo, MemoryContext mcxt)
{
	memset(finfo, 0, sizeof(FmgrInfo));
	finfo->fn_oid = functionId;
	finfo->fn_mcxt = mcxt;
}

Const *
makeNullConst(Oid consttype, int32 consttypmod, Oid constcollid)
{
	Const	   *result = palloc0(sizeof(Const));

	result->xpr.type = T_Const;
	result->consttype = consttype;
	result->constisnull = true;
	return result;
}

List *
list_make1_impl(NodeTag t, ListCell datum1)
{
	List	   *result = palloc0(sizeof(List) + sizeof(ListCell));

	result->type = t;
	result->length = result->max_length = 1;
	result->elements = result->initial_elements;
	result->elements[0] = datum1;
	return result;
}

FuncExpr *
makeFuncExpr(Oid funcid, Oid rettype, List *args, Oid funccollid, Oid inputcollid, CoercionForm fformat)
{
	FuncExpr   *result = palloc0(sizeof(FuncExpr));

	result->xpr.type = T_FuncExpr;
	result->funcid = funcid;
	result->args = args;
	return result;
}

/* ---- literals of arrays and rows ---- */

static bool literal_array(const ShimType *element, const char **p, int depth);

/* One element or attribute, quoted or not; its value must suit the type, too. */
static bool
literal_element(Oid type, const char **p, const char *stops)
{
	char	   *value = palloc(strlen(*p) + 1);
	char	   *out = value;
	const char *s = *p;
	bool		ok;

	if (*s == '"')
	{
		for (s++; *s != '"'; s++)
		{
			if (*s == '\\')
				s++;
			if (*s == '\0')
				return false;
			*out++ = *s;
		}
		s++;
	}
	else
	{
		while (*s != '\0' && strchr(stops, *s) == NULL && *s != '"' && *s != '{')
		{
			if (*s == '\\' && *++s == '\0')
				return false;
			*out++ = *s++;
		}
	}
	*out = '\0';
	*p = s;
	ok = *s != '\0' && strchr(stops, *s) != NULL && shim_literal_ok(type, value);
	pfree(value);
	return ok;
}

static bool
literal_array(const ShimType *element, const char **p, int depth)
{
	char		stops[3] = {element->delimiter, '}', '\0'};

	if (depth > 1100)
		return false;
	(*p)++;
	if (**p == '}')
	{
		(*p)++;
		return true;
	}
	for (;;)
	{
		if (**p == '{')
		{
			if (!literal_array(element, p, depth + 1))
				return false;
		}
		else if (strncmp(*p, "NULL", 4) == 0 && strchr(stops, (*p)[4]) != NULL && (*p)[4] != '\0')
			*p += 4;
		else if (!literal_element(element->oid, p, stops))
			return false;
		if (**p == '}')
		{
			(*p)++;
			return true;
		}
		if (**p != element->delimiter)
			return false;
		(*p)++;
	}
}

bool
shim_literal_ok(Oid oid, const char *s)
{
	const ShimType *type = type_of(oid);
	int			i;

	if (OidIsValid(type->element))
		return *s == '{' && literal_array(type_of(type->element), &s, 0) && *s == '\0';
	if (type->kind == TYPTYPE_COMPOSITE)
	{
		bool		first = true;

		if (*s != '(')
			return false;
		for (i = 0; i < lengthof(attributes); i++)
		{
			if (attributes[i].type != oid || !OidIsValid(attributes[i].attribute))
				continue;
			if (!first && *s != ',')
				return false;
			s++;
			first = false;
			if (*s == ',' || *s == ')')
				continue;
			if (!literal_element(attributes[i].attribute, &s, ",)"))
				return false;
		}
		return s[0] == ')' && s[1] == '\0';
	}
	/* all scalars are texts, here */
	return true;
}

/* ---- input ---- */

static Datum
make_text(const char *s)
{
	Size		len = strlen(s);
	char	   *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), s, len);
	return PointerGetDatum(result);
}

typedef struct ShimExpanded
{
	ExpandedObjectHeader header;
	char	   *text;
} ShimExpanded;

Datum
InputFunctionCall(FmgrInfo *flinfo, char *str, Oid typioparam, int32 typmod)
{
	Oid			oid = flinfo->fn_oid - INPUT_OF;
	const ShimType *type = type_of(oid);
	Size		len;

	if (str == NULL)
	{
		if (oid == FUZZ_NONNULL)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("domain %s does not allow null values", type->name)));
		return (Datum) 0;
	}
	len = strlen(str);
	switch (oid)
	{
		case FUZZ_POSINT:
			{
				char	   *end;
				long		v;

				errno = 0;
				v = strtol(str, &end, 10);
				if (end == str || *end != '\0' || errno != 0 || v != (int32) v)
					break;
				if (v <= 0)
					ereport(ERROR,
							(errcode(ERRCODE_CHECK_VIOLATION),
							 errmsg("value for domain %s violates check constraint", type->name)));
				return Int32GetDatum((int32) v);
			}
		case NAMEOID:
			{
				char	   *result = palloc0(NAMEDATALEN);

				memcpy(result, str, Min(len, NAMEDATALEN - 1));
				return PointerGetDatum(result);
			}
		case FUZZ_FIXED16:
			{
				char	   *result = palloc0(16);

				memcpy(result, str, Min(len, 16));
				return PointerGetDatum(result);
			}
		case FUZZ_CSTRING:
			return CStringGetDatum(pstrdup(str));
		case FUZZ_EXPANDED:
			{
				/* all of it in a context of its own below the caller's, as real ones */
				MemoryContext cxt = AllocSetContextCreateInternal(CurrentMemoryContext, "expanded", 0, 0, 0);
				ShimExpanded *object = MemoryContextAllocZero(cxt, sizeof(ShimExpanded));
				varatt_expanded pointer;

				object->header.vl_len_ = EOH_HEADER_MAGIC;
				object->header.eoh_context = cxt;
				object->text = MemoryContextAlloc(cxt, len + 1);
				memcpy(object->text, str, len + 1);
				pointer.eohptr = &object->header;
				SET_VARTAG_EXTERNAL(object->header.eoh_rw_ptr, VARTAG_EXPANDED_RW);
				memcpy(VARDATA_EXTERNAL(object->header.eoh_rw_ptr), &pointer, sizeof(pointer));
				return EOHPGetRWDatum(&object->header);
			}
		default:
			if (shim_literal_ok(oid, str))
				return make_text(str);
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("invalid input syntax for type %s: \"%s\"", type->name, str)));
	return (Datum) 0;
}

ExpandedObjectHeader *
DatumGetEOHP(Datum d)
{
	varatt_expanded pointer;

	memcpy(&pointer, VARDATA_EXTERNAL(DatumGetPointer(d)), sizeof(pointer));
	return pointer.eohptr;
}

Size
EOH_get_flat_size(ExpandedObjectHeader *eohptr)
{
	return VARHDRSZ + strlen(((ShimExpanded *) eohptr)->text);
}

void
EOH_flatten_into(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	memset(result, 0, allocated_size);
	SET_VARSIZE(result, allocated_size);
	memcpy(VARDATA(result), ((ShimExpanded *) eohptr)->text, allocated_size - VARHDRSZ);
}

Size
datumGetSize(Datum value, bool typByVal, int typLen)
{
	if (typByVal || typLen > 0)
		return typLen;
	if (typLen == -1)
		return VARSIZE_ANY(DatumGetPointer(value));
	return strlen(DatumGetCString(value)) + 1;
}

struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	return datum;
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

/* ---- output ---- */

/* The shortest text that gives the same value again. */
static char *
float_out(double value, bool single)
{
	char		text[64];
	int			digits;

	if (isnan(value))
		return pstrdup("NaN");
	if (isinf(value))
		return pstrdup(value > 0 ? "Infinity" : "-Infinity");
	for (digits = 1; digits <= 17; digits++)
	{
		pg_snprintf(text, sizeof(text), "%.*g", digits, value);
		if (single ? strtof(text, NULL) == (float) value : strtod(text, NULL) == value)
			break;
	}
	return pstrdup(text);
}

char *
OutputFunctionCall(FmgrInfo *flinfo, Datum val)
{
	Oid			oid = flinfo->fn_oid - OUTPUT_OF;
	const ShimType *type = type_of(oid);
	const unsigned char *p;
	char	   *out;
	Size		len;
	Size		i;

	switch (oid)
	{
		case BOOLOID:
			return pstrdup(DatumGetBool(val) ? "t" : "f");
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FUZZ_POSINT:
			out = palloc(32);
			pg_lltoa(oid == INT8OID ? DatumGetInt64(val) : oid == INT2OID ? DatumGetInt16(val) : DatumGetInt32(val), out);
			return out;
		case FLOAT4OID:
			return float_out(DatumGetFloat4(val), true);
		case FLOAT8OID:
			return float_out(DatumGetFloat8(val), false);
		case NUMERICOID:
			return shim_numeric_out(DatumGetPointer(val));
		case UUIDOID:
			p = DatumGetUUIDP(val)->data;
			out = palloc(2 * UUID_LEN + 5);
			for (i = 0, len = 0; i < UUID_LEN; i++)
			{
				if (i == 4 || i == 6 || i == 8 || i == 10)
					out[len++] = '-';
				len += pg_snprintf(out + len, 3, "%02x", p[i]);
			}
			return out;
		case BYTEAOID:
			p = (unsigned char *) VARDATA_ANY(DatumGetPointer(val));
			len = VARSIZE_ANY_EXHDR(DatumGetPointer(val));
			out = palloc(2 * len + 3);
			strlcpy(out, "\\x", 3);
			for (i = 0; i < len; i++)
				pg_snprintf(out + 2 + 2 * i, 3, "%02x", p[i]);
			return out;
		default:
			break;
	}
	if (type->len == -2)
		return pstrdup(DatumGetCString(val));
	if (type->len > 0)
		return pnstrdup(DatumGetPointer(val), type->len);
	return pnstrdup(VARDATA_ANY(DatumGetPointer(val)), VARSIZE_ANY_EXHDR(DatumGetPointer(val)));
}

/* to_json() is the only function that is called: here all values become JSON strings */
Datum
FunctionCall1Coll(FmgrInfo *flinfo, Oid collation, Datum arg1)
{
	FuncExpr   *expr = (FuncExpr *) flinfo->fn_expr;
	FmgrInfo	output = {0};
	StringInfoData json;

	if (flinfo->fn_oid != F_TO_JSON)
		abort();
	output.fn_oid = OUTPUT_OF + ((Const *) linitial(expr->args))->consttype;
	initStringInfo(&json);
	escape_json(&json, OutputFunctionCall(&output, arg1));
	return make_text(json.data);
}

/* ---- utils/adt ---- */

void
escape_json(StringInfo buf, const char *str)
{
	char		hex[8];

	appendStringInfoChar(buf, '"');
	for (; *str != '\0'; str++)
	{
		if (*str == '"' || *str == '\\')
		{
			appendStringInfoChar(buf, '\\');
			appendStringInfoChar(buf, *str);
		}
		else if ((unsigned char) *str < ' ')
		{
			pg_snprintf(hex, sizeof(hex), "\\u%04x", *str);
			appendStringInfoString(buf, hex);
		}
		else
			appendStringInfoChar(buf, *str);
	}
	appendStringInfoChar(buf, '"');
}

int
pg_lltoa(int64 ll, char *a)
{
	return pg_snprintf(a, 21, "%lld", (long long) ll);
}

int
pg_ltoa(int32 l, char *a)
{
	return pg_snprintf(a, 12, "%d", l);
}

int
pg_itoa(int16 i, char *a)
{
	return pg_snprintf(a, 7, "%d", i);
}

bool
parse_bool_with_len(const char *value, size_t len, bool *result)
{
	static const struct
	{
		const char *word;
		size_t		least;
		bool		value;
	}			words[] = {
		{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
		{"on", 2, true}, {"off", 2, false}, {"1", 1, true}, {"0", 1, false}
	};
	int			i;

	for (i = 0; i < lengthof(words); i++)
	{
		if (len >= words[i].least && len <= strlen(words[i].word) && pg_strncasecmp(value, words[i].word, len) == 0)
		{
			*result = words[i].value;
			return true;
		}
	}
	/* PostgreSQL's looks at the first byte whatever the length is */
	*result = *(volatile const char *) value == '\0';
	return false;
}

float8
float8in_internal_opt_error(char *num, char **endptr_p, const char *type_name, const char *orig_string,
							bool *have_error)
{
	char	   *end;
	float8		result;

	*have_error = false;
	while (*num != '\0' && isspace((unsigned char) *num))
		num++;
	errno = 0;
	result = strtod(num, &end);
	if (end == num || (errno == ERANGE && (result == 0.0 || isinf(result))))
		*have_error = true;
	while (*end != '\0' && isspace((unsigned char) *end))
		end++;
	if (*end != '\0')
		*have_error = true;
	/* of an error it makes a message, with the text */
	if (*have_error && strlen(orig_string) + strlen(type_name) == 0)
		abort();
	return result;
}

int
varstr_levenshtein(const char *source, int slen, const char *target, int tlen,
				   int ins_c, int del_c, int sub_c, bool trusted)
{
	int			row[256];
	int			i;
	int			j;

	if (slen > 255 || tlen > 255)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("levenshtein argument exceeds maximum length of %d characters", 255)));
	for (j = 0; j <= tlen; j++)
		row[j] = j * ins_c;
	for (i = 1; i <= slen; i++)
	{
		int			diagonal = row[0];

		row[0] = i * del_c;
		for (j = 1; j <= tlen; j++)
		{
			int			above = row[j];
			int			best = diagonal + (source[i - 1] == target[j - 1] ? 0 : sub_c);

			best = Min(best, above + del_c);
			best = Min(best, row[j - 1] + ins_c);
			diagonal = above;
			row[j] = best;
		}
	}
	return row[tlen];
}

/*-------------------------------------------------------------------------
 *
 * json_decode.c
 *	  Format json: finds the values of the columns in a document.
 *
 * The document is walked once, from its first token to its last, and checked
 * all the way: whether it is accepted does not depend on which columns a
 * query needs.  The walk only notes where the values of the columns are; they
 * are decoded after it, in the order of the columns, so the first error is
 * always the same one.
 *
 * Fields are found by the raw bytes of their key.  Each object level remembers
 * the keys that it has met, and which one came after which: as long as
 * messages have their fields in the usual order, a key costs one comparison
 * with the expected bytes.
 *
 * That memory also serves a short cut: a flat document that has exactly the
 * keys of the last one, in their order, and only plain ASCII strings, numbers
 * and words, is walked byte by byte against it, with the same grammar, before
 * the SIMD pass is even asked for.  It costs less than half.  Whatever is not
 * so (an escape, a nested value, another key, a mistake) goes the long way,
 * which alone decides what is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "codec/codec_private.h"

/* Keys that are remembered: bytes of one, number of one level. */
#define KEY_MAX_LEN		64
#define KEY_BUCKETS		256
#define KEY_MAX			256		/* that belong to no column */
#define KEY_MAX_MATCHING 256	/* that do (other case, escapes) */

/* How a key matched a name; the better one wins, then the later one. */
#define RANK_NONE		0
#define RANK_CASE		1
#define RANK_EXACT		2

typedef struct JsonField
{
	char	   *name;			/* UTF-8 */
	Size		len;
	struct JsonField *next;		/* of the same level */
	struct JsonField *next_all;
	struct JsonLevel *level;	/* where it is */
	struct JsonLevel *child;	/* paths that go on below it */
	bool		needed;			/* some needed column reads this very field */
	bool		descend;		/* some needed column is below */
	bool		seen;			/* some message had it */
	/* in the present message */
	int			rank;
	uint32		token;
	uint32		next_token;
} JsonField;

typedef struct JsonKey
{
	struct JsonKey *next;		/* of the same bucket */
	struct JsonKey *follower;	/* came after this one the last time */
	JsonField  *field;			/* NULL: no column */
	int			rank;
	uint32		len;
	char		bytes[KEY_MAX_LEN + 2]; /* raw, as in the document, then a quote and a colon */
} JsonKey;

typedef struct JsonLevel
{
	JsonField  *fields;
	JsonField  *owner;			/* the field that this level is the object of */
	JsonKey    *first;			/* key that came first the last time */
	JsonKey    *buckets[KEY_BUCKETS];
	int			nkeys;
	int			nmatching;
} JsonLevel;

/* Fields of a document that takes the short cut. */
#define SHORT_MAX_FIELDS 256

struct JsonDecoder
{
	JsonLevel  *root;
	JsonField  *fields;			/* all levels' fields */
	bool		flat;			/* no path, no column that wants more than one token */
	/* of the short cut: where each value begins and ends, as tokens 2 i and 2 i + 1 */
	uint32		bounds[2 * SHORT_MAX_FIELDS + 2];
};

/* ---- building ---- */

static JsonLevel *
new_level(JsonField *owner)
{
	JsonLevel  *level = palloc0(sizeof(JsonLevel));

	level->owner = owner;
	return level;
}

static JsonField *
add_field(JsonDecoder *json, JsonLevel *level, const char *name, Size len)
{
	JsonField **link;
	JsonField  *field;

	/* kept in the order of the columns: the first of two names that differ in case only wins */
	for (link = &level->fields; *link != NULL; link = &(*link)->next)
	{
		if ((*link)->len == len && memcmp((*link)->name, name, len) == 0)
			return *link;
	}
	field = palloc0(sizeof(JsonField));
	field->name = pnstrdup(name, len);
	field->len = len;
	field->level = level;
	field->next_all = json->fields;
	json->fields = field;
	*link = field;
	return field;
}

void
json_decoder_create(CodecDecoder *decoder)
{
	JsonDecoder *json = palloc0(sizeof(JsonDecoder));
	int			i;

	json->root = new_level(NULL);
	json->flat = true;
	for (i = 0; i < decoder->ncolumns; i++)
	{
		Column	   *col = &decoder->columns[i];
		JsonLevel  *level = json->root;
		JsonField  *field;
		char	   *path;
		const char *p;

		if (col->def.path == NULL)
		{
			path = pg_server_to_any(col->def.name, strlen(col->def.name), PG_UTF8);
			field = add_field(json, level, path, strlen(path));
		}
		else
		{
			path = pg_server_to_any(col->def.path, strlen(col->def.path), PG_UTF8);
			for (p = path;;)
			{
				Size		len = strcspn(p, ".");

				field = add_field(json, level, p, len);
				if (p[len] == '\0')
					break;
				if (col->def.needed)
					field->descend = true;
				if (field->child == NULL)
					field->child = new_level(field);
				level = field->child;
				p += len + 1;
			}
		}
		if (col->def.needed)
		{
			field->needed = true;
			if (level != json->root || col->kind == KIND_JSONB || col->kind == KIND_JSON)
				json->flat = false;
		}
		col->field = field;
	}
	decoder->json = json;
}

/* ---- finding a field by its key ---- */

/* The field that a key means, by its unescaped bytes. */
static JsonField *
match_field(JsonLevel *level, const char *key, Size len, int *rank)
{
	JsonField  *folded = NULL;
	JsonField  *field;

	for (field = level->fields; field != NULL; field = field->next)
	{
		if (field->len != len)
			continue;
		if (memcmp(field->name, key, len) == 0)
		{
			*rank = RANK_EXACT;
			return field;
		}
		if (folded == NULL && equal_ignore_case(field->name, key, len))
			folded = field;
	}
	*rank = folded != NULL ? RANK_CASE : RANK_NONE;
	return folded;
}

/* Both sides are readable for KEY_MAX_LEN bytes. */
static inline bool
same_key(const JsonKey *key, const uint8 *bytes, uint32 len)
{
	uint32		done;

	if (key->len != len)
		return false;
	for (done = 0; done + 8 <= len; done += 8)
	{
		uint64		a;
		uint64		b;

		memcpy(&a, key->bytes + done, 8);
		memcpy(&b, bytes + done, 8);
		if (a != b)
			return false;
	}
	for (; done < len; done++)
	{
		if (key->bytes[done] != (char) bytes[done])
			return false;
	}
	return true;
}

/*
 * Looks the raw key up among those of the level and remembers it.  A key that
 * cannot be remembered is given in *unkept, valid until the next call.
 * False: its escapes are wrong.
 */
static bool
find_key(CodecDecoder *decoder, JsonLevel *level, uint32 start, uint32 len,
		 JsonKey *unkept, JsonKey **result)
{
	JsonDoc    *doc = &decoder->doc;
	const char *raw = (const char *) doc->buf + start;
	uint32		bucket = 0;
	JsonKey    *key;
	JsonField  *field;
	int			rank = RANK_NONE;

	if (len <= KEY_MAX_LEN)
	{
		bucket = hash_bytes((const unsigned char *) raw, len) % KEY_BUCKETS;
		for (key = level->buckets[bucket]; key != NULL; key = key->next)
		{
			if (same_key(key, doc->buf + start, len))
			{
				*result = key;
				return true;
			}
		}
	}

	if (doc->escapes && memchr(raw, '\\', len) != NULL)
	{
		char	   *plain;
		Size		plain_len;

		if (!json_check_escapes(doc, start, start + len))
			return false;
		plain = scratch_reserve(decoder, &decoder->unescaped, len);
		/* a key that is no valid text is nobody's name */
		if (json_unescape(raw, len, plain, &plain_len) == 0)
			field = match_field(level, plain, plain_len, &rank);
		else
			field = NULL;
	}
	else
		field = match_field(level, raw, len, &rank);

	key = unkept;
	if (len <= KEY_MAX_LEN && (field != NULL ? level->nmatching < KEY_MAX_MATCHING : level->nkeys < KEY_MAX))
	{
		key = MemoryContextAllocZero(decoder->cxt, sizeof(JsonKey));
		memcpy(key->bytes, raw, len);
		key->bytes[len] = '"';
		key->bytes[len + 1] = ':';
		key->next = level->buckets[bucket];
		level->buckets[bucket] = key;
		if (field != NULL)
			level->nmatching++;
		else
			level->nkeys++;
	}
	key->len = len;
	key->field = field;
	key->rank = rank;
	*result = key;
	return true;
}

/* ---- the walk ---- */

static void
forget_level(JsonLevel *level)
{
	JsonField  *field;

	for (field = level->fields; field != NULL; field = field->next)
	{
		field->rank = RANK_NONE;
		if (field->child != NULL)
			forget_level(field->child);
	}
}

/*
 * Walks the object at token *i.  Recursion only along the paths of columns.
 * False: *i is the wrong token.
 */
static bool
walk_object(CodecDecoder *decoder, JsonLevel *level, uint32 *i, int depth)
{
	const JsonDoc *doc = &decoder->doc;
	const uint8 *buf = doc->buf;
	const uint32 *pos = doc->pos;
	uint32		t = *i + 1;
	JsonKey   **expected = &level->first;
	JsonKey		unkept;

	if (buf[pos[t]] == '}')
	{
		*i = t + 1;
		return true;
	}
	for (;;)
	{
		uint32		start = pos[t] + 1;
		uint32		end;
		JsonKey    *key;
		JsonField  *field;
		uint32		value;
		unsigned char c;

		if (unlikely(buf[start - 1] != '"'))
			goto wrong;
		end = pos[t + 1];
		if (unlikely(buf[end] != ':'))
		{
			t++;
			goto wrong;
		}
		if (unlikely(buf[--end] != '"'))
			end = json_text_end(doc, t + 1) - 1;

		key = *expected;
		if (unlikely(key == NULL || !same_key(key, buf + start, end - start)))
		{
			if (!find_key(decoder, level, start, end - start, &unkept, &key))
				goto wrong;
			if (key != &unkept)
				*expected = key;
		}
		if (key != &unkept)
			expected = &key->follower;

		value = t += 2;
		field = key->field;
		c = buf[pos[t]];
		if (field != NULL && field->descend && c == '{' && key->rank >= field->rank && depth < JSON_MAX_DEPTH)
		{
			/* an object that comes again takes the place of the first */
			if (field->rank != RANK_NONE)
				forget_level(field->child);
			if (!walk_object(decoder, field->child, &t, depth + 1))
			{
				*i = t;
				return false;
			}
		}
		else if (c == '"' && !doc->escapes)
			t++;
		else if (unlikely(!json_check_value(doc, &t, depth)))
			goto wrong;

		if (field != NULL)
		{
			field->seen = true;
			if (key->rank >= field->rank)
			{
				if (unlikely(field->rank != RANK_NONE && field->descend && c != '{'))
					forget_level(field->child);
				field->rank = key->rank;
				field->token = value;
				field->next_token = t;
			}
		}

		c = buf[pos[t]];
		if (c == ',')
			t++;
		else if (likely(c == '}'))
		{
			*i = t + 1;
			return true;
		}
		else
			goto wrong;
	}

wrong:
	*i = t;
	return false;
}

/* ---- the short cut ---- */

/*
 * The byte that ends a string of plain ASCII: its quote, or what the short
 * cut does not know (escape, control character, a byte of a longer one).
 */
static inline const uint8 *
plain_string_end(const uint8 *p)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');
	const __m128i space = _mm_set1_epi8(' ');

	/* the padding's zeros stop it behind the document */
	for (;;)
	{
		__m128i		v = _mm_loadu_si128((const __m128i *) p);
		/* signed: bytes from 0x80 on are below a space too */
		__m128i		stop = _mm_or_si128(_mm_cmplt_epi8(v, space),
										_mm_or_si128(_mm_cmpeq_epi8(v, quote),
													 _mm_cmpeq_epi8(v, backslash)));
		unsigned int mask = _mm_movemask_epi8(stop);

		if (mask != 0)
			return p + __builtin_ctz(mask);
		p += 16;
	}
#else
	while (*p != '"' && *p != '\\' && *p >= ' ' && *p < 0x80)
		p++;
	return p;
#endif
}

/* Do the key's bytes come next, and then its quote and a colon? */
static inline bool
key_follows(const JsonKey *key, const uint8 *p)
{
#ifdef __SSE2__
	/* without a loop: a key's length is no branch to be guessed wrong */
	if (likely(key->len <= 14))
	{
		__m128i		have = _mm_loadu_si128((const __m128i *) p);
		__m128i		want = _mm_loadu_si128((const __m128i *) key->bytes);
		unsigned int mask = (1u << (key->len + 2)) - 1;

		return (_mm_movemask_epi8(_mm_cmpeq_epi8(have, want)) & mask) == mask;
	}
#endif
	return same_key(key, p, key->len) && p[key->len] == '"' && p[key->len + 1] == ':';
}

/*
 * Walks the document along the keys of the last one.  True: it is valid, and
 * the fields hold their tokens.
 */
static bool
walk_short(JsonDecoder *json, JsonDoc *doc)
{
	const uint8 *buf = doc->buf;
	const uint8 *p = buf;
	JsonKey    *key = json->root->first;
	uint32		i;

	if (*p++ != '{')
		return false;
	for (i = 0; i < SHORT_MAX_FIELDS; i++)
	{
		JsonField  *field;
		const uint8 *value;

		if (*p == ' ')
			p++;
		if (unlikely(key == NULL || *p++ != '"' || !key_follows(key, p)))
			return false;
		p += key->len + 2;
		if (*p == ' ')
			p++;

		value = p;
		switch (*p)
		{
			case '"':
				p = plain_string_end(p + 1);
				if (unlikely(*p != '"'))
					return false;
				p++;
				break;
			case 't':
				if (memcmp(p, "true", 4) != 0)
					return false;
				p += 4;
				break;
			case 'f':
				if (memcmp(p, "false", 5) != 0)
					return false;
				p += 5;
				break;
			case 'n':
				if (memcmp(p, "null", 4) != 0)
					return false;
				p += 4;
				break;
			default:
				p = json_number_end(p);
				if (unlikely(p == NULL))
					return false;
				break;
		}

		field = key->field;
		if (field != NULL)
		{
			/* a key that comes twice */
			if (unlikely(field->rank != RANK_NONE))
				return false;
			field->seen = true;
			field->rank = key->rank;
			field->token = 2 * i;
			field->next_token = 2 * i + 1;
			json->bounds[2 * i] = value - buf;
			json->bounds[2 * i + 1] = p - buf;
		}

		if (*p == ',')
			p++;
		else if (p[0] == '}' && p + 1 == buf + doc->len)
			break;
		else
			return false;
		key = key->follower;
	}
	if (unlikely(i == SHORT_MAX_FIELDS))
		return false;
	doc->pos = json->bounds;
	doc->n = 2 * i + 2;
	doc->escapes = false;
	return true;
}

/* ---- decoding ---- */

static bool
decode_value(CodecDecoder *decoder, int column, uint32 token, uint32 next,
			 Arena *arena, Datum *value, CodecError *err)
{
	const JsonDoc *doc = &decoder->doc;
	Column	   *col = &decoder->columns[column];
	const char *text = (const char *) doc->buf + doc->pos[token];
	ValueOrigin origin;
	Size		len;

	if (col->kind == KIND_JSONB)
		return json_build_jsonb(decoder, column, doc, token, arena, value, err);

	len = json_text_end(doc, next) - doc->pos[token];
	if (col->kind == KIND_JSON)
	{
		if (!codec_to_server(decoder, column, &text, &len, err))
			return false;
		*value = PointerGetDatum(make_varlena(arena, text, len));
		return true;
	}
	switch (*text)
	{
		case '"':
			if (!json_string(decoder, column, doc, token, &text, &len, err))
				return false;
			origin = FROM_STRING;
			break;
		case '{':
		case '[':
			if (col->kind == KIND_OTHER && col->info->shape >= SHAPE_ARRAY)
			{
				StringInfoData literal;
				MemoryContext old = MemoryContextSwitchTo(decoder->tmp);
				bool		ok;

				/* throws where the literal gets too long */
				decoder->current = column;
				initStringInfo(&literal);
				ok = json_build_literal(decoder, column, doc, token, &literal, err);
				MemoryContextSwitchTo(old);
				if (ok)
					ok = scalar_other(decoder, column, literal.data, literal.len, arena, value, err);
				decoder->current = -1;
				MemoryContextReset(decoder->tmp);
				return ok;
			}
			origin = FROM_TEXT;
			break;
		case 't':
		case 'f':
			origin = FROM_TEXT;
			break;
		default:
			origin = FROM_NUMBER;
			break;
	}
	return scalar_decode(decoder, column, text, len, origin, arena, value, err);
}

/* The columns after walk_short(): each value is one token, its bounds are exact. */
static bool
decode_short(CodecDecoder *decoder, Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	const uint8 *buf = decoder->doc.buf;
	const uint32 *bounds = decoder->json->bounds;
	int			n = decoder->nneeded;
	int			i;

	for (i = 0; i < n; i++)
	{
		int			column = decoder->needed[i];
		Column	   *col = &decoder->columns[column];
		const JsonField *field = col->field;
		int			target = col->def.target;
		const char *text;
		Size		len;
		ValueOrigin origin;

		if (unlikely(field->rank == RANK_NONE))
		{
			if (!codec_null(decoder, column, values, isnull, err))
				return false;
			continue;
		}
		text = (const char *) buf + bounds[field->token];
		len = bounds[field->next_token] - bounds[field->token];
		switch (*text)
		{
			case '"':
				text++;
				len -= 2;
				origin = FROM_STRING;
				break;
			case 'n':
				if (!codec_null(decoder, column, values, isnull, err))
					return false;
				continue;
			case 't':
			case 'f':
				origin = FROM_TEXT;
				break;
			default:
				origin = FROM_NUMBER;
				break;
		}
		isnull[target] = false;
		if (unlikely(!scalar_decode(decoder, column, text, len, origin, arena, &values[target], err)))
			return false;
	}
	return true;
}

bool
json_decode(CodecDecoder *decoder, const char *data, Size len,
			Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	JsonDecoder *json = decoder->json;
	JsonDoc    *doc = &decoder->doc;
	JsonField  *field;
	uint32		token = 0;
	int			i;

	decoder->nmessages++;
	json_doc_copy(decoder, doc, data, len);
	for (field = json->fields; field != NULL; field = field->next_all)
		field->rank = RANK_NONE;

	if (likely(json->flat && walk_short(json, doc)))
		return decode_short(decoder, values, isnull, arena, err);

	if (unlikely(!json_doc_index(decoder, doc, -1, err)))
		return false;
	for (field = json->fields; field != NULL; field = field->next_all)
		field->rank = RANK_NONE;
	if (unlikely(doc->buf[doc->pos[0]] != '{'))
	{
		if (json_check_value(doc, &token, 0) && token == doc->n)
			return codec_fail(decoder, err, ERRCODE_INVALID_TEXT_REPRESENTATION, -1,
							  "JSON value is not an object");
		return json_wrong(decoder, doc, token, -1, err);
	}
	if (unlikely(!walk_object(decoder, json->root, &token, 1) || token != doc->n))
		return json_wrong(decoder, doc, token, -1, err);

	for (i = 0; i < decoder->nneeded; i++)
	{
		int			column = decoder->needed[i];
		Column	   *col = &decoder->columns[column];
		int			target = col->def.target;

		field = col->field;
		if (field->rank == RANK_NONE || doc->buf[doc->pos[field->token]] == 'n')
		{
			if (unlikely(!codec_null(decoder, column, values, isnull, err)))
				return false;
			continue;
		}
		isnull[target] = false;
		if (unlikely(!decode_value(decoder, column, field->token, field->next_token,
								   arena, &values[target], err)))
			return false;
	}
	return true;
}

/* ---- columns that no message had ---- */

/* The key of the level nearest to the name, among those that are no column's. */
static const char *
nearest_key(CodecDecoder *decoder, JsonLevel *level, const char *name)
{
	const char **names = palloc(sizeof(char *) * KEY_MAX);
	const char *result;
	int			n = 0;
	int			b;

	for (b = 0; b < KEY_BUCKETS; b++)
	{
		JsonKey    *key;

		for (key = level->buckets[b]; key != NULL; key = key->next)
		{
			uint32		k;
			bool		plain = true;

			/* the name is shown, and must not fail to be converted */
			for (k = 0; k < key->len; k++)
			{
				unsigned char c = key->bytes[k];

				if (c == '\\' || c == 0x7f || (IS_HIGHBIT_SET(c) && OidIsValid(decoder->to_server)))
					plain = false;
			}
			if (key->field == NULL && plain && n < KEY_MAX)
				names[n++] = pnstrdup(key->bytes, key->len);
		}
	}
	result = closest_match(name, names, n);
	return result;
}

int
json_unseen(CodecDecoder *decoder, const char **columns, const char **nearest, int max)
{
	int			n = 0;
	int			i;

	for (i = 0; i < decoder->nneeded && n < max; i++)
	{
		Column	   *col = &decoder->columns[decoder->needed[i]];
		JsonField  *field = col->field;

		if (field->seen)
			continue;
		/* below an object that never came: it is that one's name which is wrong */
		while (field->level->owner != NULL && !field->level->owner->seen)
			field = field->level->owner;
		columns[n] = col->def.name;
		nearest[n] = nearest_key(decoder, field->level,
								 pg_any_to_server(field->name, field->len, PG_UTF8));
		n++;
	}
	return n;
}

/*-------------------------------------------------------------------------
 *
 * shim_encoding.c
 *	  Encodings of the database: UTF-8, LATIN1 and SQL_ASCII.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"

#include "shim.h"

#define LATIN1_CONVERSION	4711

int
GetDatabaseEncoding(void)
{
	return shim_encoding;
}

const char *
GetDatabaseEncodingName(void)
{
	return shim_encoding == PG_UTF8 ? "UTF8" : shim_encoding == PG_LATIN1 ? "LATIN1" : "SQL_ASCII";
}

Oid
FindDefaultConversionProc(int32 for_encoding, int32 to_encoding)
{
	return for_encoding == PG_UTF8 && to_encoding == PG_LATIN1 ? LATIN1_CONVERSION : InvalidOid;
}

int
pg_utf_mblen(const unsigned char *s)
{
	if ((*s & 0x80) == 0)
		return 1;
	if ((*s & 0xe0) == 0xc0)
		return 2;
	if ((*s & 0xf0) == 0xe0)
		return 3;
	return (*s & 0xf8) == 0xf0 ? 4 : 1;
}

unsigned char *
unicode_to_utf8(pg_wchar c, unsigned char *utf8string)
{
	if (c < 0x80)
		utf8string[0] = c;
	else if (c < 0x800)
	{
		utf8string[0] = 0xc0 | (c >> 6);
		utf8string[1] = 0x80 | (c & 0x3f);
	}
	else if (c < 0x10000)
	{
		utf8string[0] = 0xe0 | (c >> 12);
		utf8string[1] = 0x80 | ((c >> 6) & 0x3f);
		utf8string[2] = 0x80 | (c & 0x3f);
	}
	else
	{
		utf8string[0] = 0xf0 | (c >> 18);
		utf8string[1] = 0x80 | ((c >> 12) & 0x3f);
		utf8string[2] = 0x80 | ((c >> 6) & 0x3f);
		utf8string[3] = 0x80 | (c & 0x3f);
	}
	return utf8string;
}

static int
char_len(const char *s)
{
	return shim_encoding == PG_UTF8 ? pg_utf_mblen((const unsigned char *) s) : 1;
}

int
pg_mbstrlen_with_len(const char *mbstr, int len)
{
	int			n = 0;

	while (len > 0 && *mbstr != '\0')
	{
		int			l = char_len(mbstr);

		mbstr += l;
		len -= l;
		n++;
	}
	return n;
}

/* bytes of the first "limit" characters */
int
pg_mbcharcliplen(const char *mbstr, int len, int limit)
{
	int			bytes = 0;
	int			n = 0;

	while (bytes < len && mbstr[bytes] != '\0' && n < limit)
	{
		int			l = char_len(mbstr + bytes);

		if (bytes + l > len)
			break;
		bytes += l;
		n++;
	}
	return bytes;
}

/* UTF-8 to LATIN1 as far as it goes; number of bytes that were converted */
int
pg_do_encoding_conversion_buf(Oid proc, int src_encoding, int dest_encoding, unsigned char *src, int srclen,
							  unsigned char *dest, int destlen, bool noError)
{
	int			i = 0;
	int			n = 0;

	if (proc != LATIN1_CONVERSION || src_encoding != PG_UTF8 || dest_encoding != PG_LATIN1 || !noError)
		abort();
	while (i < srclen && n + 1 < destlen)
	{
		if (src[i] == 0)
			break;
		if (src[i] < 0x80)
			dest[n++] = src[i++];
		else if ((src[i] == 0xc2 || src[i] == 0xc3) && i + 1 < srclen)
		{
			dest[n++] = ((src[i] & 3) << 6) | (src[i + 1] & 0x3f);
			i += 2;
		}
		else
			break;
	}
	dest[n] = '\0';
	return i;
}

char *
pg_any_to_server(const char *s, int len, int encoding)
{
	char	   *result;

	if (encoding != PG_UTF8)
		abort();
	if (shim_encoding != PG_LATIN1 || len == 0)
		return unconstify(char *, s);
	result = palloc(len + 1);
	if (pg_do_encoding_conversion_buf(LATIN1_CONVERSION, PG_UTF8, PG_LATIN1, (unsigned char *) unconstify(char *, s),
									  len, (unsigned char *) result, len + 1, true) < len)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("character has no equivalent in encoding LATIN1")));
	return result;
}

char *
pg_server_to_any(const char *s, int len, int encoding)
{
	char	   *result;
	int			n = 0;
	int			i;

	if (encoding != PG_UTF8)
		abort();
	if (shim_encoding != PG_LATIN1 || len == 0)
		return unconstify(char *, s);
	result = palloc(2 * len + 1);
	for (i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		if (c >= 0x80)
		{
			result[n++] = 0xc0 | (c >> 6);
			c = 0x80 | (c & 0x3f);
		}
		result[n++] = c;
	}
	result[n] = '\0';
	return result;
}

/*-------------------------------------------------------------------------
 *
 * csv.c
 *	  Formats csv (RFC 4180, one record in a message, no header) and raw.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "codec/codec_private.h"

static bool
csv_wrong(CodecDecoder *decoder, CodecError *err, int column, const char *what)
{
	if (column >= decoder->ncolumns)
		column = -1;
	return codec_fail(decoder, err, ERRCODE_BAD_COPY_FILE_FORMAT, column, "invalid csv: %s", what);
}

/* Messages are UTF-8, and PostgreSQL's text holds no NUL. */
static bool
check_text(CodecDecoder *decoder, const char *data, Size len, CodecError *err)
{
	if (unlikely(!json_utf8_valid(data, len)))
		return codec_fail(decoder, err, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, -1,
						  "value is not valid UTF-8");
	if (unlikely(memchr(data, '\0', len) != NULL))
		return codec_fail(decoder, err, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, -1,
						  "value holds a NUL byte");
	return true;
}

/*
 * The number of fields is checked after the whole record has been read, and
 * before any value is: a shifted record must not be taken for wrong values.
 */
static bool
csv_count(CodecDecoder *decoder, const char *data, Size len, CodecError *err)
{
	char		delimiter = decoder->options.delimiter;
	const char *p = data;
	const char *end = data + len;
	int			field = 0;

	for (;; field++)
	{
		if (p < end && *p == '"')
		{
			p++;
			for (;;)
			{
				p = memchr(p, '"', end - p);
				if (p == NULL)
					return csv_wrong(decoder, err, field, "quoted field is not closed");
				p++;
				if (p == end || *p != '"')
					break;
				p++;
			}
			if (p < end && *p != delimiter)
				return csv_wrong(decoder, err, field, "text after a closing quote");
		}
		else
		{
			while (p < end && *p != delimiter)
			{
				if (*p == '"')
					return csv_wrong(decoder, err, field, "quote within a field that is not quoted");
				if (*p == '\n' || *p == '\r')
					return csv_wrong(decoder, err, field, "line end within the record");
				p++;
			}
		}
		if (p == end)
			break;
		p++;
	}
	field++;
	if (field != decoder->ncolumns)
		return codec_fail(decoder, err, ERRCODE_BAD_COPY_FILE_FORMAT, -1,
						  "invalid csv: record has %d fields, the table %d columns", field, decoder->ncolumns);
	return true;
}

bool
csv_decode(CodecDecoder *decoder, const char *data, Size len,
		   Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	char		delimiter = decoder->options.delimiter;
	const char *p = data;
	const char *end;
	int			field;

	decoder->nmessages++;
	if (!check_text(decoder, data, len, err))
		return false;
	/* the line end of the record is no part of it */
	if (len > 0 && data[len - 1] == '\n')
		len--;
	if (len > 0 && data[len - 1] == '\r')
		len--;
	end = data + len;
	if (decoder->ncolumns == 0)
		return true;
	if (!csv_count(decoder, data, len, err))
		return false;

	for (field = 0; field < decoder->ncolumns; field++)
	{
		Column	   *col = &decoder->columns[field];
		const char *start;
		Size		n;
		bool		quoted = p < end && *p == '"';
		bool		doubled = false;

		if (quoted)
		{
			start = ++p;
			for (;;)
			{
				p = memchr(p, '"', end - p);
				if (p + 1 == end || p[1] != '"')
					break;
				doubled = true;
				p += 2;
			}
			n = p - start;
			p++;
		}
		else
		{
			start = p;
			while (p < end && *p != delimiter)
				p++;
			n = p - start;
		}
		p++;					/* delimiter */
		if (!col->def.needed)
			continue;

		if (n == 0 && !quoted)
		{
			if (!codec_null(decoder, field, values, isnull, err))
				return false;
			continue;
		}
		if (doubled)
		{
			char	   *out = scratch_reserve(decoder, &decoder->unescaped, n);
			const char *from;
			Size		k = 0;

			for (from = start; from < start + n; from++)
			{
				out[k++] = *from;
				if (*from == '"')
					from++;
			}
			start = out;
			n = k;
		}
		isnull[col->def.target] = false;
		{
			ValueOrigin origin = FROM_STRING;
			Decimal		decimal;

			/* a bare number in a time column is epoch milliseconds, as in JSON */
			if (!quoted && (col->kind == KIND_TIMESTAMPTZ || col->kind == KIND_TIMESTAMP) &&
				decimal_parse(start, n, &decimal))
				origin = FROM_NUMBER;
			if (unlikely(!scalar_decode(decoder, field, start, n, origin, arena,
										&values[col->def.target], err)))
				return false;
		}
	}
	return true;
}

bool
raw_decode(CodecDecoder *decoder, const char *data, Size len,
		   Datum *values, bool *isnull, Arena *arena, CodecError *err)
{
	Column	   *col = &decoder->columns[0];

	decoder->nmessages++;
	if (!col->def.needed)
		return true;
	isnull[col->def.target] = false;
	if (col->kind == KIND_BYTEA)
	{
		values[col->def.target] = PointerGetDatum(make_varlena(arena, data, len));
		return true;
	}
	if (!check_text(decoder, data, len, err))
		return false;
	return scalar_decode(decoder, 0, data, len, FROM_STRING, arena, &values[col->def.target], err);
}

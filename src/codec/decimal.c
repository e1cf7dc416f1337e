/*-------------------------------------------------------------------------
 *
 * decimal.c
 *	  Decimal text to integers, floats and numeric.
 *
 * Nothing here throws.  A numeric is written digit by digit in its storage
 * format, which pg_upgrade keeps from version to version; test/codec compares
 * it bit by bit with what numeric_in makes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/numeric.h"

#include "base/numeric_format.h"
#include "codec/codec_private.h"

#define EXPONENT_MAX	(1 << 30)

/*
 * [+-] digits [. digits] [e [+-] digits], one of the two groups of digits may
 * be missing.  No white space.
 */
bool
decimal_parse(const char *text, Size len, Decimal *decimal)
{
	const char *p = text;
	const char *end = text + len;
	const char *start;

	decimal->negative = false;
	if (p < end && (*p == '-' || *p == '+'))
		decimal->negative = *p++ == '-';
	decimal->mantissa = start = p;
	while (p < end && is_digit(*p))
		p++;
	decimal->nint = p - start;
	decimal->nfrac = 0;
	if (p < end && *p == '.')
	{
		start = ++p;
		while (p < end && is_digit(*p))
			p++;
		decimal->nfrac = p - start;
	}
	if (decimal->nint + decimal->nfrac == 0)
		return false;
	decimal->len = p - decimal->mantissa;
	decimal->exponent = 0;
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		bool		negative = false;
		int32		exponent = 0;

		p++;
		if (p < end && (*p == '-' || *p == '+'))
			negative = *p++ == '-';
		start = p;
		while (p < end && is_digit(*p))
		{
			if (exponent < EXPONENT_MAX / 10)
				exponent = exponent * 10 + (*p - '0');
			else
				exponent = EXPONENT_MAX;
			p++;
		}
		if (p == start)
			return false;
		decimal->exponent = negative ? -exponent : exponent;
	}
	return p == end;
}

NumberResult
decimal_to_int64(const Decimal *decimal, int shift, bool round, int64 *result)
{
	const char *p = decimal->mantissa;
	const char *end = p + decimal->len;
	int64		ndigits = decimal->nint + decimal->nfrac;
	int64		keep = (int64) decimal->nint + decimal->exponent + shift;
	uint64		value = 0;
	int64		i = 0;

	/* digits 0 .. keep-1 are the integer, the others are its fraction */
	for (; p < end; p++)
	{
		unsigned char digit;

		if (*p == '.')
			continue;
		digit = *p - '0';
		if (i < keep)
		{
			if (value > (PG_UINT64_MAX - 9) / 10)
				return NUMBER_RANGE;
			value = value * 10 + digit;
		}
		else if (round)
		{
			if (i == keep && digit >= 5)
				value++;
			break;
		}
		else if (digit != 0)
			return NUMBER_FRACTION;
		i++;
	}
	for (i = ndigits; i < keep && value != 0; i++)
	{
		if (value > PG_UINT64_MAX / 10)
			return NUMBER_RANGE;
		value *= 10;
	}
	if (decimal->negative)
	{
		if (value > (uint64) PG_INT64_MAX + 1)
			return NUMBER_RANGE;
		*result = (int64) (0 - value);
	}
	else
	{
		if (value > (uint64) PG_INT64_MAX)
			return NUMBER_RANGE;
		*result = (int64) value;
	}
	return NUMBER_OK;
}

NumberResult
parse_int64(const char *text, Size len, int64 *result)
{
	Decimal		decimal;
	Size		i = 0;

	/* up to 18 digits cannot overflow */
	if (likely(len > 0 && len <= 18))
	{
		uint64		value = 0;

		if (text[0] == '-')
			i++;
		if (likely(i < len))
		{
			for (; i < len && is_digit(text[i]); i++)
				value = value * 10 + (text[i] - '0');
			if (likely(i == len))
			{
				*result = text[0] == '-' ? -(int64) value : (int64) value;
				return NUMBER_OK;
			}
		}
	}
	if (!decimal_parse(text, len, &decimal))
		return NUMBER_SYNTAX;
	return decimal_to_int64(&decimal, 0, false, result);
}

/* The text with a terminator: what strtod() and PostgreSQL's functions want. */
static char *
terminated(CodecDecoder *decoder, const char *text, Size len)
{
	char	   *s = scratch_reserve(decoder, &decoder->cstring, len + 1);

	memcpy(s, text, len);
	s[len] = '\0';
	return s;
}

/*
 * Up to 15 digits and a power of ten up to 22 are exact doubles, so one
 * multiplication or division gives the correctly rounded value.  The rest is
 * PostgreSQL's own work.
 */
NumberResult
parse_float8(CodecDecoder *decoder, const char *text, Size len, float8 *result)
{
	static const double powers[] = {
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
	};
	Decimal		decimal;
	bool		failed = false;
	char	   *s;
	char	   *end;

	if (decimal_parse(text, len, &decimal))
	{
		int32		exponent;

		if (decimal.nint + decimal.nfrac <= 15 &&
			(exponent = decimal.exponent - (int32) decimal.nfrac) >= -22 && exponent <= 22)
		{
			uint64		value = 0;
			Size		i;

			for (i = 0; i < decimal.len; i++)
			{
				if (decimal.mantissa[i] != '.')
					value = value * 10 + (decimal.mantissa[i] - '0');
			}
			*result = exponent < 0 ? (double) value / powers[-exponent] : (double) value * powers[exponent];
			if (decimal.negative)
				*result = -*result;
			return NUMBER_OK;
		}
		s = terminated(decoder, text, len);
		*result = float8in_internal_opt_error(s, NULL, "double precision", s, &failed);
		return failed ? NUMBER_RANGE : NUMBER_OK;
	}
	if (memchr(text, '\0', len) != NULL || len == 0)
		return NUMBER_SYNTAX;
	s = terminated(decoder, text, len);
	*result = float8in_internal_opt_error(s, NULL, "double precision", s, &failed);
	if (!failed)
		return NUMBER_OK;
	/* hex digits, which the C library knows, may be out of range */
	errno = 0;
	*result = strtod(s, &end);
	return errno == ERANGE && end != s && *end == '\0' ? NUMBER_RANGE : NUMBER_SYNTAX;
}

NumberResult
parse_float4(CodecDecoder *decoder, const char *text, Size len, float4 *result)
{
	char	   *s;
	char	   *end;

	if (memchr(text, '\0', len) != NULL || len == 0)
		return NUMBER_SYNTAX;
	/* not by way of a double, which would round twice; the C library knows the words and hex, too */
	s = terminated(decoder, text, len);
	errno = 0;
	*result = strtof(s, &end);
	if (end == s || *end != '\0')
		return NUMBER_SYNTAX;
	if (errno == ERANGE && (*result == 0.0f || isinf(*result)))
		return NUMBER_RANGE;
	return NUMBER_OK;
}

static Datum
numeric_special(uint16 header, Arena *arena)
{
	char	   *result = arena_alloc(arena, VARHDRSZ + sizeof(uint16));

	SET_VARSIZE(result, VARHDRSZ + sizeof(uint16));
	memcpy(result + VARHDRSZ, &header, sizeof(header));
	return PointerGetDatum(result);
}

static NumberResult
numeric_word(const char *text, Size len, int32 typmod, Arena *arena, Datum *result)
{
	Size		sign = len > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
	const char *word = text + sign;
	Size		n = len - sign;

	if (len == 3 && pg_strncasecmp(text, "NaN", 3) == 0)
	{
		*result = numeric_special(NUM_NAN, arena);
		return NUMBER_OK;
	}
	if ((n == 8 && pg_strncasecmp(word, "Infinity", 8) == 0) ||
		(n == 3 && pg_strncasecmp(word, "inf", 3) == 0))
	{
		if (typmod >= (int32) VARHDRSZ)
			return NUMBER_FIELD;
		*result = numeric_special(text[0] == '-' ? NUM_NINF : NUM_PINF, arena);
		return NUMBER_OK;
	}
	return NUMBER_SYNTAX;
}

/* What most numbers are: digits of one word, a fraction of one base digit. */
#define PLAIN_DIGITS	15

/*
 * [-] digits [. up to four digits] that need no rounding.  False says only
 * that parse_numeric() must look at it.
 */
static inline bool
plain_numeric(const char *text, Size len, int32 typmod, Arena *arena, Datum *result)
{
	static const int64 powers[] = {
		1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000,
		1000000000000, 10000000000000, 100000000000000, 1000000000000000
	};
	const char *p = text;
	const char *end = text + len;
	bool		negative = false;
	int64		whole = 0;
	int			fraction = 0;
	int			nfrac = 0;
	int			dscale;
	int			weight = -1;
	int			ndigits;
	int16		digits[5];
	uint16		header;
	Size		size;
	char	   *out;

	/* sign and point */
	if (len == 0 || len > PLAIN_DIGITS + 2)
		return false;
	if (*p == '-')
	{
		negative = true;
		p++;
	}
	if (p == end || !is_digit(*p))
		return false;
	while (p < end && is_digit(*p))
		whole = whole * 10 + (*p++ - '0');
	if (p < end)
	{
		nfrac = end - p - 1;
		if (*p++ != '.' || nfrac > NUM_BASE_DIGITS)
			return false;
		while (p < end && is_digit(*p))
			fraction = fraction * 10 + (*p++ - '0');
		if (p < end)
			return false;
		fraction *= powers[NUM_BASE_DIGITS - nfrac];
	}
	if (whole >= powers[PLAIN_DIGITS])
		return false;
	dscale = nfrac;
	if (typmod >= (int32) VARHDRSZ)
	{
		int			precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
		int			scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;

		if (nfrac > scale || scale > NUM_SHORT_DSCALE_MAX || precision < scale ||
			(precision - scale < PLAIN_DIGITS && whole >= powers[precision - scale]))
			return false;
		dscale = scale;
	}

	/* from the last digit backwards; those at the end that are zero are not stored */
	digits[4] = fraction;
	for (int i = 3; whole != 0; i--)
	{
		digits[i] = whole % NUM_BASE;
		whole /= NUM_BASE;
		weight++;
	}
	/* first: 3 - weight */
	ndigits = weight + 2;
	while (ndigits > 0 && digits[2 - weight + ndigits] == 0)
		ndigits--;
	if (ndigits == 0)
	{
		negative = false;
		weight = 0;
	}

	header = numeric_short_header(negative, dscale, weight);
	size = VARHDRSZ + sizeof(header) + ndigits * sizeof(int16);
	*result = PointerGetDatum(out = arena_alloc(arena, size));
	SET_VARSIZE(out, size);
	memcpy(out + VARHDRSZ, &header, sizeof(header));
	memcpy(out + VARHDRSZ + sizeof(header), &digits[3 - weight], ndigits * sizeof(int16));
	return true;
}

NumberResult
parse_numeric(CodecDecoder *decoder, const char *text, Size len, int32 typmod, Arena *arena, Datum *result)
{
	Decimal		decimal;
	uint8		small[64];
	uint8	   *digits = small;
	const char *p;
	const char *end;
	int64		n;				/* digits, with a spare zero in front */
	int64		point;			/* digits before the point, the spare one included */
	int64		dscale;
	int64		first;
	int64		last;
	int64		power;			/* power of ten of the first digit */
	int64		weight;
	int			ndigits;
	Size		size;
	char	   *out;
	int64		i;

	if (likely(plain_numeric(text, len, typmod, arena, result)))
		return NUMBER_OK;
	if (unlikely(!decimal_parse(text, len, &decimal)))
		return numeric_word(text, len, typmod, arena, result);
	if (unlikely(decimal.exponent >= INT_MAX / 2 || decimal.exponent <= -(INT_MAX / 2)))
		return NUMBER_RANGE;

	n = decimal.nint + decimal.nfrac + 1;
	if (unlikely(n > (int64) sizeof(small)))
		digits = (uint8 *) scratch_reserve(decoder, &decoder->digits, n);
	i = 0;
	digits[i++] = 0;
	for (p = decimal.mantissa, end = p + decimal.len; p < end; p++)
	{
		if (*p != '.')
			digits[i++] = *p - '0';
	}
	point = (int64) decimal.nint + 1 + decimal.exponent;
	dscale = Max((int64) decimal.nfrac - decimal.exponent, 0);

	if (typmod >= (int32) VARHDRSZ)
	{
		int			scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;
		int64		keep = point + scale;

		/* round half away from zero at the scale */
		if (keep < n)
		{
			bool		up = keep >= 0 && digits[keep] >= 5;

			n = Max(keep, 0);
			if (up)
			{
				/*
				 * The spare zero takes the carry.  Where even that one is
				 * rounded away (keep 0) its digit is 0, never up.
				 */
				for (i = n - 1; i >= 0; i--)
				{
					if (digits[i] < 9)
					{
						digits[i]++;
						break;
					}
					digits[i] = 0;
				}
			}
		}
		dscale = Max(scale, 0);
	}

	for (first = 0; first < n && digits[first] == 0; first++)
		;
	if (first == n)
	{
		power = 0;
		weight = 0;
		ndigits = 0;
		decimal.negative = false;
		last = first;
	}
	else
	{
		for (last = n - 1; digits[last] == 0; last--)
			;
		power = point - 1 - first;
		if (typmod >= (int32) VARHDRSZ)
		{
			int			precision = ((typmod - VARHDRSZ) >> 16) & 0xffff;
			int			scale = (((typmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024;

			if (power + 1 > precision - scale)
				return NUMBER_FIELD;
		}
		/* floor */
		weight = power >= 0 ? power / NUM_BASE_DIGITS : -((-power - 1) / NUM_BASE_DIGITS + 1);
		ndigits = (power - weight * NUM_BASE_DIGITS + 1 >= last - first + 1) ? 1 :
			1 + ((last - first + 1) - (power - weight * NUM_BASE_DIGITS + 1) + NUM_BASE_DIGITS - 1) / NUM_BASE_DIGITS;
	}
	if (unlikely(dscale > NUM_LONG_DSCALE_MAX || weight > PG_INT16_MAX || weight < PG_INT16_MIN))
		return NUMBER_RANGE;

	if (likely(dscale <= NUM_SHORT_DSCALE_MAX &&
			   weight <= NUM_SHORT_WEIGHT_MAX && weight >= NUM_SHORT_WEIGHT_MIN))
	{
		uint16		header = numeric_short_header(decimal.negative, (int) dscale, (int) weight);

		size = VARHDRSZ + sizeof(uint16) + ndigits * sizeof(int16);
		*result = PointerGetDatum(out = arena_alloc(arena, size));
		SET_VARSIZE(out, size);
		out += VARHDRSZ;
		memcpy(out, &header, sizeof(header));
		out += sizeof(header);
	}
	else
	{
		uint16		header[2];

		header[0] = (decimal.negative ? NUM_LONG_NEGATIVE : 0) | dscale;
		header[1] = (uint16) (int16) weight;
		size = VARHDRSZ + sizeof(header) + ndigits * sizeof(int16);
		*result = PointerGetDatum(out = arena_alloc(arena, size));
		SET_VARSIZE(out, size);
		out += VARHDRSZ;
		memcpy(out, header, sizeof(header));
		out += sizeof(header);
	}

	if (ndigits > 0)
	{
		/* the first base digit holds fewer decimal ones */
		int			have = NUM_BASE_DIGITS - 1 - (int) (power - weight * NUM_BASE_DIGITS);
		int16		group = 0;

		for (i = first; i <= last; i++)
		{
			group = group * 10 + digits[i];
			if (++have == NUM_BASE_DIGITS)
			{
				memcpy(out, &group, sizeof(group));
				out += sizeof(group);
				group = 0;
				have = 0;
			}
		}
		if (have > 0)
		{
			while (have++ < NUM_BASE_DIGITS)
				group *= 10;
			memcpy(out, &group, sizeof(group));
		}
	}
	return NUMBER_OK;
}

int
numeric_text(Datum value, char *text)
{
	const struct varlena *numeric = (const struct varlena *) DatumGetPointer(value);
	int16		digits[8];
	uint16		header;
	int			size;
	int			ndigits;
	int			weight;
	int			dscale;
	int			d;
	char	   *at = text;

	if (VARATT_IS_EXTERNAL(numeric) || VARATT_IS_COMPRESSED(numeric))
		return 0;
	/* not aligned where its length is in one byte */
	size = (int) VARSIZE_ANY_EXHDR(numeric);
	if (size < (int) sizeof(header))
		return 0;
	memcpy(&header, VARDATA_ANY(numeric), sizeof(header));
	weight = (header & NUM_SHORT_WEIGHT_MASK) | (header & NUM_SHORT_WEIGHT_SIGN ? ~NUM_SHORT_WEIGHT_MASK : 0);
	dscale = (header & ~(NUM_SHORT | NUM_SHORT_NEGATIVE)) >> NUM_SHORT_DSCALE_SHIFT;
	ndigits = (size - (int) sizeof(header)) / (int) sizeof(int16);
	if ((header & NUM_NAN) != NUM_SHORT || ndigits > (int) lengthof(digits) || weight > 7 || dscale > 24)
		return 0;
	memcpy(digits, VARDATA_ANY(numeric) + sizeof(header), ndigits * sizeof(int16));

	if (header & NUM_SHORT_NEGATIVE)
		*at++ = '-';
	if (weight < 0)
		*at++ = '0';
	for (d = 0; d <= weight; d++)
	{
		int			digit = d < ndigits ? digits[d] : 0;

		/* the first one without leading zeros */
		if (d > 0 || digit >= 1000)
			*at++ = '0' + digit / 1000;
		if (d > 0 || digit >= 100)
			*at++ = '0' + digit / 100 % 10;
		if (d > 0 || digit >= 10)
			*at++ = '0' + digit / 10 % 10;
		*at++ = '0' + digit % 10;
	}
	if (dscale > 0)
	{
		char	   *end;

		*at++ = '.';
		end = at + dscale;
		for (d = weight + 1; at < end; d++)
		{
			int			digit = d >= 0 && d < ndigits ? digits[d] : 0;

			*at++ = '0' + digit / 1000;
			*at++ = '0' + digit / 100 % 10;
			*at++ = '0' + digit / 10 % 10;
			*at++ = '0' + digit % 10;
		}
		at = end;
	}
	return at - text;
}

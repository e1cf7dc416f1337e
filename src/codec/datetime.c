/*-------------------------------------------------------------------------
 *
 * datetime.c
 *	  Text to timestamps and dates.
 *
 * ISO 8601 as machines write it has an own parser; everything else goes
 * through PostgreSQL's date parsing, which returns error codes.  A text
 * without a zone is UTC, whatever the session's TimeZone.  Words that mean
 * another time at each reading are refused: a replay must give the same row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"

#include "codec/codec_private.h"

/* digits of a fraction that a double holds exactly */
#define FRACTION_DIGITS 15

static inline bool
two_digits(const char *p, int *value)
{
	if (!is_digit(p[0]) || !is_digit(p[1]))
		return false;
	*value = (p[0] - '0') * 10 + (p[1] - '0');
	return true;
}

/* YYYY-MM-DD; days since 2000-01-01 */
static inline bool
iso_date(const char *p, int32 *days)
{
	static const uint8 lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			century;
	int			year;
	int			month;
	int			day;

	if (!two_digits(p, &century) || !two_digits(p + 2, &year) || p[4] != '-' ||
		!two_digits(p + 5, &month) || p[7] != '-' || !two_digits(p + 8, &day))
		return false;
	year += century * 100;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > lengths[month - 1])
		return false;
	if (month == 2 && day == 29 && !isleap(year))
		return false;
	*days = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/*
 * YYYY-MM-DD[T ]HH:MM[:SS[.fraction]][Z|+hh[[:]mm]].  False says only that
 * the other parser must look at it.
 */
static bool
iso_timestamp(CodecDecoder *decoder, const char *text, Size len, bool with_zone, Timestamp *result)
{
	const char *p = text;
	const char *end = text + len;
	int			hour;
	int			minute;
	int			second = 0;
	int64		fraction = 0;
	int			zone = 0;

	if (len < 16)
		return false;
	if (unlikely(memcmp(p, decoder->date, sizeof(decoder->date)) != 0))
	{
		int32		days;

		if (!iso_date(p, &days))
			return false;
		memcpy(decoder->date, p, sizeof(decoder->date));
		decoder->date_days = days;
	}
	p += sizeof(decoder->date);
	if (*p != 'T' && *p != ' ' && *p != 't')
		return false;
	p++;
	if (!two_digits(p, &hour) || p[2] != ':' || !two_digits(p + 3, &minute) || hour > 23 || minute > 59)
		return false;
	p += 5;
	if (end - p >= 3 && *p == ':')
	{
		if (!two_digits(p + 1, &second) || second > 59)
			return false;
		p += 3;
		if (p < end && *p == '.')
		{
			static const int32 scale[] = {0, 100000, 10000, 1000, 100, 10, 1};
			const char *start = ++p;
			int			n;

			while (p < end && is_digit(*p) && p - start < FRACTION_DIGITS)
				fraction = fraction * 10 + (*p++ - '0');
			n = p - start;
			if (n == 0)
				return false;
			if (n <= 6)
				fraction *= scale[n];
			else
			{
				double		unit = 1;

				while (n-- > 0)
					unit *= 10;
				/* both exact, so this is what strtod() would give */
				fraction = (int64) rint(((double) fraction / unit) * 1000000);
			}
		}
	}
	if (p < end)
	{
		if ((*p == 'Z' || *p == 'z') && end - p == 1)
			p++;
		else if (*p == '+' || *p == '-')
		{
			int			zone_hour;
			int			zone_minute = 0;
			bool		west = *p == '-';
			Size		rest = end - ++p;

			if (rest < 2 || !two_digits(p, &zone_hour))
				return false;
			if (rest == 4)
			{
				if (!two_digits(p + 2, &zone_minute))
					return false;
			}
			else if (rest == 5)
			{
				if (p[2] != ':' || !two_digits(p + 3, &zone_minute))
					return false;
			}
			else if (rest != 2)
				return false;
			if (zone_hour > MAX_TZDISP_HOUR || zone_minute > 59)
				return false;
			zone = (zone_hour * 60 + zone_minute) * 60;
			if (west)
				zone = -zone;
		}
		else
			return false;
	}
	*result = (int64) decoder->date_days * USECS_PER_DAY +
		((int64) hour * 3600 + minute * 60 + second) * USECS_PER_SEC + fraction;
	if (with_zone)
		*result -= (int64) zone * USECS_PER_SEC;
	/* years 1 to 9999: always within the range of timestamps */
	return true;
}

/*
 * PostgreSQL's parser, with UTC as the session's zone for as long as it runs.
 * *type as DecodeDateTime gives it.
 */
static TimeResult
decode_datetime(CodecDecoder *decoder, const char *text, Size len,
				int *type, struct pg_tm *tm, fsec_t *fsec, int *zone)
{
	char		copy[MAXDATELEN + 1];
	char		work[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nfields;
	int			i;
	volatile int error;
	pg_tz	   *session = session_timezone;
	MemoryContext old = CurrentMemoryContext;

	if (len > MAXDATELEN || memchr(text, '\0', len) != NULL)
		return TIME_SYNTAX;
	memcpy(copy, text, len);
	copy[len] = '\0';

	error = ParseDateTime(copy, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nfields);
	if (error != 0)
		return TIME_SYNTAX;
	for (i = 0; i < nfields; i++)
	{
		if (ftype[i] == DTK_STRING &&
			(strcmp(field[i], "now") == 0 || strcmp(field[i], "today") == 0 ||
			 strcmp(field[i], "tomorrow") == 0 || strcmp(field[i], "yesterday") == 0))
			return TIME_RELATIVE;
	}

	session_timezone = decoder->utc;
	PG_TRY();
	{
		error = DecodeDateTime(field, ftype, nfields, type, tm, fsec, zone);
	}
	PG_CATCH();
	{
		ErrorData  *thrown;

		session_timezone = session;
		MemoryContextSwitchTo(old);
		thrown = CopyErrorData();
		/*
		 * One error it does throw: a zone whose name it does not know.
		 * Nothing is held or half done at that point, so it can be caught
		 * without a subtransaction.
		 */
		if (thrown->sqlerrcode != ERRCODE_INVALID_PARAMETER_VALUE)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(thrown);
		error = DTERR_BAD_FORMAT;
	}
	PG_END_TRY();
	session_timezone = session;

	if (error == DTERR_FIELD_OVERFLOW || error == DTERR_MD_FIELD_OVERFLOW ||
		error == DTERR_INTERVAL_OVERFLOW || error == DTERR_TZDISP_OVERFLOW)
		return TIME_RANGE;
	return error == 0 ? TIME_OK : TIME_SYNTAX;
}

TimeResult
parse_timestamp(CodecDecoder *decoder, const char *text, Size len, bool with_zone, Timestamp *result)
{
	int			type;
	struct pg_tm tm;
	fsec_t		fsec;
	int			zone;
	TimeResult	r;

	if (likely(iso_timestamp(decoder, text, len, with_zone, result)))
		return TIME_OK;

	r = decode_datetime(decoder, text, len, &type, &tm, &fsec, &zone);
	if (r != TIME_OK)
		return r;
	switch (type)
	{
		case DTK_DATE:
			if (tm2timestamp(&tm, fsec, with_zone ? &zone : NULL, result) != 0)
				return TIME_RANGE;
			return TIME_OK;
		case DTK_EPOCH:
			*result = SetEpochTimestamp();
			return TIME_OK;
		case DTK_LATE:
			TIMESTAMP_NOEND(*result);
			return TIME_OK;
		case DTK_EARLY:
			TIMESTAMP_NOBEGIN(*result);
			return TIME_OK;
		default:
			return TIME_SYNTAX;
	}
}

TimeResult
parse_date(CodecDecoder *decoder, const char *text, Size len, int32 *result)
{
	int			type;
	struct pg_tm tm;
	fsec_t		fsec;
	int			zone;
	TimeResult	r;

	if (likely(len == 10 && iso_date(text, result)))
		return TIME_OK;

	r = decode_datetime(decoder, text, len, &type, &tm, &fsec, &zone);
	if (r != TIME_OK)
		return r;
	switch (type)
	{
		case DTK_DATE:
			break;
		case DTK_EPOCH:
			GetEpochTime(&tm);
			break;
		case DTK_LATE:
			DATE_NOEND(*result);
			return TIME_OK;
		case DTK_EARLY:
			DATE_NOBEGIN(*result);
			return TIME_OK;
		default:
			return TIME_SYNTAX;
	}
	if (!IS_VALID_JULIAN(tm.tm_year, tm.tm_mon, tm.tm_mday))
		return TIME_RANGE;
	*result = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	if (!IS_VALID_DATE(*result))
		return TIME_RANGE;
	return TIME_OK;
}

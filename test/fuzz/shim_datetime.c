/*-------------------------------------------------------------------------
 *
 * shim_datetime.c
 *	  A small date parser in the place of PostgreSQL's, with its interface.
 *
 * It knows enough to give dates and times over the whole range, infinities,
 * relative words, zones by displacement, and the error of a zone by a name
 * that nobody knows, which is thrown.  What else PostgreSQL understands is a
 * wrong format here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "shim.h"

/* ---- calendar ---- */

/* The Julian day, by counting 400 years cycles that begin in March. */
int
date2j(int year, int month, int day)
{
	int64		y = (int64) year - (month <= 2);
	int64		era = (y >= 0 ? y : y - 399) / 400;
	int64		of_era = y - era * 400;
	int64		day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return (int) (era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year + 1721120);
}

static void
from_julian(int64 jd, int *year, int *month, int *day)
{
	int64		z = jd - 1721120;
	int64		era = (z >= 0 ? z : z - 146096) / 146097;
	int64		of_era = z - era * 146097;
	int64		y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64		day_of_year = of_era - (365 * y + y / 4 - y / 100);
	int64		m = (5 * day_of_year + 2) / 153;

	*day = (int) (day_of_year - (153 * m + 2) / 5 + 1);
	*month = (int) (m < 10 ? m + 3 : m - 9);
	*year = (int) (y + era * 400 + (*month <= 2));
}

void
j2date(int jd, int *year, int *month, int *day)
{
	from_julian(jd, year, month, day);
}

/* of what is written: always the one that has a way of its own */
const char *
pg_get_timezone_name(pg_tz *tz)
{
	return "UTC";
}

int
tm2timestamp(struct pg_tm *tm, fsec_t fsec, int *tzp, Timestamp *dt)
{
	int64		days;
	int64		time;

	if (!IS_VALID_JULIAN(tm->tm_year, tm->tm_mon, tm->tm_mday))
		return -1;
	days = (int64) date2j(tm->tm_year, tm->tm_mon, tm->tm_mday) - POSTGRES_EPOCH_JDATE;
	time = (((int64) tm->tm_hour * 60 + tm->tm_min) * 60 + tm->tm_sec) * USECS_PER_SEC + fsec;
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, dt) || pg_add_s64_overflow(*dt, time, dt))
		return -1;
	if (tzp != NULL && pg_add_s64_overflow(*dt, *tzp * USECS_PER_SEC, dt))
		return -1;
	return IS_VALID_TIMESTAMP(*dt) ? 0 : -1;
}

Timestamp
SetEpochTimestamp(void)
{
	return ((int64) UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

void
GetEpochTime(struct pg_tm *tm)
{
	memset(tm, 0, sizeof(*tm));
	tm->tm_year = 1970;
	tm->tm_mon = 1;
	tm->tm_mday = 1;
}

bool
AdjustTimestampForTypmodError(Timestamp *time, int32 typmod, bool *error)
{
	static const int64 scales[] = {1000000, 100000, 10000, 1000, 100, 10, 1};

	if (typmod < 0 || typmod > MAX_TIMESTAMP_PRECISION)
		abort();
	if (!TIMESTAMP_NOT_FINITE(*time))
	{
		int64		scale = scales[typmod];

		if (*time >= 0)
			*time = (*time + scale / 2) / scale * scale;
		else
			*time = -((-*time + scale / 2) / scale * scale);
	}
	return true;
}

/* ---- reading ---- */

/* Splits a text into fields, all of them in "workbuf". */
int
ParseDateTime(const char *timestr, char *workbuf, size_t buflen, char **field, int *ftype,
			  int maxfields, int *numfields)
{
	const char *p = timestr;
	char	   *out = workbuf;
	int			nf = 0;

	while (*p != '\0')
	{
		const char *start = p;
		int			type;

		if (isspace((unsigned char) *p))
		{
			p++;
			continue;
		}
		if (isdigit((unsigned char) *p))
		{
			while (isdigit((unsigned char) *p))
				p++;
			type = DTK_NUMBER;
			if (*p == ':')
			{
				while (isdigit((unsigned char) *p) || *p == ':' || *p == '.')
					p++;
				type = DTK_TIME;
			}
			else if (*p == '-' || *p == '/')
			{
				while (isdigit((unsigned char) *p) || *p == '-' || *p == '/')
					p++;
				type = DTK_DATE;
			}
		}
		else if (isalpha((unsigned char) *p))
		{
			while (isalpha((unsigned char) *p))
				p++;
			type = DTK_STRING;
			if (*p == '/' || *p == '_')
			{
				while (isalnum((unsigned char) *p) || *p == '/' || *p == '_')
					p++;
				type = DTK_DATE;
			}
		}
		else if ((*p == '+' || *p == '-') && isdigit((unsigned char) p[1]))
		{
			p++;
			while (isdigit((unsigned char) *p) || *p == ':')
				p++;
			type = DTK_TZ;
		}
		else if ((*p == '+' || *p == '-') && isalpha((unsigned char) p[1]))
		{
			p++;
			while (isalpha((unsigned char) *p))
				p++;
			type = DTK_SPECIAL;
		}
		else if (ispunct((unsigned char) *p))
		{
			p++;
			continue;
		}
		else
			return DTERR_BAD_FORMAT;

		if (nf >= maxfields || out + (p - start) + 1 > workbuf + buflen)
			return DTERR_BAD_FORMAT;
		field[nf] = out;
		ftype[nf++] = type;
		while (start < p)
			*out++ = tolower((unsigned char) *start++);
		*out++ = '\0';
	}
	*numfields = nf;
	return 0;
}

static bool
read_number(const char **s, int max, int *value)
{
	char	   *end;
	long		v;

	if (!isdigit((unsigned char) **s))
		return false;
	errno = 0;
	v = strtol(*s, &end, 10);
	if (errno != 0 || v > max)
		v = max + 1L;
	*s = end;
	*value = (int) v;
	return true;
}

static int
read_date(const char *s, struct pg_tm *tm)
{
	if (strlen(s) == 8 && strspn(s, "0123456789") == 8)
	{
		sscanf(s, "%4d%2d%2d", &tm->tm_year, &tm->tm_mon, &tm->tm_mday);
		return 0;
	}
	if (!read_number(&s, 10000000, &tm->tm_year) || *s++ != '-' ||
		!read_number(&s, 100, &tm->tm_mon) || *s++ != '-' ||
		!read_number(&s, 100, &tm->tm_mday) || *s != '\0')
		return DTERR_BAD_FORMAT;
	return 0;
}

static int
read_time(const char *s, struct pg_tm *tm, fsec_t *fsec)
{
	if (!read_number(&s, 1000, &tm->tm_hour) || *s++ != ':' || !read_number(&s, 1000, &tm->tm_min))
		return DTERR_BAD_FORMAT;
	if (*s == ':')
	{
		s++;
		if (!read_number(&s, 1000, &tm->tm_sec))
			return DTERR_BAD_FORMAT;
		if (*s == '.')
		{
			char	   *end;
			double		fraction = strtod(s, &end);

			if (end == s)
				return DTERR_BAD_FORMAT;
			*fsec = (fsec_t) rint(fraction * 1000000);
			s = end;
		}
	}
	if (*s != '\0')
		return DTERR_BAD_FORMAT;
	if (tm->tm_hour > 24 || tm->tm_min > 59 || tm->tm_sec > 60 ||
		(tm->tm_hour == 24 && (tm->tm_min > 0 || tm->tm_sec > 0 || *fsec > 0)))
		return DTERR_FIELD_OVERFLOW;
	return 0;
}

static int
read_zone(const char *s, int *zone)
{
	bool		west = *s++ == '-';
	int			hour;
	int			minute = 0;

	if (strlen(s) == 4 && strspn(s, "0123456789") == 4)
		sscanf(s, "%2d%2d", &hour, &minute);
	else
	{
		if (!read_number(&s, 1000, &hour))
			return DTERR_BAD_FORMAT;
		if (*s == ':')
		{
			s++;
			if (!read_number(&s, 1000, &minute))
				return DTERR_BAD_FORMAT;
		}
		if (*s != '\0')
			return DTERR_BAD_FORMAT;
	}
	if (hour > MAX_TZDISP_HOUR || minute > 59)
		return DTERR_TZDISP_OVERFLOW;
	*zone = (hour * 60 + minute) * 60;
	if (!west)
		*zone = -*zone;
	return 0;
}

static int
check_date(struct pg_tm *tm, bool bc)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (tm->tm_year < 1)
		return DTERR_FIELD_OVERFLOW;
	if (bc)
		tm->tm_year = 1 - tm->tm_year;
	if (tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_mday < 1 || tm->tm_mday > 31)
		return DTERR_MD_FIELD_OVERFLOW;
	if (tm->tm_mday > lengths[tm->tm_mon - 1] + (tm->tm_mon == 2 && isleap(tm->tm_year)))
		return DTERR_FIELD_OVERFLOW;
	return 0;
}

int
DecodeDateTime(char **field, int *ftype, int nf, int *dtype, struct pg_tm *tm, fsec_t *fsec, int *tzp)
{
	bool		date = false;
	bool		time = false;
	bool		zone = false;
	bool		bc = false;
	int			error = 0;
	int			i;

	/* the zone of the session must be UTC while this runs */
	if (session_timezone != &shim_utc)
		abort();
	/* what looks up a zone allocates, and may fail to */
	pfree(palloc(1));

	memset(tm, 0, sizeof(*tm));
	*fsec = 0;
	*dtype = DTK_DATE;
	*tzp = 0;
	for (i = 0; i < nf && error == 0; i++)
	{
		const char *s = field[i];

		switch (ftype[i])
		{
			case DTK_DATE:
				if (isalpha((unsigned char) *s))
					ereport(ERROR,
							(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							 errmsg("time zone \"%s\" not recognized", s)));
				/* FALLTHROUGH */
			case DTK_NUMBER:
				error = date ? DTERR_BAD_FORMAT : read_date(s, tm);
				date = true;
				break;
			case DTK_TIME:
				error = time ? DTERR_BAD_FORMAT : read_time(s, tm, fsec);
				time = true;
				break;
			case DTK_TZ:
				error = zone ? DTERR_BAD_FORMAT : read_zone(s, tzp);
				zone = true;
				break;
			case DTK_SPECIAL:
			case DTK_STRING:
				if (strcmp(s, "bc") == 0)
					bc = true;
				else if (strcmp(s, "z") == 0 || strcmp(s, "utc") == 0)
					zone = true;
				else if (strcmp(s, "t") == 0 || strcmp(s, "ad") == 0)
					;
				else if (nf > 1)
					error = DTERR_BAD_FORMAT;
				else if (strcmp(s, "infinity") == 0 || strcmp(s, "+infinity") == 0)
					*dtype = DTK_LATE;
				else if (strcmp(s, "-infinity") == 0)
					*dtype = DTK_EARLY;
				else if (strcmp(s, "epoch") == 0)
					*dtype = DTK_EPOCH;
				else
					error = DTERR_BAD_FORMAT;
				break;
			default:
				abort();
		}
	}
	if (error != 0)
		return error;
	if (*dtype != DTK_DATE)
		return 0;
	if (!date)
		return time ? 1 : DTERR_BAD_FORMAT;
	return check_date(tm, bc);
}

/* ---- writing ---- */

char *
JsonEncodeDateTime(char *buf, Datum value, Oid typid, const int *tzp)
{
	int64		days;
	int64		time = 0;
	int			year;
	int			month;
	int			day;
	int			n;

	if (typid == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_NOT_FINITE(date))
		{
			strlcpy(buf, DATE_IS_NOBEGIN(date) ? "-infinity" : "infinity", MAXDATELEN + 1);
			return buf;
		}
		days = date;
	}
	else
	{
		Timestamp	t = DatumGetTimestamp(value);

		if (TIMESTAMP_NOT_FINITE(t))
		{
			strlcpy(buf, TIMESTAMP_IS_NOBEGIN(t) ? "-infinity" : "infinity", MAXDATELEN + 1);
			return buf;
		}
		days = (t >= 0 ? t : t - (USECS_PER_DAY - 1)) / USECS_PER_DAY;
		time = t - days * USECS_PER_DAY;
	}
	from_julian(days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	n = pg_snprintf(buf, MAXDATELEN + 1, "%04d-%02d-%02d", year > 0 ? year : 1 - year, month, day);
	if (typid != DATEOID)
	{
		n += pg_snprintf(buf + n, MAXDATELEN + 1 - n, "T%02d:%02d:%02d", (int) (time / USECS_PER_HOUR),
						 (int) (time / USECS_PER_MINUTE % 60), (int) (time / USECS_PER_SEC % 60));
		if (time % USECS_PER_SEC != 0)
			n += pg_snprintf(buf + n, MAXDATELEN + 1 - n, ".%06d", (int) (time % USECS_PER_SEC));
	}
	if (typid == TIMESTAMPTZOID)
		n += pg_snprintf(buf + n, MAXDATELEN + 1 - n, "+00:00");
	if (year <= 0)
		pg_snprintf(buf + n, MAXDATELEN + 1 - n, " BC");
	return buf;
}

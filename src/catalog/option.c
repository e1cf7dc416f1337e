/*-------------------------------------------------------------------------
 *
 * option.c
 *	  Options of a pipeline that are stored as texts, and what they mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/catalog.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#define MIN_STATE_MEMORY	(INT64CONST(1024) * 1024)
/* so that no sum of times overflows */
#define MAX_INTERVAL		(36500 * USECS_PER_DAY)

static const char *const late_names[] = {
	[LATE_DIVERT] = "divert",
	[LATE_DROP] = "drop",
	[LATE_UPDATE] = "update"
};

static bool
interval_us(const Interval *interval, int64 *us)
{
	return interval->month == 0 &&
		!pg_mul_s64_overflow(interval->day, USECS_PER_DAY, us) &&
		!pg_add_s64_overflow(*us, interval->time, us) &&
		*us <= MAX_INTERVAL;
}

int64
catalog_check_interval(const char *argument, const Interval *interval, int64 min_us)
{
	int64		us;

	if (!interval_us(interval, &us))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"%s\"", argument),
				 errhint("Use an interval without months, of at most 36500 days.")));
	if (us < min_us)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 min_us > 0 ? errmsg("\"%s\" must be greater than 0", argument) :
				 errmsg("\"%s\" must not be negative", argument)));
	return us;
}

/* The input function of interval would raise an error of its own. */
static bool
parse_interval(const char *text, Interval *interval)
{
	char		buffer[256];
	char		work[256];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nfields;
	int			dtype;
	struct pg_itm_in itm = {0};
	int			error;

	if (strlcpy(buffer, text, sizeof(buffer)) >= sizeof(buffer))
		return false;
	error = ParseDateTime(buffer, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nfields);
	if (error == 0)
		error = DecodeInterval(field, ftype, nfields, INTERVAL_FULL_RANGE, &dtype, &itm);
	if (error == DTERR_BAD_FORMAT)
		error = DecodeISO8601Interval(buffer, &dtype, &itm);
	return error == 0 && dtype == DTK_DELTA && itmin2interval(&itm, interval) == 0;
}

EmitKind
catalog_parse_emit(const char *text, int64 *period_us)
{
	Interval	interval;

	*period_us = 0;
	if (text == NULL)
		return EMIT_DEFAULT;
	if (strcmp(text, "final") == 0)
		return EMIT_FINAL;
	if (strcmp(text, "changes") == 0)
		return EMIT_CHANGES;
	if (strncmp(text, "every", 5) == 0 && isspace((unsigned char) text[5]) && parse_interval(text + 6, &interval) &&
		interval_us(&interval, period_us) && *period_us > 0)
		return EMIT_EVERY;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\": \"%s\"", "emit", text),
			 errhint("Use final, changes, or every with an interval above 0 and without months: every 5 s.")));
	return EMIT_DEFAULT;		/* keep compiler quiet */
}

LateKind
catalog_parse_late(const char *text)
{
	int			i;

	for (i = 0; i < (int) lengthof(late_names); i++)
		if (strcmp(text, late_names[i]) == 0)
			return (LateKind) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"%s\": \"%s\"", "late", text),
			 errhint("Use divert, drop or update.")));
	return LATE_DIVERT;			/* keep compiler quiet */
}

const char *
catalog_late_name(LateKind late)
{
	return late_names[late];
}

int64
catalog_parse_state_memory(const char *text)
{
	int64		bytes = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, CStringGetTextDatum(text)));

	if (bytes < MIN_STATE_MEMORY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for \"%s\": \"%s\"", "state_memory", text),
				 errhint("Use at least 1MB.")));
	return bytes;
}

/*-------------------------------------------------------------------------
 *
 * start.c
 *	  Reads the option "start" of a pipeline: earliest, latest, a timestamp,
 *	  or a JSON object of next offsets per partition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "worker/start.h"

static void
bad_start(const char *text)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for \"start\": \"%s\"", text),
			 errhint("Use earliest, latest, a timestamp such as '2026-01-31 12:00:00+00', or next offsets such as '{\"0\": 42, \"1\": 17}'.")));
}

static void
parse_offsets(const char *text, StartOption *start)
{
	Datum		datum = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
	Jsonb	   *jsonb = DatumGetJsonbP(datum);
	JsonbIterator *it;
	JsonbValue	v;
	JsonbIteratorToken token;
	int			max = JB_ROOT_COUNT(jsonb);

	if (!JB_ROOT_IS_OBJECT(jsonb) || max == 0)
		bad_start(text);
	start->kind = START_OFFSETS;
	start->partitions = palloc(sizeof(int32) * max);
	start->offsets = palloc(sizeof(int64) * max);
	it = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *key = pnstrdup(v.val.string.val, v.val.string.len);
			char	   *end;
			long		partition;

			errno = 0;
			partition = strtol(key, &end, 10);
			if (errno != 0 || *key == '\0' || *end != '\0' || partition < 0 || partition > PG_INT32_MAX)
				bad_start(text);
			start->partitions[start->n] = (int32) partition;
		}
		else if (token == WJB_VALUE)
		{
			if (v.type != jbvNumeric)
				bad_start(text);
			start->offsets[start->n] =
				DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v.val.numeric)));
			if (start->offsets[start->n] < 0)
				bad_start(text);
			start->n++;
		}
	}
}

void
start_option_parse(const char *text, StartOption *start)
{
	const char *p = text;

	memset(start, 0, sizeof(StartOption));
	while (*p == ' ')
		p++;
	if (pg_strcasecmp(p, "earliest") == 0)
		start->kind = START_EARLIEST;
	else if (pg_strcasecmp(p, "latest") == 0)
		start->kind = START_LATEST;
	else if (*p == '{')
		parse_offsets(p, start);
	else if (*p >= '0' && *p <= '9')
	{
		TimestampTz at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(p),
																 ObjectIdGetDatum(InvalidOid),
																 Int32GetDatum(-1)));

		start->kind = START_TIMESTAMP;
		start->timestamp_ms = at / 1000 +
			((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * SECS_PER_DAY * 1000;
	}
	else
		bad_start(text);
}

int64
start_option_offset(const StartOption *start, int32 partition)
{
	int			i;

	for (i = 0; i < start->n; i++)
		if (start->partitions[i] == partition)
			return start->offsets[i];
	return -1;
}

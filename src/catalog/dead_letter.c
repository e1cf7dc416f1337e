/*-------------------------------------------------------------------------
 *
 * dead_letter.c
 *	  Rows of streamproc.stored_dead_letter: messages that could not be
 *	  processed, as they came, and rows of results that no sink took.
 *
 * A row is stored in the transaction whose position passes the message, and
 * deleted in the one that stores the message's results after all: so each
 * message is in the results or here, and never in both.
 *
 * Ids rise in the order of storing and the primary key is (pipeline, id), so
 * that retry_dead_letters() is a range of ids.  A message that fails again
 * gets a new id, behind that range.
 *
 * A row of results (kind 'output') is what many messages came to: nothing
 * would come of running it again, so whatever is for retrying passes over it,
 * and over messages that a topic did not take (kind 'unsent').
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

enum LetterColumn
{
	COL_PIPELINE = 1,
	COL_ID,
	COL_STATEMENT,
	COL_KIND,
	COL_TOPIC,
	COL_PARTITION,
	COL_OFFSET,
	COL_TIMESTAMP,
	COL_KEY,
	COL_VALUE,
	COL_HEADERS,
	COL_ROW,
	COL_SQLSTATE,
	COL_MESSAGE,
	COL_DETAIL,
	COL_ATTEMPTS,
	COL_AT
};
#define LETTER_NATTS COL_AT

/* A timestamp that PostgreSQL cannot hold becomes infinite, and stays wrong. */
static TimestampTz
time_of_message(int64 ms)
{
	if (ms < MIN_TIMESTAMP / 1000 + KAFKA_EPOCH_MS)
		return DT_NOBEGIN;
	if (ms >= END_TIMESTAMP / 1000 + KAFKA_EPOCH_MS)
		return DT_NOEND;
	return (ms - KAFKA_EPOCH_MS) * 1000;
}

static int64
message_of_time(TimestampTz time)
{
	if (TIMESTAMP_IS_NOBEGIN(time))
		return PG_INT64_MIN;
	if (TIMESTAMP_IS_NOEND(time))
		return PG_INT64_MAX;
	return time / 1000 + KAFKA_EPOCH_MS;
}

static void
put_bytes(Datum *values, bool *isnull, int col, const char *bytes, Size len)
{
	isnull[col - 1] = bytes == NULL;
	if (bytes != NULL)
		values[col - 1] = catalog_bytea(bytes, len);
}

static void
put_text(Datum *values, bool *isnull, int col, const char *text)
{
	isnull[col - 1] = text == NULL || text[0] == '\0';
	if (!isnull[col - 1])
		values[col - 1] = CStringGetTextDatum(text);
}

void
catalog_dead_letter_insert(const char *pipeline, DeadLetter *letter)
{
	Relation	rel = catalog_open("stored_dead_letter", LETTER_NATTS, RowExclusiveLock);
	Datum		values[LETTER_NATTS] = {0};
	bool		isnull[LETTER_NATTS] = {0};
	bool		output = letter->output_row != NULL;
	NameData	name;

	letter->id = nextval_internal(catalog_relation("stored_id"), false);
	namestrcpy(&name, pipeline);
	values[COL_PIPELINE - 1] = NameGetDatum(&name);
	values[COL_ID - 1] = Int64GetDatum(letter->id);
	values[COL_STATEMENT - 1] = Int32GetDatum(letter->statement);
	isnull[COL_STATEMENT - 1] = letter->statement == 0;
	put_text(values, isnull, COL_KIND, letter->unsent ? "unsent" : output ? "output" : "input");
	put_text(values, isnull, COL_TOPIC, letter->topic);
	isnull[COL_PARTITION - 1] = isnull[COL_OFFSET - 1] = output && isnull[COL_TOPIC - 1];
	if (letter->unsent)
	{
		isnull[COL_PARTITION - 1] = letter->partition < 0;
		isnull[COL_OFFSET - 1] = true;
	}
	values[COL_PARTITION - 1] = Int32GetDatum(letter->partition);
	values[COL_OFFSET - 1] = Int64GetDatum(letter->offset);
	values[COL_TIMESTAMP - 1] = TimestampTzGetDatum(time_of_message(letter->timestamp_ms));
	isnull[COL_TIMESTAMP - 1] = letter->timestamp_ms == -1;
	put_bytes(values, isnull, COL_KEY, letter->key, letter->key_len);
	put_bytes(values, isnull, COL_VALUE, letter->value, letter->value_len);
	put_text(values, isnull, COL_HEADERS, letter->headers);
	isnull[COL_ROW - 1] = !output;
	if (output)
		values[COL_ROW - 1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(letter->output_row));
	put_text(values, isnull, COL_SQLSTATE, unpack_sql_state(letter->sqlstate));
	values[COL_MESSAGE - 1] = CStringGetTextDatum(letter->message);
	put_text(values, isnull, COL_DETAIL, letter->detail);
	values[COL_ATTEMPTS - 1] = Int32GetDatum(letter->attempts);
	values[COL_AT - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, isnull));
	table_close(rel, NoLock);
}

static const char *
get_bytes(Datum datum, bool isnull, Size *len)
{
	bytea	   *bytes;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPCopy(datum);
	*len = VARSIZE(bytes) - VARHDRSZ;
	return VARDATA(bytes);
}

static DeadLetter *
letter_from_tuple(Relation rel, HeapTuple tuple)
{
	DeadLetter *letter = palloc0(sizeof(DeadLetter));
	Datum		values[LETTER_NATTS];
	bool		isnull[LETTER_NATTS];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	letter->id = DatumGetInt64(values[COL_ID - 1]);
	letter->topic = TextDatumGetCString(values[COL_TOPIC - 1]);
	letter->partition = DatumGetInt32(values[COL_PARTITION - 1]);
	letter->offset = DatumGetInt64(values[COL_OFFSET - 1]);
	letter->timestamp_ms = isnull[COL_TIMESTAMP - 1] ? -1 : message_of_time(DatumGetTimestampTz(values[COL_TIMESTAMP - 1]));
	letter->key = get_bytes(values[COL_KEY - 1], isnull[COL_KEY - 1], &letter->key_len);
	letter->value = get_bytes(values[COL_VALUE - 1], isnull[COL_VALUE - 1], &letter->value_len);
	letter->headers = isnull[COL_HEADERS - 1] ? NULL : TextDatumGetCString(values[COL_HEADERS - 1]);
	letter->attempts = DatumGetInt32(values[COL_ATTEMPTS - 1]);
	return letter;
}

/* A walk over the letters of a pipeline with ids after "after" and up to "until", in their order. */
static void
scan_begin(CatalogScan *scan, const char *pipeline, int64 after, int64 until, LOCKMODE lockmode)
{
	ScanKeyInit(&scan->keys[1], COL_ID, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&scan->keys[2], COL_ID, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(until));
	catalog_scan_begin(scan, "stored_dead_letter", LETTER_NATTS, pipeline, 3, lockmode);
}

/* the next one that can run again */
static HeapTuple
scan_next_input(CatalogScan *scan)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = catalog_scan_next(scan)))
	{
		bool		isnull;
		Datum		kind = heap_getattr(tuple, COL_KIND, RelationGetDescr(scan->rel), &isnull);

		if (!isnull && strcmp(TextDatumGetCString(kind), "input") == 0)
			break;
	}
	return tuple;
}

List *
catalog_dead_letters(const char *pipeline, int64 after, int64 until, int max, Size max_bytes)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	List	   *letters = NIL;
	Size		bytes = 0;

	scan_begin(&scan, pipeline, after, until, AccessShareLock);
	while (list_length(letters) < max && bytes < max_bytes && HeapTupleIsValid(tuple = scan_next_input(&scan)))
	{
		DeadLetter *letter = letter_from_tuple(scan.rel, tuple);

		bytes += letter->key_len + letter->value_len;
		letters = lappend(letters, letter);
	}
	catalog_scan_end(&scan);
	return letters;
}

void
catalog_dead_letter_delete(const char *pipeline, int64 id)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	TM_FailureData tmfd;

	scan_begin(&scan, pipeline, id - 1, id, RowExclusiveLock);
	tuple = catalog_scan_next(&scan);
	if (!HeapTupleIsValid(tuple) ||
		heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("dead letter " INT64_FORMAT " of pipeline \"%s\" was deleted by somebody else", id, pipeline)));
	catalog_scan_end(&scan);
}

int64
catalog_dead_letters_delete(const char *pipeline, TimestampTz before)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	int64		n = 0;

	scan_begin(&scan, pipeline, 0, PG_INT64_MAX, RowExclusiveLock);
	while (HeapTupleIsValid(tuple = catalog_scan_next(&scan)))
	{
		bool		isnull;
		TimestampTz at = DatumGetTimestampTz(heap_getattr(tuple, COL_AT, RelationGetDescr(scan.rel), &isnull));
		TM_FailureData tmfd;

		if (at >= before)
			continue;
		/* one that runs again at this moment is gone, or has come back with a later time */
		if (heap_delete(scan.rel, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &tmfd, false) == TM_Ok)
			n++;
	}
	catalog_scan_end(&scan);
	CommandCounterIncrement();
	return n;
}

int64
catalog_dead_letters_count(const char *pipeline, int64 *last_id)
{
	CatalogScan	scan;
	HeapTuple	tuple;
	int64		n = 0;

	*last_id = 0;
	scan_begin(&scan, pipeline, 0, PG_INT64_MAX, AccessShareLock);
	while (HeapTupleIsValid(tuple = scan_next_input(&scan)))
	{
		bool		isnull;

		*last_id = DatumGetInt64(heap_getattr(tuple, COL_ID, RelationGetDescr(scan.rel), &isnull));
		n++;
	}
	catalog_scan_end(&scan);
	return n;
}

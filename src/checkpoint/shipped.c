/*-------------------------------------------------------------------------
 *
 * shipped.c
 *	  What a task of a keyed pipeline wants to have written: dead letters and
 *	  late rows.  The launcher writes them, in the transaction that makes the
 *	  epoch count.
 *
 * A message: uint32 length of what follows, uint32 kind, the fields.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/barrier.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

static int
begin_message(StringInfo into, ShippedKind kind)
{
	uint32		header[2] = {0, (uint32) kind};
	int			at = into->len;

	appendBinaryStringInfo(into, (const char *) header, sizeof(header));
	return at;
}

static void
end_message(StringInfo into, int at)
{
	uint32		len;

	/* numbers in the messages may stand anywhere, but headers are aligned */
	while (into->len % 8 != 0)
		appendStringInfoChar(into, '\0');
	len = (uint32) (into->len - at);
	memcpy(into->data + at, &len, sizeof(len));
}

static void
put_int(StringInfo into, int64 value)
{
	appendBinaryStringInfo(into, (const char *) &value, sizeof(value));
}

static void
put_bytes(StringInfo into, const char *bytes, Size len)
{
	put_int(into, bytes != NULL ? (int64) len : -1);
	if (bytes != NULL)
	{
		appendBinaryStringInfo(into, bytes, (int) len);
		appendStringInfoChar(into, '\0');
	}
}

static void
put_text(StringInfo into, const char *text)
{
	put_bytes(into, text, text != NULL ? strlen(text) : 0);
}

static int64
get_int(const char **p)
{
	int64		value;

	memcpy(&value, *p, sizeof(value));
	*p += sizeof(value);
	return value;
}

static const char *
get_bytes(const char **p, Size *len)
{
	int64		n = get_int(p);
	const char *bytes = *p;

	if (len != NULL)
		*len = n < 0 ? 0 : (Size) n;
	if (n < 0)
		return NULL;
	*p += n + 1;
	return bytes;
}

void
shipped_letter(StringInfo into, const DeadLetter *letter)
{
	int			at = begin_message(into, SHIPPED_LETTER);

	put_int(into, letter->statement);
	put_text(into, letter->topic);
	put_int(into, letter->partition);
	put_int(into, letter->offset);
	put_int(into, letter->timestamp_ms);
	put_bytes(into, letter->key, letter->key_len);
	put_bytes(into, letter->value, letter->value_len);
	put_text(into, letter->headers);
	put_int(into, letter->attempts);
	put_int(into, letter->sqlstate);
	put_text(into, letter->message);
	put_text(into, letter->detail);
	put_text(into, letter->output_row);
	end_message(into, at);
}

void
shipped_letter_done(StringInfo into, int64 id)
{
	int			at = begin_message(into, SHIPPED_LETTER_DONE);

	put_int(into, id);
	end_message(into, at);
}

/* "json": the row's text, instead of row->row */
void
shipped_late_row(StringInfo into, const LateRow *row, const char *json)
{
	int			at = begin_message(into, SHIPPED_LATE_ROW);

	put_int(into, row->operator);
	put_text(into, row->topic);
	put_int(into, row->partition);
	put_int(into, row->offset);
	put_int(into, row->event_time);
	put_int(into, row->watermark);
	put_int(into, row->window_start);
	put_int(into, row->window_end);
	put_text(into, json);
	end_message(into, at);
}

static void
write_message(const char *pipeline, ShippedKind kind, const char *p)
{
	switch (kind)
	{
		case SHIPPED_LETTER:
			{
				DeadLetter	letter = {0};

				letter.statement = (int) get_int(&p);
				letter.topic = get_bytes(&p, NULL);
				letter.partition = (int32) get_int(&p);
				letter.offset = get_int(&p);
				letter.timestamp_ms = get_int(&p);
				letter.key = get_bytes(&p, &letter.key_len);
				letter.value = get_bytes(&p, &letter.value_len);
				letter.headers = get_bytes(&p, NULL);
				letter.attempts = (int) get_int(&p);
				letter.sqlstate = (int) get_int(&p);
				letter.message = get_bytes(&p, NULL);
				letter.detail = get_bytes(&p, NULL);
				letter.output_row = get_bytes(&p, NULL);
				catalog_dead_letter_insert(pipeline, &letter);
				break;
			}
		case SHIPPED_LETTER_DONE:
			catalog_dead_letter_delete(pipeline, get_int(&p));
			break;
		case SHIPPED_LATE_ROW:
			{
				LateRow		row = {0};
				const char *json;

				row.operator = (int) get_int(&p);
				row.topic = get_bytes(&p, NULL);
				row.partition = (int32) get_int(&p);
				row.offset = get_int(&p);
				row.event_time = get_int(&p);
				row.watermark = get_int(&p);
				row.window_start = get_int(&p);
				row.window_end = get_int(&p);
				json = get_bytes(&p, NULL);
				if (json != NULL)
					row.row = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
				catalog_late_row_insert(pipeline, &row);
				break;
			}
	}
}

void
shipped_write(StateArea *area, const char *pipeline, const BarrierLog *log)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc shipped", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	dsa_pointer p;

	for (p = log->first; DsaPointerIsValid(p);)
	{
		BarrierBlock *block = dsa_get_address(area->dsa, p);
		uint32		at = 0;

		while (at < block->used)
		{
			uint32		len;
			uint32		kind;

			CHECK_FOR_INTERRUPTS();
			memcpy(&len, block->bytes + at, sizeof(len));
			memcpy(&kind, block->bytes + at + sizeof(len), sizeof(kind));
			write_message(pipeline, (ShippedKind) kind, block->bytes + at + 2 * sizeof(uint32));
			MemoryContextReset(cxt);
			at += len;
		}
		p = block->next;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

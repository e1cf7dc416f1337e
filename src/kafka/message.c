/*-------------------------------------------------------------------------
 *
 * message.c
 *	  What is asked of a message only where a column wants it: timestamp and
 *	  headers (the library parses headers on the first question).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "kafka/kafka_int.h"
#include "mb/pg_wchar.h"
#include "utils/json.h"
#include "utils/memutils.h"

int64
kafka_message_timestamp(const KafkaMessage *message)
{
	rd_kafka_timestamp_type_t type;
	int64		timestamp;

	if (unlikely(message->handle == NULL))
		return message->kept->timestamp_ms;
	timestamp = rd_kafka_message_timestamp(((KafkaSlot *) message->handle)->message, &type);
	return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : timestamp;
}

/*
 * Bytes as a JSON string: text where they are valid UTF-8, else \x and
 * hexadecimal digits as PostgreSQL writes bytea.
 */
static void
append_bytes(StringInfo out, const char *bytes, Size len)
{
	if (len < MaxAllocSize / 8 && pg_verify_mbstr(PG_UTF8, bytes, len, true))
	{
		char	   *text = pnstrdup(bytes, len);
		char	   *converted = pg_any_to_server(text, len, PG_UTF8);

		escape_json(out, converted);
		if (converted != text)
			pfree(converted);
		pfree(text);
	}
	else
	{
		static const char digits[] = "0123456789abcdef";

		appendStringInfoString(out, "\"\\\\x");
		for (Size i = 0; i < len; i++)
		{
			appendStringInfoCharMacro(out, digits[(unsigned char) bytes[i] >> 4]);
			appendStringInfoCharMacro(out, digits[bytes[i] & 0xf]);
		}
		appendStringInfoChar(out, '"');
	}
}

static void
append_header(StringInfo out, bool first, const char *name, const char *value, Size len)
{
	if (!first)
		appendStringInfoString(out, ", ");
	append_bytes(out, name, strlen(name));
	appendStringInfoString(out, ": ");
	if (value == NULL)
		appendStringInfoString(out, "null");
	else
		append_bytes(out, value, len);
}

bool
kafka_message_headers(const KafkaMessage *message, StringInfo out)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		size;

	if (unlikely(message->handle == NULL))
	{
		if (message->kept->headers != NULL)
			appendStringInfoString(out, message->kept->headers);
		return message->kept->headers != NULL;
	}
	if (rd_kafka_message_headers(((KafkaSlot *) message->handle)->message, &headers) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;

	appendStringInfoChar(out, '{');
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		append_header(out, i == 0, name, value, size);
	appendStringInfoChar(out, '}');
	return true;
}

char *
kafka_headers_json(const KafkaHeader *headers, int n)
{
	StringInfoData out;

	if (n == 0)
		return NULL;
	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; i < n; i++)
		append_header(&out, i == 0, headers[i].name, headers[i].value, headers[i].value_len);
	appendStringInfoChar(&out, '}');
	return out.data;
}

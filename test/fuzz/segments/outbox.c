/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  A segment of the outbox, as the publisher reads it.
 *
 * What the row of the table says, how many messages there are, comes first in an
 * input: four bytes in front of the segment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "stream/stream.h"
#include "utils/memutils.h"

#include "segments.h"

#define ROW_BYTES		sizeof(int32)
#define MOST_HEADERS	3

static void
touch_message(const StreamMessage *message)
{
	int			i;

	touch(message->topic, strlen(message->topic));
	if (message->key != NULL)
		touch(message->key, message->key_len);
	if (message->value != NULL)
		touch(message->value, message->value_len);
	for (i = 0; i < message->nheaders; i++)
	{
		touch(message->headers[i].name, strlen(message->headers[i].name));
		if (message->headers[i].value != NULL)
			touch(message->headers[i].value, message->headers[i].value_len);
	}
}

static bool
same_bytes(const char *a, Size a_len, const char *b, Size b_len)
{
	return (a == NULL) == (b == NULL) && (a == NULL || (a_len == b_len && memcmp(a, b, a_len) == 0));
}

static void
compare(const StreamMessage *a, const StreamMessage *b)
{
	bool		same = strcmp(a->topic, b->topic) == 0 && Max(a->partition, -1) == Max(b->partition, -1) && a->timestamp_ms == b->timestamp_ms &&
		same_bytes(a->key, a->key_len, b->key, b->key_len) && same_bytes(a->value, a->value_len, b->value, b->value_len) &&
		a->nheaders == b->nheaders;
	int			i;

	for (i = 0; i < a->nheaders && same; i++)
		same = strcmp(a->headers[i].name, b->headers[i].name) == 0 &&
			same_bytes(a->headers[i].value, a->headers[i].value_len, b->headers[i].value, b->headers[i].value_len);
	if (!same)
		fuzz_finding("a message that was read and written is another one");
}

/* ---- reading ---- */

static OutboxSegment *made;

static void
take_segment(const char *data, Size len, int nmessages, bool last, void *arg)
{
	made = palloc0(sizeof(OutboxSegment));
	made->data = memcpy(palloc(len), data, len);
	made->len = len;
	made->nmessages = nmessages;
}

bool
outbox_input(const char *data, Size len)
{
	OutboxSegment segment = {.stream = 1,.number = 2,.data = data + ROW_BYTES,.len = len - ROW_BYTES};
	StreamOutbox *outbox = stream_outbox_create(CurrentMemoryContext);
	StreamOutboxReader reader;
	StreamOutboxReader again;
	StreamMessage message;
	int			n = 0;

	if (len < ROW_BYTES)
		return false;
	memcpy(&segment.nmessages, data, ROW_BYTES);
	stream_outbox_read(&reader, &segment);
	while (stream_outbox_next(&reader, &message))
	{
		touch_message(&message);
		stream_outbox_put(outbox, &message);
		n++;
	}
	if (n != segment.nmessages)
		fuzz_finding("%d messages were read of %d", n, segment.nmessages);
	if (n == 0)
		return true;
	/* what is written of them is read as the same; marked in the bytes or not */
	stream_outbox_pack(outbox, len * 2 + 100000, true, take_segment, NULL);
	stream_outbox_read(&reader, &segment);
	stream_outbox_read(&again, made);
	while (n-- > 0)
	{
		StreamMessage copy;

		if (!stream_outbox_next(&reader, &message) || !stream_outbox_next(&again, &copy))
			fuzz_finding("messages that were written are not there");
		compare(&message, &copy);
		stream_outbox_withdraw(&reader);
		stream_outbox_withdraw(&again);
	}
	stream_outbox_read(&again, made);
	if (!stream_outbox_next(&again, &message) || !message.withdrawn)
		fuzz_finding("a message that was withdrawn is not");
	return true;
}

/* ---- making ---- */

static const char *
some_bytes(Random *random, Size *len)
{
	*len = random_below(random, random_below(random, 16) == 0 ? 2000 : 20);
	return memset(palloc(*len + 1), 'a' + random_below(random, 26), *len);
}

void
outbox_make(Random *random, FuzzBuffer *out)
{
	static const char *const topics[] = {"a", "orders", "a.very.long.name.of.a.topic.that.nobody.would.like.to.type", "b"};
	StreamOutbox *outbox = stream_outbox_create(CurrentMemoryContext);
	int			n = 1 + random_below(random, 6);

	while (n-- > 0)
	{
		StreamMessage message = {.topic = topics[random_below(random, lengthof(topics))],.partition = -1};
		KafkaHeader headers[MOST_HEADERS];

		if (random_below(random, 2) == 0)
			message.partition = random_below(random, 10);
		if (random_below(random, 2) == 0)
			message.timestamp_ms = random_next(random) % 2000000000000;
		if (random_below(random, 2) == 0)
			message.key = some_bytes(random, &message.key_len);
		if (random_below(random, 8) != 0)
			message.value = some_bytes(random, &message.value_len);
		if (random_below(random, 2) == 0)
		{
			message.nheaders = random_below(random, MOST_HEADERS) + 1;
			message.headers = headers;
			for (int i = 0; i < message.nheaders; i++)
			{
				headers[i] = (KafkaHeader) {.name = i == 0 ? "" : "name"};
				if (random_below(random, 4) != 0)
					headers[i].value = some_bytes(random, &headers[i].value_len);
			}
		}
		stream_outbox_put(outbox, &message);
	}
	stream_outbox_pack(outbox, 1024 * 1024, true, take_segment, NULL);
	buffer_append(out, (const char *) &made->nmessages, ROW_BYTES);
	buffer_append(out, made->data, made->len);
}

/* As many messages as there are in it, as long as they are. */
void
outbox_whole(Random *random, FuzzBuffer *segment)
{
	char	   *p = segment->data + ROW_BYTES + 2;
	char	   *end = segment->data + segment->len;
	int			topics;
	int32		n = 0;

	if (segment->len < ROW_BYTES + 2)
		return;
	segment->data[ROW_BYTES] = 1;
	for (topics = (uint8) segment->data[ROW_BYTES + 1]; topics > 0 && p < end; topics--)
		p += 1 + Min((uint8) *p, end - p - 1);
	while (end - p >= sizeof(uint32))
	{
		uint32		len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len);
		if (len > end - p)
		{
			len = (uint32) (end - p);
			memcpy(p - sizeof(len), &len, sizeof(len));
		}
		p += len;
		n++;
	}
	segment->len = p - segment->data;
	memcpy(segment->data, &n, ROW_BYTES);
}

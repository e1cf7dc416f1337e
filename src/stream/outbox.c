/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Messages that wait for a commit: a buffer that INSERTs into topics fill
 *	  while a pipeline's worker runs statements, and the form in which they are
 *	  stored.
 *
 * The buffer is memory of one transaction: it can be cut back to a mark when a
 * piece of the transaction is taken back, and is emptied into segments before
 * the commit (checkpoint/outbox.c).  A segment stands for itself: it names its
 * topics, so that it can be sent whatever becomes of the foreign tables.
 *
 *	  segment	version (1 byte), number of topics (1), for each: length (1), name;
 *				then messages
 *	  message	length of what follows (4), flags (1), topic (1),
 *				partition (4) and timestamp in ms (8) where flags say so,
 *				key: length (4), bytes, value: the same,
 *				headers: number (2), for each: length of the name (2), name,
 *				length of the value (4, all ones: null), value
 *
 * Numbers are in the order of bytes of the machine, as everything else in a
 * data directory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "stream/stream.h"
#include "utils/memutils.h"

#define SEGMENT_VERSION		1
#define MAX_TOPICS			255
#define NULL_LENGTH			PG_UINT32_MAX
/* results of one batch: more of them are a mistake of the query */
#define MAX_BYTES			((Size) 512 * 1024 * 1024)

#define HAS_PARTITION	0x01
#define HAS_TIMESTAMP	0x02
#define HAS_KEY			0x04
#define HAS_VALUE		0x08
#define HAS_HEADERS		0x10
#define WITHDRAWN		0x20

struct StreamOutbox
{
	MemoryContext cxt;
	int			ntopics;
	char	   *topics[MAX_TOPICS];
	char	   *data;			/* messages */
	Size		size;
	Size		len;
	int64		nmessages;
	StringInfoData segment;
};

StreamOutbox *stream_outbox = NULL;
bool		stream_outbox_only = false;

/* ---- subtransactions ---- */

/* What stood in stream_outbox when a subtransaction began: a function of the user may begin and abort them. */
typedef struct SubMark
{
	SubTransactionId id;
	StreamOutbox *outbox;
	StreamOutboxMark mark;
} SubMark;

static SubMark *subs;
static int	nsubs;
static int	maxsubs;

static void
subxact_callback(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_START_SUB && stream_outbox != NULL)
	{
		if (nsubs == maxsubs)
		{
			int			n = Max(maxsubs * 2, 16);

			subs = subs == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(SubMark) * n) : repalloc(subs, sizeof(SubMark) * n);
			maxsubs = n;
		}
		subs[nsubs++] = (SubMark) {id, stream_outbox, stream_outbox_mark(stream_outbox)};
		return;
	}
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (nsubs > 0 && subs[nsubs - 1].id >= id)
	{
		SubMark    *sub = &subs[--nsubs];

		if (event == SUBXACT_EVENT_ABORT_SUB && sub->id == id && sub->outbox == stream_outbox && sub->mark.len <= stream_outbox->len)
			stream_outbox_cut(stream_outbox, sub->mark);
	}
}

/*
 * Whatever a trigger puts in here while the transaction commits comes too late:
 * the outbox was written before.  Deferred triggers have run when this is called.
 */
static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (stream_outbox != NULL && stream_outbox->len > 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot insert into a topic while the transaction commits"),
						 errhint("A deferred trigger does so: make it an immediate one.")));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			nsubs = 0;
			break;
		default:
			break;
	}
}

StreamOutbox *
stream_outbox_create(MemoryContext cxt)
{
	StreamOutbox *outbox = MemoryContextAllocZero(cxt, sizeof(StreamOutbox));
	MemoryContext old = MemoryContextSwitchTo(cxt);
	static bool registered = false;

	if (!registered)
	{
		RegisterSubXactCallback(subxact_callback, NULL);
		RegisterXactCallback(xact_callback, NULL);
		registered = true;
	}
	outbox->cxt = cxt;
	initStringInfo(&outbox->segment);
	MemoryContextSwitchTo(old);
	return outbox;
}

static void
reserve(StreamOutbox *outbox, Size more)
{
	Size		need = outbox->len + more;

	if (need <= outbox->size)
		return;
	if (need > MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("results for topics of one transaction have more than %zu MB", MAX_BYTES / 1024 / 1024),
				 errhint("Look for a join that multiplies rows.")));
	need = Max(need, Max(outbox->size * 2, 64 * 1024));
	if (outbox->data == NULL)
		outbox->data = MemoryContextAllocHuge(outbox->cxt, need);
	else
		outbox->data = repalloc_huge(outbox->data, need);
	outbox->size = need;
}

static int
topic_number(StreamOutbox *outbox, const char *topic)
{
	int			i;

	for (i = 0; i < outbox->ntopics; i++)
		if (strcmp(outbox->topics[i], topic) == 0)
			return i;
	if (i == MAX_TOPICS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a pipeline cannot write into more than %d topics", MAX_TOPICS)));
	outbox->topics[i] = MemoryContextStrdup(outbox->cxt, topic);
	outbox->ntopics++;
	return i;
}

static char *
put_bytes(char *at, const void *bytes, Size len)
{
	memcpy(at, bytes, len);
	return at + len;
}

static char *
put_counted(char *at, const char *bytes, uint32 len)
{
	at = put_bytes(at, &len, sizeof(len));
	return put_bytes(at, bytes, len);
}

void
stream_outbox_put(StreamOutbox *outbox, const StreamMessage *message)
{
	Size		len = 2;
	uint32		stored;
	uint8		flags = 0;
	uint8		topic = topic_number(outbox, message->topic);
	char	   *at;
	int			i;

	if (message->partition >= 0)
		flags |= HAS_PARTITION, len += sizeof(int32);
	if (message->timestamp_ms != 0)
		flags |= HAS_TIMESTAMP, len += sizeof(int64);
	if (message->key != NULL)
		flags |= HAS_KEY, len += sizeof(uint32) + message->key_len;
	if (message->value != NULL)
		flags |= HAS_VALUE, len += sizeof(uint32) + message->value_len;
	if (message->nheaders > 0)
	{
		flags |= HAS_HEADERS, len += sizeof(uint16);
		if (message->nheaders > PG_UINT16_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a message has %d headers", message->nheaders)));
		for (i = 0; i < message->nheaders; i++)
		{
			if (strlen(message->headers[i].name) > PG_UINT16_MAX)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("the name of a header has %zu bytes", strlen(message->headers[i].name))));
			len += sizeof(uint16) + strlen(message->headers[i].name) + sizeof(uint32) +
				(message->headers[i].value != NULL ? message->headers[i].value_len : 0);
		}
	}
	reserve(outbox, sizeof(uint32) + len);
	at = outbox->data + outbox->len;
	stored = (uint32) len;
	at = put_bytes(at, &stored, sizeof(stored));
	*at++ = (char) flags;
	*at++ = (char) topic;
	if (flags & HAS_PARTITION)
		at = put_bytes(at, &message->partition, sizeof(int32));
	if (flags & HAS_TIMESTAMP)
		at = put_bytes(at, &message->timestamp_ms, sizeof(int64));
	if (flags & HAS_KEY)
		at = put_counted(at, message->key, (uint32) message->key_len);
	if (flags & HAS_VALUE)
		at = put_counted(at, message->value, (uint32) message->value_len);
	if (flags & HAS_HEADERS)
	{
		uint16		n = (uint16) message->nheaders;

		at = put_bytes(at, &n, sizeof(n));
		for (i = 0; i < message->nheaders; i++)
		{
			const KafkaHeader *header = &message->headers[i];
			uint16		name_len = (uint16) strlen(header->name);

			at = put_bytes(at, &name_len, sizeof(name_len));
			at = put_bytes(at, header->name, name_len);
			if (header->value != NULL)
				at = put_counted(at, header->value, (uint32) header->value_len);
			else
			{
				uint32		null = NULL_LENGTH;

				at = put_bytes(at, &null, sizeof(null));
			}
		}
	}
	outbox->len += sizeof(uint32) + len;
	Assert(at == outbox->data + outbox->len);
	outbox->nmessages++;
}

Size
stream_outbox_bytes(const StreamOutbox *outbox)
{
	return outbox->len;
}

StreamOutboxMark
stream_outbox_mark(const StreamOutbox *outbox)
{
	return (StreamOutboxMark) {outbox->len, outbox->nmessages};
}

void
stream_outbox_cut(StreamOutbox *outbox, StreamOutboxMark mark)
{
	Assert(mark.len <= outbox->len);
	outbox->len = mark.len;
	outbox->nmessages = mark.nmessages;
}

static void
begin_segment(StreamOutbox *outbox)
{
	int			i;

	resetStringInfo(&outbox->segment);
	appendStringInfoChar(&outbox->segment, SEGMENT_VERSION);
	appendStringInfoChar(&outbox->segment, (char) outbox->ntopics);
	for (i = 0; i < outbox->ntopics; i++)
	{
		appendStringInfoChar(&outbox->segment, (char) strlen(outbox->topics[i]));
		appendStringInfoString(&outbox->segment, outbox->topics[i]);
	}
}

void
stream_outbox_pack(StreamOutbox *outbox, Size segment_bytes, bool all,
				   void (*each) (const char *data, Size len, int nmessages, bool last, void *arg), void *arg)
{
	char	   *at = outbox->data;
	char	   *end = outbox->data + outbox->len;
	char	   *kept = at;		/* where the present segment begins */
	int			n = 0;
	int64		packed = 0;

	begin_segment(outbox);
	while (at < end)
	{
		uint32		len;
		Size		whole;

		memcpy(&len, at, sizeof(len));
		whole = sizeof(len) + len;
		if (n > 0 && outbox->segment.len + whole > segment_bytes)
		{
			each(outbox->segment.data, outbox->segment.len, n, false, arg);
			packed += n;
			n = 0;
			kept = at;
			begin_segment(outbox);
		}
		appendBinaryStringInfo(&outbox->segment, at, whole);
		at += whole;
		n++;
	}
	if (all && n > 0)
	{
		each(outbox->segment.data, outbox->segment.len, n, true, arg);
		packed += n;
		kept = end;
	}
	outbox->len = end - kept;
	if (outbox->len > 0 && kept > outbox->data)
		memmove(outbox->data, kept, outbox->len);
	outbox->nmessages -= packed;
}

/* ---- reading ---- */

static void
damaged(const StreamOutboxReader *reader)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("messages that wait to be sent cannot be read"),
			 errdetail("Segment " INT64_FORMAT " of task %d in table streamproc.outbox is damaged, or of another version.",
					   reader->number, reader->stream)));
}

static const char *
take(StreamOutboxReader *reader, void *into, Size len)
{
	const char *at = reader->at;

	if ((Size) (reader->end - at) < len)
		damaged(reader);
	if (into != NULL)
		memcpy(into, at, len);
	reader->at += len;
	return at;
}

/* NULL: the length says so */
static const char *
take_counted(StreamOutboxReader *reader, Size *len)
{
	uint32		stored;

	(void) take(reader, &stored, sizeof(stored));
	*len = stored;
	if (stored == NULL_LENGTH)
	{
		*len = 0;
		return NULL;
	}
	return take(reader, NULL, stored);
}

void
stream_outbox_read(StreamOutboxReader *reader, const OutboxSegment *segment)
{
	uint8		version;
	uint8		ntopics;
	int			i;

	memset(reader, 0, sizeof(*reader));
	reader->stream = segment->stream;
	reader->number = segment->number;
	reader->left = segment->nmessages;
	reader->at = segment->data;
	reader->end = segment->data + segment->len;
	(void) take(reader, &version, 1);
	(void) take(reader, &ntopics, 1);
	if (version != SEGMENT_VERSION || reader->left < 0)
		damaged(reader);
	reader->ntopics = ntopics;
	for (i = 0; i < ntopics; i++)
	{
		uint8		name_len;
		const char *name;

		(void) take(reader, &name_len, 1);
		name = take(reader, NULL, name_len);
		reader->topics[i] = pnstrdup(name, name_len);
	}
}

/* Memory of names of headers is of the current context. */
bool
stream_outbox_next(StreamOutboxReader *reader, StreamMessage *message)
{
	uint32		len;
	uint8		flags;
	uint8		topic;
	const char *end;

	/* their numbers say what has been sent: there are as many as the row says */
	if ((reader->at == reader->end) != (reader->left == 0))
		damaged(reader);
	if (reader->left-- == 0)
		return false;
	memset(message, 0, sizeof(*message));
	message->partition = -1;
	(void) take(reader, &len, sizeof(len));
	if ((Size) (reader->end - reader->at) < len)
		damaged(reader);
	end = reader->at + len;
	reader->flags = take(reader, &flags, 1);
	(void) take(reader, &topic, 1);
	message->withdrawn = (flags & WITHDRAWN) != 0;
	if (topic >= reader->ntopics)
		damaged(reader);
	message->topic = reader->topics[topic];
	if (flags & HAS_PARTITION)
		(void) take(reader, &message->partition, sizeof(int32));
	if (flags & HAS_TIMESTAMP)
		(void) take(reader, &message->timestamp_ms, sizeof(int64));
	if (flags & HAS_KEY)
		message->key = take_counted(reader, &message->key_len);
	if (flags & HAS_VALUE)
		message->value = take_counted(reader, &message->value_len);
	if (flags & HAS_HEADERS)
	{
		uint16		n;
		KafkaHeader *headers;
		int			i;

		(void) take(reader, &n, sizeof(n));
		headers = palloc(sizeof(KafkaHeader) * Max(n, 1));
		for (i = 0; i < n; i++)
		{
			uint16		name_len;
			const char *name;

			(void) take(reader, &name_len, sizeof(name_len));
			name = take(reader, NULL, name_len);
			headers[i].name = pnstrdup(name, name_len);
			headers[i].value = take_counted(reader, &headers[i].value_len);
		}
		message->headers = headers;
		message->nheaders = n;
	}
	if (reader->at != end)
		damaged(reader);
	return true;
}

void
stream_outbox_withdraw(StreamOutboxReader *reader)
{
	*unconstify(char *, reader->flags) |= WITHDRAWN;
}

/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Messages to topics, stored by the transaction that moves the position of
 *	  the input: they are sent when it is committed, by the publisher.
 *
 * A buffer (stream/outbox.c) holds what the statements gave; here it becomes
 * rows of streamproc.outbox.  Their numbers follow the commit: an abort takes
 * them back, and the next transaction uses them again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Rows are written before the commit where so much has been collected. */
#define SPILL_BYTES		((Size) 1024 * 1024)
/* rows that are inserted together */
#define INSERT_ROWS		64

typedef struct Write
{
	Outbox	   *outbox;
	TimestampTz now;
	int			n;
	OutboxSegment rows[INSERT_ROWS];
	MemoryContext cxt;
} Write;

void
outbox_open(Outbox *outbox, const char *pipeline, int stream, int slot)
{
	memset(outbox, 0, sizeof(*outbox));
	strlcpy(outbox->pipeline, pipeline, NAMEDATALEN);
	outbox->stream = stream;
	outbox->slot = slot;
	outbox->last = outbox->committed = catalog_outbox_last(pipeline, stream);
	pg_atomic_write_u64(&shmem->pipelines[slot].outbox_written[stream], outbox->last);
}

static void
insert(Write *write)
{
	if (write->n == 0)
		return;
	FAULT_POINT("outbox-insert");
	catalog_outbox_insert(write->outbox->pipeline, write->rows, write->n);
	write->n = 0;
	MemoryContextReset(write->cxt);
}

static void
add_segment(const char *data, Size len, int nmessages, bool last, void *arg)
{
	Write	   *write = arg;
	Outbox	   *outbox = write->outbox;
	OutboxSegment *row = &write->rows[write->n++];
	MemoryContext old = MemoryContextSwitchTo(write->cxt);

	row->stream = outbox->stream;
	row->number = ++outbox->last;
	row->nmessages = nmessages;
	row->written = write->now;
	row->ends_commit = last;
	row->data = VARDATA(DatumGetPointer(catalog_bytea(data, len)));
	MemoryContextSwitchTo(old);
	row->len = len;
	outbox->rows += nmessages;
	outbox->bytes += len;
	if (write->n == INSERT_ROWS || last)
		insert(write);
}

static void
write_rows(Outbox *outbox, StreamOutbox *messages, bool all)
{
	Write	   *write = palloc(sizeof(Write));

	write->outbox = outbox;
	write->now = GetCurrentTimestamp();
	write->n = 0;
	write->cxt = AllocSetContextCreate(CurrentMemoryContext, "streamproc outbox rows", ALLOCSET_DEFAULT_SIZES);
	stream_outbox_pack(messages, SEGMENT_BYTES, all, add_segment, write);
	insert(write);
	MemoryContextDelete(write->cxt);
	pfree(write);
}

void
outbox_spill(Outbox *outbox, StreamOutbox *messages)
{
	if (stream_outbox_bytes(messages) > SPILL_BYTES)
		write_rows(outbox, messages, false);
}

void
outbox_finish(Outbox *outbox, StreamOutbox *messages)
{
	if (stream_outbox_bytes(messages) > 0)
		write_rows(outbox, messages, true);
}

void
outbox_committed(Outbox *outbox)
{
	PipelineSlot *slot = &shmem->pipelines[outbox->slot];

	outbox->committed = outbox->last;
	if (outbox->rows == 0)
		return;
	pg_atomic_write_u64(&slot->outbox_written[outbox->stream], outbox->last);
	pg_atomic_fetch_add_u64(&slot->outbox_rows, outbox->rows);
	pg_atomic_fetch_add_u64(&slot->outbox_bytes, outbox->bytes);
	outbox->rows = outbox->bytes = 0;
	pipeline_wake_publisher(outbox->slot);
}

void
outbox_aborted(Outbox *outbox)
{
	outbox->last = outbox->committed;
	outbox->rows = outbox->bytes = 0;
}

bool
outbox_full(int slot)
{
	PipelineSlot *p = &shmem->pipelines[slot];

	return !pipeline_all_sent(slot, NULL) &&
		(int64) (pg_atomic_read_u64(&p->outbox_bytes) - pg_atomic_read_u64(&p->published_bytes)) >
		(int64) streamproc_outbox_size * 1024;
}

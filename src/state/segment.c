/*-------------------------------------------------------------------------
 *
 * segment.c
 *	  Entries as bytes: what a checkpoint writes and recovery reads.
 *
 *	  segment:	StateSegmentHeader, runs
 *	  run:		StateRun, records
 *	  record:	StateRecord, fixed part, key, filled up to 8 bytes, blobs as in
 *				a chunk (uint32 capacity = length, bytes, filled up to 8)
 *
 * All numbers are in the machine's byte order; the header's flags say which.
 * What is read is checked whole before any of it is believed: lengths, shapes,
 * order, checksum.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "state/state.h"

#ifdef WORDS_BIGENDIAN
#define SEGMENT_FLAGS 1
#else
#define SEGMENT_FLAGS 0
#endif

static inline Size
round8(Size n)
{
	return (n + 7) & ~(Size) 7;
}

Size
state_record_size(const StateOperator *op, const StateEntry *entry, const char *base)
{
	Size		size = sizeof(StateRecord) + state_fixed_size(op, entry->key_meta) + round8(STATE_KEY_LEN(entry->key_meta));
	uint32		b;

	for (b = 0; b < state_nblobs(op, entry->key_meta); b++)
	{
		const StateBlob *blob = (const StateBlob *) (STATE_ENTRY_FIXED(entry) + op->blob[b]);

		if (blob->offset != 0)
			size += round8(sizeof(uint32) + blob->len);
	}
	return size;
}

void
state_record_write(const StateOperator *op, const StateEntry *entry, const char *base, char *to, Size size)
{
	StateRecord *record = (StateRecord *) to;
	Size		key_len = STATE_KEY_LEN(entry->key_meta);
	uint32		fixed_size = state_fixed_size(op, entry->key_meta);
	Size		at = sizeof(StateRecord) + fixed_size + round8(key_len);
	char	   *fixed = to + sizeof(StateRecord);
	uint32		b;

	record->size = (uint32) size;
	record->key_meta = entry->key_meta;
	record->flags = entry->given ? STATE_RECORD_GIVEN | STATE_RECORD_WAS_GIVEN : 0;
	memcpy(fixed, STATE_ENTRY_FIXED(entry), fixed_size);
	/* the last bytes before a border of eight are the filling */
	if (key_len > 0)
	{
		memset(fixed + fixed_size + round8(key_len) - 8, 0, 8);
		memcpy(fixed + fixed_size, state_entry_key(op, entry), key_len);
	}
	for (b = 0; b < state_nblobs(op, entry->key_meta); b++)
	{
		const StateBlob *blob = (const StateBlob *) (STATE_ENTRY_FIXED(entry) + op->blob[b]);
		StateBlob  *copy = (StateBlob *) (fixed + op->blob[b]);
		Size		room;

		if (blob->offset == 0)
			continue;
		room = round8(sizeof(uint32) + blob->len);
		memset(to + at + room - 8, 0, 8);
		*(uint32 *) (to + at) = (uint32) (room - sizeof(uint32));
		memcpy(to + at + sizeof(uint32), state_blob_bytes(base, blob), blob->len);
		copy->offset = (uint32) (at / 8);
		at += room;
	}
	Assert(at == size);
}

static uint64
checksum_of(const char *segment, Size bytes)
{
	StateSegmentHeader header = *(const StateSegmentHeader *) segment;

	header.checksum = 0;
	return XXH3_64bits_withSeed(segment + sizeof(StateSegmentHeader), bytes - sizeof(StateSegmentHeader),
								XXH3_64bits(&header, sizeof(header)));
}

/* "bytes" of the segment, room for the header at its begin included. */
void
state_segment_finish(char *segment, Size bytes, uint64 signature, int64 epoch)
{
	StateSegmentHeader *header = (StateSegmentHeader *) segment;

	memset(header, 0, sizeof(*header));
	header->magic = STATE_SEGMENT_MAGIC;
	header->version = STATE_SEGMENT_VERSION;
	header->flags = SEGMENT_FLAGS;
	header->signature = signature;
	header->epoch = epoch;
	header->bytes = bytes - sizeof(StateSegmentHeader);
	header->checksum = checksum_of(segment, bytes);
}

/* ---- reading ---- */

/* Does the record stay within its size, as an operator of this shape makes it? */
static const char *
check_record(const StateRecord *record, Size left, const StateShape *shape)
{
	bool		member = (record->key_meta & STATE_KEY_MEMBER) != 0;
	Size		at = sizeof(StateRecord) + state_shape_size(shape, record->key_meta) + round8(STATE_KEY_LEN(record->key_meta));
	uint32		nblobs = member ? shape->member_blobs : shape->group_blobs;
	uint32		b;

	if (record->size > left || record->size % 8 != 0 || record->size < at)
		return "a record has a wrong length";
	for (b = 0; b < nblobs; b++)
	{
		const StateBlob *blob = (const StateBlob *) (STATE_RECORD_FIXED(record) + shape->blob[b]);
		Size		room = round8(sizeof(uint32) + blob->len);

		if (blob->offset == 0)
			continue;
		if ((Size) blob->offset * 8 != at || room > record->size - at ||
			*(const uint32 *) ((const char *) record + at) != room - sizeof(uint32))
			return "a value of a record stands in a wrong place";
		at += room;
	}
	if (at != record->size)
		return "a record has a wrong length";
	return NULL;
}

/* Walks over the records; checks them, or gives them out. */
static const char *
walk(const char *p, Size len, const StateShape *shapes, int nshapes, StateRecordCheck check, StateRecordEach each, void *arg)
{
	const char *end = p + len;

	while (p < end)
	{
		const StateRun *run = (const StateRun *) p;
		const char *run_end;
		uint32		i;

		if ((Size) (end - p) < sizeof(StateRun))
			return "a run is cut off";
		p += sizeof(StateRun);
		if (run->op >= nshapes || run->group >= STATE_GROUPS || run->bytes > (uint64) (end - p))
			return "the header of a run is wrong";
		run_end = p + run->bytes;
		for (i = 0; i < run->nrecords; i++)
		{
			const StateRecord *record = (const StateRecord *) p;

			if (each == NULL)
			{
				const char *wrong;

				if ((Size) (run_end - p) < sizeof(StateRecord))
					return "a record is cut off";
				wrong = check_record(record, run_end - p, &shapes[run->op]);
				if (wrong == NULL && check != NULL)
					wrong = check(run, record, arg);
				if (wrong != NULL)
					return wrong;
			}
			else
				each(run, record, arg);
			p += record->size;
		}
		if (p != run_end)
			return "a run has a wrong length";
	}
	return NULL;
}

const char *
state_segment_read(const char *segment, Size len, uint64 signature, int64 epoch,
				   const StateShape *shapes, int nshapes, StateRecordCheck check, StateRecordEach each, void *arg)
{
	const StateSegmentHeader *header = (const StateSegmentHeader *) segment;
	const char *runs = segment + sizeof(StateSegmentHeader);
	const char *wrong;

	if (len < sizeof(StateSegmentHeader) || header->magic != STATE_SEGMENT_MAGIC)
		return "it is no segment of streamproc";
	if (header->version != STATE_SEGMENT_VERSION)
		return "its format has a version that this library does not know";
	if (header->flags != SEGMENT_FLAGS)
		return "it comes from a machine of another byte order";
	if (header->bytes != len - sizeof(StateSegmentHeader))
		return "its length is wrong";
	if (header->checksum != checksum_of(segment, len))
		return "its checksum is wrong";
	if (header->signature != signature)
		return "it was written by other operators";
	if (header->epoch != epoch)
		return "it belongs to another epoch";
	wrong = walk(runs, header->bytes, shapes, nshapes, check, NULL, arg);
	if (wrong == NULL && each != NULL)
		(void) walk(runs, header->bytes, shapes, nshapes, NULL, each, arg);
	return wrong;
}

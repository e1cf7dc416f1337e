/*-------------------------------------------------------------------------
 *
 * state.h
 *	  State of keyed operators in shared memory: areas, panes, chunks, keys,
 *	  and the segments that save it.
 *
 *	  area		one DSA per run of a pipeline; everything below lives in it
 *	  pane		one slice of event time of one operator; without windows one
 *				pane for ever
 *	  chunk		the entries of one key group in one pane: an open-addressing
 *				table over a region of bytes, addressed by offsets
 *	  entry		a key and its aggregates' states
 *	  segment	entries as bytes, for a row of streamproc.state_segment
 *
 * LOCKING
 *	  Entries of a key group (in all panes of its operator) are read and changed
 *	  only by who owns the group: state_group_own().  An owner may run user code
 *	  and may throw; he holds one group at a time.  The directory of panes is
 *	  guarded by StateRoot.lock; a pane stays where it is until state_pane_free(),
 *	  which only the launcher calls, for panes that no task can reach any more.
 *	  While all tasks stand at a barrier, key groups are shared out among them
 *	  without owning.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_STATE_H
#define STREAMPROC_STATE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"
#include "utils/timestamp.h"

#define STATE_GROUPS			128
#define STATE_MAX_OPERATORS		16
#define STATE_MAX_BLOBS			32	/* of an operator */
#define STATE_KEY_MAX			0x3fff
/* bits of a key's meta: its first bytes are a bitmap of null columns */
#define STATE_KEY_NULLS			0x8000
/* it is no group, but a value that DISTINCT has seen in one */
#define STATE_KEY_MEMBER		0x4000
/* the pane of operators without windows */
#define STATE_PANE_ETERNAL		PG_INT64_MIN

/* ---- entries and chunks ---- */

/* a value of changing length in the fixed part of an entry; units of 8 bytes from the base, 0: none */
typedef struct StateBlob
{
	uint32		offset;			/* there: uint32 capacity in bytes, then the bytes */
	uint32		len;
} StateBlob;

typedef struct StateEntry
{
	uint32		written;		/* low bits of the epoch whose segment holds it, 0: none yet */
	uint16		key_meta;		/* length of the key | STATE_KEY_NULLS, STATE_KEY_MEMBER */
	uint8		dirty;			/* stands in the list of changed entries: STATE_DIRTY_* */
	bool		given;			/* its group was given out, as of the last commit: see operator/given.c */
	/* fixed part of the operator's states, 8-aligned; then the key */
} StateEntry;

#define STATE_DIRTY_CHANGED		1
#define STATE_DIRTY_OLD			2	/* by the cut itself, to be written anew: nobody changes it meanwhile */

#define STATE_ENTRY_FIXED(entry)		((char *) (entry) + sizeof(StateEntry))
#define STATE_KEY_LEN(meta)				((meta) & STATE_KEY_MAX)

typedef struct StateSlot
{
	uint32		hash;
	uint32		offset;			/* of the entry, units of 8 bytes; 0: free */
} StateSlot;

typedef struct StateChunk
{
	dsa_pointer slots;
	dsa_pointer data;
	dsa_pointer dirty;			/* uint32 offsets of entries */
	uint32		nslots;			/* a multiple of 4, 0: nothing yet */
	uint32		nentries;
	uint32		used;			/* of data, units of 8 bytes */
	uint32		size;
	uint32		garbage;		/* of used: blobs given up */
	uint32		ndirty;
	uint32		dirty_size;
} StateChunk;

typedef struct StatePane
{
	int64		id;				/* number of the slice, or STATE_PANE_ETERNAL */
	bool		closed;			/* its windows are fired or being fired: no part in cuts */
	bool		passing;		/* will be closed at the stop: not worth an early copy.  Set while tasks run, only a hint */
	StateChunk	chunk[STATE_GROUPS];
} StatePane;

typedef struct StateGroupLock
{
	pg_atomic_uint32 owner;		/* 0: free */
	ConditionVariable freed;
} StateGroupLock;

/* Where an entry says when its key came last, for those that are not kept for ever. */
typedef struct StateExpiry
{
	int64		ttl;			/* us after that; 0: it is kept for ever */
	bool		in_blob;		/* the time stands in the first blob, else in the fixed part, */
	uint32		at;				/* there */
} StateExpiry;

typedef struct StateOperator
{
	uint16		blob[STATE_MAX_BLOBS];	/* offsets of StateBlobs in the fixed part */
	/* bytes of that, a multiple of 8, and the number of blobs: of members and of other entries; mostly the same */
	uint32		member_size;
	uint32		member_blobs;
	uint32		group_size;
	uint32		group_blobs;
	StateExpiry expiry;			/* of those */
	bool		leads;			/* an entry leads to others: one that was loaded is "given" until somebody has looked where */
	int			npanes;
	int			panes_size;
	uint32		panes_changed;	/* so often one came or went: who owns a key group may ask whether it knows all of its panes */
	dsa_pointer panes;			/* dsa_pointer of StatePane each */
	StateGroupLock group[STATE_GROUPS];
} StateOperator;

typedef struct StateRoot
{
	LWLock		lock;
	pg_atomic_uint64 bytes;		/* allocated */
	uint64		limit;
	pg_atomic_uint32 abandoned; /* whoever sees it leaves */
	int			noperators;
	StateOperator op[STATE_MAX_OPERATORS];
	dsa_pointer user;			/* the checkpoint room's */
	dsa_pointer spare;			/* blocks of logs that wait to be used again, linked */
	uint32		nspare;
} StateRoot;

/* process-local */
typedef struct StateArea
{
	dsa_area   *dsa;
	StateRoot  *root;
	dsa_pointer root_pointer;
} StateArea;

/* ---- area.c ---- */

extern StateArea *state_area_create(uint64 limit);
extern StateArea *state_area_attach(dsa_handle handle, dsa_pointer root);
extern dsa_handle state_area_handle(StateArea *area);
/* throw 53200 where state_memory is used up */
extern dsa_pointer state_alloc(StateArea *area, Size size);
extern dsa_pointer state_alloc0(StateArea *area, Size size);
extern void state_free(StateArea *area, dsa_pointer p, Size size);
extern void state_operator_init(StateArea *area, int op, uint32 fixed_size, const uint16 *blobs, int nblobs);
/* entries that are no members have this fixed part, without blobs */
extern void state_operator_bare_groups(StateArea *area, int op, uint32 size);
/* members are a key and nothing else */
extern void state_operator_bare_members(StateArea *area, int op);
extern void state_group_own(StateArea *area, int op, int group);
extern bool state_group_try_own(StateArea *area, int op, int group);
extern void state_group_release(StateArea *area, int op, int group);
/* wakes everybody who waits for a group */
extern void state_abandon(StateArea *area);

static inline bool
state_abandoned(StateArea *area)
{
	return pg_atomic_read_u32(&area->root->abandoned) != 0;
}

/* ---- pane.c ---- */

/* "make": makes it where it is not there, else NULL */
extern StatePane *state_pane(StateArea *area, int op, int64 id, bool make);
/* all panes of an operator, ascending, palloc'd */
extern StatePane **state_panes(StateArea *area, int op, int *n);
/* those that are not closed: also while the launcher frees the others */
extern StatePane **state_panes_open(StateArea *area, int op, int *n);
extern void state_pane_free(StateArea *area, int op, StatePane *pane);
extern Size state_chunk_bytes(const StateChunk *chunk);

/* ---- chunk.c ---- */

/*
 * A chunk made ready for a run of changes: addresses, which hold until the
 * next insert or state_blob_set() through it.
 */
typedef struct StateCursor
{
	StateArea  *area;
	StateOperator *op;
	StateChunk *chunk;
	StateSlot  *slots;
	char	   *data;
	uint32	   *dirty;
	uint32		growth;			/* the region grows by this part of it: 8, or less where it is freed soon */
	uint32		expected;		/* units that the region has at first, at least, where it is known: else it grows, is copied and freed on the way */
} StateCursor;

#define STATE_EXPECTED_MOST		(32 * 1024 / 8)

extern void state_cursor_open(StateCursor *cursor, StateArea *area, int op, StateChunk *chunk);
/* the entry of the key; made, its fixed part zeroed and marked changed, where it is not there */
extern StateEntry *state_entry_make(StateCursor *cursor, uint32 hash, const char *key, uint16 meta, bool *found);
extern StateEntry *state_entry_find(StateCursor *cursor, uint32 hash, const char *key, uint16 meta);
extern void state_entry_mark_slow(StateCursor *cursor, StateEntry *entry);
/* gives the blob at "at" in the fixed part another value; returns the entry, which may have moved */
extern StateEntry *state_blob_set(StateCursor *cursor, StateEntry *entry, uint32 at, const char *bytes, Size len);
/* the same, for who writes the bytes himself: where to; 4 bytes behind a border of 8 */
extern char *state_blob_place(StateCursor *cursor, StateEntry **entry, uint32 at, Size len);
/* room for so many bytes, so that it does not move while it grows up to them */
extern StateEntry *state_blob_reserve(StateCursor *cursor, StateEntry *entry, uint32 at, Size capacity);
/* appends to it; capacity grows by half */
extern StateEntry *state_blob_append(StateCursor *cursor, StateEntry *entry, uint32 at, const char *bytes, Size len);
/* the entry at the number-th place of the region, NULL: no more; for walks, *at begins as 0 */
extern StateEntry *state_entry_next(StateCursor *cursor, uint32 *at);
/* takes an entry out that nothing else refers to */
extern void state_entry_remove(StateCursor *cursor, StateEntry *entry);
extern uint32 state_hash(const char *key, uint16 meta);
/* gives back what the chunk does not need any more; nothing in it may be marked as changed */
extern void state_chunk_trim(StateCursor *cursor);

static inline uint32
state_fixed_size(const StateOperator *op, uint16 meta)
{
	return (meta & STATE_KEY_MEMBER) ? op->member_size : op->group_size;
}

static inline uint32
state_nblobs(const StateOperator *op, uint16 meta)
{
	return (meta & STATE_KEY_MEMBER) ? op->member_blobs : op->group_blobs;
}

/* What the slots of a chunk are ordered by; the highest 7 bits, those of the group, are the same in all of it where keys decide on the group. */
static inline uint32
state_slot_order(uint32 hash)
{
	return hash << 7;
}

/* Where a chunk of so many slots begins to look. */
static inline uint32
state_slot_of(uint32 hash, uint32 nslots)
{
	return (uint32) (((uint64) state_slot_order(hash) * nslots) >> 32);
}

/*
 * What asks for memory must be inlined always: a function that does nothing else GCC takes for one
 * without any effect, and leaves calls of it out (12.2).
 */
static pg_attribute_always_inline void
state_prefetch_slot(const StateCursor *cursor, uint32 hash)
{
	if (cursor->chunk->nslots > 0)
		__builtin_prefetch(&cursor->slots[state_slot_of(hash, cursor->chunk->nslots)]);
}

/* slots that are peeked at: those of a line of the cache, and where most are that do not stand in their place */
#define STATE_PEEKED	4

/* the entry of this hash, if it stands near where it is looked for first; NULL: it is not known */
static inline const StateEntry *
state_peek_entry(const StateCursor *cursor, uint32 hash)
{
	uint32		n = cursor->chunk->nslots;
	uint32		at = state_slot_of(hash, n);
	uint32		end = Min(at + STATE_PEEKED, n);

	for (; at < end && cursor->slots[at].offset != 0; at++)
		if (cursor->slots[at].hash == hash)
			return (const StateEntry *) (cursor->data + (Size) cursor->slots[at].offset * 8);
	return NULL;
}

static pg_attribute_always_inline void
state_prefetch_entry(const StateCursor *cursor, uint32 hash)
{
	const StateEntry *entry = state_peek_entry(cursor, hash);

	if (entry != NULL)
		__builtin_prefetch(entry);
}

/* and a blob, which mostly stands right behind its entry */
static pg_attribute_always_inline void
state_prefetch_blob(const StateCursor *cursor, uint32 hash)
{
	const char *entry = (const char *) state_peek_entry(cursor, hash);

	if (entry == NULL)
		return;
	__builtin_prefetch(entry);
	__builtin_prefetch(entry + 64);
	__builtin_prefetch(entry + 128);
}

static inline void
state_entry_mark(StateCursor *cursor, StateEntry *entry)
{
	if (!entry->dirty)
		state_entry_mark_slow(cursor, entry);
}

static inline char *
state_entry_key(const StateOperator *op, const StateEntry *entry)
{
	return (char *) entry + sizeof(StateEntry) + state_fixed_size(op, entry->key_meta);
}

/* the bytes of a blob; "base": the chunk's data, or the record's begin */
static inline const char *
state_blob_bytes(const char *base, const StateBlob *blob)
{
	return base + (Size) blob->offset * 8 + sizeof(uint32);
}

static inline TimestampTz
state_expires(TimestampTz last, int64 ttl)
{
	return last > DT_NOEND - ttl ? DT_NOEND : last + ttl;
}

/* The instant from which on the key is forgotten. */
static inline TimestampTz
state_entry_expires(const StateOperator *op, const StateEntry *entry, const char *base)
{
	const char *from = STATE_ENTRY_FIXED(entry);
	TimestampTz last;

	if (op->expiry.in_blob)
		from = state_blob_bytes(base, (const StateBlob *) (from + op->blob[0]));
	memcpy(&last, from + op->expiry.at, sizeof(last));
	return state_expires(last, op->expiry.ttl);
}

static inline int
state_group_of(uint32 hash)
{
	return hash >> 25;			/* the highest 7 bits: tables use the lower ones */
}

/* ---- segment.c ---- */

/*
 * A record is what an entry is, alone: its blobs follow the key, their offsets
 * count from the record's begin.
 */
typedef struct StateRecord
{
	uint32		size;			/* bytes, multiple of 8, this header included */
	uint16		key_meta;
	uint16		flags;			/* STATE_RECORD_* */
	/* fixed part, key, blobs */
} StateRecord;

#define STATE_RECORD_AGAIN		1	/* the same cut holds an older record of the entry */
#define STATE_RECORD_OLD		2	/* not changed, only written anew */
#define STATE_RECORD_GIVEN		4	/* the group is given out, once the epoch is committed */
#define STATE_RECORD_WAS_GIVEN	8	/* and before that; nobody reads it on disk */

#define STATE_RECORD_FIXED(record)	((const char *) (record) + sizeof(StateRecord))

/* Records of one chunk in a row. */
typedef struct StateRun
{
	uint16		op;
	uint16		group;
	uint32		nrecords;
	int64		pane;
	uint64		bytes;			/* of the records behind this header */
} StateRun;

typedef struct StateSegmentHeader
{
	uint32		magic;
	uint16		version;
	uint16		flags;			/* STATE_SEGMENT_* */
	uint64		signature;		/* of the operators */
	int64		epoch;
	uint64		bytes;			/* of the runs */
	uint64		checksum;		/* of all the others and the runs */
} StateSegmentHeader;

#define STATE_SEGMENT_MAGIC		0x53505347
#define STATE_SEGMENT_VERSION	1

extern Size state_record_size(const StateOperator *op, const StateEntry *entry, const char *base);
extern void state_record_write(const StateOperator *op, const StateEntry *entry, const char *base, char *to, Size size);
extern void state_segment_finish(char *segment, Size bytes, uint64 signature, int64 epoch);

/* What an operator's records look like, for checks. */
typedef struct StateShape
{
	const uint16 *blob;
	uint32		member_size;
	uint32		member_blobs;
	uint32		group_size;
	uint32		group_blobs;
} StateShape;

static inline StateShape
state_shape_of(const StateOperator *op)
{
	return (StateShape) {op->blob, op->member_size, op->member_blobs, op->group_size, op->group_blobs};
}

static inline uint32
state_shape_size(const StateShape *shape, uint16 meta)
{
	return (meta & STATE_KEY_MEMBER) ? shape->member_size : shape->group_size;
}

/* the operator's own look at a record; what is wrong with it, NULL: nothing */
typedef const char *(*StateRecordCheck) (const StateRun *run, const StateRecord *record, void *arg);
typedef void (*StateRecordEach) (const StateRun *run, const StateRecord *record, void *arg);
/*
 * Checks a segment whole, by "check" too where there is one, then calls "each" for
 * its records.  NULL: all went well, else what is wrong, and "each" was not called.
 */
extern const char *state_segment_read(const char *segment, Size len, uint64 signature, int64 epoch,
									  const StateShape *shapes, int nshapes, StateRecordCheck check, StateRecordEach each, void *arg);
/* puts a record into the area, over an older one of its key */
extern void state_record_load(StateArea *area, const StateRun *run, const StateRecord *record, uint32 epoch, uint32 *replaced);

/* the entry is as the record says; it may have moved */
extern StateEntry *state_entry_restore(StateCursor *cursor, StateEntry *entry, const StateRecord *record);

/* ---- key.c ---- */

typedef enum StateKeyKind
{
	STATE_KEY_FIXED,			/* the bytes as they are */
	STATE_KEY_VARLENA,			/* length, then bytes */
	STATE_KEY_FLOAT4,
	STATE_KEY_FLOAT8,
	STATE_KEY_NUMERIC,
	STATE_KEY_INTERVAL,
	STATE_KEY_BPCHAR
} StateKeyKind;

typedef struct StateKeyColumn
{
	StateKeyKind kind;
	Oid			type;			/* of the column, for output */
	int32		typmod;
	Oid			collation;
	int16		len;
	bool		byval;
	char		align;
	bool		exact;			/* the value can be made from the key: no original is kept */
} StateKeyColumn;

/* NULL: the column can be a key, else why not (a palloc'd text) */
extern const char *state_key_column(StateKeyColumn *column, Oid type, int32 typmod, Oid collation, Oid eqop);
/* appends the keys' canonical bytes to "into" (room for STATE_KEY_MAX); returns the meta; throws 54000 */
struct StringInfoData;
extern uint16 state_key_encode(const StateKeyColumn *columns, int n, const Datum *values, const bool *isnull, struct StringInfoData *into);
/* values of exact columns; others are left alone.  by-reference values in the current memory context */
extern void state_key_decode(const StateKeyColumn *columns, int n, const char *key, uint16 meta, Datum *values, bool *isnull);

/* could state_key_encode() have made it? */
extern bool state_key_fits(const StateKeyColumn *columns, int n, const char *key, uint16 meta);

/* datums as bytes, for originals and kept arguments */
extern void state_datum_write(struct StringInfoData *into, Datum value, bool isnull, int16 len, bool byval);
/* behind it; NULL: it is none, or does not end before "end" */
extern const char *state_datum_skip(const char *from, const char *end, int16 len);
extern const char *state_datum_read(const char *from, Datum *value, bool *isnull, int16 len, bool byval, char align);

#endif							/* STREAMPROC_STATE_H */

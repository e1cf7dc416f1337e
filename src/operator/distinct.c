/*-------------------------------------------------------------------------
 *
 * distinct.c
 *	  DISTINCT of native aggregates: the values that a group has seen.
 *
 * A value is an entry of its own (STATE_KEY_MEMBER) in the chunk of its group,
 * so it is cut, saved and loaded like any other.  Its key: number of the
 * aggregate, meta and bytes of the group's key, the value as a key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "operator/operator.h"
#include "utils/memutils.h"

uint16
distinct_key(const AggregateSpec *agg, int number, const char *key, uint16 meta, Datum value, StringInfo into)
{
	bool		isnull = false;

	resetStringInfo(into);
	appendStringInfoChar(into, (char) number);
	appendBinaryStringInfo(into, (const char *) &meta, sizeof(meta));
	appendBinaryStringInfo(into, key, STATE_KEY_LEN(meta));
	(void) state_key_encode(&agg->distinct_key, 1, &value, &isnull, into);
	if (into->len > STATE_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a value to be counted once is too long"),
				 errdetail("With its group it has %d bytes; %d are allowed.", into->len, STATE_KEY_MAX)));
	return (uint16) into->len | STATE_KEY_MEMBER;
}

StateEntry *
distinct_add(const AggregateSpec *agg, int number, StateCursor *cursor, StateEntry *entry, uint32 hash,
			 Datum value, bool *is_new)
{
	static StringInfoData member;
	uint16		meta = entry->key_meta;
	uint16		member_meta;
	char	   *data = cursor->data;
	bool		found;

	if (member.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&member);
		MemoryContextSwitchTo(old);
	}
	member_meta = distinct_key(agg, number, state_entry_key(cursor->op, entry), meta, value, &member);
	(void) state_entry_make(cursor, state_hash(member.data, member_meta), member.data, member_meta, &found);
	*is_new = !found;
	/* the region has grown: where is the group's entry now? */
	if (cursor->data != data)
		entry = state_entry_find(cursor, hash, member.data + 1 + sizeof(meta), meta);
	return entry;
}

int
distinct_number(const char *key)
{
	return (uint8) key[0];
}

const char *
distinct_group(const char *key, uint16 *meta)
{
	memcpy(meta, key + 1, sizeof(*meta));
	return key + 1 + sizeof(*meta);
}

Datum
distinct_value(const AggregateSpec *agg, const char *key, uint16 meta)
{
	uint16		group_meta;
	const char *group = distinct_group(key, &group_meta);
	Datum		value = (Datum) 0;
	bool		isnull;

	if (agg->distinct_key.exact)
		state_key_decode(&agg->distinct_key, 1, group + STATE_KEY_LEN(group_meta),
						 (uint16) (STATE_KEY_LEN(meta) - 1 - sizeof(group_meta) - STATE_KEY_LEN(group_meta)), &value, &isnull);
	return value;
}

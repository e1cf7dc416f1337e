/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  The table of slots of a chunk (src/state/chunk.c) against a plain set: keys are
 *	  made, looked for and taken out at random, many of them with places at the end of
 *	  the table, from where slots go round to its front, which the oracle hardly sees.
 *
 *	  slots RUNS SEED
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fuzz.h"
#include "segments.h"
#include "state/state.h"

#define KEYS		6000
#define META		((uint16) (sizeof(uint32) | STATE_KEY_MEMBER))

typedef struct Key
{
	uint32		number;
	uint32		hash;
	bool		there;
} Key;

static Key	keys[KEYS];

/* the sources are built to be watched, see driver.c */
extern void __sanitizer_cov_trace_pc(void);
void
__sanitizer_cov_trace_pc(void)
{
}

static void
fail(const char *what, uint64 run, uint32 number)
{
	printf("FAILED slots: %s, run %llu, key %u\n", what, (unsigned long long) run, number);
	exit(1);
}

/* Keys of one group would have their places anywhere; of these, "part" of 64 have theirs in the last one of them. */
static void
make_keys(Random *random, uint32 part)
{
	uint32		number = (uint32) random_next(random);
	int			i;

	for (i = 0; i < KEYS; i++)
	{
		bool		last = random_below(random, 64) < part;

		do
		{
			keys[i].number = number++;
			keys[i].hash = state_hash((const char *) &keys[i].number, META);
		} while (last && state_slot_of(keys[i].hash, 64) != 63);
		keys[i].there = false;
	}
}

/* No slot is behind a free one, from where it is looked for, and all keys are known, and no others. */
static void
check(StateCursor *cursor, uint64 run, uint32 n)
{
	uint32		nslots = cursor->chunk->nslots;
	uint32		at = 0;
	uint32		seen = 0;
	uint32		i;

	while (state_entry_next(cursor, &at) != NULL)
	{
		uint32		here = at - 1;
		uint32		home = state_slot_of(cursor->slots[here].hash, nslots);

		seen++;
		for (i = home; i != here; i = i + 1 == nslots ? 0 : i + 1)
			if (cursor->slots[i].offset == 0)
				fail("a free slot before it", run, here);
	}
	if (seen != n || cursor->chunk->nentries != n)
		fail("number of entries", run, seen);
	for (i = 0; i < KEYS; i++)
	{
		StateEntry *entry = state_entry_find(cursor, keys[i].hash, (const char *) &keys[i].number, META);

		if ((entry != NULL) != keys[i].there)
			fail(keys[i].there ? "not found" : "found", run, keys[i].number);
		if (entry != NULL && *(uint32 *) state_entry_key(cursor->op, entry) != keys[i].number)
			fail("another one found", run, keys[i].number);
	}
}

static int
by_slot(const void *a, const void *b)
{
	uint32		x = state_slot_order(((const Key *) a)->hash);
	uint32		y = state_slot_order(((const Key *) b)->hash);

	return x < y ? -1 : x > y;
}

/* As they come from another table: each finds its place within some slots, not behind all others. */
static void
check_in_order(StateArea *area, Random *random)
{
	StateChunk	chunk = {0};
	StateCursor cursor;
	uint64		steps = 0;
	bool		found;
	int			i;

	make_keys(random, 0);
	qsort(keys, KEYS, sizeof(Key), by_slot);
	state_cursor_open(&cursor, area, 0, &chunk);
	for (i = 0; i < KEYS; i++)
	{
		uint32		nslots;
		uint32		at;

		(void) state_entry_make(&cursor, keys[i].hash, (const char *) &keys[i].number, META, &found);
		keys[i].there = true;
		nslots = cursor.chunk->nslots;
		for (at = state_slot_of(keys[i].hash, nslots); cursor.slots[at].hash != keys[i].hash || cursor.slots[at].offset == 0; at = at + 1 == nslots ? 0 : at + 1)
			steps++;
	}
	check(&cursor, 0, KEYS);
	if (steps > (uint64) KEYS * 200 || cursor.chunk->nslots > KEYS * 2)
		fail("keys in the order of their places are found late, or have too many slots", steps, cursor.chunk->nslots);
	shim_shared_free();
}

int
main(int argc, char **argv)
{
	Random		random = {argc > 2 ? strtoull(argv[2], NULL, 10) : 1};
	uint64		runs = argc > 1 ? strtoull(argv[1], NULL, 10) : 100;
	StateArea	area = {0};
	uint64		run;

	area.root = calloc(1, sizeof(StateRoot));
	area.root->limit = UINT64CONST(1) << 32;
	state_operator_init(&area, 0, 8, NULL, 0);
	check_in_order(&area, &random);
	for (run = 0; run < runs; run++)
	{
		StateChunk	chunk = {0};
		StateCursor cursor;
		uint32		most = random_below(&random, 8) == 0 ? KEYS : 1 + random_below(&random, 100);
		uint32		n = 0;
		uint32		step;

		make_keys(&random, random_below(&random, 3) * 16);
		state_cursor_open(&cursor, &area, 0, &chunk);
		for (step = 0; step < most * 3; step++)
		{
			Key		   *key = &keys[random_below(&random, most)];
			bool		found;

			if (random_below(&random, 4) > 0)
			{
				(void) state_entry_make(&cursor, key->hash, (const char *) &key->number, META, &found);
				if (found != key->there)
					fail(found ? "made, and was there" : "was not found, and is there", run, key->number);
				n += found ? 0 : 1;
				key->there = true;
			}
			else if (key->there)
			{
				state_entry_remove(&cursor, state_entry_find(&cursor, key->hash, (const char *) &key->number, META));
				key->there = false;
				n--;
			}
		}
		check(&cursor, run, n);
		shim_shared_free();
	}
	free(area.root);
	printf("slots: runs %llu, findings 0\n", (unsigned long long) runs);
	return 0;
}

/*-------------------------------------------------------------------------
 *
 * publisher_position.c
 *	  How far a publisher is: what Kafka says, what PostgreSQL says, and
 *	  whether the two fit.
 *
 * Kafka only goes forward; PostgreSQL can go back: a restored backup, a standby
 * that has not got the last commits, a copy that somebody starts.  Kafka's
 * position is right if it was written by this database (the id "writer" that
 * stands with it is known here) and lies between what is known to be sent and
 * the last segment of the outbox.  Everything else is a person's decision:
 * reconcile_publisher().
 *
 * The position in Kafka: offset = number of messages ever sent, metadata =
 *	  "1 SYSTEM_IDENTIFIER TIMELINE WRITER SEGMENT SEGMENT ...", one for each stream.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "checkpoint/checkpoint.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"
#include "worker/publisher.h"

#define METADATA_VERSION "1"
/* pages that a deletion makes ready for others at most */
#define PAGES_MOST	8192

static const pg_uuid_t no_writer;

/* A position that was read from Kafka. */
typedef struct KafkaState
{
	int64		published;
	int64		system_identifier;
	pg_uuid_t	writer;
	int			nsegments;
	int64		segments[SHMEM_MAX_TASKS];
} KafkaState;

static bool
same_uuid(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, sizeof(pg_uuid_t)) == 0;
}

static char *
uuid_text(const pg_uuid_t *uuid)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(uuid)));
}

char *
publisher_metadata_of(const int64 *segments)
{
	StringInfoData text;
	int			s;

	initStringInfo(&text);
	appendStringInfo(&text, METADATA_VERSION " " UINT64_FORMAT " %u %s", GetSystemIdentifier(), GetWALInsertionTimeLine(),
					 uuid_text(&my_publisher->writer));
	for (s = 0; s < my_publisher->nstreams; s++)
		appendStringInfo(&text, " " INT64_FORMAT, segments[s]);
	return text.data;
}

char *
publisher_metadata(void)
{
	return publisher_metadata_of(my_publisher->sent);
}

/* False: it is not of our making. */
static bool
parse_metadata(const char *metadata, KafkaState *state)
{
	char	   *copy = pstrdup(metadata);
	char	   *save = NULL;
	char	   *word;
	int			field;

	for (word = strtok_r(copy, " ", &save), field = 0; word != NULL; word = strtok_r(NULL, " ", &save), field++)
	{
		char	   *end = word;

		switch (field)
		{
			case 0:
				if (strcmp(word, METADATA_VERSION) != 0)
					return false;
				break;
			case 1:
				state->system_identifier = (int64) strtoull(word, &end, 10);
				if (*end != '\0')
					return false;
				break;
			case 2:
				break;			/* the timeline, for people */
			case 3:
				if (strlen(word) != 36 || strspn(word, "0123456789abcdef-") != 36)
					return false;
				state->writer = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(word)));
				break;
			default:
				if (state->nsegments == SHMEM_MAX_TASKS)
					return false;
				state->segments[state->nsegments] = strtoll(word, &end, 10);
				if (*end != '\0' || state->segments[state->nsegments++] < 0)
					return false;
				break;
		}
	}
	return field >= 4;
}

static void
fail(const char *sqlstate, const char *message, const char *detail)
{
	Reason		reason;
	char	   *name;

	/* before the transaction of failing */
	checkpoint_abort();
	MemoryContextSwitchTo(my_publisher->cxt);
	name = quote_literal_cstr(my_publisher->row->name);
	reason_set(&reason, sqlstate, message, detail, NULL);
	snprintf(reason.hint, sizeof(reason.hint),
			 "SELECT streamproc.reconcile_publisher(%s, 'resend') sends all that waits in the outbox, also what may have been sent; 'discard' sends none of it.",
			 name);
	worker_fail_pipeline(&reason);
}

/* What Kafka says becomes where we go on; or a person has to decide. */
static void
check_kafka(const PublisherRow *pub, const OutboxTotals *totals, int64 offset, const char *metadata)
{
	KafkaState	kafka = {0};
	char		detail[SHMEM_MESSAGE_LEN];
	int64		expected = pub->published;
	int			s;

	if (offset < 0)
	{
		/* PostgreSQL's word is good where nothing can be sent twice by it */
		if (totals->messages == 0 || same_uuid(&pub->writer, &no_writer))
			return;
		snprintf(detail, sizeof(detail), INT64_FORMAT " messages wait in the outbox, and some of them may have been sent. Positions expire (offsets.retention.minutes), or somebody has deleted the group \"%s\".",
				 totals->messages, my_publisher->group);
		fail("55000", "Kafka does not know how far the messages of this pipeline were sent", detail);
	}
	kafka.published = offset;
	if (!parse_metadata(metadata, &kafka) ||
		(!same_uuid(&kafka.writer, &pub->writer) && !same_uuid(&kafka.writer, &pub->previous_writer)))
	{
		if (kafka.system_identifier != 0 && (uint64) kafka.system_identifier != GetSystemIdentifier())
			snprintf(detail, sizeof(detail), "Kafka's position was written by the server with system identifier " UINT64_FORMAT ".",
					 (uint64) kafka.system_identifier);
		else
			snprintf(detail, sizeof(detail), "Kafka's position was written by a publisher that this database does not know: this is a copy, or it was set back.");
		fail("55000", "messages of this pipeline were sent by another server, or by a later state of this one", detail);
	}
	for (s = 0; s < SHMEM_MAX_TASKS; s++)
	{
		int64		known = s < pub->nsegments ? pub->segments[s] : 0;
		int64		last = Max(totals->last[s], known);
		int64		there = s < kafka.nsegments ? kafka.segments[s] : 0;

		if (there > last)
		{
			snprintf(detail, sizeof(detail), "Kafka has segment " INT64_FORMAT " of stream %d, the outbox ends with " INT64_FORMAT ": commits of PostgreSQL were lost, by a failover or a restored backup.",
					 there, s, last);
			fail("55000", "messages were sent that this server does not know any more", detail);
		}
		if (there < known)
		{
			snprintf(detail, sizeof(detail), "Kafka has segment " INT64_FORMAT " of stream %d, " INT64_FORMAT " was sent: Kafka has lost what it had acknowledged.",
					 there, s, known);
			fail("55000", "Kafka has fewer messages than were sent", detail);
		}
		if (there > known)
			expected += catalog_outbox_messages(my_publisher->row->name, s, known, there);
		my_publisher->sent[s] = there;
	}
	if (expected != kafka.published)
	{
		snprintf(detail, sizeof(detail), "Kafka counts " INT64_FORMAT " messages, the outbox " INT64_FORMAT ".", kafka.published, expected);
		fail("55000", "the position in Kafka does not fit the outbox", detail);
	}
	my_publisher->published = kafka.published;
}

/* What waits, for the views and for the bound; before the comparison, since who has to decide wants to know. */
static void
show_outbox(const OutboxTotals *totals)
{
	PipelineSlot *slot = my_publisher->pipeline;
	int			s;

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->published_total = my_publisher->published;
	slot->publishes = true;
	slot->outbox_oldest = totals->oldest;
	/* once, before a task writes: later both are counted on */
	if (!slot->outbox_counted)
	{
		pg_atomic_write_u64(&slot->outbox_rows, pg_atomic_read_u64(&slot->published_rows) + totals->messages);
		pg_atomic_write_u64(&slot->outbox_bytes, pg_atomic_read_u64(&slot->published_bytes) + totals->bytes);
		for (s = 0; s < SHMEM_MAX_TASKS; s++)
			pg_atomic_write_u64(&slot->outbox_written[s], Max((uint64) totals->last[s], (uint64) my_publisher->deleted_until[s]));
		slot->outbox_counted = true;
	}
	for (s = 0; s < SHMEM_MAX_TASKS; s++)
		pg_atomic_write_u64(&slot->outbox_sent[s], (uint64) my_publisher->deleted_until[s]);
	LWLockRelease(shmem->lock);
}

void
publisher_new_writer(pg_uuid_t *writer)
{
	if (!pg_strong_random(writer->data, UUID_LEN))
		elog(ERROR, "could not generate random values");
	writer->data[6] = (writer->data[6] & 0x0f) | 0x40;
	writer->data[8] = (writer->data[8] & 0x3f) | 0x80;
}

PublisherRow *
publisher_lock(void)
{
	PublisherRow *pub = catalog_publisher_lock(my_publisher->row->name);

	/* dropped; or somebody else works for the pipeline */
	if (pub == NULL || !same_uuid(&pub->writer, &my_publisher->writer))
	{
		checkpoint_abort();
		proc_exit(1);
	}
	return pub;
}

void
publisher_compare(bool exactly_once, int64 offset, const char *metadata)
{
	static const pg_uuid_t not_counted = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	MemoryContext old = CurrentMemoryContext;
	PipelineSlot *slot = my_publisher->pipeline;
	const char *name = my_publisher->row->name;
	PublisherRow *pub;
	OutboxTotals totals;
	bool		changed = false;
	int			s;

	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pub = catalog_publisher_lock(name);
	if (pub == NULL)
	{
		PublisherRow first = {0};
		PipelineRow *row = worker_find_pipeline(CurrentMemoryContext);

		/* dropped while we waited; one of the same name is another one */
		if (row == NULL || memcmp(&row->id, &my_publisher->row->id, sizeof(pg_uuid_t)) != 0)
		{
			checkpoint_abort();
			proc_exit(0);
		}
		strlcpy(first.pipeline, name, NAMEDATALEN);
		catalog_publisher_insert(&first);
		pub = catalog_publisher_lock(name);
	}
	/* another one works for this pipeline: its launcher is not ours */
	if (!same_uuid(&my_publisher->writer, &no_writer) && !same_uuid(&pub->writer, &my_publisher->writer))
	{
		checkpoint_abort();
		proc_exit(1);
	}
	catalog_outbox_look(name, &totals);

	my_publisher->deleted = my_publisher->published = pub->published;
	memset(my_publisher->sent, 0, sizeof(my_publisher->sent));
	memcpy(my_publisher->sent, pub->segments, sizeof(int64) * pub->nsegments);
	memcpy(my_publisher->deleted_until, my_publisher->sent, sizeof(my_publisher->sent));
	show_outbox(&totals);
	my_publisher->decided = pub->reconcile != NULL;
	if (my_publisher->decided)
	{
		if (strcmp(pub->reconcile, "discard") == 0)
		{
			for (s = 0; s < SHMEM_MAX_TASKS; s++)
				my_publisher->sent[s] = Max(my_publisher->sent[s], totals.last[s]);
			my_publisher->published += totals.messages;
		}
		ereport(LOG,
				(errmsg("publisher of pipeline \"%s\": " INT64_FORMAT " messages of the outbox are %s", name, totals.messages,
						strcmp(pub->reconcile, "discard") == 0 ? "discarded" : "sent, whatever was sent before")));
	}
	else if (exactly_once && same_uuid(&pub->writer, &not_counted))
	{
		/* sent without transactions until now: PostgreSQL's word counts until Kafka has our position */
		pub->reconcile = "resend";
		my_publisher->decided = true;
	}
	else if (exactly_once)
		check_kafka(pub, &totals, offset, metadata);

	/* streams of tasks that there were, are, and will be */
	my_publisher->nstreams = Max(pub->nsegments, slot->ntasks);
	for (s = 0; s < SHMEM_MAX_TASKS; s++)
		if (totals.last[s] > 0 || my_publisher->sent[s] > 0)
			my_publisher->nstreams = Max(my_publisher->nstreams, s + 1);
	my_publisher->streams_change = pub->streams != 0 && pub->streams != slot->ntasks;

	if (!exactly_once)
	{
		/* from now on Kafka's position says nothing */
		changed |= !same_uuid(&pub->writer, &not_counted);
		pub->writer = pub->previous_writer = my_publisher->writer = not_counted;
	}
	else if (same_uuid(&my_publisher->writer, &no_writer))
	{
		publisher_new_writer(&my_publisher->writer);
		/* the last one that Kafka has: ours may not get there */
		pub->previous_writer = pub->writer;
		if (offset >= 0)
		{
			KafkaState	kafka = {0};

			if (parse_metadata(metadata, &kafka))
				pub->previous_writer = kafka.writer;
		}
		pub->writer = my_publisher->writer;
		changed = true;
	}
	if (pub->streams == 0)
	{
		pub->streams = slot->ntasks;
		changed = true;
	}
	if (changed)
		catalog_publisher_update(pub);
	PopActiveSnapshot();
	checkpoint_commit();
	MemoryContextSwitchTo(old);

	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	slot->published_total = my_publisher->published;
	LWLockRelease(shmem->lock);
}

void
publisher_delete(void)
{
	MemoryContext old = CurrentMemoryContext;
	PipelineSlot *slot = my_publisher->pipeline;
	PublisherRow *pub;
	int64		messages = 0;
	int64		bytes = 0;
	int			reused;
	int			s;

	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	/* if it is lost, Kafka still knows */
	checkpoint_need_not_wait();
	pub = publisher_lock();
	/* what was deleted before is room for what comes next, once nobody sees it any more */
	reused = catalog_pages_reuse("outbox", &my_publisher->freed, PAGES_MOST);
	my_publisher->freed.n -= reused;
	if (my_publisher->freed.n > 0)
		memmove(my_publisher->freed.blocks, my_publisher->freed.blocks + reused, sizeof(uint32) * my_publisher->freed.n);
	my_publisher->freeing.n = 0;
	for (s = 0; s < my_publisher->nstreams; s++)
	{
		if (my_publisher->sent[s] > my_publisher->deleted_until[s])
			catalog_outbox_delete(pub->pipeline, s, my_publisher->deleted_until[s], my_publisher->sent[s], &messages, &bytes, &my_publisher->freeing);
		pub->segments[s] = my_publisher->sent[s];
	}
	pub->nsegments = my_publisher->nstreams;
	pub->published = my_publisher->published;
	if (my_publisher->decided)
		pub->reconcile = NULL;
	catalog_publisher_update(pub);
	PopActiveSnapshot();
	FAULT_POINT("publisher-before-delete-commit");
	HOLD_INTERRUPTS();
	checkpoint_commit();
	my_publisher->decided = false;
	MemoryContextSwitchTo(old);
	catalog_pages_add(&my_publisher->freed, my_publisher->freeing.blocks, my_publisher->freeing.n);
	my_publisher->deleted = my_publisher->published;
	memcpy(my_publisher->deleted_until, my_publisher->sent, sizeof(my_publisher->sent));
	pg_atomic_fetch_add_u64(&slot->published_rows, messages);
	pg_atomic_fetch_add_u64(&slot->published_bytes, bytes);
	for (s = 0; s < my_publisher->nstreams; s++)
		pg_atomic_write_u64(&slot->outbox_sent[s], (uint64) my_publisher->deleted_until[s]);
	RESUME_INTERRUPTS();
	pipeline_changed(my_publisher->slot->pipeline);
}

void
publisher_set_streams(void)
{
	MemoryContext old = CurrentMemoryContext;
	PublisherRow *pub;

	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pub = catalog_publisher_lock(my_publisher->row->name);
	if (pub != NULL)
	{
		pub->streams = my_publisher->pipeline->ntasks;
		catalog_publisher_update(pub);
	}
	PopActiveSnapshot();
	checkpoint_commit();
	MemoryContextSwitchTo(old);
}

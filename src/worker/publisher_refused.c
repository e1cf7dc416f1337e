/*-------------------------------------------------------------------------
 *
 * publisher_refused.c
 *	  A message that Kafka refuses for good: it is found and withdrawn.
 *
 * Kafka refuses batches.  Which message of one is the cause is found by sending
 * each alone, with another producer, up to the end of the transaction that
 * failed.  If all are taken then, the batch was too large for its topic, and
 * from then on batches are smaller.
 *
 * What is found becomes a dead letter, in the transaction that marks it in its
 * segment as withdrawn: so a message waits to be sent, or was sent, or is a
 * dead letter.  It takes a number as if it were sent: of what one task wrote
 * numbers do not depend on when it was found, and where one is missing there is
 * a dead letter.  The same
 * transaction gives the publisher another id.  A server that was set back to
 * before it does not know that id, which Kafka has from the next transaction on:
 * it would go on without the letter.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "checkpoint/checkpoint.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/publisher.h"

/* of the first smaller batches, then a quarter of that, and so on */
#define BATCH_BYTES_FIRST	(256 * 1024)
#define BATCH_BYTES_LEAST	1024

bool
publisher_is_alone(void)
{
	return my_publisher->alone_until > my_publisher->published;
}

static void
fail_at_message(const char *topic, const char *reason_text, const char *detail)
{
	Reason		reason;
	char		message[SHMEM_MESSAGE_LEN];

	snprintf(message, sizeof(message), "a message cannot be sent to topic \"%s\": %s", topic, reason_text);
	reason_set(&reason, "HV000", message, detail, NULL);
	snprintf(reason.hint, sizeof(reason.hint),
			 "Let the topic take it (max.message.bytes, cleanup.policy, partitions) and start the pipeline; with on_error 'dead_letter' it would become a dead letter; reconcile_publisher(%s, 'discard') sends none of what waits.",
			 quote_literal_cstr(my_publisher->row->name));
	worker_fail_pipeline(&reason);
}

/* Where a message is, of those that were read for the transaction that failed. */
typedef struct Found
{
	OutboxSegment *segment;
	StreamOutboxReader reader;	/* has just read it */
	StreamMessage message;
} Found;

static bool
find_message(List **streams, int64 wanted, Found *found)
{
	int64		number = my_publisher->handed_over;
	int			s;

	for (s = 0; s < my_publisher->nstreams; s++)
	{
		ListCell   *lc;

		foreach(lc, streams[s])
		{
			found->segment = lfirst(lc);
			if (number + found->segment->nmessages < wanted)
			{
				number += found->segment->nmessages;
				continue;
			}
			stream_outbox_read(&found->reader, found->segment);
			while (stream_outbox_next(&found->reader, &found->message))
				if (++number == wanted)
					return true;
		}
	}
	return false;
}

/* Not its number: until it was passed for good the next attempt may find more in the streams before its own. */
static char *
describe(const Found *found)
{
	return psprintf("It was written by task %d at %s, in segment " INT64_FORMAT " of its outbox.",
					found->segment->stream, timestamptz_to_str(found->segment->written), found->segment->number);
}

static void
store_letter(const Found *found, const KafkaRefusal *refusal)
{
	const StreamMessage *message = &found->message;
	DeadLetter	letter = {0};

	letter.unsent = true;
	letter.topic = message->topic;
	letter.partition = message->partition;
	letter.timestamp_ms = message->timestamp_ms == 0 ? -1 : message->timestamp_ms;
	letter.key = message->key;
	letter.key_len = message->key_len;
	letter.value = message->value;
	letter.value_len = message->value_len;
	letter.headers = kafka_headers_json(message->headers, message->nheaders);
	letter.attempts = 1;
	letter.sqlstate = ERRCODE_FDW_ERROR;
	letter.message = psprintf("the message cannot be sent to topic \"%s\": %s", message->topic, refusal->reason);
	letter.detail = describe(found);
	catalog_dead_letter_insert(my_publisher->row->name, &letter);
}

/* for the views; letters: so many messages are dead letters by it */
static void
show_refusal(const char *text, int letters)
{
	Reason		reason;

	reason_set(&reason, "HV000", text, NULL, NULL);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	my_publisher->pipeline->bad_rows += letters;
	my_publisher->pipeline->last_error = reason;
	my_publisher->pipeline->publish_retries++;
	LWLockRelease(shmem->lock);
	counter_add(&my_publisher->slot->retries, 1);
}

/* The messages leave the outbox, and are dead letters. */
static void
withdraw(List **streams, const KafkaRefusal *refused, int n)
{
	MemoryContext old = CurrentMemoryContext;
	PublisherRow *pub;
	pg_uuid_t	writer = my_publisher->writer;
	char		text[SHMEM_MESSAGE_LEN] = "";
	int			i;

	checkpoint_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	pub = publisher_lock();
	for (i = 0; i < n; i++)
	{
		Found		found;

		if (!find_message(streams, refused[i].number, &found))
			elog(ERROR, "message " INT64_FORMAT " was refused, and not sent", refused[i].number);
		store_letter(&found, &refused[i]);
		stream_outbox_withdraw(&found.reader);
		catalog_outbox_rewrite(pub->pipeline, found.segment);
		if (i == 0)
			snprintf(text, sizeof(text), "a message cannot be sent to topic \"%s\": %s", found.message.topic, refused[i].reason);
	}
	/* without transactions Kafka has no position that could be compared */
	if (!my_publisher->row->at_least_once)
	{
		publisher_new_writer(&writer);
		pub->previous_writer = pub->writer;
		pub->writer = writer;
		catalog_publisher_update(pub);
	}
	PopActiveSnapshot();
	FAULT_POINT("publisher-before-withdraw-commit");
	checkpoint_commit();
	MemoryContextSwitchTo(old);
	my_publisher->writer = writer;
	FAULT_POINT("publisher-withdrawn");

	show_refusal(text, n);
	ereport(LOG,
			(errmsg("publisher of pipeline \"%s\": %s", my_publisher->row->name, text),
			 errdetail_plural("%d message is a dead letter now.", "%d messages are dead letters now.", n, n)));
}

/*
 * A transaction failed with KAFKA_REFUSED at a message, or a batch, for this
 * topic.  Returns where it is to be tried again, with a new handle.
 */
void
publisher_refused(List **streams, const char *topic, const KafkaError *err)
{
	const KafkaRefusal *refused;
	int			n = kafka_publisher_refused(my_publisher->kafka, &refused);
	bool		alone = my_publisher->kafka_alone;
	MemoryContext old = MemoryContextSwitchTo(my_publisher->send_cxt);
	Found		found;
	char		text[SHMEM_MESSAGE_LEN];

	FAULT_POINT("publisher-refused");
	/* else PostgreSQL's position, which is all there is then, would be that of some messages before */
	if (my_publisher->row->at_least_once && my_publisher->published > my_publisher->deleted)
		publisher_delete();
	/* the topic of one that is known may be another one than that of the last one sent */
	if (n > 0)
	{
		if (!find_message(streams, refused[0].number, &found))
			elog(ERROR, "message " INT64_FORMAT " was refused, and not sent", refused[0].number);
		topic = found.message.topic;
		if (!my_publisher->row->dead_letters)
			fail_at_message(topic, refused[0].reason, describe(&found));
	}
	if (n == 0 && alone)
		fail_at_message(topic, err->message, "It stands in the outbox, and those after it wait for it.");
	my_publisher->refused_run += n;
	if (n == 0)
	{
		int64		until = my_publisher->handed_over;
		int			s;

		for (s = 0; s < my_publisher->nstreams; s++)
		{
			ListCell   *lc;

			foreach(lc, streams[s])
				until += ((OutboxSegment *) lfirst(lc))->nmessages;
		}
		my_publisher->alone_until = until;
		my_publisher->alone_found = false;
		snprintf(text, sizeof(text), "topic \"%s\" refuses a batch of messages: %s", topic, err->message);
		show_refusal(text, 0);
		ereport(LOG,
				(errmsg("publisher of pipeline \"%s\": %s", my_publisher->row->name, text),
				 errdetail("Each is sent alone now, up to number " INT64_FORMAT ", to find the cause.", until)));
	}
	else
	{
		my_publisher->alone_found = true;
		withdraw(streams, refused, n);
		if (my_publisher->refused_run >= my_publisher->row->max_consecutive_errors)
			fail_at_message(topic, refused[0].reason,
							psprintf("%d messages were refused and none was taken in between (max_consecutive_errors); they are dead letters.",
									 my_publisher->refused_run));
	}
	kafka_publisher_abort(my_publisher->kafka, PUBLISHER_ABORT_MS);
	publisher_close_kafka();
	MemoryContextSwitchTo(old);
}

/* All that failed together was taken, or withdrawn, one by one. */
void
publisher_end_alone(void)
{
	if (!my_publisher->alone_found)
	{
		my_publisher->batch_bytes = my_publisher->batch_bytes == 0 ? BATCH_BYTES_FIRST : Max(my_publisher->batch_bytes / 4, BATCH_BYTES_LEAST);
		ereport(LOG,
				(errmsg("publisher of pipeline \"%s\": batches were too large for a topic, they have at most %d bytes now",
						my_publisher->row->name, my_publisher->batch_bytes),
				 errhint("Set batch_size of the server to less than max.message.bytes of the topic.")));
	}
	publisher_close_kafka();
}

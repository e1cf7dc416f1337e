/*-------------------------------------------------------------------------
 *
 * publisher_flight.c
 *	  What is on its way to Kafka.
 *
 * With transactions that is one whose commit is under way, at most.  At least
 * once, what is committed goes at once, while what was sent before is on its
 * way: a flight is what one look at the outbox has found.  Flights arrive in their
 * order as far as we count: the position moves when all messages of the oldest
 * one were acknowledged.  After a failure everything behind that position is
 * sent again, in order.
 *
 * Reports are served by this thread between two looks.  Where the oldest flight
 * takes long it is waited for as a transaction is, with all that is
 * known then about time-outs and missing topics (publish.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "worker/publisher.h"

StaticAssertDecl(PUBLISHER_FLIGHTS < KAFKA_FLIGHTS, "the producer counts as many");

/* so much is on its way at most, but for one flight */
#define FLIGHT_BYTES	((int64) PUBLISHER_READ_BYTES)
/* from then on the oldest flight is waited for */
#define SLOW_US			(200 * 1000)
#define SLOW_TIMEOUT_MS	15000

void
publisher_forget_flights(void)
{
	my_publisher->nflights = 0;
	my_publisher->flight_bytes = 0;
	my_publisher->handed_over = my_publisher->published;
	memcpy(my_publisher->handed, my_publisher->sent, sizeof(my_publisher->handed));
}

Flight *
publisher_oldest_flight(void)
{
	return &my_publisher->flights[my_publisher->first_flight];
}

void
publisher_depart(const Flight *flight)
{
	my_publisher->flights[(my_publisher->first_flight + my_publisher->nflights) % PUBLISHER_FLIGHTS] = *flight;
	my_publisher->handed_over = flight->number;
	memcpy(my_publisher->handed, flight->segments, sizeof(int64) * my_publisher->nstreams);
	my_publisher->flight_bytes += flight->bytes;
	my_publisher->nflights++;
}

void
publisher_arrive(int64 since_us)
{
	Flight	   *flight = publisher_oldest_flight();

	publisher_sent(flight, monotonic_us() - since_us);
	my_publisher->flight_bytes -= flight->bytes;
	my_publisher->first_flight = (my_publisher->first_flight + 1) % PUBLISHER_FLIGHTS;
	my_publisher->nflights--;
}

/* What has arrived is in Kafka; false: it has failed. */
static bool
land(KafkaError *err)
{
	int			n = kafka_publisher_arrived(my_publisher->kafka, err);

	for (; n > 0; n--)
		publisher_arrive(publisher_oldest_flight()->begun_us);
	if (my_publisher->nflights > 0)
		publisher_show_oldest(publisher_oldest_flight()->oldest);
	return n == 0;
}

static bool
start_flight(List **streams, KafkaError *err)
{
	Flight		flight = {0};

	flight.begun_us = monotonic_us();
	flight.oldest = publisher_oldest(streams);
	publisher_show_oldest(my_publisher->nflights > 0 ? publisher_oldest_flight()->oldest : flight.oldest);
	FAULT_POINT("publisher-before-begin");
	if (!kafka_publisher_begin(my_publisher->kafka, err) || !publisher_send_segments(streams, &flight, err))
		return false;
	flight.messages = flight.number - my_publisher->handed_over;
	FAULT_POINT("publisher-before-commit");
	kafka_publisher_depart(my_publisher->kafka);
	publisher_depart(&flight);
	return true;
}

/* Nothing more can go now. */
static bool
wait_for_flights(KafkaError *err)
{
	int64		slow_us = publisher_oldest_flight()->begun_us + SLOW_US;
	int64		now = monotonic_us();

	if (now >= slow_us)
		return kafka_publisher_deliver(my_publisher->kafka, NULL, NULL, 0, NULL, SLOW_TIMEOUT_MS, NULL, err);
	kafka_publisher_wait(my_publisher->kafka, (long) ((slow_us - now) / 1000 + 1));
	return true;
}

/* One that cannot start is no reason to send again and again what stands before it. */
static void
save_what_flies(bool wait)
{
	KafkaError	err;

	if (wait && my_publisher->nflights > 0 && kafka_publisher_deliver(my_publisher->kafka, NULL, NULL, 0, NULL, SLOW_TIMEOUT_MS, NULL, &err))
		(void) land(&err);
	/* the next attempt begins where PostgreSQL is */
	if (my_publisher->published > my_publisher->deleted)
		publisher_delete();
}

bool
publisher_send_ahead(void)
{
	List	   *streams[SHMEM_MAX_TASKS] = {NIL};
	KafkaError	err = {0};
	bool		started = true;
	bool		good = true;

	if (my_publisher->nflights > 0)
		good = land(&err);
	if (good)
	{
		if (my_publisher->nflights < PUBLISHER_FLIGHTS && my_publisher->flight_bytes < FLIGHT_BYTES && publisher_read_outbox(streams) > 0)
			good = started = start_flight(streams, &err);
		else if (my_publisher->nflights > 0)
			good = wait_for_flights(&err);
		else
			return false;
	}
	if (!good)
	{
		save_what_flies(!started);
		publisher_send_failed(streams, my_publisher->last_topic, &err);
	}
	return good;
}

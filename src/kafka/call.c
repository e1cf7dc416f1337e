/*-------------------------------------------------------------------------
 *
 * call.c
 *	  Calls of librdkafka that block, on a helper thread.
 *
 * The PostgreSQL thread waits meanwhile on its latch and the handle's pipe,
 * serves the handle's events, and may give the call up: because of an
 * interrupt, the time-out, or because every broker is down, which the library
 * reports long before its time-out is over.
 *
 * A call with "serves" serves events itself, on the helper thread: until it is
 * done the handle belongs to it, callbacks run there, and the PostgreSQL thread
 * looks at nothing of the handle (a commit begins by waiting for its word:
 * publish_call.c).  Such a call is waited for to its end, its
 * deadline and a little more; given up only by an interrupt, after which the
 * process does not use the handle any more.
 *
 * Threads: a KafkaCall has two owners, caller and helper.  The helper writes the
 * result, sets "done" (with a barrier), writes into the pipe; before that the
 * caller reads nothing but "done".  Whoever leaves last frees it.  The helper
 * holds a reference to the handle and touches nothing of PostgreSQL but atomics.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"

/*
 * All brokers are "down" for a moment when the first of a host's addresses
 * refuses (localhost: ::1, then 127.0.0.1), so wait for some more attempts.
 */
#define DOWN_GRACE_US		700000

/* A broker is not allowed: another one may still answer. */
#define REFUSED_GRACE_US	1000000

/* Questions given up whose helper still hangs in the library. */
#define MAX_HANGING			4

/* a call that serves: its time-outs are the library's, which come late now and then */
#define SERVING_GRACE_US	5000000

/* ---- helper thread ---- */

int
kafka_call_remaining_ms(KafkaCall *call)
{
	int64		left = call->deadline_us - monotonic_us();

	return left <= 0 ? 0 : (int) (left / 1000) + 1;
}

void
kafka_call_fail(KafkaCall *call, KafkaFailure failure, const char *text)
{
	call->failure = failure;
	snprintf(call->message, sizeof(call->message), "%s", text);
}

/* Between two attempts, on the helper thread: 20 ms. */
void
kafka_call_pause(void)
{
	struct timespec pause = {0, 20 * 1000000L};

	nanosleep(&pause, NULL);
}

void
kafka_call_leave(KafkaCall *call)
{
	if (pg_atomic_fetch_sub_u32(&call->owners, 1) != 1)
		return;
	call->free(call);
	free(call);
}

static void *
helper_main(void *arg)
{
	KafkaCall  *call = arg;
	KafkaHandle *handle = call->handle;

	call->run(call);
	pg_write_barrier();
	pg_atomic_write_u32(&call->done, 1);

	/* a full pipe wakes as well */
	if (write(handle->write_fd, "q", 1) < 0)
		Assert(errno == EAGAIN);
	kafka_call_leave(call);
	kafka_handle_release_thread(handle);
	return NULL;
}

/* ---- the calling side ---- */

void
kafka_out_of_memory(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY),
			 errmsg("out of memory")));
}

/* size: of the struct that begins with the KafkaCall; it is zeroed and malloc'd */
KafkaCall *
kafka_call_create(size_t size, KafkaHandle *handle, void (*run) (KafkaCall *call), void (*release) (KafkaCall *call), int timeout_ms)
{
	KafkaCall  *call = calloc(1, size);

	if (call == NULL)
		kafka_out_of_memory();
	pg_atomic_init_u32(&call->owners, 1);
	pg_atomic_init_u32(&call->done, 0);
	call->handle = handle;
	call->run = run;
	call->free = release;
	call->deadline_us = monotonic_us() + (int64) timeout_ms * 1000;
	return call;
}

/*
 * Waits for the end.  False: given up, "failure" and "message" of err say
 * why.  Throws on interrupts.
 */
static bool
call_wait(KafkaCall *call, KafkaError *err)
{
	KafkaHandle *handle = call->handle;
	int64		refused_since = 0;

	for (;;)
	{
		int64		now;
		int64		until = call->deadline_us + (call->serves ? SERVING_GRACE_US : 0);

		kafka_handle_drain(handle);
		if (!call->serves)
		{
			rd_kafka_poll(handle->rk, 0);
			kafka_handle_log(handle);
		}
		if (kafka_call_done(call))
			return true;
		now = monotonic_us();
		if (!call->serves && handle->down_since_us != 0)
			until = Min(until, handle->down_since_us + DOWN_GRACE_US);
		if (refused_since == 0 && kafka_handle_refused(handle))
			refused_since = now;
		if (refused_since != 0 && !call->serves)
			until = Min(until, refused_since + REFUSED_GRACE_US);
		if (now >= until)
		{
			if (call->serves)
			{
				err->failure = KAFKA_UNREACHABLE;
				snprintf(err->message, sizeof(err->message), "the library does not come back from a call");
			}
			else
				kafka_handle_explain(handle, "no broker answered in time", err);
			return false;
		}
		(void) WaitLatchOrSocket(MyLatch,
								 WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 handle->read_fd, (until - now) / 1000 + 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* False: it could not be started, and err says why. */
bool
kafka_call_start(KafkaCall *call, KafkaError *err)
{
	KafkaHandle *handle = call->handle;

	err->failure = KAFKA_OK;
	err->message[0] = '\0';
	if (pg_atomic_read_u32(&handle->refs) > MAX_HANGING)
	{
		kafka_handle_explain(handle, "earlier questions are not answered yet", err);
		return false;
	}

	/* an old outage is no reason to give up before the first attempt */
	if (handle->down_since_us != 0)
		handle->down_since_us = monotonic_us();

	kafka_handle_retain(handle);
	pg_atomic_fetch_add_u32(&call->owners, 1);
	if (kafka_thread_start(helper_main, call))
		return true;
	pg_atomic_fetch_sub_u32(&call->owners, 1);
	pg_atomic_fetch_sub_u32(&handle->refs, 1);
	err->failure = KAFKA_FAILED;
	snprintf(err->message, sizeof(err->message), "could not start a thread");
	return false;
}

/* Of a call that was started; what it has written may be read then. */
bool
kafka_call_done(KafkaCall *call)
{
	if (!pg_atomic_read_u32(&call->done))
		return false;
	pg_read_barrier();
	return true;
}

/* Of a call that is done; true: it has not failed. */
bool
kafka_call_result(KafkaCall *call, KafkaError *err)
{
	KafkaHandle *handle = call->handle;

	err->failure = call->failure;
	if (call->failure == KAFKA_UNREACHABLE)
		kafka_handle_explain(handle, call->serves ? call->message : "no broker answered in time", err);
	else
		snprintf(err->message, sizeof(err->message), "%s", call->message);
	if (call->failure == KAFKA_OK)
	{
		handle->down_since_us = 0;
		handle->reason[0] = '\0';
	}
	return call->failure == KAFKA_OK;
}

/* Waits for the end of a call that was started, and as kafka_call_result().  It is the caller's to leave. */
bool
kafka_call_finish(KafkaCall *call, KafkaError *err)
{
	err->failure = KAFKA_OK;
	err->message[0] = '\0';
	return call_wait(call, err) && kafka_call_result(call, err);
}

/*
 * Makes the call; true: it has not failed.  It is the caller's to leave in
 * either case, but where it throws.
 */
bool
kafka_call_make(KafkaCall *call, KafkaError *err)
{
	volatile bool result = false;

	if (!kafka_call_start(call, err))
		return false;
	PG_TRY();
	{
		result = kafka_call_finish(call, err);
	}
	PG_CATCH();
	{
		kafka_call_leave(call);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return result;
}

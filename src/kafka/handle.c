/*-------------------------------------------------------------------------
 *
 * handle.c
 *	  Life of a librdkafka handle: opening, callbacks, wake-up pipe, and an end
 *	  that can neither hang nor write into a foreign file descriptor.
 *
 * Callbacks copy into fixed buffers of the handle and do nothing else.  They
 * run where queues are served, which is the PostgreSQL thread only (those of
 * connect.c are another matter).
 *
 * rd_kafka_destroy() usually takes a millisecond, but it joins the library's
 * threads, and one of them may sit in getaddrinfo() for seconds.  It is
 * therefore called on a thread of its own, which is waited for at most
 * DESTROY_WAIT_MS and then left to itself.  When the process exits nothing is
 * destroyed at all: an exit that waits is not harmless.  One with live handles
 * is, but for one thing: exit() lets OpenSSL free what is its own while the
 * library's threads may be in a handshake, and a process that crashes takes the
 * whole server down.  So, once PostgreSQL has done all its own, the process ends
 * without exit()'s further handlers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "kafka/kafka_int.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#define DESTROY_WAIT_MS		100

/*
 * What a handle takes from the budget of file descriptors: the pipe, and
 * about one socket with its wake-up pipe for the bootstrap and one broker.
 */
#define HANDLE_FDS			8

/*
 * The library's thread allocates a buffer for each answer, and the task frees
 * it message by message.  By default glibc gives the pages at the top of the
 * heap back to the kernel each time and faults them in again for the next
 * answer: some 8 % of the CPU of a cheap pipeline.  KEEP_BYTES is what each
 * thread's heap may keep; what is as large as OWN_MAPPING_BYTES, more than an
 * answer of the default size, still comes and goes by itself.
 *
 * Small pieces that are freed are joined at once (M_MXFAST 0), not all of them
 * again and again as soon as something large is freed: thousands of messages,
 * allocated by one thread and freed by another, made malloc_consolidate() an
 * eighth of the CPU of a pipeline into a topic.
 */
#define KEEP_BYTES			(8 * 1024 * 1024)
#define OWN_MAPPING_BYTES	(4 * 1024 * 1024)

void
kafka_keep_memory(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
	(void) mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
	(void) mallopt(M_MXFAST, 0);
#endif
}

/*
 * Did the broker refuse us, or we the broker, as not being who it should be?  A
 * connection that broke while that was found out is none of it.  A broker that
 * misses a certificate of ours says so when it has already accepted the
 * connection: then it is an ordinary failure to receive, with OpenSSL's words.
 */
static bool
is_login_failure(rd_kafka_resp_err_t err, const char *text)
{
	if (text == NULL)
		return err == RD_KAFKA_RESP_ERR__AUTHENTICATION || err == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
			return strstr(text, "Local: ") == NULL;
		default:
			return strstr(text, "SSL routines") != NULL && strstr(text, "unexpected eof") == NULL;
	}
}

static void
remember_reason(KafkaHandle *handle, rd_kafka_resp_err_t err, const char *text)
{
	char	   *detail;
	bool		login = is_login_failure(err, text);

	/* connection trouble comes after a failed login: that is the cause */
	if (handle->reason_kind == KAFKA_LOGIN_FAILED && !login && handle->down_since_us != 0)
		return;
	handle->reason_kind = login ? KAFKA_LOGIN_FAILED : KAFKA_UNREACHABLE;
	snprintf(handle->reason, sizeof(handle->reason), "%s", text ? text : rd_kafka_err2str(err));

	/* " (after 3ms in state CONNECT, 4 identical error(s) suppressed)" changes all the time */
	detail = strstr(handle->reason, " (after ");
	if (detail && strstr(detail, " in state "))
		*detail = '\0';
}

void
kafka_handle_set_reason(KafkaHandle *handle, const char *text)
{
	handle->reason_kind = KAFKA_UNREACHABLE;
	strlcpy(handle->reason, text, sizeof(handle->reason));
}

static void
error_callback(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	KafkaHandle *handle = opaque;

	switch (err)
	{
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			if (handle->reason[0] == '\0')
				remember_reason(handle, err, reason);
			if (handle->down_since_us == 0)
				handle->down_since_us = monotonic_us();
			break;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
			handle->topic_missing = true;
			break;
		default:
			remember_reason(handle, err, reason);
			break;
	}
}

static void
log_callback(const rd_kafka_t *rk, int level, const char *fac, const char *buf)
{
	KafkaHandle *handle = rd_kafka_opaque(rk);

	snprintf(handle->log_line, sizeof(handle->log_line), "%s: %s", fac, buf);
	handle->log_new = true;
}

/* ---- the end of the process ---- */

static int	exit_code = -1;		/* of proc_exit(); -1: not there yet */

static void
remember_exit_code(int code, Datum arg)
{
	exit_code = code;
}

/* The first of exit()'s handlers, as it was registered last.  The callbacks of PostgreSQL have all run. */
static void
end_process(void)
{
	if (exit_code >= 0)
		_exit(exit_code);
}

/* After the library's first handle: then OpenSSL has registered its handler. */
static void
watch_exit(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	on_proc_exit(remember_exit_code, (Datum) 0);
	if (atexit(end_process) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

/* ---- callbacks and opening ---- */

static int
stats_callback(rd_kafka_t *rk, char *json, size_t len, void *opaque)
{
	KafkaHandle *handle = opaque;

	if (handle->stats)
		handle->stats(handle->stats_arg, json, len);
	return 0;					/* the library frees it */
}

KafkaHandle *
kafka_handle_open(rd_kafka_type_t type, const KafkaConf *conf, rd_kafka_conf_t *rdconf)
{
	KafkaHandle *handle = calloc(1, sizeof(KafkaHandle));
	int			fds[2];
	char		errstr[512];

	if (handle != NULL && !kafka_handle_guard(handle, conf, rdconf))
	{
		free(handle);
		handle = NULL;
	}
	if (handle == NULL)
	{
		rd_kafka_conf_destroy(rdconf);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
	{
		int			save_errno = errno;

		host_list_free(handle->allowed);
		free(handle);
		rd_kafka_conf_destroy(rdconf);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not create pipe for Kafka client: %m")));
	}
	pg_atomic_init_u32(&handle->refs, 1);
	pthread_mutex_init(&handle->refused_lock, NULL);
	handle->read_fd = fds[0];
	handle->write_fd = fds[1];

	rd_kafka_conf_set_opaque(rdconf, handle);
	rd_kafka_conf_set_error_cb(rdconf, error_callback);
	rd_kafka_conf_set_log_cb(rdconf, log_callback);
	rd_kafka_conf_set_stats_cb(rdconf, stats_callback);

	errstr[0] = '\0';
	handle->rk = rd_kafka_new(type, rdconf, errstr, sizeof(errstr));
	watch_exit();
	if (handle->rk == NULL)
	{
		close(fds[0]);
		close(fds[1]);
		host_list_free(handle->allowed);
		free(handle);
		rd_kafka_conf_destroy(rdconf);
		ereport(ERROR,
				(errcode(ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION),
				 errmsg("could not create Kafka client"),
				 errdetail_internal("%s", errstr)));
	}
	for (int i = 0; i < HANDLE_FDS; i++)
		ReserveExternalFD();
	return handle;
}

KafkaHandle *
kafka_handle_open_polled(rd_kafka_type_t type, const KafkaConf *conf, rd_kafka_conf_t *rdconf)
{
	KafkaHandle *handle = kafka_handle_open(type, conf, rdconf);

	handle->main_queue = rd_kafka_queue_get_main(handle->rk);
	rd_kafka_queue_io_event_enable(handle->main_queue, handle->write_fd, "m", 1);
	rd_kafka_set_log_queue(handle->rk, NULL);
	return handle;
}

void
kafka_handle_retain(KafkaHandle *handle)
{
	pg_atomic_fetch_add_u32(&handle->refs, 1);
}

/* The last reference is gone: no PostgreSQL in here, it runs on any thread. */
static void *
handle_destroy(void *arg)
{
	KafkaHandle *handle = arg;

	if (handle->main_queue)
	{
		rd_kafka_queue_io_event_enable(handle->main_queue, -1, NULL, 0);
		rd_kafka_queue_destroy(handle->main_queue);
	}
	rd_kafka_destroy_flags(handle->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	/* now nobody is left who could write into the pipe */
	close(handle->write_fd);
	close(handle->read_fd);
	host_list_free(handle->allowed);
	pthread_mutex_destroy(&handle->refused_lock);
	free(handle);
	return NULL;
}

static int
start_blocked(pthread_t *thread, void *(*main) (void *), void *arg)
{
	sigset_t	all;
	sigset_t	old;
	int			rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

bool
kafka_thread_start(void *(*main) (void *), void *arg)
{
	pthread_t	thread;
	int			rc = start_blocked(&thread, main, arg);

	if (rc != 0)
	{
		errno = rc;
		return false;
	}
	pthread_detach(thread);
	return true;
}

void
kafka_handle_release(KafkaHandle *handle)
{
	pthread_t	thread;
	struct timespec until;

	if (proc_exit_inprogress)
		return;
	for (int i = 0; i < HANDLE_FDS; i++)
		ReleaseExternalFD();
	if (pg_atomic_fetch_sub_u32(&handle->refs, 1) != 1)
		return;

	if (start_blocked(&thread, handle_destroy, handle) != 0)
		return;					/* no thread to be had: better leaked than hung */
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += DESTROY_WAIT_MS * 1000000L;
	if (until.tv_nsec >= 1000000000L)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		pthread_detach(thread);
}

void
kafka_handle_release_thread(KafkaHandle *handle)
{
	if (pg_atomic_fetch_sub_u32(&handle->refs, 1) == 1)
		(void) handle_destroy(handle);
}

void
kafka_handle_drain(KafkaHandle *handle)
{
	char		buf[256];

	while (read(handle->read_fd, buf, sizeof(buf)) == sizeof(buf))
		;
}

void
kafka_handle_log(KafkaHandle *handle)
{
	if (handle->log_new)
	{
		handle->log_new = false;
		elog(DEBUG1, "librdkafka: %s", handle->log_line);
	}
}

/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  Another wall clock for a process and its children, by LD_PRELOAD.
 *
 * The file that STREAMPROC_CLOCK names holds two numbers of microseconds
 * (int64): what the wall clock is off, and what the monotonic clock is ahead,
 * as if the machine had done nothing for so long; the second one only grows.
 * It is mapped, so a test that writes it makes the clocks jump at once.
 *
 * Waits that end at a time of the wall clock are part of it: the kernel would
 * end them by the clock as it is after a jump, so a jump back makes those that
 * are under way longer.  Here such a wait ends for nothing now and then, as
 * POSIX allows, until the time has come.  (libfaketime does not know the
 * waits of C11 threads, which librdkafka uses: behind its back they end an
 * hour too soon or too late.)
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS	20000000L	/* how long a wait may not see a jump */

static volatile int64_t no_offset[2];
static volatile int64_t *offset_us = no_offset;

static int	(*real_clock_gettime) (clockid_t, struct timespec *);
static int	(*real_cnd_timedwait) (cnd_t *, mtx_t *, const struct timespec *);
static int	(*real_pthread_cond_timedwait) (pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor))
static void
begin(void)
{
	const char *path = getenv("STREAMPROC_CLOCK");
	int			fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *map;

	real_clock_gettime = (int (*) (clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	real_cnd_timedwait = (int (*) (cnd_t *, mtx_t *, const struct timespec *)) dlsym(RTLD_NEXT, "cnd_timedwait");
	real_pthread_cond_timedwait = (int (*) (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))
		dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(no_offset), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		offset_us = map;
}

static void
real_now(clockid_t clock, struct timespec *ts)
{
	if (real_clock_gettime == NULL)
		begin();				/* somebody's constructor came first */
	real_clock_gettime(clock, ts);
}

static void
add_ns(struct timespec *ts, int64_t sec, int64_t ns)
{
	ts->tv_sec += sec;
	ts->tv_nsec += ns;
	if (ts->tv_nsec >= 1000000000L)
	{
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000L;
	}
	else if (ts->tv_nsec < 0)
	{
		ts->tv_sec--;
		ts->tv_nsec += 1000000000L;
	}
}

static void
now(struct timespec *ts)
{
	int64_t		off = offset_us[0];

	real_now(CLOCK_REALTIME, ts);
	add_ns(ts, off / 1000000, off % 1000000 * 1000);
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
	{
		now(ts);
		return 0;
	}
	if (real_clock_gettime == NULL)
		begin();
	if (real_clock_gettime(clock, ts) != 0)
		return -1;
	if (clock == CLOCK_MONOTONIC)
		add_ns(ts, offset_us[1] / 1000000, offset_us[1] % 1000000 * 1000);
	return 0;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	(void) zone;
	now(&ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *into)
{
	struct timespec ts;

	now(&ts);
	if (into)
		*into = ts.tv_sec;
	return ts.tv_sec;
}

int
timespec_get(struct timespec *ts, int base)
{
	if (base != TIME_UTC)
		return 0;
	now(ts);
	return base;
}

/* Has the time come?  Else "slice" is when to look again, by the real clock. */
static int
is_over(const struct timespec *until, struct timespec *slice)
{
	struct timespec ts;
	int64_t		left;

	now(&ts);
	left = (int64_t) (until->tv_sec - ts.tv_sec) * 1000000000L + until->tv_nsec - ts.tv_nsec;
	if (left <= 0)
		return 1;
	real_now(CLOCK_REALTIME, slice);
	add_ns(slice, 0, left < SLICE_NS ? left : SLICE_NS);
	return 0;
}

int
cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until)
{
	struct timespec slice;
	int			rc;

	/* who waits for a time that is over still gives up the mutex */
	if (is_over(until, &slice))
		real_now(CLOCK_REALTIME, &slice);
	rc = real_cnd_timedwait(cond, mutex, &slice);
	return rc == thrd_timedout && !is_over(until, &slice) ? thrd_success : rc;
}

int
pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
	struct timespec slice;
	int			rc;

	if (is_over(until, &slice))
		real_now(CLOCK_REALTIME, &slice);
	rc = real_pthread_cond_timedwait(cond, mutex, &slice);
	return rc == ETIMEDOUT && !is_over(until, &slice) ? 0 : rc;
}

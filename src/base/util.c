/*-------------------------------------------------------------------------
 *
 * util.c
 *	  Small things that several rooms need: nearest name, monotonic clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "base/base.h"
#include "utils/varlena.h"

/* varstr_levenshtein() throws beyond this */
#define NAME_MAX_LEN	255

/*
 * The name nearest to "wanted", or NULL where none is near enough to be what
 * the user meant (at most a third of its length, at least one letter).
 */
const char *
closest_match(const char *wanted, const char *const *names, int n)
{
	const char *best = NULL;
	int			best_distance = Max(2, (int) strlen(wanted) / 3) + 1;
	int			i;

	if (strlen(wanted) > NAME_MAX_LEN)
		return NULL;
	for (i = 0; i < n; i++)
	{
		int			d;

		if (strlen(names[i]) > NAME_MAX_LEN)
			continue;
		d = varstr_levenshtein(wanted, strlen(wanted), names[i], strlen(names[i]), 1, 1, 1, true);
		if (d < best_distance)
		{
			best_distance = d;
			best = names[i];
		}
	}
	return best;
}

/*
 * Microseconds of a clock that never jumps.  Intervals (idleness, back-off,
 * commit intervals) use it; wall clock time is only for what users read.
 */
int64
monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64
cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

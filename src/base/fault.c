/*-------------------------------------------------------------------------
 *
 * fault.c
 *	  Fault points: named places where a test can make a process wait, fail
 *	  or die.
 *
 * PostgreSQL 15 has no injection points.  Ours are compiled in always and
 * cost one test of a global while streamproc.fault_points is empty.  The
 * setting is a list "point=action[@n[-m]][:p]": from the n-th time (default
 * 1) to the m-th (default: for ever) that this process comes by, with a
 * probability of p percent (default 100), it does what the action says:
 *
 *	error	ereport(ERROR) with SQLSTATE XX000... class as a bug would have
 *	retry	ereport(ERROR) with SQLSTATE 40001, as a passing trouble would have
 *	memory	ereport(ERROR) as palloc() does when there is no more memory
 *	fatal	ereport(FATAL)
 *	kill	SIGKILL to itself
 *	wait	waits until the setting changes
 *
 * A point may be given as "*": any.  Each hit writes a LOG line first, so a
 * test can count the faults that really happened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "base/base.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/guc.h"

bool		fault_points_active = false;

#define FAULT_MAX_POINTS 64

typedef enum FaultAction
{
	FAULT_ERROR,
	FAULT_RETRY,
	FAULT_MEMORY,
	FAULT_FATAL,
	FAULT_KILL,
	FAULT_WAIT
} FaultAction;

typedef struct FaultPoint
{
	char		name[64];
	FaultAction action;
	int			from;			/* acts from this hit on */
	int			to;				/* up to this one */
	double		percent;
	int			hits;			/* by this process, since the setting changed */
} FaultPoint;

static FaultPoint points[FAULT_MAX_POINTS];
static int	npoints = -1;		/* -1: the setting has not been read yet */

static const char *const action_names[] = {"error", "retry", "memory", "fatal", "kill", "wait"};

/* Reads one "name=action[@n[-m]][:p]". */
static bool
parse_one(const char *item, size_t len, FaultPoint *point)
{
	char		buf[128];
	char	   *eq;
	char	   *at;
	char	   *colon;
	int			i;

	if (len == 0 || len >= sizeof(buf))
		return false;
	memcpy(buf, item, len);
	buf[len] = '\0';
	eq = strchr(buf, '=');
	if (eq == NULL || eq == buf || (size_t) (eq - buf) >= sizeof(point->name))
		return false;
	*eq++ = '\0';
	point->from = 1;
	point->to = PG_INT32_MAX;
	point->percent = 100;
	point->hits = 0;
	colon = strchr(eq, ':');
	if (colon != NULL)
	{
		*colon++ = '\0';
		point->percent = atof(colon);
		if (point->percent <= 0 || point->percent > 100)
			return false;
	}
	at = strchr(eq, '@');
	if (at != NULL)
	{
		char	   *dash = strchr(at + 1, '-');

		*at++ = '\0';
		point->from = atoi(at);
		if (dash != NULL)
			point->to = atoi(dash + 1);
		if (point->from < 1 || point->to < point->from)
			return false;
	}
	strlcpy(point->name, buf, sizeof(point->name));
	for (i = 0; i < (int) lengthof(action_names); i++)
	{
		if (strcmp(eq, action_names[i]) == 0)
		{
			point->action = (FaultAction) i;
			return true;
		}
	}
	return false;
}

/*
 * Is the text a valid setting?  With "into", remembers the points.
 */
static bool
parse_all(const char *text, FaultPoint *into, int *count)
{
	const char *p = text;
	int			n = 0;

	while (p != NULL && *p != '\0')
	{
		const char *comma = strchr(p, ',');
		size_t		len;
		FaultPoint	point;

		while (*p == ' ')
			p++;
		len = comma ? (size_t) (comma - p) : strlen(p);
		while (len > 0 && p[len - 1] == ' ')
			len--;
		if (n >= FAULT_MAX_POINTS || !parse_one(p, len, &point))
			return false;
		if (into != NULL)
			into[n] = point;
		n++;
		p = comma ? comma + 1 : NULL;
	}
	if (count != NULL)
		*count = n;
	return true;
}

bool
fault_points_check_text(const char *text)
{
	return parse_all(text, NULL, NULL);
}

void
fault_points_reset(void)
{
	npoints = -1;
}

/* Waits until another setting takes this wait away. */
static void
fault_wait(void)
{
	while (npoints >= 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100L,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		guc_reload();
	}
}

void
fault_point_hit(const char *name)
{
	int			i;

	if (npoints < 0)
	{
		if (!parse_all(streamproc_fault_points, points, &npoints))
			npoints = 0;
	}
	for (i = 0; i < npoints; i++)
	{
		FaultPoint *point = &points[i];

		if (strcmp(point->name, name) != 0 && strcmp(point->name, "*") != 0)
			continue;
		if (++point->hits < point->from || point->hits > point->to)
			continue;
		if (point->percent < 100 &&
			pg_prng_double(&pg_global_prng_state) * 100.0 >= point->percent)
			continue;

		/* to the server log only: a test counts these lines */
		ereport(LOG_SERVER_ONLY,
				(errmsg("streamproc fault point \"%s\": %s", name, action_names[point->action])));
		switch (point->action)
		{
			case FAULT_ERROR:
				ereport(ERROR,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("fault point \"%s\"", name)));
				break;
			case FAULT_RETRY:
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("fault point \"%s\"", name)));
				break;
			case FAULT_MEMORY:
				ereport(ERROR,
						(errcode(ERRCODE_OUT_OF_MEMORY),
						 errmsg("out of memory"),
						 errdetail("Fault point \"%s\".", name)));
				break;
			case FAULT_FATAL:
				ereport(FATAL,
						(errcode(ERRCODE_ADMIN_SHUTDOWN),
						 errmsg("fault point \"%s\"", name)));
				break;
			case FAULT_KILL:
				kill(MyProcPid, SIGKILL);
				break;
			case FAULT_WAIT:
				fault_wait();
				return;
		}
	}
}

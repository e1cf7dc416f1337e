/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings of streamproc, and how its workers follow them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>

#include "base/base.h"
#include "base/hostlist.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

int			streamproc_max_pipelines = 64;
int			streamproc_max_workers = 256;
int			streamproc_max_partitions = 2048;
int			streamproc_default_parallelism = 2;
int			streamproc_min_commit_interval = 2;
int			streamproc_early_copy = 16384;
int			streamproc_stop_timeout = 10000;
int			streamproc_metadata_interval = 30000;
int			streamproc_connect_timeout = 10000;
int			streamproc_queue_size = 2048;
int			streamproc_restart_backoff_max = 30000;
int			streamproc_state_memory = 256 * 1024;
int			streamproc_outbox_size = 256 * 1024;
char	   *streamproc_fault_points = NULL;
char	   *streamproc_allowed_brokers = NULL;

static bool allowed_brokers_check(char **newval, void **extra, GucSource source);
static bool fault_points_check(char **newval, void **extra, GucSource source);
static void fault_points_assign(const char *newval, void *extra);

/*
 * What has to hold in a server that does not preload the library, too: the
 * foreign data wrapper may be used there.  Were it not defined, anybody could
 * set a variable of that name.
 */
void
guc_define_always(void)
{
	DefineCustomStringVariable("streamproc.allowed_brokers",
							   "Kafka brokers that this server may connect to.",
							   "A list of host, host:port, *.domain, address, network/bits or *, separated by commas.",
							   &streamproc_allowed_brokers,
							   "*", PGC_SIGHUP, GUC_LIST_INPUT | GUC_SUPERUSER_ONLY,
							   allowed_brokers_check, NULL, NULL);
}

void
guc_define(void)
{
	DefineCustomIntVariable("streamproc.max_pipelines",
							"Number of pipelines that the server can hold in shared memory.",
							NULL, &streamproc_max_pipelines,
							64, 1, 10000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.max_workers",
							"Number of launchers, tasks and publishers that the server can run at once.",
							"Each also needs one of max_worker_processes.",
							&streamproc_max_workers,
							256, 2, 10000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.max_partitions",
							"Number of topic partitions, over all pipelines, that the views can show.",
							NULL, &streamproc_max_partitions,
							2048, 1, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.default_parallelism",
							"Number of tasks of a pipeline that does not say how many.",
							"Never more than its topics have partitions.",
							&streamproc_default_parallelism,
							2, 1, 64, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.min_commit_interval",
							"Shortest time between two commits of a task.",
							NULL, &streamproc_min_commit_interval,
							2, 0, 10000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.early_copy",
							"Changed groups from which on a checkpoint copies them before its tasks stand still.",
							"Fewer are copied while they stand. Copying early costs a stop of all tasks less, and some groups are copied twice.",
							&streamproc_early_copy,
							16384, 1, INT_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.stop_timeout",
							"How long a stopping pipeline may take for its last checkpoint before it is cancelled.",
							NULL, &streamproc_stop_timeout,
							10000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.metadata_interval",
							"How often topics are asked for new partitions.",
							NULL, &streamproc_metadata_interval,
							30000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.connect_timeout",
							"How long a statement on a topic waits for the cluster to answer.",
							NULL, &streamproc_connect_timeout,
							10000, 100, 600000, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.queue_size",
							"Memory for messages that a task has fetched and not yet taken, shared out over its partitions.",
							"A larger queue costs CPU: fetched messages leave the processor's cache.",
							&streamproc_queue_size,
							2048, 64, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.restart_backoff_max",
							"Longest wait before a failed worker is started again.",
							NULL, &streamproc_restart_backoff_max,
							30000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.state_memory",
							"Shared memory for the state of a pipeline that does not say how much.",
							"A pipeline that needs more stops.",
							&streamproc_state_memory,
							256 * 1024, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("streamproc.outbox_size",
							"How much of a pipeline may wait to be sent to topics.",
							"Beyond it the pipeline takes no input until something was sent.",
							&streamproc_outbox_size,
							256 * 1024, 64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable("streamproc.fault_points",
							   "Places where a test makes a process fail: point=action[@n[-m]][:p], separated by commas.",
							   "Actions are error, retry, memory, fatal, kill and wait; @n-m acts from the n-th to the m-th hit, :p with probability p percent.",
							   &streamproc_fault_points,
							   "", PGC_SUSET, GUC_NOT_IN_SAMPLE | GUC_SUPERUSER_ONLY,
							   fault_points_check, fault_points_assign, NULL);

	MarkGUCPrefixReserved("streamproc");
}

static bool
allowed_brokers_check(char **newval, void **extra, GucSource source)
{
	char		error[512];
	HostList   *list = host_list_parse(*newval, error, sizeof(error));

	if (list == NULL)
	{
		GUC_check_errdetail("%s.", error);
		GUC_check_errhint("Write host, host:port, *.example.com, 10.0.0.0/8, [::1]:9092 or *, separated by commas.");
		return false;
	}
	host_list_free(list);
	return true;
}

static bool
fault_points_check(char **newval, void **extra, GucSource source)
{
	return fault_points_check_text(*newval);
}

static void
fault_points_assign(const char *newval, void *extra)
{
	/* any reload assigns it again: waits and counts go on */
	if (newval != NULL && streamproc_fault_points != NULL && strcmp(newval, streamproc_fault_points) == 0)
		return;
	fault_points_active = newval != NULL && newval[0] != '\0';
	fault_points_reset();
}

/*
 * Signals of a background worker: it can be terminated and told of new
 * settings.  The first guc_reload() always reads them: PostgreSQL ignores
 * SIGHUP in a worker from its fork to here, and a reload in between would be
 * lost for its whole life.
 */
void
guc_worker_signals(void)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ConfigReloadPending = true;
	BackgroundWorkerUnblockSignals();
}

/* takes over new settings, if there may be any */
void
guc_reload(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

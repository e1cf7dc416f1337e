/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Makes the shared struct at the start of the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "shmem/shmem.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

ShmemState *shmem = NULL;

static shmem_request_hook_type prev_request_hook = NULL;
static shmem_startup_hook_type prev_startup_hook = NULL;

static Size
shmem_size(void)
{
	Size		size = MAXALIGN(sizeof(ShmemState));

	size = add_size(size, MAXALIGN(mul_size(sizeof(PipelineSlot), streamproc_max_pipelines)));
	size = add_size(size, MAXALIGN(mul_size(sizeof(WorkerSlot), streamproc_max_workers)));
	size = add_size(size, MAXALIGN(mul_size(sizeof(PartitionSlot), streamproc_max_partitions)));
	return size;
}

static void
shmem_request(void)
{
	if (prev_request_hook)
		prev_request_hook();
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche("streamproc", 1);
}

static void
shmem_startup(void)
{
	bool		found;
	char	   *p;
	int			i;

	if (prev_startup_hook)
		prev_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shmem = ShmemInitStruct("streamproc", shmem_size(), &found);
	if (!found)
	{
		memset(shmem, 0, shmem_size());
		shmem->lock = &(GetNamedLWLockTranche("streamproc"))->lock;
		shmem->npipelines = streamproc_max_pipelines;
		shmem->nworkers = streamproc_max_workers;
		shmem->npartitions = streamproc_max_partitions;

		p = (char *) shmem + MAXALIGN(sizeof(ShmemState));
		shmem->pipelines = (PipelineSlot *) p;
		p += MAXALIGN(sizeof(PipelineSlot) * shmem->npipelines);
		shmem->workers = (WorkerSlot *) p;
		p += MAXALIGN(sizeof(WorkerSlot) * shmem->nworkers);
		shmem->partitions = (PartitionSlot *) p;

		for (i = 0; i < shmem->npipelines; i++)
		{
			PipelineSlot *slot = &shmem->pipelines[i];

			slot->launcher_slot = -1;
			pg_atomic_init_u64(&slot->rows_in, 0);
			pg_atomic_init_u64(&slot->rows_out, 0);
			pg_atomic_init_u64(&slot->bytes_in, 0);
			pg_atomic_init_u64(&slot->checkpoints, 0);
			slot->publisher_slot = -1;
			for (int s = 0; s < SHMEM_MAX_TASKS; s++)
			{
				pg_atomic_init_u64(&slot->outbox_written[s], 0);
				pg_atomic_init_u64(&slot->outbox_sent[s], 0);
			}
			pg_atomic_init_u64(&slot->outbox_rows, 0);
			pg_atomic_init_u32(&slot->publisher_looks, 0);
			pg_atomic_init_u32(&slot->publisher_turns, 0);
			pg_atomic_init_u64(&slot->publish_period_us, 0);
			pg_atomic_init_u64(&slot->outbox_bytes, 0);
			pg_atomic_init_u64(&slot->published_rows, 0);
			pg_atomic_init_u64(&slot->published_bytes, 0);
			ConditionVariableInit(&slot->changed);
		}
		for (i = 0; i < shmem->nworkers; i++)
		{
			WorkerSlot *slot = &shmem->workers[i];

			pg_atomic_init_u64(&slot->rows_in, 0);
			pg_atomic_init_u64(&slot->rows_out, 0);
			pg_atomic_init_u64(&slot->batches, 0);
			pg_atomic_init_u64(&slot->commits, 0);
			pg_atomic_init_u64(&slot->retries, 0);
		}
		for (i = 0; i < shmem->npartitions; i++)
		{
			PartitionSlot *slot = &shmem->partitions[i];

			pg_atomic_init_u64(&slot->next_offset, 0);
			pg_atomic_init_u64(&slot->committed, 0);
			pg_atomic_init_u64(&slot->end_offset, PG_UINT64_MAX);
			pg_atomic_init_u64(&slot->watermark, (uint64) PG_INT64_MIN);
			pg_atomic_init_u64(&slot->last_record, (uint64) PG_INT64_MIN);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
shmem_install_hooks(void)
{
	prev_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

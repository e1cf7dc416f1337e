/*-------------------------------------------------------------------------
 *
 * init.c
 *	  Loading of the library.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/api.h"
#include "base/base.h"
#include "catalog/catalog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "plan/keyed.h"
#include "plan/plan.h"
#include "shmem/shmem.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	guc_define_always();

	/*
	 * Loaded later than by the postmaster there is no shared memory: then the
	 * functions say what to do, and nothing is set up.
	 */
	if (!process_shared_preload_libraries_in_progress)
		return;
	guc_define();
	upsert_init();
	keyed_init();
	shmem_install_hooks();
	catalog_install_callbacks();
	api_install_hooks();
	/* pg_upgrade moves files; pipelines run when it is done */
	if (!IsBinaryUpgrade)
		supervisor_register();
}

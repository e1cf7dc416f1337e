/*-------------------------------------------------------------------------
 *
 * api.h
 *	  The SQL functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_API_H
#define STREAMPROC_API_H

#include "postgres.h"

#include "catalog/catalog.h"
#include "fmgr.h"

/* in pipeline_api.c: installs the ProcessUtility hook */
extern void api_install_hooks(void);

/* in pipeline_api.c: what functions on one pipeline begin with */
/* the first argument, a name */
extern char *api_arg_name(FunctionCallInfo fcinfo);
/* throws where it is null */
extern Datum api_arg_datum(FunctionCallInfo fcinfo, int n, const char *name);
/* reads the row under its lock and checks the caller; "function" is named where the transaction may not write */
extern PipelineRow *api_get_for_update(const char *name, const char *function, void (*check) (const PipelineRow *row));

/* in rights.c */
/* owner, member of the owner, or superuser: everything */
extern void rights_check_owner(const PipelineRow *row);
/* those, and who was granted EXECUTE on the pipeline's procedure: start, stop, wait */
extern void rights_check_operator(const PipelineRow *row);
/* may wait for it: an operator, and members of pg_read_all_stats */
extern void rights_check_waiter(const PipelineRow *row);
/* the pipeline's rows in the views */
extern bool rights_visible(Oid procedure, Oid owner);
/* texts that may quote values of rows */
extern bool rights_sees_values(Oid owner);
/* takes such texts out of a reason where the caller may not see them */
extern void rights_mask_reason(Oid owner, Reason *reason);
/* trust_owners lends a superuser's rights: only he can decide */
extern void rights_check_trust(bool trust_owners);
/* may a worker connect to this database as the role? */
extern void rights_check_worker_login(Oid role);

/* in define.c */
extern Oid	define_procedure(const char *name, List *queries, bool replace);
extern void drop_procedure(Oid procedure);

#endif							/* STREAMPROC_API_H */

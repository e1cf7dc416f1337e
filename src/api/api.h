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
/* reads the row under its lock and checks the owner; "function" is named where the transaction may not write */
extern PipelineRow *api_get_for_update(const char *name, const char *function);

/* in rights.c */
extern void rights_check_owner(const PipelineRow *row);
extern bool rights_visible(Oid owner);
/* may a worker connect to this database as the role? */
extern void rights_check_worker_login(Oid role);

/* in define.c */
extern Oid	define_procedure(const char *name, List *queries, bool replace);
extern void drop_procedure(Oid procedure);

#endif							/* STREAMPROC_API_H */

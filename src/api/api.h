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

/* in rights.c */
extern void rights_check_owner(const PipelineRow *row);
extern bool rights_visible(Oid owner);
/* may a worker connect to this database as the role? */
extern void rights_check_worker_login(Oid role);

/* in define.c */
extern Oid	define_procedure(const char *name, List *queries, bool replace);
extern void drop_procedure(Oid procedure);

#endif							/* STREAMPROC_API_H */

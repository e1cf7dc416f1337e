/*-------------------------------------------------------------------------
 *
 * define.c
 *	  A pipeline's statements as a procedure with a BEGIN ATOMIC body.
 *
 * Stored so, PostgreSQL keeps real dependencies: DROP TABLE refuses, CASCADE
 * drops the pipeline, ALTER of a used column is refused, renames follow.  The
 * procedure is made from the analysed statements, in the schema of the
 * extension in which nobody else can create, and belongs to the caller as
 * whom all checks ran.  EXECUTE is taken from everybody, the owner included.
 * Where the owner grants it, it means: may start and stop the pipeline (see
 * rights.c).  CALL, which would run the whole topic into the sink, is refused
 * to everybody in event_api.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "api/api.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_shdepend.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"

/* The ACL of a procedure; NULL: it has none, which means the default. */
static Acl *
get_acl(Oid procedure)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(procedure));
	bool		isnull;
	Datum		acl;
	Acl		   *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for procedure %u", procedure);
	acl = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proacl, &isnull);
	result = isnull ? NULL : DatumGetAclPCopy(acl);
	ReleaseSysCache(tuple);
	return result;
}

/* NULL: the default, under which the owner may have his new text validated. */
static void
set_acl(Oid procedure, Acl *acl)
{
	Relation	rel = table_open(ProcedureRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(PROCOID, ObjectIdGetDatum(procedure));
	Datum		values[Natts_pg_proc] = {0};
	bool		isnull[Natts_pg_proc] = {0};
	bool		replace[Natts_pg_proc] = {0};
	HeapTuple	new;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for procedure %u", procedure);
	if (acl != NULL)
		values[Anum_pg_proc_proacl - 1] = PointerGetDatum(acl);
	else
		isnull[Anum_pg_proc_proacl - 1] = true;
	replace[Anum_pg_proc_proacl - 1] = true;
	new = heap_modify_tuple(tuple, RelationGetDescr(rel), values, isnull, replace);
	CatalogTupleUpdate(rel, &new->t_self, new);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/*
 * A new procedure: nobody may execute it, the owner included, whatever
 * ALTER DEFAULT PRIVILEGES say.  The roles that those named must not hang on it
 * as dependencies either, or they could never be dropped.
 */
static void
clear_acl(Oid procedure)
{
	Acl		   *given = get_acl(procedure);
	Acl		   *empty = make_empty_acl();
	Oid		   *given_roles;
	Oid		   *no_roles;
	int			ngiven = given ? aclmembers(given, &given_roles) : 0;
	int			nnone = aclmembers(empty, &no_roles);

	set_acl(procedure, empty);
	if (ngiven > 0)
		updateAclDependencies(ProcedureRelationId, procedure, 0, GetUserId(),
							  ngiven, given_roles, nnone, no_roles);
}

Oid
define_procedure(const char *name, List *queries, bool replace)
{
	Oid			schema = get_namespace_oid(CATALOG_PIPELINE_SCHEMA, false);
	oidvector  *noargs = buildoidvector(NULL, 0);
	ObjectAddress address;
	Oid			existing_owner;
	Acl		   *granted = NULL;
	Oid			existing = catalog_procedure(name, &existing_owner);

	if (OidIsValid(existing) && !replace)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("procedure %s.%s already exists", CATALOG_PIPELINE_SCHEMA, quote_identifier(name)),
				 errhint("Drop it: DROP PROCEDURE %s.%s.", CATALOG_PIPELINE_SCHEMA, quote_identifier(name))));

	if (OidIsValid(existing))
	{
		granted = get_acl(existing);
		set_acl(existing, NULL);
	}
	address = ProcedureCreate(name, schema, replace, false,
							  VOIDOID,
							  OidIsValid(existing) ? existing_owner : GetUserId(),
							  SQLlanguageId, F_FMGR_SQL_VALIDATOR,
							  "",	/* prosrc: not used with a body */
							  NULL,
							  (Node *) list_make1(queries),
							  PROKIND_PROCEDURE,
							  false,	/* security definer */
							  false,	/* leakproof */
							  false,	/* strict */
							  PROVOLATILE_VOLATILE,
							  PROPARALLEL_UNSAFE,
							  noargs,
							  PointerGetDatum(NULL), PointerGetDatum(NULL), PointerGetDatum(NULL),
							  NIL,
							  PointerGetDatum(NULL), PointerGetDatum(NULL),
							  InvalidOid,
							  100, 0);
	CommandCounterIncrement();
	if (OidIsValid(existing))
		set_acl(address.objectId, granted ? granted : make_empty_acl());
	else
		clear_acl(address.objectId);
	return address.objectId;
}

void
drop_procedure(Oid procedure)
{
	ObjectAddress address;

	ObjectAddressSet(address, ProcedureRelationId, procedure);
	performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

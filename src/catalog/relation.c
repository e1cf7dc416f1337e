/*-------------------------------------------------------------------------
 *
 * relation.c
 *	  The tables and sequences of the extension, by name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

Oid
catalog_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, get_namespace_oid(CATALOG_SCHEMA, false));

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation %s.%s does not exist", CATALOG_SCHEMA, name),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return relid;
}

/* Of another version than the library: it is not touched. */
Relation
catalog_open(const char *name, int natts, LOCKMODE lockmode)
{
	Relation	rel = table_open(catalog_relation(name), lockmode);

	if (RelationGetNumberOfAttributes(rel) != natts)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library and SQL objects of streamproc are of different versions"),
				 errhint("Run ALTER EXTENSION streamproc UPDATE.")));
	return rel;
}

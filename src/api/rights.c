/*-------------------------------------------------------------------------
 *
 * rights.c
 *	  Who may do what with a pipeline.
 *
 *	  owner			(members of the owner, superusers) everything
 *	  operator		was granted EXECUTE on the pipeline's procedure: starts,
 *					stops, waits, sees its state
 *	  streamproc_monitor, pg_read_all_stats	see the state of all pipelines
 *
 * State is not data: what may quote values of rows (details, the texts of
 * rows' errors, dead letters) is for the owner; pg_read_all_stats sees the
 * texts too, as it sees everybody's queries.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/api.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "worker/worker.h"

#define MONITOR_ROLE "streamproc_monitor"

static bool
is_owner(Oid owner)
{
	return OidIsValid(owner) ? has_privs_of_role(GetUserId(), owner) : superuser();
}

static bool
is_operator(Oid procedure, Oid owner)
{
	return is_owner(owner) ||
		(OidIsValid(procedure) && pg_proc_aclcheck(procedure, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK);
}

static bool
is_monitor(void)
{
	Oid			role = get_role_oid(MONITOR_ROLE, true);

	return OidIsValid(role) && has_privs_of_role(GetUserId(), role);
}

void
rights_check_owner(const PipelineRow *row)
{
	if (is_owner(row->owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of pipeline \"%s\"", row->name)));
}

void
rights_check_operator(const PipelineRow *row)
{
	if (is_operator(row->procedure, row->owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for pipeline \"%s\"", row->name),
			 errhint("Its owner can allow to start, stop and wait for it: GRANT EXECUTE ON PROCEDURE %s TO %s.",
					 quote_qualified_identifier(CATALOG_PIPELINE_SCHEMA, row->name),
					 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

void
rights_check_waiter(const PipelineRow *row)
{
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		rights_check_operator(row);
}

bool
rights_visible(Oid procedure, Oid owner)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) || is_monitor() ||
		is_operator(procedure, owner);
}

bool
rights_sees_values(Oid owner)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) || is_owner(owner);
}

/*
 * An error with a position was met at rows, and its text may quote them
 * ("invalid input syntax for type integer: ...").  Those that pass by
 * themselves (locks, resources, brokers) speak of the system.
 */
void
rights_mask_reason(Oid owner, Reason *reason)
{
	int			sqlstate = 0;

	if (rights_sees_values(owner))
		return;
	reason->detail[0] = '\0';
	if (reason->topic[0] == '\0')
		return;
	if (strlen(reason->sqlstate) == 5)
		sqlstate = MAKE_SQLSTATE(reason->sqlstate[0], reason->sqlstate[1], reason->sqlstate[2],
								 reason->sqlstate[3], reason->sqlstate[4]);
	if (!worker_error_passes(sqlstate))
		strlcpy(reason->message, "an error at a row: its text is shown to the owner of the pipeline",
				sizeof(reason->message));
}

void
rights_check_trust(bool trust_owners)
{
	if (trust_owners && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to set trust_owners"),
				 errdetail("It matters for pipelines of superusers only: the objects that they use would run with their rights.")));
}

void
rights_check_worker_login(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can_login;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
	can_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	name = pstrdup(NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname));
	ReleaseSysCache(tuple);
	if (!can_login)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role \"%s\" is not permitted to log in", name),
				 errdetail("A pipeline's workers connect to the database as the pipeline's owner."),
				 errhint("ALTER ROLE %s LOGIN, or create the pipeline as another role.", name)));
	if (pg_database_aclcheck(MyDatabaseId, role, ACL_CONNECT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" has no CONNECT privilege on database \"%s\"", name,
						get_database_name(MyDatabaseId)),
				 errdetail("A pipeline's workers connect to the database as the pipeline's owner.")));
}

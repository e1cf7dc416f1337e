/*-------------------------------------------------------------------------
 *
 * trust.c
 *	  Whose code would a pipeline of a superuser run?
 *
 * A pipeline runs with its owner's rights all that its statements touch: the
 * functions and operators that they name, and what the owner of a table hangs
 * on it (triggers, defaults, constraints, expressions of indexes).  Whoever
 * owns such an object can change it at any time.  So a pipeline of a superuser
 * uses only what belongs to him or to another superuser, unless its option
 * trust_owners says otherwise.
 *
 * Judged are: tables written to with all their partitions, their triggers,
 * and what stands in their expressions; views; functions, aggregates and
 * operators of the statements and views; domains and ranges of columns and
 * casts.  Reading a table runs nothing of its owner (row security is not for
 * superusers).  What a superuser's own function calls is his business.
 *
 * Functions are judged before the statements are planned: planning evaluates
 * them.  Expressions of indexes are taken as stored for the same reason.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_partitioned_table.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "plan/plan.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

typedef struct TrustContext
{
	List	  **relations;
	List	  **functions;
} TrustContext;

static void
check_owner(Oid class, Oid object, Oid owner)
{
	ObjectAddress address;
	const char *role;

	if (owner == GetUserId() || superuser_arg(owner))
		return;
	ObjectAddressSet(address, class, object);
	role = GetUserNameFromId(owner, false);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s belongs to role \"%s\", which is not a superuser",
					getObjectDescription(&address, false), role),
			 errdetail("The pipeline runs as superuser \"%s\", and with it what the owner of the object puts there.",
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("Let %s create the pipeline, or, where the role is trusted, set trust_owners => true in create_pipeline() or alter_pipeline().",
					 quote_identifier(role))));
}

static bool
check_function(Oid function, void *context)
{
	TrustContext *cxt = context;
	HeapTuple	tuple;
	Oid			owner;

	/* of the server itself */
	if (function < FirstUnpinnedObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;			/* dropped a moment ago: planning will tell */
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	*cxt->functions = list_append_unique_int(*cxt->functions,
											 (int) GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function)));
	check_owner(ProcedureRelationId, function, owner);
	return false;
}

static void
check_operator(Oid operator)
{
	HeapTuple	tuple;
	Oid			owner;

	if (operator < FirstUnpinnedObjectId)
		return;
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_operator) GETSTRUCT(tuple))->oprowner;
	ReleaseSysCache(tuple);
	check_owner(OperatorRelationId, operator, owner);
}

/* A domain's constraints, a range's functions run where a value is made. */
static void
check_type(Oid type)
{
	HeapTuple	tuple;
	Form_pg_type form;
	Oid			owner;
	Oid			base;
	Oid			element;
	char		kind;

	check_stack_depth();
	if (type < FirstUnpinnedObjectId)
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		return;
	form = (Form_pg_type) GETSTRUCT(tuple);
	kind = form->typtype;
	owner = form->typowner;
	base = form->typbasetype;
	element = form->typelem;
	ReleaseSysCache(tuple);
	switch (kind)
	{
		case TYPTYPE_DOMAIN:
			check_owner(TypeRelationId, type, owner);
			check_type(base);
			break;
		case TYPTYPE_RANGE:
			check_owner(TypeRelationId, type, owner);
			check_type(get_range_subtype(type));
			break;
		case TYPTYPE_MULTIRANGE:
			check_type(get_multirange_range(type));
			break;
		case TYPTYPE_COMPOSITE:
			{
				TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
				int			i;

				for (i = 0; i < desc->natts; i++)
					if (!TupleDescAttr(desc, i)->attisdropped)
						check_type(TupleDescAttr(desc, i)->atttypid);
				ReleaseTupleDesc(desc);
				break;
			}
		default:
			if (OidIsValid(element))
				check_type(element);
			break;
	}
}

static void
check_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			i;

	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			check_type(TupleDescAttr(desc, i)->atttypid);
}

/* Everything that is evaluated in an expression or a query. */
static bool
walk(Node *node, TrustContext *cxt)
{
	if (node == NULL)
		return false;
	check_functions_in_node(node, check_function, cxt);
	switch (nodeTag(node))
	{
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
			check_operator(((OpExpr *) node)->opno);
			break;
		case T_ScalarArrayOpExpr:
			check_operator(((ScalarArrayOpExpr *) node)->opno);
			break;
		case T_CoerceToDomain:
			check_type(((CoerceToDomain *) node)->resulttype);
			break;
		case T_CoerceViaIO:
			check_type(((CoerceViaIO *) node)->resulttype);
			break;
		case T_Query:
			{
				ListCell   *lc;

				foreach(lc, ((Query *) node)->rtable)
				{
					RangeTblEntry *rte = lfirst(lc);
					HeapTuple	tuple;
					Oid			owner;

					/* a view stands in the range table of its own text */
					if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW)
						continue;
					tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(rte->relid));
					if (!HeapTupleIsValid(tuple))
						continue;
					owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
					ReleaseSysCache(tuple);
					check_owner(RelationRelationId, rte->relid, owner);
				}
				return query_tree_walker((Query *) node, walk, cxt, 0);
			}
		default:
			break;
	}
	return expression_tree_walker(node, walk, cxt);
}

/* An expression as a catalog stores it. */
static void
walk_stored(int cacheid, Oid key, AttrNumber column, TrustContext *cxt)
{
	HeapTuple	tuple = SearchSysCache1(cacheid, ObjectIdGetDatum(key));
	Datum		value;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return;
	value = SysCacheGetAttr(cacheid, tuple, column, &isnull);
	if (!isnull)
		(void) walk(stringToNode(TextDatumGetCString(value)), cxt);
	ReleaseSysCache(tuple);
}

/* A table that is written to. */
static void
check_table(Oid relid, TrustContext *cxt)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	ListCell   *lc;
	int			i;

	*cxt->relations = list_append_unique_oid(*cxt->relations, relid);
	check_owner(RelationRelationId, relid, rel->rd_rel->relowner);
	check_columns(rel);
	for (i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		(void) check_function(trigger->tgfoid, cxt);
		if (trigger->tgqual != NULL)
			(void) walk(stringToNode(trigger->tgqual), cxt);
	}
	for (i = 0; constr != NULL && i < constr->num_defval; i++)
		(void) walk(stringToNode(constr->defval[i].adbin), cxt);
	for (i = 0; constr != NULL && i < constr->num_check; i++)
		(void) walk(stringToNode(constr->check[i].ccbin), cxt);
	foreach(lc, RelationGetIndexList(rel))
	{
		walk_stored(INDEXRELID, lfirst_oid(lc), Anum_pg_index_indexprs, cxt);
		walk_stored(INDEXRELID, lfirst_oid(lc), Anum_pg_index_indpred, cxt);
	}
	/* of the tables above it, too */
	(void) walk((Node *) RelationGetPartitionQual(rel), cxt);
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		walk_stored(PARTRELID, relid, Anum_pg_partitioned_table_partexprs, cxt);
	table_close(rel, NoLock);
}

void
trust_check(Query *rewritten, const StatementInfo *info, List **relations, List **functions)
{
	TrustContext cxt = {relations, functions};
	ListCell   *lc;

	if (!superuser())
		return;
	foreach(lc, info->sinks)
	{
		ListCell   *lp;

		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_PARTITIONED_TABLE)
			check_table(lfirst_oid(lc), &cxt);
		else
			foreach(lp, find_all_inheritors(lfirst_oid(lc), AccessShareLock, NULL))
				check_table(lfirst_oid(lp), &cxt);
	}
	/* the values of a topic are made by the types of its columns */
	foreach(lc, info->sources)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		check_columns(rel);
		table_close(rel, NoLock);
	}
	(void) walk((Node *) rewritten, &cxt);
}

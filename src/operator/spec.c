/*-------------------------------------------------------------------------
 *
 * spec.c
 *	  What a plan says about an operator, made ready to run: kinds of the
 *	  aggregates, layout of an entry's fixed part, columns.
 *
 * Task and launcher make it from plans of the same statement; the layout must
 * not depend on anything but the statement.  operator_signature() is what tells
 * whether saved state fits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/aggregate.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

static uint32
place_state(OperatorSpec *spec, uint32 size, bool blob)
{
	uint32		at = spec->fixed_size;

	spec->fixed_size += (size + 7) & ~7;
	if (blob)
	{
		if (spec->nblobs == STATE_MAX_BLOBS || at > PG_UINT16_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many aggregates in one SELECT of a pipeline"),
					 errdetail("At most %d with a state of changing length are possible.", STATE_MAX_BLOBS - 1)));
		spec->blob[spec->nblobs++] = (uint16) at;
	}
	return at;
}

/* How is the aggregate kept?  "slices": its states are put together from several. */
static void
choose_kind(OperatorSpec *spec, AggregateSpec *agg, bool slices)
{
	Aggref	   *aggref = agg->aggref;
	AclResult	result;

	result = pg_proc_aclcheck(aggref->aggfnoid, GetUserId(), ACL_EXECUTE);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_AGGREGATE, get_func_name(aggref->aggfnoid));
	InvokeFunctionExecuteHook(aggref->aggfnoid);
	agg->name = get_func_name(aggref->aggfnoid);

	/* values that DISTINCT has seen could not be told apart where a session is cut */
	if (aggref->aggkind == AGGKIND_NORMAL && (spec->max_span == 0 || aggref->aggdistinct == NIL) && native_choose(agg))
	{
		agg->at = place_state(spec, agg->size, false);
		spec->has_distinct |= agg->distinct;
		return;
	}
	spec->user_code = true;
	transition_init(spec, agg);
	if (aggref->aggkind != AGGKIND_NORMAL || aggref->aggdistinct != NIL || aggref->aggorder != NIL ||
		!transition_keeps(agg) || (slices && !transition_combines(agg)))
	{
		agg->kind = AGGREGATE_BUFFERED;
		agg->at = place_state(spec, sizeof(StateBlob), true);
		buffered_init(spec, agg);
	}
	else
	{
		bool		blob = !agg->transition->byval || agg->transition->internal;

		agg->kind = AGGREGATE_TRANSITION;
		agg->at = place_state(spec, sizeof(TransitionState), blob);
	}
}

OperatorSpec *
operator_spec_make(const OperatorPlan *plan, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OperatorSpec *spec = palloc0(sizeof(OperatorSpec));
	ListCell   *lc,
			   *lo,
			   *la,
			   *lf;
	const char *use = plan->over != NULL ? "PARTITION BY" : plan->join != NULL || plan->asof != NULL ? "JOIN ON" : "GROUP BY";
	int			i;

	spec->cxt = cxt;
	spec->number = plan->number;
	spec->statement = plan->statement;
	spec->window = plan->window;
	spec->closed_until = spec->answered_until = spec->freed_until = DT_NOBEGIN;
	spec->scale = plan->scale;
	spec->gap = plan->gap;
	spec->max_span = plan->max_span;
	spec->ncolumns = list_length(plan->columns);
	spec->nkeys = list_length(plan->key_exprs);
	spec->at_column = plan->at_column;
	spec->place_column = plan->place_column;
	spec->group_context = CreateStandaloneExprContext();
	spec->temp_context = CreateStandaloneExprContext();

	spec->column_len = palloc(sizeof(int16) * spec->ncolumns);
	spec->column_byval = palloc(sizeof(bool) * spec->ncolumns);
	spec->column_align = palloc(sizeof(char) * spec->ncolumns);
	foreach(lc, plan->columns)
	{
		i = foreach_current_index(lc);
		get_typlenbyvalalign(exprType(lfirst(lc)), &spec->column_len[i], &spec->column_byval[i], &spec->column_align[i]);
	}

	spec->keys = palloc0(sizeof(StateKeyColumn) * Max(spec->nkeys, 1));
	spec->exact_keys = true;
	forboth(lc, plan->key_exprs, lo, plan->key_eqops)
	{
		Node	   *expr = lfirst(lc);
		StateKeyColumn *key = &spec->keys[foreach_current_index(lc)];
		const char *wrong = state_key_column(key, exprType(expr), exprTypmod(expr), exprCollation(expr), lfirst_oid(lo));

		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s a value of type %s is not supported in a pipeline", use, format_type_be(exprType(expr))),
					 errdetail_internal("%s.", wrong),
					 errhint("Use its text: %s (value)::text.", use)));
		if (!key->exact)
			spec->exact_keys = false;
	}

	spec->nsets = list_length(plan->sets);
	if (spec->nsets > PG_UINT8_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many grouping sets in a pipeline"),
				 errdetail("At most %d are possible.", PG_UINT8_MAX)));
	spec->sets = palloc0(sizeof(uint64) * Max(spec->nsets, 1));
	foreach(lc, plan->sets)
	{
		ListCell   *l;

		foreach(l, (List *) lfirst(lc))
			spec->sets[foreach_current_index(lc)] |= UINT64CONST(1) << lfirst_int(l);
	}
	spec->groupings = copyObject(plan->groupings);

	spec->noutput = list_length(plan->output) / 2;
	spec->output = palloc(sizeof(OutputColumn) * Max(spec->noutput, 1));
	for (i = 0; i < spec->noutput; i++)
	{
		spec->output[i].kind = (OutputKind) list_nth_int(plan->output, 2 * i);
		spec->output[i].number = list_nth_int(plan->output, 2 * i + 1);
	}
	spec->place_output = -1;
	for (i = 0; i < spec->noutput; i++)
		if ((spec->output[i].kind == OUTPUT_COLUMN || spec->output[i].kind == OUTPUT_NOTHING) && spec->output[i].number == spec->place_column)
			spec->place_output = i;

	if (!spec->exact_keys)
		spec->originals_at = place_state(spec, sizeof(StateBlob), true);
	spec->first_kept = spec->exact_keys ? spec->nkeys : 0;
	spec->ttl = plan->over != NULL || (plan->window == OPERATOR_NO_WINDOW && spec->nkeys > 0) ? plan->ttl : 0;
	if (spec->ttl > 0 && plan->over == NULL)
		spec->last_at = place_state(spec, sizeof(TimestampTz), false);
	/* of each row: the operator itself looks at it, late_row shows it */
	if (spec->at_column >= 0)
		spec->first_kept = Min(spec->first_kept, spec->at_column);
	if (spec->window == OPERATOR_SESSION)
		spec->bounds_at = place_state(spec, sizeof(SessionBounds), false);
	if (spec->max_span > 0)
	{
		spec->carried_at = place_state(spec, sizeof(SessionCarried), false);
		spec->rows_at = place_state(spec, sizeof(StateBlob), true);
	}
	spec->naggs = list_length(plan->aggrefs);
	spec->aggs = palloc0(sizeof(AggregateSpec) * Max(spec->naggs, 1));
	forthree(lc, plan->aggrefs, la, plan->agg_args, lf, plan->agg_filters)
	{
		AggregateSpec *agg = &spec->aggs[foreach_current_index(lc)];
		List	   *args = lfirst(la);
		ListCell   *l;

		agg->aggref = copyObject(lfirst_node(Aggref, lc));
		agg->nargs = list_length(args);
		agg->ndirect = list_length(agg->aggref->aggdirectargs);
		agg->args = palloc(sizeof(int) * Max(agg->nargs, 1));
		foreach(l, args)
			agg->args[foreach_current_index(l)] = lfirst_int(l);
		agg->filter = lfirst_int(lf);
		for (i = 0; i < agg->nargs; i++)
			spec->first_kept = Min(spec->first_kept, agg->args[i]);
		if (agg->filter >= 0)
			spec->first_kept = Min(spec->first_kept, agg->filter);
		choose_kind(spec, agg, spec->window == OPERATOR_HOP || spec->window == OPERATOR_CUMULATE || spec->window == OPERATOR_SESSION);
	}
	if (plan->over != NULL)
		over_spec_make(spec, plan->over);
	if (plan->join != NULL)
		join_spec_make(spec, plan->join);
	if (plan->asof != NULL)
		asof_spec_make(spec, plan->asof, plan->columns);
	if (plan->top != NULL)
		top_spec_make(spec, plan->top, plan->columns, place_state(spec, sizeof(StateBlob), true));
	MemoryContextSwitchTo(old);
	return spec;
}

const char *
operator_kind_name(const AggregateSpec *agg)
{
	switch (agg->kind)
	{
		case AGGREGATE_NATIVE:
			return "native";
		case AGGREGATE_TRANSITION:
			return "transition";
		case AGGREGATE_BUFFERED:
			return "buffered";
	}
	return "?";
}

/* ---- signature ---- */

static void
append_type(StringInfo into, Oid type, int32 typmod, Oid collation)
{
	char	   *name = format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);

	appendStringInfoString(into, name);
	/*
	 * Values of enums are stored by OID, and arrays, rows and ranges hold the
	 * OID of their type: in a restored database others stand for them.
	 */
	if (type >= FirstNormalObjectId)
	{
		Oid			base = getBaseType(type);
		char		typtype = get_typtype(base);

		if (typtype != TYPTYPE_BASE || OidIsValid(get_element_type(base)))
			appendStringInfo(into, " (%u)", base);
	}
	if (OidIsValid(collation) && !type_is_collatable(type))
		collation = InvalidOid;
	if (OidIsValid(collation))
		appendStringInfo(into, " collate %s", get_collation_name(collation));
}

void
operator_signature(const OperatorSpec *spec, StringInfo into)
{
	int			i,
				k;

	appendStringInfo(into, "operator %d: by (", spec->number);
	for (i = 0; i < spec->nkeys; i++)
	{
		if (i > 0)
			appendStringInfoString(into, ", ");
		append_type(into, spec->keys[i].type, spec->keys[i].typmod, spec->keys[i].collation);
	}
	appendStringInfoChar(into, ')');
	if (spec->ttl > 0)
		appendStringInfoString(into, " with ttl");
	for (i = 0; i < spec->nsets; i++)
		appendStringInfo(into, "%s" UINT64_FORMAT, i == 0 ? " sets " : ",", spec->sets[i]);
	if (spec->over != NULL)
		over_signature(spec, into);
	else if (spec->join != NULL)
		join_signature(spec, into);
	else if (spec->asof != NULL)
		asof_signature(spec, into);
	else if (spec->window != OPERATOR_NO_WINDOW)
	{
		appendStringInfo(into, " slices of %s " INT64_FORMAT, spec->scale.unit == WINDOW_USEC ? "us" :
						 spec->scale.unit == WINDOW_DAY ? "days" : "months", spec->scale.step);
		if (spec->window == OPERATOR_SESSION)
			appendStringInfo(into, " of sessions with gap " INT64_FORMAT " span " INT64_FORMAT, spec->gap, spec->max_span);
		else
			appendStringInfo(into, " %s of " INT64_FORMAT, spec->window == OPERATOR_TUMBLE ? "tumble" : spec->window == OPERATOR_HOP ? "hop" : "cumulate", spec->scale.slices);
		if (spec->held)
			appendStringInfo(into, " held for %s " INT64_FORMAT " %d", spec->held_on_end ? "end" : "start", spec->held_scale.step, (int) spec->held_scale.unit);
		appendStringInfo(into, " from " INT64_FORMAT, spec->scale.unit == WINDOW_USEC ? spec->scale.origin : spec->scale.local_origin);
		if (spec->scale.unit != WINDOW_USEC)
			appendStringInfo(into, " in %s", pg_get_timezone_name(spec->scale.zone));
	}
	if (spec->top != NULL)
		top_signature(spec, into);
	/* they are part of what is kept of rows */
	if (spec->row_places > 1 || (spec->join != NULL && spec->given_places > 0))
		appendStringInfoString(into, " with places");
	for (i = 0; i < spec->naggs; i++)
	{
		const AggregateSpec *agg = &spec->aggs[i];

		appendStringInfo(into, "; %s%s %s at %u of ", operator_kind_name(agg), agg->distinct ? (agg->kind == AGGREGATE_NATIVE ? " distinct, bare" : " distinct") : "",
						 format_procedure_qualified(agg->aggref->aggfnoid), agg->at);
		if (agg->kind == AGGREGATE_TRANSITION)
			append_type(into, agg->transition->type, -1, InvalidOid);
		for (k = 0; k < agg->nargs - agg->ndirect; k++)
		{
			appendStringInfoString(into, k > 0 || agg->kind == AGGREGATE_TRANSITION ? ", " : "");
			append_type(into, exprType((Node *) ((TargetEntry *) list_nth(agg->aggref->args, k))->expr), -1, InvalidOid);
		}
	}
	appendStringInfoChar(into, '\n');
}

/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  Any aggregate of PostgreSQL by its own functions.
 *
 * In an entry stands the transition value: by-value types as a Datum, others
 * as bytes in a blob; internal ones through the aggregate's serial functions.
 * To work on a group the value is taken out (transition_begin), the function
 * called for one row after another, and the result put back
 * (transition_store).  The rules about strict functions and missing initial
 * values are those of nodeAgg.c.
 *
 * Aggregate functions ask in which context they run (AggCheckCallContext,
 * AggGetAggref).  They get an AggState that is no node of a plan: only what
 * these functions look at is filled in.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeAgg.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/aggregate.h"
#include "parser/parse_agg.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

/* the aggregate's owner may call the function? as ExecInitAgg() asks */
static void
check_function(Oid function, Oid owner)
{
	AclResult	result;

	if (!OidIsValid(function))
		return;
	result = pg_proc_aclcheck(function, owner, ACL_EXECUTE);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

static AggState *
make_agg_state(OperatorSpec *spec, Aggref *aggref)
{
	AggState   *state = makeNode(AggState);
	AggStatePerAgg peragg = palloc0(sizeof(AggStatePerAggData));
	AggStatePerTrans pertrans = palloc0(sizeof(AggStatePerTransData));

	peragg->aggref = aggref;
	peragg->transno = 0;
	pertrans->aggref = aggref;
	pertrans->aggshared = false;
	state->curaggcontext = spec->group_context;
	state->tmpcontext = spec->temp_context;
	state->peragg = state->curperagg = peragg;
	state->pertrans = state->curpertrans = pertrans;
	return state;
}

static void
find_function(Transition *t, FmgrInfo *info, Oid function, Expr *expr)
{
	fmgr_info(function, info);
	if (expr != NULL)
		fmgr_info_set_expr((Node *) expr, info);
}

void
transition_init(OperatorSpec *spec, AggregateSpec *agg)
{
	Aggref	   *aggref = agg->aggref;
	Transition *t = palloc0(sizeof(Transition));
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form;
	Oid			input_types[FUNC_MAX_ARGS];
	int			ninputs;
	Oid			owner;
	HeapTuple	proc;
	Datum		init_text;
	Expr	   *trans_expr;
	Expr	   *final_expr;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggref->aggfnoid));
	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", aggref->aggfnoid);
	owner = ((Form_pg_proc) GETSTRUCT(proc))->proowner;
	ReleaseSysCache(proc);
	check_function(form->aggtransfn, owner);
	check_function(form->aggfinalfn, owner);

	agg->transition = t;
	t->context = (Node *) make_agg_state(spec, aggref);
	t->collation = aggref->inputcollid;
	t->type = aggref->aggtranstype;
	t->internal = t->type == INTERNALOID;
	get_typlenbyval(t->type, &t->len, &t->byval);
	ninputs = get_aggregate_argtypes(aggref, input_types);
	t->ninputs = ninputs - agg->ndirect;

	build_aggregate_transfn_expr(input_types, ninputs, agg->ndirect, aggref->aggvariadic, t->type,
								 t->collation, form->aggtransfn, InvalidOid, &trans_expr, NULL);
	find_function(t, &t->trans, form->aggtransfn, trans_expr);
	t->call = palloc0(SizeForFunctionCallInfo(t->ninputs + 1));
	InitFunctionCallInfoData(*t->call, &t->trans, t->ninputs + 1, t->collation, t->context, NULL);

	if (OidIsValid(form->aggfinalfn))
	{
		t->nfinal = 1 + (form->aggfinalextra ? ninputs : agg->ndirect);
		build_aggregate_finalfn_expr(input_types, t->nfinal, t->type, aggref->aggtype, t->collation,
									 form->aggfinalfn, &final_expr);
		find_function(t, &t->final, form->aggfinalfn, final_expr);
		t->final_call = palloc0(SizeForFunctionCallInfo(t->nfinal));
		InitFunctionCallInfoData(*t->final_call, &t->final, t->nfinal, t->collation, t->context, NULL);
	}
	get_typlenbyvalalign(aggref->aggtype, &t->result_len, &t->result_byval, &t->result_align);
	if (OidIsValid(form->aggcombinefn))
	{
		check_function(form->aggcombinefn, owner);
		build_aggregate_transfn_expr(&t->type, 1, 0, false, t->type, t->collation, form->aggcombinefn,
									 InvalidOid, &trans_expr, NULL);
		find_function(t, &t->combine, form->aggcombinefn, trans_expr);
		t->combine_call = palloc0(SizeForFunctionCallInfo(2));
		InitFunctionCallInfoData(*t->combine_call, &t->combine, 2, t->collation, t->context, NULL);
	}
	if (t->internal && OidIsValid(form->aggserialfn) && OidIsValid(form->aggdeserialfn))
	{
		check_function(form->aggserialfn, owner);
		check_function(form->aggdeserialfn, owner);
		find_function(t, &t->serial, form->aggserialfn, NULL);
		find_function(t, &t->deserial, form->aggdeserialfn, NULL);
		t->serial_call = palloc0(SizeForFunctionCallInfo(1));
		InitFunctionCallInfoData(*t->serial_call, &t->serial, 1, InvalidOid, t->context, NULL);
		t->deserial_call = palloc0(SizeForFunctionCallInfo(2));
		InitFunctionCallInfoData(*t->deserial_call, &t->deserial, 2, InvalidOid, t->context, NULL);
	}

	init_text = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &t->init_null);
	if (!t->init_null)
	{
		Oid			input;
		Oid			param;

		getTypeInputInfo(t->type, &input, &param);
		t->init = OidInputFunctionCall(input, TextDatumGetCString(init_text), param, -1);
	}
	ReleaseSysCache(tuple);
}

bool
transition_keeps(const AggregateSpec *agg)
{
	return !agg->transition->internal || agg->transition->serial_call != NULL;
}

bool
transition_combines(const AggregateSpec *agg)
{
	return agg->transition->combine_call != NULL;
}

/* ---- the value at work ---- */

static MemoryContext
group_memory(OperatorSpec *spec)
{
	return spec->group_context->ecxt_per_tuple_memory;
}

void
transition_fresh(OperatorSpec *spec, AggregateSpec *agg)
{
	Transition *t = agg->transition;

	t->isnull = t->none = t->init_null;
	t->value = (Datum) 0;
	if (!t->init_null)
	{
		MemoryContext old = MemoryContextSwitchTo(group_memory(spec));

		t->value = datumCopy(t->init, t->byval, t->len);
		MemoryContextSwitchTo(old);
	}
}

/* The value that an entry holds, in the group's memory. */
static Datum
take_out(OperatorSpec *spec, Transition *t, const TransitionState *state, const char *base, bool *isnull)
{
	MemoryContext old;
	const char *bytes;
	Datum		value;

	*isnull = (state->flags & TRANSITION_NULL) != 0;
	if (*isnull)
		return (Datum) 0;
	if (t->byval && !t->internal)
		return state->u.value;
	old = MemoryContextSwitchTo(group_memory(spec));
	bytes = state_blob_bytes(base, &state->u.blob);
	if (t->internal || t->len == -1)
	{
		struct varlena *v = palloc(VARHDRSZ + state->u.blob.len);

		SET_VARSIZE(v, VARHDRSZ + state->u.blob.len);
		memcpy(VARDATA(v), bytes, state->u.blob.len);
		value = PointerGetDatum(v);
		if (t->internal)
		{
			t->deserial_call->args[0].value = value;
			t->deserial_call->args[0].isnull = false;
			t->deserial_call->args[1].value = (Datum) 0;
			t->deserial_call->args[1].isnull = false;
			t->deserial_call->isnull = false;
			value = FunctionCallInvoke(t->deserial_call);
			*isnull = t->deserial_call->isnull;
		}
	}
	else
	{
		char	   *copy = palloc(state->u.blob.len);

		memcpy(copy, bytes, state->u.blob.len);
		value = PointerGetDatum(copy);
	}
	MemoryContextSwitchTo(old);
	return value;
}

void
transition_begin(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base)
{
	Transition *t = agg->transition;
	const TransitionState *state = (const TransitionState *) (fixed + agg->at);

	if (!(state->flags & TRANSITION_HAS))
	{
		transition_fresh(spec, agg);
		return;
	}
	t->none = (state->flags & TRANSITION_NONE) != 0;
	t->value = take_out(spec, t, state, base, &t->isnull);
}

/* Makes the result of a call the value, in the group's memory. */
static void
take_result(OperatorSpec *spec, Transition *t, Datum result, bool isnull)
{
	if (!t->byval && DatumGetPointer(result) != DatumGetPointer(t->value))
	{
		MemoryContext old = MemoryContextSwitchTo(group_memory(spec));

		if (!isnull && !(DatumIsReadWriteExpandedObject(result, false, t->len) &&
						 MemoryContextGetParent(DatumGetEOHP(result)->eoh_context) == CurrentMemoryContext))
			result = datumCopy(result, t->byval, t->len);
		if (!t->isnull)
		{
			if (DatumIsReadWriteExpandedObject(t->value, false, t->len))
				DeleteExpandedObject(t->value);
			else
				pfree(DatumGetPointer(t->value));
		}
		MemoryContextSwitchTo(old);
	}
	t->value = isnull && !t->byval ? (Datum) 0 : result;
	t->isnull = isnull;
}

/* Calls trans or combine function with what stands behind the first argument. */
static void
call_step(OperatorSpec *spec, AggregateSpec *agg, FunctionCallInfo call, int nargs)
{
	Transition *t = agg->transition;
	MemoryContext old;
	Datum		result;
	int			i;

	if (call->flinfo->fn_strict)
	{
		for (i = 1; i <= nargs; i++)
			if (call->args[i].isnull)
				return;
		if (t->none)
		{
			/* the first value is the state; an internal one is in the group's memory already */
			old = MemoryContextSwitchTo(group_memory(spec));
			t->value = t->internal ? call->args[1].value : datumCopy(call->args[1].value, t->byval, t->len);
			t->isnull = t->none = false;
			MemoryContextSwitchTo(old);
			return;
		}
		if (t->isnull)
			return;
	}
	old = MemoryContextSwitchTo(spec->temp_context->ecxt_per_tuple_memory);
	call->args[0].value = t->value;
	call->args[0].isnull = t->isnull;
	call->isnull = false;
	result = FunctionCallInvoke(call);
	take_result(spec, t, result, call->isnull);
	t->none = false;
	MemoryContextSwitchTo(old);
	ResetExprContext(spec->temp_context);
}

/* "values": of the aggregated arguments */
void
transition_step(OperatorSpec *spec, AggregateSpec *agg, const Datum *values, const bool *isnull)
{
	Transition *t = agg->transition;
	int			i;

	for (i = 0; i < t->ninputs; i++)
	{
		t->call->args[i + 1].value = values[i];
		t->call->args[i + 1].isnull = isnull[i];
	}
	call_step(spec, agg, t->call, t->ninputs);
}

const char *
transition_bytes(OperatorSpec *spec, AggregateSpec *agg, TransitionState *state, Size *len)
{
	Transition *t = agg->transition;
	Datum		value = t->value;
	const char *bytes;
	MemoryContext old;

	*len = 0;
	if (t->isnull)
	{
		state->flags = TRANSITION_HAS | TRANSITION_NULL | (t->none ? TRANSITION_NONE : 0);
		return NULL;
	}
	state->flags = TRANSITION_HAS;
	if (t->byval && !t->internal)
	{
		state->u.value = t->value;
		return NULL;
	}
	old = MemoryContextSwitchTo(spec->temp_context->ecxt_per_tuple_memory);
	if (t->internal)
	{
		t->serial_call->args[0].value = t->value;
		t->serial_call->args[0].isnull = false;
		t->serial_call->isnull = false;
		value = FunctionCallInvoke(t->serial_call);
		if (t->serial_call->isnull)
			elog(ERROR, "serial function of aggregate %u returned null", agg->aggref->aggfnoid);
	}
	if (t->internal || t->len == -1)
	{
		struct varlena *v = PG_DETOAST_DATUM(value);

		bytes = VARDATA(v);
		*len = VARSIZE(v) - VARHDRSZ;
	}
	else
	{
		bytes = DatumGetPointer(value);
		*len = datumGetSize(value, false, t->len);
	}
	MemoryContextSwitchTo(old);
	return bytes;
}

StateEntry *
transition_store(OperatorSpec *spec, AggregateSpec *agg, StateCursor *cursor, StateEntry *entry)
{
	TransitionState state = *(TransitionState *) (STATE_ENTRY_FIXED(entry) + agg->at);
	Size		len;
	const char *bytes = transition_bytes(spec, agg, &state, &len);

	if (bytes != NULL)
	{
		entry = state_blob_set(cursor, entry, agg->at, bytes, len);
		((TransitionState *) (STATE_ENTRY_FIXED(entry) + agg->at))->flags = state.flags;
		ResetExprContext(spec->temp_context);
	}
	else
		*(TransitionState *) (STATE_ENTRY_FIXED(entry) + agg->at) = state;
	return entry;
}

/* The state at "fixed" of another slice is put to the entry's. */
StateEntry *
transition_combine(OperatorSpec *spec, AggregateSpec *agg, StateCursor *cursor, StateEntry *entry,
				   const char *fixed, const char *base)
{
	Transition *t = agg->transition;
	const TransitionState *other = (const TransitionState *) (fixed + agg->at);
	bool		isnull;
	Datum		value;

	if (!(other->flags & TRANSITION_HAS))
		return entry;
	transition_begin(spec, agg, STATE_ENTRY_FIXED(entry), cursor->data);
	value = take_out(spec, t, other, base, &isnull);
	if (!(((TransitionState *) (STATE_ENTRY_FIXED(entry) + agg->at))->flags & TRANSITION_HAS))
	{
		/* nothing yet: not even the initial value, which the other one holds already */
		t->value = value;
		t->isnull = isnull;
		t->none = (other->flags & TRANSITION_NONE) != 0;
	}
	else
	{
		t->combine_call->args[1].value = value;
		t->combine_call->args[1].isnull = isnull;
		call_step(spec, agg, t->combine_call, 1);
	}
	return transition_store(spec, agg, cursor, entry);
}

/* The result of the value at work, in the group's memory. */
Datum
transition_result(OperatorSpec *spec, AggregateSpec *agg, const Datum *direct, const bool *direct_null, bool *isnull)
{
	Transition *t = agg->transition;
	MemoryContext old = MemoryContextSwitchTo(group_memory(spec));
	Datum		result;
	int			i;

	if (t->final_call == NULL)
	{
		*isnull = t->isnull;
		result = t->isnull ? (Datum) 0 : MakeExpandedObjectReadOnly(t->value, false, t->len);
	}
	else
	{
		FunctionCallInfo call = t->final_call;
		bool		any_null = t->isnull;

		call->args[0].value = MakeExpandedObjectReadOnly(t->value, t->isnull, t->len);
		call->args[0].isnull = t->isnull;
		for (i = 1; i < t->nfinal; i++)
		{
			bool		given = i <= agg->ndirect && direct != NULL;

			call->args[i].value = given ? direct[i - 1] : (Datum) 0;
			call->args[i].isnull = given ? direct_null[i - 1] : true;
			any_null |= call->args[i].isnull;
		}
		if (call->flinfo->fn_strict && any_null)
		{
			*isnull = true;
			result = (Datum) 0;
		}
		else
		{
			call->isnull = false;
			result = FunctionCallInvoke(call);
			*isnull = call->isnull;
		}
	}
	MemoryContextSwitchTo(old);
	return result;
}

Datum
transition_final(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base, bool *isnull)
{
	transition_begin(spec, agg, fixed, base);
	return transition_result(spec, agg, NULL, NULL, isnull);
}

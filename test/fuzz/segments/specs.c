/*-------------------------------------------------------------------------
 *
 * specs.c
 *	  Operators as pipelines have them, one of each kind: what a plan would say
 *	  of them, written down by hand, since there is no catalog here.
 *
 * All have the same columns, so that a row is one for each of them:
 *	  0 bigint, 1 text, 2 timestamptz (event time), 3 uuid, 4 boolean, 5 cstring,
 *	  6 tid (place), 7 integer (side of a join), 8 bigint, 9 text (left side),
 *	  10 bigint, 11 text, 12 uuid (right side)
 * The first two are the key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "segments.h"

OperatorSpec fuzz_specs[OPERATORS];
StateShape	fuzz_shapes[OPERATORS];
StateArea  *fuzz_area;

static int16 column_len[MOST_COLUMNS] = {8, -1, 8, 16, 1, -2, 6, 4, 8, -1, 8, -1, 16};
static bool column_byval[MOST_COLUMNS] = {true, false, true, false, true, false, false, true, true, false, true, false, false};
static char column_align[MOST_COLUMNS] = {'d', 'i', 'd', 'c', 'c', 'c', 's', 'i', 'd', 'i', 'd', 'i', 'c'};
static StateKeyColumn keys[2] = {
	{STATE_KEY_FIXED, 20, -1, 0, 8, true, 'd', true},
	{STATE_KEY_VARLENA, 25, -1, 0, -1, false, 'i', true}
};
static uint64 sets[2] = {3, 1};
static int	some_columns[4] = {2, 1, 3, 5};
static int	text_column[1] = {1};
static int	bigint_column[1] = {0};

/* ---- functions of aggregates: they read all of what they get ---- */

static Datum
first_argument(PG_FUNCTION_ARGS)
{
	return PG_GETARG_DATUM(0);
}

static Datum
count_up(PG_FUNCTION_ARGS)
{
	return Int64GetDatum(PG_GETARG_INT64(0) + 1);
}

static Datum
read_bytes(PG_FUNCTION_ARGS)
{
	touch_datum(PG_GETARG_DATUM(0), false, -1, false);
	return PG_GETARG_DATUM(0);
}

static FunctionCallInfo
make_call(FmgrInfo *info, PGFunction function, int nargs)
{
	FunctionCallInfo call = palloc0(SizeForFunctionCallInfo(nargs));

	info->fn_addr = function;
	call->flinfo = info;
	call->nargs = nargs;
	return call;
}

static Transition *
make_transition(int16 len, bool byval, bool internal)
{
	Transition *t = palloc0(sizeof(Transition));

	t->len = len;
	t->byval = byval;
	t->internal = internal;
	t->init_null = !byval || internal;
	t->ninputs = 1;
	t->call = make_call(&t->trans, byval ? count_up : first_argument, 2);
	t->serial_call = make_call(&t->serial, read_bytes, 1);
	t->deserial_call = make_call(&t->deserial, read_bytes, 2);
	return t;
}

/* ---- operators ---- */

static ExprContext *
make_context(void)
{
	ExprContext *context = palloc0(sizeof(ExprContext));

	context->ecxt_per_tuple_memory = AllocSetContextCreate(TopMemoryContext, "group", ALLOCSET_DEFAULT_SIZES);
	return context;
}

static uint32
place(OperatorSpec *spec, uint32 size, bool blob)
{
	uint32		at = spec->fixed_size;

	spec->fixed_size += (size + 7) & ~7;
	if (blob)
		spec->blob[spec->nblobs++] = (uint16) at;
	return at;
}

static void
windows(OperatorSpec *spec, OperatorWindow window, int64 slices)
{
	spec->window = window;
	spec->scale.unit = WINDOW_USEC;
	spec->scale.step = window == OPERATOR_NO_WINDOW ? 1 : USECS_PER_SEC;
	spec->scale.slices = slices;
}

/* rows wait in slices of this length, and all that is kept stands in one blob */
static void
gives_rows(OperatorSpec *spec, bool waits, int first_kept)
{
	spec->waits = waits;
	spec->window = waits ? OPERATOR_TUMBLE : OPERATOR_NO_WINDOW;
	spec->scale.step = OVER_WAITING_SLICE;
	spec->first_kept = first_kept;
	(void) place(spec, sizeof(StateBlob), true);
	waiting_spec_make(spec);
}

static AggregateSpec *
add_aggregate(OperatorSpec *spec, AggregateKind kind, const int *args, int nargs)
{
	AggregateSpec *agg = &spec->aggs[spec->naggs++];

	agg->kind = kind;
	agg->filter = -1;
	agg->args = unconstify(int *, args);
	agg->nargs = nargs;
	return agg;
}

static void
make_functions(OperatorSpec *spec)
{
	AggregateSpec *agg;
	static const struct
	{
		int16		len;
		bool		byval;
		bool		internal;
	}			kinds[] = {{-1, false, false}, {8, true, false}, {8, true, true}, {16, false, false}};
	int			i;

	windows(spec, OPERATOR_NO_WINDOW, 1);
	spec->exact_keys = false;
	spec->originals_at = place(spec, sizeof(StateBlob), true);
	for (i = 0; i < lengthof(kinds); i++)
	{
		agg = add_aggregate(spec, AGGREGATE_TRANSITION, text_column, 1);
		agg->transition = make_transition(kinds[i].len, kinds[i].byval, kinds[i].internal);
		agg->at = place(spec, sizeof(TransitionState), !kinds[i].byval || kinds[i].internal);
	}
	agg = add_aggregate(spec, AGGREGATE_BUFFERED, some_columns, 4);
	agg->transition = make_transition(8, true, false);
	agg->at = place(spec, sizeof(StateBlob), true);
	spec->ttl = 60 * USECS_PER_SEC;
	spec->last_at = place(spec, sizeof(TimestampTz), false);
}

static void
make_distinct(OperatorSpec *spec)
{
	int			i;

	windows(spec, OPERATOR_HOP, 4);
	spec->nsets = 2;
	spec->sets = sets;
	spec->has_distinct = true;
	for (i = 0; i < 2; i++)
	{
		AggregateSpec *agg = add_aggregate(spec, AGGREGATE_NATIVE, i == 0 ? bigint_column : text_column, 1);

		agg->distinct = true;
		agg->distinct_key = keys[i];
		agg->size = 16;
		agg->at = place(spec, agg->size, false);
	}
}

static void
make_session(OperatorSpec *spec)
{
	AggregateSpec *agg;

	windows(spec, OPERATOR_SESSION, 1);
	spec->gap = USECS_PER_SEC;
	spec->max_span = 10 * USECS_PER_SEC;
	spec->first_kept = 1;
	spec->bounds_at = place(spec, sizeof(SessionBounds), false);
	spec->carried_at = place(spec, sizeof(SessionCarried), false);
	spec->rows_at = place(spec, sizeof(StateBlob), true);
	agg = add_aggregate(spec, AGGREGATE_NATIVE, NULL, 0);
	agg->size = 8;
	agg->at = place(spec, 8, false);
}

static void
make_top(OperatorSpec *spec)
{
	TopSpec    *top = palloc0(sizeof(TopSpec));

	windows(spec, OPERATOR_NO_WINDOW, 1);
	spec->top = top;
	top->n = 3;
	top->nkept = 4;
	top->nsort_kept = 1;
	top->kept = some_columns;
	top->at = place(spec, sizeof(StateBlob), true);
}

static void
make_over(OperatorSpec *spec, bool arrival, bool everything)
{
	OverSpec   *over = palloc0(sizeof(OverSpec));
	int			i;

	spec->over = over;
	over->arrival = arrival;
	over->nkept = 3;
	over->kept = some_columns;
	over->ring = everything ? 3 : 1;
	over->frames = palloc0(sizeof(OverFrame) * 2);
	over->functions = palloc0(sizeof(OverFunction) * 2);
	if (everything)
	{
		over->rare = true;
		over->first = 2;
		over->nframes = over->ntails = 2;
		for (i = 0; i < 2; i++)
			over->frames[i] = (OverFrame) {.us = (i + 1) * USECS_PER_SEC, .kept = true, .tail = i};
		over->span = 10 * USECS_PER_SEC;
		over->history.unit = WINDOW_USEC;
		over->history.step = USECS_PER_SEC;
		over->history.slices = 1;
		over->nfunctions = 2;
		over->transitions = true;
		over->fixed_size = 2 * sizeof(TransitionState);
		for (i = 0; i < 2; i++)
		{
			OverFunction *function = &over->functions[i];

			function->kind = OVER_AGGREGATE;
			function->running = true;
			function->agg.kind = AGGREGATE_TRANSITION;
			function->agg.at = i * sizeof(TransitionState);
			function->agg.transition = make_transition(i == 0 ? -1 : 16, false, false);
		}
	}
	over->tails_at = sizeof(OverHead) + (over->rare ? sizeof(OverRare) : 0);
	over->fixed_at = over->tails_at + (uint32) sizeof(OverTail) * over->ntails;
	over->rows_at = over->fixed_at + over->fixed_size;
	gives_rows(spec, !arrival, 0);
}

static void
make_sides(OperatorSpec *spec, int *side_column, int *first, int *n)
{
	spec->ncolumns = MOST_COLUMNS;
	*side_column = 7;
	first[0] = 8;
	n[0] = 2;
	first[1] = 10;
	n[1] = 3;
	spec->noutput = 5;
	spec->output = palloc0(sizeof(OutputColumn) * spec->noutput);
	for (int i = 0; i < spec->noutput; i++)
		spec->output[i] = (OutputColumn) {OUTPUT_COLUMN, first[0] + i};
}

static void
make_join(OperatorSpec *spec)
{
	JoinSpec   *join = palloc0(sizeof(JoinSpec));
	int			side,
				i;

	spec->join = join;
	make_sides(spec, &join->side_column, join->first, join->n);
	join->outer[0] = join->outer[1] = true;
	join->low_us = -USECS_PER_SEC;
	join->high_us = join->after[0] = join->after[1] = USECS_PER_SEC;
	join->step = USECS_PER_SEC / 2;
	for (side = 0; side < 2; side++)
	{
		initStringInfo(&join->nulls[side]);
		for (i = join->first[side]; i < join->first[side] + join->n[side]; i++)
			state_datum_write(&join->nulls[side], (Datum) 0, true, column_len[i], column_byval[i]);
	}
	gives_rows(spec, true, 2);
	/* number of the last chunk */
	(void) place(spec, sizeof(uint64), false);
}

static void
make_asof(OperatorSpec *spec)
{
	AsofSpec   *asof = palloc0(sizeof(AsofSpec));
	int			i;

	spec->asof = asof;
	make_sides(spec, &asof->side_column, asof->first, asof->n);
	asof->outer = true;
	initStringInfo(&asof->nulls);
	for (i = asof->first[1]; i < asof->first[1] + asof->n[1]; i++)
		state_datum_write(&asof->nulls, (Datum) 0, true, column_len[i], column_byval[i]);
	gives_rows(spec, true, 2);
}

static void
make_spec(OperatorSpec *spec, int number)
{
	spec->cxt = TopMemoryContext;
	spec->number = number;
	spec->ncolumns = 8;
	spec->nkeys = 2;
	spec->keys = keys;
	spec->at_column = 2;
	spec->place_column = 6;
	spec->column_len = column_len;
	spec->column_byval = column_byval;
	spec->column_align = column_align;
	spec->exact_keys = true;
	spec->closed_until = spec->answered_until = spec->freed_until = spec->watermark = DT_NOBEGIN;
	spec->aggs = palloc0(sizeof(AggregateSpec) * 8);
	spec->group_context = make_context();
	spec->temp_context = make_context();
	switch (number)
	{
		case OP_NATIVE:
			windows(spec, OPERATOR_TUMBLE, 1);
			add_aggregate(spec, AGGREGATE_NATIVE, NULL, 0)->size = 16;
			(void) place(spec, 16, false);
			break;
		case OP_FUNCTIONS:
			make_functions(spec);
			break;
		case OP_DISTINCT:
			make_distinct(spec);
			break;
		case OP_SESSION:
			make_session(spec);
			break;
		case OP_TOP:
			make_top(spec);
			break;
		case OP_OVER:
			make_over(spec, false, true);
			break;
		case OP_ARRIVAL:
			make_over(spec, true, false);
			break;
		case OP_FIRST:
			make_over(spec, false, false);
			spec->over->first_only = true;
			spec->ttl = 60 * USECS_PER_SEC;
			break;
		case OP_JOIN:
			make_join(spec);
			break;
		case OP_ASOF:
			make_asof(spec);
			break;
	}
}

void
area_empty(void)
{
	int			i;

	shim_shared_free();
	for (i = 0; i < OPERATORS; i++)
	{
		StateOperator *op = &fuzz_area->root->op[i];

		op->npanes = op->panes_size = 0;
		op->panes = InvalidDsaPointer;
		op->panes_changed++;
	}
	pg_atomic_write_u64(&fuzz_area->root->bytes, 0);
	/* what processes remember of panes */
	operator_epoch_ended();
}

void
specs_init(void)
{
	int			i;

	fuzz_area = palloc0(sizeof(StateArea));
	fuzz_area->root = palloc0(sizeof(StateRoot));
	fuzz_area->root->limit = 64 * 1024 * 1024;
	for (i = 0; i < OPERATORS; i++)
	{
		const StateOperator *op = &fuzz_area->root->op[i];

		make_spec(&fuzz_specs[i], i);
		operator_state_init(&fuzz_specs[i], fuzz_area);
		fuzz_shapes[i] = state_shape_of(op);
	}
}

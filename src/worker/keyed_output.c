/*-------------------------------------------------------------------------
 *
 * keyed_output.c
 *	  Running the statements of a keyed pipeline on what an epoch gives out,
 *	  and finding the group whose row a sink refuses.
 *
 * A row that cannot be written is one group's fault if the statement fails on the
 * groups up to it, and does not on those before it.  That group is looked for by
 * halving, in transactions that are given up; its row becomes a dead letter of kind
 * "output", and the epoch is committed without it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "checkpoint/checkpoint.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/keyed.h"

/* Such rows are logged again when there were none for so long. */
#define LETTERS_LOG_US	(60 * 1000000)

#define my_keyed		(my_launcher->keyed)

typedef struct BadGroup
{
	int			statement;
	int			sqlstate;
	char	   *message;
	char	   *detail;
	char	   *json;
} BadGroup;

/* The plans are made again where something changed. */
static void
lock_program(Epoch *epoch)
{
	int			tries = 0;
	int			op;

	while (!program_lock(my_launcher->program))
	{
		Program    *fresh;
		PipelineRow *row;
		char	   *was;

		if (++tries > 10)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the objects of pipeline \"%s\" keep changing", my_launcher->row->name)));
		row = worker_load_pipeline(CurrentMemoryContext);
		PushActiveSnapshot(GetTransactionSnapshot());
		was = program_signature(my_launcher->program);
		fresh = program_load(row->procedure, row->trust_owners, row->arrival, row->state_ttl);
		program_check_rights(fresh);
		PopActiveSnapshot();
		if (fresh->nkeyed != my_launcher->program->nkeyed || fresh->sink_server != my_launcher->program->sink_server || strcmp(was, program_signature(fresh)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("pipeline \"%s\" was changed while an epoch was committed", my_launcher->row->name)));
		program_free(my_launcher->program);
		my_launcher->program = fresh;
		(void) keyed_specs(fresh);
		/* not only behind the loop: a later turn may throw */
		for (op = 0; op < fresh->nkeyed; op++)
			epoch->sets[op].spec = fresh->keyed[op].spec;
	}
	for (op = 0; op < my_launcher->program->nkeyed; op++)
		epoch->sets[op].spec = my_launcher->program->keyed[op].spec;
}

void
keyed_output_begin(Epoch *epoch)
{
	checkpoint_begin();
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION);
	/* what an attempt before this one has written is gone with it */
	outbox_aborted(&my_launcher->outbox);
	lock_program(epoch);
	stream_outbox = my_launcher->program->outbox;
}

/* ---- whose fault is it? ---- */

static bool
belongs_to(const FireSet *set, int statement)
{
	return set->spec->statement == statement;
}

static int64
count_groups(Epoch *epoch, int statement)
{
	int64		n = 0;
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
		if (belongs_to(&epoch->sets[op], statement))
			n += fire_count(&epoch->sets[op]);
	return n;
}

/* The operators of the statement give out groups from..to-1 of all of them in a row; to 0: all of everything. */
static void
set_range(Epoch *epoch, int statement, int64 from, int64 to)
{
	int			op;

	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		FireSet    *set = &epoch->sets[op];
		int64		n;

		set->from = set->to = 0;
		if (to == 0 || !belongs_to(set, statement))
			continue;
		n = fire_count(set);
		/* none of it: a range that is empty */
		set->from = from >= n ? PG_INT64_MAX : Max(from, 0);
		set->to = to >= n ? 0 : Max(to, 0);
		if (to <= 0)
			set->from = PG_INT64_MAX;
		from -= n;
		to -= n;
	}
}

/* Runs the statement on a range in a transaction that is given up.  NULL: it passed. */
static ErrorData *
try_range(Epoch *epoch, int statement, int64 from, int64 to, bool json, char **json_out)
{
	MemoryContext cxt = my_keyed->epoch_cxt;

	for (;;)
	{
		ErrorData  *volatile edata = NULL;
		Reason		reason;

		set_range(epoch, statement, from, to);
		PG_TRY();
		{
			keyed_output_begin(epoch);
			operator_fire_sets = epoch->sets;
			if (json)
			{
				MemoryContextSwitchTo(cxt);
				*json_out = program_fire_json(my_launcher->program, statement);
			}
			else
			{
				program_fire_statement(my_launcher->program, statement);
				program_finish(my_launcher->program);
			}
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(cxt);
			edata = CopyErrorData();
			FlushErrorState();
		}
		PG_END_TRY();
		operator_fire_sets = NULL;
		checkpoint_abort();
		MemoryContextSwitchTo(cxt);
		program_reset(my_launcher->program);
		worker_apply_settings(my_launcher->row);
		set_range(epoch, statement, 0, 0);
		if (edata == NULL || !worker_error_passes(edata->sqlerrcode))
			return edata;
		worker_reason_from_error(&reason, edata);
		keyed_commit_pause(&reason);
	}
}

/* What is known of a group whose row cannot be made: what it is grouped by. */
static char *
group_json(Epoch *epoch, int op, int64 number)
{
	FireSet    *set = &epoch->sets[op];
	OperatorSpec *spec = set->spec;
	Datum		values[OPERATOR_MAX_COLUMNS * 2];
	bool		isnull[OPERATOR_MAX_COLUMNS * 2];
	StringInfoData text;
	FireScan	scan;
	int			i;
	bool		first = true;

	initStringInfo(&text);
	appendStringInfoString(&text, "{\"group\":[");
	keyed_output_begin(epoch);
	set->from = number;
	set->to = number + 1;
	set->keys_only = true;
	fire_scan_begin(&scan, set);
	if (spec->noutput <= (int) lengthof(values) && fire_scan_next(&scan, values, isnull))
		for (i = 0; i < spec->noutput; i++)
		{
			Oid			output;
			bool		varlena;

			/* of window functions and joins only the row that was given out would say more, and that cannot be made */
			if (operator_gives_rows(spec) || (spec->output[i].kind != OUTPUT_KEY && spec->output[i].kind != OUTPUT_WINDOW_START && spec->output[i].kind != OUTPUT_WINDOW_END))
				continue;
			if (!first)
				appendStringInfoChar(&text, ',');
			first = false;
			if (isnull[i])
				appendStringInfoString(&text, "null");
			else
			{
				getTypeOutputInfo(spec->output[i].kind == OUTPUT_KEY ? spec->keys[spec->output[i].number].type :
								  spec->output[i].kind == OUTPUT_SESSION ? TSTZRANGEOID : TIMESTAMPTZOID, &output, &varlena);
				escape_json(&text, OidOutputFunctionCall(output, values[i]));
			}
		}
	appendStringInfoString(&text, "]}");
	set->from = set->to = 0;
	set->keys_only = false;
	checkpoint_abort();
	MemoryContextSwitchTo(my_keyed->epoch_cxt);
	worker_apply_settings(my_launcher->row);
	return text.data;
}

static void
leave_out(FireSet *set, int64 number)
{
	int64	   *skip = palloc(sizeof(int64) * (set->nskip + 1));
	int			i;
	int			n = 0;

	for (i = 0; i < set->nskip && set->skip[i] < number; i++)
		skip[n++] = set->skip[i];
	skip[n++] = number;
	for (; i < set->nskip; i++)
		skip[n++] = set->skip[i];
	set->skip = skip;
	set->nskip = n;
}

static bool
blame_in(Epoch *epoch, int statement)
{
	int64		low = 0;		/* so many pass */
	int64		high = count_groups(epoch, statement);	/* so many fail */
	ErrorData  *error;
	BadGroup   *bad;
	int			op;
	int64		number;

	/* without any group it must pass, with all of them fail */
	if (high == 0 || try_range(epoch, statement, 0, -1, false, NULL) != NULL)
		return false;
	error = try_range(epoch, statement, 0, high, false, NULL);
	if (error == NULL || !worker_error_of_row(error))
		return false;
	while (high - low > 1)
	{
		int64		mid = low + (high - low) / 2;
		ErrorData  *edata = try_range(epoch, statement, 0, mid, false, NULL);

		CHECK_FOR_INTERRUPTS();
		if (edata == NULL)
			low = mid;
		else
		{
			high = mid;
			error = edata;
		}
	}
	if (!worker_error_of_row(error))
		return false;

	bad = palloc0(sizeof(BadGroup));
	bad->statement = statement;
	bad->sqlstate = error->sqlerrcode;
	bad->message = error->message;
	bad->detail = error->detail;
	(void) try_range(epoch, statement, high - 1, high, true, &bad->json);
	number = high - 1;
	for (op = 0; op < my_launcher->program->nkeyed; op++)
	{
		int64		n;

		if (!belongs_to(&epoch->sets[op], statement))
			continue;
		n = fire_count(&epoch->sets[op]);
		if (number < n)
			break;
		number -= n;
	}
	if (bad->json == NULL)
		bad->json = group_json(epoch, op, number);
	leave_out(&epoch->sets[op], number);
	epoch->bad_groups = lappend(epoch->bad_groups, bad);
	return true;
}

bool
keyed_output_blame(Epoch *epoch, int statement)
{
	MemoryContext old = MemoryContextSwitchTo(my_keyed->epoch_cxt);
	bool		found = false;
	int			s;

	if (list_length(epoch->bad_groups) >= my_launcher->row->max_consecutive_errors)
		return false;
	/* a row that several groups make is no group's fault */
	for (s = 1; s <= list_length(my_launcher->program->statements); s++)
		if ((statement == 0 || s == statement) &&
			((Statement *) list_nth(my_launcher->program->statements, s - 1))->info->nested)
			return false;
	/* deferred constraints do not say whose they are */
	for (s = 1; s <= list_length(my_launcher->program->statements) && !found; s++)
		if (statement == 0 || s == statement)
			found = blame_in(epoch, s);
	MemoryContextSwitchTo(old);
	return found;
}

void
keyed_output_letters(Epoch *epoch)
{
	ListCell   *lc;

	foreach(lc, epoch->bad_groups)
	{
		BadGroup   *bad = lfirst(lc);
		DeadLetter	letter = {0};

		letter.statement = bad->statement;
		letter.timestamp_ms = -1;
		letter.attempts = 1;
		letter.sqlstate = bad->sqlstate;
		letter.message = bad->message;
		letter.detail = bad->detail;
		letter.output_row = bad->json;
		catalog_dead_letter_insert(my_launcher->row->name, &letter);
	}
}

void
keyed_output_show(Epoch *epoch)
{
	static int64 logged_us = 0;
	BadGroup   *bad;
	Reason		reason;

	if (epoch->bad_groups == NIL)
		return;
	bad = llast(epoch->bad_groups);
	reason_set(&reason, unpack_sql_state(bad->sqlstate), bad->message, bad->detail, NULL);
	LWLockAcquire(shmem->lock, LW_EXCLUSIVE);
	worker_pipeline()->last_error = reason;
	LWLockRelease(shmem->lock);
	/* the message may quote the row: it is for the owner's eyes */
	if (logged_us == 0 || monotonic_us() - logged_us > LETTERS_LOG_US)
		ereport(LOG,
				(errmsg("pipeline \"%s\" keeps result rows that could not be written in streamproc.dead_letter, now one of statement %d in epoch " INT64_FORMAT " with SQLSTATE %s",
						my_launcher->row->name, bad->statement, epoch->number, reason.sqlstate)));
	logged_us = monotonic_us();
}

/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  From the text of a pipeline to plans that run on micro-batches.
 *
 *	  text --parse--> Query --check (legality.c)--> stored in a procedure
 *	  procedure --rewrite, check again, plan (program.c)--> Program
 *	  Program + feeds --execute (program.c, insert.c, upsert.c)--> sink rows
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_PLAN_H
#define STREAMPROC_PLAN_H

#include "postgres.h"

#include "catalog/catalog.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "operator/operator.h"
#include "stream/stream.h"
#include "tcop/dest.h"
#include "utils/rel.h"

/* How a statement's rows reach the sink. */
typedef enum StatementMode
{
	STATEMENT_WHOLE,			/* INSERT ... SELECT as it is */
	STATEMENT_MULTI_INSERT,		/* the SELECT, its rows by table_multi_insert */
	STATEMENT_UPSERT,			/* ON CONFLICT: rows sorted by key, inserted in rounds before the commit */
	STATEMENT_ROW_BY_ROW		/* ON CONFLICT of another kind: one message at a time, one task */
} StatementMode;

/* What the check found out about one statement. */
typedef struct StatementInfo
{
	Oid			sink;			/* relation of the top INSERT */
	List	   *sinks;			/* OIDs of every relation inserted into */
	List	   *sources;		/* OIDs of the topics' foreign tables */
	Oid			sink_server;	/* of topics inserted into; InvalidOid: there are none */
	bool		has_on_conflict;	/* anywhere */
	bool		nested_on_conflict; /* in a WITH */
	bool		deterministic;	/* no volatile function over the rows */
	bool		lookups;		/* reads other tables */
	bool		stable_only;	/* uses stable functions or other tables: a replay may differ */
	List	   *volatile_functions; /* names, palloc'd */
	bool		grouped;		/* puts the topic's rows into groups */
	bool		windowed;		/* ... of windows, all of them */
	bool		unwindowed;		/* ... some of them without */
	bool		over;			/* puts nothing into groups: window functions, or a join of topics */
	bool		top;			/* groups of their first rows */
	bool		session;		/* some of the windows are sessions */
	bool		nested;			/* and those into groups again */
	bool		chained;		/* puts what window functions answer into groups */
	bool		ranked;			/* first ranks: of a rank there may be any number of rows */
	bool		stacked;		/* window functions or DISTINCT ON over such answers */
	bool		having;			/* some of the groups are not given out */
	const char *conflict_misses;	/* why ON CONFLICT does not find a group's row, NULL: it does */
} StatementInfo;

/* ---- parse.c, legality.c ---- */

/* Parses and analyses a pipeline's text: a list of Query. Errors show their place in the text. */
extern List *plan_parse(const char *text);
/*
 * Throws feature_not_supported unless each statement is row-wise: its result
 * over two batches together is the union of its results over each.  Also all
 * use one server, and none reads what one of them writes.  "text" is what
 * positions refer to, NULL: none are shown (stored statements).
 */
extern List *plan_check(List *queries, const char *text, Oid *server);

/* ---- trust.c ---- */

/*
 * Where the current user is a superuser: throws 42501 unless all that would
 * run as him belongs to him or to another superuser.  Before planning, which
 * evaluates functions.  Adds what was judged to *relations and *functions.
 */
extern void trust_check(Query *rewritten, const StatementInfo *info, List **relations, List **functions);

/* ---- program.c ---- */

/*
 * Messages of a batch.  The ordinary one stays in the processor's cache;
 * statements that look up tables pay for each run of the executor (a hash
 * table is built, an index is walked for the same keys again) and get the
 * large one.
 */
#define PROGRAM_ROWS		4096
#define PROGRAM_ROWS_LOOKUP 32768

/* for a few rows, for some thousand, for a full batch */
#define PROGRAM_PLANS		3

/* the one that the launcher runs, of statements with groups */
#define PROGRAM_OUTPUT		1

static inline int
program_plan_size(int64 rows)
{
	return rows < 192 ? 0 : rows < 8192 ? 1 : 2;
}

typedef struct Statement
{
	StatementInfo *info;
	StatementMode mode;
	PlannedStmt *plan[PROGRAM_PLANS];	/* for batches of different sizes */
	PlannedStmt *child[PROGRAM_PLANS];		/* MULTI_INSERT, UPSERT: the plan below ModifyTable */
	PlannedStmt *apply;			/* UPSERT: ModifyTable over the collected rows */
	Oid			arbiter;		/* UPSERT: the index */
	int			number;			/* 1-based, for messages */
	struct MultiInsert *insert; /* MULTI_INSERT: receiver */
	struct Upsert *upsert;		/* UPSERT: collected rows */
	double		checks_per_message; /* WHOLE: see checks.c */
	const char *tombstones_miss;	/* why no tombstone can be written for a group that leaves; NULL: it is */
} Statement;

typedef struct ProgramSource
{
	Oid			relid;
	Bitmapset  *needed;			/* attnums */
} ProgramSource;

/* A join of two topics, between join_prepare() and the hook. */
typedef struct JoinNode
{
	JoinPlan	plan;			/* but what depends on columns */
	int			nkeys;
	List	   *sides;			/* IntList: of each column of the union behind keys, event time and place */
	List	   *condition;		/* on pairs, in terms of the union's columns; of as-of joins columns to order by */
	AsofPlan   *asof;			/* NULL: it is no as-of join */
} JoinNode;

/* A grouped aggregation: the plan of its input, and its rows. */
typedef struct KeyedNode
{
	OperatorSpec *spec;			/* NULL: not there */
	char	   *text;			/* what it groups by and aggregates */
	FuncExpr   *held_for;		/* tumble() over its windows, see keyed_query.c; NULL: none */
	bool		held_on_end;	/* ... over window_end */
	bool		over;			/* window functions */
	int			upstream;		/* the operator whose rows the row query reads, -1: it reads topics */
	int			consumer;		/* the operator that takes its rows, -1: they are given out */
	TupleDesc	answer;			/* its rows, where one does, and those of a join */
	int			time_side;		/* the rows are those of a join: the side whose event time the window is of, 2: of either */
	JoinNode   *join;			/* NULL: it is none */
	OperatorRows *rows;			/* of the present transaction */
	PlannedStmt *query[PROGRAM_PLANS];	/* the row query, for batches of different sizes */
} KeyedNode;

typedef struct Program
{
	MemoryContext cxt;
	Oid			procedure;
	List	   *statements;		/* of Statement */
	int			nsources;
	ProgramSource *sources;
	Oid			server;
	int			max_rows;		/* messages of a full batch */
	bool		has_upsert;
	bool		needs_one_task; /* some statement runs row by row */
	bool		has_deferred;	/* some sink has a deferrable constraint */
	bool		valid;			/* false: some object changed, load again */
	bool		trust_owners;	/* option of the pipeline, see trust.c */
	List	   *relations;		/* OIDs whose change makes it invalid */
	List	   *functions;		/* hash values of functions of which the same is true; the plans know more */
	List	   *lock_relids;	/* every relation of the plans with its lock mode */
	List	   *lock_modes;
	Oid			sink_server;	/* of topics that are written; InvalidOid: there are none */
	StreamOutbox *outbox;		/* takes their messages; NULL: there are none */
	bool		only_topics;	/* nothing else is written, nor by a function that might */
	uint64		rows_out;		/* since the last program_reset() */
	int			running;		/* number of the statement that runs or ran last, 0: none */
	int64		upsert_most;	/* most rows of one key in the last flush */
	int64		unchecked;		/* messages run whose deferred constraints are not checked */
	double		checks_per_message; /* of deferred constraints */
	bool		rows_only;		/* in a task of a keyed program: what is only written is not locked */
	bool		arrival;		/* window functions answer rows as they come */
	int64		state_ttl;		/* us: keys are forgotten so long after their last row; 0: never */
	bool		has_over;		/* there are window functions, or joins of topics */
	bool		is_keyed;		/* statements run by program_fire(), their row queries by program_run() */
	int			nkeyed;
	KeyedNode	keyed[STATE_MAX_OPERATORS];	/* by number of the operator */
} Program;

/*
 * Loads, checks, plans the statements of a procedure; throws what is wrong with
 * them.  "arrival": option ordering; "state_ttl": us, 0: none.
 */
extern Program *program_load(Oid procedure, bool trust_owners, bool arrival, int64 state_ttl);
/* Plans for check_pipeline and for the checks of creation. */
extern Program *program_make(List *queries, bool trust_owners, bool arrival, int64 state_ttl);
extern void program_free(Program *program);
/*
 * Takes the locks of the plans; false: something changed, the program must be
 * loaded again.  First thing in a transaction.
 */
extern bool program_lock(Program *program);
/* what keeps state, for comparison with what saved it; "": nothing does */
extern char *program_signature(Program *program);
/* what is grouped by and aggregated, with the names that things have now */
extern char *program_groups(Program *program);
/* Runs the statements on the batch that stream_feeds holds: so many messages that are not bad. */
extern void program_run(Program *program, int nrows);
/*
 * Runs the statements on no rows: throws what does not come from a row.  In a
 * transaction, or a subtransaction, that is given up afterwards.
 */
extern void program_run_empty(Program *program);
/*
 * Begins a part of a transaction whose deferred constraints program_finish()
 * checks, after which others follow: constraints are deferred again.  That is
 * exact where none of the database is deferrable but initially immediate: see
 * program_may_defer().
 */
extern void program_defer(Program *program);
extern bool program_may_defer(Program *program);
/*
 * The row query of an operator over what its upstream has answered: "rows" OverRecords
 * of "bytes".  In a transaction; the rows are in KeyedNode.rows then.
 */
extern void program_run_passed(Program *program, int number, StateArea *area, const char *records, Size bytes, int64 rows);
/* the first of the records as a JSON object */
extern char *program_passed_json(Program *program, int number, const char *record);
/* A keyed program in the launcher: runs the statements on what operator_fire_sets give out. */
extern void program_fire(Program *program);
/* one of them; nothing is kept: for a transaction that is given up */
extern void program_fire_statement(Program *program, int number);
/* the rows that a statement would insert, as JSON objects; NULL: none */
extern char *program_fire_json(Program *program, int number);
/* Before the commit: rows held back are written, deferred constraints are checked. */
extern void program_finish(Program *program);
/*
 * At the begin of a transaction that calls it several times: rows of upserts
 * are sorted in each part only, so tasks would deadlock.
 */
extern void program_begin_pieces(Program *program);
/*
 * After an error: the number, from 0, of the message whose row a foreign key or
 * trigger was checking, among those of the last program_run(), or, for deferred
 * constraints, of those since the last program_finish(); -1: unknown.  Only a
 * guess, see checks.c.
 */
extern int	program_checked_message(Program *program);
/* Bytes of rows held back for the commit. */
extern Size program_held_bytes(Program *program);
/* After commit or abort: forgets rows held back. */
extern void program_reset(Program *program);
/* What stands in the open transaction before a subtransaction; after its abort the rest is forgotten. */
typedef struct ProgramMark
{
	uint64		rows_out;
	StreamOutboxMark outbox;
} ProgramMark;

extern ProgramMark program_mark(const Program *program);
extern void program_forget(Program *program, ProgramMark mark);
extern const char *statement_mode_name(StatementMode mode);
/* what becomes of its rows, emit and late not given: append, upsert, upsert with tombstones */
extern const char *statement_result_name(const Statement *statement);
extern void program_check_rights(Program *program);
extern char *program_explain(Statement *statement);

/* ---- emit.c ---- */

/*
 * Throws 0A000 or 22023 where the statements cannot give out their groups in
 * the way that the options emit and late ask for.
 */
extern void plan_check_emit(Program *program, EmitKind emit, LateKind late);
/* the same for state_ttl */
extern void plan_check_ttl(Program *program);

/* ---- checks.c ---- */

extern void checks_watch(void);
extern void checks_begin(void);
extern void checks_end(double *per_message, int64 messages);
extern void checks_forget(void);
extern int	checks_message(double per_message);

/* ---- insert.c ---- */

/*
 * Rows that are written together, at most MULTI_INSERT_ROWS.  An index refuses a
 * row when it is written: what was computed behind it is lost, so they are few
 * where errors are expected.
 */
#define MULTI_INSERT_ROWS		1000
#define MULTI_INSERT_CAREFUL	16
extern int	multi_insert_rows;

extern bool multi_insert_possible(Relation sink);
extern DestReceiver *multi_insert_receiver(Statement *statement, MemoryContext cxt);
extern uint64 multi_insert_run(Statement *statement, PlannedStmt *child);

/* ---- upsert.c ---- */

extern Oid	upsert_arbiter(ModifyTable *node, Relation sink);
extern PlannedStmt *upsert_apply_plan(PlannedStmt *whole);
extern struct Upsert *upsert_create(Statement *statement, MemoryContext cxt);
extern void upsert_collect(Statement *statement, PlannedStmt *child);
extern int64 upsert_prepare(Statement *statement);
extern uint64 upsert_flush(Statement *statement);
/* before it; until the end of the transaction.  Without a snapshot */
extern void upsert_wait_for_turn(Program *program, bool alone);
extern void upsert_reset(struct Upsert *upsert);
extern Size upsert_bytes(struct Upsert *upsert);
extern void upsert_init(void);

/* the plan below a ModifyTable, with the init plans that hang above it */
extern PlannedStmt *plan_below_modify_table(PlannedStmt *whole);
/* runs one plan on the active snapshot; rows processed */
extern uint64 plan_execute(PlannedStmt *plan, DestReceiver *dest);

#endif							/* STREAMPROC_PLAN_H */

/*-------------------------------------------------------------------------
 *
 * keyed.h
 *	  Operators in plans: between keyed*.c and program.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_KEYED_H
#define STREAMPROC_KEYED_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "operator/operator.h"
#include "plan/plan.h"

/* which of the functions of sql/, by their C names' meaning */
typedef enum WindowFunction
{
	WINDOW_FUNCTION_NONE,
	FUNCTION_TUMBLE,			/* in FROM */
	FUNCTION_HOP,
	FUNCTION_CUMULATE,
	FUNCTION_SESSION,			/* OVER */
	FUNCTION_TUMBLE_START,		/* in expressions, from here on */
	FUNCTION_TUMBLE_END,
	FUNCTION_HOP_START,
	FUNCTION_HOP_END,
	FUNCTION_CUMULATE_START,
	FUNCTION_CUMULATE_END,
	FUNCTION_SESSION_SLICE
} WindowFunction;

extern WindowFunction window_function(Oid function);

/* ---- keyed_query.c ---- */

/*
 * Prepares a rewritten statement for the hook: each SELECT that groups a topic's
 * rows gets a number, from program->nkeyed on, and carries the place of the message;
 * hop() and cumulate() become slices.
 */
extern void keyed_prepare(Query *query, List *outer, Program *program);
/* an INSERT of groups: its rows come in the order of the sink's index */
extern void keyed_sort_for_sink(Query *insert, Relation sink);
extern Oid	keyed_place_aggregate(void);
extern Oid	keyed_session_slice(void);
extern List *window_arguments(FuncExpr *call);

/* ---- over.c: window functions ---- */

/* the junk column that keyed_prepare() gives a SELECT with window functions is called so, and the operator's number follows */
#define OVER_MARKER		"streamproc over "
/* and this, where only the first row of each key is wanted */
#define OVER_MARKER_FIRST " first"

extern void over_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output);
extern OverPlan *over_read(CustomScan *scan, List *private, List *args, List *filters, bool arrival);
/* conditions of the node and its parent are asked for in the task: what they do not let through is not shipped */
extern void over_push_filter(OperatorSpec *spec, CustomScan *scan, Plan *parent);

/* ---- session.c ---- */

/* a query that groups: session() below it becomes a function that the hook finds in its GROUP BY */
extern void session_prepare(Query *query);

/* ---- keyed.c ---- */

/* number of the column that the expression is, added where it is new */
extern int	keyed_target_column(PathTarget *target, Expr *expr);
/* an argument that is not computed for a row that FILTER keeps out */
extern Expr *keyed_filtered(Expr *arg, Expr *filter);
extern Plan *keyed_plan_path(PlannerInfo *root, RelOptInfo *rel, struct CustomPath *best_path,
							 List *tlist, List *clauses, List *custom_plans);
extern void keyed_init(void);
/* set around pg_plan_query: SELECTs that keyed_prepare() marked become operators */
extern bool keyed_planning;
/* is it a grouped aggregation of ours? */
extern bool keyed_is_node(const Plan *plan);
/* can it be noted which of its groups were given out? */
extern bool keyed_notes_given(const CustomScan *scan);
/* the key that its groups have in the topic, in terms of its own columns */
extern void keyed_set_tombstone(CustomScan *scan, Expr *key, Oid topic);
/* the operators of a plan, and the row queries of their children */
extern void keyed_collect(Program *program, Statement *statement, PlannedStmt *plan, int size);

/* ---- tombstone.c ---- */

/*
 * Makes the node of the plan write a tombstone for each group that was given out and
 * does not fulfil HAVING any more.  NULL: it will, else why it cannot.
 */
extern const char *tombstone_prepare(const StatementInfo *info, PlannedStmt *plan);

#endif							/* STREAMPROC_KEYED_H */

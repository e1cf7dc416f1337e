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
	FUNCTION_TUMBLE_START,		/* in expressions, from here on */
	FUNCTION_TUMBLE_END,
	FUNCTION_HOP_START,
	FUNCTION_HOP_END,
	FUNCTION_CUMULATE_START,
	FUNCTION_CUMULATE_END
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
extern List *window_arguments(FuncExpr *call);

/* ---- keyed.c ---- */

extern void keyed_init(void);
/* set around pg_plan_query: SELECTs that keyed_prepare() marked become operators */
extern bool keyed_planning;
/* is it an aggregation of ours? */
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

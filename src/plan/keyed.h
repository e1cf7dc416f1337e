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
/* WITH queries over a topic become part of the query; "outer": those around it */
extern void keyed_put_ctes_in(Query *query, List *outer);
/* the place of the message as an expression of the query */
extern Var *keyed_expose_place(Query *query, List *outer);
/* the column that has it in subqueries is called so */
#define KEYED_PLACE_NAME	"streamproc_place"
/* the select list as text, the same wherever it is asked for */
extern char *keyed_select_list(Query *query);

/* ---- over.c: window functions ---- */

/* the junk column that keyed_prepare() gives a SELECT with window functions is called so, and the operator's number follows */
#define OVER_MARKER		"streamproc over "
/* and this, where only the first row of each key is wanted */
#define OVER_MARKER_FIRST " first"
/* or this and a number, where so many in another order are: see top.c */
#define OVER_MARKER_TOP " top "
/* and this one has its event time, where that has to be known */
#define OVER_EVENT_TIME	"streamproc top event time"

/* the junk column whose name begins so, NULL: there is none */
extern TargetEntry *keyed_find_marker(PlannerInfo *root, const char *name);
extern void over_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output);
extern OverPlan *over_read(CustomScan *scan, List *private, List *args, List *filters, bool arrival);
/* conditions of the node and its parent are asked for in the task: what they do not let through is not shipped */
extern void over_push_filter(OperatorSpec *spec, CustomScan *scan, Plan *parent);

/* ---- chain.c ---- */

/* what the node gives another operator, with names as near as the plan knows them */
extern TupleDesc chain_describe(CustomScan *scan, List *rtable);

/* ---- join.c: joins of two topics ---- */

/* the junk column of the subquery that join_prepare() makes is called so, and the operator's number follows */
#define JOIN_MARKER		"streamproc join "

/* exchanges the join of two topics in FROM for a subquery that the hook knows */
extern void join_prepare(Query *query, List *outer, Program *program);
/* is it such a subquery? */
extern bool join_is_prepared(const Query *query);
/* for a text of the query's select list: joins below become subqueries of nothing, with the same columns */
extern void join_leave_out(Query *query);
/* the side of a join below whose column the expression is: 0 or 1; 2: it is none, or of either */
extern int	join_side_of(Node *node, Query *query, Program *program);
extern void join_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output);
extern JoinPlan *join_read(List *private, int side_column);

/* ---- asof.c: as-of joins of two topics, whose nodes are those of joins ---- */

struct StreamJoin;
/* NULL: it is none */
extern AsofPlan *asof_plan(const struct StreamJoin *join);
/* into what join_read() gets, and back; "output": KEYED_OUTPUT */
extern List *asof_write(const AsofPlan *plan, List *private);
extern AsofPlan *asof_read(List *private, const CustomScan *scan, const List *output, int side_column);

/* ---- top.c: the first rows of each key ---- */

extern void top_paths(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, TargetEntry *marker, int n);
extern TopPlan *top_read(List *private);

/* ---- session.c ---- */

/* a query that groups: session() below it becomes a function that the hook finds in its GROUP BY */
extern void session_prepare(Query *query);

/* ---- keyed.c ---- */

/* is it a border of a window, under the wrappings of grouping sets? */
extern bool keyed_is_border(Node *node, bool *is_end);

/* number of the column that the expression is, added where it is new */
extern int	keyed_target_column(PathTarget *target, Expr *expr);
/* an argument that is not computed for a row that FILTER keeps out */
extern Expr *keyed_filtered(Expr *arg, Expr *filter);
extern Plan *keyed_plan_path(PlannerInfo *root, RelOptInfo *rel, struct CustomPath *best_path,
							 List *tlist, List *clauses, List *custom_plans);
extern void keyed_init(void);
/* set around pg_plan_query: SELECTs that keyed_prepare() marked become operators of it */
extern Program *keyed_planning;
/* is it one of our nodes? */
extern bool keyed_is_operator(const Plan *plan);
/* is it a grouped aggregation? */
extern bool keyed_is_node(const Plan *plan);
/* can it be noted which of its groups were given out? */
extern bool keyed_notes_given(const CustomScan *scan);
/* the key that its groups have in the topic, in terms of its own columns */
extern void keyed_set_tombstone(CustomScan *scan, Expr *key, Oid topic);
/* number of the operator that the node is; what it is, and what a call of a window function asks for */
extern int	keyed_number(CustomScan *scan);
extern OperatorSpec *keyed_read_spec(CustomScan *scan, int statement, bool arrival, int64 ttl, MemoryContext cxt);
extern void keyed_read_window(FuncExpr *call, OperatorWindow *window, WindowScale *scale);

/* ---- keyed_collect.c ---- */

/* the operators of a plan, and the row queries of their children */
extern void keyed_collect(Program *program, Statement *statement, PlannedStmt *plan, int size);

/* ---- tombstone.c ---- */

/*
 * Makes the node of the plan write a tombstone for each group that was given out and
 * does not fulfil HAVING any more.  NULL: it will, else why it cannot.
 */
extern const char *tombstone_prepare(const StatementInfo *info, PlannedStmt *plan);

#endif							/* STREAMPROC_KEYED_H */

/*-------------------------------------------------------------------------
 *
 * legality_join.c
 *	  Which joins of two topics a pipeline can compute, judged on the Query, and
 *	  what they are made of.
 *
 * The conditions of the join (with INNER JOIN those of WHERE too) are taken apart:
 *
 *		keys		equalities of an expression of one side and one of the other
 *		bounds		how long before and after a row of the left side its
 *					partners may be, by event time
 *		own			conditions on rows of one side, asked for below the join
 *		pairs		all others: asked for when two rows meet
 *		above		what stays WHERE
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "plan/legality.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#define JOIN_HINT "Write FROM a JOIN b ON a.id = b.id AND b.at BETWEEN a.at - interval '10 min' AND a.at + interval '10 min', where at is the event time of both."
#define LONGEST_DAYS	36500

/* ---- where it is ---- */

typedef struct FindContext
{
	Query	   *query;
	List	   *outer;
	StreamJoin *join;			/* of the first one; NULL: none yet */
	bool		several;
} FindContext;

static void
found_join(FindContext *cxt, JoinExpr *expr, Node *left, Node *right)
{
	if (cxt->join != NULL)
	{
		cxt->several = true;
		return;
	}
	cxt->join = palloc0(sizeof(StreamJoin));
	cxt->join->expr = expr;
	cxt->join->item[0] = left;
	cxt->join->item[1] = right;
	cxt->join->type = expr != NULL ? expr->jointype : JOIN_INNER;
}

/* Does the item of the join tree read a topic? */
static bool
find_join(Node *node, FindContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblRef))
		return legality_rte_reads_topic(rt_fetch(((RangeTblRef *) node)->rtindex, cxt->query->rtable), cxt->query, cxt->outer);
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *expr = (JoinExpr *) node;
		bool		left = find_join(expr->larg, cxt);
		bool		right = find_join(expr->rarg, cxt);

		if (left && right)
			found_join(cxt, expr, expr->larg, expr->rarg);
		return left || right;
	}
	else
	{
		Node	   *first = NULL;
		ListCell   *lc;

		foreach(lc, castNode(FromExpr, node)->fromlist)
		{
			if (!find_join(lfirst(lc), cxt))
				continue;
			if (first != NULL)
				found_join(cxt, NULL, first, lfirst(lc));
			else
				first = lfirst(lc);
		}
		return first != NULL;
	}
}

static FindContext
find(Query *query, List *outer)
{
	FindContext cxt = {query, outer};

	if (query->setOperations == NULL)
		(void) find_join((Node *) query->jointree, &cxt);
	return cxt;
}

bool
legality_joins_topics(Query *query, List *outer)
{
	return find(query, outer).join != NULL;
}

int
legality_missing_side(Query *query, List *outer, int varno)
{
	FindContext found = find(query, outer);
	int			side;

	for (side = 0; side < 2 && found.join != NULL; side++)
		if (found.join->type == (side == 0 ? JOIN_RIGHT : JOIN_LEFT) || found.join->type == JOIN_FULL)
			if (bms_is_member(varno, get_relids_in_jointree(found.join->item[side], true)))
				return 1 << side;
	return 0;
}

/* ---- the bounds ---- */

/* The event time of a side, moved by a constant interval. */
typedef struct Moved
{
	int			side;
	Var		   *at;
	Interval	by;
} Moved;

typedef struct JoinContext
{
	CheckContext *cxt;
	Query	   *query;
	List	   *outer;
	StreamJoin *join;
	bool		has_low;
	bool		has_high;
	/* why a condition that compares times of both sides is no bound */
	const char *why;
	const char *why_hint;
	int			why_location;
} JoinContext;

static void
note_why(JoinContext *jc, Node *node, const char *why, const char *hint)
{
	if (jc->why != NULL)
		return;
	jc->why = why;
	jc->why_hint = hint;
	jc->why_location = exprLocation(node);
}

static int
side_of(const StreamJoin *join, Node *node)
{
	Relids		rels = pull_varnos(NULL, node);
	int			side;

	if (bms_is_empty(rels))
		return JOIN_SIDE_NONE;
	for (side = 0; side < 2; side++)
		if (bms_is_subset(rels, join->rels[side]))
			return side;
	return bms_is_subset(rels, bms_union(join->rels[0], join->rels[1])) ? JOIN_SIDE_BOTH : JOIN_SIDE_OTHER;
}

/* A constant interval that can be one of a join; false: it is none, and noted why. */
static bool
read_interval(JoinContext *jc, Node *node, Interval *into)
{
	Node	   *value = eval_const_expressions(NULL, copyObject(node));
	const Interval *interval;

	if (!IsA(value, Const))
	{
		note_why(jc, node, "an interval in a join of topics that is not a constant is not supported", "Write it as a literal, such as interval '10 min'.");
		return false;
	}
	if (((Const *) value)->constisnull || ((Const *) value)->consttype != INTERVALOID)
		return false;
	interval = DatumGetIntervalP(((Const *) value)->constvalue);
	if (interval->month != 0)
	{
		note_why(jc, node, "an interval with months in a join of topics is not supported", "Use days or hours: rows are kept for a time that must be known.");
		return false;
	}
	if (Abs((int64) interval->day) > LONGEST_DAYS || Abs(interval->time) > LONGEST_DAYS * USECS_PER_DAY)
	{
		note_why(jc, node, "an interval of more than 36500 days in a join of topics is not supported", "Use a shorter one.");
		return false;
	}
	*into = *interval;
	return true;
}

static bool
read_moved(JoinContext *jc, Node *node, Moved *moved)
{
	OpExpr	   *op = (OpExpr *) node;

	if (IsA(node, Var))
	{
		memset(moved, 0, sizeof(*moved));
		moved->at = (Var *) node;
		moved->side = side_of(jc->join, node);
		if (moved->side != 0 && moved->side != 1)
			return false;
		if (legality_is_event_time(node, jc->query, jc->outer))
			return true;
		note_why(jc, node, "a join of topics over another time than their event times is not supported",
				 "Compare the columns that option event_time of the foreign tables names, as they are.");
		return false;
	}
	if (IsA(node, OpExpr) && list_length(op->args) == 2)
	{
		Node	   *at = linitial(op->args);
		Node	   *by = lsecond(op->args);
		Oid			function = op->opfuncid != InvalidOid ? op->opfuncid : get_opcode(op->opno);
		Interval	more;

		if (function == F_INTERVAL_PL_TIMESTAMPTZ)
		{
			at = lsecond(op->args);
			by = linitial(op->args);
		}
		else if (function != F_TIMESTAMPTZ_PL_INTERVAL && function != F_TIMESTAMPTZ_MI_INTERVAL)
		{
			note_why(jc, node, "a join of topics over another time than their event times is not supported",
					 "Compare the columns that option event_time of the foreign tables names, plus or minus an interval.");
			return false;
		}
		if (!read_moved(jc, at, moved) || !read_interval(jc, by, &more))
			return false;
		/* days and times do not add up where clocks are set in between */
		if ((moved->by.day != 0 && (more.day != 0 || more.time != 0)) || (more.day != 0 && moved->by.time != 0))
		{
			note_why(jc, node, "a sum of intervals with days in a join of topics is not supported", "Write one interval, or hours in place of days.");
			return false;
		}
		if (function == F_TIMESTAMPTZ_MI_INTERVAL)
		{
			more.time = -more.time;
			more.day = -more.day;
		}
		moved->by.time += more.time;
		moved->by.day += more.day;
		return true;
	}
	note_why(jc, node, "a join of topics over another time than their event times is not supported",
			 "Compare the columns that option event_time of the foreign tables names, plus or minus an interval.");
	return false;
}

/* "left's time, moved <= right's, moved", strictly or not, as a bound: one of them is moved */
static bool
make_bound(JoinContext *jc, Node *node, const Moved *left, const Moved *right, bool strict, JoinBound *bound)
{
	bound->strict = strict;
	if (left->by.day != 0 || right->by.day != 0)
	{
		if ((left->by.day != 0 || left->by.time != 0) && (right->by.day != 0 || right->by.time != 0))
		{
			note_why(jc, node, "intervals with days on both sides of a comparison in a join of topics are not supported", "Write one interval, or hours in place of days.");
			return false;
		}
		bound->shifted = left->by.day != 0 || left->by.time != 0 ? 0 : 1;
		bound->by = bound->shifted == 0 ? left->by : right->by;
		return true;
	}
	bound->shifted = 0;
	bound->by = left->by;
	bound->by.time -= right->by.time;
	return true;
}

/* x compared with y, both event times of a side that may be moved; true: it is a bound */
static bool
take_comparison(JoinContext *jc, Node *node, const Moved *x, const Moved *y, int strategy)
{
	const Moved *left = x->side == 0 ? x : y;
	const Moved *right = x->side == 0 ? y : x;
	bool		strict = strategy == BTLessStrategyNumber || strategy == BTGreaterStrategyNumber;
	bool		x_first = strategy == BTLessStrategyNumber || strategy == BTLessEqualStrategyNumber;
	JoinBound	bound = {0};

	if (x->side == y->side || !make_bound(jc, node, left, right, strict, &bound))
		return false;
	if (strategy == BTEqualStrategyNumber)
	{
		if (jc->has_low || jc->has_high)
			return false;
		jc->has_low = jc->has_high = true;
		jc->join->low = jc->join->high = bound;
	}
	else if (x_first == (x->side == 0))
	{
		/* left <= right: not before */
		if (jc->has_low)
			return false;
		jc->has_low = true;
		jc->join->low = bound;
	}
	else
	{
		if (jc->has_high)
			return false;
		jc->has_high = true;
		jc->join->high = bound;
	}
	jc->join->at[0] = left->at;
	jc->join->at[1] = right->at;
	return true;
}

/* "x - y" of two event times compared with an interval: days of it are 24 hours */
static bool
read_difference(JoinContext *jc, Node *node, Node *constant, Moved *x, Moved *y)
{
	OpExpr	   *op = (OpExpr *) node;
	Interval	interval;

	if (!IsA(node, OpExpr) || (op->opfuncid != InvalidOid ? op->opfuncid : get_opcode(op->opno)) != F_TIMESTAMPTZ_MI)
		return false;
	if (!read_moved(jc, linitial(op->args), x) || !read_moved(jc, lsecond(op->args), y) || x->by.day != 0 || y->by.day != 0 ||
		!read_interval(jc, constant, &interval))
		return false;
	y->by.time += interval.time + interval.day * USECS_PER_DAY;
	return true;
}

/* Is the condition a bound of time? */
static bool
take_bound(JoinContext *jc, Node *node)
{
	OpExpr	   *op = (OpExpr *) node;
	Node	   *a;
	Node	   *b;
	int			strategy;
	Moved		x;
	Moved		y;

	if (!IsA(node, OpExpr) || list_length(op->args) != 2 || side_of(jc->join, node) != JOIN_SIDE_BOTH)
		return false;
	a = linitial(op->args);
	b = lsecond(op->args);
	strategy = get_op_opfamily_strategy(op->opno, lookup_type_cache(TIMESTAMPTZOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy != 0)
	{
		/* both are looked at, so that what is wrong with either is noted; of equalities others are keys */
		const char *why = jc->why;
		bool		first = read_moved(jc, a, &x);
		bool		second = read_moved(jc, b, &y);

		if (first && second)
			return take_comparison(jc, node, &x, &y, strategy);
		if (strategy == BTEqualStrategyNumber)
			jc->why = why;
		return false;
	}
	strategy = get_op_opfamily_strategy(op->opno, lookup_type_cache(INTERVALOID, TYPECACHE_BTREE_OPFAMILY)->btree_opf);
	if (strategy == 0)
		return false;
	if (read_difference(jc, a, b, &x, &y))
		return take_comparison(jc, node, &x, &y, strategy);
	/* interval >= x - y: y + interval first */
	if (read_difference(jc, b, a, &x, &y))
		return take_comparison(jc, node, &y, &x, strategy);
	return false;
}

/* ---- the keys ---- */

/* The operator compares two types of numbers: both as the wider one. */
static Oid
common_type(Oid op, Oid left, Oid right)
{
	static const Oid widest[] = {INT8OID, FLOAT8OID};
	int			i;

	if (left == right)
		return left;
	for (i = 0; i < (int) lengthof(widest); i++)
		if (get_op_opfamily_strategy(op, lookup_type_cache(widest[i], TYPECACHE_BTREE_OPFAMILY)->btree_opf) == BTEqualStrategyNumber)
			return widest[i];
	return InvalidOid;
}

static Node *
as_key(Node *expr, Oid type, Oid collation)
{
	if (exprType(expr) != type)
		expr = coerce_to_target_type(NULL, expr, exprType(expr), type, -1, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	/* the operator's collation says what is equal */
	if (OidIsValid(collation) && exprCollation(expr) != collation)
		expr = (Node *) makeRelabelType((Expr *) expr, type, exprTypmod(expr), collation, COERCE_IMPLICIT_CAST);
	return expr;
}

/* Is the condition an equality of the two sides? */
static bool
take_key(JoinContext *jc, Node *node)
{
	StreamJoin *join = jc->join;
	OpExpr	   *op = (OpExpr *) node;
	int			sides[2];
	Node	   *exprs[2];
	Oid			type;
	StateKeyColumn column;
	const char *wrong;

	if (!IsA(node, OpExpr) || list_length(op->args) != 2 || contain_volatile_functions(node) || contain_subplans(node))
		return false;
	sides[0] = side_of(join, linitial(op->args));
	sides[1] = side_of(join, lsecond(op->args));
	if ((sides[0] != 0 && sides[0] != 1) || sides[1] != 1 - sides[0] || get_mergejoin_opfamilies(op->opno) == NIL)
		return false;
	exprs[sides[0]] = linitial(op->args);
	exprs[sides[1]] = lsecond(op->args);
	type = common_type(op->opno, exprType(exprs[0]), exprType(exprs[1]));
	if (!OidIsValid(type))
		legality_refuse(jc->cxt, exprLocation(node), "Cast one of them to the type of the other.",
						"joining topics by values of different types, %s and %s, is not supported",
						format_type_be(exprType(exprs[0])), format_type_be(exprType(exprs[1])));
	wrong = state_key_column(&column, type, -1, op->inputcollid, exprType(exprs[0]) == exprType(exprs[1]) ? op->opno : InvalidOid);
	if (wrong != NULL)
		legality_refuse(jc->cxt, exprLocation(node), "Join by their texts: (value)::text.",
						"joining topics by values of type %s is not supported: %s", format_type_be(type), wrong);
	join->keys[0] = lappend(join->keys[0], as_key(exprs[0], type, op->inputcollid));
	join->keys[1] = lappend(join->keys[1], as_key(exprs[1], type, op->inputcollid));
	return true;
}

/* ---- all conditions ---- */

static List *
flatten_ands(Query *query, Node *node, List *into)
{
	ListCell   *lc;

	if (node == NULL)
		return into;
	if (IsA(node, List))
	{
		foreach(lc, (List *) node)
			into = flatten_ands(query, lfirst(lc), into);
		return into;
	}
	if (is_andclause(node))
		return flatten_ands(query, (Node *) ((BoolExpr *) node)->args, into);
	return lappend(into, flatten_join_alias_vars(query, copyObject(node)));
}

static bool
has_sublink(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
		return true;
	return expression_tree_walker(node, has_sublink, context);
}

/* Who asks for the condition?  "on": it is one of the join, else of WHERE. */
static void
place_condition(JoinContext *jc, Node *node, bool on)
{
	StreamJoin *join = jc->join;
	int			side = side_of(join, node);
	bool		inner = join->type == JOIN_INNER;
	bool		fixed = contain_volatile_functions(node) || has_sublink(node, NULL);

	if ((on || inner) && !fixed && (take_bound(jc, node) || take_key(jc, node)))
		return;
	if (!on || inner)
	{
		/* rows of a side that is not preserved are still missing where WHERE is asked */
		if (!fixed && (side == 0 || side == 1) && (inner || (join->type == JOIN_LEFT && side == 0)))
			join->own[side] = lappend(join->own[side], node);
		else if (inner && on && !fixed && (side == JOIN_SIDE_BOTH || side == JOIN_SIDE_NONE))
			join->pairs = lappend(join->pairs, node);
		else
			join->above = lappend(join->above, node);
		return;
	}
	if (fixed)
		legality_refuse(jc->cxt, exprLocation(node), "Use INNER JOIN, or ask for it in WHERE.",
						"a subquery or a volatile function in the conditions of an outer join of topics is not supported");
	if (side == 1 && join->type == JOIN_LEFT)
		join->own[1] = lappend(join->own[1], node);
	else
		join->pairs = lappend(join->pairs, node);
}

/* ---- the sides ---- */

void
legality_join_rels(StreamJoin *join)
{
	int			side;

	for (side = 0; side < 2; side++)
	{
		join->all_rels[side] = get_relids_in_jointree(join->item[side], true);
		join->rels[side] = get_relids_in_jointree(join->item[side], false);
	}
}

static void
check_side(JoinContext *jc, int side)
{
	Query	   *query = jc->query;
	StreamJoin *join = jc->join;
	int			varno = -1;

	while ((varno = bms_next_member(join->rels[side], varno)) >= 0)
	{
		RangeTblEntry *rte = rt_fetch(varno, query->rtable);
		List	   *vars = NIL;
		ListCell   *lc;

		if (legality_rte_has_operator(rte, query, jc->outer))
			legality_refuse(jc->cxt, join->location, "Write the results below into a topic, and join that.",
							"a join of topics over groups, window functions, DISTINCT ON or another join of topics is not supported");
		if (rte->rtekind == RTE_SUBQUERY)
			vars = pull_vars_of_level((Node *) rte->subquery, 1);
		else if (rte->rtekind == RTE_FUNCTION)
			vars = pull_vars_of_level((Node *) rte->functions, 0);
		foreach(lc, vars)
			if (!bms_is_member(lfirst_node(Var, lc)->varno, join->all_rels[side]))
				legality_refuse(jc->cxt, join->location, "Write the condition into ON.",
								"LATERAL from one side of a join of topics to the other is not supported");
	}
}

StreamJoin *
legality_topic_join(Query *query, List *outer, CheckContext *cxt)
{
	FindContext found = find(query, outer);
	JoinContext jc = {cxt, query, outer, found.join};
	StreamJoin *join = found.join;
	List	   *on = NIL;
	ListCell   *lc;

	if (join == NULL)
		return NULL;
	join->location = join->expr != NULL ? exprLocation(join->expr->quals) : -1;
	if (join->location < 0)
		join->location = legality_query_location(query);
	if (found.several)
		legality_refuse(cxt, join->location, "Write the rows of one join into a topic, and join that with the third one.",
						"joining more than two topics in one SELECT is not supported");
	if (contain_vars_of_level((Node *) query, 1))
		legality_refuse(cxt, join->location, "Join with the table in FROM, above.",
						"a join of topics that depends on the query around it is not supported");
	if (join->type == JOIN_RIGHT)
	{
		Node	   *right = join->item[1];

		join->item[1] = join->item[0];
		join->item[0] = right;
		join->type = JOIN_LEFT;
	}
	legality_join_rels(join);
	check_side(&jc, 0);
	check_side(&jc, 1);

	if (join->expr != NULL)
		on = flatten_ands(query, join->expr->quals, NIL);
	foreach(lc, on)
		place_condition(&jc, lfirst(lc), true);
	foreach(lc, flatten_ands(query, query->jointree->quals, NIL))
		place_condition(&jc, lfirst(lc), false);

	if ((!jc.has_low || !jc.has_high) && jc.why != NULL)
		legality_refuse(cxt, jc.why_location >= 0 ? jc.why_location : join->location, jc.why_hint, "%s", jc.why);
	if (join->keys[0] == NIL)
		legality_refuse(cxt, join->location, JOIN_HINT, "a join of topics without an equality is not supported");
	if (!jc.has_low && !jc.has_high)
		legality_refuse(cxt, join->location, JOIN_HINT, "a join of topics without bounds of event time is not supported");
	if (!jc.has_low || !jc.has_high)
		legality_refuse(cxt, join->location, JOIN_HINT, "a join of topics without a bound for how long %s is not supported",
						jc.has_low ? "partners of a row may come after it" : "partners of a row may come before it");
	return join;
}

/* A query that joins two topics. */
void
legality_check_join(Query *query, CheckContext *cxt, List *outer)
{
	(void) legality_topic_join(query, outer, cxt);
	cxt->info->grouped = true;
	/* groups of the pairs are judged by legality_check_groups() */
	if (!legality_is_grouped(query))
		cxt->info->over = true;
}

/* ---- of as-of joins, too ---- */

StreamJoin *
legality_find_join(Query *query, List *outer, bool *several)
{
	FindContext found = find(query, outer);

	*several = found.several;
	return found.join;
}

void
legality_check_sides(StreamJoin *join, Query *query, List *outer, CheckContext *cxt)
{
	JoinContext jc = {cxt, query, outer, join};

	check_side(&jc, 0);
	check_side(&jc, 1);
}

int
legality_join_side(const StreamJoin *join, Node *node)
{
	return side_of(join, node);
}

bool
legality_take_key(StreamJoin *join, Node *node, CheckContext *cxt)
{
	JoinContext jc = {cxt, NULL, NIL, join};

	return take_key(&jc, node);
}

List *
legality_conjuncts(Query *query, Node *quals)
{
	return flatten_ands(query, quals, NIL);
}

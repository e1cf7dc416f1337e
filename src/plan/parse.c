/*-------------------------------------------------------------------------
 *
 * parse.c
 *	  The text of a pipeline to Queries, and back from a finding to its place
 *	  in the text.
 *
 * Errors show their place in the pipeline's text and not in the statement
 * that called the function: as an internal query with an internal position.
 * Positions count characters from 1, locations in trees count bytes from 0.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "plan/plan.h"
#include "plan/parse.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/utility.h"

/* Shows the position in the pipeline's text. */
static void
text_error_callback(void *arg)
{
	int			pos = geterrposition();

	if (pos > 0)
	{
		errposition(0);
		internalerrposition(pos);
		internalerrquery((const char *) arg);
	}
}

int
text_position(const char *text, int location)
{
	if (text == NULL || location < 0)
		return 0;
	/* a statement's location is where the one before it ended */
	while (text[location] == ' ' || text[location] == '\t' || text[location] == '\n' || text[location] == '\r')
		location++;
	return pg_mbstrlen_with_len(text, location) + 1;
}

List *
plan_parse(const char *text)
{
	List	   *raw;
	List	   *queries = NIL;
	ListCell   *lc;
	ErrorContextCallback callback;

	callback.callback = text_error_callback;
	callback.arg = unconstify(char *, text);
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	raw = raw_parser(text, RAW_PARSE_DEFAULT);
	foreach(lc, raw)
	{
		RawStmt    *stmt = lfirst_node(RawStmt, lc);
		Query	   *query;

		query = parse_analyze_fixedparams(stmt, text, NULL, 0, NULL);
		if (query->commandType == CMD_UTILITY)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a pipeline is made of INSERT statements, not of %s",
							GetCommandTagName(CreateCommandTag(query->utilityStmt))),
					 errhint("Write INSERT INTO table SELECT ... FROM topic."),
					 errposition(text_position(text, stmt->stmt_location))));
		queries = lappend(queries, query);
	}

	error_context_stack = callback.previous;
	return queries;
}

/* ---- where a relation is named ---- */

typedef struct PlaceContext
{
	Oid			relid;
	bool		read;
	int			location;
} PlaceContext;

static bool
place_walker(Node *node, PlaceContext *cxt)
{
	if (node == NULL)
		return false;
	if (IsA(node, RawStmt))
		return place_walker(((RawStmt *) node)->stmt, cxt);
	if (IsA(node, RangeVar))
	{
		RangeVar   *var = (RangeVar *) node;

		if (RangeVarGetRelid(var, NoLock, true) != cxt->relid)
			return false;
		cxt->location = var->location;
		return true;
	}
	if (IsA(node, InsertStmt) && cxt->read)
	{
		InsertStmt *insert = (InsertStmt *) node;

		return place_walker((Node *) insert->withClause, cxt) ||
			place_walker(insert->selectStmt, cxt) ||
			place_walker((Node *) insert->onConflictClause, cxt) ||
			place_walker((Node *) insert->returningList, cxt);
	}
	return raw_expression_tree_walker(node, place_walker, cxt);
}

/*
 * The analysed tree does not keep where a table is named, so the text is
 * parsed again; only for an error message.  A WITH query of the same name
 * before the table would be taken for it.
 */
int
text_relation_location(const char *text, Oid relid, bool read)
{
	PlaceContext cxt = {relid, read, -1};
	ListCell   *lc;

	if (text == NULL || !OidIsValid(relid))
		return -1;
	foreach(lc, raw_parser(text, RAW_PARSE_DEFAULT))
	{
		if (place_walker(lfirst(lc), &cxt))
			break;
	}
	return cxt.location;
}

/* ---- views ---- */

Query *
view_query(Oid view)
{
	Relation	rel = table_open(view, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));
	ListCell   *lc;

	table_close(rel, NoLock);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		/* the view itself, as OLD and NEW of its rule: read by nobody */
		if (rte->rtekind == RTE_RELATION && rte->relid == view)
			rte->rtekind = RTE_RESULT;
	}
	return query;
}

/*-------------------------------------------------------------------------
 *
 * legality_sink.c
 *	  What a pipeline may write into: tables, and topics of one cluster.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "plan/legality.h"
#include "plan/parse.h"
#include "stream/stream.h"
#include "utils/rel.h"

/* All topics that a pipeline writes belong to one cluster: one publisher sends to it, in one transaction. */
static void
check_topic_sink(Oid relid, int location, CheckContext *cxt)
{
	StreamSource *sink = stream_source_load(relid);
	int			i;

	if (OidIsValid(cxt->info->sink_server) && cxt->info->sink_server != sink->serverid)
		legality_refuse(cxt, location, "Make one pipeline for each server.",
			   "writing into topics of two servers, \"%s\" and \"%s\", is not supported",
			   stream_server_name(cxt->info->sink_server), stream_server_name(sink->serverid));
	cxt->info->sink_server = sink->serverid;
	for (i = 0; i < sink->natts; i++)
		if (sink->columns[i].kind == STREAM_COL_PAYLOAD || sink->columns[i].kind == STREAM_COL_KEY)
			return;
	legality_refuse(cxt, location, "Add a column for the value or the key of its messages.",
		   "foreign table \"%s\" has nothing that could be written", sink->name);
}

/* "named" is the relation that the text names: the same, or the partitioned table above it. */
void
legality_check_sink(Oid relid, Oid named, CheckContext *cxt)
{
	Relation	rel = table_open(relid, AccessShareLock);
	const char *name = RelationGetRelationName(rel);
	int			location = text_relation_location(cxt->text, named, false);

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			break;
		case RELKIND_FOREIGN_TABLE:
			if (stream_is_source(relid))
			{
				check_topic_sink(relid, location, cxt);
				break;
			}
			legality_refuse(cxt, location, "Insert into a local table: results and positions are committed together.",
				   "foreign table \"%s\" cannot be the target of a pipeline", name);
		case RELKIND_VIEW:
			legality_refuse(cxt, location, "Insert into the view's table.",
				   "view \"%s\" cannot be the target of a pipeline", name);
		default:
			legality_refuse(cxt, location, "Insert into a table.",
				   "\"%s\" cannot be the target of a pipeline", name);
	}
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		legality_refuse(cxt, location, "Use an ordinary table: workers do not see a session's temporary tables.",
			   "temporary table \"%s\" cannot be the target of a pipeline", name);
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		legality_refuse(cxt, location, "Use ALTER TABLE ... SET LOGGED, and the pipeline option synchronous_commit => false for speed.",
			   "unlogged table \"%s\" cannot be the target of a pipeline: a crash empties it, and the positions stay", name);
	if (rel->rd_rules != NULL)
		legality_refuse(cxt, location, "Use triggers, or several statements in the pipeline.",
			   "table \"%s\" has rules and cannot be the target of a pipeline", name);
	if (relid == named && rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		ListCell   *lc;

		foreach(lc, find_all_inheritors(relid, AccessShareLock, NULL))
			if (lfirst_oid(lc) != relid)
				legality_check_sink(lfirst_oid(lc), named, cxt);
	}
	table_close(rel, NoLock);
}

/* A message that makes another one of the same topic makes messages without end. */
void
legality_check_loops(List *infos, CheckContext *cxt)
{
	ListCell   *lc,
			   *lk,
			   *ls,
			   *li;

	foreach(lc, infos)
		foreach(lk, ((StatementInfo *) lfirst(lc))->sinks)
	{
		StreamSource *sink;

		if (!legality_is_topic(lfirst_oid(lk)))
			continue;
		sink = stream_source_load(lfirst_oid(lk));
		foreach(li, infos)
			foreach(ls, ((StatementInfo *) lfirst(li))->sources)
		{
			StreamSource *source = stream_source_load(lfirst_oid(ls));

			if (source->serverid == sink->serverid && strcmp(source->topic, sink->topic) == 0)
				legality_refuse(cxt, text_relation_location(cxt->text, sink->relid, false), "Write into another topic.",
					   "topic \"%s\" is both read and written by the pipeline", sink->topic);
		}
	}
}

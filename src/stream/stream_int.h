/*-------------------------------------------------------------------------
 *
 * stream_int.h
 *	  What the files of the stream room share and nobody else needs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_STREAM_INT_H
#define STREAMPROC_STREAM_INT_H

#include "postgres.h"

#include "commands/explain.h"
#include "nodes/execnodes.h"
#include "nodes/plannodes.h"
#include "stream/stream.h"

/* ---- option.c ---- */

/* an interval option in microseconds; throws for months and negative ones */
extern int64 stream_option_interval(const char *option, const char *value);
/* what an option of a column means; throws for unknown names */
extern StreamColumnKind stream_option_column_kind(const char *value);
/* the value of option "kafka" for a kind */
extern bool stream_option_is_public(Oid catalog, const char *name);
extern const char *stream_column_kind_name(StreamColumnKind kind);

/* ---- source.c ---- */

/*
 * The payload columns of a source as the codec wants them, "target" being
 * attnum - 1; needed NULL: all.  Returns their number.
 */
extern int	stream_codec_columns(const StreamSource *source, const Bitmapset *needed,
								 CodecColumn **columns);
#define STREAM_NO_TOPIC_HINT "Create the topic, or correct option \"topic\" of the foreign table."
extern char *stream_connection_hint(Oid serverid, Oid userid);
extern void stream_connection_context(void *arg);
/* throws for what kafka/ reports; userid is whose mapping was used */
extern void stream_report_failure(const char *topic, Oid serverid, Oid userid,
								  KafkaFailure failure, const char *message) pg_attribute_noreturn();

/* ---- fdw_private of a ForeignScan (plan.c) ---- */

/*
 * List of: Integer magic, Integer StreamScanKind, OidList (relid), IntList of
 * needed attnums; a peek scan has three more: IntList of StreamColumnKind,
 * IntList of btree strategies (0: = ANY (array)), both as long as fdw_exprs,
 * which are int8, int8[] or timestamptz.
 */
#define STREAM_PLAN_MAGIC	0x5350464d

typedef enum StreamScanKind
{
	STREAM_SCAN_FEED,
	STREAM_SCAN_PEEK
} StreamScanKind;

typedef enum StreamPlanItem
{
	STREAM_PLAN_MAGIC_NUMBER,
	STREAM_PLAN_KIND,
	STREAM_PLAN_RELID,
	STREAM_PLAN_NEEDED,
	STREAM_PLAN_COND_COLUMNS,
	STREAM_PLAN_COND_STRATEGIES
} StreamPlanItem;

#define STREAM_STRATEGY_ANY 0

extern bool stream_scan_is_ours(const ForeignScan *scan);
extern StreamScanKind stream_scan_kind(const ForeignScan *scan);
extern Oid	stream_scan_relid(const ForeignScan *scan);
extern List *stream_scan_needed(const ForeignScan *scan);	/* IntList */

extern void stream_get_rel_size(PlannerInfo *root, RelOptInfo *baserel, Oid relid);
extern void stream_get_paths(PlannerInfo *root, RelOptInfo *baserel, Oid relid);
extern ForeignScan *stream_get_plan(PlannerInfo *root, RelOptInfo *baserel, Oid relid,
									ForeignPath *best_path, List *tlist,
									List *scan_clauses, Plan *outer_plan);

/* ---- scan.c ---- */

extern void stream_begin_scan(ForeignScanState *node, int eflags);
extern TupleTableSlot *stream_iterate_scan(ForeignScanState *node);
extern void stream_rescan(ForeignScanState *node);
extern void stream_end_scan(ForeignScanState *node);
extern void stream_explain_scan(ForeignScanState *node, ExplainState *es);

extern const char *stream_format_name(CodecFormat format);

/* ---- peek.c ---- */

typedef struct StreamPeek StreamPeek;

extern StreamPeek *stream_peek_begin(ForeignScanState *node);
extern TupleTableSlot *stream_peek_next(StreamPeek *peek, ForeignScanState *node);
extern void stream_peek_restart(StreamPeek *peek);
extern void stream_peek_end(StreamPeek *peek);
extern void stream_peek_explain(StreamPeek *peek, ExplainState *es);	/* what ANALYZE counted */

/* ---- produce.c ---- */

extern List *stream_plan_modify(PlannerInfo *root, ModifyTable *plan,
								Index result_relation, int subplan_index);
extern void stream_begin_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
								List *fdw_private, int subplan_index, int eflags);
extern void stream_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo);
extern TupleTableSlot *stream_exec_insert(EState *estate, ResultRelInfo *rinfo,
										  TupleTableSlot *slot, TupleTableSlot *plan_slot);
extern void stream_end_modify(EState *estate, ResultRelInfo *rinfo);
extern void stream_explain_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
								  List *fdw_private, int subplan_index, ExplainState *es);

#endif							/* STREAMPROC_STREAM_INT_H */

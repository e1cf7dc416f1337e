/*-------------------------------------------------------------------------
 *
 * produce.c
 *	  INSERT and COPY into a topic: each row becomes a message, and the
 *	  statement ends when the cluster has acknowledged all of them.
 *
 * Kafka knows nothing of the transaction: what was sent stays sent, also when
 * the transaction rolls back or the statement fails half way.
 *
 * The connection is opened for the first row and lives in a memory context
 * below the executor's, which closes it when the statement fails.
 *
 * In a worker of a pipeline nothing is sent: messages are put into its outbox
 * (outbox.c), and the publisher sends them when they are committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "stream/stream_int.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* How values of the key column become keys of messages. */
typedef struct ProduceKey
{
	bool		is_bytes;		/* bytea, or text in UTF-8: goes as it is */
	FmgrInfo	output;
} ProduceKey;

typedef struct Produce
{
	StreamSource *source;
	Oid			userid;
	MemoryContext cxt;			/* as long as the statement */
	MemoryContext row_cxt;		/* reset for each row */
	CodecEncoder *encoder;		/* NULL: no payload column */
	KafkaProducer *producer;	/* NULL until the first row */
	StringInfoData value;
	Size		message_bytes;	/* at most */
	Size		number_bytes;	/* of the header that the publisher adds */

	/* attnum - 1, -1: there is none */
	int			key;
	int			headers;
	int			timestamp;
	int			partition;
	int			raw;			/* the one column of format raw */

	ProduceKey	key_how;
} Produce;

struct StreamTombstones
{
	const StreamSource *source;
	const StreamColumn *column;	/* of the key */
	ProduceKey	how;
};

/* ---- begin, end ---- */

List *
stream_plan_modify(PlannerInfo *root, ModifyTable *plan, Index result_relation, int subplan_index)
{
	if (plan->onConflictAction != ONCONFLICT_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("ON CONFLICT is not supported for a topic"),
				 errdetail("A topic has no unique constraints.")));
	return NIL;
}

static void
key_begin(ProduceKey *key, const StreamColumn *column, MemoryContext cxt)
{
	Oid			type = getBaseType(column->type);
	Oid			output;
	bool		is_varlena;

	key->is_bytes = type == BYTEAOID || ((type == TEXTOID || type == VARCHAROID) && GetDatabaseEncoding() == PG_UTF8);
	if (key->is_bytes)
		return;
	getTypeOutputInfo(column->type, &output, &is_varlena);
	fmgr_info_cxt(output, &key->output, cxt);
}

static Produce *
produce_begin(EState *estate, ResultRelInfo *rinfo)
{
	MemoryContext cxt = AllocSetContextCreate(estate->es_query_cxt, "streamproc produce", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Produce    *produce = palloc0(sizeof(Produce));
	static const KafkaHeader number = {STREAM_HEADER, NULL, STREAM_HEADER_BYTES};
	ResultRelInfo *range = rinfo;
	StreamSource *source;
	CodecColumn *columns;
	int			n;

	if (stream_outbox_only && stream_outbox == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot insert into foreign table \"%s\" from a pipeline that has no topic as a target",
						RelationGetRelationName(rinfo->ri_RelationDesc)),
				 errdetail("A message that is sent directly would be sent again after a failure."),
				 errhint("Make the foreign table a target of one of the pipeline's statements.")));

	/* a partition reached by routing has no range table entry of its own */
	if (range->ri_RangeTableIndex == 0 && range->ri_RootResultRelInfo != NULL)
		range = range->ri_RootResultRelInfo;
	produce->userid = range->ri_RangeTableIndex > 0 ?
		exec_rt_fetch(range->ri_RangeTableIndex, estate)->checkAsUser : InvalidOid;
	if (!OidIsValid(produce->userid))
		produce->userid = GetUserId();

	source = stream_source_load(RelationGetRelid(rinfo->ri_RelationDesc));
	produce->source = source;
	produce->message_bytes = stream_server_message_bytes(source->serverid);
	produce->number_bytes = kafka_message_size(0, 0, &number, 1) - kafka_message_size(0, 0, NULL, 0);
	produce->cxt = cxt;
	produce->row_cxt = AllocSetContextCreate(cxt, "streamproc produce row", ALLOCSET_DEFAULT_SIZES);
	produce->key = produce->headers = produce->timestamp = produce->partition = produce->raw = -1;
	for (int i = 0; i < source->natts; i++)
	{
		switch (source->columns[i].kind)
		{
			case STREAM_COL_KEY:
				produce->key = i;
				break;
			case STREAM_COL_HEADERS:
				produce->headers = i;
				break;
			case STREAM_COL_TIMESTAMP:
				produce->timestamp = i;
				break;
			case STREAM_COL_PARTITION:
				produce->partition = i;
				break;
			case STREAM_COL_PAYLOAD:
				if (source->codec.format == CODEC_RAW)
					produce->raw = i;
				break;
			default:
				break;
		}
	}
	if (source->write_key > 0)
		produce->key = source->write_key - 1;
	if (produce->key >= 0)
		key_begin(&produce->key_how, &source->columns[produce->key], cxt);

	n = stream_codec_columns(source, NULL, &columns);
	if (n > 0)
		produce->encoder = codec_encoder_create(&source->codec, columns, n, cxt);
	initStringInfo(&produce->value);
	MemoryContextSwitchTo(old);
	return produce;
}

/*
 * The executor makes a heap tuple of each row for a foreign table, which would be
 * taken apart again here.  Where the plan gives the columns of the table and no
 * others, which is what it checks before (ExecInitInsertProjection()), it is told
 * to pass the plan's rows on as they are.
 */
static void
pass_rows_on(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	TupleDesc	columns = RelationGetDescr(rinfo->ri_RelationDesc);
	TupleDesc	rows = ExecGetResultType(outerPlanState(mtstate));
	ModifyTable *plan = (ModifyTable *) mtstate->ps.plan;
	int			i;

	/* who looks at the row as a whole may want its heap tuple */
	if (mtstate->operation != CMD_INSERT || rows->natts != columns->natts || rinfo->ri_TrigDesc != NULL ||
		plan->returningLists != NIL || plan->withCheckOptionLists != NIL)
		return;
	for (i = 0; i < rows->natts; i++)
		if (TupleDescAttr(columns, i)->attisdropped || TupleDescAttr(rows, i)->atttypid != TupleDescAttr(columns, i)->atttypid)
			return;
	rinfo->ri_newTupleSlot = ExecInitExtraTupleSlot(mtstate->ps.state, columns, &TTSOpsVirtual);
	rinfo->ri_projectNew = NULL;
	rinfo->ri_projectNewInfoValid = true;
}

void
stream_begin_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo, List *fdw_private,
					int subplan_index, int eflags)
{
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	rinfo->ri_FdwState = produce_begin(mtstate->ps.state, rinfo);
	pass_rows_on(mtstate, rinfo);
}

void
stream_begin_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo)
{
	rinfo->ri_FdwState = produce_begin(mtstate->ps.state, rinfo);
}

void
stream_end_modify(EState *estate, ResultRelInfo *rinfo)
{
	Produce    *produce = rinfo->ri_FdwState;

	if (produce == NULL)
		return;
	rinfo->ri_FdwState = NULL;
	if (produce->producer)
	{
		kafka_producer_flush(produce->producer);
		kafka_producer_close(produce->producer);
	}
	MemoryContextDelete(produce->cxt);
}

void
stream_explain_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo, List *fdw_private,
					  int subplan_index, ExplainState *es)
{
	StreamSource *source = stream_source_load(RelationGetRelid(rinfo->ri_RelationDesc));

	ExplainPropertyText("Topic", source->topic, es);
	ExplainPropertyText("Format", stream_format_name(source->codec.format), es);
}

/* ---- one row ---- */

static void
check_null(const StreamSource *source, const StreamColumn *column, bool isnull)
{
	if (column->not_null && isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NOT_NULL_VIOLATION),
				 errmsg("null value in column \"%s\" of foreign table \"%s\" violates not-null constraint",
						column->name, source->name)));
}

/*
 * What Kafka sets itself must be left out, and what a reader would refuse must
 * not be written: foreign tables have no constraint checks of their own.
 */
static void
check_row(const Produce *produce, TupleTableSlot *slot)
{
	const StreamSource *source = produce->source;

	for (int i = 0; i < source->natts; i++)
	{
		const StreamColumn *column = &source->columns[i];

		switch (column->kind)
		{
			case STREAM_COL_OFFSET:
			case STREAM_COL_TOPIC:
				if (!slot->tts_isnull[i])
					ereport(ERROR,
							(errcode(ERRCODE_GENERATED_ALWAYS),
							 errmsg("cannot insert a value into column \"%s\" of foreign table \"%s\"",
									column->name, source->name),
							 errdetail("It has option kafka '%s', which is known only when the message is stored.",
									   stream_column_kind_name(column->kind)),
							 errhint("Leave the column out, or give NULL.")));
				break;
			case STREAM_COL_PAYLOAD:
			case STREAM_COL_KEY:
			case STREAM_COL_HEADERS:
				check_null(source, column, slot->tts_isnull[i]);
				break;
			default:
				break;
		}
	}
}

/* Text as it goes over the wire: UTF-8. */
static const char *
to_wire(const char *text, Size *len)
{
	char	   *converted = pg_server_to_any(text, *len, PG_UTF8);

	if (converted != text)
		*len = strlen(converted);
	return converted;
}

static const char *
key_bytes(ProduceKey *key, Datum value, Size *len)
{
	if (key->is_bytes)
	{
		bytea	   *bytes = DatumGetByteaPP(value);

		*len = VARSIZE_ANY_EXHDR(bytes);
		return VARDATA_ANY(bytes);
	}
	else
	{
		char	   *text = OutputFunctionCall(&key->output, value);

		*len = strlen(text);
		return to_wire(text, len);
	}
}

static const char *
row_key(Produce *produce, TupleTableSlot *slot, Size *len)
{
	*len = 0;
	if (produce->key < 0 || slot->tts_isnull[produce->key])
		return NULL;
	return key_bytes(&produce->key_how, slot->tts_values[produce->key], len);
}

static int32
row_partition(const Produce *produce, TupleTableSlot *slot)
{
	int32		partition;

	if (produce->partition < 0 || slot->tts_isnull[produce->partition])
		return -1;
	partition = DatumGetInt32(slot->tts_values[produce->partition]);
	if (partition < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("invalid partition number: %d", partition)));
	return partition;
}

/* Milliseconds since 1970; 0: now. */
static int64
row_timestamp(const Produce *produce, TupleTableSlot *slot)
{
	TimestampTz value;
	int64		ms = 0;

	if (produce->timestamp < 0 || slot->tts_isnull[produce->timestamp])
		return 0;
	value = DatumGetTimestampTz(slot->tts_values[produce->timestamp]);
	if (!TIMESTAMP_NOT_FINITE(value) && value >= SetEpochTimestamp())
		ms = (value - SetEpochTimestamp()) / 1000;
	if (ms <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp of a message must be after 1970-01-01 and finite: \"%s\"",
						timestamptz_to_str(value))));
	return ms;
}

static Jsonb *
headers_jsonb(const StreamColumn *column, Datum value)
{
	if (column->type == JSONBOID)
		return DatumGetJsonbP(value);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(value))));
}

static void
set_header_value(KafkaHeader *header, const JsonbValue *value)
{
	const char *text;

	switch (value->type)
	{
		case jbvNull:
			header->value = NULL;
			header->value_len = 0;
			return;
		case jbvString:
			text = pnstrdup(value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			text = value->val.boolean ? "true" : "false";
			break;
		case jbvBinary:
			text = JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
			break;
		default:
			elog(ERROR, "unexpected type of jsonb value: %d", (int) value->type);
	}
	header->value_len = strlen(text);
	header->value = to_wire(text, &header->value_len);
}

/* An object's fields as headers; returns their number. */
static int
row_headers(const Produce *produce, TupleTableSlot *slot, KafkaHeader **headers)
{
	const StreamColumn *column;
	Jsonb	   *jsonb;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			n = 0;

	*headers = NULL;
	if (produce->headers < 0 || slot->tts_isnull[produce->headers])
		return 0;
	column = &produce->source->columns[produce->headers];
	jsonb = headers_jsonb(column, slot->tts_values[produce->headers]);
	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers in column \"%s\" must be a JSON object", column->name),
				 errhint("Write {\"name\": \"value\", ...}.")));
	if (JB_ROOT_COUNT(jsonb) == 0)
		return 0;

	*headers = palloc0(sizeof(KafkaHeader) * JB_ROOT_COUNT(jsonb));
	iterator = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			Size		len = value.val.string.len;

			(*headers)[n].name = to_wire(pnstrdup(value.val.string.val, len), &len);
		}
		else if (token == WJB_VALUE)
			set_header_value(&(*headers)[n++], &value);
	}
	return n;
}

static void
produce_open(Produce *produce)
{
	StreamSource *source = produce->source;
	MemoryContext old = MemoryContextSwitchTo(produce->cxt);
	KafkaConf  *conf = stream_server_conf(source->serverid, produce->userid);
	ErrorContextCallback callback;

	callback.callback = stream_connection_context;
	callback.arg = stream_connection_hint(source->serverid, produce->userid);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	produce->producer = kafka_producer_open(conf, source->topic, streamproc_connect_timeout);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
}

/*
 * A message that the library would not take never gets into the outbox: here
 * the error is that of a row, of which it is known where it came from.
 */
static void
check_size(const Produce *produce, const StreamMessage *message)
{
	Size		size = produce->number_bytes +
		kafka_message_size(message->key_len, message->value_len, message->headers, message->nheaders);

	if (size > produce->message_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a message for topic \"%s\" has %zu bytes, where %zu are allowed",
						message->topic, size, produce->message_bytes),
				 errdetail("The limit is the option message_max_bytes of server \"%s\".", stream_server_name(produce->source->serverid)),
				 errhint("Raise it, and max.message.bytes of the topic where that is smaller.")));
}

TupleTableSlot *
stream_exec_insert(EState *estate, ResultRelInfo *rinfo, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	Produce    *produce = rinfo->ri_FdwState;
	MemoryContext old;
	StreamMessage message = {0};
	KafkaHeader *headers;

	slot_getallattrs(slot);
	check_row(produce, slot);
	if (stream_outbox == NULL && produce->producer == NULL)
		produce_open(produce);

	MemoryContextReset(produce->row_cxt);
	old = MemoryContextSwitchTo(produce->row_cxt);
	message.topic = produce->source->topic;
	message.key = row_key(produce, slot, &message.key_len);
	message.nheaders = row_headers(produce, slot, &headers);
	message.headers = headers;
	message.partition = row_partition(produce, slot);
	message.timestamp_ms = row_timestamp(produce, slot);
	resetStringInfo(&produce->value);

	/* no payload, or raw's only column null: a message without a value */
	if (produce->encoder && !(produce->raw >= 0 && slot->tts_isnull[produce->raw]))
	{
		codec_encode(produce->encoder, slot->tts_values, slot->tts_isnull, &produce->value);
		message.value = produce->value.data;
		message.value_len = produce->value.len;
	}
	if (stream_outbox != NULL)
	{
		check_size(produce, &message);
		stream_outbox_put(stream_outbox, &message);
	}
	else
		kafka_producer_send(produce->producer, message.partition, message.key, message.key_len,
							message.value, message.value_len, message.timestamp_ms, headers, message.nheaders);
	MemoryContextSwitchTo(old);
	return slot;
}

/* ---- tombstones ---- */

StreamTombstones *
stream_tombstones_begin(Oid relid)
{
	StreamTombstones *tombstones = palloc0(sizeof(StreamTombstones));

	tombstones->source = stream_source_load(relid);
	tombstones->column = &tombstones->source->columns[stream_source_key(tombstones->source) - 1];
	key_begin(&tombstones->how, tombstones->column, CurrentMemoryContext);
	return tombstones;
}

/* To the partition that rows of the key go to.  Memory is of the current context. */
void
stream_tombstones_put(StreamTombstones *tombstones, Datum key, bool isnull)
{
	StreamMessage message = {0};

	if (stream_outbox == NULL)
		elog(ERROR, "a tombstone was to be written outside of a pipeline");
	check_null(tombstones->source, tombstones->column, isnull);
	message.topic = tombstones->source->topic;
	message.partition = -1;
	if (!isnull)
		message.key = key_bytes(&tombstones->how, key, &message.key_len);
	stream_outbox_put(stream_outbox, &message);
}

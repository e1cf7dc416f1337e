/* streamproc 1.1 to 1.2: pipelines with state */

-- complain if script is sourced in psql, rather than via CREATE or ALTER EXTENSION
\echo Use "CREATE EXTENSION streamproc" or "ALTER EXTENSION streamproc UPDATE" to load this file. \quit

SELECT streamproc.require_preload();

----------------------------------------------------------------------------
-- New options of a pipeline
----------------------------------------------------------------------------

ALTER TABLE streamproc.pipeline
	ADD COLUMN emit text,
	ADD COLUMN late text,
	ADD COLUMN allowed_lateness interval,
	ADD COLUMN state_memory bigint,
	ADD COLUMN max_skew interval,
	ADD COLUMN state_signature text,
	ADD COLUMN give_all boolean NOT NULL DEFAULT false,
	ADD COLUMN delivery text NOT NULL DEFAULT 'exactly_once',
	ADD COLUMN ordering text NOT NULL DEFAULT 'event',
	ADD COLUMN state_ttl interval;
UPDATE streamproc.pipeline SET late = 'divert', allowed_lateness = '0';
ALTER TABLE streamproc.pipeline
	ALTER COLUMN late SET NOT NULL,
	ALTER COLUMN allowed_lateness SET NOT NULL;
COMMENT ON COLUMN streamproc.pipeline.emit IS 'final, changes or every and an interval; NULL: by the query';
COMMENT ON COLUMN streamproc.pipeline.late IS 'what becomes of rows that come after their window was closed: divert, drop or update';
COMMENT ON COLUMN streamproc.pipeline.allowed_lateness IS 'how long after its end a window still takes rows';
COMMENT ON COLUMN streamproc.pipeline.state_memory IS 'bytes; NULL: the setting streamproc.state_memory';
COMMENT ON COLUMN streamproc.pipeline.max_skew IS 'how far the watermark of a partition may run ahead of the stream''s; NULL: 30 s or twice the largest window or interval of a join, the larger';
COMMENT ON COLUMN streamproc.pipeline.give_all IS 'an option says since then in another way when groups are given out: the next epoch gives out all that are alive';
COMMENT ON COLUMN streamproc.pipeline.delivery IS 'how messages are sent to topics: exactly_once, by Kafka''s transactions, or at_least_once, without';
COMMENT ON COLUMN streamproc.pipeline.ordering IS 'when window functions answer a row: event, in the order of event time, when the watermark has passed it, or arrival, at once';
COMMENT ON COLUMN streamproc.pipeline.state_ttl IS 'how long after its last row, by event time, what is kept of a key for ever is forgotten; NULL: never';
COMMENT ON COLUMN streamproc.pipeline.state_signature IS 'what the saved state was made by; NULL: there is none';

CREATE FUNCTION streamproc.create_pipeline(
	name text,
	query text,
	start text DEFAULT 'earliest',
	stop text DEFAULT 'never',
	parallelism integer DEFAULT NULL,
	checkpoint_interval interval DEFAULT '100 ms',
	on_error text DEFAULT 'dead_letter',
	max_consecutive_errors integer DEFAULT 1000,
	on_data_loss text DEFAULT 'fail',
	synchronous_commit boolean DEFAULT true,
	trust_owners boolean DEFAULT false,
	active boolean DEFAULT true,
	emit text DEFAULT NULL,
	late text DEFAULT 'divert',
	allowed_lateness interval DEFAULT '0',
	state_memory text DEFAULT NULL,
	max_skew interval DEFAULT NULL,
	delivery text DEFAULT 'exactly_once',
	ordering text DEFAULT 'event',
	state_ttl interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_create_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, text, integer, text, boolean, boolean, boolean, text, text, interval, text, interval, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, text, integer, text, boolean, boolean, boolean, text, text, interval, text, interval, text, text, interval) IS
	'makes a pipeline of one or more INSERT ... SELECT over a topic, running from COMMIT on. start: earliest, latest, a timestamp, or {"partition": next offset}; stop: never or latest; parallelism: tasks, NULL: streamproc.default_parallelism; checkpoint_interval: longest time between commits under load; on_error: dead_letter or fail; max_consecutive_errors: it fails when so many rows of a partition in a row are bad; on_data_loss: fail or earliest, when the topic has not what was to be read; trust_owners: a superuser''s pipeline may use objects of other roles; emit: final, changes, or every and an interval, NULL: final for windows, else changes (groups that are given out again need ON CONFLICT DO UPDATE, or a topic with a key, which also gets tombstones for groups that do not fulfil HAVING any more); late: divert (into late_row), drop or update; allowed_lateness: how long after its end a window still takes rows; state_memory: as 256MB, NULL: streamproc.state_memory; max_skew: how far a partition may run ahead of the others, NULL: 30 s or twice the largest window, the larger; delivery: of messages to topics, exactly_once or at_least_once; ordering: of window functions, event (when the watermark has passed a row) or arrival (at once); state_ttl: how long after its last row, by event time, a key of window functions, DISTINCT ON or GROUP BY without a window is forgotten, NULL: never';

CREATE FUNCTION streamproc.alter_pipeline(
	name text,
	query text DEFAULT NULL,
	stop text DEFAULT NULL,
	parallelism integer DEFAULT NULL,
	checkpoint_interval interval DEFAULT NULL,
	on_error text DEFAULT NULL,
	max_consecutive_errors integer DEFAULT NULL,
	on_data_loss text DEFAULT NULL,
	synchronous_commit boolean DEFAULT NULL,
	trust_owners boolean DEFAULT NULL,
	emit text DEFAULT NULL,
	late text DEFAULT NULL,
	allowed_lateness interval DEFAULT NULL,
	state_memory text DEFAULT NULL,
	max_skew interval DEFAULT NULL,
	delivery text DEFAULT NULL,
	ordering text DEFAULT NULL,
	state_ttl interval DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_alter_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, text, integer, text, boolean, boolean, text, text, interval, text, interval, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, text, integer, text, boolean, boolean, text, text, interval, text, interval, text, text, interval) IS
	'replaces the query or options of a pipeline at COMMIT and keeps its positions; NULL leaves as it is; emit and state_memory => ''default'', max_skew and state_ttl => ''0'' take back what was given';

-- who could execute the old ones can execute the new ones
DO $$
DECLARE
	grant_command pg_catalog.text;
BEGIN
	FOR grant_command IN
		SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION streamproc.%I(%s) TO %s', new.proname,
			pg_catalog.oidvectortypes(new.proargtypes),
			CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) OPERATOR(pg_catalog.||)
			CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
		FROM pg_catalog.pg_proc old
		JOIN pg_catalog.pg_proc new ON new.pronamespace OPERATOR(pg_catalog.=) old.pronamespace
			AND new.proname OPERATOR(pg_catalog.=) old.proname AND new.pronargs OPERATOR(pg_catalog.>) old.pronargs
		CROSS JOIN LATERAL pg_catalog.aclexplode(old.proacl) a
		WHERE old.pronamespace OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
			AND old.proname OPERATOR(pg_catalog.=) ANY (ARRAY['create_pipeline', 'alter_pipeline'])
			AND a.grantee OPERATOR(pg_catalog.<>) old.proowner
	LOOP
		EXECUTE grant_command;
	END LOOP;
END
$$;
DROP FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, text, integer, text, boolean, boolean, boolean);
DROP FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, text, integer, text, boolean, boolean);

COMMENT ON FUNCTION streamproc.drop_pipeline(text) IS
	'drops a pipeline with its positions, saved state, outbox, dead letters and late rows; what it has written stays, what it has not sent yet is not sent';

----------------------------------------------------------------------------
-- Saved state
----------------------------------------------------------------------------

-- Checkpoints insert some MB a second and delete them soon: little is there to
-- be vacuumed and much of it is dead, so it is by number of rows, not by their
-- share, and without pauses.  A segment of 8 MB is about 4000 rows of the toast table.
CREATE TABLE streamproc.state_segment (
	pipeline			name,
	epoch				bigint,
	number				integer,
	first_epoch			bigint NOT NULL,
	horizon				timestamptz NOT NULL,
	data				bytea NOT NULL,
	PRIMARY KEY (pipeline, epoch, number)
-- a row fills a page, and nothing of it is in the toast table unless it is longer than that
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000000000, autovacuum_vacuum_cost_delay = 0,
	toast.autovacuum_vacuum_threshold = 10000, toast.autovacuum_vacuum_scale_factor = 0,
	toast.autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_cost_delay = 0);
-- compression takes ten times as long as storing
ALTER TABLE streamproc.state_segment ALTER COLUMN data SET STORAGE EXTERNAL;
COMMENT ON TABLE streamproc.state_segment IS
	'the state of pipelines as of their positions, written and deleted in the transactions that change those';
COMMENT ON COLUMN streamproc.state_segment.pipeline IS 'the pipeline';
COMMENT ON COLUMN streamproc.state_segment.epoch IS 'the checkpoint that wrote the segment';
COMMENT ON COLUMN streamproc.state_segment.number IS 'of the segment within its checkpoint';
COMMENT ON COLUMN streamproc.state_segment.first_epoch IS 'the earliest checkpoint that the segment holds changes of';
COMMENT ON COLUMN streamproc.state_segment.horizon IS 'event time until which something in the segment is needed; infinity: it has no end';
COMMENT ON COLUMN streamproc.state_segment.data IS 'entries of the state; the format stands in src/state/README.md';
REVOKE ALL ON streamproc.state_segment FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('streamproc.state_segment', '');

ALTER TABLE streamproc.task_position
	ADD COLUMN stream_watermark timestamptz,
	ADD COLUMN closed_until timestamptz[],
	ADD COLUMN answered_until timestamptz[],
	ADD COLUMN freed_until timestamptz[],
	ADD COLUMN emitted_epoch bigint,
	ADD COLUMN segments integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN streamproc.task_position.closed_until IS 'by operator: windows that end until then have been given out for good, and rows in time are not older, whatever allowed_lateness says later; NULL: none';
COMMENT ON COLUMN streamproc.task_position.answered_until IS 'by operator that gives rows: those that waited until then have been given out; NULL: none have waited';
COMMENT ON COLUMN streamproc.task_position.freed_until IS 'by operator that gives rows: what it remembers in slices of event time is kept for rows from then on, whatever allowed_lateness says later; NULL: for all rows';
COMMENT ON COLUMN streamproc.task_position.emitted_epoch IS 'with emit => every: the epoch that gave out what had changed; NULL: none';
COMMENT ON COLUMN streamproc.task_position.segments IS 'rows of state_segment that belong to the position: where there are others, the state is not complete';
COMMENT ON COLUMN streamproc.task_position.stream_watermark IS
	'of a pipeline with state: the watermark that decides which rows are late; it never goes back. NULL: none yet';

----------------------------------------------------------------------------
-- Messages that are to be sent
----------------------------------------------------------------------------

-- as state_segment: much is written, and deleted soon
CREATE TABLE streamproc.outbox (
	pipeline			name,
	segment				bigint,
	stream				integer,
	messages			integer NOT NULL,
	written				timestamptz NOT NULL,
	ends_commit			boolean NOT NULL,
	data				bytea NOT NULL,
	PRIMARY KEY (pipeline, stream, segment)
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
	autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000000000, autovacuum_vacuum_cost_delay = 0,
	toast.autovacuum_vacuum_threshold = 10000, toast.autovacuum_vacuum_scale_factor = 0,
	toast.autovacuum_vacuum_insert_threshold = -1, toast.autovacuum_vacuum_cost_delay = 0);
ALTER TABLE streamproc.outbox ALTER COLUMN data SET STORAGE EXTERNAL;
COMMENT ON TABLE streamproc.outbox IS
	'messages to topics that are committed and not known to be sent yet; written with the positions of the input, deleted by the publisher';
COMMENT ON COLUMN streamproc.outbox.pipeline IS 'the pipeline';
COMMENT ON COLUMN streamproc.outbox.segment IS 'numbered without a gap within its stream';
COMMENT ON COLUMN streamproc.outbox.stream IS 'the task that wrote it; 0 where the pipeline has state';
COMMENT ON COLUMN streamproc.outbox.messages IS 'how many messages it holds';
COMMENT ON COLUMN streamproc.outbox.written IS 'when';
COMMENT ON COLUMN streamproc.outbox.ends_commit IS 'it is the last one of its transaction';
COMMENT ON COLUMN streamproc.outbox.data IS 'the messages; the format stands in src/stream/outbox.c';
REVOKE ALL ON streamproc.outbox FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('streamproc.outbox', '');

CREATE TABLE streamproc.publisher_position (
	pipeline			name NOT NULL,
	published			bigint NOT NULL,
	segments			bigint[] NOT NULL,
	streams				integer NOT NULL,
	writer				uuid,
	previous_writer		uuid,
	reconcile			text
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE streamproc.publisher_position IS
	'what PostgreSQL knows of what was sent to topics; the broker holds the same, and may be ahead';
COMMENT ON COLUMN streamproc.publisher_position.pipeline IS 'the pipeline';
COMMENT ON COLUMN streamproc.publisher_position.published IS 'messages that were sent since the pipeline was created, and those that no topic took: the number of the last one';
COMMENT ON COLUMN streamproc.publisher_position.segments IS 'by stream of the outbox: the last segment that was sent';
COMMENT ON COLUMN streamproc.publisher_position.streams IS 'how many streams the tasks of the last run write';
COMMENT ON COLUMN streamproc.publisher_position.writer IS 'the last publisher; the broker names it with the position';
COMMENT ON COLUMN streamproc.publisher_position.previous_writer IS 'the one before it, where the last one may not have got to the broker';
COMMENT ON COLUMN streamproc.publisher_position.reconcile IS 'what somebody has decided for the next start: resend or discard';
REVOKE ALL ON streamproc.publisher_position FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('streamproc.publisher_position', '');

CREATE FUNCTION streamproc.reconcile_publisher(name text, action text) RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_reconcile_publisher' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.reconcile_publisher(text, text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.reconcile_publisher(text, text) IS
	'decides for a pipeline that failed because what the broker says of its messages does not fit the outbox, and starts it: resend sends all that waits in the outbox, also what may have been sent; discard sends none of it';

----------------------------------------------------------------------------
-- Late rows
----------------------------------------------------------------------------

CREATE TABLE streamproc.stored_late_row (
	pipeline			name,
	id					bigint,
	operator			integer NOT NULL,
	topic				text,
	partition			integer,
	"offset"			bigint,
	event_time			timestamptz,
	watermark			timestamptz,
	window_start		timestamptz,
	window_end			timestamptz,
	"row"				jsonb,
	at					timestamptz NOT NULL,
	PRIMARY KEY (pipeline, id)
);
COMMENT ON TABLE streamproc.stored_late_row IS
	'rows that came after their window was closed; read streamproc.late_row';
COMMENT ON COLUMN streamproc.stored_late_row.pipeline IS 'the pipeline';
COMMENT ON COLUMN streamproc.stored_late_row.id IS 'in the order in which they were stored';
COMMENT ON COLUMN streamproc.stored_late_row.operator IS 'whose window it was, as in stat_operator';
COMMENT ON COLUMN streamproc.stored_late_row.topic IS 'topic, partition and offset: of the message; NULL where the row is not of a single one';
COMMENT ON COLUMN streamproc.stored_late_row.event_time IS 'of the row';
COMMENT ON COLUMN streamproc.stored_late_row.watermark IS 'that had closed the window';
COMMENT ON COLUMN streamproc.stored_late_row.window_start IS 'window_start and window_end: of the window that does not count the row; one row of this table for each such window';
COMMENT ON COLUMN streamproc.stored_late_row."row" IS 'what would have been counted';
COMMENT ON COLUMN streamproc.stored_late_row.at IS 'when it was stored';
REVOKE ALL ON streamproc.stored_late_row FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_late_row', '');
COMMENT ON SEQUENCE streamproc.stored_id IS 'ids of dead letters, late rows and losses of data';

CREATE VIEW streamproc.late_row WITH (security_barrier) AS
SELECT l.pipeline, l.id, l.operator, l.topic, l.partition, l."offset", l.event_time, l.watermark, l.window_start, l.window_end, l."row", l.at
FROM streamproc.stored_late_row l
WHERE l.pipeline OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT streamproc.my_pipelines()));
GRANT SELECT ON streamproc.late_row TO PUBLIC;
COMMENT ON VIEW streamproc.late_row IS
	'rows that came after their window was closed, one for each window that does not count them; delete_late_rows() ends their keeping';

CREATE FUNCTION streamproc.delete_late_rows(pipeline text, before timestamptz) RETURNS bigint
AS 'MODULE_PATHNAME', 'streamproc_delete_late_rows' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.delete_late_rows(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.delete_late_rows(text, timestamptz) IS
	'deletes the late rows of a pipeline that were stored before this time; returns their number';

----------------------------------------------------------------------------
-- Rows of results that no sink takes
----------------------------------------------------------------------------

ALTER TABLE streamproc.stored_dead_letter
	ALTER COLUMN topic DROP NOT NULL,
	ALTER COLUMN partition DROP NOT NULL,
	ALTER COLUMN "offset" DROP NOT NULL;
COMMENT ON TABLE streamproc.stored_dead_letter IS
	'messages that pipelines could not process, as they came, rows of results that they could not store, and messages that they could not send; read streamproc.dead_letter';
COMMENT ON COLUMN streamproc.stored_dead_letter.kind IS
	'input: a message; output: a row of results, which may come from many messages: topic, partition and offset are NULL where it does; unsent: a message that its topic does not take, as it was to be sent';
COMMENT ON COLUMN streamproc.stored_dead_letter."row" IS 'of kind output: the row of results';

-- columns as they were; those of kind output never run again
CREATE OR REPLACE VIEW streamproc.dead_letter WITH (security_barrier) AS
SELECT d.pipeline, d.id, d.statement, d.kind, d.topic, d.partition, d."offset", d."timestamp", d.key, d.value, d.headers, d."row",
	d.sqlstate, d.message, d.detail, d.attempts,
	d.kind OPERATOR(pg_catalog.=) 'input' AND d.id OPERATOR(pg_catalog.<=) p.retry_until AS retry, d.at
FROM streamproc.stored_dead_letter d JOIN streamproc.pipeline p ON p.name OPERATOR(pg_catalog.=) d.pipeline
WHERE d.pipeline OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT streamproc.my_pipelines()));
COMMENT ON VIEW streamproc.dead_letter IS
	'messages that could not be processed, as they came (kind input), rows of results that could not be stored (output), and messages that a topic did not take, as they were to be sent (unsent), with position and reason; retry: one of them will run again; retry_dead_letters() asks for that, delete_dead_letters() ends their keeping';
COMMENT ON FUNCTION streamproc.retry_dead_letters(text) IS
	'lets the pipeline run its dead letters of kind input through its present query, from COMMIT on or when it is started; those that fail again stay, with the new reason; returns their number. Those of kind output and unsent stay as they are: what they were made of is counted already';

----------------------------------------------------------------------------
-- Views
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.stat_operator_rows(
	OUT pipeline name, OUT statement integer, OUT operator integer, OUT kind text, OUT aggregates text,
	OUT keys bigint, OUT panes bigint, OUT bytes bigint, OUT rows_in bigint, OUT rows_out bigint, OUT late_rows bigint,
	OUT fired_windows bigint, OUT largest_group bigint, OUT mean_group bigint, OUT skew double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_operator' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_operator_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_operator_rows() IS 'rows of the view stat_operator';
CREATE VIEW streamproc.stat_operator AS SELECT * FROM streamproc.stat_operator_rows();
GRANT SELECT ON streamproc.stat_operator TO PUBLIC;
COMMENT ON VIEW streamproc.stat_operator IS
	'one row per operator with state of a pipeline: how its aggregates are kept, or which join it is and what it keeps for how long, keys, panes and bytes in memory, rows, windows given out; skew: the largest key group against the mean';

-- More columns.  The views stay the same objects: others may stand on them.
ALTER FUNCTION streamproc.stat_pipeline_rows() RENAME TO stat_pipeline_rows_1_1;
CREATE FUNCTION streamproc.stat_pipeline_rows(
	OUT pipeline name, OUT owner name, OUT state text, OUT reason text, OUT detail text, OUT hint text,
	OUT sqlstate text, OUT topic text, OUT partition integer, OUT "offset" bigint, OUT since timestamptz,
	OUT rows_in bigint, OUT rows_out bigint, OUT bad_rows bigint, OUT bytes_in bigint,
	OUT lag_rows bigint, OUT lag interval, OUT watermark timestamptz, OUT epoch bigint, OUT checkpoints bigint,
	OUT latency_p50 interval, OUT latency_p99 interval, OUT tasks integer, OUT restarts bigint,
	OUT last_error text, OUT last_error_sqlstate text, OUT last_error_topic text, OUT last_error_partition integer,
	OUT last_error_offset bigint, OUT last_error_at timestamptz,
	OUT watermark_delay interval, OUT late_rows bigint, OUT state_bytes bigint, OUT segment_bytes bigint,
	OUT outbox_rows bigint, OUT outbox_bytes bigint, OUT outbox_age interval, OUT published_rows bigint,
	OUT publish_p50 interval, OUT publish_p99 interval, OUT publish_transactions bigint, OUT publish_retries bigint, OUT publish_fencings bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_pipeline' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_pipeline_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_pipeline_rows() IS 'rows of the view stat_pipeline';
CREATE OR REPLACE VIEW streamproc.stat_pipeline AS SELECT * FROM streamproc.stat_pipeline_rows();
DROP FUNCTION streamproc.stat_pipeline_rows_1_1();
COMMENT ON VIEW streamproc.stat_pipeline IS
	'one row per pipeline: state with reason, position and the command that goes on; rows, lag, watermark and its delay, latency from first row taken to commit done, state in memory and stored, messages to topics that wait and that were sent';

ALTER FUNCTION streamproc.stat_checkpoint_rows() RENAME TO stat_checkpoint_rows_1_1;
CREATE FUNCTION streamproc.stat_checkpoint_rows(
	OUT pipeline name, OUT task integer, OUT epoch bigint, OUT reason text, OUT at timestamptz,
	OUT duration interval, OUT commit_time interval, OUT rows_in bigint, OUT rows_out bigint, OUT bytes bigint,
	OUT early_ms double precision, OUT align_ms double precision, OUT cut_ms double precision, OUT output_ms double precision, OUT write_ms double precision,
	OUT state_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_checkpoint' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_checkpoint_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_checkpoint_rows() IS 'rows of the view stat_checkpoint';
CREATE OR REPLACE VIEW streamproc.stat_checkpoint AS SELECT * FROM streamproc.stat_checkpoint_rows();
DROP FUNCTION streamproc.stat_checkpoint_rows_1_1();
COMMENT ON VIEW streamproc.stat_checkpoint IS
	'the last checkpoints (commits) of each pipeline with duration, rows, bytes and reason; with state also how long changes were copied early, tasks were aligned and stood, output and state were written, and its bytes';

ALTER FUNCTION streamproc.stat_partition_rows() RENAME TO stat_partition_rows_1_1;
CREATE FUNCTION streamproc.stat_partition_rows(
	OUT pipeline name, OUT topic text, OUT partition integer, OUT task integer, OUT next_offset bigint,
	OUT committed_offset bigint, OUT end_offset bigint, OUT lag_rows bigint, OUT watermark timestamptz,
	OUT last_record_at timestamptz, OUT at_end boolean, OUT idle boolean, OUT finished boolean, OUT held interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_partition' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_partition_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_partition_rows() IS 'rows of the view stat_partition';
CREATE OR REPLACE VIEW streamproc.stat_partition AS SELECT * FROM streamproc.stat_partition_rows();
DROP FUNCTION streamproc.stat_partition_rows_1_1();
COMMENT ON VIEW streamproc.stat_partition IS
	'one row per partition that a running pipeline reads: next offset, committed offset, end, lag, watermark, idleness; held: for how long it is not read, because it is more than max_skew ahead of the others';

----------------------------------------------------------------------------
-- Sessions
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.session(at timestamptz, gap interval, max_span interval DEFAULT NULL) RETURNS tstzrange
	AS 'MODULE_PATHNAME', 'streamproc_session' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE;
GRANT EXECUTE ON FUNCTION streamproc.session(timestamptz, interval, interval) TO PUBLIC;
COMMENT ON FUNCTION streamproc.session(timestamptz, interval, interval) IS
	'window function, OVER (PARTITION BY keys ORDER BY at): the session of the row, [first, last + gap); rows that are gap or less apart belong together. max_span: a row that comes so long after the first one, or later, begins another session. GROUP BY it in the SELECT around';

----------------------------------------------------------------------------
-- For the planner of pipelines: nothing to be called
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.place_step(boolean, integer, tid, timestamptz) RETURNS boolean
	AS 'MODULE_PATHNAME', 'streamproc_place_step' LANGUAGE C IMMUTABLE;
CREATE AGGREGATE streamproc.place(integer, tid, timestamptz) (sfunc = streamproc.place_step, stype = boolean);
REVOKE ALL ON FUNCTION streamproc.place_step(boolean, integer, tid, timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION streamproc.place(integer, tid, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.place_step(boolean, integer, tid, timestamptz) IS
	'for the planner of pipelines: carries the place of a message to an operator';
COMMENT ON AGGREGATE streamproc.place(integer, tid, timestamptz) IS
	'for the planner of pipelines: carries the place of a message to an operator';

-- VOLATILE: a condition in HAVING on the session stays there
CREATE FUNCTION streamproc.session_slice(at timestamptz, gap interval, max_span interval) RETURNS tstzrange
	AS 'MODULE_PATHNAME', 'streamproc_session_slice' LANGUAGE C VOLATILE PARALLEL SAFE;
GRANT EXECUTE ON FUNCTION streamproc.session_slice(timestamptz, interval, interval) TO PUBLIC;
COMMENT ON FUNCTION streamproc.session_slice(timestamptz, interval, interval) IS
	'for the planner of pipelines: over a stream it stands in the place of streamproc.session()';

-- Over a stream they stand in the place of hop() and cumulate(); the windows
-- that a slice belongs to are made when they are given out.
CREATE FUNCTION streamproc.hop_slice_start(at timestamptz, slide interval, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_hop_slice_start' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION streamproc.hop_slice_end(at timestamptz, slide interval, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_hop_slice_end' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION streamproc.cumulate_slice_start(at timestamptz, step interval, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_cumulate_slice_start' LANGUAGE C IMMUTABLE PARALLEL SAFE;
CREATE FUNCTION streamproc.cumulate_slice_end(at timestamptz, step interval, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_cumulate_slice_end' LANGUAGE C IMMUTABLE PARALLEL SAFE;
GRANT EXECUTE ON FUNCTION streamproc.hop_slice_start(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.hop_slice_end(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.cumulate_slice_start(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.cumulate_slice_end(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
COMMENT ON FUNCTION streamproc.hop_slice_start(timestamptz, interval, interval, text, timestamptz) IS 'for the planner of pipelines: where the slice of streamproc.hop_slice() begins';
COMMENT ON FUNCTION streamproc.hop_slice_end(timestamptz, interval, interval, text, timestamptz) IS 'for the planner of pipelines: before which instant the slice of streamproc.hop_slice() ends';
COMMENT ON FUNCTION streamproc.cumulate_slice_start(timestamptz, interval, interval, text, timestamptz) IS 'for the planner of pipelines: where the slice of streamproc.cumulate_slice() begins';
COMMENT ON FUNCTION streamproc.cumulate_slice_end(timestamptz, interval, interval, text, timestamptz) IS 'for the planner of pipelines: before which instant the slice of streamproc.cumulate_slice() ends';

CREATE FUNCTION streamproc.hop_slice(at timestamptz, slide interval, size interval, zone text, origin timestamptz)
	RETURNS TABLE (window_start timestamptz, window_end timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT streamproc.hop_slice_start(at, slide, size, zone, origin), streamproc.hop_slice_end(at, slide, size, zone, origin);
END;
CREATE FUNCTION streamproc.cumulate_slice(at timestamptz, step interval, size interval, zone text, origin timestamptz)
	RETURNS TABLE (window_start timestamptz, window_end timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT streamproc.cumulate_slice_start(at, step, size, zone, origin), streamproc.cumulate_slice_end(at, step, size, zone, origin);
END;
GRANT EXECUTE ON FUNCTION streamproc.hop_slice(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.cumulate_slice(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
COMMENT ON FUNCTION streamproc.hop_slice(timestamptz, interval, interval, text, timestamptz) IS
	'for the planner of pipelines: the slice that the windows of streamproc.hop() share';
COMMENT ON FUNCTION streamproc.cumulate_slice(timestamptz, interval, interval, text, timestamptz) IS
	'for the planner of pipelines: the slice that the windows of streamproc.cumulate() share';

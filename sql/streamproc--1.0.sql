/* streamproc 1.0: everything that CREATE EXTENSION makes */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION streamproc" to load this file. \quit

-- The library must have been loaded by the postmaster: it needs shared memory
-- and a supervisor.  Says so before anything is made.
CREATE FUNCTION streamproc.require_preload() RETURNS void
	AS 'MODULE_PATHNAME', 'streamproc_require_preload' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION streamproc.require_preload() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.require_preload() IS
	'error 55000 with what to do unless shared_preload_libraries names streamproc';
SELECT streamproc.require_preload();

GRANT USAGE ON SCHEMA streamproc TO PUBLIC;

-- Pipelines are stored as procedures of this schema.  USAGE shows them (\sf);
-- nobody may create here, and EXECUTE is revoked: its owner may grant it, to
-- start and stop the pipeline; CALL is refused to everybody.
CREATE SCHEMA streamproc_pipeline;
GRANT USAGE ON SCHEMA streamproc_pipeline TO PUBLIC;
COMMENT ON SCHEMA streamproc_pipeline IS
	'one procedure per pipeline, owned by the pipeline''s owner; made by streamproc.create_pipeline()';

----------------------------------------------------------------------------
-- Topics as foreign tables
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.streamproc_kafka_handler() RETURNS fdw_handler
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION streamproc.streamproc_kafka_handler() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.streamproc_kafka_handler() IS
	'handler of the foreign data wrapper streamproc_kafka';

CREATE FUNCTION streamproc.streamproc_kafka_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION streamproc.streamproc_kafka_validator(text[], oid) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.streamproc_kafka_validator(text[], oid) IS
	'checks the options of servers, user mappings, foreign tables and their columns';

CREATE FOREIGN DATA WRAPPER streamproc_kafka
	HANDLER streamproc.streamproc_kafka_handler
	VALIDATOR streamproc.streamproc_kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER streamproc_kafka IS 'Kafka topics as foreign tables';

----------------------------------------------------------------------------
-- Own tables.  Read and written by the workers and the functions below
-- through table access methods, never by SPI: nobody needs a grant.  They
-- declare nothing that only the executor enforces.
----------------------------------------------------------------------------

CREATE TABLE streamproc.pipeline (
	name				name PRIMARY KEY,
	id					uuid NOT NULL,
	version				bigint NOT NULL,
	active				boolean NOT NULL,
	drain				boolean NOT NULL,
	start				text NOT NULL,
	stop				text NOT NULL,
	parallelism			integer,
	checkpoint_interval	interval NOT NULL,
	synchronous_commit	boolean NOT NULL,
	settings			text[] NOT NULL,
	system_identifier	bigint NOT NULL,
	database			bigint NOT NULL,
	created				timestamptz NOT NULL,
	state				text,
	state_since			timestamptz NOT NULL,
	error_sqlstate		text,
	error_message		text,
	error_detail		text,
	error_hint			text,
	error_topic			text,
	error_partition		integer,
	error_offset		bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE streamproc.pipeline IS
	'the pipelines: options and wanted state; the text is the procedure of the same name in schema streamproc_pipeline';
COMMENT ON COLUMN streamproc.pipeline.version IS 'raised by each change; workers of another version leave';
COMMENT ON COLUMN streamproc.pipeline.settings IS 'settings that change results, as they were at creation: name, value, name, value ...';
COMMENT ON COLUMN streamproc.pipeline.system_identifier IS 'of the cluster that may run it; a restored copy runs nowhere until start_pipeline(name, adopt => true)';
COMMENT ON COLUMN streamproc.pipeline.state IS 'why it is not active: stopped, finished, failed';
REVOKE ALL ON streamproc.pipeline FROM PUBLIC;

-- Without any index: with one, its entries pile up under an old snapshot and
-- each commit becomes slower.  One row per task, found by a scan at its start
-- and then updated by its remembered place.
CREATE TABLE streamproc.task_position (
	pipeline			name NOT NULL,
	task				integer NOT NULL,
	generation			bigint NOT NULL,
	epoch				bigint NOT NULL,
	cluster_id			text NOT NULL,
	topics				text[] NOT NULL,
	partitions			integer[] NOT NULL,
	next_offsets		bigint[] NOT NULL,
	stop_offsets		bigint[] NOT NULL,
	watermarks			timestamptz[] NOT NULL,
	record_times		timestamptz[] NOT NULL,
	updated				timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
	autovacuum_analyze_threshold = 1000000000, autovacuum_vacuum_cost_delay = 0,
	toast.autovacuum_vacuum_threshold = 500, toast.autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE streamproc.task_position IS
	'positions of the pipelines'' tasks, changed in the transaction that stores their results; read streamproc.position';
COMMENT ON COLUMN streamproc.task_position.generation IS 'of the launcher that wrote the row; a task of another one cannot commit';
COMMENT ON COLUMN streamproc.task_position.next_offsets IS 'per partition the offset of the first record that is not in the results yet';
COMMENT ON COLUMN streamproc.task_position.stop_offsets IS 'per partition where a run with an end stops, -1: never';
REVOKE ALL ON streamproc.task_position FROM PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('streamproc.pipeline', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.task_position', '');

----------------------------------------------------------------------------
-- Pipelines
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.create_pipeline(
	name text,
	query text,
	start text DEFAULT 'earliest',
	stop text DEFAULT 'never',
	parallelism integer DEFAULT NULL,
	checkpoint_interval interval DEFAULT '100 ms',
	synchronous_commit boolean DEFAULT true,
	active boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_create_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, boolean, boolean) IS
	'makes a pipeline of one or more INSERT ... SELECT over a topic, running from COMMIT on. start: earliest, latest, a timestamp, or {"partition": next offset}; stop: never or latest; parallelism: tasks, NULL: streamproc.default_parallelism; checkpoint_interval: longest time between commits under load';

CREATE FUNCTION streamproc.alter_pipeline(
	name text,
	query text DEFAULT NULL,
	stop text DEFAULT NULL,
	parallelism integer DEFAULT NULL,
	checkpoint_interval interval DEFAULT NULL,
	synchronous_commit boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_alter_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, boolean) IS
	'replaces the query or options of a pipeline at COMMIT and keeps its positions; NULL leaves as it is';

CREATE FUNCTION streamproc.start_pipeline(name text, adopt boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_start_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.start_pipeline(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.start_pipeline(text, boolean) IS
	'starts a stopped or failed pipeline at COMMIT, where it stood; adopt => true takes over a pipeline of a restored or cloned database';

CREATE FUNCTION streamproc.stop_pipeline(name text, drain boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_stop_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.stop_pipeline(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.stop_pipeline(text, boolean) IS
	'stops a pipeline at COMMIT, after a last checkpoint; drain => true first runs to the present ends of its topics';

CREATE FUNCTION streamproc.drop_pipeline(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_drop_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.drop_pipeline(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.drop_pipeline(text) IS 'drops a pipeline with its positions; what it has written stays';

CREATE FUNCTION streamproc.check_pipeline(
	query text,
	OUT statement integer, OUT sink text, OUT sources text[], OUT execution text, OUT result text,
	OUT deterministic boolean, OUT notes text[], OUT plan text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_check_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.check_pipeline(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.check_pipeline(text) IS
	'what create_pipeline() would make of a query: one row per statement, or the error that it would raise';

CREATE FUNCTION streamproc.wait_until_caught_up(name text, timeout interval DEFAULT '60 s')
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_wait_until_caught_up' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.wait_until_caught_up(text, interval) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.wait_until_caught_up(text, interval) IS
	'returns when everything that was in the topics at the call is committed; error on timeout or failure';

CREATE FUNCTION streamproc.wait_until_stopped(name text, timeout interval DEFAULT '60 s')
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_wait_until_stopped' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.wait_until_stopped(text, interval) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.wait_until_stopped(text, interval) IS
	'returns when the pipeline is stopped and its workers are gone; error on timeout or failure';

-- Keeps procedures and rows in step: DROP ... CASCADE of a table that a
-- pipeline uses drops the pipeline, and foreign tables are checked whole.
CREATE FUNCTION streamproc.on_sql_drop() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'streamproc_on_sql_drop' LANGUAGE C;
REVOKE ALL ON FUNCTION streamproc.on_sql_drop() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.on_sql_drop() IS 'drops the pipelines whose procedure was dropped';
CREATE EVENT TRIGGER streamproc_on_sql_drop ON sql_drop
	WHEN TAG IN ('DROP PROCEDURE', 'DROP ROUTINE', 'DROP TABLE', 'DROP FOREIGN TABLE', 'DROP VIEW', 'DROP SCHEMA',
		'DROP FUNCTION', 'DROP TYPE', 'DROP DOMAIN', 'DROP SERVER', 'DROP OWNED', 'DROP EXTENSION', 'DROP OPERATOR',
		'DROP AGGREGATE', 'DROP CAST', 'DROP COLLATION', 'DROP SEQUENCE', 'DROP MATERIALIZED VIEW',
		'DROP FOREIGN DATA WRAPPER', 'ALTER TABLE', 'ALTER FOREIGN TABLE')
	EXECUTE FUNCTION streamproc.on_sql_drop();
COMMENT ON EVENT TRIGGER streamproc_on_sql_drop IS 'drops the pipelines whose procedure was dropped';

CREATE FUNCTION streamproc.on_ddl() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'streamproc_on_ddl' LANGUAGE C;
REVOKE ALL ON FUNCTION streamproc.on_ddl() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.on_ddl() IS 'checks a new or changed foreign table of streamproc_kafka as a whole';
CREATE EVENT TRIGGER streamproc_on_ddl ON ddl_command_end
	WHEN TAG IN ('CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'ALTER TABLE')
	EXECUTE FUNCTION streamproc.on_ddl();
COMMENT ON EVENT TRIGGER streamproc_on_ddl IS 'checks a new or changed foreign table of streamproc_kafka as a whole';

----------------------------------------------------------------------------
-- Views.  Each shows a role the pipelines that it owns (or whose owner it is
-- a member of); members of pg_read_all_stats see all.
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.stat_pipeline_rows(
	OUT pipeline name, OUT owner name, OUT state text, OUT reason text, OUT detail text, OUT hint text,
	OUT sqlstate text, OUT topic text, OUT partition integer, OUT "offset" bigint, OUT since timestamptz,
	OUT rows_in bigint, OUT rows_out bigint, OUT bad_rows bigint, OUT bytes_in bigint,
	OUT lag_rows bigint, OUT lag interval, OUT watermark timestamptz, OUT epoch bigint, OUT checkpoints bigint,
	OUT latency_p50 interval, OUT latency_p99 interval, OUT tasks integer, OUT restarts bigint,
	OUT last_error text, OUT last_error_sqlstate text, OUT last_error_topic text, OUT last_error_partition integer,
	OUT last_error_offset bigint, OUT last_error_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_pipeline' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_pipeline_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_pipeline_rows() IS 'rows of the view stat_pipeline';
CREATE VIEW streamproc.stat_pipeline AS SELECT * FROM streamproc.stat_pipeline_rows();
GRANT SELECT ON streamproc.stat_pipeline TO PUBLIC;
COMMENT ON VIEW streamproc.stat_pipeline IS
	'one row per pipeline: state with reason, position and the command that goes on; rows, lag, watermark, latency from first row taken to commit done';

CREATE FUNCTION streamproc.stat_worker_rows(
	OUT pipeline name, OUT role text, OUT task integer, OUT pid integer, OUT state text, OUT waits_for text,
	OUT since timestamptz, OUT rows_in bigint, OUT rows_out bigint, OUT batches bigint, OUT commits bigint, OUT retries bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_worker' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_worker_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_worker_rows() IS 'rows of the view stat_worker';
CREATE VIEW streamproc.stat_worker AS SELECT * FROM streamproc.stat_worker_rows();
GRANT SELECT ON streamproc.stat_worker TO PUBLIC;
COMMENT ON VIEW streamproc.stat_worker IS 'one row per launcher and task that runs: what it does, what it waits for';

CREATE FUNCTION streamproc.stat_partition_rows(
	OUT pipeline name, OUT topic text, OUT partition integer, OUT task integer, OUT next_offset bigint,
	OUT committed_offset bigint, OUT end_offset bigint, OUT lag_rows bigint, OUT watermark timestamptz,
	OUT last_record_at timestamptz, OUT at_end boolean, OUT idle boolean, OUT finished boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_partition' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_partition_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_partition_rows() IS 'rows of the view stat_partition';
CREATE VIEW streamproc.stat_partition AS SELECT * FROM streamproc.stat_partition_rows();
GRANT SELECT ON streamproc.stat_partition TO PUBLIC;
COMMENT ON VIEW streamproc.stat_partition IS
	'one row per partition that a running pipeline reads: next offset, committed offset, end, lag, watermark, idleness';

CREATE FUNCTION streamproc.stat_checkpoint_rows(
	OUT pipeline name, OUT task integer, OUT epoch bigint, OUT reason text, OUT at timestamptz,
	OUT duration interval, OUT commit_time interval, OUT rows_in bigint, OUT rows_out bigint, OUT bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'streamproc_stat_checkpoint' LANGUAGE C VOLATILE;
GRANT EXECUTE ON FUNCTION streamproc.stat_checkpoint_rows() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.stat_checkpoint_rows() IS 'rows of the view stat_checkpoint';
CREATE VIEW streamproc.stat_checkpoint AS SELECT * FROM streamproc.stat_checkpoint_rows();
GRANT SELECT ON streamproc.stat_checkpoint TO PUBLIC;
COMMENT ON VIEW streamproc.stat_checkpoint IS 'the last checkpoints (commits) of each pipeline with duration, rows, bytes and reason';

CREATE FUNCTION streamproc.visible_to_me(pipeline name) RETURNS boolean
AS 'MODULE_PATHNAME', 'streamproc_visible_to_me' LANGUAGE C STABLE STRICT;
GRANT EXECUTE ON FUNCTION streamproc.visible_to_me(name) TO PUBLIC;
COMMENT ON FUNCTION streamproc.visible_to_me(name) IS
	'is the caller the owner of the pipeline, a member of its owner, or of pg_read_all_stats';

CREATE VIEW streamproc.position WITH (security_barrier) AS
SELECT t.pipeline, u.topic, u.partition, t.task, u.next_offset,
	CASE WHEN u.stop_offset OPERATOR(pg_catalog.>=) 0 THEN u.stop_offset END AS stop_offset,
	CASE WHEN pg_catalog.isfinite(u.watermark) THEN u.watermark END AS watermark,
	CASE WHEN pg_catalog.isfinite(u.record_time) THEN u.record_time END AS last_record_at,
	t.epoch, t.generation, t.cluster_id, t.updated
FROM streamproc.task_position t,
	ROWS FROM (pg_catalog.unnest(t.topics), pg_catalog.unnest(t.partitions), pg_catalog.unnest(t.next_offsets),
		pg_catalog.unnest(t.stop_offsets), pg_catalog.unnest(t.watermarks), pg_catalog.unnest(t.record_times))
		AS u(topic, partition, next_offset, stop_offset, watermark, record_time)
WHERE streamproc.visible_to_me(t.pipeline);
GRANT SELECT ON streamproc.position TO PUBLIC;
COMMENT ON VIEW streamproc.position IS
	'the saved positions: all results of records below next_offset are in the sinks, none of the others; transactional, in one snapshot with the sinks';

--
-- Options of pipelines with state, late rows, saved state and dead letters of results: arguments, defaults, who sees
-- and deletes what.  The tables are filled by hand; what pipelines put into them is the matter of the TAP tests.
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
CREATE SCHEMA keyed;
SET search_path = keyed, streamproc;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
\! $STREAMPROC_TOOL delete $STREAMPROC_KAFKA keyed_tx >/dev/null 2>&1
\! $STREAMPROC_TOOL create $STREAMPROC_KAFKA keyed_tx 1 >/dev/null
\! for i in 1 2 3; do printf '0\t0\t\\N\t{"id": %d}\n' $i; done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA keyed_tx >/dev/null
CREATE SERVER keyed_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE tx (id int) SERVER keyed_kafka OPTIONS (topic 'keyed_tx');
CREATE TABLE sink (id int);
\set q '$$INSERT INTO sink SELECT id FROM tx$$'
CREATE FOREIGN TABLE events (id int, at timestamptz OPTIONS (kafka 'timestamp')) SERVER keyed_kafka OPTIONS (topic 'keyed_tx', event_time 'at');
CREATE TABLE counts (id int, w timestamptz, n bigint, PRIMARY KEY (id, w));
\set grouped '$$INSERT INTO counts SELECT id, window_end, count(*) FROM events, tumble(at, ''1 min'') GROUP BY id, window_end ON CONFLICT (id, w) DO UPDATE SET n = EXCLUDED.n$$'
\set options 'SELECT emit, late, allowed_lateness, state_memory, max_skew, state_signature FROM pipeline WHERE name = ''keyed'''

----------------------------------------------------------------------------
-- Options
----------------------------------------------------------------------------
SELECT create_pipeline('keyed', :q, emit => 'finally');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => '');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every5 s');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every now and then');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every 0 s');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every -5 s');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every 1 month');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every 99999999999 days');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, emit => 'every ' || repeat('1', 300));
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, late => 'never');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, late => NULL);
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, allowed_lateness => '-1 s');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, allowed_lateness => '1 month');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, allowed_lateness => '2147483647 days');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, allowed_lateness => NULL);
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, state_memory => '1023 kB');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, state_memory => '-1 GB');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, state_memory => 'much');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, max_skew => '-1 s');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, max_skew => '1 year');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, early => 'divert');
\echo :SQLSTATE
SELECT count(*) FROM pipeline WHERE name = 'keyed';

-- defaults, and all of them
-- what does not fit the query
SELECT create_pipeline('keyed', :q, active => false, emit => 'changes');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :q, active => false, late => 'update');
\echo :SQLSTATE
SELECT create_pipeline('keyed', :grouped, active => false);
:options;
SELECT drop_pipeline('keyed');
SELECT create_pipeline('keyed', :grouped, active => false, emit => 'every 1.5 minutes', late => 'update', allowed_lateness => '1 day 2 h', state_memory => '64MB', max_skew => '5 min');
:options;
-- only what is named changes
SELECT alter_pipeline('keyed', parallelism => 1);
:options;
SELECT alter_pipeline('keyed', late => 'drop');
:options;
SELECT alter_pipeline('keyed', emit => 'changes', state_memory => '1048576');
:options;
SELECT alter_pipeline('keyed', emit => 'never');
\echo :SQLSTATE
SELECT alter_pipeline('keyed', late => 'later');
\echo :SQLSTATE
SELECT alter_pipeline('keyed', allowed_lateness => '-1 us');
\echo :SQLSTATE
SELECT alter_pipeline('keyed', state_memory => '1');
\echo :SQLSTATE
SELECT alter_pipeline('keyed', max_skew => '-1 us');
\echo :SQLSTATE
-- and back to what it is without being given
SELECT alter_pipeline('keyed', emit => 'default', late => 'divert', allowed_lateness => '0', state_memory => 'default', max_skew => '0');
:options;
-- intervals of any style
SET intervalstyle = 'iso_8601';
SELECT alter_pipeline('keyed', emit => 'every PT5S', max_skew => 'PT1M');
:options;
SET intervalstyle = 'postgres';
SELECT alter_pipeline('keyed', emit => 'every 00:00:05');
:options;
-- the signature is not an option: other changes keep it
UPDATE pipeline SET state_signature = 'made by hand' WHERE name = 'keyed';
SELECT alter_pipeline('keyed', emit => 'final');
:options;
SELECT drop_pipeline('keyed');
SELECT create_pipeline('keyed', :q, active => false);
SHOW streamproc.state_memory;
SELECT min_val, unit, context FROM pg_settings WHERE name = 'streamproc.state_memory';

----------------------------------------------------------------------------
-- Late rows
----------------------------------------------------------------------------
CREATE ROLE regress_keyed;
GRANT USAGE ON SCHEMA keyed TO regress_keyed;
INSERT INTO stored_late_row VALUES
	('keyed', 101, 1, 'keyed_tx', 0, 7, '2026-01-01 12:00', '2026-01-01 12:05', '2026-01-01 12:00', '2026-01-01 12:01', '{"id": 7}', '2026-01-01 13:00'),
	('keyed', 102, 2, NULL, NULL, NULL, '2026-01-01 12:01', '2026-01-01 12:05', '2026-01-01 12:00', '2026-01-01 12:05', '{"id": 8}', '2026-01-01 13:01'),
	('another', 103, 1, 'keyed_tx', 0, 9, '2026-01-01 12:00', '2026-01-01 12:05', NULL, NULL, '{"id": 9}', '2026-01-01 13:00');
SELECT * FROM late_row ORDER BY id;
SET ROLE regress_keyed;
SELECT count(*) FROM late_row;
SELECT delete_late_rows('keyed', 'infinity');
\echo :SQLSTATE
RESET ROLE;
SELECT delete_late_rows('keyed', NULL);
\echo :SQLSTATE
SELECT delete_late_rows('keye', 'infinity');
\echo :SQLSTATE
SELECT delete_late_rows('keyed', '2026-01-01 13:00:30');
SELECT id FROM late_row;
-- the barrier: a function that costs nothing does not see rows of others
CREATE FUNCTION keyed.peep(jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE NOTICE 'seen %', $1; RETURN true; END$$;
SET ROLE regress_keyed;
SELECT count(*) FROM late_row WHERE keyed.peep("row");
RESET ROLE;

----------------------------------------------------------------------------
-- Dead letters of results: shown, never run again
----------------------------------------------------------------------------
INSERT INTO stored_dead_letter (pipeline, id, statement, kind, topic, partition, "offset", value, "row", sqlstate, message, attempts, at) VALUES
	('keyed', 201, 1, 'output', NULL, NULL, NULL, NULL, '{"id": 1}', '23514', 'made by hand', 1, '2026-01-01 13:00');
SELECT retry_dead_letters('keyed');
SELECT retry_until FROM pipeline WHERE name = 'keyed';
INSERT INTO stored_dead_letter (pipeline, id, statement, kind, topic, partition, "offset", value, "row", sqlstate, message, attempts, at) VALUES
	('keyed', 202, NULL, 'input', 'keyed_tx', 0, 1, '{"id": 4}', NULL, '22P02', 'made by hand', 1, '2026-01-01 13:00'),
	('keyed', 203, 1, 'output', NULL, NULL, NULL, NULL, '{"id": 2}', '23514', 'made by hand', 1, '2026-01-01 13:00'),
	('keyed', 204, 1, 'input', 'keyed_tx', 0, 2, '{"id": 5}', NULL, '22P02', 'made by hand', 1, '2026-01-01 13:00'),
	('keyed', 205, 1, 'output', NULL, NULL, NULL, NULL, '{"id": 3}', '23514', 'made by hand', 1, '2026-01-01 13:00');
SELECT retry_dead_letters('keyed');
SELECT id, kind, topic, partition, "offset", "row", retry FROM dead_letter WHERE pipeline = 'keyed' ORDER BY id;
SELECT start_pipeline('keyed');
SELECT wait_until_caught_up('keyed', '120 s');
SELECT id FROM sink ORDER BY id;
SELECT id, kind, retry FROM dead_letter WHERE pipeline = 'keyed' ORDER BY id;
SELECT stop_pipeline('keyed');
SELECT wait_until_stopped('keyed', '120 s');
SELECT delete_dead_letters('keyed', 'infinity');
SELECT late_rows, state_bytes, segment_bytes, watermark, watermark_delay FROM stat_pipeline WHERE pipeline = 'keyed';
SELECT DISTINCT early_ms, align_ms, cut_ms, output_ms, write_ms, state_bytes FROM stat_checkpoint WHERE pipeline = 'keyed';
SELECT * FROM stat_operator WHERE pipeline = 'keyed';

----------------------------------------------------------------------------
-- What a pipeline has kept goes with it, and nothing of others
----------------------------------------------------------------------------
INSERT INTO state_segment SELECT p, e, n, e, 'infinity', decode(repeat('ab', 5000), 'hex') FROM unnest('{keyed,another}'::name[]) p, generate_series(1, 3) e, generate_series(1, 2) n;
-- uncompressed, outside
SELECT DISTINCT pg_column_size(data), length(data) FROM state_segment;
SELECT attstorage FROM pg_attribute WHERE attrelid = 'state_segment'::regclass AND attname = 'data';
SELECT alter_pipeline('keyed', query => :q);
SELECT pipeline, count(*) FROM state_segment GROUP BY 1 ORDER BY 1;
SELECT pipeline, count(*) FROM stored_late_row GROUP BY 1 ORDER BY 1;
BEGIN;
SELECT drop_pipeline('keyed');
SELECT pipeline, count(*) FROM state_segment GROUP BY 1 ORDER BY 1;
SELECT pipeline, count(*) FROM stored_late_row GROUP BY 1 ORDER BY 1;
ROLLBACK;
SELECT pipeline, count(*) FROM state_segment GROUP BY 1 ORDER BY 1;
-- the same by the procedure, and by a table that it uses
\set VERBOSITY terse
BEGIN;
DROP PROCEDURE streamproc_pipeline.keyed CASCADE;
SELECT pipeline, count(*) FROM state_segment GROUP BY 1 ORDER BY 1;
SELECT pipeline, count(*) FROM stored_late_row GROUP BY 1 ORDER BY 1;
ROLLBACK;
DROP TABLE sink CASCADE;
SELECT pipeline, count(*) FROM state_segment GROUP BY 1 ORDER BY 1;
SELECT pipeline, count(*) FROM stored_late_row GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM pipeline WHERE name = 'keyed';
DELETE FROM state_segment WHERE pipeline = 'another';
DELETE FROM stored_late_row WHERE pipeline = 'another';

----------------------------------------------------------------------------
DROP SERVER keyed_kafka CASCADE;
DROP SCHEMA keyed CASCADE;
DROP ROLE regress_keyed;
\! $STREAMPROC_TOOL delete $STREAMPROC_KAFKA keyed_tx >/dev/null 2>&1

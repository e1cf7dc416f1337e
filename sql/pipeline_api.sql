--
-- The functions that make, change, start, stop and drop pipelines: arguments,
-- transactions, rights, dependencies, views.
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
CREATE SCHEMA api;
SET search_path = api, streamproc;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET intervalstyle = 'postgres';
\! for t in tx late; do $STREAMPROC_TOOL delete $STREAMPROC_KAFKA api_$t >/dev/null 2>&1; done
\! $STREAMPROC_TOOL create $STREAMPROC_KAFKA api_tx 2 >/dev/null
\! for i in $(seq 1 50); do printf '%d\t0\t\\N\t{"id": %d}\n' $((i % 2)) $i; done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA api_tx >/dev/null
CREATE SERVER api_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE tx (id int, extra text) SERVER api_kafka OPTIONS (topic 'api_tx');
CREATE TABLE sink (id int, extra text);
\set q '$$INSERT INTO sink SELECT id, extra FROM tx$$'

----------------------------------------------------------------------------
-- Arguments
----------------------------------------------------------------------------
SELECT create_pipeline(NULL, :q);
\echo :SQLSTATE
SELECT create_pipeline('', :q);
\echo :SQLSTATE
SELECT create_pipeline(repeat('x', 64), :q);
\echo :SQLSTATE
SELECT create_pipeline('a', NULL);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => 'soon');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => NULL);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '2026-13-01');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '{"0": -1}');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '{"zero": 1}');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '{"0": "1"}');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '{"0": 1');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, start => '{}');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, stop => 'soon');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, stop => NULL);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, parallelism => 0);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, parallelism => 65);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, checkpoint_interval => '-1 s');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, checkpoint_interval => '1 hour');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, checkpoint_interval => '1 month');
\echo :SQLSTATE
SELECT create_pipeline('a', :q, checkpoint_interval => NULL);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, active => NULL);
\echo :SQLSTATE
SELECT create_pipeline('a', :q, paralelism => 2);
\echo :SQLSTATE
SELECT count(*) FROM stat_pipeline;

-- names: any
SELECT create_pipeline('Name "with" ''all''', :q, stop => 'latest');
SELECT wait_until_stopped('Name "with" ''all''');
SELECT pipeline, owner = current_user AS mine, state, reason, hint FROM stat_pipeline;
SELECT create_pipeline('Name "with" ''all''', :q);
\echo :SQLSTATE
SELECT drop_pipeline('Name "with" ''all''');
SELECT count(*) FROM sink;
TRUNCATE sink;

-- unknown names, with the nearest
SELECT create_pipeline('payments', :q, active => false);
SELECT start_pipeline('payment');
\echo :SQLSTATE
SELECT stop_pipeline('payments2');
\echo :SQLSTATE
SELECT drop_pipeline('something else');
\echo :SQLSTATE
SELECT alter_pipeline('Payments', parallelism => 2);
\echo :SQLSTATE
SELECT wait_until_caught_up('payment', '1 s');
\echo :SQLSTATE
SELECT wait_until_stopped('paymens', '1 s');
\echo :SQLSTATE
-- alter: only what is named
SELECT alter_pipeline('payments', stop => 'soon');
\echo :SQLSTATE
SELECT alter_pipeline('payments', parallelism => 0);
\echo :SQLSTATE
SELECT alter_pipeline('payments', checkpoint_interval => '11 min');
\echo :SQLSTATE
SELECT alter_pipeline('payments', parallelism => 2, checkpoint_interval => '1.5 s', synchronous_commit => false, stop => 'latest');
SELECT stop, parallelism, checkpoint_interval, synchronous_commit, start, active FROM pipeline;
SELECT alter_pipeline('payments', stop => 'never');
SELECT stop, parallelism, checkpoint_interval, synchronous_commit, start, active FROM pipeline;
-- wait: arguments and states
SELECT wait_until_caught_up('payments', NULL);
\echo :SQLSTATE
SELECT wait_until_caught_up('payments', '-1 s');
\echo :SQLSTATE
SELECT wait_until_caught_up('payments', '5 s');
\echo :SQLSTATE
SELECT wait_until_stopped('payments', '5 s');
SELECT stop_pipeline('payments');
SELECT start_pipeline('payments');
SELECT start_pipeline('payments');
SELECT wait_until_caught_up('payments', '120 s');
SELECT count(*) FROM sink;
SELECT wait_until_stopped('payments', '10 ms');
\echo :SQLSTATE
SELECT stop_pipeline('payments');
SELECT wait_until_stopped('payments', '120 s');
SELECT count(*) FROM stat_worker;

----------------------------------------------------------------------------
-- Transactions
----------------------------------------------------------------------------
-- a rollback leaves nothing
BEGIN;
SELECT create_pipeline('rolled', :q);
SELECT count(*) FROM pipeline WHERE name = 'rolled';
-- waiting for what starts at COMMIT would never end
SELECT wait_until_caught_up('rolled', '10 s');
\echo :SQLSTATE
ROLLBACK;
SELECT pipeline FROM stat_pipeline;
SELECT proname FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace;
BEGIN;
SELECT start_pipeline('payments');
SELECT wait_until_stopped('payments', '10 s');
\echo :SQLSTATE
ROLLBACK;
SELECT state FROM stat_pipeline;
BEGIN;
SAVEPOINT s;
SELECT create_pipeline('sub', :q);
ROLLBACK TO s;
SELECT drop_pipeline('payments');
ROLLBACK TO s;
SELECT alter_pipeline('payments', query => $$INSERT INTO sink SELECT -id, extra FROM tx$$);
ROLLBACK;
SELECT pipeline, state FROM stat_pipeline;
SELECT pg_get_functiondef(oid) !~ '-' AS as_before FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace;
-- made, changed and dropped in one
BEGIN;
SELECT create_pipeline('short', :q);
SELECT alter_pipeline('short', parallelism => 1);
SELECT stop_pipeline('short');
SELECT start_pipeline('short');
SELECT drop_pipeline('short');
COMMIT;
SELECT pipeline FROM stat_pipeline;
-- dropped and made again under the same name: from the start
TRUNCATE sink;
BEGIN;
SELECT drop_pipeline('payments');
SELECT create_pipeline('payments', :q, stop => 'latest');
COMMIT;
SELECT wait_until_stopped('payments');
SELECT count(*) FROM sink;
-- two at once, in one transaction with other work
TRUNCATE sink;
BEGIN;
CREATE TABLE sink2 (id int);
SELECT create_pipeline('one', :q, stop => 'latest');
SELECT create_pipeline('two', 'INSERT INTO sink2 SELECT id FROM tx', stop => 'latest');
COMMIT;
SELECT wait_until_stopped('one'), wait_until_stopped('two');
SELECT (SELECT count(*) FROM sink), (SELECT count(*) FROM sink2);
BEGIN;
SELECT drop_pipeline('one');
PREPARE TRANSACTION 'api';
\echo :SQLSTATE
SELECT drop_pipeline('one'), drop_pipeline('two');
DO $$ BEGIN PERFORM streamproc.create_pipeline('p', 'INSERT INTO api.sink SELECT * FROM api.tx', active => false); PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN END $$;
SELECT pipeline FROM stat_pipeline;
-- not where nothing can be written
BEGIN READ ONLY;
SELECT start_pipeline('payments');
\echo :SQLSTATE
ROLLBACK;

----------------------------------------------------------------------------
-- The stored procedure: text, dependencies
----------------------------------------------------------------------------
SELECT drop_pipeline('payments');
CREATE TABLE look (id int PRIMARY KEY, word text);
CREATE FUNCTION word(int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'w' || $1 $$;
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.sink (id int, extra text);
SELECT create_pipeline('dep', $$INSERT INTO elsewhere.sink SELECT t.id, l.word || word(t.id) FROM tx t LEFT JOIN look l USING (id);
  INSERT INTO sink (id) SELECT id FROM tx$$, active => false);
\sf streamproc_pipeline.dep
\df streamproc_pipeline.*
-- it is not for calling: it would run the whole topic into the sink
CALL streamproc_pipeline.dep();
\echo :SQLSTATE
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.dep() TO PUBLIC;
CALL streamproc_pipeline.dep();
\echo :SQLSTATE
DROP TABLE look;
\echo :SQLSTATE
ALTER TABLE look DROP COLUMN word;
\echo :SQLSTATE
ALTER TABLE look ALTER word TYPE varchar;
\echo :SQLSTATE
DROP FUNCTION word;
\echo :SQLSTATE
DROP FOREIGN TABLE tx;
\echo :SQLSTATE
DROP SERVER api_kafka;
\echo :SQLSTATE
DROP SCHEMA elsewhere;
\echo :SQLSTATE
-- renames follow
ALTER TABLE look RENAME TO lookup; ALTER TABLE lookup RENAME word TO wort; ALTER SCHEMA elsewhere RENAME TO there;
SELECT alter_pipeline('dep', stop => 'latest');
SELECT start_pipeline('dep');
SELECT wait_until_stopped('dep');
SELECT count(*) FROM there.sink;
SELECT hint FROM stat_pipeline;
-- a comment may be kept on it; its name is the pipeline's
COMMENT ON PROCEDURE streamproc_pipeline.dep() IS 'keeps words';
SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE proname = 'dep';
-- CASCADE takes the pipeline along, its positions too
SELECT count(*) FROM position;
DROP TABLE lookup CASCADE;
SELECT count(*) FROM stat_pipeline;
SELECT count(*) FROM position;
SELECT create_pipeline('dep', 'INSERT INTO there.sink SELECT id FROM tx');
SELECT wait_until_caught_up('dep', '120 s');
DROP SCHEMA there CASCADE;
SELECT count(*) FROM stat_pipeline;
SELECT create_pipeline('dep', :q);
DROP PROCEDURE streamproc_pipeline.dep();
SELECT count(*) FROM stat_pipeline;
-- also where the DROP is rolled back
SELECT create_pipeline('dep', :q, stop => 'latest');
SELECT wait_until_stopped('dep');
BEGIN; DROP TABLE sink CASCADE; ROLLBACK;
SELECT pipeline, state, reason FROM stat_pipeline;
SELECT drop_pipeline('dep');

----------------------------------------------------------------------------
-- Rights
----------------------------------------------------------------------------
CREATE ROLE api_alice LOGIN; CREATE ROLE api_bob LOGIN; CREATE ROLE api_stats LOGIN IN ROLE pg_read_all_stats; CREATE ROLE api_group; CREATE ROLE api_member LOGIN IN ROLE api_alice;
GRANT USAGE ON SCHEMA api TO api_alice, api_bob, api_group;
SET ROLE api_alice;
SELECT create_pipeline('hers', :q);
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO api_alice, api_bob, api_group, api_member;
SET ROLE api_alice;
SELECT create_pipeline('hers', :q);
\echo :SQLSTATE
RESET ROLE;
GRANT SELECT ON tx TO api_alice, api_group;
SET ROLE api_alice;
SELECT create_pipeline('hers', :q);
\echo :SQLSTATE
RESET ROLE;
GRANT INSERT ON sink TO api_alice, api_group;
SET ROLE api_alice;
SELECT create_pipeline('hers', :q);
\echo :SQLSTATE
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER api_kafka TO api_alice, api_bob, api_group;
TRUNCATE sink;
SET ROLE api_alice;
SELECT create_pipeline('hers', :q);
SELECT wait_until_caught_up('hers', '120 s');
SELECT pipeline, owner, state FROM stat_pipeline;
SELECT DISTINCT pipeline FROM position;
SELECT count(DISTINCT pipeline) FROM stat_partition;
SELECT count(*) > 1 FROM stat_worker;
SELECT count(*) > 0 FROM stat_checkpoint;
-- the tables behind are nobody's
SELECT * FROM streamproc.pipeline;
SELECT * FROM streamproc.task_position;
CREATE FUNCTION streamproc_pipeline.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
CALL streamproc_pipeline.hers();
-- her workers are she
RESET ROLE;
SELECT count(*) FROM sink;
SELECT DISTINCT usename, regexp_replace(application_name, '\d+', '#') FROM pg_stat_activity WHERE usename = 'api_alice' ORDER BY 2;
-- others see nothing and can do nothing
SET ROLE api_bob;
SELECT count(*) FROM stat_pipeline;
SELECT count(*) FROM position;
SELECT count(*) FROM stat_partition;
SELECT count(*) FROM stat_worker;
SELECT count(*) FROM stat_checkpoint;
SELECT stop_pipeline('hers');
\echo :SQLSTATE
SELECT start_pipeline('hers');
\echo :SQLSTATE
SELECT drop_pipeline('hers');
\echo :SQLSTATE
SELECT alter_pipeline('hers', parallelism => 1);
\echo :SQLSTATE
SELECT wait_until_caught_up('hers', '1 s');
\echo :SQLSTATE
SELECT wait_until_stopped('hers', '1 s');
\echo :SQLSTATE
SET ROLE api_stats;
SELECT pipeline, state FROM stat_pipeline;
SELECT stop_pipeline('hers');
\echo :SQLSTATE
-- a member of the owner may stop it, and not put other statements under her name
SET ROLE api_member;
SELECT stop_pipeline('hers');
SELECT wait_until_stopped('hers');
SELECT alter_pipeline('hers', query => :q);
\echo :SQLSTATE
RESET ROLE;
-- rights are looked at again at each start
REVOKE INSERT ON sink FROM api_alice;
SELECT start_pipeline('hers');
SELECT wait_until_stopped('hers', '120 s');
\echo :SQLSTATE
SELECT state, reason, sqlstate FROM stat_pipeline;
GRANT INSERT ON sink TO api_alice;
-- the owner must be able to log in
ALTER ROLE api_alice NOLOGIN;
SELECT start_pipeline('hers');
\echo :SQLSTATE
ALTER ROLE api_alice LOGIN;
SET ROLE api_group;
SELECT create_pipeline('group', :q);
\echo :SQLSTATE
RESET ROLE;
-- a new owner: the workers are his from the next start on
REASSIGN OWNED BY api_alice TO api_bob;
SELECT pipeline, owner FROM stat_pipeline;
SELECT start_pipeline('hers');
SELECT wait_until_stopped('hers', '120 s');
\echo :SQLSTATE
GRANT SELECT ON tx TO api_bob; GRANT INSERT ON sink TO api_bob;
SELECT start_pipeline('hers');
SELECT wait_until_caught_up('hers', '120 s');
SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'streamproc%' AND usename LIKE 'api%';
SELECT count(*) FROM sink;
DROP OWNED BY api_bob;
SELECT count(*) FROM stat_pipeline;
DROP OWNED BY api_alice, api_group;
DROP OWNED BY api_member;
DROP ROLE api_alice, api_bob, api_stats, api_group, api_member;

----------------------------------------------------------------------------
-- What is not there yet
----------------------------------------------------------------------------
CREATE FOREIGN TABLE late (id int) SERVER api_kafka OPTIONS (topic 'api_late');
TRUNCATE sink;
SELECT create_pipeline('late', 'INSERT INTO sink (id) SELECT id FROM late');
-- its launcher is there and has looked
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		EXIT WHEN (SELECT reason IS NOT NULL FROM stat_pipeline WHERE pipeline = 'late');
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT wait_until_caught_up('late', '200 ms');
\echo :SQLSTATE
SELECT state, reason FROM stat_pipeline;
\! $STREAMPROC_TOOL create $STREAMPROC_KAFKA api_late 1 >/dev/null; printf '0\t0\t\\N\t{"id": 7}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA api_late >/dev/null
SELECT wait_until_caught_up('late', '60 s');
SELECT * FROM sink;
SELECT drop_pipeline('late');

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA api CASCADE;
DROP SERVER api_kafka CASCADE;

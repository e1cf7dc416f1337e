--
-- Who may do what: every SQL object of the extension by every kind of role, grants on single pipelines, what monitors
-- see, pipelines of superusers over objects of others, hostile search paths.
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
CREATE SCHEMA rights;
SET timezone = 'UTC';
\! for t in tx bad; do $STREAMPROC_TOOL delete $STREAMPROC_KAFKA rights_$t >/dev/null 2>&1; done
\! for t in tx bad; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA rights_$t 1 >/dev/null; done
\! for i in 1 2 3; do printf '0\t0\t\\N\t{"id": %d}\n' $i; done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA rights_tx >/dev/null
\! printf '0\t0\t\\N\t{"id": "secret-4711"}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA rights_bad >/dev/null
CREATE SERVER rights_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE rights.tx (id int) SERVER rights_kafka OPTIONS (topic 'rights_tx');
CREATE FOREIGN TABLE rights.bad (id int) SERVER rights_kafka OPTIONS (topic 'rights_bad');
CREATE TABLE rights.sink (id int);

CREATE ROLE regress_owner LOGIN;
CREATE ROLE regress_other LOGIN;		-- may execute the functions, too
CREATE ROLE regress_nobody LOGIN;		-- nothing but what PUBLIC may
CREATE ROLE regress_monitor LOGIN IN ROLE streamproc_monitor;
CREATE ROLE regress_operator LOGIN;
CREATE ROLE regress_super LOGIN SUPERUSER;
GRANT USAGE ON SCHEMA rights TO regress_owner, regress_other, regress_operator;
GRANT CREATE ON SCHEMA rights TO regress_owner;
GRANT SELECT ON rights.tx, rights.bad TO regress_owner, regress_other;
GRANT INSERT ON rights.sink TO regress_owner, regress_other;
GRANT USAGE ON FOREIGN SERVER rights_kafka TO regress_owner, regress_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO regress_owner, regress_other;
GRANT EXECUTE ON FUNCTION streamproc.start_pipeline(text, boolean, boolean), streamproc.stop_pipeline(text, boolean),
	streamproc.wait_until_caught_up(text, interval), streamproc.wait_until_stopped(text, interval) TO regress_operator;

SET ROLE regress_owner;
SELECT streamproc.create_pipeline('rights_run', 'INSERT INTO rights.sink SELECT id FROM rights.tx');
SELECT streamproc.create_pipeline('rights_bad', 'INSERT INTO rights.sink SELECT id FROM rights.bad', on_error => 'fail');
SELECT streamproc.create_pipeline('rights_off', 'INSERT INTO rights.sink SELECT id FROM rights.tx', active => false);
SELECT streamproc.wait_until_caught_up('rights_run', '120 s');
SELECT streamproc.wait_until_stopped('rights_bad', '120 s');
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_run TO regress_operator;
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_off TO regress_operator;
RESET ROLE;
INSERT INTO streamproc.stored_dead_letter (pipeline, id, kind, topic, partition, "offset", sqlstate, message, attempts, at)
	VALUES ('rights_run', 1, 'input', 'rights_tx', 0, 0, '22P02', 'x', 1, now());
INSERT INTO streamproc.stored_data_loss (pipeline, id, topic, partition, from_offset, to_offset, reason, cluster_id, at)
	VALUES ('rights_run', 2, 'rights_tx', 0, 0, 1, 'x', 'x', now());
INSERT INTO streamproc.stored_late_row (pipeline, id, operator, at) VALUES ('rights_run', 3, 1, now());
INSERT INTO streamproc.state_segment VALUES ('rights_run', 1, 1, 1, 'infinity', '\x00');
INSERT INTO streamproc.outbox VALUES ('rights_run', 1, 0, 1, now(), true, '\x00');
INSERT INTO streamproc.publisher_position VALUES ('rights_run', 0, '{}', 1);

----------------------------------------------------------------------------
-- The matrix: each object, how it is used, and what comes of it
----------------------------------------------------------------------------

-- What the call gives for the role with the search path: its value, "ok", or the SQLSTATE.  Nothing of it stays.
CREATE FUNCTION rights.try(role name, path text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	said text;
BEGIN
	EXECUTE pg_catalog.format('SET LOCAL ROLE %I', role);
	PERFORM pg_catalog.set_config('search_path', path, true);
	IF call OPERATOR(pg_catalog.~) '^SELECT' THEN
		EXECUTE call INTO result;
	ELSE
		EXECUTE call;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'RG000', MESSAGE = CASE WHEN pg_catalog.length(result) OPERATOR(pg_catalog.>) 0 THEN result ELSE 'ok' END;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT;
	RETURN CASE WHEN SQLSTATE OPERATOR(pg_catalog.=) 'RG000' THEN said ELSE SQLSTATE END;
END
$$;
CREATE TABLE rights.object (n serial, object text, call text);
INSERT INTO rights.object (object, call) VALUES
	('function create_pipeline', $$SELECT streamproc.create_pipeline('rights_new', 'INSERT INTO rights.sink SELECT id FROM rights.tx', active => false)$$),
	('function alter_pipeline', $$SELECT streamproc.alter_pipeline('rights_run', checkpoint_interval => '50 ms')$$),
	('function start_pipeline', $$SELECT streamproc.start_pipeline('rights_off')$$),
	('function stop_pipeline', $$SELECT streamproc.stop_pipeline('rights_run')$$),
	('function drop_pipeline', $$SELECT streamproc.drop_pipeline('rights_run')$$),
	('function check_pipeline', $$SELECT statement FROM streamproc.check_pipeline('INSERT INTO rights.sink SELECT id FROM rights.tx')$$),
	('function wait_until_caught_up', $$SELECT streamproc.wait_until_caught_up('rights_run', '20 s')$$),
	('function wait_until_stopped', $$SELECT streamproc.wait_until_stopped('rights_off', '20 s')$$),
	('function require_preload', 'SELECT streamproc.require_preload()'),
	('function streamproc_kafka_handler', 'SELECT streamproc.streamproc_kafka_handler()'),
	('function streamproc_kafka_validator', $$SELECT streamproc.streamproc_kafka_validator('{}', 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass)$$),
	('function on_sql_drop', 'SELECT streamproc.on_sql_drop()'),
	('function on_ddl', 'SELECT streamproc.on_ddl()'),
	('function stat_pipeline_rows', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_pipeline_rows()'),
	('function stat_worker_rows', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_worker_rows()'),
	('function stat_partition_rows', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_partition_rows()'),
	('function stat_checkpoint_rows', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_checkpoint_rows()'),
	('function visible_to_me', $$SELECT streamproc.visible_to_me('rights_run')$$),
	('function my_pipelines', 'SELECT count(*) FROM streamproc.my_pipelines()'),
	('function retry_dead_letters', $$SELECT streamproc.retry_dead_letters('rights_run')$$),
	('function delete_dead_letters', $$SELECT streamproc.delete_dead_letters('rights_run', 'infinity')$$),
	('function reconcile_publisher', $$SELECT streamproc.reconcile_publisher('rights_run', 'resend')$$),
	('function delete_late_rows', $$SELECT streamproc.delete_late_rows('rights_run', 'infinity')$$),
	('function stat_operator_rows', 'SELECT count(*) FROM streamproc.stat_operator_rows()'),
	('function on_restore', 'SELECT streamproc.on_restore()'),
	('function tumble_support', 'SELECT streamproc.tumble_support(NULL)'),
	('function hop_support', 'SELECT streamproc.hop_support(NULL)'),
	('function cumulate_support', 'SELECT streamproc.cumulate_support(NULL)'),
	('function tumble_start', $$SELECT streamproc.tumble_start('epoch', '1 h', 'UTC', NULL) IS NULL$$),
	('function tumble_end', $$SELECT streamproc.tumble_end('epoch', '1 h', 'UTC', NULL) IS NULL$$),
	('function tumble', $$SELECT pg_catalog.count(*) FROM streamproc.tumble('epoch', '1 h')$$),
	('function hop', $$SELECT pg_catalog.count(*) FROM streamproc.hop('epoch', '1 h', '2 h')$$),
	('function cumulate', $$SELECT pg_catalog.count(*) FROM streamproc.cumulate('epoch', '1 h', '2 h')$$),
	('function session', $$SELECT streamproc.session('epoch', '1 h') OVER () IS NULL$$),
	('function session_slice', $$SELECT streamproc.session_slice('epoch', '1 h', NULL) IS NULL$$),
	('function hop_slice_start', $$SELECT streamproc.hop_slice_start('epoch', '1 h', '2 h', 'UTC', NULL) IS NULL$$),
	('function hop_slice_end', $$SELECT streamproc.hop_slice_end('epoch', '1 h', '2 h', 'UTC', NULL) IS NULL$$),
	('function hop_slice', $$SELECT pg_catalog.count(*) FROM streamproc.hop_slice('epoch', '1 h', '2 h', 'UTC', NULL)$$),
	('function cumulate_slice_start', $$SELECT streamproc.cumulate_slice_start('epoch', '1 h', '2 h', 'UTC', NULL) IS NULL$$),
	('function cumulate_slice_end', $$SELECT streamproc.cumulate_slice_end('epoch', '1 h', '2 h', 'UTC', NULL) IS NULL$$),
	('function cumulate_slice', $$SELECT pg_catalog.count(*) FROM streamproc.cumulate_slice('epoch', '1 h', '2 h', 'UTC', NULL)$$),
	('function place_step', $$SELECT streamproc.place_step(NULL, 1, '(0,1)', 'epoch')$$),
	('aggregate place', $$SELECT streamproc.place(1, '(0,1)', 'epoch')$$),
	('view stat_pipeline', 'SELECT count(*) FROM streamproc.stat_pipeline'),
	('view stat_worker', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_worker'),
	('view stat_partition', 'SELECT count(*) FROM streamproc.stat_partition'),
	('view stat_checkpoint', 'SELECT count(DISTINCT pipeline) FROM streamproc.stat_checkpoint'),
	('view position', 'SELECT count(DISTINCT pipeline) FROM streamproc.position'),
	('view dead_letter', 'SELECT count(*) FROM streamproc.dead_letter'),
	('view late_row', 'SELECT count(*) FROM streamproc.late_row'),
	('view stat_operator', 'SELECT count(*) FROM streamproc.stat_operator'),
	('view data_loss', 'SELECT count(*) FROM streamproc.data_loss'),
	('sequence stored_id', $$SELECT pg_catalog.nextval('streamproc.stored_id') IS NULL$$),
	('sequence stored_id', $$SELECT last_value IS NULL FROM streamproc.stored_id$$),
	('table pipeline', 'SELECT count(*) IS NULL FROM streamproc.pipeline'),
	('table pipeline', 'INSERT INTO streamproc.pipeline DEFAULT VALUES'),
	('table pipeline', 'UPDATE streamproc.pipeline SET active = true'),
	('table pipeline', 'DELETE FROM streamproc.pipeline'),
	('table pipeline', 'TRUNCATE streamproc.pipeline'),
	('table task_position', 'SELECT count(*) IS NULL FROM streamproc.task_position'),
	('table task_position', 'INSERT INTO streamproc.task_position DEFAULT VALUES'),
	('table task_position', 'UPDATE streamproc.task_position SET epoch = 0'),
	('table task_position', 'DELETE FROM streamproc.task_position'),
	('table stored_dead_letter', 'SELECT count(*) IS NULL FROM streamproc.stored_dead_letter'),
	('table stored_dead_letter', 'INSERT INTO streamproc.stored_dead_letter DEFAULT VALUES'),
	('table stored_dead_letter', 'UPDATE streamproc.stored_dead_letter SET attempts = 2'),
	('table stored_dead_letter', 'DELETE FROM streamproc.stored_dead_letter'),
	('table stored_data_loss', 'SELECT count(*) IS NULL FROM streamproc.stored_data_loss'),
	('table stored_data_loss', 'INSERT INTO streamproc.stored_data_loss DEFAULT VALUES'),
	('table stored_data_loss', 'DELETE FROM streamproc.stored_data_loss'),
	('table stored_late_row', 'SELECT count(*) IS NULL FROM streamproc.stored_late_row'),
	('table stored_late_row', 'INSERT INTO streamproc.stored_late_row DEFAULT VALUES'),
	('table stored_late_row', 'DELETE FROM streamproc.stored_late_row'),
	('table state_segment', 'SELECT count(*) IS NULL FROM streamproc.state_segment'),
	('table state_segment', 'INSERT INTO streamproc.state_segment DEFAULT VALUES'),
	('table state_segment', 'UPDATE streamproc.state_segment SET epoch = 0'),
	('table state_segment', 'DELETE FROM streamproc.state_segment'),
	('table outbox', 'SELECT count(*) IS NULL FROM streamproc.outbox'),
	('table outbox', 'INSERT INTO streamproc.outbox DEFAULT VALUES'),
	('table outbox', 'UPDATE streamproc.outbox SET messages = 0'),
	('table outbox', 'DELETE FROM streamproc.outbox'),
	('table publisher_position', 'SELECT count(*) IS NULL FROM streamproc.publisher_position'),
	('table publisher_position', 'INSERT INTO streamproc.publisher_position DEFAULT VALUES'),
	('table publisher_position', 'UPDATE streamproc.publisher_position SET published = 0'),
	('table publisher_position', 'DELETE FROM streamproc.publisher_position'),
	('table topic_mark', 'SELECT count(*) IS NULL FROM streamproc.topic_mark'),
	('table topic_mark', 'INSERT INTO streamproc.topic_mark DEFAULT VALUES'),
	('table topic_mark', 'DELETE FROM streamproc.topic_mark'),
	('schema streamproc', 'CREATE FUNCTION streamproc.start_pipeline(pg_catalog.text) RETURNS pg_catalog.int4 LANGUAGE sql RETURN 1'),
	('schema streamproc_pipeline', 'CREATE PROCEDURE streamproc_pipeline.rights_mine() LANGUAGE sql BEGIN ATOMIC SELECT 1; END'),
	('schema streamproc_pipeline', 'CALL streamproc_pipeline.rights_run()'),
	('schema streamproc_pipeline', 'ALTER PROCEDURE streamproc_pipeline.rights_run() RENAME TO rights_other'),
	('foreign-data wrapper streamproc_kafka', 'CREATE SERVER rights_mine FOREIGN DATA WRAPPER streamproc_kafka'),
	('event trigger streamproc_on_sql_drop', 'ALTER EVENT TRIGGER streamproc_on_sql_drop DISABLE'),
	('event trigger streamproc_on_ddl', 'ALTER EVENT TRIGGER streamproc_on_ddl DISABLE');

-- objects of the extension that are not in the matrix: put new ones there (0 rows)
WITH member AS (
	SELECT i.type || ' ' || CASE WHEN i.type IN ('function', 'aggregate') THEN p.proname::text ELSE replace(coalesce(i.name, i.identity), '"', '') END AS object
	FROM pg_depend d
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'streamproc'
	CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) i
	LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	UNION SELECT 'schema streamproc')
SELECT 'not in the matrix' AS problem, object FROM member WHERE object NOT IN (SELECT object FROM rights.object)
UNION ALL
SELECT 'not in the extension', object FROM rights.object WHERE object NOT IN (SELECT object FROM member);

CREATE TABLE rights.outcome (path text, n int, role name, outcome text);
CREATE VIEW rights.role AS SELECT unnest('{owner,other,nobody,monitor,operator,super}'::text[]) AS role;
-- one transaction for each cell
SET client_min_messages = error;
\set ECHO none
SELECT format('INSERT INTO rights.outcome SELECT %L, %s, %L, rights.try(%L, %L, %L)', 'plain', n, role, 'regress_' || role, 'pg_catalog', call)
FROM rights.object, rights.role ORDER BY n, role \gexec
\set ECHO all
SET client_min_messages = warning;
SELECT o.object, substring(o.call FOR 44) AS call, c.*
FROM rights.object o CROSS JOIN LATERAL (
	SELECT max(outcome) FILTER (WHERE role = 'super') AS super, max(outcome) FILTER (WHERE role = 'owner') AS owner,
		max(outcome) FILTER (WHERE role = 'operator') AS operator, max(outcome) FILTER (WHERE role = 'monitor') AS monitor,
		max(outcome) FILTER (WHERE role = 'other') AS other, max(outcome) FILTER (WHERE role = 'nobody') AS nobody
	FROM rights.outcome r WHERE r.n = o.n AND path = 'plain') c
ORDER BY o.n;

----------------------------------------------------------------------------
-- What may quote values of rows
----------------------------------------------------------------------------
\set errors 'SELECT state, reason, detail IS NULL AS no_detail, sqlstate, "offset", last_error, last_error_sqlstate FROM streamproc.stat_pipeline WHERE pipeline = ''rights_bad'''
SET ROLE regress_owner;
:errors;
SET ROLE regress_monitor;
:errors;
RESET ROLE;
-- granted for a moment: neither the view nor the error shows values to an operator
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_bad TO regress_operator;
SET ROLE regress_operator;
:errors;
SELECT streamproc.wait_until_caught_up('rights_bad', '20 s');
RESET ROLE;
REVOKE EXECUTE ON PROCEDURE streamproc_pipeline.rights_bad FROM regress_operator;
-- a NOINHERIT member has to become the role first
CREATE ROLE regress_later LOGIN NOINHERIT IN ROLE streamproc_monitor;
SET ROLE regress_later;
SELECT count(*) FROM streamproc.stat_pipeline;
SET ROLE streamproc_monitor;
SELECT count(*) FROM streamproc.stat_pipeline;
RESET ROLE;
DROP ROLE regress_later;

----------------------------------------------------------------------------
-- An operator of one pipeline
----------------------------------------------------------------------------
SET ROLE regress_operator;
SELECT pipeline FROM streamproc.stat_pipeline ORDER BY 1;
SELECT streamproc.stop_pipeline('rights_run');
SELECT streamproc.wait_until_stopped('rights_run', '120 s');
SELECT streamproc.start_pipeline('rights_run');
SELECT streamproc.wait_until_caught_up('rights_run', '120 s');
-- not what decides about data
SELECT streamproc.start_pipeline('rights_run', adopt => true);
SELECT streamproc.start_pipeline('rights_run', accept_data_loss => true);
SELECT streamproc.start_pipeline('rights_bad');
\echo :SQLSTATE
SELECT streamproc.wait_until_stopped('rights_bad');
SELECT pipeline, owner FROM streamproc.stat_pipeline WHERE pipeline = 'rights_bad';
-- nor hand it on
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_run TO regress_nobody;
SELECT has_function_privilege('regress_nobody', 'streamproc_pipeline.rights_run()', 'execute');
-- another query keeps the grants; a pipeline made anew has none
SET ROLE regress_owner;
SELECT streamproc.alter_pipeline('rights_run', query => 'INSERT INTO rights.sink SELECT id + 100 FROM rights.tx');
SELECT proname, proacl FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace AND proname LIKE 'rights%' ORDER BY 1;
SELECT streamproc.drop_pipeline('rights_off');
SELECT streamproc.create_pipeline('rights_off', 'INSERT INTO rights.sink SELECT id FROM rights.tx', active => false);
SELECT proname, proacl FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace AND proname LIKE 'rights%' ORDER BY 1;
REVOKE EXECUTE ON PROCEDURE streamproc_pipeline.rights_run FROM regress_operator;
SET ROLE regress_operator;
SELECT streamproc.stop_pipeline('rights_run');
SELECT count(*) FROM streamproc.stat_pipeline;
RESET ROLE;
-- default privileges give nothing, and leave nothing that would keep a role
CREATE ROLE regress_later;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_owner GRANT EXECUTE ON ROUTINES TO regress_later;
SET ROLE regress_owner;
SELECT streamproc.create_pipeline('rights_default', 'INSERT INTO rights.sink SELECT id FROM rights.tx', active => false);
SELECT proacl FROM pg_proc WHERE proname = 'rights_default';
RESET ROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE regress_owner REVOKE EXECUTE ON ROUTINES FROM regress_later;
DROP ROLE regress_later;
SELECT streamproc.drop_pipeline('rights_default');

----------------------------------------------------------------------------
-- A superuser changes options of somebody's pipeline: nothing of it runs as him
----------------------------------------------------------------------------
SET ROLE regress_owner;
CREATE FUNCTION rights.whoami() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
		RAISE EXCEPTION 'runs as superuser %', current_user;
	END IF;
	RETURN 1;
END
$$;
SELECT streamproc.create_pipeline('rights_who', 'INSERT INTO rights.sink SELECT id + rights.whoami() FROM rights.tx', active => false);
RESET ROLE;
SELECT streamproc.alter_pipeline('rights_who', parallelism => 2);
SELECT current_user = session_user;
SELECT streamproc.drop_pipeline('rights_who');

----------------------------------------------------------------------------
-- A superuser's pipeline over what belongs to others
----------------------------------------------------------------------------
SET ROLE regress_owner;
CREATE TABLE rights.hers (id int);
CREATE VIEW rights.her_view AS SELECT id FROM rights.tx;
CREATE FUNCTION rights.her_function(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION 'evaluated as %', current_user; END$$;
CREATE OPERATOR rights.@#@ (RIGHTARG = int, FUNCTION = rights.her_function);
CREATE AGGREGATE rights.her_sum(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE DOMAIN rights.her_domain AS int CHECK (rights.her_function(VALUE) > 0);
CREATE FUNCTION rights.her_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
RESET ROLE;
CREATE TABLE rights.lookup (id int, v int);
CREATE OPERATOR rights.#@# (RIGHTARG = int, FUNCTION = int4up);
ALTER OPERATOR rights.#@# (NONE, int) OWNER TO regress_owner;
CREATE FUNCTION rights.try_super(sink text, what text DEFAULT 'id') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
	state text;
BEGIN
	BEGIN
		PERFORM streamproc.create_pipeline('rights_super', format('INSERT INTO rights.%s SELECT %s FROM rights.tx t', sink, what), active => false);
		PERFORM streamproc.drop_pipeline('rights_super');
		RETURN 'created';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, state = RETURNED_SQLSTATE;
	END;
	IF state <> '42501' THEN
		RETURN state || ' ' || said;
	END IF;
	-- and with trust
	PERFORM streamproc.create_pipeline('rights_super', format('INSERT INTO rights.%s SELECT %s FROM rights.tx t', sink, replace(what, 'her_function(5)', 'her_function(id)')),
		active => false, trust_owners => true);
	PERFORM streamproc.drop_pipeline('rights_super');
	RETURN said;
END
$$;
\set VERBOSITY default
SELECT streamproc.create_pipeline('rights_super', 'INSERT INTO rights.hers SELECT id FROM rights.tx', active => false);
\echo :SQLSTATE
-- check_pipeline() answers as create_pipeline() would
SELECT statement FROM streamproc.check_pipeline('INSERT INTO rights.hers SELECT id FROM rights.tx');
SELECT rights.try_super('hers');
-- a function is not evaluated before it is judged
SELECT rights.try_super('sink', 'rights.her_function(5)');
SELECT rights.try_super('sink', 'OPERATOR(rights.@#@) id');
SELECT rights.try_super('sink', 'OPERATOR(rights.#@#) id');
SELECT rights.try_super('sink', '(SELECT rights.her_sum(v) FROM rights.lookup l WHERE l.id = t.id)');
SELECT rights.try_super('sink', 'CASE WHEN id < 0 THEN id::rights.her_domain END');
SELECT rights.try_super('sink', 'v.id FROM rights.her_view v UNION ALL SELECT id');
CREATE TABLE rights.part (id int) PARTITION BY LIST (id);
CREATE TABLE rights.part_1 PARTITION OF rights.part FOR VALUES IN (1);
ALTER TABLE rights.part_1 OWNER TO regress_owner;
SELECT rights.try_super('part');
DROP TABLE rights.part;
CREATE TABLE rights.part (id int) PARTITION BY RANGE (rights.her_function(id));
CREATE TABLE rights.part_1 (id int);
ALTER TABLE rights.part ATTACH PARTITION rights.part_1 FOR VALUES FROM (1) TO (2);
SELECT rights.try_super('part_1');
DROP TABLE rights.part;
CREATE TABLE rights.mine (id int, d rights.her_domain);
SELECT rights.try_super('mine (id)');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int);
CREATE TRIGGER t BEFORE INSERT ON rights.mine FOR EACH ROW EXECUTE FUNCTION rights.her_trigger();
SELECT rights.try_super('mine');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int, v int DEFAULT rights.her_function((random() * 10)::int));
SELECT rights.try_super('mine (id)');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int CHECK (rights.her_function(id) > 0));
SELECT rights.try_super('mine');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int);
CREATE INDEX ON rights.mine (rights.her_function(id));
SELECT rights.try_super('mine');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int);
CREATE INDEX ON rights.mine (id) WHERE rights.her_function(id) > 0;
SELECT rights.try_super('mine');
DROP TABLE rights.mine;
CREATE TABLE rights.mine (id int, g int GENERATED ALWAYS AS (rights.her_function(id)) STORED);
SELECT rights.try_super('mine (id)');
DROP TABLE rights.mine;
ALTER FOREIGN TABLE rights.tx ADD COLUMN d rights.her_domain;
SELECT rights.try_super('sink');
ALTER FOREIGN TABLE rights.tx DROP COLUMN d;
-- a table that is only read runs nothing of its owner; a column's type of a superuser is none of theirs
ALTER TABLE rights.lookup OWNER TO regress_owner;
SELECT rights.try_super('sink', '(SELECT max(v) FROM rights.lookup l WHERE l.id = t.id)');
-- the owner himself uses what he wants, others' things too
SET ROLE regress_owner;
SELECT streamproc.create_pipeline('rights_hers', 'INSERT INTO rights.hers SELECT id FROM rights.tx', active => false);
-- trust is a superuser's to give
SELECT streamproc.create_pipeline('rights_trust', 'INSERT INTO rights.hers SELECT id FROM rights.tx', active => false, trust_owners => true);
\echo :SQLSTATE
SELECT streamproc.alter_pipeline('rights_hers', trust_owners => true);
SELECT streamproc.alter_pipeline('rights_hers', trust_owners => false);
RESET ROLE;
SELECT streamproc.drop_pipeline('rights_hers');

----------------------------------------------------------------------------
-- Hostile search paths: overloads of operators, functions and types before pg_catalog
----------------------------------------------------------------------------
CREATE SCHEMA rights_evil;
CREATE FUNCTION rights_evil.sprung() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION USING ERRCODE = 'EV000', MESSAGE = 'the trap is sprung'; END$$;
\set ECHO none
SELECT format('CREATE FUNCTION rights_evil.op(pg_catalog.%s, pg_catalog.%s) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RETURN rights_evil.sprung(); END$$', a, b),
	format('CREATE OPERATOR rights_evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s, FUNCTION = rights_evil.op)', o, a, b)
FROM unnest('{text,name,oid,int4,int8,bool,timestamptz,regclass,regnamespace}'::text[]) a, unnest('{text,name,oid,int4,int8,bool,timestamptz,regclass,regnamespace}'::text[]) b,
	unnest('{=}'::text[]) o \gexec
SELECT format('CREATE OPERATOR rights_evil.%s (LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s, FUNCTION = rights_evil.op)', o, a, b)
FROM unnest('{text,name,oid,int4,int8,bool,timestamptz,regclass,regnamespace}'::text[]) a, unnest('{text,name,oid,int4,int8,bool,timestamptz,regclass,regnamespace}'::text[]) b,
	unnest('{<>,<,>,<=,>=,||}'::text[]) o \gexec
SELECT format('CREATE FUNCTION rights_evil.%s RETURNS %s LANGUAGE plpgsql AS $$BEGIN PERFORM rights_evil.sprung(); END$$', f, r)
FROM (VALUES ('format(pg_catalog.text)', 'text'), ('format(pg_catalog.text, VARIADIC pg_catalog.text[])', 'text'), ('format(pg_catalog.text, pg_catalog.name, pg_catalog.text, pg_catalog.text)', 'text'),
	('unnest(pg_catalog.text[])', 'SETOF text'), ('unnest(pg_catalog.int4[])', 'SETOF int4'), ('unnest(pg_catalog.int8[])', 'SETOF int8'), ('unnest(pg_catalog.timestamptz[])', 'SETOF timestamptz'),
	('isfinite(pg_catalog.timestamptz)', 'boolean'), ('quote_ident(pg_catalog.text)', 'text'), ('quote_ident(pg_catalog.name)', 'text'), ('oidvectortypes(pg_catalog.oidvector)', 'text'),
	('aclexplode(pg_catalog.aclitem[])', 'SETOF record'), ('pg_get_userbyid(pg_catalog.oid)', 'name'), ('pg_describe_object(pg_catalog.oid, pg_catalog.oid, pg_catalog.int4)', 'text'),
	('pg_extension_config_dump(pg_catalog.regclass, pg_catalog.text)', 'void'), ('pg_event_trigger_dropped_objects()', 'SETOF record'), ('array_agg(pg_catalog.text)', 'text[]'),
	('stat_pipeline_rows()', 'SETOF record'), ('visible_to_me(pg_catalog.name)', 'boolean'), ('my_pipelines()', 'SETOF name'), ('require_preload()', 'void')) f(f, r) \gexec
SELECT format('CREATE DOMAIN rights_evil.%s AS pg_catalog.%s CHECK (rights_evil.sprung())', t, t)
FROM unnest('{text,name,oid,uuid,bytea,jsonb,timestamptz,regclass,regnamespace}'::text[]) t \gexec
CREATE TABLE rights_evil.pipeline (LIKE streamproc.pipeline);
CREATE TABLE rights_evil.task_position (LIKE streamproc.task_position);
\set ECHO all
GRANT USAGE ON SCHEMA rights_evil TO PUBLIC;
-- as the matrix above found things
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_run TO regress_operator;
GRANT EXECUTE ON PROCEDURE streamproc_pipeline.rights_off TO regress_operator;
SELECT streamproc.wait_until_caught_up('rights_run', '120 s');
-- they are traps indeed
SELECT rights.try('regress_super', 'rights_evil, pg_catalog', call) AS trap FROM (VALUES ($$SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text$$), ($$SELECT isfinite('now'::pg_catalog.timestamptz)$$),
	($$SELECT 'a'::text$$), ($$SELECT 1::pg_catalog.oid = 1$$)) c(call);
SET client_min_messages = error;
\set ECHO none
SELECT format('INSERT INTO rights.outcome SELECT %L, %s, %L, rights.try(%L, %L, %L)', 'evil', n, role, 'regress_' || role, 'rights_evil, pg_catalog', call)
FROM rights.object, rights.role ORDER BY n, role \gexec
\set ECHO all
SET client_min_messages = warning;
-- the same outcomes, whatever stands first (0 rows)
SELECT o.object, o.call, e.role, p.outcome AS plain, e.outcome AS evil
FROM rights.object o JOIN rights.outcome p USING (n) JOIN rights.outcome e USING (n)
WHERE p.path = 'plain' AND e.path = 'evil' AND p.role = e.role AND p.outcome <> e.outcome
ORDER BY 1, 2, 3;
-- DROP ... CASCADE with the event trigger, and a new pipeline, under that path
SET search_path = rights_evil, pg_catalog;
CREATE TABLE rights.gone (id int);
SELECT streamproc.create_pipeline('rights_gone', 'INSERT INTO rights.gone SELECT id FROM rights.tx', active => false);
DROP TABLE rights.gone CASCADE;
RESET search_path;
SELECT count(*) FROM streamproc.stat_pipeline WHERE pipeline = 'rights_gone';

----------------------------------------------------------------------------
-- CREATE EXTENSION and ALTER EXTENSION UPDATE among traps
----------------------------------------------------------------------------
SELECT current_database() AS db \gset
CREATE DATABASE regress_rights;
\c regress_rights
\set SHOW_CONTEXT never
SET client_min_messages = warning;
-- a schema of somebody else
CREATE SCHEMA streamproc AUTHORIZATION regress_other;
CREATE EXTENSION streamproc;
\echo :SQLSTATE
ALTER SCHEMA streamproc OWNER TO regress_super;
-- a schema where others may create
GRANT CREATE ON SCHEMA streamproc TO regress_other;
CREATE EXTENSION streamproc;
-- what they made there
SET ROLE regress_other;
CREATE FUNCTION streamproc.start_pipeline(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
REVOKE CREATE ON SCHEMA streamproc FROM regress_other;
CREATE EXTENSION streamproc;
DROP FUNCTION streamproc.start_pipeline(text);
SET ROLE regress_super;
CREATE FUNCTION streamproc.start_pipeline(name text, adopt boolean DEFAULT false) RETURNS int LANGUAGE sql AS 'SELECT 1';
RESET ROLE;
CREATE EXTENSION streamproc;
\echo :SQLSTATE
DROP SCHEMA streamproc CASCADE;
CREATE SCHEMA streamproc_pipeline AUTHORIZATION regress_other;
CREATE EXTENSION streamproc;
\echo :SQLSTATE
DROP SCHEMA streamproc_pipeline;
-- somebody else's role of the name
ALTER ROLE streamproc_monitor LOGIN;
CREATE EXTENSION streamproc;
\echo :SQLSTATE
ALTER ROLE streamproc_monitor NOLOGIN SUPERUSER;
CREATE EXTENSION streamproc;
ALTER ROLE streamproc_monitor NOSUPERUSER;
-- traps in the path, and operators in the very schema: a better match than pg_catalog has
CREATE SCHEMA rights_evil;
CREATE FUNCTION rights_evil.sprung(oid, int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'the trap is sprung'; END$$;
CREATE FUNCTION rights_evil.sprung(name, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'the trap is sprung'; END$$;
CREATE FUNCTION rights_evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'the trap is sprung'; END$$;
CREATE OPERATOR rights_evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = rights_evil.sprung);
CREATE SCHEMA streamproc;
CREATE OPERATOR streamproc.= (LEFTARG = oid, RIGHTARG = int, FUNCTION = rights_evil.sprung);
SET search_path = rights_evil, pg_catalog;
CREATE EXTENSION streamproc VERSION '1.0';
GRANT EXECUTE ON FUNCTION streamproc.start_pipeline(text, boolean) TO regress_other;
ALTER EXTENSION streamproc UPDATE TO '1.1';
GRANT EXECUTE ON FUNCTION streamproc.alter_pipeline TO regress_other;
ALTER EXTENSION streamproc UPDATE TO '1.2';
RESET search_path;
SELECT proname, has_function_privilege('regress_other', oid, 'execute') AS kept FROM pg_proc
WHERE pronamespace = 'streamproc'::regnamespace AND proname IN ('create_pipeline', 'alter_pipeline', 'start_pipeline') ORDER BY 1;
-- views and functions depend on nothing but the server and the extension (0 rows)
SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM pg_depend d JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
JOIN pg_depend m ON m.classid = 'pg_class'::regclass AND m.objid = w.ev_class AND m.deptype = 'e'
WHERE d.refobjid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = d.refclassid AND x.objid = d.refobjid AND x.deptype = 'e');
-- who may execute what: of others' functions nothing that starts, stops or reaches the network
SELECT p.proname FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'streamproc'
WHERE d.deptype = 'e' AND has_function_privilege('regress_nobody', p.oid, 'execute') ORDER BY 1;
-- and the monitors no more than that (0 rows)
SELECT p.proname FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'streamproc'
WHERE d.deptype = 'e' AND has_function_privilege('streamproc_monitor', p.oid, 'execute') AND NOT has_function_privilege('regress_nobody', p.oid, 'execute');
SELECT rolsuper, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'streamproc_monitor';
-- it stays
DROP EXTENSION streamproc;
SELECT count(*) FROM pg_roles WHERE rolname = 'streamproc_monitor';
\c :db
SET client_min_messages = warning;
DROP DATABASE regress_rights;

----------------------------------------------------------------------------
DROP SCHEMA rights_evil CASCADE;
SELECT streamproc.drop_pipeline(pipeline::text) FROM streamproc.stat_pipeline WHERE pipeline LIKE 'rights%';
DELETE FROM streamproc.stored_dead_letter WHERE pipeline LIKE 'rights%';
DELETE FROM streamproc.stored_data_loss WHERE pipeline LIKE 'rights%';
SELECT count(*) FROM streamproc.stored_late_row WHERE pipeline LIKE 'rights%';
SELECT count(*) FROM streamproc.state_segment WHERE pipeline LIKE 'rights%';
DROP SERVER rights_kafka CASCADE;
DROP SCHEMA rights CASCADE;
DROP OWNED BY regress_owner, regress_other, regress_nobody, regress_monitor, regress_operator, regress_super;
DROP ROLE regress_owner, regress_other, regress_nobody, regress_monitor, regress_operator, regress_super;

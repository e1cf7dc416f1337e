/* streamproc 1.0 to 1.1: bad rows are kept, losses of data are written down, rights */

-- complain if script is sourced in psql, rather than via CREATE or ALTER EXTENSION
\echo Use "CREATE EXTENSION streamproc" or "ALTER EXTENSION streamproc UPDATE" to load this file. \quit

SELECT streamproc.require_preload();

-- The schema may have been there before us.  Whoever owns it, or something in
-- it, or may create there, could put functions before ours.  CREATE EXTENSION
-- keeps pg_catalog before it, but for operators and overloads: all names here
-- are qualified.
DO $$
DECLARE
	found pg_catalog.text;
BEGIN
	SELECT pg_catalog.format('%s belongs to role "%s"', pg_catalog.pg_describe_object(o.class, o.object, 0), r.rolname)
	INTO found
	FROM (
		SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, n.nspowner FROM pg_catalog.pg_namespace n
		WHERE n.oid OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
		UNION ALL
		SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, p.proowner FROM pg_catalog.pg_proc p
		WHERE p.pronamespace OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
		UNION ALL
		SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, p.oid, p.oprowner FROM pg_catalog.pg_operator p
		WHERE p.oprnamespace OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
		UNION ALL
		SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid, c.relowner FROM pg_catalog.pg_class c
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
		UNION ALL
		SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.oid, t.typowner FROM pg_catalog.pg_type t
		WHERE t.typnamespace OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
	) AS o(class, object, owner)
	JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) o.owner
	WHERE NOT r.rolsuper
	LIMIT 1;
	IF found IS NULL THEN
		SELECT pg_catalog.format('%s may create objects there', coalesce(r.rolname, 'everybody'))
		INTO found
		FROM pg_catalog.pg_namespace n
		CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
		LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE n.oid OPERATOR(pg_catalog.=) 'streamproc'::pg_catalog.regnamespace
			AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND r.rolsuper IS NOT TRUE
		LIMIT 1;
	END IF;
	IF found IS NOT NULL THEN
		RAISE EXCEPTION 'schema "streamproc" is not in the hands of superusers only'
			USING ERRCODE = '42501', DETAIL = found,
				HINT = 'Drop or rename what is there: CREATE EXTENSION makes the schema.';
	END IF;
END
$$;

----------------------------------------------------------------------------
-- A role that sees the state of all pipelines.  Roles are cluster wide: it may
-- be there already, and it stays at DROP EXTENSION.
----------------------------------------------------------------------------

DO $$
BEGIN
	BEGIN
		CREATE ROLE streamproc_monitor NOLOGIN;
		COMMENT ON ROLE streamproc_monitor IS
			'its members see the state of all pipelines of streamproc, no data; made by CREATE EXTENSION streamproc, stays at DROP EXTENSION';
	EXCEPTION WHEN duplicate_object OR unique_violation THEN
		NULL;					-- of another database, or of another session just now
	END;
	-- somebody else's role of this name must not become more than it was, nor lend what it has
	IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) 'streamproc_monitor'
			AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls)) THEN
		RAISE EXCEPTION 'role "streamproc_monitor" exists and is more than a role for monitoring'
			USING ERRCODE = '42710', DETAIL = 'Its members would see the state of all pipelines, and whoever is made a member gets its attributes by SET ROLE.',
				HINT = 'Rename it, or: ALTER ROLE streamproc_monitor NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.';
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) m.member
			WHERE r.rolname OPERATOR(pg_catalog.=) 'streamproc_monitor') THEN
		RAISE WARNING 'role "streamproc_monitor" is a member of other roles'
			USING DETAIL = 'Whoever is made a member of streamproc_monitor gets their rights, too.';
	END IF;
END
$$;

COMMENT ON FUNCTION streamproc.visible_to_me(name) IS
	'may the caller see the state of the pipeline: its owner, members of the owner, who was granted EXECUTE on its procedure, members of pg_read_all_stats and streamproc_monitor';
COMMENT ON SCHEMA streamproc_pipeline IS
	'one procedure per pipeline, owned by the pipeline''s owner; made by streamproc.create_pipeline(). GRANT EXECUTE ON PROCEDURE: may start and stop it';

----------------------------------------------------------------------------
-- New options of a pipeline
----------------------------------------------------------------------------

ALTER TABLE streamproc.pipeline
	ADD COLUMN on_error text,
	ADD COLUMN max_consecutive_errors integer,
	ADD COLUMN on_data_loss text,
	ADD COLUMN accept_data_loss boolean,
	ADD COLUMN trust_owners boolean,
	ADD COLUMN retry_until bigint;
-- as they behaved until now
UPDATE streamproc.pipeline SET on_error = 'fail', max_consecutive_errors = 1000, on_data_loss = 'fail',
	accept_data_loss = false, trust_owners = false, retry_until = 0;
ALTER TABLE streamproc.pipeline
	ALTER COLUMN on_error SET NOT NULL,
	ALTER COLUMN max_consecutive_errors SET NOT NULL,
	ALTER COLUMN on_data_loss SET NOT NULL,
	ALTER COLUMN accept_data_loss SET NOT NULL,
	ALTER COLUMN trust_owners SET NOT NULL,
	ALTER COLUMN retry_until SET NOT NULL;
COMMENT ON COLUMN streamproc.pipeline.accept_data_loss IS
	'start_pipeline(name, accept_data_loss => true) was called: the next start goes on where data is left, once';
COMMENT ON COLUMN streamproc.pipeline.trust_owners IS
	'a superuser''s pipeline may use tables, views and functions of other roles';
COMMENT ON COLUMN streamproc.pipeline.retry_until IS
	'dead letters with ids up to this one are to run again: retry_dead_letters()';

-- Rows of the functions below never come by INSERT or COPY: those are of a dump.
CREATE FUNCTION streamproc.on_restore() RETURNS trigger
	AS 'MODULE_PATHNAME', 'streamproc_on_restore' LANGUAGE C;
REVOKE ALL ON FUNCTION streamproc.on_restore() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.on_restore() IS 'a pipeline that comes by restore is in state restored, also in the database that it came from';
CREATE TRIGGER restored BEFORE INSERT ON streamproc.pipeline FOR EACH ROW EXECUTE FUNCTION streamproc.on_restore();
COMMENT ON TRIGGER restored ON streamproc.pipeline IS 'a pipeline that comes by restore is in state restored, also in the database that it came from';

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
	active boolean DEFAULT true)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_create_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, text, integer, text, boolean, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, text, integer, text, boolean, boolean, boolean) IS
	'makes a pipeline of one or more INSERT ... SELECT over a topic, running from COMMIT on. start: earliest, latest, a timestamp, or {"partition": next offset}; stop: never or latest; parallelism: tasks, NULL: streamproc.default_parallelism; checkpoint_interval: longest time between commits under load; on_error: dead_letter or fail; max_consecutive_errors: it fails when so many rows of a partition in a row are bad; on_data_loss: fail or earliest, when the topic has not what was to be read; trust_owners: a superuser''s pipeline may use objects of other roles';

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
	trust_owners boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_alter_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, text, integer, text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, text, integer, text, boolean, boolean) IS
	'replaces the query or options of a pipeline at COMMIT and keeps its positions; NULL leaves as it is';

CREATE FUNCTION streamproc.start_pipeline(name text, adopt boolean DEFAULT false, accept_data_loss boolean DEFAULT false)
RETURNS void
AS 'MODULE_PATHNAME', 'streamproc_start_pipeline' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.start_pipeline(text, boolean, boolean) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.start_pipeline(text, boolean, boolean) IS
	'starts a stopped or failed pipeline at COMMIT, where it stood; adopt => true takes over a pipeline of a restored or cloned database; accept_data_loss => true goes on at what is left where its topic has not what was to be read, and writes that into data_loss';

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
			AND old.proname OPERATOR(pg_catalog.=) ANY (ARRAY['create_pipeline', 'alter_pipeline', 'start_pipeline'])
			AND a.grantee OPERATOR(pg_catalog.<>) old.proowner
	LOOP
		EXECUTE grant_command;
	END LOOP;
END
$$;
DROP FUNCTION streamproc.create_pipeline(text, text, text, text, integer, interval, boolean, boolean);
DROP FUNCTION streamproc.alter_pipeline(text, text, text, integer, interval, boolean);
DROP FUNCTION streamproc.start_pipeline(text, boolean);

----------------------------------------------------------------------------
-- Bad rows
----------------------------------------------------------------------------

CREATE SEQUENCE streamproc.stored_id;
COMMENT ON SEQUENCE streamproc.stored_id IS 'ids of dead letters and of losses of data';
REVOKE ALL ON SEQUENCE streamproc.stored_id FROM PUBLIC;

CREATE TABLE streamproc.stored_dead_letter (
	pipeline			name,
	id					bigint,
	statement			integer,
	kind				text NOT NULL,
	topic				text NOT NULL,
	partition			integer NOT NULL,
	"offset"			bigint NOT NULL,
	"timestamp"			timestamptz,
	key					bytea,
	value				bytea,
	headers				text,
	"row"				jsonb,
	sqlstate			text NOT NULL,
	message				text NOT NULL,
	detail				text,
	attempts			integer NOT NULL,
	at					timestamptz NOT NULL,
	PRIMARY KEY (pipeline, id)
);
COMMENT ON TABLE streamproc.stored_dead_letter IS
	'messages that pipelines could not process, as they came; read streamproc.dead_letter';
COMMENT ON COLUMN streamproc.stored_dead_letter.id IS 'in the order in which they were stored; a message that fails again gets a new one';
COMMENT ON COLUMN streamproc.stored_dead_letter.headers IS 'of the message, as a column with option kafka ''headers'' shows them';
REVOKE ALL ON streamproc.stored_dead_letter FROM PUBLIC;

CREATE FUNCTION streamproc.my_pipelines() RETURNS SETOF name
AS 'MODULE_PATHNAME', 'streamproc_my_pipelines' LANGUAGE C STABLE;
GRANT EXECUTE ON FUNCTION streamproc.my_pipelines() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.my_pipelines() IS 'pipelines that the caller owns, or whose owner he is a member of';

CREATE VIEW streamproc.dead_letter WITH (security_barrier) AS
SELECT d.pipeline, d.id, d.statement, d.kind, d.topic, d.partition, d."offset", d."timestamp", d.key, d.value, d.headers, d."row",
	d.sqlstate, d.message, d.detail, d.attempts, d.id OPERATOR(pg_catalog.<=) p.retry_until AS retry, d.at
FROM streamproc.stored_dead_letter d JOIN streamproc.pipeline p ON p.name OPERATOR(pg_catalog.=) d.pipeline
WHERE d.pipeline OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT streamproc.my_pipelines()));
GRANT SELECT ON streamproc.dead_letter TO PUBLIC;
COMMENT ON VIEW streamproc.dead_letter IS
	'messages that could not be processed, as they came, with position and reason; retry: one of them will run again; retry_dead_letters() asks for that, delete_dead_letters() ends their keeping';

CREATE FUNCTION streamproc.retry_dead_letters(pipeline text) RETURNS bigint
AS 'MODULE_PATHNAME', 'streamproc_retry_dead_letters' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.retry_dead_letters(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.retry_dead_letters(text) IS
	'lets the pipeline run its dead letters through its present query, from COMMIT on or when it is started; those that fail again stay, with the new reason; returns their number';

CREATE FUNCTION streamproc.delete_dead_letters(pipeline text, before timestamptz) RETURNS bigint
AS 'MODULE_PATHNAME', 'streamproc_delete_dead_letters' LANGUAGE C VOLATILE;
REVOKE ALL ON FUNCTION streamproc.delete_dead_letters(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.delete_dead_letters(text, timestamptz) IS
	'deletes the dead letters of a pipeline that were stored before this time; returns their number';

----------------------------------------------------------------------------
-- Losses of data
----------------------------------------------------------------------------

CREATE TABLE streamproc.stored_data_loss (
	pipeline			name,
	id					bigint,
	topic				text NOT NULL,
	partition			integer NOT NULL,
	from_offset			bigint NOT NULL,
	to_offset			bigint,
	reason				text NOT NULL,
	cluster_id			text NOT NULL,
	at					timestamptz NOT NULL,
	PRIMARY KEY (pipeline, id)
);
COMMENT ON TABLE streamproc.stored_data_loss IS
	'what pipelines could not read any more and went on without; read streamproc.data_loss';
COMMENT ON COLUMN streamproc.stored_data_loss.from_offset IS 'the record that was to be read next';
COMMENT ON COLUMN streamproc.stored_data_loss.to_offset IS 'where it went on, before from_offset where the topic was made anew; NULL: the partition is not read any more';
REVOKE ALL ON streamproc.stored_data_loss FROM PUBLIC;

CREATE VIEW streamproc.data_loss WITH (security_barrier) AS
SELECT l.pipeline, l.id, l.topic, l.partition, l.from_offset, l.to_offset, l.reason, l.cluster_id, l.at
FROM streamproc.stored_data_loss l
WHERE streamproc.visible_to_me(l.pipeline);
GRANT SELECT ON streamproc.data_loss TO PUBLIC;
COMMENT ON VIEW streamproc.data_loss IS
	'one row for each gap that a pipeline went on over, by start_pipeline(accept_data_loss => true) or on_data_loss => ''earliest'', and for each position that a new query left behind';

-- By what a topic is known again: the last record before each position.
ALTER TABLE streamproc.task_position
	ADD COLUMN record_offsets bigint[],
	ADD COLUMN record_sums bigint[];
UPDATE streamproc.task_position SET
	record_sums = pg_catalog.array_fill(0::bigint, ARRAY[pg_catalog.cardinality(next_offsets)]),
	record_offsets = ARRAY(SELECT CASE WHEN pg_catalog.isfinite(u.t) THEN u.o OPERATOR(pg_catalog.-) 1 ELSE (-1) END
		FROM ROWS FROM (pg_catalog.unnest(next_offsets), pg_catalog.unnest(record_times)) WITH ORDINALITY AS u(o, t, n) ORDER BY u.n);
ALTER TABLE streamproc.task_position
	ALTER COLUMN record_offsets SET NOT NULL,
	ALTER COLUMN record_sums SET NOT NULL;
COMMENT ON COLUMN streamproc.task_position.record_offsets IS 'per partition the last record that was read, -1: none; record_times and record_sums are of the same record';
COMMENT ON COLUMN streamproc.task_position.record_sums IS 'per partition a checksum of key and value of the last record that was read, 0: not known';

-- Written by the launcher at each look at the topics, as the positions of a
-- running pipeline move on in whatever topic there is.
CREATE TABLE streamproc.topic_mark (
	pipeline			name NOT NULL,
	topics				text[] NOT NULL,
	partitions			integer[] NOT NULL,
	record_offsets		bigint[] NOT NULL,
	record_times		timestamptz[] NOT NULL,
	record_sums			bigint[] NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE streamproc.topic_mark IS
	'one row per pipeline: records that its topics held at the last look, by which topics that were made anew are found';
REVOKE ALL ON streamproc.topic_mark FROM PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('streamproc.topic_mark', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_id', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_data_loss', '');

----------------------------------------------------------------------------
-- Windows of event time.  Pure functions: everybody may call them.
----------------------------------------------------------------------------

CREATE FUNCTION streamproc.tumble_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'streamproc_tumble_support' LANGUAGE C STRICT;
CREATE FUNCTION streamproc.hop_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'streamproc_hop_support' LANGUAGE C STRICT;
CREATE FUNCTION streamproc.cumulate_support(internal) RETURNS internal
	AS 'MODULE_PATHNAME', 'streamproc_cumulate_support' LANGUAGE C STRICT;
REVOKE ALL ON FUNCTION streamproc.tumble_support(internal) FROM PUBLIC;
REVOKE ALL ON FUNCTION streamproc.hop_support(internal) FROM PUBLIC;
REVOKE ALL ON FUNCTION streamproc.cumulate_support(internal) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.tumble_support(internal) IS 'for the planner: refuses impossible windows';
COMMENT ON FUNCTION streamproc.hop_support(internal) IS 'for the planner: refuses impossible windows, estimates rows';
COMMENT ON FUNCTION streamproc.cumulate_support(internal) IS 'for the planner: refuses impossible windows, estimates rows';

CREATE FUNCTION streamproc.tumble_start(at timestamptz, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_tumble_start' LANGUAGE C IMMUTABLE PARALLEL SAFE SUPPORT streamproc.tumble_support;
CREATE FUNCTION streamproc.tumble_end(at timestamptz, size interval, zone text, origin timestamptz) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'streamproc_tumble_end' LANGUAGE C IMMUTABLE PARALLEL SAFE SUPPORT streamproc.tumble_support;
GRANT EXECUTE ON FUNCTION streamproc.tumble_start(timestamptz, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.tumble_end(timestamptz, interval, text, timestamptz) TO PUBLIC;
COMMENT ON FUNCTION streamproc.tumble_start(timestamptz, interval, text, timestamptz) IS 'where the window of streamproc.tumble() begins';
COMMENT ON FUNCTION streamproc.tumble_end(timestamptz, interval, text, timestamptz) IS 'before which instant the window of streamproc.tumble() ends';

-- An SQL function that returns a set: the planner puts the two expressions in its place.
CREATE FUNCTION streamproc.tumble(at timestamptz, size interval, zone text DEFAULT 'UTC', origin timestamptz DEFAULT NULL)
	RETURNS TABLE (window_start timestamptz, window_end timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT streamproc.tumble_start(at, size, zone, origin), streamproc.tumble_end(at, size, zone, origin);
END;
CREATE FUNCTION streamproc.hop(at timestamptz, slide interval, size interval, zone text DEFAULT 'UTC', origin timestamptz DEFAULT NULL,
	OUT window_start timestamptz, OUT window_end timestamptz) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'streamproc_hop' LANGUAGE C IMMUTABLE PARALLEL SAFE SUPPORT streamproc.hop_support;
CREATE FUNCTION streamproc.cumulate(at timestamptz, step interval, size interval, zone text DEFAULT 'UTC', origin timestamptz DEFAULT NULL,
	OUT window_start timestamptz, OUT window_end timestamptz) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'streamproc_cumulate' LANGUAGE C IMMUTABLE PARALLEL SAFE SUPPORT streamproc.cumulate_support;
GRANT EXECUTE ON FUNCTION streamproc.tumble(timestamptz, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.hop(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
GRANT EXECUTE ON FUNCTION streamproc.cumulate(timestamptz, interval, interval, text, timestamptz) TO PUBLIC;
COMMENT ON FUNCTION streamproc.tumble(timestamptz, interval, text, timestamptz) IS
	'the window [window_start, window_end) of the size that the time lies in; size in months or days follows the calendar of the zone, in hours and less it is fixed; aligned to origin, by default midnight in the zone: of 1970-01-01, days of Monday 1970-01-05';
COMMENT ON FUNCTION streamproc.hop(timestamptz, interval, interval, text, timestamptz) IS
	'the windows of the size that the time lies in, one begins with every slide; size is a multiple of slide; units, zone and origin as in streamproc.tumble()';
COMMENT ON FUNCTION streamproc.cumulate(timestamptz, interval, interval, text, timestamptz) IS
	'the windows that the time lies in, which begin where those of streamproc.tumble(at, size) do and end with every step; size is a multiple of step';

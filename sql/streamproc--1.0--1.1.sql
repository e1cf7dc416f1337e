/* streamproc 1.0 to 1.1: bad rows are kept, losses of data are written down, rights */

-- complain if script is sourced in psql, rather than via CREATE or ALTER EXTENSION
\echo Use "CREATE EXTENSION streamproc" or "ALTER EXTENSION streamproc UPDATE" to load this file. \quit

SELECT streamproc.require_preload();

----------------------------------------------------------------------------
-- New options of a pipeline
----------------------------------------------------------------------------

ALTER TABLE streamproc.pipeline
	ADD COLUMN on_error text,
	ADD COLUMN max_consecutive_errors integer,
	ADD COLUMN on_data_loss text,
	ADD COLUMN accept_data_loss boolean,
	ADD COLUMN trust_owners boolean;
-- as they behaved until now
UPDATE streamproc.pipeline SET on_error = 'fail', max_consecutive_errors = 1000, on_data_loss = 'fail',
	accept_data_loss = false, trust_owners = false;
ALTER TABLE streamproc.pipeline
	ALTER COLUMN on_error SET NOT NULL,
	ALTER COLUMN max_consecutive_errors SET NOT NULL,
	ALTER COLUMN on_data_loss SET NOT NULL,
	ALTER COLUMN accept_data_loss SET NOT NULL,
	ALTER COLUMN trust_owners SET NOT NULL;
COMMENT ON COLUMN streamproc.pipeline.accept_data_loss IS
	'start_pipeline(name, accept_data_loss => true) was called: the next start goes on where data is left, once';
COMMENT ON COLUMN streamproc.pipeline.trust_owners IS
	'a superuser''s pipeline may use tables, views and functions of other roles';

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
	grant_command text;
BEGIN
	FOR grant_command IN
		SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION streamproc.%I(%s) TO %s', new.proname,
			pg_catalog.oidvectortypes(new.proargtypes),
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) OPERATOR(pg_catalog.||)
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
	retry				boolean NOT NULL,
	at					timestamptz NOT NULL,
	PRIMARY KEY (pipeline, id)
);
COMMENT ON TABLE streamproc.stored_dead_letter IS
	'messages that pipelines could not process, as they came; read streamproc.dead_letter';
COMMENT ON COLUMN streamproc.stored_dead_letter.retry IS 'retry_dead_letters() was called and the message has not run again yet';
REVOKE ALL ON streamproc.stored_dead_letter FROM PUBLIC;

CREATE FUNCTION streamproc.my_pipelines() RETURNS SETOF name
AS 'MODULE_PATHNAME', 'streamproc_my_pipelines' LANGUAGE C STABLE;
GRANT EXECUTE ON FUNCTION streamproc.my_pipelines() TO PUBLIC;	-- filters by owner
COMMENT ON FUNCTION streamproc.my_pipelines() IS 'pipelines that the caller owns, or whose owner he is a member of';

CREATE VIEW streamproc.dead_letter WITH (security_barrier) AS
SELECT d.pipeline, d.id, d.statement, d.kind, d.topic, d.partition, d."offset", d."timestamp", d.key, d.value, d.headers, d."row",
	d.sqlstate, d.message, d.detail, d.attempts, d.retry, d.at
FROM streamproc.stored_dead_letter d
WHERE d.pipeline OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT streamproc.my_pipelines()));
GRANT SELECT ON streamproc.dead_letter TO PUBLIC;
COMMENT ON VIEW streamproc.dead_letter IS
	'messages that could not be processed, as they came, with position and reason; retry_dead_letters() runs them again, delete_dead_letters() ends their keeping';

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
COMMENT ON COLUMN streamproc.stored_data_loss.to_offset IS 'where it went on; NULL: the partition is not read any more';
REVOKE ALL ON streamproc.stored_data_loss FROM PUBLIC;

CREATE VIEW streamproc.data_loss WITH (security_barrier) AS
SELECT l.pipeline, l.id, l.topic, l.partition, l.from_offset, l.to_offset, l.reason, l.cluster_id, l.at
FROM streamproc.stored_data_loss l
WHERE streamproc.visible_to_me(l.pipeline);
GRANT SELECT ON streamproc.data_loss TO PUBLIC;
COMMENT ON VIEW streamproc.data_loss IS
	'one row for each gap that a pipeline went on over, by start_pipeline(accept_data_loss => true) or on_data_loss => ''earliest''';

SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_id', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('streamproc.stored_data_loss', '');

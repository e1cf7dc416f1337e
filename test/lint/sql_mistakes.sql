-- What test/lint/sql.pl must see: each line with "want" is a mistake, the others are none.  Nobody runs this.
CREATE FUNCTION streamproc.good(name text, at timestamptz DEFAULT '-infinity') RETURNS void AS 'MODULE_PATHNAME' LANGUAGE C;
REVOKE ALL ON FUNCTION streamproc.good(text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.good(text, timestamptz) IS 'select a = b from c; GRANT';
CREATE FUNCTION streamproc.no_comment() RETURNS void AS 'MODULE_PATHNAME' LANGUAGE C; -- want: no COMMENT ON FUNCTION no_comment | neither REVOKE nor GRANT
CREATE OR REPLACE FUNCTION streamproc.mine() RETURNS void AS 'MODULE_PATHNAME' LANGUAGE C; -- want: OR REPLACE
REVOKE ALL ON FUNCTION streamproc.mine() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.mine() IS '';
CREATE TABLE IF NOT EXISTS streamproc.kept (a integer, b text); -- want: IF NOT EXISTS
COMMENT ON TABLE streamproc.kept IS '';

CREATE AGGREGATE streamproc.counted(integer) (sfunc = streamproc.good, stype = integer); -- want: aggregate counted: neither REVOKE nor GRANT
COMMENT ON AGGREGATE streamproc.counted(integer) IS '';

-- search_path, SECURITY DEFINER
CREATE FUNCTION streamproc.loose(a text) RETURNS boolean LANGUAGE sql AS $$ -- want: pins no search_path
	SELECT a = 'x'; -- want: operator =
$$;
REVOKE ALL ON FUNCTION streamproc.loose(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.loose(text) IS '';
CREATE FUNCTION streamproc.half(a text) RETURNS boolean LANGUAGE sql SET search_path = public AS $$SELECT true$$; -- want: pins no search_path
REVOKE ALL ON FUNCTION streamproc.half(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.half(text) IS '';
CREATE FUNCTION streamproc.pinned(a text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b text;
BEGIN
	RETURN a = 'x' OR lower(a) IN ('y', 'z');
END
$$;
REVOKE ALL ON FUNCTION streamproc.pinned(text) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.pinned(text) IS '';
CREATE FUNCTION streamproc.lent() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1'; -- want: SECURITY DEFINER
REVOKE ALL ON FUNCTION streamproc.lent() FROM PUBLIC;
COMMENT ON FUNCTION streamproc.lent() IS '';
CREATE FUNCTION streamproc.atomic(a integer) RETURNS integer LANGUAGE sql
BEGIN ATOMIC
	SELECT a OPERATOR(pg_catalog.+) 1;
	SELECT a + 1; -- want: operator +
	SELECT CASE WHEN a OPERATOR(pg_catalog.>) 1 THEN 1 END;
END;
REVOKE ALL ON FUNCTION streamproc.atomic(integer) FROM PUBLIC;
COMMENT ON FUNCTION streamproc.atomic(integer) IS '';

-- views
CREATE VIEW streamproc.shown AS
SELECT k.*, k.a OPERATOR(pg_catalog.=) -1 AS minus, pg_catalog.lower(k.b) AS low, count(*) OVER () AS n, -- want: function count
	k.a >= 0 AS positive, -- want: operator >=
	k.b || 'x' AS joined, -- want: operator ||
	coalesce(k.a, 0) AS zero, nullif(k.a, 0) AS one, -- want: NULLIF
	CASE WHEN k.a IS NULL THEN 'x' END AS fine, CASE k.a WHEN 0 THEN 'x' END AS simple, -- want: CASE x WHEN y
	k.a::text AS cast_1, k.a::pg_catalog.text AS cast_2, k.a::integer AS cast_3, -- want: type text
	CAST(k.a AS integer) AS cast_4, -- want: CAST
	regclass 'x' AS literal, interval '1 s' AS fine_too, -- want: type regclass
	k.a IN (1, 2) AS in_1, k.a OPERATOR(pg_catalog.=) ANY (ARRAY[1, 2]) AS any_1, -- want: IN
	k.a BETWEEN 1 AND 2 AS between_1, -- want: BETWEEN
	k.b LIKE 'x%' AS like_1, -- want: LIKE
	k.b SIMILAR TO 'x' AS similar_1, -- want: SIMILAR
	k.b IS DISTINCT FROM 'x' AS distinct_1, -- want: IS DISTINCT FROM
	public.low(k.b) AS elsewhere, -- want: schema public
	k.a OPERATOR(public.+) 1 AS plus -- want: schema public
FROM streamproc.kept k
JOIN pg_class c ON c.oid OPERATOR(pg_catalog.=) 1 -- want: relation pg_class
JOIN streamproc.kept l USING (a) -- want: USING (column)
NATURAL JOIN streamproc.kept m, -- want: NATURAL
	ROWS FROM (pg_catalog.unnest(k.c), unnest(k.d)) AS u(c, d) -- want: function unnest
WHERE EXISTS (SELECT FROM other.kept) AND k.a IS NOT NULL; -- want: schema other
COMMENT ON VIEW streamproc.shown IS '';
GRANT SELECT ON streamproc.shown TO PUBLIC;
CREATE OR REPLACE VIEW streamproc.taken AS SELECT 1 AS a; -- want: OR REPLACE
COMMENT ON VIEW streamproc.taken IS '';

-- statements of the script
UPDATE streamproc.kept SET a = 1, b = 'x' WHERE a = 2; -- want: operator =
SELECT pg_extension_config_dump('streamproc.kept', ''); -- want: function pg_extension_config_dump
INSERT INTO kept (a) VALUES (1); -- want: relation kept
ALTER TABLE streamproc.kept ADD COLUMN c integer DEFAULT length('x'), ADD CHECK (a > 0); -- want: function length | operator >
DO $$
DECLARE
	x integer := 0;
	y pg_catalog.text;
	z text; -- want: type text
BEGIN
	SELECT pg_catalog.lower('x') INTO y;
	IF y = 'x' THEN -- want: operator =
		RAISE EXCEPTION 'x' USING ERRCODE = '22023', HINT = 'y';
	END IF;
	EXECUTE format('x'); -- want: function format
END
$$;

-- grants
GRANT EXECUTE ON FUNCTION streamproc.good(text, timestamptz) TO PUBLIC; -- want: GRANT execute on good
GRANT EXECUTE ON FUNCTION streamproc.good(text, timestamptz) TO streamproc_monitor; -- want: GRANT to streamproc_monitor | GRANT execute on good
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO PUBLIC; -- want: GRANT execute
GRANT SELECT ON streamproc.kept TO PUBLIC; -- want: GRANT select on kept
GRANT ALL ON streamproc.shown TO PUBLIC; -- want: GRANT all on shown
GRANT USAGE ON SCHEMA streamproc TO PUBLIC;
GRANT CREATE ON SCHEMA streamproc TO PUBLIC; -- want: GRANT create
GRANT USAGE ON FOREIGN DATA WRAPPER streamproc_kafka TO PUBLIC; -- want: GRANT usage
GRANT pg_monitor TO streamproc_monitor; -- want: a role is made a member
ALTER DEFAULT PRIVILEGES IN SCHEMA streamproc GRANT SELECT ON TABLES TO PUBLIC; -- want: default privileges
SELECT '@extschema@.x'; -- want: @extschema@

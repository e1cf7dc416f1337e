--
-- What a message may hold at its worst, in each format: a value or a typed error.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
\set VERBOSITY terse
CREATE TYPE lim AS (i int, n numeric, f float8, t text, j jsonb, tz timestamptz, d date);
CREATE TYPE lim_text AS (t text);
CREATE TYPE lim_jsonb AS (j jsonb);
-- the row, or the error; a decoder belongs to a call's place in a query, so the format is part of the query
CREATE FUNCTION outcome(r anyelement, format text, v bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE format('SELECT coalesce(test_codec_error($1, %1$L, $2), ''ok '' || left(test_codec_decode($1, %1$L, $2)::text, 60))', format) INTO result USING r, v;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN 'thrown ' || sqlstate || ' ' || left(sqlerrm, 60);
END $$;
CREATE FUNCTION json_outcome(v text) RETURNS text LANGUAGE sql AS $$ SELECT outcome(NULL::lim, 'json', convert_to(v, 'UTF8')) $$;
CREATE FUNCTION csv_outcome(v text) RETURNS text LANGUAGE sql AS $$ SELECT outcome(NULL::lim, 'csv', convert_to(v, 'UTF8')) $$;
CREATE FUNCTION raw_outcome(v text) RETURNS text LANGUAGE sql AS $$ SELECT outcome(NULL::lim_jsonb, 'raw', convert_to(v, 'UTF8')) $$;

-- no message, and an empty one
SELECT f, outcome(NULL::lim, f, NULL) AS tombstone, outcome(NULL::lim, f, '') AS empty FROM unnest('{json,csv}'::text[]) f
UNION ALL SELECT 'raw text', outcome(NULL::lim_text, 'raw', NULL), outcome(NULL::lim_text, 'raw', '')
UNION ALL SELECT 'raw jsonb', outcome(NULL::lim_jsonb, 'raw', NULL), outcome(NULL::lim_jsonb, 'raw', '');

-- bytes that are no text: invalid, cut off, overlong, a surrogate, beyond Unicode, NUL
SELECT b, outcome(NULL::lim, 'json', '\x7b2274223a22' || b || '\x227d') AS json, outcome(NULL::lim_text, 'csv', b) AS csv,
	outcome(NULL::lim_text, 'csv', '\x22' || b || '\x22') AS quoted, outcome(NULL::lim_text, 'raw', b) AS raw
FROM unnest('{"\\xff","\\x80","\\xe282","\\xc080","\\xeda080","\\xf4908080","\\x00","\\x610062","\\xefbbbf"}'::bytea[]) b;
SELECT json_outcome('{"t":"\u0000"}'), json_outcome('{"j":{"k":"\u0000"}}'), csv_outcome(',,,,"""\u0000""",,'), raw_outcome('["\u0000"]');
SELECT json_outcome('{"t":"\ud800"}'), json_outcome('{"j":["\udc00"]}'), csv_outcome(',,,,"""\ud800x""",,'), raw_outcome('"\ud800\ud800"');

-- numbers
SELECT v, json_outcome('{"i":' || v || '}') AS i, json_outcome('{"n":' || v || '}') AS n, json_outcome('{"f":' || v || '}') AS f, json_outcome('{"j":' || v || '}') AS j
FROM unnest('{2147483647,2147483648,-2147483648,-2147483649,1e400,-1e400,1e-400,1e131072,1e-16384,1e99999999999999999999,0e99999999999999999999}'::text[]) v;
SELECT csv_outcome('1e400,,,,,,'), csv_outcome(',1e131072,,,,,'), csv_outcome(',,1e400,,,,'), csv_outcome(',,,,1e131072,,'), raw_outcome('1e131072');

-- depth: 1000 levels, the object of the message among them
SELECT n, json_outcome('{"j":' || repeat('[', n) || repeat(']', n) || '}') LIKE 'ok%' AS json, json_outcome('{"x":' || repeat('{"a":', n) || '1' || repeat('}', n) || '}') LIKE 'ok%' AS elsewhere,
	csv_outcome(',,,,' || repeat('[', n) || repeat(']', n) || ',,') LIKE 'ok%' AS csv, raw_outcome(repeat('[', n) || repeat(']', n)) LIKE 'ok%' AS raw
FROM unnest('{999,1000,1001}'::int[]) n;
SELECT json_outcome('{"j":' || repeat('[', 1000000)), csv_outcome(',,,,' || repeat('[', 1000000) || ',,'), raw_outcome(repeat('[', 1000000)), raw_outcome(repeat('{"a":', 100000));

-- keys that come again: the last one
SELECT json_outcome('{"i":1,"i":2}'), json_outcome('{"i":"x","i":2}'), json_outcome('{"i":1,"i":null}'), json_outcome('{"i":1,"\u0069":3}'), json_outcome('{"j":{"a":1,"a":2}}'), raw_outcome('{"a":1,"\u0061":2}');

-- the ends of time
SELECT v, json_outcome('{"tz":"' || v || '"}') AS json, csv_outcome(',,,,,' || v || ',') AS csv
FROM unnest('{294276-12-31T23:59:59.999999Z,294277-01-01T00:00:00Z,294276-12-31T23:59:59.9999999Z,294276-12-31T23:59:59.999999-01,4714-11-24 00:00:00 BC,4714-11-24 00:00:00+01 BC,4714-11-23 23:59:59 BC,-4713-01-01T00:00:00Z,4713-01-01 BC,infinity,-infinity,0000-01-01T00:00:00Z,99999999999-01-01}'::text[]) v;
SELECT v, json_outcome('{"tz":' || v || '}') AS json, csv_outcome(',,,,,' || v || ',') AS csv
FROM unnest('{9224318015999999,9224318015999999.9994,9224318015999999.9996,9224318016000000,-210866803200000,-210866803200000.0004,-210866803200001,9223372036854775807,-9223372036854775808,1e300,1e-300}'::text[]) v;
SELECT v, json_outcome('{"d":"' || v || '"}') AS json, csv_outcome(',,,,,,' || v) AS csv
FROM unnest('{5874897-12-31,5874898-01-01,4714-11-24 BC,4714-11-23 BC,infinity,-infinity,0000-01-01}'::text[]) v;

-- fields
SELECT v, csv_outcome(v) FROM unnest(ARRAY['', ',', ',,,,,', ',,,,,,', ',,,,,,,', '"', ',,,",,,', ',,,"x"y,,,', ',,,x"y,,,', E',,,x\ny,,,', E',,,,,,\r\n', E',,,,,,\n\n', repeat('"', 101), ',,,' || repeat('"', 100) || ',,,']) v;

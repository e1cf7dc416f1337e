--
-- Rows to bytes, and back.
--
SET timezone = 'Europe/Berlin';
SET datestyle = 'German';
CREATE TYPE e_mood AS ENUM ('sad', 'ok');
CREATE DOMAIN e_pos AS numeric CHECK (VALUE > 0);
CREATE TYPE e_point AS (x int, y text);
CREATE TABLE e (i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, n numeric, b bool, t text, v varchar(10), c char(4), tz timestamptz, ts timestamp, d date,
	u uuid, j json, jb jsonb, y bytea, m e_mood, p e_pos, a int[], ta text[], pt e_point, iv interval, tm time, ip inet, "Q""x" int);
INSERT INTO e VALUES
	(1, -2, 9223372036854775807, 1.5, 0.1, 12345.6700, true, E'a"b\\c\n\tä😀', 'v', 'c', '2024-07-01 12:00:00.123+00', '2024-07-01 12:00:00', '2024-07-01',
	'c4ca4238-a0b9-2382-0dcc-509a6f75849b', '{"a" : 1}', '{"b": [1, 2]}', '\x00ff', 'ok', 3, '{1,NULL,3}', '{a,"b c",NULL,"d\"e"}', '(1,"x,y")', '1 day 2 hours', '12:34', '10.0.0.1/8', 7),
	(NULL, NULL, NULL, 'NaN', '-Infinity', 'NaN', false, '', '', '', 'infinity', '-infinity', 'infinity', NULL, 'null', 'null', '', NULL, NULL, '{}', '{}', '(,)', NULL, NULL, NULL, NULL),
	(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	(-32768, 0, 0, 1e-30, 1e300, -0.000001, true, ',', E'\r', '"', '0044-03-15 00:00:00+00 BC', '2024-12-31 23:59:59.999999', '0001-01-01', NULL, '[]', '{}', '\x22', 'sad', 0.5, '{{1,2},{3,4}}', '{}', NULL, '-1 mon', '24:00', '::1', 0);
SELECT convert_from(test_codec_encode(e, 'json'), 'UTF8') FROM e;
-- the same as row_to_json
SELECT count(*) FILTER (WHERE convert_from(test_codec_encode(e, 'json'), 'UTF8') IS DISTINCT FROM row_to_json(e)::text) AS different FROM e;
-- numerics of all sizes and scales, stored with short and with long lengths, as numeric_out has them
CREATE TYPE e_numeric AS (n numeric);
CREATE TABLE e_numerics AS
	SELECT (s || (CASE WHEN whole = '' THEN '0' ELSE whole END) || (CASE WHEN f = 0 THEN '' ELSE '.' || left(fraction, f) END))::numeric AS n
	FROM unnest(ARRAY['', '-']) s,
		unnest(ARRAY['', '1', '12', '123', '1234', '10000', '100000000', '1000000000000', '10203', '99999999', '12345678901234567890123456789012', '123456789012345678901234567890123']) whole,
		unnest(ARRAY['00000000000000000000000000', '10000000000000000000000000', '00001000000000000000000000', '12345678901234567890123456', '00000000000000000000000001']) fraction,
		generate_series(0, 26) f
	UNION ALL SELECT unnest(ARRAY['1e70', '1e-70', '1e300', '0.1e-60', 'NaN', 'Infinity', '-Infinity', '0', '0.00', '-0'])::numeric;
SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE convert_from(test_codec_encode(ROW(n)::e_numeric, 'json'), 'UTF8') IS DISTINCT FROM row_to_json(ROW(n)::e_numeric)::text OR
	convert_from(test_codec_encode(ROW(n + 0)::e_numeric, 'json'), 'UTF8') IS DISTINCT FROM row_to_json(ROW(n)::e_numeric)::text) AS different FROM e_numerics;
SELECT convert_from(test_codec_encode(e, 'csv'), 'UTF8') FROM e;
SELECT convert_from(test_codec_encode(ROW(1, 'a;b', NULL)::c3, 'csv', NULL, ';'), 'UTF8');
-- there and back: no differences
SELECT n.nr, l.key, l.value AS is, r.value AS was
FROM (SELECT row_number() OVER () AS nr, e FROM e) n, LATERAL jsonb_each_text(to_jsonb(n.e)) r,
	LATERAL jsonb_each_text(to_jsonb(test_codec_decode(n.e, 'json', test_codec_encode(n.e, 'json')))) l
WHERE l.key = r.key AND l.value IS DISTINCT FROM r.value ORDER BY 1, 2;
SELECT n.nr, l.key, l.value AS is, r.value AS was
FROM (SELECT row_number() OVER () AS nr, e FROM e) n, LATERAL jsonb_each_text(to_jsonb(n.e)) r,
	LATERAL jsonb_each_text(to_jsonb(test_codec_decode(n.e, 'csv', test_codec_encode(n.e, 'csv')))) l
WHERE l.key = r.key AND l.value IS DISTINCT FROM r.value ORDER BY 1, 2;
-- paths make objects
CREATE TYPE e_path AS (a int, b text, c int, d int);
SELECT convert_from(test_codec_encode(ROW(1, 'x', 2, NULL)::e_path, 'json', '{o.a,o.p.b,o.c,d}'), 'UTF8');
SELECT test_codec_decode(NULL::e_path, 'json', test_codec_encode(ROW(1, 'x', 2, NULL)::e_path, 'json', '{o.a,o.p.b,o.c,d}'), '{o.a,o.p.b,o.c,d}');
SELECT test_codec_encode(ROW(1, 'x', 2, NULL)::e_path, 'json', '{o.a,o.a.b,o.c,d}');
SELECT test_codec_encode(ROW(1, 'x', 2, NULL)::e_path, 'json', '{o.a.b,o.a,o.c,d}');
SELECT test_codec_encode(ROW(1, 'x', 2, NULL)::e_path, 'json', '{o.a,o.b,o.a,d}');
-- raw
SELECT test_codec_encode(ROW('ä')::rt, 'raw'), test_codec_encode(ROW(NULL)::rt, 'raw'), test_codec_encode(ROW('\x00ff')::ry, 'raw'),
	convert_from(test_codec_encode(ROW('{"a":1}')::rb, 'raw'), 'UTF8'), convert_from(test_codec_encode(ROW('{"a":1}')::rj, 'raw'), 'UTF8');
CREATE TABLE e_big (v text);
INSERT INTO e_big SELECT string_agg(md5(i::text), '') FROM generate_series(1, 10000) i;
SELECT test_codec_encode(e_big, 'raw') = convert_to(v, 'UTF8'), length(test_codec_encode(e_big, 'json')) FROM e_big;

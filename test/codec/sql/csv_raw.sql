--
-- Formats csv and raw.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
CREATE TYPE c3 AS (a int, b text, c timestamptz);
CREATE FUNCTION csv(v text, delimiter text DEFAULT ',') RETURNS c3 LANGUAGE sql AS $$ SELECT test_codec_decode(NULL::c3, 'csv', convert_to(v, 'UTF8'), NULL, delimiter) $$;
CREATE FUNCTION csv_err(v text, delimiter text DEFAULT ',') RETURNS text LANGUAGE sql AS $$ SELECT test_codec_error(NULL::c3, 'csv', convert_to(v, 'UTF8'), NULL, delimiter) $$;
SELECT v, csv(v), (csv(v)).b IS NULL AS b_null FROM unnest(ARRAY['1,x,2024-01-01T00:00:00Z', ',,', ',"",', '"1","a,""b""
c","2024-01-01"', ' 1 , x ,', E'1,x,\r\n', E'1,x,\n', '1,x,1704067200000', '1,x,1704067200000.5', '1,ä€😀,', '1,x''y,', '1,"""",']) AS v;
SELECT csv('1;"a;b";', ';'), csv(E'1\ta,b\t', E'\t'), csv('1|"|"|"2024-01-01"', '|');
SELECT v, csv_err(v) FROM unnest(ARRAY['', '1', '1,x', '1,x,,', 'x,x,', '1,"x,', '1,"x"y,', '1,x"y,', E'1,x,\n2,y,', E'1,x\r,', E'1,x,\n\n', '"",x,', '1,x,"1704067200000"', '1,x,20240101x', '99999999999,x,']) AS v;
SELECT test_codec_error(NULL::c3, 'csv', '\x312cff2c'), test_codec_error(NULL::c3, 'csv', '\x312c00612c');
SELECT csv('1', '"');
SELECT csv('1,x,', E'\n');
SELECT test_codec_error(NULL::c3, 'csv', NULL), test_codec_decode(NULL::c3, 'csv', NULL);
CREATE TABLE c1 (a text);
CREATE TABLE c1n (a text NOT NULL);
SELECT a, a IS NULL FROM unnest(ARRAY['', '""', 'x', E'\n']) AS v, test_codec_decode(NULL::c1, 'csv', convert_to(v, 'UTF8'));
SELECT test_codec_error(NULL::c1n, 'csv', ''), test_codec_error(NULL::c1n, 'csv', '""');
CREATE TYPE cx AS (n numeric(5,1), u uuid, j jsonb, a int[], b bool, y bytea, d date);
SELECT * FROM test_codec_decode(NULL::cx, 'csv', '1.25,A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,"{""a"":[1,""x""]}","{1,2}",t,"\\x00ff",20240102');
SELECT test_codec_error(NULL::cx, 'csv', ',,{a:1},,,,'), test_codec_error(NULL::cx, 'csv', ',,1 2,,,,'), test_codec_error(NULL::cx, 'csv', convert_to(',,"""\ud800""",,,,', 'UTF8')), test_codec_error(NULL::cx, 'csv', '12345.67,,,,,,');
SELECT test_codec_decode(NULL::cx, 'csv', ',,,"{1,x}",,,');
-- raw
CREATE TYPE rt AS (v text);
CREATE TYPE rv AS (v varchar(3));
CREATE TYPE ry AS (v bytea);
CREATE TYPE rj AS (v json);
CREATE TYPE rb AS (v jsonb);
CREATE TYPE ri AS (v int);
CREATE TYPE r2 AS (v text, w text);
SELECT test_codec_decode(NULL::rt, 'raw', convert_to(E'a"b\nä', 'UTF8')), test_codec_decode(NULL::rt, 'raw', ''), test_codec_decode(NULL::rt, 'raw', NULL);
SELECT test_codec_decode(NULL::ry, 'raw', '\x00ff80'), test_codec_decode(NULL::ry, 'raw', '\\x41'::bytea), test_codec_decode(NULL::rv, 'raw', 'abc  ');
SELECT test_codec_decode(NULL::rj, 'raw', ' {"a" : 1} '), test_codec_decode(NULL::rb, 'raw', ' {"a" : 1} '), test_codec_decode(NULL::rb, 'raw', '"x"'), test_codec_decode(NULL::rb, 'raw', '1.50'), test_codec_decode(NULL::rb, 'raw', 'null');
SELECT test_codec_error(NULL::rt, 'raw', '\xff'), test_codec_error(NULL::rt, 'raw', '\x00'), test_codec_error(NULL::rv, 'raw', 'abcd'), test_codec_error(NULL::rj, 'raw', ''), test_codec_error(NULL::rb, 'raw', '{"a":1}}'), test_codec_error(NULL::rb, 'raw', '[1');
SELECT test_codec_decode(NULL::ri, 'raw', '1');
SELECT test_codec_decode(NULL::r2, 'raw', '1');
SELECT test_codec_decode(NULL::rt, 'csv', '1', '{a.b}');

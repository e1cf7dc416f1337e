--
-- Format json: rules of the columns.
--
SET timezone = 'America/New_York';
SET datestyle = 'ISO, MDY';
CREATE TYPE tx AS (tx_id uuid, card text, amount numeric(12,2), at timestamptz);
CREATE FUNCTION row_of(r anyelement, doc text, paths text[] DEFAULT NULL) RETURNS anyelement
LANGUAGE sql AS $$ SELECT test_codec_decode(r, 'json', convert_to(doc, 'UTF8'), paths) $$;
CREATE FUNCTION err(r anyelement, doc text, paths text[] DEFAULT NULL) RETURNS text
LANGUAGE sql AS $$ SELECT test_codec_error(r, 'json', convert_to(doc, 'UTF8'), paths) $$;

SELECT * FROM row_of(NULL::tx, '{"tx_id":"c4ca4238-a0b9-2382-0dcc-509a6f75849b","card":"4444","amount":1.005,"at":"2024-01-01T00:00:01.234Z"}');
SELECT * FROM row_of(NULL::tx, '{}');
SELECT * FROM row_of(NULL::tx, ' { "x" : [ { } , [ ] ] , "card" : null } ');
-- a tombstone
SELECT * FROM test_codec_decode(NULL::tx, 'json', NULL);

-- keys: exactly, else whatever the case; a duplicate: the last
CREATE TYPE k AS ("a" int, "B" int, "B b" int);
SELECT * FROM row_of(NULL::k, '{"A":1,"b":2,"b B":3}');
SELECT * FROM row_of(NULL::k, '{"a":1,"A":2,"B":3,"b":4}');
SELECT * FROM row_of(NULL::k, '{"A":1,"a":2,"b":3,"B":4}');
SELECT * FROM row_of(NULL::k, '{"a":1,"a":2,"b":3,"b":4}');
SELECT * FROM row_of(NULL::k, '{"a":1,"a":null}');
SELECT * FROM row_of(NULL::k, '{"\u0061":1,"\u0042":2, "\u0000":1, "\ud800":1}');
SELECT err(NULL::k, '{"\q":1}'), err(NULL::k, '{"\u12":1}');
CREATE TYPE two AS (abc int, "ABC" int);
SELECT * FROM row_of(NULL::two, '{"ABC":1,"abc":2,"Abc":3}');
SELECT * FROM row_of(NULL::two, '{"Abc":3}');

-- paths
CREATE TYPE p AS (x int, y text, z jsonb, w int);
CREATE FUNCTION decp(doc text) RETURNS p LANGUAGE sql AS $$ SELECT row_of(NULL::p, doc, '{a.b.c,a.d,a.b,w}') $$;
SELECT * FROM decp('{"a":{"b":{"c":1},"d":"e"},"w":2}');
SELECT * FROM decp('{"a":{"b":5,"d":{"e":1}},"w":2}');
SELECT * FROM decp('{"a":7}');
SELECT * FROM decp('{"a":[{"b":1}]}');
-- a whole object that comes again replaces the first
SELECT * FROM decp('{"a":{"b":{"c":1},"d":"e"},"a":{"d":"f"}}');
SELECT * FROM decp('{"a":{"b":{"c":1},"d":"e"},"a":3}');
SELECT * FROM decp('{"a":{"b":{"c":1},"d":"e"},"A":{"d":"f"}}');
SELECT * FROM decp('{"A":{"b":{"c":1},"d":"e"},"a":{"d":"f"}}');
SELECT * FROM decp('{"A":{"B":{"C":1},"D":"e"}}');
SELECT row_of(NULL::p, '{}', '{a..b}');
SELECT row_of(NULL::p, '{}', '{a.}');
-- by name, a dot is no path
CREATE TYPE dot AS ("a.b" int);
SELECT * FROM row_of(NULL::dot, '{"a":{"b":1},"a.b":2}');

-- NOT NULL
CREATE TABLE nn (a int NOT NULL, b text);
SELECT err(NULL::nn, '{"b":"x"}'), err(NULL::nn, '{"a":null}'), err(NULL::nn, '{"a":1}'), test_codec_error(NULL::nn, 'json', NULL);
ALTER TABLE nn DROP COLUMN a, ADD c int NOT NULL;
SELECT err(NULL::nn, '{"b":"x","a":1}'), row_of(NULL::nn, '{"c":1}');

-- documents
SELECT doc, err(NULL::k, doc) FROM unnest(ARRAY[
	'', ' ', '{', '{"a":1', '{"a":1}}', '{"a":1} x', '{"a":1},', '[]', '1', '"x"', 'null', '{"a":}', '{"a" 1}', '{a:1}', '{''a'':1}',
	'{"a":1,}', '{,"a":1}', '{"a":1 "b":2}', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}', '{"a":1e}', '{"a":-}', '{"a":NaN}',
	'{"a":tru}', '{"a":truex}', '{"a":nul', '{"a":"x', '{"a":"x\', '{"x":"\x"}', '{"x":"\u00g0"}', E'{"x":"a\tb"}', '{"a":1"b"}',
	'{"x":[1,]}', '{"x":[1 2]}', '{"x":[1}', '{"x":{]}', '{"x":[}', '{1:1}', '{"a":1}{"a":2}', '{"a":1e400}', '{"z":1e400}', '{"a":9999999999}',
	'{"a":"\u0000"}', '{"z":"\u0000\ud800"}', '//x', '{"a":1/*x*/}', '{"a"::1}', '{"a":1,"a"}', '{"":1}', '{"a":[[[]]]}']) AS doc;
SELECT err(NULL::k, '{"x":' || repeat('[', 999) || repeat(']', 999) || '}'), err(NULL::k, '{"x":' || repeat('[', 1000) || repeat(']', 1000) || '}'),
	err(NULL::k, '{"x":' || repeat('[', 1000000)), err(NULL::k, repeat('{"a":', 100000));
SELECT err(NULL::p, repeat('{"a":', 2000) || '1' || repeat('}', 2000), '{a.b.c,a.d,a.b,w}');
SELECT test_codec_error(NULL::k, 'json', '\x7b2261223a2280227d'), test_codec_error(NULL::k, 'json', '\xefbbbf7b7d'),
	test_codec_error(NULL::k, 'json', '\x00'), test_codec_error(NULL::k, 'json', '\x7b2261003a317d'), test_codec_error(NULL::k, 'json', '\x7b22613a317d00'),
	test_codec_error(NULL::k, 'json', '\x7b7d00');
-- an excerpt is short, without control characters, and ends with a whole character
SELECT err(NULL::k, '{"a":"' || repeat('ä', 100) || '"}'), err(NULL::k, '{"a":"a\u0001\n' || repeat('ä', 100) || '"}');

-- numbers
CREATE TYPE num AS (i2 smallint, i4 int, i8 bigint, f4 real, f8 float8, n numeric, n5 numeric(5,2));
CREATE FUNCTION one(v text) RETURNS num LANGUAGE sql AS $$ SELECT row_of(NULL::num, format('{"i2":%1$s,"i4":%1$s,"i8":%1$s,"f4":%1$s,"f8":%1$s,"n":%1$s,"n5":%1$s}', v)) $$;
SELECT v, one(v) FROM unnest(ARRAY['1', '-1', '0', '-0', '1.0', '1e2', '"12"', '" 12 "', '"+12"', '10e-1', '"1.0"', 'null', '0.0e10']) AS v;
CREATE FUNCTION each_error(doc text) RETURNS TABLE (v text, err text) LANGUAGE plpgsql AS $$
DECLARE c text; e text;
BEGIN
	FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = 'num'::regclass ORDER BY attnum LOOP
		e := err(NULL::num, format('{"%s":%s}', c, doc));
		IF e IS NOT NULL THEN each_error.v := doc; each_error.err := e; RETURN NEXT; END IF;
	END LOOP;
END $$;
SELECT e.* FROM unnest(ARRAY['1.5', '32768', '2147483648', '9223372036854775808', '1e400', '1e-400', '"abc"', '""', '"1 2"', 'true', '{"a":1}', '[1]',
	'"NaN"', '"Infinity"', '999.995', '"0x10"', '1e1000000', '1e-20000', '1e2000000000', '1e99999999999999999999']) AS v, each_error(v) e;

-- text
CREATE TYPE txt AS (t text, v varchar(3), c char(3));
SELECT * FROM row_of(NULL::txt, '{"t":"a\"b\\c\/d\b\f\n\r\t\u00e4\u20ac\ud83d\ude00","v":"äöü","c":"ä"}');
SELECT * FROM row_of(NULL::txt, '{"t":1.50,"v":1e1,"c":12}');
SELECT * FROM row_of(NULL::txt, '{"t":{"a" : [1, 2]},"v":"abc  ","c":"abc   "}');
SELECT * FROM row_of(NULL::txt, '{"t":"","v":"","c":""}');
SELECT err(NULL::txt, '{"v":"abcd"}'), err(NULL::txt, '{"c":"äöüß"}'), err(NULL::txt, '{"t":"\u0000"}'), err(NULL::txt, '{"t":"\ud800"}'),
	err(NULL::txt, '{"t":"\udc00"}'), err(NULL::txt, '{"t":"\ud800\u0041"}'), err(NULL::txt, '{"t":"\ud800x\udc00"}');
SELECT length(t), octet_length(t) FROM row_of(NULL::txt, '{"t":"' || repeat('ä€x\n', 100000) || '"}');

-- booleans, uuid, bytea
CREATE TYPE misc AS (b bool, u uuid, y bytea);
SELECT v, row_of(NULL::misc, format('{"b":%s}', v)) FROM unnest(ARRAY['true', 'false', '"t"', '" yes "', '"off"', '1', '0', '"TRUE"', '"fal"']) AS v;
SELECT v, err(NULL::misc, format('{"b":%s}', v)) FROM unnest(ARRAY['2', '""', '"o"', '"truely"', '[]', '1.0']) AS v;
SELECT v, row_of(NULL::misc, format('{"u":"%s"}', v)) FROM unnest(ARRAY['A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}', 'a0eebc999c0b4ef8bb6d6bb9bd380a11', 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11']) AS v;
SELECT v, err(NULL::misc, format('{"u":"%s"}', v)) FROM unnest(ARRAY['', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111', '{a0eebc999c0b4ef8bb6d6bb9bd380a11', ' a0eebc999c0b4ef8bb6d6bb9bd380a11', 'a-0eebc999c0b4ef8bb6d6bb9bd380a11']) AS v;
SELECT v, row_of(NULL::misc, format('{"y":"%s"}', v)) FROM unnest(ARRAY['', '\\x', '\\xDEad', '\\xde ad', 'abc', 'a\\\\b\\001', '\\377']) AS v;
SELECT v, err(NULL::misc, format('{"y":"%s"}', v)) FROM unnest(ARRAY['\\x1', '\\xzz', '\\', '\\400', '\\x1 2']) AS v;

-- times: UTC where no zone is named, whatever the session's zone is
SET timezone = 'America/New_York';
CREATE TYPE tim AS (tz timestamptz, ts timestamp, d date, tz0 timestamptz(0));
CREATE FUNCTION at(v text) RETURNS tim LANGUAGE sql SET timezone = 'America/New_York' AS $$ SELECT row_of(NULL::tim, format('{"tz":%1$s,"ts":%1$s,"d":%1$s,"tz0":%1$s}', v)) $$;
SELECT v, (at(v)).* FROM unnest(ARRAY['"2024-02-29T12:34:56.789Z"', '"2024-02-29 12:34:56"', '"2024-02-29T12:34"', '"2024-02-29"', '"2024-07-01T12:34:56+02:00"', '"2024-07-01T12:34:56-0530"',
	'"2024-07-01T12:34:56+02"', '"2024-07-01 12:34:56 +02"', '"2024-07-01T12:34:56.123456789Z"', '"2024-07-01T12:34:56.9999999"', '"2024-12-31T23:59:60Z"', '"2024-12-31T24:00:00Z"', '"0001-01-01T00:00:00Z"',
	'"9999-12-31T23:59:59.999999Z"', '"infinity"', '"-infinity"', '"epoch"', '"20240102T030405Z"', '"Mon Jan 15 12:00:00 2024 PST"', '"2024-01-15 12:00 Europe/Berlin"', '"0044-03-15 BC"', '"2024-07-01t01:02:03z"']) AS v;
SET timezone = 'UTC';
SELECT v, row_of(NULL::tim, format('{"tz":%1$s,"ts":%1$s,"tz0":%1$s}', v)) FROM unnest(ARRAY['0', '1704067200000', '1704067200123.4567', '-1', '1.7040672e12', '1704067200500', '9223372036854775', '-210866803200000']) AS v;
SELECT v, err(NULL::tim, format('{"tz":%s}', v)) FROM unnest(ARRAY['9224318016000000', '-210866803200001', '1e300', '"2024-02-30"', '"2023-02-29T00:00:00Z"', '"2024-13-01"', '"2024-01-01T25:00:00"', '"x"', '""', '"now"', '"today"', '" NOW "',
	'"tomorrow"', '"yesterday"', '"2024-01-01T00:00:00+25"', '"294277-01-01"', 'true', '{}', '"2024-01-01T00:00:00.Z"', '"2024-01-01T00:00:00ZZ"', '"1704067200000"']) AS v;
SELECT v, err(NULL::tim, format('{"d":%s}', v)) FROM unnest(ARRAY['20240101', '"2024-02-30"', '"5874898-01-01"', '"now"', '"x"', '"2024-1-1x"']) AS v;
RESET timezone;

-- jsonb and json keep the value whole
CREATE TYPE js AS (b jsonb, j json);
CREATE FUNCTION whole(v text) RETURNS js LANGUAGE sql AS $$ SELECT row_of(NULL::js, format('{"b":%1$s , "j": %1$s }', v)) $$;
SELECT v, whole(v) FROM unnest(ARRAY['1', '1.50', '-1e3', '"a\u00e4\n"', 'true', 'false', 'null', '[]', '{}', '[1, "2", [null], {"x" : {}}]', '{"b":1,"a":2,"b":3, "aa":{"z":[]}}']) AS v;
SELECT err(NULL::js, '{"b":["\u0000"]}'), err(NULL::js, '{"b":{"\ud800":1}}'), err(NULL::js, '{"b":[1e400000]}'), err(NULL::js, '{"j":["\u0000\ud800",1e400000]}');

-- all other types: by their input functions
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN pos AS int CHECK (VALUE > 0);
CREATE DOMAIN name3 AS varchar(3);
CREATE DOMAIN no_null AS text NOT NULL;
CREATE TYPE dom AS (a no_null);
SELECT row_of(NULL::dom, '{"a":""}');
SELECT row_of(NULL::dom, '{"a":null}');
SELECT row_of(NULL::dom, '{}');
SELECT test_codec_decode(NULL::dom, 'json', NULL);
CREATE TYPE point2 AS (x int, "Y" text);
CREATE TYPE oth AS (m mood, p pos, s name3, ip inet, a int[], t text[], c point2, cs point2[], jb jsonb[], iv interval, r int4range, tm time, ch "char", nm name, x xml, bx box[]);
SELECT * FROM row_of(NULL::oth, '{"m":"ok","p":3,"s":"abc","ip":"10.0.0.1/8","a":[1,null,3],"t":["a,b","c\"d\\e",null,"NULL","",1.5,true],"c":{"x":1,"y":"a\"b,\\"},
	"cs":[{"x":1},{"X":2,"y":null,"Y":"z"},null],"jb":[1,"a",null,[2],{"a":"b\"c"}],"iv":"1 day","r":"[1,5)","tm":"12:34","ch":"x","nm":"n","x":"<a/>","bx":["(1,1),(0,0)"]}');
SELECT a, t, c FROM row_of(NULL::oth, '{"a":[[1,2],[3,4]],"t":"{x,y}","c":"(5,abc)"}');
SELECT a, cs FROM row_of(NULL::oth, '{"a":[],"cs":"{}"}');
-- keys of a composite as those of columns: exactly, else whatever the case; the last
SELECT c FROM unnest(ARRAY['{"c":{"Y":"exact","y":"other case"}}', '{"c":{"y":"other case","Y":"exact"}}', '{"c":{"y":"first","y":"last"}}', '{"c":{"Y":"exact","Y":null}}']) v, row_of(NULL::oth, v);
SELECT row_of(NULL::oth, '{"m":"happy"}');
SELECT row_of(NULL::oth, '{"p":-1}');
SELECT row_of(NULL::oth, '{"s":"abcd"}');
SELECT row_of(NULL::oth, '{"ip":[1]}');
SELECT row_of(NULL::oth, '{"a":[1,"x"]}');
SELECT row_of(NULL::oth, '{"a":[1,[2]]}');
SELECT row_of(NULL::oth, '{"c":[1]}');
-- and the decoder goes on after that
SELECT err(NULL::oth, '{"t":["\u0000"]}'), err(NULL::oth, '{"nm":"\u0000"}');

-- no column at all, and one that is not there
CREATE TABLE empty ();
SELECT err(NULL::empty, '{"a":1}'), err(NULL::empty, '{"a":1');

-- columns that no message had
CREATE TYPE un AS (amount numeric, card text, total int, street text, zip text, found int);
SELECT test_codec_unseen(NULL::un, 'json', array_fill('{"amout":1,"found":null,"Card":"x","adress":{"street":"a"},"address2":{"zap":1}}'::text::bytea, ARRAY[1000]), '{NULL,NULL,NULL,address.street,address2.zip,NULL}');
SELECT test_codec_unseen(NULL::un, 'json', array_fill('{}'::text::bytea, ARRAY[1000])), test_codec_unseen(NULL::un, 'json', array_fill('{}'::text::bytea, ARRAY[999]));
-- more keys than are remembered
SELECT count(row_of(NULL::k, (SELECT '{' || string_agg(format('"%s%s":%s', CASE WHEN i % 7 = 0 THEN repeat('x', 100) ELSE 'k' END, i + r * 50, i), ',') || ',"a":' || r || '}' FROM generate_series(1, 300) i))),
	sum((row_of(NULL::k, (SELECT '{' || string_agg(format('"%s%s":%s', CASE WHEN i % 7 = 0 THEN repeat('x', 100) ELSE 'k' END, i + r * 50, i), ',') || ',"a":' || r || '}' FROM generate_series(1, 300) i))).a) FROM generate_series(1, 50) r;

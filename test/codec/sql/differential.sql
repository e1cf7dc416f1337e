--
-- The decoder against PostgreSQL's own types, over many generated inputs.
-- The seed is fixed; each query lists what differs, so nothing is right.
--
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
SET client_min_messages = warning;
SELECT setseed(0.42);

-- a few changes at random places, with bytes that mean something
CREATE FUNCTION mutate(doc bytea, changes int) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	menu bytea := convert_to(E'{}[]:,"\\\\\\"/ \t\n\r\f\b0123456789.eE+-truefalsnuabBxX', 'UTF8') || '\x00011f7f80bfc3c2e282aceda080f09f9880f4908080ff';
	n int; at int; op int; l int;
BEGIN
	FOR i IN 1 .. changes LOOP
		n := octet_length(doc);
		EXIT WHEN n = 0;
		at := floor(random() * n)::int;
		op := floor(random() * 6)::int;
		l := floor(random() * octet_length(menu))::int;
		doc := CASE op
			WHEN 0 THEN set_byte(doc, at, get_byte(menu, l))
			WHEN 1 THEN substr(doc, 1, at) || substr(doc, at + 2)
			WHEN 2 THEN substr(doc, 1, at) || substr(menu, l + 1, 1) || substr(doc, at + 1)
			WHEN 3 THEN substr(doc, 1, at) || substr(menu, l + 1, 4) || substr(doc, at + 1)
			WHEN 4 THEN substr(doc, 1, at) || substr(doc, at - 3, 6) || substr(doc, at + 1)
			ELSE CASE WHEN random() < 0.2 THEN substr(doc, 1, at) ELSE doc END
		END;
	END LOOP;
	RETURN doc;
END $$;

CREATE TABLE seeds (doc text);
INSERT INTO seeds VALUES
	('{"a":1,"b":"x","c":null,"d":true,"e":[1,2,{"x":[]}],"f":{"g":-1.5e+10,"h":{}}}'),
	(' { "a" : "\u00e4\ud83d\ude00\n\"\\" , "b" : [ ] , "c" : false , "a" : 0 } '),
	('{"a":"ä€😀","b":"","":{"":""},"d":[[[[]]],"]}",{"k":"v"}],"e":0.1E-2}'),
	('{}'), ('[{"a":1}]'), ('{"a":12345678901234567890,"b":"1.50","c":"0x1","d":"t","e":" 12 "}'),
	('{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\\","a":1}'),
	(E'{"a":1,\n\t"b":[1,\r\n 2],"c":"tr\\u0041il\\\\"}'), ('{"a":"\\\\\\\"","b":"\\","c":"\/\b\f"}');
CREATE TABLE docs AS
SELECT i, mutate(convert_to(doc, 'UTF8'), (i % 4) + (i % 3)) AS doc FROM seeds, generate_series(1, 3000) i;

-- 1. accepted if and only if json_in accepts it, as an object
CREATE FUNCTION json_says(v bytea) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
	RETURN json_typeof(convert_from(v, 'UTF8')::json) = 'object';
EXCEPTION WHEN OTHERS THEN
	RETURN false;
END $$;
CREATE TYPE nothing AS ("~" int);
SELECT doc, convert_from(doc, 'LATIN1') AS text, json_says(doc), test_codec_error(NULL::nothing, 'json', doc)
FROM docs WHERE json_says(doc) <> (test_codec_error(NULL::nothing, 'json', doc) IS NULL) LIMIT 20;
-- whatever columns are wanted: a document is wrong as a whole or not at all
CREATE TYPE several AS (a text, b json, c json, d json, e json, f json);
SELECT doc, json_says(doc), test_codec_error(NULL::several, 'json', doc, '{a,b,e.x,d.k,"",f.g}')
FROM docs WHERE json_says(doc) <> (coalesce(test_codec_error(NULL::several, 'json', doc, '{a,b,e.x,d.k,k,f.g}'), '') NOT LIKE '% -1: %') LIMIT 20;
-- it did have both
SELECT count(*) > 25000 AS enough, count(*) FILTER (WHERE json_says(doc)) > 3000 AS accepted, count(*) FILTER (WHERE NOT json_says(doc)) > 3000 AS refused FROM docs;

-- 2. the same values: text against json ->> and jsonb against jsonb_in
CREATE FUNCTION text_says(v bytea, k text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce('ok ' || (convert_from(v, 'UTF8')::json ->> k), 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;
CREATE FUNCTION jsonb_says(v bytea, k text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce('ok ' || nullif(convert_from(v, 'UTF8')::jsonb -> k, 'null')::text, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END $$;
CREATE TYPE one_text AS (a text);
CREATE TYPE one_jsonb AS (a jsonb);
CREATE FUNCTION we_say(r anyelement, v bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE e text := test_codec_error(r, 'json', v);
BEGIN
	IF e IS NOT NULL THEN RETURN left(e, 5); END IF;
	r := test_codec_decode(r, 'json', v);
	RETURN coalesce('ok ' || r.a::text, 'null');
END $$;
-- PostgreSQL looks at the escapes of all fields, we at those of the columns that are read
CREATE TABLE good AS SELECT doc FROM docs WHERE CASE WHEN json_says(doc) THEN convert_from(doc, 'UTF8') !~ '"(A|\\u0041)"\s*:' END;
SELECT doc, text_says(doc, 'a') AS pg, we_say(NULL::one_text, doc) AS we FROM good
WHERE text_says(doc, 'a') <> we_say(NULL::one_text, doc) AND NOT (text_says(doc, 'a') IN ('22P02', '22P05') AND text_says(doc, 'zz') IN ('22P02', '22P05')) LIMIT 20;
SELECT doc, jsonb_says(doc, 'a') AS pg, we_say(NULL::one_jsonb, doc) AS we FROM good
WHERE jsonb_says(doc, 'a') <> we_say(NULL::one_jsonb, doc) AND jsonb_says(doc, 'zz') NOT IN ('22P02', '22P05', '22003') LIMIT 20;
CREATE TYPE raw_jsonb AS (a jsonb);
CREATE FUNCTION whole_says(v bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN 'ok ' || (convert_from(v, 'UTF8')::jsonb)::text;
EXCEPTION WHEN OTHERS THEN
	RETURN 'error';
END $$;
CREATE FUNCTION we_say_whole(v bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF test_codec_error(NULL::raw_jsonb, 'raw', v) IS NOT NULL THEN RETURN 'error'; END IF;
	RETURN 'ok ' || ((test_codec_decode(NULL::raw_jsonb, 'raw', v)).a)::text;
END $$;
SELECT doc, whole_says(doc), we_say_whole(doc) FROM docs WHERE whole_says(doc) <> we_say_whole(doc) LIMIT 20;
-- and bit by bit
SELECT doc FROM good WHERE CASE WHEN whole_says(doc) LIKE 'ok%' THEN test_codec_bytes((test_codec_decode(NULL::raw_jsonb, 'raw', doc)).a) <> test_codec_bytes(convert_from(doc, 'UTF8')::jsonb) END LIMIT 20;

-- 3. scalars: text to each type, bit by bit
CREATE TABLE types (nr serial, name text);
INSERT INTO types (name) VALUES ('smallint'), ('int'), ('bigint'), ('real'), ('float8'), ('numeric'), ('numeric(12,2)'), ('numeric(5)'), ('numeric(3,5)'),
	('numeric(4,-2)'), ('numeric(60,30)'), ('bool'), ('text'), ('varchar(3)'), ('char(3)'), ('timestamptz'), ('timestamp'), ('timestamptz(2)'), ('date'), ('uuid'), ('bytea'), ('inet'), ('interval');
DO $do$
DECLARE t record;
BEGIN
	FOR t IN SELECT * FROM types LOOP
		EXECUTE format('CREATE TYPE col_%s AS (v %s)', t.nr, t.name);
		-- by the input function, as COPY does: an explicit cast to varchar(3) would cut
		EXECUTE format($f$CREATE FUNCTION pg_says_%1$s(s text) RETURNS text LANGUAGE plpgsql AS $$
			BEGIN
				RETURN 'ok ' || test_codec_bytes((('(' || '"' || replace(replace(s, '\', '\\'), '"', '\"') || '"' || ')')::col_%1$s).v)::text;
			-- names that we do not tell apart: of a wrong zone, hex digit, displacement
			EXCEPTION WHEN OTHERS THEN
				RETURN CASE WHEN sqlstate = '22023' AND %2$L ~ 'time|date' THEN '22007' WHEN sqlstate = '22023' AND %2$L = 'bytea' THEN '22P02'
					WHEN sqlstate = '22009' THEN '22008' ELSE sqlstate END;
			END $$ $f$, t.nr, t.name);
		EXECUTE format($f$CREATE FUNCTION we_say_%1$s(s text) RETURNS text LANGUAGE plpgsql AS $$
			DECLARE doc bytea := convert_to(json_build_object('v', s)::text, 'UTF8');
			e text;
			BEGIN
				e := test_codec_error(NULL::col_%1$s, 'json', doc);
				IF e IS NOT NULL THEN RETURN left(e, 5); END IF;
				RETURN 'ok ' || test_codec_bytes((test_codec_decode(NULL::col_%1$s, 'json', doc)).v)::text;
			EXCEPTION WHEN OTHERS THEN RETURN sqlstate;
			END $$ $f$, t.nr);
	END LOOP;
END $do$;
CREATE FUNCTION differ(name text, inputs text[]) RETURNS TABLE (type text, input text, pg text, we text) LANGUAGE plpgsql AS $$
DECLARE n int;
BEGIN
	SELECT nr INTO n FROM types WHERE types.name = differ.name;
	RETURN QUERY EXECUTE format('SELECT %L, s, pg_says_%s(s), we_say_%s(s) FROM unnest($1) s WHERE pg_says_%s(s) <> we_say_%s(s) ORDER BY 2 LIMIT 10', name, n, n, n, n) USING inputs;
END $$;
CREATE FUNCTION digits(n int) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT coalesce(string_agg(CASE WHEN random() < 0.3 THEN '0' WHEN random() < 0.2 THEN '9' ELSE floor(random() * 10)::text END, ''), '') FROM generate_series(1, n) $$;
CREATE TABLE numbers AS
SELECT i, CASE WHEN i % 50 = 0 THEN ' ' ELSE '' END || (ARRAY['', '', '-', '+'])[1 + i % 4] || digits((random() * random() * 45)::int) ||
	CASE WHEN i % 3 > 0 THEN '.' || digits((random() * random() * 40)::int) ELSE '' END ||
	CASE WHEN i % 5 = 0 THEN (ARRAY['e', 'E'])[1 + i % 2] || (ARRAY['', '-', '+'])[1 + i % 3] || digits(1 + (random() * random() * 2)::int) ELSE '' END AS s
FROM generate_series(1, 6000) i;
INSERT INTO numbers SELECT 0, s FROM unnest(ARRAY['', ' ', '.', '-', '+', '-.', '1.', '.1', 'e1', '1e', '1e+', '1.2.3', '--1', '1 1', ' 1 ', E'\t1\n', 'NaN', 'nan', '-NaN', '+NaN', ' NaN ', 'Infinity', '-Infinity', '+Infinity', 'inf', '-inf',
	'iNf', 'infinit', 'Infinityx', '1e131071', '1e131072', '1e131073', '9.99e131071', '1e-16383', '1e-16384', '1e-16385', '0e-16384', '0e99999', '1e1073741822', '1e1073741823', '1e-1073741823', '1e99999999999', '1e-99999999999',
	'999.995', '999.994999999999999', '-999.995', '0.005', '0.0049999', '-0.005', '9999999999.995', '9999999999.994', '0.00999995', '0.009999949', '99.5', '149', '150', '-49.99', '9999999999', '999950', '999949', '0.000', '-0', '-0.0', '000', '00012', '0.00000000000000000001',
	'1e308', '1.8e308', '4.9e-324', '2e-324', '1e-45', '7e-46', '3.4028235e38', '3.4028236e38', '1e-400', '32767', '32768', '-32768', '-32769', '2147483647', '2147483648', '-2147483648', '-2147483649', '9223372036854775807',
	'9223372036854775808', '-9223372036854775808', '-9223372036854775809', '18446744073709551616', '99999999999999999999', '0x1f', '1_000', '1,5', '１', '5-', '9007199254740993', '123456789012345678', '0x1.8p1', '0x1p200', '0x1p-200', '0x1p2000', '0x1.0000010000000000001p0', '0x', '0.1', '0.30000000000000004', '1e22', '1e23', '123456789012345e22']) s;
INSERT INTO numbers SELECT 1, repeat('9', n) || '.' || repeat('9', m) FROM generate_series(0, 40, 3) n, generate_series(0, 40, 3) m;
INSERT INTO numbers SELECT 1, '0.' || repeat('0', m) || '5' FROM generate_series(0, 70) m;
INSERT INTO numbers VALUES (2, repeat('1', 131072)), (2, repeat('1', 131073)), (2, '0.' || repeat('1', 16383)), (2, '0.' || repeat('1', 16384)), (2, repeat('123', 1000) || '.' || repeat('7', 3000));
SELECT d.type, left(d.input, 50) AS input, left(d.pg, 50) AS pg, left(d.we, 50) AS we FROM (VALUES ('real'), ('float8'), ('numeric'), ('numeric(12,2)'), ('numeric(5)'), ('numeric(3,5)'), ('numeric(4,-2)'), ('numeric(60,30)')) t (n), differ(n, (SELECT array_agg(s) FROM numbers)) d;
-- integers: as PostgreSQL, but an integral decimal is accepted
SELECT d.type, left(d.input, 50), d.pg, d.we FROM (VALUES ('smallint'), ('int'), ('bigint')) t (n), differ(n, (SELECT array_agg(s) FROM numbers WHERE s !~ '[.eE]')) d;
CREATE FUNCTION integral(s text, low numeric, high numeric) RETURNS text LANGUAGE plpgsql AS $$
DECLARE n numeric;
BEGIN
	n := s;
	-- beyond 64 bits the range is wrong before a fraction is
	IF abs(n) > 18446744073709551615 THEN RETURN '22003'; END IF;
	IF n <> trunc(n) THEN RETURN '22P02'; END IF;
	IF n < low OR n > high THEN RETURN '22003'; END IF;
	RETURN 'ok ' || test_codec_bytes(n::bigint)::text;
EXCEPTION WHEN OTHERS THEN RETURN '22P02';
END $$;
SELECT s, integral(s, -9223372036854775808, 9223372036854775807), we_say_3(s) FROM numbers WHERE s ~ '[.eE]' AND s !~* 'e[+-]?[0-9]{4}|inf' AND length(s) < 1000 AND
	integral(s, -9223372036854775808, 9223372036854775807) <> we_say_3(s) LIMIT 20;

CREATE FUNCTION mutations(inputs text[], n int) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE r text[]; m bytea;
BEGIN
	r := inputs;
	FOR i IN 1 .. n LOOP
		m := mutate(convert_to(inputs[1 + i % cardinality(inputs)], 'UTF8'), 1 + i % 3);
		BEGIN
			r := r || convert_from(m, 'UTF8');
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
	END LOOP;
	RETURN r;
END $$;
SELECT * FROM differ('bool', mutations('{true,false,t,f,yes,no,on,off,1,0," true ",TRUE,tRue,o,"",y,n}', 1500));
SELECT d.* FROM (VALUES ('text'), ('varchar(3)'), ('char(3)')) t (n), differ(n, mutations('{"",abc,"abc  ","äöü","äöüß","äö   ","😀😀😀","   ","    ","a\"b\\c"}', 1500)) d;
SELECT * FROM differ('uuid', mutations('{c4ca4238-a0b9-2382-0dcc-509a6f75849b,c4ca4238a0b923820dcc509a6f75849b,"{c4ca4238-a0b923820dcc-509a6f75849b}",C4CA-4238-a0b9-2382-0dcc-509a-6f75-849b}', 3000));
SELECT * FROM differ('bytea', mutations(ARRAY['\x00ff', '\xDE ad', 'abc', 'a\\b\001\377', '\x', '', 'ä\\'], 3000));
SELECT * FROM differ('inet', mutations('{10.0.0.1,10.0.0.1/8,::1,fe80::1/64}', 500));
-- words that mean another time at each reading are refused; all else alike
CREATE TABLE times AS SELECT mutations(ARRAY['2024-02-29T12:34:56.789Z', '2024-02-29 12:34:56', '2024-02-29T12:34', '2024-02-29', '2024-07-01T12:34:56+02:00', '2024-07-01T12:34:56-0530', '1999-12-31T23:59:59.999999+14', '2024-07-01 12:34:56 +02',
	'2024-07-01T12:34:56.123456789Z', '2024-07-01T12:34:56.999999949', '2024-12-31T23:59:60Z', '0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z', '1900-02-28T00:00:00-15:59', '20240102T030405Z', 'infinity', 'epoch', '2024-01-15 12:00 Europe/Berlin',
	'Jan 15 2024 12:00 PM', '2024-11-03T01:30:00 America/New_York', '294276-12-31T23:59:59Z', '4714-11-24 00:00 BC'], 8000) ||
	ARRAY['294276-12-31T23:59:59.999999Z', '294277-01-01T00:00:00Z', '294276-12-31T23:59:59.9999999Z', '294276-12-31T23:59:59.995Z', '294276-12-31T23:59:59.994Z', '294276-12-31T23:59:59.999999-01', '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00+01 BC',
		'4714-11-23 23:59:59 BC', '4713-01-01 BC', '-4713-01-01', '0000-01-01', '-infinity', '+infinity', '5874897-12-31', '5874898-01-01', '4714-11-24 BC', '4714-11-23 BC', '99999999999-01-01'] ||
	(SELECT array_agg(to_char(timestamp '0001-01-01' + random() * interval '2000 years', 'YYYY-MM-DD"T"HH24:MI:SS') || CASE WHEN i % 3 > 0 THEN '.' || digits(i % 11) ELSE '' END || (ARRAY['', 'Z', '+01', '-0330', '+12:45', ' Z'])[1 + i % 6]) FROM generate_series(1, 3000) i) ||
	(SELECT array_agg(format('%s-%s-%s', lpad((1890 + i % 250)::text, 4, '0'), lpad((i % 14)::text, 2, '0'), lpad((i % 33)::text, 2, '0'))) FROM generate_series(1, 3000) i) AS t;
SELECT d.* FROM (VALUES ('timestamptz'), ('timestamp'), ('timestamptz(2)'), ('date')) n (n), times, differ(n, t) d WHERE input !~* 'now|today|tomorrow|yesterday';
-- the session's zone changes nothing
CREATE TABLE utc AS SELECT s, we_say_16(s) AS we FROM times, unnest(t) s;
SET timezone = 'Asia/Kathmandu';
SELECT s, we, we_say_16(s) FROM utc WHERE we <> we_say_16(s);
SHOW timezone;
-- 4. no byte is read behind the padding (and the contract of the library holds)
SELECT test_codec_bounds(array_agg(convert_to(doc || doc, 'UTF8'))) > 1000 AS done FROM seeds;

--
-- Databases that are not UTF-8: messages are, so they are converted.
--
\getenv srcdir PG_ABS_SRCDIR
\set functions :srcdir '/../functions.sql'
CREATE DATABASE codec_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE codec_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c codec_latin1
SET client_encoding = 'UTF8';
\set ECHO none
\i :functions
\set ECHO all
CREATE TYPE lat AS ("ä" text, v varchar(3), c char(3), j json, b jsonb, n name, a text[]);
-- the euro sign is not in LATIN1
SELECT * FROM test_codec_decode(NULL::lat, 'json', convert_to('{"ä":"äö\u00fc","v":"äöü","c":"ö","j":{"ä" : "ß"},"b":{"ä":["ß"]},"n":"ä","a":["ä","ö\u00fc"]}', 'UTF8'));
SELECT * FROM test_codec_decode(NULL::lat, 'json', convert_to('{"\u00e4":"x"}', 'UTF8'));
SELECT octet_length("ä") FROM test_codec_decode(NULL::lat, 'json', convert_to('{"ä":"äöü"}', 'UTF8'));
SELECT test_codec_error(NULL::lat, 'json', d) FROM unnest(ARRAY[
	'\x7b22c3a4223a22e282ac227d', '\x7b2276223a22c3a4c3a4c3a4c3a4227d', '\x7b226a223a5b22e282ac225d7d', '\x7b2262223a5b22e282ac225d7d', '\x7b2262223a7b22e282ac223a317d7d', '\x7b226e223a22e282ac227d', '\x7b2261223a5b22e282ac225d7d',
	'\x7b2278223a22e282ac227d', '\x7b2278223a22ff227d']::bytea[]) d;
SELECT test_codec_encode(ROW('ä', 'ö', 'ü', '"ä"', '"ö"', 'ß', '{ä}')::lat, 'json') = convert_to('{"ä":"ä","v":"ö","c":"ü  ","j":"ä","b":"ö","n":"ß","a":["ä"]}', 'UTF8') AS same;
CREATE TYPE latr AS (v text);
SELECT test_codec_decode(NULL::latr, 'raw', '\xc3a4'), test_codec_encode(ROW('ä')::latr, 'raw'), test_codec_decode(NULL::latr, 'csv', '\x22c3a422'), test_codec_encode(ROW('ä')::latr, 'csv'), test_codec_error(NULL::latr, 'raw', '\xe282ac');
\c codec_ascii
\set ECHO none
\i :functions
\set ECHO all
CREATE TYPE asc1 AS (v text, b jsonb);
SELECT octet_length(v), octet_length(b::text) FROM test_codec_decode(NULL::asc1, 'json', '\x7b2276223a22c3a45c7530306634222c2262223a5b22c3a4225d7d');
SELECT test_codec_error(NULL::asc1, 'json', '\x7b2276223a22ff227d');
\c codec
DROP DATABASE codec_latin1;
DROP DATABASE codec_ascii;

--
-- SELECT from and INSERT into topics of a real broker.  The runner sets
-- STREAMPROC_KAFKA (address) and STREAMPROC_TOOL (kafka_tool).
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
\! for t in tx csv raw rawtext bad thrown part odd txn; do $STREAMPROC_TOOL delete $STREAMPROC_KAFKA peek_$t >/dev/null 2>&1; done
\! for t in tx part; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA peek_$t 2 >/dev/null; done
\! for t in csv raw rawtext bad thrown odd txn; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA peek_$t 1 >/dev/null; done

CREATE SERVER peek_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE peek_tx (
    tx_id uuid, card text NOT NULL, amount numeric(12,2), city text OPTIONS (json 'place.city'), at timestamptz, tags int[], more jsonb,
    p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'),
    k text OPTIONS (kafka 'key'), h jsonb OPTIONS (kafka 'headers'), n text OPTIONS (kafka 'topic'))
  SERVER peek_kafka OPTIONS (topic 'peek_tx', event_time 'at');

-- an empty topic
SELECT * FROM peek_tx;
SELECT count(*) FROM peek_tx WHERE o >= 0 AND p IN (0, 1, 5);

-- messages of others: keys, headers, a tombstone's place, disorder of timestamps
\! printf '%s\n' '0\t1767225600000\tk0\t{"tx_id": "00000000-0000-0000-0000-000000000001", "card": "a", "amount": 1.5, "place": {"city": "Ulm"}, "at": 1767225600123, "tags": [1, 2], "more": {"x": [1]}}\tsource=shop\tempty' '0\t1767225700000\t\N\t{"CARD": "b", "amount": "2.25", "at": "2026-01-01T01:02:03.5+01:00"}' '0\t1767225500000\tk2\t{"card": "c", "amount": null, "extra": true}' '0\t1767225800000\t\t{"card": "d"}' '1\t1767225650000\tk4\t{"card": "e\\u00e9", "amount": 12345.67}' | sed 's/\\t/\t/g' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_tx >/dev/null

SELECT p, o, tx_id, card, amount, city, at, tags, more FROM peek_tx ORDER BY p, o;
SELECT p, o, ts, k, h, n FROM peek_tx ORDER BY p, o;
SELECT count(*) FROM peek_tx;
SELECT peek_tx.*::text FROM peek_tx WHERE p = 1;
SELECT tableoid::regclass, card FROM peek_tx WHERE k = 'k2';

-- ranges: what is read, and what comes out
CREATE FUNCTION peek_plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query;
END $$;
SELECT peek_plan('SELECT card FROM peek_tx WHERE p = 0 AND o >= 1 AND o < 3');
SELECT card FROM peek_tx WHERE p = 0 AND o >= 1 AND o < 3;
SELECT peek_plan('SELECT card FROM peek_tx WHERE o > 0 AND o <= 1 AND p IN (0, 7, NULL)');
SELECT peek_plan('SELECT card FROM peek_tx WHERE o = 2');
SELECT peek_plan('SELECT card FROM peek_tx WHERE p > 0');
SELECT peek_plan('SELECT card FROM peek_tx WHERE o = NULL');
SELECT peek_plan('SELECT card FROM peek_tx WHERE o > 9223372036854775807');
SELECT peek_plan('SELECT card FROM peek_tx WHERE p = 3');
-- offset 2 is older than offset 1: still found, and an upper bound never cuts it off
SELECT peek_plan('SELECT card FROM peek_tx WHERE ts >= ''2026-01-01 00:01:00Z''::timestamptz AND p = 0');
SELECT p, o, card FROM peek_tx WHERE ts >= '2026-01-01 00:01:00Z' ORDER BY p, o;
SELECT p, o, card FROM peek_tx WHERE ts < '2026-01-01 00:00:00.001Z' ORDER BY p, o;
SELECT p, o, card FROM peek_tx WHERE ts = '2026-01-01 00:03:20Z' ORDER BY p, o;
SELECT p, o, card FROM peek_tx WHERE ts > '2026-01-01 00:03:19.9999Z' ORDER BY p, o;
SELECT count(*) FROM peek_tx WHERE ts > '2026-01-01 00:03:20Z';
SELECT count(*) FROM peek_tx WHERE ts > '-infinity';
SELECT count(*) FROM peek_tx WHERE ts >= 'infinity';
SELECT count(*) FROM peek_tx WHERE ts >= date '1969-01-01' AND ts >= timestamp '2026-01-01 00:00:00';

-- LIMIT, parameters, rescans
SELECT card FROM peek_tx WHERE p = 0 AND o >= 1 LIMIT 1;
PREPARE q(bigint, int[]) AS SELECT p, o, card FROM peek_tx WHERE o >= $1 AND p = ANY ($2) ORDER BY p, o;
SET plan_cache_mode = force_generic_plan;
EXECUTE q(3, '{0}');
EXECUTE q(0, '{1,1}');
EXECUTE q(NULL, '{0}');
EXECUTE q(0, NULL);
RESET plan_cache_mode;
SELECT x.n, (SELECT count(*) FROM peek_tx WHERE o < x.n) FROM (VALUES (0), (1), (3), (NULL)) x (n);
SELECT a.o, b.card FROM (VALUES (0, 2), (0, 3), (1, 0)) a (p, o) JOIN peek_tx b USING (p, o) ORDER BY a.p, a.o;
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off;
SELECT a.x, b.o, b.card FROM generate_series(1, 3) a (x) LEFT JOIN peek_tx b ON b.o = a.x AND b.p = 0 ORDER BY 1, 2;
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material;
SELECT count(*) FROM peek_tx a JOIN peek_tx b ON a.k = b.k;

-- cursors: over the end of a transaction, of a subtransaction, left open
BEGIN;
DECLARE c CURSOR FOR SELECT o, card FROM peek_tx WHERE p = 0;
FETCH 2 FROM c;
SAVEPOINT s;
DECLARE d CURSOR FOR SELECT o, card FROM peek_tx WHERE p = 1;
FETCH 1 FROM d;
ROLLBACK TO s;
FETCH 1 FROM c;
COMMIT;
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT o, card FROM peek_tx WHERE p = 0;
FETCH 1 FROM c;
COMMIT;
FETCH ALL FROM c;
CLOSE c;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT o, card FROM peek_tx WHERE p = 0;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
SELECT 1 / 0;
ROLLBACK;

-- bad records
CREATE FOREIGN TABLE peek_bad (id int NOT NULL, amount numeric(5,2), net inet, o bigint OPTIONS (kafka 'offset'))
  SERVER peek_kafka OPTIONS (topic 'peek_bad');
\! printf '%s\n' '0\t1\t\N\t{"id": 1, "amount": 1, "net": "10.0.0.1"}' '0\t1\t\N\t{"id": "x"}' '0\t1\t\N\t{"id": 1.5}' '0\t1\t\N\t{"amount": 1}' '0\t1\t\N\t{"id": 5, "amount": 10000}' '0\t1\t\N\t{"id": 6, "net": "10.0.0.0.0"}' '0\t1\t\N\tnot json' '0\t1\t\N\t{"id": 8, "amount": 8}' | sed 's/\\t/\t/g' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_bad >/dev/null
SELECT id FROM peek_bad WHERE o = 0;
SELECT id FROM peek_bad WHERE o = 1;
SELECT id FROM peek_bad WHERE o = 2;
SELECT id FROM peek_bad WHERE o = 3;
SELECT amount FROM peek_bad WHERE o = 4;
SELECT net FROM peek_bad WHERE o = 5;
SELECT id FROM peek_bad WHERE o = 6;
-- only what is used is decoded
SELECT o, id FROM peek_bad WHERE o IN (4, 5) AND o >= 4 AND o <= 5;
SELECT count(*) FROM peek_bad;
ALTER FOREIGN TABLE peek_bad OPTIONS (ADD bad_rows 'skip');
SELECT id, amount, net, o FROM peek_bad;
SELECT id, amount, o FROM peek_bad;
SELECT count(*) FROM peek_bad;
SELECT peek_plan('SELECT id FROM peek_bad');
-- what an input function leaves behind when it throws goes with the next record
CREATE FOREIGN TABLE peek_thrown (a int[]) SERVER peek_kafka OPTIONS (topic 'peek_thrown', bad_rows 'skip');
\! (yes '0\t1\t\N\t{"a": "{1,x}"}' | head -n 1000; echo '0\t1\t\N\t{}') | sed 's/\\t/\t/g' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_thrown >/dev/null
BEGIN;
DECLARE c CURSOR FOR SELECT a FROM peek_thrown;
FETCH 1 FROM c;
SELECT max(total_bytes) < 64 * 1024 AS small FROM pg_backend_memory_contexts WHERE name = 'streamproc decoder value';
COMMIT;
-- an error that no record is to blame for is thrown on, out of the subtransaction
CREATE FUNCTION peek_not_now(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''55P03'', MESSAGE = ''not now''; END';
CREATE DOMAIN peek_domain AS text CHECK (peek_not_now(VALUE));
CREATE FOREIGN TABLE peek_later (a peek_domain) SERVER peek_kafka OPTIONS (topic 'peek_thrown', bad_rows 'skip');
SELECT a FROM peek_later;
SELECT 'as before' AS session;
DROP FOREIGN TABLE peek_later;
DROP DOMAIN peek_domain;
DROP FUNCTION peek_not_now(text);
DROP FOREIGN TABLE peek_thrown;

-- a key that is no text
CREATE FOREIGN TABLE peek_key (k text OPTIONS (kafka 'key')) SERVER peek_kafka OPTIONS (topic 'peek_raw');
CREATE FOREIGN TABLE peek_keyb (k bytea OPTIONS (kafka 'key'), p int OPTIONS (kafka 'partition')) SERVER peek_kafka OPTIONS (topic 'peek_raw');
\! printf '%s\n' '0\t1\t\xff\x00\tv' '0\t1\tok\t\N' | sed 's/\\t/\t/g' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_raw >/dev/null
SELECT * FROM peek_key;
SELECT * FROM peek_keyb;

-- INSERT: json, with RETURNING
INSERT INTO peek_tx (card, amount, city, at, tags, more, p, ts, k, h)
  VALUES ('i"ü', 7.5, 'Köln', '2026-03-01 12:00Z', '{3,NULL}', '{"y": 1}', 0, '2026-03-01 12:00:00.001Z', 'kü',
          '{"a": "text", "b": null, "c": 1.50, "d": true, "e": {"f": [1]}}')
  RETURNING card, p, o, ts, h;
SELECT card, amount, city, at, tags, more, p, o, ts, k, h FROM peek_tx WHERE p = 0 AND o >= 4;
-- the key decides about the partition as it does for Java clients (murmur2)
INSERT INTO peek_tx (card, k) SELECT 'k' || i, 'key-' || i FROM generate_series(1, 8) i;
SELECT card, p FROM peek_tx WHERE k LIKE 'key-%' ORDER BY card;
-- refused
INSERT INTO peek_tx (card, o) VALUES ('x', 1);
INSERT INTO peek_tx (card, n) VALUES ('x', 'peek_tx');
INSERT INTO peek_tx (amount) VALUES (1);
INSERT INTO peek_tx (card, p) VALUES ('x', -1);
INSERT INTO peek_tx (card, ts) VALUES ('x', 'infinity');
INSERT INTO peek_tx (card, ts) VALUES ('x', '1969-12-31');
INSERT INTO peek_tx (card, h) VALUES ('x', '[1]');
\set VERBOSITY terse
INSERT INTO peek_tx (card, p) VALUES ('x', 99);
\set VERBOSITY default
-- a transaction that rolls back has sent its rows nevertheless
BEGIN;
INSERT INTO peek_tx (card, k) VALUES ('rolled back', 'rb');
ROLLBACK;
SELECT card FROM peek_tx WHERE k = 'rb';

-- csv, COPY, key option
CREATE FOREIGN TABLE peek_csv (a int, b text, c timestamptz, o bigint OPTIONS (kafka 'offset'))
  SERVER peek_kafka OPTIONS (topic 'peek_csv', format 'csv', delimiter ';', key 'a');
CREATE FOREIGN TABLE peek_csv_raw (k text OPTIONS (kafka 'key'), line text) SERVER peek_kafka OPTIONS (topic 'peek_csv', format 'raw');
COPY peek_csv (a, b, c) FROM stdin;
1	plain	2026-01-01 00:00:00Z
2	semi;colon "quoted"	\N
3		2026-01-02 00:00:00Z
\N	\N	\N
\.
SELECT * FROM peek_csv;
SELECT * FROM peek_csv_raw;

-- raw: text, and NULL is a tombstone
CREATE FOREIGN TABLE peek_rawtext (v text, k bytea OPTIONS (kafka 'key')) SERVER peek_kafka OPTIONS (topic 'peek_rawtext', format 'raw');
INSERT INTO peek_rawtext VALUES ('one', '\x00ff'), (NULL, 'gone'), ('', NULL);
SELECT v, v IS NULL AS tombstone, k FROM peek_rawtext;

-- a partition of a table
CREATE TABLE peek_parted (kind text, v int) PARTITION BY LIST (kind);
CREATE TABLE peek_local PARTITION OF peek_parted FOR VALUES IN ('local');
CREATE FOREIGN TABLE peek_remote PARTITION OF peek_parted FOR VALUES IN ('topic') SERVER peek_kafka OPTIONS (topic 'peek_part');
INSERT INTO peek_parted SELECT CASE WHEN i % 2 = 0 THEN 'topic' ELSE 'local' END, i FROM generate_series(1, 6) i;
SELECT tableoid::regclass, * FROM peek_parted ORDER BY v;

-- dropped and generated columns, domains, triggers
CREATE DOMAIN peek_positive int CHECK (value > 0);
CREATE FOREIGN TABLE peek_odd (a int, gone text, b peek_positive, twice int GENERATED ALWAYS AS (a * 2) STORED,
    o bigint OPTIONS (kafka 'offset'))
  SERVER peek_kafka OPTIONS (topic 'peek_odd');
INSERT INTO peek_odd (a, gone, b) VALUES (1, 'x', 10);
ALTER FOREIGN TABLE peek_odd DROP COLUMN gone;
ALTER FOREIGN TABLE peek_odd ADD COLUMN c text DEFAULT 'new';
\! printf '0\t1\t\\N\t{"a": 2, "b": -1}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_odd >/dev/null
INSERT INTO peek_odd (a, b) VALUES (3, 30) RETURNING *;
CREATE FUNCTION peek_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.c := new.c || '!'; RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON peek_odd FOR EACH ROW EXECUTE FUNCTION peek_trigger();
INSERT INTO peek_odd (a, b) VALUES (4, 40);
SELECT peek_odd FROM peek_odd WHERE o > 1;
SELECT a FROM peek_odd WHERE o > 1 FOR UPDATE;
SELECT a, b FROM peek_odd;
PREPARE odd AS SELECT a, b FROM peek_odd;
EXECUTE odd;
ALTER FOREIGN TABLE peek_odd OPTIONS (ADD bad_rows 'skip');
EXECUTE odd;
DEALLOCATE odd;
WITH sent AS (INSERT INTO peek_odd (a, b) SELECT i, i FROM generate_series(5, 7) i RETURNING a) SELECT sum(a) FROM sent;
SELECT count(*) FROM peek_odd;
BEGIN READ ONLY;
SELECT count(*) FROM peek_odd;
INSERT INTO peek_odd (a) VALUES (1);
ROLLBACK;

-- transactions of others: what is aborted or still open is not there
CREATE FOREIGN TABLE peek_txn (id int, o bigint OPTIONS (kafka 'offset')) SERVER peek_kafka OPTIONS (topic 'peek_txn');
\! printf '%b' '!begin\n0\t1\tk\t{"id":1}\n!commit\n!begin\n0\t1\tk\t{"id":2}\n!flush\n!abort\n!begin\n0\t1\tk\t{"id":3}\n!commit\n!begin\n0\t1\tk\t{"id":4}\n!flush\n!abort\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA peek_txn --transaction peek >/dev/null
SELECT * FROM peek_txn;
SELECT * FROM peek_txn WHERE o >= 5;
-- deleted records
\! $STREAMPROC_TOOL delete-records $STREAMPROC_KAFKA peek_txn 0 2 >/dev/null
SELECT * FROM peek_txn;
SELECT * FROM peek_txn WHERE o < 2;

-- no such topic, no such broker
CREATE FOREIGN TABLE peek_none (a int) SERVER peek_kafka OPTIONS (topic 'peek_nothing');
SELECT * FROM peek_none;
INSERT INTO peek_none VALUES (1);
INSERT INTO peek_none SELECT 1 WHERE false;
CREATE SERVER peek_down FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '127.0.0.1:1');
CREATE FOREIGN TABLE peek_unreachable (a int) SERVER peek_down OPTIONS (topic 't');
CREATE FUNCTION peek_error(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
	started timestamptz := clock_timestamp();
BEGIN
	EXECUTE query;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN sqlstate || ' ' || split_part(sqlerrm, ': ', 1) || coalesce(' | ' || replace(replace(hint, current_user, 'me'), session_user, 'owner'), '') ||
		CASE WHEN clock_timestamp() - started < '10 s' THEN '' ELSE ' | slow' END;
END $$;
SELECT peek_error('SELECT * FROM peek_unreachable');
SELECT peek_error('INSERT INTO peek_unreachable VALUES (1)');
EXPLAIN (COSTS OFF) SELECT * FROM peek_unreachable;

-- others: USAGE is enough
CREATE ROLE regress_peek_user;
GRANT USAGE ON FOREIGN SERVER peek_kafka TO regress_peek_user;
GRANT CREATE ON SCHEMA public TO regress_peek_user;
SET ROLE regress_peek_user;
CREATE USER MAPPING FOR CURRENT_USER SERVER peek_kafka;
CREATE FOREIGN TABLE peek_mine (card text, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
  SERVER peek_kafka OPTIONS (topic 'peek_tx');
SELECT card FROM peek_mine WHERE p = 0 AND o = 0;
INSERT INTO peek_mine (card, p) VALUES ('mine', 1);
SELECT card FROM peek_tx;
CREATE FOREIGN TABLE peek_not_mine (a int) SERVER peek_down OPTIONS (topic 'peek_tx');
RESET ROLE;

-- whose mapping: that of the one who selects, or of the view's owner; without one it cannot work
CREATE SERVER peek_sasl FOREIGN DATA WRAPPER streamproc_kafka
  OPTIONS (brokers '127.0.0.1:1', security_protocol 'sasl_plaintext', sasl_mechanism 'PLAIN');
CREATE FOREIGN TABLE peek_secret (a int) SERVER peek_sasl OPTIONS (topic 't');
CREATE VIEW peek_view AS SELECT * FROM peek_secret;
GRANT USAGE ON FOREIGN SERVER peek_sasl TO regress_peek_user;
GRANT SELECT, INSERT ON peek_secret, peek_view TO regress_peek_user;
SET ROLE regress_peek_user;
CREATE USER MAPPING FOR CURRENT_USER SERVER peek_sasl OPTIONS (sasl_username 'u', sasl_password 'geheim');
SELECT peek_error('SELECT * FROM peek_secret');
SELECT peek_error('INSERT INTO peek_secret VALUES (1)');
SELECT peek_error('SELECT * FROM peek_view');
SELECT peek_error('INSERT INTO peek_view VALUES (1)');
RESET ROLE;
SELECT peek_error('SELECT * FROM peek_secret');
CREATE USER MAPPING FOR PUBLIC SERVER peek_sasl OPTIONS (sasl_username 'u', sasl_password 'geheim');
SELECT peek_error('SELECT * FROM peek_secret');

DROP VIEW peek_view;
DROP FUNCTION peek_plan, peek_error;
DROP TABLE peek_parted;
DROP FOREIGN TABLE peek_tx, peek_bad, peek_key, peek_keyb, peek_csv, peek_csv_raw, peek_rawtext, peek_none, peek_unreachable,
  peek_mine, peek_secret, peek_odd, peek_txn;
DROP FUNCTION peek_trigger;
DROP DOMAIN peek_positive;
DROP OWNED BY regress_peek_user;
DROP USER MAPPING FOR PUBLIC SERVER peek_sasl;
DROP ROLE regress_peek_user;
DROP SERVER peek_kafka;
DROP SERVER peek_down;
DROP SERVER peek_sasl;

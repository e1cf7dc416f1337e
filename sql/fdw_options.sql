--
-- Options of servers, user mappings, foreign tables and columns.  Needs no broker.
--
\set VERBOSITY default
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;

-- server
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka;
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (broker 'localhost:9092');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', sasl_pasword 'x');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', sasl_password 'x');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', plugin_library_paths '/tmp/x.so');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', security_protocol 'tls');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', sasl_mechanism 'GSSAPI');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', fetch_wait_max_ms 'soon');
CREATE SERVER s FOREIGN DATA WRAPPER streamproc_kafka
  OPTIONS (brokers 'localhost:9092', security_protocol 'sasl_ssl', sasl_mechanism 'SCRAM-SHA-256', fetch_wait_max_ms '50');
ALTER SERVER s OPTIONS (DROP brokers);
ALTER SERVER s OPTIONS (SET fetch_wait_max_ms '-1');

-- user mapping
CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (brokers 'localhost:9093');
CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'fraud');
CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (sasl_username 'fraud', sasl_password 'secret');
ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (ADD sasl_user 'fraud');

-- files of the server
CREATE ROLE regress_stream_user;
GRANT USAGE ON FOREIGN DATA WRAPPER streamproc_kafka TO regress_stream_user;
GRANT USAGE ON FOREIGN SERVER s TO regress_stream_user;
SET ROLE regress_stream_user;
CREATE SERVER s2 FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', ssl_ca_location '/etc/passwd');
CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (ssl_key_location '/etc/passwd');
CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (ssl_keystore_location '/etc/passwd');
RESET ROLE;
GRANT pg_read_server_files TO regress_stream_user;
SET ROLE regress_stream_user;
CREATE SERVER s2 FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092', ssl_ca_location '/etc/passwd');
DROP SERVER s2;
RESET ROLE;

-- foreign table
CREATE FOREIGN TABLE t (a int) SERVER s;
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic '');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 'a b');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic '..');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', fromat 'json');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', offset '3');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', format 'jsn');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', format 'protobuf');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', bad_rows 'ignore');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', delimiter ';');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', format 'csv', delimiter '||');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', format 'csv', delimiter '"');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', watermark_delay 'soon');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', watermark_delay '-1 s');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', idle_timeout '1 month');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', max_ahead '106751991 days');

-- options against columns
CREATE FOREIGN TABLE t (at timestamptz) SERVER s OPTIONS (topic 't', event_time 'ta');
CREATE FOREIGN TABLE t (at timestamp) SERVER s OPTIONS (topic 't', event_time 'at');
CREATE FOREIGN TABLE t (at text) SERVER s OPTIONS (topic 't', event_time 'at');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', key 'card');
CREATE FOREIGN TABLE t (a int, k text OPTIONS (kafka 'key')) SERVER s OPTIONS (topic 't', key 'a');
CREATE FOREIGN TABLE t (a int, p int OPTIONS (kafka 'partition')) SERVER s OPTIONS (topic 't', key 'p');
CREATE FOREIGN TABLE t (a int, b int, c text) SERVER s OPTIONS (topic 't', format 'raw');
CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (topic 't', format 'raw');
CREATE FOREIGN TABLE t (a int OPTIONS (json 'a.b')) SERVER s OPTIONS (topic 't', format 'csv');

-- columns
CREATE FOREIGN TABLE t (a int OPTIONS (kafka 'ofset')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (a int OPTIONS (path 'x')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (a int OPTIONS (json 'a..b')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (a int OPTIONS (json '')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (a int OPTIONS (kafka 'partition', json 'a')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (p bigint OPTIONS (kafka 'partition')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (o int OPTIONS (kafka 'offset')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (ts timestamp OPTIONS (kafka 'timestamp')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (ts timestamptz(0) OPTIONS (kafka 'timestamp')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (k int OPTIONS (kafka 'key')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (h text[] OPTIONS (kafka 'headers')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (n int OPTIONS (kafka 'topic')) SERVER s OPTIONS (topic 't');
CREATE FOREIGN TABLE t (o bigint OPTIONS (kafka 'offset'), o2 bigint OPTIONS (kafka 'offset')) SERVER s OPTIONS (topic 't');

-- nothing of all this was made
SELECT count(*) FROM pg_class WHERE relname = 't';

-- all of them, right
CREATE FOREIGN TABLE t (a int OPTIONS (json 'x.y.z'), at timestamptz,
    p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'),
    k bytea OPTIONS (kafka 'key'), h jsonb OPTIONS (kafka 'headers'), n text OPTIONS (kafka 'topic'))
  SERVER s OPTIONS (topic 'tx', format 'json', event_time 'at', watermark_delay '2 s', idle_timeout '1 min 30 s',
    max_ahead '1 day', bad_rows 'skip');
CREATE FOREIGN TABLE t_ts (ts timestamptz OPTIONS (kafka 'timestamp')) SERVER s OPTIONS (topic 't', event_time 'ts');
CREATE FOREIGN TABLE t_csv (a int, b text) SERVER s OPTIONS (topic 't', format 'csv', delimiter '|', key 'a');
CREATE FOREIGN TABLE t_raw (k text OPTIONS (kafka 'key'), b bytea) SERVER s OPTIONS (topic 't', format 'raw', key 'k');
CREATE FOREIGN TABLE IF NOT EXISTS t (wrong int) SERVER s OPTIONS (topic 'tx', event_time 'nowhere');

-- what ALTER would break is refused, too
ALTER FOREIGN TABLE t DROP COLUMN at;
ALTER FOREIGN TABLE t ALTER COLUMN at TYPE timestamp;
ALTER FOREIGN TABLE t ALTER COLUMN o TYPE int;
ALTER FOREIGN TABLE t OPTIONS (SET event_time 'p');
ALTER FOREIGN TABLE t OPTIONS (SET format 'csv');
ALTER FOREIGN TABLE t OPTIONS (DROP topic);
ALTER FOREIGN TABLE t ALTER COLUMN a OPTIONS (ADD kafka 'key');
ALTER FOREIGN TABLE t OPTIONS (DROP event_time);
ALTER FOREIGN TABLE t DROP COLUMN at;
ALTER TABLE t_csv ADD COLUMN c int OPTIONS (kafka 'offset');

-- a rename needs its option to follow; until then use says so
ALTER FOREIGN TABLE t_ts RENAME ts TO at;
SELECT * FROM t_ts;
ALTER FOREIGN TABLE t_ts OPTIONS (SET event_time 'at');

-- plans: what is pushed down, and what is decoded
CREATE FOREIGN TABLE tx (id int, card text, amount numeric, at timestamptz,
    p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'))
  SERVER s OPTIONS (topic 'tx');
EXPLAIN (COSTS OFF) SELECT id, amount FROM tx WHERE card = 'x';
EXPLAIN (COSTS OFF) SELECT count(*) FROM tx;
EXPLAIN (COSTS OFF) SELECT tx FROM tx WHERE o >= 10 AND p = 0 LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM tx WHERE p IN (1, 2) AND 20 > o AND o = ANY ('{1,2}');
EXPLAIN (COSTS OFF) SELECT id FROM tx WHERE ts > now() - interval '1 hour' AND ts < '2030-01-01'::timestamptz;
EXPLAIN (COSTS OFF) SELECT id FROM tx WHERE p > 0 AND p = ANY (ARRAY[1::bigint, 2]);
-- not: volatile, another column, OR, other operators, payload columns
EXPLAIN (COSTS OFF) SELECT id FROM tx WHERE o > random() * 100 AND o <> 3 AND o > p AND (p = 1 OR o = 2) AND id > 5;
-- parameters, also of a subquery and of a lateral join
PREPARE q(bigint, int[]) AS SELECT id FROM tx WHERE o >= $1 AND p = ANY ($2);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE q(5, '{0,1}');
RESET plan_cache_mode;
DEALLOCATE q;
EXPLAIN (COSTS OFF) SELECT (SELECT count(*) FROM tx WHERE o < x.n) FROM (VALUES (1), (2)) x (n);
EXPLAIN (COSTS OFF) SELECT id FROM tx WHERE o > (SELECT 5);
EXPLAIN (COSTS OFF) INSERT INTO tx (id) SELECT 1;
EXPLAIN (COSTS OFF) SELECT 1 FROM tx WHERE false;

-- what a topic cannot do
UPDATE tx SET id = 1;
DELETE FROM tx;
TRUNCATE tx;
INSERT INTO tx (id) VALUES (1) ON CONFLICT DO NOTHING;

DROP FOREIGN TABLE t, t_ts, t_csv, t_raw, tx;
DROP USER MAPPING FOR CURRENT_USER SERVER s;
REVOKE USAGE ON FOREIGN SERVER s FROM regress_stream_user;
DROP SERVER s;
REVOKE USAGE ON FOREIGN DATA WRAPPER streamproc_kafka FROM regress_stream_user;
DROP ROLE regress_stream_user;

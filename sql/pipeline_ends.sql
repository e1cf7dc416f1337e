--
-- Where a pipeline begins and ends: start, stop, drain, rows that stop it,
-- positions kept by alter_pipeline, event time.
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
CREATE SCHEMA ends;
SET search_path = ends, streamproc;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
\! for t in tx time bad csv event; do $STREAMPROC_TOOL delete $STREAMPROC_KAFKA ends_$t >/dev/null 2>&1; done
\! for t in tx time bad csv; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA ends_$t 2 >/dev/null; done
CREATE SERVER ends_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE tx (id int, n int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'))
  SERVER ends_kafka OPTIONS (topic 'ends_tx');
-- 200 messages, one a second from 2026-01-01 00:00:01 on, in turn to partitions 1 and 0: offset n of both has n = offset
\! for i in $(seq 1 200); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT p, count(*), min(id), max(id), bool_and(n = o) FROM tx GROUP BY p ORDER BY p;

CREATE TABLE sink (id int, p int, o bigint);
-- Waits for the end; an error is shown, with its state, and does not end the procedure.
CREATE PROCEDURE wait(name text) LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text;
BEGIN
	PERFORM streamproc.wait_until_stopped(name, '60 s');
	RAISE INFO '%: %', name, (SELECT format('%s, %s', s.state, s.reason) FROM streamproc.stat_pipeline s WHERE pipeline = name);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RAISE INFO E'% %\ndetail: %\nhint: %', state, message, detail, hint;
END $$;
CREATE PROCEDURE run(name text, query text, start text DEFAULT 'earliest', parallelism int DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM streamproc.create_pipeline(name, query, stop => 'latest', start => start, parallelism => parallelism, on_error => 'fail');
	COMMIT;
	CALL ends.wait(name);
END $$;
CREATE FUNCTION compare(got text, expected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE n bigint; missing bigint; extra bigint;
BEGIN
	EXECUTE format('CREATE TEMP TABLE got AS %s', got);
	EXECUTE format('CREATE TEMP TABLE expected AS %s', expected);
	SELECT count(*) INTO n FROM got;
	SELECT count(*) INTO missing FROM (TABLE expected EXCEPT ALL TABLE got) x;
	SELECT count(*) INTO extra FROM (TABLE got EXCEPT ALL TABLE expected) x;
	DROP TABLE got, expected;
	RETURN format('%s rows, %s missing, %s extra', n, missing, extra);
END $$;

----------------------------------------------------------------------------
-- start
----------------------------------------------------------------------------
CALL run('a', 'INSERT INTO sink SELECT id, p, o FROM tx', 'earliest');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
SELECT partition, next_offset, stop_offset FROM position WHERE pipeline = 'a' ORDER BY partition;
TRUNCATE sink;
CALL run('b', 'INSERT INTO sink SELECT id, p, o FROM tx', 'latest');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx WHERE false');
SELECT partition, next_offset, stop_offset FROM position WHERE pipeline = 'b' ORDER BY partition;
-- the session's zone counts, not the worker's
SET timezone = 'Europe/Berlin';
CALL run('c', 'INSERT INTO sink SELECT id, p, o FROM tx', '2026-01-01 01:01:40');
SET timezone = 'UTC';
SELECT compare('TABLE sink', $$SELECT id, p, o FROM tx WHERE ts >= '2026-01-01 00:01:40Z'$$), min(id) FROM sink;
TRUNCATE sink;
CALL run('d', 'INSERT INTO sink SELECT id, p, o FROM tx', '2026-01-01 00:01:40.001+00');
SELECT compare('TABLE sink', $$SELECT id, p, o FROM tx WHERE ts > '2026-01-01 00:01:40Z'$$), min(id) FROM sink;
TRUNCATE sink;
CALL run('e', 'INSERT INTO sink SELECT id, p, o FROM tx', '2030-01-01');
SELECT count(*) FROM sink;
CALL run('f', 'INSERT INTO sink SELECT id, p, o FROM tx', '{"0": 42, "1": 97}');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx WHERE o >= CASE p WHEN 0 THEN 42 ELSE 97 END');
TRUNCATE sink;
-- a partition that is not named begins at its beginning
CALL run('g', 'INSERT INTO sink SELECT id, p, o FROM tx', '{"1": 100}');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx WHERE p = 0');
TRUNCATE sink;
-- an offset, a partition that does not exist: nothing is passed over without a word
CALL run('h', 'INSERT INTO sink SELECT id, p, o FROM tx', '{"0": 101}');
SELECT count(*) FROM position WHERE pipeline = 'h';
CALL run('i', 'INSERT INTO sink SELECT id, p, o FROM tx', '{"0": 5, "2": 0}');
SELECT drop_pipeline(pipeline) FROM stat_pipeline;

----------------------------------------------------------------------------
-- stop: what comes later is not read, and is read by the next run
----------------------------------------------------------------------------
TRUNCATE sink;
CALL run('s', 'INSERT INTO sink SELECT id, p, o FROM tx');
\! for i in $(seq 201 260); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT count(*) FROM sink;
SELECT start_pipeline('s');
CALL wait('s');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
-- once more, with nothing new
SELECT start_pipeline('s');
CALL wait('s');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
-- from now on without an end
SELECT alter_pipeline('s', stop => 'never');
SELECT start_pipeline('s');
\! for i in $(seq 261 300); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT wait_until_caught_up('s', '60 s');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
SELECT state, reason FROM stat_pipeline;
SELECT partition, next_offset, stop_offset FROM position ORDER BY partition;
-- drain: to the present ends, then stopped
\! for i in $(seq 301 340); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT stop_pipeline('s', drain => true);
CALL wait('s');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
-- an ordinary stop, and on from there
SELECT start_pipeline('s');
SELECT wait_until_caught_up('s', '60 s');
SELECT stop_pipeline('s');
CALL wait('s');
\! for i in $(seq 341 360); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT start_pipeline('s');
SELECT wait_until_caught_up('s', '60 s');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
-- created and not started
SELECT stop_pipeline('s');
SELECT create_pipeline('later', 'INSERT INTO sink SELECT -id, p, o FROM tx', active => false, stop => 'latest');
SELECT state, reason, hint FROM stat_pipeline WHERE pipeline = 'later';
SELECT wait_until_stopped('later');
SELECT start_pipeline('later');
CALL wait('later');
SELECT count(*) FILTER (WHERE id < 0), count(*) FILTER (WHERE id > 0) FROM sink;

----------------------------------------------------------------------------
-- alter_pipeline: another query, another number of tasks, the same positions
----------------------------------------------------------------------------
TRUNCATE sink;
SELECT drop_pipeline(pipeline) FROM stat_pipeline;
SELECT create_pipeline('alter', 'INSERT INTO sink SELECT id, p, o FROM tx WHERE id <= 300');
SELECT wait_until_caught_up('alter', '60 s');
SELECT alter_pipeline('alter', query => 'INSERT INTO sink SELECT id + 10000, p, o FROM tx', parallelism => 1);
\! for i in $(seq 361 400); do printf '%d\t%d\t\\N\t{"id": %d, "n": %d}\n' $((i % 2)) $((1767225600000 + i * 1000)) $i $(((i - 1) / 2)); done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_tx >/dev/null
SELECT wait_until_caught_up('alter', '60 s');
SELECT compare('TABLE sink', 'SELECT CASE WHEN id <= 300 THEN id ELSE id + 10000 END AS id, p, o FROM tx WHERE id <= 300 OR id > 360');
SELECT tasks, state FROM stat_pipeline WHERE pipeline = 'alter';
-- with another topic added: that one is read from its beginning
CREATE FOREIGN TABLE other (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER ends_kafka OPTIONS (topic 'ends_time');
\! printf '0\t0\t\\N\t{"id": 5}\n1\t0\t\\N\t{"id": 6}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_time >/dev/null
TRUNCATE sink;
SELECT alter_pipeline('alter', query => 'INSERT INTO sink SELECT id, p, o FROM tx UNION ALL SELECT id, p, o FROM other', parallelism => 3);
SELECT wait_until_caught_up('alter', '60 s');
SELECT * FROM sink ORDER BY id;
SELECT topic, partition, next_offset FROM position ORDER BY 1, 2;
SELECT drop_pipeline('alter');
SELECT count(*) FROM position;
SELECT count(*) FROM task_position;

----------------------------------------------------------------------------
-- A row that cannot be stored, computed or decoded stops the pipeline before it
----------------------------------------------------------------------------
-- What is in the sink is the query over what is before the positions; where it stopped.
CREATE FUNCTION whole(name text) RETURNS TABLE (sink text, state text, topic text, partition int, "offset" bigint, stands_there boolean, sqlstate text) LANGUAGE plpgsql AS $$
BEGIN
	-- how many rows of the other partitions are there is a matter of chance
	RETURN QUERY SELECT regexp_replace(ends.compare('TABLE ends.sink', format('SELECT id, p, o FROM ends.tx JOIN streamproc.position x ON x.pipeline = %L AND x.partition = p AND o < next_offset', name)), '^\d+ rows, ', ''),
		s.state, s.topic, s.partition, s."offset", (SELECT x.next_offset = s."offset" FROM streamproc.position x WHERE x.pipeline = name AND x.partition = s.partition), s.sqlstate
	FROM streamproc.stat_pipeline s WHERE pipeline = name;
END $$;
TRUNCATE sink;
ALTER TABLE sink ADD CONSTRAINT few CHECK (id <> 151), ALTER id SET NOT NULL;
CALL run('fail', 'INSERT INTO sink SELECT id, p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
-- it comes again where the cause stays
SELECT start_pipeline('fail');
CALL wait('fail');
SELECT * FROM whole('fail');
-- and goes on where it is gone
ALTER TABLE sink DROP CONSTRAINT few;
SELECT start_pipeline('fail');
CALL wait('fail');
SELECT * FROM whole('fail');
SELECT compare('TABLE sink', 'SELECT id, p, o FROM tx');
SELECT drop_pipeline('fail');
-- NOT NULL, with two tasks
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT nullif(id, 262), p, o FROM tx', parallelism => 2);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
-- computed: a division by zero in the first row, in the last row
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id + 0 / (n + 1 - p), p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id + 0 * (1 / (400 - id)), p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
-- a unique violation, also against a row of the same batch
TRUNCATE sink;
CREATE UNIQUE INDEX one ON sink (id);
CALL run('fail', 'INSERT INTO sink SELECT CASE id WHEN 122 THEN 120 ELSE id END, p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
DROP INDEX one;
-- a foreign key; a deferred one; a deferred unique constraint
CREATE TABLE known (id int PRIMARY KEY);
INSERT INTO known SELECT g FROM generate_series(1, 400) g WHERE g <> 77;
ALTER TABLE sink ADD CONSTRAINT known FOREIGN KEY (id) REFERENCES known;
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id, p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
ALTER TABLE sink ALTER CONSTRAINT known DEFERRABLE INITIALLY DEFERRED;
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id, p, o FROM tx', parallelism => 2);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
ALTER TABLE sink DROP CONSTRAINT known, ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED;
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT CASE id WHEN 150 THEN 148 ELSE id END, p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
ALTER TABLE sink DROP CONSTRAINT sink_id_key;
-- no partition for it; a trigger that says no; a row-level policy
CREATE TABLE parted (id int, p int, o bigint) PARTITION BY RANGE (id);
CREATE TABLE parted1 PARTITION OF parted FOR VALUES FROM (0) TO (400);
CALL run('fail', 'INSERT INTO parted SELECT id, p, o FROM tx', parallelism => 1);
SELECT state, topic, partition, "offset", sqlstate FROM stat_pipeline;
SELECT count(*) = (SELECT sum(next_offset) FROM position) AS agrees FROM parted;
SELECT drop_pipeline('fail');
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.id = 99 THEN RAISE EXCEPTION 'not this one' USING DETAIL = 'It is 99.', HINT = 'Take another.', ERRCODE = 'XY123'; END IF; RETURN new; END $$;
CREATE TRIGGER no BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION no();
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id, p, o FROM tx', parallelism => 1);
SELECT * FROM whole('fail');
SELECT drop_pipeline('fail');
DROP TRIGGER no ON sink;
-- in an upsert, in the second statement, in a WITH: all of the message or nothing
CREATE TABLE up (id int PRIMARY KEY CHECK (id <> 45), p int, o bigint);
CREATE TABLE second (id int, p int, o bigint CHECK (id <> 45));
TRUNCATE sink;
CALL run('fail', 'INSERT INTO sink SELECT id, p, o FROM tx; INSERT INTO up SELECT id, p, o FROM tx ON CONFLICT (id) DO UPDATE SET o = excluded.o', parallelism => 1);
SELECT * FROM whole('fail');
SELECT count(*) AS differ FROM up FULL JOIN sink USING (id, p, o) WHERE up IS NULL OR sink IS NULL;
SELECT drop_pipeline('fail');
TRUNCATE sink;
CALL run('fail', 'WITH x AS (INSERT INTO sink SELECT id, p, o FROM tx RETURNING *) INSERT INTO second SELECT * FROM x', parallelism => 1);
SELECT * FROM whole('fail');
SELECT count(*) AS differ FROM second FULL JOIN sink USING (id, p, o) WHERE second IS NULL OR sink IS NULL;
SELECT drop_pipeline('fail');
-- cannot be decoded: in the middle, with the rows before it kept
CREATE FOREIGN TABLE bad (id int NOT NULL, day date, n smallint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER ends_kafka OPTIONS (topic 'ends_bad');
CREATE TABLE bad_sink (id int, day date, n int);
\! (for i in $(seq 1 20); do printf '0\t0\t\\N\t{"id": %d}\n' $i; done; printf '0\t0\t\\N\t{"id": 21, "n": 40000}\n0\t0\t\\N\t{"id": 22, "day": "soon"}\n0\t0\t\\N\t{"id": null}\n0\t0\t\\N\t{"id": 24\n0\t0\t\\N\t\\N\n0\t0\t\\N\t{"id": 26, "day": "2026-02-03", "n": 7}\n') | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_bad >/dev/null
CALL run('bad', 'INSERT INTO bad_sink SELECT id, day, n FROM bad');
SELECT state, topic, partition, "offset", sqlstate, bad_rows FROM stat_pipeline;
SELECT count(*), max(id) FROM bad_sink;
-- a column that the query does not use is not decoded: it goes on to the next
SELECT alter_pipeline('bad', query => 'INSERT INTO bad_sink (id, day) SELECT id, day FROM bad');
SELECT start_pipeline('bad');
CALL wait('bad');
SELECT alter_pipeline('bad', query => 'INSERT INTO bad_sink (id) SELECT id FROM bad');
SELECT start_pipeline('bad');
CALL wait('bad');
ALTER FOREIGN TABLE bad ALTER id DROP NOT NULL;
SELECT start_pipeline('bad');
CALL wait('bad');
-- the message that is no JSON at all
SELECT partition, next_offset FROM position ORDER BY 1;
SELECT id FROM bad_sink WHERE id > 20 OR id IS NULL ORDER BY id;
SELECT drop_pipeline('bad');
-- from behind it: a tombstone is a row without values, as in SELECT
TRUNCATE bad_sink;
CALL run('bad', 'INSERT INTO bad_sink SELECT id, day, n FROM bad', start => '{"0": 24}');
SELECT * FROM bad_sink ORDER BY id;
SELECT id, day, n FROM bad WHERE o >= 24 AND p = 0 ORDER BY id;
SELECT drop_pipeline('bad');
-- csv: too many fields
CREATE FOREIGN TABLE csv (a int, b text) SERVER ends_kafka OPTIONS (topic 'ends_csv', format 'csv');
CREATE TABLE csv_sink (a int, b text);
\! printf '0\t0\t\\N\t1,one\n0\t0\t\\N\t2,"t,w,o"\n0\t0\t\\N\t3,"three\n0\t0\t\\N\t4,four\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_csv >/dev/null
CALL run('csv', 'INSERT INTO csv_sink SELECT a, b FROM csv');
TABLE csv_sink;
SELECT drop_pipeline('csv');

----------------------------------------------------------------------------
-- Event time
----------------------------------------------------------------------------
\! $STREAMPROC_TOOL create $STREAMPROC_KAFKA ends_event 3 >/dev/null
CREATE FOREIGN TABLE event (id int, at timestamptz) SERVER ends_kafka OPTIONS (topic 'ends_event', event_time 'at', watermark_delay '5 s', max_ahead '1 min');
CREATE TABLE event_sink (id int, at timestamptz);
\! printf '0\t0\t\\N\t{"id": 1, "at": "2026-01-01T00:00:10Z"}\n0\t0\t\\N\t{"id": 2, "at": "2026-01-01T00:00:30Z"}\n0\t0\t\\N\t{"id": 3, "at": "2026-01-01T00:00:20Z"}\n1\t0\t\\N\t{"id": 4, "at": 1767225612345}\n1\t0\t\\N\t{"id": 5}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_event >/dev/null
CALL run('event', 'INSERT INTO event_sink SELECT id, at FROM event');
SELECT partition, next_offset, watermark FROM position ORDER BY 1;
SELECT * FROM event_sink ORDER BY id;
-- it never goes back, and stays over runs; the query need not use the column
\! printf '0\t0\t\\N\t{"id": 6, "at": "2025-01-01T00:00:00Z"}\n1\t0\t\\N\t{"id": 7, "at": "2026-01-01T00:01:00Z"}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_event >/dev/null
SELECT alter_pipeline('event', query => 'INSERT INTO event_sink (id) SELECT id FROM event');
SELECT start_pipeline('event');
CALL wait('event');
SELECT partition, next_offset, watermark FROM position ORDER BY 1;
-- too far in the future
\! printf '2\t0\t\\N\t{"id": 8, "at": "2026-01-01T00:02:00Z"}\n2\t0\t\\N\t{"id": 9, "at": "2126-01-01T00:01:00Z"}\n' | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA ends_event >/dev/null
SELECT start_pipeline('event');
CALL wait('event');
SELECT partition, next_offset, watermark FROM position ORDER BY 1;
SELECT drop_pipeline('event');

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA ends CASCADE;
DROP SERVER ends_kafka CASCADE;

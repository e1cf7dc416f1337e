--
-- Row-wise pipelines: whatever form the statement and the sink have, the rows
-- are those of the batch query over the same topic.
--
\getenv kafka STREAMPROC_KAFKA
\set SHOW_CONTEXT errors
\set VERBOSITY default
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
CREATE SCHEMA rows;
SET search_path = rows, streamproc;
SET timezone = 'UTC';
SET datestyle = 'ISO, MDY';
\! for t in tx ev csv raw time bad dead; do $STREAMPROC_TOOL delete $STREAMPROC_KAFKA rows_$t >/dev/null 2>&1; done
\! for t in tx time; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA rows_$t 3 >/dev/null; done
\! for t in ev csv raw bad dead; do $STREAMPROC_TOOL create $STREAMPROC_KAFKA rows_$t 1 >/dev/null; done

CREATE SERVER rows_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE tx (id int, card text, amount numeric(12,2), city text, at timestamptz, tags int[], more jsonb, note text,
    p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
  SERVER rows_kafka OPTIONS (topic 'rows_tx', event_time 'at', key 'card');
CREATE FOREIGN TABLE ev (id int, card text, kind text) SERVER rows_kafka OPTIONS (topic 'rows_ev');
CREATE FOREIGN TABLE csv (id int, what text, score float8, day date) SERVER rows_kafka OPTIONS (topic 'rows_csv', format 'csv', delimiter ';');
CREATE FOREIGN TABLE raw (line text) SERVER rows_kafka OPTIONS (topic 'rows_raw', format 'raw');

-- 6000 messages, 40 cards; some with little, some with much in them
INSERT INTO tx (id, card, amount, city, at, tags, more, note)
  SELECT i, 'card-' || i * 7919 % 40, CASE WHEN i % 11 > 0 THEN (i * 37 % 10007) / 10.0 END,
    (ARRAY['Ulm', 'Köln', 'San José', '', NULL])[1 + i % 5], '2026-01-01'::timestamptz + i * interval '1.7 s',
    CASE WHEN i % 3 > 0 THEN ARRAY[i, i % 7, NULL] END, CASE WHEN i % 4 > 0 THEN jsonb_build_object('a', i % 9, 'b', jsonb_build_array(i, 'x"y')) END,
    CASE WHEN i % 500 = 0 THEN (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 700) j) END
  FROM generate_series(1, 6000) i;
INSERT INTO ev SELECT i, 'card-' || i % 60, (ARRAY['open', 'close'])[1 + i % 2] FROM generate_series(1, 500) i;
INSERT INTO csv SELECT i, CASE WHEN i % 3 = 0 THEN E'a;"b"\nc' WHEN i % 3 = 1 THEN 'plain ' || i END, i / 7.0::float8, date '2026-01-01' + i FROM generate_series(1, 300) i;
INSERT INTO raw SELECT 'line ' || i FROM generate_series(1, 300) i;
SELECT count(*), count(DISTINCT p) AS partitions, max(length(note)) FROM tx;

CREATE TABLE card (card text PRIMARY KEY, owner text, risk int);
INSERT INTO card SELECT 'card-' || i, 'owner ' || i, i % 5 FROM generate_series(0, 29) i;
CREATE TABLE limits (lo numeric, hi numeric, name text);
INSERT INTO limits VALUES (0, 100, 'low'), (100, 500, 'mid'), (400, 100000, 'high');
CREATE VIEW risky AS SELECT card, owner FROM card WHERE risk > 2;
CREATE VIEW tx_ulm AS SELECT id, card, amount FROM tx WHERE city = 'Ulm';
ANALYZE card; ANALYZE limits;

-- Runs a pipeline to the present ends of its topics.
CREATE PROCEDURE run(name text, query text, parallelism int DEFAULT NULL, start text DEFAULT 'earliest') LANGUAGE plpgsql AS $$
BEGIN
	PERFORM streamproc.create_pipeline(name, query, stop => 'latest', parallelism => parallelism, start => start);
	COMMIT;
	PERFORM streamproc.wait_until_stopped(name, '60 s');
END $$;
-- What is in one and not in the other, both ways.
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
-- The pipeline INSERT INTO a table <query> gives what the query gives.
CREATE PROCEDURE same(query text, parallelism int DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE sink AS %s WITH NO DATA', query);
	CALL rows.run('same', 'INSERT INTO rows.sink ' || query, parallelism);
	RAISE INFO '%', rows.compare('TABLE rows.sink', query);
	PERFORM streamproc.drop_pipeline('same');
	DROP TABLE sink;
END $$;

----------------------------------------------------------------------------
-- Forms of the query
----------------------------------------------------------------------------
-- columns, filters
CALL same($$SELECT id, card, amount, city, at, tags, more, note, p, o FROM tx$$);
CALL same($$SELECT * FROM tx$$, 1);
CALL same($$SELECT * FROM tx$$, 3);
CALL same($$SELECT id FROM tx WHERE amount > 900 AND city <> 'Ulm'$$);
CALL same($$SELECT id, note FROM tx WHERE note IS NOT NULL OR id % 1000 = 1$$);
CALL same($$SELECT id FROM tx WHERE false$$);
CALL same($$SELECT 1 AS one, 'text' AS two, NULL::numeric AS three FROM tx$$);
CALL same($$SELECT p, o FROM tx WHERE p = 1 AND o BETWEEN 10 AND 500$$);
-- expressions, functions, casts
CALL same($$SELECT id + 1 AS a, upper(card) || '-' || coalesce(city, '?') AS b, round(amount / 3, 4) AS c, amount::float8 AS d,
  CASE WHEN amount > 500 THEN 'high' WHEN amount IS NULL THEN 'none' ELSE amount::text END AS e,
  date_trunc('hour', at) AS f, extract(epoch FROM at) AS g, at AT TIME ZONE 'Europe/Berlin' AS h, to_char(at, 'DD.MM. HH24:MI TMDay') AS i,
  tags[1] AS j, cardinality(tags) AS k, more -> 'b' ->> 1 AS l, (more ->> 'a')::int AS m, md5(note) AS n, regexp_replace(card, '\d+', '#') AS q,
  greatest(id, 100) AS r, id BETWEEN 5 AND 10 AS s, row(id, card)::text AS t, array_append(tags, 5) AS u, nullif(city, '') AS v, id::bit(20) AS w FROM tx$$);
CALL same($$SELECT id, t AS whole, (t).card FROM tx t WHERE id < 1000$$);
CREATE FUNCTION double(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN n * 2; END';
CREATE FUNCTION owner_of(c text) RETURNS text LANGUAGE sql STABLE AS 'SELECT owner FROM rows.card WHERE card = c';
CALL same($$SELECT id, rows.double(amount) AS twice, rows.owner_of(card) AS owner FROM tx$$);
-- UNION ALL, of one topic and of two
CALL same($$SELECT id, card FROM tx WHERE id < 100 UNION ALL SELECT -id, city FROM tx WHERE id > 5900 UNION ALL SELECT id, 'all' FROM tx$$);
CALL same($$SELECT id, card, amount::text AS x FROM tx UNION ALL SELECT id, card, kind FROM ev$$, 2);
CALL same($$SELECT x.card, c.owner FROM (SELECT card FROM tx UNION ALL SELECT card FROM ev) x JOIN card c USING (card)$$);
-- joins with tables and views
CALL same($$SELECT t.id, c.owner FROM tx t JOIN card c USING (card) WHERE c.risk = 3$$);
CALL same($$SELECT t.id, c.owner FROM tx t LEFT JOIN card c USING (card)$$);
CALL same($$SELECT t.id, c.owner FROM card c RIGHT JOIN tx t USING (card) WHERE coalesce(c.risk, 0) < 2$$);
CALL same($$SELECT t.id, l.name, c.owner FROM tx t LEFT JOIN limits l ON t.amount >= l.lo AND t.amount < l.hi LEFT JOIN card c ON c.card = t.card AND l.name = 'high'$$);
CALL same($$SELECT t.id, l.name FROM tx t, limits l WHERE t.id < 300$$);
CALL same($$SELECT t.id, r.owner FROM tx t JOIN risky r USING (card)$$);
CALL same($$SELECT t.id, c.n FROM tx t LEFT JOIN (SELECT risk, count(*) AS n FROM card GROUP BY risk) c ON c.risk = t.id % 7$$);
CALL same($$SELECT t.id, a.owner AS a, b.owner AS b FROM tx t JOIN card a USING (card) LEFT JOIN card b ON b.risk = a.risk AND b.card <> a.card$$);
CALL same($$SELECT t.id, v.x FROM tx t JOIN (VALUES (1, 'one'), (2, 'two')) v (n, x) ON v.n = t.id % 5$$);
-- subqueries over tables
CALL same($$SELECT id FROM tx WHERE card IN (SELECT card FROM card WHERE risk = 1)$$);
CALL same($$SELECT id FROM tx WHERE card NOT IN (SELECT card FROM card)$$);
CALL same($$SELECT id FROM tx t WHERE EXISTS (SELECT FROM card c WHERE c.card = t.card AND c.risk > t.id % 3)$$);
CALL same($$SELECT id FROM tx t WHERE NOT EXISTS (SELECT FROM card c WHERE c.card = t.card)$$);
CALL same($$SELECT id, (SELECT owner FROM card c WHERE c.card = t.card) AS owner FROM tx t$$);
CALL same($$SELECT id, (SELECT max(owner) FROM card) AS last, (SELECT count(*) FROM limits) + id AS n FROM tx WHERE id > (SELECT sum(risk) FROM card)$$);
CALL same($$SELECT id, ARRAY(SELECT name FROM limits l WHERE l.lo <= t.amount ORDER BY name) AS names FROM tx t$$);
-- LATERAL and set-returning functions
CALL same($$SELECT t.id, x.* FROM tx t, LATERAL (SELECT name, hi - t.amount AS left FROM limits l WHERE l.hi > t.amount ORDER BY hi LIMIT 1) x$$);
CALL same($$SELECT t.id, x.n FROM tx t LEFT JOIN LATERAL (SELECT count(*) AS n FROM card c WHERE c.risk = t.id % 7) x ON true$$);
CALL same($$SELECT id, unnest(tags) AS tag, generate_series(1, id % 3) AS n FROM tx$$);
CALL same($$SELECT id, g, e.key, e.value FROM tx, generate_series(id, id + 1) g, jsonb_each(more) e WHERE id < 2000$$);
CALL same($$SELECT id, u.tag, u.n FROM tx LEFT JOIN LATERAL unnest(tags) WITH ORDINALITY u (tag, n) ON u.tag > 3$$);
-- WITH, subqueries in FROM, views over the topic
CALL same($$SELECT a, b || 'x' AS c FROM (SELECT id * 2 AS a, city AS b FROM tx WHERE id > 10) s WHERE a < 9000$$);
CALL same($$WITH s AS (SELECT id, card FROM tx WHERE id > 3000), c AS MATERIALIZED (SELECT * FROM card WHERE risk < 4) SELECT s.id, c.owner FROM s LEFT JOIN c USING (card)$$);
CALL same($$WITH s AS MATERIALIZED (SELECT id, card FROM tx) SELECT id FROM s WHERE id < 50 UNION ALL SELECT -id FROM s WHERE id > 5950$$);
CALL same($$WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT t.id, n.i FROM tx t JOIN n ON t.id % n.i = 0 WHERE t.id < 500$$);
CALL same($$SELECT u.*, c.owner FROM tx_ulm u LEFT JOIN card c USING (card)$$);
-- other formats
CALL same($$SELECT * FROM csv$$);
CALL same($$SELECT what, day FROM csv WHERE score > 10$$);
CALL same($$SELECT line, length(line) FROM raw WHERE line LIKE '%7'$$);

----------------------------------------------------------------------------
-- Forms of the sink
----------------------------------------------------------------------------
-- defaults, identity, generated columns, a dropped column, columns in another order
CREATE TABLE s1 (n int GENERATED ALWAYS AS IDENTITY, gone int, day date DEFAULT '2026-02-01', amount numeric, twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
  card text, label text DEFAULT 'new ' || 1 + 1, id int PRIMARY KEY);
ALTER TABLE s1 DROP COLUMN gone;
ALTER TABLE s1 ADD COLUMN later text DEFAULT 'later';
CREATE INDEX ON s1 (lower(card)); CREATE INDEX ON s1 USING brin (amount); CREATE UNIQUE INDEX ON s1 (id) WHERE amount > 10;
CALL run('s1', $$INSERT INTO s1 (card, id, amount) SELECT card, id, amount FROM tx$$);
SELECT compare($$SELECT id, card, amount, twice, day, label, later FROM s1$$, $$SELECT id, card, amount, amount * 2 AS a, date '2026-02-01' AS b, 'new 2' AS c, 'later' AS d FROM tx$$);
SELECT count(DISTINCT n), min(n) > 0 FROM s1;
-- the index is whole
SET enable_seqscan = off;
SELECT count(*) FROM s1 WHERE lower(card) = 'card-3';
RESET enable_seqscan;
SELECT count(*) FROM tx WHERE card = 'card-3';

-- partitioned, two levels, with a default partition; and straight into a partition
CREATE TABLE s2 (id int, card text, amount numeric) PARTITION BY RANGE (amount);
CREATE TABLE s2a PARTITION OF s2 FOR VALUES FROM (0) TO (300) PARTITION BY HASH (card);
CREATE TABLE s2a0 PARTITION OF s2a FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s2a1 (amount numeric, x int, card text, id int);
ALTER TABLE s2a1 DROP COLUMN x;
ALTER TABLE s2a ATTACH PARTITION s2a1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE s2b PARTITION OF s2 DEFAULT;
CALL run('s2', $$INSERT INTO s2 SELECT id, card, amount FROM tx$$);
SELECT compare('TABLE s2', 'SELECT id, card, amount FROM tx');
SELECT count(DISTINCT tableoid) FROM s2;
TRUNCATE s2;
CALL run('s2b', $$INSERT INTO s2b SELECT id, card, amount FROM tx WHERE amount >= 300 OR amount IS NULL$$);
SELECT compare('TABLE s2', 'SELECT id, card, amount FROM tx WHERE amount >= 300 OR amount IS NULL');

-- row triggers that change, leave out, and write elsewhere; statement triggers with the new rows
CREATE TABLE s3 (id int, card text);
CREATE TABLE s3_log (id int, what text);
CREATE FUNCTION s3_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.id % 10 = 0 THEN RETURN NULL; END IF;
	new.card = new.card || '!';
	RETURN new;
END $$;
CREATE FUNCTION s3_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO rows.s3_log VALUES (new.id, 'after');
	RETURN NULL;
END $$;
CREATE FUNCTION s3_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO rows.s3_log SELECT id, 'statement' FROM new_rows;
	RETURN NULL;
END $$;
CREATE TRIGGER before BEFORE INSERT ON s3 FOR EACH ROW EXECUTE FUNCTION s3_before();
CREATE TRIGGER after AFTER INSERT ON s3 FOR EACH ROW EXECUTE FUNCTION s3_after();
CREATE TRIGGER statement AFTER INSERT ON s3 REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION s3_statement();
CALL run('s3', $$INSERT INTO s3 SELECT id, card FROM tx$$);
SELECT compare('TABLE s3', $$SELECT id, card || '!' FROM tx WHERE id % 10 > 0$$);
SELECT compare('TABLE s3_log', $$SELECT id, what FROM tx, (VALUES ('after'), ('statement')) v (what) WHERE id % 10 > 0$$);
-- a statement trigger alone
DROP TRIGGER before ON s3; DROP TRIGGER after ON s3;
TRUNCATE s3, s3_log;
CALL run('s3b', $$INSERT INTO s3 SELECT id, card FROM tx$$);
SELECT compare('SELECT id FROM s3', 'SELECT id FROM tx'), compare('SELECT id FROM s3_log', 'SELECT id FROM tx');
-- an AFTER trigger as constraint, deferred
CREATE TABLE s3c (id int);
CREATE CONSTRAINT TRIGGER after AFTER INSERT ON s3c DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION s3_after();
TRUNCATE s3_log;
CALL run('s3c', $$INSERT INTO s3c SELECT id FROM tx$$);
SELECT compare('SELECT id FROM s3c', 'SELECT id FROM tx'), compare('SELECT id FROM s3_log', 'SELECT id FROM tx');

-- domains, foreign keys, checks, exclusion: kept
CREATE DOMAIN small AS int CHECK (VALUE < 100000);
CREATE DOMAIN word AS text NOT NULL;
CREATE TABLE s4 (id small PRIMARY KEY, card word REFERENCES card, amount numeric CHECK (amount >= 0), EXCLUDE USING btree (id WITH =));
CALL run('s4', $$INSERT INTO s4 SELECT id, t.card, amount FROM tx t JOIN card USING (card)$$);
SELECT compare('SELECT id::int, card::text, amount FROM s4', 'SELECT id, t.card, amount FROM tx t JOIN card USING (card)');

-- several statements, one read of the topic
CREATE TABLE s5a (id int); CREATE TABLE s5b (id int, card text); CREATE TABLE s5c (kind text);
CALL run('s5', $$INSERT INTO s5a SELECT id FROM tx WHERE amount > 500; INSERT INTO s5b SELECT id, card FROM tx; INSERT INTO s5c SELECT kind FROM ev;
  INSERT INTO s5a SELECT -id FROM ev$$, 3);
SELECT compare('TABLE s5a', 'SELECT id FROM tx WHERE amount > 500 UNION ALL SELECT -id FROM ev'), compare('TABLE s5b', 'SELECT id, card FROM tx'), compare('TABLE s5c', 'SELECT kind FROM ev');
SELECT rows_in, rows_out = (SELECT count(*) FROM s5a) + (SELECT count(*) FROM s5b) + (SELECT count(*) FROM s5c) AS all_out FROM stat_pipeline WHERE pipeline = 's5';

-- WITH x AS (INSERT ... RETURNING ...) INSERT ...
CREATE TABLE s6a (n bigserial, id int, amount numeric); CREATE TABLE s6b (n bigint, card text); CREATE TABLE s6c (id int);
CALL run('s6', $$WITH x AS (INSERT INTO s6a (id, amount) SELECT id, amount FROM tx WHERE amount > 800 RETURNING n, id, amount)
  INSERT INTO s6b SELECT n, 'row ' || id FROM x WHERE amount > 900$$);
SELECT compare('SELECT id, amount FROM s6a', 'SELECT id, amount FROM tx WHERE amount > 800'),
  compare('SELECT s6a.id FROM s6a JOIN s6b USING (n)', 'SELECT id FROM tx WHERE amount > 900');
TRUNCATE s6a, s6b;
CALL run('s6c', $$WITH s AS (SELECT id, amount FROM tx WHERE id > 5000), x AS (INSERT INTO s6a (id, amount) SELECT * FROM s RETURNING id), y AS (INSERT INTO s6c SELECT id FROM s WHERE amount > 100)
  INSERT INTO s6b SELECT id, 'x' FROM x$$);
SELECT compare('SELECT id, amount FROM s6a', 'SELECT id, amount FROM tx WHERE id > 5000'), compare('SELECT id FROM s6c', 'SELECT id FROM tx WHERE id > 5000 AND amount > 100'),
  compare('SELECT n FROM s6b', 'SELECT id FROM tx WHERE id > 5000');

-- row-level security: as the owner, who is no superuser
CREATE ROLE rows_user LOGIN;
GRANT USAGE ON SCHEMA rows TO rows_user; GRANT USAGE ON FOREIGN SERVER rows_kafka TO rows_user;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO rows_user;
GRANT SELECT ON tx, card TO rows_user;
CREATE TABLE s7 (id int, card text);
GRANT INSERT, SELECT ON s7 TO rows_user;
ALTER TABLE s7 ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON s7 FOR INSERT TO rows_user WITH CHECK (id <= 5000);
CREATE POLICY seen ON s7 FOR SELECT TO rows_user USING (id % 2 = 0);
ALTER TABLE card ENABLE ROW LEVEL SECURITY;
CREATE POLICY calm ON card FOR SELECT TO rows_user USING (risk < 2);
SET ROLE rows_user;
CALL run('s7', $$INSERT INTO s7 SELECT t.id, t.card FROM tx t JOIN card c USING (card) WHERE t.id <= 5000$$);
SELECT count(*) > 0, count(*) FILTER (WHERE id % 2 = 1) FROM s7;
RESET ROLE;
SELECT compare('TABLE s7', 'SELECT t.id, t.card FROM tx t JOIN card c USING (card) WHERE t.id <= 5000 AND c.risk < 2');
ALTER TABLE card DISABLE ROW LEVEL SECURITY;

-- values that are stored out of line, compressed and not
CREATE TABLE s8 (id int, note text, more text);
ALTER TABLE s8 ALTER note SET STORAGE EXTERNAL;
CALL run('s8', $$INSERT INTO s8 SELECT id, note, repeat(note, 10) FROM tx WHERE note IS NOT NULL$$);
SELECT compare('TABLE s8', 'SELECT id, note, repeat(note, 10) FROM tx WHERE note IS NOT NULL'), pg_relation_size(reltoastrelid) > 0 AS toasted FROM pg_class WHERE oid = 's8'::regclass;

-- a composite column, an array of a domain, whole rows
CREATE TYPE pair AS (a int, b text);
CREATE TABLE s9 (v pair, w small[], x tx);
CALL run('s9', $$INSERT INTO s9 SELECT ROW(id, card)::pair, ARRAY[id], t FROM tx t WHERE id < 500$$);
SELECT compare('SELECT v, w::int[], (x).id FROM s9', 'SELECT ROW(id, card)::pair AS v, ARRAY[id] AS w, id FROM tx WHERE id < 500');

----------------------------------------------------------------------------
-- ON CONFLICT: as if each message were applied on its own, in order
----------------------------------------------------------------------------
CREATE TABLE copied AS SELECT *, row_number() OVER (ORDER BY p, o) AS seq FROM tx;
ALTER TABLE copied ADD PRIMARY KEY (seq);
-- Applies the statement, with COPIED in place of the topic, message by message.
CREATE PROCEDURE one_by_one(query text) LANGUAGE plpgsql AS $$
DECLARE i bigint;
BEGIN
	FOR i IN SELECT seq FROM rows.copied ORDER BY seq LOOP
		EXECUTE replace(query, 'FROM tx', 'FROM (SELECT * FROM rows.copied WHERE seq = $1)') USING i;
	END LOOP;
END $$;
CREATE PROCEDURE same_upsert(target text, key text, query text, parallelism int DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE sink (%s)', target);
	EXECUTE format('CREATE UNIQUE INDEX ON sink %s', key);
	CALL rows.one_by_one(query);
	CREATE TABLE expected AS TABLE sink;
	TRUNCATE sink;
	RAISE INFO '%', (SELECT execution FROM streamproc.check_pipeline(query));
	CALL rows.run('upsert', query, parallelism);
	RAISE INFO '%', rows.compare('TABLE rows.sink', 'TABLE rows.expected');
	PERFORM streamproc.drop_pipeline('upsert');
	DROP TABLE sink, expected;
END $$;
CALL same_upsert('card text, id int', '(card)', $$INSERT INTO sink SELECT card, id FROM tx x ON CONFLICT DO NOTHING$$);
CALL same_upsert('card text, id int', '(card)', $$INSERT INTO sink SELECT card, id FROM tx x ON CONFLICT (card) DO NOTHING$$, 3);
CALL same_upsert('card text, id int', '(card)', $$INSERT INTO sink SELECT card, id FROM tx x ON CONFLICT (card) DO UPDATE SET id = excluded.id$$, 3);
CALL same_upsert('card text, n int, total numeric, ids int[]', '(card)', $$INSERT INTO sink AS s SELECT card, 1, amount, ARRAY[id] FROM tx x
  ON CONFLICT (card) DO UPDATE SET n = s.n + 1, total = coalesce(s.total, 0) + coalesce(excluded.total, 0), ids = s.ids[greatest(1, cardinality(s.ids) - 5):] || excluded.ids$$, 1);
CALL same_upsert('card text, n int, total numeric, ids int[]', '(card)', $$INSERT INTO sink AS s SELECT card, 1, amount, ARRAY[id] FROM tx x
  ON CONFLICT (card) DO UPDATE SET n = s.n + 1, total = coalesce(s.total, 0) + coalesce(excluded.total, 0), ids = s.ids[greatest(1, cardinality(s.ids) - 5):] || excluded.ids$$, 3);
CALL same_upsert('card text, best numeric, id int', '(card)', $$INSERT INTO sink AS s SELECT card, amount, id FROM tx x WHERE id % 2 = 0
  ON CONFLICT (card) DO UPDATE SET best = excluded.best, id = excluded.id WHERE excluded.best > s.best$$, 2);
-- two key columns, NULLs in them
CALL same_upsert('city text, card text, n int', '(city, card)', $$INSERT INTO sink AS s SELECT city, card, 1 FROM tx x ON CONFLICT (city, card) DO UPDATE SET n = s.n + 1$$, 1);
CALL same_upsert('city text, card text, n int', '(city, card) NULLS NOT DISTINCT', $$INSERT INTO sink AS s SELECT city, card, 1 FROM tx x ON CONFLICT (city, card) DO UPDATE SET n = s.n + 1$$, 1);
-- descending, included columns, another collation
CALL same_upsert('city text COLLATE "C", card text, n int', '(card DESC, city COLLATE "POSIX" NULLS FIRST) INCLUDE (n)', $$INSERT INTO sink AS s SELECT city, card, 1 FROM tx x WHERE city IS NOT NULL ON CONFLICT (card, city COLLATE "POSIX") DO UPDATE SET n = s.n + 1$$, 1);
-- a set-returning function: a message may hold a key twice, which is an error by the statement itself; here it does not
CALL same_upsert('tag int, n int', '(tag)', $$INSERT INTO sink AS s SELECT u, 1 FROM tx x, unnest(tags[2:2]) u ON CONFLICT (tag) DO UPDATE SET n = s.n + 1$$, 1);
-- init plans in the select list and in DO UPDATE
CALL same_upsert('card text, n bigint', '(card)', $$INSERT INTO sink AS s SELECT card, (SELECT count(*) FROM limits) FROM tx x WHERE id > (SELECT count(*) FROM card) ON CONFLICT (card) DO UPDATE SET n = s.n + (SELECT max(risk) FROM card)$$, 1);
-- row by row: expression index, partial index, several indexes, nested, generated column, BEFORE trigger
CALL same_upsert('card text, n int', '(lower(card))', $$INSERT INTO sink AS s SELECT card, 1 FROM tx x ON CONFLICT (lower(card)) DO UPDATE SET n = s.n + 1$$);
CALL same_upsert('card text, id int', '(card) WHERE id > 100', $$INSERT INTO sink AS s SELECT card, id FROM tx x WHERE id < 3000 ON CONFLICT (card) WHERE id > 100 DO UPDATE SET id = excluded.id + 1$$);
CALL same_upsert('card text PRIMARY KEY, id int', '((id % 40))', $$INSERT INTO sink AS s SELECT card, id FROM tx x ON CONFLICT DO NOTHING$$);
-- a key that a lookup table keeps out of line outlives the snapshot it was read with
CREATE TABLE wide (card text PRIMARY KEY, long text);
ALTER TABLE wide ALTER long SET STORAGE EXTERNAL;
INSERT INTO wide SELECT DISTINCT card, rpad(card, 2500, 'x') FROM tx WHERE card IS NOT NULL;
CALL same_upsert('long text, n int', '(long)', $$INSERT INTO sink AS s SELECT w.long, 1 FROM tx x JOIN rows.wide w USING (card) ON CONFLICT (long) DO UPDATE SET n = s.n + 1$$, 2);
CALL same_upsert('card text, n int, g text GENERATED ALWAYS AS (right(card, 1)) STORED', '(g)', $$INSERT INTO sink AS s SELECT 'c' || right(card, 1), 1 FROM tx x ON CONFLICT (g) DO UPDATE SET n = s.n + 1$$);
-- a dropped column
CREATE TABLE s10c (gone int, card text PRIMARY KEY, n int);
ALTER TABLE s10c DROP gone;
CALL run('s10c', $$INSERT INTO s10c AS s SELECT card, 1 FROM tx ON CONFLICT (card) DO UPDATE SET n = s.n + 1$$);
SELECT compare('TABLE s10c', 'SELECT card, count(*)::int FROM tx GROUP BY card');
-- into partitions; with generated, identity and default columns
CREATE TABLE s10 (card text, n int, seen timestamptz, twice int GENERATED ALWAYS AS (n * 2) STORED, label text DEFAULT 'x', PRIMARY KEY (card)) PARTITION BY HASH (card);
CREATE TABLE s10a PARTITION OF s10 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s10b (label text DEFAULT 'x', twice int GENERATED ALWAYS AS (n * 2) STORED, seen timestamptz, n int, card text NOT NULL);
ALTER TABLE s10 ATTACH PARTITION s10b FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CALL run('s10', $$INSERT INTO s10 AS s (card, n, seen) SELECT card, 1, at FROM tx ON CONFLICT (card) DO UPDATE SET n = s.n + 1, seen = excluded.seen$$);
SELECT compare('TABLE s10', $$SELECT card, count(*)::int, max(at), 2 * count(*)::int AS a, 'x' AS b FROM tx GROUP BY card$$);
-- nested, and what it returns
CREATE TABLE s11 (card text PRIMARY KEY, id int); CREATE TABLE s11_first (card text, id int);
CALL run('s11', $$WITH x AS (INSERT INTO s11 SELECT card, id FROM tx ON CONFLICT DO NOTHING RETURNING *) INSERT INTO s11_first SELECT * FROM x$$);
SELECT compare('TABLE s11', 'SELECT DISTINCT ON (card) card, id FROM tx ORDER BY card, o'), compare('TABLE s11_first', 'TABLE s11');
-- two upserts of one read, into two tables; AFTER triggers see each change
CREATE TABLE s12a (card text PRIMARY KEY, n int); CREATE TABLE s12b (city text PRIMARY KEY, n int); CREATE TABLE s12_log (op text, n int);
CREATE FUNCTION s12_after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO rows.s12_log VALUES (tg_op, new.n); RETURN NULL; END $$;
CREATE TRIGGER after AFTER INSERT OR UPDATE ON s12a FOR EACH ROW EXECUTE FUNCTION s12_after();
CALL run('s12', $$INSERT INTO s12a SELECT card, 1 FROM tx ON CONFLICT (card) DO UPDATE SET n = s12a.n + 1;
  INSERT INTO s12b SELECT city, 1 FROM tx WHERE city IS NOT NULL ON CONFLICT (city) DO UPDATE SET n = s12b.n + 1$$, 3);
SELECT compare('TABLE s12a', 'SELECT card, count(*)::int FROM tx GROUP BY card'), compare('TABLE s12b', 'SELECT city, count(*)::int FROM tx WHERE city IS NOT NULL GROUP BY city'),
  compare('TABLE s12_log', $$SELECT CASE WHEN n = 1 THEN 'INSERT' ELSE 'UPDATE' END, n::int FROM (SELECT row_number() OVER (PARTITION BY card) AS n FROM tx) x$$);
-- with row-level security
CREATE TABLE s13 (card text PRIMARY KEY, n int);
GRANT INSERT, SELECT, UPDATE ON s13 TO rows_user;
ALTER TABLE s13 ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON s13 TO rows_user USING (true) WITH CHECK (n < 1000000);
SET ROLE rows_user;
CALL run('s13', $$INSERT INTO s13 SELECT card, 1 FROM tx ON CONFLICT (card) DO UPDATE SET n = s13.n + 1$$);
RESET ROLE;
SELECT compare('TABLE s13', 'SELECT card, count(*)::int FROM tx GROUP BY card');

-- one message with a key twice: row after row, too
CREATE TABLE s14 (n int PRIMARY KEY, x int);
CALL run('s14', $$INSERT INTO s14 SELECT id, g FROM tx, generate_series(1, CASE WHEN id = 3000 THEN 2 ELSE 1 END) g ON CONFLICT (n) DO UPDATE SET x = excluded.x$$);
SELECT count(*) FROM s14;
SELECT * FROM s14 WHERE x > 1;

-- subqueries in DO UPDATE, WITH queries over the topic
CALL same_upsert('card text, owner text, n int', '(card)', $$INSERT INTO sink AS s SELECT card, NULL, 1 FROM tx x ON CONFLICT (card) DO UPDATE SET owner = (SELECT owner FROM rows.card c WHERE c.card = excluded.card), n = s.n + excluded.n$$, 2);
CALL same_upsert('card text, owner text, n int', '(card)', $$INSERT INTO sink AS s SELECT card, NULL, 1 FROM tx x ON CONFLICT (card) DO UPDATE SET (owner, n) = (SELECT c.owner, s.n + excluded.n FROM rows.card c WHERE c.card = excluded.card) WHERE EXISTS (SELECT FROM rows.card c WHERE c.card = s.card)$$, 2);
CALL same_upsert('card text, n int, x text', '(card)', $$WITH y AS MATERIALIZED (SELECT card, id FROM tx x), z AS (SELECT max(risk) AS m FROM rows.card) INSERT INTO sink AS s SELECT card, 1, 'a' FROM y ON CONFLICT (card) DO UPDATE SET n = s.n + 1, x = (SELECT m FROM z)::text$$, 2);
CALL same_upsert('card text, n int, w text', '(card)', $$INSERT INTO sink AS s SELECT card, 1, note FROM tx x ON CONFLICT (card) DO UPDATE SET n = s.n + 1, w = coalesce(excluded.w, s.w), card = excluded.card$$, 3);

----------------------------------------------------------------------------
-- More of both
----------------------------------------------------------------------------
CALL same($$SELECT tableoid::regclass::text AS t, id FROM tx$$);
CALL same($$SELECT t::text AS whole, t IS NULL AS n, ROW(t.*)::text AS r FROM tx t$$);
CREATE TABLE s20 (n int GENERATED ALWAYS AS IDENTITY, id int, v int[], w card);
CALL run('s20', 'INSERT INTO s20 (n, id, v[2], w.owner) OVERRIDING SYSTEM VALUE SELECT id + 5, id, id, card FROM tx');
SELECT compare('SELECT n, id, v[2] AS v, (w).owner FROM s20', 'SELECT id + 5 AS n, id, id AS v, card FROM tx');
CALL run('s20b', 'INSERT INTO s20 (n, id) OVERRIDING USER VALUE SELECT id + 5, -id FROM tx WHERE id < 5');
SELECT count(*) FROM s20 WHERE id < 0;
CREATE TABLE s21 (card text CONSTRAINT one PRIMARY KEY, n int);
CALL run('s21', 'INSERT INTO s21 SELECT card, 1 FROM tx UNION ALL SELECT card, 10 FROM tx ON CONFLICT ON CONSTRAINT one DO UPDATE SET n = s21.n + excluded.n', 3);
SELECT compare('TABLE s21', 'SELECT card, 11 * count(*)::int AS n FROM tx GROUP BY card');
CREATE TABLE s22 (id int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('c', 'x'); PERFORM set_config('search_path', 'pg_catalog', false); RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON s22 FOR EACH ROW EXECUTE FUNCTION note();
CALL run('s22', 'INSERT INTO rows.s22 SELECT id FROM tx');
SELECT count(*) FROM s22;
CREATE TABLE s23 (id int, e name DEFAULT current_user, at timestamptz DEFAULT now(), t timestamptz DEFAULT clock_timestamp(), u uuid DEFAULT gen_random_uuid());
CALL run('s23', 'INSERT INTO s23 (id) SELECT id FROM tx');
SELECT count(*), count(DISTINCT u), count(DISTINCT e), max(at) <= now() FROM s23;
CREATE TABLE s24 (a int, b int) ;
CALL run('s24', 'INSERT INTO s24 SELECT id FROM tx');
SELECT count(*), count(b) FROM s24;
CREATE TABLE s25 (LIKE s24); ALTER TABLE s25 ADD COLUMN c int GENERATED ALWAYS AS (a + 1) STORED, ADD CHECK (c > a), ADD COLUMN d text DEFAULT 'q' NOT NULL; CREATE INDEX ON s25 USING gin (to_tsvector('simple', d)); CREATE INDEX ON s25 USING hash (a); CREATE STATISTICS s25s ON a, c FROM s25;
CALL run('s25', 'INSERT INTO s25 SELECT id, n FROM tx, generate_series(1, 3) n');
SELECT count(*), sum(c - a), count(d) FROM s25;

-- what is left: finished pipelines only
SELECT state, reason, count(*) FROM stat_pipeline GROUP BY 1, 2;
SELECT count(drop_pipeline(pipeline)) AS dropped FROM stat_pipeline;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA rows CASCADE;
DROP SERVER rows_kafka CASCADE;
DROP OWNED BY rows_user;
DROP ROLE rows_user;

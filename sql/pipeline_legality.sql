--
-- What a pipeline may be: each condition that is refused at creation, with
-- SQLSTATE, place in the text and hint, and the forms that are accepted.
-- Nothing here asks a broker: the server's address answers nobody.
--
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;
CREATE SCHEMA legality;
SET search_path = legality, streamproc;

CREATE SERVER legal_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '127.0.0.1:9');
CREATE SERVER legal_other FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '127.0.0.1:9');
CREATE FOREIGN TABLE tx (id int, card text, amount numeric, at timestamptz,
    p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
  SERVER legal_kafka OPTIONS (topic 'legal_tx', event_time 'at');
CREATE FOREIGN TABLE ev (id int, card text) SERVER legal_kafka OPTIONS (topic 'legal_ev');
CREATE FOREIGN TABLE far (id int, card text) SERVER legal_other OPTIONS (topic 'legal_far');
CREATE TABLE card (card text PRIMARY KEY, owner text);
CREATE TABLE sink (id int, card text, amount numeric);
CREATE TABLE sink2 (id int, card text, amount numeric);
CREATE TABLE total (card text PRIMARY KEY, n int, amount numeric);

----------------------------------------------------------------------------
-- Refused
----------------------------------------------------------------------------

-- the text
SELECT create_pipeline('bad', '');
\echo :SQLSTATE
SELECT create_pipeline('bad', ' ; -- nothing ');
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELEKT id FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx WHERE ünknown > 1$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx;
  INSERT INTO nowhere SELECT id FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT $1, card, amount FROM tx$$);
\echo :SQLSTATE

-- other commands than INSERT
SELECT create_pipeline('bad', $$SELECT id, card FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$UPDATE sink s SET amount = t.amount FROM tx t WHERE t.id = s.id$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$DELETE FROM sink s USING tx t WHERE t.id = s.id$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$MERGE INTO sink s USING tx t ON t.id = s.id WHEN MATCHED THEN DELETE$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx; TRUNCATE sink$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$CREATE TABLE t AS SELECT * FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$EXPLAIN INSERT INTO sink SELECT id, card, amount FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx RETURNING id, 1$$);
\echo :SQLSTATE

-- no topic, or not where it counts
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT 1, card, 2 FROM card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink VALUES (1, 'a', 2)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx; INSERT INTO sink2 DEFAULT VALUES$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (INSERT INTO sink SELECT id, card, amount FROM tx RETURNING id)
  INSERT INTO sink2 SELECT 1, card, 2 FROM card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (INSERT INTO sink SELECT id, card, amount FROM tx) INSERT INTO sink2 VALUES (1, 'a', 2)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (INSERT INTO sink VALUES (1, 'a', 2) RETURNING id)
  INSERT INTO sink2 SELECT t.id, t.card, t.amount FROM tx t, x$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (DELETE FROM card RETURNING card)
  INSERT INTO sink2 SELECT t.id, t.card, t.amount FROM tx t JOIN x USING (card)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH i AS (INSERT INTO sink SELECT id, card, amount FROM tx RETURNING card),
  u AS (UPDATE card c SET owner = 'x' FROM i WHERE i.card = c.card RETURNING c.card) INSERT INTO sink2 SELECT 1, card, 2 FROM u$$);
\echo :SQLSTATE

-- more than one row at a time
SELECT create_pipeline('bad', $$INSERT INTO total SELECT card, count(*), sum(amount) FROM tx GROUP BY card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT max(id) FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx GROUP BY card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx GROUP BY GROUPING SETS ((card), ())$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT 1 FROM tx HAVING true$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT (SELECT sum(t.amount) FROM card) FROM tx t$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT DISTINCT id, card, amount FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT DISTINCT ON (card) id, card, amount FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT lead(amount) OVER (PARTITION BY card ORDER BY at), card, amount FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, lag(amount) OVER w FROM tx WINDOW w AS (ORDER BY o)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx LIMIT 10$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx OFFSET 10$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx ORDER BY amount$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, c.card, t.amount FROM tx t JOIN card c USING (card) FOR UPDATE OF c$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT * FROM (SELECT id, card, amount FROM tx ORDER BY id LIMIT 1) x$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (SELECT card, count(*) AS n FROM tx GROUP BY card) INSERT INTO sink (card) SELECT card FROM x$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT x.n FROM card c, LATERAL (SELECT count(*) AS n FROM tx t WHERE t.card = c.card) x$$);
\echo :SQLSTATE

-- set operations
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx UNION SELECT id FROM ev$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx INTERSECT SELECT id FROM ev$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx EXCEPT ALL SELECT id FROM ev$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx UNION ALL SELECT card FROM card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx UNION ALL SELECT card FROM ev LIMIT 1$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx UNION ALL (SELECT card FROM tx UNION SELECT card FROM ev)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx UNION ALL (SELECT max(card) FROM ev)$$);
\echo :SQLSTATE

-- joins
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, a.amount FROM tx a JOIN tx b ON a.id = b.id$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, a.amount FROM tx a, ev b$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (SELECT * FROM tx) INSERT INTO sink SELECT a.id, b.card, a.amount FROM x a, x b$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at >= a.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at <= a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id < b.id AND b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + b.id * interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '1 mon'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '100 years' * 2$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '200000 days'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '1 day' + interval '1 hour'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at - interval '1 hour' BETWEEN a.at AND a.at + interval '1 day'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN (SELECT id, card, date_trunc('day', at) AS at FROM tx) b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND date_trunc('hour', b.at) BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a LEFT JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '1 min' AND random() < 0.5$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a FULL JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at AND a.at + interval '1 min' AND b.card IN (SELECT card FROM card)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a LEFT JOIN tx b ON a.id = b.id WHERE b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.at::date = b.at::timestamp AND b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON ARRAY[a.amount] = ARRAY[b.amount] AND b.at BETWEEN a.at AND a.at + interval '1 min'$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at = a.at JOIN tx c ON c.id = b.id AND c.at = b.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a, LATERAL (SELECT * FROM tx x WHERE x.id = a.id) b WHERE a.id = b.id AND a.at = b.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM (SELECT DISTINCT ON (id) * FROM tx ORDER BY id, at) a JOIN tx b ON a.id = b.id AND b.at = a.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, max(b.card), count(*) FROM tx a JOIN tx b ON a.id = b.id AND b.at = a.at GROUP BY a.id$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, row_number() OVER (PARTITION BY a.id ORDER BY b.at) FROM tx a LEFT JOIN tx b ON a.id = b.id AND b.at = a.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at = a.at UNION ALL SELECT id, card, 1 FROM ev$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at = a.at$$, emit => 'changes');
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH i AS (INSERT INTO sink2 SELECT id, card, 1 FROM ev) INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a JOIN tx b ON a.id = b.id AND b.at = a.at$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH i AS (INSERT INTO sink2 SELECT id, card, 1 FROM tx RETURNING id, card) INSERT INTO total SELECT card, count(*), 1 FROM i GROUP BY card ON CONFLICT (card) DO UPDATE SET n = excluded.n, amount = excluded.amount$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT a.id, (a.x).card, 1 FROM (SELECT x, id, at FROM (SELECT id, card, at FROM tx) x) a JOIN tx b ON a.id = b.id AND b.at = a.at$$);
\echo :SQLSTATE
SELECT plan FROM check_pipeline($$INSERT INTO sink SELECT a.id, b.card, 1 FROM tx a LEFT JOIN tx b ON a.id = b.id AND b.at BETWEEN a.at - interval '1 min' AND a.at + interval '8 min' AND a.amount > b.amount WHERE a.card > 'a' AND b.card IS NULL$$);
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, c.card, t.amount FROM tx t FULL JOIN card c ON c.card = t.card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, c.card, t.amount FROM card c LEFT JOIN tx t ON c.card = t.card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, c.card, t.amount FROM tx t RIGHT JOIN card c ON c.card = t.card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, c.card, t.amount FROM card c LEFT JOIN (tx t JOIN card d ON d.card = t.card) ON c.card = t.card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT x.id, c.card, x.amount FROM card c LEFT JOIN LATERAL (SELECT * FROM tx t WHERE t.card = c.card) x ON true$$);
\echo :SQLSTATE

-- subqueries over the topic in expressions
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM card WHERE card IN (SELECT card FROM tx)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx t WHERE EXISTS (SELECT FROM ev e WHERE e.id = t.id)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM tx t WHERE NOT EXISTS (SELECT FROM tx e WHERE e.o > t.o)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card, id) SELECT card, (SELECT id FROM ev LIMIT 1) FROM tx t$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (SELECT id FROM tx) INSERT INTO sink (id) SELECT id FROM tx WHERE id = ANY (SELECT id FROM x)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT t.id FROM tx t JOIN card c ON c.card = (SELECT max(card) FROM ev)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) VALUES ((SELECT max(id) FROM tx))$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO total (card, n) SELECT card, 1 FROM tx ON CONFLICT (card) DO UPDATE SET n = (SELECT max(id) FROM ev)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT t.id FROM tx t, generate_series(1, (SELECT max(id) FROM ev)) g$$);
\echo :SQLSTATE

-- recursion
SELECT create_pipeline('bad', $$WITH RECURSIVE r AS (SELECT id, card FROM tx UNION ALL SELECT id + 1, card FROM r WHERE id < 10)
  INSERT INTO sink (id, card) SELECT id, card FROM r$$);
\echo :SQLSTATE

-- hidden in a view, in a child
CREATE VIEW counted AS SELECT card, count(*) AS n FROM tx GROUP BY card;
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM counted$$);
\echo :SQLSTATE
CREATE VIEW plain AS SELECT id, card FROM tx;
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT a.card FROM plain a JOIN ev b USING (id)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT c.card FROM card c LEFT JOIN plain p USING (card)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT card FROM card WHERE card IN (SELECT card FROM plain)$$);
\echo :SQLSTATE
CREATE TABLE parent (id int, card text);
CREATE FOREIGN TABLE child () INHERITS (parent) SERVER legal_kafka OPTIONS (topic 'legal_child');
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM parent$$);
\echo :SQLSTATE
CREATE TABLE parted (id int, card text) PARTITION BY LIST (id);
CREATE FOREIGN TABLE parted1 PARTITION OF parted FOR VALUES IN (1) SERVER legal_kafka OPTIONS (topic 'legal_part');
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM parted$$);
\echo :SQLSTATE

-- targets
SELECT create_pipeline('bad', $$INSERT INTO tx (id, card) SELECT id, card FROM tx$$);
\echo :SQLSTATE
CREATE FOREIGN DATA WRAPPER legal_nothing;
CREATE SERVER legal_nothing FOREIGN DATA WRAPPER legal_nothing;
CREATE FOREIGN TABLE elsewhere (id int) SERVER legal_nothing;
SELECT create_pipeline('bad', $$INSERT INTO elsewhere SELECT id FROM tx$$);
\echo :SQLSTATE
CREATE VIEW sink_view AS SELECT * FROM sink;
SELECT create_pipeline('bad', $$INSERT INTO sink_view SELECT id, card, amount FROM tx$$);
\echo :SQLSTATE
CREATE TEMP TABLE sink_temp (id int);
SELECT create_pipeline('bad', $$INSERT INTO sink_temp SELECT id FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT tx.id FROM tx JOIN sink_temp USING (id)$$);
\echo :SQLSTATE
CREATE UNLOGGED TABLE sink_unlogged (id int);
SELECT create_pipeline('bad', $$INSERT INTO sink_unlogged SELECT id FROM tx$$);
\echo :SQLSTATE
CREATE TABLE sink_rule (id int);
CREATE RULE r AS ON INSERT TO sink_rule DO ALSO INSERT INTO sink (id) VALUES (new.id);
SELECT create_pipeline('bad', $$INSERT INTO sink_rule SELECT id FROM tx$$);
\echo :SQLSTATE
CREATE MATERIALIZED VIEW sink_mat AS SELECT 1 AS id;
SELECT create_pipeline('bad', $$INSERT INTO sink_mat SELECT id FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH x AS (INSERT INTO sink_unlogged SELECT id FROM tx RETURNING id) INSERT INTO sink (id) SELECT id FROM x$$);
\echo :SQLSTATE
-- partitions of a target that are not safe
CREATE TABLE sink_parted (id int) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE sink_parted1 PARTITION OF sink_parted FOR VALUES FROM (0) TO (10);
SELECT create_pipeline('bad', $$INSERT INTO sink_parted SELECT id FROM tx$$);
\echo :SQLSTATE
DROP TABLE sink_parted1;
CREATE FOREIGN TABLE sink_parted1 PARTITION OF sink_parted FOR VALUES FROM (0) TO (10) SERVER legal_kafka OPTIONS (topic 'legal_out');
SELECT create_pipeline('parted_topic', $$INSERT INTO sink_parted SELECT id FROM tx$$, active => false);
SELECT drop_pipeline('parted_topic');
\echo :SQLSTATE
DROP FOREIGN TABLE sink_parted1;
CREATE TABLE sink_parted1 PARTITION OF sink_parted FOR VALUES FROM (0) TO (10);

-- the target is read
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT t.id, t.card, t.amount FROM tx t LEFT JOIN sink s USING (id) WHERE s.id IS NULL$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, (SELECT count(*) FROM sink) FROM tx t$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx WHERE id NOT IN (SELECT id FROM sink_view)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink_parted SELECT id FROM tx WHERE id NOT IN (SELECT id FROM sink_parted1)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink_parted1 SELECT id FROM tx WHERE id NOT IN (SELECT id FROM sink_parted)$$);
\echo :SQLSTATE
-- also by another statement: it would see the rows of the batches until now
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT id, card, amount FROM tx;
  INSERT INTO sink2 SELECT t.id, s.card, s.amount FROM tx t JOIN sink s USING (id)$$);
\echo :SQLSTATE

-- objects of the session, columns that rows of a topic do not have
CREATE FUNCTION pg_temp.f(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT pg_temp.f(id) FROM tx$$);
\echo :SQLSTATE
CREATE TYPE pg_temp.t AS (a int);
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT (ROW(id)::pg_temp.t).a FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx WHERE xmin IS NOT NULL$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (card) SELECT t.ctid FROM tx t$$);
\echo :SQLSTATE

-- two clusters
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx UNION ALL SELECT id FROM far$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink (id) SELECT id FROM tx; INSERT INTO sink2 (id) SELECT id FROM far$$);
\echo :SQLSTATE

-- parallelism where rows have to be applied one by one
CREATE TABLE total_expr (card text, n int);
CREATE UNIQUE INDEX ON total_expr (lower(card));
SELECT create_pipeline('bad', $$INSERT INTO total_expr SELECT card, 1 FROM tx ON CONFLICT (lower(card)) DO NOTHING$$, parallelism => 2);
\echo :SQLSTATE

-- alter_pipeline and check_pipeline refuse the same
SELECT create_pipeline('good', $$INSERT INTO sink SELECT id, card, amount FROM tx$$, active => false);
SELECT alter_pipeline('good', query => $$INSERT INTO sink SELECT id, card, amount FROM tx LIMIT 1$$);
\echo :SQLSTATE
SELECT * FROM check_pipeline($$INSERT INTO sink SELECT id, card, amount FROM tx LIMIT 1$$);
\echo :SQLSTATE
-- what was refused left nothing behind
SELECT pipeline, state FROM stat_pipeline;
SELECT proname FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace;
SELECT drop_pipeline('good');

----------------------------------------------------------------------------
-- Accepted
----------------------------------------------------------------------------

CREATE FUNCTION accepted(query text) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT format('%s. %s <- %s: %s, %s%s%s', statement, sink, array_to_string(sources, ' '), result, execution,
    CASE WHEN NOT deterministic THEN ', not deterministic' END, E'\n' || nullif(array_to_string(notes, E'\n'), ''))
  FROM streamproc.check_pipeline(query) $$;
SELECT accepted($$INSERT INTO sink SELECT id, card, amount FROM tx$$);
SELECT accepted($$INSERT INTO sink SELECT id, upper(card), CASE WHEN amount > 1 THEN amount::int ELSE 0 END FROM tx WHERE amount BETWEEN 1 AND 2$$);
SELECT accepted($$INSERT INTO sink SELECT id, card, amount * random() FROM tx$$);
SELECT accepted($$INSERT INTO sink (id, card) SELECT id, tableoid::regclass FROM tx$$);
SELECT accepted($$INSERT INTO sink (id) SELECT id FROM tx WHERE at > now() - interval '1 day'$$);
SELECT accepted($$INSERT INTO sink SELECT id, card, amount FROM tx UNION ALL SELECT id, card, 0 FROM ev UNION ALL SELECT -id, card, amount FROM tx WHERE id > 5$$);
SELECT accepted($$INSERT INTO sink SELECT t.id, c.owner, t.amount FROM tx t JOIN card c USING (card)$$);
SELECT accepted($$INSERT INTO sink SELECT t.id, c.owner, t.amount FROM tx t LEFT JOIN card c USING (card)$$);
SELECT accepted($$INSERT INTO sink SELECT t.id, c.owner, t.amount FROM card c RIGHT JOIN tx t USING (card)$$);
SELECT accepted($$INSERT INTO sink SELECT t.id, c.owner, t.amount FROM tx t LEFT JOIN (SELECT card, max(owner) AS owner FROM card GROUP BY card ORDER BY 2 LIMIT 10) c USING (card)$$);
SELECT accepted($$INSERT INTO sink SELECT t.id, c.owner, t.amount FROM tx t, LATERAL (SELECT owner FROM card c WHERE c.card = t.card ORDER BY owner LIMIT 1) c$$);
SELECT accepted($$INSERT INTO sink SELECT id, card, amount FROM tx t WHERE card IN (SELECT card FROM card) AND NOT EXISTS (SELECT FROM card c WHERE c.owner = t.card)$$);
SELECT accepted($$INSERT INTO sink SELECT id, card, (SELECT count(*) FROM card) FROM tx$$);
SELECT accepted($$INSERT INTO sink (id) SELECT generate_series(1, id) FROM tx$$);
SELECT accepted($$INSERT INTO sink (id) SELECT g FROM tx, generate_series(1, id) g$$);
SELECT accepted($$INSERT INTO sink SELECT * FROM (SELECT id, card, amount FROM tx) x WHERE id > 1$$);
SELECT accepted($$INSERT INTO sink WITH x AS (SELECT id, card FROM tx) SELECT q.id, q.card, q.n FROM (SELECT p.*, 1 AS n FROM (SELECT r.* FROM (SELECT * FROM x) r) p) q$$);
SELECT accepted($$WITH x AS (SELECT id, card FROM tx), y AS (SELECT * FROM card) INSERT INTO sink SELECT x.id, y.owner, 1 FROM x JOIN y USING (card)$$);
SELECT accepted($$WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) INSERT INTO sink SELECT t.id, t.card, r.n FROM tx t, r$$);
SELECT accepted($$INSERT INTO sink (id, card) SELECT id, card FROM plain$$);
SELECT accepted($$WITH x AS (INSERT INTO sink SELECT id, card, amount FROM tx WHERE amount > 5 RETURNING id, card) INSERT INTO sink2 (id, card) SELECT id, card FROM x$$);
SELECT accepted($$INSERT INTO sink SELECT id, card, amount FROM tx; INSERT INTO sink2 (id) SELECT id FROM ev; INSERT INTO sink SELECT id, card, 1 FROM ev;$$);
SELECT accepted($$INSERT INTO sink_parted SELECT id FROM tx$$);
SELECT accepted($$INSERT INTO total SELECT card, 1, amount FROM tx ON CONFLICT DO NOTHING$$);
SELECT accepted($$INSERT INTO total AS t SELECT card, 1, amount FROM tx ON CONFLICT (card) DO UPDATE SET n = t.n + 1, amount = t.amount + excluded.amount WHERE excluded.amount > 0$$);
SELECT accepted($$INSERT INTO total SELECT card, 1, (SELECT count(*) FROM card) FROM tx ON CONFLICT (card) DO UPDATE SET n = (SELECT max(length(card)) FROM card)$$);
SELECT accepted($$INSERT INTO total_expr SELECT card, 1 FROM tx ON CONFLICT (lower(card)) DO UPDATE SET n = total_expr.n + 1$$);
SELECT accepted($$WITH x AS (INSERT INTO total SELECT card, 1, amount FROM tx ON CONFLICT DO NOTHING RETURNING card) INSERT INTO sink (card) SELECT card FROM x$$);
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER noop BEFORE INSERT ON total FOR EACH ROW EXECUTE FUNCTION noop();
SELECT accepted($$INSERT INTO total SELECT card, 1, amount FROM tx ON CONFLICT (card) DO NOTHING$$);
CREATE TRIGGER noop AFTER INSERT ON sink FOR EACH STATEMENT EXECUTE FUNCTION noop();
SELECT accepted($$INSERT INTO sink SELECT id, card, amount FROM tx$$);
-- the plan shows it
SELECT plan FROM check_pipeline($$INSERT INTO sink2 SELECT t.id, c.owner, t.amount FROM tx t JOIN card c USING (card) WHERE t.amount > 1000$$);

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA legality CASCADE;
DROP SERVER legal_kafka CASCADE;
DROP SERVER legal_other CASCADE;
DROP FOREIGN DATA WRAPPER legal_nothing CASCADE;

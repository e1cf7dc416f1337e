--
-- Sessions: the window function against an expression of PostgreSQL's own, and what a pipeline does with them is
-- refused at creation, with SQLSTATE, place in the text and hint.  Nothing here asks a broker.
--
\set SHOW_CONTEXT errors
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
CREATE SCHEMA ses;
SET search_path = ses, streamproc, public;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

----------------------------------------------------------------------------
-- The function
----------------------------------------------------------------------------

CREATE TABLE ev (k text, at timestamptz);
INSERT INTO ev SELECT 'k' || i % 7, '2026-01-01 12:00Z'::timestamptz + (i * i % 5003) * interval '1 s' FROM generate_series(1, 900) i;
INSERT INTO ev SELECT 'edge', '2026-01-01 12:00Z'::timestamptz + s * interval '1 s' FROM unnest('{0,10,20,30.000001,40,40,51}'::numeric[]) s;

-- rows exactly a gap apart belong together; a microsecond more, and they do not
SELECT at::time, session(at, '10 s') OVER (PARTITION BY k ORDER BY at) FROM ev WHERE k = 'edge' ORDER BY at;

-- gaps and islands (0 rows)
WITH island AS (SELECT k, at, gap, sum(b) OVER (PARTITION BY gap, k ORDER BY at, n) AS i FROM (
		SELECT k, at, gap, row_number() OVER o AS n, coalesce(at - lag(at) OVER o > gap, false)::int AS b FROM ev, unnest('{1 us,1 s,10 s,7.5 s,1 min,1 day}'::interval[]) gap WINDOW o AS (PARTITION BY gap, k ORDER BY at)) x),
	expected AS (SELECT gap, k, tstzrange(min(at), max(at) + gap) AS win, count(*) AS n FROM island GROUP BY gap, k, i),
	got AS (SELECT interval '1 us' AS gap, k, session(at, '1 us') OVER w AS win FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)
		UNION ALL SELECT '1 s', k, session(at, '1 s') OVER w FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)
		UNION ALL SELECT '10 s', k, session(at, '10 s') OVER w FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)
		UNION ALL SELECT '7.5 s', k, session(at, gap => '7.5 s') OVER w FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)
		UNION ALL SELECT '1 min', k, session(at, '1 min', NULL) OVER w FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)
		UNION ALL SELECT '1 day', k, session(at, '1 day') OVER w FROM ev WINDOW w AS (PARTITION BY k ORDER BY at)),
	found AS (SELECT gap, k, win, count(*) AS n FROM got GROUP BY gap, k, win)
(TABLE expected EXCEPT ALL TABLE found) UNION ALL (TABLE found EXCEPT ALL TABLE expected);

-- max_span: the row so long after the first one begins another, and each cut counts from its own first row
SELECT at::time, session(at, '10 s', max_span => '20 s') OVER (ORDER BY at) FROM unnest('{12:00:00,12:00:08,12:00:16,12:00:19.999999,12:00:20,12:00:29,12:00:40,12:00:41}'::time[]) t, LATERAL (SELECT '2026-01-01Z'::timestamptz + t AS at) x ORDER BY at;

-- what has no time has no session, at either end
SELECT at, session(at, '1 h') OVER (ORDER BY at) FROM unnest('{NULL,-infinity,2026-01-01 12:00,2026-01-01 12:30,infinity}'::timestamptz[]) at;
SELECT at, session(at, '1 h') OVER (ORDER BY at NULLS FIRST) FROM unnest('{NULL,NULL,2026-01-01 12:00}'::timestamptz[]) at;
-- beside others, with frames, which it does not look at
SELECT at::time, count(*) OVER w, session(at, '10 s') OVER w, row_number() OVER w FROM ev WHERE k = 'edge' WINDOW w AS (ORDER BY at ROWS 1 PRECEDING) ORDER BY at;
SELECT count(*) FROM (SELECT session(at, '10 s') OVER (ORDER BY at) FROM ev WHERE false) x;

-- refused, by a batch query too
SELECT session(at, '0') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, '-1 s') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 mon') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 mon -29 days') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 s', '0 s') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, NULL) OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, at - '2026-01-01') OVER (ORDER BY at) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 s') OVER (ORDER BY at DESC) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 s') OVER (ORDER BY k) FROM ev;
\echo :SQLSTATE
SELECT session(at, '1 day') OVER (ORDER BY at) FROM unnest('{294276-12-31 12:00}'::timestamptz[]) at;
\echo :SQLSTATE
SELECT session(at, '1 s') FROM ev;
\echo :SQLSTATE

----------------------------------------------------------------------------
-- Refused by pipelines
----------------------------------------------------------------------------

CREATE SERVER ses_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '127.0.0.1:9');
CREATE FOREIGN TABLE tx (id int, card text, amount numeric, at timestamptz, sent timestamptz, tags text[]) SERVER ses_kafka OPTIONS (topic 'ses_tx', event_time 'at');
CREATE TABLE sink (card text, win tstzrange, n bigint);
CREATE TABLE card (card text PRIMARY KEY, owner text, amount numeric);
CREATE VIEW tx_session AS SELECT card, amount, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx;

-- the session is not grouped by
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at), 1 FROM tx$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, 1 FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, NULL, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT NULL, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, NULL, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, lower(win)$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, amount, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win, amount > 5$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, n FROM (SELECT card, win, n FROM (SELECT card, amount AS n, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s) r GROUP BY card, win, n$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, NULL, count(*) FROM tx_session GROUP BY card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$WITH s AS (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) INSERT INTO sink SELECT card, NULL, count(*) FROM s GROUP BY card$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY ROLLUP (card, win)$$);
\echo :SQLSTATE

-- what session() itself may be
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(sent, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(sent, '5 min') OVER (PARTITION BY card ORDER BY sent) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at DESC) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, id * interval '1 s') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '0') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '36501 days') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '1 mon') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, NULL) OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min', max_span => id * interval '1 h') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min', max_span => '-1 h') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, max(n) FROM (SELECT card, row_number() OVER w AS n, session(at, '5 min') OVER w AS win FROM tx WINDOW w AS (PARTITION BY card ORDER BY at)) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, NULL, count(*) FROM (SELECT card, upper(session(at, '5 min') OVER (PARTITION BY card ORDER BY at)) AS e FROM tx) s GROUP BY card, e$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, unnest(tags), session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(max(at), '5 min') OVER (PARTITION BY card ORDER BY max(at)) AS win FROM tx GROUP BY card) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, session_slice(at, '5 min', NULL), count(*) FROM tx GROUP BY 1, 2$$);
\echo :SQLSTATE

-- conditions and joins above that take some rows of a session
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, amount, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s WHERE amount > 5 GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s WHERE lower(win) > '2026-01-01' GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s WHERE random() < 0.5 GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT s.card, win, count(*) FROM (SELECT card, amount, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s JOIN card c ON c.card = s.card AND c.amount < s.amount GROUP BY s.card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM (SELECT card, tags, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s, unnest(s.tags) u GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT s.card, win, count(*) FROM (SELECT card, amount, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s, LATERAL (SELECT FROM card c WHERE c.amount = s.amount) l GROUP BY s.card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT NULL, win, count(*) FROM (SELECT amount, session(at, '5 min') OVER (PARTITION BY amount ORDER BY at) AS win FROM tx) s WHERE amount::text <> '1.0' GROUP BY amount, win$$);
\echo :SQLSTATE

-- the session inside of aggregates and subqueries; a whole row
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(win) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT s.card, win, (SELECT count(*) FROM card c WHERE win IS NOT NULL) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY s.card, win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(s) FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
\echo :SQLSTATE

-- over sessions: other groups, window functions
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT NULL, win, sum(n) FROM (SELECT card, win, count(*) AS n FROM (SELECT card, session(at, '5 min') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win) g GROUP BY win$$);
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, row_number() OVER (PARTITION BY card ORDER BY lower(win)) FROM (SELECT card, win FROM tx_session GROUP BY card, win) g$$);
\echo :SQLSTATE

-- options: a session is given out once
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM tx_session GROUP BY card, win$$, emit => 'changes');
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM tx_session GROUP BY card, win$$, emit => 'every 5 s');
\echo :SQLSTATE
SELECT create_pipeline('bad', $$INSERT INTO sink SELECT card, win, count(*) FROM tx_session GROUP BY card, win$$, late => 'update', allowed_lateness => '1 min');
\echo :SQLSTATE

----------------------------------------------------------------------------
-- Accepted
----------------------------------------------------------------------------

SELECT statement, result, deterministic, plan FROM check_pipeline($$INSERT INTO sink SELECT card, win, count(*) FROM tx_session GROUP BY card, win HAVING upper(win) - lower(win) > '10 min'$$);
SELECT plan FROM check_pipeline($$INSERT INTO sink SELECT card, win, count(amount) FROM (SELECT card, amount, session(at, '90 s') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s JOIN card c USING (card, amount) GROUP BY card, amount, win$$);
\echo :SQLSTATE
SELECT plan FROM check_pipeline($$INSERT INTO sink SELECT card, win, count(DISTINCT amount) FROM (SELECT card, amount, session(at, '90 s', max_span => '1 hour') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s GROUP BY card, win$$);
SELECT plan FROM check_pipeline($$INSERT INTO sink SELECT c.owner, win, count(s.amount) FROM (SELECT card, amount, session(at, '90 s') OVER (PARTITION BY card ORDER BY at) AS win FROM tx) s JOIN card c USING (card) WHERE c.owner > 'A' AND card > 'b' GROUP BY card, c.owner, win$$);

DROP SCHEMA ses CASCADE;
DROP SERVER ses_kafka;

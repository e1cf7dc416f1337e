--
-- Windows of event time: tumble, hop, cumulate against expressions of PostgreSQL's own, calendars and the nights in
-- which clocks are set, and what is refused.
--
\getenv kafka STREAMPROC_KAFKA
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
CREATE SCHEMA win;
SET search_path = win, public;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- times near the setting of clocks, before the epoch and the origin, on borders and just beside them
CREATE TABLE times AS
SELECT DISTINCT t + d AS at
FROM unnest('{2024-03-31 01:00,2024-10-27 00:00,2024-10-27 01:00,2024-11-03 05:00,2024-03-10 05:00,1969-12-31 23:59:59.999999,1970-01-01,1970-01-05,2000-01-01,2024-02-29 12:00,0044-03-15 12:00 BC}'::timestamptz[]) t,
	unnest('{0,1 us,-1 us,1 h,-1 h,30 min,61 min,5 days,-40 days,1 year,-7 min,23 h}'::interval[]) d;
SELECT count(*) FROM times;

-- fixed sizes: date_bin() with the origin (0 rows)
SELECT at, size, w.* FROM times, unnest('{1 us,7 s,1 min,7 min,1 h,6 h,24 h,1000 h}'::interval[]) size, streamproc.tumble(at, size) w
WHERE (w.window_start, w.window_end) IS DISTINCT FROM (date_bin(size, at, '1970-01-01'), date_bin(size, at, '1970-01-01') + size);
SELECT at, w.* FROM times, streamproc.tumble(at, '10 min', origin => '2024-01-01 00:03+00') w
WHERE w.window_start IS DISTINCT FROM date_bin('10 min', at, '2024-01-01 00:03+00');
-- one time after the other, each on a border or beside it (0 rows)
SELECT at, w.* FROM generate_series('2024-01-01'::timestamptz, '2024-01-01 00:01', '500 ms') at, streamproc.tumble(at, '1 s') w
WHERE (w.window_start, w.window_end) IS DISTINCT FROM (date_trunc('second', at), date_trunc('second', at) + interval '1 s');
-- zones with other minutes have their own hours
SELECT * FROM streamproc.tumble('2024-06-01 12:00+00', '1 h', 'Asia/Kathmandu');

-- days and months of a zone: date_trunc() (0 rows)
SELECT zone, at, w.* FROM times, unnest('{UTC,Europe/Berlin,America/New_York,Asia/Kolkata,Pacific/Apia,Australia/Lord_Howe}'::text[]) zone, streamproc.tumble(at, '1 day', zone) w
WHERE w.window_start IS DISTINCT FROM date_trunc('day', at, zone);
SELECT zone, at, unit, w.* FROM times, unnest('{UTC,Europe/Berlin,America/New_York,Asia/Kolkata}'::text[]) zone,
	(VALUES ('week', '7 days'::interval), ('week', '1 week'), ('month', '1 month'), ('quarter', '3 months'), ('year', '1 year'), ('decade', '10 years')) u (unit, size), streamproc.tumble(at, size, zone) w
WHERE w.window_start IS DISTINCT FROM date_trunc(unit, at, zone);

-- each time lies in its window, and the next one begins where it ends (0 rows); also where midnight does not exist or comes twice
CREATE TABLE nights AS
SELECT z.zone, t + d AS at FROM (VALUES ('America/Havana', '2024-11-03 04:00+00'::timestamptz), ('America/Havana', '2024-03-10 05:00'), ('Africa/Cairo', '2023-04-28 22:00'),
	('America/Sao_Paulo', '2018-11-04 03:00'), ('America/Sao_Paulo', '2018-02-18 02:00'), ('Pacific/Apia', '2011-12-30 10:00'), ('Europe/Berlin', '2024-10-27 00:00')) z (zone, t),
	LATERAL (SELECT i * interval '30 min' AS d FROM generate_series(-52, 52) i) x;
SELECT zone, at, size, w.* FROM nights, unnest('{1 day,2 days,1 week,1 month,1 year}'::interval[]) size, streamproc.tumble(at, size, zone) w,
	streamproc.tumble(w.window_end, size, zone) next, streamproc.tumble(w.window_end - interval '1 us', size, zone) last
WHERE NOT (w.window_start <= at AND at < w.window_end AND next.window_start = w.window_end AND last = w);
SELECT w.window_end - w.window_start AS length, count(DISTINCT w.window_start) FROM nights, streamproc.tumble(at, '1 day', zone) w GROUP BY 1 ORDER BY 1;
-- months from the 31st, days from the morning
SELECT DISTINCT w.* FROM generate_series('2024-01-30'::timestamptz, '2024-05-02', '1 day') at, streamproc.tumble(at, '1 month', origin => '2023-12-31') w ORDER BY 1;
SELECT * FROM streamproc.tumble('2024-10-27 12:00+00', '1 day', 'Europe/Berlin', '2024-01-01 05:00+00');

-- hop: all windows of the slide that hold the time; cumulate: those that begin together (0 rows each)
CREATE FUNCTION differ(a text, b text) RETURNS TABLE (side text, row_text text) LANGUAGE plpgsql AS $$ BEGIN
	RETURN QUERY EXECUTE format('SELECT ''missing'', x::text FROM ((%1$s) EXCEPT ALL (%2$s)) x UNION ALL SELECT ''extra'', x::text FROM ((%2$s) EXCEPT ALL (%1$s)) x', b, a); END $$;
SELECT * FROM differ('SELECT at, w.* FROM times, streamproc.hop(at, ''2 min'', ''10 min'') w',
	$$SELECT at, s, s + interval '10 min' FROM times, LATERAL (SELECT date_bin('2 min', at, '1970-01-01') - i * interval '2 min' AS s FROM generate_series(0, 4) i) x$$);
SELECT * FROM differ('SELECT at, w.* FROM times, streamproc.cumulate(at, ''1 h'', ''6 h'') w',
	$$SELECT at, s, s + i * interval '1 h' FROM times, LATERAL (SELECT date_bin('6 h', at, '1970-01-01') AS s) x, generate_series(1, 6) i WHERE s + i * interval '1 h' > at$$);
-- a hop of one slide, and a cumulate of one step, is a tumble
SELECT * FROM differ('SELECT zone, at, w.* FROM nights, streamproc.hop(at, ''1 day'', ''1 day'', zone) w', 'SELECT zone, at, w.* FROM nights, streamproc.tumble(at, ''1 day'', zone) w');
SELECT * FROM differ('SELECT zone, at, w.* FROM nights, streamproc.cumulate(at, ''1 month'', ''1 month'', zone) w', 'SELECT zone, at, w.* FROM nights, streamproc.tumble(at, ''1 month'', zone) w');
-- each window of the calendar holds the time, begins and ends on borders of days, and is as many days long (0 rows)
SELECT zone, at, w.* FROM nights, streamproc.hop(at, '1 day', '3 days', zone) w, streamproc.tumble(w.window_start, '1 day', zone) a, streamproc.tumble(w.window_end, '1 day', zone) b
WHERE NOT (w.window_start <= at AND at < w.window_end AND a.window_start = w.window_start AND b.window_start = w.window_end);
-- in Apia 2011-12-30 is a day without a moment, and counts as one
SELECT zone, at, count(*), count(DISTINCT w) FROM nights, streamproc.hop(at, '1 day', '3 days', zone) w GROUP BY 1, 2 HAVING count(*) <> 3 OR count(DISTINCT w) <> 3;
SELECT * FROM streamproc.hop('2024-10-27 12:00+00', '1 day', '3 days', 'Europe/Berlin');
SELECT * FROM streamproc.cumulate('2024-05-15', '1 month', '3 months', 'Europe/Berlin');

-- infinite times are their own window, NULL has none
SELECT * FROM streamproc.tumble('infinity', '1 h'), streamproc.hop('-infinity', '1 h', '2 h') AS h;
SELECT * FROM streamproc.tumble(NULL, '1 h');
SELECT * FROM streamproc.hop(NULL, '1 h', '2 h');
SELECT * FROM streamproc.cumulate('epoch', '1 h', NULL);

-- tumble is inlined, rows are estimated
EXPLAIN (COSTS OFF) SELECT w.window_start, count(*) FROM times, streamproc.tumble(at, '1 h') w GROUP BY 1;
CREATE FUNCTION estimate(query text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan; RETURN plan->0->'Plan'->>'Plan Rows'; END $$;
SELECT estimate($$SELECT FROM streamproc.hop(now(), '1 min', '1 h')$$), estimate($$SELECT FROM streamproc.cumulate(now(), '1 min', '1 h')$$);

-- what is refused, when it is planned already
CREATE TABLE empty (at timestamptz, size interval, zone text);
SELECT w.* FROM empty, streamproc.tumble(at, '0 s') w;
SELECT w.* FROM empty, streamproc.tumble(at, '-1 h') w;
SELECT w.* FROM empty, streamproc.tumble(at, '1 month 1 day') w;
SELECT w.* FROM empty, streamproc.tumble(at, '1 day 1 hour') w;
SELECT w.* FROM empty, streamproc.tumble(at, '1 h', 'Europe/Nowhere') w;
SELECT w.* FROM empty, streamproc.tumble(at, '1 h', origin => 'infinity') w;
SELECT w.* FROM empty, streamproc.hop(at, '2 min', '5 min') w;
SELECT w.* FROM empty, streamproc.hop(at, '5 min', '2 min') w;
SELECT w.* FROM empty, streamproc.hop(at, '1 h', '1 day') w;
SELECT w.* FROM empty, streamproc.hop(at, '0', '1 day') w;
SELECT w.* FROM empty, streamproc.hop(at, '1 us', '1 s') w;
SELECT w.* FROM empty, streamproc.cumulate(at, '4 h', '1 month') w;
SELECT w.* FROM empty, streamproc.cumulate(at, '2 days', '7 days') w;
-- or for the row
SELECT w.* FROM (VALUES ('epoch'::timestamptz, '0'::interval)) v (at, size), streamproc.tumble(at, size) w;
SELECT * FROM streamproc.tumble('294276-12-31 23:00+00', '1000 years');
SELECT * FROM streamproc.tumble('4713-01-01 00:00+00 BC', '7 days');

-- sizes and zones from the row
SELECT v.*, w.* FROM (VALUES ('2024-03-31 12:00+00'::timestamptz, '1 day'::interval, 'Europe/Berlin'), ('2024-03-31 12:00+00', '1 h', 'Asia/Kolkata'), ('2024-03-31 12:00+00', '1 month', NULL)) v (at, size, zone),
	streamproc.tumble(at, size, zone) w;

-- in a pipeline that works row by row
\! $STREAMPROC_TOOL delete $STREAMPROC_KAFKA win_tx >/dev/null 2>&1; $STREAMPROC_TOOL create $STREAMPROC_KAFKA win_tx 2 >/dev/null
\! for i in 1 2 3 4 5 6 7 8 9; do printf '%d\t0\t\\N\t{"card": "c%d", "at": "2024-03-3%d 0%d:30:00+00"}\n' $((i % 2)) $i $((i % 2)) $i; done | $STREAMPROC_TOOL produce $STREAMPROC_KAFKA win_tx >/dev/null
CREATE SERVER win_kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'kafka');
CREATE FOREIGN TABLE tx (card text, at timestamptz) SERVER win_kafka OPTIONS (topic 'win_tx', event_time 'at');
CREATE TABLE sink (card text, window_start timestamptz, window_end timestamptz);
SELECT statement, execution, result, deterministic FROM streamproc.check_pipeline('INSERT INTO win.sink SELECT card, w.* FROM win.tx, streamproc.tumble(at, ''1 min'') w');
SELECT statement, execution, result, deterministic FROM streamproc.check_pipeline('INSERT INTO win.sink SELECT card, w.* FROM win.tx, streamproc.hop(at, ''1 min'', ''5 min'') w');
SELECT statement, execution, result, deterministic FROM streamproc.check_pipeline('INSERT INTO win.sink SELECT card, w.* FROM win.tx, streamproc.tumble(at, ''0 min'') w');

\set query 'SELECT card, w.* FROM win.tx, streamproc.tumble(at, ''1 day'', ''Europe/Berlin'') w UNION ALL SELECT card, w.* FROM win.tx, streamproc.cumulate(at, ''1 h'', ''4 h'') w'
SELECT streamproc.create_pipeline('win_rows', 'INSERT INTO win.sink ' || :'query', stop => 'latest');
SELECT streamproc.wait_until_stopped('win_rows', '120 s');
SELECT count(*) FROM sink;
SELECT * FROM differ('TABLE win.sink', :'query');
SELECT streamproc.drop_pipeline('win_rows');

SET client_min_messages = error;
DROP SCHEMA win CASCADE;
DROP SERVER win_kafka CASCADE;

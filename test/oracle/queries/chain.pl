# Chains: what window functions or DISTINCT ON answer is grouped again.  {o} is the order of a window, as in over.pl.
use strict;
use warnings;

sub chain
{
	my ($name, $catches, $select, %more) = @_;
	(my $stream = $select) =~ s/\{o\}/t.at/g;
	(my $batch = $select) =~ s/\{o\}/t.at, t.part, t.off/g;
	return { name => "chain_$name", catches => $catches, select => $stream, batch => "INSERT INTO sink $batch", %more };
}

return (
	chain('lag_tumble', 'windows that close while rows for them still wait in the operator below',
		q{SELECT q.card, w.window_start, w.window_end, count(*) AS n, count(*) FILTER (WHERE q.city <> q.prev) AS moved, sum(q.n) AS s
			FROM (SELECT t.*, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q, streamproc.tumble(q.at, '10 min') w
			GROUP BY q.card, w.window_start, w.window_end}),
	chain('short_windows', 'windows as short as the slices in which rows wait',
		q{SELECT w.window_start, count(*) AS n, sum(q.d) AS d
			FROM (SELECT t.at, t.id - lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS d FROM tx t) q, streamproc.tumble(q.at, '100 ms') w
			GROUP BY w.window_start}),
	chain('distinct_on_tumble', 'duplicates that are counted: deduplication below a window',
		q{SELECT w.window_start, q.city, count(*) AS n, sum(q.amount) AS s, min(q.id) AS first
			FROM (SELECT DISTINCT ON (t.u) t.u, t.id, t.city, t.amount, t.at FROM tx t ORDER BY t.u, {o}) q, streamproc.tumble(q.at, '30 min') w
			GROUP BY w.window_start, q.city}, by_value => ['s']),
	chain('first_rows_hop', 'the same as row_number() = 1, under windows that overlap',
		q{SELECT w.window_start, w.window_end, count(*) AS n
			FROM (SELECT t.at, row_number() OVER (PARTITION BY t.card, t.city ORDER BY {o}) AS r FROM tx t) q, streamproc.hop(q.at, '5 min', '20 min') w
			WHERE q.r = 1 GROUP BY w.window_start, w.window_end}),
	chain('cumulate', 'slices of windows that grow',
		q{SELECT q.flag, w.window_start, w.window_end, count(*) AS n, max(q.c) AS most
			FROM (SELECT t.flag, t.at, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q,
				streamproc.cumulate(q.at, '10 min', '1 hour') w
			GROUP BY q.flag, w.window_start, w.window_end}),
	chain('having', 'HAVING above, a condition on results between',
		q{SELECT q.card, w.window_start, count(*) AS n
			FROM (SELECT t.card, t.at, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q,
				streamproc.tumble(q.at, '1 hour') w
			WHERE q.c > 1 GROUP BY q.card, w.window_start HAVING count(*) > 2}),
	chain('result_key', 'a result of a window function as key: other key groups than those of the rows',
		q{SELECT q.prev, q.city, w.window_start, count(*) AS n
			FROM (SELECT t.city, t.at, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q, streamproc.tumble(q.at, '1 hour') w
			GROUP BY q.prev, q.city, w.window_start}),
	chain('totals', 'running totals over answers, given out with each change',
		q{SELECT q.city, count(*) AS n, max(q.r) AS r, sum(q.c) AS c
			FROM (SELECT t.city, row_number() OVER k AS r, count(*) OVER m AS c FROM tx t
				WINDOW k AS (PARTITION BY t.card ORDER BY {o}), m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '5 min' PRECEDING AND CURRENT ROW)) q
			GROUP BY q.city}, upsert => ['city']),
	chain('distinct_on_totals', 'running totals over the first rows',
		q{SELECT q.city, count(*) AS n, sum(q.n) AS s, avg(q.n) AS a FROM (SELECT DISTINCT ON (t.u) t.u, t.city, t.n FROM tx t ORDER BY t.u, {o}) q GROUP BY q.city}, upsert => ['city']),
	chain('joined', 'tables joined below, between and above',
		q{SELECT p.country, g.window_start, g.n, g.m FROM (SELECT c.owner, q.city, w.window_start, count(*) AS n, max(q.prev) AS m
				FROM (SELECT t.card, t.city, t.at, lag(t.id) OVER (PARTITION BY o.owner ORDER BY {o}) AS prev FROM tx t JOIN card o ON o.card = t.card) q JOIN card c ON c.card = q.card,
					streamproc.tumble(q.at, '1 hour') w
				GROUP BY c.owner, q.city, w.window_start) g LEFT JOIN place p ON p.city = g.city}),
	chain('windows_over', 'windows over windows over answers',
		q{SELECT h.window_start, max(g.n) AS most, count(*) AS groups
			FROM (SELECT q.card, w.window_end, count(*) AS n FROM (SELECT t.card, t.at, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q,
					streamproc.tumble(q.at, '5 min') w WHERE q.prev IS NOT NULL GROUP BY q.card, w.window_end) g, streamproc.tumble(g.window_end, '1 hour') h
			GROUP BY h.window_start}),
	chain('functions', 'aggregates by functions, buffered ones and a user\'s, over answers',
		q{SELECT q.flag, w.window_start, string_agg(q.prev, ',' ORDER BY q.id) AS a, array_agg(q.id ORDER BY q.id) AS b, percentile_cont(0.5) WITHIN GROUP (ORDER BY q.n) AS c,
				mean(q.amount) AS d, stddev(q.n) AS e, count(DISTINCT q.prev) AS f
			FROM (SELECT t.*, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t WHERE t.amount < 1e20) q, streamproc.tumble(q.at, '30 min') w
			GROUP BY q.flag, w.window_start}, by_value => ['d']),
	chain('grouping_sets', 'grouping sets over answers',
		q{SELECT q.card, q.city, w.window_start, count(q.prev) AS n, GROUPING(q.card, q.city) AS g
			FROM (SELECT t.card, t.city, t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q, streamproc.tumble(q.at, '1 hour') w
			GROUP BY w.window_start, GROUPING SETS ((q.card), (q.city), ())}),
	chain('long', 'values of thousands of bytes through both operators',
		q{SELECT w.window_start, max(length(q.note)) AS a, max(q.prev) AS b, count(q.tags) AS c
			FROM (SELECT t.at, t.note, t.tags, lag(t.note) OVER (PARTITION BY t.city ORDER BY {o}) AS prev FROM tx t) q, streamproc.tumble(q.at, '10 min') w
			GROUP BY w.window_start}),
	chain('zone', 'calendar windows over answers',
		q{SELECT w.window_start, w.window_end, count(*) AS n, sum(q.r) AS r
			FROM (SELECT t.at, rank() OVER (PARTITION BY t.card ORDER BY t.at) AS r FROM tx t) q, streamproc.tumble(q.at, '1 day', zone => 'Europe/Berlin') w
			GROUP BY w.window_start, w.window_end}),
	chain('key_types', 'keys of both operators whose equal values look different',
		q{SELECT q.code, w.window_start, count(*) AS n, sum(q.c) AS c
			FROM (SELECT t.code, t.at, count(*) OVER (PARTITION BY t.code ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q, streamproc.tumble(q.at, '1 hour') w
			GROUP BY q.code, w.window_start}, by_value => ['code']),
	chain('filter_above', 'a condition that the task cannot ask for before it passes rows on',
		q{SELECT w.window_start, count(*) AS n
			FROM (SELECT t.card, t.at, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q, streamproc.tumble(q.at, '1 hour') w
			WHERE q.card IN (SELECT card FROM card WHERE owner IS NOT NULL) AND q.prev IS NOT NULL GROUP BY w.window_start}),
	chain('cte', 'a WITH query that is read once, and a view of a subquery in a subquery',
		q{WITH q AS (SELECT t.card, t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t), r AS (SELECT card, at, prev FROM q WHERE prev > 10)
			SELECT r.card, w.window_start, count(*) AS n, min(r.prev) AS p FROM r, streamproc.tumble(r.at, '1 hour') w GROUP BY r.card, w.window_start}),
	chain('union_below', 'two branches below the window functions',
		q{SELECT w.window_start, count(*) AS n, sum(q.r) AS r
			FROM (SELECT t.at, rank() OVER (PARTITION BY t.card ORDER BY t.at) AS r FROM (SELECT id, card, at FROM tx WHERE id % 2 = 0 UNION ALL SELECT id, card, at FROM tx WHERE n > 0) t) q,
				streamproc.tumble(q.at, '1 hour') w
			GROUP BY w.window_start}),
	chain('session_distinct', 'sessions of rows without duplicates, that end before all of them have come',
		q{SELECT card, win, count(*) AS n, sum(n) AS s FROM (SELECT q.card, q.n, streamproc.session(q.at, '1 min') OVER (PARTITION BY q.card ORDER BY q.at) AS win
				FROM (SELECT DISTINCT ON (t.u) t.u, t.card, t.n, t.at FROM tx t ORDER BY t.u, {o}) q) s GROUP BY card, win}),
	chain('session_lag', 'sessions of answers that are cut, by a result of a window function',
		q{SELECT prev, win, count(*) AS n, max(id) AS last FROM (SELECT q.id, q.prev, streamproc.session(q.at, '20 s', '1 min') OVER (PARTITION BY q.prev ORDER BY q.at) AS win
				FROM (SELECT t.id, t.at, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q) s GROUP BY prev, win}),
	chain('top_distinct', 'the first rows of a window among rows without duplicates',
		q{SELECT q.* FROM (SELECT d.city, w.window_start, d.id, row_number() OVER (PARTITION BY d.city, w.window_start ORDER BY d.n DESC NULLS LAST, d.id) AS rn
				FROM (SELECT DISTINCT ON (t.u) t.u, t.city, t.n, t.id, t.at FROM tx t ORDER BY t.u, {o}) d, streamproc.tumble(d.at, '30 min') w) q WHERE q.rn <= 2}),
	chain('top_running', 'the same of all, as they come',
		q{SELECT q.* FROM (SELECT d.city, d.id, d.n, row_number() OVER (PARTITION BY d.city ORDER BY d.n DESC NULLS LAST, d.id) AS rn
				FROM (SELECT DISTINCT ON (t.u) t.u, t.city, t.n, t.id, t.at FROM tx t ORDER BY t.u, {o}) d) q WHERE q.rn <= 5}, upsert => [ 'city', 'rn' ]),
	chain('distinct_twice', 'DISTINCT ON over DISTINCT ON: the best of the first rows',
		q{SELECT DISTINCT ON (d.card) d.card, d.id, d.u FROM (SELECT DISTINCT ON (t.u) t.u, t.card, t.n, t.id FROM tx t ORDER BY t.u, {o}) d ORDER BY d.card, d.n DESC, d.id}, upsert => ['card']),
	chain('top_lag', 'rows with the longest way from the one before',
		q{SELECT q.* FROM (SELECT s.card, w.window_end, s.id, s.d, row_number() OVER (PARTITION BY s.card, w.window_end ORDER BY s.d DESC, s.id) AS rn
				FROM (SELECT t.card, t.id, t.at, abs(t.n::bigint - lag(t.n, 1, 0) OVER (PARTITION BY t.card ORDER BY {o})) AS d FROM tx t WHERE t.n IS NOT NULL) s, streamproc.hop(s.at, '5 min', '10 min') w) q WHERE q.rn <= 2}),
	{	name => 'chain_two_statements',
		catches => 'answers that go to the sink, and others that go on, in one pipeline',
		text => q{INSERT INTO sink SELECT t.id, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) FROM tx t;
			INSERT INTO sink2 SELECT w.window_start, count(*), sum(q.c) FROM (SELECT t.at, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q,
				streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start;
			INSERT INTO sink3 SELECT w.window_start, q.city, count(*) FROM (SELECT DISTINCT ON (t.u) t.u, t.city, t.at FROM tx t ORDER BY t.u, t.at) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start, q.city},
		batch => q{INSERT INTO sink SELECT t.id, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at, t.part, t.off) FROM tx t;
			INSERT INTO sink2 SELECT w.window_start, count(*), sum(q.c) FROM (SELECT t.at, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q,
				streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start;
			INSERT INTO sink3 SELECT w.window_start, q.city, count(*) FROM (SELECT DISTINCT ON (t.u) t.u, t.city, t.at FROM tx t ORDER BY t.u, t.at, t.part, t.off) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start, q.city},
		sink => q{CREATE TABLE sink (id bigint, prev bigint); CREATE TABLE sink2 (a timestamptz, n bigint, c numeric); CREATE TABLE sink3 (a timestamptz, city text, n bigint)} },

	{	name => 'chain_union', catches => 'answers of two operators in one group', must_refuse => 1, sink => 'CREATE TABLE sink (a timestamptz, n bigint)',
		text => q{INSERT INTO sink SELECT w.window_start, count(*) FROM (SELECT t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS p FROM tx t UNION ALL SELECT t.at, t.id FROM tx t) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start} },
	{	name => 'chain_cte_twice', catches => 'answers that go two ways', must_refuse => 1, sink => 'CREATE TABLE sink (a timestamptz, n bigint); CREATE TABLE sink2 (a timestamptz)',
		text => q{WITH q AS (SELECT t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS p FROM tx t), i AS (INSERT INTO sink2 SELECT at FROM q RETURNING a)
			INSERT INTO sink SELECT w.window_start, count(q.p) FROM q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start} },
	{	name => 'chain_unused', catches => 'window functions that the planner takes away', must_refuse => 1, sink => 'CREATE TABLE sink (a timestamptz, n bigint)',
		text => q{INSERT INTO sink SELECT w.window_start, count(*) FROM (SELECT t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS p FROM tx t) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start} },
	{	name => 'chain_other_time', catches => 'an event time that is a result', must_refuse => 1, sink => 'CREATE TABLE sink (a timestamptz, n bigint)',
		text => q{INSERT INTO sink SELECT w.window_start, count(*) FROM (SELECT lag(t.at) OVER (PARTITION BY t.card ORDER BY t.at) AS at FROM tx t) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start} },
);

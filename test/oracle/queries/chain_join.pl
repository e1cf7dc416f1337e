# Rows of a join of two topics that are grouped: by windows, or without.
use strict;
use warnings;

sub pairs
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "pairs_$name", catches => $catches, select => $select, %more };
}

sub pairs_refused
{
	my ($name, $catches, $select) = @_;
	return { name => "pairs_$name", catches => $catches, must_refuse => 1, sink => 'CREATE TABLE sink (a timestamptz, n bigint)', text => "INSERT INTO sink $select" };
}

my $five = q{o.at BETWEEN t.at - interval '5 min' AND t.at + interval '5 min'};

return (
	pairs('inner', 'a window that closes before the last pair of its rows has come',
		qq{SELECT w.window_start, t.card, count(*) AS n, sum(o.n) AS s, max(o.at) AS last FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w
			GROUP BY w.window_start, t.card}),
	pairs('transfer', 'debit with credit: windows over the later of the two rows, which wait for nobody',
		q{SELECT w.window_start, w.window_end, a.flag, count(*) AS n, sum(b.n) AS s, max(b.at - a.at) AS slowest
			FROM tx a JOIN tx b ON a.u = b.u AND b.at BETWEEN a.at AND a.at + interval '30 min' CROSS JOIN LATERAL streamproc.tumble(b.at, '1 min') w
			WHERE a.id <> b.id GROUP BY w.window_start, w.window_end, a.flag}),
	pairs('earlier', 'the same over the earlier one, which lies up to half an hour behind',
		q{SELECT w.window_start, count(*) AS n, count(DISTINCT a.id) AS debits, sum(b.n) AS s
			FROM tx a JOIN tx b ON a.u = b.u AND b.at BETWEEN a.at AND a.at + interval '30 min', streamproc.tumble(a.at, '1 min') w
			WHERE a.id <> b.id GROUP BY w.window_start}),
	pairs('left', 'rows without partner come when nobody else waits for them any more',
		qq{SELECT w.window_start, count(*) AS n, count(o.id) AS found, count(DISTINCT t.id) AS ids FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '1 min') w
			GROUP BY w.window_start}),
	pairs('left_behind', 'an interval that ends before the row: it is older than what it waits for',
		q{SELECT w.window_start, t.city, count(*) AS n, count(o.id) AS found
			FROM tx t LEFT JOIN other o ON t.card = o.card AND o.at BETWEEN t.at - interval '10 min' AND t.at - interval '1 min', streamproc.tumble(t.at, '30 s') w
			GROUP BY w.window_start, t.city}),
	pairs('left_ahead', 'one that begins behind it: its end is far ahead of the row',
		q{SELECT w.window_start, count(*) AS n, count(o.id) AS found
			FROM tx t LEFT JOIN other o ON t.card = o.card AND o.at BETWEEN t.at + interval '3 min' AND t.at + interval '9 min', streamproc.tumble(t.at, '30 s') w
			GROUP BY w.window_start}),
	pairs('right', 'the side whose time it is comes first or second',
		qq{SELECT w.window_start, o.city, count(*) AS n, count(t.id) AS found, min(t.at) AS first FROM tx t RIGHT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(o.at, '10 min') w
			GROUP BY w.window_start, o.city}),
	pairs('full', 'rows of either side alone, by the time that they have',
		qq{SELECT w.window_start, count(*) AS n, count(t.id) AS l, count(o.id) AS r, count(*) FILTER (WHERE t.id IS NOT NULL AND o.id IS NOT NULL) AS both
			FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five, streamproc.tumble(coalesce(t.at, o.at), '10 min') w GROUP BY w.window_start}),
	pairs('full_other', 'the same, the other side first, in a SELECT around',
		qq{SELECT q.card, w.window_start, count(*) AS n, count(q.id) AS l, count(q.other) AS r
			FROM (SELECT coalesce(t.card, o.card) AS card, coalesce(o.at, t.at) AS at, t.id, o.id AS other FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five) q,
				streamproc.tumble(q.at, '1 min') w
			GROUP BY q.card, w.window_start}),
	pairs('hop', 'windows that overlap',
		qq{SELECT w.window_start, w.window_end, count(*) AS n, sum(o.n) AS s, array_agg(DISTINCT o.id % 7 ORDER BY o.id % 7) AS a
			FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.hop(t.at, '2 min', '10 min') w GROUP BY w.window_start, w.window_end}),
	pairs('cumulate', 'windows that grow, over an outer join',
		qq{SELECT w.window_start, w.window_end, count(*) AS n, count(o.id) AS found, max(o.note) AS m
			FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.cumulate(t.at, '10 min', '1 hour') w GROUP BY w.window_start, w.window_end}),
	pairs('short', 'windows and an interval as short as the slices in which rows wait',
		q{SELECT w.window_start, count(*) AS n, count(b.id) AS found
			FROM tx a LEFT JOIN tx b ON a.flag = b.flag AND a.id < b.id AND b.at BETWEEN a.at - interval '50 ms' AND a.at + interval '150 ms', streamproc.tumble(a.at, '100 ms') w
			GROUP BY w.window_start}),
	pairs('strict', 'borders of the interval, and a condition of pairs',
		q{SELECT w.window_start, count(*) AS n, sum(t.n::bigint + o.n) AS s
			FROM tx t JOIN other o ON t.flag = o.flag AND o.at > t.at - interval '10 s' AND o.at - interval '10 s' <= t.at AND t.n::bigint + o.n > 0, streamproc.tumble(o.at, '10 s') w
			GROUP BY w.window_start}),
	pairs('days', 'nights in which clocks are set: days of the join, and windows of the calendar',
		q{SELECT w.window_start, w.window_end, a.k, count(*) AS n, sum(b.v) AS s
			FROM dst a JOIN dst b ON a.k = b.k AND b.at >= a.at + interval '1 day' AND b.at - interval '2 days' < a.at, streamproc.tumble(a.at, '1 day', zone => 'Europe/Berlin') w
			WHERE (a.v + b.v) % 7 = 0 GROUP BY w.window_start, w.window_end, a.k}),
	pairs('totals', 'running totals over pairs, given out with each change',
		qq{SELECT t.city, o.flag, count(*) AS n, sum(o.n) AS s, max(o.at) AS last FROM tx t JOIN other o ON t.card = o.card AND $five GROUP BY t.city, o.flag}, upsert => [ 'city', 'flag' ]),
	pairs('totals_full', 'the same over a full join: keys that are null because there is no partner',
		qq{SELECT t.city, o.city AS other, count(*) AS n, count(t.id) AS l, count(o.id) AS r FROM tx t FULL JOIN other o ON t.card = o.card AND t.flag = o.flag AND $five GROUP BY t.city, o.city},
		upsert => [ 'city', 'other' ]),
	pairs('where_above', 'conditions above the join: of either side, of both, and that only the executor can ask for',
		qq{SELECT w.window_start, count(*) AS n FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w
			WHERE (o.id IS NULL OR o.n > t.n) AND t.flag AND coalesce(t.city, '') IN (SELECT city FROM place UNION SELECT 'berlin') GROUP BY w.window_start}),
	pairs('having', 'HAVING, and a key that is an expression of both sides',
		qq{SELECT t.n > o.n AS more, w.window_start, count(*) AS n, sum(t.n::bigint - o.n) AS s FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.n > o.n, w.window_start HAVING count(*) > 1}),
	pairs('grouping_sets', 'grouping sets over pairs',
		qq{SELECT t.card, o.city, w.window_start, count(*) AS n, GROUPING(t.card, o.city) AS g FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '1 hour') w
			GROUP BY w.window_start, GROUPING SETS ((t.card), (o.city), ())}),
	pairs('grouping_full', 'the same by the time of either side',
		qq{SELECT t.flag, o.flag AS other, w.window_start, w.window_end, count(*) AS n FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five, streamproc.tumble(coalesce(t.at, o.at), '1 hour') w
			GROUP BY w.window_start, w.window_end, ROLLUP (t.flag, o.flag)}),
	pairs('functions', 'aggregates by functions, buffered ones and a user\'s',
		qq{SELECT t.flag, w.window_start, string_agg(o.city, ',' ORDER BY t.id, o.id) AS a, percentile_cont(0.5) WITHIN GROUP (ORDER BY o.n) AS c, mean(o.amount) AS d, count(DISTINCT o.city) AS f
			FROM tx t JOIN (SELECT * FROM other WHERE amount < 1e20) o ON t.card = o.card AND $five, streamproc.tumble(t.at, '30 min') w GROUP BY t.flag, w.window_start}, by_value => ['d']),
	pairs('lookups', 'tables joined below, between and above',
		qq{SELECT p.country, g.window_start, g.n FROM (SELECT o.city, w.window_start, count(*) AS n, max(c.owner) AS owner FROM (tx t JOIN card c ON c.card = t.card) JOIN other o ON t.card = o.card AND $five LEFT JOIN setting s ON s.name = 'low',
				streamproc.tumble(t.at, '1 hour') w WHERE s.value < 1000 OR s.value IS NULL GROUP BY o.city, w.window_start) g LEFT JOIN place p ON p.city = g.city}),
	pairs('windows_over', 'windows over windows of pairs: those below are given out when the one above ends',
		qq{SELECT h.window_start, max(g.n) AS most, count(*) AS groups
			FROM (SELECT t.card, w.window_end, count(*) AS n FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '5 min') w GROUP BY t.card, w.window_end) g,
				streamproc.tumble(g.window_end, '1 hour') h
			GROUP BY h.window_start}),
	pairs('top', 'the first groups of each window',
		qq{SELECT g.window_start, g.card, g.n, g.r FROM (SELECT w.window_start, t.card, count(*) AS n, row_number() OVER (PARTITION BY w.window_start ORDER BY count(*) DESC, t.card) AS r
				FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w GROUP BY w.window_start, t.card) g WHERE g.r <= 3}),
	pairs('over_windows', 'window functions over groups of pairs, within the window',
		qq{SELECT w.window_start, t.city, count(*) AS n, rank() OVER (PARTITION BY w.window_start ORDER BY count(*) DESC) AS r, sum(count(*)) OVER (PARTITION BY w.window_start) AS total
			FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w GROUP BY w.window_start, t.city}),
	pairs('cte', 'the join in a WITH query, read once, and in a subquery of a subquery',
		qq{WITH q AS (SELECT t.card, t.at, t.id, o.n FROM tx t JOIN other o ON t.card = o.card AND $five), r AS (SELECT card, at, n FROM q WHERE n > 10)
			SELECT r.card, w.window_start, count(*) AS n, min(r.n) AS p FROM r, streamproc.tumble(r.at, '1 hour') w GROUP BY r.card, w.window_start}),
	pairs('union_below', 'a side that is a union of topics, the other a view of one',
		q{SELECT w.window_start, q.side, count(*) AS n, sum(b.big) AS s
			FROM (SELECT id, at, card, 'a' AS side FROM other WHERE flag UNION ALL SELECT id, at, card, 'b' FROM tx WHERE n > 500) q JOIN flagged b ON q.card = b.card AND b.at BETWEEN q.at - interval '2 min' AND q.at + interval '1 min',
				streamproc.tumble(q.at, '10 min') w GROUP BY w.window_start, q.side},
		setup => 'CREATE VIEW flagged AS SELECT id, at, card, n * 2::bigint AS big FROM other WHERE flag'),
	pairs('merged', 'columns merged by USING, a window that a subquery gives',
		qq{SELECT q.card, q.window_start, count(*) AS n FROM (SELECT card, w.window_start, o.id FROM tx t FULL JOIN other o USING (card, at), streamproc.tumble(at, '1 hour') w) q GROUP BY q.card, q.window_start}),
	pairs('hot', 'one key for all rows: thousands of pairs of each batch',
		q{SELECT w.window_start, count(*) AS n, count(o.id) AS found, sum(o.id) AS s
			FROM tx t LEFT JOIN other o ON (t.id IS NULL) = (o.id IS NULL) AND o.at BETWEEN t.at - interval '3 min' AND t.at + interval '1 min', streamproc.tumble(t.at, '1 min') w GROUP BY w.window_start}),
	pairs('key_types', 'keys whose equal values look different, of the join and of the groups',
		q{SELECT t.code, w.window_start, count(*) AS n, sum(o.n) AS s FROM tx t JOIN other o ON t.code = o.code AND o.at BETWEEN t.at - interval '20 s' AND t.at + interval '20 s', streamproc.tumble(t.at, '1 hour') w
			GROUP BY t.code, w.window_start}, by_value => ['code']),
	pairs('long', 'values of thousands of bytes',
		q{SELECT w.window_start, max(length(t.note || o.note)) AS a, max(o.note) AS b, count(o.tags) AS c
			FROM tx t LEFT JOIN other o ON t.city = o.city AND o.at BETWEEN t.at - interval '20 s' AND t.at + interval '20 s', streamproc.tumble(t.at, '10 min') w GROUP BY w.window_start}),
	pairs('total', 'one group of all pairs, without a key',
		qq{SELECT 1 AS one, count(*) AS n, sum(o.id) AS s FROM tx t JOIN other o ON t.card = o.card AND $five}, upsert => ['one']),
	pairs('session', 'sessions of pairs that end before all of their rows have come',
		qq{SELECT card, win, count(*) AS n, sum(n) AS s FROM (SELECT t.card, o.n, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t JOIN other o ON t.card = o.card AND $five) s
			GROUP BY card, win}),
	pairs('session_full', 'sessions of rows of either side, alone or not',
		qq{SELECT card, win, count(*) AS n, count(id) AS l, count(other) AS r
			FROM (SELECT q.*, streamproc.session(q.at, '2 min') OVER (PARTITION BY q.card ORDER BY q.at) AS win
				FROM (SELECT coalesce(t.card, o.card) AS card, coalesce(t.at, o.at) AS at, t.id, o.id AS other FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five) q) s
			GROUP BY card, win HAVING count(*) > 1}),
	pairs('session_cut', 'sessions of the later side that are cut',
		q{SELECT flag, win, count(*) AS n, array_agg(DISTINCT a ORDER BY a) AS a
			FROM (SELECT a.flag, a.id AS a, streamproc.session(b.at, '30 s', '90 s') OVER (PARTITION BY a.flag ORDER BY b.at) AS win FROM tx a JOIN tx b ON a.u = b.u AND b.at BETWEEN a.at AND a.at + interval '10 min' AND a.id < b.id) s
			GROUP BY flag, win}),
	pairs('best', 'the first pairs of each window',
		qq{SELECT q.* FROM (SELECT t.card, w.window_start, t.id, o.id AS other, row_number() OVER (PARTITION BY t.card, w.window_start ORDER BY o.n DESC NULLS LAST, t.id, o.id) AS rn
				FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w) q WHERE q.rn <= 3}),
	pairs('best_running', 'the first pairs of each key, as they come',
		qq{SELECT q.* FROM (SELECT t.card, t.id, o.id AS other, row_number() OVER (PARTITION BY t.card ORDER BY o.n DESC NULLS LAST, t.id, o.id) AS rn FROM tx t LEFT JOIN other o ON t.card = o.card AND $five) q WHERE q.rn <= 3},
		upsert => [ 'card', 'rn' ]),
	{	name => 'pairs_two_statements',
		catches => 'pairs that go to the sink, and others that go on, to two operators, in one pipeline',
		text => qq{INSERT INTO sink SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND $five;
			INSERT INTO sink2 SELECT w.window_start, count(*), sum(o.n) FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '1 hour') w GROUP BY w.window_start;
			INSERT INTO sink3 SELECT w.window_start, o.city, count(*) FROM tx t JOIN other o ON t.u = o.u AND o.at BETWEEN t.at AND t.at + interval '20 min', streamproc.hop(o.at, '10 min', '20 min') w GROUP BY w.window_start, o.city},
		sink => q{CREATE TABLE sink (id bigint, prev bigint); CREATE TABLE sink2 (a timestamptz, n bigint, c numeric); CREATE TABLE sink3 (a timestamptz, city text, n bigint)} },

	pairs_refused('time_missing', 'a window over a time that is null where there is no partner',
		qq{SELECT w.window_start, count(*) FROM tx t LEFT JOIN other o ON t.card = o.card AND $five, streamproc.tumble(o.at, '1 hour') w GROUP BY w.window_start}),
	pairs_refused('time_full', 'the same of a full join',
		qq{SELECT w.window_start, count(*) FROM tx t FULL JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '1 hour') w GROUP BY w.window_start}),
	pairs_refused('time_other', 'a time that is none',
		qq{SELECT w.window_start, count(*) FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(greatest(t.at, o.at), '1 hour') w GROUP BY w.window_start}),
	pairs_refused('union', 'rows of two joins in one group',
		qq{SELECT w.window_start, count(*) FROM (SELECT t.at FROM tx t JOIN other o ON t.card = o.card AND $five UNION ALL SELECT t.at FROM tx t JOIN other o ON t.u = o.u AND $five) q, streamproc.tumble(q.at, '1 hour') w GROUP BY w.window_start}),
	pairs_refused('session_time', 'sessions by a time that is null where there is no partner',
		qq{SELECT lower(q.win), count(*) FROM (SELECT t.card, streamproc.session(o.at, '5 min') OVER (PARTITION BY t.card ORDER BY o.at) AS win FROM tx t LEFT JOIN other o ON t.card = o.card AND $five) q GROUP BY q.card, q.win}),
);

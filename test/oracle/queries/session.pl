# Sessions: the window function of the batch against the operator of the pipeline.  Times of the data are out of order by
# up to 2 s, many lie on borders of 10 s, so rows are exactly a gap apart; frequent cards come each 10 s, others each minute.
use strict;
use warnings;

sub by_session
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "session_$name", catches => $catches, select => $select, %more };
}

# by card, and the aggregates
sub session_of_card
{
	my ($name, $catches, $gap, $aggregates, %more) = @_;
	return by_session($name, $catches, qq{SELECT card, lower(win) AS w1, upper(win) AS w2, $aggregates
		FROM (SELECT t.*, streamproc.session(t.at, '$gap') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}, %more);
}

sub not_session
{
	my ($name, $catches, $select) = @_;
	return { name => "session_$name", catches => $catches, must_refuse => 1, sink => 'CREATE TABLE sink (a text, b tstzrange, c bigint)', text => "INSERT INTO sink $select" };
}

return (
	session_of_card('minute', 'sessions that are cut or joined; a row in the wrong one', '1 min', 'win, count(*) AS n, min(id) AS first, max(id) AS last, min(at) AS from_at, max(at) AS to_at'),
	session_of_card('ten_seconds', 'rows exactly a gap apart, which belong together', '10 s', 'count(*) AS n, sum(n) AS s, sum(big) AS g'),
	session_of_card('five_seconds', 'many short sessions', '5 s', 'count(*) AS n, count(note) AS c, max(at) AS m'),
	session_of_card('half_hour', 'sessions over many slices: combined again and again', '30 min', 'count(*) AS n, sum(n) AS s, avg(n) AS m, sum(big) AS g, avg(big) AS h, min(score) AS x, max(score) AS y'),
	session_of_card('two_days', 'a gap longer than all: one session of each card', '2 days', 'count(*) AS n, min(day) AS d, max(day) AS e'),
	session_of_card('tiny', 'a gap of a microsecond: rows of one instant, and no others', '1 us', 'count(*) AS n, max(id) AS last'),
	session_of_card('odd', 'a gap that slices do not divide', '7.000003 s', 'count(*) AS n, sum(n) AS s'),
	session_of_card('numeric', 'states by functions that are put together, with NaN and infinities', '40 s', 'count(*) AS n, sum(amount) AS s, avg(amount) AS m, min(amount) AS x, sum(code) AS c',
		by_value => [ 's', 'x', 'c' ]),
	session_of_card('floats', 'sums of floats from several slices', '90 s', 'sum(rate) AS s, avg(rate) AS m, stddev(n) AS d', tolerance => 1e-9),
	session_of_card('text', 'text values that grow while states are put together', '2 min', q{min(note) AS x, max(note) AS y, max(city) AS c, bool_or(flag) AS o, bool_and(flag) AS d}),
	session_of_card('buffered', 'aggregates without a combine function, and with ORDER BY: their rows are kept', '1 min',
		q{array_agg(id ORDER BY id) AS a, string_agg(city, ',' ORDER BY at, id) AS b, percentile_disc(0.5) WITHIN GROUP (ORDER BY n) AS m, jsonb_agg(n ORDER BY id) AS j}),
	session_of_card('distinct', 'values that several slices have seen are counted once', '3 min', q{count(DISTINCT city) AS c, count(DISTINCT n) AS d, sum(DISTINCT n) AS s, count(DISTINCT u) AS u, count(DISTINCT amount) AS a, count(*) AS n}),
	session_of_card('distinct_short', 'values of a session that has ended are not those of the next one', '15 s', q{count(DISTINCT city) AS c, sum(DISTINCT n % 3) AS s, count(*) AS n}),
	session_of_card('distinct_texts', 'DISTINCT of what is no native aggregate', '1 min', q{string_agg(DISTINCT city, ',') AS c, array_agg(DISTINCT n % 5) AS a}),
	session_of_card('filter', 'FILTER: rows that are not counted still make the session', '20 s',
		q{count(*) AS n, count(*) FILTER (WHERE flag) AS f, sum(n) FILTER (WHERE n > 0) AS s, array_agg(id ORDER BY id) FILTER (WHERE flag) AS a, max(100 / nullif(n, 0)) FILTER (WHERE n <> 0) AS d}),
	session_of_card('own', "a user's aggregate, and intervals", '1 min', 'mean(amount) AS m, sum(i) AS i', by_value => ['m']),
	by_session('having', 'conditions on aggregates and on the session itself, which must not be asked for each row',
		q{SELECT card, win, count(*) AS n FROM (SELECT t.card, t.at, streamproc.session(t.at, '30 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s
			GROUP BY card, win HAVING count(*) > 2 AND upper(win) - lower(win) > '40 s' AND card <> ''}),
	by_session('around', 'expressions and conditions in a SELECT around the groups',
		q{SELECT card, seconds, n, n / seconds AS rate FROM (SELECT card, extract(epoch FROM upper(win) - lower(win)) AS seconds, count(*) AS n
			FROM (SELECT t.card, streamproc.session(t.at, '45 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win) g WHERE n > 1 AND seconds > 50}, by_value => [ 'seconds', 'rate' ]),
	by_session('no_partition', 'no PARTITION BY: one key for all',
		q{SELECT win, count(*) AS n, count(DISTINCT card) AS c FROM (SELECT t.card, streamproc.session(t.at, '3 s') OVER (ORDER BY t.at) AS win FROM tx t) s GROUP BY win}),
	by_session('no_columns', 'no aggregates at all', q{SELECT card, win FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}),
	by_session('keys', 'several keys, NULL among them, and an expression of one',
		q{SELECT card, city, f, upper(city) AS u, lower(win) AS a, count(*) AS n FROM (SELECT t.card, t.city, t.flag IS TRUE AS f, streamproc.session(t.at, '5 min') OVER (PARTITION BY t.flag IS TRUE, t.card, t.city ORDER BY t.at) AS win FROM tx t) s
			GROUP BY city, card, upper(city), win, f}),
	by_session('numeric_key', '1.0 and 1.00 are one key', q{SELECT code, lower(win) AS a, count(*) AS n, sum(id) AS i FROM (SELECT t.id, t.code, streamproc.session(t.at, '20 s') OVER (PARTITION BY t.code ORDER BY t.at) AS win FROM tx t) s GROUP BY code, win},
		by_value => ['code']),
	by_session('time_key', 'the event time itself as a key', q{SELECT at, win, count(*) AS n FROM (SELECT t.at, streamproc.session(t.at, '20 s') OVER (PARTITION BY t.at ORDER BY t.at) AS win FROM tx t) s GROUP BY at, win}),
	by_session('where', 'WHERE below decides what makes a session',
		q{SELECT card, win, count(*) AS n FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t WHERE t.n > 0 AND t.flag) s GROUP BY card, win}),
	by_session('where_above', 'WHERE above on keys alone',
		q{SELECT card, win, count(*) AS n FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s WHERE card LIKE 'card-1%' GROUP BY card, win}),
	by_session('cte', 'WITH in the place of the subquery, also one that is kept apart',
		q{WITH s AS MATERIALIZED (SELECT t.card, t.n, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) SELECT card, win, sum(n) AS s FROM s GROUP BY card, win}),
	by_session('cte_above', 'WITH of the statement itself', undef,
		text => q{WITH s AS (SELECT t.card, streamproc.session(t.at, gap => '50 s') OVER k AS win FROM tx t WINDOW k AS (PARTITION BY t.card ORDER BY t.at)) INSERT INTO sink SELECT s.card, s.win, count(*) FROM s GROUP BY s.win, s.card},
		sink => 'CREATE TABLE sink (card text, win tstzrange, n bigint)'),
	by_session('volatile', 'a subquery that the planner does not pull up',
		q{SELECT card, win, count(*) AS n FROM (SELECT t.card, random() AS r, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}),
	by_session('union', 'two branches, two operators',
		q{SELECT card AS k, win, count(*) AS n FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win
			UNION ALL SELECT city, win, count(*) FROM (SELECT t.city, streamproc.session(t.at, '8 s') OVER (PARTITION BY t.city ORDER BY t.at) AS win FROM tx t) s GROUP BY city, win}),
	by_session('below_union', 'rows of two branches in one session',
		q{SELECT card, win, count(*) AS n FROM (SELECT x.card, streamproc.session(x.at, '30 s') OVER (PARTITION BY x.card ORDER BY x.at) AS win FROM
			(SELECT t.card, t.at FROM tx t WHERE t.flag UNION ALL SELECT t.card, t.at FROM tx t WHERE t.n > 500) x) s GROUP BY card, win}),
	by_session('join_below', 'a table joined below: rows without a partner make no session',
		q{SELECT owner, win, count(*) AS n, sum(x) AS s FROM (SELECT c.owner, t.n + c."limit" AS x, streamproc.session(t.at, '30 s') OVER (PARTITION BY c.owner ORDER BY t.at) AS win
			FROM tx t JOIN card c ON c.card = t.card) s GROUP BY owner, win}),
	by_session('join_above', 'tables joined above by the key: all rows of a key find the same',
		q{SELECT s.card, c.owner, g.grp, win, count(*) AS n FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s
			JOIN card c USING (card) LEFT JOIN card_group g ON g.card = s.card AND g.grp > 1 GROUP BY s.card, c.owner, g.grp, win}),
	by_session('values_above', 'each session several times', q{SELECT s.card, v.x, win, sum(s.n::bigint * v.x) AS n FROM (SELECT t.card, t.n, streamproc.session(t.at, '2 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s, (VALUES (1), (2)) v (x)
			GROUP BY s.card, v.x, win}),
	by_session('view', 'sessions from a view', q{SELECT card, win, count(*) AS n, sum(n) AS s FROM sessions GROUP BY card, win},
		setup => q{CREATE VIEW sessions AS SELECT t.card, t.n, streamproc.session(t.at, '25 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t}),
	by_session('statements', 'sessions beside other windows in one pipeline', undef,
		text => q{INSERT INTO s1 SELECT card, win, count(*) FROM (SELECT t.card, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win;
			INSERT INTO s2 SELECT t.city, w.window_end, sum(t.amount) FROM tx t, streamproc.hop(t.at, '5 min', '20 min') w GROUP BY t.city, w.window_end;
			INSERT INTO s1 SELECT city, win, count(*) FROM (SELECT t.city, streamproc.session(t.at, '2 s') OVER (PARTITION BY t.city ORDER BY t.at) AS win FROM other t) s GROUP BY city, win},
		sink => 'CREATE TABLE s1 (card text, win tstzrange, n bigint); CREATE TABLE s2 (city text, b timestamptz, s numeric)'),
	not_session('filter_values', 'a condition on rows above the sessions would leave out some rows of them', q{SELECT card, win, count(*) AS n FROM (SELECT t.card, t.n, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s
			WHERE n > 0 GROUP BY card, win}),
	not_session('filter_same_text', 'a condition above on a key whose equal values look different leaves out some rows of it',
		q{SELECT code::text, win, count(*) AS n FROM (SELECT t.code, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.code ORDER BY t.at) AS win FROM tx t) s WHERE code::text <> '1.0' GROUP BY code, win}),
	not_session('extra_column', 'a column that is no key divides sessions', q{SELECT city, win, count(*) AS n FROM (SELECT t.card, t.city, streamproc.session(t.at, '1 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s
			GROUP BY card, city, win}),
	by_session('span', 'a session that is cut, and what is left of it',
		q{SELECT card, win, count(*) AS n, sum(n) AS s, max(score) AS m, min(id) AS i FROM (SELECT t.*, streamproc.session(t.at, '1 min', max_span => '5 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}),
	by_session('span_short', 'sessions that are cut several times in a slice', q{SELECT card, win, count(*) AS n, sum(big) AS s FROM (SELECT t.*, streamproc.session(t.at, '2 min', '3 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}),
	by_session('span_borders', 'rows exactly max_span after the first one', q{SELECT flag, win, count(*) AS n FROM (SELECT t.*, streamproc.session(t.at, '30 s', '10 s') OVER (PARTITION BY t.flag ORDER BY t.at) AS win FROM tx t) s GROUP BY flag, win}),
	by_session('span_gap', 'max_span of a gap, and longer than all', q{SELECT card, win, count(*) AS n FROM (SELECT t.*, streamproc.session(t.at, '10 s', '10 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win
			UNION ALL SELECT city, win, count(*) FROM (SELECT t.*, streamproc.session(t.at, '10 s', '10 days') OVER (PARTITION BY t.city ORDER BY t.at) AS win FROM tx t) s GROUP BY city, win}),
	by_session('span_functions', 'aggregates of all kinds over sessions that are cut, FILTER, DISTINCT',
		q{SELECT card, win, sum(amount) AS s, max(note) AS m, array_agg(id ORDER BY id) AS a, count(DISTINCT city) AS d, sum(DISTINCT n) AS e, count(*) FILTER (WHERE flag) AS f, string_agg(city, ',' ORDER BY at, id) FILTER (WHERE flag) AS t, bool_or(flag) AS b
			FROM (SELECT t.*, streamproc.session(t.at, '40 s', '90 s') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t) s GROUP BY card, win}, by_value => ['s']),
	by_session('span_numeric_key', 'the first value seen of a key, in each of the sessions', q{SELECT code, win, count(*) AS n FROM (SELECT t.*, streamproc.session(t.at, '20 s', '25 s') OVER (PARTITION BY t.code ORDER BY t.at) AS win FROM tx t) s GROUP BY code, win},
		by_value => ['code']),
	by_session('span_no_partition', 'one key for all', q{SELECT win, count(*) AS n, max(id) AS i FROM (SELECT t.*, streamproc.session(t.at, '1 hour', '1 min') OVER (ORDER BY t.at) AS win FROM tx t) s GROUP BY win HAVING count(*) > 1}),
);

# Window functions and first rows over what window functions, DISTINCT ON, joins or as-of joins have answered.  {o} is the
# order of the window below, as in over.pl, {q} that of the one above, over a query q that gives out part and off, {p}, {r} and {f}
# over a join: rows of one instant are taken by the places of their messages, which the batch has to say.
use strict;
use warnings;

sub stacked
{
	my ($name, $catches, $select, %more) = @_;
	my %batch = (o => 't.at, t.part, t.off', q => 'q.at, q.part, q.off', p => 't.at, t.part, t.off, o.part, o.off', r => 'o.at, t.part, t.off, o.part, o.off', f => 'q.at, q.part, q.off, q.part2, q.off2',
		t => ', t.part, t.off, o.part, o.off', u => ', q.part, q.off');
	my %stream = (o => 't.at', q => 'q.at', p => 't.at', r => 'o.at', f => 'q.at', t => '', u => '');
	(my $stream = $select) =~ s/\{([oqprftu])\}/$stream{$1}/g;
	(my $batch = $select) =~ s/\{([oqprftu])\}/$batch{$1}/g;
	return { name => "stacked_$name", catches => $catches, select => $stream, batch => "INSERT INTO sink $batch", %more };
}

sub stacked_refused
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "stacked_$name", catches => $catches, must_refuse => 1, sink => 'CREATE TABLE sink (id bigint, p bigint)', text => "INSERT INTO sink $select", %more };
}

my $five = q{o.at BETWEEN t.at - interval '5 min' AND t.at + interval '5 min'};
my $rate = q{LEFT JOIN LATERAL (SELECT o.id AS rate_id, o.n AS rate_n FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC, o.id LIMIT 1) r ON true};

return (
	stacked('lag_lag', 'answers in another order than that of event time, partition and offset',
		q{SELECT q.id, q.prev, lag(q.prev) OVER (PARTITION BY q.card ORDER BY {q}) AS before, row_number() OVER (PARTITION BY q.card ORDER BY {q}) AS r
			FROM (SELECT t.*, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q}),
	stacked('other_key', 'keys above that are in other key groups, and other tasks, than below',
		q{SELECT q.id, q.city, q.c, lag(q.c) OVER (PARTITION BY q.city ORDER BY {q}) AS before, sum(q.c) OVER (PARTITION BY q.city ORDER BY q.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS s
			FROM (SELECT t.*, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '2 min' PRECEDING AND CURRENT ROW) AS c FROM tx t) q}),
	stacked('result_key', 'a result as key above, a condition between, one above',
		q{SELECT s.* FROM (SELECT q.id, q.prev, count(*) OVER (PARTITION BY q.prev ORDER BY q.at) AS n, max(q.id) OVER (PARTITION BY q.prev ORDER BY {q} ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS m
				FROM (SELECT t.*, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q WHERE q.prev <> q.city) s WHERE s.n % 2 = 1}),
	stacked('over_distinct', 'window functions over the first rows',
		q{SELECT q.id, lag(q.u) OVER (PARTITION BY q.city ORDER BY {q}) AS prev, count(*) OVER (PARTITION BY q.city ORDER BY q.at RANGE BETWEEN '1 hour' PRECEDING AND CURRENT ROW) AS n
			FROM (SELECT DISTINCT ON (t.u) t.u, t.id, t.city, t.at, t.part, t.off FROM tx t ORDER BY t.u, {o}) q}),
	stacked('distinct_over', 'the first answers of each key',
		q{SELECT DISTINCT ON (q.city, q.prev) q.city, q.prev, q.id FROM (SELECT t.*, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q ORDER BY q.city, q.prev, {q}}),
	stacked('distinct_distinct', 'the first ones among first rows, conditions on both',
		q{SELECT d.* FROM (SELECT DISTINCT ON (q.city) q.city, q.id, q.n FROM (SELECT DISTINCT ON (t.u) t.* FROM tx t ORDER BY t.u, {o}) q WHERE q.n IS NOT NULL ORDER BY q.city, {q}) d WHERE d.n > 0}),
	stacked('first_number', 'the same as row_number() = 1 over another one',
		q{SELECT s.* FROM (SELECT q.card, q.id, row_number() OVER (PARTITION BY q.card ORDER BY {q}) AS r FROM (SELECT t.*, row_number() OVER (PARTITION BY t.u ORDER BY {o}) AS r1 FROM tx t) q WHERE q.r1 = 1) s WHERE s.r = 1}),
	stacked('last_distinct', 'the last first row of each key, which takes the place of the one before',
		q{SELECT DISTINCT ON (q.city) q.city, q.id, q.at FROM (SELECT DISTINCT ON (t.u) t.* FROM tx t ORDER BY t.u, {o}) q ORDER BY q.city, q.at DESC, q.id DESC}, upsert => ['city']),
	stacked('last_pair', 'the last pair of each key, by the places of both rows among those of one instant',
		qq{SELECT DISTINCT ON (t.card) t.card, t.id, o.id AS other FROM tx t JOIN other o ON t.card = o.card AND $five ORDER BY t.card, t.at DESC, t.id, o.id}, upsert => ['card']),
	stacked('last_ties', 'the last answers of each key, those of one instant by partition and offset',
		q{SELECT s.* FROM (SELECT q.city, q.id, q.prev, row_number() OVER (PARTITION BY q.city ORDER BY q.at DESC{u}) AS rn
				FROM (SELECT t.*, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q) s WHERE s.rn <= 20}, upsert => [ 'city', 'rn' ]),
	stacked('best_ties', 'the best pairs of a window, equal ones by both places',
		qq{SELECT s.* FROM (SELECT t.flag, w.window_start, t.id, o.id AS other, row_number() OVER (PARTITION BY t.flag, w.window_start ORDER BY t.flag {t}) AS rn
				FROM tx t JOIN other o ON t.card = o.card AND $five, streamproc.tumble(t.at, '10 min') w) s WHERE s.rn <= 5}),
	stacked('pairs', 'pairs that share a row are one after another',
		qq{SELECT t.id, o.id AS other, lag(o.id) OVER (PARTITION BY t.card ORDER BY {p}) AS prev, row_number() OVER (PARTITION BY t.card ORDER BY {p}) AS r
			FROM tx t JOIN other o ON t.card = o.card AND $five}),
	stacked('pairs_right', 'in the order of the other side, whose rows lie behind those that bring them',
		qq{SELECT t.id, o.id AS other, lag(t.id) OVER (PARTITION BY o.city ORDER BY {r}) AS prev, count(*) OVER (PARTITION BY o.city ORDER BY o.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW) AS n
			FROM tx t JOIN other o ON t.card = o.card AND $five}),
	stacked('pairs_left', 'rows without partner among others',
		qq{SELECT t.id, o.id AS other, lag(o.id) OVER (PARTITION BY t.city ORDER BY {p}) AS prev, sum(o.n) OVER (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS s
			FROM tx t LEFT JOIN other o ON t.card = o.card AND t.city = o.city AND $five}),
	stacked('pairs_full', 'rows of either side alone, which come behind all that have one of the left side',
		qq{SELECT q.id, q.other, lag(q.other) OVER (PARTITION BY q.card ORDER BY {f}) AS prev, row_number() OVER (PARTITION BY q.card ORDER BY {f}) AS r
			FROM (SELECT coalesce(t.card, o.card) AS card, coalesce(t.at, o.at) AS at, t.id, o.id AS other, t.part, t.off, o.part AS part2, o.off AS off2
				FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five) q}),
	stacked('pairs_first', 'the first pair of each row, and of each key',
		qq{SELECT DISTINCT ON (t.card) t.card, t.id, o.id AS other, o.at FROM tx t JOIN other o ON t.card = o.card AND $five ORDER BY t.card, {p}}),
	stacked('asof', 'a rate and the one that the row before had found, of another key',
		qq{SELECT q.id, q.rate_n, lag(q.rate_id) OVER (PARTITION BY q.city ORDER BY {q}) AS prev, avg(q.rate_n) OVER (PARTITION BY q.city ORDER BY q.at RANGE BETWEEN '5 min' PRECEDING AND CURRENT ROW) AS mean
			FROM (SELECT t.*, r.rate_id, r.rate_n FROM tx t $rate) q}),
	stacked('asof_first', 'the first row that has found each version',
		qq{SELECT DISTINCT ON (q.rate_id) q.rate_id, q.id, q.card FROM (SELECT t.*, r.rate_id FROM tx t $rate) q ORDER BY q.rate_id, {q}}),
	stacked('three', 'three of them: the second one answers what the first one has answered by the epoch before',
		q{SELECT q.id, q.city, q.r1, q.r2, lag(q.r2) OVER (PARTITION BY q.flag ORDER BY {q}) AS prev
			FROM (SELECT q.*, count(*) OVER (PARTITION BY q.city ORDER BY q.at RANGE BETWEEN '3 min' PRECEDING AND CURRENT ROW) AS r2
				FROM (SELECT t.*, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS r1 FROM tx t) q WHERE q.r1 % 5 > 0) q}),
	stacked('three_pairs', 'a join, first pairs, numbers of them',
		qq{SELECT q.id, q.other, row_number() OVER (PARTITION BY q.city ORDER BY {q}) AS r
			FROM (SELECT DISTINCT ON (t.id) t.id, o.id AS other, t.city, t.at, t.part, t.off FROM tx t JOIN other o ON t.card = o.card AND $five ORDER BY t.id, {p}) q}),
	stacked('windows', 'windows over window functions over DISTINCT ON: they close when all that waits in both has come',
		q{SELECT q.card, w.window_start, count(*) AS n, count(q.prev) AS p, sum(q.s) AS s
			FROM (SELECT q.card, q.at, lag(q.u) OVER (PARTITION BY q.city ORDER BY {q}) AS prev, count(*) OVER (PARTITION BY q.city ORDER BY q.at RANGE BETWEEN '5 min' PRECEDING AND CURRENT ROW) AS s
				FROM (SELECT DISTINCT ON (t.u) t.* FROM tx t ORDER BY t.u, {o}) q) q, streamproc.tumble(q.at, '10 min') w
			GROUP BY q.card, w.window_start}),
	stacked('windows_pairs', 'windows of one side over window functions in the order of the other one, over a join',
		qq{SELECT w.window_start, count(*) AS n, sum(q.c) AS s, count(DISTINCT q.id) AS ids
			FROM (SELECT t.id, o.at AS later, count(*) OVER (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW) AS c FROM tx t JOIN other o ON t.card = o.card AND $five) q, streamproc.tumble(q.later, '1 min') w
			GROUP BY w.window_start}),
	stacked('sessions', 'sessions over window functions over an as-of join',
		qq{SELECT card, win, count(*) AS n, count(prev) AS p FROM (SELECT s.card, s.prev, streamproc.session(s.at, '1 min') OVER (PARTITION BY s.card ORDER BY s.at) AS win
			FROM (SELECT q.card, q.at, lag(q.rate_id) OVER (PARTITION BY q.city ORDER BY {q}) AS prev FROM (SELECT t.*, r.rate_id FROM tx t $rate) q) s) z GROUP BY card, win}),
	stacked('totals', 'running totals over two of them',
		q{SELECT q.prev, count(*) AS n, max(q.r) AS r FROM (SELECT q.prev, row_number() OVER (PARTITION BY q.prev ORDER BY {q}) AS r
				FROM (SELECT t.*, lag(t.city) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q) q GROUP BY q.prev}, upsert => ['prev']),
	stacked('top', 'first rows by another order over two of them',
		q{SELECT z.* FROM (SELECT s.city, s.id, s.d, row_number() OVER (PARTITION BY s.city ORDER BY s.d DESC NULLS LAST, s.id) AS rn
				FROM (SELECT q.city, q.id, q.id - lag(q.id) OVER (PARTITION BY q.city ORDER BY {q}) AS d FROM (SELECT DISTINCT ON (t.u) t.* FROM tx t ORDER BY t.u, {o}) q) s) z WHERE z.rn <= 4}, upsert => [ 'city', 'rn' ]),
	stacked('joined', 'tables joined below, between and above; several rows of one are of one place',
		q{SELECT s.id, s.owner, s.c, p.country FROM (SELECT q.id, q.city, c.owner, count(*) OVER (PARTITION BY c.owner ORDER BY q.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS c
				FROM (SELECT t.*, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) q JOIN card c ON c.card = q.card WHERE q.prev IS NOT NULL) s LEFT JOIN place p ON p.city = s.city}),
	stacked('long', 'values of thousands of bytes through both',
		q{SELECT q.id, q.note, q.prev, lag(q.prev) OVER (PARTITION BY q.flag ORDER BY {q}) AS before FROM (SELECT t.*, lag(t.note) OVER (PARTITION BY t.city ORDER BY {o}) AS prev FROM tx t) q WHERE q.id % 7 = 0}),
	stacked('cte', 'WITH in place of subqueries',
		q{WITH q AS (SELECT t.*, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) SELECT q.id, lag(q.prev) OVER (PARTITION BY q.city ORDER BY {q}) AS before FROM q}),

	stacked_refused('other_time', 'an order by a time that is a result',
		q{SELECT q.id, lag(q.id) OVER (PARTITION BY q.card ORDER BY q.prev) FROM (SELECT t.id, t.card, lag(t.at) OVER (PARTITION BY t.card ORDER BY t.at) AS prev FROM tx t) q}),
	stacked_refused('version_time', 'an order by the time of versions',
		q{SELECT q.id, lag(q.id) OVER (PARTITION BY q.card ORDER BY q.since) FROM (SELECT t.id, t.card, r.at AS since FROM tx t JOIN LATERAL (SELECT o.at FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC LIMIT 1) r ON true) q}),
	stacked_refused('missing_time', 'an order by a time that is null where there is no partner',
		qq{SELECT t.id, lag(t.id) OVER (PARTITION BY t.card ORDER BY o.at) FROM tx t LEFT JOIN other o ON t.card = o.card AND $five}),
	stacked_refused('union', 'rows of two operators in one order',
		q{SELECT q.id, lag(q.id) OVER (PARTITION BY q.card ORDER BY q.at) FROM (SELECT t.id, t.card, t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS p FROM tx t UNION ALL SELECT t.id, t.card, t.at, t.id FROM tx t) q}),
	stacked_refused('arrival', 'rows as they come below and above',
		q{SELECT q.id, lag(q.p) OVER (PARTITION BY q.card ORDER BY q.at) FROM (SELECT t.id, t.card, t.at, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS p FROM tx t) q}, options => { ordering => 'arrival' }),
);

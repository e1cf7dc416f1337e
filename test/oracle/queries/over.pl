# Window functions.  Where rows of one instant are answered one after another, the pipeline takes them by partition
# and offset, and the batch query has to say so: {o} is the order of both.
use strict;
use warnings;

sub over
{
	my ($name, $catches, $select, %more) = @_;
	(my $stream = $select) =~ s/\{o\}/t.at/g;
	(my $batch = $select) =~ s/\{o\}/t.at, t.part, t.off/g;
	return { name => "over_$name", catches => $catches, select => $stream, batch => "INSERT INTO sink $batch", %more };
}

return (
	over('lag', 'the row before of another key, or of the order of arrival; its null for none',
		q{SELECT t.id, t.card, lag(t.city) OVER k AS city, lag(t.at) OVER k AS at, lag(t.amount) OVER k AS amount FROM tx t WINDOW k AS (PARTITION BY t.card ORDER BY {o})}),
	over('lag_far', 'distance and default; 0 rows back',
		q{SELECT t.id, lag(t.n, 3) OVER k AS a, lag(t.n, 2, -1) OVER k AS b, lag(t.n, 0) OVER k AS c, lag(t.id, 7, t.id) OVER k AS d FROM tx t WINDOW k AS (PARTITION BY t.card ORDER BY {o})}),
	over('lag_long', 'values of thousands of bytes, kept from row to row',
		q{SELECT t.id, lag(t.note) OVER k AS note, lag(t.tags) OVER k AS tags, lag(t.i) OVER k AS i FROM tx t WINDOW k AS (PARTITION BY t.city ORDER BY {o})}),
	over('numbers', 'row_number, rank and dense_rank where several rows are of one instant',
		q{SELECT t.id, row_number() OVER k AS a, rank() OVER r AS b, dense_rank() OVER r AS c FROM tx t WINDOW k AS (PARTITION BY t.flag ORDER BY {o}), r AS (PARTITION BY t.flag ORDER BY t.at)}),
	over('no_partition', 'no PARTITION BY: one key for all',
		q{SELECT t.id, row_number() OVER k AS a, lag(t.id) OVER k AS b, count(*) OVER m AS c FROM tx t WINDOW k AS (ORDER BY {o}), m AS (ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW)}),
	over('range', 'rows that leave a frame by time, and those exactly at its begin',
		q{SELECT t.id, count(*) OVER m AS n, sum(t.n) OVER m AS s, sum(t.big) OVER m AS b, avg(t.n) OVER m AS a, count(t.note) OVER m AS c FROM tx t
			WINDOW m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW)}),
	over('range_borders', 'frames whose begin is a border on which rows lie',
		q{SELECT t.id, count(*) OVER a AS a, count(*) OVER b AS b, count(*) OVER c AS c FROM tx t
			WINDOW a AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '10 s' PRECEDING AND CURRENT ROW),
				b AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '0 s' PRECEDING AND CURRENT ROW),
				c AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '1 us' PRECEDING AND CURRENT ROW)}),
	over('range_many', 'several frames of one key, each with its own tail',
		q{SELECT t.id, count(*) OVER a AS a, max(t.big) OVER b AS b, sum(t.amount) OVER c AS c, count(*) OVER d AS d FROM tx t
			WINDOW a AS (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW),
				b AS (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '5 min' PRECEDING AND CURRENT ROW),
				c AS (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '30 min' PRECEDING AND CURRENT ROW),
				d AS (PARTITION BY t.city ORDER BY t.at RANGE BETWEEN '3 hours' PRECEDING AND CURRENT ROW)}),
	over('range_day', 'a frame of days and months: the calendar, and a day without rows in between',
		q{SELECT t.id, count(*) OVER a AS a, sum(t.n) OVER b AS b FROM tx t
			WINDOW a AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '1 day' PRECEDING AND CURRENT ROW),
				b AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '1 mon' PRECEDING AND CURRENT ROW)}),
	over('range_minmax', 'the extreme leaves: the next one has to be found',
		q{SELECT t.id, min(t.n) OVER m AS a, max(t.n) OVER m AS b, min(t.big) OVER m AS c, max(t.score) OVER m AS d, min(t.score) OVER m AS e, max(t.day) OVER m AS f, min(t.city) OVER m AS g FROM tx t
			WINDOW m AS (PARTITION BY t.flag ORDER BY t.at RANGE BETWEEN '3 min' PRECEDING AND CURRENT ROW)}),
	over('range_numeric', 'numeric, with NaN and infinities that come and go',
		q{SELECT t.id, sum(t.amount) OVER m AS s, avg(t.amount) OVER m AS a, sum(t.code) OVER m AS c, max(t.amount) OVER m AS x FROM tx t
			WINDOW m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '20 min' PRECEDING AND CURRENT ROW)}, by_value => [ 's', 'c', 'x' ]),
	over('range_float', 'sums of floats, which cannot be taken out again',
		q{SELECT t.id, sum(t.rate) OVER m AS s, avg(t.rate) OVER m AS a, sum(t.score) OVER m AS b FROM tx t
			WINDOW m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '20 min' PRECEDING AND CURRENT ROW)}, tolerance => 1e-9),
	over('range_functions', 'aggregates by functions, a state of type internal, and one of a user',
		q{SELECT t.id, array_agg(t.n) OVER m AS a, string_agg(t.city, ',') OVER m AS b, mean(t.amount) OVER m AS c, stddev(t.n) OVER m AS d, bool_or(t.flag) OVER m AS e, sum(t.i) OVER m AS f
			FROM (SELECT * FROM tx WHERE id % 3 = 0) t WINDOW m AS (PARTITION BY t.u ORDER BY t.at RANGE BETWEEN '1 hour' PRECEDING AND CURRENT ROW)}, by_value => ['c']),
	over('range_filter', 'FILTER, nulls, and arguments that are expressions',
		q{SELECT t.id, count(*) FILTER (WHERE t.flag) OVER m AS a, sum(t.n * 2::bigint) FILTER (WHERE t.n > 0) OVER m AS b, max(100 / nullif(t.n, 0)) FILTER (WHERE t.n <> 0) OVER m AS c FROM tx t
			WINDOW m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '15 min' PRECEDING AND CURRENT ROW)}),
	over('range_values', 'first_value, last_value and nth_value of a frame by time, where the last of it is of the same instant',
		q{SELECT t.id, first_value(t.at) OVER m AS a, nth_value(t.at, 2) OVER m AS b, last_value(t.at) OVER m AS c FROM tx t
			WINDOW m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '5 min' PRECEDING AND CURRENT ROW)}),
	over('rows', 'frames by number of rows',
		q{SELECT t.id, count(*) OVER a AS a, sum(t.n) OVER a AS b, max(t.big) OVER a AS c, avg(t.amount) OVER b AS d, first_value(t.id) OVER b AS e, nth_value(t.id, 2) OVER b AS f, last_value(t.id) OVER b AS g, sum(t.n) OVER c AS h FROM tx t
			WINDOW a AS (PARTITION BY t.card ORDER BY {o} ROWS BETWEEN 5 PRECEDING AND CURRENT ROW),
				b AS (PARTITION BY t.card ORDER BY {o} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW),
				c AS (PARTITION BY t.card ORDER BY {o} ROWS BETWEEN 0 PRECEDING AND CURRENT ROW)}),
	over('rows_long', 'more rows than a key ever has, and as many',
		q{SELECT t.id, sum(t.n) OVER a AS a, min(t.n) OVER a AS b, count(t.n) OVER b AS c FROM tx t
			WINDOW a AS (PARTITION BY t.flag ORDER BY {o} ROWS BETWEEN 100 PRECEDING AND CURRENT ROW),
				b AS (PARTITION BY t.flag ORDER BY {o} ROWS BETWEEN 9000 PRECEDING AND CURRENT ROW)}),
	over('unbounded', 'all rows before: states that only grow',
		q{SELECT t.id, count(*) OVER k AS a, sum(t.n) OVER k AS b, avg(t.amount) OVER k AS c, min(t.city) OVER k AS d, max(t.score) OVER k AS e, first_value(t.id) OVER r AS f, nth_value(t.id, 3) OVER r AS g, sum(t.n) OVER r AS h, last_value(t.id) OVER r AS i FROM tx t
			WINDOW k AS (PARTITION BY t.card ORDER BY t.at), r AS (PARTITION BY t.card ORDER BY {o} ROWS UNBOUNDED PRECEDING)}, by_value => ['c']),
	over('unbounded_functions', 'running states of aggregates by functions, kept as bytes from batch to batch',
		q{SELECT t.id, sum(t.amount) OVER k AS a, stddev(t.n) OVER k AS b, sum(t.i) OVER k AS c, mean(t.amount) OVER k AS d, bool_and(t.flag) OVER k AS e FROM tx t
			WHERE t.amount < 1e20 WINDOW k AS (PARTITION BY t.city ORDER BY t.at)}, by_value => [ 'a', 'd' ]),
	over('filter_above', 'conditions on results: those that the task asks for, and those that it cannot',
		q{SELECT q.id, q.card, q.prev, q.n FROM (SELECT t.id, t.card, t.city, t.at, lag(t.city) OVER k AS prev, lag(t.at) OVER k AS prev_at, count(*) OVER m AS n FROM tx t
				WINDOW k AS (PARTITION BY t.card ORDER BY {o}), m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW)) q
			WHERE (q.city <> q.prev AND q.at - q.prev_at < '10 min') OR q.n > 2 OR q.card IN (SELECT card FROM card WHERE owner IS NULL)}),
	over('top', 'row_number() <= n, which the planner takes away from where it stands',
		q{SELECT q.id, q.card, q.r FROM (SELECT t.id, t.card, row_number() OVER (PARTITION BY t.card ORDER BY {o}) AS r FROM tx t) q WHERE q.r <= 3}),
	over('first_only', 'the first of each key, as deduplication is written',
		q{SELECT q.id, q.u FROM (SELECT t.id, t.u, row_number() OVER (PARTITION BY t.u ORDER BY {o}) AS r FROM tx t) q WHERE q.r = 1}),
	over('joined', 'a table joined below, another one above',
		q{SELECT q.id, q.owner, q.prev, p.country FROM (SELECT t.id, t.city, c.owner, lag(t.city) OVER (PARTITION BY c.owner ORDER BY {o}) AS prev FROM tx t JOIN card c ON c.card = t.card) q LEFT JOIN place p ON p.city = q.city}),
	over('expressions', 'keys and arguments that are expressions, the key given out too',
		q{SELECT t.id, lower(t.city) AS k, lag(upper(t.city)) OVER k AS a, sum(t.n::bigint + 1) OVER m + 1 AS b, lower(t.city) || coalesce(lag(t.card) OVER k, '-') AS c FROM tx t
			WINDOW k AS (PARTITION BY lower(t.city), t.n % 3 ORDER BY {o}), m AS (PARTITION BY lower(t.city), t.n % 3 ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW)}),
	over('where', 'conditions below, and one on the key above that goes below',
		q{SELECT q.* FROM (SELECT t.id, t.card, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t WHERE t.n > 0) q WHERE q.card LIKE 'card-1%'}),
	over('numeric_key', 'a key whose equal values look different',
		q{SELECT t.id, lag(t.id) OVER (PARTITION BY t.code ORDER BY {o}) AS prev, count(*) OVER (PARTITION BY t.code ORDER BY t.at RANGE BETWEEN '10 min' PRECEDING AND CURRENT ROW) AS n FROM tx t}),
	over('uuid_key', 'keys with few rows each', q{SELECT t.id, t.u, lag(t.at) OVER k AS prev, row_number() OVER k AS r FROM tx t WINDOW k AS (PARTITION BY t.u ORDER BY {o})}),
	over('union', 'two branches over one topic',
		q{SELECT t.id, t.side, lag(t.side) OVER (PARTITION BY t.card ORDER BY t.at) IS NULL AS first FROM (SELECT id, card, at, 'a' AS side FROM tx WHERE id % 2 = 0 UNION ALL SELECT id, card, at, 'b' FROM tx WHERE id % 2 = 1 AND n > 0) t}),
	over('cte', 'a WITH query that is read twice',
		q{WITH q AS MATERIALIZED (SELECT t.id, t.card, lag(t.id) OVER (PARTITION BY t.card ORDER BY {o}) AS prev FROM tx t) SELECT q.id, q.prev FROM q WHERE q.prev > 0}),
	# ---- the first row of each key ----

	over('distinct_on', 'another row than the first of its key, or two of them; NULL is a key',
		q{SELECT DISTINCT ON (t.u) t.u, t.id, t.at, t.city FROM tx t ORDER BY t.u, {o}}),
	over('distinct_on_two', 'keys in another order than that of the select list, one of them an expression',
		q{SELECT DISTINCT ON (t.n % 50, lower(t.city)) t.id, t.card, lower(t.city) AS city FROM tx t WHERE t.n IS NOT NULL ORDER BY t.n % 50, lower(t.city), {o}}),
	over('distinct_on_below', 'the first rows, filtered and joined above: not the first of the filtered ones',
		q{SELECT q.id, q.card, c.owner FROM (SELECT DISTINCT ON (t.u) t.u, t.id, t.card, t.n FROM tx t ORDER BY t.u, {o}) q LEFT JOIN card c USING (card) WHERE q.n > 0}),
	over('distinct_on_code', 'a key whose equal values look different',
		q{SELECT DISTINCT ON (t.code, t.flag) t.id, t.code::text AS code FROM tx t ORDER BY t.code, t.flag, {o}}),
	over('distinct_on_long', 'rows of thousands of bytes that wait',
		q{SELECT DISTINCT ON (t.note) t.id, t.note, t.tags FROM tx t ORDER BY t.note, {o}}),

	{	name => 'over_distinct_last', catches => 'the last row of a key, which is never known', must_refuse => 1, sink => 'CREATE TABLE sink (u uuid, id bigint)', text => q{INSERT INTO sink SELECT DISTINCT ON (t.u) t.u, t.id FROM tx t ORDER BY t.u, t.at DESC} },
	{	name => 'over_distinct_any', catches => 'any row of a key', must_refuse => 1, sink => 'CREATE TABLE sink (u uuid, id bigint)', text => q{INSERT INTO sink SELECT DISTINCT ON (t.u) t.u, t.id FROM tx t} },
	{	name => 'over_lead', catches => 'a function that looks ahead', must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint, c bigint)', text => q{INSERT INTO sink SELECT t.id, lead(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS n FROM tx t} },
	{	name => 'over_following', catches => 'a frame that looks ahead', must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint, c bigint)', text => q{INSERT INTO sink SELECT t.id, count(*) OVER (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS n FROM tx t} },
	{	name => 'over_other_order', catches => 'an order that is not that of event time', must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint, c bigint)', text => q{INSERT INTO sink SELECT t.id, rank() OVER (PARTITION BY t.card ORDER BY t.amount) AS n FROM tx t} },
	{	name => 'over_two_partitions', catches => 'rows of different keys in one SELECT', must_refuse => 1,
		sink => 'CREATE TABLE sink (a bigint, b bigint, c bigint)', text => q{INSERT INTO sink SELECT t.id, lag(t.id) OVER (PARTITION BY t.card ORDER BY t.at) AS a, lag(t.id) OVER (PARTITION BY t.city ORDER BY t.at) AS b FROM tx t} },
);

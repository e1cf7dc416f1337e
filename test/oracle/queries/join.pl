# Joins of two topics, and of a topic with itself.
use strict;
use warnings;

sub topics_joined
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "topics_$name", catches => $catches, select => $select, %more };
}

sub topics_refused
{
	my ($name, $catches, $select) = @_;
	return { name => "topics_$name", catches => $catches, must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint)', text => "INSERT INTO sink $select" };
}

my $five = q{o.at BETWEEN t.at - interval '5 min' AND t.at + interval '5 min'};

return (
	topics_joined('inner', 'a pair that is missing, or comes twice, whatever the order of arrival',
		qq{SELECT t.id, o.id AS other, t.card, t.city, o.city AS c2, t.at, o.at AS at2 FROM tx t JOIN other o ON t.card = o.card AND $five}),
	topics_joined('left', 'rows without partner: too many, too few; null keys',
		qq{SELECT t.id, o.id AS other, t.card, o.card AS c2, o.amount FROM tx t LEFT JOIN other o ON t.card = o.card AND $five}),
	topics_joined('right', 'the other side is the one that is kept',
		qq{SELECT t.id, o.id AS other, o.card FROM tx t RIGHT JOIN other o ON t.u = o.u AND $five}),
	topics_joined('full', 'rows of both sides without partner',
		qq{SELECT t.id, o.id AS other, coalesce(t.city, o.city) AS city, t.at, o.at AS at2 FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five}),
	topics_joined('coalesce', 'which side a row of a full join is from',
		qq{SELECT coalesce(t.card, o.card) AS card, o.city, t.id, o.id AS other FROM tx t FULL JOIN other o ON t.card = o.card AND t.city = o.city AND $five WHERE t.id IS NULL OR o.id IS NULL OR t.n > 0}),
	topics_joined('using_inner', 'columns merged by USING, bounds in WHERE',
		qq{SELECT card, city, t.id, o.id AS other FROM tx t JOIN other o USING (card, city) WHERE $five}),
	topics_joined('transfer', 'debit with credit: a topic with itself, rows and their partners in one batch',
		q{SELECT a.id AS debit, b.id AS credit, a.u, a.amount, b.amount AS got, b.at - a.at AS took FROM tx a JOIN tx b ON a.u = b.u AND b.at BETWEEN a.at AND a.at + interval '30 min' WHERE a.flag AND NOT b.flag}),
	topics_joined('transfer_left', 'the same with debits that no credit follows; a row is its own partner, but for the condition',
		q{SELECT a.id AS debit, b.id AS credit FROM tx a LEFT JOIN tx b ON a.u = b.u AND b.at >= a.at AND b.at <= a.at + interval '30 min' AND a.id <> b.id}),
	topics_joined('self_full', 'a topic with itself, both sides kept: each row comes as two',
		q{SELECT a.id, b.id AS other FROM tx a FULL JOIN tx b ON a.card = b.card AND a.n::bigint = b.n::bigint + 1 AND b.at BETWEEN a.at - interval '10 min' AND a.at + interval '10 min'}),
	topics_joined('strict', 'borders that belong to the interval or do not, however the inequality is written',
		q{SELECT t.id, o.id AS other FROM tx t JOIN other o ON t.flag = o.flag AND o.at > t.at - interval '10 s' AND o.at - interval '10 s' <= t.at}),
	topics_joined('strict_other', 'the same from the other side',
		q{SELECT t.id, o.id AS other FROM other o LEFT JOIN tx t ON t.at < o.at + interval '10 s' AND interval '5 s' + t.at >= o.at - interval '5 s' AND t.flag = o.flag}),
	topics_joined('difference', 'bounds of the difference of two times',
		q{SELECT t.id, o.id AS other FROM tx t JOIN other o ON o.card = t.card AND o.at - t.at >= '-1 min' AND interval '2 min' > o.at - t.at}),
	topics_joined('before', 'an interval that ends before the row',
		q{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON t.card = o.card AND o.at BETWEEN t.at - interval '10 min' AND t.at - interval '1 min'}),
	topics_joined('behind', 'one that begins behind it, of both sides kept',
		q{SELECT t.id, o.id AS other FROM tx t FULL JOIN other o ON t.card = o.card AND o.at BETWEEN t.at + interval '1 min' AND t.at + interval '9 min'}),
	topics_joined('never', 'an interval that is empty',
		q{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON t.card = o.card AND o.at BETWEEN t.at + interval '1 min' AND t.at - interval '1 min'}),
	topics_joined('same_time', 'equal times as the bounds',
		q{SELECT a.id, b.id AS other FROM dst a JOIN dst b ON a.k = b.k AND a.at = b.at}),
	topics_joined('hours', 'nights in which clocks are set: hours',
		q{SELECT a.id, b.id AS other FROM dst a LEFT JOIN dst b ON a.k = b.k AND a.v = b.v AND b.at BETWEEN a.at AND a.at + interval '24 hours' AND a.id <> b.id}),
	topics_joined('days', 'nights in which clocks are set: days, from either side',
		q{SELECT a.id, b.id AS other FROM dst a JOIN dst b ON a.k = b.k AND b.at >= a.at + interval '1 day' AND b.at - interval '2 days' < a.at WHERE (a.v + b.v) % 7 = 0}),
	topics_joined('numeric_key', 'a key whose equal values look different: both are given out as they came',
		q{SELECT t.id, o.id AS other, t.code::text AS a, o.code::text AS b FROM tx t JOIN other o ON t.code = o.code AND o.at BETWEEN t.at - interval '20 s' AND t.at + interval '20 s'}),
	topics_joined('float_key', 'zeros of both signs, and NaN, as keys',
		q{SELECT t.id, o.id AS other, t.spec::text AS a, o.spec::text AS b FROM tx t LEFT JOIN other o ON t.spec = o.spec AND o.at BETWEEN t.at - interval '20 s' AND t.at + interval '20 s'}),
	topics_joined('cross_key', 'numbers of two types are equal',
		q{SELECT t.id, o.id AS other FROM tx t JOIN other o ON t.n % 50 = o.id % 50 AND o.at BETWEEN t.at - interval '1 min' AND t.at + interval '1 min'}),
	topics_joined('odd_keys', 'keys of many types, several of them',
		q{SELECT a.id, b.id AS other FROM odd a JOIN odd b ON a.k_char = b.k_char AND a.k_interval = b.k_interval AND a.k_mood = b.k_mood AND b.at BETWEEN a.at - interval '3 min' AND a.at + interval '3 min'}),
	topics_joined('expressions', 'keys that are expressions; conditions of the pair with LEFT JOIN',
		qq{SELECT t.id, o.id AS other, upper(t.card) || coalesce(o.city, '-') AS x, t.n + o.n::bigint AS s FROM tx t LEFT JOIN other o ON lower(t.city) = lower(o.city) AND $five AND t.amount > o.amount AND (t.n > 0 OR o.flag)}),
	topics_joined('one_sided', 'conditions of one side with LEFT JOIN: of the kept one they make rows without partner, of the other not',
		qq{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON t.card = o.card AND $five AND t.flag AND o.n > 0}),
	topics_joined('one_sided_full', 'the same with FULL JOIN',
		qq{SELECT t.id, o.id AS other FROM tx t FULL JOIN other o ON t.card = o.card AND $five AND t.flag AND o.n > 0}),
	topics_joined('where', 'conditions of WHERE, which go below where they may',
		qq{SELECT t.id, o.id AS other FROM tx t JOIN other o ON t.card = o.card AND $five WHERE t.flag AND o.n > 0 AND t.amount < o.amount AND t.card <> 'card-1'}),
	topics_joined('where_left', 'WHERE over a LEFT JOIN: on the kept side, and on columns that are null',
		qq{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON t.card = o.card AND $five WHERE t.flag AND coalesce(o.n, 1) > 0}),
	topics_joined('anti', 'rows that have no partner, and no others',
		qq{SELECT t.id, t.card, t.at FROM tx t LEFT JOIN other o ON t.card = o.card AND $five WHERE o.id IS NULL}),
	topics_joined('lookup', 'tables joined above, also by a subquery in WHERE',
		qq{SELECT t.id, o.id AS other, c.owner, p.country FROM tx t JOIN other o ON t.card = o.card AND $five LEFT JOIN card c ON c.card = t.card JOIN place p ON p.city = o.city WHERE t.amount > (SELECT value FROM setting WHERE name = 'low') OR EXISTS (SELECT FROM card_group g WHERE g.card = o.card)}),
	topics_joined('lookup_pairs', 'columns that only a condition of pairs uses, and a table joined above',
		qq{SELECT t.id, o.id AS other, p.country FROM tx t LEFT JOIN other o ON t.card = o.card AND $five AND t.n > o.n LEFT JOIN place p ON p.city = o.city}),
	topics_joined('lookup_below', 'tables joined below, in a subquery and in FROM',
		qq{SELECT t.id, o.id AS other, c.owner, o.country FROM (tx t JOIN card c ON c.card = t.card) LEFT JOIN (SELECT x.*, p.country FROM other x JOIN place p USING (city)) o ON t.card = o.card AND $five}),
	topics_joined('comma', 'a join that is written with a comma, and a table between',
		qq{SELECT t.id, o.id AS other, c.owner FROM tx t, card c, other o WHERE c.card = t.card AND t.card = o.card AND $five}),
	topics_joined('cte', 'a WITH query that is read by both sides',
		q{WITH q AS (SELECT id, card, at, n FROM tx WHERE n % 2 = 0) SELECT a.id, b.id AS other FROM q a LEFT JOIN q b ON a.card = b.card AND b.at BETWEEN a.at AND a.at + interval '3 min' AND a.id < b.id}),
	topics_joined('cte_kept', 'one that is computed once; the join stands in a WITH query, too',
		q{WITH q AS MATERIALIZED (SELECT id, card, at, n FROM tx WHERE n % 3 = 0), j AS (SELECT a.id, o.id AS other, o.n FROM q a JOIN (SELECT * FROM other WHERE id > 0) o ON a.card = o.card AND o.at BETWEEN a.at AND a.at + interval '9 min') SELECT id, other FROM j WHERE n > 0}),
	topics_joined('view', 'a side that is a view', qq{SELECT t.id, o.id AS other, o.big FROM tx t JOIN flagged o ON t.card = o.card AND $five},
		setup => 'CREATE VIEW flagged AS SELECT id, at, card, n * 2::bigint AS big FROM other WHERE flag'),
	topics_joined('union', 'a side that is a union of topics',
		q{SELECT t.id, o.id AS other, o.side FROM (SELECT id, at, card, 'a' AS side FROM other WHERE flag UNION ALL SELECT id, at, card, 'b' FROM tx WHERE n > 900) o LEFT JOIN tx t ON t.card = o.card AND t.at BETWEEN o.at - interval '2 min' AND o.at + interval '1 min'}),
	topics_joined('two_branches', 'two joins in one statement',
		q{SELECT t.id, o.id AS other FROM tx t JOIN other o ON t.u = o.u AND o.at BETWEEN t.at AND t.at + interval '10 min' UNION ALL SELECT o.id, t.id FROM tx t RIGHT JOIN other o ON t.u = o.u AND t.at BETWEEN o.at AND o.at + interval '10 min'}),
	topics_joined('long', 'values of thousands of bytes and arrays, kept and given out',
		q{SELECT t.id, o.id AS other, t.note, o.note AS n2, o.tags, t.i FROM tx t LEFT JOIN other o ON t.city = o.city AND o.at BETWEEN t.at - interval '20 s' AND t.at + interval '20 s'}),
	topics_joined('whole_row', 'a row as a value, null where there is no partner',
		qq{SELECT t.id, o IS NULL AS alone, (to_jsonb(o)->>'id')::bigint AS other FROM tx t LEFT JOIN other o ON t.card = o.card AND $five}),
	topics_joined('nothing', 'no column of either side is used', qq{SELECT 1 AS one FROM tx t JOIN other o ON t.card = o.card AND $five}),
	topics_joined('hot', 'one key for all rows: many of them in each slice',
		q{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON (t.id IS NULL) = (o.id IS NULL) AND o.at BETWEEN t.at - interval '3 s' AND t.at + interval '1 s'}),
	topics_joined('wide', 'an interval of a day: nothing of the state goes before the end',
		q{SELECT t.id, o.id AS other FROM tx t LEFT JOIN other o ON t.u = o.u AND o.at BETWEEN t.at - interval '12 hours' AND t.at + interval '12 hours'}),

	# found on the way: WITH queries over a topic below an operator
	topics_joined('with_groups', 'a WITH query of the INSERT that is read below groups, once and twice, computed once or not',
		undef, sink => 'CREATE TABLE sink (card text, at timestamptz, n bigint); CREATE TABLE sink2 (LIKE sink)',
		text => q{WITH x AS (SELECT * FROM tx) INSERT INTO sink SELECT x.card, w.window_start, count(*) FROM x, streamproc.tumble(x.at, '10 min') w GROUP BY x.card, w.window_start;
			WITH x AS MATERIALIZED (SELECT * FROM tx WHERE n > 0) INSERT INTO sink2 SELECT y.card, w.window_start, count(*) FROM (SELECT card, at FROM x WHERE flag UNION ALL SELECT city, at FROM x) y, streamproc.tumble(y.at, '10 min') w GROUP BY y.card, w.window_start}),
	topics_joined('with_over', 'the same below window functions',
		undef, sink => 'CREATE TABLE sink (id bigint, n bigint)',
		text => q{WITH x AS MATERIALIZED (SELECT * FROM tx WHERE n > 0) INSERT INTO sink SELECT x.id, count(*) OVER (PARTITION BY x.card ORDER BY x.at) FROM x}),

	topics_refused('no_bound', 'rows that would be kept for ever', 'SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card'),
	topics_refused('one_bound', 'rows of one side that would be kept for ever', q{SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND o.at >= t.at - interval '1 min'}),
	topics_refused('no_key', 'all with all', q{SELECT t.id, o.id FROM tx t JOIN other o ON o.at BETWEEN t.at AND t.at + interval '1 min'}),
	topics_refused('months', 'an interval that has no length', q{SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND o.at BETWEEN t.at AND t.at + interval '1 mon'}),
	topics_refused('variable', 'an interval that depends on the row', q{SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND o.at BETWEEN t.at AND t.at + o.i}),
	topics_refused('three', 'three topics', qq{SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND $five JOIN odd x ON x.id = t.id AND x.at = t.at}),
	topics_refused('grouped', 'groups above a join, without a window, that replace nothing', qq{SELECT t.id, count(*) FROM tx t JOIN other o ON t.card = o.card AND $five GROUP BY t.id}),
	topics_refused('over_below', 'a join of window functions', qq{SELECT t.id, o.id FROM (SELECT *, lag(x.id) OVER (PARTITION BY x.card ORDER BY x.at) AS prev FROM tx x) t JOIN other o ON t.card = o.card AND $five}),
	{	name => 'topics_mixed_with', catches => 'rows of the topic beside a join, in WITH', must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint); CREATE TABLE more (LIKE sink)',
		text => qq{WITH i AS (INSERT INTO more SELECT id, id FROM tx) INSERT INTO sink SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND $five} },
	topics_refused('mixed', 'a branch with a join and one without', qq{SELECT t.id, o.id FROM tx t JOIN other o ON t.card = o.card AND $five UNION ALL SELECT id, id FROM tx}),
);

# As-of joins: each row with the version of its key that was the last one at its event time.
use strict;
use warnings;

sub asof
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "asof_$name", catches => $catches, select => $select, %more };
}

sub asof_refused
{
	my ($name, $catches, $select, %more) = @_;
	return { name => "asof_$name", catches => $catches, must_refuse => 1, sink => 'CREATE TABLE sink (a bigint, b bigint)', text => "INSERT INTO sink $select", %more };
}

# the last row of other with the card of t; $and: more conditions, $order: among those of one instant
sub last_of
{
	my ($columns, $and, $order) = @_;
	return "LATERAL (SELECT $columns FROM other o WHERE o.card = t.card AND o.at <= t.at" . ($and ? " AND $and" : '') . ' ORDER BY o.at DESC, ' . ($order // 'o.id DESC') . ' LIMIT 1) v';
}

my $last = last_of('o.id, o.amount, o.city, o.n, o.at');

return (
	asof('left', 'a version that is too old, too young, or of another key; rows without a version, null keys',
		"SELECT t.id, t.card, t.at, v.id AS other, v.amount, v.at AS since FROM tx t LEFT JOIN $last ON true"),
	asof('inner', 'rows without a version that are given out', "SELECT t.id, t.amount * v.amount AS product, v.at FROM tx t JOIN $last ON true"),
	asof('cross', 'the same, written otherwise', "SELECT t.id, v.id AS other FROM tx t CROSS JOIN $last"),
	asof('comma', 'the same with a comma, and a table between', "SELECT t.id, v.id AS other, c.owner FROM tx t, $last, card c WHERE c.card = t.card"),
	asof('star', 'all columns of the versions, many of them', 'SELECT t.id, v.* FROM (SELECT id AS tid, card, at FROM tx) t (id, card, at) LEFT JOIN ' . last_of('o.id AS other, o.city, o.amount, o.score, o.rate, o.n, o.big, o.flag, o.u, o.note, o.day, o.i, o.code, o.spec, o.tags') . ' ON true'),
	asof('strict', 'a version of the same instant, which is not there yet; both topics are one',
		'SELECT a.id, b.id AS other, b.at FROM tx a LEFT JOIN LATERAL (SELECT x.id, x.at FROM tx x WHERE x.card = a.card AND x.at < a.at ORDER BY x.at DESC, x.id DESC LIMIT 1) b ON true WHERE a.n % 4 = 0'),
	asof('same_instant', 'a version of the same instant, also the row itself; the inequality the other way round',
		'SELECT a.id, b.id AS other, b.at FROM dst a LEFT JOIN LATERAL (SELECT x.id, x.at FROM dst x WHERE a.k = x.k AND a.at >= x.at ORDER BY x.at DESC, x.id LIMIT 1) b ON true'),
	asof('same_instant_strict', 'the same, strict', 'SELECT a.id, b.id AS other FROM dst a LEFT JOIN LATERAL (SELECT x.id, x.at FROM dst x WHERE a.k = x.k AND a.at > x.at ORDER BY x.at DESC, x.id DESC LIMIT 1) b ON true'),
	asof('place', 'versions of one instant by partition and offset, which is their order anyway',
		'SELECT a.id, b.id AS other FROM tx a LEFT JOIN LATERAL (SELECT x.id, x.at FROM tx x WHERE x.flag = a.flag AND x.at <= a.at ORDER BY x.at DESC, x.part DESC, x.off DESC LIMIT 1) b ON true WHERE a.n % 4 = 1'),
	asof('order', 'versions of one instant by columns, with nulls, up and down',
		'SELECT a.id, b.id AS other, b.v FROM dst a LEFT JOIN LATERAL (SELECT x.id, x.v, x.k FROM dst x WHERE x.at <= a.at AND x.v % 2 = a.v % 2 ORDER BY x.at DESC, x.k NULLS FIRST, x.v DESC, x.id LIMIT 1) b ON true'),
	asof('order_last', 'the same with nulls at the other end, and an expression', 'SELECT a.id, b.id AS other FROM dst a LEFT JOIN LATERAL (SELECT x.id FROM dst x WHERE x.at <= a.at AND x.v % 2 = a.v % 2 ORDER BY x.at DESC, upper(x.k) DESC NULLS LAST, -x.v, x.id DESC LIMIT 1) b ON true'),
	asof('keys', 'several keys, one of them null now and then',
		'SELECT t.id, v.id AS other FROM tx t LEFT JOIN LATERAL (SELECT o.id FROM other o WHERE (o.city, o.flag) = (t.city, t.flag) AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('expressions', 'keys that are expressions; expressions in the subquery',
		q{SELECT t.id, v.x, v.big FROM tx t LEFT JOIN LATERAL (SELECT upper(o.city) || '/' || o.id AS x, o.n * 2::bigint AS big FROM other o WHERE lower(o.city) = lower(t.city || '') AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true}),
	asof('numeric_key', 'a key whose equal values look different: each is given out as it came',
		'SELECT t.id, t.code::text AS a, v.code::text AS b, v.id AS other FROM tx t LEFT JOIN LATERAL (SELECT o.id, o.code FROM other o WHERE o.code = t.code AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('float_key', 'zeros of both signs, and NaN, as keys',
		'SELECT t.id, t.spec::text AS a, v.spec::text AS b, v.id AS other FROM tx t CROSS JOIN LATERAL (SELECT o.id, o.spec FROM other o WHERE o.spec = t.spec AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v'),
	asof('cross_key', 'numbers of two types are equal',
		'SELECT t.id, v.id AS other FROM tx t JOIN LATERAL (SELECT o.id FROM other o WHERE o.id % 50 = t.n % 50 AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('odd_keys', 'keys of many types',
		'SELECT a.id, b.id AS other FROM odd a LEFT JOIN LATERAL (SELECT x.id FROM odd x WHERE x.k_char = a.k_char AND x.k_interval = a.k_interval AND x.k_mood = a.k_mood AND x.at < a.at ORDER BY x.at DESC, x.id DESC LIMIT 1) b ON true'),
	asof('filter', 'a version that the conditions of the subquery leave out hides the one before it',
		'SELECT t.id, v.id AS other FROM tx t LEFT JOIN ' . last_of('o.id', 'o.flag AND o.n > 0') . ' ON true'),
	asof('filter_lookup', 'a condition with a subquery over a table, and a table joined with the versions',
		'SELECT t.id, v.id AS other, v.country FROM tx t LEFT JOIN LATERAL (SELECT o.id, p.country FROM other o JOIN place p USING (city) WHERE o.card = t.card AND o.at <= t.at AND EXISTS (SELECT FROM card_group g WHERE g.card = o.card) ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('where', 'a condition above that chooses another version', "SELECT t.id, v.id AS other FROM tx t LEFT JOIN $last ON true WHERE t.flag AND t.amount < v.amount AND v.n > 0"),
	asof('where_left', 'conditions above on columns that are null', "SELECT t.id, v.id AS other FROM tx t LEFT JOIN $last ON true WHERE t.n > 0 AND coalesce(v.n, 1) > 0"),
	asof('anti', 'rows without a version, and no others', "SELECT t.id, t.card, t.at FROM tx t LEFT JOIN $last ON true WHERE v.id IS NULL"),
	asof('on', 'conditions in ON of an inner join', "SELECT t.id, v.id AS other FROM tx t JOIN $last ON v.n > 0 AND t.amount > v.amount"),
	asof('age', 'how old a version may be, asked for above', "SELECT t.id, CASE WHEN v.at > t.at - interval '10 min' THEN v.amount END AS amount FROM tx t LEFT JOIN $last ON true"),
	asof('lookup', 'tables joined on both sides and above, a subquery in WHERE',
		"SELECT t.id, v.id AS other, c.owner, p.country FROM (tx t JOIN card c USING (card)) LEFT JOIN LATERAL (SELECT o.id, o.city FROM other o WHERE o.card = c.card AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true LEFT JOIN place p ON p.city = v.city WHERE t.amount > (SELECT value FROM setting WHERE name = 'low') OR v.id IS NULL"),
	asof('using', 'a key that is merged by USING', 'SELECT t.id, v.id AS other FROM (tx JOIN card USING (card)) t CROSS JOIN ' . last_of('o.id')),
	asof('view', 'both sides are views', 'SELECT t.id, v.id AS other, v.big FROM positive t LEFT JOIN LATERAL (SELECT f.* FROM flagged f WHERE f.card = t.card AND f.at <= t.at ORDER BY f.at DESC, f.id DESC LIMIT 1) v ON true',
		setup => 'CREATE VIEW flagged AS SELECT id, at, card, n * 2::bigint AS big FROM other WHERE flag; CREATE VIEW positive AS SELECT * FROM tx WHERE n > 0'),
	asof('in_view', 'the join is in a view', 'SELECT id, other FROM joined WHERE n > 0',
		setup => 'CREATE VIEW joined AS SELECT t.id, t.n, v.id AS other FROM tx t LEFT JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('union', 'sides that are unions of topics',
		q{SELECT t.id, t.side, v.id AS other, v.side AS s2 FROM (SELECT id, at, card, 'a' AS side FROM tx WHERE n > 500 UNION ALL SELECT id, at, card, 'b' FROM other) t LEFT JOIN LATERAL (SELECT * FROM (SELECT id, at, card, 'c' AS side FROM other WHERE flag UNION ALL SELECT id, at, card, 'd' FROM tx WHERE n < -500) o WHERE o.card = t.card AND o.at < t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true}),
	asof('cte', 'a WITH query that both sides read; the join stands in one, too',
		'WITH q AS (SELECT id, card, at, n FROM tx WHERE n % 2 = 0), j AS (SELECT a.id, b.id AS other, a.n FROM q a LEFT JOIN LATERAL (SELECT x.id FROM q x WHERE x.card = a.card AND x.at < a.at ORDER BY x.at DESC, x.id DESC LIMIT 1) b ON true) SELECT id, other FROM j WHERE n > 0'),
	asof('two_branches', 'two joins in one statement',
		"SELECT t.id, v.id AS other FROM tx t JOIN $last ON true UNION ALL SELECT o.id, v.id FROM other o LEFT JOIN LATERAL (SELECT t.id FROM tx t WHERE t.u = o.u AND t.at <= o.at ORDER BY t.at DESC, t.id DESC LIMIT 1) v ON true"),
	asof('long', 'values of thousands of bytes and arrays, kept and given out', 'SELECT t.id, t.note, v.note AS n2, v.tags, v.i, v.id AS other FROM tx t LEFT JOIN ' . last_of('o.id, o.note, o.tags, o.i') . ' ON true'),
	asof('nothing', 'no column of either side is used', "SELECT 1 AS one FROM tx t JOIN $last ON true"),
	asof('hot', 'one key for all rows', 'SELECT t.id, v.id AS other FROM tx t LEFT JOIN LATERAL (SELECT o.id FROM other o WHERE (o.id IS NULL) = (t.id IS NULL) AND o.at <= t.at ORDER BY o.at DESC, o.id DESC LIMIT 1) v ON true'),
	asof('ttl', 'a version that is forgotten too soon or too late: by its own age, at the instant of the row',
		"SELECT t.id, v.id AS other FROM tx t LEFT JOIN $last ON true", options => { state_ttl => '10 min' },
		batch => q{INSERT INTO sink SELECT t.id, v.id FROM tx t LEFT JOIN } . last_of('o.id', q{o.at > t.at - interval '10 min'}) . ' ON true'),
	asof('ttl_own', 'a version that is forgotten at the instant of the row itself', 'SELECT a.id, b.id AS other FROM tx a JOIN LATERAL (SELECT x.id FROM tx x WHERE x.u = a.u AND x.at <= a.at ORDER BY x.at DESC, x.id DESC LIMIT 1) b ON true', options => { state_ttl => '1 us' },
		batch => 'INSERT INTO sink SELECT a.id, b.id FROM tx a JOIN LATERAL (SELECT x.id FROM tx x WHERE x.u = a.u AND x.at = a.at ORDER BY x.id DESC LIMIT 1) b ON true'),
	asof('grouped_above', 'groups in a SELECT around it: windows that close before the rows that wait have come',
		"SELECT q.card, w.window_start, count(*) AS n, sum(q.product) AS total FROM (SELECT t.card, t.at, t.n * v.n::bigint AS product FROM tx t LEFT JOIN $last ON true) q, streamproc.tumble(q.at, '1 min') w GROUP BY q.card, w.window_start"),
	asof('grouped_itself', 'groups of the same SELECT; windows that slide',
		"SELECT t.city, w.window_end, count(v.id) AS n, max(v.amount) AS top, count(*) AS all_rows FROM tx t LEFT JOIN $last ON true, streamproc.hop(t.at, '1 min', '5 min') w GROUP BY t.city, w.window_end", by_value => ['top']),
	asof('grouped_running', 'running totals of rows with their versions', "SELECT t.card, sum(t.n * v.n::bigint) AS total, count(*) AS n FROM tx t JOIN $last ON true WHERE t.card IS NOT NULL GROUP BY t.card", upsert => ['card']),
	asof('grouped_sessions', 'sessions of them', "SELECT q.card, q.win, count(*) AS n, sum(q.vn) AS vn FROM (SELECT t.card, v.n AS vn, streamproc.session(t.at, '2 min') OVER (PARTITION BY t.card ORDER BY t.at) AS win FROM tx t JOIN $last ON true) q GROUP BY q.card, q.win"),
	asof('grouped_first', 'the best of each window', "SELECT window_start, id, rn FROM (SELECT q.id, w.window_start, row_number() OVER (PARTITION BY w.window_start ORDER BY q.product DESC NULLS LAST, q.id) AS rn FROM (SELECT t.id, t.at, t.amount * v.amount AS product FROM tx t JOIN $last ON true WHERE t.amount < 10000) q, streamproc.tumble(q.at, '10 min') w) x WHERE rn <= 3"),

	asof_refused('grouped_versions', 'windows of the time of the versions, which is not event time', "SELECT count(*), sum(q.id) FROM (SELECT t.id, v.at FROM tx t JOIN $last ON true) q, streamproc.tumble(q.at, '1 min') w GROUP BY w.window_start"),
	asof_refused('no_order', 'any version', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at LIMIT 1) v'),
	asof_refused('ascending', 'the first version', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at LIMIT 1) v'),
	asof_refused('other_order', 'versions in another order', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.n DESC LIMIT 1) v'),
	asof_refused('several_versions', 'more than one version', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC LIMIT 2) v'),
	asof_refused('ties', 'all versions of one instant', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC FETCH FIRST 1 ROW WITH TIES) v'),
	asof_refused('offset', 'the version before', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at ORDER BY o.at DESC LIMIT 1 OFFSET 1) v'),
	asof_refused('no_bound', 'versions of the future', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card ORDER BY o.at DESC LIMIT 1) v'),
	asof_refused('future', 'versions of the future alone', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at >= t.at ORDER BY o.at DESC LIMIT 1) v'),
	asof_refused('two_bounds', 'versions of a time', q{SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at AND o.at > t.at - interval '1 h' ORDER BY o.at DESC LIMIT 1) v}),
	asof_refused('moved', 'another time than that of the row', q{SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.card = t.card AND o.at <= t.at - interval '1 h' ORDER BY o.at DESC LIMIT 1) v}),
	asof_refused('no_key', 'the last version of all', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id FROM other o WHERE o.at <= t.at ORDER BY o.at DESC LIMIT 1) v'),
	asof_refused('both_sides', 'a condition on the row and its version', 'SELECT t.id, v.id FROM tx t CROSS JOIN ' . last_of('o.id', 'o.amount < t.amount')),
	asof_refused('outer_column', 'a column of the row in the subquery', 'SELECT t.id, v.x FROM tx t CROSS JOIN ' . last_of('o.id + t.id AS x')),
	asof_refused('volatile', 'chance', 'SELECT t.id, v.id FROM tx t CROSS JOIN ' . last_of('o.id', 'random() < 0.5')),
	asof_refused('left_on', 'a condition of an outer join', "SELECT t.id, v.id FROM tx t LEFT JOIN $last ON v.n > 0"),
	asof_refused('groups_below', 'versions that are groups', 'SELECT t.id, v.n FROM tx t CROSS JOIN LATERAL (SELECT count(*) AS n FROM other o WHERE o.card = t.card AND o.at <= t.at GROUP BY o.at ORDER BY o.at DESC LIMIT 1) v'),
	asof_refused('over_below', 'rows that window functions have answered', 'SELECT t.id, v.id FROM (SELECT *, lag(x.id) OVER (PARTITION BY x.card ORDER BY x.at) AS prev FROM tx x) t CROSS JOIN ' . last_of('o.id')),
	asof_refused('three', 'two of them', "SELECT t.id, v.id FROM tx t CROSS JOIN $last CROSS JOIN LATERAL (SELECT x.id FROM odd x WHERE x.id = t.id AND x.at <= t.at ORDER BY x.at DESC LIMIT 1) w"),
	asof_refused('union_in', 'branches in the subquery', 'SELECT t.id, v.id FROM tx t CROSS JOIN LATERAL (SELECT o.id, o.at FROM other o WHERE o.card = t.card AND o.at <= t.at UNION ALL SELECT o.id, o.at FROM odd o WHERE o.id = t.id ORDER BY at DESC LIMIT 1) v'),
	asof_refused('whole_row', 'a version as a value', "SELECT t.id, (to_jsonb(v)->>'id')::bigint FROM tx t CROSS JOIN $last"),
	asof_refused('arrival', 'versions as they come', "SELECT t.id, v.id FROM tx t CROSS JOIN $last", options => { ordering => 'arrival' }),
);

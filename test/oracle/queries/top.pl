# The first rows of each key.  Where equal ones compete for a place the pipeline takes them by partition and offset, and the
# batch query has to say so: {o} is nothing there, and the order of both here.
use strict;
use warnings;

sub top
{
	my ($name, $catches, $select, %more) = @_;
	(my $stream = $select) =~ s/\{o\}//g;
	(my $batch = $select) =~ s/\{o\}/, t.part, t.off/g;
	# an upsert's text is made of the select: there the order must be unique
	return { name => "top_$name", catches => $catches, select => $stream, $more{upsert} ? () : (batch => "INSERT INTO sink $batch"), %more };
}

my $w5 = q{streamproc.tumble(t.at, '5 min') w};
my $w1h = q{streamproc.tumble(t.at, '1 hour') w};

return (
	# ---- of a window ----

	top('window', 'the best rows of another window, or more of them',
		qq{SELECT q.id, q.card, q.window_start, q.amount, q.rn FROM (SELECT t.id, t.card, t.amount, w.window_start, row_number() OVER (PARTITION BY w.window_start, w.window_end, t.card ORDER BY t.amount DESC{o}) AS rn FROM tx t, $w5) q WHERE q.rn <= 3}),
	top('window_start', 'a window that is known by its start alone; both borders given out',
		qq{SELECT q.* FROM (SELECT t.id, w.window_start, w.window_end, row_number() OVER (PARTITION BY w.window_start ORDER BY t.n{o}) AS rn FROM tx t, $w5) q WHERE q.rn < 5}),
	top('window_end', 'a window that is known by its end alone',
		qq{SELECT q.* FROM (SELECT t.id, w.window_end, row_number() OVER (PARTITION BY t.city, w.window_end ORDER BY t.big DESC, t.n{o}) AS rn FROM tx t, $w1h) q WHERE 2 >= q.rn}),
	top('window_long', 'all places of a list, and lists that are not full',
		qq{SELECT q.id, q.window_start, q.rn FROM (SELECT t.id, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.flag ORDER BY t.score DESC NULLS LAST, t.id) AS rn FROM tx t, $w1h) q WHERE q.rn <= 200}),
	top('nulls', 'nulls first and last, in both directions',
		qq{SELECT q.* FROM (SELECT t.id, t.n, w.window_start, row_number() OVER (PARTITION BY w.window_start ORDER BY t.n NULLS FIRST, t.city DESC NULLS LAST, t.id DESC) AS rn FROM tx t, $w1h) q WHERE q.rn <= 20}),
	top('types', 'texts, numeric, floats and NaN, dates, enums and arrays as what is sorted by',
		qq{SELECT q.* FROM (SELECT t.id, t.note, t.code, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.flag ORDER BY t.code DESC, t.score, t.note COLLATE "C", t.day, t.i, t.tags, t.id) AS rn FROM tx t, $w1h) q WHERE q.rn <= 7}),
	top('expressions', 'keys, order and columns that are expressions; one that stands in all of them',
		qq{SELECT q.k, q.a + 1 AS a, q.window_start, q.rn * 2 AS rn FROM (SELECT lower(t.city) AS k, abs(t.n::bigint) AS a, w.window_start, row_number() OVER (PARTITION BY lower(t.city), w.window_start ORDER BY abs(t.n::bigint) DESC, t.id) AS rn FROM tx t, $w1h) q WHERE q.rn <= 4}),
	top('long_rows', 'values of thousands of bytes that go with the rows',
		qq{SELECT q.* FROM (SELECT t.id, t.note, t.tags, w.window_start, row_number() OVER (PARTITION BY w.window_start ORDER BY t.id) AS rn FROM tx t, $w5) q WHERE q.rn <= 5}),
	top('numeric_key', 'a key whose equal values look different',
		qq{SELECT q.id, q.window_start FROM (SELECT t.id, t.code, w.window_start, row_number() OVER (PARTITION BY t.code, w.window_start ORDER BY t.amount DESC{o}) AS rn FROM tx t, $w1h) q WHERE q.rn = 1}),
	top('second', 'one place of the list, and not those before it',
		qq{SELECT q.id, q.window_start, q.rn FROM (SELECT t.id, t.card, w.window_start, row_number() OVER (PARTITION BY t.card, w.window_start ORDER BY t.id DESC) AS rn FROM tx t, $w1h) q WHERE q.rn = 2}),
	top('conditions', 'conditions above on rows that take a place, which go to nobody else',
		qq{SELECT q.id, q.window_start, c.owner FROM (SELECT t.id, t.card, t.n, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.flag ORDER BY t.amount DESC, t.id) AS rn FROM tx t, $w1h WHERE t.n IS NOT NULL) q LEFT JOIN card c USING (card) WHERE q.rn <= 10 AND q.n > 0}),
	top('joined', 'a table joined below, by whose column is sorted',
		qq{SELECT q.* FROM (SELECT t.id, c.owner, w.window_start, row_number() OVER (PARTITION BY c.owner, w.window_start ORDER BY t.amount DESC, t.id) AS rn FROM tx t JOIN card c ON c.card = t.card, $w1h) q WHERE q.rn <= 2}),
	top('hop', 'lists of slices that are put together wrongly',
		q{SELECT q.* FROM (SELECT t.id, t.card, w.window_start, w.window_end, row_number() OVER (PARTITION BY t.card, w.window_start, w.window_end ORDER BY t.amount DESC, t.id) AS rn FROM tx t, streamproc.hop(t.at, '5 min', '20 min') w) q WHERE q.rn <= 3}),
	top('cumulate', 'the same, of windows that begin together',
		q{SELECT q.* FROM (SELECT t.id, w.window_start, w.window_end, row_number() OVER (PARTITION BY w.window_start, w.window_end ORDER BY t.amount DESC, t.id) AS rn FROM tx t, streamproc.cumulate(t.at, '10 min', '1 hour') w) q WHERE q.rn <= 5}),
	top('day', 'windows of the calendar',
		q{SELECT q.* FROM (SELECT t.id, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.city ORDER BY t.amount DESC, t.id) AS rn FROM tx t, streamproc.tumble(t.at, '1 day', zone => 'Europe/Berlin') w) q WHERE q.rn <= 2}),
	top('distinct_on_window', 'the last row of each key and window',
		qq{SELECT DISTINCT ON (t.card, w.window_start) t.card, w.window_start, t.id, t.at FROM tx t, $w5 ORDER BY t.card, w.window_start, t.at DESC{o}}),
	top('first_of_window', 'the first rows by event time, which window functions would answer row by row, and keep for ever',
		qq{SELECT q.id, q.card, q.window_end, q.rn FROM (SELECT t.id, t.card, w.window_end, row_number() OVER (PARTITION BY t.card, w.window_end ORDER BY t.at{o}) AS rn FROM tx t, $w5) q WHERE q.rn <= 2}),
	top('distinct_on_first', 'the first row of each key and window',
		qq{SELECT DISTINCT ON (w.window_start, t.city) t.city, w.window_start, w.window_end, t.id FROM tx t, $w5 ORDER BY w.window_start, t.city, t.at{o}}),
	top('then_window', 'the best rows aggregated again within their windows',
		qq{SELECT q.window_start, count(*) AS n, sum(q.amount) AS s FROM (SELECT t.card, t.amount, w.window_start, row_number() OVER (PARTITION BY t.card, w.window_start ORDER BY t.amount DESC{o}) AS rn FROM tx t, $w5) q WHERE q.rn <= 2 GROUP BY q.window_start}, by_value => ['s']),
	top('union', 'two branches over one topic',
		q{SELECT q.id, q.side, q.rn FROM (SELECT t.id, t.side, w.window_start, row_number() OVER (PARTITION BY w.window_start ORDER BY t.id, t.side) AS rn
			FROM (SELECT id, at, 'a' AS side FROM tx WHERE id % 2 = 0 UNION ALL SELECT id, at, 'b' FROM tx WHERE n > 0) t, streamproc.tumble(t.at, '1 hour') w) q WHERE q.rn <= 6}),

	# ---- ranks ----

	top('ranks', 'equal rows of which one comes in and others stay out; ranks that are left out after them',
		qq{SELECT q.* FROM (SELECT t.id, t.card, w.window_start, rank() OVER (PARTITION BY t.card, w.window_start ORDER BY t.n % 5 DESC NULLS LAST) AS r FROM tx t, $w1h) q WHERE q.r <= 3}),
	top('dense_rank', 'the same, without gaps',
		qq{SELECT q.id, q.city, q.window_end, q.r FROM (SELECT t.id, t.city, w.window_end, dense_rank() OVER (PARTITION BY t.city, w.window_end ORDER BY t.n % 7, t.flag) AS r FROM tx t, $w1h) q WHERE q.r < 4}),
	top('rank_hop', 'lists of slices that are put together, each with more rows than ranks',
		q{SELECT q.* FROM (SELECT t.id, w.window_start, w.window_end, rank() OVER (PARTITION BY w.window_start, w.window_end ORDER BY t.city, t.n % 3) AS r FROM tx t, streamproc.hop(t.at, '5 min', '20 min') w) q WHERE q.r <= 4}),
	top('dense_rank_hop', 'the same, of which the ranks are counted anew',
		q{SELECT q.* FROM (SELECT t.id, t.flag, w.window_start, w.window_end, dense_rank() OVER (PARTITION BY t.flag, w.window_start, w.window_end ORDER BY t.n % 11 DESC NULLS LAST) AS r FROM tx t, streamproc.cumulate(t.at, '10 min', '1 hour') w) q WHERE q.r <= 3}),
	top('rank_second', 'one rank, and not those before it; a list that is never full',
		qq{SELECT q.* FROM (SELECT t.id, w.window_start, dense_rank() OVER (PARTITION BY w.window_start ORDER BY t.flag) AS r FROM tx t, $w5) q WHERE q.r = 2}),
	top('rank_first', 'the first ranks by event time: rows of one instant',
		qq{SELECT q.* FROM (SELECT t.id, t.city, w.window_start, rank() OVER (PARTITION BY t.city, w.window_start ORDER BY t.at) AS r FROM tx t, $w1h) q WHERE q.r <= 2}),
	top('rank_distinct', 'ranks of what another operator has answered',
		qq{SELECT q.* FROM (SELECT d.u, d.city, w.window_start, rank() OVER (PARTITION BY d.city, w.window_start ORDER BY d.n % 4) AS r FROM (SELECT DISTINCT ON (t.u, t.city) t.u, t.city, t.n, t.at FROM tx t WHERE t.n % 4 = t.id % 4 ORDER BY t.u, t.city, t.at{o}) d, streamproc.tumble(d.at, '1 hour') w) q WHERE q.r <= 2}),

	# ---- running ----

	top('running', 'a row that stays in a place that a better one has taken',
		q{SELECT q.card, q.rn, q.id, q.amount FROM (SELECT t.id, t.card, t.amount, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC, t.id) AS rn FROM tx t) q WHERE q.rn <= 3}, upsert => [ 'card', 'rn' ]),
	top('running_one', 'the best of each key, which is found by the key alone',
		q{SELECT q.u, q.id, q.n FROM (SELECT t.id, t.u, t.n, row_number() OVER (PARTITION BY t.u ORDER BY t.n DESC NULLS LAST, t.id) AS rn FROM tx t) q WHERE q.rn = 1}, upsert => ['u']),
	top('running_all', 'no PARTITION BY: one list for all',
		q{SELECT q.rn, q.id, q.big FROM (SELECT t.id, t.big, row_number() OVER (ORDER BY t.big DESC NULLS LAST, t.id) AS rn FROM tx t) q WHERE q.rn <= 100}, upsert => ['rn']),
	top('running_two_keys', 'keys of several columns, one an expression, in another order than that of the sink',
		q{SELECT q.rn, q.c, q.id, q.m FROM (SELECT t.id, upper(t.city) AS c, t.n % 3 AS m, row_number() OVER (PARTITION BY t.n % 3, upper(t.city) ORDER BY t.at DESC, t.id) AS rn FROM tx t) q WHERE q.rn <= 2}, upsert => [ 'c', 'm', 'rn' ]),
	top('running_place', 'one place of the list alone',
		q{SELECT q.card, q.id FROM (SELECT t.id, t.card, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC, t.id) AS rn FROM tx t) q WHERE q.rn = 1 AND q.card LIKE 'card-1%'}, upsert => ['card']),
	top('last', 'another row than the last of its key',
		q{SELECT DISTINCT ON (t.u) t.u, t.id, t.at, t.note FROM tx t ORDER BY t.u, t.at DESC, t.id DESC}, upsert => ['u']),
	top('last_two_keys', 'the last row by several columns, its columns joined above',
		q{SELECT q.card, q.flag, q.id, p.country FROM (SELECT DISTINCT ON (t.card, t.flag) t.card, t.flag, t.id, t.city FROM tx t ORDER BY t.card, t.flag, t.at DESC, t.id) q LEFT JOIN place p ON p.city = q.city}, upsert => [ 'card', 'flag' ]),
	top('last_every', 'changes that are given out later',
		q{SELECT DISTINCT ON (t.card) t.card, t.id FROM tx t ORDER BY t.card, t.id DESC}, upsert => ['card'], options => { emit => 'every 300 ms' }),

	# ---- windows, then the first groups of each ----

	{	name => 'top_groups', catches => 'groups of a window that are ranked apart', select => qq{SELECT q.* FROM (SELECT t.card, w.window_start, w.window_end, count(*) AS n, row_number() OVER (PARTITION BY w.window_start, w.window_end ORDER BY count(*) DESC, t.card) AS rn FROM tx t, $w5 GROUP BY t.card, w.window_start, w.window_end) q WHERE q.rn <= 3} },
	{	name => 'top_groups_below', catches => 'the same where the groups stand in a subquery', select => qq{SELECT q.* FROM (SELECT g.*, rank() OVER (PARTITION BY g.window_start ORDER BY g.n DESC) AS r, dense_rank() OVER (PARTITION BY g.window_start ORDER BY g.n DESC) AS d FROM (SELECT t.city, w.window_start, count(*) AS n FROM tx t, $w5 GROUP BY t.city, w.window_start) g) q WHERE q.r <= 2} },
	{	name => 'top_groups_share', catches => 'sums over all groups of a window', select => qq{SELECT g.card, g.window_end, g.n, sum(g.n) OVER (PARTITION BY g.window_end) AS total, lead(g.card) OVER (PARTITION BY g.window_end ORDER BY g.n, g.card) AS next, ntile(4) OVER (PARTITION BY g.window_end ORDER BY g.n, g.card) AS quarter
			FROM (SELECT t.card, w.window_end, count(*) AS n FROM tx t, $w1h GROUP BY t.card, w.window_end) g} },
	{	name => 'top_groups_hop', catches => 'windows of slices', select => q{SELECT q.* FROM (SELECT t.card, w.window_start, w.window_end, sum(t.n) AS s, row_number() OVER (PARTITION BY w.window_start, w.window_end ORDER BY sum(t.n) DESC NULLS LAST, t.card) AS rn FROM tx t, streamproc.hop(t.at, '5 min', '20 min') w GROUP BY t.card, w.window_start, w.window_end) q WHERE q.rn <= 2} },
	{	name => 'top_groups_distinct', catches => 'DISTINCT ON over the groups of a window', select => qq{SELECT DISTINCT ON (g.window_start) g.window_start, g.city, g.n FROM (SELECT t.city, w.window_start, count(*) AS n FROM tx t, $w5 GROUP BY t.city, w.window_start) g ORDER BY g.window_start, g.n DESC, g.city} },
	{	name => 'top_groups_again', catches => 'groups that were chosen, aggregated again', select => qq{SELECT x.window_start, count(*) AS n, max(x.n) AS most FROM (SELECT g.*, rank() OVER (PARTITION BY g.window_start ORDER BY g.n DESC) AS r FROM (SELECT t.card, w.window_start, count(*) AS n FROM tx t, $w5 GROUP BY t.card, w.window_start) g) x WHERE x.r <= 3 GROUP BY x.window_start} },

	# ---- what is refused ----

	map({ { must_refuse => 1, sink => 'CREATE TABLE sink (card text, rn bigint, id bigint, UNIQUE NULLS NOT DISTINCT (card, rn), UNIQUE NULLS NOT DISTINCT (card))', %$_ } }
		{ name => 'top_append', catches => 'running rows into a table that keeps old ones', text => q{INSERT INTO sink SELECT q.card, q.rn, q.id FROM (SELECT t.card, t.id, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC) AS rn FROM tx t) q WHERE q.rn <= 3} },
		{ name => 'top_own_key', catches => 'rows that leave the list and stay in the table', text => q{INSERT INTO sink SELECT q.card, q.rn, q.id FROM (SELECT t.card, t.id, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC) AS rn FROM tx t) q WHERE q.rn <= 3 ON CONFLICT (card) DO UPDATE SET id = excluded.id} },
		{ name => 'top_filtered', catches => 'a condition that lets a place be empty, whose old row stays', text => q{INSERT INTO sink SELECT q.card, q.rn, q.id FROM (SELECT t.card, t.id, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC) AS rn FROM tx t) q WHERE q.rn <= 3 AND q.id > 100 ON CONFLICT (card, rn) DO UPDATE SET id = excluded.id} },
		{ name => 'top_all', catches => 'all rows of a key in order', text => q{INSERT INTO sink SELECT t.card, row_number() OVER (PARTITION BY t.card ORDER BY t.amount DESC), t.id FROM tx t} },
		{ name => 'top_many', catches => 'lists of any length', text => qq{INSERT INTO sink SELECT q.card, q.rn, q.id FROM (SELECT t.card, t.id, row_number() OVER (PARTITION BY t.card, w.window_start ORDER BY t.amount DESC) AS rn FROM tx t, $w5) q WHERE q.rn <= 1001} },
		{ name => 'top_rank', catches => 'running ranks, of which rows leave that nobody takes away', text => q{INSERT INTO sink SELECT q.card, q.rn, q.id FROM (SELECT t.card, t.id, rank() OVER (PARTITION BY t.card ORDER BY t.amount DESC) AS rn FROM tx t) q WHERE q.rn <= 3 ON CONFLICT (card) DO UPDATE SET id = excluded.id} },
		{ name => 'top_groups_beyond', catches => 'groups that are compared beyond their window', text => qq{INSERT INTO sink SELECT g.card, rank() OVER (PARTITION BY g.card ORDER BY g.n DESC), g.n FROM (SELECT t.card, w.window_start, count(*) AS n FROM tx t, $w5 GROUP BY t.card, w.window_start) g} },
		{ name => 'top_groups_running', catches => 'running groups that are ranked', text => q{INSERT INTO sink SELECT t.card, rank() OVER (ORDER BY count(*)), max(t.id) FROM tx t GROUP BY t.card ON CONFLICT (card) DO UPDATE SET id = excluded.id} }),
);

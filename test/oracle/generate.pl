# Random queries from a small grammar over the topic gen: keys, aggregates, filters, windows, HAVING, joins, a second level;
# and the topic joined with itself.
# Seeded; all results are the same whatever the order of the rows.
use strict;
use warnings;

# expression => is equal what looks different?
my %keys = (
	'g.k1' => 0, 'g.k2' => 0, 'g.k3' => 1, 'g.k4' => 0, 'g.k5' => 0, 'g.k6' => 0, 'g.k7' => 0,
	'lower(g.k1)' => 0, 'g.k2 % 2' => 0, 'coalesce(g.k1, g.v5)' => 0, 'g.v1 > 0' => 0, 'g.v1 / 500' => 0, 'g.k3 IS NULL' => 0,
	'CASE WHEN g.k5 THEN g.k1 ELSE \'-\' END' => 0, 'left(g.v5, 1)' => 0, 'g.k7 + g.k2' => 0, '(g.at AT TIME ZONE \'Asia/Tokyo\')::date' => 0,
	'g.k6::text' => 0, 'g.k2::int8' => 0, 'g.k3 + 1' => 1, '-g.k4' => 0);

# aggregates that several rows may have in any order; %c is a condition
my @aggregates = (
	'count(*)', 'count(g.v1)', 'count(g.k1)', 'sum(g.v1)', 'sum(g.v2)', 'sum(g.v3)', 'sum(g.v4)', 'sum(g.v6)', 'avg(g.v1)', 'avg(g.v2)', 'avg(g.v3)', 'avg(g.v4)',
	'avg(g.v6)', 'min(g.v1)', 'max(g.v1)', 'min(g.v2)', 'max(g.v2)', 'min(g.v4)', 'max(g.v4)', 'min(g.v5)', 'max(g.v5)', 'min(g.v7)', 'max(g.v7)',
	'min(g.k7)', 'max(g.k7)', 'min(g.k6::text)', 'max(g.k5::int)', 'min(round(g.v3))', 'max(round(g.v3, 1))', 'bool_and(g.k5)', 'bool_or(g.k5)', 'every(g.v1 > -900)',
	'bit_and(g.v1)', 'bit_or(g.v1)', 'bit_xor(g.v1)', 'count(DISTINCT g.k1)', 'count(DISTINCT g.k3)', 'count(DISTINCT g.k4)', 'count(DISTINCT g.v5)', 'count(DISTINCT g.v6)',
	'sum(DISTINCT g.k2)', 'avg(DISTINCT g.k2)', 'string_agg(g.v5, \',\' ORDER BY g.id)', 'string_agg(DISTINCT g.k1, \'|\' ORDER BY g.k1)', 'array_agg(g.id ORDER BY g.id)',
	'array_agg(g.v1 ORDER BY g.v7, g.id DESC)', 'array_agg(DISTINCT g.k2 ORDER BY g.k2 DESC)', 'jsonb_agg(g.v3 ORDER BY g.id)', 'json_object_agg(g.id, g.k1 ORDER BY g.id)',
	'stddev(g.v1)', 'var_pop(g.v3)', 'variance(g.v2)', 'percentile_cont(0.5) WITHIN GROUP (ORDER BY g.v4)', 'percentile_disc(0.25) WITHIN GROUP (ORDER BY g.v1)',
	'mode() WITHIN GROUP (ORDER BY g.k1)', 'rank(100) WITHIN GROUP (ORDER BY g.v1)', 'sum(g.v1 * 2 + coalesce(g.k2, 0))', 'sum(length(g.v5))', 'max(g.v5 || g.k1)',
	'sum(CASE WHEN g.k5 THEN 1 ELSE -1 END)', 'mean(g.v3)', 'largest(g.v1)', 'count_even(g.v1)', 'sum_or_null(g.v1)', 'smallest(g.v5)', 'smallest(g.v7)', 'span_of(g.id, g.v2)',
	'collect(g.id ORDER BY g.id)', 'regr_count(g.v4, g.v1)', 'count((g.k1, g.k2))', 'max(g.at)', 'min(g.at - \'2025-01-01 00:00Z\')');

my @conditions = ('g.v1 > 0', 'g.k5', 'NOT g.k5', 'g.k1 <> \'a\'', 'g.v3 < 500', 'g.k6 IS NOT NULL', 'g.v5 LIKE \'%t%\'', 'g.k3 <> \'NaN\'', 'g.k2 IN (0, 1)',
	'g.v1 > (SELECT value FROM setting WHERE name = \'low\')', 'g.at > \'2025-06-30 22:50Z\'', 'g.k2 = ANY (ARRAY[-1, 1])', 'g.v4 < 5 OR g.k5 IS NULL', 'g.id % 3 <> 0',
	'g.k7 > \'2020-01-01\'');

my @windows = (
	"tumble(g.at, '10 s')", "tumble(g.at, '1 min')", "tumble(g.at, '7 min')", "tumble(g.at, '1 hour')", "tumble(g.at, '1 day', zone => 'Asia/Tokyo')",
	"tumble(g.at, '3 min', origin => '2025-01-01 00:01:30Z')", "hop(g.at, '1 min', '3 min')", "hop(g.at, '5 min', '20 min')", "hop(g.at, '2 min', '2 min')",
	"cumulate(g.at, '1 min', '5 min')", "cumulate(g.at, '5 min', '30 min')");

sub some
{
	my ($n, @list) = @_;
	my @some;
	push @some, splice(@list, int(rand(@list)), 1) while $n-- > 0 && @list;
	return @some;
}

sub random_query
{
	my ($name) = @_;
	my $windowed = rand() < 0.75;
	my @k = some((0, 1, 1, 1, 2, 2, 3)[ int(rand(7)) ], sort keys %keys);
	@k = ('g.k1') if !@k && !$windowed;
	my (@select, @group, @by_value, @upsert);
	for my $i (0 .. $#k)
	{
		push @select, "$k[$i] AS key$i";
		push @group, $k[$i];
		push @by_value, "key$i" if $keys{ $k[$i] };
		push @upsert, "key$i";
	}
	my $from = rand() < 0.15 ? 'gen g LEFT JOIN card_group j ON j.grp = g.k2 AND j.card < \'card-12\'' : 'gen g';
	my $alone;
	if ($windowed)
	{
		my ($window) = some(1, @windows);
		$from .= ", streamproc.$window w";
		$alone = rand() < 0.15 ? 'w.window_end' : undef;
		push @group, $alone // ('w.window_start', 'w.window_end');
		push @select, $alone // ('w.window_start', 'w.window_end');
	}
	my $number = 0;
	for (some(1 + int(rand(5)), @aggregates))
	{
		my $filter = rand() < 0.2 ? ' FILTER (WHERE ' . (some(1, @conditions))[0] . ')' : '';
		push @select, "$_$filter AS v" . $number++;
	}
	my $where = rand() < 0.4 ? ' WHERE ' . join(rand() < 0.5 ? ' AND ' : ' OR ', map { "($_)" } some(1 + int(rand(2)), @conditions)) : '';
	# HAVING and changes do not go together: a group that is no more in the result would have to be deleted
	my $having = $windowed && rand() < 0.3 ? ' HAVING ' . (some(1, 'count(*) > 2', 'sum(g.v1) > 0', 'max(g.v3) < 1000', 'count(DISTINCT g.k1) = 2',
		'bool_or(g.k5) AND count(*) < 20', 'count(*) > (SELECT value FROM setting WHERE name = \'few\')'))[0] : '';
	my $group = $windowed && @k && rand() < 0.1 ? join(', ', @group[ @k .. $#group ], 'ROLLUP (' . join(', ', @k) . ')') : join(', ', @group);
	my $select = 'SELECT ' . join(', ', @select) . " FROM $from$where GROUP BY $group$having";
	my $may_refuse = 0;
	if ($windowed && !$alone && rand() < 0.12)
	{
		$may_refuse = $from =~ /cumulate/;
		# a second level, over the same windows or larger ones
		my $upper = rand() < 0.5 ? ['x.window_start, x.window_end', ''] : [ 'u.window_start, u.window_end', ', streamproc.tumble(x.window_start, \'20 min\') u' ];
		$select = "SELECT $upper->[0], count(*) AS n, count(x.v0) AS c, min(x.window_start) AS first FROM ($select) x$upper->[1] GROUP BY $upper->[0]";
		@by_value = ();
	}
	elsif ($windowed && rand() < 0.12)
	{
		$select = "SELECT x.*, s.name FROM ($select) x LEFT JOIN setting s ON s.value > 50";
	}
	return { name => $name, select => $select, by_value => \@by_value, may_refuse => $may_refuse, $windowed ? () : (upsert => \@upsert) };
}

# The topic joined with itself: keys, bounds of time in any form, conditions of either side, of both, and above.
sub random_join
{
	my ($name) = @_;
	my @on = map { my $key = $_; join(' = ', map { (my $side = $key) =~ s/\?/$_/g; $side } rand() < 0.5 ? ('g', 'h') : ('h', 'g')) }
		some(1 + int(rand(2)), map({ "?.k$_" } 1 .. 7), 'lower(?.k1)', '?.k2 % 2', 'coalesce(?.k1, ?.v5)', '?.k3 + 1', '(?.k1 || ?.k2)');
	my ($from, $to) = @{ (some(1, [ -10, 20 ], [ 0, 15 ], [ -20, 0 ], [ 5, 30 ], [ -30, -5 ], [ 0, 0 ], [ 10, 5 ], [ -0.5, 0.5 ]))[0] };
	push @on, (some(1, "h.at BETWEEN g.at + interval '$from s' AND g.at + interval '$to s'", "h.at >= g.at + interval '$from s' AND h.at - interval '$to s' < g.at",
		"h.at - g.at BETWEEN '$from s' AND '$to s'", "g.at + interval '$from s' < h.at AND interval '$to s' >= h.at - g.at"))[0];
	push @on, some(int(rand(2.5)), 'g.v1 > h.v1', 'g.k5', 'h.v1 > 0', 'g.id <> h.id', '(g.v3 < h.v3 OR h.k5)', 'g.v5 IS NOT NULL') if rand() < 0.6;
	my $join = (some(1, 'JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN'))[0];
	my @where = rand() < 0.4 ? some(1 + int(rand(2)), 'g.k5', 'h.v1 > 0', 'g.id IS NULL OR h.id IS NULL', 'coalesce(g.v1, h.v1) > 0', 'g.v1 < h.v1', 'coalesce(h.k1, g.k1) <> \'a\'') : ();
	my $from_on = "FROM gen g $join gen h ON " . join(' AND ', @on);
	my $where = @where ? ' WHERE ' . join(' AND ', map { "($_)" } @where) : '';
	return random_pairs($name, $join, $from_on, $where) if rand() < 0.5;
	my $number = 0;
	my @select = ('g.id AS a', 'h.id AS b', map { "$_ AS v" . $number++ } some(int(rand(5)), 'g.k3', 'h.k3', 'g.v5', 'h.v6', 'g.v7', 'coalesce(g.at, h.at)', 'g.v1 + h.v1', 'h.at - g.at', 'h.k6'));
	return { name => $name, select => 'SELECT ' . join(', ', @select) . " $from_on$where", by_value => [], may_refuse => 0 };
}

# Groups of its rows, by windows over the time of a side that is always there, or without.
sub random_pairs
{
	my ($name, $join, $from, $where) = @_;
	my %time = (JOIN => [ 'g.at', 'h.at' ], 'LEFT JOIN' => ['g.at'], 'RIGHT JOIN' => ['h.at'], 'FULL JOIN' => [ 'coalesce(g.at, h.at)', 'coalesce(h.at, g.at)' ]);
	my ($window) = some(1, @windows);
	my ($at) = some(1, @{ $time{$join} });
	$window =~ s/g\.at/$at/;
	my $windowed = rand() < 0.8;
	my @k = some(1 + int(rand(2)), 'g.k1', 'h.k2', 'coalesce(g.k5, h.k5)', 'g.id IS NULL', 'h.k7 > g.k7', 'left(h.v5, 1)', 'g.k2 % 2');
	my @v = some(1 + int(rand(4)), 'count(*)', 'count(g.id)', 'count(h.id)', 'sum(g.v1)', 'sum(h.v3)', 'max(h.v5)', 'min(g.v7)', 'max(h.at - g.at)', 'count(DISTINCT h.k2)', 'sum(h.v1 - g.v1)',
		'array_agg(h.id ORDER BY g.id, h.id)', 'bool_or(h.k5)', 'stddev(h.v1)', 'count(*) FILTER (WHERE g.v1 > h.v1)', 'largest(g.v1)');
	my @group = (@k, $windowed ? ('w.window_start', 'w.window_end') : ());
	my $number = 0;
	my $select = 'SELECT ' . join(', ', (map { "$k[$_] AS key$_" } 0 .. $#k), $windowed ? ('w.window_start', 'w.window_end') : (), map { "$_ AS v" . $number++ } @v)
	  . " $from" . ($windowed ? " CROSS JOIN LATERAL streamproc.$window w" : '') . "$where GROUP BY " . join(', ', @group) . ($windowed && rand() < 0.2 ? ' HAVING count(*) > 1' : '');
	return { name => $name, select => $select, by_value => [], may_refuse => 0, $windowed ? () : (upsert => [ map { "key$_" } 0 .. $#k ]) };
}

sub generated_queries
{
	my ($seed, $n) = @_;
	srand($seed + 1);
	return map { rand() < 0.15 ? random_join("g$_") : random_query("g$_") } 1 .. $n;
}

# Pipelines of many statements, each with a sink of its own; windows and running totals apart.
sub bundles
{
	my ($size, @queries) = @_;
	my (@bundles, $number);
	for my $kind ([ grep { !$_->{upsert} } @queries ], [ grep { $_->{upsert} } @queries ])
	{
		while (my @some = splice(@$kind, 0, $size))
		{
			push @bundles, { name => 'generated_' . ++$number, parts => \@some, catches => 'whatever nobody thought of' };
		}
	}
	return @bundles;
}

1;

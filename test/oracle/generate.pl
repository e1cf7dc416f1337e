# Random queries from a small grammar over the topic gen: keys, aggregates, filters, windows, HAVING, joins, a second level,
# operators below groups; window functions and first rows, sessions, top-N; and the topic joined with itself.
# Seeded; all results are the same whatever the order of the rows.  Where rows of one instant compete, the pipeline takes them
# by partition and offset; {o} (of the last one: {d}) is nothing there, and the order of both in the batch.
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
	my ($source, @more) = rand() < 0.12 ? random_source() : ('gen g');
	my $from = rand() < 0.15 ? "$source LEFT JOIN card_group j ON j.grp = g.k2 AND j.card < 'card-12'" : $source;
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
	for (some(1 + int(rand(5)), @aggregates), some(1, @more))
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
		# of what an operator below adds nothing may be left
		$may_refuse = $from =~ /cumulate/ || @more;
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

# What an operator makes of the topic, for groups above it; aggregates of what it adds.
sub random_source
{
	if (rand() < 0.5)
	{
		my @k = some(1 + int(rand(2)), 'g.k6', 'g.v5', 'g.k2', 'g.v1 / 100');
		return '(SELECT DISTINCT ON (' . join(', ', @k) . ') g.* FROM gen g ORDER BY ' . join(', ', @k, 'g.at') . '{o}) g';
	}
	my ($key) = some(1, 'g.k1', 'g.k2', 'g.k6', 'g.k7 + g.k2', 'lower(g.v5)');
	my ($frame) = some(1, '10 s', '1 min', '20 min');
	return ("(SELECT g.*, lag(g.v1) OVER (PARTITION BY $key ORDER BY g.at{o}) AS prev, count(*) OVER (PARTITION BY $key ORDER BY g.at RANGE BETWEEN '$frame' PRECEDING AND CURRENT ROW) AS seen FROM gen g) g",
		'sum(g.prev)', 'count(g.prev)', 'max(g.seen)', 'sum(g.v1 - g.prev)', 'count(DISTINCT g.seen)', 'array_agg(g.prev ORDER BY g.id)');
}

# Window functions of one PARTITION BY, over frames of all kinds, with conditions below and above; or the first row of each key.
# Of the topic, or of what others have answered.
sub random_over
{
	my ($name) = @_;
	my @k = some((0, 1, 1, 1, 2)[ int(rand(5)) ], sort keys %keys);
	my $where = rand() < 0.3 ? ' WHERE ' . (some(1, @conditions))[0] : '';
	my ($source, @added) = rand() < 0.35 ? random_source() : ('gen g');
	my @more = @added ? ('g.prev', 'g.seen') : ();
	if (@k && rand() < 0.2)
	{
		my $keys = join(', ', @k);
		my $select = "SELECT DISTINCT ON ($keys) " . join(', ', 'g.id', 'g.at', 'g.v3', 'g.v5', 'g.k6', @more) . " FROM $source$where ORDER BY $keys, g.at{o}";
		return { name => $name, kind => 'rows', select => rand() < 0.3 ? "SELECT d.*, s.name FROM ($select) d LEFT JOIN setting s ON s.value > 50" : $select };
	}
	my $partition = @k ? 'PARTITION BY ' . join(', ', @k) . ' ' : '';
	my @frames = (
		map({ "ORDER BY g.at RANGE BETWEEN '$_' PRECEDING AND CURRENT ROW" } some(2, '0 s', '1 s', '10 s', '45 s', '3 min', '1 hour', '1 day')),
		map({ "ORDER BY g.at{o} ROWS BETWEEN $_ PRECEDING AND CURRENT ROW" } some(1, 0, 1, 3, 20, 500)),
		'ORDER BY g.at', 'ORDER BY g.at{o} ROWS UNBOUNDED PRECEDING');
	my @exact = ('count(*)', 'count(g.v1)', 'sum(g.v1)', 'sum(g.v2)', 'avg(g.v1)', 'min(g.v1)', 'max(g.v2)', 'min(g.v5)', 'max(g.v7)', 'min(g.k7)', 'bool_or(g.k5)', 'sum(g.v6)', 'max(g.k6::text)', 'bit_xor(g.v1)',
		'count_even(g.v1)', 'largest(g.v1)', 'smallest(g.v5)', 'max(g.at)', 'sum(CASE WHEN g.k5 THEN 1 ELSE -1 END)', 'first_value(g.at)', 'last_value(g.at)');
	my @by_value = ('sum(g.v3)', 'avg(g.v3)', 'max(g.v3)', 'mean(g.v3)', 'sum(g.v2 * 2.5)', 'max(g.k3)');
	my @floats = ('sum(g.v4)', 'avg(g.v4)', 'max(g.v4)');
	# what depends on the order of the rows of an instant
	my @ordered = ('lag(g.v1)', 'lag(g.k1, 2)', 'lag(g.v3, 1, -1.5)', 'lag(g.at)', 'lag(g.id, 30)', 'lag(g.v5, 0)', 'row_number()', 'first_value(g.v5)', 'nth_value(g.id, 2)', 'last_value(g.k6)');
	# without a bound all of them would have to be kept: refused
	my @kept = ('array_agg(g.k2)', "string_agg(g.v5, ',')");
	my (@select, @values);
	my $number = 0;
	for (1 .. 1 + int(rand(5)))
	{
		my ($frame) = some(1, @frames);
		my $ordered = $frame =~ /\{o\}/;
		my ($what) = rand() < 0.1 && !$ordered ? some(1, 'rank()', 'dense_rank()') : rand() < ($ordered ? 0.5 : 0) ? some(1, @ordered, $frame =~ /UNBOUNDED/ ? () : @kept) : rand() < 0.25 ? some(1, @by_value) : rand() < 0.15 ? some(1, @floats) : some(1, @exact);
		my $filter = $what =~ /^(?:count|sum|avg|min|max)\(/ && rand() < 0.2 ? ' FILTER (WHERE ' . (some(1, grep { !/SELECT/ } @conditions))[0] . ')' : '';
		push @values, "f$number" if $what =~ /v3|2\.5|k3/;
		push @select, "$what$filter OVER ($partition$frame) AS f" . $number++;
	}
	my $select = 'SELECT ' . join(', ', 'g.id', 'g.k1', 'g.v1', 'g.k5', @more, @select) . " FROM $source$where";
	$select = "SELECT q.* FROM ($select) q WHERE " . (some(1, 'q.f0 IS NOT NULL', 'q.k5', 'q.v1 > 0', 'q.f0 IS NULL OR q.k5', "q.id > (SELECT value FROM setting WHERE name = 'few')"))[0] if rand() < 0.35;
	return { name => $name, kind => 'rows', select => $select, by_value => \@values, tolerance => '1e-9' };
}

# Sessions of each key, some of them cut by max_span.
sub random_session
{
	my ($name) = @_;
	my @k = some((0, 1, 1, 1, 2)[ int(rand(5)) ], sort keys %keys);
	my $number = 0;
	my @below = map { "$k[$_] AS key$_" } 0 .. $#k;
	my @keys = map { "key$_" } 0 .. $#k;
	my @by_value = map { "key$_" } grep { $keys{ $k[$_] } } 0 .. $#k;
	my ($gap) = some(1, '1 s', '2 s', '5 s', '10 s', '31.5 s', '2 min', '10 min', '1 day');
	my ($span) = rand() < 0.3 ? some(1, '1 day', '10 min', '1 min', '12 s', '3 s') : ();
	my $where = rand() < 0.4 ? ' WHERE ' . join(rand() < 0.5 ? ' AND ' : ' OR ', map { "($_)" } some(1 + int(rand(2)), @conditions)) : '';
	my @select = (@keys, rand() < 0.8 ? 'g.win' : 'lower(g.win) AS from_at', rand() < 0.3 ? 'upper(g.win) - lower(g.win) AS took' : ());
	for (some(int(rand(5)), @aggregates))
	{
		my $filter = rand() < 0.2 ? ' FILTER (WHERE ' . (some(1, @conditions))[0] . ')' : '';
		push @select, "$_$filter AS v" . $number++;
	}
	my $having = rand() < 0.3 ? ' HAVING ' . (some(1, 'count(*) > 2', 'sum(g.v1) > 0', 'count(DISTINCT g.k1) = 2', "upper(g.win) - lower(g.win) > '20 s'", 'bool_or(g.k5) AND count(*) < 20'))[0] : '';
	my $over = (@k ? 'PARTITION BY ' . join(', ', @k) . ' ' : '') . 'ORDER BY g.at';
	return { name => $name, by_value => \@by_value, tolerance => '1e-9',
		select => 'SELECT ' . join(', ', @select) . ' FROM (SELECT ' . join(', ', 'g.*', @below, "streamproc.session(g.at, '$gap'" . ($span ? ", max_span => '$span'" : '') . ") OVER ($over) AS win") . " FROM gen g$where) g GROUP BY "
		  . join(', ', @keys, 'g.win') . $having };
}

# The first rows by any order, of each window or running.
sub random_top
{
	my ($name) = @_;
	my $windowed = rand() < 0.7;
	my @k = some((0, 1, 1, 2)[ int(rand(4)) ], sort keys %keys);
	my @below = map { "$k[$_] AS key$_" } 0 .. $#k;
	my @by_value = map { "key$_" } grep { $keys{ $k[$_] } } 0 .. $#k;
	my @order = (map({ $_ . (some(1, '', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'))[0] } some(1 + int(rand(2)), 'g.v1', 'g.v2', 'g.v3', 'g.v4', 'g.v5', 'g.v7', 'g.k3', 'g.k5', 'g.at', 'abs(g.v1)', 'g.v6', 'g.k6')), 'g.id' . (some(1, '', ' DESC'))[0]);
	my $n = (some(1, 1, 2, 3, 10, 100))[0];
	my $where = rand() < 0.4 ? ' WHERE ' . join(' OR ', map { "($_)" } some(1 + int(rand(2)), @conditions)) : '';
	my ($from, @window) = ('gen g');
	if ($windowed)
	{
		$from .= ', streamproc.' . (some(1, @windows))[0] . ' w';
		@window = ('w.window_start', 'w.window_end');
	}
	my @partition = (@k, @window);
	my $over = (@partition ? 'PARTITION BY ' . join(', ', @partition) . ' ' : '') . 'ORDER BY ' . join(', ', @order);
	my @columns = some(int(rand(4)), 'g.v1', 'g.v2', 'g.v5', 'g.k6', 'g.at', 'g.v7');
	my $select = 'SELECT q.* FROM (SELECT ' . join(', ', @below, @window, 'g.id', @columns, "row_number() OVER ($over) AS place") . " FROM $from$where) q WHERE q.place <= $n";
	return { name => $name, select => $select, by_value => \@by_value, $windowed ? () : (kind => 'top', upsert => [ map({ "key$_" } 0 .. $#k), 'place' ]) };
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

# Each row of the topic with the last one of its key before it.
sub random_asof
{
	my ($name) = @_;
	my @on = map { my $key = $_; join(' = ', map { (my $side = $key) =~ s/\?/$_/g; $side } rand() < 0.5 ? ('g', 'h') : ('h', 'g')) }
		some(1 + int(rand(2)), map({ "?.k$_" } 1 .. 7), 'lower(?.k1)', '?.k2 % 2', 'coalesce(?.k1, ?.v5)', '?.k3 + 1');
	push @on, (some(1, 'h.at <= g.at', 'h.at < g.at', 'g.at >= h.at'))[0];
	push @on, map { "(" . s/\bg\./h./gr . ")" } grep { !/SELECT/ } some(1, @conditions) if rand() < 0.4;
	my ($order) = some(1, '', '', ', h.v1 DESC NULLS LAST, h.id', ', h.id DESC', ', h.v3, h.id');
	my $number = 0;
	my @right = map { "$_ AS r" . $number++ } 'h.id', some(int(rand(4)), 'h.v1', 'h.v3', 'h.v5', 'h.at', 'h.k6', 'h.v7');
	my $lateral = '(SELECT ' . join(', ', @right) . ' FROM gen h WHERE ' . join(' AND ', @on) . " ORDER BY h.at DESC${order}{d} LIMIT 1) r";
	my $join = (some(1, "LEFT JOIN LATERAL $lateral ON true", "LEFT JOIN LATERAL $lateral ON true", "JOIN LATERAL $lateral ON true", "CROSS JOIN LATERAL $lateral"))[0];
	my $where = rand() < 0.4 ? ' WHERE ' . (some(1, 'g.k5', 'r.r0 > 100', 'r.r0 IS NULL OR g.v1 > 0', 'g.v1 IS NOT NULL', 'r.r0 % 2 = g.id % 2'))[0] : '';
	return { name => $name, by_value => [], select => 'SELECT ' . join(', ', 'g.id', some(int(rand(3)), 'g.v1', 'g.k3', 'g.at', 'g.v5'), map { "r.r$_" } 0 .. $number - 1) . " FROM gen g $join$where" };
}

sub generated_queries
{
	my ($seed, $n) = @_;
	srand($seed + 1);
	my @queries;
	for my $name (map { "g$_" } 1 .. $n)
	{
		my $which = rand();
		my $q = $which < 0.10 ? random_join($name) : $which < 0.15 ? random_asof($name) : $which < 0.29 ? random_over($name) : $which < 0.38 ? random_session($name) : $which < 0.47 ? random_top($name) : random_query($name);
		if ($q->{select} =~ /\{[od]\}/)
		{
			$q->{batch} = "INSERT INTO $name $q->{select}" =~ s/\{o\}/, g.part, g.off/gr =~ s/\{d\}/, h.part DESC, h.off DESC/gr;
			$q->{select} =~ s/\{[od]\}//g;
		}
		push @queries, $q;
	}
	return @queries;
}

# Pipelines of many statements, each with a sink of its own: windows, running totals, running lists, rows.
sub bundles
{
	my ($size, @queries) = @_;
	my (@bundles, $number, %kinds);
	push @{ $kinds{ $_->{kind} // ($_->{upsert} ? 'running' : 'windows') } }, $_ for @queries;
	for my $kind (map { $kinds{$_} } sort keys %kinds)
	{
		while (@$kind)
		{
			# a pipeline has 16 operators, and a statement more than one where there is something below its groups
			my ($n, $operators) = (0, 0);
			while ($n < @$kind && $n < $size)
			{
				my $text = $kind->[$n]{select};
				$operators += (() = $text =~ /GROUP BY/g) + ($text =~ /OVER \(|DISTINCT ON/ ? 1 : 0) + ($text =~ /FROM \(SELECT (?:DISTINCT ON|g\.\*, lag)/ ? 1 : 0) + ($text =~ /JOIN gen h|LATERAL \(SELECT/ ? 1 : 0);
				last if $n > 0 && $operators > 16;
				$n++;
			}
			my @some = splice(@$kind, 0, $n);
			push @bundles, { name => 'generated_' . ++$number, parts => \@some, catches => 'whatever nobody thought of' };
		}
	}
	return @bundles;
}

1;

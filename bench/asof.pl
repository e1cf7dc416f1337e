# Part "asof" of the benchmark: each order with the last price of its item, two topics.  Loaded by bench.pl, whose functions
# and those of keyed.pl it uses; README.md says what each figure is.
use strict;
use warnings;

our (%opt, $work, $tree, $broker, $address, $partitions);

my $orders = $ENV{BENCH_ASOF_EVENTS} || 2_500_000;
# one new price for so many orders
my $each = 10;

sub asof_query {
	my ($case, $order, $price) = @_;
	return "SELECT o.auction, o.price, o.at, r.price AS asked, r.at AS since FROM $order o $case->{join} LATERAL (SELECT r.price, r.at FROM $price r
		WHERE r.auction = o.auction AND r.at <= o.at ORDER BY r.at DESC, r.price LIMIT 1) r ON true" . ($case->{where} ? " WHERE $case->{where}" : '');
}

sub asof {
	local $opt{events} = $orders;
	my @cases = (
		{name => 'asof_inner', label => 'as-of join, 1 % kept', join => 'JOIN', where => 'o.price > 35 * r.price'},
		{name => 'asof_left', label => 'as-of left join, all into a table', join => 'LEFT JOIN'},
	);
	if ($ENV{BENCH_CASES}) {
		my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES};
		@cases = grep { $only{$_->{name}} } @cases;
	}
	my %options = (keys => 10_000, cycle => undef, disorder => 2000);
	say_line(bid_topic('orders', %options, count => $orders, 'event-rate' => 5000));
	say_line(bid_topic('prices', %options, count => int($orders / $each), 'event-rate' => 5000 / $each, seed => 2));
	my $columns = 'auction bigint NOT NULL, price bigint, at timestamptz';
	for (qw(orders prices)) {
		sql("CREATE FOREIGN TABLE ${_}_in ($columns) SERVER kafka OPTIONS (topic '$_', format 'json', event_time 'at', watermark_delay '2 s')",
			"CREATE TABLE all_$_ ($columns) WITH (autovacuum_enabled = off)",
			"SELECT streamproc.create_pipeline('all_$_', 'INSERT INTO all_$_ SELECT auction, price, at FROM ${_}_in', stop => 'latest')",
			"SELECT streamproc.wait_until_stopped('all_$_', '900 s')", "SELECT streamproc.drop_pipeline('all_$_')");
	}
	sql('CREATE INDEX ON all_prices (auction, at, price)', 'VACUUM ANALYZE all_prices', 'ANALYZE all_orders');
	$_->{expected} = checksum(asof_query($_, 'all_orders', 'all_prices')) for @cases;
	sql('DROP TABLE all_orders, all_prices');
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'orders');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $case (@cases) {
			my $name = $case->{name};
			sql("CREATE TABLE sink_$name (auction bigint, price bigint, at timestamptz, asked bigint, since timestamptz)", 'CHECKPOINT');
			my $query = asof_query($case, 'orders_in', 'prices_in');
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name $query\$\$, stop => 'latest', state_memory => '2GB')",
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$name}}, $figures;
			progress($round, $case->{label}, $figures);
			check("$name, round $round", checksum("SELECT * FROM sink_$name"), $case->{expected});
			check("$name, round $round: late rows", sql("SELECT late_rows FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), 0);
			$case->{rows} = sql("SELECT count(*) FROM sink_$name");
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
		}
	}
	my $both = $orders + int($orders / $each);
	my %cost = map { my $name = $_; my $n = $name =~ /^asof/ ? $both : $orders; $name => median(map { $_->{cpu} / $n * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nAs-of joins: %d orders of 10,000 items, a new price for each %d of them, %d partitions each, median of %d rounds\n", $orders, $each, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %12s %10s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'RssAnon kB', 'rows out';
	for my $case ({name => 'one', label => 'drain, one queue'}, {name => 'partitions', label => 'drain, partition queues'}, @cases) {
		my $name = $case->{name};
		my $n = $name =~ /^asof/ ? $both : $orders;
		printf "%-36s %10.0f %9.3f %13s %7.2f %12d %10s\n", $case->{label}, $n / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $n * 1e6 } @{$result{$name}}), $limit / $cost{$name},
			(sort { $b <=> $a } map { $_->{rss} // 0 } @{$result{$name}})[0], $case->{rows} // '';
	}
	drop_topic('orders', 'orders_in');
	drop_topic('prices', 'prices_in');
	return;
}

1;

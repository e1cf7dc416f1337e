# Part "join" of the benchmark: two topics joined by key and time.  Loaded by bench.pl, whose functions and those of
# keyed.pl it uses; README.md says what each figure is.
use strict;
use warnings;

our (%opt, %part, $work, $tree, $broker, $address, $partitions);

my $events = $ENV{BENCH_JOIN_EVENTS} || 2_500_000;    # of each topic

sub join_query {
	my ($case, $debit, $credit) = @_;
	return "SELECT w.window_start, d.auction % 100 AS bucket, count(*) AS n, sum(c.price) AS got FROM $debit d JOIN $credit c
		ON d.auction = c.auction AND c.at BETWEEN d.at AND d.at + interval '1 min', streamproc.tumble($case->{window}, '10 s') w GROUP BY w.window_start, d.auction % 100" if $case->{window};
	return "SELECT d.auction, d.price, d.at, c.price AS got, c.at AS got_at FROM $debit d $case->{join} $credit c
		ON d.auction = c.auction AND c.at BETWEEN d.at AND d.at + interval '1 min'" . ($case->{where} ? " WHERE $case->{where}" : '');
}

sub joins {
	# what drain() and measure() count
	local $opt{events} = $events;
	my @cases = (
		{name => 'join_inner', label => 'inner join, 1 % kept', join => 'JOIN', where => 'd.price > 35 * c.price', bar => 0.12},
		{name => 'join_all', label => 'inner join, all pairs into a table', join => 'JOIN'},
		{name => 'join_left', label => 'left join, debits without credit', join => 'LEFT JOIN', where => 'c.auction IS NULL'},
		{name => 'join_full', label => 'full join, all into a table', join => 'FULL JOIN'},
		{name => 'join_window', label => 'all pairs by windows of the debit', join => 'JOIN', window => 'd.at'},
		{name => 'join_later', label => 'all pairs by windows of the credit', join => 'JOIN', window => 'c.at'},
	);
	if ($ENV{BENCH_CASES}) {
		my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES};
		@cases = grep { $only{$_->{name}} } @cases;
	}
	# debit number i, and 5 s after it its credit; the last 2 % have none
	my %options = (keys => $events, cycle => undef, disorder => 2000, 'event-rate' => 5000);
	say_line(bid_topic('debit', %options, count => $events));
	say_line(bid_topic('credit', %options, count => int($events * 0.98), seed => 2, 'start-time' => '2026-01-01T00:00:05Z'));
	my $columns = 'auction bigint NOT NULL, price bigint, at timestamptz';
	for (qw(debit credit)) {
		sql("CREATE FOREIGN TABLE ${_}_in ($columns) SERVER kafka OPTIONS (topic '$_', format 'json', event_time 'at', watermark_delay '2 s')",
			"CREATE TABLE all_$_ ($columns) WITH (autovacuum_enabled = off)",
			"SELECT streamproc.create_pipeline('all_$_', 'INSERT INTO all_$_ SELECT auction, price, at FROM ${_}_in', stop => 'latest')",
			"SELECT streamproc.wait_until_stopped('all_$_', '900 s')", "SELECT streamproc.drop_pipeline('all_$_')", "ANALYZE all_$_");
	}
	$_->{expected} = checksum(join_query($_, 'all_debit', 'all_credit')) for grep { $_->{join} ne 'FULL JOIN' } @cases;
	# a full join without equality alone is nothing that a batch can do: both outer joins make it
	for my $case (grep { $_->{join} eq 'FULL JOIN' } @cases) {
		my $left = join_query({%$case, join => 'LEFT JOIN'}, 'all_debit', 'all_credit');
		my $right = join_query({%$case, join => 'RIGHT JOIN', where => 'd.auction IS NULL'}, 'all_debit', 'all_credit');
		$case->{expected} = checksum("$left UNION ALL $right");
	}
	sql('DROP TABLE all_debit, all_credit');
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'debit');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $case (@cases) {
			my $name = $case->{name};
			my $columns = $case->{window} ? 'at timestamptz, bucket bigint, n bigint, got numeric' : 'auction bigint, price bigint, at timestamptz, got bigint, got_at timestamptz';
			sql("CREATE TABLE sink_$name ($columns)", 'CHECKPOINT');
			my $query = join_query($case, 'debit_in', 'credit_in');
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
	# a pipeline reads both topics
	my $both = $events + int($events * 0.98);
	my %cost = map { my $name = $_; my $n = $name =~ /^join/ ? $both : $events; $name => median(map { $_->{cpu} / $n * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nJoins of two topics: %d events and 2 %% less, each key once in both, 5 s apart, an interval of a minute, %d partitions each, median of %d rounds\n", $events, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s %10s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB', 'rows out';
	for my $case ({name => 'one', label => 'drain, one queue'}, {name => 'partitions', label => 'drain, partition queues'}, @cases) {
		my $name = $case->{name};
		my $n = $name =~ /^join/ ? $both : $events;
		my $ratio = $limit / $cost{$name};
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d %10s\n", $case->{label}, $n / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $n * 1e6 } @{$result{$name}}), $ratio, $case->{bar} // '-', $case->{bar} ? bar($case->{label}, $ratio, '>=', $case->{bar}) : '',
			(sort { $b <=> $a } map { $_->{rss} // 0 } @{$result{$name}})[0], $case->{rows} // '';
	}
	drop_topic('debit', 'debit_in');
	drop_topic('credit', 'credit_in');
	return;
}

1;

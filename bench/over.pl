# Part "over" of the benchmark: window functions.  Loaded by bench.pl, whose functions and those of keyed.pl it uses;
# README.md says what each figure is.
use strict;
use warnings;

our (%opt, %part, $work, $tree, $broker, $address, $partitions);

my $events = $ENV{BENCH_OVER_EVENTS} || 5_000_000;
# of a key's mean; few are so large
my $hit = 'price > 60 * mean';

sub over_query {
	my ($table, $frame, $order) = @_;
	my $functions = 't.auction, t.at, t.price, t.p, t.o, lag(t.price) OVER k AS prev' . ($frame ? ', avg(t.price) OVER h AS mean' : '');
	my $where = $frame ? $hit : 'price > 500000 AND prev > 500000';
	return "SELECT auction, at, price, p, o, prev" . ($frame ? ', mean' : '') . " FROM (SELECT $functions FROM $table t
		WINDOW k AS (PARTITION BY t.auction ORDER BY $order)" . ($frame ? ", h AS (PARTITION BY t.auction ORDER BY t.at RANGE BETWEEN '$frame' PRECEDING AND CURRENT ROW)" : '') . ") q WHERE $where";
}

sub over {
	# what drain() and measure() count
	local $opt{events} = $events;
	my @cases = (
		{name => 'lag', label => 'lag'},
		{name => 'lag_10min', label => 'lag, average of 10 minutes', frame => '10 min', bar => 0.13},
		{name => 'lag_10min_arrival', label => 'the same as rows arrive', frame => '10 min', ordering => 'arrival'},
		{name => 'lag_1min', label => 'lag, average of a minute', frame => '1 min'},
		{name => 'lag_1h', label => 'lag, average of an hour', frame => '1 hour', of => 'lag_1min'},
	);
	if ($ENV{BENCH_CASES}) {
		my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES};
		@cases = grep { $only{$_->{name}} } @cases;
	}
	# 1000 events a second of event time: a frame of an hour holds 3.6 million of them
	say_line(bid_topic('over', count => $events, keys => 100_000, hot => 1000, disorder => 2000, 'event-rate' => 1000));
	my $columns = "auction bigint NOT NULL, price bigint, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')";
	sql("CREATE FOREIGN TABLE over_in ($columns) SERVER kafka OPTIONS (topic 'over', format 'json', event_time 'at', watermark_delay '2 s')",
		'CREATE TABLE all_over (auction bigint, price bigint, at timestamptz, p int, o bigint) WITH (autovacuum_enabled = off)',
		"SELECT streamproc.create_pipeline('all_over', 'INSERT INTO all_over SELECT auction, price, at, p, o FROM over_in', stop => 'latest')",
		"SELECT streamproc.wait_until_stopped('all_over', '900 s')", "SELECT streamproc.drop_pipeline('all_over')");
	check('events of over', sql('SELECT count(*) FROM all_over'), $events);
	for my $case (grep { !$_->{ordering} } @cases) {
		$case->{expected} = checksum(over_query('all_over', $case->{frame}, 't.at, t.p, t.o'));
	}
	sql('DROP TABLE all_over');
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'over');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $case (@cases) {
			my $name = $case->{name};
			my $sink = 'auction bigint, at timestamptz, price bigint, p int, o bigint, prev bigint' . ($case->{frame} ? ', mean numeric' : '');
			sql("CREATE TABLE sink_$name ($sink)", 'CHECKPOINT');
			my $query = over_query('over_in', $case->{frame}, 't.at');
			my $ordering = $case->{ordering} || 'event';
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name $query\$\$, stop => 'latest', ordering => '$ordering', state_memory => '2GB')",
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$name}}, $figures;
			progress($round, $case->{label}, $figures);
			say_line('    ', last_epochs($name));
			check("$name, round $round", checksum("SELECT * FROM sink_$name"), $case->{expected}) if $case->{expected};
			check("$name, round $round: late rows", sql("SELECT late_rows FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), 0);
			$case->{rows} = sql("SELECT count(*) FROM sink_$name");
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
		}
	}
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nWindow functions: %d events, 100,000 keys, half of the events on 1 %% of them, %d partitions, median of %d rounds\n", $events, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s %10s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB', 'rows out';
	for my $case ({name => 'one', label => 'drain, one queue'}, {name => 'partitions', label => 'drain, partition queues'}, @cases) {
		my $name = $case->{name};
		my $ratio = $limit / $cost{$name};
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d %10s\n", $case->{label}, $events / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}), $ratio, $case->{bar} // '-', $case->{bar} ? bar($case->{label}, $ratio, '>=', $case->{bar}) : '',
			(sort { $b <=> $a } map { $_->{rss} // 0 } @{$result{$name}})[0], $case->{rows} // '';
	}
	for my $case (grep { $_->{of} && $cost{$_->{of}} } @cases) {
		my $more = $cost{$case->{name}} / $cost{$case->{of}};
		printf "%-36s %10s %9s %13s %7.2f %6s %-7s\n", "  CPU of $case->{name} / $case->{of}", '', '', '', $more, 1.2, bar("$case->{label}, CPU of that of a minute", $more, '<=', 1.2);
	}
	drop_topic('over', 'over_in');
	return;
}

1;

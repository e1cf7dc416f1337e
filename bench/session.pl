# Part "session" of the benchmark: session windows.  Loaded by bench.pl, whose functions and those of keyed.pl it uses;
# README.md says what each figure is.
use strict;
use warnings;

our (%opt, %part, $work, $tree, $broker, $address, $partitions);

my $events = $ENV{BENCH_SESSION_EVENTS} || 5_000_000;

sub session_query {
	my ($table, $gap, $aggregates) = @_;
	return "SELECT auction, win, $aggregates FROM (SELECT t.auction, t.price, streamproc.session(t.at, '$gap') OVER (PARTITION BY t.auction ORDER BY t.at) AS win FROM $table t) s GROUP BY auction, win";
}

sub session {
	# what drain() and measure() count
	local $opt{events} = $events;
	my @cases = (
		{name => 'session_5min', label => 'gap of 5 minutes, count, sum, max', gap => '5 min', aggregates => 'count(*) AS n, sum(price) AS total, max(price) AS biggest', bar => 0.12},
		{name => 'session_10s', label => 'gap of 10 seconds', gap => '10 s', aggregates => 'count(*) AS n, sum(price) AS total, max(price) AS biggest'},
		{name => 'session_numeric', label => 'gap of 5 minutes, sum of numeric', gap => '5 min', aggregates => 'count(*) AS n, sum(price::numeric) AS total, max(price) AS biggest'},
	);
	if ($ENV{BENCH_CASES}) {
		my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES};
		@cases = grep { $only{$_->{name}} } @cases;
	}
	# 1000 events a second of event time; a key of the rare ones comes each 200 s
	say_line(bid_topic('session', count => $events, keys => 100_000, hot => 1000, disorder => 2000, 'event-rate' => 1000));
	my $columns = 'auction bigint NOT NULL, price bigint, at timestamptz';
	sql("CREATE FOREIGN TABLE session_in ($columns) SERVER kafka OPTIONS (topic 'session', format 'json', event_time 'at', watermark_delay '2 s')",
		'CREATE TABLE all_session (auction bigint, price bigint, at timestamptz) WITH (autovacuum_enabled = off)',
		"SELECT streamproc.create_pipeline('all_session', 'INSERT INTO all_session SELECT auction, price, at FROM session_in', stop => 'latest')",
		"SELECT streamproc.wait_until_stopped('all_session', '900 s')", "SELECT streamproc.drop_pipeline('all_session')");
	check('events of session', sql('SELECT count(*) FROM all_session'), $events);
	$_->{expected} = checksum(session_query('all_session', $_->{gap}, $_->{aggregates})) for @cases;
	sql('DROP TABLE all_session');
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'session');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $case (@cases) {
			my $name = $case->{name};
			sql("CREATE TABLE sink_$name (auction bigint, win tstzrange, n bigint, total numeric, biggest bigint)", 'CHECKPOINT');
			my $query = session_query('session_in', $case->{gap}, $case->{aggregates});
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
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nSessions: %d events, 100,000 keys, half of the events on 1 %% of them, %d partitions, median of %d rounds\n", $events, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s %10s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB', 'rows out';
	for my $case ({name => 'one', label => 'drain, one queue'}, {name => 'partitions', label => 'drain, partition queues'}, @cases) {
		my $name = $case->{name};
		my $ratio = $limit / $cost{$name};
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d %10s\n", $case->{label}, $events / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}), $ratio, $case->{bar} // '-', $case->{bar} ? bar($case->{label}, $ratio, '>=', $case->{bar}) : '',
			(sort { $b <=> $a } map { $_->{rss} // 0 } @{$result{$name}})[0], $case->{rows} // '';
	}
	drop_topic('session', 'session_in');
	return;
}

1;

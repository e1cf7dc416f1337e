# Part "dedup" of the benchmark: the first row of each of some millions of ids.  Loaded by bench.pl, whose functions it uses;
# README.md says what each figure is.
use strict;
use warnings;

our (%opt, $work, $tree, $broker, $address, $partitions);

my $events = $ENV{BENCH_DEDUP_EVENTS} || 5_000_000;
# so many of them come twice
my $twice = int($events / 10);
# event time of the first ones: load's default, 10,000 a second
my $seconds = ($events - $twice) / 10_000;

sub dedup_query { my ($table, $order) = @_; return "SELECT tx_id, card, amount, at FROM (SELECT DISTINCT ON (t.tx_id) t.* FROM $table t ORDER BY t.tx_id, $order) q WHERE amount > 1000" }

sub dedup {
	local $opt{events} = $events;
	my @cases = (
		{name => 'dedup', label => 'first row of each uuid', bar => 0.2},
		{name => 'dedup_arrival', label => 'the same as rows arrive', options => q{, ordering => 'arrival'}, bar => 0.2},
		{name => 'dedup_ttl', label => 'with a state_ttl that frees nothing', options => q{, state_ttl => '1 day'}},
		{name => 'dedup_short', label => 'with one of a minute', options => q{, state_ttl => '1 min'}, all => 1},
	);
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'dedup', $partitions);
	say_line(load('dedup', '--spread', 'even', '--bytes', 200, '--count', $events - $twice));
	say_line(load('dedup', '--spread', 'even', '--bytes', 200, '--count', $twice, '--event-rate', 10_000, '--start-time', (1767225600 + $seconds) * 1000));
	my $columns = "tx_id uuid NOT NULL, card text, amount numeric, at timestamptz";
	sql("CREATE FOREIGN TABLE dedup_in ($columns) SERVER kafka OPTIONS (topic 'dedup', format 'json', event_time 'at', watermark_delay '2 s')",
		"CREATE TABLE all_dedup ($columns) WITH (autovacuum_enabled = off)",
		"SELECT streamproc.create_pipeline('all_dedup', 'INSERT INTO all_dedup SELECT tx_id, card, amount, at FROM dedup_in', stop => 'latest')",
		"SELECT streamproc.wait_until_stopped('all_dedup', '900 s')", "SELECT streamproc.drop_pipeline('all_dedup')");
	check('events of dedup', sql('SELECT count(*) FROM all_dedup'), $events);
	check('ids of dedup', sql('SELECT count(DISTINCT tx_id) FROM all_dedup'), $events - $twice);
	my $expected = checksum(dedup_query('all_dedup', 't.at'));
	my $every = checksum('SELECT tx_id, card, amount, at FROM all_dedup WHERE amount > 1000');
	sql('DROP TABLE all_dedup');
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'dedup');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $case (@cases) {
			my $name = $case->{name};
			my $query = dedup_query('dedup_in', 't.at');
			sql("CREATE TABLE sink_$name ($columns)", 'CHECKPOINT');
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name $query\$\$, stop => 'latest', state_memory => '2GB'" . ($case->{options} // '') . ')',
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$name}}, $figures;
			progress($round, $case->{label}, $figures);
			say_line('    ', last_epochs($name));
			# those that come twice do so minutes later
			check("$name, round $round", checksum("SELECT * FROM sink_$name"), $case->{all} ? $every : $expected);
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
		}
	}
	# while it runs: what is kept of an id
	my %kept;
	for my $id (qw(tx_id number)) {
		my $key = $id eq 'tx_id' ? 't.tx_id' : 'hashtextextended(t.tx_id::text, 0)';
		sql('CREATE TABLE sink_memory (amount numeric)',
			"SELECT streamproc.create_pipeline('memory', \$\$INSERT INTO sink_memory SELECT amount FROM (SELECT DISTINCT ON ($key) t.amount FROM dedup_in t ORDER BY $key, t.at) q WHERE amount < 0\$\$, state_memory => '2GB', ordering => 'arrival')",
			"SELECT streamproc.wait_until_caught_up('memory', '900 s')");
		my $one = q{SELECT bytes / greatest(keys, 1) FROM streamproc.stat_operator WHERE pipeline = 'memory' AND keys = } . ($events - $twice);
		my $bytes = '';
		for (1 .. 100) { last if ($bytes = sql($one)) ne ''; sleep 0.1 }
		$kept{$id} = $bytes;
		sql("SELECT streamproc.drop_pipeline('memory')", 'DROP TABLE sink_memory');
	}
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nDeduplication: %d events, a tenth of them twice, %d partitions, median of %d rounds\n", $events, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB';
	for my $case ({name => 'one', label => 'drain, one queue'}, {name => 'partitions', label => 'drain, partition queues'}, @cases) {
		my $name = $case->{name};
		my $ratio = $limit / $cost{$name};
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d\n", $case->{label}, $events / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $events * 1e6 } @{$result{$name}}), $ratio, $case->{bar} // '-', $case->{bar} ? bar($case->{label}, $ratio, '>=', $case->{bar}) : '',
			(sort { $b <=> $a } map { $_->{rss} // 0 } @{$result{$name}})[0];
	}
	printf "%-36s %10s bytes %-4s %s\n", "memory of $_->[0]", $kept{ $_->[1] }, '40', bar("memory of $_->[0]", $kept{ $_->[1] }, '<=', 40) for ['a uuid', 'tx_id'], ['a bigint', 'number'];
	sql('DROP FOREIGN TABLE dedup_in');
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, 'dedup');
	return;
}

1;

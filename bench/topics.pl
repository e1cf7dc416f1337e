# Part "topics" of the benchmark: results into a topic.  Loaded by bench.pl, whose functions it uses; README.md says what
# each figure is.
use strict;
use warnings;
use Time::HiRes qw(time);

our (%opt, %part, $work, $tree, $broker, $address, $partitions);

my $out_columns = "tx_id uuid, card text, amount numeric, at timestamptz, ts timestamptz OPTIONS (kafka 'timestamp'), k text OPTIONS (kafka 'key')";

sub out_topic {
	my ($name) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
	sql("CREATE FOREIGN TABLE $name ($out_columns) SERVER kafka OPTIONS (topic '$name', format 'json')");
	return;
}

sub drop_out_topic {
	my ($name) = @_;
	sql("DROP FOREIGN TABLE $name");
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $name);
	return;
}

sub topics_speed {
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'half', $partitions);
	say_line("\n", load('half', '--count', $opt{events}, '--payload', 'tx', '--keys', 100_000, '--spread', 'even', '--bytes', 200));
	sql("CREATE FOREIGN TABLE half (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz, p int OPTIONS (kafka 'partition'),
			o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'half', format 'json')");
	my $median = sql('SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY amount) FROM half WHERE o < 20000');
	my $expected = sql("SELECT count(*) FROM half WHERE amount > $median");
	my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES} || '';
	my %result;
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'half');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $delivery (grep { !%only || $only{$_} } qw(exactly_once at_least_once)) {
			my $name = "${delivery}_$round";
			out_topic($name);
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO $name (tx_id, card, amount, at, k) SELECT tx_id, card, amount, at, card FROM half
					WHERE amount > $median\$\$, stop => 'latest', delivery => '$delivery')",
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$delivery}}, $figures;
			progress($round, $delivery, $figures);
			check("$name, messages sent", sql("SELECT published FROM streamproc.publisher_position WHERE pipeline = '$name'"), $expected);
			check("$name, messages in the topic", sql("SELECT count(*) FROM $name"), $expected) if $round == 1;
			sql("SELECT streamproc.drop_pipeline('$name')");
			drop_out_topic($name);
		}
	}
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}) } keys %result;
	my $limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	printf "\nInto a topic: %d events, half of them kept, %d partitions, median of %d rounds\n", $opt{events}, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar';
	for my $case (['one', 'drain, one queue of 2048 kB'], ['partitions', 'drain, partition queues of 512 kB'], ['exactly_once', 'exactly once', 0.15], ['at_least_once', 'at least once']) {
		my ($name, $label, $bar) = @$case;
		next if !$cost{$name};
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %s\n", $label, $opt{events} / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}), $limit / $cost{$name}, $bar // '-', $bar ? bar("$label into a topic", $limit / $cost{$name}, '>=', $bar) : '';
	}
	sql('DROP FOREIGN TABLE half');
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, 'half');
	return;
}

# One pipeline of events into a topic, for so long; the figures of who reads it, and what the publisher says of itself.
sub topics_latency_run {
	my ($name, $delivery, $rate, $seconds, $linger) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, "in_$name", $partitions);
	out_topic($name);
	sql("CREATE FOREIGN TABLE in_$name (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz, ts timestamptz OPTIONS (kafka 'timestamp'))
			SERVER kafka OPTIONS (topic 'in_$name', format 'json')",
		"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO $name (tx_id, card, amount, at, ts, k) SELECT tx_id, card, amount, at, ts, card FROM in_$name\$\$,
			delivery => '$delivery')",
		"SELECT streamproc.wait_until_caught_up('$name', '60 s')");
	my $pid = latency_load("in_$name", $rate, $seconds + 7, '--linger', $linger);
	my $line = run("$work/arrival", $address, $name, $seconds);
	waitpid $pid, 0;
	fail("load at $rate events/s failed") if $? != 0;
	my %figure = $line =~ /(\w+) ([\d.]+)/g;
	sql("SELECT streamproc.wait_until_caught_up('$name', '60 s')");
	$figure{publisher} = sql("SELECT publish_transactions || ' Kafka transactions, ' || round(published_rows::numeric / publish_transactions) || ' messages each; commit to commit in Kafka p50 '
		|| publish_p50 || ', p99 ' || publish_p99 || '; retries ' || publish_retries FROM streamproc.stat_pipeline WHERE pipeline = '$name'");
	sql("SELECT streamproc.drop_pipeline('$name')", "DROP FOREIGN TABLE in_$name");
	drop_out_topic($name);
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, "in_$name");
	return \%figure;
}

sub topics_latency {
	my $rate = 20_000;
	my $seconds = $ENV{BENCH_TOPICS_SECONDS} || 60;
	my $linger = $ENV{BENCH_TOPICS_LINGER} // 2;
	my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES} || '';
	# with transactions: they are another part of the broker
	topics_latency_run('warm_up', 'exactly_once', $rate, $opt{broker}, $linger) if $opt{broker} > 0;
	sql('CHECKPOINT');
	printf "\nInto a topic: from message timestamp to a read_committed consumer of the result, %d events/s for %d s, linger of the generator %d ms\n", $rate, $seconds, $linger;
	printf "%-36s %9s %6s %-7s %9s %6s %-7s %9s\n", '', 'p50 ms', 'bar', '', 'p99 ms', 'bar', '', 'max ms';
	my $alone = arrival('alone', $rate, 10, '--linger', $linger);
	printf "%-36s %9.2f %14s %9.2f %14s %9.1f\n", 'broker alone, without a pipeline', $alone->{p50_ms}, '', $alone->{p99_ms}, '', $alone->{max_ms};
	for my $delivery (grep { !%only || $only{$_} } qw(exactly_once at_least_once)) {
		my $figure = topics_latency_run("late_$delivery", $delivery, $rate, $seconds, $linger);
		my ($bar50, $bar99) = $delivery eq 'exactly_once' ? (12, 34) : (6, undef);
		print "  $figure->{publisher}\n";
		printf "%-36s %9.2f %6s %-7s %9.2f %6s %-7s %9.1f\n", $delivery =~ tr/_/ /r,
			$figure->{p50_ms}, $bar50, bar("$delivery into a topic, p50 ms", $figure->{p50_ms}, '<=', $bar50),
			$figure->{p99_ms}, $bar99 // '-', $bar99 ? bar("$delivery into a topic, p99 ms", $figure->{p99_ms}, '<=', $bar99) : '', $figure->{max_ms};
	}
	return;
}

sub topics {
	my %wanted = map { $_ => 1 } split ' ', $ENV{BENCH_TOPICS} || 'speed latency';
	topics_speed() if $wanted{speed};
	topics_latency() if $wanted{latency};
	return;
}

1;

# Latency and recovery of the part "peers" of the benchmark.  Loaded by bench.pl; README.md beside this file says what each
# figure is.
use strict;
use warnings;
use Time::HiRes qw(time sleep);

our (%opt, %peer, %topic, $jvm, $conninfo, $work, $tree, $broker, $address, $partitions);

my $rate = $ENV{BENCH_PEER_RATE} || 20_000;
my $seconds = $ENV{BENCH_PEER_LATENCY_SECONDS} || 20;
# a JVM compiles itself for so long, and we get it, too
my $warmup = $ENV{BENCH_PEER_WARMUP} || 40;
my $interval = $ENV{BENCH_PEER_LATENCY_CHECKPOINT} || 20;
my $linger = $ENV{BENCH_PEER_LINGER} // 1;
my @sinks = split ' ', $ENV{BENCH_PEER_SINKS} || 'topic table';

# What flows: every event, decoded and written anew, with the timestamp that it came with.
my $pass = 'tx_id, card, amount, at, ts';
my $flink_pass = 'tx_id STRING, card STRING, amount DECIMAL(12, 2), `at` TIMESTAMP_LTZ(3), ts TIMESTAMP_LTZ(3)';

sub latency_topic {
	my ($name) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
	$topic{$name} = {delay => '0 s', events => $rate * ($warmup + $seconds + 12),
		flink => "tx_id STRING, card STRING, amount DECIMAL(12, 2), city STRING, `at` TIMESTAMP_LTZ(3), ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
			p INT METADATA FROM 'partition' VIRTUAL, o BIGINT METADATA FROM 'offset' VIRTUAL"};
	sql("CREATE FOREIGN TABLE $name (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz, ts timestamptz OPTIONS (kafka 'timestamp'),
			p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic '$name', format 'json', event_time 'at')");
	return;
}

# One system that passes everything on, started and fed until its answer was measured.
sub latency_of {
	my ($variant, $sink) = @_;
	my ($system, $state, $parallelism) = split /-/, $variant;
	(my $name = "${sink}_late_$variant") =~ tr/-/_/;
	my $in = "in_$name";
	my $process;
	latency_topic($in);
	if ($sink eq 'topic') {
		run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
		sql("CREATE FOREIGN TABLE $name (tx_id uuid, card text, amount numeric, at timestamptz, ts timestamptz OPTIONS (kafka 'timestamp'), k text OPTIONS (kafka 'key'))
			SERVER kafka OPTIONS (topic '$name', format 'json')");
	}
	else {
		# a table that is only appended to and has no index is what latency.c looks at; the upsert needs a key
		sql("CREATE TABLE $name (p int, o bigint, ts timestamptz, card text, amount numeric" . ($system eq 'flink' ? ', PRIMARY KEY (p, o)' : '') . ') WITH (autovacuum_enabled = off)');
	}
	if ($system eq 'streamproc') {
		my $query = $sink eq 'topic' ? "INSERT INTO $name ($pass, k) SELECT $pass, card FROM $in" : "INSERT INTO $name SELECT p, o, ts, card, amount FROM $in";
		sql("SELECT streamproc.create_pipeline('$name', \$\$$query\$\$, parallelism => 1)", "SELECT streamproc.wait_until_caught_up('$name', '60 s')");
	}
	elsif ($system eq 'flink') {
		my $case = {flink_set => {'execution.checkpointing.interval' => "$interval ms", 'execution.checkpointing.min-pause' => '0 ms', 'execution.buffer-timeout.interval' => '1 ms'}};
		my @tables = $sink eq 'topic'
			? (flink_table('peer_result', $flink_pass =~ s/ts TIMESTAMP_LTZ\(3\)/$& METADATA FROM 'timestamp'/r, undef, flink_topic_sink($name, 'card'), 'properties.linger.ms' => 0),
				'INSERT INTO peer_result SELECT tx_id, card, amount, `at`, ts FROM ' . $in)
			: (flink_table('peer_result', 'p INT, o BIGINT, ts TIMESTAMP(3), card STRING, amount DECIMAL(12, 2)', 'p, o', flink_jdbc_sink($name), 'sink.buffer-flush.interval' => "$interval ms"),
				'INSERT INTO peer_result SELECT p, o, CAST(ts AS TIMESTAMP(3)), card, amount FROM ' . $in);
		my $file = flink_file("$work/$name.sql", $state, $parallelism, $case, flink_source($in, $tables[-1], 'scan.bounded.mode' => 'unbounded'), @tables);
		$process = start_jvm($name, flink_command($file));
	}
	else {
		# of the same name as the topic: the run's number is part of it
		run("$tree/test/kafka/broker.sh", 'topic', $broker, "${name}_1", $partitions);
		sql("ALTER FOREIGN TABLE $name OPTIONS (SET topic '${name}_1')");
		$process = start_jvm($name, kstreams_command(case => 'topic', topic => $in, out => $name, events => 0, threads => $state, above => -1, runs => 1, commit => $interval, 'producer.linger.ms' => 0));
	}
	jvm_line($process, qr/running/, 120) if $process;
	my $count = $topic{$in}{events};
	my $load = latency_load($in, $rate, $warmup + $seconds + 12, '--spread', 'batch', '--no-idempotence', '--linger', $linger);
	my $line;
	if ($sink eq 'topic') {
		my $out = $system eq 'kstreams' ? "${name}_1" : $name;
		run("$work/arrival", $address, $out, $warmup - 5);
		$line = run("$work/arrival", $address, $out, $seconds);
	}
	else {
		$line = run("$work/latency", $conninfo, $name, $partitions, $count, $warmup, $warmup + $seconds + 60);
	}
	waitpid $load, 0;
	fail("load at $rate events/s failed") if $? != 0;
	# each event once
	my $rows = 0;
	for (1 .. 60) {
		$rows = sql($sink eq 'topic' ? "SELECT count(*) || '|' || count(DISTINCT tx_id) FROM $name" : "SELECT count(*) || '|' || count(DISTINCT (p, o)) FROM $name");
		last if $rows eq "$count|$count";
		sleep 1;
	}
	check("$name: rows and different rows", $rows, "$count|$count");
	if ($process) { end_jvm($process, 'KILL'); }
	else { sql("SELECT streamproc.stop_pipeline('$name')", "SELECT streamproc.wait_until_stopped('$name', '60 s')", "SELECT streamproc.drop_pipeline('$name')"); }
	sql($sink eq 'topic' ? "DROP FOREIGN TABLE $name" : "DROP TABLE $name");
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $_) for $sink eq 'topic' ? ($name, $system eq 'kstreams' ? "${name}_1" : ()) : ();
	peer_drop_topic($in);
	my %figure = $line =~ /(\w+) ([\d.]+)/g;
	$figure{right} = $rows eq "$count|$count";
	printf "  %-6s %-16s %s\n", $sink, $variant, $line;
	return \%figure;
}

sub peer_latency {
	# short pauses instead of little CPU
	local $jvm = $ENV{BENCH_PEER_LATENCY_JVM} || '-Xmx2g -XX:+UseG1GC -XX:MaxGCPauseMillis=10';
	# the broker compiles itself, too, that of transactions in particular: who comes first would wait for it
	if ($opt{broker} > 0) {
		print "\nThe broker's warm-up, counts for nothing:\n";
		latency_of('streamproc', 'topic');
	}
	sql('CHECKPOINT');
	printf "\nLatency: %d events/s for %d s after %d s, exactly once; from the message's timestamp to a read_committed consumer of the result, or to the row that is visible; the peers commit every %d ms\n",
		$rate, $seconds, $warmup, $interval;
	my %result;
	my @peers = grep { !/rocksdb/ } @{$peer{variants}};
	for my $round (1 .. $peer{rounds}) {
		for my $sink (@sinks) {
			for my $variant ('streamproc', grep { $sink eq 'topic' || /^flink/ } @peers) {
				push @{$result{$sink}{$variant}}, eval { latency_of($variant, $sink) } || failed_run("${sink}_late_$variant" =~ tr/-/_/r);
			}
		}
	}
	printf "%-16s %-16s %9s %13s %9s %13s %9s\n", '', '', 'p50 ms', '(spread)', 'p99 ms', '(spread)', 'max ms';
	for my $sink (@sinks) {
		my $best;
		my %p99 = map { my $v = $_; $v => median(map { $_->{p99_ms} } @{$result{$sink}{$v}}) } keys %{$result{$sink}};
		for my $variant (grep { $result{$sink}{$_} } 'streamproc', @peers) {
			my @runs = @{$result{$sink}{$variant}};
			if (grep { !$_->{right} } @runs) { printf "%-16s %-16s wrong answer, no score\n", "into a $sink", $variant; next; }
			printf "%-16s %-16s %9.1f %13s %9.1f %13s %9.0f\n", "into a $sink", $variant, median(map { $_->{p50_ms} } @runs), spread(map { $_->{p50_ms} } @runs), $p99{$variant}, spread(map { $_->{p99_ms} } @runs),
				median(map { $_->{max_ms} } @runs);
			$best = $p99{$variant} if $variant ne 'streamproc' && (!defined $best || $p99{$variant} < $best);
		}
		next if !defined $best || grep { !$_->{right} } @{$result{$sink}{streamproc}};
		my $bar = $sink eq 'topic' ? 2 : 4;
		my $ratio = $best / $p99{streamproc};
		printf "%-16s %-16s %9s %13s %9.2f, bar %d, %s\n", '', 'p99, best of peers / ours', '', '', $ratio, $bar, bar("latency into a $sink, p99 of the best peer's", $ratio, '>=', $bar);
	}
	return;
}

# ---------------------------------------------------------------- recovery

# the newest checkpoint that is complete
sub newest_checkpoint {
	my ($since) = @_;
	my ($newest) = sort { -M $a <=> -M $b } glob "$work/checkpoints/*/chk-*/_metadata";
	return if !$newest || (stat $newest)[9] < int $since;
	return $newest =~ s!/_metadata$!!r;
}

sub wait_for {
	my ($what, $seconds, $condition) = @_;
	my $until = time + $seconds;
	while (time < $until) {
		my $result = $condition->();
		return $result if $result;
		sleep 0.02;
	}
	fail("$what: not within $seconds s");
}

# A JVM with 1 M keys in its state is killed, and another one goes on from its last checkpoint; a JVM is the smallest thing
# that can die here.  Ours is the part "keyed", BENCH_KEYED=recovery.
sub peer_recovery {
	million_topic();
	$topic{million} = {delay => '0 s', flink => 'auction BIGINT, price BIGINT, `at` TIMESTAMP_LTZ(3)'};
	printf "\nRecovery of Flink: 1 M keys (count, sum), 20,000 events/s, checkpoints every %d ms; kill -9 of the JVM, from the start of the next one\n", $peer{checkpoint};
	printf "%-16s %9s %22s %22s\n", '', 'running', 'first record read', 'first checkpoint, s';
	for my $variant (grep { /^flink/ } @{$peer{variants}}) {
		my (undef, $state, $parallelism) = split /-/, $variant;
		my (@running, @first, @took);
		for my $round (1 .. $peer{rounds}) {
			(my $name = "recover_${variant}_$round") =~ tr/-/_/;
			system('rm', '-rf', "$work/checkpoints");
			my @statements = (flink_source('million', 'auction, price', 'scan.bounded.mode' => 'unbounded'), flink_table('peer_result', 'auction BIGINT, n BIGINT, total BIGINT', undef, connector => 'peer'),
				'INSERT INTO peer_result SELECT auction, COUNT(*), SUM(price) FROM million GROUP BY auction');
			my $process = start_jvm($name, flink_command(flink_file("$work/$name.sql", $state, $parallelism, {}, @statements)));
			jvm_line($process, qr/million 1\b/);
			my $load = background_load('million', '--count', 0, '--rate', 20000, '--keys', 1_000_000, '--seed', $round + 1, '--event-rate', 1e6);
			my $loaded = time;
			# one that was begun after all keys were there
			my $from = wait_for('a checkpoint', 120, sub { newest_checkpoint($loaded + 3) });
			end_jvm($process, 'KILL');
			$from = newest_checkpoint(0);
			my $begin = time;
			$process = start_jvm($name, flink_command(flink_file("$work/$name.sql", $state, $parallelism, {flink_set => {'execution.state-recovery.path' => "file://$from"}}, @statements)));
			jvm_line($process, qr/running/, 120);
			push @running, time - $begin;
			jvm_line($process, qr/first/, 120);
			push @first, time - $begin;
			wait_for('a checkpoint', 120, sub { my $newest = newest_checkpoint($begin); $newest && $newest ne $from });
			push @took, time - $begin;
			end_load($load);
			end_jvm($process, 'KILL');
		}
		printf "%-16s %9.1f %22.1f %22.1f\n", $variant, median(@running), median(@first), median(@took);
	}
	drop_topic('million', 'million', 'million_numeric');
	return;
}

1;

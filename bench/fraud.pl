# Part "fraud" of the benchmark: how long it takes from a payment to the alert.  Loaded by bench.pl, whose functions it
# uses; README.md says what each figure is.
use strict;
use warnings;

our (%opt, $work, $tree, $broker, $address, $partitions, $conninfo);

# One pipeline of the rules, warm-up included; the figures of who reads the alerts, and what the pipeline says of its last epochs.
sub fraud_run {
	my ($name, $with_topic, $rate, $warmup, $seconds) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $_, $partitions) for "in_$name", "out_$name";
	sql("CREATE FOREIGN TABLE in_$name (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz,
			p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'))
			SERVER kafka OPTIONS (topic 'in_$name', format 'json', event_time 'at')",
		"CREATE FOREIGN TABLE out_$name (tx_id uuid, card text, rule text) SERVER kafka OPTIONS (topic 'out_$name', key 'card')",
		# nothing but the pipeline may touch the pages that the reader looks at
		"CREATE TABLE sink_$name (p int, o bigint, ts timestamptz, tx_id uuid PRIMARY KEY, card text, rule text, amount numeric) WITH (autovacuum_enabled = off)");
	my $alerts = "INSERT INTO sink_$name
		SELECT p, o, ts, tx_id, card, CASE WHEN city <> prev_city AND at - prev_at < '10 min' THEN 'impossible travel'
			WHEN amount > 10 * mean_1h THEN 'ten times the average' ELSE 'velocity' END, amount
		FROM (SELECT t.*, lag(t.city) OVER k AS prev_city, lag(t.at) OVER k AS prev_at, count(*) OVER m AS n_1m, avg(t.amount) OVER h AS mean_1h
			FROM in_$name t
			WINDOW k AS (PARTITION BY t.card ORDER BY t.at),
				m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW),
				h AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 hour' PRECEDING AND CURRENT ROW)) q
		WHERE (city <> prev_city AND at - prev_at < '10 min') OR n_1m > 5 OR amount > 10 * mean_1h
		ON CONFLICT DO NOTHING";
	my $query = $with_topic ? "WITH hit AS ($alerts RETURNING tx_id, card, rule) INSERT INTO out_$name SELECT * FROM hit" : $alerts;
	sql("SELECT streamproc.create_pipeline('$name', \$\$$query\$\$, ordering => 'arrival', checkpoint_interval => '5 ms')",
		"SELECT streamproc.wait_until_caught_up('$name', '60 s')");
	my $pid = latency_load("in_$name", $rate, $warmup + $seconds, '--keys', 1_000_000);
	# how many alerts there will be nobody knows: until some seconds after the last payment
	my $line = run("$work/latency", $conninfo, "sink_$name", $partitions, 0, $warmup, $warmup + $seconds + 5);
	waitpid $pid, 0;
	fail("load at $rate events/s failed") if $? != 0;
	sql("SELECT streamproc.wait_until_caught_up('$name', '60 s')");
	check("$name: payments", sql("SELECT rows_in FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), $rate * ($warmup + $seconds));
	my %figure = $line =~ /(\w+) ([\d.]+)/g;
	$figure{line} = $line;
	$figure{epochs} = sql("SELECT 'stop p50 ' || round((percentile_cont(0.5) WITHIN GROUP (ORDER BY align_ms + cut_ms))::numeric, 2)
		|| ' ms, p99 ' || round((percentile_cont(0.99) WITHIN GROUP (ORDER BY align_ms + cut_ms))::numeric, 2)
		|| '; commit p50 ' || round((percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM commit_time) * 1000))::numeric, 2)
		|| ' ms, p99 ' || round((percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM commit_time) * 1000))::numeric, 2)
		|| '; ' || round(avg(rows_in)) || ' payments each' FROM streamproc.stat_checkpoint WHERE pipeline = '$name'");
	sql("SELECT streamproc.stop_pipeline('$name')", "SELECT streamproc.wait_until_stopped('$name', '60 s')",
		"SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name", "DROP FOREIGN TABLE in_$name, out_$name");
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $_) for "in_$name", "out_$name";
	return \%figure;
}

sub fraud {
	my $rate = 5_000;
	# with transactions: they are another part of the broker; many of them, so that it compiles what it will then be measured with
	fraud_run('warm_up', 1, 2 * $rate, 0, $opt{broker}) if $opt{broker} > 0;
	sql('CHECKPOINT');
	printf "\nFraud: from the payment's timestamp to the visible alert, %d events/s over a million cards, %d s after %d s of warm-up, median of %d runs\n",
		$rate, $opt{seconds}, $opt{warmup}, $opt{rounds};
	printf "%-36s %9s %13s %6s %-7s %9s %13s %6s %-7s %9s\n", '', 'p50 ms', '(spread)', 'bar', '', 'p99 ms', '(spread)', 'bar', '', 'max ms';
	# the alerts in a table alone, too: what sending them costs
	my @cases = ({name => 'fraud', label => 'alerts in a table and in a topic', topic => 1, bars => [6, 25]}, {name => 'fraud_table', label => 'alerts in a table', topic => 0});
	my (%result, @alone);
	for my $round (1 .. $opt{rounds}) {
		push @alone, arrival("arrival_fraud$round", $rate, 10);
		for my $case (@cases) {
			my $figure = fraud_run("$case->{name}$round", $case->{topic}, $rate, $opt{warmup}, $opt{seconds});
			push @{$result{$case->{name}}}, $figure;
			printf "  round %d  %s: %s\n    the last epochs, %s\n", $round, $case->{label}, $figure->{line}, $figure->{epochs};
		}
	}
	for my $case (@cases) {
		my @p50 = map { $_->{p50_ms} } @{$result{$case->{name}}};
		my @p99 = map { $_->{p99_ms} } @{$result{$case->{name}}};
		my ($p50, $p99) = (median(@p50), median(@p99));
		my ($bar50, $bar99) = $case->{bars} ? @{$case->{bars}} : ();
		printf "%-36s %9.2f %13s %6s %-7s %9.2f %13s %6s %-7s %9.1f\n", $case->{label},
			$p50, spread(@p50), $bar50 // '-', $bar50 ? bar("$case->{label}, p50 ms", $p50, '<=', $bar50) : '',
			$p99, spread(@p99), $bar99 // '-', $bar99 ? bar("$case->{label}, p99 ms", $p99, '<=', $bar99) : '',
			median(map { $_->{max_ms} } @{$result{$case->{name}}});
	}
	printf "%-36s %9.2f %28s %9.2f %28s %9.1f\n", '  broker alone, without a pipeline',
		median(map { $_->{p50_ms} } @alone), '', median(map { $_->{p99_ms} } @alone), '', median(map { $_->{max_ms} } @alone);
	return;
}

1;

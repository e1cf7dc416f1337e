# Part "peers" of the benchmark: the same queries in Flink SQL and Kafka Streams.  Loaded by bench.pl, whose functions and
# those of keyed.pl, over.pl and jvm.pl it uses; README.md beside this file says what each figure is.
use strict;
use warnings;

our (%opt, %part, $work, $tree, $broker, $address, $partitions, $postmaster, $sampler);
our %peer = (
	events => $ENV{BENCH_PEER_EVENTS} || 2_000_000,
	rounds => $ENV{BENCH_PEER_ROUNDS} || 1,
	checkpoint => $ENV{BENCH_PEER_CHECKPOINT} || 1000,
	only => {map { $_ => 1 } split ' ', $ENV{BENCH_PEER_CASES} || ''},
	variants => [split ' ', $ENV{BENCH_PEER_VARIANTS} || 'flink-heap-1 flink-heap-2 flink-rocksdb-2 kstreams-2'],
);
# events of a second of event time of the topic of windows, and when the first one is
my $event_rate = $ENV{BENCH_PEER_EVENT_RATE} || 100_000;
my $start = 1767225600;
my %wanted = map { $_ => 1 } split ' ', $ENV{BENCH_PEERS} || 'cases nexmark latency';

# ---------------------------------------------------------------- topics

# What each topic is, here and in Flink.  The columns that a case does not name cost neither side much: both decode what
# they need.
our %topic = (
	tx => {
		load => [qw(--payload tx --keys 100000 --bytes 200 --spread even)], delay => '0 s',
		ours => "tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz",
		flink => 'tx_id STRING, card STRING, amount DECIMAL(12, 2), city STRING, `at` TIMESTAMP_LTZ(3)',
	},
	dense => {
		load => [qw(--payload bid --keys 100000 --hot 1000 --bytes 200 --disorder 2000), '--event-rate' => $event_rate, '--spread', $ENV{BENCH_PEER_SPREAD} || 'key'], delay => '2 s',
		# a later event in each partition, so that those who close windows only by what comes in a partition close all
		ends => 1,
		ours => 'auction bigint NOT NULL, bidder bigint, price bigint, channel text, url text, at timestamptz',
		flink => 'auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `at` TIMESTAMP_LTZ(3)',
	},
	slow => {
		load => [qw(--payload bid --keys 100000 --hot 1000 --bytes 200 --disorder 2000 --event-rate 1000), '--spread', $ENV{BENCH_PEER_SPREAD} || 'key'], delay => '2 s',
		ours => "auction bigint NOT NULL, bidder bigint, price bigint, channel text, url text, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')",
		flink => "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `at` TIMESTAMP_LTZ(3), p INT METADATA FROM 'partition' VIRTUAL, o BIGINT METADATA FROM 'offset' VIRTUAL",
	},
);

sub peer_topic {
	my ($name) = @_;
	my $topic = $topic{$name};
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
	say_line($topic->{make} ? $topic->{make}->($name) : load($name, '--count', $peer{events}, @{$topic->{load}}));
	$topic->{events} //= $peer{events};
	if ($topic->{ends}) {
		load($name, qw(--payload bid --keys 4 --spread even --bytes 200 --event-rate 1000 --seed 2), '--count', $partitions,
			'--start-time', int(1000 * ($start + $peer{events} / $event_rate + 30)));
		$topic->{events} += $partitions;
	}
	(my $columns = $topic->{ours}) =~ s/ OPTIONS \(.*?\)//g;
	my $names = join ', ', map { (split ' ')[0] } split /, (?="?\w+"? \w)/, $columns;
	sql("CREATE FOREIGN TABLE $name ($topic->{ours}) SERVER kafka OPTIONS (topic '$name', format 'json', event_time 'at', watermark_delay '$topic->{delay}')",
		# what the results are compared with
		"CREATE TABLE all_$name ($columns) WITH (autovacuum_enabled = off)",
		"SELECT streamproc.create_pipeline('all_$name', 'INSERT INTO all_$name SELECT $names FROM $name', stop => 'latest')",
		"SELECT streamproc.wait_until_stopped('all_$name', '900 s')", "SELECT streamproc.drop_pipeline('all_$name')");
	check("events of $name", sql("SELECT count(*) FROM all_$name"), $topic->{events});
	return;
}

sub peer_drop_topic {
	my ($name) = @_;
	sql("DROP FOREIGN TABLE $name");
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $name);
	return;
}

# ---------------------------------------------------------------- cases

my $tumble_columns = 'auction bigint, window_start timestamptz, window_end timestamptz, n bigint, total numeric, biggest bigint';
my $tumble_flink = 'auction BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, total BIGINT, biggest BIGINT';
my $having = 'max(price) > 800000';

sub flink_tumble {
	my ($having) = @_;
	return "SELECT auction, window_start, window_end, COUNT(*), SUM(price), MAX(price)
		FROM TABLE(TUMBLE(TABLE dense, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end" . ($having ? " HAVING $having" : '');
}

# name; what the peers make of it (sink: discard, jdbc, topic); bar: what issue 8 asks for, events per CPU second against
# the best of Flink
my @cases = (
	{name => 'filter', topic => 'tx', bar => 1.2, label => 'filter, 1 % kept', sink => 'tx_id uuid, card text, amount numeric, at timestamptz',
		query => 'SELECT tx_id, card, amount, at FROM %s t WHERE amount > 1000',
		flink_sink => 'discard', flink_columns => 'tx_id STRING, card STRING, amount DECIMAL(12, 2), `at` TIMESTAMP_LTZ(3)',
		flink => 'SELECT tx_id, card, amount, `at` FROM tx WHERE amount > 1000', kstreams => 'filter', above => 1000},
	{name => 'tumble', topic => 'dense', state => 1, bar => 3, label => 'tumble 10 s, 100 K keys, HAVING', sink => "$tumble_columns, PRIMARY KEY (auction, window_start)",
		query => tumble_of('auction', $having), batch => tumble_batch('auction', $having),
		flink_sink => 'discard', flink_columns => $tumble_flink, flink => flink_tumble('MAX(price) > 800000'), kstreams => 'tumble'},
	{name => 'tumble_table', topic => 'dense', state => 1, bar => 4, label => 'the same, all into a table', sink => "$tumble_columns, PRIMARY KEY (auction, window_start)",
		query => tumble_of('auction'), batch => tumble_batch('auction'),
		flink_sink => 'jdbc', flink_columns => $tumble_flink, flink_key => 'auction, window_start', flink => flink_tumble()},
	{name => 'lag', topic => 'slow', state => 1, bar => 5, label => 'lag by 100 K keys', sink => 'auction bigint, at timestamptz, price bigint, p int, o bigint, prev bigint',
		options => {state_memory => '2GB'}, query => over_query('%s', undef, 't.at'), batch => over_query('%s', undef, 't.at, t.p, t.o'),
		flink_sink => 'discard', flink_columns => 'auction BIGINT, `at` TIMESTAMP_LTZ(3), price BIGINT, p INT, o BIGINT, prev_price BIGINT',
		flink => 'SELECT auction, `at`, price, p, o, prev_price FROM (SELECT auction, `at`, price, p, o, LAG(price) OVER (PARTITION BY auction ORDER BY `at`) AS prev_price FROM slow)
			WHERE price > 500000 AND prev_price > 500000'},
	{name => 'topic', topic => 'tx', bar => 1.2, label => 'half of it into a topic', out => 'tx_id uuid, card text, amount numeric, at timestamptz',
		query => 'SELECT tx_id, card, amount, at FROM %s t WHERE amount > 40',
		flink_sink => 'topic', flink_columns => 'tx_id STRING, card STRING, amount DECIMAL(12, 2), `at` TIMESTAMP_LTZ(3)', flink_key => 'card',
		flink => 'SELECT tx_id, card, amount, `at` FROM tx WHERE amount > 40', kstreams => 'topic', above => 40},
);

# ---------------------------------------------------------------- a run of each

# The text of a query over the topics, or over the tables that have the same rows.
sub text_of {
	my ($case, $text, $prefix) = @_;
	return $text =~ s/%s/$prefix$case->{topic}/gr =~ s/\{(\w+)\}/$prefix$1/gr;
}

sub topics_of { my ($case) = @_; return @{$case->{topics} || [$case->{topic}]} }
sub events_of { my ($case) = @_; my $sum = 0; $sum += $topic{$_}{events} for topics_of($case); return $sum }

# The largest sum of PSS of processes while something runs, kB: looked at four times a second, as a look walks the
# page tables of all of them.
sub pss_watch {
	my ($peak, @pids) = @_;
	my $next = 0;
	return sub {
		return if time < $next;
		my $sum = 0;
		for my $pid (map { process_tree($_) } @pids) {
			open my $file, '<', "/proc/$pid/smaps_rollup" or next;
			while (<$file>) { if (/^Pss:\s+(\d+) kB/) { $sum += $1; last; } }
			close $file;
		}
		$$peak = $sum if $sum > $$peak;
		$next = time + 0.25;
	};
}

sub run_ours {
	my ($case, $name) = @_;
	my $sink = $case->{out} ? $name : "sink_$name";
	if ($case->{out}) {
		run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
		sql("CREATE FOREIGN TABLE $name ($case->{out}, k text OPTIONS (kafka 'key')) SERVER kafka OPTIONS (topic '$name', format 'json')");
	}
	else {
		sql("CREATE TABLE $sink ($case->{sink})");
	}
	sql('CHECKPOINT');
	my $query = text_of($case, $case->{query}, '');
	# the key of the message beside the columns
	$query = "SELECT q.*, card FROM ($query) q" if $case->{out};
	$query .= " ON CONFLICT $case->{conflict}" if $case->{conflict};
	my $options = join '', map { ", $_ => '$case->{options}{$_}'" } sort keys %{$case->{options} || {}};
	my $peak = 0;
	local $sampler = pss_watch(\$peak, $postmaster);
	my $figures = measure($name,
		"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO $sink $query\$\$, stop => 'latest'$options)",
		"SELECT streamproc.wait_until_stopped('$name', '900 s')");
	$figures->{pss} = $peak;
	check("$name: dead letters and late rows", sql("SELECT (SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$name') + late_rows FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), 0);
	$figures->{right} = judge($name, $case, $sink);
	sql("SELECT streamproc.drop_pipeline('$name')");
	drop_result($case, $name);
	return $figures;
}

sub drop_result {
	my ($case, $name) = @_;
	sql('DROP ' . ($case->{out} ? "FOREIGN TABLE $name" : "TABLE sink_$name"));
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $name) if $case->{out};
	return;
}

# columns of a list like "a int, b text, PRIMARY KEY (a)"
sub names_of { return join ', ', map { (split ' ')[0] } grep { !/^PRIMARY/ } split /, (?=[\w`]+ )/, $_[0] }

# Is what lies in a table what the batch says?  A run with another answer has no score.
sub judge {
	my ($name, $case, $rows) = @_;
	my $got = checksum('SELECT ' . ($case->{compare} || names_of($case->{sink} || $case->{out})) . " FROM $rows");
	check($name, $got, $case->{expected});
	return $got eq $case->{expected};
}

# The last row of each key of what a peer has written into files, or all rows.
sub judge_files {
	my ($name, $case, $path, $changes) = @_;
	my @files = glob "$path*";
	my $columns = join ', ', grep { !/^PRIMARY/ } split /, (?=\w+ )/, $case->{sink};
	sql('DROP TABLE IF EXISTS got', "CREATE TABLE got (" . ($changes ? 'line bigint, kind text, ' : '') . "$columns) WITH (autovacuum_enabled = off)", map { "COPY got FROM '$_'" } @files);
	my $key = $case->{upsert};
	my $right = judge($name, $case, $key ? "(SELECT DISTINCT ON ($key) * FROM got ORDER BY $key, line DESC) g WHERE kind <> '-D'" : 'got');
	sql('DROP TABLE got');
	unlink @files;
	return $right;
}

sub run_flink {
	my ($case, $name, $state, $parallelism) = @_;
	my $sink = $case->{flink_sink};
	my $path = "$work/$name.rows";
	my (%with, @files);
	if ($sink eq 'topic') { run("$tree/test/kafka/broker.sh", 'topic', $broker, $_, $partitions) for "${name}_1", $name; }
	if ($sink eq 'jdbc') { sql("CREATE TABLE sink_${name}_1 ($case->{sink})", "CREATE TABLE sink_$name ($case->{sink})", 'CHECKPOINT'); }
	for my $run (1, 2) {
		# the first run warms the JVM up, and leaves its answer in files where the second one throws it away
		my $target = $run == 1 ? "${name}_1" : $name;
		%with = $sink eq 'topic' ? flink_topic_sink($target, $case->{flink_key})
			: $sink eq 'jdbc' ? flink_jdbc_sink("sink_$target")
			: (connector => 'peer', $run == 1 ? (path => $path) : ());
		push @files, flink_file("$work/$name.$run.sql", $state, $parallelism, $case,
			map({ flink_source($_, $case->{flink}) } topics_of($case)), flink_table('peer_result', $case->{flink_columns}, $sink eq 'jdbc' ? $case->{flink_key} : undef, %with),
			"INSERT INTO peer_result $case->{flink}");
	}
	my $figures = measure_jvm($name, [flink_command(@files)], $sink eq 'jdbc' ? $postmaster : ());
	check("$name: events", $figures->{events}, events_of($case) * ($case->{reads} // 1));
	if ($sink eq 'topic') {
		sql("CREATE FOREIGN TABLE $name ($case->{out}) SERVER kafka OPTIONS (topic '$name', format 'json')");
		$figures->{right} = judge($name, $case, $name);
		drop_result($case, $name);
		run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, "${name}_1");
	}
	elsif ($sink eq 'jdbc') {
		$figures->{right} = judge($name, $case, "sink_$name");
		drop_result($case, $_) for $name, "${name}_1";
	}
	else {
		$figures->{right} = judge_files($name, $case, $path, 1);
		# what was thrown away had as many rows
		if (!$case->{upsert} && $figures->{rows} != (split /\|/, $case->{expected})[0]) { check("$name: rows", $figures->{rows}, (split /\|/, $case->{expected})[0]); $figures->{right} = 0; }
	}
	return $figures;
}

sub run_kstreams {
	my ($case, $name, $threads) = @_;
	my $path = "$work/$name.rows";
	if ($case->{out}) { run("$tree/test/kafka/broker.sh", 'topic', $broker, "${name}_$_", $partitions) for 1, 2; }
	my $figures = measure_jvm($name, [kstreams_command(case => $case->{kstreams}, topic => $case->{topic}, out => $name, events => $topic{$case->{topic}}{events}, threads => $threads,
		above => $case->{above} // 0, runs => 2, $case->{out} ? () : (rows => $path))]);
	if ($case->{out}) {
		sql("CREATE FOREIGN TABLE ${name}_2 ($case->{out}) SERVER kafka OPTIONS (topic '${name}_2', format 'json')");
		$figures->{right} = judge($name, $case, "${name}_2");
		drop_result($case, "${name}_2");
		run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, "${name}_1");
	}
	else {
		$figures->{right} = judge_files($name, $case, $path, 0);
	}
	return $figures;
}

# ---------------------------------------------------------------- rounds and table

sub variants_of {
	my ($case) = @_;
	return grep {
		my ($system, $state) = split /-/;
		$system eq 'kstreams' ? $case->{kstreams} : $state ne 'rocksdb' || $case->{state};
	} @{$peer{variants}};
}

# What a run that failed leaves is ended, and it has no score.
sub failed_run {
	my ($name) = @_;
	check($name, $@ =~ s/\s+/ /gr, 'an answer');
	kill_jvms();
	try_sql("SELECT streamproc.drop_pipeline('$name') FROM streamproc.stat_pipeline WHERE pipeline = '$name'");
	return {wall => 0, cpu => 0, pss => 0, p50_ms => 0, p99_ms => 0, max_ms => 0, right => 0};
}

sub compare_cases {
	my ($title, @list) = @_;
	@list = grep { !%{$peer{only}} || $peer{only}{$_->{name}} } @list;
	return if !@list;
	my %needed = map { $_ => 1 } map { topics_of($_) } @list;
	peer_topic($_) for sort keys %needed;
	for my $case (@list) {
		my $batch = text_of($case, $case->{batch} || $case->{query}, 'all_');
		if ($case->{compare}) {
			# the batch's columns have no names of their own
			my $names = names_of($case->{sink});
			$batch = "SELECT $case->{compare} FROM ($batch) b ($names)";
		}
		$case->{expected} = checksum($batch);
	}
	sql(map { "DROP TABLE all_$_" } sort keys %needed);
	my (%result, %drain);
	for my $round (1 .. $peer{rounds}) {
		for my $name (sort keys %needed) {
			local $opt{events} = $topic{$name}{events};
			for my $variant (qw(one partitions)) {
				push @{$drain{$name}{$variant}}, drain($variant, $name);
				progress($round, "drain of $name, $variant", $drain{$name}{$variant}[-1]);
			}
		}
		for my $case (@list) {
			for my $variant ('streamproc', variants_of($case)) {
				my ($system, @how) = split /-/, $variant;
				(my $name = "$case->{name}_${variant}_$round") =~ tr/-/_/;
				# the others go on without it
				my $figures = eval { $system eq 'streamproc' ? run_ours($case, $name) : $system eq 'flink' ? run_flink($case, $name, @how) : run_kstreams($case, $name, @how) };
				$figures ||= failed_run($name);
				push @{$result{$case->{name}}{$variant}}, $figures;
				progress($round, "$case->{label}, $variant", $figures);
			}
		}
	}
	printf "\n%s: %d events, %d partitions, median of %d rounds; CPU of all processes of a system, without start-up of the peers\n", $title, $peer{events}, $partitions, $peer{rounds};
	printf "%-32s %-16s %10s %11s %13s %9s %7s %6s %-7s\n", '', '', 'events/s', 'events/CPU s', '(spread, K)', 'PSS MB', 'ratio', 'bar', '';
	for my $case (@list) {
		my $n = events_of($case);
		my $of = $result{$case->{name}};
		my %cpu = map { my $v = $_; $v => median(map { $_->{cpu} } @{$of->{$v}}) } keys %$of;
		my $limit = 0;
		for my $name (topics_of($case)) { $limit += (sort { $a <=> $b } map { my $v = $_; median(map { $_->{cpu} } @{$drain{$name}{$v}}) } qw(one partitions))[0]; }
		printf "%-32s %-16s %10s %11.0f\n", $case->{label}, 'bare consumer', '', $n / $limit;
		my $best;
		for my $variant ('streamproc', variants_of($case)) {
			my @runs = @{$of->{$variant}};
			if (grep { !$_->{right} } @runs) { printf "%-32s %-16s wrong answer, no score\n", '', $variant; next; }
			my $ratio = $cpu{streamproc} > 0 ? $cpu{$variant} / $cpu{streamproc} : 0;
			$best = $cpu{$variant} if $variant =~ /^flink/ && (!defined $best || $cpu{$variant} < $best);
			printf "%-32s %-16s %10.0f %11.0f %13s %9.0f %7s\n", '', $variant, $n / median(map { $_->{wall} } @runs), $n / $cpu{$variant}, spread(map { $n / $_->{cpu} / 1000 } @runs),
				(sort { $b <=> $a } map { $_->{pss} } @runs)[0] / 1024, $variant eq 'streamproc' ? '' : sprintf '%.2f', $ratio;
		}
		next if !defined $best || !$case->{bar} || grep { !$_->{right} } @{$of->{streamproc}};
		my $ratio = $best / $cpu{streamproc};
		printf "%-32s %-16s %10s %11s %13s %9s %7.2f %6s %-7s\n", '', "of Flink's best", '', '', '', '', $ratio, $case->{bar}, bar("$case->{label}, events per CPU second of Flink's best", $ratio, '>=', $case->{bar});
		my $memory = (sort { $b <=> $a } map { $_->{pss} } @{$of->{streamproc}})[0] / (sort { $a <=> $b } map { $_->{pss} } grep { $_->{right} } map { @{$of->{$_}} } grep { /^flink/ } keys %$of)[0];
		printf "%-32s %-16s %10s %11s %13s %9s %7.2f %6s %-7s\n", '', 'memory of it', '', '', '', '', $memory, 0.2, bar("$case->{label}, peak memory of Flink's", $memory, '<=', 0.2);
	}
	peer_drop_topic($_) for sort keys %needed;
	return;
}

sub peers {
	say_line('Peers: ', jvm_settings());
	compare_cases('Cases', @cases) if $wanted{cases};
	nexmark() if $wanted{nexmark};
	peer_latency() if $wanted{latency};
	peer_recovery() if $wanted{recovery};
	return;
}

1;

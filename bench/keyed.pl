# Part "keyed" of the benchmark: keyed, windowed aggregation.  Loaded by bench.pl, whose functions it uses; README.md says
# what each figure is.
use strict;
use warnings;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(time sleep);

our (%opt, %part, @psql, $work, $bin, $tree, $broker, $address, $partitions, $postmaster);

my $million = 1_000_000;
my %wanted = map { $_ => 1 } split ' ', $ENV{BENCH_KEYED} || 'speed memory checkpoints recovery';

# ---------------------------------------------------------------- topics

my %rate_of = (dense => 200_000, sparse => 10_000);	# events per second of event time
my $columns = 'auction bigint NOT NULL, bidder bigint, price bigint, channel text, url text, at timestamptz';

sub bid_topic {
	my ($topic, %options) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $topic, $partitions) unless $options{exists};
	delete $options{exists};
	return load($topic, '--payload', 'bid', '--spread', 'even', '--bytes', 200, map { ("--$_", defined $options{$_} ? $options{$_} : ()) } sort keys %options);
}

sub bid_table {
	my ($table, $topic, $delay, %type) = @_;
	my $all = $columns;
	$all =~ s/\b$_ bigint/$_ $type{$_}/ for keys %type;
	sql("CREATE FOREIGN TABLE $table ($all) SERVER kafka OPTIONS (topic '$topic', format 'json', event_time 'at', watermark_delay '$delay')");
	return;
}

sub drop_topic {
	my ($topic, @tables) = @_;
	sql("DROP FOREIGN TABLE $_") for @tables ? @tables : $topic;
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $topic);
	return;
}

# ---------------------------------------------------------------- speed

# The oracle does not use our window functions: windows by date_bin(), sliding ones from slices.
my $begin_10 = q{date_bin('10 s', at, '2000-01-01Z')};
my $window_10 = "$begin_10, $begin_10 + interval '10 s'";
my $by_key = 'auction bigint, window_start timestamptz, window_end timestamptz, n bigint, total numeric, biggest bigint, PRIMARY KEY (auction, window_start)';

sub tumble_of {
	my ($key, $having) = @_;
	return "SELECT $key, w.window_start, w.window_end, count(*), sum(price), max(price) FROM %s t, streamproc.tumble(t.at, '10 s') w
		GROUP BY $key, w.window_start, w.window_end" . ($having ? " HAVING $having" : '');
}

sub tumble_batch {
	my ($key, $having) = @_;
	return "SELECT $key, $window_10, count(*), sum(price), max(price) FROM %s GROUP BY $key, $begin_10" . ($having ? " HAVING $having" : '');
}

sub hop_of {
	my ($key, $slide, $size, $having) = @_;
	return "SELECT $key, w.window_start, w.window_end, count(*), sum(price), max(price) FROM %s t, streamproc.hop(t.at, '$slide s', '$size s') w
		GROUP BY $key, w.window_start, w.window_end" . ($having ? " HAVING $having" : '');
}

sub hop_batch {
	my ($key, $slide, $size, $having) = @_;
	my $last = $size / $slide - 1;
	$having =~ s/price/biggest/ if $having;
	return "SELECT k, s - i * interval '$slide s', s - i * interval '$slide s' + interval '$size s', sum(n)::bigint, sum(total), max(biggest)
		FROM (SELECT $key AS k, date_bin('$slide s', at, '2000-01-01Z') AS s, count(*) AS n, sum(price) AS total, max(price) AS biggest FROM %s GROUP BY 1, 2) slice,
		generate_series(0, $last) i GROUP BY 1, 2, 3" . ($having ? " HAVING $having" : '');
}

# Six events of 100,000 are above it.
my $having = 'max(price) > 800000';

my @cases = (
	{name => 'dense', topic => 'dense', bar => 0.22, label => 'tumble 10 s, dense, into a table', sink => $by_key, query => tumble_of('auction'), batch => tumble_batch('auction')},
	{name => 'sparse', topic => 'sparse', bar => 0.12, label => 'the same, sparse', sink => $by_key, query => tumble_of('auction'), batch => tumble_batch('auction')},
	{name => 'sparse_having', topic => 'sparse', bar => 0.2, label => 'sparse, HAVING keeps < 1 %', sink => $by_key, query => tumble_of('auction', $having), batch => tumble_batch('auction', $having)},
	{name => 'distinct', topic => 'sparse', bar => 0.2, label => 'count(DISTINCT) by 4 keys, sparse', sink => 'channel text, window_start timestamptz, window_end timestamptz, bidders bigint, PRIMARY KEY (channel, window_start)',
		query => "SELECT channel, w.window_start, w.window_end, count(DISTINCT bidder) FROM %s t, streamproc.tumble(t.at, '10 s') w GROUP BY channel, w.window_start, w.window_end",
		batch => "SELECT channel, $window_10, count(DISTINCT bidder) FROM %s GROUP BY channel, $begin_10"},
	{name => 'dense_having', topic => 'dense', label => 'tumble 10 s, dense, HAVING', sink => $by_key, query => tumble_of('auction', $having), batch => tumble_batch('auction', $having)},
	{name => 'hop_having', topic => 'dense', of => 'dense_having', label => 'hop 20 s by 2 s, dense, HAVING', sink => $by_key, query => hop_of('auction', 2, 20, $having), batch => hop_batch('auction', 2, 20, $having)},
	{name => 'few', topic => 'dense', label => 'tumble 10 s, 1,000 keys', sink => $by_key, query => tumble_of('mod(auction, 1000)'), batch => tumble_batch('mod(auction, 1000)')},
	{name => 'few_hop', topic => 'dense', of => 'few', label => 'hop 60 s by 1 s, 1,000 keys', sink => $by_key, query => hop_of('mod(auction, 1000)', 1, 60), batch => hop_batch('mod(auction, 1000)', 1, 60)},
	{name => 'one_task', topic => 'dense', label => 'tumble 10 s, dense, parallelism 1', sink => $by_key, query => tumble_of('auction'), batch => tumble_batch('auction'), parallelism => 1},
);
if ($ENV{BENCH_CASES}) {
	my %only = map { $_ => 1 } split ' ', $ENV{BENCH_CASES};
	@cases = grep { $only{$_->{name}} } @cases;
}

# number of rows, and a sum that hardly two sets of rows have in common
sub checksum {
	my ($rows) = @_;
	return sql("SET work_mem = '512MB'; SET hash_mem_multiplier = 2; SET jit = off; SELECT count(*), sum(hash_record_extended(r, 0)::numeric) FROM ($rows) r");
}

# what stat_checkpoint says of the last 32 epochs
sub last_epochs {
	my ($name) = @_;
	return sql("SELECT format('%s epochs; of the last %s: rows %s, out %s, state kB %s, align %s, cut %s, output %s, write %s, commit %s, all %s ms (means); reasons %s',
		max(epoch), count(*), avg(rows_in)::bigint, avg(rows_out)::bigint, (avg(state_bytes) / 1024)::bigint, avg(align_ms)::numeric(8,1), avg(cut_ms)::numeric(8,1), avg(output_ms)::numeric(8,1), avg(write_ms)::numeric(8,1),
		(avg(extract(epoch FROM commit_time)) * 1000)::numeric(8,1), (avg(extract(epoch FROM duration)) * 1000)::numeric(8,1), string_agg(DISTINCT reason, ', '))
		FROM streamproc.stat_checkpoint WHERE pipeline = '$name'");
}

sub keyed_speed {
	my %topic = map { $_->{topic} => 1 } @cases;
	for my $topic (sort keys %topic) {
		say_line(bid_topic($topic, count => $opt{events}, keys => 100_000, hot => 1000, disorder => 2000, 'event-rate' => $rate_of{$topic}));
		bid_table($topic, $topic, '2 s');
		# what the results are compared with
		sql("CREATE TABLE all_$topic (auction bigint, bidder bigint, price bigint, channel text, at timestamptz) WITH (autovacuum_enabled = off)",
			"SELECT streamproc.create_pipeline('all_$topic', 'INSERT INTO all_$topic SELECT auction, bidder, price, channel, at FROM $topic', stop => 'latest')",
			"SELECT streamproc.wait_until_stopped('all_$topic', '900 s')", "SELECT streamproc.drop_pipeline('all_$topic')");
		check("events of $topic", sql("SELECT count(*) FROM all_$topic"), $opt{events});
		for my $case (grep { $_->{topic} eq $topic } @cases) {
			$case->{expected} = checksum(sprintf $case->{batch}, "all_$topic");
		}
		sql("DROP TABLE all_$topic");
	}
	my (%result, %steps);
	for my $round (1 .. $opt{rounds}) {
		for my $topic (sort keys %topic) {
			for my $variant (qw(one partitions)) {
				push @{$result{"$topic $variant"}}, drain($variant, $topic);
				progress($round, "drain of $topic, $variant", $result{"$topic $variant"}[-1]);
			}
		}
		for my $case (@cases) {
			my $name = $case->{name};
			sql("CREATE TABLE sink_$name ($case->{sink})", 'CHECKPOINT');
			my $query = sprintf $case->{query}, $case->{topic};
			my $parallelism = $case->{parallelism} || $opt{parallelism} || 2;
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name $query\$\$, stop => 'latest', parallelism => $parallelism)",
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$name}}, $figures;
			progress($round, $case->{label}, $figures);
			$steps{$name} = last_epochs($name);
			check("$name, round $round", checksum("SELECT * FROM sink_$name"), $case->{expected});
			check("$name, round $round: late rows", sql("SELECT late_rows FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), 0);
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
		}
	}
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}) } keys %result;
	my %wall = map { my $name = $_; $name => median(map { $_->{wall} } @{$result{$name}}) } keys %result;
	my %limit = map { $_ => (sort { $a <=> $b } $cost{"$_ one"}, $cost{"$_ partitions"})[0] } keys %topic;
	printf "\nKeyed: %d events, 100,000 keys, half of the events on 1 %% of them, %d partitions, disorder 2 s, median of %d rounds\n", $opt{events}, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s %10s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB', 'rows out';
	for my $topic (sort keys %topic) {
		for my $variant (qw(one partitions)) {
			my $name = "$topic $variant";
			printf "%-36s %10.0f %9.3f %13s %7.2f%s\n", "drain of $topic, " . ($variant eq 'one' ? 'one queue' : 'partition queues'),
				$opt{events} / $wall{$name}, $cost{$name}, spread(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}),
				$limit{$topic} / $cost{$name}, $cost{$name} == $limit{$topic} ? '  the limit' : '';
		}
	}
	for my $case (@cases) {
		my $name = $case->{name};
		my $ratio = $limit{$case->{topic}} / $cost{$name};
		my $rss = (sort { $b <=> $a } map { $_->{rss} } @{$result{$name}})[0];
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d %10s\n", $case->{label}, $opt{events} / $wall{$name}, $cost{$name},
			spread(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}), $ratio, $case->{bar} // '-',
			$case->{bar} ? bar($case->{label}, $ratio, '>=', $case->{bar}) : '', $rss, (split /\|/, $case->{expected})[0];
	}
	for my $case (grep { $_->{of} && $cost{$_->{of}} } @cases) {
		my $more = $cost{$case->{name}} / $cost{$case->{of}};
		printf "%-36s %10s %9s %13s %7.2f %6s %-7s\n", '  CPU of ' . $case->{name} . ' / ' . $case->{of}, '', '', '', $more, 2, bar("$case->{label}, CPU of the tumbling one's", $more, '<=', 2);
	}
	if ($wall{one_task} && $wall{dense}) {
		my $gain = $wall{one_task} / $wall{dense};
		printf "%-36s %10s %9s %13s %7.2f %6s %-7s\n", '  wall time, 1 task / 2 tasks', '', '', '', $gain, 1.3, bar('parallelism 2 against 1, wall time', $gain, '>=', 1.3);
	}
	print "Epochs of the last round:\n";
	printf "  %-16s %s\n", $_->{name}, $steps{$_->{name}} for @cases;
	drop_topic($_) for sort keys %topic;
	return;
}

# ---------------------------------------------------------------- memory

# 1 M keys, one event each
sub million_topic {
	return if sql("SELECT count(*) FROM pg_class WHERE relname = 'million'");
	say_line(bid_topic('million', count => $million, keys => $million, cycle => undef, 'event-rate' => 200_000));
	bid_table('million', 'million', '0');
	bid_table('million_numeric', 'million', '0', price => 'numeric');
	return;
}

sub keyed_memory {
	million_topic();
	printf "\nMemory: 1 M keys, one pane; stat_operator.bytes / keys\n";
	printf "%-36s %10s %9s %6s %-7s %12s\n", '', 'bytes/key', 'keys', 'bar', '', 'aggregates';
	for my $case (['count, sum(bigint)', 80, 'million', 'count(*), sum(price)', 'n bigint, x numeric'],
		['avg(numeric)', 150, 'million_numeric', 'avg(price)', 'x numeric'],
		['count, sum, max', undef, 'million', 'count(*), sum(price), max(price)', 'n bigint, x numeric, y bigint']) {
		my ($label, $limit, $table, $aggregates, $sink) = @$case;
		sql("CREATE TABLE sink_memory (auction bigint, $sink)",
			"SELECT streamproc.create_pipeline('memory', \$\$INSERT INTO sink_memory SELECT auction, $aggregates FROM $table t, streamproc.tumble(t.at, '1 day') w
				GROUP BY auction, w.window_start, w.window_end\$\$, state_memory => '1GB')",
			"SELECT streamproc.wait_until_caught_up('memory', '300 s')");
		my ($bytes, $keys, $kinds);
		# the view is a second behind
		for (1 .. 50) {
			($bytes, $keys, $kinds) = split /\|/, sql("SELECT bytes, keys, aggregates FROM streamproc.stat_operator WHERE pipeline = 'memory'");
			last if $keys == $million;
			sleep 0.1;
		}
		check("memory: $label, keys", $keys, $million);
		my $each = $bytes / ($keys || 1);
		printf "%-36s %10.1f %9d %6s %-7s %s\n", $label, $each, $keys, $limit // '-', $limit ? bar("bytes of a key, $label", $each, '<=', $limit) : '', $kinds;
		sql("SELECT streamproc.stop_pipeline('memory')", "SELECT streamproc.wait_until_stopped('memory', '60 s')", "SELECT streamproc.drop_pipeline('memory')", 'DROP TABLE sink_memory');
	}
	return;
}

# ---------------------------------------------------------------- recovery

sub background_load {
	my ($topic, @options) = @_;
	my $pid = fork // fail("fork: $!");
	if ($pid == 0) {
		open STDOUT, '>', "$work/$topic.load";
		exec "$tree/test/kafka/load", '--brokers', $address, '--topic', $topic, '--payload', 'bid', '--spread', 'even', '--bytes', 200, '--linger', 5, @options
			or POSIX::_exit(1);
	}
	return $pid;
}

sub end_load {
	my ($pid) = @_;
	kill 'INT', $pid;
	waitpid $pid, 0;
	fail("load failed: $?") if $? != 0;
	return;
}

sub try_sql {
	my $out = '';
	open my $saved, '>&', \*STDERR or fail("stderr: $!");
	open STDERR, '>', '/dev/null';
	eval { $out = sql(@_); };
	open STDERR, '>&', $saved;
	return $out;
}

# the last time the server became ready, as epoch seconds
sub last_ready {
	my @lines = grep { /database system is ready to accept connections/ } do { open my $log, '<', "$work/postgres.log" or fail("log: $!"); <$log> };
	return unless @lines && $lines[-1] =~ /^(\S+ \S+ \S+) /;
	return ($1, scalar @lines);
}

sub read_postmaster {
	open my $pid, '<', "$work/data/postmaster.pid" or fail("no postmaster: $!");
	chomp($postmaster = <$pid>);
	return;
}

sub keyed_recovery {
	million_topic();
	printf "\nRecovery: 1 M keys in the state, 20,000 events/s while it is killed; from \"ready to accept connections\" to the first new commit\n";
	printf "%-36s %9s %13s %6s %-7s %s\n", '', 's', '(spread)', 'bar', '', 'state, segments';
	my $n = 0;
	for my $what ('kill -9 of a task', 'kill -9 of the postmaster') {
		my (@took, $sizes);
		for my $round (1 .. $opt{rounds}) {
			my $name = 'recover' . ++$n;
			sql("CREATE TABLE sink_$name (auction bigint, n bigint, total numeric)",
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name SELECT auction, count(*), sum(price) FROM million t, streamproc.tumble(t.at, '1 day', origin => '2025-12-31 12:00Z') w
					GROUP BY auction, w.window_start, w.window_end\$\$, state_memory => '1GB')",
				"SELECT streamproc.wait_until_caught_up('$name', '300 s')");
			my $load = background_load('million', '--count', 0, '--rate', 20000, '--keys', $million, '--seed', $n + 1, '--event-rate', 1e6);
			sleep 5;
			my (undef, $starts) = last_ready();
			$sizes = sql("SELECT format('%s MB, %s MB', state_bytes / 1024 / 1024, segment_bytes / 1024 / 1024) FROM streamproc.stat_pipeline WHERE pipeline = '$name'");
			if ($what =~ /task/) {
				my ($pid) = split /\n/, sql("SELECT pid FROM streamproc.stat_worker WHERE pipeline = '$name' AND role = 'task'");
				kill 'KILL', $pid or fail("kill $pid: $!");
			}
			else {
				kill 'KILL', $postmaster;
				# its children notice; it does not start before the last one is gone
				my $started = 0;
				for (1 .. 30) {
					sleep 1;
					last if $started = system("$bin/pg_ctl -D $work/data -l $work/postgres.log -w -s -t 120 start 2>/dev/null >/dev/null") == 0;
				}
				fail("the server does not start again, see $work/postgres.log") unless $started;
				read_postmaster();
			}
			my ($ready, $count, $took);
			for (1 .. 1200) {
				sleep 0.1;
				($ready, $count) = last_ready();
				next if $count == $starts;
				$took = try_sql("SELECT extract(epoch FROM min(at) - '$ready'::timestamptz) FROM streamproc.stat_checkpoint WHERE pipeline = '$name' AND at > '$ready'::timestamptz AND rows_in > 0");
				last if $took ne '';
			}
			fail("$name did not go on after $what") unless $took ne '';
			push @took, $took;
			end_load($load);
			# nothing lost, nothing doubled
			sql("SELECT streamproc.alter_pipeline('$name', stop => 'latest')", "SELECT streamproc.wait_until_stopped('$name', '300 s')");
			check("$what, round $round: events in the results",
				sql("SELECT sum(n) = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name') AND count(*) = $million FROM sink_$name"), 't');
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
		}
		printf "%-36s %9.2f %13s %6s %-7s %s\n", $what, median(@took), spread(@took), 3, bar("recovery after $what, s", median(@took), '<=', 3), $sizes;
	}
	return;
}

# ---------------------------------------------------------------- checkpoints

sub set_min_commit_interval {
	my ($value) = @_;
	sql("ALTER SYSTEM SET streamproc.min_commit_interval = '$value'", 'SELECT pg_reload_conf()');
	return;
}

# Looks at stat_checkpoint while the load runs: a hash of epochs, all those after $from.
sub watch_checkpoints {
	my ($name, $from, $until, $seen) = @_;
	while (1) {
		for (split /\n/, sql("SELECT epoch, align_ms + cut_ms, cut_ms, state_bytes, rows_in, extract(epoch FROM commit_time) * 1000, (SELECT segment_bytes FROM streamproc.stat_pipeline p WHERE p.pipeline = c.pipeline)
			FROM streamproc.stat_checkpoint c WHERE pipeline = '$name' AND epoch > $from")) {
			my ($epoch, $stop, $cut, $bytes, $rows, $commit, $segments) = split /\|/;
			$seen->{$epoch} ||= {stop => $stop, cut => $cut, bytes => $bytes, rows => $rows, commit => $commit, segments => $segments};
		}
		last if $until->();
		sleep 0.7;
	}
	return;
}

sub percentile {
	my ($share, @values) = @_;
	my @sorted = sort { $a <=> $b } @values;
	return $sorted[POSIX::ceil($share * @sorted) - 1];
}

sub sum { my $sum = 0; $sum += $_ for @_; return $sum; }

# Totals of 1 M keys that nothing is given out of: their window is long, and HAVING throws them away.
sub totals_pipeline {
	my ($name, $interval) = @_;
	sql("CREATE TABLE sink_$name (auction bigint, n bigint, total numeric)",
		"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name SELECT auction, count(*), sum(price) FROM totals t, streamproc.tumble(t.at, '1 day', origin => '2025-12-31 12:00Z') w
			GROUP BY auction, w.window_start, w.window_end HAVING count(*) < 0\$\$, checkpoint_interval => '$interval', parallelism => 2, state_memory => '1GB')",
		"SELECT streamproc.wait_until_caught_up('$name', '300 s')");
	return;
}

sub end_pipeline {
	my ($name) = @_;
	sql("SELECT streamproc.stop_pipeline('$name')", "SELECT streamproc.wait_until_stopped('$name', '60 s')", "SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name");
	return;
}

sub taken { my ($name) = @_; return sql("SELECT sum(next_offset) FROM streamproc.stat_partition WHERE pipeline = '$name'"); }
sub last_epoch { my ($name) = @_; return sql("SELECT epoch FROM streamproc.stat_pipeline WHERE pipeline = '$name'"); }

sub keyed_checkpoints {
	my $rate = $opt{checkpoint_rate};
	say_line("\n", bid_topic('totals', count => $million, keys => $million, cycle => undef));
	bid_table('totals', 'totals', '0');
	my %run;
	# least time between commits, checkpoint_interval; seconds: of load, of which the first 3 do not count
	my @runs = (['default', '2ms', '1 s', $opt{checkpoint_seconds}], ['1 s', '1s', '1 s', $opt{checkpoint_seconds}], ['60 s', '10s', '60 s', 2 * $opt{checkpoint_seconds}]);
	my $state;
	for my $run (@runs) {
		my ($label, $least, $interval, $seconds) = @$run;
		set_min_commit_interval('2ms');
		totals_pipeline('totals', $interval);
		# each key was written once, in one epoch
		$state //= sql("SELECT segment_bytes FROM streamproc.stat_pipeline WHERE pipeline = 'totals'");
		set_min_commit_interval($least);
		my $load = background_load('totals', '--count', 0, '--rate', $rate, '--keys', $million, '--seed', 2, '--event-rate', 1e9);
		sleep 3;
		my %seen;
		my ($from, $wal, $cpu, $rows, $begin) = (last_epoch('totals'), sql('SELECT pg_current_wal_insert_lsn()'), server_cpu(), taken('totals'), time);
		my $epoch = 0;
		watch_checkpoints('totals', $from, sub {
			# up to a commit, so that what was taken is committed as well
			return time - $begin > $seconds && ($label ne '60 s' || last_epoch('totals') > ($epoch ||= last_epoch('totals'))); }, \%seen);
		my $figures = $run{$label} = {wall => time - $begin, cpu => server_cpu() - $cpu, rows => taken('totals') - $rows,
			wal => sql("SELECT pg_current_wal_insert_lsn() - '$wal'"), epochs => scalar keys %seen};
		$figures->{stop} = [map { $_->{stop} } values %seen];
		$figures->{cut} = [map { $_->{cut} } values %seen];
		$figures->{bytes} = sum(map { $_->{bytes} } values %seen);
		$figures->{segments} = (sort { $b <=> $a } map { $_->{segments} } values %seen)[0];
		# distinct keys among so many events that take them at random
		$figures->{changed} = sum(map { $million * (1 - exp(-$_->{rows} / $million)) } values %seen);
		end_load($load);
		if ($label eq 'default') {
			# nothing lost under all that
			sql("SELECT streamproc.wait_until_caught_up('totals', '60 s')");
		}
		end_pipeline('totals');
	}
	printf "\nCheckpoints: count and sum of 1 M keys, all changing, no output, parallelism 2, %d events/s; state %.1f MB saved\n", $rate, $state / 1e6;
	printf "%-36s %9s %9s %6s %-7s %9s %9s %7s %9s %10s %12s %9s\n", 'checkpoint_interval; ms', 'stop p50', 'stop p99', 'bar', '', 'cut p99', 'events/s', 'epochs', 'CPU us', 'WAL MB/s', 'B/changed', 'segments';
	for my $run (@runs) {
		my $r = $run{$run->[0]};
		my $p99 = percentile(0.99, @{$r->{stop}});
		my $bar = $run->[0] ne '60 s';
		printf "%-36s %9.1f %9.1f %6s %-7s %9.1f %9.0f %7d %9.3f %10.1f %12.1f %9.2f\n", $run->[0] eq 'default' ? '1 s (a commit where caught up)' : $run->[0] eq '1 s' ? '1 s, min_commit_interval 1 s' : '60 s, min_commit_interval 10 s',
			median(@{$r->{stop}}), $p99, $bar ? 50 : '-', $bar ? bar("stop p99 ($run->[0]), ms", $p99, '<=', 50) : '', percentile(0.99, @{$r->{cut}}), $r->{rows} / $r->{wall}, $r->{epochs}, $r->{cpu} / $r->{rows} * 1e6,
			$r->{wal} / $r->{wall} / 1e6, $r->{bytes} / $r->{changed}, $r->{segments} / $state;
	}
	my $more = ($run{'1 s'}{cpu} / $run{'1 s'}{rows}) / ($run{'60 s'}{cpu} / $run{'60 s'}{rows});
	printf "%-36s %9s %9.2f %6s %-7s\n", '  CPU of 1 s / 60 s', '', $more, 1.4, bar('CPU of an event, checkpoints each second against each minute', $more, '<=', 1.4);
	my $entry = $state / $million;
	my $wal = $run{'1 s'}{wal} / ($run{'1 s'}{changed} * $entry);
	printf "%-36s %9s %9.2f %6s %-7s (%.1f bytes an entry)\n", '  WAL / bytes of the changed entries', '', $wal, '1.40', bar('WAL against the bytes of changed entries', $wal, '<=', 1.4), $entry;

	# 1 % of the keys changes in each
	set_min_commit_interval('2ms');
	totals_pipeline('totals', '1 s');
	set_min_commit_interval('250ms');
	my $from = last_epoch('totals');
	my %seen;
	my $load = background_load('totals', '--count', 0, '--rate', 50_000, '--keys', $million / 100, '--cycle', '--event-rate', 1e9);
	my $deadline = time + 120;
	watch_checkpoints('totals', $from, sub { return keys %seen >= 102 || time > $deadline }, \%seen);
	end_load($load);
	end_pipeline('totals');
	set_min_commit_interval('2ms');
	my @all = map { $seen{$_} } sort { $a <=> $b } keys %seen;
	shift @all;
	my $changed = sum(map { $_->{rows} < $million / 100 ? $_->{rows} : $million / 100 } @all) / @all;
	my $bytes = sum(map { $_->{bytes} } @all) / @all;
	my $share = $bytes / $state * 100;
	# as if each had changed just 1 %
	my $each = $share * $million / 100 / $changed;
	my $log = (sort { $b <=> $a } map { $_->{segments} } @all)[0] / $state;
	printf "1 %% of the keys changes: %d checkpoints, %.0f keys changed in each (mean)\n", scalar @all, $changed;
	printf "%-36s %9s %9.2f %6s %-7s\n", '  bytes of a checkpoint, % of state', '', $each, 2, bar('bytes of a checkpoint, % of the state', $each, '<=', 2);
	printf "%-36s %9s %9.2f %6s %-7s\n", '  largest sum of segments / state', '', $log, 2.2, bar('sum of segments against the state', $log, '<=', 2.2);
	drop_topic('totals');
	return;
}

# ---------------------------------------------------------------- soak

# Two pipelines for a long time on an endless topic that keeps its last gigabyte: does anything grow?
sub soak {
	my ($seconds, $rate) = ($opt{soak_seconds}, $opt{soak_rate});
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'soak', $partitions, 'retention.bytes=1073741824', 'segment.bytes=67108864');
	bid_table('soak', 'soak', '2 s');
	my $load = background_load('soak', '--count', 0, '--rate', $rate, '--keys', 100_000, '--hot', 1000, '--disorder', 2000, '--at-now');
	sql("CREATE TABLE sink_soak ($by_key)", 'CREATE TABLE sink_soak_totals (auction bigint PRIMARY KEY, n bigint, total numeric)');
	my $query = sprintf tumble_of('auction'), 'soak';
	sql("SELECT streamproc.create_pipeline('soak', \$\$INSERT INTO sink_soak $query\$\$)",
		"SELECT streamproc.create_pipeline('soak_totals', \$\$INSERT INTO sink_soak_totals SELECT auction, count(*), sum(price) FROM soak GROUP BY auction
			ON CONFLICT (auction) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total\$\$, emit => 'every 1 min')");
	# from then on they run all the time
	for my $name (qw(soak soak_totals)) {
		my $until = time + 60;
		while (sql("SELECT state FROM streamproc.stat_pipeline WHERE pipeline = '$name'") ne 'running') { fail("soak: $name does not start") if time > $until; sleep 0.1; }
	}
	my @what = ('RssAnon of tasks and launchers, MB', 'state in shared memory, MB', 'state_segment with toast, MB', 'task_position, MB', 'segments, MB', 'age of the oldest xmin', 'lag, events');
	my @tables = qw(state_segment task_position);
	my (@samples, @vacuumed);
	# what vacuum leaves; in between the tables are autovacuum's, and breathe
	my $vacuum = sub {
		sql(map { "VACUUM streamproc.$_" } @tables);
		push @vacuumed, [ map { sql("SELECT pg_total_relation_size('streamproc.$_') / 1e6") } @tables ];
	};
	my $begin = time;
	printf "\nSoak: %d s, %d events/s, a windowed pipeline and one of running totals\n", $seconds, $rate;
	printf "%8s", 's';
	printf "  %s", $_ for @what;
	print "\n";
	my $look = sub {
		my $rss = sum(map { rss_anon($_) } split /\n/, sql("SELECT pid FROM streamproc.stat_worker WHERE pipeline LIKE 'soak%' AND pid IS NOT NULL"));
		my ($bad) = sql("SELECT string_agg(pipeline || ' ' || state || coalesce(': ' || reason, ''), '; ') FROM streamproc.stat_pipeline WHERE state <> 'running' OR restarts > 0");
		fail("soak: $bad") if $bad ne '';
		return ($rss / 1024, split /\|/, sql("SELECT sum(state_bytes) / 1e6, pg_total_relation_size('streamproc.state_segment') / 1e6, pg_total_relation_size('streamproc.task_position') / 1e6, sum(segment_bytes) / 1e6,
			(SELECT coalesce(max(age(backend_xmin)), 0) FROM pg_stat_activity WHERE pid <> pg_backend_pid()), sum(lag_rows) FROM streamproc.stat_pipeline"));
	};
	while (time - $begin < $seconds) {
		# State grows and falls with each window of 10 s.  One look in about 10 s would see another part of that each time, and
		# the drift as growth; so a sample is the largest of what is seen throughout a window; of xmin the youngest, as it is old
		# while an autovacuum runs, and shall not stay so.
		my ($until, @row) = (time + 10);
		while (time < $until) {
			my @now = $look->();
			@row = @row ? map { ($row[$_] > $now[$_]) == ($what[$_] !~ /xmin/) ? $row[$_] : $now[$_] } 0 .. $#now : @now;
			sleep 0.5;
		}
		push @samples, \@row;
		printf "%8d" . ('  %.1f' x @row) . "\n", time - $begin, @row if @samples % 6 == 0;
		$vacuum->() if !@vacuumed && time - $begin >= $seconds / 2;
	}
	$vacuum->();
	end_load($load);
	# largest of the second quarter against the largest of the last: what is periodic is in both
	my $quarter = @samples / 4;
	printf "%-36s %12s %12s %7s %6s\n", '', '2nd quarter', 'last', 'growth', 'bar';
	for my $i (0 .. $#what) {
		my ($early, $late) = map { my $q = $_; (sort { $b <=> $a } map { $samples[$_][$i] } int($q * $quarter) .. int(($q + 1) * $quarter) - 1)[0] } 1, 3;
		if ($what[$i] =~ /lag|state_segment|task_position/) { printf "%-36s %12.1f %12.1f\n", $what[$i], $early, $late; next; }
		# 1 MB or 1000 transactions more are nothing
		my $growth = $late / ($early || 1);
		$growth = 1 if $late - $early <= ($what[$i] =~ /xmin/ ? 1000 : 1);
		printf "%-36s %12.1f %12.1f %7.2f %6s %s\n", $what[$i], $early, $late, $growth, 1.1, bar("soak: $what[$i], growth", $growth, '<=', 1.1);
	}
	printf "%-36s %12s %12s\n", '', 'half time', 'end';
	for my $i (0 .. $#tables) {
		my ($early, $late) = map { $_->[$i] } @vacuumed;
		my $growth = $late - $early <= 1 ? 1 : $late / $early;
		printf "%-36s %12.1f %12.1f %7.2f %6s %s\n", "$tables[$i] after VACUUM, MB", $early, $late, $growth, 1.1, bar("soak: $tables[$i] after VACUUM, growth", $growth, '<=', 1.1);
	}
	for my $name (qw(soak soak_totals)) { sql("SELECT streamproc.stop_pipeline('$name')", "SELECT streamproc.wait_until_stopped('$name', '60 s')"); }
	for my $name (qw(soak soak_totals)) { sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name"); }
	drop_topic('soak');
	return;
}

# ---------------------------------------------------------------- all of it

sub keyed {
	keyed_speed() if $wanted{speed};
	keyed_memory() if $wanted{memory};
	keyed_recovery() if $wanted{recovery};
	keyed_checkpoints() if $wanted{checkpoints};
	drop_topic('million', 'million', 'million_numeric') if sql("SELECT count(*) FROM pg_class WHERE relname = 'million'");
	return;
}

1;

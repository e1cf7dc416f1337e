#!/usr/bin/perl
# The measuring part of the benchmark; started by run.sh, as an unprivileged user, in a work directory of its own.
# README.md says what each figure is.
use strict;
use warnings;
use POSIX qw(:sys_wait_h setpgid);
use Time::HiRes qw(time sleep);
use IO::Socket::INET;

$| = 1;
$ENV{PGOPTIONS} = '-c client_min_messages=warning';
# "our": the other parts use them, too
our $work = $ENV{BENCH_WORK} or die "start bench/run.sh\n";
our $bin = $ENV{BENCH_BINDIR};
our $tree = "$work/tree";
our %opt = (
	events => $ENV{BENCH_EVENTS} || 10_000_000,
	rounds => $ENV{BENCH_ROUNDS} || 3,
	parallelism => $ENV{BENCH_PARALLELISM} || '',
	seconds => $ENV{BENCH_LATENCY_SECONDS} || 20,
	warmup => $ENV{BENCH_LATENCY_WARMUP} // 5,
	rates => [split ' ', $ENV{BENCH_LATENCY_RATES} || '5000 20000'], linger => $ENV{BENCH_LATENCY_LINGER} // 1,
	broker => $ENV{BENCH_LATENCY_BROKER} // 60,
	upserts => $ENV{BENCH_UPSERT_EVENTS} || 100_000,
	errors => $ENV{BENCH_ERROR_EVENTS} || 1_000_000,
	checkpoint_rate => $ENV{BENCH_CHECKPOINT_RATE} || 300_000,
	checkpoint_seconds => $ENV{BENCH_CHECKPOINT_SECONDS} || 30,
	soak_seconds => $ENV{BENCH_SOAK_SECONDS} || 1200,
	soak_rate => $ENV{BENCH_SOAK_RATE} || 100_000,
	locale => $ENV{BENCH_LOCALE} || 'C.UTF-8',
	conf => $ENV{BENCH_CONF} || '',
);
our %part = map { $_ => 1 } (@ARGV ? @ARGV : qw(speed keyed over session join asof dedup topics latency fraud upsert errors));
our $partitions = 4;
my $cards = 100_000;
my $clock_tick = POSIX::sysconf(&POSIX::_SC_CLK_TCK);
our ($postmaster, $broker, $address);
# called while something is measured; the port of the server, by TCP only for peers
our ($sampler, $port) = (undef, 5432);
my ($limit, @bars, @wrong);

sub say_line { printf "%s\n", join '', @_; }
sub fail { die "bench: @_\n"; }

sub run {
	my @command = @_;
	open my $out, '-|', @command or fail("cannot run $command[0]: $!");
	local $/;
	my $text = <$out>;
	close $out or fail("@command: exit code " . ($? >> 8));
	$text //= '';
	$text =~ s/\n\z//;
	return $text;
}

sub median {
	my @sorted = sort { $a <=> $b } @_;
	my $n = @sorted;
	return $n % 2 ? $sorted[$n / 2] : ($sorted[$n / 2 - 1] + $sorted[$n / 2]) / 2;
}

sub spread {
	my @sorted = sort { $a <=> $b } @_;
	return sprintf '%.3g-%.3g', $sorted[0], $sorted[-1];
}

sub bar {
	my ($name, $value, $relation, $limit) = @_;
	my $met = $relation eq '>=' ? $value >= $limit : $value <= $limit;
	push @bars, [$name, $value, $relation, $limit, $met];
	return $met ? 'met' : 'MISSED';
}

sub check {
	my ($name, $got, $wanted) = @_;
	return if $got eq $wanted;
	push @wrong, "$name: $got, expected $wanted";
	print "WRONG: $wrong[-1]\n";
}

# ---------------------------------------------------------------- servers

$port = free_port() if $part{peers};
our @psql = ("$bin/psql", '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', "$work/sock", '-p', $port, '-U', 'bench', '-d', 'bench');
our $conninfo = "host=$work/sock port=$port user=bench dbname=bench application_name=bench_latency";

sub free_port {
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 1) or fail("no free port: $!");
	return $socket->sockport;
}

# one call, each text a transaction of its own
sub sql { return run(@psql, map { ('-c', $_) } @_); }

sub start_postgres {
	mkdir "$work/sock";
	run("$bin/initdb", '-D', "$work/data", '-U', 'bench', '-A', 'trust', '--encoding=UTF8', "--locale=$opt{locale}",
		'--no-sync', '--no-instructions');
	my %conf = (
		shared_preload_libraries => "'streamproc'",
		max_worker_processes => 64,
		# beside the peers PostgreSQL's default: what is touched of it counts as memory
		shared_buffers => $part{peers} ? "'128MB'" : "'1GB'",
		max_wal_size => "'8GB'",
		min_wal_size => "'2GB'",
		checkpoint_timeout => "'30min'",
	);
	open my $file, '>>', "$work/data/postgresql.conf" or fail("postgresql.conf: $!");
	print $file "$_ = $conf{$_}\n" for sort keys %conf;
	print $file "listen_addresses = '", $part{peers} ? '127.0.0.1' : '', "'\nunix_socket_directories = '$work/sock'\nport = $port\n",
		"log_line_prefix = '%m [%p] %b %e '\nlog_checkpoints = off\n";
	print $file "$_\n" for split /;/, $opt{conf};
	close $file;
	run("$bin/pg_ctl", '-D', "$work/data", '-l', "$work/postgres.log", '-w', '-s', 'start');
	open my $pid, '<', "$work/data/postmaster.pid" or fail("no postmaster: $!");
	chomp($postmaster = <$pid>);
	run("$bin/createdb", '-h', "$work/sock", '-p', $port, '-U', 'bench', 'bench');
	say_line("PostgreSQL: ", join(', ', map { "$_ = $conf{$_}" } sort keys %conf), ", locale $opt{locale}",
		$opt{conf} ne '' ? ", $opt{conf}" : '', '; ', sql('SELECT version()'));
	say_line('  ', sql("SELECT string_agg(name || ' = ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings
		WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_compression', 'autovacuum', 'jit')
		OR name ~ '^streamproc\\.(default_parallelism|min_commit_interval|queue_size)\$'"));
	# one that has run for a while writes over old segments of WAL; a new one fills each with zeros and waits until they are
	# on the disk, in the middle of somebody's commit: 20 to 50 ms every third second are a p99
	sql((map { ("SELECT pg_logical_emit_message(false, 'bench', '')", 'SELECT pg_switch_wal()') } 1 .. 120), 'CHECKPOINT');
	sql('CREATE EXTENSION streamproc',
		"CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address')");
}

sub load {
	my ($topic, @options) = @_;
	return run("$tree/test/kafka/load", '--brokers', $address, '--topic', $topic, @options);
}

# ---------------------------------------------------------------- CPU and memory

# user + system time of a process and of its children that ended, in ticks, and its parent
sub stat_of {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return;
	my $line = <$file> // return;
	close $file;
	$line =~ s/^.*\)\s+// or return;	# the name may hold anything
	my @field = split ' ', $line;	# from field 3 (state) on
	return {parent => $field[1], own => $field[11] + $field[12], ended => $field[13] + $field[14]};
}

# All that the server has used so far: the postmaster, its children that ended and were waited for (part of its
# "ended"), and its children that live.  A child that ends in between would be counted twice or not at all, so the
# whole is read again if the postmaster's "ended" changed meanwhile.
sub server_cpu {
	for (1 .. 1000) {
		my $before = stat_of($postmaster) or fail('the postmaster is gone');
		my $sum = $before->{ended};
		opendir my $proc, '/proc' or fail("/proc: $!");
		for my $pid (grep { /^\d+$/ && $_ != $postmaster } readdir $proc) {
			my $stat = stat_of($pid) or next;
			$sum += $stat->{own} + $stat->{ended} if $stat->{parent} == $postmaster;
		}
		closedir $proc;
		my $after = stat_of($postmaster) or fail('the postmaster is gone');
		return ($sum + $after->{own}) / $clock_tick if $after->{ended} == $before->{ended};
	}
	fail('the processes of the server never stand still');
}

sub rss_anon {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/status" or return 0;
	while (<$file>) { return $1 if /^RssAnon:\s+(\d+) kB/; }
	return 0;
}

# Runs SQL (as sql()) in the background and samples the memory of the tasks of a pipeline; returns wall seconds,
# CPU seconds of the server, and the largest RssAnon of a task in kB.
sub measure {
	my ($pipeline, @sql) = @_;
	my ($peak, $next_look, %tasks) = (0, 0);
	my $cpu = server_cpu();
	my $begin = time;
	my $pid = fork // fail("fork: $!");
	if ($pid == 0) {
		open STDOUT, '>', '/dev/null';
		exec @psql, map { ('-c', $_) } @sql or POSIX::_exit(1);
	}
	while (waitpid($pid, WNOHANG) == 0) {
		my $now = time - $begin;
		if ($now > $next_look) {
			# the view is asked seldom, as asking is counted as CPU of the server
			$next_look = $now + (%tasks ? 5 : 0.2);
			my $pids = sql("SELECT pid FROM streamproc.stat_worker WHERE pipeline = '$pipeline' AND role = 'task'");
			$tasks{$_} = 1 for grep { /^\d+$/ } split /\n/, $pids;
		}
		for (keys %tasks) {
			my $rss = rss_anon($_);
			$peak = $rss if $rss > $peak;
		}
		$sampler->() if $sampler;
		sleep 0.02;
	}
	my ($status, $wall) = ($?, time - $begin);
	$cpu = server_cpu() - $cpu;
	if ($status != 0) {
		print STDERR sql("SELECT * FROM streamproc.stat_pipeline WHERE pipeline = '$pipeline'"), "\n";
		print STDERR run('tail', '-n', '20', "$work/postgres.log"), "\n";
		fail("pipeline $pipeline did not end well");
	}
	return {wall => $wall, cpu => $cpu, rss => $peak};
}

# ---------------------------------------------------------------- speed

# The rows that are kept stand for about 1 % in all but "table".  A WHERE on a column of the right table that is not
# true for NULL makes an inner join of the left join, and the planner uses it before the join; with coalesce() the join
# has to be made for each row first: shown for information, the issue's bars are for the plain form.
my @pipelines = (
	{name => 'table', bar => 0.17, label => 'every row into a table', sink => 'tx_id uuid, card text, amount numeric, at timestamptz',
		query => 'SELECT t.tx_id, t.card, t.amount, t.at FROM %s t'},
	{name => 'filter', bar => 0.42, label => 'filter, 1 % kept', sink => 'tx_id uuid, card text, amount numeric, at timestamptz',
		query => 'SELECT t.tx_id, t.card, t.amount, t.at FROM %s t WHERE t.amount > 1000'},
	{name => 'join10k', bar => 0.25, label => 'left join 10,000, 1 % kept', sink => 'tx_id uuid, card text, owner text, amount numeric',
		query => 'SELECT t.tx_id, t.card, c.owner, t.amount FROM %s t LEFT JOIN card_10k c ON c.card = t.card WHERE c.risk = 7'},
	{name => 'join100k', bar => 0.17, label => 'left join 100,000, 1 % kept', sink => 'tx_id uuid, card text, owner text, amount numeric',
		query => 'SELECT t.tx_id, t.card, c.owner, t.amount FROM %s t LEFT JOIN card_100k c ON c.card = t.card WHERE c.risk = 7'},
	{name => 'join10k_all', label => 'same, 10,000, filtered after it', sink => 'tx_id uuid, card text, owner text, amount numeric',
		query => 'SELECT t.tx_id, t.card, c.owner, t.amount FROM %s t LEFT JOIN card_10k c ON c.card = t.card WHERE coalesce(c.risk, 0) = 7'},
	{name => 'join100k_all', label => 'same, 100,000, filtered after it', sink => 'tx_id uuid, card text, owner text, amount numeric',
		query => 'SELECT t.tx_id, t.card, c.owner, t.amount FROM %s t LEFT JOIN card_100k c ON c.card = t.card WHERE coalesce(c.risk, 0) = 7'},
);

sub drain {
	my ($variant, $topic) = @_;
	my $line = run("$work/drain", $address, $topic, $variant);
	my %figure = $line =~ /(\w+) ([\d.]+)/g;
	fail("drain: $line") unless $line =~ /^$variant events $opt{events} /;
	return {wall => $1, cpu => $2} if $line =~ /wall_s ([\d.]+) cpu_s ([\d.]+)/;
	fail("drain: $line");
}

sub speed {
	if ($ENV{BENCH_CASES}) {
		# "table" is what the others are compared with
		my %only = map { $_ => 1 } 'table', split ' ', $ENV{BENCH_CASES};
		@pipelines = grep { $only{ $_->{name} } } @pipelines;
	}
	say_line("\n", load('tx', '--count', $opt{events}, '--payload', 'tx', '--keys', $cards, '--spread', 'even', '--bytes', 200));
	sql("CREATE FOREIGN TABLE tx (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz,
			p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
			SERVER kafka OPTIONS (topic 'tx', format 'json', event_time 'at')");
	# 10,000: each tenth card is known, a tenth of those has the risk; 100,000: all are known, a hundredth has it
	for my $table (['card_10k', 10, 100], ['card_100k', 1, 100]) {
		my ($name, $step, $risks) = @$table;
		sql("CREATE TABLE $name (card text PRIMARY KEY, owner text, risk int)",
			"INSERT INTO $name SELECT 'card-' || lpad(i::text, 6, '0'), 'owner ' || i, (i / $step) % ($risks / $step)
				FROM generate_series(0, @{[$cards - 1]}, $step) i ORDER BY hashint4(i)",
			"VACUUM ANALYZE $name");
	}
	my %result;
	my $options = $opt{parallelism} ne '' ? ", parallelism => $opt{parallelism}" : '';
	for my $round (1 .. $opt{rounds}) {
		for my $variant (qw(one partitions)) {
			push @{$result{$variant}}, drain($variant, 'tx');
			progress($round, "drain, $variant", $result{$variant}[-1]);
		}
		for my $pipeline (@pipelines) {
			my $name = $pipeline->{name};
			sql("CREATE TABLE sink_$name ($pipeline->{sink})", 'CHECKPOINT');
			my $query = sprintf $pipeline->{query}, 'tx';
			my $figures = measure($name,
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name $query\$\$, stop => 'latest'$options)",
				"SELECT streamproc.wait_until_stopped('$name', '900 s')");
			push @{$result{$name}}, $figures;
			progress($round, $pipeline->{label}, $figures);
			# the rows of the first "table" are what the others are compared with
			my $rows = sql("SELECT count(*), sum(amount) FROM sink_$name");
			if ($name eq 'table') {
				check("$name, round $round", (split /\|/, $rows)[0], $opt{events});
				sql('ALTER TABLE sink_table RENAME TO all_tx') if $round == 1;
			}
			else {
				$pipeline->{expected} //= sql('SELECT count(*), sum(amount) FROM ('
						. sprintf($pipeline->{query}, 'all_tx') . ') s');
				check("$name, round $round", $rows, $pipeline->{expected});
			}
			sql("SELECT streamproc.drop_pipeline('$name')", "DROP TABLE IF EXISTS sink_$name");
		}
		if ($round == 1) { sql('DROP TABLE all_tx'); }
	}
	my %cost = map { my $name = $_; $name => median(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}) } keys %result;
	$limit = $cost{one} < $cost{partitions} ? $cost{one} : $cost{partitions};
	# kB
	my $queue = sql("SELECT setting FROM pg_settings WHERE name = 'streamproc.queue_size'");
	printf "\nSpeed: %d events, %d partitions, median of %d rounds\n", $opt{events}, $partitions, $opt{rounds};
	printf "%-36s %10s %9s %13s %7s %6s %-7s %12s\n", '', 'events/s', 'CPU us', '(spread)', 'ratio', 'bar', '', 'RssAnon kB';
	for my $variant (qw(one partitions)) {
		printf "%-36s %10.0f %9.3f %13s %7.2f%s\n", $variant eq 'one' ? 'drain, one queue of 2048 kB' : 'drain, partition queues of 512 kB',
			$opt{events} / median(map { $_->{wall} } @{$result{$variant}}), $cost{$variant},
			spread(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$variant}}), $limit / $cost{$variant},
			$cost{$variant} == $limit ? '  the limit' : '';
	}
	for my $pipeline (@pipelines) {
		my $name = $pipeline->{name};
		my $ratio = $limit / $cost{$name};
		my $rss = (sort { $b <=> $a } map { $_->{rss} } @{$result{$name}})[0];
		printf "%-36s %10.0f %9.3f %13s %7.2f %6s %-7s %12d\n", $pipeline->{label},
			$opt{events} / median(map { $_->{wall} } @{$result{$name}}), $cost{$name},
			spread(map { $_->{cpu} / $opt{events} * 1e6 } @{$result{$name}}), $ratio, $pipeline->{bar} // '-',
			$pipeline->{bar} ? bar($pipeline->{label}, $ratio, '>=', $pipeline->{bar}) : '', $rss;
		fail("no task of $name was seen for long enough to measure its memory") if $rss == 0 && $opt{events} >= 1_000_000;
		bar("memory of a task, $name, kB", $rss, '<=', $queue + 50 * 1024);
	}
	printf "RssAnon: largest of a task while the topic waits; the bar is streamproc.queue_size + 50 MB = %d kB\n", $queue + 50 * 1024;
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, 'tx');
	return;
}

sub progress {
	my ($round, $label, $figures) = @_;
	printf "  round %d  %-34s %6.1f s %7.2f CPU s\n", $round, $label, $figures->{wall}, $figures->{cpu};
	return;
}

# ---------------------------------------------------------------- latency

sub fdatasync_us {
	my $text = run("$bin/pg_test_fsync", '-s', '2', '-f', "$work/data/bench_fsync");
	return $1 if $text =~ /one 8kB write:.*?^\s+fdatasync\s+[\d.]+ ops\/sec\s+(\d+) usecs/ms;
	fail("pg_test_fsync says nothing of fdatasync:\n$text");
}

# Load in the background.  1 ms of linger is part of what is measured: without it each message is a request of its own, and
# the broker, which shares the machine with what is measured, is busy with them.
sub latency_load {
	my ($topic, $rate, $seconds, @options) = @_;
	my $pid = fork // fail("fork: $!");
	if ($pid == 0) {
		open STDOUT, '>', "$work/$topic.load";
		exec "$tree/test/kafka/load", '--brokers', $address, '--topic', $topic, '--count', $rate * $seconds, '--rate', $rate,
			'--payload', 'tx', '--spread', 'even', '--bytes', 200, '--at-now', '--linger', $opt{linger}, @options or POSIX::_exit(1);
	}
	return $pid;
}

# What producer, broker and librdkafka take of it: a consumer that does nothing else.
sub arrival {
	my ($topic, $rate, $seconds, @options) = @_;
	run("$tree/test/kafka/broker.sh", 'topic', $broker, $topic, $partitions);
	my $pid = latency_load($topic, $rate, $seconds + 7, @options);
	my $line = run("$work/arrival", $address, $topic, $seconds);
	waitpid $pid, 0;
	fail("load at $rate events/s failed") if $? != 0;
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $topic);
	my %figure = $line =~ /(\w+) ([\d.]+)/g;
	return \%figure;
}

sub latency {
	my $sync = fdatasync_us();
	my $more = $sync <= 1000 ? 0 : 2 * $sync / 1000;
	printf "\nLatency: from message timestamp to visible row, %d s after %d s of warm-up, median of %d runs; fdatasync %d us (pg_test_fsync)\n",
		$opt{seconds}, $opt{warmup}, $opt{rounds}, $sync;
	printf "%-36s %9s %13s %6s %-7s %9s %13s %6s %-7s %9s\n", '', 'p50 ms', '(spread)', 'bar', '', 'p99 ms', '(spread)', 'bar', '', 'max ms';
	my (%result, %alone);
	my $n = 0;
	arrival('warm', 10000, $opt{broker}) if $opt{broker} > 0;
	sql('CHECKPOINT');
	for my $round (1 .. $opt{rounds}) {
		for my $rate (@{$opt{rates}}) {
			my $name = 'latency' . ++$n;
			push @{$alone{$rate}}, arrival("arrival$n", $rate, 10);
			my $count = $rate * ($opt{warmup} + $opt{seconds});
			run("$tree/test/kafka/broker.sh", 'topic', $broker, $name, $partitions);
			sql("CREATE FOREIGN TABLE topic_$name (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz,
					p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'), ts timestamptz OPTIONS (kafka 'timestamp'))
					SERVER kafka OPTIONS (topic '$name', format 'json', event_time 'at')",
				# nothing but the pipeline may touch the pages that the reader looks at
				"CREATE TABLE sink_$name (p int, o bigint, ts timestamptz, card text, amount numeric) WITH (autovacuum_enabled = off)",
				"SELECT streamproc.create_pipeline('$name', \$\$INSERT INTO sink_$name SELECT p, o, ts, card, amount FROM topic_$name\$\$)",
				"SELECT streamproc.wait_until_caught_up('$name', '60 s')");
			my $pid = latency_load($name, $rate, $opt{warmup} + $opt{seconds});
			my $line = run("$work/latency", $conninfo, "sink_$name", $partitions, $count, $opt{warmup}, $opt{warmup} + $opt{seconds} + 60);
			waitpid $pid, 0;
			fail("load at $rate events/s failed") if $? != 0;
			my %figure = $line =~ /(\w+) ([\d.]+)/g;
			push @{$result{$rate}}, \%figure;
			printf "  round %d  %6d events/s: %s\n", $round, $rate, $line;
			sql("SELECT streamproc.stop_pipeline('$name')", "SELECT streamproc.wait_until_stopped('$name', '60 s')",
				"SELECT streamproc.drop_pipeline('$name')", "DROP TABLE sink_$name", "DROP FOREIGN TABLE topic_$name");
			run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, $name);
		}
	}
	for my $rate (@{$opt{rates}}) {
		my @p50 = map { $_->{p50_ms} } @{$result{$rate}};
		my @p99 = map { $_->{p99_ms} } @{$result{$rate}};
		my ($p50, $p99) = (median(@p50), median(@p99));
		printf "%-36s %9.2f %13s %6.1f %-7s %9.2f %13s %6.1f %-7s %9.1f\n", "$rate events/s",
			$p50, spread(@p50), 5 + $more, bar("latency p50 at $rate, ms", $p50, '<=', 5 + $more),
			$p99, spread(@p99), 25 + $more, bar("latency p99 at $rate, ms", $p99, '<=', 25 + $more),
			median(map { $_->{max_ms} } @{$result{$rate}});
		printf "%-36s %9.2f %28s %9.2f %28s %9.1f\n", '  broker alone, without a pipeline',
			median(map { $_->{p50_ms} } @{$alone{$rate}}), '', median(map { $_->{p99_ms} } @{$alone{$rate}}), '', median(map { $_->{max_ms} } @{$alone{$rate}});
	}
	return;
}

# ---------------------------------------------------------------- upsert

sub upsert {
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'hot', $partitions);
	# "even": each of the four keys comes through every partition, and so through every task
	say_line("\n", load('hot', '--count', $opt{upserts}, '--payload', 'tx', '--keys', 4, '--spread', 'even', '--bytes', 200));
	sql("CREATE FOREIGN TABLE hot (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz)
			SERVER kafka OPTIONS (topic 'hot', format 'json', event_time 'at')",
		'CREATE TABLE copy_hot (card text, amount numeric)');
	measure('copy_hot', "SELECT streamproc.create_pipeline('copy_hot', 'INSERT INTO copy_hot SELECT card, amount FROM hot', stop => 'latest')",
		"SELECT streamproc.wait_until_stopped('copy_hot', '300 s')");
	my $expected = sql('SELECT card, count(*), sum(amount) FROM copy_hot GROUP BY card ORDER BY card');
	check('rows of the upsert topic', sql('SELECT count(*) FROM copy_hot'), $opt{upserts});
	my @runs;
	for my $round (1 .. $opt{rounds}) {
		sql('CREATE TABLE sink_hot (card text PRIMARY KEY, n bigint, total numeric)', 'CHECKPOINT');
		my $figures = measure('upsert',
			"SELECT streamproc.create_pipeline('upsert', \$\$INSERT INTO sink_hot AS s SELECT card, 1, amount FROM hot
				ON CONFLICT (card) DO UPDATE SET n = s.n + 1, total = s.total + excluded.total\$\$, stop => 'latest', parallelism => 4)",
			"SELECT streamproc.wait_until_stopped('upsert', '300 s')");
		push @runs, $figures;
		check("upsert, round $round", sql('SELECT card, n, total FROM sink_hot ORDER BY card'), $expected);
		sql("SELECT streamproc.drop_pipeline('upsert')", 'DROP TABLE sink_hot');
	}
	my $deadlocks = grep { / 40P01 / } do { open my $log, '<', "$work/postgres.log" or fail("log: $!"); <$log> };
	my $rate = $opt{upserts} / median(map { $_->{wall} } @runs);
	printf "\nUpsert: %d events over 4 keys, ON CONFLICT DO UPDATE, parallelism 4, median of %d rounds, start-up of the pipeline included\n",
		$opt{upserts}, $opt{rounds};
	printf "%-36s %10.0f %9.3f %13s %7s %6d %-7s\n", 'events/s, CPU us', $rate,
		median(map { $_->{cpu} / $opt{upserts} * 1e6 } @runs), spread(map { $_->{cpu} / $opt{upserts} * 1e6 } @runs), '', 50000,
		bar('upsert, events/s', $rate, '>=', 50000);
	printf "%-36s %10d %32s %6d %-7s\n", '40P01 in the log', $deadlocks, '', 0, bar('deadlocks', $deadlocks, '<=', 0);
	return;
}

# ---------------------------------------------------------------- bad rows

# Events of topic "err": most columns are good everywhere, each of the others is bad in 1 % of the events, so that a
# pipeline meets the errors of the columns that it reads.  few_* is bad in 1000 events at random and 10 in a row.
my @error_cases = (
	{name => 'clean', label => 'clean: 4 columns', sink => 'a int, b int, c int, d int CHECK (d < 100)', query => 'SELECT id, g, 10 / g, g'},
	{name => 'type', of => 'clean', label => '1 % wrong type', sink => 'a int, b int, c int, d int CHECK (d < 100)', query => 'SELECT id, bad_int, 10 / g, g'},
	{name => 'computed', of => 'clean', label => '1 % division by zero', sink => 'a int, b int, c int, d int CHECK (d < 100)', query => 'SELECT id, g, 10 / bad_zero, g'},
	{name => 'check', of => 'clean', label => '1 % check constraint', sink => 'a int, b int, c int, d int CHECK (d < 100)', query => 'SELECT id, g, 10 / g, bad_check'},
	{name => 'clean_inet', label => 'clean: inet', sink => 'a int, b inet', query => 'SELECT id, good_inet'},
	{name => 'inet', of => 'clean_inet', label => '1 % input function', sink => 'a int, b inet', query => 'SELECT id, bad_inet'},
	{name => 'clean_key', label => 'clean: primary key', sink => 'a int PRIMARY KEY, b int', query => 'SELECT id, g'},
	{name => 'key', of => 'clean_key', label => '1 % duplicate key', sink => 'a int PRIMARY KEY, b int', query => 'SELECT bad_key, g'},
	{name => 'clean_fk', label => 'clean: deferred foreign key', sink => 'a int, b int REFERENCES err_ref DEFERRABLE INITIALLY DEFERRED', query => 'SELECT id, g'},
	{name => 'clean_all', label => 'clean: all of that in one table', sink => 'a int PRIMARY KEY, b int REFERENCES err_ref DEFERRABLE INITIALLY DEFERRED, c int, d int CHECK (d < 100), e inet, f int',
		query => 'SELECT id, g, 10 / g, g, good_inet, g'},
	{name => 'all', of => 'clean_all', label => '1 % bad, six kinds evenly', sink => 'a int PRIMARY KEY, b int REFERENCES err_ref DEFERRABLE INITIALLY DEFERRED, c int, d int CHECK (d < 100), e inet, f int',
		query => 'SELECT mix_key, mix_fk, 10 / mix_zero, mix_check, mix_inet, mix_int'},
	{name => 'fk', of => 'clean_fk', label => '1 % deferred foreign key', sink => 'a int, b int REFERENCES err_ref DEFERRABLE INITIALLY DEFERRED', query => 'SELECT id, bad_check'},
);

sub error_run {
	my ($name, @statements) = @_;
	my $figures = measure($name, "SELECT streamproc.create_pipeline('$name', \$\$" . join('; ', @statements) . "\$\$, stop => 'latest', max_consecutive_errors => 1000000)",
		"SELECT streamproc.wait_until_stopped('$name', '900 s')");
	return $figures;
}

sub errors {
	my $n = $opt{errors};
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'err', $partitions);
	sql("CREATE FOREIGN TABLE err_write (id int, g int, bad_int text, bad_zero int, bad_check int, good_inet text, bad_inet text, bad_key int,
			few_int text, few_zero int, few_check int, few_fk int, mix_int text, mix_zero int, mix_check int, mix_inet text, mix_key int, mix_fk int, p int OPTIONS (kafka 'partition'))
			SERVER kafka OPTIONS (topic 'err', format 'json')",
		"CREATE FOREIGN TABLE err (id int, g int, bad_int int, bad_zero int, bad_check int, good_inet inet, bad_inet inet, bad_key int,
			few_int int, few_zero int, few_check int, few_fk int, mix_int int, mix_zero int, mix_check int, mix_inet inet, mix_key int, mix_fk int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
			SERVER kafka OPTIONS (topic 'err', format 'json')",
		"CREATE FOREIGN TABLE err_text (id int, few_int text, few_zero int, few_check int, few_fk int,
			p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'err', format 'json')",
		'CREATE TABLE err_ref (id int PRIMARY KEY)', 'INSERT INTO err_ref SELECT g FROM generate_series(1, 9) g', 'VACUUM ANALYZE err_ref',
		# bad: 1 in 100 by a hash; few: 1000 places by another one, and 10 in a row in partition 0; which kind by the number
		"INSERT INTO err_write SELECT i, g, CASE WHEN bad THEN 'x' ELSE '7' END, CASE WHEN bad THEN 0 ELSE 1 END, CASE WHEN bad THEN 100 ELSE 1 END,
			'10.0.0.7', CASE WHEN bad THEN '10.0.0.777' ELSE '10.0.0.7' END, CASE WHEN bad THEN 0 ELSE i END,
			CASE WHEN few AND kind = 0 THEN 'x' ELSE '7' END, CASE WHEN few AND kind = 1 THEN 0 ELSE 1 END,
			CASE WHEN few AND kind = 2 THEN 100 ELSE 1 END, CASE WHEN few AND kind = 3 THEN 100 ELSE 1 END,
			CASE WHEN bad AND mix = 0 THEN 'x' ELSE '7' END, CASE WHEN bad AND mix = 1 THEN 0 ELSE 1 END, CASE WHEN bad AND mix = 2 THEN 100 ELSE 1 END,
			CASE WHEN bad AND mix = 3 THEN '10.0.0.777' ELSE '10.0.0.7' END, CASE WHEN bad AND mix = 4 THEN 0 ELSE i END, CASE WHEN bad AND mix = 5 THEN 100 ELSE 1 END, i % $partitions
			FROM (SELECT i, 1 + i % 9 AS g, (hashint4(i) & 65535) % 100 = 0 AS bad,
				f.i IS NOT NULL OR (i >= $n / 2 AND i < $n / 2 + 10 * $partitions AND i % $partitions = 0) AS few, hashint4(i + 7) & 3 AS kind, (hashint4(i + 9) & 65535) % 6 AS mix
				FROM generate_series(1, $n) i LEFT JOIN
				(SELECT i FROM generate_series(1, $n) i WHERE i < $n / 2 OR i >= $n / 2 + 10 * $partitions ORDER BY hashint4(i + 13), i LIMIT 1000) f USING (i)) x");
	sql("CREATE TABLE err_clean1 (a int, b int)", "CREATE TABLE err_clean2 (a int, b int REFERENCES err_ref DEFERRABLE INITIALLY DEFERRED)",
		"CREATE TABLE err_clean3 (a int, b int CHECK (b < 100), c text)");
	my (%result, $start);
	for my $round (1 .. $opt{rounds}) {
		# what starting and ending takes
		sql('CREATE TABLE sink_start (a int)');
		my $nothing = measure('start', "SELECT streamproc.create_pipeline('start', 'INSERT INTO sink_start SELECT id FROM err', start => 'latest', stop => 'latest')",
			"SELECT streamproc.wait_until_stopped('start', '900 s')");
		push @{$result{start}}, $nothing;
		sql("SELECT streamproc.drop_pipeline('start')", 'DROP TABLE sink_start');
		for my $case (@error_cases) {
			sql("CREATE TABLE sink_$case->{name} ($case->{sink})", 'CHECKPOINT');
			my $figures = error_run($case->{name}, "INSERT INTO sink_$case->{name} $case->{query} FROM err");
			push @{$result{$case->{name}}}, $figures;
			progress($round, $case->{label}, $figures);
			my $letters = sql("SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$case->{name}'");
			check("$case->{name}, round $round: rows and dead letters", sql("SELECT count(*) FROM sink_$case->{name}") + $letters, $n);
			check("$case->{name}, round $round: dead letters", $letters, $case->{of} ? sql('SELECT count(*) - ' . ($case->{name} =~ /^(key|all)\z/ ? 1 : 0) . " FROM generate_series(1, $n) i WHERE (hashint4(i) & 65535) % 100 = 0") : 0);
			sql("SET client_min_messages = error; SELECT streamproc.drop_pipeline('$case->{name}')", "DROP TABLE sink_$case->{name}");
		}
		for my $kind (qw(clean few)) {
			my ($int, $zero, $check, $fk) = $kind eq 'clean' ? qw(g g g g) : qw(few_int few_zero few_check few_fk);
			sql("TRUNCATE err_clean1, err_clean2, err_clean3", 'CHECKPOINT');
			my $figures = error_run("three_$kind", "INSERT INTO err_clean1 SELECT id, 10 / $zero FROM err", "INSERT INTO err_clean2 SELECT id, $fk FROM err",
				"INSERT INTO err_clean3 SELECT id, $check, $int || ' ' || id FROM err");
			push @{$result{"three_$kind"}}, $figures;
			progress($round, "three statements, $kind", $figures);
			my $letters = sql("SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'three_$kind'");
			check("three_$kind, round $round: dead letters", $letters, $kind eq 'clean' ? 0 : 1010);
			check("three_$kind, round $round: rows", sql('SELECT (SELECT count(*) FROM err_clean1), (SELECT count(*) FROM err_clean2), (SELECT count(*) FROM err_clean3)'), join('|', ($n - $letters) x 3));
			if ($kind eq 'few') {
				# the batch query over what a peek can read, without the dead letters
				check("three_few, round $round: missing or extra", sql(
					"WITH good AS (SELECT id, 10 / few_zero AS x, few_fk, few_check, few_text FROM (SELECT id, few_zero, few_fk, few_check, few_int AS few_text, p, o FROM err_text e
						WHERE NOT EXISTS (SELECT FROM streamproc.stored_dead_letter d WHERE d.pipeline = 'three_few' AND d.partition = e.p AND d.\"offset\" = e.o) OFFSET 0) g)
					SELECT (SELECT count(*) FROM (SELECT id, x FROM good EXCEPT ALL TABLE err_clean1) a) + (SELECT count(*) FROM (TABLE err_clean1 EXCEPT ALL SELECT id, x FROM good) a)
						+ (SELECT count(*) FROM (SELECT id, few_fk FROM good EXCEPT ALL TABLE err_clean2) a) + (SELECT count(*) FROM (TABLE err_clean2 EXCEPT ALL SELECT id, few_fk FROM good) a)
						+ (SELECT count(*) FROM (SELECT id, few_check, few_text || ' ' || id FROM good EXCEPT ALL TABLE err_clean3) a) + (SELECT count(*) FROM (TABLE err_clean3 EXCEPT ALL SELECT id, few_check, few_text || ' ' || id FROM good) a)"), 0);
				check("three_few, round $round: dead letters that are not to blame", sql(
					"SELECT count(*) FROM streamproc.dead_letter d JOIN err_text e ON e.p = d.partition AND e.o = d.\"offset\" WHERE d.pipeline = 'three_few'
						AND NOT (few_int = 'x' OR few_zero = 0 OR few_check = 100 OR few_fk = 100)"), 0);
			}
			sql("SET client_min_messages = error; SELECT streamproc.drop_pipeline('three_$kind')");
		}
	}
	$start = median(map { $_->{wall} } @{$result{start}});
	printf "\nBad rows: %d events, %d partitions, median of %d rounds; start-up (%.2f s) taken off events/s\n", $n, $partitions, $opt{rounds}, $start;
	printf "%-36s %10s %9s %13s %10s %6s %-7s\n", '', 'events/s', 'CPU us', '(spread)', 'of clean', 'bar', '';
	my $rate = sub { $n / (median(map { $_->{wall} } @{$result{$_[0]}}) - $start) };
	my $cpu = sub { median(map { $_->{cpu} / $n * 1e6 } @{$result{$_[0]}}) };
	for my $case (@error_cases) {
		my $share = $case->{of} ? $rate->($case->{name}) / $rate->($case->{of}) : 0;
		printf "%-36s %10.0f %9.3f %13s %10s %6s %-7s\n", $case->{label}, $rate->($case->{name}), $cpu->($case->{name}),
			spread(map { $_->{cpu} / $n * 1e6 } @{$result{$case->{name}}}), $case->{of} ? sprintf('%.2f', $share) : '', $case->{of} ? 0.5 : '-',
			$case->{of} ? bar("$case->{label}, throughput of the clean run's", $share, '>=', 0.5) : '';
	}
	my $more = $cpu->('three_few') / $cpu->('three_clean');
	printf "%-36s %10.0f %9.3f %13s\n", 'three statements, deferred FK, clean', $rate->('three_clean'), $cpu->('three_clean'), spread(map { $_->{cpu} / $n * 1e6 } @{$result{three_clean}});
	printf "%-36s %10.0f %9.3f %13s %10.2f %6s %-7s\n", 'the same, 1010 bad (CPU of clean)', $rate->('three_few'), $cpu->('three_few'), spread(map { $_->{cpu} / $n * 1e6 } @{$result{three_few}}),
		$more, 1.5, bar('1010 bad rows in three statements, CPU of the clean run', $more, '<=', 1.5);
	run("$tree/test/kafka/broker.sh", 'delete-topic', $broker, 'err');
	return;
}

# ---------------------------------------------------------------- all of it

sub clean_up {
	system("$bin/pg_ctl", '-D', "$work/data", '-m', 'immediate', '-s', 'stop') if $postmaster;
	system("$tree/test/kafka/broker.sh", 'stop', $broker) if $broker;
	($postmaster, $broker) = ();
}
$SIG{TERM} = $SIG{INT} = sub { die "bench: interrupted\n" };
require "$tree/bench/keyed.pl";
require "$tree/bench/topics.pl";
require "$tree/bench/over.pl";
require "$tree/bench/join.pl";
require "$tree/bench/asof.pl";
require "$tree/bench/dedup.pl";
require "$tree/bench/session.pl";
require "$tree/bench/fraud.pl";
require "$tree/bench/peers/$_.pl" for qw(jvm peers nexmark latency);
my $ok = eval {
	my $begin = time;
	$broker = "$work/broker";
	my @settings = (
		# a soak's topic is cut while it grows
		$part{soak} ? 'log.retention.check.interval.ms=5000' : (),
		# Kafka's default: the threads of Kafka Streams come together, or those that come late stop the others when they have begun
		$part{peers} ? 'group.initial.rebalance.delay.ms=3000' : (),
	);
	# with the small heap of the tests the broker pauses for 10 ms three times a second, with 1 GB for 20 ms every third second: that is a
	# p99; what a pause takes does not grow with the heap, how often it comes falls
	$ENV{STREAMPROC_BROKER_JVM} //= memory_gb() < 20 ? '-Xms4g -Xmx4g -Xmn3g -XX:+AlwaysPreTouch' : '-Xms8g -Xmx8g -Xmn7g -XX:+AlwaysPreTouch';
	$ENV{STREAMPROC_BROKER_CONFIG} = join ' ', @settings if @settings;
	$address = run("$tree/test/kafka/broker.sh", 'start', $broker);
	run("$tree/test/kafka/broker.sh", 'topic', $broker, 'tx', $partitions) if $part{speed};
	say_line(processors(), ', Linux ', (POSIX::uname())[2]);
	start_postgres();
	speed() if $part{speed};
	keyed() if $part{keyed};
	over() if $part{over};
	joins() if $part{join};
	asof() if $part{asof};
	dedup() if $part{dedup};
	session() if $part{session};
	soak() if $part{soak};
	topics() if $part{topics};
	latency() if $part{latency};
	fraud() if $part{fraud};
	upsert() if $part{upsert};
	errors() if $part{errors};
	peers() if $part{peers};
	printf "\n%d s. ", time - $begin;
	1;
};
my $error = $@;
clean_up();
if (!$ok) { print STDERR $error; exit 1; }
my @missed = grep { !$_->[4] } @bars;
printf "%d bars met, %d missed, %d wrong results\n", @bars - @missed, scalar @missed, scalar @wrong;
printf "missed: %s: %.3f, bar %s %s\n", @$_[0 .. 3] for @missed;
print "wrong: $_\n" for @wrong;
exit(@missed || @wrong ? 1 : 0);

sub processors {
	open my $file, '<', '/proc/cpuinfo' or return 'unknown processors';
	my @lines = <$file>;
	my ($model) = map { /^model name\s*:\s*(.*)$/ ? $1 : () } @lines;
	return scalar(grep { /^processor\s*:/ } @lines) . ' x ' . ($model // 'unknown processor');
}

sub memory_gb {
	open my $file, '<', '/proc/meminfo' or return 0;
	my ($kb) = map { /^MemTotal:\s+(\d+)/ ? $1 : () } <$file>;
	return ($kb // 0) / 1024 / 1024;
}

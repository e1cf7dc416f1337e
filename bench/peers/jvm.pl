# What the peers of the benchmark run as: the processes, the settings that their own experts would choose, the texts of
# Flink SQL.  Loaded by bench.pl; README.md beside this file says why each setting.
use strict;
use warnings;
use POSIX ();
use Time::HiRes qw(time sleep);
use IO::Select;

our (%opt, %peer, %topic, $work, $address, $partitions, $postmaster, $sampler, $port);
my $clock_tick = POSIX::sysconf(&POSIX::_SC_CLK_TCK);

# With two processors the parallel collector costs least CPU; the heap grows as it needs.
our $jvm = $ENV{BENCH_PEER_JVM} || '-Xmx3g -XX:+UseParallelGC';

sub jvm_settings { return "$jvm; checkpoints or commits every $peer{checkpoint} ms; " . join(', ', @{$peer{variants}}) }

# a process and all below it
sub process_tree {
	my ($root) = @_;
	my (%children, @tree);
	opendir my $proc, '/proc' or fail("/proc: $!");
	for my $pid (grep { /^\d+$/ } readdir $proc) {
		my $stat = stat_of($pid) or next;
		push @{$children{$stat->{parent}}}, $pid;
	}
	closedir $proc;
	my @next = ($root);
	while (defined(my $pid = shift @next)) { push @tree, $pid; push @next, @{$children{$pid} || []}; }
	return @tree;
}

# ---------------------------------------------------------------- the process

my %running;

# A peer whose lines "peer: ..." we read, and which goes on when we write one.
sub start_jvm {
	my ($name, @command) = @_;
	pipe my $out, my $child_out or fail("pipe: $!");
	pipe my $child_in, my $in or fail("pipe: $!");
	my $pid = fork // fail("fork: $!");
	if ($pid == 0) {
		open STDIN, '<&', $child_in;
		open STDOUT, '>&', $child_out;
		open STDERR, '>', "$work/$name.log";
		close $_ for $in, $out, $child_in, $child_out;
		exec @command or POSIX::_exit(1);
	}
	close $_ for $child_out, $child_in;
	$in->autoflush(1);
	$running{$pid} = 1;
	return {name => $name, pid => $pid, out => $out, in => $in, text => ''};
}

sub jvm_cpu { my ($process) = @_; my $stat = stat_of($process->{pid}) or fail("$process->{name} is gone"); return ($stat->{own} + $stat->{ended}) / $clock_tick }

# the next line that a peer says, which must fit
sub jvm_line {
	my ($process, $wanted, $seconds) = @_;
	my $until = time + ($seconds || 900);
	my $select = IO::Select->new($process->{out});
	for (;;) {
		while ($process->{text} =~ s/^(.*)\n//) {
			my $line = $1;
			return $line if $line =~ /^peer: / && $line =~ $wanted;
		}
		my $alive = time < $until;
		if ($alive && $select->can_read(0.05)) { $alive = sysread $process->{out}, $process->{text}, 65536, length $process->{text}; }
		if (!$alive) {
			print STDERR run('tail', '-n', '30', "$work/$process->{name}.log"), "\n";
			fail("$process->{name} does not say $wanted");
		}
		$sampler->() if $sampler;
	}
}

sub end_jvm {
	my ($process, $signal) = @_;
	kill $signal, $process->{pid} if $signal;
	close $process->{in};
	waitpid $process->{pid}, 0;
	delete $running{$process->{pid}};
	fail("$process->{name}: exit code $?, see $work/$process->{name}.log") if $? != 0 && !$signal;
	return;
}

# those of a run that failed
sub kill_jvms {
	for my $pid (keys %running) { kill 'KILL', $pid; waitpid $pid, 0; }
	%running = ();
	return;
}

# Two runs in one JVM: the first one warms it up, of the second one we count CPU from the first record to the end, that
# of the database server too where it is given.
sub measure_jvm {
	my ($name, $command, @servers) = @_;
	my $process = start_jvm($name, @$command);
	my $peak = 0;
	local $sampler = pss_watch(\$peak, $process->{pid}, @servers);
	my $cpu_now = sub { return jvm_cpu($process) + (@servers ? server_cpu() : 0) };
	jvm_line($process, qr/end 1 /);
	print {$process->{in}} "\n";
	jvm_line($process, qr/first 2\b/);
	my ($begin, $cpu) = (time, $cpu_now->());
	my $line = jvm_line($process, qr/end 2 /);
	my ($wall, $used) = (time - $begin, $cpu_now->() - $cpu);
	end_jvm($process);
	fail("$name: $line") if $line !~ /events (\d+) rows (\d+)/;
	unlink "$work/$name.log";
	return {wall => $wall, cpu => $used, pss => $peak, events => $1, rows => $2};
}

# ---------------------------------------------------------------- Flink

# what Flink's own start script opens of the JDK, as far as it is used here
my @opens = map { ('--add-opens', "java.base/$_=ALL-UNNAMED") } qw(java.lang java.lang.invoke java.lang.reflect java.net java.io java.nio java.text java.time java.util
	java.util.concurrent java.util.concurrent.atomic java.util.concurrent.locks sun.nio.ch);

sub flink_command {
	my (@files) = @_;
	return ('java', split(' ', $jvm), '-XX:-UsePerfData', '-Duser.timezone=UTC', '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', "-Djava.io.tmpdir=$work", @opens, '-cp', $ENV{BENCH_PEER_FLINK}, 'FlinkPeer', @files);
}

sub flink_table {
	my ($name, $columns, $key, %with) = @_;
	$columns .= ", PRIMARY KEY ($key) NOT ENFORCED" if $key;
	return "CREATE TABLE $name ($columns) WITH (" . join(', ', map { "'$_' = '$with{$_}'" } sort keys %with) . ')';
}

# A table of a topic with the columns that a query names, as the connector does not push projections down, and would decode
# all of them; with a watermark only where event time counts.
sub flink_source {
	my ($name, $query, %more) = @_;
	my $of = $topic{$name};
	my $columns = join ', ', grep { my ($column) = /^`?(\w+)/; $query =~ /\b$column\b/ } split /,\s+(?=`?\w+`? [A-Z])/, $of->{flink};
	my $watermark = $query =~ /(DESCRIPTOR\(|ORDER BY )`at`/ && $of->{delay} =~ /^(\d+) s$/ ? ", WATERMARK FOR `at` AS `at` - INTERVAL '$1' SECOND" : '';
	return flink_table($name, "$columns$watermark", undef, connector => 'kafka', topic => $name, 'properties.bootstrap.servers' => $address,
		'properties.group.id' => 'bench', 'scan.startup.mode' => 'earliest-offset', 'scan.bounded.mode' => 'latest-offset', format => 'json', 'json.timestamp-format.standard' => 'ISO-8601',
		'properties.interceptor.classes' => 'Meter', 'properties.max.poll.records' => 5000, 'properties.max.partition.fetch.bytes' => 4194304, %more);
}

sub flink_topic_sink {
	my ($name, $key) = @_;
	return (connector => 'kafka', topic => $name, 'properties.bootstrap.servers' => $address, 'key.format' => 'raw', 'key.fields' => $key, 'value.format' => 'json',
		'value.json.timestamp-format.standard' => 'ISO-8601', 'sink.delivery-guarantee' => 'exactly-once', 'sink.transactional-id-prefix' => $name, 'properties.transaction.timeout.ms' => 600000,
		'properties.batch.size' => 262144, 'properties.linger.ms' => 5);
}

sub flink_jdbc_sink {
	my ($table) = @_;
	return (connector => 'jdbc', url => "jdbc:postgresql://127.0.0.1:$port/bench?reWriteBatchedInserts=true", 'table-name' => $table, username => 'bench', password => 'none',
		'sink.buffer-flush.max-rows' => 5000, 'sink.buffer-flush.interval' => '1 s');
}

# A file of SQL: settings and statements.
sub flink_file {
	my ($path, $state, $parallelism, $case, @statements) = @_;
	my $directory = "$work/checkpoints";
	my %set = (
		'parallelism.default' => $parallelism, 'pipeline.object-reuse' => 'true', 'table.local-time-zone' => 'UTC',
		'execution.checkpointing.interval' => "$peer{checkpoint} ms", 'execution.checkpointing.mode' => 'EXACTLY_ONCE', 'execution.checkpointing.dir' => "file://$directory",
		'state.backend.type' => $state eq 'heap' ? 'hashmap' : 'rocksdb', 'execution.checkpointing.incremental' => 'true',
		'taskmanager.memory.managed.size' => $state eq 'heap' ? '128m' : '512m', 'taskmanager.memory.network.min' => '64m', 'taskmanager.memory.network.max' => '64m',
		%{$case->{flink_set} || {}},
	);
	mkdir $directory;
	open my $file, '>', $path or fail("$path: $!");
	print $file map { "$_;\n" } (map { "SET '$_' = '$set{$_}'" } sort keys %set), @statements;
	close $file or fail("$path: $!");
	return $path;
}

# ---------------------------------------------------------------- Kafka Streams

sub kstreams_command {
	my (%setting) = @_;
	my $directory = "$work/kstreams";
	mkdir $directory;
	%setting = (brokers => $address, dir => $directory, commit => $peer{checkpoint},
		'statestore.cache.max.bytes' => 268435456, 'producer.linger.ms' => 5, 'main.consumer.max.poll.records' => 5000, 'main.consumer.max.partition.fetch.bytes' => 4194304,
		'producer.transaction.timeout.ms' => 600000,
		# windows are given out when they are over, not once a second: nothing would come after the last event
		'__emit.interval.ms.kstreams.windowed.aggregation__' => 0, %setting);
	return ('java', split(' ', $jvm), '-XX:-UsePerfData', '-Duser.timezone=UTC', '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', "-Djava.io.tmpdir=$work", '-cp', $ENV{BENCH_PEER_KSTREAMS}, 'KStreamsPeer',
		map { "$_=$setting{$_}" } sort keys %setting);
}

1;

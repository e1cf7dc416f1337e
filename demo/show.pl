#!/usr/bin/perl
# What "make demo" shows, once server, broker and pipelines are there: starts the load generator, looks at the pipelines
# and at the rows that come out of them, kills a task, stops the generator, and compares each sink with the batch query.
# Called by run.sh.  Exit code 0: nothing missing, nothing too much.
#
# One psql is our only connection: a query goes into its standard input, the answer is what comes out until a marker.
# It is asked for new rows every 2 ms, which is how the latency from message timestamp to visible row is seen, and for the
# figures twice a second.  After the kill PostgreSQL ends all connections; then we connect again until it lets us.
use strict;
use warnings;
use utf8;
use Getopt::Long;
use IO::Handle;
use POSIX ();
use Time::HiRes qw(time sleep);

GetOptions(\my %opt, 'bindir=s', 'dir=s', 'seconds=i', 'rate=i', 'backlog=i', 'kill=s') or exit 2;

my $partitions = 4;
my @pipelines = qw(big_tx card_last alert card_5s city_10s fraud);
my %does = (
	big_tx => 'filter, left join',
	card_last => 'upsert by card',
	alert => 'join, two sinks',
	card_5s => 'tumble 5 s',
	city_10s => 'hop 1 s, 10 s',
	fraud => 'lag, OVER, topic');
my $victim = 'card_5s';
my $poll_s = 0.002;
my $latency_window_s = 5;
my $warm_up_s = 3;	# the broker is a JVM that was started a moment ago
my $alerts_shown = 4;
my $late_s = 120;	# some terminals send so late
my $late_rate = 5;

my $tty = -t STDOUT && ($ENV{TERM} // 'dumb') ne 'dumb';
my $colour = $tty && !exists $ENV{NO_COLOR};
my $unicode = ((grep { defined && $_ ne '' } @ENV{qw(LC_ALL LC_CTYPE LANG)}), '')[0] =~ /utf-?8/i;
binmode STDOUT, ':utf8';
STDOUT->autoflush(1);

my ($psql_pid, $to_psql, $from_psql, $load_pid, $late_pid, $interrupted);
my (@offset, @alerts, @latency, @calm, @notes, @cities, @window, @topic_rates, %stat, %before, $total, $total_at);
my ($begun, $killed_at, $down_at, $back_at, $caught_up_at) = (0);
my $frame_lines = 0;

# ---------------------------------------------------------------- psql

# an answer as a list of rows; undef: the connection is gone
sub ask {
	my ($sql) = @_;
	my $text = '';
	return unless defined $psql_pid;
	syswrite $to_psql, "$sql;\n\\echo <end>\n" or return hang_up();
	while ($text !~ /(?:^|\n)<end>\n\z/) {
		my $got = sysread $from_psql, $text, 65536, length $text;
		next if !defined $got && $!{EINTR};
		return hang_up() unless $got;
	}
	$text =~ s/<end>\n\z//;
	return [map { [split /\t/, $_, -1] } split /\n/, $text];
}

# as ask, where there must be an answer
sub must {
	my ($sql) = @_;
	return ask($sql) // die "lost the connection to PostgreSQL; see $opt{dir}/postgres.log and $opt{dir}/run/psql.log\n";
}

sub hang_up {
	return unless defined $psql_pid;
	close $to_psql;
	close $from_psql;
	waitpid $psql_pid, 0;
	undef $psql_pid;
	return;
}

sub dial {
	pipe my $in, $to_psql or die "pipe: $!\n";
	pipe $from_psql, my $out or die "pipe: $!\n";
	$to_psql->autoflush(1);
	$psql_pid = fork // die "fork: $!\n";
	if ($psql_pid == 0) {
		$ENV{PGAPPNAME} = 'streamproc demo';
		open STDIN, '<&', $in;
		open STDOUT, '>&', $out;
		open STDERR, '>>', "$opt{dir}/run/psql.log";
		exec "$opt{bindir}/psql", '-XAtq', '-F', "\t", '-v', 'ON_ERROR_STOP=1', '-h', "$opt{dir}/socket", '-U', 'postgres', '-d', 'demo'
			or POSIX::_exit(1);
	}
	close $in;
	close $out;
	# new rows of the two sinks that are only appended to: a partition's rows become visible in the order of their offsets
	return ask(<<"SQL");
		SET plan_cache_mode = force_generic_plan;
		SET enable_seqscan = off;
		SET jit = off;
		PREPARE fresh(bigint[], bigint[]) AS
		SELECT 0, r.p, r.o, (extract(epoch FROM r.at) * 1000)::bigint, NULL, NULL, NULL, NULL, NULL
		FROM generate_series(0, $partitions - 1) q, LATERAL (SELECT * FROM big_tx b WHERE b.p = q AND b.o > (\$1)[q + 1]) r
		UNION ALL
		SELECT 1, r.p, r.o, (extract(epoch FROM r.at) * 1000)::bigint,
			to_char(r.at, 'HH24:MI:SS.MS'), r.owner, to_char(r.amount, 'FM999,999,990.00'), to_char(r.card_limit, 'FM999,990'), r.city
		FROM generate_series(0, $partitions - 1) q, LATERAL (SELECT * FROM alert b WHERE b.p = q AND b.o > (\$2)[q + 1]) r
		ORDER BY 4
SQL
}

# ---------------------------------------------------------------- looking

sub look_at_rows {
	my $rows = ask(sprintf q{EXECUTE fresh('{%s}', '{%s}')}, map { join ',', @$_ } @offset) // return;
	my $now = time;
	for my $row (@$rows) {
		my ($sink, $p, $o, $ms, @text) = @$row;
		$offset[$sink][$p] = $o if $o > $offset[$sink][$p];
		next if $ms < $begun * 1000;	# of a terminal that sends late
		my $took = $now * 1000 - $ms;
		push @latency, [$now, $took];
		if (!defined $killed_at || defined $caught_up_at && $ms > $caught_up_at * 1000) {
			push @calm, $took if $now > $begun + $warm_up_s;
		}
		push @alerts, [@text, $took] if $sink == 1;
	}
	shift @latency while @latency && $latency[0][0] < $now - $latency_window_s;
	return 1;
}

sub look_at_figures {
	my $rows = ask(<<'SQL') // return;
		SELECT s.pipeline, s.state, s.rows_out, s.lag_rows, extract(epoch FROM s.latency_p50) * 1000, extract(epoch FROM s.latency_p99) * 1000,
			(SELECT sum(next_offset) FROM streamproc.position q WHERE q.pipeline = s.pipeline),
			(SELECT sum(end_offset) FROM streamproc.stat_partition q WHERE q.pipeline = s.pipeline),
			coalesce(s.last_error, s.reason)
		FROM streamproc.stat_pipeline s
SQL
	my $cities = ask('SELECT city, alerts FROM city_alert ORDER BY alerts DESC, city LIMIT 4') // return;
	my $window = ask(<<'SQL') // return;
		SELECT to_char(w.window_end, 'HH24:MI:SS'), w.card, w.cities, w.n, to_char(w.total, 'FM999,999,990.00'),
			(SELECT count(*) FROM streamproc.late_row WHERE pipeline = 'card_5s')
		FROM card_5s w ORDER BY w.window_end DESC, w.cities DESC, w.n DESC, w.card LIMIT 1
SQL
	my $now = time;
	my %new;
	my $end = 0;
	for my $row (@$rows) {
		my ($name, @value) = @$row;
		my %s;
		@s{qw(state out lag p50 p99 done end reason)} = @value;
		$_ = $_ eq '' ? undef : $_ for @s{qw(out lag p50 p99 done end)};
		$s{at} = $now;
		# counters begin again at 0 after a crash, positions do not
		my $old = $before{$name};
		if ($old && $now > $old->{at}) {
			my $seconds = $now - $old->{at};
			$s{in_rate} = ($s{done} - $old->{done}) / $seconds if defined $s{done} && defined $old->{done};
			$s{out_rate} = ($s{out} - $old->{out}) / $seconds if defined $s{out} && defined $old->{out} && $s{out} >= $old->{out};
		}
		$end = $s{end} if defined $s{end} && $s{end} > $end;
		$new{$name} = \%s;
	}
	if (defined $total && $end >= $total && $end > 0 && $now > $total_at) {
		push @topic_rates, ($end - $total) / ($now - $total_at);
	}
	($total, $total_at) = ($end, $now) if $end > 0;
	%stat = %before = %new;
	@cities = @$cities;
	@window = @{$window->[0]} if @$window;
	if (defined $back_at && !defined $caught_up_at) {
		my $fine = grep { $_->{state} eq 'running' && defined $_->{lag} && $_->{lag} < $opt{rate} / 10 } values %stat;
		if ($fine == @pipelines) {
			$caught_up_at = $now;
			note(sprintf 'all pipelines run again and have caught up, %.1f s after the kill', $now - $killed_at);
		}
	}
	return 1;
}

sub percentile {
	my ($part, @values) = @_;
	return unless @values;
	return (sort { $a <=> $b } @values)[int($part * $#values + 0.5)];
}

sub note {
	my ($text) = @_;
	push @notes, sprintf '%4.1f s  %s', time - $begun, $text;
	print "      $notes[-1]\n" unless $tty;
}

sub kill_a_task {
	my $rows = ask("SELECT task, pid FROM streamproc.stat_worker WHERE pipeline = '$victim' AND role = 'task' AND pid > 0 ORDER BY task DESC LIMIT 1") // return;
	my ($task, $pid) = @{$rows->[0] // return};
	$killed_at = time;
	note("kill -9 of task $task of $victim (pid $pid): PostgreSQL restarts");
	kill KILL => $pid or note("kill: $!");
	return;
}

# ---------------------------------------------------------------- showing

sub paint { my ($code, $text) = @_; return $colour ? "\e[${code}m$text\e[0m" : $text; }
sub bold { return paint(1, $_[0]); }
sub dim { return paint(2, $_[0]); }
sub green { return paint(32, $_[0]); }
sub yellow { return paint(33, $_[0]); }
sub red { return paint(31, $_[0]); }

sub whole {
	my ($value) = @_;
	return '-' unless defined $value;
	my $text = sprintf '%.0f', $value;
	1 while $text =~ s/^(-?\d+)(\d{3})/$1,$2/;
	return $text;
}

sub ms { my ($value) = @_; return defined $value && $value ne '' ? sprintf($value < 100 ? '%.1f ms' : '%.0f ms', $value) : '-'; }

sub spark {
	my ($n, @values) = @_;
	return '' unless $unicode;
	splice @values, 0, @values - $n if @values > $n;
	my $max = percentile(1, @values) || 1;
	return join '', map { substr '▁▂▃▄▅▆▇█', $_ <= 0 ? 0 : int($_ / $max * 7 + 0.5), 1 } @values;
}

sub bar {
	my ($value, $max, $width) = @_;
	my $block = $unicode ? '█' : '#';
	return $block x ($max > 0 ? int($value / $max * $width + 0.5) : 0);
}

sub terminal_size {
	my $buffer = "\0" x 8;
	if (ioctl STDOUT, 0x5413, $buffer) {	# TIOCGWINSZ of Linux
		my ($rows, $columns) = unpack 'S2', $buffer;
		return ($rows, $columns) if $rows && $columns;
	}
	return (24, 80);
}

# at most so many characters, escapes not counted
sub clip {
	my ($line, $columns) = @_;
	my ($out, $n) = ('', 0);
	while ($line =~ /\G(\e\[[\d;]*m|.)/gs) {
		my $part = $1;
		if ($part !~ /^\e/) { next if $n >= $columns; $n++; }
		$out .= $part;
	}
	return $out;
}

sub state_text {
	my ($s) = @_;
	return defined $killed_at && !defined $back_at ? red(sprintf '%-8s', 'down') : dim(sprintf '%-8s', '-') unless $s;
	my $text = sprintf '%-8s', $s->{state};
	return $s->{state} eq 'running' ? green($text) : $s->{state} eq 'failed' ? red($text) : yellow($text);
}

sub frame {
	my $elapsed = time - $begun;
	my ($rows, $columns) = terminal_size();
	my $shown = $alerts_shown;
	my @lines;
	my $done = $elapsed > $opt{seconds} ? $opt{seconds} : $elapsed;
	push @lines, '  ' . bold('streamproc') . dim(sprintf '%-52s', '   Kafka topic to PostgreSQL tables, exactly once') .
		sprintf('%2d of %d s', $done, $opt{seconds});
	push @lines, '';
	push @lines, sprintf '  topic tx   %s events/s   %s events in %d partitions   %s', bold(sprintf '%6s', whole($topic_rates[-1])),
		whole($total), $partitions, paint(36, spark(20, @topic_rates));
	push @lines, '';
	push @lines, dim(sprintf '  %-9s %-17s %-8s %8s %6s %7s %14s', 'pipeline', '', 'state', 'events/s', 'rows/s', 'behind', 'commit p50/p99');
	for my $name (@pipelines) {
		my $s = $stat{$name};
		push @lines, sprintf '  %s %-17s %s %8s %6s %7s %14s', bold(sprintf '%-9s', $name), $does{$name}, state_text($s),
			whole($s->{in_rate}), whole($s->{out_rate}), whole($s->{lag}),
			defined $s->{p50} ? sprintf('%.1f/%.1f ms', $s->{p50}, $s->{p99}) : '-';
	}
	my @took = map { $_->[1] } @latency;
	push @lines, sprintf '  message timestamp to visible row: p50 %s  p99 %s  %s',
		bold(ms(percentile(0.5, @took))), bold(ms(percentile(0.99, @took))), dim("($latency_window_s s, " . scalar(@took) . ' rows)');
	push @lines, '';
	push @lines, dim(sprintf '  %-30s %10s  %-11s %6s  %10s', 'newest alerts', 'amount', 'city', 'limit', 'seen after');
	for my $i (1 .. $shown) {
		my $alert = $i <= @alerts ? $alerts[-$i] : undef;
		if (!$alert) { push @lines, ''; next; }
		my ($at, $owner, $amount, $limit, $city, $took) = @$alert;
		push @lines, sprintf '  %s  %-16.16s %s  %-11.11s %6s  %10s', dim($at), $owner, yellow(sprintf '%10s', $amount), $city, $limit, ms($took);
	}
	push @lines, '';
	my $max = @cities ? $cities[0][1] : 0;
	push @lines, '  ' . join '  ', map { sprintf '%s %s %d', $_->[0], paint(35, bar($_->[1], $max, 6)), $_->[1] } @cities;
	push @lines, @window ? sprintf('  5 s to %s  %s in %s cities, %d times, %s   %s', $window[0], bold($window[1]), yellow($window[2]),
		@window[3, 4], dim("late rows kept: $window[5]")) : '';
	push @lines, '';
	# what happened, the newest below
	my $first = @notes > 3 ? @notes - 3 : 0;
	push @lines, map { defined $notes[$_] ? '  ' . bold($notes[$_]) : '' } $first .. $first + 2;
	splice @lines, $rows - 1 if @lines > $rows - 1;
	print $frame_lines ? "\e[${frame_lines}A\r" : '', map({ clip($_, $columns - 1) . "\e[K\n" } @lines), "\e[J";
	$frame_lines = @lines;
	return;
}

sub plain_line {
	my @took = map { $_->[1] } @latency;
	printf "%4.0f s  topic %s events/s;  %s;  visible after p50 %s p99 %s\n", time - $begun, whole($topic_rates[-1]),
		join(', ', map {
			my $s = $stat{$_};
			$s ? "$_ $s->{state} " . whole($s->{in_rate}) . '/s, ' . whole($s->{lag}) . ' behind' : "$_ down"
		} @pipelines),
		ms(percentile(0.5, @took)), ms(percentile(0.99, @took));
	if (@alerts) {
		my ($at, $owner, $amount, $limit, $city, $took) = @{$alerts[-1]};
		printf "        newest alert: %s %s, %s in %s, limit %s, seen after %s\n", $at, $owner, $amount, $city, $limit, ms($took);
	}
	printf "        newest window: 5 s to %s, %s in %s cities, %d times, %s; late rows kept: %s\n", @window if @window;
	return;
}

# ---------------------------------------------------------------- the load

# in the background, its output in a file of run/
sub start_generator {
	my ($name, @options) = @_;
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		open my $address, '<', "$opt{dir}/kafka/address" or POSIX::_exit(1);
		chomp(my $brokers = <$address>);
		open STDOUT, '>', "$opt{dir}/run/$name.log";
		open STDERR, '>&', \*STDOUT;
		# it ends with us, however we end; 2 ms of collecting halve the work of the broker, which has only a part of a small machine
		exec 'setpriv', '--pdeathsig', 'TERM', '--', "$opt{dir}/tree/test/kafka/load", '--brokers', $brokers, '--topic', 'tx',
			'--count', 0, '--linger', 2, '--keys', 10000, '--skew', 0.5, @options or POSIX::_exit(1);
	}
	return $pid;
}

sub start_load {
	$load_pid = start_generator('load', '--rate', $opt{rate}, '--at-now', '--seed', 42);
	# its event times begin two minutes ago and go on slowly: their windows are closed
	$late_pid = start_generator('late', '--rate', $late_rate, '--seed', 43, '--event-rate', 1000,
		'--start-time', int((time - $late_s) * 1000));
	return;
}

sub stop_generator {
	my ($name, $pid) = @_;
	return 0 unless defined $pid;
	kill TERM => $pid;
	waitpid $pid, 0;
	my $status = $?;
	open my $log, '<', "$opt{dir}/run/$name.log" or die "no log of the load generator: $!\n";
	my $text = join '', <$log>;
	die "the load generator failed: $text\n" if $status != 0 || $text !~ /^load: (\d+) events/m;
	return $1;
}

# number of events that the broker has confirmed: all, and those that were sent late
sub stop_load {
	my $events = stop_generator('load', $load_pid);
	undef $load_pid;
	my $late = stop_generator('late', $late_pid);
	undef $late_pid;
	return ($events + $late, $late);
}

# ---------------------------------------------------------------- the course of things

sub stream {
	dial() // die "cannot connect to PostgreSQL; see $opt{dir}/run/psql.log\n";
	# what was in the topic before is no part of the latency
	for my $sink (qw(big_tx alert)) {
		push @offset, [(-1) x $partitions];
		$offset[-1][$_->[0]] = $_->[1] for @{must("SELECT p, max(o) FROM $sink GROUP BY p")};
	}
	$begun = time;
	start_load();
	my ($next_figures, $next_line) = ($begun + 0.3, $begun + 2);
	print "\n";
	print "\e[?25l" if $tty;
	while (!$interrupted) {
		my $now = time;
		# recovering may take the rest of the time; then we stay until it is done
		last if $now >= $begun + $opt{seconds} && (!defined $killed_at || defined $caught_up_at || $now > $begun + $opt{seconds} + 60);
		if (waitpid($load_pid, POSIX::WNOHANG()) == $load_pid) {
			undef $load_pid;
			die "the load generator ended; see $opt{dir}/run/load.log\n";
		}
		if (!defined $psql_pid) {
			$down_at //= $now;
			%stat = ();
			if (dial()) {
				$back_at = time;
				note(sprintf 'PostgreSQL has recovered and lets us in again, %.1f s after the kill', $back_at - $killed_at);
			} else {
				die "PostgreSQL does not come back; see $opt{dir}/postgres.log\n" if $now > $down_at + 60;
				sleep 0.05;
			}
		} else {
			look_at_rows();
			sleep $poll_s;
		}
		if (defined $psql_pid && $opt{kill} eq 'yes' && !defined $killed_at && $now > $begun + $opt{seconds} * 0.45) {
			kill_a_task();
			$next_figures = $now;
		}
		if (!defined $psql_pid && !defined $killed_at) { die "lost the connection to PostgreSQL; see $opt{dir}/postgres.log\n"; }
		if ($now >= $next_figures) {
			look_at_figures() if defined $psql_pid;
			frame() if $tty;
			$next_figures = $now + 0.5;
		}
		if (!$tty && $now >= $next_line) {
			plain_line();
			$next_line += 2;
		}
	}
	frame() if $tty && !$interrupted;
	return;
}

# the topic is silent now: time goes on by the clock and closes the last windows
sub wait_for_windows {
	my ($since) = @_;
	my $end = must(q{SELECT max(w.window_end) FROM (SELECT max(at) AS at FROM tx) t, streamproc.hop(t.at, '1 s', '10 s') w})->[0][0];
	my $windowed = q{FROM streamproc.stat_pipeline WHERE pipeline IN ('card_5s', 'city_10s', 'fraud')};
	# the last rows of "fraud" are answered too, and all that it has found stands in the topic
	while (must("SELECT bool_and(coalesce(watermark >= CASE pipeline WHEN 'card_5s' THEN (SELECT max(window_end) FROM streamproc.tumble('$end'::timestamptz - interval '10 s', '5 s')) ELSE '$end' END
			AND coalesce(outbox_rows, 0) = 0, false)) $windowed")->[0][0] ne 't') {
		die "the last windows are not closed\n" if time > $since + 60;
		sleep 0.05;
	}
	printf "  Silence closed the last windows after %.1f s.\n", time - $since;
	return;
}

sub compare {
	my ($streamed, $late) = @_;
	my $events = $opt{backlog} + $streamed;
	my $now = time;
	must("SELECT streamproc.wait_until_caught_up('$_', '60 s')") for @pipelines;
	printf "\n  Generator stopped after %s events, %s of them two minutes late; pipelines caught up %.0f ms later.\n", whole($streamed), whole($late),
		(time - $now) * 1000;
	wait_for_windows($now);
	printf "  Message timestamp to visible row: p50 %s, p99 %s\n  (%s rows, without the first %d s%s).\n\n", ms(percentile(0.5, @calm)),
		ms(percentile(0.99, @calm)), whole(scalar @calm), $warm_up_s, defined $killed_at ? ' and the crash' : '';
	open my $file, '<', "$opt{dir}/tree/demo/compare.sql" or die "compare.sql: $!\n";
	my $sql = join '', <$file>;
	$sql =~ s/;\s*\z//;
	must('RESET enable_seqscan; RESET plan_cache_mode; RESET jit; BEGIN ISOLATION LEVEL REPEATABLE READ');
	$now = time;
	my $rows = must($sql);
	my $seconds = time - $now;
	must('COMMIT');
	die "the comparison failed; see $opt{dir}/run/psql.log\n" if @$rows != 10;
	my $good = 1;
	print dim(sprintf '  %-12s %12s %14s %10s %8s', 'sink', 'rows', 'batch query', 'missing', 'extra'), "\n";
	for my $row (@$rows) {
		my ($name, $n, $wanted, $missing, $extra) = @$row;
		if ($name eq 'topic') {
			next if $n == $events;
			$good = 0;
			print '  ', red("the topic holds $n events, but $events were sent"), "\n";
			next;
		}
		my $equal = $n == $wanted && $missing == 0 && $extra == 0;
		$good = 0 unless $equal && $n > 0;
		my $line = sprintf '%-12s %12s %14s %10s %8s', $name, map { whole($_) } $n, $wanted, $missing, $extra;
		print '  ', $equal ? $line : red($line), '  ', $equal ? green('equal') : red('DIFFERENT'), "\n";
	}
	print '  ', $good ? green(bold('each of the ' . whole($events) . ' events exactly once: 0 missing, 0 extra')) :
		red(bold('the sinks differ from the batch queries')), dim(sprintf ' (%.1f s)', $seconds), "\n";
	return $good;
}

local $SIG{PIPE} = 'IGNORE';
local $SIG{INT} = local $SIG{TERM} = local $SIG{HUP} = sub { $interrupted = 1; };

my $good;
my $ok = eval {
	stream();
	print "\e[?25h" if $tty;
	if (!$interrupted) {
		$good = compare(stop_load());
	}
	1;
};
my $error = $@;
print "\e[?25h" if $tty;
for my $pid (grep { defined } $load_pid, $late_pid) { kill TERM => $pid; waitpid $pid, 0; }
hang_up();
exit 130 if $interrupted;
if (!$ok) { print STDERR "demo: $error"; exit 1; }
exit($good ? 0 : 1);

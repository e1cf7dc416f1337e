# Sessions: what the oracle suite does not see.  When they are given out; what bridges two of them, or comes too late; what
# outlives a stop, a kill and another number of tasks; and that nothing is left of those that have ended.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

my $epoch = 1767268800;    # 2026-01-01 12:00:00+00
value("CREATE FUNCTION sec(t timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT trim_scale((extract(epoch FROM t) - $epoch)::numeric)'");

# ---- helpers ----

sub at
{
	my ($seconds) = @_;
	my $us = sprintf('%.0f', $seconds * 1e6);
	my $whole = POSIX::floor($us / 1e6);
	return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + $whole)) . sprintf('.%06dZ"', $us - $whole * 1e6);
}

# send_rows('name', [ partition, seconds, key, value ], ...)
sub send_rows
{
	my ($name, @rows) = @_;
	return $kafka->produce($name, map { { partition => $_->[0], value => '{"at": ' . (defined $_->[1] ? at($_->[1]) : 'null') . ', "k": "' . ($_->[2] // 'a') . '", "v": ' . ($_->[3] // 1) . '}' } } @rows);
}

my %aggregates = (
	native => [ 'count(*), sum(v), max(v), count(DISTINCT v % 10)', 'n bigint, total numeric, biggest bigint, values bigint' ],
	functions => [ 'count(*), sum(v::numeric), max(v::text), string_agg(v::text, \',\' ORDER BY v)', 'n bigint, total numeric, biggest text, values text' ]);
$aggregates{cut} = $aggregates{functions};

sub select_of
{
	my ($name, $gap, $kind) = @_;
	return "SELECT k, win, $aggregates{$kind // 'native'}[0] FROM (SELECT t.k, t.v, streamproc.session(t.at, '$gap') OVER (PARTITION BY t.k ORDER BY t.at) AS win FROM ${name}_in t) s GROUP BY k, win";
}

# topic, foreign table <name>_in, sink <name>, pipeline
sub make_topic
{
	my ($name, $partitions, $columns, %options) = @_;
	my %all = (topic => $name, event_time => 'at', idle_timeout => '1 h', max_ahead => '10000 days', %options);
	$kafka->topic($name, $partitions);
	value("CREATE FOREIGN TABLE ${name}_in (at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
		  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	value("CREATE TABLE $name (k text, win tstzrange, $columns, PRIMARY KEY (k, win))");
	return;
}

sub make_pipeline
{
	my ($name, $partitions, $topic, $gap, $kind, %options) = @_;
	make_topic($name, $partitions, $aggregates{$kind}[1], %$topic);
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, $gap, $kind), %options);
	return;
}

# a[from,to) rows sum
sub rows_of { my ($name) = @_; return value("SELECT coalesce(string_agg(k || '[' || sec(lower(win)) || ',' || sec(upper(win)) || ') ' || n || ' ' || total, ', ' ORDER BY k, win), '') FROM $name") }

sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }

# the sink against the batch query over the topic; rows that came too late take no part
sub same_as_batch
{
	my ($name, $gap, $kind, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $batch = select_of('x', $gap, $kind);
	is(value(<<SQL), '0|0', $what);
WITH x_in AS MATERIALIZED (SELECT * FROM ${name}_in i WHERE i.at IS NOT NULL AND NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.partition = i.p AND l."offset" = i.o)
		AND NOT EXISTS (SELECT FROM streamproc.dead_letter d WHERE d.pipeline = '$name' AND d.partition = i.p AND d."offset" = i.o)),
	batch AS MATERIALIZED ($batch)
SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE $name) x), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE batch) x)
SQL
	return;
}

sub late { my ($name) = @_; return value("SELECT string_agg(partition || '/' || \"offset\" || ' ' || sec(event_time) || coalesce(' in ' || sec(window_start), ''), ', ' ORDER BY partition, \"offset\") FROM streamproc.late_row WHERE pipeline = '$name'") }
sub stop { my ($name, %o) = @_; value("SELECT streamproc.stop_pipeline('$name'" . ($o{drain} ? ', drain => true' : '') . ')'); value("SELECT streamproc.wait_until_stopped('$name', '60 s')"); return }
sub start { my ($name) = @_; value("SELECT streamproc.start_pipeline('$name')"); return }
sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# Each section has its own topics and pipelines: one that fails leaves the others to be seen.
sub section
{
	my ($name, $code) = @_;
	return unless picked($name);
	my $begun = time;
	eval { $code->(); 1 } or fail("$name: $@");
	$crash->reset_fault;
	eval { value('SELECT streamproc.drop_pipeline(pipeline) FROM streamproc.stat_pipeline'); 1 } or fail("$name: pipelines can be dropped: $@");
	note(sprintf '%s: %.1f s', $name, time - $begun);
	return;
}

# ---- when a session is given out ----

# Slices of a gap of 8 s are 2 s long: one is closed when the watermark has passed its end by 8 s.
# catches: a session that is given out before a row that it goes on with can come; one that does not come; a late row
section 'ends' => sub {
	make_pipeline('ends', 1, {}, '8 s', 'native');
	send_rows('ends', [ 0, 1, 'a', 1 ], [ 0, 5, 'a', 2 ], [ 0, 13.9, 'b', 5 ]);
	is(settled('ends'), '', 'no session has ended');
	send_rows('ends', [ 0, 14, 'b', 5 ]);
	is(settled('ends'), 'a[1,13) 2 3', 'the slice of its last row is over by the gap');
	send_rows('ends', [ 0, 5.9, 'a', 9 ], [ 0, 6.1, 'a', 4 ], [ 0, 22, 'b', 6 ]);
	is(settled('ends'), 'a[1,13) 2 3, a[6.1,14.1) 1 4', 'what was given out stays as it is; a row of an open slice begins another session');
	is(late('ends'), '0/4 5.9', 'a row of a slice that is closed is late, without a window');
	send_rows('ends', [ 0, 40, 'c', 1 ]);
	is(settled('ends'), 'a[1,13) 2 3, a[6.1,14.1) 1 4, b[13.9,30) 3 16', 'rows exactly the gap apart are of one session');
	stop('ends', drain => 1);
	is(rows_of('ends'), 'a[1,13) 2 3, a[6.1,14.1) 1 4, b[13.9,30) 3 16, c[40,48) 1 1', 'a drain ends what is open');
	is(value(q{SELECT count(*) FROM streamproc.state_segment WHERE pipeline = 'ends'}), '0', 'and nothing is left of it');
	start('ends');
	send_rows('ends', [ 0, 41, 'c', 1 ], [ 0, 42, 'c', 7 ], [ 0, 60, 'c', 1 ]);
	stop('ends', drain => 1);
	is(rows_of('ends'), 'a[1,13) 2 3, a[6.1,14.1) 1 4, b[13.9,30) 3 16, c[40,48) 1 1, c[42,50) 1 7, c[60,68) 1 1', 'what comes after it for its slices is late, and what comes later begins anew');
	is(late('ends'), '0/4 5.9, 0/8 41', 'late by what the drain has closed');
};

# catches: rows that come out of order and do not find their session; a row that makes one of two
section 'bridges' => sub {
	make_pipeline('bridges', 2, { watermark_delay => '100 s' }, '8 s', 'functions', parallelism => 2);
	send_rows('bridges', [ 0, 20, 'a', 3 ], [ 1, 1, 'a', 1 ], [ 0, 40, 'b', 1 ], [ 1, 48.000001, 'b', 2 ], [ 0, 60, 'c', 1 ], [ 1, 70, 'c', 2 ]);
	is(settled('bridges'), '', 'all wait');
	send_rows('bridges', [ 1, 9, 'a', 10 ], [ 0, 14, 'a', 20 ], [ 0, 65, 'c', 4 ]);
	send_rows('bridges', [ 0, 250, 'x', 1 ], [ 1, 250, 'x', 1 ]);
	is(settled('bridges'), 'a[1,28) 4 34, b[40,48) 1 1, b[48.000001,56.000001) 1 2, c[60,78) 3 7', 'rows between two sessions make one of them; a microsecond more than the gap does not');
	stop('bridges', drain => 1);
	same_as_batch('bridges', '8 s', 'functions', 'and all of it is what the batch query gives');
};

# catches: a session that is cut at another row than in the batch; what is left of it
section 'spans' => sub {
	make_pipeline('spans', 1, { watermark_delay => '10 s' }, q{8 s', max_span => '10 s}, 'functions');
	send_rows('spans', [ 0, 1, 'a', 1 ], [ 0, 8, 'a', 2 ], [ 0, 15, 'a', 3 ], [ 0, 11, 'a', 4 ], [ 0, 10.999999, 'a', 5 ], [ 0, 21, 'a', 6 ], [ 0, 25, 'a', 7 ], [ 0, 60, 'b', 1 ]);
	is(settled('spans'), 'a[1,18.999999) 3 8, a[11,23) 2 7, a[21,33) 2 13', 'each session begins with the first row that is so long after the first one of the last');
	stop('spans', drain => 1);
	same_as_batch('spans', q{8 s', max_span => '10 s}, 'functions', 'as the batch query does');
	is(value(q{SELECT count(*) FROM streamproc.state_segment WHERE pipeline = 'spans'}), '0', 'nothing is left');
};

# catches: lateness that does not wait, rows that come in time and are late
section 'lateness' => sub {
	make_pipeline('lateness', 1, {}, '8 s', 'native', allowed_lateness => '20 s', late => 'drop');
	send_rows('lateness', [ 0, 1, 'a', 1 ], [ 0, 29.9, 'b', 1 ]);
	is(settled('lateness'), '', 'it is given out only when its time for late rows is over');
	send_rows('lateness', [ 0, 1.5, 'a', 2 ], [ 0, 9, 'a', 3 ], [ 0, 30, 'b', 1 ], [ 0, 46, 'b', 1 ]);
	is(settled('lateness'), 'a[1,17) 3 6', 'late rows are in it');
	send_rows('lateness', [ 0, 2, 'a', 2 ]);
	wait_caught_up($node, 'lateness');
	is(value(q{SELECT late_rows FROM streamproc.stat_pipeline WHERE pipeline = 'lateness'}), '1', 'too late is counted');
	is(late('lateness'), '', 'and dropped');
	value(q{SELECT streamproc.alter_pipeline('lateness', allowed_lateness => '1 h')});
	send_rows('lateness', [ 0, 2, 'a', 2 ], [ 0, 20, 'c', 5 ], [ 0, 100, 'd', 5 ]);
	stop('lateness', drain => 1);
	is(rows_of('lateness'), 'a[1,17) 3 6, b[29.9,38) 2 2, b[46,54) 1 1, c[20,28) 1 5, d[100,108) 1 5', 'more lateness opens nothing that was given out');
};

# ---- random rows, and all that makes tasks begin anew ----

# catches: sessions that are lost, doubled or cut by a kill, a stop, another number of tasks
section 'grow' => sub {
	for my $kind (qw(native functions cut))
	{
		my $name = "grow_$kind";
		my $gap = $kind eq 'cut' ? q{5 s', max_span => '12 s} : '5 s';
		make_pipeline($name, 4, { watermark_delay => '3 s' }, $gap, $kind, parallelism => 1);
		my $now = 0;
		my $more = sub {
			my ($rows, $keys) = @_;
			my @rows;
			for (1 .. $rows)
			{
				$now += rand(0.05);
				push @rows, [ int(rand(4)), $now - rand(2.9), 'k' . int(rand($keys)), int(rand(1000)) - 500 ];
			}
			# nobody is behind the others by more than the delay
			push @rows, map { [ $_, $now, "p$_", 0 ] } 0 .. 3;
			send_rows($name, @rows);
			return;
		};
		$more->(1000, 50);
		wait_caught_up($node, $name);
		stop($name);
		value("SELECT streamproc.alter_pipeline('$name', parallelism => 4)");
		start($name);
		$more->(1500, 400);
		for my $what ($kind eq 'native' ? ('task', 'launcher', 'postmaster') : ('task', 'task'))
		{
			my $position = "SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name'";
			my $before = value($position);
			$more->(600, 100);
			wait_query($node, "SELECT ($position) > $before", 't', 60);
			if ($what eq 'postmaster')
			{
				crash_postmaster($node);
				$node->start;
			}
			else
			{
				my $pid = value("SELECT pid FROM streamproc.stat_worker WHERE pipeline = '$name' AND role = '$what' AND pid IS NOT NULL ORDER BY pid LIMIT 1");
				if ($pid) { crash_worker($pid) }
			}
			wait_query($node, 'SELECT 1', 1, 60);
		}
		value("SELECT streamproc.wait_until_caught_up('$name', '120 s')");
		stop($name);
		value("SELECT streamproc.alter_pipeline('$name', parallelism => 2)");
		start($name);
		$more->(1000, 30);
		stop($name, drain => 1);
		is(late($name), '', "$kind: nothing is late");
		same_as_batch($name, $gap, $kind, "$kind: after kills, stops and other numbers of tasks the sessions are those of the batch query");
	}
};

# catches: a fault between what goes on in a later pane and the commit of the epoch that closes the earlier one
section 'faults' => sub {
	make_pipeline('faults', 2, {}, '1 s', 'functions', parallelism => 2);
	my $n = 0;
	for my $point (qw(session-pass session-passed barrier-cut keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied/;
			my $more = sub {
				send_rows('faults', map { [ $_ % 2, $n + $_ / 10, 'k' . $_ % 7, $_ ] } 1 .. 40);
				$n += 4;
				return;
			};
			ok($crash->provoke($point, $action, $more), "$point, $action: it hits");
			$crash->reset_fault;
			wait_query($node, 'SELECT 1', 1, 60);
			$crash->catch_up('faults');
		}
	}
	stop('faults', drain => 1);
	same_as_batch('faults', '1 s', 'functions', 'nothing is lost or doubled');
};

# catches: many slices that are closed in one epoch, whose sessions go on through all of them
section 'backlog' => sub {
	make_topic('backlog', 2, $aggregates{native}[1], watermark_delay => '1 min');
	my @now = (0, 0);
	send_rows('backlog', map { my $p = $_ % 2; $now[$p] += rand(20); [ $p, $now[$p] + rand(50), 'k' . int(rand(12)), $_ ] } 1 .. 4000);
	create_pipeline($node, 'backlog', 'INSERT INTO backlog ' . select_of('backlog', '2 min', 'native'), parallelism => 2);
	stop('backlog', drain => 1);
	is(late('backlog'), '', 'nothing is late');
	same_as_batch('backlog', '2 min', 'native', 'hours of rows in a few epochs');
};

# ---- what goes ----

# catches: sessions that are open for ever; entries that are left of them
section 'freed' => sub {
	make_pipeline('freed', 2, { idle_timeout => '1 s' }, '1 s', 'native', parallelism => 1);
	send_rows('freed', map { [ $_ % 2, $_ / 100, 'k' . $_ % 10, $_ ] } 1 .. 2000);
	# the clock goes on where the topic is silent
	wait_query($node, q{SELECT sum(n) FROM freed}, 2000, 60);
	wait_query($node, q{SELECT panes, keys, bytes FROM streamproc.stat_operator WHERE pipeline = 'freed'}, '0|0|0', 60);
	pass('silence ends sessions, and nothing is left of them');
	is(value(q{SELECT kind, rows_in, rows_out, fired_windows FROM streamproc.stat_operator WHERE pipeline = 'freed'}), 'session|2000|10|10', 'the view counts sessions');
	same_as_batch('freed', '1 s', 'native', 'and all of it was right');
};

# ---- bad rows, errors ----

section 'errors' => sub {
	make_pipeline('errors', 1, {}, '8 s', 'native');
	send_rows('errors', [ 0, 1, 'a', 1 ], [ 0, undef, 'a', 5 ], [ 0, 2, 'a', 2 ], [ 0, 50, 'b', 1 ]);
	is(settled('errors'), 'a[1,10) 2 3', 'a row without event time is left out');
	is(value(q{SELECT "offset" || ' ' || sqlstate FROM streamproc.dead_letter WHERE pipeline = 'errors'}), '1 22004', 'it is a dead letter');

	# an aggregate that throws: the one message is to blame
	value(q{CREATE FUNCTION add_but_13(a bigint, b bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF b = 13 THEN RAISE ''unlucky''; END IF; RETURN a + b; END';
		CREATE FUNCTION add_up(a bigint, b bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF a + b > 1000 THEN RAISE ''too much'' USING ERRCODE = ''22003''; END IF; RETURN a + b; END';
		CREATE AGGREGATE total_but_13(bigint) (sfunc = add_but_13, stype = bigint, initcond = '0', combinefunc = add_up)});
	make_topic('careful', 1, 'total bigint');
	create_pipeline($node, 'careful', q{INSERT INTO careful SELECT k, win, total_but_13(v) FROM (SELECT t.k, t.v, streamproc.session(t.at, '8 s') OVER (PARTITION BY t.k ORDER BY t.at) AS win FROM careful_in t) s GROUP BY k, win});
	send_rows('careful', [ 0, 1, 'a', 1 ], [ 0, 3, 'a', 13 ], [ 0, 6, 'a', 2 ], [ 0, 50, 'b', 1 ]);
	wait_caught_up($node, 'careful');
	is(value(q{SELECT string_agg(k || sec(lower(win)) || '-' || sec(upper(win)) || ' ' || total, ', ') FROM careful}), 'a1-14 3', 'the message at which an aggregate throws makes no session');
	is(value(q{SELECT string_agg("offset" || ' ' || message, ', ') FROM streamproc.dead_letter WHERE pipeline = 'careful'}), '1 unlucky', 'it is a dead letter');

	# two states that cannot be put together are no message's fault
	send_rows('careful', [ 0, 60, 'a', 700 ], [ 0, 66, 'a', 700 ], [ 0, 100, 'b', 1 ]);
	wait_state($node, 'careful', 'failed');
	is(value(q{SELECT sqlstate || ' ' || reason FROM streamproc.stat_pipeline WHERE pipeline = 'careful'}), '22003 too much', 'what throws when sessions are put together fails the pipeline');
	value(q{CREATE OR REPLACE FUNCTION add_up(a bigint, b bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT a + b'});
	start('careful');
	stop('careful', drain => 1);
	is(value(q{SELECT string_agg(k || sec(lower(win)) || ' ' || total, ', ' ORDER BY win) FROM careful}), 'a1 3, b50 1, a60 1400, b100 1', 'and it goes on when that is mended');
};

# ---- options, topics ----

section 'options' => sub {
	make_pipeline('options', 1, {}, '1 min', 'native');
	send_rows('options', [ 0, 1 ], [ 0, 2 ]);
	wait_caught_up($node, 'options');
	my $query = sub { my ($gap) = @_; return "'INSERT INTO options " . (select_of('options', $gap, 'native') =~ s/'/''/gr) . "'" };
	like(error_of('SELECT streamproc.create_pipeline(\'x\', ' . $query->('1 min') . q{, emit => 'changes')}), qr/0A000: a session is given out once.*HINT/s, 'emit');
	like(error_of('SELECT streamproc.alter_pipeline(\'options\', query => ' . $query->('2 min') . ')'), qr/0A000: the state of pipeline "options" does not fit the new query/, 'another gap does not fit the state');
	value('SELECT streamproc.alter_pipeline(\'options\', query => ' . $query->('1 min') . ')');
	like(value('SELECT string_agg(plan, \' \') FROM streamproc.check_pipeline(' . $query->('1 min') . ')'), qr/Windows: session.*Gap: 00:01:00.*count: native/s, 'check_pipeline shows the operator');
	stop('options', drain => 1);
	same_as_batch('options', '1 min', 'native', 'the same query again goes on');
};

section 'topic' => sub {
	make_topic('through', 2, 'n bigint');
	$kafka->topic('sessions', 2);
	value(q{CREATE FOREIGN TABLE sessions (k text, begins timestamptz, n bigint) SERVER kafka OPTIONS (topic 'sessions', key 'k')});
	create_pipeline($node, 'through', q{INSERT INTO sessions SELECT k, lower(win), count(*) FROM (SELECT t.k, streamproc.session(t.at, '2 s') OVER (PARTITION BY t.k ORDER BY t.at) AS win FROM through_in t) s GROUP BY k, win HAVING count(*) > 1});
	send_rows('through', map { [ $_ % 2, $_, 'k' . $_ % 2, 1 ] } 1 .. 10);
	send_rows('through', [ 0, 20, 'x' ], [ 1, 20, 'x' ]);
	stop('through', drain => 1);
	wait_query($node, q{SELECT string_agg(k || ' ' || sec(begins) || ' ' || n, ', ' ORDER BY k) FROM sessions}, 'k0 2 5, k1 1 5, x 20 2', 60);
	pass('sessions into a topic');
};

done_testing();

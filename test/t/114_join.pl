# Joins of two topics: what the oracle suite does not see.  When pairs and rows without a partner are given out; what
# comes too late; what outlives a stop, a kill and another number of tasks; that what nobody needs any more goes; what is
# refused.
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
my $next_id = 0;
value("CREATE FUNCTION sec(t timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT trim_scale((extract(epoch FROM t) - $epoch)::numeric)'");

# ---- helpers ----

sub at
{
	my ($seconds) = @_;
	my $us = sprintf('%.0f', $seconds * 1e6);
	my $whole = POSIX::floor($us / 1e6);
	return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + $whole)) . sprintf('.%06dZ"', $us - $whole * 1e6);
}

# send_rows('name', [ side, partition, seconds, key, value ], ...): side 'a' or 'b'
sub send_rows
{
	my ($name, @rows) = @_;
	for my $side ('a', 'b')
	{
		my @mine = map { { partition => $_->[1], value => '{"id": ' . ++$next_id . ', "at": ' . at($_->[2]) . ', "k": ' . (defined $_->[3] ? qq{"$_->[3]"} : 'null') . ', "v": ' . ($_->[4] // 1) . '}' } } grep { $_->[0] eq $side } @rows;
		$kafka->produce("${name}_$side", @mine) if @mine;
	}
	return;
}

# topics and foreign tables <name>_a and <name>_b, sink <name>
sub make_topics
{
	my ($name, $partitions, %options) = @_;
	for my $side ('a', 'b')
	{
		my %all = (topic => "${name}_$side", event_time => 'at', idle_timeout => '1 h', max_ahead => '10000 days', %options);
		$kafka->topic("${name}_$side", $partitions);
		value("CREATE FOREIGN TABLE ${name}_$side (id bigint, at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
			  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	}
	value("CREATE TABLE $name (a bigint, b bigint, k text, a_at timestamptz, b_at timestamptz)");
	return;
}

sub select_of
{
	my ($name, $join, $from, $to, $a, $b) = @_;
	$a //= "${name}_a";
	$b //= "${name}_b";
	return "SELECT a.id, b.id, coalesce(a.k, b.k), a.at, b.at FROM $a a $join b_ b ON a.k = b.k AND b.at BETWEEN a.at - interval '$from' AND a.at + interval '$to'" =~ s/b_ b/$b b/r;
}

sub make_pipeline
{
	my ($name, $partitions, $topic, $join, $from, $to, %options) = @_;
	make_topics($name, $partitions, %$topic);
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, $join, $from, $to), %options);
	return;
}

sub rows_of { my ($name) = @_; return value("SELECT string_agg(coalesce(k, 'null') || ' ' || coalesce(sec(a_at)::text, '-') || ' ' || coalesce(sec(b_at)::text, '-'), ', ' ORDER BY k, a_at, b_at) FROM $name") }

sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }

# the sink against the batch query over the topics; rows that came too late take no part
sub same_as_batch
{
	my ($name, $select, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $with = join(', ', map { "x_$_ AS MATERIALIZED (SELECT * FROM ${name}_$_ i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.topic = '${name}_$_' AND l.partition = i.p AND l.\"offset\" = i.o))" } 'a', 'b');
	is(value(<<SQL), '0|0', $what);
WITH $with, batch AS MATERIALIZED ($select)
SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE $name) x), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE batch) x)
SQL
	return;
}

sub late { my ($name) = @_; return value("SELECT string_agg(topic || ' ' || sec(event_time) || coalesce(' in ' || sec(window_start), ''), ', ' ORDER BY topic, event_time) FROM streamproc.late_row WHERE pipeline = '$name'") }
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

# ---- pairs ----

# catches: a pair that waits for the watermark, or that the order of arrival hides; borders of the interval; null keys
section 'inner' => sub {
	make_pipeline('inner_', 2, {}, 'JOIN', '5 s', '10 s', parallelism => 2);
	send_rows('inner_', [ 'a', 0, 10, 'x' ], [ 'a', 1, 10, 'y' ]);
	is(settled('inner_'), '', 'no partner yet');
	send_rows('inner_', [ 'b', 1, 20, 'x' ], [ 'b', 0, 5, 'x' ], [ 'b', 0, 4.999999, 'x' ], [ 'b', 1, 20.000001, 'x' ], [ 'b', 0, 12, 'z' ], [ 'b', 0, 12, undef ], [ 'a', 0, 12, undef ]);
	is(settled('inner_'), 'x 10 5, x 10 20', 'pairs are given out at once, with both borders of the interval');
	send_rows('inner_', [ 'a', 1, 15, 'x' ], [ 'a', 0, 30, 'x' ]);
	is(settled('inner_'), 'x 10 5, x 10 20, x 15 20, x 15 20.000001', 'later rows of either side find those that were there');
	stop('inner_', drain => 1);
	same_as_batch('inner_', select_of('x', 'JOIN', '5 s', '10 s'), 'as the batch query');
};

# catches: a row without partner that comes too soon, too late, twice, or not at all
section 'left' => sub {
	make_pipeline('left_', 1, {}, 'LEFT JOIN', '2 s', '10 s');
	send_rows('left_', [ 'a', 0, 10, 'x' ], [ 'a', 0, 11, 'y' ], [ 'a', 0, 12, undef ], [ 'b', 0, 12, 'x' ]);
	is(settled('left_'), 'x 10 12, null 12 -', 'a null finds nobody, and need not wait');
	send_rows('left_', [ 'a', 0, 40, 'z' ], [ 'b', 0, 20.99, 'q' ]);
	is(settled('left_'), 'x 10 12, null 12 -', 'a partner could still come');
	send_rows('left_', [ 'b', 0, 21.1, 'q' ]);
	is(settled('left_'), 'x 10 12, y 11 -, null 12 -', 'now it cannot: the row is given out alone');
	send_rows('left_', [ 'b', 0, 20.5, 'y' ]);
	is(settled('left_'), 'x 10 12, y 11 -, null 12 -', 'who comes then is late');
	is(late('left_'), 'left__b 20.5', '... and stands in late_row, without a window');
	stop('left_', drain => 1);
	is(rows_of('left_'), 'x 10 12, y 11 -, z 40 -, null 12 -', 'drained, all have been given out');
	same_as_batch('left_', select_of('x', 'LEFT JOIN', '2 s', '10 s'), 'as the batch query');
	start('left_');
	send_rows('left_', [ 'a', 0, 60, 'z' ], [ 'b', 0, 59, 'z' ], [ 'b', 0, 45, 'z' ]);
	stop('left_', drain => 1);
	same_as_batch('left_', select_of('x', 'LEFT JOIN', '2 s', '10 s'), 'what comes after that goes on, or is late');
	is(late('left_'), 'left__b 20.5, left__b 45', 'for a row that was given out alone');
};

section 'full' => sub {
	make_pipeline('full_', 2, {}, 'FULL JOIN', '10 s', '-2 s', parallelism => 2);
	send_rows('full_', [ 'a', 0, 20, 'x' ], [ 'b', 1, 18, 'x' ], [ 'b', 0, 18.000001, 'x' ], [ 'b', 0, 10, 'x' ], [ 'b', 1, 9, 'x' ], [ 'a', 1, 19, 'y' ], [ 'b', 1, 12, undef ]);
	stop('full_', drain => 1);
	is(rows_of('full_'), 'x 20 10, x 20 18, x - 9, x - 18.000001, y 19 -, null - 12', 'an interval that ends before the row');
	same_as_batch('full_', select_of('x', 'FULL JOIN', '10 s', '-2 s'), 'as the batch query');
};

# catches: a row that was given out alone while others wait in a longer pane, and in a pair in the next run, as allowed_lateness is longer
section 'longer lateness' => sub {
	make_pipeline('longer_', 1, {}, 'LEFT JOIN', '10 s', '-5 s');
	# W goes on by 40 s in one epoch, so that what waits then does so in a pane of 10 s
	for my $rows ([ [ 'a', 0, 63.5, 'q' ], [ 'b', 0, 63.5, 'r' ] ], [ [ 'a', 0, 109.02, 'x' ] ], [ [ 'b', 0, 103.5, 'r' ] ], [ [ 'a', 0, 111, 'x' ] ], [ [ 'b', 0, 105, 'r' ] ], [ [ 'a', 0, 109.5, 'x' ] ])
	{
		send_rows('longer_', @$rows);
		settled('longer_');
	}
	is(rows_of('longer_'), 'q 63.5 -, x 109.5 -', 'one row is given out alone before another one whose partners could not come any more, either');
	stop('longer_');
	value(q{SELECT streamproc.alter_pipeline('longer_', allowed_lateness => '1 h')});
	start('longer_');
	send_rows('longer_', [ 'b', 0, 104.45, 'x' ]);
	stop('longer_', drain => 1);
	is(late('longer_'), 'longer__b 104.45', 'its partner stays late');
	is(rows_of('longer_'), 'q 63.5 -, x 109.02 -, x 109.5 -, x 111 -', 'each is given out once');
	same_as_batch('longer_', select_of('x', 'LEFT JOIN', '10 s', '-5 s'), 'as the batch query');
};

# ---- random rows, and all that makes tasks begin anew ----

# catches: state that is lost or doubled, a flag or a note that is, rows of both topics out of step
section 'grow' => sub {
	make_pipeline('grow', 2, { watermark_delay => '3 s' }, 'FULL JOIN', '20 s', '10 s', parallelism => 1);
	my ($now, $phase) = (0, 0);
	my $more = sub {
		my ($rows, $keys) = @_;
		my @rows;
		for (1 .. $rows)
		{
			$now += rand(0.05);
			push @rows, [ ('a', 'b')[ int(rand(2)) ], int(rand(2)), $now - rand(2.9), rand() < 0.02 ? undef : 'k' . int(rand($keys)) ];
		}
		# nobody is behind the others by more than the delay
		push @rows, map { my $p = $_; map { [ $_, $p, $now, "p$p" ] } 'a', 'b' } 0, 1;
		send_rows('grow', @rows);
		return;
	};
	$more->(1000, 50);
	wait_caught_up($node, 'grow');
	stop('grow');
	value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 4)});
	start('grow');
	$more->(1500, 400);
	for my $what ('task', 'launcher', 'postmaster', 'task')
	{
		my $position = q{SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'grow'};
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
			my $pid = value("SELECT pid FROM streamproc.stat_worker WHERE pipeline = 'grow' AND role = '$what' AND pid IS NOT NULL ORDER BY pid LIMIT 1");
			if ($pid) { crash_worker($pid) }
		}
		wait_query($node, 'SELECT 1', 1, 60);
	}
	value(q{SELECT streamproc.wait_until_caught_up('grow', '120 s')});
	stop('grow');
	value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 2)});
	start('grow');
	$more->(1000, 30);
	stop('grow', drain => 1);
	is(late('grow'), '', 'nothing is late');
	same_as_batch('grow', select_of('x', 'FULL JOIN', '20 s', '10 s'), 'after kills, stops and other numbers of tasks: the batch query');
};

# catches: a fault between giving rows out and the commit of what was given out
section 'faults' => sub {
	make_pipeline('faults', 2, {}, 'LEFT JOIN', '2 s', '2 s', parallelism => 2);
	my $n = 0;
	for my $point (qw(operator-apply over-release over-released keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied|apply/;
			my $more = sub {
				send_rows('faults', map { my $i = $_; map { [ $_, $i % 2, $n + $i / 10, 'k' . ($_ eq 'a' ? $i % 7 : $i % 5) ] } 'a', 'b' } 1 .. 40);
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
	same_as_batch('faults', select_of('x', 'LEFT JOIN', '2 s', '2 s'), 'nothing is lost or doubled');
};

# catches: a backlog in which each row would be a slice of its own, and rows wait in longer slices
section 'sparse' => sub {
	make_pipeline('sparse', 1, { watermark_delay => '1 min' }, 'FULL JOIN', '10 s', '5 min', parallelism => 2);
	my %now = (a => 0, b => 0);
	send_rows('sparse', map { my $s = ('a', 'b')[ $_ % 2 ]; $now{$s} += rand(120); [ $s, 0, $now{$s} + rand(50), 'k' . int(rand(3)) ] } 1 .. 4000);
	stop('sparse', drain => 1);
	is(late('sparse'), '', 'nothing is late');
	same_as_batch('sparse', select_of('x', 'FULL JOIN', '10 s', '5 min'), 'days of rows in a few epochs');
};

# ---- what goes ----

# catches: rows that are kept for ever, of either side, matched or not
section 'freed' => sub {
	make_pipeline('freed', 1, { idle_timeout => '1 s' }, 'LEFT JOIN', '1 s', '2 s', parallelism => 1);
	send_rows('freed', map { [ ('a', 'b')[ $_ % 2 ], 0, $_ / 100, 'k' . int(rand(300)) ] } 1 .. 2000);
	# the clock goes on where the topics are silent
	wait_query($node, 'SELECT count(DISTINCT a) FROM freed', 1000, 60);
	wait_query($node, q{SELECT panes, keys, bytes FROM streamproc.stat_operator WHERE pipeline = 'freed'}, '0|0|0', 60);
	pass('silence gives out what is alone, and then nothing is kept: no rows, no bytes');
	same_as_batch('freed', select_of('x', 'LEFT JOIN', '1 s', '2 s'), 'and all of it was right');
	like(value(q{SELECT kind, aggregates, rows_in, rows_out > 0, late_rows FROM streamproc.stat_operator WHERE pipeline = 'freed'}),
		qr/^join\|left join, left rows kept for 00:00:02.75, right rows kept for 00:00:01.75\|2000\|t\|0$/, 'the view shows the join');
};

# catches: a row that comes to a join that needs no waiting, but behind what was freed
section 'late' => sub {
	make_pipeline('late_', 1, {}, 'JOIN', '5 s', '5 s', allowed_lateness => '2 s');
	send_rows('late_', [ 'a', 0, 10, 'x' ], [ 'b', 0, 10, 'y' ], [ 'a', 0, 30, 'x' ], [ 'b', 0, 30, 'y' ]);
	is(settled('late_'), '', 'no pairs yet');
	send_rows('late_', [ 'b', 0, 28.5, 'x' ], [ 'a', 0, 27.8, 'y' ], [ 'b', 0, 9, 'x' ]);
	is(settled('late_'), 'x 30 28.5', 'behind the watermark, but within allowed_lateness');
	is(late('late_'), 'late__a 27.8, late__b 9', 'what is later stands in late_row');
	same_as_batch('late_', select_of('x', 'JOIN', '5 s', '5 s'), 'as the batch query without it');
	# catches: a row in time by an allowed_lateness that was raised, whose partner went before
	stop('late_');
	value(q{SELECT streamproc.alter_pipeline('late_', allowed_lateness => '1 h')});
	start('late_');
	send_rows('late_', [ 'b', 0, 12, 'x' ], [ 'b', 0, 29, 'x' ]);
	is(settled('late_'), 'x 30 28.5, x 30 29', 'what was freed is not asked for');
	is(late('late_'), 'late__a 27.8, late__b 9, late__b 12', 'who might have been its partner is late');
};

# One key has nearly all rows: a row must not look at more of them than its interval holds.
section 'hot' => sub {
	make_pipeline('hot', 1, {}, 'JOIN', '0 s', '100 ms', parallelism => 1);
	my $begun = time;
	send_rows('hot', map { ([ 'a', 0, $_ / 20, 'hot' ], [ 'b', 0, $_ / 20 + 0.01, 'hot' ]) } 1 .. 20000);
	value(q{SELECT streamproc.wait_until_caught_up('hot', '60 s')});
	same_as_batch('hot', select_of('x', 'JOIN', '0 s', '100 ms'), 'as the batch query');
	is(value(q{SELECT count(*) FROM hot}), 20000 * 2 - 1, 'pairs of one key');
};

# ---- rights, options, texts ----

section 'options' => sub {
	make_pipeline('options', 1, {}, 'LEFT JOIN', '5 s', '10 s');
	send_rows('options', [ 'a', 0, 1, 'x' ], [ 'b', 0, 2, 'y' ]);
	wait_caught_up($node, 'options');
	my $query = sub { return 'INSERT INTO options ' . (select_of('options', @_) =~ s/'/''/gr) };
	like(error_of("SELECT streamproc.alter_pipeline('options', query => '" . $query->('LEFT JOIN', '5 s', '11 s') . "')"), qr/0A000: the state of pipeline "options" does not fit the new query/, 'another interval does not fit the state');
	like(error_of("SELECT streamproc.alter_pipeline('options', query => '" . $query->('JOIN', '5 s', '10 s') . "')"), qr/0A000: the state of pipeline "options" does not fit the new query/, 'nor does another join');
	value("SELECT streamproc.alter_pipeline('options', query => '" . $query->('LEFT JOIN', '5 s', '10 s') . " WHERE a.v < 5')");
	send_rows('options', [ 'a', 0, 3, 'y', 1 ], [ 'a', 0, 4, 'y', 7 ]);
	stop('options', drain => 1);
	is(rows_of('options'), 'x 1 -, y 3 2', 'the same query with a condition goes on with what it has kept');
};

# A condition that looks at both sides belongs to no single message.
# catches: one pair that stops the pipeline, or that two rows are partners by which are none
section 'throws' => sub {
	make_topics('throws', 2);
	value('CREATE TABLE throws_fail (LIKE throws)');
	my $select = select_of('throws', 'LEFT JOIN', '5 s', '10 s') . ' AND 10 / (a.v - b.v) > 0';
	create_pipeline($node, 'throws', "INSERT INTO throws $select", parallelism => 2);
	create_pipeline($node, 'throws_fail', "INSERT INTO throws_fail $select", on_error => 'fail');
	send_rows('throws', [ 'a', 0, 1, 'x', 1 ], [ 'b', 0, 2, 'x', 1 ], [ 'a', 1, 2, 'y', 5 ], [ 'b', 1, 1, 'y', 5 ], [ 'b', 1, 2, 'y', 7 ], [ 'b', 0, 3, 'y', 2 ], (map { [ 'a', $_ % 2, 3 + $_ / 100, 'z', $_ ] } 1 .. 100), [ 'b', 0, 3, 'z', 50 ]);
	wait_caught_up($node, 'throws');
	is(value(q{SELECT string_agg(kind || ' ' || sqlstate || ' ' || coalesce(topic, '-') || ' ' || ("row"->>'left.id' IS NOT NULL) || ' ' || ("row"->>'left.k') || ' ' || ("row"->>'right.v'), ', ' ORDER BY "row"->>'left.k') FROM streamproc.dead_letter WHERE pipeline = 'throws'}),
		'output 22012 - true x 1, output 22012 - true y 5, output 22012 - true z 50', 'a pair for which the condition throws is a dead letter, with the columns of both sides');
	stop('throws', drain => 1);
	same_as_batch('throws', select_of('x', 'LEFT JOIN', '5 s', '10 s') . ' AND CASE WHEN a.v <> b.v THEN 10 / (a.v - b.v) > 0 END', 'the two are no partners of each other, and of others as they would be');
	wait_query($node, q{SELECT state, sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'throws_fail'}, 'failed|22012', 60);
	pass('on_error fail: the pipeline fails');
};

done_testing();

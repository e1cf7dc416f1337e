# As-of joins of two topics: what the oracle suite does not see.  When a row is answered, and that it is for good; which of
# several versions of one instant is found; what comes too late; what outlives a stop, a kill and another number of tasks;
# that one version per key is kept, and none after state_ttl; what is refused, where and with which hint.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use Streamproc::Crash;
use Streamproc::Events;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);
my $events = Streamproc::Events->new($node, $kafka, $crash);

sub value { return $events->value($_[0]) }

# ---- helpers: orders stand in topic <name>_o, versions in <name>_r; seconds, keys and values as in Streamproc::Events ----

# send_rows('name', [ side, partition, seconds, key, value ], ...): side 'o' or 'r'
sub send_rows
{
	my ($name, @rows) = @_;
	for my $side ('r', 'o')
	{
		my @mine = map { [ @$_[ 1 .. $#$_ ] ] } grep { $_->[0] eq $side } @rows;
		$events->send_rows("${name}_$side", @mine) if @mine;
	}
	return;
}

sub make_topics
{
	my ($name, $partitions, %options) = @_;
	$events->make_topic("${name}_$_", $partitions, %options) for 'o', 'r';
	value("CREATE TABLE $name (k text, at timestamptz, v bigint, rate bigint, since timestamptz)");
	return;
}

# %how: join ('LEFT JOIN'), before ('r.at <= o.at'), and (more of WHERE), order (behind the time), where (above)
sub select_of
{
	my ($orders, $versions, %how) = @_;
	my $join = $how{join} // 'LEFT JOIN';
	my $before = $how{before} // 'r.at <= o.at';
	my $order = $how{order} // 'r.p DESC, r.o DESC';
	return "SELECT o.k, o.at, o.v, r.v, r.at FROM $orders o $join LATERAL (SELECT r.v, r.at FROM $versions r WHERE r.k = o.k AND $before"
	  . ($how{and} ? " AND $how{and}" : '') . ' ORDER BY r.at DESC' . ($order ? ", $order" : '') . ' LIMIT 1) r ON true' . ($how{where} ? " WHERE $how{where}" : '');
}

sub insert { my ($name, %how) = @_; return "INSERT INTO $name " . select_of("${name}_o_in", "${name}_r_in", %how) }

sub make_pipeline
{
	my ($name, $partitions, $topic, $how, %options) = @_;
	make_topics($name, $partitions, %$topic);
	create_pipeline($node, $name, insert($name, %$how), %options);
	return;
}

# key, second, second of the version, its value
sub rows_of { my ($name) = @_; return value("SELECT string_agg(k || ' ' || sec(at) || ' ' || coalesce(sec(since) || '/' || rate, '-'), ', ' ORDER BY k, at, v) FROM $name") }

sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }

# the batch query over the topics; rows that came too late take no part
sub batch
{
	my ($name, %how) = @_;
	my $with = join(', ', map { "x_$_ AS MATERIALIZED (SELECT * FROM ${name}_${_}_in i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.topic = '${name}_$_' AND l.partition = i.p AND l.\"offset\" = i.o))" } 'o', 'r');
	return "WITH $with " . select_of('x_o', 'x_r', %how);
}

sub same_as_batch
{
	my ($name, $how, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $events->same_rows($name, batch($name, %$how), $what);
}

sub late { my ($name) = @_; return value("SELECT string_agg(topic || ' ' || sec(event_time) || coalesce(' in ' || sec(window_start), ''), ', ' ORDER BY topic, event_time) FROM streamproc.late_row WHERE pipeline = '$name'") }
sub kept { my ($name) = @_; return "SELECT keys FROM streamproc.stat_operator WHERE pipeline = '$name'" }

# ---- which version, and when ----

# catches: a row that is answered before the watermark has passed it, or again; a version that comes late and is used
$events->section('left', sub {
	make_pipeline('left_', 1, {}, {});
	send_rows('left_', [ 'r', 0, 10, 'x', 100 ], [ 'r', 0, 20, 'x', 200 ], [ 'o', 0, 9, 'x' ], [ 'o', 0, 10, 'x' ], [ 'o', 0, 15, 'x' ], [ 'o', 0, 16, 'y' ], [ 'o', 0, 20, 'x' ]);
	is(settled('left_'), 'x 9 -, x 10 10/100, x 15 10/100, y 16 -', 'rows that W has passed, with the version of their instant or the last one before; the others wait');
	send_rows('left_', [ 'o', 0, 30, 'x' ]);
	is(settled('left_'), 'x 9 -, x 10 10/100, x 15 10/100, y 16 -', 'W is that of both topics: a version could still come');
	send_rows('left_', [ 'r', 0, 25, 'x', 250 ]);
	is(settled('left_'), 'x 9 -, x 10 10/100, x 15 10/100, x 20 20/200, y 16 -', 'now it cannot');
	send_rows('left_', [ 'r', 0, 12, 'x', 120 ], [ 'r', 0, 17, 'y', 170 ], [ 'r', 0, 40, 'z', 400 ], [ 'o', 0, 18, 'x' ], [ 'o', 0, 31, 'z' ]);
	is(settled('left_'), 'x 9 -, x 10 10/100, x 15 10/100, x 20 20/200, x 30 25/250, y 16 -', 'what comes late changes nothing, and is not answered');
	is(late('left_'), 'left__o 18, left__r 12, left__r 17', '... and stands in late_row, of both topics, without a window');
	send_rows('left_', [ 'o', 0, 36, 'y' ], [ 'r', 0, 37, 'y', 370 ]);
	$events->stop('left_', drain => 1);
	is(rows_of('left_'), 'x 9 -, x 10 10/100, x 15 10/100, x 20 20/200, x 30 25/250, y 16 -, y 36 -, z 31 -', 'drained, all have been answered');
	value(q{SELECT streamproc.start_pipeline('left_')});
	send_rows('left_', [ 'o', 0, 38, 'z' ], [ 'o', 0, 50, 'z' ], [ 'o', 0, 50, 'y' ], [ 'r', 0, 39, 'z', 390 ]);
	$events->stop('left_', drain => 1);
	is(rows_of('left_'), 'x 9 -, x 10 10/100, x 15 10/100, x 20 20/200, x 30 25/250, y 16 -, y 36 -, y 50 37/370, z 31 -, z 50 40/400', 'the next run goes on with the versions that were kept');
	is(late('left_'), 'left__o 18, left__o 38, left__r 12, left__r 17, left__r 39', 'and what lies before the drain is late');
	same_as_batch('left_', {}, 'as the batch query without what was late');
});

# catches: an inner join that gives out rows without a version; a null in the key that finds one, or is kept
$events->section('inner', sub {
	my %how = (join => 'JOIN', before => 'r.at < o.at', and => 'r.v > 0', where => 'o.v < r.v');
	make_pipeline('inner_', 2, {}, \%how, parallelism => 2);
	send_rows('inner_', [ 'r', 1, 10, 'y', 5 ], [ 'r', 0, 10, 'x', 10 ], [ 'r', 1, 12, 'x', -1 ], [ 'r', 0, 14, 'x', 3 ],
		[ 'o', 0, 10, 'x', 2 ], [ 'o', 1, 11, 'x', 2 ], [ 'o', 0, 13, 'x', 2 ], [ 'o', 1, 14, 'x', 2 ], [ 'o', 0, 15, 'x', 2 ], [ 'o', 1, 16, 'x', 4 ], [ 'o', 0, 16, 'z', 0 ], [ 'o', 1, 17, 'y', 1 ]);
	$kafka->produce('inner__o', { partition => 0, value => '{"at": "2026-01-01T12:00:18Z", "k": null, "v": 1}' });
	$kafka->produce('inner__r', { partition => 0, value => '{"at": "2026-01-01T12:00:17Z", "k": null, "v": 9}' });
	$events->stop('inner_', drain => 1);
	is(rows_of('inner_'), 'x 11 10/10, x 13 10/10, x 14 10/10, x 15 14/3, y 17 10/5', 'conditions below choose the version, those above do not');
	same_as_batch('inner_', \%how, 'as the batch query');
});

# catches: versions of one instant in another order than that which is asked for, or than partition and offset
$events->section('ties', sub {
	my @rows = map { my $s = $_; map { [ 'r', int(rand(3)), $s, 'k' . ($s % 4), int(rand(50)) ] } 1 .. 1 + $s % 5 } map { $_ * 2 } 1 .. 60;
	my @orders = map { [ 'o', $_ % 3, $_ / 3, 'k' . int(rand(4)), $_ ] } 1 .. 400;
	my %orders = (ties => undef, ties_offset => 'r.o DESC, r.p DESC', ties_value => 'r.v, r.p DESC, r.o DESC', ties_down => 'r.v % 7 DESC NULLS LAST, r.o, r.p');
	for my $name (sort keys %orders)
	{
		make_pipeline($name, 3, {}, { $orders{$name} ? (order => $orders{$name}) : (order => '') }, parallelism => 2);
		send_rows($name, @orders[ 0 .. 199 ]);
		send_rows($name, @rows[ 0 .. $#rows / 2 ]);
		send_rows($name, @rows[ $#rows / 2 + 1 .. $#rows ], @orders[ 200 .. 399 ]);
		$events->stop($name, drain => 1);
	}
	is(late($_), '', "$_: nothing is late") for sort keys %orders;
	same_as_batch('ties', {}, 'without another order: the last by partition and offset');
	same_as_batch($_, { order => $orders{$_} }, "$_: in the order that is asked for") for grep { $orders{$_} } sort keys %orders;
});

# ---- random rows, and all that makes tasks begin anew ----

# nobody is behind the others by more than the delay
sub random_rows
{
	my ($name, $partitions, $step) = @_;
	my $now = 0;
	return sub {
		my ($n, $keys) = @_;
		my @rows;
		for (1 .. $n)
		{
			$now += rand($step);
			push @rows, [ ('o', 'r')[ int(rand(2)) ], int(rand($partitions)), $now - rand(2.9), 'k' . int(rand($keys)), int(rand(1000)) ];
		}
		push @rows, map { my $p = $_; map { [ $_, $p, $now, "p$p", 0 ] } 'o', 'r' } 0 .. $partitions - 1;
		send_rows($name, @rows);
		return;
	};
}

sub disturb
{
	my ($name, $more) = @_;
	$more->(1000, 50);
	wait_caught_up($node, $name);
	$events->stop($name);
	value("SELECT streamproc.alter_pipeline('$name', parallelism => 4)");
	value("SELECT streamproc.start_pipeline('$name')");
	$more->(1200, 300);
	for my $what ('task', 'launcher', 'postmaster', 'task')
	{
		my $position = "SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name'";
		my $before = value($position);
		$more->(500, 100);
		wait_query($node, "SELECT ($position) > $before", 't', 60);
		$events->kill($name, $what);
	}
	value("SELECT streamproc.wait_until_caught_up('$name', '120 s')");
	$events->stop($name);
	value("SELECT streamproc.alter_pipeline('$name', parallelism => 2)");
	value("SELECT streamproc.start_pipeline('$name')");
	$more->(800, 30);
	$events->stop($name, drain => 1);
	is(late($name), '', 'nothing is late');
	return;
}

# catches: a version or a row that waits that is lost or doubled; versions and rows out of step
$events->section('grow', sub {
	make_pipeline('grow', 2, { watermark_delay => '3 s' }, {}, parallelism => 1);
	disturb('grow', random_rows('grow', 2, 0.05));
	same_as_batch('grow', {}, 'after kills, stops and other numbers of tasks: the batch query');
});

# catches: a version that is read again after it was forgotten, or forgotten although a row that waits needs it
$events->section('grow ttl', sub {
	make_pipeline('grow_ttl', 2, { watermark_delay => '3 s' }, {}, parallelism => 1, state_ttl => '8 s');
	disturb('grow_ttl', random_rows('grow_ttl', 2, 0.05));
	same_as_batch('grow_ttl', { and => q{r.at > o.at - interval '8 s'} }, 'the batch query over versions that are younger than state_ttl');
});

# catches: rows that wait and are closed without an answer, where the pipeline is changed while its tasks arrive at a barrier
$events->section('changed', sub {
	make_pipeline('changed', 2, { watermark_delay => '3 s' }, {}, parallelism => 2);
	my $more = random_rows('changed', 2, 0.05);
	for my $round (1 .. 15)
	{
		$more->(300, 40);
		# in the middle of it
		value("SELECT streamproc.alter_pipeline('changed', parallelism => " . (2 + $round % 2) . ')');
	}
	$events->stop('changed', drain => 1);
	is(late('changed'), '', 'nothing is late');
	same_as_batch('changed', {}, 'the batch query');
});

# catches: a fault between giving rows out and the commit of what was given out
$events->section('faults', sub {
	make_pipeline('faults', 2, {}, {}, parallelism => 2);
	my $n = 0;
	for my $point (qw(operator-apply over-release over-released keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied|apply/;
			my $more = sub {
				send_rows('faults', map { my $i = $_; map { [ $_, $i % 2, $n + $i / 10, 'k' . ($_ eq 'o' ? $i % 7 : $i % 5), $n + $i ] } 'o', 'r' } 1 .. 40);
				$n += 4;
				return;
			};
			ok($crash->provoke($point, $action, $more), "$point, $action: it hits");
			$crash->reset_fault;
			wait_query($node, 'SELECT 1', 1, 60);
			$crash->catch_up('faults');
		}
	}
	$events->stop('faults', drain => 1);
	same_as_batch('faults', {}, 'nothing is lost or doubled');
});

# catches: a backlog in which each row would be a slice of its own, and rows wait in longer slices
$events->section('sparse', sub {
	make_pipeline('sparse', 1, { watermark_delay => '1 min' }, { join => 'JOIN' }, parallelism => 2);
	my %now = (o => 0, r => 0);
	send_rows('sparse', map { my $s = ('o', 'r')[ $_ % 2 ]; $now{$s} += rand(120); [ $s, 0, $now{$s} + rand(50), 'k' . int(rand(3)), $_ ] } 1 .. 4000);
	$events->stop('sparse', drain => 1);
	is(late('sparse'), '', 'nothing is late');
	same_as_batch('sparse', { join => 'JOIN' }, 'days of rows in a few epochs');
});

# ---- what is kept ----

# catches: rows, or versions that newer ones have replaced, that are kept for ever; a version that goes though it is the last
$events->section('kept', sub {
	make_pipeline('kept', 1, { idle_timeout => '1 s' }, {}, parallelism => 1);
	send_rows('kept', map { [ ('o', 'r')[ $_ % 2 ], 0, $_ / 100, 'k' . ($_ % 2 ? $_ % 30 : ($_ + 1) % 34), $_ ] } 1 .. 2000);
	# the clock goes on where the topics are silent
	wait_query($node, 'SELECT count(*) FROM kept', 1000, 60);
	# odd numbers modulo 30 are 15
	wait_query($node, q{SELECT keys, panes, bytes < 20000, rows_in, rows_out FROM streamproc.stat_operator WHERE pipeline = 'kept'}, '15|1|t|2000|1000', 60);
	pass('silence answers what waits, and then one version of each key is kept');
	same_as_batch('kept', {}, 'and all of it was right');
	is(value(q{SELECT kind, aggregates FROM streamproc.stat_operator WHERE pipeline = 'kept'}),
		'asof|as-of left join, rows kept until the watermark has passed them, of versions then the last one of each key', 'the view shows the join');
	like(value("SELECT string_agg(plan, E'\\n') FROM streamproc.check_pipeline('" . insert('kept') . "')"),
		qr/Operator: 0\n +Join: as-of left join, rows kept until the watermark has passed them, of versions then the last one of each key/, 'check_pipeline says what is kept');
});

# catches: a version that outlives state_ttl, in memory or after a restart; one that goes before
$events->section('ttl', sub {
	make_pipeline('ttl', 1, { watermark_delay => '1 s' }, {}, parallelism => 2, state_ttl => '10 s');
	send_rows('ttl', (map { [ 'r', 0, $_ / 100, "k$_", $_ ] } 1 .. 500), [ 'r', 0, 6, 'x', 1 ], [ 'o', 0, 6, 'k1' ], [ 'o', 0, 15.999999, 'x' ], [ 'o', 0, 16, 'x' ]);
	send_rows('ttl', map { [ $_, 0, 17.5, 'now' ] } 'o', 'r');
	is(settled('ttl'), 'k1 6 0.01/1, x 15.999999 6/1, x 16 -', 'a version is found until it is state_ttl old');
	# the hand comes around within an eighth of the ttl; a checkpoint moves it
	send_rows('ttl', map { [ $_, 0, 19, 'now', 2 ] } 'o', 'r');
	wait_caught_up($node, 'ttl');
	wait_query($node, kept('ttl'), 3, 60);
	pass('the others are gone: what is left is one version and the two rows that wait');
	$events->kill('ttl', 'launcher');
	send_rows('ttl', [ 'o', 0, 19.2, 'k500' ], [ 'o', 0, 19.2, 'x' ], map { [ $_, 0, 40, 'now', 3 ] } 'o', 'r');
	is(settled('ttl'), 'k1 6 0.01/1, k500 19.2 -, now 17.5 17.5/1, now 19 19/2, x 15.999999 6/1, x 16 -, x 19.2 -', 'what was forgotten is not found after recovery');
	same_as_batch('ttl', { and => q{r.at > o.at - interval '10 s'}, where => 'o.at < timestamptz \'2026-01-01 12:00:30+00\'' }, 'as the batch query');
	$events->stop('ttl', drain => 1);
});

# catches: a version that is freed by W alone, although a row that still waits, behind W, has to find it
$events->section('ttl waits', sub {
	make_topics('waits', 1);
	# all of it is there when the pipeline begins, so its first checkpoint looks at all keys
	send_rows('waits', [ 'r', 0, 0.02, 'x', 1 ], [ 'r', 0, 10.05, 'z' ], [ 'o', 0, 10.01, 'x' ], [ 'o', 0, 10.05, 'z' ]);
	create_pipeline($node, 'waits', insert('waits'), state_ttl => '10 s');
	is(settled('waits'), '', 'the row waits: W is not behind the slice of it');
	send_rows('waits', map { [ $_, 0, 11, 'z' ] } 'r', 'o');
	is(settled('waits'), 'x 10.01 0.02/1, z 10.05 10.05/1', 'it has its version, which W had passed by state_ttl');
});

# catches: allowed_lateness that does not hold rows back
$events->section('late', sub {
	make_pipeline('late_', 1, {}, {}, allowed_lateness => '2 s');
	send_rows('late_', [ 'r', 0, 10, 'x', 10 ], [ 'o', 0, 12, 'x' ], [ 'o', 0, 13.5, 'x' ], map { [ $_, 0, 14.5, 'z' ] } 'o', 'r');
	is(settled('late_'), 'x 12 10/10', 'rows wait allowed_lateness longer');
	send_rows('late_', [ 'r', 0, 13, 'x', 13 ], [ 'r', 0, 12.3, 'x', 12 ]);
	send_rows('late_', map { [ $_, 0, 20, 'z' ] } 'o', 'r');
	is(settled('late_'), 'x 12 10/10, x 13.5 13/13, z 14.5 14.5/1', 'for a version that comes within it');
	is(late('late_'), 'late__r 12.3', 'what is later is late');
	$events->stop('late_');
	value(q{SELECT streamproc.alter_pipeline('late_', allowed_lateness => '1 h', late => 'drop')});
	value(q{SELECT streamproc.start_pipeline('late_')});
	send_rows('late_', [ 'r', 0, 15, 'z', 15 ], [ 'r', 0, 19, 'z', 19 ], [ 'o', 0, 12, 'x' ], [ 'o', 0, 19.5, 'z' ]);
	$events->stop('late_', drain => 1);
	is(rows_of('late_'), 'x 12 10/10, x 13.5 13/13, z 14.5 14.5/1, z 19.5 19/19, z 20 20/1', 'a raised allowed_lateness does not answer again what was answered');
	is(late('late_'), 'late__r 12.3', 'late => drop keeps nothing');
});

# One key has nearly all rows, with a version for each: the work of a row must not grow with what came before.
$events->section('hot', sub {
	make_pipeline('hot', 1, {}, {}, parallelism => 1);
	send_rows('hot', map { ([ 'o', 0, $_ / 20, 'hot', $_ ], [ 'r', 0, $_ / 20 + 0.01, 'hot', $_ ]) } 1 .. 20000);
	value(q{SELECT streamproc.wait_until_caught_up('hot', '60 s')});
	is(value(q{SELECT count(*), count(*) FILTER (WHERE rate = v - 1) FROM hot}), '19999|19998', 'each row has the version before it, but the first one; the last one waits');
	wait_query($node, kept('hot'), 3, 60);
	pass('versions that were replaced are gone');
});

# ---- options, texts ----

$events->section('options', sub {
	make_pipeline('options', 1, {}, {});
	send_rows('options', [ 'r', 0, 1, 'x', 5 ], [ 'o', 0, 2, 'x' ], map { [ $_, 0, 3, 'z' ] } 'o', 'r');
	is(settled('options'), 'x 2 1/5', 'a row with its version');
	my $alter = sub { return "SELECT streamproc.alter_pipeline('options', query => '" . insert('options', @_) =~ s/'/''/gr . "')" };
	my $does_not_fit = qr/0A000: the state of pipeline "options" does not fit the new query/;
	like($events->error_of($alter->(before => 'r.at < o.at')), $does_not_fit, 'a strict bound does not fit the state');
	like($events->error_of($alter->(join => 'JOIN')), $does_not_fit, 'nor does an inner join');
	like($events->error_of($alter->(order => 'r.v')), $does_not_fit, 'nor does another order');
	value($alter->(where => 'r.v > 1'));
	send_rows('options', [ 'o', 0, 4, 'x' ], [ 'o', 0, 5, 'y' ]);
	$events->stop('options', drain => 1);
	is(rows_of('options'), 'x 2 1/5, x 4 1/5', 'the same query with a condition goes on with the version that it has kept');

	make_topics('refused', 1);
	my @options = (
		[ q{ordering => 'arrival'}, qr/an as-of join needs the rows of both topics in the order of event time: ordering => 'arrival' is not supported in statement 1/, qr/Leave option "ordering" out/ ],
		[ q{late => 'update'}, qr/rows of a join of topics are given out once: emit => 'changes' or 'every ...' and late => 'update' are not supported/ ],
		[ q{emit => 'changes'}, qr/rows of a join of topics are given out once/ ],
		[ q{emit => 'every 1 s'}, qr/rows of a join of topics are given out once/ ]);
	for (@options)
	{
		my ($option, $error, $hint) = @$_;
		my $got = $events->error_of("SELECT streamproc.create_pipeline('refused', '" . insert('refused') . "', $option)");
		like($got, qr/ERROR:  0A000: $error/, "$option is refused");
		like($got, qr/HINT:  $hint/, '... with a hint') if $hint;
	}
});

# catches: a refusal without its place, with the wrong one, or with a reason that does not help
$events->section('texts', sub {
	make_topics('texts', 1);
	# what the subquery is, the word at which the error stands, its text, its hint
	my $like = 'WHERE r.k = o.k AND r.at <= o.at';
	my $last = 'ORDER BY r.at DESC LIMIT 1';
	my @cases = (
		[ "SELECT r.v FROM R r $like LIMIT 1", qr/1\) r/, 'an as-of join without ORDER BY is not supported', 'Write FROM a LEFT JOIN LATERAL' ],
		[ "SELECT r.v FROM R r $like ORDER BY r.at LIMIT 1", qr/r\.at LIMIT/, 'an as-of join with the first version, not the last, is not supported', 'Write DESC' ],
		[ "SELECT r.v FROM R r $like ORDER BY r.v DESC LIMIT 1", qr/r\.v/, 'an as-of join ordered by something else than the event time of the versions is not supported', 'Order them by the column' ],
		[ "SELECT r.v FROM R r $like ORDER BY r.at DESC, o.v LIMIT 1", qr/o\.v/, 'an as-of join ordered by a column of the other side is not supported', 'Order the versions by columns of their own' ],
		[ "SELECT r.v FROM R r $like ORDER BY r.at DESC LIMIT 2", qr/2\) r/, 'an as-of join of more than one version is not supported', 'Write LIMIT 1' ],
		[ "SELECT r.v FROM R r $like $last OFFSET 3", qr/3\) r/, 'OFFSET in the subquery of an as-of join is not supported', 'Leave it out' ],
		[ "SELECT r.v FROM R r WHERE r.at <= o.at $last", qr/r\.v/, 'an as-of join without an equality is not supported', 'Write FROM a LEFT JOIN LATERAL' ],
		[ "SELECT r.v FROM R r WHERE r.k = o.k $last", qr/r\.v/, 'an as-of join without a bound of event time is not supported', 'Write FROM a LEFT JOIN LATERAL' ],
		[ "SELECT r.v FROM R r $like AND r.at > o.at - interval '1 h' $last", qr/r\.at > o/, 'a condition in the subquery of an as-of join that looks at both sides', 'Conditions on the versions alone may stand there' ],
		[ "SELECT r.v FROM R r $like AND r.v < o.v $last", qr/r\.v < o/, 'a condition in the subquery of an as-of join that looks at both sides', 'Conditions on the versions alone may stand there' ],
		[ "SELECT r.v FROM R r WHERE r.k = o.k AND r.at <= o.at - interval '1 h' $last", qr/o\.at - /, 'an as-of join at another time than the event time of the row is not supported', 'Compare with the column' ],
		[ "SELECT r.v * o.v AS v FROM R r $like $last", qr/o\.v AS/, 'a column of the other side in the subquery of an as-of join is only supported in its WHERE', 'Compute it in the SELECT around the join' ],
		[ "SELECT random() AS v FROM R r $like $last", qr/random/, 'a volatile function in the subquery of an as-of join is not supported', 'Call it in the SELECT around the join' ],
		[ "SELECT DISTINCT r.v, r.at FROM R r $like $last", qr/r\.v, r/, 'GROUP BY, window functions, DISTINCT and set-returning functions in the subquery of an as-of join are not supported', 'The versions are rows of the topic' ],
		[ "SELECT r.v FROM R r WHERE r.k::jsonb = o.k::jsonb AND r.at <= o.at $last", qr/r\.k::jsonb/, 'joining topics by values of type jsonb is not supported', 'Join by their texts' ]);
	for (@cases)
	{
		my ($versions, $at, $error, $hint) = @$_;
		my $text = "INSERT INTO texts SELECT o.k, o.at, o.v, r.v, o.at FROM texts_o_in o LEFT JOIN LATERAL ($versions) r ON true" =~ s/ R r/ texts_r_in r/r;
		my $got = $events->error_of("SELECT streamproc.create_pipeline('texts', \$q\$$text\$q\$)");
		like($got, qr/ERROR:  \w+: \Q$error\E/, $error);
		like($got, qr/^HINT:  \Q$hint\E/m, '... with a hint');
		my ($line, $caret) = $got =~ /^(LINE 1: .*)\n( *)\^/m;
		like(substr($line // '', length($caret // '')), qr/^$at/, '... and its place');
	}
	my $around = sub {
		my ($query, $error, $hint) = @_;
		my $got = $events->error_of("SELECT streamproc.create_pipeline('texts', \$q\$INSERT INTO texts (k, v) $query\$q\$)");
		like($got, qr/ERROR:  0A000: \Q$error\E/, $error);
		like($got, qr/^HINT:  \Q$hint\E/m, '... with a hint');
	};
	my $versions = "LATERAL (SELECT r.v, r.at FROM texts_r_in r $like $last) r";
	$around->("SELECT o.k, r.v FROM texts_o_in o LEFT JOIN $versions ON r.v > 0", 'a condition in ON of an as-of LEFT JOIN is not supported', 'Write ON true');
	$around->("SELECT w.window_start::text, count(*) FROM texts_o_in o CROSS JOIN $versions CROSS JOIN streamproc.tumble(r.at, '1 min') w GROUP BY w.window_start", 'tumble() over something else than the event time of the topic is not supported', 'Give it the column of the foreign table');
	$around->("SELECT o.k, r.v FROM texts_o_in o CROSS JOIN $versions CROSS JOIN " . $versions =~ s/\) r/) s/r, 'joining more than two topics in one SELECT is not supported', 'Write the rows of one join into a topic');
	$around->("SELECT o.k, r.v FROM texts_o_in o, (SELECT 1 AS one) l CROSS JOIN $versions", 'an as-of join whose subquery does not stand right behind the topic is not supported', 'Write FROM a LEFT JOIN LATERAL');
	$around->("SELECT o.k, r.v FROM (SELECT DISTINCT ON (x.k) x.* FROM texts_o_in x ORDER BY x.k, x.at) o CROSS JOIN $versions", 'a join of topics over groups, window functions, DISTINCT ON or another join of topics is not supported', 'Write the results below into a topic');
});

done_testing();

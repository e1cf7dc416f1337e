# Window functions and first rows over what others, or a join, have answered: what the oracle suite does not see.  When rows are
# answered twice, in which order, what is late, what outlives kills, merged segments and another number of tasks; what is freed.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
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

sub value { return $events->value(@_) }
sub stop { return $events->stop(@_) }
sub start { my ($name) = @_; value("SELECT streamproc.start_pipeline('$name')"); return }
sub section { return $events->section(@_) }

# ---- helpers ----

# Two window functions of different keys, one over the other; $below, $above: order behind the event time.
sub select_of
{
	my ($name, $below, $above) = @_;
	return "SELECT q.k, q.at, q.v, q.prev, row_number() OVER (PARTITION BY q.v % 3 ORDER BY q.at$above) AS r, lag(q.prev) OVER (PARTITION BY q.v % 3 ORDER BY q.at$above) AS before, "
	  . "count(*) OVER (PARTITION BY q.v % 3 ORDER BY q.at RANGE BETWEEN '2 s' PRECEDING AND CURRENT ROW) AS n FROM (SELECT t.*, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at$below) AS prev FROM ${name}_in t) q";
}

sub make_pipeline
{
	my ($name, $partitions, $topic, %options) = @_;
	$events->make_topic($name, $partitions, %$topic);
	value("CREATE TABLE $name (k text, at timestamptz, v bigint, prev bigint, r bigint, before bigint, n bigint)");
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, '', ''), %options);
	return;
}

# Three operators: first pairs of a join of two topics, which come as long as the interval behind those that bring them.
our $span = '20 s';

sub pairs_of
{
	my ($name, $below, $above) = @_;
	return "SELECT q.k, q.at, q.v, q.w, row_number() OVER (PARTITION BY q.w % 2 ORDER BY q.at$above) AS r, lag(q.v) OVER (PARTITION BY q.w % 2 ORDER BY q.at$above) AS before "
	  . "FROM (SELECT DISTINCT ON (a.k, a.v) a.k, a.at, a.v, b.v AS w, a.p, a.o FROM ${name}_a_in a JOIN ${name}_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '$span' ORDER BY a.k, a.v, a.at$below) q";
}

sub make_pairs
{
	my ($name, $partitions, $topic, %options) = @_;
	$events->make_topic("${name}_$_", $partitions, %$topic) for 'a', 'b';
	value("CREATE TABLE $name (k text, at timestamptz, v bigint, w bigint, r bigint, before bigint)");
	create_pipeline($node, $name, "INSERT INTO $name " . pairs_of($name, '', ''), %options);
	return;
}

sub send_pairs
{
	my ($name, @rows) = @_;
	for my $side ('a', 'b')
	{
		my @mine = map { [ @$_[ 1 .. $#$_ ] ] } grep { $_->[0] eq $side } @rows;
		$events->send_rows("${name}_$side", @mine) if @mine;
	}
	return;
}

sub same_pairs { my ($name, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return $events->same_rows($name, pairs_of($name, ', a.p, a.o, b.p, b.o', ', q.p, q.o'), $what) }

# rows that came too late take no part
sub same_as_batch
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $events->same_rows($name, "WITH x_in AS MATERIALIZED (SELECT * FROM ${name}_in i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.partition = i.p AND l.\"offset\" = i.o)) "
		  . select_of('x', ', t.p, t.o', ', q.p, q.o'), $what);
}

sub rows_of { my ($name) = @_; return value("SELECT string_agg(k || sec(at) || ' ' || r || ' ' || coalesce(before::text, '-'), ', ' ORDER BY at, v) FROM $name") }
sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }

# ---- when, and in which order ----

# catches: a row that is answered above while others of its time still wait below; one that never is
section 'waiting' => sub {
	make_pipeline('waiting', 1, {});
	$events->send_rows('waiting', [ 0, 9.85, 'a', 3 ], [ 0, 9.95, 'b', 6 ], [ 0, 9.9, 'a', 9 ], [ 0, 10, 'z', 1 ]);
	is(settled('waiting'), 'a9.85 1 -', 'rows may still come into the slice behind the watermark that was answered below');
	$events->send_rows('waiting', [ 0, 10.1, 'z', 2 ], [ 0, 9.99, 'a', 12 ]);
	is(settled('waiting'), 'a9.85 1 -, a9.9 2 -, b9.95 3 3', 'when it has passed that they are answered');
	is($events->late('waiting'), '0/5 9.99', 'what comes too late is late below, and once');
	is(value(q{SELECT string_agg(operator || ' ' || kind || ' ' || rows_in, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'waiting'}), '0 over 6, 1 over 4',
		'the view shows both operators, and what went from one to the other');
	stop('waiting', drain => 1);
	same_as_batch('waiting', 'drained, all is as the batch query gives it');
	start('waiting');
	$events->send_rows('waiting', [ 0, 10.12, 'a', 3 ], [ 0, 12, 'a', 3 ], [ 0, 13, 'a', 6 ]);
	stop('waiting', drain => 1);
	is($events->late('waiting'), '0/5 9.99, 0/6 10.12', 'what the drain has answered stays answered');
	same_as_batch('waiting', 'what both remember outlives the run');
};

# Three operators, the last one with windows: what a drain has closed above is closed for the first one, too.
# catches: a row that the first operator takes, and the second or third one cannot
section 'closed' => sub {
	$events->make_topic('closed', 1);
	value('CREATE TABLE closed (k text, at timestamptz, n bigint, s numeric)');
	my $select = sub { my ($name, $below, $above) = @_; return "SELECT s.k, w.window_start AS at, count(*) AS n, sum(s.before) AS s FROM (SELECT q.k, q.at, lag(q.prev) OVER (PARTITION BY q.v % 3 ORDER BY q.at$above) AS before "
		  . "FROM (SELECT t.*, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at$below) AS prev FROM ${name}_in t) q) s, streamproc.tumble(s.at, '10 s') w GROUP BY s.k, w.window_start" };
	create_pipeline($node, 'closed', 'INSERT INTO closed ' . $select->('closed', '', ''), parallelism => 2);
	$events->send_rows('closed', map { [ 0, $_, 'a', int($_ * 3) ] } 1, 2, 3, 9, 10.05);
	wait_caught_up($node, 'closed');
	is(value('SELECT count(*) FROM closed'), 0, 'no window is closed before all of its rows have come through both');
	$events->send_rows('closed', [ 0, 10.5, 'a', 3 ], [ 0, 10.6, 'b', 3 ]);
	wait_query($node, 'SELECT n FROM closed', 4, 60);
	stop('closed', drain => 1);
	start('closed');
	$events->send_rows('closed', [ 0, 15, 'a', 5 ], [ 0, 21, 'a', 6 ], [ 0, 22, 'b', 9 ]);
	stop('closed', drain => 1);
	is($events->late('closed'), '0/7 15', 'a row for a window that a drain has closed is late in the first operator');
	$events->same_rows('closed', 'WITH x_in AS (SELECT * FROM closed_in WHERE o <> 7) ' . $select->('x', ', t.p, t.o', ', q.p, q.o'), 'all others are right');
};

# In the order of one side, then windows of the other one, which may lie 5 s behind.
# catches: a window that closes with the rows in whose order its own are answered
section 'sides' => sub {
	$events->make_topic("sides_$_", 1) for 'a', 'b';
	value('CREATE TABLE sides (k text, at timestamptz, n bigint, r bigint)');
	my $select = sub { my ($order) = @_; return "SELECT q.k, w.window_start AS at, count(*) AS n, max(q.r) AS r FROM (SELECT a.k, b.at AS other, row_number() OVER (PARTITION BY a.k ORDER BY a.at$order) AS r "
		  . "FROM sides_a_in a JOIN sides_b_in b ON a.k = b.k AND b.at BETWEEN a.at - interval '5 s' AND a.at) q, streamproc.tumble(q.other, '10 s') w GROUP BY q.k, w.window_start" };
	create_pipeline($node, 'sides', 'INSERT INTO sides ' . $select->(''));
	send_pairs('sides', [ 'b', 0, 8, 'x' ], [ 'a', 0, 9, 'x' ], [ 'a', 0, 11, 'y' ], [ 'b', 0, 11, 'y' ]);
	wait_caught_up($node, 'sides');
	send_pairs('sides', [ 'a', 0, 12, 'x' ], [ 'b', 0, 12, 'z' ]);
	wait_caught_up($node, 'sides');
	is(value('SELECT count(*) FROM sides'), 0, 'a window waits for pairs that may still come with a later row of the other side');
	send_pairs('sides', [ 'a', 0, 15.5, 'z' ], [ 'b', 0, 15.5, 'z' ]);
	wait_query($node, q{SELECT string_agg(k || n || ' ' || r, ', ') FROM sides}, 'x2 2', 60);
	pass('... and no longer');
	stop('sides', drain => 1);
	$events->same_rows('sides', $select->(', a.p, a.o, b.p, b.o'), 'all is as the batch query gives it');
};

# catches: rows of one instant in the order in which tasks pass them on
section 'ties' => sub {
	make_pipeline('ties', 4, {}, parallelism => 4);
	$events->send_rows('ties', map { my $i = $_; map { [ $_, int($i / 7), 'k' . ($i * 5 + $_) % 11, $i * 4 + $_ ] } 0 .. 3 } 0 .. 350);
	wait_caught_up($node, 'ties');
	stop('ties', drain => 1);
	is($events->late('ties'), '', 'nothing is late');
	same_as_batch('ties', 'they are taken by partition and offset');
	make_pairs('tied', 3, {}, parallelism => 2);
	send_pairs('tied', map { my $i = $_; map { my $p = $_; [ 'a', $p, int($i / 9), 'k' . $i % 3, $i % 13 ], [ 'b', $p, int($i / 9), 'k' . $i % 3, $i * 3 + $p ] } 0 .. 2 } 0 .. 120);
	wait_caught_up($node, 'tied');
	stop('tied', drain => 1);
	same_pairs('tied', '... below DISTINCT ON, too');
	my $pairs = sub { my ($o) = @_; return "SELECT a.k, a.at, a.v, b.v AS w, row_number() OVER (PARTITION BY a.k ORDER BY a.at$o) AS r, lag(b.v) OVER (PARTITION BY a.k ORDER BY a.at$o) AS before FROM tied_a_in a JOIN tied_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s'" };
	value('CREATE TABLE tied2 (LIKE tied)');
	create_pipeline($node, 'tied2', 'INSERT INTO tied2 ' . $pairs->(''), parallelism => 3);
	wait_caught_up($node, 'tied2');
	stop('tied2', drain => 1);
	$events->same_rows('tied2', $pairs->(', a.p, a.o, b.p, b.o'), 'pairs are taken by the place of the left row, then of the right one');
};

# catches: state that stays when everything has been given out
section 'freed' => sub {
	make_pipeline('freed', 1, { idle_timeout => '200 ms' });
	$events->send_rows('freed', map { [ 0, $_ / 10, 'k' . $_ % 5, $_ ] } 1 .. 300);
	wait_query($node, q{SELECT string_agg(operator || ' ' || panes || ' ' || keys, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'freed'}, '0 1 5, 1 1 3', 60);
	pass('silence answers all in both; of each key one entry is left');
	same_as_batch('freed', 'and all was right');
	local $span = '1 s';
	make_pairs('freed2', 1, { idle_timeout => '200 ms' }, parallelism => 2, state_ttl => '1 min');
	send_pairs('freed2', map { my $i = $_; map { [ $_, 0, $i / 10, 'k' . $i % 5, $i ] } 'a', 'b' } 1 .. 300);
	wait_query($node, q{SELECT count(*) FROM freed2}, 300, 60);
	pass('silence lets three operators answer all');
	same_pairs('freed2', 'and all was right');
};

# ---- kills ----

# catches: answers that are passed on twice, or are lost, between the operators
section 'kills' => sub {
	make_pipeline('kills', 2, { watermark_delay => '500 ms' }, parallelism => 2);
	make_pairs('kills3', 2, { watermark_delay => '500 ms' }, parallelism => 2);
	my $n = 0;
	my $more = sub {
		$events->send_rows('kills', map { [ $_ % 2, $n + $_ / 20, 'k' . $_ % 11, $_ * 7 % 50 ] } 1 .. 80);
		send_pairs('kills3', map { my $i = $_; map { [ $_, $i % 2, $n + $i / 20, 'k' . $i * ($_ eq 'a' ? 3 : 5) % 7, $i * 7 % 20 ] } 'a', 'b' } 1 .. 80);
		$n += 4;
		return;
	};
	my $settle = sub {
		$crash->catch_up($_) for qw(kills kills3);
	};
	for my $point (qw(operator-apply over-pass over-release over-released keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied|apply/;
			ok($crash->provoke($point, $action, $more), "$point, $action: it hits");
			$crash->reset_fault;
			wait_query($node, 'SELECT 1', 1, 60);
			$settle->();
		}
	}
	$events->kill($_->[0], $_->[1]), $more->() for [ 'kills', 'task' ], [ 'kills3', 'launcher' ], [ 'kills3', 'task' ], [ 'kills', 'postmaster' ];
	$settle->();
	for my $tasks (1, 4)
	{
		for my $name ('kills', 'kills3')
		{
			stop($name);
			value("SELECT streamproc.alter_pipeline('$name', parallelism => $tasks)");
			start($name);
		}
		$more->();
		$settle->();
	}
	stop($_, drain => 1) for qw(kills kills3);
	is($events->late($_), '', "$_: nothing is late") for qw(kills kills3);
	same_as_batch('kills', 'nothing is lost or doubled');
	same_pairs('kills3', '... nor by three operators');
};

# Rows wait above for partners that may lie behind them: many epochs long, in segments that are merged.
# catches: rows that waited in the second or third operator, of a key group that a merged segment leaves out
section 'merged' => sub {
	make_pairs('merged', 1, {}, parallelism => 2);
	my $merged = q{SELECT count(*) FROM streamproc.state_segment WHERE pipeline = 'merged' AND epoch > first_epoch};
	my $round = 0;
	my $more = sub { $round++; send_pairs('merged', map { my $i = $_; map { [ $_, 0, $round * 0.08 + $i / 1000, "k$i", $round ] } 'a', 'b' } 1 .. 20); wait_caught_up($node, 'merged'); return };
	for (1 .. 200) { $more->(); last if $round > 40 && value($merged) > 0 }
	is(rows_of('merged'), '', 'all first pairs wait');
	cmp_ok(value($merged), '>', 0, 'segments of many epochs have become one');
	cmp_ok(value(q{SELECT min(rows_in) FROM streamproc.stat_operator WHERE pipeline = 'merged' AND operator < 2}), '>', 500, 'with what was passed on');
	$events->kill('merged', 'postmaster');
	$more->() for 1 .. 5;
	$events->kill('merged', 'task');
	$more->();
	stop('merged');
	value(q{SELECT streamproc.alter_pipeline('merged', parallelism => 1)});
	start('merged');
	$more->();
	stop('merged', drain => 1);
	same_pairs('merged', 'what waited in them is answered once behind a kill');
};

# ---- rows that cannot be taken ----

# catches: one row that stops the pipeline, or takes others with it
section 'bad rows' => sub {
	$events->make_topic('bad', 2);
	value('CREATE TABLE bad (k text, v bigint, x bigint, r bigint); CREATE TABLE bad_fail (LIKE bad); CREATE TABLE bad_above (LIKE bad)');
	my $between = sub { my ($below, $above, $where) = @_; return "SELECT q.k, q.v, lag(100 / q.prev) OVER (PARTITION BY q.v % 2 ORDER BY q.at$above), row_number() OVER (PARTITION BY q.v % 2 ORDER BY q.at$above) FROM (SELECT t.*, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at$below) AS prev FROM bad_in t) q $where" };
	my $above = sub { my ($below, $above, $where) = @_; return "SELECT s.k, s.v, 100 / (s.r - 17), s.r FROM (SELECT q.k, q.v, q.prev, row_number() OVER (PARTITION BY q.v % 2 ORDER BY q.at$above) AS r FROM (SELECT t.*, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at$below) AS prev FROM bad_in t) q) s WHERE 100 / (s.r - 17) <> 3 $where AND (s.prev > 0 OR s.prev IS NULL)" };
	create_pipeline($node, 'bad', 'INSERT INTO bad ' . $between->('', '', ''), parallelism => 2);
	create_pipeline($node, 'bad_fail', 'INSERT INTO bad_fail ' . $between->('', '', ''), on_error => 'fail');
	create_pipeline($node, 'bad_above', 'INSERT INTO bad_above ' . $above->('', '', ''), parallelism => 2);
	$events->send_rows('bad', map { [ $_ % 2, $_ / 10, 'k' . $_ % 3, $_ % 100 == 17 || $_ == 500 ? 0 : $_ ] } 1 .. 1000);
	wait_caught_up($node, $_) for qw(bad bad_above);
	stop($_, drain => 1) for qw(bad bad_above);
	my $letters = sub { my ($name) = @_; return value("SELECT count(*) || ' ' || string_agg(DISTINCT kind || ' ' || sqlstate || ' ' || statement || coalesce(' ' || topic, ''), ', ') FROM streamproc.dead_letter WHERE pipeline = '$name'") };
	is($letters->('bad'), '11 output 22012 1', 'a row for which an expression between the two fails is a dead letter');
	is(value(q{SELECT bool_and("row"->>'lag' = '0' AND ("row"->>'at') IS NOT NULL) FROM streamproc.dead_letter WHERE pipeline = 'bad'}), 't', 'with what was answered, as JSON');
	$events->same_rows('bad', $between->(', t.p, t.o', ', q.p, q.o', 'WHERE q.prev <> 0 OR q.prev IS NULL'), 'all others are answered as if it were not there');
	is($letters->('bad_above'), '2 output 22012 1', 'one for which a condition above fails, too');
	$events->same_rows('bad_above', $above->(', t.p, t.o', ', q.p, q.o', '') =~ s/100 \/ \(s\.r - 17\)/100 \/ nullif(s.r - 17, 0)/gr, 'all others are given out');
	wait_state($node, 'bad_fail', 'failed');
	is(value(q{SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'bad_fail'}), '22012', 'on_error fail: the pipeline fails');
};

# ---- refusals ----

section 'refusals' => sub {
	$events->make_topic($_, 1) for 'no', 'no2';
	value('CREATE TABLE no (k text, n bigint, PRIMARY KEY (k))');
	my $try = sub { my ($query, $options) = @_; return $events->error_of("SELECT streamproc.create_pipeline('x', \$\$INSERT INTO no $query\$\$" . ($options // '') . ')') };
	my $inner = '(SELECT t.k, t.v, t.at, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at) AS prev, lag(t.at) OVER (PARTITION BY t.k ORDER BY t.at) AS prev_at FROM no_in t)';
	my $ok = "SELECT q.k, lag(q.prev) OVER (PARTITION BY q.v ORDER BY q.at) FROM $inner q";
	like($try->($ok, q{, ordering => 'arrival'}), qr/0A000: window functions or DISTINCT ON over other window functions.*need the rows in the order of event time.*HINT/s, 'in the order of arrival');
	like($try->($ok, q{, emit => 'changes'}), qr/0A000: rows of window functions are given out once/, 'emit => changes');
	like($try->("SELECT q.k, lag(q.prev) OVER (PARTITION BY q.v ORDER BY q.prev_at) FROM $inner q"), qr/0A000: rows of a topic in another order than that of event time are not supported\nLINE 1.*HINT/s, 'a time that is a result');
	like($try->("SELECT DISTINCT ON (q.k) q.k, q.v FROM $inner q ORDER BY q.k, q.prev_at"), qr/0A000: DISTINCT ON without a window|0A000: row_number\(\) or DISTINCT ON without a window gives out a group again/, 'first rows by it are running ones');
	like($try->("SELECT q.k, lag(q.prev) OVER (PARTITION BY q.v ORDER BY q.at) FROM (SELECT * FROM $inner a UNION ALL SELECT * FROM $inner b) q"), qr/0A000: window functions or DISTINCT ON over a UNION ALL of window functions.*LINE 1.*HINT/s, 'two of them');
	like($try->("SELECT DISTINCT ON (q.k) q.k, q.prev FROM (SELECT * FROM $inner a UNION ALL SELECT * FROM $inner b) q ORDER BY q.k, q.at"), qr/0A000: window functions or DISTINCT ON over a UNION ALL of window functions.*LINE 1.*HINT/s, 'first rows of two');
	like($try->("SELECT q.k, lag(q.v) OVER (PARTITION BY q.v ORDER BY q.at) FROM $inner q"), qr/0A000: statement 1 computes window functions or groups that nothing uses.*HINT/s, 'what nobody uses');
	like($try->("SELECT a.k, lag(b.v) OVER (PARTITION BY a.k ORDER BY b.at) FROM no_in a LEFT JOIN no2_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s'"), qr/0A000: rows of a topic in another order than that of event time are not supported\nLINE 1.*HINT/s, 'a time that rows without partner do not have');
	like($try->("SELECT a.k, lag(r.v) OVER (PARTITION BY a.k ORDER BY r.at) FROM no_in a JOIN LATERAL (SELECT b.v, b.at FROM no2_in b WHERE b.k = a.k AND b.at <= a.at ORDER BY b.at DESC LIMIT 1) r ON true"), qr/0A000: rows of a topic in another order than that of event time are not supported\nLINE 1.*HINT/s, 'the time of versions');
	like($try->("SELECT g.k, lag(g.n) OVER (PARTITION BY g.k ORDER BY g.s) FROM (SELECT q.k, w.window_start AS s, count(q.prev) AS n FROM $inner q, streamproc.tumble(q.at, '1 min') w GROUP BY q.k, w.window_start) g"), qr/0A000: window functions or DISTINCT ON over groups.*LINE 1.*HINT/s, 'over groups, beyond their windows');
	my %below = (
		'window functions' => $inner,
		'DISTINCT ON' => '(SELECT DISTINCT ON (t.k) t.* FROM no_in t ORDER BY t.k, t.at)',
		'a join' => q{(SELECT t.k, t.v, t.at FROM no_in t JOIN no2_in u ON t.k = u.k AND u.at = t.at)},
		'an as-of join' => '(SELECT t.k, u.v, t.at FROM no_in t JOIN LATERAL (SELECT u.v FROM no2_in u WHERE u.k = t.k AND u.at <= t.at ORDER BY u.at DESC LIMIT 1) u ON true)',
		'first rows' => '(SELECT x.* FROM (SELECT t.*, row_number() OVER (PARTITION BY t.k ORDER BY t.v) AS rn FROM no_in t) x WHERE x.rn <= 2)',
		'groups' => q{(SELECT t.k, w.window_start AS at, count(*) AS v FROM no_in t, streamproc.tumble(t.at, '1 min') w GROUP BY t.k, w.window_start)});
	my $refused = qr/0A000: a join of topics over groups, window functions, DISTINCT ON or another join of topics is not supported\nLINE 1.*HINT:  Write the results below into a topic, and join that/s;
	for my $what (sort keys %below)
	{
		like($try->("SELECT a.k, a.v FROM $below{$what} a JOIN no2_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s'"), $refused, "$what below a join");
		like($try->("SELECT b.k, a.v FROM no2_in b LEFT JOIN $below{$what} a ON a.k = b.k AND a.at BETWEEN b.at AND b.at + interval '1 s'"), $refused, "... on its other side");
		like($try->("SELECT a.k, r.v FROM $below{$what} a JOIN LATERAL (SELECT b.v FROM no2_in b WHERE b.k = a.k AND b.at <= a.at ORDER BY b.at DESC LIMIT 1) r ON true"), $what eq 'groups' ? qr/0A000: an as-of join at another time than the event time of the row is not supported\nLINE 1.*HINT/s : $refused, "... below an as-of join");
		like($try->("SELECT b.k, r.v FROM no2_in b JOIN LATERAL (SELECT a.v FROM $below{$what} a WHERE a.k = b.k AND a.at <= b.at ORDER BY a.at DESC LIMIT 1) r ON true"), $refused, '... as its versions');
	}
};

done_testing();

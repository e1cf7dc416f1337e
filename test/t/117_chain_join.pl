# Rows of a join of two topics that are grouped: what the oracle suite does not see.  When windows close, what is late, what
# outlives a stop, a kill and another number of tasks; pairs of one key that nobody could hold at once; what is refused.
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

# topics and foreign tables <name>_a_in and <name>_b_in
sub make_topics
{
	my ($name, $partitions, %options) = @_;
	$events->make_topic("${name}_$_", $partitions, %options) for 'a', 'b';
	return;
}

# send('name', [ side, partition, seconds, key, value ], ...): side 'a' or 'b'
sub send_rows
{
	my ($name, @rows) = @_;
	for my $side ('a', 'b')
	{
		my @mine = map { [ @$_[ 1 .. $#$_ ] ] } grep { $_->[0] eq $side } @rows;
		$events->send_rows("${name}_$side", @mine) if @mine;
	}
	return;
}

# per key and window: rows, those with a partner, and values of both sides
sub select_of
{
	my ($name, $join, $from, $to, $at) = @_;
	$at //= 'a.at';
	return "SELECT coalesce(a.k, b.k) AS k, w.window_start AS at, count(*) AS n, count(a.v + b.v) AS pairs, sum(coalesce(a.v, 0) * 10 + coalesce(b.v, 0)) AS s "
	  . "FROM ${name}_a_in a $join ${name}_b_in b ON a.k = b.k AND b.at BETWEEN a.at - interval '$from' AND a.at + interval '$to' CROSS JOIN LATERAL streamproc.tumble($at, '10 s') w GROUP BY coalesce(a.k, b.k), w.window_start";
}

sub make_pipeline
{
	my ($name, $partitions, $topic, $select, %options) = @_;
	make_topics($name, $partitions, %$topic);
	value("CREATE TABLE $name (k text, at timestamptz, n bigint, pairs bigint, s numeric, PRIMARY KEY (k, at))");
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, @$select), %options);
	return;
}

sub rows_of { my ($name) = @_; return value("SELECT string_agg(k || sec(at) || ' ' || n || ' ' || pairs, ', ' ORDER BY at, k) FROM $name") }
sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }
sub late { my ($name) = @_; return value("SELECT string_agg(operator || ' ' || right(topic, 1) || ' ' || sec(event_time) || coalesce(' ' || window_start, ''), ', ' ORDER BY event_time, topic) FROM streamproc.late_row WHERE pipeline = '$name'") }

# rows that came too late take no part
sub same_as_batch
{
	my ($name, $select, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $in_time = join(', ', map { "x_${_}_in AS MATERIALIZED (SELECT * FROM ${name}_${_}_in i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.topic = '${name}_$_' AND l.partition = i.p AND l.\"offset\" = i.o))" } 'a', 'b');
	return $events->same_rows($name, "WITH $in_time " . select_of('x', @$select), $what);
}

# ---- when windows close ----

# Partners of a row come up to 5 s behind it.
# catches: a window that closes before a pair of its rows can have come, or long after; a row that is late between the two operators
section 'closing' => sub {
	my @select = ('JOIN', '1 s', '5 s');
	make_pipeline('closing', 2, {}, \@select, parallelism => 2);
	send_rows('closing', [ 'a', 0, 1, 'x', 1 ], [ 'a', 1, 9.95, 'x', 2 ], [ 'b', 0, 6, 'x', 3 ], [ 'b', 1, 14.94, 'x', 4 ]);
	send_rows('closing', map { my $p = $_; map { [ $_, $p, 15.05, 'y', 1 ] } 'a', 'b' } 0, 1);
	is(settled('closing'), '', 'a partner may still come into the slice that the watermark stands at');
	send_rows('closing', [ 'b', 0, 15.01, 'z' ], map { my $p = $_; map { [ $_, $p, 15.1, 'y', 1 ] } 'a', 'b' } 0, 1);
	is(settled('closing'), 'x0 2 2', 'when it has passed that the window closes');
	send_rows('closing', [ 'b', 0, 14.949, 'x', 100 ], [ 'a', 0, 9.99, 'x', 100 ]);
	is(settled('closing'), 'x0 2 2', 'what comes too late finds no partner');
	is(late('closing'), '0 a 9.99, 0 b 14.949', 'it is late for the join, and once');
	is(value(q{SELECT string_agg(operator || ' ' || kind || ' ' || rows_in, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'closing'}), '0 join 15, 1 aggregate 18',
		'the view shows both operators, and what went from one to the other');
	stop('closing', drain => 1);
	is(rows_of('closing'), 'x0 2 2, y10 16 16', 'drained, all windows are given out');
	same_as_batch('closing', \@select, 'and all is as the batch query gives it');
	# the drain has closed the window until 20 s: who might find a partner in it is late
	start('closing');
	send_rows('closing', [ 'b', 0, 20.5, 'y', 7 ], [ 'b', 0, 24.99, 'w', 7 ], [ 'a', 1, 25, 'w', 2 ], [ 'b', 1, 26, 'w', 3 ]);
	stop('closing', drain => 1);
	is(late('closing'), '0 a 9.99, 0 b 14.949, 0 b 20.5, 0 b 24.99', 'after a drain rows are late that might belong to its last window');
	same_as_batch('closing', \@select, 'all others are right');
};

# catches: a window of the later side that waits for partners which it does not have
section 'later side' => sub {
	my @select = ('JOIN', '0 s', '1 min', 'b.at');
	make_pipeline('later', 1, {}, \@select);
	send_rows('later', [ 'a', 0, 1, 'x', 1 ], [ 'a', 0, 2, 'x', 2 ], [ 'b', 0, 9.99, 'x', 3 ], [ 'a', 0, 10.1, 'y' ], [ 'b', 0, 10.1, 'z' ]);
	is(settled('later'), 'x0 2 2', 'its rows come with those that the watermark has passed');
	stop('later', drain => 1);
	same_as_batch('later', \@select, 'as the batch query');
};

# catches: a row without partner that comes when its window has been given out
section 'outer' => sub {
	my @select = ('FULL JOIN', '2 s', '5 s', 'coalesce(a.at, b.at)');
	make_pipeline('outer_', 1, {}, \@select, parallelism => 2);
	send_rows('outer_', [ 'a', 0, 9.99, 'x' ], [ 'b', 0, 8.5, 'y' ], [ 'a', 0, 3, 'z' ], [ 'b', 0, 4, 'z' ], [ 'a', 0, 15, 'w' ], [ 'b', 0, 15.09, 'w' ]);
	is(settled('outer_'), '', 'a row of the window may still find a partner');
	send_rows('outer_', [ 'a', 0, 15.1, 'w' ], [ 'b', 0, 15.1, 'w' ]);
	is(settled('outer_'), 'x0 1 0, y0 1 0, z0 1 1', 'none can come any more: rows alone and the window come at once');
	stop('outer_', drain => 1);
	same_as_batch('outer_', \@select, 'as the batch query');
	start('outer_');
	send_rows('outer_', map { my $i = $_; map { [ $_, 0, 30 + $i / 10, 'k' . ($i * ($_ eq 'a' ? 7 : 11)) % 13, $i ] } 'a', 'b' } 1 .. 400);
	stop('outer_', drain => 1);
	is(late('outer_'), '', 'nothing is late');
	same_as_batch('outer_', \@select, 'and so it is after the next run');
};

# catches: more lateness than the second operator has waited for
section 'lateness' => sub {
	my @select = ('LEFT JOIN', '2 s', '5 s');
	make_pipeline('lateness', 1, {}, \@select);
	send_rows('lateness', map { my $s = $_; [ $s, 0, 1, 'x' ], [ $s, 0, 3600, 'x' ] } 'a', 'b');
	is(settled('lateness'), 'x0 1 1', 'the first window is closed');
	stop('lateness');
	value(q{SELECT streamproc.alter_pipeline('lateness', allowed_lateness => '2 h')});
	start('lateness');
	send_rows('lateness', [ 'b', 0, 4, 'x' ], [ 'a', 0, 1800, 'x' ], [ 'a', 0, 3602, 'x' ], [ 'b', 0, 3603, 'x' ]);
	is(settled('lateness'), 'x0 1 1', 'nothing fails');
	stop('lateness', drain => 1);
	is(late('lateness'), '0 b 4, 0 a 1800', 'what lies before the watermark of the windows, and of their partners, is late for the join');
	same_as_batch('lateness', \@select, 'all others are right');
};

# catches: state that stays when everything has been given out
section 'freed' => sub {
	my @select = ('FULL JOIN', '1 s', '2 s', 'coalesce(b.at, a.at)');
	make_pipeline('freed', 1, { idle_timeout => '1 s' }, \@select, parallelism => 2);
	# the last row finds no partner, who would take it into an earlier window
	send_rows('freed', map { [ ('a', 'b')[ $_ % 2 ], 0, $_ / 20, 'k' . ($_ == 600 ? 'last' : int(rand(50))), $_ ] } 1 .. 600);
	wait_query($node, 'SELECT sec(max(at)) FROM freed', 30, 60);
	wait_query($node, q{SELECT string_agg(panes || ' ' || keys || ' ' || bytes, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'freed'}, '0 0 0, 0 0 0', 60);
	pass('silence closes both operators: nothing is kept');
	same_as_batch('freed', \@select, 'and all of it was right');
};

# ---- kills ----

# catches: pairs that are passed on twice, or are lost, between the two operators
section 'kills' => sub {
	my @select = ('FULL JOIN', '1 s', '2 s', 'coalesce(a.at, b.at)');
	make_pipeline('kills', 2, { watermark_delay => '500 ms' }, \@select, parallelism => 2);
	my $n = 0;
	my $more = sub {
		send_rows('kills', map { my $i = $_; map { [ $_, $i % 2, $n + $i / 20, 'k' . $i * ($_ eq 'a' ? 3 : 5) % 17, $i * 7 % 50 ] } 'a', 'b' } 1 .. 80);
		$n += 4;
		return;
	};
	for my $point (qw(operator-apply over-pass over-release over-released keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied|apply/;
			ok($crash->provoke($point, $action, $more), "$point, $action: it hits");
			$crash->reset_fault;
			wait_query($node, 'SELECT 1', 1, 60);
			$crash->catch_up('kills');
		}
	}
	$events->kill('kills', $_), $more->() for qw(task launcher postmaster);
	wait_caught_up($node, 'kills', 60);
	for my $tasks (1, 4)
	{
		stop('kills');
		value("SELECT streamproc.alter_pipeline('kills', parallelism => $tasks)");
		start('kills');
		$more->();
		wait_caught_up($node, 'kills', 60);
	}
	stop('kills', drain => 1);
	is(late('kills'), '', 'nothing is late');
	same_as_batch('kills', \@select, 'nothing is lost or doubled');
};

# ---- many pairs ----

# A million pairs of one key, 100 MB of them, in 4 MB of state.
# catches: a key group that is kept until all of its rows have found their partners
section 'hot' => sub {
	make_topics('hot', 1);
	value('CREATE TABLE hot (k text PRIMARY KEY, n bigint, s numeric)');
	my $select = q{SELECT a.k, count(*), sum(a.v * b.v) FROM hot_a_in a JOIN hot_b_in b ON a.k = b.k AND b.at BETWEEN a.at - interval '1 h' AND a.at + interval '1 h' GROUP BY a.k};
	create_pipeline($node, 'hot', "INSERT INTO hot $select ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n, s = EXCLUDED.s", parallelism => 2, state_memory => '4 MB');
	send_rows('hot', map { my $i = $_; map { [ $_, 0, $i / 10, 'hot', $i ] } 'a', 'b' } 1 .. 1000);
	wait_caught_up($node, 'hot', 120);
	is(value('SELECT n FROM hot'), 1_000_000, 'pairs of one key go on as they come');
	$events->same_rows('hot', $select, 'as the batch query');
};

# ---- rows that cannot be taken ----

# catches: one pair that stops the pipeline, or takes others with it
section 'bad rows' => sub {
	make_topics('bad', 2);
	value('CREATE TABLE bad (at timestamptz, n bigint, x bigint); CREATE TABLE bad_fail (LIKE bad)');
	my $select = sub { my ($where) = @_; return "SELECT w.window_start, count(*), sum(100 / b.v) FROM bad_a_in a JOIN bad_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s', streamproc.tumble(a.at, '10 s') w $where GROUP BY w.window_start" };
	create_pipeline($node, 'bad', 'INSERT INTO bad ' . $select->(''), parallelism => 2);
	create_pipeline($node, 'bad_fail', 'INSERT INTO bad_fail ' . $select->(''), on_error => 'fail');
	send_rows('bad', map { my $i = $_; [ 'a', $i % 2, $i / 10, "k$i", $i ], [ 'b', $i % 2, $i / 10 + 0.5, "k$i", $i % 100 == 17 || $i == 500 ? 0 : $i ] } 1 .. 1000);
	wait_caught_up($node, 'bad');
	stop('bad', drain => 1);
	is(value(q{SELECT count(*) || ' ' || string_agg(DISTINCT kind || ' ' || sqlstate || ' ' || statement || coalesce(' ' || topic, ''), ', ') FROM streamproc.dead_letter WHERE pipeline = 'bad'}), '11 output 22012 1',
		'a pair for which an expression fails is a dead letter');
	is(value(q{SELECT bool_and("row"->>'right.v' = '0' AND ("row"->>'left.at') IS NOT NULL) FROM streamproc.dead_letter WHERE pipeline = 'bad'}), 't', 'with its columns of both sides, as JSON');
	$events->same_rows('bad', $select->('WHERE b.v <> 0'), 'all others are counted');
	wait_state($node, 'bad_fail', 'failed');
	is(value(q{SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'bad_fail'}), '22012', 'on_error fail: the pipeline fails');
};

# An aggregate that throws has changed part of the state: the next run puts back what the row did.
# catches: a pipeline that fails at each start; rows that are lost with the bad one, or counted twice
section 'bad aggregates' => sub {
	make_topics('picky', 2);
	value(q{CREATE FUNCTION picky(s numeric, v bigint) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN IF v = 13 THEN RAISE EXCEPTION 'not 13'; END IF; RETURN s + v; END $f$;
		CREATE AGGREGATE picky_sum(bigint) (SFUNC = picky, STYPE = numeric, INITCOND = 0, COMBINEFUNC = numeric_add);
		CREATE TABLE picky (at timestamptz, k text, n bigint, x numeric); CREATE TABLE picky_over (LIKE picky)});
	my $pairs = sub { my ($where) = @_; return "SELECT w.window_start, a.k, count(*), picky_sum(b.v) FROM picky_a_in a JOIN picky_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s', streamproc.hop(a.at, '5 s', '10 s') w $where GROUP BY w.window_start, a.k" };
	my $over = sub { my ($where) = @_; return "SELECT w.window_start, q.k, count(*), picky_sum(q.prev) FROM (SELECT a.k, a.at, lag(a.v) OVER (PARTITION BY a.k ORDER BY a.at) AS prev FROM picky_a_in a) q, streamproc.tumble(q.at, '10 s') w $where GROUP BY w.window_start, q.k" };
	create_pipeline($node, 'picky', 'INSERT INTO picky ' . $pairs->(''), parallelism => 2);
	create_pipeline($node, 'picky_over', 'INSERT INTO picky_over ' . $over->(''), parallelism => 2);
	send_rows('picky', map { my $i = $_; [ 'a', $i % 2, $i / 10, 'k' . $i % 7, $i % 90 ], [ 'b', $i % 2, $i / 10 + 0.05, 'k' . $i % 7, $i % 100 ] } 1 .. 600);
	wait_caught_up($node, $_, 60) for qw(picky picky_over);
	stop($_, drain => 1) for qw(picky picky_over);
	my $letters = sub { my ($name) = @_; return value("SELECT count(*) || ' ' || string_agg(DISTINCT kind || ' ' || sqlstate || ' ' || message, ', ') FROM streamproc.dead_letter WHERE pipeline = '$name'") };
	is($letters->('picky'), value(q{SELECT count(*) FROM picky_a_in a JOIN picky_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 s' WHERE b.v = 13}) . ' output P0001 not 13', 'pairs that an aggregate throws at are dead letters');
	is($letters->('picky_over'), '7 output P0001 not 13', '... and answers of window functions');
	$events->same_rows('picky', $pairs->('WHERE b.v <> 13'), 'all others are counted once, in all of their windows');
	$events->same_rows('picky_over', $over->('WHERE q.prev IS DISTINCT FROM 13'), '... and the answers');
};

# ---- what is given out when ----

section 'changes' => sub {
	make_topics('changes', 1);
	value('CREATE TABLE changes (at timestamptz PRIMARY KEY, n bigint, m bigint); CREATE TABLE totals (k text PRIMARY KEY, n bigint)');
	my $join = q{FROM changes_a_in a JOIN changes_b_in b ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '10 s'};
	create_pipeline($node, 'changes', "INSERT INTO changes SELECT w.window_start, count(*), max(b.v) $join, streamproc.tumble(a.at, '1 min') w GROUP BY w.window_start ON CONFLICT (at) DO UPDATE SET n = EXCLUDED.n, m = EXCLUDED.m", emit => 'changes');
	create_pipeline($node, 'totals', "INSERT INTO totals SELECT a.k, count(*) $join GROUP BY a.k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n", ordering => 'arrival');
	send_rows('changes', [ 'a', 0, 1, 'x', 1 ], [ 'a', 0, 2, 'y', 1 ], [ 'b', 0, 3, 'x', 7 ]);
	wait_caught_up($node, $_) for qw(changes totals);
	is(value('SELECT sec(at) || $$ $$ || n || $$ $$ || m FROM changes'), '0 1 7', 'changes of a window that is open');
	send_rows('changes', [ 'b', 0, 4, 'y', 9 ], [ 'b', 0, 5, 'x', 3 ]);
	wait_caught_up($node, $_) for qw(changes totals);
	is(value('SELECT sec(at) || $$ $$ || n || $$ $$ || m FROM changes'), '0 3 9', '... and with the next pairs');
	is(value('SELECT string_agg(k || $$ $$ || n, $$, $$ ORDER BY k) FROM totals'), 'x 2, y 1', 'totals over pairs');
	is(value("SELECT result FROM streamproc.check_pipeline(\$q\$INSERT INTO changes SELECT w.window_start, count(*), 1 $join, streamproc.tumble(a.at, '1 min') w GROUP BY w.window_start\$q\$)"), 'append', 'final windows are appended');
	my $other = "INSERT INTO totals SELECT b.k, count(*) $join GROUP BY b.k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n";
	like($events->error_of("SELECT streamproc.alter_pipeline('totals', query => \$q\$$other\$q\$)"), qr/the state of pipeline "totals" does not fit the new query/, 'groups by a column of the other side are other groups');
};

# ---- refusals ----

section 'refusals' => sub {
	make_topics('no', 1);
	value('CREATE TABLE no (at timestamptz PRIMARY KEY, n bigint)');
	my $try = sub { my ($query, $options) = @_; return $events->error_of("SELECT streamproc.create_pipeline('x', \$\$INSERT INTO no $query\$\$" . ($options // '') . ')') };
	my $on = q{ON a.k = b.k AND b.at BETWEEN a.at AND a.at + interval '1 min'};
	my $of = sub { my ($join, $at) = @_; return "SELECT w.window_start, count(*) FROM no_a_in a $join no_b_in b $on, streamproc.tumble($at, '1 min') w GROUP BY w.window_start" };
	my $known = qr/0A000: tumble\(\) over something else than the event time of the topic is not supported\nLINE 1.*HINT:.*of an outer join of topics that of the side whose rows are all given out, or coalesce\(\) of both/s;
	like($try->($of->('LEFT JOIN', 'b.at')), $known, 'a time that rows without partner do not have');
	like($try->($of->('RIGHT JOIN', 'a.at')), $known, 'the same from the other side');
	like($try->($of->('FULL JOIN', 'a.at')), $known, 'of a full join no time of one side');
	like($try->($of->('FULL JOIN', 'coalesce(a.at, a.at)')), $known, 'nor twice of one side');
	like($try->("SELECT w.window_start, count(*) FROM (SELECT b.at FROM no_a_in a LEFT JOIN no_b_in b $on) q, streamproc.tumble(q.at, '1 min') w GROUP BY w.window_start"), $known, 'nor through a subquery');
	like($try->($of->('JOIN', "a.at + interval '1 s'")), $known, 'a time that was moved');
	like($try->($of->('JOIN', 'a.at') . ' ON CONFLICT (at) DO UPDATE SET n = EXCLUDED.n', q{, late => 'update', allowed_lateness => '1 min'}), qr/0A000: GROUP BY over a join of topics gets no late rows.*HINT/s, 'late => update');
	like($try->("SELECT q.at, count(*) FROM (SELECT a.at FROM no_a_in a JOIN no_b_in b $on UNION ALL SELECT a.at FROM no_a_in a JOIN no_b_in b $on) q GROUP BY q.at ON CONFLICT (at) DO UPDATE SET n = EXCLUDED.n"), qr/0A000: GROUP BY over a UNION ALL.*joins of topics.*LINE 1.*HINT/s, 'rows of two joins');
	like($try->("SELECT lower(q.s), count(*) FROM (SELECT a.k, streamproc.session(b.at, '1 min') OVER (PARTITION BY a.k ORDER BY b.at) AS s FROM no_a_in a LEFT JOIN no_b_in b $on) q GROUP BY q.k, q.s"), qr/0A000: rows of a topic in another order than that of event time are not supported\nLINE 1.*HINT/s, 'sessions by a time that may be missing');
	like($try->("SELECT a.at, count(*) FROM no_a_in a JOIN no_b_in b $on GROUP BY a.at ON CONFLICT (at) DO UPDATE SET n = EXCLUDED.n", q{, state_ttl => '1 h'}), qr/0A000: option "state_ttl" for groups without a window over window functions, DISTINCT ON or a join of topics is not supported.*HINT/s, 'state_ttl');
};

done_testing();

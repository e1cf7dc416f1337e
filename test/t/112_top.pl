# The first rows of each key: what the oracle suite does not see.  When they are given out, what takes whose place in a table
# and in a topic, what outlives kills and other numbers of tasks, what is written at all, and what is refused.
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
sub send_rows { return $events->send_rows(@_) }
sub same_rows { local $Test::Builder::Level = $Test::Builder::Level + 1; return $events->same_rows(@_) }

# SELECT of the first $n rows; {o} in $over is the order of equal ones, which a batch has to say
sub first_rows
{
	my ($from, $columns, $over, $n, $batch) = @_;
	my $order = $batch ? ', t.p, t.o' : '';
	$over =~ s/\{o\}/$order/;
	return "SELECT $columns FROM (SELECT t.*, row_number() OVER ($over) AS rn FROM $from t) q WHERE rn <= $n";
}

# ---- running ----

my $running = 'PARTITION BY t.k ORDER BY t.v DESC{o}';
my $upsert = 'ON CONFLICT (k, rn) DO UPDATE SET v = excluded.v, p = excluded.p, o = excluded.o';

sub make_running
{
	my ($name, $partitions, $n, %options) = @_;
	$events->make_topic($name, $partitions);
	value("CREATE TABLE $name (k text, rn bigint, v bigint, p int, o bigint, PRIMARY KEY (k, rn))");
	create_pipeline($node, $name, "INSERT INTO $name " . first_rows("${name}_in", 'k, rn, v, p, o', $running, $n) . " $upsert", %options);
	return;
}

# catches: a place that keeps its old row; rows that write though they take no place
$events->section('running', sub {
	make_running('run', 1, 2);
	my $rows = q{SELECT string_agg(k || rn || ' ' || v || '/' || o, ', ' ORDER BY k, rn) FROM run};
	send_rows('run', [ 0, 1, 'a', 10 ], [ 0, 2, 'a', 30 ], [ 0, 3, 'b', 5 ]);
	wait_caught_up($node, 'run');
	is(value($rows), 'a1 30/1, a2 10/0, b1 5/2', 'the best two of each key');
	send_rows('run', [ 0, 4, 'a', 20 ]);
	wait_caught_up($node, 'run');
	is(value($rows), 'a1 30/1, a2 20/3, b1 5/2', 'a better one takes the place of another');
	send_rows('run', [ 0, 5, 'a', 30 ], [ 0, 6, 'a', 40 ]);
	wait_caught_up($node, 'run');
	is(value($rows), 'a1 40/5, a2 30/1, b1 5/2', 'places move; of equal rows the first one is before');
	my $tids = q{SELECT string_agg(ctid::text, ',' ORDER BY k, rn) FROM run};
	my $before = value($tids);
	send_rows('run', map { [ 0, 7, 'a', $_ ] } 1 .. 20);
	wait_caught_up($node, 'run');
	is(value($tids), $before, 'rows that take no place write nothing');
	like(value(q{SELECT kind || ' ' || aggregates || ' ' || keys || ' ' || rows_in FROM streamproc.stat_operator WHERE pipeline = 'run'}), qr/^top first 2 rows 2 26$/, 'stat_operator');
	like(value("SELECT result || ' ' || string_agg(plan, ' ') FROM streamproc.check_pipeline(\$\$INSERT INTO run " . first_rows('run_in', 'k, rn, v, p, o', $running, 2) . " $upsert\$\$) GROUP BY result"), qr/^upsert .*Streamproc Top.*First Rows: 2/s, 'check_pipeline');
});

# catches: lists that lose rows, or have them twice, when the state is read again or another task goes on
$events->section('running random', sub {
	make_running('grow', 4, 5, parallelism => 1);
	my $now = 0;
	my $more = sub {
		my ($n) = @_;
		return send_rows('grow', map { [ int(rand(4)), $now += 0.01, 'k' . int(rand(40)), int(rand(200)) ] } 1 .. $n);
	};
	$more->(800);
	wait_caught_up($node, 'grow');
	value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 4)});
	for my $what ('task', 'launcher', 'postmaster')
	{
		my $position = q{SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'grow'};
		my $before = value($position);
		$more->(600);
		wait_query($node, "SELECT ($position) > $before", 't', 60);
		$events->kill('grow', $what);
	}
	value(q{SELECT streamproc.wait_until_caught_up('grow', '120 s')});
	same_rows('grow', first_rows('grow_in', 'k, rn, v, p, o', $running, 5, 1), 'after kills and with other numbers of tasks the lists are those of the batch query, equal rows too');
});

# catches: a commit that is repeated, or an epoch that is run again, and doubles or loses rows
$events->section('faults', sub {
	make_running('faults', 2, 3, parallelism => 2);
	my $n = 0;
	for my $point (qw(operator-apply keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		my $more = sub {
			send_rows('faults', map { [ $_ % 2, $n + $_ / 10, 'k' . $_ % 7, ($_ * 37 + $n) % 101 ] } 1 .. 40);
			$n += 4;
			return;
		};
		ok($crash->provoke($point, 'kill', $more), "$point: it hits");
		$crash->reset_fault;
		wait_query($node, 'SELECT 1', 1, 60);
		value(q{SELECT streamproc.wait_until_caught_up('faults', '60 s')});
	}
	same_rows('faults', first_rows('faults_in', 'k, rn, v, p, o', $running, 3, 1), 'nothing is lost or doubled');
});

# catches: a message for a place that did not change; a key of messages that several places share
$events->section('into a topic', sub {
	$events->make_topic('src', 1);
	$kafka->topic('best', 1);
	value(q{CREATE FOREIGN TABLE best (key text OPTIONS (kafka 'key'), k text, rn bigint, v bigint, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'best')});
	create_pipeline($node, 'best', q{INSERT INTO best SELECT k || '/' || rn, k, rn, v FROM (SELECT t.k, t.v, row_number() OVER (PARTITION BY t.k ORDER BY t.v DESC) AS rn FROM src_in t) q WHERE rn <= 2});
	for my $rows ([ [ 0, 1, 'a', 1 ], [ 0, 2, 'a', 2 ], [ 0, 3, 'b', 7 ] ], [ [ 0, 4, 'a', 3 ], [ 0, 5, 'a', 0 ] ])
	{
		send_rows('src', @$rows);
		wait_caught_up($node, 'best');
	}
	is(value(q{SELECT string_agg(key || ' ' || v, ', ' ORDER BY key) FROM (SELECT DISTINCT ON (key) * FROM best ORDER BY key, o DESC) b}), 'a/1 3, a/2 2, b/1 7', 'the compacted topic is the list');
	like($events->error_of(q{SELECT streamproc.create_pipeline('x', 'INSERT INTO best SELECT k, k, rn, v FROM (SELECT t.k, t.v, row_number() OVER (PARTITION BY t.k ORDER BY t.v DESC) AS rn FROM src_in t) q WHERE rn <= 2')}), qr/0A000: row_number\(\) or DISTINCT ON without a window gives out.*HINT:  Make the key/s, 'a key without the number is refused');
});

# ---- the last row of each key ----

# catches: an older row that comes later and takes the place of the last one
$events->section('last', sub {
	$events->make_topic('last', 2);
	value('CREATE TABLE last (k text PRIMARY KEY, v bigint, at timestamptz)');
	create_pipeline($node, 'last', q{INSERT INTO last SELECT DISTINCT ON (t.k) t.k, t.v, t.at FROM last_in t ORDER BY t.k, t.at DESC ON CONFLICT (k) DO UPDATE SET v = excluded.v, at = excluded.at});
	send_rows('last', [ 0, 10, 'a', 1 ], [ 1, 5, 'a', 2 ], [ 0, 7, 'b', 3 ]);
	wait_caught_up($node, 'last');
	is($events->times('last'), 'b7 a10', 'the last row by event time, not by arrival');
	send_rows('last', [ 1, 9.9, 'a', 4 ], [ 1, 8, 'b', 5 ]);
	wait_caught_up($node, 'last');
	is($events->times('last'), 'b8 a10', 'a later one takes its place, an older one does not');
	like($events->error_of(q{SELECT streamproc.create_pipeline('x', 'INSERT INTO last SELECT DISTINCT ON (t.k) t.k, t.v, t.at FROM last_in t ORDER BY t.k, t.at DESC')}), qr/0A000: row_number\(\) or DISTINCT ON without a window gives out a group again.*HINT:  Write ON CONFLICT.*DISTINCT ON/s, 'without ON CONFLICT it is refused');
});

# ---- windows ----

# catches: rows that are given out before the window is closed, or again; late ones that count
$events->section('windows', sub {
	$events->make_topic('win', 2);
	value('CREATE TABLE win (k text, rn bigint, v bigint, at timestamptz, window_start timestamptz)');
	my $query = q{SELECT q.k, q.rn, q.v, q.at, q.window_start FROM (SELECT t.*, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.k ORDER BY t.v DESC{o}) AS rn FROM win_in t, streamproc.tumble(t.at, '10 s') w) q WHERE q.rn <= 2};
	create_pipeline($node, 'win', 'INSERT INTO win ' . $query =~ s/\{o\}//r, parallelism => 2);
	send_rows('win', [ 0, 1, 'a', 1 ], [ 1, 2, 'a', 3 ], [ 0, 3, 'a', 2 ], [ 0, 9, 'a', 4 ], [ 0, 12, 'a', 9 ]);
	wait_caught_up($node, 'win');
	is($events->times('win'), '', 'a window that is open gives out nothing');
	send_rows('win', [ 1, 10, 'b', 1 ]);
	wait_caught_up($node, 'win');
	is($events->times('win'), 'a2 a9', 'when it is closed its first rows are there');
	send_rows('win', [ 1, 5, 'a', 100 ]);
	wait_caught_up($node, 'win');
	is($events->times('win') . '; ' . $events->late('win'), 'a2 a9; 1/2 5 in 0', 'a row that is too late takes nobody\'s place');
	$events->stop('win', drain => 1);
	same_rows('win', 'WITH win_in AS (SELECT * FROM win_in WHERE v <> 100) ' . $query =~ s/\{o\}/, t.p, t.o/r, 'drained, all windows are');
	is(value(q{SELECT count(*) FROM streamproc.stat_operator WHERE pipeline = 'win' AND keys > 0}), 0, 'and nothing is kept');
});

# Few values, so that many rows are of one rank; in many epochs, whose segments are merged.
# catches: equal rows that are lost with a kill, that come twice, or of which a merged list keeps some
$events->section('ranks', sub {
	$events->make_topic('ranks', 2);
	my $of = sub { my ($function) = @_; return "SELECT q.k, q.rn, q.v, q.at, q.window_start FROM (SELECT t.*, w.window_start, $function OVER (PARTITION BY w.window_start, w.window_end, t.k ORDER BY t.v DESC) AS rn FROM ranks_in t, streamproc.hop(t.at, '5 s', '10 s') w) q WHERE q.rn <= 3" };
	my %select = (ranks => $of->('rank()'), dense => $of->('dense_rank()'));
	for my $name (sort keys %select)
	{
		value("CREATE TABLE $name (k text, rn bigint, v bigint, at timestamptz, window_start timestamptz)");
		create_pipeline($node, $name, "INSERT INTO $name $select{$name}", parallelism => 2);
	}
	my $n = 0;
	my $more = sub { $n++; send_rows('ranks', map { [ $_ % 2, $n * 0.4 + $_ / 100, 'k' . $_ % 3, int(rand(8)) ] } 1 .. 30); wait_caught_up($node, $_, 60) for sort keys %select; return };
	$more->() for 1 .. 40;
	$events->kill('ranks', 'task');
	$events->kill('dense', 'launcher');
	$more->() for 1 .. 5;
	$events->kill('ranks', 'postmaster');
	$more->();
	for my $name (sort keys %select)
	{
		$events->stop($name);
		value("SELECT streamproc.alter_pipeline('$name', parallelism => 1)");
		value("SELECT streamproc.start_pipeline('$name')");
	}
	$more->();
	$events->stop($_, drain => 1) for sort keys %select;
	same_rows($_, $select{$_}, "$_: the rows of the first three of each window, over kills") for sort keys %select;
	is(value(q{SELECT string_agg(DISTINCT aggregates, ', ') FROM streamproc.stat_operator WHERE pipeline IN ('ranks', 'dense')}), 'first 3 ranks', 'the view says so');
});

# catches: a window that changes after it was given out, and does not take the places of its rows
$events->section('late update', sub {
	$events->make_topic('upd', 1);
	value('CREATE TABLE upd (k text, rn bigint, v bigint, window_start timestamptz, PRIMARY KEY (window_start, k, rn))');
	my $insert = q{INSERT INTO upd SELECT q.k, q.rn, q.v, q.window_start FROM (SELECT t.*, w.window_start, row_number() OVER (PARTITION BY w.window_start, t.k ORDER BY t.v DESC) AS rn FROM upd_in t, streamproc.tumble(t.at, '10 s') w) q WHERE q.rn <= 2};
	like($events->error_of("SELECT streamproc.create_pipeline('x', \$\$$insert\$\$, late => 'update', allowed_lateness => '1 min')"), qr/0A000: late => 'update' gives out a group again.*HINT:  Write ON CONFLICT/s, 'it needs ON CONFLICT');
	create_pipeline($node, 'upd', "$insert ON CONFLICT (window_start, k, rn) DO UPDATE SET v = excluded.v", late => 'update', allowed_lateness => '1 min');
	my $rows = q{SELECT string_agg(sec(window_start) || k || rn || ' ' || v, ', ' ORDER BY window_start, k, rn) FROM upd};
	send_rows('upd', [ 0, 1, 'a', 1 ], [ 0, 2, 'a', 3 ], [ 0, 15, 'a', 5 ]);
	wait_caught_up($node, 'upd');
	is(value($rows), '0a1 3, 0a2 1', 'when the watermark has passed its end');
	send_rows('upd', [ 0, 3, 'a', 2 ]);
	wait_caught_up($node, 'upd');
	is(value($rows), '0a1 3, 0a2 2', 'and again when a late row takes a place');
});

# catches: groups of a window that are ranked in two halves
$events->section('groups', sub {
	$events->make_topic('grp', 3);
	value('CREATE TABLE grp (window_start timestamptz, k text, n bigint, r bigint, share numeric)');
	my $select = q{SELECT window_start, k, n, r, share FROM (SELECT g.*, rank() OVER (PARTITION BY g.window_start ORDER BY g.n DESC) AS r, round(g.n / sum(g.n) OVER (PARTITION BY g.window_start), 6) AS share FROM (SELECT t.k, w.window_start, count(*) AS n FROM grp_in t, streamproc.tumble(t.at, '5 s') w GROUP BY t.k, w.window_start) g) x WHERE r <= 3};
	create_pipeline($node, 'grp', "INSERT INTO grp $select", parallelism => 3);
	my $now = 0;
	for my $what ('task', 'launcher')
	{
		send_rows('grp', map { $now += 0.02; [ $_ % 3, $now, 'k' . int(rand(rand(30))) ] } 1 .. 1500);
		wait_query($node, 'SELECT count(*) > 0 FROM grp', 't', 60);
		$events->kill('grp', $what);
	}
	value(q{SELECT streamproc.wait_until_caught_up('grp', '60 s')});
	$events->stop('grp', drain => 1);
	same_rows('grp', $select, 'the first groups of each window, over kills');
	like($events->error_of("SELECT streamproc.create_pipeline('x', \$\$INSERT INTO grp $select ON CONFLICT DO NOTHING\$\$, emit => 'changes')"), qr/0A000: aggregation over windows needs them final/, 'not while windows change');
});

# ---- what is refused ----

$events->section('refused', sub {
	$events->make_topic('no', 1);
	value('CREATE TABLE no (k text, rn bigint, v bigint, PRIMARY KEY (k, rn))');
	my $fails = sub {
		my ($query, $pattern, $place, $what) = @_;
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		my $error = $events->error_of("SELECT streamproc.create_pipeline('x', \$\$INSERT INTO no $query\$\$)");
		return like($error, qr/$pattern.*LINE 1: [^\n]*\n *\^.*HINT: /s, $what);
	};
	my $top = sub { my ($over, $where) = @_; return "SELECT k, rn, v FROM (SELECT t.k, t.v, row_number() OVER ($over) AS rn FROM no_in t) q WHERE $where ON CONFLICT (k, rn) DO UPDATE SET v = excluded.v" };
	$fails->($top->('PARTITION BY t.k ORDER BY t.v', 'v > 0'), '0A000: row_number\(\) over a topic in another order', 1, 'without a number');
	$fails->($top->('PARTITION BY t.k ORDER BY t.v', 'rn <= 2000'), '0A000: the first 2000 rows of each key', 1, 'too many');
	$fails->($top->('PARTITION BY t.k ORDER BY t.v', 'rn < 1'), '0A000: the first 0 rows of each key', 1, 'none');
	$fails->($top->('PARTITION BY t.k ORDER BY t.v', 'rn <= v'), '0A000: row_number\(\) over a topic in another order', 1, 'a number that is none');
	$fails->(q{SELECT k, rn, v FROM (SELECT t.k, t.v, row_number() OVER (PARTITION BY w.window_start ORDER BY t.v) AS rn FROM no_in t, streamproc.tumble(t.at + interval '1 s', '1 min') w) q WHERE rn <= 2}, '0A000: tumble\(\) over something else', 1, 'another time');
	$fails->(q{SELECT g.k, rank() OVER (ORDER BY g.n), g.n FROM (SELECT t.k, w.window_start, count(*) AS n FROM no_in t, streamproc.tumble(t.at, '1 min') w GROUP BY 1, 2) g}, '0A000: window functions or DISTINCT ON over groups', 1, 'groups of all windows');
	my $ranks = sub { my ($function, $over) = @_; return "SELECT k, rn, v FROM (SELECT t.k, t.v, w.window_start, $function OVER ($over) AS rn FROM no_in t, streamproc.tumble(t.at, '1 min') w) q WHERE rn <= 2" };
	$fails->($ranks->('rank()', 'PARTITION BY t.k ORDER BY t.v'), '0A000: the first ranks of each key of a topic without a window are not supported', 1, 'ranks without a window');
	$fails->($ranks->('dense_rank()', 'PARTITION BY t.k ORDER BY t.v DESC'), '0A000: the first ranks of each key of a topic without a window are not supported', 1, 'dense ranks, too');
	for my $option (q{emit => 'changes'}, q{emit => 'every 1 s'}, q{late => 'update', allowed_lateness => '1 s'})
	{
		like($events->error_of(q{SELECT streamproc.create_pipeline('x', 'INSERT INTO no } . $ranks->('rank()', 'PARTITION BY t.k, w.window_start ORDER BY t.v') =~ s/'/''/gr . "', $option)"), qr/0A000: first ranks of a window are given out once.*HINT/s, "ranks with $option");
	}
	like($events->error_of(q{SELECT streamproc.create_pipeline('x', 'INSERT INTO no } . $top->('PARTITION BY t.k ORDER BY t.v', 'rn <= 2 AND v > 0') . q{')}), qr/0A000: HAVING, or a condition on what groups have come to, is not supported.*HINT/s, 'a condition that empties places');
	create_pipeline($node, 'no', 'INSERT INTO no ' . $top->('PARTITION BY t.k ORDER BY t.v', 'rn <= 2'));
	send_rows('no', [ 0, 1 ]);
	wait_caught_up($node, 'no');
	like($events->error_of(q{SELECT streamproc.alter_pipeline('no', query => 'INSERT INTO no } . $top->('PARTITION BY t.k ORDER BY t.v', 'rn <= 3') . q{')}), qr/0A000: the state of pipeline "no" does not fit the new query/, 'another number does not fit the state');
	like($events->error_of(q{SELECT streamproc.alter_pipeline('no', query => 'INSERT INTO no } . $top->('PARTITION BY t.k ORDER BY t.v DESC', 'rn <= 2') . q{')}), qr/0A000: the state of pipeline "no" does not fit the new query/, 'nor does another order');
});

done_testing();

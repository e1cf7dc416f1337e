# Chains: what window functions or DISTINCT ON answer is grouped again.  What the oracle suite does not see: when windows
# close, late rows, rows that the second operator cannot take, kills at the hand-over, and that the state goes.
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

# send_rows('name', [ partition, seconds, key, value ], ...)
sub send_rows
{
	my ($name, @rows) = @_;
	my $at = sub { my ($s) = @_; my $ms = sprintf('%.0f', $s * 1000); return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + POSIX::floor($ms / 1000))) . sprintf('.%03dZ"', $ms % 1000) };
	return $kafka->produce($name, map { { partition => $_->[0], value => '{"at": ' . $at->($_->[1]) . ', "k": "' . ($_->[2] // 'a') . '", "v": ' . ($_->[3] // 1) . '}' } } @rows);
}

sub make_topic
{
	my ($name, $partitions, %options) = @_;
	my %all = (topic => $name, event_time => 'at', idle_timeout => '1 h', max_ahead => '10000 days', %options);
	$kafka->topic($name, $partitions);
	value("CREATE FOREIGN TABLE ${name}_in (at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
		  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	return;
}

# per window and key: rows, and how far the values went from row to row
sub select_of
{
	my ($name, $order) = @_;
	return "SELECT q.k, w.window_start, count(*), sum(q.v - q.prev) FROM (SELECT t.k, t.v, t.at, lag(t.v) OVER (PARTITION BY t.k ORDER BY $order) AS prev FROM ${name}_in t) q, streamproc.tumble(q.at, '10 s') w GROUP BY q.k, w.window_start";
}

sub make_pipeline
{
	my ($name, $partitions, $topic, %options) = @_;
	make_topic($name, $partitions, %$topic);
	value("CREATE TABLE $name (k text, s timestamptz, n bigint, d numeric, PRIMARY KEY (k, s))");
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, 't.at'), %options);
	return;
}

sub settled
{
	my ($name) = @_;
	wait_caught_up($node, $name);
	return value("SELECT string_agg(k || sec(s) || ' ' || n || ' ' || coalesce(d::text, '-'), ', ' ORDER BY s, k) FROM $name");
}

# rows that came too late take no part
sub same_as_batch
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $batch = select_of('x', 't.at, t.p, t.o');
	is(value(<<SQL), '0|0', $what);
WITH x_in AS MATERIALIZED (SELECT * FROM ${name}_in i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.partition = i.p AND l."offset" = i.o)),
	batch AS MATERIALIZED ($batch)
SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE $name) x), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE batch) x)
SQL
	return;
}

sub stop { my ($name, %o) = @_; value("SELECT streamproc.stop_pipeline('$name'" . ($o{drain} ? ', drain => true' : '') . ')'); value("SELECT streamproc.wait_until_stopped('$name', '60 s')"); return }
sub start { my ($name) = @_; value("SELECT streamproc.start_pipeline('$name')"); return }
sub error_of { my ($sql) = @_; my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql"); return $err }

sub section
{
	my ($name, $code) = @_;
	return unless picked($name);
	eval { $code->(); 1 } or fail("$name: $@");
	$crash->reset_fault;
	eval { value('SELECT streamproc.drop_pipeline(pipeline) FROM streamproc.stat_pipeline'); 1 } or fail("$name: pipelines can be dropped: $@");
	return;
}

# ---- when ----

# catches: a window that closes while rows for it wait below; one that does not close when they have come
section 'closing' => sub {
	make_pipeline('closing', 2, { watermark_delay => '1 s' }, parallelism => 2);
	send_rows('closing', [ 0, 1, 'a', 5 ], [ 0, 9.95, 'a', 7 ], [ 0, 9, 'a', 6 ], [ 0, 10.5, 'a', 9 ], [ 1, 11, 'b', 1 ]);
	is(settled('closing'), '', 'the slowest partition holds the window');
	send_rows('closing', [ 0, 11, 'a', 8 ]);
	is(settled('closing'), '', 'rows may still come into the slice that the watermark stands at');
	send_rows('closing', [ 0, 11.1, 'a', 7 ], [ 1, 11.1, 'b', 2 ]);
	is(settled('closing'), 'a0 3 2', 'when the watermark has passed it and all that waits for it, it closes');
	send_rows('closing', [ 0, 9.99, 'a', 100 ]);
	is(settled('closing'), 'a0 3 2', 'a row that comes too late goes into no window');
	is(value(q{SELECT string_agg(operator || ' ' || partition || '/' || "offset" || coalesce(' ' || window_start, ''), ', ') FROM streamproc.late_row WHERE pipeline = 'closing'}), '0 0/6',
		'it is late where it would have been answered, once');
	is(value(q{SELECT string_agg(operator || ' ' || kind || ' ' || rows_in, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'closing'}), '0 over 9, 1 aggregate 3',
		'the view shows both operators, and what went from one to the other');
	stop('closing', drain => 1);
	same_as_batch('closing', 'drained, all is as the batch query gives it');
	# what lag remembers outlives the run, what was closed stays closed
	start('closing');
	send_rows('closing', [ 0, 31, 'a', 10 ], [ 1, 32, 'b', 12 ]);
	stop('closing', drain => 1);
	same_as_batch('closing', 'and so it is after the next run');
	# the drain has closed the window until 40 s for both: what the first took the second could not take
	start('closing');
	send_rows('closing', [ 0, 35, 'a', 11 ], [ 1, 41, 'b', 1 ], [ 0, 41, 'a', 3 ]);
	stop('closing', drain => 1);
	is(value(q{SELECT string_agg(operator || ' ' || sec(event_time), ', ' ORDER BY id) FROM streamproc.late_row WHERE pipeline = 'closing'}), '0 9.99, 0 35', 'a row for a window that a drain has closed is late');
	same_as_batch('closing', 'all others are right');
};

# catches: more lateness than the second operator has waited for
section 'lateness' => sub {
	make_pipeline('lateness', 1, {});
	send_rows('lateness', [ 0, 1, 'a', 1 ], [ 0, 3600, 'a', 2 ], [ 0, 3601, 'a', 3 ]);
	is(settled('lateness'), 'a0 1 -', 'the first window is closed');
	stop('lateness');
	value(q{SELECT streamproc.alter_pipeline('lateness', allowed_lateness => '2 h')});
	start('lateness');
	send_rows('lateness', [ 0, 1800, 'a', 5 ], [ 0, 3599, 'a', 6 ], [ 0, 3602, 'a', 7 ]);
	is(settled('lateness'), 'a0 1 -', 'nothing fails');
	stop('lateness', drain => 1);
	is(value(q{SELECT string_agg(operator || ' ' || sec(event_time), ', ' ORDER BY id) FROM streamproc.late_row WHERE pipeline = 'lateness'}), '0 1800, 0 3599', 'what lies before the second watermark is late for the first');
	same_as_batch('lateness', 'all others are right');
};

# ---- kills ----

# catches: answers that are passed on twice, or are lost, between the two operators
section 'kills' => sub {
	make_pipeline('kills', 2, { watermark_delay => '500 ms' }, parallelism => 2);
	my $n = 0;
	my $more = sub {
		send_rows('kills', map { [ $_ % 2, $n + $_ / 20, 'k' . $_ % 11, $_ * 7 % 50 ] } 1 .. 80);
		$n += 4;
		return;
	};
	for my $point (qw(over-pass over-release over-released keyed-before-output keyed-before-commit keyed-committed barrier-copied))
	{
		for my $action (qw(kill error))
		{
			next if $action eq 'error' && $point =~ /copied/;
			ok($crash->provoke($point, $action, $more), "$point, $action: it hits");
			$crash->reset_fault;
			wait_query($node, 'SELECT 1', 1, 60);
			$crash->catch_up('kills');
		}
	}
	crash_postmaster($node);
	$node->start;
	$more->();
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
	is(value(q{SELECT count(*) FROM streamproc.late_row WHERE pipeline = 'kills'}), 0, 'nothing is late');
	same_as_batch('kills', 'nothing is lost or doubled');
};

# ---- rows that cannot be taken ----

# catches: one row that stops the pipeline, or takes others with it
section 'bad rows' => sub {
	make_topic('bad', 2);
	value('CREATE TABLE bad (s timestamptz, n bigint, x bigint); CREATE TABLE bad_fail (LIKE bad)');
	my $select = sub { my ($order, $what) = @_; return "SELECT w.window_start, count(*), sum($what) FROM (SELECT t.at, t.v, lag(t.v) OVER (PARTITION BY t.k ORDER BY $order) AS prev FROM bad_in t) q, streamproc.tumble(q.at, '10 s') w GROUP BY w.window_start" };
	create_pipeline($node, 'bad', 'INSERT INTO bad ' . $select->('t.at', '100 / q.prev'), parallelism => 2);
	create_pipeline($node, 'bad_fail', 'INSERT INTO bad_fail ' . $select->('t.at', '100 / q.prev'), on_error => 'fail');
	send_rows('bad', map { [ $_ % 2, $_ / 10, 'k' . $_ % 3, $_ % 100 == 17 || $_ == 500 ? 0 : $_ ] } 1 .. 1000);
	wait_caught_up($node, 'bad');
	stop('bad', drain => 1);
	is(value(q{SELECT count(*) || ' ' || string_agg(DISTINCT kind || ' ' || sqlstate || ' ' || statement || coalesce(' ' || topic, ''), ', ') FROM streamproc.dead_letter WHERE pipeline = 'bad'}), '11 output 22012 1',
		'a row for which an expression fails is a dead letter');
	is(value(q{SELECT bool_and("row"->>'lag' = '0' AND ("row"->>'at') IS NOT NULL) FROM streamproc.dead_letter WHERE pipeline = 'bad'}), 't', 'with what was answered, as JSON');
	my $batch = 'SELECT w.window_start, count(*), sum(100 / q.prev) FROM (SELECT t.at, t.v, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at, t.p, t.o) AS prev FROM bad_in t) q, ' . "streamproc.tumble(q.at, '10 s') w WHERE q.prev <> 0 OR q.prev IS NULL GROUP BY w.window_start";
	is(value("WITH batch AS MATERIALIZED ($batch) SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE bad) x), (SELECT count(*) FROM (TABLE bad EXCEPT ALL TABLE batch) x)"), '0|0', 'all others are counted');
	wait_state($node, 'bad_fail', 'failed');
	is(value(q{SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'bad_fail'}), '22012', 'on_error fail: the pipeline fails');
};

# ---- what is given out when ----

section 'changes' => sub {
	make_topic('changes', 1);
	value('CREATE TABLE changes (s timestamptz PRIMARY KEY, n bigint, m bigint); CREATE TABLE firsts (k text PRIMARY KEY, n bigint)');
	create_pipeline($node, 'changes', q{INSERT INTO changes SELECT w.window_start, count(*), max(q.r) FROM (SELECT t.at, row_number() OVER (PARTITION BY t.k ORDER BY t.at) AS r FROM changes_in t) q, streamproc.tumble(q.at, '1 min') w
		GROUP BY w.window_start ON CONFLICT (s) DO UPDATE SET n = EXCLUDED.n, m = EXCLUDED.m}, emit => 'changes');
	create_pipeline($node, 'firsts', q{INSERT INTO firsts SELECT q.k, count(*) FROM (SELECT DISTINCT ON (t.k, t.v) t.k, t.v FROM changes_in t ORDER BY t.k, t.v, t.at) q GROUP BY q.k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n});
	send_rows('changes', map { [ 0, $_, 'k' . $_ % 2, $_ % 10 ] } 1 .. 50);
	wait_caught_up($node, $_) for qw(changes firsts);
	is(value('SELECT n || $$ $$ || m FROM changes'), '49 25', 'changes of a window that is open');
	send_rows('changes', map { [ 0, $_, 'k' . $_ % 2, $_ % 10 ] } 51 .. 70);
	wait_caught_up($node, $_) for qw(changes firsts);
	is(value('SELECT string_agg(sec(s) || $$ $$ || n || $$ $$ || m, $$, $$ ORDER BY s) FROM changes'), '0 59 30, 60 10 35', 'and of those after it');
	is(value('SELECT string_agg(k || $$ $$ || n, $$, $$ ORDER BY k) FROM firsts'), 'k0 5, k1 5', 'totals over the first rows');
	is(value(q{SELECT result FROM streamproc.check_pipeline('INSERT INTO changes } . q{SELECT w.window_start, count(q.p), 1 FROM (SELECT t.at, lag(t.k) OVER (PARTITION BY t.k ORDER BY t.at) AS p FROM changes_in t) q, streamproc.tumble(q.at, ''1 min'') w GROUP BY w.window_start')}), 'append', 'final windows are appended');
};

# catches: state that stays when everything has been given out
section 'freed' => sub {
	make_pipeline('freed', 1, { idle_timeout => '200 ms' });
	send_rows('freed', map { [ 0, $_ / 10, 'k' . $_ % 5, $_ ] } 1 .. 300);
	wait_query($node, q{SELECT string_agg(operator || ' ' || panes || ' ' || keys, ', ' ORDER BY operator) FROM streamproc.stat_operator WHERE pipeline = 'freed'}, '0 1 5, 1 0 0', 60);
	pass('silence closes both operators; of each key one entry is left for lag');
	same_as_batch('freed', 'and all was right');
};

# ---- refusals ----

section 'refusals' => sub {
	make_topic('no', 1);
	value('CREATE TABLE no (s timestamptz PRIMARY KEY, n bigint)');
	my $inner = '(SELECT t.k, t.at, lag(t.v) OVER (PARTITION BY t.k ORDER BY t.at) AS prev FROM no_in t)';
	my $ok = "INSERT INTO no SELECT w.window_start, count(q.prev) FROM $inner q, streamproc.tumble(q.at, '1 min') w GROUP BY w.window_start";
	my $try = sub { my ($query, $options) = @_; return error_of("SELECT streamproc.create_pipeline('x', \$\$$query\$\$" . ($options // '') . ')') };
	like($try->($ok, q{, ordering => 'arrival'}), qr/0A000: GROUP BY over window functions needs.*HINT/s, 'in the order of arrival');
	like($try->("$ok ON CONFLICT (s) DO UPDATE SET n = EXCLUDED.n", q{, late => 'update', allowed_lateness => '1 min'}), qr/0A000: GROUP BY over window functions gets no late rows.*HINT/s, 'late => update');
	like($try->("INSERT INTO no SELECT w.window_start, count(*) FROM (SELECT * FROM $inner a UNION ALL SELECT * FROM $inner b) q, streamproc.tumble(q.at, '1 min') w GROUP BY w.window_start"), qr/0A000: .*UNION ALL.*LINE 1.*HINT/s, 'two of them');
	like($try->("INSERT INTO no SELECT w.window_start, count(*) FROM $inner q, streamproc.tumble(q.at, '1 min') w GROUP BY w.window_start"), qr/0A000: statement 1 computes window functions or groups that nothing uses.*HINT/s, 'what nobody uses');
};

done_testing();

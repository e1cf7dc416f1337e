# Keyed pipelines: when a window is given out, what becomes of rows that come too late, silence, and what outlives a stop,
# a restart and another number of tasks.
#
# Event times are in January 2026, as seconds after 12:00 of its first day; topics of tests that are not about silence
# have an idle_timeout of an hour, so after wait_caught_up() a sink holds what the watermark of the committed rows closes,
# and nothing else.
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
use Time::HiRes qw(time usleep);

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
value(<<SQL);
CREATE FUNCTION sec(t timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT trim_scale((extract(epoch FROM t) - $epoch)::numeric)';
CREATE FUNCTION at(s numeric) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS 'SELECT to_timestamp($epoch + s)';
SQL

# ---- helpers ----

# an event time, from seconds with at most 6 decimals; text as in JSON
sub at
{
	my ($seconds) = @_;
	return 'null' unless defined $seconds;
	my $us = sprintf('%.0f', $seconds * 1e6);
	my $whole = POSIX::floor($us / 1e6);
	return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + $whole)) . sprintf('.%06dZ"', $us - $whole * 1e6);
}

# send_rows('name', [ partition, seconds, key, value ], ...)
sub send_rows
{
	my ($name, @rows) = @_;
	return $kafka->produce($name, map { { partition => $_->[0], value => '{"at": ' . at($_->[1]) . ', "k": "' . ($_->[2] // 'a') . '", "v": ' . ($_->[3] // 1) . '}' } } @rows);
}

# topic, foreign table <name>_in, sink <name>
sub make_topic
{
	my ($name, $partitions, %options) = @_;
	my %all = (topic => $name, event_time => 'at', idle_timeout => '1 h', %options);
	$kafka->topic($name, $partitions);
	value("CREATE FOREIGN TABLE ${name}_in (at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
		  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	value("CREATE TABLE $name (k text, s timestamptz, e timestamptz, n bigint, total numeric, PRIMARY KEY (k, s, e))");
	return;
}

sub query_of
{
	my ($name, $window) = @_;
	return "INSERT INTO $name SELECT t.k, w.window_start, w.window_end, count(*), sum(t.v) FROM ${name}_in t, streamproc.$window w GROUP BY t.k, w.window_start, w.window_end";
}

sub make_pipeline
{
	my ($name, $partitions, $topic, $window, %options) = @_;
	make_topic($name, $partitions, %$topic);
	create_pipeline($node, $name, query_of($name, $window), %options);
	return;
}

# what the sink holds: "key begin-end n" by key and end
sub sink
{
	my ($name) = @_;
	return value("SELECT string_agg(k || ' ' || sec(s) || '-' || sec(e) || ' ' || n, ', ' ORDER BY k, e, s) FROM $name");
}

# what the sink holds when all that was sent is committed
sub settled
{
	my ($name) = @_;
	wait_caught_up($node, $name);
	return sink($name);
}

sub late
{
	my ($name) = @_;
	return value("SELECT string_agg(partition || '/' || \"offset\" || ' ' || sec(event_time) || ' in ' || sec(window_start) || '-' || sec(window_end), ', ' ORDER BY partition, \"offset\", window_end) FROM streamproc.late_row WHERE pipeline = '$name'");
}

sub stat_of { my ($what, $name) = @_; return value("SELECT $what FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }

# as it is saved
sub stream_watermark { my ($name) = @_; return value("SELECT sec(stream_watermark) FROM streamproc.task_position WHERE pipeline = '$name'") }

sub stop { my ($name, %o) = @_; value("SELECT streamproc.stop_pipeline('$name'" . ($o{drain} ? ', drain => true' : '') . ')'); value("SELECT streamproc.wait_until_stopped('$name', '60 s')"); return }
sub start { my ($name) = @_; value("SELECT streamproc.start_pipeline('$name')"); return }
sub drop { value("SELECT streamproc.drop_pipeline('$_')") for @_; return }

# Each (row, window) is in the sink or in late_row, once: rows of the batch that are missing, rows that are too many, rows
# twice in late_row, rows that the sink has refused because they are there already.
sub counted_or_late
{
	my ($name, $window, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value(<<SQL), '0|0|0|0', $what);
WITH batch AS MATERIALIZED (SELECT t.k, w.window_start, w.window_end, t.v, t.p, t.o FROM ${name}_in t, streamproc.$window w WHERE t.at IS NOT NULL),
	expected AS (SELECT k, window_start, window_end, count(*), sum(v)::numeric FROM batch b
		WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.partition = b.p AND l."offset" = b.o AND l.window_end = b.window_end AND l.window_start = b.window_start)
		GROUP BY 1, 2, 3)
SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE $name) x), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE expected) x),
	(SELECT count(*) FROM (SELECT partition, "offset", window_end FROM streamproc.late_row WHERE pipeline = '$name'
		GROUP BY 1, 2, 3 HAVING count(*) > 1) x),
	(SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$name' AND kind = 'output')
SQL
	return;
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

# ---- a window is given out when the watermark reaches its end, and not before ----

# catches: a watermark that is the largest of the partitions, or the smallest of those that have data; > for >=
section 'exact' => sub {
	make_pipeline('exact', 2, { watermark_delay => '2 s' }, q{tumble(t.at, '10 s')}, parallelism => 2);
	send_rows('exact', [ 0, 1 ], [ 0, 9.999999 ], [ 0, 10 ], [ 0, 30 ]);
	is(settled('exact'), '', 'a partition that has no data and is not silent holds the stream');
	is(stat_of('watermark IS NULL', 'exact'), 't', 'and there is no watermark');
	send_rows('exact', [ 1, 11.999999 ]);
	is(settled('exact'), '', 'a microsecond before its end a window is not given out');
	is(stream_watermark('exact'), '9.999999', 'the watermark is the smallest of the partitions less the delay');
	send_rows('exact', [ 1, 12 ]);
	is(settled('exact'), 'a 0-10 2', 'at its end it is; a row at the end belongs to the next one');
	is(stat_of('sec(watermark)', 'exact'), '10', 'the view shows the watermark');
	is(stat_of('watermark_delay BETWEEN now() - watermark - interval \'10 s\' AND now() - watermark + interval \'10 s\'', 'exact'), 't', 'and how far it is behind');
	send_rows('exact', [ 1, 19.9 ], [ 0, 13 ]);
	wait_caught_up($node, 'exact');
	send_rows('exact', [ 1, 13, 'b' ]);
	wait_caught_up($node, 'exact');
	send_rows('exact', [ 1, 25 ]);
	is(settled('exact'), 'a 0-10 2, a 10-20 5, b 10-20 1', 'rows behind the watermark whose window is open count');
	send_rows('exact', [ 1, 100 ], [ 0, 101 ]);
	is(settled('exact'), 'a 0-10 2, a 10-20 5, a 20-30 1, a 30-40 1, b 10-20 1', 'several windows in one step; none for times without rows');
	is(late('exact'), '', 'nothing was late');
	is(value(q{SELECT min(fired_windows), min(panes) FROM streamproc.stat_operator WHERE pipeline = 'exact'}) =~ /^\d+\|\d+$/, 1, 'the operator is shown');
};

# catches: lateness that counts from the begin, or is not added; the first windows before 2000 (negative slices)
section 'lateness' => sub {
	make_pipeline('lateness', 1, {}, q{tumble(t.at, '10 s')}, parallelism => 1, allowed_lateness => '5 s');
	send_rows('lateness', [ 0, 1 ], [ 0, 14.999999 ]);
	is(settled('lateness'), '', 'allowed_lateness: not at the end of the window');
	send_rows('lateness', [ 0, 2 ]);
	is(settled('lateness'), '', 'a row behind the end still counts');
	send_rows('lateness', [ 0, 15 ]);
	is(settled('lateness'), 'a 0-10 2', 'it is given out once, when the lateness is over');
	send_rows('lateness', [ 0, 3 ], [ 0, 11 ], [ 0, 25 ]);
	is(settled('lateness'), 'a 0-10 2, a 10-20 3', 'and then it is closed');
	is(late('lateness'), '0/4 3 in 0-10', 'what comes later is late');
};

section 'old' => sub {
	make_pipeline('old', 1, { watermark_delay => '0 s' }, q{tumble(t.at, '7 s', origin => '1999-12-31 23:59:58+00')}, parallelism => 1);
	$kafka->produce('old', map { "{\"at\": \"$_\", \"k\": \"a\", \"v\": 1}" } '1969-12-31 23:59:59Z', '1970-01-01Z', '1999-12-31 23:59:57.999999Z', '1999-12-31 23:59:58Z', '2000-01-01 00:00:04.999999Z', '2000-01-01 00:00:05Z');
	wait_caught_up($node, 'old');
	is(value(q{SELECT string_agg((s AT TIME ZONE 'UTC')::text || ' ' || n, ', ' ORDER BY s) FROM old}),
		value(q{SELECT string_agg((w AT TIME ZONE 'UTC')::text || ' ' || n, ', ' ORDER BY w) FROM (SELECT w.window_start AS w, count(*) AS n FROM old_in t, streamproc.tumble(t.at, '7 s', origin => '1999-12-31 23:59:58+00') w WHERE w.window_end <= '2000-01-01 00:00:05+00' GROUP BY 1) x}),
		'windows before 1970 and 2000 and with an origin');
};

# ---- late rows ----

# catches: a late row that is counted too, lost, or given the place of another row of its batch
section 'divert' => sub {
	make_pipeline('divert', 2, {}, q{tumble(t.at, '10 s')}, parallelism => 2);
	send_rows('divert', [ 0, 1 ], [ 0, 20 ], [ 1, 20 ]);
	is(settled('divert'), 'a 0-10 1', 'divert: the window is closed');
	my @sent = send_rows('divert', [ 0, 21, 'in time' ], [ 0, 5, 'late', 42 ], [ 0, 22, 'in time' ], [ 1, 9.999999, 'late', 43 ], [ 1, 10, 'too', 7 ], [ 0, -100, 'never there' ]);
	is(settled('divert'), 'a 0-10 1', 'late rows do not change it, and make none');
	is(late('divert'), '0/3 5 in 0-10, 0/5 -100 in -100--90, 1/1 9.999999 in 0-10, 1/2 10 in 10-20', 'they are in late_row, with their message and window');
	is(value(q{SELECT DISTINCT topic, sec(watermark), pipeline, operator FROM streamproc.late_row WHERE pipeline = 'divert'}), 'divert|20|divert|0', 'with topic and the watermark that closed it');
	is(value(q{SELECT "row"->>'k', "row"->>'v', ("row"->>'at')::timestamptz = event_time FROM streamproc.late_row WHERE pipeline = 'divert' AND partition = 0 AND "offset" = 3}), 'late|42|t', 'and the row');
	is(stat_of('late_rows', 'divert'), 4, 'the view counts them');
	is(stat_of('bad_rows', 'divert'), 0, 'they are no bad rows');
	stop('divert', drain => 1);
	counted_or_late('divert', q{tumble(t.at, '10 s')}, 'divert: each row is in its window or late');
	drop('divert');
	is(value(q{SELECT count(*) FROM streamproc.late_row}), 0, 'late rows go with their pipeline');
};

section 'dropped' => sub {
	make_pipeline('dropped', 1, {}, q{tumble(t.at, '10 s')}, parallelism => 1, late => 'drop');
	send_rows('dropped', [ 0, 1 ], [ 0, 20 ]);
	wait_caught_up($node, 'dropped');
	send_rows('dropped', [ 0, 5 ], [ 0, 6 ], [ 0, 31 ]);
	is(settled('dropped'), 'a 0-10 1, a 20-30 1', 'drop: the window is as it was');
	is(late('dropped') . '/' . stat_of('late_rows', 'dropped'), '/2', 'late rows are counted and nothing else');
};

# catches: a row that is late for its first windows and counted for none, or counted again in windows that were given out
# catches: a late row that comes into a window while that is put together from its slices
section 'late while a window is put together' => sub {
	make_pipeline('merged', 1, {}, q{hop(t.at, '5 s', '15 s')}, parallelism => 1);
	send_rows('merged', [ 0, 12 ], [ 0, 11 ]);
	wait_caught_up($node, 'merged');
	$crash->set_fault('keyed-before-merge=wait');
	send_rows('merged', [ 0, 16 ]);
	$crash->wait_hit('keyed-before-merge');
	send_rows('merged', [ 0, 13, 'a' ], [ 0, 11, 'b' ]);
	wait_query($node, q{SELECT state, waits_for FROM streamproc.stat_worker WHERE pipeline = 'merged' AND role = 'task'}, 'waiting|windows to be put together');
	$crash->reset_fault;
	send_rows('merged', [ 0, 21 ]);
	is(settled('merged'), 'a 0-15 2, a 5-20 4, b 5-20 1', 'it counts in the windows that go on, and not in that one');
	is(late('merged'), '0/3 13 in 0-15, 0/4 11 in 0-15', 'for which it is late');
};

section 'hop' => sub {
	my $hop = q{hop(t.at, '5 s', '15 s')};
	make_pipeline('hopped', 1, {}, $hop, parallelism => 1);
	send_rows('hopped', [ 0, 12 ], [ 0, 16 ]);
	is(settled('hopped'), 'a 0-15 1', 'hop: the windows that have ended');
	send_rows('hopped', [ 0, 13, 'b' ], [ 0, 20, 'a' ]);
	is(settled('hopped'), 'a 0-15 1, a 5-20 2, b 5-20 1', 'a row that comes late for one of its windows counts in the others');
	is(late('hopped'), '0/2 13 in 0-15', 'and is late for that one');
	# its slices are still there, for the windows that are open
	stop('hopped');
	start('hopped');
	send_rows('hopped', [ 0, 3 ], [ 0, 30 ]);
	is(settled('hopped'), 'a 0-15 1, a 5-20 2, a 10-25 3, a 15-30 2, b 5-20 1, b 10-25 1', 'windows overlap');
	is(late('hopped'), '0/2 13 in 0-15, 0/4 3 in -10-5, 0/4 3 in -5-10, 0/4 3 in 0-15', 'late for all: one row for each window');
	stop('hopped', drain => 1);
	counted_or_late('hopped', $hop, 'hop: each (row, window) is counted or late');
};

# the same with chance: disorder beyond the bound, two tasks, epochs of any size
# catches: lateness judged by another watermark in one task than in the other, a row both late and counted
section 'chance' => sub {
	for my $case ([ 'chance_tumble', q{tumble(t.at, '3 s')} ], [ 'chance_hop', q{hop(t.at, '1 s', '5 s')} ], [ 'chance_cumulate', q{cumulate(t.at, '1 s', '4 s')} ])
	{
		my ($name, $window) = @$case;
		make_pipeline($name, 3, { watermark_delay => '500 ms' }, $window, parallelism => 2, allowed_lateness => '250 ms');
		my $seed = srand();
		note("seed $seed of $name");
		for my $burst (0 .. 7)
		{
			send_rows($name, map { [ int(rand(3)), sprintf('%.6f', $burst * 5 + $_ / 100 - (rand() < 0.2 ? rand(12) : rand(0.5))), 'k' . int(rand(10)), $_ ] } 1 .. 500);
			wait_caught_up($node, $name) if $burst % 2;
		}
		stop($name, drain => 1);
		counted_or_late($name, $window, "$name: each (row, window) is counted or late");
		my $late = value("SELECT count(DISTINCT (partition, \"offset\")), bool_and(window_end + interval '250 ms' <= watermark) FROM streamproc.late_row WHERE pipeline = '$name'");
		like($late, qr/^[1-9]\d*\|t$/, 'there were late rows, and a watermark had closed each one\'s window');
		is(stat_of('late_rows', $name), (split /\|/, $late)[0], 'late_rows counts the rows');
		drop($name);
	}
};

# ---- rows whose time is no good ----

# catches: a NULL that stops the pipeline, or one event of the far future that closes every window
section 'bad times' => sub {
	make_pipeline('odd', 2, { max_ahead => '1 min' }, q{tumble(t.at, '10 s')}, parallelism => 2);
	send_rows('odd', [ 0, 1 ], [ 0, undef, 'null' ], [ 0, 2 ], [ 1, 3 ], [ 1, 86400 * 36500, 'far' ], [ 1, 4 ]);
	is(settled('odd'), '', 'an event of the far future closes nothing');
	is(value(q{SELECT string_agg(kind || ' ' || partition || '/' || "offset" || ' ' || sqlstate, ', ' ORDER BY partition) FROM streamproc.dead_letter WHERE pipeline = 'odd'}),
		'input 0/1 22004, input 1/1 22008', 'NULL and the far future are dead letters');
	send_rows('odd', [ 0, 11 ], [ 1, 12 ]);
	is(settled('odd'), 'a 0-10 4', 'all others count');
	is(stat_of('bad_rows, late_rows', 'odd'), '2|0', 'and the view says so');
};

# ---- silence ----

# catches: windows that stay open for ever; a clock that runs on and makes late what comes after the silence
section 'silence' => sub {
	make_pipeline('silent', 2, { idle_timeout => '300 ms' }, q{tumble(t.at, '1 s')}, parallelism => 2);
	send_rows('silent', [ 0, 0.5 ], [ 1, 2.4, 'b' ]);
	wait_query($node, 'SELECT count(*) FROM silent', 2, 30);
	is(sink('silent'), 'a 0-1 1, b 2-3 1', 'silence closes open windows');
	cmp_ok(value(q{SELECT extract(epoch FROM now() - max(updated)) FROM streamproc.position WHERE pipeline = 'silent'}), '<', 20, 'soon');
	# nothing is open: the clock may run as long as it likes
	my $before = time;
	wait_until(sub { time - $before > 2 });
	is(stream_watermark('silent'), '3', 'the watermark goes on to the end of the last open window and no further');
	send_rows('silent', [ 0, 3 ], [ 1, 3.1, 'b' ], [ 0, 2.9, 'late' ]);
	wait_query($node, 'SELECT count(*) FROM silent', 4, 30);
	is(sink('silent'), 'a 0-1 1, a 3-4 1, b 2-3 1, b 3-4 1', 'what comes then in the next window is not late');
	is(late('silent'), '0/2 2.9 in 2-3', 'what comes for a closed one is');
	# the watermark that the clock has moved is ahead of all partitions
	wait_query($node, q{SELECT sec(stream_watermark) FROM streamproc.task_position WHERE pipeline = 'silent'}, 4);
	stop('silent');
	start('silent');
	send_rows('silent', [ 0, 3.2, 'late' ]);
	wait_caught_up($node, 'silent');
	is(stream_watermark('silent'), 4, 'it does not go back over a restart, nor when a partition is not silent any more');
	like(late('silent'), qr/, 0\/3 3.2 in 3-4$/, 'and rules what is late');
	# and over a restart, with nothing new to read
	send_rows('silent', [ 0, 100.5 ]);
	wait_caught_up($node, 'silent');
	stop('silent');
	start('silent');
	wait_query($node, q{SELECT count(*) FROM silent WHERE s = at(100)}, 1, 30);
	pass('silence closes a window that was open when the pipeline was stopped');
};

# catches: min over all partitions although one of them never has anything
section 'stalled partition' => sub {
	make_pipeline('stalled', 2, { idle_timeout => '500 ms' }, q{tumble(t.at, '1 min')}, parallelism => 2);
	send_rows('stalled', [ 0, 1 ], [ 0, 61 ]);
	wait_query($node, 'SELECT count(*) FROM stalled', 1, 20);
	is(sink('stalled'), 'a 0-60 1', 'a partition without any data holds nobody for longer than idle_timeout');
	send_rows('stalled', [ 1, 62, 'b' ]);
	wait_caught_up($node, 'stalled');
	is(late('stalled'), '', 'its first row is not late where its window is open');
};

# catches: a broker that does not answer taken for silence: its rows would all be late
section 'paused broker' => sub {
	# long enough for the row that is sent when the broker is back
	make_pipeline('paused', 1, { idle_timeout => '4 s' }, q{tumble(t.at, '1 s')}, parallelism => 1);
	send_rows('paused', [ 0, 0.1 ]);
	wait_caught_up($node, 'paused');
	$kafka->pause;
	my $paused_at = time;
	wait_until(sub { time - $paused_at > 8 || sink('paused') ne '' }, 30);
	is(sink('paused'), '', 'a mute broker is not silence');
	$kafka->resume;
	send_rows('paused', [ 0, 0.2 ]);
	wait_query($node, 'SELECT count(*) FROM paused', 1, 60);
	is(sink('paused') . late('paused'), 'a 0-1 2', 'what it held back counts');
};

# catches: a backlog of one partition that fills the state with windows that cannot close; one that is held for ever
section 'skew' => sub {
	make_pipeline('skew', 2, {}, q{tumble(t.at, '1 s')}, parallelism => 2, max_skew => '10 s');
	send_rows('skew', [ 0, 1 ], [ 1, 1 ]);
	wait_caught_up($node, 'skew');
	send_rows('skew', [ 0, 20 ]);
	wait_caught_up($node, 'skew');
	send_rows('skew', map { [ 0, 20 + $_ / 10 ] } 1 .. 10);
	my $position = q{SELECT next_offset FROM streamproc.position WHERE pipeline = 'skew' AND partition = };
	wait_query($node, q{SELECT held IS NOT NULL FROM streamproc.stat_partition WHERE pipeline = 'skew' AND partition = 0}, 't', 20);
	send_rows('skew', [ 1, 2 ]);
	wait_query($node, "${position}1", 2);
	is(value("${position}0"), 2, 'a partition that is too far ahead is not read');
	is(value(q{SELECT held IS NULL FROM streamproc.stat_partition WHERE pipeline = 'skew' AND partition = 1}), 't', 'the others are');
	# the end of a partition is looked at ten times a second
	ok(wait_query($node, q{SELECT lag_rows FROM streamproc.stat_partition WHERE pipeline = 'skew' AND partition = 0}, 10, 20), 'the view shows what waits');
	send_rows('skew', [ 1, 11 ]);
	wait_query($node, "${position}0", 12);
	is(value(q{SELECT count(*) FROM streamproc.stat_partition WHERE pipeline = 'skew' AND held IS NOT NULL}), 0, 'until the others have followed');
	# over a stop, while it is held
	send_rows('skew', [ 0, 90 ]);
	wait_caught_up($node, 'skew');
	send_rows('skew', [ 0, 91 ]);
	wait_query($node, q{SELECT held IS NOT NULL FROM streamproc.stat_partition WHERE pipeline = 'skew' AND partition = 0}, 't', 20);
	stop('skew', drain => 1);
	counted_or_late('skew', q{tumble(t.at, '1 s')}, 'a drain reads what was held');
	is(late('skew'), '', 'and nothing is late');
};

# catches: a slot in shared memory that says of the next pipeline's partition what was true of the last one's
section 'held and dropped' => sub {
	make_pipeline('held', 2, {}, q{tumble(t.at, '1 s')}, parallelism => 1, max_skew => '10 s');
	send_rows('held', [ 0, 1 ], [ 1, 1 ]);
	wait_caught_up($node, 'held');
	send_rows('held', [ 0, 20 ]);
	wait_caught_up($node, 'held');
	send_rows('held', [ 0, 21 ]);
	wait_query($node, q{SELECT held IS NOT NULL FROM streamproc.stat_partition WHERE pipeline = 'held' AND partition = 0}, 't', 20);
	value(q{SELECT streamproc.drop_pipeline('held')});
	make_pipeline('after', 2, {}, q{tumble(t.at, '1 s')}, parallelism => 1);
	send_rows('after', [ 0, 1 ], [ 1, 1 ]);
	wait_caught_up($node, 'after');
	is(value(q{SELECT count(*), count(held) FROM streamproc.stat_partition WHERE pipeline = 'after'}), '2|0', 'a partition is not held because another pipeline was');
};

# ---- stop, start, other numbers of tasks ----

# Random rows in order but for the delay, in phases; in between everything that makes tasks begin anew.  Nothing may be
# late, and all windows must be right.
# catches: state that is lost or doubled, a watermark that runs ahead because a partition is not known yet after a start
section 'grow' => sub {
	my $window = q{tumble(t.at, '20 s')};
	make_pipeline('grow', 4, { watermark_delay => '3 s' }, $window, parallelism => 1);
	my ($watermark, $back, $phase, $keys) = (-1e9, 0, 0, 300);
	my $check = sub {
		my $now = stream_watermark('grow');
		$now = -1e9 if $now eq '';
		$back++ if $now < $watermark;
		$watermark = $now;
	};
	my $some = sub {
		my ($n) = @_;
		send_rows('grow', map { [ $_ % 4, sprintf('%.6f', $phase * 13 + $_ / $n * 13 - rand(3)), 'key ' . int(rand($keys)), int(rand(1000)) ] } 1 .. $n);
		$phase++;
	};
	my @steps = (
		sub { stop('grow'); start('grow') },
		sub { value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 4)}) },
		sub { kill9((worker_pids($node, role => 'launcher', pipeline => 'grow'))[0]); wait_query($node, 'SELECT true') },
		sub { $node->restart('fast') },
		sub { value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 2)}) },
		sub { crash_postmaster($node); $node->start },
		sub { stop('grow'); value(q{SELECT streamproc.alter_pipeline('grow', parallelism => 3, checkpoint_interval => '20 ms')}); start('grow') },
		sub { $crash->ask(q{SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE pipeline = 'grow' AND role = 'task' AND pid IS NOT NULL}) });
	for my $step (@steps)
	{
		$some->(1500);
		wait_caught_up($node, 'grow') if $phase % 2;
		$check->();
		$step->();
		$check->();
	}
	$some->(1500);
	wait_caught_up($node, 'grow');
	$check->();
	is(late('grow'), '', '1 -> 4 -> 2 -> 3 tasks, restarts and crashes: nothing is late');
	is($back, 0, 'the watermark never goes back');
	cmp_ok($watermark, '>=', 100, 'it has moved') or diag($watermark);
	is(value(q{SELECT count(*) FROM grow WHERE e > at(} . $watermark . ')'), 0, 'no window was given out before its end');
	is(value(q{WITH expected AS (SELECT t.k, w.window_start, w.window_end, count(*), sum(t.v)::numeric FROM grow_in t, streamproc.tumble(t.at, '20 s') w WHERE w.window_end <= at(} . $watermark . q{) GROUP BY 1, 2, 3)
		SELECT (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE grow) x), (SELECT count(*) FROM (TABLE grow EXCEPT ALL TABLE expected) x)}), '0|0', 'all windows that have ended are there and right');
	is(value(q{SELECT keys > 0 AND panes > 0 AND bytes > 0 AND largest_group >= mean_group AND skew >= 1 AND late_rows = 0 FROM streamproc.stat_operator WHERE pipeline = 'grow'}), 't', 'stat_operator: open windows');
	like(value(q{SELECT kind || ': ' || aggregates FROM streamproc.stat_operator WHERE pipeline = 'grow'}), qr/^aggregate: .*count.* native.*sum.* native/, 'and how its aggregates are kept');
	is(value(q{SELECT bool_and(at BETWEEN now() - interval '10 min' AND now() AND duration >= '0' AND commit_time >= '0' AND align_ms >= 0 AND cut_ms >= 0 AND output_ms >= 0 AND write_ms >= 0
		AND state_bytes >= 0 AND rows_in >= 0), max(state_bytes) > 0, sum(rows_in) > 0, count(DISTINCT epoch) = count(*) FROM streamproc.stat_checkpoint WHERE pipeline = 'grow'}) , 't|t|t|t', 'stat_checkpoint');
	is(value(q{SELECT count(*) FROM streamproc.stat_checkpoint WHERE pipeline = 'grow' AND task IS NOT NULL}), 0, 'a checkpoint of a keyed pipeline is of no single task');
	is(stat_of('state_bytes > 0, segment_bytes > 0, late_rows = 0, bad_rows = 0, rows_in > 0, epoch > 0, checkpoints > 0, tasks', 'grow'), 't|t|t|t|t|t|t|3', 'stat_pipeline');
	stop('grow', drain => 1);
	is(value(q{SELECT count(*) FROM streamproc.state_segment WHERE pipeline = 'grow'}), 0, 'when all windows are given out no state is left');
	counted_or_late('grow', $window, 'after a drain all windows are there');
};

# ---- drain ----

# catches: windows that a drain gives out, given out again when their rows go on coming
section 'drain' => sub {
	make_pipeline('drained', 2, {}, q{tumble(t.at, '10 s')}, parallelism => 2);
	send_rows('drained', [ 0, 1 ], [ 1, 2 ], [ 0, 15, 'b' ], [ 1, 3 ]);
	wait_caught_up($node, 'drained');
	stop('drained', drain => 1);
	is(sink('drained'), 'a 0-10 3, b 10-20 1', 'a drain gives out all windows');
	is(stat_of('state', 'drained'), 'stopped', 'and stops');
	send_rows('drained', [ 0, 4 ], [ 1, 19, 'b' ], [ 0, 20, 'c' ]);
	start('drained');
	wait_caught_up($node, 'drained');
	is(sink('drained'), 'a 0-10 3, b 10-20 1', 'rows that come for them afterwards change nothing');
	is(late('drained'), '0/2 4 in 0-10, 1/2 19 in 10-20', 'they are late');
	stop('drained', drain => 1);
	is(sink('drained'), 'a 0-10 3, b 10-20 1, c 20-30 1', 'later windows go on');
	# nothing new: a drain of nothing
	start('drained');
	stop('drained', drain => 1);
	is(sink('drained') . '/' . value(q{SELECT count(*) FROM streamproc.late_row WHERE pipeline = 'drained'}), 'a 0-10 3, b 10-20 1, c 20-30 1/2', 'a second drain gives out nothing twice');
};

# ---- results that are given out more than once ----

# catches: windows that are given out again without their late rows, before their end, or after allowed_lateness; results
# that change and are not given out
section 'late update' => sub {
	make_topic('updated', 1);
	create_pipeline($node, 'updated', query_of('updated', q{tumble(t.at, '10 s')}) . ' ON CONFLICT (k, s, e) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total',
		parallelism => 1, late => 'update', allowed_lateness => '20 s');
	send_rows('updated', [ 0, 1 ], [ 0, 2, 'b' ], [ 0, 9.9 ]);
	is(settled('updated'), '', 'late update: not before its end');
	send_rows('updated', [ 0, 10 ]);
	is(settled('updated'), 'a 0-10 2, b 0-10 1', 'at its end');
	value(q{UPDATE updated SET total = -1});
	send_rows('updated', [ 0, 3 ], [ 0, 4, 'c' ]);
	is(settled('updated'), 'a 0-10 3, b 0-10 1, c 0-10 1', 'and again with each row that comes later');
	is(value(q{SELECT string_agg(k || ' ' || total, ', ' ORDER BY k) FROM updated}), 'a 3, b -1, c 1', 'what has not changed is not written again');
	stop('updated');
	start('updated');
	send_rows('updated', [ 0, 29.999999 ], [ 0, 5 ]);
	is(settled('updated'), 'a 0-10 4, a 10-20 1, b 0-10 1, c 0-10 1', 'until allowed_lateness is over, also after a stop');
	send_rows('updated', [ 0, 30 ]);
	wait_caught_up($node, 'updated');
	send_rows('updated', [ 0, 6 ]);
	is(settled('updated'), 'a 0-10 4, a 10-20 1, a 20-30 1, b 0-10 1, c 0-10 1', 'then it is closed');
	is(late('updated'), '0/9 6 in 0-10', 'and what comes is late');
};

# catches: what had changed before a stop, and was not given out yet
section 'emit every' => sub {
	make_topic('every', 1);
	value('CREATE TABLE every_total (k text PRIMARY KEY, n bigint)');
	# both are there when it starts: the first epoch gives out what it has
	send_rows('every', [ 0, 1 ], [ 0, 2, 'b' ]);
	create_pipeline($node, 'every', 'INSERT INTO every_total SELECT k, count(*) FROM every_in GROUP BY k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n', parallelism => 1, emit => 'every 1 hour');
	my $totals = q{SELECT string_agg(k || ' ' || n, ', ' ORDER BY k) FROM every_total};
	wait_query($node, $totals, 'a 1, b 1', 30);
	value('UPDATE every_total SET n = -1');
	send_rows('every', [ 0, 3, 'c' ], [ 0, 4 ]);
	wait_caught_up($node, 'every');
	is(value($totals), 'a -1, b -1', 'emit every: changes wait for their time');
	stop('every');
	is(value($totals), 'a -1, b -1', 'also over a stop');
	start('every');
	wait_query($node, "$totals HAVING count(*) > 2", 'a 2, b -1, c 1', 30);
	pass('a run gives out what has changed since the last time, and nothing else');
};

# catches: letters and late rows that are lost, or stored twice, where a commit is tried again
section 'repeated commit' => sub {
	make_pipeline('again', 1, {}, q{tumble(t.at, '10 s')}, parallelism => 1);
	send_rows('again', [ 0, 1 ], [ 0, 20 ]);
	wait_caught_up($node, 'again');
	$crash->set_fault('keyed-before-commit=retry@1-2');
	send_rows('again', [ 0, 5, 'late' ], [ 0, undef, 'null' ], [ 0, 30 ]);
	ok($crash->wait_hit('keyed-before-commit'), 'a commit that fails');
	is(settled('again'), 'a 0-10 1, a 20-30 1', 'is repeated');
	is(late('again'), '0/2 5 in 0-10', 'with its late row');
	is(value(q{SELECT string_agg(sqlstate || ' ' || "offset", ', ') FROM streamproc.dead_letter WHERE pipeline = 'again'}), '22004 3', 'and its letter');
	is(stat_of('bad_rows, late_rows', 'again'), '1|1', 'each counted once');
};

# ---- running totals ----

# All keys, two thirds of them, all ..., some NULL; after each the state is read again.  At first the strict aggregate has no value.
# catches: segments that are deleted although an entry stands in no other; keys, NULLs and long values that are not read as they were
section 'totals over a restart' => sub {
	make_topic('over', 2);
	value('CREATE TABLE over_total (k text, odd bigint, n bigint, total numeric, longest text, UNIQUE NULLS NOT DISTINCT (k, odd))');
	my $query = q{SELECT nullif(k, 'k7'), nullif(v % 3, 2), count(*), sum(v), max(CASE WHEN at > at(1) THEN repeat(k, (v % 90)::int) END) FROM over_in GROUP BY 1, 2};
	create_pipeline($node, 'over', "INSERT INTO over_total $query ON CONFLICT (k, odd) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total, longest = EXCLUDED.longest", parallelism => 2);
	my $time = 0;
	for my $which ('true', 'i % 500 % 3 > 0', 'true', 'i % 7 = 0', 'i % 500 % 3 < 2')
	{
		$time++;
		value("INSERT INTO over_in (at, k, v, p) SELECT at($time), 'k' || i % 500, i, i % 2 FROM generate_series(0, 3000) i WHERE $which");
		wait_caught_up($node, 'over');
		stop('over');
		start('over');
	}
	wait_caught_up($node, 'over');
	is(value("WITH b AS ($query) SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE over_total) x), (SELECT count(*) FROM (TABLE over_total EXCEPT ALL TABLE b) x)"), '0|0', 'running totals over restarts are the batch query');
};

# The log of segments is bounded: those that hold nothing that is needed go, and entries that do not change are written again.
# catches: segments that nobody needs, or a few entries that keep all of them
section 'log' => sub {
	make_topic('log', 2);
	value('CREATE TABLE log_total (k text PRIMARY KEY, n bigint)');
	create_pipeline($node, 'log', 'INSERT INTO log_total SELECT k, count(*) FROM log_in GROUP BY k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n', parallelism => 2);
	my $bytes = q{SELECT sum(length(data)) FROM streamproc.state_segment WHERE pipeline = 'log'};
	my $insert = sub { value("INSERT INTO log_in (at, k, v, p) SELECT at(1), 'k' || $_[0] || repeat('x', 60), 1, i % 2 FROM generate_series(1, $_[1]) i"); wait_caught_up($node, 'log', 60) };
	$insert->('i', 60000);
	my $once = value($bytes);
	cmp_ok($once, '>', 5_000_000, 'the log holds each key');
	$insert->('i', 60000) for 1 .. 3;
	cmp_ok(value($bytes), '<', 3 * $once, 'what was written anew takes no room any more');
	# any of the keys, a third of them at a time, in segments that are too large to be merged
	$insert->('(hashint4(i * 1000 + ' . $_ . ') & 65535)', 20000) for 1 .. 25;
	note("the log: $once bytes of each key once, " . value($bytes) . ' in the end');
	cmp_ok(value($bytes), '<', 3 * $once, 'keys that do not change keep no segment for ever');
	stop('log');
	start('log');
	$insert->('i', 10);
	is(value(q{WITH b AS (SELECT k, count(*) FROM log_in GROUP BY k) SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE log_total) x), (SELECT count(*) FROM (TABLE log_total EXCEPT ALL TABLE b) x)}), '0|0', 'and nothing that is needed is gone');
};

# Rows wait for the checkpoint that merges: it is never one of megabytes.
# catches: merges by the number of epochs alone
section 'merged segments' => sub {
	make_topic('small', 1);
	value('CREATE TABLE small_total (k text PRIMARY KEY, n bigint)');
	create_pipeline($node, 'small', 'INSERT INTO small_total SELECT k, count(*) FROM small_in GROUP BY k ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n');
	for my $round (1 .. 60)
	{
		value("INSERT INTO small_in (at, k, v, p) SELECT at(1), $round || 'k' || i || repeat('x', 60), 1, 0 FROM generate_series(1, 1200) i");
		wait_caught_up($node, 'small');
	}
	my $merged = q{SELECT %s FROM (SELECT sum(length(data)) AS bytes FROM streamproc.state_segment WHERE pipeline = 'small' GROUP BY epoch HAVING min(first_epoch) < epoch) x};
	cmp_ok(value(sprintf $merged, 'count(*)'), '>', 3, 'segments of several epochs have become one, again and again');
	cmp_ok(value(sprintf $merged, 'max(bytes)'), '<', 1_000_000, 'but not all of them one');
	stop('small');
	start('small');
	value("INSERT INTO small_in (at, k, v, p) SELECT at(1), i || 'k1' || repeat('x', 60), 1, 0 FROM generate_series(1, 60) i");
	wait_caught_up($node, 'small');
	is(value('SELECT count(*), sum(n), count(*) FILTER (WHERE n = 2) FROM small_total'), '72000|72060|60', 'and all of it is read again');
};

# Two statements with different keys, and positions: in each snapshot all three agree.
# catches: statements that are committed in different epochs, changes that are given out twice or not at all
section 'totals' => sub {
	$kafka->topic('totals', 3);
	value(<<'SQL');
CREATE FOREIGN TABLE totals_in (card text, amount numeric, city text, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'totals');
CREATE TABLE by_card (card text PRIMARY KEY, n bigint, total numeric, biggest numeric);
CREATE TABLE by_city (city text PRIMARY KEY, n bigint, total numeric, mean numeric);
CREATE TABLE whole (one int PRIMARY KEY, n bigint, cities bigint);
SQL
	create_pipeline($node, 'totals', q{
		INSERT INTO by_card SELECT card, count(*), sum(amount), max(amount) FROM totals_in GROUP BY card
			ON CONFLICT (card) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total, biggest = EXCLUDED.biggest;
		INSERT INTO by_city SELECT city, count(*), sum(amount), avg(amount) FROM totals_in GROUP BY city
			ON CONFLICT (city) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total, mean = EXCLUDED.mean;
		INSERT INTO whole SELECT p, count(*), count(DISTINCT city) FROM totals_in GROUP BY p
			ON CONFLICT (one) DO UPDATE SET n = EXCLUDED.n, cities = EXCLUDED.cities}, parallelism => 2);
	my $reader = $crash->reader(<<'SQL');
WITH p AS (SELECT coalesce(sum(next_offset), 0) AS n FROM streamproc.position WHERE pipeline = 'totals'),
	a AS (SELECT coalesce(sum(n), 0) AS n, coalesce(sum(total), 0) AS total FROM by_card),
	b AS (SELECT coalesce(sum(n), 0) AS n, coalesce(sum(total), 0) AS total FROM by_city),
	c AS (SELECT coalesce(sum(n), 0) AS n FROM whole)
SELECT CASE WHEN p.n = a.n AND p.n = b.n AND p.n = c.n AND a.total = b.total THEN 'good' ELSE 'BAD' END, p.n, format('position %s, by_card %s %s, by_city %s %s, whole %s', p.n, a.n, a.total, b.n, b.total, c.n)
FROM p, a, b, c
SQL
	my $load = $kafka->load_start('totals', count => 0, rate => 3000, keys => 500, skew => 1);
	sub totals_move
	{
		my ($what) = @_;
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		my $n = value('SELECT coalesce(sum(n), 0) FROM by_card');
		wait_caught_up($node, 'totals');
		ok(wait_until(sub { value('SELECT coalesce(sum(n), 0) FROM by_card') > $n }, 30), $what);
	}
	totals_move('running totals move');
	stop('totals');
	my $saved = value('SELECT sum(n) FROM by_card');
	start('totals');
	totals_move('and go on after a stop');
	cmp_ok(value('SELECT sum(n) FROM by_card'), '>', $saved, 'from where they were');
	for my $parallelism (1, 3, 2)
	{
		value("SELECT streamproc.alter_pipeline('totals', parallelism => $parallelism)");
		totals_move("with $parallelism tasks");
	}
	# the same text in other words, and an option: the state stays
	value(q{SELECT streamproc.alter_pipeline('totals', checkpoint_interval => '30 ms', synchronous_commit => false)});
	totals_move('with other options');
	$node->restart('fast');
	totals_move('after a restart of the server');
	# on a fast machine all of that is over soon
	wait_until(sub { return $reader->positions > 20 }, 30);
	$load->signal('TERM');
	eval { $load->finish };
	wait_caught_up($node, 'totals');
	my %seen = $reader->finish;
	is($seen{bad}, 0, 'at each look all sinks and the positions agreed') or diag(join("\n", @{ $seen{bad_lines} }));
	cmp_ok($seen{positions}, '>', 20, 'and the reader saw them move');
	note("$seen{good} looks at $seen{positions} positions");
	for ([ 'by_card', 'SELECT card, count(*), sum(amount), max(amount) FROM totals_in GROUP BY 1' ],
		[ 'by_city', 'SELECT city, count(*), sum(amount), avg(amount) FROM totals_in GROUP BY 1' ], [ 'whole', 'SELECT p, count(*), count(DISTINCT city) FROM totals_in GROUP BY 1' ])
	{
		my ($sink, $query) = @$_;
		is(value("WITH b AS ($query) SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE $sink) x), (SELECT count(*) FROM (TABLE $sink EXCEPT ALL TABLE b) x)"), '0|0', "$sink is the batch query");
	}
	is(value(q{SELECT count(*), count(DISTINCT operator) FROM streamproc.stat_operator WHERE pipeline = 'totals'}), '3|3', 'each statement has its operator');
	is(value(q{SELECT keys FROM streamproc.stat_operator WHERE pipeline = 'totals' AND statement = 1}), value('SELECT count(*) FROM by_card'), 'with its keys');
	# nothing comes: nothing is committed, and a drain changes nothing
	my $epoch_now = value(q{SELECT max(epoch) FROM streamproc.position WHERE pipeline = 'totals'});
	stop('totals', drain => 1);
	cmp_ok(value(q{SELECT max(epoch) FROM streamproc.position WHERE pipeline = 'totals'}) - $epoch_now, '<=', 2, 'without rows there are no epochs');
	is(value('SELECT sum(n) FROM whole'), value('SELECT sum(n) FROM by_card'), 'a drain of running totals changes nothing');
};

# catches: no GROUP BY taken for no group: the row is there once, also where nothing is grouped by
section 'one total' => sub {
	make_topic('one', 2);
	value('CREATE TABLE one_total (id int PRIMARY KEY, n bigint, total numeric)');
	create_pipeline($node, 'one', q{INSERT INTO one_total SELECT 1, count(*), sum(v) FROM one_in ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total}, parallelism => 2);
	send_rows('one', map { [ $_ % 2, $_, 'a', $_ ] } 1 .. 10);
	wait_caught_up($node, 'one');
	is(value('SELECT id, n, total FROM one_total'), '1|10|55', 'a total of everything');
	stop('one');
	send_rows('one', map { [ $_ % 2, $_, 'a', $_ ] } 11 .. 20);
	start('one');
	wait_caught_up($node, 'one');
	is(value('SELECT id, n, total FROM one_total'), '1|20|210', 'goes on after a stop');
};

# catches: a value that was seen has the states of its group behind it, or loses its own place among them
section 'values that were seen' => sub {
	make_topic('seen', 1);
	my %more = (few => [], many => [ map { ("sum(v + $_)", "count(*) FILTER (WHERE v % 10 = $_)", "max(v - $_)") } 0 .. 5 ]);
	my %query;
	for my $name (sort keys %more)
	{
		my @results = ('count(DISTINCT v)', 'count(DISTINCT v / 2)', @{ $more{$name} });
		$query{$name} = 'SELECT p, ' . join(', ', @results) . ' FROM seen_in GROUP BY p';
		value("CREATE TABLE seen_$name (p int PRIMARY KEY, " . join(', ', map { "c$_ numeric" } 0 .. $#results) . ')');
		create_pipeline($node, "seen_$name", "INSERT INTO seen_$name $query{$name} ON CONFLICT (p) DO UPDATE SET " . join(', ', map { "c$_ = EXCLUDED.c$_" } 0 .. $#results));
	}
	my $same = sub {
		my ($what) = @_;
		for my $name (sort keys %more)
		{
			wait_caught_up($node, "seen_$name");
			is(value("WITH b AS ($query{$name}) SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE seen_$name) x), (SELECT count(*) FROM (TABLE seen_$name EXCEPT ALL TABLE b) x)"), '0|0', "$name aggregates: $what");
		}
	};
	send_rows('seen', map { [ 0, 1, 'a', $_ % 6000 ] } 1 .. 9000);
	$same->('the batch query');
	is(value("SELECT a.$_ < 1.3 * b.$_ FROM streamproc.stat_pipeline a, streamproc.stat_pipeline b WHERE a.pipeline = 'seen_many' AND b.pipeline = 'seen_few'"), 't', "$_ of a value do not hang on the others")
	  for qw(state_bytes segment_bytes);
	stop("seen_$_") for sort keys %more;
	send_rows('seen', map { [ 0, 2, 'a', $_ ] } 5000 .. 7000);
	start("seen_$_") for sort keys %more;
	$same->('the values are known after a restart');
};

# catches: small segments merged by what the plans said before they were made anew; records larger than a page that are not found again
section 'plans made anew' => sub {
	make_topic('anew', 1);
	value('CREATE TABLE anew_sink (k text PRIMARY KEY, n bigint, first text, all_v numeric[], long text)');
	create_pipeline($node, 'anew', q{INSERT INTO anew_sink SELECT k, count(*), min(k || v), array_agg(v ORDER BY v), string_agg(repeat(k, 150), '') FROM anew_in GROUP BY k
		ON CONFLICT (k) DO UPDATE SET n = EXCLUDED.n, first = EXCLUDED.first, all_v = EXCLUDED.all_v, long = EXCLUDED.long});
	for my $i (1 .. 80)
	{
		send_rows('anew', map { [ 0, $i, "k" . $_ % 5 * $i, $i * $_ ] } 1 .. 7);
		wait_caught_up($node, 'anew');
		value("ALTER TABLE anew_sink SET (fillfactor = @{[ 20 + $i ]})") if $i % 20 == 10;
	}
	my $same = q{WITH b AS (SELECT k, count(*), min(k || v), array_agg(v ORDER BY v), string_agg(repeat(k, 150), '') FROM anew_in GROUP BY k), a AS (SELECT k, n, first, all_v, long FROM anew_sink)
		SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) x), (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x)};
	is(value($same), '0|0', 'many epochs with other plans in between: the batch query');
	cmp_ok(value(q{SELECT count(DISTINCT epoch) FROM streamproc.state_segment WHERE pipeline = 'anew'}), '<', 50, 'their segments were merged');
	cmp_ok(value(q{SELECT max(length(data)) FROM streamproc.state_segment WHERE pipeline = 'anew'}), '>', 20000, 'a record that is larger than a page');
	stop('anew');
	send_rows('anew', map { [ 0, 100, "k$_", 9 ] } 1 .. 7);
	start('anew');
	wait_caught_up($node, 'anew');
	is(value($same), '0|0', 'and can be read again');
};

# Many keys, most of them hot: they change while they are copied.
section 'copied before the stop' => sub {
	# catches: a group given out twice by one epoch, or as it was; segments that are never deleted; a pane that is closed after it was copied
	value('ALTER SYSTEM SET streamproc.min_commit_interval = 300; ALTER SYSTEM SET streamproc.early_copy = 1000; SELECT pg_reload_conf()');
	$kafka->topic('early', 3);
	value(<<'SQL');
CREATE FOREIGN TABLE early_in (card text, amount numeric, city text, at timestamptz, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'early', event_time 'at', watermark_delay '500 ms', idle_timeout '1 h');
CREATE TABLE early_total (card text PRIMARY KEY, n bigint, total numeric, biggest text);
CREATE TABLE early_changes (card text, n bigint);
CREATE FUNCTION early_changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO early_changes VALUES (new.card, new.n); RETURN new; END';
CREATE TRIGGER changed AFTER INSERT OR UPDATE ON early_total FOR EACH ROW EXECUTE FUNCTION early_changed();
CREATE TABLE early_window (card text, s timestamptz, n bigint, cities bigint, PRIMARY KEY (card, s));
SQL
	create_pipeline($node, 'early', q{INSERT INTO early_total SELECT card, count(*), sum(amount), max(card || o) FROM early_in GROUP BY card
		ON CONFLICT (card) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total, biggest = EXCLUDED.biggest;
		INSERT INTO early_window SELECT card, w.window_start, count(*), count(DISTINCT city) FROM early_in, streamproc.tumble(at, '2 s') w GROUP BY card, w.window_start, w.window_end}, parallelism => 2);
	$kafka->load('early', count => 150_000, rate => 30_000, 'event-rate' => 15_000, disorder => 400, keys => 30_000, skew => 0.7);
	wait_caught_up($node, 'early');
	cmp_ok(value(q{SELECT count(*) FROM streamproc.stat_checkpoint WHERE pipeline = 'early' AND rows_in > 5000}), '>', 2, 'in large epochs');
	is(value('SELECT count(*) FROM (SELECT card, count(*), sum(amount), max(card || o) FROM early_in GROUP BY 1 EXCEPT TABLE early_total) x'), 0, 'totals are the batch query');
	is(value('SELECT count(*) FROM early_total'), value('SELECT count(DISTINCT card) FROM early_in'), 'all of them');
	is(value('SELECT count(*) FROM (SELECT card, n FROM early_changes GROUP BY 1, 2 HAVING count(*) > 1) x'), 0, 'each change was given out once');
	is(value('SELECT count(*) FROM (SELECT card, max(n) FROM early_changes GROUP BY 1 EXCEPT SELECT card, n FROM early_total) x'), 0, 'the last one is what the group is');
	stop('early', drain => 1);
	is(value(q{SELECT count(*) FROM (SELECT card, w.window_start, count(*), count(DISTINCT city) FROM early_in, streamproc.tumble(at, '2 s') w GROUP BY 1, 2, w.window_end EXCEPT TABLE early_window) x}), 0, 'so are windows');
	is(value('SELECT sum(n) FROM early_window'), 150_000, 'all of them');
	my $live = q{SELECT count(*) FROM streamproc.state_segment WHERE pipeline = 'early'};
	my $segments = value($live);
	$node->restart('immediate');
	value(q{SELECT streamproc.alter_pipeline('early', stop => NULL)});
	start('early');
	$kafka->load('early', count => 30_000, seed => 2, keys => 30_000, skew => 0.7);
	wait_caught_up($node, 'early');
	is(value('SELECT count(*) FROM (SELECT card, count(*), sum(amount), max(card || o) FROM early_in GROUP BY 1 EXCEPT TABLE early_total) x'), 0, 'read again, they go on');
	is(value('SELECT count(*) FROM (SELECT card, n FROM early_changes GROUP BY 1, 2 HAVING count(*) > 1) x'), 0, 'each change was given out once');
	stop('early');
	my ($size, $log) = split /\|/, value(q{SELECT pg_total_relation_size('streamproc.state_segment') / 1024, segment_bytes / 1024 FROM streamproc.stat_pipeline WHERE pipeline = 'early'});
	note("$segments segments, then " . value($live) . "; table $size kB, log $log kB");
	value('ALTER SYSTEM RESET streamproc.min_commit_interval; ALTER SYSTEM RESET streamproc.early_copy; SELECT pg_reload_conf()');
};

# catches: segments of an epoch of which nothing is alive when it is committed, forgotten in memory, but not deleted
section 'nothing is left of what was copied' => sub {
	value('ALTER SYSTEM SET streamproc.min_commit_interval = 300; ALTER SYSTEM SET streamproc.early_copy = 1; SELECT pg_reload_conf()');
	make_topic('gone', 1);
	create_pipeline($node, 'gone', q{INSERT INTO gone SELECT t.k, w.window_start, w.window_end, count(*), sum(t.v) FROM gone_in t, streamproc.tumble(t.at, '10 s') w WHERE t.v > 0 GROUP BY t.k, w.window_start, w.window_end}, parallelism => 1);
	for my $i (0 .. 4)
	{
		# the last row closes the window of the others, and is in none
		send_rows('gone', (map { [ 0, 10 * $i + 1, "k$_" ] } 1 .. 9), [ 0, 10 * $i + 11, 'a', -1 ]);
		wait_caught_up($node, 'gone');
	}
	is(value('SELECT count(*), sum(n) FROM gone'), '45|45', 'windows that come and go within an epoch');
	stop('gone');
	start('gone');
	send_rows('gone', [ 0, 62 ], [ 0, 80, 'a', -1 ]);
	wait_caught_up($node, 'gone');
	is(value('SELECT count(*), sum(n) FROM gone'), '46|46', 'read again, it goes on');
	value('ALTER SYSTEM RESET streamproc.min_commit_interval; ALTER SYSTEM RESET streamproc.early_copy; SELECT pg_reload_conf()');
};

# ---- windows of several statements ----

# Windows of 2 s and of 4 s of one topic: those of 4 s are the sums of those of 2 s, in each snapshot.
section 'two windows' => sub {
	# catches: operators of one pipeline that follow different watermarks
	$kafka->topic('two', 2);
	value(<<'SQL');
CREATE FOREIGN TABLE two_in (card text, amount numeric, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'two', event_time 'at', watermark_delay '500 ms', idle_timeout '1 h');
CREATE TABLE two_2 (card text, s timestamptz, e timestamptz, n bigint, total numeric, PRIMARY KEY (card, s));
CREATE TABLE two_4 (s timestamptz PRIMARY KEY, e timestamptz, n bigint, total numeric);
SQL
	create_pipeline($node, 'two', q{
		INSERT INTO two_2 SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount) FROM two_in t, streamproc.tumble(t.at, '2 s') w GROUP BY t.card, w.window_start, w.window_end;
		INSERT INTO two_4 SELECT w.window_start, w.window_end, count(*), sum(t.amount) FROM two_in t, streamproc.tumble(t.at, '4 s') w GROUP BY w.window_start, w.window_end}, parallelism => 2);
	my $reader = $crash->reader(<<'SQL');
WITH p AS (SELECT stream_watermark AS w FROM streamproc.task_position WHERE pipeline = 'two'),
	a AS (SELECT streamproc.tumble_start(s, '4 s', 'UTC', NULL) AS s, sum(n) AS n, sum(total) AS total FROM two_2 GROUP BY 1),
	c AS (SELECT a.s, a.n, b.n AS n4, b.total = a.total AND a.n = b.n AS same FROM a FULL JOIN two_4 b USING (s))
SELECT CASE WHEN bool_and(CASE WHEN s + interval '4 s' <= w THEN coalesce(same, false) ELSE n4 IS NULL END) AND (SELECT count(*) FROM two_2, p WHERE e > w) = 0 THEN 'good' WHEN count(*) = 0 THEN 'good' ELSE 'BAD' END,
	coalesce(max(w), '-infinity'), string_agg(format('%s: %s, %s', s, n, n4), '; ') FILTER (WHERE NOT coalesce(same, false))
FROM c, p
SQL
	$kafka->load('two', count => 30000, rate => 10000, 'event-rate' => 1000, disorder => 400, keys => 50);
	wait_caught_up($node, 'two');
	my %seen = $reader->finish;
	is($seen{bad}, 0, 'at each look windows of 4 s were the sum of those of 2 s, and all that had ended were there') or diag(join("\n", @{ $seen{bad_lines} }));
	cmp_ok($seen{positions}, '>=', 3, 'and the reader saw them come');
	note("$seen{good} looks at $seen{positions} watermarks");
	is(value(q{SELECT count(*) FROM streamproc.late_row WHERE pipeline = 'two'}), 0, 'disorder within the delay makes nothing late');
};

$node->stop('fast');
done_testing();

# The crash matrix: each fault point on the way of a kind of pipeline, with each kind of fault, one after the other.
#
# Kinds: rows into a table; windows with two tasks; window functions; a join of the topic with itself; rows into a topic.
# Faults, each at a point that a process really came to: kill -9 of it, kill -9 of the postmaster while it stands there,
# pg_terminate_backend() of it, an ERROR that does not pass, one that does, and no memory left.  All the time a reader looks
# at sink and positions in one snapshot, for a topic with isolation.level=read_committed: at no moment may anything be there
# twice, be wrong, or be missing that the positions say is done.  At the end the sink is the batch query's result.
#
# What it would catch: whatever is committed apart from what belongs to it, at any place of any operator.
#
# Short form: some of the runs, by the seed.  Long form (make crash): all of them.  Environment:
#   MATRIX_SEED (by default from the time; it is printed), MATRIX_RUNS (runs of a kind; 3 in the short form), ONLY (kinds)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Streamproc::Session;
use Test::More;
use Time::HiRes qw(time);

my $long = $ENV{STREAMPROC_LONG} ? 1 : 0;
my $seed = $ENV{MATRIX_SEED} // int(time * 1000) % 1_000_000;
my $begun = time;
srand($seed);
diag("MATRIX_SEED=$seed");

my $kafka = Streamproc::Kafka->new;
my $node = create_node('matrix', conf => <<'CONF');
restart_after_crash = on
log_statement = none
log_disconnections = off
log_connections = off
streamproc.restart_backoff_max = 400ms
streamproc.stop_timeout = 2s
streamproc.early_copy = 1
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);
my $session = Streamproc::Session->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }
sub asked { my ($query) = @_; return $session->ask($query, time + 30) }

# ---- what is run ----

my @reading = qw(keyed-before-read-commit keyed-before-apply operator-apply keyed-after-apply barrier-early keyed-before-stop barrier-arrive
  keyed-before-cut barrier-cut barrier-copied keyed-before-output keyed-before-write save-segment keyed-before-commit
  commit-before-position commit-after-position commit-done keyed-committed);
my @beginning = qw(keyed-before-recovery recover-segment keyed-recovered launcher-start launcher-before-settle launcher-settled launcher-started launcher-start-task);
my @rows = qw(task-taken task-begin task-before-run insert-before-flush task-after-run task-before-finish finish-before-constraints commit-before-position
  commit-after-position commit-done task-between-batches);

# {tx} is the kind's topic: the pipeline, its fault points, its result for the batch; for the reader what must be there ("due") of it, and what is there
my %kinds = (
	rows => {
		query  => 'INSERT INTO s_rows SELECT p, o, card, amount FROM {tx} WHERE amount > 0',
		batch  => 'SELECT p, o, card, amount FROM batch WHERE amount > 0',
		due    => q{SELECT b.* FROM b_rows b JOIN pos USING (p) WHERE b.o < pos.n},
		exact  => 1,
		points => [ @rows, qw(launcher-start launcher-before-settle launcher-settled launcher-started launcher-start-task task-start task-loaded) ] },
	windows => {
		query  => q{INSERT INTO s_windows SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount), count(DISTINCT t.p) FROM {tx} t, streamproc.tumble(t.at, '1 s') w GROUP BY t.card, w.window_start, w.window_end},
		batch  => q{SELECT b.card, w.window_start, w.window_end, count(*) AS n, sum(b.amount) AS total, count(DISTINCT b.p) AS parts FROM batch b, streamproc.tumble(b.at, '1 s') w GROUP BY b.card, w.window_start, w.window_end},
		due    => 'SELECT b.* FROM b_windows b, w WHERE b.window_end <= w.w',
		exact  => 1,
		points => [ @reading, @beginning ] },
	over => {
		query => q{INSERT INTO s_over SELECT t.p, t.o, t.at, lag(t.o) OVER k, count(*) OVER m, sum(t.o) OVER m FROM {tx} t WINDOW k AS (PARTITION BY t.card ORDER BY t.at), m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '2 s' PRECEDING AND CURRENT ROW)},
		batch => q{SELECT b.p, b.o, b.at, lag(b.o) OVER k AS prev, count(*) OVER m AS n, sum(b.o) OVER m AS total FROM batch b WINDOW k AS (PARTITION BY b.card ORDER BY b.at, b.p, b.o), m AS (PARTITION BY b.card ORDER BY b.at RANGE BETWEEN '2 s' PRECEDING AND CURRENT ROW)},
		due    => q{SELECT b.* FROM b_over b, w WHERE b.at < w.w - interval '1 s'},
		points => [ @reading, qw(over-pass over-release over-released), @beginning ] },
	join => {
		query => q{INSERT INTO s_join SELECT a.p, a.o, a.at, b.p, b.o FROM {tx} a LEFT JOIN {tx} b ON a.card = b.card AND b.at BETWEEN a.at + interval '1 us' AND a.at + interval '500 ms'},
		batch => q{SELECT a.p, a.o, a.at, b.p AS p2, b.o AS o2 FROM batch a LEFT JOIN batch b ON a.card = b.card AND b.at BETWEEN a.at + interval '1 us' AND a.at + interval '500 ms'},
		due    => q{SELECT b.* FROM b_join b, w WHERE b.at < w.w - interval '5 s'},
		points => [ @reading, qw(over-pass over-release over-released), @beginning ] },
	topic => {
		query  => q{INSERT INTO t_topic SELECT p, o, card, amount FROM {tx} WHERE amount > 0},
		batch  => 'SELECT p, o, card, amount FROM batch WHERE amount > 0',
		# what is published comes behind what is committed
		due    => 'SELECT * FROM b_topic WHERE false',
		points => [ (grep { !/flush|constraints/ } @rows), qw(outbox-insert publisher-start publisher-before-init publisher-before-compare publisher-before-durable publisher-before-begin publisher-begun publisher-signed
			  publisher-before-commit publisher-committed publisher-before-delete publisher-before-delete-commit) ] });
my @actions = qw(kill postmaster terminate error retry memory);

# points of a process that begins: somebody has to let it begin anew
my %begins = map { $_ => 'launcher' } @beginning;
$begins{$_} = 'task' for qw(task-start task-loaded);
$begins{$_} = 'publisher' for qw(publisher-start publisher-before-init publisher-before-compare publisher-signed);

my %runs;
for my $kind (sort keys %kinds)
{
	next unless picked($kind);
	my @all = map { my $point = $_; map { [ $point, $_ ] } @actions } @{ $kinds{$kind}{points} };
	for my $i (reverse 1 .. $#all) { my $j = int(rand($i + 1)); @all[ $i, $j ] = @all[ $j, $i ] }
	my $n = $ENV{MATRIX_RUNS} // ($long ? scalar @all : 3);
	splice(@all, $n) if $n < @all;
	$runs{$kind} = \@all;
}

# ---- the events, all known before they are sent ----

my $batch = 150;
my ($most) = sort { $b <=> $a } map { scalar @$_ } values %runs;
my $total = $batch * ($most + 2);
my @load = (keys => 20, skew => 0.5, spread => 'even', 'event-rate' => 300, disorder => 400);
{
	my $file = PostgreSQL::Test::Utils::tempdir('events') . '/events';
	my %options = @load;
	system("'" . Streamproc::Kafka::load_path() . "' --brokers '" . $kafka->address . "' --topic tx --partitions 3 --count $total "
		  . join(' ', map { "--$_ $options{$_}" } sort keys %options) . " --print > '$file' 2>/dev/null") == 0 or die 'load --print';
	my $rows = '';
	for (split /\n/, slurp_file($file)) { my @f = split /\t/; $rows .= join("\t", @f[ 0, 1, 2, 3 ]) =~ s/\\/\\\\/gr . "\n" if @f >= 4 }
	append_to_file("$file.copy", $rows);
	chmod 0644, "$file.copy";
	value("CREATE TABLE printed (n bigserial, p int, ts bigint, key text, value jsonb); COPY printed (p, ts, key, value) FROM '$file.copy'");
}
value(q{CREATE TABLE batch AS SELECT p, row_number() OVER (PARTITION BY p ORDER BY n) - 1 AS o, value->>'card' AS card, (value->>'amount')::numeric AS amount, (value->>'at')::timestamptz AS at FROM printed});

my (%hits, %missed, @recovery, %read_all);
my ($topic, $produced, $restarted) = ('', 0, 0);

# ---- a run ----

sub positions { my ($kind) = @_; return asked("SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'm_$kind'") }

# An error that does not pass makes the pipeline fail; it is to say so, and to go on when it is started.
sub catch_up
{
	my ($kind, $what, $may_fail) = @_;
	my ($starts, $first);
	my $since = time;
	my $before = positions($kind);
	my $ok = wait_until(
		sub {
			my $state = asked("SELECT state || '|' || coalesce(sqlstate, '') || ' ' || coalesce(reason, '') FROM streamproc.stat_pipeline WHERE pipeline = 'm_$kind'") // return 0;
			if ($state =~ /^failed/)
			{
				if (!$may_fail || ++$starts > 2) { fail("$what: the pipeline goes on by itself"); diag($state) }
				$restarted++;
				asked("SELECT streamproc.start_pipeline('m_$kind')");
				$since = time;
				return 0;
			}
			my $now = positions($kind) // return 0;
			$before //= $now;
			$first //= time if $now > $before;
			return 0 if $now != $produced;
			return 1 if $kind ne 'topic';
			return (asked("SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'm_$kind'") // '') eq '0';
		},
		60);
	push @recovery, $first - $since if defined $first;
	return if $ok;
	diag(asked("SELECT * FROM streamproc.stat_pipeline") // 'no answer', "\n", asked('SELECT * FROM streamproc.stat_worker') // 'no answer');
	die "$what: the pipeline does not go on\n";
}

sub send_some
{
	my ($count) = @_;
	$kafka->load($topic, @load, count => $count, skip => $produced);
	$produced += $count;
	return;
}

sub strike
{
	my ($kind, $point, $action) = @_;
	my $what = "$kind: $action at $point";
	my $waits = $action =~ /postmaster|terminate/;
	$crash->set_fault("$point=" . ($waits ? 'wait' : "$action\@1-1"));
	send_some($batch);
	if (my $role = $begins{$point})
	{
		asked("SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE pipeline = 'm_$kind' AND role = '$role' AND pid IS NOT NULL LIMIT 1");
	}
	my $pid = $crash->wait_hit($point, 10);
	if (!defined $pid)
	{
		$missed{$what} = 1;
	}
	else
	{
		$hits{$action}++;
		if ($action eq 'postmaster')
		{
			crash_postmaster($node);
			$crash->reset_fault;
			$node->start;
		}
		elsif ($action eq 'terminate')
		{
			asked("SELECT pg_terminate_backend($pid)");
		}
	}
	$crash->reset_fault;
	wait_gone($pid) if defined $pid && $action eq 'terminate';
	catch_up($kind, $what, $action =~ /error|memory/);
	return;
}

# ---- a kind ----

sub same
{
	my ($a, $b, $what) = @_;
	return is(value("WITH a AS MATERIALIZED ($a), b AS MATERIALIZED ($b) SELECT (SELECT count(*) FROM (TABLE a EXCEPT ALL TABLE b) x), (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE a) x)"), '0|0', $what);
}

sub run_kind
{
	my ($kind, @these) = @_;
	my %k = %{ $kinds{$kind} };
	my $sink = $kind eq 'topic' ? 't_topic' : "s_$kind";
	($topic, $produced) = ("tx_$kind", 0);
	$k{query} =~ s/\{tx\}/$topic/g;
	$kafka->topic($topic, 3);
	value(qq{CREATE FOREIGN TABLE $topic (card text, amount numeric, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
		SERVER kafka OPTIONS (topic '$topic', format 'json', event_time 'at', watermark_delay '500 ms', idle_timeout '1 h');
		CREATE TABLE b_$kind AS $k{batch}; ANALYZE b_$kind});
	if ($kind eq 'topic')
	{
		$kafka->topic('out', 2);
		value("CREATE FOREIGN TABLE t_topic (p int, o bigint, card text, amount numeric) SERVER kafka OPTIONS (topic 'out', format 'json')");
	}
	else
	{
		value("CREATE TABLE $sink (LIKE b_$kind)");
	}
	create_pipeline($node, "m_$kind", $k{query}, parallelism => 2, checkpoint_interval => '10 ms');
	wait_state($node, "m_$kind", 'running');
	my $too_much = $k{exact} ? 'TABLE due' : "TABLE b_$kind";
	my $reader = $crash->reader(<<SQL);
WITH pos AS MATERIALIZED (SELECT partition AS p, next_offset AS n FROM streamproc.position WHERE pipeline = 'm_$kind'),
	w AS MATERIALIZED (SELECT coalesce(max(stream_watermark), '-infinity') AS w FROM streamproc.task_position WHERE pipeline = 'm_$kind'),
	due AS MATERIALIZED ($k{due}), sink AS MATERIALIZED (TABLE $sink),
	bad AS (SELECT format('it has not: %s', x) AS what FROM (TABLE due EXCEPT ALL TABLE sink) x
		UNION ALL SELECT format('it has too much: %s', x) FROM (TABLE sink EXCEPT ALL $too_much) x)
SELECT CASE WHEN count(*) = 0 THEN 'good' ELSE 'BAD' END, (SELECT string_agg(n::text, ',' ORDER BY p) FROM pos), count(*) || ': ' || min(what) || '; ' || max(what) FROM bad
SQL
	my $good = eval {
		catch_up($kind, "$kind: it begins");
		strike($kind, @$_) for @these;
		1;
	};
	fail("$kind: $@") unless $good;
	my %read = $reader->finish;
	$read_all{$_} += $read{$_} for qw(good bad positions cut_off);
	is($read{bad}, 0, "$kind: at each look nothing was lost, doubled or torn") or diag(join("\n", @{ $read{bad_lines} }));
	cmp_ok($read{good}, '>', 0, "$kind: the reader looked");
	return unless $good;
	send_some($total - $produced) if $produced < $total;
	catch_up($kind, "$kind: the rest");
	value("SELECT streamproc.stop_pipeline('m_$kind', drain => true); SELECT streamproc.wait_until_stopped('m_$kind', '60 s')");
	same("TABLE $sink", "TABLE b_$kind", "$kind: the sink is what the batch query gives");
	is(value('SELECT (SELECT count(*) FROM streamproc.late_row) + (SELECT count(*) FROM streamproc.dead_letter)'), 0, "$kind: nothing was late, nothing is a dead letter");
	value("SELECT streamproc.drop_pipeline('m_$kind')");
	return;
}

run_kind($_, @{ $runs{$_} }) for sort keys %runs;

my $hit = 0;
$hit += $_ for values %hits;
cmp_ok($hit, '>', 0, 'faults were hit');
# a process may be through with its work before the fault is set
cmp_ok(scalar keys %missed, '<=', $long ? $hit / 10 : $hit / 3, 'but for a few, all of them') or diag(join(', ', sort keys %missed));
@recovery = sort { $a <=> $b } @recovery;
my $p = sub { @recovery ? sprintf('%.2f', $recovery[ int($_[0] * $#recovery) ]) : 'none' };
diag(sprintf('%d runs hit: %s; not hit (not counted): %s; from the fault to the next commit p50 %s, p99 %s, max %s s; the reader compared %d times at %d positions, was cut off %d times; failed pipelines started again: %d; %.0f s',
		$hit, join(', ', map { "$hits{$_} $_" } sort keys %hits), join(', ', sort keys %missed) || 'none', $p->(0.5), $p->(0.99), $p->(1), @read_all{qw(good positions cut_off)}, $restarted, time - $begun));
$node->stop('fast');
done_testing();

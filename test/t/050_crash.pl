# Exactly once whatever is killed.
#
# Two pipelines read one topic, with one task and with three.  In each round a burst of messages is sent and something
# fails while a transaction is open: fault points make a task stand still inside its transaction (action "wait"), and
# then it, its launcher, the server or the broker is killed; or the fault point itself fails.  All the time a reader
# with a session of its own compares sinks and positions, in one snapshot.  In the end each record must be there once.
#
# Short form: each kind of fault, and an error at each point within a transaction.  Long form (make crash):
# 200,000 messages, at least 60 faults that hit an open transaction.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

my $long = $ENV{STREAMPROC_LONG} ? 1 : 0;
my $begun = time;

# points inside the transaction of a task, in the order in which it comes by
my @inside = qw(task-begin task-before-run insert-before-flush insert-before-indexes task-after-run task-between-batches
  task-before-finish upsert-before-round finish-before-constraints commit-before-position commit-after-position);
my %inside = map { $_ => 1 } @inside;

my $kafka = Streamproc::Kafka->new;
$kafka->topic('tx', 3);
my $node = create_node('crash', conf => <<'CONF');
restart_after_crash = on
log_statement = none
log_disconnections = off
log_connections = off
streamproc.restart_backoff_max = 400ms
streamproc.stop_timeout = 2s
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE tx (card text NOT NULL, amount numeric(12,2), part int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'tx', format 'json');
CREATE TABLE card (card text PRIMARY KEY);
INSERT INTO card SELECT 'card-' || lpad(i::text, 6, '0') FROM generate_series(0, 49) i;
CREATE TABLE sink1 (part int, o bigint, card text, amount numeric);
CREATE TABLE sink3 (part int, o bigint, card text, amount numeric);
CREATE INDEX ON sink3 (card);
CREATE TABLE counter (card text PRIMARY KEY, n bigint NOT NULL, total numeric NOT NULL) WITH (fillfactor = 50);
CREATE TABLE late3 (part int, o bigint, card text REFERENCES card DEFERRABLE INITIALLY DEFERRED,
	UNIQUE (part, o) DEFERRABLE INITIALLY DEFERRED);
SQL
create_pipeline($node, 'one', 'INSERT INTO sink1 SELECT part, o, card, amount FROM tx', parallelism => 1);
create_pipeline(
	$node, 'three', q{
	INSERT INTO sink3 SELECT part, o, card, amount FROM tx;
	INSERT INTO counter SELECT card, 1, amount FROM tx
		ON CONFLICT (card) DO UPDATE SET n = counter.n + excluded.n, total = counter.total + excluded.total;
	INSERT INTO late3 SELECT part, o, card FROM tx WHERE o % 4 = 0}, parallelism => 3);
wait_state($node, $_, 'running') for qw(one three);

my $crash = Streamproc::Crash->new($node);

# One statement, one snapshot: per partition the sinks hold the offsets 0 .. next_offset - 1, each once (their number,
# the largest and the sum), and the counters have counted just as many.
my $reader = $crash->reader(<<'SQL');
WITH p AS (SELECT pipeline, partition, next_offset AS n FROM streamproc.position),
s AS (
	SELECT 'one' AS pipeline, 'sink1' AS sink, part, count(*) AS n, max(o) AS m, sum(o) AS s FROM sink1 GROUP BY part
	UNION ALL SELECT 'three', 'sink3', part, count(*), max(o), sum(o) FROM sink3 GROUP BY part
	UNION ALL SELECT 'three', 'late3', part, count(*), max(o) / 4, sum(o) / 4 FROM late3 GROUP BY part),
w AS (
	SELECT p.pipeline, k.sink, p.partition, CASE k.sink WHEN 'late3' THEN (p.n + 3) / 4 ELSE p.n END AS n
	FROM p JOIN (VALUES ('one', 'sink1'), ('three', 'sink3'), ('three', 'late3')) k (pipeline, sink) USING (pipeline)),
c AS (
	SELECT format('%s %s: position says %s rows, sink has %s, last %s, sum %s', coalesce(w.sink, s.sink),
		coalesce(w.partition, s.part), w.n, s.n, s.m, s.s) AS what,
		coalesce(w.n = coalesce(s.n, 0) AND coalesce(s.m, -1) = w.n - 1 AND coalesce(s.s, 0) = w.n * (w.n - 1) / 2, false) AS good
	FROM w FULL JOIN s ON s.sink = w.sink AND s.part = w.partition
	UNION ALL
	SELECT format('counters: %s events, %s; positions %s, sink3 %s', k.n, k.total, q.n, t.total),
		coalesce(k.n, 0) = q.n AND k.total IS NOT DISTINCT FROM t.total
	FROM (SELECT sum(n) AS n, sum(total) AS total FROM counter) k, (SELECT sum(n) AS n FROM p WHERE pipeline = 'three') q,
		(SELECT sum(amount) AS total FROM sink3) t)
SELECT CASE WHEN bool_and(good) THEN 'good' ELSE 'BAD' END, (SELECT string_agg(n::text, ',' ORDER BY pipeline, partition) FROM p),
	string_agg(what, '; ') FILTER (WHERE NOT good)
FROM c
SQL

# ---- rounds ----

# events of the load tool, records in the topic: a broker that is killed may take a record twice
my ($produced, $records, $number) = (0, 0, 0);

sub records_in_topic
{
	my $n = 0;
	$n += $_->[1] for values %{ $kafka->offsets('tx') };
	return $n;
}

my (%hits, %missed);	# kind => number of rounds
my $hits_inside = 0;
my $careful = 0;	# has the last round made tasks careful?

sub positions_are
{
	my ($n) = @_;
	my $out = $crash->ask('SELECT count(DISTINCT pipeline), min(s), max(s) FROM (SELECT pipeline, sum(next_offset) AS s
		FROM streamproc.position GROUP BY pipeline) x');
	return defined $out && $out eq "2|$n|$n";
}

# Both pipelines have committed everything that was sent.
sub catch_up
{
	my ($kind) = @_;
	return if wait_until(sub { positions_are($records) }, 60);
	my $state = $crash->ask('SELECT pipeline, state, reason, "offset", last_error FROM streamproc.stat_pipeline') // 'no answer';
	my $positions = $crash->ask('SELECT pipeline, partition, next_offset FROM streamproc.position') // 'no answer';
	my %read = $reader->finish;
	diag("$records records are in the topic\npositions:\n$positions\nstates:\n$state");
	diag("the reader saw $read{bad} times that sinks and positions differ\n", join("\n", @{ $read{bad_lines} }));
	die "after $kind the pipelines did not go on";
}

# Tasks that met an error run carefully for a while, and do not come by all points then: others take their place.
sub fresh_tasks
{
	my $restarts = 'SELECT sum(restarts) FROM streamproc.stat_pipeline';
	my $before = $crash->ask($restarts);
	my $n = $crash->ask("SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE role = 'task' AND pid IS NOT NULL) x");
	wait_until(sub { ($crash->ask($restarts) // -1) >= $before + $n }) or die "tasks were not started again";
	wait_state($node, $_, 'running') for qw(one three);
	return;
}

# One round: the fault setting, what to do when "point" was hit (undef: nothing, the fault did it itself).
sub strike
{
	my ($kind, $setting, $point, $act, %options) = @_;
	# a transaction of several batches needs a queue that is full
	my $full_queue = $point eq 'task-between-batches';
	my $count = $options{count} // ($full_queue ? 30000 : $long ? 600 : 1000);
	my $second = $number++ % 2;
	fresh_tasks() if $careful;
	$careful = $setting =~ /=error/;
	$crash->set_fault($full_queue ? 'task-taken=wait' : $setting);
	my $load = $kafka->load_start('tx', count => $count, skip => $produced, keys => 50, skew => 1, spread => 'even',
		$second && !$full_queue ? (rate => 3000) : ());
	if ($full_queue)
	{
		$load->finish or die "load failed";
		$load = undef;
		$crash->set_fault($setting);
	}
	$options{provoke}->() if $options{provoke};
	my $pid = $crash->wait_hit($point);
	if (defined $pid)
	{
		$act->($pid) if $act;
		$hits{$kind}++;
		$hits_inside++ if $inside{$point};
	}
	else
	{
		$missed{$kind}++;
		diag("$kind: $point was not hit");
	}
	$crash->reset_fault;
	$kafka->start if $options{broker};
	!$load or $load->finish or die "load failed";
	$produced += $count;
	$records = records_in_topic();
	die "$produced events were sent, the topic has $records records" if $records < $produced;
	catch_up("$kind at $point");
}

# The task stands at the point with its transaction open: then act.
sub stand_and
{
	my ($kind, $point, $act, %options) = @_;
	strike($kind, "$point=wait", $point, $act, %options);
}

my %stand = (
	'kill -9 task'     => sub { kill9($_[0]) },
	'kill -9 launcher' => sub { kill9($crash->launcher_of_task($_[0])) },
	'kill -9 postmaster' => sub { crash_postmaster($node); $crash->reset_fault; $node->start },
	'pg_terminate_backend of a task' => sub { $crash->ask("SELECT pg_terminate_backend($_[0])") },
	'pg_terminate_backend of a launcher' => sub { $crash->ask('SELECT pg_terminate_backend(' . $crash->launcher_of_task($_[0]) . ')') },
	'immediate shutdown' => sub { $node->stop('immediate'); $crash->reset_fault; $node->start });
my @stand_points = $long
  ? grep { $_ ne 'task-between-batches' } @inside
  : qw(task-after-run commit-after-position);
my $turn = 0;
for my $kind (sort keys %stand)
{
	for (1 .. ($long ? 5 : 1))
	{
		stand_and($kind, $stand_points[ $turn++ % @stand_points ], $stand{$kind});
	}
}
stand_and($_, 'task-between-batches', $stand{$_}) for ('kill -9 task', $long ? ('immediate shutdown', 'pg_terminate_backend of a task') : ());

# A transaction that is open when the broker dies commits; after its restart the flow goes on.
for (1 .. ($long ? 5 : 1))
{
	stand_and(
		'kill -9 broker', 'task-after-run',
		sub {
			my $before = $crash->ask('SELECT sum(next_offset) FROM streamproc.position');
			$kafka->kill;
			$crash->reset_fault;
			ok(wait_until(sub { ($crash->ask('SELECT sum(next_offset) FROM streamproc.position') // 0) > $before }, 20),
				'what was read before the broker died is committed without it');
		},
		broker => 1);
}

# A fault that the process makes itself: the first time that each process comes by.  An error of class XX sends the
# task through its input with care; 40001 is tried again.
for my $action ($long ? qw(error retry fatal kill) : qw(error retry))
{
	for my $point ($action eq 'retry' && !$long ? qw(task-after-run commit-after-position) : @inside)
	{
		strike("$action at a point in the transaction", "$point=$action\@1-1", $point);
	}
}
if (!$long)
{
	strike('fatal at a point in the transaction', 'commit-before-position=fatal@1-1', 'commit-before-position');
	strike('kill at a point in the transaction', 'upsert-before-round=kill@1-1', 'upsert-before-round');
}

# around transactions: between taking and beginning, after the commit, on the way back, at each step of a start
for my $action ($long ? qw(error fatal kill) : qw(error))
{
	my $kind = "$action outside of transactions";
	strike($kind, "task-taken=$action\@1-1", 'task-taken');
	strike($kind, "commit-done=$action\@1-1", 'commit-done');
	strike($kind, "task-after-run=error\@1-1,task-careful=$action\@1-1", 'task-careful');
	strike($kind, "task-after-run=error\@1-1,task-rewind=$action\@1-1", 'task-rewind');
	strike($kind, "task-after-run=fatal\@1-1,$_=$action\@1-1", $_) for qw(task-start task-loaded);
	for my $point (qw(launcher-start launcher-before-settle launcher-in-settle launcher-settled launcher-start-task launcher-started))
	{
		strike("$action while a pipeline starts", "$point=$action\@1-1",
			$point, undef, provoke => sub { $crash->ask('SELECT pg_terminate_backend(' . $crash->launcher('three') . ')') });
	}
	strike("$action in the scanner", "scanner-scan=$action",
		'scanner-scan', undef, provoke => sub { $crash->ask(q{SELECT streamproc.alter_pipeline('one', checkpoint_interval => '90 ms')}) });
}

# An error that passes while pieces of a batch run, each in a subtransaction: the whole transaction is given up, by the same
# process.
strike('retry while running carefully', "task-after-run=error\@1-1,task-careful=retry\@1-1", 'task-careful');
unlike(slurp_file($node->logfile), qr/unexpected state/, 'no transaction is left half aborted');

# what is left of the messages flows while the supervisor is terminated
my $rest = ($long ? 250_000 : 100_000) - $produced;
$rest = 1000 if $rest < 1000;
{
	strike('pg_terminate_backend of the supervisor',
		'task-after-run=wait', 'task-after-run',
		sub { $crash->ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'") },
		count => $rest);
}

# ---- what must be true ----

wait_caught_up($node, $_) for qw(one three);
my %read = $reader->finish;
note("$produced events were sent, the topic has $records records");
cmp_ok($records, '>=', $long ? 200_000 : 50_000, 'enough messages went through');
for my $sink (qw(sink1 sink3))
{
	is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT part, o FROM $sink GROUP BY 1, 2 HAVING count(*) > 1) d"),
		0, "$sink: 0 duplicated");
	is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT part, o, card, amount FROM tx EXCEPT ALL SELECT part, o, card, amount FROM $sink) d"),
		0, "$sink: 0 lost");
	is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT part, o, card, amount FROM $sink EXCEPT ALL SELECT part, o, card, amount FROM tx) d"),
		0, "$sink: 0 extra");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT card, count(*), sum(amount) FROM tx GROUP BY card EXCEPT SELECT * FROM counter) d'),
	0, 'counters are those of the batch query');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT part, o, card FROM tx WHERE o % 4 = 0 EXCEPT ALL SELECT * FROM late3) d'),
	0, 'the sink with deferred constraints has all rows');

is($read{bad}, 0, 'the reader never saw sinks and positions differ') or diag(join("\n", @{ $read{bad_lines} }));

# ---- and that it was tested ----

my $rounds = 0;
for my $kind (sort keys %{ { %hits, %missed } })
{
	$rounds += $hits{$kind} // 0;
	diag(sprintf('%4d  %s%s', $hits{$kind} // 0, $kind, $missed{$kind} ? " ($missed{$kind} missed)" : ''));
}
diag(sprintf('%d faults hit, %d of them an open transaction; %d messages twice; the reader compared %d times at %d positions, was cut off %d times; %.0f s',
		$rounds, $hits_inside, $produced, $read{good}, $read{positions}, $read{cut_off}, time - $begun));
is(join(', ', sort keys %missed), '', 'each fault was hit');
my $least = $long ? 5 : 1;
cmp_ok($hits{$_} // 0, '>=', $least, "$_: at least $least") for sort(keys %stand), 'kill -9 broker';
cmp_ok($hits{"$_ at a point in the transaction"} // 0, '>=', $long ? 11 : 1, "$_ at points in the transaction") for qw(error retry fatal kill);
cmp_ok($hits_inside, '>=', $long ? 60 : 20, 'enough faults hit an open transaction');
cmp_ok($read{good}, '>=', 2 * $rounds, 'the reader made its checks');
cmp_ok($read{positions}, '>=', $rounds, 'at as many positions');
cmp_ok($read{cut_off}, '>=', $long ? 20 : 4, 'and came back after crashes');
my $log_hits = $crash->log_hits;
for my $point (@inside)
{
	my $n = 0;
	$n += $log_hits->{$_} for grep { /^\Q$point\E:/ } keys %$log_hits;
	cmp_ok($n, '>=', 1, "the log shows a fault at $point");
}

done_testing();

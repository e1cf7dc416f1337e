# Processes that are stopped, out of date or told to leave: of two that believe to own a partition one commits, and the
# server goes down in time whatever the broker does.
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

my $kafka = Streamproc::Kafka->new;
$kafka->topic('tx', 2);
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
streamproc.stop_timeout = 500ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE tx (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'tx', format 'json');
CREATE TABLE sink (id int, p int, o bigint);
SQL
create_pipeline($node, 'pipe', 'INSERT INTO sink SELECT id, p, o FROM tx', parallelism => 1);
wait_state($node, 'pipe', 'running');

my $sent = 0;

sub send_rows
{
	my ($n) = @_;
	$kafka->produce('tx', map { { partition => $_ % 2, value => "{\"id\": $_}" } } $sent .. $sent + $n - 1);
	$sent += $n;
}

sub exact
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_caught_up($node, 'pipe');
	is(value('SELECT count(*), count(DISTINCT (p, o)), count(DISTINCT id) FROM sink'), "$sent|$sent|$sent", $what);
}

my $position_sum = 'SELECT sum(next_offset) FROM streamproc.position';

# The task stands right before it compares the position with what it began with, its rows already written.
sub stand
{
	$crash->set_fault('commit-before-position=wait');
	send_rows(100);
	my $pid = $crash->wait_hit('commit-before-position') or die 'the task did not come by';
	return $pid;
}

send_rows(1000);
exact('it runs');

# ---- stale tasks ----

# Another launcher has taken over, as far as the position says.
my $task = stand();
my $log = -s $node->logfile;
$node->safe_psql('postgres', 'UPDATE streamproc.task_position SET generation = generation + 1');
$crash->reset_fault;
ok(wait_gone($task), 'a task whose generation is over ends');
like(slurp_file($node->logfile, $log), qr/\[$task\] FATAL:  position of task 0 of pipeline "pipe" was changed by somebody else.*Another launcher has taken over/s,
	'it says why');
exact('a task of an older generation cannot commit; a new one does, once');

# Somebody else has committed the same records.
$task = stand();
$node->safe_psql('postgres', <<SQL);
BEGIN;
INSERT INTO sink SELECT id, p, o FROM tx WHERE o >= (SELECT next_offset FROM streamproc.position WHERE partition = tx.p);
UPDATE streamproc.task_position SET next_offsets = ARRAY[$sent / 2, $sent / 2];
COMMIT;
SQL
$crash->reset_fault;
ok(wait_gone($task), 'a task whose offsets are over ends');
exact('records that another process committed are not committed again');

# Somebody else has the row locked, and commits first: the task waits for him, then sees it.
$task = stand();
my $session = $node->background_psql('postgres');
$session->query_safe(<<SQL);
BEGIN;
INSERT INTO sink SELECT id, p, o FROM tx WHERE o >= (SELECT next_offset FROM streamproc.position WHERE partition = tx.p);
UPDATE streamproc.task_position SET next_offsets = ARRAY[$sent / 2, $sent / 2];
SQL
$crash->reset_fault;
wait_query($node, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $task", 'Lock');
$session->query_safe('COMMIT');
ok(wait_gone($task), 'a task that waited for the row ends');
exact('of two that commit at the same time one does');

# The same, but the other one rolls back: the task was right.
$task = stand();
$session->query_safe('BEGIN; UPDATE streamproc.task_position SET next_offsets = ARRAY[0, 0]');
$crash->reset_fault;
wait_query($node, "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $task", 'Lock');
$session->query_safe('ROLLBACK');
exact('a rolled back change of the position disturbs nobody');
is(join(',', worker_pids($node, role => 'task')), $task, 'the task is the same');

# VACUUM FULL moves the row
$task = stand();
$node->safe_psql('postgres', 'SELECT 1');
$crash->reset_fault;
$node->safe_psql('postgres', 'VACUUM FULL streamproc.task_position');
send_rows(100);
exact('VACUUM FULL moves the position, it is found');
is(join(',', worker_pids($node, role => 'task')), $task, 'by the same task');

# The pipeline gets another text while a transaction with the old one is open.
$node->safe_psql('postgres', 'CREATE TABLE other (LIKE sink)');
$task = stand();
my $before = value('SELECT count(*) FROM sink');
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('pipe', query => 'INSERT INTO other SELECT id, p, o FROM tx')});
$crash->reset_fault;
wait_caught_up($node, 'pipe');
is(value('SELECT (SELECT count(*) FROM sink), count(*), count(DISTINCT (p, o)) FROM other'), "$before|100|100",
	'nothing of the old text is committed after alter_pipeline');
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('pipe', query => 'INSERT INTO sink SELECT id, p, o FROM tx')});
$node->safe_psql('postgres', 'INSERT INTO sink SELECT * FROM other');
send_rows(100);
exact('and back');

# The row is gone: nothing can be committed.
$task = stand();
$session->query_safe('BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM streamproc.task_position; DELETE FROM streamproc.task_position; COMMIT');
$crash->reset_fault;
ok(wait_gone($task), 'a task without a position ends');
is(value("SELECT count(*) FROM sink"), $sent - 100, 'it has not committed');
$session->query_safe('INSERT INTO streamproc.task_position SELECT * FROM kept');
exact('with the position back it goes on');
$session->quit;

# ---- zombies: stopped by SIGSTOP in a transaction while everything goes on without them ----

for my $what ('terminated launcher', 'stopped pipeline', 'killed server')
{
	$task = stand();
	kill 'STOP', $task;
	my $launcher = $crash->launcher('pipe');
	if ($what eq 'terminated launcher')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
		wait_until(sub { my $l = $crash->ask(q{SELECT pid FROM streamproc.stat_worker WHERE role = 'launcher'}); $l && $l ne $launcher })
		  or fail('there is no new launcher');
		wait_query($node, q{SELECT waits_for FROM streamproc.stat_worker WHERE role = 'launcher'}, 'workers of an earlier run to leave');
		is(value(q{SELECT count(*) FROM streamproc.stat_worker WHERE role = 'task'}), '1', "$what: no task starts beside the zombie");
		# beyond stop_timeout the new launcher sends it SIGTERM, which it cannot hear
		my $begun = time;
		wait_until(sub { time - $begun > 1 });
		is(value(q{SELECT count(*) FROM streamproc.stat_worker WHERE role = 'task'}), '1', "$what: neither later");
		$crash->reset_fault;
		kill 'CONT', $task;
	}
	elsif ($what eq 'stopped pipeline')
	{
		$node->safe_psql('postgres', q{SELECT streamproc.stop_pipeline('pipe')});
		sql_fails($node, q{SELECT streamproc.wait_until_stopped('pipe', '1 s')}, qr/is not stopped after 1000 ms/, "$what: it is not stopped while the zombie lives");
		$node->safe_psql('postgres', q{SELECT streamproc.start_pipeline('pipe')});
		$crash->reset_fault;
		kill 'CONT', $task;
	}
	else
	{
		# a server that crashes takes the zombie with it: kill -9 works on stopped processes
		kill9($launcher);
		wait_gone($task);
		$crash->reset_fault;
	}
	ok(wait_gone($task), "$what: the zombie ends");
	wait_query($node, "SELECT 1", "1");
	exact("$what: it has not committed twice, nothing is lost");
}

# ---- fast shutdown within 5 seconds ----

sub fast
{
	my ($what) = @_;
	my $begun = time;
	$node->stop('fast');
	cmp_ok(time - $begun, '<', 5, sprintf('pg_ctl stop -m fast %s takes %.1f s', $what, time - $begun));
	return;
}

my $load = $kafka->load_start('tx', count => 0, rate => 20000, seed => 5);
wait_query($node, "SELECT ($position_sum) > $sent + 10000", 't');
fast('under load');
$load->signal('TERM');
eval { $load->finish };
$node->start;
wait_caught_up($node, 'pipe', 60);
is(value('SELECT count(*), count(DISTINCT (p, o)) FROM sink'), value("SELECT ($position_sum) || '|' || ($position_sum)"), 'nothing is lost or doubled by it');

$kafka->pause;
my $begun = time;
wait_until(sub { time - $begun > 1.5 });
fast('with a broker that is mute');
$node->start;
wait_query($node, q{SELECT state, reason <> '' FROM streamproc.stat_pipeline}, 'waiting|t');
fast('with a broker that is mute since before the start');
$kafka->resume;
$node->start;
wait_caught_up($node, 'pipe');

$kafka->kill;
wait_query($node, q{SELECT state FROM streamproc.stat_pipeline WHERE reason ~ 'broker unreachable'}, 'waiting');
fast('with a broker that is gone');
$node->start;
wait_query($node, q{SELECT state FROM streamproc.stat_pipeline WHERE reason ~ 'broker unreachable'}, 'waiting');
fast('with a broker that is gone since before the start');
$kafka->start;
$node->start;
wait_caught_up($node, 'pipe');
is(value('SELECT count(*), count(DISTINCT (p, o)) FROM sink'), value("SELECT ($position_sum) || '|' || ($position_sum)"), 'nothing is lost or doubled in the end');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:/, 'no process failed');

done_testing();

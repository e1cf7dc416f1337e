# What passes is tried again, what does not stops the pipeline before the row: nothing is lost, doubled or skipped.
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
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

# A topic "name" with columns id, v, p, o in foreign table "name", and a sink table "name_sink" like it.
my %sent;

sub make_topic
{
	my ($name, $partitions, $sink_columns) = @_;
	$kafka->topic($name, $partitions);
	$sink_columns //= 'id int, v int, p int, o bigint';
	$node->safe_psql('postgres', <<SQL);
CREATE FOREIGN TABLE $name (id int, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic '$name', format 'json');
CREATE TABLE ${name}_sink ($sink_columns);
SQL
	$sent{$name} = 0;
}

# n messages, spread evenly: id counts from 0 over the topic, v is 1, or what the function says
sub send_rows
{
	my ($name, $partitions, $n, $v) = @_;
	my @messages;
	for my $id ($sent{$name} .. $sent{$name} + $n - 1)
	{
		push @messages, { partition => $id % $partitions, value => sprintf('{"id": %d, "v": %s}', $id, $v ? $v->($id) : 1) };
	}
	$kafka->produce($name, @messages);
	$sent{$name} += $n;
}

# The sink holds each message of the topic once; "but" excludes some by a condition.
sub exact
{
	my ($name, $what, $sink) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$sink //= "${name}_sink";
	is(value("SELECT count(*), count(DISTINCT (p, o)), count(DISTINCT id) FROM $sink"), "$sent{$name}|$sent{$name}|$sent{$name}", $what);
}

# The sink holds what the positions say.
my $agrees = q{SELECT bool_and(p.next_offset = coalesce(s.n, 0) AND coalesce(s.m, -1) = p.next_offset - 1) FROM streamproc.position p
	LEFT JOIN (SELECT p, count(*) AS n, max(o) AS m FROM %1$s_sink GROUP BY 1) s ON s.p = p.partition WHERE pipeline = '%1$s'};

# The pipeline stopped before this place, with this SQLSTATE, and everything before it is in the sink.
sub failed_at
{
	my ($name, $partition, $offset, $sqlstate, $reason) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_state($node, $name, 'failed');
	is(value(qq{SELECT topic, partition, "offset", sqlstate FROM streamproc.stat_pipeline WHERE pipeline = '$name'}),
		"$name|$partition|$offset|$sqlstate", "$name: the view shows where it stopped");
	like(value(qq{SELECT reason FROM streamproc.stat_pipeline WHERE pipeline = '$name'}), $reason, "$name: and why");
	like(value(qq{SELECT hint FROM streamproc.stat_pipeline WHERE pipeline = '$name'}), qr/SELECT streamproc\.start_pipeline\('$name'\)/, "$name: and how to go on");
	is(value("SELECT next_offset FROM streamproc.position WHERE pipeline = '$name' AND partition = $partition"), $offset,
		"$name: its position is the place");
	is(value(sprintf($agrees, $name)), 't', "$name: sink and positions agree, everything before it is there");
	sql_fails($node, "SELECT streamproc.wait_until_caught_up('$name', '20 s')", qr/pipeline "$name" failed: /, "$name: waiting for it says so");
}

sub start { $node->safe_psql('postgres', "SELECT streamproc.start_pipeline('$_[0]')") }

# ---- a message that cannot be decoded ----

make_topic('undecodable', 2);
send_rows('undecodable', 2, 5000, sub { $_[0] == 3000 ? '"many"' : 1 });
create_pipeline($node, 'undecodable', 'INSERT INTO undecodable_sink SELECT id, v, p, o FROM undecodable', parallelism => 2, on_error => 'fail');
failed_at('undecodable', 0, 1500, '22P02', qr/foreign table "undecodable".*column "v"|column "v".*foreign table "undecodable"/);
start('undecodable');
failed_at('undecodable', 0, 1500, '22P02', qr/column "v"/);
# mended with a second foreign table over the same topic: positions belong to topics
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE undecodable_text (id int, v text, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'undecodable', format 'json');
SELECT streamproc.alter_pipeline('undecodable', query => $$
	INSERT INTO undecodable_sink SELECT id, CASE WHEN v ~ '^\d+$' THEN v::int END, p, o FROM undecodable_text $$);
SQL
start('undecodable');
send_rows('undecodable', 2, 100);
wait_caught_up($node, 'undecodable');
exact('undecodable', 'another text goes on behind it, nothing lost or doubled');
is(value('SELECT id FROM undecodable_sink WHERE v IS NULL'), '3000', 'with the row that stopped it');

# ---- rows that the sink or the statement refuses, in the middle of batches ----

make_topic('refused', 2, 'id int, v int CHECK (v < 100), p int, o bigint');
send_rows('refused', 2, 6000, sub { $_[0] == 4001 ? 100 : $_[0] == 5001 ? 0 : 1 });
create_pipeline($node, 'refused', 'INSERT INTO refused_sink SELECT id, v, p, o FROM refused', parallelism => 1, on_error => 'fail');
failed_at('refused', 1, 2000, '23514', qr/violates check constraint/);
$node->safe_psql('postgres', 'ALTER TABLE refused_sink DROP CONSTRAINT refused_sink_v_check');
start('refused');
wait_caught_up($node, 'refused');
exact('refused', 'DDL mends a sink, nothing lost or doubled');

make_topic('computed', 1);
send_rows('computed', 1, 3000, sub { $_[0] == 1234 ? 0 : 1 });
create_pipeline($node, 'computed', 'INSERT INTO computed_sink SELECT id, 10 / v, p, o FROM computed', on_error => 'fail');
failed_at('computed', 0, 1234, '22012', qr/division by zero/);
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('computed', query => 'INSERT INTO computed_sink SELECT id, 10 / nullif(v, 0), p, o FROM computed')});
start('computed');
wait_caught_up($node, 'computed');
exact('computed', 'another text mends a computation, nothing lost or doubled');

# A deferred constraint is the row's fault too, in the second of two statements, with upserts before it.
make_topic('deferred', 1);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE known (v int PRIMARY KEY);
INSERT INTO known VALUES (1);
CREATE TABLE deferred_fk (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int REFERENCES known DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE deferred_count (v int PRIMARY KEY, n bigint);
SQL
send_rows('deferred', 1, 3000, sub { $_[0] == 777 ? 2 : 1 });
create_pipeline($node, 'deferred', q{
	INSERT INTO deferred_sink SELECT id, v, p, o FROM deferred;
	INSERT INTO deferred_count SELECT v, 1 FROM deferred ON CONFLICT (v) DO UPDATE SET n = deferred_count.n + 1;
	INSERT INTO deferred_fk SELECT id, v FROM deferred}, on_error => 'fail');
failed_at('deferred', 0, 777, '23503', qr/violates foreign key constraint/);
is(value('SELECT count(*), (SELECT sum(n) FROM deferred_count) FROM deferred_fk'), '777|777', 'the other sinks stand there too');
$node->safe_psql('postgres', 'INSERT INTO known VALUES (2)');
start('deferred');
wait_caught_up($node, 'deferred');
exact('deferred', 'a row that was missing mends it, nothing lost or doubled');
is(value('SELECT count(*), (SELECT sum(n) FROM deferred_count) FROM deferred_fk'), '3000|3000', 'in no sink');

# ---- an error that nobody can blame on a row: it stops where it comes again, and nothing else happens ----

make_topic('bug', 1);
send_rows('bug', 1, 2000);
create_pipeline($node, 'bug', 'INSERT INTO bug_sink SELECT id, v, p, o FROM bug');
wait_caught_up($node, 'bug');
$crash->set_fault('task-after-run=error');
send_rows('bug', 1, 2000);
failed_at('bug', 0, 2000, 'XX000', qr/fault point "task-after-run"/);
$crash->reset_fault;
start('bug');
wait_caught_up($node, 'bug');
exact('bug', 'started again without the bug it goes on, nothing lost or doubled');
# it may also pass by itself
my $errors = $crash->log_hits->{'task-after-run: error'};
$crash->set_fault('task-after-run=error@1-3');
send_rows('bug', 1, 2000);
wait_caught_up($node, 'bug');
is($crash->log_hits->{'task-after-run: error'}, $errors + 3, 'errors came');
$crash->reset_fault;
exact('bug', 'an error that does not come again stops nothing');
# nor does it if it strikes while a message runs alone: that message is to blame only if it comes again
$errors = $crash->log_hits->{'task-careful: error'} // 0;
$crash->set_fault('task-after-run=error@1-1,task-careful=error@1-1');
send_rows('bug', 1, 1);
$crash->wait_hit('task-careful') or fail('no fault');
wait_caught_up($node, 'bug');
is($crash->log_hits->{'task-careful: error'}, $errors + 1, 'an error came to one message alone');
$crash->reset_fault;
exact('bug', 'an error that strikes one message alone and does not come again stops nothing');
# an error while its failure is written down
$crash->set_fault('task-before-run=error,fail-before-record=error@1-1');
send_rows('bug', 1, 10);
$crash->wait_hit('fail-before-record') or fail('no fault');
$crash->set_fault('task-before-run=error,end-before-commit=fatal@1-1');
$crash->wait_hit('end-before-commit') or fail('no fault');
$crash->set_fault('task-before-run=error');
failed_at('bug', 0, 6001, 'XX000', qr/fault point/);
$crash->reset_fault;
start('bug');
wait_caught_up($node, 'bug');
exact('bug', 'trouble while a failure is recorded changes nothing');

# ---- an error right after the commit: what is committed must not be run again, least of all be called a bad row ----

make_topic('after', 1, 'id int PRIMARY KEY, v int, p int, o bigint');
create_pipeline($node, 'after', 'INSERT INTO after_sink SELECT id, v, p, o FROM after');
for my $action (qw(error retry fatal))
{
	wait_state($node, 'after', 'running');
	$crash->set_fault("commit-done=$action\@1-1");
	send_rows('after', 1, 1000);
	$crash->wait_hit('commit-done') or fail('no fault');
	$crash->reset_fault;
	wait_caught_up($node, 'after');
	exact('after', "$action after the commit loses and doubles nothing");
}

# ---- what passes ----

# a deadlock: the task waits for b while it has a; the other session, which has b, asks for a
make_topic('dead', 1);
$node->safe_psql('postgres', 'CREATE TABLE dead_other (id int)');
create_pipeline($node, 'dead', 'INSERT INTO dead_sink SELECT id, v, p, o FROM dead; INSERT INTO dead_other SELECT id FROM dead');
send_rows('dead', 1, 10);
wait_caught_up($node, 'dead');
my $session = $node->background_psql('postgres');
# a process looks for a deadlock once, so long after it began to wait: by then ours must wait, too
$node->safe_psql('postgres', q{ALTER SYSTEM SET deadlock_timeout = '8s'});
$node->reload;
wait_query($node, q{SELECT current_setting('deadlock_timeout')}, '8s');
$session->query_safe(q{SET deadlock_timeout = '1h'});
$session->query_safe('BEGIN; LOCK TABLE dead_other IN ACCESS EXCLUSIVE MODE');
send_rows('dead', 1, 10);
wait_query($node, q{SELECT count(*) FROM pg_locks l JOIN streamproc.stat_worker w USING (pid) WHERE NOT granted AND relation = 'dead_other'::regclass}, '1');
$session->query_safe('LOCK TABLE dead_sink IN ACCESS EXCLUSIVE MODE');
wait_query($node, q{SELECT last_error_sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'dead'}, '40P01');
is(value(q{SELECT retries > 0 FROM streamproc.stat_worker WHERE pipeline = 'dead' AND role = 'task'}), 't', 'a deadlock is tried again');
$session->query_safe('COMMIT');
wait_caught_up($node, 'dead');
exact('dead', 'a deadlock loses and doubles nothing');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET deadlock_timeout');
$node->reload;
is(value('SELECT count(*), count(DISTINCT id) FROM dead_other'), '20|20', 'in no sink');

# a trigger that fails in a way that passes, many times
make_topic('passing', 2);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE trouble (sqlstate text);
INSERT INTO trouble VALUES ('40001');
CREATE FUNCTION have_trouble() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE t text := (SELECT sqlstate FROM trouble);
BEGIN
	IF t IS NOT NULL AND new.id % 700 = 699 THEN RAISE 'trouble' USING ERRCODE = t; END IF;
	RETURN new;
END $$;
CREATE TRIGGER trouble BEFORE INSERT ON passing_sink FOR EACH ROW EXECUTE FUNCTION have_trouble();
SQL
send_rows('passing', 2, 3000);
create_pipeline($node, 'passing', 'INSERT INTO passing_sink SELECT id, v, p, o FROM passing', parallelism => 2, on_error => 'fail');
for my $sqlstate (qw(40001 53100 55006 57014 58030))
{
	$node->safe_psql('postgres', "UPDATE trouble SET sqlstate = '$sqlstate'");
	wait_query($node, q{SELECT state, last_error_sqlstate, reason ~ 'trouble' FROM streamproc.stat_pipeline WHERE pipeline = 'passing'}, "waiting|$sqlstate|t");
	is(value(sprintf($agrees, 'passing')), 't', "$sqlstate waits, sink and positions agree");
}
# stopped in the middle of it: what is not in the sink is not passed over
sql_ok($node, q{SELECT streamproc.stop_pipeline('passing')}, 'it can be stopped while it waits');
sql_ok($node, q{SELECT streamproc.wait_until_stopped('passing', '20 s')}, 'it stops');
is(value(sprintf($agrees, 'passing')), 't', 'sink and positions agree');
start('passing');
wait_query($node, q{SELECT state, reason ~ 'trouble' FROM streamproc.stat_pipeline WHERE pipeline = 'passing'}, 'waiting|t');
$node->safe_psql('postgres', q{UPDATE trouble SET sqlstate = '22023'});
wait_state($node, 'passing', 'failed');
is(value(q{SELECT "offset" * 2 + partition FROM streamproc.stat_pipeline WHERE pipeline = 'passing'}) % 700, 699, 'an error that does not pass stops it at its row');
is(value(sprintf($agrees, 'passing')), 't', 'sink and positions agree');
$node->safe_psql('postgres', q{UPDATE trouble SET sqlstate = '40001'});
start('passing');
wait_query($node, q{SELECT state, reason ~ 'trouble' FROM streamproc.stat_pipeline WHERE pipeline = 'passing'}, 'waiting|t');
# with care, after an error that could have been a row's, and then stopped while another one passes
$crash->set_fault('task-before-run=error@1-1');
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('passing', parallelism => 1)});
$crash->wait_hit('task-before-run') or fail('no fault');
wait_query($node, q{SELECT state, reason ~ 'trouble' FROM streamproc.stat_pipeline WHERE pipeline = 'passing'}, 'waiting|t');
$crash->reset_fault;
$node->safe_psql('postgres', q{SELECT streamproc.stop_pipeline('passing')});
sql_ok($node, q{SELECT streamproc.wait_until_stopped('passing', '20 s')}, 'it stops while it runs with care');
is(value(sprintf($agrees, 'passing')), 't', 'sink and positions agree then, too');
start('passing');
$node->safe_psql('postgres', 'UPDATE trouble SET sqlstate = NULL');
wait_caught_up($node, 'passing');
wait_state($node, 'passing', 'running');
exact('passing', 'it goes on by itself, nothing lost or doubled');

# a lock on the sink, held for some seconds while messages come
make_topic('locked', 2);
create_pipeline($node, 'locked', 'INSERT INTO locked_sink SELECT id, v, p, o FROM locked', parallelism => 2);
send_rows('locked', 2, 10);
wait_caught_up($node, 'locked');
$session->query_safe('BEGIN; LOCK TABLE locked_sink IN ACCESS EXCLUSIVE MODE');
my $locked = time;
send_rows('locked', 2, 1000);
wait_query($node, q{SELECT count(*) FROM streamproc.stat_worker WHERE pipeline = 'locked' AND role = 'task' AND waits_for ~ 'lock'}, '2');
send_rows('locked', 2, 9000);
wait_until(sub { time - $locked > 3 });
is(value(q{SELECT count(*) FROM streamproc.stat_worker WHERE pipeline = 'locked' AND role = 'task' AND waits_for ~ 'lock'}), '2',
	'the view shows that both tasks wait for the lock');
is(value(q{SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'locked'}), '10', 'nothing is committed meanwhile');
sql_fails($node, q{SELECT streamproc.wait_until_caught_up('locked', '0.2 s')}, qr/is not caught up after 200 ms/, 'waiting for it has an end');
$session->query_safe('COMMIT');
wait_caught_up($node, 'locked');
exact('locked', 'a lock loses and doubles nothing');
$session->quit;

# ---- a topic with transactions, some of them aborted, and tasks that are killed ----

make_topic('atomic', 1);
create_pipeline($node, 'atomic', 'INSERT INTO atomic_sink SELECT id, v, p, o FROM atomic');
my $producer = $kafka->transaction('atomic', 'atomic');
for my $i (1 .. 12)
{
	$producer->begin;
	$crash->set_fault('commit-after-position=kill@1-1') if $i == 5;
	my $good = $i % 3;
	$producer->send(map { { partition => 0, value => $good ? sprintf('{"id": %d, "v": 1}', $sent{atomic} + $_) : '{"id": -1}' } } 0 .. 99);
	if ($good)
	{
		$producer->commit;
		$sent{atomic} += 100;
	}
	else { $producer->abort }
	if ($i == 5)
	{
		$crash->wait_hit('commit-after-position') or fail('no fault');
		$crash->reset_fault;
		wait_query($node, 'SELECT 1', '1');
	}
}
wait_caught_up($node, 'atomic');
exact('atomic', 'records of committed transactions, each once, none of aborted ones');
is(value(q{SELECT next_offset FROM streamproc.position WHERE pipeline = 'atomic'}), $kafka->offsets('atomic')->{0}[1],
	'the position stands behind the last control record');

# a commit of the position alone, without a message, that fails: once it is done again, twice the pipeline stops
for my $times (1, 2)
{
	$crash->set_fault("commit-after-position=error\@1-$times");
	$producer->begin;
	$producer->send({ partition => 0, value => '{"id": -1}' });
	$producer->abort;
	$crash->wait_hit('commit-after-position') or fail('no fault');
	wait_query($node, q{SELECT state FROM streamproc.stat_pipeline WHERE pipeline = 'atomic'}, 'failed') if $times == 2;
	$crash->reset_fault;
	value(q{SELECT streamproc.start_pipeline('atomic')}) if $times == 2;
	wait_query($node, q{SELECT next_offset FROM streamproc.position WHERE pipeline = 'atomic'}, $kafka->offsets('atomic')->{0}[1]);
	ok(wait_state($node, 'atomic', 'running'), "an error that struck a commit of the position $times times");
}
$producer->finish;

# ---- a scanner that fails is repeated: a new pipeline starts without another call ----

make_topic('scanned', 1);
send_rows('scanned', 1, 10);
$crash->set_fault('scanner-scan=error');
create_pipeline($node, 'scanned', 'INSERT INTO scanned_sink SELECT id, v, p, o FROM scanned');
$crash->wait_hit('scanner-scan') or fail('no fault');
is(value(q{SELECT count(*) FROM streamproc.stat_worker WHERE pipeline = 'scanned'}), '0', 'a failed scanner starts nothing');
$crash->reset_fault;
wait_state($node, 'scanned', 'running', 20);
wait_caught_up($node, 'scanned');
exact('scanned', 'it is scanned again');

# ---- changes while messages flow ----

make_topic('flow', 3);
$node->safe_psql('postgres', 'CREATE TABLE flow_second (LIKE flow_sink)');
create_pipeline($node, 'flow', 'INSERT INTO flow_sink SELECT id, v, p, o FROM flow', parallelism => 1);
my $query = q{SELECT streamproc.alter_pipeline('flow', query => 'INSERT INTO %s SELECT id, v, p, o FROM flow')};
for my $step (
	q{SELECT streamproc.alter_pipeline('flow', parallelism => 3)},
	sprintf($query, 'flow_second'),
	q{SELECT streamproc.stop_pipeline('flow')},
	q{SELECT streamproc.start_pipeline('flow')},
	q{SELECT streamproc.alter_pipeline('flow', parallelism => 2); SELECT streamproc.stop_pipeline('flow'); SELECT streamproc.start_pipeline('flow')},
	q{BEGIN; SELECT streamproc.stop_pipeline('flow'); ROLLBACK},
	'VACUUM FULL streamproc.task_position',
	sprintf($query, 'flow_sink'),
	'ALTER TABLE flow_sink ADD COLUMN note text',
	'VACUUM FULL flow_sink',
	q{SELECT streamproc.stop_pipeline('flow', drain => true)})
{
	send_rows('flow', 3, 900);
	sql_ok($node, $step, $step);
	send_rows('flow', 3, 300);
}
sql_ok($node, q{SELECT streamproc.wait_until_stopped('flow', '30 s')}, 'it drains');
start('flow');
wait_caught_up($node, 'flow');
exact('flow', 'changes while messages flow lose and double nothing',
	'(SELECT id, p, o FROM flow_sink UNION ALL SELECT id, p, o FROM flow_second) x');
is(value('SELECT count(*) > 0 FROM flow_second'), 't', 'the second text ran');

# ---- commits that are not waited for ----

make_topic('async', 1);
create_pipeline($node, 'async', 'INSERT INTO async_sink SELECT id, v, p, o FROM async', synchronous_commit => 'false');
for (1 .. 3)
{
	send_rows('async', 1, 2000);
	wait_query($node, q{SELECT sum(next_offset) > 0 FROM streamproc.position WHERE pipeline = 'async'}, 't');
	$node->stop('immediate');
	$node->start;
	is(value(sprintf($agrees, 'async')), 't', 'after a crash without synchronous commit sink and position agree');
}
wait_caught_up($node, 'async');
exact('async', 'what was lost by the crash is read again');

done_testing();

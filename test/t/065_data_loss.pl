# A topic that has not what was to be read: records deleted, made anew (shorter, longer, fewer partitions), another cluster,
# another topic, an end that was lost.  Found at the start and while running, refused until accepted, and then exact.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
streamproc.metadata_interval = '300ms'
streamproc.restart_backoff_max = '400ms'
restart_after_crash = on
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub q1 { return $node->safe_psql('postgres', $_[0]) }
sub stat_of { my ($what, $name) = @_; return q1("SELECT $what FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }
sub json { my ($partition, $from, $to, @more) = @_; return map { { partition => $partition, value => qq({"id": $_}), @more } } $from .. $to }
sub interval { my ($value) = @_; q1("ALTER SYSTEM SET streamproc.metadata_interval = '$value'"); q1('SELECT pg_reload_conf()') }
sub positions { return q1("SELECT string_agg(topic || ':' || partition || ':' || next_offset, ' ' ORDER BY topic, partition) FROM streamproc.position WHERE pipeline = '$_[0]'") }
sub losses
{
	my ($name) = @_;
	return q1("SELECT string_agg(concat_ws(' ', topic, partition, from_offset, coalesce(to_offset::text, '-'), reason), ', ' ORDER BY id) FROM streamproc.data_loss WHERE pipeline = '$name'");
}

# A topic with 100 records (ids from 1) in each partition, read and stopped; options of the pipeline
sub simple
{
	my ($name, $partitions, %options) = @_;
	my $running = delete $options{running};
	$kafka->topic($name, $partitions);
	$kafka->produce($name, map { json($_, 1, 100) } 0 .. $partitions - 1);
	q1("CREATE FOREIGN TABLE ${name}_t (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic '$name'); CREATE TABLE $name (id int, p int, o bigint);");
	create_pipeline($node, $name, "INSERT INTO $name SELECT id, p, o FROM ${name}_t", %options);
	wait_caught_up($node, $name);
	stop($name) unless $running;
}

sub stop
{
	my ($name) = @_;
	q1("SELECT streamproc.stop_pipeline('$name')");
	q1("SELECT streamproc.wait_until_stopped('$name', '30 s')");
}
sub start { my ($name) = @_; q1("SELECT streamproc.start_pipeline('$name')") }

sub anew
{
	my ($name, $partitions, @messages) = @_;
	$kafka->delete_topic($name);
	$kafka->topic($name, $partitions);
	$kafka->produce($name, @messages) if @messages;
}

# It fails with this reason, keeps to it when it is started, and has neither read nor moved.
sub refused
{
	my ($name, $reason, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_state($node, $name, 'failed', 60);
	q1("DROP TABLE IF EXISTS ${name}_before; CREATE TABLE ${name}_before AS TABLE $name");
	like(stat_of('reason', $name), $reason, $what);
	my $positions = positions($name);
	my $losses = losses($name);
	start($name);
	wait_state($node, $name, 'failed', 60);
	is(stat_of(qq{reason ~ '.' AND hint = 'To go on at what is left: SELECT streamproc.start_pipeline(''$name'', accept_data_loss => true)'}, $name), 't',
		'  also when it is started as usual, with the command');
	is(q1("SELECT count(*) FROM $name") . ' ' . positions($name) . ' ' . losses($name), q1("SELECT count(*) FROM ${name}_before") . " $positions $losses", '  nothing is read, moved or said to be lost');
}

# Runs the command of the hint as it stands there.
sub accept_loss
{
	my ($name) = @_;
	my ($command) = stat_of('hint', $name) =~ /^To go on at what is left: (SELECT .*)$/ or die 'no command in ' . stat_of('hint', $name);
	q1($command);
}

# The sink is what it was, and the topic (from these offsets).
sub exact
{
	my ($name, $what, $condition) = @_;
	$condition //= 'true';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_caught_up($node, $name, 60);
	is(q1("WITH g AS MATERIALIZED (TABLE $name), e AS MATERIALIZED (TABLE ${name}_before UNION ALL SELECT id, p, o FROM ${name}_t WHERE $condition)
		SELECT (SELECT count(*) FROM (TABLE g EXCEPT ALL TABLE e) x), (SELECT count(*) FROM (TABLE e EXCEPT ALL TABLE g) x)"), '0|0', $what);
}

# ---------------------------------------------------------------- deleted beyond the position
simple('gone', 2, parallelism => 2);
$kafka->produce('gone', json(0, 101, 500), json(1, 101, 500));
$kafka->delete_records('gone', 0, 500);
$kafka->delete_records('gone', 1, 300);
start('gone');
refused('gone', qr/^offsets 100 to 499 of topic "gone" partition 0 are gone: 400 records at most$/, 'deleted records: the gap and its size');
is(stat_of('sqlstate, topic, partition, "offset"', 'gone'), '58030|gone|0|100', 'its place');
is(stat_of('detail', 'gone'), q{They were deleted before they were read, by retention or DeleteRecords. 1 other partition is concerned, 600 records at most in all. With on_data_loss => 'earliest' the pipeline goes on by itself.},
	'cause, other partitions and the option');
accept_loss('gone');
exact('gone', 'accepted: what was read, and what is left', 'o >= CASE p WHEN 0 THEN 500 ELSE 300 END');
is(losses('gone'), 'gone 0 100 500 records deleted, gone 1 100 300 records deleted', 'a row for each gap');
is(q1("SELECT bool_and(cluster_id = (SELECT min(cluster_id) FROM streamproc.position)), bool_and(at <= now()) FROM streamproc.data_loss WHERE pipeline = 'gone'"), 't|t', 'with cluster and time');
like(slurp_file($node->logfile), qr/LOG:  pipeline "gone" goes on at what is left: offsets 100 to 499.*\n.*DETAIL:  The view streamproc.data_loss has 2 rows more/, 'and a line in the log');
# once is once
$kafka->produce('gone', json(0, 501, 510));
exact('gone', 'it goes on', 'o >= CASE p WHEN 0 THEN 500 ELSE 300 END');
stop('gone');
$kafka->produce('gone', json(0, 511, 520));
$kafka->delete_records('gone', 0, 511);
start('gone');
refused('gone', qr/^offset 510 of topic "gone" partition 0 is gone: 1 record at most$/, 'accepted once is not accepted twice');
q1("SELECT streamproc.alter_pipeline('gone', on_data_loss => 'earliest'); SELECT streamproc.start_pipeline('gone')");
exact('gone', "on_data_loss => 'earliest': it goes on by itself", 'p = 0 AND o >= 511');
# accepted, and nothing was lost: that is over, too
stop('gone');
q1("SELECT streamproc.alter_pipeline('gone', on_data_loss => 'fail'); SELECT streamproc.start_pipeline('gone', accept_data_loss => true)");
wait_caught_up($node, 'gone');
is(q1("SELECT accept_data_loss FROM streamproc.pipeline WHERE name = 'gone'"), 'f', 'a start without a loss uses up the acceptance');

# while the task is about to read, and another one that is not asked for
interval('1h');
simple('going', 1, on_data_loss => 'fail');
$kafka->produce('going', json(0, 101, 200));
$crash->set_fault('task-loaded=wait');
start('going');
$crash->wait_hit('task-loaded') or die 'no task';
$kafka->delete_records('going', 0, 150);
$crash->reset_fault;
refused('going', qr/^offsets 100 to 149 of topic "going" partition 0 are gone: 50 records at most$/, 'deleted while running');
accept_loss('going');
exact('going', 'accepted', 'o >= 150');
is(losses('going'), 'going 0 100 150 records deleted', 'the gap is written down');
stop('going');
$kafka->produce('going', json(0, 201, 300));
q1("SELECT streamproc.alter_pipeline('going', on_data_loss => 'earliest'); DROP TABLE going_before; CREATE TABLE going_before AS TABLE going");
$crash->set_fault('task-loaded=wait');
start('going');
$crash->wait_hit('task-loaded') or die 'no task';
$kafka->delete_records('going', 0, 250);
$crash->reset_fault;
exact('going', "on_data_loss => 'earliest' while running", 'o >= 250');
is(losses('going'), 'going 0 100 150 records deleted, going 0 200 250 records deleted', 'with its row');
interval('300ms');

# ---------------------------------------------------------------- made anew, shorter
simple('short', 2, parallelism => 2);
anew('short', 2, json(0, 1001, 1010));
start('short');
refused('short', qr/^topic "short" was made anew, or has lost its end: partition 0 now has offsets 0 to 9, the saved position is 100, a gap of 90$/, 'a shorter topic, at the start');
accept_loss('short');
exact('short', 'accepted: it is read from its beginning');
is(losses('short'), 'short 0 100 0 topic made anew, short 1 100 0 topic made anew', 'a row for each partition');
$kafka->produce('short', json(0, 1011, 1020), json(1, 1021, 1030));
exact('short', 'and on');
# while running
q1('CREATE TABLE IF NOT EXISTS short_before (LIKE short)');
wait_state($node, 'short', 'running');
$kafka->delete_topic('short');
wait_query($node, q{SELECT state || ' ' || reason FROM streamproc.stat_pipeline WHERE pipeline = 'short'}, 'waiting topic "short" does not exist', 30);
pass('a deleted topic is waited for');
$kafka->topic('short', 2);
$kafka->produce('short', json(0, 2001, 2003));
refused('short', qr/^topic "short" was made anew, or has lost its end: partition 0 (is empty now|now has offsets 0 to \d), the saved position is 20, a gap of \d+$/, 'a shorter topic, while running');
accept_loss('short');
exact('short', 'accepted');

# ---------------------------------------------------------------- made anew, longer
simple('long', 2, parallelism => 2);
anew('long', 2, json(0, 1001, 1500), json(1, 1501, 1550));
start('long');
refused('long', qr/^topic "long" was made anew: partition 0 now has offsets 0 to 499, the saved position is 100$/, 'a longer topic, at the start');
like(stat_of('detail', 'long'), qr/^The record at offset 99 was of 20\d\d-.*, there is one of 20\d\d-.* now\. .* 1 other partition is concerned\. /, 'what is different');
accept_loss('long');
exact('long', 'accepted: it is read from its beginning');
is(losses('long'), 'long 0 100 0 topic made anew, long 1 100 0 topic made anew', 'a row for each partition');
is(q1("SELECT count(*) FROM streamproc.topic_mark, unnest(record_offsets) o WHERE pipeline = 'long' AND o NOT IN (499, 49)"), 0, 'no mark of the old topic is left');
# found by its contents where the time is the same
simple('alike', 1, on_data_loss => 'fail');
q1("SELECT streamproc.drop_pipeline('alike'); TRUNCATE alike");
anew('alike', 1, json(0, 1, 100, timestamp => 1767225600000));
create_pipeline($node, 'alike', 'INSERT INTO alike SELECT id, p, o FROM alike_t');
wait_caught_up($node, 'alike');
stop('alike');
anew('alike', 1, json(0, 1, 100, timestamp => 1767225600000));
start('alike');
wait_caught_up($node, 'alike');
is(q1('SELECT count(*) FROM alike'), 100, 'a topic with the same records is the same');
stop('alike');
anew('alike', 1, json(0, 2, 201, timestamp => 1767225600000));
start('alike');
refused('alike', qr/^topic "alike" was made anew: partition 0 now has offsets 0 to 199/, 'a longer topic with the same timestamps');
like(stat_of('detail', 'alike'), qr/^The record at offset 99 has another key or value/, 'by its contents');
accept_loss('alike');
exact('alike', 'accepted');
# behind the marker of a transaction
simple('marker', 1);
my $t = $kafka->transaction('marker', 'marker');
$t->begin; $t->send(json(0, 101, 110)); $t->commit;
start('marker');
wait_caught_up($node, 'marker');
is(positions('marker'), 'marker:0:111', 'the position is behind the marker of a transaction');
stop('marker');
start('marker');
wait_caught_up($node, 'marker');
stop('marker');
$t->finish;
anew('marker', 1, json(0, 1001, 1200));
start('marker');
refused('marker', qr/^topic "marker" was made anew: partition 0 now has offsets 0 to 199, the saved position is 111$/, 'a longer topic, where the record is not right before the position');
accept_loss('marker');
exact('marker', 'accepted');

# while running: the task has read in the new topic before anybody could know
for my $how ('look', 'kill')
{
	my $name = "silent_$how";
	simple($name, 1);
	interval('1h');
	$crash->set_fault('task-loaded=wait');
	start($name);
	$crash->wait_hit('task-loaded') or die 'no task';
	anew($name, 1, json(0, 1001, 1500));
	# a look comes with the next launcher
	interval('300ms') if $how eq 'look';
	$crash->reset_fault;
	if ($how eq 'kill')
	{
		wait_query($node, "SELECT max(o) FROM $name", 499);
		is(stat_of('state', $name), 'running', 'a longer topic is read silently where nobody looks');
		interval('300ms');
		kill9($crash->launcher($name));
	}
	else
	{
		wait_query($node, "SELECT max(o) FROM $name", 499);
		q1("SELECT pg_terminate_backend(" . $crash->launcher($name) . ")");
	}
	refused($name, qr/^topic "$name" was made anew: partition 0 now has offsets 0 to 499, the saved position is 500$/, "a longer topic that was read in: $how");
	is(q1("SELECT count(*) FILTER (WHERE id > 1000), count(*) FROM $name"), '400|500', 'what was read of it stays');
	accept_loss($name);
	exact($name, 'accepted: the new topic is read from its beginning');
	is(losses($name), "$name 0 500 0 topic made anew", 'with its row');
}
# by a look of the running launcher: the marks are older than what was read
simple('look', 1);
interval('3s');
start('look');
wait_state($node, 'look', 'running');
$crash->set_fault('task-loaded=wait');
q1("SELECT pg_terminate_backend(" . (worker_pids($node, pipeline => 'look', role => 'task'))[0] . ")");
$crash->wait_hit('task-loaded') or die 'no task';
anew('look', 1, json(0, 1001, 1500));
$crash->reset_fault;
refused('look', qr/^topic "look" was made anew.*: partition 0 now has offsets 0 to \d+, the saved position is \d+$/, 'a longer topic, while running');
accept_loss('look');
exact('look', 'accepted');
interval('300ms');
# before the first look: the first records are marked at once
interval('1h');
simple('early', 1, running => 1);
wait_query($node, "SELECT record_offsets FROM streamproc.topic_mark WHERE pipeline = 'early'", '{99}');
pass('the first records of a pipeline are marked at once');
interval('300ms');
stop('early');

# ---------------------------------------------------------------- made anew with fewer partitions
simple('fewer', 3, parallelism => 3);
interval('2s');
anew('fewer', 1, json(0, 1001, 1020));
start('fewer');
wait_query($node, q{SELECT state || ' ' || reason FROM streamproc.stat_pipeline WHERE pipeline = 'fewer'}, 'waiting topic "fewer" has 1 partitions, the saved positions have 3', 30);
pass('fewer partitions are waited for, as a broker may not know yet');
refused('fewer', qr/^topic "fewer" was made anew, or has lost its end: partition 0 now has offsets 0 to 19, the saved position is 100, a gap of 80$/, 'then the topic was made anew');
like(stat_of('detail', 'fewer'), qr/ 2 other partitions are concerned\. /, 'with all its partitions');
accept_loss('fewer');
exact('fewer', 'accepted');
is(losses('fewer'), 'fewer 0 100 0 topic made anew, fewer 1 100 - topic made anew, fewer 2 100 - topic made anew', 'partitions that are not there are not read any more');
is(positions('fewer'), 'fewer:0:20', 'and have no positions');
interval('300ms');
# while running
$kafka->delete_topic('fewer');
$kafka->topic('fewer', 3);
wait_state($node, 'fewer', 'failed', 60);
accept_loss('fewer');
wait_caught_up($node, 'fewer');
is(positions('fewer'), 'fewer:0:0 fewer:1:0 fewer:2:0', 'and with more partitions while running, empty');
$kafka->produce('fewer', json(2, 1, 5));
wait_caught_up($node, 'fewer');
is(q1('SELECT count(*) FROM fewer WHERE p = 2 AND o < 5'), 5 + 5, 'the new ones are read');

# ---------------------------------------------------------------- an end that was lost
simple('ending', 2, parallelism => 2);
$kafka->stop;
system('rm', '-f', glob($kafka->dir . '/data/ending-1/*.log'), glob($kafka->dir . '/data/ending-1/*index'), glob($kafka->dir . '/data/ending-1/*.snapshot'));
$kafka->start;
$kafka->produce('ending', json(0, 101, 105));
start('ending');
refused('ending', qr/^the end of topic "ending" partition 1 is lost: it ends before offset 0, the saved position is 100, a gap of 100$/, 'a partition that lost its end');
like(stat_of('detail', 'ending'), qr/^Other partitions still hold the records that were read\. It would go on at its end as that is then\. With/, 'by what is known');
accept_loss('ending');
wait_caught_up($node, 'ending', 60);
$kafka->produce('ending', json(1, 1001, 1010));
exact('ending', 'accepted: the other partition goes on where it was', 'p = 1 OR o >= 100');
is(losses('ending'), 'ending 1 100 0 end of partition lost', 'one row');

# ---------------------------------------------------------------- a run with an end
simple('run', 1, running => 1, stop => 'latest');
q1("SELECT streamproc.wait_until_stopped('run', '30 s')");
anew('run', 1, json(0, 1001, 1030));
start('run');
refused('run', qr/^topic "run" was made anew, or has lost its end/, 'a run with an end');
accept_loss('run');
q1("SELECT streamproc.wait_until_stopped('run', '30 s')");
is(stat_of('state, reason', 'run'), 'stopped|finished', 'accepted, it has the end of the new topic');
is(q1('SELECT count(*), max(id) FROM run'), '130|1030', 'and its rows');

# ---------------------------------------------------------------- another topic by the option
simple('option', 2, running => 1);
$kafka->topic('option2', 1);
$kafka->produce('option2', json(0, 1001, 1020));
q1("ALTER FOREIGN TABLE option_t OPTIONS (SET topic 'option2')");
refused('option', qr/^topic "option" is not read any more: the option topic of its foreign table was changed$/, 'another topic by ALTER FOREIGN TABLE');
is(stat_of('sqlstate', 'option'), '55000', 'sqlstate');
# back: it goes on as if nothing had been
$kafka->produce('option', json(0, 101, 110));
q1("ALTER FOREIGN TABLE option_t OPTIONS (SET topic 'option')");
start('option');
exact('option', 'set back it goes on', 'p = 0 AND o >= 100');
q1("ALTER FOREIGN TABLE option_t OPTIONS (SET topic 'option2')");
refused('option', qr/option topic of its foreign table was changed/, 'and again');
accept_loss('option');
exact('option', 'accepted: the other topic from its beginning');
is(losses('option'), 'option 0 110 - topic changed, option 1 100 - topic changed', 'a row for each position that is given up');
is(positions('option'), 'option2:0:20', 'which are gone');
# from "start", where that says something about it
simple('latest', 1, running => 1, start => 'latest');
wait_caught_up($node, 'latest');
q1("ALTER FOREIGN TABLE latest_t OPTIONS (SET topic 'option2')");
refused('latest', qr/option topic/, "with start => 'latest'");
accept_loss('latest');
wait_caught_up($node, 'latest');
is(positions('latest'), 'option2:0:20', 'the other topic is read from there');
q1("SELECT streamproc.drop_pipeline('latest')");
is(q1("SELECT count(*) FROM streamproc.stored_data_loss WHERE pipeline = 'latest'") . q1("SELECT count(*) FROM streamproc.topic_mark WHERE pipeline = 'latest'"), '00', 'drop_pipeline leaves no rows of losses and marks');
# another query is the owner's word
q1("CREATE FOREIGN TABLE option_old (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'option')");
q1("DROP TABLE option_before; CREATE TABLE option_before AS TABLE option");
q1("SELECT streamproc.alter_pipeline('option', query => 'INSERT INTO option SELECT id, p, o FROM option_old')");
wait_caught_up($node, 'option');
is(stat_of('state', 'option') . ' ' . positions('option'), 'running option:0:110 option:1:100', 'alter_pipeline with a query over another topic goes on by itself');
is(q1('SELECT (SELECT count(*) FROM option) - (SELECT count(*) FROM option_before)'), 210, 'from its start');
is(losses('option'), 'option 0 110 - topic changed, option 1 100 - topic changed, option2 0 20 - query changed', 'and a row says where the other one was left');

# ---------------------------------------------------------------- kill -9 between deciding and going on
for my $point (qw(launcher-before-settle launcher-in-settle launcher-settled launcher-started))
{
	my $name = $point =~ s/launcher-/crash_/r =~ s/-/_/gr;
	simple($name, 2, parallelism => 2);
	$kafka->produce($name, json(0, 101, 200), json(1, 101, 200));
	$kafka->delete_records($name, 0, 150);
	start($name);
	wait_state($node, $name, 'failed', 60);
	q1("CREATE TABLE ${name}_before AS TABLE $name");
	$crash->set_fault("$point=wait");
	accept_loss($name);
	my $pid = $crash->wait_hit($point) or die "nobody at $point";
	is(losses($name), $point =~ /started|settled/ ? "$name 0 100 150 records deleted" : '', "$point: a row is there when the positions have moved, not before");
	crash_worker($pid);
	$crash->reset_fault;
	wait_query($node, 'SELECT 1', 1);
	exact($name, "$point: kill -9 loses and doubles nothing", 'p = 1 AND o >= 100 OR p = 0 AND o >= 150');
	is(losses($name), "$name 0 100 150 records deleted", "$point: one row");
	is(q1("SELECT accept_data_loss FROM streamproc.pipeline WHERE name = '$name'"), 'f', "$point: the acceptance is used up");
	q1("SELECT streamproc.drop_pipeline('$name')");
}
# failing is recorded once, too
simple('crash_fail', 1);
$kafka->produce('crash_fail', json(0, 101, 200));
$kafka->delete_records('crash_fail', 0, 150);
$crash->set_fault('fail-before-record=wait');
start('crash_fail');
my $failing = $crash->wait_hit('fail-before-record') or die 'it does not fail';
crash_worker($failing);
$crash->reset_fault;
wait_query($node, 'SELECT 1', 1);
refused('crash_fail', qr/^offsets 100 to 149/, 'kill -9 of a launcher that is about to fail it');

# ---------------------------------------------------------------- refused what the launcher finds right
# The topic is short when the task asks, and whole again when the launcher looks, three times.
simple('thrice', 1, on_data_loss => 'fail');
q1("SELECT streamproc.drop_pipeline('thrice'); TRUNCATE thrice");
my @same = json(0, 1, 100, timestamp => 1767225600000);
anew('thrice', 1, @same);
create_pipeline($node, 'thrice', 'INSERT INTO thrice SELECT id, p, o FROM thrice_t');
wait_caught_up($node, 'thrice');
stop('thrice');
interval('1h');
$crash->set_fault('task-loaded=wait');
start('thrice');
for my $round (1 .. 3)
{
	$crash->wait_hit('task-loaded') or die 'no task';
	anew('thrice', 1, @same[ 0 .. 9 ]);
	$crash->set_fault($round < 3 ? 'launcher-start=wait' : '');
	last if $round == 3;
	$crash->wait_hit('launcher-start') or die 'no launcher';
	is(stat_of('last_error', 'thrice'), 'offset 100 is not in the topic: deleted by retention, or the topic was made anew', "an offset is refused, round $round: a launcher looks");
	$kafka->produce('thrice', @same[ 10 .. 99 ]);
	$crash->set_fault('task-loaded=wait');
}
wait_state($node, 'thrice', 'failed', 30);
is(stat_of('reason, topic, partition, "offset"', 'thrice'), 'offset 100 is not in the topic: deleted by retention, or the topic was made anew|thrice|0|100', 'the third time in a row it fails with what the broker says');
$kafka->produce('thrice', @same[ 10 .. 99 ], json(0, 101, 110));
start('thrice');
wait_caught_up($node, 'thrice');
is(q1('SELECT count(*), count(DISTINCT o) FROM thrice'), '110|110', 'and goes on when it is mended');
interval('300ms');

# ---------------------------------------------------------------- who sees it
q1("CREATE ROLE stranger; CREATE ROLE watcher; GRANT pg_read_all_stats TO watcher");
is(q1("SET ROLE stranger; SELECT count(*) FROM streamproc.data_loss"), 0, 'losses of others are not shown');
is(q1("SET ROLE watcher; SELECT count(*) > 0 FROM streamproc.data_loss"), 't', 'but to pg_read_all_stats');
sql_fails($node, 'SET ROLE stranger; SELECT * FROM streamproc.stored_data_loss', qr/permission denied/, 'nor the table');
sql_fails($node, 'SET ROLE stranger; SELECT * FROM streamproc.topic_mark', qr/permission denied/, 'nor the marks');
# an owner without any rights on these tables
q1(<<'SQL');
CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner;
GRANT EXECUTE ON FUNCTION streamproc.create_pipeline, streamproc.start_pipeline(text, boolean, boolean), streamproc.drop_pipeline, streamproc.stop_pipeline, streamproc.wait_until_stopped, streamproc.wait_until_caught_up TO owner;
SQL
$kafka->topic('owned', 1);
$kafka->produce('owned', json(0, 1, 100));
q1(<<'SQL');
SET SESSION AUTHORIZATION owner;
CREATE FOREIGN TABLE owned_t (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'owned');
CREATE TABLE owned (id int, p int, o bigint);
SELECT streamproc.create_pipeline('owned', 'INSERT INTO owned SELECT id, p, o FROM owned_t');
SQL
wait_caught_up($node, 'owned');
stop('owned');
anew('owned', 1, json(0, 1001, 1200));
start('owned');
refused('owned', qr/^topic "owned" was made anew/, 'a pipeline of an ordinary role');
q1('SET SESSION AUTHORIZATION owner; ' . (stat_of('hint', 'owned') =~ /: (SELECT .*)/)[0]);
exact('owned', 'accepted by its owner');
is(q1('SET SESSION AUTHORIZATION owner; SELECT from_offset, to_offset, reason FROM streamproc.data_loss'), '100|0|topic made anew', 'who sees his row');
# what an update makes of positions of 1.0
q1('CREATE DATABASE updated');
is($node->safe_psql('updated', <<'SQL'), '{-1,41,-1}|{0,0,0}', 'an update takes the records of saved positions over');
CREATE EXTENSION streamproc VERSION '1.0';
INSERT INTO streamproc.task_position VALUES ('p', 0, 1, 1, 'c', '{a,a,b}', '{0,1,0}', '{7,42,0}', '{-1,-1,-1}', '{-infinity,-infinity,-infinity}', '{-infinity,2026-01-01,-infinity}', now());
ALTER EXTENSION streamproc UPDATE;
SELECT record_offsets, record_sums FROM streamproc.task_position;
SQL
sql_fails($node, "SELECT streamproc.alter_pipeline('gone', on_data_loss => 'latest')", qr/invalid value for "on_data_loss": "latest".*Use earliest or fail/s, 'a bad value of the option');

# ---------------------------------------------------------------- another cluster
q1("SELECT streamproc.stop_pipeline(pipeline) FROM streamproc.stat_pipeline WHERE state = 'running'");
simple('cluster', 2, running => 1);
my $address = $kafka->address;
q1("ALTER SERVER kafka OPTIONS (SET brokers '$address,$address')");
$kafka->produce('cluster', json(0, 101, 110));
q1('CREATE TABLE cluster_before (LIKE cluster)');
exact('cluster', 'other addresses of the same cluster: it goes on');
my $second = Streamproc::Kafka->new;
$second->topic('cluster', 2);
$second->produce('cluster', json(0, 2001, 2300), json(1, 2301, 2305));
q1("ALTER SERVER kafka OPTIONS (SET brokers '" . $second->address . "')");
refused('cluster', qr/^the brokers belong to another Kafka cluster$/, 'another cluster by ALTER SERVER');
my $ids = q1("SELECT min(cluster_id) FROM streamproc.position WHERE pipeline = 'cluster'");
like(stat_of('detail', 'cluster'), qr/^The saved positions belong to cluster \Q$ids\E, the brokers answer as cluster \S+\. .* 1 other partition is concerned\. /, 'both are named');
q1("ALTER SERVER kafka OPTIONS (SET brokers '$address')");
start('cluster');
wait_caught_up($node, 'cluster');
is(q1('SELECT count(*) FROM cluster'), 210, 'with the right one again it goes on');
q1("ALTER SERVER kafka OPTIONS (SET brokers '" . $second->address . "')");
refused('cluster', qr/another Kafka cluster/, 'the other one again');
accept_loss('cluster');
exact('cluster', 'accepted: its topic is read from the beginning');
is(losses('cluster'), 'cluster 0 110 0 other cluster, cluster 1 100 0 other cluster', 'rows');
is(q1("SELECT count(DISTINCT cluster_id) FROM (SELECT cluster_id FROM streamproc.position WHERE pipeline = 'cluster' UNION ALL SELECT cluster_id FROM streamproc.data_loss WHERE pipeline = 'cluster' UNION ALL SELECT '$ids') x"), 2,
	'with the new cluster, as the positions');
# behind the same address, while running
my $third = Streamproc::Kafka->new(start => 0);
my $port = $second->port;
$second->stop;
$third->_broker('start', $port);
$third->{address} = $second->address;
$third->topic('cluster', 2);
$third->produce('cluster', json(0, 3001, 3600), json(1, 3601, 3602));
refused('cluster', qr/^the brokers belong to another Kafka cluster$/, 'another cluster behind the same address, while running');
accept_loss('cluster');
exact('cluster', 'accepted');

$node->stop('fast');
done_testing();

# Copies of a database with pipelines: dump and restore, CREATE DATABASE ... TEMPLATE, a standby and its promotion.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', init => [ allows_streaming => 1 ], conf => "streamproc.restart_backoff_max = '1s'\n");
create_kafka_server($node, $kafka);
sub q1 { my ($query, $db, $n) = @_; return ($n // $node)->safe_psql($db // 'postgres', $query) }
sub error_of { my ($query, $db, $n) = @_; my $err; ($n // $node)->psql($db // 'postgres', $query, stderr => \$err); return $err }
sub json { my ($from, $to) = @_; return map { { partition => $_ % 2, value => qq({"id": $_}) } } $from .. $to }

$kafka->topic('tx', 2);
$kafka->produce('tx', json(1, 100));
q1(<<'SQL');
CREATE FOREIGN TABLE tx (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx');
CREATE TABLE sink (id int, p int, o bigint);
CREATE TABLE total (p int PRIMARY KEY, n int);
SQL
create_pipeline($node, 'Pipe "1"', 'INSERT INTO sink SELECT * FROM tx; INSERT INTO total SELECT p, 1 FROM tx ON CONFLICT (p) DO UPDATE SET n = total.n + 1', parallelism => 2);
q1(q{SELECT streamproc.create_pipeline('off', 'INSERT INTO sink SELECT -id, p, o FROM tx', active => false)});
wait_caught_up($node, 'Pipe "1"');

# ---------------------------------------------------------------- dump and restore, while it runs
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$kafka->produce('tx', json(101, 150));
wait_caught_up($node, 'Pipe "1"');
q1('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
is(q1('SELECT count(*) FROM sink', 'restored'), 100, 'the results of the dump');
is(q1(q{SELECT pipeline, state FROM streamproc.stat_pipeline ORDER BY 1}, 'restored'), "Pipe \"1\"|restored\noff|restored", 'restored pipelines are shown as such')
  or diag(q1('SELECT * FROM streamproc.stat_pipeline', 'restored'));
is(q1(q{SELECT hint FROM streamproc.stat_pipeline WHERE pipeline = 'Pipe "1"'}, 'restored'), q{SELECT streamproc.start_pipeline('Pipe "1"', adopt => true)}, 'with the command that goes on');
is(q1(q{SELECT count(*) FROM streamproc.stat_worker}, 'restored'), 0, 'and do not run');
is(q1(q{SELECT sum(next_offset) FROM streamproc.position}, 'restored'), 100, 'with the positions of the dump');
like(error_of(q{SELECT streamproc.start_pipeline('Pipe "1"')}, 'restored'), qr/restored or copied here.*adopt => true/s, 'not by an ordinary start');
q1(q{SELECT streamproc.start_pipeline('Pipe "1"', adopt => true)}, 'restored');
q1(q{SELECT streamproc.wait_until_caught_up('Pipe "1"')}, 'restored');
is(q1('SELECT count(*), count(DISTINCT (p, o)), max(id) FROM sink', 'restored'), '150|150|150', 'adopted, it goes on where the dump was');
is(q1('SELECT sum(n) FROM total', 'restored'), 150, 'each row once');
is(q1(q{SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace ORDER BY proname}, 'restored'),
	q1(q{SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace ORDER BY proname}), 'the same texts');
$kafka->produce('tx', json(151, 160));
wait_caught_up($node, 'Pipe "1"');
q1(q{SELECT streamproc.wait_until_caught_up('Pipe "1"')}, 'restored');
is(q1('SELECT count(*) FROM sink') . '|' . q1('SELECT count(*) FROM sink', 'restored'), '160|160', 'both run, each for itself');
q1('DROP DATABASE restored');

# ---------------------------------------------------------------- a copy by TEMPLATE
q1(q{SELECT streamproc.stop_pipeline('Pipe "1"')});
q1(q{SELECT streamproc.wait_until_stopped('Pipe "1"', '20 s')});
q1('CREATE DATABASE copy TEMPLATE postgres', 'template1');
is(q1(q{SELECT DISTINCT state FROM streamproc.stat_pipeline}, 'copy'), 'restored', 'a copy of the database');
q1(q{SELECT streamproc.start_pipeline('Pipe "1"')});

# ---------------------------------------------------------------- a standby
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$kafka->produce('tx', json(161, 200));
wait_caught_up($node, 'Pipe "1"');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(q1('SELECT count(*) FROM sink', 'postgres', $standby), 200, 'a standby has the results');
is(q1(q{SELECT sum(next_offset) FROM streamproc.position WHERE pipeline <> 'off'}, 'postgres', $standby), 200, 'and the positions, in one snapshot');
is(q1(q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'streamproc %of%'}, 'postgres', $standby), 0, 'it runs no pipelines');
is(q1(q{SELECT state, reason FROM streamproc.stat_pipeline WHERE pipeline <> 'off'}, 'postgres', $standby), 'waiting|the server is a standby', 'and says so');
is(q1("SELECT count(*) FROM streamproc.$_", 'postgres', $standby), $_ eq 'stat_pipeline' ? 2 : $_ eq 'position' ? 2 : 0, "the view $_ works on a standby") for qw(stat_pipeline stat_worker stat_partition stat_checkpoint position data_loss dead_letter);
is(q1(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'streamproc%'}, 'postgres', $standby), 0, 'no process of streamproc is there');
like(error_of(q{SELECT streamproc.stop_pipeline('Pipe "1"')}, 'postgres', $standby), qr/read-only|during recovery/, 'nor changes them');
$node->stop('immediate');
$kafka->produce('tx', json(201, 250));
$standby->promote;
wait_caught_up($standby, 'Pipe "1"', 60);
is(q1('SELECT count(*), count(DISTINCT (p, o)), max(id) FROM sink', 'postgres', $standby), '250|250|250', 'promoted, it goes on, each row once');
is(q1('SELECT sum(n) FROM total', 'postgres', $standby), 250, 'in all sinks');
is(q1(q{SELECT state FROM streamproc.stat_pipeline WHERE pipeline = 'off'}, 'postgres', $standby), 'stopped', 'what was off stays off');
$standby->stop('fast');
done_testing();

# What happens around a running pipeline: topics and brokers that come and go, new partitions, missing worker slots,
# failing neighbours, DDL of all it uses, databases, settings.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
streamproc.metadata_interval = '200ms'
streamproc.restart_backoff_max = '1s'
streamproc.stop_timeout = '3s'
CONF
create_kafka_server($node, $kafka);

sub psql_err
{
	my ($query, $db) = @_;
	my ($out, $err);
	$node->psql($db // 'postgres', $query, stdout => \$out, stderr => \$err);
	return $err;
}
sub q1 { return $node->safe_psql('postgres', $_[0]) }
sub stat_of { my ($what, $name) = @_; return q1("SELECT $what FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }
sub json { my ($partition, $from, $to) = @_; return map { { partition => $partition, value => qq({"id": $_}) } } $from .. $to }
sub same
{
	my ($sink, $batch, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(q1("WITH g AS ($sink), e AS ($batch) SELECT (SELECT count(*) FROM (TABLE g EXCEPT ALL TABLE e) x), (SELECT count(*) FROM (TABLE e EXCEPT ALL TABLE g) x)"),
		'0|0', $name);
}
# a table, a foreign table and a pipeline over a topic
sub simple
{
	my ($name, $partitions, %options) = @_;
	my $columns = delete $options{columns} // 'id int, p int OPTIONS (kafka \'partition\'), o bigint OPTIONS (kafka \'offset\')';
	my $more = delete $options{options} // '';
	$kafka->topic($name, $partitions) if $partitions;
	q1("CREATE FOREIGN TABLE ${name}_t ($columns) SERVER kafka OPTIONS (topic '$name'$more); CREATE TABLE $name (id int);");
	create_pipeline($node, $name, "INSERT INTO $name SELECT id FROM ${name}_t", %options);
}

my $begun;
# Prints how long it took beside what it should take.  What fails is only a hang: a loaded machine is no bug.
sub in_time
{
	my ($goal, $name) = @_;
	my $took = time - $begun;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	diag(sprintf '%s: %.1f s, should be %d s', $name, $took, $goal) if $took > $goal;
	cmp_ok($took, '<', 10 * $goal, $name);
}

# ---------------------------------------------------------------- a topic that is not there
q1("CREATE FOREIGN TABLE late_t (id int) SERVER kafka OPTIONS (topic 'late'); CREATE TABLE late (id int)");
$begun = time;
like(psql_err("SELECT streamproc.create_pipeline('late', 'INSERT INTO late SELECT id FROM late_t')"),
	qr/NOTICE:  topic "late" does not exist yet/, 'a missing topic is a NOTICE');
$begun = time;
wait_state($node, 'late', 'waiting', 10);
in_time(2, 'and shown as waiting');
like(stat_of('reason', 'late'), qr/topic "late" does not exist/, 'with the reason');
$kafka->topic('late', 2);
$kafka->produce('late', json(0, 1, 10), json(1, 11, 20));
wait_caught_up($node, 'late');
is(q1('SELECT count(*), sum(id) FROM late'), '20|210', 'it goes on by itself');
is(stat_of('state, reason', 'late'), 'running|', 'and is running');

# ---------------------------------------------------------------- a broker that is not there
my $second = Streamproc::Kafka->new;
create_kafka_server($node, $second, 'second');
$second->topic('far', 1);
$second->produce('far', json(0, 1, 5));
$second->kill;
q1("CREATE FOREIGN TABLE far_t (id int) SERVER second OPTIONS (topic 'far'); CREATE TABLE far (id int)");
$begun = time;
like(psql_err("SELECT streamproc.create_pipeline('far', 'INSERT INTO far SELECT id FROM far_t')"),
	qr/NOTICE:  the broker cannot be reached now/, 'an unreachable broker is a NOTICE');
in_time(5, 'in a short time');
$begun = time;
wait_state($node, 'far', 'waiting', 10);
in_time(2, 'and shown as waiting');
like(stat_of('reason', 'far'), qr/broker|refused|unreachable/i, 'with the reason') or diag(stat_of('reason', 'far'));
$second->start;
wait_caught_up($node, 'far', 60);
is(q1('SELECT count(*) FROM far'), 5, 'it goes on by itself when the broker comes');
$second->kill;
$begun = time;
wait_state($node, 'far', 'waiting', 10);
in_time(2, 'a broker that goes away while running is shown');
like(stat_of('reason', 'far'), qr/broker/i, 'with the reason') or diag(stat_of('reason', 'far'));
# the neighbour does not care
$kafka->produce('late', json(0, 21, 30));
$begun = time;
wait_caught_up($node, 'late');
in_time(2, 'a pipeline of another broker is not delayed');
$second->start;
$second->produce('far', json(0, 6, 9));
wait_caught_up($node, 'far', 60);
is(q1('SELECT count(*), max(id) FROM far'), '9|9', 'and goes on after it came back');
wait_state($node, 'far', 'running');
# mute: connected, no answer; stopping must not wait for it
$second->pause;
$begun = time;
q1("SELECT streamproc.stop_pipeline('far')");
q1("SELECT streamproc.wait_until_stopped('far', '20 s')");
in_time(5, 'a pipeline stops while its broker is mute');
$second->resume;
q1("SELECT streamproc.drop_pipeline('far')");

# the address was wrong, and is corrected: the pipeline notices
q1("CREATE SERVER wrong FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '127.0.0.1:9'); CREATE FOREIGN TABLE wrong_t (id int) SERVER wrong OPTIONS (topic 'late'); CREATE TABLE wrong (id int)");
create_pipeline($node, 'wrong', 'INSERT INTO wrong SELECT id FROM wrong_t');
wait_state($node, 'wrong', 'waiting', 10);
q1("ALTER SERVER wrong OPTIONS (SET brokers '" . $kafka->address . "')");
wait_caught_up($node, 'wrong', 20);
is(q1('SELECT count(*) FROM wrong'), 30, 'ALTER SERVER of an unreachable cluster: it goes on');
q1("SELECT streamproc.drop_pipeline('wrong')");

# ---------------------------------------------------------------- new partitions
simple('grow', 1, parallelism => 2);
$kafka->topic('growlatest', 1);
$kafka->produce('growlatest', json(0, 1, 3));
simple('growlatest', 0, start => 'latest');
$kafka->produce('grow', json(0, 1, 10));
wait_caught_up($node, $_) for qw(grow growlatest);
for my $topic (qw(grow growlatest))
{
	$kafka->add_partitions($topic, 3);
	$kafka->produce($topic, json(0, 11, 20), json(1, 21, 30), json(2, 31, 40));
}
wait_query($node, "SELECT count(*) FROM $_", $_ eq 'grow' ? 40 : 30, 30) for qw(grow growlatest);
pass('new partitions are found while running, and read from their beginning');
is(q1("SELECT string_agg(partition || ':' || next_offset, ' ' ORDER BY partition) FROM streamproc.position WHERE pipeline = 'grow'"), '0:20 1:10 2:10', 'they have positions');
is(q1("SELECT count(*), count(DISTINCT task) FROM streamproc.stat_partition WHERE pipeline = 'grow'"), '3|2', 'and are shared out over the tasks');
same('SELECT id FROM grow', 'SELECT id FROM grow_t', 'nothing came twice');
q1("SELECT streamproc.drop_pipeline('growlatest')");

# ---------------------------------------------------------------- a neighbour that cannot start
q1("CREATE ROLE broken LOGIN SUPERUSER; ALTER ROLE broken SET streamproc.fault_points = 'launcher-start=error'; CREATE TABLE broken (id int)");
q1("SET SESSION AUTHORIZATION broken; SELECT streamproc.create_pipeline('broken', 'INSERT INTO broken SELECT id FROM grow_t')");
wait_query($node, "SELECT restarts > 1 FROM streamproc.stat_pipeline WHERE pipeline = 'broken'");
isnt(stat_of('state', 'broken'), 'running', 'a launcher that fails is started again and again');
like(stat_of(q{state || ' ' || coalesce(reason, '')}, 'broken'), qr/waiting.*launcher/, 'and says so');
$begun = time;
simple('quick', 1);
$kafka->produce('quick', json(0, 1, 1));
wait_caught_up($node, 'quick');
in_time(5, 'that delays no other pipeline');
q1("ALTER ROLE broken RESET streamproc.fault_points");
wait_caught_up($node, 'broken');
is(q1('SELECT count(*) FROM broken'), 40, 'it goes on when the cause is gone');
wait_state($node, 'broken', 'running');
q1("SELECT streamproc.drop_pipeline('broken')");

# ---------------------------------------------------------------- DDL on what it uses
simple('ddl', 2, columns => "id int, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')", parallelism => 2, checkpoint_interval => '20 ms');
wait_state($node, 'ddl', 'running');
my @tasks = worker_pids($node, pipeline => 'ddl', role => 'task');
my $produced = 0;
sub flow { my $n = shift // 200; $kafka->produce('ddl', map { { partition => $_ % 2, value => qq({"id": $_, "v": 1, "w": 2}) } } $produced + 1 .. $produced + $n); $produced += $n; }
for my $ddl (
	'ALTER TABLE ddl ADD COLUMN extra int DEFAULT 5', 'CREATE INDEX CONCURRENTLY ddl_id ON ddl (id)', 'ALTER TABLE ddl DROP COLUMN extra',
	'ALTER TABLE ddl ADD CONSTRAINT positive CHECK (id > 0)', 'VACUUM FULL ddl', 'CREATE TABLE ddl_log (id int)',
	'CREATE FUNCTION ddl_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ddl_log VALUES (new.id); RETURN new; END $$',
	'CREATE TRIGGER log BEFORE INSERT ON ddl FOR EACH ROW EXECUTE FUNCTION ddl_log()', 'DROP TRIGGER log ON ddl', 'REINDEX TABLE CONCURRENTLY ddl',
	'ANALYZE ddl', 'CLUSTER ddl USING ddl_id', 'ALTER TABLE ddl ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) STORED', 'VACUUM FULL streamproc.task_position',
	'ALTER TABLE ddl SET SCHEMA streamproc_other', 'ALTER TABLE streamproc_other.ddl SET SCHEMA public')
{
	q1('CREATE SCHEMA streamproc_other') if $ddl =~ /SET SCHEMA streamproc_other/;
	flow();
	q1($ddl);
	flow();
}
wait_caught_up($node, 'ddl');
same('SELECT id FROM ddl', 'SELECT id FROM ddl_t', 'DDL on the sink while rows come: each row once');
is(q1('SELECT count(*) > 0, bool_and(twice = 2 * id) FROM ddl WHERE twice IS NOT NULL'), 't|t', 'new columns are filled');
is(q1('SELECT count(*) FROM ddl WHERE id IN (SELECT id FROM ddl_log)'), q1('SELECT count(*) FROM ddl_log'), 'triggers ran');
is(stat_of("state, coalesce(last_error, ''), restarts", 'ddl'), 'running||0', 'without an error');
is(join(' ', worker_pids($node, pipeline => 'ddl', role => 'task')), join(' ', @tasks), 'in the same processes');
q1('TRUNCATE ddl');
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*), min(id) FROM ddl'), '200|' . ($produced - 199), 'after a TRUNCATE it goes on where it was');
# a lock is waited for
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE ddl IN ACCESS EXCLUSIVE MODE');
flow();
wait_query($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'streamproc task%'");
$locker->query_safe('COMMIT');
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 400, 'a lock on the sink is waited for');
# and does not hold up a stop for longer than stop_timeout
$locker->query_safe('BEGIN; LOCK TABLE ddl IN ACCESS EXCLUSIVE MODE');
flow();
wait_query($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'streamproc task%'");
$begun = time;
q1("SELECT streamproc.stop_pipeline('ddl'); ");
q1("SELECT streamproc.wait_until_stopped('ddl', '30 s')");
in_time(8, 'a stop waits no longer than stop_timeout');
$locker->query_safe('COMMIT');
$locker->quit;
is(q1('SELECT count(*) FROM ddl'), 400, 'and has not committed what it could not');
q1("SELECT streamproc.start_pipeline('ddl')");
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 600, 'which comes with the next start');

# the foreign table and the server
@tasks = worker_pids($node, pipeline => 'ddl', role => 'task');
q1("SELECT streamproc.alter_pipeline('ddl', query => 'INSERT INTO ddl SELECT v FROM ddl_t'); TRUNCATE ddl;");
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*), min(id), max(id) FROM ddl'), '200|1|1', 'another query by alter_pipeline');
q1("ALTER FOREIGN TABLE ddl_t ALTER v OPTIONS (ADD json 'w')");
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*), max(id) FROM ddl'), '400|2', 'ALTER FOREIGN TABLE: the next rows are read by the new options');
is(q1('SELECT count(*) FROM ddl WHERE id = 2'), 200, 'only those');
@tasks = worker_pids($node, pipeline => 'ddl', role => 'task');
my $address = $kafka->address;
q1("ALTER SERVER kafka OPTIONS (SET brokers '$address,$address')");
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 600, 'ALTER SERVER');
isnt(join(' ', worker_pids($node, pipeline => 'ddl', role => 'task')), join(' ', @tasks), 'starts the tasks anew');
q1("ALTER TABLE ddl ADD COLUMN note text; ALTER FOREIGN TABLE ddl_t ADD COLUMN note text");
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 800, 'a column more on both sides');
like(psql_err('ALTER FOREIGN TABLE ddl_t DROP COLUMN v'), qr/depend/, 'a column that is used stays');

# another cluster is not the one whose positions we have
my $other_address = $second->address;
q1("ALTER SERVER kafka OPTIONS (SET brokers '$other_address')");
wait_state($node, 'ddl', 'failed', 30);
like(stat_of('reason', 'ddl'), qr/another Kafka cluster/, 'another cluster is refused');
q1("ALTER SERVER kafka OPTIONS (SET brokers '$address')");
for my $p (split /\n/, q1("SELECT pipeline FROM streamproc.stat_pipeline WHERE state = 'failed'")) { q1("SELECT streamproc.start_pipeline('$p')"); }
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 1000, 'and all goes on with the right one');

# ---------------------------------------------------------------- settings of the role and the database
q1(<<'SQL');
CREATE TABLE pinned (id int, t text, f text, i text);
CREATE TABLE word (w text); INSERT INTO word VALUES ('public');
CREATE SCHEMA trap; CREATE TABLE trap.word (w text); INSERT INTO trap.word VALUES ('trap');
SELECT streamproc.create_pipeline('pinned', $$INSERT INTO pinned SELECT id, ('2026-07-01 00:00:00+00'::timestamptz + id * interval '1 s')::text, (id / 3::float8)::text, (interval '1 day 1 s' * id)::text || w FROM grow_t, word$$);
SQL
wait_caught_up($node, 'pinned');
q1("CREATE TABLE pinned_first AS TABLE pinned; SELECT streamproc.drop_pipeline('pinned'); TRUNCATE pinned;");
q1(<<'SQL');
SELECT streamproc.create_pipeline('pinned', $$INSERT INTO pinned SELECT id, ('2026-07-01 00:00:00+00'::timestamptz + id * interval '1 s')::text, (id / 3::float8)::text, (interval '1 day 1 s' * id)::text || w FROM grow_t, word$$, active => false);
ALTER ROLE CURRENT_USER SET datestyle = 'German'; ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'; ALTER ROLE CURRENT_USER SET intervalstyle = 'iso_8601';
ALTER ROLE CURRENT_USER SET extra_float_digits = -10; ALTER ROLE CURRENT_USER SET search_path = 'trap'; ALTER ROLE CURRENT_USER SET statement_timeout = '1ms';
ALTER ROLE CURRENT_USER SET default_transaction_read_only = on; ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'; ALTER ROLE CURRENT_USER SET lock_timeout = 1;
ALTER DATABASE postgres SET session_replication_role = 'replica';
SQL
{
	# of the connection, or the first statement might be cut off
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0';
	q1("SELECT streamproc.start_pipeline('pinned')");
	q1("SELECT streamproc.wait_until_caught_up('pinned')");
	$node->safe_psql('template1', 'ALTER ROLE CURRENT_USER RESET ALL; ALTER DATABASE postgres RESET ALL');
}
same('TABLE pinned', 'TABLE pinned_first', 'settings of the role do not change what a pipeline gives');
is(q1('SELECT count(*) FROM pinned'), 40, 'nor keep it from working');
q1("SELECT streamproc.drop_pipeline('pinned')");

# ---------------------------------------------------------------- reload, supervisor
$node->append_conf('postgresql.conf', "streamproc.default_parallelism = 3\nwork_mem = '3MB'\n");
@tasks = worker_pids($node, pipeline => 'ddl');
$node->reload;
flow();
wait_caught_up($node, 'ddl');
is(join(' ', worker_pids($node, pipeline => 'ddl')), join(' ', @tasks), 'a reload disturbs nobody');
my $supervisor = q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'");
ok($supervisor, 'the supervisor is in pg_stat_activity');
q1("SELECT pg_terminate_backend($supervisor)");
wait_query($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor' AND pid <> $supervisor", 1, 30);
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 1400, 'the supervisor may be terminated');
q1("SELECT streamproc.stop_pipeline('ddl')");
q1("SELECT streamproc.wait_until_stopped('ddl', '20 s')");
pass('the new supervisor knows the pipelines');
q1("SELECT streamproc.start_pipeline('ddl')");

# ---------------------------------------------------------------- waiting in several sessions, views
simple('view', 2, columns => "id int, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')",
	options => ", event_time 'at', idle_timeout '300 ms'", parallelism => 2);
my @waiting;
for my $round (1 .. 5)
{
	$kafka->produce('view', map { { partition => 0, value => qq({"id": $_, "at": "2026-01-01T00:00:0${round}Z"}) } } 1 .. 100);
	my ($out, $err) = ('', '');
	push @waiting, IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-Atc', "SELECT streamproc.wait_until_caught_up('view'); SELECT count(*) >= $round * 100 FROM view" ],
		'>', \my $got, '2>&1');
	push @{ $waiting[-1]{got} }, \$got;
}
is(scalar(grep { $_->finish; ${ $_->{got}[0] } =~ /^\nt\n$/ } @waiting), 5, 'five sessions wait at once, and each sees its rows') or diag(join('|', map { ${ $_->{got}[0] } } @waiting));
# requests that are answered together
for my $round (1 .. 3)
{
	my @outs = map { '' } 1 .. 8;
	my @runs = map { IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-Atc', "SELECT streamproc.wait_until_caught_up('view', '20 s')" ], '>', \$outs[$_], '2>&1') } 0 .. 7;
	is(scalar(grep { $_->finish } @runs), 8, "eight sessions that ask at once, round $round") or diag(join('', @outs));
}
is(stat_of('state, rows_in, rows_out, bad_rows, lag_rows, tasks, restarts, last_error IS NULL', 'view'), 'running|500|500|0|0|2|0|t', 'stat_pipeline counts');
is(stat_of('bytes_in > 0, epoch > 0, checkpoints > 0, latency_p50 > interval \'0\', latency_p99 >= latency_p50, latency_p99 < interval \'1 min\', since <= now()', 'view'),
	't|t|t|t|t|t|t', 'and measures');
is(q1("SELECT partition, next_offset, committed_offset, end_offset, lag_rows, watermark AT TIME ZONE 'UTC', at_end, finished FROM streamproc.stat_partition WHERE pipeline = 'view' ORDER BY 1"),
	"0|500|500|500|0|2026-01-01 00:00:05|t|f\n1|0|0|0|0||t|f", 'stat_partition');
wait_query($node, "SELECT bool_and(idle) FROM streamproc.stat_partition WHERE pipeline = 'view'", 't', 10);
pass('silence makes partitions idle');
$kafka->produce('view', { partition => 1, value => '{"id": 1, "at": "2026-01-01T00:00:03Z"}' });
wait_caught_up($node, 'view');
is(q1("SELECT sum(rows_in), sum(rows_out), count(DISTINCT pid) FROM streamproc.stat_worker WHERE pipeline = 'view'"), '501|501|3', 'stat_worker: launcher and tasks');
is(q1("SELECT count(*) FROM streamproc.stat_worker w JOIN pg_stat_activity a USING (pid) WHERE pipeline = 'view' AND a.usename = current_user AND a.xact_start IS NULL"), 3,
	'they are in pg_stat_activity, in no transaction while they wait');
is(q1("SELECT sum(rows_in), bool_and(duration >= commit_time), bool_and(at <= now()), count(DISTINCT reason) > 0 FROM streamproc.stat_checkpoint WHERE pipeline = 'view'"), '501|t|t|t', 'stat_checkpoint');
is(stat_of("watermark AT TIME ZONE 'UTC'", 'view') =~ s/^2026-01-01 00:00:0[35]$/ok/r, 'ok', 'the pipeline has a watermark');

# ---------------------------------------------------------------- databases
q1('CREATE DATABASE other');
$begun = time;
q1('DROP DATABASE other');
in_time(5, 'DROP DATABASE of another database does not wait for pipelines');
q1('CREATE DATABASE own');
$node->safe_psql('own', <<SQL);
CREATE EXTENSION streamproc;
CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address');
CREATE FOREIGN TABLE grow_t (id int) SERVER kafka OPTIONS (topic 'grow');
CREATE TABLE sink (id int);
SELECT streamproc.create_pipeline('own', 'INSERT INTO sink SELECT id FROM grow_t');
SQL
$node->safe_psql('own', "SELECT streamproc.wait_until_caught_up('own')");
is(q1("SELECT count(*) FROM streamproc.stat_pipeline WHERE pipeline = 'own'"), 0, 'views show the pipelines of their database');
# a name may be used in each database
$node->safe_psql('own', "CREATE TABLE ddl (id int); SELECT streamproc.create_pipeline('ddl', 'INSERT INTO ddl SELECT id FROM grow_t')");
$node->safe_psql('own', "SELECT streamproc.wait_until_caught_up('ddl')");
is($node->safe_psql('own', 'SELECT count(*) FROM ddl'), 40, 'a name may be used in each database');
q1('ALTER DATABASE own RENAME TO mine');
$kafka->produce('grow', json(0, 41, 50));
$node->safe_psql('mine', "SELECT streamproc.wait_until_caught_up('own')");
is($node->safe_psql('mine', 'SELECT count(*) FROM sink'), 50, 'a renamed database goes on');
like(psql_err('ALTER DATABASE mine RENAME TO postgres'), qr/already exists/, 'a rename that fails');
$kafka->produce('grow', json(0, 51, 60));
$node->safe_psql('mine', "SELECT streamproc.wait_until_caught_up('own')");
is($node->safe_psql('mine', 'SELECT count(*) FROM sink'), 60, 'lets it go on, too');
$node->safe_psql('mine', 'DROP EXTENSION streamproc CASCADE');
# a process that has let go of everything is still listed for a moment
wait_query($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mine' AND backend_type LIKE 'streamproc%'", 0, 10);
pass('DROP EXTENSION ends the workers');
$node->safe_psql('mine', 'BEGIN; CREATE EXTENSION streamproc; ROLLBACK; CREATE EXTENSION streamproc;');
$node->safe_psql('mine', <<SQL);
CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address');
CREATE FOREIGN TABLE grow_t (id int) SERVER kafka OPTIONS (topic 'grow');
TRUNCATE sink;
SELECT streamproc.create_pipeline('own', 'INSERT INTO sink SELECT id FROM grow_t');
SQL
$node->safe_psql('mine', "SELECT streamproc.wait_until_caught_up('own')");
is($node->safe_psql('mine', 'SELECT count(*) FROM sink'), 60, 'made again, from the start');
$node->safe_psql('mine', 'BEGIN; DROP EXTENSION streamproc CASCADE; ROLLBACK');
$kafka->produce('grow', json(0, 61, 70));
$node->safe_psql('mine', "SELECT streamproc.wait_until_caught_up('own')");
is($node->safe_psql('mine', 'SELECT count(*) FROM sink'), 70, 'a rolled back DROP EXTENSION: it goes on');
$begun = time;
q1('DROP DATABASE mine');
in_time(8, 'DROP DATABASE of the own one stops its pipelines');
wait_query($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mine'", 0);
flow();
wait_caught_up($node, 'ddl');
is(q1('SELECT count(*) FROM ddl'), 1600, 'the pipeline of the same name in another database is untouched');

# ---------------------------------------------------------------- restart, fast stop with a mute broker
q1("SELECT streamproc.stop_pipeline('view'); SELECT streamproc.drop_pipeline('quick')");
$kafka->pause;
$begun = time;
$node->stop('fast');
in_time(5, 'pg_ctl stop -m fast takes no time with a mute broker');
$kafka->resume;
$node->start;
flow();
wait_caught_up($node, 'ddl', 60);
is(q1('SELECT count(*) FROM ddl'), 1800, 'after a restart all goes on');
is(stat_of('state', 'view'), 'stopped', 'but what was stopped');
is(q1("SELECT string_agg(pipeline, ' ' ORDER BY pipeline) FROM streamproc.stat_pipeline"), 'ddl grow late view', 'and what was dropped is gone');
$node->stop('fast');

# ---------------------------------------------------------------- not enough worker slots
my $small = create_node('small', conf => "max_worker_processes = 7\nstreamproc.restart_backoff_max = '1s'\n");
create_kafka_server($small, $kafka);
$small->safe_psql('postgres', "CREATE FOREIGN TABLE grow_t (id int) SERVER kafka OPTIONS (topic 'grow'); CREATE TABLE a (id int); CREATE TABLE b (id int)");
create_pipeline($small, 'a', 'INSERT INTO a SELECT id FROM grow_t', parallelism => 3);
wait_caught_up($small, 'a');
create_pipeline($small, 'b', 'INSERT INTO b SELECT id FROM grow_t', parallelism => 3);
wait_state($small, 'b', 'waiting', 10);
like($small->safe_psql('postgres', "SELECT reason || ' ' || hint FROM streamproc.stat_pipeline WHERE pipeline = 'b'"), qr/background worker.*max_worker_processes/, 'no worker slots: waiting, with reason and hint');
is($small->safe_psql('postgres', "SELECT count(*) FROM streamproc.stat_worker WHERE pipeline = 'b' AND role = 'task'"), 0, 'all tasks or none');
$kafka->produce('grow', json(0, 71, 80));
wait_caught_up($small, 'a');
pass('the other one works');
$small->safe_psql('postgres', "SELECT streamproc.drop_pipeline('a')");
wait_caught_up($small, 'b', 60);
is($small->safe_psql('postgres', 'SELECT count(*) FROM b'), 80, 'it goes on by itself when there are some');
$small->stop('fast');

done_testing();

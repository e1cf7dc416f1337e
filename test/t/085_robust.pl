# Rough treatment under load: processes terminated, tables locked, rebuilt, given away and changed, queries replaced.
# All the while a reader compares sinks and positions in one snapshot and counts launchers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
streamproc.restart_backoff_max = '1s'
streamproc.stop_timeout = '2s'
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);
$kafka->topic('tx', 2);

sub q1 { return scalar $node->safe_psql('postgres', $_[0]) }
sub stat_of { my ($what, $name) = @_; return q1("SELECT $what FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }

q1(<<'SQL');
CREATE ROLE ann LOGIN; CREATE ROLE bea LOGIN;
GRANT CREATE ON SCHEMA public TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO PUBLIC;
CREATE FOREIGN TABLE tx (card text, amount numeric, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx');
GRANT SELECT ON tx TO PUBLIC;
CREATE TABLE card (card text PRIMARY KEY, owner text); INSERT INTO card SELECT 'card-' || to_char(i, 'FM000000'), 'owner' FROM generate_series(0, 99) i;
GRANT SELECT ON card TO PUBLIC;
CREATE TABLE joined (p int, o bigint, owner text);
CREATE TABLE changing (p int, o bigint, version int);
CREATE TABLE total (p int PRIMARY KEY, n bigint);
CREATE TABLE cut (p int, o bigint);
CREATE TABLE parts (p int, o bigint) PARTITION BY RANGE (o);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (1000000);
SET SESSION AUTHORIZATION ann;
CREATE TABLE plain (p int, o bigint);
SELECT streamproc.create_pipeline('plain', 'INSERT INTO plain SELECT p, o FROM tx');
SQL
create_pipeline($node, 'joined', 'INSERT INTO joined SELECT t.p, t.o, c.owner FROM tx t LEFT JOIN card c USING (card)');
create_pipeline($node, 'changing', 'INSERT INTO changing SELECT p, o, 0 FROM tx; INSERT INTO total SELECT p, 1 FROM tx ON CONFLICT (p) DO UPDATE SET n = total.n + 1');
create_pipeline($node, 'cut', 'INSERT INTO cut SELECT p, o FROM tx', parallelism => 1);
create_pipeline($node, 'parts', 'INSERT INTO parts SELECT p, o FROM tx', parallelism => 1);
my @pipelines = qw(plain joined changing cut parts);
wait_state($node, $_, 'running') for @pipelines;
my $load = $kafka->load_start('tx', count => 0, rate => 1000, seed => 7, keys => 200);

# one row for each pipeline: "good" while its sink has as many rows as its positions say, and one launcher at the most
my $reader = $crash->reader(<<'SQL');
WITH p AS (SELECT pipeline, sum(next_offset) AS n FROM streamproc.position GROUP BY 1),
  s (pipeline, n) AS (SELECT 'plain', count(*) FROM plain UNION ALL SELECT 'joined', count(*) FROM joined UNION ALL SELECT 'changing', count(*) FROM changing
    UNION ALL SELECT 'changing', coalesce(sum(total.n), 0) FROM total UNION ALL SELECT 'parts', count(*) FROM parts),
  l AS (SELECT coalesce(max(n), 0) AS n FROM (SELECT count(*) AS n FROM streamproc.stat_worker WHERE role = 'launcher' GROUP BY pipeline) x)
SELECT CASE WHEN bool_and(s.n = coalesce(p.n, 0)) AND (SELECT n FROM l) <= 1 THEN 'good' ELSE 'BAD' END, string_agg(p.n::text, ',' ORDER BY s.pipeline),
  string_agg(s.pipeline || ' ' || s.n, ' ') || ' launchers ' || (SELECT n FROM l)
FROM s LEFT JOIN p USING (pipeline)
SQL

# Everything that was in the topic at the call is committed by all of them: no process hangs.
my $longest = 0;
sub goes_on
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $begun = time;
	wait_caught_up($node, $_, 60) for @pipelines;
	my $took = time - $begun;
	$longest = $took if $took > $longest;
	diag(sprintf '%s: took %.1f s, should be below 10 s', $what, $took) if $took > 10;
	pass($what);
}
goes_on('five pipelines under load');

# ---------------------------------------------------------------- processes terminated
for my $round (1 .. 2)
{
	my @old = worker_pids($node, role => 'launcher');
	q1(q{SELECT count(pg_terminate_backend(pid)) FROM streamproc.stat_worker WHERE role = 'launcher' AND pid IS NOT NULL});
	ok(wait_gone(@old), "launchers terminated, round $round");
	goes_on('and they go on');
}
for my $round (1 .. 3)
{
	my $supervisor = q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'");
	q1("SELECT pg_terminate_backend($supervisor)");
	# at once, and with all launchers; and while its successor is just beginning
	q1(q{SELECT count(pg_terminate_backend(pid)) FROM streamproc.stat_worker WHERE pid IS NOT NULL}) if $round == 2;
	wait_query($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor' AND pid <> $supervisor", 1, 30);
	q1(q{SELECT count(pg_terminate_backend(pid)) FROM streamproc.stat_worker WHERE pid IS NOT NULL}) if $round == 3;
	goes_on("supervisor terminated, round $round");
}
is(q1(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamproc launcher'}), scalar @pipelines, 'there is one launcher for each pipeline');
# a launcher that cannot leave: its successor waits for it
my $launcher = $crash->launcher('plain');
kill 'STOP', $launcher;
my $supervisor = q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'");
q1("SELECT pg_terminate_backend($supervisor)");
wait_query($node, q{SELECT state, reason FROM streamproc.stat_pipeline WHERE pipeline = 'plain'}, 'waiting|the launcher of an earlier run to leave');
is(q1(q{SELECT string_agg(pid::text, ' ') FROM streamproc.stat_worker WHERE pipeline = 'plain' AND role = 'launcher'}), $launcher, 'no launcher beside one that stands still');
kill 'CONT', $launcher;
goes_on('it leaves when it can, and the pipeline goes on');
isnt($crash->launcher('plain'), $launcher, 'with another one');

# ---------------------------------------------------------------- settings reloaded while a worker starts
# PostgreSQL ignores SIGHUP in a worker from its fork until its handlers are set; post_auth_delay stands in between
{
	my %old = map { $_ => 1 } worker_pids($node, role => 'task');
	my $postmaster = $node->{_pid};
	my ($cut) = worker_pids($node, role => 'task', pipeline => 'cut');
	my $offset = -s $node->logfile;
	$node->append_conf('postgresql.conf', 'post_auth_delay = 3');
	$node->reload;
	ok(wait_until(sub { slurp_file($node->logfile, $offset) =~ /parameter "post_auth_delay" changed to "3"/ }, 20), 'workers begin slowly');
	kill 'TERM', $cut;
	my $new;
	wait_until(sub { ($new) = grep { !$old{$_} } split ' ', `pgrep -P $postmaster -f 'streamproc task'`; return $new }, 30);
	$offset = -s $node->logfile;
	$crash->set_fault('task-after-run=wait');
	ok(wait_until(sub { slurp_file($node->logfile, $offset) =~ /\[$new\] LOG:  streamproc fault point "task-after-run": wait/ }, 30), 'what is reloaded meanwhile holds in them');
	$node->adjust_conf('postgresql.conf', 'post_auth_delay', '0');
	$crash->reset_fault;
	goes_on('and what is reloaded later');
}

# ---------------------------------------------------------------- the lookup table
for my $ddl ('ALTER TABLE card ADD COLUMN note text', 'ALTER TABLE card ALTER COLUMN note SET DEFAULT \'x\'', 'VACUUM FULL card', 'ALTER TABLE card DROP COLUMN note',
	'CREATE INDEX CONCURRENTLY card_owner ON card (owner)', 'ALTER TABLE card RENAME TO card2', 'ALTER TABLE card2 RENAME TO card', 'BEGIN; LOCK TABLE card; UPDATE card SET owner = owner; COMMIT', 'ANALYZE card')
{
	q1($ddl);
}
like((psql_error('ALTER TABLE card ALTER COLUMN owner TYPE varchar')), qr/depend|cannot alter type/, 'a used column keeps its type');
goes_on('ALTER TABLE on the lookup table');
is(q1(q{SELECT count(DISTINCT owner) FROM joined}), 1, 'it finds its rows');

# ---------------------------------------------------------------- VACUUM FULL of the extension's tables
my $tasks = join(' ', worker_pids($node, role => 'task'));
for my $round (1 .. 5)
{
	q1(join('; ', (map { "VACUUM FULL $_" } qw(streamproc.task_position streamproc.pipeline streamproc.stored_dead_letter streamproc.stored_data_loss)), 'REINDEX TABLE streamproc.pipeline'));
}
goes_on('VACUUM FULL of the own tables');
is(join(' ', worker_pids($node, role => 'task')), $tasks, 'in the same processes');

# ---------------------------------------------------------------- DDL of sinks
for my $ddl ('ALTER TABLE plain ADD COLUMN extra int DEFAULT 5', 'CREATE INDEX CONCURRENTLY plain_o ON plain (o)', 'ALTER TABLE plain DROP COLUMN extra', 'DROP INDEX CONCURRENTLY plain_o',
	'ALTER TABLE cut ADD COLUMN at timestamptz DEFAULT clock_timestamp()', 'ALTER TABLE cut ALTER COLUMN at TYPE text', 'ALTER TABLE plain ADD COLUMN at text',
	'ALTER TABLE plain ENABLE ROW LEVEL SECURITY', 'CREATE POLICY all_rows ON plain USING (true) WITH CHECK (o >= 0)', 'ALTER TABLE plain FORCE ROW LEVEL SECURITY',
	'CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.at := \'trigger\'; RETURN new; END $$', 'CREATE TRIGGER seen BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION seen()',
	'ALTER TABLE parts DETACH PARTITION parts_1; ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (MINVALUE) TO (1000000)',
	'BEGIN; CREATE TABLE parts_2 (p int, o bigint); ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (1000000) TO (2000000); COMMIT',
	'ALTER TABLE parts DETACH PARTITION parts_2 CONCURRENTLY')
{
	# ("cut", which the reader does not look at, is rewritten: that makes a table look empty to older snapshots)
	# where a partition is missing for a moment rows have no place: all in one transaction
	q1($ddl =~ /^ALTER TABLE parts DETACH PARTITION parts_1/ ? "BEGIN; $ddl; COMMIT" : $ddl);
	wait_caught_up($node, $ddl =~ /\b(parts|cut)\b/ ? $1 : 'plain', 60);
}
goes_on('DDL of the sinks: columns, indexes, row-level security, trigger, partitions');
is(q1(q{SELECT count(*) > 0 FROM plain WHERE at = 'trigger'}), 't', 'the trigger has run');
is(q1(q{SELECT count(*) FROM streamproc.stat_pipeline WHERE last_error IS NOT NULL AND last_error_sqlstate !~ '^57'}), 0, 'no pipeline had an error') or diag(q1('SELECT pipeline, last_error FROM streamproc.stat_pipeline'));
q1('DROP TRIGGER seen ON plain; ALTER TABLE plain NO FORCE ROW LEVEL SECURITY; ALTER TABLE plain DISABLE ROW LEVEL SECURITY; ALTER TABLE plain DROP COLUMN at');
# TRUNCATE: what is there afterwards are the records from the positions of that moment on
my $base = $node->safe_psql('postgres', <<'SQL');
BEGIN;
TRUNCATE cut;
SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'cut';
COMMIT;
SQL
goes_on('TRUNCATE');
cmp_ok($base, '>', 0, 'of a sink that had rows');
is(q1(qq{SELECT (SELECT count(*) FROM cut) + $base = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'cut'), (SELECT count(DISTINCT (p, o)) = count(*) FROM cut)}), 't|t', 'the sink has the rows after it, each once');

# ---------------------------------------------------------------- locks, and a stop meanwhile
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE plain IN ACCESS EXCLUSIVE MODE');
wait_query($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'streamproc task % of plain'");
is(stat_of('state', 'plain') =~ /^(waiting|running)$/, 1, 'LOCK TABLE on the sink');
my $begun = time;
q1(q{SELECT streamproc.stop_pipeline('plain')});
if (!eval { q1(q{SELECT streamproc.wait_until_stopped('plain', '60 s')}); 1 })
{
	diag($node->safe_psql('postgres', $_, extra_params => ['-x'])) for q{SELECT * FROM streamproc.stat_worker WHERE pipeline = 'plain'}, 'SELECT state, reason, since FROM streamproc.stat_pipeline',
	  q{SELECT pid, backend_type, application_name, state, wait_event_type, wait_event, backend_xid, backend_xmin, pg_blocking_pids(pid), query FROM pg_stat_activity WHERE backend_type LIKE 'streamproc%' OR wait_event_type = 'Lock'};
}
diag(sprintf 'stop with a locked sink took %.1f s, streamproc.stop_timeout is 2 s', time - $begun);
is(stat_of('state', 'plain'), 'stopped', 'a stop meanwhile');
# a launcher that dies when it should stop its tasks: nobody else would
$locker->query_safe('COMMIT');
q1(q{SELECT streamproc.start_pipeline('plain')});
goes_on('started again');
$locker->query_safe('BEGIN; LOCK TABLE plain IN ACCESS EXCLUSIVE MODE');
wait_query($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'streamproc task % of plain'");
my $dies = $crash->launcher('plain');
kill 'STOP', $dies;
q1(q{SELECT streamproc.stop_pipeline('plain')});
kill 'TERM', $dies;
kill 'CONT', $dies;
q1(q{SELECT streamproc.wait_until_stopped('plain', '30 s')});
is(stat_of('state', 'plain'), 'stopped', 'a stop without a launcher');
# the launcher itself waits for the table
q1(q{SELECT streamproc.start_pipeline('plain')});
wait_query($node, q{SELECT state, sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'plain'}, 'waiting|55P03');
q1(q{SELECT streamproc.stop_pipeline('plain')});
q1(q{SELECT streamproc.wait_until_stopped('plain', '30 s')});
is(stat_of('state', 'plain'), 'stopped', 'and one while the pipeline starts');
$locker->query_safe('COMMIT');
$locker->query_safe('BEGIN; LOCK TABLE streamproc.task_position IN SHARE MODE');
q1(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'streamproc task % of joined'});
$locker->query_safe('COMMIT');
$locker->quit;
q1(q{SELECT streamproc.start_pipeline('plain')});
goes_on('nothing is lost by it');

# ---------------------------------------------------------------- another owner, another query
for my $round (1 .. 2)
{
	my ($from, $to) = $round % 2 ? qw(ann bea) : qw(bea ann);
	q1("REASSIGN OWNED BY $from TO $to");
	wait_query($node, qq{SELECT count(*) > 0 AND bool_and(usename = '$to') FROM pg_stat_activity WHERE application_name LIKE 'streamproc % of plain'});
	goes_on("REASSIGN OWNED, round $round");
}
for my $version (1 .. 8)
{
	q1("SELECT streamproc.alter_pipeline('changing', query => 'INSERT INTO changing SELECT p, o, $version FROM tx; INSERT INTO total SELECT p, 1 FROM tx ON CONFLICT (p) DO UPDATE SET n = total.n + 1', parallelism => " . (1 + $version % 2) . ')');
	# now and then before the launcher of the last one is ready
	wait_caught_up($node, 'changing', 60) if $version % 3 == 0;
}
goes_on('alter_pipeline(query) under load');
is(q1('SELECT max(version) FROM changing'), 8, 'the last text counts');
is(q1('SELECT count(*) FROM (SELECT p, o, version, lag(version) OVER (PARTITION BY p ORDER BY o) AS before FROM changing) x WHERE version < before'), 0, 'none comes after its successor');

# ---------------------------------------------------------------- the end
$load->signal('TERM');
eval { $load->finish };
goes_on('all has been read');
my %seen = $reader->finish;
diag(sprintf 'the reader looked %d times at %d positions; the longest wait was %.1f s; %s rows', $seen{good}, $seen{positions}, $longest, q1('SELECT count(*) FROM plain'));
is($seen{bad}, 0, 'at any time sinks and positions agreed, and no pipeline had two launchers') or diag(join("\n", @{ $seen{bad_lines} }));
cmp_ok($seen{positions}, '>', 50, 'the reader saw it move');
q1('CREATE TABLE batch AS SELECT p, o FROM tx');
for my $sink (qw(plain joined changing parts))
{
	is(q1("WITH e AS (SELECT p, o FROM batch), g AS (SELECT p, o FROM $sink) SELECT (SELECT count(*) FROM (TABLE g EXCEPT ALL TABLE e) x), (SELECT count(*) FROM (TABLE e EXCEPT ALL TABLE g) x)"), '0|0', "$sink: each row once");
}
is(q1('SELECT sum(n) FROM total'), q1('SELECT count(*) FROM batch'), 'totals');
# alter_pipeline(query) takes the positions from the tasks of the old text; nothing else does
is(join("\n", grep { /FATAL:  position of task/ && !/"changing"/ } split /\n/, slurp_file($node->logfile)), '', 'no task believed in a position that was not its own');
$node->stop('fast');
done_testing();

sub psql_error { my ($query) = @_; my $err; $node->psql('postgres', $query, stderr => \$err); return $err }

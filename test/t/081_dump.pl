# Copies of pipelines: dump and restore in all forms, pg_upgrade.  Nothing of a copy runs before somebody says so.
use strict;
use warnings;
use FindBin;
use IPC::Run ();
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $conf = "streamproc.restart_backoff_max = '1s'\nstreamproc.stop_timeout = '3s'\n";
my $node = create_node('main', conf => $conf);
create_kafka_server($node, $kafka);
my $address = $kafka->address;
$kafka->topic('tx', 2);
my $temp = PostgreSQL::Test::Utils::tempdir();

# q1('database', 'query'); also on another server
sub q1 { my ($db, $query, $n) = @_; return ($n // $node)->safe_psql($db, $query) }
sub error_of { my ($db, $query, $n) = @_; my $err = ''; ($n // $node)->psql($db, $query, stderr => \$err, on_error_stop => 0); return $err }
my $sent = 0;
sub send_rows
{
	my ($n) = @_;
	$kafka->produce('tx', map { { partition => $_ % 2, value => qq({"id": $_}) } } $sent + 1 .. $sent + $n);
	$sent += $n;
}
sub caught_up { my ($db, $name, $n) = @_; return q1($db, "SELECT streamproc.wait_until_caught_up('$name', '60 s')", $n) }
# the pipeline has read all, and its sink has each row once
sub exact
{
	my ($db, $name, $what, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	caught_up($db, $name, $n);
	is(q1($db, "SELECT count(*), count(DISTINCT (p, o)), count(DISTINCT id) FROM ${name}_sink", $n), "$sent|$sent|$sent", $what);
}
my $objects = <<"SQL";
CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address', fetch_wait_max_ms '50');
GRANT USAGE ON FOREIGN SERVER kafka TO PUBLIC;
CREATE FOREIGN TABLE tx (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx');
GRANT SELECT ON tx TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SQL
sub pipeline { my ($name, $more) = @_; return "CREATE TABLE ${name}_sink (id int, p int, o bigint); SELECT streamproc.create_pipeline('$name', 'INSERT INTO ${name}_sink SELECT id, p, o FROM tx'" . ($more // '') . ");" }
# processes of a database, as seen from another one
my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^streamproc (launcher|task)' AND datname =";

q1('postgres', $objects =~ s/^CREATE SERVER.*?;\nGRANT.*?;\n//sr . pipeline('here'));
send_rows(100);
exact('postgres', 'here', 'a pipeline in a first database');

q1('postgres', 'CREATE ROLE ada LOGIN; CREATE ROLE root2 LOGIN SUPERUSER');
q1('postgres', 'CREATE DATABASE own OWNER ada');
q1('own', "CREATE EXTENSION streamproc; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO ada; $objects SET SESSION AUTHORIZATION ada;"
	  . pipeline('a', q{, parallelism => 1, late => 'drop', allowed_lateness => '36 h', state_memory => '2MB', max_skew => '90 s'}) . pipeline('b', q{, on_error => 'fail'}));
my $load = $kafka->load_start('tx', count => 0, rate => 1000, seed => 5);
# While rows come, in one snapshot: each record below the positions once, and no other.
my $right = join(' AND ', map { "(SELECT count(*) FROM ${_}_sink) = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$_') AND (SELECT count(DISTINCT (p, o)) = count(*) FROM ${_}_sink)" } qw(a b));
sub goes_on
{
	my ($what, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	caught_up($db // 'own', $_) for qw(a b);
	is(q1($db // 'own', "SELECT $right"), 't', $what);
}
# what the extension consists of
my $members = <<'SQL';
SELECT pg_describe_object(d.classid, d.objid, 0), obj_description(d.objid, d.classid::regclass::name), coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), p.proacl, n.nspacl, p.prosrc, p.provolatile, p.proisstrict,
  pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END, c.reloptions,
  (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull || coalesce(' ' || col_description(attrelid, attnum), ''), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
  (SELECT string_agg(pg_get_triggerdef(t.oid), ', ') FROM pg_trigger t WHERE tgrelid = c.oid), (SELECT string_agg(pg_get_indexdef(indexrelid), ', ') FROM pg_index WHERE indrelid = c.oid),
  (SELECT count(*) FROM pg_extension WHERE c.oid = ANY (extconfig))
FROM pg_depend d LEFT JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass LEFT JOIN pg_proc p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
  LEFT JOIN pg_namespace n ON n.oid = d.objid AND d.classid = 'pg_namespace'::regclass
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'streamproc') ORDER BY 1
SQL
sub exact_here
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	caught_up('postgres', 'here');
	is(q1('postgres', q{SELECT (SELECT count(*) FROM here_sink) = (SELECT sum(next_offset) FROM streamproc.position), (SELECT count(DISTINCT (p, o)) = count(*) FROM here_sink)}), 't|t', $_[0]);
}
goes_on('two pipelines under load, of a role that is no superuser');

# ---------------------------------------------------------------- dump and restore
my $letters = q{FROM streamproc.stored_dead_letter};
q1('own', q{INSERT INTO streamproc.stored_dead_letter (pipeline, id, kind, topic, partition, "offset", value, sqlstate, message, attempts, at)
  VALUES ('a', nextval('streamproc.stored_id'), 'input', 'tx', 0, 3, '\x00ff', '22P02', 'bad', 1, now());
  INSERT INTO streamproc.stored_data_loss VALUES ('a', nextval('streamproc.stored_id'), 'tx', 0, 3, 4, 'test', 'c', now());
  INSERT INTO streamproc.stored_late_row VALUES ('a', nextval('streamproc.stored_id'), 1, 'tx', 0, 3, now(), now(), NULL, NULL, '{"id": 1}', now());
  INSERT INTO streamproc.state_segment VALUES ('nobody', 7, 1, 6, 'infinity', decode(repeat('00ff', 50000), 'hex'))});
sub run_ok { my ($name, @command) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $node->command_ok(\@command, $name) }
run_ok('pg_dump, custom', 'pg_dump', '-Fc', '-f', "$temp/custom", $node->connstr('own'));
run_ok('pg_dump, plain', 'pg_dump', '-f', "$temp/plain", $node->connstr('own'));
my $kept = q{SELECT count(*), min(id), max(value::text), (SELECT min(id) FROM streamproc.stored_data_loss), nextval('streamproc.stored_id') > 3,
  (SELECT string_agg(id || ' ' || "row", ',') FROM streamproc.stored_late_row), (SELECT string_agg(epoch || '.' || number || ' ' || first_epoch || ' ' || md5(data), ',') FROM streamproc.state_segment),
  (SELECT concat_ws(' ', emit, late, allowed_lateness, state_memory, max_skew) FROM streamproc.pipeline WHERE name = 'a')
  FROM streamproc.stored_dead_letter};
my $kept_is = '1|1|\x00ff|2|t|3 {"id": 1}|7.1 6 ' . q1('own', q{SELECT md5(decode(repeat('00ff', 50000), 'hex'))}) . '|drop 36:00:00 2097152 00:01:30';
sub restored
{
	my ($db, $what, $kept_too) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(q1($db, 'SELECT pipeline, state FROM streamproc.stat_pipeline ORDER BY 1'), "a|restored\nb|restored", "$what: restored");
	is(q1($db, $kept), $kept_is, "$what: dead letters, losses, late rows and their ids, state, options");
	is(q1($db, "SELECT $right"), 't', "$what: results and positions are of one moment");
	is(q1('postgres', "$workers '$db'"), 0, "$what: nothing runs");
	like(error_of($db, q{SELECT streamproc.start_pipeline('a')}), qr/restored or copied here/, "$what: not by an ordinary start");
	q1($db, q{SELECT streamproc.start_pipeline(pipeline, adopt => true) FROM streamproc.stat_pipeline});
	goes_on("$what: adopted, it goes on", $db);
}
# schema, then data
q1('postgres', 'CREATE DATABASE r1');
run_ok('schema only', 'pg_restore', '--exit-on-error', '--schema-only', '-d', $node->connstr('r1'), "$temp/custom");
is(q1('r1', 'SELECT count(*) FROM streamproc.stat_pipeline'), 0, 'schema only: no pipelines');
is(q1('r1', q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'streamproc_pipeline'::regnamespace}), 2, 'schema only: but their texts');
like(error_of('r1', q{SET SESSION AUTHORIZATION ada; SELECT streamproc.create_pipeline('a', 'INSERT INTO a_sink SELECT id, p, o FROM tx')}), qr/procedure streamproc_pipeline.a already exists\nHINT:  Drop it: DROP PROCEDURE streamproc_pipeline.a/, 'schema only: a name that has a text already');
run_ok('data only', 'pg_restore', '--exit-on-error', '--data-only', '-d', $node->connstr('r1'), "$temp/custom");
restored('r1', 'schema, then data');
q1('postgres', 'DROP DATABASE r1');
# plain, without owners, by another superuser, into a database that has the extension
q1('postgres', 'CREATE DATABASE r2');
q1('r2', 'CREATE EXTENSION streamproc');
run_ok('without owners', 'pg_dump', '--no-owner', '-f', "$temp/noowner", $node->connstr('own'));
my $said = '';
IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('r2') . ' user=root2', '-f', "$temp/noowner" ], '>', '/dev/null', '2>', \$said);
is(join('', grep { /ERROR/ && !/schema "streamproc" already exists/ } split /^/, $said), '', 'psql as another role, where only the schema is there already');
is(q1('r2', 'SELECT DISTINCT owner FROM streamproc.stat_pipeline'), 'root2', 'without owners: they belong to who restored them');
restored('r2', 'plain, without owners, extension there');
q1('postgres', 'DROP DATABASE r2');
# with state: enums are stored by OID, which another database gives to other values
q1('postgres', 'CREATE DATABASE state');
q1('state', "CREATE EXTENSION streamproc; $objects" . <<'SQL');
CREATE TYPE parity AS ENUM ('even', 'odd');
CREATE TABLE by_p (p int PRIMARY KEY, n bigint, last text);
CREATE TABLE by_parity (parity parity PRIMARY KEY, n bigint);
SELECT streamproc.create_pipeline('by_p', 'INSERT INTO by_p SELECT p, count(*), max(o::text) FROM tx GROUP BY p ON CONFLICT (p) DO UPDATE SET n = EXCLUDED.n, last = EXCLUDED.last');
SELECT streamproc.create_pipeline('by_parity', $$INSERT INTO by_parity SELECT CASE WHEN id % 2 = 0 THEN 'even' ELSE 'odd' END::parity, count(*) FROM tx GROUP BY 1 ON CONFLICT (parity) DO UPDATE SET n = EXCLUDED.n$$);
SQL
my $totals = q{SELECT (SELECT sum(n) FROM by_p) = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'by_p'), (SELECT sum(n) FROM by_parity) = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'by_parity')};
caught_up('state', $_) for qw(by_p by_parity);
run_ok('of running pipelines with state', 'pg_dump', '-Fc', '-f', "$temp/state", $node->connstr('state'));
q1('postgres', 'CREATE DATABASE r3');
run_ok('restored', 'pg_restore', '--exit-on-error', '-d', $node->connstr('r3'), "$temp/state");
is(q1('r3', $totals), 't|t', 'with state: results and positions are of one moment');
q1('r3', q{SELECT streamproc.start_pipeline(pipeline, adopt => true) FROM streamproc.stat_pipeline});
caught_up('r3', 'by_p');
is(q1('r3', 'SELECT sum(n) = (SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = $$by_p$$) FROM by_p'), 't', 'with state: adopted, it goes on with what it had');
my $why = q{SELECT state, sqlstate, reason, detail ~ 'parity [(][0-9]+[)]' FROM streamproc.stat_pipeline WHERE pipeline = 'by_parity'};
ok(wait_until(sub { q1('r3', $why) =~ /^failed/ }, 30), 'with an enum: it fails');
is(q1('r3', $why), 'failed|55000|saved state of pipeline "by_parity" was made by another query|t', 'and says why');
q1('postgres', 'DROP DATABASE r3');
caught_up('state', $_) for qw(by_p by_parity);
is(q1('state', $totals), 't|t', 'and the database that it came from runs on');
q1('state', 'SELECT streamproc.drop_pipeline(pipeline) FROM streamproc.stat_pipeline');
q1('postgres', 'DROP DATABASE state');
# with a topic as the sink: the outbox comes along, and Kafka says what of it was sent
$kafka->topic($_, 1) for qw(few few_out);
my $few = 0;
sub send_few { my ($n) = @_; $kafka->produce('few', map { { partition => 0, value => qq({"id": $_}) } } $few + 1 .. $few + $n); return $few += $n }
# messages | different ones | different numbers
sub few_out { return q1($_[0], q{SELECT count(*), count(DISTINCT id), count(DISTINCT headers->>'streamproc') FROM few_out}, $_[1]) }
sub hold { my ($point) = @_; return q1('postgres', "ALTER SYSTEM SET streamproc.fault_points = '$point'; SELECT pg_reload_conf()") }
sub sends { my ($db, $columns, $n) = @_; return q1($db, "SELECT $columns FROM streamproc.stat_pipeline WHERE pipeline = 'sends'", $n) }
my $another = '55000|messages of this pipeline were sent by another server, or by a later state of this one';
q1('postgres', 'CREATE DATABASE topics');
q1('topics', "CREATE EXTENSION streamproc; $objects" . join('', map { "CREATE FOREIGN TABLE $_ (id int, headers jsonb OPTIONS (kafka 'headers')) SERVER kafka OPTIONS (topic '$_');" } qw(few few_out))
	. q{SELECT streamproc.create_pipeline('sends', 'INSERT INTO few_out (id) SELECT id FROM few')});
send_few(20);
caught_up('topics', 'sends');
hold('publisher-before-begin=wait');
send_few(10);
ok(wait_until(sub { sends('topics', 'outbox_rows') eq '10' }, 30), 'with a topic: messages wait');
run_ok('with a topic: dumped', 'pg_dump', '-Fc', '-f', "$temp/topics", $node->connstr('topics'));
q1('topics', q{SELECT streamproc.stop_pipeline('sends')});
q1('topics', q{SELECT streamproc.wait_until_stopped('sends', '30 s')});
hold('');
is(few_out('topics'), '20|20|20', 'with a topic: they were not sent');
q1('postgres', 'CREATE DATABASE r4');
run_ok('with a topic: restored', 'pg_restore', '--exit-on-error', '-d', $node->connstr('r4'), "$temp/topics");
is(sends('r4', 'state'), 'restored', 'with a topic: restored, it does not run');
is(q1('r4', 'SELECT sum(messages), (SELECT published FROM streamproc.publisher_position) FROM streamproc.outbox'), '10|20', 'with a topic: what waits, and how much was sent');
q1('r4', q{SELECT streamproc.start_pipeline('sends', adopt => true)});
send_few(5);
caught_up('r4', 'sends');
is(few_out('r4'), '35|35|35', 'with a topic: adopted, it sends what waited and goes on, each once');
q1('topics', q{SELECT streamproc.start_pipeline('sends')});
ok(wait_until(sub { sends('topics', 'state') eq 'failed' }, 30), 'with a topic: the original is not started beside it');
is(sends('topics', 'sqlstate, reason'), $another, 'with a topic: and says why');
is(few_out('topics'), '35|35|35', 'with a topic: nothing was sent twice');
q1('postgres', 'DROP DATABASE topics');
run_ok('with a topic: restored over the running one', 'pg_restore', '--exit-on-error', '--clean', '--if-exists', '-d', $node->connstr('r4'), "$temp/topics");
q1('r4', q{SELECT streamproc.start_pipeline('sends', adopt => true)});
ok(wait_until(sub { sends('r4', 'state') eq 'failed' }, 30), 'with a topic: set back by a restore, it fails');
is(sends('r4', 'sqlstate, reason, outbox_rows'), "$another|10", 'with a topic: and says why, and how many wait');
is(few_out('r4'), '35|35|35', 'with a topic: nothing was sent');
q1('r4', q{SELECT streamproc.reconcile_publisher('sends', 'resend')});
caught_up('r4', 'sends');
is(few_out('r4'), '50|35|35', 'with a topic: resend: 10 that waited and 5 that were read since came again, under the same numbers');
# back into the very same database
caught_up('own', $_) for qw(a b);
run_ok('pg_restore --clean over running pipelines', 'pg_restore', '--exit-on-error', '--clean', '--if-exists', '-d', $node->connstr('own'), "$temp/custom");
restored('own', 'into the database that it came from');

# ---------------------------------------------------------------- pg_upgrade
$load->signal('TERM');
eval { $load->finish };
caught_up('own', $_) for qw(a b);
exact_here('before pg_upgrade');
my $rows = q1('own', 'SELECT count(*) FROM a_sink');
my $whole = q1('own', $members);
hold('publisher-before-begin=wait');
send_few(7);
ok(wait_until(sub { sends('r4', 'outbox_rows') eq '7' }, 30), 'messages wait for pg_upgrade');
$node->stop('fast');
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'streamproc'\nmax_worker_processes = 64\n$conf");
my $bindir = $node->config_data('--bindir');
chdir $temp;
command_ok([ 'pg_upgrade', '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $node->data_dir, '-D', $new->data_dir, '-s', $node->host, '-p', $node->port, '-P', $new->port ], 'pg_upgrade');
$new->start;
is(q1('own', 'SELECT pipeline, state FROM streamproc.stat_pipeline ORDER BY 1', $new), "a|restored\nb|restored", 'pg_upgrade: restored');
is(q1('postgres', 'SELECT pipeline, state FROM streamproc.stat_pipeline ORDER BY 1', $new), 'here|restored', 'pg_upgrade: in each database');
is(q1('own', "SELECT $right", $new), 't', 'pg_upgrade: with results and positions');
is(q1('own', $kept =~ s/> 3/> 4/r, $new), $kept_is, 'pg_upgrade: dead letters, losses, late rows and their ids, state, options');
is(q1('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^streamproc (launcher|task)'}, $new), 0, 'pg_upgrade: nothing runs');
is(q1('own', $members, $new), $whole, 'pg_upgrade: the extension is whole');
$kafka->produce('tx', map { { partition => $_ % 2, value => qq({"id": $_}) } } 1 .. 100);
q1('own', q{SELECT streamproc.start_pipeline('a', adopt => true)}, $new);
caught_up('own', 'a', $new);
is(q1('own', 'SELECT count(*), count(DISTINCT (p, o)) FROM a_sink', $new), ($rows + 100) . '|' . ($rows + 100), 'pg_upgrade: adopted, it goes on, each row once');
is(q1('own', q{SELECT state FROM streamproc.stat_pipeline WHERE pipeline = 'b'}, $new), 'restored', 'pg_upgrade: and only that one');
is(few_out('r4', $new), '50|35|35', 'pg_upgrade: what waited for a topic was not sent');
q1('r4', q{SELECT streamproc.start_pipeline('sends', adopt => true)}, $new);
send_few(3);
caught_up('r4', 'sends', $new);
is(few_out('r4', $new), '60|45|45', 'pg_upgrade: adopted, it is, once, and all goes on');
$new->stop('fast');
done_testing();

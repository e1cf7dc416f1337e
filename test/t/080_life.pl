# The life of a server and its databases: versions of the extension, commands that need a database without workers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
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
sub log_since { my ($from) = @_; return slurp_file($node->logfile, $from) }
sub count_in { my ($text, $pattern) = @_; my @all = $text =~ /$pattern/g; return scalar @all }
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

# ---------------------------------------------------------------- databases whose extension is of an older version
# what is there after the update is what CREATE EXTENSION makes
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
q1('postgres', 'CREATE DATABASE fresh');
q1('fresh', 'CREATE EXTENSION streamproc');
my $whole = q1('fresh', $members);
cmp_ok(count_in($whole, qr/\n/), '>', 30, 'objects of the extension');
q1('postgres', 'CREATE ROLE clerk; CREATE ROLE "Odd one"; CREATE ROLE ada LOGIN');
my $now = q1('fresh', q{SELECT extversion FROM pg_extension WHERE extname = 'streamproc'});
my $of_now = quotemeta $now;

# A pipeline as an older version would have made it: the procedure from its text, the rows by their columns of then.
# Each has those of the versions before.
my %new_columns = (
	'1.0' => {
		pipeline => 'name, id, version, active, drain, start, stop, parallelism, checkpoint_interval, synchronous_commit, settings, system_identifier, database, created, state, state_since',
		task_position => 'pipeline, task, generation, epoch, cluster_id, topics, partitions, next_offsets, stop_offsets, watermarks, record_times, updated' },
	'1.1' => {
		pipeline => 'on_error, max_consecutive_errors, on_data_loss, accept_data_loss, trust_owners, retry_until',
		task_position => 'record_offsets, record_sums',
		topic_mark => 'pipeline, topics, partitions, record_offsets, record_times, record_sums' });
my $options = 'on_error, max_consecutive_errors, on_data_loss, accept_data_loss, trust_owners, emit, late, allowed_lateness, state_memory, max_skew, state_signature';
# those that it did not have: as it behaved before
my %options = (
	'1.0' => 'fail|1000|fail|f|f||divert|00:00:00|||',
	'1.1' => 'dead_letter|77|earliest|f|f||divert|00:00:00|||');
my %views = ('1.0' => [ map { "streamproc.$_" } qw(stat_pipeline stat_worker stat_partition stat_checkpoint position) ]);
$views{'1.1'} = [ @{ $views{'1.0'} }, qw(streamproc.dead_letter streamproc.data_loss) ];
my ($log, %columns);
for my $version ('1.0', '1.1')
{
	my $old = 'old' . ($version =~ s/\.//r);	# the database
	my $of_old = quotemeta $version;
	for my $table (keys %{ $new_columns{$version} }) { $columns{$table} = join(', ', grep { defined } $columns{$table}, $new_columns{$version}{$table}) }
	q1('postgres', "CREATE DATABASE $old");
	q1($old, "CREATE EXTENSION streamproc VERSION '$version'; $objects CREATE TABLE old_sink (id int, p int, o bigint)");
	q1($old, 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO clerk; GRANT EXECUTE ON FUNCTION streamproc.start_pipeline, streamproc.alter_pipeline TO "Odd one" WITH GRANT OPTION');
	q1('postgres', pipeline('old', q{, parallelism => 2, max_consecutive_errors => 77, on_data_loss => 'earliest'}));
	exact('postgres', 'old', 'the pipeline that is moved');
	q1('postgres', q{SELECT streamproc.stop_pipeline('old')});
	q1('postgres', q{SELECT streamproc.wait_until_stopped('old')});
	q1($old, q1('postgres', q{SELECT pg_get_functiondef('streamproc_pipeline.old'::regproc)}) . '; REVOKE ALL ON PROCEDURE streamproc_pipeline.old FROM PUBLIC, postgres');
	for my $table (sort keys %columns)
	{
		my $where = $table eq 'pipeline' ? 'name' : 'pipeline';
		q1('postgres', "COPY (SELECT $columns{$table} FROM streamproc.$table WHERE $where = 'old') TO '$temp/$table'");
		q1($old, "COPY streamproc.$table ($columns{$table}) FROM '$temp/$table'");
	}
	# the trigger of 1.1 has taken the row for one of a dump
	q1($old, "UPDATE streamproc.pipeline SET active = true, state = NULL, database = (SELECT oid FROM pg_database WHERE datname = '$old'), system_identifier = (SELECT system_identifier FROM pg_control_system())");
	q1('postgres', "COPY old_sink TO '$temp/sink'; SELECT streamproc.drop_pipeline('old'); DROP TABLE old_sink");
	q1($old, "COPY old_sink FROM '$temp/sink'");
	q1($old, q{INSERT INTO streamproc.stored_dead_letter (pipeline, id, kind, topic, partition, "offset", sqlstate, message, attempts, at) VALUES ('old', 1, 'input', 'tx', 0, 0, '22P02', 'x', 1, now());
		INSERT INTO streamproc.stored_data_loss VALUES ('old', 2, 'tx', 0, 0, 1, 'x', 'c', now())}) if $version ne '1.0';
	send_rows(50);

	$log = -s $node->logfile;
	$node->restart;
	exact('postgres', 'here', "version $version: other databases go on");
	my $line = qr/LOG:  pipelines of database "$old" do not run: its extension "streamproc" is of version $of_old, the library of version $of_now\n.*HINT:  Run in this database: ALTER EXTENSION streamproc UPDATE\./;
	ok(wait_until(sub { log_since($log) =~ $line }, 20), "version $version: the log says so");
	my $of_version = qr/ERROR:  55000: extension "streamproc" of this database is of version $of_old, the library of version $of_now\nHINT:  Run in this database: ALTER EXTENSION streamproc UPDATE\./;
	for my $call (
		q{streamproc.create_pipeline('x', 'INSERT INTO old_sink SELECT id, p, o FROM tx')}, q{streamproc.alter_pipeline('old', parallelism => 1)}, q{streamproc.start_pipeline('old')},
		q{streamproc.stop_pipeline('old')}, q{streamproc.drop_pipeline('old')}, q{streamproc.check_pipeline('INSERT INTO old_sink SELECT id, p, o FROM tx')},
		q{streamproc.wait_until_caught_up('old')}, q{streamproc.wait_until_stopped('old')},
		($version eq '1.0' ? () : (q{streamproc.retry_dead_letters('old')}, q{streamproc.delete_dead_letters('old', now())})),
		map { "* FROM $_" } @{ $views{$version} })
	{
		like(error_of($old, "\\set VERBOSITY verbose\nSELECT $call") =~ s/LOCATION:.*\n//r, $of_version, "version $version: $call") or next;
	}
	like(error_of($old, 'DROP TABLE old_sink CASCADE'), qr/is of version $of_old/, "version $version: a pipeline cannot be dropped by the way");
	like(error_of($old, 'SELECT * FROM tx LIMIT 0'), qr/^$/, "version $version: topics can be read");
	q1($old, 'BEGIN; ALTER EXTENSION streamproc UPDATE; ROLLBACK');
	caught_up('postgres', 'here');
	is(q1('postgres', "$workers '$old'"), 0, "version $version: nothing runs, also not after an update that is rolled back");
	wait_until(sub { count_in(log_since($log), $line) == 2 }, 20);
	my $text = log_since($log);
	is(count_in($text, $line), 2, 'the log has one line for each look at the database');
	is(count_in($text, qr/streamproc (scanner|launcher|task).*(ERROR|FATAL)/), 0, 'and no errors of workers');

	# what others have made over the views stays
	q1($old, 'CREATE VIEW above AS SELECT p.pipeline, p.watermark, c.bytes FROM streamproc.stat_pipeline p LEFT JOIN streamproc.stat_checkpoint c USING (pipeline)');
	q1($old, 'ALTER EXTENSION streamproc UPDATE');
	exact($old, 'old', "version $version: after ALTER EXTENSION UPDATE it goes on by itself, from its positions");
	is(q1($old, "SELECT $options FROM streamproc.pipeline"), $options{$version}, "version $version: as it behaved before");
	is(q1($old, 'SELECT DISTINCT pipeline FROM above'), 'old', "version $version: a view over the views still works");
	q1($old, 'DROP VIEW above');
	is(q1($old, 'SELECT kind, topic, partition, "offset", retry FROM streamproc.dead_letter'), $version eq '1.0' ? '' : 'input|tx|0|0|f', "version $version: dead letters");
	is(q1($old, q{SELECT string_agg(has_function_privilege('clerk', oid, 'EXECUTE')::text, ' ') FROM pg_proc WHERE pronamespace = 'streamproc'::regnamespace AND proname ~ '^(create|alter|start|stop|drop|check)_pipeline'}),
		'true true true true true true', "version $version: grants on the old functions are kept");
	is(q1($old, q{SELECT string_agg(has_function_privilege('Odd one', oid, 'EXECUTE WITH GRANT OPTION')::text, ' ' ORDER BY proname) FROM pg_proc WHERE pronamespace = 'streamproc'::regnamespace AND proname ~ '^(alter|create|start|stop)_pipeline'}),
		'true false true false', "version $version: with their grant option, and no others");
	# what is there after the update is what CREATE EXTENSION makes
	q1($old, 'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamproc FROM clerk; REVOKE ALL ON FUNCTION streamproc.start_pipeline, streamproc.alter_pipeline FROM "Odd one"');
	is(q1($old, $members), $whole, "version $version: updated objects are those of a new extension");
	q1('postgres', "DROP DATABASE $old") if $version eq '1.0';
}

# SQL objects newer than the library
$log = -s $node->logfile;
q1('old11', q{UPDATE pg_extension SET extversion = '9.9' WHERE extname = 'streamproc'});
like(error_of('old11', q{SELECT streamproc.stop_pipeline('old')}), qr/is of version 9\.9, the library of version $of_now\nHINT:  Install the library of version 9\.9 and restart the server\./, 'a newer extension: refused, with what to do');
$node->restart;
exact('postgres', 'here', 'a newer extension: other databases go on');
ok(wait_until(sub { log_since($log) =~ /pipelines of database "old11" do not run.*is of version 9\.9.*\n.*HINT:  Install the library/ }, 20), 'a newer extension: the log says so');
is(q1('postgres', "$workers 'old11'"), 0, 'a newer extension: nothing runs');
send_rows(10);
q1('old11', "UPDATE pg_extension SET extversion = '$now' WHERE extname = 'streamproc'; ALTER EXTENSION streamproc UPDATE");
exact('old11', 'old', 'and all goes on with the right one');
q1('postgres', 'DROP DATABASE old11');
for my $version ('1.0', '1.1')
{
	q1('fresh', "DROP EXTENSION IF EXISTS streamproc; CREATE EXTENSION streamproc VERSION '$version'; DROP EXTENSION streamproc CASCADE");
	pass("DROP EXTENSION of version $version");
}
q1('postgres', 'DROP DATABASE fresh');

# ---------------------------------------------------------------- commands that need a database without workers
q1('postgres', 'CREATE DATABASE own OWNER ada');
q1('own', "CREATE EXTENSION streamproc; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO ada; $objects SET SESSION AUTHORIZATION ada;"
	  . pipeline('a', ', parallelism => 2') . pipeline('b', q{, on_error => 'fail'}));
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
goes_on('two pipelines under load, of a role that is no superuser');
my $begun = time;
q1('postgres', 'CREATE DATABASE copy TEMPLATE own');
diag(sprintf 'CREATE DATABASE ... TEMPLATE took %.1f s', time - $begun);
is(q1('copy', 'SELECT pipeline, state FROM streamproc.stat_pipeline ORDER BY 1'), "a|restored\nb|restored", 'CREATE DATABASE ... TEMPLATE of a database with running pipelines; those of the copy are restored');
is(q1('copy', "SELECT $right"), 't', 'the copy is right in itself');
goes_on('those of the template go on');
like(error_of('postgres', 'CREATE DATABASE copy TEMPLATE own'), qr/already exists/, 'the same, refused');
goes_on('and they go on');
like(error_of('postgres', 'BEGIN; CREATE DATABASE copy2 TEMPLATE own; ROLLBACK'), qr/cannot run inside a transaction block/, 'in a transaction block');
goes_on('and they go on');
my @pids = split /\n/, q1('own', 'SELECT pid FROM streamproc.stat_worker ORDER BY pid');
for my $command ('CREATE DATABASE copy2 TEMPLATE own', 'DROP DATABASE own', 'ALTER DATABASE own RENAME TO mine', 'ALTER DATABASE own SET TABLESPACE pg_default')
{
	like(error_of('postgres', "SET SESSION AUTHORIZATION clerk; $command"), qr/permission denied|must be owner/, "$command by somebody who may not");
}
is(join(' ', split /\n/, q1('own', 'SELECT pid FROM streamproc.stat_worker ORDER BY pid')), join(' ', @pids), 'disturbs nobody');
q1('copy', q{SELECT streamproc.start_pipeline(pipeline, adopt => true) FROM streamproc.stat_pipeline});
goes_on('adopted, the copy goes on from the moment of the copy', 'copy');
# a session in the database: the command waits five seconds; in that time nobody starts a worker, whatever is committed
my $session = $node->background_psql('own');
my $create = $node->background_psql('postgres');
$create->query_until(qr/begun/, "\\echo begun\nCREATE DATABASE copy2 TEMPLATE own;\n\\echo ended\n");
wait_query($node, "$workers 'own'", 0);
$session->query_safe(q{SELECT streamproc.alter_pipeline('a', parallelism => 1)});
# the supervisor has done what it had to do before it comes to this one
q1('postgres', q{SELECT streamproc.alter_pipeline('here', parallelism => 1)});
caught_up('postgres', 'here');
is(q1('postgres', "$workers 'own'"), 0, 'while the command waits for a session no worker comes back');
is($session->query_safe(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'streamproc scanner' AND datname = 'own'}), 0, 'and no scanner');
$session->quit;
$create->query_until(qr/ended/, "\n");
$create->quit;
is(q1('postgres', q{SELECT count(*) FROM pg_database WHERE datname = 'copy2'}), 1, 'it succeeds when the session has left');
goes_on('and the pipelines go on');
is(q1('own', q{SELECT tasks FROM streamproc.stat_pipeline WHERE pipeline = 'a'}), 1, 'as they were altered meanwhile');
# whoever runs the command is terminated
$session = $node->background_psql('own');
$create = $node->background_psql('postgres', on_error_stop => 0);
my $creator = $create->query_safe('SELECT pg_backend_pid()');
$create->query_until(qr/begun/, "\\echo begun\nCREATE DATABASE copy3 TEMPLATE own;\n");
wait_query($node, "$workers 'own'", 0);
q1('postgres', "SELECT pg_terminate_backend($creator)");
goes_on('a command that is terminated leaves nothing behind');
eval { $create->quit };
$session->quit;
q1('postgres', 'DROP DATABASE copy2');

q1('postgres', "SET allow_in_place_tablespaces = on; CREATE TABLESPACE ts LOCATION ''");
q1('postgres', 'ALTER DATABASE own SET TABLESPACE ts');
goes_on('ALTER DATABASE ... SET TABLESPACE');
q1('postgres', 'ALTER DATABASE own SET TABLESPACE pg_default');
q1('postgres', 'DROP TABLESPACE ts');
goes_on('and back');
q1('postgres', 'ALTER DATABASE own RENAME TO mine');
goes_on('RENAME', 'mine');
q1('postgres', 'ALTER DATABASE mine RENAME TO own');
q1('postgres', 'DROP DATABASE copy WITH (FORCE)');
is(q1('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'copy'}), 0, 'DROP DATABASE ... WITH (FORCE)');

# closed to connections: what runs goes on, what ends comes back when it is open again
q1('postgres', 'ALTER DATABASE own CONNECTION LIMIT 0');
q1('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'own' AND backend_type = 'streamproc launcher'});
wait_query($node, q{SELECT string_agg(backend_type, ' ' ORDER BY backend_type) FROM pg_stat_activity WHERE datname = 'own' AND backend_type ~ '^streamproc (launcher|task)'},
	join(' ', ('streamproc launcher') x 2, ('streamproc task') x 3));
q1('postgres', 'ALTER DATABASE own CONNECTION LIMIT -1');
goes_on('a connection limit does not count workers');
$log = -s $node->logfile;
q1('postgres', 'ALTER DATABASE own ALLOW_CONNECTIONS false');
is(q1('postgres', "$workers 'own'") > 0, 1, 'ALLOW_CONNECTIONS false: what runs goes on');
q1('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'own' AND backend_type = 'streamproc launcher'});
wait_query($node, "$workers 'own'", 0);
$node->restart;
exact_here('ALLOW_CONNECTIONS false: other databases go on after a restart');
is(q1('postgres', "$workers 'own'"), 0, 'ALLOW_CONNECTIONS false: nothing runs there');
q1('postgres', 'BEGIN; ALTER DATABASE own ALLOW_CONNECTIONS true; COMMIT');
goes_on('ALLOW_CONNECTIONS true: it goes on by itself');
is(count_in(log_since($log), qr/FATAL:  database "own" is not currently accepting/), 0, 'and nobody ran against the closed door');

sub exact_here
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	caught_up('postgres', 'here');
	is(q1('postgres', q{SELECT (SELECT count(*) FROM here_sink) = (SELECT sum(next_offset) FROM streamproc.position), (SELECT count(DISTINCT (p, o)) = count(*) FROM here_sink)}), 't|t', $_[0]);
}
$load->signal('TERM');
eval { $load->finish };
$node->stop('fast');
done_testing();

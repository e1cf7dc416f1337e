# Rights that change while a pipeline runs: revoked, given back; owners renamed, replaced, locked out, dropped; what a
# superuser's pipeline uses given to others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
streamproc.restart_backoff_max = '1s'
streamproc.metadata_interval = '200ms'
CONF
create_kafka_server($node, $kafka);
$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER kafka FROM PUBLIC');

sub q1 { my ($query, $db) = @_; return $node->safe_psql($db // 'postgres', $query) }
sub as { my ($role, $query) = @_; return q1("SET SESSION AUTHORIZATION $role; $query") }
sub stat_of { my ($what, $name) = @_; return q1("SELECT $what FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }
sub waits_with
{
	my ($name, $sqlstate, $pattern, $test) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_query($node, "SELECT state = 'waiting' AND sqlstate = '$sqlstate' FROM streamproc.stat_pipeline WHERE pipeline = '$name'");
	like(stat_of(q{reason || ' | ' || hint}, $name), qr/$pattern.*connect as its owner.*goes on by itself/, $test);
}
my $produced = 0;
sub flow { my $n = shift // 20; $kafka->produce('tx', map { { partition => $_ % 2, value => qq({"id": $_}) } } $produced + 1 .. $produced + $n); $produced += $n; }
# the sink holds each message of the topic once
sub each_once
{
	my ($sink, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(q1("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM $sink"), "$produced|$produced|1|$produced", $name);
}

$kafka->topic('tx', 2);
q1(<<'SQL');
CREATE ROLE alice LOGIN;
CREATE ROLE carol LOGIN;
CREATE ROLE boss LOGIN SUPERUSER;
CREATE ROLE operator LOGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO alice, carol, operator;
CREATE FOREIGN TABLE tx (id int) SERVER kafka OPTIONS (topic 'tx');
CREATE TABLE lookup (k int PRIMARY KEY, v int);
INSERT INTO lookup SELECT i, i FROM generate_series(0, 9) i;
CREATE SCHEMA tools;
CREATE FUNCTION tools.same(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION tools.inner_same(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1; END';
CREATE FUNCTION tools.trigger_same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := tools.inner_same(NEW.id); RETURN NEW; END';
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tools FROM PUBLIC;
CREATE ROLE writers;
GRANT USAGE ON FOREIGN SERVER kafka TO alice;
GRANT SELECT ON tx, lookup TO alice;
GRANT USAGE ON SCHEMA tools TO alice;
GRANT EXECUTE ON FUNCTION tools.same(int), tools.inner_same(int) TO alice;
SQL
flow();

# ---------------------------------------------------------------- rights revoked while it runs
# name => [ query, revoked, reason, further set-up ]; the sink is a table of the pipeline's name
my @revoked = (
	[ 'insert', 'INSERT INTO insert SELECT id FROM tx', 'INSERT ON insert', 'permission denied for table insert' ],
	[ 'upsert', 'INSERT INTO upsert SELECT id FROM tx ON CONFLICT (id) DO UPDATE SET id = excluded.id', 'UPDATE ON upsert', 'permission denied for table upsert',
		'ALTER TABLE upsert ADD PRIMARY KEY (id); GRANT SELECT, UPDATE ON upsert TO alice' ],
	[ 'reading', 'INSERT INTO reading SELECT id FROM tx JOIN lookup ON k = id % 10', 'SELECT ON lookup', 'permission denied for table lookup' ],
	[ 'topic', 'INSERT INTO topic SELECT id FROM tx', 'SELECT ON tx', 'permission denied for foreign table tx' ],
	[ 'server', 'INSERT INTO server SELECT id FROM tx', 'USAGE ON FOREIGN SERVER kafka', 'permission denied for foreign server kafka' ],
	[ 'called', 'INSERT INTO called SELECT tools.same(id) FROM tx', 'EXECUTE ON FUNCTION tools.same(int)', 'permission denied for function same' ],
	[ 'triggered', 'INSERT INTO triggered SELECT id FROM tx', 'EXECUTE ON FUNCTION tools.inner_same(int)', 'permission denied for function inner_same',
		'CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION tools.trigger_same()' ],
	[ 'schema', 'INSERT INTO schema SELECT id FROM tx', 'USAGE ON SCHEMA tools', 'permission denied for schema tools',
		'CREATE TRIGGER t BEFORE INSERT ON schema FOR EACH ROW EXECUTE FUNCTION tools.trigger_same()' ],
	[ 'member', 'INSERT INTO member SELECT id FROM tx', 'writers', 'permission denied for table member',
		'REVOKE INSERT ON member FROM alice; GRANT INSERT ON member TO writers; GRANT writers TO alice' ],
);
for my $case (@revoked)
{
	my ($name, $query, $right, $reason, $setup) = @$case;
	q1("CREATE TABLE $name (id int); GRANT INSERT ON $name TO alice; " . ($setup // ''));
	as('alice', "SELECT streamproc.create_pipeline('$name', '$query', parallelism => 2)");
	wait_caught_up($node, $name);
	my $before = $produced;
	q1("REVOKE $right FROM alice");
	flow();
	wait_state($node, $name, 'failed');
	is(stat_of('sqlstate || reason', $name), "42501$reason", "$right revoked: failed with the reason");
	like(stat_of('hint', $name), qr/start_pipeline|GRANT/, 'and what to do');
	is(q1("SELECT count(*), max(id) FROM $name"), "$before|$before", 'nothing came after it');
	is(q1("SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name'"), $before, 'nothing is skipped');
	is(q1("SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$name'"), 0, 'no message is to blame');
	# seen before any row, but for what only the trigger's code does
	is(stat_of('topic IS NULL', $name), 't', 'nor looked for') unless $name =~ /^(triggered|schema)$/;
	is(stat_of('coalesce(bad_rows, 0)', $name), 0, 'no row is bad');
	q1("GRANT $right TO alice");
	as('alice', "SELECT streamproc.start_pipeline('$name')");
	wait_caught_up($node, $name);
	each_once($name, 'granted again and started: each message once');
	q1("SELECT streamproc.drop_pipeline('$name')");
}
# the names of a statement are looked up when it is stored, as those of a view: USAGE on a schema is asked then
q1('CREATE TABLE stored (id int); GRANT INSERT ON stored TO alice');
as('alice', q{SELECT streamproc.create_pipeline('stored', 'INSERT INTO stored SELECT tools.same(id) FROM tx')});
wait_caught_up($node, 'stored');
q1('REVOKE USAGE ON SCHEMA tools FROM alice');
flow();
wait_caught_up($node, 'stored');
each_once('stored', 'USAGE on a schema named in the statements is not asked again');
q1(q{SELECT streamproc.drop_pipeline('stored'); GRANT USAGE ON SCHEMA tools TO alice});

# ---------------------------------------------------------------- a superuser that is none any more
q1('CREATE TABLE bossy (id int)');
as('boss', q{SELECT streamproc.create_pipeline('bossy', 'INSERT INTO bossy SELECT id FROM tx')});
wait_caught_up($node, 'bossy');
my $before = $produced;
q1('ALTER ROLE boss NOSUPERUSER');
flow();
wait_state($node, 'bossy', 'failed');
like(stat_of('sqlstate || reason', 'bossy'), qr/^42501permission denied for/, 'an owner who is no superuser any more needs rights');
is(q1('SELECT count(*) FROM bossy'), $before, 'at once');
q1('ALTER ROLE boss SUPERUSER');
q1(q{SELECT streamproc.start_pipeline('bossy')});
wait_caught_up($node, 'bossy');
each_once('bossy', 'and goes on when he is one again');
q1(q{SELECT streamproc.drop_pipeline('bossy')});

# ---------------------------------------------------------------- what a superuser's pipeline uses goes to others
q1(<<'SQL');
CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION plain(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
CREATE VIEW some_ids AS SELECT id FROM tx;
CREATE TABLE alices (id int CHECK (id < 0)); ALTER TABLE alices OWNER TO alice;
SQL
for my $case (
	[ 'table', 'super_sink', 'ALTER TABLE super_sink OWNER TO alice', 'ALTER TABLE super_sink OWNER TO postgres', 'table super_sink belongs to role "alice"' ],
	[ 'trigger function', 'super_sink', 'ALTER FUNCTION twice() OWNER TO alice', 'ALTER FUNCTION twice() OWNER TO postgres', 'function twice() belongs to role "alice"' ],
	[ 'function', 'super_sink', 'ALTER FUNCTION plain(int) OWNER TO alice', 'ALTER FUNCTION plain(int) OWNER TO postgres', 'function plain(integer) belongs to role "alice"' ],
	[ 'view', 'super_sink', 'ALTER VIEW some_ids OWNER TO alice', 'ALTER VIEW some_ids OWNER TO postgres', 'view some_ids belongs to role "alice"' ],
	[ 'attached partition', 'super_sink', 'ALTER TABLE super_sink ATTACH PARTITION alices FOR VALUES FROM (MINVALUE) TO (0)', 'ALTER TABLE super_sink DETACH PARTITION alices', 'table alices belongs to role "alice"', 1 ],
	[ 'partition', 'super_sink', 'ALTER TABLE super_1 OWNER TO alice', 'ALTER TABLE super_1 OWNER TO postgres', 'table super_1 belongs to role "alice"', 1 ],
	[ 'owner who is no superuser any more', 'super_sink', 'ALTER ROLE boss NOSUPERUSER', 'ALTER ROLE boss SUPERUSER', 'table super_sink belongs to role "boss"' ])
{
	my ($what, $sink, $give, $take, $reason, $partitioned) = @$case;
	q1($partitioned ? "CREATE TABLE $sink (id int) PARTITION BY RANGE (id); CREATE TABLE super_1 PARTITION OF $sink FOR VALUES FROM (0) TO (MAXVALUE)"
		: "CREATE TABLE $sink (id int); CREATE TRIGGER t BEFORE INSERT ON $sink FOR EACH ROW EXECUTE FUNCTION twice()");
	create_pipeline($node, 'super', "INSERT INTO $sink SELECT plain(id) FROM some_ids");
	q1("ALTER TABLE $sink OWNER TO boss") if $what =~ /^owner who/;
	flow();
	wait_caught_up($node, 'super');
	$before = $produced;
	q1($give);
	flow();
	wait_state($node, 'super', 'failed');
	is(stat_of('sqlstate || reason', 'super'), "42501$reason, which is not a superuser", "a superuser's pipeline, $what given away: failed");
	like(stat_of('hint', 'super'), qr/trust_owners => true/, 'with both ways on');
	is(q1("SELECT count(*) FROM $sink"), $before, 'at the next batch');
	q1(q{SELECT streamproc.start_pipeline('super')});
	wait_state($node, 'super', 'failed');
	if ($what =~ /^(table|attached partition)$/)
	{
		q1(q{SELECT streamproc.alter_pipeline('super', trust_owners => true)});
	}
	else
	{
		q1($take);
	}
	q1(q{SELECT streamproc.start_pipeline('super')});
	wait_caught_up($node, 'super');
	each_once($sink, 'trusted or taken back, it goes on: each message once');
	q1(q{SELECT streamproc.drop_pipeline('super')});
	q1($take) if $what eq 'attached partition';
	q1("DROP TABLE $sink");
}

# ---------------------------------------------------------------- the owner: renamed
q1('CREATE TABLE owned (id int); GRANT INSERT ON owned TO alice');
as('alice', q{SELECT streamproc.create_pipeline('owned', 'INSERT INTO owned SELECT id FROM tx', parallelism => 2); GRANT EXECUTE ON PROCEDURE streamproc_pipeline.owned TO operator});
wait_caught_up($node, 'owned');
my @pids = worker_pids($node, pipeline => 'owned');
q1('ALTER ROLE alice RENAME TO alicia');
flow();
wait_caught_up($node, 'owned');
is(stat_of('owner, state', 'owned'), 'alicia|running', 'a renamed owner');
is(join(' ', worker_pids($node, pipeline => 'owned')), join(' ', @pids), 'the same processes go on');
q1('ALTER ROLE alicia RENAME TO alice');

# ---------------------------------------------------------------- replaced
q1('REASSIGN OWNED BY alice TO carol');
flow();
wait_state($node, 'owned', 'failed');
like(stat_of('sqlstate || reason', 'owned'), qr/^42501permission denied for/, 'REASSIGN OWNED to a role without the rights');
is(stat_of('owner', 'owned'), 'carol', 'is shown');
q1('GRANT SELECT ON tx TO carol; GRANT INSERT ON owned TO carol; GRANT USAGE ON FOREIGN SERVER kafka TO carol');
as('operator', q{SELECT streamproc.start_pipeline('owned')});
wait_caught_up($node, 'owned');
each_once('owned', 'with them it goes on as the new owner');
is(q1(q{SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'streamproc % of owned'}), 'carol', 'its workers are his');
q1('REASSIGN OWNED BY carol TO alice');
wait_query($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'streamproc % of owned' AND usename = 'alice'}, 3);
flow();
wait_caught_up($node, 'owned');
each_once('owned', 'and back, to one who has them, while it runs: nothing lost, nothing twice');
is(q1(q{SELECT proacl FROM pg_proc WHERE proname = 'owned'}), '{operator=X/alice}', 'the grants stay');

# ---------------------------------------------------------------- locked out
for my $case (
	[ 'NOLOGIN', 'ALTER ROLE alice NOLOGIN', 'ALTER ROLE alice LOGIN', '28000', 'role "alice" is not permitted to log in' ],
	[ 'CONNECT revoked', 'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC', 'GRANT CONNECT ON DATABASE postgres TO PUBLIC', '42501', 'permission denied for database "postgres"' ])
{
	my ($what, $out, $in, $sqlstate, $reason) = @$case;
	q1($out);
	flow();
	wait_caught_up($node, 'owned');
	is(stat_of('state', 'owned'), 'running', "$what: who is connected goes on");
	# a task that has to be started again
	q1(q{SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE pipeline = 'owned' AND task = 0});
	waits_with('owned', $sqlstate, $reason, 'a task that cannot connect says why');
	q1($in);
	wait_state($node, 'owned', 'running');
	q1($out);
	# and the launcher
	q1(q{SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE pipeline = 'owned' AND role = 'launcher'});
	waits_with('owned', $sqlstate, $reason, 'a launcher, too');
	flow();
	my ($out_text, $err) = ('', '');
	$node->psql('postgres', q{SELECT streamproc.wait_until_caught_up('owned', '1 s')}, stdout => \$out_text, stderr => \$err);
	like($err, qr/It waits: \Q$reason\E/, 'and who waits for it hears it');
	# a restart of the server
	$node->restart;
	waits_with('owned', $sqlstate, $reason, 'over a restart of the server');
	cmp_ok(stat_of('restarts', 'owned'), '<', 50, 'it is not tried in a tight loop');
	like(do { $node->psql('postgres', q{SELECT streamproc.stop_pipeline('owned'); SELECT streamproc.start_pipeline('owned')}, stderr => \$err); $err },
		qr/"alice" (is not permitted to log in|has no CONNECT privilege)/, 'start_pipeline() says it at once');
	q1(q{SELECT streamproc.wait_until_stopped('owned')});
	is(stat_of('state', 'owned'), 'stopped', 'and it can be stopped meanwhile');
	q1($in);
	q1(q{SELECT streamproc.start_pipeline('owned')});
	wait_caught_up($node, 'owned');
	wait_state($node, 'owned', 'running');
	is(stat_of(q{coalesce(reason, 'none')}, 'owned'), 'none', 'mended, no reason stays');
	each_once('owned', "$what and back: each message once");
}

# ---------------------------------------------------------------- connection limits are for sessions
{
	my @sessions = map { $node->background_psql('postgres') } 1 .. 2;
	$_->query_safe('SET SESSION AUTHORIZATION alice') for @sessions;
	q1('ALTER ROLE alice CONNECTION LIMIT 0; ALTER DATABASE postgres CONNECTION LIMIT 0');
	my ($launcher) = worker_pids($node, pipeline => 'owned', role => 'launcher');
	q1("SELECT pg_terminate_backend($launcher)");
	wait_query($node, "SELECT pid <> $launcher FROM streamproc.stat_worker WHERE pipeline = 'owned' AND role = 'launcher'");
	flow();
	wait_caught_up($node, 'owned');
	each_once('owned', 'workers are not kept out by connection limits');
	$_->quit for @sessions;
}
q1('ALTER ROLE alice CONNECTION LIMIT -1; ALTER DATABASE postgres CONNECTION LIMIT -1');

# ---------------------------------------------------------------- grants travel with dump and restore
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
q1('CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $dump ], 'pg_restore');
is(q1(q{SELECT proacl FROM pg_proc WHERE proname = 'owned'}, 'copy'), '{operator=X/alice}', 'grants on a pipeline');
is(q1(q{SELECT has_function_privilege('operator', 'streamproc.stop_pipeline(text, boolean)', 'execute')}, 'copy'), 't', 'and on the functions');
like(do { my $err; $node->psql('copy', q{SET SESSION AUTHORIZATION operator; SELECT streamproc.start_pipeline('owned', adopt => true)}, stderr => \$err); $err },
	qr/must be owner of pipeline "owned"/, 'an operator does not adopt');
is(q1(q{SET SESSION AUTHORIZATION operator; SELECT pipeline, state FROM streamproc.stat_pipeline}, 'copy'), 'owned|restored', 'but sees it');
q1('DROP DATABASE copy');

# ---------------------------------------------------------------- dropped
my $err;
$node->psql('postgres', 'DROP ROLE alice', stderr => \$err);
like($err, qr/role "alice" cannot be dropped because some objects depend on it.*owner of (function|procedure) streamproc_pipeline\.owned/s, 'DROP ROLE of an owner is refused');
$node->psql('postgres', 'DROP ROLE operator', stderr => \$err);
like($err, qr/privileges for (function|procedure) streamproc_pipeline\.owned/, 'and of an operator');
q1('DROP OWNED BY operator; DROP ROLE operator');
is(q1(q{SELECT proacl FROM pg_proc WHERE proname = 'owned'}), '{}', 'DROP OWNED BY an operator takes his grants');
q1('DROP OWNED BY alice');
is(q1('SELECT count(*) FROM streamproc.pipeline'), 0, 'DROP OWNED BY the owner drops his pipelines');
wait_query($node, q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'streamproc % of %'}, 0);
q1('DROP TABLE alices') if q1(q{SELECT to_regclass('alices') IS NOT NULL}) eq 't';
q1('DROP ROLE alice');
pass('then he can be dropped');

done_testing();

# Brokers that want a login, over TLS and without; wrong logins and certificates; streamproc.allowed_brokers; and that
# no secret is found anywhere afterwards.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new(secure => 1);
$kafka->scram_user('app', 'scram-secret-1');

my $node = create_node('main', conf => <<'CONF');
log_min_messages = debug1
log_error_verbosity = verbose
log_statement = none
streamproc.restart_backoff_max = '1s'
streamproc.metadata_interval = '500ms'
CONF

# the parts by which a secret is known again; a key or certificate: each of its lines but the first and last
my %secret = map { ($_ => [$_]) }
  qw(scram-secret-1 scram-secret-2 plain-secret wrong-secret client-key-secret keystore-secret garbage-secret misplaced-secret);
for my $pem (qw(client client.key client.encrypted stranger stranger.key))
{
	$secret{$pem} = [ grep { !/^-/ && length } split /\n/, $kafka->pem($pem) ];
}
my $ca = $kafka->pem('ca');
my $errors = '';		# all that psql said

# Runs as a role; returns the error text, and the result in list context.
sub run_as
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-U', $role ]);
	$errors .= "$err\n";
	return wantarray ? ($out, $err) : $err;
}
sub app { return run_as('app', @_) }
sub admin { return run_as((getpwuid $<)[0], @_) }
sub value
{
	my ($role, $sql) = @_;
	my ($out, $err) = run_as($role, $sql);
	return $err eq '' ? $out : "error: $err";
}
sub does { my ($role, $sql, $name) = @_; is(scalar run_as($role, $sql), '', $name) }
sub fails { my ($role, $sql, $pattern, $name) = @_; like(scalar run_as($role, $sql), $pattern, $name) }
sub options { my (%o) = @_; return join(', ', map { "$_ '$o{$_}'" } sort keys %o) }
sub reason { my ($name) = @_; return value('app', "SELECT reason || coalesce(' | ' || detail, '') FROM streamproc.stat_pipeline WHERE pipeline = '$name'") }
# waits until the pipeline waits for such a reason
sub waits_for
{
	my ($name, $pattern, $text) = @_;
	my $ok = wait_until(
		sub {
			return value('app', "SELECT state FROM streamproc.stat_pipeline WHERE pipeline = '$name'") eq 'waiting'
			  && reason($name) =~ $pattern;
		});
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($ok, $text) or diag(reason($name));
}
my %rows;	# rows sent to a topic
sub send_rows
{
	my ($topic, $n) = @_;
	my $from = ($rows{$topic} // 0) + 1;
	$rows{$topic} += $n;
	return "INSERT INTO ${topic}_t (id) SELECT i FROM generate_series($from, $rows{$topic}) i";
}
# each row once
sub complete
{
	my ($topic, $text) = @_;
	wait_caught_up($node, $topic);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value('app', "SELECT count(*), sum(id) FROM $topic"), join('|', $rows{$topic}, $rows{$topic} * ($rows{$topic} + 1) / 2), $text);
}
# messages by the plain listener, when ours is shut
sub produce_rows
{
	my ($topic, $n) = @_;
	my $from = $rows{$topic} + 1;
	$rows{$topic} += $n;
	$kafka->produce($topic, map { { partition => $_ % 2, value => qq({"id": $_}) } } $from .. $rows{$topic});
}

is(scalar admin('CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; GRANT CREATE ON SCHEMA public TO app; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO app;'),
	'', 'roles');

# a topic, server, mapping of the role app, foreign table, target and pipeline of one name
sub set_up
{
	my ($name, $server, $mapping) = @_;
	$kafka->topic($name, 2);
	does('app', "CREATE TABLE $name (id int)", "$name: table");
	does(
		(getpwuid $<)[0],
		"CREATE SERVER $name FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (" . options(%$server) . "); GRANT USAGE ON FOREIGN SERVER $name TO app, other",
		"$name: server");
	does('app', "CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (" . options(%$mapping) . ')', "$name: mapping") if $mapping;
	does('app', "CREATE FOREIGN TABLE ${name}_t (id int) SERVER $name OPTIONS (topic '$name')", "$name: foreign table");
}
sub start { my ($name) = @_; does('app', "SELECT streamproc.create_pipeline('$name', 'INSERT INTO $name SELECT id FROM ${name}_t')", "$name: pipeline") }

# ---------------------------------------------------------------- every way in: INSERT, SELECT, a pipeline that runs
my %sasl = (brokers => $kafka->address('sasl'), security_protocol => 'sasl_plaintext');
my %sasl_tls = (brokers => $kafka->address('sasl_tls'), security_protocol => 'sasl_ssl', ssl_ca_pem => $ca);
my %tls = (brokers => $kafka->address('tls'), security_protocol => 'ssl', ssl_ca_pem => $ca);
my %scram = (sasl_username => 'app', sasl_password => 'scram-secret-1');
my %client = (ssl_certificate_pem => $kafka->pem('client'));
my %ways = (
	scram256 => [ { %sasl, sasl_mechanism => 'SCRAM-SHA-256' }, {%scram} ],
	scram512 => [ { %sasl, sasl_mechanism => 'SCRAM-SHA-512' }, {%scram} ],
	scram_tls => [ { %sasl_tls, sasl_mechanism => 'SCRAM-SHA-256' }, {%scram} ],
	plain_tls => [ { %sasl_tls, sasl_mechanism => 'PLAIN' }, { sasl_username => 'plain', sasl_password => 'plain-secret' } ],
	cert => [ {%tls}, { %client, ssl_key_pem => $kafka->pem('client.key') } ],
	cert_enc => [ {%tls}, { %client, ssl_key_pem => $kafka->pem('client.encrypted'), ssl_key_password => 'client-key-secret' } ]);
for my $name (sort keys %ways)
{
	set_up($name, @{ $ways{$name} });
	does('app', send_rows($name, 100), "$name: INSERT");
	is(value('app', "SELECT count(*) FROM ${name}_t"), 100, "$name: SELECT");
	start($name);
	complete($name, "$name: the pipeline reads it");
	does('app', send_rows($name, 100), "$name: INSERT while it runs");
	complete($name, "$name: and goes on");
}

# files of the server, which a superuser may name, and a keystore of both
my $tls = $kafka->dir . '/tls';
my $super = (getpwuid $<)[0];
command_ok([ qw(openssl pkcs12 -export -in), "$tls/client.pem", '-inkey', "$tls/client.key.pem", '-passout', 'pass:keystore-secret', '-out', "$tls/client.p12" ], 'a keystore');
my %files = (
	files => { ssl_certificate_location => "$tls/client.pem", ssl_key_location => "$tls/client.key.pem" },
	keystore => { ssl_keystore_location => "$tls/client.p12", ssl_keystore_password => 'keystore-secret' });
for my $name (sort keys %files)
{
	set_up($name, { %tls{qw(brokers security_protocol)}, ssl_ca_location => "$tls/ca.pem" });
	fails('app', "CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (" . options(%{ $files{$name} }) . ')', qr/permission denied to set option/, "$name: not for everybody");
	does($super, "CREATE USER MAPPING FOR app SERVER $name OPTIONS (" . options(%{ $files{$name} }) . ')', "$name: mapping");
	does('app', send_rows($name, 10), "$name: INSERT");
	start($name);
	complete($name, "$name: the pipeline reads it");
}

fails('other', 'SELECT * FROM scram256_t', qr/permission denied/, 'another role has no right on the table');
does('app', 'GRANT SELECT ON scram256_t TO other', 'given the right');
fails('other', 'SELECT * FROM scram256_t', qr/could not create Kafka client.*username and sasl.password must be set/s, 'it has no login at the broker');

# ---------------------------------------------------------------- wrong ways in
# breaks something under a running pipeline, sees what is said, mends it
sub broken
{
	my ($name, $text, $role, $break, $mend, $waits, $select) = @_;
	does($role, $break, "$text: is set");
	waits_for($name, $waits, "$text: the pipeline waits and says so");
	fails('app', "SELECT count(*) FROM ${name}_t", $select // $waits, "$text: so does SELECT");
	fails('app', "INSERT INTO ${name}_t VALUES (0)", $select // $waits, "$text: so does INSERT");
	produce_rows($name, 10);
	does($role, $mend, "$text: is corrected");
	complete($name, "$text: the pipeline goes on by itself");
}
sub mapping
{
	my ($name, $set) = @_;
	return "ALTER USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS ($set)";
}
my $login = qr/Authentication failed/;
my $untrusted = qr/certificate verify failed/;
broken('scram256', 'wrong password, SCRAM', 'app', mapping('scram256', q(SET sasl_password 'wrong-secret')),
	mapping('scram256', q(SET sasl_password 'scram-secret-1')), qr/^login to the broker failed: .*$login/, $login);
is(value('app', q(SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'scram256')), '', 'a running pipeline has no error');
broken('scram512', 'unknown user, SCRAM', 'app', mapping('scram512', q(SET sasl_username 'nobody')),
	mapping('scram512', q(SET sasl_username 'app')), qr/^login to the broker failed: .*$login/, $login);
broken('plain_tls', 'wrong password, PLAIN over TLS', 'app', mapping('plain_tls', q(SET sasl_password 'wrong-secret')),
	mapping('plain_tls', q(SET sasl_password 'plain-secret')), qr/^login to the broker failed: .*$login/, $login);
broken('scram_tls', 'wrong CA', $super, "ALTER SERVER scram_tls OPTIONS (SET ssl_ca_pem '" . $kafka->pem('other-ca') . "')",
	"ALTER SERVER scram_tls OPTIONS (SET ssl_ca_pem '$ca')", qr/^login to the broker failed: .*$untrusted/, $untrusted);
broken('scram_tls', 'no CA', $super, 'ALTER SERVER scram_tls OPTIONS (DROP ssl_ca_pem)',
	"ALTER SERVER scram_tls OPTIONS (ADD ssl_ca_pem '$ca')", qr/^login to the broker failed: .*$untrusted/, $untrusted);
# the certificate is for 127.0.0.1
my ($port) = $kafka->address('sasl_tls') =~ /:(\d+)/;
broken('scram_tls', 'host name mismatch', $super, "ALTER SERVER scram_tls OPTIONS (SET brokers 'localhost:$port')",
	"ALTER SERVER scram_tls OPTIONS (SET brokers '127.0.0.1:$port')", qr/^login to the broker failed: .*$untrusted/, $untrusted);
# a superuser may do without
does($super, "ALTER SERVER scram_tls OPTIONS (SET brokers 'localhost:$port', ADD ssl_endpoint_identification_algorithm 'none')", 'any name will do');
is(value('app', 'SELECT count(*) FROM scram_tls_t'), $rows{scram_tls}, 'not looked at: it works');
does($super, "ALTER SERVER scram_tls OPTIONS (DROP ssl_ca_pem, ADD enable_ssl_certificate_verification 'false')", 'any certificate will do');
is(value('app', 'SELECT count(*) FROM scram_tls_t'), $rows{scram_tls}, 'not looked at: it works');
does($super, "ALTER SERVER scram_tls OPTIONS (SET brokers '127.0.0.1:$port', ADD ssl_ca_pem '$ca', DROP enable_ssl_certificate_verification, DROP ssl_endpoint_identification_algorithm)", 'careful again');
my ($certificate, $key) = map { $kafka->pem($_) } qw(client client.key);
my $missing = qr/alert (bad certificate|certificate required)/;
broken('cert', 'no client certificate', 'app', mapping('cert', 'DROP ssl_certificate_pem, DROP ssl_key_pem'),
	mapping('cert', "ADD ssl_certificate_pem '$certificate', ADD ssl_key_pem '$key'"), qr/^login to the broker failed: .*$missing/, $missing);
my $stranger = qr/alert (certificate unknown|unknown ca|bad certificate)/;
broken('cert', 'client certificate of another CA', 'app',
	mapping('cert', "SET ssl_certificate_pem '" . $kafka->pem('stranger') . "', SET ssl_key_pem '" . $kafka->pem('stranger.key') . "'"),
	mapping('cert', "SET ssl_certificate_pem '$certificate', SET ssl_key_pem '$key'"), qr/^login to the broker failed: .*$stranger/, $stranger);
broken('cert', 'key of another certificate', 'app', mapping('cert', "SET ssl_key_pem '" . $kafka->pem('stranger.key') . "'"),
	mapping('cert', "SET ssl_key_pem '$key'"), qr/could not create Kafka client \| .*key values mismatch/, qr/could not create Kafka client.*key values mismatch/s);
broken('cert', 'key that is none', 'app', mapping('cert', "SET ssl_key_pem 'garbage-secret'"),
	mapping('cert', "SET ssl_key_pem '$key'"), qr/could not create Kafka client \| ssl\.key\.pem failed/, qr/could not create Kafka client.*ssl\.key\.pem failed/s);
broken('cert_enc', 'wrong password of the key', 'app', mapping('cert_enc', "SET ssl_key_password 'wrong-secret'"),
	mapping('cert_enc', "SET ssl_key_password 'client-key-secret'"), qr/could not create Kafka client \| .*maybe wrong password/, qr/could not create Kafka client.*maybe wrong password/s);
broken('cert_enc', 'no password of the key', 'app', mapping('cert_enc', 'DROP ssl_key_password'),
	mapping('cert_enc', "ADD ssl_key_password 'client-key-secret'"), qr/could not create Kafka client \| .*password/, qr/could not create Kafka client.*password/s);
broken('scram512', 'no mapping', 'app', 'DROP USER MAPPING FOR CURRENT_USER SERVER scram512',
	q(CREATE USER MAPPING FOR CURRENT_USER SERVER scram512 OPTIONS (sasl_username 'app', sasl_password 'scram-secret-1')),
	qr/could not create Kafka client \| .*must be set/, qr/could not create Kafka client.*must be set/s);
# a pipeline may be made while the login is wrong
does('app', mapping('scram512', q(SET sasl_password 'wrong-secret')), 'wrong password before there is a pipeline');
does('app', 'CREATE TABLE early (id int)', 'another table');
fails('app', q(SELECT streamproc.create_pipeline('early', 'INSERT INTO early SELECT id FROM scram512_t')),
	qr/^psql:[^\n]*NOTICE:[^\n]*the broker cannot be reached now: [^\n]*$login/, 'create_pipeline tells of it');
waits_for('early', $login, 'it waits');
does('app', mapping('scram512', q(SET sasl_password 'scram-secret-1')), 'corrected');
wait_caught_up($node, 'early');
is(value('app', 'SELECT count(*) FROM early'), $rows{scram512}, 'it has read all');

# ---------------------------------------------------------------- an outage is not taken for a wrong login
$kafka->kill;
for my $name (qw(scram256 plain_tls cert))
{
	waits_for($name, qr/^broker unreachable: .*refused/, "$name: broker killed");
}
$kafka->start;
produce_rows($_, 10) for qw(scram256 plain_tls cert);
complete($_, "$_: goes on") for qw(scram256 plain_tls cert);

# sizes that contradict each other: each is within its bounds
does($super, "ALTER SERVER plain_tls OPTIONS (ADD receive_message_max_bytes '2000000')", 'a size');
fails('app', 'SELECT * FROM plain_tls_t', qr/could not create Kafka client.*must be >=/s, 'smaller than another one');
waits_for('plain_tls', qr/could not create Kafka client \| .*must be >=/, 'the pipeline waits');
does($super, 'ALTER SERVER plain_tls OPTIONS (ADD fetch_max_bytes \'1500000\')', 'the other one made smaller');
complete('plain_tls', 'it goes on');
does($super, 'ALTER SERVER plain_tls OPTIONS (DROP receive_message_max_bytes, DROP fetch_max_bytes)', 'as before');

# ---------------------------------------------------------------- the broker changes the password while we run
$kafka->scram_user('app', 'scram-secret-2');
produce_rows('scram256', 10);
complete('scram256', 'password changed: the connection that is there goes on');
fails('app', 'SELECT count(*) FROM scram256_t', $login, 'a new one fails');
$kafka->restart;
waits_for('scram256', qr/^login to the broker failed: .*$login/, 'broker started again: the pipeline waits and says so');
waits_for('scram_tls', qr/^login to the broker failed: .*$login/, 'over TLS as well');
produce_rows('scram256', 10);
does('app', mapping($_, q(SET sasl_password 'scram-secret-2')), "$_: new password in the mapping") for qw(scram256 scram512 scram_tls);
produce_rows($_, 10) for qw(scram512 scram_tls plain_tls cert);
complete($_, "$_: nothing is lost or doubled") for qw(scram256 scram512 scram_tls plain_tls cert cert_enc);

# ---------------------------------------------------------------- allowed brokers
my ($plain, $redirect) = ($kafka->address, $kafka->address('redirect'));
my ($plain_port) = $plain =~ /:(\d+)/;
my $not_allowed = sub { my ($address) = @_; return qr/broker "\Q$address\E" is not allowed by streamproc\.allowed_brokers/ };
sub allow
{
	my ($list) = @_;
	is(scalar admin("ALTER SYSTEM SET streamproc.allowed_brokers = '$list'"), '', "allowed brokers: $list");
	$node->reload;
	# a session sees it when it begins after the postmaster has read it
	wait_query($node, 'SHOW streamproc.allowed_brokers', $list);
}
set_up('open', { brokers => $plain });
set_up('moved', { brokers => $redirect });
does('app', send_rows('open', 10), 'all are allowed: INSERT');
does('app', send_rows('moved', 10), 'all are allowed: INSERT by way of another listener');
start($_) for qw(open moved);
complete($_, "all are allowed: pipeline $_") for qw(open moved);

allow($redirect);
for my $name (qw(open moved))
{
	waits_for($name, qr/^${\ $not_allowed->($plain)}/, "$name: a running pipeline stops and says why");
	fails('app', "\\set VERBOSITY verbose\nSELECT count(*) FROM ${name}_t", qr/ERROR:  42501: ${\ $not_allowed->($plain)}.*HINT:  A superuser can add it/s, "$name: SELECT");
	fails('app', "SET streamproc.connect_timeout = '1s';\n\\set VERBOSITY verbose\nINSERT INTO ${name}_t VALUES (0)",
		qr/42501: .*${\ $not_allowed->($plain)}.*HINT:  A superuser can add it/s, "$name: INSERT");
}
fails($super, 'SELECT count(*) FROM open_t', $not_allowed->($plain), 'superusers are no exception');
does('app', 'CREATE TABLE refused (id int)', 'a table');
fails('app', q(SELECT streamproc.create_pipeline('refused', 'INSERT INTO refused SELECT id FROM open_t')), $not_allowed->($plain), 'create_pipeline');
produce_rows($_, 10) for qw(open moved);
$node->restart;
waits_for($_, qr/^${\ $not_allowed->($plain)}/, "$_: so after a restart of the server") for qw(open moved);
is(value('app', q(SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'open')), '42501', 'with the SQLSTATE');
allow("$redirect, $plain");
complete($_, "$_: allowed again, it goes on by itself") for qw(open moved);

# a pipeline that has no position yet
allow($redirect);
does('app', 'CREATE TABLE fresh (id int)', 'a table');
like(scalar app(q(SELECT streamproc.create_pipeline('fresh', 'INSERT INTO fresh SELECT id FROM moved_t'))), qr/^$/, 'a new pipeline that is led elsewhere');
waits_for('fresh', qr/^${\ $not_allowed->($plain)}/, 'it waits');
is(value('app', q(SELECT sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'fresh')), '42501', 'with the SQLSTATE');
allow('*');
wait_caught_up($node, 'fresh');
is(value('app', 'SELECT count(*) FROM fresh'), $rows{moved}, 'and goes on when it is allowed');

# what a list allows: brokers as the server names them
my @lists = (
	[ '127.0.0.1', '127.0.0.1:9', 1 ], [ '127.0.0.1:9', '127.0.0.1:9', 1 ], [ '127.0.0.1:10', '127.0.0.1:9', 0 ],
	[ '127.0.0.0/8', '127.1.2.3:9', 1 ], [ '127.0.0.0/8:9', '127.1.2.3:9', 1 ], [ '127.0.0.0/8:10', '127.1.2.3:9', 0 ],
	[ '128.0.0.0/8', '127.1.2.3:9', 0 ], [ '127.0.0.0/9', '127.128.0.1:9', 0 ], [ '127.0.0.0/15', '127.1.2.3:9', 1 ],
	[ '0.0.0.0/0', '127.0.0.1:9', 1 ], [ '::/0', '127.0.0.1:9', 0 ], [ '::1', '[::1]:9', 1 ], [ '[::1]:9', '[::1]:9', 1 ],
	[ '[::1]:10', '[::1]:9', 0 ], [ '::/0', '[::1]:9', 1 ], [ '0.0.0.0/0', '[::1]:9', 0 ], [ '::1', '[0:0::1]:9', 1 ],
	[ '127.0.0.1', '[::ffff:127.0.0.1]:9', 1 ], [ '::ffff:127.0.0.0/104', '127.9.9.9:9', 1 ],
	[ '*:9', '127.0.0.1:9', 1 ], [ '*:10', '127.0.0.1:9', 0 ], [ '*:9092', '127.0.0.1', 1 ], [ '', '127.0.0.1:9', 0 ],
	[ 'localhost', 'localhost:9', 1 ], [ 'LocalHost.', 'localhost:9', 1 ], [ 'localhost', 'LOCALHOST.:9', 1 ],
	[ 'localhost:10', 'localhost:9', 0 ], [ 'localhost', '127.0.0.1:9', 0 ], [ '127.0.0.0/8, ::1', 'localhost:9', 1 ],
	[ '10.0.0.0/8', 'localhost:9', 0 ], [ '*.localhost', 'localhost:9', 0 ], [ '*.example.com', 'example.com:9', 0 ],
	[ '*.example.com', 'badexample.com:9', 0 ], [ 'example.com', 'www.example.com:9', 0 ], [ 'a, b , localhost', 'localhost:9', 1 ],
	[ 'localhost', 'localhost:9, 127.0.0.1:9', 0 ]);
does('app', 'DROP TABLE IF EXISTS refused', 'done with it');
for (@lists)
{
	my ($list, $brokers, $allowed) = @$_;
	$node->append_conf('postgresql.auto.conf', "streamproc.allowed_brokers = '$list'");
	$node->reload;
	wait_query($node, 'SHOW streamproc.allowed_brokers', $list);
	# nothing listens on port 9: allowed is what comes to another error
	my $err = admin("SET streamproc.connect_timeout = '1s'; ALTER SERVER open OPTIONS (SET brokers '$brokers'); SELECT * FROM open_t");
	if ($allowed) { like($err, qr/could not connect to Kafka server/, "list \"$list\" allows $brokers") }
	else { like($err, qr/is not allowed by streamproc/, "list \"$list\" does not allow $brokers") }
}
allow('*');
does($super, "ALTER SERVER open OPTIONS (SET brokers '$plain')", 'the right brokers again');
complete('open', 'nothing is lost or doubled');

# a malformed list in the file: the old one stays
my $offset = -s $node->logfile;
$node->append_conf('postgresql.auto.conf', "streamproc.allowed_brokers = 'a,,b'");
$node->reload;
ok(wait_until(sub { slurp_file($node->logfile, $offset) =~ /invalid value for parameter "streamproc.allowed_brokers": "a,,b"/ }), 'a malformed list is refused at reload');
is(value('app', 'SELECT count(*) FROM open_t'), $rows{open}, 'and the old one stays');
fails('app', q(ALTER SYSTEM SET streamproc.allowed_brokers = '*'), qr/permission denied/, 'only a superuser can change it');
does($super, 'ALTER SYSTEM RESET streamproc.allowed_brokers', 'back to the default');

# ---------------------------------------------------------------- statements that fail, with a secret in them
my $before = -s $node->logfile;
fails($super, q(CREATE SERVER bad FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'b', sasl_password 'misplaced-secret')),
	qr/must not be set for a server/, 'a secret of a server');
fails($super, q(ALTER SERVER open OPTIONS (ADD ssl_key_pem 'misplaced-secret')), qr/must not be set for a server/, 'added to a server');
fails($super, q(CREATE FOREIGN TABLE bad (id int) SERVER open OPTIONS (topic 't', sasl_password 'misplaced-secret')), qr/invalid option/, 'of a table');
fails('app', q(ALTER FOREIGN TABLE open_t OPTIONS (ADD sasl_password 'misplaced-secret')), qr/invalid option/, 'added to a table');
fails('app', q(CREATE USER MAPPING FOR CURRENT_USER SERVER open OPTIONS (sasl_pasword 'misplaced-secret')), qr/invalid option/, 'a misspelt option');
fails('app', q(CREATE USER MAPPING FOR CURRENT_USER SERVER scram256 OPTIONS (sasl_password 'misplaced-secret')), qr/already exists/, 'a mapping that exists');
fails('app', q(CREATE USER MAPPING FOR CURRENT_USER SERVER opne OPTIONS (sasl_password 'misplaced-secret')), qr/does not exist/, 'a server that does not');
fails('app', mapping('scram256', q(ADD sasl_password 'misplaced-secret')), qr/provided more than once/, 'an option that is there');
fails('other', q(ALTER USER MAPPING FOR app SERVER scram256 OPTIONS (SET sasl_password 'misplaced-secret')), qr/permission denied|must be owner/, "another's mapping");
fails('app', q(DO $$ BEGIN EXECUTE 'CREATE USER MAPPING FOR CURRENT_USER SERVER scram256 OPTIONS (sasl_password ' || quote_literal('misplaced' || '-secret') || ')'; END $$),
	qr/already exists/, 'inside of a function');
# psql shows the statement that a function ran to the one who ran it
$errors =~ s/^CONTEXT:.*//mg;
fails('app', q(SELECT 1/0 AS "the log has statements"), qr/division by zero/, 'another failing statement');
ok(wait_until(sub { slurp_file($node->logfile, $before) =~ /STATEMENT:  SELECT 1\/0 AS "the log has statements"/ }), 'is in the log');

# ---------------------------------------------------------------- nothing of it is found
sub has_no_secret
{
	my ($text, $name, @except) = @_;
	my @found;
	for my $what (sort keys %secret)
	{
		next if grep { $_ eq $what } @except;
		push @found, $what if grep { index($text, $_) >= 0 } @{ $secret{$what} };
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(', ', @found), '', "no secret in $name");
}
# the test of the test: it would find them
my $dump = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'pg_dump');
my $dumped = slurp_file($dump);
my @mappings = $dumped =~ /^CREATE USER MAPPING .*?^\);$/msg;
is(scalar @mappings, 8, 'the dump of a superuser has the mappings');
for my $what (qw(scram-secret-2 client-key-secret keystore-secret client client.key client.encrypted))
{
	ok((grep { index("@mappings", $_) >= 0 } @{ $secret{$what} }), "$what is in them");
}
$dumped =~ s/^CREATE USER MAPPING .*?^\);$//msg;
has_no_secret($dumped, 'the rest of the dump');
command_ok([ 'pg_dump', '-U', 'app', '-n', 'public', '-p', $node->port, '-h', $node->host, '-f', $dump, 'postgres' ], 'pg_dump of app');
has_no_secret(slurp_file($dump), 'a dump that is no superuser\'s');

# the tasks run, so what they show and where they come from is there
$_ eq 'cert' || complete($_, "$_ runs") for qw(scram256 cert_enc);
my @pids = worker_pids($node);
ok(@pids >= 8, 'workers run: ' . scalar @pids);
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr;
my ($cmdlines, $environs) = ('', '');
for my $pid ($postmaster, children_of($postmaster))
{
	# a process may just have ended
	$cmdlines .= eval { slurp_file("/proc/$pid/cmdline") } // '';
	$environs .= eval { slurp_file("/proc/$pid/environ") } // '';
}
like($cmdlines, qr/streamproc task/, 'command lines of workers');
like($environs, qr/PGDATA|PATH=/, 'environments of workers');
has_no_secret($cmdlines, 'command lines');
has_no_secret($environs, 'environments');
my $views = '';
for my $view (split /\n/, value($super, q(SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE schemaname = 'streamproc')))
{
	my ($out, $err) = run_as($super, "SELECT * FROM $view");
	is($err, '', "view $view");
	$views .= $out;
}
like($views, qr/Authentication failed|INSERT INTO|scram256/, 'the views show the pipelines');
has_no_secret($views, 'the views');
for my $role ($super, 'other')
{
	my ($out) = run_as($role, 'SELECT * FROM pg_stat_activity');
	like($out, qr/streamproc task/, "pg_stat_activity as $role");
	has_no_secret($out, "pg_stat_activity as $role");
	next if $role eq $super;
	($out) = run_as($role, 'SELECT * FROM pg_user_mappings');
	like($out, qr/scram256/, "pg_user_mappings as $role");
	has_no_secret($out, "pg_user_mappings as $role");
	fails($role, 'SELECT * FROM pg_user_mapping', qr/permission denied/, "pg_user_mapping as $role");
}
has_no_secret($errors, 'what psql said');
like($errors, qr/$login/, 'which was a lot');
my $log = slurp_file($node->logfile);
like($log, qr/DEBUG:  00000: librdkafka: /, 'the log has the lines of the library');
like($log, qr/LOCATION: /, 'and is verbose');
like($log, qr/login to the broker failed|SASL authentication error/, 'it tells of failed logins');
has_no_secret($log, 'the log');

# ---------------------------------------------------------------- the end of a process
# exit() lets OpenSSL free its locks; a thread of the library that is in a handshake then crashes the process, and that the
# server.  It takes luck to see that, so here a process that comes to the last handler of exit() with threads aborts.
my $source = $node->basedir . '/exit.c';
my $library = $node->basedir . '/exit.so';
append_to_file($source, <<'C');
#include <dirent.h>
#include <stdlib.h>
static void check(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (n > 3)				/* . and .. and this one */
		abort();
}
__attribute__((constructor)) static void watch(void)
{
	atexit(check);
}
C
command_ok([ 'cc', '-shared', '-fPIC', '-o', $library, $source ], 'a library that looks at exits');
my $exits = -s $node->logfile;
$node->stop;
{
	local $ENV{LD_PRELOAD} = $library;
	$node->start;
}
my $postmaster_maps = slurp_file('/proc/' . (slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr) . '/maps');
like($postmaster_maps, qr/exit\.so/, 'it is there');
wait_state($node, $_, 'running') for qw(cert_enc scram_tls);
$kafka->pause;
# the question is given up, but its helper and the library wait for an answer
fails('app', "SET statement_timeout = '500ms'; SELECT * FROM scram_tls_t", qr/canceling statement due to statement timeout/, 'a session that ends in the midst of a handshake');
waits_for('scram_tls', qr/^broker unreachable/, 'workers are in trouble');
$node->stop;
$kafka->resume;
unlike(slurp_file($node->logfile, $exits), qr/was terminated by signal/, 'no process was in exit() beside threads');
$node->start;

# ---------------------------------------------------------------- without the library preloaded
$node->append_conf('postgresql.conf', "streamproc.allowed_brokers = '10.0.0.0/8'\nshared_preload_libraries = ''");
$node->restart;
fails('app', "SET streamproc.allowed_brokers = '*'; SELECT * FROM open_t;", $not_allowed->($plain), 'not preloaded: the setting holds');
fails('app', "EXPLAIN SELECT * FROM open_t; SET streamproc.allowed_brokers = '*'", qr/cannot be changed now/, 'and cannot be changed');

$node->stop;
done_testing();

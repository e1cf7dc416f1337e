# Bad rows are kept as dead letters, all others are in the sink; what is nobody's fault never makes one.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
track_commit_timestamp = on
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

sub letters
{
	my ($pipeline, $columns) = @_;
	return value(qq{SELECT $columns FROM streamproc.dead_letter WHERE pipeline = '$pipeline' ORDER BY partition, "offset"});
}

# the rows of the query over the topic, but those of the dead letters, are in the sink: nothing missing, nothing extra
sub same_rows
{
	my ($name, $query, $sink) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value("SELECT (SELECT count(*) FROM ($query EXCEPT ALL SELECT * FROM $sink) a), (SELECT count(*) FROM (SELECT * FROM $sink EXCEPT ALL $query) b)"),
		'0|0', "$name: the sink is the batch query without the dead letters");
}

# ---- messages that cannot be decoded ----

$kafka->topic('odd', 2, 'max.message.bytes' => 5000000);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE odd (id int NOT NULL, i2 smallint, t text, n numeric(6,2), at timestamptz, j jsonb, net inet, k text OPTIONS (kafka 'key'),
	h jsonb OPTIONS (kafka 'headers'), ts timestamptz OPTIONS (kafka 'timestamp'), p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'odd', format 'json', event_time 'at', bad_rows 'skip');
CREATE TABLE odd_sink (id int, i2 smallint, t text, n numeric, at timestamptz, j jsonb, net inet, k text, h jsonb, ts timestamptz, p int, o bigint);
SQL
my $number = 0;
my $base = 1700000000000;
my @odd = (
	# value, SQLSTATE (undef: good)
	[ '{"id": 1, "t": "good"}' ],
	[ '{"id": 1', '22P02' ],
	[ 'no json', '22P02' ],
	[ '', '22P02' ],
	[ undef, '23502' ],
	[ '{"i2": 1}', '23502' ],
	[ '{"id": null}', '23502' ],
	[ '{"id": "many"}', '22P02' ],
	[ '{"id": 1, "i2": 40000}', '22003' ],
	[ '{"id": 1.5}', '22P02' ],
	[ '{"id": 1, "n": 10000}', '22003' ],
	[ '{"id": 1, "n": 1e400}', '22003' ],
	[ "{\"id\": 1, \"t\": \"\xff\xfe\"}", '22021' ],
	[ '{"id": 1, "t": "a\u0000b"}', '22P05' ],
	[ '{"id": 1, "t": "\ud800"}', '22P02' ],
	[ '[' x 5000 . ']' x 5000, '22P02' ],
	[ '{"id": 1, "a": ' . '[' x 2000 . ']' x 2000 . '}', '22P02' ],
	[ '{"id": 1, "at": "294277-01-01"}', '22008' ],
	[ '{"id": 1, "at": "2999-01-01"}', '22008' ],
	[ '{"id": 1, "at": "yesterday"}', '22007' ],
	[ '{"id": 1, "at": "4713-01-01 00:00:00+00 BC", "id": 2}' ],
	[ '{"id": 1, "net": "10.0.0.1"}' ],
	[ '{"id": 1, "net": "10.0.0.400"}', '22P02' ],
	[ '{"id": 1, "net": "not an address"}', '22P02' ],
	[ '{"id": 7, "t": "' . 'x' x 1_000_000 . '"}' ],
	[ '{"id": "big", "t": "' . 'y' x 1_000_000 . '"}', '22P02' ],
	[ '{"id": 3, "t": "last"}' ]);
my @sent = map {
	{
		partition => $number++ % 2,
		key       => "key $number",
		value     => $_->[0],
		timestamp => $base + $number,
		headers   => [ $number % 3 ? [ 'n', $number ] : map { [ "h$_", $_ ] } 1 .. 1000 ]
	}
} @odd;
$kafka->produce('odd', @sent);
create_pipeline($node, 'odd', 'INSERT INTO odd_sink SELECT * FROM odd', parallelism => 2);
wait_caught_up($node, 'odd');
my $bad = grep { $_->[1] } @odd;
is(value('SELECT count(*) FROM odd_sink'), @odd - $bad, 'the good messages are in the sink');
same_rows('odd', q{SELECT * FROM odd WHERE at IS NULL OR at < '2900-01-01'}, 'odd_sink');
my @states = split /\n/, letters('odd', '"offset" * 2 + partition AS number, sqlstate');
is(join(' ', sort { $a <=> $b } map { (split /\|/)[0] } @states), join(' ', grep { $odd[$_][1] } 0 .. $#odd), 'the bad ones are dead letters, each once');
my %state = map { split /\|/ } @states;
for my $i (grep { $odd[$_][1] } 0 .. $#odd)
{
	is($state{$i}, $odd[$i][1], 'SQLSTATE of ' . substr($odd[$i][0] // 'a tombstone', 0, 40) =~ s/[^ -~]/?/gr);
}
my %raw = map { ("$_->{partition}|$_->{offset}" => $_) } $kafka->consume('odd');
my $different = 0;
for (split /\n/, letters('odd', q{partition, "offset", encode(key, 'hex'), coalesce(encode(value, 'hex'), 'NULL'), extract(epoch FROM "timestamp") * 1000, md5(headers)}))
{
	my ($p, $o, $key, $value, $timestamp) = split /\|/;
	my $m = $raw{"$p|$o"};
	$different++ unless $key eq unpack('H*', $m->{key}) && $value eq (defined $m->{value} ? unpack('H*', $m->{value}) : 'NULL') && $timestamp == $m->{timestamp};
}
is($different, 0, 'key, value and timestamp are kept byte by byte');
is(value(q{SELECT count(*), max((SELECT count(*) FROM jsonb_object_keys(headers::jsonb))) FROM streamproc.dead_letter WHERE pipeline = 'odd'}), "$bad|1000", 'headers are kept');
like(value(q{SELECT message FROM streamproc.dead_letter WHERE sqlstate = '22003' AND message LIKE '%i2%'}), qr/column "i2"/, 'the message names the column');
is(value(q{SELECT state, bad_rows, rows_in FROM streamproc.stat_pipeline WHERE pipeline = 'odd'}), "running|$bad|" . @odd, 'the view counts them');

# ---- retrying: what is mended leaves the dead letters, what is not gets its new reason ----

is(value(q{SELECT streamproc.retry_dead_letters('odd')}), $bad, 'retry_dead_letters() says how many');
wait_caught_up($node, 'odd');
is(value(q{SELECT count(*), min(attempts), max(attempts), bool_or(retry) FROM streamproc.dead_letter WHERE pipeline = 'odd'}), "$bad|2|2|f", 'without a change all fail again');
$node->safe_psql('postgres', <<'SQL');
BEGIN;
CREATE FOREIGN TABLE odd_text (id text, i2 text, t text, n text, at timestamptz, j jsonb, net text, k text OPTIONS (kafka 'key'),
	h jsonb OPTIONS (kafka 'headers'), ts timestamptz OPTIONS (kafka 'timestamp'), p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'odd', format 'json', bad_rows 'skip');
CREATE TABLE odd_text_sink AS SELECT * FROM odd_text LIMIT 0;
SELECT streamproc.alter_pipeline('odd', query => 'INSERT INTO odd_text_sink SELECT * FROM odd_text');
SELECT streamproc.retry_dead_letters('odd');
COMMIT;
SQL
wait_caught_up($node, 'odd');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'odd'}) + value('SELECT count(*) FROM odd_text_sink'), $bad,
	'with another query: each is in the sink or a dead letter');
# now everything that is not broken JSON can be read, but for the bytes and times that no column takes
same_rows('odd', q{SELECT o.* FROM odd_text o WHERE NOT EXISTS (SELECT FROM odd_sink s WHERE s.p = o.p AND s.o = o.o)}, 'odd_text_sink');
is(value(q{SELECT count(*) FROM odd_text_sink WHERE h IS NULL OR k IS NULL OR ts IS NULL}), 0, 'key, headers and timestamp came along');
is(value(q{SELECT min(attempts) FROM streamproc.dead_letter WHERE pipeline = 'odd'}), 3, 'the others have been tried three times');

# deleting
is(value(q{SELECT streamproc.delete_dead_letters('odd', '2000-01-01')}), 0, 'none are that old');
my $left = value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'odd'});
is(value(q{SELECT streamproc.delete_dead_letters('odd', now() + '1 s')}), $left, 'delete_dead_letters() deletes');
is(value(q{SELECT count(*) FROM streamproc.dead_letter}), 0, 'all of them');
is(value(q{SELECT streamproc.retry_dead_letters('odd')}), 0, 'nothing to retry is no error');
sql_fails($node, q{SELECT streamproc.retry_dead_letters('nobody')}, qr/pipeline "nobody" does not exist/, 'of a pipeline that does not exist');
sql_fails($node, q{SELECT streamproc.delete_dead_letters('odd', NULL)}, qr/argument "before" must not be null/, 'NULL is an error');
$node->safe_psql('postgres', q{SELECT streamproc.drop_pipeline('odd')});

# ---- rows that the query or the sink refuses, one kind each, in three statements ----

$kafka->topic('mixed', 2);
my $n = 30_000;
$node->safe_psql('postgres', <<"SQL");
CREATE FOREIGN TABLE mixed (id int, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'mixed', format 'json');
CREATE TABLE ref (id int PRIMARY KEY);
INSERT INTO ref SELECT g FROM generate_series(0, 9) g;
CREATE TABLE a (id int PRIMARY KEY, inverse int NOT NULL, p int, o bigint, CHECK (inverse <> 20));
CREATE TABLE b (id int, ref int REFERENCES ref DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE c (v int PRIMARY KEY, n bigint) PARTITION BY RANGE (v);
CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (-1) TO (100);
CREATE FUNCTION no_six() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
	IF new.ref = 6 AND new.id % 1000 = 6 THEN RAISE 'six of %', new.id USING ERRCODE = 'XY006', DETAIL = 'at ' || new.id; END IF; RETURN new; END \$\$;
CREATE TRIGGER no_six BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION no_six();
INSERT INTO mixed (id, v, p) SELECT i,
	CASE i % 1000 WHEN 1 THEN 0 WHEN 2 THEN 50 WHEN 3 THEN 33 WHEN 4 THEN 200 WHEN 6 THEN 6 ELSE 1 + i % 9 END, i % 2
	FROM generate_series(0, $n - 1) i;
INSERT INTO mixed (id, v, p) SELECT CASE WHEN i < 10 THEN 7 ELSE $n + i END, 1, 0 FROM generate_series(0, 20) i;
SQL
# 0: division by zero in a; 50: check in a; 33: no such ref, found at the end; 200: no partition of c; 6: trigger of b; id 7 ten times: unique in a
my $mixed = q{INSERT INTO a SELECT id, 1000 / v, p, o FROM mixed; INSERT INTO b SELECT id, v % 100 FROM mixed;
	INSERT INTO c SELECT v, 1 FROM mixed ON CONFLICT (v) DO UPDATE SET n = c.n + 1};
for my $parallelism (1, 2)
{
	my $name = "mixed$parallelism";
	$node->safe_psql('postgres', 'TRUNCATE a, b, c');
	$node->safe_psql('postgres', q{UPDATE ref SET id = id});
	create_pipeline($node, $name, $mixed, parallelism => $parallelism);
	wait_caught_up($node, $name);
	is(value(qq{SELECT string_agg(s || ' ' || n, ', ' ORDER BY s) FROM (SELECT sqlstate || '/' || coalesce(statement::text, '-') AS s, count(*) AS n FROM streamproc.dead_letter WHERE pipeline = '$name' GROUP BY 1) x}),
		'22012/1 30, 23503/- 30, 23505/1 10, 23514/1 30, 23514/3 30, XY006/2 30', "parallelism $parallelism: kinds and statements of the dead letters");
	same_rows($name, qq{SELECT id, 1000 / v, p, o FROM mixed WHERE v <> 0 AND (p, o) NOT IN (SELECT partition, "offset" FROM streamproc.dead_letter WHERE pipeline = '$name')}, 'a');
	same_rows($name, qq{SELECT id, v % 100 FROM mixed WHERE (p, o) NOT IN (SELECT partition, "offset" FROM streamproc.dead_letter WHERE pipeline = '$name')}, 'b');
	same_rows($name, qq{SELECT v, count(*) FROM mixed WHERE (p, o) NOT IN (SELECT partition, "offset" FROM streamproc.dead_letter WHERE pipeline = '$name') GROUP BY v}, 'c');
	is(value(qq{SELECT count(*) FROM streamproc.dead_letter d JOIN mixed m ON m.p = d.partition AND m.o = d."offset"
		WHERE pipeline = '$name' AND (CASE sqlstate WHEN '22012' THEN m.v = 0 WHEN '23503' THEN m.v = 33 WHEN '23505' THEN m.id = 7
			WHEN 'XY006' THEN m.v = 6 ELSE m.v IN (50, 200) END)}), 160, 'each is the message that was to blame');
	is(value(qq{SELECT DISTINCT detail ~ '^at \\d+\$' FROM streamproc.dead_letter WHERE sqlstate = 'XY006'}), 't', 'with its detail');
	# mend, and run them again: all but the double ids
	$node->safe_psql('postgres', <<"SQL");
ALTER TABLE a DROP CONSTRAINT a_inverse_check;
INSERT INTO ref VALUES (33), (50) ON CONFLICT DO NOTHING;
CREATE TABLE c2 PARTITION OF c DEFAULT;
ALTER TABLE b DISABLE TRIGGER no_six;
SELECT streamproc.alter_pipeline('$name', query => replace(\$\$$mixed\$\$, '/ v', '/ coalesce(nullif(v, 0), 1)'));
SELECT streamproc.retry_dead_letters('$name');
SQL
	# the server dies in the middle of it
	if ($parallelism == 2)
	{
		$crash->set_fault('commit-before-position=kill@2-2');
		$crash->wait_hit('commit-before-position');
		$crash->reset_fault;
		wait_state($node, $name, 'running');
	}
	wait_caught_up($node, $name);
	is(value(qq{SELECT string_agg(s || ' ' || n, ', ' ORDER BY s) FROM (SELECT sqlstate || '/' || coalesce(statement::text, '-') AS s, count(*) AS n FROM streamproc.dead_letter WHERE pipeline = '$name' GROUP BY 1) x}),
		'23505/1 10', "parallelism $parallelism: retried, only what cannot be mended is left");
	is(value('SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT sum(n) FROM c)'), join('|', ($n + 11) x 3), 'each of the others is in all sinks once');
	$node->safe_psql('postgres', <<"SQL");
SELECT streamproc.drop_pipeline('$name');
TRUNCATE a, b, c;
ALTER TABLE a ADD CONSTRAINT a_inverse_check CHECK (inverse <> 20);
DELETE FROM ref WHERE id > 9;
DROP TABLE c2;
ALTER TABLE b ENABLE TRIGGER no_six;
SQL
}
is(value('SELECT count(*) FROM streamproc.stored_dead_letter'), 0, 'dropped pipelines leave no dead letters');

# ---- many bad rows share commits, and no transaction has more than 20 subtransactions ----

$kafka->topic('many', 1);
$node->safe_psql('postgres', <<"SQL");
CREATE FOREIGN TABLE many (id int, v int, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'many', format 'json');
CREATE TABLE many_sink (id int, v int);
INSERT INTO many (id, v) SELECT i, CASE WHEN i % 97 = 5 THEN 0 ELSE 1 + i % 5 END FROM generate_series(0, 29999) i;
SQL
create_pipeline($node, 'many', 'INSERT INTO many_sink SELECT id, 60 / v FROM many');
wait_caught_up($node, 'many');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'many' AND "offset" % 97 = 5}), 310, 'one row in 97 is a dead letter');
same_rows('many', 'SELECT id, 60 / v FROM many WHERE v <> 0', 'many_sink');
# rows of a subtransaction have an xmin of their own, but the commit time of the whole
my ($most, $commits) = split /\|/,
  value('SELECT max(n), count(*) FROM (SELECT count(DISTINCT xmin::text) AS n FROM many_sink GROUP BY pg_xact_commit_timestamp(xmin)) x');
cmp_ok($most, '<=', 20, 'no transaction had more than 20 subtransactions that were kept');
cmp_ok($most, '>', 5, 'many shared a commit');

# ---- foreign keys and triggers, which see a row when the scan is at its end: the message is guessed, right or wrong ----

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE five (id int PRIMARY KEY);
INSERT INTO five SELECT generate_series(1, 5);
CREATE TABLE after_plain (id int, v int REFERENCES five);
CREATE TABLE after_deferred (id int, v int REFERENCES five DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE after_two (id int, v int REFERENCES five, w int REFERENCES five DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE after_some (id int, v int REFERENCES five);
CREATE TABLE after_twice (id int, v int REFERENCES five);
CREATE TABLE after_trigger (id int, v int);
CREATE FUNCTION five_or_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF new.id % 3 = 0 THEN PERFORM 1 FROM five; END IF;
	IF NOT EXISTS (SELECT FROM five WHERE id = new.v) THEN RAISE 'no % in five', new.v USING ERRCODE = 'XY005'; END IF; RETURN NULL; END $$;
CREATE TRIGGER five_or_fail AFTER INSERT ON after_trigger FOR EACH ROW EXECUTE FUNCTION five_or_fail();
SQL
my %after = (
	after_plain => [ 'SELECT id, v FROM many', 'true' ],
	after_deferred => [ 'SELECT id, v FROM many', 'true' ],
	# keys that are null, and two kinds of checks
	after_two => [ 'SELECT id, CASE WHEN id % 2 = 0 THEN v END, CASE WHEN id % 7 > 0 THEN v END FROM many', 'id % 2 = 0 OR id % 7 > 0' ],
	after_some => [ 'SELECT id, v FROM many WHERE id % 3 = 0', 'id % 3 = 0' ],
	after_twice => [ 'SELECT id, x FROM many CROSS JOIN LATERAL (VALUES (1), (v)) y (x)', 'true' ],
	after_trigger => [ 'SELECT id, v FROM many', 'true' ]);
for my $name (sort keys %after)
{
	my ($query, $written) = @{ $after{$name} };
	create_pipeline($node, $name, "INSERT INTO $name $query");
	wait_caught_up($node, $name);
	is(value(qq{WITH m AS MATERIALIZED (SELECT o FROM many WHERE v = 0 AND ($written))
		SELECT (SELECT count(*) FROM streamproc.dead_letter, m WHERE pipeline = '$name' AND "offset" = o),
		(SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$name')}), join('|', (value("SELECT count(*) FROM many WHERE v = 0 AND ($written)")) x 2),
		"$name: the messages to blame are dead letters, and no others");
	same_rows($name, $query =~ s/FROM many/FROM (SELECT * FROM many WHERE v <> 0 OR NOT ($written)) AS many/r, $name);
	# three to find a bad message, and one for each piece, where halving takes at least ten to find it
	cmp_ok(value("SELECT sum(batches) FROM streamproc.stat_worker WHERE pipeline = '$name'"), '<', 2800, "$name: the message was guessed right")
	  if $name eq 'after_plain' || $name eq 'after_deferred';
	value("SELECT streamproc.drop_pipeline('$name')");
}

# ---- keys that point at rows of messages shortly before: only those that point nowhere, and what points at them, are bad ----

$kafka->topic('tree', 1);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE tree (id int, parent int, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tree', format 'json');
INSERT INTO tree (id, parent) SELECT i, CASE WHEN i % 97 = 5 THEN -1 WHEN i % 3 > 0 THEN i - 1 - i % 7 END FROM generate_series(20, 20019) i;
CREATE TABLE tree_good AS WITH RECURSIVE t AS MATERIALIZED (SELECT id, parent FROM tree),
	g AS (SELECT id, parent FROM t WHERE parent IS NULL UNION ALL SELECT t.id, t.parent FROM t JOIN g ON t.parent = g.id) TABLE g;
CREATE TABLE tree_plain (id int PRIMARY KEY, parent int REFERENCES tree_plain);
CREATE TABLE tree_deferred (id int PRIMARY KEY, parent int REFERENCES tree_deferred DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE tree_node (id int PRIMARY KEY);
CREATE TABLE tree_edge (id int, parent int REFERENCES tree_node DEFERRABLE INITIALLY DEFERRED);
SQL
for my $name (qw(tree_plain tree_deferred tree_node))
{
	create_pipeline($node, $name, $name eq 'tree_node'
		? 'INSERT INTO tree_node SELECT id FROM tree; INSERT INTO tree_edge SELECT id, parent FROM tree WHERE parent IS NOT NULL'
		: "INSERT INTO $name SELECT id, parent FROM tree");
	wait_caught_up($node, $name);
	same_rows($name, $name eq 'tree_node' ? 'SELECT id FROM tree_good' : 'TABLE tree_good', $name);
	same_rows($name, 'SELECT id, parent FROM tree_good WHERE parent IS NOT NULL', 'tree_edge') if $name eq 'tree_node';
	is(value("SELECT count(*) + (SELECT count(*) FROM tree_good) FROM streamproc.dead_letter WHERE pipeline = '$name' AND sqlstate = '23503'"), 20000, "$name: all others are dead letters");
	value("SELECT streamproc.drop_pipeline('$name')");
}

# ---- max_consecutive_errors, per partition ----

$kafka->topic('run', 2);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE run (id int, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'run', format 'json');
CREATE TABLE run_sink (id int, v int, p int, o bigint);
SQL
# partition 0: 20 good, then 49 bad, one good, 60 bad of both kinds by turns, 10 good; partition 1: good
$kafka->produce('run',
	(map { { partition => 0, value => "{\"id\": $_, \"v\": 1}" } } 0 .. 19),
	(map { { partition => 0, value => $_ % 2 ? "{\"id\": $_, \"v\": 0}" : '{"id": "x"}' } } 0 .. 48),
	{ partition => 0, value => '{"id": 20, "v": 1}' },
	(map { { partition => 0, value => $_ % 2 ? "{\"id\": $_, \"v\": 0}" : '{"id": "x"}' } } 0 .. 59),
	(map { { partition => 0, value => "{\"id\": $_, \"v\": 1}" } } 30 .. 39),
	(map { { partition => 1, value => "{\"id\": $_, \"v\": 1}" } } 1000 .. 1999));
create_pipeline($node, 'run', 'INSERT INTO run_sink SELECT id, 1 / v, p, o FROM run', parallelism => 1, max_consecutive_errors => 50);
wait_state($node, 'run', 'failed');
is(value(q{SELECT topic, partition, "offset", sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'run'}), 'run|0|119|22012', 'it stops at the 50th in a row');
like(value(q{SELECT reason FROM streamproc.stat_pipeline WHERE pipeline = 'run'}), qr/^50 rows in a row were bad, the last one: division by zero$/, 'and says so');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'run'}), 99, 'all of them are kept');
is(value(q{SELECT next_offset FROM streamproc.position WHERE pipeline = 'run' AND partition = 0}), 120, 'the position is behind the last one');
is(value(q{SELECT count(*) FROM run_sink WHERE p = 0}), 21, 'nothing behind it is in the sink');
my $hint = value(q{SELECT hint FROM streamproc.stat_pipeline WHERE pipeline = 'run'});
like($hint, qr/SELECT streamproc\.retry_dead_letters\('run'\), streamproc\.start_pipeline\('run'\)$/, 'the hint has the command');
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('run', query => 'INSERT INTO run_sink SELECT id, 1 / nullif(v, 0), p, o FROM run')});
$node->safe_psql('postgres', $hint =~ s/^.*then: //r);
wait_caught_up($node, 'run');
is(value(q{SELECT count(*), count(*) FILTER (WHERE sqlstate = '22P02') FROM streamproc.dead_letter WHERE pipeline = 'run'}), '55|55', 'run as it stands, the mended ones are through');
is(value(q{SELECT count(*) FROM run_sink WHERE p = 0}), 31 + 24 + 30, 'and in the sink with what comes behind');
is(value(q{SELECT count(*) FROM run_sink WHERE p = 1}), 1000, 'the other partition too');

# everything is bad: no loop, no growth
$kafka->topic('allbad', 1);
$kafka->produce('allbad', map { { partition => 0, value => 'x' } } 1 .. 5000);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE allbad (id int) SERVER kafka OPTIONS (topic 'allbad', format 'json');
CREATE TABLE allbad_sink (id int);
SELECT streamproc.create_pipeline('allbad', 'INSERT INTO allbad_sink SELECT id FROM allbad');
SQL
wait_state($node, 'allbad', 'failed');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'allbad'}), 1000, 'the default limit is 1000');
is(value(q{SELECT next_offset FROM streamproc.position WHERE pipeline = 'allbad'}), 1000, 'where it stands');
$node->safe_psql('postgres', q{SELECT streamproc.start_pipeline('allbad')});
wait_state($node, 'allbad', 'failed');
is(value(q{SELECT count(*), count(DISTINCT "offset") FROM streamproc.dead_letter WHERE pipeline = 'allbad'}), '2000|2000', 'each start goes on from there');
sql_fails($node, q{SELECT streamproc.alter_pipeline('allbad', max_consecutive_errors => 0)}, qr/max_consecutive_errors must be at least 1/, 'no limit of 0');
sql_fails($node, q{SELECT streamproc.alter_pipeline('allbad', on_error => 'ignore')}, qr/invalid value for "on_error": "ignore"\n.*HINT:  Use dead_letter or fail/s, 'no other policy');
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('allbad', on_error => 'fail'), streamproc.start_pipeline('allbad')});
wait_state($node, 'allbad', 'failed');
is(value(q{SELECT "offset", sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'allbad'}), '2000|22P02', 'on_error => fail stops before the row');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'allbad'}), 2000, 'and keeps none');
$node->safe_psql('postgres', q{SELECT streamproc.drop_pipeline('allbad')});

# ---- what is nobody's fault never makes a dead letter ----

$kafka->topic('fault', 1);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE fault (id int, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'fault', format 'json');
CREATE TABLE fault_sink (id int, o bigint);
CREATE TABLE trouble (sqlstate text, id int);
CREATE FUNCTION helper() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s text; BEGIN
	SELECT t.sqlstate INTO s FROM trouble t WHERE t.id = new.id;
	IF s = 'helper' THEN PERFORM helper(); ELSIF s IS NOT NULL THEN RAISE 'trouble' USING ERRCODE = s; END IF; RETURN new; END $$;
CREATE TRIGGER trouble BEFORE INSERT ON fault_sink FOR EACH ROW EXECUTE FUNCTION trouble();
SQL
my $produced = 0;
sub more { my ($k) = @_; $kafka->produce('fault', map { { partition => 0, value => "{\"id\": $_}" } } $produced .. $produced + $k - 1); $produced += $k }
create_pipeline($node, 'fault', 'INSERT INTO fault_sink SELECT id, o FROM fault');
my %kind = ('40P01' => 'a deadlock', '40001' => 'a conflict', '55P03' => 'a lock time-out', '53100' => 'a full disk', '53200' => 'out of memory', '57014' => 'a cancelled statement', '58030' => 'an I/O error', '08006' => 'a lost connection');
for my $sqlstate (sort keys %kind)
{
	$node->safe_psql('postgres', "INSERT INTO trouble VALUES ('$sqlstate', $produced + 3)");
	more(10);
	# all of it in one look: between two tries of pieces of the batch the pipeline runs
	wait_query($node, q{SELECT state, sqlstate, topic, partition, "offset" IS NOT NULL, reason, hint FROM streamproc.stat_pipeline WHERE pipeline = 'fault'},
		"waiting|$sqlstate|fault|0|t|another try after: trouble|The pipeline goes on by itself.");
	pass("$kind{$sqlstate}: the pipeline waits, and says why and where");
	$node->safe_psql('postgres', 'DELETE FROM trouble');
	wait_caught_up($node, 'fault');
}
for my $sqlstate (qw(42501 42883 42P01 25006 XX000))
{
	my $at = $produced + 3;
	$node->safe_psql('postgres', "INSERT INTO trouble VALUES ('$sqlstate', $at)");
	more(10);
	wait_state($node, 'fault', 'failed');
	is(value(q{SELECT sqlstate, "offset", bad_rows FROM streamproc.stat_pipeline WHERE pipeline = 'fault'}), "$sqlstate|$at|0", "$sqlstate: the pipeline stops there, it is no bad row");
	$node->safe_psql('postgres', q{DELETE FROM trouble; SELECT streamproc.start_pipeline('fault')});
	wait_caught_up($node, 'fault');
}
# a function that is dropped under a trigger, and a right that is taken away
$node->safe_psql('postgres', "INSERT INTO trouble VALUES ('helper', $produced + 3); ALTER FUNCTION helper() RENAME TO helper_gone");
more(10);
wait_state($node, 'fault', 'failed');
is(value(q{SELECT sqlstate, bad_rows FROM streamproc.stat_pipeline WHERE pipeline = 'fault'}), '42883|0', 'a dropped function');
$node->safe_psql('postgres', q{ALTER FUNCTION helper_gone() RENAME TO helper; SELECT streamproc.start_pipeline('fault')});
wait_caught_up($node, 'fault');
same_rows('fault', 'SELECT id, o FROM fault', 'fault_sink');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'fault'}), 0, 'there is no dead letter of all that');
# statements that fail without any row: no row is blamed for it
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE empty_sink (id int);
CREATE FUNCTION no_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now' USING ERRCODE = '22023'; END $$;
CREATE TRIGGER no_statement BEFORE INSERT ON empty_sink FOR EACH STATEMENT EXECUTE FUNCTION no_statement();
SELECT streamproc.create_pipeline('empty', 'INSERT INTO empty_sink SELECT id FROM fault');
SQL
wait_state($node, 'empty', 'failed');
is(value(q{SELECT sqlstate, reason, "offset" FROM streamproc.stat_pipeline WHERE pipeline = 'empty'}), '22023|not now|', 'an error of an empty batch is no row\'s');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'empty'}), 0, 'no dead letter');
# row-level security refuses a row: that is the row's
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE clerk LOGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA streamproc TO clerk;
GRANT SELECT ON fault TO clerk;
GRANT CREATE ON SCHEMA public TO clerk;
CREATE TABLE rls_sink (id int);
ALTER TABLE rls_sink ENABLE ROW LEVEL SECURITY;
CREATE POLICY most ON rls_sink USING (true) WITH CHECK (id % 10 <> 4);
GRANT ALL ON rls_sink TO clerk;
SET SESSION AUTHORIZATION clerk;
SELECT streamproc.create_pipeline('rls', 'INSERT INTO rls_sink SELECT id FROM fault');
SQL
wait_caught_up($node, 'rls');
is(value(q{SELECT count(*), min(sqlstate), bool_and("offset" % 10 = 4) FROM streamproc.dead_letter WHERE pipeline = 'rls'}), int($produced / 10) . '|42501|t', 'a row that a policy refuses is a dead letter');
same_rows('rls', 'SELECT id FROM fault WHERE id % 10 <> 4', 'rls_sink');
is(value(q{SET ROLE clerk; SELECT count(*) FROM streamproc.dead_letter WHERE pipeline <> 'rls'; SELECT count(*) > 0 FROM streamproc.dead_letter}), "0\nt", 'the owner sees his own only');
sql_fails($node, q{SET ROLE clerk; SELECT streamproc.delete_dead_letters('run', 'infinity')}, qr/must be owner of pipeline "run"/, 'and deletes no other\'s');

# ---- kill -9 anywhere: each message is in the sink or a dead letter, once ----

$kafka->topic('crash', 2);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE crash (id int, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'crash', format 'json');
CREATE TABLE crash_sink (id int, v int, p int, o bigint);
SQL
create_pipeline($node, 'crash', 'INSERT INTO crash_sink SELECT id, 1 / v, p, o FROM crash', parallelism => 2, max_consecutive_errors => 100000);
my $crash_id = 0;
for my $fault ('task-before-letter=kill@3-3', 'task-after-letter=kill@2-2', 'task-careful=kill@4-4', 'commit-before-position=kill@2-2', 'commit-after-position=kill@1-1',
	'commit-done=kill@1-1', 'task-after-letter=error@1-1', 'commit-after-position=error@1-2', 'task-before-finish=retry@1-3', 'task-after-letter=fatal@1-1')
{
	wait_state($node, 'crash', 'running');
	my $send = sub {
		$kafka->produce('crash', map { { partition => $_ % 2, value => $_ % 31 == 7 ? 'bad' : $_ % 29 == 3 ? "{\"id\": $_, \"v\": 0}" : "{\"id\": $_, \"v\": 1}" } } $crash_id .. $crash_id + 999);
		$crash_id += 1000;
	};
	ok($crash->provoke_fault($fault, $send), "$fault was hit");
	$crash->reset_fault;
	wait_state($node, 'crash', 'running');
	wait_caught_up($node, 'crash');
	is(value(q{SELECT count(*), count(DISTINCT (p, o)) FROM (SELECT p, o FROM crash_sink UNION ALL SELECT partition, "offset" FROM streamproc.dead_letter WHERE pipeline = 'crash') x}),
		"$crash_id|$crash_id", "$fault: each message is in the sink or a dead letter, once");
}
my $expected = grep { $_ % 31 == 7 || $_ % 29 == 3 } 0 .. $crash_id - 1;
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'crash'}), $expected, 'the bad ones, and no other');
# retry while being killed
$node->safe_psql('postgres', q{SELECT streamproc.alter_pipeline('crash', query => 'INSERT INTO crash_sink SELECT id, 1 / nullif(v, 0), p, o FROM crash')});
for my $fault ('task-before-letter=kill@2-2', 'commit-after-position=kill@1-1', 'task-careful=error@1-1')
{
	my ($point) = $fault =~ /^([a-z-]+)=/;
	wait_state($node, 'crash', 'running');
	$crash->set_fault($fault);
	$crash->ask(q{SELECT streamproc.retry_dead_letters('crash')});
	ok($crash->wait_hit($point), "retry: $fault was hit");
	$crash->reset_fault;
	wait_state($node, 'crash', 'running');
	wait_caught_up($node, 'crash');
	is(value(q{SELECT count(*), count(DISTINCT (p, o)) FROM (SELECT p, o FROM crash_sink UNION ALL SELECT partition, "offset" FROM streamproc.dead_letter WHERE pipeline = 'crash') x}),
		"$crash_id|$crash_id", "retry, $fault: each message is in the sink or a dead letter, once");
}
is(value(q{SELECT count(*), bool_and(sqlstate = '22P02') FROM streamproc.dead_letter WHERE pipeline = 'crash'}), scalar(grep { $_ % 31 == 7 } 0 .. $crash_id - 1) . '|t', 'what could be mended is through');

# ---- tasks that run carefully do not deadlock at the rows of an upsert ----

# The pieces of a transaction hold other keys, in the two partitions in the other order.
$kafka->topic('meet', 2);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE meet (k int, v int) SERVER kafka OPTIONS (topic 'meet', format 'json');
CREATE TABLE meet_sink (k int PRIMARY KEY, n int);
SQL
for my $p (0, 1)
{
	my @keys = $p ? reverse(1 .. 2000) : 1 .. 2000;
	$kafka->produce('meet', map { { partition => $p, value => $_ } } '{"k": 0, "v": 0}', map { qq({"k": $_, "v": 1}) } @keys);
}
my $deadlocks = value(q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'});
# with the first pieces behind it, a task stands still until the other one has come as far, or waits for it
$crash->set_fault('task-careful=wait@3-3');
create_pipeline($node, 'meet', 'INSERT INTO meet_sink SELECT k, 1 / v FROM meet ON CONFLICT (k) DO UPDATE SET n = meet_sink.n + excluded.n', parallelism => 2);
ok($crash->wait_hit('task-careful'), 'a task stands between two pieces');
ok(wait_until(sub {
	my @there = slurp_file($node->logfile, $crash->{offset}) =~ /fault point "task-careful": wait/g;
	return @there > 1 || value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND NOT granted}) > 0;
}, 60), '... the other one does, too, or waits');
$crash->reset_fault;
wait_caught_up($node, 'meet');
is(value('SELECT count(*), min(n), max(n) FROM meet_sink'), '2000|2|2', 'each message counts once');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'meet'}), 2, '... but the bad ones');
is(value(q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'}), $deadlocks, 'and there was no deadlock');

# a log that repeats is limited
my $log = slurp_file($node->logfile);
my @kept = $log =~ /LOG:  pipeline "many" keeps bad rows in streamproc.dead_letter/g;
is(scalar(@kept), 1, 'the log says once that bad rows are kept');
unlike($log, qr/no json|not an address|yyyyyyyy/, 'and shows none of them');

done_testing();

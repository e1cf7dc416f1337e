# Results into topics: each once, in order, with the rows of tables that were committed with them.
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
streamproc.restart_backoff_max = 400ms
# what nobody flushes is lost with the process that dies
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

# A topic, and a foreign table of its name over it that can be read and written.
sub make_topic
{
	my ($name, $partitions) = @_;
	$kafka->topic($name, $partitions);
	$node->safe_psql('postgres', <<SQL);
CREATE FOREIGN TABLE $name (id int, card text, v int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'),
	at timestamptz OPTIONS (kafka 'timestamp'), headers jsonb OPTIONS (kafka 'headers'), k text OPTIONS (kafka 'key'))
	SERVER kafka OPTIONS (topic '$name', format 'json');
SQL
	return;
}

# kills a worker of a pipeline, as soon as there is one, and waits until the server is back
sub kill_worker
{
	my ($role, $pipeline) = @_;
	my $pid;
	wait_until(sub { ($pid) = split /\n/, value("SELECT pid FROM streamproc.stat_worker WHERE role = '$role' AND pipeline LIKE '$pipeline' AND pid IS NOT NULL LIMIT 1"); $pid }, 60)
	  or die "there is no $role of $pipeline";
	crash_worker($pid);
	return;
}

sub wait_ready { return wait_until(sub { eval { value('SELECT 1') } }, 60) }

my %sent;

sub send_rows
{
	my ($name, $partitions, $n) = @_;
	my @messages = map { { partition => $_ % $partitions, value => sprintf('{"id": %d, "card": "c%d", "v": %d}', $_, $_ % 7, $_ % 10) } }
	  ($sent{$name} // 0) .. ($sent{$name} // 0) + $n - 1;
	$kafka->produce($name, @messages);
	$sent{$name} = ($sent{$name} // 0) + $n;
	return;
}

# The topic holds what the query gives over the input, each message once, numbered 1..n, in order within a key.
sub exact
{
	my ($out, $query, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(value("SELECT count(*) FROM ((SELECT id, card, v FROM $out EXCEPT ALL $query) UNION ALL ($query EXCEPT ALL SELECT id, card, v FROM $out)) d"),
		0, "$what: what the query gives, each once");
	is(value("SELECT count(*) = max(n) AND count(DISTINCT n) = max(n) AND min(n) = 1
			FROM (SELECT split_part(headers->>'streamproc', '/', 2)::bigint AS n FROM $out) s"), 't', "$what: numbered from 1 without gap or repeat");
	is(value("SELECT count(*) FROM (SELECT id < lag(id) OVER (PARTITION BY k ORDER BY p, o) AS back FROM $out) s WHERE back"), 0, "$what: each key in order");
	return;
}

# ---- what Kafka has committed is on the disk ----

# The task does not wait for it where all its rows are messages, and who writes WAL for others stands still: what the publisher
# has not flushed is lost with the server.
# catches: Kafka's commit before, or without, the publisher's flush
if (picked('durable'))
{
	make_topic('durable', 1);
	make_topic('durable_out', 1);
	create_pipeline($node, 'durable', 'INSERT INTO durable_out (id, card, v, k) SELECT id, card, v, card FROM durable');
	for my $round (1 .. 3)
	{
		wait_caught_up($node, 'durable');
		my $writer = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
		kill 'STOP', $writer;
		$crash->provoke('publisher-committed', 'kill', sub { send_rows('durable', 1, 20) }) // die 'the fault was not met';
		$crash->reset_fault;
		wait_until(sub { !-d "/proc/$writer" }) or die 'the server goes on';
		wait_ready();
		wait_caught_up($node, 'durable');
		exact('durable_out', 'SELECT id, card, v FROM durable', "what Kafka has committed is on the disk, $round");
	}
	value(q{SELECT streamproc.drop_pipeline('durable')});
}

# ---- a filter, from topic to topic ----

make_topic('a', 2);
make_topic('a_out', 3);
send_rows('a', 2, 1000);
# a key comes through one partition: c0 .. c6 spread over both, so by partition and card
create_pipeline($node, 'a', q{INSERT INTO a_out (id, card, v, k) SELECT id, card, v, card || '-' || p FROM a WHERE v >= 5}, parallelism => 2);
wait_caught_up($node, 'a');
exact('a_out', 'SELECT id, card, v FROM a WHERE v >= 5', 'a filter');
is(value('SELECT outbox_rows, outbox_bytes, published_rows FROM streamproc.stat_pipeline'), '0|0|500', 'the view: nothing waits, 500 were sent');
is(value('SELECT count(*) FROM streamproc.outbox'), 0, 'the outbox is empty');
like(value(q{SELECT headers->>'streamproc' FROM a_out LIMIT 1}), qr{^[0-9a-f-]{36}/\d+$}, 'each message has pipeline and number');
is(value(q{SELECT string_agg(role, ' ' ORDER BY role) FROM streamproc.stat_worker}), 'launcher publisher task task', 'the publisher is a worker');

for my $what (qw(publisher task launcher))
{
	send_rows('a', 2, 500);
	kill_worker($what, 'a');
	wait_ready();
	wait_caught_up($node, 'a');
	exact('a_out', 'SELECT id, card, v FROM a WHERE v >= 5', "kill -9 of a $what");
}

# ---- partitions: as Java's clients choose them, so that a topic can be joined with theirs by partition ----

# The hashes are those of the test of Kafka's own Utils.murmur2().  Many messages at once, which are sent together.
# catches: another hash, or another number of partitions, for all but the first message of those that are sent together
if (picked('known keys'))
{
	my %murmur2 = (21 => -973932308, foobar => -790332482, 'a-little-bit-long-string' => -985981536, 'a-little-bit-longer-string' => -1486304829,
		'lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8' => -58897971, abc => 479470107);
	my @keys = sort keys %murmur2;
	make_topic('keys', 1);
	make_topic('keys_out', 7);
	$kafka->produce('keys', map { { partition => 0, value => sprintf('{"id": %d, "card": "%s", "v": 0}', $_, $keys[ $_ % @keys ]) } } 0 .. 599);
	create_pipeline($node, 'keys', 'INSERT INTO keys_out (id, card, v, k) SELECT id, card, v, card FROM keys');
	wait_caught_up($node, 'keys');
	exact('keys_out', 'SELECT id, card, v FROM keys', 'known keys');
	is(value('SELECT string_agg(DISTINCT k || \' \' || p, \', \' ORDER BY k || \' \' || p) FROM keys_out'),
		join(', ', sort map { "$_ " . ($murmur2{$_} & 0x7fffffff) % 7 } @keys), 'each is in the partition that Kafka says');
	value(q{SELECT streamproc.drop_pipeline('keys')});
}

# ---- each step, killed, failed and repeated ----

for my $point (qw(outbox-insert commit-before-position commit-done publisher-before-durable publisher-before-begin publisher-begun publisher-before-commit
	publisher-committed publisher-before-delete publisher-before-delete-commit publisher-before-init publisher-before-compare publisher-signed))
{
	# an error of a task that does not pass is a bad row's; one of the publisher ends it
	for my $action ('kill', $point =~ /^publisher|done/ ? 'error' : 'retry')
	{
		$crash->set_fault("$point=$action\@1");
		kill_worker('publisher', 'a') if $point =~ /init|compare|signed/;
		send_rows('a', 2, 200);
		$crash->wait_hit($point);
		$crash->reset_fault;
		wait_ready();
		wait_caught_up($node, 'a');
		exact('a_out', 'SELECT id, card, v FROM a WHERE v >= 5', "$action at $point");
	}
}

# ---- a table and a topic: together or not at all ----

make_topic('b', 2);
make_topic('b_out', 2);
value('CREATE TABLE b_sink (id int, card text, v int CHECK (v < 9), n bigserial)');
send_rows('b', 2, 1000);
create_pipeline($node, 'b', q{WITH kept AS (INSERT INTO b_sink (id, card, v) SELECT id, card, v FROM b RETURNING id, card, v)
	INSERT INTO b_out (id, card, v, k) SELECT id, card, v, card FROM kept WHERE v > 3}, parallelism => 2);
wait_caught_up($node, 'b');
is(value('SELECT count(*), count(DISTINCT id) FROM b_sink'), '900|900', 'what the table refuses is in dead_letter');
is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'b'}), 100, '... one for each');
is(value('SELECT count(*) FROM (SELECT id, card, v FROM b_out EXCEPT ALL SELECT id, card, v FROM b_sink WHERE v > 3) s'), 0, 'the topic has no more than the table');
is(value('SELECT count(*) FROM b_out'), value('SELECT count(*) FROM b_sink WHERE v > 3'), 'and no less');

# ---- state into a topic; a chain: topic, pipeline, topic, pipeline, table ----

make_topic('e', 2);
$kafka->topic('totals', 2);
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE events (id int, card text, at timestamptz) SERVER kafka OPTIONS (topic 'e', format 'json', event_time 'at', idle_timeout '3 s');
CREATE FOREIGN TABLE totals (card text OPTIONS (kafka 'key'), c text, at timestamptz, n bigint) SERVER kafka
	OPTIONS (topic 'totals', format 'json', event_time 'at', idle_timeout '3 s');
CREATE TABLE per_hour (start timestamptz, n numeric, cards bigint);
SQL
create_pipeline($node, 'per_minute', q{INSERT INTO totals SELECT card, card, w.window_start, count(*) FROM events e, streamproc.tumble(e.at, '1 min') w
	GROUP BY card, w.window_start, w.window_end}, parallelism => 2);
create_pipeline($node, 'per_hour', q{INSERT INTO per_hour SELECT w.window_start, sum(n), count(DISTINCT c) FROM totals t, streamproc.tumble(t.at, '1 hour') w
	GROUP BY w.window_start, w.window_end}, parallelism => 1);
my $at = 1767225600;
for my $round (0 .. 3)
{
	# commits that are repeated write their messages again, under the same numbers
	$crash->set_fault('keyed-before-commit=retry@1-5') if $round == 3;
	$kafka->produce('e', map { my $i = $round * 1000 + $_; { partition => $i % 2, value => sprintf('{"id": %d, "card": "c%d", "at": %d}', $i, $i % 5, ($at + $i * 3) * 1000) } } 0 .. 999);
	if ($round == 3)
	{
		$crash->wait_hit('keyed-before-commit');
		next;
	}
	kill_worker((qw(task publisher launcher))[$round], $round == 1 ? 'per_minute' : 'per_%');
	wait_ready();
}
# later events close the last windows of both
$kafka->produce('e', map { my $i = $_; map { { partition => $_, value => sprintf('{"id": %d, "card": "late", "at": %d}', $i, ($at + 3600 * $i + 1800) * 1000) } } 0, 1 } 4, 5);
wait_query($node, 'SELECT sum(n) FROM per_hour', 4000);
$crash->reset_fault;
is(value('SELECT count(*) FROM (SELECT start, n, cards FROM per_hour EXCEPT SELECT date_trunc($$hour$$, at), count(*), count(DISTINCT card) FROM events WHERE id >= 10 OR card <> $$late$$ GROUP BY 1) s'), 0, 'a chain gives what one query would');
is(value('SELECT count(*) FROM (SELECT card, at, n FROM totals EXCEPT ALL SELECT card, date_trunc($$minute$$, at), count(*) FROM events GROUP BY 1, 2) s'), 0, 'each window in the topic once, right');
is(value(q{SELECT count(*) FROM streamproc.late_row}), 0, 'nothing came late');

# ---- what Kafka says and what the outbox holds do not fit ----

sub fails_with
{
	my ($reason, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_state($node, 'c', 'failed');
	like(value(q{SELECT sqlstate || ' ' || reason FROM streamproc.stat_pipeline WHERE pipeline = 'c'}), qr/^55000 $reason/, "$what: the pipeline fails, the view says why");
	like(value(q{SELECT hint FROM streamproc.stat_pipeline WHERE pipeline = 'c'}), qr/reconcile_publisher\('c', 'resend'\)/, "$what: and how to go on");
	return;
}
sub stop { value("SELECT streamproc.stop_pipeline('c')"); value("SELECT streamproc.wait_until_stopped('c', '30 s')") }
sub start { value("SELECT streamproc.start_pipeline('c')") }
sub out { return value('SELECT count(*), count(DISTINCT id) FROM c_out') }

make_topic('c', 1);
make_topic('c_out', 1);
my $group = sub { return 'streamproc-' . value(q{SELECT id FROM streamproc.pipeline WHERE name = 'c'}) };
create_pipeline($node, 'c', q{INSERT INTO c_out (id, card, v, k) SELECT id, card, v, card FROM c});
send_rows('c', 1, 100);
wait_caught_up($node, 'c');
# nothing waits: PostgreSQL's word is good enough
stop();
$kafka->tool('delete-group', $group->());
start();
send_rows('c', 1, 100);
wait_caught_up($node, 'c');
is(out(), '200|200', 'position gone, nothing waits: goes on');
# committed, and not sent
sub leave_unsent
{
	my ($n) = @_;
	$crash->set_fault('publisher-before-begin=wait');
	send_rows('c', 1, $n);
	$crash->wait_hit('publisher-before-begin');
	wait_query($node, q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'c'}, $n);
	value('ALTER SYSTEM SET streamproc.stop_timeout = 500; SELECT pg_reload_conf()');
	stop();
	$crash->reset_fault;
	value('ALTER SYSTEM RESET streamproc.stop_timeout; SELECT pg_reload_conf()');
	return;
}
leave_unsent(100);
is(value(q{SELECT sum(messages) FROM streamproc.outbox WHERE pipeline = 'c'}), 100, 'messages wait while the pipeline is stopped');
$kafka->tool('delete-group', $group->());
start();
fails_with('Kafka does not know how far the messages of this pipeline were sent', 'position gone, messages wait');
is(out(), '200|200', 'nothing was sent');
sql_fails($node, q{SELECT streamproc.reconcile_publisher('c', 'guess')}, qr/invalid value for "action"/, 'reconcile_publisher() knows two actions');
value(q{SELECT streamproc.reconcile_publisher('c', 'resend')});
wait_caught_up($node, 'c');
is(out(), '300|300', 'resend: they are sent');
sql_fails($node, q{SELECT streamproc.reconcile_publisher('c', 'resend')}, qr/pipeline "c" is running/, 'one that runs decides by itself');
leave_unsent(50);
value('CREATE TABLE c_sink (id int)');
sql_fails($node, q{SELECT streamproc.alter_pipeline('c', query => 'INSERT INTO c_sink SELECT id FROM c')}, qr/50 messages of pipeline "c" wait to be sent to server "kafka", and the new query does not write there/,
	'a query without the topic, while messages wait');
$kafka->tool('delete-group', $group->());
start();
fails_with('Kafka does not know', 'again');
value(q{SELECT streamproc.reconcile_publisher('c', 'discard')});
send_rows('c', 1, 10);
wait_caught_up($node, 'c');
is(out(), '310|310', 'discard: they are not');
is(value(q{SELECT count(*) FROM streamproc.outbox WHERE pipeline = 'c'}), 0, 'and wait no more');

# a backup of before: Kafka is ahead of it
stop();
$node->stop('fast');
my $backup = PostgreSQL::Test::Utils::tempdir . '/data';
system('cp', '-a', $node->data_dir, $backup) == 0 or die;
$node->start;
start();
send_rows('c', 1, 30);
wait_caught_up($node, 'c');
is(out(), '340|340', 'after the backup it goes on');
$node->stop('fast');
system('rm', '-rf', $node->data_dir) == 0 && system('cp', '-a', $backup, $node->data_dir) == 0 or die;
$node->start;
start();
fails_with('messages of this pipeline were sent by another server, or by a later state of this one', 'set back');
is(out(), '340|340', 'set back: nothing was sent');
is(value(q{SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = 'c'}), 360, 'and nothing was read');
value(q{SELECT streamproc.reconcile_publisher('c', 'resend')});
wait_caught_up($node, 'c');
is(out(), '370|340', 'resend: what was lost is sent again');

# ---- the broker goes and comes ----

$kafka->kill;
wait_query($node, q{SELECT state FROM streamproc.stat_worker WHERE pipeline = 'c' AND role = 'task'}, 'waiting');
$kafka->start;
send_rows('c', 1, 100);
wait_caught_up($node, 'c');
is(out(), '470|440', 'the broker was killed and came back');

# ---- too much waits ----

value('ALTER SYSTEM SET streamproc.outbox_size = 64; SELECT pg_reload_conf()');
$crash->set_fault('publisher-before-begin=wait');
send_rows('c', 1, 5000);
wait_query($node, q{SELECT waits_for FROM streamproc.stat_worker WHERE pipeline = 'c' AND role = 'task'}, 'as many messages as streamproc.outbox_size allows wait to be sent');
is(value(q{SELECT state, sqlstate FROM streamproc.stat_pipeline WHERE pipeline = 'c'}), 'waiting|53400', 'a full outbox: the pipeline waits, and says so');
$crash->reset_fault;
wait_caught_up($node, 'c');
is(out(), '5470|5440', 'and goes on by itself');

# ---- at least once, and back ----

value(q{SELECT streamproc.alter_pipeline('c', delivery => 'at_least_once')});
send_rows('c', 1, 100);
wait_caught_up($node, 'c');
is(out(), '5570|5540', 'at least once');
value(q{SELECT streamproc.alter_pipeline('c', delivery => 'exactly_once')});
send_rows('c', 1, 100);
wait_caught_up($node, 'c');
is(out(), '5670|5640', 'and exactly once again');

# ---- what a trigger inserts into a topic ----

make_topic('t', 1);
make_topic('t_out', 1);
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE t_sink (id int);
CREATE FUNCTION t_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO t_out (id, card) VALUES (NEW.id, 'trigger');
		IF NEW.id % 2 = 1 THEN RAISE 'not this one'; END IF;
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
	RETURN NEW;
END $$;
CREATE TRIGGER t BEFORE INSERT ON t_sink FOR EACH ROW EXECUTE FUNCTION t_trigger();
SQL
create_pipeline($node, 't', q{INSERT INTO t_sink SELECT id FROM t; INSERT INTO t_out (id, card) SELECT id, 'statement' FROM t WHERE id < 10});
send_rows('t', 1, 100);
wait_caught_up($node, 't');
is(value(q{SELECT count(*) FILTER (WHERE card = 'trigger' AND id % 2 = 0), count(*) FILTER (WHERE card = 'trigger' AND id % 2 = 1), count(*) FILTER (WHERE card = 'statement') FROM t_out}),
	'50|0|10', 'what is rolled back with a subtransaction is not sent');

# ---- running totals into a compacted topic: the last message of a key counts ----

$kafka->topic('latest', 2, 'cleanup.policy' => 'compact');
$node->safe_psql('postgres', q{CREATE FOREIGN TABLE latest (k text OPTIONS (kafka 'key'), card text, n bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'latest', format 'json')});
create_pipeline($node, 'latest', q{INSERT INTO latest (k, card, n) SELECT card || '!', card, count(*) FROM a GROUP BY card}, parallelism => 2);
for (1 .. 3)
{
	send_rows('a', 2, 300);
	wait_caught_up($node, 'latest');
	kill_worker('publisher', 'latest') if $_ == 2;
	wait_ready();
}
is(value(q{SELECT count(*) FROM (SELECT DISTINCT ON (k) card, n FROM latest ORDER BY k, p, o DESC) l FULL JOIN (SELECT card, count(*) AS n FROM a GROUP BY card) b USING (card, n)
	WHERE l.card IS NULL OR b.card IS NULL}), 0, 'the last message of each key is the batch query\'s row');
is(value('SELECT count(*) FROM (SELECT n < lag(n) OVER (PARTITION BY k ORDER BY o) AS back FROM latest) s WHERE back'), 0, 'totals only rise');
sql_fails($node, q{SELECT streamproc.create_pipeline('x', 'INSERT INTO latest (k, card, n) SELECT count(*)::text, card, count(*) FROM a GROUP BY card')},
	qr/the key of its messages is made of something that is not grouped by/, 'a key that is no group');
sql_fails($node, q{SELECT streamproc.create_pipeline('x', 'INSERT INTO latest (k, card, n) SELECT card, card, count(*) FROM a GROUP BY card, v')},
	qr/the key of its messages is not made of all columns that are grouped by/, 'a key that is not all of it');

# ---- what is refused ----

sql_fails($node, q{SELECT streamproc.create_pipeline('x', 'INSERT INTO a_out (id) SELECT id FROM a_out')}, qr/"a_out" is both read and written by the pipeline/, 'a loop');
sql_fails($node, q{SELECT streamproc.create_pipeline('x', 'INSERT INTO a_out (id) SELECT id FROM a', delivery => 'twice')}, qr/invalid value for "delivery"/, 'another delivery');
value("CREATE SERVER other FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '" . $kafka->address . "')");
value(q{CREATE FOREIGN TABLE other_out (id int) SERVER other OPTIONS (topic 'other', format 'json')});
sql_fails($node, q{SELECT streamproc.create_pipeline('x', 'INSERT INTO a_out (id) SELECT id FROM a; INSERT INTO other_out SELECT id FROM a')},
	qr/writing into topics of two servers/, 'two clusters');
value(q{SELECT streamproc.drop_pipeline('c')});
is(value(q{SELECT count(*) FROM streamproc.publisher_position WHERE pipeline = 'c'}), 0, 'dropped: nothing is left');
done_testing();

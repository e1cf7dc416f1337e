# What topics can hold: transactions, deleted records, large and many messages, hot keys, many partitions, a backlog.
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
my $node = create_node('main', conf => "streamproc.restart_backoff_max = '1s'\nmax_wal_size = '2GB'\n");
create_kafka_server($node, $kafka);
sub q1 { return $node->safe_psql('postgres', $_[0]) }
sub json { my ($partition, $from, $to) = @_; return map { { partition => $partition, value => qq({"id": $_}) } } $from .. $to }
sub stopped
{
	my ($name) = @_;
	q1("SELECT streamproc.wait_until_stopped('$name', '60 s')");
	return q1("SELECT state || ' ' || reason FROM streamproc.stat_pipeline WHERE pipeline = '$name'");
}
sub position { return q1("SELECT string_agg(partition || ':' || next_offset, ' ' ORDER BY partition) FROM streamproc.position WHERE pipeline = '$_[0]'") }
sub differ
{
	my ($got, $expected) = @_;
	return q1("WITH g AS MATERIALIZED ($got), e AS MATERIALIZED ($expected) SELECT (SELECT count(*) FROM (TABLE g EXCEPT ALL TABLE e) x) + (SELECT count(*) FROM (TABLE e EXCEPT ALL TABLE g) x)");
}

# ---------------------------------------------------------------- transactions of others
$kafka->topic('txn', 1);
q1("CREATE FOREIGN TABLE txn_t (id int) SERVER kafka OPTIONS (topic 'txn'); CREATE TABLE txn (id int)");
my $t = $kafka->transaction('txn', 'a');
$t->begin; $t->send(json(0, 1, 5)); $t->commit;
$t->begin; $t->send(json(0, 100, 150)); $t->abort;
create_pipeline($node, 'txn', 'INSERT INTO txn SELECT id FROM txn_t', stop => 'latest');
is(stopped('txn'), 'stopped finished', 'a topic that ends with an aborted transaction has an end');
is(q1('SELECT count(*), max(id) FROM txn'), '5|5', 'without its records');
is(position('txn'), '0:' . $kafka->offsets('txn')->{0}[1], 'the position is behind its markers');
# an open one holds back what comes after it
$t->begin; $t->send(json(0, 200, 205));
$kafka->produce('txn', json(0, 6, 8));
my $begun = time;
q1("SELECT streamproc.start_pipeline('txn')");
is(stopped('txn'), 'stopped finished', 'an open transaction is the end');
cmp_ok(time - $begun, '<', 20, 'at once');
is(q1('SELECT count(*) FROM txn'), 5, 'nothing behind its begin is read');
q1("SELECT streamproc.alter_pipeline('txn', stop => 'never'); SELECT streamproc.start_pipeline('txn')");
wait_caught_up($node, 'txn', 30);
is(q1('SELECT count(*) FROM txn'), 5, 'also while running');
$t->commit;
wait_caught_up($node, 'txn', 30);
is(q1('SELECT count(*), sum(id) FROM txn'), (5 + 6 + 3) . '|' . (15 + 1215 + 21), 'all comes when it commits');
$t->begin; $t->send(json(0, 300, 310)); $t->abort;
wait_caught_up($node, 'txn', 30);
is(q1('SELECT count(*) FROM txn'), 14, 'aborted while running');
wait_query($node, "SELECT next_offset FROM streamproc.position WHERE pipeline = 'txn'", $kafka->offsets('txn')->{0}[1], 20);
pass('markers without rows move the position');
q1("SELECT streamproc.stop_pipeline('txn', drain => true)");
is(stopped('txn'), 'stopped drained', 'and it drains');
$t->finish;
# nothing but aborted
$kafka->topic('aborted', 2);
$t = $kafka->transaction('aborted', 'b');
$t->begin; $t->send(json(0, 1, 5), json(1, 1, 5)); $t->abort; $t->finish;
q1("CREATE FOREIGN TABLE aborted_t (id int) SERVER kafka OPTIONS (topic 'aborted'); CREATE TABLE aborted (id int)");
create_pipeline($node, 'aborted', 'INSERT INTO aborted SELECT id FROM aborted_t', stop => 'latest');
is(stopped('aborted') . ' ' . q1('SELECT count(*) FROM aborted'), 'stopped finished 0', 'a topic of nothing but aborted records has an end');

# ---------------------------------------------------------------- deleted records
$kafka->topic('gone', 1);
$kafka->produce('gone', json(0, 1, 100));
$kafka->delete_records('gone', 0, 30);
q1("CREATE FOREIGN TABLE gone_t (id int) SERVER kafka OPTIONS (topic 'gone'); CREATE TABLE gone (id int)");
create_pipeline($node, 'gone', 'INSERT INTO gone SELECT id FROM gone_t', stop => 'latest');
is(stopped('gone') . ' ' . q1('SELECT count(*), min(id) FROM gone'), 'stopped finished 70|31', 'earliest is the first that is left');
$kafka->produce('gone', json(0, 101, 200));
$kafka->delete_records('gone', 0, 150);
q1("SELECT streamproc.start_pipeline('gone')");
wait_state($node, 'gone', 'failed', 30);
is(q1(q{SELECT reason || '|' || topic || '|' || partition || '|' || "offset" FROM streamproc.stat_pipeline WHERE pipeline = 'gone'}),
	'offsets 100 to 149 of topic "gone" partition 0 are gone: 50 records at most|gone|0|100', 'records that are gone before they were read stop it, with their place and number');
is(q1('SELECT count(*) FROM gone'), 70, 'nothing is skipped');

# ---------------------------------------------------------------- large messages
$kafka->topic('large', 2);
q1("CREATE FOREIGN TABLE large_t (id int, v text) SERVER kafka OPTIONS (topic 'large'); CREATE TABLE large (id int, v text)");
my $blob = 'x' x 950_000;
$kafka->produce('large', map { { partition => $_ % 2, value => qq({"id": $_, "v": ") . ($_ % 4 ? $blob : 'small') . '"}' } } 1 .. 40);
create_pipeline($node, 'large', 'INSERT INTO large SELECT id, v FROM large_t', parallelism => 1);
wait_caught_up($node, 'large', 60);
is(q1('SELECT count(*), count(DISTINCT id), sum(length(v)) FROM large'), '40|40|' . (30 * 950_000 + 10 * 5), 'messages of 950 kB');
q1("SELECT streamproc.drop_pipeline('large')");

# ---------------------------------------------------------------- many partitions
$kafka->topic('many', 70);
q1("CREATE FOREIGN TABLE many_t (id int, p int OPTIONS (kafka 'partition')) SERVER kafka OPTIONS (topic 'many'); CREATE TABLE many (id int, p int)");
$kafka->produce('many', map { { partition => $_ % 70, value => qq({"id": $_}) } } 1 .. 700);
create_pipeline($node, 'many', 'INSERT INTO many SELECT id, p FROM many_t', parallelism => 16);
wait_caught_up($node, 'many', 60);
is(q1('SELECT count(*), count(DISTINCT id), count(DISTINCT p) FROM many'), '700|700|70', '70 partitions by 16 tasks');
is(q1("SELECT count(*), max(n) - min(n) <= 1 FROM (SELECT count(*) AS n FROM streamproc.position WHERE pipeline = 'many' GROUP BY task) x"), '16|t', 'shared out evenly');
q1("SELECT streamproc.alter_pipeline('many', parallelism => 3)");
$kafka->produce('many', map { { partition => $_ % 70, value => qq({"id": $_}) } } 701 .. 800);
wait_caught_up($node, 'many', 60);
is(q1('SELECT count(*), count(DISTINCT id) FROM many'), '800|800', 'and by 3');
q1("SELECT streamproc.drop_pipeline('many')");

# ---------------------------------------------------------------- a backlog, full batches
$kafka->topic('tx', 4);
$kafka->load('tx', count => 60000, keys => 12000, 'event-rate' => 1000, spread => 'even');
q1(<<'SQL');
CREATE FOREIGN TABLE tx (tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
  SERVER kafka OPTIONS (topic 'tx', event_time 'at');
CREATE TABLE copied AS SELECT * FROM tx;
CREATE TABLE card (card text PRIMARY KEY, owner text, risk int);
INSERT INTO card SELECT 'card-' || lpad(i::text, 6, '0'), 'owner ' || i, i % 7 FROM generate_series(0, 9999) i;
ANALYZE card;
SQL
is(q1('SELECT count(*) FROM copied'), 60000, 'the topic is there');
for my $case (
	[ 'plain', 'tx_id uuid, card text, amount numeric, at timestamptz, p int, o bigint', 'SELECT tx_id, card, amount, at, p, o FROM %s', 2 ],
	[ 'joined', 'tx_id uuid, owner text, risk int', 'SELECT t.tx_id, c.owner, c.risk FROM %s t LEFT JOIN card c USING (card)', 1 ],
	[ 'filtered', 'tx_id uuid, owner text', 'SELECT t.tx_id, c.owner FROM %s t JOIN card c USING (card) WHERE c.risk = 3 AND t.amount > 50', 2 ],
	[ 'sub', 'tx_id uuid, n bigint', 'SELECT t.tx_id, (SELECT count(*) FROM card) FROM %s t WHERE card IN (SELECT card FROM card WHERE risk < 2)', 2 ],
	[ 'nearest', 'tx_id uuid, x text', 'SELECT t.tx_id, x.owner FROM %s t, LATERAL (SELECT owner FROM card c WHERE c.card >= t.card ORDER BY c.card LIMIT 1) x WHERE amount > 100', 2 ],
	[ 'branches', 'a text, b numeric', 'SELECT card, amount FROM %1$s WHERE amount > 30 UNION ALL SELECT city, 0 FROM %1$s WHERE length(city) > 5', 2 ])
{
	my ($name, $columns, $query, $parallelism) = @$case;
	q1("CREATE TABLE $name ($columns)");
	create_pipeline($node, $name, "INSERT INTO $name " . sprintf($query, 'tx'), parallelism => $parallelism, stop => 'latest');
	stopped($name);
	is(differ("TABLE $name", sprintf($query, 'copied')), 0, "a backlog of full batches: $name");
	q1("SELECT streamproc.drop_pipeline('$name')");
}
# statistics change under it: plans are made again in the middle
q1("CREATE TABLE planned (tx_id uuid, owner text)");
create_pipeline($node, 'planned', 'INSERT INTO planned SELECT t.tx_id, c.owner FROM tx t JOIN card c USING (card)', checkpoint_interval => '1 ms', parallelism => 2);
for (1 .. 15) { q1('ANALYZE planned, card'); q1('ALTER TABLE card SET (fillfactor = ' . (50 + $_) . ')') }
wait_caught_up($node, 'planned', 60);
is(differ('TABLE planned', 'SELECT t.tx_id, c.owner FROM copied t JOIN card c USING (card)'), 0, 'ANALYZE in a loop while it runs');
q1("SELECT streamproc.drop_pipeline('planned')");
# a bad row in the middle of a backlog
my ($bad) = split /\n/, q1('SELECT tx_id FROM copied WHERE p = 2 AND o = 9000');
q1("CREATE TABLE middle (tx_id uuid CHECK (tx_id <> '$bad'), p int, o bigint)");
create_pipeline($node, 'middle', 'INSERT INTO middle SELECT tx_id, p, o FROM tx', stop => 'latest', parallelism => 2, on_error => 'fail');
wait_state($node, 'middle', 'failed', 60);
is(q1(q{SELECT partition, "offset" FROM streamproc.stat_pipeline WHERE pipeline = 'middle'}), '2|9000', 'a bad row in a backlog is found');
is(differ('TABLE middle', "SELECT tx_id, c.p, o FROM copied c JOIN streamproc.position x ON x.pipeline = 'middle' AND x.partition = c.p AND o < x.next_offset"), 0, 'all before the positions is there, nothing else');
is(position('middle') =~ /2:9000/, 1, 'and it stands before the row');
q1("SELECT streamproc.alter_pipeline('middle', query => 'INSERT INTO middle SELECT nullif(tx_id, ''$bad''), p, o FROM tx'); SELECT streamproc.start_pipeline('middle')");
stopped('middle');
is(q1('SELECT count(*), count(DISTINCT (p, o)), count(*) FILTER (WHERE tx_id IS NULL) FROM middle'), '60000|60000|1', 'with another query it goes on, each row once');

# ---------------------------------------------------------------- hot keys by parallel tasks
my $log = -s $node->logfile;
$kafka->topic('hot', 4);
$kafka->load('hot', count => 100000, keys => 4, spread => 'even');
q1(<<'SQL');
CREATE FOREIGN TABLE hot_t (card text, amount numeric) SERVER kafka OPTIONS (topic 'hot');
CREATE TABLE hot (card text PRIMARY KEY, n bigint, total numeric, most numeric);
CREATE TABLE hot_first (card text PRIMARY KEY);
SQL
create_pipeline($node, 'hot', 'INSERT INTO hot AS h SELECT card, 1, amount, amount FROM hot_t ON CONFLICT (card) DO UPDATE SET n = h.n + 1, total = h.total + excluded.total, most = greatest(h.most, excluded.most);
	INSERT INTO hot_first SELECT card FROM hot_t ON CONFLICT DO NOTHING', parallelism => 4, stop => 'latest');
$begun = time;
stopped('hot');
cmp_ok(time - $begun, '<', 15, 'who waits keeps no dead rows alive, and tasks with hot keys take turns');
is(differ('TABLE hot', 'SELECT card, count(*), sum(amount), max(amount) FROM hot_t GROUP BY card'), 0, '100,000 events of 4 keys by 4 tasks');
is(q1('SELECT count(*) FROM hot_first'), 4, 'and the first of each');
unlike(slurp_file($node->logfile, $log), qr/40P01|deadlock detected/, 'without a deadlock');
# a statement that only waits holds no snapshot; one that does something else does
q1("SELECT streamproc.alter_pipeline('hot', stop => 'never'); SELECT streamproc.start_pipeline('hot')");
my ($out, @waits);
for my $query ("SELECT streamproc.wait_until_stopped('hot', '60 s')", "SELECT streamproc.wait_until_stopped('hot', '60 s'), count(*) FROM hot_first")
{
	push @waits, IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-Atc', $query ], '>', \$out, '2>', \$out);
}
wait_query($node, q{SELECT string_agg((backend_xmin IS NULL)::text, ' ' ORDER BY length(query)) FROM pg_stat_activity WHERE query LIKE 'SELECT streamproc.wait_until_stopped%' AND state = 'active'}, 'true false');
q1("SELECT streamproc.stop_pipeline('hot')");
is(scalar(grep { $_->finish } @waits), 2, 'only a statement that reads something keeps its snapshot while it waits');

$node->stop('fast');
done_testing();

# The publisher's position where PostgreSQL was set back or is there twice, and where Kafka has lost something: nothing is sent
# twice or left out unless somebody decides so, and the view says why.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
my $main = create_node('main', init => [ allows_streaming => 1, has_archiving => 1 ], conf => <<'CONF');
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($main, $kafka);

# the server that is asked where no other is named
my $node = $main;
sub value { my ($query, $n) = @_; return scalar(($n // $node)->safe_psql('postgres', $query)) }

my %sent;

# Topics NAME and NAME_out, and a pipeline from the one into the other.
sub make
{
	my ($name) = @_;
	$kafka->topic($_, 1) for $name, "${name}_out";
	value("CREATE FOREIGN TABLE $_ (id int, headers jsonb OPTIONS (kafka 'headers')) SERVER kafka OPTIONS (topic '$_', format 'json')") for $name, "${name}_out";
	create_pipeline($node, $name, "INSERT INTO ${name}_out (id) SELECT id FROM $name");
	return;
}

sub send_rows
{
	my ($name, $n) = @_;
	my $from = $sent{$name} // 0;
	$kafka->produce($name, map { { partition => 0, value => qq({"id": $_}) } } $from + 1 .. $from + $n);
	$sent{$name} = $from + $n;
	return;
}

# messages | different ones | different numbers | largest number
sub out
{
	my ($name, $n) = @_;
	return value("SELECT count(*), count(DISTINCT id), count(DISTINCT n), max(n) FROM (SELECT id, split_part(headers->>'streamproc', '/', 2)::bigint AS n FROM ${name}_out) s", $n);
}

sub exact
{
	my ($name, $what, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_caught_up($n // $node, $name, 60);
	is(out($name, $n), join('|', ($sent{$name}) x 4), $what);
	return;
}

sub stat_of { my ($columns, $name, $n) = @_; return value("SELECT $columns FROM streamproc.stat_pipeline WHERE pipeline = '$name'", $n) }
sub read_until { my ($name, $n) = @_; return value("SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name'", $n) }

sub fails_with
{
	my ($name, $reason, $detail, $what, $n) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_state($n // $node, $name, 'failed', 60);
	is(stat_of("sqlstate || ' ' || reason", $name, $n), "55000 $reason", "$what: the pipeline fails, the view says why");
	like(stat_of('detail', $name, $n), $detail, "$what: and what it has found");
	like(stat_of('hint', $name, $n), qr/^SELECT streamproc.reconcile_publisher\('$name', 'resend'\)/, "$what: and how to go on");
	return;
}
my $ahead = 'messages were sent that this server does not know any more';
my $another = 'messages of this pipeline were sent by another server, or by a later state of this one';
sub stop { my ($name, $n) = @_; value("SELECT streamproc.stop_pipeline('$name')", $n); return value("SELECT streamproc.wait_until_stopped('$name', '30 s')", $n) }

# ---- point-in-time recovery to before the last messages were sent ----

make('pitr');
send_rows('pitr', 100);
exact('pitr', 'the original');
$main->backup('base');
send_rows('pitr', 50);
exact('pitr', 'after the base backup');
value(q{SELECT pg_create_restore_point('before')});
send_rows('pitr', 30);
exact('pitr', 'after the restore point');
my $segment = value('SELECT pg_walfile_name(pg_current_wal_lsn())');
value('SELECT pg_switch_wal()');
wait_query($main, "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver", 't');
$main->stop('immediate');

my $first = PostgreSQL::Test::Cluster->new('first');
$first->init_from_backup($main, 'base', has_restoring => 1, standby => 0);
$first->append_conf('postgresql.conf', "archive_mode = off\nrecovery_target_name = 'before'\nrecovery_target_action = 'promote'\n");
$first->start;
$node = $first;
wait_query($node, 'SELECT NOT pg_is_in_recovery()', 't');
fails_with('pitr', $ahead, qr/^Kafka has segment \d+ of stream 0, the outbox ends with \d+: commits of PostgreSQL were lost/, 'recovery to before the last messages');
is(out('pitr'), '180|180|180|180', 'nothing was sent');
is(read_until('pitr'), 150, 'and nothing was read');
is(stat_of('outbox_rows, published_rows', 'pitr'), '0|150', 'the view says what waits, and what is known to be sent');
value(q{SELECT streamproc.reconcile_publisher('pitr', 'resend')});
wait_caught_up($node, 'pitr', 60);
is(out('pitr'), '210|180|180|180', 'resend: what was lost is read and sent again, under the same numbers');
send_rows('pitr', 10);
wait_caught_up($node, 'pitr', 60);
is(out('pitr'), '220|190|190|190', 'and it goes on, each once');
stop('pitr');
$first->adjust_conf('postgresql.conf', $_, undef) for qw(recovery_target_name recovery_target_action restore_command);

# ---- a standby that is promoted: with all commits, and without the last ones ----

# "same": the standby has all that it committed, but not that it was sent; "resent", "discarded": commits are missing whose messages Kafka has
my @all = qw(same resent discarded);
make($_) for @all;
send_rows($_, 20) for @all;
exact($_, 'before the standby') for @all;
$first->backup('standby');
my $second = PostgreSQL::Test::Cluster->new('second');
$second->init_from_backup($first, 'standby', has_streaming => 1);
$second->start;
my $crash = Streamproc::Crash->new($first);
$crash->set_fault('publisher-before-begin=wait');
send_rows('same', 50);
send_rows('discarded', 20);
wait_query($first, q{SELECT string_agg(outbox_rows::text, ' ' ORDER BY pipeline) FROM streamproc.stat_pipeline WHERE pipeline IN ('same', 'discarded')}, '20 50');
$first->wait_for_catchup($second, 'replay', $first->lsn('insert'));
$second->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$second->reload;
wait_query($first, 'SELECT count(*) FROM pg_stat_replication', 0);
$crash->reset_fault;
wait_caught_up($first, $_) for @all;
send_rows($_, 30) for qw(resent discarded);
exact($_, 'the primary sends') for @all;
is(value('SELECT count(*) FROM streamproc.outbox'), 0, 'and knows it');
is(value(q{SELECT string_agg(pipeline || ' ' || n, ', ' ORDER BY pipeline) FROM (SELECT pipeline, sum(messages) AS n FROM streamproc.outbox GROUP BY 1) s}, $second), 'discarded 20, same 50', 'the standby does not');
$first->stop('immediate');
$second->promote;
$node = $second;
wait_query($node, 'SELECT NOT pg_is_in_recovery()', 't');

exact('same', 'a failover that lost no commit: it goes on by itself, nothing is sent again');
is(value(q{SELECT count(*) FROM streamproc.outbox WHERE pipeline = 'same'}), 0, '... and nothing waits');
send_rows('same', 10);
exact('same', '... and sends what comes next, each once');

fails_with('resent', $ahead, qr/commits of PostgreSQL were lost, by a failover or a restored backup/, 'a failover that lost commits');
fails_with('discarded', $ahead, qr/commits of PostgreSQL were lost/, 'the same while messages wait');
is(stat_of('outbox_rows, outbox_bytes > 0', 'discarded'), '20|t', 'the view says how many wait');
is(join(' ', map { out($_) } qw(resent discarded)), '50|50|50|50 70|70|70|70', 'nothing was sent');
is(join(' ', map { read_until($_) } qw(resent discarded)), '20 40', 'and nothing was read');
value(q{SELECT streamproc.reconcile_publisher('resent', 'resend')});
wait_caught_up($node, 'resent', 60);
is(out('resent'), '80|50|50|50', 'resend: what was lost came twice, under the same numbers, the rest once');
value(q{SELECT streamproc.reconcile_publisher('discarded', 'discard')});
wait_caught_up($node, 'discarded', 60);
is(out('discarded'), '100|70|70|70', 'discard: what had waited is not sent again; what was lost is read again');
send_rows($_, 10) for qw(resent discarded);
wait_caught_up($node, $_, 60) for qw(resent discarded);
is(join(' ', map { out($_) } qw(resent discarded)), '90|60|60|60 110|80|80|80', 'and both go on, each once');
stop($_) for qw(resent discarded);

# ---- a copy with the same identity beside the original: two publishers with one transactional id ----

sub copy_of
{
	my ($name) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);
	$copy->init_from_backup($second, $name);
	$copy->start;
	return $copy;
}

$second->backup('old');
send_rows('same', 10);
exact('same', 'a copy is made, and the original sends');
my $old = copy_of('old');
fails_with('same', $ahead, qr/commits of PostgreSQL were lost/, 'an older copy', $old);
send_rows('same', 10);
exact('same', 'the original, whose producer it has ended, goes on: each once');
is(stat_of('state, publish_fencings > 0', 'same'), 'running|t', '... and the view says that it was ended');
is(stat_of('last_error_sqlstate', 'same'), '40001', '... and why');
like(stat_of('last_error', 'same'), qr/^Kafka has ended the producer: /, '... in words');
is(stat_of('state', 'same', $old), 'failed', 'the copy is not started again');
$old->stop('fast');

# a copy that is as far as the original takes over
$second->backup('new');
my $new = copy_of('new');
wait_state($new, 'same', 'running', 60);
$crash = Streamproc::Crash->new($second);
$crash->set_fault('publisher-before-begin=wait');
send_rows('same', 10);
$crash->wait_hit('publisher-before-begin');
exact('same', 'a copy of the last state takes over: each once', $new);
wait_query($node, q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'same'}, 10);
$crash->reset_fault;
fails_with('same', $another, qr/a publisher that this database does not know: this is a copy, or it was set back/, 'the original');
is(stat_of('outbox_rows', 'same'), 10, '... with what it has not sent');
send_rows('same', 10);
exact('same', 'the copy, whose producer the original has ended, goes on: each once', $new);
is(stat_of('state', 'same', $new), 'running', '... and runs');
is(stat_of('state', 'same'), 'failed', '... the original does not');
$new->stop('fast');
# the copy is gone: what it has sent the original discards, what it had not read it reads, and so sends
value(q{SELECT streamproc.reconcile_publisher('same', 'discard')});
wait_caught_up($node, 'same', 60);
my $n = $sent{same};
is(out('same'), join('|', $n + 10, ($n) x 3), 'the original goes on when somebody has decided: 10 that it had not read came from both');
stop('same');

# ---- what Kafka has lost ----

make('kafka');
send_rows('kafka', 20);
exact('kafka', 'topics are there');
my $group = 'streamproc-' . value(q{SELECT id FROM streamproc.pipeline WHERE name = 'kafka'});
# while it runs, the next transaction stores the position again
$kafka->tool('delete-group', $group);
send_rows('kafka', 10);
exact('kafka', 'the group is deleted while the publisher runs: it goes on');
stop('kafka');
$kafka->delete_topic('streamproc.positions');
value(q{SELECT streamproc.start_pipeline('kafka')});
send_rows('kafka', 10);
exact('kafka', 'the topic of positions is deleted, nothing waits: it is made again, and all goes on');

$kafka->delete_topic('kafka_out');
send_rows('kafka', 10);
my $waits = q{SELECT state, waits_for FROM streamproc.stat_worker WHERE pipeline = 'kafka' AND role = 'publisher'};
wait_query($node, $waits, 'waiting|topic "kafka_out" does not exist', 60);
is(stat_of('last_error_sqlstate, last_error', 'kafka'), '42704|topic "kafka_out" does not exist', 'the topic of the sink is deleted: the view says so');
is(stat_of('state, outbox_rows, outbox_age > interval $$0$$, publish_retries > 0', 'kafka'), 'running|10|t|t', '... that messages wait, and since when');
send_rows('kafka', 10);
wait_query($node, q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'kafka'}, 20);
is(read_until('kafka'), 60, '... and input is read');
$kafka->topic('kafka_out', 1);
wait_caught_up($node, 'kafka', 60);
is(value('SELECT count(*), count(DISTINCT id), min(id) FROM kafka_out'), '20|20|41', 'it is made again: what waited comes, each once');
is(value($waits), 'running|', '... and the publisher runs');
is(value(q{SELECT rows_in >= rows_out, rows_out >= 20, batches >= commits, commits > 0, retries > 0 FROM streamproc.stat_worker WHERE pipeline = 'kafka' AND role = 'publisher'}), 't|t|t|t|t', 'stat_worker counts what it reads and sends, transactions, retries');
stop('kafka');

# ---- with state: as many messages wait as may ----

$kafka->topic('state', 1, 'max.message.bytes' => 2_000_000);
$kafka->topic('state_out', 1, 'cleanup.policy' => 'compact');
value(<<'SQL');
CREATE FOREIGN TABLE state (id int) SERVER kafka OPTIONS (topic 'state', format 'json');
CREATE FOREIGN TABLE state_out (k text OPTIONS (kafka 'key'), id int, n bigint, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'state_out', format 'json');
ALTER SYSTEM SET streamproc.outbox_size = 64;
SQL
value('SELECT pg_reload_conf()');
create_pipeline($node, 'state', 'INSERT INTO state_out (k, id, n) SELECT id::text, id, count(*) FROM state GROUP BY id');
wait_caught_up($node, 'state');
$crash->set_fault('publisher-before-begin=wait');
$kafka->produce('state', map { { partition => 0, value => qq({"id": $_}) } } 1 .. 3000);
my $full = 'as many messages as streamproc.outbox_size allows wait to be sent';
wait_query($node, q{SELECT state, sqlstate, reason FROM streamproc.stat_pipeline WHERE pipeline = 'state'}, "waiting|53400|$full", 30);
like(stat_of('hint', 'state'), qr/streamproc.stat_worker/, 'a pipeline with state, a full outbox: the view says why it waits, and where to look');
is(value(q{SELECT waits_for FROM streamproc.stat_worker WHERE pipeline = 'state' AND role = 'launcher'}), $full, '... and who waits');
my $committed = stat_of('checkpoints', 'state');
# 80 MB of input: more than may be taken without a commit
my ($count, $pad) = (4000, 'x' x 20_000);
$kafka->produce('state', map { { partition => 0, value => qq({"id": $_, "pad": "$pad"}) } } 1 .. $count);
wait_query($node, q{SELECT waits_for FROM streamproc.stat_worker WHERE pipeline = 'state' AND role = 'task'}, $full, 60);
my $taken = value(q{SELECT rows_in FROM streamproc.stat_worker WHERE pipeline = 'state' AND role = 'task'});
cmp_ok($taken, '<', 3000 + $count, 'the task takes no more input than is allowed without a commit');
cmp_ok($taken, '>', 3000, '... but some');
is(stat_of('checkpoints', 'state'), $committed, '... and nothing is committed');
$crash->reset_fault;
wait_caught_up($node, 'state', 60);
is(stat_of('state, reason', 'state'), 'running|', 'it goes on by itself');
is(value('SELECT count(*) FROM (SELECT DISTINCT ON (k) id, n FROM state_out ORDER BY k, o DESC) l FULL JOIN (SELECT id, count(*) AS n FROM state GROUP BY id) b USING (id, n) WHERE l.id IS NULL OR b.id IS NULL'),
	0, '... and gives what the batch query gives');
$node->stop('fast');
done_testing();

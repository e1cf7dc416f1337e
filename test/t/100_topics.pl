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

for my $what ('streamproc publisher', 'streamproc task', 'streamproc launcher')
{
	send_rows('a', 2, 500);
	kill9((split /\n/, value("SELECT pid FROM pg_stat_activity WHERE backend_type = '$what' LIMIT 1"))[0]);
	wait_until(sub { eval { value('SELECT 1') } }, 60);
	wait_caught_up($node, 'a');
	exact('a_out', 'SELECT id, card, v FROM a WHERE v >= 5', "kill -9 of a $what");
}

# ---- each step, killed, failed and repeated ----

for my $point (qw(outbox-insert commit-before-position commit-done publisher-before-durable publisher-before-begin publisher-before-commit
	publisher-committed publisher-before-delete publisher-before-delete-commit publisher-before-init publisher-before-compare publisher-signed))
{
	# an error of a task that does not pass is a bad row's; one of the publisher ends it
	for my $action ('kill', $point =~ /^publisher|done/ ? 'error' : 'retry')
	{
		$crash->set_fault("$point=$action\@1");
		kill9(value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc publisher'")) if $point =~ /init|compare|signed/;
		send_rows('a', 2, 200);
		$crash->wait_hit($point);
		$crash->reset_fault;
		wait_until(sub { eval { value('SELECT 1') } }, 60);
		wait_caught_up($node, 'a');
		exact('a_out', 'SELECT id, card, v FROM a WHERE v >= 5', "$action at $point");
	}
}
done_testing();

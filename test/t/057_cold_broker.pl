# A broker that has just come back, or that was mute for some seconds, answers, but names no broker for a moment.  The
# library throws such an answer to the question it puts when it connects away, and asks again after five minutes: a
# launcher that started in this moment must not wait for that.  A proxy gives such answers (ErrorProxy.pm), to all
# questions that name no topic.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use Streamproc::ErrorProxy;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $proxy = Streamproc::ErrorProxy->new;
my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
my $node = create_node('main');
my $address = $proxy->address;
$node->safe_psql('postgres',
	"CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address');"
	  . "CREATE FOREIGN TABLE numbers_t (n int) SERVER kafka OPTIONS (topic 'numbers'); CREATE TABLE numbers (n int);"
	  . "CREATE FOREIGN TABLE later_t (n int) SERVER kafka OPTIONS (topic 'later'); CREATE TABLE later (n int)");
$kafka->topic('numbers', 2);
$kafka->produce('numbers', map { { partition => $_ % 2, value => qq({"n": $_}) } } 1 .. 100);

$proxy->set('brokers', 'Metadata', 'refuse', 'LEADER_NOT_AVAILABLE', 1000);
# and those for the topic, at first
$proxy->set('numbers', 'Metadata', 'refuse', 'LEADER_NOT_AVAILABLE', 4);
create_pipeline($node, 'numbers', 'INSERT INTO numbers SELECT n FROM numbers_t', start => 'earliest', parallelism => 2);
wait_state($node, 'numbers', 'running', 60);
wait_caught_up($node, 'numbers');
is($node->safe_psql('postgres', 'SELECT count(*), sum(n) FROM numbers'), '100|5050', 'no broker is named, and the pipeline reads all the same');
is($proxy->hits('numbers'), 4, 'the proxy has answered');

# the same question where the topic is missing
create_pipeline($node, 'later', 'INSERT INTO later SELECT n FROM later_t', start => 'earliest');
wait_state($node, 'later', 'waiting', 60);
wait_query($node, q{SELECT sqlstate, reason FROM streamproc.stat_pipeline WHERE pipeline = 'later'}, '42704|topic "later" does not exist');
pass('a topic that is missing is what the view says');
$kafka->topic('later', 1);
$kafka->produce('later', map { { partition => 0, value => qq({"n": $_}) } } 1 .. 10);
wait_state($node, 'later', 'running', 60);
wait_caught_up($node, 'later');
is($node->safe_psql('postgres', 'SELECT count(*), sum(n) FROM later'), '10|55', '... and it goes on when it is there');

# a new launcher each time
for (1 .. 3)
{
	$node->safe_psql('postgres', "SELECT streamproc.stop_pipeline('numbers')");
	$kafka->produce('numbers', { partition => 0, value => '{"n": 1}' });
	$node->safe_psql('postgres', "SELECT streamproc.start_pipeline('numbers')");
	wait_state($node, 'numbers', 'running', 60);
	wait_caught_up($node, 'numbers');
	pass('stopped and started');
}
is($node->safe_psql('postgres', 'SELECT count(*), sum(n) FROM numbers'), '103|5053', 'nothing is lost');
$node->stop('fast');
done_testing();

# The clock of the server jumps, forth and back: all waits are by the monotonic clock, so nothing stalls and nothing spins.
# What is due after an hour comes when that clock says so.  ../clock/clock.c is what shows the server another time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Streamproc::Clock;
use Streamproc::Kafka;
use Streamproc::Node;

my $clock = Streamproc::Clock->new;

my $kafka = Streamproc::Kafka->new;
$kafka->topic('tx', 2);
my $node = create_node('main', start => 0, conf => "streamproc.restart_backoff_max = '1s'\nstreamproc.metadata_interval = '300ms'\nautovacuum_naptime = 1s\n");
$clock->start($node);
sub q1 { return scalar $node->safe_psql('postgres', $_[0]) }
q1('CREATE EXTENSION streamproc');
create_kafka_server($node, $kafka);
q1(<<'SQL');
CREATE FOREIGN TABLE tx (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx', idle_timeout '300 ms');
CREATE TABLE sink (id int, p int, o bigint);
CREATE TABLE total (p int PRIMARY KEY, n bigint);
SQL
create_pipeline($node, 'pipe', 'INSERT INTO sink SELECT id, p, o FROM tx; INSERT INTO total SELECT p, 1 FROM tx ON CONFLICT (p) DO UPDATE SET n = total.n + 1', parallelism => 2);

sub right
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_caught_up($node, 'pipe', 60);
	is(q1(q{SELECT (SELECT count(*) FROM sink) = (SELECT sum(next_offset) FROM streamproc.position), (SELECT count(DISTINCT (p, o)) = count(*) FROM sink), (SELECT sum(n) FROM total) = (SELECT count(*) FROM sink)}),
		't|t|t', $what);
}
# seconds that the server's clock is off
sub off { return q1('SELECT extract(epoch FROM clock_timestamp())') - time }
# CPU seconds of processes
sub cpu
{
	my $ticks = 0;
	for my $pid (@_)
	{
		my @stat = split / /, slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;
		$ticks += $stat[11] + $stat[12];
	}
	return $ticks / 100;
}

my $load = $kafka->load_start('tx', count => 0, rate => 1000, seed => 3);
wait_query($node, 'SELECT count(*) > 0 FROM sink');
right('the clock is right');
cmp_ok(abs(off()), '<', 10, 'as the server sees it');
my @workers = (worker_pids($node), q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'"));
my ($hour, $years) = (3600, 10 * 365 * 86400);
for my $seconds ($hour, -$hour, $years, 0)
{
	my $setting = sprintf '%+d', $seconds;
	$clock->set($seconds);
	cmp_ok(abs(off() - $seconds), '<', 30, "the clock jumps to $setting s");
	right("$setting s: it goes on under load");
	# something that waits for time: a launcher that is started again, a stop, a start
	q1(q{SELECT pg_terminate_backend(pid) FROM streamproc.stat_worker WHERE role = 'task' AND task = 1});
	wait_query($node, q{SELECT count(*) FROM streamproc.stat_worker WHERE role = 'task' AND pid IS NOT NULL}, 2);
	right("$setting s: a task that was terminated comes back");
	q1(q{SELECT streamproc.stop_pipeline('pipe')});
	q1(q{SELECT streamproc.wait_until_stopped('pipe', '30 s')});
	q1(q{SELECT streamproc.start_pipeline('pipe')});
	right("$setting s: stop and start");
	is(q1(q{SELECT state FROM streamproc.stat_pipeline}), 'running', "$setting s: running");
}
$load->signal('TERM');
eval { $load->finish };
right('all has been read');
# a broker away while the clock is set back
$kafka->kill;
wait_state($node, 'pipe', 'waiting');
$clock->set(-$hour);
pass('the clock is set back while there is no broker');
$kafka->start;
$kafka->produce('tx', map { { partition => $_ % 2, value => qq({"id": $_}) } } 1 .. 100);
right('it goes on when the broker is back');
like(slurp_file($node->logfile), qr/LOG:  pipeline "pipe" starts anew: the clock was set back by (3599|36\d\d) s/, 'because it has noticed');
# nothing spins: processes that have nothing to do do nothing, whatever the clock was
@workers = (worker_pids($node), q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'"));
my ($cpu, $begun) = (cpu(@workers), time);
for my $seconds (0, $hour, $years)
{
	my $until = time + 1;
	$clock->set($seconds);
	wait_until(sub { time > $until });
}
my ($used, $took) = (cpu(@workers) - $cpu, time - $begun);
diag(sprintf '%d idle processes used %.2f s of CPU in %.1f s', scalar @workers, $used, $took);
cmp_ok($used, '<', $took / 2, 'no process is busy with nothing');
is(q1(q{SELECT count(*) FROM streamproc.stat_pipeline WHERE last_error IS NOT NULL AND last_error_sqlstate !~ '^(57|08)'}), 0, 'no error but those that the test made') or diag(q1('SELECT last_error_sqlstate, last_error FROM streamproc.stat_pipeline'));

# ---- an hour without messages to send: the publisher stores its position again, so that Kafka does not forget it ----

$clock->set(0);
$kafka->topic('out', 1);
q1(q{CREATE FOREIGN TABLE "out" (id int) SERVER kafka OPTIONS (topic 'out')});
create_pipeline($node, 'sends', 'INSERT INTO "out" SELECT id FROM tx WHERE id % 100 = 0');
wait_caught_up($node, 'sends', 60);
my $group = 'streamproc-' . q1(q{SELECT id FROM streamproc.pipeline WHERE name = 'sends'});
# what Kafka has stored for the group: offset, leader's epoch, metadata as they are; when
sub stored
{
	my @values = map { $_->{value} } grep { defined $_->{key} && defined $_->{value} && $_->{key} =~ /\Q$group\E.*\Qstreamproc.positions\E/s } $kafka->consume('__consumer_offsets');
	my @parts = map { [ substr($_, 0, -8), unpack('q>', substr($_, -8)) ] } @values;
	return @parts;
}
my $sent = q1(q{SELECT published_rows FROM streamproc.stat_pipeline WHERE pipeline = 'sends'});
cmp_ok($sent, '>', 0, 'messages were sent');
# the last of them is deleted from the outbox a moment later
wait_query($node, q{SELECT published FROM streamproc.publisher_position WHERE pipeline = 'sends'}, $sent);
my $position = q1(q{SELECT p FROM streamproc.publisher_position p WHERE pipeline = 'sends'});
my $ends = join ' ', map { "@$_" } values %{ $kafka->offsets('out') };
my @stored = stored();
like($stored[-1][0], qr/ \Q@{[ q1('SELECT system_identifier FROM pg_control_system()') ]}\E /, 'the position is stored, with the system identifier');
is(unpack('q>', substr($stored[-1][0], 2, 8)), $sent, '... as the number of messages');
$clock->set($hour - 600, $hour - 600);
# it has looked when it has slept some times more
my ($publisher) = worker_pids($node, role => 'publisher');
my $slept = sub { return (slurp_file("/proc/$publisher/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m)[0] };
my $looks = $slept->() + 4;
ok(wait_until(sub { $slept->() >= $looks }, 30), 'the publisher looks at the clock');
is(scalar(my @before = stored()), scalar @stored, 'not before the hour is over');
$clock->set($hour + 60, $hour + 60);
ok(wait_until(sub { stored() > @stored }, 30), 'after an hour it is stored again');
my @again = stored();
is(scalar @again, @stored + 1, '... once');
is($again[-1][0], $stored[-1][0], '... as it was');
cmp_ok($again[-1][1], '>', $stored[-1][1], '... but for the time');
is(q1(q{SELECT p FROM streamproc.publisher_position p WHERE pipeline = 'sends'}), $position, '... and PostgreSQL\'s is as it was');
is(join(' ', map { "@$_" } values %{ $kafka->offsets('out') }), $ends, '... and nothing is sent');
$kafka->produce('tx', map { { partition => $_ % 2, value => qq({"id": ${_}00}) } } 1 .. 10);
wait_caught_up($node, 'sends', 60);
is(q1(q{SELECT published_rows FROM streamproc.stat_pipeline WHERE pipeline = 'sends'}), $sent + 10, '... and what comes next is');
is(q1(q{SELECT state, publish_retries FROM streamproc.stat_pipeline WHERE pipeline = 'sends'}), 'running|0', '... without a failure');
$node->stop('fast');
done_testing();

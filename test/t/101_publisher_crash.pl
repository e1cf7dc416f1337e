# Exactly once into a topic, whatever is killed, cut or stalled.
#
# Two pipelines read one topic: "many" with three tasks into a topic of three partitions, "windows" with state into another
# one, through a proxy. In each round a burst of messages is sent, the publisher, a task or the launcher stands still at
# a point of its work, and then it, another process, the server or the broker is killed, or connections are cut or left half
# open. All the time read_committed consumers, which are connected to the broker itself, read both results. In the end each
# result must have come once, numbered without gap, in order within a key. A third pipeline, "least", sends at least once: each of
# its results must have come, first time in order within a key.
#
# Short form: each kind of fault. Long form (make crash): 100,000 messages, at least 60 faults.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Streamproc::Proxy;
use Test::More;
use Time::HiRes qw(time usleep);

my $long = $ENV{STREAMPROC_LONG} ? 1 : 0;
my $begun = time;
my $proxy = Streamproc::Proxy->new;
my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
my $node = create_node('crash', conf => <<'CONF');
restart_after_crash = on
log_statement = none
log_disconnections = off
log_connections = off
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
my $crash = Streamproc::Crash->new($node);
$kafka->topic('tx', 3);
$kafka->topic($_, 3) for qw(many windows least);
$node->safe_psql('postgres', "CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '" . $proxy->address . "', fetch_wait_max_ms '50')");
$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE tx (id int, card text, at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'tx', format 'json', event_time 'at', watermark_delay '60 s');
CREATE FOREIGN TABLE many (k text OPTIONS (kafka 'key'), id int, p int, o bigint) SERVER kafka OPTIONS (topic 'many', format 'json');
CREATE FOREIGN TABLE least (k text OPTIONS (kafka 'key'), id int) SERVER kafka OPTIONS (topic 'least', format 'json');
CREATE FOREIGN TABLE windows (k text OPTIONS (kafka 'key'), start bigint, n bigint) SERVER kafka OPTIONS (topic 'windows', format 'json');
CREATE TABLE sink (id int, p int, o bigint);
SQL
my %follower = map { $_ => $kafka->follow($_) } qw(many windows least);
create_pipeline($node, 'many', q{WITH kept AS (INSERT INTO sink SELECT id, p, o FROM tx RETURNING id, p, o) INSERT INTO many SELECT p || '-' || id % 7, id, p, o FROM kept}, parallelism => 3);
create_pipeline($node, 'windows', q{INSERT INTO windows SELECT card, extract(epoch FROM w.window_start), count(*) FROM tx t, streamproc.tumble(t.at, '10 s') w
	GROUP BY card, w.window_start, w.window_end}, parallelism => 2);
create_pipeline($node, 'least', q{INSERT INTO least SELECT p || '-' || id % 7, id FROM tx}, parallelism => 2, delivery => 'at_least_once');
wait_state($node, $_, 'running') for qw(many windows least);

my ($sent, $resent) = (0, 0);
my $each = $long ? 1400 : 400;

# event time: 20 s a round
sub burst
{
	$kafka->produce('tx', map { my $id = $sent + $_; { partition => $id % 3, value => sprintf('{"id": %d, "card": "c%d", "at": %d}', $id, $id % 5, (1767225600 + $id * 20 / $each) * 1000) } } 0 .. $each - 1);
	$sent += $each;
	return;
}

sub pid_of
{
	my ($role, $pipeline) = @_;
	my $pid;
	wait_until(sub { $pid = $crash->ask("SELECT pid FROM streamproc.stat_worker WHERE role = '$role' AND pipeline = '$pipeline' AND pid IS NOT NULL ORDER BY task LIMIT 1"); $pid && $pid =~ /^\d+$/ }, 30)
	  or die "there is no $role of $pipeline";
	return $pid;
}

sub caught_up
{
	my ($what) = @_;
	my $good = wait_until(
		sub {
			my $out = $crash->ask("SELECT (SELECT count(*) FROM sink), (SELECT coalesce(sum(outbox_rows), -1) FROM streamproc.stat_pipeline),
				(SELECT min(s) FROM (SELECT sum(next_offset) AS s FROM streamproc.position GROUP BY pipeline) x)");
			return defined $out && $out =~ /^$sent\|0\|(\d+)$/ && $1 >= $sent;
		},
		90);
	return if $good;
	diag($crash->ask('SELECT pipeline, state, reason, detail, outbox_rows, last_error FROM streamproc.stat_pipeline') // 'no answer');
	diag($crash->ask('SELECT pipeline, role, pid, state, waits_for FROM streamproc.stat_worker') // 'no answer');
	die "after $what the pipelines did not go on";
}

my %hits;
my $misses = 0;

# One round: stand still at the point, then do it, then go on.
sub strike
{
	my ($kind, $point, $do) = @_;
	$crash->set_fault("$point=wait");
	burst();
	if (!defined $crash->wait_hit($point, 30))
	{
		$misses++;
		$crash->reset_fault;
		caught_up("$kind at $point, which nobody came by,");
		return;
	}
	$do->();
	$crash->reset_fault;
	$hits{$kind}++;
	caught_up("$kind at $point");
	return;
}

sub kill_role { my ($role, $pipeline) = @_; my $pid = pid_of($role, $pipeline); crash_worker($pid); return }

my @points = qw(publisher-before-durable publisher-before-begin publisher-begun publisher-before-commit publisher-committed publisher-before-delete publisher-before-delete-commit);
my @rounds;
for my $turn (1 .. ($long ? 3 : 1))
{
	for my $pipeline (qw(many windows))
	{
		push @rounds, map { my $point = $_; [ 'kill -9 publisher', $point, sub { kill_role('publisher', $pipeline) } ] } $long || $pipeline eq 'many' ? @points : @points[ 2, 3 ];
		push @rounds, [ 'kill -9 launcher', 'publisher-before-commit', sub { kill_role('launcher', $pipeline) } ];
	}
	push @rounds, map { my $point = $_; [ 'kill -9 publisher', $point, sub { kill_role('publisher', 'least') } ] } $long ? @points : @points[ 3, 4 ];
	push @rounds, [ 'kill -9 task', 'outbox-insert', sub { kill_role('task', 'many') } ], [ 'kill -9 task', 'commit-after-position', sub { kill_role('task', 'many') } ];
	push @rounds, [ 'kill -9 postmaster', $_, sub { crash_postmaster($node); $node->start } ] for $long ? @points[ 2, 3, 5 ] : $points[2];
	push @rounds, [ 'kill -9 broker', $_, sub { $kafka->kill; $kafka->start } ] for $long ? @points[ 1, 2, 3 ] : $points[2];
	push @rounds, [ 'connections cut', $_, sub { $proxy->cut } ] for $long ? @points[ 0 .. 4 ] : @points[ 1, 2, 3 ];
	# the library finds out by its own time-outs
	push @rounds, [ 'half open connections', $_, sub { $proxy->freeze; $crash->reset_fault; usleep(500_000) for 1 .. ($long ? 50 : 4); $proxy->thaw } ] for $long ? @points[ 1, 2 ] : $points[2];
}
strike(@$_) for @rounds;

# ---- what the consumers saw ----

# two later events close the last windows
$kafka->produce('tx', map { { partition => $_ % 3, value => sprintf('{"id": %d, "card": "end", "at": %d}', $sent + $_, (1767225600 + $sent * 20 / $each + 200) * 1000) } } 0 .. 2);
my $closed = $crash->ask(q{SELECT count(DISTINCT (card, floor(extract(epoch FROM at) / 10))) FROM tx WHERE card <> 'end'});
$sent += 3;
caught_up('the end');
ok(wait_until(sub { my @m = $follower{windows}->messages; @m >= $closed }, 60), "windows: all $closed came") or diag(scalar(my @n = $follower{windows}->messages));
# what is committed is not yet read; what is missing is seen below
wait_until(sub { my @m = $follower{$_}->messages; @m >= $sent }, 60) for qw(many least);
my %seen = map { $_ => [ $follower{$_}->finish ] } keys %follower;
for my $topic (qw(many windows))
{
	my (%count, %order, $back);
	for my $message (@{ $seen{$topic} })
	{
		my ($number) = map { $_->[1] =~ m{/(\d+)$} } grep { $_->[0] eq 'streamproc' } @{ $message->{headers} };
		$count{$number}++;
		my ($id) = $message->{value} =~ /"(?:id|start)":(\d+)/;
		$back++ if ($order{ $message->{key} } // -1) >= $id;
		$order{ $message->{key} } = $id;
	}
	my $n = @{ $seen{$topic} };
	is(scalar(grep { $count{$_} != 1 } keys %count), 0, "$topic: no message came twice");
	is(join(',', grep { !$count{$_} } 1 .. $n), '', "$topic: numbers 1 to $n without a gap");
	is($back // 0, 0, "$topic: each key in order");
}
is(scalar @{ $seen{many} }, $sent, 'each message of the source gave one');
{
	my (%came, %last, $back);
	for my $message (@{ $seen{least} })
	{
		my ($id) = $message->{value} =~ /"id":(\d+)/;
		next if $came{$id}++;
		$back++ if ($last{ $message->{key} } // -1) >= $id;
		$last{ $message->{key} } = $id;
	}
	is(join(',', grep { !$came{$_} } 0 .. $sent - 1), '', 'least: each came');
	is($back // 0, 0, 'least: each key in order, the first time');
	note(scalar(@{ $seen{least} }) - $sent, ' came again');
}
my %windows = map { $_->{key} . ' ' . ($_->{value} =~ /"start":(\d+)/)[0] => ($_->{value} =~ /"n":(\d+)/)[0] } @{ $seen{windows} };
my %expected = map { my ($card, $start, $n) = split /\|/; ("$card $start" => $n) } split /\n/,
  $crash->ask(q{SELECT card, (floor(extract(epoch FROM at) / 10) * 10)::bigint, count(*) FROM tx WHERE card <> 'end' GROUP BY 1, 2});
is(join(',', grep { ($windows{$_} // -1) != $expected{$_} } sort keys %expected), '', 'each window is the batch query\'s');
is($crash->ask('SELECT count(*) FROM (SELECT p, o FROM tx EXCEPT ALL SELECT p, o FROM sink) x'), 0, 'and the table has what the topic has');
is($crash->ask('SELECT count(*) FROM streamproc.late_row'), 0, 'nothing was late');
my $total = 0;
$total += $_ for values %hits;
cmp_ok($total, '>=', $long ? 60 : 15, 'enough faults hit');
diag(sprintf("%4d %s\n", $hits{$_}, $_)) for sort keys %hits;
diag(sprintf('%d faults hit, %d points nobody came by; %d messages; %.0f s', $total, $misses, $sent, time - $begun));
done_testing();

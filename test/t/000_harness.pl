# The harness itself: what the other tests rest on must be able to fail and to tell the truth.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
like($kafka->address, qr/^127\.0\.0\.1:\d+$/, 'the broker has an address');

$kafka->topic('t', 2, 'retention.ms' => -1);
eval { $kafka->topic('t', 2) };
like($@, qr/already exists/, 'a topic cannot be made twice');

my $binary = join('', map { chr } 0 .. 255);
my @where = $kafka->produce(
	't',
	{ partition => 0, key => $binary, value => "$binary\\N", headers => [ [ 'a=b', "x=y\n" ], [ 'null', undef ], [ 'empty', '' ] ],
		timestamp => 1767225600123 },
	{ partition => 1, key => undef, value => undef },
	{ partition => 1, key => '', value => '' },
	{ key => 'by key', value => '\N' });
is(scalar @where, 4, 'all messages are reported');
is_deeply([ @where[ 0 .. 2 ] ], [ [ 0, 0 ], [ 1, 0 ], [ 1, 1 ] ], 'at their offsets');

my ($first) = $kafka->consume('t', partition => 0, count => 1);
is($first->{key}, $binary, 'a binary key comes back');
is($first->{value}, "$binary\\N", 'a binary value comes back');
is($first->{timestamp}, 1767225600123, 'so does the timestamp');
is_deeply($first->{headers}, [ [ 'a=b', "x=y\n" ], [ 'null', undef ], [ 'empty', '' ] ], 'so do headers') or diag(explain($first->{headers}));
my @second = $kafka->consume('t', partition => 1, count => 2);
ok(!defined $second[0]{value} && !defined $second[0]{key}, 'a tombstone without a key');
is_deeply([ $second[1]{key}, $second[1]{value} ], [ '', '' ], 'empty is not NULL');
my ($by_key) = grep { ($_->{key} // '') eq 'by key' } $kafka->consume('t');
is($by_key->{value}, '\N', 'a value that looks like our NULL');

# transactions
$kafka->topic('x');
my $tx = $kafka->transaction('x', 'tx1');
$tx->begin;
$tx->send('one');
is_deeply([ map { $_->{value} } $kafka->consume('x') ], [], 'an open transaction is not read');
is($kafka->offsets('x')->{0}[1], 1, 'but it is there');
is($kafka->offsets('x', committed => 1)->{0}[1], 0, 'beyond the last stable offset');
$tx->commit;
$tx->begin;
$tx->send('two');
$tx->abort;
$tx->begin;
$tx->send('three');
$tx->commit;
$tx->finish;
is_deeply([ map { $_->{value} } $kafka->consume('x') ], [ 'one', 'three' ], 'committed ones are read, aborted ones not');

# the load tool: same seed, same bytes, even over a crash of the broker
$kafka->topic($_, 3) for 'l1', 'l2';
like($kafka->load('l1', count => 30000, seed => 7, keys => 100, skew => 1, disorder => 50), qr/30000 events.* 0 failed/, 'load');
my $load = $kafka->load_start('l2', count => 30000, seed => 7, keys => 100, skew => 1, disorder => 50, rate => 30000, 'event-rate' => 10000);
$kafka->kill;
ok(!-e $kafka->dir . '/pid', 'the broker is dead');
$kafka->start;
ok($load->finish, 'load outlives a crash of the broker');
for my $partition (0 .. 2)
{
	# a broker that was killed may have forgotten that it had a batch, and take it again
	my %seen;
	my ($l1, $l2) = map { %seen = (); join("\n", grep { !$seen{$_}++ } map { "$_->{timestamp} $_->{key} $_->{value}" } $kafka->consume($_, partition => $partition)) } 'l1', 'l2';
	ok($l1 eq $l2 && length($l1) > 100000, "partition $partition has the same events");
}
is(scalar(() = $kafka->consume('t')), 4, 'the other topic is still there');

# a reader that follows; one that has ended is not one that has seen nothing
$kafka->topic('f');
my $follower = $kafka->follow('f');
$kafka->produce('f', 'one');
my @seen;
ok(wait_until(sub { push @seen, $follower->more; return @seen }), 'a follower sees what comes');
is($seen[0]{value}, 'one', '... as it is');
kill9($follower->pid);
ok(wait_gone($follower->pid), 'a follower is killed');
for my $call (qw(more messages finish))
{
	eval { $follower->$call };
	like($@, qr/the consumer has ended/, "$call says so");
}
$follower = $kafka->follow('f');
ok(wait_until(sub { return scalar(() = $follower->messages) == 1 }), 'another one begins anew');
is(scalar(() = $follower->finish), 1, '... and keeps what it has seen when it is finished');
is(scalar(() = $follower->messages), 1, '... to be asked for again');

# administration
$kafka->delete_records('l1', 0, 10);
is($kafka->offsets('l1')->{0}[0], 10, 'records are deleted');
$kafka->add_partitions('x', 4);
is(scalar keys %{ $kafka->offsets('x') }, 4, 'partitions are added');
$kafka->delete_topic('x');
eval { $kafka->produce('x', 'v') };
like($@, qr/Unknown topic/i, 'a deleted topic is unknown');
$kafka->pause;
eval { $kafka->tool('wait', 500) };
like($@, qr/no answer/, 'a paused broker does not answer');
$kafka->resume;
$kafka->tool('wait', 10000);
my $pid = $kafka->pid;
$kafka->stop;
ok(wait_gone($pid), 'a stopped broker is gone');

done_testing();

# Chaos: pipelines of all kinds under a steady load, and every one to a few seconds something is done to them, drawn by a
# seeded generator.  See README.md.
#
#   make chaos MINUTES=10 SEED=7       (test/run.sh build chaos)
#
# Environment: MINUTES (2), SEED (by default from the time; it is printed), RATE (events a second, 1500), ONLY (a pattern:
# actions), STREAMPROC_SPACE (a small file system of its own, for the disk that is full).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl", $FindBin::Bin;
use PostgreSQL::Test::Utils;
use Actions;
use Flow;
use List::Util qw(shuffle sum0 max);
use Streamproc::Clock;
use Streamproc::Kafka;
use Streamproc::Node;
use Streamproc::Proxy;
use Test::More;
use Time::HiRes qw(time usleep);
use Watch;

my $minutes = $ENV{MINUTES} || 2;
my $seed = $ENV{SEED} || int(time * 1000) % 1_000_000;
my $rate = $ENV{RATE} || 1500;
my $space = $ENV{STREAMPROC_SPACE} || undef;
my $begun = time;
srand($seed);
diag("SEED=$seed MINUTES=$minutes RATE=$rate");
diag('no small file system (it needs root and mount): the disk that is full is left out') unless $space;

my $clock = Streamproc::Clock->new;
my $proxy = Streamproc::Proxy->new;
my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
my $node = create_node('chaos', start => 0, conf => <<'CONF');
restart_after_crash = on
log_statement = none
log_disconnections = off
log_connections = off
checkpoint_timeout = 30s
max_wal_size = 512MB
streamproc.restart_backoff_max = 1s
streamproc.stop_timeout = 2s
streamproc.metadata_interval = 1s
CONF
$clock->start($node);
$node->safe_psql('postgres', 'CREATE EXTENSION streamproc');
my $flow = Flow->new(node => $node, kafka => $kafka, address => $proxy->address, seed => $seed, rate => $rate, space => $space)->build;
my $follower = $kafka->follow('out');
$flow->start_load;
my $watch = Watch->start(node => $node, follower => $follower, dir => $flow->{dir});
my $actions = Actions->new(node => $node, flow => $flow, kafka => $kafka, proxy => $proxy, clock => $clock, space => $space);

# ---- what was done ----

my (%tried, %hits, @recovery, @slowest, %published);
my $restarted = 0;
# what a pipeline may rightly stop at, and what then goes on: nothing so far
my @may_fail = ();

# All pipelines run and have committed something new; seconds since then.  A pipeline that has failed is started by the
# command that its hint names, and is a finding unless it was right to fail.
sub recover
{
	my ($what, $since) = @_;
	my (%before, %first, %sent, %started);
	my @all = $flow->names;
	my $ok = wait_until(
		sub {
			my $state = $flow->state // return 0;
			for my $name (sort keys %$state)
			{
				my $s = $state->{$name};
				if ($s->{state} eq 'failed')
				{
					next if time - ($started{$name} // 0) < 5;
					$started{$name} = time;
					$restarted++;
					fail("$what: $name goes on by itself") unless grep { "$s->{sqlstate} $s->{reason}" =~ $_ } @may_fail;
					diag("$name failed: $s->{sqlstate} $s->{reason}; hint: $s->{hint}");
					my ($command) = $s->{hint} =~ /(SELECT streamproc\.\w+\(.*\))/;
					$flow->ask($command // "SELECT streamproc.start_pipeline('$name')");
					next;
				}
				$before{$name} //= $s->{n};
				# what a publisher has sent is not known at once when it begins
				$published{$name} = max($published{$name} // 0, $s->{published});
				$sent{$name} //= $published{$name};
				next if $s->{state} ne 'running' || $s->{n} <= $before{$name};
				next if $name eq 'topic' && $s->{published} <= $sent{$name};
				$first{$name} //= time;
			}
			return keys %first == @all;
		},
		90);
	if (!$ok)
	{
		diag($flow->describe);
		die "$what: after 90 s not all pipelines go on: " . join(', ', grep { !$first{$_} } $flow->names) . "\n";
	}
	return max(values %first) - $since;
}

sub act
{
	my ($name) = @_;
	$tried{$name}++;
	my $t = time;
	my $hit = $actions->run($name);
	# once more while all begins again
	$actions->meanwhile if $name =~ /kill|terminate|restart|stop|alter|retry/;
	my $over = time;
	$hits{$name}++ if $hit;
	my $seconds = recover($name, $over);
	push @recovery, $seconds if $hit;
	push @slowest, [ $seconds, $name ];
	diag(sprintf '%6.1f s  %-24s %s, %.1f s, recovered in %.2f s', $t - $begun, $name, $hit ? 'hit' : 'did not hit', $over - $t, $seconds);
	return;
}

# ---- the run ----

my @names = grep { !$ENV{ONLY} || /$ENV{ONLY}/ } $actions->names;
my $good = eval {
	recover('the begin', time);
	my $until = time + 60 * $minutes;
	# each of them once, before chance decides
	my @first = shuffle(@names);
	while (time < $until)
	{
		act(@first ? shift @first : $names[ int rand @names ]);
		die "the watch has seen something wrong\n" if $watch->bad_lines;
		usleep(1_000_000 * (0.2 + rand 2.5));
	}
	1;
};
my $why = $@;
ok($good, 'the run came to its end') or diag($why);
$flow->stop_load;
my %sum;
my $sent = eval {
	$clock->set($actions->{offset} = 0);
	$flow->drain;
	$flow->value(q{SELECT published FROM streamproc.publisher_position WHERE pipeline = 'topic'});
};
ok(defined $sent, 'everything is read and sent') or diag("$@\n", $flow->describe);
wait_until(sub { $watch->consumed >= $sent }, 60) if defined $sent;
my %seen = $watch->finish;
$follower->finish;
is(scalar @{ $seen{bad} }, 0, 'at each look sinks and positions agreed, nothing came twice, nothing went back') or diag(join("\n", @{ $seen{bad} }));
cmp_ok($seen{good}, '>=', 10, 'the watch looked');
cmp_ok($seen{positions}, '>=', 10, '... at other positions each time');
if (defined $sent)
{
	is("$seen{consumed} messages, the last is $seen{largest}", "$sent messages, the last is $sent", 'a read_committed consumer got all numbers, without a gap')
	  or diag('the broker as it was: ', $kafka->keep);
	%sum = eval { $flow->compare } or fail("sinks can be compared: $@");
}

# ---- memory: the second quarter against the last one ----

sub median { my @v = sort { $a <=> $b } @_; return @v ? $v[ $#v / 2 ] : 0 }
my @memory = @{ $seen{memory} };
my @part = @memory < 12 ? ([], []) : ([ @memory[ @memory / 4 .. @memory / 2 ] ], [ @memory[ @memory * 3 / 4 .. $#memory ] ]);
my @commits = map { my ($a, $b) = @memory[ $_ - 1, $_ ]; $b->[6] > $a->[6] && $b->[0] > $a->[0] ? ($b->[6] - $a->[6]) / ($b->[0] - $a->[0]) : () } 1 .. $#memory;
my @what = qw(task launcher publisher state segments);
my @flat;
for my $i (1 .. 5)
{
	my ($first, $last) = map { median(map { $_->[$i] } @$_) } @part;
	push @flat, sprintf '%s %.1f and %.1f', $what[ $i - 1 ], $first / 1024, $last / 1024;
	# segments of groups without end grow until they are merged
	cmp_ok($last, '<=', $first * 1.3 + 8192, "memory of $what[$i - 1] is flat, in kB") if @memory >= 12;
}

# ---- the report ----

my $hit = sum0(values %hits) + sum0(values %{ $actions->{also} // {} });
cmp_ok($hit, '>', 0, 'faults hit');
my @missed = grep { $tried{$_} && !$hits{$_} } sort keys %tried;
is(join(', ', @missed), '', 'of each kind one at least') if $minutes >= 5;
my @sorted = sort { $a <=> $b } @recovery;
my $p = sub { @sorted ? sprintf('%.2f', $sorted[ int($_[0] * $#sorted) ]) : 'none' };
@slowest = (sort { $b->[0] <=> $a->[0] } @slowest)[ 0 .. ($#slowest < 4 ? $#slowest : 4) ];
diag(sprintf('%-26s %3d of %3d hit%s', $_, $hits{$_} // 0, $tried{$_}, $actions->{also}{$_} ? ", $actions->{also}{$_} more during another one" : '')) for sort keys %tried;
diag("seed $seed, $minutes min: $hit faults hit of " . (sum0(values %tried) + sum0(values %{ $actions->{also} // {} })) . " actions");
diag(sprintf 'recovery p50 %s s, p99 %s s, max %s s; slowest: %s', $p->(0.5), $p->(0.99), $p->(1), join(', ', map { sprintf '%s %.1f s', $_->[1], $_->[0] } @slowest));
$sum{$_} //= 'unknown' for qw(events bad rows lost extra late);
diag("$sum{events} events, $sum{bad} bad rows, $sum{rows} rows of results; lost $sum{lost}, duplicated or wrong $sum{extra}; late: $sum{late}");
diag("the watch compared $seen{good} times at $seen{positions} positions, was cut off $seen{cut} times, saw positions taken back over a crash $seen{taken_back} times (of the topic alone); a consumer got $seen{consumed} messages; failed pipelines started again: $restarted");
diag(sprintf '%.0f commits a second (median)', median(@commits));
diag('memory in MB, second quarter and last: ' . join('; ', @flat));
diag(sprintf '%.0f s', time - $begun);
eval { $node->stop('fast') };
done_testing();

# Each error that Kafka can answer to a publisher, and no answer: nothing is lost, nothing comes twice, nothing hangs.
#
# A proxy before a real broker answers in its place, and the broker decides what is committed: see ErrorProxy.pm.  Each
# request has two pipelines, one for what takes the publisher's time-out; they run at once, each through its lines of the table.
# For a line a few messages are sent to the source, and it is done when the rule was used up and all messages are in
# the sink; then the counters of the view must have moved as the last column says.  At last a read_committed consumer must
# have seen each message once, in order, numbered without gap.
#
# ONLY=REGEXP picks requests.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::ErrorProxy;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time usleep);

# What happens to the next requests of the kind (ErrorProxy.pm says what refuse, pretend, lose, mute are), how many of
# them (*: until the publisher has given up), and the publisher:
#	repeats		it asks again, with the same producer
#	anew		another producer; it goes on where Kafka's position is
#	fenced		the same, and it is counted as being fenced
#	forbidden	the same, and the view says 42501 meanwhile
#	letter		it finds the message that is refused, which becomes a dead letter
my $table = <<'TABLE';
FindCoordinator     refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
FindCoordinator     refuse   COORDINATOR_NOT_AVAILABLE              3  repeats
FindCoordinator     refuse   COORDINATOR_LOAD_IN_PROGRESS           1  repeats
FindCoordinator     refuse   UNKNOWN_SERVER_ERROR                   1  repeats
FindCoordinator     refuse   REQUEST_TIMED_OUT                      1  repeats
FindCoordinator     refuse   INVALID_REQUEST                        1  repeats
FindCoordinator     refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  3  forbidden
FindCoordinator     refuse   CLUSTER_AUTHORIZATION_FAILED           3  forbidden
FindCoordinator     lose     -                                      1  repeats
FindCoordinator     lose     -                                      *  anew
FindCoordinator     refuse   COORDINATOR_NOT_AVAILABLE              *  anew
FindGroup           refuse   COORDINATOR_NOT_AVAILABLE              3  repeats
FindGroup           refuse   COORDINATOR_LOAD_IN_PROGRESS           3  repeats
FindGroup           refuse   INVALID_GROUP_ID                       3  anew
FindGroup           refuse   INVALID_REQUEST                        3  anew
FindGroup           refuse   UNKNOWN_SERVER_ERROR                   3  anew
FindGroup           refuse   GROUP_AUTHORIZATION_FAILED             4  forbidden
FindGroup           lose     -                                      3  repeats
FindGroup           lose     -                                      *  anew
FindGroup           refuse   COORDINATOR_NOT_AVAILABLE              *  anew
InitProducerId      refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
InitProducerId      refuse   NOT_COORDINATOR                        2  repeats
InitProducerId      refuse   COORDINATOR_LOAD_IN_PROGRESS           2  repeats
InitProducerId      refuse   CONCURRENT_TRANSACTIONS                2  repeats
InitProducerId      refuse   REQUEST_TIMED_OUT                      1  repeats
InitProducerId      refuse   UNKNOWN_SERVER_ERROR                   1  repeats
InitProducerId      refuse   INVALID_REQUEST                        1  repeats
InitProducerId      refuse   INVALID_PRODUCER_ID_MAPPING            1  repeats
InitProducerId      refuse   TRANSACTION_COORDINATOR_FENCED         1  repeats
InitProducerId      refuse   INVALID_PRODUCER_EPOCH                 1  fenced
InitProducerId      refuse   PRODUCER_FENCED                        1  fenced
InitProducerId      refuse   INVALID_TRANSACTION_TIMEOUT            1  anew
InitProducerId      refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  3  forbidden
InitProducerId      refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
InitProducerId      pretend  COORDINATOR_NOT_AVAILABLE              1  repeats
InitProducerId      lose     -                                      1  repeats
InitProducerId      mute     -                                      1  repeats
InitProducerId      mute     -                                      *  anew
InitProducerId      refuse   CONCURRENT_TRANSACTIONS                *  anew
OffsetFetch         refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
OffsetFetch         refuse   NOT_COORDINATOR                        2  repeats
OffsetFetch         refuse   COORDINATOR_LOAD_IN_PROGRESS           1  repeats
OffsetFetch         refuse   UNSTABLE_OFFSET_COMMIT                 2  repeats
OffsetFetch         refuse   REQUEST_TIMED_OUT                      1  anew
OffsetFetch         refuse   UNKNOWN_SERVER_ERROR                   1  anew
OffsetFetch         refuse   INVALID_GROUP_ID                       1  anew
OffsetFetch         refuse   GROUP_ID_NOT_FOUND                     1  anew
OffsetFetch         refuse   UNKNOWN_TOPIC_OR_PARTITION             1  anew
OffsetFetch         refuse   GROUP_AUTHORIZATION_FAILED             3  forbidden
OffsetFetch         refuse   TOPIC_AUTHORIZATION_FAILED             1  forbidden
OffsetFetch         lose     -                                      1  anew
OffsetFetch         lose     -                                      *  anew
OffsetFetch         refuse   UNSTABLE_OFFSET_COMMIT                 *  anew
AddPartitionsToTxn  refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
AddPartitionsToTxn  refuse   NOT_COORDINATOR                        2  repeats
AddPartitionsToTxn  refuse   COORDINATOR_LOAD_IN_PROGRESS           2  repeats
AddPartitionsToTxn  refuse   CONCURRENT_TRANSACTIONS                3  repeats
AddPartitionsToTxn  refuse   UNKNOWN_TOPIC_OR_PARTITION             1  repeats
AddPartitionsToTxn  refuse   REQUEST_TIMED_OUT                      1  anew
AddPartitionsToTxn  refuse   UNKNOWN_SERVER_ERROR                   1  anew
AddPartitionsToTxn  refuse   OPERATION_NOT_ATTEMPTED                1  anew
AddPartitionsToTxn  refuse   INVALID_TXN_STATE                      1  anew
AddPartitionsToTxn  refuse   TRANSACTION_ABORTABLE                  1  anew
AddPartitionsToTxn  refuse   INVALID_PRODUCER_EPOCH                 1  fenced
AddPartitionsToTxn  refuse   PRODUCER_FENCED                        1  fenced
AddPartitionsToTxn  refuse   INVALID_PRODUCER_ID_MAPPING            1  fenced
AddPartitionsToTxn  refuse   UNKNOWN_PRODUCER_ID                    1  anew
AddPartitionsToTxn  refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  3  forbidden
AddPartitionsToTxn  refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
AddPartitionsToTxn  refuse   TOPIC_AUTHORIZATION_FAILED             3  forbidden
AddPartitionsToTxn  pretend  NOT_COORDINATOR                        1  repeats
AddPartitionsToTxn  pretend  UNKNOWN_SERVER_ERROR                   1  anew
AddPartitionsToTxn  lose     -                                      1  repeats
AddPartitionsToTxn  mute     -                                      1  repeats
AddPartitionsToTxn  lose     -                                      *  anew
AddPartitionsToTxn  refuse   CONCURRENT_TRANSACTIONS                *  anew
Produce             refuse   NOT_LEADER_OR_FOLLOWER                 1  repeats
Produce             refuse   LEADER_NOT_AVAILABLE                   1  repeats
Produce             refuse   REQUEST_TIMED_OUT                      2  repeats
Produce             refuse   NETWORK_EXCEPTION                      1  anew
Produce             refuse   NOT_ENOUGH_REPLICAS                    2  repeats
Produce             refuse   NOT_ENOUGH_REPLICAS_AFTER_APPEND       1  repeats
Produce             refuse   KAFKA_STORAGE_ERROR                    1  repeats
Produce             refuse   CORRUPT_MESSAGE                        1  anew
Produce             refuse   UNKNOWN_SERVER_ERROR                   1  anew
Produce             refuse   INVALID_REQUIRED_ACKS                  1  anew
Produce             refuse   INVALID_TOPIC                          1  anew
Produce             refuse   UNSUPPORTED_FOR_MESSAGE_FORMAT         1  anew
Produce             refuse   POLICY_VIOLATION                       1  anew
Produce             refuse   OUT_OF_ORDER_SEQUENCE_NUMBER           1  anew
Produce             refuse   INVALID_TXN_STATE                      1  anew
Produce             refuse   UNKNOWN_TOPIC_OR_PARTITION             1  repeats
Produce             refuse   INVALID_PRODUCER_EPOCH                 1  fenced
Produce             refuse   PRODUCER_FENCED                        1  fenced
Produce             refuse   INVALID_PRODUCER_ID_MAPPING            1  fenced
Produce             refuse   UNKNOWN_PRODUCER_ID                    1  anew
Produce             refuse   TOPIC_AUTHORIZATION_FAILED             3  forbidden
Produce             refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
Produce             refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  1  forbidden
Produce             refuse   MESSAGE_TOO_LARGE                      1  anew
Produce             refuse   MESSAGE_TOO_LARGE                      2  letter
Produce             refuse   RECORD_LIST_TOO_LARGE                  1  anew
Produce             refuse   RECORD_LIST_TOO_LARGE                  2  letter
Produce             refuse   INVALID_TIMESTAMP                      1  anew
Produce             refuse   INVALID_TIMESTAMP                      2  letter
Produce             refuse   INVALID_RECORD                         1  anew
Produce             refuse   INVALID_RECORD                         2  letter
Produce             pretend  DUPLICATE_SEQUENCE_NUMBER              1  repeats
Produce             pretend  REQUEST_TIMED_OUT                      2  repeats
Produce             pretend  NOT_ENOUGH_REPLICAS_AFTER_APPEND       1  repeats
Produce             pretend  UNKNOWN_SERVER_ERROR                   1  anew
Produce             lose     -                                      1  repeats
Produce             mute     -                                      1  repeats
Produce             mute     -                                      *  anew
Produce             refuse   NOT_ENOUGH_REPLICAS                    *  anew
AddOffsetsToTxn     refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
AddOffsetsToTxn     refuse   NOT_COORDINATOR                        2  repeats
AddOffsetsToTxn     refuse   COORDINATOR_LOAD_IN_PROGRESS           5  repeats
AddOffsetsToTxn     refuse   CONCURRENT_TRANSACTIONS                9  repeats
AddOffsetsToTxn     refuse   REQUEST_TIMED_OUT                      1  repeats
AddOffsetsToTxn     refuse   UNKNOWN_TOPIC_OR_PARTITION             1  repeats
AddOffsetsToTxn     refuse   UNKNOWN_SERVER_ERROR                   1  anew
AddOffsetsToTxn     refuse   INVALID_GROUP_ID                       1  anew
AddOffsetsToTxn     refuse   UNSUPPORTED_FOR_MESSAGE_FORMAT         1  anew
AddOffsetsToTxn     refuse   INVALID_TXN_STATE                      1  anew
AddOffsetsToTxn     refuse   TRANSACTION_ABORTABLE                  1  anew
AddOffsetsToTxn     refuse   INVALID_PRODUCER_EPOCH                 1  fenced
AddOffsetsToTxn     refuse   PRODUCER_FENCED                        1  fenced
AddOffsetsToTxn     refuse   INVALID_PRODUCER_ID_MAPPING            1  fenced
AddOffsetsToTxn     refuse   UNKNOWN_PRODUCER_ID                    1  anew
AddOffsetsToTxn     refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  3  forbidden
AddOffsetsToTxn     refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
AddOffsetsToTxn     refuse   GROUP_AUTHORIZATION_FAILED             3  forbidden
AddOffsetsToTxn     refuse   TOPIC_AUTHORIZATION_FAILED             1  forbidden
AddOffsetsToTxn     pretend  REQUEST_TIMED_OUT                      1  repeats
AddOffsetsToTxn     pretend  UNKNOWN_SERVER_ERROR                   1  anew
AddOffsetsToTxn     lose     -                                      1  repeats
AddOffsetsToTxn     mute     -                                      1  repeats
AddOffsetsToTxn     mute     -                                      *  anew
AddOffsetsToTxn     refuse   COORDINATOR_LOAD_IN_PROGRESS           *  anew
TxnOffsetCommit     refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
TxnOffsetCommit     refuse   NOT_COORDINATOR                        2  repeats
TxnOffsetCommit     refuse   COORDINATOR_LOAD_IN_PROGRESS           2  repeats
TxnOffsetCommit     refuse   CONCURRENT_TRANSACTIONS                1  repeats
TxnOffsetCommit     refuse   REQUEST_TIMED_OUT                      1  repeats
TxnOffsetCommit     refuse   UNKNOWN_TOPIC_OR_PARTITION             1  repeats
TxnOffsetCommit     refuse   UNKNOWN_SERVER_ERROR                   1  anew
TxnOffsetCommit     refuse   INVALID_GROUP_ID                       1  anew
TxnOffsetCommit     refuse   ILLEGAL_GENERATION                     1  anew
TxnOffsetCommit     refuse   UNKNOWN_MEMBER_ID                      1  anew
TxnOffsetCommit     refuse   FENCED_INSTANCE_ID                     1  anew
TxnOffsetCommit     refuse   OFFSET_METADATA_TOO_LARGE              1  anew
TxnOffsetCommit     refuse   INVALID_COMMIT_OFFSET_SIZE             1  anew
TxnOffsetCommit     refuse   UNSUPPORTED_FOR_MESSAGE_FORMAT         1  anew
TxnOffsetCommit     refuse   INVALID_TXN_STATE                      1  anew
TxnOffsetCommit     refuse   TRANSACTION_ABORTABLE                  1  anew
TxnOffsetCommit     refuse   INVALID_PRODUCER_EPOCH                 1  fenced
TxnOffsetCommit     refuse   PRODUCER_FENCED                        1  fenced
TxnOffsetCommit     refuse   INVALID_PRODUCER_ID_MAPPING            1  fenced
TxnOffsetCommit     refuse   UNKNOWN_PRODUCER_ID                    1  anew
TxnOffsetCommit     refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  1  forbidden
TxnOffsetCommit     refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
TxnOffsetCommit     refuse   GROUP_AUTHORIZATION_FAILED             3  forbidden
TxnOffsetCommit     refuse   TOPIC_AUTHORIZATION_FAILED             3  forbidden
TxnOffsetCommit     pretend  REQUEST_TIMED_OUT                      1  repeats
TxnOffsetCommit     pretend  UNKNOWN_SERVER_ERROR                   1  anew
TxnOffsetCommit     lose     -                                      1  repeats
TxnOffsetCommit     mute     -                                      1  repeats
TxnOffsetCommit     mute     -                                      *  anew
TxnOffsetCommit     refuse   COORDINATOR_NOT_AVAILABLE              *  anew
EndTxn              refuse   COORDINATOR_NOT_AVAILABLE              1  repeats
EndTxn              refuse   NOT_COORDINATOR                        2  repeats
EndTxn              refuse   COORDINATOR_LOAD_IN_PROGRESS           5  repeats
EndTxn              refuse   CONCURRENT_TRANSACTIONS                9  repeats
EndTxn              refuse   REQUEST_TIMED_OUT                      1  anew
EndTxn              refuse   UNKNOWN_SERVER_ERROR                   1  anew
EndTxn              refuse   INVALID_REQUEST                        1  anew
EndTxn              refuse   INVALID_TXN_STATE                      1  anew
EndTxn              refuse   TRANSACTION_ABORTABLE                  1  anew
EndTxn              refuse   INVALID_PRODUCER_EPOCH                 1  fenced
EndTxn              refuse   PRODUCER_FENCED                        1  fenced
EndTxn              refuse   INVALID_PRODUCER_ID_MAPPING            1  fenced
EndTxn              refuse   UNKNOWN_PRODUCER_ID                    1  anew
EndTxn              refuse   TRANSACTIONAL_ID_AUTHORIZATION_FAILED  3  forbidden
EndTxn              refuse   CLUSTER_AUTHORIZATION_FAILED           1  forbidden
EndTxn              pretend  COORDINATOR_NOT_AVAILABLE              1  repeats
EndTxn              pretend  NOT_COORDINATOR                        2  repeats
EndTxn              pretend  COORDINATOR_LOAD_IN_PROGRESS           1  repeats
EndTxn              pretend  CONCURRENT_TRANSACTIONS                2  repeats
EndTxn              pretend  REQUEST_TIMED_OUT                      1  anew
EndTxn              pretend  UNKNOWN_SERVER_ERROR                   1  anew
EndTxn              pretend  INVALID_TXN_STATE                      1  anew
EndTxn              pretend  INVALID_PRODUCER_EPOCH                 1  fenced
EndTxn              pretend  PRODUCER_FENCED                        1  fenced
EndTxn              pretend  INVALID_PRODUCER_ID_MAPPING            1  fenced
EndTxn              pretend  TRANSACTIONAL_ID_AUTHORIZATION_FAILED  1  forbidden
EndTxn              lose     -                                      1  repeats
EndTxn              mute     -                                      1  repeats
EndTxn              mute     -                                      *  anew
EndTxn              refuse   COORDINATOR_LOAD_IN_PROGRESS           *  anew
TABLE

my $begun = time;
my $proxy = Streamproc::ErrorProxy->new;
my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
my $node = create_node('errors', conf => <<'CONF');
log_statement = none
log_disconnections = off
log_connections = off
streamproc.restart_backoff_max = 200ms
max_worker_processes = 96
CONF
create_kafka_server($node, $kafka);
# answers are waited for one second, so that the library sees a lost one; the publisher's own limits are its own
$node->safe_psql('postgres', "CREATE SERVER errors FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '" . $proxy->address . "', socket_timeout_ms '1000')");

my (%work, @order);
for (split /\n/, $table)
{
	my ($request, $mode, $error, $times, $expected) = split;
	next unless picked($request);
	my $name = lc $request . ($times eq '*' ? '_long' : '');
	push @order, $name unless $work{$name};
	push @{ $work{$name}{lines} }, { request => $request, mode => $mode, error => $error, times => $times, expected => $expected,
		name => "$request: $mode" . ($error ne '-' ? " $error" : '') . ($times eq '*' ? ', for long' : $times > 1 ? ", $times times" : '') };
}
for my $name (@order)
{
	$kafka->topic($_) for "${name}_in", "${name}_out";
	$node->safe_psql('postgres', <<SQL);
CREATE FOREIGN TABLE ${name}_in (id int) SERVER kafka OPTIONS (topic '${name}_in', format 'json');
CREATE FOREIGN TABLE ${name}_out (id int) SERVER errors OPTIONS (topic '${name}_out', format 'json');
SQL
	create_pipeline($node, $name, "INSERT INTO ${name}_out SELECT id FROM ${name}_in");
	@{ $work{$name} }{qw(name sent)} = ($name, 0);
	$work{$name}{id} = 'streamproc-' . $node->safe_psql('postgres', "SELECT id FROM streamproc.pipeline WHERE name = '$name'");
}
wait_state($node, $_, 'running') for @order;

# ---- the lines ----

sub look
{
	my ($out, $err);
	$node->psql('postgres', q{SELECT pipeline, state, outbox_rows, published_rows, publish_retries, publish_fencings, bad_rows, coalesce(last_error_sqlstate, ''),
		coalesce(last_error, ''), coalesce(sqlstate, ''), coalesce(reason, '') FROM streamproc.stat_pipeline},
		extra_params => [ '-F', "\t" ], stdout => \$out, stderr => \$err) == 0 or die $err;
	my %rows;
	for (split /\n/, $out)
	{
		my %row;
		@row{qw(pipeline state waits published retries fencings letters error_state error sqlstate reason)} = split /\t/, $_, -1;
		$rows{ $row{pipeline} } = \%row;
	}
	return \%rows;
}

sub begin_line
{
	my ($w, $line, $row) = @_;
	@$line{qw(retries fencings letters begun)} = (@$row{qw(retries fencings letters)}, time);
	$proxy->clear($w->{id});
	$line->{wanted} = 0;
	# asked when a producer is new only
	$line->{anew} = $line->{request} =~ /Find|InitProducerId|OffsetFetch/ ? 1 : 0;
	$proxy->set($w->{id}, 'EndTxn', 'refuse', 'INVALID_TXN_STATE') if $line->{anew};
	$proxy->set($w->{id}, @$line{qw(request mode error)}, $line->{times} eq '*' ? 1_000_000 : $line->{times});
	$line->{wanted} = $line->{anew} + $line->{times} unless $line->{times} eq '*';
	$kafka->produce("$w->{name}_in", map { { partition => 0, value => qq({"id": ${\ $w->{sent}++ }}) } } 1 .. 3);
	return;
}

# True: the line is through.
sub look_at_line
{
	my ($w, $line, $row) = @_;
	if ($line->{times} eq '*')
	{
		# counted when it has given up
		return 0 unless $line->{given_up} || $row->{retries} - $line->{retries} > $line->{anew};
		$proxy->clear($w->{id}) unless $line->{given_up}++;
	}
	return $row->{published} == $w->{sent} && $row->{waits} == 0 && ($line->{times} eq '*' || $proxy->hits($w->{id}) >= $line->{wanted});
}

sub check_line
{
	my ($line, $row) = @_;
	my $retries = $row->{retries} - $line->{retries} - $line->{anew};
	my $fencings = $row->{fencings} - $line->{fencings};
	my $is = $row->{letters} - $line->{letters} == 1 ? 'letter'
	  : $row->{letters} != $line->{letters} ? 'letters'
	  : $fencings > 0 ? 'fenced'
	  : $retries == 0 ? 'repeats'
	  : $row->{error_state} eq '42501' ? 'forbidden'
	  : 'anew';
	is($is, $line->{expected}, "$line->{name}: $line->{expected}");
	note(sprintf('%.1f s, %d retries, %d fencings; last error %s %s', time - $line->{begun}, $retries, $fencings, $row->{error_state}, $row->{error}));
	return;
}

# a hang: much longer than the publisher's time-outs of 15 s
my $hang = 60;
while (grep { @{ $work{$_}{lines} } } @order)
{
	my $rows = look();
	for my $w (map { $work{$_} } grep { @{ $work{$_}{lines} } } @order)
	{
		my $line = $w->{lines}[0];
		my $row = $rows->{ $w->{name} };
		if (!$line->{begun})
		{
			begin_line($w, $line, $row);
			next;
		}
		my $through = look_at_line($w, $line, $row);
		if (!$through)
		{
			next if time - $line->{begun} < $hang;
			fail("$line->{name}: it does not go on");
			diag(join(' | ', map { "$_ $row->{$_}" } sort keys %$row));
			diag('hits ' . $proxy->hits($w->{id}) . " of $line->{wanted}, sent $w->{sent}");
			$w->{lines} = [];
			next;
		}
		check_line($line, $row);
		shift @{ $w->{lines} };
	}
	usleep(20_000);
}

like(slurp_file($node->logfile), qr/cannot send: Kafka does not allow it: .*\n.*HINT:  Allow the user of the server's user mapping to write to the topics/,
	'what is forbidden: the log says what to do') if !defined $ENV{ONLY};

# ---- what a consumer sees ----

for my $w (map { $work{$_} } @order)
{
	my @messages = $kafka->consume("$w->{name}_out");
	my @numbers = map { map { $_->[1] =~ m{/(\d+)$} } grep { $_->[0] eq 'streamproc' } @{ $_->{headers} } } @messages;
	my %left_out = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', qq{SELECT convert_from(value, 'UTF8')::jsonb->>'id' FROM streamproc.dead_letter WHERE pipeline = '$w->{name}' AND kind = 'unsent'});
	# one task: a dead letter has the number of its place
	is("@numbers", join(' ', grep { !$left_out{ $_ - 1 } } 1 .. $w->{sent}), "$w->{name}: $w->{sent} messages, each once, in order");
	is(join(' ', map { $_->{value} =~ /(\d+)/ } @messages), join(' ', grep { !$left_out{$_} } 0 .. $w->{sent} - 1), "$w->{name}: and they are those of the source");
}

# ---- batches that the topic does not take, of messages that it does ----

if (picked('batches'))
{
	$kafka->topic('small_in');
	$kafka->topic('small_out', 1, 'max.message.bytes' => 5000);
	create_kafka_server($node, $kafka, 'small');
	$node->safe_psql('postgres', <<'SQL');
CREATE FOREIGN TABLE small_in (id int) SERVER small OPTIONS (topic 'small_in', format 'json');
CREATE FOREIGN TABLE small_out (id int, filler text) SERVER small OPTIONS (topic 'small_out', format 'json');
SQL
	$kafka->produce('small_in', map { { partition => 0, value => qq({"id": $_}) } } 1 .. 500);
	create_pipeline($node, 'small', q{INSERT INTO small_out SELECT id, repeat('x', 500) FROM small_in});
	wait_caught_up($node, 'small');
	is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT id) FROM small_out}), '500|500', 'batches that are too large: they become smaller');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'small'}), 0, 'and nothing is a dead letter');
	like(slurp_file($node->logfile), qr/batches were too large for a topic, they have at most \d+ bytes now\n.*HINT:  Set batch_size of the server/, 'the log says how to have it so from the beginning');
}
note(sprintf('%.0f s', time - $begun));
done_testing();

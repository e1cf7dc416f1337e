# A proxy before a broker that answers chosen requests with errors, or not at all.
#
#   my $proxy = Streamproc::ErrorProxy->new;
#   my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
#   ... clients use $proxy->address
#   $proxy->set($id, 'EndTxn', 'refuse', 'NOT_COORDINATOR', 3);	# the next 3 EndTxn requests of this transactional id
#   $proxy->hits($id);												# how many requests rules have met since clear()
#   $proxy->clear($id);
#
# refuse	the broker does not get the request; the answer is the error
# pretend	the broker gets it and does it; the answer is the error all the same
# lose		the broker does not get it; no answer
# mute		the broker gets it and does it; no answer
#
# Rules are kept by transactional id, or group, or the key of FindCoordinator: each client can have its own.  Those of
# Metadata by the first topic asked for, or "brokers" where there is none; a refusal names no broker, as a broker that has
# just come back does, and has the error for each topic.  All other requests and answers go through as they are.
package Streamproc::ErrorProxy;

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);
use PostgreSQL::Test::Cluster;

# of the protocol
my %code = (
	UNKNOWN_SERVER_ERROR => -1, CORRUPT_MESSAGE => 2, UNKNOWN_TOPIC_OR_PARTITION => 3, LEADER_NOT_AVAILABLE => 5,
	NOT_LEADER_OR_FOLLOWER => 6, REQUEST_TIMED_OUT => 7, MESSAGE_TOO_LARGE => 10, OFFSET_METADATA_TOO_LARGE => 12,
	NETWORK_EXCEPTION => 13, COORDINATOR_LOAD_IN_PROGRESS => 14, COORDINATOR_NOT_AVAILABLE => 15, NOT_COORDINATOR => 16,
	INVALID_TOPIC => 17, RECORD_LIST_TOO_LARGE => 18, NOT_ENOUGH_REPLICAS => 19, NOT_ENOUGH_REPLICAS_AFTER_APPEND => 20,
	INVALID_REQUIRED_ACKS => 21, ILLEGAL_GENERATION => 22, INVALID_GROUP_ID => 24, UNKNOWN_MEMBER_ID => 25,
	INVALID_COMMIT_OFFSET_SIZE => 28, TOPIC_AUTHORIZATION_FAILED => 29, GROUP_AUTHORIZATION_FAILED => 30,
	CLUSTER_AUTHORIZATION_FAILED => 31, INVALID_TIMESTAMP => 32, INVALID_REQUEST => 42, UNSUPPORTED_FOR_MESSAGE_FORMAT => 43,
	POLICY_VIOLATION => 44, OUT_OF_ORDER_SEQUENCE_NUMBER => 45, DUPLICATE_SEQUENCE_NUMBER => 46, INVALID_PRODUCER_EPOCH => 47,
	INVALID_TXN_STATE => 48, INVALID_PRODUCER_ID_MAPPING => 49, INVALID_TRANSACTION_TIMEOUT => 50,
	CONCURRENT_TRANSACTIONS => 51, TRANSACTION_COORDINATOR_FENCED => 52, TRANSACTIONAL_ID_AUTHORIZATION_FAILED => 53,
	OPERATION_NOT_ATTEMPTED => 55, KAFKA_STORAGE_ERROR => 56, UNKNOWN_PRODUCER_ID => 59, GROUP_ID_NOT_FOUND => 69,
	FENCED_INSTANCE_ID => 82, INVALID_RECORD => 87, UNSTABLE_OFFSET_COMMIT => 88, THROTTLING_QUOTA_EXCEEDED => 89,
	PRODUCER_FENCED => 90, TRANSACTION_ABORTABLE => 120);

# number, first version with the compact encoding, last version known here, how a refusal is written
my %request = (
	Produce            => [ 0,  9, 8, \&_answer_produce ],
	Metadata           => [ 3,  9, 4, \&_answer_metadata ],
	OffsetFetch        => [ 9,  6, 7, \&_answer_offset_fetch ],
	FindCoordinator    => [ 10, 3, 2, \&_answer_find_coordinator ],	# of a transactional id
	FindGroup          => [ 10, 3, 2, \&_answer_find_coordinator ],	# the same of a group
	InitProducerId     => [ 22, 2, 4, \&_answer_init_producer_id ],
	AddPartitionsToTxn => [ 24, 3, 2, \&_answer_partitions ],
	AddOffsetsToTxn    => [ 25, 3, 2, \&_answer_error ],
	EndTxn             => [ 26, 3, 2, \&_answer_error ],
	TxnOffsetCommit    => [ 28, 3, 3, \&_answer_partitions ]);
my %name_of = map { $request{$_}[0] => $_ } grep { $_ ne 'FindGroup' } keys %request;

sub new
{
	my ($class) = @_;
	my ($upstream, $port) = (PostgreSQL::Test::Cluster::get_free_port(), PostgreSQL::Test::Cluster::get_free_port());
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1, Proto => 'tcp') or die "proxy: $!";
	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "proxy: $!";
	my $self = bless { upstream => $upstream, port => $port, control => $ours }, $class;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		# nothing of the test's own ends with this process
		close($ours);
		eval { Streamproc::ErrorProxy::Server->new($listen, $theirs, $upstream)->serve; 1 } or warn "proxy: $@";
		POSIX::_exit(0);
	}
	close($listen);
	close($theirs);
	$ours->autoflush(1);
	return $self;
}

sub address { return "127.0.0.1:$_[0]{port}" }
# of the broker's listener, and of the proxy, which the broker tells clients of that listener
sub broker_ports { return "$_[0]{upstream}:$_[0]{port}" }

# One rule; several for one request are used up one after the other.  code: not for lose and mute
sub set
{
	my ($self, $id, $request, $mode, $name, $times) = @_;
	die "there is no request $request" unless $request{$request};
	die "there is no error $name" if $mode =~ /refuse|pretend/ && !defined $code{$name};
	return $self->_ask(join(' ', 'set', $id, $request, $mode, $mode =~ /refuse|pretend/ ? $code{$name} : 0, $times // 1));
}

sub clear { my ($self, $id) = @_; return $self->_ask("clear $id") }
sub hits { my ($self, $id) = @_; return $self->_ask("hits $id") }

sub _ask
{
	my ($self, $line) = @_;
	my $control = $self->{control};
	print $control "$line\n";
	my $answer = <$control> // die 'the proxy has ended';
	chomp $answer;
	die "proxy: $answer" if $answer =~ /^error/;
	return $answer;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	CORE::kill('KILL', $self->{pid}) if $self->{pid};
	waitpid($self->{pid}, 0) if $self->{pid};
	return;
}

# ---- requests and refusals; $r: { name, version, flexible, id, body, at } ----

sub _varint
{
	my ($r) = @_;
	my ($value, $shift) = (0, 0);
	while (1)
	{
		my $byte = ord(substr($r->{body}, $r->{at}++, 1));
		$value |= ($byte & 0x7f) << $shift;
		return $value if $byte < 0x80;
		$shift += 7;
	}
}

sub _put_varint
{
	my ($value) = @_;
	my $out = '';
	for (; $value >= 0x80; $value >>= 7) { $out .= chr(0x80 | $value & 0x7f) }
	return $out . chr($value);
}

sub _number
{
	my ($r, $size) = @_;
	$r->{at} += $size;
	return unpack($size == 2 ? 's>' : 'l>', substr($r->{body}, $r->{at} - $size, $size));
}

sub _string
{
	my ($r) = @_;
	my $length = $r->{flexible} ? _varint($r) - 1 : _number($r, 2);
	return undef if $length < 0;
	$r->{at} += $length;
	return substr($r->{body}, $r->{at} - $length, $length);
}

sub _put_string { my ($r, $text) = @_; return ($r->{flexible} ? _put_varint(length($text) + 1) : pack('s>', length($text))) . $text }
sub _count { my ($r) = @_; return $r->{flexible} ? _varint($r) - 1 : _number($r, 4) }
sub _put_count { my ($r, $n) = @_; return $r->{flexible} ? _put_varint($n + 1) : pack('l>', $n) }
sub _tags { my ($r) = @_; return $r->{flexible} ? "\0" : '' }

# The frame of a request without its length.  undef: none that rules know.
sub _parse
{
	my ($frame) = @_;
	my ($api, $version, $correlation) = unpack('s> s> l>', $frame);
	my $name = $name_of{$api} // return undef;
	my (undef, $flexible_from, $last) = @{ $request{$name} };
	die "$name of version $version" if $version > $last;
	my $r = { name => $name, version => $version, correlation => $correlation, body => $frame, at => 8 };
	_string($r);		# the client's name is never compact
	$r->{flexible} = $version >= $flexible_from;
	_varint($r) if $r->{flexible};
	# most of them begin with it
	my $topics = $name eq 'Metadata' ? _count($r) : 1;
	$r->{first} = $r->{at};
	$r->{id} = $topics <= 0 ? 'brokers' : _string($r) // '';
	# a publisher's two producers are one for the rules
	$r->{id} =~ s/^(streamproc-[0-9a-f-]{36})-2$/$1/;
	$r->{name} = 'FindGroup' if $name eq 'FindCoordinator' && ($version < 1 || ord(substr($frame, $r->{at}, 1)) == 0);
	return $r;
}

sub _refusal
{
	my ($r, $code) = @_;
	my $answer = pack('l>', $r->{correlation}) . _tags($r) . $request{ $r->{name} }[3]->($r, $code);
	return pack('N', length($answer)) . $answer;
}

sub _answer_error { my ($r, $code) = @_; return pack('l> s>', 0, $code) . _tags($r) }
sub _answer_init_producer_id { my ($r, $code) = @_; return pack('l> s> q> s>', 0, $code, -1, -1) . _tags($r) }

sub _answer_find_coordinator
{
	my ($r, $code) = @_;
	return ($r->{version} >= 1 ? pack('l>', 0) : '') . pack('s>', $code) . ($r->{version} >= 1 ? pack('s>', -1) : '') . pack('l>', -1) . _put_string($r, '') . pack('l>', -1);
}

# each topic and partition of the request, with the error
sub _answer_partitions
{
	my ($r, $code) = @_;
	my $offsets = $r->{name} eq 'TxnOffsetCommit';
	_string($r) if $offsets;						# the group
	$r->{at} += 10;									# producer id, epoch
	if ($offsets && $r->{version} >= 3)
	{
		_number($r, 4);								# generation
		_string($r) for 1, 2;						# member, instance
	}
	my $topics = _count($r);
	my $answer = pack('l>', 0) . _put_count($r, $topics);
	while ($topics-- > 0)
	{
		$answer .= _put_string($r, _string($r));
		my $partitions = _count($r);
		$answer .= _put_count($r, $partitions);
		while ($partitions-- > 0)
		{
			$answer .= pack('l> s>', _number($r, 4), $code) . ($offsets ? _tags($r) : '');
			next unless $offsets;
			$r->{at} += $r->{version} >= 2 ? 12 : 8;	# offset, leader's epoch
			_string($r);
			_varint($r) if $r->{flexible};
		}
		_varint($r) if $r->{flexible};
		$answer .= _tags($r);
	}
	return $answer . _tags($r);
}

# no broker; each topic of the request, with the error
sub _answer_metadata
{
	my ($r, $code) = @_;
	my $more = $r->{id} eq 'brokers' ? 0 : unpack('l>', substr($r->{body}, $r->{first} - 4, 4));
	my $answer = ($r->{version} >= 3 ? pack('l>', 0) : '') . pack('l>', 0) . ($r->{version} >= 2 ? pack('s>', -1) : '') . ($r->{version} >= 1 ? pack('l>', -1) : '') . pack('l>', $more);
	$r->{at} = $r->{first};
	$answer .= pack('s>', $code) . _put_string($r, _string($r)) . ($r->{version} >= 1 ? "\0" : '') . pack('l>', 0) while $more-- > 0;
	return $answer;
}

sub _answer_offset_fetch
{
	my ($r, $code) = @_;
	return pack('l>', 0) . _put_count($r, 0) . pack('s>', $code) . _tags($r);
}

sub _answer_produce
{
	my ($r, $code) = @_;
	$r->{at} += 6;									# acks, time-out
	my $topics = _count($r);
	my $answer = _put_count($r, $topics);
	while ($topics-- > 0)
	{
		$answer .= _put_string($r, _string($r));
		my $partitions = _count($r);
		$answer .= _put_count($r, $partitions);
		while ($partitions-- > 0)
		{
			$answer .= pack('l> s> q> q> q>', _number($r, 4), $code, -1, -1, -1);
			$answer .= pack('l> s>', 0, -1) if $r->{version} >= 8;
			$r->{at} += _number($r, 4);				# the records
		}
	}
	return $answer . pack('l>', 0);
}

# ---- the process ----

package Streamproc::ErrorProxy::Server;

use strict;
use warnings;

sub new
{
	my ($class, $listen, $control, $upstream) = @_;
	return bless { listen => $listen, control => $control, upstream => $upstream, select => IO::Select->new($listen, $control),
		rules => {}, hits => {}, peer => {}, problem => '' }, $class;
}

sub serve
{
	my ($self) = @_;
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{TERM} = 'DEFAULT';
	while (1)
	{
		for my $socket ($self->{select}->can_read)
		{
			if ($socket == $self->{control}) { return unless $self->command }
			elsif ($socket == $self->{listen}) { $self->accept }
			elsif ($self->{peer}{$socket}) { $self->pass($socket) }
		}
	}
	return;
}

# False: the test has ended.
sub command
{
	my ($self) = @_;
	return 0 unless sysread($self->{control}, my $line, 4096);
	my ($command, $id, @rule) = split ' ', $line;
	my $answer = 'ok';
	if ($command eq 'set') { push @{ $self->{rules}{$id} }, { request => $rule[0], mode => $rule[1], code => $rule[2], left => $rule[3] } }
	elsif ($command eq 'clear') { delete $self->{rules}{$id}; $self->{hits}{$id} = 0 }
	else { $answer = $self->{hits}{$id} // 0 }
	syswrite($self->{control}, ($self->{problem} ? "error $self->{problem}" : $answer) . "\n");
	return 1;
}

sub accept
{
	my ($self) = @_;
	my $client = $self->{listen}->accept or return;
	my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{upstream}, Proto => 'tcp');
	if (!$server) { close($client); return }
	# what was answered instead, by correlation id of the connection; '': nothing
	my $instead = {};
	$self->{peer}{$client} = { other => $server, buffer => '', requests => 1, instead => $instead };
	$self->{peer}{$server} = { other => $client, buffer => '', requests => 0, instead => $instead };
	$self->{select}->add($client, $server);
	return;
}

sub drop
{
	my ($self, $socket) = @_;
	my $other = $self->{peer}{$socket}{other};
	for ($socket, $other)
	{
		$self->{select}->remove($_);
		delete $self->{peer}{$_};
		close($_);
	}
	return;
}

sub send
{
	my ($self, $socket, $data) = @_;
	for (my $at = 0; $at < length($data);)
	{
		my $n = syswrite($socket, $data, length($data) - $at, $at);
		return 0 unless defined $n;
		$at += $n;
	}
	return 1;
}

# Whole frames only
sub pass
{
	my ($self, $socket) = @_;
	my $peer = $self->{peer}{$socket};
	return $self->drop($socket) unless sysread($socket, $peer->{buffer}, 1 << 20, length($peer->{buffer}));
	while (length($peer->{buffer}) >= 4)
	{
		my $length = unpack('N', $peer->{buffer});
		last if length($peer->{buffer}) < 4 + $length;
		my $frame = substr($peer->{buffer}, 0, 4 + $length, '');
		if (!($peer->{requests} ? $self->pass_request($socket, $frame) : $self->pass_answer($peer, $frame)))
		{
			return $self->drop($socket);
		}
	}
	return;
}

sub pass_answer
{
	my ($self, $peer, $frame) = @_;
	my $instead = delete $peer->{instead}{ unpack('l>', substr($frame, 4, 4)) };
	return $self->send($peer->{other}, $instead // $frame);
}

sub pass_request
{
	my ($self, $client, $frame) = @_;
	my $peer = $self->{peer}{$client};
	my $r = eval { Streamproc::ErrorProxy::_parse(substr($frame, 4)) };
	$self->{problem} ||= $@ =~ s/\n.*//sr;
	my ($rule) = $r ? grep { $_->{left} > 0 && $_->{request} eq $r->{name} } @{ $self->{rules}{ $r->{id} } // [] } : ();
	return $self->send($peer->{other}, $frame) unless $rule;
	$rule->{left}--;
	$self->{hits}{ $r->{id} }++;
	return 1 if $rule->{mode} eq 'lose';
	my $answer = $rule->{mode} eq 'mute' ? '' : Streamproc::ErrorProxy::_refusal($r, $rule->{code});
	return $self->send($client, $answer) if $rule->{mode} eq 'refuse';
	$peer->{instead}{ $r->{correlation} } = $answer;
	return $self->send($peer->{other}, $frame);
}

1;

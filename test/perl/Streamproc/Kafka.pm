# A Kafka broker of a TAP test's own, below the test's temporary directory; it ends with the test.
#
#   my $kafka = Streamproc::Kafka->new;                       # started, answers
#   $kafka->topic('tx', 3, 'cleanup.policy' => 'compact');
#   $kafka->produce('tx', { partition => 0, value => '{"a": 1}' },
#       { partition => 0, key => 'k', value => undef, headers => [ [ 'h', 'v' ], [ 'n', undef ] ], timestamp => $ms });
#   $kafka->kill; $kafka->start;                              # kill -9; same data, same port
#
#   my $kafka = Streamproc::Kafka->new(secure => 1);          # with the listeners sasl, sasl_tls, tls, redirect
#   $kafka->scram_user('fraud', 'secret');                    # made, or given another password
#   $kafka->address('sasl_tls'), $kafka->pem('ca');           # see broker.sh: write_secure_config, make_certificates
#
# Keys, values and headers are bytes.  undef is NULL (of a value: a tombstone).  Everything dies on failure.
package Streamproc::Kafka;

use strict;
use warnings;
use Carp;
use File::Basename ();
use Cwd ();
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use Streamproc::Node ();
use Test::More ();

my $dir = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../kafka');
my $count = 0;
my @all;

# Options: config => [ 'name=value', ... ] further settings of the broker, start => 0, secure => 1, proxy => 'PORT:ADVERTISED'
# (one more listener at PORT, whose clients are sent to the other port: see Streamproc::Proxy)
sub new
{
	my ($class, %options) = @_;
	my $self = bless {
		dir    => PostgreSQL::Test::Utils::tempdir('broker' . ++$count) . '/kafka',
		config => join(' ', @{ $options{config} // [] }),
		secure => $options{secure} ? 'yes' : 'no',
		proxy => $options{proxy} // ''
	}, $class;
	push @all, $self;
	$self->start if $options{start} // 1;
	return $self;
}

# of the plain listener, or of a listener of a secure broker
sub address
{
	my ($self, $listener) = @_;
	return $self->{address} unless defined $listener;
	my $address = PostgreSQL::Test::Utils::slurp_file("$self->{dir}/address.$listener");
	chomp $address;
	return $address;
}

# the text of a key or certificate of a secure broker
sub pem
{
	my ($self, $name) = @_;
	return PostgreSQL::Test::Utils::slurp_file("$self->{dir}/tls/$name.pem");
}

sub scram_user { my ($self, $user, $password) = @_; return $self->_broker('scram', $user, $password) }

sub port { return (split /:/, $_[0]{address})[1] }
sub dir { return $_[0]{dir} }
sub tool_path { return "$dir/kafka_tool" }
sub load_path { return "$dir/load" }

# Runs a command, returns its output; dies with what it said when it fails.
sub _run
{
	my ($input, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', \$input, '>', \$out, '2>', \$err);
	croak(join(' ', @command[ 0 .. ($#command < 5 ? $#command : 5) ]) . " failed: $err$out") unless $ok;
	return $out;
}

sub _broker
{
	my ($self, $command, @args) = @_;
	# the broker must not hold a pipe of ours open: its output goes to files
	my $out = "$self->{dir}.$command.out";
	local $ENV{STREAMPROC_BROKER_CONFIG} = $self->{config};
	local $ENV{STREAMPROC_BROKER_SECURE} = $self->{secure};
	local $ENV{STREAMPROC_BROKER_PROXY} = $self->{proxy};
	my $rc = system("'$dir/broker.sh' $command '$self->{dir}' @args >'$out' 2>&1 </dev/null");
	my $text = PostgreSQL::Test::Utils::slurp_file($out);
	croak("broker.sh $command: $text") if $rc != 0;
	return $text;
}

sub start
{
	my ($self) = @_;
	my $text = $self->_broker('start');
	($self->{address}) = $text =~ /^(127\.0\.0\.1:\d+)$/m or croak("broker.sh start: $text");
	Test::More::note("broker at $self->{address}");
	return $self;
}

sub stop { return $_[0]->_broker('stop') }
sub kill { return $_[0]->_broker('kill') }		# kill -9
sub restart { return $_[0]->_broker('restart') }
sub pause { return $_[0]->_broker('pause') }	# connected, but mute
sub resume { return $_[0]->_broker('resume') }

sub pid
{
	my ($self) = @_;
	my $pid = PostgreSQL::Test::Utils::slurp_file("$self->{dir}/pid");
	chomp $pid;
	return $pid;
}

sub tool
{
	my ($self, $command, @args) = @_;
	return _run('', tool_path(), $command, $self->{address}, @args);
}

sub topic
{
	my ($self, $name, $partitions, %config) = @_;
	return $self->tool('create', $name, $partitions // 1, map { "$_=$config{$_}" } sort keys %config);
}
sub delete_topic { my ($self, $name) = @_; return $self->tool('delete', $name) }
sub add_partitions { my ($self, $name, $total) = @_; return $self->tool('add-partitions', $name, $total) }

# deletes the records before an offset (-1: all)
sub delete_records
{
	my ($self, $name, $partition, $before) = @_;
	return $self->tool('delete-records', $name, $partition, $before);
}

# { partition => [ first offset, end ] }; committed => 1: the last stable end
sub offsets
{
	my ($self, $name, %options) = @_;
	return {
		map { my ($p, $low, $high) = split /\t/; ($p => [ $low, $high ]) }
		  split(/\n/, $self->tool('offsets', $name, $options{committed} ? '--committed' : ()))
	};
}

sub _escape
{
	my ($bytes) = @_;
	return '\N' unless defined $bytes;
	utf8::encode($bytes) if utf8::is_utf8($bytes);
	$bytes =~ s/\\/\\\\/g;
	$bytes =~ s/([\x00-\x1f\x7f])/sprintf('\\x%02x', ord($1))/ge;
	return $bytes;
}

sub _unescape
{
	my ($field) = @_;
	return undef if $field eq '\N';
	$field =~ s/\\(x([0-9a-f]{2})|.)/defined $2 ? chr(hex($2)) : $1 eq 't' ? "\t" : $1 eq 'n' ? "\n" : $1 eq 'r' ? "\r" : $1/ge;
	return $field;
}

# a message as a line for kafka_tool; a plain string is a value for partition 0
sub _line
{
	my ($message) = @_;
	$message = { value => $message, partition => 0 } unless ref $message;
	return join("\t",
		$message->{partition} // -1,
		$message->{timestamp} // 0,
		_escape($message->{key}),
		_escape($message->{value}),
		map { _escape($_->[0]) =~ s/=/\\x3d/gr . (defined $_->[1] ? '=' . _escape($_->[1]) : '') } @{ $message->{headers} // [] })
	  . "\n";
}

# Produces and waits for delivery; returns [partition, offset] of each message.
sub produce
{
	my ($self, $topic, @messages) = @_;
	my $out = _run(join('', map { _line($_) } @messages), tool_path(), 'produce', $self->{address}, $topic, '--report');
	my @where;
	for (split /\n/, $out) { $where[ $1 - 1 ] = [ $2, $3 ] if /^(\d+)\t(\d+)\t(\d+)$/ }
	return @where;
}

# The messages of a topic as hashes; options partition, from, count, uncommitted.
sub consume
{
	my ($self, $topic, %options) = @_;
	my @args;
	for (qw(partition from count)) { push @args, "--$_", $options{$_} if defined $options{$_} }
	push @args, '--uncommitted' if $options{uncommitted};
	return _messages($self->tool('consume', $topic, @args));
}

sub _messages
{
	my ($text) = @_;
	my @messages;
	for (split /\n/, $text)
	{
		my ($partition, $offset, $timestamp, $key, $value, @headers) = split /\t/, $_, -1;
		push @messages,
		  {
			partition => $partition,
			offset    => $offset,
			timestamp => $timestamp,
			key       => _unescape($key),
			value     => _unescape($value),
			headers   => [ map { my ($n, $v) = split /=/, $_, 2; [ _unescape($n), defined $v ? _unescape($v) : undef ] } @headers ]
		  };
	}
	return @messages;
}

# A transactional producer that stays open: begin, send, flush, commit, abort, finish.  Ending it without
# commit or abort leaves the transaction open at the broker until its time-out.
sub transaction
{
	my ($self, $topic, $id, @settings) = @_;
	my $t = bless { in => '', out => '', err => '' }, 'Streamproc::Kafka::Transaction';
	$t->{run} = IPC::Run::start(
		[
			tool_path(), 'produce', $self->{address}, $topic, '--transaction', $id // 'test', map { ('-X', $_) } @settings
		],
		'<',
		\$t->{in},
		'>',
		\$t->{out},
		'2>',
		\$t->{err},
		$t->{timer} = IPC::Run::timer(120));
	return $t;
}

# The load tool to its end; returns its summary line.  Options by name: count => 1000, 'at-now' => undef
sub load
{
	my ($self, $topic, %options) = @_;
	return _run('', $self->_load_command($topic, %options));
}

sub _load_command
{
	my ($self, $topic, %options) = @_;
	return (load_path(), '--brokers', $self->{address}, '--topic', $topic,
		map { ("--$_", defined $options{$_} ? $options{$_} : ()) } sort keys %options);
}

# A read_committed consumer that runs until it is finished, whatever the broker does; what it has seen goes to a file.
# It is an error if it has ended by itself.
# ->messages: what it has seen so far, as consume() gives them; ->more: what came since the last ->more; ->finish: all, and its end
sub follow
{
	my ($self, $topic) = @_;
	my $file = "$self->{dir}.follow.$topic";
	my $h = IPC::Run::start([ tool_path(), 'consume', $self->{address}, $topic, '--follow' ], '<', \'', '>', $file, '2>', "$file.err");
	return bless { h => $h, pid => $h->{KIDS}[0]{PID}, file => $file, kafka => $self }, 'Streamproc::Kafka::Follower';
}

# A copy of the broker's log and data, which are gone when the test is over; the directory is left.
sub keep
{
	my ($self) = @_;
	my $copy = "$self->{dir}.kept";
	system('cp', '-a', $self->{dir}, $copy) == 0 or return "nothing: $self->{dir} could not be copied";
	return $copy;
}

# The load tool in the background; returns an IPC::Run handle: finish it, or signal it with TERM.
sub load_start
{
	my ($self, $topic, %options) = @_;
	my ($out, $err) = ('', '');
	return IPC::Run::start([ $self->_load_command($topic, %options) ], '<', \'', '>', \$out, '2>', \$err);
}

END
{
	my $rc = $?;
	for my $kafka (@all)
	{
		system("'$dir/broker.sh' destroy '$kafka->{dir}' >/dev/null 2>&1 </dev/null") if $kafka->{dir};
	}
	$? = $rc;
}

package Streamproc::Kafka::Follower;

use strict;
use warnings;
use Carp;

# It may be another process's child, so that it cannot be waited for.
sub _check
{
	my ($self) = @_;
	croak('the consumer has ended: ' . $self->said) if Streamproc::Node::is_gone($self->{pid});
	return;
}

sub pid { return $_[0]{pid} }

# what it told of errors
sub said { return PostgreSQL::Test::Utils::slurp_file("$_[0]{file}.err") }

# messages so far, as consume() gives them
sub messages
{
	my ($self) = @_;
	$self->_check unless $self->{finished};
	my $text = PostgreSQL::Test::Utils::slurp_file($self->{file});
	# the last line may not be complete
	$text =~ s/[^\n]*\z//;
	return Streamproc::Kafka::_messages($text);
}

sub more
{
	my ($self) = @_;
	$self->_check;
	my $text = PostgreSQL::Test::Utils::slurp_file($self->{file}, $self->{seen} // 0);
	$text =~ s/[^\n]*\z//;
	$self->{seen} += length $text;
	return Streamproc::Kafka::_messages($text);
}

sub finish
{
	my ($self) = @_;
	$self->_check;
	$self->{finished} = 1;
	$self->{h}->kill_kill;
	return $self->messages;
}

package Streamproc::Kafka::Transaction;

use strict;
use warnings;
use Carp;

sub _ask
{
	my ($self, $line, $answer) = @_;
	$self->{in} .= "$line\n";
	$self->{timer}->start(120);
	until ($self->{out} =~ s/^.*?(\Q$answer\E[^\n]*)\n//s)
	{
		croak("kafka_tool took too long for $line") if $self->{timer}->is_expired;
		croak("kafka_tool ended: $self->{err}") unless $self->{run}->pump;
	}
	return $1;
}

sub begin { return $_[0]->_ask('!begin', 'begun') }
sub commit { return $_[0]->_ask('!commit', 'committed') }
sub abort { return $_[0]->_ask('!abort', 'aborted') }
sub flush { return $_[0]->_ask('!flush', 'flushed') }

sub send
{
	my ($self, @messages) = @_;
	$self->{in} .= join('', map { Streamproc::Kafka::_line($_) } @messages);
	return $self->flush;
}

sub finish
{
	my ($self) = @_;
	return $self->{run}->finish || croak("kafka_tool: $self->{err}");
}

# leaves an open transaction behind
sub kill
{
	my ($self) = @_;
	return $self->{run}->kill_kill;
}

1;

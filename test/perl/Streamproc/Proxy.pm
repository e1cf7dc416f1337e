# A TCP proxy before a broker, whose connections can be cut, left half open, or be slow.
#
#   my $proxy = Streamproc::Proxy->new;
#   my $kafka = Streamproc::Kafka->new(proxy => $proxy->broker_ports);
#   ... clients use $proxy->address
#   $proxy->cut;                  # all connections are closed
#   $proxy->freeze; $proxy->thaw; # open, and nothing gets through
#   $proxy->slow(1); $proxy->slow(0);   # 16 kB each 30 ms and way, at the most
package Streamproc::Proxy;

use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use Time::HiRes qw(usleep);

sub new
{
	my ($class) = @_;
	my ($upstream, $port) = (PostgreSQL::Test::Cluster::get_free_port(), PostgreSQL::Test::Cluster::get_free_port());
	my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1, Proto => 'tcp') or die "proxy: $!";
	my $self = bless { upstream => $upstream, port => $port }, $class;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		# nothing of the test's own ends with this process
		eval { _serve($listen, $upstream) };
		POSIX::_exit(0);
	}
	close($listen);
	return $self;
}

sub address { return "127.0.0.1:$_[0]{port}" }
# of the broker's listener, and of the proxy, which the broker tells clients of that listener
sub broker_ports { return "$_[0]{upstream}:$_[0]{port}" }
sub cut { return CORE::kill('USR1', $_[0]{pid}) }
sub freeze { return CORE::kill('STOP', $_[0]{pid}) }
sub thaw { return CORE::kill('CONT', $_[0]{pid}) }
sub slow { my ($self, $on) = @_; return CORE::kill($on ? 'USR2' : 'HUP', $self->{pid}) }

sub _serve
{
	my ($listen, $upstream) = @_;
	my $select = IO::Select->new($listen);
	my (%peer, $cut);
	my $slow = 0;
	local $SIG{USR1} = sub { $cut = 1 };
	local $SIG{USR2} = sub { $slow = 1 };
	local $SIG{HUP} = sub { $slow = 0 };
	local $SIG{PIPE} = 'IGNORE';
	local $SIG{TERM} = 'DEFAULT';
	my $close = sub {
		for my $socket (grep { defined } $_[0], delete $peer{ $_[0] })
		{
			$select->remove($socket);
			delete $peer{$socket};
			close($socket);
		}
	};
	while (getppid() != 1)
	{
		for my $socket ($select->can_read(0.2))
		{
			if ($socket == $listen)
			{
				my $client = $listen->accept or next;
				my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $upstream, Proto => 'tcp');
				if (!$server) { close($client); next }
				@peer{ $client, $server } = ($server, $client);
				$select->add($client, $server);
				next;
			}
			my $other = $peer{$socket} or next;
			my $n = sysread($socket, my $data, $slow ? 16384 : 65536);
			if (!$n) { $close->($socket); next }
			for (my $at = 0; $at < $n;)
			{
				my $written = syswrite($other, $data, $n - $at, $at);
				if (!defined $written) { $close->($socket); last }
				$at += $written;
			}
		}
		usleep(30_000) if $slow;
		if ($cut)
		{
			$cut = 0;
			$close->($_) for grep { $_ != $listen } $select->handles;
		}
	}
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	CORE::kill('KILL', $self->{pid}) if $self->{pid};
	waitpid($self->{pid}, 0) if $self->{pid};
	return;
}

1;

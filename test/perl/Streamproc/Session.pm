# One psql that stays: for conditions that are asked again and again.  A psql for each question, with a backend for each
# psql, was most of what the tests used of the processors.
#
#   my $session = Streamproc::Session->new($node);      # connects when it is asked
#   my $text = $session->ask('SELECT ...', $until);     # as psql -At prints it; undef: an error, no server, or too late
#   $session->error;                                    # what psql said of the last one that failed
#
# It ends with the object.  A query must not change settings or begin a transaction: the next one would see it.
package Streamproc::Session;

use strict;
use warnings;
use Carp;
use IO::Handle;
use PostgreSQL::Test::Utils ();
use POSIX ();
use Time::HiRes qw(time);

my $number = 0;

sub new
{
	my ($class, $node, $database) = @_;
	my $errors = PostgreSQL::Test::Utils::tempdir() . '/session.err';
	return bless { node => $node, database => $database // 'postgres', errors => $errors }, $class;
}

sub _dial
{
	my ($self) = @_;
	pipe(my $in, $self->{to}) or croak "pipe: $!";
	pipe($self->{from}, my $out) or croak "pipe: $!";
	$self->{to}->autoflush(1);
	my @command = ($self->{node}->installed_command('psql'), '-XAtq', '-d', $self->{node}->connstr($self->{database}));
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		local $SIG{__DIE__} = 'DEFAULT';
		POSIX::dup2(fileno($in), 0);
		POSIX::dup2(fileno($out), 1);
		open(my $errors, '>', $self->{errors}) or POSIX::_exit(1);
		POSIX::dup2(fileno($errors), 2);
		no warnings 'exec';
		exec { $command[0] } @command or POSIX::_exit(1);
	}
	close $in;
	close $out;
	@$self{qw(pid owner)} = ($pid, $$);
	return;
}

sub _hang_up
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	local $?;
	close delete $self->{to};
	close delete $self->{from};
	# a process that was forked meanwhile has it from its parent, who goes on with it
	return if $self->{owner} != $$;
	# it may wait for a server that does not answer
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

sub error
{
	my ($self) = @_;
	return -e $self->{errors} ? PostgreSQL::Test::Utils::slurp_file($self->{errors}) : '';
}

sub ask
{
	my ($self, $query, $until) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $end = 'end of answer ' . ++$number;
	my $text = '';
	$self->_hang_up if $self->{pid} && $self->{owner} != $$;
	$self->_dial unless $self->{pid};
	my $failed = -s $self->{errors} // 0;
	my $send = "$query\n;\n\\echo $end\n";
	if ((syswrite($self->{to}, $send) // -1) != length $send) { $self->_hang_up; return }
	while ($text !~ /(?:^|\n)\Q$end\E\n\z/)
	{
		my $ready = '';
		vec($ready, fileno($self->{from}), 1) = 1;
		my $left = $until - time;
		if ($left <= 0 || !select($ready, undef, undef, $left) || !sysread($self->{from}, $text, 65536, length $text))
		{
			$self->_hang_up;
			return;
		}
	}
	$text =~ s/\n?\Q$end\E\n\z//;
	return (-s $self->{errors} // 0) > $failed ? undef : $text;
}

sub DESTROY { my ($self) = @_; $self->_hang_up; return }

1;

# Another clock for a server, which a test can make jump: ../../clock/clock.c.
#
#   my $clock = Streamproc::Clock->new;
#   my $node = create_node('main', start => 0);
#   $clock->start($node);
#   $clock->set(3600);            # its wall clock is an hour ahead
#   $clock->set(3600, 3600);      # and its monotonic one: it has slept for an hour
package Streamproc::Clock;

use strict;
use warnings;
use Carp;
use Cwd ();
use File::Basename ();
use PostgreSQL::Test::Utils ();

my $source = Cwd::abs_path(File::Basename::dirname(__FILE__) . '/../../clock') . '/clock.c';

sub new
{
	my ($class) = @_;
	my $temp = PostgreSQL::Test::Utils::tempdir('clock');
	my $self = bless { library => "$temp/clock.so", file => "$temp/clock" }, $class;
	system('cc', '-shared', '-fPIC', '-O2', '-Wall', '-Wextra', '-Werror', '-o', $self->{library}, $source) == 0 or croak "$source does not compile";
	return $self->set(0);
}

# seconds that the wall clock is off, and that the server has slept, from now on; written in place, because the file is mapped
sub set
{
	my ($self, $seconds, $slept) = @_;
	open(my $out, -e $self->{file} ? '+<' : '>', $self->{file}) or croak "$self->{file}: $!";
	syswrite($out, pack('qq', map { $_ * 1_000_000 } $seconds, $slept // 0)) == 16 or croak "$self->{file}: $!";
	close($out) or croak "$self->{file}: $!";
	return $self;
}

# starts the server with this clock; only the server: pg_ctl hands it down
sub start
{
	my ($self, $node) = @_;
	local %ENV = (%ENV, LD_PRELOAD => $self->{library}, STREAMPROC_CLOCK => $self->{file});
	return $node->start;
}

1;

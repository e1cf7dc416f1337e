# Faults in the workers of a server, and a reader that watches from outside.
#
# The server's configuration needs "include_if_exists = 'fault.conf'", so that faults can be set and taken away also
# while it is down or recovering.
package Streamproc::Crash;

use strict;
use warnings;
use Carp;
use POSIX ();
use PostgreSQL::Test::Utils;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(usleep);

sub new
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, offset => 0 }, $class;
	$self->reset_fault;
	return $self;
}

# ---- fault points ----

sub _write
{
	my ($self, $setting) = @_;
	my $file = $self->{node}->data_dir . '/fault.conf';
	open(my $out, '>', "$file.new") or croak "$file: $!";
	print $out "streamproc.fault_points = '$setting'\n";
	close($out) or croak "$file: $!";
	rename("$file.new", $file) or croak "$file: $!";
	my $pid = eval { slurp_file($self->{node}->data_dir . '/postmaster.pid') =~ s/\n.*//sr };
	kill 'HUP', $pid if $pid && -d "/proc/$pid";
	return;
}

# From now on only later hits count for wait_hit.
sub set_fault
{
	my ($self, $setting) = @_;
	$self->{offset} = -s $self->{node}->logfile;
	$self->_write($setting);
	return;
}

sub reset_fault { my ($self) = @_; return $self->_write('') }

# ( pid, action ) of the first process that hit the point since set_fault; empty if none did.
sub hit
{
	my ($self, $point) = @_;
	return slurp_file($self->{node}->logfile, $self->{offset}) =~ /\[(\d+)\] .*LOG:  streamproc fault point "\Q$point\E": (\w+)/m;
}

# pid of the first process that hit the point since set_fault; undef if none comes by.  One that kills itself is gone
# then: the postmaster has seen it, and whoever asks the server next asks that after the crash.
sub wait_hit
{
	my ($self, $point, $seconds) = @_;
	my ($pid, $action);
	wait_until(sub { ($pid, $action) = $self->hit($point); return defined $pid }, $seconds // 20);
	wait_until(sub { !-d "/proc/$pid" }) if $pid && $action eq 'kill';
	return $pid;
}

# Sets a fault and sends what makes somebody come by; once more where it was read before the setting was.  As wait_hit.
sub provoke
{
	my ($self, $point, $action, $send) = @_;
	return $self->provoke_fault("$point=$action\@1", $send);
}

# The same of a setting as a whole.
sub provoke_fault
{
	my ($self, $setting, $send) = @_;
	my ($point) = $setting =~ /^([a-z-]+)=/ or croak("no fault: $setting");
	$self->set_fault($setting);
	$send->();
	my $pid = $self->wait_hit($point, 10);
	return $pid if defined $pid;
	$send->();
	return $self->wait_hit($point);
}

# The pipeline has read everything that is there; a fault point that it failed at is passed over, however late that shows.
sub catch_up
{
	my ($self, $pipeline, $seconds) = @_;
	my $node = $self->{node};
	$seconds //= 60;
	for (1 .. 2)
	{
		my ($out, $err) = ('', '');
		return if $node->psql('postgres', "SELECT streamproc.wait_until_caught_up('$pipeline', '$seconds s')", stdout => \$out, stderr => \$err) == 0;
		croak($err) unless $err =~ /failed: fault point/;
		$node->safe_psql('postgres', "SELECT streamproc.start_pipeline('$pipeline')");
	}
	croak("pipeline $pipeline failed again");
}

# { "point: action" => number } of the whole log
sub log_hits
{
	my ($self) = @_;
	my %hits;
	open(my $in, '<', $self->{node}->logfile) or croak $!;
	while (<$in>) { $hits{"$1: $2"}++ if /LOG:  streamproc fault point "([^"]+)": (\w+)/ }
	return \%hits;
}

# ---- asking a server that may be down ----

# The result of a query, undef on any error.
sub ask
{
	my ($self, $query) = @_;
	my ($out, $err);
	my $rc = eval { $self->{node}->psql('postgres', $query, stdout => \$out, stderr => \$err, timeout => 30, timed_out => \my $late) };
	return undef unless defined $rc && $rc == 0;
	return $out;
}

sub launcher_of_task
{
	my ($self, $task) = @_;
	my $pipeline = $self->ask("SELECT pipeline FROM streamproc.stat_worker WHERE pid = $task") || croak "$task is no task";
	return $self->launcher($pipeline);
}

sub launcher
{
	my ($self, $pipeline) = @_;
	my $pid;
	wait_until(
		sub {
			$pid = $self->ask("SELECT pid FROM streamproc.stat_worker WHERE pipeline = '$pipeline' AND role = 'launcher' AND pid IS NOT NULL");
			return defined $pid && $pid =~ /^\d+$/;
		},
		20) or croak "pipeline $pipeline has no launcher";
	return $pid;
}

# ---- the reader ----

# A process with a session of its own that runs a query over and over, and connects again when it was cut off.  The
# query gives one row: "good" or "BAD", a text for the positions, what is bad.
sub reader
{
	my ($self, $query) = @_;
	my $base = PostgreSQL::Test::Utils::tempdir('reader') . '/reader';
	append_to_file("$base.sql", "SET default_transaction_isolation = 'repeatable read';\n$query\\watch 0.04\n");
	append_to_file("$base.out", '');
	append_to_file("$base.err", '');
	my @command = ('psql', '-XAtq', '-d', $self->{node}->connstr('postgres'), '-f', "$base.sql");
	my $pid = fork() // croak "fork: $!";
	if ($pid == 0)
	{
		# an own process group, so that psql ends with us
		POSIX::setpgid(0, 0);
		open(STDOUT, '>>', "$base.out");
		open(STDERR, '>>', "$base.err");
		while (1)
		{
			system(@command);
			print STDERR "cut off\n";
			usleep(20_000);
		}
	}
	return bless { pid => $pid, base => $base }, 'Streamproc::Crash::Reader';
}

package Streamproc::Crash::Reader;

use strict;
use warnings;
use PostgreSQL::Test::Utils;

# the number of different positions so far
sub positions
{
	my ($self) = @_;
	my %seen = map { /^good\|([^|]*)/ ? ($1 => 1) : () } split /\n/, slurp_file("$self->{base}.out");
	return scalar keys %seen;
}

# Ends it; ( good => n, bad => n, bad_lines => [], positions => different ones, cut_off => times )
sub finish
{
	my ($self) = @_;
	return unless $self->{pid};
	kill 'KILL', -$self->{pid}, $self->{pid};
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	my %result = (good => 0, bad => 0, bad_lines => [], cut_off => 0);
	my (%seen, $last_cut);
	for (split /\n/, slurp_file("$self->{base}.out"))
	{
		next if $_ eq '';
		my ($verdict, $positions, $what) = split /\|/;
		if ($verdict eq 'good')
		{
			$result{good}++;
			$seen{$positions} = 1;
		}
		else
		{
			$result{bad}++;
			push @{ $result{bad_lines} }, $_ if @{ $result{bad_lines} } < 20;
		}
	}
	for (split /\n/, slurp_file("$self->{base}.err"))
	{
		# an error in the query itself would make a reader that proves nothing
		if (/server closed the connection|terminating connection|the database system is|connection to server|^HINT:|^DETAIL:|^\t|cut off|Is the server running|no connection|lost/)
		{
			$result{cut_off}++ if /server closed the connection/;
			next;
		}
		next if /^\s*$|^This probably means|^before or while/;
		$result{bad}++;
		push @{ $result{bad_lines} }, "reader: $_" if @{ $result{bad_lines} } < 20;
	}
	$result{positions} = keys %seen;
	return %result;
}

sub DESTROY
{
	my ($self) = @_;
	$self->finish if $self->{pid};
	return;
}

1;

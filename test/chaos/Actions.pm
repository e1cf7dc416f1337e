# What is done to the running pipelines.  Each action gives true when it hit: the process was there and is gone, the statement
# ran, the fault was felt by somebody.  What lasts is over when it returns.
package Actions;

use strict;
use warnings;
use Streamproc::Node;
use Streamproc::Session;
use Time::HiRes qw(time usleep);

# Options: node, flow, kafka, proxy, clock, space
sub new
{
	my ($class, %options) = @_;
	my $self = bless { %options, parallelism => {}, offset => 0, columns => 0, indexes => 0, partitions => 4, full => 0 }, $class;
	return $self;
}

my %actions;
sub names { my ($self) = @_; return grep { $_ ne 'disk full' || $self->{space} } sort keys %actions }
# those that are over at once
my @sudden = ('kill -9 task', 'kill -9 launcher', 'kill -9 publisher', 'terminate task', 'terminate launcher', 'terminate publisher');

sub pick { return $_[ int rand @_ ] }
sub ask { my ($self, $query, $seconds) = @_; return $self->{flow}->ask($query, $seconds) }
# how long something lasts that is not a wait for anything
sub last_for { my ($self, $from, $to) = @_; usleep(1_000_000 * ($from + rand($to - $from))); return }

sub run
{
	my ($self, $name) = @_;
	return $actions{$name}->($self);
}

# Something else happens while a fault lasts, or while all begins again after one; what hit is counted.
sub meanwhile
{
	my ($self, @these) = @_;
	return if rand() > 0.4;
	my $name = pick(@these ? @these : @sudden);
	$self->{also}{$name}++ if wait_until(sub { $self->run($name) }, 3);
	return;
}

sub _pid
{
	my ($self, $role) = @_;
	my $where = $role eq 'supervisor' ? "SELECT pid FROM pg_stat_activity WHERE backend_type = 'streamproc supervisor'" : "SELECT pid FROM streamproc.stat_worker WHERE role = '$role' AND pid IS NOT NULL ORDER BY pipeline, task";
	# one that stands still does not leave
	my @pids = grep { $_ != ($self->{stopped} // 0) } split /\n/, $self->ask($where) // '';
	return @pids ? pick(@pids) : undef;
}

for my $role (qw(task launcher publisher supervisor))
{
	$actions{"kill -9 $role"} = sub {
		my ($self) = @_;
		my $pid = $self->_pid($role) // return 0;
		return kill9($pid) && wait_gone($pid);
	};
	$actions{"terminate $role"} = sub {
		my ($self) = @_;
		my $pid = $self->_pid($role) // return 0;
		return ($self->ask("SELECT pg_terminate_backend($pid)") // '') eq 't' && wait_gone($pid);
	};
}

# One that stands still holds up its own pipeline, or is taken for dead.
$actions{'SIGSTOP'} = sub {
	my ($self) = @_;
	my $pid = $self->_pid(pick(qw(task task launcher publisher))) // return 0;
	kill 'STOP', $pid or return 0;
	$self->{stopped} = $pid;
	$self->last_for(0.5, 3);
	$self->meanwhile;
	$self->last_for(0, 3);
	$self->{stopped} = undef;
	# it may have been killed meanwhile
	kill 'CONT', $pid if -d "/proc/$pid";
	return 1;
};

sub start_server
{
	my ($self) = @_;
	return $self->{clock}->start($self->{node});
}

$actions{'kill -9 postmaster'} = sub { my ($self) = @_; crash_postmaster($self->{node}); $self->start_server; return 1 };
for my $mode (qw(immediate fast))
{
	$actions{"$mode restart"} = sub { my ($self) = @_; $self->{node}->stop($mode); $self->start_server; return 1 };
}

# Calls of the API are tried until the server takes them.
sub _call
{
	my ($self, $call) = @_;
	return wait_until(sub { defined $self->ask("SELECT $call", 60) }, 60);
}

$actions{'stop, start'} = sub {
	my ($self) = @_;
	my $name = pick($self->{flow}->names);
	$self->_call("streamproc.stop_pipeline('$name')") or return 0;
	if (rand() < 0.7)
	{
		$self->ask("SELECT streamproc.wait_until_stopped('$name', '60 s')", 70) // return 0;
		$self->last_for(0, 1);
	}
	return $self->_call("streamproc.start_pipeline('$name')");
};
$actions{'alter of parallelism'} = sub {
	my ($self) = @_;
	my $name = pick($self->{flow}->names);
	my $now = $self->{parallelism}{$name} // 2;
	my $n = $self->{parallelism}{$name} = pick(grep { $_ != $now } 1 .. 4);
	return $self->_call("streamproc.alter_pipeline('$name', parallelism => $n)");
};

$actions{'ALTER SERVER'} = sub {
	my ($self) = @_;
	my $ms = $self->{fetch_wait} = ($self->{fetch_wait} // 20) == 20 ? 30 : 20;
	return defined $self->ask("ALTER SERVER kafka OPTIONS (SET fetch_wait_max_ms '$ms')");
};

# ---- brokers and network ----

$actions{'kill -9 broker'} = sub { my ($self) = @_; $self->{kafka}->kill; $self->last_for(0, 2); $self->meanwhile; $self->{kafka}->start; return 1 };
$actions{'restart of the broker'} = sub { my ($self) = @_; $self->{kafka}->restart; return 1 };
$actions{'broker paused'} = sub { my ($self) = @_; return $self->_mute(sub { $self->{kafka}->pause }, sub { $self->{kafka}->resume }, 1, 8) };
$actions{'connections half open'} = sub { my ($self) = @_; return $self->_mute(sub { $self->{proxy}->freeze }, sub { $self->{proxy}->thaw }, 1, 8) };
$actions{'connections cut'} = sub { my ($self) = @_; for (0 .. int rand 4) { $self->{proxy}->cut; $self->last_for(0, 0.3) } return 1 };
$actions{'slow network'} = sub { my ($self) = @_; $self->{proxy}->slow(1); $self->last_for(1, 3); $self->meanwhile; $self->last_for(0, 2); $self->{proxy}->slow(0); return 1 };

# It hit when nothing is read any more: positions stand still.
sub _mute
{
	my ($self, $begin, $end, $from, $to) = @_;
	my $positions = 'SELECT sum(next_offset) FROM streamproc.position';
	$begin->();
	my $hit = eval {
		my $before = $self->ask($positions);
		wait_until(sub { my $now = $self->ask($positions) // return 0; my $same = defined $before && $now eq $before; $before = $now; usleep(100_000); return $same }, 10);
		} ? 1 : 0;
	eval { $self->meanwhile; $self->last_for($from, $to) };
	my $error = $@;
	$end->();
	die $error if $error;
	return $hit;
}

$actions{'partitions added'} = sub {
	my ($self) = @_;
	return 0 if $self->{partitions} >= 12;
	$self->{kafka}->add_partitions('tx', ++$self->{partitions});
	return 1;
};
$actions{'bad rows'} = sub {
	my ($self) = @_;
	# 1 % of what comes in three seconds
	for (1 .. 10) { $self->{flow}->send_bad(int($self->{flow}{rate} * 0.003) + 1); $self->last_for(0.2, 0.3) }
	return 1;
};

# They fail again, and stay.
$actions{'retry of dead letters'} = sub {
	my ($self) = @_;
	my $name = pick($self->{flow}->names);
	$self->{flow}->send_bad(10);
	wait_until(sub { ($self->ask("SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$name'") // 0) > 0 }, 20) or return 0;
	return ($self->ask("SELECT streamproc.retry_dead_letters('$name')") // 0) > 0;
};

# ---- PostgreSQL ----

# The file system of some tables and of the saved state; felt when the reason of a pipeline says so.
$actions{'disk full'} = sub {
	my ($self) = @_;
	my $file = "$self->{space}/filler";
	my %before = map { ($_->{last} => 1) } values %{ $self->{flow}->state // return 0 };
	open(my $out, '>', $file) or die "$file: $!";
	my ($block, $size) = ("\1" x 65536, 0);
	while (my $n = syswrite($out, $block)) { $size += $n }
	my $full = $!{ENOSPC};
	# what is freed meanwhile is taken, too
	my $hit = $full && wait_until(sub {
		syswrite($out, $block);
		my $state = $self->{flow}->state // return 0;
		return scalar grep { $_->{sqlstate} eq '53100' || $_->{last} =~ /^53100/ && !$before{ $_->{last} } } values %$state;
	}, 30);
	# a crash while there is no space is PostgreSQL's own matter: its recovery needs some
	$self->meanwhile('terminate task', 'terminate launcher') if $hit;
	$self->last_for(0, 2);
	close($out);
	unlink($file) or die "$file: $!";
	return $hit ? 1 : 0;
};

$actions{'ADD COLUMN'} = sub {
	my ($self) = @_;
	my $table = pick($self->{flow}->tables);
	my $column = 'more_' . ++$self->{columns};
	my $done = $self->ask("ALTER TABLE $table ADD COLUMN $column " . pick('int', 'text DEFAULT clock_timestamp()::text', "numeric DEFAULT 1")) // return 0;
	$self->last_for(0, 0.5);
	$self->ask("ALTER TABLE $table DROP COLUMN $column") if rand() < 0.5;
	return 1;
};
$actions{'CREATE INDEX'} = sub {
	my ($self) = @_;
	my %on = (s_rows => 'card', s_last => 'n', s_totals => 'total', s_windows => 'card, window_start', s_over => 'at', s_joined => 'p2', s_best => 'card');
	my $table = pick(sort keys %on);
	my $index = 'more_' . ++$self->{indexes};
	my $how = pick('', 'CONCURRENTLY');
	defined $self->ask("CREATE INDEX $how $index ON $table ($on{$table})", 120) or return 0;
	$self->last_for(0, 0.5);
	$self->ask("DROP INDEX $how $index", 60);
	return 1;
};
$actions{'VACUUM FULL'} = sub {
	my ($self) = @_;
	return defined $self->ask('VACUUM FULL ' . pick('s_last', 's_totals', 's_best'), 60);
};

# It hit when somebody waits for the lock.
$actions{'LOCK TABLE'} = sub {
	my ($self) = @_;
	my $table = pick($self->{flow}->tables);
	my $locker = Streamproc::Session->new($self->{node});
	defined $locker->ask("BEGIN; LOCK TABLE $table IN " . pick('ACCESS EXCLUSIVE', 'EXCLUSIVE', 'SHARE') . ' MODE', time + 20) or return 0;
	my $hit = wait_until(sub { ($self->ask('SELECT count(*) FROM pg_locks WHERE NOT granted') // 0) > 0 }, 10);
	$self->last_for(0.5, 2);
	$self->meanwhile;
	$self->last_for(0, 2);
	$locker->ask('COMMIT', time + 10);
	return $hit ? 1 : 0;
};
$actions{'clock jump'} = sub {
	my ($self) = @_;
	my ($hour, $years) = (3600, 10 * 365 * 86400);
	my $to = pick(grep { $_ != $self->{offset} } 0, 30, -30, $hour, -$hour, $years, -$years);
	$self->{clock}->set($to);
	$self->{offset} = $to;
	my $off = $self->ask('SELECT extract(epoch FROM clock_timestamp())') // return 1;
	return abs($off - time - $to) < 20;
};

1;

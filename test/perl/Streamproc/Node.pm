# PostgreSQL servers for the TAP tests of streamproc, and waiting for conditions (never for time).
package Streamproc::Node;

use strict;
use warnings;
use Carp;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Streamproc::Session;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(create_node create_kafka_server create_pipeline wait_caught_up wait_state wait_query wait_until
  kill9 crash_worker worker_pids children_of crash_postmaster wait_gone sql_ok sql_fails scalar_query picked);

my $timeout = $PostgreSQL::Test::Utils::timeout_default;

# A running server with the extension.  Options: conf => text appended to postgresql.conf, extension => 0,
# start => 0, init => [ further arguments of Cluster->init ]
sub create_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(@{ $options{init} // [] });
	# a crash test without fsync would test little
	$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'streamproc'
max_worker_processes = 64
fsync = on
log_line_prefix = '%m [%p] %q%a '
log_min_messages = info
CONF
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	if ($options{start} // 1)
	{
		$node->start;
		$node->safe_psql('postgres', 'CREATE EXTENSION streamproc') if $options{extension} // 1;
	}
	return $node;
}

# CREATE SERVER for a broker, usable by everybody.  Tasks that have nothing to read ask it a hundred times a second by
# default; with dozens of them and four brokers on two processors that is all that a test run would do.
sub create_kafka_server
{
	my ($node, $kafka, $name) = @_;
	$name //= 'kafka';
	my $address = $kafka->address;
	$node->safe_psql('postgres',
		"CREATE SERVER $name FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address', fetch_wait_max_ms '50');\n"
		  . "GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC;");
}

# create_pipeline($node, 'name', 'INSERT ...', start => 'latest', parallelism => 3)
sub create_pipeline
{
	my ($node, $name, $query, %options) = @_;
	my $args = join('', map { ", $_ => " . ($options{$_} =~ /^-?\d+$/ ? $options{$_} : "'$options{$_}'") } sort keys %options);
	return $node->safe_psql('postgres', "SELECT streamproc.create_pipeline('$name', \$pipeline\$$query\$pipeline\$$args)");
}

# what a failed wait shows
sub _state
{
	my ($node) = @_;
	my ($out, $err);
	return if $node->psql('postgres', 'SELECT * FROM streamproc.stat_pipeline', stdout => \$out, stderr => \$err, extra_params => ['-x'],
		timeout => 10, timed_out => \my $late);
	diag($out);
}

# Everything that is in the topics now is committed.
sub wait_caught_up
{
	my ($node, $pipeline, $seconds) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$seconds //= $timeout;
	my ($out, $err) = ('', '');
	my $rc = $node->psql('postgres', "SELECT streamproc.wait_until_caught_up('$pipeline', '$seconds s')", stdout => \$out, stderr => \$err);
	return 1 if $rc == 0;
	_state($node);
	croak("pipeline $pipeline did not catch up: $err");
}

# The state of the pipeline, as stat_pipeline shows it.
sub wait_state
{
	my ($node, $pipeline, $state, $seconds) = @_;
	return wait_query($node, "SELECT state FROM streamproc.stat_pipeline WHERE pipeline = '$pipeline'", $state, $seconds);
}

# Until the query gives the expected text; errors (a server that recovers) count as "not yet".
sub wait_query
{
	my ($node, $query, $expected, $seconds) = @_;
	$expected //= 't';
	my $session = Streamproc::Session->new($node);
	my $until = Time::HiRes::time() + ($seconds // $timeout);
	my $out;
	my $ok = wait_until(sub { $out = $session->ask($query, $until); return defined $out && $out eq $expected }, $seconds);
	return 1 if $ok;
	_state($node);
	croak("waited in vain for \"$expected\" of: $query\nlast: " . ($out // '') . ' ' . $session->error);
}

# Until the function returns true; false after the time.
sub wait_until
{
	my ($condition, $seconds) = @_;
	my $until = Time::HiRes::time() + ($seconds // $timeout);
	my $pause = 2_000;
	while (1)
	{
		my $got = $condition->();
		return $got if $got;
		return 0 if Time::HiRes::time() > $until;
		usleep($pause);
		$pause = $pause * 2 if $pause < 100_000;
	}
}

# Is this part of a test to be run?  ONLY (or another pattern) picks parts by name; then those that run are told, since
# test/mutants must know that they did.
sub picked
{
	my ($name, $only) = @_;
	$only //= $ENV{ONLY};
	return 1 unless defined $only;
	return 0 unless $name =~ /$only/;
	diag("runs: $name");
	return 1;
}

sub kill9
{
	my ($pid) = @_;
	return kill 'KILL', $pid;
}

# kill -9 of a process of a running server.  When it is waited for the server knows of it: a connection made from then on
# finds it recovering, or recovered.
sub crash_worker
{
	my ($pid) = @_;
	kill9($pid);
	return wait_until(sub { !-d "/proc/$pid" });
}

# A process is gone; a zombie counts as gone: its parent is busy.
sub is_gone
{
	my ($pid) = @_;
	open(my $in, '<', "/proc/$pid/stat") or return 1;
	my $stat = <$in> // '';
	return $stat eq '' || $stat =~ /\) [ZX] /;
}

sub wait_gone
{
	my (@pids) = @_;
	return wait_until(sub { return !grep { !is_gone($_) } @pids });
}

# pids of streamproc's processes; options role => 'task', pipeline => 'name'
sub worker_pids
{
	my ($node, %options) = @_;
	my $where = join(' AND ', 'pid IS NOT NULL', map { "$_ = '$options{$_}'" } sort keys %options);
	return split /\n/, $node->safe_psql('postgres', "SELECT pid FROM streamproc.stat_worker WHERE $where ORDER BY pid");
}

sub children_of
{
	my ($parent) = @_;
	my @pids;
	for my $file (glob('/proc/[0-9]*/stat'))
	{
		open(my $in, '<', $file) or next;
		my $stat = <$in> // next;
		push @pids, $1 if $stat =~ /^(\d+) \(.*\) \S (\d+) /s && $2 == $parent;
	}
	return @pids;
}

# kill -9 of the postmaster; returns when all its children have left, too, so that the server can be started again.
sub crash_postmaster
{
	my ($node) = @_;
	my $pid = slurp_file($node->data_dir . '/postmaster.pid') =~ s/\n.*//sr;
	my @children = children_of($pid);
	$node->kill9;
	wait_gone($pid, @children) or croak('processes of a dead postmaster stay');
	# As long as nobody has waited for the dead postmaster, its lock file looks alive to the next one.  Some containers
	# have no init that does.
	unlink($node->data_dir . '/postmaster.pid') unless wait_until(sub { !-d "/proc/$pid" }, 10);
	return;
}

sub scalar_query
{
	my ($node, $query) = @_;
	return $node->safe_psql('postgres', $query);
}

# One test: the statement runs.
sub sql_ok
{
	my ($node, $query, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err);
	my $rc = $node->psql('postgres', $query, stdout => \$out, stderr => \$err);
	ok($rc == 0, $name // $query) or diag($err);
	return $out;
}

# One test: the statement fails with an error like this.
sub sql_fails
{
	my ($node, $query, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($out, $err);
	my $rc = $node->psql('postgres', $query, stdout => \$out, stderr => \$err);
	if ($rc == 0)
	{
		fail($name // $query);
		diag("it did not fail: $out");
		return;
	}
	like($err, $pattern, $name // $query);
	return;
}

1;

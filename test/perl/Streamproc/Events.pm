# Topics of events (event time, key, value) for tests of operators with state, and the sections that such a test has.
package Streamproc::Events;

use strict;
use warnings;
use POSIX qw(strftime);
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

# seconds of events count from here: 2026-01-01 12:00:00+00
my $epoch = 1767268800;

sub new
{
	my ($class, $node, $kafka, $crash) = @_;
	my $self = bless { node => $node, kafka => $kafka, crash => $crash }, $class;
	$self->value("CREATE FUNCTION sec(t timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT trim_scale((extract(epoch FROM t) - $epoch)::numeric)'");
	return $self;
}

sub value { my ($self, $sql) = @_; return scalar $self->{node}->safe_psql('postgres', $sql) }

sub error_of
{
	my ($self, $sql) = @_;
	my ($rc, $out, $err) = $self->{node}->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# seconds since the epoch of these tests, as JSON
sub at
{
	my ($seconds) = @_;
	my $us = sprintf('%.0f', $seconds * 1e6);
	my $whole = POSIX::floor($us / 1e6);
	return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + $whole)) . sprintf('.%06dZ"', $us - $whole * 1e6);
}

# topic and foreign table <name>_in
sub make_topic
{
	my ($self, $name, $partitions, %options) = @_;
	my %all = (topic => $name, event_time => 'at', idle_timeout => '1 h', max_ahead => '10000 days', %options);
	$self->{kafka}->topic($name, $partitions);
	$self->value("CREATE FOREIGN TABLE ${name}_in (at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
		  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	return;
}

# send_rows('name', [ partition, seconds, key, value ], ...)
sub send_rows
{
	my ($self, $name, @rows) = @_;
	return $self->{kafka}->produce($name, map { { partition => $_->[0], value => '{"at": ' . at($_->[1]) . ', "k": "' . ($_->[2] // 'a') . '", "v": ' . ($_->[3] // 1) . '}' } } @rows);
}

# One test: the sink has the rows of a query over the topic.
sub same_rows
{
	my ($self, $name, $batch, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $differ = $self->value(<<SQL);
WITH batch AS MATERIALIZED ($batch),
	differ AS (SELECT 'missing', x::text FROM (TABLE batch EXCEPT ALL TABLE $name) x UNION ALL SELECT 'extra', x::text FROM (TABLE $name EXCEPT ALL TABLE batch) x)
SELECT * FROM differ ORDER BY 2, 1 LIMIT 20
SQL
	return is($differ, '', $what);
}

# keys and seconds of the rows of a sink
sub times { my ($self, $name) = @_; return $self->value("SELECT string_agg(k || sec(at), ' ' ORDER BY at, k) FROM $name") }

sub late { my ($self, $name) = @_; return $self->value("SELECT string_agg(partition || '/' || \"offset\" || ' ' || sec(event_time) || coalesce(' in ' || sec(window_start), ''), ', ' ORDER BY partition, \"offset\") FROM streamproc.late_row WHERE pipeline = '$name'") }

sub stop
{
	my ($self, $name, %o) = @_;
	$self->value("SELECT streamproc.stop_pipeline('$name'" . ($o{drain} ? ', drain => true' : '') . ')');
	$self->value("SELECT streamproc.wait_until_stopped('$name', '60 s')");
	return;
}

# kill -9 of a worker of the pipeline, or of the whole server; it answers again when this returns
sub kill
{
	my ($self, $name, $what) = @_;
	my $node = $self->{node};
	if ($what eq 'postmaster')
	{
		crash_postmaster($node);
		$node->start;
		return;
	}
	my $pid = $self->value("SELECT pid FROM streamproc.stat_worker WHERE pipeline = '$name' AND role = '$what' AND pid IS NOT NULL ORDER BY pid LIMIT 1");
	if ($pid) { crash_worker($pid) }
	# by a new connection: a session that stays may answer once more before it is told to go
	wait_until(sub { eval { $self->value('SELECT 1') } }, 60) || die 'the server does not come back';
	return;
}

# Each section has its own topics and pipelines: one that fails leaves the others to be seen.
sub section
{
	my ($self, $name, $code) = @_;
	return unless picked($name);
	my $begun = time;
	eval { $code->(); 1 } or fail("$name: $@");
	$self->{crash}->reset_fault;
	eval { $self->value('SELECT streamproc.drop_pipeline(pipeline) FROM streamproc.stat_pipeline'); 1 } or fail("$name: pipelines can be dropped: $@");
	note(sprintf '%s: %.1f s', $name, time - $begun);
	return;
}

1;

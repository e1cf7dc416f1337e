# Joins of two topics: what the oracle suite does not see.  When pairs and rows without a partner are given out; what
# comes too late; what outlives a stop, a kill and another number of tasks; that what nobody needs any more goes; what is
# refused.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use POSIX qw(strftime);
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

my $epoch = 1767268800;    # 2026-01-01 12:00:00+00
my $next_id = 0;
value("CREATE FUNCTION sec(t timestamptz) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT trim_scale((extract(epoch FROM t) - $epoch)::numeric)'");

# ---- helpers ----

sub at
{
	my ($seconds) = @_;
	my $us = sprintf('%.0f', $seconds * 1e6);
	my $whole = POSIX::floor($us / 1e6);
	return strftime('"%Y-%m-%dT%H:%M:%S', gmtime($epoch + $whole)) . sprintf('.%06dZ"', $us - $whole * 1e6);
}

# send_rows('name', [ side, partition, seconds, key, value ], ...): side 'a' or 'b'
sub send_rows
{
	my ($name, @rows) = @_;
	for my $side ('a', 'b')
	{
		my @mine = map { { partition => $_->[1], value => '{"id": ' . ++$next_id . ', "at": ' . at($_->[2]) . ', "k": ' . (defined $_->[3] ? qq{"$_->[3]"} : 'null') . ', "v": ' . ($_->[4] // 1) . '}' } } grep { $_->[0] eq $side } @rows;
		$kafka->produce("${name}_$side", @mine) if @mine;
	}
	return;
}

# topics and foreign tables <name>_a and <name>_b, sink <name>
sub make_topics
{
	my ($name, $partitions, %options) = @_;
	for my $side ('a', 'b')
	{
		my %all = (topic => "${name}_$side", event_time => 'at', idle_timeout => '1 h', max_ahead => '10000 days', %options);
		$kafka->topic("${name}_$side", $partitions);
		value("CREATE FOREIGN TABLE ${name}_$side (id bigint, at timestamptz, k text, v bigint, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS ("
			  . join(', ', map { "$_ '$all{$_}'" } sort keys %all) . ')');
	}
	value("CREATE TABLE $name (a bigint, b bigint, k text, a_at timestamptz, b_at timestamptz)");
	return;
}

sub select_of
{
	my ($name, $join, $from, $to, $a, $b) = @_;
	$a //= "${name}_a";
	$b //= "${name}_b";
	return "SELECT a.id, b.id, coalesce(a.k, b.k), a.at, b.at FROM $a a $join b_ b ON a.k = b.k AND b.at BETWEEN a.at - interval '$from' AND a.at + interval '$to'" =~ s/b_ b/$b b/r;
}

sub make_pipeline
{
	my ($name, $partitions, $topic, $join, $from, $to, %options) = @_;
	make_topics($name, $partitions, %$topic);
	create_pipeline($node, $name, "INSERT INTO $name " . select_of($name, $join, $from, $to), %options);
	return;
}

sub rows_of { my ($name) = @_; return value("SELECT string_agg(coalesce(k, 'null') || ' ' || coalesce(sec(a_at)::text, '-') || ' ' || coalesce(sec(b_at)::text, '-'), ', ' ORDER BY k, a_at, b_at) FROM $name") }

sub settled { my ($name) = @_; wait_caught_up($node, $name); return rows_of($name) }

# the sink against the batch query over the topics; rows that came too late take no part
sub same_as_batch
{
	my ($name, $select, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $with = join(', ', map { "x_$_ AS MATERIALIZED (SELECT * FROM ${name}_$_ i WHERE NOT EXISTS (SELECT FROM streamproc.late_row l WHERE l.pipeline = '$name' AND l.topic = '${name}_$_' AND l.partition = i.p AND l.\"offset\" = i.o))" } 'a', 'b');
	is(value(<<SQL), '0|0', $what);
WITH $with, batch AS MATERIALIZED ($select)
SELECT (SELECT count(*) FROM (TABLE batch EXCEPT ALL TABLE $name) x), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE batch) x)
SQL
	return;
}

sub late { my ($name) = @_; return value("SELECT string_agg(topic || ' ' || sec(event_time) || coalesce(' in ' || sec(window_start), ''), ', ' ORDER BY topic, event_time) FROM streamproc.late_row WHERE pipeline = '$name'") }
sub stop { my ($name, %o) = @_; value("SELECT streamproc.stop_pipeline('$name'" . ($o{drain} ? ', drain => true' : '') . ')'); value("SELECT streamproc.wait_until_stopped('$name', '60 s')"); return }
sub start { my ($name) = @_; value("SELECT streamproc.start_pipeline('$name')"); return }
sub error_of
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# Each section has its own topics and pipelines: one that fails leaves the others to be seen.
sub section
{
	my ($name, $code) = @_;
	return unless picked($name);
	my $begun = time;
	eval { $code->(); 1 } or fail("$name: $@");
	$crash->reset_fault;
	eval { value('SELECT streamproc.drop_pipeline(pipeline) FROM streamproc.stat_pipeline'); 1 } or fail("$name: pipelines can be dropped: $@");
	note(sprintf '%s: %.1f s', $name, time - $begun);
	return;
}

# ---- pairs ----

# catches: a pair that waits for the watermark, or that the order of arrival hides; borders of the interval; null keys
section 'inner' => sub {
	make_pipeline('inner_', 2, {}, 'JOIN', '5 s', '10 s', parallelism => 2);
	send_rows('inner_', [ 'a', 0, 10, 'x' ], [ 'a', 1, 10, 'y' ]);
	is(settled('inner_'), '', 'no partner yet');
	send_rows('inner_', [ 'b', 1, 20, 'x' ], [ 'b', 0, 5, 'x' ], [ 'b', 0, 4.999999, 'x' ], [ 'b', 1, 20.000001, 'x' ], [ 'b', 0, 12, 'z' ], [ 'b', 0, 12, undef ], [ 'a', 0, 12, undef ]);
	is(settled('inner_'), 'x 10 5, x 10 20', 'pairs are given out at once, with both borders of the interval');
	send_rows('inner_', [ 'a', 1, 15, 'x' ], [ 'a', 0, 30, 'x' ]);
	is(settled('inner_'), 'x 10 5, x 10 20, x 15 20, x 15 20.000001', 'later rows of either side find those that were there');
	stop('inner_', drain => 1);
	same_as_batch('inner_', select_of('x', 'JOIN', '5 s', '10 s'), 'as the batch query');
};

# catches: a row without partner that comes too soon, too late, twice, or not at all
section 'left' => sub {
	make_pipeline('left_', 1, {}, 'LEFT JOIN', '2 s', '10 s');
	send_rows('left_', [ 'a', 0, 10, 'x' ], [ 'a', 0, 11, 'y' ], [ 'a', 0, 12, undef ], [ 'b', 0, 12, 'x' ]);
	is(settled('left_'), 'x 10 12, null 12 -', 'a null finds nobody, and need not wait');
	send_rows('left_', [ 'a', 0, 40, 'z' ], [ 'b', 0, 20.99, 'q' ]);
	is(settled('left_'), 'x 10 12, null 12 -', 'a partner could still come');
	send_rows('left_', [ 'b', 0, 21.1, 'q' ]);
	is(settled('left_'), 'x 10 12, y 11 -, null 12 -', 'now it cannot: the row is given out alone');
	send_rows('left_', [ 'b', 0, 20.5, 'y' ]);
	is(settled('left_'), 'x 10 12, y 11 -, null 12 -', 'who comes then is late');
	is(late('left_'), 'left__b 20.5', '... and stands in late_row, without a window');
	stop('left_', drain => 1);
	is(rows_of('left_'), 'x 10 12, y 11 -, z 40 -, null 12 -', 'drained, all have been given out');
	same_as_batch('left_', select_of('x', 'LEFT JOIN', '2 s', '10 s'), 'as the batch query');
	start('left_');
	send_rows('left_', [ 'a', 0, 60, 'z' ], [ 'b', 0, 59, 'z' ], [ 'b', 0, 45, 'z' ]);
	stop('left_', drain => 1);
	same_as_batch('left_', select_of('x', 'LEFT JOIN', '2 s', '10 s'), 'what comes after that goes on, or is late');
	is(late('left_'), 'left__b 20.5, left__b 45', 'for a row that was given out alone');
};

section 'full' => sub {
	make_pipeline('full_', 2, {}, 'FULL JOIN', '10 s', '-2 s', parallelism => 2);
	send_rows('full_', [ 'a', 0, 20, 'x' ], [ 'b', 1, 18, 'x' ], [ 'b', 0, 18.000001, 'x' ], [ 'b', 0, 10, 'x' ], [ 'b', 1, 9, 'x' ], [ 'a', 1, 19, 'y' ], [ 'b', 1, 12, undef ]);
	stop('full_', drain => 1);
	is(rows_of('full_'), 'x 20 10, x 20 18, x - 9, x - 18.000001, y 19 -, null - 12', 'an interval that ends before the row');
	same_as_batch('full_', select_of('x', 'FULL JOIN', '10 s', '-2 s'), 'as the batch query');
};

done_testing();

# Too few slots of workers or pipelines: what has room runs, what has none waits and says why, and goes on by itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Test::More;
use Streamproc::Kafka;
use Streamproc::Node;

my $kafka = Streamproc::Kafka->new;
$kafka->topic('tx', 2);
my $node = create_node('main', conf => "streamproc.restart_backoff_max = '1s'\n");
create_kafka_server($node, $kafka);
sub q1 { return scalar $node->safe_psql('postgres', $_[0]) }
q1(q{CREATE FOREIGN TABLE tx (p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx')});
sub small
{
	my ($settings) = @_;
	$node->append_conf('postgresql.conf', $settings);
	$node->start;
}
q1("CREATE TABLE s (name text, p int, o bigint)");
create_pipeline($node, $_, "INSERT INTO s SELECT '$_', p, o FROM tx", parallelism => 2, start => 'latest') for qw(x y z);
wait_state($node, $_, 'running') for qw(x y z);
$node->stop('fast');
sub states { return q1(q{SELECT string_agg(state, ' ' ORDER BY state) FROM streamproc.stat_pipeline WHERE state <> 'stopped'}) }
sub one_of { my ($state) = @_; return q1("SELECT min(pipeline) FROM streamproc.stat_pipeline WHERE state = '$state'") }
# until the supervisor has heard of it, a launcher that leaves is followed by another one
sub stop_one
{
	my $name = one_of('running');
	q1("SELECT streamproc.stop_pipeline('$name')");
	q1("SELECT streamproc.wait_until_stopped('$name', '60 s')");
	return $name;
}
# what runs does so, and what waits has its reason
sub some_run
{
	my ($expected, $reason, $hint, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_query($node, q{SELECT string_agg(state, ' ' ORDER BY state) FROM streamproc.stat_pipeline WHERE state <> 'stopped'}, $expected, 60);
	$kafka->produce('tx', map { { partition => $_ % 2, value => '{}' } } 1 .. 10);
	for my $name (split /\n/, q1(q{SELECT pipeline FROM streamproc.stat_pipeline WHERE state = 'running'}))
	{
		wait_caught_up($node, $name);
	}
	is(states(), $expected, $what);
	return unless $expected =~ /waiting/;
	like(q1(q{SELECT DISTINCT sqlstate || ': ' || reason || ' ' || hint FROM streamproc.stat_pipeline WHERE state = 'waiting'}), qr/^53400: $reason.* $hint.*$/, "$what: the reason");
}
# logical replication launcher, supervisor, and three pipelines of three: ten and one
small("max_worker_processes = 10\n");
some_run('running running waiting', 'not enough free background workers', 'Raise max_worker_processes', 'one worker too few: two of three run');
q1("SELECT streamproc.drop_pipeline('" . one_of('running') . "')");
some_run('running running', '', '', 'and the third one when there is room');
create_pipeline($node, 'again', "INSERT INTO s SELECT 'again', p, o FROM tx", parallelism => 2);
some_run('running running waiting', 'not enough free background workers', 'Raise max_worker_processes', 'and the next one waits');
$node->stop('fast');
# the launchers alone take what one pipeline needs: one has to give way
small("max_worker_processes = 6\n");
for my $left (2, 1, 0)
{
	some_run(join(' ', 'running', ('waiting') x $left), '(not enough free background workers|no free background worker)', 'Raise max_worker_processes', "workers for one pipeline: one runs, $left wait");
	stop_one();
}
q1(q{SELECT streamproc.start_pipeline(pipeline) FROM streamproc.stat_pipeline});
$node->stop('fast');
small("max_worker_processes = 20\nstreamproc.max_workers = 8\n");
some_run('running running waiting', 'not enough free background workers', '.*streamproc\.max_workers', 'streamproc.max_workers one too small');
stop_one();
some_run('running running', '', '', 'and the third one when there is room');
q1(q{SELECT streamproc.start_pipeline(pipeline) FROM streamproc.stat_pipeline WHERE state = 'stopped'});
$node->stop('fast');
small("streamproc.max_workers = 256\nstreamproc.max_pipelines = 2\n");
some_run('running running waiting', 'no free slot', 'Raise streamproc\.max_pipelines', 'streamproc.max_pipelines one too small');
my $stopped = stop_one();
some_run('running running', '', '', 'a pipeline that was stopped gives its slot away');
q1("SELECT streamproc.start_pipeline('$stopped')");
some_run('running running waiting', 'no free slot', 'Raise streamproc\.max_pipelines', 'and waits for one when it is started again');
q1("SELECT streamproc.drop_pipeline('" . one_of('running') . "')");
some_run('running running', '', '', 'which it gets');
$node->stop('fast');
small("streamproc.max_pipelines = 64\nstreamproc.max_partitions = 1\n");
wait_query($node, q{SELECT string_agg(state, ' ') FROM streamproc.stat_pipeline}, 'running running', 60);
my $before = q1('SELECT sum(next_offset) FROM streamproc.position');
$kafka->produce('tx', map { { partition => $_ % 2, value => '{}' } } 1 .. 10);
wait_query($node, 'SELECT sum(next_offset) FROM streamproc.position', $before + 20);
pass('streamproc.max_partitions too small: the pipelines run');
is(q1('SELECT count(*) FROM streamproc.stat_partition'), 1, 'the views do not show all of it');
# the answer may come at any moment between two looks of who waits: that must never be taken for the end
my ($running, $told) = (one_of('running'), 0);
for (1 .. 20)
{
	my $timeout = $_ == 1 ? '5 s' : '50 ms';
	$told++ if psql_error("SELECT streamproc.wait_until_caught_up('$running', '$timeout')") =~ /streamproc\.max_partitions is too small/;
}
is($told, 20, 'and who waits is told, each time');
is(q1('SELECT count(*) = count(DISTINCT (name, p, o)) FROM s'), 't', 'in all of this no row came twice');
$node->stop('fast');
done_testing();

sub psql_error { my ($query) = @_; my $err; $node->psql('postgres', $query, stderr => \$err); return $err }

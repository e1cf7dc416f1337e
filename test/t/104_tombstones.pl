# Upserts into compacted topics: the last row of each group that fulfils HAVING, and a tombstone where one does not any more.
#
# Four pipelines read one topic: running totals with each commit and every so often, windows with each commit, and windows
# that late rows change.  Sums go up and down, so groups come and go; those of the cards "n..." never come.  Processes are
# killed and commits fail and are repeated in between.  In the end each topic, compacted, is the batch query, and its
# messages tell a story without a gap: of a key first a row, never two tombstones in a row, each row of more events than
# the one before (or of as many, where all is given out once more), all in one partition.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
# few changes are many: they are copied before the stop, and again at it
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
streamproc.restart_backoff_max = 400ms
streamproc.early_copy = 8
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);
srand(4711);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }

my $begin = 1735689600;
my @windows = map { $begin + 10 * $_ } 0 .. 3;
$kafka->topic('moves', 2);
$kafka->topic($_, 3, 'cleanup.policy' => 'compact') for qw(totals every changes late);
value(<<'SQL');
CREATE FOREIGN TABLE moves (card text, v int, at timestamptz) SERVER kafka OPTIONS (topic 'moves', event_time 'at', idle_timeout '1 h');
SQL
value("CREATE FOREIGN TABLE $_ (k text OPTIONS (kafka 'key'), card text, start bigint, total bigint, n bigint, share int) SERVER kafka OPTIONS (topic '$_')")
  for qw(totals every changes late);

# The select list must not be computed for a group that HAVING keeps out: its total may be 0.
my $columns = 'sum(v), count(*), 1000 / sum(v)';
my $totals = "SELECT card || '!', card, 0, $columns FROM moves GROUP BY card";
my $tumble = "SELECT card || '\@' || extract(epoch FROM w.window_start)::bigint, card, extract(epoch FROM w.window_start), $columns
	FROM moves t, streamproc.tumble(t.at, '10 s') w GROUP BY card, w.window_start, w.window_end";
my %query = ((map { $_ => "$totals HAVING sum(v) > 0" } qw(totals every)), (map { $_ => "$tumble HAVING sum(v) > 0" } qw(changes late)));
create_pipeline($node, 'totals', "INSERT INTO totals $query{totals}", parallelism => 2);
create_pipeline($node, 'every', "INSERT INTO every $query{every}", parallelism => 2, emit => 'every 60 ms');
create_pipeline($node, 'changes', "INSERT INTO changes $query{changes}", parallelism => 2, emit => 'changes', allowed_lateness => '1 day');
create_pipeline($node, 'late', "INSERT INTO late $query{late}", parallelism => 2, late => 'update', allowed_lateness => '1 day');

# Sums of the cards "c..." go up and down around 0.  The last ones let the watermark pass all windows.
sub send_rows
{
	my ($n) = @_;
	$kafka->produce('moves',
		(map {
			my $never = rand() < 0.2;
			{ partition => int(rand(2)), value => sprintf('{"card": "%s%d", "v": %d, "at": %d}', $never ? 'n' : 'c', rand(20), $never ? -1 - int(rand(5)) : int(rand(21)) - 10,
				($windows[ int(rand(@windows)) ] + rand(10)) * 1000) }
		} 1 .. $n),
		map { { partition => $_, value => sprintf('{"card": "end", "v": 0, "at": %d}', ($begin + 3600) * 1000) } } 0, 1);
	return;
}

sub caught_up { wait_caught_up($node, $_) for sort keys %query; return }
sub wait_ready { return wait_until(sub { eval { value('SELECT 1') } }, 60) || die 'the server does not come back' }

sub number { my ($message) = @_; return (map { $_->[1] =~ m{/(\d+)$} } grep { $_->[0] eq 'streamproc' } @{ $message->{headers} })[0] }

# what compaction leaves, without tombstones
sub compacted
{
	my ($topic) = @_;
	my %last;
	$last{ $_->{key} } = $_->{value} for $kafka->consume($topic);
	return join("\n", sort map { my ($total, $n) = $last{$_} =~ /"total":(-?\d+),"n":(\d+)/; "$_|$total|$n" } grep { defined $last{$_} } keys %last);
}

sub batch
{
	my ($topic) = @_;
	return join("\n", sort split /\n/, value("SELECT k, total, n FROM ($query{$topic}) q(k, card, start, total, n, share)"));
}

# both ways: the texts are equal
sub same_as_batch
{
	my ($topic, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $batch = batch($topic);
	# "every" is not due with each commit
	wait_until(sub { compacted($topic) eq $batch }, 20);
	return is(compacted($topic), $batch, "$topic, $what: compacted it is the batch query");
}

# Of each key: rows and tombstones as the flag in the state says.  Returns the number of tombstones.
sub good_story
{
	my ($topic) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (%last, %partition, %numbers, @bad);
	my $tombstones = 0;
	my @messages = $kafka->consume($topic);
	for (sort { number($a) <=> number($b) } @messages)
	{
		my $key = $_->{key};
		my ($n) = ($_->{value} // '') =~ /"n":(\d+)/;
		push @bad, "number @{[ number($_) ]} twice" if $numbers{ number($_) }++;
		push @bad, "$key in two partitions" if ($partition{$key} //= $_->{partition}) != $_->{partition};
		push @bad, "a tombstone for $key, which was not there" if !defined $_->{value} && !defined $last{$key};
		push @bad, "$key: $n events after $last{\"$key n\"}" if defined $n && $n < ($last{"$key n"} // 0) + ($topic eq 'totals' ? 1 : 0);
		$tombstones++ if !defined $_->{value};
		$last{$key} = $_->{value};
		$last{"$key n"} = $n if defined $n;
	}
	push @bad, 'gaps in the numbers' if @messages != keys %numbers || grep { !$numbers{$_} } 1 .. @messages;
	is(join("\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ]), '', "$topic: each message once, in order, and tombstones only for what was there");
	is(scalar(grep { $_->{key} =~ /^n/ } @messages), 0, "$topic: nothing of groups that never fulfilled HAVING");
	cmp_ok($tombstones, '>', 5, "$topic: groups that left");
	note("$topic: " . @messages . " messages, $tombstones tombstones");
	return $tombstones;
}

sub section
{
	my ($name, $code) = @_;
	$code->() if picked($name);
	return;
}

# catches: a tombstone for what was never there, or none for what was; a group that is not noted where it changed in an epoch before
section 'come and go' => sub {
	for (1 .. 12)
	{
		send_rows(60);
		wait_caught_up($node, 'totals');
	}
	caught_up();
	same_as_batch($_, 'many commits') for sort keys %query;
	is(value(q{SELECT count(*) FROM streamproc.dead_letter}), 0, 'the select list was not computed where HAVING kept the group out');
	cmp_ok(value(q{SELECT published_rows FROM streamproc.stat_pipeline WHERE pipeline = 'totals'}), '==', scalar(my @all = $kafka->consume('totals')), 'tombstones are counted as messages');
	cmp_ok(value(q{SELECT rows_out FROM streamproc.stat_pipeline WHERE pipeline = 'totals'}), '==', scalar(@all), 'and as rows');
	good_story($_) for sort keys %query;
};

# Each step of the commit, killed, failed and repeated.
# catches: what was given out noted apart from the commit that gave it out
section 'faults' => sub {
	my @faults = map { my $point = $_; map { [ $point, $_ ] } $point eq 'keyed-committed' ? qw(kill error) : $point =~ /^barrier/ ? 'kill' : qw(kill retry) }
	  qw(barrier-early barrier-copied keyed-before-output outbox-insert keyed-before-write save-segment keyed-before-commit keyed-committed);
	for (@faults)
	{
		my ($point, $action) = @$_;
		$crash->set_fault("$point=$action\@1" . ($action eq 'retry' ? '-6' : ''));
		send_rows(40);
		ok(defined $crash->wait_hit($point, 30), "$action at $point");
		send_rows(20) if $action ne 'kill';
		$crash->reset_fault;
		wait_ready();
	}
	caught_up();
	same_as_batch($_, 'faults') for sort keys %query;
	good_story($_) for sort keys %query;
};

section 'kills' => sub {
	for my $role (qw(task launcher publisher))
	{
		my $pid;
		send_rows(40);
		wait_until(sub { ($pid) = worker_pids($node, role => $role, pipeline => $role eq 'launcher' ? 'late' : 'totals'); $pid }, 30) or die "no $role";
		crash_worker($pid);
		wait_ready();
	}
	send_rows(40);
	crash_postmaster($node);
	send_rows(40);
	$node->start;
	# other options: all that is alive is given out once more
	value(q{SELECT streamproc.alter_pipeline('every', emit => 'changes', parallelism => 1)});
	value(q{SELECT streamproc.alter_pipeline('changes', emit => 'every 50 ms')});
	send_rows(40);
	caught_up();
	value(q{SELECT streamproc.alter_pipeline('late', late => 'divert')});
	same_as_batch($_, 'kills') for sort keys %query;

	# A drain closes all windows: what does not fulfil HAVING then has left.
	send_rows(80);
	caught_up();
	for (qw(changes late))
	{
		value("SELECT streamproc.stop_pipeline('$_', drain => true)");
		value("SELECT streamproc.wait_until_stopped('$_', '30 s')");
	}
	same_as_batch($_, 'drained') for sort keys %query;
	good_story($_) for qw(every changes totals late);
};

# catches: what was given out known only while there is a HAVING
section 'another HAVING' => sub {
	# each group changes once more
	sub touch_all
	{
		$kafka->produce('moves', map { my $c = $_; map { { partition => $_ % 2, value => sprintf('{"card": "%s%d", "v": -1, "at": %d}', $c, $_, $begin * 1000) } } 0 .. 19 } qw(c n));
		wait_caught_up($node, 'totals');
		return;
	}
	value("SELECT streamproc.alter_pipeline('totals', query => \$\$INSERT INTO totals SELECT card || '!', card, 0, sum(v), count(*), 0 FROM moves GROUP BY card\$\$)");
	touch_all();
	$query{totals} = $totals =~ s{, 1000 / sum\(v\)}{, 0}r . q{ HAVING card <> 'end'};
	same_as_batch('totals', 'without HAVING');
	$query{totals} = "$totals HAVING sum(v) > 10";
	value("SELECT streamproc.alter_pipeline('totals', query => \$\$INSERT INTO totals $query{totals}\$\$)");
	touch_all();
	same_as_batch('totals', 'with another one');
};

# catches: a group noted as given out whose row was refused
section 'left out' => sub {
	# a row that cannot be made is a dead letter, and its group is given out, or not, as it was before
	$kafka->topic('parts', 1);
	$kafka->topic('left_out', 1);
	value(q{CREATE FOREIGN TABLE parts (card text, v int) SERVER kafka OPTIONS (topic 'parts')});
	value(q{CREATE FOREIGN TABLE left_out (k text OPTIONS (kafka 'key'), total bigint, share int) SERVER kafka OPTIONS (topic 'left_out')});
	create_pipeline($node, 'left_out', 'INSERT INTO left_out SELECT card, sum(v), 100 / sum(v) FROM parts GROUP BY card HAVING sum(v) >= 0', parallelism => 1);
	for ('a 0 b 5', 'a -1 b -5', 'b -1', 'a 2 b -1', 'a -1')
	{
		my %v = split / /;
		$kafka->produce('parts', map { sprintf('{"card": "%s", "v": %d}', $_, $v{$_}) } sort keys %v);
		wait_caught_up($node, 'left_out');
	}
	is(join(', ', map { "$_->{key} " . ($_->{value} // 'gone') } $kafka->consume('left_out')), 'b {"total":5,"share":20}, b gone, a {"total":1,"share":100}', 'groups that were left out');
	is(value(q{SELECT string_agg(sqlstate || ' ' || kind, ', ') FROM streamproc.dead_letter WHERE pipeline = 'left_out'}), '22012 output, 22012 output, 22012 output', '... are dead letters');
};

section 'refused' => sub {
	is(value("SELECT result FROM streamproc.check_pipeline(\$\$INSERT INTO totals $totals HAVING sum(v) > 0\$\$)"), 'upsert with tombstones', 'check_pipeline says so');
	is(value("SELECT result FROM streamproc.check_pipeline(\$\$INSERT INTO totals $totals\$\$)"), 'upsert', 'and without HAVING');
	is(value("SELECT result FROM streamproc.check_pipeline(\$\$INSERT INTO changes $query{changes}\$\$)"), 'append', 'windows are given out once');
	is(value("SELECT result FROM streamproc.check_pipeline('INSERT INTO totals (k, total) SELECT * FROM (SELECT card, sum(v) AS total FROM moves GROUP BY card) g WHERE total > 3')"),
		'upsert with tombstones', 'a condition above the groups is a HAVING');
	value(<<'SQL');
CREATE TABLE by_card (card text PRIMARY KEY, total bigint);
CREATE TABLE owner (card text PRIMARY KEY, name text, most bigint);
CREATE FOREIGN TABLE placed (k text OPTIONS (kafka 'key'), total bigint, p int OPTIONS (kafka 'partition')) SERVER kafka OPTIONS (topic 'totals');
CREATE FOREIGN TABLE changed (k text OPTIONS (kafka 'key'), total bigint) SERVER kafka OPTIONS (topic 'totals');
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k := upper(NEW.k); RETURN NEW; END';
CREATE TRIGGER change BEFORE INSERT ON changed FOR EACH ROW EXECUTE FUNCTION change();
SQL
	my $having = qr/HAVING, or a condition on what groups have come to, is not supported in statement 1/;
	my $up = 'ON CONFLICT (card) DO UPDATE SET total = EXCLUDED.total';
	for (
		[ 'a table', "INSERT INTO by_card SELECT card, sum(v) FROM moves GROUP BY card HAVING sum(v) > 0 $up", qr/$having.*would stay in the table.*write into a topic with a key/s ],
		[ 'a condition above groups, into a table', "INSERT INTO by_card SELECT * FROM (SELECT card, sum(v) AS total FROM moves GROUP BY card) g WHERE total > 0 $up", qr/$having.*would stay in the table/s ],
		[ 'a join that depends on a total, into a table', "WITH g AS (SELECT card, sum(v) AS total FROM moves GROUP BY card) INSERT INTO by_card SELECT g.card, total FROM g JOIN owner o ON total < o.most $up", qr/$having/ ],
		[ 'a join above', "INSERT INTO totals (k, card, total) SELECT g.card, o.name, g.total FROM (SELECT card, sum(v) AS total FROM moves GROUP BY card HAVING sum(v) > 0) g LEFT JOIN owner o USING (card)",
			qr/$having.*its groups are joined, filtered or multiplied/s ],
		[ 'several rows of a group', "INSERT INTO totals (k, total) SELECT card, generate_series(1, sum(v)) FROM moves GROUP BY card HAVING sum(v) > 0", qr/$having.*multiplied/s ],
		[ 'a partition of its own', "INSERT INTO placed SELECT card, sum(v), 1 FROM moves GROUP BY card HAVING sum(v) > 0", qr/$having.*it names the partition of its messages/s ],
		[ 'a trigger', "INSERT INTO changed SELECT card, sum(v) FROM moves GROUP BY card HAVING sum(v) > 0", qr/$having.*BEFORE INSERT row trigger/s ],
		[ 'a key that is no group', "INSERT INTO totals (k, total) SELECT sum(v)::text, sum(v) FROM moves GROUP BY card HAVING sum(v) > 0", qr/made of something that is not grouped by/ ],
		[ 'hop', ($query{changes} =~ s/tumble\(t.at, /hop(t.at, '5 s', /r) =~ s/^/INSERT INTO changes /r, qr/$having.*windows of hop\(\) and cumulate\(\)/s, q{, emit => 'changes'} ],
		[ 'windows into a table', "INSERT INTO by_card SELECT t.card, sum(v) FROM moves t, streamproc.tumble(t.at, '10 s') w GROUP BY t.card, w.window_start HAVING sum(v) > 0 $up", qr/replace its row|$having/, q{, emit => 'changes'} ])
	{
		my ($what, $query, $message, $options) = @$_;
		sql_fails($node, "\\set VERBOSITY verbose\nSELECT streamproc.create_pipeline('x', \$\$$query\$\$" . ($options // '') . ', active => false)', qr/ERROR:  0A000: .*$message/s, "refused: $what");
	}
	# what does not filter by results is not refused
	sql_ok($node, "BEGIN; SELECT streamproc.create_pipeline('x', 'INSERT INTO by_card SELECT * FROM (SELECT card, sum(v) AS total FROM moves GROUP BY card) g LEFT JOIN owner o USING (card) WHERE card <> ''x'' $up', active => false); ROLLBACK"
		=~ s/SELECT \* FROM \(/SELECT g.card, g.total FROM (/r, 'a condition on what is grouped by, and a join that keeps all');
	sql_ok($node, "BEGIN; SELECT streamproc.create_pipeline('x', \$\$INSERT INTO changes @{[ $query{changes} =~ s/tumble\(t.at, /hop(t.at, '5 s', /r ]}\$\$, active => false); ROLLBACK", 'hop with HAVING, given out once');
};

done_testing();

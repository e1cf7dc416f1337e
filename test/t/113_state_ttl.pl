# state_ttl: keys that are forgotten.  Whether a row finds its key forgotten hangs on times alone, not on when memory is
# freed, so it can be compared with a batch query; and what is forgotten is freed.
#
# with assertions
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use Streamproc::Crash;
use Streamproc::Events;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('main', conf => <<'CONF');
restart_after_crash = on
log_statement = none
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);
my $events = Streamproc::Events->new($node, $kafka, $crash);

sub value { return $events->value($_[0]) }
sub send_rows { return $events->send_rows(@_) }

sub make_topic { my ($name, $partitions, %options) = @_; return $events->make_topic($name, $partitions, watermark_delay => '3 s', %options) }
sub operator { my ($name, $columns) = @_; return "SELECT $columns FROM streamproc.stat_operator WHERE pipeline = '$name'" }

sub same_rows { local $Test::Builder::Level = $Test::Builder::Level + 1; return $events->same_rows(@_) }

# Rows of the topic with the number of the life of their key: it has a new one after a pause of the ttl.
sub lives
{
	my ($name, $ttl, $order) = @_;
	return "SELECT l.*, sum(CASE WHEN prev IS NULL OR at >= prev + interval '$ttl' THEN 1 ELSE 0 END) OVER (PARTITION BY k ORDER BY $order) AS life FROM (SELECT i.*, lag(at) OVER (PARTITION BY k ORDER BY $order) AS prev FROM ${name}_in i) l";
}

# Whatever makes tasks begin anew, with random rows in between; $more sends some.
sub disturb
{
	my ($name, $more, $partitions) = @_;
	$more->(800);
	wait_caught_up($node, $name);
	value("SELECT streamproc.alter_pipeline('$name', parallelism => $partitions)");
	for my $what ('task', 'launcher', 'postmaster')
	{
		my $position = "SELECT sum(next_offset) FROM streamproc.position WHERE pipeline = '$name'";
		my $before = value($position);
		$more->(500);
		wait_query($node, "SELECT ($position) > $before", 't', 60);
		$events->kill($name, $what);
	}
	value("SELECT streamproc.wait_until_caught_up('$name', '120 s')");
	return;
}

# Random rows of $keys keys that come and go; nobody is behind the others by more than the delay.
sub random_rows
{
	my ($name, $partitions, $keys, $step, $disorder) = @_;
	my $now = 0;
	return sub {
		my ($n) = @_;
		my @rows;
		for (1 .. $n)
		{
			$now += rand($step);
			push @rows, [ int(rand($partitions)), $now - ($disorder ? rand($disorder) : 0), 'k' . int(rand($keys)), int(rand(1000)) ];
		}
		push @rows, map { [ $_, $now, "p$_", 0 ] } 0 .. $partitions - 1;
		return send_rows($name, @rows);
	};
}

# ---- DISTINCT ON ----

# catches: an id that is remembered too long, or too short; a duplicate that prolongs it
$events->section('dedup', sub {
	make_topic('dedup', 1);
	value('CREATE TABLE dedup (p int, o bigint, at timestamptz, k text)');
	create_pipeline($node, 'dedup', q{INSERT INTO dedup SELECT DISTINCT ON (t.k) t.p, t.o, t.at, t.k FROM dedup_in t ORDER BY t.k, t.at}, state_ttl => '10 s');
	# one batch that holds several lives, then row by row
	send_rows('dedup', map { [ 0, $_, 'a' ] } 1, 2, 10, 10.999999, 11, 12, 20.5, 21, 22);
	send_rows('dedup', [ 0, 30, 'b' ]);
	wait_caught_up($node, 'dedup');
	is($events->times('dedup'), 'a1 a11 a21', 'an id is given out again when state_ttl has passed since it was given out');
	send_rows('dedup', [ 0, 30.9, 'a' ], [ 0, 31, 'a' ]);
	send_rows('dedup', [ 0, 40, 'c' ]);
	wait_caught_up($node, 'dedup');
	is($events->times('dedup'), 'a1 a11 a21 b30 a31', 'also when it was remembered from a batch before');
	like(value("SELECT string_agg(plan, ' ') FROM streamproc.check_pipeline('INSERT INTO dedup SELECT DISTINCT ON (t.k) t.p, t.o, t.at, t.k FROM dedup_in t ORDER BY t.k, t.at')"), qr/Kept: the key/, 'check_pipeline says what is kept');
});

# catches: an id that lives on, or is lost, when the state is read again
$events->section('dedup random', sub {
	make_topic('again', 3);
	value('CREATE TABLE again (p int, o bigint, at timestamptz, k text)');
	create_pipeline($node, 'again', q{INSERT INTO again SELECT DISTINCT ON (t.k) t.p, t.o, t.at, t.k FROM again_in t ORDER BY t.k, t.at}, state_ttl => '20 s', parallelism => 1);
	disturb('again', random_rows('again', 3, 150, 0.2, 2.5), 3);
	$events->stop('again', drain => 1);
	is($events->late('again'), '', 'nothing is late');
	same_rows('again', <<'SQL', 'those that are given out are ttl apart, as a walk over the rows finds them');
WITH RECURSIVE n AS MATERIALIZED (SELECT i.*, row_number() OVER (PARTITION BY k ORDER BY at, p, o) AS nr FROM again_in i),
	walk AS (SELECT n.*, at AS given FROM n WHERE nr = 1
		UNION ALL SELECT n.*, CASE WHEN n.at >= w.given + interval '20 s' THEN n.at ELSE w.given END FROM walk w JOIN n ON n.k = w.k AND n.nr = w.nr + 1)
SELECT p, o, at, k FROM walk WHERE given = at
SQL
});

# ---- window functions ----

# catches: lag, numbers, running sums or frames that see a life before; history of a life that stands in the way
$events->section('over', sub {
	make_topic('over', 2);
	value('CREATE TABLE over (p int, o bigint, prev bigint, nr bigint, total numeric, mean numeric, n bigint, five bigint, first bigint)');
	my $functions = 'lag(t.v) OVER k AS prev, row_number() OVER k AS nr, sum(t.v) OVER k AS total, avg(t.v::numeric) OVER k AS mean, count(*) OVER m AS n, sum(t.v) OVER f AS five, first_value(t.v) OVER k AS first';
	my $windows = sub { my ($by, $order) = @_; return "WINDOW k AS (PARTITION BY $by ORDER BY $order), m AS (PARTITION BY $by ORDER BY t.at RANGE BETWEEN '4 s' PRECEDING AND CURRENT ROW), f AS (PARTITION BY $by ORDER BY $order ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)" };
	create_pipeline($node, 'over', "INSERT INTO over SELECT t.p, t.o, $functions FROM over_in t " . $windows->('t.k', 't.at'), state_ttl => '5 s', parallelism => 1);
	disturb('over', random_rows('over', 2, 60, 0.15, 2.5), 2);
	$events->stop('over', drain => 1);
	is($events->late('over'), '', 'nothing is late');
	same_rows('over', "SELECT t.p, t.o, $functions FROM (" . lives('over', '5 s', 'at, p, o') . ') t ' . $windows->('t.k, t.life', 't.at, t.p, t.o'), 'each life of a key is answered as if it were another key');
	cmp_ok(value("SELECT max(life) FROM (" . lives('over', '5 s', 'at, p, o') . ') t'), '>', 3, 'there were several');
});

# catches: the same as rows arrive; in order it is the same
$events->section('arrival', sub {
	make_topic('arrival', 1);
	value('CREATE TABLE arrival (o bigint, prev bigint, nr bigint, n bigint); CREATE TABLE arrival_first (o bigint, k text)');
	my $functions = 'lag(t.v) OVER k AS prev, row_number() OVER k AS nr, count(*) OVER m AS n';
	my $windows = sub { my ($by) = @_; return "WINDOW k AS (PARTITION BY $by ORDER BY t.at), m AS (PARTITION BY $by ORDER BY t.at RANGE BETWEEN '4 s' PRECEDING AND CURRENT ROW)" };
	create_pipeline($node, 'arrival', "INSERT INTO arrival SELECT t.o, $functions FROM arrival_in t " . $windows->('t.k') . '; INSERT INTO arrival_first SELECT DISTINCT ON (t.k) t.o, t.k FROM arrival_in t ORDER BY t.k, t.at', state_ttl => '5 s', ordering => 'arrival');
	disturb('arrival', random_rows('arrival', 1, 60, 0.15, 0), 1);
	same_rows('arrival', "SELECT t.o, $functions FROM (" . lives('arrival', '5 s', 'o') . ') t ' . $windows->('t.k, t.life'), 'each life of a key is answered as if it were another key');
	same_rows('arrival_first', <<'SQL', 'and the first rows are ttl apart');
WITH RECURSIVE n AS MATERIALIZED (SELECT i.*, row_number() OVER (PARTITION BY k ORDER BY o) AS nr FROM arrival_in i),
	walk AS (SELECT n.*, at AS given FROM n WHERE nr = 1
		UNION ALL SELECT n.*, CASE WHEN n.at >= w.given + interval '5 s' THEN n.at ELSE w.given END FROM walk w JOIN n ON n.k = w.k AND n.nr = w.nr + 1)
SELECT o, k FROM walk WHERE given = at
SQL
});

# ---- running totals ----

# catches: totals that go on after the pause; those of transition functions and of rows that are kept; a change that is forgotten before it is given out
$events->section('totals', sub {
	for my $emit ('changes', 'every 200 ms')
	{
		(my $name = "totals_$emit") =~ s/ .*//;
		make_topic($name, 1);
		value("CREATE TABLE $name (k text PRIMARY KEY, n bigint, total numeric, mean numeric, list text, most bigint)");
		create_pipeline($node, $name, "INSERT INTO $name SELECT k, count(*), sum(v), avg(v::numeric), string_agg(v::text, ',' ORDER BY at, o), max(v) FROM ${name}_in GROUP BY k ON CONFLICT (k) DO UPDATE SET n = excluded.n, total = excluded.total, mean = excluded.mean, list = excluded.list, most = excluded.most", state_ttl => '5 s', emit => $emit);
		# in order: the watermark is never ahead of a row
		disturb($name, random_rows($name, 1, 60, 0.15, 0), 1);
		$events->stop($name, drain => 1);
		same_rows($name, "SELECT DISTINCT ON (k) k, count(*), sum(v), avg(v::numeric), string_agg(v::text, ',' ORDER BY at, o), max(v) FROM (" . lives($name, '5 s', 'o') . ') t GROUP BY k, life ORDER BY k, life DESC', "$emit: the table has the last life of each key");
	}
});

# catches: a list that goes on after the pause
$events->section('lists', sub {
	make_topic('lists', 1);
	value('CREATE TABLE lists (k text, rn bigint, v bigint, o bigint, PRIMARY KEY (k, rn))');
	create_pipeline($node, 'lists', 'INSERT INTO lists SELECT k, rn, v, o FROM (SELECT t.*, row_number() OVER (PARTITION BY t.k ORDER BY t.v DESC) AS rn FROM lists_in t) q WHERE rn <= 3 ON CONFLICT (k, rn) DO UPDATE SET v = excluded.v, o = excluded.o', state_ttl => '5 s');
	disturb('lists', random_rows('lists', 1, 60, 0.15, 0), 1);
	$events->stop('lists', drain => 1);
	# places that the last life has not come to may hold rows of one before
	my $last = '(SELECT DISTINCT ON (k) k, life, count(*) AS n FROM (' . lives('lists', '5 s', 'o') . ') l GROUP BY k, life ORDER BY k, life DESC)';
	value("CREATE VIEW lists_last AS SELECT s.* FROM lists s JOIN $last l USING (k) WHERE s.rn <= l.n");
	same_rows('lists_last', 'SELECT k, rn, v, o FROM (SELECT t.*, row_number() OVER (PARTITION BY k ORDER BY v DESC, o) AS rn FROM (' . lives('lists', '5 s', 'o') . ") t JOIN $last l USING (k, life)) q WHERE rn <= 3", 'a list is that of the last life of its key');
	cmp_ok(value("SELECT max(life) FROM $last l"), '>', 2, 'there were several');
});

# catches: event time that is not brought up from where the topic is read
$events->section('sources', sub {
	make_topic($_, 1) for qw(here there);
	value('CREATE VIEW s_both AS SELECT k FROM here_in UNION ALL SELECT k FROM there_in; CREATE TABLE s_union (k text PRIMARY KEY, n bigint); CREATE TABLE s_with (LIKE s_union INCLUDING ALL); CREATE TABLE s_sub (LIKE s_union INCLUDING ALL)');
	my %from = (s_union => 'FROM s_both', s_with => 'FROM x', s_sub => "FROM (SELECT y.k || '' AS k FROM (SELECT k, v FROM here_in WHERE v > 0) y) z");
	for my $name (sort keys %from)
	{
		my $with = $name eq 's_with' ? 'WITH x AS (SELECT k FROM here_in)' : '';
		create_pipeline($node, $name, "$with INSERT INTO $name SELECT k, count(*) $from{$name} GROUP BY k ON CONFLICT (k) DO UPDATE SET n = excluded.n", state_ttl => '10 s');
	}
	for my $step ([ 2, [ 0, 1, 'a' ], [ 0, 2, 'a' ] ], [ 3, [ 0, 11.9, 'a' ] ], [ 1, [ 0, 21.9, 'a' ] ])
	{
		my ($n, @rows) = @$step;
		send_rows('here', @rows);
		for my $name (sort keys %from)
		{
			wait_caught_up($node, $name);
			is(value("SELECT n FROM $name"), $n, "$name: $n");
		}
	}
});

# catches: keys of equal values that look different, whose first look is lost
$events->section('originals', sub {
	make_topic('originals', 1, watermark_delay => '0');
	value('CREATE TABLE originals (code numeric PRIMARY KEY, n bigint)');
	create_pipeline($node, 'originals', q{INSERT INTO originals SELECT (k || '0')::numeric, count(*) FROM originals_in GROUP BY 1 ON CONFLICT (code) DO UPDATE SET n = excluded.n}, state_ttl => '5 s');
	send_rows('originals', [ 0, 1, '1.5' ], [ 0, 2, '1.5' ], [ 0, 7, '1.5' ], [ 0, 8, '1.50' ], [ 0, 8, '2.' ]);
	wait_caught_up($node, 'originals');
	is(value('SELECT string_agg(code || \' \' || n, \', \' ORDER BY code) FROM originals'), '1.50 2, 2.0 1', 'a total begins anew under its key');
});

# ---- memory ----

# catches: forgotten keys that stay in memory, or in segments
$events->section('freed', sub {
	my %query = (
		f_first => 'SELECT DISTINCT ON (t.k) t.p, t.o, t.at, t.k FROM %s_in t WHERE t.v >= 0 ORDER BY t.k, t.at',
		f_over => 'SELECT t.p, t.o, t.at, t.k || lag(t.k) OVER (PARTITION BY t.k ORDER BY t.at) FROM %s_in t WHERE t.v >= 0',
		f_total => 'SELECT max(p), count(*), max(t.at), t.k FROM %s_in t WHERE t.v >= 0 GROUP BY t.k ON CONFLICT (k) DO UPDATE SET o = excluded.o');
	for my $name (sort keys %query)
	{
		make_topic($name, 2, watermark_delay => '0');
		value("CREATE TABLE $name (p int, o bigint, at timestamptz, k text" . ($name eq 'f_total' ? ' PRIMARY KEY)' : ')'));
		create_pipeline($node, $name, "INSERT INTO $name " . sprintf($query{$name}, $name), state_ttl => '1 min', parallelism => 2);
		# keys of half a minute, and those of the one after it
		send_rows($name, map { [ $_ % 2, $_ / 100, "k$_" ] } 1 .. 6000);
		wait_caught_up($node, $name);
		wait_query($node, operator($name, 'keys > 5900'), 't', 30);
		pass("$name: all keys are remembered");
		# what WHERE keeps out moves the time on: the first half is forgotten, the second is not
		send_rows($name, map { [ $_, 90, 'x', -1 ] } 0, 1);
		send_rows($name, map { [ $_, 100, 'x', -1 ] } 0, 1);
		wait_caught_up($node, $name);
		wait_query($node, operator($name, 'keys BETWEEN 1990 AND 3010'), 't', 30);
		pass("$name: those that are older are forgotten");
		$events->kill($name, 'launcher');
		send_rows($name, map { [ $_, 101, 'x', -1 ] } 0, 1);
		value("SELECT streamproc.wait_until_caught_up('$name', '60 s')");
		wait_query($node, operator($name, 'keys BETWEEN 1890 AND 3010'), 't', 30);
		pass("$name: and do not come back with a crash");
		for my $at (1000, 1001)
		{
			send_rows($name, map { [ $_, $at, 'x', -1 ] } 0, 1);
			wait_caught_up($node, $name);
		}
		wait_query($node, operator($name, 'keys, panes, bytes'), '0|0|0', 30);
		pass("$name: nothing is left when all are");
		send_rows($name, map { [ $_ % 2, 1100 + $_ / 100, "k$_" ] } 1 .. 100);
		send_rows($name, map { [ $_, 1110, 'x', -1 ] } 0, 1);
		wait_caught_up($node, $name);
		is(value("SELECT count(*) FROM $name" . ($name eq 'f_total' ? q{ WHERE at >= '2026-01-01 12:00Z'} : '')), $name eq 'f_total' ? 6000 : 6100, "$name: keys come again");
		cmp_ok(value("SELECT segment_bytes FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), '<', 1024 * 1024, "$name: segments go, too");
	}
});

# ---- what is refused ----

$events->section('refused', sub {
	make_topic('no', 1);
	value('CREATE TABLE no (k text PRIMARY KEY, n bigint); CREATE TABLE no_rows (k text, n bigint)');
	my $fails = sub {
		my ($query, $ttl, $pattern, $what) = @_;
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		return like($events->error_of("SELECT streamproc.create_pipeline('x', \$\$$query\$\$, state_ttl => '$ttl')"), $pattern, $what);
	};
	my $upsert = 'ON CONFLICT (k) DO UPDATE SET n = excluded.n';
	$fails->('INSERT INTO no_rows SELECT k, v FROM no_in', '1 min', qr/22023: option "state_ttl" needs a query that keeps something.*HINT/s, 'row by row');
	$fails->(q{INSERT INTO no_rows SELECT k, count(*) FROM no_in t, streamproc.tumble(t.at, '1 min') w GROUP BY k, w.window_start}, '1 min', qr/22023: option "state_ttl" needs.*HINT/s, 'windows');
	$fails->("INSERT INTO no SELECT 'all', count(*) FROM no_in $upsert", '1 min', qr/22023: option "state_ttl" needs.*HINT/s, 'a total');
	$fails->("INSERT INTO no SELECT k, count(DISTINCT v) FROM no_in GROUP BY k $upsert", '1 min', qr/0A000: DISTINCT in an aggregate of statement 1.*HINT/s, 'a set of values');
	$fails->(q{INSERT INTO no_rows SELECT k, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW) FROM no_in}, '1 min', qr/0A000: option "state_ttl" must be longer.*HINT/s, 'a frame that is longer');
	$fails->("INSERT INTO no SELECT k, count(*) FROM no_in GROUP BY k $upsert", '0', qr/22023: "state_ttl" must be greater than 0/, 'no time');
	$fails->("INSERT INTO no SELECT k, count(*) FROM no_in GROUP BY k $upsert", '1 mon', qr/22023: invalid value for "state_ttl".*HINT/s, 'months');
	value(q{CREATE FOREIGN TABLE timeless (k text, v bigint) SERVER kafka OPTIONS (topic 'no')});
	$fails->("INSERT INTO no SELECT k, count(*) FROM timeless GROUP BY k $upsert", '1 min', qr/0A000: option "state_ttl" needs the event time of topic "no".*HINT/s, 'no event time');

	create_pipeline($node, 'no', "INSERT INTO no SELECT k, count(*) FROM no_in GROUP BY k $upsert", state_ttl => '1 min');
	send_rows('no', [ 0, 1, 'a' ]);
	wait_caught_up($node, 'no');
	like($events->error_of(q{SELECT streamproc.alter_pipeline('no', state_ttl => '0')}), qr/0A000: option "state_ttl" of pipeline "no" cannot be taken back.*HINT/s, 'entries have another form then');
	value(q{SELECT streamproc.alter_pipeline('no', state_ttl => '1 hour')});
	send_rows('no', [ 0, 70, 'a' ]);
	wait_caught_up($node, 'no');
	is(value('SELECT n FROM no'), 2, 'a longer one holds from then on');
});

# catches: a query that is another one when it runs, as its view was replaced, taken as it was refused when the pipeline was created
$events->section('a view that is replaced', sub {
	make_topic('viewed', 1);
	value('CREATE TABLE viewed (k text, n bigint)');
	my $view = sub { my ($frame) = @_; value("CREATE OR REPLACE VIEW viewed_view AS SELECT k, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN interval '$frame' PRECEDING AND CURRENT ROW) AS n FROM viewed_in") };
	$view->('10 s');
	create_pipeline($node, 'viewed', 'INSERT INTO viewed SELECT k, n FROM viewed_view', state_ttl => '1 min');
	$events->stop('viewed');
	$view->('10 min');
	value(q{SELECT streamproc.start_pipeline('viewed')});
	wait_query($node, q{SELECT coalesce(sqlstate || ' ' || reason, state) FROM streamproc.stat_pipeline WHERE pipeline = 'viewed'}, '0A000 option "state_ttl" must be longer than the longest RANGE frame of statement 1', 60);
	pass('what was refused when it was created is refused when it starts, too');
	$view->('20 s');
	send_rows('viewed', map { [ 0, $_, 'a' ] } 1, 2, 30);
	value(q{SELECT streamproc.start_pipeline('viewed')});
	$events->stop('viewed', drain => 1);
	is(value(q{SELECT string_agg(k || n, ' ' ORDER BY n) FROM viewed}), 'a1 a1 a2', '... and goes on with one that is not');
});

done_testing();

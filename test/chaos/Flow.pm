# What runs during the chaos: topics, tables, pipelines of all kinds, the load that feeds them, and the batch queries that
# their sinks are compared with in the end.
package Flow;

use strict;
use warnings;
use Carp;
use POSIX ();
use Streamproc::Node;
use Streamproc::Session;
use Test::More;
use Time::HiRes qw(time usleep);

my $keys = 500;

# {late} leaves out rows that came too late, {dead} those that are dead letters of the pipeline.  Rows of one instant are
# taken by partition and offset, which the batch query has to say.
my %pipelines = (
	rows => {
		query => q{INSERT INTO s_rows SELECT p, o, card, amount FROM tx;
			INSERT INTO s_last SELECT card, 1, o, amount FROM tx ON CONFLICT (card) DO UPDATE SET n = s_last.n + 1, o = s_last.o + excluded.o, total = s_last.total + excluded.total},
		sinks => {
			s_rows => 'SELECT p, o, card, amount FROM b_tx t WHERE {dead}',
			s_last => 'SELECT card, count(*), sum(o), sum(amount) FROM b_tx t WHERE {dead} GROUP BY card' } },
	totals => {
		query => q{INSERT INTO s_totals SELECT card, count(*), sum(o), sum(amount), count(DISTINCT city) FROM tx GROUP BY card
			ON CONFLICT (card) DO UPDATE SET n = excluded.n, o = excluded.o, total = excluded.total, cities = excluded.cities},
		sinks => { s_totals => 'SELECT card, count(*), sum(o), sum(amount), count(DISTINCT city) FROM b_tx t WHERE {dead} GROUP BY card' } },
	windows => {
		query => q{INSERT INTO s_windows SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount), count(DISTINCT t.p)
			FROM tx t, streamproc.tumble(t.at, '1 s') w GROUP BY t.card, w.window_start, w.window_end},
		sinks => {
			s_windows => q{SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount), count(DISTINCT t.p) FROM b_tx t, streamproc.tumble(t.at, '1 s') w
				WHERE {dead} AND {late} GROUP BY t.card, w.window_start, w.window_end} } },
	over => {
		query => q{INSERT INTO s_over SELECT t.p, t.o, t.at, lag(t.o) OVER k, lag(t.city) OVER k, count(*) OVER m, sum(t.amount) OVER m FROM tx_slow t
			WINDOW k AS (PARTITION BY t.card ORDER BY t.at), m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '2 s' PRECEDING AND CURRENT ROW)},
		sinks => {
			s_over => q{SELECT t.p, t.o, t.at, lag(t.o) OVER k, lag(t.city) OVER k, count(*) OVER m, sum(t.amount) OVER m FROM b_tx t WHERE {dead} AND {late}
				WINDOW k AS (PARTITION BY t.card ORDER BY t.at, t.p, t.o), m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '2 s' PRECEDING AND CURRENT ROW)} } },
	joined => {
		query => q{INSERT INTO s_joined SELECT t.p, t.o, t.amount, b.p, b.o, b.amount FROM tx_slow t LEFT JOIN pay_slow b ON b.card = t.card AND b.at BETWEEN t.at AND t.at + interval '200 ms'},
		sinks => {
			s_joined => q{SELECT t.p, t.o, t.amount, b.p, b.o, b.amount FROM (SELECT * FROM b_tx t WHERE {dead} AND {late}) t
				LEFT JOIN (SELECT * FROM b_pay t WHERE {late_pay}) b ON b.card = t.card AND b.at BETWEEN t.at AND t.at + interval '200 ms'} } },
	best => {
		query => q{INSERT INTO s_best SELECT window_start, city, rn, card, amount FROM (SELECT w.window_start, t.city, t.card, t.amount,
				row_number() OVER (PARTITION BY w.window_start, t.city ORDER BY t.amount DESC, t.at) AS rn FROM tx t, streamproc.tumble(t.at, '1 s') w) q WHERE rn <= 3},
		sinks => {
			s_best => q{SELECT window_start, city, rn, card, amount FROM (SELECT w.window_start, t.city, t.card, t.amount,
				row_number() OVER (PARTITION BY w.window_start, t.city ORDER BY t.amount DESC, t.at, t.p, t.o) AS rn FROM b_tx t, streamproc.tumble(t.at, '1 s') w
				WHERE {dead} AND {late}) q WHERE rn <= 3} } },
	topic => {
		query => q{INSERT INTO t_out SELECT p, o, card, amount FROM tx WHERE amount > 60},
		sinks => { t_out => q{SELECT p::text, o, card, amount FROM b_tx t WHERE amount > 60 AND {dead}} } });

# columns of a sink, which may get others while it runs
my %columns = (
	s_rows => 'p, o, card, amount', s_last => 'card, n, o, total', s_totals => 'card, n, o, total, cities',
	s_windows => 'card, window_start, window_end, n, total, parts', s_over => 'p, o, at, prev, city, n, total',
	s_joined => 'p, o, amount, p2, o2, amount2', s_best => 'window_start, city, rn, card, amount', t_out => 'k, o, card, amount');

# Options: node, kafka, address (of the brokers, for the pipelines), seed, rate, space (a small file system, undef: none)
sub new
{
	my ($class, %options) = @_;
	my $self = bless {%options}, $class;
	$self->{dir} = PostgreSQL::Test::Utils::tempdir('flow');
	$self->{session} = Streamproc::Session->new($self->{node});
	$self->{bad} = 0;
	return $self;
}

sub names { return sort keys %pipelines }
sub tables { return grep { !/^t_/ } sort keys %columns }
sub value { my ($self, $sql) = @_; return scalar $self->{node}->safe_psql('postgres', $sql) }

# The answer of a server that may be down; undef: none
sub ask { my ($self, $query, $seconds) = @_; return $self->{session}->ask($query, time + ($seconds // 20)) }

sub build
{
	my ($self) = @_;
	my ($node, $kafka) = @$self{qw(node kafka)};
	$kafka->topic('tx', 4);
	$kafka->topic('pay', 2);
	$kafka->topic('out', 3);
	my $stream = "format 'json', event_time 'at', idle_timeout '1 h', max_ahead '36500 days'";
	my $fields = "card text NOT NULL, amount numeric NOT NULL, city text, at timestamptz NOT NULL, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')";
	$self->value(<<SQL);
CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$self->{address}', fetch_wait_max_ms '20', socket_timeout_ms '5000', reconnect_backoff_max_ms '500');
CREATE FOREIGN TABLE tx ($fields) SERVER kafka OPTIONS (topic 'tx', $stream, watermark_delay '300 ms', bad_rows 'skip');
CREATE FOREIGN TABLE pay ($fields) SERVER kafka OPTIONS (topic 'pay', $stream);
-- rows that wait for seconds are in many epochs, and in segments that were merged
CREATE FOREIGN TABLE tx_slow ($fields) SERVER kafka OPTIONS (topic 'tx', $stream, watermark_delay '3 s');
CREATE FOREIGN TABLE pay_slow ($fields) SERVER kafka OPTIONS (topic 'pay', $stream, watermark_delay '3 s');
CREATE FOREIGN TABLE tx_raw (value text, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'tx', format 'raw');
CREATE FOREIGN TABLE t_out (k text OPTIONS (kafka 'key'), o bigint, card text, amount numeric, sent jsonb OPTIONS (kafka 'headers')) SERVER kafka OPTIONS (topic 'out', format 'json');
-- no constraints on what must come once: a row that comes twice is to be seen, not refused
CREATE TABLE s_rows (p int, o bigint, card text, amount numeric CONSTRAINT not_bad CHECK (amount <> -4711));
CREATE INDEX ON s_rows (p, o);
CREATE TABLE s_last (card text PRIMARY KEY, n bigint, o numeric, total numeric) WITH (fillfactor = 50);
CREATE TABLE s_totals (card text PRIMARY KEY, n bigint, o numeric, total numeric, cities bigint) WITH (fillfactor = 50);
CREATE TABLE s_windows (card text, window_start timestamptz, window_end timestamptz, n bigint, total numeric, parts bigint);
CREATE INDEX ON s_windows (window_end);
CREATE TABLE s_over (p int, o bigint, at timestamptz, prev bigint, city text, n bigint, total numeric);
CREATE INDEX ON s_over (p, o);
CREATE TABLE s_joined (p int, o bigint, amount numeric, p2 int, o2 bigint, amount2 numeric);
CREATE INDEX ON s_joined (p, o);
CREATE TABLE s_best (window_start timestamptz, city text, rn bigint, card text, amount numeric);
CREATE INDEX ON s_best (window_start);
SQL
	if ($self->{space})
	{
		mkdir "$self->{space}/tables" or croak "$self->{space}: $!";
		$self->value("CREATE TABLESPACE small LOCATION '$self->{space}/tables'");
		$self->value("ALTER TABLE $_ SET TABLESPACE small") for qw(s_rows s_windows s_over streamproc.state_segment);
	}
	# each with a number of tasks of its own
	my %tasks = (windows => 2, rows => 3);
	create_pipeline($node, $_, $pipelines{$_}{query}, parallelism => $tasks{$_} // 2, checkpoint_interval => '50 ms') for $self->names;
	wait_state($node, $_, 'running') for $self->names;
	return $self;
}

# ---- the load ----

# Goes on in pieces of seconds, so that it finds partitions that were added; both topics in step.  What event number i is
# depends on the seed alone.
sub start_load
{
	my ($self) = @_;
	my %rate = (tx => $self->{rate}, pay => int($self->{rate} / 3));
	my $piece = 4;
	$self->{load} = fork // croak "fork: $!";
	return if $self->{load};
	open(STDOUT, '>>', "$self->{dir}/load.log");
	open(STDERR, '>>', "$self->{dir}/load.log");
	for (my $done = 0; getppid() != 1 && !-e "$self->{dir}/stop"; $done += $piece)
	{
		my @pids;
		for my $topic (sort keys %rate)
		{
			my $pid = fork // POSIX::_exit(1);
			if (!$pid)
			{
				exec(Streamproc::Kafka::load_path(), '--brokers', $self->{kafka}->address, '--topic', $topic, '--seed', $self->{seed} + ($topic eq 'pay'), '--keys', $keys, '--skew', '0.3',
					'--spread', 'even', '--disorder', 360, '--rate', $rate{$topic}, '--event-rate', $rate{$topic}, '--skip', $done * $rate{$topic}, '--count', $piece * $rate{$topic})
				  or POSIX::_exit(1);
			}
			push @pids, $pid;
		}
		for (@pids) { waitpid($_, 0); print STDERR "load ended with $?\n" if $? }
	}
	POSIX::_exit(0);
}

sub stop_load
{
	my ($self) = @_;
	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/stop", '');
	waitpid($self->{load}, 0);
	$self->{load} = 0;
	my $log = PostgreSQL::Test::Utils::slurp_file("$self->{dir}/load.log");
	my @failures = $log =~ /^(load ended.*|load: not delivered.*)$/mg;
	diag('the load: ' . join('; ', @failures)) if @failures;
	return;
}

# Rows that are no JSON, have no number, or that a table refuses; for operators with state the last ones come late, too.
sub send_bad
{
	my ($self, $count) = @_;
	my @rows;
	for (1 .. $count)
	{
		my $n = $self->{bad}++;
		my $card = sprintf 'card-%06d', $n % $keys;
		push @rows,
		  $n % 10 == 9 ? qq({"card": "$card", "amount": -4711, "city": "Bad", "at": "2026-01-01T00:00:00.001Z"})
		  : $n % 2     ? qq({"card": "$card", "amount": "bad", "city": "Bad", "at": "2026-01-01T00:00:00.001Z"})
		  :              qq({"card": "$card", "bad": );
	}
	return $self->{kafka}->produce('tx', map { { partition => $_ % 4, value => $rows[$_] } } 0 .. $#rows);
}

# ---- how it is ----

# { name => { state, n (sum of the positions), published, sqlstate, reason, hint } }; undef: no answer
sub state
{
	my ($self) = @_;
	my $answer = $self->ask(<<'SQL', 10) // return;
SELECT s.pipeline, s.state, coalesce(p.n, 0), coalesce(s.published_rows, 0), coalesce(s.outbox_rows, 0), coalesce(s.sqlstate, ''), coalesce(s.last_error_sqlstate, '') || ' ' || coalesce(s.last_error_at::text, ''), coalesce(s.hint, ''),
	replace(coalesce(s.reason, ''), E'\n', ' ')
FROM streamproc.stat_pipeline s LEFT JOIN (SELECT pipeline, sum(next_offset) AS n FROM streamproc.position GROUP BY 1) p USING (pipeline)
SQL
	my %state;
	for (split /\n/, $answer)
	{
		my ($name, @f) = split /\|/, $_, 9;
		@{ $state{$name} }{qw(state n published outbox sqlstate last hint reason)} = @f;
	}
	return \%state;
}

sub describe
{
	my ($self) = @_;
	return join("\n", map { $self->ask($_) // 'no answer' } 'SELECT pipeline, state, sqlstate, reason, detail, hint, outbox_rows, lag_rows, last_error, last_error_at FROM streamproc.stat_pipeline ORDER BY 1',
		'SELECT pipeline, role, task, pid, state, waits_for, since FROM streamproc.stat_worker ORDER BY 1, 2, 3',
		'SELECT pipeline, topic, partition, task, next_offset, watermark FROM streamproc.position ORDER BY 1, 2, 3',
		q{SELECT pid, state, wait_event_type, wait_event, left(query, 100) FROM pg_stat_activity WHERE backend_type <> 'client backend' OR state <> 'idle'});
}

# ---- the end ----

# Everything is read, sent, given out; the pipelines are stopped.
sub drain
{
	my ($self) = @_;
	for my $name ($self->names)
	{
		wait_caught_up($self->{node}, $name, 300);
		$self->value("SELECT streamproc.stop_pipeline('$name', drain => true); SELECT streamproc.wait_until_stopped('$name', '120 s')");
	}
	return;
}

# Each sink against its batch query over the topic: ( lost => n, extra => n, rows => n ), with a test for each
sub compare
{
	my ($self) = @_;
	my %sum = (lost => 0, extra => 0, rows => 0);
	$self->value(<<'SQL');
CREATE TABLE b_tx AS SELECT p, o, card, amount, city, at FROM tx;
CREATE TABLE b_pay AS SELECT p, o, card, amount, city, at FROM pay;
CREATE INDEX ON b_pay (card, at);
CREATE TABLE b_bad AS SELECT p, o, value LIKE '%"amount": -4711%' AS refused FROM tx_raw WHERE value LIKE '%"bad"%' OR value LIKE '%"amount": -4711%';
CREATE TABLE b_late AS SELECT pipeline::text, topic, partition AS p, "offset" AS o FROM streamproc.late_row;
CREATE TABLE b_dead AS SELECT pipeline::text, kind, partition AS p, "offset" AS o FROM streamproc.dead_letter;
CREATE TABLE b_out AS SELECT k, o, card, amount FROM t_out;
CREATE INDEX ON b_late (pipeline, topic, p, o);
CREATE INDEX ON b_dead (pipeline, p, o);
ANALYZE;
SQL
	for my $name ($self->names)
	{
		for my $sink (sort keys %{ $pipelines{$name}{sinks} })
		{
			my $batch = $pipelines{$name}{sinks}{$sink};
			$batch =~ s/\{dead\}/NOT EXISTS (SELECT FROM b_dead d WHERE d.pipeline = '$name' AND d.kind = 'input' AND d.p = t.p AND d.o = t.o)/g;
			$batch =~ s/\{late\}/NOT EXISTS (SELECT FROM b_late l WHERE l.pipeline = '$name' AND l.topic = 'tx' AND l.p = t.p AND l.o = t.o)/g;
			$batch =~ s/\{late_pay\}/NOT EXISTS (SELECT FROM b_late l WHERE l.pipeline = '$name' AND l.topic = 'pay' AND l.p = t.p AND l.o = t.o)/g;
			my $table = $sink eq 't_out' ? 'b_out' : $sink;
			# the index of b_pay is what a join of a million rows needs
			my $plan = $name eq 'joined' ? 'SET enable_hashjoin = off; SET enable_mergejoin = off; ' : '';
			my ($rows, $lost, $extra) = split /\|/, $self->value("SET work_mem = '256MB'; ${plan}CREATE TABLE b_$sink ($columns{$sink}) AS $batch; RESET ALL; SET work_mem = '256MB';
				SELECT (SELECT count(*) FROM b_$sink), (SELECT count(*) FROM (TABLE b_$sink EXCEPT ALL SELECT $columns{$sink} FROM $table) x), (SELECT count(*) FROM (SELECT $columns{$sink} FROM $table EXCEPT ALL TABLE b_$sink) x)");
			is("$lost lost, $extra too many", '0 lost, 0 too many', "$sink is what the batch query gives, $rows rows")
			  or diag($self->value("SELECT 'lost', x.* FROM (TABLE b_$sink EXCEPT ALL SELECT $columns{$sink} FROM $table) x LIMIT 10"), "\n",
				$self->value("SELECT 'too many', x.* FROM (SELECT $columns{$sink} FROM $table EXCEPT ALL TABLE b_$sink) x LIMIT 10"));
			$sum{lost} += $lost;
			$sum{extra} += $extra;
			$sum{rows} += $rows;
		}
		is($self->value("WITH d AS (SELECT p, o FROM b_dead WHERE pipeline = '$name'), b AS (SELECT p, o FROM b_bad WHERE NOT refused OR '$name' = 'rows')
				SELECT (SELECT count(*) FROM (TABLE b EXCEPT ALL TABLE d) x), (SELECT count(*) FROM (TABLE d EXCEPT ALL TABLE b) x)"),
			'0|0', "$name: the dead letters are the bad rows, each once");
	}
	my $late = $self->value("SELECT coalesce(string_agg(format('%s %s', pipeline, n), ', ' ORDER BY pipeline), 'none') FROM (SELECT pipeline, count(*) AS n FROM b_late GROUP BY 1) x");
	my $bad = $self->value('SELECT count(*) FROM b_bad');
	# late is who is behind the watermark of others; it must not be what the results are saved by
	cmp_ok($self->value("SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM b_late GROUP BY pipeline) x"), '<', $self->value('SELECT count(*) / 5 + 100 FROM b_tx'), 'few rows were late');
	return (%sum, late => $late, bad => $bad, events => $self->value('SELECT (SELECT count(*) FROM b_tx) + (SELECT count(*) FROM b_pay)'));
}

1;

# The oracle: a pipeline with stop => 'latest' against the same text over plain tables with the same rows.
#
# Schemas: stream (the topics as foreign tables), slow (the same, read some messages at a time), batch (plain tables filled
# from stream), public (types, lookup tables); b_NAME has the batch's sinks of a query, r_NAME those of a pipeline.
package Oracle;

use strict;
use warnings;
use Carp;
use File::Basename ();
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

my $dir = File::Basename::dirname(__FILE__);
require "$dir/data.pl";

my $tools = <<'SQL';
CREATE SCHEMA oracle;
CREATE FUNCTION oracle.near(a float8[], b float8[], tolerance float8[]) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$
	SELECT coalesce(bool_and(CASE WHEN x IS NULL OR y IS NULL THEN x IS NULL AND y IS NULL WHEN x = y THEN true
		WHEN x = 'NaN' OR y = 'NaN' OR abs(x) = 'Infinity' OR abs(y) = 'Infinity' THEN false
		ELSE abs(x - y) <= t * greatest(abs(x), abs(y)) END), true)
	FROM unnest(a, b, tolerance) u (x, y, t) $$;

-- The rows of two tables as bags: what is missing in the first, what it has more, what differs in float columns only.
-- Columns are compared as text, those of by_value by their type's =.
CREATE FUNCTION oracle.diff(pipeline regclass, batch regclass, by_value text[], tolerance float8)
	RETURNS TABLE (kind text, rows bigint, line text) LANGUAGE plpgsql AS $$
DECLARE
	keys text := ', true AS k0'; names text := 'k0'; floats text := ''; tolerances float8[] := '{}'; side text; c record;
BEGIN
	FOR c IN SELECT attname AS name, atttypid AS type, attnum AS i FROM pg_attribute WHERE attrelid = batch AND attnum > 0 AND NOT attisdropped ORDER BY attnum
	LOOP
		IF c.type IN ('float8'::regtype, 'float4'::regtype) AND c.name <> ALL (by_value) THEN
			floats := floats || format(', %I::float8', c.name);
			tolerances := tolerances || CASE WHEN c.type = 'float4'::regtype THEN 1e-4 ELSE tolerance END;
		ELSE
			keys := keys || format(CASE WHEN c.name = ANY (by_value) THEN ', %I AS k%s' ELSE ', %I::text AS k%s' END, c.name, c.i);
			names := names || format(', k%s', c.i);
		END IF;
	END LOOP;
	side := format('SELECT *, row_number() OVER (PARTITION BY %s ORDER BY f) AS nth FROM (SELECT ARRAY[%s]::float8[] AS f%s FROM %%s) s',
		names, substr(floats, 3), keys);
	RETURN QUERY EXECUTE format($q$
		WITH u AS (SELECT true AS p, * FROM (%1$s) x UNION ALL SELECT false, * FROM (%2$s) y),
		d AS (SELECT count(*) FILTER (WHERE p) AS p, count(*) FILTER (WHERE NOT p) AS b, max(f) FILTER (WHERE p) AS pf,
			max(f) FILTER (WHERE NOT p) AS bf, ROW(%3$s)::text AS line FROM u GROUP BY %3$s, nth),
		e AS (SELECT CASE WHEN p = 0 THEN 'missing' WHEN b = 0 THEN 'extra' ELSE 'differs' END AS kind,
			left(substr(line, 4), 4000) || CASE WHEN bf = '{}' OR pf = '{}' THEN '' WHEN p > 0 AND b > 0 THEN format(' %%s instead of %%s', pf, bf)
				ELSE format(' %%s', coalesce(pf, bf)) END AS line
			FROM d WHERE p <> b OR NOT oracle.near(pf, bf, $1)),
		n AS (SELECT *, count(*) OVER (PARTITION BY e.kind) AS rows, row_number() OVER (PARTITION BY e.kind ORDER BY e.line) AS nth FROM e)
		SELECT n.kind, n.rows, n.line FROM n WHERE n.nth <= 5 ORDER BY 1, 3 $q$,
		format(side, pipeline), format(side, batch), names) USING tolerances;
END $$;

-- Waits until this share of those pipelines that have not stopped is in the middle: has committed something, not all.  Those
-- that are there then, and the pid of a worker of one of them.
CREATE FUNCTION oracle.wait_middle(names text[], share float8, role text, pick float8, OUT middle text[], OUT pid int) LANGUAGE plpgsql AS $$
DECLARE
	until timestamptz := clock_timestamp() + '20 s'; going bigint;
BEGIN
	LOOP
		SELECT array_agg(s.pipeline ORDER BY s.pipeline) FILTER (WHERE p.done > 0 AND p.done < p.total), count(*) INTO middle, going
		FROM streamproc.stat_pipeline s LEFT JOIN (SELECT pipeline, sum(next_offset) AS done, sum(stop_offset) AS total
			FROM streamproc.position GROUP BY pipeline) p USING (pipeline)
		WHERE s.pipeline = ANY (names) AND s.state NOT IN ('stopped', 'failed');
		EXIT WHEN cardinality(middle) >= share * going OR going = 0 OR clock_timestamp() > until;
		PERFORM pg_sleep(0.002);
	END LOOP;
	SELECT w.pid INTO pid FROM (
		SELECT k.pid, row_number() OVER (ORDER BY k.pid) AS i, count(*) OVER () AS n FROM streamproc.stat_worker k
		WHERE k.pipeline = ANY (middle) AND k.role = wait_middle.role AND k.pid IS NOT NULL) w
	WHERE w.i = 1 + floor(pick * w.n);
END $$;
SQL

sub new
{
	my ($class, $node, $kafka, $seed) = @_;
	my $self = bless { node => $node, kafka => $kafka, seed => $seed, batch => {} }, $class;
	$self->_setup;
	return $self;
}

sub session
{
	my ($self) = @_;
	return $self->{session} //= Oracle::Session->new($self->{node}->connstr('postgres'));
}

sub _setup
{
	my ($self) = @_;
	my $address = $self->{kafka}->address;
	my $data = oracle_data($self->{seed});
	my $s = $self->session;
	$s->must("CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address', fetch_wait_max_ms '50');
		CREATE SERVER slow FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '$address', message_max_bytes '12000',
			fetch_message_max_bytes '6000', fetch_max_bytes '12000', fetch_wait_max_ms '20');
		CREATE SCHEMA stream; CREATE SCHEMA slow; CREATE SCHEMA batch;");
	$s->must("SET search_path = public; $data->{setup}");
	$s->must($tools);
	$self->{has}{icu} = ($s->run($data->{icu}))[0];
	$self->{has}{citext} = ($s->run('CREATE EXTENSION citext SCHEMA public'))[0];
	$self->{has}{xml} = ($s->run('SELECT xmlelement(name a)'))[0];
	for my $name (sort keys %{ $data->{topics} })
	{
		my ($partitions, $messages) = @{ $data->{topics}{$name} };
		$self->{kafka}->topic($name, $partitions);
		$self->_produce($name, $messages);
		my $columns = $data->{columns}{$name};
		for (qw(stream slow))
		{
			my $server = $_ eq 'slow' ? 'slow' : 'kafka';
			$s->must("CREATE FOREIGN TABLE $_.$name ($columns) SERVER $server
				OPTIONS (topic '$name', format 'json', event_time 'at', watermark_delay '2 s')");
		}
		$s->must("CREATE TABLE batch.$name AS SELECT * FROM stream.$name");
		$self->{rows}{$name} = @$messages;
		$s->must("CREATE FOREIGN TABLE oracle.$name (at timestamptz, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
			SERVER kafka OPTIONS (topic '$name', format 'json')");
		is($s->must("SELECT (SELECT count(*) FROM batch.$name), max(late) FILTER (WHERE late > '2 s') FROM (
			SELECT max(at) OVER (PARTITION BY p ORDER BY o) - at AS late FROM oracle.$name) x"), @$messages . '|', "topic $name: " . @$messages . ' rows in order but for 2 s')
	}
	$s->must('ANALYZE');
	return;
}

# In small batches, which a broker does not split: slow gets one at a time.  Idempotent, or a batch that is sent again
# comes behind later ones.
sub _produce
{
	my ($self, $topic, $messages) = @_;
	my $kafka = $self->{kafka};
	Streamproc::Kafka::_run(join('', map { Streamproc::Kafka::_line($_) } @$messages), $kafka->tool_path, 'produce', $kafka->address, $topic, '-X', 'batch.num.messages=15',
		'-X', 'enable.idempotence=true');
	return;
}

# a comparison that never fails would prove nothing
sub test_diff
{
	my ($self) = @_;
	my $s = $self->session;
	my @same = (q{('a', 1, 0.1, '{}')}, q{('a', 1, 0.1, '{}')}, q{('a', NULL, NULL, NULL)}, q{('b', 1.0, 'NaN', '{1}')}, q{(NULL, 2.50, 1, '{NULL}')});
	my @cases = (
		[ 'a row less', q{missing|1}, @same[ 0, 2 .. 4 ] ],
		[ 'a row more', q{extra|1}, @same, $same[4] ],
		[ 'another scale', q{extra|1 missing|1}, @same[ 0 .. 2 ], q{('b', 1.00, 'NaN', '{1}')}, $same[4] ],
		[ 'another scale by value', '', @same[ 0 .. 2 ], q{('b', 1.00, 'NaN', '{1}')}, $same[4], q{n} ],
		[ 'a float off by 1e-13', '', @same[ 0 .. 3 ], q{(NULL, 2.50, 1.0000000000001, '{NULL}')} ],
		[ 'a float off by 1e-11', 'differs|1', @same[ 0 .. 3 ], q{(NULL, 2.50, 1.00000000001, '{NULL}')} ],
		[ 'NULL and NaN', 'differs|1', @same[ 0, 1 ], q{('a', NULL, 'NaN', NULL)}, @same[ 3, 4 ] ],
		[ 'NULL and an empty array', 'extra|1 missing|1', @same[ 0, 1 ], q{('a', NULL, NULL, '{}')}, @same[ 3, 4 ] ]);
	for (@cases)
	{
		my ($name, $expected, @rows) = @$_;
		my $by_value = $rows[-1] =~ /^\w+$/ ? "'" . pop(@rows) . "'" : '';
		my ($p, $b) = map { join(', ', @$_) } \@rows, \@same;
		my $got = $s->must("BEGIN; CREATE TABLE p (t text, n numeric, f float8, a int[]); CREATE TABLE b (LIKE p); INSERT INTO p VALUES $p;
			INSERT INTO b VALUES $b; SELECT kind, rows FROM oracle.diff('p', 'b', ARRAY[$by_value]::text[], 1e-12); ROLLBACK");
		is(join(' ', split(/\n/, $got)), $expected, "the comparison: $name");
	}
	return;
}

# why a query cannot run here
sub skip_reason
{
	my ($self, $q) = @_;
	return undef if !$q->{needs} || $self->{has}{ $q->{needs} };
	return "this server has no $q->{needs}";
}

# The batch's tables, without rows; makes the statement's text.  Dies when the query is no good.  A query of "parts" is a
# pipeline of their statements, each with a sink of its name.
sub prepare
{
	my ($self, $q) = @_;
	return if $q->{prepared}++;
	my $s = $self->session;
	$s->must("SET client_min_messages = warning; DROP SCHEMA IF EXISTS b_$q->{name} CASCADE; RESET client_min_messages;
		CREATE SCHEMA b_$q->{name}; SET search_path = b_$q->{name}, batch, public; " . ($q->{setup} // ''));
	if (my $parts = $q->{parts})
	{
		$self->_prepare_select($_, $_->{name}) for @$parts;
	}
	elsif (!$q->{text})
	{
		$self->_prepare_select($q, 'sink');
	}
	else
	{
		$s->must($q->{sink});
	}
	$self->_join_parts($q);
	$s->must($q->{fill}) if $q->{fill};
	return;
}

sub _prepare_select
{
	my ($self, $q, $sink) = @_;
	my $s = $self->session;
	$s->must("CREATE TABLE $sink AS $q->{select} WITH NO DATA");
	$q->{text} = "INSERT INTO $sink $q->{select}";
	$q->{sink_like} = $sink;
	my $keys = $q->{upsert} // return;
	$q->{sink_more} = "ALTER TABLE $sink ADD UNIQUE NULLS NOT DISTINCT (" . join(', ', @$keys) . ')';
	$s->must($q->{sink_more});
	my %key = map { $_ => 1 } @$keys;
	my @others = grep { !$key{$_} } split /\n/, $s->must("SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '$sink'::regclass AND attnum > 0 ORDER BY attnum");
	$q->{text} .= "\nON CONFLICT (" . join(', ', @$keys) . ') DO UPDATE SET ' . join(', ', map { "$_ = EXCLUDED.$_" } @others);
	return;
}

sub _join_parts
{
	my ($self, $q) = @_;
	my $parts = $q->{parts} // return;
	$q->{text} = join(";\n", map { $_->{text} } @$parts);
	$q->{batch} = join(";\n", map { $_->{batch} // $_->{text} } @$parts);
	return;
}

# Takes those parts away that the server refuses alone; [ part, error ] of each.
sub remove_refused
{
	my ($self, $q) = @_;
	my @refused;
	for my $part (@{ $q->{parts} })
	{
		my %alone = (%$part, name => 'alone');
		my $error = $self->create(\%alone, active => 'false');
		push @refused, [ $part, $alone{refusal} ] if $error;
		$self->session->run("SELECT streamproc.drop_pipeline('alone')") unless $error;
	}
	my %gone = map { $_->[0]{name} => 1 } @refused;
	$q->{parts} = [ grep { !$gone{ $_->{name} } } @{ $q->{parts} } ];
	$self->_join_parts($q);
	return @refused;
}

# the sinks of a pipeline, in schema r_NAME
sub make_sinks
{
	my ($self, $q, $source) = @_;
	my $s = $self->session;
	$s->must("CREATE SCHEMA r_$q->{name}; SET search_path = r_$q->{name}, $source, public; " . ($q->{setup} // ''));
	if ($q->{parts} || $q->{sink_like})
	{
		$s->must("CREATE TABLE $_->{sink_like} (LIKE b_$q->{name}.$_->{sink_like}); " . ($_->{sink_more} // '')) for @{ $q->{parts} // [$q] };
	}
	else
	{
		$s->must($q->{sink});
	}
	$s->must($q->{fill}) if $q->{fill};
	return;
}

# the batch's rows, once for all runs of the query
sub run_batch
{
	my ($self, $q) = @_;
	return if $self->{batch}{ $q->{name} };
	$self->session->must("BEGIN; SET search_path = b_$q->{name}, batch, public; " . ($q->{batch} // $q->{text}) . '; COMMIT');
	$self->{batch}{ $q->{name} } = 1;
	return;
}

# Creates the pipeline.  undef; 'refused' for 0A000 with a hint, whose text is in $q->{refusal}; the text of another error.
sub create
{
	my ($self, $q, %options) = @_;
	my %all = (stop => 'latest', %options, %{ $q->{options} // {} });
	my $args = join(', ', map { "$_ => " . ($all{$_} =~ /^\d+$/ ? $all{$_} : "'$all{$_}'") } sort keys %all);
	my ($ok, $out) = $self->session->run("SELECT streamproc.create_pipeline('$q->{name}', \$pipeline\$$q->{text}\$pipeline\$, $args)");
	return undef if $ok;
	$q->{refusal} = $out;
	return 'refused' if $out =~ /ERROR: +0A000: / && $out =~ /^HINT: /m;
	return $out;
}

# ( [ table, settings of its comparison ], ... ): all tables that the batch wrote into
sub sinks
{
	my ($self, $q) = @_;
	return map { [ $_->{name}, $_ ] } @{ $q->{parts} } if $q->{parts};
	return map { [ $_, $q ] } split /\n/, $self->session->must("SELECT relname FROM pg_class
		WHERE relnamespace = 'b_$q->{name}'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1");
}

# The differences of one sink as text, '' if there are none.
sub differences
{
	my ($self, $q, $sink, $how) = @_;
	my $by_value = join(', ', map { "'$_'" } @{ $how->{by_value} // [] });
	my $rows = $self->session->must("SELECT kind, rows, line FROM oracle.diff('r_$q->{name}.$sink', 'b_$q->{name}.$sink', ARRAY[$by_value]::text[], "
		  . ($how->{tolerance} // '1e-12') . ')');
	return $rows eq '' ? '' : "$sink (kind, number, first rows):\n$rows\n";
}

# what a failure shows of the pipeline
sub state_of
{
	my ($self, $q) = @_;
	my $s = $self->session;
	my $text = '';
	$s->wait_ready unless ($s->run('SELECT 1'))[0];
	for (
		"SELECT state, reason, detail, hint, sqlstate, topic, partition, \"offset\", rows_in, rows_out, restarts, last_error FROM streamproc.stat_pipeline WHERE pipeline = '$q->{name}'",
		"SELECT 'position', topic, partition, next_offset, stop_offset, watermark, epoch FROM streamproc.position WHERE pipeline = '$q->{name}' ORDER BY 2, 3",
		"SELECT 'dead letter', topic, partition, \"offset\", sqlstate, message FROM streamproc.dead_letter WHERE pipeline = '$q->{name}' ORDER BY id LIMIT 5",
		"SELECT role, task, pid, state, waits_for FROM streamproc.stat_worker WHERE pipeline = '$q->{name}'",
		$self->_late($q, '*'))
	{
		next unless $_;
		my (undef, $out) = $s->run($_);
		$text .= "$out\n" if $out ne '';
	}
	return $text;
}

# a query over the late rows, where the server has them
sub _late
{
	my ($self, $q, $what) = @_;
	$self->{has}{late} //= $self->session->must("SELECT to_regclass('streamproc.late_row') IS NOT NULL") eq 't' ? 1 : 0;
	return $self->{has}{late} ? "SELECT $what FROM streamproc.late_row WHERE pipeline = '$q->{name}'" . ($what eq '*' ? ' LIMIT 5' : '') : undef;
}

# Compares all sinks of a pipeline that has stopped: ( [ name, '' or what is wrong, text ], ... )
sub verdicts
{
	my ($self, $q) = @_;
	my $s = $self->session;
	my @verdicts;
	my $bad = '';
	$s->wait_ready unless ($s->run('SELECT 1'))[0];
	for ($self->sinks($q))
	{
		my ($sink, $how) = @$_;
		my $differences = $self->differences($q, $sink, $how);
		if ($q->{parts}) { push @verdicts, [ $sink, $differences, $how->{text} ] }
		else { $bad .= $differences }
	}
	my $letters = $s->must("SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = '$q->{name}'");
	$bad .= "$letters dead letters\n" if $letters;
	my $late = $self->_late($q, 'count(*)');
	my $n = $late ? $s->must($late) : 0;
	$bad .= "$n late rows, though no row is\n" if $n;
	return (@verdicts, [ $q->{name}, $bad, $q->{parts} ? '' : $q->{text} ]);
}

sub drop
{
	my ($self, $q) = @_;
	my $s = $self->session;
	$s->wait_ready unless ($s->run('SELECT 1'))[0];
	my ($ok, $out) = $s->run("SELECT streamproc.drop_pipeline('$q->{name}')");
	$s->must("SET client_min_messages = warning; DROP SCHEMA IF EXISTS r_$q->{name} CASCADE; RESET client_min_messages");
	return $ok ? '' : $out;
}

# The list itself: a batch over the rows in another order must give the same.  '' or what is wrong.
sub check_query
{
	my ($self, $q) = @_;
	my $s = $self->session;
	if (!$self->{shuffled}++)
	{
		$s->must("CREATE SCHEMA shuffled; " . join('', map { "CREATE TABLE shuffled.$_ AS SELECT * FROM batch.$_ ORDER BY md5(id::text);" } sort keys %{ $self->{rows} }));
	}
	$self->make_sinks($q, 'shuffled');
	my ($ok, $out) = $s->run("SET search_path = r_$q->{name}, shuffled, public; SET enable_hashagg = off; " . ($q->{batch} // $q->{text}) . '; RESET enable_hashagg');
	my $bad = $ok ? join('', map { $self->differences($q, @$_) } $self->sinks($q)) : $out;
	my $rows = join(' ', map { "$_->[0]: " . $s->must("SELECT count(*) FROM b_$q->{name}.$_->[0]") } $self->sinks($q));
	note("$q->{name}: $rows rows");
	$bad .= "no rows\n" if $rows =~ /^\w+: 0\b/ && $q->{name} !~ /^empty_|^g\d/;
	$s->must("SET client_min_messages = warning; DROP SCHEMA IF EXISTS r_$q->{name} CASCADE; RESET client_min_messages");
	return $bad;
}

# A psql that stays, one for many statements.
package Oracle::Session;

use strict;
use warnings;
use Carp;
use IPC::Open2 ();
use Time::HiRes ();

my $count = 0;

sub new
{
	my ($class, $connstr) = @_;
	my $self = bless { connstr => $connstr }, $class;
	return $self;
}

sub _open
{
	my ($self) = @_;
	return if $self->{pid};
	# errors come in order with the rest
	local $ENV{PGOPTIONS} = '-c extra_float_digits=1';
	$self->{pid} = IPC::Open2::open2(my $out, my $in, 'sh', '-c',
		'exec psql -XAtq -v VERBOSITY=verbose -v ON_ERROR_STOP=0 -f - -d "$1" 2>&1', 'sh', $self->{connstr});
	$in->autoflush(1);
	@$self{qw(in out)} = ($in, $out);
	return;
}

sub finish
{
	my ($self) = @_;
	return unless $self->{pid};
	local $SIG{PIPE} = 'IGNORE';
	close($self->{in});
	close($self->{out});
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return;
}

# ( true, output ) or ( false, output with the errors, SQLSTATE of the last )
sub run
{
	my ($self, $sql) = @_;
	$self->_open;
	my $mark = 'done ' . ++$count;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$sql\n;\n\\echo $mark\n";
	my ($text, $out) = ('', $self->{out});
	local $SIG{ALRM} = sub { croak "no answer: $sql" };
	alarm(240);
	while (1)
	{
		my $line = <$out>;
		if (!defined $line)
		{
			alarm(0);
			$self->finish;
			return (0, $text . "connection lost\n", '08006');
		}
		last if $line eq "$mark\n";
		$text .= $line;
	}
	alarm(0);
	my $state;
	$state = $1 if $text =~ s/^psql:[^ ]*: (?=ERROR|FATAL|WARNING|NOTICE)//mg && $text =~ /^(?:ERROR|FATAL): +(\w+): /m;
	$text =~ s/^LOCATION: .*\n//mg;
	$text =~ s/\n\z//;
	return (defined $state ? 0 : 1, $text, $state);
}

# until the server answers again
sub wait_ready
{
	my ($self) = @_;
	$self->finish;
	my $until = Time::HiRes::time() + 60;
	until (($self->run('SELECT 1'))[0])
	{
		$self->finish;
		croak 'the server does not answer' if Time::HiRes::time() > $until;
		Time::HiRes::sleep(0.05);
	}
	return;
}

# the output; dies on an error
sub must
{
	my ($self, $sql) = @_;
	my ($ok, $out) = $self->run($sql);
	croak "$out\nin: $sql" unless $ok;
	return $out;
}

sub DESTROY { $_[0]->finish }

1;

# The oracle suite: each query runs as a pipeline with stop => 'latest', several at once, and must give what the same text
# gives as a batch over the same rows (test/oracle).  Then random queries, many statements in a pipeline.
#
# By the seed: data, order of the queries, tasks of each pipeline (1, 2 or 4), and the rounds (a quarter) in which a task,
# a launcher or the server is killed in the middle.  Environment:
#   ORACLE_SEED       by default from the time; it is printed
#   ORACLE_ALL=1      each query with 1, 2 and 4 tasks, with and without a kill (make oracle)
#   ORACLE_ONLY       regular expression of names
#   ORACLE_KILL       1: a kill in each round, 0: in none; ORACLE_AT_ONCE pipelines in a round (8)
#   ORACLE_REPEAT     each query as many times, one at a time: for what goes wrong now and then
#   ORACLE_SLOW       1: all rounds read slowly, 0: only those with a kill; by default half of them do
#   ORACLE_TOGETHER   so many of the listed queries that fit together are statements of one pipeline (3; 1 with ORACLE_ALL,
#                     ORACLE_ONLY and ORACLE_REPEAT)
#   ORACLE_GENERATED  number of random queries (200), ORACLE_BUNDLE of them in a pipeline (12)
#   ORACLE_CHECK=1    no pipelines: do the queries give the same whatever the order of the rows?
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl", "$FindBin::Bin/../oracle";
use Oracle;
use PostgreSQL::Test::Utils;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;
use Time::HiRes qw(time);

require "$FindBin::Bin/../oracle/queries.pl";
require "$FindBin::Bin/../oracle/generate.pl";

my $begun = time;
my $seed = $ENV{ORACLE_SEED} // int(time * 1000) % 1_000_000;
my $all = $ENV{ORACLE_ALL} ? 1 : 0;
my $only = $ENV{ORACLE_ONLY} // $ENV{ONLY};
our $at_once = $ENV{ORACLE_AT_ONCE} // 8;
diag("ORACLE_SEED=$seed");

my $kafka = Streamproc::Kafka->new;
my $node = create_node('oracle', conf => <<'CONF');
restart_after_crash = on
log_statement = none
log_connections = off
log_disconnections = off
log_min_messages = log
streamproc.restart_backoff_max = 400ms
max_wal_size = 4GB
CONF
my $oracle = Oracle->new($node, $kafka, $seed);
$oracle->test_diff;
note(sprintf('data: %.1f s', time - $begun));

# ---- what is to be run ----

my @queries = grep { picked($_->{name}, $only) } oracle_queries();
my @generated = generated_queries($seed, $ENV{ORACLE_GENERATED} // ($all ? 1000 : 200));
@generated = grep { $_->{name} =~ /$only/ } @generated if defined $only;
for my $q (@queries)
{
	my $reason = $oracle->skip_reason($q) // next;
	diag("$q->{name} does not run: $reason");
	$q->{skip} = 1;
}
@queries = grep { !$_->{skip} } @queries;

if ($ENV{ORACLE_CHECK})
{
	for my $q (@queries, @generated)
	{
		next if $q->{must_refuse};
		my $bad = eval { $oracle->prepare($q); $oracle->run_batch($q); $oracle->check_query($q) } // "$@";
		ok($bad eq '', "$q->{name} is good SQL, and the order of rows does not matter") or diag($bad, $q->{text} // $q->{select});
	}
	done_testing();
	exit;
}

srand($seed);

sub shuffle
{
	my @list = @_;
	for my $i (reverse 1 .. $#list) { my $j = int(rand($i + 1)); @list[ $i, $j ] = @list[ $j, $i ] }
	return @list;
}

# Queries as pipelines of several statements: to start a pipeline for each of hundreds is most of what they cost.  Those that
# set up something of their own, or may be refused, stay alone.
sub together
{
	my ($size, @list) = @_;
	return @list if $size < 2;
	my (@alone, %kinds, @pipelines, $number);
	for my $q (@list)
	{
		if (!$q->{select} || grep { $q->{$_} } qw(setup fill options must_refuse may_refuse)) { push @alone, $q; next }
		my ($family) = $q->{name} =~ /^(over|asof|topics|top|rows)_/;
		push @{ $kinds{ ($q->{upsert} ? 'upsert ' : '') . ($family // '') } }, $q;
	}
	for my $kind (sort keys %kinds)
	{
		while (my @some = splice(@{ $kinds{$kind} }, 0, $size))
		{
			if (@some == 1) { push @alone, @some; next }
			# names of tables, which "having" is not
			my @parts = map { { %$_, name => "q_$_->{name}" } } @some;
			for (@parts) { $_->{batch} =~ s/^INSERT INTO sink /INSERT INTO $_->{name} / if $_->{batch} }
			push @pipelines, { name => 'listed_' . ++$number, parts => \@parts, catches => join('; ', map { "$_->{name}: $_->{catches}" } @some) };
		}
	}
	return (@alone, @pipelines);
}

# ---- a round: some pipelines at once ----

my (%hit, %missed, %refused, $killed);
my $runs = 0;

# what is killed, in turn
my @kinds = shuffle('task', 'launcher', 'postmaster');
my $next_kind = 0;

sub strike
{
	my ($kind, @queries) = @_;
	my $s = $oracle->session;
	my ($share, $pick) = (0.3 + rand(0.5), rand());
	my $names = join(', ', map { "'$_->{name}'" } @queries);
	my $role = $kind eq 'launcher' ? 'launcher' : 'task';
	my ($middle, $pid) = split /\|/, $s->must("SELECT middle, pid FROM oracle.wait_middle(ARRAY[$names], $share, '$role', $pick)");
	my %middle = map { $_ => 1 } ($middle // '') =~ /\w+/g;
	if (%middle && $kind eq 'postmaster')
	{
		$s->finish;
		crash_postmaster($node);
		$node->start;
	}
	elsif (%middle && $pid)
	{
		crash_worker($pid);
	}
	else
	{
		%middle = ();
	}
	$s->wait_ready;
	$killed++ if %middle;
	$hit{$kind} += keys %middle;
	$missed{$kind} += @queries - keys %middle;
	return %middle;
}

# A pipeline that is to stop: one test, for a pipeline of parts one for each.
sub judge
{
	my ($q, $how) = @_;
	my $s = $oracle->session;
	my ($ok, $out, $state);
	# its launcher may come back once more, until the supervisor has heard that it is to stay away
	for (1 .. 3)
	{
		($ok, $out) = $s->run("SELECT streamproc.wait_until_stopped('$q->{name}', '90 s')");
		die "the server crashed\n" if !$ok && $out =~ /connection lost/;
		$state = ($s->run("SELECT state FROM streamproc.stat_pipeline WHERE pipeline = '$q->{name}'"))[1];
		last if !$ok || $state eq 'stopped';
	}
	my @verdicts;
	if (!$ok || $state ne 'stopped')
	{
		@verdicts = ([ $q->{name}, "its state is $state\n$out\n", $q->{text} ]);
	}
	else
	{
		@verdicts = eval { $oracle->verdicts($q) };
		@verdicts = ([ $q->{name}, "$@", $q->{text} ]) if $@;
	}
	for (@verdicts)
	{
		my ($name, $bad, $text) = @$_;
		next if ok($bad eq '', "$name ($how)");
		diag("catches: $q->{catches}\nORACLE_SEED=$seed ORACLE_ONLY='^$name\$', $how\n$bad" . $oracle->state_of($q) . "$text\n");
	}
	return;
}

# A pipeline that the server refuses; true if some of its parts are left and it was made of them.
sub refused
{
	my ($q, $error, %options) = @_;
	if ($q->{parts})
	{
		for ($oracle->remove_refused($q))
		{
			my ($part, $why) = @$_;
			if ($part->{may_refuse} && $why =~ /ERROR: +0A000: / && $why =~ /^HINT: /m)
			{
				$refused{ $part->{name} } = 1;
				pass("$part->{name} is refused");
				next;
			}
			fail("$part->{name} is accepted");
			diag("$why\n$part->{text}\n");
		}
		return 0 if !@{ $q->{parts} };
		$error = $oracle->create($q, %options) // return 1;
		fail("$q->{name}: what is accepted alone is accepted together");
		diag($error eq 'refused' ? $q->{refusal} : $error);
		return 0;
	}
	my $right = $error eq 'refused' && ($q->{may_refuse} || $q->{must_refuse});
	$refused{ $q->{name} } = 1 if $right && !$q->{must_refuse};
	ok($right, "$q->{name} " . ($right ? 'is refused' : 'is accepted')) or diag("$q->{refusal}\n$q->{text}\n");
	return 0;
}

sub round
{
	my ($kind, $parallelism, @queries) = @_;
	# half of the rounds without a kill read slowly, too: many epochs instead of a few
	my $slow = $kind || ($ENV{ORACLE_SLOW} // rand() < 0.5);
	# and half of all copy what has changed before the stop, however little it is
	$node->safe_psql('postgres', 'ALTER SYSTEM SET streamproc.early_copy = ' . (rand() < 0.5 ? 1 : 16384) . '; SELECT pg_reload_conf()');
	my @running;
	for my $q (@queries)
	{
		if (!eval { if (!$q->{must_refuse}) { $oracle->prepare($q); $oracle->run_batch($q) if $kind } 1 })
		{
			my $why = "$@";
			$q->{prepared} = 0;
			die $why if $why =~ /connection lost/;
			fail("$q->{name}: the query is no good");
			diag($why);
			next;
		}
		$oracle->make_sinks($q, $slow ? 'slow' : 'stream');
		my $p = $parallelism // (1, 2, 4)[ int(rand(3)) ];
		my %options = (parallelism => $p, $slow ? (checkpoint_interval => '10 ms') : (), $kind ? (active => 'false') : ());
		$runs++;
		my $error = $oracle->create($q, %options);
		die $error if $error && $error =~ /connection lost/;
		if ($error ? refused($q, $error, %options) : !$q->{must_refuse})
		{
			push @running, [ $q, $p ];
			next;
		}
		if (!$error)
		{
			fail("$q->{name} is refused");
			diag("$q->{text}\n");
		}
		$oracle->drop($q);
	}
	return unless @running;
	if (!$kind)
	{
		for (@running)
		{
			my $q = $_->[0];
			next if eval { $oracle->run_batch($q); 1 };
			die $@ if $@ =~ /connection lost/;
			fail("$q->{name}: the query is no good");
			diag("$@");
		}
	}
	else
	{
		$oracle->session->must(join('; ', map { "SELECT streamproc.start_pipeline('$_->[0]{name}')" } @running));
	}
	my %middle = $kind ? strike($kind, map { $_->[0] } @running) : ();
	for (@running)
	{
		my ($q, $p) = @$_;
		judge($q, "$p tasks" . ($slow && !$kind ? ', many epochs' : '') . ($kind ? ", kill -9 of a $kind" . ($middle{ $q->{name} } ? '' : ', not in the middle') : ''));
		my $error = $oracle->drop($q);
		fail("$q->{name} can be dropped: $error") if $error;
	}
	return;
}

# Drops them, as often as that takes where the server crashes at one of them over and over; returns when no worker is left.
sub clean_up
{
	my (@queries) = @_;
	my $s = $oracle->session;
	for my $q (@queries)
	{
		wait_until(sub { eval { $s->wait_ready; $oracle->drop($q); 1 } }, 60) or die "cannot drop $q->{name}: $@";
	}
	wait_until(sub { $s->wait_ready; ($s->run(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('streamproc task', 'streamproc launcher')}))[1] eq '0' }, 60)
	  or die 'workers of dropped pipelines do not leave';
	return;
}

sub rounds
{
	my ($kill, $parallelism, @queries) = @_;
	while (my @some = splice(@queries, 0, $at_once))
	{
		my $kind = ($ENV{ORACLE_KILL} // ($kill // rand() < 0.25)) ? $kinds[ $next_kind++ % @kinds ] : undef;
		my $t = time;
		my $log = -s $node->logfile;
		next if eval { round($kind, $parallelism, @some); note(sprintf('round of %d%s: %.1f s', scalar @some, $kind ? ", $kind killed" : '', time - $t)); 1 };
		my $why = "$@" || 'it died without a word';
		clean_up(@some);
		if (@some > 1)
		{
			diag("$why: each of them alone");
			local $at_once = 1;
			rounds($kind ? 1 : 0, $parallelism, @some);
			next;
		}
		fail("$some[0]{name}: the server stays up");
		diag($why, grep { /was terminated by|TRAP|PANIC/ } split /(?<=\n)/, slurp_file($node->logfile, $log));
		diag($some[0]{text} // $some[0]{select});
	}
	return;
}

if ($all)
{
	for my $parallelism (1, 2, 4)
	{
		rounds($_, $parallelism, shuffle(@queries)) for 0, 1;
	}
}
elsif ($ENV{ORACLE_REPEAT})
{
	local $at_once = 1;
	rounds(undef, undef, map { shuffle(@queries) } 1 .. $ENV{ORACLE_REPEAT});
}
else
{
	rounds(undef, undef, shuffle(together($ENV{ORACLE_TOGETHER} // (defined $only ? 1 : 3), shuffle(@queries))));
}
my $listed = time - $begun;

# ---- random queries ----

rounds(undef, undef, bundles($ENV{ORACLE_BUNDLE} // 12, @generated));

diag(sprintf('%d queries, %d random ones, %d pipelines; killed in the middle of: %s; refused as they may be: %s; %.0f + %.0f s',
		scalar @queries, scalar @generated, $runs,
		join(', ', map { "a $_ $hit{$_} pipelines ($missed{$_} not)" } sort keys %missed) || 'none',
		join(', ', sort keys %refused) || 'none', $listed, time - $begun - $listed));
done_testing();

# A process with a session of its own that looks all the time, whatever is killed: do sinks and positions agree in one
# snapshot, is anything there twice, does anything go back; what a read_committed consumer gets; how much memory is taken.
package Watch;

use strict;
use warnings;
use Carp;
use POSIX ();
use Streamproc::Session;
use Time::HiRes qw(time usleep);

# Options: node, follower (of the topic "out"), dir
sub start
{
	my ($class, %options) = @_;
	my $self = bless {%options}, $class;
	$self->{file} = "$self->{dir}/watch";
	PostgreSQL::Test::Utils::append_to_file($self->{file}, '');
	$self->{pid} = fork // croak "fork: $!";
	return $self if $self->{pid};
	eval { $self->_look; 1 } or $self->_say("BAD the watch died: $@");
	POSIX::_exit(0);
}

sub _say
{
	my ($self, $line) = @_;
	$line =~ s/\n/ /g;
	open(my $out, '>>', $self->{file}) or POSIX::_exit(1);
	syswrite($out, "$line\n");
	close($out);
	return;
}

# At most 20 of a kind: the first say all.
sub _bad
{
	my ($self, $kind, $text) = @_;
	$self->_say("BAD $kind: $text") if $self->{bad}{$kind}++ < 20;
	return;
}

sub _look
{
	my ($self) = @_;
	my $session = Streamproc::Session->new($self->{node});
	my $next_memory = time;
	my $begun = time;
	while (getppid() != 1 && !-e "$self->{dir}/watch.stop")
	{
		my $answer = $session->ask($self->_query, time + 60);
		if (defined $answer)
		{
			$self->_judge($answer);
			$self->{was_cut} = 0;
		}
		else
		{
			# an error in the query itself would make a watch that proves nothing
			my $error = $session->error;
			if ($error =~ /ERROR:  (?!canceling)/) { $self->_bad('query', $error) }
			$self->{was_cut} = 1 unless $error =~ /canceling/;
			$self->_say('cut');
			usleep(50_000);
		}
		$self->_consumer;
		if (time >= $next_memory)
		{
			$self->_memory($session, time - $begun);
			$next_memory = time + 2;
		}
		usleep(30_000);
	}
	return;
}

# Everything in one statement, so in one snapshot.  Of the large sinks only what came since the last look: {base} has per
# partition up to where all was right.
sub _query
{
	my ($self) = @_;
	my $base = join(', ', map { "($_, $self->{base}{$_}::bigint)" } sort keys %{ $self->{base} }) || '(0, 0::bigint)';
	return <<SQL;
WITH pos AS MATERIALIZED (SELECT pipeline::text, topic, partition AS p, next_offset AS n FROM streamproc.position),
	dead AS MATERIALIZED (SELECT pipeline::text, partition AS p, "offset" AS o FROM streamproc.dead_letter WHERE kind = 'input'),
	w AS MATERIALIZED (SELECT pipeline::text, max(stream_watermark) AS w FROM streamproc.task_position GROUP BY 1),
	base (p, b) AS MATERIALIZED (SELECT p, coalesce(b, 0) FROM (SELECT p FROM pos WHERE pipeline = 'rows') x LEFT JOIN (VALUES $base) y (p, b) USING (p))
SELECT 'pos', pipeline, topic, p::text, n::text, '' FROM pos
UNION ALL SELECT 'w', pipeline, extract(epoch FROM w)::text, '', '', '' FROM w WHERE isfinite(w)
UNION ALL SELECT 'rows', p::text, count(x.o)::text, count(DISTINCT x.o)::text, coalesce(max(x.o), -1)::text, '' FROM base LEFT JOIN LATERAL (SELECT o FROM s_rows s WHERE s.p = base.p AND s.o >= base.b) x ON true GROUP BY p
UNION ALL SELECT 'rowsdead', base.p::text, count(*)::text, '', '', '' FROM base JOIN dead ON dead.pipeline = 'rows' AND dead.p = base.p AND dead.o >= base.b GROUP BY 1, 2
UNION ALL SELECT 'dead', pipeline, count(*)::text, sum(o)::text, count(DISTINCT (p, o))::text, '' FROM dead GROUP BY pipeline
UNION ALL SELECT 'last', coalesce(sum(n), 0)::text, coalesce(sum(o), 0)::text, '', '', '' FROM s_last
UNION ALL SELECT 'totals', coalesce(sum(n), 0)::text, coalesce(sum(o), 0)::text, '', '', '' FROM s_totals
UNION ALL SELECT 'twice', 'windows', count(*)::text, min(x::text), '', '' FROM (SELECT card, window_end FROM s_windows WHERE window_end > (SELECT w FROM w WHERE pipeline = 'windows') - interval '3 s' GROUP BY 1, 2 HAVING count(*) > 1) x
UNION ALL SELECT 'early', 'windows', count(*)::text, min(s::text), '', '' FROM s_windows s WHERE window_end > (SELECT w FROM w WHERE pipeline = 'windows')
UNION ALL SELECT 'twice', 'best', count(*)::text, min(x::text), '', '' FROM (SELECT window_start, city, rn FROM s_best WHERE window_start > (SELECT w FROM w WHERE pipeline = 'best') - interval '3 s' GROUP BY 1, 2, 3 HAVING count(*) > 1) x
UNION ALL SELECT 'twice', 'over', count(*)::text, min(x::text), '', '' FROM pos, LATERAL (SELECT s.p, s.o FROM s_over s WHERE s.p = pos.p AND s.o > pos.n - 4000 GROUP BY 1, 2 HAVING count(*) > 1) x WHERE pos.pipeline = 'over'
UNION ALL SELECT 'twice', 'joined', count(*)::text, min(x::text), '', '' FROM pos, LATERAL (SELECT s.p, s.o, s.p2, s.o2 FROM s_joined s WHERE s.p = pos.p AND s.o > pos.n - 4000 GROUP BY 1, 2, 3, 4 HAVING count(*) > 1) x WHERE pos.pipeline = 'joined' AND pos.topic = 'tx'
UNION ALL SELECT 'ahead', 'over', count(*)::text, min(x.o::text), '', '' FROM pos, LATERAL (SELECT o FROM s_over s WHERE s.p = pos.p AND s.o >= pos.n) x WHERE pos.pipeline = 'over'
SQL
}

sub _judge
{
	my ($self, $answer) = @_;
	my (%pos, %rows, %rows_dead, %dead, %sum);
	for (split /\n/, $answer)
	{
		my ($kind, @f) = split /\|/;
		if ($kind eq 'pos')
		{
			my $before = $self->{pos}{"$f[0] $f[1] $f[2]"} // 0;
			if ($f[3] < $before)
			{
				# Whoever writes nothing but topics does not wait for the disk: what was seen of it may be gone over a crash
				# of the server, which cuts this session off.  Of its messages no read_committed consumer has seen any then (_consumer()).
				if ($f[0] eq 'topic' && $self->{was_cut}) { $self->_say('taken back') }
				else { $self->_bad('position', "$f[0], $f[1] $f[2]: from $before back to $f[3]") }
			}
			$self->{pos}{"$f[0] $f[1] $f[2]"} = $f[3];
			$pos{ $f[0] }{ $f[2] } = $f[3] if $f[1] eq 'tx';
		}
		elsif ($kind eq 'w')
		{
			$self->_bad('watermark', "$f[0]: from $self->{w}{$f[0]} back to $f[1]") if $f[1] < ($self->{w}{ $f[0] } // 0);
			$self->{w}{ $f[0] } = $f[1];
		}
		elsif ($kind eq 'rows') { $rows{ $f[0] } = [ @f[ 1 .. 3 ] ] }
		elsif ($kind eq 'rowsdead') { $rows_dead{ $f[0] } = $f[1] }
		elsif ($kind eq 'dead')
		{
			$dead{ $f[0] } = [ @f[ 1, 2 ] ];
			$self->_bad('dead letters', "$f[0]: $f[1] of $f[3] messages") if $f[1] != $f[3];
		}
		elsif ($kind =~ /^(?:last|totals)$/) { $sum{$kind} = [ @f[ 0, 1 ] ] }
		# a drain gives out windows before the watermark has come to their end, and that stays as it is
		elsif ($kind eq 'early' && -e "$self->{dir}/stop") { next }
		elsif ($f[1] != 0) { $self->_bad("$f[0] $kind", "$f[1], the first $f[2]") }
	}
	my $good = 1;
	my %base;
	for my $p (sort keys %rows)
	{
		my ($n, $different, $last) = @{ $rows{$p} };
		my $base = $self->{base}{$p} // 0;
		my $want = ($pos{rows}{$p} // 0) - $base - ($rows_dead{$p} // 0);
		$base{$p} = $base;
		if ($n != $want || $different != $n || $last >= ($pos{rows}{$p} // 0))
		{
			$self->_bad('rows', "partition $p from $base on: the position $pos{rows}{$p} says $want rows, there are $n, $different different ones, the last of $last");
			$good = 0;
		}
		else { $base{$p} = $pos{rows}{$p} }
	}
	# what is wrong once would be wrong at each look from then on
	$self->{base} = $good ? \%base : { map { $_ => $pos{rows}{$_} } keys %rows };
	# number and identity of all messages: the sum of the offsets below the positions
	for ([ last => 'rows' ], [ totals => 'totals' ])
	{
		my ($sink, $pipeline) = @$_;
		my ($n, $o) = (0, 0);
		for (values %{ $pos{$pipeline} }) { $n += $_; $o += $_ * ($_ - 1) / 2 }
		$n -= $dead{$pipeline}[0] // 0;
		$o -= $dead{$pipeline}[1] // 0;
		next if $sum{$sink}[0] == $n && $sum{$sink}[1] == $o;
		$self->_bad($sink, "the positions of $pipeline say $n messages, sum of offsets $o; the table has $sum{$sink}[0], $sum{$sink}[1]");
	}
	$self->_say('good ' . join(',', map { my $name = $_; map { $pos{$name}{$_} } sort keys %{ $pos{$name} } } sort keys %pos));
	return;
}

# No message twice, each key in order
sub _consumer
{
	my ($self) = @_;
	my $n = 0;
	for my $message ($self->{follower}->more)
	{
		my ($number) = map { $_->[1] =~ m{/(\d+)$} } grep { $_->[0] eq 'streamproc' } @{ $message->{headers} };
		if (!defined $number) { $self->_bad('consumer', 'a message without a number'); next }
		$self->_bad('consumer', "number $number came twice") if vec($self->{numbers} //= '', $number, 1);
		vec($self->{numbers}, $number, 1) = 1;
		$self->{largest} = $number if $number > ($self->{largest} // 0);
		my ($o) = $message->{value} =~ /"o": ?(\d+)/;
		$self->_bad('consumer', "key $message->{key}: offset $o behind $self->{key}{$message->{key}}") if $o <= ($self->{key}{ $message->{key} } // -1);
		$self->{key}{ $message->{key} } = $o;
		$n++;
	}
	return unless $n;
	$self->{consumed} += $n;
	$self->_say("consumed $self->{consumed} $self->{largest}");
	return;
}

# the largest process of each role, and the state
sub _memory
{
	my ($self, $session, $at) = @_;
	my $answer = $session->ask('SELECT role, pid FROM streamproc.stat_worker WHERE pid IS NOT NULL', time + 10) // return;
	my %most;
	for (split /\n/, $answer)
	{
		my ($role, $pid) = split /\|/;
		open(my $in, '<', "/proc/$pid/status") or next;
		while (<$in>) { $most{$role} = $1 if /^RssAnon:\s+(\d+)/ && $1 > ($most{$role} // 0) }
	}
	my $state = $session->ask('SELECT coalesce(sum(state_bytes), 0), coalesce(sum(segment_bytes), 0), coalesce(sum(checkpoints), 0) FROM streamproc.stat_pipeline', time + 10) // return;
	my ($bytes, $segments, $commits) = split /\|/, $state;
	$self->_say(sprintf 'memory %.1f %s %d %d %d', $at, join(' ', map { $most{$_} // 0 } qw(task launcher publisher)), $bytes / 1024, $segments / 1024, $commits);
	return;
}

# ---- for the driver ----

sub bad_lines { my ($self) = @_; return PostgreSQL::Test::Utils::slurp_file($self->{file}) =~ /^BAD (.*)$/mg }
sub consumed { my ($self) = @_; my @n = PostgreSQL::Test::Utils::slurp_file($self->{file}) =~ /^consumed (\d+) /mg; return $n[-1] // 0 }

# Ends it; ( good, positions, cut, taken_back, consumed, largest, bad => [], memory => [ [ s, task, launcher, publisher, state, segments in kB, commits ] ] )
sub finish
{
	my ($self) = @_;
	PostgreSQL::Test::Utils::append_to_file("$self->{dir}/watch.stop", '');
	waitpid($self->{pid}, 0);
	my %result = (good => 0, cut => 0, taken_back => 0, consumed => 0, largest => 0, bad => [], memory => []);
	my %positions;
	for (split /\n/, PostgreSQL::Test::Utils::slurp_file($self->{file}))
	{
		if (/^good (.*)/) { $result{good}++; $positions{$1} = 1 }
		elsif (/^cut/) { $result{cut}++ }
		elsif (/^taken back/) { $result{taken_back}++ }
		elsif (/^BAD (.*)/) { push @{ $result{bad} }, $1 }
		elsif (/^consumed (\d+) (\d+)/) { @result{qw(consumed largest)} = ($1, $2) }
		elsif (/^memory (.*)/) { push @{ $result{memory} }, [ split / /, $1 ] }
	}
	$result{positions} = keys %positions;
	return %result;
}

1;

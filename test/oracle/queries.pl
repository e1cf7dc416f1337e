# The queries of the oracle suite: the files of queries/, each a list of hashes.
#
#   name        also the name of the pipeline
#   catches     what a wrong engine would show
#   select      SELECT over the topics' tables; the sink is a table "sink" of its columns, the statement INSERT INTO sink SELECT
#   per_card    instead: aggregates by card and 10 minutes of tx
#   upsert      with select: key columns; ON CONFLICT (key) DO UPDATE of all other columns, NULL is a key
#   text        instead of select: the whole statements, with "sink": DDL of their tables
#   batch       another text for the batch query, where the pipeline's means something else in a batch
#   setup       DDL before the sink, also in both schemas (views over topics)
#   fill        run after the sink was made
#   options     of create_pipeline
#   by_value    columns compared by their type's =, because equal values may look different (1.0 and 1.00); all others are
#               compared as text, float columns with a tolerance
#   tolerance   relative, of float8 columns (default 1e-12)
#   must_refuse create_pipeline has to refuse it with 0A000 and a hint
#   may_refuse  create_pipeline may also refuse it with 0A000 and a hint
#   needs       'icu', 'citext', 'xml'
#
# The text is the same for the pipeline and the batch; search_path decides what tx and sink are: foreign tables, or plain
# tables filled from them.
use strict;
use warnings;
use File::Basename ();

sub oracle_queries
{
	my $dir = File::Basename::dirname(__FILE__) . '/queries';
	my (@queries, %seen);
	for my $file (sort glob("$dir/*.pl"))
	{
		my @list = do $file;
		die "$file: " . ($@ || $! || 'is empty') unless @list && ref $list[0];
		push @queries, @list;
	}
	for my $q (@queries)
	{
		die "query without a name or reason\n" unless $q->{name} && $q->{catches};
		die "query $q->{name} comes twice\n" if $seen{ $q->{name} }++;
		$q->{select} = <<SQL if $q->{per_card};
SELECT t.card, w.window_start, w.window_end, $q->{per_card}
FROM tx t, streamproc.tumble(t.at, '10 min') w
GROUP BY t.card, w.window_start, w.window_end
SQL
		die "query $q->{name} has no text\n" unless $q->{select} || $q->{text};
	}
	return @queries;
}

1;

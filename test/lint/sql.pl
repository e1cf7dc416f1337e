# What the extension's scripts must say of each object, and how names must be written in them; prints what is wrong.
#
#   perl sql.pl SCRIPT.sql        the checks below
#   perl sql.pl FILE.c            names in the texts given to SPI
#   perl sql.pl --test FILE.sql   a script with mistakes: each line "-- want: TEXT" must give such a finding, no other any
#
# Objects
# - COMMENT ON every function, procedure, table, view, type, schema, foreign data wrapper, event trigger
# - neither OR REPLACE nor IF NOT EXISTS: somebody else's object would become ours (CVE-2022-2625); but a view that another
#   of the scripts made may get more columns, so that what stands on it stays
# - every function is LANGUAGE C, BEGIN ATOMIC, or pins search_path to pg_catalog, pg_temp; none is SECURITY DEFINER
# - for each function and aggregate a REVOKE or GRANT says who may execute it; to PUBLIC only those below,
#   SELECT on views, and USAGE on schemas; nothing to any other role; no default privileges; no @extschema@ (CVE-2023-39417)
#
# Names (CVE-2018-1058, CVE-2020-14350).  A function body runs with its caller's search_path.  A script runs with
# pg_catalog first, but a better match of an operator or overloaded function is taken from any schema.  So in views,
# bodies, DO blocks, statements and default and check expressions
# - operators are written OPERATOR(pg_catalog.=); what uses one without naming it is not written at all: IN, BETWEEN,
#   LIKE, SIMILAR TO, IS DISTINCT FROM, NULLIF, CASE x WHEN y, JOIN ... USING, NATURAL JOIN
# - functions, types and relations have a schema: pg_catalog or the extension's
# Types of columns and arguments need none: the first of the name is taken.
use strict;
use warnings;

# they show each caller what is his, or compute from their arguments only
my %public = map { $_ => 1 } qw(my_pipelines stat_checkpoint_rows stat_operator_rows stat_partition_rows stat_pipeline_rows stat_worker_rows visible_to_me
  cumulate cumulate_slice cumulate_slice_end cumulate_slice_start hop hop_slice hop_slice_end hop_slice_start session session_slice tumble tumble_end tumble_start);
my %schemas = map { $_ => 1 } qw(pg_catalog streamproc streamproc_pipeline);
# types that the grammar knows are always those of pg_catalog
my %grammar_type = map { $_ => 1 } qw(int integer smallint bigint real float double decimal dec numeric boolean varchar char character
  national nchar bit varying timestamp time interval);
# words before "(" that are no functions
my %before_paren = map { $_ => 1 } qw(values in any all some array row from coalesce greatest least exists and or not when then else on select
  where if elsif while using as lateral union except intersect operator by limit over filter return returning into with within group distinct
  rows is case end between like set default check unique key case offset having primary references only include cast extract position
  substring trim overlay nullif);
# words before a string that are no types
my %before_string = map { $_ => 1 } qw(select then else when and or not in like ilike to from by is as on exception notice warning info log debug
  return values end between using execute format where escape default perform raise interval timestamp time zone sqlstate similar);

my ($file, @findings, @expected);
sub complain { my ($line, $text) = @_; push @findings, [ $line, $text ]; return }

# [ kind, text, line ]: word, string, number, op, or the character itself; comments are left out
sub tokens
{
	my ($text, $line) = @_;
	my @tokens;
	pos($text) = 0;
	while (pos($text) < length $text)
	{
		my ($begun, $start) = ($line, pos($text));
		my $token;
		if ($text =~ /\G\s+/gc || $text =~ /\G--[^\n]*/gc || $text =~ m{\G/\*.*?\*/}gcs || ($line == 1 && $text =~ /\G\\[^\n]*/gcm) || $text =~ /\G(?<=\n)\\[^\n]*/gc) { }
		elsif ($text =~ /\G\$(\w*)\$(.*?)\$\1\$/gcs) { $token = [ 'body', $2, $begun ] }
		elsif ($text =~ /\G[eE]?'((?:[^']|'')*)'/gc) { $token = [ 'string', $1, $begun ] }
		elsif ($text =~ /\G"((?:[^"]|"")*)"/gc) { $token = [ 'word', lc $1, $begun ] }
		elsif ($text =~ /\G([A-Za-z_@][\w\$]*@?)/gc && $1 !~ /^@(?!\w)/) { $token = [ 'word', lc $1, $begun ] }
		elsif ($text =~ /\G\d[\d.]*/gc) { $token = [ 'number', '', $begun ] }
		elsif ($text =~ /\G(::|:=|=>|\.\.)/gc) { $token = [ $1, $1, $begun ] }
		elsif ($text =~ m{\G((?:(?!--|/\*)[-+*/<>=~!\@#%^&|`?])+)}gc) { $token = [ 'op', $1, $begun ] }
		else { $text =~ /\G(.)/gcs; $token = [ $1, $1, $begun ] }
		$line = $begun + (substr($text, $start, pos($text) - $start) =~ tr/\n//);
		push @tokens, $token if $token;
	}
	return @tokens;
}

# ---- names in code

sub check_code
{
	my ($plpgsql, @t) = @_;
	my $none = [ '', '', 0 ];
	my @words = map { $_->[0] eq 'word' ? $_->[1] : '' } @t;
	my %known;	# names of WITH queries
	for my $i (1 .. $#t - 2)
	{
		$known{ $words[$i] } = 1 if $words[$i] && $words[ $i + 1 ] eq 'as' && $t[ $i + 2 ][0] eq '(' && ($words[ $i - 1 ] =~ /^(with|recursive)$/ || $t[ $i - 1 ][0] eq ',');
	}
	my ($in_set, $in_declare) = (0, 0);
	for my $i (0 .. $#t)
	{
		my ($kind, $text, $line) = @{ $t[$i] };
		my $before = $i ? $t[ $i - 1 ] : $none;
		my $after = $t[ $i + 1 ] // $none;
		my $word = $words[$i];
		if ($kind eq ';') { $in_set = 0 }
		elsif ($kind eq 'op')
		{
			next if $before->[0] eq '.';	# OPERATOR(pg_catalog.=): the schema is checked at its dot
			next if $text eq '*' && ($before->[1] =~ /^(select|,|\()$/ || $before->[0] eq '.');
			next if $text eq '-' && $after->[0] eq 'number' && ($before->[0] !~ /^(word|number|string|\)|\])$/ || ($t[ $i - 2 ] // $none)->[0] eq 'op');
			next if $text eq '%' && $after->[1] =~ /^(type|rowtype)$/;
			next if $text eq '=' && ($in_set || ($plpgsql && $before->[1] =~ /^(errcode|message|detail|hint|column|constraint|datatype|table|schema)$/));
			next if $text eq '=' && $plpgsql && $after->[1] =~ /^(message_text|returned_sqlstate|row_count|pg_exception_\w+)$/;
			complain($line, "operator $text has no schema: OPERATOR(pg_catalog.$text)");
		}
		elsif ($kind eq '.')
		{
			next unless ($t[ $i + 1 ] // $none)->[0] eq 'op' || ($t[ $i + 2 ] // $none)->[0] eq '(';
			next if ($t[ $i + 1 ] // $none)->[1] eq '*' && ($t[ $i - 2 ] // $none)->[0] ne '(';	# alias.*
			complain($line, "schema $before->[1] is not ours") unless $schemas{ $before->[1] };
		}
		elsif ($kind eq '::')
		{
			complain($line, "type $after->[1] has no schema: pg_catalog.$after->[1]")
			  if $after->[0] eq 'word' && ($t[ $i + 2 ] // $none)->[0] ne '.' && !$grammar_type{ $after->[1] };
		}
		next unless $kind eq 'word';
		next if $before->[0] eq '.';

		if ($word eq 'set') { $in_set = $i && grep({ $_ eq 'update' } @words[ 0 .. $i ]) ? 1 : 0 }
		elsif ($word =~ /^(where|from|returning)$/) { $in_set = 0 }

		if (($word eq 'in' && $after->[0] eq '(') || $word =~ /^(between|like|ilike|similar|nullif|natural)$/) { complain($line, uc($word) . ' uses an operator that it does not name') }
		elsif ($word eq 'distinct' && $after->[1] eq 'from') { complain($line, 'IS DISTINCT FROM uses an operator that it does not name') }
		elsif ($word eq 'case' && $after->[1] ne 'when' && $before->[1] ne 'end') { complain($line, 'CASE x WHEN y uses an operator that it does not name') }
		elsif ($word eq 'using' && $after->[0] eq '(') { complain($line, 'USING (column) uses an operator that it does not name') }
		elsif ($word eq 'cast' && $after->[0] eq '(') { complain($line, 'write value::type instead of CAST') }
		elsif ($after->[0] eq '(' && !$before_paren{$word} && !$grammar_type{$word})
		{
			# alias(columns), INSERT INTO name (columns)
			complain($line, "function $word has no schema") unless $before->[1] =~ /^(as|into)$/ || $before->[0] eq ')';
		}
		elsif ($after->[0] eq 'string' && !$before_string{$word} && !$grammar_type{$word}) { complain($line, "type $word has no schema: pg_catalog.$word") }

		# relations
		my $target = $t[ $i + 1 ] // $none;
		if (($word =~ /^(from|join)$/ || ($word eq 'into' && $before->[1] eq 'insert') || ($word eq 'update' && $after->[1] ne 'of' && $before->[1] !~ /^(for|do)$/))
			&& $target->[0] eq 'word' && $target->[1] !~ /^(rows|lateral|only|select|public|unnest)$/ && !$known{ $target->[1] })
		{
			my $next = $t[ $i + 2 ] // $none;
			if ($next->[0] ne '.') { complain($target->[2], "relation $target->[1] has no schema") if $next->[0] ne '(' || $word eq 'into' }
			elsif (!$schemas{ $target->[1] }) { complain($target->[2], "schema $target->[1] is not ours") }
		}

		# variables: name type [:= ...];
		if ($plpgsql && $word eq 'declare') { $in_declare = 1 }
		elsif ($word eq 'begin') { $in_declare = 0 }
		elsif ($in_declare && ($before->[0] eq ';' || $before->[1] eq 'declare') && $after->[0] eq 'word')
		{
			my $j = $after->[1] eq 'constant' ? $i + 2 : $i + 1;
			my $type = $t[$j][1];
			complain($t[$j][2], "type $type has no schema: pg_catalog.$type")
			  unless ($t[ $j + 1 ] // $none)->[0] =~ /^(\.|op)$/ || $grammar_type{$type} || $type eq 'record';
		}
	}
	return;
}

# expressions after DEFAULT and CHECK
sub check_expressions
{
	my (@t) = @_;
	for my $i (0 .. $#t)
	{
		next unless $t[$i][0] eq 'word' && $t[$i][1] =~ /^(default|check)$/;
		my ($depth, @expression) = (0);
		for my $j ($i + 1 .. $#t)
		{
			$depth++ if $t[$j][0] eq '(';
			last if $depth == 0 && $t[$j][0] =~ /^(,|\))$/;
			push @expression, $t[$j];
			$depth-- if $t[$j][0] eq ')';
			last if $t[$i][1] eq 'check' && $depth == 0;
		}
		check_code(0, @expression);
	}
	return;
}

# ---- statements

my (%made, %comments, %revokes);
my %view_of;	# views that a script makes: name => the script

sub object_name { my $n = lc shift; $n =~ s/^streamproc\.//; $n =~ s/"//g; return $n }

sub check_grant
{
	my ($statement, $line) = @_;
	my ($what, $on, $to) = $statement =~ /^GRANT\s+(.*?)\s+ON\s+(.*?)\s+TO\s+(.*)$/is;
	return complain($line, "a role is made a member: $statement") unless defined $to;
	my ($kind, $names) = $on =~ /^(FUNCTION|PROCEDURE|ROUTINE|SCHEMA|SEQUENCE|TABLE|FOREIGN\s+\w+(?:\s+WRAPPER)?|ALL\s+\w+\s+IN\s+SCHEMA)?\s*(.*)$/is;
	$kind = uc($kind // 'TABLE');
	1 while $names =~ s/\([^()]*\)//g;
	complain($line, "GRANT to $to: only PUBLIC, and what everybody may") unless $to =~ /^PUBLIC$/i;
	for my $name (map { object_name(s/^\s+|\s+$//gr) } split /,/, $names)
	{
		my $good = $kind =~ /^(FUNCTION|PROCEDURE|ROUTINE)$/ ? $what =~ /^EXECUTE$/i && $public{$name}
		  : $kind eq 'SCHEMA' ? $what =~ /^USAGE$/i
		  : $kind eq 'TABLE' ? $what =~ /^SELECT$/i && $made{"VIEW $name"}
		  : 0;
		complain($line, "GRANT $what on $name: starts, reads state, or reaches the network") unless $good;
		$revokes{$name}++ if $kind =~ /^(FUNCTION|PROCEDURE|ROUTINE)$/;
	}
	return;
}

sub check_statement
{
	my (@t) = @_;
	my $line = $t[0][2];
	# the text without strings and bodies
	my $text = join(' ', map { $_->[0] =~ /^(string|body)$/ ? "''" : $_->[1] } @t);
	$text =~ s/ ?\. ?/./g;
	my $kinds = 'FUNCTION|PROCEDURE|AGGREGATE|TABLE|MATERIALIZED VIEW|VIEW|TYPE|DOMAIN|SCHEMA|SEQUENCE|FOREIGN DATA WRAPPER|EVENT TRIGGER|OPERATOR|CAST';

	complain($_->[2], '@extschema@ is pasted in as it is') for grep { $_->[0] =~ /^(word|body|string)$/ && $_->[1] =~ /\@extschema/ } @t;
	complain($line, 'OR REPLACE would take over an object that somebody else made')
	  if $text =~ /^create or replace\b/ && !($text =~ /^create or replace view ([\w.]+)/ && ($view_of{ object_name($1) } // $file) ne $file);
	complain($line, 'IF NOT EXISTS would take over an object that somebody else made') if $text =~ /^(create|alter)\b.*\bif not exists\b/;
	complain($line, 'default privileges are not for an extension to change') if $text =~ /^alter default privileges\b/;

	if ($text =~ /^create (?:or replace )?(?:(?:unlogged|temp|temporary|recursive) )?($kinds) (?:if not exists )?([\w.]+)/i)
	{
		my ($kind, $name) = (uc $1, object_name($2));
		push @{ $made{"$kind $name"} }, $line;
		if ($kind =~ /^(FUNCTION|PROCEDURE)$/)
		{
			my ($language) = $text =~ /\blanguage (\w+)/;
			my $pinned = $text =~ /\bset search_path (?:=|to) pg_catalog , pg_temp\b/;
			my $atomic = $text =~ /\bbegin atomic\b|\breturn\b/;
			$language //= $atomic ? 'sql' : '?';
			complain($line, "function $name is SECURITY DEFINER") if $text =~ /\bsecurity definer\b/;
			complain($line, "function $name pins no search_path: SET search_path = pg_catalog, pg_temp") unless $language =~ /^(c|internal)$/ || $pinned || $atomic;
			check_expressions(grep { $_->[0] ne 'body' } @t);
			my ($start) = grep { ($t[$_][1] eq 'begin' && ($t[ $_ + 1 ][1] // '') eq 'atomic') || ($t[$_][0] eq 'word' && $t[$_][1] eq 'return') } 0 .. $#t;
			check_code(0, @t[ $start + 1 .. $#t ]) if defined $start;
			if ($language !~ /^(c|internal)$/ && !$pinned)
			{
				check_code($language eq 'plpgsql', tokens($_->[1], $_->[2])) for grep { $_->[0] eq 'body' } @t;
			}
		}
		elsif ($kind =~ /VIEW$/)
		{
			my ($as) = grep { $t[$_][1] eq 'as' } 0 .. $#t;
			check_code(0, @t[ $as + 1 .. $#t ]);
		}
		else { check_expressions(@t) }
	}
	elsif ($text =~ /^comment on ($kinds) ([\w.]+)/i) { $comments{ uc($1) . ' ' . object_name($2) }++ }
	elsif ($text =~ /^grant\b/) { check_grant($text, $line) }
	elsif ($text =~ /^revoke (?:all|execute)\b.*? on (?:function|procedure|routine) (.*?) from \w/)
	{
		my $list = $1;
		1 while $list =~ s/\([^()]*\)//g;
		$revokes{ object_name(s/^\s+|\s+$//gr) }++ for split /,/, $list;
	}
	elsif ($text =~ /^do\b/) { check_code(1, tokens($_->[1], $_->[2])) for grep { $_->[0] eq 'body' } @t }
	elsif ($text =~ /^(select|insert|update|delete|with)\b/) { check_code(0, @t) }
	else { check_expressions(@t) }
	return;
}

sub check_script
{
	my ($text) = @_;
	my ($depth, @statement) = (0);
	for my $token (tokens($text, 1), [ ';', ';', 0 ])
	{
		my $previous = @statement ? $statement[-1][1] : '';
		$depth++ if $token->[0] eq 'word' && (($token->[1] eq 'atomic' && $previous eq 'begin') || ($depth && $token->[1] eq 'case'));
		$depth-- if $depth && $token->[0] eq 'word' && $token->[1] eq 'end';
		if ($token->[0] ne ';' || $depth) { push @statement, $token; next }
		check_statement(@statement) if @statement;
		@statement = ();
	}
	for my $object (sort keys %made)
	{
		my ($kind, $name) = $object =~ /^(.*) (\S+)$/;
		# an owned sequence is part of its table
		complain($made{$object}[0], "no COMMENT ON $object") if ($comments{$object} // 0) < @{ $made{$object} } && $kind ne 'SEQUENCE';
		complain($made{$object}[0], lc($kind) . " $name: neither REVOKE nor GRANT says who may execute it")
		  if $kind =~ /^(FUNCTION|PROCEDURE|AGGREGATE)$/ && !$revokes{$name};
	}
	complain(1, 'makes no object') unless %made;
	return;
}

# SPI_execute("..." MACRO "...", ...): the caller's search_path is in force
sub check_source
{
	my ($text) = @_;
	while ($text =~ /\bSPI_(?:execute|prepare|cursor_open)\w*\s*\(\s*((?:"(?:[^"\\]|\\.)*"|[A-Z_]+|\s)+)/g)
	{
		my $query = $1;
		my $line = 1 + (substr($text, 0, $-[1]) =~ tr/\n//);
		my $sql = join("\n", map { join('', map { /^"(.*)"$/s ? $1 : 'streamproc' } /"(?:[^"\\]|\\.)*"|[A-Z_]+/g) } split(/\n/, $query, -1));
		check_code(0, tokens($sql, $line));
	}
	return;
}

my $test = @ARGV && $ARGV[0] eq '--test' ? shift @ARGV : '';
for my $script (grep { /\.sql$/ } @ARGV)
{
	open(my $in, '<', $script) or next;
	while (<$in>) { $view_of{ object_name($1) } = $script if /^CREATE VIEW ([\w.]+)/ }
	close $in;
}
for (@ARGV)
{
	$file = $_;
	open(my $in, '<', $file) or do { print "$file: $!\n"; next };
	my $text = do { local $/; <$in> };
	close $in;
	(@findings, %made, %comments, %revokes) = ();
	if ($file =~ /\.c$/) { check_source($text) }
	else { check_script($text) }
	if (!$test)
	{
		print "$file:$_->[0]: $_->[1]\n" for sort { $a->[0] <=> $b->[0] } @findings;
		next;
	}
	my @lines = split /\n/, $text, -1;
	for my $n (1 .. @lines)
	{
		my @got = map { $_->[1] } grep { $_->[0] == $n } @findings;
		for my $want (map { s/\s+$//r } ($lines[ $n - 1 ] =~ /-- want: (.*)/ ? split(/ \| /, $1) : ()))
		{
			my ($found) = grep { index($got[$_], $want) >= 0 } 0 .. $#got;
			if (defined $found) { splice(@got, $found, 1) }
			else { print "$file:$n: does not see: $want\n" }
		}
		print "$file:$n: sees a mistake where there is none: $_\n" for @got;
	}
	print "$file: has no mistakes to see\n" unless @findings;
}

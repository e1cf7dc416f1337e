# What the extension's script must say of each object it makes; prints what is wrong.
#
# - COMMENT ON every function, procedure, table, view, type, schema, foreign data wrapper, event trigger, operator
# - every function pins search_path or is LANGUAGE C (a C function that needs one sets it itself), or BEGIN ATOMIC
# - REVOKE ALL ON FUNCTION ... FROM PUBLIC (or ALL FUNCTIONS IN SCHEMA) for each function, unless a GRANT EXECUTE ...
#   TO PUBLIC says that it is meant
use strict;
use warnings;

my ($file) = @ARGV;
open(my $in, '<', $file) or do { print "$file: $!\n"; exit };
my $text = do { local $/; <$in> };
close $in;

# bodies are no statements, comments no text; line numbers stay
$text =~ s{(\$(\w*)\$)(.*?)\$\2\$}{my ($tag, $body) = ($1, $3); my $n = () = $body =~ /\n/g; "'" . "\n" x $n . "'"}ges;
$text =~ s{/\*.*?\*/}{my $n = () = $& =~ /\n/g; "\n" x $n}ges;
my @lines = map { my $l = $_; 1 while $l =~ s/^((?:[^'-]|'[^']*'|-(?!-))*)--.*$/$1/; $l } split(/\n/, $text, -1);
$text = join("\n", @lines);

my (@objects, %commented, %revoked, %granted);
my ($revoke_all, $line) = (0, 1);

sub name { my $n = lc shift; $n =~ s/^streamproc\.//; $n =~ s/"//g; return $n }

# name without arguments: overloads are counted, not told apart
my (%made, %comments, %revokes);
for my $statement (split /;/, $text)
{
	my $at = $line + (() = ($statement =~ /^(\s*)/)[0] =~ /\n/g);
	$line += () = $statement =~ /\n/g;
	$statement =~ s/^\s+|\s+$//g;
	$statement =~ s/'(?:[^']|'')*'/''/gs;
	next if $statement eq '';
	if ($statement =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:(?:UNLOGGED|TEMP)\s+)?(FUNCTION|PROCEDURE|AGGREGATE|TABLE|VIEW|TYPE|DOMAIN|SCHEMA|SEQUENCE|FOREIGN\s+DATA\s+WRAPPER|EVENT\s+TRIGGER)\s+(?:IF\s+NOT\s+EXISTS\s+)?([\w."]+)/is)
	{
		my ($kind, $name) = (uc $1, name($2));
		$kind =~ s/\s+/ /g;
		push @{ $made{"$kind $name"} }, $at;
		if ($kind eq 'FUNCTION' || $kind eq 'PROCEDURE')
		{
			print "$file:$at: function $name is not LANGUAGE C and pins no search_path\n"
			  unless $statement =~ /LANGUAGE\s+'?C\b/i
			  || $statement =~ /SET\s+search_path/i
			  || $statement =~ /BEGIN\s+ATOMIC|\bRETURN\b/i
			  || $statement =~ /LANGUAGE\s+internal/i;
			print "$file:$at: function $name is SECURITY DEFINER and pins no search_path\n"
			  if $statement =~ /SECURITY\s+DEFINER/i && $statement !~ /SET\s+search_path/i;
		}
	}
	elsif ($statement =~ /^COMMENT\s+ON\s+(FUNCTION|PROCEDURE|AGGREGATE|TABLE|VIEW|TYPE|DOMAIN|SCHEMA|SEQUENCE|FOREIGN\s+DATA\s+WRAPPER|EVENT\s+TRIGGER)\s+([\w."]+)/is)
	{
		my ($kind, $name) = (uc $1, name($2));
		$kind =~ s/\s+/ /g;
		$comments{"$kind $name"}++;
	}
	elsif ($statement =~ /^REVOKE\s+(?:ALL|EXECUTE)\b.*?\bON\s+ALL\s+(?:FUNCTIONS|ROUTINES)\s+IN\s+SCHEMA\b/is) { $revoke_all = 1 }
	elsif ($statement =~ /^(?:REVOKE|GRANT)\s+(?:ALL|EXECUTE)\b.*?\bON\s+(?:FUNCTION|PROCEDURE|ROUTINE)\s+(.*?)\s+(?:FROM|TO)\s+\w/is)
	{
		my $list = $1;
		1 while $list =~ s/\([^()]*\)//g;
		$revokes{ name($_) }++ for map { s/^\s+|\s+$//gr } split /,/, $list;
	}
}
for my $object (sort keys %made)
{
	my ($kind, $name) = $object =~ /^(.*) (\S+)$/;
	my $at = $made{$object}[0];
	# an owned sequence is part of its table
	print "$file:$at: no COMMENT ON $object\n"
	  if ($comments{$object} // 0) < @{ $made{$object} } && $kind ne 'SEQUENCE';
	print "$file:$at: function $name: neither REVOKE nor GRANT says who may execute it\n"
	  if $kind =~ /^(FUNCTION|PROCEDURE)$/ && !$revoke_all && !$revokes{$name};
}
print "$file: makes no object\n" unless %made;

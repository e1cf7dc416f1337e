# What the oracle suite runs on: topics with seeded events, lookup tables, types, functions and aggregates.
#
# Event times of a partition are out of order by at most the watermark_delay of 2 s, so no row may be late.  Also on
# purpose: partition 1 of tx is empty; the partitions of tx begin and end at different times, cross midnight and the
# end of a month, one has a gap of half an hour and a jump of a day; many times lie on the border of a window; values
# that are equal but do not look alike.  NaN and infinities, which would hide everything else in a sum, are kept to
# card-13 in NaNtes and to the columns code and spec.
use strict;
use warnings;
use POSIX qw(strftime);

use constant SECOND => 1_000_000;

sub pick { return $_[ int(rand(@_)) ] }
sub chance { return rand() < $_[0] }

# microseconds since 1970 as ISO 8601
sub iso
{
	my ($us) = @_;
	return strftime('%Y-%m-%dT%H:%M:%S', gmtime(int($us / SECOND))) . sprintf('.%06dZ', $us % SECOND);
}

my %escape = ('"' => '\"', '\\' => '\\\\', "\n" => '\n', "\t" => '\t');

# JSON of a value: undef is null, a reference to a string goes as it is (numbers, true, arrays)
sub json
{
	my ($v) = @_;
	return 'null' unless defined $v;
	return $$v if ref $v;
	$v =~ s/(["\\\n\t])/$escape{$1}/g;
	return "\"$v\"";
}

sub raw { my ($text) = @_; return defined $text ? \$text : undef }
sub or_null { my ($part, $v) = @_; return chance($part) ? undef : $v }

# The message of a row: names and values.  Half of the nulls are left out.
sub message
{
	my ($partition, @pairs) = @_;
	my @fields;
	while (my ($name, $value) = splice(@pairs, 0, 2))
	{
		push @fields, "\"$name\":" . json($value) unless !defined $value && chance(0.5);
	}
	my $text = '{' . join(',', @fields) . '}';
	return { partition => $partition, value => $text };
}

# The next time of a partition: state { t, max }.  Most are in order, the others up to 2 s late, exactly 2 s at times.
sub next_time
{
	my ($state, $step) = @_;
	$state->{t} += int(rand(2 * $step * SECOND));
	my $at = $state->{t};
	my $lowest = ($state->{max} // 0) - 2 * SECOND;
	if (chance(0.4)) { $at -= int(rand(2 * SECOND)) }
	elsif (chance(0.05) && $lowest > 0) { $at = $lowest }
	if (chance(0.15))
	{
		my $border = $at - $at % (10 * SECOND);
		$at = $border if $border >= $lowest;
	}
	$at = $lowest if $at < $lowest;
	$state->{max} = $at if $at > ($state->{max} // 0);
	return $at;
}

my @cards = ((map { "card-$_" } 1 .. 40), 'カード-1', '', 'O\'Neil "x\\y"', "tab\tnewline\n");
my @cities = ('Berlin', 'berlin', 'BERLIN', 'Köln', 'KÖLN', "Ko\xcc\x88ln", 'Straße', 'STRASSE', '', 'São Paulo');
my @uuids = map { join('-', map { join('', map { sprintf('%x', int(rand(16))) } 1 .. $_) } 8, 4, 4, 4, 12) } 1 .. 150;

sub number
{
	my ($scale) = @_;
	return raw(sprintf('%.*f', $scale // int(rand(4)), rand(2000) - 600));
}

# columns that tx and other share
sub tx_values
{
	my ($id, $at) = @_;
	my $card = or_null(0.02, chance(0.4) ? pick(@cards[ 0 .. 4 ]) : pick(@cards));
	my $nan = ($card // '') eq 'card-13';
	my $note = or_null(0.1, chance(0.1) ? '' : chance(0.01) ? 'x' x (2100 + int(rand(900))) . $id : chance(0.004)
		? join('', map { chr(97 + rand(26)) } 1 .. 9000) : 'note ' . int(rand(300)) . pick('', ' ', 'ß', "\n", '🙂'));
	return (
		id => raw($id),
		card => $card,
		city => $nan ? 'NaNtes' : or_null(0.04, pick(@cities)),
		amount => or_null(0.03, $nan && chance(0.2) ? pick('NaN', 'Infinity') : chance(0.01)
			? raw(pick('1e30', '0.000000000000000000001', '123456789012345678901234567890.12345', '-0', '0.00')) : number()),
		score => or_null(0.03, $nan && chance(0.3) ? pick('NaN', 'Infinity', '-Infinity') : raw(sprintf('%.6f', rand(100) - 20))),
		rate => or_null(0.02, raw(sprintf('%.15g', 0.5 + rand(2)))),
		n => or_null(0.05, raw(chance(0.005) ? pick(2147483647, -2147483648) : int(rand(2001)) - 1000)),
		big => or_null(0.05, raw(chance(0.02) ? pick('9223372036854775807', '-9223372036854775808') : int(rand(2e15)) - 1000)),
		flag => or_null(0.1, raw(pick('true', 'false'))),
		u => or_null(0.05, pick(@uuids)),
		at => iso($at),
		note => $note,
		day => or_null(0.05, chance(0.004) ? 'infinity' : sprintf('2024-02-%02d', 20 + rand(10))),
		i => or_null(0.05, pick('1 day', '24:00:00', '1 mon', '30 days', '-00:00:05', '1 mon -1 day', '00:00:00.000001', '2 years')),
		code => or_null(0.05, raw(pick('1', '1.0', '1.00', '2.5', '2.50', '25e-1', '0', '0.000', '-0', '1e2', '100', '"NaN"', '"Infinity"'))),
		spec => or_null(0.05, raw(pick('0', '-0.0', '"NaN"', '"Infinity"', '"-Infinity"', '1.5', '15e-1', '1e-300'))),
		tags => or_null(0.05, raw(pick('[]', '["a"]', '["a","b"]', '["b","a"]', '["a",null]', '[""]'))));
}

sub tx_topic
{
	my ($from) = @_;
	my @partitions = (
		{ partition => 0, left => 2600, t => $from, step => 2.4 },
		{ partition => 2, left => 1800, t => $from + 600 * SECOND, step => 2.2 },
		{ partition => 3, left => 800, t => $from + 3000 * SECOND, step => 0.7 });
	my (@messages, $id);
	while (my @open = grep { $_->{left} > 0 } @partitions)
	{
		my $p = pick(@open);
		$p->{left}--;
		$p->{t} += 1800 * SECOND if $p->{partition} == 2 && $p->{left} == 900;
		$p->{t} += 86400 * SECOND if $p->{partition} == 0 && $p->{left} == 30;
		push @messages, message($p->{partition}, tx_values(++$id, next_time($p, $p->{step})));
	}
	return \@messages;
}

sub other_topic
{
	my ($from) = @_;
	my @partitions = map { { t => $from + $_ * 300 * SECOND } } 0 .. 1;
	return [ map { my $p = int(rand(2)); message($p, tx_values(100_000 + $_, next_time($partitions[$p], 12))) } 1 .. 900 ];
}

# nights in which clocks are set, and the instants themselves
sub dst_topic
{
	my @nights = (
		[ 2024, 3, 10, 5 ], [ 2024, 3, 31, 1 ], [ 2024, 4, 6, 15 ], [ 2024, 10, 5, 15.5 ], [ 2024, 10, 27, 1 ], [ 2024, 11, 3, 5 ]);
	my (@messages, $id);
	my @last = (0, 0);
	for my $night (@nights)
	{
		my ($y, $m, $d, $h) = @$night;
		my $instant = POSIX::mktime(0, 0, 12, $d, $m - 1, $y - 1900) - 12 * 3600 + $h * 3600;
		my @times = map { [ int(rand(2)), $instant + 3600 * (rand(70) - 35) ] } 1 .. 100;
		push @times, map { my $t = $_; map { [ $_, $instant + $t ] } 0, 1 } -86400, -3600, -1800, -1, 0, 1, 1800, 3600, 86400;
		for (sort { $a->[1] <=> $b->[1] } @times)
		{
			my ($p, $seconds) = @$_;
			my $at = int($seconds * SECOND);
			$at -= int(rand(SECOND)) if chance(0.3) && $at - SECOND > $last[$p] - 2 * SECOND;
			$last[$p] = $at if $at > $last[$p];
			push @messages, message($p, id => raw(++$id), k => or_null(0.05, pick('a', 'b', 'c')), v => raw(int(rand(100))), at => iso($at));
		}
	}
	return \@messages;
}

# keys of all types
sub odd_topic
{
	my ($from) = @_;
	my @state = map { { t => $from } } 0 .. 1;
	my @long = map { ('y' x 2700) . $_ } 1 .. 3;
	my @messages;
	for my $id (1 .. 900)
	{
		my $p = int(rand(2));
		push @messages, message(
			$p,
			id => raw($id),
			at => iso(next_time($state[$p], 1)),
			v => or_null(0.1, raw(int(rand(1000)))),
			k_int2 => or_null(0.1, raw(pick(-32768, 0, 7, 32767))),
			k_int8 => or_null(0.1, raw(pick('9223372036854775807', '-9223372036854775808', 0, 1))),
			k_float4 => or_null(0.1, raw(pick('0', '-0.0', '1.1', '"NaN"', '"Infinity"', '3.4e38'))),
			k_bool => or_null(0.2, raw(pick('true', 'false'))),
			k_date => or_null(0.1, pick('2024-02-29', '2024-03-01', 'infinity', '-infinity', '0044-03-15 BC')),
			k_ts => or_null(0.1, pick('2024-02-29 00:00:00', '2024-02-29 00:00:00.000001', 'infinity')),
			k_time => or_null(0.1, pick('00:00:00', '24:00:00', '12:00:00.5')),
			k_timetz => or_null(0.1, pick('12:00:00+00', '13:00:00+01', '12:00:00+02')),
			k_interval => or_null(0.1, pick('1 day', '24:00:00', '1 mon', '30 days', '720:00:00', '-1 day')),
			k_mood => or_null(0.1, pick('sad', 'ok', 'happy')),
			k_domain => or_null(0.1, raw(pick(1, 2, 3, 99))),
			k_num => or_null(0.1, raw(pick('1', '1.0', '1.00', '"NaN"', '0', '-0', '1e20', '100000000000000000000.0'))),
			k_char => or_null(0.1, pick('a', 'a ', 'b', '', 'ä')),
			k_varchar => or_null(0.1, pick('a', 'a ', 'b', '')),
			k_bytea => or_null(0.1, pick('\\x', '\\x00', '\\x0001', '\\xff')),
			k_inet => or_null(0.1, pick('10.0.0.1', '10.0.0.1/24', '10.0.0.1/32', '::1', '2001:db8::/32')),
			k_mac => or_null(0.1, pick('08:00:2b:01:02:03', '08-00-2b-01-02-03', '08002b010204')),
			k_bit => or_null(0.1, pick('0', '1', '01', '010', '')),
			k_money => or_null(0.1, pick('$1.00', '1', '$2.50')),
			k_ints => or_null(0.1, raw(pick('[1,2]', '[2,1]', '[]', '[1,null]', '[1]'))),
			k_nums => or_null(0.1, raw(pick('[1.0,2]', '[1,2.00]', '[2]', '[null]'))),
			k_texts => or_null(0.1, raw(pick('["a","b"]', '["a,b"]', '[]', '[""]', '[null]'))),
			k_json => or_null(0.1, raw(pick('{"a":1,"b":2}', '{"b":2,"a":1}', '{"a":1.0,"b":2}', '1', '1.0', '"1"', '[]', 'null'))),
			k_pair => or_null(0.1, pick('(1,a,1.0)', '(1,a,1.00)', '(1,b,)', '(,,)', '(0,"",0)')),
			k_range => or_null(0.1, pick('[1,3)', '[1,2]', 'empty', '[1,)', '(,)')),
			k_long => or_null(0.1, pick(@long, 'y')),
			k_label => or_null(0.1, pick('Ab', 'ab', 'AB', 'b')));
	}
	return \@messages;
}

# for the generated queries
sub gen_topic
{
	my ($from) = @_;
	my @state = map { { t => $from + $_ * 120 * SECOND } } 0 .. 2;
	my @messages;
	for my $id (1 .. 2000)
	{
		my $p = pick(0, 0, 0, 1, 2);
		push @messages, message(
			$p,
			id => raw($id),
			at => iso(next_time($state[$p], 1.5)),
			k1 => or_null(0.1, pick('a', 'b', 'c', 'A', '', 'ö')),
			k2 => or_null(0.1, raw(int(rand(5)) - 2)),
			k3 => or_null(0.1, raw(pick('1', '1.0', '1.00', '2', '"NaN"', '-0', '0.0'))),
			k4 => or_null(0.1, raw(pick('0', '-0.0', '"NaN"', '"-Infinity"', '2.5'))),
			k5 => or_null(0.2, raw(pick('true', 'false'))),
			k6 => or_null(0.1, pick(@uuids[ 0 .. 3 ])),
			k7 => or_null(0.1, pick('2024-02-29', '2024-03-01', '1999-12-31')),
			v1 => or_null(0.1, raw(int(rand(2000)) - 1000)),
			v2 => or_null(0.1, raw(int(rand(4e15)) - 2e15)),
			v3 => or_null(0.1, number()),
			v4 => or_null(0.1, raw(sprintf('%.12f', 0.1 + rand(10)))),
			v5 => or_null(0.1, pick('', 'x', 'Y', 'zz', 'ß', 'text ' . int(rand(50)))),
			v6 => or_null(0.1, pick('1 day', '24:00:00', '1 mon', '-00:00:05', '00:10:00')),
			v7 => or_null(0.1, iso($from + int(rand(1e6)) * SECOND)));
	}
	return \@messages;
}

my $tx_columns = <<'SQL';
id bigint, card text, city text, amount numeric, score float8, rate float8, n int, big bigint, flag boolean, u uuid,
at timestamptz NOT NULL, note text, day date, i interval, code numeric, spec float8, tags text[]
SQL

my %columns = (
	tx => "$tx_columns, part int OPTIONS (kafka 'partition'), off bigint OPTIONS (kafka 'offset')",
	other => "$tx_columns, part int OPTIONS (kafka 'partition'), off bigint OPTIONS (kafka 'offset')",
	none => $tx_columns,
	dst => 'id bigint, k text, v int, at timestamptz NOT NULL',
	odd => <<'SQL',
id bigint, at timestamptz NOT NULL, v int, k_int2 int2, k_int8 int8, k_float4 float4, k_bool bool, k_date date, k_ts timestamp, k_time time,
k_timetz timetz, k_interval interval, k_mood public.mood, k_domain public.small, k_num numeric, k_char char(3), k_varchar varchar(5),
k_bytea bytea, k_inet inet, k_mac macaddr, k_bit varbit, k_money money, k_ints int[], k_nums numeric[], k_texts text[], k_json jsonb,
k_pair public.pair, k_range int4range, k_long text, k_label text
SQL
	gen => <<'SQL');
id bigint, at timestamptz NOT NULL, k1 text, k2 int, k3 numeric, k4 float8, k5 boolean, k6 uuid, k7 date, v1 int, v2 bigint, v3 numeric,
v4 float8, v5 text, v6 interval, v7 timestamptz, part int OPTIONS (kafka 'partition'), off bigint OPTIONS (kafka 'offset')
SQL

# before the foreign tables: types, functions, aggregates, lookup tables
my $setup = <<'SQL';
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TYPE pair AS (a int, b text, c numeric);

-- no combine function, state of type numeric[], final function
CREATE FUNCTION mean_step(numeric[], numeric) RETURNS numeric[] IMMUTABLE LANGUAGE sql
	AS $$ SELECT CASE WHEN $2 IS NULL THEN $1 ELSE ARRAY[$1[1] + 1, $1[2] + $2] END $$;
CREATE FUNCTION mean_end(numeric[]) RETURNS numeric IMMUTABLE LANGUAGE sql AS $$ SELECT $1[2] / nullif($1[1], 0) $$;
CREATE AGGREGATE mean(numeric) (SFUNC = mean_step, STYPE = numeric[], INITCOND = '{0,0}', FINALFUNC = mean_end);
-- with a combine function, strict, without an initial condition: the first value is the state
CREATE FUNCTION larger(int, int) RETURNS int IMMUTABLE STRICT LANGUAGE sql AS $$ SELECT CASE WHEN $1 > $2 THEN $1 ELSE $2 END $$;
CREATE AGGREGATE largest(int) (SFUNC = larger, STYPE = int, COMBINEFUNC = larger, PARALLEL = safe);
-- strict, with an initial condition, PL/pgSQL, parallel unsafe
CREATE FUNCTION count_even_step(bigint, int) RETURNS bigint STRICT LANGUAGE plpgsql
	AS $$ BEGIN IF $2 % 2 = 0 THEN RETURN $1 + 1; END IF; RETURN $1; END $$;
CREATE AGGREGATE count_even(int) (SFUNC = count_even_step, STYPE = bigint, INITCOND = '0');
-- not strict: NULLs count, the state may become NULL
CREATE FUNCTION null_if_null_step(bigint, int) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$ SELECT $1 + $2 $$;
CREATE AGGREGATE sum_or_null(int) (SFUNC = null_if_null_step, STYPE = bigint, INITCOND = '0');
-- polymorphic, with a combine function
CREATE FUNCTION lesser(anyelement, anyelement) RETURNS anyelement IMMUTABLE STRICT LANGUAGE sql
	AS $$ SELECT CASE WHEN $1 <= $2 THEN $1 ELSE $2 END $$;
CREATE AGGREGATE smallest(anyelement) (SFUNC = lesser, STYPE = anyelement, COMBINEFUNC = lesser, PARALLEL = safe);
-- several arguments, a state of composite type, polymorphic final function with extra arguments
CREATE TYPE span AS (lo bigint, hi bigint);
CREATE FUNCTION span_step(span, bigint, bigint) RETURNS span IMMUTABLE LANGUAGE sql
	AS $$ SELECT ROW(least(($1).lo, $2), greatest(($1).hi, $3))::span $$;
CREATE FUNCTION span_join(span, span) RETURNS span IMMUTABLE LANGUAGE sql
	AS $$ SELECT ROW(least(($1).lo, ($2).lo), greatest(($1).hi, ($2).hi))::span $$;
CREATE FUNCTION span_end(span, bigint, bigint) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT ($1).lo || '..' || ($1).hi $$;
CREATE AGGREGATE span_of(bigint, bigint) (SFUNC = span_step, STYPE = span, COMBINEFUNC = span_join, FINALFUNC = span_end,
	FINALFUNC_EXTRA, INITCOND = '(,)', PARALLEL = safe);
-- internal state of a built-in transition function without serialisation
CREATE AGGREGATE collect(anynonarray) (SFUNC = array_agg_transfn, STYPE = internal, FINALFUNC = array_agg_finalfn, FINALFUNC_EXTRA);
-- variadic
CREATE FUNCTION any_step(int, VARIADIC int[]) RETURNS int IMMUTABLE LANGUAGE sql
	AS $$ SELECT $1 + (SELECT count(*)::int FROM unnest($2) x WHERE x > 0) $$;
CREATE AGGREGATE positives(VARIADIC int[]) (SFUNC = any_step, STYPE = int, INITCOND = '0');
CREATE FUNCTION label(n bigint) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN '<' || n || '>'; END $$;

CREATE TABLE card (card text PRIMARY KEY, owner text, "limit" numeric NOT NULL);
INSERT INTO card SELECT 'card-' || i, nullif('owner ' || i % 7, 'owner 3'), i * 10 FROM generate_series(1, 30) i;
CREATE TABLE card_group (card text, grp int);
INSERT INTO card_group SELECT 'card-' || i, g FROM generate_series(1, 40) i, generate_series(1, i % 4) g;
CREATE TABLE place (city text PRIMARY KEY, country text);
INSERT INTO place VALUES ('Berlin', 'DE'), ('Köln', 'DE'), ('São Paulo', 'BR'), ('', '??');
CREATE TABLE setting (name text PRIMARY KEY, value numeric);
INSERT INTO setting VALUES ('low', 100), ('factor', 1.5), ('few', 3);
CREATE VIEW owner_cards AS SELECT owner, count(*) AS cards, max("limit") AS top FROM card GROUP BY owner;
SQL

my $icu = <<'SQL';
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION any_accent (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
SQL

# { setup, icu, columns => { table => definition }, topics => { name => [ partitions, messages ] } }
sub oracle_data
{
	my ($seed) = @_;
	srand($seed);
	# mktime is to count in UTC
	local $ENV{TZ} = 'UTC';
	POSIX::tzset();
	my $from = POSIX::mktime(0, 40, 22, 30, 5, 125) * SECOND;		# 2025-06-30 22:40 UTC
	return {
		setup => $setup,
		icu => $icu,
		columns => \%columns,
		topics => {
			tx => [ 4, tx_topic($from) ],
			other => [ 2, other_topic($from) ],
			none => [ 2, [] ],
			dst => [ 2, dst_topic() ],
			odd => [ 2, odd_topic($from) ],
			gen => [ 3, gen_topic($from) ]
		}
	};
}

1;

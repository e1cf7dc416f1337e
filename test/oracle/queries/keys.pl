# What is grouped by: types, expressions, grouping sets.
use strict;
use warnings;

my @odd;	# one query for each type of odd

# equal values of these may look different
my %by_value = map { $_ => 1 } qw(k_interval k_num k_nums k_json k_pair k_float4);
# their operator classes are not "equal image", and the design names no encoder for them
my %may_refuse = map { $_ => 1 } qw(k_interval k_ints k_nums k_texts k_json k_range k_pair);
my %catches = (
	k_int2     => 'sign extension, NULL taken for 0',
	k_int8     => 'keys cut to 32 bits',
	k_float4   => '-0 and 0, NaN and NaN that are two keys',
	k_bool     => 'false and NULL that are one key',
	k_date     => 'infinite dates and dates before Christ',
	k_ts       => 'microseconds that are lost',
	k_time     => '24:00 and 0:00 that are one key',
	k_timetz   => '12:00+00 and 13:00+01 are not equal',
	k_interval => '1 day and 24 hours that are two keys',
	k_mood     => 'enums, whose OIDs are not their order',
	k_domain   => 'domains: the type below compares',
	k_num      => '1.0 and 1.00, 0 and -0 that are two keys',
	k_char     => 'char(n): blanks at the end',
	k_varchar  => 'varchar: blanks at the end count',
	k_bytea    => 'bytes 0, and an empty value that is NULL',
	k_inet     => 'an address with and without its mask',
	k_mac      => 'types of fixed length that are passed by reference',
	k_bit      => '01 and 010 that are one key because the last byte is padded',
	k_money    => 'a type of 8 bytes that is none of the usual ones',
	k_ints     => 'arrays: NULL elements, empty ones',
	k_nums     => '{1.0} and {1.00} that are two keys',
	k_texts    => '{"a,b"} and {a,b} that are one key',
	k_json     => 'jsonb: order of keys, 1 and 1.0',
	k_pair     => 'composites: (1,a,1.0) and (1,a,1.00), NULL fields, a row of NULLs that is NULL',
	k_range    => '[1,3) and [1,2]',
	k_long     => 'keys of 2.7 kB that differ in their last byte',
	k_label    => 'upper and lower case that are one key');
for my $key (sort keys %catches)
{
	push @odd,
	  {
		name => "key_$key",
		catches => "keys of one type: $catches{$key}",
		select => "SELECT t.$key, w.window_start, w.window_end, count(*) AS n, sum(t.v) AS s, min(t.id) AS first FROM odd t, streamproc.tumble(t.at, '2 min') w"
		  . " GROUP BY t.$key, w.window_start, w.window_end",
		by_value => [ $by_value{$key} ? $key : () ],
		may_refuse => $may_refuse{$key}
	  };
}

return (
	@odd,
	{	name => 'key_text',
		catches => 'text keys: empty, NULL, several bytes a character, composed and decomposed',
		select => q{SELECT t.city, w.window_start, w.window_end, count(*) AS n, max(t.id) AS last FROM tx t, streamproc.tumble(t.at, '1 min') w
			GROUP BY t.city, w.window_start, w.window_end} },
	{	name => 'key_uuid',
		catches => 'keys of 16 bytes; many keys in each window',
		select => q{SELECT t.u, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '15 min') w
			GROUP BY t.u, w.window_start, w.window_end} },
	{	name => 'key_float8',
		catches => '-0 and 0, or two NaNs, that are two keys; infinities',
		select => q{SELECT t.spec, w.window_start, w.window_end, count(*) AS n, array_agg(t.id ORDER BY t.id) AS ids FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.spec, w.window_start, w.window_end} },
	{	name => 'key_nan',
		catches => 'NaN as Infinity - Infinity makes it, with another sign, that is another key',
		select => q{SELECT t.spec - t.spec AS z, t.spec IS NULL AS none, w.window_start, w.window_end, count(*) AS n, count(DISTINCT t.spec - t.spec) AS d
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.spec - t.spec, t.spec IS NULL, w.window_start, w.window_end} },
	{	name => 'key_numeric',
		catches => '1, 1.0 and 1.00 that are several keys; NaN, Infinity',
		select => q{SELECT t.code, w.window_start, w.window_end, count(*) AS n, array_agg(t.id ORDER BY t.id) AS ids FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.code, w.window_start, w.window_end}, by_value => ['code'] },
	{	name => 'key_two',
		catches => '(NULL, a) and (a, NULL), (ab, c) and (a, bc) that are one key',
		select => q{SELECT left(t.card, 6) AS a, right(t.card, 2) AS b, t.flag, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY left(t.card, 6), right(t.card, 2), t.flag, w.window_start, w.window_end} },
	{	name => 'key_many',
		catches => 'keys of nine columns, fixed and varying lengths, NULL anywhere',
		select => q{SELECT t.flag, t.city, t.n % 3 AS m, t.code, t.day, t.spec, t.tags IS NULL AS z, left(t.u::text, 1) AS u, w.window_end, w.window_start, count(*) AS n,
			min(t.id) AS first FROM tx t, streamproc.tumble(t.at, '30 min') w
			GROUP BY t.flag, t.city, t.n % 3, t.code, t.day, t.spec, t.tags IS NULL, left(t.u::text, 1), w.window_end, w.window_start},
		by_value => ['code'] },
	{	name => 'key_nulls',
		catches => 'which columns of a key are NULL, beyond the eighth',
		select => q{SELECT t.id % 2 AS a, t.id % 3 AS b, t.flag, t.n > 0 AS c, t.n % 2 AS d, t.rate > 1.5 AS e, t.amount > 0 AS f, t.id % 5 > 3 AS g,
			t.day > '2024-02-25' AS h, left(t.city, 1) AS i, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 day') w
			GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, w.window_start, w.window_end} },
	{	name => 'key_same_hash',
		catches => 'different keys of one hash (32 bits of XXH3) that are one key: alone, in slices, and where functions run',
		text => q{INSERT INTO sink SELECT CASE WHEN t.flag THEN 'k118257' ELSE 'k272859' END, w.window_start, w.window_end, count(*), sum(t.n)
				FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY 1, 2, 3;
			INSERT INTO sink SELECT CASE WHEN t.flag THEN 'k245429' ELSE 'k462958' END, w.window_start, w.window_end, count(*), sum(t.amount)
				FROM tx t, streamproc.hop(t.at, '5 min', '10 min') w GROUP BY 1, 2, 3},
		sink => 'CREATE TABLE sink (k text, a timestamptz, b timestamptz, n bigint, s numeric)' },
	{	name => 'key_row',
		catches => 'an anonymous composite as a key',
		select => q{SELECT ROW(t.flag, t.n % 2)::text AS r, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY ROW(t.flag, t.n % 2), w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'key_bpchar',
		catches => 'bpchar without a length: equal with and without blanks at the end, though its operator class says that equal is identical',
		select => q{SELECT length((left(t.card, 6) || repeat(' ', abs(t.n % 3)))::bpchar) AS l, w.window_start, w.window_end, count(*) AS n, min(t.id) AS first
			FROM tx t, streamproc.tumble(t.at, '30 min') w
			GROUP BY (left(t.card, 6) || repeat(' ', abs(t.n % 3)))::bpchar, w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'key_citext',
		catches => 'a type of an extension whose = is not that of its bytes',
		select => q{SELECT lower(t.city::public.citext) AS city, w.window_start, w.window_end, count(*) AS n, min(t.id) AS first FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.city::public.citext, w.window_start, w.window_end}, may_refuse => 1, needs => 'citext' },
	{	name => 'key_any_case', may_refuse => 1,
		catches => 'a nondeterministic collation: Berlin and BERLIN, and composed and decomposed letters, are one key',
		select => q{SELECT t.city COLLATE any_case AS city, w.window_start, w.window_end, count(*) AS n, min(t.id) AS first FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.city COLLATE any_case, w.window_start, w.window_end}, by_value => ['city'], needs => 'icu' },
	{	name => 'key_any_accent', may_refuse => 1,
		catches => 'the same without accents, with a second key, and DISTINCT, min and max under that collation',
		select => q{SELECT t.city COLLATE any_accent AS city, t.flag, w.window_start, w.window_end, count(*) AS n, count(DISTINCT t.city COLLATE any_case) AS d,
			count(DISTINCT t.note COLLATE any_accent) AS e, max(t.id) AS last FROM tx t, streamproc.tumble(t.at, '20 min') w
			GROUP BY t.city COLLATE any_accent, t.flag, w.window_start, w.window_end}, by_value => ['city'], needs => 'icu' },
	{	name => 'aggregate_collation',
		catches => 'aggregates that compare by another collation than their argument\'s',
		select => q{SELECT w.window_start, w.window_end, min(t.city COLLATE "und-x-icu") AS a, max(t.city COLLATE "und-x-icu") AS b, max(t.city COLLATE "C") AS c,
			string_agg(t.city, ',' ORDER BY t.city COLLATE "und-x-icu", t.id) AS d FROM tx t, streamproc.tumble(t.at, '5 min') w
			GROUP BY w.window_start, w.window_end}, needs => 'icu' },

	# ---- expressions ----

	{	name => 'key_expression',
		catches => 'group expressions that are not found again in the select list',
		select => q{SELECT lower(t.city) AS c, t.n / 100 AS h, t.n / 100 + 1 AS h1, 'x' || lower(t.city) AS x, w.window_start, w.window_end, count(*) AS n
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY lower(t.city), t.n / 100, w.window_start, w.window_end} },
	{	name => 'key_case_and_bool',
		catches => 'CASE, IS NULL and comparisons as keys',
		select => q{SELECT CASE WHEN t.amount > 500 THEN 'much' WHEN t.amount > 0 THEN 'some' END AS class, t.flag IS NULL AS f, t.amount > 0 AS p,
			w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '5 min') w
			GROUP BY CASE WHEN t.amount > 500 THEN 'much' WHEN t.amount > 0 THEN 'some' END, t.flag IS NULL, t.amount > 0, w.window_start, w.window_end} },
	{	name => 'key_by_number_and_alias',
		catches => 'GROUP BY of an ordinal and of a name of the select list',
		select => q{SELECT upper(coalesce(t.city, '?')) AS up, t.n % 2 AS odd, w.window_start, w.window_end, count(*) AS n
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY up, 2, 3, w.window_end} },
	{	name => 'key_of_time',
		catches => 'keys from the event time beside the window',
		select => q{SELECT (t.at AT TIME ZONE 'Asia/Tokyo')::date AS d, extract(minute FROM t.at)::int / 15 AS q, w.window_start, w.window_end, count(*) AS n
			FROM tx t, streamproc.tumble(t.at, '1 hour') w GROUP BY (t.at AT TIME ZONE 'Asia/Tokyo')::date, extract(minute FROM t.at)::int / 15,
			w.window_start, w.window_end} },
	{	name => 'key_constant',
		catches => 'constants among the keys, and the same key twice',
		select => q{SELECT 1 AS one, t.flag, t.flag AS again, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY 1, t.flag, t.flag, w.window_start, w.window_end} },
	{	name => 'key_not_selected',
		catches => 'keys that are not in the select list: equal rows must not become one',
		select => q{SELECT w.window_start, count(*) AS n, min(t.flag::int) AS f FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, t.n % 2, w.window_start, w.window_end} },
	{	name => 'key_only_selected',
		catches => 'no aggregate at all: GROUP BY alone makes keys distinct',
		select => q{SELECT t.card, w.window_start, w.window_end FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'distinct_rows',
		catches => 'SELECT DISTINCT, which is a grouping too',
		select => q{SELECT DISTINCT t.card, t.flag, w.window_start, w.window_end FROM tx t, streamproc.tumble(t.at, '10 min') w}, may_refuse => 1 },
	{	name => 'having',
		catches => 'HAVING over aggregates that are selected, over others, with FILTER; three-valued',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end HAVING count(*) > 3 AND sum(t.amount) > 100 AND count(*) FILTER (WHERE t.flag) < 20 AND max(t.n) <> 7} },
	{	name => 'having_key',
		catches => 'HAVING over keys (PostgreSQL moves it into WHERE) and over the window',
		select => q{SELECT t.card, w.window_start, w.window_end, sum(t.n) AS s FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end
			HAVING t.card LIKE 'card-1%' AND (w.window_start > '2025-06-30 23:00Z' OR sum(t.n) > 0) AND w.window_end - w.window_start = '10 min'} },
	{	name => 'having_subquery',
		catches => 'a subquery over a table in HAVING, which runs where no row query is',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end HAVING count(*) > (SELECT value FROM setting WHERE name = 'few')} },
	{	name => 'having_only',
		catches => 'aggregates only in HAVING',
		select => q{SELECT t.card, w.window_start FROM tx t, streamproc.tumble(t.at, '5 min') w GROUP BY t.card, w.window_start, w.window_end HAVING count(*) = 2} },
	{	name => 'select_expressions',
		catches => 'expressions over keys, windows and aggregates together; division by zero that the batch avoids; functions above aggregates',
		select => q{SELECT t.card || ':' || count(*) AS a, round(avg(t.amount), 2) AS b, CASE WHEN count(t.n) > 0 THEN sum(t.n) / count(t.n) END AS c,
			coalesce(sum(t.n) FILTER (WHERE t.n > 990), 0) AS d, ARRAY[min(t.n), max(t.n)] AS e, (array_agg(t.id ORDER BY t.id))[1] AS f,
			w.window_end - w.window_start AS g, extract(epoch FROM w.window_start) AS h, label(count(*)) AS i, w.window_start + sum(t.i) AS j,
			to_jsonb(max(t.at)) AS k, greatest(sum(t.n), count(*)) AS l, count(*) > 5 AND bool_or(t.flag) AS m, NULL::int AS o
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end}, },
	{	name => 'select_set_returning',
		catches => 'rows made of one group',
		select => q{SELECT t.card, w.window_start, unnest(array_agg(t.id ORDER BY t.id)) AS id FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end}, may_refuse => 1 },

	# ---- grouping sets ----

	{	name => 'grouping_sets',
		catches => 'rows of one set that lie in the state of another: NULL of the set and NULL of the column',
		select => q{SELECT t.card, t.flag, w.window_start, w.window_end, GROUPING(t.card, t.flag) AS g, count(*) AS n, sum(t.amount) AS s
			FROM tx t, streamproc.tumble(t.at, '30 min') w
			GROUP BY GROUPING SETS ((t.card, w.window_start, w.window_end), (t.flag, w.window_start, w.window_end), (w.window_start, w.window_end))} },
	{	name => 'rollup',
		catches => 'ROLLUP beside the window, GROUPING() in an expression',
		select => q{SELECT t.city, t.flag, w.window_start, w.window_end, GROUPING(t.city) * 10 + GROUPING(t.flag) AS g, count(*) AS n, count(DISTINCT t.card) AS d
			FROM tx t, streamproc.tumble(t.at, '30 min') w GROUP BY w.window_start, w.window_end, ROLLUP (t.city, t.flag)} },
	{	name => 'cube',
		catches => 'CUBE of three, with HAVING over GROUPING()',
		select => q{SELECT t.flag, t.n % 3 AS m, t.day, w.window_start, w.window_end, GROUPING(t.flag, t.n % 3, t.day) AS g, count(*) AS n, avg(t.n) AS a
			FROM tx t, streamproc.tumble(t.at, '1 hour') w GROUP BY w.window_start, w.window_end, CUBE (t.flag, t.n % 3, t.day)
			HAVING GROUPING(t.day) = 1 OR count(*) > 2} },
	{	name => 'grouping_sets_numeric',
		catches => 'keys that are kept as they came, in sets that they are not part of',
		select => q{SELECT t.code, t.spec, t.flag, w.window_start, w.window_end, GROUPING(t.code, t.spec, t.flag) AS g, count(*) AS n, sum(t.n) AS s
			FROM tx t, streamproc.tumble(t.at, '30 min') w GROUP BY w.window_start, w.window_end, GROUPING SETS ((t.code, t.flag), (t.spec), ())},
		by_value => ['code'] },
	{	name => 'rollup_join',
		catches => 'grouping sets above a join: columns that are not found in the plan below',
		select => q{SELECT t.flag, c.owner, w.window_start, w.window_end, count(*) AS n FROM tx t LEFT JOIN card c ON c.card = t.card, streamproc.tumble(t.at, '30 min') w
			GROUP BY w.window_start, w.window_end, ROLLUP (c.owner, t.flag)} },
	{	name => 'rollup_join_cumulate',
		catches => 'the same with slices, and an expression among the sets',
		select => q{SELECT left(t.city, 1) AS c, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, largest(t.n) FILTER (WHERE t.at > '2025-06-30 22:50Z') AS l
			FROM tx t LEFT JOIN card_group g ON g.grp = t.n % 3 AND g.card < 'card-12', streamproc.cumulate(t.at, '1 min', '5 min') w
			GROUP BY w.window_start, w.window_end, ROLLUP (left(t.city, 1)) HAVING bool_or(t.flag)} },
	{	name => 'grouping_set_twice',
		catches => 'the same set twice, which gives its rows twice',
		select => q{SELECT t.flag, w.window_start, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 hour') w
			GROUP BY w.window_start, w.window_end, GROUPING SETS ((t.flag), (t.flag), ())}, may_refuse => 1 },
	{	name => 'rollup_of_window',
		catches => 'sets without the window, which never close before the end',
		select => q{SELECT t.flag, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 hour') w
			GROUP BY ROLLUP ((w.window_start, w.window_end), t.flag)}, may_refuse => 1 },
);

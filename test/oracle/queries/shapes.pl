# What is around the aggregate: joins, subqueries, views, CTEs, several statements, sinks; and pipelines without one.
use strict;
use warnings;

my $by_card = 'SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS total FROM tx t, streamproc.tumble(t.at, \'10 min\') w
	GROUP BY t.card, w.window_start, w.window_end';
my $by_card_sink = 'CREATE TABLE sink (card text, a timestamptz, b timestamptz, n bigint, total numeric);';

return (
	# ---- WITH ----

	{	name => 'with_above_insert',
		catches => 'a WITH query of the INSERT itself, which the SELECT that groups does not find',
		text => q{WITH q AS (SELECT t.card, t.at, t.amount FROM tx t WHERE t.n > 0), r AS MATERIALIZED (SELECT q.card, q.at, q.amount FROM q)
			INSERT INTO sink SELECT r.card, w.window_start, count(*), sum(r.amount) FROM r, streamproc.tumble(r.at, '1 hour') w GROUP BY r.card, w.window_start},
		sink => 'CREATE TABLE sink (card text, a timestamptz, n bigint, s numeric)' },
	{	name => 'with_twice',
		catches => 'a WITH query below a group that is read twice, and so is a plan of its own; results that are upserted',
		select => q{WITH q AS (SELECT t.card, t.n FROM tx t WHERE t.n > 0), r AS (SELECT q.card, q.n, 'a' AS side FROM q UNION ALL SELECT q.card, -q.n, 'b' FROM q)
			SELECT r.card, r.side, count(*) AS n, sum(r.n) AS s FROM r GROUP BY r.card, r.side}, upsert => [ 'card', 'side' ] },
	{	name => 'with_deep',
		catches => 'WITH queries of several levels, each named in a subquery further down',
		text => q{WITH q AS (SELECT t.* FROM tx t) INSERT INTO sink SELECT x.card, x.n FROM (
			WITH r AS (SELECT q.card, q.at FROM q WHERE q.n > 0) SELECT y.card, count(*) AS n FROM (SELECT r.card, r.at FROM r) y, streamproc.tumble(y.at, '1 hour') w GROUP BY y.card, w.window_start) x},
		sink => 'CREATE TABLE sink (card text, n bigint)' },

	# ---- below the aggregate ----

	{	name => 'join_inner',
		catches => 'a join below the aggregate; keys and arguments from the table',
		select => q{SELECT c.owner, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, max(c."limit") AS l
			FROM tx t JOIN card c ON c.card = t.card, streamproc.tumble(t.at, '10 min') w GROUP BY c.owner, w.window_start, w.window_end} },
	{	name => 'join_left',
		catches => 'rows without a partner, a condition on the table\'s side',
		select => q{SELECT c.owner, w.window_start, w.window_end, count(*) AS n, count(c.card) AS known, sum(t.amount) FILTER (WHERE t.amount > c."limit") AS over
			FROM tx t LEFT JOIN card c ON c.card = t.card AND c."limit" > 50, streamproc.tumble(t.at, '10 min') w
			GROUP BY c.owner, w.window_start, w.window_end} },
	{	name => 'join_fan_out',
		catches => 'a row that meets several, also in the same group',
		select => q{SELECT g.grp, w.window_start, w.window_end, count(*) AS n, sum(t.n) AS s, count(DISTINCT t.id) AS d
			FROM tx t JOIN card_group g ON g.card = t.card OR g.grp = t.n % 3, streamproc.tumble(t.at, '10 min') w
			GROUP BY g.grp, w.window_start, w.window_end} },
	{	name => 'join_two',
		catches => 'two joins, USING, and a table that is a view with an aggregate of its own, which is not to be taken for ours',
		select => q{SELECT p.country, o.cards, w.window_start, w.window_end, count(*) AS n, max(o.top) AS top
			FROM tx t JOIN card c USING (card) LEFT JOIN place p ON p.city = t.city LEFT JOIN owner_cards o ON o.owner = c.owner, streamproc.tumble(t.at, '15 min') w
			GROUP BY p.country, o.cards, w.window_start, w.window_end} },
	{	name => 'join_aggregated_table',
		catches => 'GROUP BY over a table inside of the row query',
		select => q{SELECT g.groups, w.window_start, w.window_end, count(*) AS n FROM tx t
			JOIN (SELECT card, count(*) AS groups FROM card_group GROUP BY card) g ON g.card = t.card, streamproc.tumble(t.at, '10 min') w
			GROUP BY g.groups, w.window_start, w.window_end} },
	{	name => 'join_primary_key',
		catches => 'columns by functional dependency: GROUP BY of a primary key gives all columns of its table',
		select => q{SELECT c.card, c.owner, c."limit", w.window_start, count(*) AS n FROM tx t JOIN card c ON c.card = t.card, streamproc.tumble(t.at, '10 min') w
			GROUP BY c.card, w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'subquery_in_argument',
		catches => 'scalar subqueries over tables below the aggregate, uncorrelated and correlated',
		select => q{SELECT t.flag, w.window_start, w.window_end, sum(t.amount * (SELECT value FROM setting WHERE name = 'factor')) AS a,
			max((SELECT c."limit" FROM card c WHERE c.card = t.card)) AS b FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.flag, w.window_start, w.window_end} },
	{	name => 'subquery_in_where',
		catches => 'EXISTS, IN and scalar subqueries over tables in WHERE',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w
			WHERE t.amount > (SELECT value FROM setting WHERE name = 'low') AND t.card IN (SELECT card FROM card WHERE owner IS NOT NULL)
				AND EXISTS (SELECT FROM card_group g WHERE g.card = t.card AND g.grp < 3)
			GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'subquery_in_key',
		catches => 'a scalar subquery as a key',
		select => q{SELECT (SELECT c.owner FROM card c WHERE c.card = t.card) AS owner, w.window_start, w.window_end, count(*) AS n
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY 1, w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'from_subquery',
		catches => 'a subquery in FROM below the aggregate that renames, filters and computes',
		select => q{SELECT s.k, w.window_start, w.window_end, sum(s.cents) AS c, count(*) AS n
			FROM (SELECT left(card, 6) AS k, at AS moment, (amount * 100)::numeric(40,0) AS cents FROM tx WHERE amount < 1e30 AND NOT flag) s,
				streamproc.tumble(s.moment, '10 min') w GROUP BY s.k, w.window_start, w.window_end} },
	{	name => 'from_subquery_with_window',
		catches => 'the window inside of the subquery',
		select => q{SELECT s.card, s.b, count(*) AS n FROM (SELECT t.card, w.window_start AS a, w.window_end AS b FROM tx t, streamproc.tumble(t.at, '5 min') w WHERE t.n > 0) s
			GROUP BY s.card, s.a, s.b} },
	{	name => 'lateral_values',
		catches => 'several rows out of one below the aggregate',
		select => q{SELECT v.what, w.window_start, w.window_end, count(*) AS n, sum(v.x) AS s FROM tx t, streamproc.tumble(t.at, '10 min') w,
			LATERAL (VALUES ('n', t.n::numeric), ('amount', t.amount)) v (what, x) GROUP BY v.what, w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'unnest',
		catches => 'elements of an array as rows',
		select => q{SELECT e.tag, w.window_start, w.window_end, count(*) AS n, count(DISTINCT t.id) AS d FROM tx t, streamproc.tumble(t.at, '10 min') w, unnest(t.tags) e (tag)
			GROUP BY e.tag, w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'view_below',
		catches => 'a view over the topic below the aggregate',
		setup => q{CREATE VIEW big_tx AS SELECT id, card, amount * 2 AS twice, at FROM tx WHERE amount > 200},
		select => q{SELECT b.card, w.window_start, w.window_end, count(*) AS n, sum(b.twice) AS s FROM big_tx b, streamproc.tumble(b.at, '10 min') w
			GROUP BY b.card, w.window_start, w.window_end} },
	{	name => 'view_totals',
		catches => 'a view over the topic below running totals',
		setup => 'CREATE VIEW v AS SELECT city AS c, n FROM tx',
		select => q{SELECT v.c, count(*) AS n, sum(v.n) AS s FROM v GROUP BY v.c}, upsert => ['c'] },
	{	name => 'view_of_aggregate',
		catches => 'a view that holds the aggregate, and a view over it',
		setup => qq{CREATE VIEW card_10m AS $by_card; CREATE VIEW busy AS SELECT card, window_start, n + 1 AS n1 FROM card_10m WHERE n > 2},
		select => q{SELECT b.card, b.window_start, b.n1 FROM busy b WHERE b.card IS NOT NULL} },
	{	name => 'union_below',
		catches => 'two topics below one aggregate: watermarks of both, one state, positions of both',
		select => q{SELECT x.card, w.window_start, w.window_end, count(*) AS n, sum(x.amount) AS s, min(x.id) AS a, max(x.id) AS b
			FROM (SELECT id, card, amount, at FROM tx UNION ALL SELECT id, card, amount, at FROM other) x, streamproc.tumble(x.at, '10 min') w
			GROUP BY x.card, w.window_start, w.window_end} },
	{	name => 'union_same_topic',
		catches => 'one topic twice below one aggregate',
		select => q{SELECT x.kind, w.window_start, w.window_end, count(*) AS n, sum(x.v) AS s
			FROM (SELECT 'n' AS kind, n::numeric AS v, at FROM tx WHERE n > 0 UNION ALL SELECT 'big', amount, at FROM tx WHERE amount > 1000) x, streamproc.tumble(x.at, '5 min') w
			GROUP BY x.kind, w.window_start, w.window_end} },
	{	name => 'union_with_empty',
		catches => 'a topic without a message beside another, which must not hold the watermark',
		select => q{SELECT x.flag, w.window_start, w.window_end, count(*) AS n FROM (SELECT flag, at FROM other UNION ALL SELECT flag, at FROM none) x,
			streamproc.tumble(x.at, '30 min') w GROUP BY x.flag, w.window_start, w.window_end} },
	{	name => 'union_totals',
		catches => 'running totals over two topics, and views over both',
		setup => 'CREATE VIEW both_topics AS SELECT id, city, n FROM tx UNION ALL SELECT id, city, n FROM other WHERE n > 0',
		select => q{SELECT b.city, count(*) AS n, sum(b.n) AS s, max(b.id) AS last FROM both_topics b GROUP BY b.city}, upsert => ['city'] },

	# ---- above the aggregate ----

	{	name => 'join_above',
		catches => 'an aggregate joined with a table: the node as the outer or the inner side, read again',
		select => qq{SELECT a.card, a.window_start, a.n, c.owner, c."limit" < a.total AS over FROM ($by_card) a JOIN card c ON c.card = a.card WHERE a.n > 1} },
	{	name => 'join_above_left',
		catches => 'the same outer, with several partners',
		select => qq{SELECT a.card, a.window_end, a.total, g.grp FROM ($by_card) a LEFT JOIN card_group g ON g.card = a.card AND g.grp > 1} },
	{	name => 'join_above_loop',
		catches => 'a join without equality, for which the aggregate is read once for each row of the table',
		select => qq{SELECT s.name, a.card, a.window_start, a.total FROM setting s, ($by_card) a WHERE a.total > s.value * 10} },
	{	name => 'subquery_above',
		catches => 'scalar subqueries over tables in the select list above the aggregate, uncorrelated and by a key',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) * (SELECT value FROM setting WHERE name = 'factor') AS a,
			(SELECT max("limit") FROM card) - sum(t.amount) AS b, (SELECT c.owner FROM card c WHERE c.card = t.card) AS c
			FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'filter_above',
		catches => 'conditions and expressions of a subquery around the aggregate, which PostgreSQL may push into HAVING or WHERE',
		select => qq{SELECT a.card || '!' AS card, a.window_end - interval '1 s' AS last, round(a.total, 1) AS r
			FROM ($by_card) a WHERE a.n BETWEEN 2 AND 10 AND a.card > 'card-2' AND a.window_start < '2025-07-01 00:00Z'} },
	{	name => 'cte',
		catches => 'the aggregate in a CTE, used once',
		text => qq{WITH a AS ($by_card) INSERT INTO sink SELECT * FROM a WHERE a.total IS NOT NULL}, sink => $by_card_sink },
	{	name => 'cte_materialized',
		catches => 'a CTE that stays a plan of its own',
		text => qq{INSERT INTO sink WITH a AS MATERIALIZED ($by_card) SELECT a.card, a.window_start, a.window_end, a.n, c."limit" FROM a JOIN card c USING (card)},
		sink => $by_card_sink },
	{	name => 'cte_rows',
		catches => 'WITH in front of INSERT, over rows that are grouped in the SELECT',
		text => q{WITH r AS (SELECT t.card, t.at, t.n FROM tx t WHERE t.n > 0), x AS (SELECT r.card, r.at, r.n + 1::bigint AS n FROM r)
			INSERT INTO sink SELECT x.card, w.window_start, count(*), sum(x.n) FROM x, streamproc.tumble(x.at, '10 min') w GROUP BY x.card, w.window_start},
		sink => 'CREATE TABLE sink (card text, a timestamptz, n bigint, s numeric)' },
	{	name => 'cte_rows_materialized',
		catches => 'rows of a WITH query that is kept apart, with a volatile function: it would be started with the output, too',
		text => q{INSERT INTO sink WITH r AS MATERIALIZED (SELECT t.card, t.at, t.n, random() AS r FROM tx t) SELECT r.card, w.window_start, count(*), sum(r.n)
			FROM r, streamproc.tumble(r.at, '10 min') w WHERE r.r >= 0 GROUP BY r.card, w.window_start},
		sink => 'CREATE TABLE sink (card text, a timestamptz, n bigint, s bigint)' },
	{	name => 'cte_twice',
		catches => 'a CTE that is read twice, whose rows must be the same both times',
		select => qq{WITH a AS MATERIALIZED ($by_card) SELECT x.card, x.window_start, x.n, y.card AS other FROM a x JOIN a y
			ON y.window_start = x.window_start AND y.n = x.n AND y.card > x.card}, may_refuse => 1 },
	{	name => 'cte_of_table',
		catches => 'a CTE over tables beside the topic',
		select => q{WITH rich AS (SELECT card FROM card WHERE "limit" > 100) SELECT t.card, w.window_start, count(*) AS n
			FROM tx t JOIN rich r ON r.card = t.card, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'cte_insert',
		catches => 'INSERT ... RETURNING in a CTE: both sinks get the rows, once',
		text => q{WITH x AS (
				INSERT INTO sink SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount) FROM tx t, streamproc.tumble(t.at, '10 min') w
				GROUP BY t.card, w.window_start, w.window_end RETURNING card, a, total)
			INSERT INTO sink2 SELECT x.card, x.a, x.total, c.owner FROM x LEFT JOIN card c USING (card) WHERE x.total > 1000},
		sink => $by_card_sink . 'CREATE TABLE sink2 (card text, a timestamptz, total numeric, owner text)' },
	{	name => 'union_above',
		catches => 'two aggregates of one statement',
		select => q{SELECT 'card' AS kind, t.card AS k, w.window_start, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end
			UNION ALL SELECT 'city', u.city, v.window_start, count(*) FROM tx u, streamproc.tumble(u.at, '20 min') v GROUP BY u.city, v.window_start, v.window_end},
		may_refuse => 1 },
	{	name => 'aggregates_joined',
		catches => 'two aggregates that are joined',
		select => q{SELECT a.window_start, a.n, b.n AS m FROM
			(SELECT w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w WHERE t.flag GROUP BY w.window_start, w.window_end) a JOIN
			(SELECT w.window_start, w.window_end, count(*) AS n FROM other t, streamproc.tumble(t.at, '10 min') w GROUP BY w.window_start, w.window_end) b
			USING (window_start)}, may_refuse => 1 },

	# ---- statements and sinks ----

	{	name => 'several_statements', may_refuse => 1,
		catches => 'several operators of one pipeline that share a state, a watermark or a batch wrongly',
		text => q{INSERT INTO s1 SELECT t.card, w.window_end, count(*) FROM tx t, streamproc.tumble(t.at, '1 min') w GROUP BY t.card, w.window_end;
			INSERT INTO s2 SELECT t.city, w.window_end, sum(t.amount) FROM tx t, streamproc.hop(t.at, '5 min', '20 min') w GROUP BY t.city, w.window_end;
			INSERT INTO s3 SELECT id, card, amount FROM tx WHERE amount > 900;
			INSERT INTO s4 SELECT city, count(*), max(n) FROM tx GROUP BY city ON CONFLICT (city) DO UPDATE SET n = EXCLUDED.n, m = EXCLUDED.m;
			INSERT INTO s2 SELECT 'all', w.window_end, count(*) FROM tx t, streamproc.cumulate(t.at, '10 min', '1 hour') w GROUP BY w.window_end},
		sink => q{CREATE TABLE s1 (card text, b timestamptz, n bigint); CREATE TABLE s2 (city text, b timestamptz, s numeric);
			CREATE TABLE s3 (id bigint, card text, amount numeric); CREATE TABLE s4 (city text, n bigint, m int, UNIQUE NULLS NOT DISTINCT (city))} },
	{	name => 'several_topics',
		catches => 'statements over different topics in one pipeline: each has its own watermark',
		text => q{INSERT INTO s1 SELECT t.card, w.window_end, count(*) FROM tx t, streamproc.tumble(t.at, '1 min') w GROUP BY t.card, w.window_end;
			INSERT INTO s2 SELECT d.k, w.window_end, sum(d.v) FROM dst d, streamproc.tumble(d.at, '1 day') w GROUP BY d.k, w.window_end;
			INSERT INTO s3 SELECT o.city, count(*) FROM other o GROUP BY o.city ON CONFLICT (city) DO UPDATE SET n = EXCLUDED.n},
		sink => q{CREATE TABLE s1 (card text, b timestamptz, n bigint); CREATE TABLE s2 (k text, b timestamptz, s bigint);
			CREATE TABLE s3 (city text, n bigint, UNIQUE NULLS NOT DISTINCT (city))} },
	{	name => 'conflict_nothing',
		catches => 'ON CONFLICT DO NOTHING for windows: keys that are there stay as they are',
		text => "INSERT INTO sink $by_card ON CONFLICT (card, a) DO NOTHING",
		sink => 'CREATE TABLE sink (card text, a timestamptz, b timestamptz, n bigint, total numeric, UNIQUE NULLS NOT DISTINCT (card, a))',
		fill => q{INSERT INTO sink SELECT 'card-' || c, a, NULL, -1 FROM generate_series(1, 40) c,
			generate_series('2025-06-30 22:00Z'::timestamptz, '2025-07-01 02:00Z', '20 min') a; INSERT INTO sink VALUES (NULL, '2025-06-30 23:10Z')} },
	{	name => 'conflict_window',
		catches => 'rows of windows that are inserted twice: each key and window comes once, so nothing may be updated',
		text => "INSERT INTO sink AS s $by_card ON CONFLICT (card, a) DO UPDATE SET n = s.n + EXCLUDED.n, total = -1",
		sink => 'CREATE TABLE sink (card text, a timestamptz, b timestamptz, n bigint, total numeric, UNIQUE NULLS NOT DISTINCT (card, a))' },
	{	name => 'conflict_accumulate',
		catches => 'windows added up in the sink: each once, also after a recovery',
		text => q{INSERT INTO sink AS s SELECT t.card, w.window_end, count(*), coalesce(sum(t.amount), 0), 1 FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end
			ON CONFLICT (card) DO UPDATE SET b = greatest(s.b, EXCLUDED.b), n = s.n + EXCLUDED.n, total = s.total + EXCLUDED.total, windows = s.windows + 1},
		batch => q{INSERT INTO sink SELECT x.card, max(x.b), sum(x.n), sum(x.total), count(*) FROM (
				SELECT t.card, w.window_end AS b, count(*) AS n, coalesce(sum(t.amount), 0) AS total FROM tx t, streamproc.tumble(t.at, '10 min') w
				GROUP BY t.card, w.window_start, w.window_end) x GROUP BY x.card},
		sink => q{CREATE TABLE sink (card text, b timestamptz, n bigint, total numeric, windows int, UNIQUE NULLS NOT DISTINCT (card))} },
	{	name => 'sink_columns',
		catches => 'columns in another order, defaults, generated columns, casts of assignment to narrower types',
		text => q{INSERT INTO sink (n, card, total, b) SELECT count(*), t.card, sum(t.amount), w.window_end FROM tx t, streamproc.tumble(t.at, '10 min') w
			WHERE t.amount BETWEEN -1000 AND 1000 GROUP BY t.card, w.window_start, w.window_end},
		sink => q{CREATE TABLE sink (card varchar(200), total numeric(12,1), source text DEFAULT 'tx', n int, b timestamp, twice int GENERATED ALWAYS AS (n * 2) STORED)} },
	{	name => 'sink_partitioned',
		catches => 'a partitioned sink with an index',
		text => "INSERT INTO sink $by_card", sink => q{CREATE TABLE sink (card text, a timestamptz, b timestamptz, n bigint, total numeric) PARTITION BY RANGE (a);
			CREATE TABLE sink_1 PARTITION OF sink FOR VALUES FROM (MINVALUE) TO ('2025-07-01 00:00Z'); CREATE TABLE sink_2 PARTITION OF sink DEFAULT;
			CREATE UNIQUE INDEX ON sink (card, a)} },
	{	name => 'sink_trigger',
		catches => 'triggers of the sink, which see each row once',
		text => "INSERT INTO sink $by_card", sink => $by_card_sink . q{CREATE TABLE seen (card text, a timestamptz, n bigint);
			CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.total := NEW.total + 1;
				EXECUTE format('INSERT INTO %I.seen VALUES ($1, $2, $3)', TG_TABLE_SCHEMA) USING NEW.card, NEW.a, NEW.n; RETURN NEW; END $f$;
			CREATE TRIGGER see BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION see()} },
	{	name => 'sink_deferred_unique',
		catches => 'a group that is given out twice: primary key of the sink, deferred foreign key',
		text => 'INSERT INTO sink SELECT c.card, w.window_start, count(*) FROM tx t JOIN card c USING (card), streamproc.tumble(t.at, \'5 min\') w
			GROUP BY c.card, w.window_start, w.window_end',
		sink => 'CREATE TABLE sink (card text REFERENCES public.card DEFERRABLE INITIALLY DEFERRED, a timestamptz, n bigint, PRIMARY KEY (card, a) DEFERRABLE INITIALLY DEFERRED)' },

	# ---- nothing ----

	{	name => 'empty_where',
		catches => 'groups of no rows',
		select => q{SELECT t.card, w.window_start, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w WHERE t.id < 0 GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'empty_where_false',
		catches => 'a condition that the planner finds false: no scan is left',
		select => q{SELECT t.card, w.window_start, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w WHERE false GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'empty_having',
		catches => 'HAVING that keeps nothing',
		select => q{SELECT t.card, w.window_start, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end HAVING count(*) < 0} },
	{	name => 'empty_topic',
		catches => 'a topic without a message: it must end',
		select => q{SELECT t.card, w.window_start, count(*) AS n FROM none t, streamproc.tumble(t.at, '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'empty_totals',
		catches => 'running totals of nothing',
		select => q{SELECT t.card, count(*) AS n FROM none t GROUP BY t.card}, upsert => ['card'] },
	{	name => 'empty_without_group_by',
		catches => 'aggregates without GROUP BY over nothing, which give one row',
		select => q{SELECT 1 AS one, count(*) AS n, sum(t.amount) AS s FROM none t}, upsert => ['one'], may_refuse => 1 },

	# ---- row by row: these tell whether the suite itself works ----

	{	name => 'rows_plain',
		catches => 'rows lost or doubled without any state',
		select => 'SELECT id, card, city, amount, score, n, big, flag, u, at, md5(note) AS note, day, i, code, spec, tags FROM tx' },
	{	name => 'rows_windows',
		catches => 'windows as rows',
		select => q{SELECT t.id, w.window_start, w.window_end FROM tx t, streamproc.hop(t.at, '5 min', '15 min') w WHERE t.n > 0} },
	{	name => 'rows_join_union',
		catches => 'joins and UNION ALL without an aggregate',
		select => q{SELECT x.id, c.owner FROM (SELECT id, card FROM tx UNION ALL SELECT id, card FROM other) x LEFT JOIN card c ON c.card = x.card} },
	{	name => 'rows_odd',
		catches => 'values of all types on their way',
		select => 'SELECT * FROM odd' },
	{	name => 'rows_several',
		catches => 'several statements without an aggregate',
		text => q{INSERT INTO sink SELECT id, amount FROM tx WHERE flag; INSERT INTO sink2 SELECT o.id, o.n FROM other o JOIN place p USING (city)},
		sink => 'CREATE TABLE sink (id bigint, amount numeric); CREATE TABLE sink2 (id bigint, n int)' },
);

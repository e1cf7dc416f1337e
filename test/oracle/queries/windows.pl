# Time: windows of all kinds, zones, nights in which clocks are set, windows over windows, what is given out when.
use strict;
use warnings;

my @zones;
for (
	[ 'berlin', 'Europe/Berlin', '1 day', 'days of 23 and 25 hours' ],
	[ 'havana', 'America/Havana', '1 day', 'days that begin at 1 o\'clock, because midnight does not exist, and days with two midnights' ],
	[ 'lord_howe', 'Australia/Lord_Howe', '1 day', 'clocks that are set by half an hour' ],
	[ 'berlin_week', 'Europe/Berlin', '7 days', 'weeks from Monday on' ],
	[ 'havana_month', 'America/Havana', '1 month', 'months of a zone' ],
	[ 'kathmandu', 'Asia/Kathmandu', '3 days', 'a zone with an offset of 5:45' ],
	[ 'berlin_hours', 'Europe/Berlin', '6 hours', 'hours are fixed, whatever the clocks do' ],
	[ 'utc_24_hours', 'UTC', '24 hours', '24 hours, which are no day' ],
	[ 'berlin_year', 'Europe/Berlin', '1 year', 'years' ])
{
	my ($name, $zone, $size, $what) = @$_;
	push @zones,
	  {
		name => "dst_$name",
		catches => "calendar windows that are counted in hours, or closed in another zone: $what",
		select => "SELECT d.k, w.window_start, w.window_end, count(*) AS n, sum(d.v) AS s, min(d.id) AS first, max(d.at) AS last
			FROM dst d, streamproc.tumble(d.at, '$size', zone => '$zone') w GROUP BY d.k, w.window_start, w.window_end"
	  };
}

return (
	# ---- tumble ----

	{	name => 'tumble_1s',
		catches => 'many short windows, of which many close in one epoch',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, min(t.id) AS first, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '1 s') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'tumble_border',
		catches => 'rows on the border, which belong to the window that begins there; windows of 10 s, on which many events lie',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n, min(t.at) AS a, max(t.at) AS b FROM tx t, streamproc.tumble(t.at, '10 s') w
			GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'tumble_7s_origin',
		catches => 'origin and sizes that do not divide a minute',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, array_agg(t.id ORDER BY t.id) AS ids
			FROM tx t, streamproc.tumble(t.at, '7 s', origin => '2025-07-01 00:00:03.5Z') w GROUP BY w.window_start, w.window_end} },
	{	name => 'tumble_90_min',
		catches => 'windows across midnight and the end of a month',
		select => q{SELECT t.city, w.window_start, w.window_end, count(*) AS n, sum(t.n) AS s FROM tx t, streamproc.tumble(t.at, '90 min') w
			GROUP BY t.city, w.window_start, w.window_end} },
	{	name => 'tumble_day_and_month',
		catches => 'windows of a day that hold all partitions; the month changes within the data',
		text => q{INSERT INTO sink SELECT t.flag, w.window_start, w.window_end, count(*), sum(t.amount) FROM tx t, streamproc.tumble(t.at, '1 day') w
				GROUP BY t.flag, w.window_start, w.window_end;
			INSERT INTO sink2 SELECT t.flag, w.window_start, w.window_end, count(*) FROM tx t, streamproc.tumble(t.at, '1 month') w
				GROUP BY t.flag, w.window_start, w.window_end},
		sink => q{CREATE TABLE sink (flag boolean, a timestamptz, b timestamptz, n bigint, s numeric);
			CREATE TABLE sink2 (flag boolean, a timestamptz, b timestamptz, n bigint)} },
	{	name => 'only_window_end',
		catches => 'a window that is known by its end alone',
		select => q{SELECT t.card, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '5 min') w GROUP BY t.card, w.window_end} },
	{	name => 'only_window_start',
		catches => 'a window that is known by its start alone',
		select => q{SELECT t.card, w.window_start, sum(t.n) AS s FROM tx t, streamproc.tumble(t.at, '5 min') w GROUP BY t.card, w.window_start} },
	{	name => 'only_window_end_hop',
		catches => 'the same with windows that overlap',
		select => q{SELECT w.window_end, count(*) AS n FROM tx t, streamproc.hop(t.at, '1 min', '3 min') w GROUP BY w.window_end} },
	{	name => 'window_without_key',
		catches => 'no key but the window: one group in each, in all tasks',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, avg(t.rate) AS r FROM tx t, streamproc.tumble(t.at, '1 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'window_not_selected',
		catches => 'windows that are not given out: equal rows of several windows',
		select => q{SELECT t.flag, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 min') w GROUP BY t.flag, w.window_start, w.window_end} },
	{	name => 'window_in_arguments',
		catches => 'window_start and window_end inside of aggregates, filters and other keys',
		select => q{SELECT w.window_start, w.window_end, t.at - w.window_start < '30 s' AS early, max(t.at - w.window_start) AS a, min(w.window_end - t.at) AS b,
			count(*) FILTER (WHERE t.at >= w.window_start + interval '10 s') AS c FROM tx t, streamproc.tumble(t.at, '1 min') w
			GROUP BY w.window_start, w.window_end, t.at - w.window_start < '30 s'} },
	{	name => 'window_condition',
		catches => 'conditions on the window and on the event time below the aggregate',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '5 min') w
			WHERE w.window_start >= '2025-06-30 23:00Z' AND t.at < '2025-07-01 00:31:30Z' AND w.window_end <> '2025-07-01 00:00Z' AND t.n > -900
			GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'window_lateral',
		catches => 'other ways to write the same: CROSS JOIN LATERAL, named arguments, a renamed window',
		select => q{SELECT x.card, w.von, w.bis, count(*) AS n FROM tx AS x (id, card) CROSS JOIN LATERAL streamproc.tumble(size => '10 min', at => x.at) AS w (von, bis)
			GROUP BY x.card, w.von, w.bis} },
	{	name => 'window_of_gaps',
		catches => 'half an hour without events in one partition, a day in another: windows that wait, then close at once',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, count(DISTINCT t.card) AS d FROM tx t, streamproc.tumble(t.at, '5 s') w
			GROUP BY w.window_start, w.window_end HAVING count(*) < 3} },

	# ---- hop ----

	{	name => 'hop_5',
		catches => 'a row that is not in all of its windows; slices given out twice or freed while a later window needs them',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, min(t.id) AS a, max(t.id) AS b
			FROM tx t, streamproc.hop(t.at, '2 min', '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'hop_60',
		catches => 'sixty windows a row',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, sum(t.n) AS s, max(t.note) AS m FROM tx t, streamproc.hop(t.at, '10 s', '10 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'hop_is_tumble',
		catches => 'slide = size',
		select => q{SELECT t.city, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.hop(t.at, '5 min', '5 min') w
			GROUP BY t.city, w.window_start, w.window_end} },
	{	name => 'hop_aggregates',
		catches => 'slices whose states cannot be added: DISTINCT, ordered sets, ORDER BY, users\' aggregates, min and max',
		select => q{SELECT t.flag, w.window_start, w.window_end, count(DISTINCT t.card) AS a, percentile_disc(0.5) WITHIN GROUP (ORDER BY t.n) AS b,
			string_agg(t.city, '' ORDER BY t.id) AS c, mean(t.amount) AS d, largest(t.n) AS e, min(t.amount) AS f, avg(t.rate) AS g, var_pop(t.n) AS h,
			array_agg(t.id ORDER BY t.id DESC) AS i, count_even(t.n) AS j, collect(t.id ORDER BY t.id) AS k
			FROM tx t, streamproc.hop(t.at, '5 min', '15 min') w GROUP BY t.flag, w.window_start, w.window_end}, by_value => ['f'] },
	{	name => 'hop_kernels',
		catches => 'sums, averages, min and max of slices put together wrong: carry of bigint, slices in which there is no value',
		select => q{SELECT t.card, w.window_start, w.window_end, sum((t.n % 1000)::bigint * 9000000000000000) AS a, avg(t.n::bigint) AS b, sum(t.n) AS c, avg(t.n) AS d,
			min(t.n) AS e, max(t.n) AS f, max(t.at) AS g, sum(t.rate) AS h, avg(t.rate) AS i, sum(t.rate::float4) AS j, largest(t.n) AS k,
			largest(t.n) FILTER (WHERE t.flag) AS l, bool_and(t.flag) AS m, count(t.n) AS o, sum(t.amount) AS p, min(t.note) AS q
			FROM tx t, streamproc.hop(t.at, '1 min', '5 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'hop_numeric',
		catches => 'keys that are kept as they came, where windows are put together from slices',
		select => q{SELECT t.code, t.spec, w.window_start, w.window_end, count(*) AS n, sum(t.n) AS s FROM tx t, streamproc.hop(t.at, '5 min', '15 min') w
			GROUP BY t.code, t.spec, w.window_start, w.window_end}, by_value => ['code'] },
	{	name => 'hop_having_origin',
		catches => 'HAVING over overlapping windows, origin of a hop',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.hop(t.at, '1 min', '4 min', origin => '2025-01-01 00:00:30Z') w
			GROUP BY t.card, w.window_start, w.window_end HAVING count(*) >= 5} },
	{	name => 'hop_days',
		catches => 'hops of days over nights in which clocks are set',
		select => q{SELECT d.k, w.window_start, w.window_end, count(*) AS n, sum(d.v) AS s FROM dst d, streamproc.hop(d.at, '1 day', '7 days', zone => 'Europe/Berlin') w
			GROUP BY d.k, w.window_start, w.window_end} },
	{	name => 'hop_months',
		catches => 'hops of months, whose slices differ in length',
		select => q{SELECT d.k, w.window_start, w.window_end, count(*) AS n, max(d.id) AS b FROM dst d, streamproc.hop(d.at, '1 month', '3 months', zone => 'America/Havana') w
			GROUP BY d.k, w.window_start, w.window_end} },
	{	name => 'hop_grouping_sets',
		catches => 'grouping sets over slices',
		select => q{SELECT t.city, t.flag, w.window_start, w.window_end, count(*) AS n, sum(t.n) AS s FROM tx t, streamproc.hop(t.at, '10 min', '30 min') w
			GROUP BY w.window_start, w.window_end, GROUPING SETS ((t.city), (t.flag))} },

	# ---- cumulate ----

	{	name => 'cumulate_10',
		catches => 'slices of cumulate that are given out with the wrong windows, or not reset at the next size',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, max(t.id) AS b
			FROM tx t, streamproc.cumulate(t.at, '1 min', '10 min') w GROUP BY t.card, w.window_start, w.window_end} },
	{	name => 'cumulate_day',
		catches => 'hours within a day of 24 hours; no row in many steps, whose windows exist all the same',
		select => q{SELECT t.flag, w.window_start, w.window_end, count(*) AS n, avg(t.amount) AS a FROM tx t, streamproc.cumulate(t.at, '15 min', '24 hours') w
			GROUP BY t.flag, w.window_start, w.window_end} },
	{	name => 'cumulate_dst',
		catches => 'days within a week of a zone in which clocks are set',
		select => q{SELECT d.k, w.window_start, w.window_end, count(*) AS n, sum(d.v) AS s FROM dst d, streamproc.cumulate(d.at, '1 day', '7 days', zone => 'America/Havana') w
			GROUP BY d.k, w.window_start, w.window_end} },
	{	name => 'cumulate_aggregates',
		catches => 'states that cannot be added, with cumulate',
		select => q{SELECT t.flag, w.window_start, w.window_end, count(DISTINCT t.city) AS a, mode() WITHIN GROUP (ORDER BY t.n % 5) AS b,
			array_agg(t.id ORDER BY t.id) AS c, mean(t.amount) AS d, max(t.note) AS e FROM tx t, streamproc.cumulate(t.at, '5 min', '20 min') w
			GROUP BY t.flag, w.window_start, w.window_end} },

	# ---- zones and clocks ----

	@zones,

	# ---- windows over windows ----

	{	name => 'window_over_window',
		catches => 'rows of the first windows that come too late for the second, or twice after a recovery',
		select => q{SELECT w.window_start, w.window_end, count(*) AS n, sum(x.n) AS s, max(x.total) AS top FROM (
				SELECT t.card, v.window_start, v.window_end, count(*) AS n, sum(t.amount) AS total FROM tx t, streamproc.tumble(t.at, '1 min') v
				GROUP BY t.card, v.window_start, v.window_end) x, streamproc.tumble(x.window_start, '10 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'window_over_window_end',
		catches => 'the same by window_end: a window that ends with the upper one belongs to the next',
		select => q{SELECT x.card, w.window_start, w.window_end, max(x.n) AS n, count(*) AS c FROM (
				SELECT t.card, v.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 min') v GROUP BY t.card, v.window_start, v.window_end) x,
				streamproc.tumble(x.window_end, '5 min') w
			GROUP BY x.card, w.window_start, w.window_end} },
	{	name => 'same_window_again',
		catches => 'a second aggregation over the same window: how many keys, the largest of them',
		select => q{SELECT x.window_start, x.window_end, count(*) AS cards, max(x.n) AS top, sum(x.n) AS rows, avg(x.s) AS mean FROM (
				SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '5 min') w
				GROUP BY t.card, w.window_start, w.window_end) x
			GROUP BY x.window_start, x.window_end} },
	{	name => 'hop_over_tumble', may_refuse => 1,
		catches => 'overlapping windows above others, with HAVING on both levels',
		select => q{SELECT x.flag, w.window_start, w.window_end, sum(x.n) AS n, min(x.n) AS low FROM (
				SELECT t.flag, v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 min') v
				GROUP BY t.flag, v.window_start, v.window_end HAVING count(*) > 2) x, streamproc.hop(x.window_start, '5 min', '10 min') w
			GROUP BY x.flag, w.window_start, w.window_end HAVING sum(x.n) > 20} },
	{	name => 'tumble_over_hop',
		catches => 'a window above overlapping ones',
		select => q{SELECT w.window_start, w.window_end, max(x.n) AS top, count(*) AS c FROM (
				SELECT v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.hop(t.at, '1 min', '5 min') v GROUP BY v.window_start, v.window_end) x,
				streamproc.tumble(x.window_start, '30 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'window_over_border',
		catches => 'lower windows that begin in one upper window and end in the next: they close at their own end, and the upper one waits for them',
		select => q{SELECT w.window_start, w.window_end, count(*) AS c, sum(x.n) AS n FROM (
				SELECT v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '7 min') v GROUP BY v.window_start, v.window_end) x,
				streamproc.tumble(x.window_start, '20 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'window_over_larger',
		catches => 'lower windows that are larger than the upper ones',
		select => q{SELECT w.window_start, w.window_end, count(*) AS c, sum(x.n) AS n FROM (
				SELECT v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 hour') v GROUP BY v.window_start, v.window_end) x,
				streamproc.tumble(x.window_start, '20 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'tumble_over_hop_end',
		catches => 'the same by window_end: given out when the upper window is closed, not with each epoch',
		select => q{SELECT w.window_start, w.window_end, max(x.n) AS top, count(*) AS c FROM (
				SELECT v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.hop(t.at, '1 min', '5 min') v GROUP BY v.window_start, v.window_end) x,
				streamproc.tumble(x.window_end, '30 min') w
			GROUP BY w.window_start, w.window_end} },
	{	name => 'tumble_over_cumulate',
		catches => 'a window above those of cumulate, of which several have one start',
		select => q{SELECT w.window_start, w.window_end, sum(x.n) AS n, count(*) AS c FROM (
				SELECT t.flag, v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.cumulate(t.at, '1 min', '5 min') v
				GROUP BY t.flag, v.window_start, v.window_end) x, streamproc.tumble(x.window_start, '15 min') w
			GROUP BY w.window_start, w.window_end}, may_refuse => 1 },
	{	name => 'three_levels',
		catches => 'three aggregations one above the other',
		select => q{SELECT y.window_start, y.window_end, count(*) AS flags, sum(y.m) AS s FROM (
				SELECT x.flag, w.window_start, w.window_end, max(x.n) AS m FROM (
					SELECT t.flag, t.card, v.window_start, v.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 min') v
					GROUP BY t.flag, t.card, v.window_start, v.window_end) x, streamproc.tumble(x.window_start, '10 min') w
				GROUP BY x.flag, w.window_start, w.window_end) y
			GROUP BY y.window_start, y.window_end} },
	{	name => 'totals_over_windows', may_refuse => 1,
		catches => 'running totals above windows',
		select => q{SELECT x.card, count(*) AS windows, max(x.n) AS top FROM (
				SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '1 min') w
				GROUP BY t.card, w.window_start, w.window_end) x
			GROUP BY x.card}, upsert => ['card'] },

	# ---- what is given out, and when ----

	{	name => 'emit_changes',
		catches => 'changes of open windows: the last one of each key must be its result',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s, max(t.n) AS m FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.card, w.window_start, w.window_end}, upsert => [qw(card window_start window_end)], options => { emit => 'changes' } },
	{	name => 'emit_changes_hop',
		catches => 'changes of overlapping windows: one slice changes several results',
		select => q{SELECT t.flag, w.window_start, w.window_end, count(*) AS n, max(t.n) AS m, count(DISTINCT t.card) AS d FROM tx t, streamproc.hop(t.at, '5 min', '15 min') w
			GROUP BY t.flag, w.window_start, w.window_end}, upsert => [qw(flag window_start window_end)], options => { emit => 'changes' } },
	{	name => 'emit_every',
		catches => 'results given out every 200 ms, and not at the end',
		select => q{SELECT t.city, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '10 min') w
			GROUP BY t.city, w.window_start, w.window_end}, upsert => [qw(city window_start window_end)], options => { emit => 'every 200 ms' } },
	{	name => 'late_update',
		catches => 'late => update: windows that are given out again',
		select => q{SELECT t.city, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.tumble(t.at, '1 min') w
			GROUP BY t.city, w.window_start, w.window_end}, upsert => [qw(city window_start window_end)],
		options => { late => 'update', allowed_lateness => '30 s' } },
	{	name => 'late_drop',
		catches => 'rows within the bound that are dropped as late',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n FROM tx t, streamproc.tumble(t.at, '10 s') w
			GROUP BY t.card, w.window_start, w.window_end}, options => { late => 'drop' } },
	{	name => 'lateness',
		catches => 'windows that stay open longer: given out once, with everything',
		select => q{SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS s FROM tx t, streamproc.hop(t.at, '1 min', '3 min') w
			GROUP BY t.card, w.window_start, w.window_end}, options => { allowed_lateness => '5 min' } },

	# ---- running totals ----

	{	name => 'totals_city',
		catches => 'running totals whose last change is not the sum of all',
		select => q{SELECT t.city, count(*) AS n, avg(t.amount) AS mean, sum(t.amount) AS s, min(t.n) AS lo, max(t.n) AS hi FROM tx t GROUP BY t.city}, upsert => ['city'] },
	{	name => 'totals_many_keys',
		catches => 'one eternal pane with a key for each row, and growing tables',
		select => q{SELECT t.id, count(*) AS n, max(t.note) AS note, sum(t.amount) AS s FROM tx t GROUP BY t.id}, upsert => ['id'] },
	{	name => 'totals_kinds',
		catches => 'all kinds of states in an eternal pane: native, transition, kept arguments',
		select => q{SELECT t.n % 10 AS k, count(*) AS a, sum(t.big) AS b, avg(t.rate) AS c, max(t.note) AS d, count(DISTINCT t.city) AS e, string_agg(t.city, ',' ORDER BY t.id) AS f,
			percentile_cont(0.5) WITHIN GROUP (ORDER BY t.rate) AS g, mean(t.amount) AS h, sum_or_null(t.n) AS i, stddev(t.n) AS j, bool_or(t.flag) AS l,
			jsonb_agg(t.id ORDER BY t.id) AS m, sum(t.i) AS o FROM tx t GROUP BY t.n % 10}, upsert => ['k'] },
	{	name => 'totals_keys',
		catches => 'keys that are equal and look different, in an eternal pane',
		select => q{SELECT t.code, t.spec, count(*) AS n, sum(t.n) AS s FROM tx t GROUP BY t.code, t.spec}, upsert => [qw(code spec)], by_value => ['code'] },
	{	name => 'totals_composite_key',
		catches => 'a key of three columns with NULLs, DISTINCT counts',
		select => q{SELECT t.card, t.flag, t.day, count(*) AS n, count(DISTINCT t.u) AS u, max(t.at) AS last FROM tx t WHERE t.amount > 0 GROUP BY t.card, t.flag, t.day},
		upsert => [qw(card flag day)] },
	{	name => 'totals_all',
		catches => 'no GROUP BY: one row for the whole topic',
		select => q{SELECT 1 AS one, count(*) AS n, sum(t.amount) AS s, count(DISTINCT t.card) AS cards FROM tx t GROUP BY 1}, upsert => ['one'] },
	{	name => 'totals_without_group_by',
		catches => 'aggregates without GROUP BY, which give a row also of nothing',
		select => q{SELECT 1 AS one, count(*) AS n, sum(t.amount) AS s FROM tx t}, upsert => ['one'], may_refuse => 1 },
	{	name => 'totals_final',
		catches => 'emit => final without a window: once, at the end',
		select => q{SELECT t.card, count(*) AS n, sum(t.amount) AS s FROM tx t GROUP BY t.card}, options => { emit => 'final' }, may_refuse => 1 },
	{	name => 'totals_every',
		catches => 'running totals every 300 ms: what changed last must be given out at the end',
		select => q{SELECT t.card, count(*) AS n, sum(t.amount) AS s FROM tx t GROUP BY t.card}, upsert => ['card'], options => { emit => 'every 300 ms' } },
	{	name => 'totals_part_of_keys',
		catches => 'ON CONFLICT on fewer columns than the group has: the last row wins by chance, so it is to be refused',
		text => q{INSERT INTO sink SELECT t.card, count(*), sum(t.n) FROM tx t GROUP BY t.card, t.flag
			ON CONFLICT (card) DO UPDATE SET n = EXCLUDED.n},
		sink => 'CREATE TABLE sink (card text, n bigint, s bigint, UNIQUE NULLS NOT DISTINCT (card))', must_refuse => 1 },
	{	name => 'totals_without_conflict',
		catches => 'changes into a table without ON CONFLICT, which would add a row in each epoch',
		text => 'INSERT INTO sink SELECT t.card, count(*) FROM tx t GROUP BY t.card',
		sink => 'CREATE TABLE sink (card text, n bigint)', must_refuse => 1 },
);

# Nexmark for the part "peers" of the benchmark: bids, auctions and persons of bench/nexmark.c in a topic each.  Loaded by
# bench.pl; README.md beside this file says which queries are not here, and where a text differs from Nexmark's.
use strict;
use warnings;

our (%peer, %topic, $work, $tree, $broker, $address, $partitions);

# event time of the whole, 46 of 50 events are bids
my $rate = $ENV{BENCH_PEER_NEXMARK_RATE} || 10_000;
my %kind = (
	bid => ['auction bigint NOT NULL, bidder bigint, price bigint, channel text, url text, at timestamptz, extra text',
		'auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `at` TIMESTAMP_LTZ(3), extra STRING', 46],
	auction => ['id bigint NOT NULL, "itemName" text, description text, "initialBid" bigint, reserve bigint, at timestamptz, expires timestamptz, seller bigint, category bigint, extra text',
		'id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, `at` TIMESTAMP_LTZ(3), expires TIMESTAMP_LTZ(3), seller BIGINT, category BIGINT, extra STRING', 3],
	person => ['id bigint NOT NULL, name text, email text, card text, city text, state text, at timestamptz, extra text',
		'id BIGINT, name STRING, email STRING, card STRING, city STRING, state STRING, `at` TIMESTAMP_LTZ(3), extra STRING', 1],
);

sub make_nexmark {
	my ($kind, $count) = @_;
	return sub {
		my ($name) = @_;
		run('sh', '-c', '"$1" "$2" "$3" "$4" "$5" 1 | "$6" produce "$7" "$8" -X enable.idempotence=true', 'sh', "$work/nexmark", $kind, $count, $partitions, $rate, "$tree/test/kafka/kafka_tool", $address, $name);
		return "$name: $topic{$name}{events} events of $kind, event time at $rate/s";
	};
}

my $day = "(t.at AT TIME ZONE 'UTC')::date";
my $filters = "count(*) FILTER (WHERE t.price < 10000), count(*) FILTER (WHERE t.price >= 10000 AND t.price < 1000000), count(*) FILTER (WHERE t.price >= 1000000)";
my $flink_filters = 'COUNT(*) FILTER (WHERE price < 10000), COUNT(*) FILTER (WHERE price >= 10000 AND price < 1000000), COUNT(*) FILTER (WHERE price >= 1000000)';
my $ranks = 'n bigint, rank1 bigint, rank2 bigint, rank3 bigint';
my $flink_ranks = 'n BIGINT, rank1 BIGINT, rank2 BIGINT, rank3 BIGINT';
my $mini_batch = {'table.exec.mini-batch.enabled' => 'true', 'table.exec.mini-batch.allow-latency' => '1 s', 'table.exec.mini-batch.size' => 50000};

sub distinct_of { my ($column, $text) = @_; return $text =~ s/count\(\*\)/count(DISTINCT $column)/gir }

sub excluded { return 'DO UPDATE SET ' . join ', ', map { "$_ = excluded.$_" } @_ }

my @queries = (
	{name => 'q0', label => 'q0 pass through', sink => 'auction bigint, bidder bigint, price bigint, at timestamptz, extra text',
		query => 'SELECT t.auction, t.bidder, t.price, t.at, t.extra FROM {nx_bid} t',
		flink_columns => 'auction BIGINT, bidder BIGINT, price BIGINT, `at` TIMESTAMP_LTZ(3), extra STRING', flink => 'SELECT auction, bidder, price, `at`, extra FROM nx_bid'},
	{name => 'q1', label => 'q1 currency', sink => 'auction bigint, bidder bigint, price numeric, at timestamptz, extra text',
		query => 'SELECT t.auction, t.bidder, 0.908 * t.price, t.at, t.extra FROM {nx_bid} t',
		flink_columns => 'auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `at` TIMESTAMP_LTZ(3), extra STRING', flink => 'SELECT auction, bidder, 0.908 * price, `at`, extra FROM nx_bid'},
	{name => 'q2', label => 'q2 selection', sink => 'auction bigint, price bigint', query => 'SELECT t.auction, t.price FROM {nx_bid} t WHERE mod(t.auction, 123) = 0',
		flink_columns => 'auction BIGINT, price BIGINT', flink => 'SELECT auction, price FROM nx_bid WHERE MOD(auction, 123) = 0'},
	{name => 'q5', label => 'q5 hot items', state => 1, sink => 'auction bigint, num bigint, window_start timestamptz',
		query => q{SELECT q.auction, q.num, q.window_start FROM (SELECT t.auction, w.window_start, count(*) AS num, rank() OVER (PARTITION BY w.window_start ORDER BY count(*) DESC) AS r
			FROM {nx_bid} t, streamproc.hop(t.at, '2 s', '10 s') w GROUP BY t.auction, w.window_start) q WHERE q.r = 1},
		flink_columns => 'auction BIGINT, num BIGINT, window_start TIMESTAMP(3)',
		flink => q{SELECT a.auction, a.num, a.starttime FROM
			(SELECT auction, COUNT(*) AS num, window_start AS starttime, window_end AS endtime FROM TABLE(HOP(TABLE nx_bid, DESCRIPTOR(`at`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
				GROUP BY auction, window_start, window_end) AS a
			JOIN (SELECT MAX(num) AS maxn, starttime, endtime FROM
				(SELECT COUNT(*) AS num, window_start AS starttime, window_end AS endtime FROM TABLE(HOP(TABLE nx_bid, DESCRIPTOR(`at`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
					GROUP BY auction, window_start, window_end) AS c GROUP BY starttime, endtime) AS m
			ON a.starttime = m.starttime AND a.endtime = m.endtime AND a.num >= m.maxn}},
	{name => 'q7', label => 'q7 highest bid', state => 1, sink => 'auction bigint, price bigint, bidder bigint, at timestamptz, extra text',
		query => q{SELECT q.auction, q.price, q.bidder, q.at, q.extra FROM (SELECT t.auction, t.price, t.bidder, t.at, t.extra, row_number() OVER (PARTITION BY w.window_start ORDER BY t.price DESC) AS r
			FROM {nx_bid} t, streamproc.tumble(t.at, '10 s') w) q WHERE q.r = 1},
		flink_columns => 'auction BIGINT, price BIGINT, bidder BIGINT, `at` TIMESTAMP_LTZ(3), extra STRING',
		flink => q{SELECT b.auction, b.price, b.bidder, b.`at`, b.extra FROM nx_bid b JOIN
			(SELECT MAX(price) AS maxprice, window_time AS until FROM TABLE(TUMBLE(TABLE nx_bid, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time) m
			ON b.price = m.maxprice WHERE b.`at` BETWEEN m.until - INTERVAL '10' SECOND AND m.until}},
	{name => 'q8', label => 'q8 new users', state => 1, topics => [qw(nx_person nx_auction)], sink => 'id bigint, name text, window_start timestamptz',
		query => q{SELECT p.id, p.name, w.window_start FROM {nx_person} p JOIN {nx_auction} a ON a.seller = p.id AND a.at BETWEEN p.at - interval '10 s' AND p.at + interval '10 s'
			AND date_bin('10 s', a.at, '2000-01-01Z') = date_bin('10 s', p.at, '2000-01-01Z'), streamproc.tumble(p.at, '10 s') w GROUP BY p.id, p.name, w.window_start},
		flink_columns => 'id BIGINT, name STRING, window_start TIMESTAMP(3)',
		flink => q{SELECT p.id, p.name, p.starttime FROM
			(SELECT id, name, window_start AS starttime, window_end AS endtime FROM TABLE(TUMBLE(TABLE nx_person, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY id, name, window_start, window_end) p
			JOIN (SELECT seller, window_start AS starttime, window_end AS endtime FROM TABLE(TUMBLE(TABLE nx_auction, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY seller, window_start, window_end) a
			ON p.id = a.seller AND p.starttime = a.starttime AND p.endtime = a.endtime}},
	{name => 'q11', label => 'q11 user sessions', state => 1, sink => 'bidder bigint, n bigint, first timestamptz, until timestamptz',
		query => q{SELECT q.bidder, count(*), lower(q.win), upper(q.win) FROM (SELECT t.bidder, streamproc.session(t.at, '10 s') OVER (PARTITION BY t.bidder ORDER BY t.at) AS win FROM {nx_bid} t) q
			GROUP BY q.bidder, q.win},
		flink_columns => 'bidder BIGINT, n BIGINT, first_at TIMESTAMP(3), until_at TIMESTAMP(3)',
		flink => q{SELECT bidder, COUNT(*), window_start, window_end FROM TABLE(SESSION(TABLE nx_bid PARTITION BY bidder, DESCRIPTOR(`at`), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end}},
	{name => 'q15', label => 'q15 bidding statistics', state => 1, sink => join(', ', 'day date', $ranks, (map { my $c = $_; $ranks =~ s/(\w+) bigint/${c}_$1 bigint/gr } qw(bidders auctions)), 'PRIMARY KEY (day)'), upsert => 'day',
		query => "SELECT $day, count(*), $filters, " . join(', ', map { distinct_of("t.$_", "count(*), $filters") } qw(bidder auction)) . " FROM {nx_bid} t GROUP BY 1",
		conflict => '(day) ' . excluded(map { my $c = $_; map { "$c$_" } qw(n rank1 rank2 rank3) } '', 'bidders_', 'auctions_'),
		flink_columns => join(', ', '`day` STRING', $flink_ranks, map { my $c = $_; $flink_ranks =~ s/(\w+) BIGINT/${c}_$1 BIGINT/gr } qw(bidders auctions)),
		flink => "SELECT DATE_FORMAT(`at`, 'yyyy-MM-dd'), COUNT(*), $flink_filters, " . join(', ', map { distinct_of($_, "COUNT(*), $flink_filters") } qw(bidder auction))
			. " FROM nx_bid GROUP BY DATE_FORMAT(`at`, 'yyyy-MM-dd')",
		flink_set => {%$mini_batch, 'table.optimizer.distinct-agg.split.enabled' => 'true'}},
	{name => 'q17', label => 'q17 auction statistics', state => 1, sink => "auction bigint, day date, $ranks, lowest bigint, highest bigint, mean float8, total numeric, PRIMARY KEY (auction, day)", upsert => 'auction, day',
		query => "SELECT t.auction, $day, count(*), $filters, min(t.price), max(t.price), avg(t.price::float8), sum(t.price) FROM {nx_bid} t GROUP BY 1, 2",
		conflict => '(auction, day) ' . excluded(qw(n rank1 rank2 rank3 lowest highest mean total)),
		flink_columns => "auction BIGINT, `day` STRING, $flink_ranks, lowest BIGINT, highest BIGINT, mean DOUBLE, total BIGINT",
		flink => "SELECT auction, DATE_FORMAT(`at`, 'yyyy-MM-dd'), COUNT(*), $flink_filters, MIN(price), MAX(price), AVG(CAST(price AS DOUBLE)), SUM(price)
			FROM nx_bid GROUP BY auction, DATE_FORMAT(`at`, 'yyyy-MM-dd')", flink_set => $mini_batch},
	{name => 'q18', label => 'q18 last bid of each', state => 1, options => {state_memory => '2GB'}, compare => 'auction, bidder, at', upsert => 'bidder, auction',
		sink => 'auction bigint, bidder bigint, price bigint, channel text, url text, at timestamptz, extra text, PRIMARY KEY (bidder, auction)',
		query => 'SELECT DISTINCT ON (t.bidder, t.auction) t.auction, t.bidder, t.price, t.channel, t.url, t.at, t.extra FROM {nx_bid} t ORDER BY t.bidder, t.auction, t.at DESC',
		conflict => '(bidder, auction) ' . excluded(qw(price channel url at extra)),
		flink_columns => 'auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `at` TIMESTAMP_LTZ(3), extra STRING',
		flink => 'SELECT auction, bidder, price, channel, url, `at`, extra FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `at` DESC) AS rank_number FROM nx_bid) WHERE rank_number <= 1',
		flink_set => $mini_batch},
	{name => 'q19', label => 'q19 ten best of each', state => 1, options => {state_memory => '2GB'}, compare => 'auction, rn, price', upsert => 'auction, rn',
		sink => 'auction bigint, bidder bigint, price bigint, channel text, url text, at timestamptz, extra text, rn bigint, PRIMARY KEY (auction, rn)',
		query => 'SELECT q.* FROM (SELECT t.auction, t.bidder, t.price, t.channel, t.url, t.at, t.extra, row_number() OVER (PARTITION BY t.auction ORDER BY t.price DESC) AS rn FROM {nx_bid} t) q WHERE q.rn <= 10',
		conflict => '(auction, rn) ' . excluded(qw(bidder price channel url at extra)),
		flink_columns => 'auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `at` TIMESTAMP_LTZ(3), extra STRING, rn BIGINT',
		flink => 'SELECT * FROM (SELECT auction, bidder, price, channel, url, `at`, extra, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rn FROM nx_bid) WHERE rn <= 10',
		flink_set => $mini_batch},
	{name => 'q20', label => 'q20 bids with auctions', state => 1, topics => [qw(nx_bid nx_auction)], options => {state_memory => '1GB'},
		sink => 'auction bigint, bidder bigint, price bigint, channel text, at timestamptz, item text, initial bigint, reserve bigint, opened timestamptz, expires timestamptz, seller bigint, category bigint',
		query => q{SELECT b.auction, b.bidder, b.price, b.channel, b.at, a."itemName", a."initialBid", a.reserve, a.at, a.expires, a.seller, a.category FROM {nx_bid} b JOIN {nx_auction} a
			ON a.id = b.auction AND a.at BETWEEN b.at - interval '1 min' AND b.at + interval '1 min' WHERE a.category = 10},
		flink_columns => 'auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `at` TIMESTAMP_LTZ(3), item STRING, initial_bid BIGINT, reserve BIGINT, opened TIMESTAMP_LTZ(3), expires TIMESTAMP_LTZ(3), seller BIGINT, category BIGINT',
		flink => q{SELECT b.auction, b.bidder, b.price, b.channel, b.`at`, a.itemName, a.initialBid, a.reserve, a.`at`, a.expires, a.seller, a.category
			FROM nx_bid b JOIN nx_auction a ON a.id = b.auction WHERE a.category = 10}},
);

sub nexmark {
	for my $kind (keys %kind) {
		my ($ours, $flink, $share) = @{$kind{$kind}};
		my $count = int($peer{events} / 50) * 50;
		$topic{"nx_$kind"} = {ours => $ours, flink => $flink, delay => '4 s', events => $count / 50 * $share, make => make_nexmark($kind, $count)};
	}
	local $peer{variants} = [split ' ', $ENV{BENCH_PEER_NEXMARK_VARIANTS} || 'flink-heap-2'];
	compare_cases('Nexmark', map { {topic => 'nx_bid', flink_sink => 'discard', %$_} } @queries);
	return;
}

1;

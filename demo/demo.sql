-- What the demo streams into: run by show.pl with the variable "brokers".  This is all that a user writes.

CREATE EXTENSION streamproc;

-- a topic is a foreign table
CREATE SERVER kafka FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers :'brokers');
CREATE FOREIGN TABLE tx (
	tx_id uuid, card text NOT NULL, amount numeric(12,2), city text, at timestamptz,
	p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset'))
	SERVER kafka OPTIONS (topic 'tx', format 'json', event_time 'at', watermark_delay '1 s', idle_timeout '2 s');

-- local data to join with: 10,000 cards with their owners and limits
CREATE TABLE card (card text PRIMARY KEY, owner text NOT NULL, card_limit numeric(12,2) NOT NULL);
INSERT INTO card
SELECT 'card-' || lpad(i::text, 6, '0'),
	(ARRAY['Ada', 'Bruno', 'Chiara', 'Daan', 'Elif', 'Farid', 'Greta', 'Hugo', 'Ines', 'Jan', 'Klara', 'Luis', 'Mira',
		'Nils', 'Olga', 'Pavel', 'Quinn', 'Rosa', 'Sven', 'Tereza'])[1 + i % 20] || ' ' ||
	(ARRAY['Almeida', 'Berg', 'Costa', 'Dubois', 'Eriksen', 'Fischer', 'Garcia', 'Horvath', 'Ivanov', 'Jansen', 'Kowalski',
		'Lindqvist', 'Moreau', 'Novak', 'Olsen', 'Petrov', 'Quaglia', 'Rossi', 'Silva', 'Toth', 'Urban', 'Virtanen',
		'Weber', 'Yilmaz', 'Zeman'])[1 + i / 20 % 25],
	(ARRAY[2500, 4000, 6000])[1 + i % 3]
FROM generate_series(0, 9999) i;
ANALYZE card;

-- 1. filter and left join
CREATE TABLE big_tx (tx_id uuid, card text, owner text, amount numeric, city text, at timestamptz, p int, o bigint);
CREATE INDEX ON big_tx (p, o);
SELECT streamproc.create_pipeline('big_tx', $$
	INSERT INTO big_tx
	SELECT t.tx_id, t.card, c.owner, t.amount, t.city, t.at, t.p, t.o
	FROM tx t LEFT JOIN card c USING (card)
	WHERE t.amount > 1000
$$);

-- 2. one row per card: where it was used last, and how often so far (an event stored twice or lost would show here)
CREATE TABLE card_last (card text PRIMARY KEY, city text, amount numeric, at timestamptz, times bigint)
	WITH (fillfactor = 50);
SELECT streamproc.create_pipeline('card_last', $$
	INSERT INTO card_last AS l
	SELECT card, city, amount, at, 1 FROM tx
	ON CONFLICT (card) DO UPDATE
	SET city = excluded.city, amount = excluded.amount, at = excluded.at, times = l.times + 1
$$);

-- 3. alerts, and from the same rows the alerts by city
CREATE TABLE alert (tx_id uuid, card text, owner text, amount numeric, card_limit numeric, city text, at timestamptz, p int, o bigint);
CREATE INDEX ON alert (p, o);
CREATE TABLE city_alert (city text PRIMARY KEY, alerts bigint, total numeric);
SELECT streamproc.create_pipeline('alert', $$
	WITH a AS (
		INSERT INTO alert
		SELECT t.tx_id, t.card, c.owner, t.amount, c.card_limit, t.city, t.at, t.p, t.o
		FROM tx t JOIN card c USING (card)
		WHERE t.amount > c.card_limit
		RETURNING city, amount)
	INSERT INTO city_alert AS s
	SELECT city, 1, amount FROM a
	ON CONFLICT (city) DO UPDATE SET alerts = s.alerts + 1, total = s.total + excluded.total
$$);

-- 4. per card and 5 seconds: cards that were used in more than eight cities.  Final: a row appears when its window is closed,
-- and never changes.  What comes later than that is kept in streamproc.late_row
CREATE TABLE card_5s (card text, window_start timestamptz, window_end timestamptz, n bigint, total numeric, biggest numeric,
	cities bigint, PRIMARY KEY (card, window_start));
CREATE INDEX ON card_5s (window_end);
SELECT streamproc.create_pipeline('card_5s', $$
	INSERT INTO card_5s
	SELECT t.card, w.window_start, w.window_end, count(*), sum(t.amount), max(t.amount), count(DISTINCT t.city)
	FROM tx t, streamproc.tumble(t.at, '5 s') w
	GROUP BY t.card, w.window_start, w.window_end
	HAVING count(DISTINCT t.city) > 8
$$);

-- 5. per city the last 10 seconds, each second
CREATE TABLE city_10s (city text, window_start timestamptz, window_end timestamptz, n bigint, total numeric, mean numeric,
	PRIMARY KEY (city, window_start));
SELECT streamproc.create_pipeline('city_10s', $$
	INSERT INTO city_10s
	SELECT t.city, w.window_start, w.window_end, count(*), sum(t.amount), avg(t.amount)
	FROM tx t, streamproc.hop(t.at, '1 s', '10 s') w
	GROUP BY t.city, w.window_start, w.window_end
$$);

-- 6. three rules of fraud, each looking at what the same card did before: hits go into a table, and in the same transaction
-- on their way into a topic.  (The generator picks cities at random; so "impossible travel" here is 1 ms.)
CREATE TABLE fraud (tx_id uuid, card text, rule text, amount numeric, at timestamptz, p int, o bigint);
CREATE FOREIGN TABLE fraud_out (tx_id uuid, card text, rule text)
	SERVER kafka OPTIONS (topic 'fraud', format 'json', key 'card');
SELECT streamproc.create_pipeline('fraud', $$
	WITH hit AS (
		INSERT INTO fraud
		SELECT tx_id, card,
			CASE WHEN city <> prev_city AND at - prev_at < '1 ms' THEN 'impossible travel'
				WHEN amount > 20 * mean_1m THEN 'far above its average' ELSE 'velocity' END,
			amount, at, p, o
		FROM (SELECT t.*, lag(t.city) OVER k AS prev_city, lag(t.at) OVER k AS prev_at,
					count(*) OVER s AS n_1s, avg(t.amount) OVER m AS mean_1m
				FROM tx t
				WINDOW k AS (PARTITION BY t.card ORDER BY t.at),
					s AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 s' PRECEDING AND CURRENT ROW),
					m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW)) q
		WHERE (city <> prev_city AND at - prev_at < '1 ms') OR amount > 20 * mean_1m OR n_1s > 100
		RETURNING tx_id, card, rule)
	INSERT INTO fraud_out SELECT tx_id, card, rule FROM hit
$$);

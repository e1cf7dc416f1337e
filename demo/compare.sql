-- Each sink against the batch query over the same topic, read once through the same foreign table: rows of the sink, rows of
-- the query, rows that are missing in the sink, rows that the sink has too many.  Run by show.pl in one transaction.

CREATE TEMP TABLE topic AS SELECT * FROM tx;
ANALYZE topic;

CREATE TEMP TABLE batch_big_tx AS
	SELECT t.tx_id, t.card, c.owner, t.amount, t.city, t.at, t.p, t.o
	FROM topic t LEFT JOIN card c USING (card)
	WHERE t.amount > 1000;

CREATE TEMP TABLE batch_card_last AS
	SELECT DISTINCT ON (card) card, city, amount, at, count(*) OVER (PARTITION BY card) AS times
	FROM topic
	ORDER BY card, p, o DESC;		-- a card's events are all in one partition

CREATE TEMP TABLE batch_alert AS
	SELECT t.tx_id, t.card, c.owner, t.amount, c.card_limit, t.city, t.at, t.p, t.o
	FROM topic t JOIN card c USING (card)
	WHERE t.amount > c.card_limit;

CREATE TEMP TABLE batch_city_alert AS
	SELECT city, count(*) AS alerts, sum(amount) AS total FROM batch_alert GROUP BY city;

-- Windows hold what is not in late_row: each row counts in each of its windows or is there, never neither, never both.
CREATE TEMP TABLE late AS
SELECT pipeline::text, partition, "offset", window_start, window_end FROM streamproc.late_row;
ANALYZE late;

CREATE TEMP TABLE batch_card_5s AS
	SELECT t.card, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS total, max(t.amount) AS biggest, count(DISTINCT t.city) AS cities
	FROM topic t, streamproc.tumble(t.at, '5 s') w
	WHERE NOT EXISTS (SELECT FROM late l
		WHERE l.pipeline = 'card_5s' AND l.partition = t.p AND l."offset" = t.o AND l.window_start = w.window_start)
	GROUP BY t.card, w.window_start, w.window_end
	HAVING count(DISTINCT t.city) > 8;

CREATE TEMP TABLE batch_city_10s AS
	SELECT t.city, w.window_start, w.window_end, count(*) AS n, sum(t.amount) AS total, avg(t.amount) AS mean
	FROM topic t, streamproc.hop(t.at, '1 s', '10 s') w
	WHERE NOT EXISTS (SELECT FROM late l
		WHERE l.pipeline = 'city_10s' AND l.partition = t.p AND l."offset" = t.o AND l.window_start = w.window_start)
	GROUP BY t.city, w.window_start, w.window_end;

-- rows that came too late to be answered take no part; those of one instant are taken by their place
CREATE TEMP TABLE batch_fraud AS
	SELECT tx_id, card,
		CASE WHEN city <> prev_city AND at - prev_at < '1 ms' THEN 'impossible travel'
			WHEN amount > 20 * mean_1m THEN 'far above its average' ELSE 'velocity' END AS rule,
		amount, at, p, o
	FROM (SELECT t.*, lag(t.city) OVER k AS prev_city, lag(t.at) OVER k AS prev_at,
				count(*) OVER s AS n_1s, avg(t.amount) OVER m AS mean_1m
			FROM topic t
			WHERE NOT EXISTS (SELECT FROM late l WHERE l.pipeline = 'fraud' AND l.partition = t.p AND l."offset" = t.o)
			WINDOW k AS (PARTITION BY t.card ORDER BY t.at, t.p, t.o),
				s AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 s' PRECEDING AND CURRENT ROW),
				m AS (PARTITION BY t.card ORDER BY t.at RANGE BETWEEN '1 min' PRECEDING AND CURRENT ROW)) q
	WHERE (city <> prev_city AND at - prev_at < '1 ms') OR amount > 20 * mean_1m OR n_1s > 100;

CREATE TEMP TABLE sent AS SELECT tx_id, card, rule FROM fraud_out;

-- a row and one of its windows, each once
CREATE TEMP TABLE batch_late AS
	SELECT DISTINCT l.* FROM late l JOIN topic t ON t.p = l.partition AND t.o = l."offset"
	WHERE l.window_start <= t.at AND t.at < l.window_end OR l.pipeline = 'fraud' AND l.window_start IS NULL;

SELECT 'topic', (SELECT count(*) FROM topic), NULL, NULL, NULL
UNION ALL
SELECT 'big_tx', (SELECT count(*) FROM big_tx), (SELECT count(*) FROM batch_big_tx),
	(SELECT count(*) FROM (TABLE batch_big_tx EXCEPT ALL TABLE big_tx) x),
	(SELECT count(*) FROM (TABLE big_tx EXCEPT ALL TABLE batch_big_tx) x)
UNION ALL
SELECT 'card_last', (SELECT count(*) FROM card_last), (SELECT count(*) FROM batch_card_last),
	(SELECT count(*) FROM (TABLE batch_card_last EXCEPT ALL TABLE card_last) x),
	(SELECT count(*) FROM (TABLE card_last EXCEPT ALL TABLE batch_card_last) x)
UNION ALL
SELECT 'alert', (SELECT count(*) FROM alert), (SELECT count(*) FROM batch_alert),
	(SELECT count(*) FROM (TABLE batch_alert EXCEPT ALL TABLE alert) x),
	(SELECT count(*) FROM (TABLE alert EXCEPT ALL TABLE batch_alert) x)
UNION ALL
SELECT 'city_alert', (SELECT count(*) FROM city_alert), (SELECT count(*) FROM batch_city_alert),
	(SELECT count(*) FROM (TABLE batch_city_alert EXCEPT ALL TABLE city_alert) x),
	(SELECT count(*) FROM (TABLE city_alert EXCEPT ALL TABLE batch_city_alert) x)
UNION ALL
SELECT 'card_5s', (SELECT count(*) FROM card_5s), (SELECT count(*) FROM batch_card_5s),
	(SELECT count(*) FROM (TABLE batch_card_5s EXCEPT ALL TABLE card_5s) x),
	(SELECT count(*) FROM (TABLE card_5s EXCEPT ALL TABLE batch_card_5s) x)
UNION ALL
SELECT 'city_10s', (SELECT count(*) FROM city_10s), (SELECT count(*) FROM batch_city_10s),
	(SELECT count(*) FROM (TABLE batch_city_10s EXCEPT ALL TABLE city_10s) x),
	(SELECT count(*) FROM (TABLE city_10s EXCEPT ALL TABLE batch_city_10s) x)
UNION ALL
SELECT 'fraud', (SELECT count(*) FROM fraud), (SELECT count(*) FROM batch_fraud),
	(SELECT count(*) FROM (TABLE batch_fraud EXCEPT ALL TABLE fraud) x),
	(SELECT count(*) FROM (TABLE fraud EXCEPT ALL TABLE batch_fraud) x)
UNION ALL
SELECT 'topic fraud', (SELECT count(*) FROM sent), (SELECT count(*) FROM batch_fraud),
	(SELECT count(*) FROM (SELECT tx_id, card, rule FROM batch_fraud EXCEPT ALL TABLE sent) x),
	(SELECT count(*) FROM (TABLE sent EXCEPT ALL SELECT tx_id, card, rule FROM batch_fraud) x)
UNION ALL
SELECT 'late_row', (SELECT count(*) FROM late), (SELECT count(*) FROM batch_late), 0,
	(SELECT count(*) FROM (TABLE late EXCEPT ALL TABLE batch_late) x);

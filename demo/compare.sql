-- Each sink against the batch query over the same topic, through the same foreign table: rows of the sink, rows of the
-- query, rows that are missing in the sink, rows that the sink has too many.  Run by show.pl in one transaction.

CREATE TEMP VIEW batch_big_tx AS
	SELECT t.tx_id, t.card, c.owner, t.amount, t.city, t.at, t.p, t.o
	FROM tx t LEFT JOIN card c USING (card)
	WHERE t.amount > 1000;

CREATE TEMP VIEW batch_card_last AS
	SELECT DISTINCT ON (card) card, city, amount, at, count(*) OVER (PARTITION BY card) AS times
	FROM tx
	ORDER BY card, p, o DESC;		-- a card's events are all in one partition

CREATE TEMP VIEW batch_alert AS
	SELECT t.tx_id, t.card, c.owner, t.amount, c.card_limit, t.city, t.at, t.p, t.o
	FROM tx t JOIN card c USING (card)
	WHERE t.amount > c.card_limit;

CREATE TEMP VIEW batch_city_alert AS
	SELECT city, count(*) AS alerts, sum(amount) AS total FROM batch_alert GROUP BY city;

SELECT 'topic', (SELECT count(*) FROM tx), NULL, NULL, NULL
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
	(SELECT count(*) FROM (TABLE city_alert EXCEPT ALL TABLE batch_city_alert) x);

\t on
-- Cost of decoding a value, in ns (make bench; no expected output).
CREATE TYPE bench_all AS (tx_id uuid, card text, amount numeric(12,2), at timestamptz);
CREATE TYPE bench_none AS (nothing int);
CREATE TYPE bench_wide AS (tx_id uuid, card text, amount numeric(12,2), country text, city text, merchant text, at timestamptz);
CREATE TYPE bench_text AS (doc jsonb);
CREATE TABLE bench_doc AS
SELECT array_agg(convert_to(json_build_object(
	'tx_id', md5(i::text)::uuid, 'card', lpad((i * 7919 % 100000)::text, 16, '4'), 'amount', round((i * 37 % 200000) / 100.0, 2),
	'country', 'DE', 'city', 'Frankfurt', 'merchant', 'm' || i % 500,
	'at', to_char(timestamp '2024-01-01' + i * interval '1.234 s', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text, 'UTF8')) AS pretty,
	array_agg(convert_to(replace(replace(json_build_object(
	'tx_id', md5(i::text)::uuid, 'card', lpad((i * 7919 % 100000)::text, 16, '4'), 'amount', round((i * 37 % 200000) / 100.0, 2),
	'country', 'DE', 'city', 'Frankfurt', 'merchant', 'm' || i % 500,
	'at', to_char(timestamp '2024-01-01' + i * interval '1.234 s', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::text, ' : ', ':'), ', ', ','), 'UTF8')) AS docs
FROM generate_series(1, 4096) i;
SELECT octet_length(docs[1]), octet_length(pretty[1]), convert_from(docs[1], 'UTF8') FROM bench_doc;
SELECT 'tx_id, card, amount, at' AS columns, round(test_codec_bench(NULL::bench_all, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
SELECT 'the same, with white space' AS columns, round(test_codec_bench(NULL::bench_all, 'json', pretty, 100)::numeric, 1) AS ns FROM bench_doc;
SELECT 'none (checks only)' AS columns, round(test_codec_bench(NULL::bench_none, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
SELECT 'all seven' AS columns, round(test_codec_bench(NULL::bench_wide, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
CREATE TYPE bench_uuid AS (tx_id uuid);
SELECT 'tx_id' AS columns, round(test_codec_bench(NULL::bench_uuid, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
CREATE TYPE bench_card AS (card text);
SELECT 'card' AS columns, round(test_codec_bench(NULL::bench_card, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
CREATE TYPE bench_amount AS (amount numeric(12,2));
SELECT 'amount' AS columns, round(test_codec_bench(NULL::bench_amount, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
CREATE TYPE bench_at AS (at timestamptz);
SELECT 'at' AS columns, round(test_codec_bench(NULL::bench_at, 'json', docs, 100)::numeric, 1) AS ns FROM bench_doc;
SELECT 'whole message as jsonb (raw)' AS columns, round(test_codec_bench(NULL::bench_text, 'raw', docs, 20)::numeric, 1) AS ns FROM bench_doc;

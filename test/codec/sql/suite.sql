--
-- What is taken as JSON, against PostgreSQL's own: each document of the corpus
-- of test/fuzz (syntax.cases, values.cases).  All that differs is listed here;
-- src/codec/README.md says why.
--
CREATE FUNCTION unescape(s text) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	result bytea := '';
	p int;
BEGIN
	LOOP
		p := strpos(s, '%');
		IF p = 0 THEN
			RETURN result || convert_to(s, 'UTF8');
		END IF;
		result := result || convert_to(left(s, p - 1), 'UTF8');
		s := substr(s, p);
		IF substr(s, 2, 1) = '<' THEN
			result := result || decode(repeat(encode(unescape(substring(s from '^%<\d+ ([^>]*)>')), 'hex'), substring(s from '^%<(\d+) ')::int), 'hex');
			s := substr(s, strpos(s, '>') + 1);
		ELSE
			result := result || decode(substr(s, 2, 2), 'hex');
			s := substr(s, 4);
		END IF;
	END LOOP;
END $$;
CREATE TABLE suite AS
SELECT file, split_part(line, E'\t', 1) AS name, unescape(substr(line, strpos(line, E'\t') + 1)) AS doc
FROM unnest(ARRAY['syntax', 'values']) file, regexp_split_to_table(convert_from(test_codec_corpus(file || '.cases'), 'UTF8'), E'\n') line
WHERE line <> '' AND line NOT LIKE '#%';
-- enough of them were read
SELECT file, count(*) > 250 AS many, count(*) FILTER (WHERE name LIKE 'n%') > 0 AS wrong_ones FROM suite GROUP BY file ORDER BY file;

-- its SQLSTATE; NULL: it is taken
CREATE FUNCTION json_refuses(doc bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM convert_from(doc, 'UTF8')::json;
	RETURN NULL;
EXCEPTION WHEN others THEN
	RETURN SQLSTATE;
END $$;
CREATE TYPE other AS ("no such column" int);
CREATE TABLE verdicts AS
SELECT file, name, doc, left(test_codec_error(NULL::other, 'json', doc), 5) AS ours, json_refuses(doc) AS theirs FROM suite;

-- taken by both, refused by both
SELECT count(*) FILTER (WHERE ours IS NULL AND theirs IS NULL) > 300 AS taken, count(*) FILTER (WHERE ours IS NOT NULL AND theirs IS NOT NULL) > 100 AS refused FROM verdicts;
-- taken here alone: nothing
SELECT name, left(encode(doc, 'escape'), 60) AS doc, theirs FROM verdicts WHERE ours IS NULL AND theirs IS NOT NULL ORDER BY file, name COLLATE "C";
-- taken there alone
SELECT name, left(encode(doc, 'escape'), 60) AS doc, ours FROM verdicts WHERE ours IS NOT NULL AND theirs IS NULL ORDER BY file, name COLLATE "C";
-- refused for another reason
SELECT name, left(encode(doc, 'escape'), 60) AS doc, ours, theirs FROM verdicts WHERE ours <> theirs ORDER BY file, name COLLATE "C";

-- The value of a key, where both take the document: as text, json and jsonb.
CREATE FUNCTION value_or_error(query text, doc bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE query INTO result USING doc;
	RETURN result;
EXCEPTION WHEN others THEN
	RETURN 'ERROR ' || SQLSTATE;
END $$;
CREATE TYPE as_text AS (a text);
CREATE TYPE as_json AS (a json);
CREATE TYPE as_jsonb AS (a jsonb);
SELECT kind, name, left(encode(doc, 'escape'), 50) AS doc, left(ours, 30) AS ours, left(theirs, 30) AS theirs
FROM (SELECT kind, file, name, doc,
			 value_or_error(format('SELECT (test_codec_decode(NULL::as_%s, ''json'', $1)).a::text', kind), doc) AS ours,
			 value_or_error(format('SELECT (convert_from($1, ''UTF8'')::%s %s ''a'')::text', CASE kind WHEN 'jsonb' THEN 'jsonb' ELSE 'json' END, CASE kind WHEN 'text' THEN '->>' ELSE '->' END), doc) AS theirs
	  FROM verdicts, unnest(ARRAY['text', 'json', 'jsonb']) kind
	  WHERE verdicts.ours IS NULL AND verdicts.theirs IS NULL) v
WHERE ours IS DISTINCT FROM theirs
ORDER BY kind, file, name COLLATE "C";

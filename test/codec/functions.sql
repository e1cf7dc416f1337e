-- Functions of the test module; run_check puts the module's path in the place of MODULE_PATHNAME, that of the corpus
-- in the place of CORPUS.

-- a file of test/fuzz/corpus/json
CREATE FUNCTION test_codec_corpus(file text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file('CORPUS/' || file) $$;

-- decodes "value" as the columns of the row's type; errors are raised
CREATE FUNCTION test_codec_decode(r anyelement, format text, value bytea, paths text[] DEFAULT NULL, delimiter text DEFAULT ',')
RETURNS anyelement AS 'MODULE_PATHNAME' LANGUAGE C;

-- the same; NULL where it is decoded, otherwise "sqlstate column: message"
CREATE FUNCTION test_codec_error(r anyelement, format text, value bytea, paths text[] DEFAULT NULL, delimiter text DEFAULT ',')
RETURNS text AS 'MODULE_PATHNAME' LANGUAGE C;

CREATE FUNCTION test_codec_encode(r anyelement, format text, paths text[] DEFAULT NULL, delimiter text DEFAULT ',')
RETURNS bytea AS 'MODULE_PATHNAME' LANGUAGE C;

-- decodes all values with one decoder; "column: nearest key" of the columns that none had
CREATE FUNCTION test_codec_unseen(r anyelement, format text, vals bytea[], paths text[] DEFAULT NULL)
RETURNS text[] AS 'MODULE_PATHNAME' LANGUAGE C;

-- nanoseconds per value
CREATE FUNCTION test_codec_bench(r anyelement, format text, vals bytea[], loops int)
RETURNS float8 AS 'MODULE_PATHNAME' LANGUAGE C;

-- the documents next to an unreadable page: n bytes of each of "vals", n = 1 .. all; number of them
CREATE FUNCTION test_codec_bounds(vals bytea[])
RETURNS int AS 'MODULE_PATHNAME' LANGUAGE C STRICT;

-- the bytes of a value as it is stored, without a header of its length
CREATE FUNCTION test_codec_bytes(anyelement)
RETURNS bytea AS 'MODULE_PATHNAME' LANGUAGE C STRICT;

--
-- Which properties of librdkafka can be set, where, and by whom.  Needs no broker.
--
\set VERBOSITY default
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS streamproc;
RESET client_min_messages;

CREATE SERVER prop_s FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092');
CREATE USER MAPPING FOR CURRENT_USER SERVER prop_s;
CREATE FOREIGN TABLE prop_t (a int) SERVER prop_s OPTIONS (topic 't');

-- what an attempt comes to: ok (and undone), or the error
CREATE FUNCTION prop_try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE statement;
	RAISE EXCEPTION 'undo' USING ERRCODE = 'UN000';
EXCEPTION
	WHEN SQLSTATE 'UN000' THEN
		RETURN 'ok';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
		RETURN SQLSTATE || ' ' || message || CASE WHEN hint <> '' THEN ' (' || hint || ')' ELSE '' END;
END $$;
CREATE FUNCTION prop_state(statement text) RETURNS text LANGUAGE sql AS $$
	SELECT split_part(prop_try(statement), ' ', 1)
$$;

-- What loads code, runs a shell, writes files, touches the process or decides about correctness exists nowhere, in
-- neither spelling: six refusals each.
CREATE TEMP TABLE dangerous (id serial, class text, property text, value text);
INSERT INTO dangerous (class, property, value) VALUES
	('code', 'plugin.library.paths', '/tmp/evil.so'),
	('code', 'ssl.engine.location', '/tmp/evil.so'),
	('code', 'ssl.engine.id', 'dynamic'),
	('code', 'ssl.providers', 'evil'),
	('shell', 'sasl.kerberos.kinit.cmd', 'touch /tmp/evil'),
	('shell', 'sasl.kerberos.principal', '$(touch /tmp/evil)'),
	('shell', 'sasl.kerberos.keytab', '$(touch /tmp/evil)'),
	('shell', 'sasl.kerberos.service.name', '$(touch /tmp/evil)'),
	('shell', 'sasl.kerberos.min.time.before.relogin', '1'),
	('file', 'offset.store.method', 'file'),
	('file', 'offset.store.path', '/tmp/evil'),
	('file', 'offset.store.sync.interval.ms', '1'),
	('file', 'https.ca.location', '/etc/passwd'),
	('file', 'https.ca.pem', 'x'),
	('network', 'metadata.broker.list', 'evil:9092'),
	('network', 'bootstrap.servers', 'evil:9092'),
	('network', 'sasl.oauthbearer.config', 'x=y'),
	('network', 'sasl.oauthbearer.method', 'oidc'),
	('network', 'sasl.oauthbearer.client.id', 'x'),
	('network', 'sasl.oauthbearer.client.secret', 'x'),
	('network', 'sasl.oauthbearer.scope', 'x'),
	('network', 'sasl.oauthbearer.extensions', 'x=y'),
	('network', 'sasl.oauthbearer.token.endpoint.url', 'http://169.254.169.254/'),
	('network', 'sasl.oauthbearer.grant.type', 'client_credentials'),
	('network', 'sasl.oauthbearer.assertion.file', '/etc/passwd'),
	('network', 'sasl.oauthbearer.assertion.private.key.file', '/etc/passwd'),
	('network', 'sasl.oauthbearer.assertion.private.key.passphrase', 'x'),
	('network', 'sasl.oauthbearer.assertion.private.key.pem', 'x'),
	('network', 'sasl.oauthbearer.assertion.jwt.template.file', '/etc/passwd'),
	('network', 'sasl.oauthbearer.metadata.authentication.type', 'azure_imds'),
	('network', 'enable.sasl.oauthbearer.unsecure.jwt', 'true'),
	('process', 'internal.termination.signal', '11'),
	('process', 'debug', 'security'),
	('process', 'log_level', '7'),
	('process', 'log.queue', 'false'),
	('process', 'log.thread.name', 'false'),
	('process', 'log.connection.close', 'true'),
	('process', 'test.mock.num.brokers', '3'),
	('process', 'test.mock.broker.rtt', '3'),
	('process', 'enable.metrics.push', 'true'),
	('process', 'statistics.interval.ms', '1'),
	('process', 'client.software.name', 'evil'),
	('process', 'client.software.version', 'evil'),
	('process', 'socket.blocking.max.ms', '60000'),
	('process', 'socket.max.fails', '0'),
	('process', 'enabled_events', '0'),
	('process', 'opaque', '0'),
	('process', 'connect_cb', '0'),
	('process', 'resolve_cb', '0'),
	('correctness', 'auto.offset.reset', 'latest'),
	('correctness', 'isolation.level', 'read_uncommitted'),
	('correctness', 'group.id', 'evil'),
	('correctness', 'group.instance.id', 'evil'),
	('correctness', 'group.protocol', 'consumer'),
	('correctness', 'transactional.id', 'evil'),
	('correctness', 'transaction.timeout.ms', '1000'),
	('correctness', 'enable.idempotence', 'false'),
	('correctness', 'enable.gapless.guarantee', 'false'),
	('correctness', 'acks', '0'),
	('correctness', 'request.required.acks', '0'),
	('correctness', 'enable.auto.commit', 'true'),
	('correctness', 'auto.commit.enable', 'true'),
	('correctness', 'auto.commit.interval.ms', '1'),
	('correctness', 'enable.auto.offset.store', 'true'),
	('correctness', 'enable.partition.eof', 'false'),
	('correctness', 'max.in.flight', '1000'),
	('correctness', 'max.in.flight.requests.per.connection', '1000'),
	('correctness', 'message.timeout.ms', '1'),
	('correctness', 'delivery.timeout.ms', '1'),
	('correctness', 'message.send.max.retries', '0'),
	('correctness', 'retries', '0'),
	('correctness', 'partitioner', 'random'),
	('correctness', 'partition.assignment.strategy', 'roundrobin'),
	('correctness', 'allow.auto.create.topics', 'true'),
	('correctness', 'topic.blacklist', '.*'),
	('correctness', 'broker.version.fallback', '0.8.0'),
	('correctness', 'api.version.request', 'false'),
	('memory', 'queued.max.messages.kbytes', '2097151'),
	('memory', 'queued.min.messages', '10000000'),
	('memory', 'queue.buffering.max.kbytes', '2147483647'),
	('memory', 'queue.buffering.max.messages', '10000000'),
	('memory', 'max.poll.interval.ms', '1'),
	('memory', 'message.copy.max.bytes', '1000000000');

SELECT class, property,
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %I %L)', o, value)) AS server,
	prop_state(format('CREATE SERVER prop_new FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers ''b'', %I %L)', o, value)) AS new_server,
	prop_state(format('ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD %I %L)', o, value)) AS mapping,
	prop_state(format('ALTER FOREIGN TABLE prop_t OPTIONS (ADD %I %L)', o, value)) AS "table",
	prop_state(format('ALTER FOREIGN TABLE prop_t ALTER a OPTIONS (ADD %I %L)', o, value)) AS "column",
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %I %L)', property, value)) AS dots_server,
	prop_state(format('ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD %I %L)', property, value)) AS dots_mapping,
	prop_state(format('ALTER FOREIGN TABLE prop_t OPTIONS (ADD %I %L)', property, value)) AS dots_table
FROM dangerous, LATERAL (SELECT replace(property, '.', '_') AS o) x
ORDER BY id;

-- the dotted spelling of what may be set is refused as well, and so is another case
SELECT prop_try($$ALTER SERVER prop_s OPTIONS (ADD "security.protocol" 'ssl')$$);
SELECT prop_try($$ALTER SERVER prop_s OPTIONS (ADD "Security_Protocol" 'ssl')$$);
SELECT prop_try($$ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD "sasl.password" 'prop-secret')$$);
-- mechanisms
SELECT m, prop_try(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, m))
FROM unnest(ARRAY['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512', 'GSSAPI', 'gssapi', 'OAUTHBEARER', 'PLAIN,GSSAPI', '']) m,
	unnest(ARRAY['sasl_mechanism', 'sasl_mechanisms']) o ORDER BY o, m COLLATE "C";

-- secrets belong into user mappings
SELECT o, prop_try(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, 'prop-secret')) AS server,
	prop_state(format('ALTER FOREIGN TABLE prop_t OPTIONS (ADD %s %L)', o, 'prop-secret')) AS "table",
	prop_try(format('ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD %s %L)', o, 'prop-secret')) AS mapping
FROM unnest(ARRAY['sasl_username', 'sasl_password', 'ssl_certificate_pem', 'ssl_key_pem', 'ssl_key_password', 'ssl_keystore_password']) o;
-- and options of the connection to the server, where its owner has the say
SELECT o, prop_try(format('ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD %s %L)', o, 'x'))
FROM unnest(ARRAY['brokers', 'security_protocol', 'ssl_ca_pem', 'ssl_ca_location', 'enable_ssl_certificate_verification',
	'ssl_endpoint_identification_algorithm', 'ssl_cipher_suites']) o;

-- brokers: addresses of one form
SELECT b, prop_try(format('ALTER SERVER prop_s OPTIONS (SET brokers %L)', b))
FROM unnest(ARRAY['kafka', 'kafka.', 'kafka-1.example.com:9092', ' a:1 , b:2,,', '127.0.0.1', '127.0.0.1:9092', '::1', '[::1]:9092', 'A_b:65535',
	'', ' , ', 'a:0', 'a:65536', 'a:b', 'a:', ':9092', 'a b', 'a;b', 'a/b', 'ssl://a:9093', '[::1', '[::1]x', '[a]:1', '127.1', '0x7f000001', '2130706433',
	'10.0.0.0/8', '*', '-a']) b;
SELECT prop_state(format('ALTER SERVER prop_s OPTIONS (SET brokers %L)', repeat('a', 254)));

-- what costs memory is bounded
SELECT o, prop_try(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, max)) AS max,
	prop_try(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, max + 1)) AS more,
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, '99999999999999999999')) AS absurd,
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, -1)) AS negative,
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, '0x7fff')) AS hex,
	prop_state(format('ALTER SERVER prop_s OPTIONS (ADD %s %L)', o, '')) AS empty
FROM (VALUES ('receive_message_max_bytes', 268435456), ('fetch_max_bytes', 268434944), ('fetch_message_max_bytes', 134217728),
	('fetch_min_bytes', 16777216), ('message_max_bytes', 134217728), ('batch_size', 67108864), ('batch_num_messages', 100000),
	('socket_send_buffer_bytes', 16777216), ('socket_receive_buffer_bytes', 16777216)) v (o, max);

-- ---- others than superusers ----
CREATE ROLE regress_prop_user;
GRANT USAGE ON FOREIGN DATA WRAPPER streamproc_kafka TO regress_prop_user;
SET ROLE regress_prop_user;
CREATE SERVER prop_u FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'localhost:9092');
CREATE USER MAPPING FOR CURRENT_USER SERVER prop_u;

-- files of the server
SELECT o, prop_try(format('ALTER SERVER prop_u OPTIONS (ADD %s %L)', o, '/etc/passwd'))
FROM unnest(ARRAY['ssl_ca_location', 'ssl_certificate_location', 'ssl_key_location', 'ssl_keystore_location', 'ssl_crl_location']) o;
SELECT o, prop_state(format('CREATE SERVER prop_new FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers ''b'', %s %L)', o, '/etc/passwd'))
FROM unnest(ARRAY['ssl_ca_location', 'ssl_certificate_location', 'ssl_key_location', 'ssl_keystore_location', 'ssl_crl_location']) o;
SELECT o, prop_state(format('ALTER USER MAPPING FOR CURRENT_USER SERVER prop_u OPTIONS (ADD %s %L)', o, '/etc/passwd'))
FROM unnest(ARRAY['ssl_certificate_location', 'ssl_key_location', 'ssl_keystore_location']) o;
-- TLS made weaker
SELECT o, v, prop_try(format('ALTER SERVER prop_u OPTIONS (ADD %s %L)', o, v))
FROM (VALUES ('enable_ssl_certificate_verification', 'false'), ('enable_ssl_certificate_verification', 'FALSE'),
	('enable_ssl_certificate_verification', '0'), ('enable_ssl_certificate_verification', 'f'),
	('enable_ssl_certificate_verification', 'no'), ('enable_ssl_certificate_verification', ''),
	('enable_ssl_certificate_verification', 'true'), ('enable_ssl_certificate_verification', '1'),
	('ssl_endpoint_identification_algorithm', 'none'), ('ssl_endpoint_identification_algorithm', 'NONE'),
	('ssl_endpoint_identification_algorithm', 'nothing'), ('ssl_endpoint_identification_algorithm', ''),
	('ssl_endpoint_identification_algorithm', 'https'),
	('ssl_cipher_suites', 'eNULL'), ('ssl_curves_list', 'P-256'), ('ssl_sigalgs_list', 'RSA+SHA1')) x (o, v);
SELECT prop_try($$CREATE SERVER prop_new FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'b', enable_ssl_certificate_verification 'false')$$);
SELECT prop_try($$CREATE SERVER prop_new FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers 'b', ssl_endpoint_identification_algorithm 'none')$$);
RESET ROLE;

-- a superuser may; the owner then cannot change it, nor lead it elsewhere, only take it away
ALTER SERVER prop_u OPTIONS (ADD enable_ssl_certificate_verification 'false', ADD ssl_ca_location '/etc/ca.pem');
ALTER USER MAPPING FOR regress_prop_user SERVER prop_u OPTIONS (ADD ssl_key_location '/etc/key.pem');
SET ROLE regress_prop_user;
SELECT prop_try($$ALTER SERVER prop_u OPTIONS (SET ssl_ca_location '/etc/passwd')$$);
SELECT prop_try($$ALTER SERVER prop_u OPTIONS (SET brokers 'evil:9092')$$);
SELECT prop_try($$ALTER SERVER prop_u OPTIONS (DROP ssl_ca_location)$$);
SELECT prop_try($$ALTER USER MAPPING FOR CURRENT_USER SERVER prop_u OPTIONS (SET ssl_key_location '/etc/passwd')$$);
SELECT prop_try($$ALTER USER MAPPING FOR CURRENT_USER SERVER prop_u OPTIONS (ADD sasl_username 'x')$$);
ALTER SERVER prop_u OPTIONS (DROP ssl_ca_location, DROP enable_ssl_certificate_verification);
ALTER USER MAPPING FOR CURRENT_USER SERVER prop_u OPTIONS (DROP ssl_key_location);
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 'prop_u';
RESET ROLE;
-- pg_read_server_files is about files, not about TLS
GRANT pg_read_server_files TO regress_prop_user;
SET ROLE regress_prop_user;
SELECT prop_try($$ALTER SERVER prop_u OPTIONS (ADD ssl_ca_location '/etc/ca.pem')$$);
SELECT prop_try($$ALTER USER MAPPING FOR CURRENT_USER SERVER prop_u OPTIONS (ADD ssl_key_location '/etc/key.pem')$$);
SELECT prop_state($$ALTER SERVER prop_u OPTIONS (ADD enable_ssl_certificate_verification 'false')$$);
RESET ROLE;

-- only the mapping's user and superusers see what is in it
ALTER USER MAPPING FOR CURRENT_USER SERVER prop_s OPTIONS (ADD sasl_username 'prop', ADD sasl_password 'prop-secret');
GRANT USAGE ON FOREIGN SERVER prop_s TO regress_prop_user;
SET ROLE regress_prop_user;
SELECT srvname, usename = current_user AS mine, umoptions FROM pg_user_mappings WHERE srvname LIKE 'prop%' ORDER BY srvname;
SELECT count(*) FROM pg_user_mapping;
-- the list of allowed brokers is not theirs
SET streamproc.allowed_brokers = '*';
SHOW streamproc.allowed_brokers;
ALTER SYSTEM SET streamproc.allowed_brokers = '*';
RESET ROLE;

-- the list: what is wrong is refused
SHOW streamproc.allowed_brokers;
SET streamproc.allowed_brokers = '*';
SELECT format('ALTER SYSTEM SET streamproc.allowed_brokers = %L', l) FROM unnest(ARRAY['a,,b', ',', 'a b', 'a:0', 'a:70000', 'a:', ':1', '*x', '*.', '*.1', 'a.*.b', '10.0.0.0/33', '10.0.0.1/8',
	'10.0.0.0/', '10.0.0/8', '::1/129', '[::1', '[::1]9092', '[a]:1', 'a/8', '127.1', 'http://a', '::ffff:0.0.0.0/90', repeat('a.', 130)]) l \gexec
-- and what is right is not (nobody reloads)
SELECT format('ALTER SYSTEM SET streamproc.allowed_brokers = %L', l) FROM unnest(ARRAY['', ' ', '*', '*:9092', 'a', 'A.example.com.', 'a:9092, b:9093', '*.example.com', '*.example.com:9092',
	'10.0.0.0/8', '10.0.0.0/8:9092', '127.0.0.1', '::1', '[::1]:9092', 'fd00::/8', '[fd00::/8]:9092', '::ffff:10.0.0.0/104', '0.0.0.0/0', '::/0']) l \gexec
ALTER SYSTEM SET streamproc.allowed_brokers = 'a', 'b:9092';
ALTER SYSTEM RESET streamproc.allowed_brokers;

DROP SERVER prop_u CASCADE;
DROP SERVER prop_s CASCADE;
REVOKE USAGE ON FOREIGN DATA WRAPPER streamproc_kafka FROM regress_prop_user;
DROP ROLE regress_prop_user;
DROP FUNCTION prop_try, prop_state;

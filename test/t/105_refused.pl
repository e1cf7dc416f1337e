# What a topic does not take becomes a dead letter, and everything else arrives: once, in order, under its own number.
#
# ONLY=REGEXP picks sections.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../perl";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Streamproc::Crash;
use Streamproc::Kafka;
use Streamproc::Node;
use Test::More;

my $kafka = Streamproc::Kafka->new;
my $node = create_node('refused', init => [ allows_streaming => 1 ], conf => <<'CONF');
restart_after_crash = on
streamproc.restart_backoff_max = 400ms
include_if_exists = 'fault.conf'
CONF
create_kafka_server($node, $kafka);
my $crash = Streamproc::Crash->new($node);

sub value { return scalar $node->safe_psql('postgres', $_[0]) }
sub wait_ready { return wait_until(sub { eval { value('SELECT 1') } }, 60) || die 'the server does not come back' }

sub section
{
	my ($name, $code) = @_;
	$code->() if picked($name);
	return;
}

# A source of numbers, and a sink that takes what its settings say.  Rows whose "k" is null have no key.
my %sent;

sub make
{
	my ($name, %config) = @_;
	$kafka->topic("${name}_in", 2);
	$kafka->topic("${name}_out", 2, %config);
	$node->safe_psql('postgres', <<SQL);
CREATE FOREIGN TABLE ${name}_in (id int, p int OPTIONS (kafka 'partition'), o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic '${name}_in', format 'json');
CREATE FOREIGN TABLE ${name}_out (k text OPTIONS (kafka 'key'), id int, filler text, p int OPTIONS (kafka 'partition'), headers jsonb OPTIONS (kafka 'headers'))
	SERVER kafka OPTIONS (topic '${name}_out', format 'json');
SQL
	return;
}

sub send_rows
{
	my ($name, $n) = @_;
	my $from = $sent{$name} // 0;
	$kafka->produce("${name}_in", map { { partition => $_ % 2, value => qq({"id": $_}) } } $from .. $from + $n - 1);
	$sent{$name} = $from + $n;
	return;
}

# Of all that was sent: "bad" ids are dead letters and nothing else is; each other message is in the topic once, in the order
# of its key; no number comes twice, and of 1 .. n as many are missing as there are letters.
sub exact
{
	my ($name, $bad, $what, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my (%count, %seen, %last, @wrong);
	for ($kafka->consume("${name}_out"))
	{
		my ($number) = map { $_->[1] =~ m{/(\d+)$} } grep { $_->[0] eq 'streamproc' } @{ $_->{headers} };
		my ($id) = $_->{value} =~ /"id":(\d+)/;
		# at least once: again, with the same number
		push @wrong, "number $number for $id and for $count{$number}" if defined $count{$number} && !($options{twice} && $count{$number} == $id);
		push @wrong, "$id twice" if $seen{$id}++ && !$options{twice};
		push @wrong, "$id after $last{ $_->{key} }" if defined $_->{key} && !$options{twice} && ($last{ $_->{key} } // -1) >= $id;
		$last{ $_->{key} } = $id if defined $_->{key};
		$count{$number} = $id;
	}
	my @letters = split /\n/, value("SELECT convert_from(value, 'UTF8')::jsonb->>'id' FROM streamproc.dead_letter WHERE pipeline = '$name' AND kind = 'unsent'");
	is(join(' ', sort { $a <=> $b } @letters), join(' ', grep { $bad->($_) } 0 .. $sent{$name} - 1), "$what: what is refused is a dead letter, once");
	is(join(' ', sort { $a <=> $b } keys %seen), join(' ', grep { !$bad->($_) } 0 .. $sent{$name} - 1), "$what: everything else arrived");
	# a dead letter has a number, too
	push @wrong, "number $_, of $sent{$name}" for grep { $_ < 1 || $_ > $sent{$name} } keys %count;
	push @wrong, scalar(keys %count) . ' numbers and ' . @letters . " letters of $sent{$name}" if keys(%count) + @letters != $sent{$name};
	is(join("\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]), '', "$what: once, in order of its key, each number once");
	is(value("SELECT outbox_rows, state FROM streamproc.stat_pipeline WHERE pipeline = '$name'"), '0|running', "$what: nothing waits");
	return;
}

# ---- found before it is in the outbox: an ordinary bad row, of which position and message are known ----

# catches: a limit that is the library's only; a border off by one, which would leave it to the publisher
section 'size' => sub {
	$kafka->topic($_) for qw(size_in size_out);
	value("CREATE SERVER narrow FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '" . $kafka->address . "', message_max_bytes '2000')");
	value(q{CREATE FOREIGN TABLE size_in (n int, o bigint OPTIONS (kafka 'offset')) SERVER kafka OPTIONS (topic 'size_in', format 'json')});
	value(q{CREATE FOREIGN TABLE size_out (v text, k text OPTIONS (kafka 'key'), h jsonb OPTIONS (kafka 'headers')) SERVER narrow OPTIONS (topic 'size_out', format 'raw')});
	create_pipeline($node, 'size', q{INSERT INTO size_out SELECT CASE WHEN n > 0 THEN repeat('x', n) END, CASE WHEN n < 0 THEN repeat('k', -n) ELSE 'k' END, CASE WHEN n = 100 THEN jsonb_build_object('h', repeat('h', 1895)) END FROM size_in});
	# 36 bytes of the protocol, the number's header of at most 68, the key
	my $most = 2000 - 36 - 68 - 1;
	$kafka->produce('size_in', map { { partition => 0, value => qq({"n": $_}) } } 1, $most, $most + 1, 100, 5000, -$most - 1, -$most - 2, 2);
	wait_caught_up($node, 'size');
	is(join(' ', map { length($_->{value} // '') . '/' . length $_->{key} } $kafka->consume('size_out')), "1/1 $most/1 0/@{[ $most + 1 ]} 2/1", 'what fits arrives, to the byte');
	is(value(q{SELECT string_agg("offset" || ' ' || kind || ' ' || sqlstate || ' ' || topic, ', ' ORDER BY "offset") FROM streamproc.dead_letter WHERE pipeline = 'size'}),
		join(', ', map { "$_ input 54000 size_in" } 2, 3, 4, 6), 'what is too large is a dead letter of its source');
	like(value(q{SELECT message || ' ' || detail FROM streamproc.dead_letter WHERE pipeline = 'size' AND "offset" = 2}),
		qr/^a message for topic "size_out" has 2001 bytes, where 2000 are allowed The limit is the option message_max_bytes of server "narrow"\.$/, '... which says by how much, and who says so');
	is(value(q{SELECT publish_retries FROM streamproc.stat_pipeline WHERE pipeline = 'size'}), 0, 'the publisher saw none of them');
	value(q{ALTER SERVER narrow OPTIONS (SET message_max_bytes '10000'); SELECT streamproc.retry_dead_letters('size')});
	wait_caught_up($node, 'size');
	is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'size'}), 0, 'and run again when the server allows more');
	is(scalar(my @all = $kafka->consume('size_out')), 8, 'all arrived');
};

# catches: a message that is too large only with the header of its number, which the library finds in its queue and aborts the process
section 'limit lowered' => sub {
	$kafka->topic('lowered_in');
	value("CREATE SERVER lowered FOREIGN DATA WRAPPER streamproc_kafka OPTIONS (brokers '" . $kafka->address . "', message_max_bytes '10000')");
	value(q{CREATE FOREIGN TABLE lowered_in (n int) SERVER kafka OPTIONS (topic 'lowered_in', format 'json')});
	value(q{CREATE FOREIGN TABLE lowered_out (v text, k text OPTIONS (kafka 'key')) SERVER lowered OPTIONS (topic 'lowered_out', format 'raw')});
	create_pipeline($node, 'lowered', q{INSERT INTO lowered_out SELECT repeat('x', n), 'k' FROM lowered_in});
	$kafka->produce('lowered_in', map { { partition => 0, value => qq({"n": $_}) } } 1800, 1835, 1870, 1903, 20);
	ok(wait_until(sub { value(q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'lowered'}) eq '5' }, 60), 'messages wait for their topic');
	my $began = value('SELECT pg_postmaster_start_time() || max(backend_start::text) FROM pg_stat_activity WHERE backend_type = \'checkpointer\'');
	value(q{ALTER SERVER lowered OPTIONS (SET message_max_bytes '1940')});
	$kafka->topic('lowered_out');
	ok(wait_until(sub { value(q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'lowered'}) eq '0' }, 60), 'all leave the outbox');
	is(join(' ', map { length $_->{value} } $kafka->consume('lowered_out')), '1800 1835 20', 'what fits with its header arrives, in order');
	is(value(q{SELECT string_agg(length(value)::text, ' ' ORDER BY id) FROM streamproc.dead_letter WHERE pipeline = 'lowered' AND kind = 'unsent'}), '1870 1903', 'what does not is a dead letter');
	is(value('SELECT pg_postmaster_start_time() || max(backend_start::text) FROM pg_stat_activity WHERE backend_type = \'checkpointer\''), $began, 'and nobody died of it');
};

# ---- what only the broker knows ----

# catches: a letter for each message of a refused batch; one that is lost; a number given twice
section 'no key' => sub {
	make('nokey', 'cleanup.policy' => 'compact');
	send_rows('nokey', 300);
	create_pipeline($node, 'nokey', q{INSERT INTO nokey_out (k, id) SELECT CASE WHEN id % 50 <> 13 THEN p || '-' || id % 7 END, id FROM nokey_in}, parallelism => 2);
	wait_caught_up($node, 'nokey');
	exact('nokey', sub { $_[0] % 50 == 13 }, 'no key in a compacted topic');
	is(value(q{SELECT DISTINCT topic, "offset" IS NULL, key IS NULL, sqlstate, attempts, retry FROM streamproc.dead_letter WHERE pipeline = 'nokey'}), 'nokey_out|t|t|HV000|1|f', 'the letter is the message that was to be sent');
	like(value(q{SELECT message FROM streamproc.dead_letter WHERE pipeline = 'nokey' LIMIT 1}), qr/^the message cannot be sent to topic "nokey_out": Broker: Broker failed to validate record$/, 'and says why');
	is(value(q{SELECT bad_rows FROM streamproc.stat_pipeline WHERE pipeline = 'nokey'}), 6, 'the view counts them');
	is(value(q{SELECT streamproc.retry_dead_letters('nokey')}), 0, 'they do not run again');
	is(value(q{SELECT streamproc.delete_dead_letters('nokey', now() + interval '1 h')}), 6, 'and can be deleted');
};

# catches: batches that are refused taken for messages; a message that is refused taken for a batch
section 'too large for the topic' => sub {
	make('large', 'max.message.bytes' => 5000);
	send_rows('large', 200);
	create_pipeline($node, 'large', q{INSERT INTO large_out (k, id, filler, headers) SELECT p || '-' || id % 7, id, repeat('x', CASE WHEN id % 60 = 13 THEN 6000 ELSE 500 END),
		jsonb_build_object('of', id) FROM large_in});
	wait_caught_up($node, 'large');
	exact('large', sub { $_[0] % 60 == 13 }, 'messages, and batches, that are too large');
	is(value(q{SELECT string_agg(headers, ' ' ORDER BY headers) FROM streamproc.dead_letter WHERE pipeline = 'large'}), join(' ', sort map { qq({"of": "$_"}) } 13, 73, 133, 193), 'headers are kept');
	is(value(q{SELECT min(length(value)) > 6000 FROM streamproc.dead_letter WHERE pipeline = 'large'}), 't', 'the value, too');
	send_rows('large', 200);
	wait_caught_up($node, 'large');
	exact('large', sub { $_[0] % 60 == 13 }, 'and later');
	# no message is too large, only a batch of them
	send_rows('large', 30);
	wait_caught_up($node, 'large');
	exact('large', sub { $_[0] % 60 == 13 }, 'a batch');
	like(slurp_file($node->logfile), qr/publisher of pipeline "large": batches were too large for a topic, they have at most \d+ bytes now/, 'batches became smaller');
};

section 'no such partition' => sub {
	make('place');
	send_rows('place', 100);
	create_pipeline($node, 'place', q{INSERT INTO place_out (k, id, p) SELECT p || '-' || id % 7, id, CASE WHEN id % 40 = 13 THEN 99 ELSE p END FROM place_in});
	wait_caught_up($node, 'place');
	exact('place', sub { $_[0] % 40 == 13 }, 'a partition that is not there');
	is(value(q{SELECT string_agg(DISTINCT partition::text, ' ') FROM streamproc.dead_letter WHERE pipeline = 'place'}), '99', 'the letter names it');
	# catches: what the present producer knows of the topic taken for the truth; both of them know it
	for (1 .. 2)
	{
		send_rows('place', 2);
		wait_caught_up($node, 'place');
	}
	$kafka->add_partitions('place_out', 100);
	send_rows('place', 100);
	wait_caught_up($node, 'place');
	is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'place'}), 3, 'the topic grew: it is there now');
	is(scalar(my @there = $kafka->consume('place_out', partition => 99)), 2, 'and has its messages');
};

section 'at least once' => sub {
	make('twice', 'cleanup.policy' => 'compact');
	create_pipeline($node, 'twice', q{INSERT INTO twice_out (k, id) SELECT CASE WHEN id % 50 <> 13 THEN p || '-' || id % 7 END, id FROM twice_in}, delivery => 'at_least_once', parallelism => 1);
	for (1 .. 3)
	{
		send_rows('twice', 100);
		wait_caught_up($node, 'twice');
	}
	exact('twice', sub { $_[0] % 50 == 13 }, 'at least once', twice => 1);
};

# The rows of groups come from many messages: a tombstone's group, a group whose key is null.
section 'groups' => sub {
	$kafka->topic('groups_in', 1);
	$kafka->topic('groups_out', 1, 'cleanup.policy' => 'compact');
	value(q{CREATE FOREIGN TABLE groups_in (card text, v int) SERVER kafka OPTIONS (topic 'groups_in', format 'json')});
	value(q{CREATE FOREIGN TABLE groups_out (k text OPTIONS (kafka 'key'), total bigint) SERVER kafka OPTIONS (topic 'groups_out', format 'json')});
	create_pipeline($node, 'groups', 'INSERT INTO groups_out SELECT card, sum(v) FROM groups_in GROUP BY card HAVING sum(v) > 0', parallelism => 1);
	for ('{"card": "a", "v": 1}', '{"card": null, "v": 2}', '{"card": "b", "v": 3}', '{"card": null, "v": -2}', '{"card": "a", "v": -1}')
	{
		$kafka->produce('groups_in', $_);
		wait_caught_up($node, 'groups');
	}
	is(join(', ', map { "$_->{key} " . ($_->{value} // 'gone') } $kafka->consume('groups_out')), 'a {"total":1}, b {"total":3}, a gone', 'groups with a key');
	is(value(q{SELECT string_agg(kind || ' ' || coalesce(convert_from(value, 'UTF8'), 'gone'), ', ' ORDER BY id) FROM streamproc.dead_letter WHERE pipeline = 'groups'}),
		'unsent {"total":2}, unsent gone', 'those without, and their tombstones, are dead letters');
};

# ---- each step, killed and failed ----

# catches: a letter and the message; neither; a letter twice; another number for the messages behind it
section 'faults' => sub {
	make('faults', 'cleanup.policy' => 'compact');
	create_pipeline($node, 'faults', q{INSERT INTO faults_out (k, id) SELECT CASE WHEN id % 20 <> 13 THEN p || '-' || id % 7 END, id FROM faults_in}, parallelism => 2);
	wait_caught_up($node, 'faults');
	for my $point (qw(publisher-refused publisher-before-withdraw-commit publisher-withdrawn publisher-before-init publisher-before-compare publisher-signed publisher-before-commit publisher-committed publisher-before-delete-commit))
	{
		# an error ends the publisher as a kill does, but for what a transaction undoes
		for my $action ('kill', $point =~ /withdraw/ ? 'error' : ())
		{
			# the second time: when each goes alone, or the third producer begins
			for my $time (1, $point =~ /refused|withdraw-commit|before-init/ ? 2 : ())
			{
				$crash->set_fault("$point=$action\@$time");
				send_rows('faults', 20);
				# those refused together can be withdrawn together: the second of them is sent when the first is a letter
				my $letters = $sent{faults} / 20;
				wait_until(sub { $crash->hit($point) || ($crash->ask(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'faults'}) // 0) >= $letters }, 30) if $time == 2;
				send_rows('faults', 20);
				ok(defined $crash->wait_hit($point, 30), "$action at $point, time $time");
				$crash->reset_fault;
				wait_ready();
				wait_caught_up($node, 'faults');
			}
		}
	}
	exact('faults', sub { $_[0] % 20 == 13 }, 'faults');
};

# ---- on_error => 'fail' ----

section 'fail' => sub {
	make('fail', 'cleanup.policy' => 'compact');
	send_rows('fail', 100);
	create_pipeline($node, 'fail', q{INSERT INTO fail_out (k, id) SELECT CASE WHEN id <> 53 THEN p || '-' || id % 7 END, id FROM fail_in}, on_error => 'fail');
	wait_state($node, 'fail', 'failed');
	like(value(q{SELECT sqlstate, reason, detail, hint FROM streamproc.stat_pipeline WHERE pipeline = 'fail'}),
		qr/^HV000\|a message cannot be sent to topic "fail_out": Broker: Broker failed to validate record\|It was written by task \d at .*, in segment \d+ of its outbox\.\|Let the topic take it \(max.message.bytes, cleanup.policy, partitions\) and start the pipeline; .*on_error/, 'on_error fail: the pipeline fails, and says at what');
	is(value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'fail'}), 0, 'nothing is withdrawn');
	# what waits can be seen, also when nobody has counted it
	my $waits = value(q{SELECT sum(messages), sum(length(data)) FROM streamproc.outbox WHERE pipeline = 'fail'});
	cmp_ok($waits =~ s/\|.*//r, '>', 0, 'it waits with those behind it');
	$node->restart;
	is(value(q{SELECT outbox_rows, outbox_bytes FROM streamproc.stat_pipeline WHERE pipeline = 'fail'}), $waits, 'a failed pipeline, after a restart of the server: what waits in its outbox');
	is(value(q{SELECT outbox_age = now() - (SELECT min(written) FROM streamproc.outbox WHERE pipeline = 'fail') OR outbox_age > '0', published_rows = (SELECT published FROM streamproc.publisher_position WHERE pipeline = 'fail'),
		publish_transactions IS NULL FROM streamproc.stat_pipeline WHERE pipeline = 'fail'}), 't|t|t', '... since when, and what was sent');
	value(q{SELECT streamproc.alter_pipeline('fail', on_error => 'dead_letter'), streamproc.start_pipeline('fail')});
	wait_caught_up($node, 'fail');
	exact('fail', sub { $_[0] == 53 }, 'with dead letters it goes on');
};

section 'too many' => sub {
	make('many', 'cleanup.policy' => 'compact');
	send_rows('many', 100);
	create_pipeline($node, 'many', q{INSERT INTO many_out (id) SELECT id FROM many_in}, max_consecutive_errors => 10);
	wait_state($node, 'many', 'failed');
	like(value(q{SELECT reason, detail FROM streamproc.stat_pipeline WHERE pipeline = 'many'}), qr/^a message cannot be sent to topic "many_out": .*\|\d+ messages were refused and none was taken in between \(max_consecutive_errors\)/, 'all are refused: the pipeline fails');
	my $letters = value(q{SELECT count(*) FROM streamproc.dead_letter WHERE pipeline = 'many'});
	cmp_ok($letters, '>=', 10, 'not before max_consecutive_errors');
	cmp_ok($letters, '<', 100, 'but soon');
	is(value(q{SELECT sum(messages) FROM streamproc.outbox WHERE pipeline = 'many'}), 100, 'all have their numbers');
};

# ---- a server that was set back to before a letter ----

# catches: messages behind the letter are in Kafka, the letter is nowhere, and nobody notices
section 'set back' => sub {
	make('back', 'cleanup.policy' => 'compact');
	create_pipeline($node, 'back', q{INSERT INTO back_out (k, id) SELECT CASE WHEN id % 50 <> 13 THEN p || '-' || id % 7 END, id FROM back_in});
	wait_caught_up($node, 'back');
	# the backup has all messages, none of them sent; and the publisher lives on
	$crash->set_fault('publisher-before-begin=wait');
	send_rows('back', 100);
	wait_query($node, q{SELECT outbox_rows FROM streamproc.stat_pipeline WHERE pipeline = 'back'}, 100);
	$node->backup('before');
	$crash->reset_fault;
	wait_caught_up($node, 'back');
	exact('back', sub { $_[0] % 50 == 13 }, 'before');
	$node->stop('immediate');
	my $copy = PostgreSQL::Test::Cluster->new('copy');
	$copy->init_from_backup($node, 'before');
	unlink $copy->data_dir . '/fault.conf';
	$copy->start;
	wait_state($copy, 'back', 'failed');
	like($copy->safe_psql('postgres', q{SELECT reason FROM streamproc.stat_pipeline WHERE pipeline = 'back'}), qr/^messages of this pipeline were sent by another server, or by a later state of this one/, 'set back to before a dead letter: it is noticed');
};

done_testing();

#!/usr/bin/env bash
# A real Kafka broker for demo, tests and benchmarks: one KRaft node (broker and controller), only on
# 127.0.0.1, everything it writes below one directory.  See README.md beside this file.
#
#   broker.sh jars [POM]                       fetch the pinned jars (once, cached outside the checkout), or those of another
#                                              pom.xml; prints the directory
#   broker.sh start DIR [PORT]                 start in DIR (new, or with data from before); prints host:port once it answers
#   broker.sh stop DIR                         orderly stop
#   broker.sh kill DIR                         kill -9
#   broker.sh pause DIR | resume DIR           SIGSTOP, SIGCONT: a broker that is connected but mute
#   broker.sh restart DIR                      stop if it runs, start again: same data, same port
#   broker.sh status DIR                       exit 0 and the address if it runs
#   broker.sh topic DIR NAME PARTITIONS [config=value ...]
#   broker.sh delete-topic DIR NAME
#   broker.sh add-partitions DIR NAME TOTAL
#   broker.sh delete-records DIR NAME PARTITION BEFORE_OFFSET
#   broker.sh tool DIR COMMAND [ARGS ...]      any command of kafka_tool, with the address filled in
#   broker.sh scram DIR USER PASSWORD          make a SCRAM user, or give it another password
#   broker.sh destroy DIR                      stop and remove DIR
#
# DIR/address, DIR/pid, DIR/broker.log, DIR/server.properties, DIR/data; with STREAMPROC_BROKER_SECURE=yes also
# DIR/address.LISTENER and DIR/tls.
# Environment: STREAMPROC_CACHE (cache directory), STREAMPROC_BROKER_JVM (more JVM options), STREAMPROC_BROKER_ARCHIVE (file
# with the loaded classes; made by the first broker that is stopped); read when DIR is made:
# STREAMPROC_BROKER_CONFIG (more broker settings, separated by spaces: a=b c=d),
# STREAMPROC_BROKER_SECURE=yes (more listeners, see write_secure_config), STREAMPROC_BROKER_PROXY=PORT:ADVERTISED (one more
# listener, whose clients are told to connect to another port: that of a proxy).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kafka_version=3.9.1
cache=${STREAMPROC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/streamproc}
jars=$cache/kafka-libs-$kafka_version
start_seconds=60

die() { echo "broker.sh: $*" >&2; exit 1; }

usage() { sed -n '2,/^set -/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//'; }

# ---- jars: complete or absent, however many ask at the same time ----
get_jars() {	# [POM DIRECTORY]
	local pom=${1:-$here/pom.xml} jars=${2:-$jars}
	[ -f "$jars/.complete" ] && return 0
	command -v mvn >/dev/null || die "no jars in $jars, and no mvn to fetch them (test/setup.sh installs it)"
	mkdir -p "$cache"
	local tmp
	tmp=$(mktemp -d "$cache/libs.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	cp "$pom" "$tmp/pom.xml"
	mvn -B -q -Dstyle.color=never -f "$tmp/pom.xml" \
		org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tmp/libs" \
		>"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; die "mvn could not fetch the jars"; }
	[ -n "$(find "$tmp/libs" -name '*.jar' -print -quit 2>/dev/null)" ] || die "mvn made no jars of $pom"
	chmod 755 "$tmp/libs"
	touch "$tmp/libs/.complete"
	if [ -d "$jars" ] && [ ! -f "$jars/.complete" ]; then rm -rf "$jars"; fi
	mv -T "$tmp/libs" "$jars" 2>/dev/null || [ -f "$jars/.complete" ] || die "cannot make $jars"
	rm -rf "$tmp"
	trap - EXIT
}

# another pom.xml is another directory
jars_of() {	# POM
	local name
	name=$(basename "$(cd "$(dirname "$1")" && pwd)")-libs-$(cksum <"$1" | cut -d ' ' -f 1)
	get_jars "$1" "$cache/$name"
	echo "$cache/$name"
}

tool_path() {
	if [ ! -x "$here/kafka_tool" ]; then
		make -s -C "$here" kafka_tool >&2 || die "kafka_tool cannot be built"
	fi
	echo "$here/kafka_tool"
}

# The process of DIR/pid, if it is a broker of this DIR (a pid may have gone to somebody else).
broker_pid() {
	local pid
	[ -f "$1/pid" ] || return 1
	read -r pid <"$1/pid" || return 1
	[ -r "/proc/$pid/cmdline" ] || return 1
	tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -Fqx -- "$1/server.properties" || return 1
	echo "$pid"
}

running() {	# is the process there and no zombie?
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
	[ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

wait_gone() {	# PID TENTHS
	local i
	for ((i = 0; i < $2; i++)); do
		running "$1" || return 0
		sleep 0.1
	done
	! running "$1"
}

# Free ports (ours first, if it is not 0) below the range of outgoing connections: a client that keeps trying the port of a broker
# that is down would otherwise, now and then, connect to itself and keep the broker from coming back.
free_ports() {
	perl -MIO::Socket::INET -e '
		my ($want, $number, @got) = @ARGV;
		for (1 .. 500) {
			my $port = $want || 15000 + int(rand(16000));
			my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Proto => "tcp", Listen => 1,
				ReuseAddr => 1);
			if (!$s) { die "port $port is taken\n" if $want; next; }
			push @got, [$port, $s];
			$want = 0;
			last if @got == $number;
		}
		die "no free ports\n" if @got < $number;
		print join(" ", map { $_->[0] } @got), "\n";' "$1" "$2"
}

random_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '=\n'; }

write_config() {	# DIR PORT CONTROLLER_PORT
	local extra=${STREAMPROC_BROKER_CONFIG:-}
	cat >"$1/server.properties" <<-CONF
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$3
		listeners=BROKER://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
		advertised.listeners=BROKER://127.0.0.1:$2
		listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
		inter.broker.listener.name=BROKER
		controller.listener.names=CONTROLLER
		log.dirs=$1/data
		auto.create.topics.enable=false
		# one node holds everything
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=2
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=2
		transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
		group.initial.rebalance.delay.ms=0
		# after kill -9 the controller takes the new process only once the old session has run out
		broker.session.timeout.ms=1000
		broker.heartbeat.interval.ms=100
		# event times of tests lie in the past: never delete by age
		log.retention.ms=-1
		log.segment.delete.delay.ms=1000
		message.max.bytes=10485760
		replica.fetch.max.bytes=10485760
		# a small process
		num.network.threads=2
		num.io.threads=4
		num.recovery.threads.per.data.dir=2
		background.threads=4
		log.cleaner.threads=1
		log.cleaner.dedupe.buffer.size=16777216
	CONF
	# shellcheck disable=SC2068
	[ "${STREAMPROC_BROKER_SECURE:-no}" != yes ] || write_secure_config $@
	if [ -n "${STREAMPROC_BROKER_PROXY:-}" ]; then
		cat >>"$1/server.properties" <<-CONF
			listeners=BROKER://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3,PROXIED://127.0.0.1:${STREAMPROC_BROKER_PROXY%:*}
			advertised.listeners=BROKER://127.0.0.1:$2,PROXIED://127.0.0.1:${STREAMPROC_BROKER_PROXY#*:}
			listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
		CONF
	fi
	for setting in $extra; do echo "$setting" >>"$1/server.properties"; done
	# what "StorageTool format" would write, without its second of JVM
	mkdir -p "$1/data"
	printf 'version=1\ncluster.id=%s\nnode.id=1\ndirectory.id=%s\n' "$(random_id)" "$(random_id)" >"$1/data/meta.properties"
	echo "127.0.0.1:$2" >"$1/address"
}

# One certificate, signed by a CA of DIR/tls: DIR CA NAME SUBJECT-ALTERNATIVE-NAMES (DIR/tls/NAME.pem, NAME.key.pem)
certificate() {
	local tls=$1/tls
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$tls/$3.key.pem" 2>>"$tls/log"
	openssl req -new -key "$tls/$3.key.pem" -subj "/CN=$3" -out "$tls/$3.csr" 2>>"$tls/log"
	openssl x509 -req -in "$tls/$3.csr" -CA "$tls/$2.pem" -CAkey "$tls/$2.key.pem" -set_serial "0x$(openssl rand -hex 8)" -days 3 \
		${4:+-extfile <(echo "subjectAltName=$4")} -out "$tls/$3.pem" 2>>"$tls/log"
}

# Keys and certificates that live for three days: two CAs that do not know each other, a broker's certificate for
# 127.0.0.1 and no other name, a client's of each CA, and the client's key once more under the password client-key-secret.
make_certificates() {	# DIR
	local tls=$1/tls ca
	mkdir -p "$tls"
	for ca in ca other-ca; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3 -subj "/CN=streamproc test $ca" \
			-keyout "$tls/$ca.key.pem" -out "$tls/$ca.pem" 2>>"$tls/log"
	done
	certificate "$1" ca broker IP:127.0.0.1
	certificate "$1" ca client ''
	certificate "$1" other-ca stranger ''
	openssl pkcs8 -topk8 -v2 aes-256-cbc -in "$tls/client.key.pem" -passout pass:client-key-secret -out "$tls/client.encrypted.pem"
	cat "$tls/broker.key.pem" "$tls/broker.pem" >"$tls/broker-store.pem"
}

# Listeners beside the plain one that the tools use:
#   sasl      SASL_PLAINTEXT with SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN
#   sasl_tls  SASL_SSL, the same
#   tls       SSL, wants a client certificate of our CA
#   redirect  PLAINTEXT, but its metadata name the address of the plain listener
# The PLAIN user is "plain" with password plain-secret; SCRAM users are made by "broker.sh scram".
write_secure_config() {	# DIR PORT CONTROLLER_PORT SASL_PORT SASL_TLS_PORT TLS_PORT REDIRECT_PORT
	local listener mechanism lower
	command -v openssl >/dev/null || die "no openssl (test/setup.sh installs it)"
	make_certificates "$1" || { tail -n 5 "$1/tls/log" >&2; die "openssl could not make the certificates"; }
	# the last line with a name counts
	cat >>"$1/server.properties" <<-CONF
		listeners=BROKER://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3,SASL://127.0.0.1:$4,SASL_TLS://127.0.0.1:$5,TLS://127.0.0.1:$6,REDIRECT://127.0.0.1:$7
		advertised.listeners=BROKER://127.0.0.1:$2,SASL://127.0.0.1:$4,SASL_TLS://127.0.0.1:$5,TLS://127.0.0.1:$6,REDIRECT://127.0.0.1:$2
		listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,SASL_TLS:SASL_SSL,TLS:SSL,REDIRECT:PLAINTEXT
		ssl.keystore.type=PEM
		ssl.keystore.location=$1/tls/broker-store.pem
		ssl.truststore.type=PEM
		ssl.truststore.location=$1/tls/ca.pem
		listener.name.tls.ssl.client.auth=required
	CONF
	for listener in sasl sasl_tls; do
		echo "listener.name.$listener.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN"
		for mechanism in scram-sha-256 scram-sha-512; do
			echo "listener.name.$listener.$mechanism.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
		done
		echo "listener.name.$listener.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain=\"plain-secret\";"
	done >>"$1/server.properties"
	echo "127.0.0.1:$4" >"$1/address.sasl"
	echo "127.0.0.1:$5" >"$1/address.sasl_tls"
	echo "127.0.0.1:$6" >"$1/address.tls"
	echo "127.0.0.1:$7" >"$1/address.redirect"
}

launch() {	# DIR; returns 1 if the process ended, 2 if it does not answer
	local dir=$1 tool pid shared='' archive=${STREAMPROC_BROKER_ARCHIVE:-}
	tool=$(tool_path)
	: >"$dir/broker.log"
	# loading the classes is most of what a start costs: the first broker that is stopped leaves them in a file
	rm -f "$dir/archive"
	if [ -n "$archive" ] && [ -f "$archive" ]; then
		shared=-XX:SharedArchiveFile=$archive
	elif [ -n "$archive" ]; then
		shared=-XX:ArchiveClassesAtExit=$archive.$$
		echo "$archive.$$" >"$dir/archive"
	fi
	# shellcheck disable=SC2086
	setsid java -Xmx768m -Xms64m -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData -Djava.awt.headless=true \
		-Djava.io.tmpdir="$dir" ${STREAMPROC_BROKER_JVM:-} $shared \
		-cp "$jars/*" kafka.Kafka "$dir/server.properties" </dev/null >>"$dir/broker.log" 2>&1 9>&- &
	pid=$!
	disown
	echo "$pid" >"$dir/pid"
	# each try of the tool is bounded, so that a process that died is seen at once
	local until=$((SECONDS + start_seconds))
	while [ $SECONDS -lt $until ]; do
		if "$tool" wait "$(cat "$dir/address")" 1000 2>/dev/null; then return 0; fi
		running "$pid" || return 1
	done
	return 2
}

do_start() {
	local dir=$1 port=${2:-0} try ports rc
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd)
	# one start at a time in a directory
	exec 9>"$dir/lock"
	flock 9
	if broker_pid "$dir" >/dev/null; then die "a broker runs in $dir already"; fi
	get_jars
	if [ -f "$dir/data/meta.properties" ] && [ -f "$dir/server.properties" ]; then
		[ "$port" = 0 ] || [ "127.0.0.1:$port" = "$(cat "$dir/address")" ] || die "$dir has the address $(cat "$dir/address")"
		rc=0; launch "$dir" || rc=$?
	else
		for try in 1 2 3; do
			ports=$(free_ports "$port" 6) || die "no port for the broker"
			# shellcheck disable=SC2086
			write_config "$dir" $ports
			rc=0; launch "$dir" || rc=$?
			[ $rc = 1 ] || break
			rm -rf "$dir/data"
		done
	fi
	if [ $rc != 0 ]; then
		tail -n 20 "$dir/broker.log" >&2
		if [ $rc = 2 ]; then do_kill "$dir"; die "the broker in $dir does not answer within $start_seconds s"; fi
		die "the broker in $dir ended at once (java: $(command -v java || echo none))"
	fi
	exec 9>&-
	cat "$dir/address"
}

do_stop() {
	local dir pid
	dir=$(cd "$1" 2>/dev/null && pwd) || return 0
	if pid=$(broker_pid "$dir"); then
		kill -TERM "$pid"
		kill -CONT "$pid"	# it may be paused
		if ! wait_gone "$pid" 200; then
			kill -KILL "$pid" 2>/dev/null || true
			wait_gone "$pid" 100 || die "process $pid does not end"
		elif [ -f "$dir/archive" ] && [ -f "$(cat "$dir/archive")" ]; then
			mv -f "$(cat "$dir/archive")" "$STREAMPROC_BROKER_ARCHIVE"
		fi
	fi
	rm -f "$dir/pid"
}

do_kill() {
	local dir pid
	dir=$(cd "$1" && pwd)
	pid=$(broker_pid "$dir") || die "no broker runs in $dir"
	kill -KILL "$pid"
	wait_gone "$pid" 100 || die "process $pid does not end"
	rm -f "$dir/pid"
}

do_signal() {	# SIGNAL DIR
	local pid
	pid=$(broker_pid "$(cd "$2" && pwd)") || die "no broker runs in $2"
	kill "-$1" "$pid"
}

address() { cat "$1/address" 2>/dev/null || die "no broker was started in $1"; }

tool() {
	local dir=$1 command=$2 path
	shift 2
	path=$(tool_path)
	exec "$path" "$command" "$(address "$dir")" "$@"
}

# A second of JVM for each mechanism: librdkafka 2.0.2 has no call for it.
scram() {	# DIR USER PASSWORD
	local mechanism
	get_jars
	for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
		java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -cp "$jars/*" kafka.admin.ConfigCommand \
			--bootstrap-server "$(address "$1")" --alter --entity-type users --entity-name "$2" --add-config "$mechanism=[password=$3]"
	done
}

need() { [ "$1" -ge "$2" ] || { usage >&2; exit 2; }; }

cmd=${1:-help}
[ $# = 0 ] || shift
case $cmd in
	jars) if [ $# -gt 0 ]; then jars_of "$1"; else get_jars; echo "$jars"; fi ;;
	start) need $# 1; do_start "$@" ;;
	stop) need $# 1; do_stop "$1" ;;
	kill) need $# 1; do_kill "$1" ;;
	pause) need $# 1; do_signal STOP "$1" ;;
	resume) need $# 1; do_signal CONT "$1" ;;
	restart) need $# 1; [ -f "$1/data/meta.properties" ] || die "no broker was started in $1"; do_stop "$1"; do_start "$1" ;;
	status) need $# 1; broker_pid "$(cd "$1" && pwd)" >/dev/null || { echo "not running"; exit 1; }; address "$1" ;;
	topic) need $# 3; dir=$1; shift; tool "$dir" create "$@" ;;
	delete-topic) need $# 2; tool "$1" delete "$2" ;;
	add-partitions) need $# 3; tool "$1" add-partitions "$2" "$3" ;;
	delete-records) need $# 4; tool "$1" delete-records "$2" "$3" "$4" ;;
	tool) need $# 2; tool "$@" ;;
	scram) need $# 3; scram "$@" ;;
	destroy) need $# 1; do_stop "$1"; [ ! -f "$1/server.properties" ] || rm -rf "$1" ;;
	help | -h | --help) usage ;;
	*) usage >&2; exit 2 ;;
esac

#!/usr/bin/env bash
# The demo: "make demo" and "make demo-stop".
#
#   demo/run.sh start             install what is missing (root, Debian 12), build, start a PostgreSQL and a Kafka broker of
#                                 its own, stream card transactions through six pipelines, watch, kill, compare
#   demo/run.sh stop              end all of it and remove its directory
#   demo/run.sh load [SECONDS]    stream on, for 30 seconds
#
# Everything lies in one directory; PostgreSQL and the broker run as the user postgres when started by root.  Neither the
# system's PostgreSQL nor this checkout is touched.  Environment (default):
#   DEMO_DIR (/tmp/streamproc-demo)   DEMO_SECONDS (20)   DEMO_RATE (5000, events a second)   DEMO_KILL (yes)
#   NO_COLOR                          no colours
# Exit code 0: every sink equals the batch query over the topic.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../test/lib.sh"

usage() { sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; }

work=${DEMO_DIR:-/tmp/streamproc-demo}
[ "$(id -u)" = 0 ] || work=${DEMO_DIR:-/tmp/streamproc-demo.$(id -u)}
seconds=${DEMO_SECONDS:-20}
rate=${DEMO_RATE:-5000}
partitions=4
backlog=100000
for number in "$seconds" "$rate"; do
	[[ $number =~ ^[1-9][0-9]{0,6}$ ]] || sp_die "DEMO_SECONDS and DEMO_RATE are whole numbers, not \"$number\""
done
[[ $work = /*/* && $work != */ && $work != *\'* ]] || sp_die "DEMO_DIR must be an absolute path below a directory, not \"$work\""
# the path of a socket has at most 107 bytes
[ ${#work} -le 80 ] || sp_die "DEMO_DIR is too long: $work"
unset PGPORT PGDATABASE PGUSER PGHOST PGOPTIONS PGSERVICE PGAPPNAME MAKEFLAGS MAKELEVEL MFLAGS

as_user() { (cd "$work" && sp_as_user "$work" "$@"); }
load_events() {
	as_user "$work/tree/test/kafka/load" --brokers "$(cat "$work/kafka/address")" --topic tx --at-now --keys 10000 --skew 0.5 "$@"
}
bindir() { echo "$work/inst$("$sp_pg_config" --bindir)"; }
socket=$work/socket
psql_command="psql -h $socket -U postgres demo"

# ---------------------------------------------------------------- stop

# Only a directory that we made: /tmp is everybody's.
ours() { [ -d "$work" ] && [ ! -L "$work" ] && [ -O "$work" ] && [ -f "$work/.streamproc-demo" ]; }

stop() {
	if [ ! -e "$work" ] && [ ! -L "$work" ]; then return 1; fi
	ours || sp_die "$work is not a directory of the demo; remove it, or set DEMO_DIR"
	local pid
	for pid in $(sp_processes_of "$work/tree"); do kill -TERM "$pid" 2>/dev/null; done
	if [ -f "$work/data/postmaster.pid" ]; then
		as_user "$(bindir)/pg_ctl" -D "$work/data" -m fast -t 20 -w stop >/dev/null 2>&1
	fi
	[ ! -f "$work/kafka/server.properties" ] || as_user "$work/tree/test/kafka/broker.sh" stop "$work/kafka"
	sp_sweep "$work"
	cd / && rm -rf "$work"
}

# ---------------------------------------------------------------- start

started=0
milliseconds() { echo $(($(date +%s%N) / 1000000)); }
step() { printf '  %-12s %-62s' "$1" "$2"; started=$(milliseconds); }
step_done() { local ms=$(($(milliseconds) - started)); printf '%6d.%d s\n' $((ms / 1000)) $((ms % 1000 / 100)); }
step_failed() { printf '\n'; tail -n 40 "$1" >&2; sp_die "$2"; }

start() {
	local begin=$SECONDS download=0 install=0 times rc
	echo "streamproc demo, in $work"
	if "$sp_root/test/setup.sh" --check >/dev/null 2>&1; then
		printf '  %-12s nothing is missing\n' install
	else
		[ "$(id -u)" = 0 ] || { "$sp_root/test/setup.sh" --check; sp_die "as root this installs what is missing"; }
		printf '  %-12s packages and jars: a few hundred megabytes\n' install
		times=$(mktemp) || exit 1
		STREAMPROC_SETUP_TIMES=$times "$sp_root/test/setup.sh" 2>&1 | sed 's/^/               /'
		[ "${PIPESTATUS[0]}" = 0 ] || { rm -f "$times"; sp_die "the installation failed"; }
		eval "$(grep -E '^download=[0-9]+ install=[0-9]+$' "$times")"
		rm -f "$times"
	fi
	sp_pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}

	if stop; then printf '  %-12s the demo that was there\n' stopped; fi
	mkdir -m 755 "$work" || exit 1
	touch "$work/.streamproc-demo"
	mkdir -m 700 "$work/socket"
	mkdir -m 700 "$work/data"
	mkdir "$work/kafka" "$work/run"
	[ "$(id -u)" != 0 ] || chown "$(sp_user):" "$work"/{socket,data,kafka,run}

	step build "the module and the load generator"
	sp_copy_tree "$work/tree"
	as_user make -s -j"$(nproc)" -C "$work/tree" PG_CONFIG="$sp_pg_config" all >"$work/build.log" 2>&1 ||
		step_failed "$work/build.log" "the build failed"
	sp_temp_install "$work/tree" "$work/inst" >>"$work/build.log" 2>&1 || step_failed "$work/build.log" "the installation failed"
	step_done

	step PostgreSQL "$("$(bindir)/postgres" --version | sed 's/.*PostgreSQL) \([0-9.]*\).*/\1/'), from a copy of the installation"
	touch "$work/postgres.log"
	[ "$(id -u)" != 0 ] || chown "$(sp_user):" "$work/postgres.log"
	{
		as_user "$(bindir)/initdb" -D "$work/data" -U postgres -A trust --encoding=UTF8 --locale=C.UTF-8 --no-instructions &&
			cat >>"$work/data/postgresql.conf" <<-CONF &&
				shared_preload_libraries = 'streamproc'
				listen_addresses = ''
				unix_socket_directories = '$socket'
				port = 5432
				max_worker_processes = 64
				shared_buffers = '128MB'
				max_wal_size = '2GB'
				log_line_prefix = '%m [%p] %q%a '
			CONF
			as_user "$(bindir)/pg_ctl" -D "$work/data" -l "$work/postgres.log" -w -t 60 start &&
			as_user "$(bindir)/createdb" -h "$socket" -U postgres demo
	} >"$work/start.log" 2>&1 || { tail -n 20 "$work/postgres.log" >&2; step_failed "$work/start.log" "PostgreSQL does not start"; }
	step_done

	step Kafka "$(sed -n 's/^kafka_version=//p' "$sp_root/test/kafka/broker.sh"), one node"
	STREAMPROC_CACHE=$(sp_jars "$work/cache" 2>"$work/start.log") || step_failed "$work/start.log" "no jars of the broker"
	export STREAMPROC_CACHE
	{ as_user "$work/tree/test/kafka/broker.sh" start "$work/kafka" &&
		as_user "$work/tree/test/kafka/broker.sh" topic "$work/kafka" tx $partitions &&
		as_user "$work/tree/test/kafka/broker.sh" topic "$work/kafka" fraud 2; } >"$work/start.log" 2>&1 ||
		step_failed "$work/start.log" "the broker does not start"
	step_done

	step topic "tx, $partitions partitions, 100,000 card transactions in it"
	load_events --count $backlog --seed 7 >"$work/start.log" 2>&1 || step_failed "$work/start.log" "the load generator failed"
	step_done

	step pipelines "six; until they have caught up with these"
	as_user "$(bindir)/psql" -Xq -v ON_ERROR_STOP=1 -v brokers="$(cat "$work/kafka/address")" -h "$socket" -U postgres -d demo \
		-f "$work/tree/demo/demo.sql" -c "SELECT streamproc.wait_until_caught_up(name, '60 s') FROM streamproc.pipeline" \
		>"$work/start.log" 2>&1 || step_failed "$work/start.log" "the pipelines cannot be made"
	step_done

	as_user perl "$work/tree/demo/show.pl" --bindir "$(bindir)" --dir "$work" --seconds "$seconds" --rate "$rate" \
		--backlog $backlog --kill "${DEMO_KILL:-yes}"
	rc=$?
	[ $rc != 130 ] || { echo "interrupted; make demo-stop cleans up"; exit $rc; }

	cat <<-TEXT

		Server and broker ($(cat "$work/kafka/address")) run on.
		  look      $psql_command
		              SELECT * FROM streamproc.stat_pipeline \\gx
		              SELECT * FROM tx WHERE o >= 10 AND p = 0 LIMIT 5;
		              SELECT * FROM city_alert ORDER BY total DESC;
		              SELECT * FROM card_5s ORDER BY window_end DESC, cities DESC LIMIT 5;
		              SELECT * FROM streamproc.late_row LIMIT 1 \\gx
		              \\sf streamproc_pipeline.alert
		  stream on demo/run.sh load 30
		  stop      make demo-stop
	TEXT
	printf '%d s in all' $((SECONDS - begin - download))
	[ $((download + install)) = 0 ] || printf ', %d s of it installing; %d s of downloads not counted' "$install" "$download"
	echo
	exit $rc
}

stream_on() {
	ours && [ -f "$work/kafka/address" ] || sp_die "no demo is running in $work (make demo)"
	[[ ${1:-30} =~ ^[1-9][0-9]{0,4}$ ]] || sp_die "a number of seconds, not \"$1\""
	# another seed is another sequence
	load_events --rate "$rate" --count $((rate * ${1:-30})) --linger 2 --seed "$(date +%s)"
}

case ${1:-start} in
	start) start ;;
	stop) if stop; then echo "the demo is gone ($work); installed packages and the jars in the cache stay"; else echo "no demo in $work"; fi ;;
	load) stream_on "${2:-30}" ;;
	-h | --help | help) usage ;;
	*) usage >&2; exit 2 ;;
esac

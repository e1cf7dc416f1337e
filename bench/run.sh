#!/usr/bin/env bash
# The benchmark: "make bench".  One table of speed, latency and memory, from one run; README.md explains each figure.
#
#   bench/run.sh [PART ...]       parts: speed keyed over session join asof dedup topics latency fraud upsert errors, by default all of them; soak;
#                                 peers ("make bench-peers"): Flink and Kafka Streams, see bench/peers/README.md
#
# On a copy of this tree, with a PostgreSQL installation, a PostgreSQL server and a real broker of its own; as root it
# first installs what is missing and runs everything as the user postgres.  Environment (default):
#   BENCH_EVENTS (10000000)        events in the topic of the speed part, and in each of the two of the keyed part
#   BENCH_ROUNDS (3)               rounds, of which the median counts; for latency too
#   BENCH_PARALLELISM ()           tasks of the pipelines of the speed part, empty: the product's default
#   BENCH_LATENCY_SECONDS (20)     length of a run of latency or fraud, after BENCH_LATENCY_WARMUP (5) seconds
#   BENCH_LATENCY_RATES (5000 20000)
#   BENCH_LATENCY_LINGER (1)       ms for which the generator collects messages of a partition; part of what is measured
#   BENCH_LATENCY_BROKER (60)      seconds of load before the first run: a broker just started still compiles itself
#   BENCH_KEYED (speed memory checkpoints recovery)  what of the keyed part
#   BENCH_CASES ()                 cases of the speed and keyed parts (and of over, session, join, asof; exactly_once or at_least_once: topics), empty: all
#   BENCH_CHECKPOINT_RATE (300000)  events a second of the checkpoints of the keyed part
#   BENCH_CHECKPOINT_SECONDS (30)
#   BENCH_SOAK_SECONDS (1200), BENCH_SOAK_RATE (100000)
#   BENCH_OVER_EVENTS (5000000)    events of the part about window functions
#   BENCH_JOIN_EVENTS (2500000)    events of each topic of the part about joins
#   BENCH_ASOF_EVENTS (2500000)    events of the larger topic of the part about as-of joins
#   BENCH_DEDUP_EVENTS (5000000)   events of the part about deduplication
#   BENCH_SESSION_EVENTS (5000000)  events of the part about sessions
#   BENCH_TOPICS (speed latency)   what of the part about results into topics
#   BENCH_TOPICS_SECONDS (60), BENCH_TOPICS_LINGER (5)  length of its latency runs; linger of the generator, ms
#   BENCH_UPSERT_EVENTS (100000)
#   BENCH_ERROR_EVENTS (1000000)
#   BENCH_LOCALE (C.UTF-8)         locale of the cluster: comparing text costs more or less
#   BENCH_CONF ()                  more lines for postgresql.conf, separated by ;
#   BENCH_WRITEBACK (smooth)       as root: what is written goes to disk at once and not all of it each half minute, README.md;
#                                  "kernel": as the machine is set
#   BENCH_KEEP ()                  not empty: leave the work directory (servers are stopped)
#   TMPDIR (/tmp)                  needs 8 GB for 10 million events
# The exit code is 1 if a bar was missed or a result was wrong.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../test/lib.sh"

case " $* " in *" peers "*) jdk=--jdk ;; *) jdk='' ;; esac
# shellcheck disable=SC2086
if [ "$(id -u)" = 0 ]; then "$sp_root/test/setup.sh" $jdk || exit 1; else "$sp_root/test/setup.sh" --check $jdk || exit 1; fi
sp_pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
for part in "$@"; do
	case $part in
		speed | keyed | over | session | join | asof | dedup | topics | soak | latency | fraud | upsert | errors | peers) ;;
		-h | --help) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
		*) sp_die "unknown part $part (see --help)" ;;
	esac
done

work=$(mktemp -d "${TMPDIR:-/tmp}/streamproc-bench.XXXXXX") || exit 1
chmod 755 "$work"
child=''
# The kernel's settings before, to be put back: half a minute's writes of the broker at once hold up each flush of WAL.
kernel=()
set_kernel() {	# NAME VALUE
	{ echo "$2" >"/proc/sys/vm/$1"; } 2>/dev/null
}
smooth_writeback() {
	local name before
	if [ "${BENCH_WRITEBACK:-smooth}" != smooth ] || [ ! -w /proc/sys/vm/dirty_background_bytes ]; then
		echo "the kernel writes behind as it is set"
		return
	fi
	# of the first two one is 0 and the other one counts: that one is put back last
	for name in dirty_background_ratio dirty_background_bytes dirty_expire_centisecs dirty_writeback_centisecs; do
		before=$(cat "/proc/sys/vm/$name")
		[ "$before" = 0 ] || kernel+=("$name" "$before")
	done
	if set_kernel dirty_background_bytes 16777216 && set_kernel dirty_expire_centisecs 100 && set_kernel dirty_writeback_centisecs 50; then
		echo "the kernel writes behind from 16 MB and 1 s on, as it was set again afterwards"
	fi
}
finish() {
	trap - EXIT INT TERM
	while [ ${#kernel[@]} -gt 0 ]; do
		set_kernel "${kernel[0]}" "${kernel[1]}"
		kernel=("${kernel[@]:2}")
	done
	if [ -n "$child" ]; then kill -TERM -- "-$child" 2>/dev/null; wait "$child" 2>/dev/null; fi
	sp_sweep "$work"
	cd / || true
	if [ -n "${BENCH_KEEP:-}" ]; then echo "work directory: $work"; else rm -rf "$work"; fi
}
trap 'finish; exit 1' INT TERM
trap finish EXIT

echo "building in $work"
sp_copy_tree "$work/tree"
[ "$(id -u)" != 0 ] || chown "$(sp_user):" "$work"
STREAMPROC_CACHE=$(sp_jars "$work/cache") || sp_die "no jars of the broker"
export STREAMPROC_CACHE PG_CONFIG=$sp_pg_config
unset PGPORT PGDATABASE PGUSER PGHOST PGOPTIONS MAKEFLAGS MAKELEVEL MFLAGS
as_user() { (cd "$work" && sp_as_user "$work" "$@"); }
as_user make -s -j2 -C "$work/tree" PG_CONFIG="$sp_pg_config" all >"$work/build.log" 2>&1 ||
	{ tail -n 40 "$work/build.log"; sp_die "the build failed"; }
BENCH_BINDIR=$(sp_temp_install "$work/tree" "$work/inst" 2>"$work/install.log") ||
	{ tail -n 20 "$work/install.log"; sp_die "the installation failed"; }
cflags="-std=gnu11 -O2 -g -Wall -Wextra -Werror"
# shellcheck disable=SC2086
as_user gcc $cflags -o "$work/drain" "$work/tree/bench/drain.c" -lrdkafka || exit 1
# shellcheck disable=SC2086
as_user gcc $cflags -o "$work/arrival" "$work/tree/bench/arrival.c" -lrdkafka || exit 1
# shellcheck disable=SC2086
as_user gcc $cflags -I"$("$sp_pg_config" --includedir)" -o "$work/latency" "$work/tree/bench/latency.c" \
	-L"$("$sp_pg_config" --libdir)" -lpq || exit 1
if [ -n "$jdk" ]; then
	# shellcheck disable=SC2086
	as_user gcc $cflags -o "$work/nexmark" "$work/tree/bench/nexmark.c" -lm || exit 1
	for peer in flink kstreams; do
		jars=$(sp_jars_dir "$work/cache" "$sp_root/bench/peers/$peer/pom.xml") || sp_die "no jars of $peer"
		path=$(as_user "$work/tree/bench/peers/build.sh" $peer "$jars" "$work/classes/$peer") || sp_die "$peer cannot be compiled"
		export BENCH_PEER_${peer^^}="$path"
	done
fi
smooth_writeback

export BENCH_BINDIR BENCH_WORK=$work
export LC_ALL=C.UTF-8
cd "$work" || exit 1
# a process group of its own, so that an interruption ends all of it and leaves us to clean up
set -m
sp_as_user "$work" perl "$work/tree/bench/bench.pl" "$@" </dev/null &
child=$!
set +m
wait $child
rc=$?
child=''
exit $rc

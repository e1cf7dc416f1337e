#!/usr/bin/env bash
# All tests, on a copy of this tree, with a PostgreSQL installation and a real broker of their own.
#
#   test/run.sh [OPTIONS] [STAGE ...]
#
# Stages, by default all of them in this order, but sanitize, crash, chaos and mutants:
#   build      compile, warnings are errors; install into the private installation
#   regress    sql/*.sql against expected/*.out; this and the next one run beside those that follow
#   isolation  test/isolation/specs/*.spec
#   lint       test/lint/check.sh
#   codec      test/codec: the decoders against PostgreSQL's own types
#   fuzz       test/fuzz: the corpus and a short run, with sanitizers; "make fuzz" is the long form
#   tap        test/t/*.pl
#   assert     build again with -DUSE_ASSERT_CHECKING; regress, isolation and the TAP files that have a line
#              "# with assertions" with that build; with the stage "tap" all files are run once, beside each other
#   sanitize   build again with AddressSanitizer and UndefinedBehaviorSanitizer; regress, isolation and all TAP files with
#              that build; SANITIZE="regress 058 110" in the environment: only that, other words being TAP files
#   crash      test/t/*crash*.pl in their long form
#   chaos      test/chaos: MINUTES minutes of faults by chance, SEED repeats them
#   mutants    test/mutants: wrong changes of the source, each of which a test must see; MUTANTS="NAME ..." some of them
# Options:
#   --installed   test the extension that is installed in the system, build nothing
#   --long        STREAMPROC_LONG=1 for the TAP files
#   --only WORD   only regress tests, specs and TAP files with WORD in their name
#   --jobs N      TAP files at a time (default 4: they mostly wait), or mutants
#   --keep        leave the work directory in place (it is left in place too when something failed)
#
# As root it first installs what is missing (test/setup.sh) and runs everything as the user postgres; as another user
# everything must be there.  The last line is "N passed, N failed"; the exit code is not zero if anything failed.
# A stage that has nothing to run has failed.
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

installed=no long=no only='' jobs=4 keep=no inner=''
stages=()
while [ $# -gt 0 ]; do
	case $1 in
		--installed) installed=yes ;;
		--long) long=yes ;;
		--only) only=$2; shift ;;
		--jobs) jobs=$2; shift ;;
		--keep) keep=yes ;;
		--inner) inner=$2; shift ;;
		-h | --help) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
		build | lint | codec | fuzz | regress | isolation | tap | assert | sanitize | crash | chaos | mutants) stages+=("$1") ;;
		*) sp_die "unknown option or stage $1 (see --help)" ;;
	esac
	shift
done
[ ${#stages[@]} -gt 0 ] || stages=(build regress isolation lint codec fuzz tap assert)

# ---------------------------------------------------------------- outside: set up, copy, change the user

if [ -z "$inner" ]; then
	if [ "$(id -u)" = 0 ]; then
		"$sp_root/test/setup.sh" || { echo "0 passed, 1 failed"; exit 1; }
	else
		"$sp_root/test/setup.sh" --check || { echo "0 passed, 1 failed"; exit 1; }
	fi
	sp_pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
	work=$(mktemp -d /tmp/streamproc-test.XXXXXX) || exit 1
	chmod 755 "$work"
	sp_copy_tree "$work/tree"
	[ "$(id -u)" != 0 ] || chown "$(sp_user):" "$work"
	STREAMPROC_CACHE=$(sp_jars "$work/cache") || { echo "0 passed, 1 failed"; rm -rf "$work"; exit 1; }
	export STREAMPROC_CACHE PG_CONFIG=$sp_pg_config
	if [[ " ${stages[*]} " == *" chaos "* ]] && [ "$(id -u)" = 0 ]; then
		# for the disk that is full; it says so itself where there is none
		mkdir "$work/space"
		if mount -t tmpfs -o "size=$((300 + 40 * ${MINUTES:-2}))m,mode=700,uid=$(id -u "$(sp_user)"),gid=$(id -g "$(sp_user)")" streamproc-chaos "$work/space"; then
			export STREAMPROC_SPACE=$work/space
		fi
	fi
	args=(--jobs "$jobs")
	[ $installed = no ] || args+=(--installed)
	[ $long = no ] || args+=(--long)
	[ -z "$only" ] || args+=(--only "$only")
	rc=0
	cd "$work" || exit 1
	# a process group of its own, so that an interruption ends all of it and leaves us to clean up
	set -m
	(sp_exec=exec; sp_as_user "$work" bash "$work/tree/test/run.sh" --inner "$work" "${args[@]}" "${stages[@]}") </dev/null &
	child=$!
	set +m
	trap 'kill -TERM -- -$child 2>/dev/null' INT TERM
	wait $child
	rc=$?
	while kill -0 $child 2>/dev/null; do wait $child; rc=1; done
	cd / || exit 1
	[ -z "${STREAMPROC_SPACE:-}" ] || umount -l "$STREAMPROC_SPACE"
	verdict=$(cat "$work/verdict" 2>/dev/null)
	if [ $keep = yes ] || [ $rc != 0 ]; then
		echo "work directory: $work"
	else
		rm -rf "$work"
	fi
	# the last line
	[ -n "$verdict" ] || rc=1
	echo "${verdict:-0 passed, 1 failed}"
	exit $rc
fi

# ---------------------------------------------------------------- inside: as an unprivileged user, on the copy

work=$inner
tree=$work/tree
passed=0 failed=0 verdict=''
started=$SECONDS
mkdir -p "$work/log" "$work/t"
pgxs_src=$(dirname "$("$sp_pg_config" --pgxs)")/..
export LC_ALL=C.UTF-8 LANG=C.UTF-8
# brokers live for a minute or two: optimizing them costs more than it gains
export STREAMPROC_BROKER_ARCHIVE=$work/broker.jsa STREAMPROC_BROKER_JVM=${STREAMPROC_BROKER_JVM:--XX:TieredStopAtLevel=1}
unset PGPORT PGDATABASE PGUSER PGHOST PGOPTIONS MAKEFLAGS MAKELEVEL MFLAGS
# hundreds of builds, of which one file is new each time
case " ${stages[*]} " in *" mutants "*) export LTO='' ;; esac

say() { printf '%5ds  %s\n' $((SECONDS - started)) "$*"; }
good() { passed=$((passed + ${2:-1})); say "ok      $1"; }
bad() { failed=$((failed + ${2:-1})); say "FAILED  $1" | tee -a "$work/log/failed"; }
# what failed, once more at the end, where those look who see only the end of the output
recall() {
	[ -s "$work/log/failed" ] || return 0
	echo "---- failed:"
	cat "$work/log/failed"
	for log in "$work"/{regress,isolation}*/regression.diffs; do
		[ ! -s "$log" ] || head -n 60 "$log" | cut -c 1-400
	done
	for log in "$work/log/tap" "$work/log/tap-assert" "$work"/log/tap-sanitize* "$work/log/crash" "$work/log/chaos"; do
		[ -f "$log" ] || continue
		grep -E -A 12 '^#? *(Failed test|Dubious|died|Bail out)|# Tests were run but|# Looks like' "$log" | cut -c 1-400 | head -n 60
		sed -n '/^Test Summary Report/,/^Files=/p' "$log" | head -n 40
	done
}
finish() {
	trap - EXIT INT TERM
	sp_sweep "$work"
	recall
	echo "${verdict:-$passed passed, $failed failed}" >"$work/verdict"
	if [ $failed = 0 ] && [ $passed -gt 0 ]; then exit 0; fi
	exit 1
}
trap 'bad "interrupted"; finish' INT TERM
trap 'finish' EXIT

# run_build TREE INSTALLATION [MAKE ARGS]: sets bindir
bindir=$("$sp_pg_config" --bindir)
run_build() {
	local tree=$1 inst=$2 name
	shift 2
	name=$(basename "$tree")
	if ! make -s -j2 -C "$tree" PG_CONFIG="$sp_pg_config" "$@" >"$work/log/build-$name" 2>&1; then
		tail -n 40 "$work/log/build-$name"
		bad "build of $name"
		return 1
	fi
	if ! bindir=$(sp_temp_install "$tree" "$inst" 2>"$work/log/install-$name"); then
		tail -n 20 "$work/log/install-$name"
		bad "installation of $name"
		return 1
	fi
	good "build and installation of $name"
}

# the second build; where its programs are into $work/assert-bindir
build_assert() {
	run_build "$work/assert-tree" "$work/assert-inst" COPT=-DUSE_ASSERT_CHECKING LTO= && echo "$bindir" >"$work/assert-bindir"
}

# ---- the third one, with sanitizers

sanitize_flags() { echo "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-error -include $work/sanitize-tree/test/sanitize/contexts.h"; }

# Only the server itself is started with the sanitizer's library: what runs beside it is not slowed down, and a library
# that a test preloads comes behind it.
build_sanitize() {
	local libasan
	libasan=$(/usr/bin/cc -print-file-name=libasan.so)
	if [[ $libasan != /* ]]; then bad "sanitize: the compiler has no libasan.so"; return 1; fi
	run_build "$work/sanitize-tree" "$work/sanitize-inst" COPT="$(sanitize_flags)" LTO= || return 1
	/usr/bin/cc -shared -fPIC -o "$work/preload.so" "$tree/test/sanitize/preload.c" || return 1
	mv "$bindir/postgres" "$bindir/postgres.bin"
	cat >"$bindir/postgres" <<-SCRIPT
		#!/bin/bash
		export LD_PRELOAD="$libasan:$work/preload.so\${LD_PRELOAD:+:\$LD_PRELOAD}"
		exec -a "$bindir/postgres" "$bindir/postgres.bin" "\$@"
	SCRIPT
	chmod +x "$bindir/postgres"
	export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=16:allocator_may_return_null=1:log_path=$work/log/sanitizer
	export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1:log_path=$work/log/sanitizer
	sanitizer_sees
}

# Is a mistake of a module told in a report, and the server's end of it?
sanitizer_sees() {
	local dir=$work/sees
	mkdir -p "$dir"
	# shellcheck disable=SC2046
	/usr/bin/cc $(sanitize_flags) -g -fPIC -shared -I"$("$sp_pg_config" --includedir-server)" \
		-o "$dir/sees.so" "$tree/test/sanitize/sees.c" >"$work/log/sees" 2>&1 &&
		"$bindir/initdb" -D "$dir/data" -N >>"$work/log/sees" 2>&1 &&
		! sh -c '"$@"; exit $?' sees "$bindir/postgres" --single -D "$dir/data" -c "shared_preload_libraries=$dir/sees" postgres \
			</dev/null >>"$work/log/sees" 2>&1
	if [ $? != 0 ] || ! grep -q 'heap-buffer-overflow' "$work"/log/sanitizer.*; then
		tail -n 20 "$work/log/sees"
		bad "sanitize: a mistake is not seen"
		return 1
	fi
	good "sanitize: a mistake is seen"
	rm -f "$work"/log/sanitizer.*
}

# each report is a finding, whatever became of the test
check_sanitizer() {
	local report n=0
	for report in "$work"/log/sanitizer.*; do
		[ -e "$report" ] || continue
		n=$((n + 1))
		bad "sanitize: $report"
		[ $n -gt 10 ] || head -n 60 "$report"
	done
	# those of undefined behaviour go to standard error, the server's log
	while read -r report; do
		n=$((n + 1))
		bad "sanitize: $report"
	done < <(grep -rm1 --include='*.log' ': runtime error: ' "$work")
	[ $n != 0 ] || good "sanitize: no reports"
}

# COMMAND... with it; what is used after it was freed is seen
assertions() {
	bindir=$assert_bindir
	export MALLOC_PERTURB_=165
	"$@"
}

# stages that run beside each other need them, too
make_tools() {
	flock "$work/log" make -s -C "$tree/test/kafka" >"$work/log/tools" 2>&1 && return 0
	cat "$work/log/tools"
	bad "test tools"
	return 1
}

# a broker for pg_regress, its address in STREAMPROC_KAFKA
start_broker() {
	export STREAMPROC_KAFKA_DIR=$work/$1 STREAMPROC_TOOL=$tree/test/kafka/kafka_tool STREAMPROC_LOAD=$tree/test/kafka/load
	make_tools || return 1
	if ! STREAMPROC_KAFKA=$("$tree/test/kafka/broker.sh" start "$STREAMPROC_KAFKA_DIR"); then bad "broker"; return 1; fi
	export STREAMPROC_KAFKA
}
stop_broker() { "$tree/test/kafka/broker.sh" destroy "$STREAMPROC_KAFKA_DIR"; }

write_config() {
	cat >"$work/temp.conf" <<-CONF
		shared_preload_libraries = 'streamproc'
		max_worker_processes = 64
		log_line_prefix = '%m [%p] %q%a '
		log_autovacuum_min_duration = -1
	CONF
}

# run_regress LABEL PROGRAM INPUT_DIR EXTRA... -- TESTS
run_regress() {
	local label=$1 program=$2 input=$3 out n_ok n_bad rc name extra=()
	shift 3
	while [ "$1" != -- ]; do extra+=("$1"); shift; done
	shift
	if [ $# = 0 ]; then bad "$label: there are no tests"; return 1; fi
	# pg_regress would end at a missing file; so it shows what it should hold
	mkdir -p "$input/expected"
	for name in "$@"; do
		[ -e "$input/expected/$name.out" ] || { echo "expected/$name.out is missing"; : >"$input/expected/$name.out"; }
	done
	start_broker "broker-$label" || return 1
	write_config
	out=$work/$label
	mkdir -p "$out"
	PATH=$bindir:$PATH "$program" --inputdir="$input" --outputdir="$out" --bindir="$bindir" --no-locale --encoding=UTF8 \
		--temp-instance="$out/instance" --temp-config="$work/temp.conf" --dlpath="$("$sp_pg_config" --pkglibdir)" \
		"${extra[@]}" "$@" >"$work/log/$label" 2>&1
	rc=$?
	stop_broker
	n_ok=$(grep -cE '\.\.\. ok( |$)' "$work/log/$label")
	n_bad=$(grep -cE '\.\.\. (FAILED|failed)' "$work/log/$label")
	[ "$n_ok" = 0 ] || good "$label: $n_ok tests" "$n_ok"
	if [ "$n_bad" != 0 ]; then
		grep -E '\.\.\. (FAILED|failed)' "$work/log/$label"
		head -n 300 "$out/regression.diffs" 2>/dev/null
		bad "$label: $n_bad tests" "$n_bad"
	elif [ $rc != 0 ] || [ $((n_ok + n_bad)) != $# ]; then
		tail -n 30 "$work/log/$label"
		tail -n 30 "$out/log/postmaster.log" 2>/dev/null
		bad "$label: ended early"
	fi
	check_log "$label" "$out/log/postmaster.log"
}

# no server of a test may have crashed or failed an assertion behind the tests' back
check_log() {
	if grep -nE 'PANIC:|TRAP:|was terminated by signal (4|6|7|8|11)|(reference|refcount|descriptor|snapshot|cache) leak' "$2" 2>/dev/null; then
		bad "$1: the server's log shows a crash or a leak"
	fi
}

names() {	# DIR SUFFIX EXCLUDE: names of the tests
	find "$1" -maxdepth 1 -name "*$2" 2>/dev/null | sed "s|.*/||; s|$2\$||" | grep -v -- "${3:-^$}" |
		{ [ -n "$only" ] && grep -F -- "$only" || cat; } | sort
}

do_regress() {
	# shellcheck disable=SC2046
	run_regress "regress$1" "$pgxs_src/test/regress/pg_regress" "$tree" -- $(names "$tree/sql" .sql '--')
}

do_isolation() {
	# shellcheck disable=SC2046
	run_regress "isolation$1" "$pgxs_src/test/isolation/pg_isolation_regress" "$tree/test/isolation" \
		--load-extension=streamproc -- $(names "$tree/test/isolation/specs" .spec)
}

# run_tap LABEL SECONDS FILES...: with what is in $tree and $bindir; the numbers of good and bad ones into $work/LABEL/result
run_tap() {
	local label=$1 seconds=$2
	shift 2
	mkdir -p "$work/$label"
	rm -f "$work/$label/result"
	(
		cd "$tree/test" &&
			TESTDIR=$work/$label PATH=$bindir:$PATH PG_REGRESS=$pgxs_src/test/regress/pg_regress \
				PG_TEST_PORT_DIR=$work/ports \
				PERL5LIB=$tree/test/perl:$pgxs_src/test/perl${PERL5LIB:+:$PERL5LIB} \
				STREAMPROC_LONG=$([ $long = yes ] && echo 1 || echo 0) \
				perl tap_run.pl --jobs "$jobs" --timeout "$seconds" ${assert_bindir:+--assert "$assert_bindir"} "$work/$label/result" "$@"
	) 2>&1
}

do_tap() {	# LABEL FILES...
	local label=$1 n_ok=0 n_bad=0 rc log
	shift
	if [ $# = 0 ]; then bad "$label: there are no tests"; return 1; fi
	make_tools || return 1
	run_tap "$label" $([ $long = yes ] || [[ $label == tap-sanitize* ]] && echo 7200 || echo 600) "$@" | tee "$work/log/$label"
	rc=${PIPESTATUS[0]}
	[ ! -s "$work/$label/result" ] || read -r n_ok n_bad <"$work/$label/result"
	[ "$n_ok" = 0 ] || good "$label: $n_ok tests" "$n_ok"
	if [ "$n_bad" != 0 ]; then
		bad "$label: $n_bad tests" "$n_bad"
	elif [ "$rc" != 0 ] || [ ! -s "$work/$label/result" ]; then
		bad "$label: ended early"
	fi
	# servers that the tests crashed on purpose (kill -9) are no finding; failed assertions are
	for log in "$work/$label"/tmp_check/log/*.log; do
		[ -f "$log" ] || continue
		if grep -nE 'PANIC:|TRAP:|was terminated by signal (4|6|7|8|11)' "$log"; then bad "$label: $(basename "$log") shows a crash"; fi
	done
}

# run_counted LABEL OK BAD COMMAND...: counts the lines that match OK and BAD
run_counted() {
	local label=$1 ok=$2 not_ok=$3 rc n_ok n_bad
	shift 3
	"$@" >"$work/log/$label" 2>&1
	rc=$?
	n_ok=$(grep -cE "$ok" "$work/log/$label")
	n_bad=$(grep -cE "$not_ok" "$work/log/$label")
	[ "$n_ok" = 0 ] || good "$label: $n_ok tests" "$n_ok"
	if [ "$n_bad" != 0 ] || [ $rc != 0 ] || [ "$n_ok" = 0 ]; then
		grep -vE "$ok" "$work/log/$label" | tail -n 100
		bad "$label" $((n_bad > 0 ? n_bad : 1))
	fi
}

# Runs COMMAND... beside what follows, until together(): what mostly waits for a broker beside what computes.
asides=()
aside() {
	local mine=$work/aside.${#asides[@]}

	asides+=("$mine")
	rm -f "$mine"
	(
		passed=0 failed=0
		"$@"
		echo "$passed $failed" >"$mine"
	) &
}
together() {
	local mine n_ok n_bad

	wait
	for mine in "${asides[@]}"; do
		if ! read -r n_ok n_bad <"$mine"; then bad "$mine: ended early"; continue; fi
		passed=$((passed + n_ok)) failed=$((failed + n_bad))
	done
	asides=()
}

tap_files() { (cd "$tree/test" && names t .pl | sed 's|.*|t/&.pl|'); }
# those that are run with assertions
assert_files() { (cd "$tree/test" && tap_files | xargs -r grep -l '^# with assertions$'); }

# the sources of the second build, before the first one leaves objects among them
cp -r "$tree" "$work/assert-tree"
[[ " ${stages[*]} " != *" sanitize "* ]] || cp -r "$tree" "$work/sanitize-tree"
# what runs servers needs the build
if [ $installed = no ] && [[ " ${stages[*]} " != *" build "* ]] && [[ " ${stages[*]} " =~ " "(regress|isolation|tap|crash|chaos|mutants)" " ]]; then
	stages=(build "${stages[@]}")
fi
# where both are run the second build is made beside what comes before the TAP files, which then run all together
both=no assert_bindir=''
if [[ " ${stages[*]} " == *" tap "* ]] && [[ " ${stages[*]} " == *" assert "* ]] && [ $installed = no ]; then both=yes; fi
for stage in "${stages[@]}"; do
	case $stage in tap | assert | sanitize | crash | chaos | mutants) together ;; esac
	case $stage in
		build)
			[ $installed = no ] || continue
			run_build "$tree" "$work/inst" || finish
			[ $both = no ] || aside build_assert
			;;
		lint) run_counted lint '^ok ' '^FAILED ' "$tree/test/lint/check.sh" ;;
		codec) run_counted codec '\.\.\. ok( |$)' '\.\.\. FAILED' make -s -j2 -C "$tree/test/codec" PG_CONFIG="$sp_pg_config" check ;;
		fuzz) run_counted fuzz '^ok ' '^FAILED ' make -s -j2 -C "$tree/test/fuzz" PG_CONFIG="$sp_pg_config" check ;;
		regress) aside do_regress '' ;;
		isolation) aside do_isolation '' ;;
		tap)
			if [ $both = yes ]; then
				assert_bindir=$(cat "$work/assert-bindir") || finish
				aside assertions do_regress -assert
				aside assertions do_isolation -assert
			fi
			# shellcheck disable=SC2046
			do_tap tap $(tap_files)
			;;
		sanitize)
			build_sanitize || finish
			for part in ${SANITIZE:-regress isolation tap}; do
				case $part in
					regress) do_regress -sanitize ;;
					isolation) do_isolation -sanitize ;;
					tap)
						# shellcheck disable=SC2046
						do_tap tap-sanitize $(tap_files)
						;;
					*)
						# shellcheck disable=SC2046
						do_tap "tap-sanitize-$part" $(tap_files | grep -F -- "$part")
						;;
				esac
			done
			check_sanitizer
			;;
		crash)
			long=yes
			# shellcheck disable=SC2046
			do_tap crash $(tap_files | grep crash)
			;;
		chaos)
			long=yes
			do_tap chaos chaos/chaos.pl
			;;
		mutants)
			# shellcheck source=test/mutants/stage.sh
			. "$tree/test/mutants/stage.sh"
			do_mutants
			;;
		assert)
			[ $both = no ] || continue
			build_assert || finish
			assert_bindir=$(cat "$work/assert-bindir")
			aside assertions do_regress -assert
			aside assertions do_isolation -assert
			# shellcheck disable=SC2046
			do_tap tap-assert $(assert_files)
			;;
	esac
done
together
say "done"
finish

# The stage "mutants" of test/run.sh, which sources this: builds there is one of, in $tree and $work/inst.
#
# First the tests that the mutants name run without any change: where they fail a kill would mean nothing.  Then for each
# mutant: a copy of the built tree, the patch, an incremental build, an installation whose other files are links to
# the first one, and the test that it names, of it only the named parts.

# the test file and the parts that kill a mutant: "090 a, b" in its line "Kills:"
mutant_kills() { sed -n 's/^Kills: *//p' "$tree/test/mutants/$1.patch"; }

# run_killer LABEL FILE NAMES: this test, of it the parts named ("a, b"); its output into log/LABEL.  1: it fails, 2: it did not begin
run_killer() {
	local label=$1 file=$2 names=$3 log=$work/log/$1 files
	if [ -f "$tree/sql/$file.sql" ]; then
		(failed=0; run_regress "$label" "$pgxs_src/test/regress/pg_regress" "$tree" -- "$file"; exit $failed) >"$log-out" 2>&1 && return 0
		grep -q '\.\.\. ' "$log" 2>/dev/null && return 1 || return 2
	fi
	files=$(cd "$tree/test" && echo t/"$file"_*.pl)
	# the data of the oracle are the same each time, they come in many epochs, and nothing is killed by chance; what hangs has failed
	ONLY="^(${names//, /|})\$" ORACLE_SEED=1 ORACLE_GENERATED=0 ORACLE_KILL=0 ORACLE_SLOW=1 PG_TEST_TIMEOUT_DEFAULT=60 \
		run_tap "$label" 300 "$files" >"$log" && return 0
	grep -q '^# runs: ' "$log" && return 1 || return 2
}

# Without a change: all that is named of one test file.
run_original() {
	local file=$1 names=$2 label=original-$1 name rc
	run_killer "$label" "$file" "$names"
	rc=$?
	if [ $rc != 0 ]; then
		tail -n 40 "$work/log/$label"
		bad "$file without a change"
		return 1
	fi
	while [ -n "$names" ]; do
		name=${names%%, *}
		names=${names#"$name"}
		names=${names#, }
		grep -qxF "# runs: $name" "$work/log/$label" || { bad "$file has no part \"$name\""; rc=1; }
	done
	[ $rc = 0 ] && good "$file without a change"
}

# One mutant; its verdict in $work/m-NAME.verdict
run_mutant() {
	local name=$1 base=$tree tree=$work/m-$1/tree bindir=$work/m-$1/inst/${bindir#"$work/inst"} kills verdict begun=$SECONDS
	kills=$(tree=$base mutant_kills "$name")
	mkdir -p "$work/m-$name"
	cp -a "$base" "$tree"
	if ! patch -d "$tree" -p1 -s -f -r - --no-backup-if-mismatch <"$base/test/mutants/$name.patch" >"$work/log/m-$name" 2>&1; then
		verdict='does not apply'
	elif ! make -s -j2 -C "$tree" PG_CONFIG="$sp_pg_config" >"$work/log/m-$name" 2>&1; then
		verdict='does not compile'
	elif ! { cp -al "$work/inst" "$work/m-$name/inst" &&
		make -s -C "$tree" PG_CONFIG="$sp_pg_config" install DESTDIR="$work/m-$name/inst"; } >"$work/log/m-$name" 2>&1; then
		verdict='is not installed'
	else
		run_killer "m-$name" "${kills%% *}" "${kills#* }"
		case $? in
			0) verdict=SURVIVED ;;
			1) verdict=killed ;;
			*) verdict='is not tested: the test did not begin' ;;
		esac
	fi
	sp_sweep "$work/m-$name"
	rm -rf "${work:?}/m-$name"
	echo "$verdict" >"$work/m-$name.verdict"
	say "$(printf '%-8s %s (%s), %d s' "$verdict" "$name" "$kills" $((SECONDS - begun)))"
	[ "$verdict" = killed ] || tail -n 20 "$work/log/m-$name"
}

locked() {
	if [ -z "${MUTANTS_LOCK:-}" ]; then "$@"; return; fi
	# servers that are started do not inherit the lock
	{ flock 9; "$@" 9<&-; } 9<"$MUTANTS_LOCK"
}

do_mutants() {
	local name file names killed=0
	local -a list files=()
	local -A of=()
	# shellcheck disable=SC2206
	list=(${MUTANTS:-})
	# shellcheck disable=SC2046
	[ ${#list[@]} -gt 0 ] || list=($(cd "$tree/test/mutants" && printf '%s\n' *.patch | sed 's/\.patch$//'))
	verdict="0 killed, ${#list[@]} survived"
	for name in "${list[@]}"; do
		names=$(mutant_kills "$name")
		file=${names%% *}
		[ -n "$file" ] || { bad "$name does not say which test kills it"; return; }
		[ -n "${of[$file]+x}" ] || files+=("$file")
		names=${names#"$file"}
		of[$file]="${of[$file]:-}${of[$file]:+, }${names# }"
	done
	for file in "${files[@]}"; do locked run_original "$file" "${of[$file]}"; done
	[ $failed = 0 ] || return
	for name in "${list[@]}"; do
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
		locked run_mutant "$name" &
	done
	wait
	killed=$(cat "$work"/m-*.verdict | grep -cx killed)
	good mutants "$killed"
	[ "$killed" = ${#list[@]} ] || bad mutants $((${#list[@]} - killed))
	verdict="$killed killed, $((${#list[@]} - killed)) survived"
}

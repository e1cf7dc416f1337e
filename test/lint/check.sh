#!/usr/bin/env bash
# Rules of the source that a compiler does not know.  Each rule prints "ok NAME" or "FAILED NAME" after the places
# where it is broken; the exit code is not zero if any failed.  A few seconds.
#
# An exception stands in the source, as a comment that says why: cppcheck's "cppcheck-suppress ID"; for the rules here
# there is none.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

# A room includes only rooms before it in this list (design: rooms of the source) and itself.
rooms=(base shmem catalog kafka codec stream time state operator plan checkpoint worker api)
extension_sql=(sql/streamproc--*.sql)
max_lines=900
failed=0

rule() {	# NAME, findings on standard input
	local found
	found=$(cat)
	if [ -n "$found" ]; then
		sed 's/^/    /' <<<"$found"
		echo "FAILED $1"
		failed=1
	else
		echo "ok $1"
	fi
}

room_files() { find "src/$1" -maxdepth 1 \( -name '*.c' -o -name '*.cc' -o -name '*.h' \) 2>/dev/null | sort; }

include_arrows() {
	local i room allowed file line other
	declare -A rank
	for i in "${!rooms[@]}"; do rank[${rooms[$i]}]=$i; done
	for room in src/*/; do
		room=$(basename "$room")
		[ -n "${rank[$room]:-}" ] || { echo "src/$room: a room that test/lint/check.sh does not know"; continue; }
		for file in $(room_files "$room"); do
			while IFS=: read -r line other; do
				[ -n "$other" ] || continue
				allowed=${rank[${other%%/*}]:-}
				# PostgreSQL has directories with slashes of its own
				[ -n "$allowed" ] && [ -f "src/$other" ] || continue
				[ "$allowed" -le "${rank[$room]}" ] || echo "$file:$line: room $room includes $other"
				# of other rooms only the public header
				[ "${other%%/*}" = "$room" ] || [ "$other" = "${other%%/*}/${other%%/*}.h" ] || is_public "$other" ||
					echo "$file:$line: $other is private to room ${other%%/*}"
			done < <(sed -n 's/^#include "\([^"]*\/[^"]*\)".*/\1/;T;=;p' "$file" | paste -d: - -)
		done
	done
}

# base/ is a set of small headers; the others have one public header
is_public() { [ "${1%%/*}" = base ]; }

room_includes_quoted() {	# headers of rooms are included as "room/header.h"
	local file header
	for file in $(find src -name '*.c' -o -name '*.cc' -o -name '*.h'); do
		grep -nHoE '^#include "[^/"]+\.h"' "$file" | while IFS= read -r header; do
			[ ! -f "$(dirname "$file")/$(sed 's/.*"\(.*\)"/\1/' <<<"$header")" ] || echo "$header: write it as \"room/header.h\""
		done
	done
}

only_in() {	# PATTERN, ALLOWED PATH PATTERN, SEARCHED PATHS
	local pattern=$1 allowed=$2
	shift 2
	# comments are no calls
	grep -rnE --include='*.c' --include='*.cc' --include='*.h' "$pattern" "$@" 2>/dev/null | grep -vE "^[^:]*:[0-9]+:[[:space:]]*(/?\*|//)" |
		grep -vE "^($allowed):"
}

box_comments() {	# each source file says at its top what it is for
	local file
	for file in $(find src -name '*.c' -o -name '*.cc' -o -name '*.h'); do
		[ "$(head -c 3 "$file")" = '/*-' ] || echo "$file: no box comment at the top"
	done
	for file in $(find src -name '*.c'); do
		[ "$(grep -m1 '^#include' "$file")" = '#include "postgres.h"' ] || echo "$file: the first include is not postgres.h"
	done
}

tab_style() {
	grep -rnE --include='*.c' --include='*.cc' --include='*.h' '^(    |	* {4,}[^ *])' src 2>/dev/null | grep -vE '^[^:]*:[0-9]+:	* \*' | head -n 20
	grep -rnE --include='*.c' --include='*.cc' --include='*.h' --include='*.sh' --include='*.pl' --include='*.pm' --include='*.sql' \
		'[ 	]+$' src test bench demo "${extension_sql[@]}" 2>/dev/null | sed 's/$/<- trailing space/' | head -n 20
}

readmes() {
	local room
	for room in src/*/; do
		[ -n "$(room_files "$(basename "$room")")" ] || continue
		[ -s "${room}README.md" ] || echo "no ${room}README.md"
	done
}

long_files() {
	find src test bench demo Makefile -type f \( -name '*.c' -o -name '*.cc' -o -name '*.h' -o -name '*.sh' -o -name '*.p[lm]' -o -name Makefile \) \
		-exec wc -l {} + 2>/dev/null | awk -v max=$max_lines '$2 != "total" && $1 > max { print $2 ": " $1 " lines" }'
}

loose_ends() {
	grep -rnIE '\b(TODO|FIXME|XXX|HACK)\b' src sql test bench demo Makefile 2>/dev/null | grep -vE '^test/lint/check.sh:|mktemp|XXXXXX'
	grep -rnE --include='*.c' --include='*.cc' '\b(strcpy|strcat|sprintf|vsprintf|gets)[[:space:]]*\(' src 2>/dev/null
}

check_cppcheck() {
	local found
	command -v cppcheck >/dev/null || { echo "cppcheck is not installed"; return; }
	[ -n "$(find src -name '*.c')" ] || { echo "there is no source"; return; }
	# PostgreSQL's headers are not given: the macros that change the flow are told to it, the rest it takes as
	# unknown calls.  One configuration, else it tries every #ifdef.
	found=$(find src -name '*.c' | sort | cppcheck -j 2 --quiet --std=c11 --language=c --inline-suppr --error-exitcode=0 \
		--enable=warning,portability,performance --template='{file}:{line}: {severity}: {message} [{id}]' \
		--library=test/lint/postgres.cfg --suppressions-list=test/lint/suppressions.txt -Isrc -D__linux__ --max-configs=1 \
		--file-list=- 2>&1)
	[ -z "$found" ] || echo "$found"
}

include_arrows | rule "a room includes only rooms above it, and only their public header"
room_includes_quoted | rule "headers are included as room/header.h"
only_in 'include *[<"](librdkafka/)?rdkafka\.h' 'src/kafka/[^:]*' src | rule "only src/kafka includes rdkafka.h"
only_in 'include *[<"]simdjson\.h' 'src/codec/[^:]*' src | rule "only src/codec includes simdjson.h"
only_in '\b(CommitTransactionCommand|StartTransactionCommand|AbortCurrentTransaction|SPI_commit|SPI_rollback|EndTransactionBlock) *\(' \
	'src/checkpoint/commit\.c' src | rule "only src/checkpoint/commit.c begins and ends transactions"
only_in '\b(BeginInternalSubTransaction|ReleaseCurrentSubTransaction|RollbackAndReleaseCurrentSubTransaction) *\(' \
	'src/(checkpoint/commit|stream/peek)\.c' src | rule "workers begin subtransactions in src/checkpoint/commit.c only"
only_in '\b(SPI_connect|SPI_execute[a-z_]*|SPI_prepare[a-z_]*) *\(' 'nothing' src/worker src/checkpoint src/catalog | rule "workers, checkpoints and the catalog do not use SPI"
only_in '\b(abort|system|popen|fork|sleep|usleep|pg_usleep|exit) *\(' 'nothing' src | rule "no exit, fork or sleep"
# a queue of librdkafka that grew between the two was read beyond the array for its messages
only_in '\b(Min|Max) ?\(.*\b(rd_kafka_|pg_atomic_|monotonic_us|GetCurrentTimestamp|[a-z_]*(remaining|sleep)_ms|[a-z_]*_(step|prepare))[a-z0-9_]* ?\(' 'nothing' src |
	rule "Min() and Max() evaluate twice: no call in them whose answer changes"
only_in '\b_exit *\(' 'src/kafka/handle\.c' src | rule "only src/kafka/handle.c ends the process by _exit"
perl test/lint/sql.pl "${extension_sql[@]}" $(grep -rlI --include='*.c' 'SPI_' src) 2>&1 | rule "SQL objects have comments, names a schema, and nobody is granted what starts, stops or reaches the network"
perl test/lint/sql.pl --test test/lint/sql_mistakes.sql 2>&1 | rule "the check of SQL objects sees mistakes"
box_comments | rule "box comments, postgres.h first"
readmes | rule "each room has a README.md"
long_files | rule "no file above $max_lines lines"
tab_style | rule "tabs, no trailing space"
loose_ends | rule "no marks of unfinished work, no unbounded string functions"
check_cppcheck | rule "cppcheck"
exit $failed

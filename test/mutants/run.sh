#!/usr/bin/env bash
# Mutants: each is a small wrong change of the source that the test it names must see.
#
#   test/mutants/run.sh [--jobs N] [NAME ...]
#   test/mutants/run.sh --list
#
# NAME is that of a patch here, without .patch; by default all.  --jobs: mutants at a time (default 2).
# MUTANTS_LOCK=FILE: this file is locked (flock) while one is built and tested, for machines where others measure.
#
# It is the stage "mutants" of test/run.sh: set-up, user and copy of the tree are those of "make test".  The last line is
# "N killed, M survived"; the exit code is not zero unless all were killed.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jobs=2
names=()
while [ $# -gt 0 ]; do
	case $1 in
		--jobs) jobs=$2; shift ;;
		--list)
			for file in "$here"/*.patch; do printf '%-26s %s  [%s]\n' "$(basename "$file" .patch)" "$(sed -n 1p "$file")" "$(sed -n 's/^Kills: //p' "$file")"; done
			exit 0
			;;
		-h | --help) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 0 ;;
		-*) echo "unknown option $1 (see --help)" >&2; exit 1 ;;
		*) [ -f "$here/$1.patch" ] || { echo "there is no mutant $1" >&2; exit 1; }; names+=("$1") ;;
	esac
	shift
done
MUTANTS="${names[*]-}" exec "$here/../run.sh" --jobs "$jobs" mutants

# Shell functions shared by test/run.sh, the benchmark and the demo; to be sourced.
# PostgreSQL does not run as root: what starts servers runs as an unprivileged user on a copy of the tree,
# because that user may not be able to read the checkout (it may lie under /root).

sp_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sp_pg_config=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
[ -x "$sp_pg_config" ] || sp_pg_config=$(command -v pg_config || echo "$sp_pg_config")

sp_die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# The user that servers run as: postgres when we are root, else ourselves.
sp_user() {
	if [ "$(id -u)" != 0 ]; then id -un
	elif id postgres >/dev/null 2>&1; then echo postgres
	else sp_die "no user postgres (run test/setup.sh)"; fi
}

# sp_as_user DIR COMMAND...: runs it as that user with HOME=DIR; the environment is kept.  With sp_exec=exec the
# command takes the place of the shell, so that a signal for the shell reaches it.
sp_as_user() {
	local home=$1 user
	shift
	user=$(sp_user)
	if [ "$(id -u)" = 0 ]; then
		${sp_exec:-} env HOME="$home" USER="$user" LOGNAME="$user" \
			setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
	else
		${sp_exec:-} env HOME="$home" "$@"
	fi
}

# sp_copy_tree DIR: the sources (tracked or not) without build products into DIR, owned by the test user.
sp_copy_tree() {
	mkdir -p "$1"
	tar -C "$sp_root" --exclude=./.git --exclude='*.o' --exclude='*.d' --exclude='*.so' --exclude=./build-assert \
		--exclude=./results --exclude=tmp_check --exclude='./test/fuzz/build*' --exclude=./test/kafka/kafka_tool --exclude=./test/kafka/load \
		-cf - . | tar -C "$1" --no-same-owner -xf -
	[ "$(id -u)" != 0 ] || chown -R "$(sp_user):" "$1"
}

# sp_jars_dir DIR [POM]: prints a directory with the broker's jars, or those of a pom.xml, that the test user can read;
# copies them to DIR if he cannot read ours.
sp_jars_dir() {
	local jars
	jars=$("$sp_root/test/kafka/broker.sh" jars ${2:+"$2"}) || return 1
	if sp_as_user /tmp test -r "$jars/.complete" 2>/dev/null; then
		echo "$jars"
	else
		mkdir -p "$1"
		cp -r "$jars" "$1/"
		[ "$(id -u)" != 0 ] || chown -R "$(sp_user):" "$1"
		echo "$1/$(basename "$jars")"
	fi
}

# sp_jars DIR: the same of the broker, to be used as STREAMPROC_CACHE.
sp_jars() {
	local jars
	jars=$(sp_jars_dir "$1") || return 1
	dirname "$jars"
}

# sp_temp_install TREE DIR: a private copy of the PostgreSQL installation in DIR with the module built in TREE
# installed into it.  PostgreSQL finds its files relative to its binaries, so nothing of the system is touched and two
# builds can stand side by side.  Prints the directory of the binaries.
sp_temp_install() {
	local tree=$1 dir=$2 d
	for d in "$("$sp_pg_config" --bindir)" "$("$sp_pg_config" --pkglibdir)" "$("$sp_pg_config" --sharedir)"; do
		mkdir -p "$dir$d"
		tar -C "$d" --exclude=./bitcode --exclude=./pgxs --exclude='./*/streamproc*' --exclude='./streamproc*' -cf - . |
			tar -C "$dir$d" -xf - || return 1
	done
	make -s -C "$tree" PG_CONFIG="$sp_pg_config" install DESTDIR="$dir" >&2 || return 1
	echo "$dir$("$sp_pg_config" --bindir)"
}

# pids of the programs that lie below DIR (a private installation, the test tools)
sp_processes_of() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		case $(readlink "$exe" 2>/dev/null) in "$1"/*) basename "$(dirname "$exe")" ;; esac
	done
}

# sp_sweep DIR: ends every server, broker and tool that was left running below DIR (after an interrupted run).
sp_sweep() {
	local file pid pids i
	find "$1" -name postmaster.pid 2>/dev/null | while read -r file; do
		pid=$(head -n 1 "$file")
		if [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(dirname "$file")" ]; then kill -QUIT "$pid" 2>/dev/null; fi
	done
	find "$1" -name server.properties 2>/dev/null | while read -r file; do
		"$sp_root/test/kafka/broker.sh" stop "$(dirname "$file")" 2>/dev/null
	done
	for ((i = 0; i < 50; i++)); do
		pids=$(sp_processes_of "$1")
		[ -n "$pids" ] || return 0
		# shellcheck disable=SC2086
		[ $i != 20 ] || kill -TERM $pids 2>/dev/null
		# shellcheck disable=SC2086
		[ $i != 40 ] || kill -KILL $pids 2>/dev/null
		sleep 0.1
	done
	return 0
}

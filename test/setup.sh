#!/usr/bin/env bash
# Installs what build, demo and tests need on Debian 12, as root; does nothing where all of it is there.
# Downloads are timed apart from the installation, because only the network knows how long they take.
#
#   test/setup.sh            install what is missing, and the jars of the broker
#   test/setup.sh --check    only say what is missing (exit 1 if anything is)
#   --jdk, behind it         a compiler of Java, too, for the peers of the benchmark
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

packages=(
	postgresql-15 postgresql-server-dev-15		# the server and what PGXS needs; of one minor version, see below
	build-essential								# compilers and make
	librdkafka-dev libsimdjson-dev libxxhash-dev
	libipc-run-perl perl						# PostgreSQL::Test
	default-jre-headless maven					# the broker
	cppcheck
	curl ca-certificates procps util-linux openssl
)
# anything that gives the command will do, whatever package it came from
declare -A by_command=(
	[default-jre-headless]=java [maven]=mvn [cppcheck]=cppcheck [curl]=curl [procps]=ps [util-linux]=setpriv
	[perl]=prove [openssl]=openssl
)
case " $* " in *" --jdk "*) packages+=(default-jdk-headless); by_command[default-jdk-headless]=javac ;; esac

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }

missing=()
for package in "${packages[@]}"; do
	installed "$package" && continue
	command=${by_command[$package]:-}
	if [ -n "$command" ] && command -v "$command" >/dev/null; then continue; fi
	missing+=("$package")
done
# a module built with headers of another minor version than the server's may be subtly wrong
if [ "$(version postgresql-15)" != "$(version postgresql-server-dev-15)" ]; then
	for package in postgresql-15 postgresql-server-dev-15; do
		[[ " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
	done
fi
jars_there() { [ -f "${STREAMPROC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/streamproc}/kafka-libs-3.9.1/.complete" ]; }

if [ "${1:-}" = --check ]; then
	[ ${#missing[@]} = 0 ] || echo "missing packages: ${missing[*]}" >&2
	jars_there || echo "missing: the jars of the broker (test/kafka/broker.sh jars)" >&2
	[ ${#missing[@]} = 0 ] && jars_there
	exit
fi

download=0
install=0
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "setup.sh: missing packages: ${missing[*]}; run test/setup.sh as root" >&2
		exit 1
	fi
	# shellcheck disable=SC1091
	. /etc/os-release
	if [ "${ID:-}" != debian ] || [ "${VERSION_ID:-}" != 12 ]; then
		echo "setup.sh: only Debian 12 is known here; install by hand: ${missing[*]}" >&2
		exit 1
	fi
	echo "setup: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	begin=$SECONDS
	{ apt-get -q update && apt-get -q -y --no-install-recommends --download-only install "${missing[@]}"; } >"$log" 2>&1 ||
		{ cat "$log" >&2; echo "setup.sh: apt-get could not download" >&2; exit 1; }
	download=$((SECONDS - begin))
	begin=$SECONDS
	apt-get -q -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1 ||
		{ cat "$log" >&2; echo "setup.sh: apt-get could not install" >&2; exit 1; }
	install=$((SECONDS - begin))
	if [ "$(version postgresql-15)" != "$(version postgresql-server-dev-15)" ]; then
		echo "setup.sh: postgresql-15 is $(version postgresql-15), postgresql-server-dev-15 is $(version postgresql-server-dev-15)" >&2
		exit 1
	fi
fi
if ! jars_there; then
	begin=$SECONDS
	"$here/kafka/broker.sh" jars >/dev/null
	download=$((download + SECONDS - begin))
fi
if [ $((download + install)) -gt 0 ] || [ ${#missing[@]} -gt 0 ]; then
	echo "setup: downloads took $download s, installation took $install s"
fi
# what the time of the demo is counted without
[ -z "${STREAMPROC_SETUP_TIMES:-}" ] || echo "download=$download install=$install" >"$STREAMPROC_SETUP_TIMES"

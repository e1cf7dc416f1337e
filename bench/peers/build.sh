#!/usr/bin/env bash
# Compiles one of the peers: build.sh flink|kstreams JARS CLASSES (directories; the jars are those of its pom.xml,
# "test/kafka/broker.sh jars POM").  Prints the class path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
peer=$1 jars=$2 classes=$3

command -v javac >/dev/null || { echo "build.sh: no javac (Debian: default-jdk-headless)" >&2; exit 1; }
mkdir -p "$classes"
javac -Xlint:all,-processing,-classfile -Werror -proc:none -cp "$jars/*" -d "$classes" "$here"/common/*.java "$here/$peer"/*.java >&2
if [ -f "$here/$peer/services" ]; then
	mkdir -p "$classes/META-INF/services"
	cp "$here/$peer/services" "$classes/META-INF/services/org.apache.flink.table.factories.Factory"
fi
echo "$classes:$jars/*"

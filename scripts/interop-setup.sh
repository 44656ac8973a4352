#!/bin/sh
# Prepares the Java and Node peers of the end-to-end tests. Quick when nothing is to be done.
# Exit codes: 0 ready, 1 something failed, 3 not possible here (one line "SKIP interop: ..." says why).
# Afterwards: java @tests/interop/java/target/java.args bowline.interop.BoltServer --port 0
#             node tests/interop/node/server.js --port 0
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
java_dir=$root/tests/interop/java
node_dir=$root/tests/interop/node

skip() {
    echo "SKIP interop: $*"
    exit 3
}

# A JRE alone has no javac, so that is what is looked for.
missing=""
command -v javac >/dev/null 2>&1 || missing="$missing default-jdk-headless"
command -v mvn >/dev/null 2>&1 || missing="$missing maven"
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || skip "needs$missing (run as root, or install them)"
    command -v apt-get >/dev/null 2>&1 || skip "needs$missing (no apt-get here)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } \
        >/dev/null 2>&1 || skip "could not install$missing"
fi

# A stamp is written last, so an interrupted build is done again.
stale() {
    [ ! -f "$1" ] || [ -n "$(find "$2" "$3" -newer "$1" -print -quit)" ]
}

if stale "$node_dir/node_modules/.ready" "$node_dir/package.json" "$node_dir/package-lock.json"; then
    (cd "$node_dir" && npm ci --silent --no-audit --no-fund) || { echo "interop: npm ci failed" >&2; exit 1; }
    touch "$node_dir/node_modules/.ready"
fi

args=$java_dir/target/java.args
if stale "$args" "$java_dir/pom.xml" "$java_dir/src"; then
    (cd "$java_dir" && mvn -q -B process-classes) >&2 || { echo "interop: the Maven build failed" >&2; exit 1; }
    cat >"$args" <<END
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-Djava.net.preferIPv4Stack=true
-Dlogging.path="$java_dir/target/logs"
--add-opens=java.base/java.lang=ALL-UNNAMED
-cp "$java_dir/target/classes:$java_dir/target/lib/*"
END
fi

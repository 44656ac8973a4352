#!/bin/sh
# The whole suite on two processors: every scenario, the bare relays and the peers that can be had, then the report. It builds
# first, which takes some 10 minutes, says then how long it is going to take, and lets no measurement begin after MINUTES_MAX.
# Flags are passed on to `bowline-bench run`: --plan says what would be measured and ends, --resume goes on after it was cut off,
# --rounds 7 --duration 10 --time-max 14400 takes four times as long and spreads less. Use a machine with nothing else to do.
# Results: bench-results/report.md, bench-results/pictures/, and the raw ones in bench-results/results.jsonl.
# BOWLINE_PEERS names other peers than all that can be fetched, e.g. "nginx haproxy mosn=/path/to/mosn".
set -u
cd "$(dirname "$0")/.."
MINUTES_MAX=${MINUTES_MAX:-70}
# The gateway, the load, the server and the bare relays are all built the same way; BOWLINE_PROGRAMS=target/release measures a
# plain build.
programs=${BOWLINE_PROGRAMS:-target/optimized}
case $programs in
target/optimized) scripts/pgo.sh || exit 1 ;;
*) cargo build --release --package bowline-gateway --package bowline-bench || exit 1 ;;
esac
begun=$(date +%s)
names=${BOWLINE_PEERS:-nginx haproxy h2o envoy traefik sozu mosn}
peers=
for name in $names; do
    case $name in
    *=* | mosn) ;;
    # One that must be built is given little time: what it has built by then is kept, and the next run goes on from there.
    *) SOZU_SECONDS_MAX=${SOZU_SECONDS_MAX:-120} scripts/peers.sh "$name" ;;
    esac
    peers="$peers --peer $name"
done
for tool in strace valgrind; do
    command -v "$tool" >/dev/null 2>&1 || echo "no $tool: the windows that need it are left out; apt-get install $tool"
done
bench=$programs/bowline-bench
left=$((MINUTES_MAX * 60 + begun - $(date +%s)))
[ "$left" -gt 0 ] || { echo "fetching the peers took all of $MINUTES_MAX minutes; run it again"; exit 1; }
# shellcheck disable=SC2086 # One word per flag.
"$bench" run all $peers --time-max "$left" "$@"
status=$?
case " $* " in *" --plan "*) exit $status ;; esac
"$bench" report bench-results || exit 1
"$bench" capacity bench-results
exit $status

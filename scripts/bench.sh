#!/bin/sh
# The whole suite in about 75 minutes on two processors: every scenario on both modes, the bare relays and the peers that can
# be had, then the report. Flags are passed on to `bowline-bench run`: --resume goes on after it was cut off, --rounds 7
# --duration 10 takes three times as long and spreads less. Use a machine with nothing else to do.
# Results: bench-results/report.md, bench-results/pictures/, and the raw ones in bench-results/results.jsonl.
# BOWLINE_PEERS names other peers than all that can be fetched, e.g. "nginx haproxy mosn=/path/to/mosn".
set -u
cd "$(dirname "$0")/.."
cargo build --release --package bowline-gateway --package bowline-bench || exit 1
names=${BOWLINE_PEERS:-nginx haproxy h2o envoy traefik sozu mosn}
peers=
for name in $names; do
    case $name in
    *=* | mosn) ;;
    *) scripts/peers.sh "$name" ;;
    esac
    peers="$peers --peer $name"
done
for tool in strace valgrind; do
    command -v "$tool" >/dev/null 2>&1 || echo "no $tool: the windows that need it are left out; apt-get install $tool"
done
bench=target/release/bowline-bench
# shellcheck disable=SC2086 # One word per flag.
"$bench" run all $peers "$@"
status=$?
"$bench" report bench-results || exit 1
"$bench" capacity bench-results
exit $status

#!/bin/sh
# The whole suite: every scenario on both modes, the bare relays and the peers that can be had,
# then the report. Takes hours on a quiet machine. Flags are passed on to `bowline-bench run`, e.g. --rounds 7.
# Results: bench-results/report.md, bench-results/pictures/, and the raw ones in bench-results/results.jsonl.
set -u
cd "$(dirname "$0")/.."
cargo build --release --package bowline-gateway --package bowline-bench || exit 1
scripts/peers.sh nginx haproxy envoy traefik
bench=target/release/bowline-bench
"$bench" run all --peer nginx --peer haproxy --peer envoy --peer traefik "$@"
status=$?
"$bench" report bench-results || exit 1
"$bench" capacity bench-results
exit $status

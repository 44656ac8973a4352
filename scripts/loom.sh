#!/usr/bin/env bash
# Loom models of the ownership rules, bounded so that they end in seconds; LOOM_MAX_PREEMPTIONS=4 goes deeper. The same
# models must fail when O3's order is reversed: a model that notices nothing proves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}
# A target folder of its own, since other flags would rebuild everything.
export CARGO_TARGET_DIR=target/loom

models() {
    RUSTFLAGS="--cfg loom $1" cargo test -p bowline-engine --lib --quiet -- "models::$2"
}

models "" ""
reversed=$(models "--cfg release_before_arm" ownership::arming_never 2>&1) && {
    echo "loom: arming after release was not noticed" >&2
    exit 1
}
grep -q "panicked at engine/src/models" <<<"$reversed" || {
    echo "$reversed" >&2
    exit 1
}
echo "loom: all models hold, and reversing the order of arming and release is noticed"

#!/usr/bin/env bash
# What takes longer than CI has: sanitizers, deep models, fuzzing, many seeds, the full matrix of end-to-end cases.
# scripts/deep.sh runs all parts; scripts/deep.sh NAME... runs those. A part that cannot run here says so and is skipped;
# the last line counts. FUZZ_SECONDS bounds each fuzz target, FUZZ_TARGETS names some of them, SIM_SEEDS the simulation.
set -uo pipefail
cd "$(dirname "$0")/.."
host=x86_64-unknown-linux-gnu
nightly="cargo +nightly"
# The unit tests of the code that may be unsafe.
fenced=(buf:: slot:: sys::)
# Sanitizers and valgrind bring an allocator of their own, which they check the use of.
foreign=--no-default-features

parts=(asan valgrind tsan miri loom fuzz seeds matrix)

skip() {
    echo "SKIP $part: $*"
    return 3
}

sanitizer() {
    $nightly --version >/dev/null 2>&1 || skip "needs a nightly toolchain" || return
    CARGO_TARGET_DIR=target/$part RUSTFLAGS="-Zsanitizer=$1" $nightly test -p bowline-engine --lib --quiet $foreign \
        --target $host "${@:2}" -- "${fenced[@]}"
}

asan() {
    sanitizer address
}

# The standard library must be built with it too, or its own synchronisation is invisible.
tsan() {
    [ -d "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src" ] || skip "needs rust-src (rustup component add --toolchain nightly rust-src)" || return
    sanitizer thread -Zbuild-std
}

# The standard library keeps a handle of the main thread that valgrind calls possibly lost.
valgrind() {
    type -P valgrind >/dev/null || skip "valgrind is not installed" || return
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --fair-sched=yes" \
        cargo test -p bowline-engine --lib --quiet $foreign -- "${fenced[@]}"
}

# Miri knows no epoll and no sockets, so not sys.
miri() {
    $nightly miri --version >/dev/null 2>&1 || skip "miri is not installed (rustup component add --toolchain nightly miri)" || return
    CARGO_TARGET_DIR=target/miri MIRIFLAGS="-Zmiri-disable-isolation" \
        $nightly miri test -p bowline-engine --lib --quiet $foreign -- buf:: slot::
}

loom() {
    LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-4} scripts/loom.sh
}

fuzz() {
    $nightly --version >/dev/null 2>&1 || skip "needs a nightly toolchain" || return
    local tool=$PWD/target/tools/bin/cargo-fuzz
    [ -x "$tool" ] || cargo install --quiet cargo-fuzz --root target/tools || skip "cargo-fuzz cannot be installed" || return
    (cd protocols/fuzz && cargo run --quiet --example seeds) || return
    local target targets=${FUZZ_TARGETS:-$(basename -s .rs protocols/fuzz/fuzz_targets/*.rs)}
    for target in $targets; do
        (cd protocols && RUSTUP_TOOLCHAIN=nightly "$tool" run "$target" -- \
            -max_total_time="${FUZZ_SECONDS:-300}" -timeout=10 -rss_limit_mb=2048 -verbosity=0) || return
    done
}

seeds() {
    [ -f tests/tests/sim.rs ] || [ -d tests/tests/sim ] || skip "there is no simulation in this tree" || return
    SIM_SEEDS=${SIM_SEEDS:-10000} cargo test -p bowline-tests --test sim
}

matrix() {
    BOWLINE_MATRIX=full BOWLINE_DEEP=1 cargo test -p bowline-tests
}

[ $# -gt 0 ] || set -- "${parts[@]}"
failed=() skipped=()
for part; do
    [[ " ${parts[*]} " == *" $part "* ]] || { echo "no part $part; there are: ${parts[*]}" >&2; exit 2; }
    echo "== $part"
    "$part"
    case $? in
        0) ;;
        3) skipped+=("$part") ;;
        *) failed+=("$part") ;;
    esac
done
echo "deep: failed: ${failed[*]:-none}; skipped: ${skipped[*]:-none}"
[ ${#failed[@]} -eq 0 ]

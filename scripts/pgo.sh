#!/bin/sh
# Builds bowline and bowline-bench with profile-guided optimisation, into target/optimized: an instrumented build, a minute of
# load of each kind (scripts/pgo.toml), and a build that lays out the code by what the load took. Same source, same behaviour;
# docs/performance.md says what it saves. Needs the compiler's own llvm-profdata (`rustup component add llvm-tools`; fetched
# if rustup is there), since profiles are of one LLVM version. 5 to 10 minutes on two processors.
# Does nothing when no source is newer than what it built last, with this compiler. LLVM_PROFDATA names another llvm-profdata of the compiler's
# version. Flags of RUSTFLAGS are not used.
set -eu
cd "$(dirname "$0")/.."
# Folders count too, or a source that was removed would not. The stamp is as old as the beginning of the build.
stamp=target/optimized/built-with
if rustc -vV | cmp -s - "$stamp"; then
    newer=$(find Cargo.toml Cargo.lock engine protocols gateway bench scripts/pgo.sh scripts/pgo.toml \
        \( -type d -o -name '*.rs' -o -name '*.toml' -o -name Cargo.lock -o -name pgo.sh \) -newer "$stamp" -print -quit)
    [ -n "$newer" ] || { echo "pgo: target/optimized is of these sources"; exit 0; }
fi
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=${LLVM_PROFDATA:-$(rustc --print target-libdir)/../bin/llvm-profdata}
[ -x "$profdata" ] || rustup component add llvm-tools || true
if ! [ -x "$profdata" ]; then
    echo "no llvm-profdata of this compiler's version at $profdata: rustup component add llvm-tools, or say where with LLVM_PROFDATA" >&2
    exit 1
fi
folder=$PWD/target/pgo
rm -rf "$folder/profiles" "$folder/training"
mkdir -p "$folder/profiles" target/optimized
rm -f "$stamp"
rustc -vV >"$folder/began"

# A target that is named keeps the flags from build scripts and macros, which would leave profiles of their own.
build() {
    echo "pgo: $1"
    CARGO_ENCODED_RUSTFLAGS=$2 CARGO_TARGET_DIR=$folder/$3 cargo build --release --quiet --target "$host" \
        --package bowline-gateway --package bowline-bench
}

build "the instrumented programs" "-Cprofile-generate=$folder/profiles" instrumented
echo "pgo: a minute of load"
# A file for each process: one that is killed while it writes spoils no other's.
LLVM_PROFILE_FILE=$folder/profiles/%m-%p.profraw "$folder/instrumented/$host/release/bowline-bench" run scripts/pgo.toml \
    --rounds 1 --attempts 1 --warmup 1 --out "$folder/training" >"$folder/training.log" 2>&1 ||
    { tail -n 20 "$folder/training.log" >&2; exit 1; }
"$profdata" merge --failure-mode=all --output "$folder/merged.profdata" "$folder"/profiles/*.profraw
rm -rf "$folder/profiles"
build "the optimised programs" "-Cprofile-use=$folder/merged.profdata" optimized
cp "$folder/optimized/$host/release/bowline" "$folder/optimized/$host/release/bowline-bench" target/optimized/
mv "$folder/began" "$stamp"
echo "pgo: target/optimized/bowline and target/optimized/bowline-bench"

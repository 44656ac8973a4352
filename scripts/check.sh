#!/usr/bin/env bash
# Static checks: format, lints, documentation. Run before every commit.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
# 3 means that the tool cannot be had here; it has said so, and in CI that is a failure by itself.
scripts/cargo-deny.sh || [ $? -eq 3 ]

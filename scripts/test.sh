#!/usr/bin/env bash
# The one command that passes all tests: static checks, then every test of the workspace, then the loom models.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/check.sh
cargo test --workspace
scripts/loom.sh

#!/usr/bin/env bash
# The one command that passes all tests: static checks, then every test of the workspace, then the loom models.
set -euo pipefail
cd "$(dirname "$0")/.."
# The allocator is a C library that cargo builds.
command -v make >/dev/null || { apt-get update -qq && apt-get install -y -qq make; } >/dev/null 2>&1 || true
scripts/check.sh
# Clients of the end-to-end tests, and a proxy in front of them; where they cannot be had, the tests say so.
command -v curl >/dev/null || { apt-get update -qq && apt-get install -y -qq curl; } >/dev/null 2>&1 || true
scripts/peers.sh wrk haproxy || true
cargo test --workspace
scripts/loom.sh

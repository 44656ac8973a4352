#!/bin/sh
# Prepares the Python and Node peers of WebSocket for the end-to-end tests. Quick when nothing is to be done.
# Exit codes: 0 ready, 1 something failed, 3 not possible here (one line "SKIP websocket: ..." says why).
# Afterwards: target/websocket-peers/python/bin/python tests/interop/websocket/peer.py server
#             NODE_PATH=target/websocket-peers/node_modules node tests/interop/websocket/peer.js server
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
peers=$root/target/websocket-peers
websockets=17.4
ws=8.23.0

skip() {
    echo "SKIP websocket: $*"
    exit 3
}

ready=$peers/ready-$websockets-$ws
[ ! -f "$ready" ] || exit 0
command -v python3 >/dev/null 2>&1 || skip "needs python3"
command -v node >/dev/null 2>&1 || skip "needs node"
command -v npm >/dev/null 2>&1 || skip "needs npm"
mkdir -p "$peers"
python3 -m venv "$peers/python" >/dev/null 2>&1 || skip "python3 has no venv"
"$peers/python/bin/pip" install -q --disable-pip-version-check "websockets==$websockets" >/dev/null 2>&1 \
    || skip "websockets $websockets cannot be had from the package index"
npm install --silent --no-audit --no-fund --prefix "$peers" "ws@$ws" >/dev/null 2>&1 \
    || skip "ws $ws cannot be had from the npm registry"
# Written last, so an interrupted setup is done again.
touch "$ready"

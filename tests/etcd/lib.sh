# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the etcd tests share: the Go programs, a reference etcd, a kinglet etcd. Sourced from the top
# of the checkout; everything started is ended, and the directory removed, on exit.
set -u -o pipefail
kinglet=${KINGLET-$PWD/build/kinglet}
dir=$(mktemp -d) pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$dir"
}
trap cleanup EXIT

# build NAME: the program tests/etcd/NAME as $dir/NAME.
build() {
    command -v go >/dev/null || { echo "skip etcd / $1: no Go" && exit 0; }
    (cd tests/etcd && GOWORK=off nice go build -o "$dir/$1" "./$1") >"$dir/$1.log" 2>&1 && return
    cat "$dir/$1.log"
    echo "not ok etcd / $1: does not build"
    exit 1
}

# wait_healthy URL PID LOG
wait_healthy() {
    local i
    for ((i = 0; i < 1800; i++)); do
        [[ $(curl -s "$1/health") == *'"health":"true"'* ]] && return
        kill -0 "$2" 2>/dev/null || break
        read -rt 0.1 <> <(:)
    done
    echo "no server at $1:" && tail -5 "$3"
    return 1
}

# start_reference: url in $reference_url, its version in $reference_version.
start_reference() {
    local port program
    program=$(tests/etcd/reference.sh) || return 1
    port=$(python3 tests/ports.py) reference_url=http://127.0.0.1:$port
    rm -rf "$dir/reference"
    "$program" --data-dir "$dir/reference" --listen-client-urls "$reference_url" --unsafe-no-fsync \
        --advertise-client-urls "$reference_url" --listen-peer-urls http://127.0.0.1:0 \
        --log-level error >"$dir/reference.log" 2>&1 &
    pids+=($!)
    wait_healthy "$reference_url" $! "$dir/reference.log" || return 1
    reference_version=$(curl -s "$reference_url/version" | sed 's/.*"etcdserver":"\([^"]*\)".*/\1/')
}

# start_kinglet BACKEND: sqlite, memory, raft, or a URL as it stands; url in $url, process in $pid.
start_kinglet() {
    local datastore=$1 port
    case $1 in
    memory) datastore=memory:// ;;
    sqlite) datastore=sqlite://$dir/sqlite-$RANDOM/state.db && mkdir -p "$(dirname "${datastore#sqlite://}")" ;;
    raft) datastore=raft://$dir/raft-$RANDOM ;;
    esac
    port=$(python3 tests/ports.py) url=http://127.0.0.1:$port
    "$kinglet" etcd --listen-client-urls "$url" --datastore-endpoint "$datastore" \
        >"$dir/kinglet.log" 2>&1 &
    pid=$! && pids+=("$pid")
    wait_healthy "$url" "$pid" "$dir/kinglet.log"
}

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 1800
# T1: the etcd v3 API against the reference etcd, the same random calls on both; and 2,000 writes of
# single keys, with HashKV at many revisions; and the JSON gateway.
#
#   ETCD_BACKENDS  "sqlite memory raft"; also URLs of databases that are empty
#   ETCD_CALLS     20000 for each
#   ETCD_SEEDS     "1"
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/lib.sh
build diff
bad=0
# compare NAME BACKEND COMMAND...: on two new servers, whose URLs follow the command
compare() {
    local name=$1 backend=$2
    shift 2
    if ! start_reference || ! start_kinglet "$backend"; then
        echo "not ok $name: a server did not start" && bad=1
    elif "$@" "$reference_url" "$url"; then
        echo "ok $name (reference: etcd $reference_version)"
    else
        echo "not ok $name: differences to etcd $reference_version" && bad=1
    fi
    kill "${pids[@]}" 2>/dev/null
    wait "${pids[@]}" 2>/dev/null
    pids=()
}
calls() {
    "$dir/diff" -a "${@: -2:1}" -b "${@: -1}" "${@:1:$#-2}"
}
compare "etcd / JSON gateway" memory python3 tests/etcd/gateway.py
for backend in ${ETCD_BACKENDS-sqlite memory raft}; do
    for seed in ${ETCD_SEEDS-1}; do
        compare "etcd / T1 ${backend%%:*} seed $seed" "$backend" calls -n "${ETCD_CALLS-20000}" -seed "$seed"
        case $backend in
        *:*) ;; # a database is not empty any more
        *) compare "etcd / HashKV ${backend%%:*} seed $seed" "$backend" calls -hashes 2000 -seed "$seed" ;;
        esac
    done
done
exit $bad

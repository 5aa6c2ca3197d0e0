#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 300
# Locks and elections, by their services and by clientv3/concurrency: the same scenes on the
# reference etcd and on us. ETCD_BACKENDS: "memory raft"; also URLs of databases that are empty.
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/lib.sh
build line
bad=0
for backend in ${ETCD_BACKENDS-memory raft}; do
    if ! start_reference || ! start_kinglet "$backend"; then
        echo "not ok etcd / line ${backend%%:*}: a server did not start" && bad=1
        continue
    fi
    "$dir/line" -a "$reference_url" -b "$url" 2>"$dir/line.log" |
        sed "s#^\(not ok\|ok\) #\1 etcd / line ${backend%%:*} #"
    [ "${PIPESTATUS[0]}" = 0 ] || bad=1
    kill "${pids[@]}" 2>/dev/null
    wait "${pids[@]}" 2>/dev/null
    pids=()
done
exit $bad

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 900
# T9, T10, T11, T12, T14: watches under load.
#
#   ETCD_BACKENDS  "sqlite"; also memory, raft, or URLs of databases that are empty
#   ETCD_WATCH     arguments of tests/etcd/watchload: -seconds 20 -watchers 1000 ...
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/lib.sh
build watchload
bad=0
for backend in ${ETCD_BACKENDS-sqlite}; do
    if ! start_kinglet "$backend"; then
        echo "not ok etcd / watches ${backend%%:*}: the server did not start" && bad=1
        continue
    fi
    # shellcheck disable=SC2086 # words
    "$dir/watchload" -endpoints "$url" -pid "$pid" ${ETCD_WATCH--seconds 20} |
        sed -E "s!^(ok|not ok) !\\1 etcd / ${backend%%:*} !"
    [ "${PIPESTATUS[0]}" = 0 ] || bad=1
    kill "$pid" && wait "$pid" || { echo "not ok etcd / ${backend%%:*} stop: exit code $?" && bad=1; }
done
exit $bad

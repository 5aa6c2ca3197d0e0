#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 1500
# T2 and T8: clients write and read while servers are killed, paused and started again and their
# database restarts; tests/etcd/lin checks the whole history.
#
#   LIN_BACKENDS  "sqlite postgres mysql raft"; also etcd (--long): servers of ours on a remote etcd
#   LIN_ROUNDS    5, of LIN_SECONDS 10 each; with more than two, databases are killed as well
#   LIN_BUILD     build-test: where tests/store/dbserver is
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/lib.sh
build lin
rounds=${LIN_ROUNDS-5} seconds=${LIN_SECONDS-10} bad=0
dbserver=$PWD/${LIN_BUILD-build-test}/tests/store/dbserver

# run NAME URL LIN_FLAG...
run() {
    local name=$1 datastore=$2
    shift 2
    if "$dir/lin" -rounds "$rounds" -seconds "$seconds" "$@" -- "$kinglet" etcd \
        --listen-client-urls "http://127.0.0.1:{port}" --datastore-endpoint "$datastore" \
        >"$dir/lin.log" 2>&1; then
        echo "ok linear / $name"
    else
        echo "not ok linear / $name: $(tail -1 "$dir/lin.log" | cut -c1-300)" && bad=1
    fi
    tail -20 "$dir/lin.log" | sed 's/^/    /'
}

# start_database KIND [OPTION...]: a database server whose URL is in $database; lines to $dir/db.in.
start_database() {
    rm -f "$dir/db.in" "$dir/db.out"
    mkfifo "$dir/db.in"
    "$dbserver" "$@" <"$dir/db.in" >"$dir/db.out" 2>"$dir/db.log" &
    pids+=($!)
    exec 9>"$dir/db.in"
    for ((i = 0; i < 2400; i++)); do
        database=$(sed -n 's/^\([a-z]*:.*\) [0-9]*$/\1/p' "$dir/db.out")
        [ -n "$database" ] && return
        kill -0 "${pids[-1]}" 2>/dev/null || break
        read -rt 0.1 <> <(:)
    done
    echo "not ok linear / $1: no database: $(tail -1 "$dir/db.log")" && bad=1
    return 1
}

# Three members of one raft cluster, each with a directory of its own.
run_raft() {
    local name="raft, 3 servers, kill -9 and SIGSTOP"
    if "$dir/lin" -rounds "$rounds" -seconds "$seconds" -servers 3 -together -fault kill,stop -pause 3s \
        -- "$kinglet" etcd --name "m{n}" --data-dir "$dir/raft3-{n}" \
        --listen-client-urls "http://127.0.0.1:{port}" --listen-peer-urls "http://127.0.0.1:{peer}" \
        --initial-cluster "m0=http://127.0.0.1:{peer0},m1=http://127.0.0.1:{peer1},m2=http://127.0.0.1:{peer2}" \
        >"$dir/lin.log" 2>&1; then
        echo "ok linear / $name"
    else
        echo "not ok linear / $name: $(tail -1 "$dir/lin.log" | cut -c1-300)" && bad=1
    fi
    tail -20 "$dir/lin.log" | sed 's/^/    /'
}

for backend in ${LIN_BACKENDS-sqlite postgres mysql raft}; do
    case $backend in
    sqlite) run "sqlite, kill -9" "sqlite://$dir/state.db" ;;
    raft)
        run "raft, one server, kill -9" "raft://$dir/raft" -rounds 1
        run_raft
        ;;
    etcd) # two servers of ours on a remote etcd; the remote is killed as well
        start_reference || { echo "skip linear / etcd: no reference" && continue; }
        run "remote etcd, 2 servers, kill -9 and SIGSTOP" "etcd://${reference_url#http://}" -servers 2 -gapless=false \
            -fault kill,stop -pause 3s -rounds 2
        kill -9 "${pids[-1]}"
        start_reference || { bad=1 && continue; } # an empty one
        echo "${pids[-1]}" >"$dir/reference.pid"
        cat >"$dir/again" <<EOF
kill -9 \$(cat "$dir/reference.pid")
"$(tests/etcd/reference.sh)" --data-dir "$dir/reference" --listen-client-urls "$reference_url" \
    --unsafe-no-fsync --advertise-client-urls "$reference_url" --log-level error \
    --listen-peer-urls http://127.0.0.1:0 >>"$dir/reference.log" 2>&1 &
echo \$! >"$dir/reference.pid"
EOF
        run "remote etcd, 2 servers, the remote is killed" "etcd://${reference_url#http://}" -servers 2 -gapless=false \
            -fault none -rounds 1 -fault-cmd "bash $dir/again"
        kill "$(cat "$dir/reference.pid")"
        ;;
    *)
        # Without its binary log MariaDB shows a transaction before it is safe from a crash: what a
        # watcher was told could go with it, and the store would go on from a jump.
        # shellcheck disable=SC2046 # an option or none
        start_database "$backend" $([ "$backend" != mysql ] || echo --log-bin) || continue
        run "$backend, 3 servers, kill -9 and SIGSTOP" "$database" -servers 3 -fault kill,stop \
            -pause 3s
        [ "$rounds" -le 2 ] || run "$backend, 3 servers, the database is killed" "${database/bench/again}" -servers 3 -fault none \
            -rounds 1 -fault-cmd "echo restart >'$dir/db.in'; sleep 2"
        exec 9>&-
        ;;
    esac
done
exit $bad

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lane: etcd
# time-limit: 600
# test_etcd_ctl.py, which runs the distribution's etcdctl (3.4), with a recent one.
cd "$(dirname "$0")/../.." || exit 1
if ! command -v go >/dev/null; then
    echo "skip test_etcd_ctl_new.sh / all: no Go to build etcdctl with"
    exit
fi
ETCDCTL=$(tests/etcd/etcdctl.sh) || { echo "not ok test_etcd_ctl_new.sh / build: etcdctl does not build" && exit 1; }
export ETCDCTL
tests/e2e/test_etcd_ctl.py | sed 's#test_etcd_ctl.py / #test_etcd_ctl_new.sh / #'
exit "${PIPESTATUS[0]}"

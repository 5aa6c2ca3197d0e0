#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a recent etcdctl, built from its Go module into .cache (once, about a minute).
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/gobuild.sh
build_go etcdctl go.etcd.io/etcd/etcdctl/v3 v3.7.3 || exit 1
echo "$built"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of the reference etcd: $ETCD_REFERENCE when it is set, else etcd 3.7 built from
# its Go module into .cache (once, some minutes), else, where no recent Go is, the distribution's
# etcd-server 3.4. Its version stands in every report.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
. tests/etcd/gobuild.sh
if [ -n "${ETCD_REFERENCE-}" ]; then
    echo "$ETCD_REFERENCE"
elif command -v go >/dev/null && build_go etcd go.etcd.io/etcd/server/v3 v3.7.3; then
    echo "$built"
elif command -v etcd >/dev/null; then
    command -v etcd
else
    echo "no etcd: neither Go to build it nor the package etcd-server" >&2
    exit 1
fi

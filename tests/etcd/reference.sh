#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of the reference etcd: $ETCD_REFERENCE when it is set, else etcd 3.7 built from
# its Go module into .cache (once, some minutes), else, where no recent Go is, the distribution's
# etcd-server 3.4. Its version stands in every report.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
version=v3.7.3 cache=$PWD/.cache/etcd
if [ -n "${ETCD_REFERENCE-}" ]; then
    echo "$ETCD_REFERENCE"
    exit
fi
if [ ! -x "$cache/etcd-$version" ] && command -v go >/dev/null; then
    echo "building etcd $version" >&2
    mkdir -p "$cache/src"
    (
        cd "$cache/src"
        export GOFLAGS=-mod=mod GOWORK=off
        printf 'module reference\n\ngo 1.24\n' >go.mod
        go get "go.etcd.io/etcd/server/v3@$version"
        nice go build -trimpath -ldflags '-s -w' -o "$cache/etcd-$version.new" go.etcd.io/etcd/server/v3
    ) >"$cache/build.log" 2>&1 &&
        mv "$cache/etcd-$version.new" "$cache/etcd-$version" || tail -5 "$cache/build.log" >&2
fi
if [ -x "$cache/etcd-$version" ]; then
    echo "$cache/etcd-$version"
elif command -v etcd >/dev/null; then
    command -v etcd
else
    echo "no etcd: neither Go to build it nor the package etcd-server" >&2
    exit 1
fi

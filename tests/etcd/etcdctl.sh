#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a recent etcdctl, built from its Go module into .cache (once, about a minute).
set -eu -o pipefail
cd "$(dirname "$0")/../.."
version=v3.7.3 cache=$PWD/.cache/etcd
if [ ! -x "$cache/etcdctl-$version" ]; then
    echo "building etcdctl $version" >&2
    mkdir -p "$cache/ctl"
    (
        cd "$cache/ctl"
        export GOFLAGS=-mod=mod GOWORK=off
        printf 'module ctl\n\ngo 1.24\n' >go.mod
        go get "go.etcd.io/etcd/etcdctl/v3@$version"
        nice go build -trimpath -ldflags '-s -w' -o "$cache/etcdctl-$version.new" go.etcd.io/etcd/etcdctl/v3
    ) >"$cache/etcdctl.log" 2>&1 &&
        mv "$cache/etcdctl-$version.new" "$cache/etcdctl-$version" || { tail -5 "$cache/etcdctl.log" >&2 && exit 1; }
fi
echo "$cache/etcdctl-$version"

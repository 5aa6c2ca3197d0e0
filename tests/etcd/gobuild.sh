# SPDX-License-Identifier: Apache-2.0
# Sourced. build_go NAME PACKAGE VERSION: PACKAGE of a Go module as .cache/etcd/NAME-VERSION, built
# once; $built is its path. On failure the end of the log goes to stderr.
build_go() {
    local name=$1 package=$2 version=$3 cache=$PWD/.cache/etcd
    built=$cache/$name-$version
    [ ! -x "$built" ] || return 0
    echo "building $name $version" >&2
    mkdir -p "$cache/src-$name"
    # A chain, as `set -e` means nothing to whom an `||` follows.
    (
        export GOFLAGS=-mod=mod GOWORK=off
        cd "$cache/src-$name" && printf 'module reference\n\ngo 1.24\n' >go.mod &&
            go get "$package@$version" &&
            nice go build -trimpath -ldflags '-s -w' -o "$built.new" "$package"
    ) >"$cache/$name.log" 2>&1 && mv "$built.new" "$built" && return
    tail -5 "$cache/$name.log" >&2
    return 1
}

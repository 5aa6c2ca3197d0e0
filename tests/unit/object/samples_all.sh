#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs test_samples on every sample that the Go module k8s.io/api carries; skipped without Go.
#   samples_all.sh TEST_SAMPLES
set -u
command -v go >/dev/null || exit 77
dir=$(cd / && go mod download -json k8s.io/api@v0.36.3 2>/dev/null | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
[ -n "$dir" ] || exit 77
exec "$1" "$dir/testdata/HEAD"

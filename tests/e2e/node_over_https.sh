#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole node once more with controllers, scheduler and kubelet speaking HTTPS like remote ones,
# and an API server on loopback only, which the kubelet's own server is not.
# time-limit: 600
cd "$(dirname "$0")" || exit 1
KINGLET_CLIENT_TRANSPORT=https NODE_FLAGS="--bind-address=127.0.0.1" exec ./test_node.py

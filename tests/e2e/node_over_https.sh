#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole node once more with controllers, scheduler and kubelet speaking HTTPS like remote ones.
# time-limit: 600
cd "$(dirname "$0")" || exit 1
KINGLET_CLIENT_TRANSPORT=https exec ./test_node.py

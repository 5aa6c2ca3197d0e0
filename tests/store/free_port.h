// SPDX-License-Identifier: Apache-2.0
#pragma once

// A TCP port of 127.0.0.1 for a server that a test starts: below the ephemeral ports, and given to
// no other test for the next 20,000 calls (tests/ports.py says why).
int ts_free_port(void);

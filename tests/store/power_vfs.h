// SPDX-License-Identifier: Apache-2.0
// An SQLite VFS over a disk that loses power: what was written and not synced is kept apart, and
// when the cut comes each 512-byte sector of it arrives, arrives torn or never arrives.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Registers it as SQLite's default; the plain one stays under the returned name.
const char *power_vfs_install(void);
// Files are what they are on the real disk, which has all been synced. The cut comes at the
// `cut`th write, sync, truncation or deletion from now on (0: never; -n: the nth after the sync
// that fails); the first sync from the `fail`th operation on fails (0: none) as Linux has it: what
// it should have written is from then on clean in the page cache, whether it reached the disk or
// not.
void power_on(uint64_t seed, long cut, long fail);
bool power_is_off(void);
bool power_sync_failed(void);
// After the cut, when nobody has a file open: makes the real files what the disk has.
void power_settle(void);

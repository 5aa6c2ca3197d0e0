// SPDX-License-Identifier: Apache-2.0
// For arenas that held what must not stay in memory that is given back.
#pragma once
#include "base/arena.h"

// Overwrites all that the arena has; what was allocated from it is not to be looked at any more.
void kl_arena_wipe(struct kl_arena *a);

// SPDX-License-Identifier: Apache-2.0
// Memory that was freed goes back to the system, which malloc does by itself only at the end of its
// heap: after a burst the rest would stay resident for ever.
#pragma once
#include "base/loop.h"
#include "store/store.h"

void kl_trim_init(void); // settings of malloc; before the first thread
// Looks now and then, until the loop ends, on its thread: every 10 s, and four times a second while
// the process is busy. What the store's versions hold tells when much was freed; the store may end
// before the loop.
void kl_trim_start(struct kl_loop *l, struct kl_store *s);

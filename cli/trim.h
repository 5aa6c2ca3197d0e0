// SPDX-License-Identifier: Apache-2.0
// Memory that was freed goes back to the system, which malloc does by itself only at the end of its
// heap: after a burst the rest would stay resident for ever.
#pragma once
#include "base/loop.h"

void kl_trim_init(void);               // settings of malloc; before the first thread
void kl_trim_start(struct kl_loop *l); // looks now and then, until the loop ends; its own thread

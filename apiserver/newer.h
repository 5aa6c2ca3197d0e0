// SPDX-License-Identifier: Apache-2.0
// Reads at a resourceVersion that is still to come: they wait for it as upstream's watch cache
// does, three seconds, and are then told that it is too large. On the request's loop.
#pragma once
#include "apiserver/server_int.h"

struct kl_newer {
    struct kl_req *r;
    kl_rev rev;
    void (*done)(struct kl_newer *n, int code); // 0, or negative with r->fail set

    struct kl_reader_wait wait;
    uv_timer_t *timer;
};

// r, rev and done are set. 0: the revision is there. 1: `done` comes later, exactly once. Negative:
// r->fail is set. Where the revision is there this is one comparison.
int kl_newer_wait(struct kl_newer *n);

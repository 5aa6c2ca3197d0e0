// SPDX-License-Identifier: Apache-2.0
#include "cli/trim.h"
#include <malloc.h>

enum {
    PERIOD_MS = 10 * 1000,
    // Worth a walk through the heap, during which others wait for malloc: some 1 ms for 10 MB.
    FREE_BYTES_MIN = 16 << 20,
};

// What a walk could not give back (less than a page between two that are used) is not tried again:
// only what was freed since then counts.
struct trim {
    uv_timer_t timer;
    size_t left;
};

static void look(uv_timer_t *t)
{
    struct trim *x = t->data;
    struct mallinfo2 m = mallinfo2();
    if (m.fordblks < x->left)
        x->left = m.fordblks;
    if (m.fordblks - x->left < FREE_BYTES_MIN)
        return;
    malloc_trim(0);
    x->left = mallinfo2().fordblks;
}

void kl_trim_init(void)
{
    mallopt(M_ARENA_MAX, 2); // an arena for each thread would be memory that lies idle
}

void kl_trim_start(struct kl_loop *l)
{
    static struct trim x; // one in a process, as malloc is
    uv_timer_init(kl_loop_uv(l), &x.timer);
    x.timer.data = &x;
    uv_unref((uv_handle_t *)&x.timer);
    uv_timer_start(&x.timer, look, PERIOD_MS, PERIOD_MS);
}

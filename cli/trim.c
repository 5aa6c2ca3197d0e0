// SPDX-License-Identifier: Apache-2.0
#include "cli/trim.h"
#include <malloc.h>
#include <time.h>

enum {
    REST_MS = 10 * 1000, // between two looks at a process that has nothing to do
    BUSY_MS = 250,
    BUSY_PERCENT = 2, // of a core
    CALM_LOOKS = 8,   // without that much: it has become calm
    // Worth a walk through the heap, during which others wait for malloc: some 1 ms for 10 MB.
    FREE_BYTES_MIN = 16 << 20,
    // So much less is held by versions than was since the last time: most of it is free now.
    DROP_BYTES_MIN = 16 << 20,
};

// What a walk could not give back (less than a page between two that are used) is not tried again:
// only what was freed since then counts.
struct trim {
    uv_timer_t timer;
    size_t left;
    struct kl_home *home;
    long long most;                   // that versions held since the last time
    int64_t cpu_ns, look_ms, walk_ms; // when it was looked and walked last
    int calm;
};

static long long held(const struct trim *x)
{
    return x->home ? atomic_load_explicit(&x->home->values, memory_order_relaxed) +
                         atomic_load_explicit(&x->home->attached, memory_order_relaxed)
                   : 0;
}

static int64_t now_ms(const struct trim *x)
{
    return (int64_t)uv_now(x->timer.loop);
}

static void give_back(struct trim *x)
{
    malloc_trim(0);
    x->left = mallinfo2().fordblks;
    x->most = held(x);
    x->walk_ms = now_ms(x);
}

static void walk(struct trim *x)
{
    struct mallinfo2 m = mallinfo2();
    x->walk_ms = now_ms(x);
    if (m.fordblks < x->left)
        x->left = m.fordblks;
    if (m.fordblks - x->left >= FREE_BYTES_MIN)
        give_back(x);
}

static bool is_busy(struct trim *x)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
        return false;
    int64_t ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec, used_ns = ns - x->cpu_ns;
    int64_t passed_ms = now_ms(x) - x->look_ms;
    x->cpu_ns = ns;
    x->look_ms += passed_ms;
    return used_ns > passed_ms * 1000000 * BUSY_PERCENT / 100;
}

static void look(uv_timer_t *t)
{
    struct trim *x = t->data;
    long long holds = held(x);
    bool was_busy = x->calm < CALM_LOOKS;
    x->most = holds > x->most ? holds : x->most;
    x->calm = is_busy(x) ? 0 : was_busy ? x->calm + 1 : CALM_LOOKS;
    bool busy = x->calm < CALM_LOOKS, turned = busy != was_busy;
    if (x->most - holds >= DROP_BYTES_MIN)
        give_back(x);
    else if (turned || now_ms(x) - x->walk_ms >= REST_MS)
        walk(x);
    if (turned)
        uv_timer_start(t, look, busy ? BUSY_MS : REST_MS, busy ? BUSY_MS : REST_MS);
}

void kl_trim_init(void)
{
    mallopt(M_ARENA_MAX, 2); // an arena for each thread would be memory that lies idle
}

void kl_trim_start(struct kl_loop *l, struct kl_store *s)
{
    static struct trim x; // one in a process, as malloc is
    uv_timer_init(kl_loop_uv(l), &x.timer);
    x.timer.data = &x;
    x.home = kl_store_home(s);
    x.calm = CALM_LOOKS;
    x.look_ms = x.walk_ms = now_ms(&x);
    is_busy(&x); // from here on
    uv_unref((uv_handle_t *)&x.timer);
    uv_timer_start(&x.timer, look, REST_MS, REST_MS);
}

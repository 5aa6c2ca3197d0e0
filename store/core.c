// SPDX-License-Identifier: Apache-2.0
// Opening, stopping, the timer, and what the core offers its back end.
#include "store/forward.h"
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { TIMER_MAX_MS = 30000, TEST_CLOCK_MS = 10 };

int64_t kl_store_mono_ms(const struct kl_store *s)
{
    return s->o.clock ? s->o.clock->mono_ms(s->o.clock->arg) : kl_mono_ms();
}

int64_t kl_store_wall_ms(const struct kl_store *s)
{
    return s->o.clock ? s->o.clock->wall_ms(s->o.clock->arg) : kl_wall_ms();
}

struct kl_loop *kl_core_loop(struct kl_store *s)
{
    return s->loop;
}

uint64_t kl_core_origin(const struct kl_store *s)
{
    return s->origin;
}

const struct kl_kv_hooks *kl_core_hooks(const struct kl_store *s)
{
    return s->o.hooks;
}

int64_t kl_core_wall_ms(const struct kl_store *s)
{
    return kl_store_wall_ms(s);
}

const struct kl_view *kl_core_view(const struct kl_store *s)
{
    return s->view;
}

const struct kl_store_options *kl_core_options(const struct kl_store *s)
{
    return &s->o;
}

void kl_store_set_error(struct kl_store *s, int code, const char *text)
{
    kl_log(KL_LOG_ERROR, "store", "batch not stored: %s", text[0] ? text : kl_err_text(code));
    atomic_store_explicit(&s->stat.last_error, code, memory_order_relaxed);
    pthread_mutex_lock(&s->text_mu);
    snprintf(s->last_error_text, sizeof(s->last_error_text), "%.255s", text);
    pthread_mutex_unlock(&s->text_mu);
}

void kl_store_count_watch(struct kl_store *s, int d)
{
    atomic_fetch_add_explicit(&s->nwatches, d, memory_order_relaxed);
    kl_store_metric(KL_SM_WATCHERS, d);
}

// ---- the timer: leases, automatic compaction, a full disk ----

static void space_checked(struct kl_tidy_req *q)
{
    struct kl_store *s = KL_CONTAINER_OF(q, struct kl_store, compaction.tidy);
    s->checking_space = false;
    s->compaction.tidying = false;
    if (s->full && q->relaxed)
        kl_commit_set_full(s, false);
    s->full_check_ms = q->more ? 0 : kl_store_mono_ms(s) + KL_FULL_CHECK_MS;
    kl_compact_run(s);
    kl_store_arm_timer(s);
    kl_store_maybe_stop(s);
}

static void check_space(struct kl_store *s)
{
    if (!s->full || !s->ops->tidy || s->compaction.tidying || s->compaction.stepping ||
        s->stopping || kl_store_mono_ms(s) < s->full_check_ms)
        return;
    s->checking_space = s->compaction.tidying = true;
    s->compaction.tidy = (struct kl_tidy_req){.done = space_checked, .full = true};
    s->ops->tidy(s->backend, &s->compaction.tidy);
}

static void run_timer(uv_timer_t *t)
{
    struct kl_store *s = t->data;
    if (s->stopping)
        return;
    kl_lease_expire(s);
    kl_compact_tick(s);
    kl_forward_tick(s);
    check_space(s);
    kl_evict_run(s);
    kl_store_arm_timer(s);
}

void kl_store_arm_timer(struct kl_store *s)
{
    if (s->stopping)
        return;
    int64_t now = kl_store_mono_ms(s), due = kl_lease_next_ms(s), c = kl_compact_next_ms(s);
    int64_t f = kl_forward_next_ms(s);
    due = c < due ? c : due;
    due = f < due ? f : due;
    if (s->full && !s->compaction.tidying && !s->compaction.stepping && s->full_check_ms < due)
        due = s->full_check_ms;
    // libuv's clock stands still while the machine sleeps; ours does not.
    int64_t wait = due <= now ? 1 : due - now > TIMER_MAX_MS ? TIMER_MAX_MS : due - now;
    if (s->o.clock && wait > TEST_CLOCK_MS)
        wait = TEST_CLOCK_MS;
    if (due == INT64_MAX) {
        uv_timer_stop(&s->timer);
        return;
    }
    uv_update_time(kl_loop_uv(s->loop));
    uv_timer_start(&s->timer, run_timer, (uint64_t)wait, 0);
}

// ---- reads of the back end, one at a time ----

static void next_read(struct kl_store *s)
{
    if (s->starting_reads) // one that is refused ends while it starts
        return;
    s->starting_reads = true;
    for (struct kl_read *rd; !s->reading && (rd = s->reads);) {
        s->reads = rd->next;
        if (!s->reads)
            s->reads_end = &s->reads;
        s->reading = true;
        rd->start(rd, s);
    }
    s->starting_reads = false;
}

static void run_read(struct kl_task *t)
{
    struct kl_read *rd = KL_CONTAINER_OF(t, struct kl_read, task);
    struct kl_store *s = rd->store;
    rd->next = NULL;
    *s->reads_end = rd;
    s->reads_end = &rd->next;
    next_read(s);
}

void kl_store_read(struct kl_store *s, struct kl_read *rd)
{
    rd->store = s;
    rd->task.run = run_read;
    kl_loop_post(s->loop, &rd->task);
}

void kl_store_read_done(struct kl_store *s)
{
    s->reading = false;
    next_read(s);
    kl_store_maybe_stop(s);
}

// ---- opening ----

// A scheme that ends with a plus is put before another URL.
static bool is_scheme(const char *scheme, const char *url, struct kl_str *ret_rest)
{
    size_t n = strlen(scheme);
    bool wraps = scheme[n - 1] == '+';
    if (strncmp(url, scheme, n) != 0 || (!wraps && strncmp(url + n, "://", 3) != 0))
        return false;
    *ret_rest = kl_str(url + n + (wraps ? 0 : 3));
    return true;
}

// All schemes there are, for the error that names an unknown one.
static int unknown_scheme(const struct kl_store_options *o, const char *url, struct kl_error *err)
{
    char list[512];
    size_t n = 0;
    const struct kl_backend_ops *const *tables[] = {kl_backends, o->extra};
    for (size_t i = 0; i < KL_COUNT(tables); i++) {
        for (const struct kl_backend_ops *const *p = tables[i]; p && *p; p++) {
            const char *scheme = (*p)->scheme;
            int k = snprintf(list + n, sizeof(list) - n, "%s%s%s", n ? ", " : "", scheme,
                             scheme[strlen(scheme) - 1] == '+' ? "URL" : "://");
            n += k > 0 && n + (size_t)k < sizeof(list) ? (size_t)k : 0;
        }
    }
    const char *sep = strstr(url, "://");
    // Not the whole URL: it may hold a password.
    if (!sep)
        return kl_error_set(err, KL_EUNSUPPORTED,
                            "the datastore's URL does not begin with the kind of datastore; there "
                            "are %.*s",
                            (int)n, list);
    return kl_error_set(err, KL_EUNSUPPORTED,
                        "datastore %.*s: no such kind of datastore; there are %.*s",
                        (int)(sep - url) + 3, url, (int)n, list);
}

int kl_store_find_backend(const struct kl_store_options *o, const char *url,
                          const struct kl_backend_ops **ret_ops, struct kl_str *ret_rest,
                          struct kl_error *err)
{
    const struct kl_backend_ops *const *tables[] = {o->extra, kl_backends};
    for (size_t i = 0; i < KL_COUNT(tables); i++) {
        for (const struct kl_backend_ops *const *p = tables[i]; p && *p; p++) {
            if (is_scheme((*p)->scheme, url, ret_rest)) {
                *ret_ops = *p;
                return 0;
            }
        }
    }
    return unknown_scheme(o, url, err);
}

static void set_defaults(struct kl_store_options *o)
{
    if (!o->ring_bytes)
        o->ring_bytes = 16 << 20;
    if (!o->compact_age_ms)
        o->compact_age_ms = 5 * 60 * 1000;
    if (!o->compact_keep_revs)
        o->compact_keep_revs = 1000;
    if (!o->compact_every_ms)
        o->compact_every_ms = 60 * 1000;
    if (!o->max_queue)
        o->max_queue = 65536;
}

static void free_store(struct kl_store *s)
{
    kl_loop_unref(s->loop); // requests that came while it stopped are refused here
    kl_grave_fini(s);
    kl_forward_free(s);
    kl_leases_fini(&s->leases);
    kl_node_unref(s->spec.root);
    kl_view_unref(s->view);
    for (int i = 0; i < KL_HOLD_MAX; i++)
        kl_view_unref(s->held[i].view);
    kl_ring_room_fini(&s->room);
    kl_evict_fini(s);
    pthread_mutex_destroy(&s->readers_mu);
    pthread_mutex_destroy(&s->held_mu);
    pthread_mutex_destroy(&s->text_mu);
    free(s);
}

static void run_start(struct kl_task *t)
{
    struct kl_store *s = KL_CONTAINER_OF(t, struct kl_store, pump);
    uv_timer_init(kl_loop_uv(s->loop), &s->timer);
    s->timer.data = s;
    kl_turn_start(s);
    kl_grave_start(s);
    kl_forward_start(s);
    if (s->ops->start)
        s->ops->start(s->backend);
    kl_store_metrics_leader(s, false);
    kl_lease_leader_changed(s);
    kl_fence_start(s);
    s->pumping = false;
    kl_compact_tick(s);
    kl_store_arm_timer(s);
    kl_commit_pump(s);
}

int kl_store_make(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                  struct kl_error *err)
{
    static const struct kl_store_options none;
    const struct kl_backend_ops *ops;
    struct kl_str rest;
    int r = kl_store_find_backend(o ? o : &none, url, &ops, &rest, err);
    if (r)
        return r;
    struct kl_store *s = calloc(1, sizeof(*s));
    if (!s)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    s->o = o ? *o : none;
    set_defaults(&s->o);
    s->ops = ops;
    pthread_mutex_init(&s->readers_mu, NULL);
    pthread_mutex_init(&s->held_mu, NULL);
    pthread_mutex_init(&s->text_mu, NULL);
    kl_queue_init(&s->queue);
    kl_queue_init(&s->head_waiting);
    kl_queue_init(&s->head_next);
    s->reads_end = &s->reads;
    s->spec.gen = ++s->gen;
    kl_ring_room_init(&s->room, s->o.ring_bytes);
    kl_store_metrics_init();
    r = kl_loop_new("kl-store", &s->loop, err);
    if (!r)
        r = kl_evict_init(s, err);
    if (!r)
        r = ops->open(s, rest, &s->backend, err);
    if (!r && ops->key_rule)
        ops->key_rule(s->backend, &s->keys);
    if (r)
        free_store(s);
    else
        *ret_s = s;
    return r;
}

void kl_store_unmake(struct kl_store *s)
{
    if (!s)
        return;
    s->ops->close(s->backend);
    free_store(s);
}

int kl_store_begin(struct kl_store *s, struct kl_error *err)
{
    int r = kl_store_load(s, err);
    if (!r)
        r = kl_forward_open(s, err);
    if (!r)
        r = kl_loop_start(s->loop, err);
    if (r) {
        kl_store_unmake(s);
        return r;
    }
    s->pump.run = run_start;
    s->pumping = true;
    kl_loop_post(s->loop, &s->pump);
    return 0;
}

int kl_store_open(const char *url, const struct kl_store_options *o, struct kl_store **ret_s,
                  struct kl_error *err)
{
    struct kl_store *s = NULL;
    int r = kl_store_make(url, o, &s, err);
    if (!r)
        r = kl_store_begin(s, err);
    if (!r)
        *ret_s = s;
    return r;
}

// ---- stopping ----

void kl_store_maybe_stop(struct kl_store *s)
{
    if (!s->stopping || s->inflight || s->slice.txn || s->reading || s->reads || s->asking_head ||
        s->compaction.stepping || s->compaction.tidying || kl_evict_is_busy(&s->evict))
        return;
    if (s->fill && (s->fill->nrows || s->fill->nleases || s->fill->compact_rev))
        return; // the pump proposes it
    kl_commit_fini(s);
    uv_timer_stop(&s->timer);
    kl_grave_stop(s);
    kl_loop_stop(s->loop);
}

static void run_stop(struct kl_task *t)
{
    struct kl_store *s = KL_CONTAINER_OF(t, struct kl_store, stop_task);
    s->stopping = true;
    kl_commit_cancel(s);
    kl_compact_cancel(s);
    kl_commit_pump(s);
}

void kl_store_stop(struct kl_store *s)
{
    if (!s)
        return;
    assert(!kl_loop_is_current(s->loop));
    atomic_store_explicit(&s->refuse, true, memory_order_release);
    kl_forward_detach(s);
    s->stop_task.run = run_stop;
    kl_loop_post(s->loop, &s->stop_task);
    kl_loop_join(s->loop);
    s->ops->close(s->backend);
    free_store(s);
}

bool kl_store_is_shared(const struct kl_store *s)
{
    return s->ops->confirm_head != NULL;
}

void kl_store_status(struct kl_store *s, struct kl_store_status *ret)
{
    struct kl_backend_sizes sizes = {0};
    s->ops->sizes(s->backend, &sizes);
#define LOAD(f) atomic_load_explicit(&s->stat.f, memory_order_relaxed)
    *ret = (struct kl_store_status){
        .backend = s->ops->scheme,
        .cluster_id = s->cluster_id,
        .member_id = s->origin,
        .rev = LOAD(rev),
        .compact_rev = LOAD(compact_rev),
        .physical_rev = LOAD(physical_rev),
        .keys = LOAD(keys),
        .leases = LOAD(leases),
        .watchers = atomic_load_explicit(&s->nwatches, memory_order_relaxed),
        .db_bytes = sizes.db_bytes,
        .db_used_bytes = sizes.db_used_bytes,
        .wal_bytes = sizes.wal_bytes,
        .ring_bytes = LOAD(ring_bytes),
        .queued = atomic_load_explicit(&s->queued, memory_order_relaxed),
        .txns = LOAD(txns),
        .batches = LOAD(batches),
        .rows = LOAD(rows),
        .longest_turn = LOAD(longest_turn),
        .disk_full = LOAD(full),
        .last_error = (int)LOAD(last_error),
        .value_bytes = atomic_load_explicit(&s->evict.home->values, memory_order_relaxed),
        .attached_bytes = atomic_load_explicit(&s->evict.home->attached, memory_order_relaxed),
    };
    if (s->evict.spill) {
        ret->file_value_bytes = kl_spill_live_bytes(s->evict.spill);
        ret->file_bytes = kl_spill_file_bytes(s->evict.spill);
    }
#undef LOAD
    pthread_mutex_lock(&s->readers_mu);
    ret->readers = s->nreaders;
    pthread_mutex_unlock(&s->readers_mu);
    pthread_mutex_lock(&s->held_mu);
    for (int i = 0; i < KL_HOLD_MAX; i++)
        ret->held_views += s->held[i].view != NULL;
    pthread_mutex_unlock(&s->held_mu);
    pthread_mutex_lock(&s->text_mu);
    memcpy(ret->last_error_text, s->last_error_text, sizeof(ret->last_error_text));
    pthread_mutex_unlock(&s->text_mu);
}

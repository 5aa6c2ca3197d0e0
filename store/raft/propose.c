// SPDX-License-Identifier: Apache-2.0
// The core's one batch on its way into the log. Its end is known when its entry is applied, or when
// another entry stands where it would: a lost leadership alone says nothing.
#include "store/raft/raft_int.h"
#include <stdlib.h>

static void clear(struct kl_raft *r)
{
    r->inflight = NULL;
    r->proposed = r->lost = r->refused = r->unsure = false;
}

static void run_fail(struct kl_task *t)
{
    struct kl_raft *r = KL_CONTAINER_OF(t, struct kl_raft, fail);
    struct kl_batch *b = r->inflight;
    int code = r->fail_code;
    r->failing = false;
    if (!b || r->closing)
        return;
    clear(r);
    if (code == KL_ENOSPC)
        kl_error_set(&b->err, code, "datastore %s: no space left on device", r->dir);
    else if (code != KL_ECONFLICT)
        kl_error_set(&b->err, code, "datastore %s: %s", r->dir, kl_err_text(code));
    kl_core_failed(r->core, b, code);
}

// Later: the core sees no batch end inside propose.
static void fail_batch(struct kl_raft *r, int code)
{
    if (r->failing)
        return;
    r->failing = true;
    r->fail_code = code;
    r->fail.run = run_fail;
    kl_loop_defer(kl_core_loop(r->core), &r->fail);
}

static void proposal_ended(struct kl_raft_proposal *p, int code)
{
    struct kl_raft *r = KL_CONTAINER_OF(p, struct kl_raft, prop);
    if (!code || !r->inflight || !r->proposed)
        return; // the state machine saw it
    r->lost = true;
    r->lost_ms = kl_raft_now() + KL_RAFT_MAYBE_MS;
}

void kl_raft_propose_applied(struct kl_raft *r)
{
    clear(r);
}

void kl_raft_propose_jumped(struct kl_raft *r, uint64_t index, kl_rev rev)
{
    if (!r->inflight || !r->proposed || r->refused)
        return; // it is evaluated again
    if (!r->lost)
        r->lost_ms = kl_raft_now() + KL_RAFT_MAYBE_MS;
    r->lost = true;
    if (!r->prop.index || index < r->prop.index + r->prop_n - 1)
        return; // it never was in the log, or the log still tells
    // Its rows would have these revisions.
    if (r->inflight->nrows && rev < r->inflight->last_rev)
        r->refused = true;
    else
        r->unsure = true;
}

static void submit(struct kl_raft *r)
{
    struct kl_batch *b = r->inflight;
    struct kl_raft_batch_head h = {r->cluster_id, r->chain, r->state, b->base_rev, b->last_rev};
    struct raft_buffer *bufs;
    size_t n;
    if (b->base_rev != r->rev) {
        fail_batch(r, KL_ECONFLICT);
        return;
    }
    r->inflight_seq = ++r->seq;
    int e = kl_raft_entry_encode(b, &h, r->nonce, r->inflight_seq, &bufs, &n);
    if (e) {
        fail_batch(r, e);
        return;
    }
    r->proposed = true;
    r->lost = false;
    r->prop.cb = proposal_ended;
    r->prop_n = n;
    kl_raft_node_propose(r->node, &r->prop, bufs, n);
}

static bool is_full(const struct kl_raft *r)
{
    return kl_raft_log_is_low(kl_raft_node_log(r->node)) ||
           atomic_load_explicit(&r->sq_low, memory_order_relaxed);
}

void kl_raft_propose_poll(struct kl_raft *r)
{
    struct kl_raft_node_state st;
    if (!r->inflight || r->failing || r->closing || !r->started)
        return;
    if (kl_raft_take_busy(r))
        return; // its entry may be among those
    kl_raft_node_state(r->node, &st);
    if (r->lost) {
        if (r->unsure)
            fail_batch(r, KL_EMAYBE);
        else if (r->refused || !r->prop.index || st.applied >= r->prop.index + r->prop_n - 1)
            fail_batch(r, KL_ECONFLICT);
        else if (kl_raft_now() >= r->lost_ms)
            fail_batch(r, KL_EMAYBE);
        return;
    }
    if (r->proposed)
        return;
    if (!st.ready) {
        if (st.leader && st.leader != r->id)
            fail_batch(r, KL_ECONFLICT); // evaluated there
        return;
    }
    if (is_full(r) && !r->inflight->full)
        fail_batch(r, KL_ENOSPC);
    else if (atomic_load_explicit(&r->lag, memory_order_relaxed) < KL_RAFT_LAG_HIGH)
        submit(r);
}

void kl_raft_propose(struct kl_backend *b, struct kl_batch *batch)
{
    struct kl_raft *r = kl_raft_of(b);
    clear(r);
    r->inflight = batch;
    kl_raft_propose_poll(r);
}

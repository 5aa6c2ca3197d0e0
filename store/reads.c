// SPDX-License-Identifier: Apache-2.0
// Old revisions: held views, and the back end's history.
#include "store/store_int.h"
#include "store/view_int.h"
#include <assert.h>
#include <stdlib.h>

enum { RANGE_MAX = 10000, RANGE_BYTES = 4 << 20 };

// ---- held views ----

// Called with held_mu: lets go of what is too old, and of the oldest while they keep too much.
static void trim_held(struct kl_store *s, int64_t now, int64_t written)
{
    for (int i = 0; i < KL_HOLD_MAX; i++) {
        struct kl_held *h = &s->held[i];
        if (h->view && (h->until_ms <= now || written - h->view->written > KL_HOLD_BYTES)) {
            kl_view_unref(h->view);
            h->view = NULL;
        }
    }
}

void kl_store_hold_view(struct kl_store *s, struct kl_view *v)
{
    int64_t now = kl_store_mono_ms(s);
    pthread_mutex_lock(&s->held_mu);
    trim_held(s, now, v->written);
    struct kl_held *at = &s->held[0];
    for (int i = 0; i < KL_HOLD_MAX; i++) {
        struct kl_held *h = &s->held[i];
        if (h->view && h->view->rev == v->rev) {
            at = h;
            break;
        }
        // A free place, or else the one that was used longest ago.
        if (at->view && (!h->view || h->until_ms < at->until_ms))
            at = h;
    }
    kl_view_ref(v);
    kl_view_unref(at->view);
    *at = (struct kl_held){v, now + KL_HOLD_MS};
    pthread_mutex_unlock(&s->held_mu);
}

// Called now and then by the committer, so that views go without anybody asking.
void kl_store_trim_held(struct kl_store *s)
{
    pthread_mutex_lock(&s->held_mu);
    trim_held(s, kl_store_mono_ms(s), s->view->written);
    pthread_mutex_unlock(&s->held_mu);
}

static int check_rev(const struct kl_view *v, kl_rev rev, struct kl_error *err)
{
    if (rev > v->rev)
        return kl_error_set(err, KL_EFUTUREREV,
                            "etcdserver: mvcc: required revision is a future revision");
    if (rev < v->compact_rev)
        return kl_error_set(err, KL_ECOMPACTED,
                            "etcdserver: mvcc: required revision has been compacted");
    return 0;
}

int kl_store_view_at(struct kl_reader *r, kl_rev rev, struct kl_view **ret_v, struct kl_error *err)
{
    struct kl_store *s = r->store;
    struct kl_view *v = kl_reader_view(r), *found = NULL;
    int code = check_rev(v, rev, err);
    if (code)
        return code;
    if (rev == v->rev) {
        *ret_v = kl_view_ref(v);
        return 0;
    }
    pthread_mutex_lock(&s->held_mu);
    trim_held(s, kl_store_mono_ms(s), v->written);
    for (int i = 0; i < KL_HOLD_MAX && !found; i++) {
        if (s->held[i].view && s->held[i].view->rev == rev) {
            found = kl_view_ref(s->held[i].view);
            s->held[i].until_ms = kl_store_mono_ms(s) + KL_HOLD_MS;
        }
    }
    pthread_mutex_unlock(&s->held_mu);
    if (!found)
        return kl_error_set(err, KL_EAGAIN, "revision %lld is not in memory", (long long)rev);
    *ret_v = found;
    return 0;
}

// ---- from the back end ----

struct range_work {
    struct kl_read read;
    struct kl_range_req q;
    struct kl_range_at *at;
};

static void run_range_cb(struct kl_task *t)
{
    struct kl_range_at *at = KL_CONTAINER_OF(t, struct kl_range_at, task);
    at->cb(at);
}

static void answer_range(struct kl_range_at *at)
{
    at->task.run = run_range_cb;
    kl_loop_post(at->loop, &at->task);
}

static void range_done(struct kl_range_req *q)
{
    struct range_work *w = KL_CONTAINER_OF(q, struct range_work, q);
    struct kl_range_at *at = w->at;
    struct kl_store *s = w->read.store;
    at->code = q->code;
    at->err = q->err;
    at->kvs = q->kvs;
    at->nkvs = q->nkvs;
    at->more = q->more;
    at->count = q->count;
    // Rows may have gone while it waited.
    if (!at->code)
        at->code = check_rev(s->view, at->rev, &at->err);
    kl_store_metric(KL_SM_RANGE_HISTORY, 1);
    free(w);
    answer_range(at);
    kl_store_read_done(s);
}

static void start_range(struct kl_read *rd, struct kl_store *s)
{
    struct range_work *w = KL_CONTAINER_OF(rd, struct range_work, read);
    w->q.code = s->stopping ? kl_error_set(&w->q.err, KL_ECANCELED, "the store is stopping")
                            : check_rev(s->view, w->at->rev, &w->q.err);
    if (w->q.code)
        range_done(&w->q);
    else
        s->ops->read_range(s->backend, &w->q);
}

int kl_store_range_at(struct kl_store *s, struct kl_range_at *at, struct kl_error *err)
{
    if (atomic_load_explicit(&s->refuse, memory_order_acquire))
        return kl_error_set(err, KL_EUNAVAILABLE, "the store is stopping");
    struct range_work *w = calloc(1, sizeof(*w));
    if (!w)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!at->loop)
        at->loop = kl_loop_current();
    assert(at->loop);
    w->at = at;
    w->read.start = start_range;
    w->q.done = range_done;
    w->q.key = at->key;
    w->q.end = at->end;
    w->q.rev = at->rev;
    w->q.limit = at->limit > 0 && at->limit < RANGE_MAX ? (size_t)at->limit : RANGE_MAX;
    w->q.max_bytes = RANGE_BYTES;
    w->q.want_count = at->want_count;
    kl_store_read(s, &w->read);
    return 0;
}

void kl_range_at_fini(struct kl_range_at *at)
{
    for (size_t i = 0; i < at->nkvs; i++)
        kl_kv_unref(at->kvs[i]);
    free(at->kvs);
    at->kvs = NULL;
    at->nkvs = 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "store/store_int.h"
#include "store/view_int.h"
#include "base/log.h"
#include <stdlib.h>

enum {
    SMALL_VALUE = 128, // what stands for it would be as big
    REST_ROWS = 256,
};

static int64_t held_bytes(const struct kl_evict *e)
{
    return atomic_load_explicit(&e->home->values, memory_order_relaxed) +
           atomic_load_explicit(&e->home->attached, memory_order_relaxed);
}

struct kl_home *kl_store_home(struct kl_store *s)
{
    atomic_fetch_add_explicit(&s->evict.home->refs, 1, memory_order_relaxed);
    return s->evict.home;
}

static int64_t applied_rows(const struct kl_store *s)
{
    return atomic_load_explicit(&s->stat.rows, memory_order_relaxed);
}

static void rest(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    e->resting = true;
    e->rest_bytes = held_bytes(e) + e->budget / 16;
    e->rest_rows = applied_rows(s) + REST_ROWS;
}

static bool must_evict(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    int64_t held = held_bytes(e);
    e->resting &= held <= e->rest_bytes && applied_rows(s) < e->rest_rows;
    return held > e->budget && !e->resting;
}

int kl_evict_init(struct kl_store *s, struct kl_error *err)
{
    struct kl_evict *e = &s->evict;
    if (!(e->home = calloc(1, sizeof(*e->home))))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    atomic_init(&e->home->refs, 1);
    e->budget = s->o.memory_budget;
    struct kl_error why;
    if (e->budget && s->o.spill_dir && kl_spill_new(s->o.spill_dir, &e->spill, &why))
        kl_log(KL_LOG_WARN, "store", "the memory budget cannot be kept: %s", why.msg);
    return 0;
}

static bool can_move(const struct kl_kv *kv)
{
    return kv->value && kv->value->n >= SMALL_VALUE &&
           (!kl_bytes_is_outside(kv->value) || kl_spill_is_sparse(kv->value));
}

static bool has_attached(const struct kl_kv *kv)
{
    for (int i = 0; i < KL_KV_ATTACH; i++)
        if (atomic_load_explicit(&kv->attach[i], memory_order_relaxed))
            return true;
    return false;
}

static void say_failed(struct kl_store *s, const struct kl_error *err)
{
    struct kl_evict *e = &s->evict;
    if (!e->failed)
        kl_log(KL_LOG_WARN, "store", "the memory budget cannot be kept: %s", err->msg);
    e->failed = true;
    rest(s);
}

void kl_evict_load(struct kl_store *s, struct kl_kv *kv)
{
    struct kl_evict *e = &s->evict;
    struct kl_error err;
    struct kl_bytes *moved;
    // Half of it stays free for what requests hang on the versions.
    if (e->spill && e->state == KL_EVICT_IDLE && !e->failed && held_bytes(e) > e->budget / 2 &&
        can_move(kv)) {
        struct kl_str value = kl_bytes_str(kv->value);
        if (kl_spill_put(e->spill, &value, 1, &moved, &err)) {
            say_failed(s, &err);
        } else {
            kl_bytes_unref(kv->value);
            kv->value = moved;
        }
    }
    kl_kv_charge(kv, e->home);
}

// ---- choosing ----

// Whether there is something to gain, now or in the next round.
static bool take_key(struct kl_evict *e, struct kl_kv *kv, size_t *bytes)
{
    bool move = can_move(kv);
    if (!move && !has_attached(kv))
        return false;
    if (atomic_load_explicit(&kv->used, memory_order_relaxed)) {
        atomic_store_explicit(&kv->used, false, memory_order_relaxed);
        return true;
    }
    e->kvs[e->n] = kl_kv_ref(kv);
    e->values[e->n] = NULL;
    e->n++;
    *bytes += move ? kv->value->n : 0;
    return true;
}

static void end_round(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    kl_bytes_unref(e->hand);
    e->hand = NULL;
    if (!e->found) // what is held is the ring's, or in use
        rest(s);
    e->found = 0;
    kl_spill_rest(e->spill);
}

static void choose(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    struct kl_iter it;
    struct kl_kv *kv = NULL;
    size_t visits = 0, bytes = 0;
    kl_iter_init(&it, s->view, kl_bytes_str(e->hand), KL_RANGE_TO_LAST);
    while (e->n < KL_EVICT_KEYS && bytes < KL_EVICT_BYTES && visits++ < KL_EVICT_VISITS &&
           (kv = kl_iter_next(&it)))
        e->found += take_key(e, kv, &bytes);
    kl_turn_take(s, visits / 8);
    struct kl_bytes *hand = it.left > 0 && kv ? kl_bytes_alloc(kv->key_len + 1) : NULL;
    if (!hand) {
        end_round(s);
        return;
    }
    memcpy(hand->p, kv->key, kv->key_len + 1); // the NUL makes it the next key
    kl_bytes_unref(e->hand);
    e->hand = hand;
}

// ---- writing ----

static void write_values(uv_work_t *w)
{
    struct kl_evict *e = KL_CONTAINER_OF(w, struct kl_evict, work);
    struct kl_str texts[KL_EVICT_KEYS];
    struct kl_bytes *moved[KL_EVICT_KEYS];
    size_t n = 0;
    for (size_t i = 0; i < e->n; i++)
        if (can_move(e->kvs[i]))
            texts[n++] = kl_bytes_str(e->kvs[i]->value);
    e->code = n ? kl_spill_put(e->spill, texts, n, moved, &e->err) : 0;
    // can_move may say something else now: it is asked by the texts.
    for (size_t i = 0, k = 0; !e->code && i < e->n && k < n; i++)
        if (e->kvs[i]->value && e->kvs[i]->value->p == texts[k].p)
            e->values[i] = moved[k++];
}

static void written(uv_work_t *w, int status)
{
    struct kl_evict *e = KL_CONTAINER_OF(w, struct kl_evict, work);
    struct kl_store *s = KL_CONTAINER_OF(e, struct kl_store, evict);
    (void)status;
    e->state = KL_EVICT_WRITTEN;
    if (e->code)
        say_failed(s, &e->err);
    else
        e->failed = false;
    kl_commit_pump(s);
    kl_store_maybe_stop(s);
}

// ---- replacing ----

static struct kl_kv *copy_of(const struct kl_kv *kv, struct kl_bytes *value)
{
    struct kl_kv *c = kl_kv_new(kl_kv_key(kv), value ? value : kv->value);
    if (!c)
        return NULL;
    c->more = kv->more;
    c->sub = kv->sub;
    c->id = kv->id;
    c->mod_rev = kv->mod_rev;
    c->create_rev = kv->create_rev;
    c->version = kv->version;
    c->lease = kv->lease;
    c->hooks = kv->hooks;
    return c;
}

// The newest of both that is applied and that is evaluated on: else what is evaluated replaces it.
static bool is_current(struct kl_store *s, const struct kl_kv *kv)
{
    return kl_node_get(s->view->root, kl_kv_key(kv)) == kv &&
           kl_node_get(s->spec.root, kl_kv_key(kv)) == kv;
}

static void drop_chosen(struct kl_evict *e)
{
    for (size_t i = 0; i < e->n; i++) {
        kl_kv_unref(e->kvs[i]);
        kl_bytes_unref(e->values[i]);
    }
    e->n = 0;
}

static struct kl_view *same_view(const struct kl_view *old)
{
    struct kl_view *v = calloc(1, sizeof(*v));
    if (!v)
        return NULL;
    atomic_init(&v->refs, 1);
    v->rev = old->rev;
    v->compact_rev = old->compact_rev;
    v->written = old->written;
    v->ring = kl_ring_ref(old->ring);
    v->last_n = old->last_n;
    return v;
}

// kvs[i] becomes its copy where it is still current, else stays.
static int make_copies(struct kl_store *s, struct kl_index *x)
{
    struct kl_evict *e = &s->evict;
    bool same = s->spec.root == s->view->root;
    int r = 0;
    for (size_t i = 0; !r && i < e->n; i++) {
        struct kl_kv *kv = e->kvs[i], *c = NULL;
        if (is_current(s, kv) && (e->values[i] || has_attached(kv)) &&
            !(c = copy_of(kv, e->values[i])))
            r = KL_ENOMEM;
        if (!c)
            continue;
        kl_kv_charge(c, e->home);
        r = kl_index_put(x, c);
        if (!r && !same)
            r = kl_index_put(&s->spec, c);
        if (r) {
            kl_kv_unref(c);
            break;
        }
        kl_kv_unref(kv);
        e->kvs[i] = c;
        kl_bytes_unref(e->values[i]);
        e->values[i] = NULL;
    }
    if (!r && same) {
        kl_node_unref(s->spec.root);
        s->spec = (struct kl_index){kl_node_ref(x->root), ++s->gen};
    }
    return r;
}

static void replace(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    struct kl_view *v = same_view(s->view), *old = kl_view_ref(s->view);
    struct kl_index x = {kl_node_ref(s->view->root), ++s->gen};
    int r = v ? make_copies(s, &x) : KL_ENOMEM;
    e->state = KL_EVICT_IDLE;
    if (r) {
        kl_node_unref(x.root);
        if (v)
            kl_ring_unref(v->ring);
        free(v);
        kl_commit_moved(s); // s->spec may be in pieces
    } else {
        v->root = x.root;
        for (size_t i = 0; i < e->n; i++) {
            struct kl_kv *was = kl_node_get(old->root, kl_kv_key(e->kvs[i]));
            if (was != e->kvs[i] && kl_node_get(v->root, kl_kv_key(e->kvs[i])) == e->kvs[i]) {
                kl_lease_row_applied(s, &(struct kl_row){.kv = e->kvs[i], .prev = was});
                v->written += was && was->value ? was->value->n : 0;
            }
        }
        kl_store_publish(s, v);
        kl_store_trim_held(s);
    }
    kl_view_unref(old);
    drop_chosen(e);
}

void kl_evict_run(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    if (!e->spill || s->inflight || s->taking || s->slice.txn || s->slice.preparing || s->stopping)
        return;
    if (e->state == KL_EVICT_WRITTEN)
        replace(s);
    if (e->state != KL_EVICT_IDLE || !must_evict(s) || !kl_turn_left(s))
        return;
    choose(s);
    if (!e->n) {
        if (must_evict(s))
            kl_slice_post(s);
        return;
    }
    e->state = KL_EVICT_WRITING;
    if (uv_queue_work(kl_loop_uv(s->loop), &e->work, write_values, written)) {
        e->state = KL_EVICT_IDLE;
        drop_chosen(e);
    }
}

void kl_evict_fini(struct kl_store *s)
{
    struct kl_evict *e = &s->evict;
    drop_chosen(e);
    kl_bytes_unref(e->hand);
    kl_spill_unref(e->spill);
    kl_home_unref(e->home);
}

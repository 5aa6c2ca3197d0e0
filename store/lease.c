// SPDX-License-Identifier: Apache-2.0
// Leases on the committer's loop: a map, a heap of deadlines, and for each lease the list of the
// current versions that carry it, threaded through the versions themselves so that applying a
// batch allocates nothing.
#include "store/forward.h"
#include "store/lease_int.h"
#include <assert.h>
#include <stdlib.h>

static struct kl_str id_str(const int64_t *id)
{
    return (struct kl_str){(const char *)id, sizeof(*id)};
}

struct kl_lease *kl_lease_find(struct kl_store *s, int64_t id)
{
    return kl_map_get(&s->leases.by_id, id_str(&id));
}

bool kl_lease_usable(struct kl_store *s, int64_t id)
{
    const struct kl_lease *l = kl_lease_find(s, id);
    return s->ops->lease || (l && !l->pending && !l->revoking && !kl_lease_is_alarm(l));
}

// ---- the heap ----

static void heap_set(struct kl_leases *h, size_t i, struct kl_lease *l)
{
    h->heap[i] = l;
    l->heap_at = i;
}

void kl_lease_heap_fix(struct kl_leases *h, size_t i)
{
    struct kl_lease *l = h->heap[i];
    while (i && h->heap[(i - 1) / 2]->deadline_mono_ms > l->deadline_mono_ms) {
        heap_set(h, i, h->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (size_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && h->heap[c + 1]->deadline_mono_ms < h->heap[c]->deadline_mono_ms)
            c++;
        if (h->heap[c]->deadline_mono_ms >= l->deadline_mono_ms)
            break;
        heap_set(h, i, h->heap[c]);
    }
    heap_set(h, i, l);
}

void kl_lease_heap_add(struct kl_leases *h, struct kl_lease *l)
{
    heap_set(h, h->n++, l); // room was made when the lease was
    kl_lease_heap_fix(h, l->heap_at);
}

void kl_lease_heap_remove(struct kl_leases *h, struct kl_lease *l)
{
    size_t i = l->heap_at;
    if (i == SIZE_MAX)
        return;
    l->heap_at = SIZE_MAX;
    struct kl_lease *last = h->heap[--h->n];
    if (last != l) {
        heap_set(h, i, last);
        kl_lease_heap_fix(h, i);
    }
}

// ---- the table ----

struct kl_lease *kl_lease_add(struct kl_store *s, int64_t id)
{
    struct kl_leases *ls = &s->leases;
    if (ls->by_id.n + 1 > ls->cap) {
        size_t cap = ls->cap ? ls->cap * 2 : 16;
        struct kl_lease **heap = realloc(ls->heap, cap * sizeof(*heap));
        if (!heap)
            return NULL;
        ls->heap = heap;
        ls->cap = cap;
    }
    struct kl_lease *l = calloc(1, sizeof(*l));
    if (!l || kl_map_set(&ls->by_id, id_str(&id), l, NULL)) {
        free(l);
        return NULL;
    }
    l->id = id;
    l->pending = true;
    l->heap_at = SIZE_MAX;
    return l;
}

void kl_lease_leave_due(struct kl_lease *l)
{
    if (!l->due_pprev)
        return;
    *l->due_pprev = l->due_next;
    if (l->due_next)
        l->due_next->due_pprev = l->due_pprev;
    l->due_pprev = NULL;
}

void kl_lease_enter_due(struct kl_store *s, struct kl_lease *l)
{
    if (l->due_pprev)
        return;
    l->due_next = s->leases.due;
    l->due_pprev = &s->leases.due;
    if (l->due_next)
        l->due_next->due_pprev = &l->due_next;
    s->leases.due = l;
}

void kl_lease_drop(struct kl_store *s, struct kl_lease *l)
{
    kl_lease_leave_due(l);
    for (struct kl_kv *kv = l->keys, *next; kv; kv = next) {
        next = kv->lease_next;
        kv->lease_next = kv->lease_prev = NULL;
    }
    kl_lease_heap_remove(&s->leases, l);
    kl_map_del(&s->leases.by_id, id_str(&l->id));
    free(l);
}

enum kl_keeper kl_lease_keeper(const struct kl_store *s)
{
    if (s->ops->keeper)
        return s->ops->keeper(s->backend);
    return kl_store_leads(s) ? KL_KEEPER_SELF : KL_KEEPER_OTHER;
}

// Who is not their keeper may not know of all renewals: but each was promised only after a deadline
// that is later was stored.
void kl_lease_place(struct kl_store *s, struct kl_lease *l, int64_t deadline_mono_ms)
{
    bool by_log = deadline_mono_ms < l->stored_mono_ms && kl_lease_keeper(s) != KL_KEEPER_SELF;
    l->deadline_mono_ms = by_log ? l->stored_mono_ms : deadline_mono_ms;
    if (l->heap_at != SIZE_MAX)
        kl_lease_heap_fix(&s->leases, l->heap_at);
    else if (!l->revoking) // otherwise it goes, or comes back here when that fails
        kl_lease_heap_add(&s->leases, l);
}

// A deadline that is durable now. Nobody's clock but ours says how long is left of what we saw
// being granted or renewed; of what was loaded the wall clock does, never more than was granted.
static void set_deadline(struct kl_store *s, struct kl_lease *l, const struct kl_lease_op *op,
                         bool loaded)
{
    int64_t now = kl_store_mono_ms(s), left = op->ttl_ms + (l->pending ? 0 : AHEAD_MS);
    if (loaded) {
        int64_t wall = kl_store_wall_ms(s); // what a file says may be any number
        left = op->deadline_wall_ms > wall ? op->deadline_wall_ms - wall : 0;
        // Where others may keep it, it was renewed up to that.
        int64_t most = op->ttl_ms + (s->ops->leader ? AHEAD_MS : 0);
        left = left > most ? most : left;
    }
    l->ttl_ms = op->ttl_ms;
    l->stored_mono_ms = op->deadline_mono_ms ? op->deadline_mono_ms : now + left;
    if (l->storing_mono_ms <= l->stored_mono_ms)
        l->storing_mono_ms = 0;
    // Another server renewed it: what it promises later we are not told, but never more than this.
    if (l->pending || !op->deadline_mono_ms)
        kl_lease_place(s, l, loaded && left > op->ttl_ms ? now + op->ttl_ms : l->stored_mono_ms);
    l->pending = false;
}

// Whoever kept the leases before may have renewed each up to what is stored.
void kl_lease_leader_changed(struct kl_store *s)
{
    bool keeps = kl_lease_keeper(s) == KL_KEEPER_SELF;
    if (keeps && !s->leases.keeping) {
        int64_t now = kl_store_mono_ms(s);
        KL_MAP_EACH (&s->leases.by_id, e) {
            struct kl_lease *l = e->value;
            int64_t most = now + l->ttl_ms;
            if (!l->pending)
                kl_lease_place(s, l, l->stored_mono_ms < most ? l->stored_mono_ms : most);
        }
    }
    s->leases.leading = kl_store_leads(s);
    s->leases.keeping = keeps;
}

int64_t kl_lease_left_ms(struct kl_store *s, const struct kl_lease *l)
{
    int64_t left = l->deadline_mono_ms - kl_store_mono_ms(s);
    return left < 0 ? 0 : left < l->ttl_ms ? left : l->ttl_ms;
}

int kl_lease_reserve(struct kl_store *s, const struct kl_lease_op *op)
{
    return !op->ttl_ms || kl_lease_find(s, op->id) || kl_lease_add(s, op->id) ? 0 : KL_ENOMEM;
}

int kl_leases_load(struct kl_store *s, struct kl_lease_op op)
{
    if (kl_lease_reserve(s, &op))
        return KL_ENOMEM;
    op.deadline_mono_ms = 0;
    if (op.ttl_ms > KL_LEASE_MAX_STORED_MS || op.ttl_ms < 0)
        op.ttl_ms = KL_LEASE_MAX_TTL * 1000;
    set_deadline(s, kl_lease_find(s, op.id), &op, true);
    return 0;
}

void kl_leases_fini(struct kl_leases *ls)
{
    KL_MAP_EACH (&ls->by_id, e)
        free(e->value);
    kl_map_fini(&ls->by_id);
    free(ls->heap);
}

// ---- applied ----

static void unlink_key(struct kl_store *s, struct kl_kv *kv)
{
    struct kl_lease *l = kv && kv->lease ? kl_lease_find(s, kv->lease) : NULL;
    if (!l || (!kv->lease_prev && l->keys != kv))
        return;
    if (kv->lease_prev)
        kv->lease_prev->lease_next = kv->lease_next;
    else
        l->keys = kv->lease_next;
    if (kv->lease_next)
        kv->lease_next->lease_prev = kv->lease_prev;
    kv->lease_prev = kv->lease_next = NULL;
    l->nkeys--;
}

void kl_lease_row_applied(struct kl_store *s, const struct kl_row *row)
{
    unlink_key(s, row->prev);
    struct kl_kv *kv = row->kv;
    struct kl_lease *l = !kv->deleted && kv->lease ? kl_lease_find(s, kv->lease) : NULL;
    if (!l)
        return;
    kv->lease_prev = NULL;
    kv->lease_next = l->keys;
    if (l->keys)
        l->keys->lease_prev = kv;
    l->keys = kv;
    l->nkeys++;
}

void kl_lease_count_alarms(struct kl_store *s)
{
    unsigned bits = 0;
    KL_MAP_EACH (&s->leases.by_id, e) {
        const struct kl_lease *l = e->value;
        if (kl_lease_is_alarm(l) && !l->pending)
            bits |= 1u << (l->ttl_ms / 1000 - KL_LEASE_MAX_TTL);
    }
    atomic_store_explicit(&s->stat.alarms, bits, memory_order_release);
}

bool kl_store_keeps_alarms(const struct kl_store *s)
{
    return !s->ops->lease;
}

unsigned kl_store_alarms(struct kl_store *s)
{
    return atomic_load_explicit(&s->stat.alarms, memory_order_acquire);
}

void kl_lease_op_applied(struct kl_store *s, const struct kl_lease_op *op)
{
    struct kl_lease *l = kl_lease_find(s, op->id);
    bool alarm = l && kl_lease_is_alarm(l);
    if (op->ttl_ms && l) {
        set_deadline(s, l, op, false);
    } else if (l) {
        kl_lease_drop(s, l);
    }
    if (alarm || op->ttl_ms > KL_LEASE_MAX_TTL * 1000)
        kl_lease_count_alarms(s);
    atomic_store_explicit(&s->stat.leases, (long long)s->leases.by_id.n, memory_order_relaxed);
}

// The batch will not be applied: what it promised is taken back, its work is evaluated again.
void kl_lease_batch_undone(struct kl_store *s, struct kl_batch *b)
{
    s->leases.unapplied_puts -= (int64_t)b->nleased;
    for (size_t i = 0; i < b->nleases; i++) {
        struct kl_lease *l = kl_lease_find(s, b->leases[i].id);
        if (l && l->pending)
            kl_lease_drop(s, l);
        else if (l)
            l->storing_mono_ms = 0;
    }
}

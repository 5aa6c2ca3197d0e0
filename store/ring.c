// SPDX-License-Identifier: Apache-2.0
#include "store/ring_int.h"
#include "base/err.h"
#include <stdlib.h>

// An event counts for more than 240 bytes, so that a full chunk has 60 KiB or KL_RING_CHUNK_BYTES.
enum { MIN_CHUNK_BYTES = 56 << 10 };

int kl_ring_room_init(struct kl_ring_room *room, size_t max_bytes)
{
    *room = (struct kl_ring_room){.max_bytes = max_bytes};
    room->max_chunks = (uint32_t)(max_bytes / MIN_CHUNK_BYTES) + 4;
    return 0;
}

void kl_ring_room_fini(struct kl_ring_room *room)
{
    free(room->spare);
    while (room->spare_chunks) {
        struct kl_ring_chunk *c = room->spare_chunks;
        room->spare_chunks = c->spare_next;
        free(c);
    }
    while (kl_ring_bury_one(room))
        ;
}

size_t kl_ring_need(const struct kl_ring_room *room, size_t n, size_t bytes)
{
    size_t chunks = n / KL_RING_CHUNK + bytes / KL_RING_CHUNK_BYTES + 1;
    // A chunk is closed by the event that makes it too big, so one per event is the most.
    return chunks < n ? chunks : n;
}

struct kl_ring *kl_ring_new(const struct kl_ring_room *room, kl_rev floor)
{
    struct kl_ring *r = malloc(sizeof(*r) + room->max_chunks * sizeof(r->chunk[0]));
    if (!r)
        return NULL;
    atomic_init(&r->refs, 1);
    r->n = 0;
    r->floor_id = r->floor_rev = floor;
    r->bytes = 0;
    return r;
}

int kl_ring_reserve(struct kl_ring_room *room, size_t chunks)
{
    if (!room->spare && !(room->spare = kl_ring_new(room, 0)))
        return KL_ENOMEM;
    while (room->nspare < chunks) {
        struct kl_ring_chunk *c = malloc(sizeof(*c));
        if (!c)
            return KL_ENOMEM;
        c->spare_next = room->spare_chunks;
        room->spare_chunks = c;
        room->nspare++;
    }
    return 0;
}

static bool drop_chunk(struct kl_ring_chunk *c)
{
    return atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1;
}

static void free_chunk(struct kl_ring_chunk *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        kl_kv_unref(c->ev[i].kv);
        kl_kv_unref(c->ev[i].prev);
    }
    free(c);
}

static void unref_chunk(struct kl_ring_chunk *c)
{
    if (drop_chunk(c))
        free_chunk(c);
}

size_t kl_ring_bury_one(struct kl_ring_room *room)
{
    struct kl_ring_chunk *c = room->dead;
    if (!c)
        return 0;
    size_t n = c->n;
    room->dead = c->spare_next;
    free_chunk(c);
    return n;
}

void kl_ring_bury_later(struct kl_ring_room *room, struct kl_ring_room *from)
{
    while (from->dead) {
        struct kl_ring_chunk *c = from->dead;
        from->dead = c->spare_next;
        c->spare_next = room->dead;
        room->dead = c;
    }
}

size_t kl_ring_drop_last(struct kl_ring *r)
{
    if (!r->n)
        return 0;
    struct kl_ring_chunk *c = r->chunk[--r->n];
    if (!drop_chunk(c))
        return 1;
    size_t n = c->n;
    free_chunk(c);
    return n;
}

struct kl_ring *kl_ring_ref(struct kl_ring *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void kl_ring_unref(struct kl_ring *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < r->n; i++)
        unref_chunk(r->chunk[i]);
    free(r);
}

// The reserved array takes over from *ring: shares its chunks but the oldest that are too much.
static struct kl_ring *replace_ring(struct kl_ring_room *room, struct kl_ring *old)
{
    struct kl_ring *r = room->spare;
    room->spare = NULL;
    r->floor_id = old->floor_id;
    r->floor_rev = old->floor_rev;
    r->n = old->n;
    r->bytes = old->bytes;
    for (uint32_t i = 0; i < r->n; i++) {
        r->chunk[i] = old->chunk[i];
        atomic_fetch_add_explicit(&r->chunk[i]->refs, 1, memory_order_relaxed);
    }
    kl_ring_unref(old);
    return r;
}

static void drop_first(struct kl_ring_room *room, struct kl_ring *r, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++) {
        struct kl_ring_chunk *c = r->chunk[i];
        const struct kl_kv *last = c->ev[c->n - 1].kv;
        r->floor_id = last->id;
        r->floor_rev = last->mod_rev;
        r->bytes -= c->held;
        if (drop_chunk(c)) {
            c->spare_next = room->dead;
            room->dead = c;
        }
    }
    memmove(r->chunk, r->chunk + k, (r->n - k) * sizeof(r->chunk[0]));
    r->n -= k;
}

// Only on a ring that no view has seen.
static void drop_oldest(struct kl_ring_room *room, struct kl_ring *r)
{
    size_t bytes = r->bytes;
    uint32_t k = 0;
    while (r->n - k > 1 && (bytes > room->max_bytes || r->n - k >= room->max_chunks))
        bytes -= r->chunk[k++]->held;
    drop_first(room, r, k);
}

static void begin_chunk(struct kl_ring_chunk *c)
{
    atomic_init(&c->refs, 1);
    c->n = 0;
    c->bytes = c->held = 0;
}

static bool is_full(const struct kl_ring_chunk *c)
{
    return c->n == KL_RING_CHUNK || c->bytes >= KL_RING_CHUNK_BYTES;
}

static void add_event(struct kl_ring_chunk *c, const struct kl_event *ev)
{
    c->ev[c->n] = (struct kl_event){kl_kv_ref(ev->kv), kl_kv_ref(ev->prev)};
    c->n++;
    c->bytes += kl_event_bytes(ev);
    c->held += kl_event_held(ev);
}

void kl_ring_append(struct kl_ring_room *room, struct kl_ring **ring, uint32_t *last_n,
                    const struct kl_event *ev, bool *replaced)
{
    struct kl_ring *r = *ring;
    struct kl_ring_chunk *c = r->n ? r->chunk[r->n - 1] : NULL;
    if (!c || is_full(c)) {
        if (!*replaced)
            *ring = r = replace_ring(room, r);
        *replaced = true;
        if (c)
            r->bytes += c->held;
        drop_oldest(room, r);
        c = room->spare_chunks;
        room->spare_chunks = c->spare_next;
        room->nspare--;
        begin_chunk(c);
        r->chunk[r->n++] = c;
    }
    add_event(c, ev);
    *last_n = c->n;
}

int kl_ring_build(struct kl_ring_built *built, const struct kl_event *ev)
{
    struct kl_ring_chunk *c = built->last;
    if (!c || is_full(c)) {
        c = malloc(sizeof(*c));
        if (!c)
            return KL_ENOMEM;
        begin_chunk(c);
        c->spare_next = NULL;
        *(built->last ? &built->last->spare_next : &built->first) = c;
        built->last = c;
    }
    add_event(c, ev);
    return 0;
}

void kl_ring_built_fini(struct kl_ring_built *built)
{
    for (struct kl_ring_chunk *c = built->first, *next; c; c = next) {
        next = c->spare_next;
        free_chunk(c);
    }
    *built = (struct kl_ring_built){0};
}

void kl_ring_link(struct kl_ring_room *room, struct kl_ring **ring, uint32_t *last_n,
                  struct kl_ring_built *built)
{
    struct kl_ring *r = *ring = replace_ring(room, *ring);
    if (r->n)
        r->bytes += r->chunk[r->n - 1]->held;
    if (built->skipped) {
        drop_first(room, r, r->n);
        r->floor_id = built->skipped->id;
        r->floor_rev = built->skipped->mod_rev;
    }
    for (struct kl_ring_chunk *c = built->first, *next; c; c = next) {
        next = c->spare_next;
        drop_oldest(room, r);
        r->chunk[r->n++] = c;
        *last_n = c->n;
        if (next)
            r->bytes += c->held;
    }
    *built = (struct kl_ring_built){0};
}

static void seek(struct kl_ring_at *a, const struct kl_ring *r, uint32_t last_n, kl_rev key,
                 bool by_rev)
{
    *a = (struct kl_ring_at){.ring = r, .last_n = last_n};
    // The last chunk whose first event is still before the place, then the place in it.
    uint32_t lo = 0, hi = r->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        const struct kl_kv *kv = r->chunk[mid]->ev[0].kv;
        if (by_rev ? kv->mod_rev < key : kv->id <= key)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == 0)
        return;
    a->chunk = lo - 1;
    const struct kl_ring_chunk *c = r->chunk[a->chunk];
    uint32_t i = 0, n = lo == r->n ? last_n : c->n;
    while (i < n) {
        uint32_t mid = (i + n) / 2;
        const struct kl_kv *kv = c->ev[mid].kv;
        if (by_rev ? kv->mod_rev < key : kv->id <= key)
            i = mid + 1;
        else
            n = mid;
    }
    a->at = i;
}

void kl_ring_seek(struct kl_ring_at *a, const struct kl_ring *r, uint32_t last_n, kl_rev after)
{
    seek(a, r, last_n, after, false);
}

void kl_ring_seek_rev(struct kl_ring_at *a, const struct kl_ring *r, uint32_t last_n, kl_rev rev)
{
    seek(a, r, last_n, rev, true);
}

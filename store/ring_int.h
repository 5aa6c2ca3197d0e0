// SPDX-License-Identifier: Apache-2.0
// The event ring: the newest events in order, in chunks that views share. A ring is an array of
// chunks and never changes, but for the free end of its last chunk, which the committer fills and
// of which each view knows how much it may see.
#pragma once
#include "store/kv.h"

enum { KL_RING_CHUNK = 256, KL_RING_CHUNK_BYTES = 256 << 10 };

struct kl_ring_chunk {
    atomic_uint refs;
    uint32_t n;   // the committer's
    size_t bytes; // closes the chunk
    size_t held;  // what it keeps in memory: more, when keys were deleted
    struct kl_ring_chunk *spare_next;
    struct kl_event ev[KL_RING_CHUNK];
};

struct kl_ring {
    atomic_uint refs;
    uint32_t n;
    kl_rev floor_id, floor_rev; // of the newest event that is no longer here
    size_t bytes;               // held by all chunks but the last
    struct kl_ring_chunk *chunk[];
};

// A place in a ring as one view sees it.
struct kl_ring_at {
    const struct kl_ring *ring;
    uint32_t last_n; // events of the last chunk that the view may see
    uint32_t chunk, at;
};

// The committer's: what was allocated before a batch was proposed.
struct kl_ring_room {
    size_t max_bytes;
    uint32_t max_chunks;
    struct kl_ring *spare;
    struct kl_ring_chunk *spare_chunks;
    size_t nspare;
    struct kl_ring_chunk *dead; // that nobody has any more: to be freed when there is time
};

// Chunks filled before their batch was proposed: publishing only links them in.
struct kl_ring_built {
    struct kl_ring_chunk *first, *last;
    const struct kl_kv *skipped; // the newest row before them: there is no room for older ones
};

int kl_ring_room_init(struct kl_ring_room *room, size_t max_bytes);
void kl_ring_room_fini(struct kl_ring_room *room);
// Room for n more events of `bytes` on top of what was reserved for `ahead` chunks.
size_t kl_ring_need(const struct kl_ring_room *room, size_t n, size_t bytes); // in chunks
int kl_ring_reserve(struct kl_ring_room *room, size_t chunks);

struct kl_ring *kl_ring_new(const struct kl_ring_room *room,
                            kl_rev floor); // empty; NULL: no memory
struct kl_ring *kl_ring_ref(struct kl_ring *r);
void kl_ring_unref(struct kl_ring *r);

// Appends one event (its own references) to *ring with *last_n, whose reference the caller holds
// and which may be replaced, but only once for a reservation. Cannot fail.
void kl_ring_append(struct kl_ring_room *room, struct kl_ring **ring, uint32_t *last_n,
                    const struct kl_event *ev, bool *replaced);

// Appends one event, with its own references, to what is being built. KL_ENOMEM.
int kl_ring_build(struct kl_ring_built *built, const struct kl_event *ev);
void kl_ring_built_fini(struct kl_ring_built *built);
// As appending each event of it, once for a reservation (of no chunks). Takes the chunks.
void kl_ring_link(struct kl_ring_room *room, struct kl_ring **ring, uint32_t *last_n,
                  struct kl_ring_built *built);
// The most events that a ring holds.
static inline size_t kl_ring_capacity(const struct kl_ring_room *room)
{
    return (size_t)room->max_chunks * KL_RING_CHUNK;
}
// Frees one of the dead; how many events it had, 0: there is none.
size_t kl_ring_bury_one(struct kl_ring_room *room);
// The dead of `from` are freed with those of `room`.
void kl_ring_bury_later(struct kl_ring_room *room, struct kl_ring_room *from);
// For who takes a ring apart that nobody else has: frees the last chunk; 0: there is none.
size_t kl_ring_drop_last(struct kl_ring *r);

// The first event with an id above `after`, or (by revision) with mod_rev of at least `rev`.
void kl_ring_seek(struct kl_ring_at *a, const struct kl_ring *r, uint32_t last_n, kl_rev after);
void kl_ring_seek_rev(struct kl_ring_at *a, const struct kl_ring *r, uint32_t last_n, kl_rev rev);
static inline const struct kl_event *kl_ring_next(struct kl_ring_at *a)
{
    while (a->chunk < a->ring->n) {
        const struct kl_ring_chunk *c = a->ring->chunk[a->chunk];
        // The count of a chunk that is not the last one changes no more.
        uint32_t n = a->chunk + 1 == a->ring->n ? a->last_n : c->n;
        if (a->at < n)
            return &c->ev[a->at++];
        a->chunk++;
        a->at = 0;
    }
    return NULL;
}

static inline size_t kl_event_bytes(const struct kl_event *e)
{
    return sizeof(struct kl_event) + sizeof(struct kl_kv) + e->kv->key_len + kl_kv_value(e->kv).n +
           64;
}

// A deletion keeps alive, alone of all, what it deleted; and what watchers are told of it is a copy
// of that.
static inline size_t kl_event_held(const struct kl_event *e)
{
    size_t n = kl_event_bytes(e);
    if (e->kv->deleted && e->prev)
        n += sizeof(struct kl_kv) + e->prev->key_len + 2 * kl_kv_value(e->prev).n + 64;
    return n;
}

// SPDX-License-Identifier: Apache-2.0
// One version of one key: immutable, counted, shared by the index, the event ring and every reader.
#pragma once
#include "base/bytes.h"
#include "base/str.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef int64_t kl_rev;

#define KL_KV_ATTACH 4

// The layer above says once, when it opens the store, how what it attaches is freed. A constant
// table: versions may outlive the store. Free functions run on whatever thread drops the last
// reference, so they must not touch a loop.
struct kl_kv_hooks {
    void (*free[KL_KV_ATTACH])(void *attached);
    size_t (*size[KL_KV_ATTACH])(const void *attached); // in memory; NULL: not counted
    const void *arg; // its own; must live as long as it uses versions
};

// What the versions of one store hold in memory, from kl_kv_charge to their end.
struct kl_home {
    atomic_llong refs;
    atomic_llong values;   // bytes of values that are not in the value file (spill.h)
    atomic_llong attached; // bytes of what hangs on them
};

// Read-only to everybody but the store. `id` is the row's own revision; it differs from mod_rev
// only inside a transaction of several writes, whose keys all report the transaction's last id, as
// etcd does. A deletion is a version too: version and create_rev 0, no value.
struct kl_kv {
    atomic_uint refs;
    uint32_t key_len;
    bool deleted;
    // A log that gives one revision to all rows of a transaction (a remote etcd): their place among
    // those with this id, and whether another one follows. Ids are unique everywhere else.
    bool more;
    atomic_bool used; // since the budget's hand last came by (evict.c)
    uint32_t sub;
    kl_rev id, mod_rev, create_rev;
    int64_t version, lease;
    struct kl_bytes *value; // NULL when deleted
    const struct kl_kv_hooks *hooks;
    struct kl_home *home; // where it is counted, or NULL
    _Atomic(void *) attach[KL_KV_ATTACH];
    struct kl_kv *lease_prev, *lease_next; // the committer's only
    char key[];                            // NUL-terminated
};

static inline struct kl_str kl_kv_key(const struct kl_kv *kv)
{
    return (struct kl_str){kv->key, kv->key_len};
}

// The last row of its transaction.
static inline bool kl_kv_ends_txn(const struct kl_kv *kv)
{
    return kv->id == kv->mod_rev && !kv->more;
}

static inline void kl_kv_use(const struct kl_kv *kv)
{
    atomic_bool *used = &((struct kl_kv *)kv)->used;
    if (!atomic_load_explicit(used, memory_order_relaxed))
        atomic_store_explicit(used, true, memory_order_relaxed);
}

static inline struct kl_str kl_kv_value(const struct kl_kv *kv)
{
    kl_kv_use(kv);
    return kl_bytes_str(kv->value);
}

// Any thread. NULL in, NULL out.
struct kl_kv *kl_kv_ref(struct kl_kv *kv);
void kl_kv_unref(struct kl_kv *kv);

void kl_home_unref(struct kl_home *h);
// Counts it, once it is whole and before others see it.
void kl_kv_charge(struct kl_kv *kv, struct kl_home *home);

// What hangs in a slot, or NULL. Any thread; lives as long as the version.
static inline void *kl_kv_attached(const struct kl_kv *kv, int slot)
{
    kl_kv_use(kv);
    return atomic_load_explicit(&((struct kl_kv *)kv)->attach[slot], memory_order_acquire);
}

// What hangs on it has grown by n bytes (negative: shrunk), and its size() says so from now on. Any
// thread.
void kl_kv_grow(const struct kl_kv *kv, ptrdiff_t n);

// Hangs p into an empty slot and returns it: the version owns it from then on. When somebody was
// quicker, returns what hangs there; p stays the caller's. Any thread.
void *kl_kv_attach(struct kl_kv *kv, int slot, void *p);

// One change. `prev` is NULL for a creation, and when the version before was compacted away.
struct kl_event {
    struct kl_kv *kv; // kv->deleted tells puts from deletions
    struct kl_kv *prev;
};

static inline bool kl_event_is_create(const struct kl_event *e)
{
    return !e->kv->deleted && e->kv->version == 1;
}

// Ranges are etcd's everywhere in store/: `end` empty means the one key; the one byte NUL means
// every key from `key` on; otherwise [key, end).
#define KL_RANGE_TO_LAST ((struct kl_str){"\0", 1})

// Writes the end of the range of all keys that start with prefix: the prefix with its last byte
// below 0xff raised and the rest cut. `buf` holds at least max(prefix.n, 1) bytes. A prefix without
// such a byte gives KL_RANGE_TO_LAST.
struct kl_str kl_prefix_end(struct kl_str prefix, char *buf);
bool kl_range_has(struct kl_str key, struct kl_str end, struct kl_str k);

// SPDX-License-Identifier: Apache-2.0
// Symbols: constant rows for the names of the built-in schemas, and a table that only grows for the
// names that custom resources' schemas bring. Readers take no lock: a row is complete before its
// slot is published, and an outgrown table of slots stays readable.
#include "object/schema_int.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define DYNAMIC_MAX (1u << 18) // names of all custom schemas together
#define ROWS_PER_CHUNK 1024u

struct dynamic_row {
    char *text; // `"name":`
    uint32_t n;
};

struct slot_table {
    uint32_t mask;
    struct slot_table *outgrown;
    atomic_uint slots[]; // symbol, 0 for a free slot
};

// The one mutable table of the process besides the log level: symbols mean the same everywhere.
static struct {
    pthread_mutex_t lock;
    _Atomic(struct dynamic_row *) chunks[DYNAMIC_MAX / ROWS_PER_CHUNK];
    _Atomic(struct slot_table *) table;
    uint32_t n;
} dynamic = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct dynamic_row *dynamic_row(uint32_t sym)
{
    uint32_t i = sym - KL_SYM_BUILTIN_END;
    if (i >= DYNAMIC_MAX)
        return NULL;
    struct dynamic_row *chunk =
        atomic_load_explicit(&dynamic.chunks[i / ROWS_PER_CHUNK], memory_order_acquire);
    return chunk && chunk[i % ROWS_PER_CHUNK].text ? &chunk[i % ROWS_PER_CHUNK] : NULL;
}

struct kl_str kl_sym_name(uint32_t sym)
{
    struct kl_str quoted = kl_sym_quoted(sym);
    return quoted.n ? (struct kl_str){quoted.p + 1, quoted.n - 3} : quoted;
}

struct kl_str kl_sym_quoted_dynamic(uint32_t sym)
{
    const struct dynamic_row *row = dynamic_row(sym);
    return row ? (struct kl_str){row->text, row->n + 3} : (struct kl_str){"", 0};
}

static uint32_t find_dynamic(const struct slot_table *t, struct kl_str name, uint64_t key)
{
    if (!t)
        return KL_SYM_NONE;
    for (uint32_t i = (uint32_t)(key * KL_GOLDEN >> 32) & t->mask;; i = (i + 1) & t->mask) {
        uint32_t sym = atomic_load_explicit(&t->slots[i], memory_order_acquire);
        if (!sym)
            return KL_SYM_NONE;
        if (kl_str_eq(kl_sym_name(sym), name))
            return sym;
    }
}

uint32_t kl_sym_find(struct kl_str name)
{
    uint64_t key = kl_name_key(name.p, name.n);
    for (uint32_t i = (uint32_t)(key * KL_GOLDEN >> 52);; i = (i + 1) % KL_SYM_SLOTS) {
        uint32_t sym = kl_sym_slots[i];
        if (!sym)
            break;
        const struct kl_sym_row *row = &kl_sym_rows[sym];
        if (row->n == name.n && memcmp(kl_sym_texts + row->offset + 1, name.p, name.n) == 0)
            return sym;
    }
    return find_dynamic(atomic_load_explicit(&dynamic.table, memory_order_acquire), name, key);
}

static void put_slot(struct slot_table *t, uint32_t sym, uint64_t key)
{
    uint32_t i = (uint32_t)(key * KL_GOLDEN >> 32) & t->mask;
    while (atomic_load_explicit(&t->slots[i], memory_order_relaxed))
        i = (i + 1) & t->mask;
    atomic_store_explicit(&t->slots[i], sym, memory_order_release);
}

// Keeps the table at most half full. The lock is held.
static struct slot_table *grow_table(void)
{
    struct slot_table *old = atomic_load_explicit(&dynamic.table, memory_order_relaxed);
    uint32_t cap = old ? old->mask + 1 : 0;
    if (old && dynamic.n < cap / 2)
        return old;
    cap = cap ? cap * 2 : 1024;
    struct slot_table *t = calloc(1, sizeof(*t) + cap * sizeof(t->slots[0]));
    if (!t)
        return NULL;
    t->mask = cap - 1;
    t->outgrown = old;
    for (uint32_t i = 0; i < dynamic.n; i++) {
        struct kl_str name = kl_sym_name(KL_SYM_BUILTIN_END + i);
        put_slot(t, KL_SYM_BUILTIN_END + i, kl_name_key(name.p, name.n));
    }
    atomic_store_explicit(&dynamic.table, t, memory_order_release);
    return t;
}

static uint32_t add_dynamic(struct kl_str name, uint64_t key)
{
    struct slot_table *t = grow_table();
    if (!t || dynamic.n == DYNAMIC_MAX || name.n > 65536)
        return KL_SYM_NONE;
    uint32_t i = dynamic.n;
    struct dynamic_row *chunk =
        atomic_load_explicit(&dynamic.chunks[i / ROWS_PER_CHUNK], memory_order_relaxed);
    if (!chunk) {
        chunk = calloc(ROWS_PER_CHUNK, sizeof(*chunk));
        if (!chunk)
            return KL_SYM_NONE;
        atomic_store_explicit(&dynamic.chunks[i / ROWS_PER_CHUNK], chunk, memory_order_release);
    }
    char *text = calloc(1, name.n + 4 + KL_SYM_SLACK);
    if (!text)
        return KL_SYM_NONE;
    text[0] = '"';
    memcpy(text + 1, name.p, name.n);
    memcpy(text + 1 + name.n, "\":", 3);
    chunk[i % ROWS_PER_CHUNK].n = (uint32_t)name.n;
    chunk[i % ROWS_PER_CHUNK].text = text;
    dynamic.n++;
    put_slot(t, KL_SYM_BUILTIN_END + i, key);
    return KL_SYM_BUILTIN_END + i;
}

uint32_t kl_sym_intern(struct kl_str name)
{
    uint32_t sym = kl_sym_find(name);
    if (sym != KL_SYM_NONE)
        return sym;
    uint64_t key = kl_name_key(name.p, name.n);
    pthread_mutex_lock(&dynamic.lock);
    sym = find_dynamic(atomic_load_explicit(&dynamic.table, memory_order_relaxed), name, key);
    if (sym == KL_SYM_NONE)
        sym = add_dynamic(name, key);
    pthread_mutex_unlock(&dynamic.lock);
    return sym;
}

// SPDX-License-Identifier: Apache-2.0
// Open addressing with linear probing. A slot is live (key.p set), deleted (value is DELETED) or
// empty; the table holds at most 3/4 live and deleted slots.
#include "base/map.h"
#include "base/err.h"
#include <stdlib.h>

enum { FIRST_SLOTS = 8 };

static char deleted_mark;
#define DELETED ((void *)&deleted_mark)

void kl_map_init(struct kl_map *m)
{
    *m = (struct kl_map){0};
}

void kl_map_fini(struct kl_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        free((void *)m->slots[i].key.p);
    free(m->slots);
    *m = (struct kl_map){0};
}

static bool is_empty(const struct kl_map_entry *e)
{
    return !e->key.p && !e->value;
}

static struct kl_map_entry *find_entry(const struct kl_map *m, struct kl_str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct kl_map_entry *e = &m->slots[i];
        if (is_empty(e))
            return NULL;
        if (e->key.p && e->hash == hash && kl_str_eq(e->key, key))
            return e;
    }
}

void *kl_map_get(const struct kl_map *m, struct kl_str key)
{
    if (m->n == 0)
        return NULL;
    struct kl_map_entry *e = find_entry(m, key, kl_str_hash(key));
    return e ? e->value : NULL;
}

// Where a key that is not there goes.
static struct kl_map_entry *find_room(struct kl_map_entry *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].key.p)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

// Makes the table at most half full without its deleted slots; it may shrink too.
static int rehash(struct kl_map *m)
{
    size_t cap = FIRST_SLOTS;
    while (cap / 2 < m->n + 1) {
        if (cap > SIZE_MAX / 2 / sizeof(*m->slots))
            return KL_ENOMEM;
        cap *= 2;
    }
    struct kl_map_entry *slots = calloc(cap, sizeof(*slots));
    if (!slots)
        return KL_ENOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].key.p)
            *find_room(slots, cap, m->slots[i].hash) = m->slots[i];
    }
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->used = m->n;
    return 0;
}

int kl_map_set(struct kl_map *m, struct kl_str key, void *value, void **ret_old)
{
    uint64_t hash = kl_str_hash(key);
    struct kl_map_entry *e = find_entry(m, key, hash);
    if (e) {
        if (ret_old)
            *ret_old = e->value;
        e->value = value;
        return 0;
    }
    if (m->used + 1 > m->cap / 4 * 3) {
        int r = rehash(m);
        if (r)
            return r;
    }
    char *copy = key.n < SIZE_MAX ? malloc(key.n + 1) : NULL;
    if (!copy)
        return KL_ENOMEM;
    if (key.n)
        memcpy(copy, key.p, key.n);
    copy[key.n] = 0;
    e = find_room(m->slots, m->cap, hash);
    m->used += is_empty(e);
    *e = (struct kl_map_entry){{copy, key.n}, value, hash};
    m->n++;
    if (ret_old)
        *ret_old = NULL;
    return 0;
}

void *kl_map_del(struct kl_map *m, struct kl_str key)
{
    struct kl_map_entry *e = m->n ? find_entry(m, key, kl_str_hash(key)) : NULL;
    if (!e)
        return NULL;
    void *value = e->value;
    free((void *)e->key.p);
    *e = (struct kl_map_entry){.value = DELETED};
    m->n--;
    // Deleted slots before an empty one stop no probe: make them empty.
    size_t mask = m->cap - 1, i = (size_t)(e - m->slots);
    if (is_empty(&m->slots[(i + 1) & mask])) {
        for (; !m->slots[i].key.p && m->slots[i].value == DELETED; i = (i - 1) & mask) {
            m->slots[i].value = NULL;
            m->used--;
        }
    }
    return value;
}

struct kl_map_entry *kl_map_next(const struct kl_map *m, size_t *it)
{
    while (*it < m->cap) {
        struct kl_map_entry *e = &m->slots[(*it)++];
        if (e->key.p)
            return e;
    }
    return NULL;
}

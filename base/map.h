// SPDX-License-Identifier: Apache-2.0
// A hash table from byte strings to pointers. Keys are copied. Not thread-safe.
#pragma once
#include "base/str.h"

struct kl_map_entry {
    struct kl_str key; // owned by the table, NUL-terminated
    void *value;
    uint64_t hash;
};

struct kl_map {
    struct kl_map_entry *slots;
    size_t n, cap, used; // used: live and deleted slots
};

void kl_map_init(struct kl_map *m);
void kl_map_fini(struct kl_map *m); // frees keys; values are the caller's
void *kl_map_get(const struct kl_map *m, struct kl_str key);
// Sets key to value (not NULL). *ret_old (may be NULL) gets what was there. KL_ENOMEM.
int kl_map_set(struct kl_map *m, struct kl_str key, void *value, void **ret_old);
void *kl_map_del(struct kl_map *m, struct kl_str key); // what was there, or NULL
// Walks in no order: start with *it = 0; NULL at the end. Deleting the entry just returned is
// allowed while walking, adding is not.
struct kl_map_entry *kl_map_next(const struct kl_map *m, size_t *it);
#define KL_MAP_EACH(m, e)                                                                          \
    for (size_t it_##e = 0, once_##e = 1; once_##e; once_##e = 0)                                  \
        for (struct kl_map_entry * e; (e = kl_map_next((m), &it_##e));)

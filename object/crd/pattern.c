// SPDX-License-Identifier: Apache-2.0
// Compiled patterns of a schema, made when first used; the oldest goes when there are too many.
#include "object/cel/re2_int.h"
#include "object/crd/crd_int.h"
#include <stdlib.h>

struct entry {
    uint64_t hash;
    char *pattern;
    size_t n;
    void *re;
    atomic_uint *refs; // a match goes on while another thread drops the entry
};

struct crd_patterns {
    struct entry of[CRD_PATTERNS_MAX];
    uint32_t n, next;
};

static void drop(struct entry *e)
{
    if (e->refs && atomic_fetch_sub_explicit(e->refs, 1, memory_order_acq_rel) == 1) {
        cel_regex_free(e->re);
        free(e->pattern);
        free(e->refs);
    }
}

void crd_patterns_free(struct crd_patterns *p)
{
    for (uint32_t i = 0; p && i < p->n; i++)
        drop(&p->of[i]);
    free(p);
}

static bool find(struct kl_crd_schema *cache, uint64_t hash, struct kl_str pattern,
                 struct entry *ret)
{
    bool found = false;
    pthread_mutex_lock(&cache->lock);
    const struct crd_patterns *p = cache->patterns;
    for (uint32_t i = 0; p && i < p->n && !found; i++)
        if (p->of[i].hash == hash && p->of[i].n == pattern.n &&
            !memcmp(p->of[i].pattern, pattern.p, pattern.n)) {
            *ret = p->of[i];
            atomic_fetch_add_explicit(ret->refs, 1, memory_order_relaxed);
            found = true;
        }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

// Takes a reference of its own when it keeps the entry.
static void keep(struct kl_crd_schema *cache, struct entry *e)
{
    struct entry old = {0};
    pthread_mutex_lock(&cache->lock);
    if (!cache->patterns)
        cache->patterns = calloc(1, sizeof *cache->patterns);
    struct crd_patterns *p = cache->patterns;
    if (p) {
        uint32_t at = p->n < CRD_PATTERNS_MAX ? p->n++ : p->next++ % CRD_PATTERNS_MAX;
        old = p->of[at];
        atomic_fetch_add_explicit(e->refs, 1, memory_order_relaxed);
        p->of[at] = *e;
    }
    pthread_mutex_unlock(&cache->lock);
    drop(&old);
}

int crd_pattern_match(struct kl_crd_schema *cache, struct kl_str pattern, struct kl_str text,
                      struct kl_arena *a, bool *ret_match, struct kl_str *ret_error)
{
    uint64_t hash = kl_str_hash(pattern);
    struct entry e = {.hash = hash, .n = pattern.n};
    *ret_error = KL_STR("");
    *ret_match = false;
    if (!cache || !find(cache, hash, pattern, &e)) {
        e.re = cel_regex_new(pattern, a, ret_error);
        if (!e.re)
            return KL_EINVALID;
        e.pattern = malloc(pattern.n + 1);
        e.refs = malloc(sizeof *e.refs);
        if (!e.pattern || !e.refs) {
            cel_regex_free(e.re);
            free(e.pattern);
            free(e.refs);
            *ret_error = KL_STR("out of memory");
            return KL_ENOMEM;
        }
        memcpy(e.pattern, pattern.p, pattern.n);
        atomic_init(e.refs, 1);
        if (cache)
            keep(cache, &e);
    }
    *ret_match = cel_regex_find(e.re, text, 0, NULL, NULL);
    drop(&e);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "object/crd/build_int.h"
#include <stdlib.h>

enum { WORDS_MAX = KL_CRD_BYTES_MAX / 4, TEXT_MAX = KL_CRD_BYTES_MAX };

int crd_builder_init(struct crd_builder *b)
{
    *b = (struct crd_builder){.nw = 2, .ntext = 8}; // 0 is nowhere
    kl_arena_init(&b->arena, 0);
    b->w = calloc(b->capw = 256, sizeof *b->w);
    b->text = calloc(b->captext = 1024, 1);
    return b->w && b->text ? 0 : KL_ENOMEM;
}

void crd_builder_fini(struct crd_builder *b)
{
    free(b->w);
    free(b->text);
    free(b->runs.slots);
    free(b->texts.slots);
    kl_arena_fini(&b->arena);
}

static uint32_t hash_bytes(const void *p, size_t n)
{
    return (uint32_t)kl_str_hash((struct kl_str){p, n});
}

static int grow_table(struct crd_table *t, const void *base, size_t width)
{
    uint32_t cap = t->cap ? 2 * t->cap : 256;
    struct crd_slot *slots = calloc(cap, sizeof *slots);
    if (!slots)
        return KL_ENOMEM;
    for (uint32_t i = 0; i < t->cap; i++) {
        struct crd_slot s = t->slots[i];
        if (!s.n)
            continue;
        const char *p = (const char *)base + s.at * width;
        uint32_t h = hash_bytes(p, s.n) & (cap - 1);
        while (slots[h].n)
            h = (h + 1) & (cap - 1);
        slots[h] = s;
    }
    free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return 0;
}

// The slot of these bytes, or the free one for them. NULL: out of memory.
static struct crd_slot *find_slot(struct crd_table *t, const void *base, size_t width,
                                  const void *bytes, size_t n)
{
    if (2 * t->used >= t->cap && grow_table(t, base, width))
        return NULL;
    uint32_t h = hash_bytes(bytes, n) & (t->cap - 1);
    for (;; h = (h + 1) & (t->cap - 1)) {
        struct crd_slot *s = &t->slots[h];
        if (!s->n || (s->n == n && memcmp((const char *)base + s->at * width, bytes, n) == 0))
            return s;
    }
}

static int make_room(void **p, size_t *cap, size_t width, size_t want, size_t max)
{
    size_t more = *cap;
    if (want <= *cap)
        return 0;
    if (want > max)
        return KL_ELIMIT;
    while (more < want)
        more *= 2;
    void *q = realloc(*p, more * width);
    if (!q)
        return KL_ENOMEM;
    *p = q;
    *cap = more;
    return 0;
}

int crd_put_words(struct crd_builder *b, const uint32_t *w, size_t n, uint32_t *ret)
{
    struct crd_slot *s = find_slot(&b->runs, b->w, sizeof *w, w, n * sizeof *w);
    if (!s)
        return KL_ENOMEM;
    if (!s->n) {
        void *p = b->w;
        int r = make_room(&p, &b->capw, sizeof *w, b->nw + n, WORDS_MAX);
        b->w = p;
        if (r)
            return r;
        memcpy(b->w + b->nw, w, n * sizeof *w);
        *s = (struct crd_slot){(uint32_t)b->nw, (uint32_t)(n * sizeof *w)};
        b->nw += n;
        b->runs.used++;
    }
    *ret = s->at;
    return 0;
}

int crd_put_text(struct crd_builder *b, struct kl_str text, uint32_t *ret)
{
    uint32_t n = (uint32_t)text.n;
    if (text.n > TEXT_MAX)
        return KL_ELIMIT;
    char *bytes = kl_arena_alloc(&b->arena, text.n + 4);
    if (!bytes)
        return KL_ENOMEM;
    memcpy(bytes, &n, 4);
    if (n)
        memcpy(bytes + 4, text.p, n);
    struct crd_slot *s = find_slot(&b->texts, b->text, 1, bytes, text.n + 4);
    if (!s)
        return KL_ENOMEM;
    if (!s->n) {
        void *p = b->text;
        int r = make_room(&p, &b->captext, 1, b->ntext + text.n + 4, TEXT_MAX);
        b->text = p;
        if (r)
            return r;
        memcpy(b->text + b->ntext, bytes, text.n + 4);
        *s = (struct crd_slot){(uint32_t)b->ntext, n + 4};
        b->ntext += text.n + 4;
        b->texts.used++;
    }
    *ret = s->at;
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "object/validate/earlier_int.h"
#include <stdlib.h>

struct item {
    const struct kl_value *v;
    uint32_t at;
};

struct order {
    const kl_sym *fields;
    size_t n;
};

static int compare(const struct item *x, const struct item *y, const struct order *o)
{
    for (size_t i = 0; i < o->n; i++) {
        const struct kl_value *a = kl_get(x->v, o->fields[i]), *b = kl_get(y->v, o->fields[i]);
        int c = kl_str_cmp(kl_text(a), kl_text(b));
        int64_t m = kl_int_or(a, 0), n = kl_int_or(b, 0);
        if (c || m != n)
            return c ? c : m < n ? -1 : 1;
    }
    return 0;
}

static int by_fields(const void *a, const void *b, void *arg)
{
    const struct item *x = a, *y = b;
    int c = compare(x, y, arg);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

const uint32_t *kl_v_earlier(struct kl_v *c, const struct kl_value *list, const kl_sym *fields,
                             size_t nfields)
{
    struct order o = {fields, nfields};
    size_t n = kl_len(list);
    struct item *items = kl_arena_alloc(c->f->arena, (n + 1) * sizeof *items);
    uint32_t *earlier = kl_arena_alloc(c->f->arena, (n + 1) * sizeof *earlier);
    if (!items || !earlier) {
        kl_v_internal(c, &c->spec, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){kl_at(list, i), (uint32_t)i};
    if (n)
        qsort_r(items, n, sizeof *items, by_fields, &o);
    for (size_t i = 0; i < n; i++)
        earlier[items[i].at] =
            i && !compare(&items[i - 1], &items[i], &o) ? items[i - 1].at : KL_V_NONE;
    return earlier;
}

bool kl_v_texts_init(struct kl_v *c, struct kl_v_texts *t, const struct kl_value *list)
{
    *t = (struct kl_v_texts){kl_arena_alloc(c->f->arena, (kl_len(list) + 1) * sizeof *t->v), 0};
    if (!t->v) {
        kl_v_internal(c, &c->spec, "out of memory");
        return false;
    }
    for (KL_EACH(x, list))
        t->v[t->n++] = kl_text(x);
    if (t->n)
        qsort(t->v, t->n, sizeof *t->v, kl_str_order);
    return true;
}

bool kl_v_texts_has(const struct kl_v_texts *t, struct kl_str s)
{
    return t->n && bsearch(&s, t->v, t->n, sizeof *t->v, kl_str_order);
}

// SPDX-License-Identifier: Apache-2.0
#include "object/quota/amounts.h"
#include "base/buf.h"

enum { TEXT_MAX_BYTES = 1 << 20 };

// Where the name is, or would be.
static size_t place(const struct kl_amounts *l, struct kl_str name, bool *found)
{
    size_t lo = 0, hi = l->n;
    *found = false;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = kl_str_cmp(l->v[mid].name, name);
        if (!c) {
            *found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct kl_amount *kl_amounts_get(const struct kl_amounts *l, struct kl_str name)
{
    bool found;
    size_t i = place(l, name, &found);
    return found ? &l->v[i] : NULL;
}

static struct kl_amount *insert(struct kl_amounts *l, size_t at)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct kl_amount *v = kl_arena_alloc(l->arena, cap * sizeof *v);
        if (!v) {
            l->failed = true;
            return NULL;
        }
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
        l->cap = cap;
    }
    memmove(l->v + at + 1, l->v + at, (l->n - at) * sizeof *l->v);
    l->n++;
    return &l->v[at];
}

void kl_amounts_set(struct kl_amounts *l, struct kl_str name, const struct kl_quantity *q)
{
    bool found;
    size_t i = place(l, name, &found);
    struct kl_amount *x = found ? &l->v[i] : insert(l, i);
    if (x)
        *x = (struct kl_amount){name, *q};
}

void kl_amounts_set_int(struct kl_amounts *l, const char *name, int64_t value)
{
    struct kl_quantity q = {.nano = (__int128)value * 1000000000};
    kl_amounts_set(l, kl_str(name), &q);
}

void kl_amounts_add(struct kl_amounts *l, struct kl_str name, const struct kl_quantity *q)
{
    struct kl_amount *x = kl_amounts_get(l, name);
    if (x)
        kl_quantity_add(&x->q, q);
    else
        kl_amounts_set(l, name, q);
}

void kl_amounts_add_all(struct kl_amounts *l, const struct kl_amounts *more)
{
    for (size_t i = 0; i < more->n; i++)
        kl_amounts_add(l, more->v[i].name, &more->v[i].q);
    l->failed |= more->failed;
}

void kl_amounts_max_all(struct kl_amounts *l, const struct kl_amounts *more)
{
    for (size_t i = 0; i < more->n; i++) {
        const struct kl_amount *x = kl_amounts_get(l, more->v[i].name);
        if (!x || kl_quantity_cmp(&more->v[i].q, &x->q) > 0)
            kl_amounts_set(l, more->v[i].name, &more->v[i].q);
    }
    l->failed |= more->failed;
}

bool kl_amounts_equal(const struct kl_amounts *a, const struct kl_amounts *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!kl_str_eq(a->v[i].name, b->v[i].name) || kl_quantity_cmp(&a->v[i].q, &b->v[i].q))
            return false;
    return true;
}

void kl_amounts_read(struct kl_amounts *l, struct kl_arena *a, const struct kl_value *map)
{
    *l = (struct kl_amounts){.arena = a};
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_quantity q = {0};
        if (kl_quantity_parse(kl_text(kv + 1), &q, NULL))
            q = (struct kl_quantity){0};
        kl_amounts_set(l, kl_text(kv), &q);
    }
}

int kl_amounts_write(const struct kl_amounts *l, struct kl_value *ret_map)
{
    struct kl_value map = kl_new_map();
    if (l->failed)
        return KL_ENOMEM;
    for (size_t i = 0; i < l->n; i++) {
        char text[KL_QUANTITY_TEXT];
        struct kl_str s = {text, kl_quantity_text(&l->v[i].q, text)};
        s = kl_arena_dup(l->arena, s);
        if (!s.p || kl_map_set_value(l->arena, &map, l->v[i].name, kl_string(s)))
            return KL_ENOMEM;
    }
    *ret_map = map;
    return 0;
}

struct kl_str kl_amounts_text(const struct kl_amounts *l)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < l->n; i++) {
        char text[KL_QUANTITY_TEXT];
        size_t n = kl_quantity_text(&l->v[i].q, text);
        kl_buf_printf(&b, "%s%.*s=%.*s", i ? "," : "", KL_PRI(l->v[i].name), (int)n, text);
    }
    struct kl_str s = kl_arena_dup(l->arena, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s.p ? s : KL_STR("");
}

// SPDX-License-Identifier: Apache-2.0
// The block that kl_object_freeze made, copied with one member more or less in one of its structs.
// All that the tree refers to lies in the block, so that every pointer moves by the same amount, or
// by one node more when it leads behind the place.
#include "object/freeze.h"
#include "object/schema.h"
#include <stdlib.h>

struct move {
    uintptr_t from, edge; // the old block, and where the nodes begin that move farther
    uintptr_t to;
    ptrdiff_t shift; // of these, in bytes
};

static void *moved(const struct move *m, const void *p)
{
    uintptr_t at = (uintptr_t)p;
    return (void *)(m->to + (at - m->from) + (uintptr_t)(at >= m->edge ? m->shift : 0));
}

// *v lies in the new block and leads into the old one.
static void move_value(const struct move *m, struct kl_value *v)
{
    if (v->kind < KL_STRING)
        return;
    if (v->kind < KL_ARRAY) {
        v->s = v->n ? moved(m, v->s) : "";
        return;
    }
    v->items = v->n ? moved(m, v->items) : NULL;
    size_t n = v->kind == KL_MAP ? 2 * (size_t)v->n : v->n;
    for (size_t i = 0; i < n; i++)
        move_value(m, &v->items[i]);
}

static const struct kl_type *meta_type(const struct kl_object *o)
{
    const struct kl_field *f = kl_type_field(o->type, KL_F_metadata);
    return f && f->type->kind == KL_T_STRUCT && kl_type_field(f->type, KL_F_resourceVersion)
               ? f->type
               : NULL;
}

struct kl_object *kl_object_restamp(const struct kl_object *o, struct kl_str rv)
{
    const struct kl_value *meta = kl_get(&o->root, KL_F_metadata);
    const struct kl_type *t = meta_type(o);
    if (!t || !kl_is(meta, KL_STRUCT) || meta->n == 0)
        return NULL;
    // The place of the member in the order of the schema.
    const struct kl_field *own = kl_type_field(t, KL_F_resourceVersion);
    const struct kl_value *at = meta->items, *end = at + meta->n;
    while (at < end && kl_type_field(t, at->sym) < own)
        at++;
    bool had = at < end && at->sym == KL_F_resourceVersion, has = rv.n != 0;
    if (meta->n + has - had == 0)
        return NULL;
    const char *from = (const char *)(o + 1), *behind = (const char *)(at + had);
    size_t bytes = o->size_bytes - sizeof *o, head = (size_t)((const char *)at - from);
    size_t rest = (size_t)(from + bytes - behind), total;
    total = sizeof *o + head + has * sizeof *at + rest + rv.n;
    struct kl_object *made = total <= UINT32_MAX ? malloc(total) : NULL;
    if (!made)
        return NULL;
    char *to = (char *)(made + 1), *text = (char *)made + total - rv.n;
    memcpy(to, from, head);
    memcpy(to + head + has * sizeof *at, behind, rest);
    if (has)
        memcpy(text, rv.p, rv.n);
    atomic_init(&made->refs, 1);
    made->size_bytes = (uint32_t)total;
    made->type = o->type;
    made->root = o->root;
    // A list that begins where the member is put begins behind it now; metadata's own does not.
    struct move m = {.from = (uintptr_t)from,
                     .edge = (uintptr_t)behind,
                     .to = (uintptr_t)to,
                     .shift = ((ptrdiff_t)has - had) * (ptrdiff_t)sizeof *at};
    made->root.items = moved(&m, o->root.items);
    for (uint32_t i = 0; i < made->root.n; i++) {
        struct kl_value *v = &made->root.items[i];
        if (&o->root.items[i] != meta) {
            move_value(&m, v);
            continue;
        }
        v->n = meta->n + has - had;
        v->items = (struct kl_value *)(to + ((const char *)meta->items - from));
        struct kl_value *own_place = (struct kl_value *)(to + head);
        for (struct kl_value *x = v->items; x < v->items + v->n; x++)
            if (!has || x != own_place)
                move_value(&m, x);
        if (has) {
            *own_place = kl_string((struct kl_str){text, rv.n});
            own_place->sym = KL_F_resourceVersion;
        }
    }
    if (o->type && o->type->custom)
        kl_custom_type_ref(o->type);
    return made;
}

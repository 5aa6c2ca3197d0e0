// SPDX-License-Identifier: Apache-2.0
// Pruning of what the schema does not know, and of nulls that it does not allow, in one walk
// (apiserver/schema/pruning, /defaulting/prunenulls.go).
//
// Trees are not changed: a level that loses something is copied.
#include "object/crd/crd_int.h"
#include <stdlib.h>

enum { UNKNOWN_MAX = 2048 };

enum mode {
    PRUNE,
    SKIP,  // unknown fields are kept, those of declared ones below are not
    NULLS, // nothing but nulls is dropped
};

struct pruner {
    struct kl_arena *a;
    const struct crd_words *s;
    bool track, keep_nulls;
    struct kl_str *unknown;
    size_t n, cap;
    int depth, err;
};

struct place {
    crd_ref node;
    enum mode mode;
    bool embedded;
};

static bool walk(struct pruner *c, struct place at, const struct crd_path *path,
                 const struct kl_value *v, struct kl_value *out);

static void note(struct pruner *c, const struct crd_path *up, struct kl_str name)
{
    struct crd_path path = {.up = up, .name = name};
    if (!c->track || c->n == UNKNOWN_MAX)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        struct kl_str *more = kl_arena_alloc(c->a, cap * sizeof *more);
        if (!more) {
            c->err = KL_ENOMEM;
            return;
        }
        if (c->n)
            memcpy(more, c->unknown, c->n * sizeof *more);
        c->unknown = more;
        c->cap = cap;
    }
    struct kl_str text = crd_path_text(c->a, &path);
    if (text.p)
        c->unknown[c->n++] = text;
    else
        c->err = KL_ENOMEM;
}

// What becomes of a member: false when it goes. *ret_below: how to go on below it.
static bool member_stays(struct pruner *c, struct place at, const struct crd_path *path,
                         const struct kl_value *key, struct place *ret_below, bool *ret_visit)
{
    struct kl_str name = kl_text(key);
    crd_ref schema = crd_member(c->s, at.node, name);
    bool meta = crd_is_meta(name);
    *ret_below = (struct place){.node = schema, .mode = NULLS};
    *ret_visit = schema != 0;
    if (at.mode == NULLS || (at.node && at.embedded && meta)) {
        // Its unknown fields are not looked for here.
    } else if (at.node && crd_prop(c->s, at.node, name)) {
        ret_below->mode = PRUNE;
    } else if (at.node && crd_has_extra(c->s, at.node)) {
        ret_below->mode = PRUNE;
        *ret_visit = true; // also without a schema: all goes then
    } else if (at.mode == PRUNE) {
        if (!meta || path || !at.node)
            note(c, path, name);
        return false;
    }
    ret_below->embedded = schema && (crd_flags(c->s, schema) & CRD_EMBEDDED);
    return !(schema && !c->keep_nulls && key[1].kind == KL_NULL &&
             !(crd_flags(c->s, schema) & CRD_NULLABLE) && !crd_attr(c->s, schema, CRD_DEFAULT));
}

static bool walk_map(struct pruner *c, struct place at, const struct crd_path *path,
                     const struct kl_value *v, struct kl_value *out)
{
    struct kl_value *items = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n && !c->err; i++) {
        const struct kl_value *key = &v->items[2 * (size_t)i];
        struct kl_value value = key[1];
        struct crd_path here = {.up = path, .name = kl_text(key)};
        struct place below;
        bool visit, stays = member_stays(c, at, path, key, &below, &visit), changed = false;
        if (stays && visit && value.kind >= KL_ARRAY)
            changed = walk(c, below, &here, key + 1, &value);
        if ((!stays || changed) && !items) {
            items = crd_own_items(c->a, v, n);
            if (!items) {
                c->err = KL_ENOMEM;
                return false;
            }
        }
        if (stays && items) {
            items[2 * n] = *key;
            items[2 * n + 1] = value;
            items[2 * n + 1].owned = 0;
        }
        n += stays;
    }
    if (items) {
        *out = kl_new_map();
        out->items = items;
        out->n = n;
    }
    return items != NULL;
}

static bool walk_array(struct pruner *c, struct place at, const struct crd_path *path,
                       const struct kl_value *v, struct kl_value *out)
{
    struct kl_value *items = NULL;
    struct place below = {at.node ? crd_attr(c->s, at.node, CRD_ITEMS) : 0, at.mode, false};
    if (!below.node && at.mode != PRUNE)
        return false;
    below.embedded = below.node && (crd_flags(c->s, below.node) & CRD_EMBEDDED);
    for (uint32_t i = 0; i < v->n && !c->err; i++) {
        struct crd_path here = {.up = path, .index = i};
        struct kl_value value = v->items[i];
        if (value.kind < KL_ARRAY || !walk(c, below, &here, &v->items[i], &value))
            continue;
        if (!items) {
            items = crd_own_items(c->a, v, v->n);
            if (!items) {
                c->err = KL_ENOMEM;
                return false;
            }
        }
        items[i] = value;
    }
    if (items) {
        *out = kl_new_array();
        out->items = items;
        out->n = v->n;
    }
    return items != NULL;
}

// Whether *out is not *v.
static bool walk(struct pruner *c, struct place at, const struct crd_path *path,
                 const struct kl_value *v, struct kl_value *out)
{
    bool changed = false;
    if (c->err)
        return false;
    if (c->depth >= KL_CRD_OBJECT_DEPTH_MAX) {
        c->err = KL_ELIMIT;
        return false;
    }
    if (at.node && at.mode == PRUNE && (crd_flags(c->s, at.node) & CRD_PRESERVE))
        at.mode = SKIP;
    c->depth++;
    if (v->kind == KL_MAP)
        changed = walk_map(c, at, path, v, out);
    else if (v->kind == KL_ARRAY)
        changed = walk_array(c, at, path, v, out);
    c->depth--;
    return changed;
}

static int note_all(struct kl_arena *a, struct kl_strict *strict, struct kl_str *paths, size_t n)
{
    qsort(paths, n, sizeof *paths, kl_str_order);
    for (size_t i = 0; i < n && strict->n < KL_STRICT_MAX; i++) {
        struct kl_str m = kl_arena_printf(a, "unknown field \"%.*s\"", KL_PRI(paths[i]));
        if (!m.p)
            return KL_ENOMEM;
        strict->messages[strict->n++] = m;
    }
    return 0;
}

int crd_prune(struct kl_arena *a, const struct crd_words *s, crd_ref node, bool root,
              bool keep_nulls, const struct kl_value *v, struct kl_strict *strict,
              struct kl_value *ret)
{
    struct pruner c = {.a = a, .s = s, .track = strict != NULL, .keep_nulls = keep_nulls};
    struct place at = {node, PRUNE, root || (node && (crd_flags(s, node) & CRD_EMBEDDED))};
    struct kl_value out = *v;
    out.owned = 0;
    walk(&c, at, NULL, v, &out);
    if (!c.err && c.n)
        c.err = note_all(a, strict, c.unknown, c.n);
    if (!c.err)
        *ret = out;
    return c.err;
}

// SPDX-License-Identifier: Apache-2.0
// Server-side apply: lays a configuration over an object, takes away what its author no longer
// says and nobody else owns, and refuses to take from others (merge.Updater.Apply).
#include "object/apply/apply_int.h"
#include "object/json.h"

static int no_memory(struct kl_error *err)
{
    return kl_error_set(err, KL_ENOMEM, "out of memory");
}

// ---- pruning

// What `items` says is taken out of the tree.
static int without(struct kl_arena *a, const struct kl_tree *t, const struct kl_fieldset *items,
                   struct kl_tree *ret)
{
    *ret = *t;
    return kl_typed_remove(a, t->type, &t->v, items, &ret->v);
}

// The set of a tree with its named fields.
static const struct kl_fieldset *named_set(struct kl_arena *a, const struct kl_tree *t)
{
    const struct kl_fieldset *s;
    if (kl_typed_fieldset(a, t->type, &t->v, &s))
        return &kl_fieldset_oom;
    return kl_typed_name_members(a, t->type, s);
}

// Puts back what managers say they own in one version. KL_ENOTFOUND: there is no such version.
static int add_back_version(struct kl_apply *p, struct kl_str api_version,
                            const struct kl_fieldset *managed, struct kl_tree *merged,
                            struct kl_tree *pruned)
{
    struct kl_arena *a = p->env->arena;
    struct kl_tree m, q;
    const char *what = "merged";
    int rc = kl_tree_convert(p->env, merged, api_version, &m, p->err);
    if (!rc && (rc = kl_tree_convert(p->env, pruned, api_version, &q, p->err)))
        what = "pruned";
    if (rc == KL_EINVALID)
        kl_error_wrap(p->err,
                      "failed add back owned items: failed to convert %s object at version %.*s",
                      what, KL_PRI(api_version));
    if (rc)
        return rc;
    const struct kl_fieldset *kept =
        kl_fieldset_union(a, named_set(a, &q), kl_typed_name_members(a, q.type, managed));
    *merged = m;
    return without(a, &m, kl_fieldset_difference(a, named_set(a, &m), kept), pruned);
}

// One union of sets for each version that managers have, the pruned one first.
static int add_back_owned(struct kl_apply *p, struct kl_str first, struct kl_tree *merged,
                          struct kl_tree *pruned)
{
    struct kl_managed *x = p->managed;
    bool *done = kl_arena_zalloc(p->env->arena, (x->n + 1) * sizeof *done);
    struct kl_str version = first;
    if (!done)
        return no_memory(p->err);
    for (;;) {
        const struct kl_fieldset *managed = NULL;
        bool any = false;
        for (size_t i = 0; i < x->n; i++)
            if (!done[i] && !x->m[i].gone && kl_str_eq(x->m[i].api_version, version)) {
                managed = kl_fieldset_union(p->env->arena, managed, x->m[i].set);
                any = done[i] = true;
            }
        int rc = any ? add_back_version(p, version, managed, merged, pruned) : 0;
        if (rc && rc != KL_ENOTFOUND)
            return rc;
        size_t next = 0;
        while (next < x->n && (done[next] || x->m[next].gone))
            next++;
        if (next == x->n)
            return 0;
        version = x->m[next].api_version;
    }
}

// Only what the author owned the last time may go.
static int add_back_dangling(struct kl_apply *p, const struct kl_tree *merged,
                             const struct kl_tree *pruned, const struct kl_manager *last,
                             struct kl_tree *ret)
{
    struct kl_arena *a = p->env->arena;
    struct kl_tree q, m;
    int rc;
    if ((rc = kl_tree_convert(p->env, pruned, last->api_version, &q, p->err)) ||
        (rc = kl_tree_convert(p->env, merged, last->api_version, &m, p->err)))
        return kl_tree_wrap(rc, p->err,
                            "failed add back dangling items: failed to convert pruned object to "
                            "last applied version");
    const struct kl_fieldset *gone = kl_fieldset_difference(a, named_set(a, &m), named_set(a, &q));
    return without(
        a, &m, kl_fieldset_intersection(a, gone, kl_typed_name_members(a, m.type, last->set)), ret);
}

static int prune(struct kl_apply *p, const struct kl_manager *last, struct kl_tree *tree)
{
    struct kl_arena *a = p->env->arena;
    struct kl_tree merged, pruned, left;
    int rc = kl_tree_convert(p->env, tree, last->api_version, &merged, p->err);
    if (rc == KL_ENOTFOUND)
        return 0;
    kl_tree_wrap(rc, p->err, "failed to convert merged object to last applied version");
    if (rc || (rc = without(a, &merged, kl_typed_name_members(a, merged.type, last->set), &pruned)))
        return rc;
    struct kl_tree all = merged;
    if ((rc = add_back_owned(p, last->api_version, &all, &pruned)) ||
        (rc = add_back_dangling(p, &merged, &pruned, last, &left)))
        return rc == KL_ENOTFOUND ? 0 : rc;
    return kl_tree_convert(p->env, &left, tree->api_version, tree, p->err);
}

// ---- the updater

// Recollects what was written under older schemas, forgets managers of versions that are gone.
static int reconcile_all(struct kl_apply *p)
{
    struct kl_managed *x = p->managed;
    for (size_t i = 0; i < x->n; i++) {
        const struct kl_resource *res;
        const struct kl_type *type = kl_tree_type(p->env, x->m[i].api_version, &res);
        if (!type) {
            x->m[i].gone = true;
            continue;
        }
        const struct kl_fieldset *s = kl_typed_reconcile(p->env->arena, type, x->m[i].set);
        if (s == &kl_fieldset_oom)
            return no_memory(p->err);
        if (s != x->m[i].set)
            kl_manager_set(&x->m[i], s);
    }
    return 0;
}

int kl_apply_step(struct kl_apply *p)
{
    struct kl_arena *a = p->env->arena;
    struct kl_managed *x = p->managed;
    struct kl_tree is = p->live;
    struct kl_manager last = {0};
    const struct kl_fieldset *set;
    int rc = kl_managed_check_live(p->env, x, &is, p->err);
    rc = rc ? rc : reconcile_all(p);
    rc = rc ? rc
            : kl_tree_wrap(kl_typed_merge(a, is.type, &p->live.v, &p->config, &is.v, p->err),
                           p->err, "failed to merge config");
    if (rc)
        return rc;
    if (kl_typed_fieldset(a, is.type, &p->config, &set))
        return no_memory(p->err);
    set = kl_fieldset_recursive_difference(a, set, kl_managed_reset(p->env));
    struct kl_manager *own = kl_managed_find(x, &p->who);
    if (own)
        last = *own;
    else if (!(own = kl_managed_add(x, &p->who)))
        return no_memory(p->err);
    kl_manager_set(own, set);
    own->gone = false;
    own->api_version = p->who.api_version;
    if (last.set && (rc = kl_tree_wrap(prune(p, &last, &is), p->err, "failed to prune fields")))
        return rc == KL_ENOMEM ? no_memory(p->err) : rc;
    struct kl_managed_change c = {
        .was = &p->live, .is = &is, .self = own, .force = p->force, .conflicts = &p->conflicts};
    if ((rc = kl_managed_take(p->env, x, &c, p->err)))
        return rc;
    set = kl_fieldset_difference(a, set, kl_managed_stripped(a));
    if (set == &kl_fieldset_oom)
        return no_memory(p->err);
    kl_manager_set(own, set);
    if (last.set && last.text.p && kl_fieldset_equal(set, last.set))
        own->text = last.text;
    p->changed = !kl_value_equal(&p->live.v, &is.v);
    p->result = is.v;
    if (p->changed) {
        own->has_time = true;
        own->time_us = p->env->now_us;
    }
    return 0;
}

// ---- conflicts

static int cmp_by_id(const struct kl_str *ids, const struct kl_manager *m, size_t a, size_t b)
{
    (void)m;
    return kl_str_cmp(ids[a], ids[b]);
}

struct listing {
    struct kl_arena *a;
    struct kl_apply_result *out;
    struct kl_buf *text;
    struct kl_str manager;
    bool failed;
};

static void list_path(void *arg, const struct kl_elem *const *path, size_t n)
{
    struct listing *l = arg;
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    for (size_t i = 0; i < n; i++)
        kl_elem_show(&b, path[i]);
    struct kl_str s = kl_arena_dup(l->a, kl_buf_str(&b));
    kl_buf_fini(&b);
    l->failed |= !s.p;
    l->out->conflicts[l->out->nconflicts++] = (struct kl_apply_conflict){l->manager, s};
    kl_buf_printf(l->text, "\n- %.*s", KL_PRI(s));
}

static struct kl_str show_manager(struct kl_arena *a, const struct kl_manager *m)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_go_quote(&b, m->name);
    if (m->subresource.n) {
        kl_buf_puts(&b, KL_STR(" with subresource "));
        kl_go_quote(&b, m->subresource);
    }
    if (!m->applied)
        kl_buf_printf(&b, " using %.*s", KL_PRI(m->api_version));
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static struct kl_str message_of(struct kl_arena *a, const struct kl_apply_result *r,
                                struct kl_str text)
{
    if (r->nconflicts == 1)
        return kl_arena_printf(a, "Apply failed with 1 conflict: conflict with %.*s: %.*s",
                               KL_PRI(r->conflicts[0].manager), KL_PRI(r->conflicts[0].path));
    return kl_arena_printf(a, "Apply failed with %zu conflicts: %.*s", r->nconflicts, KL_PRI(text));
}

int kl_apply_list(struct kl_apply *p, struct kl_apply_result *ret)
{
    struct kl_arena *a = p->env->arena;
    struct kl_managed *x = &p->conflicts;
    struct kl_str *ids = kl_arena_alloc(a, (x->n + 1) * sizeof *ids);
    size_t *order = kl_arena_alloc(a, (x->n + 1) * sizeof *order), total = 0;
    struct kl_buf text;
    struct listing l = {.a = a, .out = ret, .text = &text};
    if (!ids || !order)
        return no_memory(p->err);
    for (size_t i = 0; i < x->n; i++) {
        ids[i] = kl_manager_id(a, &x->m[i]);
        total += kl_fieldset_size(x->m[i].set);
        size_t j = i;
        for (; j && cmp_by_id(ids, x->m, order[j - 1], i) > 0; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
    if (!(ret->conflicts = kl_arena_alloc(a, (total + 1) * sizeof *ret->conflicts)))
        return no_memory(p->err);
    kl_buf_init(&text, 1 << 20);
    ret->nconflicts = 0;
    for (size_t i = 0; i < x->n; i++) {
        l.manager = show_manager(a, &x->m[order[i]]);
        kl_buf_printf(&text, "%sconflicts with %.*s:", i ? "\n" : "", KL_PRI(l.manager));
        kl_fieldset_each(x->m[order[i]].set, list_path, &l);
    }
    ret->message = message_of(a, ret, kl_buf_str(&text));
    kl_buf_fini(&text);
    return l.failed || !ret->message.p ? no_memory(p->err) : KL_ECONFLICT;
}

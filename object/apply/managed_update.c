// SPDX-License-Identifier: Apache-2.0
// What a write takes from the managers there are, and gives to the one that writes.
#include "object/apply/managed_int.h"
#include "object/custom.h"
#include "object/convert.h"
#include "object/freeze.h"
#include "object/json.h"

// ---- fixed sets

#define NAME(lit)                                                                                  \
    {                                                                                              \
        .elem = {.kind = KL_ELEM_FIELD, .name = KL_STR_INIT(lit)}, .member = true                  \
    }
static const struct kl_fieldset head_meta = {
    .n = 9,
    .nodes = {NAME("clusterName"), NAME("creationTimestamp"), NAME("generation"),
              NAME("managedFields"), NAME("name"), NAME("namespace"), NAME("resourceVersion"),
              NAME("selfLink"), NAME("uid")}};
static const struct kl_fieldset head = {
    .n = 3,
    .nodes = {NAME("apiVersion"),
              NAME("kind"),
              {.elem = {.kind = KL_ELEM_FIELD, .name = KL_STR_INIT("metadata")},
               .member = true,
               .children = &head_meta}}};

const struct kl_fieldset *kl_managed_stripped(struct kl_arena *a)
{
    (void)a;
    return &head;
}

const struct kl_fieldset *kl_managed_reset(const struct kl_managed_env *env)
{
    const struct kl_fieldset *s = NULL;
    struct kl_str rest = kl_str(env->reset), path;
    while (env->reset && kl_str_split(&rest, ' ', &path)) {
        const struct kl_fieldset *one = NULL;
        while (path.n) { // from the last name to the first
            size_t at = path.n;
            while (at && path.p[at - 1] != '.')
                at--;
            struct kl_fieldset_builder b = {0};
            struct kl_elem e = {.kind = KL_ELEM_FIELD, .name = kl_str_from(path, at)};
            kl_fieldset_add(env->arena, &b, &e, !one, one);
            one = kl_fieldset_build(env->arena, &b);
            path.n = at ? at - 1 : 0;
        }
        s = kl_fieldset_union(env->arena, s, one);
    }
    return s;
}

// ---- versions

static struct kl_str group_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? KL_STR("") : (struct kl_str){api_version.p, (size_t)slash};
}

static struct kl_str version_of(struct kl_str api_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    return slash < 0 ? api_version : kl_str_from(api_version, (size_t)slash + 1);
}

// A custom resource is looked at untyped: below its root it is. Where memory ends here, it ends for
// the next step as well.
static struct kl_value tree_value(struct kl_arena *a, const struct kl_type *type,
                                  const struct kl_value *v)
{
    struct kl_value untyped = kl_new_map();
    if (v->kind != KL_STRUCT || !type || !type->custom)
        return *v;
    return kl_untyped_from_typed(a, type, v, &untyped) ? kl_new_map() : untyped;
}

struct kl_tree kl_tree_of(const struct kl_managed_env *env, const struct kl_value *v)
{
    const struct kl_type *type = env->type ? env->type : env->res->type;
    return (struct kl_tree){.res = env->res,
                            .type = type,
                            .api_version =
                                kl_str(env->api_version ? env->api_version : env->res->api_version),
                            .v = tree_value(env->arena, type, v)};
}

static const struct kl_resource *custom_version(const struct kl_resource *res,
                                                struct kl_str api_version)
{
    if (!kl_str_eqz(group_of(api_version), res->group))
        return NULL;
    return kl_custom_row(res->custom->family, version_of(api_version));
}

const struct kl_type *kl_tree_type(const struct kl_managed_env *env, struct kl_str api_version,
                                   const struct kl_resource **ret_res)
{
    *ret_res = env->res;
    if (env->type)
        return kl_str_eqz(api_version, env->api_version) ? env->type : NULL;
    if (kl_str_eqz(api_version, env->res->api_version))
        return env->res->type;
    const struct kl_resource *r =
        env->res->custom ? custom_version(env->res, api_version)
                         : kl_resource_by_kind(group_of(api_version), version_of(api_version),
                                               kl_str(env->res->kind));
    if (!r || strcmp(r->plural, env->res->plural) != 0)
        return NULL;
    *ret_res = r;
    return r->type;
}

// By the version that is stored, as upstream by its internal one.
static int convert_typed(struct kl_arena *a, const struct kl_tree *t, const struct kl_resource *to,
                         const struct kl_value *in, struct kl_value *ret, struct kl_error *err)
{
    const struct kl_resource *hub = kl_resource_storage(t->res);
    struct kl_value v = *in;
    int rc = hub == t->res ? 0 : kl_convert(a, t->res, hub, &v, &v, err);
    if (!rc && hub != to)
        rc = kl_convert(a, hub, to, &v, &v, err);
    if (rc)
        return rc;
    rc = kl_draft_as_sent(a, to->type, NULL, &v, ret);
    return rc ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

static int set_head(struct kl_arena *a, struct kl_value *v, const struct kl_resource *res)
{
    if (kl_map_set_value(a, v, KL_STR("apiVersion"), kl_stringz(res->api_version)) ||
        kl_map_set_value(a, v, KL_STR("kind"), kl_stringz(res->kind)))
        return KL_ENOMEM;
    return kl_typed_sort(a, v);
}

// An object of nothing but its head is not shown to webhooks.
static bool is_bare(const struct kl_value *v)
{
    for (KL_MAP_EACH_KEY(kv, v))
        if (!kl_str_eqz(kl_text(kv), "apiVersion") && !kl_str_eqz(kl_text(kv), "kind"))
            return false;
    return true;
}

static int convert_by_webhook(const struct kl_managed_env *env, const struct kl_tree *t,
                              struct kl_tree *ret, struct kl_error *err)
{
    struct kl_value in = t->v;
    in.owned = 0;
    if (set_head(env->arena, &in, t->res))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = env->convert(env->convert_arg, t->res, ret->res, &in, &ret->v, err);
    if (!rc && kl_typed_sort(env->arena, &ret->v))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    return rc;
}

// Another version of a custom resource may not know what this one has. Upstream does not prune
// here: what it has no schema for fails the write of a set.
static int convert_custom(const struct kl_managed_env *env, const struct kl_tree *t,
                          struct kl_tree *ret, struct kl_error *err)
{
    int rc;
    if (env->convert && t->res->custom->family->webhook && !is_bare(&t->v)) {
        rc = convert_by_webhook(env, t, ret, err);
    } else {
        ret->v.owned = 0;
        rc = set_head(env->arena, &ret->v, ret->res);
    }
    return rc ? rc : kl_typed_validate(env->arena, ret->type, &ret->v, false, err);
}

int kl_tree_convert(const struct kl_managed_env *env, const struct kl_tree *t,
                    struct kl_str api_version, struct kl_tree *ret, struct kl_error *err)
{
    const struct kl_resource *to;
    const struct kl_type *type = kl_tree_type(env, api_version, &to);
    struct kl_value v;
    int rc = 0;
    if (!type)
        return KL_ENOTFOUND;
    *ret = *t;
    if (kl_str_eq(api_version, t->api_version))
        return 0;
    ret->res = to;
    ret->type = type;
    ret->api_version = kl_str(to->api_version);
    if (t->res->custom && t->v.kind != KL_STRUCT) {
        rc = convert_custom(env, t, ret, err);
        return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
    }
    if (t->v.kind == KL_STRUCT) {
        if (!kl_convert_needed(t->res, to))
            return 0; // the fields are the same
        return convert_typed(env->arena, t, to, &t->v, &ret->v, err);
    }
    if (!kl_convert_needed(t->res, to)) {
        ret->v.owned = 0;
        rc = set_head(env->arena, &ret->v, to);
    } else if (!(rc = kl_typed_from_untyped(env->arena, t->type, &t->v, NULL, &v, err)) &&
               !(rc = convert_typed(env->arena, t, to, &v, &v, err)) &&
               !(rc = kl_untyped_from_typed(env->arena, type, &v, &ret->v))) {
        rc = set_head(env->arena, &ret->v, to);
    }
    return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
}

int kl_tree_wrap(int rc, struct kl_error *err, const char *what)
{
    return rc == KL_EINVALID ? kl_error_wrap(err, "%s", what) : rc;
}

static bool seen_before(const struct kl_managed *x, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (!x->m[j].gone && kl_str_eq(x->m[j].api_version, x->m[i].api_version))
            return true;
    return false;
}

int kl_managed_check_live(const struct kl_managed_env *env, const struct kl_managed *x,
                          const struct kl_tree *live, struct kl_error *err)
{
    const struct kl_resource *ignored_res;
    struct kl_tree ignored;
    int rc = 0;
    if (!live->res->custom || env->type || live->v.kind == KL_STRUCT)
        return 0;
    for (size_t i = 0; i < x->n && !rc; i++) {
        struct kl_str version = x->m[i].api_version;
        if (x->m[i].gone || kl_str_eq(version, live->api_version) || seen_before(x, i))
            continue;
        if (!kl_tree_type(env, version, &ignored_res))
            rc = kl_error_set(err, KL_EINVALID,
                              "request to convert CR to an invalid group/version: %.*s",
                              KL_PRI(version));
        else if (!live->res->custom->family->webhook)
            rc = kl_tree_convert(env, live, version, &ignored, err);
    }
    return rc;
}

// ---- what changed, in each version that managers have

enum { VERSIONS = 8 };

struct changes {
    struct kl_str api_version;
    const struct kl_type *type;
    const struct kl_fieldset *changed, *removed; // added and modified; removed
};

struct taking {
    const struct kl_managed_env *env;
    struct kl_managed_change *c;
    const struct kl_fieldset *reset;
    bool same; // nothing at all changed
    struct changes of[VERSIONS];
    size_t n;
};

static bool is_empty(const struct kl_comparison *c)
{
    return !c->added && !c->modified && !c->removed;
}

static int compare_in(struct taking *t, struct kl_str api_version, struct kl_comparison *ret,
                      struct kl_error *err)
{
    struct kl_tree was, is;
    struct kl_arena *a = t->env->arena;
    int rc;
    if ((rc = kl_tree_convert(t->env, t->c->was, api_version, &was, err)))
        return kl_tree_wrap(rc, err, "failed to convert old object");
    if ((rc = kl_tree_convert(t->env, t->c->is, api_version, &is, err)))
        return kl_tree_wrap(rc, err, "failed to convert new object");
    if ((rc = kl_typed_compare(a, is.type, &was.v, &is.v, ret, err)))
        return rc;
    t->same = is_empty(ret);
    ret->added = kl_fieldset_recursive_difference(a, ret->added, t->reset);
    ret->modified = kl_fieldset_recursive_difference(a, ret->modified, t->reset);
    ret->removed = kl_fieldset_recursive_difference(a, ret->removed, t->reset);
    return 0;
}

static void keep(struct changes *x, struct kl_arena *a, const struct kl_comparison *c)
{
    x->changed = kl_fieldset_union(a, c->modified, c->added);
    x->removed = c->removed;
}

// 0, KL_ENOTFOUND or a failure.
static int changes_for(struct taking *t, struct kl_str api_version, struct changes *ret,
                       struct kl_error *err)
{
    const struct kl_resource *res;
    struct kl_comparison c = {0};
    int rc = 0;
    for (size_t i = 0; i < t->n; i++)
        if (kl_str_eq(t->of[i].api_version, api_version)) {
            *ret = t->of[i];
            return 0;
        }
    *ret = (struct changes){.api_version = api_version,
                            .type = kl_tree_type(t->env, api_version, &res)};
    if (!ret->type)
        return KL_ENOTFOUND;
    bool was_same = t->same;
    if (!t->same)
        rc = compare_in(t, api_version, &c, err);
    t->same = was_same;
    if (rc)
        return rc;
    keep(ret, t->env->arena, &c);
    if (t->n < VERSIONS)
        t->of[t->n++] = *ret;
    return 0;
}

static bool is_touched(const struct kl_manager *m, const struct changes *x)
{
    if (m->read)
        return true;
    return kl_fieldset_text_may_meet(m->text, x->changed) ||
           kl_fieldset_text_may_meet(m->text, x->removed);
}

// What is left to the manager, in *ret_left; its conflict into c->conflicts.
static int take_from(struct taking *t, struct kl_managed *x, struct kl_manager *m,
                     const struct kl_fieldset **ret_left, bool *ret_taken, struct kl_error *err)
{
    struct kl_arena *a = t->env->arena;
    struct changes ch;
    *ret_taken = false;
    int rc = changes_for(t, m->api_version, &ch, err);
    if (rc == KL_ENOTFOUND) { // upstream forgets managers of versions that are gone
        m->gone = true;
        return 0;
    }
    if (rc || (!ch.changed && !ch.removed) || !is_touched(m, &ch))
        return rc;
    if ((rc = kl_managed_read(x, m, err)))
        return rc;
    const struct kl_fieldset *set = kl_typed_reconcile(a, ch.type, m->set);
    const struct kl_fieldset *lost = kl_fieldset_intersection(a, set, ch.changed);
    *ret_left = set;
    if (lost) {
        struct kl_manager conflict = *m;
        conflict.set = lost;
        if (t->c->conflicts && !kl_managed_add(t->c->conflicts, &conflict))
            return KL_ENOMEM;
        *ret_left = kl_fieldset_difference(a, set, lost);
    }
    *ret_left = kl_fieldset_difference(a, *ret_left, ch.removed);
    *ret_taken = set != m->set || lost || kl_fieldset_meets(set, ch.removed);
    return *ret_left == &kl_fieldset_oom ? KL_ENOMEM : 0;
}

int kl_managed_take(const struct kl_managed_env *env, struct kl_managed *x,
                    struct kl_managed_change *c, struct kl_error *err)
{
    struct taking t = {.env = env, .c = c, .reset = kl_managed_reset(env)};
    const struct kl_fieldset **left = kl_arena_alloc(env->arena, (x->n + 1) * sizeof *left);
    bool *taken = kl_arena_zalloc(env->arena, (x->n + 1) * sizeof *taken);
    int rc = left && taken ? compare_in(&t, c->is->api_version, &c->own, err) : KL_ENOMEM;
    if (rc)
        return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
    t.of[0] = (struct changes){.api_version = c->is->api_version, .type = c->is->type};
    keep(&t.of[t.n++], env->arena, &c->own);
    for (size_t i = 0; i < x->n && !rc; i++)
        if (!x->m[i].gone && &x->m[i] != c->self)
            rc = take_from(&t, x, &x->m[i], &left[i], &taken[i], err);
    if (rc)
        return rc == KL_ENOMEM ? kl_error_set(err, rc, "out of memory") : rc;
    if (c->conflicts && c->conflicts->n && !c->force)
        return KL_ECONFLICT;
    for (size_t i = 0; i < x->n; i++)
        if (taken[i])
            kl_manager_set(&x->m[i], left[i]);
    return 0;
}

// ---- updates

// Gives `set` to the writer, with what it had.
static int give(struct kl_managed *x, const struct kl_manager *who, const struct kl_manager *before,
                const struct kl_fieldset *set, struct kl_error *err)
{
    struct kl_manager *m = kl_managed_find(x, who);
    if (!m) {
        struct kl_manager fresh = *who;
        if (before)
            fresh = *before; // all of it had changed
        fresh.has_time = true;
        fresh.time_us = who->time_us;
        if (!(m = kl_managed_add(x, &fresh)))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        m->gone = false;
        m->set = NULL;
        m->read = true;
    }
    int rc = kl_managed_read(x, m, err);
    if (rc)
        return rc;
    const struct kl_fieldset *all = kl_fieldset_union(x->arena, m->set, set);
    m->has_time = true;
    m->time_us = who->time_us;
    // Much the same fields are written again and again: then the text is still right.
    if (before && before->text.p && kl_fieldset_equal(all, before->set)) {
        m->set = before->set;
        m->text = before->text;
        return 0;
    }
    if (m->text.p && kl_fieldset_equal(all, m->set))
        return 0;
    kl_manager_set(m, all);
    return 0;
}

int kl_managed_step(const struct kl_managed_env *env, struct kl_managed *x,
                    const struct kl_manager *who, const struct kl_value *live,
                    const struct kl_value *now, struct kl_error *err)
{
    struct kl_tree was = kl_tree_of(env, live), is = kl_tree_of(env, now);
    struct kl_managed_change c = {.was = &was, .is = &is, .force = true};
    struct kl_manager *own = kl_managed_find(x, who), before = {0};
    size_t at = own ? (size_t)(own - x->m) : 0;
    if (own)
        before = *own;
    int rc = kl_managed_check_live(env, x, &was, err);
    if (rc || (rc = kl_managed_take(env, x, &c, err)))
        return rc;
    if (own && x->m[at].read && !before.read) { // what was read on the way
        struct kl_error ignored;
        if (kl_managed_read(x, &before, &ignored))
            own = NULL;
    }
    const struct kl_fieldset *set = kl_fieldset_union(env->arena, c.own.modified, c.own.added);
    set = kl_fieldset_difference(env->arena, set, kl_managed_stripped(env->arena));
    if (set && (rc = give(x, who, own && before.read ? &before : NULL, set, err)))
        return rc;
    return kl_managed_cap(x) ? kl_error_set(err, KL_ENOMEM, "out of memory") : 0;
}

// The entries that count, open. KL_ENOENT-like nothing: *ret empty.
static int open_base(const struct kl_managed_env *env, const struct kl_value *live,
                     const struct kl_value *sent, struct kl_managed *ret)
{
    const struct kl_value *had = kl_managed_entries(live);
    struct kl_error ignored;
    int rc;
    *ret = (struct kl_managed){.arena = env->arena};
    if (!env->subresource.n) {
        if (kl_managed_is_reset(sent))
            return 0;
        if (kl_len(sent) && !kl_value_equal(sent, had)) {
            rc = kl_managed_open(env->arena, sent, ret, &ignored);
            rc = rc ? rc : kl_managed_read_all(ret, &ignored);
            if (rc == KL_ENOMEM || (!rc && ret->n))
                return rc;
        }
    }
    rc = kl_managed_open(env->arena, had, ret, &ignored);
    if (rc && rc != KL_ENOMEM) {
        *ret = (struct kl_managed){.arena = env->arena};
        rc = 0;
    }
    return rc;
}

static struct kl_manager writer(const struct kl_managed_env *env)
{
    return (struct kl_manager){
        .name = env->manager.n ? env->manager : KL_STR("unknown"),
        .subresource = env->subresource,
        .api_version = kl_str(env->api_version ? env->api_version : env->res->api_version),
        .time_us = env->now_us};
}

int kl_managed_update(const struct kl_managed_env *env, const struct kl_value *live,
                      const struct kl_value *now, const struct kl_value *sent, struct kl_value *ret,
                      struct kl_error *err)
{
    static const struct kl_value nothing = {.kind = KL_STRUCT};
    struct kl_managed x;
    struct kl_manager who = writer(env);
    int rc = open_base(env, live, sent, &x);
    if (rc)
        return kl_error_set(err, rc, "out of memory");
    if (!x.n && live) { // nobody was asked to follow it
        *ret = kl_null();
        return 0;
    }
    rc = kl_managed_step(env, &x, &who, live ? live : &nothing, now, err);
    if (rc == KL_EBADREQUEST) { // entries that only now turned out not to be readable
        *ret = kl_null();
        return 0;
    }
    return rc ? rc : kl_managed_close(&x, ret, err);
}

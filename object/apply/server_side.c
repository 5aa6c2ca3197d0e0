// SPDX-License-Identifier: Apache-2.0
// The steps around an apply (managedfields.FieldManager): checks of what was sent, objects that
// nobody followed so far, and the annotation that client-side apply leaves.
#include "object/apply/apply_int.h"
#include "object/json.h"

enum { ANNOTATIONS_MAX = 256 * 1024 };
#define LAST_APPLIED KL_STR("kubectl.kubernetes.io/last-applied-configuration")

static struct kl_str text_of(const struct kl_value *map, const char *key)
{
    return kl_text(kl_map_value(map, kl_str(key)));
}

static struct kl_str group_version(struct kl_str api_version, bool want_version)
{
    ptrdiff_t slash = kl_str_chr(api_version, '/');
    if (want_version)
        return slash < 0 ? api_version : kl_str_from(api_version, (size_t)slash + 1);
    return slash < 0 ? KL_STR("") : (struct kl_str){api_version.p, (size_t)slash};
}

// GroupVersionKind.String()
static struct kl_str show_kind(struct kl_arena *a, struct kl_str api_version, struct kl_str kind)
{
    struct kl_str g = group_version(api_version, false), v = group_version(api_version, true);
    return kl_arena_printf(a, "%.*s/%.*s, Kind=%.*s", KL_PRI(g), KL_PRI(v), KL_PRI(kind));
}

// "ns/name; group/version, Kind=kind" of an untyped object.
static struct kl_str show_object(struct kl_arena *a, const struct kl_value *o)
{
    const struct kl_value *meta = kl_map_value(o, KL_STR("metadata"));
    struct kl_str kind = show_kind(a, text_of(o, "apiVersion"), text_of(o, "kind"));
    return kl_arena_printf(a, "%.*s/%.*s; %.*s", KL_PRI(text_of(meta, "namespace")),
                           KL_PRI(text_of(meta, "name")), KL_PRI(kind));
}

static int check_config(const struct kl_managed_env *env, const struct kl_value *config,
                        const char *kind, struct kl_error *err)
{
    struct kl_tree t = kl_tree_of(env, config);
    struct kl_str shown =
        show_kind(env->arena, text_of(config, "apiVersion"), text_of(config, "kind"));
    if (!kl_str_eq(text_of(config, "apiVersion"), t.api_version) ||
        !kl_str_eqz(text_of(config, "kind"), kind))
        return kl_error_set(err, KL_EBADREQUEST, "invalid object type: %.*s", KL_PRI(shown));
    const struct kl_value *had =
        kl_map_value(kl_map_value(config, KL_STR("metadata")), KL_STR("managedFields"));
    if (had && had->kind != KL_NULL)
        return kl_error_set(err, KL_EBADREQUEST, "metadata.managedFields must be nil");
    int rc = kl_typed_validate(env->arena, t.type, config, false, err);
    if (rc == KL_EINVALID) {
        shown = show_object(env->arena, config);
        kl_error_wrap(err, "failed to create typed patch object (%.*s)", KL_PRI(shown));
    }
    return rc;
}

// The live object as untyped JSON with all that Go always writes.
static int untyped_live(const struct kl_managed_env *env, const struct kl_value *live,
                        const char *kind, struct kl_tree *ret)
{
    static const struct kl_value nothing = {.kind = KL_STRUCT};
    struct kl_arena *a = env->arena;
    *ret = kl_tree_of(env, live ? live : &nothing);
    if (kl_untyped_from_typed(a, ret->type, live ? live : &nothing, &ret->v) ||
        kl_map_set_value(a, &ret->v, KL_STR("apiVersion"), kl_string(ret->api_version)) ||
        kl_map_set_value(a, &ret->v, KL_STR("kind"), kl_stringz(kind)))
        return KL_ENOMEM;
    struct kl_value *meta = kl_edit_map(a, &ret->v, KL_STR("metadata"), KL_MAP);
    if (!meta || (kl_map_value(meta, KL_STR("managedFields")) &&
                  kl_map_unset(a, meta, KL_STR("managedFields"))))
        return KL_ENOMEM;
    return kl_typed_sort(a, &ret->v);
}

// ---- client-side apply's annotation

// What client-side apply said last and what still is so: kubectl may take that from itself.
static bool allowed(struct kl_apply *p, const struct kl_fieldset **ret)
{
    struct kl_arena *a = p->env->arena;
    const struct kl_value *meta = kl_map_value(&p->live.v, KL_STR("metadata"));
    struct kl_str said =
        kl_text(kl_map_value(kl_map_value(meta, KL_STR("annotations")), LAST_APPLIED));
    struct kl_comparison c;
    struct kl_error ignored;
    struct kl_value v;
    const struct kl_fieldset *s;
    if (!said.n || kl_json_parse(a, said, NULL, &v, &ignored) || v.kind != KL_MAP ||
        kl_typed_sort(a, &v) || !kl_str_eq(text_of(&v, "apiVersion"), p->live.api_version) ||
        kl_typed_validate(a, p->live.type, &v, false, &ignored) ||
        kl_typed_fieldset(a, p->live.type, &v, &s) ||
        kl_typed_compare(a, p->live.type, &v, &p->live.v, &c, &ignored))
        return false;
    s = kl_fieldset_difference(a, s, c.modified);
    s = kl_fieldset_difference(a, s, c.added);
    *ret = kl_fieldset_difference(a, s, c.removed);
    return *ret != &kl_fieldset_oom;
}

// True: all conflicts are with what client-side apply itself had said. Else the rest is left.
static bool forgive(struct kl_apply *p)
{
    const struct kl_fieldset *may;
    size_t n = 0;
    if (!kl_str_eqz(p->who.name, "kubectl") || !allowed(p, &may))
        return false;
    for (size_t i = 0; i < p->conflicts.n; i++) {
        struct kl_manager m = p->conflicts.m[i];
        m.set = kl_fieldset_difference(p->env->arena, m.set, may);
        if (m.set)
            p->conflicts.m[n++] = m;
    }
    p->conflicts.n = n;
    return n == 0;
}

// The annotation follows where there is one, so that client-side apply can go on.
static int follow(struct kl_apply *p, const struct kl_value *config, struct kl_value *result)
{
    struct kl_arena *a = p->env->arena;
    struct kl_value said = *config, *meta, *ann;
    said.owned = 0;
    if (!kl_str_eqz(p->who.name, "kubectl") ||
        !kl_text(kl_map_value(
                     kl_map_value(kl_map_value(result, KL_STR("metadata")), KL_STR("annotations")),
                     LAST_APPLIED))
             .n)
        return 0;
    const struct kl_value *own =
        kl_map_value(kl_map_value(config, KL_STR("metadata")), KL_STR("annotations"));
    if (kl_map_value(own, LAST_APPLIED) &&
        (!(meta = kl_edit_map(a, &said, KL_STR("metadata"), KL_MAP)) ||
         !(ann = kl_edit_map(a, meta, KL_STR("annotations"), KL_MAP)) ||
         kl_map_unset(a, ann, LAST_APPLIED)))
        return KL_ENOMEM;
    struct kl_buf b;
    kl_buf_init(&b, 4u << 20);
    kl_json_write(&b, &said);
    kl_buf_putc(&b, '\n'); // upstream's encoder ends a line
    struct kl_str text = b.err ? KL_STR("") : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    if (!(meta = kl_edit_map(a, result, KL_STR("metadata"), KL_MAP)) ||
        !(ann = kl_edit_map(a, meta, KL_STR("annotations"), KL_MAP)) || !text.p)
        return KL_ENOMEM;
    size_t total = text.n + LAST_APPLIED.n;
    for (KL_MAP_EACH_KEY(kv, ann))
        if (!kl_str_eq(kl_text(kv), LAST_APPLIED))
            total += kl_text(kv).n + kl_text(kv + 1).n;
    if (total > ANNOTATIONS_MAX)
        return kl_map_unset(a, ann, LAST_APPLIED);
    return kl_map_set_value(a, ann, LAST_APPLIED, kl_string(text));
}

// ---- the whole

// The managers there are; an object that nobody followed gets one for all that was before.
static int open_live(const struct kl_managed_env *env, const struct kl_value *live,
                     struct kl_managed *ret, struct kl_error *err)
{
    static const struct kl_value nothing = {.kind = KL_STRUCT};
    int rc = kl_managed_open(env->arena, kl_managed_entries(live), ret, err);
    rc = rc ? rc : kl_managed_read_all(ret, err);
    if (rc == KL_EBADREQUEST) {
        kl_error_wrap(err, "failed to decode managed fields");
        err->code = KL_EINVALID;
        return KL_EINVALID;
    }
    if (rc || ret->n || !live)
        return rc;
    struct kl_tree t = kl_tree_of(env, live);
    struct kl_manager first = {.name = KL_STR("before-first-apply"),
                               .subresource = env->subresource,
                               .api_version = t.api_version,
                               .time_us = env->now_us};
    rc = kl_managed_step(env, ret, &first, &nothing, live, err);
    return rc ? rc : kl_managed_read_all(ret, err);
}

static int run(struct kl_apply *p, const struct kl_value *live)
{
    const struct kl_managed_env *env = p->env;
    struct kl_managed again;
    int rc = kl_apply_step(p);
    if (rc != KL_ECONFLICT || !forgive(p))
        return rc;
    // From the beginning, and by force.
    if ((rc = open_live(env, live, &again, p->err)))
        return rc;
    *p->managed = again;
    p->conflicts = (struct kl_managed){.arena = env->arena};
    p->force = true;
    return kl_apply_step(p);
}

int kl_managed_apply(const struct kl_managed_env *env, const struct kl_value *live,
                     const struct kl_value *config, bool force, struct kl_apply_result *ret,
                     struct kl_error *err)
{
    const char *kind = env->type ? strrchr(env->type->name, '.') + 1 : env->res->kind;
    struct kl_managed managed;
    struct kl_apply p = {.env = env,
                         .err = err,
                         .managed = &managed,
                         .who = {.name = env->manager.n ? env->manager : KL_STR("unknown"),
                                 .subresource = env->subresource,
                                 .applied = true},
                         .config = *config,
                         .force = force,
                         .conflicts = {.arena = env->arena}};
    int rc;
    *ret = (struct kl_apply_result){0};
    p.config.owned = 0;
    if (kl_typed_sort(env->arena, &p.config))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if ((rc = open_live(env, live, &managed, err)) ||
        (rc = check_config(env, &p.config, kind, err)))
        return rc;
    if (untyped_live(env, live, kind, &p.live))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    p.who.api_version = p.live.api_version;
    rc = run(&p, live);
    if (rc == KL_ECONFLICT)
        return kl_apply_list(&p, ret);
    if (rc)
        return rc;
    ret->changed = p.changed;
    ret->object = p.result;
    struct kl_value was = p.result;
    if (follow(&p, &p.config, &ret->object))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    ret->changed |= ret->object.items != was.items;
    return kl_managed_close(&managed, &ret->entries, err);
}

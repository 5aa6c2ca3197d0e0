// SPDX-License-Identifier: Apache-2.0
// All that upstream checks of a custom object, in its order (registry/customresource: strategy.go,
// status_strategy.go, validator.go).
#include "object/crd/crd_int.h"
#include "object/gotext_int.h"
#include "object/validate/validate_int.h"

struct checker {
    struct kl_findings *f;
    struct kl_crd_schema *s;
    const struct kl_crd_check *c;
    struct kl_value now, old; // untyped
};

static bool check_head(struct checker *x)
{
    static const struct {
        kl_sym field;
        const char *name;
    } heads[] = {{KL_F_kind, "kind"}, {KL_F_apiVersion, "apiVersion"}};
    size_t before = x->f->n;
    for (size_t i = 0; i < KL_COUNT(heads); i++) {
        struct kl_str want = i ? x->s->api_version : x->s->kind;
        struct kl_str is = kl_text(kl_map_value(&x->now, kl_str(heads[i].name)));
        struct crd_path at = {.name = kl_str(heads[i].name)};
        if (!kl_str_eq(is, want))
            crd_find_at(x->f, "FieldValueInvalid", &at, crd_quote(x->f->arena, is), "must be %.*s",
                        KL_PRI(want));
    }
    return x->f->n == before;
}

static void check_meta(struct checker *x)
{
    struct kl_resource res = {.namespaced = x->c->namespaced};
    struct kl_v v = {
        .f = x->f, .res = &res, .now = x->c->now, .old = x->c->old, .meta = {.sym = KL_F_metadata}};
    if (x->c->old)
        kl_v_meta_update_plain(&v);
    else
        kl_v_meta_plain(&v, KL_V_SUBDOMAIN);
}

// ---- scale
// unstructured.NestedFieldNoCopy. Absent: *ret is NULL. False: *ret_why says what is in the way.
static bool nested(struct checker *x, struct kl_str path, const struct kl_value **ret,
                   struct kl_str *ret_why)
{
    const struct kl_value *v = &x->now;
    struct kl_str rest = path, part, walked = KL_STR("");
    *ret = NULL;
    if (rest.n && rest.p[0] == '.')
        rest = kl_str_from(rest, 1);
    while (kl_str_split(&rest, '.', &part)) {
        walked = kl_arena_printf(x->f->arena, "%.*s.%.*s", KL_PRI(walked), KL_PRI(part));
        if (v->kind == KL_NULL)
            return true;
        if (v->kind != KL_MAP) {
            struct kl_buf b;
            kl_buf_init(&b, 4096);
            kl_go_print(&b, v);
            *ret_why = kl_arena_printf(
                x->f->arena,
                "%.*s accessor error: %.*s is of the type %s, expected map[string]interface{}",
                KL_PRI(walked), KL_PRI(kl_buf_str(&b)), kl_go_value_type(v));
            kl_buf_fini(&b);
            return false;
        }
        v = kl_map_value(v, part);
        if (!v)
            return true;
    }
    *ret = v;
    return true;
}

// NestedInt64, NestedString
static bool nested_as(struct checker *x, struct kl_str path, enum kl_value_kind kind,
                      const struct kl_value **ret, struct kl_str *ret_why)
{
    struct kl_buf b;
    if (!nested(x, path, ret, ret_why))
        return false;
    if (!*ret || (*ret)->kind == (uint32_t)kind)
        return true;
    kl_buf_init(&b, 4096);
    kl_go_print(&b, *ret);
    *ret_why =
        kl_arena_printf(x->f->arena, "%s%.*s accessor error: %.*s is of the type %s, expected %s",
                        path.n && path.p[0] == '.' ? "" : ".", KL_PRI(path), KL_PRI(kl_buf_str(&b)),
                        kl_go_value_type(*ret), kind == KL_INT ? "int64" : "string");
    kl_buf_fini(&b);
    return false;
}

static void check_replicas(struct checker *x, struct kl_str path)
{
    const struct kl_value *v = NULL;
    struct crd_path at = {.name = path};
    struct kl_str why;
    if (!path.n)
        return;
    if (!nested_as(x, path, KL_INT, &v, &why))
        crd_find_at(x->f, "FieldValueInvalid", &at, KL_STR("0"), "%.*s", KL_PRI(why));
    else if (kl_int_or(v, 0) < 0)
        crd_find_at(x->f, "FieldValueInvalid", &at, crd_show(x->f->arena, v),
                    "should be a non-negative integer");
    else if (kl_int_or(v, 0) > INT32_MAX)
        crd_find_at(x->f, "FieldValueInvalid", &at, crd_show(x->f->arena, v),
                    "should be less than or equal to %d", INT32_MAX);
}

static void check_scale(struct checker *x)
{
    const struct kl_value *v;
    struct crd_path at = {.name = x->c->scale_label_selector};
    struct kl_str why;
    if (!x->c->status)
        check_replicas(x, x->c->scale_spec_replicas);
    check_replicas(x, x->c->scale_status_replicas);
    if (at.name.n && !nested_as(x, at.name, KL_STRING, &v, &why))
        crd_find_at(x->f, "FieldValueInvalid", &at, KL_STR("\"\""), "%.*s", KL_PRI(why));
}

// ---- the schema
static int check_tree(struct checker *x)
{
    const struct crd_words *w = &x->s->words;
    struct crd_pair root = {.s = w, .node = x->s->root, .now = &x->now, .old = &x->old};
    struct crd_pair below;
    if (!x->c->status)
        return crd_validate_tree(x->f, x->s, w, x->s->root, "", &x->now, x->c->old ? &root : NULL);
    const struct kl_value *status = kl_map_value(&x->now, KL_STR("status"));
    crd_ref node = x->s->root ? crd_prop(w, x->s->root, KL_STR("status")) : 0;
    if (!status || !node)
        return 0;
    bool has = x->c->old && crd_pair_key(&root, KL_STR("status"), status, &below);
    return crd_validate_tree(x->f, x->s, w, node, "status", status, has ? &below : NULL);
}

static bool old_lists_hold(struct checker *x, int *ret)
{
    struct kl_findings old = {.arena = x->f->arena};
    if (!x->c->old)
        return true;
    *ret = crd_validate_lists(&old, &x->s->words, x->s->root, NULL, &x->old);
    return old.n == 0;
}

static bool is_blocking(const char *reason)
{
    static const char *const blocking[] = {"FieldValueNotSupported", "FieldValueRequired",
                                           "FieldValueTooLong", "FieldValueTooMany",
                                           "FieldValueTypeInvalid"};
    for (size_t i = 0; i < KL_COUNT(blocking); i++)
        if (!strcmp(reason, blocking[i]))
            return true;
    return false;
}

static int check_rules(struct checker *x, size_t first)
{
    struct crd_pair root = {.s = &x->s->words, .node = x->s->root, .now = &x->now, .old = &x->old};
    for (size_t i = first; i < x->f->n; i++)
        if (is_blocking(x->f->list[i].reason))
            return crd_find(x->f, "FieldValueInvalid", KL_STR("<nil>"), KL_STR("null"),
                            KL_STR("some validation rules were not checked because the object was "
                                   "invalid; correct the existing errors to complete validation"))
                       ? 0
                       : KL_ENOMEM;
    struct crd_rule_scope scope = {.f = x->f,
                                   .warnings = x->c->warnings,
                                   .schema = x->s,
                                   .node = x->s->root,
                                   .root = true,
                                   .pair = x->c->old ? &root : NULL};
    int64_t budget = KL_CEL_RUNTIME_BUDGET;
    return crd_validate_rules(&scope, &x->now, x->c->old ? &x->old : NULL, &budget);
}

int kl_crd_validate(struct kl_findings *f, const struct kl_crd_schema *schema,
                    const struct kl_crd_check *c)
{
    // What is compiled on first use is kept behind the schema's lock.
    struct checker x = {.f = f, .s = (struct kl_crd_schema *)(uintptr_t)schema, .c = c};
    size_t first = f->n;
    int r = kl_crd_untyped(f->arena, schema, c->now, &x.now);
    if (!r && c->old)
        r = kl_crd_untyped(f->arena, schema, c->old, &x.old);
    if (!r && c->old)
        r = crd_sort_old(f->arena, &x.old);
    if (r)
        return r;
    if (check_head(&x)) {
        check_meta(&x);
        r = check_tree(&x);
        if (!r)
            check_scale(&x);
    }
    if (!r && !c->status)
        r = crd_validate_embedded(f, &schema->words, schema->root, NULL, &x.now);
    if (!r && old_lists_hold(&x, &r) && !r)
        r = crd_validate_lists(f, &schema->words, schema->root, NULL, &x.now);
    if (!r && schema->root && (crd_flags(&schema->words, schema->root) & CRD_HAS_RULES))
        r = check_rules(&x, first);
    return r;
}

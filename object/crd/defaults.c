// SPDX-License-Identifier: Apache-2.0
// Defaults of a schema are what the schema allows (apiserver/schema/defaulting/validation.go).
#include "object/crd/definition_int.h"

// From the resource that a default of its head or metadata is tried in down to the default.
struct around {
    const struct around *up;
    struct kl_str name; // p NULL: an item
};

struct defaults {
    struct kl_findings *f;
    struct kl_crd_schema *s;
    const struct crd_words *w;
    bool need_pruned;
    int64_t budget;
    int err;
};

static bool parse_default(struct defaults *x, crd_ref node, struct kl_value *ret)
{
    struct kl_error ignored;
    struct kl_str text = crd_attr_text(x->w, node, CRD_DEFAULT);
    if (text.n &&
        (kl_json_parse(x->f->arena, text, NULL, ret, &ignored) || crd_sort_old(x->f->arena, ret)))
        x->err = KL_ENOMEM;
    return text.n && !x->err;
}

// The resource around a value.
static int surround(struct kl_arena *a, const struct around *up, struct kl_value v,
                    struct kl_value *ret)
{
    int r = 0;
    for (; !r && up; up = up->up) {
        struct kl_value outer = up->name.p ? kl_new_map() : kl_new_array();
        r = up->name.p ? kl_map_set_value(a, &outer, up->name, v) : kl_append(a, &outer, v);
        v = outer;
    }
    if (!r && !kl_map_value(&v, KL_STR("kind")))
        r = kl_map_set_value(a, &v, KL_STR("kind"), kl_stringz("Validation"));
    if (!r && !kl_map_value(&v, KL_STR("apiVersion")))
        r = kl_map_set_value(a, &v, KL_STR("apiVersion"), kl_stringz("validation/v1"));
    *ret = v;
    return r;
}

static int check_rules(struct defaults *x, crd_ref node, bool root, const struct crd_path *path,
                       const struct kl_value *v)
{
    size_t before = x->f->n;
    struct crd_rule_scope scope = {
        .f = x->f, .schema = x->s, .node = node, .root = root, .path = path};
    int64_t with_old = x->budget, without = x->budget;
    if (!(crd_flags(x->w, node) & CRD_HAS_RULES))
        return 0;
    int r = crd_validate_rules(&scope, v, v, &with_old);
    if (!r && x->f->n == before)
        r = crd_validate_rules(&scope, v, NULL, &without);
    x->budget = with_old < without ? with_old : without;
    return r;
}

// False when something is wrong with it.
static bool check_meta(struct defaults *x, const struct around *up, crd_ref resource,
                       const struct crd_path *path, const struct kl_value *v)
{
    struct kl_findings found = {.arena = x->f->arena};
    struct kl_value whole;
    x->err = surround(x->f->arena, up, *v, &whole);
    if (x->err)
        return false;
    x->err = crd_check_heads(&found, x->w, resource, NULL, &whole);
    if (!x->err && !found.n)
        x->err = crd_validate_embedded(&found, x->w, resource, NULL, &whole);
    if (!found.n)
        return !x->err;
    struct kl_str all = KL_STR("");
    for (size_t i = 0; i < found.n; i++)
        all = kl_arena_printf(x->f->arena, "%.*s%s%.*s: %.*s", KL_PRI(all), i ? ", " : "",
                              KL_PRI(found.list[i].field), KL_PRI(found.list[i].message));
    if (!crd_find_at(x->f, "FieldValueInvalid", path, crd_show(x->f->arena, v),
                     "must result in valid metadata: %s%.*s%s", found.n > 1 ? "[" : "", KL_PRI(all),
                     found.n > 1 ? "]" : ""))
        x->err = KL_ENOMEM;
    return false;
}

static void check_default(struct defaults *x, crd_ref node, const struct crd_path *up,
                          const struct around *around, crd_ref resource, bool root)
{
    const struct crd_path *path = CP(up, "default");
    struct kl_value v, pruned;
    size_t before = x->f->n;
    if (!parse_default(x, node, &v))
        return;
    if (around) {
        if (!check_meta(x, around, resource, path, &v))
            return;
        before = x->f->n;
    } else {
        if (x->need_pruned) {
            x->err = crd_prune(x->f->arena, x->w, node, root, true, &v, NULL, &pruned);
            if (!x->err && !kl_value_equal(&pruned, &v))
                crd_find_at(x->f, "FieldValueInvalid", path, crd_show(x->f->arena, &v),
                            "must not have unknown fields");
        }
        before = x->f->n;
        if (!x->err)
            x->err = crd_check_heads(x->f, x->w, node, path, &v);
        if (!x->err && x->f->n == before && node == x->s->root && v.kind == KL_MAP &&
            !crd_validate_head(x->f, path, &v))
            x->err = KL_ENOMEM;
        if (!x->err && x->f->n == before)
            x->err = crd_validate_embedded(x->f, x->w, node, path, &v);
    }
    if (!x->err && x->f->n == before)
        x->err =
            crd_validate_tree(x->f, x->s, x->w, node, crd_path_text(x->f->arena, path).p, &v, NULL);
    if (!x->err && x->f->n == before)
        x->err = check_rules(x, node, root, path, &v);
}

// `around` is set inside of a resource's head, `resource` is that resource's node.
static void walk(struct defaults *x, crd_ref node, const struct crd_path *path,
                 const struct around *around, bool inside, crd_ref resource)
{
    if (!node || x->err || x->budget < 0 ||
        (!(crd_flags(x->w, node) & CRD_HAS_DEFAULTS) && !crd_attr(x->w, node, CRD_DEFAULT)))
        return;
    bool embedded = (crd_flags(x->w, node) & CRD_EMBEDDED) || node == x->s->root;
    if (embedded) {
        inside = false;
        around = NULL;
        resource = node;
    }
    check_default(x, node, path, inside ? around : NULL, resource, embedded);
    struct around item = {.up = around};
    walk(x, crd_attr(x->w, node, CRD_ITEMS), CP(path, "items"), &item, inside, resource);
    for (uint32_t i = 0; i < crd_nprops(x->w, node); i++) {
        struct kl_str name = crd_prop_name(x->w, node, i);
        struct around below = {.up = around, .name = name};
        walk(x, crd_prop_node(x->w, node, i), CK(CP(path, "properties"), name), &below,
             inside || (embedded && crd_is_meta(name)), resource);
    }
}

int crd_check_defaults(struct kl_findings *f, struct kl_crd_schema *s, const struct crd_path *path,
                       bool need_pruned)
{
    struct defaults x = {.f = f,
                         .s = s,
                         .w = &s->words,
                         .need_pruned = need_pruned,
                         .budget = KL_CEL_RUNTIME_BUDGET};
    walk(&x, s->root, path, NULL, false, s->root);
    return x.err;
}

static bool is_unpruned(struct kl_arena *a, const struct crd_words *w, crd_ref node, int *err)
{
    struct kl_str text = node ? crd_attr_text(w, node, CRD_DEFAULT) : KL_STR("");
    struct kl_value v, pruned;
    struct kl_error ignored;
    if (!node || *err)
        return false;
    if (text.n) {
        *err = kl_json_parse(a, text, NULL, &v, &ignored);
        *err = *err ? *err : crd_prune(a, w, node, false, true, &v, NULL, &pruned);
        if (*err || !kl_value_equal(&v, &pruned))
            return !*err;
    }
    if (is_unpruned(a, w, crd_attr(w, node, CRD_ITEMS), err) ||
        is_unpruned(a, w, crd_attr(w, node, CRD_EXTRA), err))
        return true;
    for (uint32_t i = 0; i < crd_nprops(w, node); i++)
        if (is_unpruned(a, w, crd_prop_node(w, node, i), err))
            return true;
    return false;
}

bool crd_unpruned_defaults(struct kl_arena *a, const struct kl_value *schema)
{
    struct kl_findings found = {.arena = a};
    struct crd_words w;
    crd_ref root;
    size_t bytes;
    int err = 0;
    if (!schema || crd_check_structural(&found, schema, NULL) ||
        crd_compile(schema, &w, &root, &bytes, NULL))
        return false;
    bool yes = is_unpruned(a, &w, root, &err);
    crd_words_free(&w);
    return yes;
}

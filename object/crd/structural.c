// SPDX-License-Identifier: Apache-2.0
// What makes a schema structural (apiserver/schema/validation.go, complete.go).
#include "object/cel/re2_int.h"
#include "object/crd/definition_int.h"
#include <stdlib.h>

enum level { ROOT, ITEM, FIELD };

struct structural {
    struct kl_findings *f;
    int depth;
};

static void check_nested(struct structural *x, const struct kl_value *v, bool skip_any,
                         enum level lvl, const struct crd_path *p);

const struct kl_value *crd_member_set(const struct kl_value *s, kl_sym field)
{
    const struct kl_value *v = kl_get(s, field);
    if (!v || (v->kind == KL_BOOL && !v->b && field != KL_F_additionalProperties &&
               field != KL_F_additionalItems))
        return NULL;
    if ((v->kind == KL_STRING || v->kind == KL_ARRAY || v->kind == KL_MAP || v->kind == KL_RAW) &&
        !v->n)
        return NULL;
    return v;
}

static struct kl_str type_of(const struct kl_value *s)
{
    return kl_text(kl_get(s, KL_F_type));
}

static bool is_set(const struct kl_value *s, kl_sym field)
{
    return crd_member_set(s, field) != NULL;
}

// anyOf: [{type: integer}, {type: string}]
static bool is_int_or_string(const struct kl_value *any)
{
    static const char *const types[] = {"integer", "string"};
    if (kl_len(any) != 2)
        return false;
    for (uint32_t i = 0; i < 2; i++) {
        const struct kl_value *s = &any->items[i];
        if (!kl_str_eqz(type_of(s), types[i]))
            return false;
        for (KL_EACH(m, s))
            if (m->sym != KL_F_type && is_set(s, m->sym))
                return false;
    }
    return true;
}

static void check_values(struct structural *x, const struct kl_value *v, bool skip_any,
                         bool skip_first, enum level lvl, const struct crd_path *p)
{
    struct kl_str pattern = kl_text(kl_get(v, KL_F_pattern)), why;
    const struct kl_value *list = kl_get(v, KL_F_anyOf);
    for (uint32_t i = 0; !skip_any && i < kl_len(list); i++)
        check_nested(x, &list->items[i], false, lvl, CI(CP(p, "anyOf"), i));
    list = kl_get(v, KL_F_allOf);
    for (uint32_t i = 0; i < kl_len(list); i++)
        check_nested(x, &list->items[i], skip_first && !i, lvl, CI(CP(p, "allOf"), i));
    list = kl_get(v, KL_F_oneOf);
    for (uint32_t i = 0; i < kl_len(list); i++)
        check_nested(x, &list->items[i], false, lvl, CI(CP(p, "oneOf"), i));
    check_nested(x, kl_get(v, KL_F_not), false, lvl, CP(p, "not"));
    if (!pattern.n)
        return;
    void *re = cel_regex_new(pattern, x->f->arena, &why);
    if (!re)
        crd_invalid(x->f, CP(p, "pattern"), pattern,
                    "must be a valid regular expression, but isn't: %.*s", KL_PRI(why));
    cel_regex_free(re);
}

static void check_nested(struct structural *x, const struct kl_value *v, bool skip_any,
                         enum level lvl, const struct crd_path *p)
{
    static const struct {
        kl_sym field;
        const char *name, *why;
    } forbidden[] = {
        {KL_F_type, "type", "must be empty to be structural"},
        {KL_F_default, "default", "must be undefined to be structural"},
        {KL_F_title, "title", "must be empty to be structural"},
        {KL_F_description, "description", "must be empty to be structural"},
        {KL_F_nullable, "nullable", "must be false to be structural"},
        {KL_F_x_kubernetes_preserve_unknown_fields, "x-kubernetes-preserve-unknown-fields",
         "must be false to be structural"},
        {KL_F_x_kubernetes_embedded_resource, "x-kubernetes-embedded-resource",
         "must be false to be structural"},
        {KL_F_x_kubernetes_int_or_string, "x-kubernetes-int-or-string",
         "must be false to be structural"},
        {KL_F_x_kubernetes_list_map_keys, "x-kubernetes-list-map-keys",
         "must be empty to be structural"},
        {KL_F_x_kubernetes_list_type, "x-kubernetes-list-type",
         "must be undefined to be structural"},
        {KL_F_x_kubernetes_map_type, "x-kubernetes-map-type", "must be undefined to be structural"},
        {KL_F_x_kubernetes_validations, "x-kubernetes-validations",
         "must be empty to be structural"}};
    const struct kl_value *extra = kl_get(v, KL_F_additionalProperties);
    if (!v || x->depth >= KL_CRD_DEPTH_MAX)
        return;
    x->depth++;
    check_values(x, v, skip_any, false, lvl, p);
    check_nested(x, crd_schema_part(v, KL_F_items), false, lvl, CP(p, "items"));
    for (KL_MAP_EACH_KEY(k, kl_get(v, KL_F_properties))) {
        const struct crd_path *at = CK(CP(p, "properties"), kl_text(k));
        check_nested(x, k + 1, false, FIELD, at);
        if (kl_str_eqz(kl_text(k), "metadata"))
            crd_forbidden(x->f, at, "must not be specified in a nested context");
    }
    if (extra && (extra->kind == KL_STRUCT || extra->b))
        crd_forbidden(x->f, CP(p, "additionalProperties"), "must be undefined to be structural");
    for (size_t i = 0; i < KL_COUNT(forbidden); i++)
        if (is_set(v, forbidden[i].field))
            crd_forbidden(x->f, &(struct crd_path){.up = p, .name = kl_str(forbidden[i].name)},
                          forbidden[i].why);
    x->depth--;
}

// ---- the spine
static void check_metadata(struct structural *x, const struct kl_value *s, bool check,
                           enum level lvl, const struct crd_path *p)
{
    const struct kl_value *props = kl_get(s, KL_F_properties);
    size_t known = 0;
    bool more = false;
    if (check && !kl_str_eqz(type_of(s), "object"))
        crd_invalid(x->f, CP(p, "type"), type_of(s), "must be object");
    if (lvl != ROOT)
        return;
    for (KL_MAP_EACH_KEY(k, props))
        known += kl_str_eqz(kl_text(k), "name") || kl_str_eqz(kl_text(k), "generateName");
    more = known != kl_len(props);
    for (KL_EACH(m, s))
        more |= m->sym != KL_F_type && m->sym != KL_F_properties && m->sym != KL_F_default &&
                is_set(s, m->sym);
    if (more)
        crd_forbidden(x->f, p,
                      "must not specify anything other than name and generateName, but metadata is "
                      "implicitly specified");
}

static void check_type(struct structural *x, const struct kl_value *s, enum level lvl,
                       const struct crd_path *p)
{
    static const char *const empty[] = {"must not be empty at the root",
                                        "must not be empty for specified array items",
                                        "must not be empty for specified object fields"};
    static const char embedded[] = "must be object if x-kubernetes-embedded-resource is true";
    struct kl_str type = type_of(s);
    if (is_set(s, KL_F_x_kubernetes_embedded_resource) && !kl_str_eqz(type, "object")) {
        if (!type.n)
            crd_required(x->f, CP(p, "type"), embedded);
        else
            crd_invalid(x->f, CP(p, "type"), type, "%s", embedded);
    } else if (!type.n && !is_set(s, KL_F_x_kubernetes_int_or_string) &&
               !is_set(s, KL_F_x_kubernetes_preserve_unknown_fields)) {
        crd_required(x->f, CP(p, "type"), empty[lvl]);
    }
    if (is_set(s, KL_F_x_kubernetes_embedded_resource) && kl_get(s, KL_F_additionalProperties))
        crd_forbidden(x->f, CP(p, "additionalProperties"),
                      "must not be used if x-kubernetes-embedded-resource is set");
    if (lvl == ROOT && type.n && !kl_str_eqz(type, "object"))
        crd_invalid(x->f, CP(p, "type"), type, "must be object at the root");
}

static void check_spine(struct structural *x, const struct kl_value *s, enum level lvl,
                        const struct crd_path *p)
{
    const struct kl_value *props = kl_get(s, KL_F_properties);
    const struct kl_value *extra = kl_get(s, KL_F_additionalProperties);
    const struct kl_value *all = kl_get(s, KL_F_allOf);
    bool embedded = is_set(s, KL_F_x_kubernetes_embedded_resource);
    if (!s || x->depth >= KL_CRD_DEPTH_MAX)
        return;
    x->depth++;
    if (kl_str_eqz(type_of(s), "array") && !crd_schema_part(s, KL_F_items))
        crd_required(x->f, CP(p, "items"), "must be specified");
    check_spine(x, crd_schema_part(s, KL_F_items), ITEM, CP(p, "items"));
    for (KL_MAP_EACH_KEY(k, props))
        check_spine(x, k + 1, FIELD, CK(CP(p, "properties"), kl_text(k)));
    if (extra && lvl == ROOT)
        crd_forbidden(x->f, CP(p, "additionalProperties"), "must not be used at the root");
    check_spine(x, crd_schema_part(s, KL_F_additionalProperties), FIELD,
                CP(p, "additionalProperties"));
    if (is_set(s, KL_F_x_kubernetes_int_or_string)) {
        if (is_set(s, KL_F_x_kubernetes_preserve_unknown_fields))
            crd_find_at(x->f, "FieldValueInvalid", CP(p, "x-kubernetes-preserve-unknown-fields"),
                        KL_STR("true"), "must be false if x-kubernetes-int-or-string is true");
        if (embedded)
            crd_find_at(x->f, "FieldValueInvalid", CP(p, "x-kubernetes-embedded-resource"),
                        KL_STR("true"), "must be false if x-kubernetes-int-or-string is true");
    }
    check_values(x, s, is_int_or_string(kl_get(s, KL_F_anyOf)),
                 kl_len(all) && is_int_or_string(kl_get(&all->items[0], KL_F_anyOf)), lvl, p);
    check_type(x, s, lvl, p);
    for (KL_MAP_EACH_KEY(k, props)) {
        const struct crd_path *at = CK(CP(p, "properties"), kl_text(k));
        if (kl_str_eqz(kl_text(k), "metadata"))
            check_metadata(x, k + 1, lvl == ROOT || embedded, lvl, at);
        else if (crd_is_meta(kl_text(k)) && (lvl == ROOT || embedded) &&
                 !kl_str_eqz(type_of(k + 1), "string"))
            crd_invalid(x->f, CP(at, "type"), type_of(k + 1), "must be string");
    }
    if (embedded && !is_set(s, KL_F_x_kubernetes_preserve_unknown_fields) && !kl_len(props))
        crd_required(x->f, CP(p, "properties"),
                     "must not be empty if x-kubernetes-embedded-resource is true without "
                     "x-kubernetes-preserve-unknown-fields");
    x->depth--;
}

// ---- what logic asks for is on the spine
static void check_complete(struct structural *x, const struct kl_value *v, const struct kl_value *s,
                           const struct crd_path *sp, const struct crd_path *vp);

static void check_branches(struct structural *x, const struct kl_value *v, const struct kl_value *s,
                           const struct crd_path *sp, const struct crd_path *vp)
{
    static const struct {
        kl_sym field;
        const char *name;
    } logic[] = {{KL_F_allOf, "allOf"}, {KL_F_anyOf, "anyOf"}, {KL_F_oneOf, "oneOf"}};
    if (kl_get(v, KL_F_not))
        check_complete(x, kl_get(v, KL_F_not), s, sp, CP(vp, "not"));
    for (size_t k = 0; k < KL_COUNT(logic); k++) {
        const struct kl_value *list = kl_get(v, logic[k].field);
        const struct crd_path at = {.up = vp, .name = kl_str(logic[k].name)};
        for (uint32_t i = 0; i < kl_len(list); i++)
            check_complete(x, &list->items[i], s, sp, CI(&at, i));
    }
}

static void check_complete(struct structural *x, const struct kl_value *v, const struct kl_value *s,
                           const struct crd_path *sp, const struct crd_path *vp)
{
    const struct kl_value *items = crd_schema_part(v, KL_F_items);
    if (x->depth >= KL_CRD_DEPTH_MAX)
        return;
    if (!s) {
        struct kl_str where = crd_path_text(x->f->arena, vp);
        crd_find_at(x->f, "FieldValueRequired", sp, CRD_OMIT, "because it is defined in %.*s",
                    KL_PRI(where));
        return;
    }
    x->depth++;
    check_branches(x, v, s, sp, vp);
    if (items)
        check_complete(x, items, crd_schema_part(s, KL_F_items), CP(sp, "items"), CP(vp, "items"));
    for (KL_MAP_EACH_KEY(k, kl_get(v, KL_F_properties)))
        check_complete(x, k + 1, kl_map_value(kl_get(s, KL_F_properties), kl_text(k)),
                       CK(CP(sp, "properties"), kl_text(k)), CK(CP(vp, "properties"), kl_text(k)));
    x->depth--;
}

static int by_text(const void *a, const void *b)
{
    const struct kl_field_finding *x = a, *y = b;
    int c = kl_str_cmp(x->field, y->field);
    return c ? c : kl_str_cmp(x->message, y->message);
}

int crd_check_structural(struct kl_findings *f, const struct kl_value *schema,
                         const struct crd_path *path)
{
    struct structural x = {.f = f};
    size_t first = f->n;
    check_spine(&x, schema, ROOT, path);
    check_branches(&x, schema, schema, path, path);
    if (f->n > first)
        qsort(f->list + first, f->n - first, sizeof *f->list, by_text);
    return f->n == first ? 0 : KL_EINVALID;
}

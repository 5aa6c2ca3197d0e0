// SPDX-License-Identifier: Apache-2.0
// Validation of CustomResourceDefinitions (apis/apiextensions/validation; .../v1/conversion.go for
// where things stand).
#include "object/crd/definition_int.h"
#include "object/cel/url_int.h"
#include "object/validate/validate_int.h"

static void check_label(struct crd_definition *d, const struct crd_path *p, struct kl_str s)
{
    struct kl_str why = s.n ? crd_joined(d->f->arena, KL_V_DNS1035, s) : KL_STR("");
    if (why.n)
        crd_invalid(d->f, p, s, "%.*s", KL_PRI(why));
}

const struct kl_value *crd_version_schema(const struct kl_value *version)
{
    return kl_path(version, KL_F_schema, KL_F_openAPIV3Schema);
}

static bool any_schema(const struct kl_value *spec, bool (*fn)(const struct kl_value *s, void *ctx))
{
    for (KL_EACH(v, kl_get(spec, KL_F_versions)))
        if (crd_schema_has(crd_version_schema(v), fn, NULL))
            return true;
    return false;
}

// ---- what older definitions may keep
static bool has_default(const struct kl_value *s, void *ctx)
{
    return crd_member_set(s, KL_F_default) != NULL;
}

static bool has_extension(const struct kl_value *s, void *ctx)
{
    static const kl_sym fields[] = {
        KL_F_x_kubernetes_embedded_resource, KL_F_x_kubernetes_int_or_string,
        KL_F_x_kubernetes_list_map_keys,     KL_F_x_kubernetes_list_type,
        KL_F_x_kubernetes_validations,
    };
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        if (crd_member_set(s, fields[i]))
            return true;
    return kl_get(s, KL_F_x_kubernetes_preserve_unknown_fields) != NULL;
}

static bool has_odd_type(const struct kl_value *s, void *ctx)
{
    static const char *const types[] = {"array",  "boolean", "integer", "number",
                                        "object", "string",  NULL};
    struct kl_str type = kl_text(kl_get(s, KL_F_type));
    return type.n && !kl_v_in(type, types);
}

static bool has_loose_set(const struct kl_value *s, void *ctx)
{
    const struct kl_value *items = crd_schema_part(s, KL_F_items);
    struct kl_str type = kl_text(kl_get(items, KL_F_type));
    struct kl_str list = kl_text(kl_get(items, KL_F_x_kubernetes_list_type));
    if (!items || !kl_str_eqz(kl_text(kl_get(s, KL_F_x_kubernetes_list_type)), "set"))
        return false;
    if (kl_str_eqz(type, "array"))
        return list.n && !kl_str_eqz(list, "atomic");
    return kl_str_eqz(type, "object") &&
           !kl_str_eqz(kl_text(kl_get(items, KL_F_x_kubernetes_map_type)), "atomic");
}

static bool has_loose_keys(const struct kl_value *s, void *ctx)
{
    struct kl_arena a;
    struct kl_findings f = {.arena = &a};
    kl_arena_init(&a, 1 << 20);
    crd_check_map_keys(&f, s, NULL);
    bool yes = f.n != 0;
    kl_arena_fini(&a);
    return yes;
}

static bool is_structural(struct kl_arena *a, const struct kl_value *schema)
{
    struct kl_findings found = {.arena = a};
    struct kl_crd_schema *s = NULL;
    struct kl_error ignored;
    if (!schema)
        return true;
    int r = crd_schema_bare(schema, &s, &ignored);
    kl_crd_schema_unref(s);
    return !r && !crd_check_structural(&found, schema, NULL);
}

static bool is_established(const struct kl_value *crd)
{
    for (KL_EACH(c, kl_path(crd, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Established"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

static struct crd_options options_of(struct kl_arena *a, const struct kl_value *old)
{
    struct crd_options o = {true, false, true, true, true, true, true, true, true};
    const struct kl_value *spec = kl_get(old, KL_F_spec), *versions = kl_get(spec, KL_F_versions);
    const struct kl_value *hook = kl_path(spec, KL_F_conversion, KL_F_webhook);
    const struct kl_value *reviews = kl_get(hook, KL_F_conversionReviewVersions);
    struct kl_str bundle = kl_text(kl_path(hook, KL_F_clientConfig, KL_F_caBundle));
    if (!old)
        return o;
    o.need_review_version = !kl_len(reviews);
    for (KL_EACH(v, reviews))
        o.need_review_version |= crd_knows_review(kl_text(v));
    o.fixed_names = is_established(old);
    for (KL_EACH(v, versions)) {
        o.need_schema &= crd_version_schema(v) != NULL;
        o.need_structural &= is_structural(a, crd_version_schema(v));
        o.need_pruned_defaults &= !crd_unpruned_defaults(a, crd_version_schema(v));
    }
    o.need_valid_types = !any_schema(spec, has_odd_type);
    o.need_atomic_sets = !any_schema(spec, has_loose_set);
    o.need_map_keys = !any_schema(spec, has_loose_keys);
    o.any_bundle = !o.fixed_names || (bundle.n && !crd_is_bundle(bundle));
    return o;
}

// ---- names
static void check_kind_name(struct crd_definition *d, const struct crd_path *p, struct kl_str s)
{
    struct kl_str why = s.n ? crd_joined(d->f->arena, KL_V_DNS1035, crd_lower(d->f->arena, s)) : s;
    if (s.n && why.n)
        crd_invalid(d->f, p, s, "may have mixed case, but should otherwise match: %.*s",
                    KL_PRI(why));
}

static void check_labels(struct crd_definition *d, const struct crd_path *p,
                         const struct kl_value *list)
{
    for (uint32_t i = 0; i < kl_len(list); i++) {
        struct kl_str s = kl_text(&list->items[i]);
        struct kl_str why = crd_joined(d->f->arena, KL_V_DNS1035, s);
        if (why.n)
            crd_invalid(d->f, CI(p, i), s, "%.*s", KL_PRI(why));
    }
}

static void check_names(struct crd_definition *d, const struct kl_value *names,
                        const struct crd_path *p)
{
    struct kl_str kind = kl_text(kl_get(names, KL_F_kind));
    struct kl_str list = kl_text(kl_get(names, KL_F_listKind));
    check_label(d, CP(p, "plural"), kl_text(kl_get(names, KL_F_plural)));
    check_label(d, CP(p, "singular"), kl_text(kl_get(names, KL_F_singular)));
    check_kind_name(d, CP(p, "kind"), kind);
    check_kind_name(d, CP(p, "listKind"), list);
    check_labels(d, CP(p, "shortNames"), kl_get(names, KL_F_shortNames));
    if (kind.n && kl_str_eq(kind, list))
        crd_invalid(d->f, CP(p, "listKind"), list, "kind and listKind may not be the same");
    check_labels(d, CP(p, "categories"), kl_get(names, KL_F_categories));
}

// ---- versions
static const struct kl_value *old_version(const struct crd_definition *d, struct kl_str name)
{
    for (KL_EACH(v, kl_get(d->old_spec, KL_F_versions)))
        if (kl_str_eq(kl_text(kl_get(v, KL_F_name)), name))
            return v;
    return NULL;
}

static bool same_schema(const struct crd_definition *d, const struct kl_value *version)
{
    const struct kl_value *old = old_version(d, kl_text(kl_get(version, KL_F_name)));
    return old && kl_value_equal(kl_get(old, KL_F_schema), kl_get(version, KL_F_schema));
}

static void check_version(struct crd_definition *d, const struct kl_value *v,
                          const struct crd_path *p)
{
    const struct kl_value *subs = kl_get(v, KL_F_subresources);
    crd_check_deprecation(d, v, p);
    if (!d->one_schema && crd_version_schema(v))
        crd_check_schema(d, crd_version_schema(v), CP(p, "schema"),
                         kl_get(subs, KL_F_status) != NULL, same_schema(d, v));
    if (!d->one_subresources)
        crd_check_subresources(d, subs, CP(p, "subresources"));
    if (!d->one_columns)
        crd_check_columns(d, kl_get(v, KL_F_additionalPrinterColumns),
                          CP(p, "additionalPrinterColumns"));
    if (d->one_selectable || !kl_len(kl_get(v, KL_F_selectableFields)))
        return;
    if (d->one_schema || !crd_version_schema(v))
        crd_invalid(d->f, CP(p, "selectableFields"), KL_STR(""),
                    "may only be set when `version.schema.openAPIV3Schema` is not included");
    else
        crd_check_selectable(d, v, old_version(d, kl_text(kl_get(v, KL_F_name))),
                             CP(p, "selectableFields"));
}

// What all versions have alike, upstream's internal form has once.
static void find_common(struct crd_definition *d)
{
    const struct kl_value *versions = kl_get(d->spec, KL_F_versions);
    const struct kl_value *first = kl_at(versions, 0);
    d->one_schema = d->one_subresources = d->one_columns = d->one_selectable = kl_len(versions) > 0;
    for (KL_EACH(v, versions)) {
        d->one_schema &= kl_value_equal(kl_get(v, KL_F_schema), kl_get(first, KL_F_schema));
        d->one_subresources &=
            kl_value_equal(kl_get(v, KL_F_subresources), kl_get(first, KL_F_subresources));
        d->one_columns &= kl_value_equal(kl_get(v, KL_F_additionalPrinterColumns),
                                         kl_get(first, KL_F_additionalPrinterColumns));
        d->one_selectable &=
            kl_value_equal(kl_get(v, KL_F_selectableFields), kl_get(first, KL_F_selectableFields));
    }
}

// The versions as upstream's internal type shows them.
static struct kl_str versions_json(struct crd_definition *d)
{
    const struct kl_type *type = kl_type(KL_TYPE_apiextensions_v1_CustomResourceDefinitionVersion);
    struct kl_v c = {.f = d->f};
    struct kl_str all = KL_STR("");
    struct kl_arena *a = d->f->arena;
    for (KL_EACH(v, kl_get(d->spec, KL_F_versions))) {
        struct kl_value shown = *v;
        shown.owned = 0;
        if (d->one_schema)
            kl_unset(a, &shown, KL_F_schema);
        if (d->one_subresources)
            kl_unset(a, &shown, KL_F_subresources);
        if (d->one_columns)
            kl_unset(a, &shown, KL_F_additionalPrinterColumns);
        if (d->one_selectable)
            kl_unset(a, &shown, KL_F_selectableFields);
        all = kl_arena_printf(a, "%.*s%s%.*s", KL_PRI(all), all.n ? "," : "",
                              KL_PRI(kl_v_json(&c, type, &shown, true)));
    }
    return kl_arena_printf(a, "[%.*s]", KL_PRI(all));
}

static void check_versions(struct crd_definition *d, const struct crd_path *up)
{
    const struct kl_value *versions = kl_get(d->spec, KL_F_versions);
    const struct crd_path *p = CP(up, "versions");
    size_t storage = 0;
    bool unique = true;
    for (uint32_t i = 0; i < kl_len(versions); i++) {
        const struct kl_value *v = &versions->items[i];
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        struct kl_str why = crd_joined(d->f->arena, KL_V_DNS1035, name);
        storage += kl_is_true(kl_get(v, KL_F_storage));
        for (uint32_t k = 0; k < i; k++)
            unique &= !kl_str_eq(name, kl_text(kl_get(&versions->items[k], KL_F_name)));
        if (why.n)
            crd_invalid(d->f, CP(CI(p, i), "name"), name, "%.*s", KL_PRI(why));
        check_version(d, v, CI(p, i));
    }
    if (!unique)
        crd_find_at(d->f, "FieldValueInvalid", p, versions_json(d),
                    "must contain unique version names");
    if (storage != 1)
        crd_find_at(d->f, "FieldValueInvalid", p, versions_json(d),
                    "must have exactly one version marked as storage version");
    const struct kl_value *first = kl_at(versions, 0);
    struct kl_str name = kl_text(kl_get(first, KL_F_name)), why = KL_STR("");
    if (name.n)
        why = crd_joined(d->f->arena, KL_V_DNS1035, name);
    if (why.n)
        crd_invalid(d->f, CP(up, "version"), name, "%.*s", KL_PRI(why));
}

// What stands in the definition itself.
static void check_common(struct crd_definition *d, const struct crd_path *p)
{
    const struct kl_value *versions = kl_get(d->spec, KL_F_versions);
    const struct kl_value *first = kl_at(versions, 0);
    bool status = false;
    for (KL_EACH(v, versions))
        status |= kl_path(v, KL_F_subresources, KL_F_status) != NULL;
    if (d->one_schema && crd_version_schema(first))
        crd_check_schema(d, crd_version_schema(first), CP(p, "validation"), status,
                         same_schema(d, first));
    if (d->one_subresources)
        crd_check_subresources(d, kl_get(first, KL_F_subresources), CP(p, "subresources"));
    if (d->one_columns)
        crd_check_columns(d, kl_get(first, KL_F_additionalPrinterColumns),
                          CP(p, "additionalPrinterColumns"));
    if (!d->one_selectable || !kl_len(kl_get(first, KL_F_selectableFields)))
        return;
    if (!d->one_schema || !kl_get(first, KL_F_schema))
        crd_invalid(d->f, CP(p, "selectableFields"), KL_STR(""),
                    "may only be set when validations.schema is included");
    else
        crd_check_selectable(d, first, kl_at(kl_get(d->old_spec, KL_F_versions), 0),
                             CP(p, "selectableFields"));
}

// ---- spec
static void check_group(struct crd_definition *d, const struct crd_path *p)
{
    struct kl_str group = kl_text(kl_get(d->spec, KL_F_group));
    struct kl_str why = crd_joined(d->f->arena, KL_V_SUBDOMAIN, group);
    if (!group.n)
        crd_required(d->f, p, "");
    else if (why.n)
        crd_invalid(d->f, p, group, "%.*s", KL_PRI(why));
    else if (kl_str_chr(group, '.') < 0)
        crd_invalid(d->f, p, group, "should be a domain with at least one dot");
}

static void check_schemas_there(struct crd_definition *d, const struct crd_path *up)
{
    const struct kl_value *versions = kl_get(d->spec, KL_F_versions);
    bool preserve = kl_is_true(kl_get(d->spec, KL_F_preserveUnknownFields));
    if (d->one_schema && crd_version_schema(kl_at(versions, 0)))
        return;
    for (uint32_t i = 0; i < kl_len(versions); i++) {
        const struct kl_value *v = &versions->items[i];
        const struct crd_path *p = CP(CP(CI(CP(up, "versions"), i), "schema"), "openAPIV3Schema");
        if (!d->one_schema && crd_version_schema(v))
            continue;
        if (d->opt.need_schema)
            crd_required(d->f, p, "");
        else if (!preserve && kl_is_true(kl_get(v, KL_F_served)))
            crd_required(d->f, p, "because otherwise all fields are pruned");
    }
}

static void check_required_names(struct crd_definition *d, const struct crd_path *p)
{
    static const struct {
        kl_sym field;
        const char *name;
    } names[] = {{KL_F_plural, "plural"},
                 {KL_F_singular, "singular"},
                 {KL_F_kind, "kind"},
                 {KL_F_listKind, "listKind"}};
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (!kl_text_at(d->spec, KL_F_names, names[i].field).n)
            crd_required(d->f, &(struct crd_path){.up = p, .name = kl_str(names[i].name)}, "");
}

static void check_same(struct crd_definition *d, const struct crd_path *p, struct kl_str now,
                       struct kl_str old)
{
    if (!kl_str_eq(now, old))
        crd_invalid(d->f, p, now, "field is immutable");
}

static void check_spec(struct crd_definition *d)
{
    static const char *const scopes[] = {"Cluster", "Namespaced", NULL};
    const struct crd_path *p = CP(NULL, "spec"), *names = CP(p, "names");
    struct kl_str scope = kl_text(kl_get(d->spec, KL_F_scope));
    bool preserve = kl_is_true(kl_get(d->spec, KL_F_preserveUnknownFields));
    find_common(d);
    check_group(d, CP(p, "group"));
    if (!scope.n)
        crd_required(d->f, CP(p, "scope"), "");
    else if (!kl_v_in(scope, scopes))
        crd_unsupported(d->f, CP(p, "scope"), scope, scopes);
    if (!preserve)
        d->opt.need_structural = true;
    check_schemas_there(d, p);
    if (any_schema(d->spec, has_default)) {
        d->opt.need_structural = true;
        if (preserve)
            crd_find_at(d->f, "FieldValueInvalid", CP(p, "preserveUnknownFields"), KL_STR("true"),
                        "must be false in order to use defaults in the schema");
    }
    if (any_schema(d->spec, has_extension))
        d->opt.need_structural = true;
    check_versions(d, p);
    check_required_names(d, names);
    check_names(d, kl_get(d->spec, KL_F_names), names);
    check_common(d, p);
    crd_check_conversion(d, CP(p, "conversion"));
    if (!d->old_spec)
        return;
    if (d->opt.fixed_names) {
        check_same(d, CP(p, "scope"), scope, kl_text(kl_get(d->old_spec, KL_F_scope)));
        check_same(d, CP(names, "kind"), kl_text_at(d->spec, KL_F_names, KL_F_kind),
                   kl_text_at(d->old_spec, KL_F_names, KL_F_kind));
    }
    check_same(d, CP(p, "group"), kl_text(kl_get(d->spec, KL_F_group)),
               kl_text(kl_get(d->old_spec, KL_F_group)));
    check_same(d, CP(names, "plural"), kl_text_at(d->spec, KL_F_names, KL_F_plural),
               kl_text_at(d->old_spec, KL_F_names, KL_F_plural));
}

// ---- the whole
static void check_stored(struct crd_definition *d, const struct kl_value *stored)
{
    const struct crd_path *p = CP(CP(NULL, "status"), "storedVersions");
    const struct kl_value *versions = kl_get(d->spec, KL_F_versions);
    if (!kl_len(stored)) {
        crd_find_at(d->f, "FieldValueInvalid", p, stored ? KL_STR("[]") : KL_STR("null"),
                    "must have at least one stored version");
        return;
    }
    for (KL_EACH(v, versions)) {
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        bool there = false;
        for (KL_EACH(s, stored))
            there |= kl_str_eq(kl_text(s), name);
        for (const struct kl_value *before = versions->items; before < v; before++)
            there &= !kl_str_eq(kl_text(kl_get(before, KL_F_name)), name); // upstream takes it once
        if (kl_is_true(kl_get(v, KL_F_storage)) && !there)
            crd_find_at(d->f, "FieldValueInvalid", p, crd_show(d->f->arena, stored),
                        "must have the storage version %.*s", KL_PRI(name));
    }
    for (uint32_t i = 0; i < stored->n; i++) {
        struct kl_str name = kl_text(&stored->items[i]);
        bool there = false;
        for (KL_EACH(v, versions))
            there |= kl_str_eq(kl_text(kl_get(v, KL_F_name)), name);
        if (!there)
            crd_invalid(d->f, CI(p, i), name,
                        "missing from spec.versions; %.*s was previously a storage version, and "
                        "must remain in spec.versions until a storage migration ensures no data "
                        "remains persisted in %.*s and removes %.*s from status.storedVersions",
                        KL_PRI(name), KL_PRI(name), KL_PRI(name));
    }
}

enum approval { MISSING, BYPASSED, APPROVED, BAD };

static enum approval approval_of(struct kl_arena *a, struct kl_str s)
{
    struct cel_url u;
    ptrdiff_t scheme = kl_str_chr(s, ':');
    if (!s.n)
        return MISSING;
    if (kl_str_starts(s, KL_STR("unapproved")))
        return BYPASSED;
    struct kl_str rest = scheme > 0 ? kl_str_from(s, (size_t)scheme + 1) : KL_STR("");
    bool host = kl_str_starts(rest, KL_STR("//")) && rest.n > 2 && rest.p[2] != '/';
    return !cel_url_parse(a, s, NULL) && !cel_url_parse(a, s, &u) && host ? APPROVED : BAD;
}

static void check_approval(struct crd_definition *d, const struct kl_value *now,
                           const struct kl_value *old)
{
    static const struct kl_str name = KL_STR_INIT("api-approved.kubernetes.io");
    struct kl_str group = kl_text(kl_get(d->spec, KL_F_group));
    struct kl_str is = kl_text(kl_map_value(kl_meta_annotations(now), name));
    struct kl_str was = kl_text(kl_map_value(kl_meta_annotations(old), name));
    const struct crd_path *p = CK(CP(CP(NULL, "metadata"), "annotations"), name);
    if (!kl_str_eqz(group, "k8s.io") && !kl_str_eqz(group, "kubernetes.io") &&
        !kl_str_ends(group, KL_STR(".k8s.io")) && !kl_str_ends(group, KL_STR(".kubernetes.io")))
        return;
    enum approval state = approval_of(d->f->arena, is);
    if (old && approval_of(d->f->arena, was) == state)
        return;
    if (state == MISSING)
        crd_required(d->f, p,
                     "protected groups must have approval annotation "
                     "\"api-approved.kubernetes.io\", see "
                     "https://github.com/kubernetes/enhancements/pull/1111");
    else if (state == BAD)
        crd_invalid(d->f, p, is,
                    "protected groups must have approval annotation "
                    "\"api-approved.kubernetes.io\" with either a URL or a reason starting with "
                    "\"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111");
}

static void check_meta(struct crd_definition *d, const struct kl_value *now,
                       const struct kl_value *old)
{
    struct kl_resource res = {.namespaced = false};
    struct kl_v v = {
        .f = d->f, .res = &res, .now = now, .old = old, .meta = {.sym = KL_F_metadata}};
    const struct crd_path *p = CP(NULL, "metadata");
    static const char why[] = "must be spec.names.plural+\".\"+spec.group";
    if (old) {
        kl_v_meta_update_plain(&v);
        return;
    }
    struct kl_str wanted = kl_arena_printf(d->f->arena, "%.*s.%.*s",
                                           KL_PRI(kl_text_at(d->spec, KL_F_names, KL_F_plural)),
                                           KL_PRI(kl_text(kl_get(d->spec, KL_F_group))));
    struct kl_str name = kl_meta_name(now);
    struct kl_str prefix = kl_text_at(now, KL_F_metadata, KL_F_generateName);
    kl_v_meta_plain(&v, KL_V_SUBDOMAIN);
    if (prefix.n && !kl_str_eq(prefix, wanted))
        crd_invalid(d->f, CP(p, "generateName"), prefix, "%s", why);
    if (name.n && !kl_str_eq(name, wanted))
        crd_invalid(d->f, CP(p, "name"), name, "%s", why);
}

int kl_crd_definition_validate(struct kl_findings *f, const struct kl_value *now,
                               const struct kl_value *old)
{
    struct crd_definition d = {.f = f,
                               .spec = kl_get(now, KL_F_spec),
                               .old_spec = kl_get(old, KL_F_spec),
                               .opt = options_of(f->arena, old)};
    check_meta(&d, now, old);
    check_spec(&d);
    check_names(&d, kl_path(now, KL_F_status, KL_F_acceptedNames),
                CP(CP(NULL, "status"), "acceptedNames"));
    check_stored(&d, kl_path(now, KL_F_status, KL_F_storedVersions));
    check_approval(&d, now, old);
    if (kl_is_true(kl_get(d.spec, KL_F_preserveUnknownFields)) &&
        !kl_is_true(kl_get(d.old_spec, KL_F_preserveUnknownFields)))
        crd_find_at(f, "FieldValueInvalid", CP(CP(NULL, "spec"), "preserveUnknownFields"),
                    KL_STR("true"),
                    "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
                    "spec.versions[*].schema instead");
    return d.err;
}

int kl_crd_definition_validate_status(struct kl_findings *f, const struct kl_value *now,
                                      const struct kl_value *old)
{
    struct crd_definition d = {.f = f, .spec = kl_get(now, KL_F_spec)};
    check_meta(&d, now, old);
    check_names(&d, kl_path(now, KL_F_status, KL_F_acceptedNames),
                CP(CP(NULL, "status"), "acceptedNames"));
    return d.err;
}

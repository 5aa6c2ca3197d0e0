// SPDX-License-Identifier: Apache-2.0
// Heads of embedded objects (apiserver/schema/objectmeta/validation.go).
#include "object/crd/draft_int.h"
#include "object/validate/validate_int.h"

static bool check_version(struct kl_findings *f, const struct crd_path *at,
                          const struct kl_value *v)
{
    struct kl_str s = kl_text(v);
    size_t slashes = 0;
    if (v->kind != KL_STRING)
        return crd_find_at(f, "FieldValueInvalid", at, crd_show(f->arena, v), "must be a string");
    if (!s.n)
        return crd_find_at(f, "FieldValueInvalid", at, KL_STR("\"\""), "must not be empty");
    for (size_t i = 0; i < s.n; i++)
        slashes += s.p[i] == '/';
    return slashes < 2 || crd_find_at(f, "FieldValueInvalid", at, crd_quote(f->arena, s),
                                      "unexpected GroupVersion string: %.*s", KL_PRI(s));
}

static bool check_kind(struct kl_findings *f, const struct crd_path *at, const struct kl_value *v)
{
    const char *msg[KL_V_MESSAGES];
    struct kl_str s = kl_text(v), lower;
    if (v->kind != KL_STRING)
        return crd_find_at(f, "FieldValueInvalid", at, crd_show(f->arena, v), "must be a string");
    if (!s.n)
        return crd_find_at(f, "FieldValueInvalid", at, KL_STR("\"\""), "must not be empty");
    lower = kl_arena_dup(f->arena, s);
    if (!lower.p)
        return false;
    for (size_t i = 0; i < lower.n; i++)
        if (lower.p[i] >= 'A' && lower.p[i] <= 'Z')
            ((char *)(uintptr_t)lower.p)[i] = (char)(lower.p[i] | 0x20);
    size_t n = kl_v_messages(KL_V_DNS1035, lower, msg);
    struct kl_str all = KL_STR("");
    for (size_t i = 0; i < n; i++)
        all = kl_arena_printf(f->arena, "%.*s%s%s", KL_PRI(all), i ? "," : "", msg[i]);
    return !n || crd_find_at(f, "FieldValueInvalid", at, crd_quote(f->arena, s),
                             "may have mixed case, but should otherwise match: %.*s", KL_PRI(all));
}

static bool check_meta(struct kl_findings *f, const struct crd_path *at, const struct kl_value *v)
{
    struct kl_value typed, root = kl_new_struct(), name = kl_stringz("fakename");
    struct kl_error why = {0};
    int r = crd_object_meta(f->arena, v, false, "metadata", NULL, &typed, &why);
    if (r == KL_EBADREQUEST)
        return crd_find_at(f, "FieldValueInvalid", at, crd_show(f->arena, v), "%s", why.msg);
    if (r)
        return false;
    if (!kl_text(kl_get(&typed, KL_F_name)).n && kl_set(f->arena, &typed, KL_F_name, name))
        return false;
    if (kl_set(f->arena, &root, KL_F_metadata, typed))
        return false;
    struct kl_str path = crd_path_text(f->arena, at);
    struct kl_resource res = {.namespaced = kl_text(kl_get(&typed, KL_F_namespace)).n > 0};
    struct kl_v c = {.f = f, .res = &res, .now = &root, .meta = {.name = path.p}};
    kl_v_meta_plain(&c, KL_V_PATH_SEGMENT);
    return path.p != NULL;
}

bool crd_validate_head(struct kl_findings *f, const struct crd_path *path, const struct kl_value *v)
{
    static const char *const names[] = {"apiVersion", "kind"};
    bool ok = true;
    for (size_t i = 0; i < KL_COUNT(names); i++) {
        struct crd_path at = {.up = path, .name = kl_str(names[i])};
        if (!kl_map_value(v, at.name))
            ok = ok && crd_find_at(f, "FieldValueRequired", &at, CRD_OMIT, "%s", "");
    }
    for (KL_MAP_EACH_KEY(k, v)) {
        struct crd_path at = {.up = path, .name = kl_text(k)};
        if (kl_str_eqz(at.name, "apiVersion"))
            ok = ok && check_version(f, &at, k + 1);
        else if (kl_str_eqz(at.name, "kind"))
            ok = ok && check_kind(f, &at, k + 1);
        else if (kl_str_eqz(at.name, "metadata"))
            ok = ok && check_meta(f, &at, k + 1);
    }
    return ok;
}

int crd_validate_embedded(struct kl_findings *f, const struct crd_words *s, crd_ref node,
                          const struct crd_path *path, const struct kl_value *v)
{
    int r = 0;
    if (!node || !(crd_flags(s, node) & CRD_HAS_EMBEDDED))
        return 0;
    if (v->kind == KL_MAP) {
        if ((crd_flags(s, node) & CRD_EMBEDDED) && !crd_validate_head(f, path, v))
            return KL_ENOMEM;
        crd_ref extra = crd_attr(s, node, CRD_EXTRA);
        for (KL_MAP_EACH_KEY(k, v)) {
            crd_ref prop = crd_prop(s, node, kl_text(k));
            struct crd_path at = {.up = path, .name = kl_text(k), .key = !prop};
            r = r ? r : crd_validate_embedded(f, s, prop ? prop : extra, &at, k + 1);
        }
    } else if (v->kind == KL_ARRAY) {
        crd_ref items = crd_attr(s, node, CRD_ITEMS);
        for (uint32_t i = 0; !r && i < v->n; i++) {
            struct crd_path at = {.up = path, .index = i};
            r = crd_validate_embedded(f, s, items, &at, &v->items[i]);
        }
    }
    return r;
}

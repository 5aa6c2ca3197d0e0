// SPDX-License-Identifier: Apache-2.0
// What a version has beside its schema: subresources, columns, selectable fields.
#include "object/crd/definition_int.h"
#include "object/validate/validate_int.h"

static void check_simple_path(struct crd_definition *d, struct kl_str s, const struct crd_path *p,
                              const char *under, const char *or_under, const char *why)
{
    if (s.p[0] != '.')
        crd_invalid(d->f, p, s, "must be a simple json path starting with .");
    else if (under && !kl_str_starts(s, kl_str(under)) &&
             !(or_under && kl_str_starts(s, kl_str(or_under))))
        crd_invalid(d->f, p, s, "%s", why);
}

void crd_check_subresources(struct crd_definition *d, const struct kl_value *subs,
                            const struct crd_path *p)
{
    const struct kl_value *scale = kl_get(subs, KL_F_scale);
    struct kl_str spec = kl_text(kl_get(scale, KL_F_specReplicasPath));
    struct kl_str status = kl_text(kl_get(scale, KL_F_statusReplicasPath));
    struct kl_str selector = kl_text(kl_get(scale, KL_F_labelSelectorPath));
    if (!scale)
        return;
    if (!spec.n)
        crd_required(d->f, CP(p, "scale.specReplicasPath"), "");
    else
        check_simple_path(d, spec, CP(p, "scale.specReplicasPath"), ".spec.", NULL,
                          "should be a json path under .spec");
    if (!status.n)
        crd_required(d->f, CP(p, "scale.statusReplicasPath"), "");
    else
        check_simple_path(d, status, CP(p, "scale.statusReplicasPath"), ".status.", NULL,
                          "should be a json path under .status");
    if (selector.n)
        check_simple_path(d, selector, CP(p, "scale.labelSelectorPath"), ".spec.", ".status.",
                          "should be a json path under either .spec or .status");
}

static void check_column(struct crd_definition *d, const struct kl_value *c,
                         const struct crd_path *p)
{
    static const char *const types[] = {"boolean", "date", "integer", "number", "string", NULL};
    static const char *const formats[] = {"byte",  "date",  "date-time", "double", "float",
                                          "int32", "int64", "password",  NULL};
    struct kl_str type = kl_text(kl_get(c, KL_F_type)), format = kl_text(kl_get(c, KL_F_format));
    struct kl_str path = kl_text(kl_get(c, KL_F_jsonPath));
    if (!kl_text(kl_get(c, KL_F_name)).n)
        crd_required(d->f, CP(p, "name"), "");
    if (!type.n)
        crd_required(d->f, CP(p, "type"), "must be one of boolean,date,integer,number,string");
    else if (!kl_v_in(type, types))
        crd_invalid(d->f, CP(p, "type"), type, "must be one of boolean,date,integer,number,string");
    if (format.n && !kl_v_in(format, formats))
        crd_invalid(d->f, CP(p, "format"), format,
                    "must be one of byte,date,date-time,double,float,int32,int64,password");
    if (!path.n)
        crd_required(d->f, CP(p, "JSONPath"), "");
    else
        check_simple_path(d, path, CP(p, "JSONPath"), NULL, NULL, NULL);
}

void crd_check_columns(struct crd_definition *d, const struct kl_value *list,
                       const struct crd_path *p)
{
    for (uint32_t i = 0; i < kl_len(list); i++)
        check_column(d, &list->items[i], CI(p, i));
}

void crd_check_selectable(struct crd_definition *d, const struct kl_value *version,
                          const struct kl_value *old, const struct crd_path *p)
{
    const struct kl_value *list = kl_get(version, KL_F_selectableFields);
    const struct kl_value *before = kl_get(old, KL_F_selectableFields);
    struct kl_crd_schema *s = NULL;
    struct kl_str *seen = kl_arena_alloc(d->f->arena, (kl_len(list) + 1) * sizeof *seen);
    struct kl_error why;
    size_t n = 0;
    if (!kl_len(list) || !seen || crd_schema_bare(crd_version_schema(version), &s, &why))
        return;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct crd_path *at = CP(CI(p, i), "jsonPath");
        struct kl_str text = kl_text(kl_get(&list->items[i], KL_F_jsonPath)), path;
        crd_ref node = 0;
        bool known = false;
        if (!text.n) {
            crd_required(d->f, at, "");
            continue;
        }
        if (crd_field_path(d->f->arena, &s->words, s->root, text, false, &path, &node, &why)) {
            crd_invalid(d->f, at, text, "is an invalid path: %s", why.msg);
            continue;
        }
        if (kl_str_eqz(path, "metadata") || kl_str_starts(path, KL_STR("metadata.")))
            crd_invalid(d->f, at, text, "must not point to fields in metadata");
        uint32_t type = node ? crd_flags(&s->words, node) & (CRD_TYPES | CRD_INT_OR_STRING) : 0;
        if (type != CRD_STRING && type != CRD_BOOLEAN && type != CRD_INTEGER)
            crd_invalid(d->f, at, text,
                        "must point to a field of type string, boolean or integer. Enum string "
                        "fields and strings with formats are allowed.");
        for (size_t k = 0; k < n; k++)
            known |= kl_str_eq(seen[k], path);
        if (known)
            crd_find_at(d->f, "FieldValueDuplicate", at, crd_quote(d->f->arena, text), "%s", "");
        else
            seen[n++] = path;
    }
    bool kept = kl_len(before) > CRD_SELECTABLE_MAX && kl_value_equal(list, before);
    if (n > CRD_SELECTABLE_MAX && !kept)
        crd_find_at(d->f, "FieldValueTooMany", p, kl_arena_printf(d->f->arena, "%zu", n),
                    "must have at most %d items", CRD_SELECTABLE_MAX);
    kl_crd_schema_unref(s);
}

// The character at which a text is not printable, or -1.
static int64_t unprintable(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa1;
        if (c < 0x20 || c == 0x7f || c1)
            return (int64_t)i;
    }
    return -1;
}

void crd_check_deprecation(struct crd_definition *d, const struct kl_value *v,
                           const struct crd_path *up)
{
    const struct crd_path *p = CP(up, "deprecationWarning");
    const struct kl_value *warning = kl_get(v, KL_F_deprecationWarning);
    struct kl_str s = kl_text(warning);
    int64_t at = unprintable(s);
    if (!warning)
        return;
    if (!kl_is_true(kl_get(v, KL_F_deprecated))) {
        crd_invalid(d->f, p, s, "can only be set for deprecated versions");
        return;
    }
    if (s.n > 256)
        crd_invalid(d->f, p, s, "must be <= 256 characters long");
    if (!s.n)
        crd_invalid(d->f, p, s, "must not be an empty string");
    if (at >= 0)
        crd_invalid(d->f, p, s,
                    "must only contain printable UTF-8 characters; non-printable character found "
                    "at index %lld",
                    (long long)at);
    if (!kl_utf8_valid(s))
        crd_invalid(d->f, p, s, "must only contain printable UTF-8 characters");
}

// SPDX-License-Identifier: Apache-2.0
// Findings of definitions, and walks over their schemas.
#include "object/crd/definition_int.h"
#include "object/validate/validate_int.h"

void crd_required(struct kl_findings *f, const struct crd_path *p, const char *detail)
{
    crd_find_at(f, "FieldValueRequired", p, CRD_OMIT, "%s", detail);
}

void crd_forbidden(struct kl_findings *f, const struct crd_path *p, const char *detail)
{
    crd_find_at(f, "FieldValueForbidden", p, CRD_OMIT, "%s", detail);
}

void crd_invalid(struct kl_findings *f, const struct crd_path *p, struct kl_str value,
                 const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct kl_str detail = kl_arena_vprintf(f->arena, fmt, ap);
    va_end(ap);
    crd_find_at(f, "FieldValueInvalid", p, crd_quote(f->arena, value), "%.*s", KL_PRI(detail));
}

void crd_unsupported(struct kl_findings *f, const struct crd_path *p, struct kl_str value,
                     const char *const *supported)
{
    struct kl_buf b;
    kl_buf_init(&b, 4096);
    for (size_t i = 0; supported[i]; i++)
        kl_buf_printf(&b, "%s\"%s\"", i ? ", " : "supported values: ", supported[i]);
    crd_find_at(f, "FieldValueNotSupported", p, crd_quote(f->arena, value), "%.*s",
                KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
}

struct kl_str crd_joined(struct kl_arena *a, enum kl_v_format format, struct kl_str s)
{
    const char *msg[KL_V_MESSAGES];
    size_t n = kl_v_messages(format, s, msg);
    struct kl_str all = KL_STR("");
    for (size_t i = 0; i < n; i++)
        all = kl_arena_printf(a, "%.*s%s%s", KL_PRI(all), i ? "," : "", msg[i]);
    return all;
}

struct kl_str crd_lower(struct kl_arena *a, struct kl_str s)
{
    struct kl_str out = kl_arena_dup(a, s);
    for (size_t i = 0; out.p && i < out.n; i++)
        if (out.p[i] >= 'A' && out.p[i] <= 'Z')
            ((char *)(uintptr_t)out.p)[i] = (char)(out.p[i] | 0x20);
    return out.p ? out : KL_STR("");
}

bool crd_schema_has(const struct kl_value *s, bool (*fn)(const struct kl_value *s))
{
    static const kl_sym one[] = {KL_F_items, KL_F_not, KL_F_additionalProperties,
                                 KL_F_additionalItems};
    static const kl_sym lists[] = {KL_F_allOf, KL_F_anyOf, KL_F_oneOf, KL_F_items};
    static const kl_sym maps[] = {KL_F_properties, KL_F_patternProperties, KL_F_definitions,
                                  KL_F_dependencies};
    if (!kl_is(s, KL_STRUCT))
        return false;
    if (fn(s))
        return true;
    for (size_t i = 0; i < KL_COUNT(one); i++)
        if (crd_schema_has(crd_schema_part(s, one[i]), fn))
            return true;
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        const struct kl_value *list = kl_get(s, lists[i]);
        for (uint32_t k = 0; kl_is(list, KL_ARRAY) && k < list->n; k++)
            if (crd_schema_has(&list->items[k], fn))
                return true;
    }
    for (size_t i = 0; i < KL_COUNT(maps); i++)
        for (KL_MAP_EACH_KEY(k, kl_get(s, maps[i])))
            if (crd_schema_has(k + 1, fn))
                return true;
    return false;
}

// SPDX-License-Identifier: Apache-2.0
// Findings of definitions, and walks over their schemas.
#include "object/crd/definition_int.h"
#include "object/validate/validate_int.h"
#include <stdlib.h>

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

bool crd_schema_has(const struct kl_value *s, bool (*fn)(const struct kl_value *s, void *ctx),
                    void *ctx)
{
    static const kl_sym one[] = {KL_F_items, KL_F_not, KL_F_additionalProperties,
                                 KL_F_additionalItems};
    static const kl_sym lists[] = {KL_F_allOf, KL_F_anyOf, KL_F_oneOf, KL_F_items};
    static const kl_sym maps[] = {KL_F_properties, KL_F_patternProperties, KL_F_definitions,
                                  KL_F_dependencies};
    if (!kl_is(s, KL_STRUCT))
        return false;
    if (fn(s, ctx))
        return true;
    for (size_t i = 0; i < KL_COUNT(one); i++)
        if (crd_schema_has(crd_schema_part(s, one[i]), fn, ctx))
            return true;
    for (size_t i = 0; i < KL_COUNT(lists); i++) {
        const struct kl_value *list = kl_get(s, lists[i]);
        for (uint32_t k = 0; kl_is(list, KL_ARRAY) && k < list->n; k++)
            if (crd_schema_has(&list->items[k], fn, ctx))
                return true;
    }
    for (size_t i = 0; i < KL_COUNT(maps); i++)
        for (KL_MAP_EACH_KEY(k, kl_get(s, maps[i])))
            if (crd_schema_has(k + 1, fn, ctx))
                return true;
    return false;
}

// ---- warnings
struct formats {
    struct kl_arena *a;
    struct kl_str *list;
    size_t n, cap;
    int rc; // KL_ENOMEM: not all of them are there
};

static bool note_format(const struct kl_value *s, void *ctx)
{
    struct formats *x = ctx;
    struct kl_str format = kl_text(kl_get(s, KL_F_format));
    if (!format.n ||
        crd_format_of(format, crd_type_bits(kl_text(kl_get(s, KL_F_type)))) != CRD_F_UNKNOWN)
        return false;
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 8;
        struct kl_str *more = kl_arena_alloc(x->a, cap * sizeof *more);
        if (!more) {
            x->rc = KL_ENOMEM;
            return true; // ends the walk
        }
        if (x->n)
            memcpy(more, x->list, x->n * sizeof *more);
        x->list = more;
        x->cap = cap;
    }
    x->list[x->n++] = format;
    return false;
}

static struct formats unknown_formats(struct kl_arena *a, const struct kl_value *crd)
{
    struct formats x = {.a = a};
    const struct kl_value *versions = kl_path(crd, KL_F_spec, KL_F_versions);
    const struct kl_value *first = crd_version_schema(kl_at(versions, 0));
    bool same = true;
    for (KL_EACH(v, versions))
        same &= kl_value_equal(first, crd_version_schema(v));
    for (KL_EACH(v, versions)) {
        crd_schema_has(crd_version_schema(v), note_format, &x);
        if (same || x.rc) // upstream's internal form has it once
            break;
    }
    return x;
}

int kl_crd_definition_warnings(struct kl_arena *a, const struct kl_value *now,
                               const struct kl_value *old, struct kl_str **ret, size_t *ret_n)
{
    struct formats is = unknown_formats(a, now), was = unknown_formats(a, old);
    size_t n = 0;
    if (is.rc || was.rc)
        return KL_ENOMEM;
    if (was.n) // there may be as many as a definition holds
        qsort(was.list, was.n, sizeof *was.list, kl_str_order);
    for (size_t i = 0; i < is.n; i++) {
        if (was.n && bsearch(&is.list[i], was.list, was.n, sizeof *was.list, kl_str_order))
            continue;
        is.list[n] =
            kl_arena_printf(a, "unrecognized format %.*s", KL_PRI(crd_quote(a, is.list[i])));
        if (!is.list[n++].p)
            return KL_ENOMEM;
    }
    *ret = is.list;
    *ret_n = n;
    return 0;
}

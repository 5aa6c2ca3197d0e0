// SPDX-License-Identifier: Apache-2.0
// What the configuration limits: it may be used only where a quota says how much (the second half
// of CheckRequest).
#include "object/quota/quota_int.h"
#include "base/buf.h"

enum { TEXT_MAX_BYTES = 64 << 10 };

static bool contains(struct kl_str s, struct kl_str part)
{
    for (size_t i = 0; i + part.n <= s.n; i++)
        if (kl_str_starts(kl_str_from(s, i), part))
            return true;
    return false;
}

// limitedByDefault
static bool is_limited(const struct kl_quota_write *w, struct kl_str name)
{
    for (size_t i = 0; i < w->nlimited; i++) {
        const struct kl_quota_limited *l = &w->limited[i];
        if (!kl_str_eq(l->group, w->group) || !kl_str_eq(l->plural, w->plural))
            continue;
        for (size_t k = 0; k < l->ncontains; k++)
            if (contains(name, l->contains[k]))
                return true;
    }
    return false;
}

// What of the quotas that the object falls under is measured of it.
static bool is_covered(const struct kl_quota_write *w, struct kl_str name)
{
    if (!kl_quota_measures(&w->meter, name))
        return false;
    for (size_t i = 0; i < w->nquotas; i++)
        if (w->quotas[i].interesting &&
            kl_map_value(kl_path(w->quotas[i].quota, KL_F_status, KL_F_hard), name))
            return true;
    return false;
}

static bool quota_has_scope(const struct kl_quota_write *w, const struct kl_value *quota,
                            struct kl_str scope)
{
    const struct kl_value *spec = kl_get(quota, KL_F_spec);
    for (KL_EACH(s, kl_get(spec, KL_F_scopes)))
        if (kl_str_eq(kl_text(s), scope) && kl_quota_scope_holds(&w->meter, scope, NULL, w->object))
            return true;
    for (KL_EACH(s, kl_path(spec, KL_F_scopeSelector, KL_F_matchExpressions)))
        if (kl_str_eq(kl_text(kl_get(s, KL_F_scopeName)), scope) &&
            kl_quota_scope_holds(&w->meter, scope, s, w->object))
            return true;
    return false;
}

// Go's %v of a ScopedResourceSelectorRequirement.
static void put_scope(struct kl_buf *b, const struct kl_value *s, size_t n)
{
    size_t i = 0;
    kl_buf_printf(b, "%s{%.*s %.*s [", n ? " " : "", KL_PRI(kl_text(kl_get(s, KL_F_scopeName))),
                  KL_PRI(kl_text(kl_get(s, KL_F_operator))));
    for (KL_EACH(v, kl_get(s, KL_F_values)))
        kl_buf_printf(b, "%s%.*s", i++ ? " " : "", KL_PRI(kl_text(v)));
    kl_buf_puts(b, KL_STR("]}"));
}

static int check_scopes(struct kl_arena *a, struct kl_quota_write *w)
{
    struct kl_buf b;
    size_t n = 0;
    kl_buf_init(&b, TEXT_MAX_BYTES);
    for (size_t i = 0; i < w->nlimited; i++)
        for (KL_EACH(s, w->limited[i].scopes)) {
            struct kl_str scope = kl_text(kl_get(s, KL_F_scopeName));
            bool covered = !kl_quota_scope_holds(&w->meter, scope, s, w->object);
            for (size_t k = 0; k < w->nquotas && !covered; k++)
                covered = quota_has_scope(w, w->quotas[k].quota, scope);
            if (!covered)
                put_scope(&b, s, n++);
        }
    if (n)
        w->why = kl_arena_printf(a, "insufficient quota to match these scopes: [%.*s]",
                                 KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return !n ? 0 : w->why.p ? KL_QUOTA_UNCOVERED : KL_ENOMEM;
}

int kl_quota_check_limited(struct kl_arena *a, struct kl_quota_write *w,
                           const struct kl_amounts *used)
{
    struct kl_quota_names missing = {0};
    for (size_t i = 0; i < used->n; i++) {
        struct kl_str name = used->v[i].name;
        if (used->v[i].q.nano > 0 && is_limited(w, name) && !is_covered(w, name) &&
            kl_quota_names_add(a, &missing, name))
            return KL_ENOMEM;
    }
    if (!missing.n)
        return check_scopes(a, w);
    struct kl_str list = kl_quota_names_joined(a, &missing);
    w->why = kl_arena_printf(a, "insufficient quota to consume: %.*s", KL_PRI(list));
    return w->why.p ? KL_QUOTA_EXCEEDS : KL_ENOMEM;
}

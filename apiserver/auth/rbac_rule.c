// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/authz_int.h"

bool kl_list_has(const struct kl_value *list, struct kl_str s)
{
    for (KL_EACH(v, list))
        if (kl_str_eq(kl_text(v), s))
            return true;
    return false;
}

static bool has_or_all(const struct kl_value *list, struct kl_str s)
{
    for (KL_EACH(v, list)) {
        struct kl_str t = kl_text(v);
        if (kl_str_eq(t, s) || (t.n == 1 && t.p[0] == '*'))
            return true;
    }
    return false;
}

// "*", "pods", "pods/log", "*/scale"
static bool resource_matches(const struct kl_value *list, const struct kl_attrs *t)
{
    for (KL_EACH(v, list)) {
        struct kl_str r = kl_text(v);
        if (r.n == 1 && r.p[0] == '*')
            return true;
        if (!t->sub.n) {
            if (kl_str_eq(r, t->plural))
                return true;
            continue;
        }
        if (!kl_str_ends(r, t->sub) || r.n < t->sub.n + 2 || r.p[r.n - t->sub.n - 1] != '/')
            continue;
        struct kl_str of = {r.p, r.n - t->sub.n - 1};
        if (kl_str_eq(of, t->plural) || (of.n == 1 && of.p[0] == '*'))
            return true;
    }
    return false;
}

bool kl_rule_matches_path(const struct kl_value *rule, struct kl_str path)
{
    for (KL_EACH(v, kl_get(rule, KL_F_nonResourceURLs))) {
        struct kl_str u = kl_text(v);
        if (kl_str_eq(u, path))
            return true;
        if (!u.n || u.p[u.n - 1] != '*')
            continue;
        while (u.n && u.p[u.n - 1] == '*')
            u.n--;
        if (kl_str_starts(path, u))
            return true;
    }
    return false;
}

bool kl_rule_matches(const struct kl_value *rule, const struct kl_attrs *t, bool *ret_named)
{
    *ret_named = false;
    if (!has_or_all(kl_get(rule, KL_F_verbs), t->verb))
        return false;
    if (!t->is_resource)
        return kl_rule_matches_path(rule, t->path);
    *ret_named = kl_len(kl_get(rule, KL_F_resourceNames)) > 0;
    return has_or_all(kl_get(rule, KL_F_apiGroups), t->group) &&
           resource_matches(kl_get(rule, KL_F_resources), t);
}

bool kl_rule_allows_name(const struct kl_value *rule, struct kl_str name)
{
    return kl_list_has(kl_get(rule, KL_F_resourceNames), name);
}

bool kl_rule_allows(const struct kl_value *rule, const struct kl_attrs *t)
{
    bool named;
    return kl_rule_matches(rule, t, &named) && (!named || kl_rule_allows_name(rule, t->name));
}

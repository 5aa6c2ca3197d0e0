// SPDX-License-Identifier: Apache-2.0
// Which FlowSchema a request is of (apiserver/pkg/util/flowcontrol/rule.go).
#include "apiserver/fairness/fairness_int.h"

// The one entry "*" is everything; elsewhere it is a name like others.
static bool list_has(const struct kl_value *list, struct kl_str x)
{
    if (kl_len(list) == 1 && kl_str_eqz(kl_text(list->items), "*"))
        return true;
    for (KL_EACH(v, list))
        if (kl_str_eq(kl_text(v), x))
            return true;
    return false;
}

static bool list_has_resource(const struct kl_value *list, struct kl_str plural, struct kl_str sub)
{
    if (!sub.n)
        return list_has(list, plural);
    if (kl_len(list) == 1 && kl_str_eqz(kl_text(list->items), "*"))
        return true;
    for (KL_EACH(v, list)) {
        struct kl_str t = kl_text(v);
        if (t.n == plural.n + 1 + sub.n && kl_str_starts(t, plural) && t.p[plural.n] == '/' &&
            kl_str_ends(t, sub))
            return true;
    }
    return false;
}

static bool is_account(struct kl_str user, struct kl_str ns, struct kl_str name)
{
    struct kl_str prefix = KL_STR("system:serviceaccount:");
    if (!kl_str_starts(user, prefix))
        return false;
    user = kl_str_from(user, prefix.n);
    if (!kl_str_starts(user, ns) || user.n <= ns.n || user.p[ns.n] != ':')
        return false;
    return kl_str_eqz(name, "*") || kl_str_eq(kl_str_from(user, ns.n + 1), name);
}

static bool is_subject(const struct kl_value *s, const struct kl_user *u)
{
    struct kl_str kind = kl_text(kl_get(s, KL_F_kind)), name;
    if (kl_str_eqz(kind, "User")) {
        name = kl_text_at(s, KL_F_user, KL_F_name);
        return kl_str_eqz(name, "*") || (name.n && kl_str_eq(name, u->name));
    }
    if (kl_str_eqz(kind, "Group")) {
        name = kl_text_at(s, KL_F_group, KL_F_name);
        return kl_str_eqz(name, "*") || (name.n && kl_user_in_group(u, name));
    }
    const struct kl_value *account = kl_get(s, KL_F_serviceAccount);
    return kl_str_eqz(kind, "ServiceAccount") && account &&
           is_account(u->name, kl_text(kl_get(account, KL_F_namespace)),
                      kl_text(kl_get(account, KL_F_name)));
}

static bool resource_matches(const struct kl_value *rule, const struct kl_flow_digest *d)
{
    if (!list_has(kl_get(rule, KL_F_verbs), d->verb) ||
        !list_has_resource(kl_get(rule, KL_F_resources), d->plural, d->sub) ||
        !list_has(kl_get(rule, KL_F_apiGroups), d->group))
        return false;
    if (!d->ns.n)
        return kl_is_true(kl_get(rule, KL_F_clusterScope));
    return list_has(kl_get(rule, KL_F_namespaces), d->ns);
}

static bool path_matches(const struct kl_value *urls, struct kl_str path)
{
    for (KL_EACH(v, urls)) {
        struct kl_str u = kl_text(v);
        if (kl_str_eqz(u, "*") || kl_str_eq(u, path))
            return true;
        if (u.n && u.p[u.n - 1] == '*')
            u.n--;
        bool slash = u.n && u.p[u.n - 1] == '/';
        if (kl_str_starts(path, u) && (slash || (path.n > u.n && path.p[u.n] == '/')))
            return true;
    }
    return false;
}

static bool rule_matches(const struct kl_value *rule, const struct kl_flow_digest *d)
{
    bool mine = false;
    for (KL_EACH(s, kl_get(rule, KL_F_subjects)))
        mine = mine || is_subject(s, d->user);
    if (!mine)
        return false;
    if (d->is_resource) {
        for (KL_EACH(x, kl_get(rule, KL_F_resourceRules)))
            if (resource_matches(x, d))
                return true;
        return false;
    }
    for (KL_EACH(x, kl_get(rule, KL_F_nonResourceRules)))
        if (list_has(kl_get(x, KL_F_verbs), d->verb) &&
            path_matches(kl_get(x, KL_F_nonResourceURLs), d->path))
            return true;
    return false;
}

bool kl_flow_matches(const struct kl_value *rules, const struct kl_flow_digest *d)
{
    for (KL_EACH(rule, rules))
        if (rule_matches(rule, d))
            return true;
    return false;
}

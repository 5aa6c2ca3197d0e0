// SPDX-License-Identifier: Apache-2.0
// Which requests a webhook or a policy is for: rules, namespace and object selectors, and, with
// matchPolicy Equivalent, the same by another version of the resource.
#include "apiserver/admission/hooks_int.h"
#include "object/custom.h"

static bool list_has(const struct kl_value *list, struct kl_str s)
{
    for (KL_EACH(x, list)) {
        struct kl_str t = kl_text(x);
        if (kl_str_eqz(t, "*") || kl_str_eq(t, s))
            return true;
    }
    return false;
}

static bool scope_matches(const struct kl_value *rule, const struct kl_admit *ad,
                          const struct kl_resource *res)
{
    struct kl_str scope = kl_text(kl_get(rule, KL_F_scope));
    bool is_namespace = res->index == KL_RES_core_v1_namespaces && res == kl_res(res->index);
    if (!scope.n || kl_str_eqz(scope, "*"))
        return true;
    bool cluster = is_namespace || !ad->ns.n;
    return kl_str_eqz(scope, "Cluster") ? cluster : kl_str_eqz(scope, "Namespaced") && !cluster;
}

static bool resource_matches(const struct kl_value *rule, const struct kl_admit *ad,
                             const struct kl_resource *res)
{
    for (KL_EACH(x, kl_get(rule, KL_F_resources))) {
        struct kl_str t = kl_text(x), sub = KL_STR("");
        ptrdiff_t slash = kl_str_chr(t, '/');
        if (slash >= 0) {
            sub = kl_str_from(t, (size_t)slash + 1);
            t.n = (size_t)slash;
        }
        if ((kl_str_eqz(t, "*") || kl_str_eqz(t, res->plural)) &&
            (kl_str_eqz(sub, "*") || kl_str_eq(sub, ad->sub)))
            return true;
    }
    return false;
}

static bool rule_matches(const struct kl_value *rule, const struct kl_admit *ad,
                         const struct kl_resource *res)
{
    return scope_matches(rule, ad, res) &&
           list_has(kl_get(rule, KL_F_operations), kl_admit_op_name(ad->op)) &&
           list_has(kl_get(rule, KL_F_apiGroups), kl_str(res->group)) &&
           list_has(kl_get(rule, KL_F_apiVersions), kl_str(res->version)) &&
           resource_matches(rule, ad, res);
}

static bool name_matches(const struct kl_value *rule, const struct kl_admit *ad)
{
    const struct kl_value *names = kl_get(rule, KL_F_resourceNames);
    if (!kl_len(names))
        return true;
    for (KL_EACH(x, names))
        if (kl_str_eq(kl_text(x), ad->name))
            return true;
    return false;
}

static const struct kl_resource *equivalent_custom(const struct kl_value *rule,
                                                   const struct kl_admit *ad)
{
    for (KL_EACH(v, kl_get(rule, KL_F_apiVersions))) {
        const struct kl_resource *e = kl_custom_row(ad->res->custom->family, kl_text(v));
        if (e && e != ad->res && e->custom->served && (!ad->sub.n || kl_resource_sub(e, ad->sub)) &&
            rule_matches(rule, ad, e))
            return e;
    }
    return NULL;
}

// The same objects under another group or version that the rule names.
static const struct kl_resource *equivalent_of(const struct kl_value *rule,
                                               const struct kl_admit *ad)
{
    if (ad->res->custom)
        return equivalent_custom(rule, ad);
    static const char *const event_groups[] = {"", "events.k8s.io"};
    const struct kl_resource *res = ad->res;
    bool events =
        res->etcd_prefix && !strcmp(res->etcd_prefix, kl_res(KL_RES_core_v1_events)->etcd_prefix);
    for (size_t g = 0; g < (events ? KL_COUNT(event_groups) : 1); g++) {
        struct kl_str group = kl_str(events ? event_groups[g] : res->group);
        for (KL_EACH(v, kl_get(rule, KL_F_apiVersions))) {
            const struct kl_resource *e =
                kl_resource_find(group, kl_str_eqz(kl_text(v), "*") ? KL_STR("v1") : kl_text(v),
                                 kl_str(res->plural));
            if (!e || e == res || !e->etcd_prefix || !res->etcd_prefix ||
                strcmp(e->etcd_prefix, res->etcd_prefix) != 0 ||
                (ad->sub.n && !kl_resource_sub(e, ad->sub)))
                continue;
            if (rule_matches(rule, ad, e))
                return e;
        }
    }
    return NULL;
}

static const struct kl_resource *match_rules(const struct kl_value *rules, bool equivalent,
                                             const struct kl_admit *ad)
{
    for (KL_EACH(rule, rules))
        if (rule_matches(rule, ad, ad->res) && name_matches(rule, ad))
            return ad->res;
    if (!equivalent || !ad->row)
        return NULL;
    for (KL_EACH(rule, rules)) {
        const struct kl_resource *e = equivalent_of(rule, ad);
        if (e && name_matches(rule, ad))
            return e;
    }
    return NULL;
}

void kl_match_init(struct kl_match *m, struct kl_arena *a, const struct kl_value *spec,
                   const struct kl_value *rules)
{
    struct kl_error err = {0};
    static const struct kl_value everything = {.kind = KL_STRUCT};
    const struct kl_value *ns = kl_get(spec, KL_F_namespaceSelector);
    const struct kl_value *objects = kl_get(spec, KL_F_objectSelector);
    *m = (struct kl_match){.rules = rules, .exclude = kl_get(spec, KL_F_excludeResourceRules)};
    m->equivalent = kl_str_eqz(kl_text(kl_get(spec, KL_F_matchPolicy)), "Equivalent");
    if (kl_label_selector_from(a, ns ? ns : &everything, &m->namespaces, &err) ||
        kl_label_selector_from(a, objects ? objects : &everything, &m->objects, &err))
        m->bad = kl_arena_dup(a, kl_str(err.msg));
}

// Labels of the namespace that the request is in, or of the one it writes.
static int namespace_labels(struct kl_admit *ad, const struct kl_value **ret, struct kl_error *err)
{
    if (kl_admit_is(ad, KL_RES_core_v1_namespaces) &&
        (ad->op == KL_ADMIT_CREATE || ad->op == KL_ADMIT_UPDATE)) {
        *ret = kl_meta_labels(ad->object);
        return 0;
    }
    struct kl_object *o = kl_admit_find(ad->r, KL_RES_core_v1_namespaces, KL_STR(""), ad->ns);
    if (!o) {
        kl_fail_not_found_of(ad->r, KL_STR(""), KL_STR("namespaces"), ad->ns);
        return kl_error_set(err, KL_ENOTFOUND, "namespaces \"%.*s\" not found", KL_PRI(ad->ns));
    }
    *ret = kl_meta_labels(&o->root);
    return 0;
}

static int selectors_match(const struct kl_match *m, struct kl_admit *ad, struct kl_error *err)
{
    const struct kl_value *labels = NULL;
    if (m->namespaces.n && (ad->ns.n || kl_str_eqz(kl_str(ad->res->plural), "namespaces"))) {
        int rc = namespace_labels(ad, &labels, err);
        if (rc)
            return rc;
        if (!kl_selector_matches(&m->namespaces, labels))
            return 0;
    }
    if (!m->objects.n)
        return 1;
    return (ad->object && kl_selector_matches(&m->objects, kl_meta_labels(ad->object))) ||
           (ad->old && kl_selector_matches(&m->objects, kl_meta_labels(ad->old)));
}

int kl_match_run(const struct kl_match *m, struct kl_hook_run *run,
                 const struct kl_resource **ret_res, struct kl_error *err)
{
    struct kl_admit *ad = run->ad;
    const struct kl_resource *res = ad->res;
    if (m->exclude && match_rules(m->exclude, m->equivalent, ad))
        return 0;
    if (!(m->all && !kl_len(m->rules)) && !(res = match_rules(m->rules, m->equivalent, ad)))
        return 0;
    if (m->bad.n)
        return kl_error_set(err, KL_EINVALID, "%.*s", KL_PRI(m->bad));
    *ret_res = res;
    return selectors_match(m, ad, err);
}

bool kl_admit_is_configuration(const struct kl_resource *res)
{
    static const char *const plurals[] = {
        "mutatingadmissionpolicies",         "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",     "validatingadmissionpolicies",
        "validatingadmissionpolicybindings", "validatingwebhookconfigurations"};
    if (strcmp(res->group, "admissionregistration.k8s.io") != 0)
        return false;
    for (size_t i = 0; i < KL_COUNT(plurals); i++)
        if (!strcmp(res->plural, plurals[i]))
            return true;
    return false;
}

// Nothing may keep an administrator from mending what is configured.
bool kl_admit_is_exempt(const struct kl_admit *ad)
{
    return kl_admit_is_configuration(ad->res);
}

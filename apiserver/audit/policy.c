// SPDX-License-Identifier: Apache-2.0
// apiserver/pkg/audit/policy: the first rule that matches decides.
#include "apiserver/audit/audit_int.h"
#include "object/yaml.h"
#include <stdlib.h>

const char *const kl_audit_level_names[KL_AUDIT_LEVELS] = {"None", "Metadata", "Request",
                                                           "RequestResponse"};
const char *const kl_audit_stage_names[KL_AUDIT_STAGES] = {"RequestReceived", "ResponseStarted",
                                                           "ResponseComplete", "Panic"};

struct rule {
    const struct kl_value *v;
    enum kl_audit_level level;
    unsigned omit;
    bool omit_managed_fields;
};

struct kl_audit_policy {
    struct kl_arena arena;
    struct rule *rules;
    size_t n;
    unsigned omit;
    bool omit_managed_fields;
};

static const struct kl_value *at(const struct kl_value *v, const char *name)
{
    const struct kl_value *m = kl_map_value(v, kl_str(name));
    return m && m->kind != KL_NULL ? m : NULL;
}

static int read_stages(const struct kl_value *list, unsigned *ret, const char *path,
                       struct kl_error *err)
{
    size_t i = 0;
    for (KL_EACH(s, list)) {
        int k = 0;
        while (k < KL_AUDIT_STAGES && !kl_str_eqz(kl_text(s), kl_audit_stage_names[k]))
            k++;
        if (k == KL_AUDIT_STAGES)
            return kl_error_set(err, KL_EINVALID,
                                "%s.omitStages[%zu]: Invalid value: \"%.*s\": allowed stages are "
                                "RequestReceived,ResponseStarted,ResponseComplete,Panic",
                                path, i, KL_PRI(kl_text(s)));
        *ret |= 1u << k;
        i++;
    }
    return 0;
}

static int check_urls(const struct kl_value *urls, const char *path, struct kl_error *err)
{
    size_t i = 0;
    for (KL_EACH(u, urls)) {
        struct kl_str s = kl_text(u);
        ptrdiff_t star = kl_str_chr(s, '*');
        if (!kl_str_eqz(s, "*") && (!s.n || s.p[0] != '/'))
            return kl_error_set(err, KL_EINVALID,
                                "%s.nonResourceURLs[%zu]: Invalid value: \"%.*s\": non-resource "
                                "URL rules must begin with a '/' character",
                                path, i, KL_PRI(s));
        if (star >= 0 && (size_t)star + 1 < s.n)
            return kl_error_set(err, KL_EINVALID,
                                "%s.nonResourceURLs[%zu]: Invalid value: \"%.*s\": non-resource "
                                "URL wildcards '*' must be the final character of the rule",
                                path, i, KL_PRI(s));
        i++;
    }
    return 0;
}

static int read_rule(struct kl_audit_policy *p, const struct kl_value *v, struct kl_error *err)
{
    char path[32];
    struct rule *r = &p->rules[p->n];
    struct kl_str level = kl_text(at(v, "level"));
    const struct kl_value *omit = at(v, "omitManagedFields");
    snprintf(path, sizeof path, "rules[%zu]", p->n);
    int k = 0, rc;
    while (k < KL_AUDIT_LEVELS && !kl_str_eqz(level, kl_audit_level_names[k]))
        k++;
    if (!level.n)
        return kl_error_set(err, KL_EINVALID, "%s.level: Required value", path);
    if (k == KL_AUDIT_LEVELS)
        return kl_error_set(err, KL_EINVALID,
                            "%s.level: Unsupported value: \"%.*s\": supported values: "
                            "\"Metadata\", \"None\", \"Request\", \"RequestResponse\"",
                            path, KL_PRI(level));
    for (KL_EACH(g, at(v, "resources")))
        if (kl_len(at(g, "resourceNames")) && !kl_len(at(g, "resources")))
            return kl_error_set(err, KL_EINVALID,
                                "%s.resources.resourceNames: Invalid value: using resourceNames "
                                "requires at least one resource",
                                path);
    if ((rc = check_urls(at(v, "nonResourceURLs"), path, err)))
        return rc;
    if (kl_len(at(v, "nonResourceURLs")) &&
        (kl_len(at(v, "resources")) || kl_len(at(v, "namespaces"))))
        return kl_error_set(err, KL_EINVALID,
                            "%s.nonResourceURLs: Invalid value: rules cannot apply to both regular "
                            "resources and non-resource URLs",
                            path);
    *r = (struct rule){.v = v,
                       .level = (enum kl_audit_level)k,
                       .omit = p->omit,
                       .omit_managed_fields = omit ? kl_is_true(omit) : p->omit_managed_fields};
    if ((rc = read_stages(at(v, "omitStages"), &r->omit, path, err)))
        return rc;
    p->n++;
    return 0;
}

int kl_audit_policy_parse(struct kl_str text, struct kl_audit_policy **ret, struct kl_error *err)
{
    struct kl_audit_policy *p = calloc(1, sizeof *p);
    struct kl_value *v;
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_init(&p->arena, (size_t)16 << 20);
    int rc = KL_ENOMEM;
    struct kl_str kept = kl_arena_dup(&p->arena, text);
    if ((v = KL_ARENA_NEW(&p->arena, struct kl_value)) && kept.p)
        rc = kl_yaml_parse(&p->arena, kept, NULL, v, err);
    const struct kl_value *rules = rc ? NULL : at(v, "rules");
    if (!rc && (!kl_str_eqz(kl_text(at(v, "kind")), "Policy") ||
                !kl_str_eqz(kl_text(at(v, "apiVersion")), "audit.k8s.io/v1")))
        rc = kl_error_set(err, KL_EINVALID, "unknown group version field %.*s, Kind=%.*s in policy",
                          KL_PRI(kl_text(at(v, "apiVersion"))), KL_PRI(kl_text(at(v, "kind"))));
    if (!rc && !kl_len(rules))
        rc = kl_error_set(err, KL_EINVALID, "loaded illegal policy with 0 rules");
    if (!rc && !(p->rules = kl_arena_zalloc(&p->arena, kl_len(rules) * sizeof *p->rules)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!rc) {
        p->omit_managed_fields = kl_is_true(at(v, "omitManagedFields"));
        rc = read_stages(at(v, "omitStages"), &p->omit, "", err);
    }
    for (KL_EACH(r, rules)) {
        if (rc)
            break;
        rc = read_rule(p, r, err);
    }
    if (rc)
        kl_audit_policy_free(p);
    else
        *ret = p;
    return rc;
}

void kl_audit_policy_free(struct kl_audit_policy *p)
{
    if (!p)
        return;
    kl_arena_fini(&p->arena);
    free(p);
}

// ---- asking

static bool has(const struct kl_value *list, struct kl_str s)
{
    for (KL_EACH(v, list))
        if (kl_str_eq(kl_text(v), s))
            return true;
    return false;
}

static bool path_matches(struct kl_str path, struct kl_str spec)
{
    if (kl_str_eqz(spec, "*") || kl_str_eq(spec, path))
        return true;
    if (!spec.n || spec.p[spec.n - 1] != '*')
        return false;
    while (spec.n && spec.p[spec.n - 1] == '*')
        spec.n--;
    return kl_str_starts(path, spec);
}

static bool resource_matches(struct kl_str res, const struct kl_audit_attrs *t)
{
    if (kl_str_eqz(res, "*"))
        return true;
    ptrdiff_t slash = kl_str_chr(res, '/');
    struct kl_str head = slash < 0 ? res : (struct kl_str){res.p, (size_t)slash};
    struct kl_str tail = slash < 0 ? KL_STR("") : kl_str_from(res, (size_t)slash + 1);
    if (slash < 0 ? !t->sub.n && kl_str_eq(res, t->plural)
                  : t->sub.n && kl_str_eq(head, t->plural) && kl_str_eq(tail, t->sub))
        return true;
    if (t->sub.n && kl_str_eqz(head, "*") && slash >= 0 && kl_str_eq(tail, t->sub))
        return true;
    return slash >= 0 && kl_str_eqz(tail, "*") && kl_str_eq(head, t->plural);
}

static bool group_matches(const struct kl_value *g, const struct kl_audit_attrs *t)
{
    struct kl_str group = kl_text(at(g, "group"));
    const struct kl_value *resources = at(g, "resources"), *names = at(g, "resourceNames");
    if (!kl_str_eqz(group, "*") && !kl_str_eq(group, t->group))
        return false;
    if (!kl_len(resources))
        return true;
    for (KL_EACH(res, resources))
        if ((!kl_len(names) || has(names, t->name)) && resource_matches(kl_text(res), t))
            return true;
    return false;
}

static bool rule_matches(const struct kl_value *v, const struct kl_audit_attrs *t)
{
    const struct kl_value *users = at(v, "users"), *groups = at(v, "userGroups");
    const struct kl_value *verbs = at(v, "verbs"), *namespaces = at(v, "namespaces");
    const struct kl_value *resources = at(v, "resources"), *urls = at(v, "nonResourceURLs");
    if (kl_len(users) && (!t->user || !has(users, t->user->name)))
        return false;
    if (kl_len(groups)) {
        bool in = false;
        for (size_t i = 0; t->user && i < t->user->ngroups && !in; i++)
            in = has(groups, t->user->groups[i]);
        if (!in)
            return false;
    }
    if (kl_len(verbs) && !has(verbs, t->verb))
        return false;
    if (kl_len(namespaces) || kl_len(resources)) {
        if (!t->is_resource || (kl_len(namespaces) && !has(namespaces, t->ns)))
            return false;
        for (KL_EACH(g, resources))
            if (group_matches(g, t))
                return true;
        return !kl_len(resources);
    }
    if (kl_len(urls)) {
        for (KL_EACH(u, urls))
            if (!t->is_resource && path_matches(t->path, kl_text(u)))
                return true;
        return false;
    }
    return true;
}

void kl_audit_policy_ask(const struct kl_audit_policy *p, const struct kl_audit_attrs *t,
                         struct kl_audit_verdict *ret)
{
    *ret = (struct kl_audit_verdict){
        .level = KL_AUDIT_NONE, .omit = p->omit, .omit_managed_fields = p->omit_managed_fields};
    for (size_t i = 0; i < p->n; i++) {
        if (!rule_matches(p->rules[i].v, t))
            continue;
        *ret = (struct kl_audit_verdict){.level = p->rules[i].level,
                                         .omit = p->rules[i].omit,
                                         .omit_managed_fields = p->rules[i].omit_managed_fields};
        return;
    }
}

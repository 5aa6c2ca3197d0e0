// SPDX-License-Identifier: Apache-2.0
// flowcontrol.apiserver.k8s.io: FlowSchemas and PriorityLevelConfigurations. Those that every
// server must have are as upstream has them.
#include "object/json.h"
#include "object/schema.h"
#include "object/types_gen.h"
#include "object/validate/validate_int.h"
#include <math.h>

enum { MAX_PRECEDENCE = 10000, MAX_QUEUES = 10000000, HASH_BITS = 60 };

// ---- objects with a fixed spec

struct fixed {
    const char *name, *spec;
};

static const struct fixed fixed_schemas[] = {
    {"exempt",
     "{\"priorityLevelConfiguration\":{\"name\":\"exempt\"},\"matchingPrecedence\":1,"
     "\"rules\":[{\"subjects\":[{\"kind\":\"Group\",\"group\":{\"name\":\"system:masters\"}}],"
     "\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"],"
     "\"clusterScope\":true,\"namespaces\":[\"*\"]}],"
     "\"nonResourceRules\":[{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}]}]}"},
    {"catch-all",
     "{\"priorityLevelConfiguration\":{\"name\":\"catch-all\"},\"matchingPrecedence\":10000,"
     "\"distinguisherMethod\":{\"type\":\"ByUser\"},"
     "\"rules\":[{\"subjects\":[{\"kind\":\"Group\",\"group\":{\"name\":\"system:unauthenticated\"}"
     "},"
     "{\"kind\":\"Group\",\"group\":{\"name\":\"system:authenticated\"}}],"
     "\"resourceRules\":[{\"verbs\":[\"*\"],\"apiGroups\":[\"*\"],\"resources\":[\"*\"],"
     "\"clusterScope\":true,\"namespaces\":[\"*\"]}],"
     "\"nonResourceRules\":[{\"verbs\":[\"*\"],\"nonResourceURLs\":[\"*\"]}]}]}"},
};
static const struct fixed fixed_levels[] = {
    {"exempt", "{\"type\":\"Exempt\"}"},
    {"catch-all", "{\"type\":\"Limited\",\"limited\":{\"nominalConcurrencyShares\":5,"
                  "\"limitResponse\":{\"type\":\"Reject\"},\"lendablePercent\":0}}"},
};

static bool is_fixed(struct kl_v *c, const char *json, const struct kl_type *type,
                     const struct kl_value *spec)
{
    struct kl_value raw, typed;
    struct kl_error err;
    return !kl_json_parse(c->f->arena, kl_str(json), NULL, &raw, &err) &&
           !kl_typed_from_untyped(c->f->arena, type, &raw, NULL, &typed, &err) &&
           kl_value_equal(&typed, spec);
}

static const struct fixed *fixed_of(const struct kl_v *c, const struct fixed *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kl_str_eqz(kl_meta_name(c->now), list[i].name))
            return &list[i];
    return NULL;
}

// ---- rules

static bool has_star(const struct kl_value *list)
{
    for (KL_EACH(s, list))
        if (kl_str_eqz(kl_text(s), "*"))
            return true;
    return false;
}

static void invalid_list(struct kl_v *c, const struct kl_vpath *p, const struct kl_type *rule,
                         const struct kl_value *list, const char *detail)
{
    kl_v_invalid_json(c, p, kl_type_field(rule, p->sym)->type, list, false, detail);
}

static void check_verbs(struct kl_v *c, const struct kl_type *type, const struct kl_value *rule,
                        const struct kl_vpath *p)
{
    static const char *const verbs[] = {"create", "delete", "deletecollection", "get",   "list",
                                        "patch",  "proxy",  "update",           "watch", NULL};
    const struct kl_value *list = kl_get(rule, KL_F_verbs);
    if (!kl_len(list)) {
        kl_v_required(c, F(p, verbs), "verbs must contain at least one value");
    } else if (has_star(list)) {
        if (kl_len(list) > 1)
            invalid_list(c, F(p, verbs), type, list,
                         "if '*' is present, must not specify other verbs");
    } else {
        bool known = true;
        for (KL_EACH(v, list))
            known &= kl_v_in(kl_text(v), verbs);
        if (!known)
            kl_v_unsupported_text(c, F(p, verbs),
                                  kl_v_json(c, kl_type_field(type, KL_F_verbs)->type, list, false),
                                  verbs);
    }
}

static const char *bad_url(struct kl_str s)
{
    size_t stars = 0;
    if (!s.n)
        return "must not be empty";
    if (kl_str_eqz(s, "/"))
        return NULL;
    if (s.p[0] != '/')
        return "must start with slash";
    if (kl_str_chr(s, ' ') >= 0)
        return "must not contain white-space";
    if (memmem(s.p, s.n, "//", 2))
        return "must not contain double slash";
    for (size_t i = 0; i < s.n; i++)
        stars += s.p[i] == '*';
    if (stars > 1 || (stars == 1 && !kl_str_ends(s, KL_STR("/*"))))
        return "wildcard can only do suffix matching";
    return NULL;
}

static void check_url_rule(struct kl_v *c, const struct kl_value *rule, const struct kl_vpath *p)
{
    const struct kl_type *type = kl_type(KL_TYPE_flowcontrol_v1_NonResourcePolicyRule);
    const struct kl_value *urls = kl_get(rule, KL_F_nonResourceURLs);
    check_verbs(c, type, rule, p);
    if (!kl_len(urls)) {
        kl_v_required(c, F(p, nonResourceURLs), "nonResourceURLs must contain at least one value");
    } else if (has_star(urls)) {
        if (kl_len(urls) > 1)
            invalid_list(c, F(p, nonResourceURLs), type, urls,
                         "if '*' is present, must not specify other non-resource URLs");
    } else {
        for (size_t i = 0; i < kl_len(urls); i++) {
            struct kl_str s = kl_text(kl_at(urls, i));
            const char *why = bad_url(s);
            if (why)
                kl_v_invalid_str(c, I(F(p, nonResourceURLs), i), s, why);
        }
    }
}

static void check_namespaces(struct kl_v *c, const struct kl_type *type,
                             const struct kl_value *rule, const struct kl_vpath *p)
{
    const struct kl_value *list = kl_get(rule, KL_F_namespaces);
    if (!kl_len(list) && !kl_is_true(kl_get(rule, KL_F_clusterScope))) {
        kl_v_required(c, F(p, namespaces),
                      "resource rules that are not cluster scoped must supply at least one "
                      "namespace");
    } else if (has_star(list)) {
        if (kl_len(list) > 1)
            invalid_list(c, F(p, namespaces), type, list,
                         "if '*' is present, must not specify other namespaces");
    } else {
        for (size_t i = 0; i < kl_len(list); i++) {
            const char *why[KL_V_MESSAGES];
            struct kl_str s = kl_text(kl_at(list, i));
            size_t n = kl_v_messages(KL_V_LABEL, s, why);
            for (size_t k = 0; k < n; k++)
                kl_v_invalid_str(
                    c, I(F(p, namespaces), i), s,
                    kl_v_text(c, "each member of this list must be '*' or a DNS-1123 label; %s",
                              why[k]));
        }
    }
}

static void check_resource_rule(struct kl_v *c, const struct kl_value *rule,
                                const struct kl_vpath *p)
{
    const struct kl_type *type = kl_type(KL_TYPE_flowcontrol_v1_ResourcePolicyRule);
    const struct kl_value *groups = kl_get(rule, KL_F_apiGroups);
    const struct kl_value *resources = kl_get(rule, KL_F_resources);
    check_verbs(c, type, rule, p);
    if (!kl_len(groups))
        kl_v_required(c, F(p, apiGroups), "resource rules must supply at least one api group");
    else if (kl_len(groups) > 1 && has_star(groups))
        invalid_list(c, F(p, apiGroups), type, groups,
                     "if '*' is present, must not specify other api groups");
    if (!kl_len(resources))
        kl_v_required(c, F(p, resources), "resource rules must supply at least one resource");
    else if (kl_len(resources) > 1 && has_star(resources))
        invalid_list(c, F(p, resources), type, resources,
                     "if '*' is present, must not specify other resources");
    check_namespaces(c, type, rule, p);
}

// ---- subjects

static void check_account(struct kl_v *c, const struct kl_value *a, const struct kl_vpath *p)
{
    struct kl_str name = kl_text(kl_get(a, KL_F_name)), ns = kl_text(kl_get(a, KL_F_namespace));
    if (!name.n)
        kl_v_required(c, F(p, name), "");
    else if (!kl_str_eqz(name, "*"))
        kl_v_format(c, F(p, name), name, KL_V_SUBDOMAIN);
    if (ns.n)
        kl_v_format(c, F(p, namespace), ns, KL_V_LABEL);
    else
        kl_v_required(c, F(p, namespace), "must specify namespace for service account");
}

static void check_named(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
{
    if (!kl_text(kl_get(s, KL_F_name)).n)
        kl_v_required(c, F(p, name), "");
}

static void check_subject(struct kl_v *c, const struct kl_value *s, const struct kl_vpath *p)
{
    static const char *const kinds[] = {"Group", "ServiceAccount", "User", NULL};
    // In the order in which the members that do not belong are told of.
    static const struct {
        const char *kind, *required, *forbidden;
        kl_sym field;
        kl_rule_fn *check;
    } rows[] = {
        {"ServiceAccount", "serviceAccount is required when subject kind is 'ServiceAccount'",
         "serviceAccount is forbidden when subject kind is not 'ServiceAccount'",
         KL_F_serviceAccount, check_account},
        {"User", "user is required when subject kind is 'User'",
         "user is forbidden when subject kind is not 'User'", KL_F_user, check_named},
        {"Group", "group is required when subject kind is 'Group'",
         "group is forbidden when subject kind is not 'Group'", KL_F_group, check_named},
    };
    struct kl_str kind = kl_text(kl_get(s, KL_F_kind));
    if (!kl_v_in(kind, kinds)) {
        kl_v_unsupported(c, F(p, kind), kind, kinds);
        return;
    }
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        const struct kl_value *v = kl_get(s, rows[i].field);
        if (!kl_str_eqz(kind, rows[i].kind))
            continue;
        if (v)
            rows[i].check(c, v, FS(p, rows[i].field));
        else
            kl_v_required(c, FS(p, rows[i].field), rows[i].required);
    }
    for (size_t i = 0; i < KL_COUNT(rows); i++)
        if (!kl_str_eqz(kind, rows[i].kind) && kl_get(s, rows[i].field))
            kl_v_forbidden(c, FS(p, rows[i].field), rows[i].forbidden);
}

static void check_policy(struct kl_v *c, const struct kl_value *rule, const struct kl_vpath *p)
{
    const struct kl_value *subjects = kl_get(rule, KL_F_subjects);
    const struct kl_value *resources = kl_get(rule, KL_F_resourceRules),
                          *urls = kl_get(rule, KL_F_nonResourceRules);
    for (size_t i = 0; i < kl_len(subjects); i++)
        check_subject(c, kl_at(subjects, i), I(F(p, subjects), i));
    if (!kl_len(subjects))
        kl_v_required(c, F(p, subjects), "subjects must contain at least one value");
    if (!kl_len(resources) && !kl_len(urls))
        kl_v_required(c, p,
                      "at least one of resourceRules and nonResourceRules has to be "
                      "non-empty");
    for (size_t i = 0; i < kl_len(resources); i++)
        check_resource_rule(c, kl_at(resources, i), I(F(p, resourceRules), i));
    for (size_t i = 0; i < kl_len(urls); i++)
        check_url_rule(c, kl_at(urls, i), I(F(p, nonResourceRules), i));
}

// ---- status of both

static void check_conditions(struct kl_v *c)
{
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_conditions);
    const struct kl_vpath *p = F(&c->status, conditions);
    for (size_t i = 0; i < kl_len(list); i++) {
        struct kl_str type = kl_text(kl_get(kl_at(list, i), KL_F_type));
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_type)), type)) {
                kl_v_duplicate(c, F(I(p, i), type), type);
                break;
            }
        if (!type.n)
            kl_v_required(c, F(I(p, i), type), "");
    }
}

// ---- FlowSchemas

static void check_schema(struct kl_v *c)
{
    static const char *const methods[] = {"ByNamespace", "ByUser", NULL};
    const struct kl_value *spec = kl_v_spec(c), *method = kl_get(spec, KL_F_distinguisherMethod);
    const struct kl_vpath *p = &c->spec, *order = F(p, matchingPrecedence),
                          *level = F(F(p, priorityLevelConfiguration), name);
    int64_t n = kl_int_or(kl_get(spec, KL_F_matchingPrecedence), 0);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (n <= 0)
        kl_v_invalid_int(c, order, n, "must be a positive value");
    if (n > MAX_PRECEDENCE)
        kl_v_invalid_int(c, order, n, "must not be greater than 10000");
    if (n == 1 && !kl_str_eqz(kl_meta_name(c->now), "exempt"))
        kl_v_invalid_int(c, order, n,
                         "only the schema named 'exempt' may have matchingPrecedence 1");
    if (method && !kl_v_in(kl_text(kl_get(method, KL_F_type)), methods))
        kl_v_unsupported_text(
            c, F(F(p, distinguisherMethod), type),
            kl_v_json(c, kl_type(KL_TYPE_flowcontrol_v1_FlowDistinguisherMethod), method, true),
            methods);
    struct kl_str name = kl_text_at(spec, KL_F_priorityLevelConfiguration, KL_F_name);
    if (name.n)
        kl_v_format(c, level, name, KL_V_SUBDOMAIN);
    else
        kl_v_required(c, level, "must reference a priority level");
    const struct kl_value *rules = kl_get(spec, KL_F_rules);
    for (size_t i = 0; i < kl_len(rules); i++)
        check_policy(c, kl_at(rules, i), I(F(p, rules), i));
    const struct fixed *f = fixed_of(c, fixed_schemas, KL_COUNT(fixed_schemas));
    const struct kl_type *type = kl_type(KL_TYPE_flowcontrol_v1_FlowSchemaSpec);
    if (f && !is_fixed(c, f->spec, type, spec))
        kl_v_invalid_json(c, p, type, spec, true,
                          kl_v_text(c, "spec of '%s' must equal the fixed value", f->name));
    check_conditions(c);
}

// ---- PriorityLevelConfigurations

static void check_percent(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *n = kl_get(v, KL_F_lendablePercent);
    if (kl_is(n, KL_INT) && (n->i < 0 || n->i > 100))
        kl_v_invalid_int(c, F(p, lendablePercent), n->i, "must be between 0 and 100, inclusive");
}

static void check_shares(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    const struct kl_value *n = kl_get(v, KL_F_nominalConcurrencyShares);
    if (kl_is(n, KL_INT) && n->i < 0)
        kl_v_invalid_int(c, F(p, nominalConcurrencyShares), n->i, "must be a non-negative integer");
}

static void check_queuing(struct kl_v *c, const struct kl_value *q, const struct kl_vpath *p)
{
    int64_t length = kl_int_or(kl_get(q, KL_F_queueLengthLimit), 0);
    int64_t queues = kl_int_or(kl_get(q, KL_F_queues), 0);
    int64_t hand = kl_int_or(kl_get(q, KL_F_handSize), 0);
    const struct kl_vpath *h = F(p, handSize);
    if (length <= 0)
        kl_v_invalid_int(c, F(p, queueLengthLimit), length, "must be positive");
    if (queues <= 0)
        kl_v_invalid_int(c, F(p, queues), queues, "must be positive");
    else if (queues > MAX_QUEUES)
        kl_v_invalid_int(c, F(p, queues), queues, "must not be greater than 10000000");
    if (hand <= 0)
        kl_v_invalid_int(c, h, hand, "must be positive");
    else if (hand > queues)
        kl_v_invalid_int(
            c, h, hand,
            kl_v_text(c, "should not be greater than queues (%lld)", (long long)queues));
    else if (ceil(log2((double)queues) * (double)hand) > HASH_BITS)
        kl_v_invalid_int(c, h, hand,
                         kl_v_text(c,
                                   "required entropy bits of deckSize %lld and handSize %lld "
                                   "should not be greater than 60",
                                   (long long)queues, (long long)hand));
}

static void check_response(struct kl_v *c, const struct kl_value *r, const struct kl_vpath *p)
{
    static const char *const types[] = {"Queue", "Reject", NULL};
    struct kl_str type = kl_text(kl_get(r, KL_F_type));
    const struct kl_value *queuing = kl_get(r, KL_F_queuing);
    if (kl_str_eqz(type, "Reject")) {
        if (queuing)
            kl_v_forbidden(c, F(p, queuing),
                           "must be nil if limited.limitResponse.type is not Limited");
    } else if (kl_str_eqz(type, "Queue")) {
        if (queuing)
            check_queuing(c, queuing, F(p, queuing));
        else
            kl_v_required(c, F(p, queuing),
                          "must not be empty if limited.limitResponse.type is Limited");
    } else if (!type.n) {
        kl_v_required(c, F(p, type), "");
    } else {
        kl_v_unsupported(c, F(p, type), type, types);
    }
}

static void check_limited(struct kl_v *c, const struct kl_value *l, const struct kl_vpath *p)
{
    const struct kl_value *n = kl_get(l, KL_F_borrowingLimitPercent);
    check_shares(c, l, p);
    check_response(c, kl_get(l, KL_F_limitResponse), F(p, limitResponse));
    check_percent(c, l, p);
    if (kl_is(n, KL_INT) && n->i < 0)
        kl_v_invalid_int(c, F(p, borrowingLimitPercent), n->i,
                         "if specified, must be a non-negative integer");
}

static void check_fixed_level(struct kl_v *c)
{
    const struct kl_type *type = kl_type(KL_TYPE_flowcontrol_v1_PriorityLevelConfigurationSpec);
    const struct fixed *f = fixed_of(c, fixed_levels, KL_COUNT(fixed_levels));
    const struct kl_value *spec = kl_v_spec(c);
    if (!f)
        return;
    bool exempt = !strcmp(f->name, "exempt");
    struct kl_value rest = spec ? *spec : kl_new_struct();
    rest.owned = 0;
    if (exempt) // its `exempt` is the administrator's
        kl_unset(c->f->arena, &rest, KL_F_exempt);
    if (!is_fixed(c, f->spec, type, &rest))
        kl_v_invalid_json(c, &c->spec, type, spec, true,
                          kl_v_text(c,
                                    exempt ? "spec of '%s' except the 'spec.exempt' field must "
                                             "equal the fixed value"
                                           : "spec of '%s' must equal the fixed value",
                                    f->name));
}

static void check_level(struct kl_v *c)
{
    static const char *const types[] = {"Exempt", "Limited", NULL};
    static const char key[] = "flowcontrol.k8s.io/concurrency-shares-defaults-to-zero";
    const struct kl_value *spec = kl_v_spec(c), *limited = kl_get(spec, KL_F_limited),
                          *exempt = kl_get(spec, KL_F_exempt);
    const struct kl_vpath *p = &c->spec;
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (kl_map_value(kl_meta_annotations(c->now), kl_str(key)))
        kl_v_forbidden(c, F(&c->meta, annotations),
                       kl_v_text(c, "annotation '%s' is forbidden", key));
    if (kl_str_eqz(kl_meta_name(c->now), "exempt") != kl_str_eqz(type, "Exempt"))
        kl_v_invalid_str(c, F(p, type), type, "must be 'Exempt' if and only if `name` is 'exempt'");
    if (kl_str_eqz(type, "Exempt")) {
        if (limited)
            kl_v_forbidden(c, F(p, limited), "must be nil if the type is not Limited");
        if (exempt) {
            check_shares(c, exempt, F(p, exempt));
            check_percent(c, exempt, F(p, exempt));
        }
    } else if (kl_str_eqz(type, "Limited")) {
        if (exempt)
            kl_v_forbidden(c, F(p, exempt), "must be nil if the type is Limited");
        if (limited)
            check_limited(c, limited, F(p, limited));
        else
            kl_v_required(c, F(p, limited), "must not be empty when type is Limited");
    } else if (!type.n) {
        kl_v_required(c, F(p, type), "");
    } else {
        kl_v_unsupported(c, F(p, type), type, types);
    }
    check_fixed_level(c);
    check_conditions(c);
}

const struct kl_v_kind kl_v_flowcontrol[] = {
    {KL_RES_flowcontrol_v1_flowschemas, check_schema, check_schema, check_conditions},
    {KL_RES_flowcontrol_v1_prioritylevelconfigurations, check_level, check_level, check_conditions},
    {0},
};

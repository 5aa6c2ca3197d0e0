// SPDX-License-Identifier: Apache-2.0
// admissionregistration.k8s.io: rules of operations and resources, and expressions, which webhooks
// and policies have alike. Expressions are compiled.
#include "object/json.h"
#include "object/validate/admission_int.h"

enum { CONDITIONS_MAX = 64 };

static const char *const match_policies[] = {"Equivalent", "Exact", NULL};
static const char *const operations[] = {"*", "CONNECT", "CREATE", "DELETE", "UPDATE", NULL};
static const char *const mutating_operations[] = {"*", "CONNECT", "CREATE", "UPDATE", NULL};
static const char *const scopes[] = {"*", "Cluster", "Namespaced", NULL};
static const char *const is_bool[] = {"bool", NULL};

const char *const kl_va_failure_policies[] = {"Fail", "Ignore", NULL};
const char *const kl_va_reinvocation_policies[] = {"IfNeeded", "Never", NULL};

struct kl_str kl_va_trimmed(struct kl_str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]))
        s = kl_str_from(s, 1);
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]))
        s.n--;
    return s;
}

void kl_va_invalid_list(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                        const char *detail)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_json_write(&b, list);
    kl_v_invalid_text(c, p, kl_arena_dup(c->f->arena, kl_buf_str(&b)), detail);
    kl_buf_fini(&b);
}

// Whether one of the items before index i is the same.
bool kl_va_seen_before(const struct kl_value *list, size_t i, struct kl_str s)
{
    for (size_t k = 0; k < i; k++)
        if (kl_str_eq(kl_text(kl_at(list, k)), s))
            return true;
    return false;
}

// ---- rules

static void check_resources(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list)
{
    bool plain = false;
    size_t i = 0;
    if (!kl_len(list))
        kl_v_required(c, p, "");
    for (KL_EACH(x, list)) {
        struct kl_str s = kl_text(x);
        size_t at = i++;
        ptrdiff_t slash = kl_str_chr(s, '/');
        if (!s.n) {
            kl_v_required(c, I(p, at), "");
            continue;
        }
        if (slash < 0) {
            plain = !kl_str_eqz(s, "*"); // of the last one, as upstream has it
            continue;
        }
        struct kl_str res = {s.p, (size_t)slash}, sub = kl_str_from(s, (size_t)slash + 1);
        struct kl_str all_subs = kl_str(kl_v_text(c, "%.*s/*", KL_PRI(res)));
        struct kl_str all_res = kl_str(kl_v_text(c, "*/%.*s", KL_PRI(sub)));
        if (kl_va_seen_before(list, at, all_subs))
            kl_v_invalid_str(c, I(p, at), s,
                             kl_v_text(c, "if '%.*s/*' is present, must not specify %.*s",
                                       KL_PRI(res), KL_PRI(s)));
        if (kl_va_seen_before(list, at, all_res))
            kl_v_invalid_str(c, I(p, at), s,
                             kl_v_text(c, "if '*/%.*s' is present, must not specify %.*s",
                                       KL_PRI(sub), KL_PRI(s)));
    }
    if (kl_len(list) > 1 && kl_has_text(list, KL_STR("*/*")))
        kl_va_invalid_list(c, p, list, "if '*/*' is present, must not specify other resources");
    if (kl_has_text(list, KL_STR("*")) && plain)
        kl_va_invalid_list(
            c, p, list, "if '*' is present, must not specify other resources without subresources");
}

void kl_va_rule(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *rule)
{
    const struct kl_value *ops = kl_get(rule, KL_F_operations);
    const struct kl_value *groups = kl_get(rule, KL_F_apiGroups);
    const struct kl_value *versions = kl_get(rule, KL_F_apiVersions);
    struct kl_str scope = kl_text(kl_get(rule, KL_F_scope));
    size_t i = 0;
    if (!kl_len(ops))
        kl_v_required(c, F(p, operations), "");
    if (kl_len(ops) > 1 && kl_has_text(ops, KL_STR("*")))
        kl_va_invalid_list(c, F(p, operations), ops,
                           "if '*' is present, must not specify other operations");
    for (KL_EACH(op, ops)) {
        size_t at = i++;
        if (!kl_v_in(kl_text(op), operations))
            kl_v_unsupported(c, I(F(p, operations), at), kl_text(op), operations);
    }
    if (!kl_len(groups))
        kl_v_required(c, F(p, apiGroups), "");
    if (kl_len(groups) > 1 && kl_has_text(groups, KL_STR("*")))
        kl_va_invalid_list(c, F(p, apiGroups), groups,
                           "if '*' is present, must not specify other API groups");
    if (!kl_len(versions))
        kl_v_required(c, F(p, apiVersions), "");
    if (kl_len(versions) > 1 && kl_has_text(versions, KL_STR("*")))
        kl_va_invalid_list(c, F(p, apiVersions), versions,
                           "if '*' is present, must not specify other API versions");
    i = 0;
    for (KL_EACH(v, versions)) {
        size_t at = i++;
        if (!kl_text(v).n)
            kl_v_required(c, I(F(p, apiVersions), at), "");
    }
    check_resources(c, F(p, resources), kl_get(rule, KL_F_resources));
    if (kl_get(rule, KL_F_scope) && !kl_v_in(scope, scopes))
        kl_v_unsupported(c, F(p, scope), scope, scopes);
}

static void check_named_rules(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list)
{
    size_t i = 0;
    for (KL_EACH(rule, list)) {
        const struct kl_vpath *at = I(p, i);
        const struct kl_value *names = kl_get(rule, KL_F_resourceNames);
        size_t k = 0;
        for (KL_EACH(n, names)) {
            const struct kl_vpath *np = I(F(at, resourceNames), k);
            kl_v_format(c, np, kl_text(n), KL_V_PATH_SEGMENT);
            if (kl_va_seen_before(names, k, kl_text(n)))
                kl_v_duplicate(c, np, kl_text(n));
            k++;
        }
        kl_va_rule(c, at, rule);
        i++;
    }
}

void kl_va_enum(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v, bool required,
                const char *const *set)
{
    if (!v && required)
        kl_v_required(c, p, "");
    else if (v && !kl_v_in(kl_text(v), set))
        kl_v_unsupported(c, p, kl_text(v), set);
}

void kl_va_match_resources(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m)
{
    kl_va_enum(c, F(p, matchPolicy), kl_get(m, KL_F_matchPolicy), true, match_policies);
    if (!kl_get(m, KL_F_namespaceSelector))
        kl_v_required(c, F(p, namespaceSelector), "");
    else
        kl_v_selector(c, F(p, namespaceSelector), kl_get(m, KL_F_namespaceSelector));
    if (!kl_get(m, KL_F_objectSelector))
        kl_v_required(c, F(p, objectSelector), "");
    else
        kl_v_selector(c, F(p, objectSelector), kl_get(m, KL_F_objectSelector));
    check_named_rules(c, F(p, resourceRules), kl_get(m, KL_F_resourceRules));
    check_named_rules(c, F(p, excludeResourceRules), kl_get(m, KL_F_excludeResourceRules));
}

// Deletions cannot be mutated.
void kl_va_mutating_operations(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m)
{
    for (KL_EACH(rule, kl_get(m, KL_F_resourceRules)))
        for (KL_EACH(op, kl_get(rule, KL_F_operations)))
            if (!kl_v_in(kl_text(op), mutating_operations))
                kl_v_unsupported(c, F(F(p, resourceRules), operations), kl_text(op),
                                 mutating_operations);
}

// ---- expressions

// `shown` is the text in the error, `text` what is compiled.
void kl_va_expression(struct kl_v *c, struct kl_exprs *x, enum kl_expr_env env,
                      const struct kl_vpath *p, struct kl_str text, struct kl_str shown,
                      const char *const *types)
{
    struct kl_expr e;
    if (kl_expr_compile(x, env, KL_STR(""), text, types, &e))
        kl_v_internal(c, p, "out of memory");
    else if (!e.program)
        kl_v_invalid_str(c, p, shown, kl_v_text(c, "%.*s", KL_PRI(e.error)));
    else
        kl_expr_fini(&e);
}

// matchConditions see no variables here, whatever the policy has.
void kl_va_conditions(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                      bool has_params)
{
    struct kl_exprs x;
    size_t i = 0;
    if (!kl_len(list))
        return;
    if (kl_len(list) > CONDITIONS_MAX)
        kl_v_too_many(c, p, kl_len(list), CONDITIONS_MAX);
    kl_exprs_init(&x, c->f->arena, has_params, false, NULL);
    for (KL_EACH(m, list)) {
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(m, KL_F_name));
        struct kl_str text = kl_va_trimmed(kl_text(kl_get(m, KL_F_expression)));
        if (!text.n)
            kl_v_required(c, F(at, expression), "");
        else
            kl_va_expression(c, &x, KL_ENV_FULL, F(at, expression), text, text, is_bool);
        if (!name.n)
            kl_v_required(c, F(at, name), "");
        else
            kl_v_format(c, F(at, name), name, KL_V_QUALIFIED);
        for (size_t k = 0; k < i && name.n; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name)) {
                kl_v_duplicate(c, F(at, name), name);
                break;
            }
        i++;
    }
    kl_exprs_fini(&x);
}

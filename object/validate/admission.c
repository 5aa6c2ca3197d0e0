// SPDX-License-Identifier: Apache-2.0
// admissionregistration.k8s.io: webhook configurations, admission policies and their bindings.
// Expressions are compiled; those that an update leaves alone are not looked at again.
#include "object/cel/admission.h"
#include "object/cel/url_int.h"
#include <ctype.h>
#include "object/json.h"
#include "object/validate/validate_int.h"

enum { CONDITIONS_MAX = 64, NOTES_MAX = 20, NOTE_EXPRESSION_MAX = 5 * 1024 };

static const char *const failure_policies[] = {"Fail", "Ignore", NULL};
static const char *const match_policies[] = {"Equivalent", "Exact", NULL};
static const char *const reinvocation_policies[] = {"IfNeeded", "Never", NULL};
static const char *const all_side_effects[] = {"None", "NoneOnDryRun", "Some", "Unknown", NULL};
static const char *const no_side_effects[] = {"None", "NoneOnDryRun", NULL};
static const char *const operations[] = {"*", "CONNECT", "CREATE", "DELETE", "UPDATE", NULL};
static const char *const mutating_operations[] = {"*", "CONNECT", "CREATE", "UPDATE", NULL};
static const char *const scopes[] = {"*", "Cluster", "Namespaced", NULL};
static const char *const actions[] = {"Audit", "Deny", "Warn", NULL};
static const char *const reasons[] = {"Forbidden", "Invalid", "RequestEntityTooLarge", NULL};
static const char *const not_found_actions[] = {"Deny", "Allow", NULL};
static const char *const patch_types[] = {"ApplyConfiguration", "JSONPatch", NULL};
static const char *const is_bool[] = {"bool", NULL};
static const char *const is_string[] = {"string", NULL};
static const char *const is_note[] = {"string", "null_type", NULL};
static const char *const is_patch[] = {"list(JSONPatch)", NULL};
static const char *const is_object[] = {"Object", NULL};

// What an update need not keep to because the stored object does not.
struct options {
    bool conditions; // matchConditions are looked at
    bool no_side_effects, known_review_version, unique_names, good_selectors;
};

static struct kl_str trimmed(struct kl_str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]))
        s = kl_str_from(s, 1);
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]))
        s.n--;
    return s;
}

static void invalid_list(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                         const char *detail)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_json_write(&b, list);
    kl_v_invalid_text(c, p, kl_arena_dup(c->f->arena, kl_buf_str(&b)), detail);
    kl_buf_fini(&b);
}

// Whether one of the items before index i is the same.
static bool seen_before(const struct kl_value *list, size_t i, struct kl_str s)
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
        if (seen_before(list, at, all_subs))
            kl_v_invalid_str(c, I(p, at), s,
                             kl_v_text(c, "if '%.*s/*' is present, must not specify %.*s",
                                       KL_PRI(res), KL_PRI(s)));
        if (seen_before(list, at, all_res))
            kl_v_invalid_str(c, I(p, at), s,
                             kl_v_text(c, "if '*/%.*s' is present, must not specify %.*s",
                                       KL_PRI(sub), KL_PRI(s)));
    }
    if (kl_len(list) > 1 && kl_has_text(list, KL_STR("*/*")))
        invalid_list(c, p, list, "if '*/*' is present, must not specify other resources");
    if (kl_has_text(list, KL_STR("*")) && plain)
        invalid_list(c, p, list,
                     "if '*' is present, must not specify other resources without subresources");
}

static void check_rule(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *rule)
{
    const struct kl_value *ops = kl_get(rule, KL_F_operations);
    const struct kl_value *groups = kl_get(rule, KL_F_apiGroups);
    const struct kl_value *versions = kl_get(rule, KL_F_apiVersions);
    struct kl_str scope = kl_text(kl_get(rule, KL_F_scope));
    size_t i = 0;
    if (!kl_len(ops))
        kl_v_required(c, F(p, operations), "");
    if (kl_len(ops) > 1 && kl_has_text(ops, KL_STR("*")))
        invalid_list(c, F(p, operations), ops,
                     "if '*' is present, must not specify other operations");
    for (KL_EACH(op, ops)) {
        size_t at = i++;
        if (!kl_v_in(kl_text(op), operations))
            kl_v_unsupported(c, I(F(p, operations), at), kl_text(op), operations);
    }
    if (!kl_len(groups))
        kl_v_required(c, F(p, apiGroups), "");
    if (kl_len(groups) > 1 && kl_has_text(groups, KL_STR("*")))
        invalid_list(c, F(p, apiGroups), groups,
                     "if '*' is present, must not specify other API groups");
    if (!kl_len(versions))
        kl_v_required(c, F(p, apiVersions), "");
    if (kl_len(versions) > 1 && kl_has_text(versions, KL_STR("*")))
        invalid_list(c, F(p, apiVersions), versions,
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
            if (seen_before(names, k, kl_text(n)))
                kl_v_duplicate(c, np, kl_text(n));
            k++;
        }
        check_rule(c, at, rule);
        i++;
    }
}

static void check_enum(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v,
                       bool required, const char *const *set)
{
    if (!v && required)
        kl_v_required(c, p, "");
    else if (v && !kl_v_in(kl_text(v), set))
        kl_v_unsupported(c, p, kl_text(v), set);
}

static void check_match_resources(struct kl_v *c, const struct kl_vpath *p,
                                  const struct kl_value *m)
{
    check_enum(c, F(p, matchPolicy), kl_get(m, KL_F_matchPolicy), true, match_policies);
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
static void check_mutating_operations(struct kl_v *c, const struct kl_vpath *p,
                                      const struct kl_value *m)
{
    for (KL_EACH(rule, kl_get(m, KL_F_resourceRules)))
        for (KL_EACH(op, kl_get(rule, KL_F_operations)))
            if (!kl_v_in(kl_text(op), mutating_operations))
                kl_v_unsupported(c, F(F(p, resourceRules), operations), kl_text(op),
                                 mutating_operations);
}

// ---- expressions

// `shown` is the text in the error, `text` what is compiled.
static void check_expression(struct kl_v *c, struct kl_exprs *x, enum kl_expr_env env,
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
static void check_conditions(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
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
        struct kl_str text = trimmed(kl_text(kl_get(m, KL_F_expression)));
        if (!text.n)
            kl_v_required(c, F(at, expression), "");
        else
            check_expression(c, &x, KL_ENV_FULL, F(at, expression), text, text, is_bool);
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

// ---- webhooks

// Without a scheme, and no path from the root: what url.Parse takes for a relative reference.
static bool is_relative(struct kl_str s)
{
    size_t i = 0;
    while (i < s.n && (isalnum((unsigned char)s.p[i]) || strchr("+-.", s.p[i])))
        i++;
    return !(s.n && s.p[0] == '/') && !(i && i < s.n && s.p[i] == ':');
}

static const char *parse_relative(struct kl_v *c, struct kl_str s, struct cel_url *u)
{
    ptrdiff_t query = kl_str_chr(s, '?');
    struct kl_str path = query < 0 ? s : (struct kl_str){s.p, (size_t)query}, segment = path;
    ptrdiff_t slash = kl_str_chr(path, '/');
    if (slash >= 0)
        segment.n = (size_t)slash;
    if (query >= 0)
        u->query = kl_str_from(s, (size_t)query + 1);
    if (kl_str_chr(segment, ':') < 0)
        return NULL;
    return kl_v_text(c, "parse \"%.*s\": first path segment in URL cannot contain colon",
                     KL_PRI(s));
}

static void check_url(struct kl_v *c, const struct kl_vpath *p, struct kl_str text)
{
#define FORM "; desired format: https://host[/path]"
    struct cel_url u = {0};
    text = kl_arena_dup(c->f->arena, text); // ends with NUL
    ptrdiff_t hash = kl_str_chr(text, '#'), at;
    struct kl_str fragment = hash < 0 ? KL_STR("") : kl_str_from(text, (size_t)hash + 1);
    if (hash >= 0)
        text = kl_arena_dup(c->f->arena, (struct kl_str){text.p, (size_t)hash});
    const char *bad = !text.p             ? "out of memory"
                      : is_relative(text) ? parse_relative(c, text, &u)
                                          : cel_url_parse(c->f->arena, text, &u);
    if (bad) {
        kl_v_required(c, p, kl_v_text(c, "url must be a valid URL: %s" FORM, bad));
        return;
    }
    if (!kl_str_eqz(u.scheme, "https"))
        kl_v_invalid_str(c, p, u.scheme, "'https' is the only allowed URL scheme" FORM);
    if (!u.host.n)
        kl_v_invalid_str(c, p, u.host, "host must be specified" FORM);
    const char *slashes = strstr(text.p, "//");
    if (slashes) {
        struct kl_str rest = kl_str_from(text, (size_t)(slashes - text.p) + 2);
        rest.n = strcspn(rest.p, "/?#") < rest.n ? strcspn(rest.p, "/?#") : rest.n;
        if ((at = kl_str_chr(rest, '@')) >= 0)
            kl_v_invalid_str(c, p, (struct kl_str){rest.p, (size_t)at},
                             "user information is not permitted in the URL");
    }
    if (fragment.n)
        kl_v_invalid_str(c, p, fragment, "fragments are not permitted in the URL");
    if (u.query.n)
        kl_v_invalid_str(c, p, u.query, "query parameters are not permitted in the URL");
#undef FORM
}

static void check_path(struct kl_v *c, const struct kl_vpath *p, struct kl_str path)
{
    struct kl_str rest = path.n ? kl_str_from(path, 1) : path;
    size_t i = 0;
    if (!path.n || kl_str_eqz(path, "/"))
        return;
    if (kl_str_eqz(path, "//")) {
        kl_v_invalid_str(c, p, path, "segment[0] may not be empty");
        return;
    }
    if (path.p[0] != '/')
        kl_v_invalid_str(c, p, path, "must start with a '/'");
    if (rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    for (bool last = false; !last; i++) {
        ptrdiff_t slash = kl_str_chr(rest, '/');
        struct kl_str step = {rest.p, slash < 0 ? rest.n : (size_t)slash};
        const char *why[KL_V_MESSAGES];
        last = slash < 0;
        size_t n = step.n ? kl_v_messages(KL_V_SUBDOMAIN, step, why) : 0;
        if (!step.n)
            kl_v_invalid_str(c, p, path, kl_v_text(c, "segment[%zu] may not be empty", i));
        for (size_t k = 0; k < n; k++)
            kl_v_invalid_str(c, p, path, kl_v_text(c, "segment[%zu]: %s", i, why[k]));
        if (!last)
            rest = kl_str_from(rest, (size_t)slash + 1);
    }
}

static void check_client(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *cc)
{
    const struct kl_value *url = kl_get(cc, KL_F_url), *svc = kl_get(cc, KL_F_service);
    if (!url == !svc) {
        kl_v_required(c, p, "exactly one of url or service is required");
        return;
    }
    if (url) {
        check_url(c, F(p, url), kl_text(url));
        return;
    }
    const struct kl_vpath *sp = F(p, service);
    int64_t port = kl_int_or(kl_get(svc, KL_F_port), 0);
    // Upstream takes the one for the other.
    if (!kl_text(kl_get(svc, KL_F_namespace)).n)
        kl_v_required(c, F(sp, name), "");
    if (!kl_text(kl_get(svc, KL_F_name)).n)
        kl_v_required(c, F(sp, namespace), "");
    if (port < 1 || port > 65535)
        kl_v_invalid_int(c, F(sp, port), port,
                         "port is not valid: must be between 1 and 65535, inclusive");
    check_path(c, F(sp, path), kl_text(kl_get(svc, KL_F_path)));
}

static void check_qualified(struct kl_v *c, const struct kl_vpath *p, struct kl_str name)
{
    const char *why[KL_V_MESSAGES];
    size_t n, dots = 0;
    if (!name.n) {
        kl_v_required(c, p, "");
        return;
    }
    if ((n = kl_v_messages(KL_V_SUBDOMAIN, name, why))) {
        const char *all = why[0];
        for (size_t i = 1; i < n; i++)
            all = kl_v_text(c, "%s,%s", all, why[i]);
        kl_v_invalid_str(c, p, name, all);
        return;
    }
    for (size_t i = 0; i < name.n; i++)
        dots += name.p[i] == '.';
    if (dots < 2)
        kl_v_invalid_str(c, p, name,
                         "should be a domain with at least three segments separated by dots");
}

static void check_review_versions(struct kl_v *c, const struct kl_vpath *p,
                                  const struct kl_value *list, bool known)
{
    size_t i = 0;
    if (!kl_len(list)) {
        kl_v_required(c, p, "must specify one of v1, v1beta1");
        return;
    }
    for (KL_EACH(v, list)) {
        size_t at = i++;
        if (seen_before(list, at, kl_text(v)))
            kl_v_invalid_str(c, I(p, at), kl_text(v), "duplicate version");
        else
            kl_v_format(c, I(p, at), kl_text(v), KL_V_DNS1035);
    }
    if (known && !kl_has_text(list, KL_STR("v1")) && !kl_has_text(list, KL_STR("v1beta1")))
        invalid_list(c, p, list, "must include at least one of v1, v1beta1");
}

static void check_webhook(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *h,
                          const struct options *o)
{
    const char *const *effects = o->no_side_effects ? no_side_effects : all_side_effects;
    const struct kl_value *seconds = kl_get(h, KL_F_timeoutSeconds);
    const struct kl_value *effect = kl_get(h, KL_F_sideEffects);
    size_t i = 0;
    check_qualified(c, F(p, name), kl_text(kl_get(h, KL_F_name)));
    for (KL_EACH(rule, kl_get(h, KL_F_rules)))
        check_rule(c, I(F(p, rules), i++), rule);
    check_enum(c, F(p, failurePolicy), kl_get(h, KL_F_failurePolicy), false, failure_policies);
    check_enum(c, F(p, matchPolicy), kl_get(h, KL_F_matchPolicy), false, match_policies);
    if (!effect)
        kl_v_required(c, F(p, sideEffects),
                      o->no_side_effects ? "must specify one of None, NoneOnDryRun"
                                         : "must specify one of None, NoneOnDryRun, Some, Unknown");
    check_enum(c, F(p, sideEffects), effect, false, effects);
    if (seconds && (seconds->i < 1 || seconds->i > 30))
        kl_v_invalid_int(c, F(p, timeoutSeconds), seconds->i,
                         "the timeout value must be between 1 and 30 seconds");
    if (o->good_selectors && kl_get(h, KL_F_namespaceSelector))
        kl_v_selector(c, F(p, namespaceSelector), kl_get(h, KL_F_namespaceSelector));
    if (o->good_selectors && kl_get(h, KL_F_objectSelector))
        kl_v_selector(c, F(p, objectSelector), kl_get(h, KL_F_objectSelector));
    check_enum(c, F(p, reinvocationPolicy), kl_get(h, KL_F_reinvocationPolicy), false,
               reinvocation_policies);
    check_client(c, F(p, clientConfig), kl_get(h, KL_F_clientConfig));
    if (o->conditions)
        check_conditions(c, F(p, matchConditions), kl_get(h, KL_F_matchConditions), false);
    check_review_versions(c, F(p, admissionReviewVersions), kl_get(h, KL_F_admissionReviewVersions),
                          o->known_review_version);
}

static bool name_is_taken(const struct kl_value *list, size_t before, struct kl_str name)
{
    for (size_t k = 0; k < before; k++)
        if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_name)), name))
            return true;
    return false;
}

static void check_configuration(struct kl_v *c, const struct options *o)
{
    const struct kl_value *list = kl_get(c->now, KL_F_webhooks);
    const struct kl_vpath hooks = {.sym = KL_F_webhooks};
    size_t i = 0;
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    for (KL_EACH(h, list)) {
        struct kl_str name = kl_text(kl_get(h, KL_F_name));
        check_webhook(c, I(&hooks, i), h, o);
        if (o->unique_names && name.n && name_is_taken(list, i, name))
            kl_v_duplicate(c, F(I(&hooks, i), name), name);
        i++;
    }
}

static void create_configuration(struct kl_v *c)
{
    const struct options all = {true, true, true, true, true};
    check_configuration(c, &all);
}

static bool selectors_are_good(struct kl_v *c, const struct kl_value *h)
{
    struct kl_findings f = {.arena = c->f->arena};
    struct kl_v probe = *c;
    const struct kl_vpath p = {.sym = KL_F_webhooks};
    probe.f = &f;
    if (kl_get(h, KL_F_namespaceSelector))
        kl_v_selector(&probe, &p, kl_get(h, KL_F_namespaceSelector));
    if (kl_get(h, KL_F_objectSelector))
        kl_v_selector(&probe, &p, kl_get(h, KL_F_objectSelector));
    return !f.n;
}

static void update_configuration(struct kl_v *c)
{
    const struct kl_value *now = kl_get(c->now, KL_F_webhooks),
                          *old = kl_get(c->old, KL_F_webhooks);
    struct options o = {kl_len(now) != kl_len(old), true, true, true, true};
    size_t i = 0;
    for (KL_EACH(h, old)) {
        const struct kl_value *versions = kl_get(h, KL_F_admissionReviewVersions);
        o.conditions |= !kl_value_equal(kl_get(kl_at(now, i), KL_F_matchConditions),
                                        kl_get(h, KL_F_matchConditions));
        o.no_side_effects &= kl_v_in(kl_text(kl_get(h, KL_F_sideEffects)), no_side_effects);
        o.known_review_version &= !kl_len(versions) || kl_has_text(versions, KL_STR("v1")) ||
                                  kl_has_text(versions, KL_STR("v1beta1"));
        o.unique_names &= !name_is_taken(old, i, kl_text(kl_get(h, KL_F_name)));
        o.good_selectors &= selectors_are_good(c, h);
        i++;
    }
    check_configuration(c, &o);
}

// ---- policies

static void check_param_kind(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *k)
{
    struct kl_str api = kl_text(kl_get(k, KL_F_apiVersion)), kind = kl_text(kl_get(k, KL_F_kind));
    ptrdiff_t slash = kl_str_chr(api, '/');
    struct kl_str group = {api.p, slash < 0 ? 0 : (size_t)slash};
    struct kl_str version = kl_str_from(api, slash < 0 ? 0 : (size_t)slash + 1);
    const char *why[KL_V_MESSAGES];
    if (!api.n) {
        kl_v_required(c, F(p, apiVersion), "");
    } else if (kl_str_chr(version, '/') >= 0) {
        kl_v_invalid_str(c, F(p, apiVersion), api,
                         kl_v_text(c, "unexpected GroupVersion string: %.*s", KL_PRI(api)));
    } else {
        if (group.n && kl_v_messages(KL_V_SUBDOMAIN, group, why))
            kl_v_invalid_str(c, F(p, apiVersion), group, why[0]);
        if (!version.n)
            kl_v_invalid_str(c, F(p, apiVersion), api, "version must be specified");
        else if (kl_v_messages(KL_V_DNS1035, version, why))
            kl_v_invalid_str(c, F(p, apiVersion), version, why[0]);
    }
    struct kl_str lower = kl_arena_dup(c->f->arena, kind);
    for (size_t i = 0; lower.p && i < lower.n; i++)
        if (lower.p[i] >= 'A' && lower.p[i] <= 'Z')
            ((char *)lower.p)[i] |= 0x20;
    if (!kind.n)
        kl_v_required(c, F(p, kind), "");
    else if (kl_v_messages(KL_V_DNS1035, lower, why))
        kl_v_invalid_str(
            c, F(p, kind), kind,
            kl_v_text(c, "may have mixed case, but should otherwise match: %s", why[0]));
}

static bool is_identifier(struct kl_str s)
{
    static const char *const reserved[] = {
        "true",      "false",  "null",     "in",   "as",     "break", "const", "continue",
        "else",      "for",    "function", "if",   "import", "let",   "loop",  "package",
        "namespace", "return", "var",      "void", "while",  NULL};
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        bool letter = ch == '_' || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
        if (!letter && (!i || ch < '0' || ch > '9'))
            return false;
    }
    return s.n && !kl_v_in(s, reserved);
}

static void check_variables(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                            const struct kl_exprs *x)
{
    size_t i = 0;
    for (KL_EACH(v, list)) {
        const struct kl_vpath *at = I(p, i);
        struct kl_str name = kl_text(kl_get(v, KL_F_name));
        struct kl_str text = kl_text(kl_get(v, KL_F_expression));
        if (!trimmed(name).n)
            kl_v_required(c, F(at, name), "name is not specified");
        else if (!is_identifier(name))
            kl_v_invalid_str(c, F(at, name), name, "must be a valid CEL identifier");
        if (!trimmed(text).n)
            kl_v_required(c, F(at, expression), "expression is not specified");
        else if (i < x->nvariables && !x->variables[i].program)
            kl_v_invalid_str(c, F(at, expression), text,
                             kl_v_text(c, "%.*s", KL_PRI(x->variables[i].error)));
        i++;
    }
}

static bool has_newline(struct kl_str s)
{
    return kl_str_chr(s, '\n') >= 0 || kl_str_chr(s, '\r') >= 0;
}

static void check_validation(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *v,
                             struct kl_exprs *x)
{
    struct kl_str text = kl_text(kl_get(v, KL_F_expression));
    struct kl_str say = kl_text(kl_get(v, KL_F_messageExpression));
    struct kl_str message = kl_text(kl_get(v, KL_F_message));
    if (!trimmed(text).n)
        kl_v_required(c, F(p, expression), "expression is not specified");
    else
        check_expression(c, x, KL_ENV_FULL, F(p, expression), text, text, is_bool);
    if (say.n && !trimmed(say).n)
        kl_v_invalid_str(c, F(p, messageExpression), say, "must be non-empty if specified");
    else if (say.n)
        check_expression(c, x, KL_ENV_NO_AUTHORIZER, F(p, messageExpression), say, say, is_string);
    if (message.n && !trimmed(message).n)
        kl_v_invalid_str(c, F(p, message), message, "must be non-empty if specified");
    else if (has_newline(trimmed(message)))
        kl_v_invalid_str(c, F(p, message), message, "must not contain line breaks");
    check_enum(c, F(p, reason), kl_get(v, KL_F_reason), false, reasons);
}

static void check_notes(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *list,
                        struct kl_exprs *x)
{
    struct kl_str policy = kl_meta_name(c->now);
    size_t i = 0;
    if (kl_len(list) > NOTES_MAX)
        kl_v_invalid_omitted(c, p, "must not have more than 20 auditAnnotations");
    for (KL_EACH(n, list)) {
        const struct kl_vpath *at = I(p, i);
        struct kl_str key = kl_text(kl_get(n, KL_F_key));
        struct kl_str text = kl_text(kl_get(n, KL_F_valueExpression));
        if (policy.n)
            kl_v_format(c, F(at, key),
                        kl_str(kl_v_text(c, "%.*s/%.*s", KL_PRI(policy), KL_PRI(key))),
                        KL_V_QUALIFIED);
        else
            kl_v_invalid_str(c, F(at, key), key, "requires metadata.name be non-empty");
        if (!trimmed(text).n)
            kl_v_required(c, F(at, valueExpression), "valueExpression is not specified");
        else if (trimmed(text).n > NOTE_EXPRESSION_MAX)
            kl_v_required(c, F(at, valueExpression), "must not exceed 5120 bytes in length");
        else
            check_expression(c, x, KL_ENV_FULL, F(at, valueExpression), trimmed(text), text,
                             is_note);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(list, k), KL_F_key)), key)) {
                kl_v_duplicate(c, F(at, key), key);
                break;
            }
        i++;
    }
}

// What both kinds of policies begin with. Matching conditions that an update leaves as they are
// are not looked at.
static void check_policy_head(struct kl_v *c, bool mutating)
{
    const struct kl_value *spec = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *kind = kl_get(spec, KL_F_paramKind);
    const struct kl_value *m = kl_get(spec, KL_F_matchConstraints);
    const struct kl_value *conditions = kl_get(spec, KL_F_matchConditions);
    const struct kl_vpath *p = &c->spec;
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    check_enum(c, F(p, failurePolicy), kl_get(spec, KL_F_failurePolicy), true, failure_policies);
    if (kind)
        check_param_kind(c, F(p, paramKind), kind);
    if (!m) {
        kl_v_required(c, F(p, matchConstraints), "");
    } else {
        check_match_resources(c, F(p, matchConstraints), m);
        if (!kl_len(kl_get(m, KL_F_resourceRules)))
            kl_v_required(c, F(F(p, matchConstraints), resourceRules), "");
        if (mutating)
            check_mutating_operations(c, F(p, matchConstraints), m);
    }
    if (!old || !kl_value_equal(kind, kl_get(old, KL_F_paramKind)) ||
        !kl_value_equal(conditions, kl_get(old, KL_F_matchConditions)))
        check_conditions(c, F(p, matchConditions), conditions, kind != NULL);
}

static bool begin_exprs(struct kl_v *c, struct kl_exprs *x, bool with_variables)
{
    const struct kl_value *spec = kl_v_spec(c);
    if (!kl_exprs_init(x, c->f->arena, kl_get(spec, KL_F_paramKind) != NULL, with_variables,
                       kl_get(spec, KL_F_variables)))
        return true;
    kl_v_internal(c, &c->spec, "out of memory");
    return false;
}

static void check_vap(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c);
    const struct kl_value *list = kl_get(spec, KL_F_validations);
    const struct kl_value *notes = kl_get(spec, KL_F_auditAnnotations);
    const struct kl_value *variables = kl_get(spec, KL_F_variables);
    const struct kl_vpath *p = &c->spec;
    struct kl_exprs x;
    size_t i = 0;
    check_policy_head(c, false);
    if (begin_exprs(c, &x, kl_len(variables) > 0)) {
        check_variables(c, F(p, variables), variables, &x);
        if (!kl_len(list) && !kl_len(notes)) {
            static const char why[] =
                "validations or auditAnnotations must contain at least one item";
            kl_v_required(c, F(p, validations), why);
            kl_v_required(c, F(p, auditAnnotations), why);
        }
        for (KL_EACH(v, list))
            check_validation(c, I(F(p, validations), i++), v, &x);
        check_notes(c, F(p, auditAnnotations), notes, &x);
    }
    kl_exprs_fini(&x);
}

static void check_mutation(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *m,
                           struct kl_exprs *x)
{
    struct kl_str type = kl_text(kl_get(m, KL_F_patchType));
    const struct kl_value *patch = kl_get(m, KL_F_jsonPatch);
    const struct kl_value *apply = kl_get(m, KL_F_applyConfiguration);
    if (!type.n) {
        kl_v_required(c, F(p, patchType), "");
        return;
    }
    if (!kl_v_in(type, patch_types)) {
        kl_v_unsupported(c, F(p, patchType), type, patch_types);
        return;
    }
    bool json = kl_str_eqz(type, "JSONPatch");
    const struct kl_vpath *mine = json ? F(p, jsonPatch) : F(p, applyConfiguration);
    const struct kl_vpath *other = json ? F(p, applyConfiguration) : F(p, jsonPatch);
    const struct kl_value *how = json ? patch : apply;
    struct kl_str text = trimmed(kl_text(kl_get(how, KL_F_expression)));
    if (!how)
        kl_v_required(c, mine,
                      json ? "must be specified when patchType is JSONPatch"
                           : "must be specified when patchType is ApplyConfiguration");
    else if (!text.n)
        kl_v_required(c, F(mine, expression), "");
    else
        check_expression(c, x, KL_ENV_PATCH, F(mine, expression), text, text,
                         json ? is_patch : is_object);
    if (json ? apply != NULL : patch != NULL)
        kl_v_invalid_str(c, other, json ? KL_STR("{applyConfiguration}") : KL_STR("{jsonPatch}"),
                         json ? "must not be specified when patchType is JSONPatch"
                              : "must not be specified when patchType is ApplyConfiguration");
}

static void check_map(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *list = kl_get(spec, KL_F_mutations);
    const struct kl_value *variables = kl_get(spec, KL_F_variables);
    struct kl_str again = kl_text(kl_get(spec, KL_F_reinvocationPolicy));
    const struct kl_vpath *p = &c->spec;
    struct kl_exprs x;
    size_t i = 0;
    check_policy_head(c, true);
    if (begin_exprs(c, &x, true)) {
        check_variables(c, F(p, variables), variables, &x);
        if (!kl_len(list))
            kl_v_required(c, F(p, mutations), "mutations must contain at least one item");
        for (KL_EACH(m, list))
            check_mutation(c, I(F(p, mutations), i++), m, &x);
    }
    kl_exprs_fini(&x);
    if (!again.n)
        kl_v_required(c, F(p, reinvocationPolicy), "");
    else if (!kl_v_in(again, reinvocation_policies))
        kl_v_unsupported(c, F(p, reinvocationPolicy), again, reinvocation_policies);
}

static void status_vap(struct kl_v *c)
{
    const struct kl_vpath *p = F(F(&c->status, typeChecking), expressionWarnings);
    size_t i = 0;
    for (KL_EACH(w, kl_path(c->now, KL_F_status, KL_F_typeChecking, KL_F_expressionWarnings))) {
        const struct kl_vpath *at = I(p, i++);
        if (!kl_text(kl_get(w, KL_F_warning)).n)
            kl_v_required(c, F(at, warning), "");
        if (!trimmed(kl_text(kl_get(w, KL_F_fieldRef))).n)
            kl_v_required(c, F(at, fieldRef), "");
    }
    kl_v_conditions(c, F(&c->status, conditions), kl_path(c->now, KL_F_status, KL_F_conditions));
}

// ---- bindings

static void check_param_ref(struct kl_v *c, const struct kl_vpath *p, const struct kl_value *ref)
{
    static const char exclusive[] = "name and selector are mutually exclusive";
    struct kl_str name = kl_text(kl_get(ref, KL_F_name));
    struct kl_str action = kl_text(kl_get(ref, KL_F_parameterNotFoundAction));
    const struct kl_value *selector = kl_get(ref, KL_F_selector);
    if (!ref)
        return;
    if (name.n) {
        kl_v_format(c, F(p, name), name, KL_V_PATH_SEGMENT);
        if (selector)
            kl_v_forbidden(c, F(p, name), exclusive);
    }
    if (selector) {
        kl_v_selector(c, F(p, selector), selector);
        if (name.n)
            kl_v_forbidden(c, F(p, selector), exclusive);
    }
    if (!name.n && !selector)
        kl_v_required(c, p, "one of name or selector must be specified");
    if (!action.n)
        kl_v_required(c, F(p, parameterNotFoundAction), "");
    else if (!kl_v_in(action, not_found_actions))
        kl_v_unsupported(c, F(p, parameterNotFoundAction), action, not_found_actions);
}

static void check_binding_head(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *m = kl_get(spec, KL_F_matchResources);
    struct kl_str policy = kl_text(kl_get(spec, KL_F_policyName));
    const struct kl_vpath *p = &c->spec;
    kl_v_meta_plain(c, KL_V_SUBDOMAIN);
    if (!policy.n)
        kl_v_required(c, F(p, policyName), "");
    else
        kl_v_format(c, F(p, policyName), policy, KL_V_SUBDOMAIN);
    check_param_ref(c, F(p, paramRef), kl_get(spec, KL_F_paramRef));
    if (m)
        check_match_resources(c, F(p, matchResources), m);
}

static void check_vap_binding(struct kl_v *c)
{
    const struct kl_value *list = kl_get(kl_v_spec(c), KL_F_validationActions);
    const struct kl_vpath *p = F(&c->spec, validationActions);
    size_t i = 0;
    check_binding_head(c);
    for (KL_EACH(a, list)) {
        const struct kl_vpath *at = I(p, i);
        if (!kl_v_in(kl_text(a), actions))
            kl_v_unsupported(c, at, kl_text(a), actions);
        if (seen_before(list, i, kl_text(a)))
            kl_v_duplicate(c, at, kl_text(a));
        i++;
    }
    if (kl_has_text(list, KL_STR("Deny")) && kl_has_text(list, KL_STR("Warn")))
        invalid_list(c, p, list,
                     "must not contain both Deny and Warn (repeating the same validation failure "
                     "information in the API response and headers serves no purpose)");
    if (!kl_len(list))
        kl_v_required(c, p, "at least one validation action is required");
}

static void check_map_binding(struct kl_v *c)
{
    check_binding_head(c);
    check_mutating_operations(c, F(&c->spec, matchResources),
                              kl_get(kl_v_spec(c), KL_F_matchResources));
}

const struct kl_v_kind kl_v_admission[] = {
    {KL_RES_admissionregistration_v1_validatingwebhookconfigurations,
     .create = create_configuration, .update = update_configuration},
    {KL_RES_admissionregistration_v1_mutatingwebhookconfigurations, .create = create_configuration,
     .update = update_configuration},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicies, .create = check_vap,
     .update = check_vap, .status = status_vap},
    {KL_RES_admissionregistration_v1_validatingadmissionpolicybindings, .create = check_vap_binding,
     .update = check_vap_binding},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicies, .create = check_map,
     .update = check_map},
    {KL_RES_admissionregistration_v1beta1_mutatingadmissionpolicybindings,
     .create = check_map_binding, .update = check_map_binding},
    {0},
};

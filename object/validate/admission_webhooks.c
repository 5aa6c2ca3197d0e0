// SPDX-License-Identifier: Apache-2.0
// admissionregistration.k8s.io: webhook configurations. What an update leaves alone is not looked
// at again.
#include "object/cel/url_int.h"
#include "object/validate/admission_int.h"
#include <ctype.h>

static const char *const match_policies[] = {"Equivalent", "Exact", NULL};
static const char *const all_side_effects[] = {"None", "NoneOnDryRun", "Some", "Unknown", NULL};
static const char *const no_side_effects[] = {"None", "NoneOnDryRun", NULL};

// What an update need not keep to because the stored object does not.
struct options {
    bool conditions; // matchConditions are looked at
    bool no_side_effects, known_review_version, unique_names, good_selectors;
};

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
        if (kl_va_seen_before(list, at, kl_text(v)))
            kl_v_invalid_str(c, I(p, at), kl_text(v), "duplicate version");
        else
            kl_v_format(c, I(p, at), kl_text(v), KL_V_DNS1035);
    }
    if (known && !kl_has_text(list, KL_STR("v1")) && !kl_has_text(list, KL_STR("v1beta1")))
        kl_va_invalid_list(c, p, list, "must include at least one of v1, v1beta1");
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
        kl_va_rule(c, I(F(p, rules), i++), rule);
    kl_va_enum(c, F(p, failurePolicy), kl_get(h, KL_F_failurePolicy), false,
               kl_va_failure_policies);
    kl_va_enum(c, F(p, matchPolicy), kl_get(h, KL_F_matchPolicy), false, match_policies);
    if (!effect)
        kl_v_required(c, F(p, sideEffects),
                      o->no_side_effects ? "must specify one of None, NoneOnDryRun"
                                         : "must specify one of None, NoneOnDryRun, Some, Unknown");
    kl_va_enum(c, F(p, sideEffects), effect, false, effects);
    if (seconds && (seconds->i < 1 || seconds->i > 30))
        kl_v_invalid_int(c, F(p, timeoutSeconds), seconds->i,
                         "the timeout value must be between 1 and 30 seconds");
    if (o->good_selectors && kl_get(h, KL_F_namespaceSelector))
        kl_v_selector(c, F(p, namespaceSelector), kl_get(h, KL_F_namespaceSelector));
    if (o->good_selectors && kl_get(h, KL_F_objectSelector))
        kl_v_selector(c, F(p, objectSelector), kl_get(h, KL_F_objectSelector));
    kl_va_enum(c, F(p, reinvocationPolicy), kl_get(h, KL_F_reinvocationPolicy), false,
               kl_va_reinvocation_policies);
    check_client(c, F(p, clientConfig), kl_get(h, KL_F_clientConfig));
    if (o->conditions)
        kl_va_conditions(c, F(p, matchConditions), kl_get(h, KL_F_matchConditions), false);
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

const struct kl_v_kind kl_v_webhooks[] = {
    {KL_RES_admissionregistration_v1_validatingwebhookconfigurations,
     .create = create_configuration, .update = update_configuration},
    {KL_RES_admissionregistration_v1_mutatingwebhookconfigurations, .create = create_configuration,
     .update = update_configuration},
    {0},
};

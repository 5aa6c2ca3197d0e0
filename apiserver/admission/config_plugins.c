// SPDX-License-Identifier: Apache-2.0
// The sections of the plug-ins, as upstream decodes, defaults and validates each.
#include "apiserver/admission/config_int.h"
#include "apiserver/admission/event_limits.h"
#include "apiserver/auth/ask.h"
#include "object/json.h"
#include "object/names.h"
#include "object/types_gen.h"
#include "object/yaml.h"

#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL, NULL                                                                        \
    }
#define F(name, kind)                                                                              \
    {                                                                                              \
        name, kind, NULL, NULL                                                                     \
    }

static struct kl_str member(const struct kl_value *v, const char *name)
{
    return kl_text(kl_map_value(v, kl_str(name)));
}

static struct kl_value *new_value(struct kl_admit_config *c, struct kl_error *err)
{
    struct kl_value *v = KL_ARENA_NEW(&c->arena, struct kl_value);
    if (!v)
        kl_error_set(err, KL_ENOMEM, "out of memory");
    return v;
}

static int take_names(struct kl_admit_config *c, const struct kl_value *list,
                      struct kl_admit_names *ret, struct kl_error *err)
{
    struct kl_str *v = kl_arena_alloc(&c->arena, (kl_len(list) + 1) * sizeof *v);
    if (!v)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    ret->v = v;
    for (KL_EACH(x, list))
        v[ret->n++] = kl_text(x);
    return 0;
}

// ---- PodSecurity

static void read_policy(struct kl_field_errors *e, const struct kl_value *defaults,
                        const char *mode, struct kl_ps_policy *ret)
{
    struct kl_arena *a = e->arena;
    struct kl_str key = kl_arena_printf(a, "%s-version", mode);
    struct kl_str level = member(defaults, mode), version = member(defaults, key.p ? key.p : "");
    const char *why;
    *ret = (struct kl_ps_policy){KL_PS_PRIVILEGED, KL_PS_LATEST};
    if (level.n && (why = kl_ps_parse_level(level, &ret->level)))
        kl_field_invalid(e, kl_arena_printf(a, "defaults.%s", mode), level, why);
    if (version.n && (why = kl_ps_parse_version(version, &ret->minor)))
        kl_field_invalid(e, kl_arena_printf(a, "defaults.%s-version", mode), version, why);
}

static const char *check_user(struct kl_str s)
{
    return s.n ? NULL : "username must not be empty";
}

static void check_exempt(struct kl_field_errors *e, const char *what,
                         const struct kl_admit_names *l, const char *(*check)(struct kl_str s))
{
    for (size_t i = 0; i < l->n; i++) {
        struct kl_str at = kl_arena_printf(e->arena, "exemptions.%s[%zu]", what, i);
        const char *why = check(l->v[i]);
        bool twice = false;
        for (size_t k = 0; k < i; k++)
            twice |= kl_str_eq(l->v[k], l->v[i]);
        if (why)
            kl_field_invalid(e, at, l->v[i], why);
        else if (twice)
            kl_field_duplicate(e, at, l->v[i]);
    }
}

int kl_config_pod_security(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    static const struct kl_config_field defaults[] = {F("enforce", 's'),
                                                      F("enforce-version", 's'),
                                                      F("audit", 's'),
                                                      F("audit-version", 's'),
                                                      F("warn", 's'),
                                                      F("warn-version", 's'),
                                                      END};
    static const struct kl_config_field exemptions[] = {F("usernames", 'S'), F("namespaces", 'S'),
                                                        F("runtimeClasses", 'S'), END};
    static const struct kl_config_field root[] = {
        {"defaults", 'O', "PodSecurityDefaults", defaults},
        {"exemptions", 'O', "PodSecurityExemptions", exemptions},
        END};
    static const char *const versions[] = {"pod-security.admission.config.k8s.io/v1",
                                           "pod-security.admission.config.k8s.io/v1beta1",
                                           "pod-security.admission.config.k8s.io/v1alpha1", NULL};
    static const struct kl_config_kind kind = {versions, "PodSecurityConfiguration", root, true};
    struct kl_value *v = new_value(c, err);
    struct kl_field_errors e = {.arena = &c->arena};
    int rc = v ? 0 : KL_ENOMEM;
    if (!rc && text.n)
        rc = kl_config_decode(&c->arena, text, &kind, v, err);
    if (rc)
        return rc;
    const struct kl_value *d = kl_map_value(v, KL_STR("defaults")),
                          *x = kl_map_value(v, KL_STR("exemptions"));
    read_policy(&e, d, "enforce", &c->pods.defaults.enforce);
    read_policy(&e, d, "warn", &c->pods.defaults.warn);
    read_policy(&e, d, "audit", &c->pods.defaults.audit);
    if ((rc = take_names(c, kl_map_value(x, KL_STR("namespaces")), &c->pods.namespaces, err)) ||
        (rc = take_names(c, kl_map_value(x, KL_STR("runtimeClasses")), &c->pods.classes, err)) ||
        (rc = take_names(c, kl_map_value(x, KL_STR("usernames")), &c->pods.users, err)))
        return rc;
    check_exempt(&e, "namespaces", &c->pods.namespaces, kl_name_dns1123_label);
    check_exempt(&e, "runtimeClasses", &c->pods.classes, kl_name_dns1123_subdomain);
    check_exempt(&e, "usernames", &c->pods.users, check_user);
    return kl_field_aggregate(&e, err);
}

// ---- ResourceQuota

static int typed_list(struct kl_admit_config *c, const struct kl_value *list,
                      enum kl_type_index type, const struct kl_value **ret, struct kl_error *err)
{
    struct kl_value *out = kl_len(list) ? new_value(c, err) : NULL;
    *ret = out;
    if (!out)
        return kl_len(list) ? KL_ENOMEM : 0;
    *out = kl_new_array();
    for (KL_EACH(x, list)) {
        struct kl_value t;
        int rc = kl_typed_from_untyped(&c->arena, kl_type(type), x, NULL, &t, err);
        if (rc)
            return rc;
        if (kl_append(&c->arena, out, t))
            return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    return 0;
}

int kl_config_quota(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    static const struct kl_config_field resource[] = {F("apiGroup", 's'), F("resource", 's'),
                                                      F("matchContains", 'S'),
                                                      F("matchScopes", '*'), END};
    static const struct kl_config_field root[] = {
        {"limitedResources", 'L', "LimitedResource", resource}, END};
    static const char *const versions[] = {"apiserver.config.k8s.io/v1",
                                           "resourcequota.admission.k8s.io/v1beta1",
                                           "resourcequota.admission.k8s.io/v1alpha1", NULL};
    static const char *const kinds[] = {"ResourceQuotaConfiguration", "Configuration"};
    struct kl_value *v = new_value(c, err), peek;
    struct kl_field_errors e = {.arena = &c->arena};
    int rc = !v ? KL_ENOMEM : text.p ? kl_yaml_parse(&c->arena, text, NULL, &peek, err) : 0;
    if (rc || !text.p)
        return rc;
    // The kind's name changed with its group.
    bool old = !kl_str_eqz(member(&peek, "apiVersion"), versions[0]);
    const struct kl_config_kind kind = {old ? versions + 1
                                            : (const char *const[]){versions[0], NULL},
                                        kinds[old], root, true, "Configuration"};
    if ((rc = kl_config_decode(&c->arena, text, &kind, v, err)))
        return rc;
    const struct kl_value *list = kl_map_value(v, KL_STR("limitedResources"));
    struct kl_quota_limited *l = kl_arena_zalloc(&c->arena, (kl_len(list) + 1) * sizeof *l);
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    c->limited.v = l;
    for (KL_EACH(x, list)) {
        struct kl_admit_names parts = {0};
        if (!member(x, "resource").n)
            kl_field_required(
                &e, kl_arena_printf(&c->arena, "limitedResources[%zu].resource", c->limited.n), "");
        if ((rc = take_names(c, kl_map_value(x, KL_STR("matchContains")), &parts, err)) ||
            (rc = typed_list(c, kl_map_value(x, KL_STR("matchScopes")),
                             KL_TYPE_core_v1_ScopedResourceSelectorRequirement, &l->scopes, err)))
            return rc;
        l->group = member(x, "apiGroup");
        l->plural = member(x, "resource");
        l->contains = parts.v;
        l->ncontains = parts.n;
        l++;
        c->limited.n++;
    }
    return kl_field_aggregate(&e, err);
}

// ---- PodTolerationRestriction, PodNodeSelector

int kl_config_tolerations(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    static const struct kl_config_field root[] = {F("default", '*'), F("whitelist", '*'), END};
    static const char *const versions[] = {"podtolerationrestriction.admission.k8s.io/v1alpha1",
                                           NULL};
    static const struct kl_config_kind kind = {versions, "Configuration", root, false};
    struct kl_value *v = new_value(c, err);
    int rc = !v ? KL_ENOMEM : text.p ? kl_config_decode(&c->arena, text, &kind, v, err) : 0;
    if (!rc)
        rc = typed_list(c, kl_map_value(v, KL_STR("default")), KL_TYPE_core_v1_Toleration,
                        &c->default_tolerations, err);
    return rc ? rc
              : typed_list(c, kl_map_value(v, KL_STR("whitelist")), KL_TYPE_core_v1_Toleration,
                           &c->allowed_tolerations, err);
}

// A file that cannot be read is none, as upstream has it.
int kl_config_node_selectors(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    struct kl_value *v = new_value(c, err);
    struct kl_error ignored = {0};
    if (!v)
        return KL_ENOMEM;
    if (text.p && !kl_yaml_parse(&c->arena, text, NULL, v, &ignored))
        c->node_selectors = kl_map_value(v, KL_STR("podNodeSelectorPluginConfig"));
    return 0;
}

// ---- EventRateLimit

static void read_limit(struct kl_field_errors *e, const struct kl_value *x, size_t i,
                       struct kl_event_limit *ret)
{
    static const char *const types[] = {"Namespace", "Server", "SourceAndObject", "User", NULL};
    struct kl_arena *a = e->arena;
    struct kl_str type = member(x, "type");
    int k = 0;
    *ret = (struct kl_event_limit){.qps = (int32_t)kl_int_or(kl_map_value(x, KL_STR("qps")), 0),
                                   .burst = (int32_t)kl_int_or(kl_map_value(x, KL_STR("burst")), 0),
                                   .cache_size =
                                       (int32_t)kl_int_or(kl_map_value(x, KL_STR("cacheSize")), 0)};
    while (k < KL_EVENT_LIMIT_TYPES && !kl_str_eqz(type, kl_event_limit_names[k]))
        k++;
    if (k == KL_EVENT_LIMIT_TYPES)
        kl_field_unsupported(e, kl_arena_printf(a, "limits[%zu].type", i), type, types);
    else
        ret->type = (enum kl_event_limit_type)k;
    if (ret->burst <= 0)
        kl_field_error(e, "FieldValueInvalid", kl_arena_printf(a, "limits[%zu].burst", i),
                       "Invalid value: %d: must be positive", ret->burst);
    if (ret->qps <= 0)
        kl_field_error(e, "FieldValueInvalid", kl_arena_printf(a, "limits[%zu].qps", i),
                       "Invalid value: %d: must be positive", ret->qps);
    if (k != KL_EVENT_LIMIT_SERVER && ret->cache_size < 0)
        kl_field_error(e, "FieldValueInvalid", kl_arena_printf(a, "limits[%zu].cacheSize", i),
                       "Invalid value: %d: must not be negative", ret->cache_size);
    if (k == KL_EVENT_LIMIT_SERVER)
        ret->cache_size = 1;
}

int kl_config_events(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    static const struct kl_config_field limit[] = {
        {"type", 's', "LimitType", NULL}, F("qps", 'i'), F("burst", 'i'), F("cacheSize", 'i'), END};
    static const struct kl_config_field root[] = {{"limits", 'L', "Limit", limit}, END};
    static const char *const versions[] = {"eventratelimit.admission.k8s.io/v1alpha1", NULL};
    static const struct kl_config_kind kind = {versions, "Configuration", root, false};
    struct kl_value *v = new_value(c, err);
    struct kl_field_errors e = {.arena = &c->arena};
    int rc = !v ? KL_ENOMEM : text.p ? kl_config_decode(&c->arena, text, &kind, v, err) : 0;
    if (rc)
        return rc;
    const struct kl_value *list = kl_map_value(v, KL_STR("limits"));
    size_t n = 0;
    struct kl_event_limit *l = kl_arena_zalloc(&c->arena, (kl_len(list) + 1) * sizeof *l);
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    if (!kl_len(list))
        kl_field_error(&e, "FieldValueInvalid", KL_STR("limits"),
                       "Invalid value: %s: must not be empty", list ? "[]" : "null");
    for (KL_EACH(x, list)) {
        read_limit(&e, x, n, &l[n]);
        n++;
    }
    if ((rc = kl_field_aggregate(&e, err)))
        return rc;
    if (!(c->events = kl_event_limits_new(l, n)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return 0;
}

// ---- ImagePolicyWebhook

// normalizeConfigDuration
static int duration(const struct kl_value *v, const char *name, int64_t scale_ns, int64_t min_ns,
                    int64_t max_ns, const char *range, int64_t otherwise_ns, int64_t *ret_ms,
                    struct kl_error *err)
{
    int64_t n = kl_int_or(kl_map_value(v, kl_str(name)), 0), ns;
    *ret_ms = n == -1 ? 0 : otherwise_ns / 1000000;
    if (n == -1 || !n)
        return 0;
    if (__builtin_mul_overflow(n, scale_ns, &ns) || ns < min_ns || ns > max_ns)
        return kl_error_set(err, KL_EINVALID, "valid value is between %s, got %lld%s", range,
                            (long long)n, scale_ns == 1000000 ? "ms" : "s");
    *ret_ms = ns / 1000000;
    return 0;
}

int kl_config_images(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    static const struct kl_config_field policy[] = {
        F("kubeConfigFile", 's'), F("allowTTL", 'd'),     F("denyTTL", 'd'),
        F("retryBackoff", 'd'),   F("defaultAllow", 'b'), END};
    static const struct kl_config_field root[] = {
        {"imagePolicy", 'O', "imagePolicyWebhookConfig", policy}, END};
    const int64_t ms = 1000000, s = 1000 * ms, minute = 60 * s;
    struct kl_value *v = new_value(c, err);
    int64_t backoff_ms;
    if (!v)
        return KL_ENOMEM;
    if (!text.p)
        return kl_error_set(err, KL_EINVALID, "no config specified");
    int rc = kl_yaml_parse(&c->arena, text, NULL, v, err);
    if (rc || (rc = kl_config_shape(v, "imagepolicy", "AdmissionConfig", root, false, err)))
        return rc;
    const struct kl_value *p = kl_map_value(v, KL_STR("imagePolicy"));
    if ((rc = duration(p, "retryBackoff", ms, 1, 5 * minute, "1ns and 5m0s", 500 * ms, &backoff_ms,
                       err)) ||
        (rc = duration(p, "allowTTL", s, s, 30 * minute, "1s and 30m0s", 5 * minute,
                       &c->images.allow_ms, err)) ||
        (rc = duration(p, "denyTTL", s, s, 30 * minute, "1s and 30m0s", 30 * s, &c->images.deny_ms,
                       err)))
        return rc;
    c->images.backoff_ms = backoff_ms ? (int)backoff_ms : -1; // -1 in the file: no pause
    c->images.default_allow = kl_is_true(kl_map_value(p, KL_STR("defaultAllow")));
    struct kl_str file = kl_arena_dup(&c->arena, member(p, "kubeConfigFile"));
    return file.p ? kl_remote_from_kubeconfig(file.p, &c->images.to, err)
                  : kl_error_set(err, KL_ENOMEM, "out of memory");
}

// ---- webhooks

static int webhook_users(struct kl_admit_config *c, struct kl_str text, struct kl_kubeconfig **ret,
                         struct kl_error *err)
{
    static const struct kl_config_field root[] = {F("kubeConfigFile", 's'), END};
    static const char *const versions[] = {"apiserver.config.k8s.io/v1", NULL};
    static const struct kl_config_kind kind = {versions, "WebhookAdmissionConfiguration", root,
                                               true, "WebhookAdmission"};
    struct kl_value *v = new_value(c, err);
    int rc = !v ? KL_ENOMEM : text.p ? kl_config_decode(&c->arena, text, &kind, v, err) : 0;
    struct kl_str file = rc ? KL_STR("") : member(v, "kubeConfigFile");
    if (rc || !file.n)
        return rc;
    if (file.p[0] != '/')
        return kl_error_set(err, KL_EINVALID,
                            "kubeConfigFile: Invalid value: \"%.*s\": must be an absolute file "
                            "path",
                            KL_PRI(file));
    file = kl_arena_dup(&c->arena, file);
    return file.p ? kl_kubeconfig_new(file.p, ret, err)
                  : kl_error_set(err, KL_ENOMEM, "out of memory");
}

int kl_config_mutating_webhooks(struct kl_admit_config *c, struct kl_str text, struct kl_error *err)
{
    return webhook_users(c, text, &c->mutating, err);
}

int kl_config_validating_webhooks(struct kl_admit_config *c, struct kl_str text,
                                  struct kl_error *err)
{
    return webhook_users(c, text, &c->validating, err);
}

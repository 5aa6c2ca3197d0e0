// SPDX-License-Identifier: Apache-2.0
// The small kinds of the core group: configuration, namespaces, nodes, quotas, events.
#include "object/json.h"
#include "object/validate/pod_int.h"

// ---- ConfigMaps and Secrets

enum { DATA_MAX = 1024 * 1024 };

static size_t check_keys(struct kl_v *c, const struct kl_value *map, const struct kl_vpath *p,
                         const struct kl_value *other)
{
    size_t total = 0;
    for (KL_MAP_EACH_KEY(kv, map)) {
        struct kl_str key = kl_text(kv);
        kl_v_format(c, K(p, key), key, KL_V_CONFIG_KEY);
        if (kl_map_value(other, key))
            kl_v_invalid_str(c, K(p, key), key, "duplicate of key present in binaryData");
        total += kl_text(kv + 1).n;
    }
    return total;
}

static void check_frozen(struct kl_v *c, const kl_sym *maps, size_t n)
{
    static const char why[] = "field is immutable when `immutable` is set";
    if (!kl_is_true(kl_get(c->old, KL_F_immutable)))
        return;
    if (!kl_is_true(kl_get(c->now, KL_F_immutable)))
        kl_v_forbidden(c, F(NULL, immutable), why);
    for (size_t i = 0; i < n; i++)
        if (!kl_value_equal(kl_get(c->now, maps[i]), kl_get(c->old, maps[i])))
            kl_v_forbidden(c, FS(NULL, maps[i]), why);
}

static void create_config_map(struct kl_v *c)
{
    const struct kl_value *binary = kl_get(c->now, KL_F_binaryData);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    size_t total = check_keys(c, kl_get(c->now, KL_F_data), F(NULL, data), binary) +
                   check_keys(c, binary, F(NULL, binaryData), NULL);
    if (total > DATA_MAX)
        kl_v_too_long(c, N(NULL, "[]"), DATA_MAX);
}

static void update_config_map(struct kl_v *c)
{
    static const kl_sym maps[] = {KL_F_data, KL_F_binaryData};
    kl_v_meta_update(c);
    check_frozen(c, maps, 2);
    create_config_map(c);
}

// The keys that a type must have.
static const struct secret_type {
    const char *type, *keys[2];
    bool any, filled, json; // one is enough; not empty; a JSON object
} secret_types[] = {
    {"kubernetes.io/dockercfg", {".dockercfg"}, false, false, true},
    {"kubernetes.io/dockerconfigjson", {".dockerconfigjson"}, false, false, true},
    {"kubernetes.io/basic-auth", {"username", "password"}, true, false, false},
    {"kubernetes.io/ssh-auth", {"ssh-privatekey"}, false, true, false},
    {"kubernetes.io/tls", {"tls.crt", "tls.key"}, false, false, false},
};

static void check_json(struct kl_v *c, const struct kl_value *v, const struct kl_vpath *p)
{
    struct kl_value parsed;
    struct kl_error err = {0};
    const char *why = NULL;
    if (kl_json_parse(c->f->arena, kl_text(v), NULL, &parsed, &err))
        why = kl_v_text(c, "%s", err.msg);
    else if (!kl_is(&parsed, KL_MAP) && !kl_is(&parsed, KL_NULL))
        why =
            kl_v_text(c, "json: cannot unmarshal %s into Go value of type map[string]interface {}",
                      kl_is(&parsed, KL_ARRAY)    ? "array"
                      : kl_is(&parsed, KL_STRING) ? "string"
                      : kl_is(&parsed, KL_BOOL)   ? "bool"
                                                  : "number");
    if (why)
        kl_v_invalid_str(c, p, KL_STR("<secret contents redacted>"), why);
}

static void check_secret_type(struct kl_v *c, struct kl_str type, const struct kl_value *data)
{
    static const char account[] = "kubernetes.io/service-account.name";
    if (kl_str_eqz(type, "kubernetes.io/service-account-token") &&
        !kl_text(kl_map_value(kl_meta_annotations(c->now), kl_str(account))).n)
        kl_v_required(c, K(F(&c->meta, annotations), kl_str(account)), "");
    for (size_t i = 0; i < KL_COUNT(secret_types); i++) {
        const struct secret_type *t = &secret_types[i];
        size_t n = t->keys[1] ? 2 : 1, has = 0;
        if (!kl_str_eqz(type, t->type))
            continue;
        for (size_t k = 0; k < n; k++)
            has += kl_map_value(data, kl_str(t->keys[k])) != NULL;
        for (size_t k = 0; k < n; k++) {
            const struct kl_value *v = kl_map_value(data, kl_str(t->keys[k]));
            const struct kl_vpath *p = K(F(NULL, data), kl_str(t->keys[k]));
            if (t->any ? !has : !v || (t->filled && !kl_text(v).n))
                kl_v_required(c, p, "");
            else if (v && t->json)
                check_json(c, v, p);
        }
    }
}

static void create_secret(struct kl_v *c)
{
    const struct kl_value *data = kl_get(c->now, KL_F_data);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    if (check_keys(c, data, F(NULL, data), NULL) > DATA_MAX)
        kl_v_too_long(c, F(NULL, data), DATA_MAX);
    check_secret_type(c, kl_text(kl_get(c->now, KL_F_type)), data);
}

static void update_secret(struct kl_v *c)
{
    static const kl_sym maps[] = {KL_F_data};
    struct kl_str type = kl_text(kl_get(c->now, KL_F_type));
    kl_v_meta_update(c);
    if (!kl_str_eq(type, kl_text(kl_get(c->old, KL_F_type))))
        kl_v_invalid_str(c, F(NULL, type), type, "field is immutable");
    check_frozen(c, maps, 1);
    create_secret(c);
}

// ---- kinds of which only metadata is checked

static void create_plain(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
}

static void update_plain(struct kl_v *c)
{
    kl_v_meta_update(c);
    create_plain(c);
}

// ---- namespaces

static void check_namespace_finalizers(struct kl_v *c, bool indexed)
{
    const struct kl_vpath *p = F(&c->spec, finalizers);
    size_t i = 0;
    for (KL_EACH(f, kl_get(kl_v_spec(c), KL_F_finalizers))) {
        const struct kl_vpath *at = indexed ? I(p, i) : p;
        i++;
        kl_v_format(c, at, kl_text(f), KL_V_QUALIFIED);
        kl_v_known_finalizer(c, at, kl_text(f));
    }
}

static void create_namespace(struct kl_v *c)
{
    kl_v_meta(c, KL_V_LABEL);
    check_namespace_finalizers(c, false);
}

static void update_namespace(struct kl_v *c)
{
    create_namespace(c);
    kl_v_meta_update(c);
}

static void status_namespace(struct kl_v *c)
{
    struct kl_str phase = kl_text_at(c->now, KL_F_status, KL_F_phase);
    bool going = kl_meta_deleting(c->now);
    kl_v_meta_update(c);
    if (!kl_str_eqz(phase, going ? "Terminating" : "Active"))
        kl_v_invalid_str(c, N(&c->status, "Phase"), phase,
                         going ? "may only be 'Terminating' if `deletionTimestamp` is not empty"
                               : "may only be 'Active' if `deletionTimestamp` is empty");
}

static void finalize_namespace(struct kl_v *c)
{
    kl_v_meta_update(c);
    check_namespace_finalizers(c, true);
}

// ---- nodes

static void check_taints(struct kl_v *c, const struct kl_value *list, const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(list); i++) {
        const struct kl_value *t = kl_at(list, i);
        const struct kl_vpath *at = I(p, i);
        struct kl_str key = kl_text(kl_get(t, KL_F_key)), value = kl_text(kl_get(t, KL_F_value));
        struct kl_str effect = kl_text(kl_get(t, KL_F_effect));
        const char *msg[KL_V_MESSAGES];
        kl_v_format(c, F(at, key), key, KL_V_QUALIFIED);
        size_t n = kl_v_messages(KL_V_LABEL_VALUE, value, msg);
        if (n)
            kl_v_invalid_str(c, F(at, value), value,
                             n > 1 ? kl_v_text(c, "%s;%s", msg[0], msg[1]) : msg[0]);
        kl_v_taint_effect(c, effect, false, F(at, effect));
        for (size_t k = 0; k < i; k++) {
            const struct kl_value *o = kl_at(list, k);
            if (!kl_str_eq(kl_text(kl_get(o, KL_F_key)), key) ||
                !kl_str_eq(kl_text(kl_get(o, KL_F_effect)), effect))
                continue;
            kl_v_duplicate_text(
                c, at,
                kl_str(kl_v_text(c, "%.*s: taints must be unique by key and effect pair",
                                 KL_PRI(kl_v_json(c, kl_type(KL_TYPE_core_v1_Taint), t, true)))));
            break;
        }
    }
}

static void check_amounts(struct kl_v *c, kl_sym which)
{
    for (KL_MAP_EACH_KEY(kv, kl_path(c->now, KL_F_status, which)))
        kl_v_quantity(c, kl_text(kv), kv + 1,
                      N(FS(&c->status, which), kl_v_text(c, "%.*s", KL_PRI(kl_text(kv)))));
}

// Names of a node's amounts are put together only when something is wrong with one.
static void check_node_amounts(struct kl_v *c)
{
    static const kl_sym which[] = {KL_F_capacity, KL_F_allocatable};
    for (size_t i = 0; i < KL_COUNT(which); i++)
        for (KL_MAP_EACH_KEY(kv, kl_path(c->now, KL_F_status, which[i]))) {
            struct kl_quantity q = {0};
            (void)kl_quantity_parse(kl_text(kv + 1), &q, NULL);
            if (q.nano < 0 || kl_quantity_milli(&q) % 1000) {
                check_amounts(c, which[i]);
                break;
            }
        }
}

static void check_features(struct kl_v *c)
{
    const struct kl_value *list = kl_path(c->now, KL_F_status, KL_F_declaredFeatures);
    for (size_t i = 1; i < kl_len(list); i++) {
        struct kl_str a = kl_text(kl_at(list, i - 1)), b = kl_text(kl_at(list, i));
        int cmp = kl_str_cmp(a, b);
        if (!cmp)
            kl_v_duplicate(c, I(F(&c->status, declaredFeatures), i), b);
        else if (cmp > 0)
            kl_v_invalid_str(c, I(F(&c->status, declaredFeatures), i), b,
                             "list must be sorted alphabetically");
    }
}

static void create_node(struct kl_v *c)
{
    const struct kl_value *cidrs = kl_get(kl_v_spec(c), KL_F_podCIDRs);
    const struct kl_value *swap =
        kl_path(c->now, KL_F_status, KL_F_nodeInfo, KL_F_swap, KL_F_capacity);
    const struct kl_vpath *p = F(&c->spec, podCIDRs);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_taints(c, kl_get(kl_v_spec(c), KL_F_taints), F(&c->meta, taints));
    check_node_amounts(c);
    if (swap && kl_int_or(swap, 0) <= 0)
        kl_v_invalid_int(c, F(N(&c->meta, "nodeSwapStatus"), capacity), kl_int_or(swap, 0),
                         "must be greater than zero");
    check_features(c);
    for (size_t i = 0; i < kl_len(cidrs); i++)
        kl_v_cidr(c, I(p, i), kl_text(kl_at(cidrs, i)), false);
    if (kl_len(cidrs) > 1) {
        int a = kl_v_cidr_family(kl_text(kl_at(cidrs, 0)));
        int b = kl_v_cidr_family(kl_text(kl_at(cidrs, 1)));
        if (a == b || kl_len(cidrs) > 2)
            kl_v_invalid(c, p, cidrs, "may specify no more than one CIDR for each IP family");
    }
}

static void status_node(struct kl_v *c)
{
    static const char why[] = "node updates may not change podCIDR except from \"\" to valid";
    const struct kl_value *now = kl_v_spec(c), *old = kl_v_old_spec(c);
    const struct kl_value *is = kl_get(now, KL_F_podCIDRs), *was = kl_get(old, KL_F_podCIDRs);
    const struct kl_value *addresses = kl_path(c->now, KL_F_status, KL_F_addresses);
    struct kl_str id = kl_text(kl_get(old, KL_F_providerID));
    kl_v_meta_update(c);
    check_node_amounts(c);
    check_features(c);
    for (size_t i = 1; i < kl_len(addresses); i++)
        for (size_t k = 0; k < i; k++)
            if (kl_value_equal(kl_at(addresses, i), kl_at(addresses, k))) {
                kl_v_duplicate_text(
                    c, I(F(&c->status, addresses), i),
                    kl_v_json(c, kl_type(KL_TYPE_core_v1_NodeAddress), kl_at(addresses, i), true));
                break;
            }
    if (kl_len(was) && kl_len(was) != kl_len(is))
        kl_v_forbidden(c, F(&c->spec, podCIDRs), why);
    else
        for (size_t i = 0; i < kl_len(was); i++)
            if (!kl_value_equal(kl_at(was, i), kl_at(is, i)))
                kl_v_forbidden(c, F(&c->spec, podCIDRs), why);
    if (id.n && !kl_str_eq(id, kl_text(kl_get(now, KL_F_providerID))))
        kl_v_forbidden(c, F(&c->spec, providerID),
                       "node updates may not change providerID except from \"\" to valid");
    check_taints(c, kl_get(now, KL_F_taints), F(&c->meta, taints));
    if (!kl_value_equal(kl_get(now, KL_F_externalID), kl_get(old, KL_F_externalID)))
        kl_v_forbidden(c, F(&c->spec, externalID), "may not be updated");
}

static void update_node(struct kl_v *c)
{
    create_node(c);
    status_node(c);
}

// ---- events

static void check_event(struct kl_v *c)
{
    static const struct {
        kl_sym field;
        size_t max;
    } texts[] = {{KL_F_reportingInstance, 128},
                 {KL_F_action, 128},
                 {KL_F_reason, 128},
                 {KL_F_message, 1024}};
    struct kl_str ns = kl_meta_namespace(c->now);
    struct kl_str about = kl_text_at(c->now, KL_F_involvedObject, KL_F_namespace);
    struct kl_str who = kl_text(kl_get(c->now, KL_F_reportingComponent));
    const struct kl_vpath *p = F(F(NULL, involvedObject), namespace);
    bool series = kl_get(c->now, KL_F_eventTime) != NULL;
    bool cluster = kl_str_eqz(ns, "default") || (series ? kl_str_eqz(ns, "kube-system") : !ns.n);
    if (about.n ? !series && !kl_str_eq(ns, about) : !cluster)
        kl_v_invalid_str(c, p, about, "does not match event.namespace");
    if (series) {
        if (!who.n)
            kl_v_required(c, F(NULL, reportingComponent), "");
        kl_v_format(c, F(NULL, reportingComponent), who, KL_V_QUALIFIED);
        for (size_t i = 0; i < KL_COUNT(texts); i++) {
            size_t n = kl_text(kl_get(c->now, texts[i].field)).n;
            if (!n && texts[i].field != KL_F_message)
                kl_v_required(c, FS(NULL, texts[i].field), "");
            if (n > texts[i].max)
                kl_v_invalid_str(c, FS(NULL, texts[i].field), KL_STR(""),
                                 kl_v_text(c, "can have at most %zu characters", texts[i].max));
        }
    }
    kl_v_format(c, F(NULL, namespace), ns, KL_V_SUBDOMAIN);
}

// ---- LimitRanges

static void limit_name(struct kl_v *c, struct kl_str type, struct kl_str name,
                       const struct kl_vpath *p)
{
    if (kl_str_eqz(type, "Pod") || kl_str_eqz(type, "Container"))
        kl_v_container_resource_name(c, name, p);
    else
        kl_v_resource_name(c, name, p);
}

static void limit_names(struct kl_v *c, const struct kl_value *limit, kl_sym f,
                        const struct kl_vpath *p)
{
    for (KL_MAP_EACH_KEY(kv, kl_get(limit, f)))
        limit_name(c, kl_text(kl_get(limit, KL_F_type)), kl_text(kv), K(FS(p, f), kl_text(kv)));
}

static void more_than(struct kl_v *c, const struct kl_value *a, const struct kl_value *b,
                      const struct kl_value *shown, const struct kl_vpath *p, const char *format)
{
    if (!a || !b || kl_v_compare(a, b) <= 0)
        return;
    // format has two %s: the greater and the lesser amount.
    const char *cut = strstr(format, "%s"), *last = strstr(cut + 2, "%s");
    kl_v_invalid_str(c, p, kl_text(shown),
                     kl_v_text(c, "%.*s%.*s%.*s%.*s%s", (int)(cut - format), format,
                               KL_PRI(kl_text(a)), (int)(last - cut - 2), cut + 2,
                               KL_PRI(kl_text(b)), last + 2));
}

static void check_ratio(struct kl_v *c, const struct kl_value *ratio, const struct kl_value *min,
                        const struct kl_value *max, const struct kl_vpath *p)
{
    struct kl_quantity q = {0}, lo = {0}, hi = {0};
    if (!ratio)
        return;
    (void)kl_quantity_parse(kl_text(ratio), &q, NULL);
    if (q.nano < 1000000000)
        kl_v_invalid_str(c, p, kl_text(ratio),
                         kl_v_text(c, "ratio %.*s is less than 1", KL_PRI(kl_text(ratio))));
    if (!min || !max)
        return;
    (void)kl_quantity_parse(kl_text(min), &lo, NULL);
    (void)kl_quantity_parse(kl_text(max), &hi, NULL);
    double limit = (double)kl_quantity_milli(&hi) / (double)kl_quantity_milli(&lo);
    if ((double)kl_quantity_milli(&q) / 1000 > limit)
        kl_v_invalid_str(
            c, p, kl_text(ratio),
            kl_v_text(c, "ratio %.*s is greater than max/min = %f", KL_PRI(kl_text(ratio)), limit));
}

static void compare_limits(struct kl_v *c, const struct kl_value *limit, struct kl_str k,
                           const struct kl_vpath *p)
{
    bool pod = kl_v_is(limit, KL_F_type, "Pod");
    const struct kl_value *min = kl_map_value(kl_get(limit, KL_F_min), k);
    const struct kl_value *max = kl_map_value(kl_get(limit, KL_F_max), k);
    const struct kl_value *def = pod ? NULL : kl_map_value(kl_get(limit, KL_F_default), k);
    const struct kl_value *req = pod ? NULL : kl_map_value(kl_get(limit, KL_F_defaultRequest), k);
    const struct kl_vpath *rp = K(F(p, defaultRequest), k), *dp = K(F(p, default), k);
    more_than(c, min, max, min, K(F(p, min), k), "min value %s is greater than max value %s");
    more_than(c, min, req, req, rp, "min value %s is greater than default request value %s");
    more_than(c, req, max, req, rp, "default request value %s is greater than max value %s");
    more_than(c, req, def, req, rp,
              "default request value %s is greater than default limit value %s");
    more_than(c, min, def, min, dp, "min value %s is greater than default value %s");
    more_than(c, def, max, max, dp, "default value %s is greater than max value %s");
    check_ratio(c, kl_map_value(kl_get(limit, KL_F_maxLimitRequestRatio), k), min, max,
                K(F(p, maxLimitRequestRatio), k));
    if (def && req && !kl_v_overcommits(k) && kl_v_compare(def, req))
        kl_v_invalid_str(c, rp, kl_text(req),
                         kl_v_text(c,
                                   "default value %.*s must equal to defaultRequest value %.*s "
                                   "in %.*s",
                                   KL_PRI(kl_text(def)), KL_PRI(kl_text(req)), KL_PRI(k)));
}

static void check_limit(struct kl_v *c, const struct kl_value *limits, size_t i,
                        const struct kl_vpath *p)
{
    static const char *const types[] = {"Container", "PersistentVolumeClaim", "Pod", NULL};
    static const kl_sym maps[] = {KL_F_max, KL_F_min, KL_F_default, KL_F_defaultRequest,
                                  KL_F_maxLimitRequestRatio};
    const struct kl_value *limit = kl_at(limits, i);
    struct kl_str type = kl_text(kl_get(limit, KL_F_type));
    bool pod = kl_str_eqz(type, "Pod");
    if (kl_v_format(c, F(p, type), type, KL_V_QUALIFIED) && kl_str_chr(type, '/') < 0 &&
        !kl_v_in(type, types))
        kl_v_invalid_str(c, F(p, type), type, "must be a standard limit type or fully qualified");
    for (size_t k = 0; k < i; k++)
        if (kl_str_eq(kl_text(kl_get(kl_at(limits, k), KL_F_type)), type)) {
            kl_v_duplicate(c, F(p, type), type);
            break;
        }
    limit_names(c, limit, KL_F_max, p);
    limit_names(c, limit, KL_F_min, p);
    for (size_t k = 2; k < 4; k++) {
        if (!pod)
            limit_names(c, limit, maps[k], p);
        else if (kl_len(kl_get(limit, maps[k])))
            kl_v_forbidden(c, FS(p, maps[k]), "may not be specified when `type` is 'Pod'");
    }
    if (kl_str_eqz(type, "PersistentVolumeClaim") &&
        !kl_map_value(kl_get(limit, KL_F_min), KL_STR("storage")) &&
        !kl_map_value(kl_get(limit, KL_F_max), KL_STR("storage")))
        kl_v_required(c, F(p, limits),
                      "either minimum or maximum storage value is required, but neither was "
                      "provided");
    limit_names(c, limit, KL_F_maxLimitRequestRatio, p);
    for (size_t m = 0; m < KL_COUNT(maps); m++)
        for (KL_MAP_EACH_KEY(kv, kl_get(limit, maps[m]))) {
            bool before = pod && (m == 2 || m == 3);
            for (size_t k = 0; k < m && !before; k++)
                before = !(pod && (k == 2 || k == 3)) &&
                         kl_map_value(kl_get(limit, maps[k]), kl_text(kv)) != NULL;
            if (!before)
                compare_limits(c, limit, kl_text(kv), p);
        }
}

static void create_limit_range(struct kl_v *c)
{
    const struct kl_value *limits = kl_get(kl_v_spec(c), KL_F_limits);
    kl_v_meta(c, KL_V_SUBDOMAIN);
    for (size_t i = 0; i < kl_len(limits); i++)
        check_limit(c, limits, i, I(F(&c->spec, limits), i));
}

// ---- ResourceQuotas

static void check_hard(struct kl_v *c, const struct kl_value *map, const struct kl_vpath *p)
{
    for (KL_MAP_EACH_KEY(kv, map)) {
        kl_v_quota_resource_name(c, kl_text(kv), K(p, kl_text(kv)));
        kl_v_quantity(c, kl_text(kv), kv + 1, K(p, kl_text(kv)));
    }
}

static bool scope_fits(struct kl_str scope, struct kl_str resource)
{
    static const char *const pods[] = {
        "pods",          "cpu",          "memory",          "limits.cpu",
        "limits.memory", "requests.cpu", "requests.memory", NULL};
    static const char *const compute[] = {"Terminating",
                                          "NotTerminating",
                                          "NotBestEffort",
                                          "PriorityClass",
                                          "CrossNamespacePodAffinity",
                                          NULL};
    static const char *const claims[] = {"persistentvolumeclaims", "requests.storage", NULL};
    if (kl_v_in(scope, compute))
        return kl_v_in(resource, pods);
    if (kl_str_eqz(scope, "BestEffort"))
        return kl_str_eqz(resource, "pods");
    return !kl_str_eqz(scope, "VolumeAttributesClass") || kl_v_in(resource, claims);
}

static const char *const scopes[] = {"Terminating",
                                     "NotTerminating",
                                     "BestEffort",
                                     "NotBestEffort",
                                     "PriorityClass",
                                     "VolumeAttributesClass",
                                     "CrossNamespacePodAffinity",
                                     NULL};

static size_t misfits(const struct kl_value *hard, struct kl_str scope)
{
    size_t n = 0;
    for (KL_MAP_EACH_KEY(kv, hard))
        n += kl_v_is_quota_resource(kl_text(kv)) && !scope_fits(scope, kl_text(kv));
    return n;
}

static size_t conflicts(bool (*has)(const struct kl_value *, const char *),
                        const struct kl_value *list)
{
    return (size_t)(has(list, "BestEffort") && has(list, "NotBestEffort")) +
           (size_t)(has(list, "Terminating") && has(list, "NotTerminating"));
}

static bool has_scope(const struct kl_value *list, const char *scope)
{
    for (KL_EACH(x, list))
        if (kl_str_eqz(kl_text(x), scope))
            return true;
    return false;
}

static bool has_scope_name(const struct kl_value *list, const char *scope)
{
    for (KL_EACH(x, list))
        if (kl_v_is(x, KL_F_scopeName, scope))
            return true;
    return false;
}

static void check_scope_requirement(struct kl_v *c, const struct kl_value *r,
                                    const struct kl_value *spec, const struct kl_vpath *p)
{
    static const char *const plain[] = {
        "BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity",
        NULL};
    struct kl_str scope = kl_text(kl_get(r, KL_F_scopeName));
    struct kl_str op = kl_text(kl_get(r, KL_F_operator));
    const struct kl_value *values = kl_get(r, KL_F_values);
    if (!kl_v_in(scope, scopes))
        kl_v_invalid_str(c, F(p, scopeName), scope, "unsupported scope");
    for (size_t n = misfits(kl_get(spec, KL_F_hard), scope); n--;)
        kl_v_invalid_json(c, p, kl_type(KL_TYPE_core_v1_ScopeSelector),
                          kl_get(spec, KL_F_scopeSelector), true,
                          "unsupported scope applied to resource");
    if (kl_v_in(scope, plain) && !kl_str_eqz(op, "Exists"))
        kl_v_invalid_str(c, F(p, operator), op,
                         "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                         "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
                         "ResourceQuotaScopeNotBestEffort or "
                         "ResourceQuotaScopeCrossNamespacePodAffinity");
    if (kl_str_eqz(op, "In") || kl_str_eqz(op, "NotIn")) {
        if (!kl_len(values))
            kl_v_required(c, F(p, values),
                          "must be at least one value when `operator` is 'In' or 'NotIn' for scope "
                          "selector");
    } else if (kl_str_eqz(op, "Exists") || kl_str_eqz(op, "DoesNotExist")) {
        if (kl_len(values))
            kl_v_invalid(c, F(p, values), values,
                         "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope "
                         "selector");
    } else {
        kl_v_invalid_str(c, F(p, operator), op, "not a valid selector operator");
    }
}

static void check_quota(struct kl_v *c)
{
    const struct kl_value *spec = kl_v_spec(c), *list = kl_get(spec, KL_F_scopes);
    const struct kl_value *exprs = kl_path(spec, KL_F_scopeSelector, KL_F_matchExpressions);
    const struct kl_vpath *p = F(&c->spec, scopes);
    const struct kl_vpath *ep = F(F(&c->spec, scopeSelector), matchExpressions);
    check_hard(c, kl_get(spec, KL_F_hard), F(&c->spec, hard));
    for (KL_EACH(s, list)) {
        if (!kl_v_in(kl_text(s), scopes))
            kl_v_invalid(c, p, list, "unsupported scope");
        for (size_t n = misfits(kl_get(spec, KL_F_hard), kl_text(s)); n--;)
            kl_v_invalid(c, p, list, "unsupported scope applied to resource");
    }
    for (size_t n = conflicts(has_scope, list); n--;)
        kl_v_invalid(c, p, list, "conflicting scopes");
    for (KL_EACH(r, exprs))
        check_scope_requirement(c, r, spec, ep);
    for (size_t n = conflicts(has_scope_name, exprs); n--;)
        kl_v_invalid(c, ep, list, "conflicting scopes");
}

static void check_quota_status(struct kl_v *c)
{
    check_hard(c, kl_path(c->now, KL_F_status, KL_F_hard), F(&c->status, hard));
    check_hard(c, kl_path(c->now, KL_F_status, KL_F_used), F(&c->status, used));
}

static void create_quota(struct kl_v *c)
{
    kl_v_meta(c, KL_V_SUBDOMAIN);
    check_quota(c);
    check_quota_status(c);
}

static bool same_set(const struct kl_value *a, const struct kl_value *b)
{
    for (int pass = 0; pass < 2; pass++) {
        for (KL_EACH(x, a)) {
            bool found = false;
            for (KL_EACH(y, b))
                found |= kl_value_equal(x, y);
            if (!found)
                return false;
        }
        const struct kl_value *swap = a;
        a = b;
        b = swap;
    }
    return true;
}

static void update_quota(struct kl_v *c)
{
    const struct kl_value *now = kl_get(kl_v_spec(c), KL_F_scopes);
    kl_v_meta_update(c);
    check_quota(c);
    if (!same_set(now, kl_get(kl_v_old_spec(c), KL_F_scopes)))
        kl_v_invalid(c, F(&c->spec, scopes), now, "field is immutable");
}

static void status_quota(struct kl_v *c)
{
    kl_v_meta_update(c);
    if (!kl_meta_rv(c->now).n)
        kl_v_required(c, F(NULL, resourceVersion), "");
    check_quota_status(c);
}

const struct kl_v_kind kl_v_core[] = {
    {KL_RES_core_v1_configmaps, create_config_map, update_config_map, NULL, NULL, NULL},
    {KL_RES_core_v1_secrets, create_secret, update_secret, NULL, NULL, NULL},
    {KL_RES_core_v1_serviceaccounts, create_plain, update_plain, NULL, NULL, NULL},
    {KL_RES_core_v1_namespaces, create_namespace, update_namespace, status_namespace, "finalize",
     finalize_namespace},
    {KL_RES_core_v1_nodes, create_node, update_node, status_node, NULL, NULL},
    {KL_RES_core_v1_events, check_event, check_event, NULL, NULL, NULL},
    {KL_RES_core_v1_limitranges, create_limit_range, create_limit_range, NULL, NULL, NULL},
    {KL_RES_core_v1_resourcequotas, create_quota, update_quota, status_quota, NULL, NULL},
    {0},
};

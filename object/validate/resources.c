// SPDX-License-Identifier: Apache-2.0
// Names and amounts of compute resources (pkg/apis/core/helper, validateResourceRequirements).
#include "object/validate/pod_int.h"

static const char *const container_names[] = {"cpu", "memory", "ephemeral-storage", NULL};
static const char *const integer_names[] = {"pods",
                                            "resourcequotas",
                                            "services",
                                            "replicationcontrollers",
                                            "secrets",
                                            "configmaps",
                                            "persistentvolumeclaims",
                                            "services.nodeports",
                                            "services.loadbalancers",
                                            NULL};
static const char *const quota_names[] = {"cpu",
                                          "memory",
                                          "ephemeral-storage",
                                          "requests.cpu",
                                          "requests.memory",
                                          "requests.storage",
                                          "requests.ephemeral-storage",
                                          "limits.cpu",
                                          "limits.memory",
                                          "limits.ephemeral-storage",
                                          NULL};

bool kl_v_is_huge(struct kl_str name)
{
    return kl_str_starts(name, KL_STR("hugepages-"));
}

static bool is_huge_quota(struct kl_str name)
{
    return kl_v_is_huge(name) || kl_str_starts(name, KL_STR("requests.hugepages-"));
}

bool kl_v_is_native(struct kl_str name)
{
    static const char prefix[] = "kubernetes.io/";
    if (kl_str_chr(name, '/') < 0)
        return true;
    for (size_t i = 0; i + sizeof prefix - 1 <= name.n; i++)
        if (!memcmp(name.p + i, prefix, sizeof prefix - 1))
            return true;
    return false;
}

bool kl_v_overcommits(struct kl_str name)
{
    return kl_v_is_native(name) && !kl_v_is_huge(name);
}

bool kl_v_is_extended(struct kl_str name)
{
    char text[400] = "requests.";
    struct kl_name_errors e;
    if (kl_v_is_native(name) || kl_str_starts(name, KL_STR("requests.")) ||
        name.n + 9 >= sizeof text)
        return false;
    memcpy(text + 9, name.p, name.n);
    return kl_name_check(KL_NAME_QUALIFIED, (struct kl_str){text, name.n + 9}, &e);
}

bool kl_v_is_quota_resource(struct kl_str name)
{
    return kl_v_in(name, quota_names) || kl_v_in(name, integer_names) || is_huge_quota(name);
}

static bool good_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    if (!kl_v_format(c, p, name, KL_V_QUALIFIED))
        return false;
    if (kl_str_chr(name, '/') >= 0 || kl_v_is_quota_resource(name) || kl_str_eqz(name, "storage"))
        return true;
    kl_v_invalid_str(c, p, name, "must be a standard resource type or fully qualified");
    return false;
}

void kl_v_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    good_name(c, name, p);
}

void kl_v_container_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    good_name(c, name, p);
    if (kl_str_chr(name, '/') < 0) {
        if (!kl_v_in(name, container_names) && !kl_v_is_huge(name))
            kl_v_invalid_str(c, p, name, "must be a standard resource for containers");
    } else if (!kl_v_is_native(name) && !kl_v_is_extended(name)) {
        kl_v_invalid_str(c, p, name, "doesn't follow extended resource name standard");
    }
}

void kl_v_quota_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    good_name(c, name, p);
    if (kl_str_chr(name, '/') < 0 && !kl_v_is_quota_resource(name))
        kl_v_invalid_str(c, p, name, "must be a standard resource for quota");
}

static void pod_resource_name(struct kl_v *c, struct kl_str name, const struct kl_vpath *p)
{
    static const char *const supported[] = {"cpu", "hugepages-", "memory", NULL};
    if (good_name(c, name, p) && !kl_str_eqz(name, "cpu") && !kl_str_eqz(name, "memory") &&
        !kl_v_is_huge(name))
        kl_v_unsupported(c, p, name, supported);
}

static struct kl_quantity parsed(const struct kl_value *v)
{
    struct kl_quantity q = {0};
    if (v)
        (void)kl_quantity_parse(kl_text(v), &q, NULL);
    return q;
}

int kl_v_compare(const struct kl_value *a, const struct kl_value *b)
{
    struct kl_quantity x = parsed(a), y = parsed(b);
    return kl_quantity_cmp(&x, &y);
}

void kl_v_positive_quantity(struct kl_v *c, const struct kl_value *q, const struct kl_vpath *p)
{
    if (parsed(q).nano <= 0)
        kl_v_invalid_str(c, p, kl_text(q), "must be greater than zero");
}

void kl_v_quantity(struct kl_v *c, struct kl_str resource, const struct kl_value *v,
                   const struct kl_vpath *p)
{
    struct kl_quantity q = parsed(v);
    if (q.nano < 0)
        kl_v_invalid_str(c, p, kl_text(v), "must be greater than or equal to 0");
    if ((kl_v_in(resource, integer_names) || kl_v_is_extended(resource)) &&
        kl_quantity_milli(&q) % 1000 != 0)
        kl_v_invalid_str(c, p, kl_text(v), "must be an integer");
}

static void check_huge(struct kl_v *c, struct kl_str name, const struct kl_value *v,
                       const struct kl_vpath *p)
{
    struct kl_quantity size = {0};
    struct kl_quantity q = parsed(v);
    bool good = !kl_quantity_parse(kl_str_from(name, 10), &size, NULL) && size.nano > 0 &&
                kl_quantity_milli(&size) % 1000 == 0 &&
                kl_quantity_value(&q) % kl_quantity_value(&size) == 0;
    if (!good)
        kl_v_invalid_str(c, p, kl_text(v),
                         kl_v_text(c, "%.*s is not positive integer multiple of %.*s",
                                   KL_PRI(kl_text(v)), KL_PRI(name)));
}

static void check_claims(struct kl_v *c, const struct kl_value *claims, const struct kl_value *spec,
                         const struct kl_vpath *p)
{
    for (size_t i = 0; i < kl_len(claims); i++) {
        const struct kl_value *x = kl_at(claims, i);
        struct kl_str name = kl_text(kl_get(x, KL_F_name)), req = kl_text(kl_get(x, KL_F_request));
        bool whole = false, same = false, part = false;
        if (!name.n) {
            kl_v_required(c, I(p, i), "");
            continue;
        }
        for (size_t k = 0; k < i; k++) {
            const struct kl_value *y = kl_at(claims, k);
            struct kl_str r = kl_text(kl_get(y, KL_F_request));
            if (!kl_str_eq(kl_text(kl_get(y, KL_F_name)), name))
                continue;
            whole |= !r.n;
            same |= r.n && kl_str_eq(r, req);
            part |= r.n != 0;
        }
        if (whole) {
            kl_v_duplicate(c, I(p, i), name);
        } else {
            if (req.n)
                kl_v_format(c, F(I(p, i), request), req, KL_V_LABEL);
            if (same)
                kl_v_duplicate(c, I(p, i),
                               kl_str(kl_v_text(c, "%.*s/%.*s", KL_PRI(name), KL_PRI(req))));
            else if (!req.n && part)
                kl_v_duplicate(c, I(p, i), name);
        }
        if (!kl_v_claim_name(spec, name))
            kl_v_claim_missing(c, I(p, i), name, spec);
    }
}

void kl_v_requirements(struct kl_v *c, const struct kl_value *resources,
                       const struct kl_value *spec, bool of_pod, const struct kl_vpath *p)
{
    const struct kl_value *limits = kl_get(resources, KL_F_limits);
    const struct kl_vpath *lp = F(p, limits), *rp = F(p, requests);
    bool compute = false, huge = false;
    void (*check)(struct kl_v *, struct kl_str, const struct kl_vpath *) =
        of_pod ? pod_resource_name : kl_v_container_resource_name;
    for (KL_MAP_EACH_KEY(kv, limits)) {
        struct kl_str name = kl_text(kv);
        check(c, name, K(lp, name));
        kl_v_quantity(c, name, kv + 1, K(lp, name));
        if (kl_v_is_huge(name))
            huge = true, check_huge(c, name, kv + 1, K(lp, name));
        compute |= kl_str_eqz(name, "cpu") || kl_str_eqz(name, "memory");
    }
    for (KL_MAP_EACH_KEY(kv, kl_get(resources, KL_F_requests))) {
        struct kl_str name = kl_text(kv);
        const struct kl_value *limit = kl_map_value(limits, name);
        check(c, name, K(rp, name));
        kl_v_quantity(c, name, kv + 1, K(rp, name));
        int cmp = limit ? kl_v_compare(kv + 1, limit) : 0;
        if (limit && cmp && !kl_v_overcommits(name))
            kl_v_invalid_str(c, rp, kl_text(kv + 1),
                             kl_v_text(c, "must be equal to %.*s limit of %.*s", KL_PRI(name),
                                       KL_PRI(kl_text(limit))));
        else if (limit && cmp > 0)
            kl_v_invalid_str(c, rp, kl_text(kv + 1),
                             kl_v_text(c, "must be less than or equal to %.*s limit of %.*s",
                                       KL_PRI(name), KL_PRI(kl_text(limit))));
        else if (!limit && !kl_v_overcommits(name))
            kl_v_required(c, lp, "Limit must be set for non overcommitable resources");
        if (kl_v_is_huge(name))
            huge = true, check_huge(c, name, kv + 1, K(rp, name));
        compute |= kl_str_eqz(name, "cpu") || kl_str_eqz(name, "memory");
    }
    if (huge && !compute)
        kl_v_forbidden(c, p, "HugePages require cpu or memory");
    check_claims(c, kl_get(resources, KL_F_claims), spec, F(p, claims));
}

// AggregateContainerRequests, of one resource: what runs together, or the greatest init container
// with the sidecars before it.
static struct kl_quantity aggregate(const struct kl_value *spec, kl_sym which, struct kl_str name)
{
    struct kl_quantity sum = {0}, sidecars = {0}, init = {0};
    for (KL_EACH(x, kl_get(spec, KL_F_containers))) {
        struct kl_quantity q = parsed(kl_map_value(kl_path(x, KL_F_resources, which), name));
        kl_quantity_add(&sum, &q);
    }
    for (KL_EACH(x, kl_get(spec, KL_F_initContainers))) {
        struct kl_quantity q = parsed(kl_map_value(kl_path(x, KL_F_resources, which), name));
        if (kl_v_is(x, KL_F_restartPolicy, "Always")) {
            kl_quantity_add(&sum, &q);
            kl_quantity_add(&sidecars, &q);
            q = sidecars;
        } else {
            kl_quantity_add(&q, &sidecars);
        }
        if (kl_quantity_cmp(&q, &init) > 0)
            init = q;
    }
    return kl_quantity_cmp(&init, &sum) > 0 ? init : sum;
}

static bool asked(const struct kl_value *spec, kl_sym which, struct kl_str name)
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(x, kl_get(spec, lists[l])))
            if (kl_map_value(kl_path(x, KL_F_resources, which), name))
                return true;
    return false;
}

static void check_aggregate(struct kl_v *c, const struct kl_value *spec, kl_sym which,
                            const struct kl_vpath *p, const char *what)
{
    for (KL_MAP_EACH_KEY(kv, kl_path(spec, KL_F_resources, which))) {
        struct kl_str name = kl_text(kv);
        if ((which == KL_F_limits && !kl_v_is_huge(name)) || !asked(spec, which, name))
            continue;
        struct kl_quantity sum = aggregate(spec, which, name), has = parsed(kv + 1);
        char text[KL_QUANTITY_TEXT];
        if (kl_quantity_cmp(&sum, &has) <= 0)
            continue;
        kl_quantity_text(&sum, text);
        kl_v_invalid_str(c, K(FS(p, which), name), kl_text(kv + 1),
                         kl_v_text(c,
                                   "must be greater than or equal to aggregate container %s of %s",
                                   what, text));
    }
}

void kl_v_pod_resources(struct kl_v *c, const struct kl_value *spec, const struct kl_vpath *p)
{
    const struct kl_value *r = kl_get(spec, KL_F_resources);
    const struct kl_vpath *at = F(p, resources);
    if (!r)
        return;
    if (kl_str_eqz(kl_text_at(spec, KL_F_os, KL_F_name), "windows")) {
        kl_v_forbidden(c, at, "may not be set for a windows pod");
        return;
    }
    if (kl_get(r, KL_F_claims))
        kl_v_forbidden(c, F(at, claims), "claims may not be set for Resources at pod-level");
    kl_v_requirements(c, r, spec, true, at);
    check_aggregate(c, spec, KL_F_requests, at, "requests");
    check_aggregate(c, spec, KL_F_limits, at, "limits");
    size_t i = 0;
    for (KL_EACH(x, kl_get(spec, KL_F_containers))) {
        for (KL_MAP_EACH_KEY(kv, kl_path(x, KL_F_resources, KL_F_limits))) {
            const struct kl_value *limit = kl_map_value(kl_get(r, KL_F_limits), kl_text(kv));
            if (limit && kl_v_compare(kv + 1, limit) > 0)
                kl_v_invalid_str(c, F(K(I(F(at, containers), i), kl_text(kv)), limits),
                                 kl_text(kv + 1),
                                 kl_v_text(c, "must be less than or equal to pod limits of %.*s",
                                           KL_PRI(kl_text(limit))));
        }
        i++;
    }
}

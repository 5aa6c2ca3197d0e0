// SPDX-License-Identifier: Apache-2.0
// What objects use, resource by resource.
#include "object/names.h"
#include "object/quota/quota_int.h"

#define STORAGE_CLASS ".storageclass.storage.k8s.io/"
#define DEVICE_CLASS ".deviceclass.resource.k8s.io/devices"
enum { ALL_DEVICES = 32 }; // AllocationResultsMaxSize: the worst case of "all"

bool kl_quota_meter_of(struct kl_arena *a, struct kl_str group, struct kl_str plural,
                       struct kl_quota_meter *ret)
{
    static const struct {
        const char *group, *plural;
        uint8_t kind;
        const char *alias;
    } special[] = {
        {"", "pods", KL_QUOTA_PODS, NULL},
        {"", "services", KL_QUOTA_SERVICES, NULL},
        {"", "persistentvolumeclaims", KL_QUOTA_CLAIMS, NULL},
        {"resource.k8s.io", "resourceclaims", KL_QUOTA_DEVICE_CLAIMS, NULL},
        {"", "configmaps", KL_QUOTA_COUNT, "configmaps"},
        {"", "resourcequotas", KL_QUOTA_COUNT, "resourcequotas"},
        {"", "replicationcontrollers", KL_QUOTA_COUNT, "replicationcontrollers"},
        {"", "secrets", KL_QUOTA_COUNT, "secrets"},
    };
    static const struct {
        const char *group, *plural;
    } ignored[] = {
        {"", "events"},
        {"events.k8s.io", "events"},
        {"", "bindings"},
        {"", "componentstatuses"},
        {"authentication.k8s.io", "tokenreviews"},
        {"authentication.k8s.io", "selfsubjectreviews"},
        {"authorization.k8s.io", "subjectaccessreviews"},
        {"authorization.k8s.io", "selfsubjectaccessreviews"},
        {"authorization.k8s.io", "localsubjectaccessreviews"},
        {"authorization.k8s.io", "selfsubjectrulesreviews"},
    };
    for (size_t i = 0; i < KL_COUNT(ignored); i++)
        if (kl_str_eqz(plural, ignored[i].plural) && kl_str_eqz(group, ignored[i].group))
            return false;
    *ret = (struct kl_quota_meter){KL_QUOTA_COUNT, {NULL, 0}, NULL};
    for (size_t i = 0; i < KL_COUNT(special); i++)
        if (kl_str_eqz(plural, special[i].plural) && kl_str_eqz(group, special[i].group)) {
            ret->kind = special[i].kind;
            ret->alias = special[i].alias;
        }
    ret->count_name =
        kl_arena_printf(a, "count/%.*s%s%.*s", KL_PRI(plural), group.n ? "." : "", KL_PRI(group));
    return true;
}

// ---- which names of a quota

static bool contains(struct kl_str s, const char *part)
{
    return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

static bool one_of(struct kl_str s, const char *const *list)
{
    for (; *list; list++)
        if (kl_str_eqz(s, *list))
            return true;
    return false;
}

// IsNativeResource: without a domain or in *kubernetes.io.
static bool native(struct kl_str name)
{
    return kl_str_chr(name, '/') < 0 || contains(name, "kubernetes.io/");
}

static bool pod_name(struct kl_str name)
{
    static const char *const plain[] = {"cpu",
                                        "memory",
                                        "ephemeral-storage",
                                        "requests.cpu",
                                        "requests.memory",
                                        "requests.ephemeral-storage",
                                        "limits.cpu",
                                        "limits.memory",
                                        "limits.ephemeral-storage",
                                        "pods",
                                        NULL};
    if (one_of(name, plain) || kl_str_starts(name, KL_STR("hugepages-")) ||
        kl_str_starts(name, KL_STR("requests.hugepages-")))
        return true;
    if (!kl_str_starts(name, KL_STR("requests.")))
        return false;
    return !native(name) ||
           kl_str_starts(name, KL_STR("requests.deviceclass.resource.kubernetes.io/"));
}

bool kl_quota_measures(const struct kl_quota_meter *m, struct kl_str name)
{
    static const char *const services[] = {"services", "services.nodeports",
                                           "services.loadbalancers", NULL};
    if (kl_str_eq(name, m->count_name) || (m->alias && kl_str_eqz(name, m->alias)))
        return true;
    switch (m->kind) {
    case KL_QUOTA_PODS:
        return pod_name(name);
    case KL_QUOTA_SERVICES:
        return one_of(name, services);
    case KL_QUOTA_CLAIMS:
        return kl_str_eqz(name, "persistentvolumeclaims") || kl_str_eqz(name, "requests.storage") ||
               kl_str_ends(name, KL_STR(STORAGE_CLASS "persistentvolumeclaims")) ||
               kl_str_ends(name, KL_STR(STORAGE_CLASS "requests.storage"));
    case KL_QUOTA_DEVICE_CLAIMS:
        return kl_str_ends(name, KL_STR(DEVICE_CLASS));
    default:
        return false;
    }
}

// ---- pods

bool kl_quota_pod_terminating(const struct kl_value *pod)
{
    return kl_int_at(pod, -1, KL_F_spec, KL_F_activeDeadlineSeconds) >= 0;
}

// QuotaV1Pod: neither over nor overdue.
static bool pod_counts(const struct kl_value *pod, int64_t now_us)
{
    struct kl_str phase = kl_text_at(pod, KL_F_status, KL_F_phase);
    if (kl_str_eqz(phase, "Failed") || kl_str_eqz(phase, "Succeeded"))
        return false;
    const struct kl_value *at = kl_path(pod, KL_F_metadata, KL_F_deletionTimestamp);
    const struct kl_value *grace = kl_path(pod, KL_F_metadata, KL_F_deletionGracePeriodSeconds);
    return !kl_is(at, KL_TIME) || !kl_is(grace, KL_INT) || now_us <= at->i + grace->i * 1000000;
}

// IsDRAExtendedResourceName
static bool extended(struct kl_arena *a, struct kl_str name)
{
    if (kl_str_starts(name, KL_STR("deviceclass.resource.kubernetes.io/")))
        return true;
    if (native(name) || kl_str_starts(name, KL_STR("requests.")))
        return false;
    struct kl_str q = kl_arena_printf(a, "requests.%.*s", KL_PRI(name));
    return q.p && !kl_name_qualified(a, q);
}

static void copy_as(struct kl_amounts *l, const struct kl_amounts *from, const char *name,
                    const char *as)
{
    const struct kl_amount *x = kl_amounts_get(from, kl_str(name));
    if (x)
        kl_amounts_set(l, kl_str(as), &x->q);
}

void kl_quota_pod_names(struct kl_amounts *l, const struct kl_amounts *requests,
                        const struct kl_amounts *limits)
{
    struct kl_arena *a = l->arena;
    kl_amounts_set_int(l, "pods", 1);
    copy_as(l, requests, "cpu", "cpu");
    copy_as(l, requests, "cpu", "requests.cpu");
    copy_as(l, limits, "cpu", "limits.cpu");
    copy_as(l, requests, "memory", "memory");
    copy_as(l, requests, "memory", "requests.memory");
    copy_as(l, limits, "memory", "limits.memory");
    copy_as(l, requests, "ephemeral-storage", "ephemeral-storage");
    copy_as(l, requests, "ephemeral-storage", "requests.ephemeral-storage");
    copy_as(l, limits, "ephemeral-storage", "limits.ephemeral-storage");
    for (size_t i = 0; i < requests->n; i++) {
        struct kl_str name = requests->v[i].name;
        bool huge = kl_str_starts(name, KL_STR("hugepages-"));
        if (huge)
            kl_amounts_set(l, name, &requests->v[i].q);
        if (!huge && !extended(a, name))
            continue;
        struct kl_str q = kl_arena_printf(a, "requests.%.*s", KL_PRI(name));
        if (q.p)
            kl_amounts_set(l, q, &requests->v[i].q);
        else
            l->failed = true;
    }
    l->failed |= requests->failed || limits->failed;
}

static void use_pod(struct kl_amounts *l, const struct kl_value *pod, int64_t now_us)
{
    struct kl_amounts requests, limits;
    if (!pod_counts(pod, now_us))
        return;
    kl_pod_requests(&requests, l->arena, pod, KL_POD_SUM_STATUS);
    kl_pod_limits(&limits, l->arena, pod, KL_POD_SUM_STATUS);
    kl_quota_pod_names(l, &requests, &limits);
}

// ---- services

static void use_service(struct kl_amounts *l, const struct kl_value *service)
{
    const struct kl_value *spec = kl_get(service, KL_F_spec), *ports = kl_get(spec, KL_F_ports);
    const struct kl_value *allocate = kl_get(spec, KL_F_allocateLoadBalancerNodePorts);
    struct kl_str type = kl_text(kl_get(spec, KL_F_type));
    bool balancer = kl_str_eqz(type, "LoadBalancer");
    int64_t nodeports = balancer || kl_str_eqz(type, "NodePort") ? (int64_t)kl_len(ports) : 0;
    if (balancer && kl_is(allocate, KL_BOOL) && !allocate->b) {
        nodeports = 0; // only those that are asked for
        for (KL_EACH(p, ports))
            nodeports += kl_int_or(kl_get(p, KL_F_nodePort), 0) != 0;
    }
    kl_amounts_set_int(l, "services", 1);
    kl_amounts_set_int(l, "services.loadbalancers", balancer);
    kl_amounts_set_int(l, "services.nodeports", nodeports);
}

// ---- PersistentVolumeClaims

static bool read_storage(const struct kl_value *map, struct kl_quantity *ret)
{
    const struct kl_value *v = kl_map_value(map, KL_STR("storage"));
    if (!v || kl_quantity_parse(kl_text(v), ret, NULL))
        return false;
    __int128 rest = ret->nano % 1000000000; // whole bytes
    if (rest > 0)
        ret->nano += 1000000000 - rest;
    else if (rest < 0)
        ret->nano -= 1000000000 + rest;
    return true;
}

static struct kl_str claim_class(const struct kl_value *claim)
{
    const struct kl_value *beta =
        kl_map_value(kl_meta_annotations(claim), KL_STR("volume.beta.kubernetes.io/storage-class"));
    return beta ? kl_text(beta) : kl_text_at(claim, KL_F_spec, KL_F_storageClassName);
}

static void set_joined(struct kl_amounts *l, struct kl_str a, const char *b,
                       const struct kl_quantity *q)
{
    struct kl_str name = kl_arena_printf(l->arena, "%.*s%s", KL_PRI(a), b);
    if (name.p)
        kl_amounts_set(l, name, q);
    else
        l->failed = true;
}

static void use_claim(struct kl_amounts *l, const struct kl_value *claim)
{
    const struct kl_quantity one = {.nano = 1000000000};
    struct kl_quantity asked, got;
    struct kl_str class = claim_class(claim);
    kl_amounts_set_int(l, "persistentvolumeclaims", 1);
    if (class.n)
        set_joined(l, class, STORAGE_CLASS "persistentvolumeclaims", &one);
    if (!read_storage(kl_path(claim, KL_F_spec, KL_F_resources, KL_F_requests), &asked))
        return;
    if (read_storage(kl_path(claim, KL_F_status, KL_F_allocatedResources), &got) &&
        kl_quantity_cmp(&got, &asked) > 0)
        asked = got;
    kl_amounts_set(l, KL_STR("requests.storage"), &asked);
    if (class.n)
        set_joined(l, class, STORAGE_CLASS "requests.storage", &asked);
}

// ---- ResourceClaims

static int64_t devices(const struct kl_value *request)
{
    struct kl_str mode = kl_text(kl_get(request, KL_F_allocationMode));
    if (kl_str_eqz(mode, "ExactCount"))
        return kl_int_or(kl_get(request, KL_F_count), 0);
    return kl_str_eqz(mode, "All") ? ALL_DEVICES : 0;
}

static void use_devices(struct kl_amounts *l, const struct kl_value *claim)
{
    for (KL_EACH(r, kl_path(claim, KL_F_spec, KL_F_devices, KL_F_requests))) {
        const struct kl_value *exactly = kl_get(r, KL_F_exactly);
        struct kl_amounts worst = {.arena = l->arena};
        for (KL_EACH(s, kl_get(r, KL_F_firstAvailable))) {
            struct kl_amounts one = {.arena = l->arena};
            struct kl_quantity q = {.nano = (__int128)devices(s) * 1000000000};
            if (q.nano > 0)
                set_joined(&one, kl_text(kl_get(s, KL_F_deviceClassName)), DEVICE_CLASS, &q);
            kl_amounts_max_all(&worst, &one);
        }
        if (!kl_len(kl_get(r, KL_F_firstAvailable)) && exactly) {
            struct kl_quantity q = {.nano = (__int128)devices(exactly) * 1000000000};
            set_joined(&worst, kl_text(kl_get(exactly, KL_F_deviceClassName)), DEVICE_CLASS, &q);
        }
        kl_amounts_add_all(l, &worst);
    }
}

void kl_quota_usage(struct kl_amounts *l, struct kl_arena *a, const struct kl_quota_meter *m,
                    const struct kl_value *object, int64_t now_us)
{
    const struct kl_quantity one = {.nano = 1000000000};
    *l = (struct kl_amounts){.arena = a};
    kl_amounts_set(l, m->count_name, &one);
    if (m->alias)
        kl_amounts_set(l, kl_str(m->alias), &one);
    switch (m->kind) {
    case KL_QUOTA_PODS:
        use_pod(l, object, now_us);
        break;
    case KL_QUOTA_SERVICES:
        use_service(l, object);
        break;
    case KL_QUOTA_CLAIMS:
        use_claim(l, object);
        break;
    case KL_QUOTA_DEVICE_CLAIMS:
        use_devices(l, object);
        break;
    case KL_QUOTA_COUNT:
        break;
    }
}

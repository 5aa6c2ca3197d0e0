// SPDX-License-Identifier: Apache-2.0
// Pods: QoS class, grace, and the validation that every client relies on.
#include "apiserver/strategy_int.h"
#include "object/names.h"
#include "object/quantity.h"

// qos.ComputePodQOS: over cpu and memory of all containers, init containers included.
static const char *qos_class(const struct kl_value *pod)
{
    static const kl_sym lists[] = {KL_F_initContainers, KL_F_containers};
    static const char *const names[] = {"cpu", "memory"};
    bool any = false, guaranteed = true;
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (KL_EACH(c, kl_path(pod, KL_F_spec, lists[l])))
            for (size_t k = 0; k < KL_COUNT(names); k++) {
                const struct kl_value *req =
                    kl_map_value(kl_path(c, KL_F_resources, KL_F_requests), kl_str(names[k]));
                const struct kl_value *lim =
                    kl_map_value(kl_path(c, KL_F_resources, KL_F_limits), kl_str(names[k]));
                int64_t rq = kl_quantity_milli_of(kl_text(req));
                int64_t lm = kl_quantity_milli_of(kl_text(lim));
                any |= rq > 0 || lm > 0;
                if (lm <= 0 || (rq > 0 && rq != lm))
                    guaranteed = false;
            }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

int kl_pod_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    struct kl_arena *a = r->arena;
    struct kl_value st = kl_new_struct();
    // A negative grace meant "as short as possible" once; it is written as what it does.
    if (kl_int_at(draft, 0, KL_F_spec, KL_F_terminationGracePeriodSeconds) < 0)
        kl_set(a, kl_edit(a, draft, KL_F_spec, KL_STRUCT), KL_F_terminationGracePeriodSeconds,
               kl_int(1));
    kl_set(a, &st, KL_F_phase, kl_stringz("Pending"));
    kl_set(a, &st, KL_F_qosClass, kl_stringz(qos_class(draft)));
    if (kl_len(kl_path(draft, KL_F_spec, KL_F_schedulingGates))) {
        struct kl_value c = kl_new_struct(), list = kl_new_array();
        kl_set(a, &c, KL_F_type, kl_stringz("PodScheduled"));
        kl_set(a, &c, KL_F_status, kl_stringz("False"));
        kl_set(a, &c, KL_F_reason, kl_stringz("SchedulingGated"));
        kl_set(a, &c, KL_F_message,
               kl_stringz("Scheduling is blocked due to non-empty scheduling gates"));
        kl_append(a, &list, c);
        kl_set(a, &st, KL_F_conditions, list);
    }
    return kl_set(a, draft, KL_F_status, st);
}

static const struct kl_value *container_named(const struct kl_value *list, struct kl_str name)
{
    for (KL_EACH(c, list))
        if (kl_str_eq(kl_text(kl_get(c, KL_F_name)), name))
            return c;
    return NULL;
}

// dropNonEphemeralContainerUpdates, dropNonResizeUpdates: these subresources change one thing and
// leave the rest of the pod as it is.
static int take_part(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    struct kl_value sent = *draft;
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    static const kl_sym open[] = {KL_F_resources, KL_F_resizePolicy};
    *draft = *old;
    draft->owned = 0;
    struct kl_value *spec = kl_edit(a, draft, KL_F_spec, KL_STRUCT);
    if (!spec)
        return kl_fail_oom(r), KL_ENOMEM;
    if (kl_str_eqz(r->info.sub, "ephemeralcontainers")) {
        const struct kl_value *v = kl_path(&sent, KL_F_spec, KL_F_ephemeralContainers);
        int rc = v ? kl_set(a, spec, KL_F_ephemeralContainers, *v)
                   : kl_unset(a, spec, KL_F_ephemeralContainers);
        return rc ? (kl_fail_oom(r), rc) : 0;
    }
    for (size_t l = 0; l < KL_COUNT(lists); l++)
        for (size_t i = 0; i < kl_len(kl_get(spec, lists[l])); i++) {
            const struct kl_value *c = kl_at(kl_get(spec, lists[l]), i);
            const struct kl_value *from =
                container_named(kl_path(&sent, KL_F_spec, lists[l]), kl_text(kl_get(c, KL_F_name)));
            for (size_t k = 0; from && k < KL_COUNT(open); k++) {
                const struct kl_value *v = kl_get(from, open[k]);
                struct kl_value *to = kl_edit_at(a, kl_edit(a, spec, lists[l], KL_ARRAY), i);
                if (v ? kl_set(a, to, open[k], *v) : kl_unset(a, to, open[k]))
                    return kl_fail_oom(r), KL_ENOMEM;
            }
        }
    return 0;
}

int kl_pod_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old)
{
    bool part = kl_str_eqz(r->info.sub, "ephemeralcontainers") || kl_str_eqz(r->info.sub, "resize");
    return part ? take_part(r, draft, old) : 0;
}

int64_t kl_pod_grace(struct kl_req *r, const struct kl_value *pod)
{
    int64_t period = r->opts.grace_seconds;
    struct kl_str phase = kl_text_at(pod, KL_F_status, KL_F_phase);
    if (period < 0)
        period = kl_int_at(pod, 0, KL_F_spec, KL_F_terminationGracePeriodSeconds);
    if (!kl_text_at(pod, KL_F_spec, KL_F_nodeName).n || kl_str_eqz(phase, "Succeeded") ||
        kl_str_eqz(phase, "Failed"))
        return 0;
    return period < 0 ? 1 : period;
}

// ---- validation

static struct kl_str join(struct kl_req *r, const char *base, const char *list, size_t i,
                          const char *field)
{
    return kl_arena_printf(r->arena, "%s.%s[%zu]%s%s", base, list, i, *field ? "." : "", field);
}

static void check_enum(struct kl_req *r, const struct kl_value *v, const char *base,
                       const char *field, const char *const *allowed, struct kl_field_errors *e)
{
    struct kl_str s = kl_text(v);
    for (size_t i = 0; allowed[i]; i++)
        if (kl_str_eqz(s, allowed[i]))
            return;
    struct kl_str path = kl_arena_printf(r->arena, "%s.%s", base, field);
    if (!s.n)
        kl_field_required(e, path, "");
    else
        kl_field_unsupported(e, path, s, allowed);
}

static void check_resources(struct kl_req *r, const struct kl_value *c, const char *base,
                            struct kl_field_errors *e)
{
    const struct kl_value *limits = kl_path(c, KL_F_resources, KL_F_limits);
    for (KL_MAP_EACH_KEY(kv, kl_path(c, KL_F_resources, KL_F_requests))) {
        struct kl_quantity q, l;
        const struct kl_value *lim = kl_map_value(limits, kl_text(kv));
        if (kl_quantity_parse(kl_text(kv + 1), &q, NULL))
            continue;
        struct kl_str path =
            kl_arena_printf(r->arena, "%s.resources.requests[%.*s]", base, KL_PRI(kl_text(kv)));
        if (q.nano < 0)
            kl_field_invalid(e, path, kl_text(kv + 1), "must be greater than or equal to 0");
        if (lim && !kl_quantity_parse(kl_text(lim), &l, NULL) && kl_quantity_cmp(&q, &l) > 0)
            kl_field_invalid(
                e, kl_arena_printf(r->arena, "%s.resources.requests", base), kl_text(kv + 1),
                kl_arena_printf(r->arena, "must be less than or equal to %.*s limit of %.*s",
                                KL_PRI(kl_text(kv)), KL_PRI(kl_text(lim)))
                    .p);
    }
}

static bool has_volume(const struct kl_value *spec, struct kl_str name)
{
    for (KL_EACH(v, kl_get(spec, KL_F_volumes)))
        if (kl_str_eq(kl_text(kl_get(v, KL_F_name)), name))
            return true;
    return false;
}

static void check_mounts(struct kl_req *r, const struct kl_value *spec, const struct kl_value *c,
                         const char *base, struct kl_field_errors *e)
{
    size_t i = 0;
    for (KL_EACH(m, kl_get(c, KL_F_volumeMounts))) {
        struct kl_str name = kl_text(kl_get(m, KL_F_name));
        struct kl_str at = kl_text(kl_get(m, KL_F_mountPath));
        if (!name.n)
            kl_field_required(e, join(r, base, "volumeMounts", i, "name"), "");
        else if (!has_volume(spec, name))
            kl_field_error(e, "FieldValueNotFound", join(r, base, "volumeMounts", i, "name"),
                           "Not found: \"%.*s\"", KL_PRI(name));
        if (!at.n)
            kl_field_required(e, join(r, base, "volumeMounts", i, "mountPath"), "");
        size_t k = 0;
        for (KL_EACH(o, kl_get(c, KL_F_volumeMounts))) {
            if (k++ >= i)
                break;
            if (at.n && kl_str_eq(kl_text(kl_get(o, KL_F_mountPath)), at))
                kl_field_error(e, "FieldValueInvalid",
                               join(r, base, "volumeMounts", i, "mountPath"),
                               "Invalid value: \"%.*s\": must be unique", KL_PRI(at));
        }
        i++;
    }
}

static void check_env(struct kl_req *r, const struct kl_value *c, const char *base,
                      struct kl_field_errors *e)
{
    size_t i = 0;
    for (KL_EACH(v, kl_get(c, KL_F_env))) {
        if (!kl_text(kl_get(v, KL_F_name)).n)
            kl_field_required(e, join(r, base, "env", i, "name"), "");
        if (kl_get(v, KL_F_valueFrom) && kl_text(kl_get(v, KL_F_value)).n)
            kl_field_error(e, "FieldValueInvalid", join(r, base, "env", i, "valueFrom"),
                           "Invalid value: \"\": may not be specified when `value` is not empty");
        i++;
    }
}

static void check_ports(struct kl_req *r, const struct kl_value *c, const char *base,
                        struct kl_field_errors *e)
{
    static const char *const protocols[] = {"SCTP", "TCP", "UDP", NULL};
    size_t i = 0;
    for (KL_EACH(p, kl_get(c, KL_F_ports))) {
        int64_t port = kl_int_at(p, 0, KL_F_containerPort);
        if (!port)
            kl_field_required(e, join(r, base, "ports", i, "containerPort"), "");
        else if (port < 1 || port > 65535)
            kl_field_error(e, "FieldValueInvalid", join(r, base, "ports", i, "containerPort"),
                           "Invalid value: %lld: must be between 1 and 65535, inclusive",
                           (long long)port);
        struct kl_str where = join(r, base, "ports", i, "");
        check_enum(r, kl_get(p, KL_F_protocol), where.p, "protocol", protocols, e);
        i++;
    }
}

static void check_container(struct kl_req *r, const struct kl_value *spec, const struct kl_value *c,
                            const char *base, struct kl_field_errors *e)
{
    static const char *const pulls[] = {"Always", "IfNotPresent", "Never", NULL};
    static const char *const messages[] = {"FallbackToLogsOnError", "File", NULL};
    struct kl_str name = kl_text(kl_get(c, KL_F_name)), image = kl_text(kl_get(c, KL_F_image));
    struct kl_str path = kl_arena_printf(r->arena, "%s.name", base);
    if (!name.n)
        kl_field_required(e, path, "");
    else if (kl_name_dns1123_label(name))
        kl_field_invalid(e, path, name, kl_name_dns1123_label(name));
    if (!image.n)
        kl_field_required(e, kl_arena_printf(r->arena, "%s.image", base), "");
    else if (kl_str_trim(image).n != image.n)
        kl_field_invalid(e, kl_arena_printf(r->arena, "%s.image", base), image,
                         "must not have leading or trailing whitespace");
    check_enum(r, kl_get(c, KL_F_imagePullPolicy), base, "imagePullPolicy", pulls, e);
    check_enum(r, kl_get(c, KL_F_terminationMessagePolicy), base, "terminationMessagePolicy",
               messages, e);
    check_resources(r, c, base, e);
    check_mounts(r, spec, c, base, e);
    check_env(r, c, base, e);
    check_ports(r, c, base, e);
}

static void check_containers(struct kl_req *r, const struct kl_value *spec, kl_sym list,
                             const char *base, const char *list_name, struct kl_field_errors *e)
{
    size_t i = 0;
    const struct kl_value *all = kl_get(spec, list);
    for (KL_EACH(c, all)) {
        struct kl_str path = join(r, base, list_name, i, "");
        check_container(r, spec, c, path.p, e);
        for (size_t k = 0; k < i; k++)
            if (kl_str_eq(kl_text(kl_get(kl_at(all, k), KL_F_name)), kl_text(kl_get(c, KL_F_name))))
                kl_field_duplicate(e, join(r, base, list_name, i, "name"),
                                   kl_text(kl_get(c, KL_F_name)));
        i++;
    }
}

static void check_volumes(struct kl_req *r, const struct kl_value *spec, const char *base,
                          struct kl_field_errors *e)
{
    size_t i = 0;
    const struct kl_value *all = kl_get(spec, KL_F_volumes);
    for (KL_EACH(v, all)) {
        struct kl_str name = kl_text(kl_get(v, KL_F_name)),
                      path = join(r, base, "volumes", i, "name");
        if (!name.n)
            kl_field_required(e, path, "");
        else if (kl_name_dns1123_label(name))
            kl_field_invalid(e, path, name, kl_name_dns1123_label(name));
        for (size_t k = 0; k < i; k++)
            if (name.n && kl_str_eq(kl_text(kl_get(kl_at(all, k), KL_F_name)), name))
                kl_field_duplicate(e, path, name);
        if (v->n > 2)
            kl_field_forbidden(e, join(r, base, "volumes", i, ""),
                               "may not specify more than 1 volume type");
        i++;
    }
}

static void validate_spec(struct kl_req *r, const struct kl_value *spec, const char *base,
                          struct kl_field_errors *e)
{
    static const char *const restarts[] = {"Always", "OnFailure", "Never", NULL};
    static const char *const dns[] = {"ClusterFirstWithHostNet", "ClusterFirst", "Default", "None",
                                      NULL};
    if (!kl_len(kl_get(spec, KL_F_containers)))
        kl_field_required(e, kl_arena_printf(r->arena, "%s.containers", base), "");
    check_volumes(r, spec, base, e);
    check_containers(r, spec, KL_F_containers, base, "containers", e);
    check_containers(r, spec, KL_F_initContainers, base, "initContainers", e);
    check_enum(r, kl_get(spec, KL_F_restartPolicy), base, "restartPolicy", restarts, e);
    check_enum(r, kl_get(spec, KL_F_dnsPolicy), base, "dnsPolicy", dns, e);
    const struct kl_value *active = kl_get(spec, KL_F_activeDeadlineSeconds);
    if (active && kl_int_or(active, 0) < 1)
        kl_field_error(e, "FieldValueInvalid",
                       kl_arena_printf(r->arena, "%s.activeDeadlineSeconds", base),
                       "Invalid value: %lld: must be between 1 and 2147483647, inclusive",
                       (long long)kl_int_or(active, 0));
}

void kl_validate_pod_template(struct kl_req *r, const struct kl_value *t, const char *path,
                              struct kl_field_errors *e)
{
    struct kl_str spec = kl_arena_printf(r->arena, "%s.spec", path);
    validate_spec(r, kl_get(t, KL_F_spec), spec.p, e);
}

// Of a running pod's spec only these may change (ValidatePodUpdate).
static bool same_but_mutable(struct kl_req *r, const struct kl_value *now,
                             const struct kl_value *old)
{
    struct kl_arena *a = r->arena;
    struct kl_value x = *now, y = *old;
    static const kl_sym open[] = {KL_F_activeDeadlineSeconds, KL_F_tolerations,
                                  KL_F_schedulingGates, KL_F_terminationGracePeriodSeconds};
    x.owned = y.owned = 0;
    for (size_t i = 0; i < KL_COUNT(open); i++) {
        kl_unset(a, &x, open[i]);
        kl_unset(a, &y, open[i]);
    }
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        size_t n = kl_len(kl_get(&x, lists[l]));
        if (n != kl_len(kl_get(&y, lists[l])))
            return false;
        for (size_t i = 0; i < n; i++) {
            struct kl_value *c = kl_edit_at(a, kl_edit(a, &x, lists[l], KL_ARRAY), i);
            struct kl_value *d = kl_edit_at(a, kl_edit(a, &y, lists[l], KL_ARRAY), i);
            if (!c || !d)
                return false;
            kl_unset(a, c, KL_F_image);
            kl_unset(a, d, KL_F_image);
        }
    }
    return kl_value_equal(&x, &y);
}

// They are only ever added (ValidatePodEphemeralContainersUpdate).
static void validate_ephemeral(struct kl_req *r, const struct kl_value *spec,
                               const struct kl_value *old, struct kl_field_errors *e)
{
    const struct kl_value *list = kl_get(spec, KL_F_ephemeralContainers);
    check_containers(r, spec, KL_F_ephemeralContainers, "spec", "ephemeralContainers", e);
    for (KL_EACH(was, kl_get(old, KL_F_ephemeralContainers))) {
        struct kl_str name = kl_text(kl_get(was, KL_F_name));
        const struct kl_value *now = container_named(list, name);
        if (!now)
            kl_field_error(e, "FieldValueForbidden", KL_STR("spec.ephemeralContainers"),
                           "Forbidden: existing ephemeral containers \"%.*s\" may not be removed\n",
                           KL_PRI(name));
        else if (!kl_value_equal(now, was))
            kl_field_error(e, "FieldValueForbidden", KL_STR("spec.ephemeralContainers"),
                           "Forbidden: existing ephemeral containers \"%.*s\" may not be changed\n",
                           KL_PRI(name));
    }
}

void kl_pod_validate(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                     struct kl_field_errors *e)
{
    const struct kl_value *spec = kl_get(now, KL_F_spec);
    if (kl_str_eqz(r->info.sub, "status") || kl_str_eqz(r->info.sub, "binding"))
        return;
    validate_spec(r, spec, "spec", e);
    if (kl_str_eqz(r->info.sub, "ephemeralcontainers")) {
        validate_ephemeral(r, spec, kl_path(old, KL_F_spec), e);
        return;
    }
    if (old && !e->n && !r->info.sub.n && !same_but_mutable(r, spec, kl_get(old, KL_F_spec)))
        kl_field_forbidden(
            e, KL_STR("spec"),
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
            "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to "
            "be set to 1 if it was previously negative)");
}

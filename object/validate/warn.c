// SPDX-License-Identifier: Apache-2.0
// Which kinds have warnings, and the list that they go to.
#include "object/validate/warn_int.h"
#include <stdarg.h>

static const struct kl_warn_kind *const kinds[KL_RES_BUILTIN_COUNT] = {
    [KL_RES_core_v1_pods] = &kl_warn_pods,
    [KL_RES_core_v1_podtemplates] = &kl_warn_templates,
    [KL_RES_core_v1_replicationcontrollers] = &kl_warn_controllers,
    [KL_RES_core_v1_nodes] = &kl_warn_nodes,
    [KL_RES_core_v1_secrets] = &kl_warn_secrets,
    [KL_RES_core_v1_serviceaccounts] = &kl_warn_accounts,
    [KL_RES_core_v1_persistentvolumes] = &kl_warn_volume,
    [KL_RES_core_v1_persistentvolumeclaims] = &kl_warn_claims,
    [KL_RES_core_v1_services] = &kl_warn_services,
    [KL_RES_core_v1_endpoints] = &kl_warn_endpoints,
    [KL_RES_apps_v1_deployments] = &kl_warn_deployments,
    [KL_RES_apps_v1_replicasets] = &kl_warn_replica_sets,
    [KL_RES_apps_v1_statefulsets] = &kl_warn_stateful_sets,
    [KL_RES_apps_v1_daemonsets] = &kl_warn_daemon_sets,
    [KL_RES_batch_v1_jobs] = &kl_warn_jobs,
    [KL_RES_batch_v1_cronjobs] = &kl_warn_cron_jobs,
    [KL_RES_discovery_v1_endpointslices] = &kl_warn_endpoint_slices,
    [KL_RES_networking_v1_ingresses] = &kl_warn_ingresses,
    [KL_RES_networking_v1_networkpolicies] = &kl_warn_policies,
    [KL_RES_node_v1_runtimeclasses] = &kl_warn_runtime_classes,
    [KL_RES_storage_v1_storageclasses] = &kl_warn_storage_classes,
    [KL_RES_storage_v1_csistoragecapacities] = &kl_warn_capacities,
    [KL_RES_storage_v1_csidrivers] = &kl_warn_csi_drivers,
    [KL_RES_resource_v1_resourceslices] = &kl_warn_device_slices,
    [KL_RES_admissionregistration_v1_validatingwebhookconfigurations] = &kl_warn_static_names,
    [KL_RES_admissionregistration_v1_mutatingwebhookconfigurations] = &kl_warn_static_names,
    [KL_RES_admissionregistration_v1_validatingadmissionpolicies] = &kl_warn_static_names,
    [KL_RES_admissionregistration_v1_validatingadmissionpolicybindings] = &kl_warn_static_names,
    [KL_RES_admissionregistration_v1_mutatingadmissionpolicies] = &kl_warn_static_names,
    [KL_RES_admissionregistration_v1_mutatingadmissionpolicybindings] = &kl_warn_static_names,
};

bool kl_warn_knows(const struct kl_resource *storage)
{
    return !storage->custom && storage->index < KL_COUNT(kinds) && kinds[storage->index];
}

void kl_warn(struct kl_v *c, const struct kl_vpath *p, const char *fmt, ...)
{
    struct kl_warnings *w = c->warnings;
    va_list ap;
    if (kl_warn_full(c))
        return;
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 8;
        struct kl_str *list = kl_arena_alloc(w->arena, cap * sizeof *list);
        if (!list)
            return;
        if (w->n)
            memcpy(list, w->list, w->n * sizeof *list);
        w->list = list;
        w->cap = cap;
    }
    va_start(ap, fmt);
    struct kl_str text = kl_arena_vprintf(w->arena, fmt, ap);
    va_end(ap);
    if (p && text.p) {
        struct kl_str path = kl_v_path_text(w->arena, p);
        text = kl_arena_printf(w->arena, "%.*s: %.*s", KL_PRI(path), KL_PRI(text));
    }
    if (text.p)
        w->list[w->n++] = text;
}

struct begun {
    struct kl_v c;
    struct kl_findings f; // of validation, of which only the arena and the gates are used here
};

static struct kl_v *begin(struct begun *b, struct kl_warnings *w, const struct kl_resource *storage,
                          const struct kl_value *now, const struct kl_value *old)
{
    b->f = (struct kl_findings){.arena = w->arena, .gates = w->gates};
    b->c = (struct kl_v){.f = &b->f, .warnings = w, .res = storage, .now = now, .old = old};
    b->c.meta = (struct kl_vpath){.sym = KL_F_metadata};
    b->c.spec = (struct kl_vpath){.sym = KL_F_spec};
    b->c.status = (struct kl_vpath){.sym = KL_F_status};
    return &b->c;
}

void kl_warn_create(struct kl_warnings *w, const struct kl_resource *storage,
                    const struct kl_value *now)
{
    struct begun b;
    if (!kl_warn_knows(storage))
        return;
    const struct kl_warn_kind *k = kinds[storage->index];
    (k->create ? k->create : k->both)(begin(&b, w, storage, now, NULL));
}

void kl_warn_update(struct kl_warnings *w, const struct kl_resource *storage,
                    struct kl_str subresource, const struct kl_value *now,
                    const struct kl_value *old, bool bumped)
{
    struct begun b;
    if (!kl_warn_knows(storage))
        return;
    const struct kl_warn_kind *k = kinds[storage->index];
    struct kl_v *c = begin(&b, w, storage, now, old);
    if (!subresource.n && k->update)
        k->update(c, bumped);
    else if (!subresource.n && k->both)
        k->both(c);
    else if (k->status && kl_str_eqz(subresource, "status"))
        k->status(c);
}

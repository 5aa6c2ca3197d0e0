// SPDX-License-Identifier: Apache-2.0
// Which kinds have rules, and the two orders in which a registry asks for them.
#include "object/validate/validate_int.h"

static const struct kl_v_kind *const lists[] = {
    kl_v_pods,         kl_v_services, kl_v_core,     kl_v_volume_kinds,  kl_v_workloads,
    kl_v_jobs,         kl_v_cluster,  kl_v_network,  kl_v_storage,       kl_v_flowcontrol,
    kl_v_certificates, kl_v_trust,    kl_v_devices,  kl_v_device_claims, kl_v_device_slices,
    kl_v_machinery,    kl_v_webhooks, kl_v_policies, kl_v_scheduling,    kl_v_pools,
};

const struct kl_v_kind *kl_v_kind_of(const struct kl_resource *storage)
{
    for (size_t i = 0; i < KL_COUNT(lists); i++)
        for (const struct kl_v_kind *k = lists[i]; k->create; k++)
            if (k->res == storage->index)
                return k;
    return NULL;
}

bool kl_validate_knows(const struct kl_resource *storage)
{
    return kl_v_kind_of(storage) != NULL;
}

static void begin(struct kl_v *c, struct kl_findings *f, const struct kl_resource *storage,
                  const struct kl_value *now, const struct kl_value *old)
{
    *c = (struct kl_v){.f = f, .res = storage, .now = now, .old = old};
    c->meta = (struct kl_vpath){.sym = KL_F_metadata};
    c->spec = (struct kl_vpath){.sym = KL_F_spec};
    c->status = (struct kl_vpath){.sym = KL_F_status};
}

void kl_validate_create(struct kl_findings *f, const struct kl_resource *storage,
                        const struct kl_value *now)
{
    const struct kl_v_kind *k = kl_v_kind_of(storage);
    struct kl_v c;
    begin(&c, f, storage, now, NULL);
    if (k)
        k->create(&c);
    if (!f->n)
        kl_v_meta_plain(&c, KL_V_PATH_SEGMENT);
}

void kl_validate_update(struct kl_findings *f, const struct kl_resource *storage,
                        struct kl_str subresource, const struct kl_value *now,
                        const struct kl_value *old)
{
    const struct kl_v_kind *k = kl_v_kind_of(storage);
    struct kl_v c;
    begin(&c, f, storage, now, old);
    kl_v_meta_plain(&c, KL_V_PATH_SEGMENT);
    kl_v_meta_update_plain(&c);
    void (*rules)(struct kl_v *) = NULL;
    if (k && !subresource.n)
        rules = k->update;
    else if (k && kl_str_eqz(subresource, "status"))
        rules = k->status;
    for (const struct kl_v_kind *o = k; o && !rules && o->create && o->res == k->res; o++)
        if (o->other && kl_str_eqz(subresource, o->other))
            rules = o->sub;
    if (rules)
        rules(&c);
}

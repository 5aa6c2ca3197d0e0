// SPDX-License-Identifier: Apache-2.0
// What is seen as a whole: groups of pods, pools of devices, the storage versions of all servers.
#include "object/table_int.h"

static const struct kl_value *conditions_of(const struct kl_row *r)
{
    return kl_path(r->root, KL_F_status, KL_F_conditions);
}

void kl_print_pod_group(struct kl_row *r)
{
    const struct kl_value *spec = kl_get(r->root, KL_F_spec);
    const struct kl_value *scheduled = kl_condition_last(conditions_of(r), "PodGroupScheduled");
    const struct kl_value *disrupted = kl_condition_last(conditions_of(r), "DisruptionTarget");
    const struct kl_value *from = kl_get(spec, KL_F_podGroupTemplateRef);
    kl_cell_name(r);
    kl_cell(r, kl_path(spec, KL_F_schedulingPolicy, KL_F_gang) ? KL_STR("Gang") : KL_STR("Basic"));
    kl_cell(r, from ? kl_text_at(from, KL_F_workload, KL_F_workloadName) : KL_STR("<none>"));
    kl_cell(r, disrupted                         ? kl_text(kl_get(disrupted, KL_F_reason))
               : !scheduled                      ? KL_STR("Pending")
               : kl_condition_is_true(scheduled) ? KL_STR("Scheduled")
                                                 : KL_STR("Unschedulable"));
    kl_cell_age(r);
}

// The first of the two conditions that ends a request.
static const struct kl_value *end_of(const struct kl_row *r, bool *ret_failed)
{
    for (KL_EACH(c, conditions_of(r))) {
        bool complete = kl_text_is(kl_get(c, KL_F_type), "Complete");
        *ret_failed = kl_text_is(kl_get(c, KL_F_type), "Failed");
        if (kl_condition_is_true(c) && (complete || *ret_failed))
            return c;
    }
    *ret_failed = false;
    return NULL;
}

void kl_print_pool_status(struct kl_row *r)
{
    static const kl_sym counts[] = {KL_F_totalDevices, KL_F_availableDevices, KL_F_allocatedDevices,
                                    KL_F_unavailableDevices};
    const struct kl_value *status = kl_get(r->root, KL_F_status);
    const struct kl_value *pools = kl_get(status, KL_F_pools);
    int64_t npools = kl_int_or(kl_get(status, KL_F_poolCount), 0), errors = 0;
    bool failed;
    const struct kl_value *end = end_of(r, &failed);
    for (KL_EACH(p, pools))
        errors += kl_get(p, KL_F_validationError) != NULL;
    kl_cell_name(r);
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_driver));
    for (size_t i = 0; i <= KL_COUNT(counts); i++) {
        uint32_t sum = (uint32_t)errors; // an int32 that wraps in Go
        if (i < KL_COUNT(counts)) {
            sum = 0;
            for (KL_EACH(p, pools))
                sum += (uint32_t)kl_int_or(kl_get(p, counts[i]), 0);
        }
        kl_cell_begin(r);
        if (status && !failed)
            kl_cell_put_int(r, (int32_t)sum);
        else
            kl_cell_puts(r, "-");
        kl_cell_end(r);
    }
    kl_cell_int(r, npools);
    kl_cell_begin(r);
    kl_cell_put(r, failed ? KL_STR("Failed") : end ? KL_STR("Complete") : KL_STR("Pending"));
    if (end && !failed && npools > (int64_t)kl_len(pools)) {
        kl_cell_puts(r, " (");
        kl_cell_put_int(r, (int64_t)kl_len(pools));
        kl_cell_puts(r, "/");
        kl_cell_put_int(r, npools);
        kl_cell_puts(r, " pools)");
    }
    kl_cell_end(r);
    if (end && !failed)
        kl_cell_since(r, kl_get(end, KL_F_lastTransitionTime));
    else
        kl_cell(r, KL_STR("<none>"));
}

void kl_print_storage_version(struct kl_row *r)
{
    const struct kl_value *status = kl_get(r->root, KL_F_status);
    struct kl_short_list list = {0};
    kl_cell_name(r);
    kl_cell_or(r, kl_get(status, KL_F_commonEncodingVersion), "<unset>");
    kl_cell_begin(r);
    for (KL_EACH(v, kl_get(status, KL_F_storageVersions)))
        if (kl_short_list_add(r, &list)) {
            kl_cell_put(r, kl_text(kl_get(v, KL_F_apiServerID)));
            kl_cell_puts(r, "=");
            kl_cell_put(r, kl_text(kl_get(v, KL_F_encodingVersion)));
        }
    kl_short_list_end(r, &list, "<unset>");
    kl_cell_age(r);
}

// SPDX-License-Identifier: Apache-2.0
// Nodes, namespaces, events and the plain objects of the core group.
#include "object/table_int.h"
#include <stdlib.h>

// ---- nodes

enum { MAX_ROLES = 64 }; // roles of one node that are sorted and shown

static int compare_strs(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

static void node_roles(struct kl_row *r)
{
    static const struct kl_str prefix = KL_STR_INIT("node-role.kubernetes.io/");
    const struct kl_value *labels = kl_meta_labels(r->root);
    struct kl_str roles[MAX_ROLES];
    size_t n = 0;
    for (KL_MAP_EACH_KEY(key, labels)) {
        struct kl_str role = KL_STR("");
        if (kl_str_starts(kl_text(key), prefix))
            role = kl_str_from(kl_text(key), prefix.n);
        else if (kl_text_is(key, "kubernetes.io/role"))
            role = kl_text(key + 1);
        if (role.n && n < MAX_ROLES)
            roles[n++] = role;
    }
    qsort(roles, n, sizeof(roles[0]), compare_strs);
    kl_cell_begin(r);
    if (!n)
        kl_cell_puts(r, "<none>");
    for (size_t i = 0; i < n; i++) {
        if (i && kl_str_eq(roles[i], roles[i - 1]))
            continue;
        if (i)
            kl_cell_puts(r, ",");
        kl_cell_put(r, roles[i]);
    }
    kl_cell_end(r);
}

static void node_address(struct kl_row *r, const char *type)
{
    const struct kl_value *found =
        kl_condition(kl_path(r->root, KL_F_status, KL_F_addresses), type);
    kl_cell(r, found ? kl_text(kl_get(found, KL_F_address)) : KL_STR("<none>"));
}

void kl_print_node(struct kl_row *r)
{
    const struct kl_value *ready =
        kl_condition_last(kl_path(r->root, KL_F_status, KL_F_conditions), "Ready");
    const struct kl_value *info = kl_path(r->root, KL_F_status, KL_F_nodeInfo);
    const struct kl_value *kernel = kl_get(info, KL_F_kernelVersion);
    struct kl_str arch = kl_text(kl_get(info, KL_F_architecture));
    kl_cell_name(r);
    kl_cell_begin(r);
    kl_cell_put(r, !ready                        ? KL_STR("Unknown")
                   : kl_condition_is_true(ready) ? KL_STR("Ready")
                                                 : KL_STR("NotReady"));
    if (kl_true_at(r->root, KL_F_spec, KL_F_unschedulable))
        kl_cell_puts(r, ",SchedulingDisabled");
    kl_cell_end(r);
    node_roles(r);
    kl_cell_age(r);
    kl_cell(r, kl_text(kl_get(info, KL_F_kubeletVersion)));
    node_address(r, "InternalIP");
    node_address(r, "ExternalIP");
    kl_cell_nonempty(r, kl_get(info, KL_F_osImage), "<unknown>");
    kl_cell_begin(r);
    kl_cell_put(r, kl_text(kernel).n ? kl_text(kernel) : KL_STR("<unknown>"));
    if (arch.n) {
        kl_cell_puts(r, " (");
        kl_cell_put(r, arch);
        kl_cell_puts(r, ")");
    }
    kl_cell_end(r);
    kl_cell_nonempty(r, kl_get(info, KL_F_containerRuntimeVersion), "<unknown>");
}

// ---- events, in either version

static const struct kl_value *either(const struct kl_value *v, kl_sym a, kl_sym b)
{
    const struct kl_value *found = kl_get(v, a);
    return found ? found : kl_get(v, b);
}

static void event_object(struct kl_row *r, const struct kl_value *object)
{
    struct kl_str name = kl_text(kl_get(object, KL_F_name));
    kl_cell_begin(r);
    kl_cell_put_lower(r, kl_text(kl_get(object, KL_F_kind)));
    if (name.n) {
        kl_cell_puts(r, "/");
        kl_cell_put(r, name);
    }
    kl_cell_end(r);
}

static void event_source(struct kl_row *r)
{
    const struct kl_value *source = either(r->root, KL_F_source, KL_F_deprecatedSource);
    struct kl_str component = kl_text(kl_get(source, KL_F_component));
    struct kl_str instance = kl_text(kl_get(source, KL_F_host));
    if (component.n == 0)
        component = kl_text(either(r->root, KL_F_reportingComponent, KL_F_reportingController));
    if (instance.n == 0)
        instance = kl_text(kl_get(r->root, KL_F_reportingInstance));
    kl_cell_begin(r);
    kl_cell_put(r, component);
    if (instance.n) {
        kl_cell_puts(r, ", ");
        kl_cell_put(r, instance);
    }
    kl_cell_end(r);
}

void kl_print_event(struct kl_row *r)
{
    const struct kl_value *root = r->root;
    const struct kl_value *object = either(root, KL_F_involvedObject, KL_F_regarding);
    const struct kl_value *series = kl_get(root, KL_F_series);
    const struct kl_value *first = either(root, KL_F_firstTimestamp, KL_F_deprecatedFirstTimestamp);
    const struct kl_value *last = either(root, KL_F_lastTimestamp, KL_F_deprecatedLastTimestamp);
    int64_t count = kl_int_or(either(root, KL_F_count, KL_F_deprecatedCount), 0);
    if (!first)
        first = kl_get(root, KL_F_eventTime);
    if (!last)
        last = first;
    if (series) {
        last = kl_get(series, KL_F_lastObservedTime);
        count = kl_int_or(kl_get(series, KL_F_count), 0);
    } else if (count == 0) {
        count = 1;
    }
    kl_cell_since(r, last);
    kl_cell(r, kl_text(kl_get(root, KL_F_type)));
    kl_cell(r, kl_text(kl_get(root, KL_F_reason)));
    event_object(r, object);
    kl_cell(r, kl_text(kl_get(object, KL_F_fieldPath)));
    event_source(r);
    kl_cell(r, kl_str_trim(kl_text(either(root, KL_F_message, KL_F_note))));
    kl_cell_since(r, first);
    kl_cell_int(r, count);
    kl_cell_name(r);
}

// ---- plain objects

void kl_print_namespace(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text_at(r->root, KL_F_status, KL_F_phase));
    kl_cell_age(r);
}

void kl_print_secret(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_type)));
    kl_cell_int(r, (int64_t)kl_len(kl_get(r->root, KL_F_data)));
    kl_cell_age(r);
}

void kl_print_config_map(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, (int64_t)(kl_len(kl_get(r->root, KL_F_data)) +
                             kl_len(kl_get(r->root, KL_F_binaryData))));
    kl_cell_age(r);
}

// "name: used/hard" of the names that start with "limits." or of the others.
static void quota_column(struct kl_row *r, bool limits)
{
    const struct kl_value *hard = kl_path(r->root, KL_F_status, KL_F_hard);
    const struct kl_value *used = kl_path(r->root, KL_F_status, KL_F_used);
    bool first = true;
    kl_cell_begin(r);
    for (KL_MAP_EACH_KEY(key, hard)) {
        struct kl_str name = kl_text(key), in_use = kl_text(kl_map_value(used, name));
        if (kl_str_starts(name, KL_STR("limits.")) != limits)
            continue;
        kl_cell_put(r, first ? KL_STR("") : KL_STR(", "));
        first = false;
        kl_cell_put(r, name);
        kl_cell_puts(r, ": ");
        kl_cell_put(r, in_use.n ? in_use : KL_STR("0"));
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(key + 1));
    }
    kl_cell_end(r);
}

void kl_print_quota(struct kl_row *r)
{
    kl_cell_name(r);
    quota_column(r, false);
    quota_column(r, true);
    kl_cell_age(r);
}

void kl_print_component_status(struct kl_row *r)
{
    const struct kl_value *healthy = kl_condition(kl_get(r->root, KL_F_conditions), "Healthy");
    kl_cell_name(r);
    kl_cell(r, !healthy                        ? KL_STR("Unknown")
               : kl_condition_is_true(healthy) ? KL_STR("Healthy")
                                               : KL_STR("Unhealthy"));
    kl_cell(r, kl_text(kl_get(healthy, KL_F_message)));
    kl_cell(r, kl_text(kl_get(healthy, KL_F_error)));
}

void kl_print_lease(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_holderIdentity));
    kl_cell_age(r);
}

void kl_print_lease_candidate(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_leaseName));
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_binaryVersion));
    kl_cell(r, kl_text_at(r->root, KL_F_spec, KL_F_emulationVersion));
    kl_cell_age(r);
}

void kl_print_priority_class(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_int(r, kl_int_or(kl_get(r->root, KL_F_value), 0));
    kl_cell_bool(r, kl_is_true(kl_get(r->root, KL_F_globalDefault)));
    kl_cell_age(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_preemptionPolicy)));
}

void kl_print_runtime_class(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell(r, kl_text(kl_get(r->root, KL_F_handler)));
    kl_cell_age(r);
}

void kl_print_api_service(struct kl_row *r)
{
    const struct kl_value *service = kl_path(r->root, KL_F_spec, KL_F_service);
    const struct kl_value *available =
        kl_condition(kl_path(r->root, KL_F_status, KL_F_conditions), "Available");
    kl_cell_name(r);
    kl_cell_begin(r);
    if (!service) {
        kl_cell_puts(r, "Local");
    } else {
        kl_cell_put(r, kl_text(kl_get(service, KL_F_namespace)));
        kl_cell_puts(r, "/");
        kl_cell_put(r, kl_text(kl_get(service, KL_F_name)));
    }
    kl_cell_end(r);
    kl_cell_begin(r);
    if (!available) {
        kl_cell_puts(r, "Unknown");
    } else {
        kl_cell_put(r, kl_text(kl_get(available, KL_F_status)));
        if (!kl_condition_is_true(available)) {
            kl_cell_puts(r, " (");
            kl_cell_put(r, kl_text(kl_get(available, KL_F_reason)));
            kl_cell_puts(r, ")");
        }
    }
    kl_cell_end(r);
    kl_cell_age(r);
}

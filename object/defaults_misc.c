// SPDX-License-Identifier: Apache-2.0
// The smaller groups.
#include "object/defaults_int.h"
#include "base/clock.h"

static const char rbac_group[] = "rbac.authorization.k8s.io";

// ---- networking, discovery

void kl_default_policy_port(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_protocol, kl_stringz("TCP"));
}

void kl_default_network_policy(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_value types = kl_new_array();
    if (kl_len(kl_get(spec.v, KL_F_policyTypes)))
        return;
    int r = kl_append(n->ctx->arena, &types, kl_stringz("Ingress"));
    if (!r && kl_len(kl_get(spec.v, KL_F_egress)))
        r = kl_append(n->ctx->arena, &types, kl_stringz("Egress"));
    if (r)
        n->ctx->err = r;
    else
        kl_default_set(&spec, KL_F_policyTypes, types);
}

void kl_default_class_parameters(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_scope, kl_stringz("Cluster"));
}

void kl_default_slice_port(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_name, kl_stringz(""));
    kl_default_ptr(n, KL_F_protocol, kl_stringz("TCP"));
}

// ---- rbac

void kl_default_role_binding(struct kl_default_node *n)
{
    struct kl_default_node role = kl_default_in(n, KL_F_roleRef, KL_STRUCT);
    kl_default_string(&role, KL_F_apiGroup, rbac_group);
}

void kl_default_subject(struct kl_default_node *n)
{
    if (kl_default_is(n, KL_F_kind, "User") || kl_default_is(n, KL_F_kind, "Group"))
        kl_default_string(n, KL_F_apiGroup, rbac_group);
}

// ---- storage, scheduling

void kl_default_storage_class(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_reclaimPolicy, kl_stringz("Delete"));
    kl_default_ptr(n, KL_F_volumeBindingMode, kl_stringz("Immediate"));
}

void kl_default_csi_driver(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    kl_default_ptr(&spec, KL_F_attachRequired, kl_bool(true));
    kl_default_ptr(&spec, KL_F_podInfoOnMount, kl_bool(false));
    kl_default_ptr(&spec, KL_F_storageCapacity, kl_bool(false));
    kl_default_ptr(&spec, KL_F_fsGroupPolicy, kl_stringz("ReadWriteOnceWithFSType"));
    if (kl_len(kl_get(spec.v, KL_F_volumeLifecycleModes)) == 0) {
        struct kl_value modes = kl_new_array();
        if (kl_append(n->ctx->arena, &modes, kl_stringz("Persistent")))
            n->ctx->err = KL_ENOMEM;
        kl_default_set(&spec, KL_F_volumeLifecycleModes, modes);
    }
    kl_default_ptr(&spec, KL_F_requiresRepublish, kl_bool(false));
    kl_default_ptr(&spec, KL_F_seLinuxMount, kl_bool(false));
}

void kl_default_priority_class(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_preemptionPolicy, kl_stringz("PreemptLowerPriority"));
}

// ---- admission

static void match_all(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_matchPolicy, kl_stringz("Equivalent"));
    kl_default_ptr(n, KL_F_namespaceSelector, kl_new_struct());
    kl_default_ptr(n, KL_F_objectSelector, kl_new_struct());
}

void kl_default_failure_policy(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_failurePolicy, kl_stringz("Fail"));
}

// In v1alpha1 only; the later versions want it to be said.
void kl_default_param_ref(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_parameterNotFoundAction, kl_stringz("Deny"));
}

void kl_default_validating_webhook(struct kl_default_node *n)
{
    kl_default_failure_policy(n);
    match_all(n);
    kl_default_ptr(n, KL_F_timeoutSeconds, kl_int(10));
}

void kl_default_mutating_webhook(struct kl_default_node *n)
{
    kl_default_validating_webhook(n);
    kl_default_ptr(n, KL_F_reinvocationPolicy, kl_stringz("Never"));
}

void kl_default_match_resources(struct kl_default_node *n)
{
    match_all(n);
}

void kl_default_rule(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_scope, kl_stringz("*"));
}

void kl_default_service_port(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_port, kl_int(443));
}

// ---- flow control

void kl_default_flow_schema(struct kl_default_node *n)
{
    kl_default_number(n, KL_F_matchingPrecedence, 1000);
}

void kl_default_exempt_level(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_nominalConcurrencyShares, kl_int(0));
    kl_default_ptr(n, KL_F_lendablePercent, kl_int(0));
}

void kl_default_limited_level(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_nominalConcurrencyShares, kl_int(30));
    kl_default_ptr(n, KL_F_lendablePercent, kl_int(0));
}

void kl_default_queuing(struct kl_default_node *n)
{
    kl_default_number(n, KL_F_handSize, 8);
    kl_default_number(n, KL_F_queues, 64);
    kl_default_number(n, KL_F_queueLengthLimit, 50);
}

// ---- devices

void kl_default_device_request(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_allocationMode, "ExactCount");
    if (kl_default_is(n, KL_F_allocationMode, "ExactCount"))
        kl_default_number(n, KL_F_count, 1);
}

// Without a class the request is a list of alternatives, which have these fields themselves.
void kl_default_device_request_v1beta1(struct kl_default_node *n)
{
    if (kl_default_text(n, KL_F_deviceClassName).n)
        kl_default_device_request(n);
}

void kl_default_device_taint(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_timeAdded, kl_time(kl_wall_ms() / 1000 * 1000000));
}

void kl_default_multiplier(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_allocationMultiplier, kl_stringz("1"));
}

// ---- custom resource definitions

static void definition_names(struct kl_default_node *spec)
{
    struct kl_default_node names = kl_default_in(spec, KL_F_names, KL_STRUCT);
    struct kl_str kind = kl_default_text(&names, KL_F_kind);
    if (kind.n == 0)
        return;
    if (kl_default_text(&names, KL_F_singular).n == 0) {
        char *lower = kl_arena_alloc(spec->ctx->arena, kind.n);
        if (!lower) {
            spec->ctx->err = KL_ENOMEM;
            return;
        }
        for (size_t i = 0; i < kind.n; i++)
            lower[i] = kind.p[i] >= 'A' && kind.p[i] <= 'Z' ? (char)(kind.p[i] + 32) : kind.p[i];
        kl_default_set(&names, KL_F_singular, kl_string((struct kl_str){lower, kind.n}));
    }
    if (kl_default_text(&names, KL_F_listKind).n == 0) {
        struct kl_str list = kl_arena_printf(spec->ctx->arena, "%.*sList", KL_PRI(kind));
        if (list.p)
            kl_default_set(&names, KL_F_listKind, kl_string(list));
        else
            spec->ctx->err = KL_ENOMEM;
    }
}

void kl_default_definition(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node status = kl_default_in(n, KL_F_status, KL_STRUCT);
    definition_names(&spec);
    if (!kl_default_has(&spec, KL_F_conversion)) {
        struct kl_default_node conversion = kl_default_in(&spec, KL_F_conversion, KL_STRUCT);
        kl_default_set(&conversion, KL_F_strategy, kl_stringz("None"));
    }
    if (kl_len(kl_get(status.v, KL_F_storedVersions)))
        return;
    for (KL_EACH(version, kl_get(spec.v, KL_F_versions))) {
        if (!kl_is_true(kl_get(version, KL_F_storage)))
            continue;
        struct kl_value stored = kl_new_array();
        struct kl_value name = kl_string(kl_text(kl_get(version, KL_F_name)));
        if (kl_append(n->ctx->arena, &stored, name))
            n->ctx->err = KL_ENOMEM;
        kl_default_set(&status, KL_F_storedVersions, stored);
        break;
    }
}

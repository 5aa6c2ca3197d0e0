// SPDX-License-Identifier: Apache-2.0
// The core group, but pods.
#include "object/defaults_int.h"

void kl_default_replication_controller(struct kl_default_node *n)
{
    const struct kl_value *labels =
        kl_path(n->v, KL_F_spec, KL_F_template, KL_F_metadata, KL_F_labels);
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node meta = kl_default_in(n, KL_F_metadata, KL_STRUCT);
    if (!labels)
        return;
    struct kl_value shared = *labels;
    if (kl_len(kl_get(spec.v, KL_F_selector)) == 0)
        kl_default_set(&spec, KL_F_selector, shared);
    if (kl_len(kl_get(meta.v, KL_F_labels)) == 0)
        kl_default_set(&meta, KL_F_labels, shared);
}

// ---- services

static void service_affinity(struct kl_default_node *spec)
{
    kl_default_string(spec, KL_F_sessionAffinity, "None");
    if (kl_default_is(spec, KL_F_sessionAffinity, "None"))
        kl_default_unset(spec, KL_F_sessionAffinityConfig);
    if (!kl_default_is(spec, KL_F_sessionAffinity, "ClientIP") ||
        kl_path(spec->v, KL_F_sessionAffinityConfig, KL_F_clientIP, KL_F_timeoutSeconds))
        return;
    struct kl_default_node config = kl_default_in(spec, KL_F_sessionAffinityConfig, KL_STRUCT);
    struct kl_default_node client = kl_default_in(&config, KL_F_clientIP, KL_STRUCT);
    kl_default_set(&client, KL_F_timeoutSeconds, kl_int(10800));
}

static void service_ports(struct kl_default_node *spec)
{
    struct kl_default_node ports = kl_default_in(spec, KL_F_ports, KL_ARRAY);
    for (size_t i = 0; i < kl_len(ports.v); i++) {
        struct kl_default_node port = kl_default_at(&ports, i);
        kl_default_string(&port, KL_F_protocol, "TCP");
        const struct kl_value *target = kl_get(port.v, KL_F_targetPort);
        int64_t number = kl_int_or(kl_get(port.v, KL_F_port), 0);
        bool unset = !target || (target->kind == KL_INT && target->i == 0) ||
                     (target->kind == KL_STRING && target->n == 0);
        if (unset && (number || kl_is(target, KL_STRING)))
            kl_default_set(&port, KL_F_targetPort, kl_int(number));
    }
}

static void service_balancer(struct kl_default_node *n, struct kl_default_node *spec)
{
    struct kl_default_node status = kl_default_in(n, KL_F_status, KL_STRUCT);
    struct kl_default_node balancer = kl_default_in(&status, KL_F_loadBalancer, KL_STRUCT);
    struct kl_default_node ingress = kl_default_in(&balancer, KL_F_ingress, KL_ARRAY);
    kl_default_ptr(spec, KL_F_allocateLoadBalancerNodePorts, kl_bool(true));
    for (size_t i = 0; i < kl_len(ingress.v); i++) {
        struct kl_default_node item = kl_default_at(&ingress, i);
        if (kl_default_text(&item, KL_F_ip).n)
            kl_default_ptr(&item, KL_F_ipMode, kl_stringz("VIP"));
    }
}

void kl_default_service(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    service_affinity(&spec);
    kl_default_string(&spec, KL_F_type, "ClusterIP");
    service_ports(&spec);
    bool cluster = kl_default_is(&spec, KL_F_type, "ClusterIP");
    bool node_port = kl_default_is(&spec, KL_F_type, "NodePort");
    bool balanced = kl_default_is(&spec, KL_F_type, "LoadBalancer");
    if (balanced || node_port || (cluster && kl_len(kl_get(spec.v, KL_F_externalIPs))))
        kl_default_string(&spec, KL_F_externalTrafficPolicy, "Cluster");
    if (balanced || node_port || cluster)
        kl_default_ptr(&spec, KL_F_internalTrafficPolicy, kl_stringz("Cluster"));
    if (balanced)
        service_balancer(n, &spec);
}

void kl_default_endpoint_port(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_protocol, "TCP");
}

// ---- storage

void kl_default_persistent_volume(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    struct kl_default_node status = kl_default_in(n, KL_F_status, KL_STRUCT);
    kl_default_string(&status, KL_F_phase, "Pending");
    kl_default_string(&spec, KL_F_persistentVolumeReclaimPolicy, "Retain");
    kl_default_ptr(&spec, KL_F_volumeMode, kl_stringz("Filesystem"));
}

void kl_default_claim(struct kl_default_node *n)
{
    struct kl_default_node status = kl_default_in(n, KL_F_status, KL_STRUCT);
    kl_default_string(&status, KL_F_phase, "Pending");
}

void kl_default_claim_spec(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_volumeMode, kl_stringz("Filesystem"));
}

// ---- others

// The write-only stringData goes into data, as the conversion to the stored form does.
void kl_default_secret(struct kl_default_node *n)
{
    const struct kl_value *plain = kl_get(n->v, KL_F_stringData);
    kl_default_string(n, KL_F_type, "Opaque");
    if (!plain)
        return;
    struct kl_default_node data = kl_default_in(n, KL_F_data, KL_MAP);
    struct kl_value from = *plain;
    const struct kl_value *all = &from;
    for (KL_MAP_EACH_KEY(key, all)) {
        struct kl_value bytes = key[1];
        bytes.kind = KL_BYTES;
        kl_default_map_set(&data, kl_text(key), bytes);
    }
    kl_default_unset(n, KL_F_stringData);
}

void kl_default_namespace(struct kl_default_node *n)
{
    static const struct kl_str label = KL_STR_INIT("kubernetes.io/metadata.name");
    struct kl_str name = kl_meta_name(n->v);
    const struct kl_value *have = kl_map_value(kl_meta_labels(n->v), label);
    struct kl_default_node meta = kl_default_in(n, KL_F_metadata, KL_STRUCT);
    struct kl_default_node labels = kl_default_in(&meta, KL_F_labels, KL_MAP);
    if (name.n && (!have || !kl_str_eq(kl_text(have), name)))
        kl_default_map_set(&labels, label, kl_string(name));
}

void kl_default_namespace_status(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_phase, "Active");
}

// The single range and the first of the list follow each other, as with a pod's addresses.
void kl_default_node_spec(struct kl_default_node *n)
{
    struct kl_str cidr = kl_default_text(n, KL_F_podCIDR);
    const struct kl_value *list = kl_get(n->v, KL_F_podCIDRs);
    struct kl_str first = kl_text(kl_at(list, 0));
    if (cidr.n && (kl_len(list) == 0 || !kl_str_eq(cidr, first))) {
        struct kl_value one = kl_new_array();
        if (kl_append(n->ctx->arena, &one, kl_string(cidr)))
            n->ctx->err = KL_ENOMEM;
        kl_default_set(n, KL_F_podCIDRs, one);
    } else if (first.n && !cidr.n) {
        kl_default_set(n, KL_F_podCIDR, kl_string(first));
    }
}

void kl_default_node_status(struct kl_default_node *n)
{
    // an empty map counts as unset: that is what it is once it was stored
    const struct kl_value *capacity = kl_get(n->v, KL_F_capacity);
    if (kl_len(capacity) && kl_len(kl_get(n->v, KL_F_allocatable)) == 0)
        kl_default_set(n, KL_F_allocatable, *capacity);
}

void kl_default_limit_range_item(struct kl_default_node *n)
{
    static const struct {
        kl_sym to, from;
    } steps[] = {{KL_F_default, KL_F_max},
                 {KL_F_defaultRequest, KL_F_default},
                 {KL_F_defaultRequest, KL_F_min}};
    if (!kl_default_is(n, KL_F_type, "Container"))
        return;
    for (size_t i = 0; i < KL_COUNT(steps); i++) {
        // a copy of the node: filling moves the members of the struct that it stands in
        const struct kl_value *from = kl_get(n->v, steps[i].from);
        if (from) {
            struct kl_value shared = *from;
            kl_default_fill(n, steps[i].to, &shared);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
// Pods: what pods and pod templates share, and what only a pod gets.
#include "object/defaults_int.h"
#include "object/quantity.h"

// ---- containers and volumes, wherever they stand

void kl_default_container(struct kl_default_node *n)
{
    if (kl_default_text(n, KL_F_imagePullPolicy).n == 0)
        kl_default_set(n, KL_F_imagePullPolicy,
                       kl_image_is_latest(kl_default_text(n, KL_F_image))
                           ? kl_stringz("Always")
                           : kl_stringz("IfNotPresent"));
    kl_default_string(n, KL_F_terminationMessagePath, "/dev/termination-log");
    kl_default_string(n, KL_F_terminationMessagePolicy, "File");
}

void kl_default_volume(struct kl_default_node *n)
{
    bool any_source = false;
    for (KL_EACH(member, n->v))
        any_source = any_source || (member->sym != KL_F_name && member->kind != KL_NULL);
    if (!any_source)
        kl_default_set(n, KL_F_emptyDir, kl_new_struct());
    struct kl_default_node image = kl_default_in(n, KL_F_image, KL_STRUCT);
    if (image.v && kl_default_text(&image, KL_F_pullPolicy).n == 0)
        kl_default_set(&image, KL_F_pullPolicy,
                       kl_image_is_latest(kl_default_text(&image, KL_F_reference))
                           ? kl_stringz("Always")
                           : kl_stringz("IfNotPresent"));
}

void kl_default_probe(struct kl_default_node *n)
{
    kl_default_number(n, KL_F_timeoutSeconds, 1);
    kl_default_number(n, KL_F_periodSeconds, 10);
    kl_default_number(n, KL_F_successThreshold, 1);
    kl_default_number(n, KL_F_failureThreshold, 3);
}

void kl_default_http_get(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_path, "/");
    kl_default_string(n, KL_F_scheme, "HTTP");
}

void kl_default_mode(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_defaultMode, kl_int(0644));
}

void kl_default_expiration(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_expirationSeconds, kl_int(3600));
}

void kl_default_field_selector(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_apiVersion, "v1");
}

void kl_default_host_path(struct kl_default_node *n)
{
    kl_default_ptr(n, KL_F_type, kl_stringz(""));
}

// ---- the pod's spec, in templates too

void kl_default_pod_spec(struct kl_default_node *n)
{
    kl_default_string(n, KL_F_dnsPolicy, "ClusterFirst");
    kl_default_string(n, KL_F_restartPolicy, "Always");
    kl_default_ptr(n, KL_F_securityContext, kl_new_struct());
    kl_default_ptr(n, KL_F_terminationGracePeriodSeconds, kl_int(30));
    kl_default_string(n, KL_F_schedulerName, "default-scheduler");
    // two names of one field: the new one wins
    struct kl_str name = kl_default_text(n, KL_F_serviceAccountName);
    if (name.n == 0)
        name = kl_default_text(n, KL_F_serviceAccount);
    if (!kl_str_eq(name, kl_default_text(n, KL_F_serviceAccountName)))
        kl_default_set(n, KL_F_serviceAccountName, kl_string(name));
    if (!kl_str_eq(name, kl_default_text(n, KL_F_serviceAccount)))
        kl_default_set(n, KL_F_serviceAccount, kl_string(name));
}

// ---- pods only

static void requests_from_limits(struct kl_default_node *container)
{
    struct kl_default_node resources = kl_default_in(container, KL_F_resources, KL_STRUCT);
    kl_default_fill(&resources, KL_F_requests, kl_get(resources.v, KL_F_limits));
}

static void host_ports(struct kl_default_node *container)
{
    struct kl_default_node ports = kl_default_in(container, KL_F_ports, KL_ARRAY);
    for (size_t i = 0; i < kl_len(ports.v); i++) {
        struct kl_default_node port = kl_default_at(&ports, i);
        int64_t number = kl_int_or(kl_get(port.v, KL_F_containerPort), 0);
        if (number)
            kl_default_number(&port, KL_F_hostPort, number);
    }
}

static void each_container(struct kl_default_node *spec, void (*apply)(struct kl_default_node *))
{
    static const kl_sym lists[] = {KL_F_containers, KL_F_initContainers};
    for (size_t l = 0; l < KL_COUNT(lists); l++) {
        struct kl_default_node list = kl_default_in(spec, lists[l], KL_ARRAY);
        for (size_t i = 0; i < kl_len(list.v); i++) {
            struct kl_default_node container = kl_default_at(&list, i);
            apply(&container);
        }
    }
}

void kl_default_pod(struct kl_default_node *n)
{
    struct kl_default_node spec = kl_default_in(n, KL_F_spec, KL_STRUCT);
    each_container(&spec, requests_from_limits);
    if (kl_default_has(&spec, KL_F_resources))
        kl_default_pod_resources(&spec);
    kl_default_ptr(&spec, KL_F_enableServiceLinks, kl_bool(true));
    if (kl_is_true(kl_get(spec.v, KL_F_hostNetwork)))
        each_container(&spec, host_ports);
}

// The single address and the first of the list follow each other. Where they differ the single one
// counts, as old kubelets set only that. (hostIP and hostIPs are left as they are: validation wants
// them alike.)
void kl_default_pod_status(struct kl_default_node *n)
{
    struct kl_str ip = kl_default_text(n, KL_F_podIP);
    const struct kl_value *list = kl_get(n->v, KL_F_podIPs);
    struct kl_str first = kl_text(kl_get(kl_at(list, 0), KL_F_ip));
    if (ip.n && (kl_len(list) == 0 || !kl_str_eq(ip, first))) {
        struct kl_value item = kl_new_struct(), one = kl_new_array();
        if (kl_set(n->ctx->arena, &item, KL_F_ip, kl_string(ip)) ||
            kl_append(n->ctx->arena, &one, item))
            n->ctx->err = KL_ENOMEM;
        kl_default_set(n, KL_F_podIPs, one);
    } else if (first.n && !ip.n) {
        kl_default_set(n, KL_F_podIP, kl_string(first));
    }
}

// SPDX-License-Identifier: Apache-2.0
// A pod's request, as upstream's resourcehelper.PodRequests: the larger of what all containers need
// together and of what the init containers need one after another (with the sidecars started
// before them), plus the overhead; requests of the pod as a whole replace the sums.
#include "scheduler/podinfo.h"
#include "object/quantity.h"
#include <stdlib.h>

enum { DEFAULT_CPU_MILLI = 100 }; // schedutil.DefaultMilliCPURequest
#define DEFAULT_MEMORY ((int64_t)200 * 1024 * 1024)

void kl_node_amounts_fini(struct kl_amounts *a)
{
    free(a->scalars);
    a->scalars = NULL;
    a->nscalars = 0;
}

static struct kl_scalar *find_scalar(const struct kl_amounts *a, struct kl_str name)
{
    for (uint32_t i = 0; i < a->nscalars; i++) {
        if (kl_str_eq(a->scalars[i].name, name))
            return &a->scalars[i];
    }
    return NULL;
}

int64_t kl_node_amounts_get(const struct kl_amounts *a, struct kl_str name)
{
    const struct kl_scalar *s = find_scalar(a, name);
    return s ? s->n : 0;
}

int kl_node_amounts_set(struct kl_amounts *a, struct kl_str name, int64_t n)
{
    struct kl_scalar *s = find_scalar(a, name);
    if (s) {
        s->n = n;
        return 0;
    }
    s = realloc(a->scalars, (a->nscalars + 1) * sizeof(*s));
    if (!s)
        return KL_ENOMEM;
    a->scalars = s;
    a->scalars[a->nscalars++] = (struct kl_scalar){name, n};
    return 0;
}

int kl_node_amounts_read(struct kl_amounts *a, const struct kl_value *list)
{
    for (KL_MAP_EACH_KEY(k, list)) {
        struct kl_str name = kl_text(k), value = kl_text(k + 1);
        if (kl_str_eq(name, KL_STR("cpu")))
            a->cpu_milli = kl_quantity_milli_of(value);
        else if (kl_str_eq(name, KL_STR("memory")))
            a->memory = kl_quantity_value_of(value);
        else if (kl_str_eq(name, KL_STR("ephemeral-storage")))
            a->ephemeral = kl_quantity_value_of(value);
        else if (!kl_str_eq(name, KL_STR("pods")) &&
                 kl_node_amounts_set(a, name, kl_quantity_value_of(value)) < 0)
            return KL_ENOMEM;
    }
    return 0;
}

static int add_amounts(struct kl_amounts *to, const struct kl_amounts *from)
{
    to->cpu_milli += from->cpu_milli;
    to->memory += from->memory;
    to->ephemeral += from->ephemeral;
    for (uint32_t i = 0; i < from->nscalars; i++) {
        struct kl_str name = from->scalars[i].name;
        if (kl_node_amounts_set(to, name, kl_node_amounts_get(to, name) + from->scalars[i].n) < 0)
            return KL_ENOMEM;
    }
    return 0;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int raise_amounts(struct kl_amounts *to, const struct kl_amounts *from)
{
    to->cpu_milli = max_of(to->cpu_milli, from->cpu_milli);
    to->memory = max_of(to->memory, from->memory);
    to->ephemeral = max_of(to->ephemeral, from->ephemeral);
    for (uint32_t i = 0; i < from->nscalars; i++) {
        struct kl_str name = from->scalars[i].name;
        if (kl_node_amounts_set(to, name,
                                max_of(kl_node_amounts_get(to, name), from->scalars[i].n)) < 0)
            return KL_ENOMEM;
    }
    return 0;
}

static const struct kl_value *requests_of(const struct kl_value *container)
{
    return kl_path(container, KL_F_resources, KL_F_requests);
}

static bool is_sidecar(const struct kl_value *container)
{
    return kl_str_eq(kl_text(kl_get(container, KL_F_restartPolicy)), KL_STR("Always"));
}

// What one container asks for; with `defaults` cpu and memory it does not name count a little, so
// that pods without requests spread.
static int read_container(struct kl_amounts *a, const struct kl_value *container, bool defaults)
{
    const struct kl_value *list = requests_of(container);
    if (kl_node_amounts_read(a, list) < 0)
        return KL_ENOMEM;
    if (defaults && !kl_map_value(list, KL_STR("cpu")))
        a->cpu_milli = DEFAULT_CPU_MILLI;
    if (defaults && !kl_map_value(list, KL_STR("memory")))
        a->memory = DEFAULT_MEMORY;
    return 0;
}

static int sum_requests(const struct kl_value *spec, bool defaults, struct kl_amounts *ret)
{
    struct kl_amounts sum = {0}, sidecars = {0}, peak = {0};
    int rc = 0;
    for (KL_EACH(c, kl_get(spec, KL_F_containers))) {
        struct kl_amounts one = {0};
        rc |= read_container(&one, c, defaults);
        rc |= add_amounts(&sum, &one);
        kl_node_amounts_fini(&one);
    }
    for (KL_EACH(c, kl_get(spec, KL_F_initContainers))) {
        struct kl_amounts one = {0};
        rc |= read_container(&one, c, defaults);
        if (is_sidecar(c)) {
            rc |= add_amounts(&sum, &one);
            rc |= add_amounts(&sidecars, &one);
            rc |= raise_amounts(&peak, &sidecars);
        } else {
            rc |= add_amounts(&one, &sidecars);
            rc |= raise_amounts(&peak, &one);
        }
        kl_node_amounts_fini(&one);
    }
    rc |= raise_amounts(&sum, &peak);
    const struct kl_value *whole = kl_path(spec, KL_F_resources, KL_F_requests);
    if (whole) {
        struct kl_amounts pod = {0};
        rc |= kl_node_amounts_read(&pod, whole);
        if (kl_map_value(whole, KL_STR("cpu")))
            sum.cpu_milli = pod.cpu_milli;
        if (kl_map_value(whole, KL_STR("memory")))
            sum.memory = pod.memory;
        for (uint32_t i = 0; i < pod.nscalars; i++)
            rc |= kl_node_amounts_set(&sum, pod.scalars[i].name, pod.scalars[i].n);
        kl_node_amounts_fini(&pod);
    }
    struct kl_amounts overhead = {0};
    rc |= kl_node_amounts_read(&overhead, kl_get(spec, KL_F_overhead));
    rc |= add_amounts(&sum, &overhead);
    kl_node_amounts_fini(&overhead);
    kl_node_amounts_fini(&sidecars);
    kl_node_amounts_fini(&peak);
    *ret = sum;
    return rc ? KL_ENOMEM : 0;
}

static int read_ports(struct kl_pod_info *p, const struct kl_value *containers)
{
    for (KL_EACH(c, containers)) {
        for (KL_EACH(port, kl_get(c, KL_F_ports))) {
            int64_t n = kl_int_or(kl_get(port, KL_F_hostPort), 0);
            if (n <= 0)
                continue;
            struct kl_host_port *list = realloc(p->ports, (p->nports + 1) * sizeof(*list));
            if (!list)
                return KL_ENOMEM;
            p->ports = list;
            struct kl_str protocol = kl_text(kl_get(port, KL_F_protocol));
            p->ports[p->nports++] = (struct kl_host_port){
                .ip = kl_text(kl_get(port, KL_F_hostIP)),
                .protocol = protocol.n ? protocol : KL_STR("TCP"),
                .port = n,
            };
        }
    }
    return 0;
}

static int read_sidecar_ports(struct kl_pod_info *p, const struct kl_value *init_containers)
{
    for (KL_EACH(c, init_containers)) {
        struct kl_value one = {.kind = KL_ARRAY, .n = 1, .items = (struct kl_value *)c};
        if (is_sidecar(c) && read_ports(p, &one) < 0)
            return KL_ENOMEM;
    }
    return 0;
}

struct kl_pod_info *kl_pod_info_new(struct kl_object *pod)
{
    struct kl_pod_info *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    const struct kl_value *root = &pod->root, *spec = kl_get(root, KL_F_spec);
    struct kl_amounts nonzero = {0};
    p->object = kl_object_ref(pod);
    p->uid = kl_meta_uid(root);
    p->ns = kl_meta_namespace(root);
    p->name = kl_meta_name(root);
    p->priority = kl_int_or(kl_get(spec, KL_F_priority), 0);
    int rc = sum_requests(spec, false, &p->requests);
    rc |= sum_requests(spec, true, &nonzero);
    p->nonzero_cpu_milli = nonzero.cpu_milli;
    p->nonzero_memory = nonzero.memory;
    kl_node_amounts_fini(&nonzero);
    rc |= read_ports(p, kl_get(spec, KL_F_containers));
    rc |= read_sidecar_ports(p, kl_get(spec, KL_F_initContainers));
    if (rc) {
        kl_pod_info_free(p);
        return NULL;
    }
    return p;
}

void kl_pod_info_free(struct kl_pod_info *p)
{
    if (!p)
        return;
    kl_node_amounts_fini(&p->requests);
    free(p->ports);
    kl_object_unref(p->object);
    free(p);
}

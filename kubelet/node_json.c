// SPDX-License-Identifier: Apache-2.0
#include "kubelet/node_int.h"
#include "kubelet/server.h"
#include "object/json.h"
#include "object/timestamp.h"
#include <unistd.h>

static void put_pair(struct kl_buf *out, bool *first, struct kl_str key, struct kl_str value)
{
    kl_buf_puts(out, *first ? KL_STR("") : KL_STR(","));
    kl_json_write_string(out, key);
    kl_buf_putc(out, ':');
    kl_json_write_string(out, value);
    *first = false;
}

static void split(struct kl_str text, char sep, struct kl_str *a, struct kl_str *b)
{
    ptrdiff_t at = kl_str_chr(text, sep);
    *a = at < 0 ? text : (struct kl_str){text.p, (size_t)at};
    *b = at < 0 ? KL_STR("") : kl_str_from(text, (size_t)at + 1);
}

void kl_node_labels_json(const struct kl_node *n, struct kl_buf *out)
{
    const struct kl_kubelet_conf *c = &n->k->conf;
    bool first = true;
    kl_buf_putc(out, '{');
    put_pair(out, &first, KL_STR("beta.kubernetes.io/arch"), kl_str(n->info.arch));
    put_pair(out, &first, KL_STR("beta.kubernetes.io/os"), KL_STR("linux"));
    put_pair(out, &first, KL_STR("kubernetes.io/arch"), kl_str(n->info.arch));
    put_pair(out, &first, KL_STR("kubernetes.io/hostname"), kl_str(c->node_name));
    put_pair(out, &first, KL_STR("kubernetes.io/os"), KL_STR("linux"));
    for (char **l = c->node_labels; *l; l++) {
        struct kl_str key, value;
        split(kl_str(*l), '=', &key, &value);
        put_pair(out, &first, key, value);
    }
    kl_buf_putc(out, '}');
}

static void put_taint(struct kl_buf *out, bool *first, struct kl_str key, struct kl_str value,
                      struct kl_str effect)
{
    bool inner = true;
    kl_buf_puts(out, *first ? KL_STR("{") : KL_STR(",{"));
    *first = false;
    put_pair(out, &inner, KL_STR("key"), key);
    if (value.n)
        put_pair(out, &inner, KL_STR("value"), value);
    put_pair(out, &inner, KL_STR("effect"), effect);
    kl_buf_putc(out, '}');
}

void kl_node_json(const struct kl_node *n, struct kl_buf *out)
{
    const struct kl_kubelet_conf *c = &n->k->conf;
    bool first = true;
    kl_buf_puts(out, KL_STR("{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":"));
    kl_json_write_string(out, kl_str(c->node_name));
    kl_buf_puts(out, KL_STR(",\"labels\":"));
    kl_node_labels_json(n, out);
    kl_buf_puts(out, KL_STR(",\"annotations\":{\"volumes.kubernetes.io/"
                            "controller-managed-attach-detach\":\"true\"}},\"spec\":{"));
    if (c->provider_id[0])
        put_pair(out, &first, KL_STR("providerID"), kl_str(c->provider_id));
    if (c->pod_cidr_given) {
        put_pair(out, &first, KL_STR("podCIDR"), kl_str(c->pod_cidr));
        kl_buf_puts(out, KL_STR(",\"podCIDRs\":["));
        kl_json_write_string(out, kl_str(c->pod_cidr));
        kl_buf_putc(out, ']');
    }
    if (c->unschedulable)
        kl_buf_printf(out, "%s\"unschedulable\":true", first ? "" : ",");
    first = first && !c->unschedulable;
    if (c->node_taints[0] || c->unschedulable) {
        bool none = true;
        kl_buf_printf(out, "%s\"taints\":[", first ? "" : ",");
        for (char **t = c->node_taints; *t; t++) {
            struct kl_str head, effect, key, value;
            split(kl_str(*t), ':', &head, &effect);
            split(head, '=', &key, &value);
            put_taint(out, &none, key, value, effect);
        }
        if (c->unschedulable)
            put_taint(out, &none, KL_STR("node.kubernetes.io/unschedulable"), KL_STR(""),
                      KL_STR("NoSchedule"));
        kl_buf_putc(out, ']');
    }
    kl_buf_puts(out, KL_STR("},\"status\":"));
    kl_node_status_json(n, out);
    kl_buf_putc(out, '}');
}

static void put_conditions(const struct kl_node *n, struct kl_buf *out)
{
    char now[KL_TIME_TEXT], since[KL_TIME_TEXT];
    kl_time_text(kl_timers_wall_us(n->k->timers), now);
    kl_buf_puts(out, KL_STR(",\"conditions\":["));
    for (int i = 0; i < KL_NODE_CONDITIONS; i++) {
        const struct kl_node_cond *c = &n->conditions[i];
        kl_time_text(c->since_s * 1000000, since);
        kl_buf_printf(out,
                      "%s{\"type\":\"%s\",\"status\":\"%s\",\"lastHeartbeatTime\":\"%s\","
                      "\"lastTransitionTime\":\"%s\",\"reason\":\"%s\",\"message\":",
                      i ? "," : "", kl_node_condition_names[i], c->status ? "True" : "False", now,
                      since, c->reason);
        kl_json_write_string(out, kl_str(c->message));
        kl_buf_putc(out, '}');
    }
    kl_buf_putc(out, ']');
}

void kl_node_status_json(const struct kl_node *n, struct kl_buf *out)
{
    const struct kl_kubelet_conf *c = &n->k->conf;
    const struct kl_node_info *i = &n->info;
    int64_t milli, bytes, ephemeral;
    kl_node_allocatable(n->k, &milli, &bytes, &ephemeral);
    kl_buf_printf(out,
                  "{\"capacity\":{\"cpu\":\"%d\",\"ephemeral-storage\":\"%lldKi\","
                  "\"hugepages-1Gi\":\"0\",\"hugepages-2Mi\":\"0\",\"memory\":\"%lldKi\","
                  "\"pods\":\"%d\"},"
                  "\"allocatable\":{\"cpu\":\"%d\",\"ephemeral-storage\":\"%lld\","
                  "\"hugepages-1Gi\":\"0\",\"hugepages-2Mi\":\"0\",\"memory\":\"%lldKi\","
                  "\"pods\":\"%d\"}",
                  i->cpus, (long long)i->fs_bytes / 1024, (long long)i->memory_bytes / 1024,
                  c->max_pods, i->cpus, (long long)ephemeral, (long long)bytes / 1024, c->max_pods);
    if (n->conditions[KL_NODE_READY].since_s)
        put_conditions(n, out);
    kl_buf_puts(out, KL_STR(",\"addresses\":[{\"type\":\"InternalIP\",\"address\":"));
    kl_json_write_string(out, kl_str(c->node_ip));
    kl_buf_puts(out, KL_STR("},{\"type\":\"Hostname\",\"address\":"));
    kl_json_write_string(out, kl_str(c->node_name));
    kl_buf_puts(out, KL_STR("}]"));
    int port = kl_kubelet_server_port(n->k->server);
    if (port)
        kl_buf_printf(out, ",\"daemonEndpoints\":{\"kubeletEndpoint\":{\"Port\":%d}}", port);
    bool first = true;
    kl_buf_puts(out, KL_STR(",\"nodeInfo\":{"));
    put_pair(out, &first, KL_STR("machineID"), kl_str(i->machine_id));
    put_pair(out, &first, KL_STR("systemUUID"), kl_str(i->system_uuid));
    put_pair(out, &first, KL_STR("bootID"), kl_str(i->boot_id));
    put_pair(out, &first, KL_STR("kernelVersion"), kl_str(i->kernel));
    put_pair(out, &first, KL_STR("osImage"), kl_str(i->os_image));
    put_pair(out, &first, KL_STR("containerRuntimeVersion"),
             n->k->runtime ? kl_str(kl_runtime_version(n->k->runtime)) : KL_STR(""));
    put_pair(out, &first, KL_STR("kubeletVersion"), kl_str(c->version));
    put_pair(out, &first, KL_STR("kubeProxyVersion"), KL_STR(""));
    put_pair(out, &first, KL_STR("operatingSystem"), KL_STR("linux"));
    put_pair(out, &first, KL_STR("architecture"), kl_str(i->arch));
    kl_buf_puts(out, KL_STR("},\"images\":"));
    kl_buf_puts(out, kl_images_status_json(n->k->images));
    kl_buf_putc(out, '}');
}

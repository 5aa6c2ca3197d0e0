// SPDX-License-Identifier: Apache-2.0
// The options with their defaults, and the paths that follow from them.
#include "kubelet/kubelet_int.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_SOCKET_PATH = 96 }; // sun_path less containerd's ".ttrpc"

char *kl_strdup(struct kl_str s)
{
    char *p = malloc(s.n + 1);
    if (!p)
        abort();
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return p;
}

char *kl_asprintf(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&p, fmt, ap) < 0)
        abort();
    va_end(ap);
    return p;
}

char *kl_text_clean(struct kl_str s)
{
    // A byte that is no UTF-8 becomes U+FFFD, as Go writes it.
    char *out = malloc(s.n * 3 + 1);
    size_t n = 0;
    if (!out)
        abort();
    while (s.n) {
        size_t len = 1;
        while (len < 4 && len < s.n && ((unsigned char)s.p[len] & 0xc0) == 0x80)
            len++;
        while (len > 1 && !kl_utf8_valid((struct kl_str){s.p, len}))
            len--;
        if (kl_utf8_valid((struct kl_str){s.p, len}) && s.p[0]) {
            memcpy(out + n, s.p, len);
            n += len;
        } else {
            memcpy(out + n, "\xef\xbf\xbd", 3);
            n += 3;
        }
        s = kl_str_from(s, len);
    }
    out[n] = 0;
    return out;
}

static char *copy_or(const char *s, const char *otherwise)
{
    return kl_strdup(kl_str(s && *s ? s : otherwise));
}

static char **copy_list(const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    char **copy = calloc(n + 1, sizeof(char *));
    if (!copy)
        abort();
    for (size_t i = 0; i < n; i++)
        copy[i] = kl_strdup(kl_str(list[i]));
    return copy;
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

// The name of the interface that the default route uses, from /proc/net/route.
static bool default_interface(char name[IF_NAMESIZE])
{
    FILE *f = fopen("/proc/net/route", "re");
    char line[256], iface[64];
    unsigned dest, gateway, flags;
    bool found = false;
    while (f && !found && fgets(line, sizeof(line), f))
        if (sscanf(line, "%63s %x %x %x", iface, &dest, &gateway, &flags) == 4 && dest == 0 &&
            flags & 1 && strlen(iface) < IF_NAMESIZE) {
            memcpy(name, iface, strlen(iface) + 1);
            found = true;
        }
    if (f)
        fclose(f);
    return found;
}

// An address of the default route's interface, else of any that is up and no loopback or bridge of
// ours, else the loopback's.
static char *find_address(const char *bridge)
{
    char want[IF_NAMESIZE] = "", best[INET_ADDRSTRLEN] = "127.0.0.1";
    bool exact = default_interface(want);
    struct ifaddrs *list = NULL;
    getifaddrs(&list);
    int score = 0;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
            i->ifa_flags & IFF_LOOPBACK || !strcmp(i->ifa_name, bridge))
            continue;
        int s = exact && !strcmp(i->ifa_name, want) ? 2 : 1;
        if (s > score) {
            score = s;
            inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, best,
                      sizeof(best));
        }
    }
    freeifaddrs(list);
    return kl_strdup(kl_str(best));
}

static int check(const struct kl_kubelet_options *o, struct kl_error *err)
{
    if (!o->data_dir || o->data_dir[0] != '/')
        return kl_error_set(err, KL_EINVALID, "the data directory must be an absolute path");
    if (strlen(o->data_dir) > 500)
        return kl_error_set(err, KL_EINVALID, "the data directory's path is too long");
    if (o->bridge_name && strlen(o->bridge_name) >= IF_NAMESIZE)
        return kl_error_set(err, KL_EINVALID, "bridge name %s is longer than %d bytes",
                            o->bridge_name, IF_NAMESIZE - 1);
    return 0;
}

int kl_kubelet_conf_init(struct kl_kubelet_conf *c, const struct kl_kubelet_options *o,
                         struct kl_error *err)
{
    memset(c, 0, sizeof(*c));
    int r = check(o, err);
    if (r)
        return r;
    c->node_name = copy_or(o->node_name, "");
    c->bridge_name = copy_or(o->bridge_name, "kinglet0");
    c->node_ip =
        o->node_ip && *o->node_ip ? kl_strdup(kl_str(o->node_ip)) : find_address(c->bridge_name);
    c->pod_cidr_given = o->pod_cidr && *o->pod_cidr;
    c->pod_cidr = copy_or(o->pod_cidr, "10.42.0.0/24");
    c->cluster_cidr = copy_or(o->cluster_cidr, c->pod_cidr);
    c->cluster_dns = copy_or(o->cluster_dns, "");
    c->cluster_domain = copy_or(o->cluster_domain, "cluster.local");
    c->containerd_bin = copy_or(o->containerd_bin, "containerd");
    c->cni_bin_dir = copy_or(o->cni_bin_dir, "/usr/lib/cni");
    c->cgroup_root = copy_or(o->cgroup_root, "");
    c->server_address = copy_or(o->server_address, "");
    c->allowed_user = copy_or(o->allowed_user, "");
    c->allowed_group = copy_or(o->allowed_group, "");
    c->provider_id = copy_or(o->provider_id, "");
    c->version = copy_or(o->version, "v1.36.3");
    c->node_labels = copy_list(o->node_labels);
    c->node_taints = copy_list(o->node_taints);
    c->unschedulable = o->register_node_unschedulable;
    c->port = o->port ? o->port : 10250;
    c->max_pods = o->max_pods ? o->max_pods : 110;
    c->status_interval_ms = o->status_interval_ms ? o->status_interval_ms : 10000;
    c->lease_seconds = o->lease_seconds ? o->lease_seconds : 40;
    c->data = kl_asprintf("%s/agent", o->data_dir);
    c->pods_dir = kl_asprintf("%s/kubelet/pods", c->data);
    c->logs_dir = kl_asprintf("%s/logs/pods", c->data);
    c->images_dir = kl_asprintf("%s/images", c->data);
    c->cni_conf_dir = kl_asprintf("%s/etc/cni/net.d", c->data);
    c->cni_data_dir = kl_asprintf("%s/cni", c->data);
    c->containerd_dir = kl_asprintf("%s/containerd", c->data);
    c->own_containerd = !o->runtime_endpoint || !*o->runtime_endpoint;
    if (c->own_containerd) {
        c->socket = kl_asprintf("%s/containerd.sock", c->containerd_dir);
        if (strlen(c->socket) > MAX_SOCKET_PATH) {
            uint32_t h = 2166136261u; // stable over restarts
            for (const char *p = c->socket; *p; p++)
                h = (h ^ (uint8_t)*p) * 16777619u;
            free(c->socket);
            c->socket = kl_asprintf("/run/kinglet-%08x.sock", h);
        }
        c->endpoint = kl_asprintf("unix://%s", c->socket);
    } else {
        bool scheme = !strncmp(o->runtime_endpoint, "unix://", 7);
        c->socket = kl_strdup(kl_str(o->runtime_endpoint + (scheme ? 7 : 0)));
        c->endpoint = kl_asprintf("unix://%s", c->socket);
    }
    return 0;
}

void kl_kubelet_conf_fini(struct kl_kubelet_conf *c)
{
    char *all[] = {c->node_name,     c->node_ip,        c->pod_cidr,       c->cluster_cidr,
                   c->cluster_dns,   c->cluster_domain, c->containerd_bin, c->cni_bin_dir,
                   c->bridge_name,   c->cgroup_root,    c->server_address, c->allowed_user,
                   c->allowed_group, c->provider_id,    c->version,        c->data,
                   c->endpoint,      c->socket,         c->pods_dir,       c->logs_dir,
                   c->images_dir,    c->cni_conf_dir,   c->containerd_dir, c->cni_data_dir};
    for (size_t i = 0; i < KL_COUNT(all); i++)
        free(all[i]);
    free_list(c->node_labels);
    free_list(c->node_taints);
    memset(c, 0, sizeof(*c));
}

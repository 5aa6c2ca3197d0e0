// SPDX-License-Identifier: Apache-2.0
// The pod network of one node: the distribution's bridge plugin with host-local addresses, and one
// nftables table that masquerades what leaves the cluster (instead of a chain for each pod, which
// costs several processes at each pod's start).
#include "kubelet/kubelet_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int kl_cni_write(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    kl_buf_printf(&b,
                  "{\n"
                  "  \"cniVersion\": \"0.4.0\",\n"
                  "  \"name\": \"kinglet\",\n"
                  "  \"plugins\": [\n"
                  "    {\n"
                  "      \"type\": \"bridge\",\n"
                  "      \"bridge\": \"%s\",\n"
                  "      \"isGateway\": true,\n"
                  "      \"hairpinMode\": true,\n"
                  "      \"ipMasq\": false,\n"
                  "      \"ipam\": {\n"
                  "        \"type\": \"host-local\",\n"
                  "        \"dataDir\": \"%s\",\n"
                  "        \"ranges\": [[{\"subnet\": \"%s\"}]],\n"
                  "        \"routes\": [{\"dst\": \"0.0.0.0/0\"}]\n"
                  "      }\n"
                  "    },\n"
                  "    {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}, "
                  "\"snat\": true}\n"
                  "  ]\n"
                  "}\n",
                  c->bridge_name, c->cni_data_dir, c->pod_cidr);
    struct kl_path path;
    int r = kl_fs_mkdirs(c->cni_conf_dir, 0755, err);
    if (!r && !kl_path_set(&path, "%s/10-kinglet.conflist", c->cni_conf_dir))
        r = kl_error_set(err, KL_ELIMIT, "data directory's path is too long");
    // Unchanged: left alone, containerd reloads at every write.
    struct kl_buf old;
    kl_buf_init(&old, 65536);
    if (!r && (kl_fs_read(path.s, &old, NULL) || !kl_str_eq(kl_buf_str(&old), kl_buf_str(&b))))
        r = kl_fs_write_atomic(path.s, kl_buf_str(&b), 0644, err);
    kl_buf_fini(&old);
    kl_buf_fini(&b);
    return r;
}

int kl_cni_masquerade(const struct kl_kubelet_conf *c, struct kl_error *err)
{
    struct kl_buf b;
    kl_buf_init(&b, 65536);
    // "add" before "delete" makes the whole idempotent; one transaction.
    kl_buf_printf(&b,
                  "add table ip kinglet-%s\n"
                  "delete table ip kinglet-%s\n"
                  "table ip kinglet-%s {\n"
                  "  chain postrouting {\n"
                  "    type nat hook postrouting priority srcnat; policy accept;\n"
                  "    ip saddr %s ip daddr != %s ip daddr != 224.0.0.0/4 masquerade\n"
                  "  }\n"
                  "}\n",
                  c->bridge_name, c->bridge_name, c->bridge_name, c->pod_cidr, c->cluster_cidr);
    const char *const argv[] = {"nft", "-f", "-", NULL};
    int r = kl_run(argv, kl_buf_str(&b), NULL, 10000, err);
    kl_buf_fini(&b);
    return r;
}

// Chains that the portmap plugin left when a pod was not torn down through it.
static void purge_portmap(void)
{
    const char *const save[] = {"iptables-save", "-t", "nat", NULL};
    const char *const restore[] = {"iptables-restore", NULL};
    struct kl_buf rules, out;
    kl_buf_init(&rules, 16 * 1024 * 1024);
    kl_buf_init(&out, 16 * 1024 * 1024);
    bool found = false;
    if (!kl_run(save, KL_STR(""), &rules, 10000, NULL)) {
        struct kl_str rest = kl_buf_str(&rules), line;
        while (kl_str_split(&rest, '\n', &line)) {
            if (memmem(line.p, line.n, "CNI-", 4)) {
                found = true;
                continue;
            }
            kl_buf_puts(&out, line);
            kl_buf_putc(&out, '\n');
        }
    }
    if (found && !out.err)
        kl_run(restore, kl_buf_str(&out), NULL, 10000, NULL);
    kl_buf_fini(&rules);
    kl_buf_fini(&out);
}

void kl_cni_purge(const struct kl_kubelet_conf *c)
{
    char *table = kl_asprintf("kinglet-%s", c->bridge_name);
    const char *const nft[] = {"nft", "delete", "table", "ip", table, NULL};
    const char *const link[] = {"ip", "link", "delete", c->bridge_name, NULL};
    kl_run(nft, KL_STR(""), NULL, 10000, NULL);
    kl_run(link, KL_STR(""), NULL, 10000, NULL);
    free(table);
    purge_portmap();
}

// SPDX-License-Identifier: Apache-2.0
// The pod network of one node: the distribution's bridge plugin with host-local addresses, and one
// nftables table that masquerades what leaves the cluster (instead of a chain for each pod, which
// costs several processes at each pod's start).
#include "kubelet/kubelet_int.h"
#include "base/map.h"
#include <dirent.h>
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
                  "  \"name\": \"%s\",\n"
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
                  c->bridge_name, c->bridge_name, c->cni_data_dir, c->pod_cidr);
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

static bool has(struct kl_str line, const char *text)
{
    return memmem(line.p, line.n, text, strlen(text)) != NULL;
}

// The chain that a rule with our network's name jumps to: CNI-DN-..., the pod's own.
static struct kl_str own_chain(struct kl_str line, const char *name)
{
    static const char jump[] = "-j CNI-DN-";
    const char *at = has(line, name) ? memmem(line.p, line.n, jump, sizeof(jump) - 1) : NULL;
    if (!at)
        return KL_STR("");
    struct kl_str rest = {at + 3, (size_t)(line.p + line.n - at) - 3}, chain;
    kl_str_split(&rest, ' ', &chain);
    return chain;
}

static bool is_own(struct kl_str line, const struct kl_map *chains)
{
    const char *at = memmem(line.p, line.n, "CNI-DN-", 7);
    size_t n = 0;
    while (at && at + n < line.p + line.n && at[n] != ' ')
        n++;
    return at && kl_map_get(chains, (struct kl_str){at, n});
}

// Chains that the portmap plugin left when a pod was not torn down through it: those of our network
// and, when no others are left, the plugin's own.
static void purge_portmap(const struct kl_kubelet_conf *c)
{
    const char *const save[] = {"iptables-save", "-t", "nat", NULL};
    const char *const restore[] = {"iptables-restore", NULL};
    char *name = kl_asprintf("name: \\\"%s\\\"", c->bridge_name); // as iptables-save quotes it
    struct kl_buf rules, out;
    struct kl_map own;
    struct kl_str rest, line;
    bool found = false, others = false;
    kl_buf_init(&rules, 16 * 1024 * 1024);
    kl_buf_init(&out, 16 * 1024 * 1024);
    kl_map_init(&own);
    if (!kl_run(save, KL_STR(""), &rules, 10000, NULL)) {
        for (rest = kl_buf_str(&rules); kl_str_split(&rest, '\n', &line);) {
            struct kl_str chain = own_chain(line, name);
            if (chain.n && !kl_map_get(&own, chain) && kl_map_set(&own, chain, &own, NULL))
                goto out;
        }
        for (rest = kl_buf_str(&rules); kl_str_split(&rest, '\n', &line);)
            others = others || (has(line, "CNI-DN-") && !is_own(line, &own));
        for (rest = kl_buf_str(&rules); kl_str_split(&rest, '\n', &line);) {
            if (is_own(line, &own) || (!others && has(line, "CNI-HOSTPORT-"))) {
                found = true;
                continue;
            }
            kl_buf_puts(&out, line);
            kl_buf_putc(&out, '\n');
        }
    }
    if (found && !out.err)
        kl_run(restore, kl_buf_str(&out), NULL, 10000, NULL);
out:
    kl_map_fini(&own);
    kl_buf_fini(&rules);
    kl_buf_fini(&out);
    free(name);
}

// What libcni remembers of pods that were not torn down through it.
static void purge_results(const struct kl_kubelet_conf *c)
{
    static const char results[] = "/var/lib/cni/results";
    char *prefix = kl_asprintf("%s-", c->bridge_name);
    DIR *d = opendir(results);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct kl_str id = kl_str(e->d_name);
        struct kl_path p;
        if (!kl_str_starts(id, kl_str(prefix)) || !kl_path_set(&p, "%s/%s", results, e->d_name))
            continue;
        unlink(p.s);
        id = kl_str_from(id, strlen(prefix));
        ptrdiff_t n = kl_str_chr(id, '-');
        if (n > 0 && kl_path_set(&p, "%s/cni-loopback-%.*s-lo", results, (int)n, id.p))
            unlink(p.s);
    }
    if (d)
        closedir(d);
    rmdir(results); // when they were the only ones
    rmdir("/var/lib/cni");
    free(prefix);
}

void kl_cni_purge(const struct kl_kubelet_conf *c)
{
    char *table = kl_asprintf("kinglet-%s", c->bridge_name);
    const char *const nft[] = {"nft", "delete", "table", "ip", table, NULL};
    const char *const link[] = {"ip", "link", "delete", c->bridge_name, NULL};
    kl_run(nft, KL_STR(""), NULL, 10000, NULL);
    kl_run(link, KL_STR(""), NULL, 10000, NULL);
    free(table);
    purge_portmap(c);
    purge_results(c);
}

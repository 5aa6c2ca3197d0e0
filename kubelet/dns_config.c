// SPDX-License-Identifier: Apache-2.0
// resolv.conf and /etc/hosts of a pod (pkg/kubelet/network/dns, kubelet_pods.go). Pure.
#include "kubelet/pod_config.h"

enum { MAX_LIST = 64, MAX_HOSTNAME = 63 };

struct list {
    struct kl_str items[MAX_LIST];
    size_t n;
};

static void add(struct list *l, struct kl_str s)
{
    for (size_t i = 0; i < l->n; i++)
        if (kl_str_eq(l->items[i], s))
            return;
    if (s.n && l->n < MAX_LIST)
        l->items[l->n++] = s;
}

static void give(struct kl_arena *a, const struct list *l, struct kl_str **ret, size_t *ret_n)
{
    *ret = kl_arena_alloc(a, (l->n + 1) * sizeof(struct kl_str));
    *ret_n = *ret ? l->n : 0;
    if (*ret)
        memcpy(*ret, l->items, l->n * sizeof(struct kl_str));
}

// The next word of a line of blanks and tabs.
static bool next_word(struct kl_str *rest, struct kl_str *ret)
{
    size_t i = 0, j;
    while (i < rest->n && (rest->p[i] == ' ' || rest->p[i] == '\t' || rest->p[i] == '\r'))
        i++;
    for (j = i; j < rest->n && rest->p[j] != ' ' && rest->p[j] != '\t' && rest->p[j] != '\r';)
        j++;
    *ret = (struct kl_str){rest->p + i, j - i};
    *rest = kl_str_from(*rest, j);
    return ret->n > 0;
}

void kl_resolv_conf_parse(struct kl_arena *a, struct kl_str text, struct kl_cri_dns_config *ret)
{
    struct list servers = {.n = 0}, searches = {.n = 0}, options = {.n = 0};
    struct kl_str line, word;
    while (kl_str_split(&text, '\n', &line)) {
        if (!next_word(&line, &word))
            continue;
        if (kl_str_eqz(word, "nameserver")) {
            if (next_word(&line, &word))
                add(&servers, word);
        } else if (kl_str_eqz(word, "search")) {
            searches.n = 0; // the last line counts
            while (next_word(&line, &word))
                add(&searches, word);
        } else if (kl_str_eqz(word, "options")) {
            options.n = 0;
            while (next_word(&line, &word))
                add(&options, word);
        }
    }
    give(a, &servers, &ret->servers, &ret->n_servers);
    give(a, &searches, &ret->searches, &ret->n_searches);
    give(a, &options, &ret->options, &ret->n_options);
}

static struct kl_str option_name(struct kl_str o)
{
    ptrdiff_t colon = kl_str_chr(o, ':');
    return colon < 0 ? o : (struct kl_str){o.p, (size_t)colon};
}

void kl_dns_for_pod(struct kl_arena *a, const struct kl_value *pod, struct kl_str cluster_dns,
                    struct kl_str domain, struct kl_str host_resolv_conf,
                    struct kl_cri_dns_config *ret, bool *ret_missing)
{
    const struct kl_value *spec = kl_get(pod, KL_F_spec);
    struct kl_str policy = kl_text_at(spec, KL_F_dnsPolicy);
    bool host_net = kl_true_at(spec, KL_F_hostNetwork);
    bool cluster = kl_str_eqz(policy, "ClusterFirstWithHostNet") ||
                   ((!policy.n || kl_str_eqz(policy, "ClusterFirst")) && !host_net);
    bool none = kl_str_eqz(policy, "None");
    struct kl_cri_dns_config host = {0};
    struct list servers = {.n = 0}, searches = {.n = 0}, options = {.n = 0};
    *ret_missing = cluster && !cluster_dns.n;
    if (*ret_missing)
        cluster = false;
    if (!none)
        kl_resolv_conf_parse(a, host_resolv_conf, &host);
    if (cluster) {
        struct kl_str ns = kl_meta_namespace(pod), rest = cluster_dns, one;
        while (kl_str_split(&rest, ',', &one))
            add(&servers, kl_str_trim(one));
        if (domain.n) {
            add(&searches, kl_arena_printf(a, "%.*s.svc.%.*s", KL_PRI(ns), KL_PRI(domain)));
            add(&searches, kl_arena_printf(a, "svc.%.*s", KL_PRI(domain)));
            add(&searches, domain);
        }
        add(&options, KL_STR("ndots:5"));
    }
    for (size_t i = 0; !cluster && i < host.n_servers; i++)
        add(&servers, host.servers[i]);
    for (size_t i = 0; i < host.n_searches; i++)
        add(&searches, host.searches[i]);
    for (size_t i = 0; !cluster && i < host.n_options; i++)
        add(&options, host.options[i]);
    const struct kl_value *own = kl_get(spec, KL_F_dnsConfig);
    for (KL_EACH(v, kl_get(own, KL_F_nameservers)))
        add(&servers, kl_text(v));
    for (KL_EACH(v, kl_get(own, KL_F_searches)))
        add(&searches, kl_text(v));
    for (KL_EACH(v, kl_get(own, KL_F_options))) {
        struct kl_str name = kl_text_at(v, KL_F_name), value = kl_text_at(v, KL_F_value);
        struct kl_str o =
            value.n ? kl_arena_printf(a, "%.*s:%.*s", KL_PRI(name), KL_PRI(value)) : name;
        size_t i = 0;
        while (i < options.n && !kl_str_eq(option_name(options.items[i]), name))
            i++;
        if (i < options.n)
            options.items[i] = o; // the pod's own wins
        else
            add(&options, o);
    }
    give(a, &servers, &ret->servers, &ret->n_servers);
    give(a, &searches, &ret->searches, &ret->n_searches);
    give(a, &options, &ret->options, &ret->n_options);
}

struct kl_str kl_pod_hostname(const struct kl_value *pod)
{
    struct kl_str h = kl_text_at(pod, KL_F_spec, KL_F_hostname);
    if (!h.n)
        h = kl_meta_name(pod);
    if (h.n > MAX_HOSTNAME)
        h.n = MAX_HOSTNAME;
    while (h.n && (h.p[h.n - 1] == '-' || h.p[h.n - 1] == '.'))
        h.n--;
    return h;
}

struct kl_str kl_hosts_file(struct kl_arena *a, const struct kl_value *pod, struct kl_str ip,
                            struct kl_str domain, struct kl_str host)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 * 1024 * 1024);
    if (kl_true_at(pod, KL_F_spec, KL_F_hostNetwork)) {
        kl_buf_puts(&b, KL_STR("# Kubernetes-managed hosts file (host network).\n"));
        kl_buf_puts(&b, host);
    } else {
        struct kl_str name = kl_pod_hostname(pod);
        struct kl_str sub = kl_text_at(pod, KL_F_spec, KL_F_subdomain);
        kl_buf_puts(&b, KL_STR("# Kubernetes-managed hosts file.\n"
                               "127.0.0.1\tlocalhost\n"
                               "::1\tlocalhost ip6-localhost ip6-loopback\n"
                               "fe00::0\tip6-localnet\n"
                               "fe00::0\tip6-mcastprefix\n"
                               "fe00::1\tip6-allnodes\n"
                               "fe00::2\tip6-allrouters\n"));
        if (sub.n)
            kl_buf_printf(&b, "%.*s\t%.*s.%.*s.%.*s.svc.%.*s\t%.*s\n", KL_PRI(ip), KL_PRI(name),
                          KL_PRI(sub), KL_PRI(kl_meta_namespace(pod)), KL_PRI(domain),
                          KL_PRI(name));
        else
            kl_buf_printf(&b, "%.*s\t%.*s\n", KL_PRI(ip), KL_PRI(name));
    }
    const struct kl_value *aliases = kl_path(pod, KL_F_spec, KL_F_hostAliases);
    if (kl_len(aliases))
        kl_buf_puts(&b, KL_STR("\n# Entries added by HostAliases.\n"));
    for (KL_EACH(alias, aliases)) {
        kl_buf_puts(&b, kl_text_at(alias, KL_F_ip));
        for (KL_EACH(h, kl_get(alias, KL_F_hostnames)))
            kl_buf_printf(&b, "\t%.*s", KL_PRI(kl_text(h)));
        kl_buf_putc(&b, '\n');
    }
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

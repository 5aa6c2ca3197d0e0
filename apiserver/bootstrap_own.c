// SPDX-License-Identifier: Apache-2.0
// Well-known objects that say what this server was started with.
#include "apiserver/bootstrap_int.h"
#include "apiserver/auth/auth.h"
#include "apiserver/pki.h"
#include <arpa/inet.h>
#include <stdio.h>

bool kl_first_address(const char *cidr, char ret[64], bool *ret_v6)
{
    unsigned char ip[16];
    char text[64];
    const char *slash = cidr ? strchr(cidr, '/') : NULL;
    size_t n = slash ? (size_t)(slash - cidr) : 0;
    int64_t bits;
    struct kl_str rest = kl_str(slash ? slash + 1 : ""), first;
    if (!n || n >= sizeof text || !kl_str_split(&rest, ',', &first) || !kl_str_to_i64(first, &bits))
        return false;
    memcpy(text, cidr, n);
    text[n] = 0;
    *ret_v6 = strchr(text, ':') != NULL;
    int bytes = *ret_v6 ? 16 : 4, family = *ret_v6 ? AF_INET6 : AF_INET;
    if (bits < 0 || bits >= bytes * 8 || inet_pton(family, text, ip) != 1)
        return false;
    for (int i = 0; i < bytes * 8; i++)
        if (i >= bits)
            ip[i / 8] &= (unsigned char)~(0x80 >> (i % 8));
    for (int i = bytes; i-- && !++ip[i];)
        ; // plus one, with carry
    return inet_ntop(family, ip, ret, 64) != NULL;
}

static int port_of(const struct kl_apiserver *s)
{
    return s->http ? kl_apiserver_port(s) : s->o.port; // without a listener only in tests
}

static void add(struct kl_bootstrap_row *rows, size_t *n, uint16_t res, enum kl_boot_mode mode,
                struct kl_str json)
{
    if (json.p)
        rows[(*n)++] = (struct kl_bootstrap_row){res, (uint8_t)mode, json.p};
}

static void add_service(struct kl_apiserver *s, struct kl_arena *a, struct kl_bootstrap_row *rows,
                        size_t *n)
{
    char ip[64];
    bool v6;
    if (!kl_first_address(s->o.service_cidr, ip, &v6))
        return;
    const char *family = v6 ? "IPv6" : "IPv4";
    int node_port = s->o.settings->kubernetes_service_node_port;
    struct kl_str exposed =
        node_port > 0 ? kl_arena_printf(a, ",\"nodePort\":%d", node_port) : KL_STR("");
    struct kl_str second = kl_str(s->o.service_cidr), cidr;
    kl_str_split(&second, ',', &cidr);
    add(rows, n, KL_RES_networking_v1_servicecidrs, KL_BOOT_CREATE,
        kl_arena_printf(a,
                        "{\"metadata\":{\"name\":\"kubernetes\",\"finalizers\":["
                        "\"networking.k8s.io/service-cidr-finalizer\"]},"
                        "\"spec\":{\"cidrs\":[\"%.*s\"%s%.*s%s]},"
                        "\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\","
                        "\"reason\":\"\",\"message\":\"Kubernetes Service CIDR is ready\"}]}}",
                        KL_PRI(cidr), second.n ? ",\"" : "", KL_PRI(second), second.n ? "\"" : ""));
    add(rows, n, KL_RES_networking_v1_ipaddresses, KL_BOOT_CREATE,
        kl_arena_printf(a,
                        "{\"metadata\":{\"name\":\"%s\",\"labels\":{"
                        "\"ipaddress.kubernetes.io/ip-family\":\"%s\","
                        "\"ipaddress.kubernetes.io/managed-by\":\"ipallocator.k8s.io\"}},"
                        "\"spec\":{\"parentRef\":{\"resource\":\"services\","
                        "\"namespace\":\"default\",\"name\":\"kubernetes\"}}}",
                        ip, family));
    add(rows, n, KL_RES_core_v1_services, KL_BOOT_SERVICE,
        kl_arena_printf(
            a,
            "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\","
            "\"labels\":{\"component\":\"apiserver\",\"provider\":\"kubernetes\"}},"
            "\"spec\":{\"ports\":[{\"name\":\"https\",\"protocol\":\"TCP\",\"port\":443,"
            "\"targetPort\":%d%.*s}],\"clusterIP\":\"%s\",\"clusterIPs\":[\"%s\"],"
            "\"type\":\"%s\",\"sessionAffinity\":\"None\","
            "\"ipFamilies\":[\"%s\"],\"ipFamilyPolicy\":\"SingleStack\","
            "\"internalTrafficPolicy\":\"Cluster\"},\"status\":{\"loadBalancer\":{}}}",
            port_of(s), KL_PRI(exposed), ip, ip, node_port > 0 ? "NodePort" : "ClusterIP", family));
}

// Servers on one port make one subset; which ports there are decides nothing else.
static struct kl_str subsets_of(struct kl_arena *a, const struct kl_api_endpoint *v, size_t n)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    for (size_t i = 0; i < n; i++) {
        bool first = !i || v[i].port != v[i - 1].port,
             last = i + 1 == n || v[i].port != v[i + 1].port;
        kl_buf_printf(&b, "%s{\"ip\":\"%s\"}",
                      first ? i ? ",{\"addresses\":[" : "{\"addresses\":[" : ",", v[i].ip);
        if (last)
            kl_buf_printf(&b,
                          "],\"ports\":[{\"name\":\"https\",\"port\":%d,\"protocol\":\"TCP\"}]}",
                          v[i].port);
    }
    struct kl_str s = b.err ? (struct kl_str){NULL, 0} : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

// A slice has one list of ports and one family: that of the first server and those like it.
static struct kl_str slice_of(struct kl_arena *a, const struct kl_api_endpoint *v, size_t n)
{
    struct kl_buf b;
    bool v6 = strchr(v[0].ip, ':');
    kl_buf_init(&b, 64 * 1024);
    for (size_t i = 0; i < n; i++)
        if (v[i].port == v[0].port && !strchr(v[i].ip, ':') == !v6)
            kl_buf_printf(&b, "%s{\"addresses\":[\"%s\"],\"conditions\":{\"ready\":true}}",
                          i ? "," : "", v[i].ip);
    struct kl_str s = b.err ? (struct kl_str){NULL, 0} : kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

static void add_endpoints(struct kl_apiserver *s, struct kl_arena *a, struct kl_bootstrap_row *rows,
                          size_t *n)
{
    const char *ip = s->o.advertise_address;
    unsigned char raw[16];
    if (!strcmp(s->o.settings->endpoint_reconciler_type, "none") || !ip ||
        (inet_pton(AF_INET6, ip, raw) != 1 && inet_pton(AF_INET, ip, raw) != 1))
        return;
    struct kl_api_endpoint own = {.port = port_of(s)};
    snprintf(own.ip, sizeof own.ip, "%s", ip);
    const struct kl_api_endpoint *v = s->nendpoints ? s->endpoints : &own;
    size_t nv = s->nendpoints ? s->nendpoints : 1;
    struct kl_str subsets = subsets_of(a, v, nv), slice = slice_of(a, v, nv);
    if (!subsets.p || !slice.p)
        return;
    add(rows, n, KL_RES_core_v1_endpoints, KL_BOOT_DATA,
        kl_arena_printf(a,
                        "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\","
                        "\"labels\":{\"endpointslice.kubernetes.io/skip-mirror\":\"true\"}},"
                        "\"subsets\":[%s]}",
                        subsets.p));
    add(rows, n, KL_RES_discovery_v1_endpointslices, KL_BOOT_DATA,
        kl_arena_printf(a,
                        "{\"metadata\":{\"name\":\"kubernetes\",\"namespace\":\"default\","
                        "\"labels\":{\"kubernetes.io/service-name\":\"kubernetes\"}},"
                        "\"addressType\":\"%s\",\"endpoints\":[%s],\"ports\":[{\"name\":\"https\","
                        "\"protocol\":\"TCP\",\"port\":%d}]}",
                        strchr(v[0].ip, ':') ? "IPv6" : "IPv4", slice.p, v[0].port));
}

size_t kl_bootstrap_endpoint_rows(struct kl_apiserver *s, struct kl_arena *a,
                                  struct kl_bootstrap_row ret[KL_BOOT_MAX_OWN])
{
    size_t n = 0;
    add_endpoints(s, a, ret, &n);
    return n;
}

static void add_client_ca(struct kl_apiserver *s, struct kl_arena *a, struct kl_bootstrap_row *rows,
                          size_t *n)
{
    struct kl_buf b;
    kl_buf_init(&b, 4 << 20);
    kl_buf_puts(&b, KL_STR("{\"metadata\":{\"name\":\"extension-apiserver-authentication\","
                           "\"namespace\":\"kube-system\"},\"data\":{\"client-ca-file\":"));
    kl_json_write_string(&b, s->o.pki->client_ca);
    kl_authn_request_headers(s, &b);
    kl_buf_puts(&b, KL_STR("}}"));
    if (!b.err)
        add(rows, n, KL_RES_core_v1_configmaps, KL_BOOT_DATA, kl_arena_dup(a, kl_buf_str(&b)));
    kl_buf_fini(&b);
}

// The role of a controller that runs behind the gate GenericWorkload (rbac/bootstrappolicy).
static void add_group_roles(struct kl_apiserver *s, struct kl_arena *a,
                            struct kl_bootstrap_row *rows, size_t *n)
{
    static const char meta[] =
        "{\"metadata\":{\"name\":\"system:controller:podgroup-protection-controller\","
        "\"labels\":{\"kubernetes.io/bootstrapping\":\"rbac-defaults\"},"
        "\"annotations\":{\"rbac.authorization.kubernetes.io/autoupdate\":\"true\"}},";
    if (!kl_gate_named_on(&s->gates, "GenericWorkload"))
        return;
    add(rows, n, KL_RES_rbac_v1_clusterroles, KL_BOOT_ROLE,
        kl_arena_printf(a,
                        "%s\"rules\":[{\"apiGroups\":[\"scheduling.k8s.io\"],"
                        "\"resources\":[\"podgroups\"],"
                        "\"verbs\":[\"get\",\"list\",\"update\",\"watch\"]},"
                        "{\"apiGroups\":[\"\"],\"resources\":[\"pods\"],"
                        "\"verbs\":[\"get\",\"list\",\"watch\"]}]}",
                        meta));
    add(rows, n, KL_RES_rbac_v1_clusterrolebindings, KL_BOOT_BINDING,
        kl_arena_printf(a,
                        "%s\"roleRef\":{\"apiGroup\":\"rbac.authorization.k8s.io\","
                        "\"kind\":\"ClusterRole\","
                        "\"name\":\"system:controller:podgroup-protection-controller\"},"
                        "\"subjects\":[{\"kind\":\"ServiceAccount\","
                        "\"name\":\"podgroup-protection-controller\","
                        "\"namespace\":\"kube-system\"}]}",
                        meta));
}

size_t kl_bootstrap_own_rows(struct kl_apiserver *s, struct kl_arena *a,
                             struct kl_bootstrap_row ret[KL_BOOT_MAX_OWN])
{
    size_t n = 0;
    add_service(s, a, ret, &n);
    if (!s->o.roster) // else they are all servers', roster.c
        add_endpoints(s, a, ret, &n);
    if (s->o.pki)
        add_client_ca(s, a, ret, &n);
    add_group_roles(s, a, ret, &n);
    return n;
}

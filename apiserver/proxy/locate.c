// SPDX-License-Identifier: Apache-2.0
// [SCHEME:]NAME[:PORT] to an address: registry/core/{pod,service,node} ResourceLocation.
#include "apiserver/proxy/proxy_int.h"
#include "apiserver/service.h"
#include "apiserver/settings.h"
#include <arpa/inet.h>
#include <inttypes.h>

enum { KUBELET_PORT = 10250 };

struct asked {
    struct kl_str scheme, name, port;
};

// net.SplitSchemeNamePort
static bool split(struct kl_str id, struct asked *ret)
{
    struct kl_str parts[3] = {0};
    size_t n = 0;
    while (n < 3) {
        ptrdiff_t colon = kl_str_chr(id, ':');
        parts[n] = id;
        if (colon >= 0)
            parts[n].n = (size_t)colon;
        n++;
        if (colon < 0)
            break;
        if (n == 3)
            return false;
        id = kl_str_from(id, (size_t)colon + 1);
    }
    *ret = n == 3   ? (struct asked){parts[0], parts[1], parts[2]}
           : n == 2 ? (struct asked){KL_STR(""), parts[0], parts[1]}
                    : (struct asked){KL_STR(""), parts[0], KL_STR("")};
    return ret->name.n &&
           (!ret->scheme.n || kl_str_eqz(ret->scheme, "http") || kl_str_eqz(ret->scheme, "https"));
}

static int fail_request(struct kl_req *r, const char *what)
{
    kl_fail_bad(r, "invalid %s request \"%.*s\"", what, KL_PRI(r->info.name));
    return KL_EBADREQUEST;
}

// IPv4 is mapped.
static bool read_ip(struct kl_str ip, struct in6_addr *ret)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (!ip.n || ip.n >= sizeof text)
        return false;
    memcpy(text, ip.p, ip.n);
    if (inet_pton(AF_INET6, text, ret) == 1)
        return true;
    memset(ret, 0, 10);
    memset(ret->s6_addr + 10, 0xff, 2);
    return inet_pton(AF_INET, text, ret->s6_addr + 12) == 1;
}

// net.IP.IsGlobalUnicast: what is nobody's own and nobody's group.
static bool is_global_unicast(struct kl_str ip)
{
    struct in6_addr a;
    uint32_t v;
    if (!read_ip(ip, &a))
        return false;
    if (!IN6_IS_ADDR_V4MAPPED(&a))
        return !IN6_IS_ADDR_UNSPECIFIED(&a) && !IN6_IS_ADDR_LOOPBACK(&a) &&
               !IN6_IS_ADDR_MULTICAST(&a) && !IN6_IS_ADDR_LINKLOCAL(&a);
    memcpy(&v, a.s6_addr + 12, sizeof v);
    v = ntohl(v);
    return v && v != UINT32_MAX && v >> 24 != 127 && v >> 28 != 14 && v >> 16 != 0xa9fe;
}

static int check_address(struct kl_req *r, struct kl_str ip)
{
    if (is_global_unicast(ip))
        return 0;
    kl_fail_bad(r, "address not allowed");
    return KL_EBADREQUEST;
}

// For programs whose names cannot be verified: they are reached by address.
static int any_tls(struct kl_req *r, struct kl_tls_ctx **ret)
{
    struct kl_error err;
    struct kl_tls_client_opts o = {.insecure_skip_verify = true};
    int rc = r->al->proxy_tls ? 0 : kl_tls_client_new(&o, &r->al->proxy_tls, &err);
    if (rc)
        kl_fail_err(r, &err);
    *ret = r->al->proxy_tls;
    return rc;
}

static int fill(struct kl_req *r, const struct asked *q, struct kl_str ip,
                struct kl_proxy_target *ret)
{
    bool v6 = kl_str_chr(ip, ':') >= 0;
    ret->host = kl_arena_dup(r->arena, ip);
    ret->authority = q->port.n ? kl_arena_printf(r->arena, v6 ? "[%.*s]:%.*s" : "%.*s:%.*s",
                                                 KL_PRI(ip), KL_PRI(q->port))
                               : kl_arena_printf(r->arena, v6 ? "[%.*s]" : "%.*s", KL_PRI(ip));
    if (ret->host.p && ret->authority.p)
        return 0;
    kl_fail_oom(r);
    return KL_ENOMEM;
}

// To where was said, with the scheme that was said. `what` names the kind for a port that is none;
// upstream runs into a panic there.
static int fill_plain(struct kl_req *r, const struct asked *q, struct kl_str ip, const char *what,
                      struct kl_proxy_target *ret)
{
    bool https = kl_str_eqz(q->scheme, "https");
    uint64_t port = https ? 443 : 80;
    int rc;
    for (size_t i = 0; i < q->port.n; i++)
        if (q->port.p[i] < '0' || q->port.p[i] > '9')
            return fail_request(r, what);
    if (q->port.n && (!kl_str_to_u64(q->port, &port) || port > UINT16_MAX)) {
        kl_fail_set(r, 503, "ServiceUnavailable",
                    "error trying to reach service: dial tcp: address %.*s: invalid port",
                    KL_PRI(q->port));
        return KL_EUNAVAILABLE;
    }
    ret->port = (int)port;
    ret->tls = NULL;
    if (https && (rc = any_tls(r, &ret->tls)))
        return rc;
    return fill(r, q, ip, ret);
}

// ---- pods

static struct kl_str first_port(struct kl_req *r, const struct kl_value *pod)
{
    for (KL_EACH(c, kl_path(pod, KL_F_spec, KL_F_containers))) {
        const struct kl_value *p = kl_at(kl_get(c, KL_F_ports), 0);
        if (p)
            return kl_arena_printf(r->arena, "%d", (int)kl_int_at(p, 0, KL_F_containerPort));
    }
    return KL_STR("");
}

static int locate_pod(struct kl_req *r, struct kl_proxy_target *ret)
{
    struct asked q;
    int rc;
    if (!split(r->info.name, &q))
        return fail_request(r, "pod");
    struct kl_object *pod = kl_api_object(r->al, r->arena, KL_RES_core_v1_pods, r->info.ns, q.name);
    if (!pod) {
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("pods"), q.name);
        return KL_ENOTFOUND;
    }
    if (!q.port.n)
        q.port = first_port(r, &pod->root);
    struct kl_str ip =
        kl_text(kl_get(kl_at(kl_path(&pod->root, KL_F_status, KL_F_podIPs), 0), KL_F_ip));
    if ((rc = check_address(r, ip)))
        return rc;
    return fill_plain(r, &q, ip, "pod", ret);
}

// ---- services

static int locate_service(struct kl_req *r, struct kl_proxy_target *ret)
{
    struct asked q;
    struct kl_service_end e;
    struct kl_error err;
    int64_t number = 0;
    if (!split(r->info.name, &q))
        return fail_request(r, "service");
    if (q.port.n > 1 && q.port.p[0] == '+' && q.port.p[1] != '-') // a number to Go
        q.port = kl_str_from(q.port, 1);
    kl_str_to_i64(q.port, &number);
    int rc = kl_service_find_pod(r->al, r->arena, r->info.ns, q.name, q.port, &e, &err);
    if (rc == KL_ENOMEM) {
        kl_fail_oom(r);
        return rc;
    }
    // Nobody has said where it is; upstream says of the Endpoints that it looks for what was asked
    // for, a service.
    bool selects = kl_len(kl_path(e.service ? &e.service->root : NULL, KL_F_spec, KL_F_selector));
    if (e.state == KL_SERVICE_ABSENT || (e.state == KL_SERVICE_NO_SLICES && !selects)) {
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("services"), q.name);
        return KL_ENOTFOUND;
    }
    if (e.state == KL_SERVICE_NO_PORT)
        kl_fail_set(r, 503, "ServiceUnavailable",
                    "no service port %" PRId64 " found for service \"%.*s\"", number,
                    KL_PRI(q.name));
    else if (rc) // a service without a single endpoint is named, else what was asked for
        kl_fail_set(r, 503, "ServiceUnavailable", "no endpoints available for service \"%.*s\"",
                    KL_PRI(e.state == KL_SERVICE_NO_SLICES ? q.name : r->info.name));
    if (rc)
        return rc;
    q.port = kl_arena_printf(r->arena, "%d", e.port);
    return fill_plain(r, &q, e.host, "service", ret);
}

// ---- nodes

// The first of the types that are preferred. Names are passed over: nothing here looks them up.
static struct kl_str node_address(struct kl_req *r, const struct kl_value *node)
{
    const char *const *type = r->srv->o.settings->kubelet_preferred_address_types;
    struct in6_addr ip;
    for (; type && *type; type++) {
        for (KL_EACH(x, kl_path(node, KL_F_status, KL_F_addresses))) {
            struct kl_str address = kl_text(kl_get(x, KL_F_address));
            if (kl_str_eqz(kl_text(kl_get(x, KL_F_type)), *type) && read_ip(address, &ip))
                return address;
        }
    }
    return KL_STR("");
}

// nodeutil.NoMatchError
static int fail_no_address(struct kl_req *r, const struct kl_value *node)
{
    struct kl_buf b;
    bool first = true;
    kl_buf_init(&b, 64 * 1024);
    for (KL_EACH(x, kl_path(node, KL_F_status, KL_F_addresses))) {
        kl_buf_printf(&b, "%s{%.*s %.*s}", first ? "" : " ", KL_PRI(kl_text(kl_get(x, KL_F_type))),
                      KL_PRI(kl_text(kl_get(x, KL_F_address))));
        first = false;
    }
    kl_fail_set(r, 500, "", "no preferred addresses found; known addresses: [%.*s]",
                KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return KL_EINTERNAL;
}

int kl_node_kubelet(struct kl_req *r, const struct kl_value *node, struct kl_str *ret_address,
                    int *ret_port)
{
    struct kl_str address = node_address(r, node);
    int64_t port =
        kl_int_at(node, 0, KL_F_status, KL_F_daemonEndpoints, KL_F_kubeletEndpoint, KL_F_Port);
    if (!address.n)
        return fail_no_address(r, node);
    *ret_address = address;
    *ret_port = port > 0 ? (int)port : KUBELET_PORT;
    return 0;
}

static int locate_node(struct kl_req *r, struct kl_proxy_target *ret)
{
    struct asked q;
    struct kl_str ip;
    uint64_t asked = 0;
    int rc, port;
    if (!split(r->info.name, &q))
        return fail_request(r, "node");
    struct kl_object *node =
        kl_api_object(r->al, r->arena, KL_RES_core_v1_nodes, KL_STR(""), q.name);
    if (!node) {
        kl_fail_not_found_of(r, KL_STR(""), KL_STR("nodes"), q.name);
        return KL_ENOTFOUND;
    }
    if ((rc = kl_node_kubelet(r, &node->root, &ip, &port)) || (rc = check_address(r, ip)))
        return rc;
    if (q.port.n && !(kl_str_to_u64(q.port, &asked) && asked == (uint64_t)port))
        return fill_plain(r, &q, ip, "node", ret);
    // The kubelet itself, whichever scheme was said.
    q.port = kl_arena_printf(r->arena, "%d", port);
    ret->port = port;
    ret->tls = r->srv->kubelet_tls;
    return fill(r, &q, ip, ret);
}

int kl_proxy_locate(struct kl_req *r, struct kl_proxy_target *ret)
{
    switch (r->info.res->index) {
    case KL_RES_core_v1_pods:
        return locate_pod(r, ret);
    case KL_RES_core_v1_services:
        return locate_service(r, ret);
    default:
        return locate_node(r, ret);
    }
}

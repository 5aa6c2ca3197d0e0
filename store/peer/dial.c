// SPDX-License-Identifier: Apache-2.0
// How a connection between two servers begins: accepted, or dialled by address or name.
#include "store/peer/peers_int.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

static struct kl_peer_link *make_link(struct kl_peers *p, enum kl_peer_link_kind kind)
{
    struct kl_peer_link *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    l->p = p;
    l->kind = kind;
    l->prev = &p->links;
    l->next = p->links;
    if (l->next)
        l->next->prev = &l->next;
    p->links = l;
    l->began_ms = l->heard_ms = l->checked_ms = kl_peers_now(p);
    if (kind == KL_LINK_ACCEPTED)
        p->greeting++;
    return l;
}

int kl_peer_link_accept(struct kl_peers *p, int fd, struct kl_error *err)
{
    struct kl_peer_link *l = make_link(p, KL_LINK_ACCEPTED);
    if (!l) {
        close(fd);
        return kl_error_set(err, KL_ENOMEM, "accept: out of memory");
    }
    int rc = kl_conn_accept(p->loop, fd, p->server_tls, 0, &kl_peer_conn_ops, l, &l->conn, err);
    if (rc) {
        l->conn = NULL;
        kl_peer_link_close(l);
        return rc;
    }
    kl_conn_set_deadline(l->conn, l->began_ms + KL_PEER_ALIVE_EVERY_MS);
    return 0;
}

static int connect_to(struct kl_peer_link *l, const struct sockaddr *sa, socklen_t n,
                      struct kl_error *err)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
    if (l->p->plain && !(sa->sa_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127))
        return kl_error_set(err, KL_EFORBIDDEN, "without TLS only addresses of this machine");
    int rc = kl_conn_connect(l->p->loop, sa, n, l->p->client_tls, NULL, true, 0, &kl_peer_conn_ops,
                             l, &l->conn, err);
    if (rc) {
        l->conn = NULL;
        return rc;
    }
    kl_conn_set_deadline(l->conn, kl_peers_now(l->p) + KL_PEER_ALIVE_EVERY_MS);
    return 0;
}

// The address number `attempt` of the name, counted round.
static const struct addrinfo *pick(const struct addrinfo *all, uintptr_t attempt)
{
    uintptr_t n = 0;
    for (const struct addrinfo *a = all; a; a = a->ai_next)
        n++;
    const struct addrinfo *a = all;
    for (uintptr_t i = n ? attempt % n : 0; i; i--)
        a = a->ai_next;
    return a;
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *all)
{
    struct kl_peer_link *l = KL_CONTAINER_OF(r, struct kl_peer_link, lookup);
    struct kl_error err;
    l->resolving = false;
    if (l->closed) {
        uv_freeaddrinfo(all);
        kl_peer_link_free(l);
        return;
    }
    const struct addrinfo *a = pick(all, (uintptr_t)r->data);
    int rc = a ? connect_to(l, a->ai_addr, a->ai_addrlen, &err)
               : kl_error_set(&err, KL_EUNAVAILABLE, "no address: %s",
                              status ? uv_strerror(status) : "no such host");
    uv_freeaddrinfo(all);
    if (rc)
        kl_peer_link_break(l, err.code, "%s", err.msg);
}

// "host:port", "[::1]:port".
static int split_address(const char *address, char *host, size_t n, const char **ret_port,
                         struct kl_error *err)
{
    const char *colon = strrchr(address, ':'), *from = address, *to = colon;
    int64_t port;
    if (colon && *from == '[' && colon[-1] == ']') {
        from++;
        to--;
    }
    if (!colon || to == from || (size_t)(to - from) >= n ||
        !kl_str_to_i64(kl_str(colon + 1), &port) || port < 1 || port > 65535)
        return kl_error_set(err, KL_EINVALID, "%s is no host:port", address);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    *ret_port = colon + 1;
    return 0;
}

// An address is tried at once, a name is looked up first; either way through the same call, which
// does not block for an address.
int kl_peer_link_dial(struct kl_peers *p, enum kl_peer_link_kind kind, uint64_t id,
                      const char *address, uint32_t attempt, struct kl_peer_link **ret,
                      struct kl_error *err)
{
    char host[KL_PEER_MAX_ADDRESS];
    const char *port = NULL;
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int rc = split_address(address, host, sizeof host, &port, err);
    if (rc)
        return rc;
    struct kl_peer_link *l = make_link(p, kind);
    if (!l)
        return kl_error_set(err, KL_ENOMEM, "dial %s: out of memory", address);
    l->peer_id = id;
    int64_t number = 0;
    kl_str_to_i64(kl_str(port), &number);
    in.sin_port = in6.sin6_port = htons((uint16_t)number);
    if (inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        rc = connect_to(l, (const struct sockaddr *)&in, sizeof in, err);
    } else if (inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        rc = connect_to(l, (const struct sockaddr *)&in6, sizeof in6, err);
    } else {
        l->lookup.data = (void *)(uintptr_t)attempt;
        int r = uv_getaddrinfo(kl_loop_uv(p->loop), &l->lookup, on_resolved, host, port, &hints);
        l->resolving = r == 0;
        if (r)
            rc = kl_error_set(err, KL_EUNAVAILABLE, "dial %s: %s", address, uv_strerror(r));
    }
    if (rc) {
        kl_peer_link_close(l);
        return rc;
    }
    *ret = l;
    return 0;
}

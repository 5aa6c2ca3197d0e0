// SPDX-License-Identifier: Apache-2.0
// Opening and closing, listening, and who is a peer.
#include "store/peer/peers_int.h"
#include "base/log.h"
#include "base/rand.h"
#include "net/listen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_PER_TURN = 16, ACCEPT_RETRY_MS = 100 };

// ---- who is a peer

struct kl_peer *kl_peer_find(struct kl_peers *p, uint64_t id)
{
    struct kl_peer *e = p->peers;
    while (e && e->id != id)
        e = e->next;
    return e;
}

struct change {
    struct kl_task task;
    struct kl_peers *p;
    uint64_t id;
    bool forget;
    char address[KL_PEER_MAX_ADDRESS];
};

static void forget_peer(struct kl_peers *p, uint64_t id)
{
    struct kl_peer **at = &p->peers;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    struct kl_peer *e = *at;
    if (!e)
        return;
    pthread_mutex_lock(&p->lock);
    *at = e->next;
    p->npeers--;
    pthread_mutex_unlock(&p->lock);
    kl_peer_free(e);
}

static void add_peer(struct kl_peers *p, const struct change *c)
{
    struct kl_peer *e = kl_peer_find(p, c->id);
    if (!e) {
        if (p->npeers == KL_PEER_MAX_PEERS || kl_peer_new(p, c->id, &e)) {
            kl_log(KL_LOG_ERROR, "peers", "not added peer=%016llx peers=%d",
                   (unsigned long long)c->id, p->npeers);
            return;
        }
        pthread_mutex_lock(&p->lock);
        e->next = p->peers;
        p->peers = e;
        p->npeers++;
        pthread_mutex_unlock(&p->lock);
    }
    kl_peer_set_address(e, c->address);
}

static void run_change(struct kl_task *t)
{
    struct change *c = KL_CONTAINER_OF(t, struct change, task);
    struct kl_peers *p = c->p;
    if (!p->closing && c->forget)
        forget_peer(p, c->id);
    else if (!p->closing)
        add_peer(p, c);
    free(c);
}

int kl_peers_set(struct kl_peers *p, uint64_t id, const char *address)
{
    if (id == p->id || !id)
        return 0; // one's own row in the list of members
    if (address && strlen(address) >= KL_PEER_MAX_ADDRESS)
        return KL_EINVALID;
    struct change *c = calloc(1, sizeof *c);
    if (!c)
        return KL_ENOMEM;
    c->task.run = run_change;
    c->p = p;
    c->id = id;
    c->forget = !address;
    snprintf(c->address, sizeof c->address, "%s", address ? address : "");
    kl_loop_post(p->loop, &c->task);
    return 0;
}

uint64_t kl_peers_id(const struct kl_peers *p)
{
    return p->id;
}

const char *kl_peers_address(const struct kl_peers *p)
{
    return p->address;
}

// ---- listening

static void on_listener(uv_poll_t *h, int status, int events);

// Who does not greet keeps nobody out: a server needs some milliseconds for it.
static void drop_oldest_stranger(struct kl_peers *p)
{
    struct kl_peer_link *oldest = NULL;
    for (struct kl_peer_link *l = p->links; l; l = l->next) // the newest comes first
        oldest = l->kind == KL_LINK_ACCEPTED ? l : oldest;
    if (oldest)
        kl_peer_link_break(oldest, KL_ETOOMANY, "too many connections that did not greet");
}

static void on_accept_retry(uv_timer_t *t)
{
    struct kl_peers *p = t->data;
    uv_poll_start(&p->listener, UV_READABLE, on_listener);
}

static void on_listener(uv_poll_t *h, int status, int events)
{
    struct kl_peers *p = h->data;
    struct kl_error err;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(p->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            kl_log(KL_LOG_WARN, "peers", "accept: %s", strerror(errno));
            uv_poll_stop(&p->listener); // it would say the same again at once
            uv_timer_start(&p->accept_retry, on_accept_retry, ACCEPT_RETRY_MS, 0);
        }
        if (fd < 0)
            return;
        if (p->greeting >= KL_PEER_MAX_GREETING)
            drop_oldest_stranger(p);
        if (kl_peer_link_accept(p, fd, &err))
            kl_log(KL_LOG_WARN, "peers", "accept: %s", err.msg);
    }
}

static int open_listener(struct kl_peers *p, const struct kl_peers_options *o, struct kl_error *err)
{
    const char *listen = o->listen_address, *host = o->advertise_address;
    if (p->plain)
        listen = "127.0.0.1";
    int rc = kl_listen_tcp(listen, o->listen_port, &p->fd, err);
    if (rc)
        return rc;
    if (!host)
        host = listen;
    if (!host || !*host || !strcmp(host, "0.0.0.0") || !strcmp(host, "::"))
        return kl_error_set(err, KL_EINVALID, "an address is needed that the other servers dial");
    size_t n = strlen(host);
    bool v6 = strchr(host, ':') != strrchr(host, ':') && *host != '[';
    bool with_port = !v6 && strchr(host, ':') && host[n - 1] != ']';
    if (n + 10 > sizeof p->address)
        return kl_error_set(err, KL_EINVALID, "%s: the address is too long", host);
    if (with_port)
        snprintf(p->address, sizeof p->address, "%s", host);
    else
        snprintf(p->address, sizeof p->address, v6 ? "[%s]:%d" : "%s:%d", host,
                 kl_listen_port(p->fd));
    int r = uv_poll_init(kl_loop_uv(p->loop), &p->listener, p->fd);
    if (r)
        return kl_error_errno(err, -r, "listen");
    p->listener.data = p;
    uv_timer_init(kl_loop_uv(p->loop), &p->accept_retry);
    p->accept_retry.data = p;
    uv_poll_start(&p->listener, UV_READABLE, on_listener);
    return 0;
}

// ---- life

void kl_peers_unref(struct kl_peers *p)
{
    if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    kl_tls_ctx_unref(p->server_tls);
    kl_tls_ctx_unref(p->client_tls);
    free(p);
}

// The contexts, made or made anew.
int kl_peers_renew(struct kl_peers *p, struct kl_tls_pem ca, struct kl_tls_pem cert,
                   struct kl_tls_pem key, struct kl_error *err)
{
    struct kl_tls_server_opts s = {
        .cert = cert, .key = key, .client_ca = ca, .mutual = true, .no_http2 = true};
    struct kl_tls_client_opts c = {
        .ca = ca, .cert = cert, .key = key, .mutual = true, .no_http2 = true};
    if (p->plain)
        return 0;
    int rc = p->server_tls ? kl_tls_ctx_reload_server(p->server_tls, &s, err)
                           : kl_tls_server_new(&s, &p->server_tls, err);
    if (rc)
        return rc;
    return p->client_tls ? kl_tls_ctx_reload_client(p->client_tls, &c, err)
                         : kl_tls_client_new(&c, &p->client_tls, err);
}

int kl_peers_open(const struct kl_peers_options *o, struct kl_peers **ret_p, struct kl_error *err)
{
    if (!o->id)
        return kl_error_set(err, KL_EINVALID, "peers: a server's id is not 0");
    struct kl_peers *p = calloc(1, sizeof *p);
    if (!p)
        return kl_error_set(err, KL_ENOMEM, "peers: out of memory");
    atomic_init(&p->refs, 1);
    p->id = o->id;
    p->cluster_id = o->cluster_id;
    p->boot = kl_rand_u64();
    p->plain = o->insecure_loopback;
    p->unnamed = o->unnamed;
    p->fd = -1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->idle, NULL);
    int rc = kl_peers_renew(p, o->ca, o->cert, o->key, err);
    if (!rc)
        rc = kl_loop_new("peers", &p->loop, err);
    if (!rc)
        rc = open_listener(p, o, err);
    if (!rc)
        rc = kl_loop_start(p->loop, err);
    if (rc) {
        kl_error_wrap(err, "peers");
        kl_loop_unref(p->loop);
        if (p->fd >= 0)
            close(p->fd);
        kl_peers_unref(p);
        return rc;
    }
    *ret_p = p;
    return 0;
}

struct closing {
    struct kl_task task;
    struct kl_peers *p;
};

static void run_close(struct kl_task *t)
{
    struct kl_peers *p = KL_CONTAINER_OF(t, struct closing, task)->p;
    p->closing = true;
    uv_close((uv_handle_t *)&p->listener, NULL);
    uv_close((uv_handle_t *)&p->accept_retry, NULL);
    while (p->peers)
        forget_peer(p, p->peers->id);
    while (p->links)
        kl_peer_link_close(p->links);
}

void kl_peers_close(struct kl_peers *p)
{
    struct closing c = {.task.run = run_close, .p = p};
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->refusing = true; // no more streams, nothing more is posted to the loop
    p->serve = NULL;
    pthread_mutex_unlock(&p->lock);
    kl_loop_post(p->loop, &c.task);
    pthread_mutex_lock(&p->lock);
    while (p->nserving || p->nfetching)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
    kl_loop_stop(p->loop);
    kl_loop_unref(p->loop);
    close(p->fd);
    kl_peers_drop_receivers(p);
    kl_peers_unref(p);
}

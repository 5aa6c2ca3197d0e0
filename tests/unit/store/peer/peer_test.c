// SPDX-License-Identifier: Apache-2.0
#include "peer_test.h"
#include "base/clock.h"
#include "base/cond.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// ---- certificates

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

static X509 *make_cert(const char *cn, EVP_PKEY *key, X509 *issuer)
{
    static atomic_int serial = 1;
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), atomic_fetch_add(&serial, 1));
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x));
    return x;
}

static char *bio_text(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    char *s = strndup(p, (size_t)n);
    BIO_free(b);
    return s;
}

static char *cert_pem(X509 *x)
{
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, x);
    return bio_text(b);
}

void ca_init(struct ca *ca)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_cert("test CA", key, NULL);
    add_ext(x, x, NID_basic_constraints, "critical,CA:TRUE");
    add_ext(x, x, NID_key_usage, "critical,keyCertSign");
    X509_sign(x, key, EVP_sha256());
    *ca = (struct ca){key, x, cert_pem(x)};
}

void ca_fini(struct ca *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    free(ca->pem);
}

void ca_leaf(const struct ca *ca, const char *uri, struct leaf *ret)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_cert("a server", key, ca->cert);
    add_ext(x, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth");
    if (uri)
        add_ext(x, ca->cert, NID_subject_alt_name, uri);
    X509_sign(x, ca->key, EVP_sha256());
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    *ret = (struct leaf){cert_pem(x), bio_text(b)};
    X509_free(x);
    EVP_PKEY_free(key);
}

void leaf_fini(struct leaf *l)
{
    free(l->cert);
    free(l->key);
}

// ---- a server

static void on_message(void *arg, uint64_t from, struct kl_str msg)
{
    struct node *n = arg;
    uint64_t number = 0;
    pthread_mutex_lock(&n->lock);
    n->running++;
    while (n->gate)
        pthread_cond_wait(&n->changed, &n->lock);
    if (msg.n >= sizeof number)
        memcpy(&number, msg.p, sizeof number);
    n->disorder = n->disorder || number != n->next;
    n->next = number + 1;
    n->messages++;
    n->bytes += (long)msg.n;
    n->running--;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

static void on_state(void *arg, uint64_t id, bool connected)
{
    struct node *n = arg;
    pthread_mutex_lock(&n->lock);
    n->up = connected;
    n->ups += connected;
    n->downs += !connected;
    pthread_cond_broadcast(&n->changed);
    pthread_mutex_unlock(&n->lock);
}

void node_handle(struct node *n, bool on)
{
    struct kl_peer_handler h = {n->loop, on_message, on_state, n};
    kl_peers_handle(n->peers, KL_PEER_RAFT, on ? &h : NULL);
}

void node_open(struct node *n, uint64_t id, const struct ca *ca, uint64_t cert_id, uint64_t cluster)
{
    struct kl_error err = {0};
    struct leaf leaf = {0};
    struct kl_peers_options o = {.id = id, .cluster_id = cluster, .insecure_loopback = !ca};
    char uri[64];
    *n = (struct node){.id = id};
    pthread_mutex_init(&n->lock, NULL);
    kl_cond_init(&n->changed);
    if (ca) {
        snprintf(uri, sizeof uri, "URI:kinglet://peer/%016llx", (unsigned long long)cert_id);
        ca_leaf(ca, cert_id ? uri : NULL, &leaf);
        o.ca.pem = kl_str(ca->pem);
        o.cert.pem = kl_str(leaf.cert);
        o.key.pem = kl_str(leaf.key);
        o.listen_address = "127.0.0.1";
    }
    assert_int_equal(kl_loop_new("node", &n->loop, &err), 0);
    assert_int_equal(kl_loop_start(n->loop, &err), 0);
    int rc = kl_peers_open(&o, &n->peers, &err);
    if (rc)
        fail_msg("%s", err.msg);
    leaf_fini(&leaf);
    node_handle(n, true);
}

void node_close(struct node *n)
{
    kl_peers_close(n->peers);
    kl_loop_stop(n->loop);
    kl_loop_unref(n->loop);
    pthread_cond_destroy(&n->changed);
    pthread_mutex_destroy(&n->lock);
}

void node_wait(struct node *n, bool (*done)(struct node *n, long arg), long arg, const char *what)
{
    int left = WAIT_S;
    pthread_mutex_lock(&n->lock);
    while (!done(n, arg)) {
        // Counted in seconds that were waited: a machine that stands still for a minute takes one.
        struct timespec until = kl_cond_until(1000);
        if (pthread_cond_timedwait(&n->changed, &n->lock, &until) == ETIMEDOUT && !done(n, arg) &&
            --left < 0) {
            fail_msg("server %llx waited for %s(%ld): up %d, ups %d, downs %d, messages %ld",
                     (unsigned long long)n->id, what, arg, n->up, n->ups, n->downs, n->messages);
        }
    }
    pthread_mutex_unlock(&n->lock);
}

bool is_up(struct node *n, long ups)
{
    return n->up && n->ups >= ups;
}

bool is_down(struct node *n, long downs)
{
    return n->downs >= downs;
}

bool has_messages(struct node *n, long messages)
{
    return n->messages >= messages;
}

void node_join(struct node *a, struct node *b)
{
    int ua = a->ups, ub = b->ups;
    kl_peers_set(a->peers, b->id, kl_peers_address(b->peers));
    kl_peers_set(b->peers, a->id, kl_peers_address(a->peers));
    node_wait(a, is_up, ua + 1, "is_up");
    node_wait(b, is_up, ub + 1, "is_up");
}

int node_send(struct node *n, uint64_t to, uint64_t number, size_t bytes)
{
    struct kl_bytes *b = kl_bytes_alloc(bytes);
    assert_non_null(b);
    memset(b->p, (int)number, bytes);
    if (bytes >= sizeof number)
        memcpy(b->p, &number, sizeof number);
    int rc = kl_peers_send(n->peers, to, KL_PEER_RAFT, b);
    kl_bytes_unref(b);
    return rc;
}

// ---- the proxy: one thread, poll

enum { PAIRS = 16, PIECE = 16384 };

struct proxy {
    int fd, to, wake[2];
    char address[64];
    pthread_t thread;
    atomic_bool frozen, cut, stop;
    int pair[PAIRS][2];
};

static int loopback(int port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (port && connect(fd, (struct sockaddr *)&in, sizeof in)) {
        close(fd);
        return -1;
    }
    if (!port)
        assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in) || listen(fd, 64), 0);
    return fd;
}

static void drop_pair(struct proxy *x, int i)
{
    close(x->pair[i][0]);
    close(x->pair[i][1]);
    x->pair[i][0] = x->pair[i][1] = -1;
}

static void take_one(struct proxy *x)
{
    int from = accept(x->fd, NULL, NULL), to = loopback(x->to), i = 0;
    while (i < PAIRS && x->pair[i][0] >= 0)
        i++;
    if (to < 0 || i == PAIRS) {
        close(from);
        if (to >= 0)
            close(to);
        return;
    }
    x->pair[i][0] = from;
    x->pair[i][1] = to;
}

static bool pump_one(int from, int to)
{
    char p[PIECE];
    ssize_t n = recv(from, p, sizeof p, 0);
    for (ssize_t sent = 0; n > 0 && sent < n;) {
        ssize_t r = send(to, p + sent, (size_t)(n - sent), MSG_NOSIGNAL);
        if (r <= 0)
            return false;
        sent += r;
    }
    return n > 0;
}

static void *proxy_main(void *arg)
{
    struct proxy *x = arg;
    while (!atomic_load(&x->stop)) {
        struct pollfd f[2 + 2 * PAIRS];
        int who[2 * PAIRS], n = 2;
        char c;
        f[0] = (struct pollfd){x->wake[0], POLLIN, 0};
        f[1] = (struct pollfd){x->fd, POLLIN, 0};
        for (int i = 0; i < PAIRS && !atomic_load(&x->frozen); i++) {
            for (int k = 0; k < 2 && x->pair[i][0] >= 0; k++) {
                who[n - 2] = 2 * i + k;
                f[n++] = (struct pollfd){x->pair[i][k], POLLIN, 0};
            }
        }
        poll(f, (nfds_t)n, -1);
        if (f[0].revents && read(x->wake[0], &c, 1) < 0)
            continue;
        if (atomic_exchange(&x->cut, false)) {
            for (int i = 0; i < PAIRS; i++)
                if (x->pair[i][0] >= 0)
                    drop_pair(x, i);
            continue;
        }
        if (f[1].revents)
            take_one(x);
        for (int k = 2; k < n; k++) {
            int i = who[k - 2] / 2, side = who[k - 2] % 2;
            if (f[k].revents && x->pair[i][0] >= 0 &&
                !pump_one(x->pair[i][side], x->pair[i][!side]))
                drop_pair(x, i);
        }
    }
    return NULL;
}

static void poke(struct proxy *x)
{
    assert_int_equal(write(x->wake[1], "x", 1), 1);
}

int port_of(const char *address)
{
    return atoi(strrchr(address, ':') + 1);
}

struct proxy *proxy_open(int to_port)
{
    struct proxy *x = calloc(1, sizeof *x);
    struct sockaddr_in in;
    socklen_t n = sizeof in;
    x->to = to_port;
    x->fd = loopback(0);
    getsockname(x->fd, (struct sockaddr *)&in, &n);
    snprintf(x->address, sizeof x->address, "127.0.0.1:%d", ntohs(in.sin_port));
    for (int i = 0; i < PAIRS; i++)
        x->pair[i][0] = x->pair[i][1] = -1;
    assert_int_equal(pipe(x->wake), 0);
    pthread_create(&x->thread, NULL, proxy_main, x);
    return x;
}

const char *proxy_address(const struct proxy *x)
{
    return x->address;
}

void proxy_cut(struct proxy *x)
{
    atomic_store(&x->cut, true);
    poke(x);
}

void proxy_freeze(struct proxy *x, bool on)
{
    atomic_store(&x->frozen, on);
    poke(x);
}

void proxy_close(struct proxy *x)
{
    atomic_store(&x->stop, true);
    poke(x);
    pthread_join(x->thread, NULL);
    for (int i = 0; i < PAIRS; i++)
        if (x->pair[i][0] >= 0)
            drop_pair(x, i);
    close(x->fd);
    close(x->wake[0]);
    close(x->wake[1]);
    free(x);
}

// SPDX-License-Identifier: Apache-2.0
// The etcd v3 server: the first byte chooses the method, the rest is what a client sends as the
// call's body (frames and messages, or from 128 on JSON for the gateway). It goes through the whole
// service on a store in memory; every call ends, nothing is left of the connection, and the store's
// revision never goes back.
#include "fuzz_net.h"
#include "net/http_server.h"
#include "store/etcd/etcd_int.h"

enum { DATA_MAX = 16000, BODY_MAX = 200000 };

struct state {
    struct fuzz_net net;
    struct kl_store *store;
    struct kl_etcd *etcd;
    kl_rev rev;
    uint8_t frame[9]; // the head of the one that comes
    size_t nframe, left;
};

static const struct kl_grpc_method *const tables[] = {
    kl_etcd_kv_methods,          kl_etcd_watch_methods,    kl_etcd_lease_methods,
    kl_etcd_maintenance_methods, kl_etcd_cluster_methods,  kl_etcd_auth_methods,
    kl_etcd_lock_methods,        kl_etcd_election_methods,
};

static const char *const gateway_paths[] = {
    "/v3/kv/range",
    "/v3/kv/txn",
    "/v3/kv/put",
    "/v3/kv/deleterange",
    "/v3/watch",
    "/v3/lease/keepalive",
    "/v3/lease/grant",
    "/v3/maintenance/snapshot",
    "/v3/maintenance/alarm",
    "/v3/kv/compaction",
    "/v3/election/observe",
    "/v3/nothing",
};
enum { JSON = 128 };

static const char *method_path(size_t i)
{
    size_t n = 0;
    if (i >= JSON)
        return gateway_paths[(i - JSON) % KL_COUNT(gateway_paths)];
    for (size_t t = 0; t < KL_COUNT(tables); t++)
        for (const struct kl_grpc_method *m = tables[t]; m->path; m++)
            n++;
    i %= n + 1; // one more: none that there is
    for (size_t t = 0; t < KL_COUNT(tables); t++)
        for (const struct kl_grpc_method *m = tables[t]; m->path; m++)
            if (i-- == 0)
                return m->path;
    return "/etcdserverpb.KV/Nothing";
}

static void put_literal(struct kl_buf *b, const char *name, const char *value)
{
    kl_buf_putc(b, 0); // HPACK: without indexing, not Huffman-coded
    kl_buf_putc(b, (char)strlen(name));
    kl_buf_append(b, name, strlen(name));
    kl_buf_putc(b, (char)strlen(value));
    kl_buf_append(b, value, strlen(value));
}

static void put_frame(struct kl_buf *b, int type, int flags, int id, const void *p, size_t n)
{
    unsigned char head[9] = {(unsigned char)(n >> 16),
                             (unsigned char)(n >> 8),
                             (unsigned char)n,
                             (unsigned char)type,
                             (unsigned char)flags,
                             0,
                             0,
                             0,
                             (unsigned char)id};
    kl_buf_append(b, head, 9);
    kl_buf_append(b, p, n);
}

static void put_call(struct kl_buf *b, uint8_t method, const uint8_t *body, size_t n)
{
    struct kl_buf h;
    kl_buf_init(&h, 4096);
    put_literal(&h, ":method", "POST");
    put_literal(&h, ":scheme", "http");
    put_literal(&h, ":authority", "x");
    put_literal(&h, ":path", method_path(method));
    put_literal(&h, "content-type", method < JSON ? "application/grpc" : "application/json");
    kl_buf_append(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(b, 4, 0, 0, NULL, 0);
    put_frame(b, 1, 4, 1, h.p, h.n);
    kl_buf_fini(&h);
    for (size_t at = 0; at < n; at += DATA_MAX)
        put_frame(b, 0, 0, 1, body + at, n - at < DATA_MAX ? n - at : DATA_MAX);
    put_frame(b, 0, 1, 1, NULL, 0);
}

static void begin(struct fuzz_net *net, int fd)
{
    struct state *s = (struct state *)net;
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    struct kl_http_server *http = s->etcd->http[0];
    atomic_fetch_add(&http->workers[0].nconns, 1);
    kl_http_adopt(&http->workers[0], fd, &peer);
}

static bool over(struct fuzz_net *net)
{
    struct state *s = (struct state *)net;
    return s->etcd->http[0]->workers[0].nlive == 0;
}

// The stream has ended, or the connection: a watch never does.
static bool came(struct fuzz_net *net, const uint8_t *p, size_t n)
{
    enum { DATA, HEADERS, RST_STREAM = 3, GOAWAY = 7, END_STREAM = 1 };
    struct state *s = (struct state *)net;
    bool ended = false;
    while (n) {
        if (s->left) {
            size_t skip = s->left < n ? s->left : n;
            s->left -= skip;
            p += skip;
            n -= skip;
            continue;
        }
        s->frame[s->nframe++] = *p++;
        n--;
        if (s->nframe < sizeof(s->frame))
            continue;
        s->nframe = 0;
        s->left = (size_t)s->frame[0] << 16 | (size_t)s->frame[1] << 8 | s->frame[2];
        uint8_t type = s->frame[3];
        ended |= type == RST_STREAM || type == GOAWAY ||
                 ((type == DATA || type == HEADERS) && s->frame[4] & END_STREAM);
    }
    return ended;
}

static void start(struct state *s)
{
    struct kl_error err;
    FUZZ_CHECK(kl_loop_new("fuzz", &s->net.loop, &err) == 0, "%s", err.msg);
    FUZZ_CHECK(kl_store_open("memory://", NULL, &s->store, &err) == 0, "%s", err.msg);
    struct kl_etcd_options o = {.store = s->store, .loops = &s->net.loop, .nloops = 1};
    FUZZ_CHECK(kl_etcd_new(&o, &s->etcd, &err) == 0, "%s", err.msg);
    FUZZ_CHECK(kl_etcd_listen(s->etcd, "127.0.0.1", 0, NULL, NULL, &err) == 0, "%s", err.msg);
    s->net.begin = begin;
    s->net.over = over;
    s->net.came = came;
    s->net.patience = 200; // the store answers from another thread
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    struct kl_store_status st;
    struct kl_buf b;
    if (!s.store)
        start(&s);
    if (!size || size > BODY_MAX)
        return 0;
    atomic_store(&s.etcd->alarms, 0);
    kl_buf_init(&b, BODY_MAX * 2);
    s.nframe = s.left = 0;
    put_call(&b, data[0], data + 1, size - 1);
    fuzz_net_run(&s.net, (const uint8_t *)b.p, b.n);
    kl_buf_fini(&b);
    kl_store_status(s.store, &st);
    FUZZ_CHECK(st.rev >= s.rev && st.compact_rev <= st.rev, "revision %lld after %lld",
               (long long)st.rev, (long long)s.rev);
    s.rev = st.rev;
    return 0;
}

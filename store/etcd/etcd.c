// SPDX-License-Identifier: Apache-2.0
// The server: its listeners, its context on each loop, its end.
#include "store/etcd/cluster_int.h"
#include "store/store_int.h"
#include <stdlib.h>

enum {
    DEFAULT_REQUEST_BYTES = 1536 * 1024,
    DEFAULT_TXN_OPS = 128,
    DEFAULT_SNAPSHOT_CHUNK = 32 * 1024,
    DEFAULT_PROGRESS_MS = 10 * 60 * 1000,
    // A gRPC client keeps its connection open and silent; a slow watcher reads when it can.
    IDLE_MS = 24 * 60 * 60 * 1000,
    PROGRESS_MS = 5 * 60 * 1000,
    HEADER_BYTES = 64 * 1024, // tables of HPACK make few bytes many: no client needs a MiB of them
    // Every KeepAliveOnce of clientv3 ends with a reset, and so does every call that is given up.
    RESETS_PER_S = 100 * 1000,
    REFRESH_MS = 500,
    LONE_MEMBER_TERM = 2, // what an etcd of one member is in after its first election
};

static const struct kl_grpc_method *const service_tables[] = {
    kl_etcd_kv_methods,          kl_etcd_watch_methods,    kl_etcd_lease_methods,
    kl_etcd_maintenance_methods, kl_etcd_cluster_methods,  kl_etcd_auth_methods,
    kl_etcd_lock_methods,        kl_etcd_election_methods, NULL,
};

// ---- loops

// Headers tell the term: it may be this old.
static void refresh(struct kl_etcd_loop *l)
{
    struct kl_etcd *e = l->etcd;
    long long now = (long long)uv_now(kl_loop_uv(l->loop));
    if (now - atomic_load_explicit(&e->refreshed_ms, memory_order_relaxed) < REFRESH_MS)
        return;
    atomic_store_explicit(&e->refreshed_ms, now, memory_order_relaxed);
    kl_etcd_cluster_refresh(e);
}

static struct kl_etcd_loop *find_loop(struct kl_etcd *e, struct kl_loop *loop)
{
    for (int i = 0; i < e->o.nloops; i++)
        if (e->loops[i].loop == loop)
            return &e->loops[i];
    return NULL;
}

struct kl_etcd_loop *kl_etcd_loop_of(struct kl_grpc_rpc *c)
{
    struct kl_etcd *e = kl_etcd_of(c);
    struct kl_etcd_loop *l = find_loop(e, kl_grpc_rpc_loop(c));
    if (l->reader) {
        if (e->confirms)
            refresh(l);
        return l;
    }
    if (l->closing || kl_reader_new(e->store, &l->reader, NULL)) {
        kl_etcd_fail(c, l->closing ? KL_ECANCELED : KL_ENOMEM, NULL);
        return NULL;
    }
    kl_etcd_waiting_init(l);
    return l;
}

kl_rev kl_etcd_rev(struct kl_etcd_loop *l)
{
    return kl_view_rev(kl_reader_view(l->reader));
}

// ---- requests

static void on_request(void *arg, struct kl_http_req *r)
{
    struct kl_etcd *e = arg;
    if (kl_grpc_is(r))
        kl_grpc_serve(e->grpc, r);
    else if (e->o.no_gateway || !kl_etcd_gateway(e, r))
        kl_etcd_serve_http(e, r);
}

static void on_metrics_request(void *arg, struct kl_http_req *r)
{
    kl_etcd_serve_http(arg, r);
}

static int listen_http(struct kl_etcd *e, const char *address, int port, const char *unix_path,
                       struct kl_tls_ctx *tls, kl_http_handler handler, struct kl_error *err)
{
    if (e->nhttp == KL_ETCD_LISTENERS)
        return kl_error_set(err, KL_ELIMIT, "more than %d addresses to listen on",
                            KL_ETCD_LISTENERS);
    struct kl_http_server_opts o = {
        .loops = e->o.loops,
        .nloops = e->o.nloops,
        .address = address,
        .port = port,
        .unix_path = unix_path,
        .tls = tls,
        .handler = handler,
        .arg = e,
        .max_header_bytes = HEADER_BYTES,
        .max_resets_per_s = RESETS_PER_S,
        .max_streams = e->o.max_streams ? e->o.max_streams : INT32_MAX,
        .idle_timeout_ms = IDLE_MS,
        .progress_timeout_ms = PROGRESS_MS,
        .lenient_http2 = true,
    };
    int rc = kl_http_server_start(&o, &e->http[e->nhttp], err);
    if (!rc)
        e->nhttp++;
    return rc;
}

int kl_etcd_listen(struct kl_etcd *e, const char *address, int port, const char *unix_path,
                   struct kl_tls_ctx *tls, struct kl_error *err)
{
    return listen_http(e, address, port, unix_path, tls, on_request, err);
}

int kl_etcd_listen_metrics(struct kl_etcd *e, const char *address, int port, struct kl_tls_ctx *tls,
                           struct kl_error *err)
{
    return listen_http(e, address, port, NULL, tls, on_metrics_request, err);
}

int kl_etcd_port(const struct kl_etcd *e, int i)
{
    return i >= 0 && i < e->nhttp ? kl_http_server_port(e->http[i]) : 0;
}

// ---- begin

static char *const *copy_strings(const char *const *from)
{
    size_t n = 0;
    while (from && from[n])
        n++;
    char **to = calloc(n + 1, sizeof(*to));
    for (size_t i = 0; to && i < n; i++) {
        if (!(to[i] = strdup(from[i]))) {
            while (i--)
                free(to[i]);
            free(to);
            return NULL;
        }
    }
    return to;
}

static void free_strings(const char *const *v)
{
    for (size_t i = 0; v && v[i]; i++)
        free((char *)v[i]);
    free((void *)v);
}

static void free_etcd(struct kl_etcd *e)
{
    kl_etcd_roster_free(e);
    kl_grpc_server_free(e->grpc);
    free_strings(e->o.client_urls);
    free_strings(e->o.peer_urls);
    free((char *)e->o.name);
    free(e->o.loops);
    free(e->loops);
    free(e);
}

static int copy_options(struct kl_etcd *e, const struct kl_etcd_options *o)
{
    e->o = *o;
    e->o.name = strdup(o->name ? o->name : "default");
    e->o.client_urls = (const char *const *)copy_strings(o->client_urls);
    e->o.peer_urls = (const char *const *)copy_strings(o->peer_urls);
    e->o.loops = calloc((size_t)o->nloops, sizeof(*e->o.loops));
    e->loops = calloc((size_t)o->nloops, sizeof(*e->loops));
    if (!e->o.name || !e->o.client_urls || !e->o.peer_urls || !e->o.loops || !e->loops)
        return KL_ENOMEM;
    for (int i = 0; i < o->nloops; i++) {
        e->o.loops[i] = o->loops[i];
        e->loops[i].etcd = e;
        e->loops[i].loop = o->loops[i];
    }
    if (!e->o.max_request_bytes)
        e->o.max_request_bytes = DEFAULT_REQUEST_BYTES;
    if (!e->o.max_txn_ops)
        e->o.max_txn_ops = DEFAULT_TXN_OPS;
    if (!e->o.watch_progress_ms)
        e->o.watch_progress_ms = DEFAULT_PROGRESS_MS;
    if (!e->o.max_snapshot_chunk_bytes)
        e->o.max_snapshot_chunk_bytes = DEFAULT_SNAPSHOT_CHUNK;
    return 0;
}

int kl_etcd_new(const struct kl_etcd_options *o, struct kl_etcd **ret, struct kl_error *err)
{
    struct kl_etcd *e = calloc(1, sizeof(*e));
    if (!e || copy_options(e, o)) {
        if (e)
            free_etcd(e);
        return kl_error_set(err, KL_ENOMEM, "etcd server: out of memory");
    }
    struct kl_grpc_server_opts g = {
        .methods = service_tables,
        .arg = e,
        .max_message_bytes = e->o.max_request_bytes + KL_ETCD_GRPC_OVERHEAD,
    };
    int rc = kl_grpc_server_new(&g, &e->grpc, err);
    if (rc) {
        free_etcd(e);
        return rc;
    }
    struct kl_store_status st;
    kl_store_status(o->store, &st);
    e->store = o->store;
    e->confirms = kl_store_is_shared(o->store);
    e->cluster_id = st.cluster_id;
    e->member_id = st.member_id;
    atomic_init(&e->raft_term, LONE_MEMBER_TERM);
    atomic_init(&e->leader, st.member_id);
    atomic_init(&e->left, 0);
    atomic_init(&e->stopping, false);
    kl_etcd_header_init(e);
    kl_etcd_cluster_refresh(e);
    if (kl_etcd_roster_open(e)) {
        free_etcd(e);
        return kl_error_set(err, KL_ENOMEM, "etcd server: out of memory");
    }
    *ret = e;
    return 0;
}

// ---- end: listeners, then loops

static void finish_stop(struct kl_etcd *e)
{
    void (*done)(void *) = e->done;
    void *arg = e->done_arg;
    free_etcd(e);
    done(arg);
}

static void run_finish(struct kl_task *t)
{
    finish_stop(KL_CONTAINER_OF(t, struct kl_etcd, stop_task));
}

static void loop_closed(struct kl_etcd *e)
{
    if (atomic_fetch_sub(&e->left, 1) == 1) {
        e->stop_task.run = run_finish;
        kl_loop_post(e->o.loops[0], &e->stop_task);
    }
}

static void timer_closed(uv_handle_t *h)
{
    struct kl_etcd_loop *l = h->data;
    loop_closed(l->etcd);
}

// No call is left: the listeners are gone, which waits for all references.
static void close_loop(struct kl_task *t)
{
    struct kl_etcd_loop *l = KL_CONTAINER_OF(t, struct kl_etcd_loop, close_task);
    l->closing = true;
    if (!l->reader) {
        loop_closed(l->etcd);
        return;
    }
    kl_etcd_watch_loop_close(l);
    kl_reader_close(l->reader);
    l->reader = NULL;
    kl_etcd_waiting_close(l, timer_closed);
}

static void close_loops(struct kl_etcd *e)
{
    int n = e->o.nloops;
    atomic_store(&e->left, n);
    for (int i = 0; i < n; i++) {
        e->loops[i].close_task.run = close_loop;
        kl_loop_post(e->loops[i].loop, &e->loops[i].close_task);
    }
}

static void listener_stopped(void *arg)
{
    struct kl_etcd *e = arg;
    if (atomic_fetch_sub(&e->left, 1) == 1)
        close_loops(e);
}

static void end_streams(struct kl_task *t)
{
    struct kl_etcd_loop *l = KL_CONTAINER_OF(t, struct kl_etcd_loop, end_task);
    kl_etcd_watch_loop_end(l);
    kl_etcd_line_loop_end(l);
    kl_etcd_observe_loop_end(l);
}

static void run_stop(struct kl_task *t)
{
    struct kl_etcd *e = KL_CONTAINER_OF(t, struct kl_etcd, stop_task);
    int n = e->nhttp;
    if (!n) {
        close_loops(e);
        return;
    }
    atomic_store(&e->left, n);
    for (int i = 0; i < n; i++)
        kl_http_server_stop(e->http[i], e->deadline_ms, listener_stopped, e);
    for (int i = 0; i < e->o.nloops; i++) {
        e->loops[i].end_task.run = end_streams;
        kl_loop_post(e->loops[i].loop, &e->loops[i].end_task);
    }
}

void kl_etcd_stop(struct kl_etcd *e, uint32_t deadline_ms, void (*done)(void *arg), void *arg)
{
    atomic_store(&e->stopping, true);
    kl_etcd_roster_close(e);
    e->deadline_ms = deadline_ms;
    e->done = done;
    e->done_arg = arg;
    e->stop_task.run = run_stop;
    kl_loop_post(e->o.loops[0], &e->stop_task);
}

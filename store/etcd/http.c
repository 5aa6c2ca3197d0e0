// SPDX-License-Identifier: Apache-2.0
// What etcd serves beside gRPC (server/etcdserver/api/etcdhttp).
#include "store/etcd/cluster_int.h"
#include "base/metrics.h"
#include <stdio.h>

enum { MAX_METRICS_BYTES = 8 << 20 };

static const struct kl_http_header json_type[] = {
    KL_HTTP_HEADER("content-type", "application/json")};
static const struct kl_http_header text_type[] = {
    KL_HTTP_HEADER("content-type", "text/plain; charset=utf-8")};
static const struct kl_http_header metrics_type[] = {
    KL_HTTP_HEADER("content-type", "text/plain; version=0.0.4; charset=utf-8")};

static const char *unhealthy_reason(struct kl_etcd *e)
{
    struct kl_store_status st;
    kl_store_status(e->store, &st);
    if (atomic_load(&e->stopping))
        return "SERVER STOPPED";
    if (st.disk_full || kl_etcd_alarms(e) & 1u << KL_ALARM_NOSPACE)
        return "ALARM NOSPACE";
    if (kl_etcd_alarms(e) & 1u << KL_ALARM_CORRUPT)
        return "ALARM CORRUPT";
    kl_etcd_cluster_refresh(e);
    if (!atomic_load(&e->leader))
        return "RAFT NO LEADER";
    return st.last_error ? "BACKEND ERROR" : NULL;
}

static void serve_health(struct kl_etcd *e, struct kl_http_req *r)
{
    const char *why = unhealthy_reason(e);
    struct kl_str body =
        kl_arena_printf(kl_http_req_arena(r), "{\"health\":\"%s\",\"reason\":\"%s\"}",
                        why ? "false" : "true", why ? why : "");
    kl_http_respond(r, why ? 503 : 200, json_type, 1, body.p ? body : KL_STR(""));
}

static void serve_version(struct kl_etcd *e, struct kl_http_req *r)
{
    kl_http_respond(r, 200, json_type, 1,
                    KL_STR("{\"etcdserver\":\"" KL_ETCD_VERSION
                           "\",\"etcdcluster\":\"" KL_ETCD_CLUSTER_VERSION
                           "\",\"storage\":\"" KL_ETCD_CLUSTER_VERSION "\"}"));
}

static void put_gauge(struct kl_buf *b, const char *name, const char *label, const char *value,
                      int64_t n)
{
    kl_buf_printf(b, "# TYPE %s gauge\n%s", name, name);
    if (label)
        kl_buf_printf(b, "{%s=\"%s\"}", label, value);
    kl_buf_printf(b, " %lld\n", (long long)n);
}

// Who this is, and the quota that dashboards measure the size by, if there is one.
static void put_identity(struct kl_etcd *e, struct kl_buf *b)
{
    char id[24];
    snprintf(id, sizeof(id), "%llx", (unsigned long long)e->member_id);
    kl_etcd_cluster_refresh(e);
    put_gauge(b, "etcd_server_id", "server_id", id, 1);
    put_gauge(b, "etcd_server_version", "server_version", KL_ETCD_VERSION, 1);
    put_gauge(b, "etcd_cluster_version", "cluster_version", KL_ETCD_CLUSTER_MINOR, 1);
    put_gauge(b, "etcd_server_is_learner", NULL, NULL, atomic_load(&e->is_learner));
    if (e->o.quota_bytes)
        put_gauge(b, "etcd_server_quota_backend_bytes", NULL, NULL, e->o.quota_bytes);
}

static void serve_metrics(struct kl_etcd *e, struct kl_http_req *r)
{
    struct kl_buf b;
    kl_buf_init(&b, MAX_METRICS_BYTES);
    put_identity(e, &b);
    kl_grpc_server_write_metrics(e->grpc, &b);
    kl_metrics_write(&b);
    kl_metrics_write_process(&b);
    struct kl_bytes *body = kl_bytes_from_buf(&b);
    kl_buf_fini(&b);
    if (body)
        kl_http_respond_bytes(r, 200, metrics_type, 1, body);
    else
        kl_http_respond(r, 500, text_type, 1, KL_STR("out of memory\n"));
    kl_bytes_unref(body);
}

static void serve_check(struct kl_etcd *e, struct kl_http_req *r)
{
    const char *why = unhealthy_reason(e);
    kl_http_respond(r, why ? 503 : 200, text_type, 1, why ? kl_str(why) : KL_STR("ok\n"));
}

void kl_etcd_serve_http(struct kl_etcd *e, struct kl_http_req *r)
{
    static const struct {
        const char *path;
        void (*serve)(struct kl_etcd *e, struct kl_http_req *r);
    } paths[] = {{"/health", serve_health},
                 {"/version", serve_version},
                 {"/metrics", serve_metrics},
                 {"/livez", serve_check},
                 {"/readyz", serve_check}};
    struct kl_str path = kl_http_path(r), method = kl_http_method(r);
    for (size_t i = 0; i < KL_COUNT(paths); i++) {
        if (!kl_str_eqz(path, paths[i].path))
            continue;
        if (kl_str_eqz(method, "GET") || kl_str_eqz(method, "HEAD"))
            paths[i].serve(e, r);
        else
            kl_http_respond(r, 405, text_type, 1, KL_STR("Method Not Allowed\n"));
        return;
    }
    kl_http_respond(r, 404, text_type, 1, KL_STR("404 page not found\n"));
}

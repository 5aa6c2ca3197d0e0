// SPDX-License-Identifier: Apache-2.0
#include "apiserver/metrics.h"
#include "apiserver/admission/metrics.h"
#include "apiserver/audit/audit.h"
#include "apiserver/auth/conf_watch.h"
#include "apiserver/crd/convert.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/deprecated.h"
#include "apiserver/discovery.h"
#include "apiserver/health.h"
#include "apiserver/info.h"
#include "apiserver/series.h"
#include "apiserver/server_int.h"
#include "apiserver/trace/trace.h"
#include "base/clock.h"
#include "base/metrics.h"
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

void kl_api_metrics_enter(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    r->began_ns = uv_hrtime();
    if (!r->al || kl_is_long_running(i))
        return;
    bool changes = i->is_resource && i->op != KL_VERB_GET && i->op != KL_VERB_LIST;
    r->counted = (uint8_t)(1 + changes);
    atomic_fetch_add_explicit(&r->al->inflight[changes], 1, memory_order_relaxed);
}

void kl_api_metrics_leave(struct kl_req *r)
{
    if (r->counted)
        atomic_fetch_sub_explicit(&r->al->inflight[r->counted - 1], 1, memory_order_relaxed);
    r->counted = 0;
}

void kl_api_metrics_answer(struct kl_req *r, int http, int64_t bytes)
{
    if (r->overdue) // counted
        return;
    if (r->audit)
        kl_audit_status(r, http);
    if (r->trace)
        kl_trace_answer(r, http, bytes);
    if (!r->began_ns) // refused before it was known what it is
        return;
    kl_series_request(
        r, http, kl_is_long_running(&r->info) ? -1 : (int64_t)(uv_hrtime() - r->began_ns) / 1000,
        bytes);
}

void kl_api_metrics_request(struct kl_req *r, int http)
{
    kl_api_metrics_answer(r, http, -1);
}

static void put(struct kl_buf *b, const char *name, const char *kind, const char *help)
{
    kl_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

static void put_loops(struct kl_apiserver *s, struct kl_buf *b)
{
    static const char *const bounds[] = {"0.005", "0.025", "0.1"};
    put(b, "kinglet_loop_stalls_total", "counter",
        "Iterations that kept a loop busy for longer than so many seconds");
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        const int64_t n[] = {st.over_5ms, st.over_25ms, st.over_100ms};
        for (size_t k = 0; k < KL_COUNT(bounds); k++)
            kl_buf_printf(b, "kinglet_loop_stalls_total{loop=\"%s\",over=\"%s\"} %lld\n",
                          kl_loop_name(s->loops[i].loop), bounds[k], (long long)n[k]);
    }
    put(b, "kinglet_loop_cpu_seconds_total", "counter", "CPU time of a loop's thread");
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        kl_buf_printf(b, "kinglet_loop_cpu_seconds_total{loop=\"%s\"} %.6f\n",
                      kl_loop_name(s->loops[i].loop), (double)st.cpu_us / 1e6);
    }
    put(b, "kinglet_loop_stall_max_seconds", "gauge", "The longest of them since the start");
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        kl_buf_printf(b, "kinglet_loop_stall_max_seconds{loop=\"%s\"} %.6f\n",
                      kl_loop_name(s->loops[i].loop), (double)st.max_us / 1e6);
    }
}

// How many objects there are, by the resource they are stored as.
static void put_objects(struct kl_req *r, struct kl_buf *b)
{
    put(b, "apiserver_storage_objects", "gauge",
        "[STABLE] Number of stored objects at the time of last check split by kind.");
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *res = &kl_resources[i];
        if (!res->enabled || !res->preferred || !res->etcd_prefix)
            continue;
        struct kl_str from = kl_arena_printf(r->arena, "%s/", res->etcd_prefix);
        struct kl_str to = kl_arena_printf(r->arena, "%s0", res->etcd_prefix);
        if (from.p && to.p)
            kl_buf_printf(b, "apiserver_storage_objects{resource=\"%s%s%s\"} %lld\n", res->plural,
                          *res->group ? "." : "", res->group,
                          (long long)kl_view_count(kl_req_view(r), from, to));
    }
}

static void put_storage_size(struct kl_apiserver *s, struct kl_buf *b)
{
    struct kl_store_status st;
    kl_store_status(s->o.store, &st);
    put(b, "apiserver_storage_size_bytes", "gauge",
        "[STABLE] Size of the storage database file physically allocated in bytes.");
    kl_buf_printf(b, "apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} %lld\n",
                  (long long)st.db_bytes);
}

static void put_inflight(struct kl_apiserver *s, struct kl_buf *b)
{
    static const char *const kinds[] = {"readOnly", "mutating"};
    put(b, "apiserver_current_inflight_requests", "gauge",
        "[STABLE] Number of requests that are being answered, by request kind.");
    for (int k = 0; k < 2; k++) {
        int n = 0;
        for (int i = 0; i < s->nloops; i++)
            n += atomic_load_explicit(&s->loops[i].inflight[k], memory_order_relaxed);
        kl_buf_printf(b, "apiserver_current_inflight_requests{request_kind=\"%s\"} %d\n", kinds[k],
                      n);
    }
}

static void put_features(struct kl_apiserver *s, struct kl_buf *b)
{
    static const char *const stages[] = {"ALPHA", "BETA", "", "DEPRECATED"};
    put(b, "kubernetes_feature_enabled", "gauge",
        "[BETA] This metric records the data about the stage and enablement of a k8s feature.");
    for (uint16_t i = 0; i < kl_ngates; i++)
        kl_buf_printf(b, "kubernetes_feature_enabled{name=\"%s\",stage=\"%s\"} %d\n",
                      kl_gates[i].name, stages[kl_gates[i].stage], kl_gate_on(&s->gates, i));
}

static void put_build(struct kl_apiserver *s, struct kl_buf *b)
{
    put(b, "kubernetes_build_info", "gauge",
        "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git "
        "commit, git tree state, build date, Go version, and compiler from which Kubernetes was "
        "built, and platform on which it is running.");
    kl_buf_printf(b,
                  "kubernetes_build_info{build_date=\"\",compiler=\"gcc\",git_commit=\"\","
                  "git_tree_state=\"clean\",git_version=\"%s+kinglet-%s\",go_version=\"none\","
                  "major=\"%s\",minor=\"%s\",platform=\"linux\"} 1\n",
                  KL_K8S_VERSION, s->o.version ? s->o.version : "dev", KL_K8S_MAJOR, KL_K8S_MINOR);
}

void kl_api_metrics_write(struct kl_req *r, struct kl_buf *b)
{
    struct kl_apiserver *s = r->srv;
    struct kl_http_server_stats st;
    kl_http_server_get_stats(s->http, &st);
    kl_series_write(s, b);
    kl_conversion_metrics_write(s, b);
    put_inflight(s, b);
    put_objects(r, b);
    put_storage_size(s, b);
    kl_deprecated_metrics(s, b);
    kl_health_metrics(s, b);
    put_features(s, b);
    put_build(s, b);
    put(b, "kinglet_connections", "gauge", "Open client connections");
    kl_buf_printf(b, "kinglet_connections %lld\n", (long long)st.connections);
    put_loops(s, b);
    kl_fair_metrics(s->fair, b);
    kl_audit_metrics(s->audit, b);
    kl_admit_metrics_write(s, b);
    if (s->authn)
        kl_conf_watch_metrics(s->authn, b);
    kl_tracer_metrics(s->tracer, b);
    kl_metrics_write_process(b);
    put(b, "process_start_time_seconds", "gauge", "Start time since the epoch in seconds.");
    kl_buf_printf(b, "process_start_time_seconds %.3f\n",
                  (double)(kl_wall_ms() - (kl_mono_ms() - s->started_ms)) / 1e3);
}

// ---- /debug/pprof/

static void profile_loops(struct kl_apiserver *s, struct kl_buf *b)
{
    double up = (double)(kl_mono_ms() - s->started_ms) / 1e3;
    kl_buf_printf(b, "loops, since %.1f s\n  %-16s %10s %7s %12s %8s %8s %8s %10s\n", up, "loop",
                  "CPU s", "busy", "turns", ">5ms", ">25ms", ">100ms", "longest");
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        kl_buf_printf(b, "  %-16s %10.3f %6.2f%% %12lld %8lld %8lld %8lld %8.1fms\n",
                      kl_loop_name(s->loops[i].loop), (double)st.cpu_us / 1e6,
                      up > 0 ? (double)st.cpu_us / 1e4 / up : 0, (long long)st.turns,
                      (long long)st.over_5ms, (long long)st.over_25ms, (long long)st.over_100ms,
                      (double)st.max_us / 1e3);
    }
}

// Of the process; what no loop has spent, its other threads have: the datastore's, the workers, the
// sinks of audit.
static void profile_process(struct kl_apiserver *s, struct kl_buf *b)
{
    struct rusage u;
    double all = 0, loops = 0;
    if (!getrusage(RUSAGE_SELF, &u))
        all = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
              (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        loops += (double)st.cpu_us / 1e6;
    }
    kl_buf_printf(b, "  %-16s %10.3f\n  %-16s %10.3f\n", "other threads",
                  all > loops ? all - loops : 0, "whole process", all);
}

static void put_row(struct kl_buf *b, const char *what, int64_t n)
{
    kl_buf_printf(b, "  %-34s %14lld\n", what, (long long)n);
}

static int64_t resident_bytes(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    const char *second = n > 0 ? strchr(text, ' ') : NULL;
    return second ? strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

// Parts of the heap are named where somebody counts them; the rest is connections, requests and
// what malloc keeps.
static void profile_memory(struct kl_req *r, struct kl_buf *b)
{
    struct kl_apiserver *s = r->srv;
    struct mallinfo2 m = mallinfo2();
    struct kl_store_status st;
    struct kl_http_server_stats h;
    kl_store_status(s->o.store, &st);
    kl_http_server_get_stats(s->http, &h);
    kl_buf_puts(b, KL_STR("\nmemory, bytes\n"));
    put_row(b, "resident", resident_bytes());
    put_row(b, "heap, in use", (int64_t)m.uordblks + (int64_t)m.hblkhd);
    put_row(b, "  of it mapped by itself", (int64_t)m.hblkhd);
    put_row(b, "  stored values", st.value_bytes);
    put_row(b, "  their decoded and encoded forms", st.attached_bytes);
    put_row(b, "  ring of events", st.ring_bytes);
    put_row(b, "  this request", (int64_t)r->arena->used_bytes);
    put_row(b, "heap, free", (int64_t)m.fordblks);
    put_row(b, "  could be returned", (int64_t)m.keepcost);
    put_row(b, "values in the file beside it", st.file_value_bytes);
    kl_buf_puts(b, KL_STR("\nobjects\n"));
    put_row(b, "keys", st.keys);
    put_row(b, "leases", st.leases);
    put_row(b, "watches", st.watchers);
    put_row(b, "old views held", st.held_views);
    put_row(b, "connections", h.connections);
    put_row(b, "requests in flight", h.requests_in_flight);
}

// What is stored under a resource's prefix, as stored; decoded and encoded forms come to it.
static void profile_stored(struct kl_req *r, struct kl_buf *b)
{
    kl_buf_printf(b, "\nstored\n  %-44s %10s\n", "resource", "objects");
    for (uint16_t i = 0; i < kl_nresources; i++) {
        const struct kl_resource *res = &kl_resources[i];
        if (!res->enabled || !res->preferred || !res->etcd_prefix)
            continue;
        struct kl_str from = kl_arena_printf(r->arena, "%s/", res->etcd_prefix);
        struct kl_str to = kl_arena_printf(r->arena, "%s0", res->etcd_prefix);
        long long n = from.p && to.p ? kl_view_count(kl_req_view(r), from, to) : 0;
        if (n)
            kl_buf_printf(b, "  %-44s %10lld\n", res->etcd_prefix, n);
    }
}

void kl_api_profile_write(struct kl_req *r, struct kl_buf *b)
{
    profile_loops(r->srv, b);
    profile_process(r->srv, b);
    profile_memory(r, b);
    profile_stored(r, b);
}

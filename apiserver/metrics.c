// SPDX-License-Identifier: Apache-2.0
#include "apiserver/metrics.h"
#include "apiserver/audit/audit.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "base/metrics.h"
#include <stdio.h>

static const char *const code_names[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
_Static_assert(KL_COUNT(code_names) == KL_HTTP_CLASSES, "one series for each class");

void kl_api_metrics_init(struct kl_apiserver *s)
{
    struct kl_metric *requests = s->requests;
    for (size_t i = 0; i < KL_COUNT(code_names); i++) {
        requests[i] = (struct kl_metric){.name = "apiserver_request_total",
                                         .help = "Requests answered, by class of HTTP status",
                                         .kind = KL_COUNTER,
                                         .label_name = "code",
                                         .label_value = code_names[i]};
        kl_metric_register(&requests[i]);
    }
}

void kl_api_metrics_request(const struct kl_req *r, int http)
{
    if (r->audit)
        kl_audit_status((struct kl_req *)r, http);
    int class = http / 100 - 1;
    if (class >= 0 && class < (int)KL_COUNT(code_names))
        kl_metric_add(&r->srv->requests[class], 1);
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
    put(b, "kinglet_loop_stall_max_seconds", "gauge", "The longest of them since the start");
    for (int i = 0; i < s->nloops; i++) {
        struct kl_loop_stalls st;
        kl_loop_get_stalls(s->loops[i].loop, &st);
        kl_buf_printf(b, "kinglet_loop_stall_max_seconds{loop=\"%s\"} %.6f\n",
                      kl_loop_name(s->loops[i].loop), (double)st.max_us / 1e6);
    }
}

void kl_api_metrics_write(struct kl_apiserver *s, struct kl_buf *b)
{
    struct kl_http_server_stats st;
    kl_http_server_get_stats(s->http, &st);
    put(b, "apiserver_current_inflight_requests", "gauge", "Requests that are being answered");
    kl_buf_printf(b, "apiserver_current_inflight_requests %lld\n",
                  (long long)st.requests_in_flight);
    put(b, "kinglet_connections", "gauge", "Open client connections");
    kl_buf_printf(b, "kinglet_connections %lld\n", (long long)st.connections);
    put_loops(s, b);
    kl_fair_metrics(s->fair, b);
    kl_audit_metrics(s->audit, b);
    kl_metrics_write_process(b);
    put(b, "process_start_time_seconds", "gauge", "Start time since the epoch in seconds.");
    kl_buf_printf(b, "process_start_time_seconds %.3f\n",
                  (double)(kl_wall_ms() - (kl_mono_ms() - s->started_ms)) / 1e3);
}

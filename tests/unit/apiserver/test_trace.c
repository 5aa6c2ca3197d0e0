// SPDX-License-Identifier: Apache-2.0
// Traces: the configuration, the header that leads a trace, and what a collector gets of real
// requests. The collector reads the messages with a reader of its own.
#include "apiserver/trace/trace_int.h"
#include "net/grpc_server.h"
#include "rig.h"
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

// ---- pure parts

static void test_config(void **state)
{
    (void)state;
#define V1 "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n"
    static const struct {
        const char *text, *target, *why;
        bool all;
        uint64_t below;
    } rows[] = {
        {V1, "127.0.0.1:4317", NULL, false, 0},
        {"apiVersion: apiserver.config.k8s.io/v1beta1\nkind: TracingConfiguration\n"
         "samplingRatePerMillion: 1000000\nendpoint: dns:///otel.example:4317\n",
         "otel.example:4317", NULL, true, UINT64_C(1) << 63},
        {V1 "samplingRatePerMillion: 500000\nendpoint: unix:///run/otel.sock\n",
         "unix:///run/otel.sock", NULL, false, UINT64_C(1) << 62},
        {V1 "samplingRatePerMillion: -1\n", NULL,
         "samplingRatePerMillion: Invalid value: -1: sampling rate must be positive", false, 0},
        {V1 "samplingRatePerMillion: 1000001\n", NULL,
         "samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less "
         "than or equal to one million",
         false, 0},
        {V1 "endpoint: http://localhost:4317\n", NULL, "unsupported scheme: http.  Options are",
         false, 0},
        {V1 "endPoint: a:1\n", NULL, "unknown field \"endPoint\"", false, 0},
        {"apiVersion: apiserver.config.k8s.io/v2\nkind: TracingConfiguration\n", NULL,
         "no kind \"TracingConfiguration\" is registered for version "
         "\"apiserver.config.k8s.io/v2\"",
         false, 0},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_trace_config c;
        struct kl_error err = {0};
        int rc = kl_trace_config_parse(kl_str(rows[i].text), &c, &err);
        if (rows[i].why) {
            if (!rc || !strstr(err.msg, rows[i].why))
                fail_msg("row %zu: %d \"%s\", not \"%s\"", i, rc, err.msg, rows[i].why);
            continue;
        }
        if (rc)
            fail_msg("row %zu: %s", i, err.msg);
        assert_string_equal(c.target, rows[i].target);
        assert_int_equal(c.all, rows[i].all);
        assert_true(c.below == rows[i].below);
        free(c.target);
    }
}

static void test_traceparent(void **state)
{
    (void)state;
#define IDS "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
    static const struct {
        const char *text;
        int is; // -1: none; else whether it is sampled
    } rows[] = {
        {"00-" IDS "-01", 1},
        {"00-" IDS "-00", 0},
        {"00-" IDS "-02", 0},
        {"00-" IDS "-03", -1},
        {"00-" IDS "-01-x", -1},
        {"01-" IDS "-01-x", 1},
        {"cc-" IDS "-09", 1},
        {"ff-" IDS "-01", -1},
        {"00-" IDS "-1", -1},
        {"00-" IDS, -1},
        {"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", -1},
        {"00-00000000000000000000000000000000-b7ad6b7169203331-01", -1},
        {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", -1},
        {"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", -1},
        {"", -1},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        unsigned char trace[16], span[8];
        bool sampled = false;
        bool ok = kl_traceparent_parse(kl_str(rows[i].text), trace, span, &sampled);
        if ((ok ? (int)sampled : -1) != rows[i].is)
            fail_msg("%s: %d, sampled %d", rows[i].text, ok, sampled);
        if (ok)
            assert_true(trace[0] == 0x0a && trace[15] == 0x9c && span[7] == 0x31);
    }
}

// ---- the collector

struct got {
    char trace[33], id[17], parent[17], scope[80], name[128];
    int kind;
    char *attrs; // "key=value\n" each
};
static struct {
    struct kl_loop *loop;
    struct kl_http_server *http;
    struct kl_grpc_server *grpc;
    pthread_mutex_t mu;
    struct got got[512];
    size_t n;
    char service[160];
} collector = {.mu = PTHREAD_MUTEX_INITIALIZER};

struct field {
    unsigned n, wire;
    uint64_t v;
    struct kl_str s;
};

static uint64_t read_varint(struct kl_str *in)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(in->n && shift < 64);
        unsigned char c = (unsigned char)*in->p++;
        in->n--;
        v |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return v;
    }
}

static bool next(struct kl_str *in, struct field *f)
{
    if (!in->n)
        return false;
    uint64_t tag = read_varint(in);
    size_t n = 0;
    f->n = (unsigned)(tag >> 3);
    f->wire = tag & 7;
    f->v = 0;
    if (f->wire == 0)
        f->v = read_varint(in);
    else
        n = f->wire == 1 ? 8 : f->wire == 5 ? 4 : (size_t)read_varint(in);
    assert_true(n <= in->n);
    f->s = (struct kl_str){in->p, n};
    *in = kl_str_from(*in, n);
    return true;
}

static void put_hex(char *out, size_t room, struct kl_str s)
{
    assert_true(2 * s.n < room);
    for (size_t i = 0; i < s.n; i++)
        snprintf(out + 2 * i, 3, "%02x", (unsigned char)s.p[i]);
}

static void put_text(char *out, size_t room, struct kl_str s)
{
    snprintf(out, room, "%.*s", KL_PRI(s));
}

// "key=value\n"
static void read_attr(struct kl_str in, struct kl_buf *out)
{
    struct field f, v;
    while (next(&in, &f)) {
        if (f.n == 1)
            kl_buf_printf(out, "%.*s=", KL_PRI(f.s));
        else if (f.n == 2 && next(&f.s, &v) && v.n == 1)
            kl_buf_printf(out, "%.*s\n", KL_PRI(v.s));
        else if (f.n == 2)
            kl_buf_printf(out, "%llu\n", (unsigned long long)v.v);
    }
}

static void read_span(struct kl_str in, const char *scope)
{
    struct got *g = &collector.got[collector.n];
    struct field f, e;
    struct kl_buf attrs;
    uint64_t began = 0, ended = 0;
    kl_buf_init(&attrs, 1 << 20);
    *g = (struct got){0};
    snprintf(g->scope, sizeof g->scope, "%s", scope);
    while (next(&in, &f)) {
        if (f.n == 1)
            put_hex(g->trace, sizeof g->trace, f.s);
        else if (f.n == 2)
            put_hex(g->id, sizeof g->id, f.s);
        else if (f.n == 4)
            put_hex(g->parent, sizeof g->parent, f.s);
        else if (f.n == 5)
            put_text(g->name, sizeof g->name, f.s);
        else if (f.n == 6)
            g->kind = (int)f.v;
        else if (f.n == 7)
            memcpy(&began, f.s.p, 8);
        else if (f.n == 8)
            memcpy(&ended, f.s.p, 8);
        else if (f.n == 9)
            read_attr(f.s, &attrs);
        else if (f.n == 11)
            while (next(&f.s, &e))
                if (e.n == 2)
                    kl_buf_printf(&attrs, "event=%.*s\n", KL_PRI(e.s));
    }
    assert_true(began > UINT64_C(1500000000000000000) && ended >= began);
    kl_buf_putc(&attrs, 0);
    g->attrs = attrs.p;
    assert_true(++collector.n < KL_COUNT(collector.got));
}

static void read_scope(struct kl_str in)
{
    struct field f, g;
    char scope[80] = "";
    while (next(&in, &f)) {
        if (f.n == 1 && next(&f.s, &g) && g.n == 1)
            put_text(scope, sizeof scope, g.s);
        else if (f.n == 2)
            read_span(f.s, scope);
    }
}

static void on_export(struct kl_grpc_rpc *c, struct kl_str msg)
{
    struct field rs, f, a;
    pthread_mutex_lock(&collector.mu);
    while (next(&msg, &rs))
        while (next(&rs.s, &f)) {
            if (f.n == 2) {
                read_scope(f.s);
                continue;
            }
            struct kl_buf b;
            kl_buf_init(&b, 4096);
            while (next(&f.s, &a))
                read_attr(a.s, &b);
            put_text(collector.service, sizeof collector.service, kl_buf_str(&b));
            kl_buf_fini(&b);
        }
    pthread_mutex_unlock(&collector.mu);
    kl_grpc_rpc_send_str(c, KL_STR(""));
    kl_grpc_rpc_finish(c, KL_GRPC_OK, "");
}

static const struct kl_grpc_method methods[] = {
    {.path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export", .message = on_export},
    {NULL}};

static void on_request(void *arg, struct kl_http_req *r)
{
    (void)arg;
    kl_grpc_serve(collector.grpc, r);
}

static void collector_start(void)
{
    static const struct kl_grpc_method *const tables[] = {methods, NULL};
    const struct kl_grpc_server_opts g = {.methods = tables};
    struct kl_error err = {0};
    assert_int_equal(kl_loop_new("collector", &collector.loop, &err), 0);
    assert_int_equal(kl_grpc_server_new(&g, &collector.grpc, &err), 0);
    const struct kl_http_server_opts h = {
        .loops = &collector.loop, .nloops = 1, .address = "127.0.0.1", .handler = on_request};
    if (kl_http_server_start(&h, &collector.http, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(kl_loop_start(collector.loop, &err), 0);
}

static void http_gone(void *arg)
{
    (void)arg;
    kl_loop_stop(collector.loop);
}

static void collector_stop(void)
{
    kl_http_server_stop(collector.http, 100, http_gone, NULL);
    kl_loop_join(collector.loop);
    kl_grpc_server_free(collector.grpc);
    kl_loop_unref(collector.loop);
    for (size_t i = 0; i < collector.n; i++)
        free(collector.got[i].attrs);
}

// The span of that name in the trace; waits for it.
static struct got wait_span(const char *trace, const char *name)
{
    for (int i = 0; i < 6000; i++) {
        pthread_mutex_lock(&collector.mu);
        for (size_t k = 0; k < collector.n; k++)
            if (!strcmp(collector.got[k].trace, trace) && !strcmp(collector.got[k].name, name)) {
                struct got g = collector.got[k];
                pthread_mutex_unlock(&collector.mu);
                return g;
            }
        pthread_mutex_unlock(&collector.mu);
        poll(NULL, 0, 10);
    }
    fail_msg("no span \"%s\" of trace %s came", name, trace);
    return (struct got){0};
}

static void says(const struct got *g, const char *attr)
{
    char line[256];
    snprintf(line, sizeof line, "%s\n", attr);
    const char *at = strstr(g->attrs, line);
    if (!at || (at > g->attrs && at[-1] != '\n'))
        fail_msg("span %s says nothing of \"%s\":\n%s", g->name, attr, g->attrs);
}

static void is_under(const struct got *g, const struct got *parent)
{
    if (strcmp(g->parent, parent->id))
        fail_msg("%s is under %s, not under %s %s", g->name, g->parent, parent->name, parent->id);
}

// ---- requests

static const char *write_config(const char *dir, const char *endpoint, int port)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/tracing.yaml", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, V1 "endpoint: %s:%d\nsamplingRatePerMillion: 1000000\n", endpoint, port);
    fclose(f);
    return path;
}

#define MAPS "/api/v1/namespaces/default/configmaps"
#define LED "traceparent: 00-0000000000000000000000000000000%s-00000000000000aa-%s\r\n"

static void ask(struct rig *g, const char *method, const char *path, const char *trace,
                const char *flags, const char *body, int status)
{
    char headers[128];
    struct rig_answer a;
    snprintf(headers, sizeof headers, LED, trace, flags);
    rig_request(g, method, path, headers, body, body ? strlen(body) : 0, &a);
    if (a.status != status)
        fail_msg("%s %s: %d, not %d: %s", method, path, a.status, status, a.body ? a.body : "");
    rig_answer_fini(&a);
}

// What a webhook converts: a definition with two versions, and an object read in the other one.
static void read_converted(struct rig *g, const char *trace)
{
    static const char definition[] =
        "{\"metadata\":{\"name\":\"foos.a.io\"},\"spec\":{\"group\":\"a.io\",\"scope\":\"Cluster\","
        "\"names\":{\"plural\":\"foos\",\"kind\":\"Foo\"},\"conversion\":{\"strategy\":\"Webhook\","
        "\"webhook\":{\"clientConfig\":{\"url\":\"https://127.0.0.1:1/convert\"},"
        "\"conversionReviewVersions\":[\"v1\"]}},\"versions\":["
        "{\"name\":\"v1\",\"served\":true,\"storage\":true,\"schema\":{\"openAPIV3Schema\":"
        "{\"type\":\"object\"}}},"
        "{\"name\":\"v2\",\"served\":true,\"storage\":false,\"schema\":{\"openAPIV3Schema\":"
        "{\"type\":\"object\"}}}]}}";
    struct rig_answer a;
    int status = 404;
    ask(g, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "7", "00", definition,
        201);
    for (int i = 0; status != 200 && i < 60000; i++) {
        rig_request(g, "GET", "/apis/a.io/v2/foos", "", NULL, 0, &a);
        status = a.status;
        rig_answer_fini(&a);
        if (status != 200)
            poll(NULL, 0, 10);
    }
    ask(g, "POST", "/apis/a.io/v1/foos", "7", "00",
        "{\"apiVersion\":\"a.io/v1\",\"kind\":\"Foo\",\"metadata\":{\"name\":\"x\"}}", 201);
    ask(g, "GET", "/apis/a.io/v2/foos/x", trace, "01", NULL, 500);
}

static void test_requests(void **state)
{
    (void)state;
    struct rig g;
    char dir[] = "/tmp/kinglet-trace-XXXXXX", id[34];
    struct kl_api_settings set = kl_api_settings_default;
    assert_non_null(mkdtemp(dir));
    collector_start();
    const char *path = write_config(dir, "127.0.0.1", kl_http_server_port(collector.http));
    set.tracing_config_file = path;
    rig_start_with(&g, 2, &set);
    ask(&g, "POST", MAPS, "1", "01",
        "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"}}", 201);
    ask(&g, "GET", MAPS "/a", "2", "00", NULL, 200); // led, and told not to sample
    ask(&g, "GET", MAPS "/a", "3", "01", NULL, 200);
    ask(&g, "GET", MAPS, "4", "01", NULL, 200);
    ask(&g, "GET", MAPS "/b", "5", "01", NULL, 404);
    ask(&g, "GET", "/version", "6", "01", NULL, 200);
    ask(&g, "POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", "7",
        "00",
        "{\"metadata\":{\"name\":\"h\"},\"webhooks\":[{\"name\":\"h.example.com\","
        "\"clientConfig\":{\"url\":\"https://127.0.0.1:1/\"},\"sideEffects\":\"None\","
        "\"admissionReviewVersions\":[\"v1\"],\"failurePolicy\":\"Ignore\",\"timeoutSeconds\":1,"
        "\"rules\":[{\"apiGroups\":[\"\"],\"apiVersions\":[\"v1\"],\"operations\":[\"CREATE\"],"
        "\"resources\":[\"configmaps\"]}]}]}",
        201);
    ask(&g, "POST", MAPS, "8", "01", "{\"metadata\":{\"name\":\"hooked\"}}", 201);
    read_converted(&g, "9");

#define T(n) (snprintf(id, sizeof id, "0000000000000000000000000000000%d", n), id)
    struct got root = wait_span(T(1), "POST /api/v1/namespaces/{:namespace}/configmaps");
    assert_int_equal(root.kind, KL_SPAN_SERVER);
    assert_string_equal(root.parent, "00000000000000aa");
    assert_string_equal(root.scope,
                        "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp");
    says(&root, "http.request.method=POST");
    says(&root, "http.response.status_code=201");
    says(&root, "http.target=" MAPS);
    says(&root, "url.scheme=https");
    says(&root, "network.peer.address=127.0.0.1");
    says(&root, "network.protocol.version=1.1");
    struct got audit = wait_span(id, "audit"), pf = wait_span(id, "priorityandfairness"),
               authz = wait_span(id, "authorization"), create = wait_span(id, "Create"),
               txn = wait_span(id, "Create etcd3"), out = wait_span(id, "SerializeObject");
    is_under(&audit, &root);
    assert_string_equal(audit.scope, "k8s.op/apiserver/pkg/endpoints/filterlatency");
    is_under(&authz, &pf);
    is_under(&create, &authz);
    is_under(&txn, &create);
    is_under(&out, &create);
    assert_string_equal(create.scope, "k8s.io/component-base/tracing");
    says(&create, "verb=POST");
    says(&create, "resource=configmaps");
    says(&create, "scope=resource");
    says(&create, "protocol=HTTP/1.1");
    says(&create, "event=limitedReadBody succeeded");
    says(&txn, "type=*core.ConfigMap");
    says(&txn, "key=/registry/configmaps/default/a");
    says(&txn, "event=Txn call succeeded");
    wait_span(T(3), "cacher.Get");
    wait_span(T(3), "Get");
    struct got list = wait_span(T(4), "cacher.GetList"), lister = wait_span(T(4), "List");
    is_under(&list, &lister);
    root = wait_span(T(5), "GET /api/v1/namespaces/{:namespace}/configmaps/{:name}");
    says(&root, "http.response.status_code=404");
    struct got hook = wait_span(T(8), "Call validating webhook"),
               call = wait_span(T(8), "HTTP POST"), creates = wait_span(T(8), "Create");
    is_under(&hook, &creates);
    is_under(&call, &hook);
    assert_int_equal(call.kind, KL_SPAN_CLIENT);
    says(&hook, "webhook=h.example.com");
    struct got conversion = wait_span(T(9), "Call conversion webhook"),
               post = wait_span(T(9), "HTTP POST"), get = wait_span(T(9), "Get");
    is_under(&conversion, &get);
    is_under(&post, &conversion);
    says(&conversion, "custom-resource-definition=foos.a.io");
    says(&conversion, "desired-api-version=a.io/v2");
    says(&conversion, "object-count=1");
    says(&hook, "resource=v1, Resource=configmaps");
    says(&hook, "operation=CREATE");
    says(&call, "url.full=https://127.0.0.1:1/?timeout=1s");
    root = wait_span(T(6), "GET");
    says(&root, "http.target=/version");
    assert_non_null(strstr(collector.service, "service.name=apiserver\n"));
    assert_non_null(strstr(collector.service, "service.instance.id=apiserver-"));
    T(2); // what came after it has arrived
    pthread_mutex_lock(&collector.mu);
    for (size_t i = 0; i < collector.n; i++)
        if (!strcmp(collector.got[i].trace, id))
            fail_msg("a span \"%s\" of a trace that is not sampled", collector.got[i].name);
    pthread_mutex_unlock(&collector.mu);
    rig_stop(&g);
    collector_stop();
    unlink(path);
    rmdir(dir);
}

// Nobody takes the spans: requests are answered all the same, and it is counted.
static void test_no_collector(void **state)
{
    (void)state;
    struct rig g;
    struct rig_answer a = {0};
    char dir[] = "/tmp/kinglet-trace-XXXXXX";
    struct kl_api_settings set = kl_api_settings_default;
    assert_non_null(mkdtemp(dir));
    const char *path = write_config(dir, "127.0.0.1", 1);
    set.tracing_config_file = path;
    rig_start_with(&g, 1, &set);
    for (int i = 0; i < 600; i++)
        ask(&g, "GET", "/version", "7", "01", NULL, 200);
    const char *line = NULL;
    for (int i = 0; i < 600 && !line; i++) {
        rig_answer_fini(&a);
        rig_request(&g, "GET", "/metrics", NULL, NULL, 0, &a);
        line = strstr(a.body, "\nkinglet_trace_spans_total{result=\"dropped\"} ");
        line = line && atoll(strchr(line, ' ')) >= KL_TRACE_BATCH ? line : NULL;
        if (!line)
            poll(NULL, 0, 100);
    }
    assert_non_null(line);
    assert_non_null(strstr(a.body, "\nkinglet_trace_spans_total{result=\"sent\"} 0\n"));
    rig_answer_fini(&a);
    rig_stop(&g);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_traceparent),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_no_collector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

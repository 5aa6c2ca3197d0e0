// SPDX-License-Identifier: Apache-2.0
// Paths that are no resources: a table from path to what answers it. Upstream's mux looks at paths
// alone, so most take any method; what its go-restful routes answer takes GET and minds Accept.
#include "apiserver/auth/auth.h"
#include "apiserver/discovery.h"
#include "apiserver/health.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/metrics.h"
#include "apiserver/openapi/openapi.h"
#include "apiserver/server_int.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/rand.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

enum { TEXT_MAX = 16 << 20 };

enum how {
    EXACT,  // the path and no other
    BELOW,  // and everything below it
    RESTFUL // a route: the path, with slashes behind it or without
};

struct route {
    struct kl_str path;
    enum how how;
    void (*run)(struct kl_api_call *c);
    const char *type; // of a route's answer
};

static void not_found(struct kl_api_call *c)
{
    kl_http_answer_text(&c->req, 404, "text/plain; charset=utf-8", KL_STR("404 page not found\n"));
}

// ---- /version, /metrics

static const char *go_arch(const char *machine)
{
    return !strcmp(machine, "x86_64") ? "amd64" : !strcmp(machine, "aarch64") ? "arm64" : machine;
}

static void run_version(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    struct utsname u;
    uname(&u);
    struct kl_str t = kl_arena_printf(
        r->arena,
        "{\n  \"major\": \"%s\",\n  \"minor\": \"%s\",\n  \"emulationMajor\": \"%s\",\n"
        "  \"emulationMinor\": \"%s\",\n  \"minCompatibilityMajor\": \"%s\",\n"
        "  \"minCompatibilityMinor\": \"%s\",\n  \"gitVersion\": \"%s+kinglet-%s\",\n"
        "  \"gitCommit\": \"\",\n  \"gitTreeState\": \"clean\",\n  \"buildDate\": "
        "\"1970-01-01T00:00:00Z\",\n  \"goVersion\": \"none\",\n  \"compiler\": \"gcc\",\n"
        "  \"platform\": \"linux/%s\"\n}",
        KL_K8S_MAJOR, KL_K8S_MINOR, KL_K8S_MAJOR, KL_K8S_MINOR, KL_K8S_MAJOR, "35", KL_K8S_VERSION,
        r->srv->o.version ? r->srv->o.version : "dev", go_arch(u.machine));
    kl_http_answer_text(r, 200, "application/json", t);
}

// What histograms have counted is not forgotten, as upstream does when asked to DELETE.
static bool is_reset(struct kl_api_call *c)
{
    if (!kl_str_eqz(kl_http_method(c->hr), "DELETE"))
        return false;
    kl_fail_method(&c->req);
    kl_req_fail(&c->req);
    return true;
}

static const char metrics_type[] = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

static void run_slis(struct kl_api_call *c)
{
    struct kl_buf b;
    if (is_reset(c))
        return;
    kl_buf_init(&b, TEXT_MAX);
    kl_health_metrics(c->req.srv, &b);
    kl_http_answer_text(&c->req, 200, metrics_type, kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void run_metrics(struct kl_api_call *c)
{
    struct kl_buf b;
    if (is_reset(c))
        return;
    kl_buf_init(&b, TEXT_MAX);
    kl_metrics_write(&b);
    kl_api_metrics_write(&c->req, &b);
    kl_http_answer_text(&c->req, 200, metrics_type, kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void run_profile(struct kl_api_call *c)
{
    struct kl_buf b;
    if (!c->req.srv->o.settings->profiling) {
        not_found(c);
        return;
    }
    kl_buf_init(&b, TEXT_MAX);
    kl_api_profile_write(&c->req, &b);
    kl_http_answer_text(&c->req, 200, "text/plain; charset=utf-8", kl_buf_str(&b));
    kl_buf_fini(&b);
}

// Of what changes seldom, and takes its bytes.
static void answer_public(struct kl_api_call *c, const char *type, struct kl_buf *b)
{
    struct kl_http_header h[2 + KL_COMMON_HEADERS] = {
        KL_HTTP_HEADER("cache-control", "public, max-age=3600"),
        {KL_STR("content-type"), kl_str(type)}};
    size_t n = 2 + kl_http_common_headers(&c->req, h + 2);
    kl_api_metrics_answer(&c->req, 200, (int64_t)b->n);
    kl_http_respond(c->hr, 200, h, n, kl_buf_str(b));
    kl_buf_fini(b);
    kl_api_call_release(c);
}

static void run_jwks(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_authn_jwks(c->req.srv, &b);
    answer_public(c, "application/jwk-set+json", &b);
}

static void run_oidc(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_authn_oidc_config(c->req.srv, &b);
    answer_public(c, "application/json", &b);
}

// ---- /statusz

static void put_status_text(struct kl_buf *b, const char *started, const char *up)
{
    static const char *const delimiters[] = {":", ": ", "=", " "}; // so that nobody parses it
    const char *d = delimiters[kl_rand_u64() % KL_COUNT(delimiters)];
    kl_buf_printf(b,
                  "\napiserver statusz\nWarning: This endpoint is not meant to be machine "
                  "parseable, has no formatting compatibility guarantees and is for debugging "
                  "purposes only.\n\nStarted%s %s\nUp%s %s\nGo version%s none\nBinary version%s "
                  "%s\nEmulation version%s " KL_K8S_MAJOR "." KL_K8S_MINOR "\nPaths%s /healthz "
                  "/livez /metrics /readyz /statusz /version\n",
                  d, started, d, up, d, d, KL_K8S_VERSION + 1, d, d);
}

static void run_statusz(struct kl_api_call *c)
{
    struct kl_req *r = &c->req;
    const char *version = NULL, *type = "text/plain; charset=utf-8";
    int64_t up = (kl_mono_ms() - r->srv->started_ms) / 1000;
    time_t began = (time_t)(kl_wall_ms() / 1000 - up);
    struct kl_spec spec = {.pretty = c->spec.pretty};
    struct tm tm;
    char text[64], since[64];
    struct kl_buf b;
    if (!kl_gate_named_on(&r->srv->gates, "ComponentStatusz")) {
        not_found(c);
        return;
    }
    if (kl_accept_page(kl_http_header(c->hr, KL_STR("accept")), "Statusz", &spec.media, &version)) {
        kl_fail_set(r, 406, "NotAcceptable",
                    "only the following media types are accepted: application/json, "
                    "application/yaml, text/plain");
        kl_req_fail(r);
        return;
    }
    gmtime_r(&began, &tm);
    kl_buf_init(&b, 64 * 1024);
    if (version) {
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        struct kl_str json = kl_arena_printf(
            r->arena,
            "{\"kind\":\"Statusz\",\"apiVersion\":\"config.k8s.io/%s\",\"metadata\":{\"name\":"
            "\"apiserver\"},\"startTime\":\"%s\",\"uptimeSeconds\":%lld,\"goVersion\":\"none\","
            "\"binaryVersion\":\"%s\",\"emulationVersion\":\"" KL_K8S_MAJOR "." KL_K8S_MINOR
            "\",\"paths\":[\"/healthz\",\"/livez\",\"/metrics\",\"/readyz\",\"/statusz\","
            "\"/version\"]}",
            version, text, (long long)up, KL_K8S_VERSION + 1);
        kl_encode_text(&b, &spec, json);
        if (!strcmp(version, "v1alpha1"))
            kl_req_warn(r, KL_STR("This version of the statusz endpoint is deprecated. Please use "
                                  "a newer version."));
        type = kl_arena_printf(r->arena, "%s;g=config.k8s.io;v=%s;as=Statusz",
                               kl_spec_content_type(&spec, false), version)
                   .p;
    } else {
        strftime(text, sizeof text, "%a %b %e %H:%M:%S UTC %Y", &tm);
        snprintf(since, sizeof since, "%lld hr %02d min %02d sec", (long long)(up / 3600),
                 (int)(up / 60 % 60), (int)(up % 60));
        put_status_text(&b, text, since);
    }
    kl_http_answer_text(r, 200, type ? type : "", kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void run_index(struct kl_api_call *c);
static const struct route routes[] = {
    {KL_STR_INIT("/livez"), BELOW, kl_health_run, NULL},
    {KL_STR_INIT("/readyz"), BELOW, kl_health_run, NULL},
    {KL_STR_INIT("/healthz"), BELOW, kl_health_run, NULL},
    {KL_STR_INIT("/version"), RESTFUL, run_version, "application/json"},
    {KL_STR_INIT("/metrics"), EXACT, run_metrics, NULL},
    {KL_STR_INIT("/metrics/slis"), EXACT, run_slis, NULL},
    {KL_STR_INIT("/statusz"), EXACT, run_statusz, NULL},
    {KL_STR_INIT("/debug/pprof"), BELOW, run_profile, NULL},
    {KL_STR_INIT("/openid/v1/jwks"), RESTFUL, run_jwks, "application/jwk-set+json"},
    {KL_STR_INIT("/.well-known/openid-configuration"), RESTFUL, run_oidc, "application/json"},
    {KL_STR_INIT("/api"), BELOW, kl_discovery_run, NULL},
    {KL_STR_INIT("/apis"), BELOW, kl_discovery_run, NULL},
    {KL_STR_INIT("/openapi"), BELOW, kl_openapi_run, NULL},
    {KL_STR_INIT("/"), EXACT, run_index, NULL},
    {KL_STR_INIT("/index.html"), EXACT, run_index, NULL},
};

// ---- the index

static int by_text(const void *a, const void *b)
{
    return kl_str_cmp(*(const struct kl_str *)a, *(const struct kl_str *)b);
}

static void run_index(struct kl_api_call *c)
{
    enum { PATHS_MAX = 64 * 1024 };
    struct kl_str rest, line, *paths;
    size_t n = 0, lines = 1;
    struct kl_buf b, out;
    kl_buf_init(&b, TEXT_MAX);
    kl_buf_init(&out, TEXT_MAX);
    kl_buf_puts(&b, KL_STR("/.well-known/openid-configuration\n/metrics\n/metrics/slis\n"
                           "/openapi/v2\n/openapi/v3\n/openapi/v3/\n/openid/v1/jwks\n"
                           "/version\n"));
    if (kl_gate_named_on(&c->req.srv->gates, "ComponentStatusz"))
        kl_buf_puts(&b, KL_STR("/statusz\n"));
    kl_health_paths(c->req.srv, &b);
    kl_discovery_paths(&c->req, &b);
    for (size_t i = 0; i < b.n; i++)
        lines += b.p[i] == '\n';
    paths = kl_arena_alloc(c->req.arena, lines * sizeof *paths);
    for (rest = kl_buf_str(&b); paths && n < PATHS_MAX && kl_str_split(&rest, '\n', &line);)
        if (line.n && line.p[0] == '/')
            paths[n++] = line;
    if (paths)
        qsort(paths, n, sizeof *paths, by_text);
    kl_buf_puts(&out, KL_STR("{\n  \"paths\": ["));
    for (size_t i = 0; i < n; i++)
        kl_buf_printf(&out, "%s\n    \"%.*s\"", i ? "," : "", KL_PRI(paths[i]));
    kl_buf_puts(&out, KL_STR("\n  ]\n}"));
    kl_http_answer_text(&c->req, 200, "application/json", kl_buf_str(&out));
    kl_buf_fini(&b);
    kl_buf_fini(&out);
}

// ---- what answers

static void run_route(struct kl_api_call *c, const struct route *t)
{
    struct kl_req *r = &c->req;
    if (!kl_str_eqz(kl_http_method(c->hr), "GET")) {
        kl_fail_method(r);
        kl_req_fail(r);
    } else if (!kl_accept_has(kl_http_header(c->hr, KL_STR("accept")), t->type)) {
        kl_fail_set(r, 406, "NotAcceptable", "406: Not Acceptable\n\nAvailable representations: %s",
                    t->type)
            ->bare_details = true;
        kl_req_fail(r);
    } else {
        t->run(c);
    }
}

static void no_route(struct kl_api_call *c)
{
    kl_fail_set(&c->req, 404, "NotFound", "the server could not find the requested resource")
        ->bare_details = true;
    kl_req_fail(&c->req);
}

void kl_nonresource_run(struct kl_api_call *c)
{
    struct kl_str path = c->req.info.path, trimmed = path;
    if (kl_str_starts(path, KL_STR("/debug/")) && kl_fair_dump(c))
        return;
    while (trimmed.n > 1 && trimmed.p[trimmed.n - 1] == '/')
        trimmed.n--;
    for (size_t i = 0; i < KL_COUNT(routes); i++) {
        const struct route *t = &routes[i];
        bool below = path.n > t->path.n && kl_str_starts(path, t->path) && path.p[t->path.n] == '/';
        if (t->how == RESTFUL && kl_str_eq(trimmed, t->path)) {
            run_route(c, t);
            return;
        }
        if (t->how == RESTFUL && below) {
            no_route(c);
            return;
        }
        if (kl_str_eq(path, t->path) || (t->how == BELOW && below)) {
            t->run(c);
            return;
        }
    }
    not_found(c);
}

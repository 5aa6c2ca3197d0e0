// SPDX-License-Identifier: Apache-2.0
// Paths that are no resources: a table from path to what answers it.
#include "apiserver/auth/auth.h"
#include "apiserver/discovery.h"
#include "apiserver/health.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/fairness/fairness.h"
#include "apiserver/metrics.h"
#include "apiserver/openapi/openapi.h"
#include "apiserver/server_int.h"
#include "base/metrics.h"
#include <sys/utsname.h>

enum { TEXT_MAX = 16 << 20 };

struct route {
    struct kl_str path;
    bool prefix; // everything below it too
    void (*run)(struct kl_api_call *c);
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

static void run_metrics(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, TEXT_MAX);
    kl_metrics_write(&b);
    kl_api_metrics_write(&c->req, &b);
    kl_http_answer_text(&c->req, 200, "text/plain; version=0.0.4; charset=utf-8", kl_buf_str(&b));
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

static void run_jwks(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_authn_jwks(c->req.srv, &b);
    kl_http_answer_text(&c->req, 200, "application/jwk-set+json", kl_buf_str(&b));
    kl_buf_fini(&b);
}

static void run_oidc(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_authn_oidc_config(c->req.srv, &b);
    kl_http_answer_text(&c->req, 200, "application/json", kl_buf_str(&b));
    kl_buf_fini(&b);
}

// The longest match wins: order by that.
static void run_index(struct kl_api_call *c);
static const struct route routes[] = {
    {KL_STR_INIT("/livez"), true, kl_health_run},
    {KL_STR_INIT("/readyz"), true, kl_health_run},
    {KL_STR_INIT("/healthz"), true, kl_health_run},
    {KL_STR_INIT("/version"), false, run_version},
    {KL_STR_INIT("/metrics"), false, run_metrics},
    {KL_STR_INIT("/debug/pprof"), true, run_profile},
    {KL_STR_INIT("/openid/v1/jwks"), false, run_jwks},
    {KL_STR_INIT("/.well-known/openid-configuration"), false, run_oidc},
    {KL_STR_INIT("/api"), true, kl_discovery_run},
    {KL_STR_INIT("/apis"), true, kl_discovery_run},
    {KL_STR_INIT("/openapi"), true, kl_openapi_run},
    {KL_STR_INIT("/"), false, run_index},
};

static void run_index(struct kl_api_call *c)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_puts(&b, KL_STR("{\n  \"paths\": ["));
    for (size_t i = 0; i + 1 < KL_COUNT(routes); i++)
        kl_buf_printf(&b, "%s\n    \"%.*s\"", i ? "," : "", KL_PRI(routes[i].path));
    kl_buf_puts(&b, KL_STR("\n  ]\n}"));
    kl_http_answer_text(&c->req, 200, "application/json", kl_buf_str(&b));
    kl_buf_fini(&b);
}

// The aggregator's own answers, of groups and all groups: it does not look at the method.
static bool takes_any_method(struct kl_str path)
{
    struct kl_str part;
    size_t n = 0;
    if (!kl_str_eqz(path, "/apis") && !kl_str_starts(path, KL_STR("/apis/")))
        return false;
    for (path = kl_str_from(path, 1); kl_str_split(&path, '/', &part);)
        n += part.n > 0;
    return n <= 2;
}

void kl_nonresource_run(struct kl_api_call *c)
{
    struct kl_str path = c->req.info.path, method = kl_http_method(c->hr);
    if (!kl_str_eqz(method, "GET") && !kl_str_eqz(method, "HEAD") && !takes_any_method(path)) {
        kl_fail_method(&c->req);
        kl_req_fail(&c->req);
        return;
    }
    if (kl_str_starts(path, KL_STR("/debug/")) && kl_fair_dump(c))
        return;
    while (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    for (size_t i = 0; i < KL_COUNT(routes); i++) {
        const struct route *t = &routes[i];
        if (kl_str_eq(path, t->path) ||
            (t->prefix && kl_str_starts(path, t->path) && path.p[t->path.n] == '/')) {
            t->run(c);
            return;
        }
    }
    not_found(c);
}

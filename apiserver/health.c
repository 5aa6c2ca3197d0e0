// SPDX-License-Identifier: Apache-2.0
#include "apiserver/health.h"
#include "apiserver/encryption/encryption.h"
#include "apiserver/info.h"

enum { LIVEZ = 1, READYZ = 2, HEALTHZ = 4, ALL = LIVEZ | READYZ | HEALTHZ, EXCLUDED_MAX = 64 };

struct check {
    const char *name;
    unsigned in;
    bool (*ok)(const struct kl_apiserver *s);
};

static bool always(const struct kl_apiserver *s)
{
    (void)s;
    return true;
}

static bool store_ok(const struct kl_apiserver *s)
{
    struct kl_store_status st;
    kl_store_status(s->o.store, &st);
    return !st.last_error || st.disk_full; // a full disk still reads and deletes
}

static bool bootstrapped(const struct kl_apiserver *s)
{
    return kl_apiserver_ready(s);
}

static bool not_stopping(const struct kl_apiserver *s)
{
    return !atomic_load(&((struct kl_apiserver *)s)->stopping);
}

static bool kms_ok(const struct kl_apiserver *s)
{
    char why[256];
    return kl_encryption_healthy(s->o.encryption, why);
}

// Upstream's, in its order. What its hooks do is here begun with the bootstrap objects, or at once.
static const struct check checks[] = {
    {"ping", ALL, always},
    {"log", ALL, always},
    {"loopback-serving-certificate", LIVEZ | HEALTHZ, always},
    {"etcd", ALL, store_ok},
    {"etcd-readiness", READYZ, store_ok},
    {"informer-sync", READYZ, bootstrapped},
    {"poststarthook/start-apiserver-admission-initializer", ALL, always},
    {"poststarthook/generic-apiserver-start-informers", ALL, always},
    {"poststarthook/priority-and-fairness-config-consumer", ALL, bootstrapped},
    {"poststarthook/priority-and-fairness-filter", ALL, always},
    {"poststarthook/storage-object-count-tracker-hook", ALL, always},
    {"poststarthook/start-apiextensions-informers", ALL, bootstrapped},
    {"poststarthook/start-apiextensions-controllers", ALL, bootstrapped},
    {"poststarthook/crd-informer-synced", ALL, bootstrapped},
    {"poststarthook/start-system-namespaces-controller", ALL, bootstrapped},
    {"poststarthook/peer-endpoint-reconciler-controller", ALL, bootstrapped},
    {"poststarthook/start-cluster-authentication-info-controller", ALL, bootstrapped},
    {"poststarthook/start-kube-apiserver-identity-lease-controller", ALL, bootstrapped},
    {"poststarthook/start-kube-apiserver-identity-lease-garbage-collector", ALL, bootstrapped},
    {"poststarthook/storage-readiness", ALL, bootstrapped},
    {"poststarthook/start-legacy-token-tracking-controller", ALL, bootstrapped},
    {"poststarthook/start-service-ip-repair-controllers", ALL, bootstrapped},
    {"poststarthook/rbac/bootstrap-roles", ALL, bootstrapped},
    {"poststarthook/scheduling/bootstrap-system-priority-classes", ALL, bootstrapped},
    {"poststarthook/priority-and-fairness-config-producer", ALL, bootstrapped},
    {"poststarthook/bootstrap-controller", ALL, bootstrapped},
    {"poststarthook/start-kubernetes-service-cidr-controller", ALL, bootstrapped},
    {"poststarthook/start-kube-aggregator-informers", ALL, bootstrapped},
    {"poststarthook/apiservice-status-local-available-controller", ALL, bootstrapped},
    {"poststarthook/apiservice-status-remote-available-controller", ALL, bootstrapped},
    {"poststarthook/apiservice-registration-controller", ALL, bootstrapped},
    {"poststarthook/apiservice-discovery-controller", ALL, bootstrapped},
    {"poststarthook/kube-apiserver-autoregistration", ALL, bootstrapped},
    {"autoregister-completion", ALL, bootstrapped},
    {"poststarthook/apiservice-openapi-controller", ALL, bootstrapped},
    {"poststarthook/apiservice-openapiv3-controller", ALL, bootstrapped},
    {"kms-providers", READYZ | HEALTHZ, kms_ok}, // where there are such
    {"shutdown", READYZ, not_stopping},
};

_Static_assert(KL_COUNT(checks) <= KL_HEALTH_CHECKS, "room for what each has said");

// Not every server has every check.
static bool is_there(const struct kl_apiserver *s, const struct check *c)
{
    return c->ok != kms_ok || kl_encryption_has_kms(s->o.encryption);
}

struct asked {
    unsigned in;
    const char *word;
    bool verbose;
    struct kl_str excluded[EXCLUDED_MAX];
    bool known[EXCLUDED_MAX];
    size_t n;
};

static void read_query(struct kl_api_call *c, struct asked *a)
{
    struct kl_str rest = kl_http_query(c->hr), n, v;
    while (kl_query_next(c->req.arena, &rest, &n, &v)) {
        if (kl_str_eqz(n, "exclude") && a->n < EXCLUDED_MAX)
            a->excluded[a->n++] = v;
        a->verbose |= kl_str_eqz(n, "verbose");
    }
}

static bool is_excluded(struct asked *a, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < a->n; i++)
        if (kl_str_eqz(a->excluded[i], name))
            found = a->known[i] = true;
    return found;
}

// The bootstrap objects keep /livez from nothing: a server that waits for its datastore lives.
static bool holds(const struct check *k, const struct kl_req *r, unsigned in)
{
    bool ok = (in == LIVEZ && k->ok == bootstrapped) || k->ok(r->srv);
    struct kl_health_seen *seen = &r->srv->health[k - checks][__builtin_ctz(in)];
    atomic_fetch_add_explicit(ok ? &seen->ok : &seen->bad, 1, memory_order_relaxed);
    atomic_store_explicit(&seen->last, ok, memory_order_relaxed);
    return ok;
}

static const char *const kinds[KL_HEALTH_KINDS] = {"livez", "readyz", "healthz"};

// Calls put for each check and kind that was asked for.
static void each_seen(struct kl_apiserver *s, struct kl_buf *b,
                      void (*put)(struct kl_buf *b, const char *name, const char *kind,
                                  const struct kl_health_seen *seen))
{
    for (size_t i = 0; i < KL_COUNT(checks); i++)
        for (size_t k = 0; k < KL_HEALTH_KINDS; k++) {
            const struct kl_health_seen *seen = &s->health[i][k];
            if (atomic_load_explicit(&seen->ok, memory_order_relaxed) ||
                atomic_load_explicit(&seen->bad, memory_order_relaxed))
                put(b, checks[i].name, kinds[k], seen);
        }
}

static void put_last(struct kl_buf *b, const char *name, const char *kind,
                     const struct kl_health_seen *seen)
{
    kl_buf_printf(b, "kubernetes_healthcheck{name=\"%s\",type=\"%s\"} %d\n", name, kind,
                  atomic_load_explicit(&seen->last, memory_order_relaxed));
}

static void put_totals(struct kl_buf *b, const char *name, const char *kind,
                       const struct kl_health_seen *seen)
{
    const unsigned n[] = {atomic_load_explicit(&seen->ok, memory_order_relaxed),
                          atomic_load_explicit(&seen->bad, memory_order_relaxed)};
    static const char *const words[] = {"success", "error"};
    for (size_t i = 0; i < KL_COUNT(n); i++)
        if (n[i])
            kl_buf_printf(
                b, "kubernetes_healthchecks_total{name=\"%s\",status=\"%s\",type=\"%s\"} %u\n",
                name, words[i], kind, n[i]);
}

void kl_health_paths(const struct kl_apiserver *s, struct kl_buf *b)
{
    for (size_t k = 0; k < KL_HEALTH_KINDS; k++) {
        kl_buf_printf(b, "/%s\n", kinds[k]);
        for (size_t i = 0; i < KL_COUNT(checks); i++)
            if (checks[i].in & 1u << k && is_there(s, &checks[i]))
                kl_buf_printf(b, "/%s/%s\n", kinds[k], checks[i].name);
    }
}

void kl_health_metrics(struct kl_apiserver *s, struct kl_buf *b)
{
    kl_buf_puts(b, KL_STR("# HELP kubernetes_healthcheck [STABLE] This metric records the result "
                          "of a single healthcheck.\n"
                          "# TYPE kubernetes_healthcheck gauge\n"));
    each_seen(s, b, put_last);
    kl_buf_puts(b, KL_STR("# HELP kubernetes_healthchecks_total [STABLE] This metric records the "
                          "results of all healthcheck.\n"
                          "# TYPE kubernetes_healthchecks_total counter\n"));
    each_seen(s, b, put_totals);
}

static void answer_one(struct kl_api_call *c, const struct asked *a, struct kl_str name)
{
    static const char text[] = "text/plain; charset=utf-8";
    for (size_t i = 0; i < KL_COUNT(checks); i++) {
        if (!kl_str_eqz(name, checks[i].name) || !(checks[i].in & a->in) ||
            !is_there(c->req.srv, &checks[i]))
            continue;
        if (holds(&checks[i], &c->req, a->in))
            kl_http_answer_text(&c->req, 200, text, KL_STR("ok"));
        else
            kl_http_answer_text(&c->req, 500, text, KL_STR("internal server error: not ready\n"));
        return;
    }
    kl_http_answer_text(&c->req, 404, text, KL_STR("404 page not found\n"));
}

static void put_unknown(struct kl_buf *b, const struct asked *a)
{
    bool first = true;
    for (size_t i = 0; i < a->n; i++) {
        if (a->known[i])
            continue;
        kl_buf_printf(b, "%s\"%.*s\"",
                      first ? "warn: some health checks cannot be excluded: no matches for " : ", ",
                      KL_PRI(a->excluded[i]));
        first = false;
    }
    if (!first)
        kl_buf_putc(b, '\n');
}

static void answer_all(struct kl_api_call *c, struct asked *a)
{
    struct kl_buf b;
    bool bad = false;
    kl_buf_init(&b, 64 * 1024);
    for (size_t i = 0; i < KL_COUNT(checks); i++) {
        const struct check *k = &checks[i];
        if (!(k->in & a->in) || !is_there(c->req.srv, k))
            continue;
        if (is_excluded(a, k->name)) {
            kl_buf_printf(&b, "[+]%s excluded: ok\n", k->name);
            continue;
        }
        bool ok = holds(k, &c->req, a->in);
        bad |= !ok;
        kl_buf_printf(&b, ok ? "[+]%s ok\n" : "[-]%s failed: reason withheld\n", k->name);
    }
    put_unknown(&b, a);
    kl_buf_printf(&b, "%s check %s\n", a->word, bad ? "failed" : "passed");
    kl_http_answer_text(&c->req, bad ? 500 : 200, "text/plain; charset=utf-8",
                        bad || a->verbose ? kl_buf_str(&b) : KL_STR("ok"));
    kl_buf_fini(&b);
}

void kl_health_run(struct kl_api_call *c)
{
    struct kl_str path = kl_str_from(c->req.info.path, 1);
    struct asked a = {0};
    for (size_t i = 0; i < KL_COUNT(kinds); i++) {
        if (kl_str_starts(path, kl_str(kinds[i]))) {
            a.in = 1u << i;
            a.word = kinds[i];
        }
    }
    struct kl_str one = kl_str_from(path, strlen(a.word));
    if (one.n) {
        answer_one(c, &a, kl_str_from(one, 1));
        return;
    }
    read_query(c, &a);
    answer_all(c, &a);
}

// SPDX-License-Identifier: Apache-2.0
// A series is made when its labels are first seen and stays; only its loop changes it, so plain
// adds that others may read are enough.
#include "apiserver/series.h"
#include "apiserver/server_int.h"
#include <stdlib.h>

enum { SLOTS = 256, SERIES_MAX = 4096, CODES = 12, LATENCIES = 23, SIZES = 7, LISTS = 17 };

// Upstream's buckets.
static const double latency_s[LATENCIES] = {0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8,
                                            1,     1.25,  1.5,  2,   3,   4,   5,   6,
                                            8,     10,    15,   20,  30,  45,  60};
static const double watch_list_s[LISTS] = {0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1,  2, 4,
                                           6,    8,   10,  15,  20,  30,  45, 60};
static const double size_bytes[SIZES] = {1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

struct histogram {
    atomic_llong bucket[LATENCIES + 1], sum, count;
};

struct labels {
    struct kl_str verb, group, version, resource, sub, scope;
    bool dry_run;
};

struct kl_series {
    struct kl_series *next; // of its slot
    uint64_t hash;
    struct labels l; // text behind the struct
    atomic_int code[CODES];
    atomic_llong n[CODES], long_running, events;
    struct histogram latency, size; // latency: of a watch, until it has listed
    _Atomic(struct histogram *) etcd[KL_ETCD_OPS];
};

struct kl_series_table {
    _Atomic(struct kl_series *) slot[SLOTS];
    int n;
};

static void add(atomic_llong *v, long long d)
{
    atomic_store_explicit(v, atomic_load_explicit(v, memory_order_relaxed) + d,
                          memory_order_relaxed);
}

static long long get(const atomic_llong *v)
{
    return atomic_load_explicit((atomic_llong *)v, memory_order_relaxed);
}

static void observe(struct histogram *h, const double *bounds, int n, double v, long long sum)
{
    int i = 0;
    while (i < n && v > bounds[i])
        i++;
    add(&h->bucket[i], 1);
    add(&h->sum, sum);
    add(&h->count, 1);
}

void kl_series_free(struct kl_series_table *t)
{
    if (!t)
        return;
    for (int i = 0; i < SLOTS; i++)
        for (struct kl_series *s = t->slot[i], *next; s; s = next) {
            next = s->next;
            for (int k = 0; k < KL_ETCD_OPS; k++)
                free(s->etcd[k]);
            free(s);
        }
    free(t);
}

// ---- which

static bool same_labels(const struct labels *a, const struct labels *b)
{
    return a->dry_run == b->dry_run && kl_str_eq(a->resource, b->resource) &&
           kl_str_eq(a->verb, b->verb) && kl_str_eq(a->sub, b->sub) &&
           kl_str_eq(a->scope, b->scope) && kl_str_eq(a->version, b->version) &&
           kl_str_eq(a->group, b->group);
}

static struct kl_str keep(char **at, struct kl_str s)
{
    struct kl_str copy = {*at, s.n};
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static struct kl_series *make(struct kl_series_table *t, const struct labels *l, uint64_t hash)
{
    size_t text = l->group.n + l->version.n + l->resource.n + l->sub.n;
    struct kl_series *s = t->n < SERIES_MAX ? calloc(1, sizeof *s + text) : NULL;
    if (!s)
        return NULL;
    char *at = (char *)(s + 1);
    s->hash = hash;
    s->l = *l; // verb and scope are constants
    s->l.group = keep(&at, l->group);
    s->l.version = keep(&at, l->version);
    s->l.resource = keep(&at, l->resource);
    s->l.sub = keep(&at, l->sub);
    s->next = atomic_load_explicit(&t->slot[hash % SLOTS], memory_order_relaxed);
    atomic_store_explicit(&t->slot[hash % SLOTS], s, memory_order_release);
    t->n++;
    return s;
}

static struct kl_series *find(struct kl_api_loop *al, const struct labels *l)
{
    struct kl_series_table *t = atomic_load_explicit(&al->series, memory_order_relaxed);
    if (!t) {
        if (!(t = calloc(1, sizeof *t)))
            return NULL;
        atomic_store_explicit(&al->series, t, memory_order_release);
    }
    uint64_t hash = kl_str_hash(l->resource) * 31 + l->verb.n * 7 + kl_str_hash(l->sub) +
                    l->scope.n * 13 + l->version.n * 3 + (uint64_t)(l->verb.n ? l->verb.p[0] : 0);
    struct kl_series *s = atomic_load_explicit(&t->slot[hash % SLOTS], memory_order_relaxed);
    for (; s; s = s->next)
        if (s->hash == hash && same_labels(&s->l, l))
            return s;
    return make(t, l, hash);
}

struct kl_str kl_series_verb(const struct kl_req *r)
{
    static const struct kl_str names[KL_VERB_COUNT] = {
        [KL_VERB_GET] = KL_STR_INIT("GET"),
        [KL_VERB_LIST] = KL_STR_INIT("LIST"),
        [KL_VERB_WATCH] = KL_STR_INIT("WATCH"),
        [KL_VERB_CREATE] = KL_STR_INIT("POST"),
        [KL_VERB_UPDATE] = KL_STR_INIT("PUT"),
        [KL_VERB_PATCH] = KL_STR_INIT("PATCH"),
        [KL_VERB_DELETE] = KL_STR_INIT("DELETE"),
        [KL_VERB_DELETECOLLECTION] = KL_STR_INIT("DELETE"),
    };
    const struct kl_req_info *i = &r->info;
    if (i->is_resource && kl_is_connect(i))
        return KL_STR("CONNECT");
    if (i->is_resource && i->op < KL_VERB_COUNT)
        return i->op == KL_VERB_PATCH && r->opts.patch_type == KL_PATCH_APPLY ? KL_STR("APPLY")
                                                                              : names[i->op];
    return kl_str_eqz(i->verb, "get") || kl_str_eqz(i->verb, "head") ? KL_STR("GET")
                                                                     : KL_STR("other");
}

// Only paths that are known, so that nobody can make series by asking for strange ones.
static struct kl_str known_path(struct kl_str path)
{
    static const struct kl_str known[] = {KL_STR_INIT("/healthz"), KL_STR_INIT("/livez"),
                                          KL_STR_INIT("/readyz"),  KL_STR_INIT("/version"),
                                          KL_STR_INIT("/metrics"), KL_STR_INIT("/openapi"),
                                          KL_STR_INIT("/apis"),    KL_STR_INIT("/api")};
    for (size_t i = 0; i < KL_COUNT(known); i++)
        if (kl_str_starts(path, known[i]))
            return known[i];
    return KL_STR("");
}

struct kl_str kl_series_scope(const struct kl_req_info *i)
{
    return i->name.n || i->op == KL_VERB_CREATE ? KL_STR("resource")
           : i->ns.n                            ? KL_STR("namespace")
                                                : KL_STR("cluster");
}

static struct kl_series *of_request(struct kl_req *r)
{
    const struct kl_req_info *i = &r->info;
    if (r->series || !r->al)
        return r->series;
    struct labels l = {.verb = kl_series_verb(r), .dry_run = r->opts.dry_run};
    if (i->res) {
        l.group = kl_str(i->res->group);
        l.version = kl_str(i->res->version);
        l.resource = kl_str(i->res->plural);
        if (i->subres)
            l.sub = kl_str(i->subres->name);
        l.scope = kl_series_scope(i);
    } else {
        l.sub = i->is_resource ? KL_STR("") : known_path(i->path);
    }
    return r->series = find(r->al, &l);
}

// ---- counting

void kl_series_request(struct kl_req *r, int http, int64_t took_us, int64_t bytes)
{
    struct kl_series *s = of_request(r);
    if (!s)
        return;
    int i = 0; // what does not fit any more is counted with the last
    while (i + 1 < CODES && s->code[i] && s->code[i] != http)
        i++;
    if (!s->code[i])
        atomic_store_explicit(&s->code[i], http, memory_order_relaxed);
    add(&s->n[i], 1);
    if (took_us >= 0)
        observe(&s->latency, latency_s, LATENCIES, (double)took_us / 1e6, took_us);
    if (bytes >= 0)
        observe(&s->size, size_bytes, SIZES, (double)bytes, bytes);
}

void kl_series_long_running(struct kl_req *r, int n)
{
    struct kl_series *s = of_request(r);
    if (s)
        add(&s->long_running, n);
}

void kl_series_event(struct kl_req *r)
{
    const struct kl_resource *res = r->info.res;
    if (!r->events && r->al && res) {
        const struct labels l = {.group = kl_str(res->group),
                                 .version = kl_str(res->version),
                                 .resource = kl_str(res->plural)};
        r->events = find(r->al, &l);
    }
    if (r->events)
        add(&r->events->events, 1);
}

void kl_series_watch_list(struct kl_req *r)
{
    struct kl_series *s = of_request(r);
    int64_t took_us = (int64_t)(uv_hrtime() - r->began_ns) / 1000;
    if (s && r->began_ns)
        observe(&s->latency, watch_list_s, LISTS, (double)took_us / 1e6, took_us);
}

void kl_series_etcd(struct kl_req *r, const struct kl_resource *res, enum kl_etcd_op op,
                    int64_t took_us)
{
    if (!r->al)
        return;
    const struct labels l = {.group = kl_str(res->group), .resource = kl_str(res->plural)};
    struct kl_series *s = find(r->al, &l);
    if (!s)
        return;
    struct histogram *h = s->etcd[op];
    if (!h) {
        if (!(h = calloc(1, sizeof *h)))
            return;
        atomic_store_explicit(&s->etcd[op], h, memory_order_release);
    }
    observe(h, latency_s, LATENCIES, (double)took_us / 1e6, took_us);
}

// ---- writing: what several loops have of the same labels is one series

struct writer {
    struct kl_buf *out;
    const struct kl_series *same[KL_MAX_API_LOOPS];
    int n;
};

static long long sum(const struct writer *w, size_t offset)
{
    long long v = 0;
    for (int i = 0; i < w->n; i++)
        v += get((const atomic_llong *)((const char *)w->same[i] + offset));
    return v;
}

enum { WITH_DRY_RUN = 1, NO_SCOPE = 2, OF_LIST = 4 };

static void put_labels(const struct writer *w, const char *name, const char *suffix, int what)
{
    const struct labels *l = &w->same[0]->l;
    kl_buf_printf(w->out, "%s%s{", name, suffix);
    if (!(what & (NO_SCOPE | OF_LIST)))
        kl_buf_puts(w->out, KL_STR("component=\"apiserver\","));
    if (what & WITH_DRY_RUN)
        kl_buf_printf(w->out, "dry_run=\"%s\",", l->dry_run ? "All" : "");
    kl_buf_printf(w->out, "group=\"%.*s\",resource=\"%.*s\"", KL_PRI(l->group),
                  KL_PRI(l->resource));
    if (what & OF_LIST)
        kl_buf_printf(w->out, ",scope=\"%.*s\"", KL_PRI(l->scope));
    else if (!(what & NO_SCOPE))
        kl_buf_printf(w->out, ",scope=\"%.*s\",subresource=\"%.*s\",verb=\"%.*s\"",
                      KL_PRI(l->scope), KL_PRI(l->sub), KL_PRI(l->verb));
    kl_buf_printf(w->out, ",version=\"%.*s\"", KL_PRI(l->version));
}

static void put_histogram(const struct writer *w, const char *name, int what, size_t offset,
                          const double *bounds, int n, double unit)
{
    long long total = 0;
    for (int i = 0; i <= n; i++) {
        total +=
            sum(w, offset + offsetof(struct histogram, bucket) + (size_t)i * sizeof(atomic_llong));
        put_labels(w, name, "_bucket", what);
        if (i < n)
            kl_buf_printf(w->out, ",le=\"%.10g\"} %lld\n", bounds[i], total);
        else
            kl_buf_printf(w->out, ",le=\"+Inf\"} %lld\n", total);
    }
    put_labels(w, name, "_sum", what);
    kl_buf_printf(w->out, "} %.15g\n",
                  (double)sum(w, offset + offsetof(struct histogram, sum)) * unit);
    put_labels(w, name, "_count", what);
    kl_buf_printf(w->out, "} %lld\n", total);
}

static void put_total(const struct writer *w)
{
    int codes[CODES * 2], n = 0;
    for (int i = 0; i < w->n; i++)
        for (int k = 0; k < CODES && w->same[i]->code[k]; k++) {
            int code = w->same[i]->code[k], at = 0;
            while (at < n && codes[at] != code)
                at++;
            if (at == n && n < CODES * 2)
                codes[n++] = code;
        }
    for (int c = 0; c < n; c++) {
        long long v = 0;
        for (int i = 0; i < w->n; i++)
            for (int k = 0; k < CODES; k++)
                if (w->same[i]->code[k] == codes[c])
                    v += get(&w->same[i]->n[k]);
        put_labels(w, "apiserver_request_total", "", WITH_DRY_RUN);
        kl_buf_printf(w->out, ",code=\"%d\"} %lld\n", codes[c], v);
    }
}

static bool is_watch(const struct writer *w)
{
    return kl_str_eqz(w->same[0]->l.verb, "WATCH");
}

static void put_watch_list(const struct writer *w)
{
    if (is_watch(w) && sum(w, offsetof(struct kl_series, latency.count)))
        put_histogram(w, "apiserver_watch_list_duration_seconds", OF_LIST,
                      offsetof(struct kl_series, latency), watch_list_s, LISTS, 1e-6);
}

static void put_latency(const struct writer *w)
{
    if (!is_watch(w) && sum(w, offsetof(struct kl_series, latency.count)))
        put_histogram(w, "apiserver_request_duration_seconds", WITH_DRY_RUN,
                      offsetof(struct kl_series, latency), latency_s, LATENCIES, 1e-6);
}

static void put_size(const struct writer *w)
{
    if (sum(w, offsetof(struct kl_series, size.count)))
        put_histogram(w, "apiserver_response_sizes", 0, offsetof(struct kl_series, size),
                      size_bytes, SIZES, 1);
}

static void put_long_running(const struct writer *w)
{
    if (is_watch(w) || kl_str_eqz(w->same[0]->l.verb, "CONNECT")) {
        put_labels(w, "apiserver_longrunning_requests", "", 0);
        kl_buf_printf(w->out, "} %lld\n", sum(w, offsetof(struct kl_series, long_running)));
    }
}

static void put_events(const struct writer *w)
{
    long long n = sum(w, offsetof(struct kl_series, events));
    if (n) {
        put_labels(w, "apiserver_watch_events_total", "", NO_SCOPE);
        kl_buf_printf(w->out, "} %lld\n", n);
    }
}

static void put_etcd(const struct writer *w)
{
    static const char *const ops[KL_ETCD_OPS] = {"create", "update", "delete"};
    const struct labels *l = &w->same[0]->l;
    for (int op = 0; op < KL_ETCD_OPS; op++) {
        long long bucket[LATENCIES + 1] = {0}, us = 0, total = 0;
        bool any = false;
        for (int i = 0; i < w->n; i++) {
            struct histogram *h = atomic_load_explicit(
                (_Atomic(struct histogram *) *)&w->same[i]->etcd[op], memory_order_acquire);
            for (int k = 0; h && k <= LATENCIES; k++)
                bucket[k] += get(&h->bucket[k]);
            us += h ? get(&h->sum) : 0;
            any = any || h;
        }
        for (int k = 0; any && k <= LATENCIES; k++) {
            char le[32] = "+Inf";
            if (k < LATENCIES)
                snprintf(le, sizeof le, "%.10g", latency_s[k]);
            total += bucket[k];
            kl_buf_printf(w->out,
                          "etcd_request_duration_seconds_bucket{group=\"%.*s\",operation=\"%s\","
                          "resource=\"%.*s\",le=\"%s\"} %lld\n",
                          KL_PRI(l->group), ops[op], KL_PRI(l->resource), le, total);
        }
        if (any)
            kl_buf_printf(w->out,
                          "etcd_request_duration_seconds_sum{group=\"%.*s\",operation=\"%s\","
                          "resource=\"%.*s\"} %.15g\n"
                          "etcd_request_duration_seconds_count{group=\"%.*s\",operation=\"%s\","
                          "resource=\"%.*s\"} %lld\n",
                          KL_PRI(l->group), ops[op], KL_PRI(l->resource), (double)us / 1e6,
                          KL_PRI(l->group), ops[op], KL_PRI(l->resource), total);
    }
}

static const struct kl_series *find_in(const struct kl_series_table *t,
                                       const struct kl_series *like)
{
    const struct kl_series *s =
        t ? atomic_load_explicit((_Atomic(struct kl_series *) *)&t->slot[like->hash % SLOTS],
                                 memory_order_acquire)
          : NULL;
    while (s && !(s->hash == like->hash && same_labels(&s->l, &like->l)))
        s = s->next;
    return s;
}

static struct kl_series_table *table_of(struct kl_apiserver *srv, int i)
{
    return atomic_load_explicit(&srv->loops[i].series, memory_order_acquire);
}

// Calls put for each set of labels: at the first loop that has it, with those of the later ones.
static void each(struct kl_apiserver *srv, struct kl_buf *out, bool requests,
                 void (*put)(const struct writer *w))
{
    for (int i = 0; i < srv->nloops; i++) {
        struct kl_series_table *t = table_of(srv, i);
        for (int k = 0; t && k < SLOTS; k++) {
            const struct kl_series *s = atomic_load_explicit(
                (_Atomic(struct kl_series *) *)&t->slot[k], memory_order_acquire);
            for (; s; s = s->next) {
                struct writer w = {.out = out, .same = {s}, .n = 1};
                bool before = (s->l.verb.n != 0) != requests;
                for (int j = 0; j < i && !before; j++)
                    before = find_in(table_of(srv, j), s) != NULL;
                if (before)
                    continue;
                for (int j = i + 1; j < srv->nloops; j++)
                    if ((w.same[w.n] = find_in(table_of(srv, j), s)))
                        w.n++;
                put(&w);
            }
        }
    }
}

static void head(struct kl_buf *b, const char *name, const char *kind, const char *help)
{
    kl_buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind);
}

void kl_series_write(struct kl_apiserver *s, struct kl_buf *b)
{
    head(b, "apiserver_request_total", "counter",
         "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, "
         "version, resource, scope, component, and HTTP response code.");
    each(s, b, true, put_total);
    head(b, "apiserver_request_duration_seconds", "histogram",
         "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, "
         "version, resource, subresource, scope and component.");
    each(s, b, true, put_latency);
    head(b, "apiserver_watch_list_duration_seconds", "histogram",
         "[BETA] Response latency distribution in seconds for watch list requests broken by group, "
         "version, resource and scope.");
    each(s, b, true, put_watch_list);
    head(b, "apiserver_response_sizes", "histogram",
         "[STABLE] Response size distribution in bytes for each group, version, verb, resource, "
         "subresource, scope and component.");
    each(s, b, true, put_size);
    head(b, "apiserver_longrunning_requests", "gauge",
         "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, "
         "version, resource, scope and component. Not all requests are tracked this way.");
    each(s, b, true, put_long_running);
    head(b, "apiserver_watch_events_total", "counter",
         "[ALPHA] Number of events sent in watch clients");
    each(s, b, false, put_events);
    head(b, "etcd_request_duration_seconds", "histogram",
         "[ALPHA] Etcd request latency in seconds for each operation and object type.");
    each(s, b, false, put_etcd);
}

// SPDX-License-Identifier: Apache-2.0
// Where an APIService's requests go: a ready endpoint of its Service, over TLS with the front
// proxy's certificate.
#include "apiserver/aggregate/aggregate_int.h"
#include "apiserver/pki.h"
#include "apiserver/relay.h"
#include "apiserver/service.h"
#include "apiserver/settings.h"
#include <stdlib.h>

enum { DEFAULT_PORT = 443, KEEP_MAX = KL_AGGREGATE_MAX, MAX_FILE_BYTES = 1 << 20 };

// What a loop has: a TLS context for each APIService, as long as the object is the same.
struct kept {
    char name[256];
    kl_rev rev;
    struct kl_tls_ctx *tls;
};
struct kl_aggregate_loop {
    struct kept *kept;
    size_t n, cap;
};

void kl_aggregate_loop_fini(struct kl_api_loop *al)
{
    struct kl_aggregate_loop *x = al->aggregate;
    if (!x)
        return;
    for (size_t i = 0; i < x->n; i++)
        kl_tls_ctx_unref(x->kept[i].tls);
    free(x->kept);
    free(x);
    al->aggregate = NULL;
}

struct kl_object *kl_aggregate_find(struct kl_api_loop *al, struct kl_str group,
                                    struct kl_str version)
{
    struct kl_arena a;
    // The one group whose own version upstream does not look up among the objects.
    if (!version.n || group.n + version.n > 500 || kl_str_eqz(group, "apiregistration.k8s.io"))
        return NULL;
    kl_arena_init(&a, 16 * 1024);
    struct kl_str name = kl_arena_printf(&a, "%.*s.%.*s", KL_PRI(version), KL_PRI(group));
    struct kl_object *o =
        kl_api_object(al, &a, KL_RES_apiregistration_v1_apiservices, KL_STR(""), name);
    kl_arena_fini(&a);
    return o && kl_path(&o->root, KL_F_spec, KL_F_service) ? o : NULL;
}

bool kl_apiservice_is_available(const struct kl_value *o)
{
    for (KL_EACH(c, kl_path(o, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(c, KL_F_type)), "Available"))
            return kl_str_eqz(kl_text(kl_get(c, KL_F_status)), "True");
    return false;
}

// ---- endpoints

struct target {
    struct kl_str ns, name;
    int port;
};

static struct target target_of(const struct kl_value *apiservice)
{
    const struct kl_value *s = kl_path(apiservice, KL_F_spec, KL_F_service);
    return (struct target){.ns = kl_text(kl_get(s, KL_F_namespace)),
                           .name = kl_text(kl_get(s, KL_F_name)),
                           .port = (int)kl_int_or(kl_get(s, KL_F_port), DEFAULT_PORT)};
}

void kl_extension_check(struct kl_api_loop *al, struct kl_arena *a,
                        const struct kl_value *apiservice, const char **ret_reason,
                        struct kl_str *ret_message)
{
    struct target t = target_of(apiservice);
    struct kl_service_end e;
    struct kl_error err;
    *ret_reason = NULL;
    kl_service_find(al, a, t.ns, t.name, t.port, &e, &err);
    if (e.state == KL_SERVICE_ABSENT) {
        *ret_reason = "ServiceNotFound";
        *ret_message = kl_arena_printf(a, "service/%.*s in \"%.*s\" is not present", KL_PRI(t.name),
                                       KL_PRI(t.ns));
        return;
    }
    if (!kl_str_eqz(kl_text_at(&e.service->root, KL_F_spec, KL_F_type), "ClusterIP"))
        return;
    if (e.state == KL_SERVICE_NO_PORT) {
        *ret_reason = "ServicePortError";
        *ret_message = kl_arena_printf(a, "service/%.*s in \"%.*s\" is not listening on port %d",
                                       KL_PRI(t.name), KL_PRI(t.ns), t.port);
    } else if (e.state == KL_SERVICE_NO_SLICES) {
        *ret_reason = "EndpointsNotFound";
        *ret_message = kl_arena_printf(a, "cannot find endpointslices for service/%.*s in \"%.*s\"",
                                       KL_PRI(t.name), KL_PRI(t.ns));
    } else if (e.state == KL_SERVICE_NO_ADDRESS) {
        *ret_reason = "MissingEndpoints";
        *ret_message = kl_arena_printf(
            a,
            "endpointslices for service/%.*s in \"%.*s\" have no addresses with port name \"%.*s\"",
            KL_PRI(t.name), KL_PRI(t.ns), KL_PRI(e.port_name));
    }
}

// ---- TLS

static int make_tls(struct kl_api_loop *al, const struct kl_value *apiservice,
                    struct kl_tls_ctx **ret, struct kl_error *err)
{
    const struct kl_pki *p = al->srv->o.pki;
    const struct kl_api_settings *set = al->srv->o.settings;
    const struct kl_value *spec = kl_get(apiservice, KL_F_spec);
    struct target t = target_of(apiservice);
    struct kl_arena a;
    kl_arena_init(&a, 64 * 1024);
    struct kl_str name = kl_arena_printf(&a, "%.*s.%.*s.svc", KL_PRI(t.name), KL_PRI(t.ns));
    struct kl_tls_client_opts o = {.ca.pem = kl_text(kl_get(spec, KL_F_caBundle)),
                                   .server_name = name.p,
                                   .insecure_skip_verify =
                                       kl_is_true(kl_get(spec, KL_F_insecureSkipTLSVerify))};
    if (set && set->proxy_client_cert_file && set->proxy_client_key_file) {
        o.cert.file = set->proxy_client_cert_file;
        o.key.file = set->proxy_client_key_file;
    } else if (p) {
        o.cert.pem = p->front_proxy_cert;
        o.key.pem = p->front_proxy_key;
    }
    int rc =
        name.p ? kl_tls_client_new(&o, ret, err) : kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_fini(&a);
    return rc;
}

static int tls_of(struct kl_api_loop *al, struct kl_object *apiservice, struct kl_tls_ctx **ret,
                  struct kl_error *err)
{
    struct kl_str name = kl_meta_name(&apiservice->root), rv = kl_meta_rv(&apiservice->root);
    struct kl_aggregate_loop *x = al->aggregate;
    int64_t rev = 0;
    size_t at = 0;
    int rc;
    if (!x && !(x = al->aggregate = calloc(1, sizeof *x)))
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_str_to_i64(rv, &rev);
    while (at < x->n && !kl_str_eqz(name, x->kept[at].name))
        at++;
    if (at < x->n && x->kept[at].rev == rev) {
        *ret = x->kept[at].tls;
        return 0;
    }
    struct kl_tls_ctx *tls;
    if ((rc = make_tls(al, &apiservice->root, &tls, err)))
        return rc;
    if (at == KEEP_MAX) { // all of them anew: names come and go
        while (x->n)
            kl_tls_ctx_unref(x->kept[--x->n].tls);
        at = 0;
    }
    if (at == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 4;
        struct kept *k = realloc(x->kept, cap * sizeof *k);
        if (!k || name.n >= sizeof k->name) {
            if (k)
                x->kept = k;
            kl_tls_ctx_unref(tls);
            return kl_error_set(err, KL_ENOMEM, "out of memory");
        }
        x->kept = k;
        x->cap = cap;
    }
    if (at < x->n)
        kl_tls_ctx_unref(x->kept[at].tls);
    else
        x->n++;
    x->kept[at] = (struct kept){.rev = rev, .tls = tls};
    memcpy(x->kept[at].name, name.p, name.n < 255 ? name.n : 255);
    *ret = tls;
    return 0;
}

int kl_extension_client(struct kl_api_loop *al, struct kl_http_client **ret, struct kl_error *err)
{
    struct kl_http_client_opts o = {.loop = al->loop};
    int rc = al->http ? 0 : kl_http_client_new(&o, &al->http, err);
    *ret = al->http;
    return rc;
}

int kl_extension_find(struct kl_api_loop *al, struct kl_arena *a, struct kl_object *apiservice,
                      struct kl_extension *ret, struct kl_error *err)
{
    struct target t = target_of(&apiservice->root);
    struct kl_service_end e;
    int rc = kl_service_find(al, a, t.ns, t.name, t.port, &e, err);
    if (rc)
        return rc;
    ret->host = e.host;
    ret->port = e.port;
    ret->shown =
        kl_arena_printf(a, kl_str_chr(e.host, ':') >= 0 ? "https://[%.*s]:%d" : "https://%.*s:%d",
                        KL_PRI(e.host), e.port);
    if (!ret->shown.p)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    return tls_of(al, apiservice, &ret->tls, err);
}

struct kl_str kl_extension_error(struct kl_arena *a, int status, const struct kl_error *err)
{
    struct kl_str s = kl_relay_error(a, status, err);
    return s.p ? s : KL_STR("service unavailable");
}

// ---- who asks

// headerKeyEscape: what no header's name may hold, and the percent sign, as %XX; in lower case, as
// all our names are.
static struct kl_str header_key(struct kl_arena *a, struct kl_str key)
{
    static const char legal[] = "!#$&'*+-.^_`|~";
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_puts(&b, KL_STR("x-remote-extra-"));
    for (size_t i = 0; i < key.n; i++) {
        unsigned char c = (unsigned char)key.p[i];
        bool upper = c >= 'A' && c <= 'Z';
        if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr(legal, c)))
            kl_buf_putc(&b, (char)(upper ? c + 32 : c));
        else
            kl_buf_printf(&b, "%%%02x", c);
    }
    struct kl_str s = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return s;
}

bool kl_extension_user_headers(struct kl_arena *a, const struct kl_user *u,
                               struct kl_http_header *h, size_t *n, size_t max)
{
    size_t need = 2 + u->ngroups;
    for (size_t i = 0; i < u->nextra; i++)
        need += u->extra[i].nvalues;
    if (*n + need > max)
        return false;
    h[(*n)++] = (struct kl_http_header){KL_STR("x-remote-user"), u->name};
    if (u->uid.n)
        h[(*n)++] = (struct kl_http_header){KL_STR("x-remote-uid"), u->uid};
    for (size_t i = 0; i < u->ngroups; i++)
        h[(*n)++] = (struct kl_http_header){KL_STR("x-remote-group"), u->groups[i]};
    for (size_t i = 0; i < u->nextra; i++) {
        struct kl_str key = header_key(a, u->extra[i].key);
        for (size_t k = 0; k < u->extra[i].nvalues; k++)
            h[(*n)++] = (struct kl_http_header){key, u->extra[i].values[k]};
    }
    return true;
}

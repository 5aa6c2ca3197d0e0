// SPDX-License-Identifier: Apache-2.0
// X-Remote-* headers of a front proxy with a certificate of --requestheader-client-ca-file
// (apiserver pkg/authentication/request/headerrequest).
#include "apiserver/auth/authn_int.h"
#include "net/tls.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

enum { MAX_GROUPS = 256, MAX_EXTRA = 256, CA_MAX_BYTES = 1 << 20 };

struct kl_front_proxy {
    X509_STORE *store;
    char *pem;
    const char *const *names, *const *user, *const *uid, *const *group, *const *extra;
};

// What the cluster's own proxy, the aggregator, uses.
static const char *const
    own_names[] = {"system:auth-proxy", NULL},
    *const own_user[] = {"X-Remote-User", NULL}, *const own_uid[] = {"X-Remote-Uid", NULL},
    *const own_group[] = {"X-Remote-Group", NULL}, *const own_extra[] = {"X-Remote-Extra-", NULL};

static int load_cas(struct kl_front_proxy *f, struct kl_str pem, const char *path,
                    struct kl_error *err)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    int n = 0;
    for (X509 *x; b && (x = PEM_read_bio_X509(b, NULL, NULL, NULL)); n++) {
        X509_STORE_add_cert(f->store, x);
        X509_free(x);
    }
    BIO_free(b);
    ERR_clear_error();
    return n ? 0
             : kl_error_set(err, KL_EINVALID,
                            "%s: data does not contain any valid RSA or ECDSA certificates", path);
}

int kl_front_proxy_new(const struct kl_api_settings *s, struct kl_str own_ca,
                       struct kl_front_proxy **ret, struct kl_error *err)
{
    const char *file = s->requestheader_client_ca_file;
    struct kl_front_proxy *f;
    struct kl_arena a;
    struct kl_str pem = own_ca;
    *ret = NULL;
    if (!file && !own_ca.n)
        return 0;
    if (!(f = calloc(1, sizeof *f)) || !(f->store = X509_STORE_new())) {
        free(f);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    f->names = file ? s->requestheader_allowed_names : own_names;
    f->user = file ? s->requestheader_username_headers : own_user;
    f->uid = file ? s->requestheader_uid_headers : own_uid;
    f->group = file ? s->requestheader_group_headers : own_group;
    f->extra = file ? s->requestheader_extra_headers_prefix : own_extra;
    kl_arena_init(&a, 4 * CA_MAX_BYTES);
    int rc = file ? kl_auth_read_file(&a, file, CA_MAX_BYTES, &pem, err) : 0;
    if (!rc)
        rc = load_cas(f, pem, file ? file : "request header CA", err);
    if (!rc && !(f->pem = strndup(pem.p, pem.n)))
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    kl_arena_fini(&a);
    if (rc) {
        kl_front_proxy_free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

static void put_list(struct kl_buf *out, const char *member, const char *const *list)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    kl_buf_putc(&b, '[');
    for (size_t i = 0; list && list[i]; i++) {
        if (i)
            kl_buf_putc(&b, ',');
        kl_json_write_string(&b, kl_str(list[i]));
    }
    kl_buf_putc(&b, ']');
    kl_buf_printf(out, ",\"%s\":", member);
    kl_json_write_string(out, kl_buf_str(&b));
    kl_buf_fini(&b);
}

void kl_authn_request_headers(const struct kl_apiserver *s, struct kl_buf *out)
{
    const struct kl_front_proxy *f = s->authn->proxy;
    if (!f)
        return;
    kl_buf_puts(out, KL_STR(",\"requestheader-client-ca-file\":"));
    kl_json_write_string(out, kl_str(f->pem));
    put_list(out, "requestheader-allowed-names", f->names);
    put_list(out, "requestheader-extra-headers-prefix", f->extra);
    put_list(out, "requestheader-group-headers", f->group);
    put_list(out, "requestheader-uid-headers", f->uid);
    put_list(out, "requestheader-username-headers", f->user);
}

void kl_front_proxy_free(struct kl_front_proxy *f)
{
    if (!f)
        return;
    X509_STORE_free(f->store);
    free(f->pem);
    free(f);
}

static bool name_allowed(const struct kl_front_proxy *f, X509 *cert)
{
    const char *const *names = f->names;
    struct kl_arena a;
    struct kl_str cn, *orgs;
    size_t norgs;
    if (!names || !*names)
        return true;
    kl_arena_init(&a, 1 << 20);
    bool yes = false;
    if (!kl_tls_cert_user(cert, &a, &cn, &orgs, &norgs))
        for (size_t i = 0; names[i] && !yes; i++)
            yes = kl_str_eqz(cn, names[i]);
    kl_arena_fini(&a);
    return yes;
}

bool kl_front_proxy_trusts(const struct kl_front_proxy *f, X509 *cert)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok = ctx && X509_STORE_CTX_init(ctx, f->store, cert, NULL) == 1 &&
              X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_CLIENT) == 1 &&
              X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return ok && name_allowed(f, cert);
}

// Header names are compared as net/http canonicalises them: without case.
static bool is_named(struct kl_str header, const char *const *names)
{
    for (size_t i = 0; names && names[i]; i++)
        if (kl_str_ieq(header, kl_str(names[i])))
            return true;
    return false;
}

// The first header of the first name that has one.
static struct kl_str first_of(struct kl_http_req *hr, const char *const *names)
{
    size_t n;
    const struct kl_http_header *h = kl_http_headers(hr, &n);
    for (size_t i = 0; names && names[i]; i++)
        for (size_t k = 0; k < n; k++)
            if (kl_str_ieq(h[k].name, kl_str(names[i])) && kl_str_trim(h[k].value).n)
                return h[k].value;
    return KL_STR("");
}

int kl_front_proxy_user(const struct kl_front_proxy *f, struct kl_http_req *hr,
                        struct kl_user **ret)
{
    struct kl_arena *a = kl_http_req_arena(hr);
    struct kl_str name = first_of(hr, f->user), uid = first_of(hr, f->uid);
    size_t n, ngroups = 0, nx = 0, nv = 0;
    const struct kl_http_header *h = kl_http_headers(hr, &n);
    if (!name.n)
        return 0;
    struct kl_str *groups = kl_arena_alloc(a, MAX_GROUPS * sizeof *groups),
                  *values = kl_arena_alloc(a, MAX_EXTRA * sizeof *values);
    struct kl_user_extra *x = kl_arena_alloc(a, MAX_EXTRA * sizeof *x);
    if (!groups || !values || !x)
        return KL_ENOMEM;
    for (size_t i = 0; i < n && ngroups < MAX_GROUPS; i++)
        if (is_named(h[i].name, f->group))
            groups[ngroups++] = h[i].value;
    const char *const *prefixes = f->extra;
    for (size_t p = 0; prefixes && prefixes[p]; p++)
        for (size_t i = 0; i < n && nv < MAX_EXTRA; i++) {
            struct kl_str prefix = kl_str(prefixes[p]), head = {h[i].name.p, prefix.n};
            if (h[i].name.n <= prefix.n || !kl_str_ieq(head, prefix))
                continue;
            struct kl_str key = kl_percent_decode(a, kl_str_from(h[i].name, prefix.n), false);
            size_t k = 0;
            while (k < nx && !kl_str_eq(x[k].key, key))
                k++;
            if (k < nx)
                continue; // its values were taken with the first
            x[nx++] = (struct kl_user_extra){key, values + nv, 0};
            for (size_t j = i; j < n && nv < MAX_EXTRA; j++)
                if (kl_str_eq(h[j].name, h[i].name)) {
                    values[nv++] = h[j].value;
                    x[nx - 1].nvalues++;
                }
        }
    *ret = kl_user_new(name, uid, groups, ngroups, x, nx);
    return *ret ? 1 : KL_ENOMEM;
}

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
    const struct kl_api_settings *settings;
};

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

int kl_front_proxy_new(const struct kl_api_settings *s, struct kl_front_proxy **ret,
                       struct kl_error *err)
{
    struct kl_front_proxy *f = calloc(1, sizeof *f);
    struct kl_arena a;
    struct kl_str pem;
    if (!f || !(f->store = X509_STORE_new())) {
        free(f);
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    }
    f->settings = s;
    kl_arena_init(&a, 2 * CA_MAX_BYTES);
    int rc = kl_auth_read_file(&a, s->requestheader_client_ca_file, CA_MAX_BYTES, &pem, err);
    if (!rc)
        rc = load_cas(f, pem, s->requestheader_client_ca_file, err);
    kl_arena_fini(&a);
    if (rc) {
        kl_front_proxy_free(f);
        return rc;
    }
    *ret = f;
    return 0;
}

void kl_front_proxy_free(struct kl_front_proxy *f)
{
    if (!f)
        return;
    X509_STORE_free(f->store);
    free(f);
}

static bool name_allowed(const struct kl_front_proxy *f, X509 *cert)
{
    const char *const *names = f->settings->requestheader_allowed_names;
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
    const struct kl_api_settings *s = f->settings;
    struct kl_arena *a = kl_http_req_arena(hr);
    struct kl_str name = first_of(hr, s->requestheader_username_headers),
                  uid = first_of(hr, s->requestheader_uid_headers);
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
        if (is_named(h[i].name, s->requestheader_group_headers))
            groups[ngroups++] = h[i].value;
    const char *const *prefixes = s->requestheader_extra_headers_prefix;
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

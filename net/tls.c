// SPDX-License-Identifier: Apache-2.0
#include "net/tls.h"
#include "net/tls_int.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct kl_tls_ctx {
    atomic_uint refs;
    bool server, verify, any_name;
    pthread_mutex_t lock; // over what follows
    SSL_CTX *ssl;
    char *server_name;
};

// Forward secrecy and AEAD only: what HTTP/2 allows (RFC 9113 9.2.2).
static const char tls12_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
// In Go's order of preference, not OpenSSL's: 128 bits are enough, and 10 rounds instead of 14.
static const char tls13_ciphers[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const unsigned char alpn_both[] = "\x02h2\x08http/1.1";
static const unsigned char alpn_http1[] = "\x08http/1.1";
enum { TICKET_LIFETIME_S = 3600 };

int kl_tls_error(struct kl_error *err, int code, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    kl_error_set(err, code, "%s: %s", what, reason ? reason : "unknown TLS error");
    ERR_clear_error();
    return code;
}

// Instead of OpenSSL's default, which would ask at the terminal.
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    return -1;
}

static bool pem_given(const struct kl_tls_pem *p)
{
    return p->pem.n || p->file;
}

static int open_pem(const struct kl_tls_pem *p, const char *what, BIO **ret, struct kl_error *err)
{
    BIO *b = NULL;
    if (p->pem.n) {
        if (p->pem.n > 16 * 1024 * 1024)
            return kl_error_set(err, KL_EINVALID, "%s: PEM data too large", what);
        b = BIO_new_mem_buf(p->pem.p, (int)p->pem.n);
        if (!b)
            return kl_error_set(err, KL_ENOMEM, "%s: out of memory", what);
    } else if (p->file) {
        errno = 0;
        b = BIO_new_file(p->file, "r");
        if (!b) {
            int e = errno;
            ERR_clear_error();
            return kl_error_errno(err, e ? e : EIO, "%s: open %s", what, p->file);
        }
    } else {
        return kl_error_set(err, KL_EINVALID, "%s: not given", what);
    }
    *ret = b;
    return 0;
}

static int load_cert(SSL_CTX *ctx, const struct kl_tls_pem *p, struct kl_error *err)
{
    BIO *b = NULL;
    int rc = open_pem(p, "certificate", &b, err);
    if (rc)
        return rc;
    X509 *x = PEM_read_bio_X509_AUX(b, NULL, no_passphrase, NULL);
    if (!x || SSL_CTX_use_certificate(ctx, x) != 1) {
        rc = kl_tls_error(err, KL_EINVALID, "certificate");
        goto out;
    }
    SSL_CTX_clear_chain_certs(ctx);
    for (;;) {
        X509 *more = PEM_read_bio_X509(b, NULL, no_passphrase, NULL);
        if (!more)
            break;
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1) {
            X509_free(more);
            rc = kl_tls_error(err, KL_EINVALID, "certificate chain");
            goto out;
        }
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        rc = kl_tls_error(err, KL_EINVALID, "certificate chain");
out:
    ERR_clear_error();
    X509_free(x);
    BIO_free(b);
    return rc;
}

static int load_key(SSL_CTX *ctx, const struct kl_tls_pem *p, struct kl_error *err)
{
    BIO *b = NULL;
    int rc = open_pem(p, "private key", &b, err);
    if (rc)
        return rc;
    EVP_PKEY *k = PEM_read_bio_PrivateKey(b, NULL, no_passphrase, NULL);
    if (!k || SSL_CTX_use_PrivateKey(ctx, k) != 1)
        rc = kl_tls_error(err, KL_EINVALID, "private key");
    else if (SSL_CTX_check_private_key(ctx) != 1)
        rc = kl_tls_error(err, KL_EINVALID, "private key does not match the certificate");
    EVP_PKEY_free(k);
    BIO_free(b);
    return rc;
}

// Every certificate of the bundle becomes a root; with `announce` its name goes into the
// certificate request, as Go's ClientCAs does.
static int load_cas(SSL_CTX *ctx, const struct kl_tls_pem *p, bool announce, struct kl_error *err)
{
    BIO *b = NULL;
    int rc = open_pem(p, "CA bundle", &b, err), n = 0;
    if (rc)
        return rc;
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    // What is in the bundle is trusted, be it a CA or the certificate itself, as Go's verifier has
    // it.
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    for (X509 *x; (x = PEM_read_bio_X509_AUX(b, NULL, no_passphrase, NULL)); n++) {
        bool ok =
            X509_STORE_add_cert(store, x) == 1 && (!announce || SSL_CTX_add_client_CA(ctx, x) == 1);
        X509_free(x);
        if (!ok) {
            rc = kl_tls_error(err, KL_EINVALID, "CA bundle");
            goto out;
        }
    }
    if (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        rc = kl_tls_error(err, KL_EINVALID, "CA bundle");
out:
    ERR_clear_error();
    BIO_free(b);
    return rc;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
                       const unsigned char *in, unsigned int inlen, void *arg)
{
    const unsigned char *mine = arg;
    unsigned char *chosen;
    int rc = SSL_select_next_proto(&chosen, outlen, mine, (unsigned)strlen((const char *)mine), in,
                                   inlen);
    if (rc != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

// The handshake goes on with any client certificate; SSL_get_verify_result keeps the verdict.
static int accept_any(int ok, X509_STORE_CTX *x)
{
    return 1;
}

static int new_ssl_ctx(const SSL_METHOD *m, SSL_CTX **ret, struct kl_error *err)
{
    SSL_CTX *ctx = SSL_CTX_new(m);
    if (!ctx)
        return kl_tls_error(err, KL_ENOMEM, "TLS context");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
    // One recv for a record's header and body.
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_cipher_list(ctx, tls12_ciphers) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, tls13_ciphers) != 1) {
        SSL_CTX_free(ctx);
        return kl_tls_error(err, KL_EINTERNAL, "TLS ciphers");
    }
    *ret = ctx;
    return 0;
}

static int make_server(const struct kl_tls_server_opts *o, SSL_CTX **ret, struct kl_error *err)
{
    SSL_CTX *ctx;
    int rc = new_ssl_ctx(TLS_server_method(), &ctx, err);
    if (rc)
        return rc;
    // Tickets are kept by clients only; their keys are this context's, so that a reload with other
    // CAs ends the sessions that the old ones had verified.
    static const unsigned char session_id[] = "kinglet";
    SSL_CTX_set_session_id_context(ctx, session_id, sizeof(session_id) - 1);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_timeout(ctx, TICKET_LIFETIME_S);
    // Clients that close without close_notify lose nothing: HTTP messages say where they end.
    SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, (void *)(o->no_http2 ? alpn_http1 : alpn_both));
    rc = load_cert(ctx, &o->cert, err);
    if (!rc)
        rc = load_key(ctx, &o->key, err);
    if (!rc && pem_given(&o->client_ca)) {
        rc = load_cas(ctx, &o->client_ca, true, err);
        if (o->mutual || o->require_client)
            SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        else
            SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, accept_any);
    } else if (!rc && (o->mutual || o->require_client)) {
        rc = kl_error_set(err, KL_EINVALID, "CA bundle: not given");
    }
    if (o->mutual)
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    if (rc)
        SSL_CTX_free(ctx);
    else
        *ret = ctx;
    return rc;
}

static int make_client(const struct kl_tls_client_opts *o, SSL_CTX **ret, struct kl_error *err)
{
    SSL_CTX *ctx;
    int rc = new_ssl_ctx(TLS_client_method(), &ctx, err);
    if (rc)
        return rc;
    const unsigned char *alpn = o->no_http2 ? alpn_http1 : alpn_both;
    if (SSL_CTX_set_alpn_protos(ctx, alpn, (unsigned)strlen((const char *)alpn)))
        rc = kl_tls_error(err, KL_ENOMEM, "TLS ALPN");
    else if (pem_given(&o->ca))
        rc = load_cas(ctx, &o->ca, false, err);
    else if (!o->insecure_skip_verify && SSL_CTX_set_default_verify_paths(ctx) != 1)
        rc = kl_tls_error(err, KL_EIO, "system CA certificates");
    if (!rc && (pem_given(&o->cert) || pem_given(&o->key))) {
        rc = load_cert(ctx, &o->cert, err);
        if (!rc)
            rc = load_key(ctx, &o->key, err);
    }
    if (o->insecure_skip_verify)
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    else
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, kl_tls_why);
    if (o->mutual)
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    if (rc)
        SSL_CTX_free(ctx);
    else
        *ret = ctx;
    return rc;
}

static int new_ctx(SSL_CTX *ssl, bool server, struct kl_tls_ctx **ret, struct kl_error *err)
{
    struct kl_tls_ctx *c = calloc(1, sizeof(*c));
    if (!c) {
        SSL_CTX_free(ssl);
        return kl_error_set(err, KL_ENOMEM, "TLS context: out of memory");
    }
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->lock, NULL);
    c->server = server;
    c->ssl = ssl;
    *ret = c;
    return 0;
}

int kl_tls_server_new(const struct kl_tls_server_opts *o, struct kl_tls_ctx **ret,
                      struct kl_error *err)
{
    SSL_CTX *ssl;
    int rc = make_server(o, &ssl, err);
    return rc ? rc : new_ctx(ssl, true, ret, err);
}

int kl_tls_client_new(const struct kl_tls_client_opts *o, struct kl_tls_ctx **ret,
                      struct kl_error *err)
{
    SSL_CTX *ssl;
    int rc = make_client(o, &ssl, err);
    if (!rc)
        rc = new_ctx(ssl, false, ret, err);
    if (rc)
        return rc;
    (*ret)->verify = !o->insecure_skip_verify;
    (*ret)->any_name = o->mutual;
    if (o->server_name && !((*ret)->server_name = strdup(o->server_name))) {
        kl_tls_ctx_unref(*ret);
        *ret = NULL;
        return kl_error_set(err, KL_ENOMEM, "TLS context: out of memory");
    }
    return 0;
}

struct kl_tls_ctx *kl_tls_ctx_ref(struct kl_tls_ctx *c)
{
    if (c)
        atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void kl_tls_ctx_unref(struct kl_tls_ctx *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(c->ssl);
    free(c->server_name);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

int kl_tls_ctx_reload_server(struct kl_tls_ctx *c, const struct kl_tls_server_opts *o,
                             struct kl_error *err)
{
    SSL_CTX *fresh, *old;
    if (!c->server)
        return kl_error_set(err, KL_EINVALID, "not a TLS server context");
    int rc = make_server(o, &fresh, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&c->lock);
    old = c->ssl;
    c->ssl = fresh;
    pthread_mutex_unlock(&c->lock);
    SSL_CTX_free(old);
    return 0;
}

int kl_tls_ctx_reload_client(struct kl_tls_ctx *c, const struct kl_tls_client_opts *o,
                             struct kl_error *err)
{
    SSL_CTX *fresh, *old;
    if (c->server)
        return kl_error_set(err, KL_EINVALID, "not a TLS client context");
    char *name = o->server_name ? strdup(o->server_name) : NULL, *old_name;
    if (o->server_name && !name)
        return kl_error_set(err, KL_ENOMEM, "TLS context: out of memory");
    int rc = make_client(o, &fresh, err);
    if (rc) {
        free(name);
        return rc;
    }
    pthread_mutex_lock(&c->lock);
    old = c->ssl;
    old_name = c->server_name;
    c->ssl = fresh;
    c->server_name = name;
    c->verify = !o->insecure_skip_verify;
    c->any_name = o->mutual;
    pthread_mutex_unlock(&c->lock);
    SSL_CTX_free(old);
    free(old_name);
    return 0;
}

static bool is_ip(const char *s)
{
    unsigned char b[16];
    return inet_pton(AF_INET, s, b) == 1 || inet_pton(AF_INET6, s, b) == 1;
}

// SNI for names (RFC 6066 forbids addresses), and the identity the certificate must have.
static int set_identity(SSL *ssl, const char *name, bool verify)
{
    if (is_ip(name))
        return !verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    if (SSL_set_tlsext_host_name(ssl, name) != 1)
        return 0;
    SSL_set_hostflags(ssl,
                      X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return !verify || SSL_set1_host(ssl, name) == 1;
}

int kl_tls_ssl_new(struct kl_tls_ctx *c, const char *host, bool no_http2, SSL **ret,
                   struct kl_error *err)
{
    int ok = 1;
    pthread_mutex_lock(&c->lock);
    SSL *ssl = SSL_new(c->ssl);
    if (ssl && !c->server && !c->any_name) {
        const char *name = c->server_name ? c->server_name : host;
        if (name)
            ok = set_identity(ssl, name, c->verify);
        else if (c->verify)
            ok = 0; // nothing to check the certificate against
    }
    pthread_mutex_unlock(&c->lock);
    if (ssl && ok && !c->server && no_http2)
        ok = SSL_set_alpn_protos(ssl, alpn_http1, sizeof(alpn_http1) - 1) == 0;
    if (!ssl || !ok) {
        SSL_free(ssl);
        return kl_tls_error(err, KL_EINVALID, "TLS connection");
    }
    if (c->server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    *ret = ssl;
    return 0;
}

static struct kl_str dup_asn1(struct kl_arena *a, const X509_NAME_ENTRY *e)
{
    unsigned char *utf8;
    int n = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(e));
    if (n < 0) {
        ERR_clear_error();
        return (struct kl_str){"", 0};
    }
    struct kl_str s = kl_arena_dup(a, (struct kl_str){(char *)utf8, (size_t)n});
    OPENSSL_free(utf8);
    return s;
}

int kl_tls_cert_user(X509 *cert, struct kl_arena *a, struct kl_str *ret_cn,
                     struct kl_str **ret_orgs, size_t *ret_norgs)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int entries = subject ? X509_NAME_entry_count(subject) : 0;
    struct kl_str cn = {0}, *orgs = kl_arena_alloc(a, sizeof(*orgs) * ((size_t)entries + 1));
    size_t n = 0;
    if (!orgs)
        return KL_ENOMEM;
    for (int i = 0; i < entries; i++) {
        const X509_NAME_ENTRY *e = X509_NAME_get_entry(subject, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(e));
        if (nid != NID_commonName && nid != NID_organizationName)
            continue;
        struct kl_str s = dup_asn1(a, e);
        if (!s.p)
            return KL_ENOMEM;
        if (nid == NID_commonName)
            cn = s;
        else
            orgs[n++] = s;
    }
    if (!cn.n)
        return KL_EINVALID;
    *ret_cn = cn;
    *ret_orgs = orgs;
    *ret_norgs = n;
    return 0;
}

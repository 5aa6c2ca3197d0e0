// SPDX-License-Identifier: Apache-2.0
#include "controllers/csr.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

enum { BACKDATE_S = 300, SHORT_S = 8 * 3600, SERIAL_BYTES = 16 };

struct kl_ca {
    X509 *cert;
    EVP_PKEY *key;
};

enum kl_csr_signer kl_csr_signer_of(struct kl_str name)
{
    return kl_str_eqz(name, "kubernetes.io/kube-apiserver-client")           ? KL_CSR_CLIENT
           : kl_str_eqz(name, "kubernetes.io/kube-apiserver-client-kubelet") ? KL_CSR_KUBELET_CLIENT
           : kl_str_eqz(name, "kubernetes.io/kubelet-serving") ? KL_CSR_KUBELET_SERVING
                                                               : KL_CSR_OTHERS;
}

// ---- what signers take

static bool has_usage(const struct kl_value *usages, const char *name)
{
    for (KL_EACH(u, usages))
        if (kl_str_eqz(kl_text(u), name))
            return true;
    return false;
}

// These, with or without the one that only RSA keys need, and no others.
static bool usages_are(const struct kl_value *usages, const char *auth)
{
    for (KL_EACH(u, usages)) {
        struct kl_str s = kl_text(u);
        if (!kl_str_eqz(s, "digital signature") && !kl_str_eqz(s, "key encipherment") &&
            !kl_str_eqz(s, auth))
            return false;
    }
    return has_usage(usages, "digital signature") && has_usage(usages, auth);
}

static int refuse(struct kl_error *err, const char *why)
{
    return kl_error_set(err, KL_EINVALID, "%s", why);
}

static int check_client(const struct kl_value *usages, struct kl_error *err)
{
    for (KL_EACH(u, usages)) {
        struct kl_str s = kl_text(u);
        if (!kl_str_eqz(s, "digital signature") && !kl_str_eqz(s, "key encipherment") &&
            !kl_str_eqz(s, "client auth"))
            return kl_error_set(err, KL_EINVALID, "invalid usage for client certificate: %.*s",
                                KL_PRI(s));
    }
    if (!has_usage(usages, "client auth"))
        return refuse(err, "missing required usage for client certificate: client auth");
    return 0;
}

int kl_csr_check(enum kl_csr_signer s, const struct kl_csr *c, const struct kl_value *usages,
                 struct kl_error *err)
{
    bool serving = s == KL_CSR_KUBELET_SERVING;
    if (s == KL_CSR_CLIENT)
        return check_client(usages, err);
    if (c->norgs != 1 || !kl_str_eqz(c->orgs[0], "system:nodes"))
        return refuse(err, "subject organization is not system:nodes");
    if (serving && !c->ndns && !c->nip)
        return refuse(err, "DNS or IP subjectAltName is required");
    if (!serving && c->ndns)
        return refuse(err, "DNS subjectAltNames are not allowed");
    if (c->nemail)
        return refuse(err, "Email subjectAltNames are not allowed");
    if (!serving && c->nip)
        return refuse(err, "IP subjectAltNames are not allowed");
    if (c->nuri)
        return refuse(err, "URI subjectAltNames are not allowed");
    bool named = kl_str_starts(c->cn, KL_STR("system:node:"));
    if (!serving && !named)
        return refuse(err, "subject common name does not begin with system:node:");
    if (!usages_are(usages, serving ? "server auth" : "client auth"))
        return kl_error_set(err, KL_EINVALID, "usages did not match %s",
                            serving ? "[digital signature key encipherment server auth]"
                                    : "[client auth digital signature key encipherment]");
    return named ? 0 : refuse(err, "subject common name does not begin with system:node:");
}

// ---- the CA

int kl_ca_new(struct kl_str cert_pem, struct kl_str key_pem, struct kl_ca **ret,
              struct kl_error *err)
{
    struct kl_ca *ca = calloc(1, sizeof *ca);
    BIO *c = BIO_new_mem_buf(cert_pem.p, (int)cert_pem.n),
        *k = BIO_new_mem_buf(key_pem.p, (int)key_pem.n);
    if (!ca || !c || !k) {
        free(ca);
        ca = NULL;
    } else {
        ca->cert = PEM_read_bio_X509(c, NULL, NULL, NULL);
        ca->key = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
    }
    BIO_free(c);
    BIO_free(k);
    if (!ca)
        return kl_error_set(err, KL_ENOMEM, "signer: out of memory");
    bool fits = ca->cert && ca->key && X509_check_private_key(ca->cert, ca->key) == 1;
    ERR_clear_error();
    if (!fits) {
        kl_ca_free(ca);
        return kl_error_set(err, KL_EINVALID, "signer: no CA certificate with its key");
    }
    *ret = ca;
    return 0;
}

void kl_ca_free(struct kl_ca *ca)
{
    if (!ca)
        return;
    X509_free(ca->cert);
    EVP_PKEY_free(ca->key); // wipes it
    free(ca);
}

static const struct {
    const char *usage, *key, *extended; // OpenSSL's names
} usage_names[] = {
    {"signing", "digitalSignature", NULL},
    {"digital signature", "digitalSignature", NULL},
    {"content commitment", "nonRepudiation", NULL},
    {"key encipherment", "keyEncipherment", NULL},
    {"key agreement", "keyAgreement", NULL},
    {"data encipherment", "dataEncipherment", NULL},
    {"cert sign", "keyCertSign", NULL},
    {"crl sign", "cRLSign", NULL},
    {"encipher only", "encipherOnly", NULL},
    {"decipher only", "decipherOnly", NULL},
    {"any", NULL, "anyExtendedKeyUsage"},
    {"server auth", NULL, "serverAuth"},
    {"client auth", NULL, "clientAuth"},
    {"code signing", NULL, "codeSigning"},
    {"email protection", NULL, "emailProtection"},
    {"s/mime", NULL, "emailProtection"},
    {"ipsec end system", NULL, "ipsecEndSystem"},
    {"ipsec tunnel", NULL, "ipsecTunnel"},
    {"ipsec user", NULL, "ipsecUser"},
    {"timestamping", NULL, "timeStamping"},
    {"ocsp signing", NULL, "OCSPSigning"},
    {"microsoft sgc", NULL, "msSGC"},
    {"netscape sgc", NULL, "nsSGC"},
};

static void add_name(char *list, size_t room, const char *name)
{
    size_t n = strlen(list);
    if (name && !strstr(list, name) && n + strlen(name) + 2 < room) {
        if (n > 9) // behind "critical,"
            list[n++] = ',';
        memcpy(list + n, name, strlen(name) + 1);
    }
}

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static bool add_usages(X509 *x, const struct kl_value *usages, struct kl_error *err)
{
    char key[256] = "critical,", extended[512] = "critical,";
    for (KL_EACH(u, usages)) {
        size_t i = 0;
        while (i < KL_COUNT(usage_names) && !kl_str_eqz(kl_text(u), usage_names[i].usage))
            i++;
        if (i == KL_COUNT(usage_names)) {
            kl_error_set(err, KL_EINVALID, "unrecognized usage values: [\"%.*s\"]",
                         KL_PRI(kl_text(u)));
            return false;
        }
        add_name(key, sizeof key, usage_names[i].key);
        add_name(extended, sizeof extended, usage_names[i].extended);
    }
    return (strlen(key) == 9 || add_extension(x, NID_key_usage, key)) &&
           (strlen(extended) == 9 || add_extension(x, NID_ext_key_usage, extended + 9));
}

// The alternative names as they were asked for; nothing else of the request's extensions.
static bool copy_names(X509 *x, X509_REQ *req)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(req);
    int at = exts ? X509v3_get_ext_by_NID(exts, NID_subject_alt_name, -1) : -1;
    bool ok = at < 0 || X509_add_ext(x, X509v3_get_ext(exts, at), -1) == 1;
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return ok;
}

static bool add_key_ids(X509 *x, X509 *ca)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, ca, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid");
    bool ok = !e || X509_add_ext(x, e, -1) == 1; // a CA without one has none to name
    X509_EXTENSION_free(e);
    ERR_clear_error();
    return ok;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

static bool set_serial(X509 *x)
{
    unsigned char raw[SERIAL_BYTES];
    if (RAND_bytes(raw, sizeof raw) != 1)
        return false;
    raw[0] = (unsigned char)((raw[0] & 0x7f) | 0x40); // positive, and as long as the others
    BIGNUM *bn = BN_bin2bn(raw, sizeof raw, NULL);
    bool ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
    BN_free(bn);
    return ok;
}

static bool fill(X509 *x, const struct kl_ca *ca, const struct kl_csr *c,
                 const struct kl_value *usages, int64_t from_s, int64_t to_s, struct kl_error *err)
{
    return X509_set_version(x, 2) == 1 && set_serial(x) &&
           X509_set_issuer_name(x, X509_get_subject_name(ca->cert)) == 1 &&
           X509_set_subject_name(x, X509_REQ_get_subject_name(c->req)) == 1 &&
           X509_set_pubkey(x, X509_REQ_get0_pubkey(c->req)) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(x), (time_t)from_s) &&
           ASN1_TIME_set(X509_getm_notAfter(x), (time_t)to_s) && add_usages(x, usages, err) &&
           add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
           add_key_ids(x, ca->cert) && copy_names(x, c->req);
}

int kl_ca_sign(const struct kl_ca *ca, const struct kl_csr *c, const struct kl_value *usages,
               int64_t now_s, int64_t ttl_s, struct kl_arena *a, struct kl_str *ret,
               struct kl_error *err)
{
    int64_t ca_end = seconds_of(X509_get0_notAfter(ca->cert)),
            end = now_s + ttl_s - (ttl_s < SHORT_S ? 0 : BACKDATE_S);
    if (now_s >= ca_end)
        return kl_error_set(err, KL_EINVALID,
                            "refusing to sign a certificate that expired in the past");
    X509 *x = X509_new();
    BIO *b = BIO_new(BIO_s_mem());
    const EVP_MD *md = EVP_PKEY_get_base_id(ca->key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
    char *p;
    err->code = 0;
    bool ok = x && b &&
              fill(x, ca, c, usages, now_s - BACKDATE_S, end < ca_end ? end : ca_end, err) &&
              X509_sign(x, ca->key, md) > 0 && PEM_write_bio_X509(b, x) == 1;
    long n = ok ? BIO_get_mem_data(b, &p) : 0;
    if (ok)
        *ret = kl_arena_dup(a, (struct kl_str){p, (size_t)n});
    X509_free(x);
    BIO_free(b);
    ERR_clear_error();
    if (ok && ret->p)
        return 0;
    return err->code ? err->code : kl_error_set(err, KL_EINTERNAL, "certificate not signed");
}

int64_t kl_certificate_expires_s(struct kl_str pem)
{
    BIO *b = pem.n ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *x = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    int64_t at = x ? seconds_of(X509_get0_notAfter(x)) : 0;
    X509_free(x);
    BIO_free(b);
    ERR_clear_error();
    return at;
}

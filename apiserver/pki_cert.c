// SPDX-License-Identifier: Apache-2.0
// ECDSA P-256 certificates by OpenSSL: CAs for ten years, leaves for one.
#include "apiserver/pki_int.h"
#include "base/rand.h"
#include "net/tls.h"
#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <time.h>

enum {
    DAY_S = 86400,
    CA_DAYS = 3650,
    LEAF_DAYS = 365,
    RENEW_DAYS = 90,
    SKEW_S = 3600, // clocks of clients may be behind ours
};

void kl_pki_pair_fini(struct kl_pki_pair *p)
{
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
    *p = (struct kl_pki_pair){0};
}

// Moves what a memory BIO holds into the arena; the BIO's memory is wiped when it is freed.
static int bio_text(struct kl_arena *a, BIO *b, struct kl_str *ret, struct kl_error *err)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    *ret = kl_arena_dup(a, (struct kl_str){p, n > 0 ? (size_t)n : 0});
    return ret->p ? 0 : kl_error_set(err, KL_ENOMEM, "certificate: out of memory");
}

static int key_text(struct kl_arena *a, EVP_PKEY *key, struct kl_str *ret, struct kl_error *err)
{
    BIO *b = BIO_new(BIO_s_mem());
    int rc = b && PEM_write_bio_PrivateKey_traditional(b, key, NULL, NULL, 0, NULL, NULL) == 1
                 ? bio_text(a, b, ret, err)
                 : kl_tls_error(err, KL_EINTERNAL, "write private key");
    BIO_free(b);
    return rc;
}

int kl_pki_make_key(struct kl_arena *a, struct kl_str *ret_key, struct kl_error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    int rc = key ? key_text(a, key, ret_key, err) : kl_tls_error(err, KL_EINTERNAL, "make key");
    EVP_PKEY_free(key);
    return rc;
}

EVP_PKEY *kl_pki_load_key(struct kl_str pem, const char *what, struct kl_error *err)
{
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    // No pass phrase is ever asked for on the terminal.
    EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, NULL, (void *)"") : NULL;
    BIO_free(b);
    if (!key)
        kl_tls_error(err, KL_EINVALID, what);
    return key;
}

int kl_pki_load(struct kl_str cert, struct kl_str key, const char *what, struct kl_pki_pair *ret,
                struct kl_error *err)
{
    struct kl_pki_pair p = {0};
    BIO *b = BIO_new_mem_buf(cert.p, (int)cert.n);
    p.cert = b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
    BIO_free(b);
    if (!p.cert)
        return kl_tls_error(err, KL_EINVALID, what);
    if (!(p.key = kl_pki_load_key(key, what, err))) {
        kl_pki_pair_fini(&p);
        return KL_EINVALID;
    }
    if (X509_check_private_key(p.cert, p.key) != 1) {
        kl_pki_pair_fini(&p);
        return kl_tls_error(err, KL_EINVALID, what);
    }
    *ret = p;
    return 0;
}

// As UTF8String, for which OpenSSL does not insist on the 64 bytes of X.520: users are longer.
static bool name_add(X509_NAME *n, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(n, field, V_ASN1_UTF8STRING, (const unsigned char *)text, -1,
                                      -1, 0) == 1;
}

static bool ext_add(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

static GENERAL_NAME *general_name(const char *san)
{
    unsigned char ip[16];
    int n = inet_pton(AF_INET, san, ip) == 1 ? 4 : inet_pton(AF_INET6, san, ip) == 1 ? 16 : 0;
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_STRING *s = n ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (!g || !s || ASN1_STRING_set(s, n ? (const void *)ip : san, n ? n : -1) != 1) {
        GENERAL_NAME_free(g);
        ASN1_STRING_free(s);
        return NULL;
    }
    GENERAL_NAME_set0_value(g, n ? GEN_IPADD : GEN_DNS, s);
    return g;
}

static GENERAL_NAME *uri_name(const char *uri)
{
    GENERAL_NAME *g = GENERAL_NAME_new();
    ASN1_STRING *s = ASN1_IA5STRING_new();
    if (!g || !s || ASN1_STRING_set(s, uri, -1) != 1) {
        GENERAL_NAME_free(g);
        ASN1_STRING_free(s);
        return NULL;
    }
    GENERAL_NAME_set0_value(g, GEN_URI, s);
    return g;
}

static bool sans_add(X509 *x, const char *const *sans, const char *uri)
{
    GENERAL_NAMES *gs = GENERAL_NAMES_new();
    GENERAL_NAME *u = gs && uri ? uri_name(uri) : NULL;
    bool ok = gs && (!uri || (u && sk_GENERAL_NAME_push(gs, u)));
    for (size_t i = 0; ok && sans && sans[i]; i++) {
        bool twice = !*sans[i];
        for (size_t j = 0; j < i && !twice; j++)
            twice = strcmp(sans[i], sans[j]) == 0;
        GENERAL_NAME *g = twice ? NULL : general_name(sans[i]);
        if (!twice && (!g || !sk_GENERAL_NAME_push(gs, g))) {
            GENERAL_NAME_free(g);
            ok = false;
        }
    }
    ok = ok && (!sk_GENERAL_NAME_num(gs) ||
                X509_add1_ext_i2d(x, NID_subject_alt_name, gs, 0, X509V3_ADD_DEFAULT) == 1);
    GENERAL_NAMES_free(gs);
    return ok;
}

// Version, serial, life time and key; the subject and extensions are the caller's.
static bool begin_cert(X509 *x, EVP_PKEY *key, X509 *issuer, int days)
{
    unsigned char serial[16];
    kl_rand_bytes(serial, sizeof serial);
    serial[0] = (serial[0] & 0x7f) | 0x40; // positive and of full length
    BIGNUM *bn = BN_bin2bn(serial, sizeof serial, NULL);
    bool ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
    BN_free(bn);
    ok = ok && X509_set_version(x, X509_VERSION_3) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(x), -SKEW_S) &&
         X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL) && X509_set_pubkey(x, key) == 1;
    // A leaf never outlives its issuer.
    if (ok && issuer && ASN1_TIME_compare(X509_get0_notAfter(x), X509_get0_notAfter(issuer)) > 0)
        ok = X509_set1_notAfter(x, X509_get0_notAfter(issuer)) == 1;
    return ok && (!issuer || X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1);
}

static const EVP_MD *digest_for(EVP_PKEY *signer)
{
    return EVP_PKEY_get_id(signer) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

int kl_pki_make_ca(struct kl_arena *a, const char *cn, EVP_PKEY *reuse, struct kl_str *ret_cert,
                   struct kl_str *ret_key, struct kl_error *err)
{
    EVP_PKEY *key = reuse;
    if (key)
        EVP_PKEY_up_ref(key);
    else
        key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *b = BIO_new(BIO_s_mem());
    int rc = 0;
    if (!key || !x || !b || !begin_cert(x, key, NULL, CA_DAYS) ||
        !name_add(X509_get_subject_name(x), "CN", cn) ||
        X509_set_issuer_name(x, X509_get_subject_name(x)) != 1 ||
        !ext_add(x, x, NID_key_usage, "critical,digitalSignature,keyEncipherment,keyCertSign") ||
        !ext_add(x, x, NID_basic_constraints, "critical,CA:TRUE") ||
        !ext_add(x, x, NID_subject_key_identifier, "hash") || !X509_sign(x, key, digest_for(key)) ||
        PEM_write_bio_X509(b, x) != 1)
        rc = kl_tls_error(err, KL_EINTERNAL, cn);
    if (!rc && !(rc = key_text(a, key, ret_key, err)))
        rc = bio_text(a, b, ret_cert, err);
    BIO_free(b);
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

static bool self_issued(X509 *x)
{
    return X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
}

int kl_pki_make_leaf(struct kl_arena *a, const struct kl_pki_leaf *l, const struct kl_pki_pair *ca,
                     struct kl_str *ret_cert, struct kl_str *ret_key, struct kl_error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *b = BIO_new(BIO_s_mem());
    bool ok = key && x && b && begin_cert(x, key, ca->cert, LEAF_DAYS);
    for (size_t i = 0; ok && l->orgs && l->orgs[i]; i++)
        ok = name_add(X509_get_subject_name(x), "O", l->orgs[i]);
    ok = ok && name_add(X509_get_subject_name(x), "CN", l->cn) &&
         ext_add(x, ca->cert, NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
         ext_add(x, ca->cert, NID_ext_key_usage,
                 l->both     ? "serverAuth,clientAuth"
                 : l->server ? "serverAuth"
                             : "clientAuth");
    // A CA of the user's may have no key identifier.
    if (ok && X509_get0_subject_key_id(ca->cert))
        ok = ext_add(x, ca->cert, NID_authority_key_identifier, "keyid:always");
    ok = ok && ((!l->sans && !l->uri) || sans_add(x, l->sans, l->uri)) &&
         X509_sign(x, ca->key, digest_for(ca->key)) && PEM_write_bio_X509(b, x) == 1 &&
         (self_issued(ca->cert) || PEM_write_bio_X509(b, ca->cert) == 1);
    int rc = ok ? key_text(a, key, ret_key, err) : kl_tls_error(err, KL_EINTERNAL, l->cn);
    if (!rc)
        rc = bio_text(a, b, ret_cert, err);
    BIO_free(b);
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

static bool has_san(X509 *x, const char *san)
{
    unsigned char ip[16];
    if (!*san)
        return true;
    if (inet_pton(AF_INET, san, ip) == 1 || inet_pton(AF_INET6, san, ip) == 1)
        return X509_check_ip_asc(x, san, 0) == 1;
    return X509_check_host(x, san, strlen(san), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

static bool has_uri(X509 *x, const char *uri)
{
    GENERAL_NAMES *gs = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(gs) && !found; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(gs, i);
        const ASN1_STRING *s = g->d.uniformResourceIdentifier;
        found = g->type == GEN_URI && ASN1_STRING_length(s) == (int)strlen(uri) &&
                !memcmp(ASN1_STRING_get0_data(s), uri, strlen(uri));
    }
    GENERAL_NAMES_free(gs);
    return found;
}

bool kl_pki_leaf_good(const struct kl_pki_pair *leaf, const struct kl_pki_leaf *want,
                      const struct kl_pki_pair *ca)
{
    time_t soon = time(NULL) + (time_t)RENEW_DAYS * DAY_S;
    // Names and key identifiers suffice here: who can place files needs no forged signature.
    if (X509_check_issued(ca->cert, leaf->cert) != X509_V_OK ||
        X509_cmp_time(X509_get0_notAfter(leaf->cert), &soon) <= 0)
        return false;
    if (want->uri && !has_uri(leaf->cert, want->uri))
        return false;
    for (size_t i = 0; want->sans && want->sans[i]; i++)
        if (!has_san(leaf->cert, want->sans[i]))
            return false;
    return true;
}

int64_t kl_pki_leaf_due_s(const struct kl_pki_pair *leaf)
{
    struct tm tm;
    if (!ASN1_TIME_to_tm(X509_get0_notAfter(leaf->cert), &tm))
        return 0;
    return (int64_t)timegm(&tm) - (int64_t)RENEW_DAYS * DAY_S;
}

// Whether `issuer` is a CA that signed `x`, a CA too.
static bool signed_by(X509 *x, X509 *issuer)
{
    return X509_check_ca(x) >= 1 && X509_check_ca(issuer) >= 1 &&
           X509_check_issued(issuer, x) == X509_V_OK &&
           X509_verify(x, X509_get0_pubkey(issuer)) == 1;
}

int kl_ca_hash(struct kl_str ca_pem, char ret[65], struct kl_error *err)
{
    BIO *in = BIO_new_mem_buf(ca_pem.p, (int)ca_pem.n), *out = BIO_new(BIO_s_mem());
    X509 *last = NULL;
    bool chained = true;
    int n = 0;
    // A stranger's CA before ours would be trusted for the hash of ours.
    for (X509 *x; in && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)); n++) {
        chained = chained && (!last || signed_by(last, x));
        X509_free(last);
        last = x;
    }
    unsigned char md[SHA256_DIGEST_LENGTH];
    char *p = NULL;
    long len = 0;
    bool ok = last && out && PEM_write_bio_X509(out, last) == 1 &&
              (len = BIO_get_mem_data(out, &p)) > 0 && SHA256((unsigned char *)p, (size_t)len, md);
    // One certificate is hashed as the file has it, a bundle's root as it is written anew.
    if (ok && n == 1)
        ok = SHA256((const unsigned char *)ca_pem.p, ca_pem.n, md) != NULL;
    for (int i = 0; ok && i < SHA256_DIGEST_LENGTH; i++) {
        ret[2 * i] = "0123456789abcdef"[md[i] >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[md[i] & 15];
    }
    ret[64] = 0;
    X509_free(last);
    BIO_free(in);
    BIO_free(out);
    if (!ok)
        return kl_tls_error(err, KL_EINVALID, "server CA");
    ERR_clear_error(); // the end of the PEM file
    return chained ? 0
                   : kl_error_set(err, KL_EINVALID,
                                  "server CA: each certificate of a bundle must be a CA that the "
                                  "next one signed");
}

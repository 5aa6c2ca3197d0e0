// SPDX-License-Identifier: Apache-2.0
#include "apiserver/auth/trust.h"
#include "apiserver/auth/auth.h"
#include "base/clock.h"
#include "object/conditions.h"
#include "object/names.h"
#include "object/timestamp.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum {
    BUNDLE_MAX = 1 << 20,
    KEY_MAX = 10 * 1024, // also proofs and requests
    CHAIN_MAX = 100 * 1024,
    ANCHORS_MAX = 4096, // of one bundle that are compared
};
static const int64_t NEAR_US = INT64_C(300) * 1000000, MARGIN_US = INT64_C(600) * 1000000,
                     HOUR_US = INT64_C(3600) * 1000000;

static void invalid(struct kl_field_errors *e, const char *field, const char *what)
{
    kl_field_error(e, "FieldValueInvalid", kl_str(field), "Invalid value: %s", what);
}

static void too_long(struct kl_field_errors *e, const char *field, int max)
{
    kl_field_error(e, "FieldValueTooLong", kl_str(field), "Too long: may not be more than %d bytes",
                   max);
}

// ---- PEM

struct block {
    char *name, *header;
    unsigned char *der;
    long n;
};

static void free_block(struct block *b)
{
    OPENSSL_free(b->name);
    OPENSSL_free(b->header);
    OPENSSL_free(b->der);
    *b = (struct block){0};
}

// What is no block is passed over, as pem.Decode does. False: no further one.
static bool next_block(BIO *in, struct block *b)
{
    while (PEM_read_bio(in, &b->name, &b->header, &b->der, &b->n) != 1) {
        unsigned long why = ERR_peek_last_error();
        ERR_clear_error();
        *b = (struct block){0};
        if (ERR_GET_REASON(why) == PEM_R_NO_START_LINE || BIO_eof(in))
            return false;
    }
    return true;
}

static X509 *certificate_of(const struct block *b)
{
    const unsigned char *p = b->der;
    X509 *x = d2i_X509(NULL, &p, b->n);
    if (x && p == b->der + b->n)
        return x;
    X509_free(x);
    ERR_clear_error();
    return NULL;
}

// ---- ClusterTrustBundles

struct anchor {
    unsigned char *der;
    long n;
};

// NULL, or what is wrong with the block.
static const char *anchor_error(const struct block *b, struct kl_arena *a, size_t i)
{
    if (strcmp(b->name, PEM_STRING_X509) != 0)
        return kl_arena_printf(a, "entry %zu has bad block type: %s", i, b->name).p;
    if (b->header[0])
        return kl_arena_printf(a, "entry %zu has PEM block headers", i).p;
    X509 *x = certificate_of(b);
    uint32_t flags = x ? X509_get_extension_flags(x) : 0;
    X509_free(x);
    if (!x)
        return kl_arena_printf(a, "entry %zu does not parse as X.509", i).p;
    if (!(flags & EXFLAG_CA))
        return kl_arena_printf(a, "entry %zu does not have the CA bit set", i).p;
    return NULL;
}

static void say_bundle(struct kl_field_errors *e, const char *why)
{
    kl_field_invalid(e, KL_STR("spec.trustBundle"), KL_STR("<value omitted>"),
                     why ? why : "out of memory");
}

// The indexes of those like anchor i, if it is the first of several.
static void say_twins(struct kl_field_errors *e, const struct anchor *list, size_t n, size_t i)
{
    struct kl_str all = KL_STR("");
    size_t found = 0;
    for (size_t k = 0; k < n; k++) {
        if (list[k].n != list[i].n || memcmp(list[k].der, list[i].der, (size_t)list[i].n) != 0)
            continue;
        if (k < i)
            return;
        all = kl_arena_printf(e->arena, "%.*s%s%zu", KL_PRI(all), found++ ? " " : "", k);
    }
    if (found > 1)
        say_bundle(
            e, kl_arena_printf(e->arena, "duplicate trust anchor (indices [%.*s])", KL_PRI(all)).p);
}

static void check_bundle(struct kl_str text, struct kl_field_errors *e)
{
    if (text.n > BUNDLE_MAX) {
        too_long(e, "spec.trustBundle", BUNDLE_MAX);
        return;
    }
    BIO *in = BIO_new_mem_buf(text.p, (int)text.n);
    struct anchor *list = kl_arena_alloc(e->arena, ANCHORS_MAX * sizeof *list);
    struct block b = {0};
    size_t n = 0, i = 0, before = e->n;
    bool full = !in || !list;
    for (; !full && next_block(in, &b); i++) {
        const char *why = anchor_error(&b, e->arena, i);
        if (why) {
            say_bundle(e, why);
        } else if (!(full = n == ANCHORS_MAX)) {
            list[n++] = (struct anchor){b.der, b.n};
            b.der = NULL;
        }
        free_block(&b);
    }
    if (full)
        say_bundle(e, "out of memory");
    else if (e->n == before && !n)
        say_bundle(e, "at least one trust anchor must be provided");
    for (size_t k = 0, all = e->n == before ? n : 0; k < all; k++)
        say_twins(e, list, n, k);
    while (n)
        OPENSSL_free(list[--n].der);
    BIO_free(in);
}

// ---- keys

static const char *key_error(EVP_PKEY *key, struct kl_arena *a, bool old, struct kl_str *shown)
{
    char curve[64] = "";
    *shown = (struct kl_str){NULL, 0};
    switch (key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
    case EVP_PKEY_ED25519:
        return NULL;
    case EVP_PKEY_EC:
        EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL);
        if (!strcmp(curve, "prime256v1") || !strcmp(curve, "secp384r1") ||
            !strcmp(curve, "secp521r1"))
            return NULL;
        *shown = kl_arena_printf(a, "curve %s", strcmp(curve, "secp224r1") ? curve : "P-224");
        return old ? "elliptic public keys must use curve P256 or P384"
                   : "elliptic public keys must use curve P256, P384, or P521";
    case EVP_PKEY_RSA:
        if (EVP_PKEY_get_size(key) * 8 == 3072 || EVP_PKEY_get_size(key) * 8 == 4096)
            return NULL;
        *shown = kl_arena_printf(a, "%d-bit modulus", EVP_PKEY_get_size(key) * 8);
        return "RSA keys must have modulus size 3072 or 4096";
    default:
        return "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
    }
}

static X509_REQ *read_stub(struct kl_str der)
{
    const unsigned char *p = (const unsigned char *)der.p;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)der.n);
    if (req && p == (const unsigned char *)der.p + der.n)
        return req;
    X509_REQ_free(req);
    ERR_clear_error();
    return NULL;
}

static EVP_PKEY *read_key(struct kl_str der)
{
    const unsigned char *p = (const unsigned char *)der.p;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)der.n);
    if (key && p == (const unsigned char *)der.p + der.n)
        return key;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return NULL;
}

static void check_stub(struct kl_str der, struct kl_field_errors *e)
{
    static const char field[] = "spec.stubPKCS10Request";
    struct kl_str shown;
    if (der.n > KEY_MAX) {
        too_long(e, field, KEY_MAX);
        return;
    }
    X509_REQ *req = read_stub(der);
    EVP_PKEY *key = req ? X509_REQ_get0_pubkey(req) : NULL;
    const char *why = req ? key_error(key, e->arena, false, &shown) : NULL;
    if (!req)
        invalid(e, field, "must be a valid PKCS#10 CSR");
    else if (why && shown.p)
        kl_field_invalid(e, kl_str(field), shown, why);
    else if (why)
        invalid(e, field, why);
    else if (X509_REQ_verify(req, key) != 1)
        invalid(e, field, "invalid signature");
    X509_REQ_free(req);
    ERR_clear_error();
}

// The signature of the pod's UID: Ed25519 of it, ECDSA and RSA-PSS of its SHA-256.
static bool proves(EVP_PKEY *key, struct kl_str uid, struct kl_str proof)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *p = NULL;
    int type = EVP_PKEY_get_base_id(key);
    const EVP_MD *md = type == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
    bool good = ctx && EVP_DigestVerifyInit(ctx, &p, md, NULL, key) == 1;
    if (good && type == EVP_PKEY_RSA)
        good = EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_AUTO) == 1;
    good = good && EVP_DigestVerify(ctx, (const unsigned char *)proof.p, proof.n,
                                    (const unsigned char *)uid.p, uid.n) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

static void check_key(const struct kl_value *spec, struct kl_field_errors *e)
{
    static const char field[] = "spec.pkixPublicKey", proof_field[] = "spec.proofOfPossession";
    struct kl_str der = kl_text(kl_get(spec, KL_F_pkixPublicKey)), shown;
    struct kl_str proof = kl_text(kl_get(spec, KL_F_proofOfPossession));
    if (der.n > KEY_MAX || proof.n > KEY_MAX) {
        too_long(e, der.n > KEY_MAX ? field : proof_field, KEY_MAX);
        return;
    }
    EVP_PKEY *key = read_key(der);
    const char *why =
        key ? key_error(key, e->arena, true, &shown) : "must be a valid PKIX-serialized public key";
    if (why && key && shown.p) {
        kl_field_invalid(e, kl_str(field), shown, why);
    } else if (why) {
        unsigned char *text = kl_arena_alloc(e->arena, der.n * 4 / 3 + 4);
        int n = text ? EVP_EncodeBlock(text, (const unsigned char *)der.p, (int)der.n) : 0;
        kl_field_invalid(e, kl_str(field), (struct kl_str){n ? (char *)text : "", (size_t)n}, why);
    } else if (!proves(key, kl_text(kl_get(spec, KL_F_podUID)), proof)) {
        invalid(e, proof_field, "could not verify proof-of-possession signature");
    }
    EVP_PKEY_free(key);
}

static void check_request(const struct kl_value *spec, struct kl_field_errors *e)
{
    struct kl_str stub = kl_text(kl_get(spec, KL_F_stubPKCS10Request));
    bool key = kl_text(kl_get(spec, KL_F_pkixPublicKey)).n != 0;
    bool proof = kl_text(kl_get(spec, KL_F_proofOfPossession)).n != 0;
    if (!kl_get(spec, KL_F_maxExpirationSeconds))
        return; // upstream looks no further
    if (stub.n && !key && !proof)
        check_stub(stub, e);
    else if (!stub.n && key && proof)
        check_key(spec, e);
}

// ---- what was issued

static int64_t time_us(const ASN1_TIME *t)
{
    struct tm tm;
    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : INT64_MIN;
}

// time.Duration, of which 292 years are the most.
static long long duration_ns(int64_t us)
{
    int64_t ns;
    return !__builtin_mul_overflow(us, 1000, &ns) ? ns : us < 0 ? INT64_MIN : INT64_MAX;
}

static const char chain_field[] = "status.certificateChain";

static void check_names(X509 *leaf, struct kl_field_errors *e)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_DNS && g->type != GEN_EMAIL)
            continue;
        struct kl_str s = {(const char *)ASN1_STRING_get0_data(g->d.ia5),
                           (size_t)ASN1_STRING_length(g->d.ia5)};
        if (g->type == GEN_EMAIL) {
            if (!kl_name_is_mail(s))
                kl_field_invalid(e, kl_str(chain_field), s,
                                 "leaf certificate should not contain invalid EmailAddress");
            continue;
        }
        if (!s.n)
            kl_field_invalid(e, kl_str(chain_field), s,
                             "leaf certificate should not contain empty DNSName");
        if (s.n && memmem(s.p, s.n, "..", 2))
            kl_field_invalid(e, kl_str(chain_field), s,
                             "leaf certificate's DNSName should not contain '..'");
        if (s.n && (s.p[0] == '.' || s.p[s.n - 1] == '.'))
            kl_field_invalid(e, kl_str(chain_field), s,
                             "leaf certificate's DNSName should not start or end with '.'");
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

// Whether it is for the key that was asked for; false, and said, when that cannot be read any more.
static bool check_owner(X509 *leaf, const struct kl_value *spec, struct kl_str chain,
                        struct kl_field_errors *e)
{
    struct kl_str stub = kl_text(kl_get(spec, KL_F_stubPKCS10Request));
    X509_REQ *req = stub.n ? read_stub(stub) : NULL;
    EVP_PKEY *key = stub.n ? (req ? X509_REQ_get_pubkey(req) : NULL)
                           : read_key(kl_text(kl_get(spec, KL_F_pkixPublicKey)));
    size_t before = e->n;
    if (stub.n && !req)
        invalid(e, "spec.stubPKCS10Request", "must be a valid PKCS#10 CSR");
    else if (!stub.n && !key)
        invalid(e, "spec.pkixPublicKey", "must be a valid PKIX-serialized public key");
    else if (!key || EVP_PKEY_eq(key, X509_get0_pubkey(leaf)) != 1)
        kl_field_invalid(e, kl_str(chain_field), chain,
                         "leaf certificate was not issued to the requested public key");
    EVP_PKEY_free(key);
    X509_REQ_free(req);
    ERR_clear_error();
    return e->n == before;
}

static void bad_time(struct kl_field_errors *e, const char *field, const struct kl_value *t,
                     const char *why)
{
    char text[KL_TIME_TEXT];
    size_t n = kl_time_text(kl_int_or(t, 0), text);
    kl_field_error(e, "FieldValueInvalid", kl_str(field), "Invalid value: \"%.*s\": %s", (int)n,
                   text, why);
}

// Each as the one before holds.
static void check_times(X509 *leaf, const struct kl_value *now, int64_t now_us,
                        struct kl_field_errors *e)
{
    static const char *const wanted[][2] = {
        {"status.notBefore", "must be present and consistent with the issued certificate"},
        {"status.notAfter", "must be present and consistent with the issued certificate"},
        {"status.beginRefreshAt",
         "must be present and in the range [notbefore+10min, notafter-10min]"}};
    static const kl_sym fields[] = {KL_F_notBefore, KL_F_notAfter, KL_F_beginRefreshAt};
    const struct kl_value *status = kl_get(now, KL_F_status), *t[3];
    int64_t max_us = kl_int_at(now, 0, KL_F_spec, KL_F_maxExpirationSeconds) * 1000000;
    size_t before = e->n;
    for (size_t i = 0; i < KL_COUNT(fields); i++)
        if (!(t[i] = kl_get(status, fields[i])))
            kl_field_required(e, kl_str(wanted[i][0]), wanted[i][1]);
    if (e->n > before)
        return;
    int64_t from = time_us(X509_get0_notBefore(leaf)), to = time_us(X509_get0_notAfter(leaf));
    int64_t refresh = kl_int_or(t[2], 0);
    if (kl_int_or(t[0], 0) != from)
        bad_time(e, wanted[0][0], t[0],
                 "must be set to the NotBefore time encoded in the leaf certificate");
    else if (from <= now_us - NEAR_US || from >= now_us + NEAR_US)
        bad_time(e, wanted[0][0], t[0],
                 "must be set to within 5 minutes of kube-apiserver's current time");
    else if (kl_int_or(t[1], 0) != to)
        bad_time(e, wanted[1][0], t[1],
                 "must be set to the NotAfter time encoded in the leaf certificate");
    else if (to - from < HOUR_US)
        kl_field_error(e, "FieldValueInvalid", kl_str(chain_field),
                       "Invalid value: %lld: leaf certificate lifetime must be >= 1 hour",
                       duration_ns(to - from));
    else if (to - from > max_us)
        kl_field_error(e, "FieldValueInvalid", kl_str(chain_field),
                       "Invalid value: %lld: leaf certificate lifetime must be <= "
                       "spec.maxExpirationSeconds (%lld)",
                       duration_ns(to - from), (long long)(max_us / 1000000));
    else if (refresh < from + MARGIN_US)
        bad_time(e, wanted[2][0], t[2], "must be at least 10 minutes after status.notBefore");
    else if (refresh > to - MARGIN_US)
        bad_time(e, wanted[2][0], t[2], "must be at least 10 minutes before status.notAfter");
}

static void check_rest(BIO *in, struct kl_str chain, struct kl_field_errors *e)
{
    struct block b = {0};
    const char *why = NULL;
    while (!why && next_block(in, &b)) {
        if (strcmp(b.name, PEM_STRING_X509) != 0) {
            why = "issued certificate chain must consist entirely of CERTFICATE PEM blocks";
        } else {
            X509 *x = certificate_of(&b);
            why = x ? NULL : "intermediate certificate does not parse as valid X.509";
            X509_free(x);
        }
        free_block(&b);
    }
    if (why)
        kl_field_invalid(e, kl_str(chain_field), chain, why);
}

static void check_issued(const struct kl_value *now, const struct kl_value *old, int64_t now_us,
                         struct kl_field_errors *e)
{
    struct kl_str chain = kl_text_at(now, KL_F_status, KL_F_certificateChain);
    size_t before = e->n;
    if (chain.n > CHAIN_MAX) {
        too_long(e, chain_field, CHAIN_MAX);
        return;
    }
    BIO *in = BIO_new_mem_buf(chain.p, (int)chain.n);
    struct block b = {0};
    X509 *leaf = NULL;
    const char *why = NULL;
    if (!in || !next_block(in, &b))
        why = "issued certificate chain must contain at least one certificate";
    else if (strcmp(b.name, PEM_STRING_X509) != 0)
        why = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
    else if (!(leaf = certificate_of(&b)))
        why = "leaf certificate does not parse as valid X.509";
    free_block(&b);
    if (why)
        kl_field_invalid(e, kl_str(chain_field), chain, why);
    else
        check_names(leaf, e);
    if (!why && check_owner(leaf, kl_get(old, KL_F_spec), chain, e) && e->n == before)
        check_times(leaf, now, now_us, e);
    if (e->n == before)
        check_rest(in, chain, e);
    X509_free(leaf);
    BIO_free(in);
}

void kl_trust_check(const struct kl_resource *storage, struct kl_str sub,
                    const struct kl_value *now, const struct kl_value *old, int64_t now_us,
                    struct kl_field_errors *e)
{
    const struct kl_value *spec = kl_get(now, KL_F_spec);
    if (storage->index == KL_RES_certificates_v1beta1_clustertrustbundles) {
        struct kl_str text = kl_text(kl_get(spec, KL_F_trustBundle));
        if (!old || !kl_str_eq(text, kl_text_at(old, KL_F_spec, KL_F_trustBundle)))
            check_bundle(text, e);
    } else if (storage->index == KL_RES_certificates_v1beta1_podcertificaterequests) {
        if (!old)
            check_request(spec, e);
        else if (kl_str_eqz(sub, "status") && !e->n && kl_has_true_condition(now, "Issued") &&
                 !kl_has_true_condition(old, "Issued"))
            check_issued(now, old, now_us, e);
    }
}

// ---- who may

bool kl_may_for_signer(struct kl_req *r, const char *verb, struct kl_str signer)
{
    struct kl_str why;
    ptrdiff_t slash = kl_str_chr(signer, '/');
    struct kl_str domain = {signer.p, slash < 0 ? signer.n : (size_t)slash};
    struct kl_attrs t = {.user = r->user,
                         .ask = &r->ask,
                         .verb = kl_str(verb),
                         .group = KL_STR("certificates.k8s.io"),
                         .version = KL_STR("*"),
                         .plural = KL_STR("signers"),
                         .name = signer,
                         .is_resource = true};
    if (kl_authorize(r->al, r->arena, &t, &why))
        return true;
    t.name = kl_arena_printf(r->arena, "%.*s/*", KL_PRI(domain));
    return t.name.p && kl_authorize(r->al, r->arena, &t, &why);
}

// Whoever changes the status of a PodCertificateRequest must be allowed to sign for its signer.
static void check_signer(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                         struct kl_field_errors *e)
{
    struct kl_str signer = kl_text_at(old, KL_F_spec, KL_F_signerName);
    if (e->n || kl_value_equal(kl_get(now, KL_F_status), kl_get(old, KL_F_status)) ||
        kl_may_for_signer(r, "sign", signer))
        return;
    kl_field_forbidden(e, KL_STR("spec.signerName"),
                       kl_arena_printf(r->arena,
                                       "User \"%.*s\" is not permitted to \"sign\" for signer "
                                       "\"%.*s\"",
                                       KL_PRI(r->user->name), KL_PRI(signer))
                           .p);
}

void kl_trust_rules(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                    struct kl_field_errors *e)
{
    const struct kl_resource *st = kl_resource_storage(r->info.res);
    kl_trust_check(st, r->info.sub, now, old, kl_wall_ms() * 1000, e);
    if (st->index == KL_RES_certificates_v1beta1_podcertificaterequests &&
        kl_str_eqz(r->info.sub, "status"))
        check_signer(r, now, old, e);
}

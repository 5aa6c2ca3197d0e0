// SPDX-License-Identifier: Apache-2.0
// Tokens: no input is a good token of a key that did not sign it; what a key signs it verifies when
// it is a JSON object; claims that are read are written as claims that read the same. An input of
// lines is a header, claims and a signature, not yet encoded.
#include "fuzz.h"
#include "apiserver/auth/authn_int.h"
#include "apiserver/pki.h"
#include <openssl/pem.h>

static struct kl_authn *make_authn(void)
{
    char pem[4096];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *b = BIO_new(BIO_s_mem());
    struct kl_pki pki = {0};
    struct kl_error err = {0};
    PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL);
    pki.service_key = (struct kl_str){pem, (size_t)BIO_read(b, pem, sizeof pem)};
    BIO_free(b);
    EVP_PKEY_free(key);
    struct kl_authn *n = kl_authn_new(&pki, NULL, &err);
    FUZZ_CHECK(n, "%s", err.msg);
    return n;
}

static void check_claims(struct kl_arena *a, struct kl_str text)
{
    struct kl_value v;
    struct kl_claims c, again;
    struct kl_error err = {0};
    struct kl_buf b;
    if (kl_json_parse(a, text, NULL, &v, &err) || kl_claims_read(a, &v, &c, &err))
        return;
    kl_buf_init(&b, 1 << 24);
    kl_claims_write(&c, &b);
    FUZZ_CHECK(!kl_json_parse(a, kl_buf_str(&b), NULL, &v, &err), "%s", err.msg);
    FUZZ_CHECK(!kl_claims_read(a, &v, &again, &err), "%s in %.*s", err.msg, KL_PRI(kl_buf_str(&b)));
    FUZZ_CHECK(kl_str_eq(c.subject, again.subject) && kl_str_eq(c.account.uid, again.account.uid) &&
                   kl_str_eq(c.pod.name, again.pod.name) && c.expires_s == again.expires_s &&
                   c.naudiences == again.naudiences,
               "%.*s", KL_PRI(kl_buf_str(&b)));
    kl_claims_check_time(&c, 1700000000, &err);
    kl_buf_fini(&b);
}

static void check_parts(const struct kl_authn *n, struct kl_arena *a, struct kl_str rest)
{
    struct kl_str line;
    struct kl_value v;
    struct kl_error err = {0};
    struct kl_buf token;
    kl_buf_init(&token, 1 << 20);
    for (int i = 0; i < 2 && kl_str_split(&rest, '\n', &line); i++) {
        kl_base64url(&token, line.p, line.n);
        kl_buf_putc(&token, '.');
    }
    kl_base64url(&token, rest.p, rest.n);
    FUZZ_CHECK(kl_jwt_verify(n, a, kl_buf_str(&token), &v, &err) == KL_EUNAUTHORIZED && err.msg[0],
               "taken: %.*s", KL_PRI(kl_buf_str(&token)));
    kl_buf_fini(&token);
}

static void check_signed(const struct kl_authn *n, struct kl_arena *a, struct kl_str text)
{
    struct kl_value v;
    struct kl_error err = {0};
    struct kl_buf token;
    bool json = !kl_json_parse(a, text, NULL, &v, &err);
    if (!json && text.n % 16) // a signature costs more than all else
        return;
    kl_buf_init(&token, KL_TOKEN_MAX_BYTES);
    if (!kl_jwt_sign(n, text, &token, &err)) {
        bool object = json && v.kind == KL_MAP;
        int rc = kl_jwt_verify(n, a, kl_buf_str(&token), &v, &err);
        FUZZ_CHECK(rc == (object ? 0 : KL_EUNAUTHORIZED), "%d: %s", rc, err.msg);
    }
    kl_buf_fini(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kl_authn *n; // one key for all inputs
    struct kl_str text = {(const char *)data, size};
    struct kl_arena a;
    struct kl_value v;
    struct kl_error err = {0};
    if (!n)
        n = make_authn();
    kl_arena_init(&a, 64 << 20);
    if (size && memchr(data, '\n', size)) {
        check_parts(n, &a, text);
    } else {
        FUZZ_CHECK(kl_jwt_verify(n, &a, text, &v, &err) == KL_EUNAUTHORIZED, "taken: %.*s",
                   KL_PRI(text));
        check_claims(&a, text);
        check_signed(n, &a, text);
    }
    kl_arena_fini(&a);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Certificate requests that mean one thing to a quick look and another to the signer.
#include "net/csr.h"
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    EVP_PKEY *key;
    X509_REQ *req;
    BIO *out;
};

static void setup(struct fixture *f)
{
    f->key = EVP_EC_gen("P-256");
    f->req = X509_REQ_new();
    f->out = BIO_new(BIO_s_mem());
    assert_non_null(f->key);
    assert_int_equal(X509_REQ_set_pubkey(f->req, f->key), 1);
}

static void teardown(struct fixture *f)
{
    EVP_PKEY_free(f->key);
    X509_REQ_free(f->req);
    BIO_free(f->out);
}

static void add(struct fixture *f, const char *field, int type, const char *text, int n)
{
    X509_NAME *name = X509_REQ_get_subject_name(f->req);
    assert_int_equal(
        X509_NAME_add_entry_by_txt(name, field, type, (const unsigned char *)text, n, -1, 0), 1);
}

static struct kl_str pem(struct fixture *f)
{
    char *p;
    assert_true(X509_REQ_sign(f->req, f->key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509_REQ(f->out, f->req), 1);
    long n = BIO_get_mem_data(f->out, &p);
    return (struct kl_str){p, (size_t)n};
}

static void add_names(struct fixture *f, int n, const char *const *values)
{
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    for (int i = 0; i < n; i++) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, values[i]);
        assert_non_null(e);
        sk_X509_EXTENSION_push(exts, e);
    }
    assert_int_equal(X509_REQ_add_extensions(f->req, exts), 1);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
}

static void refused(struct fixture *f, const char *why)
{
    struct kl_error err = {0};
    struct kl_csr c;
    assert_int_equal(kl_csr_parse(pem(f), &c, &err), KL_EINVALID);
    assert_non_null(strstr(err.msg, why));
    assert_null(c.req);
}

static void test_reads(void **state)
{
    static const char *const names[] = {"DNS:a,DNS:b,IP:10.0.0.1,email:a@b.c,URI:urn:x"};
    struct fixture f;
    struct kl_error err = {0};
    struct kl_csr c;
    setup(&f);
    add(&f, "O", MBSTRING_UTF8, "one", -1);
    add(&f, "CN", MBSTRING_UTF8, "first", -1);
    add(&f, "O", V_ASN1_BMPSTRING, "\0t\0w\0o", 6);
    add(&f, "CN", MBSTRING_UTF8, "last", -1);
    add_names(&f, 1, names);
    assert_int_equal(kl_csr_parse(pem(&f), &c, &err), 0);
    assert_int_equal(kl_csr_verify(&c, &err), 0);
    assert_true(kl_str_eqz(c.cn, "last"));
    assert_int_equal(c.norgs, 2);
    assert_true(kl_str_eqz(c.orgs[0], "one"));
    assert_true(kl_str_eqz(c.orgs[1], "two"));
    assert_int_equal(c.ndns, 2);
    assert_int_equal(c.nip, 1);
    assert_int_equal(c.nemail, 1);
    assert_int_equal(c.nuri, 1);
    kl_csr_fini(&c);
    kl_csr_fini(&c);
    teardown(&f);
}

// What cannot be read hides what comes behind it from nobody.
static void test_unreadable_subject(void **state)
{
    struct fixture f;
    setup(&f);
    add(&f, "CN", MBSTRING_UTF8, "eve", -1);
    add(&f, "O", V_ASN1_BIT_STRING, "\x01\x02", 2);
    add(&f, "O", MBSTRING_UTF8, "system:masters", -1);
    refused(&f, "malformed subject");
    teardown(&f);
    setup(&f);
    add(&f, "CN", V_ASN1_UTF8STRING, "system:node:a\0b", 15);
    refused(&f, "malformed subject");
    teardown(&f);
}

static void test_long_subject(void **state)
{
    static char text[20000];
    struct fixture f;
    struct kl_error err = {0};
    struct kl_csr c;
    memset(text, 'x', sizeof text);
    setup(&f);
    add(&f, "O", V_ASN1_UTF8STRING, text, sizeof text);
    add(&f, "O", MBSTRING_UTF8, "system:masters", -1);
    assert_int_equal(kl_csr_parse(pem(&f), &c, &err), 0);
    assert_int_equal(c.norgs, 2);
    assert_int_equal(c.orgs[0].n, sizeof text);
    assert_true(kl_str_eqz(c.orgs[1], "system:masters"));
    assert_int_equal(c.cn.n, 0);
    kl_csr_fini(&c);
    teardown(&f);
}

static void test_alternative_names(void **state)
{
    static const char *const twice[] = {"DNS:a", "DNS:b"};
    struct fixture f;
    setup(&f);
    add_names(&f, 2, twice);
    refused(&f, "duplicate requested extensions");
    teardown(&f);
    setup(&f);
    ASN1_OCTET_STRING *junk = ASN1_OCTET_STRING_new();
    ASN1_OCTET_STRING_set(junk, (const unsigned char *)"junk", 4);
    X509_EXTENSION *e = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, junk);
    STACK_OF(X509_EXTENSION) *exts = sk_X509_EXTENSION_new_null();
    sk_X509_EXTENSION_push(exts, e);
    assert_int_equal(X509_REQ_add_extensions(f.req, exts), 1);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    ASN1_OCTET_STRING_free(junk);
    refused(&f, "malformed subjectAltName");
    teardown(&f);
    setup(&f); // extensions that are none
    assert_int_equal(X509_REQ_add1_attr_by_NID(f.req, NID_ext_req, V_ASN1_UTF8STRING,
                                               (const unsigned char *)"junk", 4),
                     1);
    refused(&f, "malformed extensions");
    teardown(&f);
}

static void test_other_text(void **state)
{
    static const char *const bad[] = {
        "", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"};
    struct kl_error err = {0};
    struct kl_csr c;
    for (size_t i = 0; i < KL_COUNT(bad); i++)
        assert_int_equal(kl_csr_parse(kl_str(bad[i]), &c, &err), KL_EINVALID);
}

static void test_foreign_signature(void **state)
{
    struct fixture f;
    struct kl_error err = {0};
    struct kl_csr c;
    setup(&f);
    EVP_PKEY *own = f.key, *other = EVP_EC_gen("P-256");
    f.key = other;
    assert_int_equal(kl_csr_parse(pem(&f), &c, &err), 0);
    assert_int_equal(kl_csr_verify(&c, &err), KL_EINVALID);
    kl_csr_fini(&c);
    EVP_PKEY_free(own);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),        cmocka_unit_test(test_unreadable_subject),
        cmocka_unit_test(test_long_subject), cmocka_unit_test(test_alternative_names),
        cmocka_unit_test(test_other_text),   cmocka_unit_test(test_foreign_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

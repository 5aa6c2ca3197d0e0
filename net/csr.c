// SPDX-License-Identifier: Apache-2.0
#include "net/csr.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { TEXT_BYTES = 4 << 20 };

static int malformed(struct kl_error *err, const char *what)
{
    return kl_error_set(err, KL_EINVALID, "x509: malformed %s", what);
}

static int read_block(struct kl_str pem, X509_REQ **ret, struct kl_error *err)
{
    BIO *b = pem.n && pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long n = 0;
    int rc = 0;
    if (!b || PEM_read_bio(b, &name, &header, &der, &n) != 1 || strcmp(name, PEM_STRING_X509_REQ))
        rc = kl_error_set(err, KL_EINVALID, "PEM block type must be CERTIFICATE REQUEST");
    const unsigned char *p = der;
    if (!rc && (!(*ret = d2i_X509_REQ(NULL, &p, n)) || p != der + n))
        rc = malformed(err, "certificate request");
    BIO_free(b);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    return rc;
}

static int take_text(struct kl_csr *c, const X509_NAME_ENTRY *e, struct kl_str *ret,
                     struct kl_error *err)
{
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(e)), rc = 0;
    if (n < 0 || (n && memchr(text, 0, (size_t)n)))
        rc = malformed(err, "subject of the certificate request");
    else if (!(*ret = kl_arena_dup(&c->arena, (struct kl_str){(const char *)text, (size_t)n})).p)
        rc = kl_error_set(err, KL_ENOMEM, "out of memory");
    OPENSSL_free(text);
    return rc;
}

static int take_subject(struct kl_csr *c, struct kl_error *err)
{
    const X509_NAME *name = X509_REQ_get_subject_name(c->req);
    int entries = X509_NAME_entry_count(name), rc = 0;
    c->orgs = kl_arena_alloc(&c->arena, ((size_t)entries + 1) * sizeof *c->orgs);
    if (!c->orgs)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    for (int i = 0; i < entries && !rc; i++) {
        const X509_NAME_ENTRY *e = X509_NAME_get_entry(name, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(e));
        struct kl_str text;
        if ((rc = take_text(c, e, &text, err)))
            break;
        if (nid == NID_commonName)
            c->cn = text;
        else if (nid == NID_organizationName)
            c->orgs[c->norgs++] = text;
    }
    return rc;
}

// X509V3_get_d2i gives nothing for an extension that is there twice, too: only "not found" is none.
static int count_names(struct kl_csr *c, const STACK_OF(X509_EXTENSION) * exts,
                       struct kl_error *err)
{
    int found;
    GENERAL_NAMES *names = X509V3_get_d2i(exts, NID_subject_alt_name, &found, NULL);
    if (!names && found == -2)
        return kl_error_set(err, KL_EINVALID,
                            "x509: certificate request contains duplicate requested extensions");
    if (!names && found != -1)
        return malformed(err, "subjectAltName of the certificate request");
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        int t = sk_GENERAL_NAME_value(names, i)->type;
        c->ndns += t == GEN_DNS;
        c->nip += t == GEN_IPADD;
        c->nemail += t == GEN_EMAIL;
        c->nuri += t == GEN_URI;
    }
    GENERAL_NAMES_free(names);
    return 0;
}

static int take_names(struct kl_csr *c, struct kl_error *err)
{
    STACK_OF(X509_EXTENSION) *exts = X509_REQ_get_extensions(c->req);
    if (!exts)
        return X509_REQ_get_attr_by_NID(c->req, NID_ext_req, -1) < 0 &&
                       X509_REQ_get_attr_by_NID(c->req, NID_ms_ext_req, -1) < 0
                   ? 0
                   : malformed(err, "extensions of the certificate request");
    int rc = count_names(c, exts, err);
    sk_X509_EXTENSION_pop_free(exts, X509_EXTENSION_free);
    return rc;
}

int kl_csr_parse(struct kl_str pem, struct kl_csr *ret, struct kl_error *err)
{
    *ret = (struct kl_csr){.cn = KL_STR("")};
    kl_arena_init(&ret->arena, TEXT_BYTES);
    int rc = read_block(pem, &ret->req, err);
    rc = rc ? rc : take_subject(ret, err);
    rc = rc ? rc : take_names(ret, err);
    ERR_clear_error();
    if (rc)
        kl_csr_fini(ret);
    return rc;
}

int kl_csr_verify(const struct kl_csr *c, struct kl_error *err)
{
    bool ok = X509_REQ_verify(c->req, X509_REQ_get0_pubkey(c->req)) == 1;
    ERR_clear_error();
    return ok ? 0
              : kl_error_set(err, KL_EINVALID,
                             "x509: signature does not fit the request's public key");
}

void kl_csr_fini(struct kl_csr *c)
{
    X509_REQ_free(c->req);
    c->req = NULL;
    kl_arena_fini(&c->arena);
}

// SPDX-License-Identifier: Apache-2.0
// CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest:
// who may approve, sign and attest for which signer, and what nobody may ask for.
#include "apiserver/admission/plugins_int.h"
#include "apiserver/auth/auth.h"
#include <openssl/pem.h>
#include <openssl/x509.h>

enum { NAME_MAX_BYTES = 4096 };

// ---- requests: the first PEM block

static X509_REQ *read_request(struct kl_str pem, const char **why)
{
    BIO *b = pem.n && pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long n = 0;
    X509_REQ *req = NULL;
    *why = "PEM block type must be CERTIFICATE REQUEST";
    if (b && PEM_read_bio(b, &name, &header, &data, &n) == 1 &&
        !strcmp(name, "CERTIFICATE REQUEST")) {
        const unsigned char *p = data;
        req = d2i_X509_REQ(NULL, &p, n);
        if (req && p != data + n) {
            X509_REQ_free(req);
            req = NULL;
        }
        *why = req ? NULL : "x509: malformed certificate request";
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    BIO_free(b);
    return req;
}

// The index-th value of an attribute of the subject, as UTF-8 in the arena; p NULL: there is none.
static struct kl_str subject_part(struct kl_arena *a, X509_REQ *req, int nid, int *index)
{
    struct kl_str out = {NULL, 0};
    X509_NAME *name = X509_REQ_get_subject_name(req);
    *index = X509_NAME_get_index_by_NID(name, nid, *index);
    if (*index < 0)
        return out;
    ASN1_STRING *s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, *index));
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, s);
    if (n >= 0 && n <= NAME_MAX_BYTES)
        out = kl_arena_dup(a, (struct kl_str){(const char *)text, (size_t)n});
    OPENSSL_free(text);
    return out;
}

const char *kl_csr_common_name(struct kl_arena *a, struct kl_str pem, struct kl_str *ret)
{
    const char *why;
    X509_REQ *req = read_request(pem, &why);
    int at = -1;
    *ret = KL_STR("");
    if (!req)
        return why;
    // Go keeps the last one.
    for (struct kl_str s; (s = subject_part(a, req, NID_commonName, &at)).p;)
        *ret = s;
    X509_REQ_free(req);
    return NULL;
}

int kl_certificate_subject_validate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_certificates_v1_certificatesigningrequests) ||
        !kl_str_eqz(kl_text_at(ad->object, KL_F_spec, KL_F_signerName),
                    "kubernetes.io/kube-apiserver-client"))
        return 0;
    const char *why;
    X509_REQ *req = read_request(kl_text_at(ad->object, KL_F_spec, KL_F_request), &why);
    if (!req)
        return kl_admit_forbid(ad, "failed to parse CSR: %s", why);
    bool masters = false;
    int at = -1;
    for (struct kl_str s; (s = subject_part(ad->r->arena, req, NID_organizationName, &at)).p;)
        masters |= kl_str_eqz(s, "system:masters");
    X509_REQ_free(req);
    if (masters)
        return kl_admit_forbid(ad, "use of kubernetes.io/kube-apiserver-client signer with "
                                   "system:masters group is not allowed");
    return 0;
}

// ---- signers

// IsAuthorizedForSignerName: for the signer, or for its domain.
static bool may(struct kl_admit *ad, const char *verb, struct kl_str signer)
{
    struct kl_req *r = ad->r;
    struct kl_str why;
    ptrdiff_t slash = kl_str_chr(signer, '/');
    struct kl_str domain = {signer.p, slash < 0 ? signer.n : (size_t)slash};
    struct kl_attrs t = {.user = r->user,
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

int kl_certificate_approval_validate(struct kl_admit *ad)
{
    if (!kl_admit_of(ad, KL_RES_certificates_v1_certificatesigningrequests) ||
        !kl_admit_sub(ad, "approval"))
        return 0;
    struct kl_str signer = kl_text_at(ad->old, KL_F_spec, KL_F_signerName);
    if (may(ad, "approve", signer))
        return 0;
    return kl_admit_forbid(ad, "user not permitted to approve requests with signerName \"%.*s\"",
                           KL_PRI(signer));
}

int kl_certificate_signing_validate(struct kl_admit *ad)
{
    if (!kl_admit_of(ad, KL_RES_certificates_v1_certificatesigningrequests) ||
        !kl_admit_sub(ad, "status"))
        return 0;
    const struct kl_value *now = kl_get(ad->object, KL_F_status),
                          *old = kl_get(ad->old, KL_F_status);
    if (kl_value_equal(kl_get(now, KL_F_certificate), kl_get(old, KL_F_certificate)) &&
        kl_value_equal(kl_get(now, KL_F_conditions), kl_get(old, KL_F_conditions)))
        return 0;
    struct kl_str signer = kl_text_at(ad->old, KL_F_spec, KL_F_signerName);
    if (may(ad, "sign", signer))
        return 0;
    return kl_admit_forbid(ad, "user not permitted to sign requests with signerName \"%.*s\"",
                           KL_PRI(signer));
}

int kl_trust_bundle_validate(struct kl_admit *ad)
{
    if (strcmp(ad->res->group, "certificates.k8s.io") != 0 ||
        strcmp(ad->res->plural, "clustertrustbundles") != 0)
        return 0;
    struct kl_str signer = kl_text_at(ad->object, KL_F_spec, KL_F_signerName);
    if (!signer.n ||
        (ad->old && kl_value_equal(kl_get(ad->object, KL_F_spec), kl_get(ad->old, KL_F_spec))))
        return 0;
    if (may(ad, "attest", signer))
        return 0;
    return kl_admit_forbid(ad, "user not permitted to attest for signerName \"%.*s\"",
                           KL_PRI(signer));
}

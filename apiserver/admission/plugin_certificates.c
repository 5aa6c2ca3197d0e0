// SPDX-License-Identifier: Apache-2.0
// CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest:
// who may approve, sign and attest for which signer, and what nobody may ask for.
#include "apiserver/admission/plugins_int.h"
#include "apiserver/auth/trust.h"
#include "net/csr.h"

int kl_certificate_subject_validate(struct kl_admit *ad)
{
    if (!kl_admit_is(ad, KL_RES_certificates_v1_certificatesigningrequests) ||
        !kl_str_eqz(kl_text_at(ad->object, KL_F_spec, KL_F_signerName),
                    "kubernetes.io/kube-apiserver-client"))
        return 0;
    struct kl_error err = {0};
    struct kl_csr csr;
    if (kl_csr_parse(kl_text_at(ad->object, KL_F_spec, KL_F_request), &csr, &err))
        return kl_admit_forbid(ad, "failed to parse CSR: %s", err.msg);
    bool masters = false;
    for (size_t i = 0; i < csr.norgs; i++)
        masters |= kl_str_eqz(csr.orgs[i], "system:masters");
    kl_csr_fini(&csr);
    if (masters)
        return kl_admit_forbid(ad, "use of kubernetes.io/kube-apiserver-client signer with "
                                   "system:masters group is not allowed");
    return 0;
}

// ---- signers

int kl_certificate_approval_validate(struct kl_admit *ad)
{
    if (!kl_admit_of(ad, KL_RES_certificates_v1_certificatesigningrequests) ||
        !kl_admit_sub(ad, "approval"))
        return 0;
    struct kl_str signer = kl_text_at(ad->old, KL_F_spec, KL_F_signerName);
    if (kl_may_for_signer(ad->r, "approve", signer))
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
    if (kl_may_for_signer(ad->r, "sign", signer))
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
    if (kl_may_for_signer(ad->r, "attest", signer))
        return 0;
    return kl_admit_forbid(ad, "user not permitted to attest for signerName \"%.*s\"",
                           KL_PRI(signer));
}

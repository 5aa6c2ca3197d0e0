// SPDX-License-Identifier: Apache-2.0
// Certificate signing requests: what each signer of kubernetes.io takes, and the certificate that
// comes of it (upstream: pkg/apis/certificates, pkg/controller/certificates).
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include "controllers/controllers.h"
#include "net/csr.h"
#include "object/value.h"

enum kl_csr_signer {
    KL_CSR_CLIENT,         // kubernetes.io/kube-apiserver-client
    KL_CSR_KUBELET_CLIENT, // kubernetes.io/kube-apiserver-client-kubelet
    KL_CSR_KUBELET_SERVING,
    KL_CSR_OTHERS // not ours to sign
};
enum kl_csr_signer kl_csr_signer_of(struct kl_str name);

// Whether the signer takes it with these usages. KL_EINVALID in upstream's words.
int kl_csr_check(enum kl_csr_signer s, const struct kl_csr *c, const struct kl_value *usages,
                 struct kl_error *err);

struct kl_ca;
// Parses; KL_EINVALID. The key is never logged.
int kl_ca_new(struct kl_str cert_pem, struct kl_str key_pem, struct kl_ca **ret,
              struct kl_error *err);
void kl_ca_free(struct kl_ca *ca); // accepts NULL
// A certificate as PEM in the arena: the request's subject and alternative names, these usages, not
// a CA; from five minutes ago for ttl_s, never longer than the CA lives.
int kl_ca_sign(const struct kl_ca *ca, const struct kl_csr *c, const struct kl_value *usages,
               int64_t now_s, int64_t ttl_s, struct kl_arena *a, struct kl_str *ret,
               struct kl_error *err);
// notAfter of the first certificate of a PEM text, in seconds; 0: there is none.
int64_t kl_certificate_expires_s(struct kl_str pem);

// SPDX-License-Identifier: Apache-2.0
// PKCS #10 certificate requests, read once for all who look at one: what the registry takes, what
// admission refuses and what the signers sign (upstream's certificates.ParseCSR).
#pragma once
#include "base/arena.h"
#include "base/err.h"
#include <openssl/x509.h>

// Nothing in it is unread: a request whose subject or alternative names cannot be understood in
// full is refused, for the certificate would carry what nobody has looked at.
struct kl_csr {
    X509_REQ *req;
    struct kl_str cn;    // the last one, as Go has it; empty: none
    struct kl_str *orgs; // in their order
    size_t norgs;
    size_t ndns, nip, nemail, nuri; // of the subjectAltName
    struct kl_arena arena;          // of the texts
};
// The first PEM block. KL_EINVALID in upstream's words, KL_ENOMEM; *ret needs no kl_csr_fini then.
int kl_csr_parse(struct kl_str pem, struct kl_csr *ret, struct kl_error *err);
// Whether the request is signed with its own key. KL_EINVALID.
int kl_csr_verify(const struct kl_csr *c, struct kl_error *err);
void kl_csr_fini(struct kl_csr *c); // harmless when done before

// SPDX-License-Identifier: Apache-2.0
// What the registry does to CertificateSigningRequests (kubernetes
// pkg/registry/certificates/certificates); their rules are object/validate's.
#pragma once
#include "apiserver/request.h"

// Rows of strategy.c: negative with r->fail set.
int kl_csr_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_csr_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);
// kl_findings.bad_pem.
const char *kl_csr_bad_pem(struct kl_arena *a, bool request, struct kl_str pem);

// SPDX-License-Identifier: Apache-2.0
// What the registry does to CertificateSigningRequests (kubernetes
// pkg/registry/certificates/certificates, pkg/apis/certificates/validation).
#pragma once
#include "apiserver/request.h"

// Rows of strategy.c: negative with r->fail set.
int kl_csr_prepare_create(struct kl_req *r, struct kl_value *draft);
int kl_csr_prepare_update(struct kl_req *r, struct kl_value *draft, const struct kl_value *old);

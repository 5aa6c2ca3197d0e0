// SPDX-License-Identifier: Apache-2.0
// What takes a library for certificates in the rules of ClusterTrustBundles and
// PodCertificateRequests (kubernetes pkg/apis/certificates/validation); the rest of them is
// object/validate's. Pure but for may_for_signer: any loop.
#pragma once
#include "apiserver/request.h"
#include "object/resource.h"

// Adds what is wrong to e, behind what object/validate said. `storage` may be any kind. Both sides
// canonical, old NULL on create; now_us: the time that a new certificate must be near to.
void kl_trust_check(const struct kl_resource *storage, struct kl_str sub,
                    const struct kl_value *now, const struct kl_value *old, int64_t now_us,
                    struct kl_field_errors *e);
// IsAuthorizedForSignerName: "sign", "approve", "attest" for the signer, or for all of its domain.
bool kl_may_for_signer(struct kl_req *r, const char *verb, struct kl_str signer);
// check_more of both kinds in strategy.c: the above, and that whoever changes the status of a
// PodCertificateRequest may sign for its signer.
void kl_trust_rules(struct kl_req *r, const struct kl_value *now, const struct kl_value *old,
                    struct kl_field_errors *e);

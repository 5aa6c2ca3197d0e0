// SPDX-License-Identifier: Apache-2.0
// Which credentials of a pod's imagePullSecrets are for an image (pkg/credentialprovider). Pure.
#pragma once
#include "kubelet/cri_gen.h"
#include "object/value.h"

// Appends what one Secret (of type dockerconfigjson or dockercfg) has for the image; at most `max`
// are kept. Memory is the arena's. What cannot be read is passed over.
void kl_pull_auths(struct kl_arena *a, const struct kl_value *secret, struct kl_str image,
                   struct kl_cri_auth_config *list, size_t *n, size_t max);

// SPDX-License-Identifier: Apache-2.0
// An OpenAPI version 3 document made from a version 2 document, for aggregated servers that know no
// other: kube-openapi's openapiconv.ConvertV2ToV3, which reads the document by its types (what they
// do not know is gone, but for unknown members of schemas) and keeps all of its paths. Immutable
// and counted, for all loops.
#pragma once
#include "apiserver/aggregate/document.h"

enum kl_upgraded_part {
    KL_UPGRADED_PATHS,
    KL_UPGRADED_SCHEMAS,
    KL_UPGRADED_SECURITY, // components' securitySchemes
    KL_UPGRADED_RESPONSES,
    KL_UPGRADED_NPARTS
};

struct kl_upgraded {
    atomic_uint refs;
    struct kl_bytes *head;                       // members "openapi", "info", "externalDocs"
    struct kl_bytes *packed[KL_UPGRADED_NPARTS]; // NULL: not in the document
    struct kl_bytes *hash;                       // of the document; as in its ETag
    size_t bytes;                                // that all this takes
};

// Any thread. KL_EINVALID: it is no such document, nested too deep or too large.
int kl_upgraded_new(struct kl_str json, struct kl_upgraded **ret, struct kl_error *err);
struct kl_upgraded *kl_upgraded_ref(struct kl_upgraded *u); // NULL in, NULL out
void kl_upgraded_unref(struct kl_upgraded *u);              // accepts NULL

// SPDX-License-Identifier: Apache-2.0
// Validation of built-in kinds as upstream does it (kubernetes 1.36 pkg/apis/*/validation and the
// registries' strategies): what is wrong with an object, with upstream's field paths and wording,
// all of it at once and in upstream's order.
//
// Objects are in their storage version, defaulted. Nothing is allocated for a valid object; what is
// found lives in the arena. Pure: any loop.
#pragma once
#include "object/gates.h"
#include "object/resource.h"
#include "object/value.h"

struct kl_field_finding {
    const char *reason;           // "FieldValueRequired", ...
    struct kl_str field, message; // "spec.ports[0].name", "Required value"
};

enum { KL_FINDINGS_MAX = 2048 }; // further ones are dropped: the request is refused anyway

struct kl_findings {
    struct kl_arena *arena;
    struct kl_field_finding *list;
    size_t n, cap;
    // Certificates take a library that this folder does not know: why a certificate request (PEM
    // of that type), or a chain of certificates, is no good, in the arena; NULL: it is good.
    // NULL: nobody looks.
    const char *(*bad_pem)(struct kl_arena *a, bool request, struct kl_str pem);
    const struct kl_gate_set *gates; // of the server; NULL: all are on
};

// Whether this kind's rules are here. What the functions below do for others: metadata only.
bool kl_validate_knows(const struct kl_resource *storage);

// rest.BeforeCreate: the kind's rules, then, when they hold, metadata.
void kl_validate_create(struct kl_findings *f, const struct kl_resource *storage,
                        const struct kl_value *now);
// rest.BeforeUpdate with the strategy of the subresource ("": the object itself). A subresource
// without rules of its own has its metadata checked.
void kl_validate_update(struct kl_findings *f, const struct kl_resource *storage,
                        struct kl_str subresource, const struct kl_value *now,
                        const struct kl_value *old);

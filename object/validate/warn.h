// SPDX-License-Identifier: Apache-2.0
// What is not wrong with an object of a built-in kind and still worth a word: the warnings of
// upstream's strategies (WarningsOnCreate, WarningsOnUpdate; kubernetes 1.36 pkg/registry and
// pkg/api), with its paths and wording, in its order.
//
// Objects are valid, canonical, in their storage version, as the registry has made them ready.
// Nothing is allocated for an object that nothing is said of; texts live in the arena. Pure: any
// loop.
#pragma once
#include "object/gates.h"
#include "object/resource.h"
#include "object/value.h"

// Further ones are dropped: the texts of so many are longer than all headers of an answer may be.
enum { KL_WARNINGS_MAX = 128 };

struct kl_warnings {
    struct kl_arena *arena;
    struct kl_str *list; // may say the same twice
    size_t n, cap;
    const struct kl_gate_set *gates; // of the server; NULL: all are on
    // Certificates take a library that this folder does not know: why a certificate and a key do
    // not belong together (crypto/tls.X509KeyPair), in the arena; NULL: they do. NULL: nobody
    // looks.
    const char *(*bad_pair)(struct kl_arena *a, struct kl_str cert, struct kl_str key);
};

// Whether this kind may be warned of at all.
bool kl_warn_knows(const struct kl_resource *storage);

void kl_warn_create(struct kl_warnings *w, const struct kl_resource *storage,
                    const struct kl_value *now);
// subresource: the one whose strategy it is, "": the object itself. bumped: metadata.generation is
// not what it was (`now` need not show it yet).
void kl_warn_update(struct kl_warnings *w, const struct kl_resource *storage,
                    struct kl_str subresource, const struct kl_value *now,
                    const struct kl_value *old, bool bumped);

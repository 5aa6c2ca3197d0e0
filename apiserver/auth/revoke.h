// SPDX-License-Identifier: Apache-2.0
// Credentials that are good no more: client certificates by serial number, and everything that a
// user had when they were revoked (certificates, service account tokens and other tokens that say
// when they were made; those that do not say it, for good). Kept as keys of the datastore, so that
// every server knows at once: serial/SECONDS/HEX and user/SECONDS/NAME, with the time of the
// revocation; the values say nothing. `kinglet certificate revoke` writes them (cli/revoke.c).
#pragma once
#include "apiserver/auth/user.h"

#define KL_REVOKED_PREFIX "/kinglet/revoked/"
enum { KL_REVOKED_NAME_MAX = 512 };

// The name under which a revocation counts: serial numbers are compared without leading zeros.
static inline struct kl_str kl_revoked_name(struct kl_str kind, struct kl_str name)
{
    while (kl_str_eqz(kind, "serial") && name.n && *name.p == '0')
        name = kl_str_from(name, 1);
    return name;
}

struct kl_api_loop;

// Whether the user's credential (of who impersonates, when somebody does) is among them, by the
// loop's newest view. One comparison as long as nothing is.
bool kl_revoked(struct kl_api_loop *al, const struct kl_user *u);

// What outlives its request's answer, in a list of its loop: ended when its user is revoked.
struct kl_revocable {
    struct kl_user *user;                // referenced while it is in the list
    void (*end)(struct kl_revocable *r); // takes it out of the list, now or later
    struct kl_revocable *next, **pprev;
};
void kl_revocable_add(struct kl_api_loop *al, struct kl_revocable *r, struct kl_user *u,
                      void (*end)(struct kl_revocable *r));
void kl_revocable_remove(struct kl_revocable *r); // once or more

void kl_revoke_loop_fini(struct kl_api_loop *al);

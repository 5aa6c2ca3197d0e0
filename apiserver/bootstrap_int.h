// SPDX-License-Identifier: Apache-2.0
// The objects that every cluster has, and how they are kept.
#pragma once
#include "apiserver/auth/authz_int.h"
#include "apiserver/bootstrap.h"

// What is done when the object is there already.
enum kl_boot_mode {
    KL_BOOT_CREATE,  // nothing
    KL_BOOT_ROLE,    // missing rules, labels and annotations are added, unless autoupdate is false
    KL_BOOT_BINDING, // likewise missing subjects; another roleRef makes it anew
    KL_BOOT_SPEC,    // its spec is put back, unless its annotation says that it is the user's
    KL_BOOT_LOCAL,   // an APIService: its spec is put back
    KL_BOOT_SERVICE, // its ports are put back, but for the node port
    KL_BOOT_DATA,    // all but metadata is put back
};

struct kl_bootstrap_row {
    uint16_t res;
    uint8_t mode;
    const char *json;
};
extern const struct kl_bootstrap_row kl_bootstrap_rows[];
extern const size_t kl_bootstrap_nrows;

// Changes the draft of a stored object to what it should be. `want` is canonical. 1: changed, 0: as
// it should be, KL_ENOMEM. *ret_anew: it must be made anew out of `want`.
int kl_bootstrap_merge(struct kl_arena *a, enum kl_boot_mode mode, struct kl_value *draft,
                       const struct kl_value *want, bool *ret_anew);

// The rows that flags decide on, in the arena: the kubernetes Service and its endpoints, the range
// of Service addresses, the client CA. At most KL_BOOT_MAX_OWN.
#define KL_BOOT_MAX_OWN 8
size_t kl_bootstrap_own_rows(struct kl_apiserver *s, struct kl_arena *a,
                             struct kl_bootstrap_row ret[KL_BOOT_MAX_OWN]);
// Of these only the endpoints.
size_t kl_bootstrap_endpoint_rows(struct kl_apiserver *s, struct kl_arena *a,
                                  struct kl_bootstrap_row ret[KL_BOOT_MAX_OWN]);
// The first address of a range, "10.43.0.1" of "10.43.0.0/16". False when it is no range.
bool kl_first_address(const char *cidr, char ret[64], bool *ret_v6);

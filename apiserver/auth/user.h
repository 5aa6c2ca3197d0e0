// SPDX-License-Identifier: Apache-2.0
// Who asks: upstream's user.Info.
#pragma once
#include "base/str.h"
#include <stdatomic.h>

enum { KL_USER_SERIAL_MAX = 40 }; // RFC 5280: 20 octets

struct kl_user_extra {
    struct kl_str key;
    const struct kl_str *values;
    size_t nvalues;
};

// Immutable once shared; one block, freed by the last unref.
struct kl_user {
    atomic_uint refs;
    struct kl_str name, uid;
    const struct kl_str *groups;
    size_t ngroups;
    const struct kl_user_extra *extra;
    size_t nextra;
    bool masters; // in group system:masters: every authorisation answer is yes
    bool anonymous;
    // What kl_revoked looks at, and the audit log. Set before it is shared.
    struct kl_user *by;     // who impersonates this user (referenced); NULL: nobody
    const char *constraint; // "impersonate:user-info": the mode that allowed it; NULL: the old one
    int64_t issued_s;       // when the credential was made, 0: it does not say
    // Of the client certificate, lower-case hex without leading zeros; "": another credential, or
    // longer than it may be.
    char serial[KL_USER_SERIAL_MAX + 1];
};

// Copies everything into one block. system:authenticated is added unless the user is
// system:anonymous (system:unauthenticated then) or already has it. NULL when out of memory.
struct kl_user *kl_user_new(struct kl_str name, struct kl_str uid, const struct kl_str *groups,
                            size_t ngroups, const struct kl_user_extra *extra, size_t nextra);
struct kl_user *kl_user_ref(struct kl_user *u);
void kl_user_unref(struct kl_user *u);
bool kl_user_in_group(const struct kl_user *u, struct kl_str group);

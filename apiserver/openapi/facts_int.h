// SPDX-License-Identifier: Apache-2.0
// Generated facts of types, sorted by name.
#pragma once
#include <stddef.h>

struct kl_oa_fact {
    const char *name;
    const char *gvks, *unions; // JSON arrays or NULL
    int every_group;           // registered in all groups: gvks holds the core group's
};
extern const struct kl_oa_fact kl_oa_facts[];
extern const unsigned kl_oa_nfacts;

// Fields that are maps by name where their type says that they are of one piece; ends with NULL.
struct kl_oa_granular {
    const char *type, *field;
};
extern const struct kl_oa_granular kl_oa_granular[];

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

// The words, deflated: JSON texts one after the other, each with a NUL behind it. Which is whose:
// kl_oa_text_first[index in kl_types] is the place in kl_oa_text_ids of the type's own, the fields'
// follow; an id is a text's number and one, 0: none.
extern const unsigned char kl_oa_texts_packed[];
extern const unsigned kl_oa_texts_npacked, kl_oa_texts_nbytes, kl_oa_ntexts;
extern const unsigned short kl_oa_text_first[], kl_oa_text_ids[];

// SPDX-License-Identifier: Apache-2.0
// Which items of a list say what an earlier one says, for lists that may be as long as an object.
#pragma once
#include "object/validate/validate_int.h"

#define KL_V_NONE UINT32_MAX

// For each item the place of the last one before it that has the same in all these fields (texts
// and numbers), or KL_V_NONE; in the arena. NULL: no memory, which is a finding.
const uint32_t *kl_v_earlier(struct kl_v *c, const struct kl_value *list, const kl_sym *fields,
                             size_t nfields);

// A list of texts in their order, to look up others in it.
struct kl_v_texts {
    struct kl_str *v;
    size_t n;
};
bool kl_v_texts_init(struct kl_v *c, struct kl_v_texts *t, const struct kl_value *list);
bool kl_v_texts_has(const struct kl_v_texts *t, struct kl_str s);

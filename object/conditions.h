// SPDX-License-Identifier: Apache-2.0
// status.conditions of objects that nobody has validated yet.
#pragma once
#include "object/value.h"

// Whether any condition of the type is True: a type may stand there more than once.
static inline bool kl_has_true_condition(const struct kl_value *root, const char *type)
{
    for (KL_EACH(x, kl_path(root, KL_F_status, KL_F_conditions)))
        if (kl_str_eqz(kl_text(kl_get(x, KL_F_type)), type) &&
            kl_str_eqz(kl_text(kl_get(x, KL_F_status)), "True"))
            return true;
    return false;
}

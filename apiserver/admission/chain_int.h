// SPDX-License-Identifier: Apache-2.0
// The table of plug-ins, and what runs between its two halves.
#pragma once
#include "apiserver/admission/admission.h"

struct kl_plugin {
    const char *name;
    int (*mutate)(struct kl_admit *ad);
    int (*validate)(struct kl_admit *ad);
    unsigned operations; // enum kl_admit_op
    bool default_on;
    bool last; // behind policies and webhooks
};

extern const struct kl_plugin kl_plugins[];
extern const size_t kl_nplugins;
